/*
 * report/blame.h - who made each wait, and with what.
 *
 * Rank r waits w ns in a collective for rank q.  Both left the collective before it together, and
 * since then both did the same rows of the step; so q came later because it spent more time in some of them.
 * With Q_k and R_k the time that q and r spent in cause k between their leaving that earlier
 * collective and their coming to this one,
 *
 *	w = sum over k of (Q_k - R_k)
 *
 * in integers, when what is left over (q left the earlier collective later) counts as wire.  The wait
 * is shared out over the causes in which q spent more, in proportion to their excess.
 *
 * What q is doing *while* r waits is something else and would mislead: a rank whose loader was
 * 30 ms late computes while the others wait for it.
 *
 * What r had waited for q since that earlier collective, it has blamed already: that is taken off the excess first.  (A rank whose
 * loader is late is waited for in the first bucket; where its second bucket is late too, because the network was, that is
 * not the loader's once more.)
 *
 * Where training threads run ahead of their devices, Q_k and R_k are of the devices, and in a collective of the training
 * threads alone (the loss) r's goes on while r waits: there R_k is all until q came, and w what of the wait is exposed.
 *
 * What q did itself explains the wait first.  Where that is not enough, because q in its turn waited
 * for a rank with which r had nothing to do (on a lane of some ranks only), the rest goes on to
 * whom q waited for, and so on to the root; the chain of ranks is kept.
 *
 * Only exposed wait is blamed, the nanoseconds that the account gives to CLS_COMM_WAIT: where two
 * waits of a rank overlap, the one begun first has them.  The shares of a wait sum to it, so
 * the sum over all causes is the sum of all waits, in integers.
 */
#ifndef SFSCALE_REPORT_BLAME_H
#define SFSCALE_REPORT_BLAME_H

#include "report/decompose.h"

/* Causes, in the order in which they are shown: name, title, colour, meaning. */
#define CAUSES(X) \
	X(loader, "loader", "#e69f00", "it waited longer for a batch") \
	X(compute, "compute", "#0072b2", "it computed longer") \
	X(copy, "copy", "#f0e442", "it copied longer into the network's input") \
	X(boundary, "boundary", "#cc79a7", "it stopped and started workers, sampled, evaluated or saved longer") \
	X(host, "host", "#999999", "it launched, logged or synchronised longer, or started later") \
	X(wire, "wire", "#009e73", "it moved data longer, or left the collective before this one later") \
	X(unknown, "unknown", "#333333", "it was longer in no known range, or in an unsplit collective")

enum cause {
#define CAUSE_ENUM(name, title, colour, meaning) CAUSE_##name,
	CAUSES(CAUSE_ENUM)
#undef CAUSE_ENUM
	CAUSE_COUNT
};
struct cause_row {
	const char *name, *title, *colour;
};
extern const struct cause_row cause_rows[CAUSE_COUNT];

enum { CHAIN_MAX = 4 };		/* ranks kept of a chain; of a longer one the first ones and the root */

/* One cause: the ranks from the one that was waited for to the one that made it wait. */
struct origin {
	uint32_t chain[CHAIN_MAX];	/* chain[length - 1] is the root */
	uint32_t length;
	enum cause cause;
	int64_t ns;
};

struct origins {
	struct origin *at;	/* owned */
	uint32_t *slots;	/* owned; index + 1 by hash, of long lists; NULL: look through */
	size_t count, room;
};

/* The waits of one rank. */
struct blame {
	int64_t wait_ns;			/* exposed */
	struct origins origins;			/* sum of ns: wait_ns */
};

/* Of one rank: the moments between which it is looked at, and its waits. */
struct course {
	int64_t begin_ns, end_ns;	/* of its account */
	struct piece *pieces;		/* owned; its waits, made disjoint; ascending */
	size_t piece_count;
};

/* What ranks did for which others waited. */
struct courses;

int courses_open(struct courses **, const struct match *);
void courses_close(struct courses *);

int course_make(struct course *, const struct match *, size_t rank, int64_t begin_ns, int64_t end_ns);
void course_release(struct course *);
/* First for every rank that somebody waits for, with a ledger of its events, collectives split,
 * over its course; by several threads at a time ... */
bool courses_wanted(const struct courses *, size_t rank);
int courses_add(struct courses *, size_t rank, const struct course *, struct ledger *);
/* ... then once ... */
int courses_trace(struct courses *);
/* ... and then the waits of any rank; by several threads at a time. */
int blame_make(struct blame *, const struct courses *, size_t rank, const struct course *, struct ledger *);
void blame_release(struct blame *);

/* Adds `ns` to the origin with this chain and cause. */
int origins_add(struct origins *, const struct origin *);
void origins_release(struct origins *);

/* Shares `total` out in proportion to weights (>= 0), in integers; the shares sum to `total` where any weight
 * is above 0, and are 0 otherwise. */
void apportion(int64_t total, const int64_t *weights, size_t n, int64_t *shares);

#endif
