/*
 * comm/bucket.c - see bucket.h.
 *
 * One all-reduce per tensor would be simpler, but SlowFast has hundreds of tiny batch-norm
 * tensors, and a launch costs the same for every one of them.  A limit may be exceeded by
 * the last tensor put in: that is DDP's rule, and the published layouts depend on it.
 */
#include "comm/bucket.h"

#include "bench/base/err.h"

#include <stdlib.h>

/* order[i] is the i-th tensor of the walk. */
static void walk_order(size_t *order, const struct bucket_tensor *tensors, size_t n, enum bucket_layout layout)
{
	for (size_t i = 0; i < n; i++)
		order[layout == BUCKET_STATIC ? i : tensors[i].ready] = i;
}

/* Cuts the walk into buckets: first[b] is the place in the walk where bucket b begins, first[count] = n. */
static size_t cut(size_t *first, const size_t *order, const struct bucket_tensor *tensors, size_t n,
		  enum bucket_layout layout, size_t first_bytes, size_t limit_bytes)
{
	size_t count = 0, bytes = 0;

	first[0] = 0;
	for (size_t i = 0; i < n; i++) {
		size_t limit = count == 0 && layout != BUCKET_SIZE ? first_bytes : limit_bytes;

		bytes += tensors[order[i]].count * sizeof(float);
		if (bytes >= limit || i + 1 == n) {
			first[++count] = i + 1;
			bytes = 0;
		}
	}
	return count;
}

int bucket_plan_init(struct bucket_plan *p, const struct bucket_tensor *tensors, size_t n, enum bucket_layout layout,
		     size_t first_bytes, size_t limit_bytes)
{
	size_t *order = calloc(n + 1, sizeof(*order)), *first = calloc(n + 1, sizeof(*first));
	size_t count, at = 0;

	*p = (struct bucket_plan){ 0 };
	p->grad_offset = calloc(n + 1, sizeof(*p->grad_offset));
	if (!order || !first || !p->grad_offset)
		goto no_memory;
	walk_order(order, tensors, n, layout);
	count = cut(first, order, tensors, n, layout, first_bytes, limit_bytes);
	p->buckets = calloc(count + 1, sizeof(*p->buckets));
	if (!p->buckets)
		goto no_memory;
	p->bucket_count = count;
	for (size_t b = 0; b < count; b++) {
		/* The static walk goes with the network, backward against it. */
		size_t from = layout == BUCKET_STATIC ? count - 1 - b : b;
		struct bucket *k = &p->buckets[b];

		k->offset = at;
		k->tensors = first[from + 1] - first[from];
		for (size_t i = first[from]; i < first[from + 1]; i++) {
			const struct bucket_tensor *t = &tensors[order[i]];

			p->grad_offset[order[i]] = at;
			at += t->count;
			k->ready = t->ready > k->ready ? t->ready : k->ready;
		}
		k->count = at - k->offset;
		/* Buckets leave in their order, so none is complete before the one in front of it. */
		if (b && k->ready < k[-1].ready)
			k->ready = k[-1].ready;
	}
	free(order);
	free(first);
	return OK;
no_memory:
	free(order);
	free(first);
	bucket_plan_release(p);
	return err(NO_MEMORY, "no memory for the buckets of %zu tensors", n);
}

void bucket_plan_release(struct bucket_plan *p)
{
	free(p->buckets);
	free(p->grad_offset);
	*p = (struct bucket_plan){ 0 };
}
