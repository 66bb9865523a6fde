/*
 * bench/base/dist.h - durations drawn from a distribution that the user names.
 *
 *	const:MS                  always MS
 *	normal:MEAN,SD            a draw under 0 counts as 0
 *	lognormal:MEDIAN,SIGMA    MEDIAN * exp(SIGMA * z), z standard normal
 *	file:PATH                 one of the values of a file, each as likely, with replacement
 *
 * Values are milliseconds.  A file has one value a line; empty lines and those that begin
 * with '#' are passed over.
 */
#ifndef SFSCALE_BASE_DIST_H
#define SFSCALE_BASE_DIST_H

#include "bench/base/rng.h"

#include <stddef.h>
#include <stdint.h>

struct dist {
	enum dist_kind { DIST_CONST, DIST_NORMAL, DIST_LOGNORMAL, DIST_FILE } kind;
	double center_ms;	/* the constant, mean or median */
	double spread;		/* ms of a normal; sigma of a lognormal */
	double *values_ms;	/* of a file; owned */
	size_t value_count;
};

/* A zeroed one draws 0 ns always.  USAGE or FAILED (a file that cannot be read), said. */
int dist_init(struct dist *, const char *text);
void dist_release(struct dist *);

uint64_t dist_draw_ns(const struct dist *, struct rng *);

#endif
