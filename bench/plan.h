/*
 * bench/plan.h - the buckets of a network's gradients, as options name them.
 */
#ifndef SFSCALE_BENCH_PLAN_H
#define SFSCALE_BENCH_PLAN_H

#include "comm/bucket.h"
#include "kernels/net.h"

#include <stdint.h>

#define BUCKET_LAYOUTS "static|rebuilt|size"

/* `layout` is one of BUCKET_LAYOUTS; see comm/bucket.h. */
int plan_buckets(struct bucket_plan *, const struct net *, const char *layout, uint64_t first_bytes,
		 uint64_t limit_bytes);

#endif
