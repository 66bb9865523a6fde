/*
 * report/curve.c - see curve.h.
 */
#include "report/curve.h"

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const struct group_row group_rows[GROUP_COUNT] = {
#define GROUP_ROW(name, title, colour, meaning) { #name, title, colour },
	GROUPS(GROUP_ROW)
#undef GROUP_ROW
};

const char *const scope_names[SCOPE_COUNT] = { [SCOPE_WHOLE] = "whole run", [SCOPE_STEADY] = "steady",
						    [SCOPE_WORK] = "steady, by work" };

static const enum group group_of_class[CLS_COUNT] = {
	[CLS_COMPUTE_FWD] = GROUP_fwd,
	[CLS_COMPUTE_BWD] = GROUP_bwd,
	[CLS_COMPUTE_OPT] = GROUP_opt,
	[CLS_COMPUTE_OTHER] = GROUP_other,
	[CLS_COMM_WIRE] = GROUP_wire,
	[CLS_COMM_WAIT] = GROUP_wait,
	[CLS_COMM] = GROUP_unsplit,
	[CLS_COPY] = GROUP_copy,
	[CLS_LOADER] = GROUP_loader,
	[CLS_BOUNDARY_EVAL] = GROUP_boundary,
	[CLS_BOUNDARY_CKPT] = GROUP_boundary,
	[CLS_BOUNDARY_WORKERS] = GROUP_boundary,
	[CLS_BOUNDARY_SAMPLER] = GROUP_boundary,
	[CLS_LAUNCH] = GROUP_launch,
	[CLS_SYNC] = GROUP_other,
	[CLS_OTHER] = GROUP_other,
	[CLS_UNATTRIBUTED] = GROUP_unattributed,
};

/* Options in which runs of one point may differ. */
static const char *const free_options[] = { "out", "nodes" };

/* ---- points ---------------------------------------------------------------------------- */

/* `variant` is the place of the variant's first run, `order` that of the run itself. */
struct ranked {
	const struct run *run;
	size_t variant, order;
};

static int by_point(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->variant != y->variant)
		return x->variant < y->variant ? -1 : 1;
	if (x->run->nodes != y->run->nodes)
		return x->run->nodes < y->run->nodes ? -1 : 1;
	if (run_counts(x->run) != run_counts(y->run))
		return run_counts(x->run) ? -1 : 1;
	return (x->order > y->order) - (x->order < y->order);
}

/* All runs of which we know where they belong, sorted into points; returns their number. */
static size_t runs_sort(const struct runs *all, struct ranked *list)
{
	size_t n = 0;

	for (size_t i = 0; i < all->count; i++) {
		if (!all->at[i].nodes)
			continue;
		list[n] = (struct ranked){ .run = &all->at[i], .variant = i, .order = i };
		for (size_t j = 0; j < n; j++)
			if (!strcmp(list[j].run->variant, list[n].run->variant))
				list[n].variant = list[j].variant;
		n++;
	}
	qsort(list, n, sizeof(*list), by_point);
	return n;
}

static double iteration_ns(const struct run *r, enum scope scope)
{
	if (scope == SCOPE_STEADY)
		return r->steady_ns.median;
	return r->iterations && r->wall_ns ? (double)r->wall_ns / (double)r->iterations : NAN;
}

static int pace_make(struct pace *pace, const struct point *p, enum scope scope)
{
	double *ms = malloc((2 * p->run_count + 1) * sizeof(*ms)), *rates = ms + p->run_count;
	size_t n = 0;

	if (!ms)
		return err(NO_MEMORY, "no memory for %zu runs", p->run_count);
	for (size_t i = 0; i < p->run_count; i++) {
		double ns = iteration_ns(p->runs[i], scope);

		if (isnan(ns))
			continue;
		ms[n] = 1e-6 * ns;
		rates[n++] = run_clips(p->runs[i]) / (1e-9 * ns);
	}
	*pace = (struct pace){ .iteration_ms = summarize(ms, n), .clips_per_s = summarize(rates, n) };
	free(ms);
	return OK;
}

/* ---- what should not differ inside a point --------------------------------------------- */

static bool option_is_free(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(free_options); i++)
		if (!strcmp(free_options[i], name))
			return true;
	return false;
}

static const cJSON *item(const struct run *r, const char *part, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(r->json, part), name);
}

static void point_check(struct runs *all, const struct point *p)
{
	static const char *const makers[] = { "version", "build" };
	const struct run *first = p->runs[0];
	const cJSON *option, *epoch;

	for (size_t i = 1; i < p->run_count; i++) {
		const struct run *r = p->runs[i];
		const cJSON *theirs = cJSON_GetArrayItem(item(r, "results", "epochs"), 0);

		if (r->ranks != first->ranks)
			runs_warn(all, r->folder, "stands in one row with '%s', but has %zu ranks, not %zu",
				  first->folder, r->ranks, first->ranks);
		if (strcmp(r->place, first->place))
			runs_warn(all, r->folder, "measured in another place than '%s': %s; %s", first->folder,
				  r->place, first->place);
		for (size_t k = 0; k < ARRAY_LEN(makers); k++)
			if (strcmp(json_string(r->json, makers[k], ""), json_string(first->json, makers[k], "")))
				runs_warn(all, r->folder, "stands in one row with '%s', but was made by another %s of this "
					  "program", first->folder, makers[k]);
		cJSON_ArrayForEach(option, cJSON_GetObjectItemCaseSensitive(first->json, "options"))
			if (!option_is_free(option->string) &&
			    !cJSON_Compare(option, item(r, "options", option->string), 1))
				runs_warn(all, r->folder, "stands in one row with '%s', but option '%s' differs",
					  first->folder, option->string);
		epoch = cJSON_GetArrayItem(item(first, "results", "epochs"), 0);
		if (strcmp(json_string(epoch, "checksum", ""), json_string(theirs, "checksum", "")))
			runs_warn(all, r->folder, "delivered other samples than '%s': checksums of epoch 0 differ",
				  first->folder);
	}
}

static bool same_variant(const struct point *a, const struct point *b)
{
	return !strcmp(a->variant, b->variant);
}

/* The points lie by variant, then by nodes. */
static void bases_find(struct curve *c)
{
	const struct point *end = c->points + c->count, *base = c->points;

	for (struct point *p = c->points; p < end; p++) {
		if (!same_variant(p, base))
			base = p;
		while (!base->run_count && base + 1 < end && same_variant(base + 1, p))
			base++;
		p->base = base;
	}
}

int curve_make(struct curve *c, struct runs *all)
{
	struct ranked *list = malloc((all->count + 1) * sizeof(*list));
	size_t n;
	int rc = OK;

	*c = (struct curve){ .points = calloc(all->count + 1, sizeof(*c->points)),
			     .runs = calloc(all->count + 1, sizeof(*c->runs)) };
	if (!list || !c->points || !c->runs) {
		free(list);
		curve_release(c);
		return err(NO_MEMORY, "no memory for the points of %zu runs", all->count);
	}
	n = runs_sort(all, list);
	for (size_t i = 0; i < n; i++) {
		const struct run *r = c->runs[i] = list[i].run;

		if (!i || list[i].variant != list[i - 1].variant || r->nodes != list[i - 1].run->nodes)
			c->points[c->count++] = (struct point){
				.variant = r->variant, .series = r->series, .policy = r->policy, .place = r->place,
				.workers = r->workers, .nodes = r->nodes, .ranks = r->ranks, .runs = &c->runs[i],
			};
		if (run_counts(r))
			c->points[c->count - 1].run_count++;
		else
			c->points[c->count - 1].failed_count++;
	}
	free(list);
	bases_find(c);
	for (struct point *p = c->points; p < c->points + c->count && !rc; p++) {
		for (int scope = 0; scope < SCOPE_PACED && !rc; scope++)
			rc = pace_make(&p->pace[scope], p, scope);
		point_check(all, p);
	}
	return rc;
}

void curve_release(struct curve *c)
{
	free(c->points);
	free(c->runs);
	*c = (struct curve){ 0 };
}

/* ---- breakdown ------------------------------------------------------------------------- */

static void sum_take(struct breakdown *b, const struct window_sum *s, enum window_kind kind)
{
	if (kind != WINDOW_BOUNDARY)
		b->iterations += s->windows;
	b->wall_ns += s->wall_ns;
	b->comm_hidden_ns += s->comm_hidden_ns;
	for (int cls = 0; cls < CLS_COUNT; cls++) {
		enum group g = group_of_class[cls];

		/* A device may compute until long after its host entered the boundary. */
		if ((kind == WINDOW_BOUNDARY && cls > CLS_COMPUTE_OTHER) || (kind == WINDOW_FIRST && g == GROUP_loader))
			g = GROUP_boundary;
		b->parts_ns[g] += s->parts_ns[cls];
	}
}

void point_breakdown(const struct point *p, enum scope scope, struct breakdown *b)
{
	int64_t sum = 0;

	*b = (struct breakdown){ .run_min_ms = NAN, .run_max_ms = NAN };
	for (size_t i = 0; i < p->run_count; i++) {
		int64_t wall_ns = b->wall_ns, iterations = b->iterations;
		double ms;

		for (int k = 0; k < WINDOW_KINDS && scope != SCOPE_WORK; k++)
			if (scope == SCOPE_WHOLE || k == WINDOW_STEADY)
				sum_take(b, &p->runs[i]->sums[k], k);
		if (scope == SCOPE_WORK)
			sum_take(b, &p->runs[i]->work, WINDOW_STEADY);
		if (b->iterations == iterations)
			continue;
		ms = 1e-6 * (double)(b->wall_ns - wall_ns) / (double)(b->iterations - iterations);
		b->run_min_ms = fmin(b->run_min_ms, ms);
		b->run_max_ms = fmax(b->run_max_ms, ms);
	}
	for (int g = 0; g < GROUP_COUNT; g++)
		sum += b->parts_ns[g];
	assert(sum == b->wall_ns);
	(void)sum;
}

/* ---- boundaries ------------------------------------------------------------------------ */

/* Of the run's slowest rank, from the iteration behind the one that a boundary ends in. */
static double rewarming_ms(const struct run *r, size_t iteration, double upper_ns)
{
	size_t at = 0;
	double ms = 0;

	for (size_t w = 0; w < r->windows; w++) {
		at += r->kinds[w] != WINDOW_BOUNDARY;
		if (at <= iteration + 1)
			continue;
		if (r->kinds[w] != WINDOW_STEADY || (double)r->slowest_ns[w] <= upper_ns)
			break;
		ms += 1e-6 * ((double)r->slowest_ns[w] - r->steady_ns.median);
	}
	return ms;
}

static double upper_quartile_ns(const struct run *r)
{
	double *steady = malloc((r->windows + 1) * sizeof(*steady)), upper = INFINITY;
	size_t n = 0;

	for (size_t w = 0; w < r->windows && steady; w++)
		if (r->kinds[w] == WINDOW_STEADY)
			steady[n++] = (double)r->slowest_ns[w];
	if (n)
		upper = quantile(steady, n, 0.75);
	free(steady);
	return upper;
}

static double mean_steady_ns(const struct run *r)
{
	double sum = 0, n = 0;

	for (size_t w = 0; w < r->windows; w++) {
		if (r->kinds[w] == WINDOW_STEADY) {
			sum += (double)r->slowest_ns[w];
			n++;
		}
	}
	return sum / n;
}

int point_stall(const struct point *p, bool start_up, struct stall *out)
{
	double *medians = malloc((p->run_count + 1) * sizeof(*medians)), *tens = malloc((p->run_count + 1) * sizeof(*tens));
	size_t runs = 0;
	int rc = medians && tens ? OK : err(NO_MEMORY, "no memory for %zu runs", p->run_count);

	*out = (struct stall){ 0 };
	for (size_t i = 0; i < p->run_count && !rc; i++) {
		const struct run *r = p->runs[i];
		size_t from = start_up ? 0 : 1, to = start_up && r->stretch_count ? 1 : r->stretch_count;
		double steady_ms = 1e-6 * r->steady_ns.median, upper_ns, *costs;

		if (from >= to || isnan(steady_ms))
			continue;
		costs = malloc((to - from) * sizeof(*costs));
		if (!costs) {
			rc = err(NO_MEMORY, "no memory for %zu boundaries", to - from);
			break;
		}
		upper_ns = upper_quartile_ns(r);
		for (size_t s = from; s < to; s++) {
			out->rewarm_ms += rewarming_ms(r, r->stretches[s].iteration, upper_ns);
			costs[s - from] = 1e-6 * (double)r->stretches[s].length_ns - steady_ms;
			for (int part = 0; part < PART_COUNT; part++)
				out->parts_ms[part] += 1e-6 * (double)r->stretches[s].parts_ns[part];
			out->parts_ms[PART_REST] -= steady_ms;
			out->mean_ms += costs[s - from];
		}
		out->stretches += to - from;
		tens[runs] = 10e-6 * mean_steady_ns(r);
		medians[runs++] = quantile(costs, to - from, 0.5);
		free(costs);
	}
	out->cost_ms = summarize(medians, runs);
	out->ten_iterations_ms = summarize(tens, runs).median;
	free(medians);
	free(tens);
	for (int part = 0; part < PART_COUNT; part++)
		out->parts_ms[part] /= (double)out->stretches;
	out->mean_ms /= (double)out->stretches;
	out->rewarm_ms /= (double)out->stretches;
	return rc;
}

const char *const boundary_part_words[PART_COUNT] = {
	[PART_STOP] = "stopping workers",
	[PART_START] = "starting workers",
	[PART_INDEX] = "passing the index on to workers",
	[PART_SAMPLER] = "the sampler",
	[PART_EVAL] = "validation",
	[PART_FIRST_BATCH] = "waiting for the first batch",
	[PART_CKPT] = "the checkpoint",
	[PART_REST] = "other things",
};

enum boundary_part stall_greatest(const struct stall *s)
{
	enum boundary_part most = PART_STOP;

	for (enum boundary_part i = 0; i < PART_REST; i++)
		most = s->parts_ms[i] > s->parts_ms[most] ? i : most;
	return most;
}
