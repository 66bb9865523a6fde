/*
 * kernels/cuda/conv.h - a convolution of the net: cuDNN's graph API, one plan for each of its three passes.
 *
 * Activations NDHWC, packed; weights (Cout,kT,kH,kW,Cin), Cin innermost.  What cuDNN is told is a view: 4-D where the same
 * sums can be said so without moving a byte (1xkxk: N*T images; kTx1x1: T rows of H*W), because it has more engines there;
 * which view and which engine is measured once per shape.  Elements are float (TF32 or not) or bf16; sums are float always.
 */
#ifndef SFSCALE_KERNELS_CUDA_CONV_H
#define SFSCALE_KERNELS_CUDA_CONV_H

#include "kernels/cuda/device.h"

#include <stdbool.h>
#include <stdint.h>

struct cuda_dnn;	/* a cuDNN handle on a stream, or a device's description alone */

enum cuda_math { CUDA_MATH_F32, CUDA_MATH_TF32, CUDA_MATH_BF16 };
enum cuda_pass { CUDA_FORWARD, CUDA_BACKWARD_DATA, CUDA_BACKWARD_WEIGHTS, CUDA_PASSES };

struct cuda_conv_shape {
	size_t n, cin, cout;	/* cin as stored: an input's is padded */
	size_t in[3], out[3], kernel[3], stride[3], pad[3], dilation[3];	/* (T,H,W); dilation 1: dense */
};

/* On the current device. */
int cuda_dnn_open(struct cuda_dnn **, cudaStream_t, enum cuda_math);
/* Without a device: operation graphs, engines and their workspace for a chip that is described by `json` (cuDNN's device
 * properties); nothing can be executed. */
int cuda_dnn_open_described(struct cuda_dnn **, const char *json, enum cuda_math);
void cuda_dnn_close(struct cuda_dnn *);
/* "cuDNN 9.19.0" */
void cuda_dnn_version(char *text, size_t bytes);

/* What the inputs of a convolution must be padded to, 3 or more channels, so that there are engines for it. */
size_t cuda_conv_channels(enum cuda_math, size_t cin);

struct cuda_conv;
/* `passes`: which of enum cuda_pass, as bits.  `adds_dx`: backward-data adds to what is there. */
int cuda_conv_open(struct cuda_conv **, struct cuda_dnn *, const struct cuda_conv_shape *, unsigned passes, bool adds_dx);
void cuda_conv_close(struct cuda_conv *);
/* Of the candidate that needs most. */
size_t cuda_conv_workspace_bytes(const struct cuda_conv *);
/* Times the candidates of each pass at these addresses, which it overwrites, and keeps the fastest; without it the
 * library's first choice stays.  `x`, `y` are forward's input and output or their gradients. */
int cuda_conv_tune(struct cuda_conv *, void *x, void *weights, void *y, float *dweights, void *workspace);
/* Enqueue. */
int cuda_conv_forward(struct cuda_conv *, const void *x, const void *weights, void *y, void *workspace);
int cuda_conv_backward_data(struct cuda_conv *, const void *dy, const void *weights, void *dx, void *workspace);
/* (Cout,kT,kH,kW,narrow) float, the first `narrow` of cin channels: as the flat gradients are. */
int cuda_conv_backward_weights(struct cuda_conv *, const void *x, const void *dy, size_t narrow, float *dweights,
			       void *workspace);
/* "engine 38 4-D, 2.1 MB": what runs this pass; candidates there were. */
int cuda_conv_describe(const struct cuda_conv *, enum cuda_pass, char *text, size_t bytes, size_t *candidates);

#endif
