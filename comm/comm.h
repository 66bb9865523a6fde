/*
 * comm/comm.h - collectives over the ranks of a job.
 *
 * Two ways in: calls of the training thread (broadcast, all-reduce of the loss), and a *lane*
 * that reduces gradient buckets in the background, in the order they are handed over.  The
 * training thread must not call while buckets are in flight.
 */
#ifndef SFSCALE_COMM_COMM_H
#define SFSCALE_COMM_COMM_H

#include "bench/base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct comm {
	const struct comm_backend *backend;
	size_t rank, world;
	size_t local_rank, local_world;	/* among the ranks of this host */
	size_t hosts;
};

struct comm_backend {
	const char *name;		/* "null", "mpi" */
	int (*open)(struct comm **);
	void (*close)(struct comm *);
	/* Blocking, over all ranks. */
	int (*bcast)(struct comm *, void *data, size_t bytes, size_t root);
	int (*sum)(struct comm *, float *data, size_t count);		/* in place */
	int (*sum_f64)(struct comm *, double *data, size_t count);
	int (*gather)(struct comm *, const void *mine, size_t bytes, void *all);	/* `all` on rank 0: world * bytes */
	int (*barrier)(struct comm *);
	/* Ends the job on all ranks with this exit status; does not return. */
	void (*abort)(struct comm *, int status);
};

extern const struct comm_backend *const comm_backends[];	/* ends with NULL */
const struct comm_backend *comm_backend_find(const char *name);	/* NULL: unknown */

#endif
