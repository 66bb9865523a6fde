/*
 * tests/test_kernels_cpu.c - the CPU back end against naive loops, finite differences and the spec's numbers.
 *
 * Forward is compared with loops in double over plain order; backward with central differences
 * of those loops, so neither side shares code with what is tested.
 */
#include "bench/base/err.h"
#include "bench/base/rng.h"
#include "kernels/arena.h"
#include "kernels/dropout.h"
#include "kernels/cpu/conv.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/yardstick.h"
#include "kernels/initial.h"
#include "kernels/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <cmocka.h>

/* ---- helpers ---- */

static float *floats(size_t count)
{
	float *at = calloc(count + 16, sizeof(*at));

	assert_non_null(at);
	return at;
}

static float *random_floats(size_t count, uint64_t stream)
{
	float *at = floats(count);
	struct rng rng;

	rng_init(&rng, 7, stream);
	for (size_t i = 0; i < count; i++)
		at[i] = (float)rng_normal(&rng);
	return at;
}

static double *doubles_of(const float *from, size_t count)
{
	double *to = calloc(count, sizeof(*to));

	for (size_t i = 0; i < count; i++)
		to[i] = from[i];
	return to;
}

/* Largest difference, relative to the largest value. */
static double distance(const float *a, const double *b, size_t count)
{
	double most = 0, scale = 1e-30;

	for (size_t i = 0; i < count; i++) {
		scale = fmax(scale, fabs(b[i]));
		most = fmax(most, fabs(a[i] - b[i]));
	}
	return most / scale;
}

/* An activation on the heap, its padding zero. */
static struct act act_new(size_t n, size_t c, size_t t, size_t h, size_t w, size_t block)
{
	struct act a = { .n = n, .c = c, .dims = { t, h, w }, .block = block };

	a.clip = act_blocks(&a) * t * h * w * block;
	a.at = floats(n * a.clip);
	return a;
}

/* Between plain order (N,C,T,H,W) and an activation. */
static void act_copy(const struct act *a, float *plain, bool out)
{
	size_t positions = act_positions(a);

	for (size_t n = 0; n < a->n; n++)
		for (size_t c = 0; c < a->c; c++)
			for (size_t s = 0; s < positions; s++) {
				float *at = act_at(a, n, c / a->block) + s * a->block + c % a->block;
				float *p = plain + (n * a->c + c) * positions + s;

				if (out)
					*p = *at;
				else
					*at = *p;
			}
}

static size_t act_count(const struct act *a)
{
	return a->n * a->c * act_positions(a);
}

static struct act act_random(size_t n, size_t c, size_t t, size_t h, size_t w, size_t block, uint64_t stream)
{
	struct act a = act_new(n, c, t, h, w, block);
	float *plain = random_floats(act_count(&a), stream);

	act_copy(&a, plain, false);
	free(plain);
	return a;
}

static float *act_plain(const struct act *a)
{
	float *plain = floats(act_count(a));

	act_copy(a, plain, true);
	return plain;
}

static void assert_padding_is_zero(const struct act *a)
{
	for (size_t n = 0; n < a->n; n++)
		for (size_t c = a->c; c < act_blocks(a) * a->block; c++)
			for (size_t s = 0; s < act_positions(a); s++)
				assert_true(act_at(a, n, c / a->block)[s * a->block + c % a->block] == 0);
}

/* ---- convolution ---- */

/* Adds to one of the three from the two others, all in plain order. */
static void naive_conv(const struct dnn_conv *c, enum op_pass pass, double *x, double *w, double *y)
{
	const size_t *k = c->kernel, *o = c->out, *in = c->in;

	for (size_t i = 0; i < c->n * c->cout * c->cin * k[0] * k[1] * k[2]; i++) {
		const size_t kw = i % k[2], kh = i / k[2] % k[1], kt = i / k[2] / k[1] % k[0];
		const size_t map = i / (k[0] * k[1] * k[2]), ci = map % c->cin, co = map / c->cin % c->cout,
			     n = map / c->cin / c->cout;
		double *weight = &w[i % (c->cout * c->cin * k[0] * k[1] * k[2])], sum = 0;

		for (size_t row = 0; row < o[0] * o[1]; row++) {
			const size_t it = row / o[1] * c->stride[0] + kt * c->dilation[0] - c->pad[0];
			const size_t ih = row % o[1] * c->stride[1] + kh * c->dilation[1] - c->pad[1];
			double *xs = x + (((n * c->cin + ci) * in[0] + it) * in[1] + ih) * in[2];
			double *ys = y + ((n * c->cout + co) * o[0] * o[1] + row) * o[2];

			if (it >= in[0] || ih >= in[1])		/* below 0 wraps around to large */
				continue;
			for (size_t ow = 0; ow < o[2]; ow++) {
				const size_t iw = ow * c->stride[2] + kw * c->dilation[2] - c->pad[2];

				if (iw >= in[2])
					continue;
				if (pass == OP_FORWARD)
					ys[ow] += xs[iw] * *weight;
				else if (pass == OP_BACKWARD_DATA)
					xs[iw] += ys[ow] * *weight;
				else
					sum += xs[iw] * ys[ow];
			}
		}
		if (pass == OP_BACKWARD_WEIGHTS)
			*weight += sum;
	}
}

static void reorder(struct dnn *dnn, const struct dnn_layout *from, float *a, const struct dnn_layout *to, float *b)
{
	struct dnn_prim prim;
	void *scratch;

	assert_int_equal(dnn_reorder_make(dnn, &prim, from, to), OK);
	scratch = malloc(prim.scratch_bytes + 1);
	assert_int_equal(dnn_bind(dnn, &prim, (void *const[]){ a, NULL, b }, scratch), OK);
	assert_int_equal(dnn_run(dnn, &prim), OK);
	dnn_prim_release(&prim);
	free(scratch);
}

static void a_convolution_is_the_sum_that_its_formula_says(void **state)
{
	static const struct dnn_conv cases[] = {
		{ 2, 3, 16, { 2, 18, 16 }, { 2, 9, 8 }, { 1, 7, 7 }, { 1, 2, 2 }, { 0, 3, 3 }, { 1, 1, 1 }, false },
		{ 1, 3, 2, { 8, 16, 16 }, { 8, 8, 8 }, { 5, 7, 7 }, { 1, 2, 2 }, { 2, 3, 3 }, { 1, 1, 1 }, false },
		{ 2, 20, 8, { 4, 5, 3 }, { 4, 5, 3 }, { 3, 1, 1 }, { 1, 1, 1 }, { 1, 0, 0 }, { 1, 1, 1 }, false },
		{ 1, 24, 32, { 5, 7, 7 }, { 5, 7, 7 }, { 3, 1, 1 }, { 1, 1, 1 }, { 1, 0, 0 }, { 1, 1, 1 }, false },
		{ 2, 8, 16, { 8, 5, 5 }, { 2, 5, 5 }, { 7, 1, 1 }, { 4, 1, 1 }, { 3, 0, 0 }, { 1, 1, 1 }, false },
		{ 1, 2, 4, { 8, 4, 4 }, { 2, 4, 4 }, { 7, 1, 1 }, { 4, 1, 1 }, { 3, 0, 0 }, { 1, 1, 1 }, false },
		{ 2, 16, 16, { 2, 9, 7 }, { 2, 5, 4 }, { 1, 3, 3 }, { 1, 2, 2 }, { 0, 1, 1 }, { 1, 1, 1 }, false },
		{ 1, 2, 2, { 3, 6, 6 }, { 3, 6, 6 }, { 1, 3, 3 }, { 1, 1, 1 }, { 0, 1, 1 }, { 1, 1, 1 }, false },
		{ 2, 16, 8, { 2, 6, 6 }, { 2, 6, 6 }, { 1, 3, 3 }, { 1, 1, 1 }, { 0, 2, 2 }, { 1, 2, 2 }, false },
		{ 1, 4, 4, { 2, 4, 4 }, { 2, 4, 4 }, { 1, 3, 3 }, { 1, 1, 1 }, { 0, 2, 2 }, { 1, 2, 2 }, false },
		{ 2, 20, 32, { 2, 6, 6 }, { 2, 3, 3 }, { 1, 1, 1 }, { 1, 2, 2 }, { 0, 0, 0 }, { 1, 1, 1 }, false },
		{ 1, 1, 4, { 2, 6, 6 }, { 2, 6, 6 }, { 1, 1, 1 }, { 1, 1, 1 }, { 0, 0, 0 }, { 1, 1, 1 }, false },
		{ 2, 40, 72, { 1, 3, 5 }, { 1, 3, 5 }, { 1, 1, 1 }, { 1, 1, 1 }, { 0, 0, 0 }, { 1, 1, 1 }, false },
	};
	struct dnn dnn;
	size_t block;

	(void)state;
	assert_int_equal(dnn_open(&dnn), OK);
	assert_int_equal(dnn_block(&dnn, &block), OK);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct dnn_conv *s = &cases[i];
		const bool first = s->cin == 3, adds = i % 2;
		const size_t w_count = s->cout * s->cin * s->kernel[0] * s->kernel[1] * s->kernel[2];
		struct act x = act_random(s->n, s->cin, s->in[0], s->in[1], s->in[2], first ? 1 : block, 1);
		struct act dx = act_random(s->n, s->cin, s->in[0], s->in[1], s->in[2], first ? 1 : block, 2);
		struct act y = act_new(s->n, s->cout, s->out[0], s->out[1], s->out[2], block);
		struct act dy = act_random(s->n, s->cout, s->out[0], s->out[1], s->out[2], block, 3);
		float *w = random_floats(w_count, 4), *stored = floats(w_count), *dstored = floats(w_count),
		      *dw = floats(w_count);
		float *px = act_plain(&x), *pdx = act_plain(&dx), *pdy = act_plain(&dy), *got;
		double *rx = doubles_of(px, act_count(&x)), *rw = doubles_of(w, w_count),
		       *rdy = doubles_of(pdy, act_count(&y));
		double *sum = calloc(act_count(&x) + act_count(&y) + w_count, sizeof(*sum));
		float *input = floats(first ? s->n * conv_input_floats(s, block) : 0);
		struct dnn_layout plain = { 0 };
		struct conv conv;
		void *scratch;

		assert_int_equal(conv_make(&dnn, &conv, s, block, first, adds), OK);
		scratch = aligned_alloc(64, conv_scratch_bytes(&conv) + 64);
		assert_int_equal(dnn_layout_weights(&plain,
						    (const size_t[]){ s->cout, conv.shape.cin, conv.shape.kernel[0],
								      conv.shape.kernel[1], conv.shape.kernel[2] },
						    conv.shape.flat),
				 OK);
		reorder(&dnn, &plain, w, &conv.weights, stored);
		assert_int_equal(
		    conv_bind(&dnn, &conv,
			      &(struct conv_place){ first ? input : x.at, stored, y.at, dx.at, dstored, dy.at },
			      scratch),
		    OK);

		if (first)	/* behind binding, which clears padding */
			conv_input(s, block, &(struct conv_source){ .plain = px }, input);
		assert_int_equal(conv_run(&dnn, &conv, OP_FORWARD), OK);
		naive_conv(s, OP_FORWARD, rx, rw, sum);
		got = act_plain(&y);
		assert_true(distance(got, sum, act_count(&y)) < 2e-6);
		assert_padding_is_zero(&y);
		free(got);

		assert_int_equal(conv_run(&dnn, &conv, OP_BACKWARD_WEIGHTS), OK);
		reorder(&dnn, &conv.weights, dstored, &plain, dw);
		memset(sum, 0, w_count * sizeof(*sum));
		naive_conv(s, OP_BACKWARD_WEIGHTS, rx, sum, rdy);
		assert_true(distance(dw, sum, w_count) < 2e-6);

		if (!first) {
			assert_int_equal(conv_run(&dnn, &conv, OP_BACKWARD_DATA), OK);
			for (size_t j = 0; j < act_count(&x); j++)
				sum[j] = adds ? pdx[j] : 0;
			naive_conv(s, OP_BACKWARD_DATA, sum, rw, rdy);
			got = act_plain(&dx);
			assert_true(distance(got, sum, act_count(&x)) < 2e-6);
			assert_padding_is_zero(&dx);
			free(got);
		}
		dnn_layout_release(&plain);
		conv_release(&conv);
		free(scratch);
		free(input);
		free(x.at); free(dx.at); free(y.at); free(dy.at);
		free(w);
		free(stored);
		free(dstored);
		free(dw);
		free(px);
		free(pdx);
		free(pdy);
		free(sum);
		free(rx);
		free(rw);
		free(rdy);
	}
	dnn_close(&dnn);
}

/* ---- batch norm ---- */

/* y in double, plain order. */
static void naive_norm(const double *x, const double *shortcut, const double *weight, const double *bias, size_t n,
		       size_t c, size_t s, bool relu, double *y, double *means, double *vars)
{
	for (size_t ch = 0; ch < c; ch++) {
		double mean = 0, var = 0;

		for (size_t i = 0; i < n * s; i++)
			mean += x[(i / s * c + ch) * s + i % s];
		mean /= (double)(n * s);
		for (size_t i = 0; i < n * s; i++)
			var += pow(x[(i / s * c + ch) * s + i % s] - mean, 2);
		var /= (double)(n * s);
		means[ch] = mean;
		vars[ch] = var;
		for (size_t i = 0; i < n * s; i++) {
			size_t at = (i / s * c + ch) * s + i % s;
			double v =
			    (x[at] - mean) / sqrt(var + 1e-5) * weight[ch] + bias[ch] + (shortcut ? shortcut[at] : 0);

			y[at] = relu && v < 0 ? 0 : v;
		}
	}
}

/* All that a batch norm is asked about. */
struct norm_case {
	size_t n, c, t, h, w, block;
	bool relu, shortcut, adds;
};

struct norm_truth {
	double *x, *shortcut, *weight, *bias, *y, *dy, *means, *vars;
	const struct norm_case *of;
};

static double norm_objective(struct norm_truth *truth)
{
	const struct norm_case *k = truth->of;
	size_t s = k->t * k->h * k->w;
	double sum = 0;

	naive_norm(truth->x, truth->shortcut, truth->weight, truth->bias, k->n, k->c, s, k->relu, truth->y,
		   truth->means, truth->vars);
	for (size_t i = 0; i < k->n * k->c * s; i++)
		sum += truth->y[i] * truth->dy[i];
	return sum;
}

static double slope_of(struct norm_truth *truth, double *at)
{
	const double h = 1e-5, was = *at;
	double up, down;

	*at = was + h;
	up = norm_objective(truth);
	*at = was - h;
	down = norm_objective(truth);
	*at = was;
	return (up - down) / (2 * h);
}

static void check_norm(const struct norm_case *k)
{
	struct act x = act_random(k->n, k->c, k->t, k->h, k->w, k->block, 1),
		   dy = act_random(k->n, k->c, k->t, k->h, k->w, k->block, 2);
	struct act sc = act_random(k->n, k->c, k->t, k->h, k->w, k->block, 3),
		   dsc = act_random(k->n, k->c, k->t, k->h, k->w, k->block, 4);
	struct act y = act_new(k->n, k->c, k->t, k->h, k->w, k->block),
		   dx = act_new(k->n, k->c, k->t, k->h, k->w, k->block);
	float *weight = random_floats(k->c, 5), *bias = random_floats(k->c, 6), *dweight = floats(k->c),
	      *dbias = floats(k->c);
	float *rmean = floats(k->c), *rvar = floats(k->c), *mean = floats(k->c), *inv_std = floats(k->c);
	double *partial = calloc(norm_partial_doubles(&x), sizeof(*partial));
	float *px = act_plain(&x), *pdy = act_plain(&dy), *psc = act_plain(&sc), *pdsc = act_plain(&dsc), *got, *dgot,
	      *sgot;
	size_t count = act_count(&x);
	const double m = (double)(count / k->c);
	struct norm norm = { .x = x, .y = y, .dx = dx, .dy = dy, .relu = k->relu, .add_dshortcut = k->adds,
			     .weight = weight, .bias = bias, .dweight = dweight, .dbias = dbias, .running_mean = rmean,
			     .running_var = rvar, .mean = mean, .inv_std = inv_std, .partial = partial };
	struct norm_truth truth = { doubles_of(px, count),
				    k->shortcut ? doubles_of(psc, count) : NULL,
				    doubles_of(weight, k->c),
				    doubles_of(bias, k->c),
				    calloc(count, sizeof(double)),
				    doubles_of(pdy, count),
				    calloc(k->c, sizeof(double)),
				    calloc(k->c, sizeof(double)),
				    k };
	struct rng rng;

	if (k->shortcut) {
		norm.shortcut = sc;
		norm.dshortcut = dsc;
	}
	for (size_t c = 0; c < k->c; c++)
		rvar[c] = 1;
	norm_forward(&norm);
	norm_objective(&truth);
	got = act_plain(&y);
	assert_true(distance(got, truth.y, count) < 1e-5);
	assert_padding_is_zero(&y);
	for (size_t c = 0; c < k->c; c++) {
		assert_true(fabs(rmean[c] - 0.1 * truth.means[c]) < 1e-6);
		assert_true(fabs(rvar[c] - (0.9 + 0.1 * truth.vars[c] * m / (m - 1))) < 1e-6);
	}

	norm_backward(&norm);
	dgot = act_plain(&dx);
	sgot = act_plain(&dsc);
	assert_padding_is_zero(&dx);
	for (size_t c = 0; c < k->c; c++) {
		assert_true(fabs(dweight[c] - slope_of(&truth, &truth.weight[c])) < 1e-4 * m);
		assert_true(fabs(dbias[c] - slope_of(&truth, &truth.bias[c])) < 1e-4 * m);
	}
	rng_init(&rng, 3, 3);
	for (int i = 0; i < 30; i++) {
		size_t at = rng_below(&rng, (uint32_t)count);

		assert_true(fabs(dgot[at] - slope_of(&truth, &truth.x[at])) < 1e-4);
		if (k->shortcut)
			assert_true(fabs(sgot[at] - (k->adds ? pdsc[at] : 0) - slope_of(&truth, &truth.shortcut[at])) <
				    1e-4);
	}

	norm_evaluate(&norm);
	free(got);
	got = act_plain(&y);
	for (size_t i = 0; i < count; i++) {
		size_t c = i / (k->t * k->h * k->w) % k->c;
		double v = (px[i] - rmean[c]) / sqrt(rvar[c] + 1e-5) * weight[c] + bias[c] + (k->shortcut ? psc[i] : 0);

		assert_true(fabs(got[i] - (k->relu && v < 0 ? 0 : v)) < 1e-5);
	}
	free(x.at); free(y.at); free(dx.at); free(dy.at); free(sc.at); free(dsc.at);
	free(weight); free(bias); free(dweight); free(dbias); free(rmean); free(rvar); free(mean); free(inv_std);
	free(partial); free(px); free(pdy); free(psc); free(pdsc); free(got); free(dgot); free(sgot);
	free(truth.x); free(truth.shortcut); free(truth.weight); free(truth.bias); free(truth.y); free(truth.dy);
	free(truth.means); free(truth.vars);
}

static void batch_norm_and_its_gradients_follow_the_formulas(void **state)
{
	static const struct norm_case cases[] = {
		{ 1, 8, 2, 3, 3, 8, false, false, false },
		{ 2, 20, 2, 3, 5, 8, true, false, false },
		{ 2, 8, 1, 5, 3, 8, true, true, false },
		{ 1, 3, 2, 4, 4, 8, true, true, true },
		{ 2, 2, 3, 23, 17, 8, false, false, false },	/* more than one chunk */
		{ 1, 24, 2, 3, 3, 16, true, true, true },
		{ 2, 16, 2, 3, 3, 16, true, false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		check_norm(&cases[i]);
}

static void a_large_mean_does_not_spoil_the_variance(void **state)
{
	struct act x = act_random(1, 8, 4, 20, 20, 8, 1), y = act_new(1, 8, 4, 20, 20, 8);
	float ones[8], zeros[8] = { 0 }, rmean[8] = { 0 }, rvar[8] = { 0 }, mean[8], inv_std[8], *px;
	double *partial = calloc(norm_partial_doubles(&x), sizeof(*partial));
	const struct norm norm = { .x = x, .y = y, .weight = ones, .bias = zeros, .running_mean = rmean,
				   .running_var = rvar, .mean = mean, .inv_std = inv_std, .partial = partial };

	(void)state;
	for (size_t i = 0; i < 8; i++)
		ones[i] = 1;
	for (size_t i = 0; i < x.clip; i++)
		x.at[i] = x.at[i] * 0.01f + 1000;
	norm_forward(&norm);
	px = act_plain(&x);
	for (size_t c = 0; c < 8; c++) {
		double m = 0, v = 0;

		for (size_t s = 0; s < 1600; s++)
			m += px[c * 1600 + s] / 1600.0;
		for (size_t s = 0; s < 1600; s++)
			v += pow(px[c * 1600 + s] - m, 2) / 1600;
		assert_true(fabs(inv_std[c] * sqrt(v + 1e-5) - 1) < 0.01);
	}
	free(px); free(x.at); free(y.at); free(partial);
}

/* ---- pooling ---- */

static void pooling_takes_the_first_maximum_and_sends_the_gradient_there(void **state)
{
	static const struct { size_t n, c, t, h, w, block; } cases[] = {
		{ 2, 8, 2, 8, 6, 8 }, { 1, 2, 3, 7, 9, 8 }, { 1, 20, 1, 5, 5, 16 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const size_t oh = (cases[i].h - 1) / 2 + 1, ow = (cases[i].w - 1) / 2 + 1;
		struct act x =
		    act_random(cases[i].n, cases[i].c, cases[i].t, cases[i].h, cases[i].w, cases[i].block, 1);
		struct act y = act_new(x.n, x.c, x.dims[0], oh, ow, x.block),
			   dy = act_random(x.n, x.c, x.dims[0], oh, ow, x.block, 2);
		struct act dx = act_random(x.n, x.c, x.dims[0], x.dims[1], x.dims[2], x.block, 3);
		uint8_t *winner = malloc(y.n * y.clip);
		const struct pool pool = { x, y, dx, dy, winner, { 3, 3 }, { 2, 2 }, { 1, 1 } };
		float *px, *py, *pdx, *pdy = act_plain(&dy), *expect = floats(act_count(&x));
		const size_t h = x.dims[1], w = x.dims[2];

		for (size_t j = 0; j < x.n * x.clip; j++)	/* as behind a ReLU: many equal zeros */
			x.at[j] = x.at[j] > 0.5f ? x.at[j] : 0;
		px = act_plain(&x);
		pool_forward(&pool);
		pool_backward(&pool);
		py = act_plain(&y);
		pdx = act_plain(&dx);
		for (size_t o = 0; o < act_count(&y); o++) {
			size_t plane = o / (oh * ow), best = SIZE_MAX;

			for (size_t k = 0; k < 9; k++) {
				size_t ih = o / ow % oh * 2 + k / 3 - 1, iw = o % ow * 2 + k % 3 - 1,
				       at = (plane * h + ih) * w + iw;

				if (ih < h && iw < w && (best == SIZE_MAX || px[at] > px[best]))
					best = at;
			}
			assert_true(py[o] == px[best]);
			expect[best] += pdy[o];
		}
		for (size_t j = 0; j < act_count(&x); j++)
			assert_true(pdx[j] == expect[j]);
		assert_padding_is_zero(&y);
		free(x.at); free(y.at); free(dx.at); free(dy.at); free(winner);
		free(px); free(py); free(pdx); free(pdy); free(expect);
	}
}

/* ---- the head ---- */

static void roi_align_gives_the_spec_s_values(void **state)
{
	static const float map[20] = { 0,  1,  4,  9,  16, 3,  4.5f,  8,  13.5f, 21,
				       12, 14, 18, 24, 32, 27, 29.5f, 34, 40.5f, 49 };
	static const struct { float box[5]; bool aligned; float bins[4]; } cases[] = {
		{ { 0, 8, 16, 72, 56 }, true, { 6.75f, 15.875f, 20.3125f, 30.6875f } },
		{ { 0, 8, 16, 72, 56 }, false, { 12.34375f, 23.96875f, 28.3046875f, 41.0859375f } },
		{ { 0, 0, 0, 79, 63 }, true, { 2.786756727f, 13.019042969f, 20.986436632f, 33.606553819f } },
		{ { 0, 0, 0, 79, 63 }, false, { 7.124037001f, 18.893446181f, 26.775922987f, 40.547580295f } },
		{ { 0, 30, 10, 34, 12 }, true, { 2.8935546875f, 3.2783203125f, 3.1259765625f, 3.5146484375f } },
		{ { 0, 30, 10, 34, 12 }, false, { 8.1796875f, 10.8984375f, 12.4609375f, 15.3046875f } },
		{ { 0, 40, 40, 40, 40 }, true, { 0, 0, 0, 0 } },
		{ { 0, 40, 40, 40, 40 }, false, { 34.78125f, 38.46875f, 38.875f, 42.625f } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		float bins[4];

		roi_align(map, 4, 5, 1, cases[i].box, 1.0f / 16, cases[i].aligned, 2, bins);
		for (size_t k = 0; k < 4; k++)
			assert_true(fabsf(bins[k] - cases[i].bins[k]) < 1e-5f);
	}
}

static void the_head_s_gradients_are_its_slopes(void **state)
{
	/* The last box has no area, the one before reaches over the map's edge. */
	static const float boxes[4 * 5] = { 1, 8, 16, 72, 56, 0, 0, 0, 79, 63, 1, 40, 30, 100, 90, 0, 33, 33, 33, 33 };
	struct act x = act_random(2, 11, 3, 4, 5, 8, 1), dx = act_new(2, 11, 3, 4, 5, 8);
	float *mean = floats(2 * 2 * 20 * 8), *features = floats(4 * 13), *dfeatures = random_floats(4 * 13, 2);
	uint8_t winner[4 * 11];
	const struct roi roi = { .x = x,
				 .dx = dx,
				 .mean = mean,
				 .winner = winner,
				 .boxes = boxes,
				 .box_count = 4,
				 .out = 7,
				 .scale = 1.0f / 16,
				 .aligned = true,
				 .features = features,
				 .dfeatures = dfeatures,
				 .stride = 13 };
	float *slopes, *plain = act_plain(&x);

	(void)state;
	roi_forward(&roi);
	for (size_t c = 0; c < 11; c++)
		assert_true(features[3 * 13 + c] == 0);
	roi_backward(&roi);
	slopes = act_plain(&dx);
	assert_padding_is_zero(&dx);
	for (size_t i = 0; i < act_count(&x); i += 7) {
		const float h = 1e-2f, was = plain[i];
		double side[2];

		for (int s = 0; s < 2; s++) {
			plain[i] = was + (s ? h : -h);
			act_copy(&x, plain, false);
			roi_forward(&roi);
			side[s] = 0;
			for (size_t j = 0; j < 4 * 13; j++)
				side[s] += j % 13 < 11 ? (double)features[j] * dfeatures[j] : 0;
		}
		plain[i] = was;
		assert_true(fabs((side[1] - side[0]) / (2 * h) - slopes[i]) < 2e-3);
	}
	free(x.at); free(dx.at); free(mean); free(features); free(dfeatures); free(slopes); free(plain);
}

static void the_projection_s_gradients_are_its_slopes(void **state)
{
	enum { ROWS = 3, IN = 37, OUT = 5 };
	float *x = random_floats(ROWS * IN, 1), *w = random_floats(OUT * IN, 2), *b = random_floats(OUT, 3),
	      *dy = random_floats(ROWS * OUT, 4);
	float y[ROWS * OUT], dx[ROWS * IN], dw[OUT * IN], db[OUT];

	(void)state;
	fc_forward(x, w, b, ROWS, IN, OUT, y);
	fc_backward(x, w, dy, ROWS, IN, OUT, dx, dw, db);
	for (size_t r = 0; r < ROWS; r++)
		for (size_t o = 0; o < OUT; o++) {
			double sum = b[o];

			for (size_t i = 0; i < IN; i++)
				sum += (double)x[r * IN + i] * w[o * IN + i];
			assert_true(fabs(sum - y[r * OUT + o]) < 1e-5);
		}
	for (size_t i = 0; i < IN; i++)
		for (size_t o = 0; o < OUT; o++) {
			double sum = 0;

			for (size_t r = 0; r < ROWS; r++)
				sum += (double)dy[r * OUT + o] * x[r * IN + i];
			assert_true(fabs(sum - dw[o * IN + i]) < 1e-5);
		}
	for (size_t i = 0; i < ROWS * IN; i++) {
		double sum = 0;

		for (size_t o = 0; o < OUT; o++)
			sum += (double)dy[i / IN * OUT + o] * w[o * IN + i % IN];
		assert_true(fabs(sum - dx[i]) < 1e-5);
	}
	for (size_t o = 0; o < OUT; o++)
		assert_true(fabsf(db[o] - (dy[o] + dy[OUT + o] + dy[2 * OUT + o])) < 1e-5f);
	free(x); free(w); free(b); free(dy);
}

static void the_loss_has_the_spec_s_value_and_slopes(void **state)
{
	static const float preds[4] = { 0.9f, 0.2f, 0.4f, 0 }, labels[4] = { 1, 0, 1, 1 };
	float logits[6] = { -3, -0.5f, 0, 0.7f, 2, 200 }, p[6], slopes[6];
	static const float y[6] = { 1, 0, 1, 0, 1, 0 };

	(void)state;
	assert_true(fabs(bce(preds, labels, 4) - 25.3111987) < 1e-6);
	sigmoid_forward(logits, 6, p);
	bce_backward(p, y, 6, slopes);
	for (size_t i = 0; i < 5; i++) {
		double x = logits[i], h = 1e-6, side[2];

		for (int s = 0; s < 2; s++) {
			double q = 1 / (1 + exp(-(x + (s ? h : -h))));

			side[s] = -(y[i] * log(q) + (1 - y[i]) * log(1 - q)) / 6;
		}
		assert_true(fabs((side[1] - side[0]) / (2 * h) - slopes[i]) < 1e-6);
	}
	assert_true(p[5] == 1 && slopes[5] == 0);	/* saturated: 100 of loss, no gradient */
}

static void dropout_keeps_the_mean_and_depends_on_seed_and_step(void **state)
{
	enum { COUNT = 20000 };
	static float a[COUNT], b[COUNT];
	double sum = 0;

	(void)state;
	dropout_draw(1, 5, 0.25, COUNT, a);
	for (size_t i = 0; i < COUNT; i++) {
		assert_true(a[i] == 0 || fabsf(a[i] - 4.0f / 3) < 1e-6f);
		sum += a[i];
	}
	assert_true(fabs(sum / COUNT - 1) < 0.02);
	dropout_draw(1, 5, 0.25, COUNT, b);
	assert_memory_equal(a, b, sizeof(a));
	dropout_draw(1, 6, 0.25, COUNT, b);
	assert_memory_not_equal(a, b, sizeof(a));
	dropout_draw(2, 5, 0.25, COUNT, b);
	assert_memory_not_equal(a, b, sizeof(a));
	dropout_draw(1, 5, 0, COUNT, a);
	for (size_t i = 0; i < COUNT; i++)
		assert_true(a[i] == 1);
}

static void sgd_gives_the_spec_s_values(void **state)
{
	static const struct { float g; double w, v; } steps[] = {
		{ 0.5f, 0.904999981, 0.5000001 },
		{ -0.25f, 0.911999955705, 0.2000001805 },
		{ 0.1f, 0.876799923757, 0.2800002536 },
	};
	const struct sgd_step nesterov = { 0.1f, 0.9f, 1e-7f, true }, heavy_ball = { 0.1f, 0.9f, 0, false };
	float w = 1, v = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		sgd_update(&w, &v, &steps[i].g, 1, &nesterov);
		assert_true(fabs(w - steps[i].w) < 2e-7);
		assert_true(fabs(v - steps[i].v) < 1e-7);
	}
	w = 1;
	v = 0.5f;
	sgd_update(&w, &v, &steps[0].g, 1, &heavy_ball);
	assert_true(fabs(v - 0.95) < 1e-7 && fabs(w - 0.905) < 1e-6);
}

/* ---- memory ---- */

static void pieces_that_live_together_never_overlap(void **state)
{
	enum { COUNT = 200 };
	struct piece pieces[COUNT];
	struct rng rng;
	size_t total, live_most = 0;

	(void)state;
	rng_init(&rng, 1, 1);
	for (size_t i = 0; i < COUNT; i++) {
		pieces[i] = (struct piece){ .bytes = rng_below(&rng, 10) ? 1 + rng_below(&rng, 5000) : 0,
					    .from = rng_below(&rng, 100) };
		pieces[i].to = pieces[i].from + rng_below(&rng, 30);
	}
	total = arena_plan(pieces, COUNT);
	for (size_t i = 0; i < COUNT; i++)
		for (size_t j = 0; j < i; j++) {
			const struct piece *p = &pieces[i], *q = &pieces[j];
			bool together = p->bytes && q->bytes && p->from <= q->to && q->from <= p->to;

			assert_true(!together || p->offset >= q->offset + q->bytes ||
				    q->offset >= p->offset + p->bytes);
		}
	for (size_t moment = 0; moment < 130; moment++) {
		size_t live = 0;

		for (size_t i = 0; i < COUNT; i++)
			live += pieces[i].from <= moment && moment <= pieces[i].to ? pieces[i].bytes : 0;
		live_most = live > live_most ? live : live_most;
	}
	assert_true(total >= live_most && total < 2 * live_most);
}

/* ---- the whole network ---- */

struct job {
	struct net net;
	const struct kernel_backend *backend;
	struct kernels *k;
	float *slow, *fast, *rois, *labels;
	struct step_input in;
	size_t last;	/* ready index of the last gradient */
};

static void batch_set(struct job *j, size_t clips, size_t boxes)
{
	j->in = (struct step_input){ .clips = clips, .boxes = boxes, .slow = j->slow, .fast = j->fast, .rois = j->rois,
				     .labels = j->labels };
}

/* For so many frames of that size; 0: the preset's. */
static void job_open_frames(struct job *j, const char *preset, size_t frames, size_t height, size_t width, size_t clips,
			    const struct kernel_config *like)
{
	struct kernel_config config = *like;
	struct net square;
	const size_t boxes = 2 * clips;
	struct rng rng;

	*j = (struct job){ .backend = kernel_backend_find("cpu") };
	assert_non_null(j->backend);
	assert_int_equal(net_init(&square, net_preset_find(preset), frames, 0), OK);
	assert_int_equal(net_init_whole(&j->net, &square, height ? height : square.crop, width ? width : square.crop), OK);
	net_release(&square);
	config.net = &j->net;
	config.clips_max = clips;
	config.boxes_max = boxes;
	assert_int_equal(j->backend->open(&j->k, &config), OK);
	j->last = j->net.param_count - 1;
	j->slow = random_floats(clips * 3 * j->net.slow_frames * j->net.height * j->net.width, 11);
	j->fast = random_floats(clips * 3 * j->net.frames * j->net.height * j->net.width, 12);
	j->rois = floats(boxes * 5);
	j->labels = floats(boxes * NET_CLASSES);
	rng_init(&rng, 9, 9);
	for (size_t i = 0; i < boxes; i++) {
		float *box = j->rois + i * 5, wide = (float)j->net.width / 2, high = (float)j->net.height / 2;

		box[0] = (float)(i / 2);
		box[1] = (float)rng_uniform(&rng) * wide;
		box[2] = (float)rng_uniform(&rng) * high;
		box[3] = box[1] + (float)rng_uniform(&rng) * wide;
		box[4] = box[2] + (float)rng_uniform(&rng) * high;
	}
	for (size_t i = 0; i < boxes * NET_CLASSES; i++)
		j->labels[i] = rng_uniform(&rng) < 0.1;
	batch_set(j, clips, boxes);
}

static void job_open(struct job *j, const char *preset, size_t clips, const struct kernel_config *like)
{
	job_open_frames(j, preset, 0, 0, 0, clips, like);
}

static void job_close(struct job *j)
{
	j->backend->close(j->k);
	net_release(&j->net);
	free(j->slow);
	free(j->fast);
	free(j->rois);
	free(j->labels);
}

static float job_forward(struct job *j)
{
	assert_int_equal(j->backend->input(j->k, &j->in), OK);
	assert_int_equal(j->backend->forward(j->k), OK);
	assert_int_equal(j->backend->loss(j->k), OK);
	return *j->k->loss;
}

static float job_step(struct job *j, double lr)
{
	const struct sgd sgd = { lr, 0.9, 1e-4, true };
	float loss = job_forward(j);

	assert_int_equal(j->backend->backward(j->k, j->last), OK);
	assert_int_equal(j->backend->update(j->k, &sgd), OK);
	return loss;
}

/* Residual branches count for something. */
static void awaken(struct job *j)
{
	float ones[2048];

	for (size_t i = 0; i < ARRAY_LEN(ones); i++)
		ones[i] = 0.5f;
	for (size_t i = 0; i < j->net.param_count; i++)
		if (strstr(j->net.params[i].name, "branch2.c_bn.weight"))
			assert_int_equal(j->backend->set(j->k, STATE_WEIGHT, i, ones), OK);
}

static const struct kernel_config one_thread = { .threads = 1, .seed = 3, .dropout_seed = 4 };
static const struct kernel_config two_threads = { .threads = 2, .seed = 3, .dropout_seed = 4 };

/* ---- the network once more: operator by operator, in double, plain order, without any sharing of memory ---- */

struct twin {
	const struct net *net;
	const struct step_input *in;
	double **value, **grad;		/* per tensor that is no slice: (N,C,T,H,W) */
	double **weight, **dweight;	/* per parameter */
	size_t *winner;			/* (R,C) bins of the head, both pathways */
};

static size_t positions_of(const struct net_tensor *t)
{
	return t->t * t->h * t->w;
}

/* Channel `c` of clip `n` of a tensor, slice or not. */
static double *twin_at(const struct twin *w, double **of, int tensor, size_t n, size_t c)
{
	const struct net_tensor *t = &w->net->tensors[tensor], *root = t->of < 0 ? t : &w->net->tensors[t->of];

	return of[t->of < 0 ? tensor : t->of] + (n * root->c + t->c0 + c) * positions_of(t);
}

static struct dnn_conv twin_conv(const struct twin *w, const struct net_op *op)
{
	const struct net_tensor *x = &w->net->tensors[op->in], *y = &w->net->tensors[op->out];

	return (struct dnn_conv){ w->in->clips,
				  x->c,
				  y->c,
				  { x->t, x->h, x->w },
				  { y->t, y->h, y->w },
				  { op->kernel[0], op->kernel[1], op->kernel[2] },
				  { op->stride[0], op->stride[1], op->stride[2] },
				  { op->pad[0], op->pad[1], op->pad[2] },
				  { op->dilation[0], op->dilation[1], op->dilation[2] },
				  false };
}

static void twin_norm(struct twin *w, const struct net_op *op, bool backward)
{
	const struct net_tensor *t = &w->net->tensors[op->in];
	const size_t s = positions_of(t), n = w->in->clips;
	const double m = (double)(n * s);

	for (size_t c = 0; c < t->c; c++) {
		double mean = 0, var = 0, db = 0, dw = 0, inv;

		for (size_t i = 0; i < n * s; i++)
			mean += twin_at(w, w->value, op->in, i / s, c)[i % s] / m;
		for (size_t i = 0; i < n * s; i++)
			var += pow(twin_at(w, w->value, op->in, i / s, c)[i % s] - mean, 2) / m;
		inv = 1 / sqrt(var + 1e-5);
		for (size_t i = 0; !backward && i < n * s; i++) {
			double v =
			    (twin_at(w, w->value, op->in, i / s, c)[i % s] - mean) * inv * w->weight[op->weight][c] +
			    w->weight[op->bias][c];

			if (op->in2 >= 0)
				v += twin_at(w, w->value, op->in2, i / s, c)[i % s];
			twin_at(w, w->value, op->out, i / s, c)[i % s] = op->relu && v < 0 ? 0 : v;
		}
		for (size_t i = 0; backward && i < n * s; i++) {
			double *g = &twin_at(w, w->grad, op->out, i / s, c)[i % s];

			if (op->relu && !(twin_at(w, w->value, op->out, i / s, c)[i % s] > 0))
				*g = 0;
			db += *g;
			dw += *g * (twin_at(w, w->value, op->in, i / s, c)[i % s] - mean) * inv;
			if (op->in2 >= 0)
				twin_at(w, w->grad, op->in2, i / s, c)[i % s] += *g;
		}
		for (size_t i = 0; backward && i < n * s; i++) {
			double xhat = (twin_at(w, w->value, op->in, i / s, c)[i % s] - mean) * inv;

			twin_at(w, w->grad, op->in, i / s, c)[i % s] += w->weight[op->weight][c] * inv *
				(twin_at(w, w->grad, op->out, i / s, c)[i % s] - db / m - xhat * dw / m);
		}
		if (backward) {
			w->dweight[op->weight][c] = dw;
			w->dweight[op->bias][c] = db;
		}
	}
}

static void twin_pool(struct twin *w, const struct net_op *op, bool backward)
{
	const struct net_tensor *x = &w->net->tensors[op->in], *y = &w->net->tensors[op->out];

	for (size_t i = 0; i < w->in->clips * y->c * positions_of(y); i++) {
		const size_t n = i / positions_of(y) / y->c, c = i / positions_of(y) % y->c, o = i % positions_of(y),
			     plane = o / (y->h * y->w);
		const double *from = twin_at(w, w->value, op->in, n, c) + plane * x->h * x->w;
		size_t best = SIZE_MAX;

		for (size_t k = 0; k < 9; k++) {
			size_t ih = o / y->w % y->h * 2 + k / 3 - 1, iw = o % y->w * 2 + k % 3 - 1, at = ih * x->w + iw;

			if (ih < x->h && iw < x->w && (best == SIZE_MAX || from[at] > from[best]))
				best = at;
		}
		if (backward)
			twin_at(w, w->grad, op->in, n, c)[plane * x->h * x->w + best] +=
			    twin_at(w, w->grad, op->out, n, c)[o];
		else
			twin_at(w, w->value, op->out, n, c)[o] = from[best];
	}
}

/* One bin of ROIAlign over the mean of time; backward (`gradient` not 0) spreads instead. */
static double twin_bin(struct twin *w, int tensor, size_t c, const float *box, size_t bin, double gradient)
{
	const struct net_tensor *t = &w->net->tensors[tensor];
	const double x0 = box[1] / 16.0 - 0.5, y0 = box[2] / 16.0 - 0.5, bw = (box[3] - box[1]) / 112.0,
		     bh = (box[4] - box[2]) / 112.0;
	const size_t gw = (size_t)ceil(bw), gh = (size_t)ceil(bh), n = (size_t)box[0];
	double sum = 0;

	for (size_t k = 0; k < gw * gh; k++) {
		double y = y0 + ((double)(bin / 7) + ((double)(k / gw) + 0.5) / (double)gh) * bh;
		double x = x0 + ((double)(bin % 7) + ((double)(k % gw) + 0.5) / (double)gw) * bw;

		if (y < -1 || y > (double)t->h || x < -1 || x > (double)t->w)
			continue;
		y = fmin(fmax(y, 0), (double)t->h - 1);
		x = fmin(fmax(x, 0), (double)t->w - 1);
		for (size_t corner = 0; corner < 4; corner++) {
			size_t yi = (size_t)y + corner / 2, xi = (size_t)x + corner % 2;
			double weight =
			    (1 - fabs(y - (double)yi)) * (1 - fabs(x - (double)xi)) / (double)(gw * gh * t->t);

			for (size_t time = 0; weight > 0 && time < t->t; time++) {
				size_t at = (time * t->h + yi) * t->w + xi;

				sum += weight * twin_at(w, w->value, tensor, n, c)[at];
				if (gradient != 0)
					twin_at(w, w->grad, tensor, n, c)[at] += gradient * weight;
			}
		}
	}
	return sum;
}

static void twin_head(struct twin *w, const struct net_op *op, bool backward)
{
	const size_t slow = w->net->tensors[op->in].c, all = w->net->tensors[op->out].c;

	for (size_t i = 0; i < w->in->boxes * all; i++) {
		const int tensor = i % all < slow ? op->in : op->in2;
		const size_t c = i % all < slow ? i % all : i % all - slow;
		const float *box = w->in->rois + i / all * 5;
		double best = -INFINITY;

		if (backward) {
			twin_bin(w, tensor, c, box, w->winner[i], w->grad[op->out][i]);
			continue;
		}
		for (size_t bin = 0; bin < 49; bin++) {
			double v = twin_bin(w, tensor, c, box, bin, 0);

			if (v > best) {
				best = v;
				w->winner[i] = bin;
			}
		}
		w->value[op->out][i] = best;
	}
}

/* The loss, in logits; or its gradients into `grad` and `dweight`. */
static double twin_project(struct twin *w, const struct net_op *op, bool backward)
{
	const size_t in = w->net->tensors[op->in].c, count = w->in->boxes * NET_CLASSES;
	double loss = 0;

	for (size_t i = 0; i < count; i++) {
		const double *x = w->value[op->in] + i / NET_CLASSES * in,
			     *weight = w->weight[op->weight] + i % NET_CLASSES * in;
		double z = w->weight[op->bias][i % NET_CLASSES], g;

		for (size_t k = 0; k < in; k++)
			z += x[k] * weight[k];
		loss += (log1p(exp(z)) - w->in->labels[i] * z) / (double)count;
		g = (1 / (1 + exp(-z)) - w->in->labels[i]) / (double)count;
		for (size_t k = 0; backward && k < in; k++) {
			w->dweight[op->weight][i % NET_CLASSES * in + k] += g * x[k];
			w->grad[op->in][i / NET_CLASSES * in + k] += g * weight[k];
		}
		if (backward)
			w->dweight[op->bias][i % NET_CLASSES] += g;
	}
	return loss;
}

static double twin_op(struct twin *w, const struct net_op *op, bool backward)
{
	const struct dnn_conv conv = op->kind == OP_CONV ? twin_conv(w, op) : (struct dnn_conv){ 0 };

	switch (op->kind) {
	case OP_CONV:
		if (!backward) {
			memset(w->value[op->out], 0,
			       conv.n * conv.cout * conv.out[0] * conv.out[1] * conv.out[2] * sizeof(double));
			naive_conv(&conv, OP_FORWARD, w->value[op->in], w->weight[op->weight], w->value[op->out]);
			break;
		}
		naive_conv(&conv, OP_BACKWARD_WEIGHTS, w->value[op->in], w->dweight[op->weight], w->grad[op->out]);
		if (op->in >= NET_INPUTS)
			naive_conv(&conv, OP_BACKWARD_DATA, w->grad[op->in], w->weight[op->weight], w->grad[op->out]);
		break;
	case OP_BN: twin_norm(w, op, backward); break;
	case OP_MAXPOOL: twin_pool(w, op, backward); break;
	case OP_ROI_HEAD: twin_head(w, op, backward); break;
	case OP_FC: return twin_project(w, op, backward);
	}
	return 0;
}

static double twin_forward(struct twin *w)
{
	double loss = 0;

	for (size_t i = 0; i < w->net->op_count; i++)
		loss = twin_op(w, &w->net->ops[i], false);
	return loss;
}

/* Takes the weights and the batch of a job. */
static void twin_init(struct twin *w, struct job *j)
{
	const struct net *net = &j->net;

	*w = (struct twin){ .net = net,
			    .in = &j->in,
			    .value = calloc(net->tensor_count, sizeof(double *)),
			    .grad = calloc(net->tensor_count, sizeof(double *)),
			    .weight = calloc(net->param_count, sizeof(double *)),
			    .dweight = calloc(net->param_count, sizeof(double *)) };
	for (size_t i = 0; i < net->tensor_count; i++) {
		const struct net_tensor *t = &net->tensors[i];
		size_t count = (j->in.clips + j->in.boxes) * t->c * positions_of(t);

		if (t->of >= 0)
			continue;
		w->value[i] = i < NET_INPUTS ? doubles_of(i ? j->fast : j->slow, j->in.clips * t->c * positions_of(t))
					     : calloc(count, sizeof(double));
		w->grad[i] = calloc(count, sizeof(double));
	}
	for (size_t i = 0; i < net->param_count; i++) {
		float *plain = floats(net->params[i].count);

		assert_int_equal(j->backend->get(j->k, STATE_WEIGHT, i, plain), OK);
		w->weight[i] = doubles_of(plain, net->params[i].count);
		w->dweight[i] = calloc(net->params[i].count, sizeof(double));
		free(plain);
	}
	w->winner = calloc(j->in.boxes * net->tensors[net->ops[net->op_count - 1].in].c, sizeof(*w->winner));
}

static void twin_release(struct twin *w)
{
	for (size_t i = 0; i < w->net->tensor_count; i++) {
		free(w->value[i]);
		free(w->grad[i]);
	}
	for (size_t i = 0; i < w->net->param_count; i++) {
		free(w->weight[i]);
		free(w->dweight[i]);
	}
	free(w->value);
	free(w->grad);
	free(w->weight);
	free(w->dweight);
	free(w->winner);
}

/* Marks the parameters whose gradients agree with the twin's; returns how many never did so far. */
static size_t agree(struct job *j, struct twin *w, bool *good)
{
	size_t bad = 0;

	for (size_t i = 0; i < j->net.param_count; i++) {
		float *g = floats(j->net.params[i].count);
		double scale = 0;
		bool same = true;

		assert_int_equal(j->backend->get(j->k, STATE_GRAD, i, g), OK);
		for (size_t k = 0; k < j->net.params[i].count; k++)
			scale = fmax(scale, fabs(w->dweight[i][k]));
		/* A scale between one channel and the next batch norm has no effect, and then the gradient is the rest
		 * of a cancellation: hence the absolute term. */
		for (size_t k = 0; k < j->net.params[i].count; k++)
			same = same && fabs(g[k] - w->dweight[i][k]) < 1e-3 * scale + 4e-6;
		good[i] = good[i] || same;
		bad += !good[i];
		free(g);
	}
	return bad;
}

/* A ReLU whose input is within rounding of zero may decide otherwise in double, and everything before it notices.
 * So a gradient must agree for one of several starts; one that is computed wrongly agrees for none. */
static void compare_with_double(size_t height, size_t width, size_t clips)
{
	bool good[400] = { false };
	size_t bad = 1;

	for (uint64_t seed = 3; bad && seed < 11; seed++) {
		struct job j;
		struct twin w;
		double loss;

		job_open_frames(&j, "nano", 0, height, width, clips, &(struct kernel_config){ .threads = 1, .seed = seed });
		assert_true(j.net.param_count <= ARRAY_LEN(good));
		awaken(&j);
		twin_init(&w, &j);
		loss = twin_forward(&w);
		for (size_t i = j.net.op_count; i-- > 0;)
			twin_op(&w, &j.net.ops[i], true);
		assert_true(fabs(job_forward(&j) / loss - 1) < 1e-5);
		assert_int_equal(j.backend->backward(j.k, j.last), OK);
		bad = agree(&j, &w, good);
		twin_release(&w);
		job_close(&j);
	}
	assert_int_equal(bad, 0);
}

static void every_gradient_is_that_of_the_network_in_double(void **state)
{
	(void)state;
	compare_with_double(0, 0, 2);
}

/* Nothing divides anything: each stride rounds up. */
static void frames_that_are_not_square_go_through_the_same_network(void **state)
{
	(void)state;
	compare_with_double(67, 85, 1);
}

/* The slope along a tensor's own gradient is the gradient's length.  In double the step can be so small that no ReLU
 * and no maximum changes its mind on the way. */
static void the_network_s_gradients_are_its_slopes(void **state)
{
	static const char *const names[] = {
		"head.projection.weight", "s5.pathway0_res1.branch2.b.weight", "s4_fuse.conv_f2s.weight",
		"s3.pathway0_res0.branch1_bn.bias", "s2.pathway1_res1.branch2.a.weight", "s1.pathway0_stem.conv.weight",
		"s1.pathway1_stem.bn.weight",
	};
	struct job j;
	struct twin w;

	(void)state;
	job_open(&j, "nano", 1, &one_thread);
	awaken(&j);
	twin_init(&w, &j);
	twin_forward(&w);
	for (size_t i = j.net.op_count; i-- > 0;)
		twin_op(&w, &j.net.ops[i], true);
	for (size_t n = 0; n < ARRAY_LEN(names); n++) {
		double norm = 0, side[2];
		size_t i = 0;

		while (strcmp(j.net.params[i].name, names[n]))
			i++;
		for (size_t k = 0; k < j.net.params[i].count; k++)
			norm += w.dweight[i][k] * w.dweight[i][k];
		for (int s = 0; s < 2; s++) {
			const double h = (s ? 1e-7 : -1e-7) / sqrt(norm);

			for (size_t k = 0; k < j.net.params[i].count; k++)
				w.weight[i][k] += h * w.dweight[i][k];
			side[s] = twin_forward(&w);
			for (size_t k = 0; k < j.net.params[i].count; k++)
				w.weight[i][k] -= h * w.dweight[i][k];
		}
		assert_true(fabs((side[1] - side[0]) / 2e-7 / sqrt(norm) - 1) < 5e-3);
	}
	twin_release(&w);
	job_close(&j);
}

static void the_loss_falls_on_a_batch_seen_again(void **state)
{
	struct job j;
	float first, last = 0;

	(void)state;
	job_open(&j, "tiny", 2, &one_thread);
	first = job_step(&j, 0.05);
	assert_true(fabsf(first - 0.7f) < 0.05f);	/* ln 2: nothing is known yet */
	for (int i = 0; i < 5; i++)
		last = job_step(&j, 0.05);
	assert_true(last < 0.6f * first);
	job_close(&j);
}

/* The crops of a job's own clips, for which both tensors are written anew. */
static uint8_t *crops_for(struct job *j, bool old_linspace)
{
	const size_t frames = j->net.frames, slow = j->net.slow_frames, plane = j->net.height * j->net.width;
	uint8_t *crops = malloc(j->in.clips * frames * plane * 3);
	struct rng rng;

	rng_init(&rng, 21, 21);
	for (size_t i = 0; i < j->in.clips * frames * plane * 3; i++)
		crops[i] = (uint8_t)rng_u32(&rng);
	for (size_t i = 0; i < j->in.clips * 3 * plane; i++) {
		const size_t n = i / plane / 3, c = i / plane % 3, at = i % plane;
		const uint8_t *from = crops + (n * frames * plane + at) * 3 + c;

		for (size_t t = 0; t < frames; t++)
			j->fast[((n * 3 + c) * frames + t) * plane + at] = net_pixel(from[3 * t * plane]);
		for (size_t k = 0; k < slow; k++)
			j->slow[((n * 3 + c) * slow + k) * plane + at] =
				net_pixel(from[3 * net_shown_frame(frames, slow, old_linspace, k) * plane]);
	}
	return crops;
}

static void crops_give_the_bits_of_the_tensors_that_are_made_of_them(void **state)
{
	static const struct { size_t frames, height, width, clips, threads; bool old_linspace; } cases[] = {
		{ 0, 0, 0, 2, 2, false },
		{ 0, 66, 91, 1, 1, false },	/* no whole tiles, nor sixteens */
		{ 32, 0, 0, 1, 2, false },
		{ 32, 0, 0, 1, 2, true },
	};
	float loss[ARRAY_LEN(cases)];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct kernel_config config = { .threads = (unsigned)cases[i].threads, .seed = 3, .old_linspace = cases[i].old_linspace };
		struct job j;
		uint8_t *crops;
		float *grads, again;

		job_open_frames(&j, "nano", cases[i].frames, cases[i].height, cases[i].width, cases[i].clips, &config);
		awaken(&j);
		crops = crops_for(&j, cases[i].old_linspace);
		grads = floats(j.net.values);
		loss[i] = job_forward(&j);
		assert_int_equal(j.backend->backward(j.k, j.last), OK);
		memcpy(grads, j.k->grads, j.net.values * sizeof(*grads));
		j.in.slow = j.in.fast = NULL;
		j.in.crops = crops;
		again = job_forward(&j);
		assert_int_equal(j.backend->backward(j.k, j.last), OK);
		assert_true(again == loss[i]);
		assert_memory_equal(grads, j.k->grads, j.net.values * sizeof(*grads));
		free(crops);
		free(grads);
		job_close(&j);
	}
	assert_true(loss[2] != loss[3]);	/* of 32 frames the two rules do not show the same ones */
}

static void a_step_repeated_gives_the_same_bits(void **state)
{
	struct kernel_config config = two_threads;
	struct job a, b;

	(void)state;
	config.dropout = 0.5;
	job_open(&a, "tiny", 2, &config);
	job_open(&b, "tiny", 2, &config);
	assert_true(a.k->layout_hash == b.k->layout_hash);
	for (int i = 0; i < 2; i++)
		assert_true(job_step(&a, 0.1) == job_step(&b, 0.1));
	assert_memory_equal(a.k->weights, b.k->weights, a.net.values * sizeof(float));
	assert_memory_equal(a.k->grads, b.k->grads, a.net.values * sizeof(float));
	assert_memory_equal(a.k->bn_state, b.k->bn_state, a.net.buffer_values * sizeof(float));
	for (size_t i = 0; i < a.net.buffer_count; i++)
		assert_int_equal(a.k->bn_batches[i], 2);
	job_close(&a);
	job_close(&b);
}

static void state_comes_back_as_it_went_in(void **state)
{
	struct job j;
	size_t *offset;
	size_t at = 0;

	(void)state;
	assert_int_equal(net_init(&j.net, net_preset_find("nano"), 0, 0), OK);
	offset = calloc(j.net.param_count, sizeof(*offset));
	for (size_t i = j.net.param_count; i-- > 0; at += j.net.params[i].count)	/* last parameter first */
		offset[i] = at;
	net_release(&j.net);
	job_open(&j, "nano", 1, &(struct kernel_config){ .threads = 1, .seed = 3, .grad_offset = offset });
	for (int kind = STATE_WEIGHT; kind <= STATE_VAR; kind++) {
		const bool param = kind <= STATE_MOMENTUM;

		for (size_t i = 0; i < (param ? j.net.param_count : j.net.buffer_count); i++) {
			size_t count = param ? j.net.params[i].count : j.net.buffers[i].channels;
			float *in = random_floats(count, 100 * i + (size_t)kind), *out = floats(count);

			assert_int_equal(j.backend->set(j.k, kind, i, in), OK);
			assert_int_equal(j.backend->get(j.k, kind, i, out), OK);
			assert_memory_equal(in, out, count * sizeof(float));
			free(in);
			free(out);
		}
	}
	for (size_t i = 0; i < j.net.param_count; i++) {
		/* Each tensor is at its place in the flat buffer, permuted at most. */
		size_t count = j.net.params[i].count;
		double sum = 0, flat = 0;
		float *plain = floats(count);

		assert_int_equal(j.backend->get(j.k, STATE_WEIGHT, i, plain), OK);
		for (size_t k = 0; k < count; k++) {
			sum += plain[k];
			flat += j.k->weights[offset[i] + k];
		}
		assert_true(fabs(sum - flat) < 1e-6 * (double)count);
		free(plain);
	}
	job_close(&j);
	free(offset);
}

static void the_start_follows_the_rules_of_initialisation(void **state)
{
	struct job j;

	(void)state;
	job_open(&j, "nano", 1, &(struct kernel_config){ .threads = 1, .seed = 5 });
	for (size_t i = 0; i < j.net.param_count; i++) {
		const struct net_param *p = &j.net.params[i];
		float *w = floats(p->count), *expect = floats(p->count);
		double square = 0;

		assert_int_equal(j.backend->get(j.k, STATE_WEIGHT, i, w), OK);
		initial_weights(&j.net, i, 5, expect);
		assert_memory_equal(w, expect, p->count * sizeof(float));
		for (size_t k = 0; k < p->count; k++)
			square += (double)w[k] * w[k] / (double)p->count;
		if (strstr(p->name, "c_bn.weight") || strstr(p->name, ".bias"))
			assert_true(square == 0);
		else if (p->group == PARAM_BN)
			assert_true(square == 1);
		else if (p->group == PARAM_CONV && p->count > 5000)
			assert_true(fabs(square * (double)(p->count / p->dims[1]) / 2 - 1) < 0.1);
		free(w);
		free(expect);
	}
	for (size_t i = 0; i < j.net.buffer_count; i++) {
		float value[1024];

		assert_int_equal(j.backend->get(j.k, STATE_MEAN, i, value), OK);
		assert_true(value[0] == 0);
		assert_int_equal(j.backend->get(j.k, STATE_VAR, i, value), OK);
		assert_true(value[j.net.buffers[i].channels - 1] == 1);
	}
	job_close(&j);
}

static void gradients_are_ready_when_backward_says_so(void **state)
{
	struct job j;
	float *whole;

	(void)state;
	job_open(&j, "nano", 1, &one_thread);
	awaken(&j);
	job_forward(&j);
	assert_int_equal(j.backend->backward(j.k, j.last), OK);
	whole = floats(j.net.values);
	memcpy(whole, j.k->grads, j.net.values * sizeof(float));
	memset(j.k->grads, 0xff, j.net.values * sizeof(float));	/* NaN */
	job_forward(&j);
	for (size_t ready = 0; ready <= j.last; ready += ready == j.last ? 1 : MIN(40, j.last - ready)) {
		size_t at = 0;

		assert_int_equal(j.backend->backward(j.k, ready), OK);
		for (size_t i = 0; i < j.net.param_count; at += j.net.params[i++].count)
			if (j.net.params[i].ready <= ready)
				assert_memory_equal(whole + at, j.k->grads + at, j.net.params[i].count * sizeof(float));
	}
	free(whole);
	job_close(&j);
}

static void a_smaller_batch_is_as_good_as_an_instance_of_its_size(void **state)
{
	struct job big, small;
	float alone, between;

	(void)state;
	job_open(&big, "nano", 3, &one_thread);
	job_open(&small, "nano", 1, &one_thread);
	memcpy(small.labels, big.labels, 2 * NET_CLASSES * sizeof(float));
	memcpy(small.rois, big.rois, 2 * 5 * sizeof(float));
	/* The first clip of both is the same. */
	job_forward(&big);
	batch_set(&big, 1, 2);
	between = job_step(&big, 0.1);
	alone = job_step(&small, 0.1);
	assert_true(alone == between);
	assert_memory_equal(big.k->grads, small.k->grads, big.net.values * sizeof(float));
	batch_set(&big, 3, 6);
	assert_true(isfinite(job_step(&big, 0.1)));
	job_close(&big);
	job_close(&small);
}

static void evaluation_uses_the_running_statistics_and_leaves_them_alone(void **state)
{
	struct kernel_config config = one_thread;
	struct job j;
	float *before, first, again, alone;

	(void)state;
	config.dropout = 0.5;
	job_open(&j, "nano", 2, &config);
	for (int i = 0; i < 3; i++)
		job_step(&j, 0.01);
	before = floats(j.net.buffer_values);
	memcpy(before, j.k->bn_state, j.net.buffer_values * sizeof(float));
	assert_int_equal(j.backend->input(j.k, &j.in), OK);
	assert_int_equal(j.backend->evaluate(j.k), OK);
	first = j.k->preds[0];
	assert_int_equal(j.backend->evaluate(j.k), OK);
	again = j.k->preds[0];
	assert_true(first == again);
	assert_memory_equal(before, j.k->bn_state, j.net.buffer_values * sizeof(float));
	assert_int_equal(j.k->bn_batches[0], 3);
	/* A clip's answer does not depend on its company. */
	batch_set(&j, 1, 2);
	assert_int_equal(j.backend->input(j.k, &j.in), OK);
	assert_int_equal(j.backend->evaluate(j.k), OK);
	alone = j.k->preds[0];
	assert_true(fabsf(first - alone) < 1e-5f);
	free(before);
	job_close(&j);
}

static void every_operator_says_what_executes_it(void **state)
{
	struct table table;
	struct job j;

	(void)state;
	job_open(&j, "tiny", 1, &one_thread);
	assert_int_equal(j.backend->describe(j.k, &table), OK);
	assert_int_equal(table_rows(&table), j.net.op_count);
	for (size_t i = 0; i < j.net.op_count; i++) {
		assert_string_equal(table_cell(&table, i, 0)->text, j.net.ops[i].name);
		assert_null(strstr(table_cell(&table, i, 1)->text, "ref"));	/* oneDNN's slowest: 200 times */
	}
	table_release(&table);
	job_close(&j);
}

static void the_yardstick_fails_where_there_is_no_such_convolution(void **state)
{
	uint64_t ns = 1;
	struct net net;

	(void)state;
	assert_int_equal(net_init(&net, net_preset_find("nano"), 0, 0), OK);
	assert_int_not_equal(cpu_conv_sum_measure(&net, SIZE_MAX, 1, 1, &ns), OK);
	assert_int_equal(ns, 0);
	assert_int_equal(cpu_conv_sum_measure(&net, 1, 1, 1, &ns), OK);
	assert_int_not_equal(ns, 0);
	net_release(&net);
}

static void a_batch_that_does_not_fit_is_refused(void **state)
{
	struct job j;

	(void)state;
	job_open(&j, "nano", 1, &(struct kernel_config){ .threads = 1 });
	batch_set(&j, 2, 1);
	assert_int_equal(j.backend->input(j.k, &j.in), FAILED);
	batch_set(&j, 1, 3);
	assert_int_equal(j.backend->input(j.k, &j.in), FAILED);
	batch_set(&j, 1, 0);
	assert_int_equal(j.backend->input(j.k, &j.in), FAILED);
	batch_set(&j, 1, 2);
	j.rois[5] = 1;	/* there is no clip 1 */
	assert_int_equal(j.backend->input(j.k, &j.in), FAILED);
	job_close(&j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_convolution_is_the_sum_that_its_formula_says),
		cmocka_unit_test(batch_norm_and_its_gradients_follow_the_formulas),
		cmocka_unit_test(a_large_mean_does_not_spoil_the_variance),
		cmocka_unit_test(pooling_takes_the_first_maximum_and_sends_the_gradient_there),
		cmocka_unit_test(roi_align_gives_the_spec_s_values),
		cmocka_unit_test(the_head_s_gradients_are_its_slopes),
		cmocka_unit_test(the_projection_s_gradients_are_its_slopes),
		cmocka_unit_test(the_loss_has_the_spec_s_value_and_slopes),
		cmocka_unit_test(dropout_keeps_the_mean_and_depends_on_seed_and_step),
		cmocka_unit_test(sgd_gives_the_spec_s_values),
		cmocka_unit_test(pieces_that_live_together_never_overlap),
		cmocka_unit_test(every_gradient_is_that_of_the_network_in_double),
		cmocka_unit_test(frames_that_are_not_square_go_through_the_same_network),
		cmocka_unit_test(the_network_s_gradients_are_its_slopes),
		cmocka_unit_test(the_loss_falls_on_a_batch_seen_again),
		cmocka_unit_test(crops_give_the_bits_of_the_tensors_that_are_made_of_them),
		cmocka_unit_test(a_step_repeated_gives_the_same_bits),
		cmocka_unit_test(state_comes_back_as_it_went_in),
		cmocka_unit_test(the_start_follows_the_rules_of_initialisation),
		cmocka_unit_test(gradients_are_ready_when_backward_says_so),
		cmocka_unit_test(a_smaller_batch_is_as_good_as_an_instance_of_its_size),
		cmocka_unit_test(evaluation_uses_the_running_statistics_and_leaves_them_alone),
		cmocka_unit_test(every_operator_says_what_executes_it),
		cmocka_unit_test(the_yardstick_fails_where_there_is_no_such_convolution),
		cmocka_unit_test(a_batch_that_does_not_fit_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
