/*
 * kernels/cuda/head.cu - from feature maps and boxes to the loss, and back.
 *
 * Formulas are those of kernels/cpu/head.c, statement by statement.  The maps are what costs here: forward reads each
 * pathway's once and writes its mean over time (1/T of it, as floats), backward reads that and writes the map.  What lies between works on 14x14 positions and a few dozen boxes, out of the cache, and is kept simple:
 *
 *   - a thread makes the feature of one channel of one box; its neighbours read neighbouring channels;
 *   - in backward a thread owns one channel of one clip and takes the boxes in order, because boxes overlap: no atomics;
 *   - in the fully connected layer a warp makes one output of ROWS boxes, so that each weight is read once for all of them.
 */
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/roi_grid.h"

enum { THREADS = 128, MAP_THREADS = 256, LOSS_THREADS = 256, WARP = 32, ROWS = 4 };

/* ---- mean over time, and its gradient ---- */

/* `mean` is (N, H*W, C) float; row p of it is position p % plane of clip p / plane. */
template <class E>
static __global__ void __launch_bounds__(MAP_THREADS) time_mean(struct words<E> x, unsigned times, unsigned plane, unsigned columns,
								size_t count, float *mean)
{
	const size_t i = (size_t)blockIdx.x * MAP_THREADS + threadIdx.x;
	const unsigned p = (unsigned)(i / columns), column = (unsigned)(i % columns);
	float sum[E::LANES] = { 0 }, v[E::LANES];

	if (i >= count)
		return;
#pragma unroll 8
	for (unsigned t = 0; t < times; t++) {
		E::unpack(x((p / plane * times + t) * plane + p % plane, column), v);
		for (int l = 0; l < E::LANES; l++)
			sum[l] += v[l];
	}
	for (int l = 0; l < E::LANES; l++)
		sum[l] /= (float)times;
	store_floats<E::LANES>(mean + i * E::LANES, sum);
}

template <class E>
static __global__ void __launch_bounds__(MAP_THREADS) time_spread(const float *dmean, unsigned times, unsigned plane,
								  unsigned columns, size_t count, struct words<E> dx)
{
	const size_t i = (size_t)blockIdx.x * MAP_THREADS + threadIdx.x;
	const unsigned p = (unsigned)(i / columns), column = (unsigned)(i % columns);
	float v[E::LANES];
	typename E::word w;

	if (i >= count)
		return;
	load_floats<E::LANES>(dmean + i * E::LANES, v);
	for (int l = 0; l < E::LANES; l++)
		v[l] /= (float)times;
	w = E::pack(v);
	for (unsigned t = 0; t < times; t++)
		dx((p / plane * times + t) * plane + p % plane, column) = w;
}

/* ---- ROIAlign ---- */

/* What the kernels need of struct cuda_roi. */
struct roi {
	float *mean;
	uint8_t *winner;
	const float *boxes;
	unsigned box_count, out, h, w, c;
	float scale;
	bool aligned;
	size_t stride;
};

static struct roi roi_of(const struct cuda_roi *r)
{
	return { r->mean, r->winner, r->boxes, (unsigned)r->box_count, (unsigned)r->out, (unsigned)r->x.dims[1],
		 (unsigned)r->x.dims[2], (unsigned)r->x.c, r->scale, r->aligned, r->stride };
}

/* Block (k, i): channels from k * THREADS of box i; the largest bin, the first of equals. */
static __global__ void __launch_bounds__(THREADS) roi_max(struct roi r, float *features)
{
	const unsigned c = blockIdx.x * THREADS + threadIdx.x, bins = r.out * r.out;
	const float *box = r.boxes + (size_t)blockIdx.y * 5;
	const struct grid g = grid_of(box, r.scale, r.aligned, r.out);
	const float *map = r.mean + (size_t)box[0] * r.h * r.w * r.c + c;
	float best = -INFINITY;
	unsigned place = 0;

	if (c >= r.c)
		return;
	for (unsigned k = 0; k < bins; k++) {
		float sum = 0;

		for (unsigned a = 0; a < g.samples_h; a++) {
			const struct tap y = tap_y(&g, k / r.out, a, r.h);

			for (unsigned b = 0; b < g.samples_w; b++) {
				const struct tap x = tap_x(&g, k % r.out, b, r.w);

				sum += y.low_weight * x.low_weight * map[(size_t)(y.low * r.w + x.low) * r.c] +
				       y.low_weight * x.high_weight * map[(size_t)(y.low * r.w + x.high) * r.c] +
				       y.high_weight * x.low_weight * map[(size_t)(y.high * r.w + x.low) * r.c] +
				       y.high_weight * x.high_weight * map[(size_t)(y.high * r.w + x.high) * r.c];
			}
		}
		sum /= grid_samples(&g);
		if (sum > best) {
			best = sum;
			place = k;
		}
	}
	features[blockIdx.y * r.stride + c] = best;
	r.winner[(size_t)blockIdx.y * r.c + c] = (uint8_t)place;
}

/* Block (k, n): channels from k * THREADS of clip n; adds the gradients of its boxes' winning bins to the map. */
static __global__ void __launch_bounds__(THREADS) roi_scatter(struct roi r, const float *dfeatures)
{
	const unsigned c = blockIdx.x * THREADS + threadIdx.x;
	float *map = r.mean + (size_t)blockIdx.y * r.h * r.w * r.c + c;

	if (c >= r.c)
		return;
	for (unsigned i = 0; i < r.box_count; i++) {
		const float *box = r.boxes + (size_t)i * 5;
		struct grid g;
		unsigned bin;
		float gradient;

		if ((unsigned)box[0] != blockIdx.y)
			continue;
		g = grid_of(box, r.scale, r.aligned, r.out);
		bin = r.winner[(size_t)i * r.c + c];
		gradient = dfeatures[i * r.stride + c] / grid_samples(&g);
		for (unsigned a = 0; a < g.samples_h; a++) {
			const struct tap y = tap_y(&g, bin / r.out, a, r.h);

			for (unsigned b = 0; b < g.samples_w; b++) {
				const struct tap x = tap_x(&g, bin % r.out, b, r.w);

				map[(size_t)(y.low * r.w + x.low) * r.c] += gradient * y.low_weight * x.low_weight;
				map[(size_t)(y.low * r.w + x.high) * r.c] += gradient * y.low_weight * x.high_weight;
				map[(size_t)(y.high * r.w + x.low) * r.c] += gradient * y.high_weight * x.low_weight;
				map[(size_t)(y.high * r.w + x.high) * r.c] += gradient * y.high_weight * x.high_weight;
			}
		}
	}
}

template <class E> static int forward(const struct cuda_roi *r, cudaStream_t stream)
{
	const size_t plane = r->x.dims[1] * r->x.dims[2], columns = r->x.c / E::LANES, count = r->x.n * plane * columns;
	int rc = CUDA_LAUNCH(time_mean<E>, ceil_div(count, MAP_THREADS), MAP_THREADS, stream, words_of<E>(&r->x),
			     (unsigned)r->x.dims[0], (unsigned)plane, (unsigned)columns, count, r->mean);

	if (!rc && r->box_count)
		rc = CUDA_LAUNCH(roi_max, dim3(ceil_div(r->x.c, THREADS), (unsigned)r->box_count), THREADS, stream, roi_of(r),
				 r->features);
	return rc;
}

template <class E> static int backward(const struct cuda_roi *r, cudaStream_t stream)
{
	const size_t plane = r->x.dims[1] * r->x.dims[2], columns = r->x.c / E::LANES, count = r->x.n * plane * columns;
	int rc = TRY_CUDA(cudaMemsetAsync(r->mean, 0, r->x.n * plane * r->x.c * sizeof(float), stream));

	if (!rc && r->box_count)
		rc = CUDA_LAUNCH(roi_scatter, dim3(ceil_div(r->x.c, THREADS), (unsigned)r->x.n), THREADS, stream, roi_of(r),
				 r->dfeatures);
	return rc ? rc : CUDA_LAUNCH(time_spread<E>, ceil_div(count, MAP_THREADS), MAP_THREADS, stream, r->mean,
				     (unsigned)r->x.dims[0], (unsigned)plane, (unsigned)columns, count, words_of<E>(&r->dx));
}

int cuda_roi_forward(const struct cuda_roi *r, cudaStream_t stream)
{
	return BY_ELEMENT(forward, r->element, is_wide(&r->x, r->element) && (size_t)r->mean % 16 == 0, r, stream);
}

int cuda_roi_backward(const struct cuda_roi *r, cudaStream_t stream)
{
	return BY_ELEMENT(backward, r->element, is_wide(&r->dx, r->element) && (size_t)r->mean % 16 == 0, r, stream);
}

/* ---- dropout, fully connected ---- */

static __global__ void scale_floats(float *x, const float *scale, size_t count)
{
	const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < count)
		x[i] *= scale[i];
}

int cuda_scale(float *x, const float *scale, size_t count, cudaStream_t stream)
{
	return count ? CUDA_LAUNCH(scale_floats, ceil_div(count, THREADS), THREADS, stream, x, scale, count) : OK;
}

/* Warp w of block (k, i): output k * warps + w of rows [i * ROWS, (i + 1) * ROWS). */
static __global__ void __launch_bounds__(THREADS) fc_dots(const float *x, const float *weight, const float *bias, unsigned rows,
							  unsigned in, unsigned out, float *y)
{
	const unsigned o = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
	const unsigned first = blockIdx.y * ROWS, count = rows - first < ROWS ? rows - first : (unsigned)ROWS;
	float sum[ROWS] = { 0 };

	if (o >= out)
		return;
#pragma unroll 4
	for (unsigned i = lane; i < in; i += WARP) {
		const float w = weight[(size_t)o * in + i];

		for (unsigned r = 0; r < ROWS; r++)
			if (r < count)
				sum[r] = fmaf(x[(size_t)(first + r) * in + i], w, sum[r]);
	}
	for (unsigned r = 0; r < ROWS; r++)
		for (unsigned by = WARP / 2; by; by /= 2)
			sum[r] += __shfl_xor_sync(0xffffffff, sum[r], by);
	for (unsigned r = 0; r < ROWS; r++)
		if (lane == r && r < count)
			y[(size_t)(first + r) * out + o] = bias[o] + sum[r];
}

/* Block (k, o): inputs from k * THREADS. */
static __global__ void __launch_bounds__(THREADS) fc_weight_gradients(const float *x, const float *dy, unsigned rows, unsigned in,
								      unsigned out, float *dweight, float *dbias)
{
	const unsigned i = blockIdx.x * THREADS + threadIdx.x, o = blockIdx.y;
	float sum = 0, bias = 0;

	if (i >= in)
		return;
#pragma unroll 8
	for (unsigned r = 0; r < rows; r++) {
		const float g = dy[(size_t)r * out + o];

		sum = fmaf(g, x[(size_t)r * in + i], sum);
		bias += g;
	}
	dweight[(size_t)o * in + i] = sum;
	if (i == 0)
		dbias[o] = bias;
}

/* Block (k, r): inputs from k * THREADS. */
static __global__ void __launch_bounds__(THREADS) fc_input_gradients(const float *weight, const float *dy, unsigned in, unsigned out,
								     float *dx)
{
	const unsigned i = blockIdx.x * THREADS + threadIdx.x;
	float sum = 0;

	if (i >= in)
		return;
#pragma unroll 8
	for (unsigned o = 0; o < out; o++)
		sum = fmaf(dy[(size_t)blockIdx.y * out + o], weight[(size_t)o * in + i], sum);
	dx[(size_t)blockIdx.y * in + i] = sum;
}

int cuda_fc_forward(const float *x, const float *weight, const float *bias, size_t rows, size_t in, size_t out, float *y,
		    cudaStream_t stream)
{
	return rows ? CUDA_LAUNCH(fc_dots, dim3(ceil_div(out, THREADS / WARP), ceil_div(rows, ROWS)), THREADS, stream, x, weight,
				  bias, (unsigned)rows, (unsigned)in, (unsigned)out, y) : OK;
}

int cuda_fc_backward(const float *x, const float *weight, const float *dy, size_t rows, size_t in, size_t out, float *dx,
		     float *dweight, float *dbias, cudaStream_t stream)
{
	int rc = CUDA_LAUNCH(fc_weight_gradients, dim3(ceil_div(in, THREADS), (unsigned)out), THREADS, stream, x, dy, (unsigned)rows,
			     (unsigned)in, (unsigned)out, dweight, dbias);

	if (!rc && rows)
		rc = CUDA_LAUNCH(fc_input_gradients, dim3(ceil_div(in, THREADS), (unsigned)rows), THREADS, stream, weight, dy,
				 (unsigned)in, (unsigned)out, dx);
	return rc;
}

/* ---- loss ---- */

static __global__ void sigmoids(const float *logits, size_t count, float *preds)
{
	const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < count)
		preds[i] = 1 / (1 + expf(-logits[i]));
}

int cuda_sigmoid(const float *logits, size_t count, float *preds, cudaStream_t stream)
{
	return count ? CUDA_LAUNCH(sigmoids, ceil_div(count, THREADS), THREADS, stream, logits, count, preds) : OK;
}

/* Not by fmax(), which would make a good number of NaN. */
static __device__ double log_clamped(double x)
{
	const double y = log(x);

	return y < -100 ? -100 : y;
}

/* One block: a few thousand values, in double like the CPU's. */
static __global__ void __launch_bounds__(LOSS_THREADS) bce(const float *preds, const float *labels, size_t count, float *loss)
{
	__shared__ double sums[LOSS_THREADS];
	double sum = 0;

	for (size_t i = threadIdx.x; i < count; i += LOSS_THREADS)
		sum -= labels[i] * log_clamped(preds[i]) + (1 - labels[i]) * log_clamped(1.0f - preds[i]);
	sums[threadIdx.x] = sum;
	for (unsigned half = LOSS_THREADS / 2; half; half /= 2) {
		__syncthreads();
		if (threadIdx.x < half)
			sums[threadIdx.x] += sums[threadIdx.x + half];
	}
	if (threadIdx.x == 0)
		*loss = (float)(sums[0] / (double)count);
}

int cuda_bce(const float *preds, const float *labels, size_t count, float *loss, cudaStream_t stream)
{
	return CUDA_LAUNCH(bce, 1, LOSS_THREADS, stream, preds, labels, count, loss);
}

static __global__ void bce_gradients(const float *preds, const float *labels, size_t count, float *dlogits)
{
	const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
	float p, slope;

	if (i >= count)
		return;
	p = preds[i];
	slope = p * (1 - p);
	dlogits[i] = (p - labels[i]) / fmaxf(slope, 1e-12f) / (float)count * slope;
}

int cuda_bce_backward(const float *preds, const float *labels, size_t count, float *dlogits, cudaStream_t stream)
{
	return count ? CUDA_LAUNCH(bce_gradients, ceil_div(count, THREADS), THREADS, stream, preds, labels, count, dlogits) : OK;
}
