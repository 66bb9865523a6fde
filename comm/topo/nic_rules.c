/*
 * comm/topo/nic_rules.c - judges of the way between hosts: which NICs a ring uses, how evenly, and with GPUDirect or
 * without.
 *
 * NICs are compared by device name, never by index: the number in "NET/IB/3" counts a list of
 * one process.  Names are comparable between hosts that list the same names; where lists differ
 * only the fabric or GUIDs could tell.
 */
#include "comm/topo/judges.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A number per host that is equal where hosts list the same devices. */
static uint64_t *list_signatures(const struct topo_log *l)
{
	uint64_t *sum = topo_alloc(l->host_count, sizeof(*sum));

	for (size_t i = 0; i < l->nic_count; i++) {
		uint64_t h = ((uint64_t)(uintptr_t)l->nics[i].name ^ (uint64_t)l->nics[i].port) * 0x9e3779b97f4a7c15u;

		sum[l->nics[i].host] += h ^ h >> 31;
	}
	return sum;
}

void judge_nic_hop(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	const struct topo_nic *nics = j->m->log.nics;
	size_t hops = 0, crossed = 0, apart = 0, channels = 0;
	const struct topo_edge *example = NULL;
	bool *listed = topo_alloc(c->channel_count, sizeof(*listed));
	uint64_t *lists = list_signatures(&j->m->log);
	char list[96] = "";

	if (!judge_several_hosts(j, f) || !judge_connections_known(j, f)) {
		free(listed);
		free(lists);
		return;
	}
	for (size_t i = 0; i < c->edge_count; i++) {
		const struct topo_edge *e = &c->edges[i];

		if (!e->ring || e->via != TOPO_VIA_NET || !e->send.seen || !e->recv.seen || judge_in_host(c, e))
			continue;
		hops++;
		if (nics[e->send.nic].name == nics[e->recv.nic].name &&
		    nics[e->send.nic].port == nics[e->recv.nic].port)
			continue;
		if (lists[nics[e->send.nic].host] != lists[nics[e->recv.nic].host]) {
			apart++;
			continue;
		}
		crossed++;
		example = example ? example : e;
		judge_cite(f, e->send.at);
		judge_cite(f, e->recv.at);
		if (!listed[e->channel]) {
			size_t used = strlen(list);

			listed[e->channel] = true;
			if (channels++ < 12)
				snprintf(list + used, sizeof(list) - used, "%s%02u", used ? " " : "", e->channel);
		}
	}
	free(listed);
	free(lists);
	if (!hops) {
		judge_needs(f, "a log with both ends of each connection: subsystem NET, all processes",
			    "no ring hop has both of its ends in the log");
	} else if (crossed) {
		judge_say(f, TOPO_FAULT, TOPO_ERROR,
			  "%zu of %zu ring hops (channels %s) leave on one NIC and arrive on another: "
			  "%s sends on %s, %s receives on %s",
			  crossed, hops, list, judge_host_name(j, nics[example->send.nic].host), nics[example->send.nic].name,
			  judge_host_name(j, nics[example->recv.nic].host), nics[example->recv.nic].name);
		judge_advise(f,
			     "set NCCL_CROSS_NIC=0, or name one HCA per channel in NCCL_IB_HCA; NCCL 2.20.3 and later "
			     "alternate "
			     "such rings%s",
			     j->m->log.version_number && j->m->log.version_number < 22003 ? " (this is older)" : "");
		f->now_gbps = j->bounds.ideal;
		f->mended_gbps = j->even;
	} else if (apart) {
		judge_needs(f, "--hwloc of each host and --fabric", "");
		snprintf(f->what, sizeof(f->what),
			 "%zu of %zu hops join devices of different names, and their hosts list different "
			 "devices: whether that crosses rails is not in the names",
			 apart, hops);
	} else {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu ring hops, each between NICs of one name", hops);
	}
}

/* Ring channels that each NIC sends and receives; both owned by the caller. */
static void nic_loads(const struct topo_judging *j, size_t **sends, size_t **receives)
{
	*sends = topo_alloc(j->m->log.nic_count, sizeof(**sends));
	*receives = topo_alloc(j->m->log.nic_count, sizeof(**receives));
	for (size_t i = 0; i < j->flows.count; i++) {
		if (j->flows.at[i].nic_from != TOPO_NONE)
			(*sends)[j->flows.at[i].nic_from]++;
		if (j->flows.at[i].nic_to != TOPO_NONE)
			(*receives)[j->flows.at[i].nic_to]++;
	}
}

void judge_nic_balance(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_log *l = &j->m->log;
	size_t *sends, *receives, uneven = 0, known = 0, worst = SIZE_MAX, gaps = 0, most = 0, used = 0;

	if (!judge_several_hosts(j, f) || !judge_connections_known(j, f))
		return;
	nic_loads(j, &sends, &receives);
	for (size_t i = 0; i < j->flows.count; i++)
		gaps += j->flows.at[i].nic_from == TOPO_NONE || j->flows.at[i].nic_to == TOPO_NONE;
	for (size_t i = 0; i < l->nic_count; i++) {
		known += sends[i] + receives[i] > 0;
		if (sends[i] == receives[i])
			continue;
		uneven++;
		if (worst == SIZE_MAX || sends[i] + receives[i] > sends[worst] + receives[worst])
			worst = i;
	}
	if (!known) {
		judge_needs(f, "NET lines of all processes", "no NIC of a ring hop is known");
	} else if (gaps) {
		judge_needs(f, "NET lines of all processes, untorn", "");
		snprintf(f->what, sizeof(f->what), "%zu of %zu ring hops lack an end in the log", gaps, j->flows.count);
	} else if (!uneven) {
		judge_say(f, TOPO_OK, TOPO_INFO, "every NIC sends as many channels as it receives");
	} else {
		for (size_t i = 0; i < l->nic_count; i++)
			if (l->nics[i].host == l->nics[worst].host) {
				size_t n = sends[i] > receives[i] ? sends[i] : receives[i];

				most = n > most ? n : most;
				used += sends[i] + receives[i] > 0;
			}
		for (size_t i = 0; i < j->c->edge_count; i++)
			if (j->c->edges[i].ring && j->c->edges[i].recv.seen && j->c->edges[i].recv.nic == worst)
				judge_cite(f, j->c->edges[i].recv.at);
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "%zu NICs send and receive different numbers of ring channels: %s %s sends %zu "
			  "and receives %zu, so %zu channels share one direction of it while %zu NICs are in use",
			  uneven, judge_host_name(j, l->nics[worst].host), l->nics[worst].name, sends[worst], receives[worst],
			  most, used);
		judge_advise(f, "one NIC both ways per channel (NCCL_CROSS_NIC=0) divides the channels evenly");
		f->now_gbps = j->bounds.ideal;
		f->mended_gbps = j->even;
	}
	free(sends);
	free(receives);
}

void judge_nic_idle(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_log *l = &j->m->log;
	size_t idle = 0, used = 0, listed = 0, ranks = 0, invented = 0;
	bool *busy = topo_alloc(l->nic_count, sizeof(*busy));
	uint32_t host = TOPO_NONE;
	const struct topo_nic *sample = NULL, *spare = NULL;

	if (!judge_several_hosts(j, f) || !judge_connections_known(j, f)) {
		free(busy);
		return;
	}
	for (size_t c = 0; c < l->comm_count; c++)
		for (size_t i = 0; i < l->comms[c].edge_count; i++) {
			const struct topo_edge *e = &l->comms[c].edges[i];

			if (e->send.nic != TOPO_NONE)
				busy[e->send.nic] = true;
			if (e->recv.nic != TOPO_NONE)
				busy[e->recv.nic] = true;
		}
	for (size_t i = 0; i < l->nic_count && !sample; i++)
		if (busy[i]) {
			sample = &l->nics[i];
			host = sample->host;
		}
	for (size_t i = 0; i < l->nic_count && sample; i++) {
		if (l->nics[i].host != host || strcmp(l->nics[i].net, sample->net))
			continue;
		listed++;
		used += busy[i];
		invented += strchr(l->nics[i].name, '/') != NULL;
		if (!busy[i]) {
			idle++;
			spare = &l->nics[i];
			judge_cite(f, l->nics[i].at);
		}
	}
	for (size_t r = 0; r < j->c->rank_count; r++)
		ranks += j->c->ranks[r].present && j->c->ranks[r].host == host;
	if (!sample)
		judge_needs(f, "NET lines of all processes", "no NIC is known to be used");
	else if (judge_is_socket(sample))
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "sockets: NCCL takes the interfaces it is given");
	else if (invented)
		judge_needs(f, "--hwloc", "the plugin does not list its NICs");
	else if (!idle)
		judge_say(f, TOPO_OK, TOPO_INFO, "all %zu NICs of a host are used", listed);
	else if (used >= ranks)
		judge_say(f, TOPO_OK, TOPO_INFO,
			  "%zu of %zu NICs are used, one per GPU: the others serve something else", used, listed);
	else {
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "%zu of %zu NICs of %s carry nothing (such as %s) while %zu GPUs share %zu", idle, listed,
			  judge_host_name(j, host), spare->name, ranks, used);
		judge_advise(f,
			     "up to %.1f times the bandwidth between hosts is unused: check NCCL_IB_HCA, "
			     "NCCL_CROSS_NIC and the "
			     "distance of GPUs to these HCAs; raise NCCL_MIN_NCHANNELS",
			     (double)listed / (double)used);
		f->now_gbps = j->bounds.ideal;
		f->mended_gbps = j->even;
	}
	free(busy);
}

void judge_nic_names(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	const struct topo_nic *nics = j->m->log.nics;
	size_t differ = 0, hops = 0;
	const struct topo_edge *example = NULL;

	if (!judge_several_hosts(j, f) || !judge_connections_known(j, f))
		return;
	for (size_t i = 0; i < c->edge_count; i++) {
		const struct topo_edge *e = &c->edges[i];

		if (e->via != TOPO_VIA_NET || !e->send.seen || !e->recv.seen || e->send.net != e->recv.net || e->conn ||
		    judge_is_socket(&nics[e->send.nic]))	/* interfaces have names of their own on each host */
			continue;
		hops++;
		if (nics[e->send.nic].name == nics[e->recv.nic].name)
			continue;
		differ++;
		example = example ? example : e;
		judge_cite(f, nics[e->send.nic].at);
		judge_cite(f, nics[e->recv.nic].at);
	}
	if (!hops)
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "no hop with equal indices");
	else if (!differ)
		judge_say(f, TOPO_OK, TOPO_INFO, "equal indices are equal names");
	else {
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "NIC index %d is %s on %s and %s on %s (%zu of %zu hops): equal indices are "
			  "different devices",
			  example->send.net, nics[example->send.nic].name, judge_host_name(j, nics[example->send.nic].host),
			  nics[example->recv.nic].name, judge_host_name(j, nics[example->recv.nic].host), differ, hops);
		judge_advise(f, "name the HCAs in one order on every host: NCCL_IB_HCA==mlx5_0,...; "
				"NCCL_IB_DEVICE_PCI_ORDER sorts "
				"them from 2.29.7 on");
	}
}

void judge_gdr(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	const struct topo_log *l = &j->m->log;
	size_t ends = 0, without = 0, sockets = 0;
	const struct topo_node *n = NULL;
	uint8_t best = CLASS_UNKNOWN;

	if (!judge_several_hosts(j, f) || !judge_connections_known(j, f))
		return;
	for (size_t i = 0; i < c->edge_count; i++) {
		const struct topo_edge *e = &c->edges[i];

		for (int side = 0; side < 2; side++) {
			const struct topo_end *end = side ? &e->recv : &e->send;

			if (e->via != TOPO_VIA_NET || !end->seen || e->conn)
				continue;
			sockets += end->nic != TOPO_NONE && judge_is_socket(&l->nics[end->nic]);
			ends++;
			if (end->gdr)
				continue;
			without++;
			judge_cite(f, end->at);
		}
	}
	for (size_t r = 0; r < c->rank_count && !n; r++)
		n = c->ranks[r].present ? topo_model_facts(j->m, c->ranks[r].host) : NULL;
	for (size_t i = 0; n && i < n->gpu_count * n->hca_count; i++)
		best = n->gpu_hca[i] < best ? n->gpu_hca[i] : best;
	if (!ends) {
		judge_needs(f, "NET lines", "no network connection is in the log");
	} else if (sockets) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "TCP sockets have no GPUDirect RDMA");
	} else if (!without) {
		judge_say(f, TOPO_OK, TOPO_INFO, "all %zu ends", ends);
	} else {
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "%zu of %zu ends of network connections lack /GDRDMA: their data goes through "
			  "host memory",
			  without, ends);
		if (best == CLASS_PHB || best == CLASS_NODE)
			judge_advise(f,
				     "GPUs and HCAs meet at a host bridge (%s), beyond NCCL's default PXB: set "
				     "NCCL_NET_GDR_LEVEL=PHB",
				     topo_class_names[best]);
		else if (best <= CLASS_PXB)
			judge_advise(f, "a PCIe switch joins GPUs and HCAs, so the driver is missing: load "
					"nvidia-peermem, or DMA-BUF");
		else if (best != CLASS_UNKNOWN)
			judge_advise(f,
				     "no HCA is nearer than %s to a GPU: NCCL_NET_GDR_LEVEL=SYS would force it, and "
				     "may be slower",
				     topo_class_names[best]);
		else
			judge_advise(f, "nvidia-peermem or DMA-BUF loaded? With HCAs on CPU root ports set "
					"NCCL_NET_GDR_LEVEL=PHB "
					"(--hwloc tells which)");
		for (size_t i = 0; i < l->note_count; i++)
			if (l->notes[i].kind == NOTE_GDR_DISABLED)
				judge_cite(f, l->notes[i].at);
	}
}

void judge_gdr_sides(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	const struct topo_log *l = &j->m->log;
	size_t *with = topo_alloc(l->host_count, sizeof(*with)), *without = topo_alloc(l->host_count, sizeof(*without));
	size_t one_sided = 0, both = 0, odd = 0, even = 0;
	const char *odd_host = NULL;

	if (judge_several_hosts(j, f) && judge_connections_known(j, f)) {
		for (size_t i = 0; i < c->edge_count; i++) {
			const struct topo_edge *e = &c->edges[i];

			if (e->via != TOPO_VIA_NET || e->conn)
				continue;
			if (e->send.seen)
				(e->send.gdr ? with : without)[l->nics[e->send.nic].host]++;
			if (e->recv.seen)
				(e->recv.gdr ? with : without)[l->nics[e->recv.nic].host]++;
			if (!e->send.seen || !e->recv.seen)
				continue;
			both++;
			if (e->send.gdr != e->recv.gdr) {
				one_sided++;
				judge_cite(f, (e->send.gdr ? &e->recv : &e->send)->at);
			}
		}
		for (size_t h = 0; h < l->host_count; h++) {
			even += with[h] && !without[h];
			if (without[h] && !with[h]) {
				odd++;
				odd_host = l->hosts[h].name;
			}
		}
		if (!both)
			judge_needs(f, "NET lines of all processes", "no connection has both ends in the log");
		else if (odd && even) {
			judge_say(f, TOPO_FAULT, TOPO_WARNING,
				  "%zu hosts use no GPUDirect RDMA while %zu do, such as %s", odd, even, odd_host);
			judge_advise(f, "these hosts differ: check nvidia-peermem, DMA-BUF and PCI ACS there");
		} else if (one_sided) {
			judge_say(f, TOPO_FAULT, TOPO_WARNING,
				  "%zu of %zu connections use GPUDirect RDMA on one side only", one_sided, both);
			judge_advise(f, "before Ampere without NVLink this is NCCL's choice for senders "
					"(NCCL_NET_GDR_READ); otherwise check "
					"the topology level on both sides");
		} else
			judge_say(f, TOPO_OK, TOPO_INFO, "%zu connections agree on both sides", both);
	}
	free(with);
	free(without);
}

void judge_net_in_host(const struct topo_judging *j, struct topo_finding *f)
{
	size_t over_net = 0;

	if (!judge_connections_known(j, f))
		return;
	for (size_t i = 0; i < j->c->edge_count; i++) {
		const struct topo_edge *e = &j->c->edges[i];

		if (e->via != TOPO_VIA_NET || !judge_in_host(j->c, e) || e->conn)
			continue;
		over_net++;
		judge_cite(f, e->send.seen ? e->send.at : e->recv.at);
	}
	if (!over_net) {
		judge_say(f, TOPO_OK, TOPO_INFO, "none");
		return;
	}
	judge_say(f, TOPO_FAULT, TOPO_ERROR, "%zu connections between ranks of one host go over the network", over_net);
	judge_advise(f, "unset NCCL_P2P_DISABLE and NCCL_SHM_DISABLE, widen NCCL_P2P_LEVEL, enlarge the container's "
			"/dev/shm; equal "
			"host names of several machines look like this too");
}
