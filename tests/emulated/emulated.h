/*
 * tests/emulated/emulated.h - what a test may ask of the emulated device.
 *
 * Everything in kernels/cuda runs on the CPU here: kernels by tests/emulated/kernel.h, the runtime by cudart.c.  That proves
 * arithmetic, indices and wiring.  It proves nothing about speed, about memory order between blocks, or about what a GPU's
 * own exp() returns in its last bit.
 */
#ifndef SFSCALE_TESTS_EMULATED_H
#define SFSCALE_TESTS_EMULATED_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Blocks, and threads between two barriers, run in an order that this chooses; 0: in the order of their numbers.  No order may
 * change a bit of any result. */
void emulated_order(uint64_t seed);

/* The device's memory; 4 GiB at first.  What goes beyond it fails as on a device. */
void emulated_memory(size_t bytes);
/* Allocated and not freed. */
size_t emulated_memory_used(void);

/* Devices that there are; 1 at first. */
void emulated_devices(int count);

/* The `nth` call from now, counted from 1, of the runtime's function of this name fails with `error` (a cudaError_t); one such
 * order at a time, NULL takes it back.  "launch" is a kernel's start. */
void emulated_fail(const char *function, unsigned nth, int error);

/* For the emulation itself: the error that this call was ordered to return, or 0. */
int emulated_failure(const char *function);

#ifdef __cplusplus
}
#endif

#endif
