/*
 * bench/base/bootstrap.h - 95 % intervals by resampling, where order statistics give none.
 *
 * Two questions: how well does one run know its own median iteration, although neighbouring
 * iterations resemble each other; and how well do a handful of runs here and there know the
 * difference of their means.  Everything is seeded: equal samples give equal intervals.
 *
 * tests/test_bootstrap.c counts how often each interval holds the truth; bootstrap.c says
 * what came out.
 */
#ifndef SFSCALE_BASE_BOOTSTRAP_H
#define SFSCALE_BASE_BOOTSTRAP_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BOOTSTRAP_BLOCKS = 8,	/* fewer than these in a series give no interval */
	BOOTSTRAP_RUNS = 6,	/* fewer than these on either side give none either */
};

struct bootstrap {
	size_t resamples;
	uint64_t seed;
};
extern const struct bootstrap bootstrap_usual;	/* 2,000 resamples */

struct interval {
	double low, high;	/* NaN, NaN: the samples are not enough for one */
};

static inline bool interval_exists(struct interval i)
{
	return !isnan(i.low);
}

/* Of the median of the process behind a series in its order of time, whose values hang
 * together over some distance: moving blocks of *block values, at least `block_min`.
 * NO_MEMORY is said. */
int bootstrap_median(const struct bootstrap *, const double *series, size_t n, size_t block_min, struct interval *out,
		     size_t *block);

/* Of mean(b) - factor * mean(a), for each of `columns` quantities.  `a` and `b` are rows of
 * `columns` values, a row per run; a resample draws whole rows, so what adds up in every row
 * adds up in every resample.  NO_MEMORY is said. */
int bootstrap_difference(const struct bootstrap *, const double *a, size_t a_rows, const double *b, size_t b_rows,
			 size_t columns, double factor, struct interval *out);

#endif
