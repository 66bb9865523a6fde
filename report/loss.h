/*
 * report/loss.h - what more nodes lose, and where it went.
 *
 * From n to 2n nodes an iteration should take s T(n), where s is what becomes of a node's
 * share of clips: 1 in weak scaling, 1/2 in strong.  The loss T(2n) - s T(n) is the sum over
 * all parts of the same difference, so it names its causes.
 *
 * T is the wall time of the run per iteration, boundaries included.  The parts are means over
 * ranks; what the slowest rank takes beyond that mean is a part of its own, the skew.  All are
 * means over runs, as only means add up; tables of rates have medians, and may differ by that.
 */
#ifndef SFSCALE_REPORT_LOSS_H
#define SFSCALE_REPORT_LOSS_H

#include "report/curve.h"

/* The groups (report/curve.h), and what is not in them. */
enum { TERM_SKEW = GROUP_COUNT, TERM_TOTAL, TERM_COUNT };
const char *term_title(int term);
const char *term_colour(int term);

struct term {
	double from_ms, ideal_ms, to_ms;	/* per iteration, means over the runs */
	double loss_ms;				/* to_ms - ideal_ms */
	double min_ms, max_ms;			/* of the same over all pairs of one run here and one there */
	struct interval ci_ms;			/* exists from 6 runs on either side */
};

/* Does the cause grow with scale?  The slowest of 2n ranks is the slowest of one half or of the
 * other, so however the delays of ranks are distributed, their mean maximum over 2n is at most
 * twice that over n, as long as the distribution stays the same. */
enum verdict { VERDICT_WITHIN, VERDICT_UNDECIDED, VERDICT_BEYOND };
extern const char *const verdict_names[];	/* "within", "undecided", "beyond" */

struct loss {
	const struct point *from, *to;		/* of one variant, with at least one run each */
	double ideal;				/* s: clips of a node there / clips of a node here */
	struct term terms[TERM_COUNT];		/* all but the last sum up to it */
	size_t times;				/* ranks there / ranks here, rounded up */
	struct term excess;			/* T(there) - times x T(here): loss_ms above 0 is beyond */
	enum verdict verdict;			/* beyond: the whole interval is, or without one all pairs of runs */
};

/* What `to` is compared with: half its nodes, or where that was not measured the next fewer;
 * NULL for the fewest, and for a point without runs. */
const struct point *loss_from(const struct curve *, const struct point *to);

/* In steady scope T is the mean over ranks of a steady iteration, without boundaries or skew.
 * Points whose runs have no such iterations give NaN. */
int loss_make(const struct point *from, const struct point *to, enum scope, struct loss *);

/* The factors of POP (Rosas, Gimenez, Labarta 2014).  useful_r is the time in which rank r
 * computes, T the wall time of the slowest rank; sums over runs, so the products hold exactly:
 * load_balance x communication = parallel, serialisation x transfer = communication. */
struct pop {
	double load_balance;	/* mean over ranks of useful / its maximum */
	double communication;	/* max useful / T */
	double serialisation;	/* max useful / T_ideal; T_ideal: T without the wire time of the rank of most useful */
	double transfer;	/* T_ideal / T */
	double parallel;	/* mean useful / T */
	double computation;	/* useful per clip of the base / useful per clip here */
	double global;		/* parallel x computation; global / that of the base = efficiency of the means */
};

/* serialisation and transfer are NaN where waiting and moving are not told apart. */
void pop_make(const struct point *, struct pop *);

#endif
