/*
 * kernels/cuda/graph.h - a piece of a step as one launch.
 *
 * What is enqueued the same way every time is enqueued as it is the first time, so that all that is loaded or allocated late
 * is there; then captured; and from then on launched as one CUDA graph.  The host is free again after some microseconds, and
 * between its kernels the device does not wait for the host.
 *
 * One graph for a whole step would save a handful of launches more.  But the number of boxes changes from batch to batch,
 * collectives are another library's, and each row of the step has its stamps: so a piece is what a row does with the trunk.
 */
#ifndef SFSCALE_KERNELS_CUDA_GRAPH_H
#define SFSCALE_KERNELS_CUDA_GRAPH_H

#include "kernels/cuda/device.h"

#include <stdbool.h>

/* Zeroed: nothing is captured yet. */
struct cuda_graph {
	cudaGraphExec_t exec;	/* owned */
	bool refused;		/* it cannot be captured here, as was said */
};

/* enqueue(context) puts the piece on `stream`: the same kernels with the same arguments every time, and nothing of it changes
 * the host. */
int cuda_graph_run(struct cuda_graph *, cudaStream_t stream, int (*enqueue)(void *context), void *context);
/* Nothing of it is under way. */
void cuda_graph_drop(struct cuda_graph *);

#endif
