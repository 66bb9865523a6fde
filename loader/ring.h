/*
 * loader/ring.h - batches on their way from those who make them to the one who uses them.
 *
 * Batches are counted over all epochs and ranks, 0, 1, 2, ...; batch b lies in slot b mod slots.  Slots are
 * in memory that may be shared (then an anonymous file), so makers may be threads, forked processes or programs
 * of their own.  There is no lock: a maker waits until its slot was released, the user until the
 * batch is ready, both on futexes, so a maker that is killed leaves nothing locked behind.
 */
#ifndef SFSCALE_LOADER_RING_H
#define SFSCALE_LOADER_RING_H

#include "loader/clip.h"
#include "loader/loader.h"
#include "loader/usage.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All that a maker must know besides the index; the same in every process. */
struct batch_plan {
	struct clip_geometry geometry;	/* of the largest batches */
	struct loader_turn turns[LOADER_TURNS_MAX];
	size_t turn_count;
	bool crops;			/* bytes rather than tensors */
	size_t clips;			/* per batch */
	size_t boxes_max;		/* of a batch */
	size_t examples;		/* of the data set */
	size_t iterations;		/* per epoch: batches of each rank */
	size_t rank, world;
	size_t ranks;			/* served, from `rank` on */
	uint64_t seed;
	uint64_t storage_ns;		/* emulated: that much longer each file takes to come */
	size_t slots;
	bool skip_damaged;		/* a clip that shows a damaged frame is replaced by the next one of the data set */
	uint64_t start_ns;		/* emulated: what a worker program takes to start */
};

/* Where batch `b` belongs. */
struct batch_place {
	size_t epoch, iteration, rank;
};

static inline size_t batch_plan_per_epoch(const struct batch_plan *p)
{
	return p->iterations * p->ranks;
}

static inline struct batch_place batch_plan_place(const struct batch_plan *p, uint32_t b)
{
	return (struct batch_place){ b / batch_plan_per_epoch(p), b / p->ranks % p->iterations, p->rank + b % p->ranks };
}

/* Batches of each rank in a round of turns. */
static inline size_t batch_plan_round(const struct batch_plan *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->turn_count; i++)
		n += p->turns[i].batches;
	return n ? n : 1;
}

/* How the clips of batch `b` look. */
static inline struct clip_geometry batch_plan_geometry(const struct batch_plan *p, uint32_t b)
{
	struct clip_geometry g = p->geometry;
	size_t at = batch_plan_place(p, b).iteration % batch_plan_round(p), i = 0;

	if (!p->turn_count)
		return g;
	for (; at >= p->turns[i].batches; i++)
		at -= p->turns[i].batches;
	g.crop = p->turns[i].crop;
	g.scale_min = p->turns[i].scale_min;
	return g;
}

enum { RING_WHY_BYTES = PATH_BYTES + 256 };

/* Head of a slot; its arrays lie behind it. */
struct ring_slot {
	_Atomic uint32_t ready;		/* futex: batch + 1 when it is there */
	uint32_t failed;
	uint32_t worker;
	uint32_t boxes;
	uint32_t skipped;		/* clips that were replaced; `why` has the reason of the latest */
	_Atomic uint32_t beat;		/* moves with every frame of the batch in the making */
	uint64_t t0_ticks, t1_ticks;	/* begun and done */
	uint64_t stage_ticks[STAGE_COUNT];	/* sum: t1 - t0 */
	struct usage usage;		/* of the worker: its memory before t0, its CPU time at t1 */
	char why[RING_WHY_BYTES];	/* when it failed, or a clip was skipped */
};

struct ring_control {
	struct batch_plan plan;
	_Atomic uint32_t turn;		/* futex: moves with every release, and with stop */
	_Atomic uint32_t released;	/* batches below are used up */
	_Atomic uint32_t stop;
	_Atomic uint64_t rebuild_ticks;	/* when the latest of those came to read its index */
	_Atomic uint32_t up;		/* futex: workers that were started one by one and have their index */
};

/* One slot as pointers. */
struct ring_batch {
	struct ring_slot *slot;
	uint32_t *examples;		/* (N) */
	int64_t *meta;			/* (R,2) */
	float *rois, *labels;		/* (R,5), (R,80) */
	float *slow, *fast;		/* NULL where the plan says crops; else */
	uint8_t *crops;			/* NULL */
	size_t slow_values, fast_values;	/* of one clip; of its crops as many as of the fast pathway */
	size_t clip_bytes;		/* of these */
};

struct ring {
	int fd;				/* owned; -1: memory of this process alone */
	uint8_t *base;			/* owned mapping */
	size_t bytes, slot_bytes;
	struct ring_control *control;	/* at `base` */
};

/* `shared`: processes are to make the batches, not threads of this one alone. */
int ring_open(struct ring *, const struct batch_plan *, bool shared);
/* The same ring from its file, in another program.  Takes `fd` over. */
int ring_attach(struct ring *, int fd);
void ring_close(struct ring *);

struct ring_batch ring_batch(const struct ring *, uint32_t b);

/* Makers.  False: stop. */
bool ring_wait_free(const struct ring *, uint32_t b);
void ring_deliver(const struct ring *, uint32_t b);

/* The user. */
bool ring_is_ready(const struct ring *, uint32_t b);
bool ring_wait_ready(const struct ring *, uint32_t b, uint64_t timeout_ns);
size_t ring_depth(const struct ring *, uint32_t b);	/* batches ready of those in flight from `b` on */
void ring_release(const struct ring *, uint32_t b);	/* all below `b` */
void ring_stop(const struct ring *);

/* Sleeps while *word is `seen`, at most timeout_ns (0: for ever). */
void ring_futex_wait(_Atomic uint32_t *word, uint32_t seen, uint64_t timeout_ns);
void ring_futex_wake(_Atomic uint32_t *word);

#endif
