/*
 * bench/base/bootstrap.c - see bootstrap.h.
 *
 * A textbook bootstrap is too sure of itself on samples like ours: percentile intervals of
 * the difference of two means hold the truth in 86 % of all cases at six runs a side, and
 * blocks that end where autocorrelation falls below 0.1 in 77 to 90 %.  So:
 *
 * Difference of means: the studentised bootstrap (Efron and Tibshirani 1993, chapter 12.5).
 * Each resample gives t = (difference - that of the sample) / its own standard error, and
 * the interval is made of the quantiles of t.  Where a run is the mean of 40 iterations it
 * holds the truth in 93 to 95 % of all cases, skewed iterations (lognormal, sigma 1) at six
 * runs in 92.7.  No interval of a mean can keep its word for every law: where the runs
 * themselves are as skewed as that, it is 87 %, and where they take two values, 98 %.
 *
 * Median of a series: moving blocks (Kuensch 1989) of 1.5 sqrt(n) values or three times the
 * distance over which ranks are correlated, whichever is more; and the levels of the
 * percentiles moved out from those of a normal law to those of Student's t for as many
 * values as there are blocks (Hesterberg 2015, "expanded percentile interval").  A resample
 * is a histogram over ranks, whose middle is found without sorting.
 */
#include "bench/base/bootstrap.h"

#include "bench/base/err.h"
#include "bench/base/rng.h"
#include "bench/base/stats.h"

#include <stdlib.h>
#include <string.h>

static const double tail = 0.025;
static const double tail_z = 1.959963984540054;	/* of the normal law */
static const struct interval none = { NAN, NAN };

enum { STREAM_MEDIAN = 1, STREAM_DIFFERENCE };

const struct bootstrap bootstrap_usual = { .resamples = 2000, .seed = 1 };

/* ---- the median of a series ------------------------------------------------------------ */

/* The series as ranks: equal values have equal ranks, and outliers no weight of their own. */
static void ranks_make(const double *series, const double *sorted, size_t n, uint32_t *ranks)
{
	for (size_t i = 0; i < n; i++) {
		size_t low = 0, high = n;

		while (low < high) {
			size_t mid = low + (high - low) / 2;

			if (sorted[mid] < series[i])
				low = mid + 1;
			else
				high = mid;
		}
		ranks[i] = (uint32_t)low;
	}
}

static double covariance(const uint32_t *ranks, size_t n, size_t lag, double mean)
{
	double sum = 0;

	for (size_t i = 0; i + lag < n; i++)
		sum += ((double)ranks[i] - mean) * ((double)ranks[i + lag] - mean);
	return sum;
}

/* The first distance at which ranks are correlated by less than 0.1; `most` if there is none before. */
static size_t correlation_length(const uint32_t *ranks, size_t n, size_t most)
{
	double mean = 0, own;
	size_t lag = 1;

	for (size_t i = 0; i < n; i++)
		mean += (double)ranks[i] / (double)n;
	own = covariance(ranks, n, 0, mean);
	while (lag < most && covariance(ranks, n, lag, mean) >= 0.1 * own && own > 0)
		lag++;
	return lag;
}

static size_t block_length(const uint32_t *ranks, size_t n, size_t block_min)
{
	size_t block = (size_t)ceil(1.5 * sqrt((double)n));
	size_t correlated = 3 * correlation_length(ranks, n, n / BOOTSTRAP_BLOCKS / 3 + 1);

	block = correlated > block ? correlated : block;
	return block_min > block ? block_min : block;
}

static double middle(const uint32_t *counts, const double *sorted, size_t n)
{
	size_t at = 0, seen = counts[0];
	double low;

	while (seen <= (n - 1) / 2)
		seen += counts[++at];
	low = sorted[at];
	while (seen <= n / 2)
		seen += counts[++at];
	return 0.5 * (low + sorted[at]);
}

static double resampled_median(struct rng *rng, const uint32_t *ranks, const double *sorted, size_t n, size_t block,
			       uint32_t *counts)
{
	memset(counts, 0, n * sizeof(*counts));
	for (size_t drawn = 0; drawn < n;) {
		const uint32_t *from = ranks + rng_below(rng, (uint32_t)(n - block + 1));
		size_t take = block < n - drawn ? block : n - drawn;

		for (size_t i = 0; i < take; i++)
			counts[from[i]]++;
		drawn += take;
	}
	return middle(counts, sorted, n);
}

/* The level of a percentile interval that is as wide as Student's t for `blocks` values asks; the
 * quantile of t by the first terms of its expansion at the normal one, good to 0.1 % from 6
 * degrees of freedom on. */
static double expanded_tail(double blocks)
{
	double z = tail_z, f = blocks - 1;
	double t = z + (pow(z, 3) + z) / (4 * f) + (5 * pow(z, 5) + 16 * pow(z, 3) + 3 * z) / (96 * f * f) +
		   (3 * pow(z, 7) + 19 * pow(z, 5) + 17 * pow(z, 3) - 15 * z) / (384 * f * f * f);

	return 0.5 * erfc(t * sqrt(blocks / f) / sqrt(2));
}

int bootstrap_median(const struct bootstrap *how, const double *series, size_t n, size_t block_min,
		     struct interval *out, size_t *block)
{
	double *sorted = malloc((n + how->resamples) * sizeof(*sorted)), *medians = sorted + n;
	uint32_t *ranks = malloc((2 * n + 1) * sizeof(*ranks)), *counts = ranks + n;
	struct rng rng;

	*out = none;
	*block = 0;
	if (!sorted || !ranks) {
		free(sorted);
		free(ranks);
		return err(NO_MEMORY, "no memory to resample %zu values", n);
	}
	memcpy(sorted, series, n * sizeof(*sorted));
	quantile(sorted, n, 0.5);	/* sorts */
	ranks_make(series, sorted, n, ranks);
	*block = block_length(ranks, n, block_min);
	if (*block * BOOTSTRAP_BLOCKS <= n) {
		double level = expanded_tail((double)n / (double)*block);

		rng_init(&rng, how->seed, STREAM_MEDIAN);
		for (size_t i = 0; i < how->resamples; i++)
			medians[i] = resampled_median(&rng, ranks, sorted, n, *block, counts);
		out->low = quantile(medians, how->resamples, level);
		out->high = quantile(medians, how->resamples, 1 - level);
	}
	free(sorted);
	free(ranks);
	return OK;
}

/* ---- the difference of two means ------------------------------------------------------- */

/* Rows of `columns` values, of which `drawn` says how often each takes part. */
struct rows {
	const double *at;
	size_t count;
	uint32_t *drawn;
};

/* Mean of one column, and the squared standard error of that mean. */
static void column_mean(const struct rows *rows, size_t columns, size_t column, double *mean, double *error2)
{
	double n = (double)rows->count, sum = 0, squares = 0;

	for (size_t r = 0; r < rows->count; r++)
		sum += rows->drawn[r] * rows->at[r * columns + column];
	*mean = sum / n;
	for (size_t r = 0; r < rows->count; r++) {
		double off = rows->at[r * columns + column] - *mean;

		squares += rows->drawn[r] * off * off;
	}
	*error2 = squares / (n * (n - 1));
}

static void difference(const struct rows sides[2], size_t columns, size_t column, double factor, double *value,
		       double *error)
{
	double mean[2], error2[2];

	for (int s = 0; s < 2; s++)
		column_mean(&sides[s], columns, column, &mean[s], &error2[s]);
	*value = mean[1] - factor * mean[0];
	*error = sqrt(error2[1] + factor * factor * error2[0]);
}

static void rows_draw(struct rng *rng, struct rows *rows)
{
	memset(rows->drawn, 0, rows->count * sizeof(*rows->drawn));
	for (size_t r = 0; r < rows->count; r++)
		rows->drawn[rng_below(rng, (uint32_t)rows->count)]++;
}

/* Sorts `ts`.  Runs that are all alike but one give infinite quantiles: no interval. */
static struct interval studentised(double value, double error, double *ts, size_t count)
{
	struct interval i = { value - error * quantile(ts, count, 1 - tail),
			      value - error * quantile(ts, count, tail) };

	if (error == 0)
		return (struct interval){ value, value };
	return isfinite(i.low) && isfinite(i.high) ? i : none;
}

int bootstrap_difference(const struct bootstrap *how, const double *a, size_t a_rows, const double *b, size_t b_rows,
			 size_t columns, double factor, struct interval *out)
{
	bool enough = a_rows >= BOOTSTRAP_RUNS && b_rows >= BOOTSTRAP_RUNS;
	double *values = malloc((2 + how->resamples) * columns * sizeof(*values));
	double *errors = values + columns, *ts = errors + columns;	/* ts: resamples of a column lie together */
	uint32_t *drawn = malloc((a_rows + b_rows + 1) * sizeof(*drawn));
	struct rows sides[2] = { { a, a_rows, drawn }, { b, b_rows, drawn + a_rows } };
	struct rng rng;

	for (size_t c = 0; c < columns; c++)
		out[c] = none;
	if (!values || !drawn) {
		free(values);
		free(drawn);
		return err(NO_MEMORY, "no memory to resample %zu runs", a_rows + b_rows);
	}
	for (size_t r = 0; r < a_rows + b_rows; r++)
		drawn[r] = 1;
	for (size_t c = 0; c < columns; c++)
		difference(sides, columns, c, factor, &values[c], &errors[c]);
	rng_init(&rng, how->seed, STREAM_DIFFERENCE);
	for (size_t i = 0; i < how->resamples && enough; i++) {
		rows_draw(&rng, &sides[0]);
		rows_draw(&rng, &sides[1]);
		for (size_t c = 0; c < columns; c++) {
			double value, error;

			difference(sides, columns, c, factor, &value, &error);
			ts[c * how->resamples + i] = value == values[c] ? 0 : (value - values[c]) / error;
		}
	}
	for (size_t c = 0; c < columns && enough; c++)
		out[c] = studentised(values[c], errors[c], ts + c * how->resamples, how->resamples);
	free(values);
	free(drawn);
	return OK;
}
