/*
 * kernels/cuda/gradient.h - gradients between backward and the optimiser.
 *
 * All buffers are the device's; every function enqueues on the stream and returns.
 */
#ifndef SFSCALE_KERNELS_CUDA_GRADIENT_H
#define SFSCALE_KERNELS_CUDA_GRADIENT_H

#include "kernels/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* to = (to + from) / parts */
int cuda_gather(float *to, const float *from, size_t count, float parts, cudaStream_t);
/* To bf16 what is to be summed over ranks: to = from share, rounded once; and back. */
int cuda_shorten(const float *from, size_t count, float share, void *to, cudaStream_t);
int cuda_lengthen(const void *from, size_t count, float *to, cudaStream_t);

#ifdef __cplusplus
}
#endif

#endif
