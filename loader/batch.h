/*
 * loader/batch.h - makes one batch, from numbers to tensors in its slot of the ring.
 *
 * Every worker has a maker of its own, which draws the order of an epoch itself when it gets
 * there: which epoch a batch belongs to follows from its number, so a worker that lives on
 * cannot stay in an old epoch.
 */
#ifndef SFSCALE_LOADER_BATCH_H
#define SFSCALE_LOADER_BATCH_H

#include "loader/ring.h"
#include "loader/sampler.h"

struct batch_maker {
	const struct batch_plan *plan;	/* borrowed */
	const struct ava_index *index;	/* borrowed */
	struct sampler sampler;
	size_t epoch;			/* whose order the sampler holds; SIZE_MAX: none yet */
	struct clip_maker clip;
};

int batch_maker_init(struct batch_maker *, const struct batch_plan *, const struct ava_index *);
void batch_maker_release(struct batch_maker *);

/* The order of that epoch; does nothing when it is there already. */
void batch_maker_epoch(struct batch_maker *, size_t epoch);

/* The i-th example of a batch. */
static inline uint32_t batch_maker_example(const struct batch_maker *m, struct batch_place at, size_t i)
{
	return sampler_at(&m->sampler, at.rank, at.iteration * m->plan->clips + i);
}

/* Fills the slot of batch `b` and delivers it; also when it failed: then the slot says why.  `usage` goes along, with
 * the CPU time of this thread. */
int batch_make(struct batch_maker *, const struct ring *, uint32_t b, size_t worker, const struct usage *usage);

#endif
