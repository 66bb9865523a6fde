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

static int by_time(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;

	return (x->at_ns > y->at_ns) - (x->at_ns < y->at_ns);
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

int decompose(const struct event *events, size_t event_count, const int64_t *cuts, size_t windows,
	      struct account *out)
{
	struct edge *edges = malloc((2 * event_count + 1) * sizeof(*edges));
	struct active active = { .mask = 0 };
	size_t edge_count, next = 0;

	if (!edges)
		return err(NO_MEMORY, "no memory for the account of %zu events", event_count);
	edge_count = windows ? edges_make(edges, events, event_count, cuts[0], cuts[windows]) : 0;
	qsort(edges, edge_count, sizeof(*edges), by_time);
	for (size_t w = 0; w < windows; w++) {
		int64_t at = cuts[w];

		assert(cuts[w] <= cuts[w + 1]);
		out[w] = (struct account){ .begin_ns = cuts[w], .end_ns = cuts[w + 1] };
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
