/*
 * report/waiting.c - see waiting.h.
 */
#include "report/waiting.h"

#include "bench/base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LATE_ROWS = 32, PAIR_ROWS = 96, PAIR_ROWS_LEAST = 4 };

#define VARIANT { "variant", "", "the options that were swept, without nodes; else the loader policy", 0 }
#define NODES { "nodes", "1", "nodes of the launcher; see place: those on one host are emulated", 0 }
#define PLACE { "place", "", "where this row was measured", 0 }
#define CAUSE_MS(name, title, colour, meaning) { #name "_ms", "ms", "of that, because of the " title " of the rank waited for: " \
	meaning, 3 },

/* ---- pooling --------------------------------------------------------------------------- */

static int by_pair(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	if (x->waiter != y->waiter)
		return x->waiter < y->waiter ? -1 : 1;
	if (x->origin.cause != y->origin.cause)
		return x->origin.cause < y->origin.cause ? -1 : 1;
	if (x->origin.length != y->origin.length)
		return x->origin.length < y->origin.length ? -1 : 1;
	return memcmp(x->origin.chain, y->origin.chain, x->origin.length * sizeof(x->origin.chain[0]));
}

/* The same pair of several runs becomes one. */
static void pairs_merge(struct waits *w)
{
	size_t n = 0;

	if (w->pair_count)
		qsort(w->pairs, w->pair_count, sizeof(*w->pairs), by_pair);
	for (size_t i = 0; i < w->pair_count; i++)
		if (n && !by_pair(&w->pairs[n - 1], &w->pairs[i]))
			w->pairs[n - 1].origin.ns += w->pairs[i].origin.ns;
		else
			w->pairs[n++] = w->pairs[i];
	w->pair_count = n;
	waits_sort(w);
}

static void call_pool(struct call_sum *sum, const struct call_sum *more)
{
	if (!more->calls)
		return;
	for (int s = 0; s < SPLIT_COUNT; s++)
		sum->splits[s] += more->splits[s];
	sum->bytes += more->bytes;
	sum->stay_ns += more->stay_ns;
	sum->wait_ns += more->wait_ns;
	sum->wire_ns += more->wire_ns;
	sum->unsplit_ns += more->unsplit_ns;
	sum->bound_ns = more->bound_ns > sum->bound_ns ? more->bound_ns : sum->bound_ns;
	/* The median call of the worst run, and the worst call of all. */
	sum->late_ns.median = sum->calls ? fmax(sum->late_ns.median, more->late_ns.median) : more->late_ns.median;
	sum->late_ns.max = sum->calls ? fmax(sum->late_ns.max, more->late_ns.max) : more->late_ns.max;
	sum->calls += more->calls;
}

static void late_pool(struct waits *sum, const struct waits *more)
{
	sum->judged += more->judged;
	sum->judged_first += more->judged_first;
	for (size_t r = 0; r < sum->ranks; r++) {
		struct lateness *to = &sum->late[r];
		const struct lateness *from = &more->late[r];

		to->times += from->times;
		to->times_first += from->times_first;
		to->first_ns += from->first_ns;
		to->all_ns += from->all_ns;
		for (int c = 0; c < CAUSE_COUNT; c++)
			to->induced_ns[c] += from->induced_ns[c];
		lateness_judge(to, sum->judged, sum->judged_first, sum->ranks);
	}
}

static int pairs_pool(struct waits *sum, const struct waits *more)
{
	struct pair *pairs = realloc(sum->pairs, (sum->pair_count + more->pair_count + 1) * sizeof(*pairs));

	if (!pairs)
		return err(NO_MEMORY, "no memory for %zu causes of waits", sum->pair_count + more->pair_count);
	sum->pairs = pairs;
	if (more->pair_count)
		memcpy(pairs + sum->pair_count, more->pairs, more->pair_count * sizeof(*pairs));
	sum->pair_count += more->pair_count;
	return OK;
}

int point_waits_make(struct point_waits *w, const struct point *p, bool with_pairs)
{
	int rc = OK;

	*w = (struct point_waits){ 0 };
	for (size_t i = 0; i < p->run_count && !rc; i++) {
		const struct run *r = p->runs[i];

		if (!w->sum.late)
			rc = waits_open(&w->sum, r->ranks);
		for (int k = 0; k < WINDOW_KINDS; k++) {
			w->iterations += k == WINDOW_BOUNDARY ? 0 : r->sums[k].windows;
			w->wall_ns += r->sums[k].wall_ns;
			w->loader_ns += r->sums[k].parts_ns[CLS_LOADER];
		}
		w->sum.wait_ns += r->waits.wait_ns;
		w->sum.chained_ns += r->waits.chained_ns;
		for (int c = 0; c < CAUSE_COUNT; c++)
			w->sum.induced_ns[c] += r->waits.induced_ns[c];
		for (int name = 0; name < SPAN_COUNT; name++)
			call_pool(&w->sum.calls[name], &r->waits.calls[name]);
		if (rc || r->ranks != w->sum.ranks)
			continue;	/* such runs are warned of */
		late_pool(&w->sum, &r->waits);
		if (with_pairs)
			rc = pairs_pool(&w->sum, &r->waits);
	}
	pairs_merge(&w->sum);
	return rc;
}

void point_waits_release(struct point_waits *w)
{
	waits_release(&w->sum);
	*w = (struct point_waits){ 0 };
}

void chain_text(const struct origin *o, char out[64])
{
	size_t used = 0;

	for (uint32_t i = 0; i < o->length && used < 64; i++)
		used += (size_t)snprintf(out + used, 64 - used, "%s%u", i ? " <- " : "", o->chain[i]);
}

/* Calls `rows` for every point on more than one rank. */
static int each_point(struct table *t, const struct curve *c, bool with_pairs,
		      void (*rows)(struct table *, const struct point *, const struct point_waits *, const struct curve *))
{
	int rc = OK;

	for (size_t i = 0; i < c->count && !rc; i++) {
		struct point_waits w;

		if (!c->points[i].run_count || c->points[i].ranks < 2)
			continue;
		rc = point_waits_make(&w, &c->points[i], with_pairs);
		if (!rc && w.iterations)
			rows(t, &c->points[i], &w, c);
		point_waits_release(&w);
	}
	return rc;
}

static double ms_each(const struct point_waits *w, int64_t ns)
{
	return 1e-6 * (double)ns / (double)w->iterations;
}

/* ---- what the ranks wait for ----------------------------------------------------------- */

static const struct field waits_fields[] = {
	VARIANT,
	NODES,
	{ "ranks", "1", "processes, all nodes together", 0 },
	{ "iteration_ms", "ms", "as in table breakdown, whole run", 2 },
	{ "wait_ms", "ms", "exposed wait in collectives / iterations, mean over ranks and runs: the sum of the causes that follow", 3 },
	{ "wait_percent", "%", "100 x wait_ms / iteration_ms", 1 },
	CAUSES(CAUSE_MS)
	{ "loader_local_ms", "ms", "beside the sum: a rank's own loader stall; loader_ms is what it induces in others", 3 },
	{ "chained_ms", "ms", "beside the sum: of wait_ms, what reached the waiting rank through another one that waited itself", 3 },
	PLACE,
};

static void waits_rows(struct table *t, const struct point *p, const struct point_waits *w, const struct curve *c)
{
	(void)c;
	table_text(t, p->variant);
	table_int(t, (int64_t)p->nodes);
	table_int(t, (int64_t)p->ranks);
	table_real(t, ms_each(w, w->wall_ns));
	table_real(t, ms_each(w, w->sum.wait_ns));
	table_real(t, 100 * (double)w->sum.wait_ns / (double)w->wall_ns);
	for (int cause = 0; cause < CAUSE_COUNT; cause++)
		table_real(t, ms_each(w, w->sum.induced_ns[cause]));
	table_real(t, ms_each(w, w->loader_ns));
	table_real(t, ms_each(w, w->sum.chained_ns));
	table_text(t, p->place);
}

static int waits_make(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	return each_point(t, c, false, waits_rows);
}

/* ---- collectives ----------------------------------------------------------------------- */

static const struct field collective_fields[] = {
	VARIANT,
	NODES,
	{ "collective", "", "name of its span", 0 },
	{ "calls", "1", "in all iterations of all runs, each counted once for all ranks", 0 },
	{ "kib", "KiB", "of one rank and call, mean", 1 },
	{ "time_ms", "ms", "in it, hidden under compute or not / iterations, mean over ranks and runs: the sum of the three that "
	  "follow", 3 },
	{ "wait_ms", "ms", "of that, before the last rank came (a broadcast: its root)", 3 },
	{ "wire_ms", "ms", "after that", 3 },
	{ "unsplit_ms", "ms", "in calls that cannot be split", 3 },
	{ "wait_percent", "%", "100 x wait_ms / time_ms", 1 },
	{ "bus_mb_per_s", "MB/s", "all-reduce: 2 (ranks - 1) / ranks x bytes / wire time, means; broadcast: bytes / wire time", 1 },
	{ "late_ms", "ms", "the last rank came so long after the one before it; median call, of the worst run", 3 },
	{ "late_max_ms", "ms", "worst call", 3 },
	{ "clocked", "1", "calls split by clocks", 0 },
	{ "clock_free", "1", "calls split by the shortest stay, as the clocks are not aligned well enough", 0 },
	{ "unmatched", "1", "calls that are not on all ranks, or are another one there", 0 },
	{ "contradictory", "1", "calls that a rank left before the last one came, or whose estimates exclude each other", 0 },
	{ "unclear", "1", "calls that no estimate can tell apart", 0 },
	{ "bound_us", "us", "greatest bound of a wait's error: of the clocks, or the skew of the ends; 0: one clock", 3 },
	PLACE,
};

static void collective_row(struct table *t, const struct point *p, const struct point_waits *w, int name)
{
	const struct call_sum *s = &w->sum.calls[name];
	double ranks = (double)p->ranks, split_share = 1 - (double)s->unsplit_ns / (double)s->stay_ns;
	double moved = name == SPAN_BCAST_BN ? 1 : 2 * (ranks - 1) / ranks;

	table_text(t, p->variant);
	table_int(t, (int64_t)p->nodes);
	table_text(t, span_rows[name].name);
	table_int(t, (int64_t)s->calls);
	table_real(t, (double)s->bytes / (double)s->calls / 1024);
	table_real(t, ms_each(w, s->stay_ns));
	table_real(t, ms_each(w, s->wait_ns));
	table_real(t, ms_each(w, s->wire_ns));
	table_real(t, ms_each(w, s->unsplit_ns));
	table_real(t, s->stay_ns ? 100 * (double)s->wait_ns / (double)s->stay_ns : NAN);
	/* bytes is of one rank, wire_ns of all of them */
	table_real(t, s->wire_ns && p->ranks > 1 ? moved * (double)s->bytes * split_share * ranks / (double)s->wire_ns * 1e3 : NAN);
	table_real(t, 1e-6 * s->late_ns.median);
	table_real(t, 1e-6 * s->late_ns.max);
	for (int how = 0; how < SPLIT_COUNT; how++)
		table_int(t, (int64_t)s->splits[how]);
	table_real(t, 1e-3 * (double)s->bound_ns);
	table_text(t, p->place);
}

static void collective_rows(struct table *t, const struct point *p, const struct point_waits *w, const struct curve *c)
{
	(void)c;
	for (int name = 0; name < SPAN_COUNT; name++)
		if (w->sum.calls[name].calls)
			collective_row(t, p, w, name);
}

static int collectives_make(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	return each_point(t, c, false, collective_rows);
}

/* ---- late ranks ------------------------------------------------------------------------ */

static const struct field late_fields[] = {
	VARIANT,
	NODES,
	{ "rank", "1", "that the others waited for; of many ranks those with the most induced wait", 0 },
	{ "times", "1", "iterations in which it was the late one: last in the collective whose last rank came latest after the one "
	  "before it", 0 },
	{ "iterations", "1", "iterations of all runs that have a late one", 0 },
	{ "percent", "%", "100 x times / iterations", 1 },
	{ "chance_percent", "%", "what it would be if lateness fell on all ranks alike: 100 / ranks", 1 },
	{ "p", "1", "probability of so many times or more by chance: binomial(iterations, 1 / ranks)", 6 },
	{ "verdict", "", "persistent: p is below 0.01 / (2 ranks); at epoch starts: p_first is; chance: else", 0 },
	{ "first_times", "1", "of times, in the first iteration of an epoch", 0 },
	{ "first_iterations", "1", "of iterations, first ones", 0 },
	{ "p_first", "1", "as p, of first_times among first_iterations", 6 },
	{ "first_wait_percent", "%", "of the waiting for it, hidden or not, in first iterations", 1 },
	{ "induced_ms", "ms", "exposed wait of all other ranks, summed, of which it is the root / iterations of a rank: the sum "
	  "of the causes that follow", 3 },
	{ "wait_percent", "%", "of the wait of all ranks", 1 },
	CAUSES(CAUSE_MS)
	PLACE,
};

static int64_t induced_of(const struct lateness *l)
{
	int64_t ns = 0;

	for (int c = 0; c < CAUSE_COUNT; c++)
		ns += l->induced_ns[c];
	return ns;
}

struct late_rank {
	const struct lateness *late;
	int64_t induced_ns;
	size_t rank;
};

static int by_induced(const void *a, const void *b)
{
	const struct late_rank *x = a, *y = b;

	if (x->induced_ns != y->induced_ns)
		return x->induced_ns > y->induced_ns ? -1 : 1;
	return (x->rank > y->rank) - (x->rank < y->rank);
}

static void late_row(struct table *t, const struct point *p, const struct point_waits *w, const struct late_rank *k)
{
	const struct lateness *l = k->late;
	double each = (double)p->ranks;		/* per iteration of a rank, though all ranks' iterations are counted */

	table_text(t, p->variant);
	table_int(t, (int64_t)p->nodes);
	table_int(t, (int64_t)k->rank);
	table_int(t, (int64_t)l->times);
	table_int(t, (int64_t)w->sum.judged);
	table_real(t, w->sum.judged ? 100 * (double)l->times / (double)w->sum.judged : NAN);
	table_real(t, 100 / each);
	table_real(t, l->chance);
	table_text(t, late_verdicts[l->verdict]);
	table_int(t, (int64_t)l->times_first);
	table_int(t, (int64_t)w->sum.judged_first);
	table_real(t, l->chance_first);
	table_real(t, l->all_ns ? 100 * (double)l->first_ns / (double)l->all_ns : NAN);
	table_real(t, each * ms_each(w, k->induced_ns));
	table_real(t, w->sum.wait_ns ? 100 * (double)k->induced_ns / (double)w->sum.wait_ns : NAN);
	for (int c = 0; c < CAUSE_COUNT; c++)
		table_real(t, each * ms_each(w, l->induced_ns[c]));
	table_text(t, p->place);
}

static void late_rows(struct table *t, const struct point *p, const struct point_waits *w, const struct curve *c)
{
	struct late_rank *ranks = malloc((w->sum.ranks + 1) * sizeof(*ranks));

	(void)c;
	for (size_t r = 0; ranks && r < w->sum.ranks; r++)
		ranks[r] = (struct late_rank){ &w->sum.late[r], induced_of(&w->sum.late[r]), r };
	if (ranks)
		qsort(ranks, w->sum.ranks, sizeof(*ranks), by_induced);
	for (size_t i = 0; ranks && i < w->sum.ranks; i++)
		if (i < LATE_ROWS || ranks[i].late->verdict != LATE_BY_CHANCE)
			late_row(t, p, w, &ranks[i]);
	free(ranks);
}

static int late_make(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	return each_point(t, c, false, late_rows);
}

/* ---- who waited for whom --------------------------------------------------------------- */

static const struct field pair_fields[] = {
	VARIANT,
	NODES,
	{ "waiter", "", "the rank that waited; others: all pairs that are not shown", 0 },
	{ "root", "1", "the rank that made it wait", 0 },
	{ "chain", "", "from the rank waited for to the root: each waited for the next", 0 },
	{ "cause", "", "what the root did longer", 0 },
	{ "wait_ms", "ms", "exposed wait / iterations of the waiter", 3 },
	{ "percent", "%", "of the wait of all ranks", 1 },
	PLACE,
};

static void pair_rows(struct table *t, const struct point *p, const struct point_waits *w, const struct curve *c)
{
	double each = (double)p->ranks, whole = 0.01 * (double)w->sum.wait_ns;
	size_t share = PAIR_ROWS / (c->count ? c->count : 1), shown = share > PAIR_ROWS_LEAST ? share : PAIR_ROWS_LEAST;
	int64_t rest_ns = 0;

	for (size_t i = 0; i < w->sum.pair_count; i++) {
		const struct pair *pair = &w->sum.pairs[i];
		char chain[64], waiter[32];

		if (i >= shown) {
			rest_ns += pair->origin.ns;
			continue;
		}
		snprintf(waiter, sizeof(waiter), "%u", pair->waiter);
		chain_text(&pair->origin, chain);
		table_text(t, p->variant);
		table_int(t, (int64_t)p->nodes);
		table_text(t, waiter);
		table_int(t, pair->origin.chain[pair->origin.length - 1]);
		table_text(t, chain);
		table_text(t, cause_rows[pair->origin.cause].title);
		table_real(t, each * ms_each(w, pair->origin.ns));
		table_real(t, (double)pair->origin.ns / whole);
		table_text(t, p->place);
	}
	if (!rest_ns)
		return;
	table_text(t, p->variant);
	table_int(t, (int64_t)p->nodes);
	table_text(t, "others");
	table_none(t);
	table_none(t);
	table_none(t);
	table_real(t, each * ms_each(w, rest_ns));
	table_real(t, (double)rest_ns / whole);
	table_text(t, p->place);
}

static int pairs_make(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	return each_point(t, c, true, pair_rows);
}

#define FIELDS(a) a, ARRAY_LEN(a)

const struct table_maker table_waits = {
	"waits", "Waits: what ranks wait for in collectives", FIELDS(waits_fields), waits_make,
};
const struct table_maker table_collectives = {
	"collectives", "Collectives: waiting or moving?", FIELDS(collective_fields), collectives_make,
};
const struct table_maker table_late = {
	"late", "Late ranks: who keeps the others waiting, persistently or by chance", FIELDS(late_fields), late_make,
};
const struct table_maker table_pairs = {
	"pairs", "Pairs: who waited for whom, for what; the longest", FIELDS(pair_fields), pairs_make,
};
