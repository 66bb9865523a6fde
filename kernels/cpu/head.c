/*
 * kernels/cpu/head.c - from feature maps and boxes to the loss, and back.
 *
 * Per pathway: mean over time, ROIAlign (7x7 bins of each box; roi_grid.h), maximum over the bins.
 *
 * The maximum over the bins means that only one bin per channel carries a gradient, so
 * backward visits that bin alone.  Boxes are taken in order and each thread has channel
 * blocks of its own: nothing is added atomically, and the sums have one order.
 */
#include "kernels/cpu/ops.h"

#include "kernels/roi_grid.h"

#include <math.h>
#include <string.h>

/* ---- ROIAlign ---- */

/* One bin of `lanes` neighbouring channels; positions are `pitch` floats apart. */
CPU_INLINE void bin_of(const float *map, size_t h, size_t w, size_t pitch, size_t lanes, const struct grid *g, size_t i,
		       size_t j, float *out)
{
	for (size_t l = 0; l < lanes; l++)
		out[l] = 0;
	for (size_t a = 0; a < g->samples_h; a++) {
		struct tap y = tap_y(g, i, a, h);

		for (size_t b = 0; b < g->samples_w; b++) {
			struct tap x = tap_x(g, j, b, w);
			const float *ll = map + (y.low * w + x.low) * pitch, *lh = map + (y.low * w + x.high) * pitch;
			const float *hl = map + (y.high * w + x.low) * pitch, *hh = map + (y.high * w + x.high) * pitch;
			float wll = y.low_weight * x.low_weight, wlh = y.low_weight * x.high_weight;
			float whl = y.high_weight * x.low_weight, whh = y.high_weight * x.high_weight;

			for (size_t l = 0; l < lanes; l++)
				out[l] += wll * ll[l] + wlh * lh[l] + whl * hl[l] + whh * hh[l];
		}
	}
	for (size_t l = 0; l < lanes; l++)
		out[l] /= grid_samples(g);
}

void roi_align(const float *map, size_t h, size_t w, size_t channels, const float box[5], float scale, bool aligned,
	       size_t out, float *bins)
{
	struct grid g = grid_of(box, scale, aligned, out);

	for (size_t k = 0; k < out * out; k++)
		bin_of(map, h, w, channels, 1, &g, k / out, k % out, &bins[k]);
}

/* The largest of a box's bins, per lane, and which one; the first of equals. */
CPU_INLINE void box_max(const struct roi *r, const float *map, size_t block, const struct grid *g, float *best,
			int32_t *place)
{
	for (size_t l = 0; l < block; l++) {
		best[l] = -INFINITY;
		place[l] = 0;
	}
	for (size_t k = 0; k < r->out * r->out; k++) {
		float bin[CPU_BLOCK_MAX];

		bin_of(map, r->x.dims[1], r->x.dims[2], block, block, g, k / r->out, k % r->out, bin);
		for (size_t l = 0; l < block; l++) {
			place[l] = bin[l] > best[l] ? (int32_t)k : place[l];
			best[l] = bin[l] > best[l] ? bin[l] : best[l];
		}
	}
}

CPU_CLONES static void box_block(const struct roi *r, const float *map, const struct grid *g, float *best,
				 int32_t *place)
{
	if (r->x.block == 8)
		box_max(r, map, 8, g, best, place);
	else
		box_max(r, map, 16, g, best, place);
}

CPU_CLONES static void time_mean(const float *x, size_t times, size_t plane, float *mean)
{
	memcpy(mean, x, plane * sizeof(*mean));
	for (size_t t = 1; t < times; t++)
		for (size_t i = 0; i < plane; i++)
			mean[i] += x[t * plane + i];
	for (size_t i = 0; i < plane; i++)
		mean[i] /= (float)times;
}

CPU_CLONES static void time_spread(const float *dmean, size_t times, size_t plane, float *dx)
{
	for (size_t i = 0; i < plane; i++)
		dx[i] = dmean[i] / (float)times;
	for (size_t t = 1; t < times; t++)
		memcpy(dx + t * plane, dx, plane * sizeof(*dx));
}

void roi_forward(const struct roi *r)
{
	const size_t block = r->x.block, blocks = act_blocks(&r->x), plane = r->x.dims[1] * r->x.dims[2] * block;

#pragma omp parallel
	{
#pragma omp for schedule(static)
		for (size_t i = 0; i < r->x.n * blocks; i++)
			time_mean(act_at(&r->x, i / blocks, i % blocks), r->x.dims[0], plane, r->mean + i * plane);
#pragma omp for schedule(static)
		for (size_t i = 0; i < r->box_count * blocks; i++) {
			const float *box = r->boxes + i / blocks * 5;
			size_t first = i % blocks * block;
			struct grid g = grid_of(box, r->scale, r->aligned, r->out);
			float best[CPU_BLOCK_MAX];
			int32_t place[CPU_BLOCK_MAX];

			box_block(r, r->mean + ((size_t)box[0] * blocks + i % blocks) * plane, &g, best, place);
			for (size_t l = 0; l < block && first + l < r->x.c; l++) {
				r->features[i / blocks * r->stride + first + l] = best[l];
				r->winner[i / blocks * r->x.c + first + l] = (uint8_t)place[l];
			}
		}
	}
}

/* Adds one channel's gradient of its winning bin to the map's. */
static void bin_backward(float *dmap, size_t h, size_t w, size_t pitch, const struct grid *g, size_t bin, size_t out,
			 float gradient)
{
	gradient /= grid_samples(g);
	for (size_t a = 0; a < g->samples_h; a++) {
		struct tap y = tap_y(g, bin / out, a, h);

		for (size_t b = 0; b < g->samples_w; b++) {
			struct tap x = tap_x(g, bin % out, b, w);

			dmap[(y.low * w + x.low) * pitch] += gradient * y.low_weight * x.low_weight;
			dmap[(y.low * w + x.high) * pitch] += gradient * y.low_weight * x.high_weight;
			dmap[(y.high * w + x.low) * pitch] += gradient * y.high_weight * x.low_weight;
			dmap[(y.high * w + x.high) * pitch] += gradient * y.high_weight * x.high_weight;
		}
	}
}

void roi_backward(const struct roi *r)
{
	const size_t block = r->x.block, blocks = act_blocks(&r->x), plane = r->x.dims[1] * r->x.dims[2] * block;

#pragma omp parallel for schedule(static)
	for (size_t b = 0; b < blocks; b++) {
		for (size_t n = 0; n < r->x.n; n++)
			memset(r->mean + (n * blocks + b) * plane, 0, plane * sizeof(*r->mean));
		for (size_t i = 0; i < r->box_count; i++) {
			const float *box = r->boxes + i * 5;
			struct grid g = grid_of(box, r->scale, r->aligned, r->out);
			float *dmap = r->mean + ((size_t)box[0] * blocks + b) * plane;

			for (size_t l = 0; l < block && b * block + l < r->x.c; l++)
				bin_backward(dmap + l, r->x.dims[1], r->x.dims[2], block, &g,
					     r->winner[i * r->x.c + b * block + l], r->out,
					     r->dfeatures[i * r->stride + b * block + l]);
		}
		for (size_t n = 0; n < r->x.n; n++)
			time_spread(r->mean + (n * blocks + b) * plane, r->x.dims[0], plane, act_at(&r->dx, n, b));
	}
}

/* ---- fully connected, loss ---- */

enum { LANES = 16 };

CPU_CLONES static float dot(const float *a, const float *b, size_t count)
{
	float lane[LANES] = { 0 };
	float sum = 0;
	size_t i = 0;

	for (; i + LANES <= count; i += LANES)
		for (size_t l = 0; l < LANES; l++)
			lane[l] += a[i + l] * b[i + l];
	for (; i < count; i++)
		sum += a[i] * b[i];
	for (size_t l = 0; l < LANES; l++)
		sum += lane[l];
	return sum;
}

CPU_CLONES static void axpy(float a, const float *x, size_t count, float *y)
{
	for (size_t i = 0; i < count; i++)
		y[i] += a * x[i];
}

void fc_forward(const float *x, const float *weight, const float *bias, size_t rows, size_t in, size_t out, float *y)
{
#pragma omp parallel for schedule(static)
	for (size_t o = 0; o < out; o++)
		for (size_t r = 0; r < rows; r++)
			y[r * out + o] = bias[o] + dot(x + r * in, weight + o * in, in);
}

void fc_backward(const float *x, const float *weight, const float *dy, size_t rows, size_t in, size_t out, float *dx,
		 float *dweight, float *dbias)
{
#pragma omp parallel
	{
#pragma omp for schedule(static)
		for (size_t o = 0; o < out; o++) {
			dbias[o] = 0;
			memset(dweight + o * in, 0, in * sizeof(*dweight));
			for (size_t r = 0; r < rows; r++) {
				dbias[o] += dy[r * out + o];
				axpy(dy[r * out + o], x + r * in, in, dweight + o * in);
			}
		}
#pragma omp for schedule(static)
		for (size_t r = 0; r < rows; r++) {
			memset(dx + r * in, 0, in * sizeof(*dx));
			for (size_t o = 0; o < out; o++)
				axpy(dy[r * out + o], weight + o * in, in, dx + r * in);
		}
	}
}

void sigmoid_forward(const float *logits, size_t count, float *preds)
{
	for (size_t i = 0; i < count; i++)
		preds[i] = 1 / (1 + expf(-logits[i]));
}

/* log(x), at least -100.  Not by fmax(), which would make a good number of NaN and hide a diverged network. */
static double log_clamped(double x)
{
	double y = log(x);

	return y < -100 ? -100 : y;
}

double bce(const float *preds, const float *labels, size_t count)
{
	double sum = 0;

	for (size_t i = 0; i < count; i++)
		sum -= labels[i] * log_clamped(preds[i]) + (1 - labels[i]) * log_clamped(1.0f - preds[i]);
	return sum / (double)count;
}

void bce_backward(const float *preds, const float *labels, size_t count, float *dlogits)
{
	for (size_t i = 0; i < count; i++) {
		float p = preds[i], slope = p * (1 - p);

		dlogits[i] = (p - labels[i]) / fmaxf(slope, 1e-12f) / (float)count * slope;
	}
}
