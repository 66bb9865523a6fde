/*
 * bench/base/rng.h - random numbers that are the same on every machine.
 *
 * PCG-XSH-RR 64/32 (O'Neill 2014): 16 bytes of state, streams that are independent by
 * construction, so each (seed, purpose, clip) has its own and the answer does not depend on
 * which worker asked.  The sampler needs MT19937 to equal PyTorch; that one lives there.
 */
#ifndef SFSCALE_BASE_RNG_H
#define SFSCALE_BASE_RNG_H

#include <stdint.h>

struct rng {
	uint64_t state;
	uint64_t stream;	/* odd */
};

uint32_t rng_u32(struct rng *);

/* `stream` selects one of 2^63 sequences of the same seed. */
void rng_init(struct rng *, uint64_t seed, uint64_t stream);

/* Uniform in [0, n), without bias; n > 0. */
uint32_t rng_below(struct rng *, uint32_t n);

/* Uniform in [0, 1), 53 bits. */
double rng_uniform(struct rng *);

/* Mean 0, variance 1 (Box and Muller; two uniforms a call). */
double rng_normal(struct rng *);

#endif
