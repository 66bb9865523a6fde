/*
 * comm/topo/node_rules.c - judges of node layout, and of rings against it.
 *
 * What an idle machine says of GPU link speed is never called a fault: links sleep at
 * generation 1.  Only HCA ports 1 are judged: the second port of a card is often left empty.
 */
#include "comm/topo/judges.h"

#include "bench/base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *node_label(const struct topo_node *n)
{
	return *n->host ? n->host : n->source;
}

/* The nodes that hwloc or sysfs described; NCCL's XML has a judge of its own. */
static bool real_nodes(const struct topo_judging *j, struct topo_finding *f)
{
	for (size_t i = 0; i < j->m->node_count; i++)
		if (!j->m->nodes[i].nccl)
			return true;
	judge_needs(f, "--hwloc", "no node layout");
	return false;
}

static const char *bus_text(uint64_t bus, char out[24])
{
	snprintf(out, 24, "%04llx:%02llx:%02llx.%llx", (unsigned long long)(bus >> 20),
		 (unsigned long long)(bus >> 12 & 0xff), (unsigned long long)(bus >> 4 & 0xff),
		 (unsigned long long)(bus & 0xf));
	return out;
}

void judge_nccl_topo(const struct topo_judging *j, struct topo_finding *f)
{
	size_t files = 0, defects = 0;
	const struct topo_defect *first = NULL;

	for (size_t i = 0; i < j->m->node_count; i++) {
		const struct topo_node *n = &j->m->nodes[i];

		files += n->nccl;
		for (size_t k = 0; k < n->defect_count; k++, defects++) {
			first = first ? first : &n->defects[k];
			judge_cite(f, n->defects[k].at);
		}
	}
	if (!files)
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "no topology file of NCCL's");
	else if (!defects)
		judge_say(f, TOPO_OK, TOPO_INFO, "no contradiction");
	else {
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "%zu mistakes; the first: %s", defects, first->text);
		judge_advise(
			f,
			"correct the file, or unset NCCL_TOPO_FILE and compare with what NCCL_TOPO_DUMP_FILE writes");
	}
}

void judge_locality(const struct topo_judging *j, struct topo_finding *f)
{
	size_t lost = 0, devices = 0;
	const struct topo_node *where = NULL;
	bool flat = false;

	if (!real_nodes(j, f))
		return;
	for (size_t i = 0; i < j->m->node_count; i++) {
		const struct topo_node *n = &j->m->nodes[i];

		flat = flat || (n->gpu_count && !n->bridges && !n->nccl);
		for (size_t g = 0; g < n->gpu_count && n->packages > 1; g++, devices++)
			if (!n->gpus[g].located) {
				lost++;
				where = n;
			}
		for (size_t h = 0; h < n->hca_count && n->packages > 1; h++, devices++)
			if (!n->hcas[h].located && !n->nccl) {
				lost++;
				where = n;
			}
	}
	if (!lost && flat) {
		judge_needs(f, "an XML with all I/O objects (lstopo --whole-io)",
			    "PCI bridges are not in the XML: PIX and PXB look "
			    "like PHB");
		return;
	}
	if (!lost) {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu devices have a socket", devices);
		return;
	}
	judge_say(f, TOPO_FAULT, TOPO_INFO, "%zu of %zu devices of %s have no socket", lost, devices,
		  node_label(where));
	judge_advise(f, "a virtual machine or a filtered XML: give NCCL_TOPO_FILE, or write the XML on the host with "
			"all I/O objects");
}

/* Nearest HCA whose first port is active. */
static uint8_t nearest(const struct topo_node *n, size_t gpu, size_t *which)
{
	uint8_t best = CLASS_UNKNOWN;

	for (size_t h = 0; h < n->hca_count; h++)
		if (n->hcas[h].ports[0].state == 4 && n->gpu_hca[gpu * n->hca_count + h] < best) {
			best = n->gpu_hca[gpu * n->hca_count + h];
			*which = h;
		}
	return best;
}

void judge_nic_distance(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	const struct topo_log *l = &j->m->log;
	size_t judged = 0, wrong = 0, forced = 0, said_far = 0, said = 0;
	char sentence[256] = "", bus[24];

	if (c->host_count < 2 || c->planned) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, c->planned ? "a planned job" : "one host");
		return;
	}
	for (size_t i = 0; i < c->edge_count; i++) {
		const struct topo_edge *e = &c->edges[i];

		for (int side = 0; side < 2; side++) {
			const struct topo_end *end = side ? &e->recv : &e->send;
			int32_t rank = side							? e->to
				       : end->proxy >= 0 && end->proxy < (int32_t)c->rank_count ? end->proxy
												: e->from;
			const struct topo_node *n;
			uint32_t gpu, hca;
			uint8_t class, best;
			size_t better = 0;

			if (!e->ring || e->via != TOPO_VIA_NET || !end->seen || !c->ranks[rank].present)
				continue;
			n = topo_model_facts(j->m, c->ranks[rank].host);
			gpu = n && n->gpu_hca ? topo_node_gpu(n, c->ranks[rank].bus) : (uint32_t)TOPO_NONE;
			hca = n ? topo_node_hca(n, l->nics[end->nic].name) : (uint32_t)TOPO_NONE;
			if (gpu == TOPO_NONE || hca == TOPO_NONE)
				continue;
			judged++;
			class = n->gpu_hca[gpu * n->hca_count + hca];
			best = nearest(n, gpu, &better);
			if (class != CLASS_SYS)
				continue;
			judge_cite(f, end->at);
			if (best < CLASS_SYS && !wrong++)
				snprintf(sentence, sizeof(sentence),
					 "%s: rank %d on GPU %s uses %s across sockets (SYS) while %s is %s",
					 l->hosts[c->ranks[rank].host].name, rank, bus_text(n->gpus[gpu].bus, bus),
					 n->hcas[hca].name, n->hcas[better].name, topo_class_names[best]);
			else if (best >= CLASS_SYS && !forced++ && !*sentence)
				snprintf(sentence, sizeof(sentence),
					 "%s: rank %d on GPU %s uses %s across sockets (SYS), and no nearer "
					 "active HCA exists",
					 l->hosts[c->ranks[rank].host].name, rank, bus_text(n->gpus[gpu].bus, bus),
					 n->hcas[hca].name);
		}
	}
	for (size_t i = 0; i < l->note_count; i++)
		if (l->notes[i].kind == NOTE_DISTANCE) {
			said += l->notes[i].count;
			if (!strstr(l->notes[i].text, "SYS"))
				continue;
			said_far += l->notes[i].count;
			if (!judged)
				judge_cite(f, l->notes[i].at);
		}
	if (wrong) {
		judge_say(f, TOPO_FAULT, TOPO_ERROR, "%s (%zu of %zu ring ends)", sentence, wrong, judged);
		judge_advise(
			f, "list the near HCAs in NCCL_IB_HCA, or correct NUMA, ACS or IOMMU settings that hide them");
	} else if (forced) {
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "%s (%zu of %zu ring ends)", sentence, forced, judged);
		judge_advise(f, "let GPUs of the HCA's socket be first and last in the ring: order "
				"CUDA_VISIBLE_DEVICES or ranks so");
	} else if (judged) {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu ring ends, none across sockets", judged);
	} else if (said_far) {
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "NCCL calls the NIC of %zu of %zu GPUs distant (SYS)", said_far,
			  said);
		judge_advise(f, "--hwloc tells whether a nearer HCA exists; in containers give NCCL_TOPO_FILE");
	} else {
		judge_needs(f, "--hwloc of the hosts", "which socket GPUs and HCAs are on is not in the log");
	}
}

/* ---- CPU binding ---- */

enum { CPUS_MAX = 4096 };
struct cpus { uint64_t bits[CPUS_MAX / 64]; };

/* "0-31,64-95"; false: not a list. */
static bool cpus_list(struct topo_span s, struct cpus *set)
{
	uint64_t low, high;

	*set = (struct cpus){ { 0 } };
	do {
		if (!topo_take_u64(&s, &low))
			return false;
		high = low;
		if (topo_take(&s, "-") && !topo_take_u64(&s, &high))
			return false;
		if (high < low || high >= CPUS_MAX)
			return false;
		for (uint64_t i = low; i <= high; i++)
			set->bits[i / 64] |= 1ull << i % 64;
	} while (topo_take(&s, ","));
	return s.at == s.end;
}

/* "ff,fff00000": groups of 32, the highest first. */
static bool cpus_mask(struct topo_span s, struct cpus *set)
{
	uint64_t group;

	*set = (struct cpus){ { 0 } };
	do {
		if (!topo_take_hex(&s, &group) || group > UINT32_MAX)
			return false;
		for (size_t i = ARRAY_LEN(set->bits); i-- > 1;)
			set->bits[i] = set->bits[i] << 32 | set->bits[i - 1] >> 32;
		set->bits[0] = set->bits[0] << 32 | group;
	} while (topo_take(&s, ","));
	return s.at == s.end;
}

static bool cpus_meet(const struct cpus *a, const struct cpus *b)
{
	for (size_t i = 0; i < ARRAY_LEN(a->bits); i++)
		if (a->bits[i] & b->bits[i])
			return true;
	return false;
}

/* The CPUs of the socket of the GPU that a host's NCCL calls `dev`. */
static bool cpus_of_gpu(const struct topo_model *m, uint32_t host, int32_t dev, struct cpus *set)
{
	const struct topo_node *n = topo_model_facts(m, host);
	const struct topo_log *l = &m->log;
	bool by_cuda = l->version_number && l->version_number < 20500;

	for (size_t i = 0; n && i < l->comm_count; i++)
		for (size_t r = 0; r < l->comms[i].rank_count; r++) {
			const struct topo_rank *rank = &l->comms[i].ranks[r];
			uint32_t gpu;

			if (!rank->present || rank->host != host ||
			    (by_cuda || rank->nvml_dev < 0 ? rank->cuda_dev : rank->nvml_dev) != dev)
				continue;
			gpu = topo_node_gpu(n, rank->bus);
			if (gpu != TOPO_NONE && n->gpus[gpu].located && n->gpus[gpu].cpus)
				return cpus_list((struct topo_span){ n->gpus[gpu].cpus,
								     n->gpus[gpu].cpus + strlen(n->gpus[gpu].cpus) },
						 set);
		}
	return false;
}

/* What a line tells of the process's CPUs and of those near its GPU; false: not enough. */
static bool affinity_sets(const struct topo_model *m, const struct topo_note *n, struct cpus *process,
			  struct cpus *near)
{
	struct topo_span s = { n->text, n->text + strlen(n->text) }, set = s;
	int32_t dev;

	if (topo_take_past(&s, "(GPU affinity = ") && topo_take_word(&s, " ;", &set) && cpus_list(set, near) &&
	    topo_take_past(&s, "CPU affinity = ") && topo_take_word(&s, " )", &set))
		return cpus_list(set, process);		/* 2.28 and later says both */
	s = (struct topo_span){ n->text, n->text + strlen(n->text) };
	if (!topo_take(&s, "GPU ") || !topo_take_int(&s, &dev) || !topo_take(&s, " to ") || s.at == s.end)
		return false;
	if (memchr(s.at, '-', topo_span_length(s)) || m->log.version_number >= 22700 ? !cpus_list(s, process)
										      : !cpus_mask(s, process))
		return false;
	return cpus_of_gpu(m, n->host, dev, near);
}

/* Before 2.28 NCCL names only the CPUs that it binds its threads to, and nothing when none is left: silence proves
 * nothing, because lines are lost for many reasons. */
void judge_cpu_binding(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_log *l = &j->m->log;
	size_t lines = 0, judged = 0, apart = 0;
	const struct topo_note *first = NULL;
	struct cpus process, near;

	for (size_t i = 0; i < l->note_count; i++) {
		if (l->notes[i].kind != NOTE_AFFINITY)
			continue;
		lines++;
		if (!affinity_sets(j->m, &l->notes[i], &process, &near))
			continue;
		judged++;
		if (cpus_meet(&process, &near))
			continue;
		apart++;
		first = first ? first : &l->notes[i];
		judge_cite(f, l->notes[i].at);
	}
	if (apart) {
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "%zu of %zu processes are bound to CPUs far from their GPU, "
			  "such as on %s: %.120s", apart, judged, l->hosts[first->host].name, first->text);
		judge_advise(f, "bind each process near its GPU: 'mpirun --map-by ppr:N:socket --bind-to socket', or "
				"'srun --cpu-bind=map_ldom:...' in the order of the GPUs");
	} else if (judged) {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu processes", judged);
	} else if (!j->m->has_log) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "no log");
	} else {
		judge_needs(f, lines ? "--hwloc of the hosts" : "a log with INIT lines",
			    lines ? "which CPUs a GPU is near to is not in the log" : "no line of CPU affinity");
	}
}

void judge_gpu_far(const struct topo_judging *j, struct topo_finding *f)
{
	size_t far = 0, gpus = 0, active = 0;
	const struct topo_node *where = NULL;
	char bus[24];

	if (!real_nodes(j, f))
		return;
	for (size_t i = 0; i < j->m->node_count; i++) {
		const struct topo_node *n = &j->m->nodes[i];
		size_t local = 0;

		for (size_t h = 0; h < n->hca_count; h++)
			local += n->hcas[h].ports[0].state == 4;
		active += local;
		for (size_t g = 0; g < n->gpu_count && local; g++, gpus++)
			if (nearest(n, g, &(size_t){ 0 }) == CLASS_SYS && !far++) {
				where = n;
				bus_text(n->gpus[g].bus, bus);
			}
	}
	if (!gpus)
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO,
			  active ? "no GPU" : "no GPU with an active HCA in the node");
	else if (!far)
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu GPUs", gpus);
	else {
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "%zu of %zu GPUs reach an active HCA only across sockets, such as %s of %s", far, gpus, bus,
			  node_label(where));
		judge_advise(
			f,
			"let GPUs near an HCA be the ring's first and last (order of CUDA_VISIBLE_DEVICES or ranks)");
	}
}

void judge_sub_numa(const struct topo_judging *j, struct topo_finding *f)
{
	size_t pairs = 0, gpus = 0;
	const struct topo_node *where = NULL;

	if (!real_nodes(j, f))
		return;
	for (size_t i = 0; i < j->m->node_count; i++) {
		const struct topo_node *n = &j->m->nodes[i];

		for (size_t g = 0; g < n->gpu_count; g++, gpus++)
			if (nearest(n, g, &(size_t){ 0 }) == CLASS_SUBNUMA) {
				pairs++;
				where = n;
			}
	}
	if (!pairs) {
		judge_say(f, gpus ? TOPO_OK : TOPO_NOT_APPLICABLE, TOPO_INFO, "%zu GPUs", gpus);
		return;
	}
	judge_say(f, TOPO_FAULT, TOPO_INFO,
		  "the nearest active HCA of %zu of %zu GPUs is on their socket but another NUMA node (%s): NCCL "
		  "takes that for SYS",
		  pairs, gpus, node_label(where));
	judge_advise(
		f,
		"GPUDirect RDMA needs NCCL_NET_GDR_LEVEL=SYS here; consider one NUMA node per socket (SNC off, NPS1)");
}

void judge_port_active(const struct topo_judging *j, struct topo_finding *f)
{
	static const char *const states[] = { "?", "down", "initialising", "armed", "active" };
	size_t down = 0, active = 0;
	char list[128] = "";
	bool used = false;

	if (!real_nodes(j, f))
		return;
	for (size_t i = 0; i < j->m->node_count; i++) {
		const struct topo_node *n = &j->m->nodes[i];

		for (size_t h = 0; h < n->hca_count; h++) {
			int state = n->hcas[h].ports[0].state;
			size_t length = strlen(list);

			active += state == 4;
			if (state < 1 || state > 3)
				continue;
			snprintf(list + length, sizeof(list) - length, "%s%s %s %s", down++ ? ", " : "", node_label(n),
				 n->hcas[h].name, states[state]);
			for (size_t k = 0; k < j->m->log.nic_count; k++)
				used = used || !strcmp(j->m->log.nics[k].name, n->hcas[h].name);
			for (size_t k = 0; k < j->m->node_count; k++) {
				uint32_t same = topo_node_hca(&j->m->nodes[k], n->hcas[h].name);

				used = used || (same != TOPO_NONE && j->m->nodes[k].hcas[same].ports[0].state == 4);
			}
		}
	}
	if (!down && !active)
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "no HCA");
	else if (!down)
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu ports", active);
	else {
		judge_say(f, TOPO_FAULT, used ? TOPO_ERROR : TOPO_WARNING, "%zu of %zu HCA ports are not active: %s%s",
			  down, down + active, list, used ? "; other hosts use these" : "");
		judge_advise(f, "a cable, a switch port or the subnet manager: ibstat and iblinkinfo tell which");
	}
}

void judge_rate(const struct topo_judging *j, struct topo_finding *f)
{
	size_t compared = 0;

	for (size_t i = 0; i < j->m->node_count; i++)
		for (size_t h = 0; h < j->m->nodes[i].hca_count; h++) {
			const struct topo_hca *a = &j->m->nodes[i].hcas[h];
			size_t same = 0, other = 0;
			double usual = 0;

			if (a->ports[0].gbps <= 0 || j->m->nodes[i].nccl)
				continue;
			for (size_t k = 0; k < j->m->node_count; k++) {
				uint32_t b = topo_node_hca(&j->m->nodes[k], a->name);
				double rate = b == TOPO_NONE ? 0 : j->m->nodes[k].hcas[b].ports[0].gbps;

				same += rate > 0 && rate >= a->ports[0].gbps;
				other += rate > a->ports[0].gbps;
				usual = rate > usual ? rate : usual;
			}
			compared += same > 1;
			if (other * 2 <= same || f->verdict == TOPO_FAULT)
				continue;
			judge_say(f, TOPO_FAULT, TOPO_ERROR, "%s of %s runs at %.1f GB/s, on most hosts at %.1f",
				  a->name, node_label(&j->m->nodes[i]), a->ports[0].gbps, usual);
			judge_advise(f, "a cable, FEC or a port split: compare iblinkinfo of both ends");
		}
	if (f->verdict != TOPO_FAULT && compared)
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu HCAs compared", compared);
	else if (f->verdict != TOPO_FAULT)
		judge_needs(f, "--sysfs of several hosts", "no rates to compare");
}

/* How much a counter grew; false: not told twice, or set back in between. */
static bool grew(const struct topo_port *p, enum topo_counter i, uint64_t *by)
{
	if (!p->before.said[i] || !p->after.said[i] || p->after.value[i] < p->before.value[i])
		return false;
	*by = p->after.value[i] - p->before.value[i];
	return true;
}

static void counters_of_port(const struct topo_node *n, const struct topo_hca *h, struct topo_finding *f)
{
	static const uint64_t words_least = 1 << 20;	/* 4 MB: a port that sent less tells nothing of congestion */
	const struct topo_port *p = &h->ports[0];
	uint64_t by, words;

	for (size_t i = COUNT_DOWNED; i <= COUNT_DISCARDS; i++)
		if (grew(p, i, &by) && by) {
			judge_say(f, TOPO_FAULT, TOPO_WARNING, "%s of %s: %s grew by %llu during the run", h->name,
				  node_label(n), topo_counter_names[i], (unsigned long long)by);
			judge_advise(f, i == COUNT_DISCARDS ? "congestion or a port that is down on the way: look at "
							      "the switches' counters (perfquery)"
							    : "a cable or a transceiver: reseat, clean or replace it");
			return;
		}
	if (grew(p, COUNT_WAIT, &by) && grew(p, COUNT_DATA, &words) && words >= words_least && by > words / 19) {
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "%s of %s waited for credits %.0f %% of its ticks (port_xmit_wait against port_xmit_data)",
			  h->name, node_label(n), 100 * (double)by / ((double)by + (double)words));
		judge_advise(f, "congestion: uplink-bound and static-collision tell where, with --fabric and --routes");
	}
}

/* By more than 5 % of wait + data, which is a nineteenth of data, a port counts as congested. */
void judge_counters(const struct topo_judging *j, struct topo_finding *f)
{
	size_t ports = 0;

	for (size_t i = 0; i < j->m->node_count; i++)
		for (size_t h = 0; h < j->m->nodes[i].hca_count; h++) {
			const struct topo_hca *a = &j->m->nodes[i].hcas[h];

			if (!a->ports[0].before.source || !a->ports[0].after.source)
				continue;
			ports++;
			if (f->verdict != TOPO_FAULT)
				counters_of_port(&j->m->nodes[i], a, f);
		}
	if (!ports)
		judge_needs(f, "--sysfs twice: gathered before the run and after it",
			    "counters run since the host booted");
	else if (f->verdict != TOPO_FAULT)
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu ports", ports);
}

/* What should be alike: counts, distances, NVLinks. */
static bool alike(const struct topo_node *a, const struct topo_node *b, char why[96])
{
	size_t up_a = 0, up_b = 0;

	for (size_t i = 0; i < a->hca_count; i++)
		up_a += a->hcas[i].ports[0].state == 4;
	for (size_t i = 0; i < b->hca_count; i++)
		up_b += b->hcas[i].ports[0].state == 4;
	if (a->gpu_count != b->gpu_count)
		snprintf(why, 96, "%zu GPUs against %zu", a->gpu_count, b->gpu_count);
	else if (up_a != up_b)
		snprintf(why, 96, "%zu active HCAs against %zu", up_a, up_b);
	else if (a->packages != b->packages || a->numa_nodes != b->numa_nodes)
		snprintf(why, 96, "%d sockets and %d NUMA nodes against %d and %d", a->packages, a->numa_nodes,
			 b->packages, b->numa_nodes);
	else if (a->hca_count != b->hca_count)
		snprintf(why, 96, "%zu HCAs against %zu", a->hca_count, b->hca_count);
	else if (a->gpu_hca && b->gpu_hca && memcmp(a->gpu_hca, b->gpu_hca, a->gpu_count * a->hca_count))
		snprintf(why, 96, "other distances between GPUs and HCAs");
	else if (a->nvlinks && b->nvlinks &&
		 memcmp(a->nvlinks, b->nvlinks, a->gpu_count * a->gpu_count * sizeof(*a->nvlinks)))
		snprintf(why, 96, "other NVLinks");
	else
		return true;
	return false;
}

void judge_nodes_equal(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_node *first = NULL;
	size_t compared = 0;
	char why[96] = "";

	for (size_t i = 0; i < j->m->node_count; i++) {
		const struct topo_node *n = &j->m->nodes[i];

		if (n->nccl || !n->gpu_count)
			continue;
		first = first ? first : n;
		compared++;
		if (f->verdict == TOPO_FAULT || alike(first, n, why))
			continue;
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "%s differs from %s: %s", node_label(n), node_label(first), why);
		judge_advise(f, "NCCL goes by the poorest host: exclude it, or repair it");
	}
	if (compared > 1 && f->verdict != TOPO_FAULT)
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu hosts", compared);
	else if (compared < 2)
		judge_needs(f, "--hwloc of two hosts or more", "one layout has nothing to be compared with");
}

void judge_pcie_width(const struct topo_judging *j, struct topo_finding *f)
{
	size_t known = 0;

	for (size_t i = 0; i < j->m->node_count; i++)
		for (size_t h = 0; h < j->m->nodes[i].hca_count; h++) {
			const struct topo_hca *a = &j->m->nodes[i].hcas[h];

			if (a->width <= 0 || a->width_max <= 0)
				continue;
			known++;
			if (a->width >= a->width_max || f->verdict == TOPO_FAULT)
				continue;
			judge_say(f, TOPO_FAULT, TOPO_ERROR, "%s of %s has %d of %d PCIe lanes", a->name,
				  node_label(&j->m->nodes[i]), a->width, a->width_max);
			judge_advise(f, "reseat the card, or move it to a full slot");
		}
	if (!known)
		judge_needs(f, "--sysfs", "link widths are in sysfs only");
	else if (f->verdict != TOPO_FAULT)
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu HCAs", known);
}

void judge_pcie_bound(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_bound *pcie = topo_bound_of(&j->bounds, "pcie"), *hca = topo_bound_of(&j->bounds, "hca");

	if (!pcie || !hca) {
		judge_needs(f, "--hwloc with link speeds, and --fabric or --sysfs",
			    "the speeds of PCIe and HCAs are not both known");
	} else if (pcie->ideal < hca->ideal) {
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "PCIe limits the rings to %.1f GB/s where the HCAs would carry %.1f (%s)", pcie->ideal,
			  hca->ideal, pcie->where);
		judge_advise(f, "a slower slot than the HCA needs; compare lspci -vv LnkSta with LnkCap");
		f->now_gbps = pcie->ideal;
		f->mended_gbps = hca->ideal;
	} else {
		judge_say(f, TOPO_OK, TOPO_INFO, "PCIe %.1f GB/s, HCAs %.1f", pcie->ideal, hca->ideal);
	}
}

void judge_nvlink_equal(const struct topo_judging *j, struct topo_finding *f)
{
	size_t matrices = 0;

	for (size_t i = 0; i < j->m->node_count; i++) {
		const struct topo_node *n = &j->m->nodes[i];
		size_t count[64] = { 0 };
		int mode = 0;

		if (!n->nvlinks)
			continue;
		matrices++;
		for (size_t k = 0; k < n->gpu_count * n->gpu_count; k++)
			if (k / n->gpu_count != k % n->gpu_count && n->nvlinks[k] > 0 && n->nvlinks[k] < 64)
				count[n->nvlinks[k]]++;
		for (int k = 1; k < 64; k++)
			mode = count[k] > count[mode] ? k : mode;
		for (size_t k = 0; k < n->gpu_count * n->gpu_count && f->verdict != TOPO_FAULT; k++) {
			size_t a = k / n->gpu_count, b = k % n->gpu_count;
			int links = n->nvlinks[k], back = n->nvlinks[b * n->gpu_count + a];

			/* Cube meshes mix single and double pairs by design; one odd direction is never design. */
			if (a == b || links >= mode || (links == back && count[links < 64 ? links : 0] > 2))
				continue;
			if (links == 0 && back == 0)
				continue;
			judge_say(f, TOPO_FAULT, TOPO_ERROR, "%s: GPUs %zu and %zu have %d NVLinks, others %d",
				  node_label(n), a, b, links, mode);
			judge_advise(f, "nvidia-smi nvlink -s tells which link is down; reset or replace the board");
		}
	}
	if (!matrices)
		judge_needs(f, "--hwloc written with NVML", "no NVLink matrix");
	else if (f->verdict != TOPO_FAULT)
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu matrices", matrices);
}

/* Best bottleneck over all paths through `count` GPUs that start and end as the segment does. */
static int best_path(const struct topo_node *n, uint32_t *gpus, size_t count, size_t at, int least)
{
	int best = 0;

	if (at + 1 >= count)
		return at + 1 == count ? (n->nvlinks[gpus[at - 1] * n->gpu_count + gpus[at]] < least
						  ? n->nvlinks[gpus[at - 1] * n->gpu_count + gpus[at]]
						  : least)
				       : least;
	for (size_t i = at; i + 1 < count; i++) {	/* the last one stays last */
		uint32_t swap = gpus[at];
		int links = n->nvlinks[gpus[at - 1] * n->gpu_count + gpus[i]], got;

		gpus[at] = gpus[i];
		gpus[i] = swap;
		got = links <= best ? 0 : best_path(n, gpus, count, at + 1, links < least ? links : least);
		best = got > best ? got : best;
		gpus[i] = gpus[at];
		gpus[at] = swap;
	}
	return best;
}

/* What channel k makes of the host that it enters at rank r: links of its weakest pair now, and of the best path
 * between the same ends.  False: not judged. */
static bool segment_judge(const struct topo_comm *c, size_t k, size_t r, const struct topo_node *n, int *now, int *best)
{
	uint32_t gpus[8];
	size_t count = 0;
	int32_t at = (int32_t)r;

	while (count < ARRAY_LEN(gpus) && c->ranks[at].present && c->ranks[at].host == c->ranks[r].host) {
		gpus[count] = topo_node_gpu(n, c->ranks[at].bus);
		if (gpus[count++] == TOPO_NONE)
			return false;
		at = c->next[k * c->rank_count + (size_t)at];
		if (at < 0 || (size_t)at == r)
			break;
	}
	if (count < 3)
		return false;
	*now = INT32_MAX;
	for (size_t i = 1; i < count; i++) {
		int links = n->nvlinks[gpus[i - 1] * n->gpu_count + gpus[i]];

		*now = links < *now ? links : *now;
	}
	*best = best_path(n, gpus, count, 1, INT32_MAX);
	return true;
}

void judge_ring_in_node(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_comm *c = j->c;
	size_t segments = 0;
	int now, best;

	for (size_t k = 0; k < c->channel_count && f->verdict != TOPO_FAULT; k++)
		for (size_t before = 0; before < c->rank_count && c->closed[k]; before++) {
			size_t r = (size_t)c->next[k * c->rank_count + before];
			const struct topo_node *n =
				c->ranks[r].present ? topo_model_facts(j->m, c->ranks[r].host) : NULL;
			bool enters = c->host_count < 2 ? r == 0 : c->ranks[before].host != c->ranks[r].host;

			if (!n || !n->nvlinks || !enters || !segment_judge(c, k, r, n, &now, &best))
				continue;
			segments++;
			if (best <= now)
				continue;
			judge_say(f, TOPO_FAULT, TOPO_INFO,
				  "channel %zu passes %s over a pair with %d NVLinks where a path with %d exists", k,
				  node_label(n), now, best);
			judge_advise(
				f,
				"worth a graph file (NCCL_GRAPH_FILE) only if the rings inside the node limit the job");
			break;
		}
	if (!segments)
		judge_needs(f, "--hwloc written with NVML, and whole rings", "no ring segment with an NVLink matrix");
	else if (f->verdict != TOPO_FAULT)
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu ring segments", segments);
}
