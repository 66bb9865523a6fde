/*
 * tests/folders.h - folders that tests of report/ write sweeps and runs into, and what is asked of their reports.
 */
#ifndef SFSCALE_TESTS_FOLDERS_H
#define SFSCALE_TESTS_FOLDERS_H

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "report/report.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* Set-up and tear-down of a test: *state is the path. */
static int folder_make(void **state)
{
	static char path[64];

	strcpy(path, "/tmp/sfscale-report-XXXXXX");
	*state = path;
	return !mkdtemp(path);
}

static int folder_remove(void **state)
{
	return dir_remove(*state);
}

/* The report of one folder, and its summary.json. */
static inline cJSON *report_of(const char *dir)
{
	char out[PATH_BYTES], path[PATH_BYTES];
	cJSON *summary;

	assert_int_equal(path_make(out, "%s/report", dir), OK);
	assert_int_equal(path_make(path, "%s/summary.json", out), OK);
	assert_int_equal(report_make(&dir, 1, out, NULL), OK);
	assert_int_equal(json_read(path, &summary), OK);
	return summary;
}

static inline void near(const cJSON *row, const char *field, double want)
{
	double got = json_number(row, field, NAN);

	if (!(fabs(got - want) <= 1e-9 * (1 + fabs(want))))
		fail_msg("%s is %.12g, not %.12g", field, got, want);
}

#endif
