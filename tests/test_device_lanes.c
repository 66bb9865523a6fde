/*
 * tests/test_device_lanes.c - records of a device: the training thread only launches, and what it launched ran on lanes of
 * its own, later.  The truth is that of made jobs (bench/made.h).
 */
#include "bench/base/rng.h"
#include "report/windows.h"
#include "tests/folders.h"
#include "tests/jobs.h"

#include <string.h>

enum { LANE_TRAIN, LANE_COMM, LANE_GPU, LANE_COPY };

#define LAUNCH (MS / 10)

static struct job *device_job(int ranks)
{
	struct job *j = job_new(ranks);

	j->plan.device = true;
	j->plan.launch = LAUNCH;
	return j;
}

/* From the start of unpacking to the end of the optimiser, with nobody late. */
static int64_t work_ns(const struct made *m)
{
	return m->launch + m->bcast + m->fwd + m->buckets * m->bwd + m->wire + m->opt;
}

static const struct event *event_of(const struct record *rec, enum span_id id, int lane, uint32_t iter)
{
	for (size_t i = 0; i < rec->event_count; i++)
		if (rec->events[i].name == (uint32_t)id && rec->events[i].lane == lane && rec->events[i].iter == iter)
			return &rec->events[i];
	fail_msg("no %s of iteration %u on lane %d", span_rows[id].name, iter, lane);
	return NULL;
}

/* ---- where time goes ------------------------------------------------------------------- */

static void the_parts_of_a_device_are_those_of_the_same_job_on_a_host_but_for_launches_and_what_they_hide(void **state)
{
	static const enum event_class same[] = { CLS_COMPUTE_FWD, CLS_COMPUTE_BWD, CLS_COMPUTE_OPT, CLS_COMPUTE_OTHER, CLS_COMM_WAIT };

	(void)state;
	for (int buckets = 1; buckets < 5; buckets++) {
		struct job *host = job_new(3), *device = device_job(3);
		const struct made *m = &device->plan;

		host->plan.buckets = device->plan.buckets = buckets;
		job_run(host);
		job_run(device);
		for (int r = 0; r < 3; r++) {
			const int64_t *parts = device->whole[r].parts_ns;

			for (size_t i = 0; i < ARRAY_LEN(same); i++)
				assert_int_equal(parts[same[i]], host->whole[r].parts_ns[same[i]]);
			/* the loss is averaged beside backward */
			assert_int_equal(parts[CLS_COMM_WIRE], host->whole[r].parts_ns[CLS_COMM_WIRE] - 10 * m->loss_wire);
			/* of loading, copying and launching only the first time is not behind the device's work; unpacking always is */
			assert_int_equal(parts[CLS_BOUNDARY_WORKERS], m->boundary);
			assert_int_equal(parts[CLS_LOADER], m->first_load);
			assert_int_equal(parts[CLS_LAUNCH], m->launch);
			assert_int_equal(parts[CLS_COPY], m->copy + 10 * m->launch);
			assert_int_equal(account_ns(&device->whole[r]),
					 m->boundary + m->first_load + m->launch + m->copy + 10 * work_ns(m));
		}
		job_free(host);
		job_free(device);
	}
}

static void what_the_host_launches_is_no_compute_and_idle_time_of_the_device_meanwhile_is_launching(void **state)
{
	struct job *calm = device_job(2), *slow = device_job(2);

	(void)state;
	for (int r = 0; r < 2; r++)
		slow->late[slow->late_count++] = (struct late){ (enum span_id)MADE_LAUNCH, r, 5, 10, 300 * MS };
	job_run(calm);
	job_run(slow);
	for (int r = 0; r < 2; r++) {
		int64_t more = slow->whole[r].parts_ns[CLS_LAUNCH] - calm->whole[r].parts_ns[CLS_LAUNCH];

		assert_int_equal(slow->whole[r].parts_ns[CLS_COMPUTE_FWD], 10 * slow->plan.fwd);
		assert_int_equal(slow->whole[r].parts_ns[CLS_COMPUTE_BWD], 10 * slow->plan.bwd);
		assert_int_equal(more, account_ns(&slow->whole[r]) - account_ns(&calm->whole[r]));
		assert_true(more > 5 * (300 * MS - work_ns(&slow->plan)) && more < 5 * 300 * MS);
	}
	job_free(calm);
	job_free(slow);
}

static void a_loader_stalls_only_where_the_device_has_nothing_to_do(void **state)
{
	struct job *j = device_job(1);
	const struct made *m = &j->plan;
	int64_t beside;		/* loads begin behind the loss and the log, while the device goes on */

	(void)state;
	j->plan.epochs = 1;
	j->plan.load = 90 * MS;
	job_run(j);
	beside = m->bwd + m->wire + m->opt - m->loss_wire - m->log;
	assert_int_equal(j->whole[0].parts_ns[CLS_LOADER], m->first_load + 4 * (m->load - beside));
	job_free(j);
}

/* ---- collectives ----------------------------------------------------------------------- */

static int64_t random_delay(const void *context, int rank, int iteration, enum span_id id)
{
	struct rng rng;

	(void)context;
	rng_init(&rng, (uint64_t)id + 100 * (uint64_t)iteration, (uint64_t)rank);
	return rng_below(&rng, 4) ? 0 : rng_below(&rng, 20 * MS);
}

static void wait_and_wire_are_those_of_the_plan(void **state)
{
	(void)state;
	for (int buckets = 1; buckets < 5; buckets++) {
		struct job *j = device_job(5);

		j->plan.buckets = buckets;
		j->plan.delay = random_delay;
		job_run(j);
		assert_int_equal(splits(j, SPLIT_CLOCKED), j->match.count);
		assert_int_equal(j->match.count, 10 * (buckets + 2));
		for (size_t i = 0; i < j->match.count; i++) {
			const struct collective *c = &j->match.list[i];
			int64_t wire = c->name == SPAN_ALLREDUCE ? j->plan.wire + random_delay(NULL, 0, (int)c->iter, SPAN_ALLREDUCE)
				     : j->plan.loss_wire + random_delay(NULL, 0, (int)c->iter, SPAN_LOSS_ALLREDUCE);

			assert_int_equal(c->lane, c->name == SPAN_LOSS_ALLREDUCE ? LANE_TRAIN : LANE_COMM);
			for (size_t r = 0; r < 5 && c->name != SPAN_BCAST_BN; r++) {
				struct stay s = match_stay(&j->match, c, r);

				assert_int_equal(s.end_ns - s.begin_ns - match_wait_ns(&j->match, c, r), wire);
			}
		}
		job_free(j);
	}
}

/* Stamps of devices are worse than a host's: what they may be apart is no contradiction, and is said with the waits. */
static void stamps_of_devices_may_be_apart_by_what_they_are_wrong(void **state)
{
	static const int64_t wrong_ns[] = { 0, 2000 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(wrong_ns); i++) {
		struct job *j = device_job(2);
		size_t contradictions;

		j->plan.wire = 1000;
		j->shift[1] = 3000;
		j->late[j->late_count++] = (struct late){ SPAN_FWD, 1, 0, 10, MS };
		j->device_ns = wrong_ns[i];
		job_run(j);
		contradictions = (size_t)splits(j, SPLIT_CONTRADICTION);
		assert_true(wrong_ns[i] ? contradictions == 0 : contradictions >= 10);
		for (size_t k = 0; k < j->match.count; k++)
			assert_int_equal(j->match.list[k].bound_ns, j->match.list[k].lane == LANE_COMM ? 2 * wrong_ns[i] : 0);
		job_free(j);
	}
}

/* ---- blame ----------------------------------------------------------------------------- */

/* The others wait as long as the device of the late rank is late, and all of it is blamed on what made it late.  What a host
 * does has `slack` while its device still computes. */
static void a_late_rank_is_blamed_for_what_made_its_device_late(void **state)
{
	static const struct { enum span_id phase; enum cause cause; bool of_host; int64_t follow; } cases[] = {
		{ SPAN_LOAD, CAUSE_loader, true, 2 * MS + LAUNCH }, { SPAN_LOG, CAUSE_host, true, 6 * MS },
		{ (enum span_id)MADE_LAUNCH, CAUSE_host, true, 0 }, { SPAN_H2D, CAUSE_copy, true, 0 },
		{ SPAN_FWD, CAUSE_compute, false, 0 }, { SPAN_BWD, CAUSE_compute, false, 0 }, { SPAN_OPT, CAUSE_compute, false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (int who = 0; who < 4; who++)
			for (int way = 0; way < 16; way++) {
				struct job *j = device_job(4);
				int64_t late = way & 8 ? 200 * MS : 85 * MS, follows;

				j->plan.no_overlap = way & 1;
				j->plan.bcast_holds = way & 2;
				if (way & 4) {
					j->plan.buckets = 4;
					j->plan.bwd = 15 * MS;
					j->plan.wire = 2 * MS;
				}
				j->late[j->late_count++] = (struct late){ cases[i].phase, who, 1, 4, late };
				job_run(j);
				assert_int_equal(splits(j, SPLIT_CLOCKED), j->match.count);
				/* what comes behind a late host has nothing to hide behind either: it takes its usual time of an idle device */
				follows = 3 * cases[i].follow;
				for (int r = 0; r < 4; r++) {
					assert_int_equal(induced(j, r, who, -1), j->blame[r].wait_ns);
					assert_true(induced(j, r, who, cases[i].cause) + follows >= j->blame[r].wait_ns);
					if (r == who)
						assert_int_equal(j->blame[r].wait_ns, 0);
					else if (cases[i].of_host)
						assert_true(j->blame[r].wait_ns > 3 * (late - 80 * MS) && j->blame[r].wait_ns < 3 * late);
					else if (!(way & 4))	/* the loss may move meanwhile */
						assert_true(j->blame[r].wait_ns <= 3 * late && j->blame[r].wait_ns >= 3 * (late - j->plan.loss_wire));
				}
				job_free(j);
			}
}

/* Backward is shorter than what the forward of one rank takes more: the hosts of the others wait in the loss all-reduce, their
 * devices in the first bucket, and both are its forward. */
static void a_loss_all_reduce_beside_the_first_bucket_is_blamed_as_that_is(void **state)
{
	struct job *j = device_job(3);

	(void)state;
	j->plan.bwd = 10 * MS;
	j->late[j->late_count++] = (struct late){ SPAN_FWD, 1, 3, 4, 30 * MS };
	job_run(j);
	for (int r = 0; r < 3; r++) {
		assert_int_equal(j->blame[r].wait_ns, r == 1 ? 0 : 30 * MS - j->plan.loss_wire);	/* that moves meanwhile */
		assert_int_equal(induced(j, r, 1, CAUSE_compute), j->blame[r].wait_ns);
	}
	job_free(j);
}

/* Rank 0's host is late with everything behind the launches, long after the devices are done: the others wait in the loss
 * all-reduce.  Then it loads late as well, and they wait in the broadcast. */
static void a_host_that_comes_late_to_the_loss_all_reduce_is_blamed_as_host_and_for_its_loader_behind_it_as_loader(void **state)
{
	struct job *j = device_job(3);

	(void)state;
	j->late[j->late_count++] = (struct late){ SPAN_SYNC, 0, 3, 4, 400 * MS };
	j->late[j->late_count++] = (struct late){ SPAN_LOAD, 0, 4, 5, 20 * MS };
	job_run(j);
	for (int r = 1; r < 3; r++) {
		assert_int_equal(induced(j, r, 0, CAUSE_loader), 20 * MS);
		assert_true(induced(j, r, 0, CAUSE_host) > 300 * MS);
		assert_int_equal(induced(j, r, 0, CAUSE_host) + 20 * MS, j->blame[r].wait_ns);
	}
	job_free(j);
}

/* While the others wait for the host of rank 1, rank 2 computes longer: both keep them, one after the other. */
static void a_late_host_and_a_late_device_are_told_apart(void **state)
{
	struct job *j = device_job(4);

	(void)state;
	j->late[j->late_count++] = (struct late){ SPAN_SYNC, 1, 3, 4, 400 * MS };
	j->late[j->late_count++] = (struct late){ SPAN_BWD, 2, 3, 4, 50 * MS };
	job_run(j);
	for (int r = 0; r < 4; r += 3) {
		assert_int_equal(induced(j, r, 2, CAUSE_compute), 50 * MS);
		assert_int_equal(induced(j, r, 1, CAUSE_host) + 50 * MS, j->blame[r].wait_ns);
	}
	job_free(j);
}

static void two_late_ranks_are_told_apart(void **state)
{
	struct job *j = device_job(4);

	(void)state;
	j->late[j->late_count++] = (struct late){ SPAN_LOAD, 0, 2, 3, 200 * MS };
	j->late[j->late_count++] = (struct late){ SPAN_FWD, 3, 2, 3, 50 * MS };
	job_run(j);
	for (int r = 1; r < 3; r++) {
		assert_int_equal(induced(j, r, 3, CAUSE_compute), 50 * MS);
		assert_int_equal(induced(j, r, 0, -1) + 50 * MS, j->blame[r].wait_ns);
		assert_true(induced(j, r, 0, CAUSE_loader) + j->plan.copy + j->plan.launch >= induced(j, r, 0, -1));
	}
	assert_int_equal(induced(j, 3, 0, -1), j->blame[3].wait_ns);
	assert_int_equal(induced(j, 0, 3, CAUSE_compute), 50 * MS);
	job_free(j);
}

static void with_random_delays_every_wait_is_blamed_and_hardly_any_on_nothing_known(void **state)
{
	(void)state;
	for (int buckets = 1; buckets < 6; buckets++) {
		struct job *j = device_job(5);

		j->plan.buckets = buckets;
		j->plan.delay = random_delay;
		job_run(j);
		for (int r = 0; r < 5; r++) {
			assert_true(induced(j, r, -1, -1) == j->blame[r].wait_ns);
			assert_true(j->blame[r].wait_ns == j->whole[r].parts_ns[CLS_COMM_WAIT]);
			assert_true(induced(j, r, r, -1) <= j->blame[r].wait_ns / 20);
			assert_int_equal(induced(j, r, -1, CAUSE_unknown), 0);
			/* delays are shorter than what hosts are ahead */
			assert_true(induced(j, r, -1, CAUSE_compute) > j->blame[r].wait_ns * 19 / 20);
		}
		job_free(j);
	}
}

/* ---- boundaries and reports ------------------------------------------------------------ */

static void a_boundary_ends_with_the_optimiser_of_the_device_wherever_that_lies_in_the_file(void **state)
{
	struct job *j = device_job(2);
	struct rank_windows w;
	struct ledger ledger;
	struct marks marks;
	const struct record *rec = &j->records[1];
	int64_t sum = 0;

	(void)state;
	j->plan.boundary = 300 * MS;
	job_run(j);
	assert_int_equal(marks_make(&marks, rec), OK);
	assert_int_equal(marks.iterations, 10);
	assert_int_equal(ledger_make(&ledger, rec->events, rec->event_count, &j->match, 1, marks.cuts[0], marks.cuts[marks.windows]), OK);
	assert_int_equal(windows_make(&w, &marks, rec, &ledger), OK);
	assert_int_equal(w.stretch_count, 2);
	assert_int_equal(w.stretches[0].iteration, 0);
	assert_int_equal(w.stretches[0].length_ns, event_of(rec, SPAN_OPT, LANE_GPU, 0)->t1 - event_of(rec, SPAN_EPOCH_BEGIN, LANE_TRAIN, 0)->t0);
	assert_int_equal(w.stretches[1].iteration, 5);
	assert_int_equal(w.stretches[1].length_ns, event_of(rec, SPAN_OPT, LANE_GPU, 5)->t1 - event_of(rec, SPAN_OPT, LANE_GPU, 4)->t1);
	/* Workers started while the device still worked cost nothing; nor is the batch of the second iteration the first one. */
	assert_int_equal(w.stretches[1].parts_ns[PART_START],
			 event_of(rec, SPAN_WORKERS_START, LANE_TRAIN, 5)->t1 - event_of(rec, SPAN_OPT, LANE_GPU, 4)->t1);
	assert_int_equal(w.stretches[1].parts_ns[PART_FIRST_BATCH], j->plan.first_load);
	for (int part = 0; part < PART_COUNT; part++)
		sum += w.stretches[1].parts_ns[part];
	assert_int_equal(sum, w.stretches[1].length_ns);
	windows_release(&w);
	ledger_release(&ledger);
	job_free(j);
}

static const cJSON *row_of(const cJSON *summary, const char *table, const char *field, const char *word)
{
	const cJSON *row, *rows = cJSON_GetObjectItem(cJSON_GetObjectItem(cJSON_GetObjectItem(summary, "tables"), table), "rows");

	cJSON_ArrayForEach(row, rows)
		if (!strcmp(json_string(row, field, ""), word))
			return row;
	fail_msg("no %s in %s", word, table);
	return NULL;
}

static void the_report_of_a_device_says_what_it_did_and_what_it_was_idle_for(void **state)
{
	struct job *j = device_job(4);
	struct made plan = j->plan;
	const cJSON *row;
	cJSON *summary;
	size_t events;
	int64_t idle;

	plan.delay = NULL;
	plan.shift = NULL;
	plan.boundary = 300 * MS;
	assert_int_equal(made_folder_write(*state, &plan, 2, &events), OK);
	summary = report_of(*state);
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(cJSON_GetObjectItem(summary, "identity"), "parts_equal_wall")));
	row = row_of(summary, "breakdown", "scope", "steady, by work");
	near(row, "iteration_ms", 1e-6 * (double)work_ns(&plan));
	near(row, "bwd_ms", 1e-6 * (double)plan.bwd);
	near(row, "loader_ms", 0);
	row = row_of(summary, "breakdown", "scope", "steady");
	near(row, "loader_ms", 0);
	near(row, "other_ms", 0);
	/* The host is in its boundary while the device still computes: that is no boundary. */
	row = row_of(summary, "breakdown", "scope", "whole run");
	near(row, "fwd_ms", 1e-6 * (double)plan.fwd);
	near(row, "bwd_ms", 1e-6 * (double)plan.bwd);
	near(row, "opt_ms", 1e-6 * (double)plan.opt);
	idle = plan.boundary + plan.first_load + plan.launch + plan.copy;	/* between the last optimiser and the first unpacking */
	idle += plan.log + plan.loss_wire - plan.bwd - plan.wire - plan.opt;
	row = row_of(summary, "boundary", "kind", "boundary");
	near(row, "cost_ms", 1e-6 * (double)idle);
	cJSON_Delete(summary);
	job_free(j);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_parts_of_a_device_are_those_of_the_same_job_on_a_host_but_for_launches_and_what_they_hide),
		cmocka_unit_test(what_the_host_launches_is_no_compute_and_idle_time_of_the_device_meanwhile_is_launching),
		cmocka_unit_test(a_loader_stalls_only_where_the_device_has_nothing_to_do),
		cmocka_unit_test(wait_and_wire_are_those_of_the_plan),
		cmocka_unit_test(stamps_of_devices_may_be_apart_by_what_they_are_wrong),
		cmocka_unit_test(a_late_rank_is_blamed_for_what_made_its_device_late),
		cmocka_unit_test(a_loss_all_reduce_beside_the_first_bucket_is_blamed_as_that_is),
		cmocka_unit_test(a_host_that_comes_late_to_the_loss_all_reduce_is_blamed_as_host_and_for_its_loader_behind_it_as_loader),
		cmocka_unit_test(a_late_host_and_a_late_device_are_told_apart),
		cmocka_unit_test(two_late_ranks_are_told_apart),
		cmocka_unit_test(with_random_delays_every_wait_is_blamed_and_hardly_any_on_nothing_known),
		cmocka_unit_test(a_boundary_ends_with_the_optimiser_of_the_device_wherever_that_lies_in_the_file),
		IN_FOLDER(the_report_of_a_device_says_what_it_did_and_what_it_was_idle_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
