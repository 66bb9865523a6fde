/*
 * kernels/arena.c - interval packing by size, and the block itself.
 *
 * The optimum is NP-hard; largest first with the lowest fit is what inference engines use,
 * and 700 pieces take a millisecond.
 */
#include "kernels/arena.h"

#include "bench/base/err.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

static int larger_first(const void *a, const void *b)
{
	const struct piece *p = *(const struct piece *const *)a, *q = *(const struct piece *const *)b;

	if (p->bytes != q->bytes)
		return p->bytes < q->bytes ? 1 : -1;
	return p < q ? -1 : p > q;
}

static int lower_first(const void *a, const void *b)
{
	const struct piece *p = *(const struct piece *const *)a, *q = *(const struct piece *const *)b;

	return p->offset < q->offset ? -1 : p->offset > q->offset;
}

/* The lowest gap between the `count` neighbours (sorted by offset) that takes `bytes`. */
static size_t lowest_fit(struct piece *const *neighbours, size_t count, size_t bytes)
{
	size_t at = 0;

	for (size_t i = 0; i < count; i++) {
		if (neighbours[i]->offset >= at + bytes)
			break;
		if (neighbours[i]->offset + arena_padded(neighbours[i]->bytes) > at)
			at = neighbours[i]->offset + arena_padded(neighbours[i]->bytes);
	}
	return at;
}

size_t arena_plan(struct piece *pieces, size_t count)
{
	struct piece **order = malloc(2 * count * sizeof(*order) + 1);
	size_t total = 0;

	if (!order) {
		err(NO_MEMORY, "no memory to plan %zu tensors", count);
		return 0;
	}
	for (size_t i = 0; i < count; i++)
		order[i] = &pieces[i];
	qsort(order, count, sizeof(*order), larger_first);
	for (size_t i = 0; i < count && order[i]->bytes; i++) {
		struct piece **neighbours = order + count;
		size_t n = 0;

		for (size_t j = 0; j < i; j++)
			if (order[j]->from <= order[i]->to && order[i]->from <= order[j]->to)
				neighbours[n++] = order[j];
		qsort(neighbours, n, sizeof(*neighbours), lower_first);
		order[i]->offset = lowest_fit(neighbours, n, arena_padded(order[i]->bytes));
		if (order[i]->offset + arena_padded(order[i]->bytes) > total)
			total = order[i]->offset + arena_padded(order[i]->bytes);
	}
	free(order);
	return total;
}

void *arena_alloc(size_t bytes, const char *what)
{
	const size_t unit = bytes < HUGE_PAGE ? ARENA_LINE : HUGE_PAGE, rounded = (bytes / unit + 1) * unit;
	void *at = aligned_alloc(unit, rounded);

	if (!at) {
		err(NO_MEMORY, "no memory for %s: %zu bytes", what, bytes);
		return NULL;
	}
	if (unit == HUGE_PAGE)
		madvise(at, rounded, MADV_HUGEPAGE);	/* a wish: granted or not, the sums are the same */
	memset(at, 0, rounded);
	return at;
}
