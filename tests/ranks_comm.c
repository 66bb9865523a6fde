/*
 * tests/ranks_comm.c - run under mpirun by test_comm: what the ranks of a job compute together
 * equals what one rank computes from the whole batch.
 *
 * Gradients are made per clip from the clip's number alone.  Each rank averages its own
 * clips; the lane averages over ranks, in every layout, with and without overlap.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/rng.h"
#include "comm/lane.h"

#include <math.h>
#include <stdlib.h>

enum { TENSORS = 37, CLIPS_PER_RANK = 3, STEPS = 5 };

static void add_clip(float *grads, const struct bucket_plan *p, const struct bucket_tensor *tensors, size_t clip,
		     float share)
{
	struct rng r;

	rng_init(&r, 5, clip);
	for (size_t t = 0; t < TENSORS; t++)
		for (size_t i = 0; i < tensors[t].count; i++)
			grads[p->grad_offset[t] + i] += share * (float)rng_normal(&r);
}

static double worst_error(struct comm *c, enum bucket_layout layout, bool overlap)
{
	struct bucket_tensor tensors[TENSORS];
	struct bucket_plan plan;
	struct comm_lane *lane;
	size_t values = 0, whole = c->world * CLIPS_PER_RANK;
	float *grads, *expected;
	double worst = 0;

	for (size_t t = 0; t < TENSORS; t++) {
		tensors[t] = (struct bucket_tensor){ .count = 1 + 131 * t % 977, .ready = TENSORS - 1 - t };
		values += tensors[t].count;
	}
	if (bucket_plan_init(&plan, tensors, TENSORS, layout, 4000, 9000))
		return INFINITY;
	grads = calloc(values, sizeof(*grads));
	expected = calloc(values, sizeof(*expected));
	if (!grads || !expected || comm_lane_open(&lane, c, &plan, grads, false, overlap, NULL))
		return INFINITY;
	for (size_t clip = 0; clip < whole; clip++)
		add_clip(expected, &plan, tensors, clip, 1.0f / (float)whole);
	for (uint32_t step = 0; step < STEPS; step++) {
		for (size_t i = 0; i < values; i++)
			grads[i] = 0;
		for (size_t k = 0; k < CLIPS_PER_RANK; k++)
			add_clip(grads, &plan, tensors, k * c->world + c->rank, 1.0f / CLIPS_PER_RANK);
		for (size_t b = 0; b < plan.bucket_count; b++)
			if (comm_lane_start(lane, b, step, NULL))
				return INFINITY;
		if (comm_lane_drain(lane))
			return INFINITY;
		for (size_t i = 0; i < values; i++)
			worst = fmax(worst, fabs((double)grads[i] - (double)expected[i]));
	}
	comm_lane_close(lane);
	bucket_plan_release(&plan);
	free(grads);
	free(expected);
	return worst;
}

int main(void)
{
	struct comm *c;
	int rc = OK;
	char word[8] = "no";

	clock_init();
	if (comm_backend_find("mpi")->open(&c, NULL))
		return 2;
	if (c->rank == c->world - 1)
		word[0] = 'y';
	if (c->backend->bcast(c, word, sizeof(word), c->world - 1) || word[0] != 'y')
		rc = err(FAILED, "the broadcast from the last rank did not arrive");
	for (int layout = BUCKET_STATIC; layout <= BUCKET_SIZE; layout++) {
		for (int overlap = 0; overlap < 2; overlap++) {
			double worst = worst_error(c, (enum bucket_layout)layout, overlap);

			if (!(worst < 1e-6))
				rc = err(FAILED, "layout %d, overlap %d: off by %g", layout, overlap, worst);
		}
	}
	if (c->backend->barrier(c))
		rc = FAILED;
	c->backend->close(c);
	return rc_exit(rc);
}
