/*
 * kernels/cuda/input.cu - the network's inputs: channels innermost, padded to what convolutions want.
 *
 * A thread makes one position.  What it writes costs: of three channels, padded to 8 bf16, 16 bytes, in one access; it reads 12
 * bytes as floats, or 3 as a crop's bytes.  Positions of a frame are the grid's x, frames its y, clips its z: no divisions.
 */
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launch.cuh"

enum { THREADS = 256, COLOURS = 3 };

/* (v[0], v[1], v[2], 0, ...) at position `row`. */
template <class E> static __device__ __forceinline__ void put(const float *v, size_t row, unsigned pitch, void *out)
{
	typename E::word *at = (typename E::word *)out + row * (pitch / E::LANES);

	for (unsigned k = 0; k < pitch / E::LANES; k++) {
		float lanes[E::LANES];

		for (unsigned l = 0; l < E::LANES; l++)
			lanes[l] = E::LANES > 1 && k ? 0 : E::LANES > 1 ? l < COLOURS ? v[l % COLOURS] : 0 : k < COLOURS ? v[k] : 0;
		at[k] = E::pack(lanes);
	}
}

template <class E>
static __global__ void __launch_bounds__(THREADS) input_plain(const float *plain, unsigned plane, unsigned pitch, void *out)
{
	const unsigned p = blockIdx.x * THREADS + threadIdx.x, times = gridDim.y;
	const float *at = plain + ((size_t)blockIdx.z * COLOURS * times + blockIdx.y) * plane + p;
	float v[COLOURS];

	if (p >= plane)
		return;
	for (unsigned c = 0; c < COLOURS; c++)
		v[c] = at[(size_t)c * times * plane];
	put<E>(v, ((size_t)blockIdx.z * times + blockIdx.y) * plane + p, pitch, out);
}

template <class E>
static __global__ void __launch_bounds__(THREADS) input_crops(const uint8_t *crops, unsigned times, unsigned plane,
							      const uint32_t *frame, float scale, float offset, unsigned pitch, void *out)
{
	const unsigned p = blockIdx.x * THREADS + threadIdx.x, t = frame ? frame[blockIdx.y] : blockIdx.y;
	const uint8_t *at = crops + (((size_t)blockIdx.z * times + t) * plane + p) * COLOURS;
	float v[COLOURS];

	if (p >= plane)
		return;
	for (unsigned c = 0; c < COLOURS; c++)
		v[c] = __fsub_rn(__fmul_rn((float)at[c], scale), offset);	/* rounded twice, as net_pixel() is */
	put<E>(v, ((size_t)blockIdx.z * gridDim.y + blockIdx.y) * plane + p, pitch, out);
}

template <class E>
static int plain_in(const float *plain, size_t n, size_t t, size_t plane, size_t pitch, void *out, cudaStream_t stream)
{
	return CUDA_LAUNCH(input_plain<E>, dim3(ceil_div(plane, THREADS), (unsigned)t, (unsigned)n), THREADS, stream, plain,
			   (unsigned)plane, (unsigned)pitch, out);
}

template <class E>
static int crops_in(const uint8_t *crops, size_t n, size_t t, size_t plane, const uint32_t *frame, size_t frame_count, float scale,
		    float offset, size_t pitch, void *out, cudaStream_t stream)
{
	return CUDA_LAUNCH(input_crops<E>, dim3(ceil_div(plane, THREADS), (unsigned)frame_count, (unsigned)n), THREADS, stream,
			   crops, (unsigned)t, (unsigned)plane, frame, scale, offset, (unsigned)pitch, out);
}

/* By the largest word that tiles a position. */
#define BY_PITCH(function, element, pitch, out, ...) \
	((element) == CUDA_F32 ? (pitch) % 4 == 0 && (size_t)(out) % 16 == 0 ? function<f32x4>(__VA_ARGS__) : \
									       function<f32x1>(__VA_ARGS__) : \
	 (pitch) % 8 == 0 && (size_t)(out) % 16 == 0 ? function<bf16x8>(__VA_ARGS__) : \
	 (pitch) % 4 == 0 && (size_t)(out) % 8 == 0 ? function<bf16x4>(__VA_ARGS__) : function<bf16x1>(__VA_ARGS__))

int cuda_input_plain(const float *plain, size_t n, size_t t, size_t h, size_t w, enum cuda_element element, size_t pitch, void *out,
		     cudaStream_t stream)
{
	return BY_PITCH(plain_in, element, pitch, out, plain, n, t, h * w, pitch, out, stream);
}

int cuda_input_crops(const uint8_t *crops, size_t n, size_t t, size_t h, size_t w, const uint32_t *frame, size_t frame_count,
		     float scale, float offset, enum cuda_element element, size_t pitch, void *out, cudaStream_t stream)
{
	return BY_PITCH(crops_in, element, pitch, out, crops, n, t, h * w, frame, frame_count, scale, offset, pitch, out, stream);
}
