/*
 * report/decompose.h - the exact account of a stretch of time.
 *
 * Any list of events and any row of cuts: each nanosecond between the first and the last cut
 * goes to exactly one class, so the parts of a window sum to its length, in integers.
 */
#ifndef SFSCALE_REPORT_DECOMPOSE_H
#define SFSCALE_REPORT_DECOMPOSE_H

#include "report/match.h"

/* One window. */
struct account {
	int64_t begin_ns, end_ns;
	int64_t parts_ns[CLS_COUNT];	/* sum: end_ns - begin_ns */

	/* Side numbers, which are no parts: they look under what the priorities cover. */
	int64_t comm_ns;		/* any collective active */
	int64_t comm_hidden_ns;		/* of that, while compute was active too */
	int64_t loader_ns;		/* the training thread inside next(), covered or not */
};

/* Accounts for the windows [cuts[i], cuts[i + 1]), i < `windows`; `cuts` ascend and are one
 * more than the windows.  Events are borrowed, in any order, on any lanes; they are clipped
 * to the cuts, and those of CLS_ASIDE or of no length take no part.  A class that is
 * active on no lane leaves its time to the next in enum order, and at last to
 * CLS_UNATTRIBUTED.  O(m log m) for m events.  NO_MEMORY is said. */
int decompose(const struct event *events, size_t event_count, const int64_t *cuts, size_t windows,
	      struct account *out);

static inline int64_t account_ns(const struct account *a)
{
	return a->end_ns - a->begin_ns;
}

static inline int64_t parts_sum_ns(const int64_t parts_ns[CLS_COUNT])
{
	int64_t sum = 0;

	for (int c = 0; c < CLS_COUNT; c++)
		sum += parts_ns[c];
	return sum;
}

/* The same account for those who ask about many stretches of one list of events: the segments of time in which
 * the same classes are active, and at some of them the sum so far.  Asking about a stretch near the last one costs
 * as much as the segments in it, and no stretch costs more than a few dozen. */
struct ledger {
	int64_t *at_ns;		/* owned; where segments begin, ascending; the last one has no end */
	uint16_t *active;	/* owned; of each segment, a bit for each active class */
	struct account *upto;	/* owned; of every so many segments: the account from begin_ns to where it begins */
	size_t count;
	size_t cursor;		/* where it was last asked */
	int64_t begin_ns, end_ns;
};

/* Of the time between `begin_ns` and `end_ns` (not before), when these are the events of `rank`, whose collectives
 * are wait and wire where `match` (may be NULL) has split them. */
int ledger_make(struct ledger *, const struct event *events, size_t event_count, const struct match *, size_t rank,
		int64_t begin_ns, int64_t end_ns);
void ledger_release(struct ledger *);
size_t ledger_bytes(const struct ledger *);

/* Of [from, to); both between begin_ns and end_ns, and from <= to. */
struct account ledger_between(struct ledger *, int64_t from_ns, int64_t to_ns);

/* The same in sums of the caller's choice: the time of class c is added to sums_ns[sum_of[c]].  Nothing where `to_ns` lies
 * before `from_ns`. */
void ledger_add(struct ledger *, int64_t from_ns, int64_t to_ns, const uint8_t sum_of[CLS_COUNT], int64_t *sums_ns);

/* The class that the time from `at_ns` on goes to, and until when, at most `limit_ns`. */
enum event_class ledger_class(struct ledger *, int64_t at_ns, int64_t limit_ns, int64_t *until_ns);

#endif
