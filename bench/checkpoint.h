/*
 * bench/checkpoint.h - the state of a run behind an epoch, in a file, and a run that goes on from there.
 *
 * A checkpoint is a file of kernels/weights.h with model and momentum, and beside them "epoch" (the
 * last one that is finished, from 0, as in PySlowFast's files) and "options" (those of `run`, as JSON,
 * and "ranks").  Nothing else is needed: the order of samples, the transforms and the learning rate
 * follow from seed, rank and epoch, and the dropout masks from the count that batch norm keeps.  So
 * a run that goes on, on as many ranks and with the same options, ends with the same bits.  Running
 * statistics are rank 0's: where ranks keep their own (--bn-broadcast off), those of the others begin
 * again from rank 0's, which no weight depends on.
 *
 * Files are written beside and renamed: a kill at any moment leaves the last good one.
 */
#ifndef SFSCALE_BENCH_CHECKPOINT_H
#define SFSCALE_BENCH_CHECKPOINT_H

#include "bench/base/file.h"
#include "kernels/kernels.h"

/* Below the run folder; the number is that of finished epochs. */
#define CHECKPOINT_FOLDER "checkpoints"
#define CHECKPOINT_FILE "checkpoint_epoch_%05zu.safetensors"

/* Where, how often, and what of the run goes along; all borrowed. */
struct checkpoint_plan {
	const char *run_folder;
	size_t period;		/* epochs between two; behind the last epoch there is one in any case; 0: none at all */
	const cJSON *options;
};

/* Behind `epochs` finished epochs, 1 or more. */
int checkpoint_write(const struct checkpoint_plan *, size_t epochs, struct kernels *);

/* A file as it is named; of a run folder, the newest of its checkpoints. */
int checkpoint_find(char path[PATH_BYTES], const char *from);

/* What a checkpoint knew of the run that wrote it. */
struct checkpoint {
	size_t epochs;		/* finished */
	cJSON *options;		/* owned; NULL: the file has none */
};

/* Weights, momentum and statistics into the net; FAILED (said) when one is missing or of another shape, or when the
 * file does not say which epoch it is. */
int checkpoint_read(struct checkpoint *, const char *path, struct kernels *);
void checkpoint_release(struct checkpoint *);

/* "lr 0.1 is now 0.2, ...", or that it does not say: options that the results depend on and that are not what they were.  Owned by the caller;
 * NULL: there are none. */
char *checkpoint_changes(const struct checkpoint *, const cJSON *options);

#endif
