/*
 * comm/topo/setting_rules.c - judges of settings and of what NCCL found at its start: variables that switch a transport
 * off, hosts that differ, the wrong interface, a network that fell back.
 */
#include "comm/topo/judges.h"

#include "bench/base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

	if (!judge_connections_known(j, f))
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

	if (!judge_several_hosts(j, f) || !judge_connections_known(j, f))
		return;
	for (size_t i = 0; i < j->c->edge_count; i++) {
		const struct topo_edge *e = &j->c->edges[i];
		uint32_t nic = e->send.nic != TOPO_NONE ? e->send.nic : e->recv.nic;

		if (e->via != TOPO_VIA_NET || nic == TOPO_NONE)
			continue;
		if (!judge_is_socket(&l->nics[nic]) && strcmp(e->how, "Socket")) {
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
			  judge_host_name(j, a->host), b->value, judge_host_name(j, b->host));
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
			  judge_host_name(j, n->host), n->text);
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
			  judge_host_name(j, ring[0]->host), judge_host_name(j, ring[1]->host));
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
