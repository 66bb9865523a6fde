/*
 * tests/test_skew.c - what collectives say about clocks: always the truth, and a proof where they lie.
 */
#include "bench/base/err.h"
#include "bench/base/rng.h"
#include "report/skew.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { NODES_MAX = 9, RANKS_MAX = 3 * NODES_MAX, COLLECTIVES_MAX = 900 };
#define RATE_MAX 1.01e-4	/* two clocks of +-50 ppm */

/* A job whose truth is known: what each node's clock shows, and what its ranks stamped. */
struct job {
	struct skew_stamps stamps;
	size_t node[RANKS_MAX];
	int64_t enter_ns[COLLECTIVES_MAX * RANKS_MAX], leave_ns[COLLECTIVES_MAX * RANKS_MAX];
	double offset_ns[NODES_MAX], rate[NODES_MAX];
};

static int64_t shows(const struct job *j, size_t node, double truth_ns)
{
	return llrint(truth_ns + j->offset_ns[node] + j->rate[node] * truth_ns);
}

/* The offset of node 0's clock against a node's, when the latter shows this. */
static double true_offset_ns(const struct job *j, size_t node, int64_t local_ns)
{
	double truth_ns = ((double)local_ns - j->offset_ns[node]) / (1 + j->rate[node]);

	return truth_ns + j->offset_ns[0] + j->rate[0] * truth_ns - (double)local_ns;
}

static void make_job(struct job *j, struct rng *r, size_t collectives, double apart_ns, double absent)
{
	size_t nodes = 2 + rng_below(r, NODES_MAX - 1), ranks = nodes * (1 + rng_below(r, 3));
	double now_ns = 0;

	j->stamps = (struct skew_stamps){ collectives, ranks, nodes, j->node, j->enter_ns, j->leave_ns, RATE_MAX };
	for (size_t n = 0; n < nodes; n++) {
		j->offset_ns[n] = 20e9 * (rng_uniform(r) - 0.5);
		j->rate[n] = 1e-4 * (rng_uniform(r) - 0.5);
	}
	for (size_t i = 0; i < ranks; i++)
		j->node[i] = i % nodes;
	for (size_t k = 0; k < collectives; k++) {
		int64_t *enter_ns = j->enter_ns + k * ranks, *leave_ns = j->leave_ns + k * ranks;
		double arrive_ns[RANKS_MAX], last_ns = 0, wire_ns = 20e3 + 500e3 * rng_uniform(r);

		now_ns += apart_ns * (0.5 + rng_uniform(r));
		for (size_t i = 0; i < ranks; i++) {
			arrive_ns[i] = now_ns + 2e6 * rng_uniform(r);
			last_ns = fmax(last_ns, arrive_ns[i]);
		}
		for (size_t i = 0; i < ranks; i++) {
			bool here = rng_uniform(r) >= absent;

			enter_ns[i] = here ? shows(j, j->node[i], arrive_ns[i]) : SKEW_ABSENT;
			leave_ns[i] = here ? shows(j, j->node[i], last_ns + wire_ns + 30e3 * rng_uniform(r)) : SKEW_ABSENT;
		}
	}
}

/* Two nodes, offsets by hand: node 1 shows 1000 less than node 0. */
static void two_collectives_can_be_solved_by_hand(void **state)
{
	static const size_t node[] = { 0, 1 };
	/* 0 enters first and waits for 1: 1 enters before 0 leaves.  Then the other way around. */
	static const int64_t enter_ns[] = { 5000, 4300, 7200, 6050 }, leave_ns[] = { 5400, 4410, 7300, 6320 };
	struct skew_stamps s = { 2, 2, 2, node, enter_ns, leave_ns, 0 };
	struct skew_interval of[2];
	struct skew_proof proof;

	/* Collective 0: 5400 >= 4300 + x and 4410 + x >= 5000; collective 1: 7300 >= 6050 + x and
	 * 6320 + x >= 7200.  So x <= 1100, x <= 1250, x >= 590, x >= 880. */
	(void)state;
	assert_int_equal(skew_solve(&s, 0, of, &proof), OK);
	assert_null(proof.steps);
	assert_true(of[0].low_ns == 0 && of[0].high_ns == 0);
	assert_int_equal(of[1].at_ns, 4300);
	assert_int_equal(of[1].low_ns, 880);
	assert_int_equal(of[1].high_ns, 1100);
}

static void the_true_offsets_are_in_the_intervals(void **state)
{
	struct job *j = malloc(sizeof(*j));
	struct rng r;

	(void)state;
	assert_non_null(j);
	rng_init(&r, 21, 0);
	for (int trial = 0; trial < 200; trial++) {
		struct skew_interval of[NODES_MAX];
		struct skew_proof proof;

		make_job(j, &r, 5 + rng_below(&r, 60), 10e6, trial % 2 ? 0.3 : 0);
		assert_int_equal(skew_solve(&j->stamps, rng_below(&r, (uint32_t)j->stamps.collectives), of, &proof), OK);
		assert_null(proof.steps);
		for (size_t n = 0; n < j->stamps.nodes; n++) {
			double offset_ns = true_offset_ns(j, n, of[n].at_ns);

			assert_true((double)of[n].low_ns <= offset_ns + 2 && (double)of[n].high_ns >= offset_ns - 2);
			/* Arrivals are 2 ms apart and the collectives end within 0.55 ms of the last. */
			assert_true(trial % 2 || of[n].high_ns - of[n].low_ns <= 2 * 2550000);
		}
	}
	free(j);
}

static void more_collectives_never_widen_an_interval(void **state)
{
	struct job *j = malloc(sizeof(*j));
	struct skew_interval few[NODES_MAX], many[NODES_MAX];
	struct skew_proof proof;
	struct rng r;

	(void)state;
	assert_non_null(j);
	rng_init(&r, 22, 0);
	for (int trial = 0; trial < 50; trial++) {
		make_job(j, &r, 40, 10e6, 0);
		assert_int_equal(skew_solve(&j->stamps, 3, many, &proof), OK);
		j->stamps.collectives = 7;
		assert_int_equal(skew_solve(&j->stamps, 3, few, &proof), OK);
		for (size_t n = 0; n < j->stamps.nodes; n++)
			assert_true(many[n].low_ns >= few[n].low_ns && many[n].high_ns <= few[n].high_ns);
	}
	free(j);
}

static void a_node_without_common_collectives_is_not_bounded(void **state)
{
	static const size_t node[] = { 0, 1, 2, 3 };
	static const int64_t enter_ns[] = { 100, 100, SKEW_ABSENT, SKEW_ABSENT, SKEW_ABSENT, SKEW_ABSENT, 900, 910 };
	static const int64_t leave_ns[] = { 200, 200, SKEW_ABSENT, SKEW_ABSENT, SKEW_ABSENT, SKEW_ABSENT, 990, 980 };
	struct skew_stamps s = { 2, 4, 4, node, enter_ns, leave_ns, 0 };
	struct skew_interval of[4];
	struct skew_proof proof;
	struct sync map[4];

	(void)state;
	assert_int_equal(skew_solve(&s, 1, of, &proof), OK);
	assert_null(proof.steps);
	assert_true(skew_is_bounded(&of[1]));
	assert_true(of[1].low_ns == -100 && of[1].high_ns == 100);
	assert_true(of[2].low_ns == SKEW_NO_LOW && of[2].high_ns == SKEW_NO_HIGH);
	assert_false(skew_is_bounded(&of[3]));
	assert_int_equal(skew_maps(&s, 1, map, &proof), OK);
	assert_true(sync_bound_ns(&map[3], 900) == SYNC_UNKNOWN);
	assert_true(sync_bound_ns(&map[1], 100) <= 101);
	for (size_t n = 0; n < 4; n++)
		sync_release(&map[n]);
}

/* The proof is checked from the stamps alone, as a reader would. */
static void check_proof(const struct skew_stamps *s, const struct skew_interval *of, const struct skew_proof *proof)
{
	int64_t sum_ns = 0;

	assert_non_null(proof->steps);
	assert_true(proof->count >= 1 && proof->count <= s->nodes && proof->short_ns > 0);
	for (size_t i = 0; i < proof->count; i++) {
		const struct skew_step *p = &proof->steps[i], *next = &proof->steps[(i + 1) % proof->count];
		size_t a = s->node[p->left], b = s->node[p->entered];
		int64_t leave_ns = s->leave_ns[p->collective * s->ranks + p->left];
		int64_t enter_ns = s->enter_ns[p->collective * s->ranks + p->entered];

		assert_int_equal(b, s->node[next->left]);
		assert_true(leave_ns != SKEW_ABSENT && enter_ns != SKEW_ABSENT);
		sum_ns += leave_ns - enter_ns;
		sum_ns += a ? (int64_t)ceil(s->rate_max * fabs((double)(leave_ns - of[a].at_ns))) : 0;
		sum_ns += b ? (int64_t)ceil(s->rate_max * fabs((double)(enter_ns - of[b].at_ns))) : 0;
	}
	assert_true(sum_ns == -proof->short_ns);
}

static void a_clock_that_jumped_is_proven(void **state)
{
	struct job *j = malloc(sizeof(*j));
	struct rng r;

	(void)state;
	assert_non_null(j);
	rng_init(&r, 23, 0);
	for (int trial = 0; trial < 100; trial++) {
		size_t k, jumper, from = 10 + rng_below(&r, 10);
		struct skew_interval of[NODES_MAX];
		struct skew_proof proof;

		make_job(j, &r, 40, 10e6, 0);
		jumper = rng_below(&r, (uint32_t)j->stamps.nodes);
		for (k = from * j->stamps.ranks; k < 40 * j->stamps.ranks; k++) {
			if (j->node[k % j->stamps.ranks] != jumper)
				continue;
			j->enter_ns[k] += trial % 2 ? 50000000 : -50000000;
			j->leave_ns[k] += trial % 2 ? 50000000 : -50000000;
		}
		assert_int_equal(skew_solve(&j->stamps, 5, of, &proof), OK);
		check_proof(&j->stamps, of, &proof);
		skew_proof_release(&proof);
	}
	free(j);
}

static void a_rank_that_leaves_before_its_neighbour_enters_is_proof_enough(void **state)
{
	static const size_t node[] = { 0, 1, 1 };
	static const int64_t enter_ns[] = { 10, 500, 700 }, leave_ns[] = { 900, 650, 900 };
	struct skew_stamps s = { 1, 3, 2, node, enter_ns, leave_ns, 0 };
	struct skew_interval of[2];
	struct skew_proof proof;

	(void)state;
	assert_int_equal(skew_solve(&s, 0, of, &proof), OK);
	check_proof(&s, of, &proof);
	assert_int_equal(proof.count, 1);
	assert_int_equal(proof.steps[0].left, 1);
	assert_int_equal(proof.steps[0].entered, 2);
	assert_int_equal(proof.short_ns, 50);
	skew_proof_release(&proof);
}

static void maps_from_collectives_keep_their_bounds_over_a_minute(void **state)
{
	struct job *j = malloc(sizeof(*j));
	struct rng r;

	(void)state;
	assert_non_null(j);
	rng_init(&r, 24, 0);
	for (int trial = 0; trial < 5; trial++) {
		struct sync map[NODES_MAX];
		struct skew_proof proof;

		make_job(j, &r, 600, 100e6, 0.1);
		assert_int_equal(skew_maps(&j->stamps, 50, map, &proof), OK);
		assert_null(proof.steps);
		for (size_t i = 0; i < j->stamps.collectives * j->stamps.ranks; i++) {
			size_t n = j->node[i % j->stamps.ranks];
			int64_t ns = j->enter_ns[i];
			double error_ns;

			if (ns == SKEW_ABSENT)
				continue;
			error_ns = (double)(sync_ref_ns(&map[n], ns) - ns) - true_offset_ns(j, n, ns);
			assert_true(fabs(error_ns) <= (double)sync_bound_ns(&map[n], ns) + 2);
			assert_true(sync_bound_ns(&map[n], ns) < 5000000);
		}
		for (size_t n = 0; n < j->stamps.nodes; n++) {
			assert_int_equal(map[n].left_out + map[n].jumps, 0);
			sync_release(&map[n]);
		}
	}
	free(j);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_collectives_can_be_solved_by_hand),
		cmocka_unit_test(the_true_offsets_are_in_the_intervals),
		cmocka_unit_test(more_collectives_never_widen_an_interval),
		cmocka_unit_test(a_node_without_common_collectives_is_not_bounded),
		cmocka_unit_test(a_clock_that_jumped_is_proven),
		cmocka_unit_test(a_rank_that_leaves_before_its_neighbour_enters_is_proof_enough),
		cmocka_unit_test(maps_from_collectives_keep_their_bounds_over_a_minute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
