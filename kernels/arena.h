/*
 * kernels/arena.h - one block of memory for all that a step passes from operator to operator.
 *
 * Each piece says from which moment to which it is needed; pieces whose times do not overlap
 * may share addresses.  Placed once, largest first, each at the lowest address that is free
 * during its life: within a few per cent of the peak of live bytes for SlowFast.
 */
#ifndef SFSCALE_KERNELS_ARENA_H
#define SFSCALE_KERNELS_ARENA_H

#include <stddef.h>

enum { ARENA_LINE = 64 };	/* bytes of a cache line: where every piece begins */

static inline size_t arena_padded(size_t bytes)
{
	return (bytes + ARENA_LINE - 1) / ARENA_LINE * ARENA_LINE;
}

struct piece {
	size_t bytes;		/* 0: never placed */
	size_t from, to;	/* moments, both included */
	size_t offset;		/* out: a multiple of ARENA_LINE */
};

/* The bytes that all pieces need together, or 0 with NO_MEMORY said when `count` is not 0. */
size_t arena_plan(struct piece *pieces, size_t count);

/* Zeroed memory, large blocks aligned so that the kernel may use huge pages; free() it.  NULL with NO_MEMORY said. */
void *arena_alloc(size_t bytes, const char *what);

#endif
