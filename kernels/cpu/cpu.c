/*
 * kernels/cpu/cpu.c - the CPU back end: oneDNN's convolutions, our own everything else.
 *
 * open() turns the net's operators into nodes, over an arena that is planned per clip (kernels/plan.h).
 *
 * Activations are in blocks of 8 or 16 channels, whatever oneDNN likes on this machine; the
 * two inputs as their stems want them (conv.h).  Nodes are bound to addresses by
 * prepare(): once, and again when a step brings another number of clips than the last.
 *
 * A step is called from one thread, always the same; the operators are parallel inside.
 */
#include "kernels/kernels.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/hash.h"
#include "kernels/backends.h"
#include "kernels/cpu/conv.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/yardstick.h"
#include "kernels/dropout.h"
#include "kernels/initial.h"
#include "kernels/plan.h"

#include <assert.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOW, FAST };

/* An operator, ready to run. */
struct node {
	const struct net_op *op;
	struct conv conv;
	struct norm norm;
	struct pool pool;
};

struct cpu {
	struct kernels base;
	struct kernel_config config;
	struct dnn dnn;
	size_t block;			/* channels innermost */
	struct node *nodes;		/* owned, as all below; one per operator */
	struct kernel_plan plan;
	float *sum;			/* flat; gradients of the parts before this one; NULL: steps have one part */
	float *bn_mean, *bn_inv_std;	/* of the batch, all channels */
	double *partial;		/* of one batch norm */
	char *arena;
	char *scratch;
	size_t scratch_bytes;
	size_t prepared_clips;		/* 0: nodes are not bound */

	size_t clips, boxes;		/* of this step */
	size_t part, parts;
	size_t backward_left;		/* operators [0, left) have not run backward yet */
	float *rois, *labels;		/* (R,5), (R,80) */
	struct roi roi[2];		/* by pathway */
	size_t feature_count;		/* per box */
	float *features, *dfeatures;	/* (R,F), behind dropout */
	float *drop;			/* (R,F): 0 or 1/(1-p) */
	float *logits, *dlogits, *preds;	/* (R,80) */
	float loss;
};

static struct cpu *cpu_of(struct kernels *k)
{
	return (struct cpu *)k;
}

static int cpu_probe(char *why, size_t why_bytes)
{
	struct dnn dnn;
	int rc = dnn_open(&dnn);

	if (rc)
		snprintf(why, why_bytes, "%s", err_own());
	else
		dnn_close(&dnn);
	return rc;
}

/* ---- tensors ---- */

static size_t blocks_of(const struct cpu *c, size_t channels)
{
	return (channels + c->block - 1) / c->block;
}

/* The convolution of an operator, for `clips`. */
static struct dnn_conv conv_shape(const struct cpu *c, const struct net_op *op, size_t clips)
{
	const struct net_tensor *x = &c->base.net->tensors[op->in], *y = &c->base.net->tensors[op->out];
	struct dnn_conv shape = { .n = clips, .cin = x->c, .cout = y->c, .in = { x->t, x->h, x->w },
				  .out = { y->t, y->h, y->w } };

	memcpy(shape.kernel, op->kernel, sizeof(shape.kernel));
	memcpy(shape.stride, op->stride, sizeof(shape.stride));
	memcpy(shape.pad, op->pad, sizeof(shape.pad));
	memcpy(shape.dilation, op->dilation, sizeof(shape.dilation));
	return shape;
}

/* The stem: the one convolution that reads an input. */
static const struct net_op *reader_of(const struct net *net, int input)
{
	const struct net_op *op = net->ops;

	while (op->in != input)
		op++;
	return op;
}

static size_t clip_floats(const void *cpu, int tensor)
{
	const struct cpu *c = cpu;
	const struct net_tensor *t = &c->base.net->tensors[tensor];
	struct dnn_conv stem;

	if (!kernel_plan_is_input(tensor))
		return blocks_of(c, t->c) * c->block * t->t * t->h * t->w;
	stem = conv_shape(c, reader_of(c->base.net, tensor), 1);
	return conv_input_floats(&stem, c->block);
}

/* A tensor, or with `pieces` = grads its gradient, with the clips for which nodes are being prepared. */
static struct act act_of(const struct cpu *c, const struct piece *pieces, int tensor)
{
	const struct net_tensor *t = &c->base.net->tensors[tensor];
	int root = kernel_plan_root(c->base.net, tensor);
	float *at = (float *)(c->arena + pieces[root].offset * c->prepared_clips);

	return (struct act){ .at = at + t->c0 * t->t * t->h * t->w, .clip = clip_floats(c, root),
			     .n = c->prepared_clips, .c = t->c, .dims = { t->t, t->h, t->w }, .block = c->block };
}

/* ---- nodes ---- */

static float *weights_at(const struct cpu *c, int param)
{
	return c->base.weights + c->plan.places.offset[param];
}

static float *grads_at(const struct cpu *c, int param)
{
	return c->base.grads + c->plan.places.offset[param];
}

static int conv_node_make(struct cpu *c, struct node *node)
{
	const struct dnn_conv shape = conv_shape(c, node->op, c->prepared_clips);

	return conv_make(&c->dnn, &node->conv, &shape, c->block, kernel_plan_is_input(node->op->in), c->plan.adds[node - c->nodes]);
}

static int conv_node_bind(struct cpu *c, struct node *node)
{
	const struct net_op *op = node->op;
	const struct conv_place at = {
		.x = act_of(c, c->plan.values, op->in).at, .y = act_of(c, c->plan.values, op->out).at,
		.dx = kernel_plan_is_input(op->in) ? NULL : act_of(c, c->plan.grads, op->in).at,
		.dy = act_of(c, c->plan.grads, op->out).at,
		.weights = weights_at(c, op->weight), .dweights = grads_at(c, op->weight),
	};

	return conv_bind(&c->dnn, &node->conv, &at, c->scratch);
}

static void norm_node_bind(struct cpu *c, struct node *node)
{
	const struct net_op *op = node->op;
	const size_t first = c->plan.places.bn_offset[op->buffer], channels = c->base.net->buffers[op->buffer].channels;

	node->norm = (struct norm){
		.x = act_of(c, c->plan.values, op->in), .y = act_of(c, c->plan.values, op->out),
		.dx = act_of(c, c->plan.grads, op->in), .dy = act_of(c, c->plan.grads, op->out),
		.relu = op->relu, .add_dshortcut = c->plan.adds[node - c->nodes],
		.weight = weights_at(c, op->weight), .bias = weights_at(c, op->bias),
		.dweight = grads_at(c, op->weight), .dbias = grads_at(c, op->bias),
		.running_mean = c->base.bn_state + 2 * first,
		.running_var = c->base.bn_state + 2 * first + channels,
		.mean = c->bn_mean + first, .inv_std = c->bn_inv_std + first,
		.partial = c->partial,
	};
	if (op->in2 >= 0) {
		node->norm.shortcut = act_of(c, c->plan.values, op->in2);
		node->norm.dshortcut = act_of(c, c->plan.grads, op->in2);
	}
}

static void pool_node_bind(struct cpu *c, struct node *node)
{
	const struct net_op *op = node->op;

	node->pool = (struct pool){
		.x = act_of(c, c->plan.values, op->in), .y = act_of(c, c->plan.values, op->out),
		.dx = act_of(c, c->plan.grads, op->in), .dy = act_of(c, c->plan.grads, op->out),
		.winner = (uint8_t *)c->arena + c->plan.winners[op->out].offset * c->prepared_clips,
		.kernel = { op->kernel[1], op->kernel[2] }, .stride = { op->stride[1], op->stride[2] },
		.pad = { op->pad[1], op->pad[2] },
	};
}

static void roi_node_bind(struct cpu *c, const struct net_op *op)
{
	const int in[2] = { [SLOW] = op->in, [FAST] = op->in2 };

	for (int p = 0; p < 2; p++) {
		c->roi[p].x = act_of(c, c->plan.values, in[p]);
		c->roi[p].dx = act_of(c, c->plan.grads, in[p]);
	}
}

static int node_bind(struct cpu *c, struct node *node)
{
	switch (node->op->kind) {
	case OP_CONV: return conv_node_bind(c, node);
	case OP_BN: norm_node_bind(c, node); break;
	case OP_MAXPOOL: pool_node_bind(c, node); break;
	case OP_ROI_HEAD: roi_node_bind(c, node->op); break;
	case OP_FC: break;
	}
	return OK;
}

static int grow_scratch(struct cpu *c, size_t bytes)
{
	if (bytes <= c->scratch_bytes)
		return OK;
	free(c->scratch);
	c->scratch_bytes = 0;
	c->scratch = arena_alloc(bytes, "the convolutions' scratch");
	if (!c->scratch)
		return NO_MEMORY;
	c->scratch_bytes = bytes;
	return OK;
}

/* Makes and binds all nodes for this number of clips. */
static int prepare(struct cpu *c, size_t clips)
{
	const struct net *net = c->base.net;
	size_t most = 0;
	int rc = OK;

	for (size_t i = 0; i < net->op_count; i++)
		conv_release(&c->nodes[i].conv);
	c->prepared_clips = clips;
	for (size_t i = 0; !rc && i < net->op_count; i++) {
		size_t bytes;

		if (net->ops[i].kind != OP_CONV)
			continue;
		rc = conv_node_make(c, &c->nodes[i]);
		bytes = rc ? 0 : conv_scratch_bytes(&c->nodes[i].conv);
		most = bytes > most ? bytes : most;
	}
	if (!rc)
		rc = grow_scratch(c, most);
	for (size_t i = 0; !rc && i < net->op_count; i++)
		rc = node_bind(c, &c->nodes[i]);
	if (rc)
		c->prepared_clips = 0;
	return rc;
}

/* ---- forward and backward of an operator ---- */

/* The kept values times 1/(1-p), the others 0. */
static void drop(const struct cpu *c, float *features)
{
	for (size_t i = 0; i < c->boxes * c->feature_count; i++)
		features[i] *= c->drop[i];
}

static int node_forward(struct cpu *c, const struct node *node, bool training)
{
	const struct net_op *op = node->op;
	struct norm norm = node->norm;

	switch (op->kind) {
	case OP_CONV:
		return conv_run(&c->dnn, &node->conv, OP_FORWARD);
	case OP_BN:
		if (training && c->part)
			norm.running_mean = norm.running_var = NULL;
		if (training)
			norm_forward(&norm);
		else
			norm_evaluate(&norm);
		c->base.bn_batches[op->buffer] += training && !c->part;
		break;
	case OP_MAXPOOL:
		pool_forward(&node->pool);
		break;
	case OP_ROI_HEAD:
		roi_forward(&c->roi[SLOW]);
		roi_forward(&c->roi[FAST]);
		dropout_draw(c->config.dropout_seed + c->part, (uint64_t)c->base.bn_batches[0],
			     training ? c->config.dropout : 0, c->boxes * c->feature_count, c->drop);
		drop(c, c->features);
		break;
	case OP_FC:
		fc_forward(c->features, weights_at(c, op->weight), weights_at(c, op->bias), c->boxes, c->feature_count,
			   NET_CLASSES, c->logits);
		sigmoid_forward(c->logits, c->boxes * NET_CLASSES, c->preds);
		break;
	}
	return OK;
}

static int node_backward(struct cpu *c, const struct node *node)
{
	const struct net_op *op = node->op;
	int rc = OK;

	switch (op->kind) {
	case OP_CONV:
		rc = conv_run(&c->dnn, &node->conv, OP_BACKWARD_WEIGHTS);
		if (!rc && node->conv.pass[OP_BACKWARD_DATA].used)
			rc = conv_run(&c->dnn, &node->conv, OP_BACKWARD_DATA);
		break;
	case OP_BN:
		norm_backward(&node->norm);
		break;
	case OP_MAXPOOL:
		pool_backward(&node->pool);
		break;
	case OP_ROI_HEAD:
		drop(c, c->dfeatures);
		roi_backward(&c->roi[SLOW]);
		roi_backward(&c->roi[FAST]);
		break;
	case OP_FC:
		bce_backward(c->preds, c->labels, c->boxes * NET_CLASSES, c->dlogits);
		fc_backward(c->features, weights_at(c, op->weight), c->dlogits, c->boxes, c->feature_count, NET_CLASSES,
			    c->dfeatures, grads_at(c, op->weight), grads_at(c, op->bias));
		break;
	}
	return rc;
}

/* The gradients of an operator join those of the parts before; behind the last part stands the mean. */
static void gather(struct cpu *c, const struct net_op *op)
{
	const int params[2] = { op->weight, op->bias };

	for (int p = 0; p < 2 && c->parts > 1; p++) {
		float *grads, *sum;
		size_t count;

		if (params[p] < 0)
			continue;
		grads = grads_at(c, params[p]);
		sum = c->sum + c->plan.places.offset[params[p]];
		count = c->base.net->params[params[p]].count;
		if (!c->part)
			memcpy(sum, grads, count * sizeof(*sum));
		else if (c->part + 1 < c->parts)
			add_to(sum, grads, count);
		else
			for (size_t i = 0; i < count; i++)
				grads[i] = (grads[i] + sum[i]) / (float)c->parts;
	}
}

/* ---- a step ---- */

static int cpu_input(struct kernels *k, const struct step_input *in)
{
	struct cpu *c = cpu_of(k);
	const float *const plain[NET_INPUTS] = { [SLOW] = in->slow, [FAST] = in->fast };
	int rc = kernels_check_input(in, &c->config);

	if (rc)
		return rc;
	assert(in->parts <= 1 || (c->sum && in->part < in->parts));
	omp_set_num_threads((int)c->config.threads);
	if (in->clips != c->prepared_clips)
		rc = prepare(c, in->clips);
	if (rc)
		return rc;
	c->clips = in->clips;
	c->boxes = in->boxes;
	c->part = in->part;
	c->parts = in->parts;
	c->roi[SLOW].box_count = c->roi[FAST].box_count = in->boxes;
	c->backward_left = c->base.net->op_count;
	for (int i = 0; i < NET_INPUTS; i++) {
		const struct dnn_conv stem = conv_shape(c, reader_of(k->net, i), in->clips);

		conv_input(&stem, c->block, &(struct conv_source){ plain[i], in->crops, k->net->frames, c->config.old_linspace },
			   act_of(c, c->plan.values, i).at);
	}
	memcpy(c->rois, in->rois, in->boxes * 5 * sizeof(float));
	memcpy(c->labels, in->labels, in->boxes * NET_CLASSES * sizeof(float));
	return OK;
}

static int all_forward(struct cpu *c, bool training)
{
	int rc = OK;

	for (size_t i = 0; !rc && i < c->base.net->op_count; i++)
		rc = node_forward(c, &c->nodes[i], training);
	return rc;
}

static int cpu_forward(struct kernels *k)
{
	return all_forward(cpu_of(k), true);
}

static int cpu_evaluate(struct kernels *k)
{
	return all_forward(cpu_of(k), false);
}

static int cpu_loss(struct kernels *k)
{
	struct cpu *c = cpu_of(k);

	c->loss = (float)bce(c->preds, c->labels, c->boxes * NET_CLASSES);
	return OK;
}

static int cpu_backward(struct kernels *k, size_t ready)
{
	struct cpu *c = cpu_of(k);
	const size_t until = ready + 1 == k->net->param_count ? 0 : c->plan.op_of_ready[ready];
	int rc = OK;

	while (!rc && c->backward_left > until) {
		const struct node *node = &c->nodes[--c->backward_left];

		rc = node_backward(c, node);
		if (!rc)
			gather(c, node->op);
	}
	return rc;
}

static int cpu_update(struct kernels *k, const struct sgd *sgd)
{
	struct cpu *c = cpu_of(k);

	for (size_t i = 0; i < k->net->param_count; i++) {
		const struct net_param *p = &k->net->params[i];
		const size_t at = c->plan.places.offset[i];
		const struct sgd_step s = { (float)sgd->lr, (float)sgd->momentum,
					    p->decays ? (float)sgd->weight_decay : 0, sgd->nesterov };

		sgd_update(k->weights + at, k->momentum + at, k->grads + at, p->count, &s);
	}
	return OK;
}

/* ---- state in and out ---- */

static const struct conv *conv_of_param(const struct cpu *c, size_t param)
{
	for (size_t i = 0; i < c->base.net->op_count; i++)
		if (c->nodes[i].op->kind == OP_CONV && c->nodes[i].op->weight == (int)param)
			return &c->nodes[i].conv;
	return NULL;
}

/* Copies a parameter-like tensor between its place and plain order; `out`: towards plain. */
static int copy_param(struct cpu *c, size_t param, float *stored, float *plain, bool out)
{
	const struct conv *conv = conv_of_param(c, param);
	const size_t bytes = c->base.net->params[param].count * sizeof(float);
	struct dnn_layout order = { 0 };
	struct dnn_prim reorder = { 0 };
	void *scratch = NULL;
	int rc;

	if (!conv) {
		memcpy(out ? plain : stored, out ? stored : plain, bytes);
		return OK;
	}
	rc = dnn_layout_weights(&order, (const size_t[]){ conv->shape.cout, conv->shape.cin, conv->shape.kernel[0],
				conv->shape.kernel[1], conv->shape.kernel[2] }, conv->shape.flat);
	if (!rc)
		rc = out ? dnn_reorder_make(&c->dnn, &reorder, &conv->weights, &order)
			 : dnn_reorder_make(&c->dnn, &reorder, &order, &conv->weights);
	if (!rc && reorder.scratch_bytes && !(scratch = malloc(reorder.scratch_bytes)))
		rc = err(NO_MEMORY, "no memory to reorder '%s'", c->base.net->params[param].name);
	if (!rc)
		rc = dnn_bind(&c->dnn, &reorder, (void *const[]){ out ? stored : plain, NULL, out ? plain : stored },
			      scratch);
	if (!rc)
		rc = dnn_run(&c->dnn, &reorder);
	dnn_prim_release(&reorder);
	dnn_layout_release(&order);
	free(scratch);
	return rc;
}

static int copy_state(struct cpu *c, enum state_kind kind, size_t index, float *plain, bool out)
{
	size_t count;
	float *stored = kernel_places_at(&c->plan.places, &c->base, kind, index, &count);

	if (kind != STATE_MEAN && kind != STATE_VAR)
		return copy_param(c, index, stored, plain, out);
	memcpy(out ? plain : stored, out ? stored : plain, count * sizeof(float));
	return OK;
}

static int cpu_get(struct kernels *k, enum state_kind kind, size_t index, float *plain)
{
	return copy_state(cpu_of(k), kind, index, plain, true);
}

static int cpu_set(struct kernels *k, enum state_kind kind, size_t index, const float *plain)
{
	return copy_state(cpu_of(k), kind, index, (float *)plain, false);	/* read only on this way */
}

/* ---- what was chosen ---- */

static const struct field described_fields[] = {
	{ "operator", "", "module of the network", 0 },
	{ "forward", "", "implementation: oneDNN's name, or own", 0 },
	{ "backward_data", "", "likewise", 0 },
	{ "backward_weights", "", "likewise", 0 },
	{ "reorders", "1", "changes of layout in a step, all passes", 0 },
};

static int64_t reorders_of(const struct conv *conv)
{
	int64_t count = 0;

	for (int pass = 0; pass < OP_PASSES; pass++)
		for (int arg = 0; arg < DNN_ARGS; arg++)
			count += conv->pass[pass].reorder[arg].primitive != NULL;
	return count;
}

static int cpu_describe(struct kernels *k, struct table *table)
{
	const struct cpu *c = cpu_of(k);

	table_init(table, "implementations", "What executes each operator", described_fields,
		   ARRAY_LEN(described_fields));
	for (size_t i = 0; i < k->net->op_count; i++) {
		const struct node *node = &c->nodes[i];
		const bool conv = node->op->kind == OP_CONV;

		table_text(table, node->op->name);
		for (size_t p = 0; p < OP_PASSES; p++)
			if (conv && !node->conv.pass[p].used)
				table_none(table);
			else
				table_text(table, conv ? node->conv.pass[p].prim.impl : "own");
		table_int(table, conv ? reorders_of(&node->conv) : 0);
	}
	return OK;
}

static int cpu_time_op(struct kernels *k, size_t op, enum op_pass pass, size_t times, uint64_t *ns)
{
	struct cpu *c = cpu_of(k);
	const struct node *node = &c->nodes[op];
	const bool conv = node->op->kind == OP_CONV;
	const uint64_t begin_ns = clock_ns();
	int rc = OK;

	*ns = 0;
	if (conv ? !node->conv.pass[pass].used : pass == OP_BACKWARD_WEIGHTS)
		return OK;
	for (size_t i = 0; i < times && !rc; i++)
		if (conv)
			rc = conv_run(&c->dnn, &node->conv, pass);
		else
			rc = pass == OP_FORWARD ? node_forward(c, node, true) : node_backward(c, node);
	*ns = clock_ns() - begin_ns;
	return rc;
}

static int cpu_ceilings(struct kernels *k, double *flop_per_s, double *bytes_per_s)
{
	return cpu_ceilings_measure(cpu_of(k)->config.threads, flop_per_s, bytes_per_s);
}

/* ---- open and close ---- */

static void cpu_close(struct kernels *k)
{
	struct cpu *c = cpu_of(k);

	if (!c)
		return;
	for (size_t i = 0; c->nodes && i < k->net->op_count; i++)
		conv_release(&c->nodes[i].conv);
	dnn_close(&c->dnn);
	free(c->nodes);
	kernel_plan_release(&c->plan);
	free(c->base.momentum);
	free(c->sum);
	free(c->bn_mean);
	free(c->bn_inv_std);
	free(c->partial);
	free(c->arena);
	free(c->scratch);
	free(c->rois);
	free(c->labels);
	for (int p = 0; p < 2; p++) {
		free(c->roi[p].mean);
		free(c->roi[p].winner);
	}
	free(c->features);
	free(c->dfeatures);
	free(c->drop);
	free(c->logits);
	free(c->dlogits);
	free(c->preds);
	free(k->grads);
	free(k->weights);
	free(k->bn_state);
	free(k->bn_batches);
	free(c);
}

static void *need(size_t count, size_t size, int *rc)
{
	void *at = *rc ? NULL : arena_alloc(count * size, "the network's state");

	if (!at && !*rc)
		*rc = NO_MEMORY;
	return at;
}

static int open_state(struct cpu *c)
{
	const struct net *net = c->base.net;
	int rc = OK;

	c->nodes = calloc(net->op_count, sizeof(*c->nodes));
	c->base.bn_batches = calloc(net->buffer_count, sizeof(*c->base.bn_batches));
	c->bn_mean = calloc(net->buffer_values, sizeof(*c->bn_mean));
	c->bn_inv_std = calloc(net->buffer_values, sizeof(*c->bn_inv_std));
	if (!c->nodes || !c->base.bn_batches || !c->bn_mean || !c->bn_inv_std)
		return err(NO_MEMORY, "no memory for %zu operators", net->op_count);
	for (size_t i = 0; i < net->op_count; i++)
		c->nodes[i].op = &net->ops[i];
	c->base.grads = need(net->values, sizeof(float), &rc);
	c->base.weights = need(net->values, sizeof(float), &rc);
	c->base.momentum = need(net->values, sizeof(float), &rc);
	if (c->config.in_parts)
		c->sum = need(net->values, sizeof(float), &rc);
	c->base.bn_state = need(net->buffer_values, sizeof(float), &rc);
	return rc;
}

/* The head's memory depends on boxes, not on clips. */
static int open_head(struct cpu *c)
{
	const struct net *net = c->base.net;
	const size_t boxes = c->config.boxes_max, clips = c->config.clips_max;
	size_t first = 0;
	int rc = OK;

	for (size_t i = 0; i < net->op_count; i++) {
		const struct net_op *op = &net->ops[i];
		const int in[2] = { [SLOW] = op->in, [FAST] = op->in2 };

		if (op->kind != OP_ROI_HEAD)
			continue;
		c->feature_count = net->tensors[op->out].c;
		c->features = need(boxes * c->feature_count, sizeof(float), &rc);
		c->dfeatures = need(boxes * c->feature_count, sizeof(float), &rc);
		c->drop = need(boxes * c->feature_count, sizeof(float), &rc);
		for (int p = 0; !rc && p < 2; p++) {
			const struct net_tensor *t = &net->tensors[in[p]];

			c->roi[p] = (struct roi){
				.mean = need(clips * blocks_of(c, t->c) * c->block * t->h * t->w, sizeof(float), &rc),
				.winner = need(boxes * t->c, 1, &rc),
				.out = NET_ROI_OUT, .scale = 1.0f / NET_ROI_STRIDE, .aligned = true,
				.features = c->features + first, .dfeatures = c->dfeatures + first,
				.stride = c->feature_count,
			};
			first += t->c;
		}
	}
	c->rois = need(boxes * 5, sizeof(float), &rc);
	c->labels = need(boxes * NET_CLASSES, sizeof(float), &rc);
	c->logits = need(boxes * NET_CLASSES, sizeof(float), &rc);
	c->dlogits = need(boxes * NET_CLASSES, sizeof(float), &rc);
	c->preds = need(boxes * NET_CLASSES, sizeof(float), &rc);
	c->base.preds = c->preds;
	c->base.loss = &c->loss;
	c->roi[SLOW].boxes = c->roi[FAST].boxes = c->rois;
	return rc;
}

/* Room for the partial sums of the largest batch norm. */
static int open_partial(struct cpu *c)
{
	const struct net *net = c->base.net;
	size_t most = 0;
	int rc = OK;

	for (size_t i = 0; i < net->tensor_count; i++) {
		const struct net_tensor *t = &net->tensors[i];
		const struct act x = { .n = c->config.clips_max, .c = t->c, .dims = { t->t, t->h, t->w },
				       .block = c->block };
		size_t doubles = norm_partial_doubles(&x);

		most = doubles > most ? doubles : most;
	}
	c->partial = need(most, sizeof(double), &rc);
	return rc;
}

/* Blocks of channels that every slice of a concatenation begins with. */
static int choose_block(struct cpu *c)
{
	int rc = dnn_block(&c->dnn, &c->block);

	for (size_t i = 0; !rc && i < c->base.net->tensor_count; i++)
		if (c->base.net->tensors[i].c0 % c->block)
			c->block = 8;
	return rc;
}

static uint64_t layout_hash(const struct cpu *c)
{
	char version[64];
	uint64_t hash;

	dnn_version(version, sizeof(version));
	hash = hash_text(HASH_START, version);
	for (size_t i = 0; i < c->base.net->param_count; i++)
		hash = hash_word(hash, c->plan.places.offset[i], sizeof(c->plan.places.offset[i]));
	for (size_t i = 0; i < c->base.net->op_count; i++)
		if (c->nodes[i].op->kind == OP_CONV)
			hash = dnn_layout_hash(&c->nodes[i].conv.weights, hash);
	return hash;
}

/* Weights by the rules of initialisation: drawn in parallel where momentum will be, then laid out. */
static int open_weights(struct cpu *c)
{
	const struct net *net = c->base.net;
	int rc = OK;

#pragma omp parallel for schedule(dynamic)
	for (size_t i = 0; i < net->param_count; i++)
		initial_weights(net, i, c->config.seed, c->base.momentum + c->plan.places.offset[i]);
	for (size_t i = 0; !rc && i < net->param_count; i++)
		rc = copy_param(c, i, c->base.weights + c->plan.places.offset[i], c->base.momentum + c->plan.places.offset[i], false);
	memset(c->base.momentum, 0, net->values * sizeof(float));
	for (size_t i = 0; i < net->buffer_count; i++)
		for (size_t j = 0; j < net->buffers[i].channels; j++)
			c->base.bn_state[2 * c->plan.places.bn_offset[i] + net->buffers[i].channels + j] = 1;
	return rc;
}

static int cpu_open(struct kernels **k, const struct kernel_config *config)
{
	struct cpu *c;
	int rc;

	*k = NULL;
	if (config->precision && strcmp(config->precision, "fp32"))
		return err(UNSUPPORTED, "kernels 'cpu' compute in fp32, not in '%s'", config->precision);
	c = calloc(1, sizeof(*c));
	if (!c)
		return err(NO_MEMORY, "no memory for the CPU back end");
	c->base = (struct kernels){ .backend = &kernel_cpu, .net = config->net, .precision = "fp32",
				    .element_bytes = sizeof(float) };
	c->config = *config;
	if (!c->config.threads)
		c->config.threads = 1;
	omp_set_num_threads((int)c->config.threads);	/* oneDNN asks for it when it makes primitives */
	rc = dnn_open(&c->dnn);
	if (!rc)
		rc = choose_block(c);
	if (!rc)
		rc = kernel_plan_init(&c->plan, c->base.net, config->grad_offset, clip_floats, c, sizeof(float));
	if (!rc)
		rc = open_state(c);
	if (!rc)
		rc = open_head(c);
	if (!rc)
		rc = open_partial(c);
	if (!rc && !(c->arena = arena_alloc(c->plan.clip_bytes * config->clips_max, "activations and their gradients")))
		rc = NO_MEMORY;
	if (!rc)
		rc = prepare(c, config->clips_max);
	if (!rc)
		rc = open_weights(c);
	if (rc) {
		cpu_close(&c->base);
		return rc;
	}
	c->config.grad_offset = c->plan.places.offset;
	c->base.layout_hash = layout_hash(c);
	*k = &c->base;
	return OK;
}

static int cpu_convolutions_ns(struct kernels *k, uint64_t *ns)
{
	const struct kernel_config *config = &cpu_of(k)->config;

	return cpu_conv_sum_measure(k->net, config->clips_max, config->threads, 1, ns);
}

static int cpu_version(char *text, size_t bytes)
{
	dnn_version(text, bytes);
	return OK;
}

const struct kernel_backend kernel_cpu = {
	.name = "cpu",
	.takes_parts = true,
	.probe = cpu_probe,
	.open = cpu_open,
	.close = cpu_close,
	.input = cpu_input,
	.forward = cpu_forward,
	.evaluate = cpu_evaluate,
	.loss = cpu_loss,
	.backward = cpu_backward,
	.update = cpu_update,
	.get = cpu_get,
	.set = cpu_set,
	.describe = cpu_describe,
	.time_op = cpu_time_op,
	.ceilings = cpu_ceilings,
	.convolutions_ns = cpu_convolutions_ns,
	.version = cpu_version,
};
