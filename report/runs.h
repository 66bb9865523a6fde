/*
 * report/runs.h - what was measured, read from run folders and sweep folders.
 *
 * One struct run per run folder or line of a ledger, also for those that failed: what went
 * wrong is a row of the report.  Only runs that are `ok` to the last rank are counted in
 * medians; the others show how far they came.
 *
 * Rank rule: an iteration takes as long as its slowest rank, and so do a boundary and a run.
 * Parts are summed over all ranks in integers, so their mean over ranks is exact.
 */
#ifndef SFSCALE_REPORT_RUNS_H
#define SFSCALE_REPORT_RUNS_H

#include "bench/base/bootstrap.h"
#include "bench/base/span.h"
#include "bench/base/stats.h"
#include "bench/base/table.h"
#include "report/feed.h"
#include "report/waits.h"

#include <stdbool.h>

/* A run is a row of windows.  What is steady is decided by rule, never by eye. */
enum window_kind {
	WINDOW_BOUNDARY,	/* from the begin of an epoch, or the validation before it, to its first LOAD */
	WINDOW_FIRST,		/* first iteration of an epoch: warming up belongs to the boundary */
	WINDOW_STEADY,		/* every other iteration */
	WINDOW_KINDS
};

/* Of the windows of one kind, over all ranks. */
struct window_sum {
	int64_t windows, wall_ns;
	int64_t parts_ns[CLS_COUNT];	/* sum: wall_ns */
	int64_t comm_ns, comm_hidden_ns;
};

/* What a boundary is made of; report/windows.c says which spans. */
enum boundary_part {
	PART_STOP, PART_START, PART_INDEX, PART_SAMPLER, PART_FIRST_BATCH, PART_EVAL, PART_CKPT, PART_REST, PART_COUNT
};

/* From the end of an epoch's last OPT to the end of the next one's first, by whoever computes; the very first
 * stretch of a run begins with its first epoch and is the start-up.  Of its slowest rank. */
struct stretch {
	int64_t length_ns;
	int64_t parts_ns[PART_COUNT];	/* sum: length_ns */
	size_t iteration;		/* that it ends in, from 0 */
};

struct run {
	char *folder, *variant, *series, *policy, *place, *reason;	/* owned; reason may be NULL */
	/* place: as run.json says it, without the number of nodes */
	const char *status;	/* "ok", "failed", "cut off", "running", "damaged" */
	int64_t workers, repeat;	/* -1: not said */
	size_t nodes, ranks;
	cJSON *json;		/* run.json; owned; NULL: there is none */

	/* From the records, as far as they reach. */
	size_t ranks_read, windows, iterations;
	enum window_kind *kinds;	/* of each window; owned */
	int64_t *slowest_ns;		/* longest over the ranks, of each window; owned */
	int64_t wall_ns;		/* slowest rank, first epoch begin to run end */
	int64_t begin_ns;		/* earliest rank, first epoch begin, in the common time */
	struct window_sum sums[WINDOW_KINDS];
	struct window_sum work;	/* steady iterations by the work that they launched (report/windows.h) */
	struct waits waits;	/* sum of its waits: the CLS_COMM_WAIT of sums */
	struct feed feed;
	struct window_sum *rank_sums;	/* all windows of each rank; owned; NULL: no rank was read */
	struct stretch *stretches;	/* owned; [0] is the start-up */
	size_t stretch_count;
	uint64_t dropped, events;
	uint64_t segments;		/* of time in which the same classes were active, over all ranks */
	struct summary steady_ns;	/* over the steady iterations */
	struct interval median_ns;	/* how well this run alone knows its median steady iteration */
	size_t block;			/* iterations that were resampled together for that */
};

struct runs {
	struct run *at;			/* owned */
	size_t count;
	struct table warnings;		/* owned; all that is wrong but does not end the report */
	size_t windows_checked, windows_unequal;	/* parts == wall, in integers, per rank and window */
	const struct watch *watch;	/* borrowed; NULL: nobody */
};

/* Somebody who wants more of the records than their sums: sees each rank of a run whose record can be used while it is at hand,
 * one at a time and in ascending order.  All of it is borrowed; collectives of all ranks are matched. */
struct marks;
struct watch {
	int (*rank)(void *context, const struct run *, const struct match *, size_t rank, const struct record *,
		    const struct marks *, struct ledger *);
	void *context;
};

/* FAILED (said) when none of the folders holds anything readable; NO_MEMORY. */
int runs_read(struct runs *, const char *const *dirs, size_t dir_count);
int runs_read_watched(struct runs *, const char *const *dirs, size_t dir_count, const struct watch *);
void runs_release(struct runs *);

/* A row of `warnings`. */
void runs_warn(struct runs *, const char *about, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The run is not "ok" but `status` (static), for this reason; the first reason stays. */
void run_spoil(struct run *, const char *status, const char *format, ...) __attribute__((format(printf, 3, 4)));

static inline bool run_counts(const struct run *r)
{
	return r->status[0] == 'o';
}

/* Clips of all ranks in one iteration; NaN when run.json does not say. */
double run_clips(const struct run *);

#endif
