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

/* Zero bytes behind the last row, so that pixels can be read eight bytes at a time. */
enum { JPEG_SPARE = 8 };

struct jpeg_reader {
	void *decoder;		/* owned */
	uint8_t *file, *rgb;	/* owned */
	size_t file_room, rgb_room;
	struct stage_clock stages;	/* storage and decode are told here; for those who started it */
	size_t width, height;	/* of the latest frame; `rgb` holds its rows, RGB RGB ..., without padding */
};

int jpeg_reader_init(struct jpeg_reader *);
void jpeg_reader_release(struct jpeg_reader *);

/* FAILED (silent): `why` names the file and says what is wrong with it.  A truncated file, which the
 * library would fill up with grey, is one. */
int jpeg_read(struct jpeg_reader *, const char *path, char *why, size_t why_bytes);

#endif
