/*
 * comm/topo/log.c - NCCL's and RCCL's INFO lines, 2.3 to 2.30, into members (log_reader.h).
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
 * and device whose rank the line names.
 *
 * Not here: which members are one communicator, and its rings (log_join.c).
 */
#include "comm/topo/log_reader.h"

#include "bench/base/err.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One message, cut out of its line. */
struct message {
	struct topo_span host, text;
	uint64_t pid, tid;
	int32_t dev;			/* -1: none */
	const char *begin, *end;	/* of the anchor */
	uint32_t thread;		/* whose anchor it is; TOPO_NONE: to be found */
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
	uint64_t n = 0, unit = 1;

	for (; at > from && at[-1] >= '0' && at[-1] <= '9'; unit *= 10)
		n += unit * (uint64_t)(*--at - '0');
	if (at == end || end - at > 18)
		return false;
	*p = at;
	*v = n;
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

/* Where an anchor that ends at `end` is remembered; NULL: there is too little before it to be one. */
static struct anchor *anchor_slot(struct topo_reader *r, const char *from, const char *end)
{
	uint64_t tail[2];

	if (end - from < (ptrdiff_t)sizeof(tail))
		return NULL;
	memcpy(tail, end - sizeof(tail), sizeof(tail));
	return &r->anchors[((tail[0] * 31 ^ tail[1]) * 0x9e3779b97f4a7c15u >> 32) % ANCHORS];
}

/* The same bytes as an anchor before, with nothing in front that would belong to it. */
static bool anchor_again(struct topo_reader *r, const char *from, const char *end, struct message *m)
{
	const struct anchor *a = anchor_slot(r, from, end);
	const char *begin;

	if (!a || !a->at || a->bytes > (size_t)(end - from))
		return false;
	begin = end - a->bytes;
	if (memcmp(begin, a->at, a->bytes) || (begin > from && host_char((unsigned char)begin[-1])))
		return false;
	m->begin = begin;
	m->torn_head = false;
	m->dev = a->dev;
	m->thread = a->thread;
	return true;
}

/* The next message of `line` behind `from`; its text still runs to the end of the line.  memchr() for a capital
 * N is several times as fast as memmem() for the word: little else has one.  `log` learns the version where a line
 * without an anchor has it; NULL: only whether there is a message. */
static bool message_next(struct topo_log *log, const char *from, struct topo_span line, struct message *m)
{
	const char *p = from;

	while ((p = memchr(p, 'N', (size_t)(line.end - p)))) {
		struct topo_span s = { p, line.end };

		if (topo_take(&s, "NCCL ")) {
			m->warn = topo_take(&s, "WARN ");
			m->end = p;
			m->thread = TOPO_NONE;
			if ((m->warn || topo_take(&s, "INFO ")) &&
			    ((log && anchor_again(log->reader, from, p, m)) || anchor_before(from, p, m))) {
				m->text = s;
				return true;
			}
			if (log && topo_take(&s, "version "))
				version_set(log, s);
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
		if (message_next(NULL, line.at, line, &m))
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

/* By its tid among those that are known; TOPO_NONE. */
static uint32_t thread_known(struct topo_log *log, const struct message *m)
{
	struct topo_reader *r = log->reader;
	uint32_t t = topo_map_get(&r->tids, m->tid);

	for (; t != TOPO_NONE; t = r->threads[t].next) {
		struct process *p = &r->processes[r->threads[t].process];

		if (m->torn_head)
			if (pid_fits(p->pid, m->pid))
				return t;
		if (!m->torn_head && p->pid == m->pid && host_fits(p, m->host)) {
			host_count(&log->names, p, m->host);
			return t;
		}
	}
	return t;
}

static uint32_t thread_new(struct topo_log *log, const struct message *m)
{
	struct topo_reader *r = log->reader;
	uint32_t process = process_find(log, m), index = (uint32_t)r->thread_count;

	host_count(&log->names, &r->processes[process], m->host);
	TOPO_PUSH(r->threads, r->thread_count, r->thread_room) =
		(struct thread){ .tid = m->tid, .process = process, .next = topo_map_get(&r->tids, m->tid),
				 .open = TOPO_NONE, .last = TOPO_NONE };
	topo_map_set(&r->tids, m->tid, index);
	topo_map_set(&r->speakers, speaker_key(m), index);
	return index;
}

/* The next line with these bytes needs no search, if they spell the host as the process's first line does. */
static void anchor_remember(struct topo_reader *r, const struct message *m, uint32_t thread)
{
	struct anchor *slot = anchor_slot(r, m->begin, m->end);

	if (slot && m->dev >= 0 && !m->warn)
		*slot = (struct anchor){ .at = m->begin, .bytes = (size_t)(m->end - m->begin), .thread = thread,
					 .dev = m->dev };
}

/* The thread that speaks; TOPO_NONE when a torn head leaves it open. */
static uint32_t thread_find(struct topo_log *log, const struct message *m)
{
	struct topo_reader *r = log->reader;
	uint32_t t = m->thread;

	if (t == TOPO_NONE && !m->torn_head) {
		t = topo_map_get(&r->speakers, speaker_key(m));
		if (t != TOPO_NONE) {
			struct process *p = &r->processes[r->threads[t].process];

			if (r->threads[t].tid != m->tid || p->pid != m->pid || !topo_span_is(m->host, p->host[0].name))
				t = TOPO_NONE;
			else
				anchor_remember(r, m, t);
		}
	}
	if (t != TOPO_NONE) {
		r->processes[r->threads[t].process].host[0].count++;
		return t;
	}
	t = thread_known(log, m);
	return t != TOPO_NONE || m->torn_head ? t : thread_new(log, m);
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
static bool take_way(struct topo_log *log, struct topo_span s, struct half *h)
{
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

/* The same, and the communicator where RCCL names it behind that: " comm 0x7f.. nRanks 08", a pointer of the
 * process that speaks, which means nothing in others. */
static bool take_connection(struct topo_log *log, const struct thread *t, struct topo_span s, struct half *h,
			    uint32_t *by_pointer)
{
	struct topo_reader *r = log->reader;
	struct topo_span comm = s;
	struct half plain = *h;
	uint64_t pointer;

	*by_pointer = TOPO_NONE;
	if (take_way(log, s, h))
		return true;
	*h = plain;
	if (!topo_take_past(&comm, " comm 0x"))
		return false;
	s.end = comm.at - strlen(" comm 0x");
	if (topo_take_hex(&comm, &pointer))
		for (uint32_t k = r->processes[t->process].newest; k != TOPO_NONE && *by_pointer == TOPO_NONE;
		     k = r->members[k].earlier)
			if (r->members[k].pointer == pointer && !r->members[k].gone &&
			    (r->members[k].rank == h->from || r->members[k].rank == h->to))
				*by_pointer = k;
	return take_way(log, s, h);
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
	int32_t channel, second = -1, third;
	uint32_t member, by_pointer;

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
	    !take_connection(log, t, s, &h, &by_pointer)) {
		strange(log, m);
		return;
	}
	h.member = by_pointer != TOPO_NONE ? by_pointer : member_of(r, t, m, h.from, h.to);
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

/* "comm 0x.. nNodes 2 ..." of the communicator that the thread makes, or made last. */
static void nodes_line(struct topo_reader *r, const struct thread *t, const struct message *m, struct topo_span s)
{
	uint32_t member = t->open != TOPO_NONE ? t->open : member_fitting(r, t, m->dev, -1, -1);
	int32_t count;

	if (topo_take_past(&s, "nNodes ") && topo_take_int(&s, &count) && member != TOPO_NONE)
		r->members[member].nodes = count;
}

/* The member that START or COMPLETE speaks of: the open one, or COMPLETE's whose START came from another thread, or a
 * new one. */
static uint32_t member_said(struct topo_reader *r, const struct thread *t, const struct member *said, bool complete,
			    struct topo_at at)
{
	if (t->open != TOPO_NONE)
		return t->open;
	for (uint32_t k = r->processes[t->process].newest; k != TOPO_NONE && complete; k = r->members[k].earlier)
		if (r->members[k].pointer == said->pointer && r->members[k].rank == said->rank && !r->members[k].complete)
			return k;
	return member_new(r, t->process, at);
}

/* From now on the member is known, and its process's newest. */
static void member_name(struct topo_log *log, uint32_t index, const struct member *said, struct topo_span s)
{
	struct topo_reader *r = log->reader;
	struct member *i = &r->members[index];
	struct process *p = &r->processes[i->process];
	struct topo_span parent;
	uint64_t pointer;

	i->known = true;
	i->rank = said->rank;
	i->rank_count = said->rank_count;
	i->cuda_dev = said->cuda_dev;
	i->nvml_dev = said->nvml_dev;
	i->bus = said->bus;
	i->pointer = said->pointer;
	i->id = said->id;
	i->at = said->at;
	i->earlier = p->newest;
	p->newest = index;
	for (uint32_t k = i->earlier; k != TOPO_NONE && !i->ordinal; k = r->members[k].earlier)
		if (r->members[k].rank_count == said->rank_count && r->members[k].rank == said->rank)
			i->ordinal = r->members[k].ordinal + 1;
	if (topo_take_past(&s, "parent 0x") && topo_take_hex(&s, &pointer) &&	/* which differs between processes */
	    topo_take_word(&s, "-", &parent))
		i->parent = topo_name(&log->names, parent);
}

/* [Rank 1] ncclCommInitRankConfig comm 0x.. rank 0 nranks 8 ... - Init START|COMPLETE, - Destroy COMPLETE, ... */
static void comm_line(struct topo_log *log, struct thread *t, const struct message *m, struct topo_span s)
{
	struct topo_reader *r = log->reader;
	struct process *p = &r->processes[t->process];
	struct member said = { .rank = -1, .rank_count = -1, .cuda_dev = -1, .nvml_dev = -1, .at = m->at };
	struct topo_span event;
	bool start, complete, aborted;
	uint32_t index;

	if ((!topo_take(&s, "comm 0x") && !topo_take_past(&s, "comm 0x")) || !topo_take_hex(&s, &said.pointer))
		return;
	event = s;
	if (!topo_take_past(&event, " - "))
		event.at = event.end;
	start = topo_take(&event, "Init START");
	complete = topo_take(&event, "Init COMPLETE");
	aborted = topo_take(&event, "Abort COMPLETE");
	if (aborted || topo_take(&event, "Destroy COMPLETE")) {
		for (uint32_t k = p->newest; k != TOPO_NONE; k = r->members[k].earlier)
			r->members[k].gone |= r->members[k].pointer == said.pointer;
		if (aborted)
			note(log, NOTE_ABORT, t->process, m->text, m->at);
		return;
	}
	if (!start && !complete) {
		nodes_line(r, t, m, s);
		return;
	}
	member_identify(&said, s);
	if (said.rank < 0 || said.rank_count <= said.rank || said.rank_count > RANKS_MAX)
		return;
	if (start) {
		p->says_start = true;
		t->open = TOPO_NONE;
	}
	index = t->open = member_said(r, t, &said, complete, m->at);
	if (!r->members[index].known)
		member_name(log, index, &said, s);
	if (complete) {
		r->members[index].complete = true;
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
	} else if (topo_take(&s, "Socket : Using")) {
		nic_list(log, process, s, "Socket", m->at);
		interface_note(log, process, s, m->at);
	}
}

static void bootstrap_line(struct topo_log *log, uint32_t process, const struct message *m, struct topo_span s)
{
	interface_note(log, process, s, m->at);
	subnet_note(log, process, s, m->at);
}

/* Messages that are kept as they stand, for the rules: all of one, or what follows its beginning. */
static const struct { const char *begin, *has; enum topo_note_kind kind; bool rest; } kept[] = {
	{ "Using network ", "", NOTE_NETWORK, true },
	{ "Assigned NET plugin ", "", NOTE_NETWORK, true },
	{ "Setting affinity for ", "", NOTE_AFFINITY, true },
	{ "ncclTopoGetCpuAffinity: Affinity for ", "", NOTE_AFFINITY, true },
	{ "NET/IB : No device found", "", NOTE_NO_IB, false },
	{ "NET/IB : Unable to open device", "", NOTE_OPEN_FAILED, false },
	{ "NET/IB :SHARP coll init error", "", NOTE_SHARP, false },
	{ "NET/IB : GPU Direct RDMA Disabled", "", NOTE_GDR_DISABLED, false },
	{ "PXN Disabled", "", NOTE_PXN_OFF, false },
	{ "Pattern ", "", NOTE_PATTERN, false },
	{ "Could not find a path for pattern ", "", NOTE_SIMPLE_ORDER, false },
	{ "CUDA Dev ", "NIC distance", NOTE_DISTANCE, false },
	{ "NVLS multicast support is available", "", NOTE_NVLS, false },
	{ "Mismatched NCCL version", "", NOTE_VERSION_MISMATCH, false },
};

static bool message_keep(struct topo_log *log, uint32_t process, const struct message *m)
{
	for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
		struct topo_span s = m->text;

		if (*s.at != *kept[i].begin || !topo_take(&s, kept[i].begin) || !topo_span_has(s, kept[i].has))
			continue;
		note(log, kept[i].kind, process, kept[i].rest ? s : m->text, m->at);
		return true;
	}
	return false;
}

static void message_read(struct topo_log *log, const struct message *m)
{
	uint32_t index = thread_find(log, m);
	struct topo_reader *r = log->reader;
	struct topo_span s = m->text, name;
	struct thread *t;

	if (index == TOPO_NONE || s.at == s.end)
		return;
	t = &r->threads[index];
	if (topo_take(&s, "Channel ") || topo_take(&s, "Ring "))
		channel_line(log, t, m, s);
	else if (message_keep(log, t->process, m))
		return;
	else if (topo_take(&s, "NET/"))
		net_line(log, t->process, m, s);
	else if (topo_take(&s, "Bootstrap : Using ") || topo_take(&s, "Bootstrap: Using "))
		bootstrap_line(log, t->process, m, s);
	else if (topo_take(&s, "Connected all") || topo_take(&s, "Connected NVLS tree"))
		connected_line(log, t, m);
	else if (topo_take(&s, "NCCL version ") || topo_take(&s, "RCCL version "))
		version_set(log, s);
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
	bool have = message_next(log, line.at, line, &m);

	while (have) {
		bool more = message_next(log, m.text.at, line, &next);

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
	memset(log->reader->anchors, 0, sizeof(log->reader->anchors));	/* they point into the text before */
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
