/*
 * tests/test_cuda_timeline.c - spans that a device stamps, on the host's clock: over the emulated device (tests/emulated/), whose
 * clock is not the host's and goes faster, and over a real one (make gpu-check).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#ifdef HAVE_CUDA

#include "bench/base/clock.h"
#include "bench/base/span.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/timeline.h"
#include "tests/emulated/emulated.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Absent where these tests run over the real libraries, on a GPU. */
#pragma weak emulated_lazy

enum { SPANS = 16, EVENTS = 64, VALUES = 1 << 18 };

/* A timeline, a stream with something to do, and a lane. */
struct job {
	struct cuda_timeline *timeline;
	cudaStream_t stream;
	void *values;
	struct event ring[EVENTS];
	struct lane lane;
	double ns_per_tick;
};

static void job_make(struct job *j)
{
	struct clock_tie from, to;

	memset(j, 0, sizeof(*j));
	j->lane = (struct lane){ .ring = j->ring, .mask = EVENTS - 1, .id = 2, .iter = 7 };
	clock_init();
	from = clock_tie_take();
	assert_int_equal(cudaStreamCreateWithFlags(&j->stream, cudaStreamNonBlocking), cudaSuccess);
	assert_int_equal(cudaMalloc(&j->values, VALUES * sizeof(float)), cudaSuccess);
	assert_int_equal(cuda_timeline_open(&j->timeline, SPANS), OK);
	clock_sleep_ns(20000000);
	to = clock_tie_take();
	j->ns_per_tick = (double)(to.ns - from.ns) / (double)(to.ticks - from.ticks);
}

static void job_release(struct job *j)
{
	assert_int_equal(cudaStreamSynchronize(j->stream), cudaSuccess);
	cuda_timeline_close(j->timeline);
	assert_int_equal(cudaFree(j->values), cudaSuccess);
	assert_int_equal(cudaStreamDestroy(j->stream), cudaSuccess);
}

static void work(struct job *j, int times)
{
	for (int i = 0; i < times; i++)
		assert_int_equal(cuda_noise(j->values, VALUES, CUDA_F32, j->stream), OK);
}

static void span(struct job *j, enum span_id id, int times)
{
	assert_int_equal(cuda_timeline_begin(j->timeline, &j->lane, id, (uint64_t)times, j->stream), OK);
	work(j, times);
	assert_int_equal(cuda_timeline_end(j->timeline, j->stream), OK);
}

/* What the two clocks may be apart; and what they drift while no better tie is found, for 2 s at most here. */
static double apart_ticks(const struct job *j)
{
	return (cuda_timeline_bound_ns() + 1e-4 * 2e9) / j->ns_per_tick;
}

static void spans_lie_on_the_hosts_clock_between_their_launch_and_their_end(void **state)
{
	struct job j;

	(void)state;
	job_make(&j);
	for (int i = 0; i < 20; i++) {
		const uint64_t before = clock_ticks();
		uint64_t after;
		const struct event *e = &j.ring[i];

		span(&j, SPAN_FWD, 1 + i % 3);
		assert_int_equal(cudaStreamSynchronize(j.stream), cudaSuccess);
		after = clock_ticks();
		assert_int_equal(cuda_timeline_collect(j.timeline), OK);
		assert_int_equal(j.lane.head, i + 1);
		assert_true((double)e->t0 > (double)before - apart_ticks(&j));
		assert_true((double)e->t1 < (double)after + apart_ticks(&j));
		assert_true(e->t0 < e->t1);
		assert_int_equal(e->iter, 7);
		assert_int_equal(e->lane, 2);
		assert_int_equal(e->arg, 1 + i % 3);
		assert_int_equal(e->cls, CLS_COMPUTE_FWD);
		assert_true(!i || j.ring[i - 1].t1 <= e->t0);
	}
	job_release(&j);
}

/* The device's own clock, and the one that its events go by: the best of several tries, for a stream may be interrupted between
 * a stamp and an event. */
static void a_span_is_as_long_as_its_work(void **state)
{
	struct cuda_stopwatch watch;
	struct job j;
	double least_ms = INFINITY;

	(void)state;
	job_make(&j);
	assert_int_equal(cuda_stopwatch_open(&watch), OK);
	for (int i = 0; i < 10; i++) {
		double span_ms;
		float ms;

		assert_int_equal(cuda_timeline_begin(j.timeline, &j.lane, SPAN_FWD, 0, j.stream), OK);
		assert_int_equal(cuda_stopwatch_start(&watch, j.stream), OK);
		work(&j, 3);
		assert_int_equal(cuda_stopwatch_stop(&watch, j.stream, &ms), OK);
		assert_int_equal(cuda_timeline_end(j.timeline, j.stream), OK);
		assert_int_equal(cudaStreamSynchronize(j.stream), cudaSuccess);
		assert_int_equal(cuda_timeline_collect(j.timeline), OK);
		span_ms = 1e-6 * j.ns_per_tick * (double)(j.ring[i].t1 - j.ring[i].t0);
		assert_true(span_ms > 0.99 * (double)ms - 0.002);
		least_ms = fmin(least_ms, span_ms - (double)ms);
	}
	print_message("a span is %.1f us longer than events say; a tie is wrong by %.1f us at most\n", 1e3 * least_ms,
		      1e-3 * cuda_timeline_bound_ns());
	assert_true(least_ms < 0.1);
	cuda_stopwatch_close(&watch);
	job_release(&j);
}

static void a_span_that_is_not_over_is_collected_later_and_those_behind_it_too(void **state)
{
	struct job j;

	(void)state;
	if (!emulated_lazy) {
		print_message("SKIP: a device does not wait until it is asked\n");
		skip();
	}
	job_make(&j);
	emulated_lazy(UINT64_MAX);
	span(&j, SPAN_FWD, 1);
	span(&j, SPAN_BWD, 1);
	assert_int_equal(cuda_timeline_collect(j.timeline), OK);
	assert_int_equal(j.lane.head, 0);
	assert_int_equal(cudaStreamSynchronize(j.stream), cudaSuccess);
	assert_int_equal(cuda_timeline_collect(j.timeline), OK);
	assert_int_equal(j.lane.head, 2);
	assert_int_equal(j.ring[0].name, SPAN_FWD);
	assert_int_equal(j.ring[1].name, SPAN_BWD);
	emulated_lazy(0);
	job_release(&j);
}

/* Collectives have numbers, also those that were dropped: they are the same on all ranks. */
static void what_finds_no_room_is_dropped_and_counted(void **state)
{
	struct job j;

	(void)state;
	job_make(&j);
	for (int i = 0; i < SPANS + 3; i++)
		span(&j, SPAN_ALLREDUCE, 0);
	assert_int_equal(cudaStreamSynchronize(j.stream), cudaSuccess);
	assert_int_equal(cuda_timeline_collect(j.timeline), OK);
	assert_int_equal(j.lane.head, SPANS);
	assert_int_equal(j.lane.dropped, 3);
	span(&j, SPAN_ALLREDUCE, 0);
	assert_int_equal(cudaStreamSynchronize(j.stream), cudaSuccess);
	assert_int_equal(cuda_timeline_collect(j.timeline), OK);
	assert_int_equal(j.ring[SPANS].seq, SPANS + 3);
	assert_int_equal(cuda_timeline_begin(j.timeline, NULL, SPAN_FWD, 0, j.stream), OK);	/* nobody wants it */
	assert_int_equal(cuda_timeline_end(j.timeline, j.stream), OK);
	assert_int_equal(cuda_timeline_collect(j.timeline), OK);
	assert_int_equal(j.lane.head, SPANS + 1);
	job_release(&j);
}

static void what_a_stamp_takes_is_measured(void **state)
{
	struct job j;
	double ns = -1;

	(void)state;
	job_make(&j);
	assert_int_equal(cuda_timeline_stamp_ns(j.timeline, j.stream, &ns), OK);
	print_message("a stamp takes %.0f ns\n", ns);
	assert_true(ns > 0);
	job_release(&j);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(spans_lie_on_the_hosts_clock_between_their_launch_and_their_end),
		cmocka_unit_test(a_span_is_as_long_as_its_work),
		cmocka_unit_test(a_span_that_is_not_over_is_collected_later_and_those_behind_it_too),
		cmocka_unit_test(what_finds_no_room_is_dropped_and_counted),
		cmocka_unit_test(what_a_stamp_takes_is_measured),
	};

	omp_set_num_threads(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void the_timeline_of_a_device_is_the_hosts(void **state)
{
	(void)state;
	print_message("SKIP: built without CUDA's headers\n");
	skip();
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(the_timeline_of_a_device_is_the_hosts) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
