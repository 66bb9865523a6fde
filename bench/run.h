/*
 * bench/run.h - what the files of `sfscale run` share: its options, all that a rank owns, and who makes it.
 *
 * run.c is the page to read: options, join, set up, step, conclude.  run_parts.c opens what the step
 * works with, from what the options say; run_folder.c writes what the run leaves behind.
 */
#ifndef SFSCALE_BENCH_RUN_H
#define SFSCALE_BENCH_RUN_H

#include "bench/base/clock.h"
#include "bench/base/file.h"
#include "bench/base/opt.h"
#include "bench/base/span.h"
#include "bench/inject.h"
#include "bench/multigrid.h"
#include "bench/place.h"
#include "bench/plan.h"
#include "bench/step.h"
#include "bench/validate.h"
#include "comm/comm.h"
#include "kernels/kernels.h"
#include "kernels/schedule.h"
#include "loader/loader.h"

#include <stdbool.h>
#include <stdint.h>

struct run_options {
	const char *out, *init, *resume, *data, *net, *linspace, *multigrid, *kernels, *precision, *comm, *policy, *buckets, *eval_frames;
	const char *pixels, *nccl, *gradients, *profile, *tuning, *emulate_kernels, *emulate_loader, *on_corrupt;
	uint64_t crop, frames, clips, emulate_ranks, epochs, iterations, workers, prefetch, seed, threads, nodes, log_period;
	uint64_t checkpoint_period, eval_period, eval_seconds;
	uint64_t bucket_bytes, first_bucket_bytes, emulate_start_ms;
	double nccl_timeout_s, hang_s, emulate_storage_ms, lr, lr_clips, warmup_lr, warmup_epochs, momentum, weight_decay, dropout;
	bool overlap, nesterov, bn_broadcast, bind, one_gpu, graph;
	struct opt_names inject;
};

enum { LANE_TRAIN, LANE_COMM, LANE_COMPUTE, LANE_COPY };	/* the last two with a device; then one for each loader worker */

/* All that a rank owns; zero is closed. */
struct run {
	struct run_options o;
	char started[CLOCK_UTC_BYTES];
	struct place place;
	struct comm *comm;
	struct comm_clock *clock;
	struct multigrid grid;
	struct stage {			/* a phase of it */
		const struct multigrid_phase *phase;
		struct net nets[MULTIGRID_TURNS_MAX];
		struct kernels *kernels[MULTIGRID_TURNS_MAX];
	} stages[2], *stage;		/* this one, and the next while the state moves */
	struct net net;			/* of full size */
	struct bucket_plan buckets;
	const struct kernel_backend *backend;
	char *tuning;		/* that the kernels are opened with; NULL: none */
	struct kernels *kernels;	/* borrowed: of the stage, those of its last turn */
	size_t iterations, batches;	/* of all epochs, for each rank */
	struct loader *loader;
	void *pinned;		/* its memory, where the kernels have pinned it; NULL: they have not */
	struct validation *validation;	/* NULL: there is none */
	struct comm_lane *comm_lane;
	struct recorder *recorder;
	struct lane **worker_lanes;	/* owned; borrowed by the loader */
	struct injections injections;
	struct schedule schedule;
	struct span_cost event_cost;
	struct step step;
	cJSON *options;			/* owned; every option by name */
	cJSON *identity;		/* owned; options and ranks: what checkpoints say of the run */
	char resumed[PATH_BYTES];	/* the checkpoint's file; empty: the run begins at its beginning */
	uint64_t first_epoch;
	char *changes;			/* owned; what is not as in the run that wrote it; NULL: nothing */
	char run_json[PATH_BYTES];
	char id[17];		/* of this run, in run.json and in every record */
	bool has_folder;	/* run.json is ours */
	char *command;		/* owned */
};

/* ---- run_parts.c ---- */

/* Everything but files; `options` is there. */
int run_set_up(struct run *);
void run_parts_release(struct run *);

/* What the step works with from now on: loader and networks of the phase that is open. */
void run_use_stage(struct run *);
/* In front of an epoch: opens the phase that it belongs to, where that is another.  A step's `change`. */
int run_change_stage(void *run, uint64_t epoch);

unsigned run_kernel_threads(const struct run *);

/* Lanes that are not workers'. */
static inline size_t run_fixed_lanes(const struct run *r)
{
	return r->backend->on_device ? LANE_COPY + 1 : LANE_COMM + 1;
}

enum { EMULATED_BYTES = 128 };
/* What was not measured but made up, for `text`; false: nothing. */
bool run_emulated(const struct run_options *, char text[EMULATED_BYTES]);

/* ---- run_folder.c ---- */

/* Rank 0 makes the folder its own; all ranks go on, or none does. */
int run_share_folder(struct run *);
/* This rank's record, its lanes, and those of the loader. */
int run_open_record(struct run *);
/* run.json, as far as all is known; `reason` may be NULL. */
int run_write_json(const struct run *, const char *status, const char *reason);

#endif
