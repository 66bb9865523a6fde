/*
 * loader/loader.h - batches of clips, from an AVA data set, by one of several policies.
 *
 * A policy says who makes a batch (this process, worker processes, threads) and how long the
 * makers live.  All policies deliver the same samples in the same order: what a batch holds
 * depends on (seed, epoch, rank, batch number) alone.  The loader knows nothing of the
 * network, and of other ranks only their number.
 */
#ifndef SFSCALE_LOADER_LOADER_H
#define SFSCALE_LOADER_LOADER_H

#include "bench/base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The names of the policies, as a row of options wants its choices. */
#define LOADER_POLICIES "inline|respawn|fork|persistent|threads|null"
/* Likewise of the forms of a clip; config.crops for the value of such an option. */
#define LOADER_PIXELS "fp32|uint8"
static inline bool loader_crops(const char *pixels)
{
	return !strcmp(pixels, "uint8");
}

/* As published for crop 224: short side drawn from 256 to 320, every second frame of the window. */
enum { LOADER_CROP = 224, LOADER_SCALE_MIN = 256, LOADER_SCALE_MAX = 320, LOADER_RATE = 2 };

/* A side that is published for crop 224, for another crop. */
static inline size_t loader_scaled(size_t crop, size_t side)
{
	return crop * side / LOADER_CROP;
}

enum { LOADER_TURNS_MAX = 3 };

struct loader_config {
	const char *data;	/* folder of the data set; unused by policy "null" */
	const char *policy;	/* one of LOADER_POLICIES */
	size_t workers;		/* per rank; policies that have none ignore it; 0: the training thread loads, as "inline" */
	size_t prefetch;	/* batches in flight per worker; 2 as in PyTorch */
	size_t clips;		/* per batch */
	size_t frames;		/* of the fast pathway */
	size_t alpha;
	size_t rate;		/* every rate-th frame of the window */
	bool old_linspace;	/* see net_shown_frame() */
	bool crops;		/* a batch has crops of bytes, for the kernels to finish, instead of both pathways' tensors */
	size_t crop;
	size_t scale_min, scale_max;	/* short-side jitter, inclusive */
	struct loader_turn {		/* batches take turns in their crops; an epoch has whole rounds of turns */
		size_t crop, scale_min;	/* none larger than above */
		size_t batches;		/* of each rank, one after the other */
	} turns[LOADER_TURNS_MAX];
	size_t turn_count;		/* 0: all batches are alike */
	uint64_t seed;
	size_t rank, world;
	size_t ranks;		/* that this loader delivers for, from `rank` on: in each iteration a batch of each, in
				 * turn, as their own loaders would; 0: one */
	size_t epochs;		/* a policy that prefetches over the epoch boundary must know where to stop */
	size_t iterations_max;	/* batches per epoch at most; 0: what the data set gives */
	uint64_t storage_ns;	/* emulated storage: each frame's file takes that much longer to come; 0: not */
	bool skip_damaged;	/* a clip that shows a damaged frame is counted and replaced by the next one of the data set, rather
				 * than the end of the run */
	uint64_t hang_ns;	/* a worker that reads no frame for so long while its batch is waited for hangs; 0: wait for ever */
	uint64_t start_ns;	/* policy "respawn": emulated time that a worker takes to start, as an interpreter does */
	const char *emulate;	/* policy "null": distribution of the time per batch (bench/base/dist.h); NULL: none */
};

/* One batch; valid until the next loader_next() or loader_close(). */
struct clip_batch {
	size_t clips, boxes;		/* N, R */
	const float *slow;		/* (N,3,T/alpha,H,W), borrowed; NULL with config.crops */
	const float *fast;		/* (N,3,T,H,W), borrowed; likewise */
	const uint8_t *crops;		/* (N,T,H,W,3), RGB, borrowed; NULL without */
	const float *rois;		/* (R,5): clip in the batch, x1, y1, x2, y2 in pixels of the crop */
	const float *labels;		/* (R,80): 0 or 1 */
	const int64_t *meta;		/* (R,2): video index, second */
	size_t bytes;			/* slow + fast, or crops */
};

struct loader;

/* Reads the index, makes what lives for the whole run.  FAILED (said) when the data set is
 * absent or broken, USAGE when the configuration cannot work (more ranks than
 * clips, say). */
int loader_open(struct loader **, const struct loader_config *);
size_t loader_iterations(const struct loader *);	/* per epoch: batches of each rank */
size_t loader_batches(const struct loader *);		/* likewise, as many as the data set gives */
size_t loader_boxes_max(const struct loader *);		/* no batch has more boxes */

/* `lane` gets SPAN_WORKERS_*, SPAN_SAMPLER, SPAN_QUEUE_DEPTH; `worker_lanes` (config.workers of
 * them, or NULL) SPAN_MAKE_BATCH and what belongs to it; without workers `lane` gets that as well.  Call before the first
 * epoch; NULL: not recorded. */
void loader_lanes(struct loader *, struct lane *lane, struct lane *const *worker_lanes);

/* Where all batches lie, slow or fast, crops, rois and labels: for a device that wants to know before it fetches any.  Borrowed until
 * loader_close(). */
void *loader_memory(const struct loader *, size_t *bytes);

/* Epochs in turn, each read to its end; the first may be any (a run that is resumed). */
int loader_epoch_begin(struct loader *, size_t epoch);
/* The next batch of the epoch, waiting for it.  FAILED (said) names the file, or the worker that died. */
int loader_next(struct loader *, struct clip_batch *);

/* Over the samples delivered so far in this epoch, each with its rank and its place in that rank's order: equal
 * for all policies, and for many ranks the sum of theirs. */
uint64_t loader_checksum(const struct loader *);

/* Clips that were replaced so far in this epoch. */
size_t loader_skipped(const struct loader *);

/* Ends workers and frees all; also after a failure.  No process, thread or shared segment stays; but a
 * thread that hangs cannot be ended, and keeps its memory until the process ends. */
void loader_close(struct loader *);

/* The hidden command by which the policy "respawn" starts a worker: argv as it was made by it. */
int loader_worker_main(int argc, char **argv);

#endif
