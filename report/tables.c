/*
 * report/tables.c - see tables.h.
 *
 * The fields here are the only home of names, units and formulas.
 */
#include "report/tables.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "report/accuracy.h"
#include "report/feeding.h"
#include "report/loss.h"
#include "report/waiting.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VARIANT { "variant", "", "the options that were swept, without nodes; else the loader policy", 0 }
#define NODES { "nodes", "1", "nodes of the launcher; see place: those on one host are emulated", 0 }
#define SCOPE { "scope", "", "whole run: every window, also those of boundaries; steady: iterations that are not the " \
		"first of their epoch; by work: the same, each from the end of the work that the iteration before launched to the end " \
		"of its own", 0 }
#define PLACE { "place", "", "where this row was measured", 0 }

/* Below 0: not said. */
static void number_or_none(struct table *t, int64_t value)
{
	if (value < 0)
		table_none(t);
	else
		table_int(t, value);
}

/* ---- speed-up -------------------------------------------------------------------------- */

static const struct field speedup_fields[] = {
	VARIANT,
	NODES,
	SCOPE,
	{ "ranks", "1", "processes, all nodes together", 0 },
	{ "runs", "1", "runs that count: the replicates", 0 },
	{ "failed", "1", "runs that do not count; see table runs", 0 },
	{ "iteration_ms", "ms", "of the slowest rank. whole run: (first epoch begin to run end) / iterations; steady: "
	  "median steady iteration; median over runs", 2 },
	{ "clips_per_s", "clips/s", "clips of one iteration, all ranks / iteration_ms; median over runs", 2 },
	{ "clips_per_s_min", "clips/s", "slowest run", 2 },
	{ "clips_per_s_max", "clips/s", "fastest run", 2 },
	{ "clips_per_s_ci_low", "clips/s", "lower end of the 95 % order-statistic interval of the median", 2 },
	{ "clips_per_s_ci_high", "clips/s", "upper end of it", 2 },
	{ "interval", "", "whether there is an interval: it takes 6 runs", 0 },
	{ "speedup", "1", "clips_per_s / clips_per_s of the base", 2 },
	{ "speedup_min", "1", "clips_per_s_min / clips_per_s of the base", 2 },
	{ "speedup_max", "1", "clips_per_s_max / clips_per_s of the base", 2 },
	{ "efficiency_percent", "%", "100 x speedup x base_nodes / nodes", 1 },
	{ "base_nodes", "1", "base case: this variant on its smallest number of nodes, same scope", 0 },
	PLACE,
};

static void speedup_row(struct table *t, const struct point *p, enum scope scope)
{
	const struct summary *rate = &p->pace[scope].clips_per_s;
	double base = p->base->pace[scope].clips_per_s.median;
	char interval[32];

	table_text(t, p->variant);
	table_int(t, (int64_t)p->nodes);
	table_text(t, scope_names[scope]);
	number_or_none(t, p->ranks ? (int64_t)p->ranks : -1);
	table_int(t, (int64_t)p->run_count);
	table_int(t, (int64_t)p->failed_count);
	table_real(t, p->pace[scope].iteration_ms.median);
	table_real(t, rate->median);
	table_real(t, rate->min);
	table_real(t, rate->max);
	table_real(t, rate->ci_low);
	table_real(t, rate->ci_high);
	snprintf(interval, sizeof(interval), !p->run_count ? "failed" : rate->has_ci ? "95 %%, n=%zu" : "no CI, n=%zu",
		 rate->n);
	table_text(t, interval);
	table_real(t, rate->median / base);
	table_real(t, rate->min / base);
	table_real(t, rate->max / base);
	table_real(t, 100 * rate->median / base * (double)p->base->nodes / (double)p->nodes);
	table_int(t, (int64_t)p->base->nodes);
	table_text(t, p->place);
}

static int speedup_make(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	for (int scope = 0; scope < SCOPE_PACED; scope++)
		for (size_t i = 0; i < c->count; i++)
			speedup_row(t, &c->points[i], scope);
	return OK;
}

/* ---- breakdown, in ms and in shares ---------------------------------------------------- */

#define MS(name, title, colour, meaning) \
	{ #name "_ms", "ms", meaning ": sum / iterations, mean over ranks and runs", 2 },
#define PERCENT(name, title, colour, meaning) { #name "_percent", "%", "100 x " #name "_ms / iteration_ms", 1 },

static const struct field breakdown_fields[] = {
	VARIANT,
	NODES,
	SCOPE,
	{ "iterations", "1", "iterations of all ranks and runs that the means are over", 0 },
	{ "iteration_ms", "ms", "mean time per iteration and rank: the sum of the parts, exactly", 2 },
	{ "iteration_min_ms", "ms", "the same of the fastest run", 2 },
	{ "iteration_max_ms", "ms", "of the slowest run", 2 },
	GROUPS(MS)
	{ "comm_hidden_ms", "ms", "beside the sum: collectives while compute was active", 2 },
	PLACE,
};

static const struct field share_fields[] = {
	VARIANT,
	NODES,
	SCOPE,
	{ "iteration_ms", "ms", "as in table breakdown: the whole", 2 },
	GROUPS(PERCENT)
	{ "comm_hidden_percent", "%", "beside the sum: 100 x comm_hidden_ms / iteration_ms", 1 },
	PLACE,
};

static void breakdown_row(struct table *t, const struct point *p, enum scope scope, bool shares)
{
	struct breakdown b;
	double iteration_ms, unit;

	point_breakdown(p, scope, &b);
	if (!b.iterations)
		return;
	iteration_ms = 1e-6 * (double)b.wall_ns / (double)b.iterations;
	unit = shares ? 100 / (double)b.wall_ns : 1e-6 / (double)b.iterations;
	table_text(t, p->variant);
	table_int(t, (int64_t)p->nodes);
	table_text(t, scope_names[scope]);
	if (!shares)
		table_int(t, b.iterations);
	table_real(t, iteration_ms);
	if (!shares) {
		table_real(t, b.run_min_ms);
		table_real(t, b.run_max_ms);
	}
	for (int g = 0; g < GROUP_COUNT; g++)
		table_real(t, unit * (double)b.parts_ns[g]);
	table_real(t, unit * (double)b.comm_hidden_ns);
	table_text(t, p->place);
}

static int breakdown_rows(struct table *t, const struct curve *c, bool shares)
{
	for (int scope = 0; scope < SCOPE_COUNT; scope++)
		for (size_t i = 0; i < c->count; i++)
			breakdown_row(t, &c->points[i], scope, shares);
	return OK;
}

static int breakdown_make(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	return breakdown_rows(t, c, false);
}

static int shares_make(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	return breakdown_rows(t, c, true);
}

/* ---- boundary -------------------------------------------------------------------------- */

static const struct field boundary_fields[] = {
	VARIANT,
	{ "policy", "", "of the loader", 0 },
	{ "workers", "1", "loader workers per rank", 0 },
	NODES,
	{ "kind", "", "boundary: between two epochs; start-up: of the first epoch, from its begin", 0 },
	{ "runs", "1", "runs that count", 0 },
	{ "stretches", "1", "boundaries of all these runs", 0 },
	{ "cost_ms", "ms", "end of the last optimiser step of an epoch to end of the first of the next, slowest rank, "
	  "minus the median steady iteration; median in a run, median over runs", 2 },
	{ "cost_min_ms", "ms", "least run", 2 },
	{ "cost_max_ms", "ms", "greatest run", 2 },
	{ "mean_ms", "ms", "mean of the same over all boundaries: the sum of the parts that follow", 2 },
	{ "workers_stop_ms", "ms", "ending loader workers", 2 },
	{ "workers_start_ms", "ms", "starting loader workers, but for their index", 2 },
	{ "index_ms", "ms", "writing the index for each worker, and its reading it", 2 },
	{ "sampler_ms", "ms", "permutation and shards of the epoch", 2 },
	{ "first_batch_ms", "ms", "waiting for the first batch: the pipeline fills", 2 },
	{ "eval_ms", "ms", "validation of the epoch before, on boundaries that have one; the last epoch's is behind the last boundary", 2 },
	{ "ckpt_ms", "ms", "checkpoint", 2 },
	{ "rest_ms", "ms", "everything else, minus the median steady iteration; below 0 where the first iteration "
	  "is the faster", 2 },
	{ "rewarm_ms", "ms", "beside the sum: what the iterations that follow take more than a steady one, until one is among the fastest three "
	  "quarters of all", 2 },
	{ "ten_iterations_ms", "ms", "10 x mean steady iteration, slowest rank, median over runs", 1 },
	{ "series", "", "the variant without its workers", 0 },
	PLACE,
};

static int boundary_row(struct table *t, const struct point *p, bool start_up)
{
	struct stall s;
	int rc = point_stall(p, start_up, &s);

	if (rc || !s.stretches)
		return rc;
	table_text(t, p->variant);
	table_text(t, p->policy);
	number_or_none(t, p->workers);
	table_int(t, (int64_t)p->nodes);
	table_text(t, start_up ? "start-up" : "boundary");
	table_int(t, (int64_t)s.cost_ms.n);
	table_int(t, (int64_t)s.stretches);
	table_real(t, s.cost_ms.median);
	table_real(t, s.cost_ms.min);
	table_real(t, s.cost_ms.max);
	table_real(t, s.mean_ms);
	for (int part = 0; part < PART_COUNT; part++)
		table_real(t, s.parts_ms[part]);
	table_real(t, s.rewarm_ms);
	table_real(t, s.ten_iterations_ms);
	table_text(t, p->series);
	table_text(t, p->place);
	return OK;
}

static int boundary_make(struct table *t, const struct curve *c, const struct runs *all)
{
	int rc = OK;

	(void)all;
	for (int start_up = 0; start_up < 2; start_up++)
		for (size_t i = 0; i < c->count && !rc; i++)
			rc = boundary_row(t, &c->points[i], start_up);
	return rc;
}

/* ---- loss ------------------------------------------------------------------------------ */

#define NODES_FROM { "nodes_from", "1", "n: half the nodes, or where that was not measured the next fewer", 0 }
#define NODES_TO { "nodes_to", "1", "2n: what is compared with n", 0 }
#define IDEAL_FACTOR { "ideal_factor", "1", "s: clips of a node on 2n / clips of a node on n; 1: weak scaling, 0.5: " \
		       "strong", 2 }
#define LOSS_INTERVAL { "interval", "", "whether there is an interval: it takes 6 runs on either side", 0 }

static const struct field loss_fields[] = {
	VARIANT,
	NODES_FROM,
	NODES_TO,
	{ "part", "", "as in table breakdown; skew: what the slowest rank takes beyond the mean over ranks; total: the "
	  "sum of the parts", 0 },
	{ "from_ms", "ms", "on n nodes: time per iteration, whole run, mean over ranks and runs; total: of the slowest "
	  "rank", 2 },
	{ "ideal_ms", "ms", "s x from_ms", 2 },
	{ "to_ms", "ms", "the same on 2n nodes", 2 },
	{ "loss_ms", "ms", "to_ms - ideal_ms; below 0 it is a gain", 2 },
	{ "loss_min_ms", "ms", "least over all pairs of one run on n and one on 2n", 2 },
	{ "loss_max_ms", "ms", "greatest over them", 2 },
	{ "loss_ci_low_ms", "ms", "lower end of the 95 % interval: studentised bootstrap, whole runs resampled", 2 },
	{ "loss_ci_high_ms", "ms", "upper end of it", 2 },
	LOSS_INTERVAL,
	{ "share_percent", "%", "100 x loss_ms / to_ms of the total: what the part takes from the efficiency", 1 },
	PLACE,
};

static void interval_word(struct table *t, const struct loss *l)
{
	char text[64];

	snprintf(text, sizeof(text),
		 l->from->run_count < BOOTSTRAP_RUNS || l->to->run_count < BOOTSTRAP_RUNS
		 ? "no CI, n=%zu, %zu" : "95 %%, n=%zu, %zu", l->from->run_count, l->to->run_count);
	table_text(t, text);
}

static void loss_row(struct table *t, const struct loss *l, int part)
{
	const struct term *term = &l->terms[part];

	if (part != TERM_TOTAL && term->min_ms == 0 && term->max_ms == 0 && term->to_ms == 0)
		return;		/* in no run */
	table_text(t, l->to->variant);
	table_int(t, (int64_t)l->from->nodes);
	table_int(t, (int64_t)l->to->nodes);
	table_text(t, term_title(part));
	table_real(t, term->from_ms);
	table_real(t, term->ideal_ms);
	table_real(t, term->to_ms);
	table_real(t, term->loss_ms);
	table_real(t, term->min_ms);
	table_real(t, term->max_ms);
	table_real(t, term->ci_ms.low);
	table_real(t, term->ci_ms.high);
	interval_word(t, l);
	table_real(t, 100 * term->loss_ms / l->terms[TERM_TOTAL].to_ms);
	table_text(t, l->to->place);
}

/* Calls `rows` for every point that has one to compare with. */
static int losses(struct table *t, const struct curve *c, enum scope scope,
		  void (*rows)(struct table *, const struct loss *, enum scope))
{
	int rc = OK;

	for (size_t i = 0; i < c->count && !rc; i++) {
		const struct point *from = loss_from(c, &c->points[i]);
		struct loss l;

		if (!from)
			continue;
		rc = loss_make(from, &c->points[i], scope, &l);
		if (!rc)
			rows(t, &l, scope);
	}
	return rc;
}

static void loss_rows(struct table *t, const struct loss *l, enum scope scope)
{
	(void)scope;
	for (int part = 0; part < TERM_COUNT; part++)
		loss_row(t, l, part);
}

static int loss_table(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	return losses(t, c, SCOPE_WHOLE, loss_rows);
}

/* ---- does the cause grow with scale? --------------------------------------------------- */

static const struct field scaling_fields[] = {
	VARIANT,
	NODES_FROM,
	NODES_TO,
	SCOPE,
	{ "from_ms", "ms", "T(n), mean over runs. whole run: wall time of the slowest rank / iterations; steady: mean "
	  "over ranks of a steady iteration", 2 },
	{ "to_ms", "ms", "T(2n), likewise", 2 },
	IDEAL_FACTOR,
	{ "loss_ms", "ms", "T(2n) - s T(n)", 2 },
	{ "efficiency_percent", "%", "100 x s T(n) / T(2n)", 1 },
	{ "ratio", "1", "T(2n) / T(n)", 3 },
	{ "times", "1", "ranks on 2n / ranks on n, rounded up: more than this times T(n) no delays can cost whose "
	  "distribution is the same on n and 2n", 0 },
	{ "excess_ms", "ms", "T(2n) - times x T(n)", 2 },
	{ "excess_min_ms", "ms", "least over all pairs of one run on n and one on 2n", 2 },
	{ "excess_max_ms", "ms", "greatest over them", 2 },
	{ "excess_ci_low_ms", "ms", "lower end of the 95 % interval, as in table loss", 2 },
	{ "excess_ci_high_ms", "ms", "upper end of it", 2 },
	LOSS_INTERVAL,
	{ "verdict", "", "within: excess_ms is not above 0; beyond: it is, with its whole interval or, where there is "
	  "none, in all pairs of runs: the cause grows with scale; undecided: else", 0 },
	PLACE,
};

static void scaling_row(struct table *t, const struct loss *l, enum scope scope)
{
	const struct term *total = &l->terms[TERM_TOTAL];

	if (isnan(total->loss_ms))
		return;
	table_text(t, l->to->variant);
	table_int(t, (int64_t)l->from->nodes);
	table_int(t, (int64_t)l->to->nodes);
	table_text(t, scope_names[scope]);
	table_real(t, total->from_ms);
	table_real(t, total->to_ms);
	table_real(t, l->ideal);
	table_real(t, total->loss_ms);
	table_real(t, 100 * total->ideal_ms / total->to_ms);
	table_real(t, total->to_ms / total->from_ms);
	table_int(t, (int64_t)l->times);
	table_real(t, l->excess.loss_ms);
	table_real(t, l->excess.min_ms);
	table_real(t, l->excess.max_ms);
	table_real(t, l->excess.ci_ms.low);
	table_real(t, l->excess.ci_ms.high);
	interval_word(t, l);
	table_text(t, verdict_names[l->verdict]);
	table_text(t, l->to->place);
}

static int scaling_make(struct table *t, const struct curve *c, const struct runs *all)
{
	int rc = losses(t, c, SCOPE_WHOLE, scaling_row);

	(void)all;
	return rc ? rc : losses(t, c, SCOPE_STEADY, scaling_row);
}

/* ---- the factors of POP ---------------------------------------------------------------- */

static const struct field pop_fields[] = {
	VARIANT,
	NODES,
	{ "ranks", "1", "processes, all nodes together", 0 },
	{ "runs", "1", "runs whose times are summed", 0 },
	{ "load_balance", "1", "LB: useful time, mean over ranks / its maximum; useful: a rank computes", 3 },
	{ "communication", "1", "CommE: maximum of useful / wall time of the slowest rank", 3 },
	{ "serialisation", "1", "SerE: maximum of useful / T_ideal; T_ideal: the wall time without the exposed wire "
	  "time of the rank of most useful time; none where waiting and moving are not told apart", 3 },
	{ "transfer", "1", "TrfE: T_ideal / wall time; CommE = SerE x TrfE", 3 },
	{ "parallel", "1", "PE: LB x CommE", 3 },
	{ "computation", "1", "CompScal: useful time of all ranks per clip, on base_nodes / here", 3 },
	{ "global", "1", "GE: PE x CompScal", 3 },
	{ "efficiency_percent", "%", "100 x GE / GE of the base: clips/s per rank, from means", 1 },
	{ "weakest", "", "the least of LB, SerE, TrfE (else CommE) and CompScal, if it is under 0.8, where POP calls "
	  "it out", 0 },
	{ "base_nodes", "1", "base case: this variant on its smallest number of nodes", 0 },
	PLACE,
};

static const char *weakest(const struct pop *pop)
{
	const struct { const char *name; double value; } factors[] = {
		{ "load_balance", pop->load_balance },
		{ "serialisation", pop->serialisation },
		{ "transfer", pop->transfer },
		{ "communication", isnan(pop->transfer) ? pop->communication : NAN },
		{ "computation", pop->computation },
	};
	const char *name = NULL;
	double least = 0.8;

	for (size_t i = 0; i < ARRAY_LEN(factors); i++)
		if (factors[i].value < least) {
			least = factors[i].value;
			name = factors[i].name;
		}
	return name;
}

static void pop_row(struct table *t, const struct point *p)
{
	struct pop pop, base;

	pop_make(p, &pop);
	pop_make(p->base, &base);
	table_text(t, p->variant);
	table_int(t, (int64_t)p->nodes);
	table_int(t, (int64_t)p->ranks);
	table_int(t, (int64_t)p->run_count);
	table_real(t, pop.load_balance);
	table_real(t, pop.communication);
	table_real(t, pop.serialisation);
	table_real(t, pop.transfer);
	table_real(t, pop.parallel);
	table_real(t, pop.computation);
	table_real(t, pop.global);
	table_real(t, 100 * pop.global / base.global);
	if (weakest(&pop))
		table_text(t, weakest(&pop));
	else
		table_none(t);
	table_int(t, (int64_t)p->base->nodes);
	table_text(t, p->place);
}

static int pop_table(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	for (size_t i = 0; i < c->count; i++)
		if (c->points[i].run_count)
			pop_row(t, &c->points[i]);
	return OK;
}

/* ---- runs ------------------------------------------------------------------------------ */

static const struct field run_fields[] = {
	VARIANT,
	NODES,
	{ "ranks", "1", "processes, all nodes together", 0 },
	{ "repeat", "1", "number of the repeat in its sweep, from 0", 0 },
	{ "status", "", "only ok counts in medians; cut off: ended before its end; damaged: records unreadable or "
	  "not of this run", 0 },
	{ "iterations", "1", "of every rank, as far as all records reach", 0 },
	{ "wall_s", "s", "first epoch begin to run end, slowest rank", 3 },
	{ "clips_per_s", "clips/s", "all clips / wall_s", 2 },
	{ "steady_ms", "ms", "median steady iteration of the slowest rank", 2 },
	{ "steady_ci_low_ms", "ms", "95 % interval of that median in this run alone, from blocks of its iterations; "
	  "another run may lie outside", 2 },
	{ "steady_ci_high_ms", "ms", "upper end of it; none where the run has fewer than 8 blocks", 2 },
	{ "block", "1", "iterations of a block: max(workers, 1.5 x sqrt(steady iterations), 3 x the distance at which "
	  "the rank autocorrelation falls below 0.1)", 0 },
	{ "loss_first", "", "mean training loss of the first epoch", 4 },
	{ "loss_last", "", "of the last epoch", 4 },
	{ "mAP", "1", "frame-mAP of the latest validation (run --eval-period), PySlowFast's rule", 4 },
	{ "checksum", "", "of the order of samples in the first epoch, over all ranks; equal samples give equal "
	  "checksums", 0 },
	{ "event_ns", "ns", "cost of one recorded span of the step, which begins as another ends: the best of 64 loops of the run itself", 1 },
	{ "dropped", "1", "events lost to full rings", 0 },
	{ "unattributed_percent", "%", "time in no known range, of all time of all ranks", 2 },
	{ "folder", "", "the run folder", 0 },
	{ "reason", "", "why it is not ok", 0 },
	PLACE,
};

static void run_row(struct table *t, const struct run *r)
{
	const cJSON *results = cJSON_GetObjectItemCaseSensitive(r->json, "results");
	const cJSON *epochs = cJSON_GetObjectItemCaseSensitive(results, "epochs");
	const cJSON *first = cJSON_GetArrayItem(epochs, 0);
	const cJSON *last = cJSON_GetArrayItem(epochs, cJSON_GetArraySize(epochs) - 1);
	int64_t wall_ns = 0, unattributed_ns = 0;
	double wall_s = run_counts(r) ? 1e-9 * (double)r->wall_ns : NAN;

	for (int k = 0; k < WINDOW_KINDS; k++) {
		wall_ns += r->sums[k].wall_ns;
		unattributed_ns += r->sums[k].parts_ns[CLS_UNATTRIBUTED];
	}
	table_text(t, r->variant);
	number_or_none(t, r->nodes ? (int64_t)r->nodes : -1);
	number_or_none(t, r->ranks ? (int64_t)r->ranks : -1);
	number_or_none(t, r->repeat);
	table_text(t, r->status);
	table_int(t, (int64_t)r->iterations);
	table_real(t, wall_s);
	table_real(t, run_clips(r) * (double)r->iterations / wall_s);
	table_real(t, 1e-6 * r->steady_ns.median);
	table_real(t, 1e-6 * r->median_ns.low);
	table_real(t, 1e-6 * r->median_ns.high);
	number_or_none(t, r->steady_ns.n ? (int64_t)r->block : -1);
	table_real(t, json_number(first, "loss", NAN));
	table_real(t, json_number(last, "loss", NAN));
	table_real(t, run_map(r));
	table_text(t, json_string(first, "checksum", "-"));
	table_real(t, json_number(cJSON_GetObjectItemCaseSensitive(r->json, "event_cost"), "next_ns", NAN));
	table_int(t, (int64_t)r->dropped);
	table_real(t, wall_ns ? 100 * (double)unattributed_ns / (double)wall_ns : NAN);
	table_text(t, r->folder);
	if (r->reason)
		table_text(t, r->reason);
	else
		table_none(t);
	table_text(t, r->place);
}

static int runs_make(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)c;
	for (size_t i = 0; i < all->count; i++)
		run_row(t, &all->at[i]);
	return OK;
}

/* ---- all of them ----------------------------------------------------------------------- */

#define FIELDS(a) a, ARRAY_LEN(a)

static const struct table_maker own_makers[TABLE_COUNT] = {
	[TABLE_SPEEDUP] = { "speedup", "Speed-up: rate against nodes", FIELDS(speedup_fields), speedup_make },
	[TABLE_BREAKDOWN] = { "breakdown", "Breakdown: where the time of an iteration goes, in ms",
			      FIELDS(breakdown_fields), breakdown_make },
	[TABLE_SHARES] = { "shares", "Breakdown: the same in shares of the iteration", FIELDS(share_fields),
			   shares_make },
	[TABLE_BOUNDARY] = { "boundary", "Boundary: what an epoch boundary costs, and why", FIELDS(boundary_fields),
			     boundary_make },
	[TABLE_LOSS] = { "loss", "Loss: what more nodes lose, part by part", FIELDS(loss_fields), loss_table },
	[TABLE_SCALING] = { "scaling", "Scaling: does the cause of the loss grow with scale?", FIELDS(scaling_fields),
			    scaling_make },
	[TABLE_POP] = { "pop", "POP: the same as factors", FIELDS(pop_fields), pop_table },
	[TABLE_RUNS] = { "runs", "Runs: every one, also those that failed", FIELDS(run_fields), runs_make },
};

static const struct table_maker *maker_of(int id)
{
	switch (id) {
	case TABLE_WAITS: return &table_waits;
	case TABLE_COLLECTIVES: return &table_collectives;
	case TABLE_LATE: return &table_late;
	case TABLE_PAIRS: return &table_pairs;
	case TABLE_LOADER: return &table_loader;
	case TABLE_EPOCHS: return &table_epochs;
	case TABLE_QUEUE: return &table_queue;
	case TABLE_WORKERS: return &table_workers;
	case TABLE_ACCURACY: return &table_accuracy;
	default: return &own_makers[id];
	}
}

int tables_make(struct tables *tables, const struct curve *c, const struct runs *all, const char *place)
{
	int rc = OK;

	*tables = (struct tables){ 0 };
	for (int i = 0; i < TABLE_COUNT && !rc; i++) {
		const struct table_maker *maker = maker_of(i);
		char *title;

		if (asprintf(&title, "%s (%s)", maker->title, place) < 0)
			return err(NO_MEMORY, "no memory for table '%s'", maker->name);
		table_init(&tables->at[i], maker->name, title, maker->fields, maker->field_count);
		rc = maker->make(&tables->at[i], c, all);
	}
	return rc;
}

void tables_release(struct tables *tables)
{
	for (int i = 0; i < TABLE_COUNT; i++) {
		free((void *)(uintptr_t)tables->at[i].title);
		table_release(&tables->at[i]);
	}
}

static const struct cell *cell_named(const struct table *t, size_t row, const char *field)
{
	size_t f = 0;

	while (f < t->field_count && strcmp(t->fields[f].name, field))
		f++;
	assert(f < t->field_count);
	return table_cell(t, row, f);
}

double table_number(const struct table *t, size_t row, const char *field)
{
	const struct cell *c = cell_named(t, row, field);

	return c->kind == CELL_REAL ? c->real : c->kind == CELL_INT ? (double)c->whole : NAN;
}

const char *table_word(const struct table *t, size_t row, const char *field)
{
	const struct cell *c = cell_named(t, row, field);

	return c->kind == CELL_TEXT ? c->text : "";
}
