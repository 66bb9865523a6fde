/*
 * kernels/schedule.c - see schedule.h.
 *
 * Policy "steps with relative rates", with a linear warm-up in front that ends in the rate
 * which the steps give for its last moment.
 */
#include "kernels/schedule.h"

#include <assert.h>

const struct schedule schedule_ava = {
	.base_lr = 0.1,
	.warmup_start_lr = 0.000125,
	.base_clips = 64,
	.warmup_epochs = 5,
	.step_count = 3,
	.steps = { { 0, 1 }, { 10, 0.1 }, { 15, 0.01 } },
};

static double step_lr(const struct schedule *s, double epoch)
{
	size_t i = 0;

	while (i + 1 < s->step_count && s->steps[i + 1].epoch <= epoch)
		i++;
	return s->base_lr * s->steps[i].factor;
}

double schedule_lr(const struct schedule *s, size_t clips_per_step, double epoch)
{
	double lr, scale = s->base_clips > 0 ? (double)clips_per_step / s->base_clips : 1;

	assert(s->step_count && s->step_count <= SCHEDULE_STEPS_MAX);
	if (epoch < s->warmup_epochs)
		lr = s->warmup_start_lr +
		     epoch * (step_lr(s, s->warmup_epochs) - s->warmup_start_lr) / s->warmup_epochs;
	else
		lr = step_lr(s, epoch);
	return lr * scale;
}
