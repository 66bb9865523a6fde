/*
 * report/runs.c - see runs.h.
 *
 * Reads ledgers, run.json and the records (report/records.h), and says of each run whether it may be
 * counted.
 */
#include "report/runs.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "report/records.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct field warning_fields[] = {
	{ "about", "", "the file, run or point concerned", 0 },
	{ "warning", "", "what is wrong with it, and what was left out for that", 0 },
};

/* ---- saying what is wrong -------------------------------------------------------------- */

void runs_warn(struct runs *all, const char *about, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	table_text(&all->warnings, about);
	table_text(&all->warnings, text);
}

void run_spoil(struct run *r, const char *status, const char *format, ...)
{
	va_list args;

	if (!run_counts(r))
		return;
	va_start(args, format);
	r->status = status;
	if (vasprintf(&r->reason, format, args) < 0)
		r->reason = NULL;
	va_end(args);
}

static void append(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void append(char **text, const char *format, ...)
{
	char *more = NULL, *whole = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&more, format, args) < 0 || asprintf(&whole, "%s%s", *text ? *text : "", more) < 0)
		abort();	/* a few hundred bytes: nothing useful is left to do */
	va_end(args);
	free(more);
	free(*text);
	*text = whole;
}

/* ---- one run --------------------------------------------------------------------------- */

static const cJSON *run_part(const struct run *r, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(r->json, name);
}

double run_clips(const struct run *r)
{
	const cJSON *step = run_part(r, "step");

	return (double)r->ranks * json_number(step, "emulate_ranks", 1) * json_number(step, "clips_per_rank", NAN);
}

/* A value as the ledger or run.json has it: text or number. */
/* The value as text: borrowed from it, or a number in `room`.  Whole, for two variants may differ at the end only. */
static const char *value_text(const cJSON *v, char room[64])
{
	if (cJSON_IsString(v))
		return v->valuestring;
	if (!cJSON_IsNumber(v))
		return cJSON_IsTrue(v) ? "on" : cJSON_IsFalse(v) ? "off" : "";
	snprintf(room, 64, "%g", v->valuedouble);
	return room;
}

static int64_t whole_number(const cJSON *object, const char *key, int64_t absent)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, key);
	char room[64], *end;
	const char *text;
	long long n;

	if (!v)
		return absent;
	text = value_text(v, room);
	n = strtoll(text, &end, 10);
	return end == text || *end ? absent : (int64_t)n;
}

/* "threads, workers=2": the options that were swept, without the nodes.  `series` leaves out the
 * workers too, which are the x axis of the boundary figure. */
static void run_label(struct run *r, const cJSON *point)
{
	const cJSON *options = run_part(r, "options"), *v;
	char room[64], own_room[64];
	const char *text = value_text(cJSON_GetObjectItemCaseSensitive(options, "policy"), own_room);

	cJSON_ArrayForEach(v, point) {
		const char *value = value_text(v, room);
		bool policy = !strcmp(v->string, "policy");

		if (!strcmp(v->string, "nodes"))
			continue;
		if (policy)
			text = v->valuestring ? v->valuestring : "";
		append(&r->variant, "%s%s%s%s", r->variant ? ", " : "", policy ? "" : v->string, policy ? "" : "=",
		       value);
		if (strcmp(v->string, "workers"))
			append(&r->series, "%s%s%s%s", r->series ? ", " : "", policy ? "" : v->string,
			       policy ? "" : "=", value);
	}
	append(&r->policy, "%s", *text ? text : "-");
	if (!r->series)
		append(&r->series, "%s", r->policy);
	if (!r->variant)
		append(&r->variant, "%s", r->policy);
	r->workers = whole_number(point, "workers", whole_number(options, "workers", -1));
	r->nodes = (size_t)whole_number(point, "nodes", whole_number(run_part(r, "place"), "nodes", 0));
}

static int run_steady(struct run *r)
{
	double *steady = malloc((r->windows + 1) * sizeof(*steady));
	size_t n = 0, workers = r->workers > 0 ? (size_t)r->workers : 0;
	int rc;

	if (!steady)
		return err(NO_MEMORY, "no memory for %zu iterations", r->windows);
	for (size_t w = 0; w < r->windows; w++) {
		r->iterations += r->kinds[w] != WINDOW_BOUNDARY;
		if (r->kinds[w] == WINDOW_STEADY)
			steady[n++] = (double)r->slowest_ns[w];
	}
	r->steady_ns = summarize(steady, n);
	rc = bootstrap_median(&bootstrap_usual, steady, n, workers, &r->median_ns, &r->block);
	free(steady);
	return rc;
}

/* Whether the records hold the run that run.json tells of. */
static void run_check(struct runs *all, struct run *r)
{
	const cJSON *step = run_part(r, "step"), *w;
	double expected = json_number(step, "iterations_per_epoch", NAN) * json_number(step, "epochs", NAN);
	int64_t wall_ns = 0, unattributed_ns = 0;

	if (!isnan(expected) && rint(expected) != (double)r->iterations)
		run_spoil(r, "damaged", "%zu iterations in its records, run.json says %.0f", r->iterations, expected);
	if (r->dropped)
		runs_warn(all, r->folder, "%llu events dropped by full rings: their time stands under other classes",
			  (unsigned long long)r->dropped);
	for (int k = 0; k < WINDOW_KINDS; k++) {
		wall_ns += r->sums[k].wall_ns;
		unattributed_ns += r->sums[k].parts_ns[CLS_UNATTRIBUTED];
	}
	if (wall_ns && (double)unattributed_ns > 0.02 * (double)wall_ns)
		runs_warn(all, r->folder, "%.1f %% of its time is in no known range; 2 %% is what this report trusts",
			  100.0 * (double)unattributed_ns / (double)wall_ns);
	for (int name = 0; name < SPAN_COUNT; name++) {
		const struct call_sum *s = &r->waits.calls[name];
		size_t unsplit = s->splits[SPLIT_UNMATCHED] + s->splits[SPLIT_CONTRADICTION] + s->splits[SPLIT_UNCLEAR];

		if (run_counts(r) && unsplit)
			runs_warn(all, r->folder, "%zu of %zu calls of %s are unsplit: %zu unmatched, %zu contradictory, %zu "
				  "unclear", unsplit, s->calls, span_rows[name].name, s->splits[SPLIT_UNMATCHED],
				  s->splits[SPLIT_CONTRADICTION], s->splits[SPLIT_UNCLEAR]);
	}
	if (r->waits.left_out)
		runs_warn(all, r->folder, "%zu collectives have a lane or a number that cannot be: they are unsplit",
			  r->waits.left_out);
	if (run_counts(r) && !r->steady_ns.n)
		runs_warn(all, r->folder, "no steady iteration: every epoch has one iteration only");
	cJSON_ArrayForEach(w, run_part(r, "warnings"))
		if (cJSON_IsString(w))
			runs_warn(all, r->folder, "%s", w->valuestring);
	if (!run_counts(r))
		runs_warn(all, r->folder, "%s, so in no median: %s", r->status,
			  r->reason ? r->reason : "no reason given");
}

static struct run *run_new(struct runs *all, const char *folder)
{
	struct run *more = realloc(all->at, (all->count + 1) * sizeof(*more)), *r;

	if (!more) {
		err(NO_MEMORY, "no memory for %zu runs", all->count + 1);
		return NULL;
	}
	all->at = more;
	r = &all->at[all->count++];
	*r = (struct run){ .status = "ok", .repeat = -1, .workers = -1, .begin_ns = INT64_MAX, .steady_ns = summarize(NULL, 0) };
	append(&r->folder, "%s", folder);
	return r;
}

/* "2 emulated nodes, one host, emulated 4 ranks per process" -> "emulated nodes, one host, emulated ranks per process":
 * how many they are stands in every row, and places that differ in numbers alone are one. */
static void place_append(char **place, const char *text)
{
	const char *node = strstr(text, "node");
	char *ranks;

	if (isdigit((unsigned char)*text))
		text += strspn(text, "0123456789 ");
	if (node && node[4] != 's')
		append(place, "%.*snodes%s", (int)(node - text), text, node + 4);
	else
		append(place, "%s", text);
	ranks = *place ? strstr(*place, "ranks per process") : NULL;
	if (ranks) {
		char *number = ranks;

		while (number > *place && strchr("0123456789 ", number[-1]))
			number--;
		number += number < ranks && *number == ' ';	/* one blank stays */
		memmove(number, ranks, strlen(ranks) + 1);
	}
}

enum { RANKS_MAX = 1 << 16 };	/* more is damage, not a job */

/* `line` is the ledger's; NULL for a folder that no ledger names. */
static int run_read(struct runs *all, const char *folder, const cJSON *line)
{
	const char *status = json_string(line, "status", "ok");
	struct run *r = run_new(all, folder);
	char path[PATH_BYTES];
	const cJSON *place;
	double ranks;
	int rc;

	if (!r)
		return NO_MEMORY;
	r->repeat = (int64_t)json_number(line, "repeat", -1);
	if (strcmp(status, "ok"))
		run_spoil(r, "failed", "%s", json_string(line, "reason", "no reason given"));
	if (path_make(path, "%s/" FOLDER_RUN, folder))
		return FAILED;
	/* A failed point may have no run.json at all; for an ok one that is damage. */
	if ((run_counts(r) || !access(path, R_OK)) && json_read(path, &r->json))
		run_spoil(r, "damaged", "%s", err_own());
	if (r->json && json_number(r->json, "schema", 0) != FOLDER_SCHEMA)
		run_spoil(r, "damaged", "%s: schema %g, this program reads %d", path, json_number(r->json, "schema", 0),
		      FOLDER_SCHEMA);
	if (!strcmp(json_string(r->json, "status", ""), "failed"))
		run_spoil(r, "failed", "%s", json_string(r->json, "reason", "no reason given"));
	run_label(r, cJSON_GetObjectItemCaseSensitive(line, "point"));
	place = run_part(r, "place");
	ranks = json_number(place, "ranks", 0);
	r->ranks = ranks >= 1 && ranks <= RANKS_MAX ? (size_t)ranks : 0;
	place_append(&r->place, json_string(place, "text", "place unknown"));
	if (r->json && !r->ranks)
		run_spoil(r, "damaged", "%s: no number of ranks", path);
	rc = records_read(all, r);
	if (!rc)
		rc = run_steady(r);
	if (!rc)
		run_check(all, r);
	return rc;
}

/* ---- a sweep --------------------------------------------------------------------------- */

static const char *line_flaw(const cJSON *line)
{
	if (!cJSON_IsObject(line))
		return "not JSON";
	if (json_number(line, "schema", 0) != FOLDER_SCHEMA)
		return "of a schema that this program does not read";
	if (!*json_string(line, "key", "") || !*json_string(line, "folder", ""))
		return "no key or no folder";
	return NULL;
}

/* An array of lines, the newest of each key, in the order of the keys' first lines. */
static int ledger_read(struct runs *all, const char *path, cJSON *lines)
{
	struct line_reader in;
	int rc = line_reader_open(&in, path);

	while (!rc && line_reader_next(&in)) {
		cJSON *line = cJSON_Parse(in.line), *former;
		const char *flaw = line_flaw(line);
		int i = 0;

		if (!*in.line || flaw) {
			if (*in.line) {
				line_err(&in, FAILED, "%s, line left out", flaw);
				runs_warn(all, path, "%s", err_own());
			}
			cJSON_Delete(line);
			continue;
		}
		cJSON_ArrayForEach(former, lines) {
			if (!strcmp(json_string(former, "key", ""), json_string(line, "key", "")))
				break;
			i++;
		}
		if (former)
			cJSON_ReplaceItemInArray(lines, i, line);
		else
			cJSON_AddItemToArray(lines, line);
	}
	return line_reader_close(&in, rc);
}

/* Run folders that no line names: the sweep was stopped while they ran. */
static int unnamed_read(struct runs *all, const char *dir, const cJSON *lines)
{
	char path[PATH_BYTES];
	struct dirent *entry;
	DIR *folder;
	int rc = path_make(path, "%s/runs", dir);

	folder = rc ? NULL : opendir(path);
	while (!rc && folder && (entry = readdir(folder))) {
		const cJSON *line;

		cJSON_ArrayForEach(line, lines)
			if (!strcmp(json_string(line, "key", ""), entry->d_name))
				break;
		if (line || entry->d_name[0] == '.' || path_make(path, "%s/runs/%s/" FOLDER_RUN, dir, entry->d_name) ||
		    access(path, R_OK))
			continue;
		path[strlen(path) - strlen("/" FOLDER_RUN)] = '\0';
		rc = run_read(all, path, NULL);
		if (!rc && run_counts(&all->at[all->count - 1])) {
			run_spoil(&all->at[all->count - 1], "cut off", "the ledger has no line for it");
			runs_warn(all, path, "cut off, so in no median: the ledger has no line for it");
		}
	}
	if (folder)
		closedir(folder);
	return rc;
}

static int sweep_read(struct runs *all, const char *dir, const char *ledger)
{
	cJSON *lines = cJSON_CreateArray();
	const cJSON *line;
	int rc = ledger_read(all, ledger, lines);

	cJSON_ArrayForEach(line, lines) {
		char path[PATH_BYTES];

		if (!rc)
			rc = path_make(path, "%s/%s", dir, json_string(line, "folder", ""));
		if (!rc)
			rc = run_read(all, path, line);
	}
	if (!rc)
		rc = unnamed_read(all, dir, lines);
	cJSON_Delete(lines);
	return rc;
}

/* ---- all of it ------------------------------------------------------------------------- */

int runs_read(struct runs *all, const char *const *dirs, size_t dir_count)
{
	return runs_read_watched(all, dirs, dir_count, NULL);
}

int runs_read_watched(struct runs *all, const char *const *dirs, size_t dir_count, const struct watch *watch)
{
	size_t readable = 0;
	int rc = OK;

	*all = (struct runs){ .watch = watch };
	table_init(&all->warnings, "warnings", NULL, warning_fields, ARRAY_LEN(warning_fields));
	for (size_t i = 0; i < dir_count && !rc; i++) {
		char ledger[PATH_BYTES], run[PATH_BYTES];

		if (path_make(ledger, "%s/" FOLDER_LEDGER, dirs[i]) || path_make(run, "%s/" FOLDER_RUN, dirs[i]))
			return FAILED;
		if (!access(ledger, F_OK))
			rc = sweep_read(all, dirs[i], ledger);
		else if (!access(run, F_OK))
			rc = run_read(all, dirs[i], NULL);
		else
			runs_warn(all, dirs[i], "neither a sweep folder (%s) nor a run folder (%s)", FOLDER_LEDGER,
				  FOLDER_RUN);
	}
	for (size_t i = 0; i < all->count; i++)	/* a failed point is an answer, a folder of rubbish is none */
		readable += all->at[i].json || !strcmp(all->at[i].status, "failed");
	if (!rc && !readable)
		rc = err(FAILED, "no run and no sweep that can be read in '%s'%s", dirs[0],
			 dir_count > 1 ? " or the others" : "");
	return rc;
}

void runs_release(struct runs *all)
{
	for (size_t i = 0; i < all->count; i++) {
		struct run *r = &all->at[i];

		free(r->folder);
		free(r->variant);
		free(r->series);
		free(r->policy);
		free(r->place);
		free(r->reason);
		cJSON_Delete(r->json);
		free(r->kinds);
		free(r->slowest_ns);
		free(r->rank_sums);
		free(r->stretches);
		waits_release(&r->waits);
		feed_release(&r->feed);
	}
	free(all->at);
	table_release(&all->warnings);
	*all = (struct runs){ 0 };
}
