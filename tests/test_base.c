/*
 * tests/test_base.c - options, tables, statistics, lanes and the record file.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/opt.h"
#include "bench/base/record.h"
#include "bench/base/rng.h"
#include "bench/base/stats.h"
#include "bench/base/table.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void a_size_is_a_number_with_a_suffix(void **state)
{
	static const struct { const char *text; int rc; uint64_t bytes; } cases[] = {
		{ "25M", OK, 25u << 20 },
		{ "64k", OK, 64u << 10 },
		{ "1.5G", OK, 3ull << 29 },
		{ "17", OK, 17 },
		{ "", USAGE, 0 },
		{ "-1", USAGE, 0 },
		{ "25MB", USAGE, 0 },
		{ "M", USAGE, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t got = 0;

		assert_int_equal(opt_bytes(cases[i].text, &got), cases[i].rc);
		assert_int_equal(got, cases[i].bytes);
	}
}

struct values {
	uint64_t batch;
	double lr;
	bool overlap;
	const char *net;
	struct opt_names logs;
};

static const struct opt rows[] = {
	{ "batch", OPT_U64, offsetof(struct values, batch), "8", "clips", NULL },
	{ "lr", OPT_F64, offsetof(struct values, lr), "0.05", "learning rate", NULL },
	{ "overlap", OPT_BOOL, offsetof(struct values, overlap), "on", "reduce early", NULL },
	{ "net", OPT_NAME, offsetof(struct values, net), "nano", "preset", "nano|tiny" },
	{ "log", OPT_NAMES, offsetof(struct values, logs), NULL, "files", NULL },
};
static const struct command cmd = { "try", "FILE", "a command of this test", rows, ARRAY_LEN(rows), NULL,
				    sizeof(struct values) };

static void options_come_from_rows(void **state)
{
	char *argv[] = { "--batch=4", "--overlap", "off", "--log", "a", "b", "--net", "tiny", "operand", "--log=c" };
	const char *operands[ARRAY_LEN(argv)];
	struct values v;
	size_t n;

	(void)state;
	assert_int_equal(opt_parse(&cmd, &v, ARRAY_LEN(argv), argv, operands, &n), OK);
	assert_int_equal(v.batch, 4);
	assert_true(v.lr == 0.05);
	assert_false(v.overlap);
	assert_string_equal(v.net, "tiny");
	assert_int_equal(v.logs.count, 3);
	assert_string_equal(v.logs.at[2], "c");
	assert_int_equal(n, 1);
	assert_string_equal(operands[0], "operand");
}

static void a_wrong_option_is_a_usage_error(void **state)
{
	static char *const cases[][2] = {
		{ "--batch", "-3" }, { "--batch", "4x" }, { "--net", "huge" }, { "--net", "na" }, { "--bogus", "1" },
		{ "--lr", "fast" }, { "--overlap=maybe", "x" }, { "--lr", "nan" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *argv[] = { cases[i][0], cases[i][1] };
		const char *operands[2];
		struct values v;
		size_t n;

		assert_int_equal(opt_parse(&cmd, &v, 2, argv, operands, &n), USAGE);
	}
}

static void an_interval_of_the_median_needs_six_runs(void **state)
{
	/* Runs and the lower rank of the exact 95 % interval, from tables of the binomial. */
	static const size_t cases[][2] = { { 5, 0 }, { 6, 1 }, { 8, 1 }, { 9, 2 }, { 12, 3 }, { 15, 4 }, { 30, 10 } };
	double six[] = { 3, 1, 2, 6, 5, 4 };
	struct summary s = summarize(six, 6);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(median_ci_rank(cases[i][0]), cases[i][1]);
	assert_true(s.has_ci && s.ci_low == 1 && s.ci_high == 6 && s.median == 3.5);
	assert_false(summarize(six, 5).has_ci);
	assert_true(isnan(summarize(six, 0).median));
}

static void the_three_prints_of_a_table_agree(void **state)
{
	static const struct field fields[] = { { "name", "", "who", 0 }, { "t_ms", "ms", "how long", 1 } };
	char *text = NULL, *csv = NULL;
	size_t bytes;
	struct table t;
	FILE *f;
	cJSON *json;

	(void)state;
	table_init(&t, "t", NULL, fields, 2);
	table_text(&t, "a,\"b\"");
	table_real(&t, 1.25);
	table_text(&t, "c");
	table_real(&t, NAN);
	f = open_memstream(&text, &bytes);
	table_print_text(&t, f);
	fclose(f);
	assert_string_equal(text, "name   t_ms\na,\"b\"   1.2\nc         -\n");
	f = open_memstream(&csv, &bytes);
	table_print_csv(&t, f);
	fclose(f);
	assert_string_equal(csv, "name,t_ms\n\"a,\"\"b\"\"\",1.25\nc,\n");
	json = table_json(&t);
	assert_true(json_number(cJSON_GetArrayItem(json, 0), "t_ms", 0) == 1.25);
	cJSON_Delete(json);
	free(text);
	free(csv);
	table_release(&t);
}

static void random_streams_are_fixed_and_apart(void **state)
{
	struct rng a, b;
	double sum = 0, squares = 0;

	(void)state;
	rng_init(&a, 42, 54);		/* the published first outputs of PCG32 for this seed and stream */
	assert_int_equal(rng_u32(&a), 0xa15c02b7u);
	assert_int_equal(rng_u32(&a), 0x7b47f409u);
	rng_init(&a, 1, 0);
	rng_init(&b, 1, 1);
	assert_int_not_equal(rng_u32(&a), rng_u32(&b));
	for (int i = 0; i < 100000; i++) {
		double x = rng_normal(&a);

		sum += x;
		squares += x * x;
	}
	assert_true(fabs(sum / 1e5) < 0.02 && fabs(squares / 1e5 - 1) < 0.02);
}

/* A record with spans on two lanes; returns its path. */
static const char *make_record(uint64_t *begin_ns, uint64_t *end_ns)
{
	static const char *const lanes[] = { "main", "comm" };
	static char path[] = "/tmp/sfscale-test-XXXXXX";
	cJSON *head = cJSON_CreateObject(), *tail = cJSON_CreateObject();
	struct recorder *r = NULL;
	struct lane *l;

	strcpy(path, "/tmp/sfscale-test-XXXXXX");
	close(mkstemp(path));
	cJSON_AddNumberToObject(head, "rank", 7);
	assert_int_equal(recorder_open(&r, path, head, lanes, 2, 64), OK);
	*begin_ns = clock_ns();
	l = recorder_lane(r, 0);
	for (uint32_t i = 0; i < 10; i++) {
		l->iter = i;
		span_begin(l, SPAN_LOAD, i);
		span_next(l, SPAN_FWD, 0);
		clock_sleep_ns(1000000);
		span_begin(l, SPAN_LOSS, 0);
		span_end(l);
		span_end(l);
		span_put(recorder_lane(r, 1), SPAN_ALLREDUCE, clock_ticks(), clock_ticks(), i, i, 4096);
		assert_int_equal(recorder_flush(r), OK);
	}
	*end_ns = clock_ns();
	assert_int_equal(recorder_close(r, tail), OK);
	cJSON_Delete(head);
	cJSON_Delete(tail);
	return path;
}

static void a_record_comes_back_as_it_was_spoken(void **state)
{
	uint64_t begin_ns, end_ns;
	const char *path = make_record(&begin_ns, &end_ns);
	int64_t last = (int64_t)begin_ns - 1000;
	struct record r;

	(void)state;
	assert_int_equal(record_read(path, &r), OK);
	assert_true(json_number(r.head, "rank", -1) == 7);
	assert_non_null(r.tail);
	assert_true(json_number(r.tail, "dropped", -1) == 0);
	assert_int_equal(r.event_count, 40);
	for (size_t i = 0; i < r.event_count; i += 4) {
		const struct event *load = &r.events[i], *loss = &r.events[i + 1], *fwd = &r.events[i + 2];

		assert_int_equal(load->name, SPAN_LOAD);
		assert_int_equal(fwd->name, SPAN_FWD);
		assert_int_equal(fwd->iter, i / 4);
		assert_int_equal(load->t1, fwd->t0);		/* next() shares the stamp */
		assert_true(load->t0 >= last && load->t1 >= load->t0);
		assert_true(loss->t0 >= fwd->t0 && loss->t1 <= fwd->t1);	/* nesting survives */
		assert_true(fwd->t1 - fwd->t0 >= 990000);	/* it slept 1 ms */
		last = fwd->t1;
	}
	assert_true(last <= (int64_t)end_ns + 1000);
	record_release(&r);
	unlink(path);
}

static void a_record_is_good_to_its_last_whole_block(void **state)
{
	uint64_t begin_ns, end_ns;
	const char *path = make_record(&begin_ns, &end_ns);
	size_t bytes, events = 40;
	struct record r;
	char *whole;

	(void)state;
	assert_int_equal(file_read(path, &whole, &bytes), OK);
	for (size_t cut = bytes - 1; cut > bytes / 2; cut -= 37) {
		assert_int_equal(truncate(path, (off_t)cut), OK);
		if (record_read(path, &r)) {
			assert_true(cut < 1024);
			continue;
		}
		assert_null(r.tail);
		assert_true(r.event_count % 4 == 0 && r.event_count <= events);
		events = r.event_count;
		record_release(&r);
	}
	whole[bytes / 2] ^= 1;		/* one bit: that block and what follows is left out */
	assert_int_equal(file_write(path, whole, bytes), OK);
	assert_int_equal(record_read(path, &r), OK);
	assert_true(r.bad_bytes > 0 && r.event_count < 40);
	record_release(&r);
	whole[8] = 99;
	assert_int_equal(file_write(path, whole, bytes), OK);
	assert_int_equal(record_read(path, &r), FAILED);
	free(whole);
	unlink(path);
}

static void a_full_lane_counts_what_it_drops(void **state)
{
	static const char *const lanes[] = { "main" };
	char path[] = "/tmp/sfscale-test-XXXXXX";
	cJSON *none = cJSON_CreateObject();
	struct recorder *r;
	struct record back;

	(void)state;
	close(mkstemp(path));
	assert_int_equal(recorder_open(&r, path, none, lanes, 1, 64), OK);
	for (int i = 0; i < 100; i++) {
		span_begin(recorder_lane(r, 0), SPAN_LOG, 0);
		span_end(recorder_lane(r, 0));
	}
	assert_int_equal(recorder_close(r, none), OK);
	assert_int_equal(record_read(path, &back), OK);
	assert_int_equal(back.event_count, 64);
	assert_true(json_number(back.tail, "dropped", 0) == 36);
	record_release(&back);
	cJSON_Delete(none);
	unlink(path);
}

static void a_file_is_replaced_whole_or_not_at_all(void **state)
{
	char path[] = "/tmp/sfscale-test-XXXXXX", *text;
	FILE *f;

	(void)state;
	close(mkstemp(path));
	assert_int_equal(file_write(path, "old", 3), OK);
	f = file_begin(path);
	fputs("half of the new", f);
	assert_int_equal(file_end(f, path, FAILED), FAILED);
	assert_int_equal(file_read(path, &text, NULL), OK);
	assert_string_equal(text, "old");
	free(text);
	unlink(path);
}

static void *fail_elsewhere(void *arg)
{
	(void)arg;
	err(FAILED, "theirs");
	return NULL;
}

static void the_message_of_another_thread_is_not_mistaken_for_the_own(void **state)
{
	pthread_t thread;

	(void)state;
	err(FAILED, "mine");
	assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
	pthread_join(thread, NULL);
	assert_string_equal(err_own(), "mine");
	assert_string_equal(err_last(), "theirs");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_size_is_a_number_with_a_suffix),
		cmocka_unit_test(options_come_from_rows),
		cmocka_unit_test(a_wrong_option_is_a_usage_error),
		cmocka_unit_test(an_interval_of_the_median_needs_six_runs),
		cmocka_unit_test(the_three_prints_of_a_table_agree),
		cmocka_unit_test(random_streams_are_fixed_and_apart),
		cmocka_unit_test(a_record_comes_back_as_it_was_spoken),
		cmocka_unit_test(a_record_is_good_to_its_last_whole_block),
		cmocka_unit_test(a_full_lane_counts_what_it_drops),
		cmocka_unit_test(a_file_is_replaced_whole_or_not_at_all),
		cmocka_unit_test(the_message_of_another_thread_is_not_mistaken_for_the_own),
	};

	clock_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
