/*
 * bench/validate.c - see validate.h.
 *
 * A batch is made by a few threads, then evaluated, one after the other: on CPUs both want the same cores.
 * All batches are of one size, which the kernels are prepared for; what the last one lacks are clips without boxes,
 * which change nothing, as batch norm uses its running statistics here.
 *
 * Predictions meet by addition: each rank puts those of its keyframes in their places among zeros.
 */
#include "bench/validate.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "loader/ava_eval.h"
#include "loader/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct validation {
	struct validation_config c;
	struct ava_index index;
	struct ava_labels labels;
	struct clip_maker *makers;	/* owned, as all below; one per thread */
	float *preds;			/* (boxes of the index, AVA_CLASSES) */
	/* The batch. */
	size_t first;			/* of this rank's clips */
	size_t *first_box;		/* (clips), in the batch */
	float *slow, *fast, *rois, *targets;
	int64_t *meta;
};

static size_t boxes_max(const struct ava_index *ix)
{
	size_t most = 0;

	for (size_t i = 0; i < ix->example_count; i++)
		most = ix->examples[i].box_count > most ? ix->examples[i].box_count : most;
	return most;
}

size_t validation_boxes_max(const struct validation *v)
{
	return v->c.clips * boxes_max(&v->index);
}

size_t validation_clips(const struct validation *v)
{
	size_t all = v->index.example_count;

	return all / v->c.world + (v->c.rank < all % v->c.world);
}

/* ---- open ------------------------------------------------------------------------------ */

static int open_batch(struct validation *v)
{
	const struct clip_geometry *g = &v->c.geometry;
	size_t clips = v->c.clips, boxes = validation_boxes_max(v), frame = 3 * g->crop * g->crop;

	v->first_box = calloc(clips, sizeof(*v->first_box));
	v->slow = calloc(clips * g->frames / g->alpha * frame, sizeof(*v->slow));
	v->fast = calloc(clips * g->frames * frame, sizeof(*v->fast));
	v->rois = calloc(boxes, 5 * sizeof(*v->rois));
	v->targets = calloc(boxes, AVA_CLASSES * sizeof(*v->targets));
	v->meta = calloc(boxes, 2 * sizeof(*v->meta));
	v->preds = calloc(v->index.box_count, AVA_CLASSES * sizeof(*v->preds));
	return v->first_box && v->slow && v->fast && v->rois && v->targets && v->meta && v->preds
		? OK : err(NO_MEMORY, "no memory to validate %zu clips at a time", clips);
}

int validation_open(struct validation **out, const struct validation_config *config)
{
	struct validation *v = calloc(1, sizeof(*v));
	char path[PATH_BYTES];
	int rc;

	if (!v)
		return err(NO_MEMORY, "no memory for a validation");
	v->c = *config;
	rc = ava_index_read_val(&v->index, config->data, config->every);
	if (!rc)
		rc = path_make(path, "%s/" AVA_LABEL_MAP, config->data);
	if (!rc)
		rc = ava_labels_read(&v->labels, path);
	if (!rc)
		rc = open_batch(v);
	v->makers = calloc(config->threads, sizeof(*v->makers));
	if (!rc && !v->makers)
		rc = err(NO_MEMORY, "no memory for %zu threads", config->threads);
	for (size_t i = 0; !rc && i < config->threads; i++)
		rc = clip_maker_init(&v->makers[i], &v->c.geometry);
	if (rc)
		validation_close(v);
	else
		*out = v;
	return rc;
}

void validation_close(struct validation *v)
{
	if (!v)
		return;
	for (size_t i = 0; v->makers && i < v->c.threads; i++)
		clip_maker_release(&v->makers[i]);
	free(v->makers);
	free(v->preds);
	free(v->first_box);
	free(v->slow);
	free(v->fast);
	free(v->rois);
	free(v->targets);
	free(v->meta);
	ava_labels_release(&v->labels);
	ava_index_release(&v->index);
	free(v);
}

/* ---- predictions ----------------------------------------------------------------------- */

/* The i-th clip of the batch. */
static size_t example_at(const struct validation *v, size_t i)
{
	return v->c.rank + (v->first + i) * v->c.world;
}

static int make_clip(void *context, size_t thread, size_t i)
{
	struct validation *v = context;
	const struct clip_geometry *g = &v->c.geometry;
	size_t frame = 3 * g->crop * g->crop, box = v->first_box[i];
	char why[PATH_BYTES + 256];
	const struct clip_tensors to = {
		.slow = v->slow + i * g->frames / g->alpha * frame, .fast = v->fast + i * g->frames * frame,
		.rois = v->rois + 5 * box, .labels = v->targets + AVA_CLASSES * box, .meta = v->meta + 2 * box, .place = i };

	return clip_make(&v->makers[thread], &v->index, example_at(v, i), 0, 0, &to, why, sizeof(why))
		? err(FAILED, "%s", why) : OK;
}

static int predict_batch(struct validation *v, struct kernels *k, size_t clips)
{
	size_t boxes = 0;
	int rc;

	for (size_t i = 0; i < clips; i++) {
		v->first_box[i] = boxes;
		boxes += v->index.examples[example_at(v, i)].box_count;
	}
	rc = parallel_each(clips, v->c.threads, make_clip, v);
	if (!rc)
		rc = k->backend->input(k, &(struct step_input){ .clips = v->c.clips, .boxes = boxes, .slow = v->slow,
			.fast = v->fast, .rois = v->rois, .labels = v->targets });
	if (!rc)
		rc = k->backend->evaluate(k);
	for (size_t i = 0; i < clips && !rc; i++) {
		const struct ava_example *e = &v->index.examples[example_at(v, i)];

		memcpy(v->preds + AVA_CLASSES * e->first_box, k->preds + AVA_CLASSES * v->first_box[i],
		       AVA_CLASSES * e->box_count * sizeof(*v->preds));
	}
	return rc;
}

/* ---- files ----------------------------------------------------------------------------- */

/* Every box with every class, without threshold; scores and corners with all their digits. */
static int write_detections(const struct validation *v, const char *path)
{
	const struct ava_index *ix = &v->index;
	FILE *f = file_begin(path);

	if (!f)
		return FAILED;
	for (const struct ava_example *e = ix->examples; e < ix->examples + ix->example_count; e++)
		for (size_t b = e->first_box; b < e->first_box + e->box_count; b++) {
			const struct ava_box *box = &ix->boxes[b];

			for (int id = 1; id <= AVA_CLASSES; id++)
				if (v->labels.name[id])
					fprintf(f, "%s,%04u,%.7g,%.7g,%.7g,%.7g,%d,%.9g\n", ix->videos[e->video].name, e->second,
						(double)box->x1, (double)box->y1, (double)box->x2, (double)box->y2, id,
						(double)v->preds[AVA_CLASSES * b + (size_t)id - 1]);
		}
	return file_end(f, path, OK);
}

/* The rows of the data set's file that belong to these keyframes, as they stand there. */
static int write_truth(const struct validation *v, const char *path)
{
	char from[PATH_BYTES];
	struct line_reader r;
	int rc = path_make(from, "%s/" AVA_VAL_TRUTH, v->c.data);
	FILE *f;

	if (!rc)
		rc = line_reader_open(&r, from);
	if (rc)
		return rc;
	f = file_begin(path);
	while (f && line_reader_next(&r)) {
		const char *comma = strchr(r.line, ',');

		if (!comma || strtoul(comma + 1, NULL, 10) % v->c.every == 0)
			fprintf(f, "%s\n", r.line);
	}
	line_reader_close(&r);
	return f ? file_end(f, path, OK) : FAILED;
}

static int judge(const struct validation *v, double *map)
{
	char detections[PATH_BYTES], truth[PATH_BYTES], labels[PATH_BYTES], excluded[PATH_BYTES];
	struct ava_eval_files files = { truth, detections, labels, excluded };
	struct ava_eval e;
	int rc = path_make(detections, "%s/" FOLDER_DETECTIONS, v->c.out);

	if (!rc)
		rc = path_make(truth, "%s/" FOLDER_TRUTH, v->c.out);
	if (!rc)
		rc = path_make(labels, "%s/" AVA_LABEL_MAP, v->c.data);
	if (!rc)
		rc = path_make(excluded, "%s/" AVA_VAL_EXCLUDED, v->c.data);
	if (!rc && access(excluded, F_OK))
		files.excluded = NULL;
	if (!rc)
		rc = write_detections(v, detections);
	if (!rc)
		rc = write_truth(v, truth);
	if (!rc)
		rc = ava_eval_run(&e, &files, AVA_RULE_PYSLOWFAST);
	if (rc)
		return rc;
	*map = e.map;
	ava_eval_release(&e);
	return OK;
}

int validation_run(struct validation *v, struct kernels *k, struct comm *c, struct lane *lane, double *map)
{
	size_t own = validation_clips(v), values = AVA_CLASSES * v->index.box_count;
	int rc = OK;

	memset(v->preds, 0, values * sizeof(*v->preds));
	for (v->first = 0; v->first < own && !rc; v->first += v->c.clips)
		rc = predict_batch(v, k, own - v->first < v->c.clips ? own - v->first : v->c.clips);
	if (rc)
		return rc;
	span_begin(lane, SPAN_GATHER, values * sizeof(*v->preds));
	rc = c->backend->sum(c, v->preds, values);
	span_end(lane);
	*map = NAN;
	if (!rc && c->rank == 0)
		rc = judge(v, map);
	return rc ? rc : c->backend->bcast(c, map, sizeof(*map), 0);
}
