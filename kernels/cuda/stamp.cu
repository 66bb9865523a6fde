/*
 * kernels/cuda/stamp.cu - the device's clock, as a kernel that a stream comes to.
 *
 * %globaltimer counts nanoseconds, one clock for all multiprocessors; how often it moves depends on the chip (32 ns to 1 us).
 * On sm_70 and sm_90 one instruction reads it and one writes it, to the whole system (CS2R and STG.E.64.STRONG.SYS, by
 * cuobjdump): so the host may look at the word at any time, and no other memory depends on it.
 */
#include "kernels/cuda/launch.cuh"

#include <stdint.h>

static __global__ void stamp(volatile uint64_t *at)
{
	*at = cuda_globaltimer_ns();
}

extern "C" int cuda_stamp(uint64_t *at, cudaStream_t stream)
{
	return CUDA_LAUNCH(stamp, 1, 1, stream, at);
}
