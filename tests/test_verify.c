/*
 * tests/test_verify.c - the step is PyTorch's, to the last tensor.
 *
 * The weights and the batch come out of a generator (reference/generate.h), `sfscale verify` takes the steps, and
 * reference/NET.safetensors holds what PyTorch found in double precision (reference/README.md).
 *
 * Full gradients of r50 are 135 MB, so the file holds of each tensor its norm and 16 sums of all its values under signs
 * that a hash draws.  The same sums are linear: those of the difference of two tensors are the differences of theirs.  A
 * sum of values d under random signs has the mean square |d|^2, so 16 of them measure |d|, and hardly ever low: the mean
 * of 16 squares is below a quarter of |d|^2 once in 1000 tensors, below a tenth once in a million (chi square with 16
 * degrees of freedom).  A tensor that is twice its tolerance off passes with a chance of 1 in 1000; and mistakes are not
 * that small, nor in one tensor only.
 */
#include "bench/against.h"
#include "kernels/weights.h"
#include "tests/reference/generate.h"
#include "tests/shell.h"

#include <float.h>
#include <string.h>
#include <unistd.h>

static char home[] = "/tmp/sfscale-verify-XXXXXX";

static int home_make(void **state)
{
	(void)state;
	return !mkdtemp(home);
}

static int home_remove(void **state)
{
	(void)state;
	return dir_remove(home);
}

/* As in reference.py. */
static const struct check {
	const char *net;
	size_t clips, boxes, steps;
} checks[] = {
	{ "nano", 2, 5, 3 },
	{ "tiny", 2, 5, 3 },
	{ "r50", 1, 3, 1 },
};
#define RECIPE "--lr 0.01 --weight-decay 0.01"
enum { SIGNS = 16, DIGEST = SIGNS + 1 };

/* ---- what goes in ---- */

static void set_state(struct kernels *k)
{
	const struct net *net = k->net;
	char name[80];

	for (size_t i = 0; i < net->param_count; i++) {
		const struct net_param *p = &net->params[i];
		float *plain = malloc(p->count * sizeof(*plain));

		generate_state(p->name, p->count, p->count / p->dims[0], plain);
		assert_int_equal(k->backend->set(k, STATE_WEIGHT, i, plain), OK);
		free(plain);
	}
	for (size_t i = 0; i < net->buffer_count; i++) {
		float *plain = malloc(net->buffers[i].channels * sizeof(*plain));

		for (int kind = STATE_MEAN; kind <= STATE_VAR; kind++) {
			snprintf(name, sizeof(name), "%s.running_%s", net->buffers[i].name, kind == STATE_MEAN ? "mean" : "var");
			generate_state(name, net->buffers[i].channels, 1, plain);
			assert_int_equal(k->backend->set(k, kind, i, plain), OK);
		}
		k->bn_batches[i] = 3;
		free(plain);
	}
}

/* HOME/state, of the back end that keeps tensors as they are. */
static void write_state(const struct net *net)
{
	const struct kernel_backend *null = kernel_backend_find("null");
	struct kernels *k;
	char path[PATH_BYTES];

	assert_int_equal(path_make(path, "%s/state", home), OK);
	assert_int_equal(null->open(&k, &(struct kernel_config){ .net = net, .clips_max = 1, .boxes_max = 1 }), OK);
	set_state(k);
	assert_int_equal(weights_save(k, WEIGHTS_MODEL, path, NULL, 0), OK);
	null->close(k);
}

/* HOME/batch. */
static void write_batch(const struct net *net, size_t clips, size_t boxes)
{
	const size_t crop = net->crop, slow[] = { clips, 3, net->slow_frames, crop, crop },
		     fast[] = { clips, 3, net->frames, crop, crop };
	const size_t slow_count = clips * 3 * net->slow_frames * crop * crop, fast_count = clips * 3 * net->frames * crop * crop;
	float *room = malloc(fast_count * sizeof(*room));
	struct safetensors_writer w = { 0 };
	char path[PATH_BYTES];

	assert_int_equal(path_make(path, "%s/batch", home), OK);
	assert_int_equal(safetensors_add(&w, "slow", SAFETENSORS_F32, 5, slow), OK);
	assert_int_equal(safetensors_add(&w, "fast", SAFETENSORS_F32, 5, fast), OK);
	assert_int_equal(safetensors_add(&w, "boxes", SAFETENSORS_F32, 2, (const size_t[]){ boxes, 5 }), OK);
	assert_int_equal(safetensors_add(&w, "labels", SAFETENSORS_F32, 2, (const size_t[]){ boxes, NET_CLASSES }), OK);
	assert_int_equal(safetensors_begin(&w, path, NULL, 0), OK);
	generate_values("slow", slow_count, 0, 2, room);
	assert_int_equal(safetensors_put(&w, room), OK);
	generate_values("fast", fast_count, 0, 2, room);
	assert_int_equal(safetensors_put(&w, room), OK);
	generate_boxes(clips, boxes, crop, room);
	assert_int_equal(safetensors_put(&w, room), OK);
	generate_labels(boxes * NET_CLASSES, room);
	assert_int_equal(safetensors_put(&w, room), OK);
	assert_int_equal(safetensors_end(&w, OK), OK);
	free(room);
}

static int verify(const char *more, char *out, size_t room)
{
	char words[PATH_BYTES];

	assert_int_equal(path_make(words, "verify --state %s/state --batch %s/batch --out %s/out %s", home, home, home, more), OK);
	return program(words, out, room);
}

/* ---- what comes out ---- */

static float *values_of(const struct safetensors *f, const char *name, size_t *count)
{
	const struct safetensor *t = safetensors_find(f, name);
	float *values;

	if (!t)
		fail_msg("'%s' has no tensor '%s'", f->path, name);
	*count = safetensor_count(t);
	values = malloc(safetensor_bytes(t) + 1);
	assert_int_equal(safetensors_read(f, t, values), OK);
	return values;
}

static void digest(const char *name, const float *values, size_t count, double row[DIGEST])
{
	char salted[140];
	uint64_t seed;
	double norm = 0, sums[SIGNS] = { 0 };

	snprintf(salted, sizeof(salted), "signs.%s", name);
	seed = hash_text(HASH_START, salted);
	for (size_t i = 0; i < count; i++) {
		uint64_t word = generate_word(seed, i);

		norm += (double)values[i] * values[i];
		for (size_t s = 0; s < SIGNS; s++)
			sums[s] += word >> s & 1 ? -(double)values[i] : (double)values[i];
	}
	row[0] = sqrt(norm);
	memcpy(row + 1, sums, sizeof(sums));
}

/* A family of tensors, as rows of one tensor of the reference. */
static const struct family {
	const char *name, *prefix, *suffix;	/* of the tensors in the program's file */
	bool buffers, change;			/* one a batch norm; less the state's values */
	const char *tolerance;			/* a tensor with the tolerance */
} families[] = {
	{ "grad", "grad.", "", false, false, "grad.x" },
	{ "momentum", "momentum.", "", false, false, "momentum.x" },
	{ "change", "", "", false, true, "momentum.x" },	/* what the steps did to the weights is made of momentum */
	{ "running_mean", "", ".running_mean", true, false, "x.running_mean" },
	{ "running_var", "", ".running_var", true, false, "x.running_var" },
};

/* Returns how far rounding alone may have taken it: of a change, that of the values which changed. */
static double digest_of(const struct family *family, const char *of, const struct safetensors *out,
			const struct safetensors *before, double row[DIGEST])
{
	char name[100], salt[120];
	size_t count;
	float *values, *was;
	double squares = 0;

	snprintf(name, sizeof(name), "%s%s%s", family->prefix, of, family->suffix);
	snprintf(salt, sizeof(salt), "%s%s", family->change ? "change." : "", name);
	values = values_of(out, name, &count);
	if (family->change) {
		was = values_of(before, name, &count);
		for (size_t i = 0; i < count; i++) {
			squares += (double)was[i] * was[i];
			values[i] -= was[i];
		}
		free(was);
	}
	digest(salt, values, count, row);
	free(values);
	return FLT_EPSILON * sqrt(squares);
}

static void compare_family(const struct family *family, const struct net *net, const struct safetensors *out,
			   const struct safetensors *before, const struct safetensors *reference)
{
	const double most = tolerance_of(family->tolerance)->most;
	double largest = 0, worst = 0;
	size_t rows, count;
	float *want = values_of(reference, family->name, &count);

	rows = family->buffers ? net->buffer_count : net->param_count;
	assert_int_equal(count, rows * DIGEST);
	for (size_t i = 0; i < rows; i++)
		largest = fmax(largest, want[i * DIGEST]);
	for (size_t i = 0; i < rows; i++) {
		const char *name = family->buffers ? net->buffers[i].name : net->params[i].name;
		const double norm = fmax(want[i * DIGEST], AGAINST_NORM_SHARE * largest);
		double got[DIGEST], far = 0, rounding = digest_of(family, name, out, before, got);

		for (size_t s = 1; s < DIGEST; s++)
			far += pow(got[s] - want[i * DIGEST + s], 2) / SIGNS;
		far = sqrt(far) / norm;
		if (!(far <= most + rounding / norm))
			fail_msg("%s of %s '%s' is %.3g off, and may be %.3g", family->name, net->preset->name, name, far, most);
		worst = fmax(worst, far);
	}
	print_message("%s: %s: furthest %.2g\n", net->preset->name, family->name, worst);
	free(want);
}

static void compare_values(const char *name, const struct safetensors *out, const struct safetensors *reference)
{
	size_t count, want_count;
	float *got = values_of(out, name, &count), *want = values_of(reference, name, &want_count);

	assert_int_equal(count, want_count);
	for (size_t i = 0; i < count; i++)
		if (!(fabsf(got[i] - want[i]) <= tolerance_of(name)->most))
			fail_msg("%s %zu is %.9g, and should be %.9g", name, i, got[i], want[i]);
	free(got);
	free(want);
}

static void open_file(struct safetensors *f, const char *folder, const char *name)
{
	char path[PATH_BYTES];

	assert_int_equal(path_make(path, "%s/%s", folder, name), OK);
	assert_int_equal(safetensors_open(f, path), OK);
}

static void check_net(const struct check *c)
{
	struct safetensors out, before, reference;
	char text[1 << 12], more[256], name[64];
	struct net net;

	assert_int_equal(net_init(&net, net_preset_find(c->net), 0, 0), OK);
	write_state(&net);
	write_batch(&net, c->clips, c->boxes);
	snprintf(more, sizeof(more), "--net %s --steps %zu " RECIPE, c->net, c->steps);
	if (verify(more, text, sizeof(text)))
		fail_msg("%s", text);
	snprintf(name, sizeof(name), "%s.safetensors", c->net);
	open_file(&out, home, "out");
	open_file(&before, home, "state");
	open_file(&reference, "tests/reference", name);
	compare_values("loss", &out, &reference);
	compare_values("preds", &out, &reference);
	for (size_t i = 0; i < ARRAY_LEN(families); i++)
		compare_family(&families[i], &net, &out, &before, &reference);
	for (size_t i = 0; i < out.count; i++)
		if (out.tensors[i].type == SAFETENSORS_I64) {
			int64_t batches;

			assert_int_equal(safetensors_read(&out, &out.tensors[i], &batches), OK);
			assert_int_equal(batches, 3 + (int64_t)c->steps);
		}
	safetensors_close(&out);
	safetensors_close(&before);
	safetensors_close(&reference);
	net_release(&net);
}

static void three_steps_of_nano_are_pytorch_s(void **state)
{
	(void)state;
	check_net(&checks[0]);
}

static void three_steps_of_tiny_are_pytorch_s(void **state)
{
	(void)state;
	check_net(&checks[1]);
}

static void a_step_of_r50_is_pytorch_s(void **state)
{
	(void)state;
#ifdef __SANITIZE_ADDRESS__
	print_message("SKIP: a step of r50 takes minutes under the sanitizers; nano and tiny have all its operators\n");
	skip();
#endif
	check_net(&checks[2]);
}

static void nothing_that_differs_passes_unseen(void **state)
{
	static const struct { const char *options; int rc; const char *says; } rows[] = {
		{ "--against %s/first " RECIPE, 0, "gradients " },
		{ "--against %s/first --worst 1 --csv " RECIPE, 0, "tensor,class,distance_ppm,of_tolerance,norm" },
		{ "--against %s/first --json " RECIPE, 0, "\"worst\":" },
		{ "--against %s/first --lr 0.0101 --weight-decay 0.01", 3, "weights " },
		{ "--against %s/first --lr 0.01 --weight-decay 0.011", 3, "momentum " },
		{ "--against %s/first --nesterov off " RECIPE, 3, "weights " },
		{ "--against %s/first --dropout 0.5 " RECIPE, 3, "predictions " },
		{ "--against %s/first --steps 2 " RECIPE, 2, "tensor 'loss' is F32 (2) in " },
	};
	char out[1 << 14], words[PATH_BYTES];
	struct net net;

	(void)state;
	assert_int_equal(net_init(&net, net_preset_find("nano"), 0, 0), OK);
	write_state(&net);
	write_batch(&net, 1, 2);
	assert_int_equal(verify("--net nano " RECIPE, out, sizeof(out)), 0);
	assert_int_equal(path_make(words, "mv %s/out %s/first", home, home), OK);
	assert_int_equal(shell(words, out, sizeof(out)), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char options[256];
		int rc;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(options, sizeof(options), rows[i].options, home);
#pragma GCC diagnostic pop
		assert_int_equal(path_make(words, "--net nano %s", options), OK);
		rc = verify(words, out, sizeof(out));
		if (rc != rows[i].rc || !strstr(out, rows[i].says))
			fail_msg("'%s' gives %d, not %d with '%s': %s", options, rc, rows[i].rc, rows[i].says, out);
	}
	net_release(&net);
}

static void what_does_not_fit_is_named(void **state)
{
	static const struct { const char *options; int rc; const char *says; } rows[] = {
		{ "--net nano --kernels cuda", 2, "kernels 'cuda' cannot run here: " },
		{ "--net nano --crop 80", 2, "tensor 'slow' is F32 (1,3,2,64,64), not F32 (1,3,2,80,80)" },
		{ "--net small --crop 64", 2, "tensor 'slow' is F32 (1,3,2,64,64), not F32 (1,3,4,64,64)" },
		{ "--net tiny", 2, "has 111 of the 662 tensors of net 'tiny'; missing, or of another shape: " },
		{ "--net nano --steps 0", 1, "--steps is 1 to 1000000" },
		{ "--net nano --dropout 1", 1, "--dropout is 0 to 0.99" },
		{ "--net nano --against $H/out", 1, "--out would overwrite what --against names" },
		{ "--net nano --out $H/./state", 1, "--out would overwrite what --state names" },
		{ "--net nano --against /nowhere/file", 2, "cannot open '/nowhere/file'" },
		{ "--net nano --state /nowhere/file", 2, "cannot open '/nowhere/file'" },
	};
	char out[1 << 14];
	struct net net;

	(void)state;
	assert_int_equal(net_init(&net, net_preset_find("nano"), 0, 0), OK);
	write_state(&net);
	write_batch(&net, 1, 2);
	setenv("H", home, 1);
	setenv("CUDA_VISIBLE_DEVICES", "", 1);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int rc = verify(rows[i].options, out, sizeof(out));

		if (rc != rows[i].rc || !strstr(out, rows[i].says))
			fail_msg("'%s' gives %d, not %d with '%s': %s", rows[i].options, rc, rows[i].rc, rows[i].says, out);
	}
	net_release(&net);
}

/* Two tensors of the head, all of one value each; `count` 0: none. */
static void write_pair(const char *name, float bias, float weight, size_t count)
{
	const struct { const char *name; float value; } tensors[] = { { "head.projection.bias", bias }, { "head.projection.weight", weight } };
	struct safetensors_writer w = { 0 };
	float values[4];
	char path[PATH_BYTES];

	assert_int_equal(path_make(path, "%s/%s", home, name), OK);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(safetensors_add(&w, tensors[i].name, SAFETENSORS_F32, 1, (const size_t[]){ ARRAY_LEN(values) }), OK);
	assert_int_equal(safetensors_begin(&w, path, NULL, 0), OK);
	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < ARRAY_LEN(values); k++)
			values[k] = tensors[i].value;
		assert_int_equal(safetensors_put(&w, values), OK);
	}
	assert_int_equal(safetensors_end(&w, OK), OK);
}

/* A reference that is no number judges nobody, and none judges nothing. */
static void what_cannot_judge_lets_nothing_pass(void **state)
{
	static const struct { float bias, weight; size_t count; int rc; } cases[] = {
		{ 1, 2, 2, OK }, { INFINITY, 2, 2, BELOW }, { INFINITY, 7, 2, BELOW }, { NAN, 2, 2, BELOW }, { 0, 0, 0, FAILED },
	};
	char path[PATH_BYTES];

	(void)state;
	write_pair("got", 1, 2, 2);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct safetensors got, want;
		struct table classes, worst;

		write_pair("want", cases[i].bias, cases[i].weight, cases[i].count);
		assert_int_equal(path_make(path, "%s/got", home), OK);
		assert_int_equal(safetensors_open(&got, path), OK);
		assert_int_equal(path_make(path, "%s/want", home), OK);
		assert_int_equal(safetensors_open(&want, path), OK);
		assert_int_equal(against(&got, &want, 1, 10, &classes, &worst), cases[i].rc);
		table_release(&classes);
		table_release(&worst);
		safetensors_close(&got);
		safetensors_close(&want);
	}
}

/* Loss of one iteration, from the weights of a file. */
static double loss_from(const char *file, const char *options, const char *says)
{
	char words[PATH_BYTES], out[1 << 14], path[PATH_BYTES];
	cJSON *run;
	double loss;

	assert_int_equal(path_make(words, "run --out %s/run --policy null --epochs 1 --iterations 1 --dropout 0 --comm null --init %s/%s %s",
				   home, home, file, options), OK);
	if (program(words, out, sizeof(out)))
		fail_msg("%s: %s", words, out);
	if (!strstr(out, says))
		fail_msg("not '%s' but: %s", says, out);
	assert_int_equal(path_make(path, "%s/run/run.json", home), OK);
	assert_int_equal(json_read(path, &run), OK);
	loss = json_number(cJSON_GetArrayItem(cJSON_GetObjectItem(cJSON_GetObjectItem(run, "results"), "epochs"), 0), "loss", NAN);
	cJSON_Delete(run);
	assert_int_equal(path_make(path, "%s/run", home), OK);
	assert_int_equal(dir_remove(path), OK);
	return loss;
}

static void a_run_starts_from_the_weights_of_a_file(void **state)
{
	char words[PATH_BYTES], out[1 << 14];
	struct net net;
	double whole;

	(void)state;
	assert_int_equal(net_init(&net, net_preset_find("nano"), 0, 0), OK);
	write_state(&net);
	whole = loss_from("state", "--net nano --seed 1", "");
	assert_true(whole == loss_from("state", "--net nano --seed 2", ""));
	assert_true(whole != loss_from("state", "--net small --crop 64 --frames 8 --seed 1",
				       "has 111 of the 662 tensors of net 'small'; these stay as they are: "));
	write_batch(&net, 1, 2);
	assert_int_equal(path_make(words, "run --out %s/run --policy null --comm null --net nano --iterations 1 --init %s/batch", home,
				   home), OK);
	assert_int_equal(program(words, out, sizeof(out)), 2);
	assert_non_null(strstr(out, "has nothing of net 'nano'"));
	net_release(&net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(three_steps_of_nano_are_pytorch_s),
		cmocka_unit_test(three_steps_of_tiny_are_pytorch_s),
		cmocka_unit_test(a_step_of_r50_is_pytorch_s),
		cmocka_unit_test(nothing_that_differs_passes_unseen),
		cmocka_unit_test(what_does_not_fit_is_named),
		cmocka_unit_test(what_cannot_judge_lets_nothing_pass),
		cmocka_unit_test(a_run_starts_from_the_weights_of_a_file),
	};

	return cmocka_run_group_tests_name("verify", tests, home_make, home_remove);
}
