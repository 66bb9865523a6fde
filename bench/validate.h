/*
 * bench/validate.h - what the network has learned: frame-mAP on the validation split.
 *
 * Frames are looked at as PySlowFast does while it trains (the middle of each, square), or as in its test afterwards
 * (whole): then videos of each size get a network of their own for as long as they are evaluated, with the same state.
 *
 * Ranks share the keyframes without shuffling and without filling up: rank r of W takes r, r + W, ...
 * PySlowFast's sampler fills up, so that a few detections count twice there, as false ones.
 *
 * Rank 0 leaves detections.csv and groundtruth.csv of the latest validation in the run folder
 * and evaluates what it has written, so that `sfscale eval` on them gives the same number.
 */
#ifndef SFSCALE_BENCH_VALIDATE_H
#define SFSCALE_BENCH_VALIDATE_H

#include "bench/base/span.h"
#include "comm/comm.h"
#include "kernels/kernels.h"
#include "loader/clip.h"

#include <stddef.h>

struct validation_config {
	const char *data, *out;		/* data set; run folder */
	struct clip_geometry geometry;	/* with a rule of evaluation; width and height are found out */
	unsigned every;			/* keyframes in seconds that this divides */
	size_t clips;			/* per batch: what the kernels were opened for */
	bool crops;			/* clips reach the kernels as bytes */
	size_t threads;			/* that make clips */
	unsigned kernel_threads;	/* of networks for whole frames */
	size_t device;			/* of them, too */
	size_t rank, world;
};

struct validation;

/* FAILED (said) when the data set has no validation split that can be read. */
int validation_open(struct validation **, const struct validation_config *);
void validation_close(struct validation *);

size_t validation_boxes_max(const struct validation *);	/* no batch has more boxes */
size_t validation_clips(const struct validation *);	/* of this rank */

/* A collective: `map` becomes known on all ranks; NaN: no ground truth of any class in the label map.  The state of
 * `kernels` stays as it is.  `lane` gets SPAN_GATHER. */
int validation_run(struct validation *, struct kernels *, struct comm *, struct lane *lane, double *map);

#endif
