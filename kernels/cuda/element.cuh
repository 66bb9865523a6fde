/*
 * kernels/cuda/element.cuh - elements as memory has them and as arithmetic wants them.
 *
 * One access moves a word: 16 bytes, 4 floats or 8 bf16, where channels, pitches and addresses allow it, else one element.
 * Arithmetic is float always; bf16 is the upper half of a float, rounded to nearest even when stored.
 */
#ifndef SFSCALE_KERNELS_CUDA_ELEMENT_CUH
#define SFSCALE_KERNELS_CUDA_ELEMENT_CUH

#include "kernels/cuda/ops.h"

#include <cuda_bf16.h>
#include <vector_functions.h>

struct f32x4 {
	typedef float4 word;
	enum { LANES = 4 };
	static __device__ __forceinline__ void unpack(word w, float *v)
	{
		v[0] = w.x, v[1] = w.y, v[2] = w.z, v[3] = w.w;
	}
	static __device__ __forceinline__ word pack(const float *v)
	{
		return make_float4(v[0], v[1], v[2], v[3]);
	}
};

struct f32x1 {
	typedef float word;
	enum { LANES = 1 };
	static __device__ __forceinline__ void unpack(word w, float *v)
	{
		*v = w;
	}
	static __device__ __forceinline__ word pack(const float *v)
	{
		return *v;
	}
};

/* The lower of two bf16 comes first in memory. */
struct bf16x8 {
	typedef uint4 word;
	enum { LANES = 8 };
	static __device__ __forceinline__ unsigned two(float low, float high)
	{
		const __nv_bfloat162_raw raw = __floats2bfloat162_rn(low, high);

		return raw.x | (unsigned)raw.y << 16;
	}
	static __device__ __forceinline__ void unpack(word w, float *v)
	{
		const unsigned pairs[4] = { w.x, w.y, w.z, w.w };

		for (int i = 0; i < 4; i++) {
			v[2 * i] = __uint_as_float(pairs[i] << 16);
			v[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000);
		}
	}
	static __device__ __forceinline__ word pack(const float *v)
	{
		return make_uint4(two(v[0], v[1]), two(v[2], v[3]), two(v[4], v[5]), two(v[6], v[7]));
	}
};

/* Beside four floats, and for narrow inputs. */
struct bf16x4 {
	typedef uint2 word;
	enum { LANES = 4 };
	static __device__ __forceinline__ word pack(const float *v)
	{
		return make_uint2(bf16x8::two(v[0], v[1]), bf16x8::two(v[2], v[3]));
	}
};

struct bf16x1 {
	typedef __nv_bfloat16 word;
	enum { LANES = 1 };
	static __device__ __forceinline__ void unpack(word w, float *v)
	{
		*v = __bfloat162float(w);
	}
	static __device__ __forceinline__ word pack(const float *v)
	{
		return __float2bfloat16_rn(*v);
	}
};

/* The function for these elements, by words of 16 bytes or by single elements. */
#define BY_ELEMENT(function, element, wide, ...) \
	((element) == CUDA_BF16 ? (wide) ? function<bf16x8>(__VA_ARGS__) : function<bf16x1>(__VA_ARGS__) : \
				  (wide) ? function<f32x4>(__VA_ARGS__) : function<f32x1>(__VA_ARGS__))

/* An activation in words: that of row (clip and position) r and column k is at[r * pitch + k]. */
template <class E> struct words {
	typename E::word *at;
	unsigned pitch;
	__device__ __forceinline__ typename E::word &operator()(unsigned row, unsigned column) const
	{
		return at[(size_t)row * pitch + column];
	}
};

template <class E> static struct words<E> words_of(const struct cuda_act *a)
{
	return { (typename E::word *)a->at, (unsigned)(a->pitch / E::LANES) };
}

static inline unsigned rows_of(const struct cuda_act *a)
{
	return (unsigned)(a->n * a->dims[0] * a->dims[1] * a->dims[2]);
}

/* Whether words of 16 bytes tile it; what is absent does not forbid them. */
static inline bool is_wide(const struct cuda_act *a, enum cuda_element element)
{
	const size_t lanes = 16 / cuda_element_bytes(element);

	return !a->at || (a->c % lanes == 0 && a->pitch % lanes == 0 && (size_t)a->at % 16 == 0);
}

/* Of the channels' arrays: a word's worth, from column k; they need not be aligned. */
template <class E> static __device__ __forceinline__ void channels_of(const float *array, unsigned column, float *v)
{
	for (int l = 0; l < E::LANES; l++)
		v[l] = array[column * E::LANES + l];
}

/* Floats beside a word of elements: as many, aligned to 16 bytes where the word is wide. */
template <int LANES> static __device__ __forceinline__ void load_floats(const float *at, float *v)
{
	if (LANES % 4)
		for (int l = 0; l < LANES; l++)
			v[l] = at[l];
	else
		for (int l = 0; l < LANES / 4; l++)
			f32x4::unpack(((const float4 *)at)[l], v + 4 * l);
}

template <int LANES> static __device__ __forceinline__ void store_floats(float *at, const float *v)
{
	if (LANES % 4)
		for (int l = 0; l < LANES; l++)
			at[l] = v[l];
	else
		for (int l = 0; l < LANES / 4; l++)
			((float4 *)at)[l] = f32x4::pack(v + 4 * l);
}

static inline unsigned ceil_div(size_t a, size_t b)
{
	return (unsigned)((a + b - 1) / b);
}

#endif
