/*
 * loader/sampler.h - which examples a rank sees in an epoch, exactly as PyTorch's
 * DistributedSampler with shuffling: torch.randperm of the epoch's seed, filled up from its own
 * beginning until all ranks get the same number, dealt out like cards.
 */
#ifndef SFSCALE_LOADER_SAMPLER_H
#define SFSCALE_LOADER_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

struct sampler {
	uint32_t *order;	/* owned; the permutation */
	size_t count;		/* of examples */
	size_t world;
	size_t share;		/* examples per rank, filled up */
};

/* `world` at most `count`: a rank without an example of its own is the caller's error. */
int sampler_init(struct sampler *, size_t count, size_t world);
void sampler_release(struct sampler *);

/* Draws the permutation that torch.randperm(count) gives after manual_seed(seed). */
void sampler_draw(struct sampler *, uint64_t seed);

/* The i-th example of a rank, i < share. */
static inline uint32_t sampler_at(const struct sampler *s, size_t rank, size_t i)
{
	size_t at = rank + i * s->world;

	return s->order[at < s->count ? at : at - s->count];
}

#endif
