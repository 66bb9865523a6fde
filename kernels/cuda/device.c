/*
 * kernels/cuda/device.c - see device.h: what comm/nccl/ shares with the back end, and no more.
 */
#include "kernels/cuda/device.h"

int cuda_check(cudaError_t e, const char *call, const char *file, int line)
{
	if (e == cudaSuccess)
		return OK;
	return err(e == cudaErrorMemoryAllocation ? NO_MEMORY : FAILED, "%s at %s:%d: %s", call, file, line, cudaGetErrorString(e));
}
