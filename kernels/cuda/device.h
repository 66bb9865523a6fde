/*
 * kernels/cuda/device.h - what all files of this folder share: failing, launching, element types.
 *
 * Everything here is enqueued on a stream; who wants a result on the host waits for it.  Names begin with
 * cuda_, as the folder does; the runtime's own go on with a capital letter.
 */
#ifndef SFSCALE_KERNELS_CUDA_DEVICE_H
#define SFSCALE_KERNELS_CUDA_DEVICE_H

#include "bench/base/err.h"

#include <cuda_runtime_api.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0, or an rc with the call, its place and the runtime's own words said. */
int cuda_check(cudaError_t, const char *call, const char *file, int line);
#define TRY_CUDA(call) cuda_check((call), #call, __FILE__, __LINE__)

/* What a query answers; "not ready" is no error, and must not be found by who asks for the last one. */
static inline cudaError_t cuda_asked(cudaError_t e)
{
	if (e == cudaErrorNotReady)
		cudaGetLastError();
	return e;
}

/* What the device takes for what is enqueued between a start and a stop, which waits for it.  Zeroed: closed. */
struct cuda_stopwatch {
	cudaEvent_t from, to;		/* owned */
};
int cuda_stopwatch_open(struct cuda_stopwatch *);
int cuda_stopwatch_start(const struct cuda_stopwatch *, cudaStream_t);
int cuda_stopwatch_stop(const struct cuda_stopwatch *, cudaStream_t, float *ms);
void cuda_stopwatch_close(struct cuda_stopwatch *);

/* What activations, their gradients and the weights that convolutions read are stored as.  Statistics, master weights,
 * momentum, gradients of weights and the head are float always. */
enum cuda_element { CUDA_F32, CUDA_BF16 };

static inline size_t cuda_element_bytes(enum cuda_element e)
{
	return e == CUDA_BF16 ? 2 : 4;
}

#ifdef __cplusplus
}
#endif

#endif
