/*
 * kernels/cuda/launch.cuh - how kernels are started: in one place, because tests build the same files for the CPU
 * (tests/emulated/), where there is no <<<>>>.
 */
#ifndef SFSCALE_KERNELS_CUDA_LAUNCH_CUH
#define SFSCALE_KERNELS_CUDA_LAUNCH_CUH

#include "kernels/cuda/device.h"

#ifndef CUDA_LAUNCH
#define CUDA_LAUNCH(kernel, blocks, threads, stream, ...) \
	(kernel<<<(blocks), (threads), 0, (stream)>>>(__VA_ARGS__), cuda_check(cudaPeekAtLastError(), #kernel, __FILE__, __LINE__))
#endif

#endif
