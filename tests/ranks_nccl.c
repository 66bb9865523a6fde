/*
 * tests/ranks_nccl.c - run under mpirun by test_nccl: comm/nccl over an emulated device and whatever libnccl it is given.
 *
 *   ranks_nccl LIBRARY TIMEOUT_S DEVICES [one-gpu | SIGNAL RANK STEP]
 *
 * With RANKS_BF16 in the environment gradients travel in bf16.
 *
 * Gradients in device memory are averaged over the ranks by a lane; a last step's broadcast makes rank 0's everybody's.  With
 * SIGNAL that rank sends it to itself in front of the step.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "comm/lane.h"
#include "tests/emulated/emulated.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const struct comm_backend sfscale_comm_nccl;

enum { TENSORS = 5, STEPS = 3 };

static struct {
	int signal;
	size_t rank, step;
} doomed;

static cudaEvent_t filled;	/* the gradients are there */

static float value(size_t rank, uint32_t step, size_t i)
{
	return (float)((rank + 1) * (i % 1000 + 1)) / (float)(step + 1);
}

static double worst_error(struct comm *c, const float *grads, size_t values, uint32_t step)
{
	double worst = 0;

	for (size_t i = 0; i < values; i++) {
		double mean = 0;

		for (size_t r = 0; r < c->world; r++)
			mean += (double)value(r, step, i) / (double)c->world;
		worst = fmax(worst, fabs((double)grads[i] - mean) / mean);
	}
	return worst;
}

static int run_step(struct comm *c, struct comm_lane *lane, const struct bucket_plan *p, float *grads, size_t values, uint32_t step)
{
	int rc;

	if (doomed.signal && doomed.rank == c->rank && doomed.step == step)
		kill(getpid(), doomed.signal);
	for (size_t i = 0; i < values; i++)
		grads[i] = value(c->rank, step, i);
	rc = cudaEventRecord(filled, NULL) ? FAILED : OK;
	for (size_t b = 0; b < p->bucket_count && !rc; b++)
		rc = comm_lane_start(lane, b, step, filled);
	/* The lane must be idle before anybody leaves: both wait, and know of the failure as well. */
	rc = comm_lane_drain(lane);
	if (!rc)
		rc = comm_lane_settle(lane);
	/* Two roundings to 8 bits for each rank, its share's and the sum's. */
	if (!rc && !(worst_error(c, grads, values, step) < (getenv("RANKS_BF16") ? (double)c->world / 256 : 1e-6)))
		rc = err(FAILED, "step %u: off by %g", step, worst_error(c, grads, values, step));
	return rc;
}

static int run_steps(struct comm *c, bool overlap)
{
	struct bucket_tensor tensors[TENSORS];
	struct bucket_plan plan;
	struct comm_lane *lane;
	size_t values = 0;
	float *grads;
	int rc;

	for (size_t t = 0; t < TENSORS; t++) {
		tensors[t] = (struct bucket_tensor){ .count = 3000 + 977 * t, .ready = TENSORS - 1 - t };
		values += tensors[t].count;
	}
	rc = bucket_plan_init(&plan, tensors, TENSORS, BUCKET_REBUILT, 4000, 40000);
	if (rc || cudaMalloc((void **)&grads, values * sizeof(*grads)))
		return rc ? rc : NO_MEMORY;
	rc = c->backend->enlist_device(c, grads, values * sizeof(*grads));
	if (!rc)
		rc = comm_lane_open(&lane, c, &plan, grads, true, overlap, NULL);
	for (uint32_t step = 0; step < STEPS && !rc; step++)
		rc = run_step(c, lane, &plan, grads, values, step);
	if (!rc)
		comm_lane_close(lane);
	for (size_t i = 0; i < values; i++)
		grads[i] = (float)c->rank;
	if (!rc)
		rc = c->backend->bcast_device(c, grads, values * sizeof(*grads), c->world - 1);
	for (bool done = false; !rc && !done;)
		rc = c->backend->poll_device(c, &done);
	for (size_t i = 0; i < values && !rc; i++)
		if (grads[i] != (float)(c->world - 1))
			rc = err(FAILED, "the broadcast from the last rank did not arrive at %zu", i);
	c->backend->delist_device(c, grads);
	cudaFree(grads);
	bucket_plan_release(&plan);
	return rc;
}

/* The recipe was in the environment before the library could read it. */
static int check_environment(const struct comm *c, bool one_gpu)
{
	char node[32];

	snprintf(node, sizeof(node), "sfscale-%zu", c->rank);
	if (strcmp(getenv("NCCL_RUNTIME_CONNECT"), "0") || !getenv("NCCL_HOSTID") == one_gpu ||
	    (one_gpu && (strcmp(getenv("NCCL_HOSTID"), node) || strcmp(getenv("NCCL_NET"), "Socket"))))
		return err(FAILED, "the environment is not as NCCL should find it");
	return OK;
}

int main(int argc, char **argv)
{
	const bool one_gpu = argc == 5;
	struct comm_config config = { .library = argv[1], .timeout_s = argc > 2 ? atof(argv[2]) : 0, .one_device = one_gpu,
					  .bf16 = getenv("RANKS_BF16") != NULL };
	char text[512];
	struct comm *c;
	float one = 1;
	int rc;

	if (argc < 4)
		return 1;
	clock_init();
	emulated_devices(atoi(argv[3]));
	if (argc == 7) {
		doomed.signal = atoi(argv[4]);
		doomed.rank = (size_t)atoi(argv[5]);
		doomed.step = (size_t)atoi(argv[6]);
	}
	if (cudaEventCreateWithFlags(&filled, cudaEventDisableTiming))
		return 1;
	rc = sfscale_comm_nccl.open(&c, &config);
	if (rc)
		return rc_exit(rc);
	rc = check_environment(c, one_gpu);
	if (!rc && c->rank == 0 && !c->backend->version(text, sizeof(text)))
		printf("%s %s\n", c->backend->name, text);
	for (int overlap = 0; overlap < 2 && !rc; overlap++)
		rc = run_steps(c, overlap);
	/* Host memory goes over MPI as ever. */
	if (!rc)
		rc = c->backend->sum(c, &one, 1);
	if (!rc && one != (float)c->world)
		rc = err(FAILED, "MPI's sum is %g", (double)one);
	if (rc)
		c->backend->abort(c, rc_exit(rc));
	c->backend->close(c);
	return rc_exit(rc);
}
