/*
 * tests/test_convert.c - kernels/convert_weights.py: other people's weights in, and out again.
 */
#include "kernels/weights.h"
#include "tests/shell.h"

#include <string.h>
#include <unistd.h>

static char home[] = "/tmp/sfscale-convert-XXXXXX";

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

/* Skips without the modules. */
static void need(const char *modules)
{
	char line[256], out[1 << 12];

	snprintf(line, sizeof(line), "python3 -c 'import %s'", modules);
	if (shell(line, out, sizeof(out))) {
		print_message("SKIP: no python3 with %s\n", modules);
		skip();
	}
}

/* HOME/FROM to HOME/TO. */
static int convert(const char *from, const char *to, char *out, size_t room)
{
	char line[PATH_BYTES];

	assert_int_equal(path_make(line, "PYTHONDONTWRITEBYTECODE=1 python3 kernels/convert_weights.py %s/%s %s/%s", home, from, home, to),
			 OK);
	return shell(line, out, room);
}

static void convert_well(const char *from, const char *to)
{
	char out[1 << 12];

	if (convert(from, to, out, sizeof(out)))
		fail_msg("%s to %s: %s", from, to, out);
}

static void open_file(struct safetensors *f, const char *name)
{
	char path[PATH_BYTES];

	assert_int_equal(path_make(path, "%s/%s", home, name), OK);
	assert_int_equal(safetensors_open(f, path), OK);
}

static void a_blob_of_caffe2_gets_its_name_in_pyslowfast(void **state)
{
	/* As the converter of PySlowFast names them. */
	static const struct { const char *blob, *name; } rows[] = {
		{ "conv1_w", "s1.pathway0_stem.conv.weight" },
		{ "t_conv1_w", "s1.pathway1_stem.conv.weight" },
		{ "res_conv1_bn_s", "s1.pathway0_stem.bn.weight" },
		{ "t_res_conv1_bn_riv", "s1.pathway1_stem.bn.running_var" },
		{ "res2_0_branch1_w", "s2.pathway0_res0.branch1.weight" },
		{ "t_res3_0_branch1_bn_b", "s3.pathway1_res0.branch1_bn.bias" },
		{ "res4_5_branch2b_w", "s4.pathway0_res5.branch2.b.weight" },
		{ "t_res5_2_branch2c_bn_rm", "s5.pathway1_res2.branch2.c_bn.running_mean" },
		{ "t_pool1_subsample_w", "s1_fuse.conv_f2s.weight" },
		{ "t_pool1_subsample_bn_s", "s1_fuse.bn.weight" },
		{ "t_res2_2_branch2c_bn_subsample_w", "s2_fuse.conv_f2s.weight" },
		{ "t_res4_5_branch2c_bn_subsample_bn_riv", "s4_fuse.bn.running_var" },
		{ "pred_w", "head.projection.weight" },
		{ "pred_b", "head.projection.bias" },
	};
	char path[PATH_BYTES], line[PATH_BYTES], out[1 << 12];
	struct safetensors f;
	FILE *script;

	(void)state;
	need("numpy");
	assert_int_equal(path_make(path, "%s/make.py", home), OK);
	script = fopen(path, "w");
	assert_non_null(script);
	fprintf(script, "import pickle, numpy\nb = {'model_iter': 7, 'lr': 0.1, 'conv1_w_momentum': numpy.ones(3), 'strange_w': numpy.ones(3)}\n");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		fprintf(script, "b['%s'] = numpy.full(%s, %zu, numpy.float32)\n", rows[i].blob,
			strcmp(rows[i].blob + strlen(rows[i].blob) - 2, "_w") ? "4" : "(4, 2)", i);
	fprintf(script, "pickle.dump({'blobs': b}, open('%s/a.pkl', 'wb'), protocol=2)\n", home);
	fclose(script);
	assert_int_equal(path_make(line, "python3 %s", path), OK);
	assert_int_equal(shell(line, out, sizeof(out)), 0);
	assert_int_equal(convert("a.pkl", "a.safetensors", out, sizeof(out)), 0);
	assert_non_null(strstr(out, "passed over: strange_w\n"));
	open_file(&f, "a.safetensors");
	assert_int_equal(f.count, ARRAY_LEN(rows) + 1);		/* and a counter beside the one running mean */
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct safetensor *t = safetensors_find(&f, rows[i].name);
		float values[8];

		if (!t)
			fail_msg("'%s' does not become '%s'", rows[i].blob, rows[i].name);
		assert_int_equal(t->rank, safetensor_count(t) == 4 ? 1 : strcmp(rows[i].blob, "pred_w") ? 5 : 2);
		assert_int_equal(safetensors_read(&f, t, values), OK);
		assert_true(values[0] == (float)i && values[3] == (float)i);
	}
	safetensors_close(&f);
}

/* HOME/NAME: nano, by the rules of initialisation, with momentum that tells tensors apart. */
static void write_nano(const char *name, unsigned parts)
{
	const struct kernel_backend *null = kernel_backend_find("null");
	const struct safetensors_text epoch = { "epoch", "4" };
	char path[PATH_BYTES];
	struct net net;
	struct kernels *k;

	assert_int_equal(net_init(&net, net_preset_find("nano"), 0, 0), OK);
	assert_int_equal(null->open(&k, &(struct kernel_config){ .net = &net, .clips_max = 1, .boxes_max = 1, .seed = 5 }), OK);
	for (size_t i = 0; i < net.param_count; i++) {
		float *plain = malloc(net.params[i].count * sizeof(*plain));

		for (size_t v = 0; v < net.params[i].count; v++)
			plain[v] = (float)i + (float)v / (float)net.params[i].count;
		assert_int_equal(null->set(k, STATE_MOMENTUM, i, plain), OK);
		assert_int_equal(null->set(k, STATE_WEIGHT, i, plain), OK);
		free(plain);
	}
	for (size_t i = 0; i < net.buffer_count; i++)
		k->bn_batches[i] = (int64_t)i;
	assert_int_equal(path_make(path, "%s/%s", home, name), OK);
	assert_int_equal(weights_save(k, parts, path, &epoch, 1), OK);
	null->close(k);
	net_release(&net);
}

/* Every tensor of HOME/A is in HOME/B, with the same values; counters unless `counters` may differ. */
static void assert_same(const char *a, const char *b, bool counters)
{
	struct safetensors f, g;

	open_file(&f, a);
	open_file(&g, b);
	assert_int_equal(f.count, g.count);
	for (size_t i = 0; i < f.count; i++) {
		const struct safetensor *t = &f.tensors[i], *u = safetensors_find(&g, t->name);
		char t_text[SAFETENSOR_TEXT_BYTES], u_text[SAFETENSOR_TEXT_BYTES];
		void *x = malloc(safetensor_bytes(t)), *y = malloc(safetensor_bytes(t));

		if (!u)
			fail_msg("'%s' is lost", t->name);
		assert_string_equal(safetensor_text(t, t_text), safetensor_text(u, u_text));
		assert_int_equal(safetensors_read(&f, t, x), OK);
		assert_int_equal(safetensors_read(&g, u, y), OK);
		if (counters || t->type != SAFETENSORS_I64)
			assert_memory_equal(x, y, safetensor_bytes(t));
		free(x);
		free(y);
	}
	safetensors_close(&f);
	safetensors_close(&g);
}

static void a_model_comes_back_from_caffe2_as_it_went(void **state)
{
	(void)state;
	need("numpy");
	write_nano("there.safetensors", WEIGHTS_MODEL);
	convert_well("there.safetensors", "there.pkl");
	convert_well("there.pkl", "back.safetensors");
	assert_same("there.safetensors", "back.safetensors", false);
}

static void a_checkpoint_comes_back_from_pyslowfast_as_it_went(void **state)
{
	struct safetensors f;

	(void)state;
	need("numpy, torch");
	write_nano("checkpoint.safetensors", WEIGHTS_MODEL | WEIGHTS_MOMENTUM);
	convert_well("checkpoint.safetensors", "checkpoint.pyth");
	convert_well("checkpoint.pyth", "again.safetensors");
	assert_same("checkpoint.safetensors", "again.safetensors", true);
	open_file(&f, "again.safetensors");
	assert_string_equal(safetensors_text(&f, "epoch"), "4");
	safetensors_close(&f);
}

static void what_is_no_weights_is_refused(void **state)
{
	static const struct { const char *make, *from, *to, *says; } rows[] = {
		{ "import os, pickle\nclass A:\n  def __reduce__(s): return os.system, (\"true\",)\npickle.dump(A(), open(p, \"wb\"))", "evil.pkl",
		  "x.safetensors", "the pickle asks for 'posix.system', which no file of weights needs" },
		{ "import pickle\npickle.dump({\"blobs\": {\"x\": 1}}, open(p, \"wb\"))", "none.pkl", "x.safetensors",
		  "has no blob of a SlowFast network" },
		{ "open(p, \"wb\").write(b\"1234567890\")", "short.safetensors", "x.pkl", "is no safetensors file, or cut short" },
		{ "open(p, \"wb\")", "a.pkl", "b.pkl", "one of the two is .safetensors" },
		{ "open(p, \"wb\")", "a.bin", "b.safetensors", "should end in one of .safetensors .pkl .pyth" },
	};
	char line[PATH_BYTES], out[1 << 12];

	(void)state;
	need("numpy");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(path_make(line, "python3 -c 'p = \"%s/%s\"\n%s'", home, rows[i].from, rows[i].make), OK);
		assert_int_equal(shell(line, out, sizeof(out)), 0);
		assert_int_equal(convert(rows[i].from, rows[i].to, out, sizeof(out)), 1);
		if (!strstr(out, rows[i].says))
			fail_msg("not '%s' but '%s'", rows[i].says, out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_blob_of_caffe2_gets_its_name_in_pyslowfast),
		cmocka_unit_test(a_model_comes_back_from_caffe2_as_it_went),
		cmocka_unit_test(a_checkpoint_comes_back_from_pyslowfast_as_it_went),
		cmocka_unit_test(what_is_no_weights_is_refused),
	};

	return cmocka_run_group_tests_name("convert", tests, home_make, home_remove);
}
