/*
 * kernels/cuda/noise.cu - data for measurements: zeros would run faster than what a network computes with.
 */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

#include <cuda_bf16.h>

enum { THREADS = 256 };

static __device__ __forceinline__ void store(float *to, float v)
{
	*to = v;
}

static __device__ __forceinline__ void store(__nv_bfloat16 *to, float v)
{
	*to = __float2bfloat16_rn(v);
}

/* A multiplicative hash of the index (Knuth), as a fraction of 2^31. */
template <class T> static __global__ void __launch_bounds__(THREADS) noise(T *to, size_t count)
{
	const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < count)
		store(&to[i], (float)(int)((unsigned)i * 2654435761u) / 2147483648.0f);
}

int cuda_noise(void *to, size_t count, enum cuda_element element, cudaStream_t stream)
{
	const unsigned blocks = (unsigned)((count + THREADS - 1) / THREADS);

	return element == CUDA_BF16 ? CUDA_LAUNCH(noise<__nv_bfloat16>, blocks, THREADS, stream, (__nv_bfloat16 *)to, count)
				    : CUDA_LAUNCH(noise<float>, blocks, THREADS, stream, (float *)to, count);
}
