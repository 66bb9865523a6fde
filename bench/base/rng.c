/*
 * bench/base/rng.c - see rng.h.
 */
#include "bench/base/rng.h"

#include <math.h>

uint32_t rng_u32(struct rng *r)
{
	uint64_t old = r->state;
	uint32_t shifted = (uint32_t)(((old >> 18) ^ old) >> 27);
	uint32_t turn = (uint32_t)(old >> 59);

	r->state = old * 6364136223846793005ull + r->stream;
	return (shifted >> turn) | (shifted << (-turn & 31));
}

void rng_init(struct rng *r, uint64_t seed, uint64_t stream)
{
	*r = (struct rng){ .state = 0, .stream = stream << 1 | 1 };
	rng_u32(r);
	r->state += seed;
	rng_u32(r);
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
	uint32_t floor = -n % n;	/* values under it would make the small residues likelier */
	uint32_t v;

	do {
		v = rng_u32(r);
	} while (v < floor);
	return v % n;
}

double rng_uniform(struct rng *r)
{
	uint64_t high = rng_u32(r) >> 5, low = rng_u32(r) >> 6;

	return (double)(high << 26 | low) * 0x1p-53;
}

double rng_normal(struct rng *r)
{
	double u = 1 - rng_uniform(r);	/* (0, 1]: its logarithm exists */

	return sqrt(-2 * log(u)) * cos(2 * M_PI * rng_uniform(r));
}
