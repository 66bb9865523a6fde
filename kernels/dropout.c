/*
 * kernels/dropout.c - see dropout.h.
 */
#include "kernels/dropout.h"

#include "bench/base/rng.h"

void dropout_draw(uint64_t seed, uint64_t step, double p, size_t count, float *scale)
{
	const uint32_t limit = (uint32_t)(p * 0x1p32);
	const float kept = (float)(1 / (1 - p));
	struct rng rng;

	rng_init(&rng, seed, step);
	for (size_t i = 0; i < count; i++)
		scale[i] = rng_u32(&rng) < limit ? 0 : kept;
}
