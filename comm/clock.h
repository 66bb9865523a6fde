/*
 * comm/clock.h - the clocks of the nodes against the clock of rank 0's node.
 *
 * A leader per node exchanges short messages with a leader whose clock is known already, and
 * learns where its own clock stands (bench/base/sync.h: struct sync_point).  Every rank gets
 * the point of its node.  On one host there is one clock: no message is sent.
 *
 * A run calls comm_clock_open() as soon as it has its job, comm_clock_sync() right before the
 * first step, at the beginning of each later epoch and after the last step, and gives each
 * point to recorder_sync().  All ranks call together, on the training thread, while the lane of
 * the buckets is empty.  At the beginning of an epoch the ranks have just left a collective, so
 * the synchronisation hides no late rank; what it costs is a span of its own, which the caller
 * puts around it (SPAN_CLOCK_SYNC).
 */
#ifndef SFSCALE_COMM_CLOCK_H
#define SFSCALE_COMM_CLOCK_H

#include "bench/base/sync.h"
#include "comm/comm.h"

struct comm_clock;

/* Where times come from, for tests and for clocks other than clock_ns(). */
struct comm_clock_source {
	uint64_t (*now_ns)(void *arg);
	void *arg;
	bool per_rank;	/* every rank has a clock of its own; else one per host */
	size_t fan;	/* leaders that a leader serves in a round; 0: COMM_CLOCK_FAN */
};

enum { COMM_CLOCK_FAN = 15 };

/* `source` NULL: clock_ns(), one per host.  Takes a first look, so that the rates are known when
 * comm_clock_sync() is called: one open and one sync make a map with a slope. */
int comm_clock_open(struct comm_clock **, struct comm *, const struct comm_clock_source *source);

/* The point of this rank's node, now.  The first call comes no earlier than 100 ms after the open,
 * and waits for that. */
int comm_clock_sync(struct comm_clock *, struct sync_point *);

void comm_clock_close(struct comm_clock *);

#endif
