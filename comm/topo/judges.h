/*
 * comm/topo/judges.h - the judges that rules.c lists, and how they answer.
 */
#ifndef SFSCALE_COMM_TOPO_JUDGES_H
#define SFSCALE_COMM_TOPO_JUDGES_H

#include "comm/topo/rules.h"

void judge_say(struct topo_finding *, enum topo_verdict, enum topo_severity, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void judge_advise(struct topo_finding *, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Cannot tell: `input` would. */
void judge_needs(struct topo_finding *, const char *input, const char *what);
void judge_cite(struct topo_finding *, struct topo_at);

/* "?" for TOPO_NONE. */
const char *judge_host_name(const struct topo_judging *, uint32_t host);
/* Both ends of a connection sit on one host. */
bool judge_in_host(const struct topo_comm *, const struct topo_edge *);
bool judge_is_socket(const struct topo_nic *);
/* Rules of the network do not apply to one host, those of connections not to a plan or a log without any: false, and
 * the finding says so. */
bool judge_several_hosts(const struct topo_judging *, struct topo_finding *);
bool judge_connections_known(const struct topo_judging *, struct topo_finding *);

#define JUDGE(name) void judge_##name(const struct topo_judging *, struct topo_finding *)
JUDGE(log_form);
JUDGE(comm_complete);
JUDGE(ring_closed);
JUDGE(ring_contiguous);
JUDGE(ring_orders);
JUDGE(nic_hop);
JUDGE(nic_balance);
JUDGE(nic_idle);
JUDGE(nic_names);
JUDGE(gdr);
JUDGE(gdr_sides);
JUDGE(net_in_host);
JUDGE(p2p_limited);
JUDGE(socket_fallback);
JUDGE(channels);
JUDGE(node_count);
JUDGE(hosts_agree);
JUDGE(interface);
JUDGE(crossnic);
JUDGE(nic_mix);
JUDGE(sharp);
JUDGE(graph_nic);
JUDGE(nccl_topo);
JUDGE(locality);
JUDGE(nic_distance);
JUDGE(cpu_binding);
JUDGE(gpu_far);
JUDGE(sub_numa);
JUDGE(port_active);
JUDGE(rate);
JUDGE(counters);
JUDGE(nodes_equal);
JUDGE(pcie_width);
JUDGE(pcie_bound);
JUDGE(nvlink_equal);
JUDGE(ring_in_node);
JUDGE(fabric_join);
JUDGE(leaf_crossings);
JUDGE(rack_crossings);
JUDGE(uplink_bound);
JUDGE(static_collision);
JUDGE(path_length);
JUDGE(link_degraded);
JUDGE(uplinks_missing);
JUDGE(taper);
JUDGE(spread);
JUDGE(lone_host);
JUDGE(groups_valid);
JUDGE(rail_cabling);

#undef JUDGE

#endif
