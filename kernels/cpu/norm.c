/*
 * kernels/cpu/norm.c - batch normalisation with the addition and the ReLU behind it.
 *
 *   forward    mean, biased variance over N,T,H,W;  y = relu((x - mean) / sqrt(var + eps) * weight + bias + shortcut)
 *   backward   g = dy where y > 0;  dshortcut = g;  dbias = sum g;  dweight = sum g xhat;
 *              dx = weight / sqrt(var + eps) * (g - dbias / m - xhat * dweight / m)
 *
 * The three passes over x (mean, variance, result) and the two of backward cost memory
 * traffic and nothing else, so channel blocks are taken in groups that stay in cache
 * between the passes.  The variance is a second pass and not E[x^2] - mean^2, which loses
 * all digits when the mean is large.
 *
 * A group is cut into chunks of one clip, one channel block and at most CHUNK positions;
 * each leaves its partial sums, which everybody adds in the same order.
 */
#include "kernels/cpu/ops.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 1024, GROUP_BYTES = 1 << 19 };
static const double eps = 1e-5, momentum = 0.1;

static size_t chunks_per_run(const struct act *x)
{
	return (act_positions(x) + CHUNK - 1) / CHUNK;
}

/* Two sums per lane and chunk of the largest group. */
static size_t group_blocks(const struct act *x)
{
	size_t fit = GROUP_BYTES / (x->n * act_positions(x) * x->block * sizeof(float));

	return fit < 1 ? 1 : fit < act_blocks(x) ? fit : act_blocks(x);
}

size_t norm_partial_doubles(const struct act *x)
{
	return 2 * group_blocks(x) * x->n * chunks_per_run(x) * x->block;
}

/* A chunk's place: channel block, clip, first position. */
struct chunk {
	size_t block, clip, first, count;
};

static struct chunk chunk_at(const struct act *x, size_t first_block, size_t index)
{
	size_t per_run = chunks_per_run(x), run = index / per_run;
	struct chunk c = { first_block + run / x->n, run % x->n, index % per_run * CHUNK, CHUNK };

	if (c.first + c.count > act_positions(x))
		c.count = act_positions(x) - c.first;
	return c;
}

static float *chunk_data(const struct act *a, struct chunk c)
{
	return a->at ? act_at(a, c.clip, c.block) + c.first * a->block : NULL;
}

/* ---- the loops; `block` becomes a constant, 8 or 16 ---- */

CPU_INLINE void sums(const float *x, size_t count, size_t block, double *partial)
{
	float sum[CPU_BLOCK_MAX] = { 0 };

	for (size_t s = 0; s < count; s++)
		for (size_t l = 0; l < block; l++)
			sum[l] += x[s * block + l];
	for (size_t l = 0; l < block; l++)
		partial[l] = sum[l];
}

CPU_INLINE void squares(const float *x, size_t count, size_t block, const float *mean, double *partial)
{
	float sum[CPU_BLOCK_MAX] = { 0 };

	for (size_t s = 0; s < count; s++)
		for (size_t l = 0; l < block; l++) {
			float d = x[s * block + l] - mean[l];

			sum[l] += d * d;
		}
	for (size_t l = 0; l < block; l++)
		partial[l] = sum[l];
}

CPU_INLINE void apply(const float *x, const float *shortcut, size_t count, size_t block, const float *mean,
		      const float *scale, const float *bias, bool relu, float *y)
{
	for (size_t s = 0; s < count; s++)
		for (size_t l = 0; l < block; l++) {
			float v = (x[s * block + l] - mean[l]) * scale[l] + bias[l];

			if (shortcut)
				v += shortcut[s * block + l];
			y[s * block + l] = relu && !(v > 0) ? 0 : v;
		}
}

CPU_INLINE void gradient_sums(const float *x, const float *y, const float *dy, size_t count, size_t block,
			      const float *mean, bool relu, double *partial)
{
	float sum[CPU_BLOCK_MAX] = { 0 }, dot[CPU_BLOCK_MAX] = { 0 };

	for (size_t s = 0; s < count; s++)
		for (size_t l = 0; l < block; l++) {
			size_t i = s * block + l;
			float d = dy[i], g = !relu || y[i] > 0 ? d : 0;

			sum[l] += g;
			dot[l] += g * (x[i] - mean[l]);
		}
	for (size_t l = 0; l < block; l++) {
		partial[l] = sum[l];
		partial[block + l] = dot[l];
	}
}

/* dx = a g + b (x - mean) + c, per channel */
CPU_INLINE void gradient_apply(const float *x, const float *y, const float *dy, size_t count, size_t block,
			       const float *mean, const float *a, const float *b, const float *c, bool relu,
			       bool add_dshortcut, float *dx, float *dshortcut)
{
	for (size_t s = 0; s < count; s++)
		for (size_t l = 0; l < block; l++) {
			size_t i = s * block + l;
			float d = dy[i], g = !relu || y[i] > 0 ? d : 0;

			dx[i] = a[l] * g + b[l] * (x[i] - mean[l]) + c[l];
			if (dshortcut)
				dshortcut[i] = add_dshortcut ? dshortcut[i] + g : g;
		}
}

CPU_CLONES static void sums_chunk(const float *x, size_t count, size_t block, double *partial)
{
	if (block == 8)
		sums(x, count, 8, partial);
	else
		sums(x, count, 16, partial);
}

CPU_CLONES static void squares_chunk(const float *x, size_t count, size_t block, const float *mean, double *partial)
{
	if (block == 8)
		squares(x, count, 8, mean, partial);
	else
		squares(x, count, 16, mean, partial);
}

CPU_CLONES static void apply_chunk(const float *x, const float *shortcut, size_t count, size_t block, const float *mean,
				   const float *scale, const float *bias, bool relu, float *y)
{
	if (block != 8)
		apply(x, shortcut, count, 16, mean, scale, bias, relu, y);
	else if (shortcut && relu)
		apply(x, shortcut, count, 8, mean, scale, bias, true, y);
	else if (relu)
		apply(x, NULL, count, 8, mean, scale, bias, true, y);
	else
		apply(x, shortcut, count, 8, mean, scale, bias, false, y);
}

CPU_CLONES static void gradient_sums_chunk(const float *x, const float *y, const float *dy, size_t count, size_t block,
					   const float *mean, bool relu, double *partial)
{
	if (block != 8)
		gradient_sums(x, y, dy, count, 16, mean, relu, partial);
	else if (relu)
		gradient_sums(x, y, dy, count, 8, mean, true, partial);
	else
		gradient_sums(x, y, dy, count, 8, mean, false, partial);
}

CPU_CLONES static void gradient_apply_chunk(const float *x, const float *y, const float *dy, size_t count, size_t block,
					    const float *mean, const float *a, const float *b, const float *c,
					    bool relu, bool add_dshortcut, float *dx, float *dshortcut)
{
	if (block != 8)
		gradient_apply(x, y, dy, count, 16, mean, a, b, c, relu, add_dshortcut, dx, dshortcut);
	else if (dshortcut)
		gradient_apply(x, y, dy, count, 8, mean, a, b, c, relu, add_dshortcut, dx, dshortcut);
	else if (relu)
		gradient_apply(x, y, dy, count, 8, mean, a, b, c, true, false, dx, NULL);
	else
		gradient_apply(x, y, dy, count, 8, mean, a, b, c, false, false, dx, NULL);
}

/* ---- per group ---- */

/* The sum of one channel over the chunks of its block; `stride` doubles per chunk, the channel's at `lane`. */
static double total(const double *partial, size_t chunks, size_t stride, size_t lane)
{
	double sum = 0;

	for (size_t i = 0; i < chunks; i++)
		sum += partial[i * stride + lane];
	return sum;
}

/* (value of channels of a block, padded with zeros) */
static void lanes(const float *values, size_t c, size_t first, size_t block, float *out)
{
	for (size_t l = 0; l < block; l++)
		out[l] = first + l < c ? values[first + l] : 0;
}

static void apply_to(const struct norm *b, struct chunk k, const float *means, const float *inv_std)
{
	size_t block = b->x.block, first = k.block * block;
	float mean[CPU_BLOCK_MAX], scale[CPU_BLOCK_MAX], bias[CPU_BLOCK_MAX], weight[CPU_BLOCK_MAX];

	lanes(means, b->x.c, first, block, mean);
	lanes(inv_std, b->x.c, first, block, scale);
	lanes(b->weight, b->x.c, first, block, weight);
	lanes(b->bias, b->x.c, first, block, bias);
	for (size_t l = 0; l < block; l++)
		scale[l] *= weight[l];
	apply_chunk(chunk_data(&b->x, k), chunk_data(&b->shortcut, k), k.count, block, mean, scale, bias, b->relu,
		    chunk_data(&b->y, k));
}

/* Channels of blocks [first, first + blocks): first the mean, from sums; then 1/std and the running statistics, from
 * squares. */
static void finish_mean(const struct norm *b, size_t first, size_t blocks, size_t run_chunks)
{
	const double m = (double)(b->x.n * act_positions(&b->x));

#pragma omp for schedule(static)
	for (size_t i = 0; i < blocks; i++)
		for (size_t l = 0; l < b->x.block && (first + i) * b->x.block + l < b->x.c; l++)
			b->mean[(first + i) * b->x.block + l] = (float)(total(b->partial + i * run_chunks * b->x.block,
				run_chunks, b->x.block, l) / m);
}

static void finish_var(const struct norm *b, size_t first, size_t blocks, size_t run_chunks)
{
	const double m = (double)(b->x.n * act_positions(&b->x));

#pragma omp for schedule(static)
	for (size_t i = 0; i < blocks; i++)
		for (size_t l = 0; l < b->x.block && (first + i) * b->x.block + l < b->x.c; l++) {
			size_t c = (first + i) * b->x.block + l;
			double sum = total(b->partial + i * run_chunks * b->x.block, run_chunks, b->x.block, l);

			b->inv_std[c] = (float)(1 / sqrt(sum / m + eps));
			if (!b->running_mean)
				continue;
			b->running_mean[c] = (float)((1 - momentum) * b->running_mean[c] + momentum * b->mean[c]);
			b->running_var[c] = (float)((1 - momentum) * b->running_var[c] +
						    momentum * sum / (m > 1 ? m - 1 : 1));
		}
}

void norm_forward(const struct norm *b)
{
	const size_t block = b->x.block, all = act_blocks(&b->x), group = group_blocks(&b->x);
	const size_t run_chunks = b->x.n * chunks_per_run(&b->x);

#pragma omp parallel
	for (size_t first = 0; first < all; first += group) {
		size_t blocks = first + group < all ? group : all - first;

#pragma omp for schedule(static)
		for (size_t i = 0; i < blocks * run_chunks; i++) {
			struct chunk k = chunk_at(&b->x, first, i);

			sums_chunk(chunk_data(&b->x, k), k.count, block, b->partial + i * block);
		}
		finish_mean(b, first, blocks, run_chunks);
#pragma omp for schedule(static)
		for (size_t i = 0; i < blocks * run_chunks; i++) {
			struct chunk k = chunk_at(&b->x, first, i);
			float mean[CPU_BLOCK_MAX];

			lanes(b->mean, b->x.c, k.block * block, block, mean);
			squares_chunk(chunk_data(&b->x, k), k.count, block, mean, b->partial + i * block);
		}
		finish_var(b, first, blocks, run_chunks);
#pragma omp for schedule(static)
		for (size_t i = 0; i < blocks * run_chunks; i++)
			apply_to(b, chunk_at(&b->x, first, i), b->mean, b->inv_std);
	}
}

void norm_evaluate(const struct norm *b)
{
	const size_t chunks = act_blocks(&b->x) * b->x.n * chunks_per_run(&b->x);

	for (size_t c = 0; c < b->x.c; c++)
		b->inv_std[c] = (float)(1 / sqrt(b->running_var[c] + eps));
#pragma omp parallel for schedule(static)
	for (size_t i = 0; i < chunks; i++)
		apply_to(b, chunk_at(&b->x, 0, i), b->running_mean, b->inv_std);
}

/* dbias and dweight of a group's channels. */
static void finish_gradients(const struct norm *b, size_t first, size_t blocks, size_t run_chunks)
{
	const size_t block = b->x.block;

#pragma omp for schedule(static)
	for (size_t i = 0; i < blocks; i++)
		for (size_t l = 0; l < block && (first + i) * block + l < b->x.c; l++) {
			const double *partial = b->partial + i * run_chunks * 2 * block;
			size_t c = (first + i) * block + l;

			b->dbias[c] = (float)total(partial, run_chunks, 2 * block, l);
			b->dweight[c] = (float)(total(partial, run_chunks, 2 * block, block + l) * b->inv_std[c]);
		}
}

static void gradient_to(const struct norm *b, struct chunk k)
{
	const size_t block = b->x.block, first = k.block * block;
	const float m = (float)(b->x.n * act_positions(&b->x));
	float mean[CPU_BLOCK_MAX], inv_std[CPU_BLOCK_MAX], a[CPU_BLOCK_MAX], slope[CPU_BLOCK_MAX], rest[CPU_BLOCK_MAX];

	lanes(b->mean, b->x.c, first, block, mean);
	lanes(b->inv_std, b->x.c, first, block, inv_std);
	lanes(b->weight, b->x.c, first, block, a);
	lanes(b->dweight, b->x.c, first, block, slope);
	lanes(b->dbias, b->x.c, first, block, rest);
	for (size_t l = 0; l < block; l++) {
		a[l] *= inv_std[l];
		slope[l] *= -a[l] * inv_std[l] / m;
		rest[l] *= -a[l] / m;
	}
	gradient_apply_chunk(chunk_data(&b->x, k), chunk_data(&b->y, k), chunk_data(&b->dy, k), k.count, block, mean, a,
			     slope, rest, b->relu, b->add_dshortcut, chunk_data(&b->dx, k),
			     chunk_data(&b->dshortcut, k));
}

void norm_backward(const struct norm *b)
{
	const size_t block = b->x.block, all = act_blocks(&b->x), group = group_blocks(&b->x);
	const size_t run_chunks = b->x.n * chunks_per_run(&b->x);

#pragma omp parallel
	for (size_t first = 0; first < all; first += group) {
		size_t blocks = first + group < all ? group : all - first;

#pragma omp for schedule(static)
		for (size_t i = 0; i < blocks * run_chunks; i++) {
			struct chunk k = chunk_at(&b->x, first, i);
			float mean[CPU_BLOCK_MAX];

			lanes(b->mean, b->x.c, k.block * block, block, mean);
			gradient_sums_chunk(chunk_data(&b->x, k), chunk_data(&b->y, k), chunk_data(&b->dy, k), k.count,
					    block, mean, b->relu, b->partial + i * 2 * block);
		}
		finish_gradients(b, first, blocks, run_chunks);
#pragma omp for schedule(static)
		for (size_t i = 0; i < blocks * run_chunks; i++)
			gradient_to(b, chunk_at(&b->x, first, i));
	}
}
