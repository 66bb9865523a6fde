/*
 * kernels/net.c - SlowFast from four rows of stages, lowered to fused operators.
 *
 * Every convolution has a batch norm behind it, so the unit of building is the pair: it is
 * registered (parameters and running state get their index) and emitted (two operators and
 * their tensors) by one function each.  The two orders differ only inside the first block of
 * a stage, where PySlowFast registers branch1 first and executes it last.  There the addition
 * belongs to the pair that runs last: y = relu(bn(branch1) + branch2) in a first block,
 * y = relu(bn(branch2.c) + x) in the others.  So backward's order is the reverse of the list
 * of operators, without exception, and `ready` is counted, not told.
 *
 * A lateral connection ends in a concatenation [slow, fused].  Its tensor is made first, and
 * both producers write their slice; the identity pools behind s2_fuse are left out.
 *
 * Not here: bytes of memory (a back end plans them).
 */
#include "kernels/net.h"

#include "bench/base/err.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct net_preset net_presets[] = {
	{ "r50",    64, 32, 224, "SLOWFAST_32x2_R50 as published: 8 slow and 32 fast frames" },
	{ "r50-16", 64, 16, 224, "r50 with 16 frames per clip" },
	{ "medium", 32, 16, 112, "half the channels, 16 frames, half the crop" },
	{ "small",  16, 16, 112, "a quarter of the channels, 16 frames, half the crop" },
	{ "tiny",   16,  8,  64, "a quarter of the channels, 8 frames" },
	{ "nano",    8,  8,  64, "an eighth of the channels, 8 frames: the fast pathway starts with one channel" },
	{ NULL, 0, 0, 0, NULL }
};

enum { SLOW, FAST };

/* A residual stage, both pathways.  Channels inside a block are `inner` times the pathway's
 * width, those behind it four times as many. */
static const struct stage_row {
	const char *name, *fuse;
	size_t blocks, inner;
	size_t kt[2];		/* temporal kernel of convolution a */
	size_t stride;		/* of the first block, height and width */
	size_t dilation;
} stage_rows[] = {
	{ "s2", "s2_fuse", 3, 1, { 1, 3 }, 1, 1 },
	{ "s3", "s3_fuse", 4, 2, { 1, 3 }, 2, 1 },
	{ "s4", "s4_fuse", 6, 4, { 3, 3 }, 2, 1 },
	{ "s5", NULL,      3, 8, { 3, 3 }, 1, 2 },
};

/* The sizes follow from the rows; net_init() checks that they do. */
enum {
	CONVS = 110,
	PARAMS = 3 * CONVS + 2,
	OPS = 2 * CONVS + 2 + 2,			/* stem pools; ROI head, projection */
	TENSORS = NET_INPUTS + OPS + 4,			/* concatenations */
	NAME_BYTES = sizeof(((struct net_op *)NULL)->name),
	/* Under two slow frames, or four positions a side behind s5, temporal and dilated kernels meet little but
	 * padding.  The upper ends keep every count far from overflow, and are beyond any memory. */
	FRAMES_MIN = 2 * NET_ALPHA, FRAMES_MAX = 1024,
	CROP_MIN = 4 * NET_ROI_STRIDE, CROP_MAX = 4096,
};

struct window {
	size_t kernel[3], stride[3], pad[3], dilation[3];	/* (T,H,W) */
};

/* Where a tensor is to live: a slice of a concatenation, or `own`. */
struct place {
	int of;
	size_t c0;
};
static const struct place own = { -1, 0 };

/* A registered convolution with its batch norm. */
struct pair {
	char conv[NAME_BYTES], bn[NAME_BYTES];
	int weight, bn_weight, buffer;
};

__attribute__((format(printf, 2, 3)))
static void name_set(char name[NAME_BYTES], const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(name, NAME_BYTES, format, args);
	va_end(args);
	assert(n >= 0 && n < NAME_BYTES);
	(void)n;
}

static int add_param(struct net *net, enum param_group group, const char *module, const char *what,
		     const size_t *dims, size_t rank)
{
	struct net_param *p = &net->params[net->param_count];

	assert(net->param_count < PARAMS);
	*p = (struct net_param){ .rank = rank, .count = 1, .group = group, .decays = group != PARAM_BN };
	name_set(p->name, "%s.%s", module, what);
	for (size_t i = 0; i < rank; i++) {
		p->dims[i] = dims[i];
		p->count *= dims[i];
	}
	net->values += p->count;
	return (int)net->param_count++;
}

static struct pair register_pair(struct net *net, const char *prefix, const char *conv, const char *bn,
				 const size_t dims[5])
{
	struct pair p;

	assert(net->buffer_count < CONVS);
	name_set(p.conv, "%s%s", prefix, conv);
	name_set(p.bn, "%s%s", prefix, bn);
	p.weight = add_param(net, PARAM_CONV, p.conv, "weight", dims, 5);
	p.bn_weight = add_param(net, PARAM_BN, p.bn, "weight", dims, 1);
	add_param(net, PARAM_BN, p.bn, "bias", dims, 1);
	p.buffer = (int)net->buffer_count++;
	net->buffers[p.buffer].channels = dims[0];
	name_set(net->buffers[p.buffer].name, "%s", p.bn);
	net->buffer_values += 2 * dims[0];
	return p;
}

static int add_tensor(struct net *net, const char *name, const size_t shape[4], struct place place)
{
	struct net_tensor *t = &net->tensors[net->tensor_count];

	assert(net->tensor_count < TENSORS);
	*t = (struct net_tensor){ .c = shape[0], .t = shape[1], .h = shape[2], .w = shape[3], .of = place.of,
				  .c0 = place.c0 };
	name_set(t->name, "%s", name);
	return (int)net->tensor_count++;
}

/* An operator that reads `in` and writes a tensor of its own name; the rest is for the caller to fill in. */
static struct net_op *add_op(struct net *net, enum net_op_kind kind, const char *stage, const char *name, int in,
			     const size_t shape[4], struct place place)
{
	struct net_op *op = &net->ops[net->op_count++];

	assert(net->op_count <= OPS);
	*op = (struct net_op){ .kind = kind, .stage = stage, .in = in, .in2 = -1, .weight = -1, .bias = -1,
			       .buffer = -1 };
	name_set(op->name, "%s", name);
	op->out = add_tensor(net, name, shape, place);
	return op;
}

static size_t length_behind(size_t length, const struct window *w, size_t axis)
{
	return (length + 2 * w->pad[axis] - w->dilation[axis] * (w->kernel[axis] - 1) - 1) / w->stride[axis] + 1;
}

/* A convolution or pool with `c` channels behind it. */
static struct net_op *add_windowed(struct net *net, enum net_op_kind kind, const char *stage, const char *name, int in,
				   size_t c, const struct window *w, struct place place)
{
	const struct net_tensor *x = &net->tensors[in];
	struct net_op *op = add_op(net, kind, stage, name, in, (const size_t[]){ c, length_behind(x->t, w, 0),
				   length_behind(x->h, w, 1), length_behind(x->w, w, 2) }, place);

	memcpy(op->kernel, w->kernel, sizeof(op->kernel));
	memcpy(op->stride, w->stride, sizeof(op->stride));
	memcpy(op->pad, w->pad, sizeof(op->pad));
	memcpy(op->dilation, w->dilation, sizeof(op->dilation));
	return op;
}

/* y = bn(conv(in)) + tensor `add` (-1: none), rectified or not; returns y. */
static int emit_pair(struct net *net, const struct pair *p, const char *stage, int in, const struct window *w, int add,
		     bool relu, struct place place)
{
	const struct net_param *weight = &net->params[p->weight];
	struct net_op *conv, *bn;
	const struct net_tensor *y;

	conv = add_windowed(net, OP_CONV, stage, p->conv, in, weight->dims[0], w, own);
	y = &net->tensors[conv->out];
	assert(net->tensors[in].c == weight->dims[1]);
	conv->weight = p->weight;
	conv->macs = (uint64_t)weight->count * y->t * y->h * y->w;	/* each weight meets each position once */
	net->conv_macs += conv->macs;

	bn = add_op(net, OP_BN, stage, p->bn, conv->out, (const size_t[]){ y->c, y->t, y->h, y->w }, place);
	bn->in2 = add;
	bn->relu = relu;
	bn->weight = p->bn_weight;
	bn->bias = p->bn_weight + 1;
	bn->buffer = p->buffer;
	return bn->out;
}

static size_t width_of(const struct net *net, size_t pathway)
{
	return pathway == SLOW ? net->preset->width : net->preset->width / NET_BETA_INV;
}

/* The tensor [slow, fused] in front of the next stage, with `slow_c` slow channels of the fast tensor's size in
 * space: the lateral convolution brings two channels for each fast one. */
static int add_concatenation(struct net *net, const char *name, size_t slow_c, size_t h, size_t w)
{
	size_t fused_c = 2 * slow_c / NET_BETA_INV;

	return add_tensor(net, name, (const size_t[]){ slow_c + fused_c, net->slow_frames, h, w }, own);
}

/* The lateral connection: fast features, every NET_ALPHA-th moment, into their slice of `joined`. */
static void add_fuse(struct net *net, const char *stage, int fast, int joined)
{
	static const struct window window = { { 7, 1, 1 }, { NET_ALPHA, 1, 1 }, { 3, 0, 0 }, { 1, 1, 1 } };
	size_t c = net->tensors[fast].c;
	char prefix[NAME_BYTES];
	struct pair p;

	name_set(prefix, "%s.", stage);
	p = register_pair(net, prefix, "conv_f2s", "bn", (const size_t[]){ 2 * c, c, 7, 1, 1 });
	emit_pair(net, &p, stage, fast, &window, -1, true, (struct place){ joined, net->tensors[joined].c - 2 * c });
}

static int add_stem(struct net *net, size_t pathway, int in, struct place place)
{
	static const struct window pool = { { 1, 3, 3 }, { 1, 2, 2 }, { 0, 1, 1 }, { 1, 1, 1 } };
	size_t c = width_of(net, pathway), kt = pathway == SLOW ? 1 : 5;
	struct window w = { { kt, 7, 7 }, { 1, 2, 2 }, { kt / 2, 3, 3 }, { 1, 1, 1 } };
	char prefix[NAME_BYTES], name[NAME_BYTES];
	struct pair p;
	int x;

	name_set(prefix, "s1.pathway%zu_stem.", pathway);
	name_set(name, "s1.pathway%zu_stem.pool_layer", pathway);
	p = register_pair(net, prefix, "conv", "bn", (const size_t[]){ c, 3, kt, 7, 7 });
	x = emit_pair(net, &p, "s1", in, &w, -1, true, own);
	return add_windowed(net, OP_MAXPOOL, "s1", name, x, c, &pool, place)->out;
}

static int add_block(struct net *net, const struct stage_row *s, size_t pathway, size_t index, int in,
		     struct place place)
{
	size_t cin = net->tensors[in].c, inner = s->inner * width_of(net, pathway), cout = 4 * inner;
	size_t kt = s->kt[pathway], stride = index ? 1 : s->stride, d = s->dilation;
	struct window wa = { { kt, 1, 1 }, { 1, 1, 1 }, { kt / 2, 0, 0 }, { 1, 1, 1 } };
	struct window wb = { { 1, 3, 3 }, { 1, stride, stride }, { 0, d, d }, { 1, d, d } };
	struct window wc = { { 1, 1, 1 }, { 1, 1, 1 }, { 0, 0, 0 }, { 1, 1, 1 } };
	struct window wshort = { { 1, 1, 1 }, { 1, stride, stride }, { 0, 0, 0 }, { 1, 1, 1 } };
	struct pair shortcut, a, b, c;
	char prefix[NAME_BYTES];
	int x;

	name_set(prefix, "%s.pathway%zu_res%zu.", s->name, pathway, index);
	if (!index)
		shortcut = register_pair(net, prefix, "branch1", "branch1_bn", (const size_t[]){ cout, cin, 1, 1, 1 });
	a = register_pair(net, prefix, "branch2.a", "branch2.a_bn", (const size_t[]){ inner, cin, kt, 1, 1 });
	b = register_pair(net, prefix, "branch2.b", "branch2.b_bn", (const size_t[]){ inner, inner, 1, 3, 3 });
	c = register_pair(net, prefix, "branch2.c", "branch2.c_bn", (const size_t[]){ cout, inner, 1, 1, 1 });

	x = emit_pair(net, &a, s->name, in, &wa, -1, true, own);
	x = emit_pair(net, &b, s->name, x, &wb, -1, true, own);
	if (index)
		return emit_pair(net, &c, s->name, x, &wc, in, true, place);
	x = emit_pair(net, &c, s->name, x, &wc, -1, false, own);
	return emit_pair(net, &shortcut, s->name, in, &wshort, x, true, place);
}

/* All blocks of one pathway; the last one writes to `place`. */
static int add_blocks(struct net *net, const struct stage_row *s, size_t pathway, int x, struct place place)
{
	for (size_t i = 0; i < s->blocks; i++)
		x = add_block(net, s, pathway, i, x, i + 1 == s->blocks ? place : own);
	return x;
}

static void add_head(struct net *net, int slow, int fast)
{
	size_t c = net->tensors[slow].c + net->tensors[fast].c;
	struct net_op *roi, *fc;

	roi = add_op(net, OP_ROI_HEAD, "head", "head.roi", slow, (const size_t[]){ c, 1, 1, 1 }, own);
	roi->in2 = fast;
	fc = add_op(net, OP_FC, "head", "head.projection", roi->out, (const size_t[]){ NET_CLASSES, 1, 1, 1 }, own);
	fc->weight = add_param(net, PARAM_FC, fc->name, "weight", (const size_t[]){ NET_CLASSES, c }, 2);
	fc->bias = add_param(net, PARAM_FC, fc->name, "bias", (const size_t[]){ NET_CLASSES }, 1);
	fc->macs = net->params[fc->weight].count;
}

static void build(struct net *net)
{
	size_t h = (net->height + 3) / 4, w = (net->width + 3) / 4;	/* behind the stems: two strides of two, rounded up */
	int slow, fast, joined;

	slow = add_tensor(net, "slow", (const size_t[]){ 3, net->slow_frames, net->height, net->width }, own);
	fast = add_tensor(net, "fast", (const size_t[]){ 3, net->frames, net->height, net->width }, own);
	joined = add_concatenation(net, "s1_fuse", width_of(net, SLOW), h, w);
	add_stem(net, SLOW, slow, (struct place){ joined, 0 });
	fast = add_stem(net, FAST, fast, own);
	add_fuse(net, "s1_fuse", fast, joined);
	slow = joined;
	for (size_t i = 0; i < ARRAY_LEN(stage_rows); i++) {
		const struct stage_row *s = &stage_rows[i];

		h = (h + s->stride - 1) / s->stride;
		w = (w + s->stride - 1) / s->stride;
		joined = s->fuse ? add_concatenation(net, s->fuse, 4 * s->inner * width_of(net, SLOW), h, w) : -1;
		slow = add_blocks(net, s, SLOW, slow, (struct place){ joined, 0 });
		fast = add_blocks(net, s, FAST, fast, own);
		if (!s->fuse)
			break;
		add_fuse(net, s->fuse, fast, joined);
		slow = joined;
	}
	add_head(net, slow, fast);
}

/* Backward goes through the operators from the last to the first.  Autograd hands out a batch norm's weight before
 * its bias, but a projection's bias before its weight. */
static void count_ready(struct net *net)
{
	size_t ready = 0;

	for (size_t i = net->op_count; i-- > 0;) {
		const struct net_op *op = &net->ops[i];
		int first = op->kind == OP_FC ? op->bias : op->weight, second = op->kind == OP_FC ? op->weight : op->bias;

		if (first >= 0)
			net->params[first].ready = ready++;
		if (second >= 0)
			net->params[second].ready = ready++;
	}
	assert(ready == net->param_count);
}

const struct net_preset *net_preset_find(const char *name)
{
	for (const struct net_preset *p = net_presets; p->name; p++)
		if (!strcmp(p->name, name))
			return p;
	return NULL;
}

static int init(struct net *net)
{
	net->slow_frames = net->frames / NET_ALPHA;
	net->params = calloc(PARAMS, sizeof(*net->params));
	net->buffers = calloc(CONVS, sizeof(*net->buffers));
	net->tensors = calloc(TENSORS, sizeof(*net->tensors));
	net->ops = calloc(OPS, sizeof(*net->ops));
	if (!net->params || !net->buffers || !net->tensors || !net->ops) {
		const char *name = net->preset->name;

		net_release(net);
		return err(NO_MEMORY, "no memory for the rows of net '%s'", name);
	}
	build(net);
	assert(net->param_count == PARAMS && net->buffer_count == CONVS && net->op_count == OPS &&
	       net->tensor_count == TENSORS);
	count_ready(net);
	return OK;
}

int net_init(struct net *net, const struct net_preset *preset, size_t frames, size_t crop)
{
	*net = (struct net){ .preset = preset, .frames = frames ? frames : preset->frames,
			     .crop = crop ? crop : preset->crop };
	net->height = net->width = net->crop;
	if (net->frames % NET_ALPHA || net->frames < FRAMES_MIN || net->frames > FRAMES_MAX)
		return err(USAGE, "frames '%zu': wants a multiple of %d from %d to %d", net->frames, NET_ALPHA,
			   FRAMES_MIN, FRAMES_MAX);
	if (net->crop % NET_ROI_STRIDE || net->crop < CROP_MIN || net->crop > CROP_MAX)
		return err(USAGE, "crop '%zu': wants a multiple of %d from %d to %d", net->crop, NET_ROI_STRIDE,
			   CROP_MIN, CROP_MAX);
	return init(net);
}

int net_init_whole(struct net *net, const struct net *like, size_t height, size_t width)
{
	*net = (struct net){ .preset = like->preset, .frames = like->frames, .crop = like->crop, .height = height,
			     .width = width };
	if (height < CROP_MIN || height > CROP_MAX || width < CROP_MIN || width > CROP_MAX)
		return err(UNSUPPORTED, "frames of %zu x %zu: wants %d to %d each way", width, height, CROP_MIN, CROP_MAX);
	return init(net);
}

void net_release(struct net *net)
{
	free(net->params);
	free(net->buffers);
	free(net->tensors);
	free(net->ops);
	*net = (struct net){ 0 };
}

uint64_t net_backward_macs(const struct net *net, size_t ready)
{
	uint64_t macs = 0;

	for (size_t i = net->op_count; i-- > 0;) {
		const struct net_op *op = &net->ops[i];

		if (op->kind != OP_CONV)
			continue;
		if (net->params[op->weight].ready > ready)
			break;
		macs += op->in < NET_INPUTS ? op->macs : 2 * op->macs;
	}
	return macs;
}
