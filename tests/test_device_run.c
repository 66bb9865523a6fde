/*
 * tests/test_device_run.c - whole runs on a device that is emulated (tests/emulated/), whose streams go on when they like: what
 * training threads launch, what their devices did, and who waits for whom.
 *
 * Nothing here says how long anything takes on a GPU.
 */
#include "bench/base/record.h"
#include "bench/base/span.h"
#include "tests/shell.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_CUDA

static char folder[] = "/tmp/sfscale-device-XXXXXX";

enum { LANE_TRAIN, LANE_COMM, LANE_GPU, LANE_COPY, RANKS = 2, EPOCHS = 2, ITERATIONS = 3 };

static const char *build(void)
{
	const char *dir = getenv("SFSCALE_BUILD");

	return dir ? dir : "build";
}

static int make_folder(void **state)
{
	char line[PATH_BYTES], out[4096];

	(void)state;
	if (!mkdtemp(folder) || path_make(line, "data make %s/data --videos 3 --seconds 10", folder))
		return 1;
	return program(line, out, sizeof(out));
}

static int remove_folder(void **state)
{
	(void)state;
	return dir_remove(folder);
}

/* A job of RANKS ranks with their own GPUs, emulated; `environment` in front of it, `words` behind; into the folder `name`. */
static int job(const char *environment, const char *words, const char *name, char *out, size_t room)
{
	char line[PATH_BYTES];

	assert_int_equal(path_make(line, "export ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=1 FAKE_NCCL_DIR=%s; %s timeout -k 5 120 mpirun "
				   "--oversubscribe --bind-to none -n %d %s/emulated/sfscale run --data %s/data --net nano --epochs %d --iterations %d "
				   "--workers 1 --kernels cuda --precision fp32 --one-gpu --nccl %s/tests/fake_nccl.so --out %s/%s %s",
				   folder, environment, RANKS, build(), folder, EPOCHS, ITERATIONS, build(), folder, name, words), OK);
	return shell(line, out, room);
}

static void run_ok(const char *environment, const char *words, const char *name)
{
	char out[8192];

	if (job(environment, words, name, out, sizeof(out)))
		fail_msg("%s %s: %s", environment, words, out);
}

static cJSON *run_json(const char *name)
{
	char path[PATH_BYTES];
	cJSON *run;

	assert_int_equal(path_make(path, "%s/%s/run.json", folder, name), OK);
	assert_int_equal(json_read(path, &run), OK);
	return run;
}

static void record_of(const char *name, int rank, struct record *r)
{
	char path[PATH_BYTES];

	assert_int_equal(path_make(path, "%s/%s/rank-%05d.sfr", folder, name, rank), OK);
	assert_int_equal(record_read(path, r), OK);
}

/* The only span of its kind, or the last one before `before` where there are several. */
static const struct event *find(const struct record *r, enum span_id id, int lane, uint32_t iter)
{
	const struct event *found = NULL;

	for (size_t i = 0; i < r->event_count; i++) {
		const struct event *e = &r->events[i];

		if (e->name == (uint32_t)id && e->lane == lane && e->iter == iter)
			found = e;
	}
	if (!found)
		fail_msg("no %s of iteration %u on lane %d", span_rows[id].name, iter, lane);
	return found;
}

static void check_record(const struct record *r, int64_t bound_ns)
{
	/* What is launched once in an iteration, and where it runs. */
	static const struct { enum span_id id; int lane; } rows[] = {
		{ SPAN_H2D, LANE_COPY }, { SPAN_H2D, LANE_GPU }, { SPAN_BCAST_BN, LANE_COMM }, { SPAN_FWD, LANE_GPU },
		{ SPAN_LOSS, LANE_GPU }, { SPAN_BWD, LANE_GPU }, { SPAN_ALLREDUCE, LANE_COMM }, { SPAN_OPT, LANE_GPU },
	};
	int64_t end_ns = 0;

	for (uint32_t k = 0; k < EPOCHS * ITERATIONS; k++) {
		const struct event *loss = find(r, SPAN_LOSS, LANE_GPU, k), *sync = find(r, SPAN_SYNC, LANE_TRAIN, k);
		int64_t before_ns = 0;

		for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
			const struct event *did = find(r, rows[i].id, rows[i].lane, k);

			assert_int_equal(did->cls, span_rows[rows[i].id].cls);
			if (rows[i].id != SPAN_ALLREDUCE) {
				const struct event *launched = find(r, rows[i].id, LANE_TRAIN, k);

				assert_int_equal(launched->cls, CLS_LAUNCH);
				assert_int_equal(launched->kind, KIND_RANGE);
				assert_true(launched->t0 <= did->t0 + bound_ns);
			}
			/* One after the other, but for the copy of the batch, which the device may do ahead. */
			if (i) {
				assert_true(before_ns <= did->t0 + 2 * bound_ns);
				before_ns = did->t1;
			}
			end_ns = did->t1 > end_ns ? did->t1 : end_ns;
		}
		assert_true(loss->t1 <= sync->t1 + bound_ns);
	}
	assert_true(end_ns <= find(r, SPAN_RUN_END, LANE_TRAIN, EPOCHS * ITERATIONS)->t0 + bound_ns);
	for (size_t i = 0; i < r->event_count; i++)
		assert_true(r->events[i].lane != LANE_TRAIN || r->events[i].cls > CLS_COPY || r->events[i].name == SPAN_LOSS_ALLREDUCE);
}

static void what_is_launched_runs_on_the_device_in_order_and_is_recorded_there(void **state)
{
	static const char *const lanes[] = { "train", "comm", "gpu", "copy", "worker 0" };

	(void)state;
	run_ok("SFSCALE_EMULATED_LAZY=5", "", "lanes");
	for (int rank = 0; rank < RANKS; rank++) {
		const cJSON *names;
		struct record r;

		record_of("lanes", rank, &r);
		names = cJSON_GetObjectItem(r.head, "lanes");
		for (size_t i = 0; i < ARRAY_LEN(lanes); i++)
			assert_string_equal(cJSON_GetArrayItem(names, (int)i)->valuestring, lanes[i]);
		/* A tie's bracket is not what an emulated device is wrong by: its one thread may be interrupted. */
		check_record(&r, 1000000 + (int64_t)json_number(r.head, "device_bound_ns", NAN));
		record_release(&r);
	}
}

/* Loss by loss the same bits, whenever the device does what, and whether the host waits for each bucket. */
static void when_streams_go_on_changes_no_bit(void **state)
{
	static const struct { const char *environment, *words; } cases[] = {
		{ "SFSCALE_EMULATED_LAZY=0", "" },
		{ "SFSCALE_EMULATED_LAZY=3", "" },
		{ "SFSCALE_EMULATED_LAZY=3", "--graph off" },
		{ "SFSCALE_EMULATED_LAZY=18446744073709551615", "" },
		{ "SFSCALE_EMULATED_LAZY=18446744073709551615", "--overlap off" },
		{ "SFSCALE_EMULATED_LAZY=4", "--pixels uint8" },
		{ "SFSCALE_EMULATED_LAZY=18446744073709551615", "--policy fork --pixels uint8" },
	};
	char *first = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char name[16], *text;
		cJSON *run;

		snprintf(name, sizeof(name), "bits-%zu", i);
		run_ok(cases[i].environment, cases[i].words, name);
		run = run_json(name);
		text = cJSON_PrintUnformatted(cJSON_GetObjectItem(run, "results"));
		cJSON_Delete(run);
		if (first)
			assert_string_equal(text, first);
		else
			first = strdup(text);
		free(text);
	}
	free(first);
}

/* The host is far ahead, or waits for its own device, when another rank is gone. */
static void a_collective_that_never_ends_ends_the_run(void **state)
{
	static const struct { const char *environment, *words, *said; } cases[] = {
		{ "FAKE_NCCL_FAIL=1:7", "", "remote error: the cable was pulled" },
		{ "FAKE_NCCL_FAIL=1:7", "--overlap off", "remote error: the cable was pulled" },
		{ "FAKE_NCCL_FAIL=1:2 SFSCALE_EMULATED_LAZY=18446744073709551615", "", "remote error: the cable was pulled" },
		{ "FAKE_NCCL_STOP=1:7", "--nccl-timeout-s 1", "not done after 1 s (--nccl-timeout-s)" },
		{ "FAKE_NCCL_STOP=1:7", "--nccl-timeout-s 1 --overlap off", "not done after 1 s (--nccl-timeout-s)" },
	};
	char out[8192];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char name[16];
		int rc;

		snprintf(name, sizeof(name), "gone-%zu", i);
		rc = job(cases[i].environment, cases[i].words, name, out, sizeof(out));
		if (rc != 4 || !strstr(out, cases[i].said))
			fail_msg("%s %s: exit %d: %s", cases[i].environment, cases[i].words, rc, out);
	}
}

/* The newest checkpoint of a run, whole. */
static char *checkpoint(const char *name, int epochs, size_t *bytes)
{
	char path[PATH_BYTES], *text = NULL;

	assert_int_equal(path_make(path, "%s/%s/checkpoints/checkpoint_epoch_%05d.safetensors", folder, name, epochs), OK);
	if (access(path, F_OK))
		return NULL;
	assert_int_equal(file_read(path, &text, bytes), OK);
	return text;
}

/* What stands behind an epoch waits for all of it; and a run that goes on from there goes on with the same bits. */
static void checkpoints_and_validations_are_of_whole_epochs(void **state)
{
	static const struct { const char *environment, *words; } cases[] = {
		{ "SFSCALE_EMULATED_LAZY=0", "--checkpoint-period 1 --eval-period 1 --eval-seconds 1" },
		{ "SFSCALE_EMULATED_LAZY=18446744073709551615", "--checkpoint-period 1 --eval-period 1 --eval-seconds 1 --eval-frames whole" },
		{ "SFSCALE_EMULATED_LAZY=8", "--checkpoint-period 1 --resume %s/first/checkpoints/checkpoint_epoch_00001.safetensors" },
	};
	char *first = NULL;
	size_t first_bytes = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *name = i ? "again" : "first";
		char words[PATH_BYTES], *text, *tensors;
		size_t bytes;

		assert_true(snprintf(words, sizeof(words), cases[i].words, folder) < (int)sizeof(words));
		run_ok(cases[i].environment, words, name);
		text = checkpoint(name, EPOCHS, &bytes);
		assert_non_null(text);
		/* In front of the tensors stands what is known of the run. */
		first_bytes = first ? first_bytes : bytes * 9 / 10;
		tensors = text + bytes - first_bytes;
		if (first)
			assert_memory_equal(tensors, first, first_bytes);
		else
			first = memcpy(malloc(first_bytes), tensors, first_bytes);
		free(text);
		if (i) {
			assert_int_equal(path_make(words, "%s/again", folder), OK);
			assert_int_equal(dir_remove(words), OK);
		}
	}
	free(first);
}

/* The tenth and the eleventh collective are the buckets of the first epoch's last iteration: two broadcasts of the state, then in each
 * iteration one of the running statistics and two buckets. */
static void an_epoch_whose_last_sum_failed_leaves_no_checkpoint(void **state)
{
	char out[8192];

	(void)state;
	for (int nth = 10; nth <= 11; nth++) {
		char environment[64], name[16];
		size_t bytes;
		int rc;

		snprintf(environment, sizeof(environment), "FAKE_NCCL_FAIL=0:%d", nth);
		snprintf(name, sizeof(name), "unsaved-%d", nth);
		rc = job(environment, "--checkpoint-period 1", name, out, sizeof(out));
		if (rc != 4 || !strstr(out, "the cable was pulled"))
			fail_msg("%s: exit %d: %s", environment, rc, out);
		assert_null(checkpoint(name, 1, &bytes));
	}
}

static double last_loss(const char *name)
{
	cJSON *run = run_json(name);
	double loss = json_number(cJSON_GetArrayItem(cJSON_GetObjectItem(cJSON_GetObjectItem(run, "results"), "epochs"), EPOCHS - 1), "loss", NAN);

	cJSON_Delete(run);
	return loss;
}

static uint64_t bytes_reduced(const char *name)
{
	struct record r;
	uint64_t bytes = 0;

	record_of(name, 0, &r);
	for (size_t i = 0; i < r.event_count; i++)
		bytes += r.events[i].name == SPAN_ALLREDUCE ? r.events[i].arg : 0;
	record_release(&r);
	return bytes;
}

static void gradients_in_bf16_are_half_the_bytes_and_nearly_the_same_step(void **state)
{
	double off;

	(void)state;
	run_ok("SFSCALE_EMULATED_LAZY=6", "", "wide");
	run_ok("SFSCALE_EMULATED_LAZY=6", "--gradients bf16", "narrow");
	off = fabs(last_loss("wide") - last_loss("narrow")) / last_loss("wide");
	assert_true(off > 0 && off < 1e-3);
	assert_int_equal(bytes_reduced("wide"), 2 * bytes_reduced("narrow"));
}

/* Two processes that stand for two ranks each, and one that stands for four. */
static void steps_in_parts_are_those_of_as_many_ranks(void **state)
{
	char line[PATH_BYTES], out[8192];

	(void)state;
	run_ok("SFSCALE_EMULATED_LAZY=9", "--emulate-ranks 2", "parts-2");
	assert_int_equal(path_make(line, "%s/emulated/sfscale run --data %s/data --net nano --epochs %d --iterations %d --workers 1 --kernels cuda "
				   "--precision fp32 --emulate-ranks 4 --out %s/parts-4", build(), folder, EPOCHS, ITERATIONS, folder), OK);
	if (shell(line, out, sizeof(out)))
		fail_msg("%s", out);
	assert_true(fabs(last_loss("parts-2") - last_loss("parts-4")) < 1e-5 * last_loss("parts-2"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_launched_runs_on_the_device_in_order_and_is_recorded_there),
		cmocka_unit_test(when_streams_go_on_changes_no_bit),
		cmocka_unit_test(a_collective_that_never_ends_ends_the_run),
		cmocka_unit_test(checkpoints_and_validations_are_of_whole_epochs),
		cmocka_unit_test(an_epoch_whose_last_sum_failed_leaves_no_checkpoint),
		cmocka_unit_test(gradients_in_bf16_are_half_the_bytes_and_nearly_the_same_step),
		cmocka_unit_test(steps_in_parts_are_those_of_as_many_ranks),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

#else

static void a_device_is_emulated(void **state)
{
	(void)state;
	print_message("SKIP: built without CUDA's headers\n");
	skip();
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(a_device_is_emulated) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
