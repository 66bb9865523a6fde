/*
 * bench/report.c - `sfscale report DIR...`: the tables on stdout, everything as files.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/commands.h"
#include "report/report.h"

#include <stdlib.h>

struct report_options {
	const char *out, *table;
};

static const struct opt opts[] = {
	{ "out", OPT_NAME, offsetof(struct report_options, out), NULL,
	  "folder of the report; default: 'report' in the first DIR", NULL },
	{ "table", OPT_NAME, offsetof(struct report_options, table), NULL,
	  "print this table only, and write nothing", NULL },
};

static int run(int argc, char **argv)
{
	const char **dirs = calloc((size_t)argc + 1, sizeof(*dirs));	/* room for every word */
	struct report_options o;
	char out[PATH_BYTES];
	size_t dir_count = 0;
	int rc = dirs ? opt_parse(&command_report, &o, argc, argv, dirs, &dir_count)
		      : err(NO_MEMORY, "no memory for %d words", argc);

	if (!rc && !dir_count)
		rc = err(USAGE, "report: which run folder or sweep folder?");
	if (!rc && o.table) {
		rc = report_table(dirs, dir_count, o.table, stdout);
		free(dirs);
		return rc;
	}
	if (!rc)
		rc = path_make(out, o.out ? "%s" : "%s/report", o.out ? o.out : dirs[0]);
	if (!rc)
		rc = report_make(dirs, dir_count, out, stdout);
	if (!rc)
		printf("\n%s/index.html\n", out);
	free(dirs);
	return rc;
}

const struct command command_report = {
	"report", "DIR...", "speed-up, breakdown and boundary tables, figures and a page from run and sweep folders",
	opts, ARRAY_LEN(opts), run, sizeof(struct report_options),
};
