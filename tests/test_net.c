/*
 * tests/test_net.c - the rows of the network against published totals and against the layer lists in tests/data,
 * which were made from the specification of the published model and not by this program.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "comm/bucket.h"
#include "kernels/net.h"
#include "tests/shell.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void the_totals_of_every_preset_are_the_published_ones(void **state)
{
	static const struct {
		const char *name;
		size_t frames, crop, values;
		uint64_t macs;
		size_t slow_c, slow_t, side, features;	/* behind s5, and what the projection reads */
	} rows[] = {
		{ "r50", 0, 0, 33828888, 74180198400, 2048, 8, 14, 2304 },
		{ "r50", 0, 256, 33828888, 96888422400, 2048, 8, 16, 2304 },
		{ "r50", 64, 0, 33828888, 148360396800, 2048, 16, 14, 2304 },
		{ "r50-16", 0, 0, 33828888, 37090099200, 2048, 4, 14, 2304 },
		{ "medium", 0, 0, 8522356, 2421393408, 1024, 4, 7, 1152 },
		{ "small", 0, 0, 2163186, 656979456, 512, 4, 7, 576 },
		{ "tiny", 0, 0, 2163186, 107261952, 512, 2, 4, 576 },
		{ "nano", 0, 0, 557125, 31030272, 256, 2, 4, 288 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct net net;
		const struct net_op *roi;
		const struct net_tensor *slow, *fast;

		assert_int_equal(net_init(&net, net_preset_find(rows[i].name), rows[i].frames, rows[i].crop), OK);
		assert_int_equal(net.param_count, 332);
		assert_int_equal(net.buffer_count, 110);
		assert_int_equal(net.values, rows[i].values);
		assert_int_equal(net.conv_macs, rows[i].macs);
		roi = &net.ops[net.op_count - 2];
		assert_int_equal(roi->kind, OP_ROI_HEAD);
		slow = &net.tensors[roi->in];
		fast = &net.tensors[roi->in2];
		assert_int_equal(slow->c, rows[i].slow_c);
		assert_int_equal(slow->t, rows[i].slow_t);
		assert_int_equal(slow->h, rows[i].side);
		assert_int_equal(slow->w, rows[i].side);
		assert_int_equal(fast->c, rows[i].slow_c / NET_BETA_INV);
		assert_int_equal(fast->t, rows[i].slow_t * NET_ALPHA);
		assert_int_equal(net.tensors[roi->out].c, rows[i].features);
		net_release(&net);
	}
}

static void the_choices_of_an_option_are_the_presets(void **state)
{
	char names[256] = "";

	(void)state;
	for (const struct net_preset *p = net_presets; p->name; p++) {
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", *names ? "|" : "", p->name);
		assert_ptr_equal(net_preset_find(p->name), p);
	}
	assert_string_equal(names, NET_PRESET_NAMES);
}

static void optimiser_groups_and_running_state_have_the_published_sizes(void **state)
{
	struct net net;
	size_t decaying = 0, batch_norm = 0;

	(void)state;
	assert_int_equal(net_init(&net, net_preset_find("r50"), 0, 0), OK);
	for (size_t i = 0; i < net.param_count; i++)
		*(net.params[i].decays ? &decaying : &batch_norm) += net.params[i].count;
	assert_int_equal(decaying, 33768200);
	assert_int_equal(batch_norm, 60688);
	assert_int_equal(net.buffer_values, 60688);
	net_release(&net);
}

static void an_operator_reads_what_an_earlier_one_wrote(void **state)
{
	(void)state;
	for (const struct net_preset *p = net_presets; p->name; p++) {
		size_t written[256] = { 0 };	/* channels of each tensor that exist already */
		struct net net;

		assert_int_equal(net_init(&net, p, 0, 0), OK);
		assert_true(net.tensor_count <= ARRAY_LEN(written));
		written[0] = written[1] = 3;
		for (size_t i = 0; i < net.op_count; i++) {
			const struct net_op *op = &net.ops[i];
			const struct net_tensor *out = &net.tensors[op->out];

			assert_int_equal(written[op->in], net.tensors[op->in].c);
			if (op->in2 >= 0)
				assert_int_equal(written[op->in2], net.tensors[op->in2].c);
			if (op->kind == OP_BN && op->in2 >= 0)
				assert_memory_equal(&net.tensors[op->in2].c, &out->c, 4 * sizeof(out->c));
			assert_int_equal(written[op->out], 0);
			written[op->out] = out->c;
			if (out->of < 0)
				continue;
			/* Slices follow each other without gaps and fit the whole in time and space. */
			assert_int_equal(written[out->of], out->c0);
			assert_memory_equal(&out->t, &net.tensors[out->of].t, 3 * sizeof(out->t));
			written[out->of] += out->c;
		}
		for (size_t i = 0; i < net.tensor_count; i++)
			assert_int_equal(written[i], net.tensors[i].c);
		net_release(&net);
	}
}

static void clips_that_do_not_divide_are_refused(void **state)
{
	static const struct { size_t frames, crop; int rc; } rows[] = {
		{ 8, 64, OK }, { 12, 80, OK }, { 1024, 4096, OK },
		{ 30, 0, USAGE }, { 4, 0, USAGE }, { 1028, 0, USAGE }, { SIZE_MAX - 3, 0, USAGE },
		{ 0, 225, USAGE }, { 0, 48, USAGE }, { 0, 4112, USAGE }, { 0, SIZE_MAX - 15, USAGE },
	};

	(void)state;
	assert_null(net_preset_find("r51"));
	assert_null(net_preset_find(""));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct net net;

		assert_int_equal(net_init(&net, net_preset_find("tiny"), rows[i].frames, rows[i].crop), rows[i].rc);
		net_release(&net);
	}
}

/* Columns of the layer lists, by kind of row; a list opens with their names, on lines with a '#'. */
enum { COL_KIND, COL_INDEX, COL_NAME, COL_MAX = 16 };
enum {
	COL_PARAM_SHAPE = 3, COL_PARAM_COUNT, COL_PARAM_GROUP, COL_PARAM_DECAY, COL_PARAM_READY, COL_PARAM_STATIC,
	COL_PARAM_REBUILT, PARAM_COLS
};
enum { COL_BUFFER_COUNT = 3, BUFFER_COLS };
enum {		/* conv, fc; the list of r50 has three more, for crop 256 */
	COL_OP_STAGE = 3, COL_OP_SHAPE, COL_OP_KERNEL, COL_OP_STRIDE, COL_OP_PAD, COL_OP_DILATION, COL_OP_IN,
	COL_OP_OUT, COL_OP_MACS, COL_OP_IN_256, COL_OP_OUT_256, COL_OP_MACS_256
};

/* Splits in place at every comma; empty fields count. */
static size_t split(char *line, char *field[COL_MAX])
{
	size_t n = 0;
	char *at;

	while (n < COL_MAX && (at = strsep(&line, ",")))
		field[n++] = at;
	return n;
}

static const char *joined(const size_t *v, size_t n)
{
	static char text[128];
	size_t used = 0;

	*text = '\0';
	for (size_t i = 0; i < n; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%zu", i ? "x" : "", v[i]);
	return text;
}

static size_t number(const char *text)
{
	char *end;
	size_t v = strtoull(text, &end, 10);

	assert_true(*text && !*end);
	return v;
}

/* The bucket in which a parameter travels. */
static size_t bucket_of(const struct bucket_plan *plan, size_t param)
{
	size_t b = 0;

	while (plan->grad_offset[param] >= plan->buckets[b].offset + plan->buckets[b].count)
		b++;
	return b;
}

static void plan_make(struct bucket_plan *plan, const struct net *net, enum bucket_layout layout)
{
	struct bucket_tensor tensors[332];

	for (size_t i = 0; i < net->param_count; i++)
		tensors[i] = (struct bucket_tensor){ net->params[i].count, net->params[i].ready };
	assert_int_equal(bucket_plan_init(plan, tensors, net->param_count, layout, 1 << 20, 25 << 20), OK);
}

static void check_param(const struct net *net, char *f[COL_MAX])
{
	static const char *const groups[] = { [PARAM_CONV] = "conv", [PARAM_BN] = "bn", [PARAM_FC] = "fc" };
	const struct net_param *p = &net->params[number(f[COL_INDEX])];

	assert_string_equal(p->name, f[COL_NAME]);
	assert_string_equal(joined(p->dims, p->rank), f[COL_PARAM_SHAPE]);
	assert_int_equal(p->count, number(f[COL_PARAM_COUNT]));
	assert_string_equal(groups[p->group], f[COL_PARAM_GROUP]);
	assert_string_equal(p->decays ? "wd" : "0", f[COL_PARAM_DECAY]);
	assert_int_equal(p->ready, number(f[COL_PARAM_READY]));
}

static void check_buffer(const struct net *net, char *f[COL_MAX])
{
	static const char *const parts[] = { "running_mean", "running_var", "num_batches_tracked" };
	size_t index = number(f[COL_INDEX]);
	const struct net_buffer *b = &net->buffers[index / 3];
	char name[96];

	snprintf(name, sizeof(name), "%s.%s", b->name, parts[index % 3]);
	assert_string_equal(name, f[COL_NAME]);
	assert_int_equal(index % 3 == 2 ? 1 : b->channels, number(f[COL_BUFFER_COUNT]));
}

/* `in`, `out`, `macs`: the columns for the net's crop. */
static void check_op(const struct net *net, const struct net_op *op, char *f[COL_MAX], const char *in, const char *out,
		     const char *macs)
{
	const struct net_tensor *x = &net->tensors[op->in], *y = &net->tensors[op->out];
	const struct net_param *weight = &net->params[op->weight];

	assert_string_equal(op->name, f[COL_NAME]);
	assert_string_equal(op->stage, f[COL_OP_STAGE]);
	assert_string_equal(joined(weight->dims, weight->rank), f[COL_OP_SHAPE]);
	assert_int_equal(op->macs, number(macs));
	if (op->kind == OP_FC) {
		assert_int_equal(x->c, strtoull(in, NULL, 10));
		assert_int_equal(y->c, strtoull(out, NULL, 10));
		return;
	}
	assert_string_equal(joined(op->kernel, 3), f[COL_OP_KERNEL]);
	assert_string_equal(joined(op->stride, 3), f[COL_OP_STRIDE]);
	assert_string_equal(joined(op->pad, 3), f[COL_OP_PAD]);
	assert_string_equal(joined(op->dilation, 3), f[COL_OP_DILATION]);
	assert_string_equal(joined((const size_t[]){ x->c, x->t, x->h, x->w }, 4), in);
	assert_string_equal(joined((const size_t[]){ y->c, y->t, y->h, y->w }, 4), out);
}

/* Every line of `path` against `net`; columns from `col_in` on hold shapes and MACs for its crop. */
static void check_list(const char *path, const char *preset, size_t crop, size_t col_in)
{
	const struct net_op *convs[110], *fc = NULL;
	size_t conv_count = 0, params = 0, buffers = 0, convs_seen = 0, fcs = 0, fields;
	struct bucket_plan stat, rebuilt;
	struct line_reader r;
	struct net net;

	assert_int_equal(net_init(&net, net_preset_find(preset), 0, crop), OK);
	for (size_t i = 0; i < net.op_count; i++) {
		if (net.ops[i].kind == OP_CONV)
			convs[conv_count++] = &net.ops[i];
		else if (net.ops[i].kind == OP_FC)
			fc = &net.ops[i];
	}
	plan_make(&stat, &net, BUCKET_STATIC);
	plan_make(&rebuilt, &net, BUCKET_REBUILT);
	assert_int_equal(line_reader_open(&r, path), OK);
	while (line_reader_next(&r)) {
		char *f[COL_MAX];

		if (*r.line == '#')
			continue;
		fields = split(r.line, f);
		if (!strcmp(f[COL_KIND], "param")) {
			assert_int_equal(fields, PARAM_COLS);
			assert_int_equal(number(f[COL_INDEX]), params++);
			check_param(&net, f);
			assert_int_equal(bucket_of(&stat, params - 1), number(f[COL_PARAM_STATIC]));
			assert_int_equal(bucket_of(&rebuilt, params - 1), number(f[COL_PARAM_REBUILT]));
		} else if (!strcmp(f[COL_KIND], "buffer")) {
			assert_int_equal(fields, BUFFER_COLS);
			assert_int_equal(number(f[COL_INDEX]), buffers++);
			check_buffer(&net, f);
		} else if (!strcmp(f[COL_KIND], "conv")) {
			assert_true(fields > col_in + 2);
			assert_int_equal(number(f[COL_INDEX]), convs_seen);
			check_op(&net, convs[convs_seen++], f, f[col_in], f[col_in + 1], f[col_in + 2]);
		} else {
			assert_string_equal(f[COL_KIND], "fc");
			assert_true(fields > col_in + 2);
			check_op(&net, fc, f, f[col_in], f[col_in + 1], f[col_in + 2]);
			fcs++;
		}
	}
	assert_int_equal(line_reader_close(&r, OK), OK);
	assert_int_equal(params, 332);
	assert_int_equal(buffers, 330);
	assert_int_equal(convs_seen, 110);
	assert_int_equal(fcs, 1);
	bucket_plan_release(&stat);
	bucket_plan_release(&rebuilt);
	net_release(&net);
}

static void buckets_become_ready_at_the_published_shares_of_backward(void **state)
{
	static const struct { enum bucket_layout layout; size_t bytes[6]; double percent[6]; } rows[] = {
		{ BUCKET_STATIC, { 15666496, 26238976, 34119680, 28590080, 29018624, 1681696 },
		  { 10.1, 24.3, 48.3, 59.3, 89.0, 100 } },
		{ BUCKET_REBUILT, { 1150272, 27099136, 26238976, 32022528, 27815936, 20988704 },
		  { 0.9, 16.9, 31.1, 48.3, 64.5, 100 } },
	};
	struct net net;

	(void)state;
	assert_int_equal(net_init(&net, net_preset_find("r50"), 0, 0), OK);
	assert_int_equal(net_backward_macs(&net, net.param_count - 1), 74180198400 + 70875807744);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bucket_plan plan;

		plan_make(&plan, &net, rows[i].layout);
		assert_int_equal(plan.bucket_count, 6);
		for (size_t b = 0; b < plan.bucket_count; b++) {
			double share = (double)net_backward_macs(&net, plan.buckets[b].ready) /
				       (double)net_backward_macs(&net, net.param_count - 1);

			assert_int_equal(plan.buckets[b].count * sizeof(float), rows[i].bytes[b]);
			assert_true(fabs(100 * share - rows[i].percent[b]) < 0.051);
		}
		bucket_plan_release(&plan);
	}
	net_release(&net);
}

static void every_row_equals_the_published_layer_lists(void **state)
{
	static const struct { const char *path, *preset; size_t crop, col_in; } lists[] = {
		{ "tests/data/r50_layers.csv", "r50", 224, COL_OP_IN },
		{ "tests/data/r50_layers.csv", "r50", 256, COL_OP_IN_256 },
		{ "tests/data/tiny_layers.csv", "tiny", 64, COL_OP_IN },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		check_list(lists[i].path, lists[i].preset, lists[i].crop, lists[i].col_in);
}

static int run_net(const char *arguments, char *out, size_t room)
{
	char words[PATH_BYTES];

	assert_int_equal(path_make(words, "net %s", arguments), OK);
	return program(words, out, room);
}

static void the_command_prints_totals_or_says_what_does_not_fit(void **state)
{
	static const struct { const char *arguments; int status; const char *says; } rows[] = {
		{ "--net r50 --table stages --csv", 0, "\ntotal,332,33828888,135315552,243632,110,74180198400," },
		{ "--net r50 --crop 256 --table stages --csv", 0, "\ntotal,332,33828888,135315552,243632,110,96888422400," },
		{ "--net tiny --table stages --csv", 0, "\ntotal,332,2163186,8652744," },
		{ "--net tiny --table stages --csv", 0, ",110,107261952," },
		{ "--table buckets --csv --buckets static", 0,
		  "\n5,73,1681696,s1.pathway0_stem.conv.weight,s3.pathway0_res0.branch1.weight,331,145056006144,100" },
		{ "--table buckets --csv", 0,
		  "\n0,11,1150272,head.projection.bias,s5.pathway1_res2.branch2.a.weight,10," },
		{ "--table parameters --csv", 0,
		  "\n330,head.projection.weight,80x2304,184320,fc,on,1,0\n" },
		{ "--table layers --csv --net nano", 0,
		  "\n0,s1,s1.pathway0_stem.conv,conv,1x7x7,1x2x2,0x3x3,1x1x1,3x2x64x64,8x2x32x32,1176,2408448," },
		{ "--net nano --json", 0, "\"macs\":\t31030272" },
		{ "--net r51", 1, "'r51' is none of " NET_PRESET_NAMES },
		{ "--net ''", 1, "'' is none of" },
		{ "--frames 31", 1, "frames '31'" },
		{ "--crop 100", 1, "crop '100'" },
		{ "--crop big", 1, "--crop: 'big'" },
		{ "--bucket-bytes 0", 1, "--bucket" },
		{ "--csv --json", 1, "--csv" },
		{ "r50", 1, "takes no 'r50'" },
	};
	enum { ROOM = 1 << 20 };
	char *out = malloc(ROOM);

	(void)state;
	assert_non_null(out);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(run_net(rows[i].arguments, out, ROOM), rows[i].status);
		if (!strstr(out, rows[i].says))
			fail_msg("'%s' does not say '%s'", rows[i].arguments, rows[i].says);
	}
	free(out);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_totals_of_every_preset_are_the_published_ones),
		cmocka_unit_test(the_choices_of_an_option_are_the_presets),
		cmocka_unit_test(optimiser_groups_and_running_state_have_the_published_sizes),
		cmocka_unit_test(an_operator_reads_what_an_earlier_one_wrote),
		cmocka_unit_test(clips_that_do_not_divide_are_refused),
		cmocka_unit_test(buckets_become_ready_at_the_published_shares_of_backward),
		cmocka_unit_test(every_row_equals_the_published_layer_lists),
		cmocka_unit_test(the_command_prints_totals_or_says_what_does_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
