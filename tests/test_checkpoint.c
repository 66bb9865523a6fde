/*
 * tests/test_checkpoint.c - a run that stops and goes on is the run that did not stop.
 */
#include "bench/checkpoint.h"
#include "kernels/weights.h"
#include "tests/shell.h"

#include <glob.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static char work[] = "/tmp/sfscale-checkpoint-XXXXXX", said[1 << 14];

#define TRAIN "run --data %s/data --net nano --clips 1 --iterations 2 --lr 0.5 --lr-clips 0 --threads 1 --log-period 0 "

/* `words` with the folder of this test for its %s; what the program says goes to `said`. */
static int sfscale(const char *launcher, const char *words, ...)
{
	const char *build = getenv("SFSCALE_BUILD");
	char line[PATH_BYTES], filled[PATH_BYTES];
	va_list args;

	va_start(args, words);
	vsnprintf(filled, sizeof(filled), words, args);
	va_end(args);
	assert_int_equal(path_make(line, "%s %s/sfscale %s", launcher, build ? build : "build", filled), OK);
	return shell(line, said, sizeof(said));
}

static int make_data(void **state)
{
	(void)state;
	setenv("ASAN_OPTIONS", "detect_leaks=0", 1);	/* Open MPI leaks at its end */
	setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
	setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
	return !mkdtemp(work) || sfscale("", "data make %s/data --videos 2 --seconds 5 --width 64 --height 64", work);
}

static int remove_all(void **state)
{
	(void)state;
	return dir_remove(work);
}

static void file_of(char path[PATH_BYTES], const char *run, size_t epochs)
{
	assert_int_equal(path_make(path, "%s/%s/" CHECKPOINT_FOLDER "/" CHECKPOINT_FILE, work, run, epochs), OK);
}

/* Tensors and epoch; the options name the folders, so the files differ there. */
static void assert_same_bits(const char *a_run, const char *b_run, size_t epochs)
{
	struct safetensors a, b;
	char path[PATH_BYTES];

	file_of(path, a_run, epochs);
	assert_int_equal(safetensors_open(&a, path), OK);
	file_of(path, b_run, epochs);
	assert_int_equal(safetensors_open(&b, path), OK);
	assert_string_equal(safetensors_text(&a, "epoch"), safetensors_text(&b, "epoch"));
	assert_int_equal(a.count, 662 + 332);
	assert_int_equal(a.count, b.count);
	for (size_t i = 0; i < a.count; i++) {
		size_t bytes = safetensor_bytes(&a.tensors[i]);
		void *x = malloc(bytes), *y = malloc(bytes);

		assert_string_equal(a.tensors[i].name, b.tensors[i].name);
		assert_int_equal(bytes, safetensor_bytes(&b.tensors[i]));
		assert_int_equal(safetensors_read(&a, &a.tensors[i], x), OK);
		assert_int_equal(safetensors_read(&b, &b.tensors[i], y), OK);
		assert_memory_equal(x, y, bytes);
		free(x);
		free(y);
	}
	safetensors_close(&a);
	safetensors_close(&b);
}

static cJSON *read_run(const char *run)
{
	char path[PATH_BYTES];
	cJSON *o;

	assert_int_equal(path_make(path, "%s/%s/run.json", work, run), OK);
	assert_int_equal(json_read(path, &o), OK);
	return o;
}

static cJSON *epochs_of(cJSON *run)
{
	return cJSON_GetObjectItem(cJSON_GetObjectItem(run, "results"), "epochs");
}

static void a_run_that_goes_on_ends_with_the_same_bits(void **state)
{
	static const struct { const char *launcher, *policy; } cases[] = {
		{ "", "threads" },
		{ "", "inline" },
		{ "mpirun --oversubscribe -n 2", "persistent" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *launcher = cases[i].launcher, *policy = cases[i].policy;
		char names[2][16];
		cJSON *whole, *rest;

		assert_int_equal(sfscale(launcher, TRAIN "--epochs 3 --checkpoint-period 1 --policy %s --out %s/whole%zu",
					 work, policy, work, i), 0);
		assert_int_equal(sfscale(launcher, TRAIN "--epochs 1 --checkpoint-period 1 --policy %s --out %s/begun%zu",
					 work, policy, work, i), 0);
		assert_int_equal(sfscale(launcher, TRAIN "--epochs 3 --checkpoint-period 5 --policy %s --out %s/rest%zu "
					 "--resume %s/begun%zu", work, policy, work, i, work, i), 0);
		assert_null(strstr(said, "not begun"));
		snprintf(names[0], sizeof(names[0]), "whole%zu", i);
		snprintf(names[1], sizeof(names[1]), "rest%zu", i);
		assert_same_bits(names[0], names[1], 3);
		whole = read_run(names[0]);
		rest = read_run(names[1]);
		assert_true(json_number(cJSON_GetObjectItem(rest, "step"), "first_epoch", 0) == 1);
		assert_int_equal(cJSON_GetArraySize(epochs_of(rest)), 2);
		for (int e = 0; e < 2; e++)	/* the same samples, and the same loss */
			assert_true(cJSON_Compare(cJSON_GetArrayItem(epochs_of(rest), e), cJSON_GetArrayItem(epochs_of(whole), e + 1),
						  true));
		cJSON_Delete(whole);
		cJSON_Delete(rest);
	}
}

/* It is read like any other run: windows, boundaries, the checkpoint as a part of them. */
static void checkpoints_are_part_of_the_boundary(void **state)
{
	(void)state;
	assert_int_equal(sfscale("", TRAIN "--epochs 3 --checkpoint-period 1 --out %s/told", work, work), 0);
	assert_int_equal(sfscale("", "report %s/told --table boundary", work), 0);
	assert_non_null(strstr(said, "ckpt_ms"));
	assert_int_equal(sfscale("", "report %s/told --out %s/told-report", work, work), 0);
	assert_int_equal(sfscale("", TRAIN "--epochs 4 --resume %s/told --out %s/told-on", work, work, work), 0);
	assert_int_equal(sfscale("", "report %s/told-on --out %s/told-on-report", work, work), 0);
}

static void other_options_are_named(void **state)
{
	cJSON *run, *warnings;

	(void)state;
	assert_int_equal(sfscale("", TRAIN "--epochs 1 --checkpoint-period 1 --out %s/then", work, work), 0);
	assert_int_equal(sfscale("", TRAIN "--epochs 2 --momentum 0.8 --policy inline --resume %s/then --out %s/now", work, work, work), 0);
	assert_non_null(strstr(said, "not begun: momentum 0.9 is now 0.8\n"));
	run = read_run("now");
	warnings = cJSON_GetObjectItem(run, "warnings");
	assert_non_null(strstr(cJSON_GetArrayItem(warnings, cJSON_GetArraySize(warnings) - 1)->valuestring, "momentum 0.9 is now 0.8"));
	cJSON_Delete(run);
}

/* Of two texts of options; the second is that of the run which goes on. */
static void only_what_results_depend_on_is_a_change(void **state)
{
	static const struct { const char *then, *now, *says; } cases[] = {
		{ "{\"lr\":0.1,\"out\":\"a\"}", "{\"lr\":0.1,\"out\":\"b\"}", NULL },
		{ "{\"lr\":0.1,\"seed\":1}", "{\"lr\":0.2,\"seed\":2}", "lr 0.1 is now 0.2, seed 1 is now 2" },
		{ "{\"hang-s\":8,\"emulate-storage-ms\":0}", "{\"hang-s\":9,\"emulate-storage-ms\":1}", NULL },
		{ "{\"epochs\":2,\"multigrid\":\"off\"}", "{\"epochs\":3,\"multigrid\":\"off\"}", NULL },
		{ "{\"epochs\":2,\"multigrid\":\"long\"}", "{\"epochs\":3,\"multigrid\":\"long\"}", "epochs 2 is now 3" },
		{ "[1]", "{\"lr\":0.1}", "it does not say" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct checkpoint c = { .options = cJSON_Parse(cases[i].then) };
		cJSON *now = cJSON_Parse(cases[i].now);
		char *says = checkpoint_changes(&c, now);

		assert_true(cases[i].says ? says && strstr(says, cases[i].says) : !says);
		free(says);
		cJSON_Delete(now);
		checkpoint_release(&c);
	}
}

static void what_is_no_checkpoint_is_refused_by_name(void **state)
{
	static const struct { const char *make, *resume, *more, *words; int exit; } cases[] = {
		{ "true", "absent", "", "absent", 2 },
		{ "mkdir $W/empty", "empty", "", "has no checkpoints", 2 },
		{ "mkdir -p $W/half/checkpoints; touch $W/half/checkpoints/checkpoint_epoch_00001.safetensors.tmp", "half", "",
		  "no checkpoint that is whole", 2 },
		{ "head -c 5000 $W/good/checkpoints/checkpoint_epoch_00001.safetensors > $W/cut", "cut", "", "cut", 2 },
		{ "true", "good", "--net tiny", "missing, or of another shape", 2 },
		{ "true", "good", "--epochs 1", "leaves none to do", 1 },
	};

	(void)state;
	setenv("W", work, 1);
	assert_int_equal(sfscale("", TRAIN "--epochs 1 --checkpoint-period 1 --out %s/good", work, work), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(shell(cases[i].make, said, sizeof(said)), 0);
		assert_int_equal(sfscale("", TRAIN "--epochs 2 --out %s/never --resume %s/%s %s", work, work, work, cases[i].resume,
					 cases[i].more), cases[i].exit);
		if (!strstr(said, cases[i].words))
			fail_msg("looked for '%s' in: %s", cases[i].words, said);
	}
}

/* A killed run, at any moment: whatever bears the name of a checkpoint is one, and the run can go on from it. */
static void a_kill_at_any_moment_leaves_the_last_good_one(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		char line[PATH_BYTES], pattern[PATH_BYTES];
		struct safetensors f;
		glob_t found;

		/* Waits for the first checkpoint, then a little, each time another. */
		assert_int_equal(path_make(line, "rm -rf %s/killed; ${SFSCALE_BUILD:-build}/sfscale run --data %s/data --net nano --iterations 1 "
				 "--threads 1 --log-period 0 --epochs 100000 --checkpoint-period 1 --policy inline --out %s/killed & "
				 "p=$!; until ls %s/killed/checkpoints/*rs >/dev/null 2>&1; do sleep 0.01; done; sleep 0.%d; "
				 "kill -9 $p; wait $p", work, work, work, work, 3 * i + 1), OK);
		assert_int_equal(shell(line, said, sizeof(said)), 128 + SIGKILL);
		assert_int_equal(path_make(pattern, "%s/killed/" CHECKPOINT_FOLDER "/*.safetensors", work), OK);
		assert_int_equal(glob(pattern, 0, NULL, &found), 0);
		for (size_t k = 0; k < found.gl_pathc; k++) {
			assert_int_equal(safetensors_open(&f, found.gl_pathv[k]), OK);
			assert_int_equal(f.count, 662 + 332);
			safetensors_close(&f);
		}
		assert_int_equal(sfscale("", TRAIN "--epochs %zu --iterations 1 --resume %s/killed --out %s/on%d", work,
					 found.gl_pathc + 1, work, work, i), 0);
		globfree(&found);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_run_that_goes_on_ends_with_the_same_bits),
		cmocka_unit_test(checkpoints_are_part_of_the_boundary),
		cmocka_unit_test(other_options_are_named),
		cmocka_unit_test(only_what_results_depend_on_is_a_change),
		cmocka_unit_test(what_is_no_checkpoint_is_refused_by_name),
		cmocka_unit_test(a_kill_at_any_moment_leaves_the_last_good_one),
	};

	return cmocka_run_group_tests(tests, make_data, remove_all);
}
