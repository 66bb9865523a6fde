/*
 * kernels/cpu/pool.c - spatial max-pooling, and the sum of two gradients.
 *
 * SlowFast pools in space only (kernel 1x3x3), so each (clip, channel block, time) plane
 * belongs to one thread in both directions.  Forward notes which place of the window won:
 * looking for it again in backward would need x, and ties of zeros (common after a ReLU)
 * must go to the first.
 */
#include "kernels/cpu/ops.h"

#include <math.h>
#include <string.h>

/* One plane of one channel block: x (H,W,block) to y and winner (OH,OW,block). */
CPU_INLINE void plane_forward(const struct pool *p, const float *x, float *y, uint8_t *winner, size_t block)
{
	const size_t h = p->x.dims[1], w = p->x.dims[2];

	for (size_t oh = 0; oh < p->y.dims[1]; oh++)
		for (size_t ow = 0; ow < p->y.dims[2]; ow++, y += block, winner += block) {
			float best[CPU_BLOCK_MAX];
			int32_t place[CPU_BLOCK_MAX] = { 0 };

			for (size_t l = 0; l < block; l++)
				best[l] = -INFINITY;
			for (size_t k = 0; k < p->kernel[0] * p->kernel[1]; k++) {
				size_t ih = oh * p->stride[0] + k / p->kernel[1] - p->pad[0];
				size_t iw = ow * p->stride[1] + k % p->kernel[1] - p->pad[1];

				if (ih >= h || iw >= w)		/* below 0 wraps around to large */
					continue;
				for (size_t l = 0; l < block; l++) {
					float v = x[(ih * w + iw) * block + l];

					place[l] = v > best[l] ? (int32_t)k : place[l];
					best[l] = v > best[l] ? v : best[l];
				}
			}
			for (size_t l = 0; l < block; l++) {
				y[l] = best[l];
				winner[l] = (uint8_t)place[l];
			}
		}
}

CPU_CLONES static void pool_plane(const struct pool *p, const float *x, float *y, uint8_t *winner)
{
	if (p->x.block == 8)
		plane_forward(p, x, y, winner, 8);
	else
		plane_forward(p, x, y, winner, 16);
}

static void plane_backward(const struct pool *p, float *dx, const float *dy, const uint8_t *winner)
{
	const size_t block = p->x.block, h = p->x.dims[1], w = p->x.dims[2];

	memset(dx, 0, h * w * block * sizeof(*dx));
	for (size_t oh = 0; oh < p->y.dims[1]; oh++)
		for (size_t ow = 0; ow < p->y.dims[2]; ow++, dy += block, winner += block)
			for (size_t l = 0; l < block; l++) {
				size_t ih = oh * p->stride[0] + winner[l] / p->kernel[1] - p->pad[0];
				size_t iw = ow * p->stride[1] + winner[l] % p->kernel[1] - p->pad[1];

				/* A window of nothing but NaN has no winner; its place may lie in the padding. */
				if (ih < h && iw < w)
					dx[(ih * w + iw) * block + l] += dy[l];
			}
}

/* Where plane `i` (clip, block, time) starts in an activation. */
static float *plane_at(const struct act *a, size_t i)
{
	size_t t = i % a->dims[0], b = i / a->dims[0] % act_blocks(a), n = i / a->dims[0] / act_blocks(a);

	return act_at(a, n, b) + t * a->dims[1] * a->dims[2] * a->block;
}

void pool_forward(const struct pool *p)
{
	const size_t planes = p->x.n * act_blocks(&p->x) * p->x.dims[0];
	const size_t plane = p->y.dims[1] * p->y.dims[2] * p->y.block;

#pragma omp parallel for schedule(static)
	for (size_t i = 0; i < planes; i++)
		pool_plane(p, plane_at(&p->x, i), plane_at(&p->y, i), p->winner + i * plane);
}

void pool_backward(const struct pool *p)
{
	const size_t planes = p->x.n * act_blocks(&p->x) * p->x.dims[0];
	const size_t plane = p->y.dims[1] * p->y.dims[2] * p->y.block;

#pragma omp parallel for schedule(static)
	for (size_t i = 0; i < planes; i++)
		plane_backward(p, plane_at(&p->dx, i), plane_at(&p->dy, i), p->winner + i * plane);
}

CPU_CLONES static void add_some(float *to, const float *from, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] += from[i];
}

void add_to(float *to, const float *from, size_t count)
{
	const size_t piece = 1 << 14;

#pragma omp parallel for schedule(static)
	for (size_t i = 0; i < count; i += piece)
		add_some(to + i, from + i, i + piece < count ? piece : count - i);
}
