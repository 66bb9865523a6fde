/*
 * tests/test_decompose.c - the exact account against the same rule applied nanosecond by nanosecond.
 */
#include "bench/base/err.h"
#include "bench/base/rng.h"
#include "report/decompose.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static bool is_compute(int cls)
{
	return cls <= CLS_COMPUTE_OTHER;
}

static bool is_comm(int cls)
{
	return cls == CLS_COMM_WIRE || cls == CLS_COMM_WAIT || cls == CLS_COMM;
}

/* One nanosecond by looking at every event. */
static void reference_ns(const struct event *events, size_t n, int64_t at, struct account *out)
{
	int first = CLS_UNATTRIBUTED;
	bool compute = false, comm = false, loader = false;

	for (size_t i = 0; i < n; i++) {
		if (events[i].cls == CLS_ASIDE || at < events[i].t0 || at >= events[i].t1)
			continue;
		first = events[i].cls < first ? events[i].cls : first;
		compute |= is_compute(events[i].cls);
		comm |= is_comm(events[i].cls);
		loader |= events[i].cls == CLS_LOADER;
	}
	out->parts_ns[first]++;
	out->comm_ns += comm;
	out->comm_hidden_ns += comm && compute;
	out->loader_ns += loader;
}

static void an_account_equals_the_count_of_every_nanosecond(void **state)
{
	enum { EVENTS = 40, WINDOWS = 6, TRIALS = 400, SPAN = 300 };
	struct rng rng;

	(void)state;
	rng_init(&rng, 1, 1);
	for (int trial = 0; trial < TRIALS; trial++) {
		struct event events[EVENTS];
		struct account got[WINDOWS], want;
		int64_t cuts[WINDOWS + 1];
		size_t n = rng_below(&rng, EVENTS + 1);

		for (size_t i = 0; i < n; i++) {	/* some reach outside, some have no length */
			uint32_t cls = rng_below(&rng, CLS_UNATTRIBUTED + 1);
			int64_t t0 = rng_below(&rng, SPAN), length = rng_below(&rng, 60);

			events[i] = (struct event){ .t0 = t0, .t1 = t0 + length,
				.cls = cls == CLS_UNATTRIBUTED ? CLS_ASIDE : (uint8_t)cls };
		}
		cuts[0] = 20;
		for (int w = 1; w <= WINDOWS; w++)
			cuts[w] = cuts[w - 1] + rng_below(&rng, 50);
		assert_int_equal(decompose(events, n, cuts, WINDOWS, got), OK);
		for (int w = 0; w < WINDOWS; w++) {
			want = (struct account){ .begin_ns = cuts[w], .end_ns = cuts[w + 1] };
			for (int64_t at = cuts[w]; at < cuts[w + 1]; at++)
				reference_ns(events, n, at, &want);
			assert_memory_equal(&got[w], &want, sizeof(want));
			assert_true(parts_sum_ns(got[w].parts_ns) == account_ns(&got[w]));
		}
	}
}

static void exposed_communication_is_what_compute_does_not_cover(void **state)
{
	static const struct event events[] = {
		{ .t0 = 0, .t1 = 10, .cls = CLS_LOADER },
		{ .t0 = 10, .t1 = 50, .cls = CLS_COMPUTE_FWD },
		{ .t0 = 50, .t1 = 90, .cls = CLS_COMPUTE_BWD },
		{ .t0 = 70, .t1 = 120, .cls = CLS_COMM },	/* 20 under backward, 30 while draining */
		{ .t0 = 90, .t1 = 122, .cls = CLS_SYNC },
		{ .t0 = 0, .t1 = 200, .cls = CLS_ASIDE },
	};
	int64_t cuts[] = { 0, 130 };
	struct account a;

	(void)state;
	assert_int_equal(decompose(events, ARRAY_LEN(events), cuts, 1, &a), OK);
	assert_int_equal(a.parts_ns[CLS_LOADER], 10);
	assert_int_equal(a.parts_ns[CLS_COMPUTE_FWD], 40);
	assert_int_equal(a.parts_ns[CLS_COMPUTE_BWD], 40);
	assert_int_equal(a.parts_ns[CLS_COMM], 30);
	assert_int_equal(a.parts_ns[CLS_SYNC], 2);
	assert_int_equal(a.parts_ns[CLS_UNATTRIBUTED], 8);
	assert_int_equal(a.comm_ns, 50);
	assert_int_equal(a.comm_hidden_ns, 20);
}

static void an_open_event_lasts_to_the_last_cut_and_no_window_is_no_work(void **state)
{
	struct event open = { .t0 = 5, .t1 = INT64_MAX, .cls = CLS_COPY };
	int64_t cuts[] = { 0, 10, 30 };
	struct account a[2];

	(void)state;
	assert_int_equal(decompose(&open, 1, cuts, 2, a), OK);
	assert_int_equal(a[0].parts_ns[CLS_COPY], 5);
	assert_int_equal(a[1].parts_ns[CLS_COPY], 20);
	assert_int_equal(decompose(&open, 1, cuts, 0, a), OK);
	assert_int_equal(decompose(NULL, 0, cuts, 1, a), OK);
	assert_int_equal(a[0].parts_ns[CLS_UNATTRIBUTED], 10);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_account_equals_the_count_of_every_nanosecond),
		cmocka_unit_test(exposed_communication_is_what_compute_does_not_cover),
		cmocka_unit_test(an_open_event_lasts_to_the_last_cut_and_no_window_is_no_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
