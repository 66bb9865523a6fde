/*
 * tests/test_dist.c - distributions of durations: what is read, and what is drawn.
 */
#include "bench/base/dist.h"
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { DRAWS = 20001 };

static void a_distribution_is_a_name_with_its_numbers(void **state)
{
	static const struct { const char *text; int rc; double center_ms, spread; } cases[] = {
		{ "const:10", OK, 10, 0 },
		{ "const:0", OK, 0, 0 },
		{ "normal:10,2", OK, 10, 2 },
		{ "lognormal:12.5,0.3", OK, 12.5, 0.3 },
		{ "", USAGE, 0, 0 },
		{ "10", USAGE, 0, 0 },
		{ ":10", USAGE, 0, 0 },
		{ "const", USAGE, 0, 0 },
		{ "const:", USAGE, 0, 0 },
		{ "const:10ms", USAGE, 0, 0 },
		{ "const:-1", USAGE, 0, 0 },
		{ "const:nan", USAGE, 0, 0 },
		{ "const:inf", USAGE, 0, 0 },
		{ "const:1,2", USAGE, 0, 0 },
		{ "normal:10", USAGE, 0, 0 },
		{ "normal:10,2,3", USAGE, 0, 0 },
		{ "normal:10;2", USAGE, 0, 0 },
		{ "uniform:1,2", USAGE, 0, 0 },
		{ "norm:1,2", USAGE, 0, 0 },
		{ "file:/nowhere/at/all", FAILED, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct dist d;

		assert_int_equal(dist_init(&d, cases[i].text), cases[i].rc);
		assert_true(d.center_ms == cases[i].center_ms);
		assert_true(d.spread == cases[i].spread);
		dist_release(&d);
	}
}

static double quantile_ms(const char *text, double q)
{
	double *values = malloc(DRAWS * sizeof(*values)), value;
	struct dist d;
	struct rng r;

	assert_non_null(values);
	assert_int_equal(dist_init(&d, text), OK);
	rng_init(&r, 1, 0);
	for (size_t i = 0; i < DRAWS; i++)
		values[i] = (double)dist_draw_ns(&d, &r) / 1e6;
	dist_release(&d);
	value = quantile(values, DRAWS, q);
	free(values);
	return value;
}

static void draws_have_the_quantiles_of_their_distribution(void **state)
{
	/* Phi(-1) = 0.158655, Phi(0) = 0.5, Phi(1) = 0.841345. */
	static const struct { const char *text; double q, want_ms; } cases[] = {
		{ "const:10", 0, 10 }, { "const:10", 1, 10 },
		{ "normal:10,2", 0.158655, 8 }, { "normal:10,2", 0.5, 10 }, { "normal:10,2", 0.841345, 12 },
		{ "lognormal:10,0.5", 0.158655, 10 * 0.606531 }, { "lognormal:10,0.5", 0.5, 10 },
		{ "lognormal:10,0.5", 0.841345, 10 * 1.648721 },
		{ "normal:0,2", 0.4, 0 },	/* no time is negative */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_true(fabs(quantile_ms(cases[i].text, cases[i].q) - cases[i].want_ms) <=
			    0.02 * cases[i].want_ms);
}

static void the_same_seed_draws_the_same_times_and_another_stream_others(void **state)
{
	struct rng a, b, c;
	struct dist d;
	size_t same = 0;

	(void)state;
	assert_int_equal(dist_init(&d, "normal:10,2"), OK);
	rng_init(&a, 7, 0);
	rng_init(&b, 7, 0);
	rng_init(&c, 7, 1);
	for (size_t i = 0; i < 100; i++) {
		uint64_t ns = dist_draw_ns(&d, &a);

		assert_int_equal(dist_draw_ns(&d, &b), ns);
		same += dist_draw_ns(&d, &c) == ns;
	}
	assert_int_equal(same, 0);
	dist_release(&d);
}

static void a_file_gives_its_own_values_and_no_others(void **state)
{
	static const char good[] = "# measured\n1.5\n\n20\n3\n";
	static const struct { const char *text, *says; } bad[] = {
		{ "1\n2\nfast\n", ":3:" }, { "1\n-2\n", ":2:" }, { "1 2\n", ":1:" }, { "# nothing\n", "0 values" },
	};
	char path[] = "/tmp/sfscale-dist-XXXXXX", text[PATH_BYTES];
	size_t seen[3] = { 0 };
	struct dist d;
	struct rng r;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(path_make(text, "file:%s", path), OK);
	assert_int_equal(file_write(path, good, strlen(good)), OK);
	assert_int_equal(dist_init(&d, text), OK);
	assert_int_equal(d.value_count, 3);
	rng_init(&r, 1, 0);
	for (size_t i = 0; i < 3000; i++) {
		uint64_t ns = dist_draw_ns(&d, &r);

		assert_true(ns == 1500000 || ns == 20000000 || ns == 3000000);
		seen[ns == 1500000 ? 0 : ns == 20000000 ? 1 : 2]++;
	}
	for (size_t i = 0; i < 3; i++)
		assert_in_range(seen[i], 850, 1150);
	dist_release(&d);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(file_write(path, bad[i].text, strlen(bad[i].text)), OK);
		assert_int_equal(dist_init(&d, text), FAILED);
		assert_non_null(strstr(err_last(), bad[i].says));
	}
	unlink(path);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_distribution_is_a_name_with_its_numbers),
		cmocka_unit_test(draws_have_the_quantiles_of_their_distribution),
		cmocka_unit_test(the_same_seed_draws_the_same_times_and_another_stream_others),
		cmocka_unit_test(a_file_gives_its_own_values_and_no_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
