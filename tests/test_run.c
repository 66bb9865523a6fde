/*
 * tests/test_run.c - the program as its users meet it: runs, sweeps, and what bad input gets.
 *
 * A small data set is made once.  Where no arithmetic is asked for, the null kernels stand in for it.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "bench/base/record.h"
#include "bench/step.h"

#include <glob.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char work[] = "/tmp/sfscale-test-XXXXXX";
static const char *build;

/* Runs `format` through the shell, with $S for the program, $D for the data set, $W for the folder of this
 * test and $B for the build folder; what it says goes to $W/said. */
static int sh(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int sh(const char *format, ...)
{
	char command[PATH_BYTES], whole[2 * PATH_BYTES];
	va_list args;
	int status;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	snprintf(whole, sizeof(whole), "W=%s D=%s/data B=%s S=%s/sfscale; { %s\n} >%s/said 2>&1", work, work, build, build,
		 command, work);
	status = system(whole);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool said(const char *words)
{
	char path[PATH_BYTES], *text;
	bool found;

	if (path_make(path, "%s/said", work) || file_read(path, &text, NULL))
		return false;
	found = strstr(text, words) != NULL;
	if (!found)
		print_message("looked for '%s' in:\n%s\n", words, text);
	free(text);
	return found;
}

static cJSON *read_json(const char *name)
{
	char path[PATH_BYTES];
	cJSON *o = NULL;

	assert_int_equal(path_make(path, "%s/%s", work, name), OK);
	assert_int_equal(json_read(path, &o), OK);
	return o;
}

static void read_record(struct record *r, const char *folder, size_t rank)
{
	char path[PATH_BYTES];

	assert_int_equal(path_make(path, "%s/%s/" FOLDER_RECORD, work, folder, rank), OK);
	assert_int_equal(record_read(path, r), OK);
}

static size_t count_spans(const struct record *r, enum span_id id)
{
	size_t n = 0;

	for (size_t i = 0; i < r->event_count; i++)
		n += r->events[i].name == id;
	return n;
}

/* The lines of a ledger, newest last. */
static cJSON *read_ledger(const char *folder)
{
	char path[PATH_BYTES];
	struct line_reader l;
	cJSON *lines = cJSON_CreateArray();

	assert_int_equal(path_make(path, "%s/%s/" FOLDER_LEDGER, work, folder), OK);
	assert_int_equal(line_reader_open(&l, path), OK);
	while (line_reader_next(&l))
		cJSON_AddItemToArray(lines, cJSON_Parse(l.line));
	assert_int_equal(line_reader_close(&l, OK), OK);
	return lines;
}

static int make_data(void **state)
{
	(void)state;
	build = getenv("SFSCALE_BUILD") ? getenv("SFSCALE_BUILD") : "build";
	/* Open MPI leaks at its end; test_kernels_cpu, test_loader and others look for ours. */
	setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
	setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
	setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
	if (!mkdtemp(work))
		return -1;
	return sh("$S data make $D --videos 2 --seconds 4 --val-videos 1");
}

static int remove_all(void **state)
{
	(void)state;
	return dir_remove(work);
}

#define SMALL "--data $D --net nano --clips 1 --log-period 0 "
#define FED "--data $D --kernels null --iterations 4 --net nano --log-period 0 "
#define EMPTY "--kernels null --policy null --iterations 4 --net nano --log-period 0 "

/* ---- runs ------------------------------------------------------------------------------ */

static void a_run_covers_its_time_without_a_gap(void **state)
{
	struct record r;
	const struct event *before = NULL;
	cJSON *run;

	(void)state;
	assert_int_equal(sh("$S run " SMALL "--epochs 2 --iterations 3 --workers 1 --out $W/alone"), 0);
	run = read_json("alone/" FOLDER_RUN);
	assert_string_equal(json_string(run, "status", ""), "ok");
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(cJSON_GetObjectItem(run, "results"), "epochs")), 2);
	cJSON_Delete(run);
	read_record(&r, "alone", 0);
	assert_non_null(r.tail);
	assert_int_equal(r.bad_bytes, 0);
	assert_int_equal(count_spans(&r, SPAN_EPOCH_BEGIN), 2);
	assert_int_equal(count_spans(&r, SPAN_LOAD), 6);
	/* On the training thread a row begins when the one before it ends. */
	for (size_t i = 0; i < r.event_count; i++) {
		const struct event *e = &r.events[i];
		bool row = e->name == SPAN_EPOCH_BEGIN || e->name == SPAN_RUN_END;

		for (size_t k = 0; k < step_row_count; k++)
			row = row || e->name == step_rows[k].span;
		if (e->lane != 0 || !row)
			continue;
		if (before)
			assert_int_equal(e->t0, before->t1);
		before = e;
	}
	assert_int_equal(before->name, SPAN_RUN_END);
	record_release(&r);
}

/* Rounded to a tenth of a millisecond. */
static void what_is_said_of_an_epoch_while_it_runs_is_what_the_report_says(void **state)
{
	(void)state;
	assert_int_equal(sh("$S run " SMALL "--log-period 2 --epochs 3 --iterations 4 --policy respawn --workers 2 --checkpoint-period 1 "
			    "--out $W/live >$W/live.txt"), 0);
	assert_int_equal(sh("$S report --table epochs $W/live >$W/live-epochs.txt"), 0);
	assert_int_equal(sh("awk 'function far(a, b) { return a - b > 0.06 || b - a > 0.06 } "
			    "FNR == NR { if ($3 == \"boundary\") { boundary[$2] = $4; first[$2] = $8; stall[$2] = $11 } "
			    "else if ($3 == \"iteration\") lines[$2] += $10; next } "
			    "$1 == \"respawn\" { n++; if (far(boundary[$5], $9) || far(first[$5], $10) || far(stall[$5], $11) || "
			    "(lines[$5] - $11) ^ 2 > 0.2 ^ 2) exit 1 } "
			    "END { exit n != 3 }' $W/live.txt $W/live-epochs.txt"), 0);
}

static void a_validation_is_a_part_of_the_boundary_and_eval_gives_its_number_again(void **state)
{
	static const char in_run[] = "--data $D --net nano --clips 1 --log-period 0 --workers 2 --eval-seconds 1";
	const cJSON *epochs;
	cJSON *run, *again;
	struct record r;

	(void)state;
	assert_int_equal(sh("$S run %s --epochs 3 --iterations 2 --eval-period 2 --out $W/valid", in_run), 0);
	run = read_json("valid/" FOLDER_RUN);
	epochs = cJSON_GetObjectItem(cJSON_GetObjectItem(run, "results"), "epochs");
	assert_null(cJSON_GetObjectItem(cJSON_GetArrayItem(epochs, 0), "mAP"));
	assert_true(cJSON_IsNumber(cJSON_GetObjectItem(cJSON_GetArrayItem(epochs, 1), "mAP")));
	assert_int_equal(sh("$S eval --groundtruth $W/valid/groundtruth.csv --detections $W/valid/detections.csv --labelmap $D/annotations/*.pbtxt "
			    "--excluded $D/annotations/ava_val_excluded_timestamps_v2.2.csv --json >$W/eval.json"), 0);
	again = read_json("eval.json");
	assert_true(json_number(again, "mAP", -1) == json_number(cJSON_GetArrayItem(epochs, 2), "mAP", -2));
	cJSON_Delete(again);
	cJSON_Delete(run);
	read_record(&r, "valid", 0);
	assert_int_equal(count_spans(&r, SPAN_EVAL), 2);
	record_release(&r);
	assert_int_equal(sh("$S report $W/valid --out $W/valid.report"), 0);
	again = read_json("valid.report/summary.json");
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(cJSON_GetObjectItem(again, "identity"), "parts_equal_wall")));
	/* Of the two boundaries one has a validation; the last validation stands behind both. */
	assert_true(json_number(cJSON_GetArrayItem(cJSON_GetObjectItem(
					cJSON_GetObjectItem(cJSON_GetObjectItem(again, "tables"), "boundary"), "rows"), 0),
				"eval_ms", 0) > 0);
	cJSON_Delete(again);

	/* Rank 0's first sample is the same alone and among two: with it the statistics, and every prediction. */
	assert_int_equal(sh("$S run %s --epochs 1 --iterations 1 --lr 0 --warmup-lr 0 --threads 1 --eval-period 1 --out $W/v1 &&"
			    "mpirun --oversubscribe -n 2 $S run %s --epochs 1 --iterations 1 --lr 0 --warmup-lr 0 --threads 1 --eval-period 1 "
			    "--out $W/v2 && cmp $W/v1/detections.csv $W/v2/detections.csv", in_run, in_run), 0);
	/* The middle of a square frame is all of it, though another instance of the network sees it. */
	assert_int_equal(sh("$S data make $W/square --videos 1 --val-videos 1 --seconds 2 --width 96 --height 96 >/dev/null &&"
			    "for f in middle whole; do $S run --data $W/square --net nano --clips 1 --log-period 0 --epochs 1 --iterations 2 "
			    "--eval-period 1 --eval-seconds 1 --eval-frames $f --out $W/s-$f || exit 9; done;"
			    "cmp $W/s-middle/detections.csv $W/s-whole/detections.csv"), 0);
	assert_int_equal(sh("$S run %s --epochs 1 --iterations 2 --eval-period 1 --eval-frames whole --out $W/s-wide", in_run), 0);
}

static void pixels_as_bytes_change_no_bit_of_what_is_learned(void **state)
{
	static const char *const cases[] = {
		"--policy persistent --linspace old",
		"--policy threads --emulate-ranks 3 --dropout 0",
		"--policy fork --eval-period 1 --eval-seconds 1 --eval-frames whole --clips 2",
		"--policy inline --eval-period 1 --eval-seconds 1 --frames 32 --linspace old",	/* 32: where old differs from new */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cJSON *results[2];

		for (int bytes = 0; bytes < 2; bytes++) {
			char name[64];
			cJSON *run;

			snprintf(name, sizeof(name), "pixels-%zu-%d", i, bytes);
			assert_int_equal(sh("$S run " SMALL "--threads 1 --epochs 2 --iterations 2 %s --pixels %s --out $W/%s", cases[i],
					    bytes ? "uint8" : "fp32", name), 0);
			snprintf(name, sizeof(name), "pixels-%zu-%d/" FOLDER_RUN, i, bytes);
			run = read_json(name);
			results[bytes] = cJSON_DetachItemFromObject(run, "results");
			cJSON_Delete(run);
		}
		assert_true(json_number(cJSON_GetArrayItem(cJSON_GetObjectItem(results[0], "epochs"), 1), "loss", 0) > 0);
		assert_true(cJSON_Compare(results[0], results[1], 1));
		if (strstr(cases[i], "eval"))
			assert_int_equal(sh("cmp $W/pixels-%zu-0/detections.csv $W/pixels-%zu-1/detections.csv", i, i), 0);
		cJSON_Delete(results[0]);
		cJSON_Delete(results[1]);
	}
}

static void every_policy_trains_on_the_same_samples_to_the_same_loss(void **state)
{
	static const char *const policies[] = { "inline", "respawn", "fork", "persistent", "threads" };
	cJSON *first = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
		char name[64];
		cJSON *run, *results;

		assert_int_equal(sh("$S run " SMALL "--epochs 2 --iterations 2 --policy %s --out $W/%s", policies[i], policies[i]), 0);
		snprintf(name, sizeof(name), "%s/" FOLDER_RUN, policies[i]);
		run = read_json(name);
		results = cJSON_DetachItemFromObject(run, "results");
		cJSON_Delete(run);
		assert_true(json_number(cJSON_GetArrayItem(cJSON_GetObjectItem(results, "epochs"), 0), "loss", 0) > 0);
		if (first)
			assert_true(cJSON_Compare(first, results, 1));
		else
			first = results;
		if (first != results)
			cJSON_Delete(results);
	}
	cJSON_Delete(first);
}

/* Loss of the only epoch; the multiply-adds of a clip. */
static double loss_of(const char *folder, double *macs)
{
	char name[64];
	cJSON *run;
	double loss;

	snprintf(name, sizeof(name), "%s/" FOLDER_RUN, folder);
	run = read_json(name);
	loss = json_number(cJSON_GetArrayItem(cJSON_GetObjectItem(cJSON_GetObjectItem(run, "results"), "epochs"), 0), "loss", -1);
	*macs = json_number(cJSON_GetObjectItem(run, "step"), "macs_per_clip", 0);
	cJSON_Delete(run);
	return loss;
}

static void frames_and_their_choice_are_options_that_count(void **state)
{
	enum { F16, F32, F32_OLD, CASES };
	static const char *const words[CASES] = { "--frames 16", "--frames 32", "--frames 32 --linspace old" };
	double loss[CASES], macs[CASES];

	(void)state;
	for (int i = 0; i < CASES; i++) {
		char folder[16];

		snprintf(folder, sizeof(folder), "frames%d", i);
		assert_int_equal(sh("$S run " SMALL "--epochs 1 --iterations 1 --dropout 0 %s --out $W/%s", words[i], folder), 0);
		loss[i] = loss_of(folder, &macs[i]);
	}
	assert_true(macs[F32] == 2 * macs[F16] && macs[F32_OLD] == macs[F32]);
	assert_true(loss[F16] != loss[F32] && loss[F32_OLD] != loss[F32]);
}

static void without_their_broadcast_statistics_stay_where_they_are(void **state)
{
	double with, without, macs;
	struct record r;

	(void)state;
	assert_int_equal(sh("for b in on off; do timeout 100 mpirun --oversubscribe --bind-to none -n 2 $S run " SMALL
			    "--threads 1 --epochs 1 --iterations 3 --bn-broadcast $b --out $W/bn-$b || exit 1; done"), 0);
	with = loss_of("bn-on", &macs);
	without = loss_of("bn-off", &macs);
	assert_true(with == without);	/* training never reads them */
	read_record(&r, "bn-on", 1);
	assert_int_equal(count_spans(&r, SPAN_BCAST_BN), 3);
	record_release(&r);
	read_record(&r, "bn-off", 1);
	assert_int_equal(count_spans(&r, SPAN_BCAST_BN), 0);
	record_release(&r);
}

/* What a thread of a run should push: the rows in order, buckets times where a row says so. */
static void every_row_of_the_step_is_an_nvtx_range(void **state)
{
#ifdef HAVE_NVTX
	enum { ITERATIONS = 3 };
	char path[PATH_BYTES], line[256], name[64], expected[64];
	size_t buckets, iteration = 0, row = 0, times = 0, reductions = 0, depth = 0;
	unsigned long long payload;
	long thread, trainer = 0;
	cJSON *run;
	FILE *f;

	(void)state;
	assert_int_equal(sh("SFSCALE_NVTX_LOG=$W/nvtx NVTX_INJECTION64_PATH=$B/tests/inject_nvtx.so "
			    "$S run " SMALL "--epochs 1 --iterations %d --policy inline --bucket-bytes 200K "
			    "--first-bucket-bytes 64K --out $W/ranges", ITERATIONS), 0);
	run = read_json("ranges/" FOLDER_RUN);
	buckets = (size_t)cJSON_GetArraySize(cJSON_GetObjectItem(cJSON_GetObjectItem(run, "step"), "buckets"));
	cJSON_Delete(run);
	assert_true(buckets > 2);
	assert_int_equal(path_make(path, "%s/nvtx", work), OK);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%ld push sfscale %63s %llu", &thread, name, &payload) != 3) {
			depth -= thread == trainer && strstr(line, " pop") != NULL;
			continue;
		}
		if (!strcmp(name, span_rows[SPAN_EPOCH_BEGIN].name))
			trainer = thread;
		depth += thread == trainer;
		if (!strcmp(name, span_rows[SPAN_ALLREDUCE].name)) {
			assert_true(thread != trainer);
			assert_int_equal(payload, reductions++ / buckets);
		}
		if (thread != trainer || depth != 1 || !strcmp(name, span_rows[SPAN_EPOCH_BEGIN].name) ||
		    !strcmp(name, span_rows[SPAN_RUN_END].name) || !strcmp(name, span_rows[SPAN_CLOCK_SYNC].name))
			continue;
		snprintf(expected, sizeof(expected), "%s", span_rows[step_rows[row].span].name);
		assert_string_equal(name, expected);
		assert_int_equal(payload, iteration);
		if (++times == (step_rows[row].times == offsetof(struct step, bucket_count) ? buckets : 1)) {
			times = 0;
			row = (row + 1) % step_row_count;
			iteration += row == 0;
		}
	}
	fclose(f);
	assert_int_equal(iteration, ITERATIONS);
	assert_int_equal(reductions, ITERATIONS * buckets);
	assert_int_equal(depth, 0);
#else
	(void)state;
	print_message("SKIP: no NVTX headers on this machine\n");
	skip();
#endif
}

static void a_delay_that_is_put_in_comes_out_where_it_was_put(void **state)
{
	struct record r;

	(void)state;
	assert_int_equal(sh("$S run " EMPTY "--epochs 2 --inject rank=0,phase=load,iteration=2:5,ms=20 --out $W/delayed"), 0);
	read_record(&r, "delayed", 0);
	for (size_t i = 0; i < r.event_count; i++) {
		const struct event *e = &r.events[i];

		if (e->name == SPAN_LOAD && e->iter >= 2 && e->iter <= 5)
			assert_true(e->t1 - e->t0 >= 20000000);
	}
	assert_int_equal(count_spans(&r, SPAN_LOAD), 8);
	record_release(&r);
}

/* Known truth, from the injection to the words: who is late and because of what. */
static void the_rank_that_was_delayed_is_the_one_that_is_blamed(void **state)
{
	static const struct { const char *phase, *words; } cases[] = {
		{ "load", "for rank 2, because of its loader" },
		{ "h2d", "for rank 2, because of its copy" },
		{ "fwd", "for rank 2, because of its compute" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		/* Before all else that runs here, where that may be: or other ranks are late by themselves. */
		assert_int_equal(sh("$(chrt -f 1 true && echo chrt -f 1) timeout 60 mpirun --oversubscribe --bind-to none -n 4 $S run "
				    EMPTY "--nodes 4 --epochs 4 "
				    "--emulate-kernels forward=const:2,backward=const:4 --inject rank=2,phase=%s,ms=30 "
				    "--out $W/late-%s", cases[i].phase, cases[i].phase), 0);
		assert_int_equal(sh("$S diagnose $W/late-%s | head -n 1", cases[i].phase), 0);
		assert_true(said(cases[i].words));
	}
}

/* ---- bad input ------------------------------------------------------------------------- */

static void bad_input_is_named_and_leaves_nothing(void **state)
{
	static const struct { const char *command; int exit; const char *words; } cases[] = {
		{ "$S walk", 1, "unknown command 'walk'" },
		{ "$S run --out $W/bad --data $D --netto nano", 1, "unknown option '--netto'" },
		{ "$S run --out $W/bad --data $D --net r51", 1, "'r51' is none of" },
		{ "$S run --out $W/bad --data $D --net nano --crop 65", 1, "crop '65'" },
		{ "$S run --out $W/bad --data $D --net nano --hang-s -1", 1, "--hang-s" },
		{ "$S run --out $W/bad --data $D --net nano --on-corrupt ignore", 1, "'ignore' is none of" },
		{ "$S run --out $W/bad --data $D --net nano --policy sometimes", 1, "'sometimes' is none of" },
		{ "$S run --out $W/bad --data $W/nowhere --net nano", 2, "nowhere" },
		{ "$S run --data $D --net nano", 1, "--out" },
		{ "$S run --out $W/bad " SMALL "--threads 100000", 1, "--threads" },
		{ "$S run --out $W/bad " SMALL "--policy inline --workers 18446744073709551615", 1, "--workers" },
		{ "$S run --out $W/bad " SMALL "--dropout 1", 1, "--dropout" },
		{ "$S run --out $W/bad " SMALL "--lr -1", 1, "--lr" },
		{ "$S run --out $W/bad " SMALL "--inject rank=0,phase=sleep,ms=3", 1, "'sleep' is none of" },
		{ "$S run --out $W/bad " SMALL "--inject rank=1,phase=fwd,ms=3", 1, "'rank' does not fit" },
		{ "$S run --out $W/bad " SMALL "--inject rank=0,phase=fwd", 1, "wants at least" },
		{ "$S run --out $W/bad --data $D --net nano --nodes 3", 1, "--nodes" },
		{ "timeout 60 mpirun --oversubscribe -n 9 $S run --out $W/bad " SMALL, 1, "9 ranks" },
		{ "OMPI_COMM_WORLD_SIZE=4 $S run --comm null --out $W/bad " SMALL, 2, "4 copies" },
		{ "$S sweep --out $W/bad --over policy=respawn,never -- " SMALL, 1, "'never' is none of" },
		{ "$S sweep --out $W/bad --over colour=red -- " SMALL, 1, "'colour' is no option of run" },
		{ "$S sweep --out $W/bad --nodes 1,two -- " SMALL, 1, "'two'" },
		{ "$S sweep --out $W/bad --over nodes=1,2 -- " SMALL, 1, "nodes is swept over already" },
		{ "$S sweep --out $W/bad --nodes 1,1 -- " SMALL, 1, "'1' twice" },
		{ "$S sweep --out $W/bad -- --net nano", 1, "--data DIR is needed" },
		{ "$S sweep --out $W/bad -- " SMALL "--threads 9999", 1, "--threads" },
		{ "$S sweep --out $W/bad2 --launcher \"mpirun -n {rank}\" -- " SMALL, 1, "'{rank}'" },
		{ "$S run " EMPTY "--tuning $W/tuning --out $W/untuned", 2, "have no implementations to choose from (--tuning)" },
		{ "$S sweep --out $W/bad2 --launcher nompirun -- " SMALL, 2, "cannot start 'nompirun'" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int rc = sh("%s", cases[i].command);

		if (rc != cases[i].exit)
			print_message("%s\n", cases[i].command);
		assert_int_equal(rc, cases[i].exit);
		assert_true(said(cases[i].words));
		assert_int_equal(sh("test -e $W/bad"), 1);
	}
}

static void a_folder_that_holds_a_run_is_not_written_again(void **state)
{
	(void)state;
	assert_int_equal(sh("$S run " EMPTY "--out $W/twice && cp $W/twice/" FOLDER_RUN " $W/first.json"), 0);
	assert_int_equal(sh("$S run " EMPTY "--out $W/twice"), 2);
	assert_true(said("already holds a run"));
	assert_int_equal(sh("cmp $W/first.json $W/twice/" FOLDER_RUN), 0);
}

static void a_corrupt_frame_is_named_and_what_was_measured_is_kept(void **state)
{
	struct record r;
	cJSON *run;

	(void)state;
	/* Every frame of one video of two is cut off; by this seed the first clip is of the other one. */
	assert_int_equal(sh("cp -r $D $W/broken; for f in $(ls -d $W/broken/frames/*/ | sed -n 1p)*.jpg; do "
			    "truncate -s 300 $f; done"), 0);
	assert_int_equal(sh("$S run --data $W/broken --net nano --log-period 0 --epochs 1 --policy inline --out $W/corrupt"), 2);
	assert_true(said(".jpg"));
	run = read_json("corrupt/" FOLDER_RUN);
	assert_string_equal(json_string(run, "status", ""), "failed");
	assert_non_null(strstr(json_string(run, "reason", ""), ".jpg"));
	cJSON_Delete(run);
	read_record(&r, "corrupt", 0);
	assert_string_equal(json_string(r.tail, "status", ""), "failed");
	assert_true(count_spans(&r, SPAN_LOG) > 0);
	record_release(&r);
}

static uint64_t skipped_clips(const char *run_json, char checksum[32])
{
	cJSON *run = read_json(run_json);
	const cJSON *epoch = cJSON_GetArrayItem(cJSON_GetObjectItem(cJSON_GetObjectItem(run, "results"), "epochs"), 0);
	uint64_t skipped = (uint64_t)json_number(epoch, "skipped_clips", 1e9);

	snprintf(checksum, 32, "%s", json_string(epoch, "checksum", ""));
	cJSON_Delete(run);
	return skipped;
}

static void a_corrupt_frame_is_skipped_and_counted_when_asked_for(void **state)
{
	static const char *const policies[] = { "inline", "threads", "fork", "respawn", "fork --pixels uint8" };
	char checksum[32], first[32], whole[32];

	(void)state;
	assert_int_equal(sh("rm -rf $W/scratched; cp -r $D $W/scratched && echo nothing > $W/scratched/frames/$(ls $D/frames | head -n 1)/"
			    "$(ls $D/frames/* | grep 000061.jpg | head -n 1)"), 0);
	assert_int_equal(sh("$S run " FED "--epochs 1 --out $W/unscratched"), 0);
	assert_int_equal(skipped_clips("unscratched/" FOLDER_RUN, whole), 0);
	for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
		assert_int_equal(sh("$S run " FED "--data $W/scratched --epochs 1 --on-corrupt skip --policy %s --out $W/skip-%zu",
				    policies[i], i), 0);
		assert_true(said("is no JPEG"));
		assert_true(said("its clip is skipped"));
		snprintf(first, sizeof(first), "%s", i ? checksum : "");
		char path[64];

		snprintf(path, sizeof(path), "skip-%zu/" FOLDER_RUN, i);
		assert_true(skipped_clips(path, checksum) > 0);
		assert_string_not_equal(checksum, whole);
		if (i)
			assert_string_equal(checksum, first);
	}
}

/* Storage that fails, workers that die and hang: a cause, at once, and no process left. */
static void bad_storage_and_bad_workers_end_the_run_with_the_cause(void **state)
{
	static const struct { const char *io, *options; int exit; const char *words; } cases[] = {
		{ "part", "--policy threads", 0, "" },
		{ "part", "--policy respawn", 0, "" },
		{ "end", "--policy fork", 2, "it ended after 0 of its" },
		{ "end", "--policy threads --on-corrupt skip", 2, "it ended after 0 of its" },	/* no damaged file, damaged storage */
		{ "error", "--policy inline", 2, ".jpg': Input/output error" },
		{ "error", "--policy persistent", 2, ".jpg': Input/output error" },
		{ "error SFSCALE_IO_AT=20", "--policy threads", 2, ".jpg': Input/output error" },
		{ "die SFSCALE_IO_WHO=loader-1", "--policy fork", 2, "loader worker 1 (process " },
		{ "die SFSCALE_IO_WHO=loader-1 SFSCALE_IO_AT=20", "--policy persistent", 2, "was killed by signal 9" },
		{ "die SFSCALE_IO_WHO=loader-1", "--policy respawn", 2, "was killed by signal 9" },
		{ "stop SFSCALE_IO_WHO=loader-1", "--policy fork --hang-s 0.5", 2, ", stopped) hangs: for 0.5 s it has read no frame" },
		{ "stop SFSCALE_IO_WHO=loader-1", "--policy respawn --hang-s 0.5", 2, ", stopped) hangs" },
		{ "hang SFSCALE_IO_WHO=loader-0", "--policy persistent --hang-s 0.5", 2, ", asleep) hangs" },
		{ "hang SFSCALE_IO_WHO=loader-1", "--policy threads --hang-s 0.5", 2, "loader worker 1 (thread) hangs" },
		{ "hang", "--policy threads --hang-s 0.5", 2, " (thread) hangs" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int rc = sh("ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 LD_PRELOAD=$B/tests/inject_io.so SFSCALE_IO_RUN=$W SFSCALE_IO=%s "
			    "timeout -k 1 10 $S run " FED "--epochs 2 %s --out $W/io-%zu", cases[i].io, cases[i].options, i);

		if (rc != cases[i].exit)
			print_message("SFSCALE_IO=%s %s\n", cases[i].io, cases[i].options);
		assert_int_equal(rc, cases[i].exit);
		assert_true(said(cases[i].words));
		assert_int_equal(sh("test -z \"$(grep -lsz SFSCALE_IO_RUN=$W /proc/[0-9]*/environ)\""), 0);
	}
}

static void a_full_dev_shm_is_in_nobodys_way(void **state)
{
	(void)state;
	if (sh("unshare -m sh -c 'mount -t tmpfs -o size=4k none /dev/shm && head -c 1M /dev/zero > /dev/shm/full'; "
	       "unshare -m true") != 0) {
		print_message("SKIP: no mount namespaces here\n");
		skip();
	}
	assert_int_equal(sh("unshare -m sh -c \"mount -t tmpfs -o size=4k none /dev/shm && head -c 1M /dev/zero > /dev/shm/full; "
			    "$S run " FED "--epochs 1 --policy respawn --out $W/noshm\""), 0);
}

static void a_network_that_diverges_is_a_failed_run(void **state)
{
	cJSON *run;

	(void)state;
	assert_int_equal(sh("$S run " SMALL "--lr 1e38 --lr-clips 0 --warmup-epochs 0 --epochs 2 --out $W/diverged"), 2);
	assert_true(said("the loss is no number any more"));
	run = read_json("diverged/" FOLDER_RUN);
	assert_string_equal(json_string(run, "status", ""), "failed");
	assert_non_null(strstr(json_string(run, "reason", ""), "no number"));
	cJSON_Delete(run);
}

/* Rank 1 fails by itself, rank 0 is ended with it: the report finds the reason in rank 1's record. */
static void a_rank_that_fails_ends_the_others_and_tells_the_report(void **state)
{
	struct record r;

	(void)state;
	assert_int_equal(sh("timeout 60 mpirun --oversubscribe --bind-to none -n 4 $S run --data $W/broken --net nano --clips 1 "
			    "--threads 1 --log-period 0 --out $W/together"), 2);
	assert_true(said(".jpg"));
	assert_int_equal(sh("ls $W/together/*.tmp*"), 2);
	assert_int_equal(sh("$S report $W/together; grep jpg $W/together/report/runs.csv"), 0);
	read_record(&r, "together", 0);
	record_release(&r);
}

static void a_full_disk_ends_the_run_and_keeps_its_blocks(void **state)
{
	struct record r;
	char path[PATH_BYTES];

	(void)state;
	assert_int_equal(path_make(path, "%s/small", work), OK);
	assert_int_equal(dir_make(path), OK);
	if (mount("tmpfs", path, "tmpfs", 0, "size=64k")) {
		print_message("SKIP: a small file system cannot be mounted here\n");
		skip();
	}
	assert_int_equal(sh("$S run --kernels null --policy null --net nano --log-period 0 --iterations 2000 --out $W/small/run"), 2);
	assert_true(said("rank-00000.sfr"));
	read_record(&r, "small/run", 0);
	assert_true(count_spans(&r, SPAN_LOAD) > 10);
	record_release(&r);
	assert_int_equal(umount(path), 0);
}

/* ---- sweeps ---------------------------------------------------------------------------- */

/* Waits until the second rank of the only point of a sweep has opened its record. */
static pid_t pid_of_rank_1(const char *sweep)
{
	char pattern[PATH_BYTES];
	glob_t found;
	pid_t pid = 0;

	assert_int_equal(path_make(pattern, "%s/%s/runs/*/rank-00001.sfr", work, sweep), OK);
	for (int i = 0; i < 300 && !pid; i++) {
		struct record r;

		clock_sleep_ns(NS_PER_S / 10);
		if (!glob(pattern, 0, NULL, &found) && !record_read(found.gl_pathv[0], &r)) {
			pid = (pid_t)json_number(r.head, "pid", 0);
			record_release(&r);
		}
		globfree(&found);
	}
	return pid;
}

static void a_rank_that_is_killed_is_a_failed_line_and_leaves_records(void **state)
{
	cJSON *ledger, *line;
	struct record r;
	char name[64];
	pid_t pid;

	(void)state;
	/* Some 20 s of emulated steps and more. */
	assert_int_equal(sh("{ timeout 100 $S sweep --nodes 2 --repeat 1 --out $W/killed -- --kernels null --emulate-kernels "
			    "forward=const:20 --policy null --net nano --iterations 1000 --epochs 1 --log-period 0; echo $? >$W/exit; } "
			    ">/dev/null 2>&1 &"), 0);
	pid = pid_of_rank_1("killed");
	assert_true(pid > 1);
	clock_sleep_ns(NS_PER_S);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(sh("for i in $(seq 100); do [ -s $W/exit ] && break; sleep 0.1; done; cat $W/exit"), 0);
	assert_true(said("4\n"));
	ledger = read_ledger("killed");
	assert_int_equal(cJSON_GetArraySize(ledger), 1);
	line = cJSON_GetArrayItem(ledger, 0);
	assert_string_equal(json_string(line, "status", ""), "failed");
	assert_non_null(strstr(json_string(line, "reason", ""), "signal 9"));
	snprintf(name, sizeof(name), "killed/%s", json_string(line, "folder", ""));
	for (size_t rank = 0; rank < 2; rank++) {
		read_record(&r, name, rank);
		assert_null(r.tail);
		assert_true(count_spans(&r, SPAN_LOAD) > 5);
		record_release(&r);
	}
	cJSON_Delete(ledger);
}

static void a_sweep_that_is_killed_goes_on_where_it_was(void **state)
{
	static const char sweep[] = "$S sweep --nodes 1,2 --over workers=1,2 --repeat 1 --out $W/resumed -- " EMPTY
		"--emulate-kernels forward=const:30 --epochs 1";
	cJSON *before, *after;

	(void)state;
	assert_int_equal(sh("%s & pid=$!; while [ ! -s $W/resumed/" FOLDER_LEDGER " ]; do sleep 0.05; done; kill -9 $pid; "
			    "wait $pid", sweep), 137);
	before = read_ledger("resumed");
	assert_in_range(cJSON_GetArraySize(before), 1, 3);
	/* A point cut off in the middle of its line runs again. */
	assert_int_equal(sh("printf '{\"schema\": 1, \"key\": \"12' >> $W/resumed/" FOLDER_LEDGER "; %s", sweep), 0);
	after = read_ledger("resumed");
	assert_int_equal(cJSON_GetArraySize(after), 4);
	assert_true(cJSON_Compare(cJSON_GetArrayItem(before, 0), cJSON_GetArrayItem(after, 0), 1));
	for (int i = 0; i < 4; i++)
		assert_string_equal(json_string(cJSON_GetArrayItem(after, i), "status", ""), "ok");
	assert_int_equal(sh("%s", sweep), 0);
	assert_true(said("0 of 4 runs to do"));
	cJSON_Delete(before);
	cJSON_Delete(after);
}

static void ranks_of_a_job_agree_on_losses_and_share_the_samples(void **state)
{
	cJSON *run, *epochs;
	struct record r;

	(void)state;
	assert_int_equal(sh("timeout 100 mpirun --oversubscribe --bind-to none -n 2 $S run " SMALL "--threads 1 --epochs 2 --nodes 2 "
			    "--iterations 2 --out $W/job"), 0);
	run = read_json("job/" FOLDER_RUN);
	assert_string_equal(json_string(run, "status", ""), "ok");
	assert_non_null(strstr(json_string(cJSON_GetObjectItem(run, "place"), "text", ""), "2 emulated nodes, one host"));
	epochs = cJSON_GetObjectItem(cJSON_GetObjectItem(run, "results"), "epochs");
	assert_true(json_number(cJSON_GetArrayItem(epochs, 1), "loss", 0) > 0);
	for (size_t rank = 0; rank < 2; rank++) {
		read_record(&r, "job", rank);
		assert_int_equal(json_number(r.head, "node", -1), rank);
		assert_int_equal(count_spans(&r, SPAN_LOSS_ALLREDUCE), 4);
		record_release(&r);
	}
	cJSON_Delete(run);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_run_covers_its_time_without_a_gap),
		cmocka_unit_test(what_is_said_of_an_epoch_while_it_runs_is_what_the_report_says),
		cmocka_unit_test(a_validation_is_a_part_of_the_boundary_and_eval_gives_its_number_again),
		cmocka_unit_test(pixels_as_bytes_change_no_bit_of_what_is_learned),
		cmocka_unit_test(every_policy_trains_on_the_same_samples_to_the_same_loss),
		cmocka_unit_test(frames_and_their_choice_are_options_that_count),
		cmocka_unit_test(without_their_broadcast_statistics_stay_where_they_are),
		cmocka_unit_test(every_row_of_the_step_is_an_nvtx_range),
		cmocka_unit_test(a_delay_that_is_put_in_comes_out_where_it_was_put),
		cmocka_unit_test(the_rank_that_was_delayed_is_the_one_that_is_blamed),
		cmocka_unit_test(bad_input_is_named_and_leaves_nothing),
		cmocka_unit_test(a_folder_that_holds_a_run_is_not_written_again),
		cmocka_unit_test(a_corrupt_frame_is_named_and_what_was_measured_is_kept),
		cmocka_unit_test(a_corrupt_frame_is_skipped_and_counted_when_asked_for),
		cmocka_unit_test(bad_storage_and_bad_workers_end_the_run_with_the_cause),
		cmocka_unit_test(a_full_dev_shm_is_in_nobodys_way),
		cmocka_unit_test(a_network_that_diverges_is_a_failed_run),
		cmocka_unit_test(a_rank_that_fails_ends_the_others_and_tells_the_report),
		cmocka_unit_test(a_full_disk_ends_the_run_and_keeps_its_blocks),
		cmocka_unit_test(a_rank_that_is_killed_is_a_failed_line_and_leaves_records),
		cmocka_unit_test(a_sweep_that_is_killed_goes_on_where_it_was),
		cmocka_unit_test(ranks_of_a_job_agree_on_losses_and_share_the_samples),
	};

	return cmocka_run_group_tests(tests, make_data, remove_all);
}
