/*
 * comm/topo/node.h - what one node is made of: GPUs, HCAs, and how far they are from each other.
 *
 * Filled from an hwloc XML, this machine, NCCL's own topology XML or gathered sysfs lines;
 * findings see only this struct.
 */
#ifndef SFSCALE_COMM_TOPO_NODE_H
#define SFSCALE_COMM_TOPO_NODE_H

#include "comm/topo/log.h"

/* How far a GPU is from an HCA or another GPU; nearest first. */
enum topo_class {
	CLASS_LOC,	/* one card */
	CLASS_PIX,	/* one PCIe switch */
	CLASS_PXB,	/* several PCIe switches, no host bridge */
	CLASS_PHB,	/* one host bridge */
	CLASS_NODE,	/* one NUMA node, several host bridges; NCCL says PHB */
	CLASS_SUBNUMA,	/* one socket, other NUMA node (SNC, NPS); NCCL says SYS */
	CLASS_SYS,	/* across sockets */
	CLASS_UNKNOWN,
};
extern const char *const topo_class_names[];

enum { HCA_PORTS = 4 };

/* Of /sys/class/infiniband/HCA/ports/N/counters. */
enum topo_counter { COUNT_DOWNED, COUNT_SYMBOLS, COUNT_DISCARDS, COUNT_WAIT, COUNT_DATA, COUNTERS };
extern const char *const topo_counter_names[COUNTERS];

/* The counters of a port as one file says them. */
struct topo_counts {
	const char *source;	/* NULL: not read */
	bool said[COUNTERS];
	uint64_t value[COUNTERS];
};

struct topo_port {
	int state;		/* 1 down, 2 init, 3 armed, 4 active; 0 not said */
	uint32_t lid;
	uint64_t guid;		/* low half of GID 0 */
	double gbps;		/* GB/s one way, from sysfs; 0 not said */
	int ethernet;		/* 1 Ethernet, 0 InfiniBand, -1 not said */
	struct topo_counts before, after;	/* of the first and of the last file that tells them */
};

struct topo_gpu {
	uint64_t bus;
	const char *name;	/* "cuda0", "nvml0" or "" */
	double pcie_gbps;	/* of its own link, current; 0 unknown */
	double nvlink_gbps;	/* of one of its NVLinks, one way, by its generation */
	int package;		/* logical index; -1 unknown */
	bool located;		/* has a CPU of its own */
	const char *cpus;	/* of its socket, as a list "0-9,20-29"; NULL unknown */
};

struct topo_hca {
	const char *name;
	uint64_t bus, node_guid, system_guid;
	struct topo_port ports[HCA_PORTS];	/* port 1 is ports[0] */
	double pcie_gbps;
	int width, width_max;	/* PCIe lanes, from sysfs; 0 unknown */
	int package;
	bool located;
};

/* A mistake in a file that describes a node: NCCL would use it as it stands. */
struct topo_defect {
	const char *text;
	struct topo_at at;
};

struct topo_node {
	const char *host;	/* "" when the file does not say */
	const char *source;	/* file name, or "this machine" */
	struct topo_gpu *gpus;
	size_t gpu_count, gpu_room;
	struct topo_hca *hcas;
	size_t hca_count, hca_room;
	uint8_t *gpu_hca;	/* enum topo_class, [gpu][hca] */
	uint8_t *gpu_gpu;	/* [gpu][gpu] */
	int *nvlinks;		/* [gpu][gpu], links of a pair; NULL: no matrix */
	int packages, numa_nodes;
	const char *socket_link;	/* what joins the sockets: "UPI", "X-Bus", "xGMI"; NULL unknown */
	double socket_gbps;	/* what NCCL reckons that it carries, one way */
	bool bridges;		/* PCI bridges are in the file: PIX and PXB can be told apart */
	bool nccl;		/* from NCCL's topology XML */
	struct topo_defect *defects;
	size_t defect_count, defect_room;
};

/* An hwloc XML of 1.x or 2.x in memory; `source` for messages.  FAILED, said. */
int topo_node_hwloc(struct topo_node *, struct topo_names *, const char *source, const char *text, size_t bytes);
/* This machine, sysfs included. */
int topo_node_live(struct topo_node *, struct topo_names *);
/* NCCL's <system>. */
int topo_node_nccl(struct topo_node *, struct topo_names *, const char *source, uint32_t file, const char *text,
		   size_t bytes);
void topo_node_release(struct topo_node *);

/* Index of the GPU at this bus id, or TOPO_NONE; likewise. */
uint32_t topo_node_gpu(const struct topo_node *, uint64_t bus);
uint32_t topo_node_hca(const struct topo_node *, const char *name);

/* GB/s of one NVLink of a GPU of this compute capability (70, 90), one way; 0 means unknown, like V100 to H100. */
double topo_nvlink_gbps(int capability);
/* What joins the sockets of this CPU: socket_link and socket_gbps.  Family and model as CPUID has them. */
void topo_node_sockets(struct topo_node *, const char *architecture, const char *vendor, int family, int model);

/* "0000:1a:00.0" as NCCL counts it; false when it is none. */
bool topo_bus_parse(const char *text, uint64_t *bus);

/* Well-formed, not too deep, without entities of its own?  The root's name and its version go to
 * `root` and `version`.  FAILED, said with the line. */
int topo_xml_check(const char *source, const char *text, size_t bytes, char root[32], char version[16]);

/* NCCL's graph file. */
struct topo_graph_channel {
	int64_t net_in, net_out;	/* -1: none */
	size_t gpu_count;
	int32_t gpus[64];
	struct topo_at at;
};
struct topo_graph {
	const char *source;
	int id, pattern, crossnic, channels_said;
	char type_intra[8], type_inter[8];
	double bw_intra, bw_inter;
	struct topo_graph_channel *channels;
	size_t channel_count, channel_room;
	struct topo_at at;
};
struct topo_graphs {
	struct topo_graph *at;
	size_t count, room;
};
int topo_graphs_read(struct topo_graphs *, struct topo_names *, const char *source, uint32_t file, const char *text,
		     size_t bytes);
void topo_graphs_release(struct topo_graphs *);

#endif
