/*
 * loader/limits.c - see limits.h.
 *
 * A cgroup counts the page cache of its files, which the kernel drops when memory is asked for: what it calls inactive
 * there is free for us.  All groups above ours bind as well.
 */
#include "loader/limits.h"

#include "bench/base/file.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void consider(struct limit_found *least, size_t bytes, const char *who)
{
	if (bytes >= least->bytes)
		return;
	least->bytes = bytes;
	snprintf(least->who, sizeof(least->who), "%.*s", (int)sizeof(least->who) - 1, who);
}

/* The text of a small file; NULL where there is none.  Owned by the caller. */
static char *text_of(const char *path)
{
	char *text = NULL;

	return !access(path, R_OK) && !file_read(path, &text, NULL) ? text : NULL;
}

/* The number behind `key` in a file, `absent` where there is none ("max" of a cgroup is none). */
static size_t number_in(const char *path, const char *key, size_t absent)
{
	char *text = text_of(path), *at = text ? strstr(text, key) : NULL, *end;
	size_t value = at ? strtoull(at + strlen(key), &end, 10) : 0;

	if (!at || end == at + strlen(key))
		value = absent;
	free(text);
	return value;
}

/* Version 1 and version 2 of control groups: a line of /proc/self/cgroup, where it is mounted, its files. */
static const struct cgroup_kind {
	const char *line, *mount, *most, *used, *stat;
} kinds[] = {
	{ "0::", "/sys/fs/cgroup", "memory.max", "memory.current", "\ninactive_file " },
	{ ":memory:", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "\ntotal_inactive_file " },
};

static void consider_group(struct limit_found *least, const char *root, const struct cgroup_kind *k, const char *group)
{
	char folder[PATH_BYTES], path[PATH_BYTES];
	size_t most, used, cache;

	if (path_make(folder, "%s%s%s", root, k->mount, group) || path_make(path, "%s/%s", folder, k->most))
		return;
	most = number_in(path, "", SIZE_MAX);
	if (most >= SIZE_MAX / 4)	/* version 1 says "no limit" so */
		return;
	if (path_make(path, "%s/%s", folder, k->used))
		return;
	used = number_in(path, "", 0);
	if (path_make(path, "%s/memory.stat", folder))
		return;
	cache = number_in(path, k->stat, 0);
	used -= cache < used ? cache : used;
	if (!path_make(path, "%s/%s", folder, k->most))
		consider(least, used < most ? most - used : 0, path);
}

/* Ours and those above it.  Inside a container the name may be that of the host, and only the top is there. */
static void consider_groups(struct limit_found *least, const char *root, const struct cgroup_kind *k)
{
	char path[PATH_BYTES], *text, *group, *slash;

	if (path_make(path, "%s/proc/self/cgroup", root))
		return;
	text = text_of(path);
	group = text ? strstr(text, k->line) : NULL;
	if (group) {
		group += strlen(k->line);
		group[strcspn(group, "\n")] = '\0';
		do {
			slash = strrchr(group, '/');
			consider_group(least, root, k, strcmp(group, "/") ? group : "");
			if (slash)
				*slash = '\0';
		} while (slash && slash > group);
		consider_group(least, root, k, "");
	}
	free(text);
}

static void consider_rlimit(struct limit_found *least, int resource, size_t used, const char *who)
{
	struct rlimit limit;

	if (!getrlimit(resource, &limit) && limit.rlim_cur != RLIM_INFINITY)
		consider(least, used < limit.rlim_cur ? limit.rlim_cur - used : 0, who);
}

struct limit_found limits_least(const char *root, bool file)
{
	struct limit_found least = { SIZE_MAX, "" };
	char path[PATH_BYTES];
	size_t kib;

	if (!path_make(path, "%s/proc/meminfo", root) && (kib = number_in(path, "MemAvailable:", SIZE_MAX)) != SIZE_MAX)
		consider(&least, kib << 10, "MemAvailable");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		consider_groups(&least, root, &kinds[i]);
	if (file)
		consider_rlimit(&least, RLIMIT_FSIZE, 0, "ulimit -f");
	else
		consider_rlimit(&least, RLIMIT_DATA, number_in("/proc/self/status", "VmData:", 0) << 10, "ulimit -d");
	consider_rlimit(&least, RLIMIT_AS, number_in("/proc/self/statm", "", 0) * (size_t)sysconf(_SC_PAGESIZE), "ulimit -v");
	return least;
}
