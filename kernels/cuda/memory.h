/*
 * kernels/cuda/memory.h - device memory and pinned host memory that is asked for once and given back together.
 */
#ifndef SFSCALE_KERNELS_CUDA_MEMORY_H
#define SFSCALE_KERNELS_CUDA_MEMORY_H

#include "kernels/cuda/device.h"

#include <stdbool.h>

enum { CUDA_MEMORY_BLOCKS = 64 };

/* Zeroed: none. */
struct cuda_memory {
	struct { void *at; bool pinned; } blocks[CUDA_MEMORY_BLOCKS];	/* owned */
	size_t count, device_bytes;
};

/* Zeroed memory of the device, or of the host for copies to and from it.  With *rc set already NULL at once, so that many can
 * be asked for in a row; else on failure NULL with *rc set and said: what, how much, and how much there is. */
void *cuda_memory_device(struct cuda_memory *, size_t bytes, const char *what, int *rc);
void *cuda_memory_pinned(struct cuda_memory *, size_t bytes, const char *what, int *rc);
void cuda_memory_release(struct cuda_memory *);

#endif
