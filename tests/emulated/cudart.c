/*
 * tests/emulated/cudart.c - the part of the CUDA runtime that kernels/cuda calls, for a device that is this CPU: errors, devices
 * and memory.  Whatever has an order is in stream.cc.
 *
 * Device memory is the heap's, filled with bytes of 0xff (NaN as float and as bf16, -1 as an integer), so that who reads what
 * nobody wrote is found.  Sizes are not rounded up: with SAN=1 an access beyond a block is the sanitizer's to find.
 */
#include "tests/emulated/runtime.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 256 };	/* cudaMalloc()'s promise */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* of `used`, `blocks` and `ordered` */
static size_t memory_bytes = (size_t)4 << 30, used;
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
	size_t bytes;

	pthread_mutex_lock(&lock);
	bytes = used;
	pthread_mutex_unlock(&lock);
	return bytes;
}

void emulated_devices(int count)
{
	devices = count;
}

void emulated_fail(const char *function, unsigned nth, int error)
{
	pthread_mutex_lock(&lock);
	ordered.function = function;
	ordered.left = nth;
	ordered.error = (cudaError_t)error;
	pthread_mutex_unlock(&lock);
}

int emulated_failure(const char *function)
{
	int error = 0;

	pthread_mutex_lock(&lock);
	if (ordered.function && !strcmp(ordered.function, function) && !--ordered.left) {
		ordered.function = NULL;
		error = ordered.error;
	}
	pthread_mutex_unlock(&lock);
	return error;
}

cudaError_t emulated_result(cudaError_t e)
{
	if (e)
		last = e;
	return e;
}

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
	{ cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported" },
	{ cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state" },
	{ cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle" },
	{ cudaErrorHostMemoryAlreadyRegistered, "cudaErrorHostMemoryAlreadyRegistered",
	  "part or all of the requested memory range is already mapped" },
	{ cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered",
	  "pointer does not correspond to a registered memory region" },
	{ cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing" },
	{ cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture" },
	{ cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
	  "dependency created on uncaptured work in another stream" },
	{ cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
	  "operation would make the legacy stream depend on a capturing blocking stream" },
	{ cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
	  "attempt to terminate a thread-local capture sequence from another thread" },
	{ cudaErrorCapturedEvent, "cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream" },
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
	return emulated_result(devices ? cudaSuccess : cudaErrorNoDevice);
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
		return emulated_result(cudaErrorInvalidDevice);
	current = device;
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
		return emulated_result(cudaErrorInvalidDevice);
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
		return emulated_result(cudaErrorInvalidDevice);
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
		return emulated_result(cudaErrorInvalidDevice);
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

/* What the runtime has given, and what it was told of. */
static struct block {
	struct block *next;
	char *at;
	size_t bytes;
	enum emulated_side side;
	bool registered;
} *blocks;

enum emulated_side emulated_side_of(const void *at, size_t bytes)
{
	enum emulated_side side = EMULATED_PAGEABLE;

	pthread_mutex_lock(&lock);
	for (const struct block *b = blocks; b; b = b->next)
		if ((const char *)at >= b->at && (const char *)at + bytes <= b->at + b->bytes)
			side = b->side;
	pthread_mutex_unlock(&lock);
	return side;
}

/* Remembers memory, or has an error. */
static cudaError_t add(void *at, size_t bytes, enum emulated_side side, bool registered)
{
	struct block *b = malloc(sizeof(*b));
	cudaError_t e = b ? cudaSuccess : cudaErrorMemoryAllocation;

	pthread_mutex_lock(&lock);
	for (const struct block *other = blocks; other && registered; other = other->next)
		if ((char *)at < other->at + other->bytes && other->at < (char *)at + bytes)
			e = cudaErrorHostMemoryAlreadyRegistered;
	if (!e && side == EMULATED_DEVICE && bytes > memory_bytes - used)
		e = cudaErrorMemoryAllocation;
	if (!e) {
		*b = (struct block){ blocks, at, bytes, side, registered };
		blocks = b;
		used += side == EMULATED_DEVICE ? malloc_usable_size(at) : 0;
	} else {
		free(b);
	}
	pthread_mutex_unlock(&lock);
	return e;
}

/* Forgets what begins there; false: nothing of this kind does. */
static bool take(const void *at, enum emulated_side side, bool registered)
{
	struct block **link = &blocks, *b;

	pthread_mutex_lock(&lock);
	while (*link && ((*link)->at != at || (*link)->side != side || (*link)->registered != registered))
		link = &(*link)->next;
	b = *link;
	if (b) {
		*link = b->next;
		used -= side == EMULATED_DEVICE ? malloc_usable_size(b->at) : 0;
		free(b);
	}
	pthread_mutex_unlock(&lock);
	return b;
}

static cudaError_t allocate(void **at, size_t bytes, enum emulated_side side)
{
	cudaError_t e;

	*at = NULL;
	if (!bytes)
		return cudaSuccess;
	if ((side == EMULATED_DEVICE && bytes > memory_bytes) || posix_memalign(at, ALIGNMENT, bytes))
		return emulated_result(cudaErrorMemoryAllocation);
	e = add(*at, bytes, side, false);
	if (!e)
		memset(*at, 0xff, bytes);
	else
		free(*at);
	*at = e ? NULL : *at;
	return emulated_result(e);
}

/* Memory goes when all streams are done with it, as on a device. */
static cudaError_t give_back(void *at, enum emulated_side side)
{
	if (!at)
		return cudaSuccess;
	emulated_finish();
	if (!take(at, side, false))
		return emulated_result(cudaErrorInvalidValue);
	free(at);
	return cudaSuccess;
}

cudaError_t cudaMalloc(void **at, size_t bytes)
{
	MAY_FAIL_OR_WAIT();
	return allocate(at, bytes, EMULATED_DEVICE);
}

cudaError_t cudaMallocManaged(void **at, size_t bytes, unsigned flags)
{
	(void)flags;
	MAY_FAIL();
	return cudaMalloc(at, bytes);
}

cudaError_t cudaFree(void *at)
{
	MAY_FAIL_OR_WAIT();
	return give_back(at, EMULATED_DEVICE);
}

cudaError_t cudaHostAlloc(void **at, size_t bytes, unsigned flags)
{
	(void)flags;
	MAY_FAIL_OR_WAIT();
	return allocate(at, bytes, EMULATED_PINNED);
}

cudaError_t cudaMallocHost(void **at, size_t bytes)
{
	MAY_FAIL_OR_WAIT();
	return allocate(at, bytes, EMULATED_PINNED);
}

cudaError_t cudaFreeHost(void *at)
{
	MAY_FAIL_OR_WAIT();
	return give_back(at, EMULATED_PINNED);
}

cudaError_t cudaHostRegister(void *at, size_t bytes, unsigned flags)
{
	(void)flags;
	MAY_FAIL_OR_WAIT();
	return emulated_result(!at || !bytes ? cudaErrorInvalidValue : add(at, bytes, EMULATED_PINNED, true));
}

cudaError_t cudaHostUnregister(void *at)
{
	MAY_FAIL_OR_WAIT();
	emulated_finish();
	return emulated_result(take(at, EMULATED_PINNED, true) ? cudaSuccess : cudaErrorHostMemoryNotRegistered);
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
	*free_bytes = memory_bytes - emulated_memory_used();
	*total = memory_bytes;
	return cudaSuccess;
}
