/*
 * kernels/initial.h - the weights of step 0, the same for every back end and on every rank.
 */
#ifndef SFSCALE_KERNELS_INITIAL_H
#define SFSCALE_KERNELS_INITIAL_H

#include "kernels/net.h"

#include <stdint.h>

/* Fills `plain` (params[index].count floats, PySlowFast's order). */
void initial_weights(const struct net *, size_t index, uint64_t seed, float *plain);

#endif
