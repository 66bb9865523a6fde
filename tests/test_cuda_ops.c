/*
 * tests/test_cuda_ops.c - the operators of kernels/cuda/ops.h, emulated on the CPU, against loops in double and kernels/cpu.
 *
 * Inputs are rounded to the element's type first, so what is compared is the operator's own error.  Outputs start as NaN, and
 * what lies between the channels of a slice must still be NaN at the end.  Every case runs again with blocks and threads in
 * another order and must give the same bits.
 *
 * Tolerances: a result stored as bf16 is off by half a unit in its last place, 2^-8 of it at most; what float arithmetic adds is
 * said per operator, relative to the largest value.
 */
#include "bench/base/err.h"
#include "bench/base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#ifdef HAVE_CUDA
#include "kernels/cpu/ops.h"
#include "kernels/cuda/gradient.h"
#include "kernels/cuda/ops.h"
#include "kernels/net.h"
#include "tests/bf16.h"
#include "tests/emulated/emulated.h"

/* ---- elements ---- */

static uint64_t stream_count;	/* fresh numbers for every tensor */

static double element_at(const void *at, enum cuda_element e, size_t i)
{
	return e == CUDA_BF16 ? bf16_value(((const uint16_t *)at)[i]) : ((const float *)at)[i];
}

static void element_set(void *at, enum cuda_element e, size_t i, double v)
{
	if (e == CUDA_BF16)
		((uint16_t *)at)[i] = bf16_bits((float)v);
	else
		((float *)at)[i] = (float)v;
}

/* Half a unit in the last place, relative; of float it is part of `arithmetic` below. */
static double rounding(enum cuda_element e)
{
	return e == CUDA_BF16 ? 0x1p-8 : 0;
}

/* ---- device memory ---- */

static void *device(size_t bytes)
{
	void *at;

	assert_int_equal(cudaMallocManaged(&at, bytes, cudaMemAttachGlobal), cudaSuccess);
	memset(at, 0xff, bytes);
	return at;
}

static float *device_floats(size_t count)
{
	return device(count * sizeof(float));
}

static float *random_floats(size_t count, double mean, double deviation)
{
	float *at = device_floats(count);
	struct rng rng;

	rng_init(&rng, 11, stream_count++);
	for (size_t i = 0; i < count; i++)
		at[i] = (float)(mean + deviation * rng_normal(&rng));
	return at;
}

/* ---- activations ---- */

static size_t act_rows(const struct cuda_act *a)
{
	return a->n * a->dims[0] * a->dims[1] * a->dims[2];
}

/* NaN all over.  `gap` channels of somebody else lie before ours and as many behind. */
static struct cuda_act act_new(enum cuda_element e, size_t n, size_t c, const size_t dims[3], size_t gap)
{
	struct cuda_act a = { .n = n, .c = c, .dims = { dims[0], dims[1], dims[2] }, .pitch = c + 2 * gap };

	a.at = (char *)device(act_rows(&a) * a.pitch * cuda_element_bytes(e)) + gap * cuda_element_bytes(e);
	return a;
}

static void *act_base(const struct cuda_act *a, enum cuda_element e)
{
	return (char *)a->at - (a->pitch - a->c) / 2 * cuda_element_bytes(e);
}

static size_t act_bytes(const struct cuda_act *a, enum cuda_element e)
{
	return act_rows(a) * a->pitch * cuda_element_bytes(e);
}

static void act_free(const struct cuda_act *a, enum cuda_element e)
{
	if (a->at)
		cudaFree(act_base(a, e));
}

static struct cuda_act act_random(enum cuda_element e, size_t n, size_t c, const size_t dims[3], size_t gap, double mean)
{
	struct cuda_act a = act_new(e, n, c, dims, gap);
	struct rng rng;

	rng_init(&rng, 12, stream_count++);
	for (size_t r = 0; r < act_rows(&a); r++)
		for (size_t k = 0; k < c; k++)
			element_set(a.at, e, r * a.pitch + k, mean + rng_normal(&rng));
	return a;
}

/* (rows, c) */
static double *act_values(const struct cuda_act *a, enum cuda_element e)
{
	double *v = malloc(act_rows(a) * a->c * sizeof(*v));

	for (size_t r = 0; r < act_rows(a); r++)
		for (size_t k = 0; k < a->c; k++)
			v[r * a->c + k] = element_at(a->at, e, r * a->pitch + k);
	return v;
}

/* Every element written, nothing beside it. */
static void assert_written_alone(const struct cuda_act *a, enum cuda_element e)
{
	const size_t gap = (a->pitch - a->c) / 2;

	for (size_t i = 0; i < act_rows(a) * a->pitch; i++) {
		bool ours = i % a->pitch >= gap && i % a->pitch < gap + a->c;

		if (isnan(element_at(act_base(a, e), e, i)) == ours)
			fail_msg("row %zu, column %zu: %s", i / a->pitch, i % a->pitch, ours ? "nobody wrote it" : "not ours");
	}
}

/* |got - want| <= relative |want| + arithmetic max(1, |want|): inputs are of order 1. */
static void assert_near(const char *what, const double *got, const double *want, size_t count, double relative, double arithmetic)
{
	double most = 1;

	for (size_t i = 0; i < count; i++)
		most = fmax(most, fabs(want[i]));
	for (size_t i = 0; i < count; i++)
		if (!(fabs(got[i] - want[i]) <= relative * fabs(want[i]) + arithmetic * most))
			fail_msg("%s %zu of %zu: %.9g instead of %.9g", what, i, count, got[i], want[i]);
}

static void assert_floats_near(const char *what, const float *got, const double *want, size_t count, double arithmetic)
{
	double *v = malloc(count * sizeof(*v));

	for (size_t i = 0; i < count; i++)
		v[i] = got[i];
	assert_near(what, v, want, count, 0, arithmetic);
	free(v);
}

static void assert_act_near(const char *what, const struct cuda_act *a, enum cuda_element e, const double *want, double relative,
			    double arithmetic)
{
	double *got = act_values(a, e);

	assert_near(what, got, want, act_rows(a) * a->c, relative, arithmetic);
	free(got);
}

/* ---- running ---- */

/* Only the emulation has it. */
#pragma weak emulated_order

/* What an operator writes. */
struct span {
	void *at;
	size_t bytes;
};

static struct span act_span(const struct cuda_act *a, enum cuda_element e)
{
	return a->at ? (struct span){ act_base(a, e), act_bytes(a, e) } : (struct span){ NULL, 0 };
}

enum { SPANS_MAX = 6 };

/* Runs it twice from the same state, in different orders of blocks and threads: the same bits. */
static void run(int (*operator)(const void *), const void *arguments, const struct span *spans, size_t count)
{
	void *before[SPANS_MAX], *after[SPANS_MAX];

	assert_true(count <= SPANS_MAX);
	for (size_t i = 0; i < count; i++)
		before[i] = spans[i].bytes ? memcpy(malloc(spans[i].bytes), spans[i].at, spans[i].bytes) : NULL;
	assert_int_equal(operator(arguments), OK);
	assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
	for (size_t i = 0; i < count; i++) {
		after[i] = spans[i].bytes ? memcpy(malloc(spans[i].bytes), spans[i].at, spans[i].bytes) : NULL;
		if (spans[i].bytes)
			memcpy(spans[i].at, before[i], spans[i].bytes);
	}
	if (emulated_order)
		emulated_order(++stream_count);
	assert_int_equal(operator(arguments), OK);
	assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
	if (emulated_order)
		emulated_order(0);
	for (size_t i = 0; i < count; i++) {
		if (spans[i].bytes && memcmp(spans[i].at, after[i], spans[i].bytes))
			fail_msg("output %zu depends on the order of blocks and threads", i);
		free(before[i]), free(after[i]);
	}
}

/* ---- batch normalisation ---- */

struct norm_case {
	size_t n, c, dims[3], gap;
	bool relu, shortcut, add;
	double mean;		/* of x */
};

static const struct norm_case norm_cases[] = {
	{ 2,   8, { 2, 5, 3 },   0, true,  false, false, 0 },
	{ 1,  64, { 3, 7, 9 },   8, true,  false, false, 0.5 },
	{ 3,  80, { 1, 4, 5 },   0, true,  true,  false, 0 },	/* ten words of channels: threads are left over */
	{ 2, 320, { 2, 3, 3 },  16, true,  true,  true,  0 },	/* more than one block across */
	{ 1,  16, { 9, 31, 33 }, 0, false, true,  true,  -3 },
	{ 1,  32, { 7, 40, 40 }, 0, false, true,  false, 0 },
	{ 2,   8, { 8, 56, 56 }, 8, true,  false, false, 0.1 },	/* many chunks */
	{ 2,  10, { 2, 5, 5 },   0, true,  true,  true,  0 },	/* no words: by elements */
	{ 1,   1, { 4, 9, 9 },   3, true,  false, false, 0 },
	{ 3,  24, { 1, 1, 1 },   0, true,  true,  false, 0 },
	{ 1,   8, { 1, 1, 1 },   0, false, false, false, 2 },	/* one value per channel: variance 0 */
	{ 2,  16, { 4, 20, 20 }, 0, true,  false, false, 1000 },	/* a mean that would drown the squares */
};

struct norm_run {
	struct cuda_norm b;
	size_t partial_floats;
};

static struct norm_run norm_new(const struct norm_case *c, enum cuda_element e)
{
	struct norm_run r = { .b = { .element = e, .relu = c->relu, .add_dshortcut = c->add } };

	r.b.x = act_random(e, c->n, c->c, c->dims, c->gap, c->mean);
	r.b.y = act_new(e, c->n, c->c, c->dims, c->gap);
	r.b.dx = act_new(e, c->n, c->c, c->dims, 0);
	r.b.dy = act_random(e, c->n, c->c, c->dims, c->gap, 0.1);
	if (c->shortcut) {
		r.b.shortcut = act_random(e, c->n, c->c, c->dims, 0, 0);
		r.b.dshortcut = c->add ? act_random(e, c->n, c->c, c->dims, c->gap, 0) :
					 act_new(e, c->n, c->c, c->dims, c->gap);
	}
	r.b.weight = random_floats(c->c, 1, 0.3);
	r.b.bias = random_floats(c->c, 0, 0.5);
	r.b.dweight = device_floats(c->c);
	r.b.dbias = device_floats(c->c);
	r.b.running_mean = random_floats(c->c, 0, 1);
	r.b.running_var = random_floats(c->c, 3, 0.1);
	r.b.mean = device_floats(c->c);
	r.b.inv_std = device_floats(c->c);
	r.b.partial = device_floats(cuda_norm_partial_floats(&r.b.x));
	return r;
}

static void norm_free(struct norm_run *r)
{
	const enum cuda_element e = r->b.element;
	const struct cuda_act *acts[] = { &r->b.x, &r->b.y, &r->b.shortcut, &r->b.dx, &r->b.dy, &r->b.dshortcut };
	void *floats[] = { (void *)r->b.weight, (void *)r->b.bias, r->b.dweight, r->b.dbias, r->b.running_mean,
			   r->b.running_var, r->b.mean, r->b.inv_std, r->b.partial };

	for (size_t i = 0; i < ARRAY_LEN(acts); i++)
		act_free(acts[i], e);
	for (size_t i = 0; i < ARRAY_LEN(floats); i++)
		cudaFree(floats[i]);
}

/* What of a channel float arithmetic may lose: x - mean is only as good as x. */
static double norm_tolerance(const struct norm_case *c)
{
	return 4e-6 + 0x1p-22 * fabs(c->mean);
}

static int norm_forward_of(const void *b)
{
	return cuda_norm_forward(b, NULL);
}

static int norm_backward_of(const void *b)
{
	return cuda_norm_backward(b, NULL);
}

static int norm_evaluate_of(const void *b)
{
	return cuda_norm_evaluate(b, NULL);
}

static void run_norm_forward(const struct cuda_norm *b)
{
	const size_t floats = b->x.c * sizeof(float);
	const struct span spans[] = { act_span(&b->y, b->element), { b->mean, floats }, { b->inv_std, floats },
				      { b->running_mean, floats }, { b->running_var, floats } };

	run(norm_forward_of, b, spans, ARRAY_LEN(spans));
}

static void run_norm_backward(const struct cuda_norm *b)
{
	const size_t floats = b->x.c * sizeof(float);
	const struct span spans[] = { act_span(&b->dx, b->element), act_span(&b->dshortcut, b->element), { b->dweight, floats },
				      { b->dbias, floats } };

	run(norm_backward_of, b, spans, ARRAY_LEN(spans));
}

static void check_norm_forward(const struct norm_case *c, enum cuda_element e)
{
	struct norm_run r = norm_new(c, e);
	const size_t rows = act_rows(&r.b.x);
	double *x = act_values(&r.b.x, e), *s = c->shortcut ? act_values(&r.b.shortcut, e) : NULL;
	double *y = malloc(rows * c->c * sizeof(*y)), mean[320], inv_std[320], running_mean[320], running_var[320];

	for (size_t k = 0; k < c->c; k++) {
		double sum = 0, rest = 0;

		for (size_t i = 0; i < rows; i++)
			sum += x[i * c->c + k];
		mean[k] = sum / (double)rows;
		for (size_t i = 0; i < rows; i++)
			rest += pow(x[i * c->c + k] - mean[k], 2);
		inv_std[k] = 1 / sqrt(rest / (double)rows + 1e-5);
		running_mean[k] = 0.9 * r.b.running_mean[k] + 0.1 * mean[k];
		running_var[k] = 0.9 * r.b.running_var[k] + 0.1 * rest / (rows > 1 ? (double)rows - 1 : 1);
		for (size_t i = 0; i < rows; i++) {
			double v = (x[i * c->c + k] - mean[k]) * inv_std[k] * r.b.weight[k] + r.b.bias[k] + (s ? s[i * c->c + k] : 0);

			y[i * c->c + k] = c->relu && !(v > 0) ? 0 : v;
		}
	}
	run_norm_forward(&r.b);
	assert_written_alone(&r.b.y, e);
	assert_floats_near("mean", r.b.mean, mean, c->c, 1e-6);
	assert_floats_near("inv_std", r.b.inv_std, inv_std, c->c, norm_tolerance(c));
	assert_floats_near("running mean", r.b.running_mean, running_mean, c->c, 1e-6);
	assert_floats_near("running variance", r.b.running_var, running_var, c->c, norm_tolerance(c));
	assert_act_near("y", &r.b.y, e, y, rounding(e), norm_tolerance(c));
	free(x), free(s), free(y);
	norm_free(&r);
}

static void check_norm_backward(const struct norm_case *c, enum cuda_element e)
{
	struct norm_run r = norm_new(c, e);
	const size_t rows = act_rows(&r.b.x), m = rows;
	double *x = act_values(&r.b.x, e), *dy = act_values(&r.b.dy, e), *dx = malloc(rows * c->c * sizeof(*dx)), *y;
	double *ds = c->shortcut ? c->add ? act_values(&r.b.dshortcut, e) : calloc(rows * c->c, sizeof(*ds)) : NULL;
	double dweight[320], dbias[320], steepest = 1;

	assert_int_equal(cuda_norm_forward(&r.b, NULL), OK);
	assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
	y = act_values(&r.b.y, e);
	for (size_t k = 0; k < c->c; k++) {
		double inv_std = r.b.inv_std[k], sum = 0, dot = 0;

		for (size_t i = k; i < rows * c->c; i += c->c) {
			dy[i] = !c->relu || y[i] > 0 ? dy[i] : 0;
			if (ds)
				ds[i] += dy[i];
			sum += dy[i];
			dot += dy[i] * (x[i] - r.b.mean[k]) * inv_std;
		}
		dbias[k] = sum;
		dweight[k] = dot;
		steepest = fmax(steepest, inv_std);	/* dx is a difference of numbers of this size */
		for (size_t i = k; i < rows * c->c; i += c->c)
			dx[i] = r.b.weight[k] * inv_std * (dy[i] - sum / (double)m - (x[i] - r.b.mean[k]) * inv_std * dot / (double)m);
	}
	run_norm_backward(&r.b);
	assert_written_alone(&r.b.dx, e);
	assert_floats_near("dbias", r.b.dbias, dbias, c->c, 1e-5);
	assert_floats_near("dweight", r.b.dweight, dweight, c->c, 1e-5);
	assert_act_near("dx", &r.b.dx, e, dx, rounding(e), steepest * (1e-5 + 0x1p-22 * fabs(c->mean)));
	if (ds) {
		assert_written_alone(&r.b.dshortcut, e);
		assert_act_near("dshortcut", &r.b.dshortcut, e, ds, rounding(e), 1e-6);
	}
	free(x), free(y), free(dy), free(dx), free(ds);
	norm_free(&r);
}

static void norms(void (*check)(const struct norm_case *, enum cuda_element))
{
	for (size_t i = 0; i < ARRAY_LEN(norm_cases); i++)
		for (enum cuda_element e = CUDA_F32; e <= CUDA_BF16; e++)
			check(&norm_cases[i], e);
}

static void check_norm_evaluate(const struct norm_case *c, enum cuda_element e)
{
	struct norm_run r = norm_new(c, e);
	double *y = act_values(&r.b.x, e), *s = c->shortcut ? act_values(&r.b.shortcut, e) : NULL;
	const size_t floats = c->c * sizeof(float);
	float *mean = memcpy(malloc(floats), r.b.running_mean, floats), *var = memcpy(malloc(floats), r.b.running_var, floats);
	const struct span spans[] = { act_span(&r.b.y, e), { r.b.inv_std, floats } };

	for (size_t i = 0; i < act_rows(&r.b.x) * c->c; i++) {
		const size_t k = i % c->c;

		y[i] = (y[i] - mean[k]) / sqrt(var[k] + 1e-5) * r.b.weight[k] + r.b.bias[k] + (s ? s[i] : 0);
		y[i] = c->relu && !(y[i] > 0) ? 0 : y[i];
	}
	run(norm_evaluate_of, &r.b, spans, ARRAY_LEN(spans));
	assert_written_alone(&r.b.y, e);
	assert_act_near("y", &r.b.y, e, y, rounding(e), norm_tolerance(c));
	assert_memory_equal(r.b.running_mean, mean, floats);
	assert_memory_equal(r.b.running_var, var, floats);
	free(y), free(s), free(mean), free(var);
	norm_free(&r);
}

static void norm_forward_is_its_formula(void **state)
{
	(void)state;
	norms(check_norm_forward);
}

static void norm_backward_is_its_formula(void **state)
{
	(void)state;
	norms(check_norm_backward);
}

static void norm_evaluation_uses_the_running_statistics_and_keeps_them(void **state)
{
	(void)state;
	norms(check_norm_evaluate);
}

/* ---- pooling ---- */

struct pool_case {
	size_t n, c, dims[3], gap, kernel[2], stride[2], pad[2];
};

static const struct pool_case pool_cases[] = {
	{ 2,  8, { 2, 12, 12 }, 0, { 3, 3 }, { 2, 2 }, { 1, 1 } },
	{ 1, 64, { 3,  9,  7 }, 8, { 3, 3 }, { 2, 2 }, { 1, 1 } },	/* odd sides: the last window hangs over */
	{ 1, 24, { 1,  5, 21 }, 8, { 3, 3 }, { 2, 2 }, { 1, 1 } },
	{ 3, 10, { 2,  6,  6 }, 0, { 3, 3 }, { 2, 2 }, { 1, 1 } },	/* no words */
	{ 1,  1, { 2,  4,  5 }, 1, { 3, 3 }, { 2, 2 }, { 1, 1 } },
	{ 2,  8, { 1,  7,  9 }, 0, { 2, 5 }, { 1, 3 }, { 0, 2 } },	/* another window */
	{ 1, 16, { 1,  1,  1 }, 0, { 3, 3 }, { 2, 2 }, { 1, 1 } },
};

static int pool_forward_of(const void *p)
{
	return cuda_pool_forward(p, NULL);
}

static int pool_backward_of(const void *p)
{
	return cuda_pool_backward(p, NULL);
}

static void check_pool(const struct pool_case *k, enum cuda_element e)
{
	const size_t h = k->dims[1], w = k->dims[2], c = k->c, planes = k->n * k->dims[0];
	const size_t out_h = (h + 2 * k->pad[0] - k->kernel[0]) / k->stride[0] + 1;
	const size_t out_w = (w + 2 * k->pad[1] - k->kernel[1]) / k->stride[1] + 1, outs = planes * out_h * out_w * c;
	struct cuda_pool p = { .element = e, .x = act_random(e, k->n, c, k->dims, k->gap, 0),
			       .y = act_new(e, k->n, c, (size_t[]){ k->dims[0], out_h, out_w }, k->gap),
			       .dx = act_new(e, k->n, c, k->dims, k->gap), .winner = device(outs),
			       .kernel = { k->kernel[0], k->kernel[1] }, .stride = { k->stride[0], k->stride[1] },
			       .pad = { k->pad[0], k->pad[1] } };
	double *x, *y = malloc(outs * sizeof(*y)), *dx = calloc(planes * h * w * c, sizeof(*dx)), *dy;

	p.dy = act_random(e, k->n, c, p.y.dims, 0, 0);
	/* Halves: many are equal.  Some are NaN, which never wins. */
	for (size_t i = 0; i < act_rows(&p.x); i++)
		for (size_t l = 0; l < c; l++) {
			double v = element_at(p.x.at, e, i * p.x.pitch + l);

			element_set(p.x.at, e, i * p.x.pitch + l, (i + l) % 31 == 5 ? NAN : fmax(0, rint(2 * v) / 2));
		}
	x = act_values(&p.x, e);
	dy = act_values(&p.dy, e);
	run(pool_forward_of, &p, (struct span[]){ act_span(&p.y, e), { p.winner, outs } }, 2);
	run(pool_backward_of, &p, (struct span[]){ act_span(&p.dx, e) }, 1);
	for (size_t i = 0; i < outs; i++) {
		const size_t l = i % c, ow = i / c % out_w, oh = i / c / out_w % out_h, plane = i / c / out_w / out_h;
		size_t won = 0, from;

		y[i] = -INFINITY;
		for (size_t q = 0; q < k->kernel[0] * k->kernel[1]; q++) {
			size_t ih = oh * k->stride[0] + q / k->kernel[1] - k->pad[0];
			size_t iw = ow * k->stride[1] + q % k->kernel[1] - k->pad[1];

			if (ih < h && iw < w && x[((plane * h + ih) * w + iw) * c + l] > y[i]) {
				y[i] = x[((plane * h + ih) * w + iw) * c + l];
				won = q;
			}
		}
		assert_int_equal(p.winner[i], won);
		assert_true(element_at(p.y.at, e, i / c * p.y.pitch + l) == y[i]);
		from = ((plane * h + oh * k->stride[0] + won / k->kernel[1] - k->pad[0]) * w + ow * k->stride[1] +
			won % k->kernel[1] - k->pad[1]) * c + l;
		if (!isinf(y[i]))
			dx[from] += dy[i];
	}
	assert_written_alone(&p.y, e);
	assert_written_alone(&p.dx, e);
	assert_act_near("dx", &p.dx, e, dx, rounding(e), 1e-6);
	act_free(&p.x, e), act_free(&p.y, e), act_free(&p.dx, e), act_free(&p.dy, e);
	cudaFree(p.winner);
	free(x), free(y), free(dx), free(dy);
}

static void pooling_takes_the_first_of_the_largest_and_gives_it_the_gradient(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pool_cases); i++)
		for (enum cuda_element e = CUDA_F32; e <= CUDA_BF16; e++)
			check_pool(&pool_cases[i], e);
}

static void parts_are_gathered_to_their_sum_and_their_mean(void **state)
{
	static const size_t counts[] = { 1, 7, 8, 1000, 4096 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(counts); i++)
		for (float parts = 1; parts <= 3; parts += 2) {
			const size_t dims[3] = { 1, 1, counts[i] }, more[3] = { 1, 1, counts[i] + 1 };
			struct cuda_act to = act_random(CUDA_F32, 1, 1, more, 0, 0), from = act_random(CUDA_F32, 1, 1, dims, 0, 0);
			double *a = act_values(&to, CUDA_F32), *b = act_values(&from, CUDA_F32);

			assert_int_equal(cuda_gather(to.at, from.at, counts[i], parts, NULL), OK);
			assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
			for (size_t k = 0; k < counts[i]; k++)
				a[k] = (double)(((float)a[k] + (float)b[k]) / parts);
			for (size_t k = 0; k <= counts[i]; k++)
				assert_true(element_at(to.at, CUDA_F32, k) == a[k]);
			act_free(&to, CUDA_F32), act_free(&from, CUDA_F32);
			free(a), free(b);
		}
}

/* ---- the head ---- */

struct roi_case {
	size_t n, c, dims[3], gap, out;
	bool aligned;
	size_t boxes;		/* the first so many of roi_boxes, clips modulo n */
};

static const float roi_boxes[][5] = {
	{ 0, 8, 16, 72.5f, 56 },
	{ 1, 40, 40, 40, 40 },			/* no area */
	{ 0, 3, 5, 90.25f, 99 },		/* others of this clip overlap it */
	{ 0, 200, 300, 260, 350 },		/* outside */
	{ 2, -50, -40, 30, 21 },		/* half outside */
	{ 1, 60, 60, 20, 30 },			/* inside out */
	{ 0, 10, 10, 11, 12.5f },		/* smaller than a position */
	{ 1, 0, 0, 111, 80 },
	{ 2, 33, 1, 95, 95 },
};

static const struct roi_case roi_cases[] = {
	{ 3,  16, { 4, 6, 7 }, 8, 7, true,  9 },
	{ 3, 160, { 2, 6, 7 }, 0, 7, false, 9 },	/* more channels than a block has threads */
	{ 1,   8, { 8, 7, 6 }, 0, 2, true,  9 },
	{ 2,  10, { 1, 6, 6 }, 3, 3, true,  4 },	/* no words */
	{ 2,   8, { 2, 6, 6 }, 0, 7, true,  0 },
};

static int roi_forward_of(const void *r)
{
	return cuda_roi_forward(r, NULL);
}

static int roi_backward_of(const void *r)
{
	return cuda_roi_backward(r, NULL);
}

/* The CPU's layout, in blocks of 8 channels, of (rows, c). */
static struct act cpu_act(const struct cuda_act *a, const double *values)
{
	struct act b = { .n = a->n, .c = a->c, .dims = { a->dims[0], a->dims[1], a->dims[2] }, .block = 8 };

	b.clip = act_blocks(&b) * act_positions(&b) * 8;
	b.at = calloc(b.n * b.clip, sizeof(float));
	for (size_t i = 0; values && i < act_rows(a) * a->c; i++) {
		const size_t k = i % a->c, n = i / a->c / act_positions(&b), s = i / a->c % act_positions(&b);

		act_at(&b, n, k / 8)[s * 8 + k % 8] = (float)values[i];
	}
	return b;
}

static void check_roi(const struct roi_case *k, enum cuda_element e)
{
	enum { BESIDE = 5 };	/* features of another pathway */
	const size_t r_count = k->boxes, plane = k->dims[1] * k->dims[2], stride = k->c + BESIDE, blocks = (k->c + 7) / 8;
	struct cuda_roi r = { .element = e, .x = act_random(e, k->n, k->c, k->dims, k->gap, 0),
			      .dx = act_new(e, k->n, k->c, k->dims, k->gap), .mean = device_floats(k->n * plane * k->c),
			      .winner = device(r_count * k->c + 1), .box_count = r_count, .out = k->out, .scale = 1.0f / 16,
			      .aligned = k->aligned, .features = device_floats(r_count * stride + 1),
			      .dfeatures = random_floats(r_count * stride + 1, 0, 1), .stride = stride };
	double *x = act_values(&r.x, e), *dx = malloc(act_rows(&r.x) * k->c * sizeof(*dx));
	float *boxes = device_floats(r_count * 5 + 1);
	struct roi c = { .x = cpu_act(&r.x, x), .dx = cpu_act(&r.x, NULL), .box_count = r_count, .out = k->out,
			 .scale = r.scale, .aligned = k->aligned, .dfeatures = r.dfeatures, .stride = stride };

	c.mean = calloc(k->n * blocks * plane * 8, sizeof(float));
	c.winner = calloc(r_count * k->c + 1, 1);
	c.features = calloc(r_count * stride + 1, sizeof(float));
	for (size_t i = 0; i < r_count; i++) {
		memcpy(boxes + 5 * i, roi_boxes[i], sizeof(roi_boxes[i]));
		boxes[5 * i] = (float)((size_t)boxes[5 * i] % k->n);
	}
	r.boxes = c.boxes = boxes;
	run(roi_forward_of, &r, (struct span[]){ { r.features, r_count * stride * sizeof(float) }, { r.winner, r_count * k->c } }, 2);
	roi_forward(&c);
	for (size_t i = 0; i < r_count * stride; i++) {
		if (i % stride >= k->c)
			assert_true(isnan(r.features[i]));
		else if (!(fabsf(r.features[i] - c.features[i]) <= 1e-5f))
			fail_msg("feature %zu of box %zu: %g instead of %g", i % stride, i / stride, r.features[i], c.features[i]);
	}
	assert_memory_equal(r.winner, c.winner, r_count * k->c);
	run(roi_backward_of, &r, (struct span[]){ act_span(&r.dx, e) }, 1);
	roi_backward(&c);
	for (size_t i = 0; i < act_rows(&r.x) * k->c; i++)
		dx[i] = act_at(&c.dx, i / k->c / act_positions(&c.dx), i % k->c / 8)[i / k->c % act_positions(&c.dx) * 8 + i % k->c % 8];
	assert_written_alone(&r.dx, e);
	assert_act_near("dx", &r.dx, e, dx, rounding(e), 1e-5);
	act_free(&r.x, e), act_free(&r.dx, e);
	cudaFree(r.mean), cudaFree(r.winner), cudaFree(r.features), cudaFree(r.dfeatures), cudaFree(boxes);
	free(x), free(dx), free(c.x.at), free(c.dx.at), free(c.mean), free(c.winner), free(c.features);
}

static void features_of_boxes_and_their_gradients_are_the_cpus(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(roi_cases); i++)
		for (enum cuda_element e = CUDA_F32; e <= CUDA_BF16; e++)
			check_roi(&roi_cases[i], e);
}

struct fc {
	const float *x, *weight, *bias, *dy;
	size_t rows, in, out;
	float *y, *dx, *dweight, *dbias;
};

static int fc_forward_of(const void *arguments)
{
	const struct fc *f = arguments;

	return cuda_fc_forward(f->x, f->weight, f->bias, f->rows, f->in, f->out, f->y, NULL);
}

static int fc_backward_of(const void *arguments)
{
	const struct fc *f = arguments;

	return cuda_fc_backward(f->x, f->weight, f->dy, f->rows, f->in, f->out, f->dx, f->dweight, f->dbias, NULL);
}

static void a_fully_connected_layer_is_its_sums(void **state)
{
	static const size_t cases[][3] = {	/* rows, in, out */
		{ 1, 1, 1 }, { 3, 288, 80 }, { 6, 31, 5 }, { 9, 300, 7 }, { 0, 64, 8 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const size_t rows = cases[i][0], in = cases[i][1], out = cases[i][2];
		struct fc f = { random_floats(rows * in + 1, 0, 1), random_floats(out * in, 0, 1), random_floats(out, 0, 1),
				random_floats(rows * out + 1, 0, 1), rows, in, out, device_floats(rows * out + 1),
				device_floats(rows * in + 1), device_floats(out * in), device_floats(out) };
		double *y = calloc(rows * out + 1, sizeof(*y)), *dx = calloc(rows * in + 1, sizeof(*dx));
		double *dweight = calloc(out * in, sizeof(*dweight)), *dbias = calloc(out, sizeof(*dbias));

		run(fc_forward_of, &f, (struct span[]){ { f.y, rows * out * sizeof(float) } }, 1);
		run(fc_backward_of, &f, (struct span[]){ { f.dx, rows * in * sizeof(float) }, { f.dweight, out * in * sizeof(float) },
							 { f.dbias, out * sizeof(float) } }, 3);
		for (size_t r = 0; r < rows; r++)
			for (size_t o = 0; o < out; o++) {
				y[r * out + o] = f.bias[o];
				dbias[o] += f.dy[r * out + o];
				for (size_t k = 0; k < in; k++) {
					y[r * out + o] += (double)f.x[r * in + k] * f.weight[o * in + k];
					dx[r * in + k] += (double)f.dy[r * out + o] * f.weight[o * in + k];
					dweight[o * in + k] += (double)f.dy[r * out + o] * f.x[r * in + k];
				}
			}
		assert_floats_near("y", f.y, y, rows * out, 1e-5);
		assert_floats_near("dx", f.dx, dx, rows * in, 1e-5);
		assert_floats_near("dweight", f.dweight, dweight, out * in, 1e-5);
		assert_floats_near("dbias", f.dbias, dbias, out, 1e-5);
		cudaFree((void *)f.x), cudaFree((void *)f.weight), cudaFree((void *)f.bias), cudaFree((void *)f.dy);
		cudaFree(f.y), cudaFree(f.dx), cudaFree(f.dweight), cudaFree(f.dbias);
		free(y), free(dx), free(dweight), free(dbias);
	}
}

static void the_loss_and_its_gradient_are_the_cpus(void **state)
{
	static const size_t counts[] = { 1, 80, 80 * 13 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		const size_t count = counts[i];
		float *logits = random_floats(count, 0, 20), *labels = random_floats(count, 0, 1), *preds = device_floats(count);
		float *dlogits = device_floats(count), *loss = device_floats(1), *want = malloc(count * sizeof(*want));

		for (size_t k = 0; k < count; k++)
			labels[k] = labels[k] > 0;
		logits[count / 2] = 200;	/* becomes 1: no gradient, whatever the label; its logarithm ends at -100 */
		logits[count / 3] = -200;
		assert_int_equal(cuda_sigmoid(logits, count, preds, NULL), OK);
		assert_int_equal(cuda_bce(preds, labels, count, loss, NULL), OK);
		assert_int_equal(cuda_bce_backward(preds, labels, count, dlogits, NULL), OK);
		assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
		sigmoid_forward(logits, count, want);
		for (size_t k = 0; k < count; k++)
			assert_true(fabsf(preds[k] - want[k]) <= 1e-6f);
		assert_true(fabs(*loss - bce(preds, labels, count)) <= 1e-6 * fabs(*loss));
		bce_backward(preds, labels, count, want);
		for (size_t k = 0; k < count; k++)
			assert_true(fabsf(dlogits[k] - want[k]) <= 2e-6f * fabsf(want[k]));
		preds[0] = NAN;			/* a network that diverged must show it */
		assert_int_equal(cuda_bce(preds, labels, count, loss, NULL), OK);
		assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
		assert_true(isnan(*loss));
		cudaFree(logits), cudaFree(labels), cudaFree(preds), cudaFree(dlogits), cudaFree(loss);
		free(want);
	}
}

static void dropout_scales_what_it_is_given(void **state)
{
	enum { COUNT = 333 };
	float *x = random_floats(COUNT + 1, 0, 1), *scale = random_floats(COUNT, 1, 1), want[COUNT + 1];

	(void)state;
	for (size_t i = 0; i < COUNT; i++)
		want[i] = x[i] * scale[i];
	want[COUNT] = x[COUNT];
	assert_int_equal(cuda_scale(x, scale, COUNT, NULL), OK);
	assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
	assert_memory_equal(x, want, sizeof(want));
	cudaFree(x), cudaFree(scale);
}

/* ---- data in ---- */

static const struct input_case { size_t n, t, h, w, pitch; } input_cases[] = {
	{ 2, 3, 5, 7, 8 }, { 1, 4, 16, 20, 4 }, { 2, 2, 3, 3, 3 }, { 1, 1, 17, 19, 16 }, { 1, 2, 2, 2, 5 },
};

static void check_input(const struct input_case *k, enum cuda_element e)
{
	const size_t plane = k->h * k->w, positions = k->n * k->t * plane;
	const struct cuda_act shape = { .n = k->n, .c = k->pitch, .dims = { k->t, k->h, k->w }, .pitch = k->pitch };
	struct cuda_act plain_out = shape, crops_out = shape;
	float *plain = random_floats(3 * positions, 0, 1);
	uint8_t *crops = device(3 * positions);
	uint32_t *frame = device(2 * k->t * sizeof(*frame));
	const size_t picked = (k->t + 1) / 2;

	plain_out.at = device(positions * k->pitch * cuda_element_bytes(e));
	crops_out.at = device(positions * k->pitch * cuda_element_bytes(e));
	for (size_t i = 0; i < 3 * positions; i++)
		crops[i] = (uint8_t)(i * 37 + i / 256);
	for (size_t i = 0; i < picked; i++)
		frame[i] = (uint32_t)(k->t - 1 - 2 * i);	/* every second, from the last */
	assert_int_equal(cuda_input_plain(plain, k->n, k->t, k->h, k->w, e, k->pitch, plain_out.at, NULL), OK);
	assert_int_equal(cuda_input_crops(crops, k->n, k->t, k->h, k->w, NULL, k->t, NET_PIXEL_SCALE, NET_PIXEL_OFFSET, e, k->pitch, crops_out.at, NULL),
			 OK);
	assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
	for (size_t i = 0; i < positions * k->pitch; i++) {
		const size_t c = i % k->pitch, p = i / k->pitch % plane, t = i / k->pitch / plane % k->t, n = i / k->pitch / plane / k->t;
		float want[2] = { 0, 0 };

		if (c < 3) {
			want[0] = plain[((n * 3 + c) * k->t + t) * plane + p];
			want[1] = net_pixel(crops[(i / k->pitch) * 3 + c]);
		}
		if (e == CUDA_BF16)
			want[0] = bf16_value(bf16_bits(want[0])), want[1] = bf16_value(bf16_bits(want[1]));
		assert_true(element_at(plain_out.at, e, i) == want[0]);
		assert_true(element_at(crops_out.at, e, i) == want[1]);
	}
	/* Some frames of each clip. */
	cudaFree(plain_out.at);
	plain_out.at = device(k->n * picked * plane * k->pitch * cuda_element_bytes(e));
	assert_int_equal(cuda_input_crops(crops, k->n, k->t, k->h, k->w, frame, picked, NET_PIXEL_SCALE, NET_PIXEL_OFFSET, e, k->pitch, plain_out.at, NULL),
			 OK);
	assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
	for (size_t n = 0; n < k->n; n++)
		for (size_t i = 0; i < picked; i++)
			assert_memory_equal((char *)plain_out.at + (n * picked + i) * plane * k->pitch * cuda_element_bytes(e),
				(char *)crops_out.at + (n * k->t + frame[i]) * plane * k->pitch * cuda_element_bytes(e),
				plane * k->pitch * cuda_element_bytes(e));
	cudaFree(plain), cudaFree(crops), cudaFree(frame), cudaFree(plain_out.at), cudaFree(crops_out.at);
}

static void inputs_have_channels_innermost_and_zeros_behind_them(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(input_cases); i++)
		for (enum cuda_element e = CUDA_F32; e <= CUDA_BF16; e++)
			check_input(&input_cases[i], e);
}

/* ---- weights ---- */

/* offset, count, weight decay, (no copy: row 0), row, its length in the copy */
static const struct { size_t offset, count; float weight_decay; size_t row, copy_row; } run_cases[] = {
	{    0, 1176, 1,  3,  8 },	/* a stem: rows of three */
	{ 1180,  735, 1,  3,  4 },
	{ 1915,   14, 1,  1,  8 },	/* begins at an odd place */
	{ 1932,   64, 0,  0,  0 },	/* nobody reads it */
	{ 2000, 5120, 1, 80, 80 },
	{ 7120,  640, 1, 20, 24 },	/* padded rows of whole fours */
	{ 7761,  100, 1, 10, 10 },
	{ 7868,    1, 0,  1,  1 },
};
enum { FLAT = 7872 };

struct sgd_run {
	float *w, *v;
	const float *g, *hyper;
	struct cuda_run *runs;
	size_t longest;
	bool nesterov;
	enum cuda_element element;
};

static int sgd_of(const void *arguments)
{
	const struct sgd_run *s = arguments;

	return cuda_sgd(s->w, s->v, s->g, s->runs, ARRAY_LEN(run_cases), s->longest, s->hyper, s->nesterov, s->element, NULL);
}

/* Element i of run k in its copy, or in the flat buffer's order. */
static double copied(const struct cuda_run *run, enum cuda_element e, size_t i)
{
	return element_at(run->copy, e, i / run->row * run->copy_row + i % run->row);
}

static size_t copy_count(const struct cuda_run *run)
{
	return run->row ? run->count / run->row * run->copy_row : 0;
}

static void check_sgd(bool nesterov, enum cuda_element e)
{
	struct sgd_run s = { random_floats(FLAT, 0, 1), random_floats(FLAT, 0, 1), random_floats(FLAT, 0, 1), NULL,
			     device(sizeof(struct cuda_run) * ARRAY_LEN(run_cases)), 0, nesterov, e };
	float *hyper = device_floats(3);
	double *w = malloc(FLAT * sizeof(*w)), *v = malloc(FLAT * sizeof(*v));

	memcpy(hyper, (float[]){ 0.1f, 0.9f, 1e-2f }, 3 * sizeof(float));
	s.hyper = hyper;
	for (size_t i = 0; i < FLAT; i++)
		w[i] = s.w[i], v[i] = s.v[i];
	for (size_t k = 0; k < ARRAY_LEN(run_cases); k++) {
		struct cuda_run *run = &s.runs[k];

		*run = (struct cuda_run){ run_cases[k].offset, run_cases[k].count, run_cases[k].weight_decay, NULL, run_cases[k].row,
					  run_cases[k].copy_row };
		s.longest = run->count > s.longest ? run->count : s.longest;
		if (run->row) {
			run->copy = device(copy_count(run) * cuda_element_bytes(e));
			memset(run->copy, 0, copy_count(run) * cuda_element_bytes(e));
		}
		for (size_t i = run->offset; i < run->offset + run->count; i++) {
			double d = s.g[i] + (double)hyper[2] * run->weight_decay * w[i];

			v[i] = (double)hyper[1] * v[i] + d;
			w[i] -= (double)hyper[0] * (nesterov ? d + (double)hyper[1] * v[i] : v[i]);
		}
	}
	run(sgd_of, &s, (struct span[]){ { s.w, FLAT * sizeof(float) }, { s.v, FLAT * sizeof(float) } }, 2);
	assert_floats_near("w", s.w, w, FLAT, 1e-6);
	assert_floats_near("v", s.v, v, FLAT, 1e-6);
	for (int again = 0; again < 2; again++) {
		for (size_t k = 0; k < ARRAY_LEN(run_cases); k++) {
			const struct cuda_run *run = &s.runs[k];

			for (size_t i = 0; run->row && i < run->count; i++) {
				float want = s.w[run->offset + i];

				assert_true(copied(run, e, i) == (e == CUDA_BF16 ? bf16_value(bf16_bits(want)) : want));
			}
			for (size_t i = 0; i < copy_count(run); i++)
				if (i % run->copy_row >= run->row)
					assert_true(element_at(run->copy, e, i) == 0);
			if (run->row)
				memset(run->copy, 0, copy_count(run) * cuda_element_bytes(e));
		}
		assert_int_equal(cuda_copy_weights(s.w, s.runs, ARRAY_LEN(run_cases), s.longest, e, NULL), OK);
		assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
	}
	for (size_t k = 0; k < ARRAY_LEN(run_cases); k++)
		cudaFree(s.runs[k].copy);
	cudaFree(s.w), cudaFree(s.v), cudaFree((void *)s.g), cudaFree(s.runs), cudaFree(hyper);
	free(w), free(v);
}

static void the_optimiser_follows_its_formula_and_fills_the_copies(void **state)
{
	(void)state;
	for (int nesterov = 0; nesterov < 2; nesterov++)
		for (enum cuda_element e = CUDA_F32; e <= CUDA_BF16; e++)
			check_sgd(nesterov, e);
}

static void narrowing_keeps_the_first_of_each_row(void **state)
{
	enum { ROWS = 37, WIDE = 8, NARROW = 3 };
	const size_t dims[3] = { 1, 1, ROWS };

	(void)state;
	for (enum cuda_element e = CUDA_F32; e <= CUDA_BF16; e++) {
		struct cuda_act from = act_random(e, 1, WIDE, dims, 0, 0);
		float *to = device_floats(ROWS * NARROW + 1);

		assert_int_equal(cuda_narrow(from.at, e, ROWS, WIDE, NARROW, to, NULL), OK);
		assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
		for (size_t i = 0; i < ROWS * NARROW; i++)
			assert_true(to[i] == element_at(from.at, e, i / NARROW * WIDE + i % NARROW));
		assert_true(isnan(to[ROWS * NARROW]));
		act_free(&from, e);
		cudaFree(to);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(norm_forward_is_its_formula),
		cmocka_unit_test(norm_backward_is_its_formula),
		cmocka_unit_test(norm_evaluation_uses_the_running_statistics_and_keeps_them),
		cmocka_unit_test(pooling_takes_the_first_of_the_largest_and_gives_it_the_gradient),
		cmocka_unit_test(parts_are_gathered_to_their_sum_and_their_mean),
		cmocka_unit_test(features_of_boxes_and_their_gradients_are_the_cpus),
		cmocka_unit_test(a_fully_connected_layer_is_its_sums),
		cmocka_unit_test(the_loss_and_its_gradient_are_the_cpus),
		cmocka_unit_test(dropout_scales_what_it_is_given),
		cmocka_unit_test(inputs_have_channels_innermost_and_zeros_behind_them),
		cmocka_unit_test(the_optimiser_follows_its_formula_and_fills_the_copies),
		cmocka_unit_test(narrowing_keeps_the_first_of_each_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void built_without_cuda(void **state)
{
	(void)state;
	print_message("SKIP: built without CUDA\n");
	skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(built_without_cuda) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
