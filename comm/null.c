/*
 * comm/null.c - a job of one rank: every collective is done already.
 *
 * What is left of a step with it is everything but communication.
 */
#include "comm/backends.h"

#include "bench/base/err.h"

#include <stdio.h>
#include <stdlib.h>

static int null_open(struct comm **out, const struct comm_config *config)
{
	static const size_t leaders[1] = { 0 };
	static struct comm one = { .backend = &comm_null, .rank = 0, .world = 1, .local_rank = 0, .local_world = 1,
				   .hosts = 1, .host = 0, .host_leaders = leaders };

	(void)config;
	*out = &one;
	return OK;
}

static void null_close(struct comm *c)
{
	(void)c;
}

static int null_bcast(struct comm *c, void *data, size_t bytes, size_t root)
{
	(void)c;
	(void)data;
	(void)bytes;
	(void)root;
	return OK;
}

static int null_sum(struct comm *c, float *data, size_t count)
{
	(void)c;
	(void)data;
	(void)count;
	return OK;
}

static int null_barrier(struct comm *c)
{
	(void)c;
	return OK;
}

static void null_abort(struct comm *c, int status)
{
	(void)c;
	(void)status;
}

static int null_follow(struct comm *c, void *event)
{
	(void)c;
	(void)event;
	return OK;
}

static int null_mark(struct comm *c, void **event)
{
	(void)c;
	*event = NULL;
	return OK;
}

static int null_poll(struct comm *c, bool *done)
{
	(void)c;
	*done = true;
	return OK;
}

static int null_version(char *text, size_t bytes)
{
	snprintf(text, bytes, "none");
	return OK;
}

const struct comm_backend comm_null = {
	.name = "null",
	.meaning = "one rank, no library",
	.on_host = true,
	.on_device = true,
	.open = null_open,
	.close = null_close,
	.bcast = null_bcast,
	.sum = null_sum,
	.barrier = null_barrier,
	.abort = null_abort,
	.version = null_version,
	.bcast_device = null_bcast,
	.mean_device = null_sum,
	.follow_device = null_follow,
	.mark_device = null_mark,
	.poll_device = null_poll,
	.collect_device = null_barrier,
};
