/*
 * tests/test_truth.c - truths that are put into jobs which really run, and must come out of their records.
 *
 * The null kernels sleep, MPI moves real bytes.  A delay sleeps as long as the machine lets it, so what must come out is what the
 * delayed rank's own phase took more; from there to the waits of the others there is only the analysis.  Figures are medians over
 * iterations and ranks, of differences to the iterations around them in which nothing was put in.
 *
 * A rank that has no core when it should go on is late by itself, which is no lie but no truth that this file knows: the ranks take
 * precedence over whatever else the machine does (chrt), and where they may not, nothing is judged.  Machines are shared below
 * that, too: a job whose figures are not the truth runs again, three times at most.  An analysis that is wrong is wrong each time.
 */
#include "bench/base/folder.h"
#include "bench/base/stats.h"
#include "report/decompose.h"
#include "report/match.h"
#include "report/windows.h"
#include "tests/folders.h"
#include "tests/shell.h"

#include <stdio.h>

enum { RANKS_MAX = 4, ITERATIONS_MAX = 128 };

/* What the records of a run say of each rank and iteration, in ms. */
struct told {
	double wait[RANKS_MAX][ITERATIONS_MAX], wire[RANKS_MAX][ITERATIONS_MAX];	/* exposed */
	double phase[SPAN_COUNT][RANKS_MAX][ITERATIONS_MAX];	/* lengths of its spans, summed */
};

static void tell_rank(struct told *t, const struct match *m, size_t rank, struct record *rec)
{
	struct ledger ledger;
	struct marks marks;
	size_t n = 0;

	for (size_t i = 0; i < rec->event_count; i++)
		if (rec->events[i].name < SPAN_COUNT && rec->events[i].iter < ITERATIONS_MAX)
			t->phase[rec->events[i].name][rank][rec->events[i].iter] +=
				1e-6 * (double)(rec->events[i].t1 - rec->events[i].t0);
	assert_int_equal(marks_make(&marks, rec), OK);
	assert_int_equal(ledger_make(&ledger, rec->events, rec->event_count, m, rank, marks.cuts[0], marks.cuts[marks.windows]), OK);
	for (size_t w = 0; w < marks.windows; w++) {
		struct account a = ledger_between(&ledger, marks.cuts[w], marks.cuts[w + 1]);

		if (marks.kinds[w] == WINDOW_BOUNDARY)
			continue;
		assert_true(n < ITERATIONS_MAX);
		t->wait[rank][n] = 1e-6 * (double)a.parts_ns[CLS_COMM_WAIT];
		t->wire[rank][n++] = 1e-6 * (double)a.parts_ns[CLS_COMM_WIRE];
	}
	ledger_release(&ledger);
	marks_release(&marks);
}

static struct told *tell(const char *dir, size_t ranks)
{
	struct told *t = calloc(1, sizeof(*t));
	struct record records[RANKS_MAX];
	struct match m;

	assert_non_null(t);
	assert_int_equal(match_open(&m, ranks), OK);
	for (size_t r = 0; r < ranks; r++) {
		char path[PATH_BYTES];

		assert_int_equal(path_make(path, "%s/" FOLDER_RECORD, dir, r), OK);
		assert_int_equal(record_read(path, &records[r]), OK);
		assert_int_equal(windows_translate(&records[r]), 0);
		assert_int_equal(match_add(&m, r, records[r].events, records[r].event_count, (struct match_clock){ .group = 0 }), OK);
	}
	assert_int_equal(match_solve(&m), OK);
	for (size_t r = 0; r < ranks; r++) {
		tell_rank(t, &m, r, &records[r]);
		record_release(&records[r]);
	}
	match_release(&m);
	return t;
}

/* Within 5 % or 1 ms. */
static bool is_truth(const char *what, double got_ms, double truth_ms)
{
	bool is = fabs(got_ms - truth_ms) <= fmax(0.05 * truth_ms, 1);

	if (!is)
		print_message("%s: %.2f ms, but %.2f ms is the truth\n", what, got_ms, truth_ms);
	return is;
}

/* `job` runs in a folder of its own and says whether all of its truths came back. */
static void comes_back(bool (*job)(const char *dir), const char *dir)
{
	bool is = false;

	for (int try = 0; try < 3 && !is; try++) {
		char folder[PATH_BYTES];

		assert_int_equal(path_make(folder, "%s/%d", dir, try), OK);
		is = job(folder);
	}
	assert_true(is);
}

static void run(const char *dir, const char *launcher, const char *options)
{
	char line[PATH_BYTES], out[4096];
	const char *build = getenv("SFSCALE_BUILD");
	int rc;

#ifdef __SANITIZE_ADDRESS__
	print_message("SKIP: the sanitizers take time of their own\n");
	skip();
#endif
	if (shell("chrt -f 1 true", out, sizeof(out))) {
		print_message("SKIP: no right to real-time priority (chrt)\n");
		skip();
	}
	assert_int_equal(path_make(line, "chrt -f 1 %s %s/sfscale run --kernels null --policy null --net nano --log-period 0 --epochs 1 "
				   "--emulate-kernels forward=const:2,backward=const:4 %s --out %s", launcher, build ? build : "build",
				   options, dir), OK);
	rc = shell(line, out, sizeof(out));
	if (rc == 77) {
		print_message("%s", out);
		skip();
	}
	if (rc)
		fail_msg("%s", out);
}

#define MPIRUN "env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 60 mpirun --oversubscribe --bind-to none -n 4"

/* ---- delays ---------------------------------------------------------------------------- */

enum { LATE = 2, OTHERS = 0xf & ~(1 << LATE), REPEATS = 10 };

/* Delays take turns with iterations that have none, so that what else the machine does is in both. */
static const enum span_id phases[] = { SPAN_LOAD, SPAN_H2D, SPAN_FWD, SPAN_BWD };
enum { TURN = 2 * ARRAY_LEN(phases) };

static void run_delayed(const char *dir, const char *overlap)
{
	char options[PATH_BYTES];
	size_t used = (size_t)snprintf(options, sizeof(options), "--overlap %s --iterations %d ", overlap, REPEATS * TURN + 1);

	for (int k = 0; k < REPEATS * TURN; k += 2)
		used += (size_t)snprintf(options + used, sizeof(options) - used, "--inject rank=%d,phase=%s,iteration=%d,ms=30 ", LATE,
					 span_rows[phases[k % TURN / 2]].name, k + 1);
	run(dir, MPIRUN, options);
}

/* Of the ranks in `ranks` (a mask): how much longer a row, or the sum of two, is for the delay in this phase than in the
 * iterations before and after. */
static double more(double (*of)[ITERATIONS_MAX], double (*and)[ITERATIONS_MAX], unsigned ranks, size_t phase)
{
	double values[RANKS_MAX * REPEATS];
	size_t n = 0;

	for (size_t r = 0; r < RANKS_MAX; r++)
		for (size_t i = 2 * phase + 1; i < REPEATS * TURN; i += TURN)
			if (ranks & 1u << r)
				values[n++] = of[r][i] - 0.5 * (of[r][i - 1] + of[r][i + 1]) +
					      (and ? and[r][i] - 0.5 * (and[r][i - 1] + and[r][i + 1]) : 0);
	return quantile(values, n, 0.5);
}

/* What table late says that others waited for a rank because of this, per iteration. */
static double blamed_ms(const cJSON *summary, double rank, const char *field)
{
	const cJSON *row, *rows = cJSON_GetObjectItem(cJSON_GetObjectItem(cJSON_GetObjectItem(summary, "tables"), "late"), "rows");

	cJSON_ArrayForEach(row, rows)
		if (json_number(row, "rank", -1) == rank)
			return json_number(row, field, NAN);
	return NAN;
}

static bool delays_without_overlap(const char *dir)
{
	static const struct { const char *field; size_t delays; } causes[] = {	/* by phase */
		{ "loader_ms", 1 }, { "copy_ms", 1 }, { "compute_ms", 2 }, { "compute_ms", 2 },
	};
	const double waits = 3.0 * REPEATS / (REPEATS * TURN + 1);	/* of other ranks, for one delay, per iteration */
	struct told *t;
	cJSON *summary;
	bool is = true;

	run_delayed(dir, "off");
	t = tell(dir, 4);
	summary = report_of(dir);
	for (size_t k = 0; k < ARRAY_LEN(phases); k++) {
		double truth_ms = more(t->phase[phases[k]], NULL, 1 << LATE, k);
		double blamed = blamed_ms(summary, LATE, causes[k].field) / (waits * (double)causes[k].delays);

		is &= truth_ms > 29 && is_truth(span_rows[phases[k]].name, more(t->wait, NULL, OTHERS, k), truth_ms) &&
		      is_truth(causes[k].field, blamed, truth_ms);
	}
	cJSON_Delete(summary);
	free(t);
	return is;
}

static void a_delay_in_any_phase_is_what_the_others_wait_blamed_on_its_rank_and_cause(void **state)
{
	comes_back(delays_without_overlap, *state);
}

/*
 * With overlap the first bucket of a rank that comes late from forward or backward is waited for while the others compute their
 * last gradients: that part of the wait is hidden.  Instead, what moves when the late one has come has nothing left to hide
 * behind.  Waiting and moving together are the delay.
 */
static bool delays_under_overlap(const char *dir)
{
	struct told *t;
	bool is = true;

	run_delayed(dir, "on");
	t = tell(dir, 4);
	for (size_t k = 0; k < ARRAY_LEN(phases); k++) {
		double truth_ms = more(t->phase[phases[k]], NULL, 1 << LATE, k);

		is &= is_truth(span_rows[phases[k]].name, more(t->wait, t->wire, OTHERS, k), truth_ms);
		is &= more(t->wait, NULL, OTHERS, k) <= 1.05 * truth_ms;
	}
	free(t);
	return is;
}

static void under_overlap_a_delay_is_what_the_others_wait_and_what_they_can_hide_no_more(void **state)
{
	comes_back(delays_under_overlap, *state);
}

/* ---- a slow link ----------------------------------------------------------------------- */

enum { LINK_ITERATIONS = 12 };

/* Two hosts on a wire of this many Mbit/s (tests/two_hosts.sh). */
static struct told *tell_link(const char *dir, const char *name, int mbit, const char *inject)
{
	char launcher[PATH_BYTES], options[PATH_BYTES], folder[PATH_BYTES];

	assert_int_equal(dir_make(dir), OK);
	assert_int_equal(path_make(launcher, "tests/two_hosts.sh %dmbit", mbit), OK);
	assert_int_equal(path_make(options, "--nodes 2 --overlap off --iterations %d %s", LINK_ITERATIONS, inject), OK);
	assert_int_equal(path_make(folder, "%s/%s", dir, name), OK);
	run(folder, launcher, options);
	return tell(folder, 2);
}

/* Gradient bytes of an iteration. */
static double gradient_bytes(const char *dir, const char *name)
{
	char path[PATH_BYTES];
	double bytes;
	cJSON *json;

	assert_int_equal(path_make(path, "%s/%s/" FOLDER_RUN, dir, name), OK);
	assert_int_equal(json_read(path, &json), OK);
	bytes = json_number(cJSON_GetObjectItem(json, "step"), "gradient_bytes", NAN);
	cJSON_Delete(json);
	return bytes;
}

/* Over both ranks' iterations, but for the first. */
static double link_quantile(double (*of)[ITERATIONS_MAX], double q)
{
	double values[2 * LINK_ITERATIONS];
	size_t n = 0;

	for (size_t r = 0; r < 2; r++)
		for (size_t i = 1; i < LINK_ITERATIONS; i++)
			values[n++] = of[r][i];
	return quantile(values, n, q);
}

/* What the link can do: congestion control and the rest of the machine only take longer. */
static double shortest(double (*of)[ITERATIONS_MAX])
{
	return link_quantile(of, 0);
}

/* Two ranks exchange their whole gradients, each in its direction: 1448 bytes in a frame of 1514, and for two such frames of
 * the other direction one of 66 that says so; less what a full token bucket lets out at once. */
static double link_ms(double bytes, int mbit)
{
	return 8 * (bytes * (1514 + 33) / 1448 - 32768) / (1e3 * mbit);
}

static bool slow_link(const char *dir)
{
	struct told *fast = tell_link(dir, "fast", 100, ""), *slow = tell_link(dir, "slow", 50, "");
	struct told *both = tell_link(dir, "both", 50, "--inject rank=1,phase=load,iteration=1:20,ms=30,prob=0.5");
	double bytes = gradient_bytes(dir, "fast"), more_ms = link_ms(bytes, 50) - link_ms(bytes, 100), late_ms = 0;
	char path[PATH_BYTES];
	cJSON *summary;
	bool is = is_truth("moving", shortest(slow->wire) - shortest(fast->wire), more_ms) &
		  is_truth("moving, with jitter", shortest(both->wire) - shortest(fast->wire), more_ms) &
		  (link_quantile(slow->wait, 0.5) - link_quantile(fast->wait, 0.5) < 0.05 * more_ms);

	for (size_t i = 0; i < LINK_ITERATIONS; i++)
		late_ms += both->phase[SPAN_LOAD][1][i] - both->phase[SPAN_LOAD][0][i];
	assert_int_equal(path_make(path, "%s/both", dir), OK);
	summary = report_of(path);
	is &= late_ms > 29 && is_truth("jitter", blamed_ms(summary, 1, "loader_ms") * LINK_ITERATIONS, late_ms);
	cJSON_Delete(summary);
	free(fast);
	free(slow);
	free(both);
	return is;
}

static void a_slow_link_is_what_ranks_move_and_a_jittery_rank_on_it_what_they_wait(void **state)
{
	comes_back(slow_link, *state);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		IN_FOLDER(a_delay_in_any_phase_is_what_the_others_wait_blamed_on_its_rank_and_cause),
		IN_FOLDER(under_overlap_a_delay_is_what_the_others_wait_and_what_they_can_hide_no_more),
		IN_FOLDER(a_slow_link_is_what_ranks_move_and_a_jittery_rank_on_it_what_they_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
