/*
 * comm/topo/rules.c - the table of rules, and how they are put to a model.
 *
 * Judges live by subject: ring_rules.c, nic_rules.c and setting_rules.c (what NCCL said),
 * node_rules.c (against node layout), fabric_rules.c (against cabling).  Equal answers of
 * several communicators become one.
 */
#include "comm/topo/rules.h"

#include "comm/topo/judges.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const topo_verdict_names[] = { "ok", "fault", "not applicable", "cannot tell" };
const char *const topo_severity_names[] = { "info", "warning", "error" };

const struct topo_rule topo_rules[] = {
	{ "log-form", "7.2", "connection lines have forms that NCCL prints", false, judge_log_form },
	{ "comm-complete", "R14", "every rank of the communicator reported Init COMPLETE", true, judge_comm_complete },
	{ "ring-closed", "R02 R14", "each channel's ring is one cycle through all ranks", true, judge_ring_closed },
	{ "ring-contiguous", "R01 R04 R7", "each ring enters and leaves a host once", true, judge_ring_contiguous },
	{ "ring-orders", "R03", "all channels visit hosts in one order", true, judge_ring_orders },
	{ "nic-hop", "R05 R1", "both ends of a hop use the same NIC of their host", true, judge_nic_hop },
	{ "nic-balance", "H06 H08 R2", "each NIC sends as many ring channels as it receives", true, judge_nic_balance },
	{ "nic-idle", "H07 R3", "no NIC idles while GPUs share others", true, judge_nic_idle },
	{ "nic-names", "H12", "a NIC index means the same device on every host", true, judge_nic_names },
	{ "gdr", "H04 R4", "network connections use GPUDirect RDMA", true, judge_gdr },
	{ "gdr-sides", "H05 R5", "GPUDirect RDMA is used on both sides and on every host", true, judge_gdr_sides },
	{ "net-in-host", "R8", "ranks of one host do not talk over the network", true, judge_net_in_host },
	{ "p2p-limited", "H15 R9", "GPUs of one host talk directly where NVLink or the settings allow", true,
	  judge_p2p_limited },
	{ "socket-fallback", "H19 R10", "the network is not TCP sockets for want of InfiniBand", true,
	  judge_socket_fallback },
	{ "channels", "R06 R12", "the ring search found enough channels for the NICs", true, judge_channels },
	{ "node-count", "1.5", "NCCL counts as many nodes as there are hosts", true, judge_node_count },
	{ "hosts-agree", "R11", "hosts agree in NCCL's settings, NIC lists and versions", false, judge_hosts_agree },
	{ "interface", "R13", "bootstrap does not sit on loopback or a container bridge", false, judge_interface },
	{ "crossnic-agree", "R15", "hosts chose the same crossNic", false, judge_crossnic },
	{ "nic-mix", "R18 H20", "the NIC list does not mix InfiniBand and Ethernet", false, judge_nic_mix },
	{ "sharp", "R17", "collective offload did not fall back", false, judge_sharp },
	{ "graph-nic", "R05", "a channel of the graph file leaves on the NIC it enters", false, judge_graph_nic },
	{ "nccl-topo-file", "R16", "NCCL's topology file describes a machine that can exist", false, judge_nccl_topo },
	{ "locality", "H00", "GPUs and HCAs have a place among the sockets", false, judge_locality },
	{ "nic-distance", "H01 H02 R6", "GPUs send through the nearest active HCA", true, judge_nic_distance },
	{ "cpu-binding", "H18", "processes are bound to CPUs near their GPU", false, judge_cpu_binding },
	{ "gpu-far", "H02", "each GPU has an active HCA on its own socket", false, judge_gpu_far },
	{ "sub-numa", "H03", "no GPU and HCA share a socket but not a NUMA node", false, judge_sub_numa },
	{ "port-active", "H09", "HCA ports are active", false, judge_port_active },
	{ "rate", "H10", "an HCA has the same rate on every host", false, judge_rate },
	{ "counters", "F11", "no port lost packets or waited for credits during the run", false, judge_counters },
	{ "nodes-equal", "H11 H12 H21", "hosts have the same sockets, GPUs, HCAs and distances", false,
	  judge_nodes_equal },
	{ "pcie-width", "H13", "PCIe links run at full width", false, judge_pcie_width },
	{ "pcie-bound", "H14", "PCIe does not limit the HCAs", true, judge_pcie_bound },
	{ "nvlink-equal", "H16", "all pairs of GPUs have the same NVLinks", false, judge_nvlink_equal },
	{ "ring-in-node", "H17", "rings follow the best NVLink path in a node", true, judge_ring_in_node },
	{ "fabric-join", "F00 F13", "the job's HCAs are in the fabric file", false, judge_fabric_join },
	{ "leaf-crossings", "F01", "rings change leaf switches no more than they must", true, judge_leaf_crossings },
	{ "rack-crossings", "F02", "rings change racks no more than they must", true, judge_rack_crossings },
	{ "uplink-bound", "F03", "uplinks do not limit the rings below the HCAs", true, judge_uplink_bound },
	{ "static-collision", "F04", "forwarding tables do not pile ring hops on one link", true,
	  judge_static_collision },
	{ "path-length", "F10", "forwarding tables take the shortest ways, there and back", true, judge_path_length },
	{ "link-degraded", "F05", "links run at the speed of their class", false, judge_link_degraded },
	{ "uplinks-missing", "F06", "leaf switches have equal uplinks", false, judge_uplinks_missing },
	{ "taper", "F09", "what enters the leaves can leave them", false, judge_taper },
	{ "spread", "F07", "the job's hosts sit on few leaves", true, judge_spread },
	{ "lone-host", "F08", "no leaf has only one host of the job", true, judge_lone_host },
	{ "groups-valid", "F12", "a scheduler's topology names each host once", false, judge_groups_valid },
	{ "rail-cabling", "F14", "leaves carry one rail each, or all", false, judge_rail_cabling },
};
const size_t topo_rule_count = sizeof(topo_rules) / sizeof(topo_rules[0]);

void judge_say(struct topo_finding *f, enum topo_verdict verdict, enum topo_severity severity, const char *format, ...)
{
	va_list args;

	f->verdict = verdict;
	f->severity = severity;
	va_start(args, format);
	vsnprintf(f->what, sizeof(f->what), format, args);
	va_end(args);
}

void judge_advise(struct topo_finding *f, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(f->advice, sizeof(f->advice), format, args);
	va_end(args);
}

void judge_needs(struct topo_finding *f, const char *input, const char *what)
{
	judge_say(f, TOPO_CANNOT_TELL, TOPO_INFO, "%s", what);
	snprintf(f->missing, sizeof(f->missing), "%s", input);
}

void judge_cite(struct topo_finding *f, struct topo_at at)
{
	if (!at.line)
		return;
	for (size_t i = 0; i < f->evidence_count && i < EVIDENCE_MAX; i++)
		if (f->evidence[i].file == at.file && f->evidence[i].line == at.line)
			return;
	if (f->evidence_count < EVIDENCE_MAX)
		f->evidence[f->evidence_count] = at;
	f->evidence_count++;
}

const char *judge_host_name(const struct topo_judging *j, uint32_t host)
{
	return host == TOPO_NONE ? "?" : j->m->log.hosts[host].name;
}

bool judge_in_host(const struct topo_comm *c, const struct topo_edge *e)
{
	return c->ranks[e->from].present && c->ranks[e->to].present && c->ranks[e->from].host == c->ranks[e->to].host;
}

bool judge_is_socket(const struct topo_nic *n)
{
	return !strcmp(n->net, "Socket");
}

/* Single-host rules of the network do not apply; false also says so. */
bool judge_several_hosts(const struct topo_judging *j, struct topo_finding *f)
{
	if (j->c->host_count > 1)
		return true;
	judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "one host");
	return false;
}

bool judge_connections_known(const struct topo_judging *j, struct topo_finding *f)
{
	if (j->c->planned) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "a planned job");
		return false;
	}
	if (j->c->edge_count)
		return true;
	judge_needs(f, "a log with connections: NCCL_DEBUG=INFO, and NCCL_RUNTIME_CONNECT=0 from 2.22 on",
		    "the log has no connection lines");
	return false;
}

/* What HCAs would carry with channels spread evenly over all of a host's NICs of the kind in use, one NIC both ways. */
static double nics_even(const struct topo_judging *j)
{
	const struct topo_log *l = &j->m->log;
	uint32_t used = TOPO_NONE;
	size_t listed = 0, share;

	for (size_t i = 0; i < j->flows.count && used == TOPO_NONE; i++)
		used = j->flows.at[i].nic_from;
	if (used == TOPO_NONE)
		return 0;
	for (size_t i = 0; i < l->nic_count; i++)
		listed += l->nics[i].host == l->nics[used].host && !strcmp(l->nics[i].net, l->nics[used].net);
	share = (j->c->channel_count + listed - 1) / listed;
	return share ? (double)j->c->channel_count * topo_model_nic_gbps(j->m, used) / (double)share : 0;
}

static double but_hcas(const struct topo_bounds *b, double limit)
{
	for (size_t i = 0; i < b->count; i++)
		if (strcmp(b->at[i].level, "hca") && !b->at[i].estimate && b->at[i].ideal < limit)
			limit = b->at[i].ideal;
	return limit;
}

void topo_judging_init(struct topo_judging *j, const struct topo_model *m, const struct topo_comm *c)
{
	*j = (struct topo_judging){ .m = m, .c = c };
	if (!c)
		return;
	topo_flows_of(c, &j->flows);
	topo_bounds_of(m, c, &j->flows, &j->bounds);
	j->hosts = topo_order_of(m, c, &j->host_count);
	topo_flows_reorder(m, c, j->hosts, j->host_count, &j->sorted_flows);
	topo_bounds_of(m, c, &j->sorted_flows, &j->sorted);
	j->even = nics_even(j);
	j->even_sorted = but_hcas(&j->sorted, j->even);
	j->even = but_hcas(&j->bounds, j->even);
}

void topo_judging_release(struct topo_judging *j)
{
	topo_flows_release(&j->flows);
	topo_flows_release(&j->sorted_flows);
	free(j->hosts);
	*j = (struct topo_judging){ 0 };
}

static void finding_add(struct topo_findings *all, const struct topo_finding *f)
{
	for (size_t i = 0; i < all->count; i++)
		if (all->at[i].rule == f->rule && all->at[i].verdict == f->verdict &&
		    (f->verdict != TOPO_FAULT || !strcmp(all->at[i].what, f->what))) {
			all->at[i].comms++;
			return;
		}
	TOPO_PUSH(all->at, all->count, all->room) = *f;
}

/* Faults by severity, then what cannot be told, then the rest in the table's order. */
static int by_weight(const void *a, const void *b)
{
	const struct topo_finding *x = a, *y = b;
	static const int weight[] = {
		[TOPO_FAULT] = 0, [TOPO_CANNOT_TELL] = 1, [TOPO_OK] = 2, [TOPO_NOT_APPLICABLE] = 3
	};

	if (x->verdict != y->verdict)
		return weight[x->verdict] - weight[y->verdict];
	if (x->severity != y->severity)
		return (int)y->severity - (int)x->severity;
	return x->rule < y->rule ? -1 : x->rule > y->rule;
}

static void judge_with(const struct topo_judging *j, struct topo_findings *all, bool of_comm)
{
	for (size_t i = 0; i < topo_rule_count; i++) {
		struct topo_finding f = { .rule = &topo_rules[i], .verdict = TOPO_NOT_APPLICABLE,
					  .comm = j->c ? j->c->id : NULL, .comms = 1 };

		if (topo_rules[i].of_comm != of_comm)
			continue;
		topo_rules[i].judge(j, &f);
		finding_add(all, &f);
	}
}

void topo_judge(const struct topo_model *m, struct topo_findings *all)
{
	struct topo_judging j;
	size_t judged = 0;

	*all = (struct topo_findings){ 0 };
	topo_judging_init(&j, m, NULL);
	judge_with(&j, all, false);
	topo_judging_release(&j);
	for (size_t i = 0; i < m->log.comm_count; i++) {
		if (m->log.comms[i].rank_count < 2)	/* a rank alone has no ring */
			continue;
		topo_judging_init(&j, m, &m->log.comms[i]);
		judge_with(&j, all, true);
		topo_judging_release(&j);
		judged++;
	}
	if (!judged) {
		topo_judging_init(&j, m, NULL);
		for (size_t i = 0; i < topo_rule_count; i++)
			if (topo_rules[i].of_comm) {
				struct topo_finding f = { .rule = &topo_rules[i], .comms = 1 };

				judge_needs(&f, "--nccl-log, or --hosts", "no communicator");
				finding_add(all, &f);
			}
		topo_judging_release(&j);
	}
	if (all->count)
		qsort(all->at, all->count, sizeof(*all->at), by_weight);
}

void topo_findings_release(struct topo_findings *f)
{
	free(f->at);
	*f = (struct topo_findings){ 0 };
}

const struct topo_finding *topo_finding_of(const struct topo_findings *f, const char *rule)
{
	for (size_t i = 0; i < f->count; i++)
		if (!strcmp(f->at[i].rule->name, rule))
			return &f->at[i];
	return NULL;
}
