/*
 * comm/topo/model.h - one model of all inputs: what they say of hosts, NICs and switches, joined by GUID.
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
	struct topo_rack_rule rack_rule;	/* where no file tells groups; hosts 0: none */
	bool adaptive;		/* switches choose ways themselves: forwarding tables are a fallback */
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

#endif
