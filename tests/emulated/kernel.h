/*
 * tests/emulated/kernel.h - CUDA's language for g++: included before each .cu file, makes its kernels run on this CPU.
 *
 * Qualifiers vanish (the real headers see to that), threadIdx and its kin are variables of the operating system's thread, and
 * __shared__ is a static of it: a block runs on one such thread, several blocks on several.  A block's threads are fibers that
 * switch at barriers and shuffles (kernel.cc); without any, they are a plain loop.
 *
 * What a GPU would punish or forgive only by luck ends the program with a sentence: a barrier that not all threads of the block
 * reach, or that they reach in different lines, and a shuffle among lanes that do not exist.  A launch outside of the limits is
 * an error, as there; what is launched is an item of its stream (stream.cc).
 */
#ifndef SFSCALE_TESTS_EMULATED_KERNEL_H
#define SFSCALE_TESTS_EMULATED_KERNEL_H

#include "tests/emulated/emulated.h"

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <functional>
#include <math.h>
#include <string.h>
#include <vector_functions.h>

struct emulated_place {
	uint3 thread, block, threads, blocks;
};
extern __thread struct emulated_place emulated_place;

#define threadIdx emulated_place.thread
#define blockIdx emulated_place.block
#define blockDim emulated_place.threads
#define gridDim emulated_place.blocks

#define __launch_bounds__(...)
#undef __shared__
#define __shared__ static thread_local

/* An item of a stream: says whether it is over, and is tried again if not. */
cudaError_t emulated_push(cudaStream_t stream, const std::function<bool()> &item);
/* `kernel` is one thread of it. */
cudaError_t emulated_launch(dim3 blocks, dim3 threads, cudaStream_t stream, const std::function<void()> &kernel);
void emulated_barrier(int line);
/* Value `mine` of this lane out, that of lane `from` in; 8 bytes at most. */
void emulated_shuffle(int line, unsigned mask, const void *mine, unsigned from, void *theirs, size_t bytes);
unsigned emulated_lane(void);

template <typename T> struct emulated_as_is {
	using type = T;
};

/* Arguments become the kernel's parameters now, and are kept with it: the caller's may be gone when it runs. */
template <typename... P>
static inline cudaError_t emulated_call(dim3 blocks, dim3 threads, cudaStream_t stream, void (*kernel)(P...),
					typename emulated_as_is<P>::type... arguments)
{
	return emulated_launch(blocks, threads, stream, [=] { kernel(arguments...); });
}

#define CUDA_LAUNCH(kernel, blocks, threads, stream, ...) \
	cuda_check(emulated_call((blocks), (threads), (stream), kernel, __VA_ARGS__), #kernel, __FILE__, __LINE__)

static inline unsigned long long cuda_globaltimer_ns(void)
{
	return emulated_clock_ns();
}

#define __syncthreads() emulated_barrier(__LINE__)

template <typename T> static inline T emulated_from(int line, unsigned mask, T value, unsigned lane)
{
	T other;

	static_assert(sizeof(T) <= 8, "lanes exchange at most 8 bytes");
	emulated_shuffle(line, mask, &value, lane, &other, sizeof(T));
	return other;
}

#define __shfl_sync(mask, value, lane) emulated_from(__LINE__, (mask), (value), (lane))
#define __shfl_xor_sync(mask, value, bits) emulated_from(__LINE__, (mask), (value), emulated_lane() ^ (bits))
/* Beyond the last lane: its own value. */
#define __shfl_down_sync(mask, value, by) \
	emulated_from(__LINE__, (mask), (value), emulated_lane() + (by) < 32 ? emulated_lane() + (by) : emulated_lane())

static inline float __uint_as_float(unsigned bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* Each rounded on its own, whatever the compiler would like to fuse. */
static inline float __fmul_rn(float a, float b)
{
	volatile float product = a * b;

	return product;
}

static inline float __fsub_rn(float a, float b)
{
	volatile float difference = a - b;

	return difference;
}

template <typename T> static inline T __ldg(const T *at)
{
	return *at;
}

#endif
