/*
 * report/curve.h - from runs to points: what one variant did on one number of nodes.
 *
 * The replicate is the run: each run gives one value, and a point is the median over its
 * runs with min..max, and an interval from six runs on (bench/base/stats.h).  Breakdowns are
 * arithmetic means of exact sums over iterations, ranks and runs, so that parts add up.
 */
#ifndef SFSCALE_REPORT_CURVE_H
#define SFSCALE_REPORT_CURVE_H

#include "report/runs.h"

/* Over which windows: the whole run, or its steady iterations alone; these once more by the work that they
 * launched (report/windows.h), which has a breakdown and no pace of its own. */
enum scope { SCOPE_WHOLE, SCOPE_STEADY, SCOPE_PACED, SCOPE_WORK = SCOPE_PACED, SCOPE_COUNT };
extern const char *const scope_names[SCOPE_COUNT];	/* "whole run", "steady", "steady, by work" */

/* Of the slowest rank: wall of the run per iteration, or the median steady iteration. */
struct pace {
	struct summary iteration_ms, clips_per_s;	/* over the runs; NaN where none counts */
};

struct point {
	const char *variant, *series, *policy, *place;	/* borrowed from the first run */
	int64_t workers;
	size_t nodes, ranks;
	const struct run **runs;	/* borrowed: a part of the curve's list */
	size_t run_count;		/* those that count; may be none */
	size_t failed_count;		/* the others */
	const struct point *base;	/* this variant on the fewest nodes that have a run; may be this one */
	struct pace pace[SCOPE_PACED];
};

struct curve {
	struct point *points;		/* owned; by variant in order of first appearance, then by nodes */
	size_t count;
	const struct run **runs;	/* owned; in the order of the points, in each point first those that count */
};

/* Also warns where runs of one point differ in more than chance.  `all` is borrowed for the
 * curve's life. */
int curve_make(struct curve *, struct runs *all);
void curve_release(struct curve *);

/* The parts of an iteration as they are shown: name, colour, meaning.  A class that is to be
 * seen on its own is a row here and in group_of_class[]. */
#define GROUPS(X) \
	X(fwd, "forward", "#0072b2", "forward pass with head and loss") \
	X(bwd, "backward", "#56b4e9", "backward pass") \
	X(opt, "optimiser", "#a6d8f0", "optimiser step") \
	X(wait, "wait", "#d55e00", "in a collective before its last rank came (a broadcast: its root), not hidden by compute") \
	X(wire, "wire", "#009e73", "in a collective after that: moving and summing, not hidden by compute") \
	X(unsplit, "unsplit communication", "#e8a98a", "in a collective whose wait and wire cannot be told apart") \
	X(copy, "copy", "#f0e442", "copies into the network's input") \
	X(loader, "loader stall", "#e69f00", "waiting for a batch with nothing computing or communicating") \
	X(boundary, "epoch boundary", "#cc79a7", "windows from an epoch's begin to its first batch request with nothing computing, and " \
	  "the wait for that first batch") \
	X(launch, "launching", "#b8a1cf", "the host launches work for its device, which has nothing to do meanwhile") \
	X(other, "other", "#999999", "known ranges of no class before, with nothing on the device: logging, synchronising") \
	X(unattributed, "unattributed", "#333333", "in no known range")

enum group {
#define GROUP_ENUM(name, title, colour, meaning) GROUP_##name,
	GROUPS(GROUP_ENUM)
#undef GROUP_ENUM
	GROUP_COUNT
};

struct group_row {
	const char *name, *title, *colour;
};
extern const struct group_row group_rows[GROUP_COUNT];

struct breakdown {
	int64_t iterations;	/* over all ranks and runs: what the sums are divided by */
	int64_t wall_ns;
	int64_t parts_ns[GROUP_COUNT];	/* sum: wall_ns */
	int64_t comm_hidden_ns;		/* collectives under compute: no part */
	double run_min_ms, run_max_ms;	/* wall per iteration of the fastest and of the slowest run */
};

void point_breakdown(const struct point *, enum scope, struct breakdown *);

/* A boundary costs its length minus a median steady iteration of its run. */
struct stall {
	size_t stretches;	/* over all runs */
	struct summary cost_ms;	/* over the runs' medians */
	double mean_ms;		/* over all stretches of all runs */
	double parts_ms[PART_COUNT];	/* means; sum: mean_ms.  PART_REST has the steady iteration taken off */
	double rewarm_ms;	/* mean; beside the sum: what the iterations behind it take more than a steady one, until one of
				 * them is among the fastest three quarters */
	double ten_iterations_ms;	/* ten mean steady ones: batches that come in bursts make a median that is none of them */
};

int point_stall(const struct point *, bool start_up, struct stall *);
/* Its greatest part but PART_REST, and how a sentence calls it. */
enum boundary_part stall_greatest(const struct stall *);
extern const char *const boundary_part_words[PART_COUNT];

#endif
