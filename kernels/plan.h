/*
 * kernels/plan.h - what a back end derives from the net before it computes anything.
 *
 * Where parameters lie in the flat buffers, which operator makes which gradient, which gradients are sums, and when
 * activations live, so that they may share memory.  All of it is the same wherever the operators run; only the size of an
 * activation is the back end's own.
 *
 * The timeline: of n operators, i runs at moment i + 1 and its backward at 2n - i.  A value lives until the last of both that
 * reads it, a gradient from the first consumer's backward to its producer's.  All sizes are proportional to the clips, so a
 * plan for one clip, times the clips, is the plan for many.
 */
#ifndef SFSCALE_KERNELS_PLAN_H
#define SFSCALE_KERNELS_PLAN_H

#include "kernels/arena.h"
#include "kernels/kernels.h"

/* Where tensors of the state lie in the flat buffers of struct kernels. */
struct kernel_places {
	size_t *offset;		/* per parameter: floats; owned, as below */
	size_t *bn_offset;	/* per batch norm: first of its channels, of all */
};

/* `grad_offset` as in struct kernel_config. */
int kernel_places_init(struct kernel_places *, const struct net *, const size_t *grad_offset);
void kernel_places_release(struct kernel_places *);
/* One tensor of the state as it is stored, and its floats. */
float *kernel_places_at(const struct kernel_places *, const struct kernels *, enum state_kind, size_t index, size_t *count);

struct kernel_plan {
	struct kernel_places places;
	size_t *op_of_ready;	/* per place in backward's order: the operator that makes it; owned, as all below */
	bool *adds;		/* per operator: to the gradient of its input (convolution) or shortcut (batch norm), because
				 * another consumer has written its share already */
	struct piece *values, *grads, *winners;	/* per tensor; bytes and offsets for one clip; a slice is in its concatenation,
						 * winners (of pools) are one byte per value */
	size_t clip_bytes;	/* that all pieces need together */
};

/* `clip_values(context, t)` elements are one clip of tensor t as stored, of
 * `element_bytes`. */
int kernel_plan_init(struct kernel_plan *, const struct net *, const size_t *grad_offset,
		     size_t (*clip_values)(const void *context, int tensor), const void *context, size_t element_bytes);
void kernel_plan_release(struct kernel_plan *);

static inline bool kernel_plan_is_input(int tensor)
{
	return tensor < NET_INPUTS;
}

/* The tensor whose memory it is in. */
static inline int kernel_plan_root(const struct net *net, int tensor)
{
	return net->tensors[tensor].of >= 0 ? net->tensors[tensor].of : tensor;
}

#endif
