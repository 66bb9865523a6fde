/*
 * kernels/cuda/conv.h - a convolution of the net: cuDNN's graph API, one plan for each of its three passes.
 *
 * Activations NDHWC, packed; weights (Cout,kT,kH,kW,Cin), Cin innermost; all of them on 16 bytes, as cudaMalloc() gives them,
 * but the gradient of the weights, which may be anywhere in the flat buffer.  What cuDNN is told is a view: 4-D where the same
 * sums can be said so without moving a byte (1xkxk: N*T images; kTx1x1: T rows of H*W), because it has more engines there;
 * which view and which engine is measured once per shape.  Elements are float (TF32 or not) or bf16; sums are float always.
 */
#ifndef SFSCALE_KERNELS_CUDA_CONV_H
#define SFSCALE_KERNELS_CUDA_CONV_H

#include "kernels/cuda/dnn.h"
#include "kernels/cuda/sample.h"
#include "kernels/net.h"

#include <stdbool.h>
#include <stdint.h>

/* What the inputs of a convolution must be padded to, 3 or more channels, so that there are good engines for it. */
size_t cuda_conv_channels(enum cuda_math, size_t cin);

struct cuda_conv;
/* `passes`: which of enum op_pass, as bits.  `adds_dx`: backward-data adds to what is there.  A convolution like one that
 * was tuned before, or learned, takes its choice: nothing is searched, nothing is left to tune. */
int cuda_conv_open(struct cuda_conv **, struct cuda_dnn *, const struct cuda_conv_shape *, unsigned passes, bool adds_dx);
void cuda_conv_close(struct cuda_conv *);
/* Of the candidate that needs most; after tuning, of those that were kept. */
size_t cuda_conv_workspace_bytes(const struct cuda_conv *);
/* Times the candidates of each pass at these addresses, which it overwrites (the weights with zeros), and keeps the fastest of
 * those whose results are right, on noise; UNSUPPORTED, said, where none is.  Without it the library's first choice stays,
 * as it does on a described chip.  `x`, `y` are forward's input and output or their gradients. */
int cuda_conv_tune(struct cuda_conv *, void *x, void *weights, void *y, void *workspace);
/* Enqueue. */
int cuda_conv_forward(struct cuda_conv *, const void *x, const void *weights, void *y, void *workspace);
int cuda_conv_backward_data(struct cuda_conv *, const void *dy, const void *weights, void *dx, void *workspace);
/* (Cout,kT,kH,kW,narrow) float, the first `narrow` of cin channels: as the flat gradients are. */
int cuda_conv_backward_weights(struct cuda_conv *, const void *x, const void *dy, size_t narrow, float *dweights,
			       void *workspace);
/* "engine 38 4-D, 2.1 MB": what runs this pass; candidates there were. */
int cuda_conv_describe(const struct cuda_conv *, enum op_pass, char *text, size_t bytes, size_t *candidates);

/* The choices that tuning has made, a line for each: what it may depend on (shape, passes, math, cuDNN's version, chip and
 * driver), a tab, what runs each pass.  For other ranks, and for a file; borrowed until the next tuning. */
const char *cuda_conv_choices(const struct cuda_dnn *);
/* Such text of an earlier run, or of another rank; lines of other versions or chips are kept and do no harm. */
int cuda_conv_learn(struct cuda_dnn *, const char *choices);

#endif
