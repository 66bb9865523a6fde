/*
 * tests/emulated/emulated.h - what a test may ask of the emulated device.
 *
 * Everything in kernels/cuda runs on the CPU here: kernels by tests/emulated/kernel.h, the runtime by cudart.c and stream.cc.
 * That proves arithmetic, indices, wiring and who waits for whom.  It proves nothing about speed, about memory order between
 * blocks, or about what a GPU's own exp() returns in its last bit.
 */
#ifndef SFSCALE_TESTS_EMULATED_H
#define SFSCALE_TESTS_EMULATED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Blocks, and threads between two barriers, run in an order that this chooses; 0: in the order of their numbers.  No order may
 * change a bit of any result. */
void emulated_order(uint64_t seed);

/* When what is enqueued runs.  0: as soon as it can, which is in the call that enqueues it unless something before it in its
 * stream is not over; UINT64_MAX: when somebody waits for it, and then no more than that; others: by chance, a few items of any
 * stream in any call of the runtime.  No choice may change a result.  SFSCALE_EMULATED_LAZY, a number in the environment, is
 * what it is at first; without, 0. */
void emulated_lazy(uint64_t seed);

/* The device's memory; 4 GiB at first.  What goes beyond it fails as on a device. */
void emulated_memory(size_t bytes);
/* Allocated and not freed. */
size_t emulated_memory_used(void);

/* Devices that there are; 1 at first. */
void emulated_devices(int count);

/* The `nth` call from now, counted from 1, of the runtime's function of this name fails with `error` (a cudaError_t); one such
 * order at a time, NULL takes it back.  "launch" is a kernel's start. */
void emulated_fail(const char *function, unsigned nth, int error);

/* cuDNN's engines of these numbers, as bits, compute half as much again as they should; none at first. */
void emulated_wrong_engines(uint64_t numbers);

/* Enqueues a call of run() with a copy of the arguments, each time it is launched a fresh one where the stream captures; it is
 * called again until it says true, and the stream goes no further before.  It must not call the runtime. */
void emulated_enqueue(void *stream, bool (*run)(void *arguments), const void *arguments, size_t bytes);

/* What a cudaStream_t other than NULL points to begins so, for who cannot link to this (fake_nccl.c). */
struct emulated_stream {
	void (*enqueue)(void *stream, bool (*run)(void *arguments), const void *arguments, size_t bytes);
};

/* The device's own clock: it goes a little faster than the host's, from another beginning, in steps. */
uint64_t emulated_clock_ns(void);

/* For the emulation itself: the error that this call was ordered to return, or 0. */
int emulated_failure(const char *function);

static inline uint64_t emulated_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;	/* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

#ifdef __cplusplus
}
#endif

#endif
