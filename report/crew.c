/*
 * report/crew.c - see crew.h.
 *
 * Threads draw indices from a counter; one that has finished waits for its turn.  The lowest index in work is never
 * kept waiting, so the order costs no more than the parts of the other threads in memory.
 */
#include "report/crew.h"

#include "bench/base/err.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS_MAX = 16 };

struct work {
	const struct crew *crew;
	pthread_mutex_t lock;
	pthread_cond_t moved;
	size_t next, taken;
	int rc;
};

static void *labour(void *arg)
{
	struct work *w = arg;
	const struct crew *c = w->crew;
	void *part = malloc(c->part_bytes + 1);

	pthread_mutex_lock(&w->lock);
	if (!part)
		w->rc = NO_MEMORY;
	while (!w->rc && w->next < c->count) {
		size_t index = w->next++;
		int rc;

		pthread_mutex_unlock(&w->lock);
		memset(part, 0, c->part_bytes);
		rc = c->work(c->context, index, part);
		pthread_mutex_lock(&w->lock);
		while (w->taken != index)
			pthread_cond_wait(&w->moved, &w->lock);
		rc = c->take(c->context, index, part, rc);
		w->rc = w->rc ? w->rc : rc;
		w->taken++;
		pthread_cond_broadcast(&w->moved);
	}
	pthread_mutex_unlock(&w->lock);
	free(part);
	return NULL;
}

int crew_run(const struct crew *c)
{
	struct work w = { .crew = c };
	pthread_t threads[THREADS_MAX];
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	size_t want = cores < 1 ? 1 : cores > THREADS_MAX ? THREADS_MAX : (size_t)cores, started = 0;

	if (want > c->count)
		want = c->count;
	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.moved, NULL);
	while (started + 1 < want && !pthread_create(&threads[started], NULL, labour, &w))
		started++;
	labour(&w);		/* this thread is one of them */
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	pthread_mutex_destroy(&w.lock);
	pthread_cond_destroy(&w.moved);
	return w.rc;
}
