/*
 * kernels/cuda/timeline.h - what a device did when, as spans on lanes of the host's record.
 *
 * A span is two stamps: kernels of one thread that write the device's own clock (%globaltimer) into pinned memory when their
 * stream comes to them.  Who enqueues knows which lane, iteration and meaning; when both stamps are there, collect() turns
 * them into the host's ticks and puts the span into its lane.  Nothing waits.
 *
 * The device's clock and the host's are compared now and then, on a stream of its own with the highest priority: a stamp
 * lies between the host's tick before its launch and the one at which it is seen.  The narrowest such brackets tie the clocks
 * together.  How wrong that may be: half a bracket, what they drift until the next one, and a step of the device's clock.  One
 * such clock serves all timelines of the process.
 */
#ifndef SFSCALE_KERNELS_CUDA_TIMELINE_H
#define SFSCALE_KERNELS_CUDA_TIMELINE_H

#include "bench/base/span.h"
#include "kernels/cuda/device.h"

#include <stddef.h>
#include <stdint.h>

struct cuda_timeline;

/* On the current device; room for `spans` that are enqueued and not collected. */
int cuda_timeline_open(struct cuda_timeline **, size_t spans);
/* Its streams have come to their ends. */
void cuda_timeline_close(struct cuda_timeline *);

/* Spans of one timeline do not nest.  Without a lane, nothing; without room, the lane counts one more that was dropped. */
int cuda_timeline_begin(struct cuda_timeline *, struct lane *, enum span_id, uint64_t arg, cudaStream_t);
int cuda_timeline_end(struct cuda_timeline *, cudaStream_t);
/* Spans that are over, in the order of their begins, as far as the first one that is not. */
int cuda_timeline_collect(struct cuda_timeline *);

/* What a stamp takes of a stream that has nothing else to do. */
int cuda_timeline_stamp_ns(struct cuda_timeline *, cudaStream_t, double *ns);
/* How wrong the device's clock was on the host's, at most, in any collect() so far. */
double cuda_timeline_bound_ns(void);

/* ---- stamp.cu ---- */

#ifdef __cplusplus
extern "C"
#endif
int cuda_stamp(uint64_t *at, cudaStream_t);

#endif
