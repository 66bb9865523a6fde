/*
 * tests/test_comm.c - buckets by DDP's rules; collectives over real ranks.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "comm/bucket.h"
#include "comm/comm.h"

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
		cmocka_unit_test(gradients_over_ranks_equal_one_rank_with_the_whole_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
