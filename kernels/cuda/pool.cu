/*
 * kernels/cuda/pool.cu - spatial max-pooling.
 *
 * One thread makes one word of channels of one result: forward of one output, which looks at its window; backward of one dx,
 * which looks at the windows that it lies in (at most 4 of 3x3 at stride 2) and adds the gradients of those that it won.  So
 * backward needs no atomics, no zeroing, and adds in the order of the windows, as kernels/cpu/pool.c does.
 *
 * With s the bytes of x, bf16, 3x3 at stride 2: forward reads s, writes s/4 and s/8 of winners; backward reads 3s/8 and
 * writes s.  Windows overlap in the cache, not in memory: neighbours are neighbouring threads.  Rows and planes are the grid's
 * y and z, so that a thread divides once; a block is small because a row of words is.
 */
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launch.cuh"

enum { THREADS = 128, TOGETHER = 3 };

struct window {
	unsigned h, w, out_h, out_w;
	unsigned kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
	unsigned c, columns;
};

static struct window window_of(const struct cuda_pool *p, unsigned lanes)
{
	return { (unsigned)p->x.dims[1], (unsigned)p->x.dims[2], (unsigned)p->y.dims[1], (unsigned)p->y.dims[2],
		 (unsigned)p->kernel[0], (unsigned)p->kernel[1], (unsigned)p->stride[0], (unsigned)p->stride[1],
		 (unsigned)p->pad[0], (unsigned)p->pad[1], (unsigned)p->x.c, (unsigned)p->x.c / lanes };
}

/* A word's worth of winners, one byte each; aligned like one. */
template <int LANES> struct places;
template <> struct places<8> { typedef uint2 word; };
template <> struct places<4> { typedef unsigned word; };
template <> struct places<1> { typedef uint8_t word; };

/* K: kernel and stride of 3 and 2, or 0: as the window says. */
template <class E, int K>
static __global__ void __launch_bounds__(THREADS) pool_max(struct words<E> x, struct words<E> y, uint8_t *winner, struct window w)
{
	const unsigned i = blockIdx.x * THREADS + threadIdx.x, ow = i / w.columns, column = i % w.columns;
	const unsigned kernel_h = K ? 3 : w.kernel_h, kernel_w = K ? 3 : w.kernel_w;
	const unsigned top = blockIdx.y * (K ? 2 : w.stride_h) - w.pad_h, left = ow * (K ? 2 : w.stride_w) - w.pad_w;
	const unsigned row = (blockIdx.z * w.out_h + blockIdx.y) * w.out_w + ow;
	union {
		uint8_t at[E::LANES];
		typename places<E::LANES>::word word;
	} place;
	float best[E::LANES];

	if (ow >= w.out_w)
		return;
	for (int l = 0; l < E::LANES; l++) {
		best[l] = -INFINITY;
		place.at[l] = 0;
	}
	/* TOGETHER places of a line of the window are in flight at once. */
	for (unsigned kh = 0; kh < kernel_h; kh++)
		for (unsigned first = 0; first < kernel_w; first += TOGETHER) {
			const unsigned ih = top + kh, iw = left + first;	/* below 0 wraps around to large */
			const unsigned line = (blockIdx.z * w.h + ih) * w.w + iw;
			typename E::word word[TOGETHER];

#pragma unroll
			for (unsigned k = 0; k < TOGETHER; k++)
				if (first + k < kernel_w && ih < w.h && iw + k < w.w)
					word[k] = x(line + k, column);
#pragma unroll
			for (unsigned k = 0; k < TOGETHER; k++)
				if (first + k < kernel_w && ih < w.h && iw + k < w.w) {
					float v[E::LANES];

					E::unpack(word[k], v);
					for (int l = 0; l < E::LANES; l++)
						if (v[l] > best[l]) {
							best[l] = v[l];
							place.at[l] = (uint8_t)(kh * kernel_w + first + k);
						}
				}
		}
	y(row, column) = E::pack(best);
	*(typename places<E::LANES>::word *)(winner + (size_t)row * w.c + column * E::LANES) = place.word;
}

template <class E, int K>
static __global__ void __launch_bounds__(THREADS) pool_spread(struct words<E> dx, struct words<E> dy, const uint8_t *winner,
							      struct window w)
{
	const unsigned i = blockIdx.x * THREADS + threadIdx.x, iw = i / w.columns, column = i % w.columns;
	const unsigned kernel_h = K ? 3 : w.kernel_h, kernel_w = K ? 3 : w.kernel_w;
	const unsigned stride_h = K ? 2 : w.stride_h, stride_w = K ? 2 : w.stride_w;
	const unsigned y = blockIdx.y + w.pad_h, x = iw + w.pad_w;	/* on the padded map */
	const unsigned first_h = y < kernel_h ? 0 : (y - kernel_h) / stride_h + 1, last_h = y / stride_h;
	const unsigned first_w = x < kernel_w ? 0 : (x - kernel_w) / stride_w + 1, last_w = x / stride_w;
	float sum[E::LANES] = { 0 };

	if (iw >= w.w)
		return;
	for (unsigned oh = first_h; oh <= last_h && oh < w.out_h; oh++)
		for (unsigned ow = first_w; ow <= last_w && ow < w.out_w; ow++) {
			const unsigned row = (blockIdx.z * w.out_h + oh) * w.out_w + ow;
			const unsigned mine = (y - oh * stride_h) * kernel_w + x - ow * stride_w;
			union {
				typename places<E::LANES>::word word;
				uint8_t at[E::LANES];
			} place;
			float g[E::LANES];

			place.word = *(const typename places<E::LANES>::word *)(winner + (size_t)row * w.c + column * E::LANES);
			E::unpack(dy(row, column), g);
			for (int l = 0; l < E::LANES; l++)
				sum[l] += place.at[l] == mine ? g[l] : 0;
		}
	dx((blockIdx.z * w.h + blockIdx.y) * w.w + iw, column) = E::pack(sum);
}

static bool is_usual(const struct cuda_pool *p)
{
	return p->kernel[0] == 3 && p->kernel[1] == 3 && p->stride[0] == 2 && p->stride[1] == 2;
}

static dim3 grid_of(const struct cuda_act *results, unsigned columns)
{
	return dim3(ceil_div(results->dims[2] * columns, THREADS), (unsigned)results->dims[1],
		    (unsigned)(results->n * results->dims[0]));
}

template <class E> static int forward(const struct cuda_pool *p, cudaStream_t stream)
{
	const struct window w = window_of(p, E::LANES);
	const auto kernel = is_usual(p) ? pool_max<E, 3> : pool_max<E, 0>;

	return CUDA_LAUNCH(kernel, grid_of(&p->y, w.columns), THREADS, stream, words_of<E>(&p->x), words_of<E>(&p->y), p->winner,
			   w);
}

template <class E> static int backward(const struct cuda_pool *p, cudaStream_t stream)
{
	const struct window w = window_of(p, E::LANES);
	const auto kernel = is_usual(p) ? pool_spread<E, 3> : pool_spread<E, 0>;

	return CUDA_LAUNCH(kernel, grid_of(&p->dx, w.columns), THREADS, stream, words_of<E>(&p->dx), words_of<E>(&p->dy),
			   p->winner, w);
}

int cuda_pool_forward(const struct cuda_pool *p, cudaStream_t stream)
{
	const bool wide = is_wide(&p->x, p->element) && is_wide(&p->y, p->element) && (size_t)p->winner % 8 == 0;

	return BY_ELEMENT(forward, p->element, wide, p, stream);
}

int cuda_pool_backward(const struct cuda_pool *p, cudaStream_t stream)
{
	const bool wide = is_wide(&p->dx, p->element) && is_wide(&p->dy, p->element) && (size_t)p->winner % 8 == 0;

	return BY_ELEMENT(backward, p->element, wide, p, stream);
}
