/*
 * bench/export.c - `sfscale export --perfetto FILE DIR`: iterations of a run as a trace to look at.
 */
#include "bench/base/err.h"
#include "bench/base/folder.h"
#include "bench/commands.h"
#include "report/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct export_options {
	const char *perfetto;
	struct export_choice choice;
};

static const struct opt opts[] = {
	{ "perfetto", OPT_NAME, offsetof(struct export_options, perfetto), NULL, "file to write, for ui.perfetto.dev", NULL },
	{ "iterations", OPT_NAME, offsetof(struct export_options, choice.iterations), NULL,
	  "A or A:B, counted over all epochs from 0, both included; default: the first 10", NULL },
	{ "ranks", OPT_NAME, offsetof(struct export_options, choice.ranks), NULL, "such as 0,3,8-11; default: all", NULL },
};

static bool is_of_a_run(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');

	return !strcmp(name, FOLDER_RUN) || (dot && !strcmp(dot, strrchr(FOLDER_RECORD, '.')));
}

static int run(int argc, char **argv)
{
	const char **dirs = calloc((size_t)argc + 1, sizeof(*dirs));	/* room for every word */
	struct export_options o;
	struct export_sum sum;
	size_t dir_count = 0;
	int rc = dirs ? opt_parse(&command_export, &o, argc, argv, dirs, &dir_count)
		      : err(NO_MEMORY, "no memory for %d words", argc);

	if (!rc && dir_count != 1)
		rc = err(USAGE, "export: which run folder?  One at a time");
	if (!rc && !o.perfetto)
		rc = err(USAGE, "export: --perfetto FILE says where the trace goes");
	if (!rc && is_of_a_run(o.perfetto))
		rc = err(USAGE, "export: '%s' has the name of a run's own file; name another", o.perfetto);
	if (!rc)
		rc = export_perfetto(dirs[0], o.perfetto, &o.choice, &sum);
	if (!rc) {
		printf("%s: %zu iterations of %zu ranks: %zu slices, %zu flows\n", o.perfetto, sum.iterations, sum.ranks, sum.slices,
		       sum.flows);
		if (*sum.flaw)
			printf("the run is %s\n", sum.flaw);
		if (sum.left_out)
			printf("%zu spans lie across too many others and are left out\n", sum.left_out);
	}
	free(dirs);
	return rc;
}

const struct command command_export = {
	"export", "DIR", "chosen iterations and ranks of a run as a Perfetto trace",
	opts, ARRAY_LEN(opts), run, sizeof(struct export_options),
};
