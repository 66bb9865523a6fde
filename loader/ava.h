/*
 * loader/ava.h - the AVA data set: names, numbers, reading rules, and the index.
 *
 * The names and numbers below are the only place where they stand: the maker of data sets,
 * the checker and the loader read them here, and all three parse a line with the same two
 * functions.  The index is what a worker needs to make a clip: for each example its boxes, for
 * each frame its path.  It is never written after it was built, so processes forked from the
 * reader share its pages.
 *
 * AVA's own frame lists hold 6.35 million paths, which differ in a running number.  The
 * index keeps them as *runs* (text before the number, first number, text behind): 235 for
 * the training list instead of 220 MB of text.  Names without such a number work as well,
 * as runs of one.
 */
#ifndef SFSCALE_LOADER_AVA_H
#define SFSCALE_LOADER_AVA_H

#include "bench/base/file.h"

#include <stddef.h>
#include <stdint.h>

/* Below the folder of the data set. */
#define AVA_FRAMES "frames"	/* paths in the frame lists are relative to it */
#define AVA_FRAME_PATH "%s/%s_%06zu.jpg"	/* video, video, number from 1 */
#define AVA_TRAIN_FRAMES "frame_lists/train.csv"
#define AVA_VAL_FRAMES "frame_lists/val.csv"
#define AVA_TRAIN_TRUTH "annotations/ava_train_v2.2.csv"
#define AVA_VAL_TRUTH "annotations/ava_val_v2.2.csv"
#define AVA_PREDICTED "annotations/person_box_67091280_iou90/"
#define AVA_TRAIN_PREDICTED AVA_PREDICTED "ava_detection_train_boxes_and_labels_include_negative_v2.2.csv"
#define AVA_VAL_PREDICTED AVA_PREDICTED "ava_detection_val_boxes_and_labels.csv"
#define AVA_LABEL_MAP "annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt"
#define AVA_VAL_EXCLUDED "annotations/ava_val_excluded_timestamps_v2.2.csv"

/* The first line of a frame list; the spelling is the original one.  Readers skip it unseen. */
#define AVA_FRAMES_HEADER "original_vido_id video_id frame_id path labels"

enum {
	AVA_FPS = 30,
	AVA_START_S = 900,		/* second of the movie that frame 0 shows */
	AVA_LENGTH_S = 901,		/* of a video: 27,030 frames */
	AVA_SECOND_MIN = 902,		/* keyframes: these seconds, both ends included */
	AVA_SECOND_MAX = 1798,
	AVA_SECONDS = AVA_SECOND_MAX - AVA_SECOND_MIN + 1,
	AVA_CLASSES = 80,		/* action ids are 1..80 */
	AVA_JPEG_QUALITY = 95,		/* nearest to what ffmpeg calls quality 1 */
};
#define AVA_SCORE_MIN 0.8		/* predicted boxes below are dropped */

/* Index of the frame in the middle of a second; from 0, in the order of the frame list. */
static inline size_t ava_keyframe(size_t second)
{
	return (second - AVA_START_S) * AVA_FPS;
}

/* ---- lines ----------------------------------------------------------------------------- */

enum { AVA_WHY_BYTES = 256 };

struct ava_frame_row {
	const char *video, *path;	/* borrowed from the line */
	const char *number;		/* of the frame, as text: borrowed; readers go by the order of the lines instead */
};

struct ava_box_row {
	const char *video;		/* borrowed from the line */
	unsigned second;
	const char *corners;		/* the four coordinates as text, "x1,y1,x2,y2": what makes two rows one box */
	float x1, y1, x2, y2;		/* shares of width and height, 0..1 */
	int action;			/* 1..80; -1: none */
	double score;			/* of a predicted box; a ground-truth row has its person id here */
};

/* Take a line apart, in place.  FAILED (silent) when it is no such row: `why` says what is wrong
 * with it, for a message that opens with file and line.  Whether the second is a keyframe and
 * whether the video is known is the caller's question. */
int ava_frame_row(char *line, struct ava_frame_row *, char why[AVA_WHY_BYTES]);
int ava_box_row(char *line, struct ava_box_row *, char why[AVA_WHY_BYTES]);
int ava_excluded_row(char *line, const char **video, unsigned *second, char why[AVA_WHY_BYTES]);

/* Names of the actions that count, by id; NULL for ids that the label map does not hold. */
struct ava_labels {
	char *name[AVA_CLASSES + 1];	/* owned */
	size_t count;
};
int ava_labels_read(struct ava_labels *, const char *path);
void ava_labels_release(struct ava_labels *);

/* ---- the index ------------------------------------------------------------------------- */

struct ava_video {
	char *name;			/* owned */
	size_t first_run, run_count;
	size_t frame_count;
};

/* Frames first_frame .. first_frame + count - 1 of one video. */
struct ava_run {
	char *before, *behind;		/* owned */
	size_t first_frame, count;
	unsigned long number;		/* of the first frame */
	unsigned digits;		/* printed at least; 0: the path has no number, it is `before` */
	size_t video;
};

/* What is trained on: a second of a video in which somebody was seen. */
struct ava_example {
	uint32_t video;
	uint32_t second;
	uint32_t first_box, box_count;
};

struct ava_box {
	float x1, y1, x2, y2;		/* shares of width and height */
	uint8_t labels[AVA_CLASSES / 8];	/* bit action - 1 */
};

struct ava_index {
	struct ava_video *videos;	/* owned; in the order of the frame list */
	size_t video_count;
	struct ava_run *runs;		/* owned; those of a video are neighbours */
	size_t run_count;
	struct ava_example *examples;	/* owned; by video, then by second */
	size_t example_count;
	struct ava_box *boxes;		/* owned; those of an example are neighbours */
	size_t box_count;
	size_t frame_count;
	char *root;			/* owned; folder that paths are relative to */
};

/* The training split of the data set in folder `data`: frame list, ground truth, predicted boxes.
 * FAILED (said, with file and line) when a file is absent or a row breaks the rules. */
int ava_index_read(struct ava_index *, const char *data);
/* The validation split: predicted boxes alone, as evaluation wants it, in seconds that `every` divides. */
int ava_index_read_val(struct ava_index *, const char *data, unsigned every);
void ava_index_release(struct ava_index *);

size_t ava_index_boxes_max(const struct ava_index *);	/* no example has more */

/* Whole path of a frame (from 0) of a video. */
int ava_index_path(const struct ava_index *, size_t video, size_t frame, char path[PATH_BYTES]);

/* The index as the study's loaders handed it to each worker: every path and every box as a record
 * of its own.  The reader rebuilds it record by record.  FAILED (said) when the stream breaks off. */
int ava_index_write(const struct ava_index *, FILE *);
int ava_index_rebuild(struct ava_index *, FILE *);

#endif
