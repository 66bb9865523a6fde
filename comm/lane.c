/*
 * comm/lane.c - see lane.h.
 *
 * Training thread and lane share two counters under one mutex: buckets started and buckets
 * done.  The lane sleeps on a condition when it has caught up, and so does the drain.
 */
#include "comm/lane.h"

#include "bench/base/err.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct comm_lane {
	struct comm *comm;
	const struct bucket_plan *plan;
	float *grads;
	struct lane *spans;
	bool on_device, overlap;
	uint32_t iter;		/* of the buckets started, under the lock */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t moved;
	size_t started, done;	/* of this iteration, under the lock */
	bool stop;
	int rc;
};

static int reduce(struct comm_lane *l, size_t b, uint32_t iter)
{
	const struct bucket *k = &l->plan->buckets[b];
	int rc;

	if (l->spans)
		l->spans->iter = iter;
	span_begin(l->spans, SPAN_ALLREDUCE, k->count * sizeof(float));
	rc = comm_mean(l->comm, l->on_device, l->grads + k->offset, k->count);
	span_end(l->spans);
	return rc;
}

static void *work(void *arg)
{
	struct comm_lane *l = arg;

	pthread_mutex_lock(&l->lock);
	while (!l->stop) {
		size_t b = l->done;
		uint32_t iter = l->iter;
		int rc = l->rc;

		if (b == l->started) {
			pthread_cond_wait(&l->moved, &l->lock);
			continue;
		}
		pthread_mutex_unlock(&l->lock);
		/* After a failure buckets are only counted: the other ranks may have left the collective. */
		if (!rc)
			rc = reduce(l, b, iter);
		pthread_mutex_lock(&l->lock);
		l->done++;
		l->rc = rc;
		pthread_cond_broadcast(&l->moved);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

int comm_lane_open(struct comm_lane **out, struct comm *comm, const struct bucket_plan *plan, float *grads,
		   bool on_device, bool overlap, struct lane *spans)
{
	struct comm_lane *l = calloc(1, sizeof(*l));

	if (!l)
		return err(NO_MEMORY, "no memory for a communication lane");
	*l = (struct comm_lane){ .comm = comm, .plan = plan, .grads = grads, .on_device = on_device,
				 .overlap = overlap, .spans = spans };
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->moved, NULL);
	if (overlap && pthread_create(&l->thread, NULL, work, l)) {
		pthread_mutex_destroy(&l->lock);
		pthread_cond_destroy(&l->moved);
		free(l);
		return err(FAILED, "cannot start the communication thread");
	}
	*out = l;
	return OK;
}

void comm_lane_grads(struct comm_lane *l, float *grads)
{
	l->grads = grads;	/* the thread looks after the next start, under the lock */
}

int comm_lane_start(struct comm_lane *l, size_t b, uint32_t iter)
{
	int rc;

	pthread_mutex_lock(&l->lock);
	assert(b == l->started && b < l->plan->bucket_count);
	l->iter = iter;
	l->started++;
	rc = l->rc;
	pthread_cond_broadcast(&l->moved);
	pthread_mutex_unlock(&l->lock);
	return rc;
}

int comm_lane_drain(struct comm_lane *l)
{
	int rc;

	if (!l->overlap) {
		for (; l->done < l->started && !l->rc; l->done++)
			l->rc = reduce(l, l->done, l->iter);
	}
	pthread_mutex_lock(&l->lock);
	while (l->overlap && l->done < l->started)
		pthread_cond_wait(&l->moved, &l->lock);
	l->started = l->done = 0;
	rc = l->rc;
	pthread_mutex_unlock(&l->lock);
	return rc;
}

void comm_lane_close(struct comm_lane *l)
{
	if (!l)
		return;
	if (l->overlap) {
		pthread_mutex_lock(&l->lock);
		l->stop = true;
		pthread_cond_broadcast(&l->moved);
		pthread_mutex_unlock(&l->lock);
		pthread_join(l->thread, NULL);
	}
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->moved);
	free(l);
}
