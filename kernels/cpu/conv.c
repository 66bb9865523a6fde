/*
 * kernels/cpu/conv.c - picks, connects and runs the three passes of a convolution.
 *
 * Scratch of a pass, in this order: the library's own, one temporary for each argument that
 * is reordered, and the term of a sum.  No pass outlives its call, so all share one block.
 */
#include "kernels/cpu/conv.h"

#include "bench/base/err.h"
#include "kernels/arena.h"
#include "kernels/cpu/ops.h"
#include "kernels/net.h"

#include <assert.h>
#include <string.h>

/* Nothing happens along this axis: kernel, stride and padding are trivial. */
static bool still(const struct dnn_conv *c, int axis)
{
	return c->kernel[axis] == 1 && c->stride[axis] == 1 && c->pad[axis] == 0;
}

static bool folds_time(const struct dnn_conv *c, bool input)
{
	return input && c->kernel[0] > 1 && c->stride[0] == 1 && c->dilation[0] == 1;
}

struct dnn_conv conv_view(struct dnn_conv c, bool input)
{
	struct dnn_conv v = c;

	if (folds_time(&c, input)) {
		v.cin = c.cin * c.kernel[0];
		v.in[0] = c.out[0];
		v.kernel[0] = 1;
		v.pad[0] = 0;
	} else if (!still(&c, 0) && still(&c, 1) && still(&c, 2)) {
		v = (struct dnn_conv){
			.n = c.n, .cin = c.cin, .cout = c.cout, .flat = true,
			.in = { 1, c.in[0], c.in[1] * c.in[2] }, .out = { 1, c.out[0], c.out[1] * c.out[2] },
			.kernel = { 1, c.kernel[0], 1 }, .stride = { 1, c.stride[0], 1 }, .pad = { 0, c.pad[0], 0 },
			.dilation = { 1, c.dilation[0], 1 },
		};
	} else if (still(&c, 0) && c.kernel[1] * c.kernel[2] == 1 && c.stride[1] > 1 && c.pad[1] + c.pad[2] == 0 &&
		   c.in[1] == c.stride[1] * c.out[1]) {
		v.flat = true;
		v.in[0] = v.out[0] = 1;
		v.in[1] = c.in[0] * c.in[1];
		v.out[1] = c.out[0] * c.out[1];
	}
	return v;
}

size_t conv_input_floats(const struct dnn_conv *c, size_t block)
{
	const struct dnn_conv v = conv_view(*c, true);
	size_t channels = folds_time(c, true) ? (v.cin + block - 1) / block * block : v.cin;

	return channels * v.in[0] * v.in[1] * v.in[2];
}

enum { TILE = 256, FOLDED_MAX = 8 };	/* positions that are folded together; frames that are */

/* `count` pixels of a crop, finished, as three planes. */
CPU_CLONES static void finish(const uint8_t *pixels, size_t count, float *red, float *green, float *blue)
{
	for (size_t i = 0; i < count; i++) {
		red[i] = net_pixel(pixels[3 * i]);
		green[i] = net_pixel(pixels[3 * i + 1]);
		blue[i] = net_pixel(pixels[3 * i + 2]);
	}
}

/* Frame `t` of clip `n` of an input that is made of crops. */
static const uint8_t *crop_of(const struct dnn_conv *c, const struct conv_source *from, size_t n, size_t t)
{
	const size_t shown = net_shown_frame(from->frames, c->in[0], from->old_linspace, t);

	return from->crops + 3 * (n * from->frames + shown) * c->in[1] * c->in[2];
}

CPU_INLINE void weave(const float *const *channels, size_t count, size_t block, float *x)
{
	for (size_t i = 0; i < count; i++)
		for (size_t l = 0; l < block; l++)
			x[i * block + l] = channels[l][i];
}

/* Planes into a block of channels. */
CPU_CLONES static void weave_block(const float *const *channels, size_t count, size_t block, float *x)
{
	if (block == 8)
		weave(channels, count, 8, x);
	else
		weave(channels, count, 16, x);
}

/* Positions from `s` on of clip `n` of a folded input, all its frames: channel ci * kT + kt of frame t is channel ci of
 * frame t + kt - pad.  A frame of crops is finished once, and kept while others show it. */
static void fold_tile(const struct dnn_conv *c, size_t block, const struct conv_source *from, size_t n, size_t s, float *x)
{
	static const float nothing[TILE];
	const size_t plane = c->in[1] * c->in[2], folded = c->kernel[0], blocks = (c->cin * folded + block - 1) / block;
	const size_t count = plane - s < TILE ? plane - s : TILE;
	float finished[FOLDED_MAX][3][TILE];
	size_t ready = 0;

	for (size_t t = 0; t < c->out[0]; t++) {
		for (; !from->plain && ready < c->in[0] && ready + c->pad[0] < t + folded; ready++) {
			float (*to)[TILE] = finished[ready % FOLDED_MAX];

			finish(crop_of(c, from, n, ready) + 3 * s, count, to[0], to[1], to[2]);
		}
		for (size_t b = 0; b < blocks; b++) {
			const float *channels[CPU_BLOCK_MAX];

			for (size_t l = 0; l < block; l++) {
				const size_t ci = (b * block + l) / folded, it = t + (b * block + l) % folded - c->pad[0];

				if (ci >= c->cin || it >= c->in[0])	/* before 0 wraps around to large */
					channels[l] = nothing;
				else
					channels[l] = from->plain ? from->plain + ((n * c->cin + ci) * c->in[0] + it) * plane + s
								  : finished[it % FOLDED_MAX][ci];
			}
			weave_block(channels, count, block, x + (((n * blocks + b) * c->out[0] + t) * plane + s) * block);
		}
	}
}

void conv_input(const struct dnn_conv *c, size_t block, const struct conv_source *from, float *x)
{
	const size_t plane = c->in[1] * c->in[2], tiles = (plane + TILE - 1) / TILE;

	assert(from->plain || (c->cin == 3 && c->kernel[0] <= FOLDED_MAX));
	if (folds_time(c, true)) {
#pragma omp parallel for schedule(static)
		for (size_t i = 0; i < c->n * tiles; i++)
			fold_tile(c, block, from, i / tiles, i % tiles * TILE, x);
	} else if (from->plain) {
		memcpy(x, from->plain, c->n * c->cin * c->in[0] * plane * sizeof(*x));
	} else {
#pragma omp parallel for schedule(static)
		for (size_t i = 0; i < c->n * c->in[0]; i++) {
			const size_t n = i / c->in[0], t = i % c->in[0];
			float *at = x + (n * 3 * c->in[0] + t) * plane;

			finish(crop_of(c, from, n, t), plane, at, at + c->in[0] * plane, at + 2 * c->in[0] * plane);
		}
	}
}

static const struct dnn_layout *stored(const struct conv *c, enum dnn_arg arg)
{
	return arg == DNN_SRC ? &c->x : arg == DNN_DST ? &c->y : &c->weights;
}

/* The pass's primitive and the reorders between its layouts and the stored ones. */
static int pass_make(struct dnn *dnn, struct conv *c, enum op_pass pass)
{
	struct conv_pass *p = &c->pass[pass];
	struct dnn_layout wish[DNN_ARGS] = { [DNN_SRC] = c->x, [DNN_DST] = c->y };
	int rc;

	if (pass == OP_BACKWARD_WEIGHTS)
		wish[DNN_WEIGHTS] = c->weights;
	if (!p->prim.primitive) {
		rc = dnn_conv_make(dnn, &p->prim, &c->shape, pass, wish);
		if (rc)
			return rc;
	}
	p->used = true;
	for (int arg = 0; arg < DNN_ARGS; arg++) {
		const struct dnn_layout *ours = stored(c, arg), *theirs = &p->prim.layout[arg];

		if (dnn_layout_same(ours, theirs))
			continue;
		rc = arg == (int)dnn_result[pass] ? dnn_reorder_make(dnn, &p->reorder[arg], theirs, ours)
						  : dnn_reorder_make(dnn, &p->reorder[arg], ours, theirs);
		if (rc)
			return rc;
	}
	return OK;
}

int conv_make(struct dnn *dnn, struct conv *c, const struct dnn_conv *shape, size_t block, bool input, bool adds_dx)
{
	const struct dnn_conv v = conv_view(*shape, input);
	const size_t x[5] = { v.n, v.cin, v.in[0], v.in[1], v.in[2] };
	const size_t y[5] = { v.n, v.cout, v.out[0], v.out[1], v.out[2] };
	const size_t w[5] = { v.cout, v.cin, v.kernel[0], v.kernel[1], v.kernel[2] };
	struct dnn_layout wish[DNN_ARGS] = { 0 };
	struct dnn_layout plain = { 0 };
	int rc;

	*c = (struct conv){ .shape = v };
	rc = dnn_layout_activation(&c->x, x, v.flat, input && !folds_time(shape, input) ? 1 : block);
	if (!rc)
		rc = dnn_layout_activation(&c->y, y, v.flat, block);
	if (!rc)
		rc = dnn_layout_weights(&plain, w, v.flat);
	wish[DNN_SRC] = c->x;
	wish[DNN_DST] = c->y;
	if (!rc)
		rc = dnn_conv_make(dnn, &c->pass[OP_FORWARD].prim, &v, OP_FORWARD, wish);
	if (!rc) {
		const struct dnn_layout *liked = &c->pass[OP_FORWARD].prim.layout[DNN_WEIGHTS];

		rc = dnn_layout_copy(&c->weights, dnn_layout_bytes(liked) == dnn_layout_bytes(&plain) ? liked : &plain);
	}
	if (!rc)
		rc = pass_make(dnn, c, OP_FORWARD);
	if (!rc && !input)
		rc = pass_make(dnn, c, OP_BACKWARD_DATA);
	if (!rc)
		rc = pass_make(dnn, c, OP_BACKWARD_WEIGHTS);
	c->pass[OP_BACKWARD_DATA].adds = adds_dx;
	dnn_layout_release(&plain);
	if (rc)
		conv_release(c);
	return rc;
}

/* Assigns the scratch of one pass from `base` (NULL: only counts) and returns its bytes.  `at` enters with the stored
 * places and leaves with those of the primitive. */
static size_t pass_scratch(const struct conv *c, enum op_pass pass, char *base, float *at[DNN_ARGS],
			   void *reorder_scratch[DNN_ARGS], float **term)
{
	const struct conv_pass *p = &c->pass[pass];
	size_t used = arena_padded(p->prim.scratch_bytes);

	*term = NULL;
	if (p->adds) {
		*term = (float *)(base + used);
		used += arena_padded(dnn_layout_bytes(stored(c, dnn_result[pass])));
	}
	for (int arg = 0; arg < DNN_ARGS; arg++) {
		if (!p->reorder[arg].primitive)
			continue;
		at[arg] = (float *)(base + used);
		used += arena_padded(dnn_layout_bytes(&p->prim.layout[arg]));
		reorder_scratch[arg] = base + used;
		used += arena_padded(p->reorder[arg].scratch_bytes);
	}
	return used;
}

size_t conv_scratch_bytes(const struct conv *c)
{
	static char none[1];	/* an address to count from */
	float *at[DNN_ARGS] = { 0 }, *term;
	void *reorder_scratch[DNN_ARGS];
	size_t most = 0;

	for (int pass = 0; pass < OP_PASSES; pass++) {
		size_t bytes = c->pass[pass].used ? pass_scratch(c, pass, none, at, reorder_scratch, &term) : 0;

		most = bytes > most ? bytes : most;
	}
	return most;
}

static int pass_bind(struct dnn *dnn, struct conv *c, enum op_pass pass, float *const ends[DNN_ARGS], void *scratch)
{
	struct conv_pass *p = &c->pass[pass];
	const int result = dnn_result[pass];
	float *from[DNN_ARGS] = { ends[0], ends[1], ends[2] }, *at[DNN_ARGS];
	void *reorder_scratch[DNN_ARGS] = { 0 };
	int rc;

	for (int arg = 0; arg < DNN_ARGS; arg++)
		at[arg] = from[arg];
	pass_scratch(c, pass, scratch, at, reorder_scratch, &p->term);
	if (p->adds) {
		p->sum = from[result];
		from[result] = p->term;
		if (!p->reorder[result].primitive)
			at[result] = p->term;
	}
	rc = dnn_bind(dnn, &p->prim, (void *const[]){ at[0], at[1], at[2] }, scratch);
	for (int arg = 0; !rc && arg < DNN_ARGS; arg++) {
		void *way[DNN_ARGS] = { [DNN_SRC] = arg == result ? at[arg] : from[arg],
					[DNN_DST] = arg == result ? from[arg] : at[arg] };

		if (p->reorder[arg].primitive)
			rc = dnn_bind(dnn, &p->reorder[arg], way, reorder_scratch[arg]);
	}
	return rc;
}

int conv_bind(struct dnn *dnn, struct conv *c, const struct conv_place *at, void *scratch)
{
	float *const ends[OP_PASSES][DNN_ARGS] = {
		[OP_FORWARD] = { at->x, at->weights, at->y },
		[OP_BACKWARD_DATA] = { at->dx, at->weights, at->dy },
		[OP_BACKWARD_WEIGHTS] = { at->x, at->dweights, at->dy },
	};
	int rc = OK;

	for (int pass = 0; !rc && pass < OP_PASSES; pass++)
		if (c->pass[pass].used)
			rc = pass_bind(dnn, c, pass, ends[pass], scratch);
	return rc;
}

int conv_run(struct dnn *dnn, const struct conv *c, enum op_pass pass)
{
	const struct conv_pass *p = &c->pass[pass];
	const int result = dnn_result[pass];
	int rc = OK;

	for (int arg = 0; !rc && arg < DNN_ARGS; arg++)
		if (arg != result && p->reorder[arg].primitive)
			rc = dnn_run(dnn, &p->reorder[arg]);
	if (!rc)
		rc = dnn_run(dnn, &p->prim);
	if (!rc && p->reorder[result].primitive)
		rc = dnn_run(dnn, &p->reorder[result]);
	if (!rc && p->adds)
		add_to(p->sum, p->term, dnn_layout_bytes(stored(c, result)) / sizeof(float));
	return rc;
}

void conv_release(struct conv *c)
{
	for (int pass = 0; pass < OP_PASSES; pass++) {
		dnn_prim_release(&c->pass[pass].prim);
		for (int arg = 0; arg < DNN_ARGS; arg++)
			dnn_prim_release(&c->pass[pass].reorder[arg]);
	}
	dnn_layout_release(&c->x);
	dnn_layout_release(&c->y);
	dnn_layout_release(&c->weights);
	*c = (struct conv){ 0 };
}
