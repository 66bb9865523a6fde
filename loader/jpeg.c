/*
 * loader/jpeg.c - see jpeg.h.
 *
 * Decoding is most of what a clip costs, and the crop shows some two thirds of a frame.  Rows above the window are only
 * parsed, columns beside it are parsed and not transformed, and rows below it are not looked at.  The library rounds a
 * window to its blocks, and at a window's edge it does not know the chroma of the neighbour, which would change the
 * outermost pixels: hence the margin.  What is parsed one after another cannot be had in part (progressive files); and a
 * file without end marker is decoded to its end, so that the library says what is missing.
 *
 * Not here: decoding at a reduced scale.  It is slower than the full one at 7/8 and 3/4, and gains little at 1/2 for
 * frames near the size of the crop.
 */
#include "loader/jpeg.h"

#include "bench/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jpeglib.h>

/* No frame of a film is smaller or larger; a header that says so is damaged. */
enum { SIDE_MIN = 2, SIDE_MAX = 16384 };

/* Pixels around a window whose chroma is interpolated from outside of it. */
enum { MARGIN = 2 };

struct jpeg_decoder {
	struct jpeg_decompress_struct info;
	struct jpeg_error_mgr errors;
	jmp_buf failed;			/* where the library's errors lead */
	char what[JMSG_LENGTH_MAX];
};

/* ---- the library's errors -------------------------------------------------------------- */

static void on_error(j_common_ptr info)
{
	struct jpeg_decoder *d = info->client_data;

	info->err->format_message(info, d->what);
	longjmp(d->failed, 1);
}

/* A warning, such as a premature end, counts as damage: its pixels are not those of the film. */
static void on_message(j_common_ptr info, int level)
{
	if (level < 0)
		on_error(info);
}

int jpeg_reader_init(struct jpeg_reader *r)
{
	struct jpeg_decoder *d = calloc(1, sizeof(*d));

	*r = (struct jpeg_reader){ .decoder = d };
	if (!d)
		return err(NO_MEMORY, "no memory for a JPEG decoder");
	d->info.err = jpeg_std_error(&d->errors);
	d->errors.error_exit = on_error;
	d->errors.emit_message = on_message;
	d->info.client_data = d;
	if (!setjmp(d->failed)) {
		jpeg_create_decompress(&d->info);
		return OK;
	}
	jpeg_reader_release(r);
	return err(NO_MEMORY, "cannot make a JPEG decoder: %s", d->what);
}

void jpeg_reader_release(struct jpeg_reader *r)
{
	if (r->decoder)
		jpeg_destroy_decompress(&r->decoder->info);
	free(r->decoder);
	free(r->file);
	free(r->memory);
	*r = (struct jpeg_reader){ 0 };
}

/* ---- files ----------------------------------------------------------------------------- */

static int fail(int rc, char *why, size_t why_bytes, const char *format, ...) __attribute__((format(printf, 4, 5)));

static int fail(int rc, char *why, size_t why_bytes, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, why_bytes, format, args);
	va_end(args);
	return rc;
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

static int read_file(struct jpeg_reader *r, const char *path, char *why, size_t why_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = OK;
	struct stat st;
	size_t have = 0;
	ssize_t got = 1;

	if (fd < 0)
		return fail(FAILED, why, why_bytes, "cannot open '%s': %s", path, strerror(errno));
	if (fstat(fd, &st))
		rc = fail(FAILED, why, why_bytes, "cannot read '%s': %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		rc = fail(FAILED, why, why_bytes, "'%s' is no file", path);
	else if (!st.st_size)
		rc = fail(JPEG_DAMAGED, why, why_bytes, "'%s' is empty", path);
	else if (make_room(&r->file, &r->file_room, (size_t)st.st_size))
		rc = fail(NO_MEMORY, why, why_bytes, "no memory for '%s'", path);
	while (!rc && have < (size_t)st.st_size && got > 0) {
		got = read(fd, r->file + have, (size_t)st.st_size - have);
		if (got < 0 && errno == EINTR)
			got = 1;
		else if (got < 0)
			rc = fail(FAILED, why, why_bytes, "cannot read '%s': %s", path, strerror(errno));
		else
			have += (size_t)got;
	}
	if (!rc && have < (size_t)st.st_size)
		rc = fail(FAILED, why, why_bytes, "cannot read '%s': it ended after %zu of its %lld bytes", path, have,
			  (long long)st.st_size);
	close(fd);
	r->file_bytes = have;
	return rc;
}

/* ---- pixels ---------------------------------------------------------------------------- */

int jpeg_header(struct jpeg_reader *r, const char *path, const uint8_t *head, size_t bytes, char *why, size_t why_bytes)
{
	struct jpeg_decoder *d = r->decoder;

	jpeg_abort_decompress(&d->info);
	if (setjmp(d->failed))
		return fail(JPEG_DAMAGED, why, why_bytes, "'%s' is no JPEG: %s", path, d->what);
	jpeg_mem_src(&d->info, head, bytes);
	jpeg_read_header(&d->info, TRUE);
	r->width = d->info.image_width;
	r->height = d->info.image_height;
	if (r->width < SIDE_MIN || r->height < SIDE_MIN || r->width > SIDE_MAX || r->height > SIDE_MAX)
		return fail(JPEG_DAMAGED, why, why_bytes, "'%s' has %zu x %zu pixels: no frame of a film", path, r->width,
			    r->height);
	return OK;
}

int jpeg_open(struct jpeg_reader *r, const char *path, char *why, size_t why_bytes)
{
	int rc = read_file(r, path, why, why_bytes);

	stage_end(&r->stages, STAGE_STORAGE);
	return rc ? rc : jpeg_header(r, path, r->file, r->file_bytes, why, why_bytes);
}

/* What will be decoded so that `wanted` is there; its right edge may still move out to a block's. */
static struct jpeg_window widened(const struct jpeg_reader *r, const struct jpeg_window *wanted)
{
	const uint8_t *end = r->file + r->file_bytes;
	struct jpeg_window w = { .width = r->width, .height = r->height };
	size_t right = wanted->x + wanted->width + MARGIN, below = wanted->y + wanted->height;

	if (r->decoder->info.progressive_mode || end[-2] != 0xff || end[-1] != JPEG_EOI)
		return w;
	w.x = wanted->x > MARGIN ? wanted->x - MARGIN : 0;
	w.y = wanted->y > MARGIN ? wanted->y - MARGIN : 0;
	w.width = (right < r->width ? right : r->width) - w.x;
	w.height = (below < r->height ? below : r->height) - w.y;
	return w;
}

/* Where the library's errors lead to on_error(). */
static int decode(struct jpeg_reader *r, const struct jpeg_window *wanted)
{
	struct jpeg_decompress_struct *info = &r->decoder->info;
	struct jpeg_window w = widened(r, wanted);
	JDIMENSION x = (JDIMENSION)w.x, width = (JDIMENSION)w.width;

	info->out_color_space = JCS_RGB;
	jpeg_start_decompress(info);
	if (w.width < r->width)
		jpeg_crop_scanline(info, &x, &width);
	w.x = x;
	w.width = width;
	if (make_room(&r->memory, &r->memory_room, 3 * w.width * w.height + JPEG_SPARE + 1))
		return NO_MEMORY;
	/* At an odd address, so that of most rows: those at a vector's libjpeg-turbo writes past the caches, and they are read
	 * next. */
	r->rgb = r->memory + 1;
	if (w.y)
		jpeg_skip_scanlines(info, (JDIMENSION)w.y);
	for (size_t row = 0; row < w.height;) {
		JSAMPROW at = r->rgb + 3 * w.width * row;

		row += jpeg_read_scanlines(info, &at, 1);
	}
	if (w.y + w.height == r->height)
		jpeg_finish_decompress(info);
	memset(r->rgb + 3 * w.width * w.height, 0, JPEG_SPARE);
	r->window = w;
	return OK;
}

int jpeg_decode(struct jpeg_reader *r, const char *path, const struct jpeg_window *wanted, char *why, size_t why_bytes)
{
	if (setjmp(r->decoder->failed))
		return fail(JPEG_DAMAGED, why, why_bytes, "'%s' is damaged: %s", path, r->decoder->what);
	if (decode(r, wanted))
		return fail(NO_MEMORY, why, why_bytes, "no memory for the pixels of '%s'", path);
	stage_end(&r->stages, STAGE_DECODE);
	return OK;
}

int jpeg_read(struct jpeg_reader *r, const char *path, char *why, size_t why_bytes)
{
	int rc = jpeg_open(r, path, why, why_bytes);

	return rc ? rc : jpeg_decode(r, path, &(struct jpeg_window){ .width = r->width, .height = r->height }, why, why_bytes);
}
