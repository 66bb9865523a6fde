/*
 * tests/test_multigrid.c - multigrid training: the plan, batches and networks that change their shape, and runs.
 */
#include "bench/base/folder.h"
#include "bench/multigrid.h"
#include "kernels/kernels.h"
#include "loader/loader.h"
#include "tests/folders.h"
#include "tests/shell.h"

static char *work;
static char said[1 << 16];

static int make_data(void **state)
{
	char words[PATH_BYTES];

	(void)state;
	setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
	if (folder_make((void **)&work) ||
	    path_make(words, "data make %s/data --videos 3 --seconds 10 --width 64 --height 64 --val-videos 1", work))
		return -1;
	return program(words, said, sizeof(said));
}

static int remove_all(void **state)
{
	(void)state;
	return folder_remove((void **)&work);
}

/* ---- the plan -------------------------------------------------------------------------- */

struct phase {
	size_t epoch, frames, crop, times[3];
	double factor;
};

static void assert_plan(bool short_cycle, const struct phase *want, size_t count)
{
	struct schedule s = schedule_ava;
	struct multigrid m;

	assert_int_equal(multigrid_plan(&m, &s, 20, 32, 224, short_cycle), OK);
	assert_int_equal(m.epochs, 30);
	assert_int_equal(m.phase_count, count);
	assert_int_equal(s.step_count, count);
	for (size_t i = 0; i < count; i++) {
		const struct multigrid_phase *p = &m.phases[i];

		assert_int_equal(p->epoch, want[i].epoch);
		assert_int_equal(p->frames, want[i].frames);
		assert_int_equal(p->turns[p->turn_count - 1].crop, want[i].crop);
		assert_int_equal(p->turn_count, short_cycle ? 3 : 1);
		for (size_t k = 0; k < p->turn_count; k++)
			assert_int_equal(p->turns[k].times, want[i].times[k]);
		if (short_cycle)
			assert_true(p->turns[0].crop == 112 && p->turns[1].crop == 160);
		assert_true(s.steps[i].epoch == (double)want[i].epoch);
		assert_true(fabs(s.steps[i].factor - want[i].factor) < 1e-12);
		assert_ptr_equal(multigrid_at(&m, want[i].epoch), p);
	}
}

/* The rule of PySlowFast for steps at 10 and 15 of 20 epochs, worked out apart from this program. */
static void the_plan_for_ava_follows_the_rule(void **state)
{
	static const struct phase both[] = {
		{ 0, 8, 160, { 16, 8, 8 }, 8 }, { 8, 16, 160, { 8, 4, 4 }, 4 }, { 12, 16, 224, { 8, 4, 2 }, 2 },
		{ 16, 32, 224, { 4, 2, 1 }, 1 }, { 18, 8, 160, { 16, 8, 8 }, 0.8 }, { 22, 16, 160, { 8, 4, 4 }, 0.4 },
		{ 24, 16, 224, { 8, 4, 2 }, 0.2 }, { 26, 32, 224, { 4, 2, 1 }, 0.1 }, { 28, 32, 224, { 4, 2, 1 }, 0.01 },
	};
	static const struct phase lone[] = {
		{ 0, 8, 160, { 8 }, 8 }, { 10, 16, 160, { 4 }, 4 }, { 15, 16, 224, { 2 }, 2 }, { 17, 32, 224, { 1 }, 1 },
		{ 18, 8, 160, { 8 }, 0.8 }, { 23, 16, 160, { 4 }, 0.4 }, { 26, 16, 224, { 2 }, 0.2 },
		{ 27, 32, 224, { 1 }, 0.1 }, { 28, 32, 224, { 1 }, 0.1 }, { 29, 32, 224, { 1 }, 0.01 },
	};

	(void)state;
	assert_plan(true, both, ARRAY_LEN(both));
	assert_plan(false, lone, ARRAY_LEN(lone));
}

static void a_plan_needs_an_epoch_behind_the_last_step(void **state)
{
	struct schedule s = schedule_ava;
	struct multigrid m;

	(void)state;
	assert_int_equal(multigrid_plan(&m, &s, 15, 32, 224, false), USAGE);
	assert_non_null(strstr(err_last(), "15 epochs leave none behind the last step"));
}

/* ---- shapes that change ---------------------------------------------------------------- */

static void a_network_of_another_shape_takes_the_state_over(void **state)
{
	const struct kernel_backend *cpu = kernel_backend_find("cpu");
	struct net nets[2];
	struct kernels *k[2];
	float *a, *b;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(net_init(&nets[i], net_preset_find("nano"), i ? 16 : 8, i ? 96 : 64), OK);
		assert_int_equal(cpu->open(&k[i], &(struct kernel_config){ .net = &nets[i], .clips_max = 1, .boxes_max = 1,
									  .threads = 1, .seed = i }), OK);
	}
	a = malloc(nets[0].values * sizeof(*a));
	b = malloc(nets[0].values * sizeof(*b));
	assert_true(a && b);
	for (size_t i = 0; i < nets[0].values; i++)
		a[i] = (float)(i % 1000);
	assert_int_equal(cpu->set(k[0], STATE_MOMENTUM, 7, a), OK);
	assert_int_equal(cpu->set(k[0], STATE_VAR, 3, a), OK);
	k[0]->bn_batches[3] = 12;
	assert_int_equal(kernels_carry(k[0], k[1]), OK);
	for (size_t i = 0; i < nets[0].param_count; i++)
		for (enum state_kind kind = STATE_WEIGHT; kind <= STATE_MOMENTUM; kind++) {
			if (kind == STATE_GRAD)
				continue;
			assert_int_equal(cpu->get(k[0], kind, i, a), OK);
			assert_int_equal(cpu->get(k[1], kind, i, b), OK);
			assert_memory_equal(a, b, nets[0].params[i].count * sizeof(*a));
		}
	assert_memory_equal(k[0]->bn_state, k[1]->bn_state, nets[0].buffer_values * sizeof(float));
	assert_int_equal(k[1]->bn_batches[3], 12);
	for (size_t i = 0; i < 2; i++) {
		cpu->close(k[i]);
		net_release(&nets[i]);
	}
	free(a);
	free(b);
}

/* Small crops are what a loader of that crop alone delivers. */
static void batches_take_turns_in_their_crops(void **state)
{
	static const char *const policies[] = { "inline", "threads", "fork" };
	static const size_t crops[] = { 32, 48 }, batches[] = { 3, 1 };
	char data[PATH_BYTES];

	(void)state;
	assert_int_equal(path_make(data, "%s/data", work), OK);
	for (size_t p = 0; p < 2 * ARRAY_LEN(policies); p++) {
		struct loader_config config = {
			.data = data, .policy = policies[p / 2], .crops = p % 2, .workers = 2, .prefetch = 2, .clips = 2, .frames = 8, .alpha = 4,
			.rate = 2, .crop = 48, .scale_min = 54, .scale_max = 64, .seed = 5, .world = 1, .epochs = 2, .turn_count = 2 };
		struct loader *turns, *own[2];

		for (size_t i = 0; i < 2; i++)
			config.turns[i] = (struct loader_turn){ crops[i], crops[i] + 6, batches[i] };
		assert_int_equal(loader_open(&turns, &config), OK);
		assert_int_equal(loader_batches(turns), 15);
		assert_int_equal(loader_iterations(turns), 12);		/* whole rounds of 4 */
		config.turn_count = 0;
		config.policy = "inline";
		for (size_t i = 0; i < 2; i++) {
			config.crop = crops[i];
			config.scale_min = crops[i] + 6;
			config.iterations_max = 12;
			assert_int_equal(loader_open(&own[i], &config), OK);
		}
		for (size_t e = 0; e < 2; e++) {
			assert_int_equal(loader_epoch_begin(turns, e), OK);
			for (size_t i = 0; i < 2; i++)
				assert_int_equal(loader_epoch_begin(own[i], e), OK);
			for (size_t b = 0; b < loader_iterations(turns); b++) {
				size_t turn = b % 4 == 3;
				struct clip_batch got, want[2];

				assert_int_equal(loader_next(turns, &got), OK);
				for (size_t i = 0; i < 2; i++)
					assert_int_equal(loader_next(own[i], &want[i]), OK);
				assert_int_equal(got.bytes, want[turn].bytes);
				if (config.crops)
					assert_memory_equal(got.crops, want[turn].crops, got.bytes);
				else {
					assert_memory_equal(got.fast, want[turn].fast, 2 * 3 * 8 * crops[turn] * crops[turn] * sizeof(float));
					assert_memory_equal(got.slow, want[turn].slow, 2 * 3 * 2 * crops[turn] * crops[turn] * sizeof(float));
				}
				assert_memory_equal(got.rois, want[turn].rois, got.boxes * 5 * sizeof(float));
			}
		}
		for (size_t i = 0; i < 2; i++)
			loader_close(own[i]);
		loader_close(turns);
	}
}

/* ---- runs ------------------------------------------------------------------------------ */

static cJSON *run_of(const char *folder, const char *options)
{
	char words[PATH_BYTES], path[PATH_BYTES];
	cJSON *run, *summary;

	assert_int_equal(path_make(words, "run --net nano --clips 1 --threads 1 --epochs 16 --iterations 1 --log-period 0 --lr 0.01 "
				   "--lr-clips 0 --warmup-epochs 0 %s --out %s/%s", options, work, folder), OK);
	if (program(words, said, sizeof(said)))
		fail_msg("%s", said);
	assert_int_equal(path_make(path, "%s/%s", work, folder), OK);
	summary = report_of(path);	/* which would call a run damaged whose windows are not its iterations */
	assert_non_null(summary);
	cJSON_Delete(summary);
	assert_int_equal(path_make(path, "%s/%s/" FOLDER_RUN, work, folder), OK);
	assert_int_equal(json_read(path, &run), OK);
	assert_string_equal(json_string(run, "status", ""), "ok");
	return run;
}

/* 16 epochs become 24; the same rates whoever computes. */
static void a_run_changes_its_shape_and_its_rate_between_epochs(void **state)
{
	static const double rates[][24] = {
		{ 8, 8, 8, 8, 8, 8, 8, 8, 4, 4, 4, 4, 4, 2, 2, 1, .8, .8, .8, .8, .4, .4, .2, .1 },
		{ 8, 8, 8, 8, 8, 8, 8, 4, 4, 4, 4, 2, 2, 2, 1, 1, .8, .8, .8, .4, .4, .2, .2, .01 },
	};
	static const char *const options[] = {
		"--frames 32 --crop 128 --kernels null --policy null --multigrid long",
		"--frames 32 --crop 128 --kernels null --policy null --multigrid long+short",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		char folder[16];
		cJSON *run;

		snprintf(folder, sizeof(folder), "null%zu", i);
		run = run_of(folder, options[i]);
		for (int e = 0; e < 24; e++) {
			const cJSON *epoch = cJSON_GetArrayItem(cJSON_GetObjectItem(cJSON_GetObjectItem(run, "results"), "epochs"), e);

			near(epoch, "lr", 0.01 * rates[i][e]);
		}
		cJSON_Delete(run);
	}
}

static void a_network_learns_through_all_shapes(void **state)
{
	char options[PATH_BYTES];
	const cJSON *epochs;
	cJSON *run;

	(void)state;
	assert_int_equal(path_make(options, "--data %s/data --frames 32 --crop 96 --multigrid long", work), OK);
	run = run_of("learned", options);
	epochs = cJSON_GetObjectItem(cJSON_GetObjectItem(run, "results"), "epochs");
	assert_int_equal(cJSON_GetArraySize(epochs), 24);
	assert_true(json_number(cJSON_GetArrayItem(epochs, 23), "loss", 9) < 0.5 * json_number(cJSON_GetArrayItem(epochs, 0), "loss", 0));
	cJSON_Delete(run);
}

static void shapes_that_cannot_be_are_named(void **state)
{
	static const struct { const char *options, *words; } cases[] = {
		{ "--frames 16 --crop 96 --epochs 20 --multigrid long", "frames '4'" },
		{ "--frames 32 --crop 64 --epochs 20 --multigrid long", "crop '48'" },
		{ "--frames 32 --crop 96 --epochs 20 --multigrid long+short", "crop '48'" },
		{ "--frames 32 --crop 96 --epochs 10 --multigrid long", "10 epochs leave none" },
		{ "--frames 32 --crop 96 --epochs 20 --clips 4 --multigrid long", "7 batches for each of 1 ranks: less than one round of 8" },
		{ "--frames 32 --crop 96 --epochs 20 --multigrid long --emulate-ranks 2", "--multigrid wants --emulate-ranks 1" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char words[PATH_BYTES];

		assert_int_equal(path_make(words, "run --net nano --data %s/data --log-period 0 %s --out %s/bad", work, cases[i].options, work),
				 OK);
		assert_int_equal(program(words, said, sizeof(said)), 1);
		if (!strstr(said, cases[i].words))
			fail_msg("looked for '%s' in:\n%s", cases[i].words, said);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_plan_for_ava_follows_the_rule),
		cmocka_unit_test(a_plan_needs_an_epoch_behind_the_last_step),
		cmocka_unit_test(a_network_of_another_shape_takes_the_state_over),
		cmocka_unit_test(batches_take_turns_in_their_crops),
		cmocka_unit_test(a_run_changes_its_shape_and_its_rate_between_epochs),
		cmocka_unit_test(a_network_learns_through_all_shapes),
		cmocka_unit_test(shapes_that_cannot_be_are_named),
	};

	return cmocka_run_group_tests(tests, make_data, remove_all);
}
