/*
 * comm/topo/ring_rules.c - judges of what NCCL said of itself: rings, NICs, transports, settings.
 *
 * NICs are compared by device name, never by index: the number in "NET/IB/3" counts a list of
 * one process.  Names are comparable between hosts that list the same names; where lists differ
 * only the fabric or GUIDs could tell.
 */
#include "comm/topo/judges.h"

#include "bench/base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *host_name(const struct topo_judging *j, uint32_t host)
{
	return host == TOPO_NONE ? "?" : j->m->log.hosts[host].name;
}

static const struct topo_edge *ring_edge(const struct topo_comm *c, size_t channel, size_t from)
{
	int32_t to = c->next[channel * c->rank_count + from];

	return to < 0 ? NULL : topo_edge_find(c, channel, (int32_t)from, to);
}

static bool same_host(const struct topo_comm *c, const struct topo_edge *e)
{
	return c->ranks[e->from].present && c->ranks[e->to].present && c->ranks[e->from].host == c->ranks[e->to].host;
}

/* Single-host rules of the network do not apply; false also says so. */
static bool several_hosts(const struct topo_judging *j, struct topo_finding *f)
{
	if (j->c->host_count > 1)
		return true;
	judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "one host");
	return false;
}

static bool connections_known(const struct topo_judging *j, struct topo_finding *f)
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

void judge_log_form(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_log *l = &j->m->log;
	size_t good = 0;

	if (!j->m->has_log) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "no log");
		return;
	}
	for (size_t i = 0; i < l->comm_count; i++)
		good += l->comms[i].edge_count;
	judge_cite(f, l->strange ? l->strange_at : l->torn_at);
	if (l->strange > good && l->strange > 2 * l->torn) {
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "%zu of %zu connection lines have no form that any NCCL prints",
			  l->strange, l->strange + good);
		judge_advise(f, "take the log as NCCL wrote it; retyped and invented logs give no verdict");
	} else if (l->strange || l->torn) {
		judge_say(f, TOPO_CANNOT_TELL, TOPO_INFO,
			  "%zu messages are torn by others and %zu connection lines are unreadable: "
			  "a connection that is missing below may be one of them",
			  l->torn, l->strange);
		snprintf(f->missing, sizeof(f->missing), "one log per process: NCCL_DEBUG_FILE=%%h.%%p.log");
	} else {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu messages, none torn", l->messages);
	}
}

void judge_comm_complete(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	size_t present = 0, complete = 0;

	for (size_t r = 0; r < c->rank_count; r++) {
		present += c->ranks[r].present;
		complete += c->ranks[r].complete;
		if (c->ranks[r].present && !c->ranks[r].complete)
			judge_cite(f, c->ranks[r].at);
	}
	if (complete == c->rank_count) {
		judge_say(f, TOPO_OK, TOPO_INFO, "all %zu ranks are complete", c->rank_count);
	} else if (complete < present) {
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "%zu of %zu ranks reported Init COMPLETE; %zu began and did not, %zu "
			  "never spoke",
			  complete, c->rank_count, present - complete, c->rank_count - present);
		judge_advise(
			f,
			"the communicator was not made, or the log is cut: look for the first WARN, and for the ranks "
			"that are missing");
	} else {
		judge_needs(f, "the logs of the other processes", "");
		snprintf(f->what, sizeof(f->what),
			 "%zu of %zu ranks speak in these logs: the others are judged by what these "
			 "say of them",
			 present, c->rank_count);
	}
}

void judge_ring_closed(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	size_t open = 0, unknown = 0, first = 0;
	bool whole = true;

	for (size_t r = 0; r < c->rank_count; r++)
		whole = whole && c->ranks[r].present;
	for (size_t k = 0; k < c->channel_count; k++) {
		bool gap = false;

		for (size_t r = 0; r < c->rank_count; r++)
			gap = gap || c->next[k * c->rank_count + r] < 0;
		unknown += gap && !c->closed[k];
		open += !gap && !c->closed[k];
		first = !c->closed[k] && !first ? k : first;
	}
	if (!c->channel_count) {
		judge_needs(f, "a log with subsystems INIT,GRAPH: NCCL_DEBUG_SUBSYS=INIT,ENV,GRAPH,NET",
			    "no ring is printed");
	} else if (!open && !unknown) {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu channels close over %zu ranks", c->channel_count, c->rank_count);
	} else if (open && whole && !j->m->log.torn && !c->ambiguous && !unknown) {
		judge_cite(f, c->at);
		judge_say(f, TOPO_FAULT, TOPO_ERROR, "%zu of %zu rings are not one cycle; the first is channel %zu",
			  open, c->channel_count, first);
		judge_advise(f, "logs of several jobs were mixed, or lines are missing: give the whole log of one job");
	} else {
		judge_needs(f, "NCCL_DEBUG_SUBSYS=INIT,ENV,GRAPH,NET, one log per process", "");
		snprintf(f->what, sizeof(f->what),
			 "%zu of %zu rings cannot be followed all the way: their lines are cut, torn or "
			 "absent",
			 open + unknown, c->channel_count);
	}
}

/* Network hops of one channel as far as the ring is known; SIZE_MAX when it is not whole. */
static size_t host_changes(const struct topo_comm *c, size_t channel)
{
	size_t n = 0;

	for (size_t r = 0; r < c->rank_count; r++) {
		int32_t to = c->next[channel * c->rank_count + r];

		if (to < 0 || !c->ranks[r].present || !c->ranks[to].present)
			return SIZE_MAX;
		n += c->ranks[r].host != c->ranks[to].host;
	}
	return n;
}

void judge_ring_contiguous(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	size_t worst = 0, known = 0, *runs;
	uint32_t most = 0;

	if (!several_hosts(j, f))
		return;
	for (size_t k = 0; k < c->channel_count; k++) {
		size_t n = host_changes(c, k);

		known += n != SIZE_MAX;
		worst = n != SIZE_MAX && n > worst ? n : worst;
	}
	if (!known) {
		judge_needs(f, "whole rings (see ring-closed)", "no ring is known all round");
		return;
	}
	if (worst <= c->host_count) {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu hosts, %zu changes of host per channel", c->host_count, worst);
		return;
	}
	runs = topo_alloc(j->m->log.host_count, sizeof(*runs));
	for (size_t r = 0; r < c->rank_count; r++)
		if (c->next[r] >= 0 && c->ranks[r].host != c->ranks[c->next[r]].host)
			runs[c->ranks[r].host]++;
	for (uint32_t h = 0; h < j->m->log.host_count; h++)
		most = runs[h] > runs[most] ? h : most;
	for (size_t r = 0; r < c->rank_count; r++)
		if (c->ranks[r].host == most && ring_edge(c, 0, r) && !same_host(c, ring_edge(c, 0, r)))
			judge_cite(f, ring_edge(c, 0, r)->send.at);
	judge_cite(f, c->at);
	judge_say(f, TOPO_FAULT, TOPO_ERROR,
		  "a channel changes hosts %zu times where %zu hosts need %zu: each excess hop is one "
		  "more crossing of the network (host %s is left %zu times)",
		  worst, c->host_count, c->host_count, host_name(j, most), runs[most]);
	judge_advise(
		f,
		"place ranks by host: mpirun --map-by slot, srun --distribution=block; or use the hostfile that --out "
		"writes");
	f->now_gbps = j->bounds.ideal;
	f->mended_gbps = j->sorted.ideal;
	free(runs);
}

/* The hosts of a channel in ring order from rank 0's on, each run once. */
static size_t host_sequence(const struct topo_comm *c, size_t channel, uint32_t *out)
{
	size_t n = 0, steps = 0;
	int32_t at = 0;

	do {
		if (!n || out[n - 1] != c->ranks[at].host)
			out[n++] = c->ranks[at].host;
		at = c->next[channel * c->rank_count + (size_t)at];
	} while (at > 0 && ++steps < c->rank_count);
	if (n > 1 && out[n - 1] == out[0])	/* rank 0 in the middle of its host's run */
		n--;
	return n;
}

void judge_ring_orders(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	uint32_t *first = topo_alloc(c->rank_count + 1, sizeof(*first)),
		 *other = topo_alloc(c->rank_count + 1, sizeof(*other));
	size_t n = 0, known = 0, differ = 0, which = 0;

	if (several_hosts(j, f)) {
		for (size_t k = 0; k < c->channel_count; k++) {
			size_t m;

			if (host_changes(c, k) == SIZE_MAX)
				continue;
			m = host_sequence(c, k, known++ ? other : first);
			if (known == 1) {
				n = m;
			} else if (m != n || memcmp(first, other, n * sizeof(*first))) {
				differ++;
				which = k;
			}
		}
		if (!known)
			judge_needs(f, "whole rings (see ring-closed)", "no ring is known all round");
		else if (!differ)
			judge_say(f, TOPO_OK, TOPO_INFO, "%zu channels, one order of hosts", known);
		else
			judge_say(f, TOPO_FAULT, TOPO_INFO,
				  "%zu channels visit hosts in another order than the first, such as "
				  "channel %zu",
				  differ, which);
	}
	free(first);
	free(other);
}

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

	if (!several_hosts(j, f) || !connections_known(j, f)) {
		free(listed);
		free(lists);
		return;
	}
	for (size_t i = 0; i < c->edge_count; i++) {
		const struct topo_edge *e = &c->edges[i];

		if (!e->ring || e->via != TOPO_VIA_NET || !e->send.seen || !e->recv.seen || same_host(c, e))
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
			  crossed, hops, list, host_name(j, nics[example->send.nic].host), nics[example->send.nic].name,
			  host_name(j, nics[example->recv.nic].host), nics[example->recv.nic].name);
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

	if (!several_hosts(j, f) || !connections_known(j, f))
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
			  uneven, host_name(j, l->nics[worst].host), l->nics[worst].name, sends[worst], receives[worst],
			  most, used);
		judge_advise(f, "one NIC both ways per channel (NCCL_CROSS_NIC=0) divides the channels evenly");
		f->now_gbps = j->bounds.ideal;
		f->mended_gbps = j->even;
	}
	free(sends);
	free(receives);
}

static bool is_socket(const struct topo_nic *n)
{
	return !strcmp(n->net, "Socket");
}

void judge_nic_idle(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_log *l = &j->m->log;
	size_t idle = 0, used = 0, listed = 0, ranks = 0, invented = 0;
	bool *busy = topo_alloc(l->nic_count, sizeof(*busy));
	uint32_t host = TOPO_NONE;
	const struct topo_nic *sample = NULL, *spare = NULL;

	if (!several_hosts(j, f) || !connections_known(j, f)) {
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
	else if (is_socket(sample))
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
			  host_name(j, host), spare->name, ranks, used);
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

	if (!several_hosts(j, f) || !connections_known(j, f))
		return;
	for (size_t i = 0; i < c->edge_count; i++) {
		const struct topo_edge *e = &c->edges[i];

		if (e->via != TOPO_VIA_NET || !e->send.seen || !e->recv.seen || e->send.net != e->recv.net || e->conn ||
		    is_socket(&nics[e->send.nic]))	/* interfaces have names of their own on each host */
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
			  example->send.net, nics[example->send.nic].name, host_name(j, nics[example->send.nic].host),
			  nics[example->recv.nic].name, host_name(j, nics[example->recv.nic].host), differ, hops);
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

	if (!several_hosts(j, f) || !connections_known(j, f))
		return;
	for (size_t i = 0; i < c->edge_count; i++) {
		const struct topo_edge *e = &c->edges[i];

		for (int side = 0; side < 2; side++) {
			const struct topo_end *end = side ? &e->recv : &e->send;

			if (e->via != TOPO_VIA_NET || !end->seen || e->conn)
				continue;
			sockets += end->nic != TOPO_NONE && is_socket(&l->nics[end->nic]);
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

	if (several_hosts(j, f) && connections_known(j, f)) {
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

	if (!connections_known(j, f))
		return;
	for (size_t i = 0; i < j->c->edge_count; i++) {
		const struct topo_edge *e = &j->c->edges[i];

		if (e->via != TOPO_VIA_NET || !same_host(j->c, e) || e->conn)
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

static const struct topo_setting *setting(const struct topo_model *m, const char *name)
{
	for (size_t i = 0; i < m->log.setting_count; i++)
		if (!strcmp(m->log.settings[i].name, name))
			return &m->log.settings[i];
	return NULL;
}

void judge_p2p_limited(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	const struct topo_setting *level = setting(j->m, "NCCL_P2P_LEVEL"), *off = setting(j->m, "NCCL_P2P_DISABLE");
	size_t shared = 0, direct = 0, with_nvlink = 0;
	bool facts = false;

	if (!connections_known(j, f))
		return;
	for (size_t i = 0; i < c->edge_count; i++) {
		const struct topo_edge *e = &c->edges[i];
		const struct topo_node *n =
			c->ranks[e->from].present ? topo_model_facts(j->m, c->ranks[e->from].host) : NULL;
		uint32_t a, b;

		direct += e->via == TOPO_VIA_P2P;
		if (e->via != TOPO_VIA_SHM)
			continue;
		shared++;
		if (shared <= 2)
			judge_cite(f, e->send.at);
		if (!n || !n->nvlinks)
			continue;
		facts = true;
		a = topo_node_gpu(n, c->ranks[e->from].bus);
		b = topo_node_gpu(n, c->ranks[e->to].bus);
		with_nvlink += a != TOPO_NONE && b != TOPO_NONE && n->nvlinks[a * n->gpu_count + b] > 0;
	}
	if (off && !strcmp(off->value, "0"))
		off = NULL;
	if (!shared && !direct) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "no connection inside a host");
	} else if (!shared) {
		judge_say(f, TOPO_OK, TOPO_INFO, "all %zu connections inside hosts are P2P", direct);
	} else if (with_nvlink || level || off) {
		const struct topo_setting *s = off ? off : level;
		bool all = !direct || with_nvlink;

		if (s)
			judge_cite(f, s->at);
		judge_say(f, TOPO_FAULT, all ? TOPO_ERROR : TOPO_WARNING,
			  "%zu of %zu connections inside a host go through shared "
			  "memory%s%s%s%s%s",
			  shared, shared + direct, with_nvlink ? " although NVLink joins the GPUs" : "",
			  s ? ", with " : "", s ? s->name : "", s ? "=" : "", s ? s->value : "");
		judge_advise(f,
			     s ? "unset %s: it forbids direct transfers between GPUs"
			       : "check IOMMU and ACS, the container's device "
				 "list and CUDA_VISIBLE_DEVICES%s",
			     s ? s->name : "");
	} else if (facts) {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu connections in shared memory join GPUs without NVLink", shared);
	} else {
		judge_needs(f, "--hwloc of a host", "");
		snprintf(f->what, sizeof(f->what),
			 "%zu of %zu connections inside a host go through shared memory; whether these GPUs "
			 "have NVLink is not in the log",
			 shared, shared + direct);
	}
}

void judge_socket_fallback(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_log *l = &j->m->log;
	size_t sockets = 0, others = 0;
	const struct topo_note *no_ib = NULL, *broken = NULL;
	const struct topo_setting *wanted = setting(j->m, "NCCL_IB_DISABLE"), *net = setting(j->m, "NCCL_NET");
	bool active = false;

	if (!several_hosts(j, f) || !connections_known(j, f))
		return;
	for (size_t i = 0; i < j->c->edge_count; i++) {
		const struct topo_edge *e = &j->c->edges[i];
		uint32_t nic = e->send.nic != TOPO_NONE ? e->send.nic : e->recv.nic;

		if (e->via != TOPO_VIA_NET || nic == TOPO_NONE)
			continue;
		if (!is_socket(&l->nics[nic]) && strcmp(e->how, "Socket")) {
			others++;
			continue;
		}
		if (sockets++ < 2)
			judge_cite(f, e->send.seen ? e->send.at : e->recv.at);
	}
	for (size_t i = 0; i < l->note_count; i++) {
		no_ib = !no_ib && l->notes[i].kind == NOTE_NO_IB ? &l->notes[i] : no_ib;
		broken = !broken && l->notes[i].kind == NOTE_OPEN_FAILED ? &l->notes[i] : broken;
	}
	for (size_t i = 0; i < j->m->node_count; i++)
		for (size_t h = 0; h < j->m->nodes[i].hca_count; h++)
			active = active || j->m->nodes[i].hcas[h].ports[0].state == 4;
	if (!sockets) {
		judge_say(f, others ? TOPO_OK : TOPO_NOT_APPLICABLE, TOPO_INFO, others ? "the network is not TCP"
											 : "no network connection");
		return;
	}
	if (no_ib)
		judge_cite(f, no_ib->at);
	if (broken)
		judge_cite(f, broken->at);
	judge_say(f, TOPO_FAULT, TOPO_ERROR, "%zu connections between hosts use TCP sockets%s%s", sockets,
		  wanted || net ? ", as the environment asks" : no_ib ? ": NCCL found no InfiniBand device" : "",
		  active ? ", although an HCA port is active" : "");
	judge_advise(
		f, "%s",
		wanted || net
			? "unset NCCL_IB_DISABLE and NCCL_NET"
			: "check libibverbs, /dev/infiniband in the container, memlock, and the site's net plugin; "
			  "NCCL_NET=IB makes NCCL fail instead");
}

void judge_channels(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_log *l = &j->m->log;
	const struct topo_note *simple = NULL;
	size_t nics = 0;
	uint32_t host = TOPO_NONE;

	for (size_t i = 0; i < l->note_count; i++)
		if (l->notes[i].kind == NOTE_SIMPLE_ORDER && !simple)
			simple = &l->notes[i];
	for (size_t r = 0; r < j->c->rank_count && host == TOPO_NONE; r++)
		host = j->c->ranks[r].host;
	for (size_t i = 0; i < l->nic_count; i++)
		nics += l->nics[i].host == host && !is_socket(&l->nics[i]) && strcmp(l->nics[i].net, "RoCE");
	if (simple) {
		judge_cite(f, simple->at);
		judge_say(f, TOPO_FAULT, TOPO_ERROR, "the search found no path and fell back to the simple order: %s",
			  simple->text);
		judge_advise(f,
			     "compare --nccl-topo of this host with a good one; NCCL_PXN_DISABLE=1 has helped on 2.25");
	} else if (!j->c->channel_count) {
		judge_needs(f, "a log with INIT lines", "no channel is printed");
	} else if (j->c->host_count > 1 && nics > 1 && j->c->channel_count < 2) {
		judge_cite(f, j->c->at);
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "%zu channel for %zu NICs per host", j->c->channel_count, nics);
		judge_advise(f, "raise NCCL_MIN_NCHANNELS (NCCL_MIN_CTAS), or look why the search found no more");
	} else {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu channels", j->c->channel_count);
	}
}

/* The machine of each host that shows one GPU, told by the subnet of its bootstrap address: trusted only when no two
 * hosts of a subnet show the same GPU, and there are fewer subnets than hosts.  NULL: not told; freed by the caller. */
static const char **machines_by_subnet(const struct topo_judging *j, size_t *machines)
{
	const struct topo_log *l = &j->m->log;
	const struct topo_comm *c = j->c;
	const char **of_rank = topo_alloc(c->rank_count, sizeof(*of_rank));
	bool good = true;

	*machines = 0;
	for (size_t r = 0; r < c->rank_count && good; r++) {
		bool new = true;

		for (size_t i = 0; i < l->note_count && c->ranks[r].present && !of_rank[r]; i++)
			if (l->notes[i].kind == NOTE_SUBNET && l->notes[i].host == c->ranks[r].host)
				of_rank[r] = l->notes[i].text;
		good = of_rank[r] != NULL;
		for (size_t k = 0; k < r && good; k++)
			if (of_rank[k] == of_rank[r]) {
				new = false;
				good = c->ranks[k].nvml_dev != c->ranks[r].nvml_dev;
			}
		*machines += new;
	}
	if (good && *machines < c->rank_count)
		return of_rank;
	free(of_rank);
	return NULL;
}

/* How often the first closed ring changes machines, where `machines` changes would do. */
static void say_machine_changes(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	size_t machines, changes = 0, used = strlen(f->what), channel = 0;
	const char **of_rank = machines_by_subnet(j, &machines);

	while (channel < c->channel_count && !c->closed[channel])
		channel++;
	for (size_t r = 0; of_rank && channel < c->channel_count && r < c->rank_count; r++)
		changes += of_rank[r] != of_rank[c->next[channel * c->rank_count + r]];
	if (changes > machines && machines > 1)
		snprintf(f->what + used, sizeof(f->what) - used,
			 "; by their subnets they sit on %zu machines, and the ring changes machines %zu times where "
			 "%zu would do",
			 machines, changes, machines);
	free(of_rank);
}

void judge_node_count(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	size_t shared = 0;

	for (size_t r = 0; r < c->rank_count; r++)	/* a host with one rank on a device that is not its first */
		shared += c->ranks[r].present && c->ranks[r].cuda_dev == 0 && c->ranks[r].nvml_dev > 0;
	if (c->planned) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "a planned job");
	} else if (c->said_nodes > 0 && (size_t)c->said_nodes != c->host_count && !j->m->log.torn) {
		size_t present = 0;

		for (size_t r = 0; r < c->rank_count; r++)
			present += c->ranks[r].present;
		if (present < c->rank_count) {
			judge_needs(f, "the logs of the other hosts", "not all ranks speak");
			return;
		}
		judge_cite(f, c->at);
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "NCCL counts %d nodes on %zu hosts", c->said_nodes,
			  c->host_count);
		judge_advise(f, "NCCL_HOSTID or containers split or merge hosts: connections inside a machine may use "
				"the network");
	} else if (shared && c->host_count == c->rank_count) {
		for (size_t r = 0; r < c->rank_count; r++)
			if (c->ranks[r].nvml_dev > 0)
				judge_cite(f, c->ranks[r].at);
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "%zu of %zu hosts show one GPU that is not their machine's first: containers of "
			  "the same machine count as nodes, and talk over the network",
			  shared, c->host_count);
		say_machine_changes(j, f);
		judge_advise(f, "give the containers of a machine one host name or one NCCL_HOSTID, and share its "
				"/dev/shm and GPUs; "
				"order ranks by machine");
	} else {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu hosts", c->host_count);
	}
}

/* Variables that rightly differ from process to process. */
static bool is_private(const char *name)
{
	static const char *const names[] = { "NCCL_DEBUG_FILE",		  "NCCL_HOSTID",
					     "NCCL_GRAPH_DUMP_FILE",	  "NCCL_TOPO_DUMP_FILE",
					     "NCCL_GRAPH_DUMP_FILE_RANK", "NCCL_COMM_ID" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

void judge_hosts_agree(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_log *l = &j->m->log;
	const struct topo_note *mismatch = NULL;
	size_t *listed = topo_alloc(l->host_count, sizeof(*listed)), shortest = SIZE_MAX, longest = 0, few = 0;

	for (size_t i = 0; i < l->note_count; i++)
		if (l->notes[i].kind == NOTE_VERSION_MISMATCH && !mismatch)
			mismatch = &l->notes[i];
	for (size_t i = 0; i < l->nic_count; i++)
		listed[l->nics[i].host] += !strchr(l->nics[i].name, '/');
	for (size_t h = 0; h < l->host_count; h++) {
		if (listed[h] && listed[h] < shortest) {
			shortest = listed[h];
			few = h;
		}
		longest = listed[h] > longest ? listed[h] : longest;
	}
	free(listed);
	if (l->host_count < 2 || !j->m->has_log) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "%s", j->m->has_log ? "one host" : "no log");
		return;
	}
	if (mismatch) {
		judge_cite(f, mismatch->at);
		judge_say(f, TOPO_FAULT, TOPO_ERROR, "%s", mismatch->text);
		judge_advise(f, "one NCCL build on all hosts: check LD_LIBRARY_PATH there");
		return;
	}
	for (size_t i = 1; i < l->setting_count; i++) {
		const struct topo_setting *a = &l->settings[i - 1], *b = &l->settings[i];

		if (a->name != b->name || a->value == b->value || a->host == b->host || is_private(a->name))
			continue;
		judge_cite(f, a->at);
		judge_cite(f, b->at);
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "%s is %s on %s and %s on %s", a->name, a->value,
			  host_name(j, a->host), b->value, host_name(j, b->host));
		judge_advise(f, "set it alike on all hosts: NCCL's ranks must agree on rings and protocols");
		return;
	}
	if (longest && shortest != longest) {
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "hosts list different numbers of NICs: %s lists %zu, others %zu",
			  l->hosts[few].name, shortest, longest);
		judge_advise(f, "NCCL uses what the poorest host has, or hangs: name a common subset in NCCL_IB_HCA, "
				"or leave the host out");
		return;
	}
	judge_say(f, TOPO_OK, TOPO_INFO, "%zu settings agree over %zu hosts", l->setting_count, l->host_count);
}

void judge_interface(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_log *l = &j->m->log;
	size_t interfaces = 0, machines = l->host_count > 0;

	for (size_t h = 1; h < l->host_count; h++)
		machines += l->hosts[h].machine != l->hosts[0].machine;
	for (size_t i = 0; i < l->note_count; i++) {
		const struct topo_note *n = &l->notes[i];

		if (n->kind != NOTE_INTERFACE)
			continue;
		interfaces++;
		if (strcmp(n->text, "lo") && strncmp(n->text, "docker", 6) && strncmp(n->text, "virbr", 5))
			continue;
		if (machines < 2)
			continue;
		judge_cite(f, n->at);
		judge_say(f, TOPO_FAULT, TOPO_ERROR, "%s uses interface %s, which reaches no other host",
			  host_name(j, n->host), n->text);
		judge_advise(f, "set NCCL_SOCKET_IFNAME to the interface that joins the hosts");
		return;
	}
	if (machines < 2)
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "%s", j->m->has_log ? "one machine" : "no log");
	else if (!interfaces)
		judge_needs(f, "a log with INIT lines", "no Bootstrap line");
	else
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu interface lines", interfaces);
}

void judge_crossnic(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_log *l = &j->m->log;
	const struct topo_note *ring[2] = { NULL, NULL };
	bool seen = false;

	for (size_t i = 0; i < l->note_count; i++) {
		struct topo_span s = { l->notes[i].text, l->notes[i].text + strlen(l->notes[i].text) };
		int32_t cross;

		if (l->notes[i].kind != NOTE_PATTERN || !topo_take(&s, "Pattern 4, crossNic ") ||
		    !topo_take_int(&s, &cross))
			continue;
		seen = true;
		if (!ring[cross != 0])
			ring[cross != 0] = &l->notes[i];
	}
	if (!seen) {
		if (j->m->has_log && l->host_count > 1)
			judge_needs(f, "NCCL_DEBUG_SUBSYS with GRAPH", "the search's result is not printed");
		else
			judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "%s", j->m->has_log ? "one host" : "no log");
	} else if (ring[0] && ring[1] && ring[0]->host != ring[1]->host) {
		judge_cite(f, ring[0]->at);
		judge_cite(f, ring[1]->at);
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "%s chose rings over one NIC, %s rings that cross NICs: alternation cannot close",
			  host_name(j, ring[0]->host), host_name(j, ring[1]->host));
		judge_advise(f, "set NCCL_CROSS_NIC=0 or 1 on all hosts");
	} else {
		judge_say(f, TOPO_OK, TOPO_INFO, "all hosts have crossNic %d", ring[1] != NULL);
	}
}

void judge_nic_mix(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_log *l = &j->m->log;
	const struct topo_nic *ib = NULL, *roce = NULL;
	size_t ibs = 0, roces = 0;

	for (size_t i = 0; i < l->nic_count; i++) {
		const struct topo_nic *n = &l->nics[i];

		if (n->host == 0 && !strcmp(n->net, "IB")) {
			ib = ib ? ib : n;
			ibs++;
		} else if (n->host == 0 && !strcmp(n->net, "RoCE")) {
			roce = roce ? roce : n;
			roces++;
		}
	}
	if (!ib && !roce) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "no NET/IB list");
	} else if (ib && roce) {
		judge_cite(f, ib->at);
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "the NIC list mixes %zu InfiniBand ports (%s, ...) with %zu Ethernet ports (%s, ...)", ibs,
			  ib->name, roces, roce->name);
		judge_advise(f, "name the ports of one network in NCCL_IB_HCA: a ring must not join the two");
	} else {
		judge_say(f, TOPO_OK, TOPO_INFO, "%s only", ib ? "InfiniBand" : "Ethernet");
	}
}

void judge_sharp(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_log *l = &j->m->log;

	judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "not asked for");
	for (size_t i = 0; i < l->note_count; i++)
		if (l->notes[i].kind == NOTE_SHARP) {
			judge_cite(f, l->notes[i].at);
			judge_say(f, TOPO_FAULT, TOPO_INFO, "SHARP could not be set up; NCCL goes on without: %s",
				  l->notes[i].text);
			judge_advise(f, "ask whether the aggregation manager runs, or unset NCCL_COLLNET_ENABLE");
		}
}

void judge_graph_nic(const struct topo_judging *j, struct topo_finding *f)
{
	size_t rings = 0, crossed = 0;
	int crossnic = 0;

	for (size_t i = 0; i < j->m->graphs.count; i++) {
		const struct topo_graph *g = &j->m->graphs.at[i];

		for (size_t k = 0; k < g->channel_count && (g->id == 0 || g->pattern == 4); k++) {
			rings++;
			if (g->channels[k].net_in == g->channels[k].net_out)
				continue;
			crossed++;
			crossnic = g->crossnic;
			judge_cite(f, g->channels[k].at);
		}
	}
	if (!j->m->graphs.count)
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "no graph file");
	else if (!crossed)
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu ring channels", rings);
	else {
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "%zu of %zu ring channels enter the node on one NIC and leave it on another "
			  "(crossnic %d)",
			  crossed, rings, crossnic);
		judge_advise(f, "neighbours receive on their first NIC: such a ring crosses rails at each hop unless "
				"NCCL alternates it "
				"(2.20.3 to 2.27, or crossnic 2); NCCL_CROSS_NIC=0 avoids it");
	}
}
