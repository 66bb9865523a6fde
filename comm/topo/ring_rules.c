/*
 * comm/topo/ring_rules.c - judges of the rings that NCCL made: whole, in host order, on enough channels.
 */
#include "comm/topo/judges.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct topo_edge *ring_edge(const struct topo_comm *c, size_t channel, size_t from)
{
	int32_t to = c->next[channel * c->rank_count + from];

	return to < 0 ? NULL : topo_edge_find(c, channel, (int32_t)from, to);
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

	if (!judge_several_hosts(j, f))
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
		if (c->ranks[r].host == most && ring_edge(c, 0, r) && !judge_in_host(c, ring_edge(c, 0, r)))
			judge_cite(f, ring_edge(c, 0, r)->send.at);
	judge_cite(f, c->at);
	judge_say(f, TOPO_FAULT, TOPO_ERROR,
		  "a channel changes hosts %zu times where %zu hosts need %zu: each excess hop is one "
		  "more crossing of the network (host %s is left %zu times)",
		  worst, c->host_count, c->host_count, judge_host_name(j, most), runs[most]);
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

	if (judge_several_hosts(j, f)) {
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
		nics += l->nics[i].host == host && !judge_is_socket(&l->nics[i]) && strcmp(l->nics[i].net, "RoCE");
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
