/*
 * kernels/cpu/yardstick.c - convolutions one at a time.
 *
 * They are told to oneDNN as the net has them, without the views of conv.c: the yardstick is
 * what a user of the library gets, so a net that is cleverer than that may do better than 1.
 */
#include "kernels/cpu/yardstick.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "kernels/arena.h"
#include "kernels/cpu/dnn.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

static int time_pass(struct dnn *dnn, const struct dnn_conv *shape, enum op_pass pass, size_t repeats, uint64_t *least)
{
	static const struct dnn_layout no_wish[DNN_ARGS];
	struct dnn_prim prim;
	void *at[DNN_ARGS];
	char *block;
	size_t bytes = 0, offset[DNN_ARGS];
	int rc = dnn_conv_make(dnn, &prim, shape, pass, no_wish);

	if (rc)
		return rc;
	for (int i = 0; i < DNN_ARGS; i++) {
		offset[i] = bytes;
		bytes += arena_padded(dnn_layout_bytes(&prim.layout[i]));
	}
	block = arena_alloc(bytes + prim.scratch_bytes, "a convolution");
	if (!block) {
		dnn_prim_release(&prim);
		return NO_MEMORY;
	}
	for (int i = 0; i < DNN_ARGS; i++)
		at[i] = block + offset[i];
	rc = dnn_bind(dnn, &prim, at, block + bytes);
	*least = UINT64_MAX;
	for (size_t i = 0; !rc && i <= repeats; i++) {
		uint64_t begin = clock_ns(), took;

		rc = dnn_run(dnn, &prim);
		took = clock_ns() - begin;
		*least = i && took < *least ? took : *least;
	}
	dnn_prim_release(&prim);
	free(block);
	return rc;
}

int cpu_conv_sum_measure(const struct net *net, size_t clips, unsigned threads, size_t repeats, uint64_t *sum_ns)
{
	struct dnn dnn;
	int rc;

	omp_set_num_threads((int)threads);
	rc = dnn_open(&dnn);
	*sum_ns = 0;
	for (size_t i = 0; !rc && i < net->op_count; i++) {
		const struct net_op *op = &net->ops[i];
		const struct net_tensor *x = &net->tensors[op->in], *y = &net->tensors[op->out];
		struct dnn_conv shape = { .n = clips, .cin = x->c, .cout = y->c, .in = { x->t, x->h, x->w },
					  .out = { y->t, y->h, y->w } };

		if (op->kind != OP_CONV)
			continue;
		memcpy(shape.kernel, op->kernel, sizeof(shape.kernel));
		memcpy(shape.stride, op->stride, sizeof(shape.stride));
		memcpy(shape.pad, op->pad, sizeof(shape.pad));
		memcpy(shape.dilation, op->dilation, sizeof(shape.dilation));
		for (int pass = 0; !rc && pass < OP_PASSES; pass++) {
			uint64_t least;

			if (pass == OP_BACKWARD_DATA && op->in < NET_INPUTS)
				continue;
			rc = time_pass(&dnn, &shape, pass, repeats, &least);
			if (!rc)
				*sum_ns += least;
		}
	}
	dnn_close(&dnn);
	return rc;
}

/* Large enough to be out of the last level's cache. */
static int copy_rate(unsigned threads, size_t repeats, double *bytes_per_s)
{
	const size_t bytes = (size_t)64 << 20, part = bytes / threads;
	char *from = arena_alloc(2 * bytes, "a copy");
	uint64_t least = UINT64_MAX;

	if (!from)
		return NO_MEMORY;
	for (size_t i = 0; i <= repeats; i++) {
		const uint64_t begin = clock_ns();
		uint64_t took;

#pragma omp parallel for schedule(static)
		for (unsigned t = 0; t < threads; t++)
			memcpy(from + bytes + t * part, from + t * part, part);
		took = clock_ns() - begin;
		least = i && took < least ? took : least;
	}
	free(from);
	*bytes_per_s = 1e9 * 2 * (double)(part * threads) / (double)least;
	return OK;
}

int cpu_ceilings_measure(unsigned threads, double *flop_per_s, double *bytes_per_s)
{
	enum { CHANNELS = 512, SIDE = 28, FRAMES = 8, REPEATS = 5 };
	const struct dnn_conv product = { .n = 1, .cin = CHANNELS, .cout = CHANNELS, .in = { FRAMES, SIDE, SIDE },
					  .out = { FRAMES, SIDE, SIDE }, .kernel = { 1, 1, 1 }, .stride = { 1, 1, 1 },
					  .dilation = { 1, 1, 1 } };
	const double flop = 2.0 * CHANNELS * CHANNELS * FRAMES * SIDE * SIDE;
	uint64_t least;
	struct dnn dnn;
	int rc;

	omp_set_num_threads((int)threads);
	rc = dnn_open(&dnn);
	if (!rc)
		rc = time_pass(&dnn, &product, OP_FORWARD, REPEATS, &least);
	if (!rc)
		*flop_per_s = 1e9 * flop / (double)least;
	dnn_close(&dnn);
	return rc ? rc : copy_rate(threads, REPEATS, bytes_per_s);
}
