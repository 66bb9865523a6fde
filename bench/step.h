/*
 * bench/step.h - the training step as a table, and its runner.
 *
 * A step is data: one row per phase, in the order of execution.  The runner executes the
 * rows; names and classes of what it records are those of the rows' spans (bench/base/span.h),
 * and the report breaks time down by the same classes.
 *
 * The training thread is never between two spans: each row begins at the moment at which
 * the one before it ends, from the first SPAN_EPOCH_BEGIN to SPAN_RUN_END.
 *
 * An iteration may have several batches: of the ranks that a process stands for, or those that make a
 * larger one.  Then the rows of a rank's own work run once for each of them, and the rows that
 * all ranks do together run once, in the first pass or in the last.
 */
#ifndef SFSCALE_BENCH_STEP_H
#define SFSCALE_BENCH_STEP_H

#include "bench/base/span.h"
#include "bench/checkpoint.h"
#include "comm/clock.h"
#include "comm/lane.h"
#include "kernels/kernels.h"
#include "kernels/schedule.h"
#include "loader/loader.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct injections;
struct validation;

/* What an epoch came to; the same on all ranks, but for the checksum. */
struct epoch_result {
	double loss;		/* mean over iterations and ranks */
	double lr;		/* of its last iteration */
	uint64_t skipped;	/* clips of this rank that were replaced */
	uint64_t checksum;	/* of the order of this process's samples */
	bool validated;
	double map;		/* frame-mAP behind it; NaN: no ground truth */
};

enum { STEP_TURNS_MAX = 3 };

/* What an iteration works with. */
struct step_turn {
	struct kernels *kernels;
	uint64_t passes;	/* over the rows: batches of the loader */
};

/* How the training thread was fed, in ticks, from the stamps of its spans; said while it runs.  Names as in the report's table
 * "epochs". */
struct step_fed {
	struct clock_tie tie;		/* from the start of the run: what a tick is */
	uint64_t begin, boundary, first_batch, stall;	/* of this epoch; begin: a stamp, 0 until its boundary is entered */
	uint64_t line_stall;		/* since the last line */
};

/* Everything that the rows work on.  The caller opens the parts (all borrowed) and sets the plan;
 * the runner keeps the rest. */
struct step {
	/* parts */
	struct loader *loader;
	struct step_turn turns[STEP_TURNS_MAX];	/* iterations of an epoch take them in turn */
	size_t turn_count;
	struct comm *comm;
	struct comm_lane *comm_lane;
	struct comm_clock *clock;
	const struct bucket_plan *buckets;
	struct recorder *recorder;
	struct lane *lane;		/* of the training thread */
	struct kernel_lanes lanes;	/* of the device; none where there is none */
	/* plan */
	const struct schedule *schedule;
	uint64_t clips;			/* of one iteration, over all ranks: what the schedule scales by */
	struct sgd sgd;			/* .lr is set from the schedule in every iteration */
	uint64_t bn_broadcasts;		/* in each iteration: 1 as DDP's broadcast_buffers, or 0: ranks keep their own */
	uint64_t first_epoch;		/* 0, or where a run goes on from a checkpoint */
	uint64_t epochs, iterations;	/* epochs from 0 on; iterations per epoch */
	/* Optional: called in the boundary in front of an epoch; may change the parts, but for comm, buckets and recorder,
	 * and the iterations per epoch. */
	int (*change)(void *context, uint64_t epoch);
	void *context;
	struct injections *injections;	/* delays put in on purpose; may be empty */
	struct validation *validation;	/* NULL: none */
	uint64_t validation_period;	/* epochs between two of them; the last epoch has one in any case */
	struct checkpoint_plan checkpoints;
	uint64_t log_period;		/* a line on stdout every so many iterations, from rank 0; 0: never */
	/* state */
	struct clip_batch batch;
	uint64_t epoch, iteration;	/* iteration within the epoch */
	struct kernels *kernels;	/* of this turn: they hold the state */
	uint64_t part, passes;		/* of the iteration: which pass, from 0, of how many */
	uint64_t bucket;		/* of the row that runs per bucket, in the order of reduction */
	uint64_t once, bucket_count;	/* how often rows run */
	uint64_t input_bytes, bn_bytes, loss_bytes;
	float loss;			/* of this iteration: sum over the parts so far; after LOSS_ALLREDUCE the mean */
	double loss_sum;		/* over the epoch so far */
	struct step_fed fed;
	struct epoch_result *results;	/* `epochs` of them, owned by the caller */
	uint64_t epochs_done;		/* including those before first_epoch, which have no results */
};

enum step_pass { PASS_EACH, PASS_FIRST, PASS_LAST };

struct step_row {
	enum span_id span;
	int (*run)(struct step *);
	size_t arg;		/* offset of the uint64_t in struct step that the span carries */
	enum step_pass pass;	/* in which passes over the rows it runs */
	size_t times;		/* offset of the uint64_t in struct step that says how often, in a row */
	const char *meaning;
};
extern const struct step_row step_rows[];
extern const size_t step_row_count;

/* Rank 0's weights, batch-norm state and, in a run that goes on, momentum become everybody's.  FAILED when the ranks lay their
 * tensors out differently, so that flat buffers cannot be exchanged. */
int step_share_state(struct step *);

/* Compares the clocks of the nodes and writes the answer into the record.  step_run() does so at the
 * beginning of every epoch but the first, when all ranks have just left a collective; the caller
 * does at the start and at the end, outside the account. */
int step_sync_clocks(struct step *);

/* The state moves to these kernels, which the step goes on with. */
int step_take_kernels(struct step *, struct kernels *);

/* All epochs.  FAILED (said) when the loss is no number, or whatever a row failed with. */
int step_run(struct step *);

#endif
