/*
 * tests/test_report.c - reports of sweeps whose every nanosecond is known.
 *
 * A plan says how long each row of the step takes; it is written as records, ledger and
 * run.json, and the tables must give the plan back.  SFSCALE_KEEP=DIR keeps the sweep that the first
 * test makes, with its report, for looking at it.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "bench/base/record.h"
#include "report/report.h"
#include "report/runs.h"
#include "tests/folders.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- made sweeps ----------------------------------------------------------------------- */

#define MS 1000000ll

/* Of one run; in ns.  Every rank is the slowest one in turn, by `late` in its LOAD. */
struct plan {
	const char *policy;
	int workers, nodes, ranks, repeat, epochs, iterations;
	int64_t load, copy, fwd, bwd, hidden, exposed, opt, log, late;
	int64_t stop, start, sampler, gap, first_load, eval;
	bool makers;		/* two workers that say what they do */
	int every;		/* 0; else rank 0 alone is late, in each so many-th iteration */
};

static struct plan plan_of(const char *policy, int workers, int nodes, int repeat)
{
	bool respawn = !strcmp(policy, "respawn");

	return (struct plan){
		.policy = policy, .workers = workers, .nodes = nodes, .ranks = nodes, .repeat = repeat,
		.epochs = 3, .iterations = 6, .load = 4 * MS, .copy = 2 * MS, .fwd = 30 * MS, .bwd = 60 * MS + repeat * MS,
		.hidden = nodes > 1 ? 20 * MS : 0, .exposed = nodes > 1 ? (9 + 6 * nodes) * MS : 0, .opt = 5 * MS, .log = 1 * MS,
		.late = 3 * MS, .stop = respawn ? 10 * workers * MS : 0, .start = respawn ? 60 * workers * MS : 0,
		.sampler = 1 * MS, .gap = MS / 2, .first_load = respawn ? 40 * MS : 6 * MS,
		.eval = respawn ? 0 : 25 * MS,
	};
}

static int64_t plan_row(const struct plan *p)		/* a steady iteration of a rank that is not late */
{
	return p->load + p->copy + p->fwd + p->bwd + p->exposed + p->opt + p->log;
}

static int64_t plan_steady(const struct plan *p)	/* of the slowest rank */
{
	return plan_row(p) + p->late;
}

static int64_t plan_boundary(const struct plan *p)	/* cost; without stopping it is that of the start-up, but for log */
{
	return p->eval + p->stop + p->start + p->sampler + p->gap + p->first_load - p->load - p->late;
}

/* Every rank is late in each `ranks`-th iteration; first iterations of epochs have no late rank. */
static int64_t plan_wall_of_rank(const struct plan *p, int rank)
{
	int64_t ns = 0;

	for (int e = 0; e < p->epochs; e++)
		ns += p->eval + (e ? p->stop : 0) + p->start + p->sampler + p->gap + p->first_load - p->load;
	for (int i = 0; i < p->epochs * p->iterations; i++)
		ns += plan_row(p) + (i % p->iterations && i % p->ranks == rank ? p->late : 0);
	return ns;
}

static double plan_rate(const struct plan *p)
{
	int64_t wall = 0;

	for (int r = 0; r < p->ranks; r++)
		wall = plan_wall_of_rank(p, r) > wall ? plan_wall_of_rank(p, r) : wall;
	return 2.0 * p->ranks * p->epochs * p->iterations / (1e-9 * (double)wall);
}

static double plan_map(const struct plan *p)
{
	return 0.5 - 0.0625 * p->nodes + 0.03125 * p->repeat;
}

struct tape {
	struct event events[4096];
	size_t count;
	uint32_t iter, collectives[2];	/* on each lane */
};

static int64_t tape_put(struct tape *t, enum span_id id, int lane, int64_t t0, int64_t ns)
{
	assert_true(t->count < ARRAY_LEN(t->events));
	t->events[t->count++] = (struct event){ .t0 = t0, .t1 = t0 + ns, .name = id, .iter = t->iter, .lane = (uint16_t)lane,
						.seq = span_rows[id].kind == KIND_COLLECTIVE ? t->collectives[lane]++ : 0,
						.kind = (uint8_t)span_rows[id].kind, .cls = (uint8_t)span_rows[id].cls };
	return t0 + ns;
}

/* Batches of even numbers are there half a millisecond before the training thread has them.  Those of odd numbers were
 * ready one millisecond after it asked for the one before, and pass it. */
static const int64_t made_stages[] = { 1 * MS, 2 * MS, 3 * MS, MS / 2 };	/* storage, decode, transform, hand-over */
enum { MADE_NS = 6500000, MADE_CPU_NS = 5000000, MADE_USS = 10 << 20, MADE_GROWTH = 128 << 10, MADE_PSS = 11 << 20 };

static void tape_count(struct tape *t, enum span_id id, int lane, int64_t at, uint64_t value)
{
	tape_put(t, id, lane, at, 0);
	t->events[t->count - 1].arg = value;
}

static void tape_batch(struct tape *t, int64_t ready, uint32_t number, int iterations)
{
	uint32_t iter = t->iter, nth = number % (uint32_t)iterations / 2;	/* of its worker in this epoch */
	int lane = 2 + (int)number % 2;
	int64_t at = ready - MADE_NS;

	t->iter = number;
	tape_put(t, SPAN_MAKE_BATCH, lane, at, MADE_NS);
	t->events[t->count - 1].arg = number;
	for (int stage = 0; stage < (int)ARRAY_LEN(made_stages); stage++)
		at = tape_put(t, SPAN_BATCH_READ + stage, lane, at, made_stages[stage]);
	tape_count(t, SPAN_WORKER_CPU, lane, ready, (nth + 1) * MADE_CPU_NS);
	if (nth != 1) {
		tape_count(t, SPAN_WORKER_USS, lane, ready, MADE_USS + nth * MADE_GROWTH);
		tape_count(t, SPAN_WORKER_PSS, lane, ready, MADE_PSS);
	}
	t->iter = iter;
}

static int64_t tape_iteration(struct tape *t, const struct plan *p, int64_t at, int64_t load)
{
	if (p->makers) {
		tape_count(t, SPAN_QUEUE_DEPTH, 0, at, t->iter % 2);
		if (t->iter % 2 == 0) {
			tape_batch(t, at + load - MS / 2, t->iter, p->iterations);
			tape_batch(t, at + MS, t->iter + 1, p->iterations);
		}
	}
	at = tape_put(t, SPAN_LOAD, 0, at, load);
	at = tape_put(t, SPAN_H2D, 0, at, p->copy);
	at = tape_put(t, SPAN_FWD, 0, at, p->fwd);
	at = tape_put(t, SPAN_BWD, 0, at, p->bwd);
	if (p->exposed)
		tape_put(t, SPAN_ALLREDUCE, 1, at - p->hidden, p->hidden + p->exposed);
	at = tape_put(t, SPAN_DRAIN, 0, at, p->exposed);
	at = tape_put(t, SPAN_OPT, 0, at, p->opt);
	return tape_put(t, SPAN_LOG, 0, at, p->log);
}

static void tape_run(struct tape *t, const struct plan *p, int rank)
{
	int64_t at = 1000 * MS + 12345 * rank, begin;

	for (int e = 0; e < p->epochs; e++) {
		begin = at;
		if (e)
			at = tape_put(t, SPAN_WORKERS_STOP, 0, at, p->stop);
		at = tape_put(t, SPAN_WORKERS_START, 0, at, p->start);
		at = tape_put(t, SPAN_SAMPLER, 0, at, p->sampler);
		at = tape_put(t, SPAN_EPOCH_BEGIN, 0, begin, at + p->gap - begin);
		for (int i = 0; i < p->iterations; i++, t->iter++)
			at = tape_iteration(t, p, at, !i ? p->first_load
					    : p->load + ((int)t->iter % (p->every ? p->every : p->ranks) == rank ? p->late : 0));
		if (p->eval)
			at = tape_put(t, SPAN_EVAL, 0, at, p->eval);
	}
	tape_put(t, SPAN_RUN_END, 0, at, 0);
}

static cJSON *parse(const char *format, ...) __attribute__((format(printf, 1, 2)));
static cJSON *parse(const char *format, ...)
{
	char text[4096];
	va_list args;
	cJSON *value;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	value = cJSON_Parse(text);
	assert_non_null(value);
	return value;
}

static void write_record_of(const char *folder, const struct plan *p, int rank, bool whole, const char *id)
{
	cJSON *head = parse("{\"rank\":%d,\"world\":%d,\"node\":0,\"local_rank\":0,\"host\":\"h\",\"boot_id\":\"b\",\"pid\":1,"
			    "\"lanes\":[\"train\",\"comm\",\"worker 0\",\"worker 1\"]}", rank, p->ranks);
	cJSON *names = cJSON_AddArrayToObject(head, "names"), *tail = parse("{\"status\":\"ok\",\"dropped\":0}");
	struct tape *t = calloc(1, sizeof(*t));
	struct record_writer w;
	char path[PATH_BYTES];

	if (id)
		cJSON_AddStringToObject(head, "run", id);
	for (int i = 0; i < SPAN_COUNT; i++)
		cJSON_AddItemToArray(names, cJSON_CreateString(span_rows[i].name));
	cJSON_AddItemToObject(head, "classes", cJSON_CreateStringArray(class_names, CLS_COUNT));
	tape_run(t, p, rank);
	assert_int_equal(path_make(path, "%s/" FOLDER_RECORD, folder, (size_t)rank), OK);
	assert_int_equal(record_writer_open(&w, path), OK);
	assert_int_equal(record_write_json(&w, RECORD_HEAD, head), OK);
	for (size_t i = 0; i < t->count; i += 10) {	/* several blocks, as a run writes them */
		size_t n = t->count - i < 10 ? t->count - i : 10;

		if (!whole && i > t->count / 2)
			break;
		assert_int_equal(record_write(&w, RECORD_EVENTS, &t->events[i], n * sizeof(t->events[0]), n), OK);
	}
	if (whole)
		assert_int_equal(record_write_json(&w, RECORD_TAIL, tail), OK);
	assert_int_equal(record_writer_close(&w), OK);
	cJSON_Delete(head);
	cJSON_Delete(tail);
	free(t);
}

static void write_record(const char *folder, const struct plan *p, int rank, bool whole)
{
	write_record_of(folder, p, rank, whole, NULL);
}

static void write_run(const char *folder, const struct plan *p, const char *status)
{
	char path[PATH_BYTES];
	cJSON *run = parse("{\"schema\":1,\"status\":\"%s\",\"reason\":null,\"version\":\"v0\",\"build\":\"-O2\",\"command\":\"run\","
			   "\"started\":\"2026-01-01T00:00:00Z\",\"options\":{\"policy\":\"%s\",\"workers\":%d,\"prefetch\":2,\"net\":\"nano\"},"
			   "\"place\":{\"ranks\":%d,\"nodes\":%d,\"hosts\":1,\"cores\":2,\"cpu\":\"a <cpu>\","
			   "\"text\":\"%d emulated node%s, one host, 2 cores\"},\"libraries\":{\"dnnl\":\"2.6\"},"
			   "\"step\":{\"clips_per_rank\":2,\"iterations_per_epoch\":%d,\"epochs\":%d,\"emulated\":false},"
			   "\"event_cost\":{\"pair_ns\":21.5,\"next_ns\":12.25},"
			   "\"results\":{\"epochs\":[{\"loss\":0.7,\"lr\":0.1,\"checksum\":\"c0ffee\"},{\"loss\":0.5,\"lr\":0.1,"
			   "\"checksum\":\"beef\",\"mAP\":%g}]},\"warnings\":[]}", status, p->policy, p->workers, p->ranks, p->nodes, p->nodes,
			   p->nodes > 1 ? "s" : "", p->iterations, p->epochs, plan_map(p));

	assert_int_equal(dir_make(folder), OK);
	assert_int_equal(path_make(path, "%s/" FOLDER_RUN, folder), OK);
	assert_int_equal(json_write(path, run), OK);
	cJSON_Delete(run);
	for (int r = 0; r < p->ranks; r++)
		write_record(folder, p, r, true);
}

static void say_to_ledger(const char *sweep, const char *line)
{
	char path[PATH_BYTES];
	FILE *f;

	assert_int_equal(path_make(path, "%s/" FOLDER_LEDGER, sweep), OK);
	f = fopen(path, "a");
	assert_non_null(f);
	fprintf(f, "%s\n", line);
	fclose(f);
}

static void key_of(const struct plan *p, char key[17])
{
	snprintf(key, 17, "%04x%04x%04x%04x", p->policy[0], p->workers, p->nodes, p->repeat);
}

static void ledger_line(const char *sweep, const struct plan *p, const char *status, const char *reason)
{
	char key[17], line[1024];

	key_of(p, key);
	snprintf(line, sizeof(line), "{\"schema\":1,\"key\":\"%s\",\"point\":{\"nodes\":%d,\"policy\":\"%s\",\"workers\":\"%d\"},"
		 "\"repeat\":%d,\"status\":\"%s\",\"reason\":%s%s%s,\"exit\":%d,\"wall_s\":1,\"folder\":\"runs/%s\","
		 "\"finished\":\"2026-01-01T00:00:00Z\"}", key, p->nodes, p->policy, p->workers, p->repeat, status,
		 reason ? "\"" : "", reason ? reason : "null", reason ? "\"" : "", reason ? 4 : 0, key);
	say_to_ledger(sweep, line);
}

static void run_folder(const char *sweep, const struct plan *p, char path[PATH_BYTES])
{
	char key[17];

	key_of(p, key);
	assert_int_equal(path_make(path, "%s/runs/%s", sweep, key), OK);
}

static void add_run(const char *sweep, const struct plan *p)
{
	char path[PATH_BYTES];

	run_folder(sweep, p, path);
	write_run(path, p, "ok");
	ledger_line(sweep, p, "ok", NULL);
}

static const cJSON *rows_of(const cJSON *summary, const char *table)
{
	const cJSON *tables = cJSON_GetObjectItem(summary, "tables");

	return cJSON_GetObjectItem(cJSON_GetObjectItem(tables, table), "rows");
}

/* The row with variant, nodes and (unless NULL) a further text. */
static const cJSON *row_of(const cJSON *summary, const char *table, const char *variant, int nodes, const char *field,
			   const char *word)
{
	const cJSON *row;

	cJSON_ArrayForEach(row, rows_of(summary, table))
		if (!strcmp(json_string(row, "variant", ""), variant) && json_number(row, "nodes", 0) == nodes &&
		    (!field || !strcmp(json_string(row, field, ""), word)))
			return row;
	fail_msg("no row %s on %d in %s", variant, nodes, table);
	return NULL;
}

static bool warned(const cJSON *summary, const char *word)
{
	const cJSON *row;

	cJSON_ArrayForEach(row, rows_of(summary, "warnings"))
		if (strstr(json_string(row, "warning", ""), word) || strstr(json_string(row, "about", ""), word))
			return true;
	return false;
}

/* Whether the head of the report says so. */
static bool headline(const cJSON *summary, const char *words)
{
	const cJSON *sentence;

	cJSON_ArrayForEach(sentence, cJSON_GetObjectItem(summary, "headlines"))
		if (strstr(sentence->valuestring, words))
			return true;
	return false;
}

/* A point without a run that counts: said as such, and no number of it. */
static void is_failed(const cJSON *row, int runs)
{
	static const char *const measured[] = { "iteration_ms", "clips_per_s", "clips_per_s_min", "clips_per_s_max", "speedup",
						"speedup_min", "speedup_max", "efficiency_percent" };

	near(row, "runs", 0);
	near(row, "failed", runs);
	assert_string_equal(json_string(row, "interval", ""), "failed");
	for (size_t i = 0; i < ARRAY_LEN(measured); i++)
		assert_true(cJSON_IsNull(cJSON_GetObjectItem(row, measured[i])));
}

static void big_sweep(const char *dir)
{
	static const char *const policies[] = { "respawn", "threads" };
	static const int workers[] = { 1, 2, 4 }, nodes[] = { 1, 2, 4 };

	for (size_t p = 0; p < ARRAY_LEN(policies); p++)
		for (size_t w = 0; w < ARRAY_LEN(workers); w++)
			for (size_t n = 0; n < ARRAY_LEN(nodes); n++)
				for (int repeat = 0; repeat < 3; repeat++) {
					struct plan plan = plan_of(policies[p], workers[w], nodes[n], repeat);

					add_run(dir, &plan);
				}
}

/* ---- the tests ------------------------------------------------------------------------- */

static void the_tables_give_the_plan_back(void **state)
{
	const char *dir = getenv("SFSCALE_KEEP") ? getenv("SFSCALE_KEEP") : *state;
	static const char *const variants[] = { "respawn, workers=1", "respawn, workers=2", "respawn, workers=4",
						"threads, workers=1", "threads, workers=2", "threads, workers=4" };
	static const int nodes[] = { 1, 2, 4 };
	const cJSON *row;
	cJSON *summary;

	big_sweep(dir);
	summary = report_of(dir);
	for (size_t v = 0; v < ARRAY_LEN(variants); v++)
		for (size_t n = 0; n < ARRAY_LEN(nodes); n++) {
			const char *policy = v < 3 ? "respawn" : "threads";
			struct plan p = plan_of(policy, 1 << v % 3, nodes[n], 1), base = plan_of(policy, 1 << v % 3, 1, 1);
			struct plan fast = plan_of(policy, 1 << v % 3, nodes[n], 0);
			double speedup = plan_rate(&p) / plan_rate(&base);

			row = row_of(summary, "speedup", variants[v], nodes[n], "scope", "whole run");
			near(row, "runs", 3);
			near(row, "base_nodes", 1);
			near(row, "clips_per_s", plan_rate(&p));
			near(row, "clips_per_s_max", plan_rate(&fast));
			near(row, "speedup", speedup);
			near(row, "efficiency_percent", 100 * speedup / nodes[n]);
			assert_true(cJSON_IsNull(cJSON_GetObjectItem(row, "clips_per_s_ci_low")));
			assert_string_equal(json_string(row, "interval", ""), "no CI, n=3");
			row = row_of(summary, "speedup", variants[v], nodes[n], "scope", "steady");
			near(row, "iteration_ms", 1e-6 * (double)plan_steady(&p));
			near(row, "speedup", nodes[n] * (double)plan_steady(&base) / (double)plan_steady(&p));

			row = row_of(summary, "boundary", variants[v], nodes[n], "kind", "boundary");
			near(row, "stretches", 6);
			near(row, "cost_ms", 1e-6 * (double)plan_boundary(&p));
			near(row, "workers_stop_ms", 1e-6 * (double)p.stop);
			near(row, "workers_start_ms", 1e-6 * (double)p.start);
			near(row, "sampler_ms", 1e-6 * (double)p.sampler);
			near(row, "eval_ms", 1e-6 * (double)p.eval);
			near(row, "first_batch_ms", 1e-6 * (double)p.first_load);
			near(row, "rest_ms", 1e-6 * (double)(p.gap - p.load - p.late));
			row = row_of(summary, "boundary", variants[v], nodes[n], "kind", "start-up");
			near(row, "stretches", 3);
			near(row, "cost_ms", 1e-6 * (double)(plan_boundary(&p) - p.stop - p.eval - p.log));
		}
	cJSON_ArrayForEach(row, rows_of(summary, "accuracy")) {
		struct plan p = plan_of("threads", 1, (int)json_number(row, "nodes", 0), 1);

		near(row, "ranks", p.ranks);
		near(row, "clips", 2 * p.ranks);
		near(row, "runs", 3);
		near(row, "mAP", plan_map(&p));
		near(row, "mAP_max", plan_map(&p) + 0.03125);
	}
	assert_int_equal(cJSON_GetArraySize(rows_of(summary, "accuracy")), 18);
	assert_string_equal(json_string(summary, "place", ""), "emulated nodes, one host, 2 cores");
	assert_int_equal(cJSON_GetArraySize(rows_of(summary, "runs")), 54);
	assert_int_equal(cJSON_GetArraySize(rows_of(summary, "warnings")), 0);
	cJSON_Delete(summary);
}

/* A run at a time: how many nodes and ranks they are stands in the rows. */
static void places_that_differ_in_numbers_alone_are_one(void **state)
{
	static const struct { const char *text, *place; } cases[] = {
		{ "2 emulated nodes, one host", "emulated nodes, one host" },
		{ "1 node, 2 cores", "nodes, 2 cores" },
		{ "1 node, 2 cores, emulated 16 ranks per process", "nodes, 2 cores, emulated ranks per process" },
		{ "1 node, emulated compute, 4 ranks per process, start of workers", "nodes, emulated compute, ranks per process, start of workers" },
		{ "ranks per process", "ranks per process" },
		{ "4 ranks per process", "ranks per process" },
		{ "", "" },
	};
	struct plan p = plan_of("threads", 1, 1, 1);
	char folder[PATH_BYTES], path[PATH_BYTES];

	assert_int_equal(path_make(folder, "%s/placed", (const char *)*state), OK);
	assert_int_equal(path_make(path, "%s/" FOLDER_RUN, folder), OK);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct runs all = { 0 };
		const char *dir = folder;
		cJSON *run;

		write_run(folder, &p, "ok");
		assert_int_equal(json_read(path, &run), OK);
		cJSON_ReplaceItemInObject(cJSON_GetObjectItem(run, "place"), "text", cJSON_CreateString(cases[i].text));
		assert_int_equal(json_write(path, run), OK);
		cJSON_Delete(run);
		assert_int_equal(runs_read(&all, &dir, 1), OK);
		assert_string_equal(all.at[0].place, cases[i].place);
		runs_release(&all);
	}
}

static void parts_are_those_of_the_plan_and_sum_to_the_iteration(void **state)
{
	static const char *const parts[] = { "fwd_ms", "bwd_ms", "opt_ms", "wait_ms", "wire_ms", "unsplit_ms", "copy_ms",
					     "loader_ms", "boundary_ms", "other_ms", "unattributed_ms" };
	struct plan p = plan_of("respawn", 2, 4, 0);
	const cJSON *row, *identity;
	cJSON *summary;

	add_run(*state, &p);
	summary = report_of(*state);
	row = row_of(summary, "breakdown", "respawn, workers=2", 4, "scope", "steady");
	near(row, "iterations", p.ranks * p.epochs * (p.iterations - 1));
	near(row, "fwd_ms", 1e-6 * (double)p.fwd);
	near(row, "bwd_ms", 1e-6 * (double)p.bwd);
	near(row, "opt_ms", 1e-6 * (double)p.opt);
	assert_true(fabs(json_number(row, "wait_ms", NAN) + json_number(row, "wire_ms", NAN) - 1e-6 * (double)p.exposed) < 1e-9);
	near(row, "unsplit_ms", 0);
	near(row, "comm_hidden_ms", 1e-6 * (double)p.hidden);
	near(row, "copy_ms", 1e-6 * (double)p.copy);
	near(row, "loader_ms", 1e-6 * ((double)p.load + (double)p.late / p.ranks));
	near(row, "other_ms", 1e-6 * (double)p.log);
	near(row, "boundary_ms", 0);
	near(row, "unattributed_ms", 0);

	row = row_of(summary, "breakdown", "respawn, workers=2", 4, "scope", "whole run");
	near(row, "boundary_ms", 1e-6 * (double)(p.epochs * (p.start + p.sampler + p.gap + p.first_load) +
						 (p.epochs - 1) * p.stop) / (p.epochs * p.iterations));
	cJSON_ArrayForEach(row, rows_of(summary, "breakdown")) {
		double sum = 0;

		for (size_t i = 0; i < ARRAY_LEN(parts); i++)
			sum += json_number(row, parts[i], NAN);
		near(row, "iteration_ms", sum);
	}
	identity = cJSON_GetObjectItem(summary, "identity");
	near(identity, "windows_checked", p.ranks * p.epochs * (p.iterations + 1));
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(identity, "parts_equal_wall")));
	near(cJSON_GetObjectItem(summary, "overhead"), "pair_ns", 21.5);
	cJSON_Delete(summary);
}

/* Steady iterations take 105 ms, 7 of them for the batch; the first of an epoch has its batch after 6. */
static void makers_and_what_they_deliver_are_accounted_for(void **state)
{
	struct plan p = plan_of("fork", 2, 1, 0);
	const cJSON *row;
	cJSON *summary;
	int i = 0;

	p.makers = true;
	add_run(*state, &p);
	summary = report_of(*state);
	row = row_of(summary, "loader", "fork, workers=2", 1, NULL, NULL);
	near(row, "iterations", 15);
	near(row, "stall_ms", 7);
	near(row, "stall_percent", 100 * 7 / 105.0);
	near(row, "head_of_line_ms", 2 * 5.5 / 5);
	near(row, "handing_ms", (3 * 7 + 2 * 0.5) / 5);
	near(row, "batch_ms", 6.5);
	near(row, "storage_ms", 1);
	near(row, "decode_ms", 2);
	near(row, "transform_ms", 3);
	near(row, "hand_over_ms", 0.5);
	near(row, "busy_percent", 100 * 4 * 6.5 / (2 * 5 * 105.0));	/* the first two batches of an epoch are made before */
	near(row, "on_core_percent", 100 * 5 / 6.5);
	near(row, "queue_mean", 0.6);
	near(row, "queue_room", 4);
	assert_string_equal(json_string(row, "bound", ""), "hand-over");
	cJSON_ArrayForEach(row, rows_of(summary, "epochs")) {
		double boundary = i ? 26.5 : 1.5, wall = boundary + 104 + 5 * 105;

		near(row, "epoch", i++);
		near(row, "iterations", 6);
		near(row, "boundary_ms", boundary);
		near(row, "first_batch_ms", boundary + 6);
		near(row, "stall_ms", 6 + 5 * 7);
		near(row, "stall_each_ms", 41 / 6.0);
		near(row, "wall_ms", wall);
		near(row, "lost_percent", 100 * (boundary + 41) / wall);
	}
	assert_int_equal(i, 3);
	i = 0;
	cJSON_ArrayForEach(row, rows_of(summary, "queue")) {
		near(row, "from", i);
		near(row, "to", i + 1);
		near(row, "epoch", i / 6);
		near(row, "depth_mean", i % 2);
		near(row, "depth_least", i % 2);
		near(row, "stall_ms", i % 6 ? 7 : 6);
		near(row, "head_of_line_ms", i % 2 ? 0 : i % 6 ? 5.5 : 4.5);
		i++;
	}
	assert_int_equal(i, 18);
	i = 0;
	cJSON_ArrayForEach(row, rows_of(summary, "workers")) {
		near(row, "epoch", i++);
		near(row, "makers", 2);
		near(row, "cpu_ms", 15);
		near(row, "cpu_most_ms", 15);
		near(row, "uss_mib", 10.25);
		near(row, "uss_most_mib", 10.25);
		near(row, "pss_mib", 11);
		near(row, "growth_kib", 128);
	}
	assert_int_equal(i, 3);
	cJSON_Delete(summary);
}

/* A point without workers is of the series, but not on the line. */
static void a_stall_that_grows_with_the_workers_is_said_once(void **state)
{
	const cJSON *sentence;
	int said = 0;
	cJSON *summary;

	for (int workers = 0; workers <= 8; workers += 2) {
		struct plan p = plan_of("respawn", workers, 1, 0);

		add_run(*state, &p);
	}
	summary = report_of(*state);
	cJSON_ArrayForEach(sentence, cJSON_GetObjectItem(summary, "headlines"))
		said += strstr(sentence->valuestring, "respawn on 1 node: the stall at an epoch boundary grows by 70.0 ms with each loader worker (a straight line through 4 numbers") != NULL;
	assert_int_equal(said, 1);
	assert_true(headline(summary, "most of it starting workers, 60.0 ms for each: they are started one after another"));
	cJSON_Delete(summary);
}

/* Batches that come in bursts: each third iteration waits, which a median never sees. */
static void ten_iterations_are_ten_mean_ones(void **state)
{
	struct plan p = plan_of("threads", 1, 1, 0);
	cJSON *summary;

	p.every = 3;
	p.late = 60 * MS;
	add_run(*state, &p);
	summary = report_of(*state);
	near(row_of(summary, "boundary", "threads, workers=1", 1, "kind", "boundary"), "ten_iterations_ms", 10 * (102 + 60 / 5.0));
	cJSON_Delete(summary);
}

static void six_runs_have_an_interval(void **state)
{
	cJSON *summary;
	const cJSON *row;

	for (int repeat = 0; repeat < 6; repeat++) {
		struct plan p = plan_of("threads", 1, 1, repeat);

		add_run(*state, &p);
	}
	summary = report_of(*state);
	row = row_of(summary, "speedup", "threads, workers=1", 1, NULL, NULL);
	near(row, "clips_per_s_ci_low", json_number(row, "clips_per_s_min", NAN));
	near(row, "clips_per_s_ci_high", json_number(row, "clips_per_s_max", NAN));
	cJSON_Delete(summary);
}

static bool said(const cJSON *summary, const char *words)
{
	const cJSON *sentence;

	cJSON_ArrayForEach(sentence, cJSON_GetObjectItem(summary, "headlines"))
		if (strstr(sentence->valuestring, words))
			return true;
	return false;
}

static void a_loss_is_the_sum_of_its_parts_and_named(void **state)
{
	static const int nodes[] = { 2, 4 };
	double sum = 0, comm = 0, total = NAN;
	const cJSON *row;
	cJSON *summary;
	struct plan p[2];

	for (size_t i = 0; i < ARRAY_LEN(nodes); i++)
		for (int repeat = 0; repeat < 2; repeat++) {
			p[i] = plan_of("threads", 1, nodes[i], repeat);
			add_run(*state, &p[i]);
		}
	summary = report_of(*state);
	cJSON_ArrayForEach(row, rows_of(summary, "loss")) {
		near(row, "nodes_from", 2);
		near(row, "nodes_to", 4);
		if (!strcmp(json_string(row, "part", ""), "total"))
			total = json_number(row, "loss_ms", NAN);
		else
			sum += json_number(row, "loss_ms", NAN);
		if (!strcmp(json_string(row, "part", ""), "wait") || !strcmp(json_string(row, "part", ""), "wire"))
			comm += json_number(row, "loss_ms", NAN);
		if (!strcmp(json_string(row, "part", ""), "backward"))
			near(row, "loss_min_ms", -1);
	}
	assert_true(fabs(sum - total) < 1e-9 * total);
	assert_true(fabs(comm - 1e-6 * (double)(p[1].exposed - p[0].exposed)) < 1e-9 * total);
	row = row_of(summary, "pop", "threads, workers=1", 4, NULL, NULL);
	near(row, "load_balance", 1);
	assert_true(json_number(row, "transfer", NAN) < 1);
	assert_true(said(summary, "threads, workers=1: from 2 to 4 nodes an iteration takes"));
	assert_false(said(summary, "shared resource"));
	cJSON_Delete(summary);
}

/* Every step of the waterfall begins where the one before it ends, and the last one at the bar of what is. */
static void a_waterfall_arrives(void **state)
{
	char path[PATH_BYTES], *script;
	double at = NAN, panels = 0;
	cJSON *summary;

	for (int nodes = 1; nodes <= 4; nodes *= 2) {
		struct plan p = plan_of("respawn", 2, nodes, 0);

		p.fwd += nodes * MS;
		p.load += nodes * 5 * MS;
		p.opt = 5 * MS + nodes * MS / 2;
		add_run(*state, &p);
	}
	summary = report_of(*state);
	assert_int_equal(path_make(path, "%s/report/loss.gp", (char *)*state), OK);
	assert_int_equal(file_read(path, &script, NULL), OK);
	for (const char *line = script; (line = strstr(line, "set object rectangle from ")); line++) {
		double x0, y0, x1, y1;

		assert_int_equal(sscanf(line, "set object rectangle from %lf,%lf to %lf,%lf", &x0, &y0, &x1, &y1), 4);
		if (!(y0 == 0)) {
			assert_true(fabs(y0 - at) < 1e-6);
			at = y1;
		} else if (isnan(at)) {		/* what should be */
			at = y1;
		} else {			/* what is */
			assert_true(fabs(y1 - at) < 0.002 * y1);
			at = NAN;
			panels++;
		}
	}
	assert_true(panels == 2);
	free(script);
	cJSON_Delete(summary);
}

static void a_cause_that_grows_with_scale_is_named_with_its_numbers(void **state)
{
	struct plan two = plan_of("threads", 1, 2, 0), four = plan_of("threads", 1, 4, 0);
	const cJSON *row;
	cJSON *summary;
	char ratio[64];

	four.exposed = 300 * MS;
	add_run(*state, &two);
	add_run(*state, &four);
	summary = report_of(*state);
	cJSON_ArrayForEach(row, rows_of(summary, "scaling")) {
		assert_string_equal(json_string(row, "verdict", ""), "beyond");
		near(row, "excess_ms", json_number(row, "to_ms", NAN) - 2 * json_number(row, "from_ms", NAN));
		if (strcmp(json_string(row, "scope", ""), "steady"))
			continue;
		near(row, "from_ms", 1e-6 * ((double)plan_row(&two) + (double)two.late / 2));
		near(row, "to_ms", 1e-6 * ((double)plan_row(&four) + (double)four.late / 4));
		snprintf(ratio, sizeof(ratio), "%.2f times", json_number(row, "ratio", NAN));
		assert_true(said(summary, ratio));
	}
	assert_int_equal(cJSON_GetArraySize(rows_of(summary, "scaling")), 2);
	assert_true(said(summary, "the cause grows with scale (a shared resource), and no jitter of independent ranks explains"));
	cJSON_Delete(summary);
}

static void a_run_of_many_iterations_has_an_interval_of_its_own(void **state)
{
	struct plan p = plan_of("threads", 4, 1, 0), few = plan_of("threads", 4, 1, 1);
	const cJSON *row, *rows;
	cJSON *summary;

	p.iterations = 60;
	add_run(*state, &p);
	add_run(*state, &few);
	summary = report_of(*state);
	rows = rows_of(summary, "runs");
	row = cJSON_GetArrayItem(rows, 0);
	near(row, "block", 20);		/* 1.5 sqrt(177) */
	near(row, "steady_ms", 1e-6 * (double)plan_steady(&p));
	near(row, "steady_ci_low_ms", 1e-6 * (double)plan_steady(&p));	/* they are all alike */
	near(row, "steady_ci_high_ms", 1e-6 * (double)plan_steady(&p));
	row = cJSON_GetArrayItem(rows, 1);
	near(row, "steady_ms", 1e-6 * (double)plan_steady(&few));
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(row, "steady_ci_low_ms")));
	cJSON_Delete(summary);
}

static void ranks_and_nodes_are_told_apart(void **state)
{
	static const int nodes[] = { 1, 2, 3 };
	cJSON *summary;

	for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
		struct plan p = plan_of("threads", 1, nodes[i], 0);

		p.ranks = 2 * nodes[i];
		add_run(*state, &p);
	}
	summary = report_of(*state);
	for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
		struct plan p = plan_of("threads", 1, nodes[i], 0);
		const cJSON *row = row_of(summary, "speedup", "threads, workers=1", nodes[i], NULL, NULL);

		p.ranks = 2 * nodes[i];
		near(row, "ranks", p.ranks);
		near(row, "clips_per_s", plan_rate(&p));
		row = row_of(summary, "breakdown", "threads, workers=1", nodes[i], "scope", "steady");
		near(row, "iterations", p.ranks * p.epochs * (p.iterations - 1));
	}
	assert_int_equal(cJSON_GetArraySize(rows_of(summary, "warnings")), 0);
	cJSON_Delete(summary);
}

static void runs_of_one_point_with_unequal_worlds_are_warned_of(void **state)
{
	struct plan p = plan_of("threads", 1, 2, 0), q = plan_of("threads", 1, 2, 1);
	cJSON *summary;

	q.ranks = 4;
	add_run(*state, &p);
	add_run(*state, &q);
	summary = report_of(*state);
	assert_true(warned(summary, "4 ranks"));
	cJSON_Delete(summary);
}

static bool has_word(const char *text, const char *word)
{
	for (const char *at = text; (at = strstr(at, word)); at++)
		if ((at == text || !isalpha((unsigned char)at[-1])) && !isalpha((unsigned char)at[strlen(word)]))
			return true;
	return false;
}

/* Epochs of one iteration: every iteration is a first one. */
static void a_run_without_steady_iterations_is_warned_of_and_makes_no_nan(void **state)
{
	struct plan p = plan_of("respawn", 2, 2, 0);
	char path[PATH_BYTES], *text;
	const cJSON *row;
	cJSON *summary;

	p.iterations = 1;
	add_run(*state, &p);
	summary = report_of(*state);
	assert_true(warned(summary, "no steady iteration"));
	row = row_of(summary, "speedup", "respawn, workers=2", 2, "scope", "steady");
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(row, "clips_per_s")));
	near(row_of(summary, "speedup", "respawn, workers=2", 2, "scope", "whole run"), "clips_per_s", plan_rate(&p));
	assert_int_equal(cJSON_GetArraySize(rows_of(summary, "breakdown")), 1);
	assert_int_equal(cJSON_GetArraySize(rows_of(summary, "boundary")), 0);
	cJSON_Delete(summary);
	for (int i = 0; i < 3; i++) {
		static const char *const files[] = { "report.txt", "index.html", "summary.json" };

		assert_int_equal(path_make(path, "%s/report/%s", (char *)*state, files[i]), OK);
		assert_int_equal(file_read(path, &text, NULL), OK);
		assert_false(has_word(text, "nan"));
		assert_false(has_word(text, "inf"));
		free(text);
	}
}

static void the_newest_line_of_a_key_counts_and_a_failed_point_is_listed(void **state)
{
	struct plan good = plan_of("threads", 1, 1, 0), killed = plan_of("threads", 1, 2, 0);
	cJSON *summary;
	const cJSON *row;

	ledger_line(*state, &good, "failed", "first try");
	add_run(*state, &good);
	add_run(*state, &killed);
	ledger_line(*state, &killed, "failed", "rank 1 was killed by signal 9");
	summary = report_of(*state);
	assert_int_equal(cJSON_GetArraySize(rows_of(summary, "runs")), 2);
	is_failed(row_of(summary, "speedup", "threads, workers=1", 2, "scope", "whole run"), 1);
	is_failed(row_of(summary, "speedup", "threads, workers=1", 2, "scope", "steady"), 1);
	cJSON_ArrayForEach(row, rows_of(summary, "breakdown"))
		near(row, "nodes", 1);
	cJSON_ArrayForEach(row, rows_of(summary, "boundary"))
		near(row, "nodes", 1);
	row = row_of(summary, "runs", "threads, workers=1", 1, NULL, NULL);
	assert_string_equal(json_string(row, "status", ""), "ok");
	row = row_of(summary, "runs", "threads, workers=1", 2, NULL, NULL);
	assert_string_equal(json_string(row, "status", ""), "failed");
	assert_string_equal(json_string(row, "reason", ""), "rank 1 was killed by signal 9");
	assert_true(warned(summary, "in no median: rank 1 was killed"));
	cJSON_Delete(summary);
}

static void a_bad_ledger_line_is_named_with_file_and_line(void **state)
{
	struct plan p = plan_of("threads", 1, 1, 0);
	cJSON *summary;

	add_run(*state, &p);
	say_to_ledger(*state, "{\"schema\":1,\"key\":\"00");
	summary = report_of(*state);
	assert_true(warned(summary, FOLDER_LEDGER ":2: not JSON"));
	near(row_of(summary, "speedup", "threads, workers=1", 1, NULL, NULL), "runs", 1);
	cJSON_Delete(summary);
}

/* What was done to the third repeat, and what its status must be then. */
static void damage_cut(const char *run, const struct plan *p) { write_record(run, p, 1, false); }

static void damage_kill(const char *run, const struct plan *p)
{
	write_run(run, p, "running");
	write_record(run, p, 0, false);
	write_record(run, p, 1, false);
}

static void damage_missing(const char *run, const struct plan *p)
{
	char path[PATH_BYTES];

	(void)p;
	assert_int_equal(path_make(path, "%s/" FOLDER_RECORD, run, (size_t)1), OK);
	assert_int_equal(unlink(path), 0);
}

static void damage_foreign(const char *run, const struct plan *p)
{
	struct plan other = *p;

	other.ranks = 3;
	write_record(run, &other, 1, true);
}

static void damage_flip(const char *run, const struct plan *p)
{
	char path[PATH_BYTES], *bytes;
	size_t count;

	(void)p;
	assert_int_equal(path_make(path, "%s/" FOLDER_RECORD, run, (size_t)1), OK);
	assert_int_equal(file_read(path, &bytes, &count), OK);
	bytes[count / 2] ^= 1;
	assert_int_equal(file_write(path, bytes, count), OK);
	free(bytes);
}

static void damage_rubbish(const char *run, const struct plan *p)
{
	char path[PATH_BYTES];

	(void)p;
	assert_int_equal(path_make(path, "%s/" FOLDER_RECORD, run, (size_t)1), OK);
	assert_int_equal(file_write(path, "rubbish", 7), OK);
}

/* Of a run with as many ranks and iterations. */
static void damage_other_run(const char *run, const struct plan *p)
{
	char path[PATH_BYTES];
	cJSON *json;

	assert_int_equal(path_make(path, "%s/" FOLDER_RUN, run), OK);
	assert_int_equal(json_read(path, &json), OK);
	cJSON_AddStringToObject(json, "id", "1b");
	assert_int_equal(json_write(path, json), OK);
	cJSON_Delete(json);
	for (int rank = 0; rank < p->ranks; rank++)
		write_record_of(run, p, rank, true, rank ? "1b" : "2c");
}

static void damage_version(const char *run, const struct plan *p)
{
	char path[PATH_BYTES], *bytes;
	size_t count;

	(void)p;
	assert_int_equal(path_make(path, "%s/" FOLDER_RECORD, run, (size_t)1), OK);
	assert_int_equal(file_read(path, &bytes, &count), OK);
	bytes[8]++;
	assert_int_equal(file_write(path, bytes, count), OK);
	free(bytes);
}

static void damage_steps(const char *run, const struct plan *p)
{
	struct plan longer = *p;

	longer.epochs++;
	write_record(run, &longer, 1, true);
}

static void a_run_with_a_bad_record_is_named_and_in_no_median(void **state)
{
	static const struct {
		void (*damage)(const char *, const struct plan *);
		const char *status, *reason;
		bool shorter;
	} cases[] = {
		{ damage_cut, "cut off", "rank-00001.sfr: ends without its last block", true },
		{ damage_kill, "cut off", "its process is gone", true },
		{ damage_missing, "damaged", "rank-00001.sfr", false },
		{ damage_foreign, "damaged", "is rank 1 of 3, not 1 of 2", false },
		{ damage_other_run, "damaged", "rank-00000.sfr: a record of another run, '2c', not of '1b'", false },
		{ damage_flip, "cut off", "bytes behind the last whole one", true },
		{ damage_rubbish, "damaged", "rank-00001.sfr' is no sfscale record", false },
		{ damage_version, "damaged", "rank-00001.sfr': byte 8: version 2, this program reads 1", false },
		{ damage_steps, "damaged", "rank-00001.sfr: has", false },
	};

	for (int repeat = 0; repeat < 3; repeat++) {
		struct plan p = plan_of("threads", 1, 2, repeat);

		add_run(*state, &p);
	}
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct plan p = plan_of("threads", 1, 2, 2), first = plan_of("threads", 1, 2, 0), second = plan_of("threads", 1, 2, 1);
		char run[PATH_BYTES];
		const cJSON *row, *named = NULL;
		cJSON *summary;

		run_folder(*state, &p, run);
		write_run(run, &p, "ok");
		cases[i].damage(run, &p);
		summary = report_of(*state);
		cJSON_ArrayForEach(row, rows_of(summary, "runs"))
			if (json_number(row, "repeat", 0) == 2)
				named = row;
		assert_string_equal(json_string(named, "status", ""), cases[i].status);
		assert_true(json_number(named, "iterations", 0) > 3);
		assert_int_equal(json_number(named, "iterations", 0) < p.epochs * p.iterations, cases[i].shorter);
		if (!strstr(json_string(named, "reason", ""), cases[i].reason))
			fail_msg("'%s' does not say '%s'", json_string(named, "reason", ""), cases[i].reason);
		assert_true(warned(summary, "in no median"));
		assert_true(headline(summary, "1 of 3 runs did not end well and are in no median"));
		row = row_of(summary, "speedup", "threads, workers=1", 2, NULL, NULL);
		near(row, "runs", 2);
		near(row, "clips_per_s", 0.5 * (plan_rate(&first) + plan_rate(&second)));
		cJSON_Delete(summary);
	}
}

static void a_run_folder_alone_and_one_that_the_ledger_forgot_are_read(void **state)
{
	struct plan p = plan_of("fork", 3, 1, 0);
	char run[PATH_BYTES];
	cJSON *summary;
	const cJSON *row;

	run_folder(*state, &p, run);
	write_run(run, &p, "ok");
	summary = report_of(run);
	row = row_of(summary, "boundary", "fork", 1, "kind", "boundary");
	near(row, "workers", 3);
	cJSON_Delete(summary);

	p.nodes = p.ranks = 2;
	add_run(*state, &p);	/* now a sweep, whose ledger knows this run only */
	summary = report_of(*state);
	row = row_of(summary, "runs", "fork", 1, NULL, NULL);
	assert_string_equal(json_string(row, "status", ""), "cut off");
	is_failed(row_of(summary, "speedup", "fork", 1, NULL, NULL), 1);
	near(row_of(summary, "speedup", "fork, workers=3", 2, NULL, NULL), "base_nodes", 2);
	cJSON_Delete(summary);
}

/* The next cell of a CSV line. */
static const char *csv_cell(const char *at, char out[512])
{
	size_t n = 0;
	bool inside = *at == '"';

	for (at += inside; *at && (inside || (*at != ',' && *at != '\n')); at++) {
		if (*at == '"' && at[1] == '"')
			at++;
		else if (*at == '"' && inside) {
			at++;
			break;
		}
		out[n++] = *at;
	}
	out[n] = '\0';
	return at + (*at == ',' || *at == '\n');
}

/* The next cell of a line of a text table: two blanks or more stand between cells. */
static const char *text_cell(const char *at, char out[512])
{
	size_t n = 0;

	at += strspn(at, " ");
	while (at[n] != '\n' && strncmp(at + n, "  ", 2))
		n++;
	snprintf(out, 512, "%.*s", (int)n, at);
	return at + n;
}

/* Every cell under its name, to the digits that text shows. */
static void text_table_holds(const char *text, const cJSON *table)
{
	const char *head = strstr(text, json_string(table, "title", "")), *line, *name_at, *at;
	char name[512], cell[512];
	const cJSON *row;

	assert_non_null(head);
	head = line = strchr(head, '\n') + 1;
	cJSON_ArrayForEach(row, cJSON_GetObjectItem(table, "rows")) {
		line = strchr(line, '\n') + 1;
		for (name_at = head, at = line; *name_at != '\n';) {
			const cJSON *v;

			name_at = text_cell(name_at, name);
			at = text_cell(at, cell);
			v = cJSON_GetObjectItem(row, name);
			assert_non_null(v);
			if (cJSON_IsNumber(v)) {
				const char *point = strchr(cell, '.');
				double digits = point ? (double)strlen(point + 1) : 0;

				assert_true(fabs(strtod(cell, NULL) - v->valuedouble) <= 0.5000001 * pow(10, -digits));
			} else {
				assert_string_equal(cell, cJSON_IsString(v) ? v->valuestring : "-");
			}
		}
	}
}

static void csv_json_and_text_hold_the_same_numbers(void **state)
{
	struct plan p = plan_of("respawn", 2, 1, 0), q = plan_of("respawn", 2, 2, 0);
	char path[PATH_BYTES], cell[512], number[64], *csv, *text, *page;
	const cJSON *table, *row, *v, *field;
	cJSON *summary;

	add_run(*state, &p);
	add_run(*state, &q);
	ledger_line(*state, &q, "failed", "a <b> & \\\"c\\\", d");
	add_run(*state, &q);
	q.repeat = 1;
	ledger_line(*state, &q, "failed", "a <b> & \\\"c\\\", d");
	summary = report_of(*state);
	assert_int_equal(path_make(path, "%s/report/report.txt", (char *)*state), OK);
	assert_int_equal(file_read(path, &text, NULL), OK);
	assert_int_equal(path_make(path, "%s/report/index.html", (char *)*state), OK);
	assert_int_equal(file_read(path, &page, NULL), OK);
	cJSON_ArrayForEach(table, cJSON_GetObjectItem(summary, "tables")) {
		const char *at;

		assert_int_equal(path_make(path, "%s/report/%s.csv", (char *)*state, table->string), OK);
		assert_int_equal(file_read(path, &csv, NULL), OK);
		at = csv;
		cJSON_ArrayForEach(field, cJSON_GetObjectItem(table, "fields")) {
			at = csv_cell(at, cell);
			assert_string_equal(cell, json_string(field, "name", ""));
			assert_true(strlen(json_string(field, "meaning", "")) > 5);
		}
		cJSON_ArrayForEach(row, cJSON_GetObjectItem(table, "rows"))
			cJSON_ArrayForEach(v, row) {
				at = csv_cell(at, cell);
				if (cJSON_IsNumber(v))
					assert_true(fabs(strtod(cell, NULL) - v->valuedouble) <= 1e-14 * fabs(v->valuedouble));
				else
					assert_string_equal(cell, cJSON_IsString(v) ? v->valuestring : "");
			}
		assert_true(!*at);
		text_table_holds(text, table);
		free(csv);
	}
	snprintf(number, sizeof(number), "%.2f", json_number(row_of(summary, "boundary", "respawn, workers=2", 2, "kind",
								    "boundary"), "cost_ms", NAN));
	assert_non_null(strstr(text, number));
	assert_non_null(strstr(page, number));
	assert_non_null(strstr(page, "a &lt;b&gt; &amp; &quot;c&quot;, d"));
	assert_non_null(strstr(page, "emulated nodes, one host, 2 cores"));
	assert_null(strstr(page, "http"));	/* nothing from outside */
	free(text);
	free(page);
	cJSON_Delete(summary);
}

static void without_gnuplot_the_tables_are_still_there(void **state)
{
	struct plan p = plan_of("threads", 1, 1, 0), q = plan_of("threads", 1, 2, 0);
	char *former = strdup(getenv("PATH")), path[PATH_BYTES];
	cJSON *summary;

	add_run(*state, &p);
	add_run(*state, &q);
	cJSON_Delete(report_of(*state));
	assert_int_equal(path_make(path, "%s/report/speedup.svg", (char *)*state), OK);
	if (access(path, R_OK)) {
		print_message("SKIP: gnuplot draws nothing here\n");
		free(former);
		skip();
	}
	setenv("PATH", "/nonexistent", 1);
	summary = report_of(*state);
	setenv("PATH", former, 1);
	free(former);
	assert_true(warned(summary, "gnuplot"));
	assert_int_equal(cJSON_GetArraySize(rows_of(summary, "speedup")), 4);
	assert_int_not_equal(access(path, R_OK), 0);	/* that of the former report is gone */
	cJSON_Delete(summary);
}

/* The recorder itself instead of a tape: both agree on what a window is. */
static void what_the_recorder_writes_is_read(void **state)
{
	static const char *const lane_names[] = { "train", "comm" };
	static const enum span_id rows[] = { SPAN_H2D, SPAN_FWD, SPAN_LOSS, SPAN_BWD, SPAN_DRAIN, SPAN_OPT, SPAN_LOG };
	struct plan p = plan_of("threads", 1, 1, 0);
	cJSON *head = parse("{\"rank\":0,\"world\":1,\"node\":0,\"local_rank\":0,\"host\":\"h\",\"boot_id\":\"b\",\"pid\":1}");
	cJSON *tail = parse("{\"status\":\"ok\"}"), *summary;
	struct recorder *recorder;
	const cJSON *row;
	char path[PATH_BYTES];
	struct lane *lane;

	clock_init();
	write_run(*state, &p, "ok");
	assert_int_equal(path_make(path, "%s/" FOLDER_RECORD, (char *)*state, (size_t)0), OK);
	assert_int_equal(recorder_open(&recorder, path, head, lane_names, 2, 1024), OK);
	lane = recorder_lane(recorder, 0);
	lane->iter = 0;
	for (int e = 0; e < p.epochs; e++) {
		span_begin(lane, SPAN_EPOCH_BEGIN, (uint64_t)e);
		span_begin(lane, SPAN_SAMPLER, 0);
		span_end(lane);
		for (int i = 0; i < p.iterations; i++, lane->iter++) {
			if (i)
				span_begin(lane, SPAN_LOAD, (uint64_t)i);
			else
				span_next(lane, SPAN_LOAD, 0);
			for (size_t r = 0; r < ARRAY_LEN(rows); r++)
				span_next(lane, rows[r], 0);
			assert_int_equal(recorder_flush(recorder), OK);
			span_end(lane);
		}
	}
	span_begin(lane, SPAN_RUN_END, 0);
	span_end(lane);
	assert_int_equal(recorder_close(recorder, tail), OK);
	summary = report_of(*state);
	row = row_of(summary, "runs", "threads", 1, NULL, NULL);
	assert_string_equal(json_string(row, "status", ""), "ok");
	near(row, "iterations", p.epochs * p.iterations);
	row = cJSON_GetObjectItem(summary, "identity");
	near(row, "windows_checked", p.epochs * (p.iterations + 1));
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(row, "parts_equal_wall")));
	near(row_of(summary, "boundary", "threads", 1, "kind", "boundary"), "stretches", p.epochs - 1);
	cJSON_Delete(summary);
	cJSON_Delete(head);
	cJSON_Delete(tail);
}

static void nothing_readable_is_a_failure_and_writes_nothing(void **state)
{
	const char *dir = *state;
	char out[PATH_BYTES], path[PATH_BYTES];

	assert_int_equal(path_make(out, "%s/report", dir), OK);
	assert_int_equal(report_make(&dir, 1, out, NULL), FAILED);
	say_to_ledger(dir, "rubbish");
	assert_int_equal(report_make(&dir, 1, out, NULL), FAILED);
	assert_int_equal(path_make(path, "%s/" FOLDER_LEDGER, dir), OK);
	unlink(path);
	assert_int_equal(path_make(path, "%s/" FOLDER_RUN, dir), OK);
	assert_int_equal(file_write(path, "{", 1), OK);
	assert_int_equal(report_make(&dir, 1, out, NULL), FAILED);
	assert_false(dir_exists(out));
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		IN_FOLDER(the_tables_give_the_plan_back),
		IN_FOLDER(places_that_differ_in_numbers_alone_are_one),
		IN_FOLDER(parts_are_those_of_the_plan_and_sum_to_the_iteration),
		IN_FOLDER(makers_and_what_they_deliver_are_accounted_for),
		IN_FOLDER(a_stall_that_grows_with_the_workers_is_said_once),
		IN_FOLDER(ten_iterations_are_ten_mean_ones),
		IN_FOLDER(six_runs_have_an_interval),
		IN_FOLDER(a_loss_is_the_sum_of_its_parts_and_named),
		IN_FOLDER(a_waterfall_arrives),
		IN_FOLDER(a_cause_that_grows_with_scale_is_named_with_its_numbers),
		IN_FOLDER(a_run_of_many_iterations_has_an_interval_of_its_own),
		IN_FOLDER(ranks_and_nodes_are_told_apart),
		IN_FOLDER(runs_of_one_point_with_unequal_worlds_are_warned_of),
		IN_FOLDER(a_run_without_steady_iterations_is_warned_of_and_makes_no_nan),
		IN_FOLDER(the_newest_line_of_a_key_counts_and_a_failed_point_is_listed),
		IN_FOLDER(a_bad_ledger_line_is_named_with_file_and_line),
		IN_FOLDER(a_run_with_a_bad_record_is_named_and_in_no_median),
		IN_FOLDER(a_run_folder_alone_and_one_that_the_ledger_forgot_are_read),
		IN_FOLDER(csv_json_and_text_hold_the_same_numbers),
		IN_FOLDER(without_gnuplot_the_tables_are_still_there),
		IN_FOLDER(what_the_recorder_writes_is_read),
		IN_FOLDER(nothing_readable_is_a_failure_and_writes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
