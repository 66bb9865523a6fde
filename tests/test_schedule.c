/*
 * tests/test_schedule.c - the learning rate against PySlowFast's numbers.
 */
#include "bench/base/err.h"
#include "kernels/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void assert_lr(const struct schedule *s, size_t clips, double epoch, double want)
{
	assert_true(fabs(schedule_lr(s, clips, epoch) - want) <= 1e-12 * want);
}

static void rates_of_the_configuration_file_and_of_one_node_of_the_study(void **state)
{
	static const struct { double epoch, file, node; } rows[] = {
		{ 0, 0.000125, 0.0000625 }, { 1, 0.0201, 0.01005 }, { 2.5, 0.0500625, 0.02503125 },
		{ 5, 0.1, 0.05 }, { 9.999, 0.1, 0.05 }, { 10, 0.01, 0.005 }, { 14.999, 0.01, 0.005 },
		{ 15, 0.001, 0.0005 }, { 20, 0.001, 0.0005 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_lr(&schedule_ava, 64, rows[i].epoch, rows[i].file);
		assert_lr(&schedule_ava, 32, rows[i].epoch, rows[i].node);
	}
}

static void the_rate_is_proportional_to_the_clips_of_a_step(void **state)
{
	struct schedule fixed = schedule_ava;

	(void)state;
	fixed.base_clips = 0;
	for (size_t nodes = 1; nodes <= 128; nodes *= 2)
		for (double epoch = 0; epoch < 20; epoch += 0.25) {
			assert_lr(&schedule_ava, 32 * nodes, epoch,
				  (double)nodes * schedule_lr(&schedule_ava, 32, epoch));
			assert_lr(&fixed, 32 * nodes, epoch, schedule_lr(&schedule_ava, 64, epoch));
		}
}

static void warm_up_ends_in_the_rate_of_the_steps(void **state)
{
	/* A step inside the warm-up: it aims at the rate behind that step. */
	static const struct schedule early = { .base_lr = 1, .warmup_start_lr = 0.25, .warmup_epochs = 4,
					       .step_count = 2, .steps = { { 0, 1 }, { 2, 0.5 } } };
	static const struct schedule none = { .base_lr = 1, .warmup_start_lr = 0.25, .step_count = 1,
					      .steps = { { 0, 1 } } };

	(void)state;
	assert_lr(&early, 8, 0, 0.25);
	assert_lr(&early, 8, 2, 0.375);
	assert_lr(&early, 8, 4, 0.5);
	assert_lr(&none, 8, 0, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(rates_of_the_configuration_file_and_of_one_node_of_the_study),
		cmocka_unit_test(the_rate_is_proportional_to_the_clips_of_a_step),
		cmocka_unit_test(warm_up_ends_in_the_rate_of_the_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
