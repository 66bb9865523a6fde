/*
 * kernels/cuda/ops.h - the operators that are ours: all but the convolutions.
 *
 * Activations are NDHWC, channels innermost:  address(n, s, c) = (n * positions + s) * pitch + c.  `pitch` is larger than `c`
 * where the tensor is a slice of a concatenation.  Every function enqueues on the stream and returns; nothing is allocated.
 *
 * Sums are taken over pieces whose size depends on the shape alone and are added in order, without atomics: the same bits in
 * every run on the same chip.  Formulas are those of kernels/cpu/ops.h, which is the reference.
 */
#ifndef SFSCALE_KERNELS_CUDA_OPS_H
#define SFSCALE_KERNELS_CUDA_OPS_H

#include "kernels/cuda/device.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An activation, or the gradient of one, or some channels of one. */
struct cuda_act {
	void *at;		/* device; channel 0 of the first clip; borrowed */
	size_t n, c;		/* clips, channels; accesses are of 16 bytes where c, pitch and address allow it */
	size_t dims[3];		/* (T,H,W) */
	size_t pitch;		/* elements from position to position */
};

/* ---- batch normalisation, with addition and ReLU ---- */

struct cuda_norm {
	enum cuda_element element;
	struct cuda_act x, y;
	struct cuda_act shortcut;		/* .at NULL: none */
	struct cuda_act dx, dy, dshortcut;	/* gradients */
	bool relu;
	bool add_dshortcut;		/* another consumer of the shortcut has written its share already */
	const float *weight, *bias;	/* (C), device, as all below */
	float *dweight, *dbias;
	float *running_mean, *running_var;	/* NULL: not updated */
	float *mean, *inv_std;		/* (C) of the batch: kept from forward to backward */
	float *partial;			/* cuda_norm_partial_floats() */
};

size_t cuda_norm_partial_floats(const struct cuda_act *x);
/* Training: statistics of the batch; running = 0.9 running + 0.1 batch, with the unbiased variance. */
int cuda_norm_forward(const struct cuda_norm *, cudaStream_t);
/* Evaluation: the running statistics. */
int cuda_norm_evaluate(const struct cuda_norm *, cudaStream_t);
int cuda_norm_backward(const struct cuda_norm *, cudaStream_t);

/* ---- pooling: spatial maximum ---- */

struct cuda_pool {
	enum cuda_element element;
	struct cuda_act x, y, dx, dy;
	uint8_t *winner;		/* (N, T*Hout*Wout, C): which place of the window */
	size_t kernel[2], stride[2], pad[2];	/* (H,W) */
};

/* Ties go to the first place in scan order, padding counts as minus infinity. */
int cuda_pool_forward(const struct cuda_pool *, cudaStream_t);
int cuda_pool_backward(const struct cuda_pool *, cudaStream_t);

/* ---- the head: temporal mean, ROIAlign, spatial maximum, dropout, fully connected, loss ---- */

struct cuda_roi {
	enum cuda_element element;
	struct cuda_act x, dx;		/* one pathway */
	float *mean;			/* (N, H*W, C): over time; in backward its gradient */
	uint8_t *winner;		/* (R, C): which of the out*out bins */
	const float *boxes;		/* (R,5) */
	size_t box_count, out;		/* out x out bins */
	float scale;			/* 1/16 */
	bool aligned;
	float *features, *dfeatures;	/* (R, stride), this pathway's first channel */
	size_t stride;
};

int cuda_roi_forward(const struct cuda_roi *, cudaStream_t);
int cuda_roi_backward(const struct cuda_roi *, cudaStream_t);

/* x[i] *= scale[i] */
int cuda_scale(float *x, const float *scale, size_t count, cudaStream_t);

/* y (R,out) = x (R,in) weight (out,in)^T + bias; backward overwrites. */
int cuda_fc_forward(const float *x, const float *weight, const float *bias, size_t rows, size_t in, size_t out, float *y,
		    cudaStream_t);
int cuda_fc_backward(const float *x, const float *weight, const float *dy, size_t rows, size_t in, size_t out, float *dx,
		     float *dweight, float *dbias, cudaStream_t);

/* preds = sigmoid(logits); loss[0] = mean of -(y log p + (1-y) log(1-p)), logarithms not below -100;
 * dlogits as PyTorch computes it: not fused, so 0 where p has become 0 or 1. */
int cuda_sigmoid(const float *logits, size_t count, float *preds, cudaStream_t);
int cuda_bce(const float *preds, const float *labels, size_t count, float *loss, cudaStream_t);
int cuda_bce_backward(const float *preds, const float *labels, size_t count, float *dlogits, cudaStream_t);

/* ---- data in ---- */

/* (N,3,T,H,W) float to (N,T,H,W,pitch) elements; channels behind the third become 0. */
int cuda_input_plain(const float *plain, size_t n, size_t t, size_t h, size_t w, enum cuda_element, size_t pitch, void *out,
		     cudaStream_t);
/* (N,T,H,W,3) uint8 crops to the same, frame_count of them, frame i from frame[i] of the t (device, NULL: all in order):
 * v scale - offset, rounded as net_pixel(). */
int cuda_input_crops(const uint8_t *crops, size_t n, size_t t, size_t h, size_t w, const uint32_t *frame, size_t frame_count,
		     float scale, float offset, enum cuda_element, size_t pitch, void *out, cudaStream_t);

/* ---- weights ---- */

/* A run of the flat buffers that one rule applies to. */
struct cuda_run {
	size_t offset, count;		/* floats of the flat buffers */
	float weight_decay;
	void *copy;			/* where convolutions read it: elements, or NULL: nobody does */
	size_t row, copy_row;		/* a convolution's input channels, and those of the copy; the rest is 0 already */
};

/* d = g + wd w;  v = momentum v + d;  w -= lr (nesterov ? d + momentum v : v), and w once more into the copy.
 * `hyper` (device): lr, momentum, then weight decay, which multiplies the run's own, 0 or 1: a captured graph keeps
 * pointers, not values.  `runs` on the device, `longest` the largest count among them. */
int cuda_sgd(float *w, float *v, const float *g, const struct cuda_run *runs, size_t run_count, size_t longest,
	     const float hyper[3], bool nesterov, enum cuda_element, cudaStream_t);
/* The copies alone. */
int cuda_copy_weights(const float *w, const struct cuda_run *runs, size_t run_count, size_t longest, enum cuda_element,
		      cudaStream_t);
/* (rows, wide) elements to (rows, narrow) floats: the first `narrow` of each row. */
int cuda_narrow(const void *from, enum cuda_element, size_t rows, size_t wide, size_t narrow, float *to, cudaStream_t);
/* Values between -1 and 1, the same in every call. */
int cuda_noise(void *to, size_t count, enum cuda_element, cudaStream_t);

#ifdef __cplusplus
}
#endif

#endif
