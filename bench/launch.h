/*
 * bench/launch.h - starts one job through a launcher, watches it, and leaves nothing behind.
 */
#ifndef SFSCALE_BENCH_LAUNCH_H
#define SFSCALE_BENCH_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct launch {
	/* The launcher's words; {nodes} {ranks} {ranks-per-node} are replaced in each.  No shell reads them. */
	const char *launcher;	/* split at blanks */
	size_t nodes, ranks_per_node;
	const char *const *command;	/* the program and its words, ends with NULL; borrowed */
	const char *log_dir;	/* made when absent; receives "log" (stdout and stderr) */
	uint64_t timeout_s;	/* then SIGTERM, and SIGKILL after GRACE_S; 0: none */
};

struct launch_result {
	int exit;		/* status as a shell says it: 128 + signal when one ended it */
	bool timed_out;
	bool interrupted;	/* this program was told to stop (SIGINT, SIGTERM) */
	uint64_t wall_ns;	/* launcher included */
	char log[4096];		/* path of the log */
};

enum { LAUNCH_GRACE_S = 10 };

/* Runs the job to its end.  OK when it could be started: how it ended is in `result`.  FAILED (said)
 * when there is no such launcher. */
int launch_run(const struct launch *, struct launch_result *result);

/* From now on SIGINT and SIGTERM end the job of launch_run(), and then come back as `interrupted`. */
void launch_catch_signals(void);

#endif
