/*
 * loader/jpeg.h - one JPEG file into pixels, by libjpeg-turbo.
 *
 * A reader keeps its buffers, so that after a few frames nothing is allocated any more.  One
 * reader belongs to one thread.
 */
#ifndef SFSCALE_LOADER_JPEG_H
#define SFSCALE_LOADER_JPEG_H

#include "loader/stage.h"

#include <stddef.h>
#include <stdint.h>

/* Zero bytes behind the last row, so that pixels can be read sixteen bytes at a time. */
enum { JPEG_SPARE = 16 };

/* A part of a frame, in pixels. */
struct jpeg_window {
	size_t x, y, width, height;
};

struct jpeg_reader {
	struct jpeg_decoder *decoder;	/* owned */
	uint8_t *file, *memory;		/* owned */
	uint8_t *rgb;			/* in `memory` */
	size_t file_bytes, file_room, memory_room;
	struct stage_clock stages;	/* storage and decode are told here; for those who started it */
	size_t width, height;		/* of the latest frame */
	struct jpeg_window window;	/* the part of it in `rgb`: RGB RGB ..., rows without padding */
};

int jpeg_reader_init(struct jpeg_reader *);
void jpeg_reader_release(struct jpeg_reader *);

/* Failures are silent: `why` names the file and says what is wrong with it.  JPEG_DAMAGED: the file was read, and holds no
 * such picture; any other code: it could not be read. */
enum { JPEG_DAMAGED = 1 };

/* Width and height, from the first `bytes` of the file that lie at `head`. */
int jpeg_header(struct jpeg_reader *, const char *path, const uint8_t *head, size_t bytes, char *why, size_t why_bytes);

/* Reads a file: its bytes, width and height are there, its pixels not yet. */
int jpeg_open(struct jpeg_reader *, const char *path, char *why, size_t why_bytes);
/* The pixels of the file that was opened: at least those of `wanted`, equal to those of the whole frame.  A truncated
 * file, which the library would fill up with grey, is damaged; damage below the window stays unseen. */
int jpeg_decode(struct jpeg_reader *, const char *path, const struct jpeg_window *wanted, char *why, size_t why_bytes);

/* Both, for all pixels. */
int jpeg_read(struct jpeg_reader *, const char *path, char *why, size_t why_bytes);

#endif
