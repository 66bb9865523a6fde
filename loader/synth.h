/*
 * loader/synth.h - makes an AVA v2.2 data set from a seed.
 *
 * Real JPEG files, lists and annotations in the layout of loader/ava.h, with something to learn
 * in them: each person is a rectangle whose motion, texture and colour are its three labels.
 */
#ifndef SFSCALE_LOADER_SYNTH_H
#define SFSCALE_LOADER_SYNTH_H

#include "loader/ava.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
	/* A video shows as many seconds more than its keyframes as AVA's do: two before, two behind. */
	SYNTH_SECONDS_AROUND = AVA_LENGTH_S - AVA_SECONDS,
	SYNTH_SIDE_MIN = 32,		/* of a frame, in pixels */
	SYNTH_SIDE_MAX = 4096,
	SYNTH_VIDEOS_MAX = 99999,
};

enum synth_split { SYNTH_TRAIN, SYNTH_VAL, SYNTH_SPLITS };

struct synth_config {
	size_t videos[SYNTH_SPLITS];	/* 1..SYNTH_VIDEOS_MAX each */
	size_t seconds;			/* keyframes of a video, from AVA_SECOND_MIN on; 1..AVA_SECONDS */
	size_t width, height;		/* SYNTH_SIDE_MIN..SYNTH_SIDE_MAX */
	int quality;			/* JPEG, 1..100 */
	uint64_t seed;
	size_t threads;			/* 1 or more; the bytes do not depend on it */
	const atomic_bool *stop;	/* borrowed; set: give up; NULL: never */
};

/* What was made, split by split. */
struct synth_counts {
	size_t frames, clips, boxes, rows;	/* boxes and rows of the ground truth */
	uint64_t frame_bytes;
};

/* Frames of one video. */
size_t synth_video_frames(const struct synth_config *);

/* Makes the data set in a new folder beside `dir` and renames it at the end, so `dir` is either
 * whole or absent.  FAILED (said) when `dir` exists already, the disk is full, or *stop was set. */
int synth_make(const char *dir, const struct synth_config *, struct synth_counts counts[SYNTH_SPLITS]);

#endif
