/*
 * comm/topo/fabric.h - the InfiniBand network as a graph, or only as groups of hosts.
 *
 * Nodes are switches and channel adapters; a link is one direction of a cable and belongs to the
 * port that sends.  Everything is joined by GUID: HCAs of hwloc by node GUID, then by port GUID,
 * then by system image GUID; never by index or name.
 */
#ifndef SFSCALE_COMM_TOPO_FABRIC_H
#define SFSCALE_COMM_TOPO_FABRIC_H

#include "comm/topo/log.h"

struct topo_link {
	uint32_t node, peer;	/* fabric nodes; peer TOPO_NONE: no cable, or not in the file */
	uint32_t back;		/* the other direction; TOPO_NONE */
	uint16_t port, peer_port;
	float gbps;		/* GB/s, data, one direction; 0 unknown */
	uint8_t width;
	float lane_gbps;	/* GB/s per lane */
	uint64_t peer_guid;	/* until the peers are joined */
	struct topo_at at;
};

struct topo_vertex {
	uint64_t guid, system_guid;
	const char *description;
	const char *host;	/* adapters: first word of the description; "" unknown */
	bool is_switch, aggregation;	/* SHARP's pseudo adapter inside a switch */
	uint32_t first, count;	/* links, once settled */
	uint32_t level;		/* switches: 0 leaf; TOPO_NONE not reached */
	int32_t rail;		/* adapters: order of the HCA within its host */
	struct topo_at at;
};

/* Switches by name in a scheduler's file: groups without links. */
struct topo_group {
	const char *name;
	uint32_t parent;	/* TOPO_NONE */
	struct topo_at at;
};

struct topo_fabric {
	struct topo_names *names;	/* borrowed */
	struct topo_vertex *nodes;
	size_t node_count, node_room;
	struct topo_link *links;
	size_t link_count, link_room;
	struct topo_map by_guid;	/* node GUID -> node */
	struct topo_map by_port_guid, by_lid, by_system;
	struct topo_map lid_of;		/* port GUID of an adapter's first port, or switch GUID -> LID */
	struct topo_group *groups;
	size_t group_count, group_room;
	struct { const char *host; uint32_t group; struct topo_at at; } *members;	/* host in group */
	size_t member_count, member_room;
	bool groups_of_job;	/* the members are the job's hosts, not all that the switches have */
	/* Forwarding: lft[switch's place][lid] = port; 255 unreachable, 0 itself. */
	struct { uint32_t node; uint8_t *ports; size_t lid_count; } *tables;
	size_t table_count, table_room;
	struct topo_map table_of;	/* node -> table */
	uint32_t day;		/* "generated on", 20190311; 0 not said */
	size_t levels, leaves;
	bool settled;
};

/* Reads one file of any known kind; `kind` receives its name.  May be called for several.  FAILED, said with
 * file, line and reason. */
int topo_fabric_read(struct topo_fabric *, const char *source, uint32_t file, const char *text, size_t bytes);
/* ibroute, dump_fts or opensm's dump. */
int topo_routes_read(struct topo_fabric *, const char *source, uint32_t file, const char *text, size_t bytes);
/* After the last file: joins both ends of the cables, sorts links by node. */
void topo_fabric_settle(struct topo_fabric *);
/* Levels by distance from the leaves: switches next to an adapter of `is_job` (per node; NULL: every adapter
 * of a host). */
void topo_fabric_levels(struct topo_fabric *, const bool *is_job);
/* Groups of switches below level `cut`, 1 .. levels - 1, that reach each other without it: 1 gives the leaves,
 * more gives racks.  group[node] is TOPO_NONE for all others.  Returns how many. */
size_t topo_fabric_groups(const struct topo_fabric *, uint32_t cut, uint32_t *group);
/* How many cables each switch is away from switch `from`; 255: not reached. */
void topo_fabric_distances(const struct topo_fabric *, uint32_t from, uint8_t *cables);
void topo_fabric_release(struct topo_fabric *);

/* The adapter's link that has a cable (its first port, or `port`); TOPO_NONE. */
uint32_t topo_fabric_uplink(const struct topo_fabric *, uint32_t adapter, uint16_t port);

/* Does the text look like a routing table? */
bool topo_routes_are(const char *text, size_t bytes);

/* GB/s of one lane by its name ("EDR"); 0 unknown. */
double topo_lane_gbps(struct topo_span name);

/* Racks by the number in a host's name, counted from 1: the text must outlive the rule. */
struct topo_rack_rule {
	struct topo_span before, after;	/* what stands around the number */
	uint64_t hosts;			/* of a rack; 0: no rule */
};
/* "g%d/34".  USAGE, said. */
int topo_rack_rule_parse(struct topo_rack_rule *, const char *text);
/* Puts the host into its rack, or leaves it out when its name is of another form. */
void topo_rack_rule_join(struct topo_fabric *, const struct topo_rack_rule *, const char *host);

/* "n[001-003,7]" into one call per host; false: malformed. */
bool topo_hostlist(struct topo_span list, void (*each)(void *user, const char *host), void *user);

#endif
