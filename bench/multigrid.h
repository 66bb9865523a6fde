/*
 * bench/multigrid.h - multigrid training: small clips in large batches before those of full size.
 *
 * "A Multigrid Method for Efficiently Training Video Models" (Wu et al. 2020) as PySlowFast plans it.  The long
 * cycle: between two steps of the learning rate the shape grows from 1/4 of the frames and sqrt(1/2) of the side
 * to the full one, and the batch shrinks from 8 times to once: about the same work per iteration.  Behind the last
 * step all is full size, the first half of it at the rate before.  A schedule of 20 epochs becomes one of 30, which
 * cost less.  The short cycle: iterations take turns in crops of 1/2 and sqrt(1/2) of the side and that of the long
 * cycle, the batch larger in proportion; the learning rate follows the long cycle alone.
 *
 * PySlowFast has no such schedule for AVA; this is its rule, applied.
 *
 * The larger batch is run as that many batches, parts of one step: batch norm's statistics are those of the base
 * batch in every shape (PySlowFast: split batch norm), running ones those of the first part.
 */
#ifndef SFSCALE_BENCH_MULTIGRID_H
#define SFSCALE_BENCH_MULTIGRID_H

#include "kernels/schedule.h"

#include <stdbool.h>
#include <stddef.h>

enum { MULTIGRID_SHAPES = 4, MULTIGRID_TURNS_MAX = 3 };

struct multigrid_phase {
	size_t epoch;		/* its first */
	size_t frames;
	struct {
		size_t crop;
		size_t times;	/* batches that make one */
	} turns[MULTIGRID_TURNS_MAX];	/* iterations take them in turn; the last one is the long cycle's */
	size_t turn_count;
};

struct multigrid {
	struct multigrid_phase phases[SCHEDULE_STEPS_MAX];
	size_t phase_count;
	size_t epochs;
};

/* One phase of this shape for all epochs: no multigrid. */
void multigrid_none(struct multigrid *, size_t epochs, size_t frames, size_t crop);

/* The phases that stand for `epochs` epochs of full size; `schedule` gets their steps in place of its own.  USAGE (said)
 * when its last step is not in front of `epochs`, or it has too many. */
int multigrid_plan(struct multigrid *, struct schedule *, size_t epochs, size_t frames, size_t crop, bool short_cycle);

/* The most batches that make one. */
size_t multigrid_times_max(const struct multigrid *);

/* Batches of the base size in whole rounds of turns that have `iterations` iterations or a few more, and back. */
size_t multigrid_batches(const struct multigrid_phase *, size_t iterations);
size_t multigrid_iterations(const struct multigrid_phase *, size_t batches);

/* The phase of an epoch. */
const struct multigrid_phase *multigrid_at(const struct multigrid *, size_t epoch);

#endif
