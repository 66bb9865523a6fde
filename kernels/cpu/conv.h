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
	struct dnn_conv shape;
	struct dnn_layout x, y, weights;	/* as stored */
	struct conv_pass pass[DNN_PASSES];
};

/* Where forward's three and their gradients are; borrowed until the release. */
struct conv_place {
	float *x, *weights, *y, *dx, *dweights, *dy;
};

/* As oneDNN is told of it.  A kernel of kT x 1 x 1 meets whole planes, so (T,H,W) may be called (1,T,H*W): same bytes,
 * and oneDNN 2.6 then takes its vectorised weight gradient instead of im2col and matrix products. */
struct dnn_conv conv_view(struct dnn_conv);

/* Activations have `block` channels innermost, x when `x_plain` none.  `wants_dx`: there is a backward-data pass;
 * `adds_dx`: it adds to what another consumer of x has left. */
int conv_make(struct dnn *, struct conv *, const struct dnn_conv *, size_t block, bool x_plain, bool wants_dx,
	      bool adds_dx);
size_t conv_scratch_bytes(const struct conv *);
int conv_bind(struct dnn *, struct conv *, const struct conv_place *, void *scratch);
int conv_run(struct dnn *, const struct conv *, enum dnn_pass);
void conv_release(struct conv *);

#endif
