/*
 * loader/clip.h - one example made into tensors: which frames, decoded, scaled, cropped, mirrored,
 * normalised, split into two pathways; or left as bytes before the last two.
 *
 * These are PySlowFast's transforms with its cv2 back end, colour augmentation off: the one of training, and
 * those of evaluation.  What training draws at random depends on (seed, epoch, example) alone, so it is the same whoever
 * makes the clip.
 */
#ifndef SFSCALE_LOADER_CLIP_H
#define SFSCALE_LOADER_CLIP_H

#include "loader/ava.h"
#include "loader/jpeg.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLIP_FRAMES_MAX = 256 };

enum clip_rule {
	CLIP_TRAIN,		/* scaled, cut out and mirrored at random */
	CLIP_VAL,		/* short side scaled to the crop, its middle */
	CLIP_TEST,		/* the same, whole: `width` by `height` */
};

struct clip_geometry {
	enum clip_rule rule;
	size_t frames;		/* of the fast pathway, at most CLIP_FRAMES_MAX */
	size_t alpha;		/* the slow one has frames / alpha */
	size_t rate;
	bool old_linspace;
	size_t crop;
	size_t width, height;	/* CLIP_TEST: that frames must come to, as clip_view_test() says; else unused */
	size_t scale_min, scale_max;	/* CLIP_TRAIN: short side, both ends included */
};

/* What the random draws decide, for frames of one size. */
struct clip_view {
	size_t width, height;		/* of the frame */
	size_t wide, high;		/* scaled */
	size_t x, y;			/* corner of the crop in the scaled frame */
	bool flip;
};

struct clip_maker {
	struct clip_geometry geometry;
	struct jpeg_reader jpeg;
	struct clip_view view;
	uint64_t storage_ns;		/* slept before each file */
	struct jpeg_window window;	/* the part of a frame that the view's crop shows */
	uint32_t *lefts;		/* owned; per output column, its first pixel in a row of the window, in bytes */
	int16_t (*weights)[4][2];	/* owned; (W): of that pixel and of the next, thrice and a zero, as vectors want them */
	struct clip_row *down;		/* owned; per output row, its source rows */
	int16_t *rows;			/* owned; two source rows scaled horizontally, (2,W,3) */
	uint8_t *pixels;		/* owned; a row of the clip before it is normalised, (W,3) */
	_Atomic uint32_t *beat;		/* moves with every frame, so that others see us work; borrowed; NULL: nobody looks */
	bool vectors;			/* AVX2 is there; without, the same pixels come from plain C */
};

/* Where a clip goes: all borrowed. */
struct clip_tensors {
	float *slow;		/* (3,T/alpha,H,W); NULL: as crops, */
	float *fast;		/* (3,T,H,W); likewise */
	uint8_t *crops;		/* (T,H,W,3), of which kernels make the same: net_pixel(), net_shown_frame() */
	float *rois;		/* (K,5), K boxes of the example */
	float *labels;		/* (K,80) */
	int64_t *meta;		/* (K,2) */
	size_t place;		/* of the clip in its batch: first column of rois */
};

/* Of the clip, in pixels. */
static inline size_t clip_wide(const struct clip_geometry *g)
{
	return g->rule == CLIP_TEST ? g->width : g->crop;
}

static inline size_t clip_high(const struct clip_geometry *g)
{
	return g->rule == CLIP_TEST ? g->height : g->crop;
}

/* The geometry may change from clip to clip (maker.geometry), to crops that are not larger. */
int clip_maker_init(struct clip_maker *, const struct clip_geometry *);
void clip_maker_release(struct clip_maker *);

/* Fails silently, as jpeg.h does: `why` names the file.  JPEG_DAMAGED: another clip may do; what was written is of no use. */
int clip_make(struct clip_maker *, const struct ava_index *, size_t example, uint64_t seed, size_t epoch,
	      const struct clip_tensors *, char *why, size_t why_bytes);

/* The parts, in order. */
void clip_frames(const struct clip_geometry *, size_t centre, size_t frame_count, size_t *frames);
size_t clip_slow_frame(const struct clip_geometry *, size_t i);	/* index into the fast ones */
void clip_view_draw(struct clip_view *, const struct clip_geometry *, size_t width, size_t height, uint64_t seed,
		    size_t epoch, size_t example);
void clip_view_val(struct clip_view *, const struct clip_geometry *, size_t width, size_t height);
void clip_view_test(struct clip_view *, const struct clip_geometry *, size_t width, size_t height);
/* From now on clip_pixels() sees frames through this view. */
void clip_view_use(struct clip_maker *, const struct clip_view *);
/* The frame that lies in `jpeg`, as frame `t` of the fast tensor and, unless that is NULL, frame `slow_t` of the slow one. */
void clip_pixels(struct clip_maker *, float *fast, size_t t, float *slow, size_t slow_t);
/* The same as frame `t` of the crops. */
void clip_crop(struct clip_maker *, uint8_t *crops, size_t t);
/* `roi`: x1, y1, x2, y2 in pixels of the clip. */
void clip_roi(const struct clip_view *, const struct clip_geometry *, const struct ava_box *, float roi[4]);
/* Fills rois, labels and meta. */
void clip_boxes(const struct ava_index *, size_t example, const struct clip_view *, const struct clip_geometry *,
		const struct clip_tensors *);

#endif
