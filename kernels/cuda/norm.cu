/*
 * kernels/cuda/norm.cu - batch normalisation with the addition and the ReLU behind it.
 *
 * Formulas are those of kernels/cpu/norm.c.  All of it is traffic: with s the bytes of the tensor, forward moves s (statistics)
 * + 2 s (application; 3 s with a shortcut); backward 2 s + 3 s, and where a shortcut forks 4 s + 3 s, where its gradient is
 * added to another's 3 s + 6 s.  Four thoughts follow:
 *
 *   - The mask of a ReLU without shortcut is computed again from x, which backward reads anyhow, by the very expression that
 *     forward used; y need not be read.  (They could differ only where bf16 rounds a positive number to 0, below 2^-133.)
 *     With a shortcut y is read in the first pass, which leaves the masked gradient where it must go anyhow, in dshortcut,
 *     and the second pass reads that.
 *   - A thread owns one word of channels, keeps their constants in registers and walks down the rows (clip and position),
 *     UNROLL words in flight.  Threads of a block lie side by side along the channels, up to 32 words, the rest below; so a
 *     packed tensor is read in one contiguous run per block and step.
 *   - All blocks of a launch fit on 132 multiprocessors at once, 4 on each.  Each has its own run of rows, and the second
 *     pass walks it from the end to the beginning: what the first pass left in the cache is met first.
 *   - The sums: each block subtracts the channel's value in its first row, so that squares do not drown in a large mean, and
 *     leaves mean and sum of squared deviations; one small kernel merges these in double, in order.  E[x^2] - mean^2 over
 *     the whole would lose all digits.  No atomics: the bits depend on the shape alone.
 *
 * Registers and bytes, counted: README.md.  Not here: cuDNN's fused norms.  Asked of a described H200, 9.19 lists no
 * configuration for the batch norm of training (bf16, channels innermost, 4-D and 5-D, 8 to 2048 channels; alone, with a
 * ReLU, with addition and ReLU), neither in mode A nor as fallback; what it lists on a chip was not tried.
 */
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launch.cuh"

#include <assert.h>

enum { THREADS = 256, PROCESSORS = 132, UNROLL = 4, FINISH_ACROSS = 8, FINISH_DOWN = 32 };
enum { FORWARD = 4, BACKWARD = 3 };		/* blocks on a multiprocessor: what the registers allow */
static const double eps = 1e-5, momentum = 0.1;

/* Who does what: block (i, k) has rows [i * chunk, (i + 1) * chunk) and columns [k * across, (k + 1) * across), a column
 * being a word of channels. */
struct tiles {
	unsigned rows, columns, across, down, chunk;
};

static struct tiles tiles_of(const struct cuda_act *x, size_t lanes, unsigned per_processor)
{
	struct tiles t = { rows_of(x), ceil_div(x->c, lanes), 0, 0, 0 };
	const unsigned blocks_across = ceil_div(t.columns, 32), blocks_down = ceil_div(per_processor * PROCESSORS, blocks_across);
	unsigned chunks;

	t.across = ceil_div(t.columns, blocks_across);
	t.down = THREADS / t.across;
	chunks = ceil_div(t.rows, t.down * UNROLL);
	if (chunks > blocks_down)
		chunks = blocks_down;
	t.chunk = ceil_div(ceil_div(t.rows, chunks), t.down) * t.down;
	return t;
}

static unsigned chunks_of(struct tiles t)
{
	return ceil_div(t.rows, t.chunk);
}

static dim3 grid_of(struct tiles t)
{
	return dim3(chunks_of(t), ceil_div(t.columns, t.across));
}

size_t cuda_norm_partial_floats(const struct cuda_act *x)
{
	return 2 * x->c * FORWARD * PROCESSORS;
}

/* What kernels get; partial is [chunk][2][c]. */
template <class E> struct arrays {
	struct words<E> x, y, shortcut, dx, dy, dshortcut;
	const float *weight, *bias, *mean, *inv_std;
	const float *dweight, *dbias;
	float *partial;
	unsigned c;
};

/* A thread's place: its column and its rows, first, first + down, ... below last. */
struct place {
	unsigned column, first, last, down;
};

static __device__ __forceinline__ struct place place_of(struct tiles t)
{
	const unsigned column = blockIdx.y * t.across + threadIdx.x % t.across, row = threadIdx.x / t.across;
	const unsigned begin = blockIdx.x * t.chunk, end = begin + t.chunk < t.rows ? begin + t.chunk : t.rows;

	if (row >= t.down || column >= t.columns)
		return { 0, end, end, t.down };		/* a thread too many: no rows */
	return { column, begin + row, end, t.down };
}

/* s[.][thread] over the threads that lie below each other, into s[.][0 .. across). */
template <int VALUES, int THREADS_MAX, typename T>
static __device__ __forceinline__ void sum_down(T (&s)[VALUES][THREADS_MAX], unsigned across, unsigned down)
{
	for (unsigned left = down, half; left > 1; left = half) {
		half = (left + 1) / 2;
		__syncthreads();
		if (threadIdx.x < (left - half) * across)
			for (int v = 0; v < VALUES; v++)
				s[v][threadIdx.x] += s[v][threadIdx.x + half * across];
	}
	__syncthreads();
}

/* ---- forward ---- */

/* inv_std weight: what a channel's distance from its mean is multiplied by. */
template <class E> static __device__ __forceinline__ void scales_of(const struct arrays<E> &a, unsigned column, float *scale)
{
	float weight[E::LANES];

	channels_of<E>(a.inv_std, column, scale);
	channels_of<E>(a.weight, column, weight);
	for (int l = 0; l < E::LANES; l++)
		scale[l] *= weight[l];
}

/* The expression that decides the ReLU, in forward and again in backward. */
static __device__ __forceinline__ float normalised(float x, float mean, float scale, float bias)
{
	return fmaf(x - mean, scale, bias);
}

/* Per chunk and channel: mean, and sum of squared deviations from it. */
template <class E> static __global__ void __launch_bounds__(THREADS, FORWARD) norm_moments(struct arrays<E> a, struct tiles t)
{
	__shared__ float s[2 * E::LANES][THREADS];
	const struct place p = place_of(t);
	const unsigned begin = blockIdx.x * t.chunk;
	float shift[E::LANES], sum[E::LANES] = { 0 }, square[E::LANES] = { 0 };

	E::unpack(a.x(begin, p.column), shift);
	for (unsigned r = p.first; r < p.last; r += UNROLL * p.down) {
		typename E::word w[UNROLL];
		float v[E::LANES];

#pragma unroll
		for (unsigned k = 0; k < UNROLL; k++)
			if (r + k * p.down < p.last)
				w[k] = a.x(r + k * p.down, p.column);
#pragma unroll
		for (unsigned k = 0; k < UNROLL; k++)
			if (r + k * p.down < p.last) {
				E::unpack(w[k], v);
				for (int l = 0; l < E::LANES; l++) {
					v[l] -= shift[l];
					sum[l] += v[l];
					square[l] = fmaf(v[l], v[l], square[l]);
				}
			}
	}
	for (int l = 0; l < E::LANES; l++) {
		s[l][threadIdx.x] = sum[l];
		s[E::LANES + l][threadIdx.x] = square[l];
	}
	sum_down(s, t.across, t.down);
	if (threadIdx.x < t.across && p.first < p.last) {
		const float count = (float)(p.last - begin);
		float *out = a.partial + (size_t)blockIdx.x * 2 * a.c + p.column * E::LANES;

		for (int l = 0; l < E::LANES; l++) {
			float mean = s[l][threadIdx.x] / count;
			float rest = s[E::LANES + l][threadIdx.x] - mean * s[l][threadIdx.x];

			out[l] = shift[l] + mean;
			out[a.c + l] = rest < 0 ? 0 : rest;
		}
	}
}

/* Of all chunks; a block has FINISH_ACROSS channels. */
static __global__ void norm_statistics(const float *partial, struct tiles t, unsigned c, float *mean, float *inv_std,
				       float *running_mean, float *running_var)
{
	__shared__ double s[2][1][FINISH_ACROSS * FINISH_DOWN];
	const unsigned lane = threadIdx.x % FINISH_ACROSS, channel = blockIdx.x * FINISH_ACROSS + lane;
	const unsigned first = threadIdx.x / FINISH_ACROSS, down = blockDim.x / FINISH_ACROSS;
	const unsigned chunks = channel < c ? (t.rows + t.chunk - 1) / t.chunk : 0;
	double sum = 0, rest = 0, m;

#pragma unroll 4
	for (unsigned i = first; i < chunks; i += down)
		sum += (double)(i + 1 < chunks ? t.chunk : t.rows - i * t.chunk) * partial[(size_t)i * 2 * c + channel];
	s[0][0][threadIdx.x] = sum;
	sum_down(s[0], FINISH_ACROSS, down);
	m = s[0][0][lane] / t.rows;
#pragma unroll 4
	for (unsigned i = first; i < chunks; i += down) {
		double d = partial[(size_t)i * 2 * c + channel] - m;

		rest += partial[((size_t)i * 2 + 1) * c + channel] +
			(i + 1 < chunks ? t.chunk : t.rows - i * t.chunk) * d * d;
	}
	s[1][0][threadIdx.x] = rest;
	sum_down(s[1], FINISH_ACROSS, down);
	if (threadIdx.x >= FINISH_ACROSS || channel >= c)
		return;
	rest = s[1][0][lane];
	mean[channel] = (float)m;
	inv_std[channel] = (float)(1 / sqrt(rest / t.rows + eps));
	if (!running_mean)
		return;
	running_mean[channel] = (float)((1 - momentum) * running_mean[channel] + momentum * (float)m);
	running_var[channel] = (float)((1 - momentum) * running_var[channel] +
				       momentum * rest / (t.rows > 1 ? t.rows - 1 : 1));
}

template <class E, bool RELU, bool SHORTCUT>
static __global__ void __launch_bounds__(THREADS, FORWARD) norm_apply(struct arrays<E> a, struct tiles t)
{
	enum { DEEP = SHORTCUT ? UNROLL / 2 : UNROLL };
	const struct place p = place_of(t);
	const unsigned end = blockIdx.x * t.chunk + p.last - 1;	/* rows are walked backwards: end - r */
	float mean[E::LANES], scale[E::LANES], bias[E::LANES];

	if (p.first >= p.last)
		return;
	channels_of<E>(a.mean, p.column, mean);
	channels_of<E>(a.bias, p.column, bias);
	scales_of<E>(a, p.column, scale);
	for (unsigned r = p.first; r < p.last; r += DEEP * p.down) {
		typename E::word x[DEEP], shortcut[DEEP];

#pragma unroll
		for (unsigned k = 0; k < DEEP; k++)
			if (r + k * p.down < p.last) {
				x[k] = a.x(end - r - k * p.down, p.column);
				if (SHORTCUT)
					shortcut[k] = a.shortcut(end - r - k * p.down, p.column);
			}
#pragma unroll
		for (unsigned k = 0; k < DEEP; k++)
			if (r + k * p.down < p.last) {
				float v[E::LANES], add[E::LANES];

				E::unpack(x[k], v);
				if (SHORTCUT)
					E::unpack(shortcut[k], add);
				for (int l = 0; l < E::LANES; l++) {
					v[l] = normalised(v[l], mean[l], scale[l], bias[l]);
					if (SHORTCUT)
						v[l] += add[l];
					if (RELU && !(v[l] > 0))
						v[l] = 0;
				}
				a.y(end - r - k * p.down, p.column) = E::pack(v);
			}
	}
}

static __global__ void norm_inv_std(const float *running_var, unsigned c, float *inv_std)
{
	const unsigned i = blockIdx.x * THREADS + threadIdx.x;

	if (i < c)
		inv_std[i] = (float)(1 / sqrt(running_var[i] + eps));
}

/* ---- backward ---- */

enum mask { MASK_NONE, MASK_X, MASK_Y };	/* whether there is a ReLU, and what tells where it was open */

/* The gradient behind the ReLU, in place of that before it. */
template <class E, enum mask MASK>
static __device__ __forceinline__ void close_relu(const float *x, const float *y, const float *mean, const float *scale,
						  const float *bias, float *g)
{
	if (MASK != MASK_NONE)
		for (int l = 0; l < E::LANES; l++)
			if (!((MASK == MASK_X ? normalised(x[l], mean[l], scale[l], bias[l]) : y[l]) > 0))
				g[l] = 0;
}

/* Per chunk and channel: sum of g, sum of g (x - mean).  FORK: g goes into dshortcut. */
template <class E, enum mask MASK, bool FORK>
static __global__ void __launch_bounds__(THREADS, BACKWARD) norm_gradient_sums(struct arrays<E> a, struct tiles t)
{
	enum { DEEP = UNROLL / 2 };
	__shared__ float s[2 * E::LANES][THREADS];
	const struct place p = place_of(t);
	float mean[E::LANES], scale[E::LANES], bias[E::LANES], sum[E::LANES] = { 0 }, dot[E::LANES] = { 0 };

	channels_of<E>(a.mean, p.column, mean);
	if (MASK == MASK_X) {
		channels_of<E>(a.bias, p.column, bias);
		scales_of<E>(a, p.column, scale);
	}
	for (unsigned r = p.first; r < p.last; r += DEEP * p.down) {
		typename E::word xs[DEEP], dys[DEEP], ys[DEEP];

#pragma unroll
		for (unsigned k = 0; k < DEEP; k++)
			if (r + k * p.down < p.last) {
				xs[k] = a.x(r + k * p.down, p.column);
				dys[k] = a.dy(r + k * p.down, p.column);
				if (MASK == MASK_Y)
					ys[k] = a.y(r + k * p.down, p.column);
			}
#pragma unroll
		for (unsigned k = 0; k < DEEP; k++)
			if (r + k * p.down < p.last) {
				float x[E::LANES], y[E::LANES], g[E::LANES];

				E::unpack(xs[k], x);
				E::unpack(dys[k], g);
				if (MASK == MASK_Y)
					E::unpack(ys[k], y);
				close_relu<E, MASK>(x, y, mean, scale, bias, g);
				if (FORK)
					a.dshortcut(r + k * p.down, p.column) = E::pack(g);
				for (int l = 0; l < E::LANES; l++) {
					sum[l] += g[l];
					dot[l] = fmaf(g[l], x[l] - mean[l], dot[l]);
				}
			}
	}
	for (int l = 0; l < E::LANES; l++) {
		s[l][threadIdx.x] = sum[l];
		s[E::LANES + l][threadIdx.x] = dot[l];
	}
	sum_down(s, t.across, t.down);
	if (threadIdx.x < t.across && p.first < p.last)
		for (int l = 0; l < E::LANES; l++) {
			float *out = a.partial + (size_t)blockIdx.x * 2 * a.c + p.column * E::LANES + l;

			out[0] = s[l][threadIdx.x];
			out[a.c] = s[E::LANES + l][threadIdx.x];
		}
}

static __global__ void norm_gradients(const float *partial, unsigned chunks, unsigned c, const float *inv_std, float *dweight,
				      float *dbias)
{
	__shared__ double s[2][FINISH_ACROSS * FINISH_DOWN];
	const unsigned channel = blockIdx.x * FINISH_ACROSS + threadIdx.x % FINISH_ACROSS;
	const unsigned down = blockDim.x / FINISH_ACROSS;
	double sum = 0, dot = 0;

	if (channel < c)
#pragma unroll 4
		for (unsigned i = threadIdx.x / FINISH_ACROSS; i < chunks; i += down) {
			sum += partial[(size_t)i * 2 * c + channel];
			dot += partial[((size_t)i * 2 + 1) * c + channel];
		}
	s[0][threadIdx.x] = sum;
	s[1][threadIdx.x] = dot;
	sum_down(s, FINISH_ACROSS, down);
	if (threadIdx.x >= FINISH_ACROSS || channel >= c)
		return;
	dbias[channel] = (float)s[0][threadIdx.x];
	dweight[channel] = (float)(s[1][threadIdx.x] * inv_std[channel]);
}

/* dx = weight inv_std (g - dbias / m - xhat dweight / m).  ADD: dshortcut += g. */
template <class E, enum mask MASK, bool ADD>
static __global__ void __launch_bounds__(THREADS, BACKWARD) norm_gradient_apply(struct arrays<E> a, struct tiles t)
{
	enum { DEEP = ADD ? 1 : UNROLL / 2 };
	const struct place p = place_of(t);
	const unsigned end = blockIdx.x * t.chunk + p.last - 1;
	float mean[E::LANES], scale[E::LANES], bias[E::LANES], slope[E::LANES], rest[E::LANES];

	if (p.first >= p.last)
		return;
	channels_of<E>(a.mean, p.column, mean);
	channels_of<E>(a.bias, p.column, bias);
	channels_of<E>(a.inv_std, p.column, scale);
	channels_of<E>(a.dweight, p.column, slope);
	channels_of<E>(a.dbias, p.column, rest);
	for (int l = 0; l < E::LANES; l++) {
		const float inv_std = scale[l];

		scale[l] *= a.weight[p.column * E::LANES + l];
		slope[l] *= -scale[l] * inv_std / (float)t.rows;
		rest[l] = fmaf(-slope[l], mean[l], rest[l] * -scale[l] / (float)t.rows);
	}
	for (unsigned r = p.first; r < p.last; r += DEEP * p.down) {
		typename E::word xs[DEEP], dys[DEEP], ys[DEEP], adds[DEEP];

#pragma unroll
		for (unsigned k = 0; k < DEEP; k++)
			if (r + k * p.down < p.last) {
				const unsigned row = end - r - k * p.down;

				xs[k] = a.x(row, p.column);
				dys[k] = a.dy(row, p.column);
				if (MASK == MASK_Y)
					ys[k] = a.y(row, p.column);
				if (ADD)
					adds[k] = a.dshortcut(row, p.column);
			}
#pragma unroll
		for (unsigned k = 0; k < DEEP; k++)
			if (r + k * p.down < p.last) {
				const unsigned row = end - r - k * p.down;
				float x[E::LANES], y[E::LANES], g[E::LANES], add[E::LANES];

				E::unpack(xs[k], x);
				E::unpack(dys[k], g);
				if (MASK == MASK_Y)
					E::unpack(ys[k], y);
				if (ADD)
					E::unpack(adds[k], add);
				close_relu<E, MASK>(x, y, mean, scale, bias, g);
				for (int l = 0; l < E::LANES; l++) {
					x[l] = fmaf(scale[l], g[l], fmaf(slope[l], x[l], rest[l]));
					if (ADD)
						add[l] += g[l];
				}
				a.dx(row, p.column) = E::pack(x);
				if (ADD)
					a.dshortcut(row, p.column) = E::pack(add);
			}
	}
}

/* ---- launches ---- */

static bool wide(const struct cuda_norm *b)
{
	const struct cuda_act *all[] = { &b->x, &b->y, &b->shortcut, &b->dx, &b->dy, &b->dshortcut };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (!is_wide(all[i], b->element))
			return false;
	return true;
}

template <class E> static struct arrays<E> arrays_of(const struct cuda_norm *b, const float *mean)
{
	return { words_of<E>(&b->x), words_of<E>(&b->y), words_of<E>(&b->shortcut), words_of<E>(&b->dx), words_of<E>(&b->dy),
		 words_of<E>(&b->dshortcut), b->weight, b->bias, mean, b->inv_std, b->dweight, b->dbias, b->partial,
		 (unsigned)b->x.c };
}

/* Threads of the kernels that merge: no more rows of them than there are chunks. */
static unsigned finish_threads(unsigned chunks)
{
	return FINISH_ACROSS * (chunks < FINISH_DOWN ? chunks : (unsigned)FINISH_DOWN);
}

template <class E> static int apply(const struct cuda_norm *b, const float *mean, cudaStream_t stream)
{
	const struct tiles t = tiles_of(&b->x, E::LANES, FORWARD);
	const auto kernel = b->shortcut.at ? b->relu ? norm_apply<E, true, true> : norm_apply<E, false, true> :
					     b->relu ? norm_apply<E, true, false> : norm_apply<E, false, false>;

	return CUDA_LAUNCH(kernel, grid_of(t), THREADS, stream, arrays_of<E>(b, mean), t);
}

template <class E> static int forward(const struct cuda_norm *b, cudaStream_t stream)
{
	const struct tiles t = tiles_of(&b->x, E::LANES, FORWARD);
	int rc = CUDA_LAUNCH(norm_moments<E>, grid_of(t), THREADS, stream, arrays_of<E>(b, b->mean), t);

	if (!rc)
		rc = CUDA_LAUNCH(norm_statistics, ceil_div(b->x.c, FINISH_ACROSS), finish_threads(chunks_of(t)), stream,
				 b->partial, t, (unsigned)b->x.c, b->mean, b->inv_std, b->running_mean, b->running_var);
	return rc ? rc : apply<E>(b, b->mean, stream);
}

int cuda_norm_forward(const struct cuda_norm *b, cudaStream_t stream)
{
	return BY_ELEMENT(forward, b->element, wide(b), b, stream);
}

int cuda_norm_evaluate(const struct cuda_norm *b, cudaStream_t stream)
{
	int rc = CUDA_LAUNCH(norm_inv_std, ceil_div(b->x.c, THREADS), THREADS, stream, b->running_var, (unsigned)b->x.c,
			     b->inv_std);

	return rc ? rc : BY_ELEMENT(apply, b->element, wide(b), b, b->running_mean, stream);
}

template <class E> static int backward(const struct cuda_norm *b, cudaStream_t stream)
{
	const struct tiles t = tiles_of(&b->x, E::LANES, BACKWARD);
	const bool fork = b->dshortcut.at && !b->add_dshortcut, add = b->dshortcut.at && b->add_dshortcut;
	const enum mask mask = !b->relu ? MASK_NONE : b->shortcut.at ? MASK_Y : MASK_X;
	struct arrays<E> a = arrays_of<E>(b, b->mean);
	const auto sums = mask == MASK_X ? norm_gradient_sums<E, MASK_X, false> :
		mask == MASK_Y ? fork ? norm_gradient_sums<E, MASK_Y, true> : norm_gradient_sums<E, MASK_Y, false> :
				 fork ? norm_gradient_sums<E, MASK_NONE, true> : norm_gradient_sums<E, MASK_NONE, false>;
	/* Behind a fork the masked gradient lies in dshortcut. */
	const auto apply_gradient = fork ? norm_gradient_apply<E, MASK_NONE, false> :
		mask == MASK_X ? norm_gradient_apply<E, MASK_X, false> :
		mask == MASK_Y ? add ? norm_gradient_apply<E, MASK_Y, true> : norm_gradient_apply<E, MASK_Y, false> :
				 add ? norm_gradient_apply<E, MASK_NONE, true> : norm_gradient_apply<E, MASK_NONE, false>;
	int rc;

	assert(b->shortcut.at || !b->dshortcut.at);
	rc = CUDA_LAUNCH(sums, grid_of(t), THREADS, stream, a, t);
	if (!rc)
		rc = CUDA_LAUNCH(norm_gradients, ceil_div(b->x.c, FINISH_ACROSS), finish_threads(chunks_of(t)), stream, b->partial,
				 chunks_of(t), (unsigned)b->x.c, b->inv_std, b->dweight, b->dbias);
	if (fork)
		a.dy = a.dshortcut;
	return rc ? rc : CUDA_LAUNCH(apply_gradient, grid_of(t), THREADS, stream, a, t);
}

int cuda_norm_backward(const struct cuda_norm *b, cudaStream_t stream)
{
	return BY_ELEMENT(backward, b->element, wide(b), b, stream);
}
