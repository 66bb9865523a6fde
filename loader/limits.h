/*
 * loader/limits.h - how much memory a process may still take, and who says so.
 *
 * A request beyond it does not fail by itself: the kernel kills some process to meet it, or sends a signal.  So the loader
 * asks before its first worker starts.
 *
 * Not here: /dev/shm.  Batches for processes are an anonymous file, which the size of that mount does not bind.
 */
#ifndef SFSCALE_LOADER_LIMITS_H
#define SFSCALE_LOADER_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

struct limit_found {
	size_t bytes;			/* SIZE_MAX: nobody limits it */
	char who[128];			/* "ulimit -v", "/sys/fs/cgroup/a/memory.max", ... */
};

/* The least of all limits on further memory; `file`: in one file, which is shared.  `root` stands before /proc and /sys
 * ("": this machine). */
struct limit_found limits_least(const char *root, bool file);

#endif
