/*
 * bench/base/stats.c - see stats.h.
 */
#include "bench/base/stats.h"

#include "bench/base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double between(const double *sorted, size_t n, double q)
{
	double at = q * (double)(n - 1);
	size_t low = (size_t)at;

	if (low + 1 >= n)
		return sorted[n - 1];
	return sorted[low] + (at - (double)low) * (sorted[low + 1] - sorted[low]);
}

double quantile(double *values, size_t n, double q)
{
	if (!n)
		return NAN;
	qsort(values, n, sizeof(*values), ascending);
	return between(values, n, q);
}

size_t median_ci_rank(size_t n)
{
	/* The interval [x(k), x(n+1-k)] misses the median with probability 2 P(X <= k-1). */
	double term = exp2(-(double)n), below = 0;
	size_t k = 0;

	for (; k < n / 2; k++) {
		below += term;
		if (2 * below > 0.05)
			break;
		term *= (double)(n - k) / (double)(k + 1);
	}
	return k;
}

struct summary summarize(const double *values, size_t n)
{
	struct summary s = { .n = n, .min = NAN, .median = NAN, .max = NAN, .ci_low = NAN, .ci_high = NAN };
	size_t rank = median_ci_rank(n);
	double *sorted;

	if (!n)
		return s;
	sorted = malloc(n * sizeof(*sorted));
	if (!sorted) {
		err(NO_MEMORY, "no memory to sort %zu values", n);
		return s;
	}
	memcpy(sorted, values, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), ascending);
	s.min = sorted[0];
	s.median = between(sorted, n, 0.5);
	s.max = sorted[n - 1];
	if (rank) {
		s.has_ci = true;
		s.ci_low = sorted[rank - 1];
		s.ci_high = sorted[n - rank];
	}
	free(sorted);
	return s;
}
