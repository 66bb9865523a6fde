/*
 * bench/base/sync.h - from the clock of a node to the reference clock of its run, with a bound.
 *
 * A *sync point* says what the reference clock showed at one moment of this node's clock, and
 * how wrong that may be.  Points are taken by comm/clock at the start, at every epoch boundary and
 * at the end; the recorder keeps them in the record file of every rank (RECORD_SYNC), so one
 * file can be mapped without any other.  For imports, report/skew makes the same points from
 * collectives.
 *
 *   map     between two points: the straight line through them; before the first and after the
 *           last: onward at the rate of that point
 *   bound   between two points, T apart, at distance d from the nearer one:
 *           their bounds, interpolated, + wander * d
 *           outside, at distance d: bound_ns + (rate_bound + 2 wander) * d
 *   wander  how far the rate of a clock strays from its mean over a segment.  Measured: the
 *           greatest change of the mean rate from one segment of the run to the next that the
 *           bounds of the points cannot explain (this is leaving a point out and looking how
 *           far it lies from the line through its neighbours).  Never less than SYNC_WANDER,
 *           because a few points can miss a change by chance.
 *
 * The bound of a point is proven: it follows from the order of cause and effect alone.  Between
 * points it rests on the wander, which is an assumption about quartz.  So a long epoch has a
 * wide bound in its middle (60 s: +3 us), and a reader of one point more is wiser.
 *
 * Not in the bound: what a stamp itself costs (bench/base/clock.h: some 30 ns).
 */
#ifndef SFSCALE_BASE_SYNC_H
#define SFSCALE_BASE_SYNC_H

#include <stddef.h>
#include <stdint.h>

/* 56 bytes, little endian; the unit of a RECORD_SYNC block. */
struct sync_point {
	int64_t local_ns;	/* this node's clock */
	int64_t ref_ns;		/* the reference clock at that moment */
	int64_t bound_ns;	/* |ref_ns - truth| is no greater */
	double rate;		/* of the reference against this clock, less 1, before and at this moment */
	double rate_bound;	/* |rate - truth| is no greater, as a mean since the point before */
	uint32_t leader;	/* rank that took part for its node: ranks with one leader have one clock */
	uint32_t hops;		/* to the reference; 0: this is the reference clock itself */
	uint32_t exchanges;	/* that agreed with each other */
	uint32_t round_trip_ns;	/* the shortest; UINT32_MAX: that or more */
};
_Static_assert(sizeof(struct sync_point) == 56, "the unit of a block");

#define SYNC_WANDER 1e-7	/* least wander: 0.1 ppm, a quartz in a machine room */
#define SYNC_RATE_MAX 1e-3	/* clocks whose rates differ by more do not run, they jump */
#define SYNC_UNKNOWN INT64_MAX	/* a bound: nothing is known */

struct sync {
	struct sync_point *points;	/* owned; ascending */
	size_t count;			/* 0: the map is the identity, the bound SYNC_UNKNOWN */
	size_t left_out;		/* points that cannot be: out of order, no numbers */
	size_t jumps;			/* segments in which the clock jumped: there the bound is SYNC_UNKNOWN */
	double wander;
};

/* Copies and judges `points` (in the order of the record).  NO_MEMORY is said; bad points are no
 * failure, but counted in `left_out` and `jumps`, which the caller may tell. */
int sync_init(struct sync *, const struct sync_point *points, size_t count);
void sync_release(struct sync *);

/* The reference clock when this node's clock showed `local_ns`; never descends but in a jump. */
int64_t sync_ref_ns(const struct sync *, int64_t local_ns);

/* |sync_ref_ns() - truth| is no greater. */
int64_t sync_bound_ns(const struct sync *, int64_t local_ns);

/* Bound of the error of sync_ref_ns(a, a_ns) - sync_ref_ns(b, b_ns), as in "rank a came so much
 * later than rank b".  On one clock it is only the rate that can be wrong. */
int64_t sync_apart_bound_ns(const struct sync *a, int64_t a_ns, const struct sync *b, int64_t b_ns);

#endif
