/*
 * loader/usage.h - what a worker takes of the machine, as it says of itself.
 */
#ifndef SFSCALE_LOADER_USAGE_H
#define SFSCALE_LOADER_USAGE_H

#include <stdint.h>

/* Memory is of the process; 0: not asked. */
struct usage {
	uint64_t cpu_ns;	/* of the calling thread, since it began */
	uint64_t uss_bytes;	/* pages that nobody else has: what its end would give back */
	uint64_t pss_bytes;	/* and its share of those that others have too */
};

/* CPU time costs a system call.  Memory costs a walk over all pages that the process has mapped, batches in flight
 * included: tens of milliseconds per GiB. */
uint64_t usage_cpu_ns(void);
void usage_memory(struct usage *);

#endif
