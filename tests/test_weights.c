/*
 * tests/test_weights.c - files of tensors, and the state of a net in them.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "kernels/weights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char home[] = "/tmp/sfscale-weights-XXXXXX";
static char path[PATH_BYTES];

static int home_make(void **state)
{
	(void)state;
	return !mkdtemp(home) || path_make(path, "%s/a.safetensors", home);
}

static int home_remove(void **state)
{
	(void)state;
	return dir_remove(home);
}

/* A file with this header, in front of as many bytes of data. */
static void write_file(const char *header, size_t header_bytes, uint64_t length, size_t data_bytes)
{
	char *bytes = calloc(8 + header_bytes + data_bytes, 1);

	assert_non_null(bytes);
	memcpy(bytes, &length, 8);
	memcpy(bytes + 8, header, header_bytes);
	assert_int_equal(file_write(path, bytes, 8 + header_bytes + data_bytes), OK);
	free(bytes);
}

static void assert_refused(const char *words)
{
	struct safetensors f;

	if (!safetensors_open(&f, path))
		fail_msg("was read, and should have failed with '%s'", words);
	if (!strstr(err_last(), words))
		fail_msg("failed with '%s', not with '%s'", err_last(), words);
}

/* ---- files ---- */

#define TENSOR(name, type, shape, offsets) "\"" name "\":{\"dtype\":\"" type "\",\"shape\":[" shape "],\"data_offsets\":[" offsets "]}"

static void a_file_that_lies_is_refused_by_name(void **state)
{
	static const struct { const char *header; size_t data_bytes; const char *words; } cases[] = {
		{ "", 0, "byte 0 of the header: '{' should stand here" },
		{ " {}", 0, "byte 0 of the header: '{' should stand here" },
		{ "{", 0, "byte 1 of the header: a string should stand here" },
		{ "{}x", 0, "byte 2 of the header: the header should end here" },
		{ "{}", 4, "the last 4 bytes belong to no tensor" },
		{ "{" TENSOR("a", "F32", "2,3", "0,24") "}", 23, "tensor 'a' ends at byte 24 of the data, and there are 23" },
		{ "{" TENSOR("a", "F32", "2,3", "0,24") "}", 25, "the last 1 bytes belong to no tensor" },
		{ "{" TENSOR("a", "F32", "2,4", "0,24") "}", 24, "tensor 'a' has 24 bytes of data; its shape asks for 32" },
		{ "{" TENSOR("a", "I64", "", "0,4") "}", 4, "tensor 'a' has 4 bytes of data; its shape asks for 8" },
		{ "{" TENSOR("a", "F32", "1", "8,4") "}", 8, "tensor 'a' does not begin and end in this order" },
		{ "{" TENSOR("a", "F32", "1", "4") "}", 8, "tensor 'a' does not begin and end in this order" },
		{ "{" TENSOR("a", "BF16", "1", "0,2") "}", 2, "tensor 'a' is of type 'BF16'; F32 and I64 can be read" },
		{ "{" TENSOR("a", "F32", "1", "4,8") "}", 8, "tensor 'a' begins at byte 4 of the data, behind a gap" },
		{ "{" TENSOR("a", "F32", "2", "0,8") "," TENSOR("b", "F32", "1", "4,8") "}", 8,
		  "tensor 'b' begins at byte 4 of the data, inside another" },
		{ "{" TENSOR("a", "F32", "1", "0,4") "," TENSOR("a", "F32", "1", "4,8") "}", 8, "tensor 'a' comes twice" },
		{ "{" TENSOR("a", "F32", "1", "0,4") "," TENSOR("\\u0061", "F32", "1", "4,8") "}", 8, "tensor 'a' comes twice" },
		{ "{" TENSOR("a", "F32", "1,1,1,1,1,1", "0,4") "}", 4, "a list that is too long" },
		{ "{" TENSOR("a", "F32", "4294967296", "0,4") "}", 4, "tensor 'a' is larger than memory" },
		{ "{" TENSOR("a", "F32", "4294967295,4294967295", "0,4") "}", 4, "tensor 'a' is larger than memory" },
		{ "{" TENSOR("a", "F32", "0,4294967295,4294967295,4294967295", "0,0") "}", 0, NULL },
		{ "{" TENSOR("a", "F32", "99999999999999999999", "0,4") "}", 4, "a number beyond 2^63" },
		{ "{" TENSOR("a", "F32", "-1", "0,4") "}", 4, "a whole number should stand here" },
		{ "{" TENSOR("a", "F32", "1.5", "0,4") "}", 4, "a list without end" },
		{ "{" TENSOR("a", "F32", "1", "0,4") "," "}", 4, "a string should stand here" },
		{ "{" TENSOR("a", "F32", "1", "0,4"), 4, "the header does not end" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "a tensor without one of dtype, shape and data_offsets" },
		{ "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 4, "a key that tells nothing of a tensor, or comes twice" },
		{ "{\"a\":{\"kind\":\"F32\"}}", 4, "a key that tells nothing of a tensor, or comes twice" },
		{ "{\"a\":7}", 4, "a tensor should be described here" },
		{ "{\"a", 0, "a string without end" },
		{ "{\"\\x\":7}", 0, "an unknown escape" },
		{ "{\"\\u00g0\":7}", 0, "no four hexadecimal digits" },
		{ "{\"\\u0000\":7}", 0, "a character that no text can have" },
		{ "{\"\\ud800\":7}", 0, "a character that no text can have" },
		{ "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "a text for the second time" },
		{ "{\"__metadata__\":{\"a\":\"1\"},\"__metadata__\":{}}", 0, "metadata for the second time" },
		{ "{\"__metadata__\":{\"a\":1}}", 0, "a string should stand here" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct safetensors f;

		write_file(cases[i].header, strlen(cases[i].header), strlen(cases[i].header), cases[i].data_bytes);
		if (cases[i].words) {
			assert_refused(cases[i].words);
			continue;
		}
		assert_int_equal(safetensors_open(&f, path), OK);
		safetensors_close(&f);
	}
}

static void a_length_that_lies_is_refused_before_it_is_believed(void **state)
{
	static const struct { size_t file_bytes; uint64_t length; const char *words; } cases[] = {
		{ 0, 0, "is no safetensors file: it has 0 bytes" },
		{ 7, 2, "is no safetensors file: it has 7 bytes" },
		{ 9, 2, "is cut short: its header has 2 bytes, the file 9" },
		{ 10, UINT64_MAX, "is no safetensors file: its header would have 18446744073709551615 bytes" },
		{ 10, 100000000, "is cut short: its header has 100000000 bytes, the file 10" },
		{ 10, 100000001, "is no safetensors file: its header would have 100000001 bytes" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		write_file("{}", 2, cases[i].length, 0);
		assert_int_equal(truncate(path, (off_t)cases[i].file_bytes), 0);
		assert_refused(cases[i].words);
	}
	/* Really 200 MB of header: a hole, which costs no disk. */
	write_file("{}", 2, 200000000, 0);
	assert_int_equal(truncate(path, 200000008), 0);
	assert_refused("is no safetensors file: its header would have 200000000 bytes");
	assert_int_equal(unlink(path), 0);
	assert_refused("cannot open");
}

static void a_header_may_hold_all_that_json_allows(void **state)
{
	static const char header[] = "{ \"__metadata__\" : {\"format\":\"pt\", \"cfg\":\"a: \\\"1\\\"\\n\\tb\\/\\u00e9\\ud83d\\ude00\" },\n"
		" \"b\" : { \"data_offsets\" : [ 8 , 20 ] , \"shape\" : [ 3 ] , \"dtype\" : \"F32\" } ,"
		TENSOR("a", "I64", "", "0,8") "," TENSOR("none", "F32", "0,7", "8,8") "}   ";
	struct safetensors f;
	const struct safetensor *t;
	char text[SAFETENSOR_TEXT_BYTES];

	(void)state;
	write_file(header, sizeof(header) - 1, sizeof(header) - 1, 20);
	assert_int_equal(safetensors_open(&f, path), OK);
	assert_int_equal(f.count, 3);
	assert_string_equal(safetensors_text(&f, "format"), "pt");
	assert_string_equal(safetensors_text(&f, "cfg"), "a: \"1\"\n\tb/\u00e9\U0001F600");
	assert_null(safetensors_text(&f, "epoch"));
	assert_null(safetensors_find(&f, "c"));
	t = safetensors_find(&f, "b");
	assert_non_null(t);
	assert_int_equal(safetensor_bytes(t), 12);
	assert_string_equal(safetensor_text(t, text), "F32 (3)");
	assert_string_equal(safetensor_text(safetensors_find(&f, "none"), text), "F32 (0,7)");
	assert_int_equal(safetensor_count(safetensors_find(&f, "a")), 1);
	safetensors_close(&f);
}

static void what_is_written_comes_back(void **state)
{
	static const size_t dims[] = { 2, 3 };
	static const float values[6] = { 1, -2, 3.5f, 1e-40f, -0.0f, 6 };
	static const struct safetensors_text texts[] = { { "epoch", "7" }, { "cfg \"x\"", "a:\n\tb \\ \u00e9\x01" } };
	const int64_t count = -5;
	struct safetensors_writer w = { 0 };
	struct safetensors f;
	float back[6];
	int64_t count_back;

	(void)state;
	assert_int_equal(safetensors_add(&w, "n", SAFETENSORS_I64, 0, NULL), OK);
	assert_int_equal(safetensors_add(&w, "odd \"name\"", SAFETENSORS_F32, 2, dims), OK);
	assert_int_equal(safetensors_begin(&w, path, texts, ARRAY_LEN(texts)), OK);
	assert_int_equal(safetensors_put(&w, &count), OK);
	assert_int_equal(safetensors_put(&w, values), OK);
	assert_int_equal(safetensors_end(&w, OK), OK);
	assert_int_equal(safetensors_open(&f, path), OK);
	assert_int_equal(f.data_at % 8, 0);
	assert_int_equal(safetensors_read(&f, safetensors_find(&f, "n"), &count_back), OK);
	assert_int_equal(safetensors_read(&f, safetensors_find(&f, "odd \"name\""), back), OK);
	assert_true(count_back == count);
	assert_memory_equal(back, values, sizeof(values));
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_string_equal(safetensors_text(&f, texts[i].key), texts[i].text);
	safetensors_close(&f);
}

static void a_file_that_was_not_finished_leaves_the_one_before(void **state)
{
	struct safetensors_writer w = { 0 };
	struct safetensors f;
	char beside[PATH_BYTES];
	const float one = 1;

	(void)state;
	assert_int_equal(path_make(beside, "%s.tmp", path), OK);
	for (int good = 1; good >= 0; good--) {
		assert_int_equal(safetensors_add(&w, good ? "good" : "bad", SAFETENSORS_F32, 0, NULL), OK);
		assert_int_equal(safetensors_begin(&w, path, NULL, 0), OK);
		assert_int_equal(access(beside, F_OK), 0);
		if (good)
			assert_int_equal(safetensors_put(&w, &one), OK);
		assert_int_equal(safetensors_end(&w, good ? OK : FAILED), good ? OK : FAILED);
		assert_int_equal(access(beside, F_OK), -1);
	}
	assert_int_equal(safetensors_open(&f, path), OK);
	assert_non_null(safetensors_find(&f, "good"));
	safetensors_close(&f);
}

/* ---- the state of a net ---- */

struct job {
	struct net net;
	struct kernels *k;
};

static void job_open(struct job *j, const char *backend, uint64_t seed)
{
	assert_int_equal(net_init(&j->net, net_preset_find("nano"), 0, 0), OK);
	assert_int_equal(kernel_backend_find(backend)->open(&j->k, &(struct kernel_config){
		.net = &j->net, .clips_max = 1, .boxes_max = 1, .threads = 1, .seed = seed }), OK);
}

static void job_close(struct job *j)
{
	j->k->backend->close(j->k);
	net_release(&j->net);
}

static size_t count_of(const struct net *net, enum state_kind kind, size_t index)
{
	return kind <= STATE_MOMENTUM ? net->params[index].count : net->buffers[index].channels;
}

/* Different numbers in every tensor of every kind. */
static void fill(struct job *j)
{
	for (int kind = STATE_WEIGHT; kind <= STATE_VAR; kind++)
		for (size_t i = 0; i < (kind <= STATE_MOMENTUM ? j->net.param_count : j->net.buffer_count); i++) {
			size_t count = count_of(&j->net, kind, i);
			float *plain = malloc(count * sizeof(*plain));

			for (size_t v = 0; v < count; v++)
				plain[v] = (float)(1000 * kind) + (float)i + (float)v / (float)count;
			assert_int_equal(j->k->backend->set(j->k, kind, i, plain), OK);
			free(plain);
		}
	for (size_t i = 0; i < j->net.buffer_count; i++)
		j->k->bn_batches[i] = (int64_t)i + 1;
}

static bool same(struct job *a, struct job *b, enum state_kind kind, size_t index)
{
	size_t bytes = count_of(&a->net, kind, index) * sizeof(float);
	float *x = malloc(bytes), *y = malloc(bytes);
	bool equal;

	assert_int_equal(a->k->backend->get(a->k, kind, index, x), OK);
	assert_int_equal(b->k->backend->get(b->k, kind, index, y), OK);
	equal = !memcmp(x, y, bytes);
	free(x);
	free(y);
	return equal;
}

static void a_file_of_the_model_has_pyslowfast_s_names(void **state)
{
	static const char *const names[] = { "s1.pathway0_stem.conv.weight", "s1_fuse.conv_f2s.weight", "s1_fuse.bn.running_var",
		"s2.pathway0_res0.branch1_bn.bias", "s4.pathway1_res5.branch2.b_bn.weight",
		"s4.pathway1_res5.branch2.b_bn.num_batches_tracked", "head.projection.bias" };
	struct job j;
	struct safetensors f;

	(void)state;
	job_open(&j, "null", 0);
	assert_int_equal(weights_save(j.k, WEIGHTS_MODEL, path, NULL, 0), OK);
	assert_int_equal(safetensors_open(&f, path), OK);
	assert_int_equal(f.count, 662);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_non_null(safetensors_find(&f, names[i]));
	safetensors_close(&f);
	job_close(&j);
}

static void the_state_moves_through_a_file_from_one_back_end_to_another(void **state)
{
	const unsigned all = WEIGHTS_MODEL | WEIGHTS_MOMENTUM | WEIGHTS_GRADS;
	static const struct safetensors_text epoch = { "epoch", "3" };
	struct weights_found found;
	struct safetensors f;
	struct job a, b;

	(void)state;
	job_open(&a, "cpu", 1);
	job_open(&b, "null", 2);
	fill(&a);
	assert_int_equal(weights_save(a.k, all, path, &epoch, 1), OK);
	assert_int_equal(safetensors_open(&f, path), OK);
	assert_string_equal(safetensors_text(&f, "epoch"), "3");
	assert_int_equal(weights_load(b.k, all, &f, false, &found), OK);
	assert_int_equal(found.wanted, 662 + 2 * 332);
	assert_int_equal(found.taken, found.wanted);
	for (int kind = STATE_WEIGHT; kind <= STATE_VAR; kind++)
		for (size_t i = 0; i < (kind <= STATE_MOMENTUM ? a.net.param_count : a.net.buffer_count); i++)
			assert_true(same(&a, &b, kind, i));
	assert_memory_equal(a.k->bn_batches, b.k->bn_batches, a.net.buffer_count * sizeof(int64_t));
	safetensors_close(&f);
	job_close(&a);
	job_close(&b);
}

/* A file of the model in which the head is another one, as in Kinetics. */
static void write_without_head(struct job *j)
{
	static const size_t classes[] = { 400, 288 };
	struct safetensors f;
	struct safetensors_writer w = { 0 };
	float *room = calloc(1 << 20, sizeof(*room));

	assert_int_equal(weights_save(j->k, WEIGHTS_MODEL, path, NULL, 0), OK);
	assert_int_equal(safetensors_open(&f, path), OK);
	for (int type = SAFETENSORS_I64; type >= SAFETENSORS_F32; type--)
		for (size_t i = 0; i < f.count; i++) {
			const struct safetensor *t = &f.tensors[i];
			size_t dims[SAFETENSORS_RANK_MAX];

			for (size_t d = 0; d < t->rank; d++)
				dims[d] = t->dims[d];
			if (t->type == type && strncmp(t->name, "head.", 5))
				assert_int_equal(safetensors_add(&w, t->name, type, t->rank, dims), OK);
		}
	assert_int_equal(safetensors_add(&w, "head.projection.weight", SAFETENSORS_F32, 2, classes), OK);
	assert_int_equal(safetensors_begin(&w, path, NULL, 0), OK);
	for (size_t i = 0; i + 1 < w.count; i++) {
		assert_int_equal(safetensors_read(&f, safetensors_find(&f, w.tensors[i].name), room), OK);
		assert_int_equal(safetensors_put(&w, room), OK);
	}
	memset(room, 0, 400 * 288 * sizeof(*room));
	assert_int_equal(safetensors_put(&w, room), OK);
	assert_int_equal(safetensors_end(&w, OK), OK);
	safetensors_close(&f);
	free(room);
}

static void what_a_file_lacks_is_named_and_with_partial_stays(void **state)
{
	static const char lacks[] = "has 660 of the 662 tensors of net 'nano'; missing, or of another shape: "
		"head.projection.weight is F32 (400,288), head.projection.bias";
	struct weights_found found;
	struct safetensors f;
	struct job a, b, fresh;

	(void)state;
	job_open(&a, "cpu", 1);
	job_open(&b, "cpu", 2);
	job_open(&fresh, "cpu", 2);
	fill(&a);
	write_without_head(&a);
	assert_int_equal(safetensors_open(&f, path), OK);
	assert_int_equal(weights_load(b.k, WEIGHTS_MODEL, &f, false, NULL), FAILED);
	if (!strstr(err_last(), lacks))
		fail_msg("failed with '%s', not with '%s'", err_last(), lacks);
	for (size_t i = 0; i < b.net.param_count; i++)
		assert_true(same(&b, &fresh, STATE_WEIGHT, i));
	assert_int_equal(weights_load(b.k, WEIGHTS_MODEL, &f, true, &found), OK);
	assert_int_equal(found.taken, 660);
	for (size_t i = 0; i < b.net.param_count; i++)
		assert_true(same(&b, strncmp(b.net.params[i].name, "head.", 5) ? &a : &fresh, STATE_WEIGHT, i));
	/* Of momentum there is none: all names do not fit into a message, and it says so. */
	assert_int_equal(weights_load(b.k, WEIGHTS_MOMENTUM, &f, false, NULL), FAILED);
	assert_non_null(strstr(err_last(), "has 0 of the 332 tensors"));
	safetensors_close(&f);
	job_close(&a);
	job_close(&b);
	job_close(&fresh);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_that_lies_is_refused_by_name),
		cmocka_unit_test(a_length_that_lies_is_refused_before_it_is_believed),
		cmocka_unit_test(a_header_may_hold_all_that_json_allows),
		cmocka_unit_test(what_is_written_comes_back),
		cmocka_unit_test(a_file_that_was_not_finished_leaves_the_one_before),
		cmocka_unit_test(a_file_of_the_model_has_pyslowfast_s_names),
		cmocka_unit_test(the_state_moves_through_a_file_from_one_back_end_to_another),
		cmocka_unit_test(what_a_file_lacks_is_named_and_with_partial_stays),
	};

	return cmocka_run_group_tests_name("weights", tests, home_make, home_remove);
}
