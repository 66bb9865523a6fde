/*
 * kernels/cuda/sample.cu - see sample.h.
 *
 * One loop for all three results: a place and a term together name an output, a tap and a pair of channels, and with them
 * an input, if that one is not padding.  Places are taken in equal steps that share no factor with anything usual.
 */
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sample.h"

enum { THREADS = 128 };

static __device__ double value(const float *at, size_t i)
{
	return (double)at[i];
}

static __device__ double value(const __nv_bfloat16 *at, size_t i)
{
	return (double)__bfloat162float(at[i]);
}

/* An index of (d0,d1,d2,d3) taken apart: its last places, and what is left of it. */
static __device__ size_t take(size_t *index, size_t size)
{
	const size_t place = *index % size;

	*index /= size;
	return place;
}

static __device__ size_t product(const size_t d[3])
{
	return d[0] * d[1] * d[2];
}

static __device__ size_t result_values(const struct cuda_conv_shape &s, int sampled)
{
	return sampled == CUDA_SAMPLE_Y ? s.n * product(s.out) * s.cout :
	       sampled == CUDA_SAMPLE_DX ? s.n * product(s.in) * s.cin : s.cout * product(s.kernel) * s.cin;
}

static __device__ size_t place_of(unsigned sample, size_t values)
{
	return (size_t)sample * (values / CUDA_SAMPLES | 1) % values;
}

struct named {
	size_t n, ci, co;
	size_t in[3], out[3], kernel[3];
};

static __device__ void take_three(size_t *index, const size_t size[3], size_t place[3])
{
	for (int a = 2; a >= 0; a--)
		place[a] = take(index, size[a]);
}

/* False: padding, or a tap that does not meet this place. */
static __device__ bool name_term(const struct cuda_conv_shape &s, int sampled, size_t place, size_t term, struct named *m)
{
	switch (sampled) {
	case CUDA_SAMPLE_Y:
		m->co = take(&place, s.cout);
		take_three(&place, s.out, m->out);
		m->n = place;
		m->ci = take(&term, s.cin);
		take_three(&term, s.kernel, m->kernel);
		break;
	case CUDA_SAMPLE_DX:
		m->ci = take(&place, s.cin);
		take_three(&place, s.in, m->in);
		m->n = place;
		m->co = take(&term, s.cout);
		take_three(&term, s.kernel, m->kernel);
		break;
	default:
		m->ci = take(&place, s.cin);
		take_three(&place, s.kernel, m->kernel);
		m->co = place;
		take_three(&term, s.out, m->out);
		m->n = term;
	}
	for (int a = 0; a < 3; a++) {
		const size_t tap = m->kernel[a] * s.dilation[a];

		if (sampled == CUDA_SAMPLE_DX) {
			const size_t from = m->in[a] + s.pad[a] - tap;	/* wraps where there is none, and is large then */

			m->out[a] = from / s.stride[a];
			if (m->in[a] + s.pad[a] < tap || from % s.stride[a] || m->out[a] >= s.out[a])
				return false;
		} else {
			m->in[a] = m->out[a] * s.stride[a] + tap - s.pad[a];
			if (m->in[a] >= s.in[a])
				return false;
		}
	}
	return true;
}

static __device__ size_t index_of(size_t first, const size_t place[3], const size_t size[3], size_t last, size_t channels)
{
	return (((first * size[0] + place[0]) * size[1] + place[1]) * size[2] + place[2]) * channels + last;
}

template <class T>
static __device__ double product_of(const struct cuda_conv_shape &s, int sampled, const struct named &m, const T *x, const T *weights, const T *y)
{
	const double a = sampled == CUDA_SAMPLE_DX ? 1 : value(x, index_of(m.n, m.in, s.in, m.ci, s.cin));
	const double b = sampled == CUDA_SAMPLE_DW ? 1 : value(weights, index_of(m.co, m.kernel, s.kernel, m.ci, s.cin));
	const double c = sampled == CUDA_SAMPLE_Y ? 1 : value(y, index_of(m.n, m.out, s.out, m.co, s.cout));

	return a * b * c;
}

/* Over the block's threads, to its first one. */
static __device__ double block_sum(double mine)
{
	__shared__ double sums[THREADS];
	double sum = 0;

	__syncthreads();
	sums[threadIdx.x] = mine;
	__syncthreads();
	for (unsigned i = 0; i < THREADS && threadIdx.x == 0; i++)
		sum += sums[i];
	return sum;
}

template <class T>
static __global__ void __launch_bounds__(THREADS) sample(struct cuda_conv_shape s, int sampled, const T *x, const T *weights, const T *y,
							 const T *result, bool adds, float *want)
{
	const size_t place = place_of(blockIdx.x, result_values(s, sampled));
	const size_t terms = sampled == CUDA_SAMPLE_Y ? product(s.kernel) * s.cin :
			     sampled == CUDA_SAMPLE_DX ? product(s.kernel) * s.cout : s.n * product(s.out);
	double sum = 0;

	for (size_t term = threadIdx.x; term < terms; term += THREADS) {
		struct named m;

		if (name_term(s, sampled, place, term, &m))
			sum += product_of(s, sampled, m, x, weights, y);
	}
	sum = block_sum(sum);
	if (threadIdx.x == 0)
		want[blockIdx.x] = (float)(sum + (adds ? value(result, place) : 0));
}

template <class T>
static __global__ void __launch_bounds__(THREADS) compare(struct cuda_conv_shape s, int sampled, const T *result, const float *want, float *off)
{
	const size_t values = result_values(s, sampled);
	double far = 0, size = 0;

	for (unsigned i = threadIdx.x; i < CUDA_SAMPLES; i += THREADS) {
		const double w = (double)want[i], d = value(result, place_of(i, values)) - w;

		far += d * d;
		size += w * w;
	}
	far = block_sum(far);
	size = block_sum(size);
	if (threadIdx.x == 0) {
		off[0] = (float)far;
		off[1] = (float)size;
	}
}

template <class T>
static int sample_all(const struct cuda_conv_shape *s, int sampled, const void *x, const void *weights, const void *y, const void *result,
		      bool adds, float *want, cudaStream_t stream)
{
	return CUDA_LAUNCH(sample<T>, CUDA_SAMPLES, THREADS, stream, *s, sampled, (const T *)x, (const T *)weights, (const T *)y,
			   (const T *)result, adds, want);
}

template <class T>
static int compare_all(const struct cuda_conv_shape *s, int sampled, const void *result, const float *want, float *off, cudaStream_t stream)
{
	return CUDA_LAUNCH(compare<T>, 1, THREADS, stream, *s, sampled, (const T *)result, want, off);
}

int cuda_sample(const struct cuda_conv_shape *s, enum cuda_sampled sampled, enum cuda_element element, const void *x, const void *weights,
		const void *y, const void *result, bool adds, float *want, cudaStream_t stream)
{
	return element == CUDA_BF16 ? sample_all<__nv_bfloat16>(s, sampled, x, weights, y, result, adds, want, stream)
				    : sample_all<float>(s, sampled, x, weights, y, result, adds, want, stream);
}

int cuda_sample_compare(const struct cuda_conv_shape *s, enum cuda_sampled sampled, enum cuda_element element, const void *result,
			const float *want, float *off, cudaStream_t stream)
{
	return element == CUDA_BF16 ? compare_all<__nv_bfloat16>(s, sampled, result, want, off, stream)
				    : compare_all<float>(s, sampled, result, want, off, stream);
}
