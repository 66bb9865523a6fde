/*
 * kernels/dropout.h - which features a step drops: the same ones in every back end.
 */
#ifndef SFSCALE_KERNELS_DROPOUT_H
#define SFSCALE_KERNELS_DROPOUT_H

#include <stddef.h>
#include <stdint.h>

/* `scale[i]` is 0 with probability p < 1, else 1/(1-p). */
void dropout_draw(uint64_t seed, uint64_t step, double p, size_t count, float *scale);

#endif
