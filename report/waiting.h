/*
 * report/waiting.h - tables of collectives, waits, and late ranks.
 *
 * The waits of a point are pooled over its runs: sums are added and divided by the iterations of all ranks and runs, as in
 * table breakdown.
 */
#ifndef SFSCALE_REPORT_WAITING_H
#define SFSCALE_REPORT_WAITING_H

#include "report/curve.h"

struct table_maker {
	const char *name, *title;
	const struct field *fields;
	size_t field_count;
	int (*make)(struct table *, const struct curve *, const struct runs *);
};
extern const struct table_maker table_waits, table_collectives, table_late, table_pairs;

/* The waits of a point, over its runs that count.  Those of ranks, and pairs, only where all runs have equally many. */
struct point_waits {
	int64_t iterations;	/* of all ranks and runs */
	int64_t wall_ns, loader_ns;	/* loader: the ranks' own stall */
	struct waits sum;
};
int point_waits_make(struct point_waits *, const struct point *, bool with_pairs);
void point_waits_release(struct point_waits *);

/* "3 <- 1 <- 0" */
void chain_text(const struct origin *, char out[64]);

#endif
