/*
 * bench/diagnose.c - `sfscale diagnose DIR...`: what stands out in run and sweep folders, in words.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/commands.h"
#include "report/diagnose.h"

#include <stdlib.h>
#include <string.h>

struct diagnose_options {
	bool json;
};

static const struct opt opts[] = {
	{ "json", OPT_BOOL, offsetof(struct diagnose_options, json), "off", "as JSON, one object per finding", NULL },
};

static int print(const struct findings *found, bool json)
{
	cJSON *list;
	char *text;

	if (!json) {
		findings_print(found, stdout);
		return OK;
	}
	list = findings_json(found);
	text = cJSON_Print(list);
	cJSON_Delete(list);
	if (!text)
		return err(NO_MEMORY, "no memory for the findings");
	printf("%s\n", text);
	cJSON_free(text);
	return OK;
}

static int diagnose(const char *const *dirs, size_t dir_count, bool json)
{
	char named[PATH_BYTES] = "";
	struct findings found = { 0 };
	struct curve curve = { 0 };
	struct runs runs;
	int rc = runs_read(&runs, dirs, dir_count);

	for (size_t i = 0; i < dir_count; i++) {
		size_t used = strlen(named);

		snprintf(named + used, sizeof(named) - used, "%s%s", i ? " " : "", dirs[i]);
	}
	if (!rc)
		rc = curve_make(&curve, &runs);
	if (!rc)
		rc = findings_make(&found, &curve, &runs, named);
	if (!rc)
		rc = print(&found, json);
	if (!rc && findings_error(&found))
		rc = BELOW;
	findings_release(&found);
	curve_release(&curve);
	runs_release(&runs);
	return rc;
}

static int run(int argc, char **argv)
{
	const char **dirs = calloc((size_t)argc + 1, sizeof(*dirs));	/* room for every word */
	struct diagnose_options o;
	size_t dir_count = 0;
	int rc = dirs ? opt_parse(&command_diagnose, &o, argc, argv, dirs, &dir_count)
		      : err(NO_MEMORY, "no memory for %d words", argc);

	if (!rc && !dir_count)
		rc = err(USAGE, "diagnose: which run folder or sweep folder?");
	if (!rc)
		rc = diagnose(dirs, dir_count, o.json);
	free(dirs);
	return rc;
}

const struct command command_diagnose = {
	"diagnose", "DIR...", "what stands out in run and sweep folders, worst first, with its number and what to try",
	opts, ARRAY_LEN(opts), run, sizeof(struct diagnose_options),
};
