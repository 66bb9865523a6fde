/*
 * comm/topo/log_join.c - from members, halves and order lines to communicators, connections and rings.
 *
 * Members meet by commId; before 2.16, which has none, by (size, how many of that size the
 * process had before), and where that is not one rank each, by host or by device.
 *
 * Rings: rank 0's order lines where they are whole (they are cut at 20 ranks or 124 characters),
 * then the "Ring" lines of GRAPH, then the first connection each rank makes in a channel: rings
 * are connected before trees.
 */
#include "comm/topo/log_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A made-up line must not cost memory: ranks times channels of one communicator. */
enum { CELLS_MAX = 1 << 24 };

/* ---- from members to communicators ---- */

static uint32_t host_index(struct topo_log *log, const char *name)
{
	for (size_t i = log->host_count; i-- > 0;)
		if (log->hosts[i].name == name)
			return (uint32_t)i;
	TOPO_PUSH(log->hosts, log->host_count, log->host_room) = (struct topo_host){ .name = name, .facts = TOPO_NONE };
	return (uint32_t)log->host_count - 1;
}

/* The spelling most often seen is the host's name; torn ones are rare.  NCCL_HOSTID is what NCCL goes by instead: it
 * makes several nodes of one machine, or one of several containers. */
static void hosts_settle(struct topo_log *log)
{
	struct topo_reader *r = log->reader;
	const char **id = topo_alloc(r->process_count, sizeof(*id));

	for (size_t i = 0; i < log->setting_count; i++)
		if (!strcmp(log->settings[i].name, "NCCL_HOSTID"))
			id[log->settings[i].host] = log->settings[i].value;
	for (size_t i = 0; i < r->process_count; i++) {
		struct process *p = &r->processes[i];
		int best = 0;

		for (int k = 1; k < SPELLINGS; k++)
			if (p->host[k].count > p->host[best].count)
				best = k;
		p->final_host = host_index(log, id[i] ? id[i] : p->host[best].name);
		log->hosts[p->final_host].machine = p->host[best].name;
		log->hosts[p->final_host].processes++;
	}
	free(id);
	for (size_t i = 0; i < log->note_count; i++)
		log->notes[i].host = r->processes[log->notes[i].host].final_host;
	for (size_t i = 0; i < log->setting_count; i++)
		log->settings[i].host = r->processes[log->settings[i].host].final_host;
}

static int by_text(const void *a, const void *b)
{
	const struct topo_setting *x = a, *y = b;

	if (x->name != y->name)
		return strcmp(x->name, y->name);
	if (x->host != y->host)
		return x->host < y->host ? -1 : 1;
	if (x->value != y->value)
		return strcmp(x->value, y->value);
	if (x->at.file != y->at.file)
		return x->at.file < y->at.file ? -1 : 1;
	return x->at.line < y->at.line ? -1 : x->at.line > y->at.line;
}

static void settings_settle(struct topo_log *log)
{
	size_t kept = 0;

	if (log->setting_count)
		qsort(log->settings, log->setting_count, sizeof(*log->settings), by_text);
	for (size_t i = 0; i < log->setting_count; i++) {
		const struct topo_setting *s = &log->settings[i], *last = kept ? &log->settings[kept - 1] : NULL;

		if (!last || last->name != s->name || last->host != s->host || last->value != s->value)
			log->settings[kept++] = *s;
	}
	log->setting_count = kept;
}

static uint32_t nic_index(struct topo_log *log, uint32_t host, const char *name, const char *net, int32_t port,
			  struct topo_at at)
{
	uint64_t key = (uint64_t)(uintptr_t)name * 0x9e3779b97f4a7c15u ^ ((uint64_t)host << 8 | (uint8_t)port);
	uint32_t i = topo_map_get(&log->reader->nics, key);

	if (i != TOPO_NONE && log->nics[i].host == host && log->nics[i].name == name && log->nics[i].port == port)
		return i;
	for (i = 0; i < log->nic_count && topo_map_get(&log->reader->nics, key) != TOPO_NONE;
	     i++) /* two with one key */
		if (log->nics[i].host == host && log->nics[i].name == name && log->nics[i].port == port)
			return i;
	topo_map_set(&log->reader->nics, key, (uint32_t)log->nic_count);
	TOPO_PUSH(log->nics, log->nic_count, log->nic_room) = (struct topo_nic){
		.host = host, .name = name, .net = net, .port = port, .adapter = TOPO_NONE, .at = at
	};
	return (uint32_t)log->nic_count - 1;
}

static int by_group(const void *a, const void *b)
{
	const struct member *x = *(struct member *const *)a, *y = *(struct member *const *)b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	if (x->rank_count != y->rank_count)
		return x->rank_count > y->rank_count ? -1 : 1;
	if (x->parent != y->parent)
		return !x->parent ? -1 : !y->parent ? 1 : strcmp(x->parent, y->parent);
	if (x->ordinal != y->ordinal)
		return x->ordinal < y->ordinal ? -1 : 1;
	return x < y ? -1 : 1;
}

static bool same_group(const struct member *x, const struct member *y)
{
	return x->id == y->id && x->rank_count == y->rank_count && x->parent == y->parent &&
	       (x->id || x->ordinal == y->ordinal);
}

enum split { SPLIT_NOT, SPLIT_BY_HOST, SPLIT_BY_BUS, SPLIT_FIRST_FREE };

static uint64_t split_key(const struct topo_reader *r, const struct member *m, enum split how)
{
	return how == SPLIT_BY_HOST ? r->processes[m->process].final_host : how == SPLIT_BY_BUS ? m->bus : 0;
}

/* Would this split give each part every rank at most once; and, when `whole`, every rank? */
static bool split_works(const struct topo_reader *r, struct member **group, size_t n, enum split how, bool whole)
{
	struct topo_map seen = { 0 }, parts = { 0 };
	bool works = true;

	for (size_t i = 0; i < n && works; i++) {
		uint64_t part = split_key(r, group[i], how), key = part << 21 | (uint64_t)group[i]->rank;

		works = topo_map_get(&seen, key) == TOPO_NONE;
		topo_map_set(&seen, key, 1);
		topo_map_set(&parts, part, 1);
	}
	works = works && (!whole || parts.count * (size_t)group[0]->rank_count == n);
	topo_map_release(&seen);
	topo_map_release(&parts);
	return works;
}

/* The first split that explains all ranks; of a log with gaps the first that contradicts none. */
static enum split split_choose(const struct topo_reader *r, struct member **group, size_t n)
{
	for (int whole = 1; whole >= 0; whole--)
		for (enum split how = SPLIT_NOT; how < SPLIT_FIRST_FREE; how++)
			if (split_works(r, group, n, how, whole))
				return how;
	return SPLIT_FIRST_FREE;
}

static uint32_t comm_new(struct topo_log *log, const struct member *m)
{
	struct topo_comm c = { .rank_count = (size_t)m->rank_count, .said_nodes = -1, .at = m->at };
	char id[64];

	if (m->id)
		snprintf(id, sizeof(id), "0x%llx", (unsigned long long)m->id);
	else
		snprintf(id, sizeof(id), "%d ranks, no. %zu", m->rank_count, log->comm_count + 1);
	c.id = topo_name_of(&log->names, id);
	c.ranks = topo_alloc(c.rank_count, sizeof(*c.ranks));
	for (size_t i = 0; i < c.rank_count; i++)
		c.ranks[i] = (struct topo_rank){ .host = TOPO_NONE, .process = TOPO_NONE, .cuda_dev = -1,
					       .nvml_dev = -1 };
	TOPO_PUSH(log->comms, log->comm_count, log->comm_room) = c;
	return (uint32_t)log->comm_count - 1;
}

static void comm_join(struct topo_log *log, uint32_t comm, struct member *m)
{
	struct topo_comm *c = &log->comms[comm];

	m->comm = comm;
	c->said_nodes = m->nodes > c->said_nodes ? m->nodes : c->said_nodes;
	if (m->channels > 0 && (size_t)m->channels > c->channel_count && m->channels < CHANNELS_MAX)
		c->channel_count = (size_t)m->channels;
	c->ranks[m->rank] = (struct topo_rank){ .present = true,
						.complete = m->complete,
						.process = m->process,
						.host = log->reader->processes[m->process].final_host,
						.cuda_dev = m->cuda_dev,
						.nvml_dev = m->nvml_dev,
						.bus = m->bus,
						.at = m->at };
}

static void group_settle(struct topo_log *log, struct member **group, size_t n)
{
	struct topo_map parts = { 0 };
	enum split how = split_choose(log->reader, group, n);
	size_t first_comm = log->comm_count;

	for (size_t i = 0; i < n; i++) {
		uint64_t key = split_key(log->reader, group[i], how);
		uint32_t comm = topo_map_get(&parts, key);

		if (how == SPLIT_FIRST_FREE) {
			comm = TOPO_NONE;
			for (size_t c = first_comm; c < log->comm_count && comm == TOPO_NONE; c++)
				if (!log->comms[c].ranks[group[i]->rank].present)
					comm = (uint32_t)c;
		}
		if (comm == TOPO_NONE) {
			comm = comm_new(log, group[i]);
			topo_map_set(&parts, key, comm);
			log->comms[comm].ambiguous = how == SPLIT_FIRST_FREE;
		}
		comm_join(log, comm, group[i]);
	}
	topo_map_release(&parts);
}

static void comms_settle(struct topo_log *log)
{
	struct topo_reader *r = log->reader;
	struct member **known = topo_alloc(r->member_count, sizeof(*known));
	size_t n = 0, from = 0;

	for (size_t i = 0; i < r->member_count; i++) {
		struct process *p = &r->processes[r->members[i].process];

		if (r->members[i].known)
			known[n++] = &r->members[i];
		else	/* connections after COMPLETE, without one of their own: point-to-point of the newest */
			r->members[i].comm = p->newest == TOPO_NONE ? (uint32_t)TOPO_NONE : p->newest;
	}
	qsort(known, n, sizeof(*known), by_group);
	for (size_t i = 1; i <= n; i++)
		if (i == n || !same_group(known[i], known[from])) {
			group_settle(log, known + from, i - from);
			from = i;
		}
	free(known);
}

/* ---- edges and rings ---- */

static int by_edge(const void *a, const void *b)
{
	const struct topo_edge *x = a, *y = b;

	if (x->channel != y->channel)
		return x->channel < y->channel ? -1 : 1;
	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	if (x->to != y->to)
		return x->to < y->to ? -1 : 1;
	return x->conn != y->conn ? (x->conn < y->conn ? -1 : 1) : 0;
}

/* The two ends become one; ends that do not agree on the way are left as the first said. */
static void edge_merge(struct topo_edge *into, const struct topo_edge *e)
{
	if (e->via != into->via)
		return;
	if (e->send.seen && !into->send.seen) {
		into->send = e->send;
		into->how = e->how;
	}
	if (e->recv.seen && !into->recv.seen)
		into->recv = e->recv;
}

static uint32_t end_nic(struct topo_log *log, const struct half *h, const struct topo_comm *c)
{
	int32_t rank = h->kind == HALF_RECEIVE ? h->to : h->proxy >= 0 ? h->proxy : h->from;
	const struct topo_rank *owner =
		rank < (int32_t)c->rank_count && c->ranks[rank].present ? &c->ranks[rank] : NULL;
	const struct process *p = owner ? &log->reader->processes[owner->process]
					: &log->reader->processes[log->reader->members[h->member].process];
	char name[96];

	if (h->net < (int32_t)p->nic_count && p->nics[h->net].name)
		return nic_index(log, p->final_host, p->nics[h->net].name, p->nics[h->net].net, p->nics[h->net].port,
				 p->nics[h->net].at);
	snprintf(name, sizeof(name), "%.64s/%d", h->how, h->net);
	return nic_index(log, p->final_host, topo_name_of(&log->names, name), h->how, 0, h->at);
}

static void edges_settle(struct topo_log *log)
{
	struct topo_reader *r = log->reader;
	size_t *room = topo_alloc(log->comm_count, sizeof(*room));

	for (size_t i = 0; i < r->half_count; i++) {
		const struct half *h = &r->halves[i];
		const struct member *m = &r->members[h->member];
		struct topo_edge e = {
			.from = h->from, .to = h->to, .channel = h->channel, .via = h->via, .how = h->how
		};
		struct topo_end end = { .seen = true, .gdr = h->gdr, .net = h->net, .nic = TOPO_NONE, .proxy = h->proxy,
					.at = h->at };
		struct topo_comm *c;

		e.conn = h->conn || h->shared || !m->known;
		if (!m->known && m->comm != TOPO_NONE)
			m = &r->members[m->comm];
		if (m->comm == TOPO_NONE || !m->known)
			continue;
		c = &log->comms[m->comm];
		if (h->from >= (int32_t)c->rank_count || h->to >= (int32_t)c->rank_count)
			continue;
		if (h->via == TOPO_VIA_NET)
			end.nic = end_nic(log, h, c);
		e.send = e.recv = (struct topo_end){ .net = -1, .nic = TOPO_NONE, .proxy = -1 };
		if (h->kind == HALF_RECEIVE)
			e.recv = end;
		else
			e.send = end;
		if (h->kind == HALF_LOCAL)
			e.recv = end;
		TOPO_PUSH(c->edges, c->edge_count, room[m->comm]) = e;
	}
	for (size_t i = 0; i < log->comm_count; i++) {
		struct topo_comm *c = &log->comms[i];
		size_t kept = 0;

		if (c->edge_count)
			qsort(c->edges, c->edge_count, sizeof(*c->edges), by_edge);
		for (size_t k = 0; k < c->edge_count; k++) {
			if (kept && !by_edge(&c->edges[kept - 1], &c->edges[k]))
				edge_merge(&c->edges[kept - 1], &c->edges[k]);
			else
				c->edges[kept++] = c->edges[k];
			if (!c->edges[k].conn && c->edges[k].channel >= c->channel_count)
				c->channel_count = c->edges[k].channel + 1u;
		}
		c->edge_count = kept;
	}
	free(room);
}

static void ring_set(struct topo_comm *c, size_t channel, int32_t from, int32_t to)
{
	int32_t *next;

	if (channel >= c->channel_count || from < 0 || to < 0 || from >= (int32_t)c->rank_count ||
	    to >= (int32_t)c->rank_count)
		return;
	next = &c->next[channel * c->rank_count + (size_t)from];
	if (*next < 0)
		*next = to;
}

static bool ring_closes(const struct topo_comm *c, size_t channel)
{
	const int32_t *next = &c->next[channel * c->rank_count];
	size_t steps = 0;
	int32_t at = 0;

	do {
		at = next[at];
		steps++;
	} while (at > 0 && steps <= c->rank_count);
	return at == 0 && steps == c->rank_count;
}

static struct topo_comm *comm_of(const struct topo_log *log, uint32_t member)
{
	const struct member *m = member == TOPO_NONE ? NULL : &log->reader->members[member];

	if (m && !m->known && m->comm != TOPO_NONE)
		m = &log->reader->members[m->comm];
	return !m || !m->known || m->comm == TOPO_NONE ? NULL : &log->comms[m->comm];
}

/* Rings from order lines first (whole ones, then beginnings), neighbours next, connections last. */
static void rings_settle(struct topo_log *log)
{
	struct topo_reader *r = log->reader;

	for (size_t i = 0; i < r->order_count; i++) {
		struct topo_comm *c = comm_of(log, r->orders[i].member);

		if (!c)
			continue;
		if (r->orders[i].channels > (int32_t)c->channel_count && r->orders[i].channels < CHANNELS_MAX)
			c->channel_count = (size_t)r->orders[i].channels;
		if (r->orders[i].channel >= c->channel_count)
			c->channel_count = r->orders[i].channel + 1u;
	}
	for (size_t i = 0; i < log->comm_count; i++) {
		struct topo_comm *c = &log->comms[i];
		size_t cells;

		if (c->channel_count * c->rank_count > CELLS_MAX)
			c->channel_count = CELLS_MAX / c->rank_count;
		cells = c->channel_count * c->rank_count;
		c->next = topo_alloc(cells, sizeof(*c->next));
		c->closed = topo_alloc(c->channel_count, sizeof(*c->closed));
		memset(c->next, -1, cells * sizeof(*c->next));
	}
	for (size_t i = 0; i < r->order_count; i++) {
		const struct order *o = &r->orders[i];
		struct topo_comm *c = comm_of(log, o->member);
		const int32_t *ranks = r->pool + o->first;

		if (!c)
			continue;
		if (o->pair) {
			ring_set(c, o->channel, ranks[0], ranks[1]);
			continue;
		}
		for (size_t k = 0; k + 1 < o->count; k++)
			if (o->count == c->rank_count || k + 2 < o->count)	/* the last of a cut list may be cut */
				ring_set(c, o->channel, ranks[k], ranks[k + 1]);
		if (o->count == c->rank_count && o->count)
			ring_set(c, o->channel, ranks[o->count - 1], ranks[0]);
	}
	for (size_t i = 0; i < r->half_count; i++) {
		const struct half *h = &r->halves[i];
		const struct member *m = &r->members[h->member];

		if (m->known && m->comm != TOPO_NONE && h->kind != HALF_RECEIVE && h->from == m->rank && !h->conn &&
		    !h->shared && h->segment == m->ring_segment)
			ring_set(&log->comms[m->comm], h->channel, h->from, h->to);
	}
	for (size_t i = 0; i < log->comm_count; i++) {
		struct topo_comm *c = &log->comms[i];

		for (size_t k = 0; k < c->channel_count; k++)
			c->closed[k] = ring_closes(c, k);
		for (size_t k = 0; k < c->edge_count; k++) {
			struct topo_edge *e = &c->edges[k];

			e->ring = !e->conn && e->channel < c->channel_count &&
				  c->next[e->channel * c->rank_count + (size_t)e->from] == e->to;
		}
	}
}

static void hosts_count(struct topo_log *log, struct topo_comm *c)
{
	bool *seen = topo_alloc(log->host_count, sizeof(*seen));

	c->host_count = 0;
	for (size_t i = 0; i < c->rank_count; i++)
		if (c->ranks[i].present && !seen[c->ranks[i].host]) {
			seen[c->ranks[i].host] = true;
			c->host_count++;
		}
	free(seen);
}

static int by_size(const void *a, const void *b)
{
	const struct topo_comm *x = a, *y = b;

	if (x->rank_count != y->rank_count)
		return x->rank_count > y->rank_count ? -1 : 1;
	if (x->host_count != y->host_count)
		return x->host_count > y->host_count ? -1 : 1;
	if (x->at.file != y->at.file)
		return x->at.file < y->at.file ? -1 : 1;
	return x->at.line < y->at.line ? -1 : x->at.line > y->at.line;
}

static void reader_free(struct topo_reader *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->process_count; i++)
		free(r->processes[i].nics);
	free(r->processes);
	free(r->threads);
	free(r->members);
	free(r->halves);
	free(r->orders);
	free(r->pool);
	topo_map_release(&r->tids);
	topo_map_release(&r->speakers);
	topo_map_release(&r->pids);
	topo_map_release(&r->nics);
	free(r);
}

void topo_log_finish(struct topo_log *log)
{
	struct topo_reader *r = log->reader;

	if (!r)
		return;
	hosts_settle(log);
	settings_settle(log);
	for (size_t i = 0; i < r->process_count; i++)
		for (size_t k = 0; k < r->processes[i].nic_count; k++)
			if (r->processes[i].nics[k].name)
				nic_index(log, r->processes[i].final_host, r->processes[i].nics[k].name,
					  r->processes[i].nics[k].net, r->processes[i].nics[k].port,
					  r->processes[i].nics[k].at);
	comms_settle(log);
	edges_settle(log);
	rings_settle(log);
	for (size_t i = 0; i < log->comm_count; i++)
		hosts_count(log, &log->comms[i]);
	if (log->comm_count)
		qsort(log->comms, log->comm_count, sizeof(*log->comms), by_size);
	reader_free(r);
	log->reader = NULL;
}

void topo_log_release(struct topo_log *log)
{
	reader_free(log->reader);
	for (size_t i = 0; i < log->comm_count; i++) {
		free(log->comms[i].ranks);
		free(log->comms[i].next);
		free(log->comms[i].closed);
		free(log->comms[i].edges);
	}
	free(log->comms);
	free(log->files);
	free(log->hosts);
	free(log->nics);
	free(log->notes);
	free(log->settings);
	free(log->choices);
	topo_names_release(&log->names);
	*log = (struct topo_log){ 0 };
}

const struct topo_edge *topo_edge_find(const struct topo_comm *c, size_t channel, int32_t from, int32_t to)
{
	struct topo_edge key = { .channel = (uint16_t)channel, .from = from, .to = to };

	return c->edge_count ? bsearch(&key, c->edges, c->edge_count, sizeof(key), by_edge) : NULL;
}
