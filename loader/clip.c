/*
 * loader/clip.c - see clip.h.
 *
 * Scaling is cv2's bilinear one on 8-bit pixels, to the bit: weights of 11 bits, rows first, each
 * result rounded to a whole number before it is normalised.  Only the pixels of the crop are
 * computed.  A source row scaled horizontally serves two or three output rows, so the latest
 * two are kept; mirroring is a matter of the order of columns.  cv2 drops four bits of a row before
 * it weights it: 16 bits are left, and the result is the upper half of a product, for which SSE2
 * has an instruction.  Where there is no SSE2, plain C computes the same bits more slowly.
 */
#include "loader/clip.h"

#include "bench/base/err.h"
#include "bench/base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* (value / 255 - mean) / deviation, mean 0.45 and deviation 0.225 for all three channels. */
#define SCALE (1 / (255 * 0.225f))
#define OFFSET (0.45f / 0.225f)

enum { WEIGHT_BITS = 11, ONE = 1 << WEIGHT_BITS };

/* An output column: a pixel of a source row, as byte offset, and the weights of it and its right neighbour. */
struct clip_column {
	uint32_t left;
	int16_t left_weight, right_weight;
};

/* Columns are taken in fours; those behind the crop have no weight. */
static size_t padded(size_t crop)
{
	return (crop + 3) / 4 * 4;
}

int clip_maker_init(struct clip_maker *m, const struct clip_geometry *geometry)
{
	*m = (struct clip_maker){ .geometry = *geometry };
	m->columns = calloc(padded(clip_wide(geometry)), sizeof(*m->columns));
	m->rows = calloc(2 * 4 * padded(clip_wide(geometry)), sizeof(*m->rows));
	if (m->columns && m->rows && !jpeg_reader_init(&m->jpeg))
		return OK;
	clip_maker_release(m);
	return err(NO_MEMORY, "no memory to make clips");
}

void clip_maker_release(struct clip_maker *m)
{
	jpeg_reader_release(&m->jpeg);
	free(m->columns);
	free(m->rows);
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
	size_t slow = g->frames / g->alpha;

	if (slow < 2)
		return 0;
	return g->old_linspace ? (size_t)((float)i * ((float)(g->frames - 1) / (float)(slow - 1)))
			       : i * (g->frames - 1) / (slow - 1);
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

void clip_view_use(struct clip_maker *m, const struct clip_view *v)
{
	size_t crop = clip_wide(&m->geometry);

	m->view = *v;
	for (size_t i = 0; i < crop; i++) {
		struct clip_column *c = &m->columns[i];
		float next;
		long at = source_at(v->x + (v->flip ? crop - 1 - i : i), v->width, v->wide, &next);

		/* At an edge its pixel alone, always with a neighbour to the right of `left`. */
		if (at < 0) {
			at = 0;
			next = 0;
		} else if (at >= (long)v->width - 1) {
			at = (long)v->width - 2;
			next = 1;
		}
		c->left = 3 * (uint32_t)at;
		c->left_weight = (int16_t)lrintf((1 - next) * ONE);
		c->right_weight = (int16_t)lrintf(next * ONE);
	}
}

#ifdef __SSE2__

static __m128i column_scale(const struct clip_column *c, const uint8_t *source)
{
	__m128i pixels = _mm_loadl_epi64((const __m128i *)(source + c->left));
	__m128i pairs = _mm_unpacklo_epi8(pixels, _mm_srli_epi64(pixels, 24));
	int32_t weights;

	memcpy(&weights, &c->left_weight, sizeof(weights));
	return _mm_srai_epi32(_mm_madd_epi16(_mm_unpacklo_epi8(pairs, _mm_setzero_si128()), _mm_set1_epi32(weights)), 4);
}

/* A source row into (crop,4): red, green, blue and something. */
static void row_scale(const struct clip_column *columns, size_t crop, const uint8_t *source, int16_t *row)
{
	for (size_t i = 0; i < crop; i += 2)
		_mm_storeu_si128((__m128i *)(row + 4 * i), _mm_packs_epi32(column_scale(&columns[i], source),
									   column_scale(&columns[i + 1], source)));
}

static __m128i blend(const int16_t *upper, const int16_t *lower, __m128i upper_weight, __m128i lower_weight)
{
	__m128i u = _mm_mulhi_epi16(_mm_loadu_si128((const __m128i *)upper), upper_weight);
	__m128i l = _mm_mulhi_epi16(_mm_loadu_si128((const __m128i *)lower), lower_weight);

	return _mm_srai_epi16(_mm_add_epi16(_mm_add_epi16(u, l), _mm_set1_epi16(2)), 2);
}

/* The lower four values, normalised; `n` of them are stored. */
static void store(float *out, __m128i values, size_t n)
{
	__m128 v = _mm_cvtepi32_ps(_mm_unpacklo_epi16(values, _mm_setzero_si128()));
	float four[4];

	v = _mm_sub_ps(_mm_mul_ps(v, _mm_set1_ps(SCALE)), _mm_set1_ps(OFFSET));
	if (n >= 4) {
		_mm_storeu_ps(out, v);
		return;
	}
	_mm_storeu_ps(four, v);
	memcpy(out, four, n * sizeof(*out));
}

/* Two scaled rows into one row of normalised pixels per channel. */
static void row_blend(const int16_t *upper, const int16_t *lower, int16_t upper_weight, int16_t lower_weight,
		      size_t crop, float *const out[3])
{
	__m128i u = _mm_set1_epi16(upper_weight), l = _mm_set1_epi16(lower_weight);

	for (size_t i = 0; i < crop; i += 4) {
		__m128i two = blend(upper + 4 * i, lower + 4 * i, u, l);		/* r0 g0 b0 - r1 g1 b1 - */
		__m128i more = blend(upper + 4 * i + 8, lower + 4 * i + 8, u, l);	/* r2 g2 b2 - r3 g3 b3 - */
		__m128i even = _mm_unpacklo_epi16(two, more);				/* r0 r2 g0 g2 b0 b2 */
		__m128i odd = _mm_unpackhi_epi16(two, more);				/* r1 r3 g1 g3 b1 b3 */
		__m128i red_green = _mm_unpacklo_epi16(even, odd);

		store(out[0] + i, red_green, crop - i);
		store(out[1] + i, _mm_srli_si128(red_green, 8), crop - i);
		store(out[2] + i, _mm_unpackhi_epi16(even, odd), crop - i);
	}
}

#else

static void row_scale(const struct clip_column *columns, size_t crop, const uint8_t *source, int16_t *row)
{
	for (size_t i = 0; i < crop; i++)
		for (size_t c = 0; c < 3; c++) {
			const uint8_t *at = source + columns[i].left + c;

			row[4 * i + c] = (int16_t)((at[0] * columns[i].left_weight + at[3] * columns[i].right_weight) >> 4);
		}
}

static void row_blend(const int16_t *upper, const int16_t *lower, int16_t upper_weight, int16_t lower_weight,
		      size_t crop, float *const out[3])
{
	for (size_t i = 0; i < crop; i++)
		for (size_t c = 0; c < 3; c++) {
			int sum = (upper[4 * i + c] * upper_weight >> 16) + (lower[4 * i + c] * lower_weight >> 16);

			out[c][i] = (float)((sum + 2) >> 2) * SCALE - OFFSET;
		}
}

#endif

void clip_pixels(struct clip_maker *m, float *tensor, size_t frames, size_t t)
{
	const struct clip_view *v = &m->view;
	size_t wide = clip_wide(&m->geometry), high = clip_high(&m->geometry);
	long held[2] = { -1, -1 };	/* source rows that lie in m->rows, row r in place r % 2 */

	for (size_t i = 0; i < high; i++) {
		float next, *out[3];
		long above = source_at(v->y + i, v->height, v->high, &next);
		const int16_t *row[2];

		for (size_t k = 0; k < 2; k++) {
			long last = (long)v->height - 1, r = above + (long)k < last ? above + (long)k : last;
			int16_t *place;

			r = r < 0 ? 0 : r;
			place = m->rows + (size_t)(r % 2) * 4 * padded(wide);
			if (held[r % 2] != r)
				row_scale(m->columns, wide, m->jpeg.rgb + 3 * v->width * (size_t)r, place);
			held[r % 2] = r;
			row[k] = place;
		}
		for (size_t c = 0; c < 3; c++)
			out[c] = tensor + ((c * frames + t) * high + i) * wide;
		row_blend(row[0], row[1], (int16_t)lrintf((1 - next) * ONE), (int16_t)lrintf(next * ONE), wide, out);
	}
}

/* ---- the clip -------------------------------------------------------------------------- */

static void slow_copy(const struct clip_geometry *g, const float *fast, float *slow)
{
	size_t plane = clip_wide(g) * clip_high(g), slow_frames = g->frames / g->alpha;

	for (size_t c = 0; c < 3; c++)
		for (size_t i = 0; i < slow_frames; i++)
			memcpy(slow + (c * slow_frames + i) * plane,
			       fast + (c * g->frames + clip_slow_frame(g, i)) * plane, plane * sizeof(*slow));
}

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

int clip_make(struct clip_maker *m, const struct ava_index *ix, size_t example, uint64_t seed, size_t epoch,
	      const struct clip_tensors *to, char *why, size_t why_bytes)
{
	const struct ava_example *e = &ix->examples[example];
	const struct clip_geometry *g = &m->geometry;
	size_t frames[CLIP_FRAMES_MAX];
	char path[PATH_BYTES];

	clip_frames(g, ava_keyframe(e->second), ix->videos[e->video].frame_count, frames);
	for (size_t t = 0; t < g->frames; t++) {
		/* A short video ends with its last frame several times. */
		if (!t || frames[t] != frames[t - 1]) {
			if (ava_index_path(ix, e->video, frames[t], path)) {
				snprintf(why, why_bytes, "%s", err_own());
				return FAILED;
			}
			if (m->storage_ns)
				clock_sleep_ns(m->storage_ns);
			if (jpeg_read(&m->jpeg, path, why, why_bytes))
				return FAILED;
		}
		if (!t) {
			struct clip_view v;

			if (g->rule == CLIP_TRAIN)
				clip_view_draw(&v, g, m->jpeg.width, m->jpeg.height, seed, epoch, example);
			else if (g->rule == CLIP_VAL)
				clip_view_val(&v, g, m->jpeg.width, m->jpeg.height);
			else
				clip_view_test(&v, g, m->jpeg.width, m->jpeg.height);
			if (g->rule == CLIP_TEST && (v.wide != g->width || v.high != g->height)) {
				snprintf(why, why_bytes, "'%s' comes to %zu x %zu pixels, the first frame of its video to %zu x %zu",
					 path, v.wide, v.high, g->width, g->height);
				return FAILED;
			}
			clip_view_use(m, &v);
		}
		if (m->jpeg.width != m->view.width || m->jpeg.height != m->view.height) {
			snprintf(why, why_bytes, "'%s' has %zu x %zu pixels, others of its clip %zu x %zu", path,
				 m->jpeg.width, m->jpeg.height, m->view.width, m->view.height);
			return FAILED;
		}
		clip_pixels(m, to->fast, g->frames, t);
		stage_end(&m->jpeg.stages, STAGE_TRANSFORM);
	}
	slow_copy(g, to->fast, to->slow);
	stage_end(&m->jpeg.stages, STAGE_TRANSFORM);
	clip_boxes(ix, example, &m->view, g, to);
	stage_end(&m->jpeg.stages, STAGE_HAND_OVER);
	return OK;
}
