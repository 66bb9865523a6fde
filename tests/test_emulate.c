/*
 * tests/test_emulate.c - several ranks in one process: what each room does for it, and that training
 * cannot tell the difference.
 */
#include "bench/base/folder.h"
#include "bench/base/record.h"
#include "bench/checkpoint.h"
#include "kernels/kernels.h"
#include "kernels/safetensors.h"
#include "loader/loader.h"
#include "tests/folders.h"
#include "tests/shell.h"

static char *work;
static char said[1 << 16];

/* A line for the shell with $S for the program, $D for the data set, $W for the folder of this test. */
static int sh(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int sh(const char *format, ...)
{
	const char *build = getenv("SFSCALE_BUILD") ? getenv("SFSCALE_BUILD") : "build";
	char line[PATH_BYTES], whole[PATH_BYTES];
	va_list args;
	int rc;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	assert_int_equal(path_make(whole, "W=%s D=%s/data S=%s/sfscale; %s", work, work, build, line), OK);
	rc = shell(whole, said, sizeof(said));
	if (rc)
		print_message("%s\n%s\n", line, said);
	return rc;
}

static int make_data(void **state)
{
	char words[PATH_BYTES];

	(void)state;
	/* Open MPI leaks at its end. */
	setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
	setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
	setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
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

/* ---- a step in parts ------------------------------------------------------------------- */

enum { PARTS = 3, STEPS = 2, BOXES = 2 };

struct batch {
	float *slow, *fast, rois[BOXES * 5], labels[BOXES * NET_CLASSES];
};

static void batch_make(struct batch *b, const struct net *net, float phase)
{
	size_t plane = 3 * net->crop * net->crop, slow = plane * net->slow_frames, fast = plane * net->frames;

	*b = (struct batch){ .slow = malloc(slow * sizeof(float)), .fast = malloc(fast * sizeof(float)) };
	assert_true(b->slow && b->fast);
	for (size_t i = 0; i < slow; i++)
		b->slow[i] = sinf(phase + 0.37f * (float)i);
	for (size_t i = 0; i < fast; i++)
		b->fast[i] = sinf(phase + 0.11f * (float)i);
	for (size_t i = 0; i < BOXES; i++) {
		const float box[5] = { 0, 8 * (float)i, 4, 40 + 8 * (float)i, 60 };

		memcpy(b->rois + 5 * i, box, sizeof(box));
		b->labels[NET_CLASSES * i + (size_t)phase] = 1;
	}
}

static void pass(struct kernels *k, const struct batch *b, size_t part, size_t parts)
{
	const struct step_input in = { .clips = 1, .boxes = BOXES, .slow = b->slow, .fast = b->fast, .rois = b->rois,
				       .labels = b->labels, .part = part, .parts = parts };

	assert_int_equal(k->backend->input(k, &in), OK);
	assert_int_equal(k->backend->forward(k), OK);
	assert_int_equal(k->backend->loss(k), OK);
	assert_int_equal(k->backend->backward(k, k->net->param_count / 2), OK);
	assert_int_equal(k->backend->backward(k, k->net->param_count - 1), OK);
}

/* Three instances that average their gradients, and one that does it all. */
static void a_step_in_parts_is_the_mean_of_its_ranks_with_the_statistics_of_the_first(void **state)
{
	const struct kernel_backend *cpu = kernel_backend_find("cpu");
	const struct sgd sgd = { .lr = 0.1, .momentum = 0.9, .nesterov = true };
	struct kernels *whole, *rank[PARTS];
	struct net net;

	(void)state;
	assert_int_equal(net_init(&net, net_preset_find("nano"), 0, 0), OK);
	for (size_t i = 0; i <= PARTS; i++) {
		const struct kernel_config config = { .net = &net, .clips_max = 1, .boxes_max = BOXES, .threads = 1, .seed = 3,
						      .dropout_seed = 5 + i % PARTS, .dropout = 0.5, .in_parts = i == PARTS };

		assert_int_equal(cpu->open(i == PARTS ? &whole : &rank[i], &config), OK);
	}
	for (size_t step = 0; step < STEPS; step++) {
		for (size_t i = 0; i < PARTS; i++) {
			struct batch b;

			batch_make(&b, &net, (float)(PARTS * step + i));
			pass(whole, &b, i, PARTS);
			pass(rank[i], &b, 0, 1);
			free(b.slow);
			free(b.fast);
		}
		for (size_t v = 0; v < net.values; v++) {
			double mean = 0;

			for (size_t i = 0; i < PARTS; i++)
				mean += rank[i]->grads[v] / (double)PARTS;
			assert_true(fabs(whole->grads[v] - mean) <= 1e-6 * (1 + fabs(mean)));
		}
		assert_memory_equal(whole->bn_state, rank[0]->bn_state, net.buffer_values * sizeof(float));
		assert_memory_equal(whole->bn_batches, rank[0]->bn_batches, net.buffer_count * sizeof(int64_t));
		assert_int_equal(cpu->update(whole, &sgd), OK);
		for (size_t i = 0; i < PARTS; i++) {
			memcpy(rank[i]->grads, whole->grads, net.values * sizeof(float));
			assert_int_equal(cpu->update(rank[i], &sgd), OK);
			assert_memory_equal(rank[i]->weights, whole->weights, net.values * sizeof(float));
		}
	}
	for (size_t i = 0; i < PARTS; i++)
		cpu->close(rank[i]);
	cpu->close(whole);
	net_release(&net);
}

/* ---- a loader of many ranks ------------------------------------------------------------ */

static int open_shard(struct loader **ld, const char *policy, bool crops, size_t rank, size_t ranks)
{
	char data[PATH_BYTES];

	assert_int_equal(path_make(data, "%s/data", work), OK);
	return loader_open(ld, &(struct loader_config){
		.data = data, .policy = policy, .crops = crops, .workers = 2, .prefetch = 2, .clips = 2, .frames = 8, .alpha = 4, .rate = 2,
		.crop = 32, .scale_min = 36, .scale_max = 45, .seed = 5, .rank = rank, .world = 5, .ranks = ranks, .epochs = 2 });
}

static void a_loader_of_many_ranks_delivers_in_turn_what_their_own_would(void **state)
{
	static const char *const policies[] = { "inline", "threads", "fork" };
	enum { FIRST = 1, RANKS = 3 };

	(void)state;
	for (size_t p = 0; p < 2 * ARRAY_LEN(policies); p++) {
		struct loader *own[RANKS], *all;
		bool crops = p % 2;

		for (size_t r = 0; r < RANKS; r++)
			assert_int_equal(open_shard(&own[r], "inline", crops, FIRST + r, 0), OK);
		assert_int_equal(open_shard(&all, policies[p / 2], crops, FIRST, RANKS), OK);
		assert_int_equal(loader_iterations(all), 3);	/* 30 clips, 5 ranks, 2 each */
		for (size_t e = 0; e < 2; e++) {
			uint64_t sum = 0;

			assert_int_equal(loader_epoch_begin(all, e), OK);
			for (size_t r = 0; r < RANKS; r++)
				assert_int_equal(loader_epoch_begin(own[r], e), OK);
			for (size_t i = 0; i < loader_iterations(all); i++)
				for (size_t r = 0; r < RANKS; r++) {
					struct clip_batch a, b;

					assert_int_equal(loader_next(all, &a), OK);
					assert_int_equal(loader_next(own[r], &b), OK);
					assert_int_equal(a.boxes, b.boxes);
					assert_memory_equal(a.meta, b.meta, a.boxes * 2 * sizeof(*a.meta));
					if (crops)
						assert_memory_equal(a.crops, b.crops, 2 * 8 * 32 * 32 * 3);
					else
						assert_memory_equal(a.fast, b.fast, 2 * 3 * 8 * 32 * 32 * sizeof(float));
				}
			for (size_t r = 0; r < RANKS; r++)
				sum += loader_checksum(own[r]);
			assert_true(loader_checksum(all) == sum);
		}
		for (size_t r = 0; r < RANKS; r++)
			loader_close(own[r]);
		loader_close(all);
	}
	assert_int_equal(open_shard(&(struct loader *){ NULL }, "inline", false, 3, 3), USAGE);
	assert_non_null(strstr(err_last(), "there is no rank 5 of 5"));
}

/* ---- runs ------------------------------------------------------------------------------ */

#define MPIRUN "timeout 100 mpirun --oversubscribe --bind-to none"
#define TRAIN "$S run --data $D --net nano --clips 2 --threads 1 --lr 0.0125 --lr-clips 2 --warmup-epochs 0 --log-period 0 --checkpoint-period 5"

static cJSON *read_run(const char *folder)
{
	char path[PATH_BYTES];
	cJSON *run;

	assert_int_equal(path_make(path, "%s/%s/" FOLDER_RUN, work, folder), OK);
	assert_int_equal(json_read(path, &run), OK);
	assert_string_equal(json_string(run, "status", ""), "ok");
	return run;
}

/* Losses to 1e-6, rates and samples exactly. */
/* The model in the last checkpoints of two runs: every weight and every statistic to 1e-6. */
static void assert_same_model(const char *a, const char *b)
{
	const char *const runs[2] = { a, b };
	struct safetensors files[2];
	char path[PATH_BYTES];
	size_t compared = 0;

	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(path_make(path, "%s/%s/" CHECKPOINT_FOLDER "/" CHECKPOINT_FILE, work, runs[i], (size_t)5), OK);
		assert_int_equal(safetensors_open(&files[i], path), OK);
	}
	for (size_t i = 0; i < files[0].count; i++) {
		const struct safetensor *t = &files[0].tensors[i], *other = safetensors_find(&files[1], t->name);
		float *x, *y;

		assert_non_null(other);
		if (t->type != SAFETENSORS_F32 || !strncmp(t->name, "momentum.", 9))
			continue;
		x = malloc(safetensor_bytes(t));
		y = malloc(safetensor_bytes(t));
		assert_int_equal(safetensors_read(&files[0], t, x), OK);
		assert_int_equal(safetensors_read(&files[1], other, y), OK);
		for (size_t k = 0; k < safetensor_count(t); k++)
			if (!(fabsf(x[k] - y[k]) <= 1e-6f * fmaxf(1, fabsf(x[k]))))
				fail_msg("%s[%zu] is %g in %s and %g in %s", t->name, k, x[k], a, y[k], b);
		compared++;
		free(x);
		free(y);
	}
	assert_int_equal(compared, 332 + 220);
	safetensors_close(&files[0]);
	safetensors_close(&files[1]);
}

static void assert_same_training(const char *a, const char *b)
{
	cJSON *runs[2] = { read_run(a), read_run(b) }, *epochs[2];

	for (size_t i = 0; i < 2; i++)
		epochs[i] = cJSON_GetObjectItem(cJSON_GetObjectItem(runs[i], "results"), "epochs");
	for (int e = 0; e < 5; e++) {
		const cJSON *one = cJSON_GetArrayItem(epochs[0], e), *other = cJSON_GetArrayItem(epochs[1], e);

		assert_true(fabs(json_number(one, "loss", 0) - json_number(other, "loss", -1)) <= 1e-6);
		near(one, "lr", json_number(other, "lr", -1));
		assert_string_equal(json_string(one, "checksum", "a"), json_string(other, "checksum", "b"));
	}
	cJSON_Delete(runs[0]);
	cJSON_Delete(runs[1]);
	assert_same_model(a, b);
}

/* W x K: K ranks in each of W processes. */
static void emulated_ranks_train_as_real_ones(void **state)
{
	static const struct { int ranks; const char *dropout; } cases[] = { { 2, "0" }, { 2, "0.5" }, { 4, "0" }, { 4, "0.5" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int ranks = cases[i].ranks;
		const char *dropout = cases[i].dropout;

		assert_int_equal(sh("rm -rf $W/real $W/one $W/both"), 0);
		assert_int_equal(sh(MPIRUN " -n %d " TRAIN " --epochs 5 --iterations 1 --dropout %s --out $W/real", ranks, dropout), 0);
		assert_int_equal(sh(TRAIN " --epochs 5 --iterations 1 --dropout %s --emulate-ranks %d --out $W/one", dropout, ranks), 0);
		assert_same_training("real", "one");
		if (ranks == 2)
			continue;
		assert_int_equal(sh(MPIRUN " -n 2 " TRAIN " --epochs 5 --iterations 1 --dropout %s --emulate-ranks 2 --out $W/both", dropout), 0);
		assert_same_training("real", "both");
	}
}

static void the_account_of_emulated_ranks_has_one_window_per_iteration(void **state)
{
	char folder[PATH_BYTES], *text;
	cJSON *run, *summary;

	(void)state;
	assert_int_equal(sh("rm -rf $W/told; " TRAIN " --epochs 2 --iterations 3 --emulate-ranks 4 --workers 1 --checkpoint-period 0 --out $W/told"), 0);
	run = read_run("told");
	assert_true(json_number(cJSON_GetObjectItem(run, "step"), "emulate_ranks", 0) == 4);
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(cJSON_GetObjectItem(run, "step"), "emulated")));
	assert_non_null(strstr(json_string(cJSON_GetObjectItem(run, "place"), "text", ""), "emulated 4 ranks per process"));
	cJSON_Delete(run);
	assert_int_equal(path_make(folder, "%s/told", work), OK);
	summary = report_of(folder);
	text = cJSON_Print(summary);
	assert_non_null(strstr(text, "The parts of all 8 windows"));	/* 2 epochs of 3 iterations */
	free(text);
	cJSON_Delete(summary);
}

/* A ring that is too small would drop events. */
static void many_emulated_ranks_fit_into_the_record(void **state)
{
	(void)state;
	assert_int_equal(sh("$S run --kernels null --policy null --iterations 3 --net nano --log-period 0 --epochs 1 "
			    "--bucket-bytes 64K --emulate-ranks 700 --out $W/many && strings $W/many/rank-00000.sfr | tail -n 1"), 0);
	assert_non_null(strstr(said, "\"dropped\":0"));
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_step_in_parts_is_the_mean_of_its_ranks_with_the_statistics_of_the_first),
		cmocka_unit_test(a_loader_of_many_ranks_delivers_in_turn_what_their_own_would),
		cmocka_unit_test(emulated_ranks_train_as_real_ones),
		cmocka_unit_test(the_account_of_emulated_ranks_has_one_window_per_iteration),
		cmocka_unit_test(many_emulated_ranks_fit_into_the_record),
	};

	/* The policy "respawn" starts this very program as its worker. */
	if (argc > 1 && !strcmp(argv[1], "loader-worker"))
		return rc_exit(loader_worker_main(argc - 2, argv + 2));

	return cmocka_run_group_tests(tests, make_data, remove_all);
}
