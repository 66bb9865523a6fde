/*
 * comm/lane.h - the lane on which gradient buckets travel while backward still runs.
 *
 * A thread of its own takes buckets in the order of the plan and averages them over the ranks, in place.  Each reduction is
 * one SPAN_ALLREDUCE.  Without overlap all buckets are reduced in comm_lane_drain().
 *
 * In device memory the thread enqueues, so that nobody else waits for the library, and then asks every millisecond whether
 * all is done: it is who finds that another rank has died while the training thread waits for its own device.
 */
#ifndef SFSCALE_COMM_LANE_H
#define SFSCALE_COMM_LANE_H

#include "bench/base/span.h"
#include "comm/bucket.h"
#include "comm/comm.h"

struct comm_lane;

/* `comm`, `plan` and `grads` (the flat buffer, maybe in device memory) are borrowed for the lane's life; `spans` may be NULL.
 * On a device it becomes comm's device_lane. */
int comm_lane_open(struct comm_lane **, struct comm *comm, const struct bucket_plan *plan, float *grads, bool on_device,
		   bool overlap, struct lane *spans);
/* From the next iteration on the buckets lie here. */
void comm_lane_grads(struct comm_lane *, float *grads);
/* Bucket `b` of this iteration is complete, on a device when `event` has come (else it is NULL); buckets come in order
 * 0, 1, 2, ... */
int comm_lane_start(struct comm_lane *, size_t b, uint32_t iter, void *event);
/* Returns when all buckets are summed, on a device when all are enqueued; the first failure of any of them. */
int comm_lane_drain(struct comm_lane *);
/* On a device: the comm has enqueued something else, which the thread is to look after. */
void comm_lane_watch(struct comm_lane *);
/* On a device: returns when all that was enqueued is done. */
int comm_lane_settle(struct comm_lane *);
void comm_lane_close(struct comm_lane *);

#endif
