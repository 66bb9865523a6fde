/*
 * bench/base/stats.h - summaries that keep to what the samples can say.
 *
 * Medians and quantiles; intervals only where there are enough samples for them (exact order
 * statistics: 6 runs are the least that can say 95 % about a median).  Ranks are whole numbers,
 * so such an interval holds the median in 95 % of all cases or more: 96.9 % at 6 runs, 98.4 at
 * 7, 96.1 at 9, 95.9 at 20.  Where there are no independent samples: bench/base/bootstrap.h.
 */
#ifndef SFSCALE_BASE_STATS_H
#define SFSCALE_BASE_STATS_H

#include <stdbool.h>
#include <stddef.h>

struct summary {
	size_t n;
	double min, median, max;
	bool has_ci;		/* false under 6 samples */
	double ci_low, ci_high;	/* order-statistic interval of the median, at least 95 % */
};

/* NaN in all fields when n is 0.  `values` is left alone.  NO_MEMORY is said and gives NaN. */
struct summary summarize(const double *values, size_t n);

/* Sorts `values` in place and gives the q-quantile (0..1, linear between neighbours); NaN when n is 0. */
double quantile(double *values, size_t n, double q);

/* Rank (from 1) of the lower end of the >= 95 % interval of the median of n samples; 0: there
 * is none.  The upper end has rank n + 1 - that.  Binomial(n, 1/2). */
size_t median_ci_rank(size_t n);

#endif
