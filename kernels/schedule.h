/*
 * kernels/schedule.h - the learning rate of a step.
 *
 * Linear scaling: the rate is proportional to the clips of a step, summed over all ranks, so
 * that a clip moves the weights as far on 1 node as on 64.  SHORT.yaml's 0.1 for 64 clips and
 * the study's 0.05 per node of 32 are one rule.  Momentum is not corrected when the rate
 * changes, as in PySlowFast.
 */
#ifndef SFSCALE_KERNELS_SCHEDULE_H
#define SFSCALE_KERNELS_SCHEDULE_H

#include <stddef.h>

enum { SCHEDULE_STEPS_MAX = 16 };

struct schedule {
	double base_lr;			/* for `base_clips` clips in a step */
	double warmup_start_lr;		/* likewise, at epoch 0 */
	double base_clips;		/* 0: rates are taken as they are, without scaling */
	double warmup_epochs;		/* 0: no warm-up */
	size_t step_count;		/* 1 or more */
	struct schedule_step {
		double epoch;		/* from here on, until the next; ascending, the first is 0 */
		double factor;		/* of base_lr */
	} steps[SCHEDULE_STEPS_MAX];
};

/* SLOWFAST_32x2_R50_SHORT.yaml: 20 epochs, 5 of them warm-up, a tenth at 10 and at 15. */
extern const struct schedule schedule_ava;

/* `epoch` counts fractions: epoch + iteration / iterations per epoch. */
double schedule_lr(const struct schedule *, size_t clips_per_step, double epoch);

#endif
