/*
 * loader/clip.c - see clip.h.
 *
 * Scaling is cv2's bilinear one on 8-bit pixels, to the bit: weights of 11 bits, rows first, each
 * result rounded to a whole number before it is normalised.  Only the pixels of the crop are
 * computed, and only the pixels that they need are decoded.  A source row scaled horizontally serves
 * two or three output rows, so the latest two are kept; mirroring is a matter of the order of columns.
 * cv2 drops four bits of a row before it weights it: 16 bits are left, and the result is the upper half
 * of a product, for which there is an instruction.  Rows stay as they are decoded, r g b r g b, until their
 * pixels are written: one load and one shuffle bring a pixel and its neighbour.  A frame that both pathways show is stored twice and
 * computed once; as bytes, which are a fifth of that, it is stored once.
 *
 * With AVX2 the tensors are written past the caches: a batch is larger than they are, so a line
 * would be read from memory to be overwritten.  Elsewhere plain C computes the same bits more slowly.
 */
#include "loader/clip.h"

#include "bench/base/err.h"
#include "bench/base/rng.h"
#include "kernels/net.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { WEIGHT_BITS = 11, ONE = 1 << WEIGHT_BITS };

/* The source rows between which a row of the crop lies, and their weights. */
struct clip_row {
	size_t upper, lower;
	int16_t upper_weight, lower_weight;
};

/* Columns are scaled four at a time. */
static size_t padded(size_t wide)
{
	return (wide + 3) / 4 * 4;
}

/* Of a scaled row: each store of two pixels runs over into the next. */
static size_t row_values(size_t wide)
{
	return 3 * padded(wide) + 2;
}

int clip_maker_init(struct clip_maker *m, const struct clip_geometry *geometry)
{
	*m = (struct clip_maker){ .geometry = *geometry };
	m->lefts = calloc(padded(clip_wide(geometry)), sizeof(*m->lefts));
	m->weights = calloc(padded(clip_wide(geometry)), sizeof(*m->weights));
	m->rows = calloc(2 * row_values(clip_wide(geometry)), sizeof(*m->rows));
	m->pixels = calloc(3 * clip_wide(geometry) + 2, 1);	/* where the last channel's sixteen pixels end */
	m->down = calloc(clip_high(geometry), sizeof(*m->down));
#ifdef __x86_64__
	m->vectors = __builtin_cpu_supports("avx2");
#endif
	if (m->lefts && m->weights && m->rows && m->pixels && m->down && !jpeg_reader_init(&m->jpeg))
		return OK;
	clip_maker_release(m);
	return err(NO_MEMORY, "no memory to make clips");
}

void clip_maker_release(struct clip_maker *m)
{
	jpeg_reader_release(&m->jpeg);
	free(m->lefts);
	free(m->weights);
	free(m->down);
	free(m->rows);
	free(m->pixels);
	*m = (struct clip_maker){ 0 };
}

/* ---- which frames, which view ---------------------------------------------------------- */

void clip_frames(const struct clip_geometry *g, size_t centre, size_t frame_count, size_t *frames)
{
	size_t half = g->frames * g->rate / 2;

	for (size_t i = 0; i < g->frames; i++) {
		size_t at = centre + i * g->rate;	/* behind the window's begin by `half`, so that it is not negative */

		at = at < half ? 0 : at - half;
		frames[i] = at < frame_count ? at : frame_count - 1;
	}
}

size_t clip_slow_frame(const struct clip_geometry *g, size_t i)
{
	return net_shown_frame(g->frames, g->frames / g->alpha, g->old_linspace, i);
}

/* The short side becomes `side`, and the long one follows. */
static void scale(struct clip_view *v, size_t side)
{
	size_t shorter = v->width < v->height ? v->width : v->height;

	v->wide = side == shorter ? v->width : side;
	v->high = side == shorter ? v->height : side;
	if (side != shorter && v->width < v->height)
		v->high = (size_t)floor((double)v->height / (double)v->width * (double)side);
	else if (side != shorter)
		v->wide = (size_t)floor((double)v->width / (double)v->height * (double)side);
}

void clip_view_draw(struct clip_view *v, const struct clip_geometry *g, size_t width, size_t height, uint64_t seed,
		    size_t epoch, size_t example)
{
	double low = 1.0 / (double)g->scale_max, high = 1.0 / (double)g->scale_min;
	struct rng rng;

	rng_init(&rng, seed, (uint64_t)epoch << 32 | example);
	*v = (struct clip_view){ .width = width, .height = height };
	scale(v, (size_t)lrint(1 / (low + (high - low) * rng_uniform(&rng))));
	/* The largest offset never occurs, as in the original. */
	v->y = v->high > g->crop ? rng_below(&rng, (uint32_t)(v->high - g->crop)) : 0;
	v->x = v->wide > g->crop ? rng_below(&rng, (uint32_t)(v->wide - g->crop)) : 0;
	v->flip = rng_uniform(&rng) < 0.5;
}

void clip_view_val(struct clip_view *v, const struct clip_geometry *g, size_t width, size_t height)
{
	*v = (struct clip_view){ .width = width, .height = height };
	scale(v, g->crop);
	v->x = (v->wide - g->crop + 1) / 2;
	v->y = (v->high - g->crop + 1) / 2;
}

void clip_view_test(struct clip_view *v, const struct clip_geometry *g, size_t width, size_t height)
{
	*v = (struct clip_view){ .width = width, .height = height };
	scale(v, g->crop);
}

static double clamp(double value, double most)
{
	return value < 0 ? 0 : value > most ? most : value;
}

void clip_roi(const struct clip_view *v, const struct clip_geometry *g, const struct ava_box *box, float roi[4])
{
	double scale = v->width < v->height ? (double)v->high / (double)v->height : (double)v->wide / (double)v->width;
	double last_x = (double)clip_wide(g) - 1, last_y = (double)clip_high(g) - 1;
	double x1 = clamp((double)box->x1 * (double)v->width, (double)v->width - 1) * scale - (double)v->x;
	double x2 = clamp((double)box->x2 * (double)v->width, (double)v->width - 1) * scale - (double)v->x;
	double y1 = clamp((double)box->y1 * (double)v->height, (double)v->height - 1) * scale - (double)v->y;
	double y2 = clamp((double)box->y2 * (double)v->height, (double)v->height - 1) * scale - (double)v->y;

	/* A box outside the crop ends with no area on its border, and stays. */
	roi[0] = (float)clamp(v->flip ? last_x - x2 : x1, last_x);
	roi[1] = (float)clamp(y1, last_y);
	roi[2] = (float)clamp(v->flip ? last_x - x1 : x2, last_x);
	roi[3] = (float)clamp(y2, last_y);
}

/* ---- pixels ---------------------------------------------------------------------------- */

/* Position of a scaled pixel's centre in the source: whole part and weight of the next pixel. */
static long source_at(size_t at, size_t source, size_t scaled, float *next)
{
	float f = (float)(((double)at + 0.5) * ((double)source / (double)scaled) - 0.5);
	float whole = floorf(f);

	*next = f - whole;
	return (long)whole;
}

/* The first of two neighbours between which a scaled pixel lies, and the weight of the second; at an edge that of its
 * pixel is 1.  (cv2 does so with columns; of rows it repeats the outermost one.) */
static size_t pair_at(size_t at, size_t source, size_t scaled, float *next)
{
	long first = source_at(at, source, scaled, next);

	if (first < 0) {
		*next = 0;
		return 0;
	}
	if (first < (long)source - 1)
		return (size_t)first;
	*next = 1;
	return source - 2;
}

static struct jpeg_window needed(const struct clip_view *v, const struct clip_geometry *g)
{
	float next;
	size_t x = pair_at(v->x, v->width, v->wide, &next), y = pair_at(v->y, v->height, v->high, &next);

	return (struct jpeg_window){
		.x = x, .width = pair_at(v->x + clip_wide(g) - 1, v->width, v->wide, &next) + 2 - x,
		.y = y, .height = pair_at(v->y + clip_high(g) - 1, v->height, v->high, &next) + 2 - y,
	};
}

void clip_view_use(struct clip_maker *m, const struct clip_view *v)
{
	size_t wide = clip_wide(&m->geometry);

	m->view = *v;
	m->window = needed(v, &m->geometry);
	for (size_t i = 0; i < wide; i++) {
		float next;
		size_t at = pair_at(v->x + (v->flip ? wide - 1 - i : i), v->width, v->wide, &next);

		m->lefts[i] = 3 * (uint32_t)(at - m->window.x);
		for (size_t c = 0; c < 3; c++) {
			m->weights[i][c][0] = (int16_t)lrintf((1 - next) * ONE);
			m->weights[i][c][1] = (int16_t)lrintf(next * ONE);
		}
	}
	for (size_t i = 0; i < clip_high(&m->geometry); i++) {
		float next;
		long above = source_at(v->y + i, v->height, v->high, &next), last = (long)v->height - 1;

		m->down[i] = (struct clip_row){
			.upper = above < 0 ? 0 : (size_t)(above < last ? above : last),
			.lower = (size_t)(above < last ? above + 1 : last),
			.upper_weight = (int16_t)lrintf((1 - next) * ONE), .lower_weight = (int16_t)lrintf(next * ONE),
		};
	}
}

/* A source row, from the window's left edge on, into (W,3). */
static void row_scale(const struct clip_maker *m, const uint8_t *source, int16_t *row)
{
	size_t wide = clip_wide(&m->geometry);

	for (size_t i = 0; i < wide; i++)
		for (size_t c = 0; c < 3; c++) {
			const uint8_t *at = source + m->lefts[i] + c;

			row[3 * i + c] = (int16_t)((at[0] * m->weights[i][c][0] + at[3] * m->weights[i][c][1]) >> 4);
		}
}

/* Two scaled rows into one row of pixels, from value `v` on. */
static void row_blend(const int16_t *upper, const int16_t *lower, const struct clip_row *row, size_t v, size_t values,
		      uint8_t *pixels)
{
	for (; v < values; v++)
		pixels[v] = (uint8_t)(((upper[v] * row->upper_weight >> 16) + (lower[v] * row->lower_weight >> 16) + 2) >> 2);
}

/* One channel of a row of pixels, from column `i` on: in the fast tensor and, unless that is NULL, in the slow one. */
static void row_spread(const uint8_t *pixels, size_t i, size_t wide, float *fast, float *slow)
{
	for (; i < wide; i++) {
		fast[i] = net_pixel(pixels[3 * i]);
		if (slow)
			slow[i] = fast[i];
	}
}

#ifdef __x86_64__

/* Two pixels, a lane each: r g b -, of 32 bits. */
__attribute__((target("avx2")))
static inline __m256i scale_two(const uint8_t *source, const uint32_t *left, const int16_t weights[2][4][2])
{
	/* r g b of the left one and of the next into r r g g b b, of 16 bits. */
	const __m256i pairs = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
	__m128i first = _mm_loadu_si128((const __m128i *)(source + left[0]));
	__m128i second = _mm_loadu_si128((const __m128i *)(source + left[1]));
	__m256i pixels = _mm256_shuffle_epi8(_mm256_set_m128i(second, first), pairs);

	return _mm256_srai_epi32(_mm256_madd_epi16(pixels, _mm256_loadu_si256((const __m256i *)weights)), 4);
}

__attribute__((target("avx2")))
static void row_scale_avx2(const struct clip_maker *m, const uint8_t *source, int16_t *row)
{
	/* r g b - r g b - into r g b r g b, of 16 bits. */
	const __m256i close = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, -1, -1, -1, -1));
	const uint32_t *left = m->lefts, *end = left + clip_wide(&m->geometry);
	const int16_t (*weights)[4][2] = (const int16_t (*)[4][2])m->weights;

	for (; left < end; left += 4, weights += 4, row += 12) {
		__m256i four = _mm256_packs_epi32(scale_two(source, left, weights), scale_two(source, left + 2, weights + 2));

		four = _mm256_shuffle_epi8(_mm256_permute4x64_epi64(four, 0xd8), close);
		_mm_storeu_si128((__m128i *)row, _mm256_castsi256_si128(four));
		_mm_storeu_si128((__m128i *)(row + 6), _mm256_extracti128_si256(four, 1));
	}
}

__attribute__((target("avx2")))
static void row_blend_avx2(const int16_t *upper, const int16_t *lower, const struct clip_row *row, size_t values,
			   uint8_t *pixels)
{
	const __m256i upper_weight = _mm256_set1_epi16(row->upper_weight), lower_weight = _mm256_set1_epi16(row->lower_weight);
	size_t v = 0;

	for (; v + 16 <= values; v += 16) {
		__m256i above = _mm256_mulhi_epi16(_mm256_loadu_si256((const __m256i *)(upper + v)), upper_weight);
		__m256i below = _mm256_mulhi_epi16(_mm256_loadu_si256((const __m256i *)(lower + v)), lower_weight);
		__m256i sum = _mm256_add_epi16(_mm256_add_epi16(above, below), _mm256_set1_epi16(2));

		sum = _mm256_srai_epi16(sum, 2);
		_mm_storeu_si128((__m128i *)(pixels + v),
				 _mm_packus_epi16(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1)));
	}
	if (v < values)
		row_blend(upper, lower, row, v, values, pixels);
}

/* Of sixteen pixels, 48 bytes, the first channel: which byte of each third goes where; -1: it is in another. */
__attribute__((target("avx2")))
static inline __m128i every_third(const uint8_t *pixels)
{
	const __m128i first = _mm_setr_epi8(0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
	const __m128i second = _mm_setr_epi8(-1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14, -1, -1, -1, -1, -1);
	const __m128i third = _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1, 4, 7, 10, 13);
	__m128i a = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)pixels), first);
	__m128i b = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(pixels + 16)), second);
	__m128i c = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(pixels + 32)), third);

	return _mm_or_si128(_mm_or_si128(a, b), c);
}

/* Sixteen pixels of a channel. */
__attribute__((target("avx2")))
static inline void put(float *at, __m256 left, __m256 right)
{
	if ((uintptr_t)at % sizeof(left)) {
		_mm256_storeu_ps(at, left);
		_mm256_storeu_ps(at + 8, right);
	} else {
		_mm256_stream_ps(at, left);
		_mm256_stream_ps(at + 8, right);
	}
}

__attribute__((target("avx2")))
static void row_spread_avx2(const uint8_t *pixels, size_t wide, float *fast, float *slow)
{
	const __m256 scale = _mm256_set1_ps(NET_PIXEL_SCALE), offset = _mm256_set1_ps(NET_PIXEL_OFFSET);
	size_t i = 0;

	for (; i + 16 <= wide; i += 16) {
		__m128i sixteen = every_third(pixels + 3 * i);
		__m256 left = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(sixteen));
		__m256 right = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(sixteen, 8)));

		left = _mm256_sub_ps(_mm256_mul_ps(left, scale), offset);
		right = _mm256_sub_ps(_mm256_mul_ps(right, scale), offset);
		put(fast + i, left, right);
		if (slow)
			put(slow + i, left, right);
	}
	if (i < wide)
		row_spread(pixels, i, wide, fast, slow);
}

#endif

static void scale_row(const struct clip_maker *m, const uint8_t *source, int16_t *row)
{
#ifdef __x86_64__
	if (m->vectors) {
		row_scale_avx2(m, source, row);
		return;
	}
#endif
	row_scale(m, source, row);
}

static void blend_rows(const struct clip_maker *m, const int16_t *upper, const int16_t *lower, const struct clip_row *row,
		       uint8_t *pixels)
{
	size_t values = 3 * clip_wide(&m->geometry);

#ifdef __x86_64__
	if (m->vectors) {
		row_blend_avx2(upper, lower, row, values, pixels);
		return;
	}
#endif
	row_blend(upper, lower, row, 0, values, pixels);
}

static void spread_channel(const struct clip_maker *m, const uint8_t *pixels, float *fast, float *slow)
{
	size_t wide = clip_wide(&m->geometry);

#ifdef __x86_64__
	if (m->vectors) {
		row_spread_avx2(pixels, wide, fast, slow);
		return;
	}
#endif
	row_spread(pixels, 0, wide, fast, slow);
}

/* Row `r` of the frame scaled horizontally; the latest two are kept, row r in place r % 2. */
static const int16_t *scaled_row(const struct clip_maker *m, size_t r, size_t held[2])
{
	const struct jpeg_window *have = &m->jpeg.window;
	int16_t *place = m->rows + r % 2 * row_values(clip_wide(&m->geometry));

	if (held[r % 2] != r)
		scale_row(m, m->jpeg.rgb + 3 * ((r - have->y) * have->width + m->window.x - have->x), place);
	held[r % 2] = r;
	return place;
}

/* Row `i` of the clip from the frame, (W,3); `held`: which rows of it are scaled, SIZE_MAX: none. */
static void make_row(struct clip_maker *m, size_t i, size_t held[2], uint8_t *pixels)
{
	const struct clip_row *row = &m->down[i];
	const int16_t *upper = scaled_row(m, row->upper, held), *lower = scaled_row(m, row->lower, held);

	blend_rows(m, upper, lower, row, pixels);
}

void clip_crop(struct clip_maker *m, uint8_t *crops, size_t t)
{
	size_t wide = clip_wide(&m->geometry), high = clip_high(&m->geometry), held[2] = { SIZE_MAX, SIZE_MAX };

	for (size_t i = 0; i < high; i++)
		make_row(m, i, held, crops + 3 * (t * high + i) * wide);
}

void clip_pixels(struct clip_maker *m, float *fast, size_t t, float *slow, size_t slow_t)
{
	size_t wide = clip_wide(&m->geometry), high = clip_high(&m->geometry);
	size_t frames = m->geometry.frames, slow_frames = frames / m->geometry.alpha;
	size_t held[2] = { SIZE_MAX, SIZE_MAX };

	for (size_t i = 0; i < high; i++) {
		make_row(m, i, held, m->pixels);
		for (size_t c = 0; c < 3; c++)
			spread_channel(m, m->pixels + c, fast + ((c * frames + t) * high + i) * wide,
				       slow ? slow + ((c * slow_frames + slow_t) * high + i) * wide : NULL);
	}
#ifdef __x86_64__
	_mm_sfence();		/* what went past the caches is there before the batch is said to be */
#endif
}

/* ---- the clip -------------------------------------------------------------------------- */

void clip_boxes(const struct ava_index *ix, size_t example, const struct clip_view *v,
		const struct clip_geometry *g, const struct clip_tensors *to)
{
	const struct ava_example *e = &ix->examples[example];

	for (size_t k = 0; k < e->box_count; k++) {
		const struct ava_box *box = &ix->boxes[e->first_box + k];

		to->rois[5 * k] = (float)to->place;
		clip_roi(v, g, box, to->rois + 5 * k + 1);
		for (size_t a = 0; a < AVA_CLASSES; a++)
			to->labels[AVA_CLASSES * k + a] = (float)(box->labels[a / 8] >> a % 8 & 1);
		to->meta[2 * k] = e->video;
		to->meta[2 * k + 1] = e->second;
	}
}

/* Decodes what the crop needs of a frame; the first one of a clip decides the view. */
static int frame_read(struct clip_maker *m, const struct ava_index *ix, size_t example, size_t frame, bool first,
		      uint64_t seed, size_t epoch, char *why, size_t why_bytes)
{
	char path[PATH_BYTES];
	int rc;

	if (ava_index_path(ix, ix->examples[example].video, frame, path)) {
		snprintf(why, why_bytes, "%s", err_own());
		return FAILED;
	}
	if (m->storage_ns)
		clock_sleep_ns(m->storage_ns);
	rc = jpeg_open(&m->jpeg, path, why, why_bytes);
	if (rc)
		return rc;
	if (first) {
		struct clip_view v;

		if (m->geometry.rule == CLIP_TRAIN)
			clip_view_draw(&v, &m->geometry, m->jpeg.width, m->jpeg.height, seed, epoch, example);
		else if (m->geometry.rule == CLIP_VAL)
			clip_view_val(&v, &m->geometry, m->jpeg.width, m->jpeg.height);
		else
			clip_view_test(&v, &m->geometry, m->jpeg.width, m->jpeg.height);
		if (m->geometry.rule == CLIP_TEST && (v.wide != m->geometry.width || v.high != m->geometry.height)) {
			snprintf(why, why_bytes, "'%s' comes to %zu x %zu pixels, the first frame of its video to %zu x %zu",
				 path, v.wide, v.high, m->geometry.width, m->geometry.height);
			return JPEG_DAMAGED;
		}
		clip_view_use(m, &v);
	}
	if (m->jpeg.width != m->view.width || m->jpeg.height != m->view.height) {
		snprintf(why, why_bytes, "'%s' has %zu x %zu pixels, others of its clip %zu x %zu", path,
			 m->jpeg.width, m->jpeg.height, m->view.width, m->view.height);
		return JPEG_DAMAGED;
	}
	return jpeg_decode(&m->jpeg, path, &m->window, why, why_bytes);
}

int clip_make(struct clip_maker *m, const struct ava_index *ix, size_t example, uint64_t seed, size_t epoch,
	      const struct clip_tensors *to, char *why, size_t why_bytes)
{
	const struct ava_example *e = &ix->examples[example];
	const struct clip_geometry *g = &m->geometry;
	size_t frames[CLIP_FRAMES_MAX], slow_t = 0;
	int rc = OK;

	clip_frames(g, ava_keyframe(e->second), ix->videos[e->video].frame_count, frames);
	for (size_t t = 0; t < g->frames; t++) {
		bool shown_twice = slow_t < g->frames / g->alpha && clip_slow_frame(g, slow_t) == t;

		/* A short video ends with its last frame several times. */
		if (!t || frames[t] != frames[t - 1])
			rc = frame_read(m, ix, example, frames[t], !t, seed, epoch, why, why_bytes);
		if (rc)
			return rc;
		if (m->beat)
			atomic_fetch_add_explicit(m->beat, 1, memory_order_relaxed);
		if (to->crops)
			clip_crop(m, to->crops, t);
		else
			clip_pixels(m, to->fast, t, shown_twice ? to->slow : NULL, slow_t);
		stage_end(&m->jpeg.stages, STAGE_TRANSFORM);
		slow_t += shown_twice;
	}
	clip_boxes(ix, example, &m->view, g, to);
	stage_end(&m->jpeg.stages, STAGE_HAND_OVER);
	return OK;
}
