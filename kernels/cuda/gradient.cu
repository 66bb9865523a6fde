/*
 * kernels/cuda/gradient.cu - gradients between backward and the optimiser: of several batches, and on their way to other ranks.
 *
 * Each is read and written once, in order: the memory's speed is all there is to it.
 */
#include "kernels/cuda/gradient.h"
#include "kernels/cuda/launch.cuh"

#include <cuda_bf16.h>

enum { THREADS = 256 };

static unsigned blocks_for(size_t count)
{
	return (unsigned)((count + THREADS - 1) / THREADS);
}

static __global__ void __launch_bounds__(THREADS) gather(float *to, const float *from, size_t count, float parts)
{
	const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < count)
		to[i] = (to[i] + from[i]) / parts;
}

int cuda_gather(float *to, const float *from, size_t count, float parts, cudaStream_t stream)
{
	return CUDA_LAUNCH(gather, blocks_for(count), THREADS, stream, to, from, count, parts);
}

static __global__ void __launch_bounds__(THREADS) shorten(const float *from, size_t count, float share, __nv_bfloat16 *to)
{
	const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < count)
		to[i] = __float2bfloat16_rn(from[i] * share);
}

int cuda_shorten(const float *from, size_t count, float share, void *to, cudaStream_t stream)
{
	return CUDA_LAUNCH(shorten, blocks_for(count), THREADS, stream, from, count, share, (__nv_bfloat16 *)to);
}

static __global__ void __launch_bounds__(THREADS) lengthen(const __nv_bfloat16 *from, size_t count, float *to)
{
	const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < count)
		to[i] = __bfloat162float(from[i]);
}

int cuda_lengthen(const void *from, size_t count, float *to, cudaStream_t stream)
{
	return CUDA_LAUNCH(lengthen, blocks_for(count), THREADS, stream, (const __nv_bfloat16 *)from, count, to);
}
