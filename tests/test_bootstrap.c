/*
 * tests/test_bootstrap.c - an interval of 95 % holds the truth in 93 to 97 % of 2,000 trials.
 *
 * Iterations are drawn from laws whose medians and means are known, as unpleasant as those of
 * loaders are: skewed, with two humps, hanging together over time.  All draws are seeded, so
 * the counts are the same on every machine that has the same libm.
 */
#include "bench/base/bootstrap.h"
#include "bench/base/err.h"
#include "bench/base/rng.h"
#include "bench/base/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)	/* ten times as slow: the same paths, fewer trials, wider bounds */
enum { TRIALS = 200, SLACK_PERCENT = 5 };
#else
enum { TRIALS = 2000, SLACK_PERCENT = 2 };
#endif

/* ---- iterations ------------------------------------------------------------------------ */

struct process {
	struct rng rng;
	double state;	/* standard normal, correlated with the one before it */
	unsigned step;
};

/* A number with one hump below 3 and one above; each step is in the upper one with the same chance. */
static double humps(struct process *p, bool upper)
{
	return (upper ? 5 : 1) + 0.3 * rng_normal(&p->rng);
}

static double drift(struct process *p, double memory)
{
	p->state = memory * p->state + sqrt(1 - memory * memory) * rng_normal(&p->rng);
	return p->state;
}

static double skewed(struct process *p) { return exp(rng_normal(&p->rng)); }
static double bimodal(struct process *p) { return humps(p, rng_uniform(&p->rng) < 0.3); }
static double correlated(struct process *p) { return exp(drift(p, 0.5)); }
static double correlated_bimodal(struct process *p) { return humps(p, drift(p, 0.5) > 0.5); }

/* Every fourth batch is late: what a loader with four workers does. */
static double periodic(struct process *p)
{
	return exp(0.2 * rng_normal(&p->rng)) + (++p->step % 4 ? 0 : exp(0.3 * rng_normal(&p->rng)));
}

static void process_begin(struct process *p, uint64_t seed, uint64_t stream)
{
	*p = (struct process){ 0 };
	rng_init(&p->rng, seed, stream);
	p->step = rng_below(&p->rng, 4);
	p->state = rng_normal(&p->rng);
}

typedef double (*law)(struct process *);

/* From many values: good to a few thousandths, where intervals are ten times as wide. */
static void truth(law draw, double *mean, double *median)
{
	enum { MANY = 400000 };
	double *values = malloc(MANY * sizeof(*values)), sum = 0;
	struct process p;

	assert_non_null(values);
	process_begin(&p, 99, 99);
	for (int i = 0; i < MANY; i++)
		sum += values[i] = draw(&p);
	*mean = sum / MANY;
	*median = quantile(values, MANY, 0.5);
	free(values);
}

static void covers(const char *name, int hits, int trials, double want_percent)
{
	double percent = 100.0 * hits / trials;

	print_message("%s: %.1f %% of %d\n", name, percent, trials);
	if (fabs(percent - want_percent) > SLACK_PERCENT)
		fail_msg("%s: %.2f %%, not within %d of %.2f %%", name, percent, SLACK_PERCENT, want_percent);
}

/* ---- the tests ------------------------------------------------------------------------- */

/* P(k <= Binomial(n, 1/2) <= n - k): what the ranks k and n + 1 - k cover. */
static double exact_percent(size_t n, size_t k)
{
	double term = exp2(-(double)n), below = 0;

	for (size_t i = 0; i < k; i++) {
		below += term;
		term *= (double)(n - i) / (double)(i + 1);
	}
	return 100 * (1 - 2 * below);
}

static void order_statistics_cover_what_the_binomial_says(void **state)
{
	static const struct { const char *name; law draw; } laws[] = {
		{ "runs, skewed", skewed }, { "runs, two humps", bimodal },
	};
	static const size_t runs[] = { 6, 7, 9, 12, 20 };

	(void)state;
	for (size_t l = 0; l < ARRAY_LEN(laws); l++) {
		double mean, median;

		truth(laws[l].draw, &mean, &median);
		for (size_t n = 0; n < ARRAY_LEN(runs); n++) {
			double values[20];
			struct process p;
			int hits = 0;

			process_begin(&p, runs[n], l);
			for (int t = 0; t < TRIALS; t++) {
				struct summary s;

				for (size_t i = 0; i < runs[n]; i++)
					values[i] = laws[l].draw(&p);
				s = summarize(values, runs[n]);
				hits += s.ci_low <= median && median <= s.ci_high;
			}
			covers(laws[l].name, hits, TRIALS, exact_percent(runs[n], median_ci_rank(runs[n])));
		}
	}
}

static void an_interval_of_a_series_holds_its_median(void **state)
{
	static const struct { const char *name; law draw; size_t n; } cases[] = {
		{ "iterations, skewed", skewed, 240 },
		{ "iterations, two humps", bimodal, 240 },
		{ "iterations, skewed and correlated", correlated, 240 },
		{ "iterations, two humps and correlated", correlated_bimodal, 240 },
		{ "iterations, every fourth late", periodic, 240 },
	};
	double series[600];

	(void)state;
	for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
		struct bootstrap how = { .resamples = 300 };
		int hits = 0, trials = 0;
		double mean, median;
		struct process p;

		truth(cases[c].draw, &mean, &median);
		for (int t = 0; t < TRIALS; t++) {
			struct interval i;
			size_t block;

			how.seed = (uint64_t)t;
			process_begin(&p, how.seed, 1000 + c);
			for (size_t at = 0; at < cases[c].n; at++)
				series[at] = cases[c].draw(&p);
			assert_int_equal(bootstrap_median(&how, series, cases[c].n, 4, &i, &block), OK);
			trials += interval_exists(i);
			hits += i.low <= median && median <= i.high;
		}
		assert_true(trials > 0.9 * TRIALS);
		covers(cases[c].name, hits, trials, 95);
	}
}

/* A run is the mean of some iterations of its own, and differs from other runs in more than these. */
static double run_mean(law draw, uint64_t seed, uint64_t stream, double scale)
{
	enum { ITERATIONS = 40 };
	struct process p;
	double sum = 0;

	process_begin(&p, seed, stream);
	for (int i = 0; i < ITERATIONS; i++)
		sum += draw(&p);
	return scale * sum / ITERATIONS + 0.1 * rng_normal(&p.rng);
}

static void an_interval_of_a_difference_holds_it(void **state)
{
	static const struct { const char *name; law draw; size_t runs; } cases[] = {
		{ "loss, skewed", skewed, 10 },
		{ "loss, two humps", bimodal, 6 },
		{ "loss, skewed and correlated", correlated, 10 },
		{ "loss, two humps and correlated", correlated_bimodal, 6 },
		{ "loss, every fourth late", periodic, 6 },
	};

	(void)state;
	for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
		struct bootstrap how = { .resamples = 500 };
		double mean, median, a[10], b[10];
		int hits = 0;

		truth(cases[c].draw, &mean, &median);
		for (int t = 0; t < TRIALS; t++) {
			double want = (1.5 - 0.5) * mean;
			struct interval i;

			how.seed = (uint64_t)t;
			for (size_t r = 0; r < cases[c].runs; r++) {
				a[r] = run_mean(cases[c].draw, how.seed, 64 * c + 2 * r, 1);
				b[r] = run_mean(cases[c].draw, how.seed, 64 * c + 2 * r + 1, 1.5);
			}
			assert_int_equal(bootstrap_difference(&how, a, cases[c].runs, b, cases[c].runs, 1, 0.5, &i),
					 OK);
			hits += i.low <= want && want <= i.high;
		}
		covers(cases[c].name, hits, TRIALS, 95);
	}
}

static void too_few_runs_or_blocks_have_no_interval(void **state)
{
	double a[12] = { 1, 2, 3, 4, 5, 6 }, b[12] = { 11, 12, 13, 14, 15, 16 }, series[400];
	struct interval i;
	size_t block;

	(void)state;
	assert_int_equal(bootstrap_difference(&bootstrap_usual, a, 5, b, 6, 1, 1, &i), OK);
	assert_false(interval_exists(i));
	assert_int_equal(bootstrap_difference(&bootstrap_usual, a, 6, b, 5, 1, 1, &i), OK);
	assert_false(interval_exists(i));
	assert_int_equal(bootstrap_difference(&bootstrap_usual, a, 6, b, 6, 1, 1, &i), OK);
	assert_true(interval_exists(i) && i.low < 10 && i.high > 10);
	assert_int_equal(bootstrap_difference(&bootstrap_usual, a, 0, b, 0, 1, 1, &i), OK);
	assert_false(interval_exists(i));
	for (size_t at = 0; at < ARRAY_LEN(series); at++)
		series[at] = (double)(at % 7);
	assert_int_equal(bootstrap_median(&bootstrap_usual, series, 100, 1, &i, &block), OK);
	assert_false(interval_exists(i));	/* blocks of 15 */
	assert_int_equal(bootstrap_median(&bootstrap_usual, series, 400, 1, &i, &block), OK);
	assert_true(interval_exists(i));
	assert_int_equal(block, 30);
	assert_int_equal(bootstrap_median(&bootstrap_usual, series, 400, 60, &i, &block), OK);
	assert_false(interval_exists(i));
	for (size_t at = 0; at < ARRAY_LEN(series); at++)
		series[at] = (double)at;	/* a trend: everything hangs together */
	assert_int_equal(bootstrap_median(&bootstrap_usual, series, 400, 1, &i, &block), OK);
	assert_false(interval_exists(i));
	for (size_t n = 0; n < 3; n++) {
		assert_int_equal(bootstrap_median(&bootstrap_usual, series, n, 1, &i, &block), OK);
		assert_false(interval_exists(i));
	}
}

static void values_that_never_vary_have_an_interval_of_no_width(void **state)
{
	double same[400], zeros[12] = { 0 };
	struct interval i[2];
	size_t block;

	(void)state;
	for (size_t at = 0; at < ARRAY_LEN(same); at++)
		same[at] = 7;
	assert_int_equal(bootstrap_median(&bootstrap_usual, same, ARRAY_LEN(same), 1, i, &block), OK);
	assert_true(i[0].low == 7 && i[0].high == 7);
	assert_int_equal(bootstrap_difference(&bootstrap_usual, zeros, 6, same, 6, 2, 3, i), OK);
	assert_true(i[0].low == 7 && i[0].high == 7 && i[1].low == 7 && i[1].high == 7);
}

/* One run in six has a stall: half of the resamples do not see it, and nothing can be said. */
static void a_single_odd_run_gives_no_interval_rather_than_an_infinite_one(void **state)
{
	double a[6] = { 0 }, b[6] = { 0, 0, 0, 0, 0, 50 };
	struct interval i;

	(void)state;
	assert_int_equal(bootstrap_difference(&bootstrap_usual, a, 6, b, 6, 1, 1, &i), OK);
	assert_false(interval_exists(i));
}

static void equal_seeds_give_equal_intervals(void **state)
{
	struct bootstrap other = { .resamples = 2000, .seed = 2 };
	double a[6] = { 1, 5, 2, 4, 8, 3 }, b[6] = { 9, 7, 8, 1, 3, 4 }, series[400];
	struct interval first, second, third;
	struct process p;
	size_t block;

	(void)state;
	process_begin(&p, 1, 1);
	for (size_t at = 0; at < ARRAY_LEN(series); at++)
		series[at] = correlated(&p);
	assert_int_equal(bootstrap_difference(&bootstrap_usual, a, 6, b, 6, 1, 1, &first), OK);
	assert_int_equal(bootstrap_difference(&bootstrap_usual, a, 6, b, 6, 1, 1, &second), OK);
	assert_int_equal(bootstrap_difference(&other, a, 6, b, 6, 1, 1, &third), OK);
	assert_memory_equal(&first, &second, sizeof(first));
	assert_memory_not_equal(&first, &third, sizeof(first));
	assert_int_equal(bootstrap_median(&bootstrap_usual, series, 400, 1, &first, &block), OK);
	assert_int_equal(bootstrap_median(&bootstrap_usual, series, 400, 1, &second, &block), OK);
	assert_int_equal(bootstrap_median(&other, series, 400, 1, &third, &block), OK);
	assert_memory_equal(&first, &second, sizeof(first));
	assert_memory_not_equal(&first, &third, sizeof(first));
}

/* Two columns and their sum: the sum's resamples are sums of the columns', so no sum can stand outside. */
static void what_adds_up_in_every_run_adds_up_in_the_interval(void **state)
{
	double a[18], b[18], alone[6], sums[6];
	struct interval whole[3], sum, column;
	struct process p;

	(void)state;
	process_begin(&p, 5, 5);
	for (int r = 0; r < 6; r++)
		for (int side = 0; side < 2; side++) {
			double *row = (side ? b : a) + 3 * r;

			row[0] = skewed(&p);
			row[1] = skewed(&p);
			row[2] = row[0] + row[1];
			(side ? sums : alone)[r] = row[2];
		}
	assert_int_equal(bootstrap_difference(&bootstrap_usual, a, 6, b, 6, 3, 0.5, whole), OK);
	assert_int_equal(bootstrap_difference(&bootstrap_usual, alone, 6, sums, 6, 1, 0.5, &sum), OK);
	assert_memory_equal(&whole[2], &sum, sizeof(sum));	/* however many columns travel with it */
	for (int r = 0; r < 6; r++) {
		alone[r] = a[3 * r];
		sums[r] = b[3 * r];
	}
	assert_int_equal(bootstrap_difference(&bootstrap_usual, alone, 6, sums, 6, 1, 0.5, &column), OK);
	assert_memory_equal(&whole[0], &column, sizeof(column));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_statistics_cover_what_the_binomial_says),
		cmocka_unit_test(an_interval_of_a_series_holds_its_median),
		cmocka_unit_test(an_interval_of_a_difference_holds_it),
		cmocka_unit_test(too_few_runs_or_blocks_have_no_interval),
		cmocka_unit_test(values_that_never_vary_have_an_interval_of_no_width),
		cmocka_unit_test(a_single_odd_run_gives_no_interval_rather_than_an_infinite_one),
		cmocka_unit_test(equal_seeds_give_equal_intervals),
		cmocka_unit_test(what_adds_up_in_every_run_adds_up_in_the_interval),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
