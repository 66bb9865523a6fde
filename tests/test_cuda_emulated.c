/*
 * tests/test_cuda_emulated.c - the emulated device (tests/emulated/), and the libnccl over it (tests/fake_nccl.c), have the order
 * that CUDA promises, and no more.
 *
 * What a test of kernels/cuda or comm/nccl shows about waiting is worth what is shown here.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#ifdef HAVE_CUDA

#include "bench/base/err.h"
#include "comm/nccl/library.h"
#include "tests/emulated/emulated.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DONE(call) assert_int_equal((call), cudaSuccess)

/* What was run, in this order. */
static struct {
	char names[64];
	size_t count;
} ran;

static bool note(void *name)
{
	ran.names[ran.count++] = *(const char *)name;
	ran.names[ran.count] = '\0';
	return true;
}

static void enqueue(cudaStream_t stream, const char *names)
{
	for (; *names; names++)
		emulated_enqueue(stream, note, names, 1);
}

static void forget(void)
{
	ran.names[ran.count = 0] = '\0';
}

static cudaStream_t streams[2];
static cudaEvent_t event;
static int *device, *pinned;

static int set_up(void **state)
{
	(void)state;
	emulated_lazy(UINT64_MAX);
	forget();
	for (size_t i = 0; i < 2; i++)
		DONE(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking));
	DONE(cudaEventCreate(&event));
	DONE(cudaMalloc((void **)&device, sizeof(*device)));
	DONE(cudaHostAlloc((void **)&pinned, sizeof(*pinned), cudaHostAllocDefault));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++)
		DONE(cudaStreamDestroy(streams[i]));
	DONE(cudaEventDestroy(event));
	DONE(cudaFree(device));
	DONE(cudaFreeHost(pinned));
	emulated_lazy(0);
	assert_int_equal(emulated_memory_used(), 0);
	return 0;
}

/* The device's int, by a stream of its own. */
static int value(void)
{
	int v;

	DONE(cudaMemcpy(&v, device, sizeof(v), cudaMemcpyDeviceToHost));
	return v;
}

static void what_is_enqueued_runs_at_once_or_when_somebody_waits(void **state)
{
	(void)state;
	enqueue(streams[0], "ab");
	assert_string_equal(ran.names, "");
	enqueue(streams[1], "c");
	DONE(cudaStreamSynchronize(streams[1]));
	assert_string_equal(ran.names, "c");
	assert_int_equal(cudaStreamQuery(streams[0]), cudaErrorNotReady);
	assert_string_equal(ran.names, "ca");
	DONE(cudaGetLastError());	/* "not ready" is no error */
	DONE(cudaStreamQuery(streams[0]));
	assert_string_equal(ran.names, "cab");
	enqueue(streams[1], "d");
	emulated_lazy(0);
	assert_string_equal(ran.names, "cabd");
	enqueue(streams[0], "e");
	assert_string_equal(ran.names, "cabde");
}

static void an_event_orders_two_streams(void **state)
{
	(void)state;
	enqueue(streams[0], "a");
	DONE(cudaEventRecord(event, streams[0]));
	enqueue(streams[0], "b");
	DONE(cudaStreamWaitEvent(streams[1], event, 0));
	enqueue(streams[1], "c");
	DONE(cudaStreamSynchronize(streams[1]));
	assert_string_equal(ran.names, "ac");
	DONE(cudaEventQuery(event));
	DONE(cudaDeviceSynchronize());
	assert_string_equal(ran.names, "acb");
}

/* The record is what counts, not what the event is used for later. */
static void a_wait_is_for_the_last_record_before_it(void **state)
{
	cudaEvent_t gone;

	(void)state;
	DONE(cudaEventCreateWithFlags(&gone, cudaEventDisableTiming));
	DONE(cudaStreamWaitEvent(streams[1], gone, 0));		/* never recorded: nothing to wait for */
	enqueue(streams[0], "a");
	DONE(cudaEventRecord(gone, streams[0]));
	DONE(cudaStreamWaitEvent(streams[1], gone, 0));
	enqueue(streams[0], "b");
	DONE(cudaEventRecord(gone, streams[0]));
	DONE(cudaEventDestroy(gone));
	assert_int_equal(cudaEventSynchronize(gone), cudaErrorInvalidResourceHandle);
	enqueue(streams[1], "c");
	DONE(cudaStreamSynchronize(streams[1]));
	assert_string_equal(ran.names, "ac");
}

static void who_does_not_wait_reads_what_was_there_before(void **state)
{
	int host = 0;

	(void)state;
	DONE(cudaMemset(device, 0, sizeof(*device)));
	DONE(cudaMemsetAsync(device, 1, sizeof(*device), streams[0]));
	DONE(cudaEventRecord(event, streams[0]));
	DONE(cudaMemcpyAsync(pinned, device, sizeof(*device), cudaMemcpyDeviceToHost, streams[1]));
	DONE(cudaStreamSynchronize(streams[1]));
	assert_int_equal(*pinned, 0);
	assert_int_equal(value(), 0);			/* neither does the default stream */
	DONE(cudaStreamWaitEvent(streams[1], event, 0));
	DONE(cudaMemcpyAsync(pinned, device, sizeof(*device), cudaMemcpyDeviceToHost, streams[1]));
	assert_int_equal(*pinned, 0);			/* the host has not waited either */
	DONE(cudaStreamSynchronize(streams[1]));
	assert_int_equal(*pinned, 0x01010101);
	DONE(cudaMemcpyAsync(&host, device, sizeof(host), cudaMemcpyDeviceToHost, streams[1]));
	assert_int_equal(host, 0x01010101);		/* pageable: done when the call returns */
}

static void pinned_memory_is_read_late_and_pageable_at_once(void **state)
{
	static const struct { bool pin; int wanted; } cases[] = { { true, 2 }, { false, 1 } };
	int *memory = malloc(2 * sizeof(*memory));

	(void)state;
	assert_non_null(memory);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (cases[i].pin)
			DONE(cudaHostRegister(memory, 2 * sizeof(*memory), cudaHostRegisterDefault));
		enqueue(streams[0], "a");
		memory[1] = 1;
		/* Of four rows of a byte. */
		DONE(cudaMemcpy2DAsync(device, 1, &memory[1], 1, 1, 4, cudaMemcpyHostToDevice, streams[0]));
		assert_string_equal(ran.names, i ? "aa" : "");		/* what is before a pageable copy has run */
		memory[1] = 2;
		DONE(cudaStreamSynchronize(streams[0]));
		assert_int_equal(value(), cases[i].wanted);
		if (cases[i].pin)
			DONE(cudaHostUnregister(memory));
	}
	assert_int_equal(cudaMemcpy2DAsync(device, 1, memory, 2, 2, 2, cudaMemcpyHostToDevice, streams[0]), cudaErrorInvalidValue);
	free(memory);
}

static void memory_is_registered_once_and_goes_when_streams_are_done_with_it(void **state)
{
	char memory[16];

	(void)state;
	DONE(cudaHostRegister(memory, 8, cudaHostRegisterDefault));
	assert_int_equal(cudaHostRegister(memory + 7, 2, cudaHostRegisterDefault), cudaErrorHostMemoryAlreadyRegistered);
	DONE(cudaHostRegister(memory + 8, 8, cudaHostRegisterDefault));
	assert_int_equal(cudaHostUnregister(memory + 1), cudaErrorHostMemoryNotRegistered);
	enqueue(streams[0], "a");
	DONE(cudaHostUnregister(memory));
	assert_string_equal(ran.names, "a");
	DONE(cudaHostUnregister(memory + 8));
	assert_int_equal(cudaHostUnregister(memory), cudaErrorHostMemoryNotRegistered);
	enqueue(streams[1], "b");
	DONE(cudaFree(device));
	assert_string_equal(ran.names, "ab");
	assert_int_equal(cudaFree(device), cudaErrorInvalidValue);
	device = NULL;
}

static void the_default_stream_waits_for_streams_that_block_and_they_for_it(void **state)
{
	cudaStream_t blocking;

	(void)state;
	DONE(cudaStreamCreate(&blocking));
	enqueue(blocking, "a");
	enqueue(streams[0], "z");
	enqueue(NULL, "b");
	enqueue(blocking, "c");
	DONE(cudaStreamSynchronize(blocking));
	assert_string_equal(ran.names, "abc");
	enqueue(blocking, "d");
	DONE(cudaStreamSynchronize(NULL));
	assert_string_equal(ran.names, "abcd");
	enqueue(blocking, "e");
	DONE(cudaStreamDestroy(blocking));		/* its work is done all the same */
	assert_int_equal(cudaStreamSynchronize(blocking), cudaErrorInvalidResourceHandle);
	DONE(cudaDeviceSynchronize());
	assert_string_equal(ran.names + 4, "ze");
}

static void a_capture_runs_nothing_and_its_graph_as_often_as_it_is_launched(void **state)
{
	static const uint64_t seeds[] = { 0, 1, UINT64_MAX };
	enum cudaStreamCaptureStatus status;
	cudaGraphExec_t executable;
	cudaGraph_t graph;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(seeds); i++) {
		emulated_lazy(seeds[i]);
		*pinned = 1;
		DONE(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeGlobal));
		enqueue(streams[0], "ab");
		DONE(cudaMemcpyAsync(device, pinned, sizeof(*device), cudaMemcpyHostToDevice, streams[0]));
		DONE(cudaEventRecordWithFlags(event, streams[0], cudaEventRecordExternal));
		DONE(cudaStreamIsCapturing(streams[0], &status));
		assert_int_equal(status, cudaStreamCaptureStatusActive);
		DONE(cudaStreamEndCapture(streams[0], &graph));
		DONE(cudaGraphInstantiate(&executable, graph, 0));
		DONE(cudaGraphDestroy(graph));
		DONE(cudaStreamSynchronize(streams[0]));
		assert_string_equal(ran.names, "");
		DONE(cudaGraphUpload(executable, streams[1]));
		DONE(cudaGraphLaunch(executable, streams[1]));
		enqueue(streams[1], "c");
		*pinned = 2;
		DONE(cudaGraphLaunch(executable, streams[1]));
		DONE(cudaGraphExecDestroy(executable));
		assert_int_equal(cudaGraphLaunch(executable, streams[1]), cudaErrorInvalidResourceHandle);
		DONE(cudaEventSynchronize(event));
		assert_string_equal(ran.names, "abcab");
		assert_int_equal(value(), 2);
		forget();
	}
}

static cudaError_t allocate(void)
{
	void *at;

	return cudaMalloc(&at, 1);
}

static cudaError_t synchronize(void)
{
	return cudaStreamSynchronize(streams[0]);
}

static cudaError_t query(void)
{
	return cudaStreamQuery(streams[0]);
}

static cudaError_t query_another(void)
{
	return cudaStreamQuery(streams[1]);
}

static cudaError_t copy_pageable(void)
{
	int from = 0;

	return cudaMemcpyAsync(device, &from, sizeof(from), cudaMemcpyHostToDevice, streams[0]);
}

static cudaError_t copy_to_pageable(void)
{
	int to;

	return cudaMemcpyAsync(&to, device, sizeof(to), cudaMemcpyDeviceToHost, streams[0]);
}

static void what_waits_is_an_error_in_a_capture_and_ends_it(void **state)
{
	static const struct { cudaError_t (*call)(void); bool relaxed; } cases[] = {
		{ synchronize, true }, { query, true }, { copy_pageable, true }, { copy_to_pageable, true },
		/* These only where the mode is not relaxed. */
		{ cudaDeviceSynchronize, false }, { query_another, false }, { allocate, false },
	};
	enum cudaStreamCaptureStatus status;
	cudaGraph_t graph;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		DONE(cudaStreamBeginCapture(streams[0], cases[i].relaxed ? cudaStreamCaptureModeRelaxed : cudaStreamCaptureModeThreadLocal));
		assert_int_equal(cases[i].call(), cudaErrorStreamCaptureUnsupported);
		assert_int_equal(cudaMemsetAsync(device, 0, 1, streams[0]), cudaErrorStreamCaptureInvalidated);
		DONE(cudaStreamIsCapturing(streams[0], &status));
		assert_int_equal(status, cudaStreamCaptureStatusInvalidated);
		assert_int_equal(cudaStreamEndCapture(streams[0], &graph), cudaErrorStreamCaptureInvalidated);
		assert_null(graph);
		assert_int_equal(cudaStreamEndCapture(streams[0], &graph), cudaErrorIllegalState);
		assert_int_equal(cudaGetLastError(), cudaErrorIllegalState);
	}
	/* What another stream does meanwhile is not in the graph, and cannot be waited for in it. */
	enqueue(streams[1], "a");
	DONE(cudaEventRecord(event, streams[1]));
	DONE(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeRelaxed));
	assert_int_equal(cudaStreamWaitEvent(streams[0], event, 0), cudaErrorStreamCaptureIsolation);
	assert_int_equal(cudaStreamEndCapture(streams[0], &graph), cudaErrorStreamCaptureInvalidated);
	DONE(cudaEventSynchronize(event));
	assert_string_equal(ran.names, "a");
}

static bool sleep_a_little(void *arguments)
{
	(void)arguments;
	usleep(1000);
	return true;
}

static void an_event_is_later_than_one_before_it(void **state)
{
	cudaEvent_t later, untimed;
	float ms = 0;

	(void)state;
	DONE(cudaEventCreate(&later));
	DONE(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming));
	assert_int_equal(cudaEventElapsedTime(&ms, event, later), cudaErrorInvalidResourceHandle);	/* never recorded */
	DONE(cudaEventRecord(event, streams[0]));
	emulated_enqueue(streams[0], sleep_a_little, NULL, 0);
	DONE(cudaEventRecord(later, streams[0]));
	DONE(cudaEventRecord(untimed, streams[0]));
	assert_int_equal(cudaEventElapsedTime(&ms, event, later), cudaErrorNotReady);
	DONE(cudaEventSynchronize(later));
	DONE(cudaEventElapsedTime(&ms, event, later));
	assert_true(ms >= 1);
	DONE(cudaEventElapsedTime(&ms, later, event));
	assert_true(ms <= -1);
	DONE(cudaEventSynchronize(untimed));
	assert_int_equal(cudaEventElapsedTime(&ms, event, untimed), cudaErrorInvalidResourceHandle);
	DONE(cudaEventDestroy(later));
	DONE(cudaEventDestroy(untimed));
}

/* Three orders are allowed of a before b, and c: all are seen, and no other. */
static void seeds_give_all_orders_that_are_allowed(void **state)
{
	static const char *const allowed[] = { "abc", "acb", "cab" };
	unsigned seen[ARRAY_LEN(allowed)] = { 0 };

	(void)state;
	for (uint64_t seed = 1; seed <= 64; seed++) {
		char first[sizeof(ran.names)] = "";

		for (int again = 0; again < 2; again++) {
			size_t i = 0;

			emulated_lazy(seed);
			enqueue(streams[0], "a");
			DONE(cudaEventRecord(event, streams[0]));
			enqueue(streams[1], "c");
			DONE(cudaStreamWaitEvent(streams[1], event, 0));
			enqueue(streams[0], "b");
			DONE(cudaDeviceSynchronize());
			while (i < ARRAY_LEN(allowed) && strcmp(ran.names, allowed[i]))
				i++;
			if (i == ARRAY_LEN(allowed))
				fail_msg("seed %u: %s", (unsigned)seed, ran.names);
			seen[i]++;
			if (again)
				assert_string_equal(ran.names, first);
			strcpy(first, ran.names);
			forget();
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
		assert_true(seen[i] > 0);
}

static atomic_bool open_gate;

static bool gate(void *arguments)
{
	(void)arguments;
	return open_gate;
}

static void *wait_at_the_gate(void *arguments)
{
	(void)arguments;
	return (void *)(intptr_t)cudaStreamSynchronize(streams[0]);
}

/* Whatever the seed: here a thread waits for a stream that waits for what only this thread can do. */
static void what_is_not_over_holds_up_its_stream_and_nobody_else(void **state)
{
	static const uint64_t seeds[] = { 0, 5, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(seeds); i++) {
		pthread_t thread;
		void *end;

		emulated_lazy(seeds[i]);
		open_gate = false;
		emulated_enqueue(streams[0], gate, NULL, 0);
		enqueue(streams[0], "b");
		assert_int_equal(pthread_create(&thread, NULL, wait_at_the_gate, NULL), 0);
		enqueue(streams[1], "a");
		DONE(cudaStreamSynchronize(streams[1]));
		for (int j = 0; j < 10; j++)
			assert_int_equal(cudaStreamQuery(streams[0]), cudaErrorNotReady);
		assert_string_equal(ran.names, "a");
		open_gate = true;
		assert_int_equal(pthread_join(thread, &end), 0);
		assert_null(end);
		assert_string_equal(ran.names, "ab");
		forget();
	}
}

static bool count(void *arguments)
{
	++**(int **)arguments;		/* no atomic: one thread at a time runs a stream */
	return true;
}

enum { THREADS = 4, EACH = 200 };

static void *enqueue_and_wait(void *counter)
{
	for (int i = 0; i < EACH; i++) {
		emulated_enqueue(streams[0], count, &counter, sizeof(counter));
		if (i % 8 == 0 && cudaStreamSynchronize(streams[i / 8 % 2]))
			return counter;
	}
	return NULL;
}

static void many_threads_may_use_one_stream(void **state)
{
	static const uint64_t seeds[] = { 0, 5, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(seeds); i++) {
		pthread_t threads[THREADS];
		int counter = 0;
		void *end;

		emulated_lazy(seeds[i]);
		for (size_t t = 0; t < THREADS; t++)
			assert_int_equal(pthread_create(&threads[t], NULL, enqueue_and_wait, &counter), 0);
		for (size_t t = 0; t < THREADS; t++) {
			assert_int_equal(pthread_join(threads[t], &end), 0);
			assert_null(end);
		}
		DONE(cudaStreamSynchronize(streams[0]));
		assert_int_equal(counter, THREADS * EACH);
	}
}

static void calls_fail_as_ordered_and_do_nothing_then(void **state)
{
	(void)state;
	emulated_fail("cudaGraphLaunch", 1, cudaErrorUnknown);
	assert_int_equal(cudaGraphLaunch(NULL, streams[0]), cudaErrorUnknown);
	emulated_fail("cudaMemsetAsync", 2, cudaErrorUnknown);
	DONE(cudaMemsetAsync(device, 1, sizeof(*device), streams[0]));
	assert_int_equal(cudaMemsetAsync(device, 2, sizeof(*device), streams[0]), cudaErrorUnknown);
	assert_int_equal(cudaGetLastError(), cudaErrorUnknown);
	DONE(cudaStreamSynchronize(streams[0]));
	assert_int_equal(value(), 0x01010101);
}

static void the_clock_of_the_device_is_its_own(void **state)
{
	uint64_t before = emulated_clock_ns(), after;

	(void)state;
	assert_int_equal(before % 32, 0);
	assert_true(before > 1700000000000000000);
	usleep(1000);
	after = emulated_clock_ns();
	assert_true(after - before >= 1000000);
}

enum { RANKS = 2 };

static struct nccl_library nccl;

static void open_nccl(void)
{
	const char *build = getenv("SFSCALE_BUILD");
	char path[PATH_BYTES];

	assert_int_equal(path_make(path, "%s/tests/fake_nccl.so", build ? build : "build"), OK);
	assert_int_equal(nccl_library_open(&nccl, path), OK);
}

static ncclResult_t settled(ncclComm_t c)
{
	ncclResult_t r = ncclInProgress;

	while (r == ncclInProgress) {
		assert_int_equal(nccl.async_error(c, &r), ncclSuccess);
		usleep(50);
	}
	return r;
}

/* Two ranks, a stream each. */
static void a_collective_has_its_place_in_its_stream(void **state)
{
	static const uint64_t seeds[] = { 0, 9, UINT64_MAX };
	ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
	ncclComm_t comms[RANKS];
	float *data[RANKS];
	ncclUniqueId id;

	(void)state;
	open_nccl();
	config.blocking = 0;
	for (size_t i = 0; i < ARRAY_LEN(seeds); i++) {
		emulated_lazy(seeds[i]);
		assert_int_equal(nccl.get_unique_id(&id), ncclSuccess);
		for (int r = 0; r < RANKS; r++) {
			DONE(cudaHostAlloc((void **)&data[r], 3 * sizeof(float), cudaHostAllocDefault));
			data[r][0] = (float)(1 + 2 * r);
			data[r][1] = (float)(6 - 2 * r);
			assert_int_equal(nccl.init_rank(&comms[r], RANKS, id, r, &config), ncclInProgress);
		}
		for (int r = 0; r < RANKS; r++)
			assert_int_equal(settled(comms[r]), ncclSuccess);
		/* (1, 6) and (3, 4) become (2, 5); ... */
		for (int r = 0; r < RANKS; r++) {
			assert_int_equal(nccl.all_reduce(data[r], data[r], 2, ncclFloat, ncclAvg, comms[r], streams[r]), ncclInProgress);
			assert_int_equal(nccl.all_reduce(data[r], data[r], 2, ncclFloat, ncclAvg, comms[r], streams[r]), ncclInvalidUsage);
			assert_int_equal(settled(comms[r]), ncclSuccess);
			if (r == 0)
				assert_int_equal(cudaStreamQuery(streams[0]), cudaErrorNotReady);	/* rank 1 is not there yet */
			DONE(cudaMemcpyAsync(&data[r][2], &data[r][r], sizeof(float), cudaMemcpyDeviceToDevice, streams[r]));
		}
		/* ... of which rank 0 copies the 2 and rank 1 the 5, whose mean they take. */
		for (int r = 0; r < RANKS; r++) {
			assert_int_equal(nccl.all_reduce(&data[r][2], &data[r][2], 1, ncclFloat, ncclAvg, comms[r], streams[r]), ncclInProgress);
			assert_int_equal(settled(comms[r]), ncclSuccess);
		}
		DONE(cudaDeviceSynchronize());
		for (int r = 0; r < RANKS; r++) {
			assert_true(data[r][0] == 2 && data[r][1] == 5);
			assert_true(data[r][2] == 3.5f);
		}
		/* Rank 1 never comes: what waits for it goes on when the communicator is given up. */
		for (int n = 0; n < 2; n++) {
			assert_int_equal(nccl.all_reduce(data[0], data[0], 1, ncclFloat, ncclAvg, comms[0], streams[0]), ncclInProgress);
			assert_int_equal(settled(comms[0]), ncclSuccess);
		}
		for (int n = 0; n < 100; n++)
			assert_int_equal(cudaStreamQuery(streams[0]), cudaErrorNotReady);
		for (int r = 0; r < RANKS; r++) {
			assert_int_equal(nccl.abort(comms[r]), ncclSuccess);
			DONE(cudaFreeHost(data[r]));
		}
	}
}

static void a_collective_that_fails_is_told_when_it_has_begun(void **state)
{
	ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
	ncclResult_t r = ncclSuccess;
	ncclUniqueId id;
	ncclComm_t comm;

	(void)state;
	open_nccl();
	config.blocking = 0;
	setenv("FAKE_NCCL_FAIL", "0:2", 1);
	assert_int_equal(nccl.get_unique_id(&id), ncclSuccess);
	assert_int_equal(nccl.init_rank(&comm, 1, id, 0, &config), ncclInProgress);
	assert_int_equal(settled(comm), ncclSuccess);
	for (int n = 0; n < 3; n++) {
		assert_int_equal(nccl.all_reduce(pinned, pinned, 1, ncclFloat, ncclAvg, comm, streams[0]), ncclInProgress);
		assert_int_equal(settled(comm), ncclSuccess);
	}
	DONE(cudaStreamSynchronize(streams[0]));
	assert_int_equal(nccl.async_error(comm, &r), ncclSuccess);
	assert_int_equal(r, ncclRemoteError);
	assert_int_equal(nccl.all_reduce(pinned, pinned, 1, ncclFloat, ncclAvg, comm, streams[0]), ncclRemoteError);
	assert_int_equal(nccl.abort(comm), ncclSuccess);
	unsetenv("FAKE_NCCL_FAIL");
}

#define OF(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		OF(what_is_enqueued_runs_at_once_or_when_somebody_waits),
		OF(an_event_orders_two_streams),
		OF(a_wait_is_for_the_last_record_before_it),
		OF(who_does_not_wait_reads_what_was_there_before),
		OF(pinned_memory_is_read_late_and_pageable_at_once),
		OF(memory_is_registered_once_and_goes_when_streams_are_done_with_it),
		OF(the_default_stream_waits_for_streams_that_block_and_they_for_it),
		OF(a_capture_runs_nothing_and_its_graph_as_often_as_it_is_launched),
		OF(what_waits_is_an_error_in_a_capture_and_ends_it),
		OF(an_event_is_later_than_one_before_it),
		OF(seeds_give_all_orders_that_are_allowed),
		OF(what_is_not_over_holds_up_its_stream_and_nobody_else),
		OF(many_threads_may_use_one_stream),
		OF(a_collective_has_its_place_in_its_stream),
		OF(a_collective_that_fails_is_told_when_it_has_begun),
		OF(calls_fail_as_ordered_and_do_nothing_then),
		OF(the_clock_of_the_device_is_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void the_emulated_device_has_the_order_of_a_real_one(void **state)
{
	(void)state;
	print_message("SKIP: built without CUDA's headers\n");
	skip();
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(the_emulated_device_has_the_order_of_a_real_one) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
