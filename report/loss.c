/*
 * report/loss.c - see loss.h.
 *
 * Each run is a row of terms in ms per iteration, its total in the last column; every
 * statement is about rows of one point against rows of another (bench/base/bootstrap.h), so
 * the terms of a run stay together.
 */
#include "report/loss.h"

#include "bench/base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const verdict_names[] = {
	[VERDICT_WITHIN] = "within", [VERDICT_UNDECIDED] = "undecided", [VERDICT_BEYOND] = "beyond",
};

const char *term_title(int term)
{
	return term < GROUP_COUNT ? group_rows[term].title : term == TERM_SKEW ? "skew" : "total";
}

const char *term_colour(int term)
{
	return term < GROUP_COUNT ? group_rows[term].colour : term == TERM_SKEW ? "#a0522d" : "#555555";
}

static bool is_partner(const struct point *p, const struct point *to)
{
	return p->base == to->base && p->run_count && p->nodes < to->nodes;
}

const struct point *loss_from(const struct curve *c, const struct point *to)
{
	const struct point *from = NULL;

	for (const struct point *p = c->points; p < c->points + c->count && to->run_count; p++)
		if (is_partner(p, to) && (!from || from->nodes * 2 != to->nodes))
			from = p;	/* points lie by nodes: this one has more */
	return from;
}

/* ---- rows of terms --------------------------------------------------------------------- */

static void run_terms(const struct point *p, size_t run, enum scope scope, double terms[TERM_COUNT])
{
	const struct run *r = p->runs[run];
	struct point alone = *p;
	struct breakdown b;
	double rank_ms;

	alone.runs = &p->runs[run];
	alone.run_count = 1;
	point_breakdown(&alone, scope, &b);
	rank_ms = 1e-6 * (double)b.wall_ns / (double)b.iterations;
	for (int g = 0; g < GROUP_COUNT; g++)
		terms[g] = 1e-6 * (double)b.parts_ns[g] / (double)b.iterations;
	terms[TERM_TOTAL] = scope == SCOPE_STEADY ? rank_ms : 1e-6 * (double)r->wall_ns / (double)r->iterations;
	terms[TERM_SKEW] = terms[TERM_TOTAL] - rank_ms;
}

static double *rows_make(const struct point *p, enum scope scope)
{
	double *rows = malloc(p->run_count * TERM_COUNT * sizeof(*rows));

	for (size_t i = 0; rows && i < p->run_count; i++)
		run_terms(p, i, scope, rows + i * TERM_COUNT);
	return rows;
}

struct column {
	double mean, min, max;
};

static struct column column_of(const double *rows, size_t count, int column)
{
	struct column c = { .min = INFINITY, .max = -INFINITY };

	for (size_t i = 0; i < count; i++) {
		double v = rows[i * TERM_COUNT + (size_t)column];

		c.mean += v / (double)count;
		c.min = fmin(c.min, v);
		c.max = fmax(c.max, v);
	}
	if (isnan(c.mean))
		c.min = c.max = NAN;	/* fmin() passes over NaN */
	return c;
}

static struct term term_of(const struct column *from, const struct column *to, double factor, struct interval ci)
{
	return (struct term){
		.from_ms = from->mean, .ideal_ms = factor * from->mean, .to_ms = to->mean,
		.loss_ms = to->mean - factor * from->mean,
		.min_ms = to->min - factor * from->max, .max_ms = to->max - factor * from->min,
		.ci_ms = ci,
	};
}

static enum verdict judge(const struct term *excess)
{
	double least = interval_exists(excess->ci_ms) ? excess->ci_ms.low : excess->min_ms;

	return least > 0 ? VERDICT_BEYOND : excess->loss_ms > 0 ? VERDICT_UNDECIDED : VERDICT_WITHIN;
}

static double clips_per_node(const struct point *p)
{
	return run_clips(p->runs[0]) / (double)p->nodes;
}

int loss_make(const struct point *from, const struct point *to, enum scope scope, struct loss *l)
{
	double *a = rows_make(from, scope), *b = rows_make(to, scope);
	struct interval ci[TERM_COUNT], excess_ci[TERM_COUNT];
	int rc = a && b ? OK : err(NO_MEMORY, "no memory for %zu runs", from->run_count + to->run_count);

	*l = (struct loss){ .from = from, .to = to, .ideal = clips_per_node(to) / clips_per_node(from),
			    .times = (to->ranks + from->ranks - 1) / from->ranks };
	if (!rc)
		rc = bootstrap_difference(&bootstrap_usual, a, from->run_count, b, to->run_count, TERM_COUNT,
					  l->ideal, ci);
	if (!rc)
		rc = bootstrap_difference(&bootstrap_usual, a, from->run_count, b, to->run_count, TERM_COUNT,
					  (double)l->times, excess_ci);
	for (int t = 0; t < TERM_COUNT && !rc; t++) {
		struct column here = column_of(a, from->run_count, t), there = column_of(b, to->run_count, t);

		l->terms[t] = term_of(&here, &there, l->ideal, ci[t]);
		if (t == TERM_TOTAL)
			l->excess = term_of(&here, &there, (double)l->times, excess_ci[t]);
	}
	l->verdict = judge(&l->excess);
	free(a);
	free(b);
	return rc;
}

/* ---- the factors of POP ---------------------------------------------------------------- */

static double useful_ns(const struct window_sum *s)
{
	double ns = 0;

	for (int c = CLS_COMPUTE_FWD; c <= CLS_COMPUTE_OTHER; c++)	/* nothing goes before compute: its union */
		ns += (double)s->parts_ns[c];
	return ns;
}

/* Sums over the runs of a point. */
struct useful {
	double mean_ns, max_ns, wall_ns, sum_ns, clips;
	double wire_ns, unsplit_ns;	/* of the rank of most useful */
};

static void useful_add(struct useful *u, const struct run *r)
{
	const struct window_sum *most = r->rank_sums;
	double sum_ns = 0;

	for (size_t i = 0; i < r->ranks; i++) {
		sum_ns += useful_ns(&r->rank_sums[i]);
		if (useful_ns(&r->rank_sums[i]) > useful_ns(most))
			most = &r->rank_sums[i];
	}
	u->sum_ns += sum_ns;
	u->mean_ns += sum_ns / (double)r->ranks;
	u->max_ns += useful_ns(most);
	u->wall_ns += (double)r->wall_ns;
	u->wire_ns += (double)most->parts_ns[CLS_COMM_WIRE];
	u->unsplit_ns += (double)most->parts_ns[CLS_COMM];
	u->clips += run_clips(r) * (double)r->iterations;
}

static struct useful useful_of(const struct point *p)
{
	struct useful u = { 0 };

	for (size_t i = 0; i < p->run_count; i++)
		useful_add(&u, p->runs[i]);
	return u;
}

void pop_make(const struct point *p, struct pop *pop)
{
	const double unsplit_most = 0.02;	/* of the wall time: what this report trusts elsewhere too */
	struct useful u = useful_of(p), base = useful_of(p->base);
	double ideal_ns = u.unsplit_ns <= unsplit_most * u.wall_ns ? u.wall_ns - u.wire_ns : NAN;

	*pop = (struct pop){
		.load_balance = u.mean_ns / u.max_ns,
		.communication = u.max_ns / u.wall_ns,
		.serialisation = u.max_ns / ideal_ns,
		.transfer = ideal_ns / u.wall_ns,
		.parallel = u.mean_ns / u.wall_ns,
		.computation = base.sum_ns / base.clips / (u.sum_ns / u.clips),
	};
	pop->global = pop->parallel * pop->computation;
}
