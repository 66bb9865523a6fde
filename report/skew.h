/*
 * report/skew.h - where the clocks of nodes stood, from their collectives alone.
 *
 * For records that nobody synchronised: imports, and runs that were killed before their first sync
 * point.  No rank leaves a synchronising collective (all-reduce, all-gather, barrier; not
 * broadcast, reduce, send) before the last one has entered.  With the stamps of both on clocks
 * that differ by an unknown offset, that is an inequality between two offsets, and all
 * inequalities together leave an interval for each node, or contradict each other.  Then the
 * stamps themselves are wrong (a clock jumped, collectives were matched wrongly, the collective
 * was none that synchronises), and the proof says which ones.
 *
 * Pure functions over arrays.  Offsets are those of node 0's clock against a node's: to be added
 * to the node's time.  An interval can never be narrower than the shortest collective, for its
 * duration is all that causality leaves open.
 */
#ifndef SFSCALE_REPORT_SKEW_H
#define SFSCALE_REPORT_SKEW_H

#include "bench/base/sync.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SKEW_ABSENT INT64_MIN	/* a stamp: this rank has none of this collective */
#define SKEW_NO_LOW INT64_MIN	/* ends of an interval that nothing bounds */
#define SKEW_NO_HIGH INT64_MAX

/* All borrowed.  Times are within +-2^60 ns, on each rank's own clock. */
struct skew_stamps {
	size_t collectives, ranks, nodes;
	const size_t *node;				/* (ranks); ranks of one node share a clock */
	const int64_t *enter_ns, *leave_ns;		/* (collectives, ranks) */
	double rate_max;	/* the rate of no clock differs from node 0's by more; 1e-4 for quartz, 0 for one clock */
};

struct skew_interval {
	int64_t at_ns;			/* on the node's clock; the offset drifts with rate_max from there */
	int64_t low_ns, high_ns;	/* the offset at that time */
};

/* "Rank `left` left before rank `entered` entered, by the offsets of their nodes."  The node of `entered`
 * is that of the next step's `left`, around the circle; so the offsets cancel, and
 * sum of (leave - enter + what drift may account for) = -short_ns, which causality wants at 0 or more. */
struct skew_step {
	size_t collective, left, entered;
};
struct skew_proof {
	struct skew_step *steps;	/* owned; NULL when there is no contradiction */
	size_t count;
	int64_t short_ns;		/* > 0 */
};

/* The interval of each node at the time of collective `anchor`, from all collectives given; or a proof,
 * and then only the at_ns are set.  NO_MEMORY is said. */
int skew_solve(const struct skew_stamps *, size_t anchor, struct skew_interval *of_node, struct skew_proof *);
void skew_proof_release(struct skew_proof *);

static inline bool skew_is_bounded(const struct skew_interval *i)
{
	return i->low_ns != SKEW_NO_LOW && i->high_ns != SKEW_NO_HIGH;
}

/* Maps for all nodes: a sync point at every `every`-th collective and at the last, from the collectives
 * around it up to the next such one, where the interval is bounded.  Without proof->steps each map[node] is
 * initialised (map[0] is the identity; a node that nothing bounds has no points); with it none is. */
int skew_maps(const struct skew_stamps *, size_t every, struct sync *map, struct skew_proof *);

#endif
