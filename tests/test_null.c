/*
 * tests/test_null.c - the list of back ends, and the one without arithmetic.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "comm/bucket.h"
#include "kernels/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct net net;

static int setup(void **state)
{
	(void)state;
	return net_init(&net, net_preset_find("nano"), 0, 0);
}

static int teardown(void **state)
{
	(void)state;
	net_release(&net);
	return 0;
}

static struct kernels *open_null(const char *emulate, uint64_t seed, const size_t *grad_offset)
{
	const struct kernel_config config = { .net = &net, .clips_max = 2, .boxes_max = 4, .threads = 1,
					      .grad_offset = grad_offset, .dropout_seed = seed, .emulate = emulate };
	struct kernels *k = NULL;

	assert_int_equal(kernel_backend_find("null")->open(&k, &config), OK);
	return k;
}

/* A step whose backward runs in `parts` calls; its length. */
static uint64_t step_ns(struct kernels *k, size_t parts)
{
	const struct kernel_backend *b = k->backend;
	const struct step_input in = { .clips = 1, .boxes = 2 };
	const struct sgd sgd = { .lr = 0.1 };
	uint64_t start_ns = clock_ns();

	assert_int_equal(b->input(k, &in), OK);
	assert_int_equal(b->forward(k), OK);
	assert_int_equal(b->loss(k), OK);
	assert_true(*k->loss == 0);
	for (size_t i = 1; i <= parts; i++)
		assert_int_equal(b->backward(k, k->net->param_count * i / parts - 1), OK);
	assert_int_equal(b->update(k, &sgd), OK);
	return clock_ns() - start_ns;
}

static void every_back_end_has_its_required_slots_and_is_found_by_name(void **state)
{
	(void)state;
	for (size_t i = 0; kernel_backends[i]; i++) {
		const struct kernel_backend *b = kernel_backends[i];

		assert_ptr_equal(kernel_backend_find(b->name), b);
		assert_true(b->probe && b->open && b->close && b->input && b->forward && b->loss && b->backward &&
			    b->update && b->get && b->set);
	}
	assert_null(kernel_backend_find("gpu"));
	assert_null(kernel_backend_find(""));
}

static void a_step_without_arithmetic_counts_its_batches_and_changes_nothing_else(void **state)
{
	struct kernels *k = open_null(NULL, 0, NULL);

	(void)state;
	for (size_t i = 0; i < 3; i++)
		step_ns(k, 6);
	for (size_t i = 0; i < net.buffer_count; i++)
		assert_int_equal(k->bn_batches[i], 3);
	for (size_t i = 0; i < net.values; i++)
		assert_true(k->grads[i] == 0 && k->weights[i] == 0);
	k->backend->close(k);
}

static void a_tensor_that_is_set_lies_at_its_place_and_is_got_back(void **state)
{
	struct bucket_tensor tensors[332];
	struct bucket_plan plan;
	struct kernels *plain, *bucketed;
	const struct kernel_backend *b;
	float *in = malloc(net.values * sizeof(*in)), *out = malloc(net.values * sizeof(*out));
	size_t at = 0;

	(void)state;
	assert_true(in && out);
	for (size_t i = 0; i < net.values; i++)
		in[i] = (float)i + 1;
	for (size_t i = 0; i < net.param_count; i++)
		tensors[i] = (struct bucket_tensor){ net.params[i].count, net.params[i].ready };
	assert_int_equal(bucket_plan_init(&plan, tensors, net.param_count, BUCKET_REBUILT, 64 << 10, 1 << 20), OK);
	plain = open_null(NULL, 0, NULL);
	bucketed = open_null(NULL, 0, plan.grad_offset);
	b = bucketed->backend;
	assert_true(plain->layout_hash != bucketed->layout_hash);

	for (enum state_kind kind = STATE_WEIGHT; kind <= STATE_MOMENTUM; kind++)
		for (size_t i = 0; i < net.param_count; i++) {
			assert_int_equal(b->set(bucketed, kind, i, in + i + kind), OK);
			assert_int_equal(b->get(bucketed, kind, i, out), OK);
			assert_memory_equal(out, in + i + kind, net.params[i].count * sizeof(*out));
		}
	for (size_t i = 0; i < net.param_count; i++) {
		assert_true(bucketed->weights[plan.grad_offset[i]] == (float)(i + STATE_WEIGHT + 1));
		assert_true(bucketed->grads[plan.grad_offset[i]] == (float)(i + STATE_GRAD + 1));
	}
	for (size_t i = 0; i < net.buffer_count; i++) {
		assert_true(bucketed->bn_state[at] == 0);
		assert_true(bucketed->bn_state[at + net.buffers[i].channels] == 1);
		assert_int_equal(b->set(bucketed, STATE_VAR, i, in), OK);
		assert_int_equal(b->get(bucketed, STATE_MEAN, i, out), OK);
		assert_true(out[0] == 0);
		at += 2 * net.buffers[i].channels;
	}
	assert_int_equal(at, net.buffer_values);
	b->close(plain);
	b->close(bucketed);
	bucket_plan_release(&plan);
	free(in);
	free(out);
}

static void an_emulated_step_takes_the_time_of_its_phases_however_backward_is_cut(void **state)
{
	/* 1 + 2 + 1 + 3 + 1 ms.  One part in a hundred for the two clocks, that of sleeping and that of measuring. */
	static const char emulate[] = "input=const:1,forward=normal:2,0,loss=const:1,backward=lognormal:3,0,update=const:1";
	struct kernels *k = open_null(emulate, 0, NULL);

	(void)state;
	assert_true(step_ns(k, 1) >= 7920000);
	assert_true(step_ns(k, 6) >= 7920000);
	assert_true(step_ns(k, 332) >= 7920000);
	k->backend->close(k);
}

static void an_emulation_that_cannot_be_read_is_refused(void **state)
{
	static const struct { const char *text; int rc; } rows[] = {
		{ "forward", USAGE }, { "const:10", USAGE }, { "sideways=const:1", USAGE }, { "forward=", USAGE },
		{ "forward=const:1,forward=const:2", USAGE }, { "forward=const:1,sideways=const:2", USAGE },
		{ "forward=normal:1,backward=const:1", USAGE }, { "forward=file:/nowhere/at/all", FAILED },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct kernel_config config = { .net = &net, .clips_max = 1, .boxes_max = 1,
						      .emulate = rows[i].text };
		struct kernels *k = NULL;

		assert_int_equal(kernel_backend_find("null")->open(&k, &config), rows[i].rc);
		assert_null(k);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_back_end_has_its_required_slots_and_is_found_by_name),
		cmocka_unit_test(a_step_without_arithmetic_counts_its_batches_and_changes_nothing_else),
		cmocka_unit_test(a_tensor_that_is_set_lies_at_its_place_and_is_got_back),
		cmocka_unit_test(an_emulated_step_takes_the_time_of_its_phases_however_backward_is_cut),
		cmocka_unit_test(an_emulation_that_cannot_be_read_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
