/*
 * bench/base/err.h - one way to fail.
 *
 * Whoever first knows that something went wrong says it, once, through err(), which returns
 * the code it was given; everybody above passes the code up without a word.  Only main()
 * turns a code into an exit status, by rc_exit().
 */
#ifndef SFSCALE_BASE_ERR_H
#define SFSCALE_BASE_ERR_H

#include <stddef.h>

enum rc {
	OK = 0,
	FAILED = -1,		/* the environment: a file, a library, a device, a peer */
	NO_MEMORY = -2,
	UNSUPPORTED = -3,	/* well asked, but not to be had on this machine */
	USAGE = -4,		/* the user's mistake on the command line */
	BELOW = -5,		/* worked, and the verdict is bad: a baseline missed, a finding of severity error */
	RANK_FAILED = -6,	/* a rank of a job died or reported failure */
};

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Says "sfscale: ..." (behind "rank N: " once err_rank() was called) in one line on stderr
 * and returns `rc`.  The message is lower case, the thing in quotes, what failed before why. */
int err(int rc, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The latest message of err() in any thread, without prefix; "" before the first; good until this thread asks again.
 * What a record gives as reason: the failure may have been that of a thread which is gone. */
const char *err_last(void);

/* The latest of this thread: why a call of its own failed, whatever other threads said meanwhile. */
const char *err_own(void);

/* The same line with "warning: " in front; nothing fails. */
void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Names this process in all later messages.  Negative: no rank. */
void err_rank(int rank);

/* Exit status of the program: 0 ok, 1 usage, 2 environment, 3 below baseline, 4 a rank failed. */
int rc_exit(int rc);

#endif
