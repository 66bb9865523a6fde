/*
 * tests/emulated/runtime.h - what the two halves of the emulated runtime share: cudart.c (errors, devices, memory) and stream.cc
 * (whatever has an order).
 */
#ifndef SFSCALE_TESTS_EMULATED_RUNTIME_H
#define SFSCALE_TESTS_EMULATED_RUNTIME_H

#include "tests/emulated/emulated.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Remembered for cudaGetLastError(), and returned. */
cudaError_t emulated_result(cudaError_t);

enum emulated_side { EMULATED_PAGEABLE, EMULATED_PINNED, EMULATED_DEVICE };
/* Where all of these bytes are. */
enum emulated_side emulated_side_of(const void *at, size_t bytes);

/* Any call of the runtime is a moment at which a device may have got further. */
void emulated_stir(void);

/* Waits for what is enqueued now, on all streams. */
void emulated_finish(void);

/* True where a capture that is under way forbids what might wait for the device; the capture is invalid then. */
bool emulated_is_forbidden(void);

#ifdef __cplusplus
}
#endif

/* Ends the function where it was ordered to fail. */
#define MAY_FAIL() \
	do { \
		cudaError_t ordered_ = (cudaError_t)emulated_failure(__func__); \
		emulated_stir(); \
		if (ordered_) \
			return emulated_result(ordered_); \
	} while (0)

/* And where a capture forbids it. */
#define MAY_FAIL_OR_WAIT() \
	do { \
		MAY_FAIL(); \
		if (emulated_is_forbidden()) \
			return emulated_result(cudaErrorStreamCaptureUnsupported); \
	} while (0)

#endif
