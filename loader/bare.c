/*
 * loader/bare.c - see bare.h.
 */
#include "loader/bare.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "loader/ava.h"
#include "loader/jpeg.h"
#include "loader/parallel.h"

#include <stdlib.h>

struct decoders {
	const glob_t *frames;
	struct jpeg_reader *readers;	/* owned; one per thread */
};

static int decode_one(void *context, size_t thread, size_t item)
{
	struct decoders *d = context;
	char why[PATH_BYTES + 256];

	return jpeg_read(&d->readers[thread], d->frames->gl_pathv[item], why, sizeof(why)) ? err(FAILED, "%s", why) : OK;
}

int bare_find(const char *data, glob_t *frames)
{
	char pattern[PATH_BYTES];
	int rc = path_make(pattern, "%s/" AVA_FRAMES "/*/*.jpg", data);

	if (!rc && glob(pattern, 0, NULL, frames))
		rc = err(FAILED, "no frames as '%s'", pattern);
	return rc;
}

int bare_decode_rate(const glob_t *frames, size_t threads, double *frames_per_s)
{
	struct decoders d = { frames, calloc(threads, sizeof(*d.readers)) };
	uint64_t begin;
	int rc = d.readers ? OK : err(NO_MEMORY, "no memory for %zu decoders", threads);

	for (size_t i = 0; i < threads && !rc; i++)
		rc = jpeg_reader_init(&d.readers[i]);
	begin = clock_ns();
	if (!rc)
		rc = parallel_each(frames->gl_pathc, threads, decode_one, &d);
	*frames_per_s = (double)frames->gl_pathc * NS_PER_S / (double)(clock_ns() - begin);
	for (size_t i = 0; d.readers && i < threads; i++)
		jpeg_reader_release(&d.readers[i]);
	free(d.readers);
	return rc;
}
