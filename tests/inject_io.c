/*
 * tests/inject_io.c - bad storage and bad luck, preloaded into a program: what its read() of a frame gives.
 *
 * SFSCALE_IO names the fault, SFSCALE_IO_WHO the thread that meets it (as prctl names threads; absent: all), SFSCALE_IO_AT
 * the read of a frame from which on it does (absent: the first).
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { PART_BYTES = 100 };

static int is_frame(int fd)
{
	char link[64], path[4096];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path));
	return n > 4 && !memcmp(path + n - 4, ".jpg", 4);
}

static int is_meant(int fd)
{
	static atomic_ulong reads;
	const char *who = getenv("SFSCALE_IO_WHO"), *at = getenv("SFSCALE_IO_AT");
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	return is_frame(fd) && (!who || !strcmp(who, name)) && ++reads >= (at ? strtoul(at, NULL, 10) : 1);
}

ssize_t read(int fd, void *to, size_t bytes)
{
	static ssize_t (*whole)(int, void *, size_t);
	const char *fault = getenv("SFSCALE_IO");

	if (!whole)
		whole = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
	if (!fault || !is_meant(fd))
		return whole(fd, to, bytes);
	if (!strcmp(fault, "error")) {
		errno = EIO;
		return -1;
	}
	if (!strcmp(fault, "end"))
		return 0;
	if (!strcmp(fault, "part"))
		return whole(fd, to, bytes < PART_BYTES ? bytes : PART_BYTES);
	if (!strcmp(fault, "die"))
		kill(getpid(), SIGKILL);
	if (!strcmp(fault, "stop"))
		kill(getpid(), SIGSTOP);
	while (!strcmp(fault, "hang"))
		pause();
	return whole(fd, to, bytes);
}
