/*
 * loader/ava_eval.c - see ava_eval.h.
 *
 * Both files become arrays of rows, which are dealt out to their keyframes by counting, so that
 * file order is kept inside each.  A keyframe's detections are put into the order of the rule and
 * matched; what comes of each goes to its class, and at the end every class is sorted once by
 * score.  Nothing is quadratic but detections times ground truth within one keyframe.
 *
 * Where scores are equal the evaluators leave the order to numpy's sort; here the later one comes
 * first, which is a stable sort, reversed.
 *
 * Arithmetic is theirs: float64, overlaps in coordinates as given, precision at every point of
 * recall.
 */
#include "loader/ava_eval.h"

#include "bench/base/err.h"
#include "bench/base/hash.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT = 50 };		/* activitynet: labelled boxes of a keyframe */
#define OVERLAP 0.5

/* A labelled box. */
struct row {
	double x1, y1, x2, y2, score;
	uint32_t keyframe;
	uint8_t action;
	bool taken;		/* of ground truth: a detection has it */
};

struct rows {
	struct row *at;		/* owned */
	size_t count, room;
	uint32_t *order;	/* owned; the rows keyframe by keyframe, in file order inside each */
	size_t *first;		/* owned; of each keyframe, and the end: into `order` */
};

struct keyframe {
	char *video;		/* owned */
	int64_t moment;		/* pyslowfast: seconds; activitynet: microseconds */
	bool in_truth, excluded;
};

/* What became of a detection. */
struct outcome {
	double score;
	uint32_t place;		/* among all; of equal scores the later one comes first */
	bool hit;
};

struct eval {
	enum ava_rule rule;
	const struct ava_labels *labels;
	struct keyframe *keyframes;	/* owned; in the order in which files name them */
	size_t keyframe_count, keyframe_room;
	uint32_t *slots;		/* owned; hash table: index of a keyframe + 1 */
	size_t slot_count;		/* a power of two, or 0 */
	struct rows truth, detections;
	struct outcome *outcomes;	/* owned; class by class */
	size_t outcome_first[AVA_CLASSES + 2], outcome_count[AVA_CLASSES + 1];
	uint32_t places;
};

static int no_memory(const char *what)
{
	return err(NO_MEMORY, "no memory to evaluate %s", what);
}

/* ---- keyframes ------------------------------------------------------------------------- */

static size_t slot_of(const struct eval *e, const char *video, int64_t moment)
{
	size_t mask = e->slot_count - 1;
	size_t slot = hash_word(hash_text(HASH_START, video), (uint64_t)moment, 8) & mask;

	while (e->slots[slot]) {
		const struct keyframe *k = &e->keyframes[e->slots[slot] - 1];

		if (k->moment == moment && !strcmp(k->video, video))
			break;
		slot = (slot + 1) & mask;
	}
	return slot;
}

/* Keeps the table at most half full. */
static int slots_grow(struct eval *e)
{
	uint32_t *before = e->slots;

	if (2 * (e->keyframe_count + 1) <= e->slot_count)
		return OK;
	e->slot_count = e->slot_count ? 2 * e->slot_count : 1024;
	e->slots = calloc(e->slot_count, sizeof(*e->slots));
	free(before);
	if (!e->slots)
		return no_memory("the keyframes");
	for (size_t i = 0; i < e->keyframe_count; i++)
		e->slots[slot_of(e, e->keyframes[i].video, e->keyframes[i].moment)] = (uint32_t)i + 1;
	return OK;
}

static int keyframe_find(struct eval *e, const char *video, int64_t moment, uint32_t *index)
{
	size_t slot;
	int rc = slots_grow(e);

	if (rc)
		return rc;
	slot = slot_of(e, video, moment);
	if (!e->slots[slot]) {
		if (e->keyframe_count == e->keyframe_room) {
			size_t room = e->keyframe_room ? 2 * e->keyframe_room : 1024;
			struct keyframe *more = realloc(e->keyframes, room * sizeof(*more));

			if (!more)
				return no_memory("the keyframes");
			e->keyframes = more;
			e->keyframe_room = room;
		}
		e->keyframes[e->keyframe_count] = (struct keyframe){ .video = strdup(video), .moment = moment };
		if (!e->keyframes[e->keyframe_count].video)
			return no_memory("the keyframes");
		e->slots[slot] = (uint32_t)++e->keyframe_count;
	}
	*index = e->slots[slot] - 1;
	return OK;
}

/* ---- fields ---------------------------------------------------------------------------- */

/* A finite decimal number.  What has 15 digits at most is exact as a quotient of two whole numbers. */
static bool read_number(const char *text, double *value)
{
	static const double tens[] = { 1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15 };
	const char *at = text;
	uint64_t digits = 0;
	size_t count = 0, behind = 0;
	char *end;

	for (; isdigit((unsigned char)*at) && count < 16; count++)
		digits = 10 * digits + (uint64_t)(*at++ - '0');
	if (*at == '.')
		for (at++; isdigit((unsigned char)*at) && count < 16; count++, behind++)
			digits = 10 * digits + (uint64_t)(*at++ - '0');
	if (!*at && count && count < 16) {
		*value = (double)digits / tens[behind];
		return true;
	}
	if (text[strcspn(text, "xX")])		/* hexadecimal, which strtod would take */
		return false;
	*value = strtod(text, &end);
	return end != text && !end[strspn(end, " \t")] && isfinite(*value);
}

static bool read_whole(const char *text, int64_t *value)
{
	char *end;

	*value = strtoll(text, &end, 10);
	return end != text && !end[strspn(end, " \t")];
}

/* Seconds, as the rule tells keyframes apart. */
static bool read_moment(enum ava_rule rule, const char *text, int64_t *moment)
{
	enum { MICROS = 6 };
	char fixed[64], *point;
	double seconds;

	if (rule == AVA_RULE_PYSLOWFAST)
		return read_whole(text, moment);
	if (!read_number(text, &seconds) || fabs(seconds) > 1e12)
		return false;
	snprintf(fixed, sizeof(fixed), "%.*f", MICROS, seconds);
	point = strchr(fixed, '.');
	memmove(point, point + 1, MICROS + 1);
	*moment = strtoll(fixed, NULL, 10);
	return true;
}

/* The evaluators read rows by Python's csv module, which takes quotes away; nothing in AVA has any. */
enum { VIDEO, SECOND, X1, Y1, X2, Y2, ACTION, SCORE, FIELDS };

static size_t cut(char *line, const char *field[FIELDS])
{
	size_t n = 0;

	if (!*line)
		return 0;
	for (;;) {
		char *comma = strchr(line, ',');

		if (n < FIELDS)
			field[n] = line;
		n++;
		if (!comma)
			return n;
		*comma = '\0';
		line = comma + 1;
	}
}

/* ---- files ----------------------------------------------------------------------------- */

/* Rows of one keyframe stand together, as a rule. */
struct last {
	char text[256];		/* its first two fields as they stand in the file */
	size_t bytes;		/* of them; 0: none yet */
	uint32_t keyframe;
};

static int row_keyframe(struct eval *e, struct last *last, const struct line_reader *r, const char *const *field,
			uint32_t *keyframe)
{
	size_t bytes = (size_t)(field[SECOND] - field[VIDEO]) + strlen(field[SECOND]) + 1;
	int64_t moment;
	int rc;

	if (bytes == last->bytes && !memcmp(last->text, field[VIDEO], bytes)) {
		*keyframe = last->keyframe;
		return OK;
	}
	if (!read_moment(e->rule, field[SECOND], &moment))
		return line_err(r, FAILED, "second '%s' is no %snumber", field[SECOND],
				e->rule == AVA_RULE_PYSLOWFAST ? "whole " : "");
	rc = keyframe_find(e, field[VIDEO], moment, keyframe);
	if (!rc && bytes <= sizeof(last->text)) {
		memcpy(last->text, field[VIDEO], bytes);
		last->bytes = bytes;
		last->keyframe = *keyframe;
	}
	return rc;
}

static struct row *row_add(struct rows *rows)
{
	if (rows->count == rows->room) {
		size_t room = rows->room ? 2 * rows->room : 4096;
		struct row *more = room <= UINT32_MAX ? realloc(rows->at, room * sizeof(*more)) : NULL;

		if (!more)
			return NULL;
		rows->at = more;
		rows->room = room;
	}
	return &rows->at[rows->count++];
}

/* A row with a box.  The evaluators pass an action over that is not in the label map after they have read the corners,
 * and before the score. */
static int read_box(struct eval *e, const struct line_reader *r, const char *const *field, size_t fields,
		    uint32_t keyframe, bool truth)
{
	double corner[4], score = 1;
	int64_t action;
	struct row *row;

	for (size_t i = 0; i < 4; i++)
		if (!read_number(field[X1 + i], &corner[i]))
			return line_err(r, FAILED, "coordinate '%s' is no number", field[X1 + i]);
	if (!read_whole(field[ACTION], &action))
		return line_err(r, FAILED, "action '%s' is no whole number", field[ACTION]);
	if (action < 1 || action > AVA_CLASSES || !e->labels->name[action])
		return OK;
	if (e->rule == AVA_RULE_PYSLOWFAST && !truth && fields < FIELDS)
		return line_err(r, FAILED, "%zu fields: a detection without a score", fields);
	if (fields == FIELDS && !(e->rule == AVA_RULE_PYSLOWFAST && truth) && !read_number(field[SCORE], &score))
		return line_err(r, FAILED, "%s '%s' is no number", truth ? "person" : "score", field[SCORE]);
	if (truth && e->keyframes[keyframe].excluded)
		return OK;
	if (truth && (corner[0] > corner[2] || corner[1] > corner[3]))
		return line_err(r, FAILED, "ground truth whose second corner lies before the first");
	row = row_add(truth ? &e->truth : &e->detections);
	if (!row)
		return no_memory(r->path);
	*row = (struct row){ .x1 = corner[0], .y1 = corner[1], .x2 = corner[2], .y2 = corner[3], .score = score,
			     .keyframe = keyframe, .action = (uint8_t)action };
	return OK;
}

static int read_boxes(struct eval *e, const char *path, bool truth)
{
	struct last last = { .bytes = 0 };
	struct line_reader r;
	int rc = line_reader_open(&r, path);

	while (!rc && line_reader_next(&r)) {
		const char *field[FIELDS];
		size_t n = cut(r.line, field);
		bool without_box = n == 2;
		uint32_t keyframe;

		if (n != FIELDS && n != FIELDS - 1 && !without_box) {
			rc = line_err(&r, FAILED, "%zu fields where a row has 2, 7 or 8", n);
			break;
		}
		rc = row_keyframe(e, &last, &r, field, &keyframe);
		if (!rc && truth)
			e->keyframes[keyframe].in_truth = true;
		if (!rc && !without_box)
			rc = read_box(e, &r, field, n, keyframe, truth);
	}
	return line_reader_close(&r, rc);
}

static int read_excluded(struct eval *e, const char *path)
{
	struct line_reader r;
	int rc = line_reader_open(&r, path);

	while (!rc && line_reader_next(&r)) {
		const char *field[FIELDS];
		size_t n = cut(r.line, field);
		int64_t moment;
		uint32_t keyframe;

		if (n != 2)
			rc = line_err(&r, FAILED, "%zu fields where an excluded keyframe has 2 (video, second)", n);
		else if (!read_moment(e->rule, field[SECOND], &moment))
			rc = line_err(&r, FAILED, "second '%s' is no whole number", field[SECOND]);
		else
			rc = keyframe_find(e, field[VIDEO], moment, &keyframe);
		if (!rc)
			e->keyframes[keyframe].excluded = true;
	}
	return line_reader_close(&r, rc);
}

/* Deals the rows out to their keyframes. */
static int rows_deal(struct rows *rows, size_t keyframes)
{
	rows->order = malloc((rows->count + 1) * sizeof(*rows->order));
	rows->first = calloc(keyframes + 2, sizeof(*rows->first));
	if (!rows->order || !rows->first)
		return no_memory("the rows");
	for (size_t i = 0; i < rows->count; i++)
		rows->first[rows->at[i].keyframe + 2]++;
	for (size_t k = 2; k < keyframes + 2; k++)
		rows->first[k] += rows->first[k - 1];
	/* Now first[k + 1] is where the next row of keyframe k goes, and in the end where k + 1 begins. */
	for (size_t i = 0; i < rows->count; i++)
		rows->order[rows->first[rows->at[i].keyframe + 1]++] = (uint32_t)i;
	return OK;
}

/* ---- the order within a keyframe ------------------------------------------------------- */

/*
 * ActivityNet keeps the best rows of a keyframe in a heap of Python's heapq, as tuples (score, action, y1, x1, y2, x2), and
 * sorts what is left by score; equal scores stay in the order of the heap's array.  The moves below are heapq's, so that
 * even this order is the same.
 */
static bool tuple_less(const struct row *a, const struct row *b)
{
	const double x[] = { a->score, a->action, a->y1, a->x1, a->y2, a->x2 };
	const double y[] = { b->score, b->action, b->y1, b->x1, b->y2, b->x2 };

	for (size_t i = 0; i < ARRAY_LEN(x); i++)
		if (x[i] != y[i])
			return x[i] < y[i];
	return false;
}

/* Moves the row at `at` towards the root, until its parent is not greater. */
static void heap_rise(const struct row **heap, size_t root, size_t at)
{
	const struct row *row = heap[at];

	while (at > root && tuple_less(row, heap[(at - 1) / 2])) {
		heap[at] = heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	heap[at] = row;
}

/* Replaces the least: smaller children come up all the way to a leaf, where the new row goes, and rises. */
static void heap_replace(const struct row **heap, size_t count, const struct row *row)
{
	size_t at = 0, child;

	while ((child = 2 * at + 1) < count) {
		if (child + 1 < count && !tuple_less(heap[child], heap[child + 1]))
			child++;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = row;
	heap_rise(heap, 0, at);
}

/* The detections order[0..count) of a keyframe that activitynet looks at, in its order. */
static size_t best_rows(const struct rows *rows, const uint32_t *order, size_t count, const struct row *best[LIMIT])
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		const struct row *row = &rows->at[order[i]];

		if (n < LIMIT) {
			best[n++] = row;
			heap_rise(best, 0, n - 1);
		} else if (row->score > best[0]->score)
			heap_replace(best, n, row);
	}
	for (size_t i = 1; i < n; i++) {	/* insertion: stable */
		const struct row *row = best[i];
		size_t at = i;

		for (; at && best[at - 1]->score < row->score; at--)
			best[at] = best[at - 1];
		best[at] = row;
	}
	return n;
}

/* ---- matching -------------------------------------------------------------------------- */

static double overlap(const struct row *a, const struct row *b)
{
	double high = fmax(0, fmin(a->y2, b->y2) - fmax(a->y1, b->y1));
	double wide = fmax(0, fmin(a->x2, b->x2) - fmax(a->x1, b->x1));
	double common = high * wide;

	return common / ((a->y2 - a->y1) * (a->x2 - a->x1) + (b->y2 - b->y1) * (b->x2 - b->x1) - common);
}

static void match(struct eval *e, const struct row *d)
{
	struct rows *truth = &e->truth;
	struct row *best = NULL;
	double most = -1;
	bool hit;

	if (!(d->x1 < d->x2 && d->y1 < d->y2))
		return;
	for (size_t i = truth->first[d->keyframe]; i < truth->first[d->keyframe + 1]; i++) {
		struct row *t = &truth->at[truth->order[i]];
		double share = t->action == d->action ? overlap(d, t) : -1;

		if (share > most) {
			most = share;
			best = t;
		}
	}
	hit = best && most >= OVERLAP && !best->taken;
	if (hit)
		best->taken = true;
	e->outcomes[e->outcome_first[d->action] + e->outcome_count[d->action]++] =
		(struct outcome){ .score = d->score, .place = e->places++, .hit = hit };
}

static void match_keyframe(struct eval *e, size_t keyframe)
{
	const struct rows *rows = &e->detections;
	const uint32_t *order = rows->order + rows->first[keyframe];
	size_t count = rows->first[keyframe + 1] - rows->first[keyframe];
	const struct row *best[LIMIT];

	if (e->rule == AVA_RULE_PYSLOWFAST) {
		for (size_t i = 0; i < count; i++)
			match(e, &rows->at[order[i]]);
		return;
	}
	count = best_rows(rows, order, count, best);
	for (size_t i = 0; i < count; i++)
		match(e, best[i]);
}

/* Detections there are as if they were not. */
static bool left_out(const struct eval *e, const struct keyframe *k)
{
	return e->rule == AVA_RULE_PYSLOWFAST ? k->excluded : !k->in_truth;
}

static int match_all(struct eval *e, size_t *keyframes)
{
	int rc = rows_deal(&e->truth, e->keyframe_count);

	if (!rc)
		rc = rows_deal(&e->detections, e->keyframe_count);
	if (rc)
		return rc;
	e->outcomes = malloc((e->detections.count + 1) * sizeof(*e->outcomes));
	if (!e->outcomes)
		return no_memory("the detections");
	for (size_t i = 0; i < e->detections.count; i++)
		e->outcome_first[e->detections.at[i].action + 1]++;
	for (size_t c = 1; c < ARRAY_LEN(e->outcome_first); c++)
		e->outcome_first[c] += e->outcome_first[c - 1];
	for (size_t k = 0; k < e->keyframe_count; k++)
		if (!left_out(e, &e->keyframes[k])) {
			match_keyframe(e, k);
			(*keyframes)++;
		}
	return OK;
}

/* ---- average precision ----------------------------------------------------------------- */

static int by_score(const void *a, const void *b)
{
	const struct outcome *x = a, *y = b;

	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return x->place > y->place ? -1 : 1;
}

/* From the far end, so that the running maximum of precision is at hand wherever recall moves, which is at hits. */
static double average_precision(struct outcome *o, size_t count, size_t truth)
{
	size_t hits = 0;
	double sum = 0, best = 0;

	qsort(o, count, sizeof(*o), by_score);
	for (size_t i = 0; i < count; i++)
		hits += o[i].hit;
	for (size_t i = count; i-- > 0;) {
		if (!o[i].hit)
			continue;
		best = fmax(best, (double)hits / (double)(i + 1));
		sum += best;
		hits--;
	}
	return sum / (double)truth;
}

static void judge(struct eval *e, struct ava_eval *out)
{
	double sum = 0;

	for (size_t i = 0; i < e->truth.count; i++)
		out->classes[e->truth.at[i].action].truth++;
	for (size_t id = 0; id <= AVA_CLASSES; id++) {
		struct ava_eval_class *c = &out->classes[id];

		c->detections = e->outcome_count[id];
		c->ap = c->truth ? average_precision(e->outcomes + e->outcome_first[id], c->detections, c->truth) : NAN;
		if (c->truth) {
			out->class_count++;
			sum += c->ap;
		}
	}
	out->map = out->class_count ? sum / (double)out->class_count : NAN;
}

/* ---- the whole ------------------------------------------------------------------------- */

static void rows_release(struct rows *rows)
{
	free(rows->at);
	free(rows->order);
	free(rows->first);
}

static void eval_release(struct eval *e)
{
	for (size_t i = 0; i < e->keyframe_count; i++)
		free(e->keyframes[i].video);
	free(e->keyframes);
	free(e->slots);
	rows_release(&e->truth);
	rows_release(&e->detections);
	free(e->outcomes);
}

int ava_eval_run(struct ava_eval *out, const struct ava_eval_files *files, enum ava_rule rule)
{
	struct eval e = { .rule = rule, .labels = &out->labels };
	int rc;

	*out = (struct ava_eval){ .map = NAN };
	rc = ava_labels_read(&out->labels, files->labels);
	if (!rc && files->excluded && rule == AVA_RULE_PYSLOWFAST)
		rc = read_excluded(&e, files->excluded);
	if (!rc)
		rc = read_boxes(&e, files->truth, true);
	if (!rc)
		rc = read_boxes(&e, files->detections, false);
	if (!rc)
		rc = match_all(&e, &out->keyframes);
	if (!rc)
		judge(&e, out);
	eval_release(&e);
	if (rc)
		ava_eval_release(out);
	return rc;
}

void ava_eval_release(struct ava_eval *out)
{
	ava_labels_release(&out->labels);
	*out = (struct ava_eval){ .map = NAN };
}
