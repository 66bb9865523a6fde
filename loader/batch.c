/*
 * loader/batch.c - see batch.h.
 */
#include "loader/batch.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"

#include <assert.h>
#include <string.h>

int batch_maker_init(struct batch_maker *m, const struct batch_plan *p, const struct ava_index *index)
{
	int rc;

	*m = (struct batch_maker){ .plan = p, .index = index, .epoch = SIZE_MAX };
	rc = sampler_init(&m->sampler, p->examples, p->world);
	if (!rc)
		rc = clip_maker_init(&m->clip, &p->geometry);
	m->clip.storage_ns = p->storage_ns;
	if (rc)
		batch_maker_release(m);
	return rc;
}

void batch_maker_release(struct batch_maker *m)
{
	sampler_release(&m->sampler);
	clip_maker_release(&m->clip);
}

void batch_maker_epoch(struct batch_maker *m, size_t epoch)
{
	if (m->epoch == epoch)
		return;
	/* PyTorch of 2020 seeds with the epoch, later ones with seed + epoch. */
	sampler_draw(&m->sampler, m->plan->seed + epoch);
	m->epoch = epoch;
}

/* Clips that are tried for one place in a batch: damage that spreads further is no accident. */
enum { TRIES = 16 };

static int fill(struct batch_maker *m, const struct ring_batch *to, uint32_t b)
{
	const struct batch_plan *p = m->plan;
	struct batch_place at = batch_plan_place(p, b);
	size_t boxes = 0;

	to->slot->skipped = 0;
	m->clip.beat = &to->slot->beat;
	batch_maker_epoch(m, at.epoch);
	m->clip.geometry = batch_plan_geometry(p, b);
	stage_end(&m->clip.jpeg.stages, STAGE_HAND_OVER);
	for (size_t i = 0; i < p->clips; i++) {
		uint32_t example = batch_maker_example(m, at, i);
		const struct clip_tensors tensors = {
			.slow = p->crops ? NULL : to->slow + i * to->slow_values,
			.fast = p->crops ? NULL : to->fast + i * to->fast_values,
			.crops = p->crops ? to->crops + i * to->fast_values : NULL,
			.rois = to->rois + 5 * boxes,
			.labels = to->labels + AVA_CLASSES * boxes,
			.meta = to->meta + 2 * boxes,
			.place = i,
		};
		int rc = JPEG_DAMAGED;

		for (size_t tries = 0; rc == JPEG_DAMAGED; tries++) {
			if (tries && (!p->skip_damaged || tries == TRIES))
				return FAILED;
			if (tries)
				example = (uint32_t)((example + 1) % p->examples);
			to->slot->skipped += tries == 1;
			rc = clip_make(&m->clip, m->index, example, p->seed, m->epoch, &tensors, to->slot->why,
				       sizeof(to->slot->why));
		}
		if (rc)
			return rc;
		assert(boxes + m->index->examples[example].box_count <= p->boxes_max);
		to->examples[i] = example;
		boxes += m->index->examples[example].box_count;
	}
	to->slot->boxes = (uint32_t)boxes;
	return OK;
}

int batch_make(struct batch_maker *m, const struct ring *ring, uint32_t b, size_t worker, const struct usage *usage)
{
	struct ring_batch to = ring_batch(ring, b);
	struct stage_clock *stages = &m->clip.jpeg.stages;
	int rc;

	to.slot->worker = (uint32_t)worker;
	to.slot->t0_ticks = clock_ticks();
	stage_start(stages, to.slot->t0_ticks);
	rc = fill(m, &to, b);
	to.slot->failed = rc != OK;
	to.slot->usage = *usage;
	to.slot->usage.cpu_ns = usage_cpu_ns();
	stage_end(stages, STAGE_HAND_OVER);
	memcpy(to.slot->stage_ticks, stages->ticks, sizeof(stages->ticks));
	to.slot->t1_ticks = stages->since;
	ring_deliver(ring, b);
	return rc;
}
