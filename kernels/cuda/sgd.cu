/*
 * kernels/cuda/sgd.cu - the optimiser, fused with the weights' copies that convolutions read.
 *
 * Formula: kernels/cpu/sgd.c.  Per weight it reads w, v, g and writes w, v and the copy: 22 bytes with bf16, 761 MB for r50's
 * 34.6 million, once per step.  A run is a tensor; run r is the grid's y, and BLOCKS blocks share each, four floats a thread
 * and turn, so that the few large ones (3 million floats) are as finely cut as all that runs beside them; the many small ones
 * leave most of their blocks nothing to do, which costs less than a search for the run would.
 */
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launch.cuh"

enum { THREADS = 256, BLOCKS = 128, LANES = 4 };

struct rates {
	float lr, momentum, weight_decay;
	bool nesterov;
};

static __device__ __forceinline__ void step(float *w, float *v, float g, const struct rates *s)
{
	const float d = fmaf(s->weight_decay, *w, g);

	*v = fmaf(s->momentum, *v, d);
	*w -= s->lr * (s->nesterov ? fmaf(s->momentum, *v, d) : *v);
}

/* Element i of a run in its copy, whose rows may be longer. */
static __device__ __forceinline__ size_t copy_place(const struct cuda_run *run, size_t i)
{
	return run->row == run->copy_row ? i : i / run->row * run->copy_row + i % run->row;
}

/* E4 and E1: four elements of the copy and one.  STEP: the optimiser's too, not the copies alone. */
template <class E4, class E1, bool STEP>
static __global__ void __launch_bounds__(THREADS) sgd_runs(float *w, float *v, const float *g, const struct cuda_run *runs,
							   const float *hyper, bool nesterov)
{
	const struct cuda_run run = runs[blockIdx.y];
	const size_t first = (size_t)blockIdx.x * THREADS + threadIdx.x, turn = (size_t)gridDim.x * THREADS;
	const bool by_four = run.offset % LANES == 0;
	const bool copies_four = run.row % LANES == run.copy_row % LANES && (run.row == run.copy_row || run.row % LANES == 0) &&
				 (size_t)run.copy % sizeof(typename E4::word) == 0;
	const size_t fours = by_four ? run.count / LANES : 0;
	const struct rates s = { STEP ? hyper[0] : 0, STEP ? hyper[1] : 0, STEP ? hyper[2] * run.weight_decay : 0, nesterov };

	for (size_t i = first; i < fours; i += turn) {
		const size_t at = run.offset / LANES + i;
		float ws[LANES], vs[LANES], gs[LANES];

		f32x4::unpack(((const float4 *)w)[at], ws);
		if (STEP) {
			f32x4::unpack(((const float4 *)v)[at], vs);
			f32x4::unpack(((const float4 *)g)[at], gs);
			for (int l = 0; l < LANES; l++)
				step(&ws[l], &vs[l], gs[l], &s);
			((float4 *)v)[at] = f32x4::pack(vs);
			((float4 *)w)[at] = f32x4::pack(ws);
		}
		if (run.copy && copies_four)
			*(typename E4::word *)((typename E1::word *)run.copy + copy_place(&run, i * LANES)) = E4::pack(ws);
		else if (run.copy)
			for (int l = 0; l < LANES; l++)
				((typename E1::word *)run.copy)[copy_place(&run, i * LANES + l)] = E1::pack(&ws[l]);
	}
	for (size_t i = fours * LANES + first; i < run.count; i += turn) {
		float one = w[run.offset + i];

		if (STEP) {
			step(&one, &v[run.offset + i], g[run.offset + i], &s);
			w[run.offset + i] = one;
		}
		if (run.copy)
			((typename E1::word *)run.copy)[copy_place(&run, i)] = E1::pack(&one);
	}
}

static dim3 grid_of(size_t run_count, size_t longest)
{
	const unsigned blocks = ceil_div(longest, THREADS * LANES);

	return dim3(blocks < BLOCKS ? blocks : (unsigned)BLOCKS, (unsigned)run_count);
}

int cuda_sgd(float *w, float *v, const float *g, const struct cuda_run *runs, size_t run_count, size_t longest,
	     const float hyper[3], bool nesterov, enum cuda_element element, cudaStream_t stream)
{
	const auto kernel = element == CUDA_BF16 ? sgd_runs<bf16x4, bf16x1, true> : sgd_runs<f32x4, f32x1, true>;

	return CUDA_LAUNCH(kernel, grid_of(run_count, longest), THREADS, stream, w, v, g, runs, hyper, nesterov);
}

int cuda_copy_weights(const float *w, const struct cuda_run *runs, size_t run_count, size_t longest, enum cuda_element element,
		      cudaStream_t stream)
{
	const auto kernel = element == CUDA_BF16 ? sgd_runs<bf16x4, bf16x1, false> : sgd_runs<f32x4, f32x1, false>;

	return CUDA_LAUNCH(kernel, grid_of(run_count, longest), THREADS, stream, (float *)w, (float *)NULL, (const float *)NULL, runs,
			   (const float *)NULL, false);
}

template <class E>
static __global__ void __launch_bounds__(THREADS) narrow_rows(const typename E::word *from, unsigned wide, unsigned narrow,
							      size_t count, float *to)
{
	const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < count)
		E::unpack(from[i / narrow * wide + i % narrow], &to[i]);
}

int cuda_narrow(const void *from, enum cuda_element element, size_t rows, size_t wide, size_t narrow, float *to, cudaStream_t stream)
{
	const size_t count = rows * narrow;

	if (element == CUDA_BF16)
		return CUDA_LAUNCH(narrow_rows<bf16x1>, ceil_div(count, THREADS), THREADS, stream, (const __nv_bfloat16 *)from,
				   (unsigned)wide, (unsigned)narrow, count, to);
	return CUDA_LAUNCH(narrow_rows<f32x1>, ceil_div(count, THREADS), THREADS, stream, (const float *)from, (unsigned)wide,
			   (unsigned)narrow, count, to);
}
