/*
 * bench/profile.h - what each operator of the network takes, alone.
 */
#ifndef SFSCALE_BENCH_PROFILE_H
#define SFSCALE_BENCH_PROFILE_H

#include "bench/base/table.h"
#include "kernels/kernels.h"

/* `ops`: one row for each pass of each operator, and one for their sum, on the `clips` of the instance's last step; its
 * activations and gradients are lost.  `ceilings`: what they are held against.  Both to be released, whatever comes of it.
 * UNSUPPORTED, said, where the back end cannot time them. */
int profile_ops(struct kernels *, size_t clips, struct table *ops, struct table *ceilings);

#endif
