/*
 * loader/usage.c - see usage.h.
 *
 * /proc/self/smaps_rollup (Linux 4.14) is read with plain system calls: a forked worker may not rely on
 * more of the C library than that.  Where it is absent memory stays 0, "not asked".
 */
#include "loader/usage.h"

#include "bench/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t usage_cpu_ns(void)
{
	struct timespec t;

	return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) ? 0 : (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t kib_of(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtoull(at + strlen(key), NULL, 10) << 10 : 0;
}

void usage_memory(struct usage *u)
{
	char text[4096];
	size_t have = 0;
	ssize_t got = 1;
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && got && have < sizeof(text) - 1) {
		got = read(fd, text + have, sizeof(text) - 1 - have);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			break;
		have += (size_t)got;
	}
	text[have] = '\0';
	if (fd >= 0)
		close(fd);
	u->pss_bytes = kib_of(text, "\nPss:");
	u->uss_bytes = kib_of(text, "\nPrivate_Clean:") + kib_of(text, "\nPrivate_Dirty:");
}
