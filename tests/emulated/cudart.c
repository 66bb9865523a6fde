/*
 * tests/emulated/cudart.c - the part of the CUDA runtime that kernels/cuda calls, for a device that is this CPU.
 *
 * Device memory is the heap's, filled with bytes of 0xff (NaN as float and as bf16, -1 as an integer), so that who reads what
 * nobody wrote is found.  Streams execute at once; what is enqueued is done when the call returns, which is one of the orders a
 * device may choose.  Sizes are not rounded up: with SAN=1 an access beyond a block is the sanitizer's to find.
 */
#include "tests/emulated/emulated.h"

#include <cuda_runtime_api.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ALIGNMENT = 256 };	/* cudaMalloc()'s promise */

static size_t memory_bytes = (size_t)4 << 30;
static atomic_size_t used;
static int devices = 1;
static _Thread_local cudaError_t last;
static struct {
	const char *function;
	unsigned left;
	cudaError_t error;
} ordered;

void emulated_memory(size_t bytes)
{
	memory_bytes = bytes;
}

size_t emulated_memory_used(void)
{
	return used;
}

void emulated_devices(int count)
{
	devices = count;
}

void emulated_fail(const char *function, unsigned nth, int error)
{
	ordered.function = function;
	ordered.left = nth;
	ordered.error = (cudaError_t)error;
}

int emulated_failure(const char *function)
{
	if (!ordered.function || strcmp(ordered.function, function) || --ordered.left)
		return 0;
	ordered.function = NULL;
	return ordered.error;
}

static cudaError_t result(cudaError_t e)
{
	if (e)
		last = e;
	return e;
}

/* Ends the function where it was ordered to fail. */
#define MAY_FAIL() \
	do { \
		cudaError_t ordered_ = (cudaError_t)emulated_failure(__func__); \
		if (ordered_) \
			return result(ordered_); \
	} while (0)

/* ---- errors ---- */

cudaError_t cudaGetLastError(void)
{
	cudaError_t e = last;

	last = cudaSuccess;
	return e;
}

cudaError_t cudaPeekAtLastError(void)
{
	return last;
}

static const struct { cudaError_t error; const char *name, *text; } errors[] = {
	{ cudaSuccess, "cudaSuccess", "no error" },
	{ cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument" },
	{ cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory" },
	{ cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument" },
	{ cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
	  "CUDA driver version is insufficient for CUDA runtime version" },
	{ cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected" },
	{ cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal" },
	{ cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered" },
	{ cudaErrorNotReady, "cudaErrorNotReady", "device not ready" },
};

const char *cudaGetErrorString(cudaError_t e)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		if (errors[i].error == e)
			return errors[i].text;
	return "unrecognized error code";
}

const char *cudaGetErrorName(cudaError_t e)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		if (errors[i].error == e)
			return errors[i].name;
	return "unrecognized error code";
}

/* ---- devices ---- */

cudaError_t cudaGetDeviceCount(int *count)
{
	MAY_FAIL();
	*count = devices;
	return result(devices ? cudaSuccess : cudaErrorNoDevice);
}

static _Thread_local int current;

cudaError_t cudaGetDevice(int *device)
{
	MAY_FAIL();
	*device = current;
	return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
	MAY_FAIL();
	if (device < 0 || device >= devices)
		return result(cudaErrorInvalidDevice);
	current = device;
	return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
	MAY_FAIL();
	return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
	static const struct { enum cudaDeviceAttr attribute; int value; } values[] = {
		{ cudaDevAttrComputeCapabilityMajor, 9 },
		{ cudaDevAttrComputeCapabilityMinor, 0 },
		{ cudaDevAttrMultiProcessorCount, 132 },
		{ cudaDevAttrMaxThreadsPerBlock, 1024 },
		{ cudaDevAttrWarpSize, 32 },
	};

	MAY_FAIL();
	if (device < 0 || device >= devices)
		return result(cudaErrorInvalidDevice);
	*value = 0;
	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++)
		if (values[i].attribute == attribute)
			*value = values[i].value;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
	MAY_FAIL();
	if (device < 0 || device >= devices)
		return result(cudaErrorInvalidDevice);
	memset(p, 0, sizeof(*p));
	snprintf(p->name, sizeof(p->name), "emulated");
	p->totalGlobalMem = memory_bytes;
	p->major = 9;
	p->multiProcessorCount = 132;
	p->maxThreadsPerBlock = 1024;
	p->warpSize = 32;
	return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int bytes, int device)
{
	MAY_FAIL();
	if (device < 0 || device >= devices)
		return result(cudaErrorInvalidDevice);
	snprintf(text, (size_t)bytes, "0000:%02x:00.0", device + 1);
	return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
	MAY_FAIL();
	*least = 0;
	*greatest = -5;
	return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
	MAY_FAIL();
	*version = CUDART_VERSION;
	return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
	MAY_FAIL();
	*version = CUDART_VERSION;
	return cudaSuccess;
}

/* ---- memory ---- */

static cudaError_t allocate(void **at, size_t bytes)
{
	*at = NULL;
	if (!bytes)
		return cudaSuccess;
	if (posix_memalign(at, ALIGNMENT, bytes))
		return cudaErrorMemoryAllocation;
	memset(*at, 0xff, bytes);
	return cudaSuccess;
}

cudaError_t cudaMalloc(void **at, size_t bytes)
{
	cudaError_t e;

	MAY_FAIL();
	if (bytes > memory_bytes - used)
		return result(cudaErrorMemoryAllocation);
	e = allocate(at, bytes);
	if (!e && *at)
		used += malloc_usable_size(*at);
	return result(e);
}

cudaError_t cudaMallocManaged(void **at, size_t bytes, unsigned flags)
{
	(void)flags;
	MAY_FAIL();
	return cudaMalloc(at, bytes);
}

cudaError_t cudaFree(void *at)
{
	MAY_FAIL();
	if (at)
		used -= malloc_usable_size(at);
	free(at);
	return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **at, size_t bytes, unsigned flags)
{
	(void)flags;
	MAY_FAIL();
	return result(allocate(at, bytes));
}

cudaError_t cudaMallocHost(void **at, size_t bytes)
{
	MAY_FAIL();
	return result(allocate(at, bytes));
}

cudaError_t cudaFreeHost(void *at)
{
	MAY_FAIL();
	free(at);
	return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags)
{
	(void)flags;
	MAY_FAIL();
	*device = host;
	return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
	MAY_FAIL();
	*free_bytes = memory_bytes - used;
	*total = memory_bytes;
	return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
	(void)kind;
	MAY_FAIL();
	memmove(to, from, bytes);
	return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
	(void)kind, (void)stream;
	MAY_FAIL();
	memmove(to, from, bytes);
	return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
			      enum cudaMemcpyKind kind, cudaStream_t stream)
{
	(void)kind, (void)stream;
	MAY_FAIL();
	if (width > to_pitch || width > from_pitch)
		return result(cudaErrorInvalidValue);
	for (size_t i = 0; i < height; i++)
		memmove((char *)to + i * to_pitch, (const char *)from + i * from_pitch, width);
	return cudaSuccess;
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
	MAY_FAIL();
	memset(to, value, bytes);
	return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
	(void)stream;
	MAY_FAIL();
	memset(to, value, bytes);
	return cudaSuccess;
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
	(void)flags, (void)priority;
	MAY_FAIL();
	*stream = malloc(1);	/* an address of its own */
	return result(*stream ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
	MAY_FAIL();
	return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
	MAY_FAIL();
	return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	MAY_FAIL();
	free(stream);
	return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	(void)stream;
	MAY_FAIL();
	return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
	(void)stream;
	MAY_FAIL();
	return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
	(void)stream, (void)event, (void)flags;
	MAY_FAIL();
	return cudaSuccess;
}

/* An event is the time of its last record. */
static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
	(void)flags;
	MAY_FAIL();
	*event = calloc(1, sizeof(uint64_t));
	return result(*event ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
	MAY_FAIL();
	return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	MAY_FAIL();
	free(event);
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	(void)stream;
	MAY_FAIL();
	*(uint64_t *)(void *)event = now_ns();
	return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	(void)event;
	MAY_FAIL();
	return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
	(void)event;
	MAY_FAIL();
	return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
	MAY_FAIL();
	*ms = (float)(*(uint64_t *)(void *)to - *(uint64_t *)(void *)from) * 1e-6f;
	return cudaSuccess;
}
