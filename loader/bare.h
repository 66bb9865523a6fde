/*
 * loader/bare.h - bare decoding: what the cores could do with a data set's frames if they did nothing else.
 *
 * It is the yardstick of the loader: files are read and decoded, whole, into a buffer that nobody looks at.
 */
#ifndef SFSCALE_LOADER_BARE_H
#define SFSCALE_LOADER_BARE_H

#include <glob.h>
#include <stddef.h>

/* All frames of the data set in folder `data`; globfree() them.  FAILED (said) when there are none. */
int bare_find(const char *data, glob_t *frames);

/* Of so many threads, over all of those frames once. */
int bare_decode_rate(const glob_t *frames, size_t threads, double *frames_per_s);

#endif
