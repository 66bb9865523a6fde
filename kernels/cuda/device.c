/*
 * kernels/cuda/device.c - see device.h.
 */
#include "kernels/cuda/device.h"

int cuda_check(cudaError_t e, const char *call, const char *file, int line)
{
	if (e == cudaSuccess)
		return OK;
	return err(e == cudaErrorMemoryAllocation ? NO_MEMORY : FAILED, "%s at %s:%d: %s", call, file, line, cudaGetErrorString(e));
}

int cuda_stopwatch_open(struct cuda_stopwatch *w)
{
	int rc;

	*w = (struct cuda_stopwatch){ NULL, NULL };
	rc = TRY_CUDA(cudaEventCreate(&w->from));
	return rc ? rc : TRY_CUDA(cudaEventCreate(&w->to));
}

int cuda_stopwatch_start(const struct cuda_stopwatch *w, cudaStream_t stream)
{
	return TRY_CUDA(cudaEventRecord(w->from, stream));
}

int cuda_stopwatch_stop(const struct cuda_stopwatch *w, cudaStream_t stream, float *ms)
{
	int rc = TRY_CUDA(cudaEventRecord(w->to, stream));

	if (!rc)
		rc = TRY_CUDA(cudaEventSynchronize(w->to));
	return rc ? rc : TRY_CUDA(cudaEventElapsedTime(ms, w->from, w->to));
}

void cuda_stopwatch_close(struct cuda_stopwatch *w)
{
	if (w->from)
		cudaEventDestroy(w->from);
	if (w->to)
		cudaEventDestroy(w->to);
	*w = (struct cuda_stopwatch){ NULL, NULL };
}
