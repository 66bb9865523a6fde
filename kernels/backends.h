/*
 * kernels/backends.h - the back ends that kernels.c lists.
 */
#ifndef SFSCALE_KERNELS_BACKENDS_H
#define SFSCALE_KERNELS_BACKENDS_H

#include "kernels/kernels.h"

extern const struct kernel_backend kernel_cpu;	/* oneDNN: the reference, the others are judged against it */
extern const struct kernel_backend kernel_null;	/* no arithmetic; in no time, or in an emulated time */

#endif
