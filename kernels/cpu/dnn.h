/*
 * kernels/cpu/dnn.h - what we use of oneDNN: layouts, convolutions, reorders.
 *
 * Everything that differs between oneDNN 2.x and 3.x is behind these few calls, in dnn.c.
 *
 * A primitive is made (the library picks an implementation and says the layouts it wants and
 * the scratch it needs), then bound to addresses once, then run every step: running looks
 * nothing up and chooses nothing.
 */
#ifndef SFSCALE_KERNELS_CPU_DNN_H
#define SFSCALE_KERNELS_CPU_DNN_H

#include "kernels/net.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dnn {
	dnnl_engine_t engine;	/* owned, as all handles below */
	dnnl_stream_t stream;
};

int dnn_open(struct dnn *);
void dnn_close(struct dnn *);

/* Where the elements of a tensor lie.  Zeroed: no wish, the library chooses ("any"). */
struct dnn_layout {
	dnnl_memory_desc_t md;
	bool set;
};

/* An activation (N,C,T,H,W): `block` channels innermost (8 or 16; the last block padded), or 1: plain order.
 * `flat`: T is 1, and oneDNN is not told of it. */
int dnn_layout_activation(struct dnn_layout *, const size_t dims[5], bool flat, size_t block);
/* A convolution's weights in plain order (Cout,Cin,kT,kH,kW). */
int dnn_layout_weights(struct dnn_layout *, const size_t dims[5], bool flat);
int dnn_layout_copy(struct dnn_layout *to, const struct dnn_layout *from);
void dnn_layout_release(struct dnn_layout *);
bool dnn_layout_same(const struct dnn_layout *, const struct dnn_layout *);
size_t dnn_layout_bytes(const struct dnn_layout *);
/* Folds order and blocking into a running hash (bench/base/hash.h). */
uint64_t dnn_layout_hash(const struct dnn_layout *, uint64_t hash);

enum dnn_arg { DNN_SRC, DNN_WEIGHTS, DNN_DST, DNN_ARGS };
/* What a pass computes from the two others; all are "src, weights, dst" of the forward pass, or their gradients. */
extern const enum dnn_arg dnn_result[OP_PASSES];

struct dnn_conv {
	size_t n, cin, cout;
	size_t in[3], out[3], kernel[3], stride[3], pad[3], dilation[3];	/* (T,H,W); dilation 1: dense */
	bool flat;	/* T is 1 in x, y and kernel, and oneDNN is told of 4 dimensions: it has more kernels for them */
};

struct dnn_prim {
	dnnl_primitive_t primitive;
	char impl[48];				/* the library's name for the implementation: "jit:avx2" */
	struct dnn_layout layout[DNN_ARGS];	/* a reorder: DNN_SRC to DNN_DST */
	struct dnn_layout scratch;
	size_t scratch_bytes;
	dnnl_memory_t memory[DNN_ARGS + 1];
	dnnl_exec_arg_t arg[DNN_ARGS + 1];
	int arg_count;
};

/* One pass of a convolution.  `wish[arg]` is a layout that the caller would like.  The library is asked twice, without
 * wishes and with them; they are granted when they cost nothing, that is when the implementation is the same.
 * UNSUPPORTED (said) when there is none at all. */
int dnn_conv_make(struct dnn *, struct dnn_prim *, const struct dnn_conv *, enum op_pass,
		  const struct dnn_layout wish[DNN_ARGS]);
int dnn_reorder_make(struct dnn *, struct dnn_prim *, const struct dnn_layout *from, const struct dnn_layout *to);
/* Addresses, borrowed until the release; `scratch` has scratch_bytes.  Clears padding at these addresses. */
int dnn_bind(struct dnn *, struct dnn_prim *, void *const at[DNN_ARGS], void *scratch);
int dnn_run(struct dnn *, const struct dnn_prim *);
void dnn_prim_release(struct dnn_prim *);

/* Channels that the library's best kernels want innermost on this machine: 16 with AVX-512, else 8. */
int dnn_block(struct dnn *, size_t *block);
/* "oneDNN 2.6.3" */
void dnn_version(char *text, size_t bytes);

#endif
