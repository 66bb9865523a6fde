/*
 * comm/topo/model.h - one model of all inputs, and what it bounds.
 *
 * A ring all-reduce moves the same bytes over every hop of a channel, so with C channels
 *
 *     busbw <= C * min over links of capacity / channel hops on the link             (F1)
 *     busbw <= C * uplink capacity of a group / channel hops that leave it           (F3, ideal)
 *
 * where a group is a leaf switch, or switches that hang together below a higher level.
 * *Ideal* spreads hops evenly over a group's uplinks, *static* follows real forwarding tables,
 * *worst* puts all of a group's hops on one uplink.  These are upper bounds for rings; trees,
 * NVLS and SHARP use other hops.
 */
#ifndef SFSCALE_COMM_TOPO_MODEL_H
#define SFSCALE_COMM_TOPO_MODEL_H

#include "comm/topo/fabric.h"
#include "comm/topo/node.h"

struct topo_model {
	struct topo_log log;
	struct topo_node *nodes;
	size_t node_count, node_room;
	struct topo_fabric fabric;
	struct topo_graphs graphs;
	bool has_log, has_hwloc, has_nccl_topo, has_fabric, has_groups, has_routes, has_sysfs;
	double nic_gbps;	/* what a NIC carries where no input tells; 0 */
	size_t joined_by_guid, joined_by_name, not_joined;	/* NICs that the rings use, in the fabric */
};

enum topo_input {
	INPUT_AUTO,
	INPUT_LOG,
	INPUT_NCCL_XML,
	INPUT_GRAPH,
	INPUT_HWLOC,
	INPUT_FABRIC,
	INPUT_ROUTES,
	INPUT_HOSTS,
	INPUT_SYSFS,
};

/* Reads one file into the model; INPUT_AUTO goes by content.  FAILED, said. */
int topo_model_read(struct topo_model *, const char *path, enum topo_input);
/* The same from memory. */
int topo_model_take(struct topo_model *, const char *source, const char *text, size_t bytes, enum topo_input);
/* This machine. */
int topo_model_live(struct topo_model *);
/* After the last input: communicators, joins, levels.  A host list (INPUT_HOSTS), read after the fabric, is a
 * planned job of one rank per host and one channel per adapter. */
void topo_model_settle(struct topo_model *);
void topo_model_release(struct topo_model *);

/* The facts of a host of the log: its own file, or the one file given for all; NULL. */
const struct topo_node *topo_model_facts(const struct topo_model *, uint32_t host);
/* The HCA that a NIC is on its node; NULL: no facts. */
const struct topo_hca *topo_model_hca(const struct topo_model *, uint32_t nic);
/* GB/s of a NIC one way, from the fabric, sysfs or NCCL's XML; 0 unknown. */
double topo_model_nic_gbps(const struct topo_model *, uint32_t nic);

/* The switch that a NIC is plugged into; TOPO_NONE. */
uint32_t topo_model_leaf(const struct topo_model *, uint32_t nic);
/* Switches on the way from one NIC to another by the forwarding tables, adding to `hops` of each link unless NULL; 0:
 * the tables do not lead there. */
size_t topo_model_route(const struct topo_model *, uint32_t nic_from, uint32_t nic_to, uint16_t *hops);

/* One hop between hosts of one channel. */
struct topo_flow {
	uint32_t host_from, host_to;
	uint32_t nic_from, nic_to;	/* TOPO_NONE unknown */
	int32_t rank_from, rank_to;	/* -1 in an order that has not run */
	uint16_t channel;
};
struct topo_flows {
	struct topo_flow *at;
	size_t count, room;
	size_t channels;
};
/* The ring hops between hosts; and those of another order of the same hosts, over the same NICs per channel. */
void topo_flows_of(const struct topo_model *, const struct topo_comm *, struct topo_flows *);
void topo_flows_reorder(const struct topo_model *, const struct topo_comm *, const uint32_t *hosts, size_t count,
			struct topo_flows *);
void topo_flows_release(struct topo_flows *);

enum { BOUND_LEVELS = 12 };
struct topo_bound {
	char level[16];		/* "nvlink", "pcie", "hca", "leaf", "rack", "level 3" */
	char where[160];	/* the limiting link or group */
	double ideal, fixed, worst;	/* GB/s bus bandwidth; 0 unknown, infinity: not used */
	double capacity;	/* GB/s of that link or group */
	double hops;		/* channel hops on it */
	size_t crossings, crossings_least;	/* of all channels; groups only */
	size_t groups;
};
struct topo_bounds {
	struct topo_bound at[BOUND_LEVELS];
	size_t count;
	double ideal, fixed, worst;	/* least of all levels; 0 unknown */
	char limit[192];
	bool routed;			/* every flow was found in the forwarding tables */
	char collision[256];		/* with tables: the fullest link and its flows */
	double collision_hops;
};
void topo_bounds_of(const struct topo_model *, const struct topo_comm *, const struct topo_flows *,
		    struct topo_bounds *);
/* The bound of one level; NULL: there is none. */
const struct topo_bound *topo_bound_of(const struct topo_bounds *, const char *level);

/* The communicator's hosts, those that share a group next to each other at every level, from rank 0's on;
 * owned by the caller. */
uint32_t *topo_order_of(const struct topo_model *, const struct topo_comm *, size_t *count);
/* In the order in which ranks name them. */
uint32_t *topo_hosts_of(const struct topo_comm *, size_t *count);

/* Writes hostfile, rankfile, slurm_hostfile and hosts.txt into `folder`. */
int topo_order_write(const struct topo_model *, const struct topo_comm *, const uint32_t *hosts, size_t count,
		     const char *folder);

#endif
