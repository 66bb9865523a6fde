/*
 * report/runs.c - see runs.h.
 *
 * One rank is in memory at a time.  Its record is cut into windows at the marks of the
 * training lane, accounted for by decompose() over the events of all lanes, and added up.
 *
 * The boundary is accounted for by the same sweep with other classes: the spans in
 * boundary_spans[] instead of event classes, so its parts sum to its length as well.
 */
#include "report/runs.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "bench/base/record.h"
#include "report/decompose.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A part of the boundary is a row here and in enum boundary_part; the earlier one wins where
 * two overlap.  The only LOAD inside a boundary is that of the first iteration. */
static const struct {
	enum span_id span;
	enum boundary_part part;
} boundary_spans[] = {
	{ SPAN_WORKERS_STOP, PART_STOP },
	{ SPAN_WORKERS_START, PART_START },
	{ SPAN_SAMPLER, PART_SAMPLER },
	{ SPAN_LOAD, PART_FIRST_BATCH },
};

static const struct field warning_fields[] = {
	{ "about", "", "the file, run or point concerned", 0 },
	{ "warning", "", "what is wrong with it, and what was left out for that", 0 },
};

enum { LANE_TRAINING = 0 };	/* bench/base/folder.h */

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

/* A run that is not ok keeps its first reason. */
static void spoil(struct run *r, const char *status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void spoil(struct run *r, const char *status, const char *format, ...)
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

/* ---- one rank -------------------------------------------------------------------------- */

/* The row of windows of one rank: window i lies between cuts i and i + 1. */
struct marks {
	int64_t *cuts;
	enum window_kind *kinds;
	size_t windows;
	bool ascend, ended;
};

static int index_of(const char *name, const char *(*name_at)(int), int count)
{
	int i = 0;

	while (i < count && strcmp(name, name_at(i)))
		i++;
	return i;
}

static const char *span_name(int i) { return span_rows[i].name; }
static const char *class_name(int i) { return class_names[i]; }

/* The record says what its numbers mean; events get this program's numbers.  A span that is
 * unknown here is of no interest, a class that is unknown is other time. */
static void events_translate(struct record *rec)
{
	enum { KNOWN_MAX = 256 };
	uint32_t names[KNOWN_MAX], classes[KNOWN_MAX];
	const cJSON *name_list = cJSON_GetObjectItemCaseSensitive(rec->head, "names");
	const cJSON *class_list = cJSON_GetObjectItemCaseSensitive(rec->head, "classes");
	const cJSON *item;
	size_t name_count = 0, class_count = 0;

	cJSON_ArrayForEach(item, name_list)
		if (name_count < KNOWN_MAX)
			names[name_count++] = (uint32_t)index_of(cJSON_IsString(item) ? item->valuestring : "",
								 span_name, SPAN_COUNT);
	cJSON_ArrayForEach(item, class_list)
		if (class_count < KNOWN_MAX)
			classes[class_count++] = (uint32_t)index_of(cJSON_IsString(item) ? item->valuestring : "",
								    class_name, CLS_COUNT);
	for (size_t i = 0; i < rec->event_count; i++) {
		struct event *e = &rec->events[i];

		e->name = e->name < name_count ? names[e->name] : SPAN_COUNT;
		if (e->cls == CLS_ASIDE)
			continue;
		e->cls = e->cls < class_count && classes[e->cls] < CLS_COUNT ? (uint8_t)classes[e->cls] : CLS_OTHER;
	}
}

static int marks_make(struct marks *m, const struct record *rec)
{
	size_t n = 0;

	*m = (struct marks){ .ascend = true };
	m->cuts = malloc((rec->event_count + 1) * sizeof(*m->cuts));
	m->kinds = malloc((rec->event_count + 1) * sizeof(*m->kinds));
	if (!m->cuts || !m->kinds)
		return err(NO_MEMORY, "no memory for the windows of %zu events", rec->event_count);
	for (size_t i = 0; i < rec->event_count && !m->ended; i++) {
		const struct event *e = &rec->events[i];
		bool epoch = e->name == SPAN_EPOCH_BEGIN, load = e->name == SPAN_LOAD;

		if (e->lane != LANE_TRAINING)
			continue;
		m->ended = e->name == SPAN_RUN_END;
		if (!epoch && !load && !m->ended)
			continue;
		m->kinds[n] = epoch ? WINDOW_BOUNDARY
			    : n && m->kinds[n - 1] == WINDOW_BOUNDARY ? WINDOW_FIRST : WINDOW_STEADY;
		m->cuts[n] = e->t0;
		m->ascend &= !n || m->cuts[n - 1] <= e->t0;
		n++;
	}
	m->windows = n ? n - 1 : 0;	/* the last mark ends a window; one still open has no length */
	return OK;
}

static void marks_release(struct marks *m)
{
	free(m->cuts);
	free(m->kinds);
}

static void sum_add(struct window_sum *sum, const struct account *a)
{
	sum->windows++;
	sum->wall_ns += account_ns(a);
	for (int c = 0; c < CLS_COUNT; c++)
		sum->parts_ns[c] += a->parts_ns[c];
	sum->comm_ns += a->comm_ns;
	sum->comm_hidden_ns += a->comm_hidden_ns;
}

static int windows_add(struct runs *all, struct run *r, const struct record *rec, const struct marks *m)
{
	struct account *accounts = calloc(m->windows + 1, sizeof(*accounts));
	int rc;

	if (!accounts)
		return err(NO_MEMORY, "no memory for %zu windows", m->windows);
	rc = decompose(rec->events, rec->event_count, m->cuts, m->windows, accounts);
	for (size_t w = 0; w < m->windows && !rc; w++) {
		int64_t ns = account_ns(&accounts[w]);

		all->windows_checked++;
		all->windows_unequal += parts_sum_ns(accounts[w].parts_ns) != ns;
		sum_add(&r->sums[m->kinds[w]], &accounts[w]);
		if (w < r->windows && ns > r->slowest_ns[w])
			r->slowest_ns[w] = ns;
	}
	if (!rc && m->windows && m->cuts[m->windows] - m->cuts[0] > r->wall_ns)
		r->wall_ns = m->cuts[m->windows] - m->cuts[0];
	free(accounts);
	return rc;
}

/* The stretches between optimiser steps that an epoch's begin lies in: cuts 2i and 2i + 1 are
 * the ends of stretch i.  Returns their number. */
static size_t stretch_cuts(const struct event *own, size_t count, int64_t *cuts)
{
	int64_t opt_end = 0;
	bool stepped = false, open = false;
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		if (own[i].name == SPAN_EPOCH_BEGIN && !open) {
			cuts[2 * n] = stepped ? opt_end : own[i].t0;
			open = true;
		} else if (own[i].name == SPAN_OPT) {
			opt_end = own[i].t1;
			stepped = true;
			if (open)
				cuts[2 * n++ + 1] = opt_end;
			open = false;
		}
	}
	return n;
}

static uint8_t boundary_class(const struct event *e)
{
	for (size_t i = 0; i < ARRAY_LEN(boundary_spans); i++)
		if (e->name == boundary_spans[i].span)
			return (uint8_t)boundary_spans[i].part;
	return CLS_ASIDE;
}

static void stretch_take(struct stretch *s, const struct account *a)
{
	if (account_ns(a) <= s->length_ns)
		return;
	s->length_ns = account_ns(a);
	for (int p = 0; p < PART_REST; p++)
		s->parts_ns[p] = a->parts_ns[p];
	s->parts_ns[PART_REST] = a->parts_ns[CLS_UNATTRIBUTED];
}

static int stretches_add(struct run *r, const struct record *rec)
{
	struct event *own = malloc((rec->event_count + 1) * sizeof(*own));
	int64_t *cuts = malloc((2 * rec->event_count + 2) * sizeof(*cuts));
	struct account *accounts = NULL;
	struct stretch *more;
	size_t count = 0, n = 0;
	int rc = OK;

	for (size_t i = 0; own && i < rec->event_count; i++)
		if (rec->events[i].lane == LANE_TRAINING)
			own[count++] = rec->events[i];
	if (own && cuts)
		n = stretch_cuts(own, count, cuts);
	for (size_t i = 0; own && i < count; i++)
		own[i].cls = boundary_class(&own[i]);
	accounts = calloc(2 * n + 1, sizeof(*accounts));
	if (n > r->stretch_count) {
		more = realloc(r->stretches, n * sizeof(*more));
		if (more) {
			memset(more + r->stretch_count, 0, (n - r->stretch_count) * sizeof(*more));
			r->stretches = more;
			r->stretch_count = n;
		} else {
			rc = NO_MEMORY;
		}
	}
	if (rc || !own || !cuts || !accounts)
		rc = err(NO_MEMORY, "no memory for the epoch boundaries of '%s'", r->folder);
	else if (n)
		rc = decompose(own, count, cuts, 2 * n - 1, accounts);
	for (size_t i = 0; i < n && !rc; i++)
		stretch_take(&r->stretches[i], &accounts[2 * i]);
	free(own);
	free(cuts);
	free(accounts);
	return rc;
}

/* The first rank says what windows there are; a later one must agree. */
static int windows_agree(struct run *r, const struct marks *m, const char *path)
{
	size_t common = m->windows < r->windows ? m->windows : r->windows;

	if (!r->ranks_read++) {
		r->kinds = malloc((m->windows + 1) * sizeof(*r->kinds));
		r->slowest_ns = calloc(m->windows + 1, sizeof(*r->slowest_ns));
		if (!r->kinds || !r->slowest_ns)
			return err(NO_MEMORY, "no memory for %zu windows", m->windows);
		memcpy(r->kinds, m->kinds, m->windows * sizeof(*r->kinds));
		r->windows = m->windows;
		return OK;
	}
	if (m->windows != r->windows || memcmp(m->kinds, r->kinds, common * sizeof(*r->kinds)))
		spoil(r, "damaged", "%s: has %zu windows, the ranks before it have %zu, or others", path, m->windows,
		      r->windows);
	r->windows = common;
	return OK;
}

static int rank_add(struct runs *all, struct run *r, size_t rank, struct record *rec, const char *path)
{
	struct marks m = { 0 };
	int rc;

	if (json_number(rec->head, "rank", -1) != (double)rank || json_number(rec->head, "world", -1) != (double)r->ranks) {
		spoil(r, "damaged", "%s: is rank %g of %g, not %zu of %zu: a record of another run", path,
		      json_number(rec->head, "rank", -1), json_number(rec->head, "world", -1), rank, r->ranks);
		return OK;
	}
	events_translate(rec);
	rc = marks_make(&m, rec);
	if (rc || !m.ascend) {
		if (!rc)
			spoil(r, "damaged", "%s: its windows run backwards", path);
		marks_release(&m);
		return rc;
	}
	if (!rec->tail)
		spoil(r, "cut off", "%s: ends without its last block, %zu bytes behind the last whole one", path,
		      rec->bad_bytes);
	else if (!m.ended)
		spoil(r, "damaged", "%s: no end of the run in it", path);
	rc = windows_agree(r, &m, path);
	if (!rc)
		rc = windows_add(all, r, rec, &m);
	if (!rc)
		rc = stretches_add(r, rec);
	r->dropped += (uint64_t)json_number(rec->tail, "dropped", 0);
	r->events += rec->event_count;
	marks_release(&m);
	return rc;
}

/* ---- one run --------------------------------------------------------------------------- */

static const cJSON *run_part(const struct run *r, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(r->json, name);
}

double run_clips(const struct run *r)
{
	return (double)r->ranks * json_number(run_part(r, "step"), "clips_per_rank", NAN);
}

/* A value as the ledger or run.json has it: text or number. */
static void value_text(const cJSON *v, char out[64])
{
	if (cJSON_IsString(v))
		snprintf(out, 64, "%s", v->valuestring);
	else if (cJSON_IsNumber(v))
		snprintf(out, 64, "%g", v->valuedouble);
	else
		snprintf(out, 64, "%s", cJSON_IsTrue(v) ? "on" : cJSON_IsFalse(v) ? "off" : "");
}

static int64_t whole_number(const cJSON *object, const char *key, int64_t absent)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, key);
	char text[64], *end;
	long long n;

	if (!v)
		return absent;
	value_text(v, text);
	n = strtoll(text, &end, 10);
	return end == text || *end ? absent : (int64_t)n;
}

/* "threads, workers=2": the options that were swept, without the nodes.  `series` leaves out the
 * workers too, which are the x axis of the boundary figure. */
static void run_label(struct run *r, const cJSON *point)
{
	const cJSON *options = run_part(r, "options"), *v;
	char text[64];

	value_text(cJSON_GetObjectItemCaseSensitive(options, "policy"), text);
	cJSON_ArrayForEach(v, point) {
		char value[64];
		bool policy = !strcmp(v->string, "policy");

		if (!strcmp(v->string, "nodes"))
			continue;
		value_text(v, value);
		if (policy)
			snprintf(text, sizeof(text), "%s", value);
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

/* Whether the process that wrote this record lives: only its own machine, in its own boot, can know. */
static bool still_running(const cJSON *head)
{
	char host[256] = "", *boot = NULL;
	pid_t pid = (pid_t)json_number(head, "pid", 0);
	bool here;

	if (pid <= 0 || gethostname(host, sizeof(host) - 1) || file_read("/proc/sys/kernel/random/boot_id", &boot, NULL))
		return false;
	boot[strcspn(boot, "\n")] = '\0';
	here = !strcmp(host, json_string(head, "host", "")) && !strcmp(boot, json_string(head, "boot_id", ""));
	free(boot);
	return here && (!kill(pid, 0) || errno == EPERM);
}

static int run_records(struct runs *all, struct run *r)
{
	bool asked = !run_counts(r), unfinished = !strcmp(json_string(r->json, "status", ""), "running");

	for (size_t rank = 0; rank < r->ranks; rank++) {
		char path[PATH_BYTES];
		struct record rec;
		int rc;

		if (path_make(path, "%s/" FOLDER_RECORD, r->folder, rank))
			return FAILED;
		if (access(path, R_OK)) {	/* of a run that is known to have failed it is no news */
			spoil(r, unfinished ? "cut off" : "damaged", "%s: %s", path, strerror(errno));
			continue;
		}
		rc = record_read(path, &rec);
		if (rc == NO_MEMORY)
			return rc;
		if (rc) {
			spoil(r, "damaged", "%s", err_last());
			continue;
		}
		if (unfinished && !asked) {
			asked = true;
			if (still_running(rec.head))
				spoil(r, "running", "it has not ended yet");
			else
				spoil(r, "cut off", "its process is gone and run.json says \"running\"");
		}
		rc = rank_add(all, r, rank, &rec, path);
		record_release(&rec);
		if (rc)
			return rc;
	}
	return OK;
}

static int run_steady(struct run *r)
{
	double *steady = malloc((r->windows + 1) * sizeof(*steady));
	size_t n = 0;

	if (!steady)
		return err(NO_MEMORY, "no memory for %zu iterations", r->windows);
	for (size_t w = 0; w < r->windows; w++) {
		r->iterations += r->kinds[w] != WINDOW_BOUNDARY;
		if (r->kinds[w] == WINDOW_STEADY)
			steady[n++] = (double)r->slowest_ns[w];
	}
	r->steady_ns = summarize(steady, n);
	free(steady);
	return OK;
}

/* Whether the records hold the run that run.json tells of. */
static void run_check(struct runs *all, struct run *r)
{
	const cJSON *step = run_part(r, "step"), *w;
	double expected = json_number(step, "iterations_per_epoch", NAN) * json_number(step, "epochs", NAN);
	int64_t wall_ns = 0, unattributed_ns = 0;

	if (!isnan(expected) && expected != (double)r->iterations)
		spoil(r, "damaged", "%zu iterations in its records, run.json says %.0f", r->iterations, expected);
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
	if (run_counts(r) && !r->steady_ns.n)
		runs_warn(all, r->folder, "no steady iteration: every epoch has one iteration only");
	cJSON_ArrayForEach(w, run_part(r, "warnings"))
		if (cJSON_IsString(w))
			runs_warn(all, r->folder, "%s", w->valuestring);
	if (!run_counts(r))
		runs_warn(all, r->folder, "%s, so in no median: %s", r->status, r->reason ? r->reason : "no reason given");
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
	*r = (struct run){ .status = "ok", .repeat = -1, .workers = -1, .steady_ns = summarize(NULL, 0) };
	append(&r->folder, "%s", folder);
	return r;
}

/* `line` is the ledger's; NULL for a folder that no ledger names. */
static int run_read(struct runs *all, const char *folder, const cJSON *line)
{
	const char *status = json_string(line, "status", "ok");
	struct run *r = run_new(all, folder);
	char path[PATH_BYTES];
	const cJSON *place;
	int rc;

	if (!r)
		return NO_MEMORY;
	r->repeat = (int64_t)json_number(line, "repeat", -1);
	if (strcmp(status, "ok"))
		spoil(r, "failed", "%s", json_string(line, "reason", "no reason given"));
	if (path_make(path, "%s/" FOLDER_RUN, folder))
		return FAILED;
	/* A failed point may have no run.json at all; for an ok one that is damage. */
	if ((run_counts(r) || !access(path, R_OK)) && json_read(path, &r->json))
		spoil(r, "damaged", "%s", err_last());
	if (r->json && json_number(r->json, "schema", 0) != FOLDER_SCHEMA)
		spoil(r, "damaged", "%s: schema %g, this program reads %d", path, json_number(r->json, "schema", 0),
		      FOLDER_SCHEMA);
	if (!strcmp(json_string(r->json, "status", ""), "failed"))
		spoil(r, "failed", "%s", json_string(r->json, "reason", "no reason given"));
	run_label(r, cJSON_GetObjectItemCaseSensitive(line, "point"));
	place = run_part(r, "place");
	r->ranks = (size_t)json_number(place, "ranks", 0);
	append(&r->place, "%s%s", json_string(place, "text", "place unknown"),
	       cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(run_part(r, "step"), "emulated"))
	       ? ", kernels emulated" : "");
	if (r->json && !r->ranks)
		spoil(r, "damaged", "%s: no number of ranks", path);
	rc = run_records(all, r);
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
				runs_warn(all, path, "%s", err_last());
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
	line_reader_close(&in);
	return rc;
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
			spoil(&all->at[all->count - 1], "cut off", "the ledger has no line for it");
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
	size_t readable = 0;
	int rc = OK;

	*all = (struct runs){ 0 };
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
		rc = err(FAILED, "no run and no sweep that can be read in '%s'%s", dirs[0], dir_count > 1 ? " or the others" : "");
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
		free(r->stretches);
	}
	free(all->at);
	table_release(&all->warnings);
	*all = (struct runs){ 0 };
}
