/*
 * loader/ava.c - see ava.h.
 *
 * Lines are taken apart in place: a row borrows its texts from the line.  The index is built in
 * two passes over memory: rows are collected as they come, then sorted into the order in which
 * examples are numbered (video, second, order of appearance).
 */
#include "loader/ava.h"

#include "bench/base/err.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- lines ----------------------------------------------------------------------------- */

static int no_row(char why[AVA_WHY_BYTES], const char *format, ...) __attribute__((format(printf, 2, 3)));

static int no_row(char why[AVA_WHY_BYTES], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, AVA_WHY_BYTES, format, args);
	va_end(args);
	return FAILED;
}

int ava_frame_row(char *line, struct ava_frame_row *row, char why[AVA_WHY_BYTES])
{
	char *field[5], *rest = line, *word;
	size_t n = 0;

	while ((word = strtok_r(NULL, " \t\r", &rest))) {
		if (n < ARRAY_LEN(field))
			field[n] = word;
		n++;
	}
	if (n != ARRAY_LEN(field))
		return no_row(why, "%zu fields where a frame has 5 (video, number, frame, path, labels)", n);
	*row = (struct ava_frame_row){ .video = field[0], .number = field[2], .path = field[3] };
	return OK;
}

/* Cuts `line` at its commas; the number of fields, of which at most `room` are stored. */
static size_t cut(char *line, char **field, size_t room)
{
	size_t n = 0;

	line[strcspn(line, "\r")] = '\0';
	for (;;) {
		char *comma = strchr(line, ',');

		if (n < room)
			field[n] = line;
		n++;
		if (!comma)
			return n;
		*comma = '\0';
		line = comma + 1;
	}
}

static int read_second(const char *text, unsigned *second, char why[AVA_WHY_BYTES])
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (!isdigit((unsigned char)*text) || *end || value > 1000000)
		return no_row(why, "second '%s' is no number", text);
	*second = (unsigned)value;
	return OK;
}

int ava_box_row(char *line, struct ava_box_row *row, char why[AVA_WHY_BYTES])
{
	enum { VIDEO, SECOND, X1, Y1, X2, Y2, ACTION, SCORE, FIELDS };
	char *field[FIELDS], *end;
	size_t n = cut(line, field, FIELDS);
	float corner[4];

	*row = (struct ava_box_row){ .action = -1 };
	if (n != FIELDS)
		return no_row(why, "%zu fields where a box has 8", n);
	if (!*field[VIDEO])
		return no_row(why, "no video");
	if (read_second(field[SECOND], &row->second, why))
		return FAILED;
	for (size_t i = 0; i < 4; i++) {
		corner[i] = strtof(field[X1 + i], &end);
		if (end == field[X1 + i] || *end || !(corner[i] >= 0 && corner[i] <= 1))
			return no_row(why, "coordinate '%s' is not in 0..1", field[X1 + i]);
	}
	if (corner[0] > corner[2] || corner[1] > corner[3])
		return no_row(why, "the second corner lies before the first");
	if (*field[ACTION]) {
		long action = strtol(field[ACTION], &end, 10);

		if (*end || (action != -1 && (action < 1 || action > AVA_CLASSES)))
			return no_row(why, "action '%s' is not in 1..%d", field[ACTION], AVA_CLASSES);
		row->action = (int)action;
	}
	row->score = strtod(field[SCORE], &end);
	if (end == field[SCORE] || *end)
		return no_row(why, "score or person '%s' is no number", field[SCORE]);
	/* The commas between the corners come back: together they are the name of the box. */
	for (size_t i = X1; i < Y2; i++)
		field[i][strlen(field[i])] = ',';
	row->video = field[VIDEO];
	row->corners = field[X1];
	row->x1 = corner[0];
	row->y1 = corner[1];
	row->x2 = corner[2];
	row->y2 = corner[3];
	return OK;
}

int ava_excluded_row(char *line, const char **video, unsigned *second, char why[AVA_WHY_BYTES])
{
	char *field[2];
	size_t n = cut(line, field, ARRAY_LEN(field));

	if (n != ARRAY_LEN(field) || !*field[0])
		return no_row(why, "not 'video,second'");
	*video = field[0];
	return read_second(field[1], second, why);
}

/* The rule of the official evaluator: lines that begin with exactly two blanks and a known key. */
int ava_labels_read(struct ava_labels *labels, const char *path)
{
	struct line_reader r;
	char *name = NULL;
	int rc = line_reader_open(&r, path);

	*labels = (struct ava_labels){ 0 };
	while (!rc && line_reader_next(&r)) {
		char text[128];
		int id;

		if (strncmp(r.line, "  ", 2) || isspace((unsigned char)r.line[2]))
			continue;
		if (sscanf(r.line, "  name: \"%127[^\"]\"", text) == 1) {
			free(name);
			name = strdup(text);
		} else if (sscanf(r.line, "  id: %d", &id) == 1 || sscanf(r.line, "  label_id: %d", &id) == 1) {
			if (id < 1 || id > AVA_CLASSES)
				rc = line_err(&r, FAILED, "action %d is not in 1..%d", id, AVA_CLASSES);
			else if (!name)
				rc = line_err(&r, FAILED, "action %d has no name", id);
			else if (labels->name[id])
				rc = line_err(&r, FAILED, "action %d stands here a second time", id);
			else {
				labels->name[id] = name;
				labels->count++;
				name = NULL;
			}
		}
	}
	rc = line_reader_close(&r, rc);
	free(name);
	if (!rc && !labels->count)
		rc = err(FAILED, "'%s' holds no action", path);
	if (rc)
		ava_labels_release(labels);
	return rc;
}

void ava_labels_release(struct ava_labels *labels)
{
	for (size_t i = 0; i < ARRAY_LEN(labels->name); i++)
		free(labels->name[i]);
	*labels = (struct ava_labels){ 0 };
}

/* ---- collecting ------------------------------------------------------------------------ */

/* A box while rows still come in: the list of its keyframe goes on at `next`. */
struct seen_box {
	struct ava_box box;
	char *corners;			/* owned; the four texts */
	size_t next;			/* index + 1; 0: the last one */
};

/* The line that follows as a rule: the next path of the run of the line before. */
struct guess {
	size_t run;			/* index + 1; 0: none */
	char path[PATH_BYTES];
	size_t bytes, number, digits;	/* of the path, and where its number stands */
};

/* First box + 1 of each keyframe, 0: none; videos * AVA_SECONDS of them. */
struct gather {
	struct ava_index *index;
	size_t video_room, run_room, box_room;
	size_t video;			/* of the latest row: rows of one video come together */
	size_t *last_run;		/* owned; per video, index + 1 */
	struct guess guess;
	struct seen_box *boxes;		/* owned */
	size_t box_count;
	size_t *keyframes;		/* owned */
};

static int no_memory(void)
{
	return err(NO_MEMORY, "no memory for the index of the data set");
}

/* Room for one more of `count`; NULL: no memory, `array` is still good. */
static void *grown(void *array, size_t count, size_t *room, size_t element)
{
	size_t wanted = *room ? 2 * *room : 64;
	void *more;

	if (count < *room)
		return array;
	more = realloc(array, wanted * element);
	if (more)
		*room = wanted;
	return more;
}

/* Index of the video, video_count when it is new. */
static size_t video_find(const struct gather *g, const char *name)
{
	const struct ava_index *ix = g->index;

	if (g->video < ix->video_count && !strcmp(ix->videos[g->video].name, name))
		return g->video;
	for (size_t v = 0; v < ix->video_count; v++)
		if (!strcmp(ix->videos[v].name, name))
			return v;
	return ix->video_count;
}

static int video_add(struct gather *g, const char *name)
{
	struct ava_index *ix = g->index;
	size_t room = g->video_room;
	struct ava_video *videos = grown(ix->videos, ix->video_count, &g->video_room, sizeof(*videos));
	size_t *last_run;

	if (!videos)
		return no_memory();
	ix->videos = videos;
	last_run = grown(g->last_run, ix->video_count, &room, sizeof(*last_run));
	if (!last_run)
		return no_memory();
	g->last_run = last_run;
	g->last_run[ix->video_count] = 0;
	videos[ix->video_count] = (struct ava_video){ .name = strdup(name) };
	return videos[ix->video_count++].name ? OK : no_memory();
}

/* Where the running number of a path stands: its last digits, nine at most so that it fits. */
static size_t number_at(const char *path, size_t *digits)
{
	size_t end = strlen(path), at;

	while (end && !isdigit((unsigned char)path[end - 1]))
		end--;
	for (at = end; at && end - at < 9 && isdigit((unsigned char)path[at - 1]); at--)
		;
	*digits = end - at;
	return at;
}

/* Is `path` the next one of `run`? */
static bool run_goes_on(const struct ava_run *run, const char *path, size_t at, size_t digits)
{
	char number[32];
	size_t n;

	if (!run->digits)
		return false;
	n = (size_t)snprintf(number, sizeof(number), "%0*lu", (int)run->digits, run->number + run->count);
	return n == digits && !strncmp(path + at, number, n) && !strncmp(path, run->before, at) && !run->before[at] &&
	       !strcmp(path + at + digits, run->behind);
}

static void frame_count(struct gather *g, struct ava_run *run)
{
	run->count++;
	g->index->videos[run->video].frame_count++;
	g->index->frame_count++;
}

static void guess_begin(struct gather *g)
{
	struct guess *next = &g->guess;
	const struct ava_run *run = &g->index->runs[g->last_run[g->video] - 1];
	int n;

	next->run = 0;
	if (!run->digits)
		return;
	n = snprintf(next->path, sizeof(next->path), "%s%0*lu%s", run->before, (int)run->digits, run->number + run->count,
		     run->behind);
	if (n >= (int)sizeof(next->path))
		return;
	next->run = g->last_run[g->video];
	next->bytes = (size_t)n;
	next->number = strlen(run->before);
	next->digits = next->bytes - next->number - strlen(run->behind);
}

/* Counts up in the text.  A number that grows by a digit is no guess any more. */
static void guess_advance(struct guess *next)
{
	size_t at = next->number + next->digits;

	while (at-- > next->number) {
		if (next->path[at]++ < '9')
			return;
		next->path[at] = '0';
	}
	next->run = 0;
}

static const char *behind_number(const char *p)
{
	const char *begin = p;

	while (*p >= '0' && *p <= '9')
		p++;
	return p > begin && *p == ' ' ? p + 1 : NULL;
}

/* Nearly all of the millions of lines are "VIDEO number number GUESS """; they are counted without being taken apart.
 * False: not this one. */
static bool frame_guessed(struct gather *g, const char *line)
{
	struct guess *next = &g->guess;
	struct ava_run *run = next->run ? &g->index->runs[next->run - 1] : NULL;
	const char *name = run ? g->index->videos[run->video].name : "", *p = line;
	size_t n = strlen(name);

	if (!run || strncmp(p, name, n) || p[n] != ' ')
		return false;
	p = behind_number(p + n + 1);
	p = p ? behind_number(p) : NULL;
	if (!p || strncmp(p, next->path, next->bytes) || strcmp(p + next->bytes, " \"\""))
		return false;
	frame_count(g, run);
	guess_advance(next);
	return true;
}

static int frame_add(struct gather *g, size_t video, const char *path)
{
	struct ava_index *ix = g->index;
	struct ava_run *run = g->last_run[video] ? &ix->runs[g->last_run[video] - 1] : NULL;
	size_t digits, at = number_at(path, &digits);

	if (!run || !run_goes_on(run, path, at, digits)) {
		struct ava_run *runs = grown(ix->runs, ix->run_count, &g->run_room, sizeof(*runs));

		if (!runs)
			return no_memory();
		ix->runs = runs;
		run = &runs[ix->run_count++];
		*run = (struct ava_run){
			.before = strndup(path, digits ? at : PATH_BYTES), .behind = strdup(digits ? path + at + digits : ""),
			.first_frame = ix->videos[video].frame_count, .video = video,
			.number = strtoul(path + at, NULL, 10), .digits = (unsigned)digits,
		};
		if (!run->before || !run->behind)
			return no_memory();
		g->last_run[video] = ix->run_count;
	}
	frame_count(g, run);
	return OK;
}

static int box_add(struct gather *g, size_t video, const struct ava_box_row *row)
{
	size_t *link = &g->keyframes[video * AVA_SECONDS + row->second - AVA_SECOND_MIN], at;
	struct seen_box *boxes;

	while (*link && strcmp(g->boxes[*link - 1].corners, row->corners))
		link = &g->boxes[*link - 1].next;
	at = *link;
	if (!at) {
		*link = at = g->box_count + 1;
		boxes = grown(g->boxes, g->box_count, &g->box_room, sizeof(*boxes));
		if (!boxes)
			return no_memory();
		g->boxes = boxes;
		boxes[g->box_count++] = (struct seen_box){
			.box = { .x1 = row->x1, .y1 = row->y1, .x2 = row->x2, .y2 = row->y2 },
			.corners = strdup(row->corners),
		};
		if (!boxes[at - 1].corners)
			return no_memory();
	}
	if (row->action > 0)
		g->boxes[at - 1].box.labels[(row->action - 1) / 8] |= (uint8_t)(1u << (row->action - 1) % 8);
	return OK;
}

static int read_frames(struct gather *g, const char *path)
{
	char why[AVA_WHY_BYTES];
	struct line_reader r;
	int rc = line_reader_open(&r, path);

	if (rc)
		return rc;
	line_reader_next(&r);		/* the header, whatever it says */
	while (!rc && line_reader_next(&r)) {
		struct ava_frame_row row;

		if (frame_guessed(g, r.line))
			continue;
		if (ava_frame_row(r.line, &row, why)) {
			rc = line_err(&r, FAILED, "%s", why);
			break;
		}
		g->video = video_find(g, row.video);
		if (g->video == g->index->video_count)
			rc = video_add(g, row.video);
		if (!rc)
			rc = frame_add(g, g->video, row.path);
		if (!rc)
			guess_begin(g);
	}
	rc = line_reader_close(&r, rc);
	return !rc && !g->index->frame_count ? err(FAILED, "'%s' lists no frame", path) : rc;
}

static int read_boxes(struct gather *g, const char *path, bool predicted, unsigned every)
{
	char why[AVA_WHY_BYTES];
	struct line_reader r;
	int rc = line_reader_open(&r, path);

	while (!rc && line_reader_next(&r)) {
		struct ava_box_row row;

		if (ava_box_row(r.line, &row, why))
			rc = line_err(&r, FAILED, "%s", why);
		else if ((predicted && row.score < AVA_SCORE_MIN) || row.second % every)
			continue;
		else if (row.second < AVA_SECOND_MIN || row.second > AVA_SECOND_MAX)
			rc = line_err(&r, FAILED, "second %u is not in %d..%d", row.second, AVA_SECOND_MIN,
				      AVA_SECOND_MAX);
		else if ((g->video = video_find(g, row.video)) == g->index->video_count)
			rc = line_err(&r, FAILED, "video '%s' is in no frame list", row.video);
		else
			rc = box_add(g, g->video, &row);
	}
	return line_reader_close(&r, rc);
}

/* ---- sorting --------------------------------------------------------------------------- */

static int run_order(const void *a, const void *b)
{
	const struct ava_run *x = a, *y = b;

	if (x->video != y->video)
		return x->video < y->video ? -1 : 1;
	return x->first_frame < y->first_frame ? -1 : x->first_frame > y->first_frame;
}

static void runs_settle(struct ava_index *ix)
{
	if (ix->run_count)
		qsort(ix->runs, ix->run_count, sizeof(*ix->runs), run_order);
	for (size_t i = ix->run_count; i-- > 0;) {
		struct ava_video *v = &ix->videos[ix->runs[i].video];

		v->first_run = i;
		v->run_count++;
	}
}

static int boxes_settle(struct gather *g, const char *data)
{
	struct ava_index *ix = g->index;
	size_t keyframe_count = ix->video_count * AVA_SECONDS, examples = 0;

	for (size_t k = 0; k < keyframe_count; k++)
		examples += g->keyframes[k] != 0;
	if (!examples)
		return err(FAILED, "data set '%s' has no box to read a clip for", data);
	ix->examples = malloc(examples * sizeof(*ix->examples));
	ix->boxes = malloc(g->box_count * sizeof(*ix->boxes));
	if (!ix->examples || !ix->boxes)
		return no_memory();
	for (size_t v = 0; v < ix->video_count; v++) {
		size_t before = ix->example_count;

		for (size_t s = 0; s < AVA_SECONDS; s++) {
			size_t at = g->keyframes[v * AVA_SECONDS + s];
			struct ava_example *e;

			if (!at)
				continue;
			e = &ix->examples[ix->example_count++];
			*e = (struct ava_example){ .video = (uint32_t)v, .second = (uint32_t)(AVA_SECOND_MIN + s),
						   .first_box = (uint32_t)ix->box_count };
			for (; at; at = g->boxes[at - 1].next, e->box_count++)
				ix->boxes[ix->box_count++] = g->boxes[at - 1].box;
		}
		if (ix->example_count == before)
			return err(FAILED, "data set '%s': video '%s' has frames and no box", data, ix->videos[v].name);
	}
	return OK;
}

static void gather_release(struct gather *g)
{
	for (size_t i = 0; i < g->box_count; i++)
		free(g->boxes[i].corners);
	free(g->boxes);
	free(g->keyframes);
	free(g->last_run);
}

/* ---- the index ------------------------------------------------------------------------- */

/* What belongs to a split, below its folder. */
struct split {
	const char *frames, *truth, *predicted;		/* truth: NULL, not read */
	unsigned every;
};

static int index_read(struct ava_index *ix, const char *data, const struct split *split)
{
	struct gather g = { .index = ix };
	char path[PATH_BYTES];
	int rc;

	*ix = (struct ava_index){ 0 };
	if (!dir_exists(data))
		return err(FAILED, "no data set in '%s': there is no such folder ('sfscale data make' makes one)", data);
	rc = path_make(path, "%s/" AVA_FRAMES, data);
	if (!rc && !(ix->root = strdup(path)))
		rc = no_memory();
	if (!rc)
		rc = path_make(path, "%s/%s", data, split->frames);
	if (!rc)
		rc = read_frames(&g, path);
	if (!rc) {
		runs_settle(ix);
		g.keyframes = calloc(ix->video_count * AVA_SECONDS, sizeof(*g.keyframes));
		rc = g.keyframes ? OK : no_memory();
	}
	if (!rc && split->truth)
		rc = path_make(path, "%s/%s", data, split->truth);
	if (!rc && split->truth)
		rc = read_boxes(&g, path, false, split->every);
	if (!rc)
		rc = path_make(path, "%s/%s", data, split->predicted);
	if (!rc)
		rc = read_boxes(&g, path, true, split->every);
	if (!rc)
		rc = boxes_settle(&g, data);
	gather_release(&g);
	if (rc)
		ava_index_release(ix);
	return rc;
}

int ava_index_read(struct ava_index *ix, const char *data)
{
	return index_read(ix, data, &(struct split){ AVA_TRAIN_FRAMES, AVA_TRAIN_TRUTH, AVA_TRAIN_PREDICTED, 1 });
}

int ava_index_read_val(struct ava_index *ix, const char *data, unsigned every)
{
	return index_read(ix, data, &(struct split){ AVA_VAL_FRAMES, NULL, AVA_VAL_PREDICTED, every });
}

void ava_index_release(struct ava_index *ix)
{
	for (size_t i = 0; i < ix->video_count; i++)
		free(ix->videos[i].name);
	for (size_t i = 0; i < ix->run_count; i++) {
		free(ix->runs[i].before);
		free(ix->runs[i].behind);
	}
	free(ix->videos);
	free(ix->runs);
	free(ix->examples);
	free(ix->boxes);
	free(ix->root);
	*ix = (struct ava_index){ 0 };
}

size_t ava_index_boxes_max(const struct ava_index *ix)
{
	size_t most = 0;

	for (size_t i = 0; i < ix->example_count; i++)
		if (ix->examples[i].box_count > most)
			most = ix->examples[i].box_count;
	return most;
}

static int relative_path(const struct ava_index *ix, size_t video, size_t frame, char path[PATH_BYTES])
{
	const struct ava_video *v = &ix->videos[video];
	size_t low = v->first_run, high = v->first_run + v->run_count;
	const struct ava_run *run;

	/* The last run that begins at or before the frame. */
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (ix->runs[middle].first_frame <= frame)
			low = middle;
		else
			high = middle;
	}
	run = &ix->runs[low];
	return run->digits ? path_make(path, "%s%0*lu%s", run->before, (int)run->digits,
				       run->number + (frame - run->first_frame), run->behind)
			   : path_make(path, "%s", run->before);
}

int ava_index_path(const struct ava_index *ix, size_t video, size_t frame, char path[PATH_BYTES])
{
	char relative[PATH_BYTES];

	return relative_path(ix, video, frame, relative) ? FAILED : path_make(path, "%s/%s", ix->root, relative);
}

/* ---- as a stream of records ------------------------------------------------------------ */

int ava_index_write(const struct ava_index *ix, FILE *f)
{
	char path[PATH_BYTES];

	fprintf(f, "%s\n%zu %zu %zu\n", ix->root, ix->video_count, ix->example_count, ix->box_count);
	for (size_t v = 0; v < ix->video_count; v++) {
		fprintf(f, "%zu %s\n", ix->videos[v].frame_count, ix->videos[v].name);
		for (size_t i = 0; i < ix->videos[v].frame_count; i++) {
			if (relative_path(ix, v, i, path))
				return FAILED;
			fputs(path, f);
			putc('\n', f);
		}
	}
	/* An array of none has no address. */
	if (ix->example_count)
		fwrite(ix->examples, sizeof(*ix->examples), ix->example_count, f);
	if (ix->box_count)
		fwrite(ix->boxes, sizeof(*ix->boxes), ix->box_count, f);
	return ferror(f) ? err(FAILED, "cannot serialise the index") : OK;
}

static int rebuild(struct gather *g, struct line_reader *r)
{
	struct ava_index *ix = g->index;
	size_t videos, frames;
	int begin, rc;

	if (!line_reader_next(r) || !(ix->root = strdup(r->line)) || !line_reader_next(r) ||
	    sscanf(r->line, "%zu %zu %zu", &videos, &ix->example_count, &ix->box_count) != 3)
		return line_err(r, FAILED, "broken off in the head");
	for (size_t v = 0; v < videos; v++) {
		/* One blank: a name may begin with what scanf() takes for others. */
		if (!line_reader_next(r) || sscanf(r->line, "%zu%n", &frames, &begin) != 1 || r->line[begin] != ' ')
			return line_err(r, FAILED, "broken off before video %zu", v);
		rc = video_add(g, r->line + begin + 1);
		for (size_t i = 0; i < frames && !rc; i++)
			rc = line_reader_next(r) ? frame_add(g, v, r->line)
						 : line_err(r, FAILED, "broken off in video %zu", v);
		if (rc)
			return rc;
	}
	runs_settle(ix);
	ix->examples = malloc(ix->example_count * sizeof(*ix->examples));
	ix->boxes = malloc(ix->box_count * sizeof(*ix->boxes));
	if (!ix->examples || !ix->boxes)
		return no_memory();
	if (fread(ix->examples, sizeof(*ix->examples), ix->example_count, r->file) != ix->example_count ||
	    fread(ix->boxes, sizeof(*ix->boxes), ix->box_count, r->file) != ix->box_count)
		return line_err(r, FAILED, "broken off in the boxes");
	return OK;
}

int ava_index_rebuild(struct ava_index *ix, FILE *f)
{
	struct line_reader r = { .path = "index of the data set", .file = f };
	struct gather g = { .index = ix };
	int rc;

	*ix = (struct ava_index){ 0 };
	rc = rebuild(&g, &r);
	free(r.line);
	gather_release(&g);
	if (rc)
		ava_index_release(ix);
	return rc;
}
