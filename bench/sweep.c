/*
 * bench/sweep.c - `sfscale sweep`: the same run over numbers of nodes, and over any option.
 *
 * The points are the product of --nodes and of every --over; each is run --repeat times through
 * a launcher, in a folder of its own.  Repeats are the outermost loop, so that a machine that
 * slows down with time slows all points alike, and an early end leaves whole repeats.
 *
 * What has a line with status "ok" in the ledger is not run again: a sweep that was stopped
 * goes on where it was, and one that was widened does what is new.  The key of a line is a
 * hash over every option of the run, the launcher's line and the program's version.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "bench/base/opt.h"
#include "bench/commands.h"
#include "bench/launch.h"
#include "bench/ledger.h"

#include <build.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sweep_options {
	const char *out, *nodes, *launcher;
	uint64_t ranks_per_node, repeat, timeout_s;
	struct opt_names over;
};

#define AT(field) offsetof(struct sweep_options, field)

static const struct opt opts[] = {
	{ "out", OPT_NAME, AT(out), NULL, "sweep folder to make or to go on with", NULL },
	{ "nodes", OPT_NAME, AT(nodes), "1", "numbers of nodes, as 1,2,4", NULL },
	{ "ranks-per-node", OPT_U64, AT(ranks_per_node), "1", "ranks on each", NULL },
	{ "over", OPT_NAMES, AT(over), NULL, "any option of run with its values, which hold no comma, as policy=respawn,threads workers=1,2", NULL },
	{ "repeat", OPT_U64, AT(repeat), "3", "runs of each point", NULL },
	{ "launcher", OPT_NAME, AT(launcher), "mpirun -n {ranks} --oversubscribe --bind-to none --mca mpi_yield_when_idle 1",
	  "starts a job; {nodes} {ranks} {ranks-per-node} are filled in; no shell reads it", NULL },
	{ "timeout", OPT_U64, AT(timeout_s), "3600", "seconds after which a point is ended and has failed; 0: never", NULL },
};

static int sweep_main(int argc, char **argv);

const struct command command_sweep = { "sweep", "-- RUN-OPTIONS...", "runs over nodes and over any option, with repeats; resumable",
				       opts, ARRAY_LEN(opts), sweep_main, sizeof(struct sweep_options) };

enum { AXES_MAX = 8, VALUES_MAX = 64, WORDS_MAX = 256 };

/* One option of the run and the values that it takes; axis 0 is the number of nodes. */
struct axis {
	char *text;		/* owned; the names below point into it */
	const char *name;
	size_t count;
	const char *values[VALUES_MAX];
};

struct sweep {
	struct sweep_options o;
	const char *const *run_words;	/* borrowed: what stands behind -- */
	size_t run_word_count;
	struct axis axes[AXES_MAX];
	size_t axis_count;
	size_t point_count;		/* without repeats */
	char (*keys)[LEDGER_KEY_BYTES];	/* owned; per run: repeat * point_count + point */
	bool *to_do;			/* owned; per run */
	double *wall_s;			/* owned; per point, sum of its finished repeats */
	size_t *finished;		/* owned; per point */
	char program[PATH_BYTES];
	struct ledger ledger;
};

/* ---- axes ------------------------------------------------------------------------------ */

/* "policy=respawn,threads"; every value must be one that `run` takes. */
static int axis_read(struct axis *a, const char *text)
{
	const struct opt *row;
	void *scratch;
	char *values, *save = NULL;
	int rc = OK;

	a->text = strdup(text);
	if (!a->text)
		return err(NO_MEMORY, "no memory for '%s'", text);
	values = strchr(a->text, '=');
	if (!values)
		return err(USAGE, "--over: '%s' is not as option=value,value", text);
	*values++ = '\0';
	a->name = a->text;
	row = opt_find(command_run.opts, command_run.opt_count, a->name);
	if (!row || row->type == OPT_NAMES || !strcmp(a->name, "out"))
		return err(USAGE, "--over: '%s' is no option of run that can be swept ('sfscale run --help' lists them)", a->name);
	scratch = calloc(1, command_run.values_bytes);
	for (char *v = strtok_r(values, ",", &save); v && !rc; v = strtok_r(NULL, ",", &save)) {
		if (a->count == VALUES_MAX)
			rc = err(USAGE, "--over: %s has more than %d values", a->name, VALUES_MAX);
		else
			rc = scratch ? opt_set(row, scratch, v) : NO_MEMORY;
		for (size_t i = 0; i < a->count && !rc; i++)
			if (!strcmp(a->values[i], v))
				rc = err(USAGE, "--over: %s has '%s' twice", a->name, v);
		if (!rc)
			a->values[a->count++] = v;
	}
	free(scratch);
	return rc || a->count ? rc : err(USAGE, "--over: %s has no value", a->name);
}

static int axes_read(struct sweep *s)
{
	char nodes[4096];
	int rc;

	if ((size_t)snprintf(nodes, sizeof(nodes), "nodes=%s", s->o.nodes) >= sizeof(nodes) || s->o.over.count >= AXES_MAX)
		return err(USAGE, "sweep: more than %d options to sweep over", AXES_MAX - 1);
	rc = axis_read(&s->axes[s->axis_count++], nodes);
	for (size_t i = 0; i < s->o.over.count && !rc; i++) {
		rc = axis_read(&s->axes[s->axis_count++], s->o.over.at[i]);
		for (size_t k = 0; k + 1 < s->axis_count && !rc; k++)
			if (!strcmp(s->axes[k].name, s->axes[s->axis_count - 1].name))
				rc = err(USAGE, "--over: %s is swept over already", s->axes[k].name);
	}
	s->point_count = 1;
	for (size_t i = 0; i < s->axis_count; i++)
		s->point_count *= s->axes[i].count;
	for (size_t i = 0; i < s->axes[0].count && !rc; i++)
		if (!strtoul(s->axes[0].values[i], NULL, 10))
			rc = err(USAGE, "--nodes: '%s' is not a number of nodes", s->axes[0].values[i]);
	return rc;
}

/* The value of axis `i` in point `p`; the last axis turns fastest. */
static const char *axis_value(const struct sweep *s, size_t p, size_t i)
{
	for (size_t k = s->axis_count - 1; k > i; k--)
		p /= s->axes[k].count;
	return s->axes[i].values[p % s->axes[i].count];
}

static size_t point_nodes(const struct sweep *s, size_t p)
{
	return strtoul(axis_value(s, p, 0), NULL, 10);
}

/* ---- one point ------------------------------------------------------------------------- */

/* The words behind the launcher.  Ends with NULL. */
static int point_words(const struct sweep *s, size_t p, const char *out, const char *words[WORDS_MAX], char flags[AXES_MAX][64])
{
	size_t n = 0;

	if (s->run_word_count + 2 * s->axis_count + 5 > WORDS_MAX)
		return err(USAGE, "sweep: more than %d words for run", WORDS_MAX);
	words[n++] = s->program;
	words[n++] = "run";
	for (size_t i = 0; i < s->run_word_count; i++)
		words[n++] = s->run_words[i];
	for (size_t i = 0; i < s->axis_count; i++) {
		snprintf(flags[i], sizeof(flags[i]), "--%s", s->axes[i].name);
		words[n++] = flags[i];
		words[n++] = axis_value(s, p, i);
	}
	words[n++] = "--out";
	words[n++] = out;
	words[n] = NULL;
	return OK;
}

/* The key of a repeat: all options as `run` will read them, so that another spelling of the same run is the
 * same run.  Says what is wrong with the run's options. */
static int point_key(const struct sweep *s, size_t p, size_t repeat, char key[LEDGER_KEY_BYTES])
{
	const char *words[WORDS_MAX], *operands[WORDS_MAX];
	char flags[AXES_MAX][64], *text = NULL;
	void *values = calloc(1, command_run.values_bytes);
	size_t operand_count, bytes;
	FILE *f = open_memstream(&text, &bytes);
	int rc = values && f ? OK : err(NO_MEMORY, "no memory for a point's options"), n = 0;

	if (!rc)
		rc = point_words(s, p, "-", words, flags);	/* a folder is no part of what a run is */
	while (!rc && words[n])
		n++;
	if (!rc)
		rc = opt_parse(&command_run, values, n - 2, (char **)words + 2, operands, &operand_count);
	if (!rc)
		rc = run_options_check(values);
	for (size_t i = 0; i < command_run.opt_count && !rc; i++) {
		char *value = opt_text(&command_run.opts[i], values);

		fprintf(f, "%s=%s\n", command_run.opts[i].name, value ? value : "");
		free(value);
	}
	if (f) {
		fprintf(f, "%" PRIu64 " %zu %s %s\n", s->o.ranks_per_node, repeat, s->o.launcher, BUILD_VERSION);
		fclose(f);
	}
	if (!rc)
		ledger_key(text, key);
	free(text);
	free(values);
	return rc;
}

/* Why it failed: what the run says itself, else the first complaint in the log, else how it ended. */
static void find_reason(const struct launch_result *r, const cJSON *run, uint64_t timeout_s, char *reason, size_t room)
{
	struct line_reader log;
	const char *said = run ? json_string(run, "reason", "") : "";

	snprintf(reason, room, "%s", said);
	if (!*said && !line_reader_open(&log, r->log)) {
		while (!*reason && line_reader_next(&log)) {
			if (!strncmp(log.line, "sfscale: ", 9) && !strstr(log.line, "warning: "))
				snprintf(reason, room, "%s", log.line + 9);
		}
		line_reader_close(&log, OK);
	}
	if (r->timed_out)
		snprintf(reason, room, "no end within %" PRIu64 " s", timeout_s);
	else if (!*reason && r->exit > 128)
		snprintf(reason, room, "a rank or the launcher was ended by signal %d (%s)", r->exit - 128,
			 strsignal(r->exit - 128));
	else if (!*reason)
		snprintf(reason, room, "exit status %d without a word (is there room on the disk?)", r->exit);
}

static cJSON *ledger_line(const struct sweep *s, size_t p, size_t repeat, const char *key, const struct launch_result *r,
			  const char *reason)
{
	cJSON *line = cJSON_CreateObject(), *point;
	char text[64];

	cJSON_AddNumberToObject(line, "schema", FOLDER_SCHEMA);
	cJSON_AddStringToObject(line, "key", key);
	point = cJSON_AddObjectToObject(line, "point");
	cJSON_AddNumberToObject(point, "nodes", (double)point_nodes(s, p));
	for (size_t i = 1; i < s->axis_count; i++)
		cJSON_AddStringToObject(point, s->axes[i].name, axis_value(s, p, i));
	cJSON_AddNumberToObject(line, "repeat", (double)repeat);
	cJSON_AddStringToObject(line, "status", reason ? "failed" : "ok");
	cJSON_AddItemToObject(line, "reason", reason ? cJSON_CreateString(reason) : cJSON_CreateNull());
	cJSON_AddNumberToObject(line, "exit", r->exit);
	cJSON_AddNumberToObject(line, "wall_s", (double)r->wall_ns / NS_PER_S);
	snprintf(text, sizeof(text), "runs/%s", key);
	cJSON_AddStringToObject(line, "folder", text);
	cJSON_AddStringToObject(line, "version", BUILD_VERSION);
	cJSON_AddStringToObject(line, "launcher", s->o.launcher);
	clock_utc_text(text);
	cJSON_AddStringToObject(line, "finished", text);
	return line;
}

/* Was it measured to its end, though a kill or a full disk kept its line out of the ledger? */
static bool is_whole(const char *run_path)
{
	cJSON *run = NULL;
	bool whole = !access(run_path, R_OK) && !json_read(run_path, &run) && !strcmp(json_string(run, "status", ""), "ok");

	cJSON_Delete(run);
	return whole;
}

/* Runs and enters one repeat of a point.  `ok` tells whether the point was measured; a return other than OK ends
 * the sweep. */
static int run_point(struct sweep *s, size_t p, size_t repeat, const char *key, bool *ok)
{
	const char *words[WORDS_MAX];
	char flags[AXES_MAX][64], folder[PATH_BYTES], logs[PATH_BYTES], run_path[PATH_BYTES], reason[1024] = "";
	struct launch_result r;
	cJSON *run = NULL;
	int rc = path_make(folder, "%s/runs/%s", s->o.out, key);

	if (!rc)
		rc = path_make(logs, "%s/log", folder);
	if (!rc)
		rc = path_make(run_path, "%s/" FOLDER_RUN, folder);
	if (!rc && is_whole(run_path)) {
		*ok = true;
		printf("   was whole already");
		return ledger_append(&s->ledger, ledger_line(s, p, repeat, key, &(struct launch_result){ 0 }, NULL));
	}
	/* What an earlier try left, which failed or was cut off. */
	if (!rc)
		rc = dir_remove(folder);
	if (!rc)
		rc = point_words(s, p, folder, words, flags);
	if (!rc)
		rc = launch_run(&(struct launch){ .launcher = s->o.launcher, .nodes = point_nodes(s, p),
						  .ranks_per_node = s->o.ranks_per_node, .command = words, .log_dir = logs,
						  .timeout_s = s->o.timeout_s }, &r);
	if (rc)
		return rc;
	if (r.interrupted)
		return err(FAILED, "interrupted; the same command goes on where it stopped");
	if (!access(run_path, R_OK) && json_read(run_path, &run))
		run = NULL;
	*ok = r.exit == 0 && run && !strcmp(json_string(run, "status", ""), "ok");
	if (!*ok)
		find_reason(&r, run, s->o.timeout_s, reason, sizeof(reason));
	cJSON_Delete(run);
	if (*ok) {
		s->wall_s[p] += (double)r.wall_ns / NS_PER_S;
		s->finished[p]++;
		printf("%8.1f s", (double)r.wall_ns / NS_PER_S);
	} else {
		printf("  failed: %s", reason);
	}
	return ledger_append(&s->ledger, ledger_line(s, p, repeat, key, &r, *ok ? NULL : reason));
}

/* ---- the sweep ------------------------------------------------------------------------- */

/* Seconds that the points from (repeat, p) on will take: by their own earlier repeats, else by the mean of all. */
static double time_left_s(const struct sweep *s, size_t from)
{
	double sum = 0, left = 0;
	size_t n = 0, total = s->point_count * s->o.repeat;

	for (size_t p = 0; p < s->point_count; p++) {
		sum += s->wall_s[p];
		n += s->finished[p];
	}
	for (size_t i = from; i < total; i++) {
		size_t p = i % s->point_count;

		if (s->to_do[i])
			left += s->finished[p] ? s->wall_s[p] / (double)s->finished[p] : n ? sum / (double)n : NAN;
	}
	return left;
}

static void print_left(double s)
{
	if (s >= 90)
		printf(", some %.0f min left", ceil(s / 60));
	else if (s > 0)
		printf(", some %.0f s left", ceil(s));
	printf("\n");
	fflush(stdout);
}

/* All keys, before anything runs or is made: a wrong option is told at once. */
static int make_keys(struct sweep *s)
{
	size_t total = s->point_count * s->o.repeat;
	int rc = OK;

	s->keys = calloc(total, sizeof(*s->keys));
	s->to_do = calloc(total, sizeof(*s->to_do));
	s->wall_s = calloc(s->point_count, sizeof(*s->wall_s));
	s->finished = calloc(s->point_count, sizeof(*s->finished));
	if (!s->keys || !s->to_do || !s->wall_s || !s->finished)
		return err(NO_MEMORY, "no memory for %zu runs", total);
	for (size_t i = 0; i < total && !rc; i++)
		rc = point_key(s, i % s->point_count, i / s->point_count, s->keys[i]);
	return rc;
}

/* Marks what the ledger does not have; returns how many runs that are. */
static size_t find_to_do(struct sweep *s)
{
	size_t fresh = 0;

	for (size_t i = 0; i < s->point_count * s->o.repeat; i++) {
		const cJSON *line = ledger_find(&s->ledger, s->keys[i]);
		size_t p = i % s->point_count;

		s->to_do[i] = !line || strcmp(json_string(line, "status", ""), "ok");
		fresh += s->to_do[i];
		if (!s->to_do[i]) {
			s->wall_s[p] += json_number(line, "wall_s", 0);
			s->finished[p]++;
		}
	}
	return fresh;
}

static int run_all(struct sweep *s)
{
	size_t total = s->point_count * s->o.repeat, done = 0, failed = 0, fresh = find_to_do(s);
	int rc = OK;

	printf("%zu points, %" PRIu64 " runs of each; %zu of %zu runs to do\n", s->point_count, s->o.repeat, fresh, total);
	for (size_t i = 0; i < total && !rc; i++) {
		bool ok = false;

		if (!s->to_do[i])
			continue;
		printf("[%*zu/%zu]", fresh < 10 ? 1 : fresh < 100 ? 2 : 3, ++done, fresh);
		for (size_t a = 0; a < s->axis_count; a++)
			printf("  %s %s", s->axes[a].name, axis_value(s, i % s->point_count, a));
		printf("  repeat %zu", i / s->point_count + 1);
		fflush(stdout);
		rc = run_point(s, i % s->point_count, i / s->point_count, s->keys[i], &ok);
		failed += !ok && !rc;
		print_left(rc ? 0 : time_left_s(s, i + 1));
	}
	if (!rc && failed)
		rc = err(RANK_FAILED, "%zu of %zu runs failed; why is in '%s/" FOLDER_LEDGER "', and the same command tries them again",
			 failed, fresh, s->o.out);
	return rc;
}

static int find_program(char path[PATH_BYTES])
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_BYTES - 1);

	if (n < 0)
		return err(FAILED, "cannot find this program's own file");
	path[n] = '\0';
	return OK;
}

static int sweep_main(int argc, char **argv)
{
	const char **operands = calloc((size_t)argc + 1, sizeof(*operands));
	struct sweep *s = calloc(1, sizeof(*s));
	int rc = operands && s ? OK : err(NO_MEMORY, "no memory for a sweep");

	if (!rc)
		rc = opt_parse(&command_sweep, &s->o, argc, argv, operands, &s->run_word_count);
	if (!rc && !s->o.out)
		rc = err(USAGE, "sweep: --out DIR is needed");
	if (!rc && (!s->o.ranks_per_node || !s->o.repeat))
		rc = err(USAGE, "sweep: --ranks-per-node and --repeat are at least 1");
	if (!rc) {
		s->run_words = operands;
		s->ledger.fd = -1;
		rc = axes_read(s);
	}
	if (!rc)
		rc = find_program(s->program);
	if (!rc)
		rc = make_keys(s);
	if (!rc)
		rc = dir_make(s->o.out);
	if (!rc)
		rc = ledger_open(&s->ledger, s->o.out);
	if (!rc) {
		launch_catch_signals();
		rc = run_all(s);
		ledger_close(&s->ledger);
	}
	for (size_t i = 0; s && i < s->axis_count; i++)
		free(s->axes[i].text);
	if (s) {
		free(s->keys);
		free(s->to_do);
		free(s->wall_s);
		free(s->finished);
	}
	free(s);
	free(operands);
	return rc;
}
