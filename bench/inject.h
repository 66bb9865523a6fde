/*
 * bench/inject.h - delays of known size, put into a run on purpose.
 *
 * Whoever doubts the report puts a truth in and looks whether it comes out: 30 ms in the loader
 * of rank 2 must come back as loader stall there, and as waiting for it everywhere else (with overlap less
 * what the others still compute meanwhile: then as much of wire is exposed that was hidden; README).
 *
 *	rank=2,phase=load,ms=30                       every iteration
 *	rank=2,phase=bwd,iteration=10:19,ms=30        iterations 10 to 19, counted over all epochs
 *	rank=2,phase=fwd,ms=30,prob=0.1               one in ten, by the seed
 */
#ifndef SFSCALE_BENCH_INJECT_H
#define SFSCALE_BENCH_INJECT_H

#include "bench/base/opt.h"
#include "bench/base/rng.h"
#include "bench/base/span.h"

struct injection {
	enum span_id span;
	uint32_t first, last;	/* iterations, inclusive */
	uint64_t delay_ns;
	double probability;
	struct rng rng;
};

/* Those of this rank; a zeroed one is empty. */
struct injections {
	struct injection *at;	/* owned */
	size_t count;
};

/* USAGE (said) when a text does not fit; all texts are read, also those of other ranks. */
int injections_init(struct injections *, const struct opt_names *texts, size_t rank, size_t world, uint64_t seed);
void injections_release(struct injections *);

/* Sleeps as long as the injections of this phase and iteration say. */
void injections_apply(struct injections *, enum span_id, uint32_t iteration);

#endif
