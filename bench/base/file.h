/*
 * bench/base/file.h - files, whole or not at all.
 *
 * What others may read appears under its name only when it is complete: written beside,
 * flushed, renamed.  A full disk or a kill leaves the former state.
 */
#ifndef SFSCALE_BASE_FILE_H
#define SFSCALE_BASE_FILE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { PATH_BYTES = 4096 };

/* printf into a path; FAILED (said) when it does not fit. */
int path_make(char path[PATH_BYTES], const char *format, ...) __attribute__((format(printf, 2, 3)));

/* mkdir -p. */
int dir_make(const char *path);
bool dir_exists(const char *path);
/* rm -r; nothing there is OK. */
int dir_remove(const char *path);

/* The whole file, with a NUL behind it that `bytes` (may be NULL) does not count.  Owned by
 * the caller (free). */
int file_read(const char *path, char **text, size_t *bytes);

/* Two names of one file that is there. */
bool file_same(const char *a, const char *b);

/* Writes `bytes` of `data` as `path`, replacing it at once or not at all. */
int file_write(const char *path, const void *data, size_t bytes);

/* For output that is printed piece by piece: opens "path.tmp" ... */
FILE *file_begin(const char *path);
/* ... and closes it: renamed to `path` when `rc` is OK and every byte arrived, removed
 * otherwise.  Returns the first failure. */
int file_end(FILE *f, const char *path, int rc);

/* JSON in and out (indented, file_write rules).  A reader's complaint names the line. */
int json_read(const char *path, cJSON **out);
int json_write(const char *path, const cJSON *value);

/* Values of an object; the default when absent or of another type. */
double json_number(const cJSON *object, const char *key, double absent);
const char *json_string(const cJSON *object, const char *key, const char *absent);

/* Lines of a text file, one at a time, with their number for messages. */
struct line_reader {
	const char *path;	/* borrowed */
	FILE *file;
	char *line;		/* without the newline; owned; valid until the next call */
	size_t room;
	size_t number;		/* of `line`, from 1 */
	int why;		/* errno of a read that failed: the lines end there, too early; else 0 */
};

int line_reader_open(struct line_reader *, const char *path);
bool line_reader_next(struct line_reader *);
/* Returns `rc`, or if that is OK, FAILED (said) when the lines ended because the file could not be read on. */
int line_reader_close(struct line_reader *, int rc);

/* "path:line: ..." through err(). */
int line_err(const struct line_reader *, int rc, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
