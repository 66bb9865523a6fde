/*
 * loader/stage.h - what the time of a batch in the making goes to, and which part of it bounds a loader.
 *
 * A maker's stamps form a chain: each stage ends where the next one begins, so the stages of a batch sum
 * to its whole time, in ticks.  Three stamps a frame; a frame takes some ten thousand times as long.
 */
#ifndef SFSCALE_LOADER_STAGE_H
#define SFSCALE_LOADER_STAGE_H

#include "bench/base/clock.h"

#include <stddef.h>
#include <stdint.h>

enum loader_stage {
	STAGE_STORAGE,		/* opening and reading a file, until its bytes are there */
	STAGE_DECODE,		/* from JPEG to pixels */
	STAGE_TRANSFORM,	/* scaling, cropping, normalising, both pathways */
	STAGE_HAND_OVER,	/* the rest: boxes, the order of the epoch, telling the training thread */
	STAGE_COUNT
};
extern const char *const loader_stage_names[STAGE_COUNT];	/* "storage", "decode", "transform", "hand-over" */

struct stage_clock {
	uint64_t since;
	uint64_t ticks[STAGE_COUNT];
};

static inline void stage_start(struct stage_clock *c, uint64_t now)
{
	*c = (struct stage_clock){ .since = now };
}

/* All since the last stamp was this stage's. */
static inline void stage_end(struct stage_clock *c, enum loader_stage stage)
{
	uint64_t now = clock_ticks();

	c->ticks[stage] += now - c->since;
	c->since = now;
}

/* ---- the verdict ----------------------------------------------------------------------- */

/* What is known of a loader over some stretch of time.  Units are the caller's: ns, or ticks. */
struct loader_account {
	double wall;		/* of the training thread, all ranks */
	double stall;		/* of that, waiting for batches with nothing else to do */
	double head_of_line;	/* of the stall, while a later batch than the one that is due was ready */
	double handing;		/* of the stall, while the batch that is due was ready itself */
	double capacity;	/* time that the makers had: wall x workers */
	double stages[STAGE_COUNT];	/* of all batches; sum: the time in which makers made batches */
	double cpu;		/* of that, on a core; NaN: not known */
};

enum loader_bound {
	BOUND_NOTHING,		/* the loader keeps up */
	BOUND_HANDING,		/* batches were there: the training thread did not get them in time */
	BOUND_STAGE,		/* the makers were busy: their greatest stage; see `stage` */
	BOUND_ORDER,		/* batches were ready, but not the one that was due */
	BOUND_UNEVEN,		/* the makers had time to spare, only not when it counted */
};

struct loader_verdict {
	enum loader_bound bound;
	enum loader_stage stage;	/* the greatest one */
	double stall_percent, busy_percent, stage_percent, on_core_percent;
	const char *name;		/* "nothing", "decode", ..., "order", "unevenness" */
};

/* The rule, in this order: a stall below 1 % of the time is none; one during half of which the batch was there is
 * bound by handing over; makers that were busy for three quarters of their time are bound by their greatest stage; a stall of
 * which half or more is head-of-line waiting is bound by the order of delivery; any other by unevenness. */
struct loader_verdict loader_judge(const struct loader_account *);
/* How it was decided, as one clause of a sentence; returns `out`. */
const char *loader_verdict_text(const struct loader_verdict *, char out[256]);

#endif
