/*
 * comm/comm.h - collectives over the ranks of a job.
 *
 * Collectives are calls of one thread at a time: the training thread, or the lane
 * (comm/lane.h) that reduces gradient buckets in the background while the training thread
 * keeps away.  Every call returns when this rank's part is done.
 */
#ifndef SFSCALE_COMM_COMM_H
#define SFSCALE_COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An open job; back ends embed it as their first member. */
struct comm {
	const struct comm_backend *backend;
	size_t rank, world;
	size_t local_rank, local_world;	/* among the ranks of this host */
	size_t hosts;
	size_t host;			/* of this rank, from 0 */
	const size_t *host_leaders;	/* (hosts); rank that is the first of its host, ascending; owned by the back end */
};

struct comm_backend {
	const char *name;
	const char *meaning;
	int (*open)(struct comm **);
	void (*close)(struct comm *);
	int (*bcast)(struct comm *, void *data, size_t bytes, size_t root);
	int (*sum)(struct comm *, float *data, size_t count);	/* in place, over all ranks */
	int (*barrier)(struct comm *);
	/* A few bytes from one rank to another, which asks for exactly as many; for measuring, so at the
	 * shortest delay.  Optional where `world` is always 1. */
	int (*send)(struct comm *, const void *data, size_t bytes, size_t to);
	int (*recv)(struct comm *, void *data, size_t bytes, size_t from);
	/* Ends the job on all ranks with this exit status. */
	void (*abort)(struct comm *, int status);
	int (*version)(char *text, size_t bytes);		/* of the library, one line */
};

extern const struct comm_backend *const comm_backends[];	/* ends with NULL */
const struct comm_backend *comm_backend_find(const char *name);	/* NULL: unknown */

/* What the launcher says before any library is started, from the variables that Open MPI's mpirun,
 * launchers that speak PMI (MPICH, Intel MPI) or Slurm's srun set.  `world` 1 and `launched` false: nobody
 * started us in a group. */
struct comm_launch {
	bool launched;
	size_t world;
	const char *source;	/* the variable that told */
};
struct comm_launch comm_launch_detect(void);

#endif
