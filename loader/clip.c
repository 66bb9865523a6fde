/*
 * loader/clip.c - see clip.h.
 *
 * Scaling is cv2's bilinear one on 8-bit pixels, to the bit: weights of 11 bits, rows first, each
 * result rounded to a whole number before it is normalised.  Only the pixels of the crop are
 * computed.  A source row scaled horizontally serves two or three output rows, so the latest
 * two are kept; mirroring is a matter of the order of columns.  A row is kept with four bits
 * less, as cv2 takes them, which makes it 16 bits wide and its weighting one multiplication
 * whose upper half is the result.
 */
#include "loader/clip.h"

#include "bench/base/err.h"
#include "bench/base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEAN 0.45f
#define DEVIATION 0.225f

enum { WEIGHT_BITS = 11, ONE = 1 << WEIGHT_BITS };

/* An output column: two neighbours in a source row, as byte offsets, and their weights. */
struct clip_column {
	uint32_t left, right;
	int16_t left_weight, right_weight;
};

int clip_maker_init(struct clip_maker *m, const struct clip_geometry *geometry)
{
	*m = (struct clip_maker){ .geometry = *geometry };
	m->columns = malloc(geometry->crop * sizeof(*m->columns));
	m->rows = malloc(2 * 3 * geometry->crop * sizeof(*m->rows));
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

	/* linspace(0, T - 1, T / alpha), truncated; not every alpha-th. */
	return slow < 2 ? 0 : i * (g->frames - 1) / (slow - 1);
}

void clip_view_draw(struct clip_view *v, const struct clip_geometry *g, size_t width, size_t height, uint64_t seed,
		    size_t epoch, size_t example)
{
	double low = 1.0 / (double)g->scale_max, high = 1.0 / (double)g->scale_min;
	size_t shorter = width < height ? width : height, side;
	struct rng rng;

	rng_init(&rng, seed, (uint64_t)epoch << 32 | example);
	*v = (struct clip_view){ .width = width, .height = height, .wide = width, .high = height };
	side = (size_t)lrint(1 / (low + (high - low) * rng_uniform(&rng)));
	if (side != shorter) {
		v->wide = v->high = side;
		if (width < height)
			v->high = (size_t)floor((double)height / (double)width * (double)side);
		else
			v->wide = (size_t)floor((double)width / (double)height * (double)side);
	}
	/* The largest offset never occurs, as in the original. */
	v->y = v->high > g->crop ? rng_below(&rng, (uint32_t)(v->high - g->crop)) : 0;
	v->x = v->wide > g->crop ? rng_below(&rng, (uint32_t)(v->wide - g->crop)) : 0;
	v->flip = rng_uniform(&rng) < 0.5;
}

static double clamp(double value, double most)
{
	return value < 0 ? 0 : value > most ? most : value;
}

void clip_roi(const struct clip_view *v, size_t crop, const struct ava_box *box, float roi[4])
{
	double scale = v->width < v->height ? (double)v->high / (double)v->height : (double)v->wide / (double)v->width;
	double last = (double)crop - 1;
	double x1 = clamp((double)box->x1 * (double)v->width, (double)v->width - 1) * scale - (double)v->x;
	double x2 = clamp((double)box->x2 * (double)v->width, (double)v->width - 1) * scale - (double)v->x;
	double y1 = clamp((double)box->y1 * (double)v->height, (double)v->height - 1) * scale - (double)v->y;
	double y2 = clamp((double)box->y2 * (double)v->height, (double)v->height - 1) * scale - (double)v->y;

	/* A box outside the crop ends with no area on its border, and stays. */
	roi[0] = (float)clamp(v->flip ? last - x2 : x1, last);
	roi[1] = (float)clamp(y1, last);
	roi[2] = (float)clamp(v->flip ? last - x1 : x2, last);
	roi[3] = (float)clamp(y2, last);
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

static void columns_lay(struct clip_maker *m, const struct clip_view *v)
{
	size_t crop = m->geometry.crop;

	for (size_t i = 0; i < crop; i++) {
		struct clip_column *c = &m->columns[i];
		float next;
		long at = source_at(v->x + (v->flip ? crop - 1 - i : i), v->width, v->wide, &next);

		if (at < 0 || at >= (long)v->width - 1) {
			at = at < 0 ? 0 : (long)v->width - 1;
			next = 0;
		}
		c->left = 3 * (uint32_t)at;
		c->right = at + 1 < (long)v->width ? c->left + 3 : c->left;
		c->left_weight = (int16_t)lrintf((1 - next) * ONE);
		c->right_weight = (int16_t)lrintf(next * ONE);
	}
}

/* A source row into (3,crop). */
static void row_scale(const struct clip_column *columns, size_t crop, const uint8_t *source, int16_t *row)
{
	int16_t *red = row, *green = row + crop, *blue = row + 2 * crop;

	for (size_t i = 0; i < crop; i++) {
		const uint8_t *l = source + columns[i].left, *r = source + columns[i].right;
		int a = columns[i].left_weight, b = columns[i].right_weight;

		red[i] = (int16_t)((l[0] * a + r[0] * b) >> 4);
		green[i] = (int16_t)((l[1] * a + r[1] * b) >> 4);
		blue[i] = (int16_t)((l[2] * a + r[2] * b) >> 4);
	}
}

/* Two scaled rows into one row of normalised pixels. */
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("O3")))		/* eight pixels at a time */
#endif
static void row_blend(const int16_t *restrict upper, const int16_t *restrict lower, int16_t upper_weight,
		      int16_t lower_weight, size_t n, float *restrict out)
{
	for (size_t i = 0; i < n; i++) {
		int16_t sum = (int16_t)((upper[i] * upper_weight >> 16) + (lower[i] * lower_weight >> 16));

		out[i] = (float)(int16_t)((int16_t)(sum + 2) >> 2) * (1 / (255 * DEVIATION)) - MEAN / DEVIATION;
	}
}

/* The decoded frame into frame `t` of a (3,frames,crop,crop) tensor. */
static void frame_transform(struct clip_maker *m, const struct clip_view *v, float *tensor, size_t frames, size_t t)
{
	size_t crop = m->geometry.crop;
	long held[2] = { -1, -1 };	/* source row r lies in m->rows[r % 2] when held[r % 2] == r */

	for (size_t i = 0; i < crop; i++) {
		float next;
		long above = source_at(v->y + i, v->height, v->high, &next);
		long wanted[2] = { above, above + 1 };
		const int16_t *row[2];

		for (size_t k = 0; k < 2; k++) {
			long r = wanted[k] < 0 ? 0 : wanted[k] < (long)v->height ? wanted[k] : (long)v->height - 1;
			int16_t *place = m->rows + (size_t)(r % 2) * 3 * crop;

			if (held[r % 2] != r)
				row_scale(m->columns, crop, m->jpeg.rgb + 3 * v->width * (size_t)r, place);
			held[r % 2] = r;
			row[k] = place;
		}
		for (size_t c = 0; c < 3; c++)
			row_blend(row[0] + c * crop, row[1] + c * crop, (int16_t)lrintf((1 - next) * ONE),
				  (int16_t)lrintf(next * ONE), crop,
				  tensor + ((c * frames + t) * crop + i) * crop);
	}
}

/* ---- the clip -------------------------------------------------------------------------- */

static void slow_copy(const struct clip_geometry *g, const float *fast, float *slow)
{
	size_t plane = g->crop * g->crop, slow_frames = g->frames / g->alpha;

	for (size_t c = 0; c < 3; c++)
		for (size_t i = 0; i < slow_frames; i++)
			memcpy(slow + (c * slow_frames + i) * plane,
			       fast + (c * g->frames + clip_slow_frame(g, i)) * plane, plane * sizeof(*slow));
}

void clip_boxes(const struct ava_index *ix, size_t example, const struct clip_view *v, size_t crop,
		const struct clip_tensors *to)
{
	const struct ava_example *e = &ix->examples[example];

	for (size_t k = 0; k < e->box_count; k++) {
		const struct ava_box *box = &ix->boxes[e->first_box + k];

		to->rois[5 * k] = (float)to->place;
		clip_roi(v, crop, box, to->rois + 5 * k + 1);
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
	struct clip_view v;

	clip_frames(g, ava_keyframe(e->second), ix->videos[e->video].frame_count, frames);
	for (size_t t = 0; t < g->frames; t++) {
		/* A short video ends with its last frame several times. */
		if (!t || frames[t] != frames[t - 1]) {
			if (ava_index_path(ix, e->video, frames[t], path)) {
				snprintf(why, why_bytes, "%s", err_last());
				return FAILED;
			}
			if (jpeg_read(&m->jpeg, path, why, why_bytes))
				return FAILED;
		}
		if (!t) {
			clip_view_draw(&v, g, m->jpeg.width, m->jpeg.height, seed, epoch, example);
			columns_lay(m, &v);
		}
		if (m->jpeg.width != v.width || m->jpeg.height != v.height) {
			snprintf(why, why_bytes, "'%s' has %zu x %zu pixels, others of its clip %zu x %zu", path,
				 m->jpeg.width, m->jpeg.height, v.width, v.height);
			return FAILED;
		}
		frame_transform(m, &v, to->fast, g->frames, t);
	}
	slow_copy(g, to->fast, to->slow);
	clip_boxes(ix, example, &v, g->crop, to);
	return OK;
}
