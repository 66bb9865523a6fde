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
	*row = (struct ava_frame_row){ .video = field[0], .path = field[3] };
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
	for (size_t i = X2; i > X1; i--)
		field[i][-1] = ',';
	field[Y2][-1] = ',';
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

		if (sscanf(r.line, "  name: \"%127[^\"]\"", text) == 1 && !isspace((unsigned char)r.line[2])) {
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
	line_reader_close(&r);
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
