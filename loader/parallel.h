/*
 * loader/parallel.h - the same work for many items, on a few threads that live as long as the call.
 *
 * For making and checking data sets, where items are many and independent.  The workers that
 * feed a training run are another matter: loader.h.
 */
#ifndef SFSCALE_LOADER_PARALLEL_H
#define SFSCALE_LOADER_PARALLEL_H

#include <stddef.h>

/* Cores that this process may use: what 0 threads means to a user. */
size_t parallel_cores(void);

/* Calls work(context, thread, item) once for each item below `items`, in any order, `thread` below
 * `threads` telling the callers apart (each may own a decoder, a buffer).  The first failure stops
 * the handing out of items and is returned. */
int parallel_each(size_t items, size_t threads, int (*work)(void *context, size_t thread, size_t item), void *context);

#endif
