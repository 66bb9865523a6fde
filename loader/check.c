/*
 * loader/check.c - see check.h.
 *
 * Files are streamed: a frame list of AVA has 6 million lines, and nothing is kept of a line but
 * what it adds to its video (a name, a count, one bit per keyframe).  Frames are decoded on
 * several threads, a batch of lines at a time, and judged in the order of the lines: the same
 * set always gives the same text.
 */
#include "loader/check.h"

#include "bench/base/err.h"
#include "loader/ava.h"
#include "loader/jpeg.h"
#include "loader/parallel.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct check_kind_text check_kinds[CHECK_KINDS] = {
	[CHECK_FILE] = { "file", "a list or an annotation file is absent, unreadable or empty" },
	[CHECK_ROW] = { "row", "a line is no row: fields, action ids 1..80, coordinates 0..1, scores" },
	[CHECK_SECOND] = { "second", "there is no keyframe: outside 902..1798, or behind the end of the video" },
	[CHECK_VIDEO] = { "video", "a video is in the annotations and not in the frame list, or the reverse" },
	[CHECK_FRAME] = { "frame", "a frame is missing, out of order, damaged, or of another size than its video" },
};

const char *const check_splits[CHECK_SPLITS] = { [CHECK_TRAIN] = "train", [CHECK_VAL] = "val" };

enum { BATCH = 4096, WHY_BYTES = 2 * PATH_BYTES, HEAD_BYTES = 1 << 16 };

struct video {
	char *name;			/* owned; first: the tree compares names */
	size_t line;			/* of its first frame */
	size_t frames;
	size_t number;			/* that its next frame should have */
	size_t width, height;		/* of its first good frame; 0: none yet */
	bool has_boxes;
	uint8_t seconds[(AVA_SECONDS + 7) / 8];	/* bit per keyframe with a box that is read */
	struct video *next;		/* in the order of the frame list */
};

/* A frame of the batch: what the list says, then what the file says. */
struct frame {
	char *path;			/* owned */
	size_t line;
	struct video *video;		/* borrowed */
	size_t width, height;
	uint64_t bytes;
	char *why;			/* owned; NULL: it is good */
};

struct check {
	const char *dir;
	const struct check_config *config;
	struct check_report *report;
	struct check_counts *counts;	/* of the split in hand */
	void *tree;			/* its videos by name, owned */
	struct video *first, **last;	/* its videos in order */
	struct jpeg_reader *readers;	/* one per thread, owned */
	struct frame *batch;		/* BATCH of them, owned */
	size_t batch_count;
	bool row_lost;			/* the line before was no row, so which frame it held is not known */
};

static void found(struct check *c, enum check_kind kind, const char *path, size_t line, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

static void found(struct check *c, enum check_kind kind, const char *path, size_t line, const char *format, ...)
{
	char text[1024];
	va_list args;

	if (c->report->found[kind]++ >= c->config->show)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	err(BELOW, "%s:%zu: %s", path, line, text);
}

/* ---- videos ---------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct video *)a)->name, ((const struct video *)b)->name);
}

static struct video *video_find(const struct check *c, const char *name)
{
	struct video key = { .name = (char *)name };
	struct video **at = tfind(&key, &c->tree, by_name);

	return at ? *at : NULL;
}

static struct video *video_add(struct check *c, const char *name, size_t line)
{
	struct video *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->name = strdup(name);
	v->line = line;
	if (!v->name || !tsearch(v, &c->tree, by_name)) {
		free(v->name);
		free(v);
		return NULL;
	}
	*c->last = v;
	c->last = &v->next;
	c->counts->videos++;
	return v;
}

static void videos_drop(struct check *c)
{
	struct video *next;

	for (struct video *v = c->first; v; v = next) {
		next = v->next;
		tdelete(v, &c->tree, by_name);
		free(v->name);
		free(v);
	}
	c->first = NULL;
	c->last = &c->first;
}

/* ---- frames ---------------------------------------------------------------------------- */

/* Only what tells a whole file from a cut one: the header, which has the size, and the end marker. */
static int header_read(struct jpeg_reader *r, const char *path, char *why)
{
	static const uint8_t end_marker[] = { 0xff, 0xd9 };
	uint8_t head[HEAD_BYTES], tail[sizeof(end_marker)];
	int fd = open(path, O_RDONLY), rc = OK;
	off_t bytes = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	ssize_t got = fd < 0 ? -1 : pread(fd, head, sizeof(head), 0);

	if (got < 0)
		rc = snprintf(why, WHY_BYTES, "cannot read '%s': %s", path, strerror(errno));
	else if (jpeg_header(r, path, head, (size_t)got, why, WHY_BYTES))
		rc = FAILED;
	else if (pread(fd, tail, sizeof(tail), bytes - (off_t)sizeof(tail)) != sizeof(tail) ||
		 memcmp(tail, end_marker, sizeof(tail)))
		rc = snprintf(why, WHY_BYTES, "'%s' is damaged: it has no end marker", path);
	if (fd >= 0)
		close(fd);
	return rc ? FAILED : OK;
}

static int frame_read(void *context, size_t thread, size_t item)
{
	struct check *c = context;
	struct jpeg_reader *r = &c->readers[thread];
	struct frame *f = &c->batch[item];
	char path[PATH_BYTES], why[WHY_BYTES];
	struct stat st;
	int rc;

	if (snprintf(path, sizeof(path), "%s/" AVA_FRAMES "/%s", c->dir, f->path) >= (int)sizeof(path))
		rc = snprintf(why, sizeof(why), "the path is too long");
	else if (c->config->headers)
		rc = header_read(r, path, why);
	else
		rc = jpeg_read(r, path, why, sizeof(why));
	f->bytes = rc || stat(path, &st) ? 0 : (uint64_t)st.st_size;
	f->width = r->width;
	f->height = r->height;
	f->why = rc ? strdup(why) : NULL;
	return rc && !f->why ? err(NO_MEMORY, "no memory to say what is wrong with '%s'", path) : OK;
}

/* Reads the frames of the batch, judges them in order, empties it. */
static int batch_judge(struct check *c, const char *list)
{
	int rc = parallel_each(c->batch_count, c->config->threads, frame_read, c);

	for (size_t i = 0; i < c->batch_count; i++) {
		struct frame *f = &c->batch[i];
		struct video *v = f->video;

		c->counts->frame_bytes += f->bytes;
		if (rc)
			;	/* some frames were not read: no verdict */
		else if (f->why)
			found(c, CHECK_FRAME, list, f->line, "%s", f->why);
		else if (v->width && (v->width != f->width || v->height != f->height))
			found(c, CHECK_FRAME, list, f->line, "'%s' has %zu x %zu pixels, the first of '%s' %zu x %zu",
			      f->path, f->width, f->height, v->name, v->width, v->height);
		else {
			v->width = f->width;
			v->height = f->height;
		}
		free(f->path);
		free(f->why);
		*f = (struct frame){ 0 };
	}
	c->batch_count = 0;
	return rc;
}

/* ---- files, line by line --------------------------------------------------------------- */

/* A file of the set: its lines, or a finding when it cannot be read.  False: go on with the next file. */
static bool lines_open(struct check *c, struct line_reader *r, const char *file, char path[PATH_BYTES])
{
	struct stat st;
	int why = 0;

	*r = (struct line_reader){ 0 };
	if (path_make(path, "%s/%s", c->dir, file))
		return false;
	if (stat(path, &st) || access(path, R_OK))
		why = errno;
	else if (S_ISDIR(st.st_mode))
		why = EISDIR;
	if (!why)
		return !line_reader_open(r, path);
	if (c->report->found[CHECK_FILE]++ < c->config->show)
		err(BELOW, "cannot read '%s': %s", path, strerror(why));
	return false;
}

/* Readers find a keyframe by counting lines, so a line that is absent moves every later keyframe of its video;
 * the frame numbers, which they skip, tell. */
static void number_judge(struct check *c, const struct line_reader *r, struct video *v, const char *text)
{
	char *end;
	size_t number = strtoull(text, &end, 10);

	if (*end || end == text)
		number = v->number;
	if ((*end || number != v->number) && !c->row_lost)
		found(c, CHECK_FRAME, r->path, r->number, "frame '%s' of '%s' stands where %zu belongs: readers count lines, "
		      "so what follows shows another moment", text, v->name, v->number);
	v->number = number + 1;
	c->row_lost = false;
}

static int frame_add(struct check *c, struct line_reader *r)
{
	struct frame *f = &c->batch[c->batch_count];
	struct ava_frame_row row;
	char why[AVA_WHY_BYTES];
	struct video *v;

	if (ava_frame_row(r->line, &row, why)) {
		found(c, CHECK_ROW, r->path, r->number, "%s", why);
		c->row_lost = true;
		return OK;
	}
	/* Lines of one video stand together, as a rule. */
	v = c->batch_count && !strcmp(f[-1].video->name, row.video) ? f[-1].video : video_find(c, row.video);
	if (!v)
		v = video_add(c, row.video, r->number);
	*f = (struct frame){ .path = strdup(row.path), .line = r->number, .video = v };
	if (!v || !f->path) {
		free(f->path);
		f->path = NULL;
		return err(NO_MEMORY, "no memory for the videos of '%s'", r->path);
	}
	number_judge(c, r, v, row.number);
	v->frames++;
	c->counts->frames++;
	return ++c->batch_count == BATCH ? batch_judge(c, r->path) : OK;
}

static int frames_judge(struct check *c, const char *file)
{
	char path[PATH_BYTES];
	struct line_reader r;
	int rc = OK, last;

	c->row_lost = false;
	if (!lines_open(c, &r, file, path))
		return OK;
	if (line_reader_next(&r) && strcmp(r.line, AVA_FRAMES_HEADER))
		found(c, CHECK_ROW, path, 1, "readers skip this line unseen; it should be '%s'", AVA_FRAMES_HEADER);
	while (!rc && line_reader_next(&r))
		rc = frame_add(c, &r);
	last = batch_judge(c, path);
	if (!rc && !c->counts->frames)
		found(c, CHECK_ROW, path, r.number, "the list ends without a frame");
	rc = line_reader_close(&r, rc);
	return rc ? rc : last;
}

/* The video and the keyframe that a row names; NULL: that was a finding.  Without any frame list, which
 * was one too, no row can be blamed for its video. */
static struct video *keyframe_judge(struct check *c, const struct line_reader *r, const char *name, unsigned second)
{
	struct video *v = video_find(c, name);
	bool known = second >= AVA_SECOND_MIN && second <= AVA_SECOND_MAX;

	if (!v && c->first)
		found(c, CHECK_VIDEO, r->path, r->number, "video '%s' is not in the frame list", name);
	if (!known)
		found(c, CHECK_SECOND, r->path, r->number, "second %u is outside %d..%d", second, AVA_SECOND_MIN,
		      AVA_SECOND_MAX);
	if (!v || !known)
		return NULL;
	if (ava_keyframe(second) >= v->frames) {
		found(c, CHECK_SECOND, r->path, r->number, "second %u is frame %zu, and '%s' ends after %zu", second,
		      ava_keyframe(second), name, v->frames);
		return NULL;
	}
	return v;
}

/* Rows of a file with boxes: those that are read make their keyframe a clip. */
static void boxes_judge(struct check *c, const char *file, bool predicted, bool read)
{
	char path[PATH_BYTES], why[AVA_WHY_BYTES];
	struct line_reader r;

	if (!lines_open(c, &r, file, path))
		return;
	while (line_reader_next(&r)) {
		struct ava_box_row row;
		struct video *v;
		size_t bit;

		if (ava_box_row(r.line, &row, why)) {
			found(c, CHECK_ROW, path, r.number, "%s", why);
			continue;
		}
		if (predicted)
			c->counts->predicted_rows++;
		else
			c->counts->truth_rows++;
		if (predicted && !(row.score >= 0 && row.score <= 1))
			found(c, CHECK_ROW, path, r.number, "score %g is not in 0..1", row.score);
		v = keyframe_judge(c, &r, row.video, row.second);
		if (predicted && row.score < AVA_SCORE_MIN) {
			c->counts->dropped_rows++;
			continue;
		}
		if (!v || !read)
			continue;
		v->has_boxes = true;
		bit = row.second - AVA_SECOND_MIN;
		c->counts->clips += !(v->seconds[bit / 8] >> bit % 8 & 1);
		v->seconds[bit / 8] |= (uint8_t)(1 << bit % 8);
	}
	/* Readers take it without a word, and train or evaluate on what is left. */
	if (!r.number && c->report->found[CHECK_FILE]++ < c->config->show)
		err(BELOW, "'%s' is empty", path);
	c->report->found[CHECK_FILE] += line_reader_close(&r, OK) != OK;
}

static void excluded_judge(struct check *c, const char *file)
{
	char path[PATH_BYTES], why[AVA_WHY_BYTES];
	struct line_reader r;
	const char *video;
	unsigned second;

	if (!lines_open(c, &r, file, path))
		return;
	while (line_reader_next(&r)) {
		if (ava_excluded_row(r.line, &video, &second, why)) {
			found(c, CHECK_ROW, path, r.number, "%s", why);
			continue;
		}
		c->counts->excluded++;
		keyframe_judge(c, &r, video, second);
	}
	c->report->found[CHECK_FILE] += line_reader_close(&r, OK) != OK;
}

static void videos_judge(struct check *c, const char *list)
{
	for (const struct video *v = c->first; v; v = v->next)
		if (!v->has_boxes)
			found(c, CHECK_VIDEO, list, v->line, "video '%s' has no box that would be read", v->name);
}

static void label_map_judge(struct check *c)
{
	struct ava_labels labels;
	struct line_reader r;
	char path[PATH_BYTES];

	if (!lines_open(c, &r, AVA_LABEL_MAP, path))
		return;
	line_reader_close(&r, OK);
	if (ava_labels_read(&labels, path))	/* has said file and line */
		c->report->found[CHECK_ROW]++;
	ava_labels_release(&labels);
}

/* ---- the whole ------------------------------------------------------------------------- */

/* What belongs to a split.  Training reads both files with boxes, evaluation the predicted one. */
static const struct {
	const char *frames, *truth, *predicted, *excluded;
	bool reads_truth;
} files[CHECK_SPLITS] = {
	[CHECK_TRAIN] = { AVA_TRAIN_FRAMES, AVA_TRAIN_TRUTH, AVA_TRAIN_PREDICTED, NULL, true },
	[CHECK_VAL] = { AVA_VAL_FRAMES, AVA_VAL_TRUTH, AVA_VAL_PREDICTED, AVA_VAL_EXCLUDED, false },
};

static int split_judge(struct check *c, enum check_split split)
{
	char list[PATH_BYTES];
	int rc;

	c->counts = &c->report->splits[split];
	rc = path_make(list, "%s/%s", c->dir, files[split].frames);
	if (!rc)
		rc = frames_judge(c, files[split].frames);
	if (!rc) {
		boxes_judge(c, files[split].truth, false, files[split].reads_truth);
		boxes_judge(c, files[split].predicted, true, true);
		if (files[split].excluded)
			excluded_judge(c, files[split].excluded);
		videos_judge(c, list);
	}
	videos_drop(c);
	return rc;
}

int check_run(const char *dir, const struct check_config *config, struct check_report *report)
{
	struct check c = { .dir = dir, .config = config, .report = report, .last = &c.first };
	int rc = OK;

	*report = (struct check_report){ 0 };
	if (!dir_exists(dir))
		return err(FAILED, "'%s' is no folder", dir);
	c.batch = calloc(BATCH, sizeof(*c.batch));
	c.readers = calloc(config->threads, sizeof(*c.readers));
	if (!c.batch || !c.readers)
		rc = err(NO_MEMORY, "no memory to check '%s'", dir);
	for (size_t i = 0; !rc && i < config->threads; i++)
		rc = jpeg_reader_init(&c.readers[i]);
	for (enum check_split i = 0; !rc && i < CHECK_SPLITS; i++)
		rc = split_judge(&c, i);
	if (!rc)
		label_map_judge(&c);
	for (size_t i = 0; c.readers && i < config->threads; i++)
		jpeg_reader_release(&c.readers[i]);
	free(c.readers);
	free(c.batch);
	return rc;
}

size_t check_found(const struct check_report *report)
{
	size_t n = 0;

	for (enum check_kind i = 0; i < CHECK_KINDS; i++)
		n += report->found[i];
	return n;
}
