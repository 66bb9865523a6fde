/*
 * tests/test_loss.c - losses of runs that are made up, number by number.
 */
#include "bench/base/err.h"
#include "bench/base/rng.h"
#include "report/loss.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- made runs ------------------------------------------------------------------------- */

/* What every iteration of one rank is made of, in ms. */
struct work {
	double fwd, bwd, wire, wait, unsplit, loader;
};

enum { ITERATIONS = 10 };

static int64_t work_put(struct window_sum *sum, const struct work *w, size_t iterations)
{
	const struct { int cls; double ms; } parts[] = {
		{ CLS_COMPUTE_FWD, w->fwd }, { CLS_COMPUTE_BWD, w->bwd }, { CLS_COMM_WIRE, w->wire },
		{ CLS_COMM_WAIT, w->wait }, { CLS_COMM, w->unsplit }, { CLS_LOADER, w->loader },
	};
	int64_t wall_ns = 0;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		int64_t ns = llround(1e6 * parts[i].ms) * (int64_t)iterations;

		sum->parts_ns[parts[i].cls] += ns;
		wall_ns += ns;
	}
	sum->windows += (int64_t)iterations;
	sum->wall_ns += wall_ns;
	return wall_ns;
}

/* A rank per entry of `work`. */
static void run_put(struct runs *all, size_t nodes, size_t ranks, int clips_per_rank, const struct work *work)
{
	struct run *r = realloc(all->at, (all->count + 1) * sizeof(*r));
	char json[64];

	assert_non_null(r);
	all->at = r;
	r += all->count++;
	snprintf(json, sizeof(json), "{\"step\":{\"clips_per_rank\":%d}}", clips_per_rank);
	*r = (struct run){ .variant = strdup("v"), .series = strdup("v"), .policy = strdup("v"), .status = "ok",
			   .place = strdup("two hosts"), .folder = strdup("f"), .nodes = nodes, .ranks = ranks,
			   .iterations = ITERATIONS, .json = cJSON_Parse(json), .steady_ns = summarize(NULL, 0) };
	r->rank_sums = calloc(ranks, sizeof(*r->rank_sums));
	for (size_t i = 0; i < ranks; i++) {
		int64_t wall_ns = work_put(&r->rank_sums[i], &work[i], ITERATIONS);

		work_put(&r->sums[WINDOW_STEADY], &work[i], ITERATIONS);
		r->wall_ns = wall_ns > r->wall_ns ? wall_ns : r->wall_ns;
	}
}

/* All ranks alike. */
static void even_run_put(struct runs *all, size_t nodes, size_t ranks, int clips_per_rank, struct work work)
{
	struct work *each = malloc(ranks * sizeof(*each));

	for (size_t i = 0; i < ranks; i++)
		each[i] = work;
	run_put(all, nodes, ranks, clips_per_rank, each);
	free(each);
}

static void near(double got, double want)
{
	if (!(fabs(got - want) <= 1e-9 * (1 + fabs(want))))
		fail_msg("%.12g, not %.12g", got, want);
}

static void done(struct runs *all, struct curve *c)
{
	curve_release(c);
	runs_release(all);
}

/* ---- losses ---------------------------------------------------------------------------- */

static void the_example_of_the_readme_comes_out(void **state)
{
	static const struct work one[] = { { .fwd = 30, .bwd = 60, .loader = 10 } };
	static const struct work two[] = {
		{ .fwd = 30, .bwd = 60, .wire = 12, .wait = 18, .loader = 10 },
		{ .fwd = 30, .bwd = 60, .wire = 12, .wait = 2, .loader = 26 },
	};
	struct runs all = { 0 };
	struct curve c;
	struct loss l;
	struct pop p;

	(void)state;
	run_put(&all, 1, 1, 8, one);
	run_put(&all, 2, 2, 8, two);
	assert_int_equal(curve_make(&c, &all), OK);
	assert_int_equal(loss_make(&c.points[0], &c.points[1], SCOPE_WHOLE, &l), OK);
	near(l.ideal, 1);
	near(l.terms[TERM_TOTAL].ideal_ms, 100);
	near(l.terms[TERM_TOTAL].to_ms, 130);
	near(l.terms[TERM_TOTAL].loss_ms, 30);
	near(l.terms[GROUP_fwd].loss_ms + l.terms[GROUP_bwd].loss_ms, 0);
	near(l.terms[GROUP_wait].loss_ms + l.terms[GROUP_wire].loss_ms, 22);
	near(l.terms[GROUP_loader].loss_ms, 8);
	near(l.terms[TERM_SKEW].loss_ms, 0);
	assert_int_equal(l.verdict, VERDICT_WITHIN);
	pop_make(&c.points[1], &p);
	near(p.load_balance, 1);
	near(p.serialisation, 90.0 / 118);
	near(p.transfer, 118.0 / 130);
	near(p.communication, 90.0 / 130);
	near(p.computation, 1);
	near(p.global, 90.0 / 130);
	done(&all, &c);
}

static void the_parts_of_a_loss_sum_to_it(void **state)
{
	struct rng rng;

	(void)state;
	rng_init(&rng, 1, 1);
	for (int trial = 0; trial < 100; trial++) {
		int per_node = 1 + (int)rng_below(&rng, 3), clips = 1 << rng_below(&rng, 3);
		struct runs all = { 0 };
		struct curve c;

		for (size_t nodes = 1; nodes <= 4; nodes *= 2)
			for (int run = 0; run < 2; run++) {
				struct work work[12];

				for (size_t r = 0; r < ARRAY_LEN(work); r++)
					work[r] = (struct work){ .fwd = rng_uniform(&rng), .bwd = rng_uniform(&rng),
						.wire = rng_uniform(&rng), .wait = rng_uniform(&rng),
						.unsplit = rng_uniform(&rng), .loader = rng_uniform(&rng) };
				run_put(&all, nodes, nodes * (size_t)per_node, trial % 2 ? clips : 8 / (int)nodes,
					work);
			}
		assert_int_equal(curve_make(&c, &all), OK);
		for (size_t i = 1; i < c.count; i++)
			for (int scope = 0; scope < SCOPE_PACED; scope++) {
				struct loss l;
				double sum = 0;

				assert_int_equal(loss_make(&c.points[i - 1], &c.points[i], scope, &l), OK);
				near(l.ideal, trial % 2 ? 1 : 0.5);
				for (int t = 0; t < TERM_TOTAL; t++) {
					sum += l.terms[t].loss_ms;
					assert_true(l.terms[t].min_ms <= l.terms[t].loss_ms + 1e-9 &&
						    l.terms[t].loss_ms <= l.terms[t].max_ms + 1e-9);
				}
				near(sum, l.terms[TERM_TOTAL].loss_ms);
				assert_true(l.terms[TERM_SKEW].to_ms > -1e-9);
				assert_true(scope == SCOPE_WHOLE || fabs(l.terms[TERM_SKEW].to_ms) < 1e-9);
			}
		done(&all, &c);
	}
}

static void a_step_begins_at_half_the_nodes_or_the_next_fewer(void **state)
{
	static const struct { size_t nodes, from; } cases[] = {
		{ 1, 0 }, { 2, 1 }, { 3, 2 }, { 4, 2 }, { 6, 3 }, { 7, 6 }, { 20, 7 },
	};
	struct runs all = { 0 };
	struct curve c;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		even_run_put(&all, cases[i].nodes, cases[i].nodes, 8, (struct work){ .fwd = 1 });
	even_run_put(&all, 10, 10, 8, (struct work){ .fwd = 1 });	/* half of 20, but it failed */
	all.at[all.count - 1].status = "failed";
	assert_int_equal(curve_make(&c, &all), OK);
	for (size_t i = 0; i < c.count; i++) {
		const struct point *from = loss_from(&c, &c.points[i]);
		size_t k = 0;

		while (k < ARRAY_LEN(cases) && cases[k].nodes != c.points[i].nodes)
			k++;
		if (k == ARRAY_LEN(cases))
			assert_null(from);
		else
			assert_int_equal(from ? from->nodes : 0, cases[k].from);
		if (from) {
			struct loss l;

			assert_int_equal(loss_make(from, &c.points[i], SCOPE_WHOLE, &l), OK);
			assert_int_equal(l.times, (c.points[i].nodes - 1) / from->nodes + 1);
		}
	}
	done(&all, &c);
}

static void an_interval_takes_six_runs_on_either_side(void **state)
{
	static const struct { int from, to; bool exists; } cases[] = {
		{ 6, 6, true }, { 5, 6, false }, { 6, 5, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct runs all = { 0 };
		struct curve c;
		struct loss l;

		for (int r = 0; r < cases[i].from; r++)
			even_run_put(&all, 1, 1, 8, (struct work){ .fwd = 50 + r % 4, .loader = 5 });
		for (int r = 0; r < cases[i].to; r++)
			even_run_put(&all, 2, 2, 8,
				     (struct work){ .fwd = 60 + r % 5, .wire = 10 + r % 3, .loader = 5 });
		assert_int_equal(curve_make(&c, &all), OK);
		assert_int_equal(loss_make(&c.points[0], &c.points[1], SCOPE_WHOLE, &l), OK);
		for (int t = 0; t < TERM_COUNT; t++) {
			const struct term *term = &l.terms[t];

			assert_int_equal(interval_exists(term->ci_ms), cases[i].exists);
			if (cases[i].exists)
				assert_true(term->ci_ms.low <= term->loss_ms && term->loss_ms <= term->ci_ms.high);
		}
		assert_true(l.terms[TERM_TOTAL].min_ms <= 17 && l.terms[TERM_TOTAL].max_ms >= 17);
		done(&all, &c);
	}
}

/* ---- does the cause grow with scale? --------------------------------------------------- */

/* Seconds per iteration of the study: spec/paper.md. */
static void the_study_is_beyond_the_bound_at_128_nodes_and_not_before(void **state)
{
	static const struct { size_t nodes; double compute_s, comm_s; enum verdict verdict; } points[] = {
		{ 32, 0.779, 0.607, VERDICT_WITHIN },
		{ 64, 0.787, 1.166, VERDICT_WITHIN },
		{ 128, 1.177, 4.198, VERDICT_BEYOND },
	};
	struct runs all = { 0 };
	struct curve c;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(points); i++)
		even_run_put(&all, points[i].nodes, 4 * points[i].nodes, 8,
			     (struct work){ .bwd = 1e3 * points[i].compute_s, .unsplit = 1e3 * points[i].comm_s });
	assert_int_equal(curve_make(&c, &all), OK);
	for (size_t i = 1; i < c.count; i++) {
		struct loss l;

		assert_int_equal(loss_make(&c.points[i - 1], &c.points[i], SCOPE_STEADY, &l), OK);
		assert_int_equal(l.times, 2);
		assert_int_equal(l.verdict, points[i].verdict);
	}
	done(&all, &c);
}

static void a_verdict_needs_all_pairs_of_runs_or_the_interval(void **state)
{
	static const struct { int runs; double first_ms, step_ms; enum verdict verdict; } cases[] = {
		{ 1, 190, 0, VERDICT_WITHIN },
		{ 1, 210, 0, VERDICT_BEYOND },
		{ 3, 203, 2, VERDICT_BEYOND },		/* 203 to 207 against 2 x (100 to 101) */
		{ 3, 201, 2, VERDICT_UNDECIDED },	/* 201 < 2 x 101 */
		{ 3, 198, 1, VERDICT_WITHIN },
		{ 7, 200, 3, VERDICT_BEYOND },		/* pairs overlap, the interval does not */
		{ 7, 196, 2, VERDICT_UNDECIDED },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct runs all = { 0 };
		struct curve c;
		struct loss l;

		for (int r = 0; r < cases[i].runs; r++) {
			even_run_put(&all, 2, 2, 8, (struct work){ .fwd = 100 + 0.5 * (r % 3) });
			even_run_put(&all, 4, 4, 8, (struct work){ .fwd = cases[i].first_ms + r * cases[i].step_ms });
		}
		assert_int_equal(curve_make(&c, &all), OK);
		assert_int_equal(loss_make(&c.points[0], &c.points[1], SCOPE_WHOLE, &l), OK);
		if (l.verdict != cases[i].verdict)
			fail_msg("case %zu is %s, not %s", i, verdict_names[l.verdict],
				 verdict_names[cases[i].verdict]);
		done(&all, &c);
	}
}

/* The longest of `ranks` delays, mean over iterations: heavy tails, rare stalls, exponential ones. */
static double slowest_ms(struct rng *rng, size_t ranks, int law)
{
	enum { STEPS = 400 };
	double sum = 0;

	for (int i = 0; i < STEPS; i++) {
		double most = 0;

		for (size_t r = 0; r < ranks; r++) {
			double z = rng_normal(rng), u = rng_uniform(rng);

			most = fmax(most, law == 0 ? exp(2.5 * z)
					: law == 1 ? (u < 0.02 ? 1000 : 0) : -20 * log(1 - u));
		}
		sum += 10 + most;
	}
	return sum / STEPS;
}

static void no_delays_of_independent_ranks_are_called_beyond(void **state)
{
	struct rng rng;

	(void)state;
	rng_init(&rng, 7, 7);
	for (int law = 0; law < 3; law++)
		for (size_t nodes = 2; nodes <= 16; nodes *= 2) {
			struct runs all = { 0 };
			struct curve c;
			struct loss l;

			for (int run = 0; run < 3; run++)
				for (size_t n = nodes; n <= 2 * nodes; n *= 2)
					even_run_put(&all, n, n, 8, (struct work){ .fwd = slowest_ms(&rng, n, law) });
			assert_int_equal(curve_make(&c, &all), OK);
			assert_int_equal(loss_make(&c.points[0], &c.points[1], SCOPE_STEADY, &l), OK);
			assert_int_not_equal(l.verdict, VERDICT_BEYOND);
			done(&all, &c);
		}
}

static void without_steady_iterations_nothing_is_judged(void **state)
{
	struct runs all = { 0 };
	struct curve c;
	struct loss l;

	(void)state;
	for (size_t n = 1; n <= 2; n++) {
		even_run_put(&all, n, n, 8, (struct work){ .fwd = 100 * (double)(n * n) });
		all.at[n - 1].sums[WINDOW_FIRST] = all.at[n - 1].sums[WINDOW_STEADY];
		all.at[n - 1].sums[WINDOW_STEADY] = (struct window_sum){ 0 };
	}
	assert_int_equal(curve_make(&c, &all), OK);
	assert_int_equal(loss_make(&c.points[0], &c.points[1], SCOPE_STEADY, &l), OK);
	assert_true(isnan(l.terms[TERM_TOTAL].loss_ms));
	assert_int_equal(l.verdict, VERDICT_WITHIN);
	assert_int_equal(loss_make(&c.points[0], &c.points[1], SCOPE_WHOLE, &l), OK);
	assert_int_equal(l.verdict, VERDICT_BEYOND);
	done(&all, &c);
}

/* ---- the factors of POP ---------------------------------------------------------------- */

static void the_factors_multiply_to_the_efficiency(void **state)
{
	struct rng rng;

	(void)state;
	rng_init(&rng, 3, 3);
	for (int trial = 0; trial < 100; trial++) {
		struct runs all = { 0 };
		struct pop base, here;
		double efficiency;
		struct curve c;

		for (size_t nodes = 2; nodes <= 8; nodes *= 2)
			for (int run = 0; run < 3; run++) {
				struct work work[8];

				for (size_t r = 0; r < nodes; r++)
					work[r] = (struct work){ .fwd = 1 + rng_uniform(&rng), .bwd = rng_uniform(&rng),
						.wire = rng_uniform(&rng), .wait = rng_uniform(&rng),
						.loader = rng_uniform(&rng) };
				run_put(&all, nodes, nodes, trial % 2 ? 8 : 16 / (int)nodes, work);
			}
		assert_int_equal(curve_make(&c, &all), OK);
		pop_make(&c.points[0], &base);
		near(base.computation, 1);
		for (size_t i = 0; i < c.count; i++) {
			const struct point *p = &c.points[i];
			double clips_per_ns = 0, base_clips_per_ns = 0;

			pop_make(p, &here);
			near(here.load_balance * here.communication, here.parallel);
			near(here.serialisation * here.transfer, here.communication);
			near(here.parallel * here.computation, here.global);
			assert_true(here.load_balance <= 1 && here.serialisation <= 1 && here.transfer <= 1);
			for (size_t r = 0; r < 3; r++) {
				clips_per_ns += (double)p->runs[r]->wall_ns;
				base_clips_per_ns += (double)c.points[0].runs[r]->wall_ns;
			}
			clips_per_ns = 3 * run_clips(p->runs[0]) / clips_per_ns / (double)p->ranks;
			base_clips_per_ns = 3 * run_clips(c.points[0].runs[0]) / base_clips_per_ns /
					    (double)c.points[0].ranks;
			efficiency = clips_per_ns / base_clips_per_ns;
			near(here.global / base.global, efficiency);
		}
		done(&all, &c);
	}
}

static void transfer_is_not_known_while_waiting_is_not_told_apart(void **state)
{
	struct runs all = { 0 };
	struct curve c;
	struct pop p;

	(void)state;
	even_run_put(&all, 2, 2, 8, (struct work){ .fwd = 60, .wire = 30, .unsplit = 10 });
	even_run_put(&all, 4, 4, 8, (struct work){ .fwd = 60, .wire = 39, .unsplit = 1 });
	assert_int_equal(curve_make(&c, &all), OK);
	pop_make(&c.points[0], &p);
	assert_true(isnan(p.transfer) && isnan(p.serialisation));
	near(p.communication, 0.6);
	pop_make(&c.points[1], &p);
	near(p.transfer, 0.61);
	done(&all, &c);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_example_of_the_readme_comes_out),
		cmocka_unit_test(the_parts_of_a_loss_sum_to_it),
		cmocka_unit_test(a_step_begins_at_half_the_nodes_or_the_next_fewer),
		cmocka_unit_test(an_interval_takes_six_runs_on_either_side),
		cmocka_unit_test(the_study_is_beyond_the_bound_at_128_nodes_and_not_before),
		cmocka_unit_test(a_verdict_needs_all_pairs_of_runs_or_the_interval),
		cmocka_unit_test(no_delays_of_independent_ranks_are_called_beyond),
		cmocka_unit_test(without_steady_iterations_nothing_is_judged),
		cmocka_unit_test(the_factors_multiply_to_the_efficiency),
		cmocka_unit_test(transfer_is_not_known_while_waiting_is_not_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
