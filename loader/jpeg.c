/*
 * loader/jpeg.c - see jpeg.h.
 *
 * Whole frames are decoded at full size: libjpeg-turbo's scaled decoding is slower than the full
 * one at 7/8 and 3/4, and gains little at 1/2 for frames near the size of the crop.
 */
#include "loader/jpeg.h"

#include "bench/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <turbojpeg.h>
#include <unistd.h>

/* No frame of a film is smaller or larger; a header that says so is damaged. */
enum { SIDE_MIN = 2, SIDE_MAX = 16384 };

int jpeg_reader_init(struct jpeg_reader *r)
{
	*r = (struct jpeg_reader){ .decoder = tjInitDecompress() };
	return r->decoder ? OK : err(NO_MEMORY, "cannot make a JPEG decoder: %s", tjGetErrorStr2(NULL));
}

void jpeg_reader_release(struct jpeg_reader *r)
{
	if (r->decoder)
		tjDestroy(r->decoder);
	free(r->file);
	free(r->rgb);
	*r = (struct jpeg_reader){ 0 };
}

static int fail(char *why, size_t why_bytes, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int fail(char *why, size_t why_bytes, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, why_bytes, format, args);
	va_end(args);
	return FAILED;
}

/* What it held is gone. */
static int make_room(uint8_t **buffer, size_t *room, size_t bytes)
{
	if (bytes <= *room)
		return OK;
	free(*buffer);
	*buffer = malloc(bytes);
	*room = *buffer ? bytes : 0;
	return *buffer ? OK : FAILED;
}

static int read_file(struct jpeg_reader *r, const char *path, size_t *bytes, char *why, size_t why_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = OK;
	struct stat st;
	size_t have = 0;
	ssize_t got = 1;

	if (fd < 0)
		return fail(why, why_bytes, "cannot open '%s': %s", path, strerror(errno));
	if (fstat(fd, &st))
		rc = fail(why, why_bytes, "cannot read '%s': %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode) || !st.st_size)
		rc = fail(why, why_bytes, "'%s' is %s", path, st.st_size ? "no file" : "empty");
	else if (make_room(&r->file, &r->file_room, (size_t)st.st_size))
		rc = fail(why, why_bytes, "no memory for '%s'", path);
	while (!rc && have < (size_t)st.st_size && got > 0) {
		got = read(fd, r->file + have, (size_t)st.st_size - have);
		if (got < 0 && errno == EINTR)
			got = 1;
		else if (got < 0)
			rc = fail(why, why_bytes, "cannot read '%s': %s", path, strerror(errno));
		else
			have += (size_t)got;
	}
	close(fd);
	*bytes = have;
	return rc;
}

int jpeg_read(struct jpeg_reader *r, const char *path, char *why, size_t why_bytes)
{
	int width, height, sampling, colours;
	size_t bytes = 0;

	if (read_file(r, path, &bytes, why, why_bytes))
		return FAILED;
	stage_end(&r->stages, STAGE_STORAGE);
	if (tjDecompressHeader3(r->decoder, r->file, bytes, &width, &height, &sampling, &colours))
		return fail(why, why_bytes, "'%s' is no JPEG: %s", path, tjGetErrorStr2(r->decoder));
	if (width < SIDE_MIN || height < SIDE_MIN || width > SIDE_MAX || height > SIDE_MAX)
		return fail(why, why_bytes, "'%s' has %d x %d pixels: no frame of a film", path, width, height);
	r->width = (size_t)width;
	r->height = (size_t)height;
	if (make_room(&r->rgb, &r->rgb_room, 3 * r->width * r->height + JPEG_SPARE))
		return fail(why, why_bytes, "no memory for the pixels of '%s'", path);
	memset(r->rgb + 3 * r->width * r->height, 0, JPEG_SPARE);
	/* A warning, such as a premature end, counts as damage: its pixels are not those of the film. */
	if (tjDecompress2(r->decoder, r->file, bytes, r->rgb, width, 0, height, TJPF_RGB, 0))
		return fail(why, why_bytes, "'%s' is damaged: %s", path, tjGetErrorStr2(r->decoder));
	stage_end(&r->stages, STAGE_DECODE);
	return OK;
}
