/*
 * report/decompose.c - see decompose.h.
 *
 * Every event gives two edges.  Between two neighbouring edges nothing changes, so
 * that segment belongs as a whole to the first class that is active; a bit mask of active
 * classes makes "first" one instruction.  Sorting the edges is the only part that is not
 * linear.
 *
 * Another order of priorities would split overlapping time differently, and never change
 * what is exposed: time in which only one class is active.
 */
#include "report/decompose.h"

#include "bench/base/err.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

struct edge {
	int64_t at_ns;
	int32_t cls;
	int32_t step;		/* +1 begins, -1 ends */
};

enum {
	COMPUTE_MASK = 1 << CLS_COMPUTE_FWD | 1 << CLS_COMPUTE_BWD | 1 << CLS_COMPUTE_OPT | 1 << CLS_COMPUTE_OTHER,
	COMM_MASK = 1 << CLS_COMM_WIRE | 1 << CLS_COMM_WAIT | 1 << CLS_COMM,
	LOADER_MASK = 1 << CLS_LOADER,
};

/* How many events are active in each class, and the classes that have any. */
struct active {
	uint32_t count[CLS_COUNT];
	uint32_t mask;
};

static int by_edge(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;

	return (x->at_ns > y->at_ns) - (x->at_ns < y->at_ns);
}

/* A record is nearly in order: lane after lane, in blocks of an iteration.  Each element then moves a few
 * places only; when that takes more moves than this for each, it was not so, and qsort() goes on. */
enum { MOVES_MAX = 48 };

static void edges_sort(struct edge *a, size_t n)
{
	size_t budget = MOVES_MAX * n;

	for (size_t i = 1; i < n; i++) {
		struct edge e = a[i];
		size_t j = i;

		for (; j > 0 && a[j - 1].at_ns > e.at_ns && budget; j--, budget--)
			a[j] = a[j - 1];
		a[j] = e;
	}
	if (!budget)
		qsort(a, n, sizeof(*a), by_edge);
}

static size_t edge_pair(struct edge *edges, enum event_class cls, int64_t from_ns, int64_t to_ns)
{
	edges[0] = (struct edge){ .at_ns = from_ns, .cls = cls, .step = 1 };
	edges[1] = (struct edge){ .at_ns = to_ns, .cls = cls, .step = -1 };
	return from_ns < to_ns ? 2 : 0;
}

static size_t edges_most(const struct event *events, size_t count, const struct match *m)
{
	size_t n = 2 * count + 2;	/* a pair is written before it is judged */

	for (size_t i = 0; i < count && m; i++)
		n += events[i].kind == KIND_COLLECTIVE ? 2 : 0;
	return n;
}

/* Two edges per event that reaches between begin and end, and two more where it is wait and wire. */
static size_t edges_make(struct edge *edges, const struct event *events, size_t count, const struct match *m, size_t rank,
			 int64_t begin, int64_t end)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		const struct event *e = &events[i];
		int64_t from = e->t0 > begin ? e->t0 : begin, to = e->t1 < end ? e->t1 : end, moves;

		if (e->cls >= CLS_UNATTRIBUTED)
			continue;
		if (m && match_moves_ns(m, rank, e, &moves)) {
			n += edge_pair(edges + n, CLS_COMM_WAIT, from, moves < to ? moves : to);
			n += edge_pair(edges + n, CLS_COMM_WIRE, moves > from ? moves : from, to);
		} else {
			n += edge_pair(edges + n, e->cls, from, to);
		}
	}
	return n;
}

static void edge_pass(struct active *a, const struct edge *e)
{
	a->count[e->cls] += (uint32_t)e->step;
	if (a->count[e->cls])
		a->mask |= 1u << e->cls;
	else
		a->mask &= ~(1u << e->cls);
}

static enum event_class first_class(uint32_t mask)
{
	return mask ? (enum event_class)__builtin_ctz(mask) : CLS_UNATTRIBUTED;
}

static void credit(struct account *out, uint32_t mask, int64_t ns)
{
	out->parts_ns[first_class(mask)] += ns;
	if (mask & COMM_MASK) {
		out->comm_ns += ns;
		if (mask & COMPUTE_MASK)
			out->comm_hidden_ns += ns;
	}
	if (mask & LOADER_MASK)
		out->loader_ns += ns;
}

/* ---- the ledger ------------------------------------------------------------------------ */

enum { SUM_EVERY = 64 };	/* an account is as large as some 18 segments: a sum every 64 makes the ledger a quarter larger */
_Static_assert(CLS_UNATTRIBUTED <= 16, "a bit of `active` for each class");

/* Neighbours of which the same is active are one. */
static void segments_make(struct ledger *l, const struct edge *edges, size_t count)
{
	struct active active = { .mask = 0 };

	l->at_ns[l->count] = l->begin_ns;
	l->active[l->count++] = 0;
	for (size_t next = 0; next < count;) {
		int64_t at = edges[next].at_ns;

		while (next < count && edges[next].at_ns == at)
			edge_pass(&active, &edges[next++]);
		if (active.mask == l->active[l->count - 1])
			continue;
		l->count -= at == l->at_ns[l->count - 1];	/* the first one, of no length */
		l->at_ns[l->count] = at;
		l->active[l->count++] = (uint16_t)active.mask;
	}
}

/* Segments from the one that `from_ns` lies in, until `to_ns` or the segment `stop`.  Returns where it stopped. */
static int64_t walk(const struct ledger *l, struct account *out, size_t i, size_t stop, int64_t from_ns, int64_t to_ns)
{
	for (; from_ns < to_ns && i < stop; i++) {
		int64_t end = i + 1 < l->count && l->at_ns[i + 1] < to_ns ? l->at_ns[i + 1] : to_ns;

		credit(out, l->active[i], end - from_ns);
		from_ns = end;
	}
	return from_ns;
}

static int sums_make(struct ledger *l)
{
	size_t sums = (l->count - 1) / SUM_EVERY + 1;

	l->upto = malloc(sums * sizeof(*l->upto));
	if (!l->upto)
		return err(NO_MEMORY, "no memory for the account of %zu segments", l->count);
	l->upto[0] = (struct account){ .begin_ns = l->begin_ns, .end_ns = l->begin_ns };
	for (size_t i = 1; i < sums; i++) {
		size_t first = (i - 1) * SUM_EVERY;

		l->upto[i] = l->upto[i - 1];
		l->upto[i].end_ns = walk(l, &l->upto[i], first, first + SUM_EVERY, l->at_ns[first], l->at_ns[first + SUM_EVERY]);
	}
	return OK;
}

/* Shrinks: cannot fail in a way that matters. */
static void *trimmed(void *list, size_t bytes)
{
	void *less = realloc(list, bytes);

	return less ? less : list;
}

int ledger_make(struct ledger *l, const struct event *events, size_t event_count, const struct match *m, size_t rank,
		int64_t begin_ns, int64_t end_ns)
{
	size_t room = edges_most(events, event_count, m), edge_count;
	struct edge *edges = malloc(room * sizeof(*edges));
	int rc;

	assert(begin_ns <= end_ns);
	*l = (struct ledger){ .at_ns = malloc(room * sizeof(*l->at_ns)), .active = malloc(room * sizeof(*l->active)),
			      .begin_ns = begin_ns, .end_ns = end_ns };
	if (!edges || !l->at_ns || !l->active) {
		free(edges);
		ledger_release(l);
		return err(NO_MEMORY, "no memory for the account of %zu events", event_count);
	}
	edge_count = edges_make(edges, events, event_count, m, rank, begin_ns, end_ns);
	edges_sort(edges, edge_count);
	segments_make(l, edges, edge_count);
	free(edges);
	l->at_ns = trimmed(l->at_ns, l->count * sizeof(*l->at_ns));
	l->active = trimmed(l->active, l->count * sizeof(*l->active));
	rc = sums_make(l);
	if (rc)
		ledger_release(l);
	return rc;
}

void ledger_release(struct ledger *l)
{
	free(l->at_ns);
	free(l->active);
	free(l->upto);
	*l = (struct ledger){ 0 };
}

size_t ledger_bytes(const struct ledger *l)
{
	return l->count * (sizeof(*l->at_ns) + sizeof(*l->active)) + l->count / SUM_EVERY * sizeof(*l->upto);
}

/* The segment that the moment lies in: outward from the last answer in growing steps, then by halves. */
static size_t segment_at(struct ledger *l, int64_t at_ns)
{
	size_t low = l->cursor, high = low + 1, step = 1;	/* at_ns[low] <= at_ns < at_ns[high] in the end */

	while (low && l->at_ns[low] > at_ns) {
		high = low;
		low = low > step ? low - step : 0;
		step *= 2;
	}
	for (step = 1; high < l->count && l->at_ns[high] <= at_ns; step *= 2) {
		low = high;
		high = high + step < l->count ? high + step : l->count;
	}
	while (high - low > 1) {
		size_t middle = (low + high) / 2;

		if (l->at_ns[middle] <= at_ns)
			low = middle;
		else
			high = middle;
	}
	l->cursor = low;
	return low;
}

static void account_add(struct account *out, const struct account *more, int64_t sign)
{
	for (int c = 0; c < CLS_COUNT; c++)
		out->parts_ns[c] += sign * more->parts_ns[c];
	out->comm_ns += sign * more->comm_ns;
	out->comm_hidden_ns += sign * more->comm_hidden_ns;
	out->loader_ns += sign * more->loader_ns;
}

struct account ledger_between(struct ledger *l, int64_t from_ns, int64_t to_ns)
{
	struct account a = { .begin_ns = from_ns, .end_ns = to_ns };
	size_t first = segment_at(l, from_ns), low = first / SUM_EVERY + 1, high;
	int64_t at_ns = walk(l, &a, first, low * SUM_EVERY, from_ns, to_ns);

	assert(l->begin_ns <= from_ns && from_ns <= to_ns && to_ns <= l->end_ns);
	if (at_ns < to_ns) {	/* on over sums, as far as there are any */
		high = segment_at(l, to_ns) / SUM_EVERY;
		account_add(&a, &l->upto[high], 1);
		account_add(&a, &l->upto[low], -1);
		walk(l, &a, high * SUM_EVERY, l->count, l->at_ns[high * SUM_EVERY], to_ns);
	}
	assert(parts_sum_ns(a.parts_ns) == account_ns(&a));
	return a;
}

/* Short stretches, of which blame has millions, need no account; long ones are no matter. */
void ledger_add(struct ledger *l, int64_t from_ns, int64_t to_ns, const uint8_t sum_of[CLS_COUNT], int64_t *sums_ns)
{
	size_t i = segment_at(l, from_ns), stop = i + SUM_EVERY < l->count ? i + SUM_EVERY : l->count;

	for (; from_ns < to_ns && i < stop; i++) {
		int64_t end = i + 1 < l->count && l->at_ns[i + 1] < to_ns ? l->at_ns[i + 1] : to_ns;

		sums_ns[sum_of[first_class(l->active[i])]] += end - from_ns;
		from_ns = end;
	}
	if (from_ns < to_ns) {
		struct account rest = ledger_between(l, from_ns, to_ns);

		for (int c = 0; c < CLS_COUNT; c++)
			sums_ns[sum_of[c]] += rest.parts_ns[c];
	}
}

enum event_class ledger_class(struct ledger *l, int64_t at_ns, int64_t limit_ns, int64_t *until_ns)
{
	size_t i = segment_at(l, at_ns);
	enum event_class cls = first_class(l->active[i]);

	do
		*until_ns = ++i < l->count && l->at_ns[i] < limit_ns ? l->at_ns[i] : limit_ns;
	while (*until_ns < limit_ns && first_class(l->active[i]) == cls);
	return cls;
}

int decompose(const struct event *events, size_t event_count, const int64_t *cuts, size_t windows,
	      struct account *out)
{
	struct ledger l;
	int rc = ledger_make(&l, events, event_count, NULL, 0, cuts[0], cuts[windows]);

	for (size_t w = 0; w < windows && !rc; w++)
		out[w] = ledger_between(&l, cuts[w], cuts[w + 1]);
	if (!rc)
		ledger_release(&l);
	return rc;
}
