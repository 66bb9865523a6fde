/*
 * tests/test_diagnose.c - from record files to tables and findings: injected delays come back with their number, rank and
 * cause.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "bench/base/record.h"
#include "bench/made.h"
#include "report/curve.h"
#include "report/diagnose.h"
#include "report/report.h"
#include "tests/folders.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define MS 1000000ll

#define JUMP_NS (2100 * MS)	/* of a run that begins at 1000 ms and has 40 iterations of 62 ms */

enum { RANKS = 8 };

/* ---- run folders ----------------------------------------------------------------------- */

struct folder {
	struct made plan;
	enum span_id phase;
	int late_rank, every;		/* iterations: every so many */
	int64_t late_ns;
	int hosts;			/* ranks take turns */
	bool synced;			/* their clocks are compared */
	const char *policy;		/* of the loader; NULL: threads */
	int64_t jump_ns;		/* of the clock of host 1, in the middle of the run; with one host: of rank 1's */
	struct record_writer writers[RANKS];
};

static int64_t delay(const void *context, int rank, int iteration, enum span_id id)
{
	const struct folder *f = context;

	return id == f->phase && rank == f->late_rank && iteration % f->every == 0 ? f->late_ns : 0;
}

/* Host 1 booted an hour later and its clock runs 40 ppm fast; the map back is the straight line. */
static int64_t host_ns(const struct folder *f, int rank, int64_t ref_ns)
{
	int64_t jumped_ns = ref_ns > JUMP_NS && (f->hosts > 1 ? rank % f->hosts : rank == 1) ? f->jump_ns : 0;

	return (rank % f->hosts ? ref_ns + ref_ns / 25000 + 3600 * 1000 * MS : ref_ns) + jumped_ns;
}

static void sink(void *context, int rank, const struct event *e)
{
	struct folder *f = context;
	struct event mine = *e;

	mine.t0 = host_ns(f, rank, e->t0);
	mine.t1 = host_ns(f, rank, e->t1);
	assert_int_equal(record_write(&f->writers[rank], RECORD_EVENTS, &mine, sizeof(mine), 1), OK);
}

static struct folder folder_of(enum span_id phase, int rank, int every, int64_t ns)
{
	return (struct folder){
		.plan = { .ranks = RANKS, .epochs = 4, .iterations = 10, .buckets = 2, .load = MS / 10, .first_load = MS / 10,
			  .copy = MS / 10, .bcast = MS / 20, .fwd = 20 * MS, .bwd = 20 * MS, .wire = MS / 5, .opt = 2 * MS,
			  .loss_wire = MS / 20, .log = MS / 10, .boundary = MS / 10, .delay = delay, .sink = sink },
		.phase = phase, .late_rank = rank, .every = every, .late_ns = ns, .hosts = 1,
	};
}

static void write_head(struct folder *f, const char *dir, int rank)
{
	cJSON *head = cJSON_CreateObject(), *names = cJSON_AddArrayToObject(head, "names");
	char path[PATH_BYTES];

	cJSON_AddNumberToObject(head, "rank", rank);
	cJSON_AddNumberToObject(head, "world", f->plan.ranks);
	cJSON_AddStringToObject(head, "boot_id", rank % f->hosts ? "one" : "zero");
	for (int i = 0; i < SPAN_COUNT; i++)
		cJSON_AddItemToArray(names, cJSON_CreateString(span_rows[i].name));
	cJSON_AddItemToObject(head, "classes", cJSON_CreateStringArray(class_names, CLS_COUNT));
	assert_int_equal(path_make(path, "%s/" FOLDER_RECORD, dir, (size_t)rank), OK);
	assert_int_equal(record_writer_open(&f->writers[rank], path), OK);
	assert_int_equal(record_write_json(&f->writers[rank], RECORD_HEAD, head), OK);
	cJSON_Delete(head);
}

static void write_syncs(struct folder *f, int rank)
{
	for (int64_t ref_ns = 500 * MS; ref_ns <= 8000 * MS; ref_ns += 500 * MS) {
		struct sync_point p = { .local_ns = host_ns(f, rank, ref_ns), .ref_ns = ref_ns, .bound_ns = rank % f->hosts ? 2000 : 0,
					.rate = rank % f->hosts ? -4e-5 : 0, .rate_bound = 1e-8, .leader = (uint32_t)(rank % f->hosts),
					.hops = rank % f->hosts != 0, .exchanges = 10, .round_trip_ns = 4000 };

		assert_int_equal(record_write(&f->writers[rank], RECORD_SYNC, &p, sizeof(p), 1), OK);
	}
}

static void folder_write(struct folder *f, const char *dir)
{
	cJSON *run = cJSON_Parse("{\"schema\":1,\"status\":\"ok\",\"options\":{\"policy\":\"threads\",\"workers\":2},"
				 "\"place\":{\"ranks\":8,\"nodes\":4,\"text\":\"4 nodes\"},"
				 "\"step\":{\"clips_per_rank\":1,\"iterations_per_epoch\":10,\"epochs\":4}}");
	cJSON *tail = cJSON_Parse("{\"status\":\"ok\",\"dropped\":0}");
	char path[PATH_BYTES];

	if (f->policy)
		cJSON_ReplaceItemInObject(cJSON_GetObjectItem(run, "options"), "policy", cJSON_CreateString(f->policy));
	assert_int_equal(dir_make(dir), OK);
	f->plan.context = f;
	assert_int_equal(path_make(path, "%s/" FOLDER_RUN, dir), OK);
	assert_int_equal(json_write(path, run), OK);
	for (int r = 0; r < f->plan.ranks; r++)
		write_head(f, dir, r);
	made_run(&f->plan);
	for (int r = 0; r < f->plan.ranks; r++) {
		if (f->synced)
			write_syncs(f, r);
		assert_int_equal(record_write_json(&f->writers[r], RECORD_TAIL, tail), OK);
		assert_int_equal(record_writer_close(&f->writers[r]), OK);
	}
	cJSON_Delete(run);
	cJSON_Delete(tail);
}

/* ---- answers --------------------------------------------------------------------------- */

/* The row of a table whose field is this number or text; NULL `field`: the first. */
static const cJSON *row_of(const cJSON *summary, const char *table, const char *field, double number, const char *word)
{
	const cJSON *row, *rows = cJSON_GetObjectItem(cJSON_GetObjectItem(cJSON_GetObjectItem(summary, "tables"), table), "rows");

	cJSON_ArrayForEach(row, rows)
		if (!field || (word ? !strcmp(json_string(row, field, ""), word) : json_number(row, field, NAN) == number))
			return row;
	fail_msg("no row in %s", table);
	return NULL;
}

/* The findings of folders as JSON. */
static cJSON *findings_of_all(const char *const *dirs, size_t count)
{
	struct findings found;
	struct curve curve;
	struct runs runs;
	cJSON *list;

	assert_int_equal(runs_read(&runs, dirs, count), OK);
	assert_int_equal(curve_make(&curve, &runs), OK);
	assert_int_equal(findings_make(&found, &curve, &runs, "DIR"), OK);
	list = findings_json(&found);
	findings_release(&found);
	curve_release(&curve);
	runs_release(&runs);
	return list;
}

static cJSON *findings_of(const char *dir)
{
	return findings_of_all(&dir, 1);
}

/* ---- the tests ------------------------------------------------------------------------- */

static void a_late_loader_is_found_with_its_rank_its_cost_and_the_command_that_shows_it(void **state)
{
	struct folder f = folder_of(SPAN_LOAD, 5, 2, 30 * MS);
	const cJSON *first, *row;
	cJSON *found, *summary;

	folder_write(&f, *state);
	summary = report_of(*state);
	/* 30 ms in every second iteration, of 7 of 8 ranks; the first bucket's 0.2 ms of moving is hidden no more */
	row = row_of(summary, "waits", NULL, 0, NULL);
	near(row, "wait_ms", (30 - 0.2) / 2 * 7 / 8);
	near(row, "loader_ms", (30 - 0.2) / 2 * 7 / 8);
	near(row, "loader_local_ms", 0.1 * 36 / 40 + 0.1 * 4 / 40 + 30.0 / 2 / 8);
	near(row, "chained_ms", 0);
	row = row_of(summary, "breakdown", "scope", 0, "whole run");
	near(row, "wait_ms", (30 - 0.2) / 2 * 7 / 8);
	near(row, "unsplit_ms", 0);
	row = row_of(summary, "breakdown", "scope", 0, "steady, by work");
	near(row, "iteration_ms", json_number(row, "fwd_ms", 0) + json_number(row, "bwd_ms", 0) + json_number(row, "opt_ms", 0) +
	     json_number(row, "wait_ms", 0) + json_number(row, "wire_ms", 0) + json_number(row, "copy_ms", 0) +
	     json_number(row, "loader_ms", 0) + json_number(row, "other_ms", 0));
	near(row, "fwd_ms", 20);
	row = row_of(summary, "late", "rank", 5, NULL);
	near(row, "times", 20);
	near(row, "first_times", 4);
	near(row, "loader_ms", (30 - 0.2) / 2 * 7);
	assert_string_equal(json_string(row, "verdict", ""), "persistent");
	row = row_of(summary, "late", "rank", 3, NULL);
	near(row, "induced_ms", 0);
	row = row_of(summary, "pairs", "waiter", 0, "2");
	near(row, "root", 5);
	near(row, "wait_ms", (30 - 0.2) / 2);
	near(row, "percent", 100.0 / 7);
	row = row_of(summary, "collectives", "collective", 0, "allreduce");
	near(row, "calls", 80);
	near(row, "clocked", 80);
	near(row, "time_ms", json_number(row, "wait_ms", 0) + json_number(row, "wire_ms", 0));
	near(row, "wire_ms", 2 * 0.2);
	cJSON_Delete(summary);

	found = findings_of(*state);
	first = cJSON_GetArrayItem(found, 0);
	assert_string_equal(json_string(first, "name", ""), "wait");
	assert_non_null(strstr(json_string(first, "what", ""), "100 % of that for rank 5, because of its loader"));
	assert_non_null(strstr(json_string(first, "what", ""), "20 of 40 iterations, which is not chance"));
	assert_string_equal(json_string(first, "evidence", ""), "sfscale report DIR --table late");
	assert_non_null(strstr(json_string(first, "try", ""), "s per epoch are to be won"));
	cJSON_Delete(found);
}

static void where_no_cause_costs_anything_nothing_stands_out(void **state)
{
	struct folder f = folder_of(SPAN_LOAD, 0, 1, 0);
	char text[256] = "";
	struct findings none = { 0 };
	cJSON *found;
	FILE *out = fmemopen(text, sizeof(text), "w");

	folder_write(&f, *state);
	found = findings_of(*state);
	assert_int_equal(cJSON_GetArraySize(found), 0);
	cJSON_Delete(found);
	findings_print(&none, out);
	fclose(out);
	assert_non_null(strstr(text, "Nothing stands out"));
}

static void a_missing_rank_is_an_error_that_names_it(void **state)
{
	struct folder f = folder_of(SPAN_LOAD, 5, 2, 30 * MS);
	const cJSON *first, *row;
	cJSON *found, *summary;
	char path[PATH_BYTES];

	folder_write(&f, *state);
	assert_int_equal(path_make(path, "%s/" FOLDER_RECORD, (char *)*state, (size_t)6), OK);
	assert_int_equal(unlink(path), 0);
	found = findings_of(*state);
	first = cJSON_GetArrayItem(found, 0);
	assert_string_equal(json_string(first, "severity", ""), "error");
	assert_non_null(strstr(json_string(first, "what", ""), "rank-00006"));
	cJSON_Delete(found);
	summary = report_of(*state);
	row = row_of(summary, "runs", NULL, 0, NULL);
	assert_string_equal(json_string(row, "status", ""), "damaged");
	cJSON_Delete(summary);
}

static void clocks_that_were_compared_are_brought_together(void **state)
{
	struct folder f = folder_of(SPAN_FWD, 3, 1, 30 * MS);
	const cJSON *row;
	cJSON *summary;

	f.hosts = 2;
	f.synced = true;
	folder_write(&f, *state);
	summary = report_of(*state);
	row = row_of(summary, "collectives", "collective", 0, "allreduce");
	assert_true(json_number(row, "clocked", 0) >= 40);
	near(row, "contradictory", 0);
	assert_true(json_number(row, "bound_us", 0) >= 4);
	row = row_of(summary, "late", "rank", 3, NULL);
	assert_true(fabs(json_number(row, "compute_ms", 0) - 7 * (30 - 0.2)) < 0.05);
	cJSON_Delete(summary);
}

static void clocks_that_were_not_compared_leave_the_shortest_stay(void **state)
{
	struct folder f = folder_of(SPAN_FWD, 3, 1, 30 * MS);
	const cJSON *row;
	cJSON *summary;

	f.hosts = 2;
	folder_write(&f, *state);
	summary = report_of(*state);
	row = row_of(summary, "collectives", "collective", 0, "allreduce");
	near(row, "clock_free", 80);
	row = row_of(summary, "late", "rank", 3, NULL);
	assert_true(fabs(json_number(row, "compute_ms", 0) - 7 * (30 - 0.2)) < 0.05);
	cJSON_Delete(summary);
}

static bool told(const cJSON *summary, const char *list, const char *words)
{
	const cJSON *item, *table = cJSON_GetObjectItem(cJSON_GetObjectItem(summary, "tables"), list);
	const cJSON *items = cJSON_GetObjectItem(table ? table : summary, table ? "rows" : list);

	cJSON_ArrayForEach(item, items)
		if (strstr(table ? json_string(item, "warning", "") : item->valuestring, words))
			return true;
	return false;
}

/* Nobody knows when it jumped, so nothing in its run is sure. */
static void a_clock_that_jumped_between_comparisons_is_named_and_its_run_in_no_median(void **state)
{
	struct folder f = folder_of(SPAN_FWD, 3, 1, 30 * MS);
	const cJSON *row;
	cJSON *summary;

	f.hosts = 2;
	f.synced = true;
	f.jump_ns = 5000 * MS;
	folder_write(&f, *state);
	summary = report_of(*state);
	row = row_of(summary, "runs", NULL, 0, NULL);
	assert_string_equal(json_string(row, "status", ""), "damaged");
	assert_non_null(strstr(json_string(row, "reason", ""), "rank-00001.sfr: its clock, or the reference clock, jumped in 1 of"));
	assert_true(told(summary, "headlines", "1 of 1 runs did not end well and are in no median"));
	cJSON_Delete(summary);
}

static void ranks_of_one_clock_that_contradict_each_other_are_unsplit_and_named(void **state)
{
	struct folder f = folder_of(SPAN_FWD, 3, 1, 30 * MS);
	const cJSON *row;
	cJSON *summary;

	f.jump_ns = 5000 * MS;
	folder_write(&f, *state);
	summary = report_of(*state);
	row = row_of(summary, "collectives", "collective", 0, "allreduce");
	assert_true(json_number(row, "contradictory", 0) > 30);
	assert_true(json_number(row, "clocked", 0) > 20);	/* before it jumped */
	assert_true(told(summary, "warnings", "calls of allreduce are unsplit"));
	assert_true(told(summary, "headlines", "are not told apart into waiting and moving"));
	assert_true(told(summary, "warnings", "rank 0 left the "));
	assert_true(told(summary, "warnings", "before rank 1 came to it, by one clock: a clock jumped"));
	cJSON_Delete(summary);
}

static void a_record_of_a_rank_that_the_run_has_not_is_named(void **state)
{
	struct folder f = folder_of(SPAN_LOAD, 0, 1, 0);
	char command[PATH_BYTES];
	cJSON *summary;

	folder_write(&f, *state);
	assert_int_equal(path_make(command, "cp %s/rank-00000.sfr %s/rank-00008.sfr", (char *)*state, (char *)*state), OK);
	assert_int_equal(system(command), 0);
	summary = report_of(*state);
	assert_true(told(summary, "warnings", "a record of a rank that this run, of 8, has not"));
	assert_string_equal(json_string(row_of(summary, "runs", NULL, 0, NULL), "status", ""), "ok");
	cJSON_Delete(summary);
}

/* What every rank has too much of, in ms; of an iteration of 62 ms. */
static void what_costs_most_is_found_first(void **state)
{
	static const struct { size_t field; int64_t ns; bool device; const char *name, *words; } cases[] = {
		{ offsetof(struct made, load), 30 * MS, false, "loader", "ranks stand still for a batch" },
		{ offsetof(struct made, copy), 30 * MS, false, "copy", "copies into the network's input take" },
		{ offsetof(struct made, wire), 40 * MS, false, "wire", "moving data in collectives takes" },
		{ offsetof(struct made, boundary), 900 * MS, false, "boundary", "epoch boundaries, with the wait for the first batch" },
		{ offsetof(struct made, launch), 40 * MS, true, "launch", "devices have nothing to do while their hosts launch" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct folder f = folder_of(SPAN_LOAD, 5, 10, 10 * MS);	/* a late rank as well, that costs little */
		const cJSON *found, *one;
		double cost = 100;

		f.plan.device = cases[i].device;
		*(int64_t *)((char *)&f.plan + cases[i].field) = cases[i].ns;
		folder_write(&f, *state);
		found = findings_of(*state);
		one = cJSON_GetArrayItem(found, 0);
		assert_string_equal(json_string(one, "name", ""), cases[i].name);
		assert_non_null(strstr(json_string(one, "what", ""), cases[i].words));
		assert_non_null(strstr(json_string(one, "try", ""), "are to be won"));
		cJSON_ArrayForEach(one, found) {
			assert_true(json_number(one, "cost_percent", 0) <= cost);
			cost = json_number(one, "cost_percent", 0);
		}
		cJSON_Delete((cJSON *)(uintptr_t)found);
	}
}

static void what_another_variant_gives_back_is_said_where_it_was_measured(void **state)
{
	struct folder slow = folder_of(SPAN_LOAD, 5, 1, 30 * MS), fast = folder_of(SPAN_LOAD, 5, 1, 0);
	char paths[2][PATH_BYTES];
	const char *const dirs[] = { paths[0], paths[1] };
	const cJSON *first;
	cJSON *found;

	slow.policy = "respawn";
	for (int i = 0; i < 2; i++) {
		assert_int_equal(path_make(paths[i], "%s/%d", (char *)*state, i), OK);
		folder_write(i ? &fast : &slow, paths[i]);
	}
	found = findings_of_all(dirs, 2);
	first = cJSON_GetArrayItem(found, 0);
	assert_string_equal(json_string(first, "name", ""), "wait");
	assert_non_null(strstr(json_string(first, "what", ""), "for rank 5, because of its loader"));
	assert_non_null(strstr(json_string(first, "try", ""), "--policy threads (rank 5)"));
	/* 30 ms in each of 10 iterations, but for the bucket that moves while the others wait. */
	assert_non_null(strstr(json_string(first, "try", ""), "'threads' was measured on the same nodes: every run of it is faster, and it "
			       "gives back 30.0 ms per iteration, 0.300 s per epoch"));
	cJSON_Delete(found);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		IN_FOLDER(a_late_loader_is_found_with_its_rank_its_cost_and_the_command_that_shows_it),
		IN_FOLDER(where_no_cause_costs_anything_nothing_stands_out),
		IN_FOLDER(a_missing_rank_is_an_error_that_names_it),
		IN_FOLDER(clocks_that_were_compared_are_brought_together),
		IN_FOLDER(clocks_that_were_not_compared_leave_the_shortest_stay),
		IN_FOLDER(a_clock_that_jumped_between_comparisons_is_named_and_its_run_in_no_median),
		IN_FOLDER(ranks_of_one_clock_that_contradict_each_other_are_unsplit_and_named),
		IN_FOLDER(a_record_of_a_rank_that_the_run_has_not_is_named),
		IN_FOLDER(what_costs_most_is_found_first),
		IN_FOLDER(what_another_variant_gives_back_is_said_where_it_was_measured),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
