/*
 * comm/comm.h - collectives over the ranks of a job.
 *
 * Collectives are calls of one thread at a time: the training thread, or the lane
 * (comm/lane.h) that reduces gradient buckets in the background while the training thread
 * keeps away.  Every call returns when this rank's part is done.
 *
 * Buffers are in host memory, but for those of the slots whose names end in _device.  Those enqueue and return: what fills a
 * buffer comes before them by follow_device(), and what reads it behind them by mark_device(), with events of the back end that
 * computes (struct kernel_queue).  Several threads may call them, one at a time for those that enqueue.
 */
#ifndef SFSCALE_COMM_COMM_H
#define SFSCALE_COMM_COMM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lane;

/* An open job; back ends embed it as their first member. */
struct comm {
	const struct comm_backend *backend;
	size_t rank, world;
	size_t local_rank, local_world;	/* among the ranks of this host */
	size_t hosts;
	size_t host;			/* of this rank, from 0 */
	const size_t *host_leaders;	/* (hosts); rank that is the first of its host, ascending; owned by the back end */
	size_t device;			/* that this rank should compute on, of those of its host, modulo their number */
	atomic_bool lost;		/* a thread has found, and said, that the job cannot go on: no other waits for it any more */
	struct lane *device_lane;	/* where the device's part is written down; set by the caller; NULL: nowhere */
};

/* What there is to choose; back ends read what concerns them. */
struct comm_config {
	const char *library;	/* to open: a path, or a name that the loader finds */
	double timeout_s;	/* a collective over devices that takes longer has failed */
	bool one_device;	/* all ranks share one: none but tests wants this */
	bool bf16;		/* gradients travel, and are summed, in 16 bits; for back ends that can */
};

struct comm_backend {
	const char *name;
	const char *meaning;
	bool on_host, on_device;	/* where gradients may lie that it sums */
	bool takes_bf16;
	int (*open)(struct comm **, const struct comm_config *);
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
	int (*version)(char *text, size_t bytes);		/* of the library, one line; of an open job */
	/* The same in device memory, all required with on_device. */
	int (*bcast_device)(struct comm *, void *data, size_t bytes, size_t root);
	int (*mean_device)(struct comm *, float *data, size_t count);	/* in place, over all ranks */
	int (*follow_device)(struct comm *, void *event);	/* what is enqueued from now on comes behind it */
	int (*mark_device)(struct comm *, void **event);	/* all that is enqueued; borrowed until the next call; NULL: nothing is */
	/* Whether all is done.  RANK_FAILED, said, when that will not be: then the streams are free again, and what lies in the
	 * buffers is nothing. */
	int (*poll_device)(struct comm *, bool *done);
	int (*collect_device)(struct comm *);	/* writes what the device has done meanwhile into device_lane */
	/* Optional: mean_device() will be called for pieces of this block, again and again, and with bf16 for no others; before it is
	 * freed, no more. */
	int (*enlist_device)(struct comm *, void *data, size_t bytes);
	void (*delist_device)(struct comm *, void *data);
	/* Optional: the back end that does everything else for this one. */
	const struct comm_backend *host;
};

extern const struct comm_backend *const comm_backends[];	/* ends with NULL */
const struct comm_backend *comm_backend_find(const char *name);	/* NULL: unknown */
/* The same, or that of the shared object (bench/base/library.h: "nccl"); UNSUPPORTED, said, where there is none. */
int comm_backend_choose(const char *name, const struct comm_backend **);

/* The mean of host memory, in place: a sum of shares, each multiplied by 1 / world first. */
int comm_mean(struct comm *, float *data, size_t count);

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
