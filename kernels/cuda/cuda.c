/*
 * kernels/cuda/cuda.c - the CUDA back end.
 */
#include "kernels/kernels.h"

#include "kernels/cuda/device.h"

#include <stdio.h>

int cuda_check(cudaError_t e, const char *call, const char *file, int line)
{
	if (e == cudaSuccess)
		return OK;
	return err(e == cudaErrorMemoryAllocation ? NO_MEMORY : FAILED, "%s at %s:%d: %s", call, file, line, cudaGetErrorString(e));
}

static int cuda_probe(char *why, size_t why_bytes)
{
	int count = 0;
	cudaError_t e = cudaGetDeviceCount(&count);

	if (e == cudaSuccess && count)
		return OK;
	snprintf(why, why_bytes, "%s", e == cudaSuccess ? "no GPU" : cudaGetErrorString(e));
	return UNSUPPORTED;
}

__attribute__((visibility("default"))) extern const struct kernel_backend sfscale_kernels_cuda;
const struct kernel_backend sfscale_kernels_cuda = {
	.name = "cuda",
	.probe = cuda_probe,
};
