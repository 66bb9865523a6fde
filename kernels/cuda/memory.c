/*
 * kernels/cuda/memory.c - see memory.h.
 */
#include "kernels/cuda/memory.h"

#include <assert.h>
#include <string.h>

static const double gib = 1 << 30;

static void *keep(struct cuda_memory *m, void *at, bool pinned)
{
	assert(m->count < CUDA_MEMORY_BLOCKS);
	m->blocks[m->count].at = at;
	m->blocks[m->count++].pinned = pinned;
	return at;
}

void *cuda_memory_device(struct cuda_memory *m, size_t bytes, const char *what, int *rc)
{
	size_t free_bytes = 0, all_bytes = 0;
	void *at = NULL;
	cudaError_t e;

	if (*rc)
		return NULL;
	e = cudaMalloc(&at, bytes ? bytes : 1);
	if (e == cudaSuccess) {
		m->device_bytes += bytes;
		keep(m, at, false);
		*rc = TRY_CUDA(cudaMemset(at, 0, bytes));
		if (!*rc)	/* which returns before it is done, and whose stream ours do not wait for */
			*rc = TRY_CUDA(cudaDeviceSynchronize());
		return *rc ? NULL : at;
	}
	cudaGetLastError();	/* an allocation that failed is no error of the kernels to come */
	cudaMemGetInfo(&free_bytes, &all_bytes);
	*rc = err(e == cudaErrorMemoryAllocation ? NO_MEMORY : FAILED, "cannot allocate %.3f GiB of device memory for %s, behind "
		  "%.3f GiB for the rest: %s (%.3f of %.3f GiB are free)", (double)bytes / gib, what, (double)m->device_bytes / gib,
		  cudaGetErrorString(e), (double)free_bytes / gib, (double)all_bytes / gib);
	return NULL;
}

void *cuda_memory_pinned(struct cuda_memory *m, size_t bytes, const char *what, int *rc)
{
	void *at = NULL;
	cudaError_t e;

	if (*rc)
		return NULL;
	e = cudaHostAlloc(&at, bytes ? bytes : 1, cudaHostAllocDefault);
	if (e == cudaSuccess)
		return memset(keep(m, at, true), 0, bytes);
	cudaGetLastError();
	*rc = err(NO_MEMORY, "cannot pin %.3f GiB of host memory for %s: %s", (double)bytes / gib, what, cudaGetErrorString(e));
	return NULL;
}

void cuda_memory_release(struct cuda_memory *m)
{
	while (m->count) {
		m->count--;
		if (m->blocks[m->count].pinned)
			cudaFreeHost(m->blocks[m->count].at);
		else
			cudaFree(m->blocks[m->count].at);
	}
	m->device_bytes = 0;
}
