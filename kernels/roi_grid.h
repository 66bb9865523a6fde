/*
 * kernels/roi_grid.h - where ROIAlign samples a feature map: for C, and for kernels of CUDA.
 *
 * detectron2's rule with adaptive sampling: ceil(box side / out) samples per bin and direction, so a zero-area box has no
 * samples, features of 0 and no gradient.  A box's samples must be the same in every back end.
 */
#ifndef SFSCALE_KERNELS_ROI_GRID_H
#define SFSCALE_KERNELS_ROI_GRID_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

/* A GPU counts in 32 bits: its registers have no more. */
#ifdef __cplusplus
typedef unsigned roi_count;
#else
typedef size_t roi_count;
#endif
#ifdef __CUDACC__
#define ROI_FUNCTION static __device__ __forceinline__
#else
#define ROI_FUNCTION static inline
#endif

/* A box on the feature map. */
struct grid {
	float y0, x0, bin_h, bin_w;
	roi_count samples_h, samples_w;	/* per bin */
};

/* `box` as struct step_input has it, clip first; out x out bins. */
ROI_FUNCTION struct grid grid_of(const float *box, float scale, bool aligned, roi_count out)
{
	const float shift = aligned ? 0.5f : 0;
	const float x0 = box[1] * scale - shift, y0 = box[2] * scale - shift;
	float w = box[3] * scale - shift - x0, h = box[4] * scale - shift - y0;
	struct grid g;

	if (!aligned) {
		w = fmaxf(w, 1);
		h = fmaxf(h, 1);
	}
	g.y0 = y0;
	g.x0 = x0;
	g.bin_h = h / (float)out;
	g.bin_w = w / (float)out;
	/* A box turned inside out has no samples either. */
	g.samples_h = h > 0 ? (roi_count)ceilf(h / (float)out) : 0;
	g.samples_w = w > 0 ? (roi_count)ceilf(w / (float)out) : 0;
	return g;
}

/* What the sum over a bin's samples is divided by. */
ROI_FUNCTION float grid_samples(const struct grid *g)
{
	const roi_count samples = g->samples_h * g->samples_w;

	return (float)(samples ? samples : 1);
}

/* Interpolation along one direction: two neighbours and their weights; both 0 outside of the map. */
struct tap {
	roi_count low, high;
	float low_weight, high_weight;
};

ROI_FUNCTION struct tap tap_at(float at, roi_count length)
{
	struct tap t = { 0, 0, 0, 0 };

	if (!(at >= -1 && at <= (float)length))
		return t;
	at = at > 0 ? at : 0;
	t.low = (roi_count)at;
	t.high = t.low + 1;
	if (t.low >= length - 1) {
		t.low = t.high = length - 1;
		at = (float)t.low;
	}
	t.high_weight = at - (float)t.low;
	t.low_weight = 1 - t.high_weight;
	return t;
}

ROI_FUNCTION struct tap tap_y(const struct grid *g, roi_count bin, roi_count sample, roi_count h)
{
	return tap_at(g->y0 + (float)bin * g->bin_h + ((float)sample + 0.5f) * g->bin_h / (float)g->samples_h, h);
}

ROI_FUNCTION struct tap tap_x(const struct grid *g, roi_count bin, roi_count sample, roi_count w)
{
	return tap_at(g->x0 + (float)bin * g->bin_w + ((float)sample + 0.5f) * g->bin_w / (float)g->samples_w, w);
}

#endif
