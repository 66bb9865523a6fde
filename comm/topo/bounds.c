/*
 * comm/topo/bounds.c - bounds by counting.
 *
 * Nothing here is quadratic in ranks: flows are one per hop between hosts, groups are numbered
 * once per level, and a bound is one pass over the flows.
 */
#include "comm/topo/bounds.h"

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- flows ---- */

void topo_flows_of(const struct topo_comm *c, struct topo_flows *f)
{
	*f = (struct topo_flows){ .channels = c->channel_count };
	for (size_t channel = 0; channel < c->channel_count; channel++)
		for (size_t r = 0; r < c->rank_count; r++) {
			int32_t to = c->next[channel * c->rank_count + r];
			const struct topo_edge *e;
			struct topo_flow flow = { .nic_from = TOPO_NONE,
						  .nic_to = TOPO_NONE,
						  .channel = (uint16_t)channel,
						  .rank_from = (int32_t)r,
						  .rank_to = to };

			if (to < 0 || !c->ranks[r].present || !c->ranks[to].present ||
			    c->ranks[r].host == c->ranks[to].host)
				continue;
			flow.host_from = c->ranks[r].host;
			flow.host_to = c->ranks[to].host;
			e = topo_edge_find(c, channel, (int32_t)r, to);
			if (e && e->send.seen)
				flow.nic_from = e->send.nic;
			if (e && e->recv.seen)
				flow.nic_to = e->recv.nic;
			TOPO_PUSH(f->at, f->count, f->room) = flow;
		}
}

void topo_flows_reorder(const struct topo_model *m, const struct topo_comm *c, const uint32_t *hosts, size_t count,
			struct topo_flows *out)
{
	struct topo_flows now;
	uint32_t *send = topo_alloc(m->log.host_count * c->channel_count, sizeof(*send));
	uint32_t *receive = topo_alloc(m->log.host_count * c->channel_count, sizeof(*receive));

	topo_flows_of(c, &now);
	*out = (struct topo_flows){ .channels = now.channels };
	for (size_t i = 0; i < m->log.host_count * c->channel_count; i++)
		send[i] = receive[i] = TOPO_NONE;
	for (size_t i = 0; i < now.count; i++) {
		const struct topo_flow *f = &now.at[i];

		send[f->host_from * c->channel_count + f->channel] = f->nic_from;
		receive[f->host_to * c->channel_count + f->channel] = f->nic_to;
	}
	for (size_t channel = 0; channel < c->channel_count && count > 1; channel++)
		for (size_t i = 0; i < count; i++) {
			uint32_t from = hosts[i], to = hosts[(i + 1) % count];

			TOPO_PUSH(out->at, out->count, out->room) =
				(struct topo_flow){ .host_from = from,
						    .host_to = to,
						    .rank_from = -1,
						    .rank_to = -1,
						    .channel = (uint16_t)channel,
						    .nic_from = send[from * c->channel_count + channel],
						    .nic_to = receive[to * c->channel_count + channel] };
		}
	topo_flows_release(&now);
	free(send);
	free(receive);
}

void topo_flows_release(struct topo_flows *f)
{
	free(f->at);
	*f = (struct topo_flows){ 0 };
}

/* ---- bounds ---- */

static struct topo_bound *bound_add(struct topo_bounds *b, const char *level)
{
	struct topo_bound *n;

	if (b->count == BOUND_LEVELS)
		return NULL;
	n = &b->at[b->count++];
	*n = (struct topo_bound){ .ideal = INFINITY, .fixed = 0, .worst = INFINITY };
	snprintf(n->level, sizeof(n->level), "%s", level);
	return n;
}

/* How many ring hops each pair of GPUs carries, against its NVLinks. */
static void bound_nvlink(const struct topo_model *m, const struct topo_comm *c, struct topo_bounds *b)
{
	struct topo_bound row = { .ideal = INFINITY };
	struct topo_map hops = { 0 };
	struct topo_bound *n;

	snprintf(row.level, sizeof(row.level), "nvlink");
	for (size_t i = 0; i < c->edge_count; i++) {
		const struct topo_edge *e = &c->edges[i];
		uint64_t key = (uint64_t)(uint32_t)e->from << 32 | (uint32_t)e->to;
		const struct topo_rank *a = &c->ranks[e->from], *z = &c->ranks[e->to];
		const struct topo_node *facts = a->present ? topo_model_facts(m, a->host) : NULL;
		uint32_t x, y, seen;
		double capacity;

		if (!e->ring || e->via != TOPO_VIA_P2P || !facts || !facts->nvlinks || !z->present)
			continue;
		x = topo_node_gpu(facts, a->bus);
		y = topo_node_gpu(facts, z->bus);
		if (x == TOPO_NONE || y == TOPO_NONE || facts->nvlinks[x * facts->gpu_count + y] <= 0)
			continue;
		seen = topo_map_get(&hops, key) == TOPO_NONE ? 1 : topo_map_get(&hops, key) + 1;
		topo_map_set(&hops, key, seen);
		capacity = facts->gpus[x].nvlink_gbps * facts->nvlinks[x * facts->gpu_count + y];
		if ((double)c->channel_count * capacity / seen < row.ideal) {
			row.ideal = (double)c->channel_count * capacity / seen;
			row.capacity = capacity;
			row.hops = seen;
			snprintf(row.where, sizeof(row.where), "%s: rank %d -> %d, %d NVLinks",
				 m->log.hosts[a->host].name, e->from, e->to, facts->nvlinks[x * facts->gpu_count + y]);
		}
	}
	topo_map_release(&hops);
	if (isfinite(row.ideal) && (n = bound_add(b, row.level))) {
		*n = row;
		n->worst = n->fixed = n->ideal;
	}
}

/* Which GPU a rank drives; NULL unknown. */
static const struct topo_gpu *gpu_of(const struct topo_model *m, const struct topo_comm *c, int32_t rank)
{
	const struct topo_rank *r = rank >= 0 && rank < (int32_t)c->rank_count && c->ranks[rank].present
					? &c->ranks[rank] : NULL;
	const struct topo_node *n = r ? topo_model_facts(m, r->host) : NULL;
	uint32_t gpu = n ? topo_node_gpu(n, r->bus) : (uint32_t)TOPO_NONE;

	return gpu == TOPO_NONE ? NULL : &n->gpus[gpu];
}

/* Hops that cross from one socket of a host to another. */
struct crossings {
	const struct topo_model *m;
	struct topo_map hops;		/* host, from, to -> hops */
	struct topo_bound row;
	size_t channels;
};

static void socket_crossing(struct crossings *x, uint32_t host, int from, int to)
{
	const struct topo_node *n = topo_model_facts(x->m, host);
	uint64_t key = (uint64_t)host << 16 | (uint64_t)(from & 0xff) << 8 | (uint64_t)(to & 0xff);
	uint32_t seen;
	double ideal;

	if (!n || n->socket_gbps <= 0 || from < 0 || to < 0 || from == to)
		return;
	seen = topo_map_get(&x->hops, key) == TOPO_NONE ? 1 : topo_map_get(&x->hops, key) + 1;
	topo_map_set(&x->hops, key, seen);
	ideal = (double)x->channels * n->socket_gbps / seen;
	if (ideal >= x->row.ideal)
		return;
	x->row.ideal = x->row.worst = x->row.fixed = ideal;
	x->row.capacity = n->socket_gbps;
	x->row.hops = seen;
	snprintf(x->row.where, sizeof(x->row.where), "%s: %s from socket %d to %d, with NCCL's estimate of it",
		 x->m->log.hosts[host].name, n->socket_link, from, to);
}

/* Between a GPU and the NIC that serves it, and between GPUs that reach each other neither by NVLink nor, as far as
 * is known, otherwise than through the sockets. */
static void bound_sockets(const struct topo_model *m, const struct topo_comm *c, struct topo_bounds *b)
{
	struct crossings x = { .m = m, .channels = c->channel_count, .row = { .ideal = INFINITY, .estimate = true } };
	struct topo_bound *n;

	snprintf(x.row.level, sizeof(x.row.level), "socket");
	for (size_t i = 0; i < c->edge_count; i++) {
		const struct topo_edge *e = &c->edges[i];
		const struct topo_gpu *from = gpu_of(m, c, e->send.proxy >= 0 ? e->send.proxy : e->from);
		const struct topo_gpu *to = gpu_of(m, c, e->to);
		const struct topo_node *facts = from ? topo_model_facts(m, c->ranks[e->from].host) : NULL;

		if (!e->ring)
			continue;
		if (e->via == TOPO_VIA_NET) {
			const struct topo_hca *send = e->send.nic == TOPO_NONE ? NULL : topo_model_hca(m, e->send.nic);
			const struct topo_hca *receive =
				e->recv.nic == TOPO_NONE ? NULL : topo_model_hca(m, e->recv.nic);

			if (from && send)
				socket_crossing(&x, m->log.nics[e->send.nic].host, from->package, send->package);
			if (to && receive)
				socket_crossing(&x, m->log.nics[e->recv.nic].host, receive->package, to->package);
		} else if (from && to && c->ranks[e->from].host == c->ranks[e->to].host &&
			   (e->via == TOPO_VIA_SHM ||
			    (facts->nvlinks && !facts->nvlinks[(from - facts->gpus) * (ptrdiff_t)facts->gpu_count +
							       (to - facts->gpus)]))) {
			socket_crossing(&x, c->ranks[e->from].host, from->package, to->package);
		}
	}
	topo_map_release(&x.hops);
	if (isfinite(x.row.ideal) && (n = bound_add(b, x.row.level)))
		*n = x.row;
}

/* Hops per NIC and direction against its port and its PCIe link. */
static void bound_nics(const struct topo_model *m, const struct topo_flows *f, struct topo_bounds *b)
{
	size_t *hops = topo_alloc(2 * m->log.nic_count, sizeof(*hops));
	struct topo_bound *hca = NULL, *pcie = NULL;

	for (size_t i = 0; i < f->count; i++) {
		if (f->at[i].nic_from != TOPO_NONE)
			hops[2 * f->at[i].nic_from]++;
		if (f->at[i].nic_to != TOPO_NONE)
			hops[2 * f->at[i].nic_to + 1]++;
	}
	for (size_t i = 0; i < 2 * m->log.nic_count; i++) {
		uint32_t nic = (uint32_t)(i / 2);
		const struct topo_hca *h = hops[i] ? topo_model_hca(m, nic) : NULL;
		double gbps = hops[i] ? topo_model_nic_gbps(m, nic) : 0, limit;

		for (int which = 0; which < 2; which++) {
			double capacity = which ? (h ? h->pcie_gbps : 0) : gbps;
			struct topo_bound **row = which ? &pcie : &hca;

			if (!hops[i] || capacity <= 0)
				continue;
			if (!*row)
				*row = bound_add(b, which ? "pcie" : "hca");
			limit = (double)f->channels * capacity / (double)hops[i];
			if (!*row || limit >= (*row)->ideal)
				continue;
			(*row)->ideal = (*row)->fixed = (*row)->worst = limit;
			(*row)->capacity = capacity;
			(*row)->hops = (double)hops[i];
			snprintf((*row)->where, sizeof((*row)->where), "%s %s %s",
				 m->log.hosts[m->log.nics[nic].host].name, m->log.nics[nic].name,
				 i % 2 ? "receiving" : "sending");
		}
	}
	free(hops);
}

uint32_t topo_model_leaf(const struct topo_model *m, uint32_t nic)
{
	uint32_t adapter = nic == TOPO_NONE ? (uint32_t)TOPO_NONE : m->log.nics[nic].adapter;
	uint32_t link = adapter == TOPO_NONE ? (uint32_t)TOPO_NONE
					     : topo_fabric_uplink(&m->fabric, adapter, (uint16_t)m->log.nics[nic].port);

	return link == TOPO_NONE ? (uint32_t)TOPO_NONE : m->fabric.links[link].peer;
}

/* Least crossings: a cycle through G > 1 groups enters each at least once. */
static size_t crossings_least(const struct topo_model *m, const struct topo_flows *f, const uint32_t *group,
			      size_t groups)
{
	bool *seen = topo_alloc(groups, sizeof(*seen));
	size_t least = 0;

	for (size_t from = 0, i = 0; i <= f->count; i++) {
		if (i < f->count && f->at[i].channel == f->at[from].channel)
			continue;
		size_t here = 0;

		memset(seen, 0, groups);
		for (size_t k = from; k < i; k++) {
			uint32_t leaf = topo_model_leaf(m, f->at[k].nic_from);

			if (leaf != TOPO_NONE && group[leaf] != TOPO_NONE && !seen[group[leaf]]) {
				seen[group[leaf]] = true;
				here++;
			}
		}
		least += here > 1 ? here : 0;
		from = i;
	}
	free(seen);
	return least;
}

static void bound_level(const struct topo_model *m, const struct topo_flows *f, uint32_t cut, struct topo_bounds *b)
{
	const struct topo_fabric *fabric = &m->fabric;
	uint32_t *group = topo_alloc(fabric->node_count, sizeof(*group));
	size_t groups = topo_fabric_groups(fabric, cut, group);
	struct tally { double up, widest; size_t out, in; uint32_t name; } *t = topo_alloc(groups, sizeof(*t));
	struct topo_bound *row;
	char level[16];

	snprintf(level, sizeof(level), cut == 1 ? "leaf" : cut == 2 ? "rack" : "level %u", cut);
	row = groups > 1 ? bound_add(b, level) : NULL;
	if (row)
		row->cut = cut;
	for (size_t i = 0; row && i < fabric->link_count; i++) {
		const struct topo_link *l = &fabric->links[i];
		uint32_t g = group[l->node];

		if (l->peer == TOPO_NONE || g == TOPO_NONE || fabric->nodes[l->node].level != cut - 1 ||
		    !fabric->nodes[l->peer].is_switch || fabric->nodes[l->peer].level != cut)
			continue;
		t[g].up += l->gbps;
		t[g].widest = l->gbps > t[g].widest ? l->gbps : t[g].widest;
		t[g].name = l->node;
	}
	for (size_t i = 0; row && i < f->count; i++) {
		uint32_t a = topo_model_leaf(m, f->at[i].nic_from), z = topo_model_leaf(m, f->at[i].nic_to);

		if (a == TOPO_NONE || z == TOPO_NONE || group[a] == TOPO_NONE || group[z] == TOPO_NONE ||
		    group[a] == group[z])
			continue;
		t[group[a]].out++;
		t[group[z]].in++;
		row->crossings++;
	}
	for (size_t g = 0; row && g < groups; g++) {
		size_t hops = t[g].out > t[g].in ? t[g].out : t[g].in;
		double limit;

		if (!hops || t[g].up <= 0)
			continue;
		row->groups++;
		limit = (double)f->channels * t[g].up / (double)hops;
		if ((double)f->channels * t[g].widest / (double)hops < row->worst)
			row->worst = (double)f->channels * t[g].widest / (double)hops;
		if (limit >= row->ideal)
			continue;
		row->ideal = limit;
		row->capacity = t[g].up;
		row->hops = (double)hops;
		snprintf(row->where, sizeof(row->where), "%s of '%.60s' (0x%llx), %s", level,
			 fabric->nodes[t[g].name].description, (unsigned long long)fabric->nodes[t[g].name].guid,
			 t[g].out >= t[g].in ? "leaving" : "entering");
	}
	if (row)
		row->crossings_least = crossings_least(m, f, group, groups);
	free(group);
	free(t);
}

size_t topo_model_route(const struct topo_model *m, uint32_t nic_from, uint32_t nic_to, uint16_t *hops)
{
	enum { STEPS_MAX = 16 };
	const struct topo_fabric *f = &m->fabric;
	uint32_t to = m->log.nics[nic_to].adapter, at = topo_model_leaf(m, nic_from);
	uint32_t lid = to == TOPO_NONE ? (uint32_t)TOPO_NONE : topo_map_get(&f->lid_of, f->nodes[to].guid);

	if (lid == TOPO_NONE || at == TOPO_NONE)
		return 0;
	for (size_t step = 1; step <= STEPS_MAX; step++) {
		uint32_t table = topo_map_get(&f->table_of, at), link = TOPO_NONE;

		if (table == TOPO_NONE || lid >= f->tables[table].lid_count)
			return 0;
		for (uint32_t i = f->nodes[at].first; i < f->nodes[at].first + f->nodes[at].count; i++)
			if (f->links[i].port == f->tables[table].ports[lid])
				link = i;
		if (link == TOPO_NONE || f->links[link].peer == TOPO_NONE)
			return 0;
		if (hops)
			hops[link] += hops[link] < UINT16_MAX;
		at = f->links[link].peer;
		if (at == to)
			return step;
	}
	return 0;
}

static void bound_static(const struct topo_model *m, const struct topo_flows *f, struct topo_bounds *b)
{
	const struct topo_fabric *fabric = &m->fabric;
	uint16_t *hops = topo_alloc(fabric->link_count, sizeof(*hops));
	double least = INFINITY;		/* no switch link is used: nothing collides */

	b->routed = f->count > 0;
	for (size_t i = 0; i < f->count && b->routed; i++)
		b->routed = f->at[i].nic_from != TOPO_NONE && f->at[i].nic_to != TOPO_NONE &&
			    topo_model_route(m, f->at[i].nic_from, f->at[i].nic_to, hops);
	for (size_t i = 0; i < fabric->link_count && b->routed; i++) {
		const struct topo_link *l = &fabric->links[i];
		double limit = hops[i] ? (double)f->channels * l->gbps / hops[i] : INFINITY;
		uint32_t level = fabric->nodes[l->node].level,
			 above = fabric->nodes[l->peer != TOPO_NONE ? l->peer : l->node].level;
		size_t row = SIZE_MAX;

		if (!hops[i] || l->gbps <= 0 || !fabric->nodes[l->peer].is_switch)
			continue;
		for (size_t k = 0; k < b->count; k++)		/* the level whose groups this link joins */
			if (b->at[k].cut && b->at[k].cut == (level > above ? level : above))
				row = k;
		if (row != SIZE_MAX && (b->at[row].fixed == 0 || limit < b->at[row].fixed))
			b->at[row].fixed = limit;
		if (limit < least) {
			least = limit;
			b->collision_hops = hops[i];
			snprintf(b->collision, sizeof(b->collision), "port %u of '%.60s' (0x%llx)", l->port,
				 fabric->nodes[l->node].description, (unsigned long long)fabric->nodes[l->node].guid);
		}
	}
	b->fixed = b->routed ? least : 0;
	free(hops);
}

const struct topo_bound *topo_bound_of(const struct topo_bounds *b, const char *level)
{
	for (size_t i = 0; i < b->count; i++)
		if (!strcmp(b->at[i].level, level))
			return &b->at[i];
	return NULL;
}

double topo_bounds_least(const struct topo_bounds *b)
{
	return b->routed && b->fixed > 0 && !b->adaptive ? b->fixed : b->ideal;
}

void topo_bounds_of(const struct topo_model *m, const struct topo_comm *c, const struct topo_flows *f,
		    struct topo_bounds *b)
{
	*b = (struct topo_bounds){ .ideal = INFINITY, .worst = INFINITY, .adaptive = m->adaptive };
	bound_nvlink(m, c, b);
	bound_sockets(m, c, b);
	bound_nics(m, f, b);
	if (m->has_fabric && m->fabric.levels)
		for (uint32_t cut = 1; cut < m->fabric.levels && b->count < BOUND_LEVELS; cut++)
			bound_level(m, f, cut, b);
	if (m->has_routes && m->has_fabric)
		bound_static(m, f, b);
	for (size_t i = 0; i < b->count; i++) {
		if (b->at[i].estimate)
			continue;
		if (b->at[i].ideal < b->ideal) {
			b->ideal = b->at[i].ideal;
			snprintf(b->limit, sizeof(b->limit), "%s: %.150s", b->at[i].level, b->at[i].where);
		}
		b->worst = b->at[i].worst < b->worst ? b->at[i].worst : b->worst;
	}
	if (b->routed && b->ideal <= b->fixed)
		b->fixed = b->ideal;
	else if (b->routed && b->fixed > 0 && !b->adaptive)
		snprintf(b->limit, sizeof(b->limit), "%.0f hops on %.150s", b->collision_hops, b->collision);
	if (!isfinite(b->ideal))
		b->ideal = b->worst = 0;
}

/* ---- order ---- */

uint32_t *topo_hosts_of(const struct topo_comm *c, size_t *count)
{
	uint32_t *hosts = topo_alloc(c->rank_count, sizeof(*hosts));
	struct topo_map seen = { 0 };

	*count = 0;
	for (size_t r = 0; r < c->rank_count; r++)
		if (c->ranks[r].present && topo_map_get(&seen, c->ranks[r].host) == TOPO_NONE) {
			topo_map_set(&seen, c->ranks[r].host, 1);
			hosts[(*count)++] = c->ranks[r].host;
		}
	topo_map_release(&seen);
	return hosts;
}

/* A host's place: its group at each cut from the top down, then its port on the leaf; TOPO_NONE where that is not
 * known. */
enum { KEYS = 10 };
struct place {
	uint32_t host, keys[KEYS];
};

static int by_place(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	for (int i = 0; i < KEYS; i++)
		if (x->keys[i] != y->keys[i])
			return x->keys[i] < y->keys[i] ? -1 : 1;
	return 0;
}

static void place_by_links(const struct topo_model *m, struct place *p, size_t count, const struct topo_comm *c)
{
	uint32_t *first_nic = topo_alloc(m->log.host_count, sizeof(*first_nic));
	uint32_t *group = topo_alloc(m->fabric.node_count, sizeof(*group));
	struct topo_flows f;
	int key = 0;

	for (size_t h = 0; h < m->log.host_count; h++)
		first_nic[h] = TOPO_NONE;
	topo_flows_of(c, &f);
	for (size_t i = f.count; i-- > 0;)	/* so that the first channel's NIC remains */
		if (f.at[i].nic_from != TOPO_NONE)
			first_nic[f.at[i].host_from] = f.at[i].nic_from;
	for (uint32_t cut = (uint32_t)m->fabric.levels; cut-- > 1 && key < KEYS - 2;) {
		topo_fabric_groups(&m->fabric, cut, group);
		for (size_t i = 0; i < count; i++) {
			uint32_t leaf = topo_model_leaf(m, first_nic[p[i].host]);

			p[i].keys[key] = leaf == TOPO_NONE ? (uint32_t)TOPO_NONE : group[leaf];
		}
		key++;
	}
	for (size_t i = 0; i < count; i++) {
		uint32_t nic = first_nic[p[i].host];
		uint32_t link = nic == TOPO_NONE || m->log.nics[nic].adapter == TOPO_NONE
					? (uint32_t)TOPO_NONE
					: topo_fabric_uplink(&m->fabric, m->log.nics[nic].adapter, 0);

		p[i].keys[key] = link == TOPO_NONE ? (uint32_t)TOPO_NONE : m->fabric.links[link].peer;
		p[i].keys[key + 1] = link == TOPO_NONE ? (uint32_t)TOPO_NONE : m->fabric.links[link].peer_port;
	}
	topo_flows_release(&f);
	free(first_nic);
	free(group);
}

static void place_by_groups(const struct topo_model *m, struct place *p, size_t count)
{
	const struct topo_fabric *f = &m->fabric;
	struct topo_map group = { 0 };

	for (size_t k = f->member_count; k-- > 0;)
		topo_map_set(&group, (uintptr_t)f->members[k].host, f->members[k].group);
	for (size_t i = 0; i < count; i++) {
		uint32_t path[KEYS], depth = 0, g = topo_map_get(&group, (uintptr_t)m->log.hosts[p[i].host].name);

		for (; g != TOPO_NONE && depth < KEYS; g = f->groups[g].parent)
			path[depth++] = g;
		for (uint32_t k = 0; k < depth; k++)
			p[i].keys[k] = path[depth - 1 - k];
		for (uint32_t k = depth; k < KEYS; k++)
			p[i].keys[k] = TOPO_NONE;
	}
	topo_map_release(&group);
}

uint32_t *topo_order_of(const struct topo_model *m, const struct topo_comm *c, size_t *count)
{
	uint32_t *hosts = topo_hosts_of(c, count);
	struct place *p = topo_alloc(*count, sizeof(*p));
	size_t first = 0;

	for (size_t i = 0; i < *count; i++)
		p[i].host = hosts[i];
	if (m->has_fabric)
		place_by_links(m, p, *count, c);
	else if (m->has_groups)
		place_by_groups(m, p, *count);
	for (int k = 0; k < KEYS - 1 && *count; k++) {	/* rank 0's groups come first, hosts of none last */
		uint32_t zero = p[0].keys[k];

		for (size_t i = 0; i < *count; i++)
			if (p[i].keys[k] != TOPO_NONE)
				p[i].keys[k] = p[i].keys[k] == zero ? 0 : p[i].keys[k] + 1;
	}
	if (*count)
		qsort(p, *count, sizeof(*p), by_place);
	for (size_t i = 0; i < *count; i++)	/* and rank 0's host first of all: its leaf turns round to it */
		if (p[i].host == hosts[0])
			first = i;
	if (*count) {
		struct place zero = p[first];

		memmove(p + 1, p, first * sizeof(*p));
		p[0] = zero;
	}
	for (size_t i = 0; i < *count; i++)
		hosts[i] = p[i].host;
	free(p);
	return hosts;
}

/* The package that a rank's process should sit on: its GPU's, else by its place among the host's ranks. */
static int package_for(const struct topo_model *m, const struct topo_rank *r, size_t place, size_t places)
{
	const struct topo_node *n = topo_model_facts(m, r->host);
	uint32_t gpu = n ? topo_node_gpu(n, r->bus) : (uint32_t)TOPO_NONE;

	if (gpu != TOPO_NONE && n->gpus[gpu].package >= 0)
		return n->gpus[gpu].package;
	return places > 1 ? (int)(2 * place / places) : 0;
}

/* Ranks by host, in their own order within it. */
struct seat {
	uint32_t place, rank;
};

static int by_seat(const void *a, const void *b)
{
	const struct seat *x = a, *y = b;

	if (x->place != y->place)
		return x->place < y->place ? -1 : 1;
	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static void order_print(const struct topo_model *m, const struct topo_comm *c, const struct seat *seats, size_t count,
			size_t kind, FILE *f)
{
	for (size_t from = 0, to; from < count; from = to) {
		const char *name = m->log.hosts[c->ranks[seats[from].rank].host].name;

		for (to = from; to < count && seats[to].place == seats[from].place; to++)
			;
		if (kind == 0)
			fprintf(f, "%s\n", name);
		if (kind == 1)
			fprintf(f, "%s slots=%zu\n", name, to - from);
		for (size_t i = from; i < to && kind >= 2; i++) {
			if (kind == 2)
				fprintf(f, "rank %zu=%s slot=%d:*\n", i, name,
					package_for(m, &c->ranks[seats[i].rank], i - from, to - from));
			else
				fprintf(f, "%s\n", name);
		}
	}
}

int topo_order_write(const struct topo_model *m, const struct topo_comm *c, const uint32_t *hosts, size_t count,
		     const char *folder)
{
	static const char *const names[] = { "hosts.txt", "hostfile", "rankfile", "slurm_hostfile" };
	uint32_t *place = topo_alloc(m->log.host_count, sizeof(*place));
	struct seat *seats = topo_alloc(c->rank_count, sizeof(*seats));
	size_t seat_count = 0;
	int rc = dir_make(folder);

	for (size_t i = 0; i < count; i++)
		place[hosts[i]] = (uint32_t)i;
	for (size_t r = 0; r < c->rank_count; r++)
		if (c->ranks[r].present)
			seats[seat_count++] = (struct seat){ place[c->ranks[r].host], (uint32_t)r };
	qsort(seats, seat_count, sizeof(*seats), by_seat);
	for (size_t k = 0; k < ARRAY_LEN(names) && !rc; k++) {
		char path[PATH_BYTES];
		FILE *f;

		rc = path_make(path, "%s/%s", folder, names[k]);
		f = rc ? NULL : file_begin(path);
		if (!f) {
			rc = FAILED;
			break;
		}
		order_print(m, c, seats, seat_count, k, f);
		rc = file_end(f, path, rc);
	}
	free(place);
	free(seats);
	return rc;
}
