/*
 * comm/topo/bounds.h - the rings as flows between hosts, what limits them, and the order of hosts that mends it.
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
#ifndef SFSCALE_COMM_TOPO_BOUNDS_H
#define SFSCALE_COMM_TOPO_BOUNDS_H

#include "comm/topo/model.h"

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
void topo_flows_of(const struct topo_comm *, struct topo_flows *);
void topo_flows_reorder(const struct topo_model *, const struct topo_comm *, const uint32_t *hosts, size_t count,
			struct topo_flows *);
void topo_flows_release(struct topo_flows *);

enum { BOUND_LEVELS = 12 };
struct topo_bound {
	char level[16];		/* "nvlink", "pcie", "socket", "hca", "leaf", "rack", "level 3" */
	uint32_t cut;		/* of topo_fabric_groups(): 1 leaf, 2 rack; 0: no level of the fabric */
	char where[160];	/* the limiting link or group */
	double ideal, fixed, worst;	/* GB/s bus bandwidth; 0 unknown, infinity: not used */
	double capacity;	/* GB/s of that link or group */
	double hops;		/* channel hops on it */
	size_t crossings, crossings_least;	/* of all channels; groups only */
	size_t groups;
	bool estimate;		/* capacity is what NCCL reckons with, which hardware may exceed: no part of the least */
};
struct topo_bounds {
	struct topo_bound at[BOUND_LEVELS];
	size_t count;
	double ideal, fixed, worst;	/* least of all levels; 0 unknown */
	char limit[192];
	bool routed;			/* every flow was found in the forwarding tables */
	bool adaptive;			/* the tables are what would be without adaptive routing */
	char collision[256];		/* with tables: the fullest link and its flows */
	double collision_hops;
};
void topo_bounds_of(const struct topo_model *, const struct topo_comm *, const struct topo_flows *,
		    struct topo_bounds *);
/* What the bus bandwidth is at most: static where forwarding tables decide, else ideal; 0 unknown. */
double topo_bounds_least(const struct topo_bounds *);
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
