/*
 * kernels/cuda/sample.h - what a convolution should come to, at some places of its result.
 *
 * cuDNN is told from wrong engines by the sums themselves: 3-D convolutions of bf16 were wrong in several of its versions, and
 * an engine that leaves something out is fast.  A block sums what one place of the result is the sum of, in double; a few
 * hundred places, spread over all of it, are nothing beside the convolution.
 */
#ifndef SFSCALE_KERNELS_CUDA_SAMPLE_H
#define SFSCALE_KERNELS_CUDA_SAMPLE_H

#include "kernels/cuda/device.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cuda_conv_shape {
	size_t n, cin, cout;	/* cin as stored: an input's is padded */
	size_t in[3], out[3], kernel[3], stride[3], pad[3], dilation[3];	/* (T,H,W); dilation 1: dense */
};

enum { CUDA_SAMPLES = 256 };

/* What is convolved with what: of the input's gradient (N,T,H,W,Cin), of the weights' (Cout,kT,kH,kW,Cin), or the output
 * (N,T',H',W',Cout). */
enum cuda_sampled { CUDA_SAMPLE_Y, CUDA_SAMPLE_DX, CUDA_SAMPLE_DW };

/* Enqueues: want[CUDA_SAMPLES] (device), for results that are added to what lies at `result` where `adds`.  x and y are
 * the input and the output, or their gradients; the one that `result` is may be NULL. */
int cuda_sample(const struct cuda_conv_shape *, enum cuda_sampled, enum cuda_element, const void *x, const void *weights, const void *y,
		const void *result, bool adds, float *want, cudaStream_t);
/* off[0] (device): sum of (result - want)^2 over the places; off[1]: of want^2. */
int cuda_sample_compare(const struct cuda_conv_shape *, enum cuda_sampled, enum cuda_element, const void *result, const float *want,
			float *off, cudaStream_t);

#ifdef __cplusplus
}
#endif

#endif
