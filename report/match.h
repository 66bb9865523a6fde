/*
 * report/match.h - the same collective on all ranks, split into waiting and moving.
 *
 * Rank r enters collective c at a_r and leaves at e_r.  What lies before the last rank's arrival
 * is *wait*, the rest is *wire*; wait + wire == e_r - a_r in integers, for every rank.
 *
 *   clocked     wait_r = A - a_r, A = max a, where all ranks have one clock or clocks of known bound
 *   clock-free  wait_r = d_r - min d, d = e - a: all ranks of a symmetric collective leave together, so
 *               the shortest stay is that of the last rank.  Wrong by the skew of the ends at most
 *   rooted      a broadcast waits for its root; and where a rank was still inside when the last one came,
 *               for that one, for data travel on through ranks, and senders wait for receipts.  So
 *               wait_r = A' - a_r, A' = A where e_r >= A, else a_root; 0 where it came later.  Clocked only.
 *               A rank that was inside only because its data took that long is wronged by its wire at most
 *
 * A rank without any collective on a lane takes no part in that lane.  A collective that is not on all
 * ranks of its lane, that is another one there, that a rank left before the
 * last one came, or that no estimate can tell apart is *unsplit*: counted, never guessed.
 */
#ifndef SFSCALE_REPORT_MATCH_H
#define SFSCALE_REPORT_MATCH_H

#include "bench/base/record.h"

#include <stdbool.h>

enum { MATCH_LANES = 8 };		/* collectives on lanes from here on are not matched */
#define MATCH_UNALIGNED INT64_MAX	/* a bound: the clock has nothing to do with the others */
#define MATCH_STAMP_NS 100		/* what two stamps of one clock may be apart: two ties and rounding */
#define MATCH_BOUND_SHARE 0.2		/* a clock whose bound is more of the longest wait cannot tell it */

/* The clock of a rank's events, after they were mapped to the common time. */
struct match_clock {
	uint32_t group;		/* ranks of one group share a clock */
	int64_t bound_ns;	/* how wrong the mapping may be against other groups */
	int64_t device_ns;	/* how wrong, besides, what a device has stamped: collectives of other lanes than the training thread's,
				 * where that only launches */
};

struct stay {
	int64_t begin_ns, end_ns;	/* end before begin: the rank was not there */
};

enum split {
	SPLIT_CLOCKED,
	SPLIT_CLOCK_FREE,
	SPLIT_UNMATCHED,	/* from here on unsplit: missing on a rank, or another collective there */
	SPLIT_CONTRADICTION,	/* a rank left before the last one came, or the estimates exclude each other */
	SPLIT_UNCLEAR,		/* the clocks are too far apart, and no other estimate holds */
	SPLIT_COUNT
};
extern const char *const split_names[SPLIT_COUNT];

enum { NO_COLLECTIVE = UINT32_MAX };

struct collective {
	uint64_t bytes;
	uint32_t name;		/* enum span_id */
	uint32_t iter, seq;
	uint16_t lane;
	bool other;		/* not the same on all ranks of its lane */
	enum split split;
	uint32_t last;		/* rank that came last; clock-free: the shortest stay */
	uint32_t root;		/* of a rooted one, else `last` */
	uint32_t sync;		/* the latest symmetric one before it that held those together, on all its ranks, who came to it */
	uint32_t rooted;	/* the latest rooted one between the two */
	int64_t late_ns;	/* `last` after the rank before it */
	int64_t bound_ns;	/* of the waits' error */
	int64_t last_ns, root_ns;	/* when they came; clock-free: last_ns is the shortest stay */
};

struct match {
	size_t ranks;
	struct strip {
		struct stay *at[MATCH_LANES];	/* by seq; owned */
		size_t count[MATCH_LANES];
		struct match_clock clock;
	} *strips;			/* owned; by rank */
	struct collective *list;	/* owned; lane after lane, by seq */
	size_t count;
	size_t first[MATCH_LANES + 1];	/* index of a lane's seq 0 */
	size_t room[MATCH_LANES];
	struct collective *known[MATCH_LANES];	/* while ranks are added */
	uint32_t *order;	/* owned; the matched ones in the order of begins on the first rank of their lane */
	size_t order_count;
	bool whole;		/* every rank was added */
	bool ahead;		/* training threads only launch, and run ahead of their devices */
	int64_t device_ns;	/* the greatest of their clocks */
	size_t added;
	size_t left_out;		/* collectives of a lane or a seq that cannot be */
};

int match_open(struct match *, size_t ranks);
/* Events of rank `rank`, in the common time.  Ranks that are never added miss everything. */
int match_add(struct match *, size_t rank, const struct event *events, size_t count, struct match_clock);
/* When all ranks are there.  Each rank is added once at most; while one is missing, nothing is split. */
int match_solve(struct match *);
void match_release(struct match *);

/* What two stamps of one clock may be apart, in a collective of this lane. */
int64_t match_stamp_ns(const struct match *, size_t lane);

/* The collective that this event is; NULL: none, or one left out. */
const struct collective *match_find(const struct match *, const struct event *);
static inline uint32_t match_index(const struct match *m, const struct collective *c)
{
	return (uint32_t)(c - m->list);
}
static inline bool match_is_split(const struct collective *c)
{
	return c->split <= SPLIT_CLOCK_FREE;
}
/* Whether the rank takes part in the lane. */
static inline bool match_member(const struct match *m, size_t lane, size_t rank)
{
	return m->strips[rank].count[lane];
}
/* Where rank `rank` was in it; not there: end before begin. */
static inline struct stay match_stay(const struct match *m, const struct collective *c, size_t rank)
{
	const struct strip *s = &m->strips[rank];

	return c->seq < s->count[c->lane] ? s->at[c->lane][c->seq] : (struct stay){ 0, -1 };
}
/* Whether it holds training threads alone, while their devices work on. */
static inline bool match_is_aside(const struct match *m, const struct collective *c)
{
	return m->ahead && c->lane == 0;	/* the training thread's */
}
/* Whom this rank waited for in one that is split; may be itself. */
static inline uint32_t match_awaited(const struct match *m, const struct collective *c, size_t rank)
{
	return c->root == c->last || match_stay(m, c, rank).end_ns >= c->last_ns ? c->last : c->root;
}
/* Of one that is split; 0 <= wait <= the stay. */
int64_t match_wait_ns(const struct match *, const struct collective *, size_t rank);

/* Whether this event of `rank` is a collective that is split, and if so where it stops waiting and begins to move. */
bool match_moves_ns(const struct match *, size_t rank, const struct event *, int64_t *at_ns);

#endif
