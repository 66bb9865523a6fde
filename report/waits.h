/*
 * report/waits.h - what the ranks of one run waited for, added up.
 *
 * In: its matched collectives (report/match.h) and the blamed waits of each rank (report/blame.h).
 *
 * Late by chance or persistently.  In each iteration the collective is taken in which the last rank
 * came latest after the one before it; that rank is the late one of the iteration.  If lateness fell on
 * equal ranks by chance, each would be the late one in 1 of `ranks` iterations, so its number of times among
 * n iterations were binomial(n, 1/ranks).  A rank is called persistent when so many times or more have a
 * probability below 1 % / (2 ranks), and else late at epoch starts when that holds for the first iterations of epochs
 * alone: two tests per rank, so one false alarm in a hundred runs (Bonferroni).
 */
#ifndef SFSCALE_REPORT_WAITS_H
#define SFSCALE_REPORT_WAITS_H

#include "bench/base/stats.h"
#include "report/blame.h"

/* The collectives of one name, over all ranks. */
struct call_sum {
	size_t calls, splits[SPLIT_COUNT];	/* collectives, not calls of ranks */
	int64_t bytes;				/* of one rank */
	int64_t stay_ns, wait_ns, wire_ns;	/* sum of wait and wire and unsplit: stay */
	int64_t unsplit_ns;
	struct summary late_ns;			/* last rank after the one before it, over clocked calls */
	int64_t bound_ns;			/* greatest */
};

enum late_verdict { LATE_BY_CHANCE, LATE_AT_STARTS, LATE_PERSISTENTLY, LATE_VERDICTS };
extern const char *const late_verdicts[LATE_VERDICTS];

/* One rank as the others see it. */
struct lateness {
	size_t times, times_first;	/* the late one; of these, in the first iteration of an epoch */
	double chance, chance_first;	/* probability of so many times, or more, by chance */
	enum late_verdict verdict;
	int64_t induced_ns[CAUSE_COUNT];	/* waits of others that it is the root of */
	int64_t first_ns, all_ns;	/* waiting for it, exposed or not: in first iterations, in all */
};

struct pair {
	uint32_t waiter;
	struct origin origin;
};

struct waits {
	size_t ranks;
	int64_t wait_ns, induced_ns[CAUSE_COUNT];	/* sum of induced: wait */
	int64_t chained_ns;		/* of that, through waits of others */
	struct call_sum calls[SPAN_COUNT];
	struct lateness *late;		/* owned; by rank */
	size_t judged, judged_first;	/* iterations that have a late rank */
	struct pair *pairs;		/* owned; by waiter, until they are sorted */
	size_t pair_count, pair_room;
	size_t left_out;		/* collectives that no key fits */
};

int waits_open(struct waits *, size_t ranks);
/* `first[i]` says whether iteration i < `iterations` is the first of its epoch. */
int waits_judge(struct waits *, const struct match *, const bool *first, size_t iterations);
int waits_add(struct waits *, size_t waiter, const struct blame *);
void waits_sort(struct waits *);	/* pairs: the longest first */
void waits_release(struct waits *);

/* Chances and verdict of one rank, its times being known. */
void lateness_judge(struct lateness *, size_t judged, size_t judged_first, size_t ranks);

/* P(X >= k), X binomial(n, p). */
double binomial_tail(size_t n, size_t k, double p);

#endif
