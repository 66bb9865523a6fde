/*
 * tests/shell.h - the program as a line of the shell, and what it answers.
 */
#ifndef SFSCALE_TESTS_SHELL_H
#define SFSCALE_TESTS_SHELL_H

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <cmocka.h>

/* Runs a line of the shell: what it prints on either stream into `out`, its exit status as result. */
static int shell(const char *line, char *out, size_t room)
{
	char whole[2 * PATH_BYTES];
	size_t used = 0, got;
	FILE *f;
	int status;

	assert_true(snprintf(whole, sizeof(whole), "{ %s ; } 2>&1", line) < (int)sizeof(whole));
	f = popen(whole, "r");
	assert_non_null(f);
	while ((got = fread(out + used, 1, room - used - 1, f)) > 0)
		used += got;
	out[used] = '\0';
	status = pclose(f);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* The program with `words`, maybe with a redirection behind them. */
static inline int program(const char *words, char *out, size_t room)
{
	const char *build = getenv("SFSCALE_BUILD");
	char line[PATH_BYTES];

	assert_int_equal(path_make(line, "%s/sfscale %s", build ? build : "build", words), OK);
	return shell(line, out, room);
}

#endif
