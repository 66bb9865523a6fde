/*
 * tests/test_profile.c - what each operator takes, alone.  Times are never judged, only what they are made of.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "bench/base/err.h"
#include "bench/profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OPERATOR, STAGE, PASS, RUNS_ON, MS, SHARE, GFLOP, TFLOP_PER_S, MB, GB_PER_S, ROOFLINE };
enum { CLIPS = 2 };

static struct kernels *open_and_step(const struct kernel_backend *b, struct net *net)
{
	const size_t pixels = 3 * net->crop * net->crop;
	float *slow = calloc(CLIPS * pixels * net->slow_frames, sizeof(float));
	float *fast = calloc(CLIPS * pixels * net->frames, sizeof(float));
	float rois[5] = { 0, 0, 0, 40, 40 }, labels[NET_CLASSES] = { 1 };
	struct kernels *k;

	assert_true(slow && fast);
	assert_int_equal(b->open(&k, &(struct kernel_config){ .net = net, .clips_max = CLIPS, .boxes_max = 1, .threads = 1 }), OK);
	assert_int_equal(b->input(k, &(struct step_input){ .clips = CLIPS, .boxes = 1, .slow = slow, .fast = fast, .rois = rois,
							   .labels = labels }), OK);
	assert_int_equal(b->forward(k), OK);
	assert_int_equal(b->loss(k), OK);
	assert_int_equal(b->backward(k, net->param_count - 1), OK);
	free(slow);
	free(fast);
	return k;
}

static double real(const struct table *t, size_t row, size_t column)
{
	const struct cell *c = table_cell(t, row, column);

	assert_int_equal(c->kind, CELL_REAL);
	return c->real;
}

static void the_passes_of_a_step_are_there_once_and_add_up(void **state)
{
	struct table ops, ceilings;
	struct kernels *k;
	struct net net;
	size_t convs = 0, others = 0, rows;
	double ms = 0, share = 0, gflop = 0, mb = 0, macs;

	(void)state;
	assert_int_equal(net_init(&net, net_preset_find("nano"), 0, 0), OK);
	k = open_and_step(kernel_backend_find("cpu"), &net);
	assert_int_equal(profile_ops(k, CLIPS, &ops, &ceilings), OK);
	for (size_t i = 0; i < net.op_count; i++)
		if (net.ops[i].kind == OP_CONV)
			convs++;
		else
			others++;
	rows = 3 * convs - NET_INPUTS + 2 * others;	/* nothing goes back to an input */
	assert_int_equal(table_rows(&ops), rows + 1);
	for (size_t i = 0; i < rows; i++) {
		assert_true(real(&ops, i, MS) > 0 && real(&ops, i, ROOFLINE) > 0);
		ms += real(&ops, i, MS);
		share += real(&ops, i, SHARE);
		gflop += real(&ops, i, GFLOP);
		mb += real(&ops, i, MB);
	}
	macs = (double)(net.conv_macs + net_backward_macs(&net, net.param_count - 1));
	assert_string_equal(table_cell(&ops, rows, OPERATOR)->text, "all");
	assert_true(fabs(ms / real(&ops, rows, MS) - 1) < 1e-9 && fabs(share / 100 - 1) < 1e-9);
	assert_true(fabs(gflop / real(&ops, rows, GFLOP) - 1) < 1e-9 && fabs(mb / real(&ops, rows, MB) - 1) < 1e-9);
	assert_true(fabs(gflop / (2e-9 * CLIPS * macs) - 1) < 1e-9);
	assert_int_equal(table_rows(&ceilings), 2);
	assert_true(real(&ceilings, 0, 1) > 0 && real(&ceilings, 1, 1) > 0);
	table_release(&ops);
	table_release(&ceilings);
	k->backend->close(k);
	net_release(&net);
}

static void bytes_are_those_that_must_move(void **state)
{
	struct table ops, ceilings;
	struct kernels *k;
	struct net net;
	size_t seen = 0;

	(void)state;
	assert_int_equal(net_init(&net, net_preset_find("nano"), 0, 0), OK);
	k = open_and_step(kernel_backend_find("cpu"), &net);
	assert_int_equal(profile_ops(k, CLIPS, &ops, &ceilings), OK);
	for (size_t i = 0; i + 1 < table_rows(&ops); i++) {
		const struct net_op *op = net.ops;
		const struct net_tensor *x, *y;

		while (strcmp(op->name, table_cell(&ops, i, OPERATOR)->text))
			op++;
		x = &net.tensors[op->in];
		y = &net.tensors[op->out];
		if (op->kind != OP_CONV)
			continue;
		seen++;
		assert_true(fabs(real(&ops, i, MB) - 4e-6 * (double)(CLIPS * (x->c * x->t * x->h * x->w + y->c * y->t * y->h * y->w) +
								     net.params[op->weight].count)) < 1e-9);
	}
	assert_true(seen > 100);
	table_release(&ops);
	table_release(&ceilings);
	k->backend->close(k);
	net_release(&net);
}

static void a_back_end_that_cannot_time_says_so(void **state)
{
	struct table ops, ceilings;
	struct kernels *k;
	struct net net;

	(void)state;
	assert_int_equal(net_init(&net, net_preset_find("nano"), 0, 0), OK);
	k = open_and_step(kernel_backend_find("null"), &net);
	assert_int_equal(profile_ops(k, CLIPS, &ops, &ceilings), UNSUPPORTED);
	assert_string_equal(err_last(), "kernels 'null' cannot time their operators");
	table_release(&ops);
	table_release(&ceilings);
	k->backend->close(k);
	net_release(&net);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_passes_of_a_step_are_there_once_and_add_up),
		cmocka_unit_test(bytes_are_those_that_must_move),
		cmocka_unit_test(a_back_end_that_cannot_time_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
