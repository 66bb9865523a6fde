/*
 * bench/base/file.c - see file.h.
 */
#include "bench/base/file.h"

#include "bench/base/err.h"

#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int path_make(char path[PATH_BYTES], const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(path, PATH_BYTES, format, args);
	va_end(args);
	return n < 0 || n >= PATH_BYTES ? err(FAILED, "path too long: '%.60s...'", path) : OK;
}

bool dir_exists(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *walk)
{
	(void)s, (void)kind, (void)walk;
	return remove(path);
}

int dir_remove(const char *path)
{
	if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) && errno != ENOENT)
		return err(FAILED, "cannot remove '%s': %s", path, strerror(errno));
	return OK;
}

int dir_make(const char *path)
{
	char part[PATH_BYTES];

	if (path_make(part, "%s", path))
		return FAILED;
	for (char *at = part + 1;; at++) {
		char end = *at;

		if (end && end != '/')
			continue;
		*at = '\0';
		if (mkdir(part, 0777) && errno != EEXIST)
			return err(FAILED, "cannot make directory '%s': %s", part, strerror(errno));
		*at = end;
		if (!end)
			break;
	}
	return dir_exists(path) ? OK : err(FAILED, "'%s' is not a directory", path);
}

int file_read(const char *path, char **text, size_t *bytes)
{
	size_t used = 0, room = 1 << 16, got;
	FILE *f = fopen(path, "rb");
	struct stat s;
	char *data, *more;
	int rc = OK;

	if (!f)
		return err(FAILED, "cannot open '%s': %s", path, strerror(errno));
	if (!fstat(fileno(f), &s) && s.st_size > 0)	/* a hint: one block, one read; a pipe has no size */
		room = (size_t)s.st_size + 2;
	data = malloc(room);
	while (data && (got = fread(data + used, 1, room - used - 1, f)) > 0) {
		used += got;
		if (room - used > 1)
			continue;
		more = realloc(data, room *= 2);
		if (!more)
			free(data);
		data = more;
	}
	if (!data)
		rc = err(NO_MEMORY, "no memory for '%s'", path);
	else if (ferror(f))
		rc = err(FAILED, "cannot read '%s': %s", path, strerror(errno));
	fclose(f);
	if (rc) {
		free(data);
		return rc;
	}
	data[used] = '\0';
	*text = data;
	if (bytes)
		*bytes = used;
	return OK;
}

bool file_same(const char *a, const char *b)
{
	struct stat x, y;

	return !strcmp(a, b) || (!stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

FILE *file_begin(const char *path)
{
	char beside[PATH_BYTES];
	FILE *f;

	if (path_make(beside, "%s.tmp", path))
		return NULL;
	f = fopen(beside, "wb");
	if (!f)
		err(FAILED, "cannot write '%s': %s", beside, strerror(errno));
	return f;
}

int file_end(FILE *f, const char *path, int rc)
{
	char beside[PATH_BYTES];
	bool arrived = !ferror(f) && !fflush(f) && !fsync(fileno(f));
	int why = errno;

	if (fclose(f) && arrived) {
		arrived = false;
		why = errno;
	}
	if (path_make(beside, "%s.tmp", path))
		return FAILED;
	if (!rc && !arrived)
		rc = err(FAILED, "cannot write '%s': %s", path, strerror(why));
	if (!rc && rename(beside, path))
		rc = err(FAILED, "cannot rename '%s': %s", beside, strerror(errno));
	if (rc)
		unlink(beside);
	return rc;
}

int file_write(const char *path, const void *data, size_t bytes)
{
	FILE *f = file_begin(path);

	if (!f)
		return FAILED;
	fwrite(data, 1, bytes, f);
	return file_end(f, path, OK);
}

int json_read(const char *path, cJSON **out)
{
	const char *end = NULL;
	char *text;
	size_t line = 1;
	int rc = file_read(path, &text, NULL);

	if (rc)
		return rc;
	*out = cJSON_ParseWithOpts(text, &end, 1);
	if (!*out) {
		for (const char *at = text; at < end; at++)
			line += *at == '\n';
		rc = err(FAILED, "%s:%zu: not JSON", path, line);
	}
	free(text);
	return rc;
}

int json_write(const char *path, const cJSON *value)
{
	char *text = cJSON_Print(value);
	FILE *f;

	if (!text)
		return err(NO_MEMORY, "no memory to print '%s'", path);
	f = file_begin(path);
	if (f)
		fprintf(f, "%s\n", text);
	free(text);
	return f ? file_end(f, path, OK) : FAILED;
}

double json_number(const cJSON *object, const char *key, double absent)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, key);

	return cJSON_IsNumber(v) ? v->valuedouble : absent;
}

const char *json_string(const cJSON *object, const char *key, const char *absent)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, key);

	return cJSON_IsString(v) ? v->valuestring : absent;
}

int line_reader_open(struct line_reader *r, const char *path)
{
	*r = (struct line_reader){ .path = path, .file = fopen(path, "r") };
	return r->file ? OK : err(FAILED, "cannot open '%s': %s", path, strerror(errno));
}

bool line_reader_next(struct line_reader *r)
{
	ssize_t n = getline(&r->line, &r->room, r->file);

	if (n < 0) {
		r->why = ferror(r->file) ? errno : 0;
		return false;
	}
	r->number++;
	if (n && r->line[n - 1] == '\n')
		r->line[--n] = '\0';
	if (n && r->line[n - 1] == '\r')
		r->line[n - 1] = '\0';
	return true;
}

int line_reader_close(struct line_reader *r, int rc)
{
	if (!rc && r->why)
		rc = err(FAILED, "cannot read '%s' to its end: %s", r->path, strerror(r->why));
	if (r->file)
		fclose(r->file);
	free(r->line);
	*r = (struct line_reader){ 0 };
	return rc;
}

int line_err(const struct line_reader *r, int rc, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return err(rc, "%s:%zu: %s", r->path, r->number, text);
}
