/*
 * kernels/cuda/launch.cuh - how kernels are started and what time it is in them: in one place, because tests build the same
 * files for the CPU (tests/emulated/), where there is neither <<<>>> nor a register of the device.
 */
#ifndef SFSCALE_KERNELS_CUDA_LAUNCH_CUH
#define SFSCALE_KERNELS_CUDA_LAUNCH_CUH

#include "kernels/cuda/device.h"

#ifndef CUDA_LAUNCH
#define CUDA_LAUNCH(kernel, blocks, threads, stream, ...) \
	(kernel<<<(blocks), (threads), 0, (stream)>>>(__VA_ARGS__), cuda_check(cudaPeekAtLastError(), #kernel, __FILE__, __LINE__))

/* The device's clock, which is not the host's: another beginning, another speed, and steps that depend on the chip. */
static __device__ inline unsigned long long cuda_globaltimer_ns(void)
{
	unsigned long long ns;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns) : : "memory");
	return ns;
}
#endif

#endif
