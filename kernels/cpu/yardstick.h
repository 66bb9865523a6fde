/*
 * kernels/cpu/yardstick.h - the time that a net's convolutions take when nothing else happens.
 *
 * What a step is measured against: step / sum is 1 when batch norm, pooling, head, optimiser,
 * reorders and memory cost nothing.
 */
#ifndef SFSCALE_KERNELS_CPU_YARDSTICK_H
#define SFSCALE_KERNELS_CPU_YARDSTICK_H

#include "kernels/net.h"

#include <stdint.h>

/* Times every convolution of the net alone, forward, backward data (but for those that read an input) and backward
 * weights, each in the layouts that oneDNN prefers, data in place: the least of `repeats` runs behind one that warms
 * up.  `sum_ns` receives the total. */
int cpu_conv_sum_measure(const struct net *, size_t clips, unsigned threads, size_t repeats, uint64_t *sum_ns);

/* What a large matrix product (a convolution of 1x1x1) and a large copy (bytes read and written) reach: the best of a few. */
int cpu_ceilings_measure(unsigned threads, double *flop_per_s, double *bytes_per_s);

#endif
