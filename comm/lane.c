/*
 * comm/lane.c - see lane.h.
 *
 * Training thread and lane share two counters under one mutex: buckets started and buckets done.  The lane sleeps on a
 * condition when it has caught up, and so does the drain.  On a device a bucket is done here when it is enqueued; whether
 * anything enqueued is still under way is a third fact, `pending`.
 *
 * Without overlap buckets are kept back until the drain, and on a device each of them waits for the last one's event.
 */
#include "comm/lane.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

enum { POLL_NS = 1000000 };	/* nobody waits for the answer but who would wait for ever */

struct comm_lane {
	struct comm *comm;
	const struct bucket_plan *plan;
	float *grads;
	struct lane *spans;
	void **events;		/* owned; by bucket of this iteration, under the lock */
	bool on_device, overlap, threaded;
	uint32_t iter;		/* of the buckets started, under the lock */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t moved;
	size_t given, started, done;	/* of this iteration, under the lock */
	bool pending;			/* likewise, as this: */
	size_t watched;			/* what else was enqueued so far */
	bool stop;
	int rc;
};

static int reduce_on_host(struct comm_lane *l, const struct bucket *k, uint32_t iter)
{
	int rc;

	if (l->spans)
		l->spans->iter = iter;
	span_begin(l->spans, SPAN_ALLREDUCE, k->count * sizeof(float));
	rc = comm_mean(l->comm, l->grads + k->offset, k->count);
	span_end(l->spans);
	return rc;
}

static int reduce(struct comm_lane *l, size_t b, uint32_t iter, void *event)
{
	const struct bucket *k = &l->plan->buckets[b];
	int rc;

	if (!l->on_device)
		return reduce_on_host(l, k, iter);
	rc = l->comm->backend->follow_device(l->comm, event);
	return rc ? rc : l->comm->backend->mean_device(l->comm, l->grads + k->offset, k->count);
}

/* On a device the training thread is somewhere else, and may be waiting for ranks that wait for this one. */
static void fail(struct comm_lane *l, int rc)
{
	if (!rc)
		return;
	l->rc = l->rc ? l->rc : rc;
	if (l->on_device)
		l->comm->lost = true;
}

/* Under the lock, which is open meanwhile.  After a failure buckets are only counted: the other ranks may have left the
 * collective. */
static void take_bucket(struct comm_lane *l)
{
	const size_t b = l->done;
	const uint32_t iter = l->iter;
	void *event = l->events[b];
	int rc = l->rc;

	pthread_mutex_unlock(&l->lock);
	if (!rc)
		rc = reduce(l, b, iter, event);
	pthread_mutex_lock(&l->lock);
	l->done++;
	fail(l, rc);
	l->pending = l->on_device && !l->rc;
	pthread_cond_broadcast(&l->moved);
}

/* Under the lock; asks, and sleeps a little. */
static void look_after(struct comm_lane *l)
{
	const size_t watched = l->watched;
	struct timespec until;
	bool done = false;
	int rc;

	pthread_mutex_unlock(&l->lock);
	rc = l->comm->backend->poll_device(l->comm, &done);
	pthread_mutex_lock(&l->lock);
	fail(l, rc);
	if (rc || (done && l->done == l->started && l->watched == watched)) {
		l->pending = false;
		pthread_cond_broadcast(&l->moved);
	} else if (l->done == l->started) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += POLL_NS;
		until.tv_sec += until.tv_nsec / (long)NS_PER_S;
		until.tv_nsec %= (long)NS_PER_S;
		pthread_cond_timedwait(&l->moved, &l->lock, &until);
	}
}

static void *work(void *arg)
{
	struct comm_lane *l = arg;

	pthread_mutex_lock(&l->lock);
	while (!l->stop || l->pending) {
		if (l->done < l->started)
			take_bucket(l);
		else if (l->pending)
			look_after(l);
		else
			pthread_cond_wait(&l->moved, &l->lock);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

int comm_lane_open(struct comm_lane **out, struct comm *comm, const struct bucket_plan *plan, float *grads,
		   bool on_device, bool overlap, struct lane *spans)
{
	struct comm_lane *l = calloc(1, sizeof(*l));
	void **events = calloc(plan->bucket_count + 1, sizeof(*events));
	pthread_condattr_t monotonic;

	if (!l || !events) {
		free(l);
		free(events);
		return err(NO_MEMORY, "no memory for a communication lane");
	}
	*l = (struct comm_lane){ .comm = comm, .plan = plan, .grads = grads, .on_device = on_device, .overlap = overlap,
				 .threaded = overlap || on_device, .spans = spans, .events = events };
	if (on_device)
		comm->device_lane = spans;
	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&l->moved, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (l->threaded && pthread_create(&l->thread, NULL, work, l)) {
		l->threaded = false;
		comm_lane_close(l);
		return err(FAILED, "cannot start the communication thread");
	}
	*out = l;
	return OK;
}

void comm_lane_grads(struct comm_lane *l, float *grads)
{
	l->grads = grads;	/* the thread looks after the next start, under the lock */
}

int comm_lane_start(struct comm_lane *l, size_t b, uint32_t iter, void *event)
{
	int rc;

	pthread_mutex_lock(&l->lock);
	assert(b == l->given && b < l->plan->bucket_count);
	l->iter = iter;
	l->events[b] = event;
	l->given++;
	l->started = l->overlap ? l->given : 0;
	rc = l->rc;
	pthread_cond_broadcast(&l->moved);
	pthread_mutex_unlock(&l->lock);
	return rc;
}

/* Under the lock. */
static void start_all(struct comm_lane *l)
{
	for (size_t b = l->started; b + 1 < l->given; b++)
		l->events[b] = l->events[l->given - 1];
	l->started = l->given;
	pthread_cond_broadcast(&l->moved);
}

int comm_lane_drain(struct comm_lane *l)
{
	int rc;

	pthread_mutex_lock(&l->lock);
	if (!l->overlap)
		start_all(l);
	while (l->done < l->started) {
		if (l->threaded)
			pthread_cond_wait(&l->moved, &l->lock);
		else
			take_bucket(l);
	}
	l->given = l->started = l->done = 0;
	rc = l->rc;
	pthread_mutex_unlock(&l->lock);
	return rc;
}

void comm_lane_watch(struct comm_lane *l)
{
	pthread_mutex_lock(&l->lock);
	l->pending = !l->rc;
	l->watched++;
	pthread_cond_broadcast(&l->moved);
	pthread_mutex_unlock(&l->lock);
}

int comm_lane_settle(struct comm_lane *l)
{
	int rc;

	pthread_mutex_lock(&l->lock);
	while (l->pending)
		pthread_cond_wait(&l->moved, &l->lock);
	rc = l->rc;
	pthread_mutex_unlock(&l->lock);
	return rc;
}

void comm_lane_close(struct comm_lane *l)
{
	if (!l)
		return;
	if (l->threaded) {
		pthread_mutex_lock(&l->lock);
		l->stop = true;
		pthread_cond_broadcast(&l->moved);
		pthread_mutex_unlock(&l->lock);
		pthread_join(l->thread, NULL);
	}
	if (l->on_device)
		l->comm->device_lane = NULL;
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->moved);
	free(l->events);
	free(l);
}
