/*
 * loader/parallel.c - see parallel.h.
 *
 * Items are handed out one by one from a counter, so nobody idles while another still has a
 * share; an item should be worth far more than the 50 ns or so that the counter costs.
 */
#include "loader/parallel.h"

#include "bench/base/err.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct crew {
	int (*work)(void *context, size_t thread, size_t item);
	void *context;			/* borrowed */
	size_t items;
	atomic_size_t next, threads;	/* both are taken by adding one */
	atomic_int rc;			/* the first failure */
};

size_t parallel_cores(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? 1 : (size_t)CPU_COUNT(&set);
}

static void *member(void *argument)
{
	struct crew *crew = argument;
	size_t thread = atomic_fetch_add(&crew->threads, 1), item;

	while (!atomic_load(&crew->rc) && (item = atomic_fetch_add(&crew->next, 1)) < crew->items) {
		int rc = crew->work(crew->context, thread, item), none = OK;

		if (rc)
			atomic_compare_exchange_strong(&crew->rc, &none, rc);
	}
	return NULL;
}

int parallel_each(size_t items, size_t threads, int (*work)(void *context, size_t thread, size_t item), void *context)
{
	struct crew crew = { .work = work, .context = context, .items = items };
	pthread_t *others = calloc(threads, sizeof(*others));
	size_t started = 0;
	int why = 0;

	if (!others)
		return err(NO_MEMORY, "no memory for %zu threads", threads);
	while (!why && started + 1 < threads) {
		why = pthread_create(&others[started], NULL, member, &crew);
		started += !why;
	}
	if (why)
		atomic_store(&crew.rc, err(FAILED, "cannot start a thread: %s", strerror(why)));
	member(&crew);
	for (size_t i = 0; i < started; i++)
		pthread_join(others[i], NULL);
	free(others);
	return atomic_load(&crew.rc);
}
