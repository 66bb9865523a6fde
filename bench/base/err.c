/*
 * bench/base/err.c - see err.h.
 *
 * A message is formatted whole and leaves in one write(2): ranks share one stderr, and a
 * line torn by another rank's line is no message.
 */
#include "bench/base/err.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int own_rank = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char last[1024];	/* of any thread, under the lock */
static _Thread_local char own[sizeof(last)], copy[sizeof(last)];

void err_rank(int rank)
{
	own_rank = rank;
}

static void say(const char *kind, const char *format, va_list args)
{
	char line[2048];
	size_t used;
	int n;

	n = own_rank < 0 ? snprintf(line, sizeof(line), "sfscale: %s", kind)
			 : snprintf(line, sizeof(line), "sfscale: rank %d: %s", own_rank, kind);
	used = (size_t)n;
	n = vsnprintf(line + used, sizeof(line) - used - 1, format, args);
	used += n < 0 ? 0 : (size_t)n;
	if (used > sizeof(line) - 2)
		used = sizeof(line) - 2;
	line[used++] = '\n';
	fflush(stdout);
	if (write(STDERR_FILENO, line, used) < 0)
		return;		/* nowhere left to complain */
}

int err(int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("", format, args);
	va_end(args);
	va_start(args, format);
	vsnprintf(own, sizeof(own), format, args);
	va_end(args);
	pthread_mutex_lock(&lock);
	memcpy(last, own, sizeof(last));
	pthread_mutex_unlock(&lock);
	return rc;
}

const char *err_last(void)
{
	pthread_mutex_lock(&lock);
	memcpy(copy, last, sizeof(copy));
	pthread_mutex_unlock(&lock);
	return copy;
}

const char *err_own(void)
{
	return own;
}

void warn(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("warning: ", format, args);
	va_end(args);
}

int rc_exit(int rc)
{
	switch (rc) {
	case OK:
		return 0;
	case USAGE:
		return 1;
	case BELOW:
		return 3;
	case RANK_FAILED:
		return 4;
	default:
		return 2;
	}
}
