/*
 * tests/test_cuda_conv.c - convolutions on the device against loops in double.
 *
 * In build/tests it runs over the emulated cuDNN (tests/emulated/cudnn.c): graphs, views, addresses and choices are shown to
 * be right, no engine of the real library is.  In build/gpu it runs over the real one.  That the real one has engines for
 * every convolution of the nets is asked without a GPU, of a described chip (tests/described_conv.c).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#ifdef HAVE_CUDA

#include "bench/base/rng.h"
#include "kernels/cuda/conv.h"
#include "tests/shell.h"
#include "tests/bf16.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Weak: over the real libraries there is no such thing. */
extern void emulated_fail(const char *function, unsigned nth, int error) __attribute__((weak));
extern void emulated_wrong_engines(uint64_t numbers) __attribute__((weak));

enum { ALL = 1u << OP_FORWARD | 1u << OP_BACKWARD_DATA | 1u << OP_BACKWARD_WEIGHTS };

static const struct {
	const char *what;
	size_t n, cin, narrow, cout, in[3], kernel[3], stride[3], pad[3], dilation[3];
	bool folds;
} cases[] = {
	{ "1x1x1", 2, 16, 16, 24, { 3, 5, 7 }, { 1, 1, 1 }, { 1, 1, 1 }, { 0, 0, 0 }, { 1, 1, 1 }, true },
	{ "1x1x1, strided in space", 2, 8, 8, 16, { 2, 7, 6 }, { 1, 1, 1 }, { 1, 2, 2 }, { 0, 0, 0 }, { 1, 1, 1 }, true },
	{ "1x3x3", 2, 8, 8, 8, { 3, 6, 5 }, { 1, 3, 3 }, { 1, 1, 1 }, { 0, 1, 1 }, { 1, 1, 1 }, true },
	{ "1x3x3, strided", 1, 16, 16, 8, { 2, 9, 8 }, { 1, 3, 3 }, { 1, 2, 2 }, { 0, 1, 1 }, { 1, 1, 1 }, true },
	{ "1x3x3, dilated", 1, 8, 8, 16, { 2, 7, 8 }, { 1, 3, 3 }, { 1, 1, 1 }, { 0, 2, 2 }, { 1, 2, 2 }, true },
	{ "3x1x1", 2, 8, 8, 16, { 5, 4, 3 }, { 3, 1, 1 }, { 1, 1, 1 }, { 1, 0, 0 }, { 1, 1, 1 }, true },
	{ "7x1x1, strided in time", 2, 8, 8, 16, { 16, 3, 5 }, { 7, 1, 1 }, { 4, 1, 1 }, { 3, 0, 0 }, { 1, 1, 1 }, true },
	{ "5x7x7, padded channels", 1, 8, 3, 8, { 6, 11, 10 }, { 5, 7, 7 }, { 1, 2, 2 }, { 2, 3, 3 }, { 1, 1, 1 }, false },
	{ "1x7x7, padded channels", 2, 8, 3, 16, { 2, 12, 9 }, { 1, 7, 7 }, { 1, 2, 2 }, { 0, 3, 3 }, { 1, 1, 1 }, true },
	{ "1x5x5, which only the fallback knows", 1, 8, 8, 8, { 2, 6, 7 }, { 1, 5, 5 }, { 1, 1, 1 }, { 0, 2, 2 }, { 1, 1, 1 }, true },
	{ "2x3x1, all sides different", 1, 8, 8, 8, { 5, 6, 4 }, { 2, 3, 1 }, { 2, 1, 3 }, { 0, 1, 0 }, { 2, 2, 1 }, false },
};

/* Of the sum of the terms' magnitudes. */
static const struct { const char *name; enum cuda_math math; double tolerance; } maths[] = {
	{ "fp32", CUDA_MATH_F32, 2e-6 },
	{ "tf32", CUDA_MATH_TF32, 2e-3 },
	{ "bf16", CUDA_MATH_BF16, 6e-3 },
};

static struct cuda_conv_shape shape_of(size_t i)
{
	struct cuda_conv_shape s = { .n = cases[i].n, .cin = cases[i].cin, .cout = cases[i].cout };

	memcpy(s.in, cases[i].in, sizeof(s.in));
	memcpy(s.kernel, cases[i].kernel, sizeof(s.kernel));
	memcpy(s.stride, cases[i].stride, sizeof(s.stride));
	memcpy(s.pad, cases[i].pad, sizeof(s.pad));
	memcpy(s.dilation, cases[i].dilation, sizeof(s.dilation));
	for (size_t a = 0; a < 3; a++)
		s.out[a] = (s.in[a] + 2 * s.pad[a] - s.dilation[a] * (s.kernel[a] - 1) - 1) / s.stride[a] + 1;
	return s;
}

/* ---- arrays, here as double and there as elements ---- */

struct array {
	size_t count;
	double *here;	/* owned */
	void *there;	/* owned */
};

static float rounded(double v, enum cuda_math math)
{
	return math == CUDA_MATH_BF16 ? bf16_value(bf16_bits((float)v)) : (float)v;
}

static size_t element_bytes(enum cuda_math math)
{
	return math == CUDA_MATH_BF16 ? 2 : 4;
}

static void upload(const struct array *a, enum cuda_math math)
{
	const size_t size = element_bytes(math);
	char *elements = malloc(a->count * size);

	assert_non_null(elements);
	for (size_t i = 0; i < a->count; i++) {
		const float f = rounded(a->here[i], math);

		memcpy(elements + i * size, (const char *)&f + (sizeof(f) - size), size);	/* bf16: the upper half */
	}
	assert_int_equal(cudaMemcpy(a->there, elements, a->count * size, cudaMemcpyHostToDevice), cudaSuccess);
	free(elements);
}

/* `rng` NULL: not numbers, on either side. */
static struct array array_make(size_t count, struct rng *rng, enum cuda_math math)
{
	struct array a = { .count = count, .here = malloc(count * sizeof(double)) };

	assert_non_null(a.here);
	assert_int_equal(cudaMalloc(&a.there, count * element_bytes(math)), cudaSuccess);
	assert_int_equal(cudaMemset(a.there, 0xff, count * element_bytes(math)), cudaSuccess);
	for (size_t i = 0; i < count; i++)
		a.here[i] = rng ? rounded(rng_uniform(rng) * 2 - 1, math) : NAN;
	if (rng)
		upload(&a, math);
	return a;
}

static void download(const struct array *a, enum cuda_math math, double *out)
{
	const size_t size = element_bytes(math);
	char *elements = malloc(a->count * size);

	assert_non_null(elements);
	assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
	assert_int_equal(cudaMemcpy(elements, a->there, a->count * size, cudaMemcpyDeviceToHost), cudaSuccess);
	for (size_t i = 0; i < a->count; i++) {
		float f = 0;

		memcpy((char *)&f + (sizeof(f) - size), elements + i * size, size);
		out[i] = f;
	}
	free(elements);
}

static void array_release(struct array *a)
{
	free(a->here);
	assert_int_equal(cudaFree(a->there), cudaSuccess);
}

/* ---- the reference ---- */

struct sums {
	double *sum, *size;	/* of the terms, and of their magnitudes */
};

/* Calls for each term of the convolution: of y[yi] += x[xi] w[wi]. */
static void each_term(const struct cuda_conv_shape *s, void (*term)(void *, size_t, size_t, size_t), void *context)
{
	for (size_t n = 0; n < s->n; n++)
	for (size_t ot = 0; ot < s->out[0]; ot++)
	for (size_t oh = 0; oh < s->out[1]; oh++)
	for (size_t ow = 0; ow < s->out[2]; ow++)
	for (size_t kt = 0; kt < s->kernel[0]; kt++)
	for (size_t kh = 0; kh < s->kernel[1]; kh++)
	for (size_t kw = 0; kw < s->kernel[2]; kw++) {
		/* Padding makes them wrap around: then they are large. */
		const size_t t = ot * s->stride[0] + kt * s->dilation[0] - s->pad[0];
		const size_t h = oh * s->stride[1] + kh * s->dilation[1] - s->pad[1];
		const size_t w = ow * s->stride[2] + kw * s->dilation[2] - s->pad[2];
		const size_t y = ((n * s->out[0] + ot) * s->out[1] + oh) * s->out[2] + ow;
		const size_t x = ((n * s->in[0] + t) * s->in[1] + h) * s->in[2] + w;
		const size_t tap = (kt * s->kernel[1] + kh) * s->kernel[2] + kw;
		const size_t taps = s->kernel[0] * s->kernel[1] * s->kernel[2];

		if (t < s->in[0] && h < s->in[1] && w < s->in[2])
			for (size_t k = 0; k < s->cout; k++)
				for (size_t c = 0; c < s->cin; c++)
					term(context, x * s->cin + c, (k * taps + tap) * s->cin + c, y * s->cout + k);
	}
}

struct trial {
	struct cuda_conv_shape shape;
	size_t narrow;
	enum cuda_math math;
	double tolerance;
	struct array x, weights, y, dx, dy;
	void *workspace;
	struct cuda_conv *conv;
	struct sums sums;
	enum op_pass pass;
};

static void add_term(void *context, size_t x, size_t w, size_t y)
{
	const struct trial *t = context;
	const struct { size_t at; double a, b; } terms[OP_PASSES] = {
		[OP_FORWARD] = { y, t->x.here[x], t->weights.here[w] },
		[OP_BACKWARD_DATA] = { x, t->dy.here[y], t->weights.here[w] },
		[OP_BACKWARD_WEIGHTS] = { w, t->x.here[x], t->dy.here[y] },
	};
	const double term = terms[t->pass].a * terms[t->pass].b;

	t->sums.sum[terms[t->pass].at] += term;
	t->sums.size[terms[t->pass].at] += fabs(term);
}

static void expect(struct trial *t, enum op_pass pass, size_t count)
{
	free(t->sums.sum);
	free(t->sums.size);
	t->sums = (struct sums){ calloc(count, sizeof(double)), calloc(count, sizeof(double)) };
	assert_true(t->sums.sum && t->sums.size);
	t->pass = pass;
	each_term(&t->shape, add_term, t);
}

static void compare(const struct trial *t, size_t i, double got, double want, double size, const char *what)
{
	if (!(fabs(got - want) <= t->tolerance * size + 1e-12))
		fail_msg("%s, value %zu: %g, and not %g", what, i, got, want);
}

static void compare_all(const struct trial *t, const struct array *a, const char *what)
{
	double *got = malloc(a->count * sizeof(double));

	assert_non_null(got);
	download(a, t->math, got);
	for (size_t i = 0; i < a->count; i++)
		compare(t, i, got[i], t->sums.sum[i], t->sums.size[i], what);
	free(got);
}

static size_t places(const size_t dims[3])
{
	return dims[0] * dims[1] * dims[2];
}

static struct trial trial_make(size_t i, size_t m, struct cuda_dnn *dnn, bool adds_dx)
{
	struct trial t = { .shape = shape_of(i), .narrow = cases[i].narrow, .math = maths[m].math, .tolerance = maths[m].tolerance };
	const struct cuda_conv_shape *s = &t.shape;
	const size_t xs = s->n * places(s->in) * s->cin, ws = s->cout * places(s->kernel) * s->cin, ys = s->n * places(s->out) * s->cout;
	struct rng rng;

	rng_init(&rng, 7, i);
	t.x = array_make(xs, &rng, t.math);
	t.weights = array_make(ws, &rng, t.math);
	t.dy = array_make(ys, &rng, t.math);
	t.y = array_make(ys, NULL, t.math);
	t.dx = array_make(xs, adds_dx ? &rng : NULL, t.math);
	for (size_t c = 0; c < xs; c++)		/* as an input's padding is */
		if (c % s->cin >= t.narrow)
			t.x.here[c] = 0;
	upload(&t.x, t.math);
	assert_int_equal(cuda_conv_open(&t.conv, dnn, s, ALL, adds_dx), OK);
	assert_int_equal(cudaMalloc(&t.workspace, cuda_conv_workspace_bytes(t.conv)), cudaSuccess);
	return t;
}

/* At addresses of its own: it overwrites. */
static void trial_tune(struct trial *t)
{
	struct array x = array_make(t->x.count, NULL, t->math), w = array_make(t->weights.count, NULL, t->math);
	struct array y = array_make(t->y.count, NULL, t->math);

	assert_int_equal(cuda_conv_tune(t->conv, x.there, w.there, y.there, t->workspace), OK);
	array_release(&x);
	array_release(&w);
	array_release(&y);
}

static void trial_release(struct trial *t)
{
	cuda_conv_close(t->conv);
	array_release(&t->x);
	array_release(&t->weights);
	array_release(&t->y);
	array_release(&t->dx);
	array_release(&t->dy);
	free(t->sums.sum);
	free(t->sums.size);
	assert_int_equal(cudaFree(t->workspace), cudaSuccess);
}

static struct cuda_dnn *dnn_make(enum cuda_math math)
{
	struct cuda_dnn *dnn;

	assert_int_equal(cuda_dnn_open(&dnn, NULL, math), OK);
	return dnn;
}

/* ---- tests ---- */

static void forward_sums_what_loops_sum(void **state)
{
	(void)state;
	for (size_t m = 0; m < ARRAY_LEN(maths); m++) {
		struct cuda_dnn *dnn = dnn_make(maths[m].math);

		for (size_t i = 0; i < ARRAY_LEN(cases); i++)
			for (int tuned = 0; tuned < 2; tuned++) {
				struct trial t = trial_make(i, m, dnn, false);

				if (tuned)
					trial_tune(&t);
				assert_int_equal(cuda_conv_forward(t.conv, t.x.there, t.weights.there, t.y.there, t.workspace), OK);
				expect(&t, OP_FORWARD, t.y.count);
				compare_all(&t, &t.y, cases[i].what);
				trial_release(&t);
			}
		cuda_dnn_close(dnn);
	}
}

static void backward_data_overwrites_or_adds_to_what_loops_sum(void **state)
{
	(void)state;
	for (size_t m = 0; m < ARRAY_LEN(maths); m++) {
		struct cuda_dnn *dnn = dnn_make(maths[m].math);

		for (size_t i = 0; i < ARRAY_LEN(cases); i++)
			for (int adds = 0; adds < 2; adds++) {
				struct trial t = trial_make(i, m, dnn, adds);

				trial_tune(&t);
				assert_int_equal(cuda_conv_backward_data(t.conv, t.dy.there, t.weights.there, t.dx.there, t.workspace),
						 OK);
				expect(&t, OP_BACKWARD_DATA, t.dx.count);
				for (size_t v = 0; adds && v < t.dx.count; v++) {
					t.sums.sum[v] += t.dx.here[v];
					t.sums.size[v] += fabs(t.dx.here[v]);
				}
				compare_all(&t, &t.dx, cases[i].what);
				trial_release(&t);
			}
		cuda_dnn_close(dnn);
	}
}

/* Behind `offset` floats that stay as they are, without the padded channels. */
static void weights_trial(struct trial *t, size_t offset, const char *what)
{
	const size_t rows = t->weights.count / t->shape.cin, count = rows * t->narrow + 2 * offset;
	struct array dw = array_make(count, NULL, CUDA_MATH_F32);
	double *got = malloc(count * sizeof(double));

	assert_non_null(got);
	assert_int_equal(cuda_conv_backward_weights(t->conv, t->x.there, t->dy.there, t->narrow, (float *)dw.there + offset,
						    t->workspace), OK);
	expect(t, OP_BACKWARD_WEIGHTS, t->weights.count);
	download(&dw, CUDA_MATH_F32, got);
	for (size_t r = 0; r < rows; r++)
		for (size_t c = 0; c < t->narrow; c++) {
			const size_t i = r * t->narrow + c, from = r * t->shape.cin + c;

			compare(t, i, got[offset + i], t->sums.sum[from], t->sums.size[from], what);
		}
	for (size_t i = 0; i < offset; i++)
		assert_true(isnan(got[i]) && isnan(got[count - 1 - i]));
	free(got);
	array_release(&dw);
}

static void backward_weights_leaves_floats_without_padding_wherever_they_lie(void **state)
{
	(void)state;
	for (size_t m = 0; m < ARRAY_LEN(maths); m++) {
		struct cuda_dnn *dnn = dnn_make(maths[m].math);

		for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
			struct trial t = trial_make(i, m, dnn, false);

			trial_tune(&t);
			for (size_t offset = 0; offset <= 5; offset += 5)
				weights_trial(&t, offset, cases[i].what);
			trial_release(&t);
		}
		cuda_dnn_close(dnn);
	}
}

static void equal_convolutions_take_one_choice_and_search_no_more(void **state)
{
	struct cuda_dnn *dnn = dnn_make(CUDA_MATH_BF16), *other = dnn_make(CUDA_MATH_BF16);
	char before[64], after[64];
	size_t candidates, plans;

	(void)state;
	assert_string_equal(cuda_conv_choices(dnn), "");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct trial early = trial_make(i, 2, dnn, true), t = trial_make(i, 2, dnn, true), late;

		trial_tune(&t);
		trial_tune(&early);	/* opened before there was a choice */
		plans = dnn->plans;
		late = trial_make(i, 2, dnn, true);
		assert_int_equal(dnn->plans, plans + OP_PASSES);
		trial_tune(&late);
		for (size_t p = 0; p < OP_PASSES; p++) {
			assert_int_equal(cuda_conv_describe(t.conv, (enum op_pass)p, before, sizeof(before), &candidates), OK);
			assert_int_equal(cuda_conv_describe(early.conv, (enum op_pass)p, after, sizeof(after), &candidates), OK);
			assert_string_equal(before, after);
			assert_int_equal(cuda_conv_describe(late.conv, (enum op_pass)p, after, sizeof(after), &candidates), OK);
			assert_string_equal(before, after);
			assert_int_equal(candidates, 1);
		}
		trial_release(&early);
		trial_release(&t);
		trial_release(&late);
	}
	assert_int_equal(cuda_conv_learn(other, "of another chip\t5-D 1 -\n"), OK);
	assert_int_equal(cuda_conv_learn(other, cuda_conv_choices(dnn)), OK);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct trial t = trial_make(i, 2, other, true);

		trial_release(&t);
	}
	assert_int_equal(other->plans, OP_PASSES * ARRAY_LEN(cases));
	cuda_dnn_close(dnn);
	cuda_dnn_close(other);
}

static void executing_builds_nothing_even_at_other_addresses(void **state)
{
	struct cuda_dnn *dnn = dnn_make(CUDA_MATH_BF16);
	struct trial a = trial_make(2, 2, dnn, false), b = trial_make(2, 2, dnn, false);
	const size_t plans = dnn->plans;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(cuda_conv_forward(a.conv, a.x.there, a.weights.there, a.y.there, a.workspace), OK);
		assert_int_equal(cuda_conv_forward(a.conv, b.x.there, b.weights.there, b.y.there, b.workspace), OK);
	}
	expect(&b, OP_FORWARD, b.y.count);
	compare_all(&b, &b.y, "the second place");
	assert_int_equal(dnn->plans, plans);
	trial_release(&a);
	trial_release(&b);
	cuda_dnn_close(dnn);
}

/* The last part of the only line, from the tab, becomes `text`. */
static void choice_rewrite(struct cuda_dnn *from, struct cuda_dnn *to, const char *text)
{
	char line[1024];

	assert_true(snprintf(line, sizeof(line), "%s", cuda_conv_choices(from)) < (int)sizeof(line));
	assert_non_null(strchr(line, '\t'));
	snprintf(strchr(line, '\t'), 64, "\t%s\n", text);
	assert_int_equal(cuda_conv_learn(to, line), OK);
}

static void a_choice_that_cannot_be_had_is_searched_again(void **state)
{
	static const char *const texts[] = {
		"", "nonsense", "5-D 99999 -; 5-D 99999 -; 5-D 99999 -", "7-D 5 -; 7-D 5 -; 7-D 5 -", "5-D 5 9999=1; 5-D 5 -; 5-D 5 -",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct cuda_dnn *dnn = dnn_make(CUDA_MATH_BF16), *other = dnn_make(CUDA_MATH_BF16);
		struct trial t = trial_make(2, 2, dnn, false), again;

		trial_tune(&t);
		choice_rewrite(dnn, other, texts[i]);
		again = trial_make(2, 2, other, false);
		assert_int_equal(cuda_conv_forward(again.conv, again.x.there, again.weights.there, again.y.there, again.workspace), OK);
		expect(&again, OP_FORWARD, again.y.count);
		compare_all(&again, &again.y, texts[i]);
		trial_release(&t);
		trial_release(&again);
		cuda_dnn_close(dnn);
		cuda_dnn_close(other);
	}
}

static void the_folded_view_sums_what_loops_sum(void **state)
{
	(void)state;
	if (!emulated_fail) {
		print_message("SKIP: the engines are not the emulated ones\n");
		skip();
	}
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct cuda_dnn *dnn = dnn_make(CUDA_MATH_F32), *other = dnn_make(CUDA_MATH_F32);
		struct trial t = trial_make(i, 0, dnn, false), folded;

		trial_tune(&t);
		choice_rewrite(dnn, other, "4-D 11 -; 4-D 11 -; 4-D 11 -");
		folded = trial_make(i, 0, other, false);
		assert_int_equal(other->plans == OP_PASSES, cases[i].folds);	/* else it was searched again */
		assert_int_equal(cuda_conv_forward(folded.conv, folded.x.there, folded.weights.there, folded.y.there,
						   folded.workspace), OK);
		expect(&folded, OP_FORWARD, folded.y.count);
		compare_all(&folded, &folded.y, cases[i].what);
		assert_int_equal(cuda_conv_backward_data(folded.conv, folded.dy.there, folded.weights.there, folded.dx.there,
							 folded.workspace), OK);
		expect(&folded, OP_BACKWARD_DATA, folded.dx.count);
		compare_all(&folded, &folded.dx, cases[i].what);
		weights_trial(&folded, 0, cases[i].what);
		trial_release(&t);
		trial_release(&folded);
		cuda_dnn_close(dnn);
		cuda_dnn_close(other);
	}
}

static void a_convolution_without_an_engine_says_which_and_why(void **state)
{
	struct cuda_dnn *dnn = dnn_make(CUDA_MATH_BF16);
	struct cuda_conv_shape s = shape_of(2);
	struct cuda_conv *conv;

	(void)state;
	s.out[1]++;
	assert_int_equal(cuda_conv_open(&conv, dnn, &s, ALL, false), UNSUPPORTED);
	assert_null(conv);
	assert_non_null(strstr(err_last(), "no engine for the forward pass"));
	assert_non_null(strstr(err_last(), "kernel 1x3x3"));
	cuda_dnn_close(dnn);
}

/* Of the emulated engines: 13 wants too much workspace, 9 is not reproducible, 7 is for tensor cores and is listed with one knob
 * twice, 11 knows 4-D only; 5 is none of that. */
static void only_welcome_engines_are_candidates(void **state)
{
	static const struct { size_t shape; enum cuda_math math; size_t candidates; } rows[] = {
		{ 2, CUDA_MATH_BF16, 4 + 5 }, { 2, CUDA_MATH_TF32, 4 + 5 }, { 2, CUDA_MATH_F32, 1 + 2 },
		{ 7, CUDA_MATH_BF16, 4 }, { 7, CUDA_MATH_F32, 1 },	/* no 4-D view */
		{ 9, CUDA_MATH_BF16, 1 + 1 },				/* the fallback's */
	};

	(void)state;
	if (!emulated_fail) {
		print_message("SKIP: the engines are not the emulated ones\n");
		skip();
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct cuda_dnn *dnn = dnn_make(rows[i].math);
		const struct cuda_conv_shape s = shape_of(rows[i].shape);
		struct cuda_conv *conv;
		char text[64];
		size_t candidates;

		assert_int_equal(cuda_conv_open(&conv, dnn, &s, ALL, false), OK);
		for (size_t p = 0; p < OP_PASSES; p++) {
			assert_int_equal(cuda_conv_describe(conv, (enum op_pass)p, text, sizeof(text), &candidates), OK);
			assert_int_equal(candidates, rows[i].candidates);
		}
		cuda_conv_close(conv);
		cuda_dnn_close(dnn);
	}
}

static void an_engine_that_refuses_to_run_is_not_chosen(void **state)
{
	struct cuda_dnn *dnn;
	struct trial t;

	(void)state;
	if (!emulated_fail) {
		print_message("SKIP: a real engine cannot be ordered to fail\n");
		skip();
	}
	emulated_fail("cudnnCreate", 1, CUDNN_STATUS_NOT_INITIALIZED);
	assert_int_equal(cuda_dnn_open(&dnn, NULL, CUDA_MATH_BF16), FAILED);
	assert_null(dnn);
	assert_non_null(strstr(err_last(), "cudnnCreate"));
	dnn = dnn_make(CUDA_MATH_F32);
	t = trial_make(7, 0, dnn, false);	/* one candidate */
	emulated_fail("cudnnBackendExecute", 1, CUDNN_STATUS_EXECUTION_FAILED);
	assert_int_equal(cuda_conv_forward(t.conv, t.x.there, t.weights.there, t.y.there, t.workspace), FAILED);
	trial_release(&t);
	cuda_dnn_close(dnn);
	dnn = dnn_make(CUDA_MATH_F32);
	t = trial_make(2, 0, dnn, false);	/* engine 5 in 5-D, 5 and 11 in 4-D */
	emulated_fail("cudnnBackendExecute", 1, CUDNN_STATUS_NOT_SUPPORTED);
	trial_tune(&t);
	assert_null(strstr(cuda_conv_choices(dnn), "\t5-D"));
	trial_release(&t);
	cuda_dnn_close(dnn);
}

static void an_engine_that_computes_something_else_is_not_chosen(void **state)
{
	static const struct { uint64_t wrong; const char *chosen; } rows[] = {
		{ 1 << 5, "\t4-D 11 -; 4-D 11 -; 4-D 11 -" },
		{ 1 << 11, " 5 " },
		{ 1 << 5 | 1 << 11, NULL },
	};

	(void)state;
	if (!emulated_fail) {
		print_message("SKIP: a real engine cannot be ordered to be wrong\n");
		skip();
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (int adds = 0; adds < 2; adds++) {
			struct cuda_dnn *dnn = dnn_make(CUDA_MATH_F32);
			struct trial t = trial_make(2, 0, dnn, adds);	/* engine 5 in 5-D, 5 and 11 in 4-D */

			emulated_wrong_engines(rows[i].wrong);
			if (rows[i].chosen) {
				trial_tune(&t);
				assert_non_null(strstr(cuda_conv_choices(dnn), rows[i].chosen));
				assert_null(strstr(cuda_conv_choices(dnn), rows[i].wrong >> 5 & 1 ? " 5 " : " 11 "));
			} else {
				assert_int_equal(cuda_conv_tune(t.conv, t.x.there, t.weights.there, t.y.there, t.workspace), UNSUPPORTED);
				assert_non_null(strstr(err_last(), "no engine computes the forward pass of a convolution rightly"));
			}
			emulated_wrong_engines(0);
			trial_release(&t);
			cuda_dnn_close(dnn);
		}
}

/* ---- the real library, without a GPU ---- */

static void the_real_cudnn_has_engines_for_every_convolution_of_the_nets_on_described_chips(void **state)
{
	static const struct { const char *chip, *net; unsigned clips; const char *math; } rows[] = {
		{ "h100", "r50", 8, "bf16" }, { "h100", "r50", 8, "tf32" }, { "h100", "r50", 8, "fp32" },
		{ "h100", "r50-16", 8, "bf16" }, { "h100", "tiny", 2, "bf16" }, { "h100", "tiny", 1, "fp32" },
		{ "h200", "r50", 16, "bf16" }, { "a100", "r50", 8, "bf16" },
	};
	const char *build = getenv("SFSCALE_BUILD");
	char helper[PATH_BYTES], line[PATH_BYTES], *out = malloc(1 << 20);
	const char *all;

	(void)state;
	assert_non_null(out);
	assert_int_equal(path_make(helper, "%s/tests/described_conv", build ? build : "build"), OK);
	if (access(helper, X_OK)) {
		print_message("SKIP: no %s\n", helper);
		free(out);
		skip();
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		/* cuDNN's cublasLt leaks. */
		assert_int_equal(path_make(line, "ASAN_OPTIONS=detect_leaks=0 %s tests/chips/%s.json %s %u %s", helper, rows[i].chip, rows[i].net, rows[i].clips,
					   rows[i].math), OK);
		if (shell(line, out, 1 << 20))
			fail_msg("'%s': %s", line, out);
		all = strstr(out, "convolutions 49, ");
		assert_non_null(all);
	}
	free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forward_sums_what_loops_sum),
		cmocka_unit_test(backward_data_overwrites_or_adds_to_what_loops_sum),
		cmocka_unit_test(backward_weights_leaves_floats_without_padding_wherever_they_lie),
		cmocka_unit_test(equal_convolutions_take_one_choice_and_search_no_more),
		cmocka_unit_test(executing_builds_nothing_even_at_other_addresses),
		cmocka_unit_test(a_choice_that_cannot_be_had_is_searched_again),
		cmocka_unit_test(the_folded_view_sums_what_loops_sum),
		cmocka_unit_test(a_convolution_without_an_engine_says_which_and_why),
		cmocka_unit_test(only_welcome_engines_are_candidates),
		cmocka_unit_test(an_engine_that_refuses_to_run_is_not_chosen),
		cmocka_unit_test(an_engine_that_computes_something_else_is_not_chosen),
		cmocka_unit_test(the_real_cudnn_has_engines_for_every_convolution_of_the_nets_on_described_chips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

#include <stdio.h>

static void convolutions_on_the_device(void **state)
{
	(void)state;
	printf("SKIP: built without CUDA\n");
	skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(convolutions_on_the_device) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
