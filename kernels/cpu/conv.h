/*
 * kernels/cpu/conv.h - a convolution of the net: three oneDNN primitives that agree on layouts.
 *
 * Activations and their gradients keep the layouts that they are given in.  The weights get
 * the layout that the forward pass prefers, and keep it, with their gradients and momentum,
 * for the life of the instance, unless it pads channels: the flat buffers have no room for
 * padding, so then it is the plain one.  What a primitive wants otherwise is reordered into
 * scratch before it, or out of it behind.
 */
#ifndef SFSCALE_KERNELS_CPU_CONV_H
#define SFSCALE_KERNELS_CPU_CONV_H

#include "kernels/cpu/dnn.h"

struct conv_pass {
	bool used;
	struct dnn_prim prim;
	struct dnn_prim reorder[DNN_ARGS];	/* .primitive NULL: the layouts agree */
	bool adds;				/* the result is added to what is there */
	float *sum, *term;
};

struct conv {
	struct dnn_conv shape;			/* as oneDNN is told of it: a view */
	struct dnn_layout x, y, weights;	/* as stored */
	struct conv_pass pass[OP_PASSES];
};

/* Where forward's three and their gradients are; borrowed until the release. */
struct conv_place {
	float *x, *weights, *y, *dx, *dweights, *dy;
};

/*
 * The same sums over the same bytes, in words for which oneDNN 2.6 has faster kernels (3-D ones are few):
 *
 *   kT x 1 x 1        meets whole planes:  (T,H,W) is called (T,H*W), flat
 *   1 x 1 x 1         with a stride s in space, H a multiple of s:  (T,H,W) is called (T*H,W), flat
 *   input, kT > 1     kT frames of c channels are called c * kT channels of one frame; conv_input() writes each frame
 *                     kT times, which is little next to an input of three channels padded to a block
 *
 * With AVX2 the first lets the weight gradient run in jit:avx2 instead of im2col and matrix products; the second
 * takes r50's strided shortcuts (crop 224, one clip, one thread, three passes) from 625 to 203 ms, the third its fast
 * stem from 729 to 218 ms.
 */
struct dnn_conv conv_view(struct dnn_conv, bool input);

/* Activations have `block` channels innermost.  `input`: x is the network's, in plain order or as conv_input() leaves
 * it, and there is no backward-data pass.  `adds_dx`: that pass adds to what another consumer of x has left. */
int conv_make(struct dnn *, struct conv *, const struct dnn_conv *, size_t block, bool input, bool adds_dx);
/* Floats of an input as stored, of one clip. */
size_t conv_input_floats(const struct dnn_conv *, size_t block);

/* An input as it comes. */
struct conv_source {
	const float *plain;		/* (N,C,T,H,W); NULL: it is made of crops */
	const uint8_t *crops;		/* (N,frames,H,W,3), of which it shows as many as it has, by net_shown_frame() */
	size_t frames;
	bool old_linspace;
};

/* From that to as it is stored. */
void conv_input(const struct dnn_conv *, size_t block, const struct conv_source *, float *x);
size_t conv_scratch_bytes(const struct conv *);
int conv_bind(struct dnn *, struct conv *, const struct conv_place *, void *scratch);
int conv_run(struct dnn *, const struct conv *, enum op_pass);
void conv_release(struct conv *);

#endif
