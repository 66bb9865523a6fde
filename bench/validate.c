/*
 * bench/validate.c - see validate.h.
 *
 * Videos whose clips come to the same size are a group; a square middle makes one group of all.  A batch, of one group,
 * is made by a few threads, then evaluated, one after the other: on CPUs both want the same cores.
 * All batches are of one number of clips, which the kernels are prepared for; what the last one lacks are clips without boxes,
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

/* Clips of one size, while they are evaluated. */
struct group {
	struct validation *v;		/* borrowed */
	struct clip_geometry geometry;
	struct kernels *kernels;	/* borrowed, or own_kernels */
	struct net own_net;
	struct kernels *own_kernels;	/* owned, as all below */
	struct clip_maker *makers;	/* one per thread */
	size_t *examples, count;	/* of this rank */
	/* The batch. */
	size_t first;			/* of `examples` */
	size_t *first_box;		/* (clips), in the batch */
	float *slow, *fast, *rois, *targets;
	uint8_t *crops;			/* rather than slow and fast, which are NULL then; else it is */
	int64_t *meta;
};

struct validation {
	struct validation_config c;
	struct ava_index index;
	struct ava_labels labels;
	struct size {
		size_t width, height;
	} *sizes;			/* owned; of the clips of each video */
	float *preds;			/* owned; (boxes of the index, AVA_CLASSES) */
};

size_t validation_boxes_max(const struct validation *v)
{
	return v->c.clips * ava_index_boxes_max(&v->index);
}

size_t validation_clips(const struct validation *v)
{
	size_t all = v->index.example_count;

	return all / v->c.world + (v->c.rank < all % v->c.world);
}

/* ---- open ------------------------------------------------------------------------------ */

/* What the clips of each video come to, by its first frame. */
static int find_sizes(struct validation *v)
{
	struct jpeg_reader jpeg;
	char path[PATH_BYTES], why[PATH_BYTES + 256];
	int rc = OK;

	v->sizes = calloc(v->index.video_count, sizeof(*v->sizes));
	if (!v->sizes || jpeg_reader_init(&jpeg))
		return err(NO_MEMORY, "no memory for the sizes of %zu videos", v->index.video_count);
	for (size_t i = 0; i < v->index.video_count && !rc; i++) {
		struct clip_view view;

		v->sizes[i] = (struct size){ v->c.geometry.crop, v->c.geometry.crop };
		if (v->c.geometry.rule != CLIP_TEST)
			continue;
		rc = ava_index_path(&v->index, i, 0, path);
		if (!rc && jpeg_read(&jpeg, path, why, sizeof(why)))
			rc = err(FAILED, "%s", why);
		if (rc)
			break;
		clip_view_test(&view, &v->c.geometry, jpeg.width, jpeg.height);
		v->sizes[i] = (struct size){ view.wide, view.high };
	}
	jpeg_reader_release(&jpeg);
	return rc;
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
		rc = find_sizes(v);
	v->preds = calloc(v->index.box_count + 1, AVA_CLASSES * sizeof(*v->preds));
	if (!rc && !v->preds)
		rc = err(NO_MEMORY, "no memory for the predictions of %zu boxes", v->index.box_count);
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
	free(v->sizes);
	free(v->preds);
	ava_labels_release(&v->labels);
	ava_index_release(&v->index);
	free(v);
}

/* ---- groups ---------------------------------------------------------------------------- */

static int open_own_kernels(struct group *g, struct kernels *k)
{
	const struct validation_config *c = &g->v->c;
	int rc = net_init_whole(&g->own_net, k->net, g->geometry.height, g->geometry.width);

	if (!rc)
		rc = k->backend->open(&g->own_kernels, &(struct kernel_config){
			.net = &g->own_net, .clips_max = c->clips, .boxes_max = validation_boxes_max(g->v),
			.threads = c->kernel_threads, .device = c->device, .precision = k->precision,
			.old_linspace = c->geometry.old_linspace });
	g->kernels = g->own_kernels;
	return rc ? rc : kernels_carry(k, g->own_kernels);
}

static void group_close(struct group *g)
{
	for (size_t i = 0; g->makers && i < g->v->c.threads; i++)
		clip_maker_release(&g->makers[i]);
	free(g->makers);
	free(g->examples);
	free(g->first_box);
	free(g->slow);
	free(g->fast);
	free(g->crops);
	free(g->rois);
	free(g->targets);
	free(g->meta);
	if (g->own_kernels)
		g->own_kernels->backend->close(g->own_kernels);
	net_release(&g->own_net);
}

/* This rank's clips of one size.  group_close() in any case. */
static int group_open(struct group *g, struct validation *v, struct size size, struct kernels *k)
{
	const struct validation_config *c = &v->c;
	size_t boxes = validation_boxes_max(v), fast = c->clips * c->geometry.frames * 3 * size.width * size.height;
	int rc = OK;

	*g = (struct group){ .v = v, .geometry = c->geometry, .kernels = k };
	g->geometry.width = size.width;
	g->geometry.height = size.height;
	g->makers = calloc(c->threads, sizeof(*g->makers));
	g->examples = calloc(validation_clips(v) + 1, sizeof(*g->examples));
	g->first_box = calloc(c->clips, sizeof(*g->first_box));
	g->slow = c->crops ? NULL : calloc(fast / c->geometry.alpha, sizeof(*g->slow));
	g->fast = c->crops ? NULL : calloc(fast, sizeof(*g->fast));
	g->crops = c->crops ? calloc(fast, sizeof(*g->crops)) : NULL;
	g->rois = calloc(boxes, 5 * sizeof(*g->rois));
	g->targets = calloc(boxes, AVA_CLASSES * sizeof(*g->targets));
	g->meta = calloc(boxes, 2 * sizeof(*g->meta));
	if (!g->makers || !g->examples || !g->first_box || !(c->crops ? g->crops != NULL : g->slow && g->fast) || !g->rois ||
	    !g->targets || !g->meta)
		return err(NO_MEMORY, "no memory to validate %zu clips at a time", c->clips);
	for (size_t i = 0; i < c->threads && !rc; i++)
		rc = clip_maker_init(&g->makers[i], &g->geometry);
	for (size_t i = c->rank; i < v->index.example_count; i += c->world) {
		const struct size *s = &v->sizes[v->index.examples[i].video];

		if (s->width == size.width && s->height == size.height)
			g->examples[g->count++] = i;
	}
	if (!rc && g->count && c->geometry.rule == CLIP_TEST)
		rc = open_own_kernels(g, k);
	return rc;
}

/* ---- predictions ----------------------------------------------------------------------- */

static int make_clip(void *context, size_t thread, size_t i)
{
	struct group *g = context;
	const struct clip_geometry *geometry = &g->geometry;
	size_t fast = geometry->frames * 3 * geometry->width * geometry->height, box = g->first_box[i];
	char why[PATH_BYTES + 256];
	const struct clip_tensors to = {
		.slow = g->slow ? g->slow + i * fast / geometry->alpha : NULL, .fast = g->fast ? g->fast + i * fast : NULL,
		.crops = g->crops ? g->crops + i * fast : NULL, .rois = g->rois + 5 * box,
		.labels = g->targets + AVA_CLASSES * box, .meta = g->meta + 2 * box, .place = i };

	return clip_make(&g->makers[thread], &g->v->index, g->examples[g->first + i], 0, 0, &to, why, sizeof(why))
		? err(FAILED, "%s", why) : OK;
}

static int predict_batch(struct group *g, size_t clips)
{
	struct validation *v = g->v;
	struct kernels *k = g->kernels;
	size_t boxes = 0;
	int rc;

	for (size_t i = 0; i < clips; i++) {
		g->first_box[i] = boxes;
		boxes += v->index.examples[g->examples[g->first + i]].box_count;
	}
	rc = parallel_each(clips, v->c.threads, make_clip, g);
	if (!rc)
		rc = k->backend->input(k, &(struct step_input){ .clips = v->c.clips, .boxes = boxes, .slow = g->slow,
			.fast = g->fast, .crops = g->crops, .rois = g->rois, .labels = g->targets });
	if (!rc)
		rc = k->backend->evaluate(k);
	if (!rc)
		rc = kernels_answer(k);
	for (size_t i = 0; i < clips && !rc; i++) {
		const struct ava_example *e = &v->index.examples[g->examples[g->first + i]];

		memcpy(v->preds + AVA_CLASSES * e->first_box, k->preds + AVA_CLASSES * g->first_box[i],
		       AVA_CLASSES * e->box_count * sizeof(*v->preds));
	}
	return rc;
}

static int predict_group(struct validation *v, struct size size, struct kernels *k)
{
	size_t clips = v->c.clips;
	struct group g;
	int rc = group_open(&g, v, size, k);

	for (; g.first < g.count && !rc; g.first += clips)
		rc = predict_batch(&g, g.count - g.first < clips ? g.count - g.first : clips);
	group_close(&g);
	return rc;
}

/* Each size once, where its first video stands. */
static int predict(struct validation *v, struct kernels *k)
{
	int rc = OK;

	for (size_t i = 0; i < v->index.video_count && !rc; i++) {
		size_t first = 0;

		while (v->sizes[first].width != v->sizes[i].width || v->sizes[first].height != v->sizes[i].height)
			first++;
		if (first == i)
			rc = predict_group(v, v->sizes[i], k);
	}
	return rc;
}

/* ---- files ----------------------------------------------------------------------------- */

/* Every box with every class, without threshold.  Corners as the annotations have them, which a float holds to seven
 * digits; scores to the last bit. */
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
	rc = line_reader_close(&r, f ? OK : FAILED);
	return f ? file_end(f, path, rc) : rc;
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
	size_t values = AVA_CLASSES * v->index.box_count;
	int rc;

	memset(v->preds, 0, values * sizeof(*v->preds));
	rc = predict(v, k);
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
