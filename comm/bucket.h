/*
 * comm/bucket.h - groups gradients so that they can travel while backward still runs.
 *
 * Three layouts.  `static` (PyTorch <= 1.5): walk the parameters in registration order, close
 * a bucket as soon as its size reaches the limit, then reverse the list; `rebuilt` (PyTorch
 * 1.6 and later): the same walk in the order in which backward finishes gradients; `size`: as
 * rebuilt with one limit for all.  The first bucket of a walk has a limit of its own.
 */
#ifndef SFSCALE_COMM_BUCKET_H
#define SFSCALE_COMM_BUCKET_H

#include <stddef.h>

struct bucket {
	size_t offset, count;	/* floats of the flat gradient buffer */
	size_t tensors;
	size_t ready;		/* complete when the gradient with this ready index exists */
};

struct bucket_plan {
	struct bucket *buckets;	/* owned; in the order of reduction */
	size_t bucket_count;
	size_t *grad_offset;	/* owned; per parameter, floats */
};

struct bucket_tensor {
	size_t count;		/* floats */
	size_t ready;		/* place in backward's order */
};

enum bucket_layout { BUCKET_STATIC, BUCKET_REBUILT, BUCKET_SIZE };

int bucket_plan_init(struct bucket_plan *, const struct bucket_tensor *tensors, size_t tensor_count,
		     enum bucket_layout, size_t first_bytes, size_t limit_bytes);
void bucket_plan_release(struct bucket_plan *);

#endif
