/*
 * loader/ava_eval.h - AVA's frame-mAP at an overlap of 0.5, by the rules of either evaluator.
 *
 * The two agree on matching and on average precision, and differ in what they read:
 *
 *                           pyslowfast                      activitynet
 *   a keyframe is           video, whole second             video, seconds with 6 decimals
 *   order in a keyframe     as in the file                  by falling score
 *   at most                 all                             the 50 best labelled boxes of a keyframe
 *   keyframes left out      those of the exclusion file     detections where no row of ground truth is
 *   fields of a row         7 or 8; detections 8            2 (a keyframe without actions), 7 or 8
 *
 * PySlowFast's evaluator stops at a row of 2 fields; here such a row says nothing under its rule, so that one file
 * serves both.
 *
 * The order matters because a box of ground truth is taken by the first detection that overlaps enough,
 * not by the best.
 */
#ifndef SFSCALE_LOADER_AVA_EVAL_H
#define SFSCALE_LOADER_AVA_EVAL_H

#include "loader/ava.h"

enum ava_rule { AVA_RULE_PYSLOWFAST, AVA_RULE_ACTIVITYNET, AVA_RULES };
#define AVA_RULE_NAMES "pyslowfast|activitynet"		/* the choices of an option, in this order */

/* Paths; `excluded` may be NULL, and is read for AVA_RULE_PYSLOWFAST alone. */
struct ava_eval_files {
	const char *truth, *detections, *labels, *excluded;
};

/* A class of the label map; for an id that it does not hold, all zero and NaN. */
struct ava_eval_class {
	size_t truth, detections;	/* boxes that took part */
	double ap;			/* NaN: without ground truth, and no part of the mean */
};

struct ava_eval {
	struct ava_labels labels;	/* owned */
	struct ava_eval_class classes[AVA_CLASSES + 1];		/* by action id */
	size_t class_count;		/* of those with ground truth */
	size_t keyframes;		/* in either file, less those left out */
	double map;			/* NaN: no class has ground truth */
};

/* FAILED (said, with file and line) when a row breaks the rules: number of fields, something that is no finite number
 * (a score of NaN has no place in an order), ground truth whose second corner lies before the first.  Such a detection
 * is dropped, as is a row of an action that the label map does not hold. */
int ava_eval_run(struct ava_eval *, const struct ava_eval_files *, enum ava_rule);
void ava_eval_release(struct ava_eval *);

#endif
