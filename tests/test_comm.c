/*
 * tests/test_comm.c - buckets by DDP's rules; collectives over real ranks.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "comm/bucket.h"
#include "comm/comm.h"
#include "comm/lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>

static void a_bucket_closes_when_its_size_reaches_the_limit(void **state)
{
	/* Floats 100 200 300 400 in registration order, backward goes the other way. */
	static const struct bucket_tensor tensors[] = { { 100, 3 }, { 200, 2 }, { 300, 1 }, { 400, 0 } };
	struct bucket_plan p;

	(void)state;
	assert_int_equal(bucket_plan_init(&p, tensors, 4, BUCKET_STATIC, 400, 2000), OK);
	assert_int_equal(p.bucket_count, 3);	/* walk: [100] [200 300] [400]; reduced backwards */
	assert_int_equal(p.buckets[0].count, 400);
	assert_int_equal(p.buckets[0].ready, 0);
	assert_int_equal(p.buckets[1].count, 500);
	assert_int_equal(p.buckets[1].ready, 2);
	assert_int_equal(p.buckets[2].count, 100);
	assert_int_equal(p.grad_offset[3], 0);
	assert_int_equal(p.grad_offset[1], 400);
	assert_int_equal(p.grad_offset[0], 900);
	bucket_plan_release(&p);

	assert_int_equal(bucket_plan_init(&p, tensors, 4, BUCKET_REBUILT, 400, 2000), OK);
	assert_int_equal(p.bucket_count, 3);	/* walk: [400] [300 200] [100] */
	assert_int_equal(p.buckets[1].count, 500);
	assert_int_equal(p.buckets[1].tensors, 2);
	assert_int_equal(p.grad_offset[2], 400);
	assert_int_equal(p.grad_offset[1], 700);
	bucket_plan_release(&p);

	assert_int_equal(bucket_plan_init(&p, tensors, 4, BUCKET_SIZE, 1, 1 << 20), OK);
	assert_int_equal(p.bucket_count, 1);
	assert_int_equal(p.buckets[0].count, 1000);
	bucket_plan_release(&p);
}

static size_t sums_asked;

static int sum_that_fails(struct comm *c, float *data, size_t count)
{
	(void)c, (void)data, (void)count;
	sums_asked++;
	return err(RANK_FAILED, "the network is gone");
}

static void after_a_failed_reduction_none_follows(void **state)
{
	static const struct bucket_tensor tensors[] = { { 100, 3 }, { 200, 2 }, { 300, 1 }, { 400, 0 } };
	static const struct comm_backend backend = { .name = "failing", .sum = sum_that_fails };
	struct comm comm = { .backend = &backend, .world = 2 };
	static float grads[1000];

	(void)state;
	for (int overlap = 0; overlap < 2; overlap++) {
		struct bucket_plan p;
		struct comm_lane *lane;

		sums_asked = 0;
		assert_int_equal(bucket_plan_init(&p, tensors, 4, BUCKET_SIZE, 1, 1), OK);
		assert_int_equal(comm_lane_open(&lane, &comm, &p, grads, false, overlap, NULL), OK);
		/* A start may know of the failure already. */
		for (size_t b = 0; b < p.bucket_count; b++)
			assert_true(comm_lane_start(lane, b, 0, NULL) == OK || overlap);
		assert_int_equal(comm_lane_drain(lane), RANK_FAILED);
		comm_lane_close(lane);
		assert_int_equal(sums_asked, 1);
		bucket_plan_release(&p);
	}
}

static void gradients_over_ranks_equal_one_rank_with_the_whole_batch(void **state)
{
	const char *build = getenv("SFSCALE_BUILD");
	char command[PATH_BYTES];

	(void)state;
	for (int ranks = 1; ranks <= 4; ranks++) {
		/* Open MPI leaks at its end. */
		assert_int_equal(path_make(command, "ASAN_OPTIONS=detect_leaks=0 timeout -k 5 100 mpirun "
					   "--oversubscribe --bind-to none -n %d %s/tests/ranks_comm", ranks,
					   build ? build : "build"), OK);
		assert_int_equal(system(command), 0);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bucket_closes_when_its_size_reaches_the_limit),
		cmocka_unit_test(after_a_failed_reduction_none_follows),
		cmocka_unit_test(gradients_over_ranks_equal_one_rank_with_the_whole_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
