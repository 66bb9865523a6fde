/*
 * bench/made.h - a job that never ran: the step on any number of ranks, in exact nanoseconds.
 *
 * Each phase takes the time of the plan plus a delay that the caller chooses per rank, iteration and phase.
 * Broadcasts wait for rank 0 (or for everybody), all-reduces for the last rank, and all ranks leave an all-reduce together.
 * Events go to a sink as the recorder would write them; stamps are shifted by the clock of the rank.
 *
 * With a device the same job is only launched by the training thread (lane 0), and runs on lanes 1 to 3 (comm, gpu, copy) as soon as
 * it can.  The host goes on when the device has the loss, so it loads the next batch while backward runs; what the device
 * did in an iteration is said one iteration later.
 *
 * `bench` times the analysis with it, and tests know the truth of it.
 */
#ifndef SFSCALE_BENCH_MADE_H
#define SFSCALE_BENCH_MADE_H

#include "bench/base/span.h"

#include <stdbool.h>
#include <stddef.h>

enum {
	MADE_BUCKETS_MAX = 16,
	MADE_LAUNCH = SPAN_COUNT,	/* a phase to be delayed, with a device: the launch of forward */
};

struct made {
	int ranks, epochs, iterations, buckets;
	int64_t load, first_load, copy, bcast, fwd, bwd, wire, opt, loss_wire, log, boundary;	/* ns; bwd, wire: of a bucket */
	bool device;
	int64_t launch;		/* ns, with a device: of each launch, and of unpacking the input there */
	bool no_overlap;	/* buckets travel while draining */
	bool bcast_holds;	/* a broadcast keeps all ranks until the last one came, not only those without data */
	int64_t (*delay)(const void *context, int rank, int iteration, enum span_id);	/* NULL: none */
	int64_t (*shift)(const void *context, int rank);	/* NULL: one clock */
	void (*sink)(void *context, int rank, const struct event *);
	void *context;
};

void made_run(const struct made *);

/* The job as a run folder, as `run` would leave it: ranks lie on nodes in blocks, `nodes` divides them.  Where the plan shifts
 * clocks, every record has sync points that say by how much.  The plan's sink is not used; `events` receives how many
 * there are. */
int made_folder_write(const char *dir, const struct made *, int nodes, size_t *events);

#endif
