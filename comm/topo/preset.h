/*
 * comm/topo/preset.h - machines that can be tried before a job runs on them.
 *
 * A preset writes what the readers read: the fabric as ibnetdiscover prints it (ibsim loads it
 * too), a host as hwloc XML, hosts in rank order, and the log that NCCL would write for such rings.  So
 * a plan takes the same path through the program as a run, and tests have known answers.
 */
#ifndef SFSCALE_COMM_TOPO_PRESET_H
#define SFSCALE_COMM_TOPO_PRESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum preset_mid { MID_PER_GROUP, MID_PER_RAIL, MID_SHARED };

struct topo_preset {
	const char *name, *meaning;
	const char *host;		/* printf format of a host name, one number from 1 */
	size_t hosts_max;
	size_t gpus, rails;		/* per host; channels = rails */
	const char *speed;		/* of every link, 4x */
	size_t hosts_per_group;		/* rack or scalable unit */
	size_t hosts_per_leaf;		/* leaves of a group: (hosts_per_group / hosts_per_leaf) * rails */
	size_t leaf_uplinks;
	enum preset_mid mid;
	size_t mids;			/* per group, per rail, or all */
	size_t mid_uplinks;		/* 0: one per group */
	size_t tops, top_stride;	/* uplink u of mid m goes to top (m % top_stride * mid_uplinks + u) % tops */
	bool nic_on_switch;		/* GPU and HCA share a PCIe switch; else the HCA is on a root port */
	const char *gpu_id, *nvlink_mbps;	/* PCI ids; NVLink of each pair in MB/s as hwloc says it, "" none */
	const char *nccl;		/* version whose log is written */
};
extern const struct topo_preset topo_presets[];
extern const size_t topo_preset_count;
const struct topo_preset *topo_preset_find(const char *name);

enum topo_order_kind { ORDER_CONTIGUOUS, ORDER_SHUFFLED, ORDER_ALTERNATING, ORDER_TWICE, ORDER_KINDS };
extern const char *const topo_order_names[ORDER_KINDS];

/* Hosts in rank order; `order` has room for `hosts`. */
void topo_preset_order(const struct topo_preset *, enum topo_order_kind, size_t hosts, uint64_t seed, uint32_t *order);
/* All groups that the first `hosts` hosts need. */
void topo_preset_fabric(const struct topo_preset *, size_t hosts, FILE *);
void topo_preset_hosts(const struct topo_preset *, const uint32_t *order, size_t hosts, FILE *);
/* `asymmetric`: even channels leave on the next rail's NIC. */
void topo_preset_log(const struct topo_preset *, const uint32_t *order, size_t hosts, bool asymmetric, FILE *);
void topo_preset_hwloc(const struct topo_preset *, uint32_t host, FILE *);

/* All of them into a folder: fabric.ibnetdiscover, hosts.txt, nccl.log, HOST.xml of the first two hosts. */
int topo_preset_write(const struct topo_preset *, enum topo_order_kind, size_t hosts, uint64_t seed, bool asymmetric,
		      const char *folder);

#endif
