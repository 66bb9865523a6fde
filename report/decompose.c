/*
 * report/decompose.c - see decompose.h.
 *
 * Every event gives two edges.  Between two neighbouring edges (or cuts) nothing changes, so
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

static int by_time(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
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

static void times_sort(int64_t *a, size_t n)
{
	size_t budget = MOVES_MAX * n;

	for (size_t i = 1; i < n; i++) {
		int64_t t = a[i];
		size_t j = i;

		for (; j > 0 && a[j - 1] > t && budget; j--, budget--)
			a[j] = a[j - 1];
		a[j] = t;
	}
	if (!budget)
		qsort(a, n, sizeof(*a), by_time);
}

/* Two edges per event that reaches between the outer cuts. */
static size_t edges_make(struct edge *edges, const struct event *events, size_t count, int64_t begin, int64_t end)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		const struct event *e = &events[i];
		int64_t from = e->t0 > begin ? e->t0 : begin, to = e->t1 < end ? e->t1 : end;

		if (e->cls >= CLS_UNATTRIBUTED || from >= to)
			continue;
		edges[n++] = (struct edge){ .at_ns = from, .cls = e->cls, .step = 1 };
		edges[n++] = (struct edge){ .at_ns = to, .cls = e->cls, .step = -1 };
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

static void credit(struct account *out, uint32_t mask, int64_t ns)
{
	out->parts_ns[mask ? __builtin_ctz(mask) : CLS_UNATTRIBUTED] += ns;
	if (mask & COMM_MASK) {
		out->comm_ns += ns;
		if (mask & COMPUTE_MASK)
			out->comm_hidden_ns += ns;
	}
	if (mask & LOADER_MASK)
		out->loader_ns += ns;
}

/* `running`: each account goes on where the one before it ended, and begins at the first cut. */
static int sweep(const struct event *events, size_t event_count, const int64_t *cuts, size_t windows, bool running,
		 struct account *out)
{
	struct edge *edges = malloc((2 * event_count + 1) * sizeof(*edges));
	struct active active = { .mask = 0 };
	size_t edge_count, next = 0;

	if (!edges)
		return err(NO_MEMORY, "no memory for the account of %zu events", event_count);
	edge_count = windows ? edges_make(edges, events, event_count, cuts[0], cuts[windows]) : 0;
	edges_sort(edges, edge_count);
	for (size_t w = 0; w < windows; w++) {
		int64_t at = cuts[w];

		assert(cuts[w] <= cuts[w + 1]);
		out[w] = running && w ? out[w - 1] : (struct account){ .begin_ns = at };
		out[w].end_ns = cuts[w + 1];
		while (at < cuts[w + 1]) {
			int64_t to = cuts[w + 1];

			while (next < edge_count && edges[next].at_ns <= at)
				edge_pass(&active, &edges[next++]);
			if (next < edge_count && edges[next].at_ns < to)
				to = edges[next].at_ns;
			credit(&out[w], active.mask, to - at);
			at = to;
		}
		assert(parts_sum_ns(out[w].parts_ns) == account_ns(&out[w]));
	}
	free(edges);
	return OK;
}

int decompose(const struct event *events, size_t event_count, const int64_t *cuts, size_t windows,
	      struct account *out)
{
	return sweep(events, event_count, cuts, windows, false, out);
}

/* ---- running sums ---------------------------------------------------------------------- */

int ledger_make(struct ledger *l, const struct event *events, size_t event_count, int64_t *times, size_t time_count)
{
	int rc;

	assert(time_count);
	*l = (struct ledger){ .at_ns = times, .upto = malloc(time_count * sizeof(*l->upto)) };
	if (!l->upto) {
		ledger_release(l);
		return err(NO_MEMORY, "no memory for the account at %zu moments", time_count);
	}
	times_sort(times, time_count);
	for (size_t i = 0; i < time_count; i++)
		if (!l->count || times[l->count - 1] != times[i])
			times[l->count++] = times[i];
	l->upto[0] = (struct account){ .begin_ns = times[0], .end_ns = times[0] };
	rc = sweep(events, event_count, times, l->count - 1, true, l->upto + 1);
	if (rc)
		ledger_release(l);
	return rc;
}

void ledger_release(struct ledger *l)
{
	free(l->at_ns);
	free(l->upto);
	*l = (struct ledger){ 0 };
}

/* Outward from the last answer in growing steps, then by halves. */
const struct account *ledger_upto(struct ledger *l, int64_t at_ns)
{
	size_t low = l->cursor, high = l->cursor, step = 1;

	while (l->at_ns[low] > at_ns) {
		high = low;
		low = low > step ? low - step : 0;
		step *= 2;
	}
	for (step = 1; high + 1 < l->count && l->at_ns[high] < at_ns; step *= 2) {
		low = high;
		high = high + step < l->count ? high + step : l->count - 1;
	}
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (l->at_ns[middle] < at_ns)
			low = middle + 1;
		else
			high = middle;
	}
	assert(l->at_ns[low] == at_ns);
	l->cursor = low;
	return &l->upto[low];
}

struct account ledger_between(struct ledger *l, int64_t from_ns, int64_t to_ns)
{
	struct account a = *ledger_upto(l, to_ns);
	const struct account *before = ledger_upto(l, from_ns);

	a.begin_ns = from_ns;
	for (int c = 0; c < CLS_COUNT; c++)
		a.parts_ns[c] -= before->parts_ns[c];
	a.comm_ns -= before->comm_ns;
	a.comm_hidden_ns -= before->comm_hidden_ns;
	a.loader_ns -= before->loader_ns;
	return a;
}
