/*
 * report/windows.h - the record of one rank becomes part of its run.
 *
 * Two views of the same events.  *Host windows* go from one batch request of the training thread to the
 * next.  *Work windows* go from the moment at which all device work (compute, collectives, copies)
 * that iteration k - 1 began was done to the same moment of iteration k, whenever it ran: what a
 * device that runs behind its host needs.
 */
#ifndef SFSCALE_REPORT_WINDOWS_H
#define SFSCALE_REPORT_WINDOWS_H

#include "bench/base/record.h"
#include "report/decompose.h"
#include "report/runs.h"

/* The row of windows of one rank: window i lies between cuts i and i + 1. */
struct marks {
	int64_t *cuts;		/* owned; NULL: no window */
	enum window_kind *kinds;	/* owned */
	size_t windows;
	int64_t *work_cuts;	/* owned; iteration i lies between work cuts i and i + 1 */
	size_t iterations;
	bool ascend, ended;
};

/* What a rank gives to its run. */
struct rank_windows {
	struct marks marks;
	int64_t *lengths_ns;	/* of each window; owned */
	int64_t *stalls_ns;	/* CLS_LOADER in each window; owned */
	struct window_sum sums[WINDOW_KINDS], work;
	struct stretch *stretches;	/* owned */
	size_t stretch_count;
	size_t unequal;
};

/* Gives the events this program's numbers for names and classes; first of all.  Returns how many have times that
 * cannot be; they become marks that take no part. */
size_t windows_translate(struct record *);

int marks_make(struct marks *, const struct record *);
void marks_release(struct marks *);

/* `marks` become the part's.  `ledger` is of the record's events, at all of its cuts. */
int windows_make(struct rank_windows *, struct marks *marks, const struct record *, struct ledger *);
void windows_release(struct rank_windows *);

/* Adds windows, sums and stretches to the run.  A record that is damaged spoils it (run_spoil) and still counts as
 * far as it reaches; `path` is for messages. */
int windows_add(struct runs *all, struct run *, size_t rank, const struct rank_windows *, const struct record *,
		const char *path);

#endif
