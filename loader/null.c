/*
 * loader/null.c - see null.h.
 *
 * Its pixels are zero, which is the grey that normalisation subtracts, or as bytes the nearest to it, and each clip has
 * three boxes, near the 3.4 of AVA.  The order of the examples is drawn and dealt out as for a real data
 * set, so that the checksum means the same.  The time of a batch is drawn from the seed, the rank and
 * its number, and slept in the call that asks for the batch: nothing is made ahead.
 */
#include "loader/null.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "kernels/net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BOXES = 3 };

int loader_null_index(struct ava_index *ix, size_t examples)
{
	*ix = (struct ava_index){ .example_count = examples, .box_count = BOXES };
	ix->examples = malloc(examples * sizeof(*ix->examples));
	ix->boxes = calloc(BOXES, sizeof(*ix->boxes));
	if (!ix->examples || !ix->boxes) {
		ava_index_release(ix);
		return err(NO_MEMORY, "no memory for %zu examples of nothing", examples);
	}
	for (size_t i = 0; i < examples; i++)
		ix->examples[i] = (struct ava_example){ .second = AVA_SECOND_MIN, .box_count = BOXES };
	for (size_t i = 0; i < BOXES; i++) {
		float left = (float)i / BOXES;

		ix->boxes[i] = (struct ava_box){ .x1 = left, .y1 = 0.25f, .x2 = left + 1.0f / BOXES, .y2 = 0.75f };
		ix->boxes[i].labels[i] = 1;
	}
	return OK;
}

void loader_null_fill(const struct batch_maker *m, const struct ring *ring)
{
	const struct batch_plan *p = m->plan;
	size_t crop = p->geometry.crop;
	const struct clip_view view = { .width = crop, .height = crop, .wide = crop, .high = crop };
	struct ring_batch to = ring_batch(ring, 0);

	if (to.crops)
		memset(to.crops, (int)lrintf(255 * NET_MEAN), p->clips * 3 * p->geometry.frames * crop * crop);
	to.slot->boxes = (uint32_t)(p->clips * BOXES);
	for (size_t i = 0; i < p->clips; i++) {
		const struct clip_tensors tensors = {
			.rois = to.rois + 5 * BOXES * i,
			.labels = to.labels + AVA_CLASSES * BOXES * i,
			.meta = to.meta + 2 * BOXES * i,
			.place = i,
		};

		clip_boxes(m->index, 0, &view, &p->geometry, &tensors);
	}
}

void loader_null_make(struct batch_maker *m, const struct ring *ring, uint32_t b, const struct dist *emulate)
{
	const struct batch_plan *p = m->plan;
	struct ring_batch to = ring_batch(ring, b);
	struct batch_place at = batch_plan_place(p, b);
	struct rng rng;
	uint64_t ns;

	rng_init(&rng, p->seed, (uint64_t)at.rank << 32 | b / p->ranks);
	ns = dist_draw_ns(emulate, &rng);
	if (ns)
		clock_sleep_ns(ns);
	for (size_t i = 0; i < p->clips; i++)
		to.examples[i] = batch_maker_example(m, at, i);
	ring_deliver(ring, b);
}
