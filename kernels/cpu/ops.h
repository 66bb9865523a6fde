/*
 * kernels/cpu/ops.h - the operators that are ours: all but the convolutions.
 *
 * oneDNN has most of them, but not fused as the network wants them; these pass over memory,
 * which is all they cost, once or twice less.  They work on activations in the layout that
 * the convolutions like, blocks of 8 or 16 channels:  address(n, c, s) = n * clip +
 * (c / block * T*H*W + s) * block + c % block.  Padding channels hold zeros and stay so.
 *
 * Every sum is taken over pieces whose size does not depend on the number of threads, and
 * the pieces are added in order: these operators give the same bits on 1 thread and on 64.
 * (oneDNN's weight gradients promise that only for the same number of threads.)
 */
#ifndef SFSCALE_KERNELS_CPU_OPS_H
#define SFSCALE_KERNELS_CPU_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Hot loops exist for several instruction sets, chosen when the program starts.  Not under sanitizers: the
 * choice runs before they are set up. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && defined(__GNUC__) && !defined(__clang__)
#define CPU_CLONES __attribute__((noinline, target_clones("default", "arch=haswell", "arch=skylake-avx512")))
#else
#define CPU_CLONES __attribute__((noinline))
#endif
#define CPU_INLINE static inline __attribute__((always_inline))
enum { CPU_BLOCK_MAX = 16 };

/* An activation, or the gradient of one, or some channels of one (whole blocks). */
struct act {
	float *at;		/* channel 0 of the first clip; borrowed */
	size_t clip;		/* floats from clip to clip */
	size_t n, c;		/* clips, channels */
	size_t dims[3];		/* (T,H,W) */
	size_t block;
};

static inline size_t act_blocks(const struct act *a)
{
	return (a->c + a->block - 1) / a->block;
}

static inline size_t act_positions(const struct act *a)
{
	return a->dims[0] * a->dims[1] * a->dims[2];
}

/* Block `b` of clip `n`: act_positions() times `block` floats. */
static inline float *act_at(const struct act *a, size_t n, size_t b)
{
	return a->at + n * a->clip + b * act_positions(a) * a->block;
}

/* ---- batch normalisation, with addition and ReLU ---- */

struct norm {
	struct act x, y;		/* in, out */
	struct act shortcut;		/* .at NULL: none */
	struct act dx, dy, dshortcut;	/* gradients */
	bool relu;
	bool add_dshortcut;		/* another consumer of the shortcut has written its share already */
	const float *weight, *bias;	/* (C) */
	float *dweight, *dbias;
	float *running_mean, *running_var;	/* NULL: not updated */
	float *mean, *inv_std;		/* (C) of the batch: kept from forward to backward */
	double *partial;		/* norm_partial_doubles() */
};

size_t norm_partial_doubles(const struct act *x);
/* Training: statistics of the batch; running = 0.9 running + 0.1 batch, with the unbiased variance. */
void norm_forward(const struct norm *);
/* Evaluation: the running statistics. */
void norm_evaluate(const struct norm *);
void norm_backward(const struct norm *);

/* ---- pooling: spatial maximum ---- */

struct pool {
	struct act x, y, dx, dy;
	uint8_t *winner;		/* per output value: which place of the window */
	size_t kernel[2], stride[2], pad[2];	/* (H,W) */
};

/* Ties go to the first place in scan order, padding counts as minus infinity. */
void pool_forward(const struct pool *);
void pool_backward(const struct pool *);

/* to += from */
void add_to(float *to, const float *from, size_t count);

/* ---- the head: temporal mean, ROIAlign, spatial maximum, dropout, fully connected, loss ---- */

struct roi {
	struct act x, dx;		/* one pathway */
	float *mean;			/* (n, blocks, H*W, block): over time; in backward its gradient */
	uint8_t *winner;		/* (R, C): which of the out*out bins */
	const float *boxes;		/* (R,5) */
	size_t box_count, out;		/* out x out bins */
	float scale;			/* 1/16 */
	bool aligned;
	float *features, *dfeatures;	/* (R, stride), this pathway's first channel */
	size_t stride;
};

/* ROIAlign of one map (H,W) at `channels` floats per position, of which one: bins (out,out). */
void roi_align(const float *map, size_t h, size_t w, size_t channels, const float box[5], float scale, bool aligned,
	       size_t out, float *bins);
void roi_forward(const struct roi *);
void roi_backward(const struct roi *);

/* y (R,out) = x (R,in) weight (out,in)^T + bias; backward overwrites. */
void fc_forward(const float *x, const float *weight, const float *bias, size_t rows, size_t in, size_t out, float *y);
void fc_backward(const float *x, const float *weight, const float *dy, size_t rows, size_t in, size_t out, float *dx,
		 float *dweight, float *dbias);

/* preds = sigmoid(logits) */
void sigmoid_forward(const float *logits, size_t count, float *preds);
/* Mean of -(y log p + (1-y) log(1-p)), logarithms not below -100. */
double bce(const float *preds, const float *labels, size_t count);
/* Gradient with respect to the logits, as PyTorch computes it: not fused, so it is 0 where p has become 0 or 1. */
void bce_backward(const float *preds, const float *labels, size_t count, float *dlogits);

/* ---- optimiser ---- */

struct sgd_step {
	float lr, momentum, weight_decay;
	bool nesterov;
};
/* d = g + wd w;  v = momentum v + d;  w -= lr (nesterov ? d + momentum v : v) */
void sgd_update(float *w, float *v, const float *g, size_t count, const struct sgd_step *);

#endif
