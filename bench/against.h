/*
 * bench/against.h - two files of tensors that should be equal but for rounding.
 *
 * How far two tensors of one name may be apart depends on what they are: one table says so, and
 * tests read the same.
 */
#ifndef SFSCALE_BENCH_AGAINST_H
#define SFSCALE_BENCH_AGAINST_H

#include "bench/base/table.h"
#include "kernels/safetensors.h"

#include <stdbool.h>

struct tolerance {
	const char *name;		/* of the class */
	const char *prefix, *suffix;	/* of the tensors in it; the first row that fits counts */
	bool each;			/* the largest difference of one value; else relative, in the L2 norm */
	double most;
};
/* Of fp32; elsewhere times against_times(). */
extern const struct tolerance tolerances[];
extern const size_t tolerance_count;
const struct tolerance *tolerance_of(const char *tensor);

/* How much further off than fp32 a precision of kernels.h may be. */
double against_times(const char *precision);

/* Relative distances are relative to the norm of the tensor, or to this share of the largest norm in its class: the
 * scale of a convolution that the next batch norm undoes has a gradient of rounding alone. */
#define AGAINST_NORM_SHARE 1e-4

/* Compares every tensor of `want` with that of `got`, at `times` the tolerances.  `classes` receives a row for each row of the tolerances that has
 * tensors, `worst` the `worst_count` tensors that come closest to their tolerance or pass it; both are to be released.
 * OK; BELOW, silent, when one is over; FAILED, said, when `got` lacks one or has it in another shape. */
int against(const struct safetensors *got, const struct safetensors *want, double times, size_t worst_count,
	    struct table *classes, struct table *worst);

#endif
