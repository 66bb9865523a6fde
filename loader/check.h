/*
 * loader/check.h - judges an AVA data set, made here or downloaded.
 *
 * The rules are those by which training and evaluation read the files, but where a reader stops
 * at the first offence, this one goes on and reports all of them, each with file and line.
 */
#ifndef SFSCALE_LOADER_CHECK_H
#define SFSCALE_LOADER_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct check_config {
	bool headers;		/* of a frame only its header and its end are read; not its pixels */
	size_t threads;		/* 1 or more */
	size_t show;		/* findings of a kind that are said; all are counted */
};

enum check_kind {
	CHECK_FILE,		/* a list or an annotation file is absent, unreadable or empty */
	CHECK_ROW,		/* a line that is no row: fields, action ids, coordinates, scores */
	CHECK_SECOND,		/* a second without keyframe: outside 902..1798, or behind the end of the video */
	CHECK_VIDEO,		/* a video that only the annotations or only the frame list know */
	CHECK_FRAME,		/* a frame that is missing, out of order, damaged, or of another size than its video */
	CHECK_KINDS
};

/* One word and one sentence for each kind. */
extern const struct check_kind_text {
	const char *name, *meaning;
} check_kinds[CHECK_KINDS];

enum check_split { CHECK_TRAIN, CHECK_VAL, CHECK_SPLITS };
extern const char *const check_splits[CHECK_SPLITS];

struct check_counts {
	size_t videos, frames;
	size_t truth_rows, predicted_rows, dropped_rows;	/* dropped: predicted with too low a score */
	size_t excluded;		/* keyframes that evaluation leaves out */
	size_t clips;			/* keyframes with a box, as training (val: evaluation) reads the rows */
	uint64_t frame_bytes;
};

struct check_report {
	struct check_counts splits[CHECK_SPLITS];
	size_t found[CHECK_KINDS];
};

/* OK when the set could be judged, whatever the verdict: findings are said through err() and counted.
 * FAILED (said) when there is no folder `dir`. */
int check_run(const char *dir, const struct check_config *, struct check_report *);

size_t check_found(const struct check_report *);	/* findings of all kinds */

#endif
