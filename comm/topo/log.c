/*
 * comm/topo/log.c - NCCL's and RCCL's INFO lines, 2.3 to 2.30, into communicators.
 *
 * NCCL's maintainers change these lines in any release, so every message is read by a small
 * scanner of its own which takes all forms that were ever printed, and nothing looser: a line
 * that starts like a connection and does not end like one counts as torn or strange.
 *
 * Which communicator does a line speak of?  Connection lines do not say (RCCL's do).  While a
 * communicator is being made, its thread says nothing of others, so a thread has at most one
 * *open* member (one rank of one communicator): from Init START, or from the first line before
 * an Init COMPLETE where START is not printed yet, to COMPLETE.  From 2.22 on connections are
 * made at the first collective, by another thread: then it is the newest member of that process
 * and device whose rank the line names.  Members meet by commId; before 2.16, which has none, by
 * (size, how many of that size the process had before), and where that is not one rank each, by
 * host or by device.
 *
 * Rings: rank 0's order lines where they are whole (they are cut at 20 ranks or 124 characters),
 * then the "Ring" lines of GRAPH, then the first connection each rank makes in a channel: rings
 * are connected before trees.
 */
#include "comm/topo/log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A made-up line must not cost memory: CELLS_MAX bounds ranks times channels of one communicator. */
enum { SPELLINGS = 3, CHANNELS_MAX = 256, RANKS_MAX = 1 << 17, CELLS_MAX = 1 << 24 };

struct process {
	uint64_t pid;
	uint32_t next;			/* with the same pid */
	struct { const char *name; size_t count; } host[SPELLINGS];	/* torn prefixes make several */
	uint32_t final_host;
	uint32_t newest;		/* member; TOPO_NONE */
	bool says_start;		/* prints Init START */
	struct { const char *name, *net; int32_t port; struct topo_at at; } *nics;	/* owned, by index */
	size_t nic_count;
};

struct thread {
	uint64_t tid;
	uint32_t process, next;		/* next with the same tid */
	uint32_t open;			/* member being made; TOPO_NONE */
	uint32_t last;			/* member of the latest connection line */
};

struct member {
	uint32_t process;
	uint64_t pointer, id;
	bool known, complete, gone;
	int32_t rank, rank_count, cuda_dev, nvml_dev, nodes;
	uint64_t bus;
	const char *parent;		/* split or shrunk: "parent pointer count color" stands for the id */
	uint32_t ordinal;		/* how many members of this size its process had before */
	uint32_t segment, ring_segment;	/* of its connection lines; each "Connected all" ends one */
	uint32_t earlier;		/* member of the same process made before; TOPO_NONE */
	uint32_t comm;
	int32_t channels;
	struct topo_at at;
};

enum half_kind { HALF_SEND, HALF_RECEIVE, HALF_LOCAL };

struct half {
	uint32_t member;
	uint32_t segment;
	int32_t from, to, net, proxy;
	uint16_t channel;
	uint8_t conn, kind, via;
	bool gdr, shared;
	const char *how;
	struct topo_at at;
};

/* An order line (count ranks from `first` of the pool) or a GRAPH line (me -> next). */
struct order {
	uint32_t member;
	uint16_t channel;
	bool pair;
	size_t first, count;
	int32_t channels;
};

struct topo_reader {
	struct process *processes;
	size_t process_count, process_room;
	struct thread *threads;
	size_t thread_count, thread_room;
	struct member *members;
	size_t member_count, member_room;
	struct half *halves;
	size_t half_count, half_room;
	struct order *orders;
	size_t order_count, order_room;
	int32_t *pool;
	size_t pool_count, pool_room;
	struct topo_map tids;		/* tid -> first thread */
	struct topo_map pids;		/* pid -> first process */
	struct topo_map nics;		/* host, name and port, mixed -> NIC */
	struct topo_map speakers;	/* host, pid and tid -> thread: all lines but torn ones and a thread's first */
	bool rccl;
};

/* One message, cut out of its line. */
struct message {
	struct topo_span host, text;
	uint64_t pid, tid;
	int32_t dev;			/* -1: none */
	const char *begin;		/* of the anchor */
	bool warn, torn_head;
	struct topo_at at;
};

/* ---- anchors ---- */

static bool host_char(int c)
{
	return isalnum(c) || c == '-' || c == '.' || c == '_';
}

/* Digits that end at *p, walking back; false when there are none or too many. */
static bool back_number(const char **p, const char *from, uint64_t *v)
{
	const char *end = *p, *at = end;
	struct topo_span s;

	while (at > from && isdigit((unsigned char)at[-1]))
		at--;
	s = (struct topo_span){ at, end };
	if (at == end || end - at > 18 || !topo_take_u64(&s, v))
		return false;
	*p = at;
	return true;
}

/* What stands in front of "NCCL INFO" at `nccl`: host:pid:tid [dev], for WARN with file:line between. */
static bool anchor_before(const char *from, const char *nccl, struct message *m)
{
	const char *p = nccl, *bracket;
	uint64_t dev;

	m->dev = -1;
	bracket = p - from > 200 ? p - 200 : from;
	while (p > bracket && p[-1] != ']')
		p--;
	if (p > bracket) {
		p--;
		if (!back_number(&p, from, &dev) || p == from || p[-1] != '[' || dev > 1 << 20)
			return false;
		m->dev = (int32_t)dev;
		p--;
	} else {
		p = nccl;
	}
	if (p == from || p[-1] != ' ')
		return false;
	p--;
	if (!back_number(&p, from, &m->tid) || p == from || p[-1] != ':')
		return false;
	p--;
	m->torn_head = false;
	if (!back_number(&p, from, &m->pid))
		return false;
	m->begin = p;
	m->host = (struct topo_span){ p, p };
	if (p == from || p[-1] != ':') {
		m->torn_head = true;
		return true;
	}
	m->host.end = --p;
	while (p > from && host_char((unsigned char)p[-1]))
		p--;
	m->host.at = m->begin = p;
	m->torn_head = p == m->host.end;
	return true;
}

/* The next message of `line` behind `from`; its text still runs to the end of the line.  memchr() for a capital
 * N is several times as fast as memmem() for the word: little else has one. */
static bool message_next(const char *from, struct topo_span line, struct message *m)
{
	const char *p = from;

	while ((p = memchr(p, 'N', (size_t)(line.end - p)))) {
		struct topo_span s = { p, line.end };

		if (topo_take(&s, "NCCL ")) {
			m->warn = topo_take(&s, "WARN ");
			if ((m->warn || topo_take(&s, "INFO ")) && anchor_before(from, p, m)) {
				m->text = s;
				return true;
			}
		}
		p++;
	}
	return false;
}

bool topo_log_is(const char *text, size_t bytes)
{
	struct topo_span rest = { text, text + bytes }, line;
	struct message m;

	while (topo_line(&rest, &line))
		if (message_next(line.at, line, &m))
			return true;
	return false;
}

/* ---- who speaks ---- */

static bool ends_with(const char *name, struct topo_span tail)
{
	size_t n = strlen(name), t = topo_span_length(tail);

	return n >= t && !memcmp(name + n - t, tail.at, t);
}

/* The same host, or one name torn off the other's end. */
static bool host_fits(const struct process *p, struct topo_span host)
{
	for (int i = 0; i < SPELLINGS && p->host[i].name; i++) {
		const char *name = p->host[i].name;
		size_t n = strlen(name);

		if (ends_with(name, host))
			return true;
		if (topo_span_length(host) > n && !memcmp(host.end - n, name, n))
			return true;
	}
	return false;
}

static void host_count(struct topo_names *names, struct process *p, struct topo_span host)
{
	for (int i = 0; i < SPELLINGS; i++) {
		if (!p->host[i].name)
			p->host[i].name = topo_name(names, host);
		if (topo_span_is(host, p->host[i].name)) {
			p->host[i].count++;
			return;
		}
	}
}

/* pid 787134 is what is left of 3787134. */
static bool pid_fits(uint64_t pid, uint64_t tail)
{
	char a[24], b[24];
	size_t m = (size_t)snprintf(a, sizeof(a), "%llu", (unsigned long long)pid);
	size_t n = (size_t)snprintf(b, sizeof(b), "%llu", (unsigned long long)tail);

	return n <= m && !strcmp(a + m - n, b);
}

static uint32_t process_find(struct topo_log *log, const struct message *m)
{
	struct topo_reader *r = log->reader;

	uint32_t first = topo_map_get(&r->pids, m->pid);

	for (uint32_t i = first; i != TOPO_NONE; i = r->processes[i].next)
		if (host_fits(&r->processes[i], m->host))
			return i;
	topo_map_set(&r->pids, m->pid, (uint32_t)r->process_count);
	TOPO_PUSH(r->processes, r->process_count, r->process_room) =
		(struct process){ .pid = m->pid, .next = first, .newest = TOPO_NONE, .final_host = TOPO_NONE };
	return (uint32_t)r->process_count - 1;
}

/* host, pid and tid in one number; who is found by it is compared in full. */
static uint64_t speaker_key(const struct message *m)
{
	uint64_t h = m->pid * 0x9e3779b97f4a7c15u ^ m->tid * 0xc2b2ae3d27d4eb4fu;

	for (const char *p = m->host.at; p < m->host.end; p++)
		h = (h ^ (unsigned char)*p) * 0x100000001b3u;
	return h;
}

/* The thread that speaks; TOPO_NONE when a torn head leaves it open. */
static uint32_t thread_find(struct topo_log *log, const struct message *m)
{
	struct topo_reader *r = log->reader;
	uint64_t key = speaker_key(m);
	uint32_t known = topo_map_get(&r->speakers, key), first, process;

	if (known != TOPO_NONE && r->threads[known].tid == m->tid && !m->torn_head) {
		struct process *p = &r->processes[r->threads[known].process];

		if (p->pid == m->pid && topo_span_is(m->host, p->host[0].name)) {
			p->host[0].count++;
			return known;
		}
	}
	first = topo_map_get(&r->tids, m->tid);
	for (uint32_t t = first; t != TOPO_NONE; t = r->threads[t].next) {
		struct process *p = &r->processes[r->threads[t].process];

		if (m->torn_head ? pid_fits(p->pid, m->pid) : p->pid == m->pid && host_fits(p, m->host)) {
			if (!m->torn_head)
				host_count(&log->names, p, m->host);
			return t;
		}
	}
	if (m->torn_head)
		return TOPO_NONE;
	process = process_find(log, m);
	host_count(&log->names, &r->processes[process], m->host);
	TOPO_PUSH(r->threads, r->thread_count, r->thread_room) = (struct thread){
		.tid = m->tid, .process = process, .next = first, .open = TOPO_NONE, .last = TOPO_NONE
	};
	topo_map_set(&r->tids, m->tid, (uint32_t)r->thread_count - 1);
	topo_map_set(&r->speakers, key, (uint32_t)r->thread_count - 1);
	return (uint32_t)r->thread_count - 1;
}

/* ---- members ---- */

static uint32_t member_new(struct topo_reader *r, uint32_t process, struct topo_at at)
{
	TOPO_PUSH(r->members, r->member_count, r->member_room) =
		(struct member){ .process = process, .rank = -1, .rank_count = -1, .cuda_dev = -1, .nvml_dev = -1,
				 .nodes = -1, .channels = -1, .earlier = TOPO_NONE, .comm = TOPO_NONE, .at = at };
	return (uint32_t)r->member_count - 1;
}

/* A connection line of a thread that is making no communicator: the newest that fits. */
static uint32_t member_fitting(const struct topo_reader *r, const struct thread *t, int32_t dev, int32_t a, int32_t b)
{
	uint32_t i = r->processes[t->process].newest;

	if (t->last != TOPO_NONE && (a < 0 || r->members[t->last].rank == a || r->members[t->last].rank == b))
		return t->last;
	for (; i != TOPO_NONE; i = r->members[i].earlier) {
		const struct member *m = &r->members[i];

		if (!m->gone && m->known && (m->cuda_dev == dev || dev < 0 || m->cuda_dev < 0) && m->complete &&
		    (a < 0 || ((m->rank == a || m->rank == b) && a < m->rank_count && b < m->rank_count)))
			return i;
	}
	return TOPO_NONE;
}

/* The member that a line of `t` speaks of; a and b are the ranks it names, or -1. */
static uint32_t member_of(struct topo_reader *r, struct thread *t, const struct message *m, int32_t a, int32_t b)
{
	uint32_t fitting;

	if (t->open != TOPO_NONE)
		return t->open;
	if (r->processes[t->process].says_start || a < 0) {
		fitting = member_fitting(r, t, m->dev, a, b);
		if (fitting != TOPO_NONE || a < 0)
			return fitting;
	}
	return t->open = member_new(r, t->process, m->at);
}

/* ---- messages ---- */

static void note(struct topo_log *log, enum topo_note_kind kind, uint32_t process, struct topo_span text,
		 struct topo_at at)
{
	const char *name = topo_name(&log->names, text);

	/* Until finish(), `host` is the process. */
	for (size_t i = log->note_count; i-- > 0 && log->note_count - i < 64;)
		if (log->notes[i].kind == kind && log->notes[i].text == name && log->notes[i].host == process) {
			log->notes[i].count++;
			return;
		}
	TOPO_PUSH(log->notes, log->note_count, log->note_room) =
		(struct topo_note){ .kind = kind, .host = process, .text = name, .count = 1, .at = at };
}

static void version_set(struct topo_log *log, struct topo_span s)
{
	uint64_t major, minor, patch = 0;
	struct topo_span from = s;

	if (log->version || !topo_take_u64(&s, &major) || !topo_take(&s, ".") || !topo_take_u64(&s, &minor) ||
	    major > 9 || minor > 99)
		return;
	if (topo_take(&s, ".") && (!topo_take_u64(&s, &patch) || patch > 99))
		patch = 0;
	log->version = topo_name(&log->names, (struct topo_span){ from.at, s.at });
	log->version_number = (int)(10000 * major + 100 * minor + patch);
}

static void setting_add(struct topo_log *log, uint32_t process, struct topo_span name, struct topo_span value,
			struct topo_at at)
{
	struct topo_setting s = { .host = process, .at = at };

	if (value.end > value.at && value.end[-1] == '.')
		value.end--;
	s.name = topo_name(&log->names, name);
	s.value = topo_name(&log->names, value);
	TOPO_PUSH(log->settings, log->setting_count, log->setting_room) = s;
}

/* [index]name:port/layer ... as NET/IB and NET/Socket list them. */
static void nic_list(struct topo_log *log, uint32_t process, struct topo_span s, const char *net, struct topo_at at)
{
	struct process *p = &log->reader->processes[process];
	uint64_t index, port;

	while (topo_take_past(&s, "[")) {
		struct topo_span name, layer = { s.at, s.at };

		if (!topo_take_u64(&s, &index) || !topo_take(&s, "]") || !topo_take_word(&s, ": ;", &name) ||
		    index > 255)
			continue;
		port = 0;
		if (topo_take(&s, ":") && topo_take_u64(&s, &port) && topo_take(&s, "/"))
			topo_take_word(&s, " /:;", &layer);
		if (index >= p->nic_count) {
			p->nics = realloc(p->nics, (index + 1) * sizeof(*p->nics));
			if (!p->nics)
				abort();
			memset(p->nics + p->nic_count, 0, (index + 1 - p->nic_count) * sizeof(*p->nics));
			p->nic_count = index + 1;
		}
		p->nics[index].name = topo_name(&log->names, name);
		p->nics[index].net = net ? net : layer.at < layer.end ? topo_name(&log->names, layer) : "IB";
		p->nics[index].port = (int32_t)(port < 256 ? port : 0);
		p->nics[index].at = at;
	}
}

/* NET/IB : Made virtual device [8] name=mlx5_0 speed=400000 ndevs=1 */
static void nic_virtual(struct topo_log *log, uint32_t process, struct topo_span s, struct topo_at at)
{
	char entry[128];
	struct topo_span name, text;
	uint64_t index;
	const char *net = "IB";
	struct process *p = &log->reader->processes[process];

	if (!topo_take_past(&s, "[") || !topo_take_u64(&s, &index) || !topo_take_past(&s, "name=") ||
	    !topo_take_word(&s, " ", &name) || index > 255 || topo_span_length(name) > 60)
		return;
	for (size_t i = 0; i < p->nic_count; i++)
		if (p->nics[i].name && topo_span_is(name, p->nics[i].name))
			net = p->nics[i].net;
	snprintf(entry, sizeof(entry), "[%d]%.*s:1/%s", (int)index, (int)topo_span_length(name), name.at, net);
	text = (struct topo_span){ entry, entry + strlen(entry) };
	nic_list(log, process, text, NULL, at);
}

static void strange(struct topo_log *log, const struct message *m)
{
	if (!log->strange++)
		log->strange_at = m->at;
}

/* rank, and in brackets its bus id or device. */
static bool take_rank(struct topo_span *s, int32_t *rank)
{
	uint64_t in_brackets;

	if (!topo_take_int(s, rank))
		return false;
	return !topo_take(s, "[") || (topo_take_hex(s, &in_brackets) && topo_take(s, "]"));
}

/* "NET/IBext/3(5)/GDRDMA(PCI)/Shared": what follows the name is read from the end. */
static bool take_net(struct topo_log *log, struct topo_span s, struct half *h)
{
	const char *p = s.end;
	uint64_t v;

	h->proxy = -1;
	for (;;) {
		if (p - s.at > 7 && !memcmp(p - 7, "/Shared", 7)) {
			h->shared = true;
			p -= 7;
		} else if (p - s.at > 7 && !memcmp(p - 7, "/GDRDMA", 7)) {
			h->gdr = true;
			p -= 7;
		} else if (p - s.at > 5 && !memcmp(p - 5, "(PCI)", 5)) {
			p -= 5;
		} else {
			break;
		}
	}
	if (p > s.at && p[-1] == ')') {
		p--;
		if (!back_number(&p, s.at, &v) || p == s.at || p[-1] != '(' || v > INT32_MAX)
			return false;
		h->proxy = (int32_t)v;
		p--;
	}
	if (!back_number(&p, s.at, &v) || p - s.at < 2 || p[-1] != '/' || v > 255)
		return false;
	h->net = (int32_t)v;
	h->via = TOPO_VIA_NET;
	h->how = topo_name(&log->names, (struct topo_span){ s.at, p - 1 });
	return true;
}

static bool take_local(struct topo_log *log, struct topo_span s, struct half *h)
{
	struct topo_span whole = s, word;
	bool p2p = topo_take(&s, "P2P/"), shm = !p2p && topo_take(&s, "SHM/");

	h->net = h->proxy = -1;
	h->kind = HALF_LOCAL;
	if (!p2p && !shm) {
		shm = topo_take(&s, "direct shared memory");
		h->via = TOPO_VIA_SHM;
	} else if (!topo_take_word(&s, " ", &word)) {
		return false;
	} else {
		h->via = p2p ? TOPO_VIA_P2P : TOPO_VIA_SHM;
		if (p2p && !topo_take(&s, " pointer/read") && !topo_take(&s, " pointer"))
			topo_take(&s, " device");
	}
	if ((!p2p && !shm) || s.at != s.end)
		return false;
	h->how = topo_name(&log->names, whole);
	return true;
}

/* Behind "Channel 00/0 : a -> b": how.  False: no form that NCCL prints. */
static bool take_connection(struct topo_log *log, struct topo_span s, struct half *h, struct member **by_pointer)
{
	struct topo_span comm = s;
	uint64_t pointer;

	*by_pointer = NULL;
	if (topo_take_past(&comm, " comm 0x")) {	/* RCCL says which communicator */
		s.end = comm.at - strlen(" comm 0x");
		if (topo_take_hex(&comm, &pointer)) {
			struct topo_reader *r = log->reader;

			r->rccl = true;
			for (size_t i = r->member_count; i-- > 0 && !*by_pointer;)
				if (r->members[i].pointer == pointer && r->members[i].known && !r->members[i].gone &&
				    (r->members[i].rank == h->from || r->members[i].rank == h->to))
					*by_pointer = &r->members[i];
		}
	}
	while (s.end > s.at && s.end[-1] == ' ')
		s.end--;
	if (topo_take(&s, " [send] via NET/")) {
		h->kind = HALF_SEND;
		return take_net(log, s, h);
	}
	if (topo_take(&s, " [receive] via NET/")) {
		h->kind = HALF_RECEIVE;
		return take_net(log, s, h);
	}
	return topo_take(&s, " via ") && take_local(log, s, h);
}

/* Channel 00/04 :    0   1   2   3 ...; the last number may be cut when the list is. */
static void order_line(struct topo_log *log, struct thread *t, const struct message *m, struct topo_span s,
		       uint16_t channel, int32_t channels)
{
	struct topo_reader *r = log->reader;
	uint32_t member = member_of(r, t, m, -1, -1);
	struct order o = { .channel = channel, .first = r->pool_count, .channels = channels };
	int32_t rank;

	for (;;) {
		topo_skip_blanks(&s);
		if (!topo_take_int(&s, &rank))
			break;
		TOPO_PUSH(r->pool, r->pool_count, r->pool_room) = rank;
		o.count++;
	}
	if (topo_take(&s, "...") && o.count) {
		o.count--;
		r->pool_count--;
	}
	if (member == TOPO_NONE)
		member = t->open = member_new(r, t->process, m->at);
	o.member = member;
	TOPO_PUSH(r->orders, r->order_count, r->order_room) = o;
}

/* "Channel ..." and "Ring ...": order of a ring, neighbours in a ring, or a connection. */
static void channel_line(struct topo_log *log, struct thread *t, const struct message *m, struct topo_span s)
{
	struct topo_reader *r = log->reader;
	struct half h = { .at = m->at };
	struct member *by_pointer;
	int32_t channel, second = -1, third;
	uint32_t member;

	if (!topo_take_int(&s, &channel) || channel < 0 || channel >= CHANNELS_MAX)
		return;
	if (topo_take(&s, "/") && !topo_take_int(&s, &second)) {
		strange(log, m);
		return;
	}
	topo_skip_blanks(&s);
	if (!topo_take(&s, ":"))
		return;			/* "Channel 0 shared memory ..." and the like */
	topo_skip_blanks(&s);
	h.channel = (uint16_t)channel;
	h.conn = second == 1;
	{
		struct topo_span list = s;

		if (topo_take_int(&list, &h.from) && (list.at == list.end || *list.at == ' ') &&
		    !topo_take(&list, " -> ") && !topo_take(&list, " [")) {
			order_line(log, t, m, s, h.channel, second);
			return;
		}
	}
	if (!take_rank(&s, &h.from) || !topo_take(&s, " -> ") || !take_rank(&s, &h.to)) {
		strange(log, m);
		return;
	}
	if (topo_take(&s, " -> ")) {
		if (!topo_take_int(&s, &third) || s.at != s.end) {
			strange(log, m);
			return;
		}
		member = member_of(r, t, m, h.to, h.to);
		TOPO_PUSH(r->pool, r->pool_count, r->pool_room) = h.to;
		TOPO_PUSH(r->pool, r->pool_count, r->pool_room) = third;
		TOPO_PUSH(r->orders, r->order_count, r->order_room) =
			(struct order){ .member = member, .channel = h.channel, .pair = true, .channels = -1,
					.first = r->pool_count - 2, .count = 2 };
		return;
	}
	if (h.from < 0 || h.to < 0 || h.from > RANKS_MAX || h.to > RANKS_MAX ||
	    !take_connection(log, s, &h, &by_pointer)) {
		strange(log, m);
		return;
	}
	h.member = by_pointer ? (uint32_t)(by_pointer - r->members) : member_of(r, t, m, h.from, h.to);
	t->last = h.member;
	h.segment = r->members[h.member].segment;
	TOPO_PUSH(r->halves, r->half_count, r->half_room) = h;
}

static void member_identify(struct member *i, struct topo_span s)
{
	uint64_t v;
	int32_t n;

	for (;;) {
		topo_skip_blanks(&s);
		if (topo_take(&s, "rank ") && topo_take_int(&s, &n))
			i->rank = n;
		else if (topo_take(&s, "nranks ") && topo_take_int(&s, &n))
			i->rank_count = n;
		else if (topo_take(&s, "cudaDev ") && topo_take_int(&s, &n))
			i->cuda_dev = n;
		else if (topo_take(&s, "nvmlDev ") && topo_take_int(&s, &n))
			i->nvml_dev = n;
		else if (topo_take(&s, "busId ") && topo_take_hex(&s, &v))
			i->bus = v;
		else if (topo_take(&s, "commId 0x") && topo_take_hex(&s, &v))
			i->id = v;
		else if (topo_take(&s, "localSize ") && topo_take_u64(&s, &v))
			continue;
		else
			return;
	}
}

/* [Rank 1] ncclCommInitRankConfig comm 0x.. rank 0 nranks 8 ... - Init START|COMPLETE, - Destroy COMPLETE, ... */
static void comm_line(struct topo_log *log, struct thread *t, const struct message *m, struct topo_span s)
{
	struct topo_reader *r = log->reader;
	struct process *p = &r->processes[t->process];
	struct topo_span parent;
	struct member said = { .rank = -1, .rank_count = -1, .cuda_dev = -1, .nvml_dev = -1 }, *i;
	bool start, complete, closing;
	uint32_t index;

	if (!topo_take_past(&s, "comm 0x") || !topo_take_hex(&s, &said.pointer))
		return;
	start = topo_span_has(s, "- Init START");
	complete = !start && topo_span_has(s, "- Init COMPLETE");
	closing = !start && !complete &&
		  (topo_span_has(s, "- Destroy COMPLETE") || topo_span_has(s, "- Abort COMPLETE"));
	if (!start && !complete && topo_span_has(s, "nNodes ")) {
		struct topo_span nodes = s;
		int32_t count;

		index = t->open != TOPO_NONE ? t->open : member_fitting(r, t, m->dev, -1, -1);
		if (topo_take_past(&nodes, "nNodes ") && topo_take_int(&nodes, &count) && index != TOPO_NONE)
			r->members[index].nodes = count;
		return;
	}
	if (closing) {
		for (size_t k = 0; k < r->member_count; k++)
			if (r->members[k].pointer == said.pointer && r->members[k].process == t->process)
				r->members[k].gone = true;
		if (topo_span_has(s, "- Abort"))
			note(log, NOTE_ABORT, t->process, m->text, m->at);
		return;
	}
	if (!start && !complete)
		return;
	member_identify(&said, s);
	if (said.rank < 0 || said.rank_count <= said.rank || said.rank_count > RANKS_MAX)
		return;
	if (start) {
		p->says_start = true;
		t->open = TOPO_NONE;
	}
	if (t->open == TOPO_NONE && complete)		/* START in another thread, or lost */
		for (uint32_t k = p->newest; k != TOPO_NONE && t->open == TOPO_NONE; k = r->members[k].earlier)
			if (r->members[k].pointer == said.pointer && r->members[k].rank == said.rank &&
			    !r->members[k].complete)
				t->open = k;
	if (t->open == TOPO_NONE)
		t->open = member_new(r, t->process, m->at);
	index = t->open;
	i = &r->members[index];
	if (!i->known) {
		i->known = true;
		i->earlier = p->newest;
		p->newest = index;
		for (uint32_t k = i->earlier; k != TOPO_NONE; k = r->members[k].earlier)
			i->ordinal += r->members[k].rank_count == said.rank_count && r->members[k].rank == said.rank;
		i->rank = said.rank;
		i->rank_count = said.rank_count;
		i->cuda_dev = said.cuda_dev;
		i->nvml_dev = said.nvml_dev;
		i->bus = said.bus;
		i->pointer = said.pointer;
		i->id = said.id;
		i->at = m->at;
		if (topo_take_past(&s, "parent 0x")) {
			uint64_t skipped;

			topo_take_hex(&s, &skipped);	/* a pointer: differs from process to process */
			if (topo_take_word(&s, "-", &parent))
				i->parent = topo_name(&log->names, parent);
		}
	}
	if (complete) {
		i->complete = true;
		t->open = TOPO_NONE;
	}
}

static void interface_note(struct topo_log *log, uint32_t process, struct topo_span s, struct topo_at at)
{
	struct topo_span name;

	topo_skip_blanks(&s);
	if (topo_take(&s, "["))
		topo_take_past(&s, "]");
	if (topo_take_word(&s, ":<", &name))
		note(log, NOTE_INTERFACE, process, name, at);
}

/* eth0:10.233.99.245<0>: hosts of one /24 network are often containers of one machine. */
static void subnet_note(struct topo_log *log, uint32_t process, struct topo_span s, struct topo_at at)
{
	struct topo_span subnet;
	uint64_t part;

	if (!topo_take_past(&s, ":"))
		return;
	subnet.at = s.at;
	for (int i = 0; i < 3; i++)
		if (!topo_take_u64(&s, &part) || part > 255 || !topo_take(&s, "."))
			return;
	subnet.end = s.at - 1;
	note(log, NOTE_SUBNET, process, subnet, at);
}

/* AllReduce: 268435456 Bytes -> Algo RING proto SIMPLE channel{Lo..Hi}={0..23}, and the forms before. */
static void choice_line(struct topo_log *log, const struct message *m)
{
	struct topo_choice c = { .channels = -1, .at = m->at };
	struct topo_span s = m->text, function = { s.at, s.at }, algo, proto;
	int32_t low, high;

	if (*s.at > '9' && (!topo_take_word(&s, ":", &function) || !topo_take(&s, ": ")))
		return;
	if (!topo_take_u64(&s, &c.bytes) || !topo_take(&s, " Bytes -> Algo ") || !topo_take_word(&s, " ", &algo) ||
	    !topo_take(&s, " proto ") || !topo_take_word(&s, " ", &proto))
		return;
	if (topo_take(&s, " channel{Lo..Hi}={") && topo_take_int(&s, &low) && topo_take(&s, "..") &&
	    topo_take_int(&s, &high))
		c.channels = high - low + 1;
	c.function = topo_name(&log->names, function);
	c.algo = topo_name(&log->names, algo);
	c.proto = topo_name(&log->names, proto);
	for (size_t i = 0; i < log->choice_count; i++)
		if (log->choices[i].function == c.function && log->choices[i].bytes == c.bytes)
			return;
	TOPO_PUSH(log->choices, log->choice_count, log->choice_room) = c;
}

static void connected_line(struct topo_log *log, struct thread *t, const struct message *m)
{
	struct topo_reader *r = log->reader;
	uint32_t member = t->open != TOPO_NONE ? t->open : t->last;

	if (member == TOPO_NONE)
		return;
	if (topo_span_has(m->text, "all rings"))
		r->members[member].ring_segment = r->members[member].segment;
	r->members[member].segment++;
}

static void channels_line(struct topo_reader *r, struct thread *t, const struct message *m)
{
	struct topo_span s = m->text;
	uint32_t member = t->open != TOPO_NONE ? t->open : t->last;
	int32_t n;

	if (member != TOPO_NONE && topo_take_int(&s, &n) && topo_take(&s, " coll channels"))
		r->members[member].channels = n;
}

static void net_line(struct topo_log *log, uint32_t process, const struct message *m, struct topo_span s)
{
	if (topo_take(&s, "IB : Using")) {
		struct topo_span oob = s;

		if (topo_take_past(&oob, "; OOB")) {
			s.end = oob.at;
			subnet_note(log, process, oob, m->at);
		}
		nic_list(log, process, s, NULL, m->at);
	} else if (topo_take(&s, "IB : Made virtual device ")) {
		nic_virtual(log, process, s, m->at);
	} else if (topo_take(&s, "IB : No device found")) {
		note(log, NOTE_NO_IB, process, m->text, m->at);
	} else if (topo_take(&s, "Socket : Using")) {
		nic_list(log, process, s, "Socket", m->at);
		interface_note(log, process, s, m->at);
	} else if (topo_take(&s, "IB : Unable to open device")) {
		note(log, NOTE_OPEN_FAILED, process, m->text, m->at);
	} else if (topo_take(&s, "IB :SHARP coll init error")) {
		note(log, NOTE_SHARP, process, m->text, m->at);
	} else if (topo_take(&s, "IB : GPU Direct RDMA Disabled")) {
		note(log, NOTE_GDR_DISABLED, process, m->text, m->at);
	}
}

static void bootstrap_line(struct topo_log *log, uint32_t process, const struct message *m, struct topo_span s)
{
	interface_note(log, process, s, m->at);
	subnet_note(log, process, s, m->at);
}

static void message_read(struct topo_log *log, const struct message *m)
{
	uint32_t index = thread_find(log, m);
	struct topo_reader *r = log->reader;
	struct topo_span s = m->text, name;
	struct thread *t;

	if (index == TOPO_NONE)
		return;
	t = &r->threads[index];
	if (s.at == s.end)
		return;
	if (topo_take(&s, "Channel ") || topo_take(&s, "Ring "))
		channel_line(log, t, m, s);
	else if (topo_take(&s, "NET/"))
		net_line(log, t->process, m, s);
	else if (topo_take(&s, "Bootstrap : Using ") || topo_take(&s, "Bootstrap: Using "))
		bootstrap_line(log, t->process, m, s);
	else if (topo_take(&s, "Using network ") || topo_take(&s, "Assigned NET plugin "))
		note(log, NOTE_NETWORK, t->process, s, m->at);
	else if (topo_take(&s, "Connected all") || topo_take(&s, "Connected NVLS tree"))
		connected_line(log, t, m);
	else if (topo_take(&s, "NCCL version ") || topo_take(&s, "RCCL version "))
		version_set(log, s);
	else if (topo_take(&s, "PXN Disabled"))
		note(log, NOTE_PXN_OFF, t->process, m->text, m->at);
	else if (topo_take(&s, "Pattern "))
		note(log, NOTE_PATTERN, t->process, m->text, m->at);
	else if (topo_take(&s, "Could not find a path for pattern "))
		note(log, NOTE_SIMPLE_ORDER, t->process, m->text, m->at);
	else if (topo_take(&s, "CUDA Dev ") && topo_span_has(s, "NIC distance"))
		note(log, NOTE_DISTANCE, t->process, m->text, m->at);
	else if (topo_take(&s, "NVLS multicast support is available"))
		note(log, NOTE_NVLS, t->process, m->text, m->at);
	else if (topo_take(&s, "Setting affinity for ") || topo_take(&s, "ncclTopoGetCpuAffinity: Affinity for "))
		note(log, NOTE_AFFINITY, t->process, s, m->at);
	else if (topo_take(&s, "Mismatched NCCL version"))
		note(log, NOTE_VERSION_MISMATCH, t->process, m->text, m->at);
	else if (topo_take(&s, "NCCL_") && topo_take_word(&s, " ", &name) && topo_take(&s, " set by environment to "))
		setting_add(log, t->process, (struct topo_span){ name.at - 5, name.end }, s, m->at);
	else if (*m->text.at >= '0' && *m->text.at <= '9' && topo_span_has(m->text, " coll channels"))
		channels_line(r, t, m);
	else if (*m->text.at == 'c' || *m->text.at == 'n' || *m->text.at == '[')
		comm_line(log, t, m, m->text);		/* "comm 0x", "ncclCommInitRank comm 0x", "[Rank 0] ..." */
	else if (strchr("ABGRS0123456789", *m->text.at) && topo_span_has(m->text, " Bytes -> Algo "))
		choice_line(log, m);
}

static void line_read(struct topo_log *log, struct topo_span line, struct topo_at at)
{
	struct message m = { .at = at }, next = { .at = at };
	struct topo_span version = line;
	bool have = message_next(line.at, line, &m);

	if (!log->version && topo_take_past(&version, "NCCL version "))
		version_set(log, version);
	while (have) {
		bool more = message_next(m.text.at, line, &next);

		if (more) {		/* this message was torn, unless it was a blank before the next */
			m.text.end = next.begin;
			while (m.text.end > m.text.at && m.text.end[-1] == ' ')
				m.text.end--;
			if (!log->torn++)
				log->torn_at = at;
		}
		if (m.torn_head && !log->torn++)
			log->torn_at = at;
		log->messages++;
		message_read(log, &m);
		m = next;
		have = more;
	}
}

void topo_log_parse(struct topo_log *log, const char *file, const char *text, size_t bytes)
{
	enum { DATED_LINES = 100 };		/* launchers date every line or none */
	struct topo_span rest = { text, text + bytes }, line;
	struct topo_at at = { .file = (uint32_t)log->file_count };

	if (!log->reader)
		log->reader = topo_alloc(1, sizeof(*log->reader));
	TOPO_PUSH(log->files, log->file_count, log->file_room) = topo_name_of(&log->names, file);
	while (topo_line(&rest, &line)) {
		at.line++;
		log->lines++;
		if (!log->day && at.line <= DATED_LINES) {
			struct topo_span head = line;

			topo_skip_blanks(&head);
			topo_take(&head, "[");
			topo_take_date(&head, &log->day);
		}
		line_read(log, line, at);
	}
}

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
	return x->value != y->value ? strcmp(x->value, y->value) : x->at.line < y->at.line ? -1 : 1;
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

static const struct topo_comm *comm_of(const struct topo_log *log, uint32_t member)
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
		struct topo_comm *c = (struct topo_comm *)comm_of(log, r->orders[i].member);

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
		struct topo_comm *c = (struct topo_comm *)comm_of(log, o->member);
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

void topo_log_plan(struct topo_log *log, const char *file, const char *const *hosts, size_t host_count, size_t gpus,
		   const char *const *nics, size_t nic_count)
{
	struct topo_at at = { .file = (uint32_t)log->file_count };
	struct topo_comm c = { .rank_count = host_count * gpus, .said_nodes = -1, .planned = true, .at = at,
			       .channel_count = nic_count, .host_count = host_count };
	size_t room = 0;

	TOPO_PUSH(log->files, log->file_count, log->file_room) = topo_name_of(&log->names, file);
	c.id = topo_name_of(&log->names, "planned");
	c.ranks = topo_alloc(c.rank_count, sizeof(*c.ranks));
	c.next = topo_alloc(c.rank_count * nic_count, sizeof(*c.next));
	c.closed = topo_alloc(nic_count, sizeof(*c.closed));
	for (size_t h = 0; h < host_count; h++) {
		struct topo_at line = { .file = at.file, .line = (uint32_t)h + 1 };

		TOPO_PUSH(log->hosts, log->host_count, log->host_room) =
			(struct topo_host){ .name = topo_name_of(&log->names, hosts[h]), .facts = TOPO_NONE };
		log->hosts[log->host_count - 1].machine = log->hosts[log->host_count - 1].name;
		for (size_t n = 0; n < nic_count; n++)
			TOPO_PUSH(log->nics, log->nic_count, log->nic_room) =
				(struct topo_nic){ .host = (uint32_t)log->host_count - 1,
						   .port = 1,
						   .net = "IB",
						   .name = topo_name_of(&log->names, nics[n]),
						   .adapter = TOPO_NONE,
						   .at = line };
		for (size_t g = 0; g < gpus; g++)
			c.ranks[h * gpus + g] = (struct topo_rank){ .present = true,
								    .complete = true,
								    .at = line,
								    .host = (uint32_t)log->host_count - 1,
								    .process = TOPO_NONE,
								    .cuda_dev = (int32_t)g,
								    .nvml_dev = (int32_t)g };
	}
	for (size_t n = 0; n < nic_count; n++) {
		c.closed[n] = true;
		for (size_t r = 0; r < c.rank_count; r++) {
			size_t to = (r + 1) % c.rank_count, h = r / gpus, next = to / gpus;
			struct topo_edge e = { .from = (int32_t)r,
					       .to = (int32_t)to,
					       .channel = (uint16_t)n,
					       .ring = true,
					       .via = h == next ? TOPO_VIA_P2P : TOPO_VIA_NET,
					       .how = "planned" };

			c.next[n * c.rank_count + r] = (int32_t)to;
			e.send = e.recv = (struct topo_end){ .seen = true, .gdr = true, .net = -1, .nic = TOPO_NONE,
							     .proxy = -1, .at = c.ranks[r].at };
			if (h != next) {
				e.send.nic = (uint32_t)(log->nic_count - host_count * nic_count + h * nic_count + n);
				e.recv.nic = (uint32_t)(log->nic_count - host_count * nic_count + next * nic_count + n);
				e.send.net = e.recv.net = (int32_t)n;
			}
			TOPO_PUSH(c.edges, c.edge_count, room) = e;
		}
	}
	TOPO_PUSH(log->comms, log->comm_count, log->comm_room) = c;
}
