/*
 * report/feed.h - how the training threads of one run were fed.
 *
 * In: the records' batch requests, the batches that makers made and by which stages, queue depths, and
 * what workers said of themselves.  Head-of-line waiting is computed here: a later batch was ready at a
 * moment at which the training thread waited for the one that was due.
 *
 * Whether makers were busy is asked of steady time alone (no boundary, no first iteration of an epoch): a pipeline
 * that fills has other reasons to be empty.
 */
#ifndef SFSCALE_REPORT_FEED_H
#define SFSCALE_REPORT_FEED_H

#include "bench/base/record.h"
#include "loader/stage.h"
#include "report/decompose.h"

#include <stdbool.h>

struct marks;

/* One iteration, over the ranks that were read. */
struct feed_iteration {
	int64_t stall_ns, head_ns, hand_ns;	/* sums; of the stall: head of line, and while the batch that was due was there */
	uint64_t depth;			/* sum; batches that were ready when asked for one */
	uint32_t depth_least, asked;	/* asked: ranks that have a queue */
};

struct feed_epoch {
	size_t iterations;
	int64_t wall_ns, boundary_ns, first_ns;	/* slowest rank: whole, until the first request, until the first batch */
	int64_t stall_ns;		/* sum over ranks: waiting for batches */
	/* Workers of all ranks. */
	size_t workers, weighed, grown;	/* that made a batch, that said their memory, of which growth is known */
	uint64_t cpu_ns, cpu_most_ns;
	uint64_t uss_bytes, uss_most_bytes, pss_bytes;	/* with their last batch; sums, and the greatest */
	double growth_bytes;		/* USS per batch; sum */
};

struct feed {
	size_t ranks;
	struct feed_iteration *iterations;	/* owned */
	struct feed_epoch *epochs;		/* owned */
	size_t iteration_count, epoch_count;
	/* In steady time, over all ranks. */
	int64_t steady_ns;
	double stages_ns[STAGE_COUNT], cpu_ns;	/* of batches in the making */
	/* Of whole batches. */
	size_t batches;
	double batch_ns[STAGE_COUNT];
};

struct rank_windows;

/* What must be known of a loader. */
struct feed_plan {
	bool kept;		/* its workers live over epochs */
	size_t in_flight;	/* batches at most */
};

/* One rank. */
int feed_make(struct feed *, const struct record *, const struct rank_windows *, struct feed_plan);
/* Takes another rank in; what one has and the other has not stays as it is. */
int feed_add(struct feed *, const struct feed *rank);
/* The same for one epoch. */
void feed_epoch_add(struct feed_epoch *, const struct feed_epoch *);
void feed_release(struct feed *);

#endif
