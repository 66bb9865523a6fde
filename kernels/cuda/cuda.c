/*
 * kernels/cuda/cuda.c - the CUDA back end: cuDNN's convolutions (conv.h), our own everything else (ops.h).
 *
 * The same nodes over the same plan as the CPU's (kernels/plan.h), in other words: activations are NDHWC, in float or bf16;
 * weights, momentum, gradients, statistics and the head are float.  Convolutions read their weights from a copy in the
 * element type, with the inputs' channels padded; the optimiser writes it in the same pass.
 *
 * Everything is enqueued on one stream, and every call of the table waits for the stream before it returns: what it took is
 * between its begin and its end on the host's clock, launches included.
 *
 * Not here: several parts per step.
 */
#include "kernels/kernels.h"

#include "bench/base/hash.h"
#include "kernels/cuda/conv.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/ops.h"
#include "kernels/dropout.h"
#include "kernels/initial.h"
#include "kernels/plan.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOW, FAST };

__attribute__((visibility("default"))) extern const struct kernel_backend sfscale_kernels_cuda;

/* An operator, ready to run. */
struct node {
	const struct net_op *op;
	struct cuda_conv *conv;		/* owned */
	struct cuda_norm norm;
	struct cuda_pool pool;
};

/* The head's memory; (R,...) of boxes_max, on the device but for those that are pinned. */
struct head {
	size_t feature_count;		/* per box */
	float *rois, *labels;		/* (R,5), (R,80) */
	float *features, *dfeatures;	/* (R,F), behind dropout */
	float *drop, *drop_pinned;	/* (R,F): 0 or 1/(1-p) */
	float *logits, *dlogits, *preds, *preds_pinned;	/* (R,80) */
	float *loss, *loss_pinned;	/* (1) */
	struct cuda_roi roi[2];		/* by pathway */
};

struct cuda {
	struct kernels base;
	struct kernel_config config;
	struct kernel_plan plan;
	enum cuda_math math;
	enum cuda_element element;
	size_t channels[NET_INPUTS];	/* of the inputs as stored */
	cudaStream_t stream;		/* owned, as all below */
	struct cuda_dnn *dnn;
	struct cuda_memory memory;	/* of all but what depends on the number of clips in a step */
	struct cuda_memory workspace;
	struct node *nodes;		/* one per operator */
	char *arena;
	float *raw;			/* one input, as it comes: (N,3,T,H,W) */
	void *copies;			/* weights as convolutions read them */
	size_t *copy_offset;		/* per parameter: its elements in `copies`; SIZE_MAX: has none */
	struct cuda_run *runs;		/* on the device, one per parameter */
	size_t longest_run;
	bool copies_stale;
	float *hyper, *hyper_pinned;	/* lr, momentum, weight decay */
	float *bn_mean, *bn_inv_std;	/* of the batch, all channels */
	float *partial;			/* of one batch norm */
	float *plain;			/* host: one parameter */
	struct head head;
	size_t prepared_clips;		/* 0: nodes are not bound */
	size_t boxes;			/* of this step */
	size_t backward_left;		/* operators [0, left) have not run backward yet */
};

static struct cuda *cuda_of(struct kernels *k)
{
	return (struct cuda *)k;
}

static int cuda_wait(struct cuda *c)
{
	return TRY_CUDA(cudaStreamSynchronize(c->stream));
}

static int cuda_to_device(struct cuda *c, void *to, const void *from, size_t bytes)
{
	return TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, c->stream));
}

static int cuda_to_host(struct cuda *c, void *to, const void *from, size_t bytes)
{
	return TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, c->stream));
}

/* The runtime says that the driver is too old where there is none at all. */
static int cuda_probe(char *why, size_t why_bytes)
{
	int driver = 0, runtime = 0, count = 0;
	cudaError_t e = cudaDriverGetVersion(&driver);

	if (e == cudaSuccess)
		e = cudaRuntimeGetVersion(&runtime);
	if (e == cudaSuccess && driver == 0)
		snprintf(why, why_bytes, "this machine has no CUDA driver (libcuda.so.1)");
	else if (e == cudaSuccess && driver / 1000 < runtime / 1000)
		snprintf(why, why_bytes, "its driver is one for CUDA %d.%d, and this program was built with %d.%d", driver / 1000,
			 driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
	else if (e == cudaSuccess && (e = cudaGetDeviceCount(&count)) == cudaSuccess && count)
		return OK;
	else
		snprintf(why, why_bytes, "%s", e == cudaSuccess ? "no GPU" : cudaGetErrorString(e));
	return UNSUPPORTED;
}

/* ---- tensors ---- */

/* Channels of a tensor with memory of its own, as stored. */
static size_t stored_channels(const struct cuda *c, int tensor)
{
	return kernel_plan_is_input(tensor) ? c->channels[tensor] : c->base.net->tensors[tensor].c;
}

static size_t clip_values(const void *cuda, int tensor)
{
	const struct cuda *c = cuda;
	const struct net_tensor *t = &c->base.net->tensors[tensor];

	return stored_channels(c, tensor) * t->t * t->h * t->w;
}

/* A tensor, or with `pieces` = grads its gradient, with the clips for which nodes are being prepared. */
static struct cuda_act act_of(const struct cuda *c, const struct piece *pieces, int tensor)
{
	const struct net_tensor *t = &c->base.net->tensors[tensor];
	int root = kernel_plan_root(c->base.net, tensor);

	return (struct cuda_act){ .at = c->arena + pieces[root].offset * c->prepared_clips + t->c0 * cuda_element_bytes(c->element),
				  .n = c->prepared_clips, .c = t->c, .dims = { t->t, t->h, t->w },
				  .pitch = stored_channels(c, root) };
}

static float *weights_at(const struct cuda *c, int param)
{
	return c->base.weights + c->plan.offset[param];
}

static float *grads_at(const struct cuda *c, int param)
{
	return c->base.grads + c->plan.offset[param];
}

static void *copy_at(const struct cuda *c, int param)
{
	return (char *)c->copies + c->copy_offset[param] * cuda_element_bytes(c->element);
}

/* ---- nodes ---- */

static struct cuda_conv_shape conv_shape(const struct cuda *c, const struct net_op *op)
{
	const struct net_tensor *x = &c->base.net->tensors[op->in], *y = &c->base.net->tensors[op->out];
	struct cuda_conv_shape shape = { .n = c->prepared_clips, .cin = stored_channels(c, op->in), .cout = y->c,
					 .in = { x->t, x->h, x->w }, .out = { y->t, y->h, y->w } };

	assert(x->of < 0 && y->of < 0);		/* packed */
	memcpy(shape.kernel, op->kernel, sizeof(shape.kernel));
	memcpy(shape.stride, op->stride, sizeof(shape.stride));
	memcpy(shape.pad, op->pad, sizeof(shape.pad));
	memcpy(shape.dilation, op->dilation, sizeof(shape.dilation));
	return shape;
}

static int conv_node_open(struct cuda *c, struct node *node)
{
	const struct cuda_conv_shape shape = conv_shape(c, node->op);
	const unsigned all = 1u << CUDA_FORWARD | 1u << CUDA_BACKWARD_DATA | 1u << CUDA_BACKWARD_WEIGHTS;

	return cuda_conv_open(&node->conv, c->dnn, &shape,
			      kernel_plan_is_input(node->op->in) ? all & ~(1u << CUDA_BACKWARD_DATA) : all,
			      c->plan.adds[node - c->nodes]);
}

static void norm_node_bind(struct cuda *c, struct node *node)
{
	const struct net_op *op = node->op;
	const size_t first = c->plan.bn_offset[op->buffer], channels = c->base.net->buffers[op->buffer].channels;

	node->norm = (struct cuda_norm){
		.element = c->element,
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

static void pool_node_bind(struct cuda *c, struct node *node)
{
	const struct net_op *op = node->op;

	node->pool = (struct cuda_pool){
		.element = c->element,
		.x = act_of(c, c->plan.values, op->in), .y = act_of(c, c->plan.values, op->out),
		.dx = act_of(c, c->plan.grads, op->in), .dy = act_of(c, c->plan.grads, op->out),
		.winner = (uint8_t *)c->arena + c->plan.winners[op->out].offset * c->prepared_clips,
		.kernel = { op->kernel[1], op->kernel[2] }, .stride = { op->stride[1], op->stride[2] },
		.pad = { op->pad[1], op->pad[2] },
	};
}

static void roi_node_bind(struct cuda *c, const struct net_op *op)
{
	const int in[2] = { [SLOW] = op->in, [FAST] = op->in2 };

	for (int p = 0; p < 2; p++) {
		c->head.roi[p].x = act_of(c, c->plan.values, in[p]);
		c->head.roi[p].dx = act_of(c, c->plan.grads, in[p]);
	}
}

/* Which candidate runs each pass: at the addresses of the step, over what is there. */
static int conv_node_tune(struct cuda *c, struct node *node)
{
	const struct net_op *op = node->op;

	return cuda_conv_tune(node->conv, act_of(c, c->plan.values, op->in).at, copy_at(c, op->weight),
			      act_of(c, c->plan.values, op->out).at, grads_at(c, op->weight), c->workspace.blocks[0].at);
}

static void nodes_close(struct cuda *c)
{
	for (size_t i = 0; c->nodes && i < c->base.net->op_count; i++) {
		cuda_conv_close(c->nodes[i].conv);
		c->nodes[i].conv = NULL;
	}
	cuda_memory_release(&c->workspace);
	c->prepared_clips = 0;
}

/* Makes and binds all nodes for this number of clips. */
static int prepare(struct cuda *c, size_t clips)
{
	const struct net *net = c->base.net;
	size_t most = 0;
	int rc = OK;

	nodes_close(c);
	c->prepared_clips = clips;
	for (size_t i = 0; !rc && i < net->op_count; i++) {
		struct node *node = &c->nodes[i];

		switch (node->op->kind) {
		case OP_CONV: rc = conv_node_open(c, node); break;
		case OP_BN: norm_node_bind(c, node); break;
		case OP_MAXPOOL: pool_node_bind(c, node); break;
		case OP_ROI_HEAD: roi_node_bind(c, node->op); break;
		case OP_FC: break;
		}
		if (!rc && node->conv && cuda_conv_workspace_bytes(node->conv) > most)
			most = cuda_conv_workspace_bytes(node->conv);
	}
	cuda_memory_device(&c->workspace, most, "the convolutions' workspace", &rc);
	for (size_t i = 0; !rc && i < net->op_count; i++)
		if (c->nodes[i].conv)
			rc = conv_node_tune(c, &c->nodes[i]);
	if (rc)
		nodes_close(c);
	return rc;
}

/* ---- forward and backward of an operator ---- */

static int roi_forward(struct cuda *c, bool training)
{
	struct head *h = &c->head;
	const size_t count = c->boxes * h->feature_count;
	int rc = cuda_roi_forward(&h->roi[SLOW], c->stream);

	if (!rc)
		rc = cuda_roi_forward(&h->roi[FAST], c->stream);
	dropout_draw(c->config.dropout_seed, (uint64_t)c->base.bn_batches[0], training ? c->config.dropout : 0, count,
		     h->drop_pinned);
	if (!rc)
		rc = cuda_to_device(c, h->drop, h->drop_pinned, count * sizeof(float));
	return rc ? rc : cuda_scale(h->features, h->drop, count, c->stream);
}

static int roi_backward(struct cuda *c)
{
	struct head *h = &c->head;
	int rc = cuda_scale(h->dfeatures, h->drop, c->boxes * h->feature_count, c->stream);

	if (!rc)
		rc = cuda_roi_backward(&h->roi[SLOW], c->stream);
	return rc ? rc : cuda_roi_backward(&h->roi[FAST], c->stream);
}

static int fc_forward(struct cuda *c, const struct net_op *op)
{
	struct head *h = &c->head;
	const size_t count = c->boxes * NET_CLASSES;
	int rc = cuda_fc_forward(h->features, weights_at(c, op->weight), weights_at(c, op->bias), c->boxes, h->feature_count,
				 NET_CLASSES, h->logits, c->stream);

	if (!rc)
		rc = cuda_sigmoid(h->logits, count, h->preds, c->stream);
	return rc ? rc : cuda_to_host(c, h->preds_pinned, h->preds, count * sizeof(float));
}

static int fc_backward(struct cuda *c, const struct net_op *op)
{
	struct head *h = &c->head;
	int rc = cuda_bce_backward(h->preds, h->labels, c->boxes * NET_CLASSES, h->dlogits, c->stream);

	return rc ? rc : cuda_fc_backward(h->features, weights_at(c, op->weight), h->dlogits, c->boxes, h->feature_count,
					  NET_CLASSES, h->dfeatures, grads_at(c, op->weight), grads_at(c, op->bias), c->stream);
}

static int node_forward(struct cuda *c, const struct node *node, bool training)
{
	const struct net_op *op = node->op;

	switch (op->kind) {
	case OP_CONV:
		return cuda_conv_forward(node->conv, act_of(c, c->plan.values, op->in).at, copy_at(c, op->weight),
					 act_of(c, c->plan.values, op->out).at, c->workspace.blocks[0].at);
	case OP_BN:
		c->base.bn_batches[op->buffer] += training;
		return training ? cuda_norm_forward(&node->norm, c->stream) : cuda_norm_evaluate(&node->norm, c->stream);
	case OP_MAXPOOL:
		return cuda_pool_forward(&node->pool, c->stream);
	case OP_ROI_HEAD:
		return roi_forward(c, training);
	case OP_FC:
		return fc_forward(c, op);
	}
	return OK;
}

static int conv_backward_weights(struct cuda *c, const struct node *node)
{
	const struct net_op *op = node->op;

	return cuda_conv_backward_weights(node->conv, act_of(c, c->plan.values, op->in).at, act_of(c, c->plan.grads, op->out).at,
					  c->base.net->tensors[op->in].c, grads_at(c, op->weight), c->workspace.blocks[0].at);
}

static int conv_backward_data(struct cuda *c, const struct node *node)
{
	const struct net_op *op = node->op;

	return cuda_conv_backward_data(node->conv, act_of(c, c->plan.grads, op->out).at, copy_at(c, op->weight),
				       act_of(c, c->plan.grads, op->in).at, c->workspace.blocks[0].at);
}

static int conv_backward(struct cuda *c, const struct node *node)
{
	int rc = conv_backward_weights(c, node);

	return rc || kernel_plan_is_input(node->op->in) ? rc : conv_backward_data(c, node);
}

static int node_backward(struct cuda *c, const struct node *node)
{
	switch (node->op->kind) {
	case OP_CONV: return conv_backward(c, node);
	case OP_BN: return cuda_norm_backward(&node->norm, c->stream);
	case OP_MAXPOOL: return cuda_pool_backward(&node->pool, c->stream);
	case OP_ROI_HEAD: return roi_backward(c);
	case OP_FC: return fc_backward(c, node->op);
	}
	return OK;
}

/* ---- a step ---- */

static int take_weights(struct cuda *c)
{
	if (!c->copies_stale)
		return OK;
	c->copies_stale = false;
	return cuda_copy_weights(c->base.weights, c->runs, c->base.net->param_count, c->longest_run, c->element, c->stream);
}

static int take_input(struct cuda *c, int tensor, const float *plain)
{
	const struct net_tensor *t = &c->base.net->tensors[tensor];
	const struct cuda_act x = act_of(c, c->plan.values, tensor);
	int rc = cuda_to_device(c, c->raw, plain, x.n * t->c * t->t * t->h * t->w * sizeof(float));

	return rc ? rc : cuda_input_plain(c->raw, x.n, t->t, t->h, t->w, c->element, x.pitch, x.at, c->stream);
}

static int cuda_input(struct kernels *k, const struct step_input *in)
{
	struct cuda *c = cuda_of(k);
	int rc = kernels_check_input(in, &c->config);

	assert(in->parts <= 1);
	if (!rc && in->clips != c->prepared_clips)
		rc = prepare(c, in->clips);
	if (!rc)
		rc = take_weights(c);
	if (!rc)
		rc = take_input(c, SLOW, in->slow);
	if (!rc)
		rc = take_input(c, FAST, in->fast);
	if (!rc)
		rc = cuda_to_device(c, c->head.rois, in->rois, in->boxes * 5 * sizeof(float));
	if (!rc)
		rc = cuda_to_device(c, c->head.labels, in->labels, in->boxes * NET_CLASSES * sizeof(float));
	c->boxes = c->head.roi[SLOW].box_count = c->head.roi[FAST].box_count = in->boxes;
	c->backward_left = k->net->op_count;
	return rc ? rc : cuda_wait(c);
}

static int all_forward(struct cuda *c, bool training)
{
	int rc = OK;

	for (size_t i = 0; !rc && i < c->base.net->op_count; i++)
		rc = node_forward(c, &c->nodes[i], training);
	return rc ? rc : cuda_wait(c);
}

static int cuda_forward(struct kernels *k)
{
	return all_forward(cuda_of(k), true);
}

static int cuda_evaluate(struct kernels *k)
{
	return all_forward(cuda_of(k), false);
}

static int cuda_loss(struct kernels *k, float *loss)
{
	struct cuda *c = cuda_of(k);
	int rc = cuda_bce(c->head.preds, c->head.labels, c->boxes * NET_CLASSES, c->head.loss, c->stream);

	if (!rc)
		rc = cuda_to_host(c, c->head.loss_pinned, c->head.loss, sizeof(float));
	if (!rc)
		rc = cuda_wait(c);
	*loss = *c->head.loss_pinned;
	return rc;
}

static int cuda_backward(struct kernels *k, size_t ready)
{
	struct cuda *c = cuda_of(k);
	const size_t until = ready + 1 == k->net->param_count ? 0 : c->plan.op_of_ready[ready];
	int rc = OK;

	while (!rc && c->backward_left > until)
		rc = node_backward(c, &c->nodes[--c->backward_left]);
	return rc ? rc : cuda_wait(c);
}

static int cuda_update(struct kernels *k, const struct sgd *sgd)
{
	struct cuda *c = cuda_of(k);
	const float hyper[3] = { (float)sgd->lr, (float)sgd->momentum, (float)sgd->weight_decay };
	int rc;

	memcpy(c->hyper_pinned, hyper, sizeof(hyper));
	rc = cuda_to_device(c, c->hyper, c->hyper_pinned, sizeof(hyper));
	if (!rc)
		rc = cuda_sgd(k->weights, k->momentum, k->grads, c->runs, k->net->param_count, c->longest_run, c->hyper,
			      sgd->nesterov, c->element, c->stream);
	return rc ? rc : cuda_wait(c);
}

/* ---- state in and out ---- */

/* A convolution's weights (Cout,Cin,taps) and (Cout,taps,Cin). */
static void permute(const struct net_param *p, const float *from, float *to, bool out)
{
	const size_t cin = p->dims[1], taps = p->count / p->dims[0] / cin;

	for (size_t i = 0; i < p->dims[0]; i++)
		for (size_t s = 0; s < taps; s++)
			for (size_t j = 0; j < cin; j++) {
				size_t plain = (i * cin + j) * taps + s, stored = (i * taps + s) * cin + j;

				to[out ? plain : stored] = from[out ? stored : plain];
			}
}

/* Where one tensor of the state lies, and its floats. */
static float *state_at(const struct cuda *c, enum state_kind kind, size_t index, size_t *count)
{
	float *const flat[] = { [STATE_WEIGHT] = c->base.weights, [STATE_GRAD] = c->base.grads,
				[STATE_MOMENTUM] = c->base.momentum };

	if (kind == STATE_MEAN || kind == STATE_VAR) {
		*count = c->base.net->buffers[index].channels;
		return c->base.bn_state + 2 * c->plan.bn_offset[index] + (kind == STATE_VAR ? *count : 0);
	}
	*count = c->base.net->params[index].count;
	return flat[kind] + c->plan.offset[index];
}

/* The tensor is a convolution's, or one like it: its order is our own. */
static const struct net_param *permuted(const struct cuda *c, enum state_kind kind, size_t index)
{
	const struct net_param *p = kind == STATE_MEAN || kind == STATE_VAR ? NULL : &c->base.net->params[index];

	return p && p->group == PARAM_CONV ? p : NULL;
}

static int cuda_get(struct kernels *k, enum state_kind kind, size_t index, float *plain)
{
	struct cuda *c = cuda_of(k);
	const struct net_param *p = permuted(c, kind, index);
	size_t count;
	const float *stored = state_at(c, kind, index, &count);
	int rc = cuda_to_host(c, p ? c->plain : plain, stored, count * sizeof(float));

	if (!rc)
		rc = cuda_wait(c);
	if (!rc && p)
		permute(p, c->plain, plain, true);
	return rc;
}

static int cuda_set(struct kernels *k, enum state_kind kind, size_t index, const float *plain)
{
	struct cuda *c = cuda_of(k);
	const struct net_param *p = permuted(c, kind, index);
	size_t count;
	float *stored = state_at(c, kind, index, &count);
	int rc;

	if (p)
		permute(p, plain, c->plain, false);
	c->copies_stale = true;
	rc = cuda_to_device(c, stored, p ? c->plain : plain, count * sizeof(float));
	return rc ? rc : cuda_wait(c);
}

/* ---- what was chosen ---- */

static const struct field described_fields[] = {
	{ "operator", "", "module of the network", 0 },
	{ "forward", "", "what runs it: cuDNN's engine and view, or own", 0 },
	{ "backward_data", "", "likewise", 0 },
	{ "backward_weights", "", "likewise", 0 },
	{ "candidates", "1", "that were timed, all passes", 0 },
};

static int cuda_describe(struct kernels *k, struct table *table)
{
	static const enum cuda_pass order[] = { CUDA_FORWARD, CUDA_BACKWARD_DATA, CUDA_BACKWARD_WEIGHTS };
	const struct cuda *c = cuda_of(k);

	table_init(table, "implementations", "What executes each operator", described_fields, ARRAY_LEN(described_fields));
	for (size_t i = 0; i < k->net->op_count; i++) {
		const struct node *node = &c->nodes[i];
		size_t all = 0;

		table_text(table, node->op->name);
		for (size_t p = 0; p < ARRAY_LEN(order); p++) {
			char text[64] = "own";
			size_t candidates = 0;

			if (node->conv && cuda_conv_describe(node->conv, order[p], text, sizeof(text), &candidates))
				table_none(table);
			else
				table_text(table, text);
			all += candidates;
		}
		table_int(table, (int64_t)all);
	}
	return OK;
}

/* One pass of one operator, enqueued; false: it has none. */
static bool one_pass(struct cuda *c, const struct node *node, enum op_pass pass, int *rc)
{
	const struct net_op *op = node->op;
	const bool conv = op->kind == OP_CONV;

	if (conv ? pass == OP_BACKWARD_DATA && kernel_plan_is_input(op->in) : pass == OP_BACKWARD_WEIGHTS)
		return false;
	if (pass == OP_FORWARD)
		*rc = node_forward(c, node, true);
	else if (!conv)
		*rc = node_backward(c, node);
	else if (pass == OP_BACKWARD_WEIGHTS)
		*rc = conv_backward_weights(c, node);
	else
		*rc = conv_backward_data(c, node);
	return true;
}

/* What the device takes for what `enqueue` puts on the stream. */
static int device_ns(struct cuda *c, int (*enqueue)(struct cuda *, void *), void *context, double *ns)
{
	cudaEvent_t begin = NULL, end = NULL;
	float ms = 0;
	int rc = TRY_CUDA(cudaEventCreate(&begin));

	if (!rc)
		rc = TRY_CUDA(cudaEventCreate(&end));
	if (!rc)
		rc = TRY_CUDA(cudaEventRecord(begin, c->stream));
	if (!rc)
		rc = enqueue(c, context);
	if (!rc)
		rc = TRY_CUDA(cudaEventRecord(end, c->stream));
	if (!rc)
		rc = cuda_wait(c);
	if (!rc)
		rc = TRY_CUDA(cudaEventElapsedTime(&ms, begin, end));
	if (begin)
		cudaEventDestroy(begin);
	if (end)
		cudaEventDestroy(end);
	*ns = 1e6 * (double)ms;
	return rc;
}

struct passes {
	const struct node *node;
	enum op_pass pass;
	size_t times;
	bool has;
};

static int enqueue_passes(struct cuda *c, void *context)
{
	struct passes *p = context;
	int rc = OK;

	for (size_t i = 0; i < p->times && p->has && !rc; i++)
		p->has = one_pass(c, p->node, p->pass, &rc);
	return rc;
}

static int cuda_time_op(struct kernels *k, size_t op, enum op_pass pass, size_t times, uint64_t *ns)
{
	struct cuda *c = cuda_of(k);
	struct passes p = { &c->nodes[op], pass, times, true };
	double took_ns = 0;
	int rc = device_ns(c, enqueue_passes, &p, &took_ns);

	*ns = p.has ? (uint64_t)took_ns : 0;
	return rc;
}

static int least_ns(struct cuda *c, int (*enqueue)(struct cuda *, void *), void *context, double *ns)
{
	enum { REPEATS = 5 };
	int rc = device_ns(c, enqueue, context, ns);	/* warms up */

	*ns = INFINITY;
	for (size_t i = 0; i < REPEATS && !rc; i++) {
		double took_ns;

		rc = device_ns(c, enqueue, context, &took_ns);
		*ns = took_ns < *ns ? took_ns : *ns;
	}
	return rc;
}

/* A product of (rows, channels) and (channels, channels), as a convolution of 1x1x1; and a copy of what it reads. */
struct product {
	struct cuda_conv *conv;
	void *x, *weights, *y, *workspace;
	size_t bytes;
};

static int enqueue_product(struct cuda *c, void *context)
{
	const struct product *p = context;

	(void)c;
	return cuda_conv_forward(p->conv, p->x, p->weights, p->y, p->workspace);
}

static int enqueue_copy(struct cuda *c, void *context)
{
	const struct product *p = context;

	return TRY_CUDA(cudaMemcpyAsync(p->y, p->x, p->bytes, cudaMemcpyDeviceToDevice, c->stream));
}

static int cuda_ceilings(struct kernels *k, double *flop_per_s, double *bytes_per_s)
{
	enum { CHANNELS = 4096, SIDE = 256 };
	const struct cuda_conv_shape shape = { .n = 1, .cin = CHANNELS, .cout = CHANNELS, .in = { 1, SIDE, SIDE }, .out = { 1, SIDE, SIDE },
					       .kernel = { 1, 1, 1 }, .stride = { 1, 1, 1 }, .dilation = { 1, 1, 1 } };
	const char *what = "a large matrix product";
	struct cuda *c = cuda_of(k);
	const size_t element = cuda_element_bytes(c->element);
	struct product p = { .bytes = (size_t)CHANNELS * SIDE * SIDE * element };
	struct cuda_memory memory = { 0 };
	double ns = 1;
	int rc = cuda_conv_open(&p.conv, c->dnn, &shape, 1u << CUDA_FORWARD, false);

	p.x = cuda_memory_device(&memory, p.bytes, what, &rc);
	p.y = cuda_memory_device(&memory, p.bytes, what, &rc);
	p.weights = cuda_memory_device(&memory, (size_t)CHANNELS * CHANNELS * element, what, &rc);
	p.workspace = cuda_memory_device(&memory, rc ? 0 : cuda_conv_workspace_bytes(p.conv), what, &rc);
	if (!rc)	/* zeros would run faster than data does */
		rc = cuda_noise(p.x, p.bytes / element, c->element, c->stream);
	if (!rc)
		rc = cuda_noise(p.weights, (size_t)CHANNELS * CHANNELS, c->element, c->stream);
	if (!rc)
		rc = cuda_conv_tune(p.conv, p.x, p.weights, p.y, NULL, p.workspace);
	if (!rc)
		rc = least_ns(c, enqueue_product, &p, &ns);
	*flop_per_s = 1e9 * 2.0 * CHANNELS * CHANNELS * SIDE * SIDE / ns;
	if (!rc)
		rc = least_ns(c, enqueue_copy, &p, &ns);
	*bytes_per_s = 1e9 * 2 * (double)p.bytes / ns;
	cuda_conv_close(p.conv);
	cuda_memory_release(&memory);
	return rc;
}

/* ---- open and close ---- */

static void cuda_close(struct kernels *k)
{
	struct cuda *c = cuda_of(k);

	if (!c)
		return;
	nodes_close(c);
	cuda_dnn_close(c->dnn);
	cuda_memory_release(&c->memory);
	if (c->stream)
		cudaStreamDestroy(c->stream);
	kernel_plan_release(&c->plan);
	free(c->nodes);
	free(c->copy_offset);
	free(c->plain);
	free(c->base.bn_batches);
	free(c);
}

/* The elements in which the net computes, by the name of an option. */
static int choose_math(struct cuda *c)
{
	static const struct { const char *name; enum cuda_math math; enum cuda_element element; } rows[] = {
		{ "bf16", CUDA_MATH_BF16, CUDA_BF16 },		/* the first: where nothing is asked for */
		{ "tf32", CUDA_MATH_TF32, CUDA_F32 },
		{ "fp32", CUDA_MATH_F32, CUDA_F32 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (!c->config.precision || !strcmp(c->config.precision, rows[i].name)) {
			c->math = rows[i].math;
			c->element = rows[i].element;
			c->base.precision = rows[i].name;
			return OK;
		}
	return err(UNSUPPORTED, "kernels 'cuda' do not compute in '%s'", c->config.precision);
}

static int open_device(struct cuda *c)
{
	int count = 1, least, greatest;
	int rc = TRY_CUDA(cudaGetDeviceCount(&count));

	if (!rc)
		rc = TRY_CUDA(cudaSetDevice((int)(c->config.device % (size_t)count)));
	if (!rc)
		rc = TRY_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
	if (!rc)
		rc = TRY_CUDA(cudaStreamCreateWithPriority(&c->stream, cudaStreamNonBlocking, least));
	return rc ? rc : cuda_dnn_open(&c->dnn, c->stream, c->math);
}

/* Places the copies of the convolutions' weights; `elements` they need. */
static int place_copies(struct cuda *c, size_t *elements)
{
	const struct net *net = c->base.net;

	*elements = 0;
	c->copy_offset = malloc(net->param_count * sizeof(*c->copy_offset));
	if (!c->copy_offset)
		return err(NO_MEMORY, "no memory for %zu parameters", net->param_count);
	for (size_t i = 0; i < net->param_count; i++)
		c->copy_offset[i] = SIZE_MAX;
	for (size_t i = 0; i < net->op_count; i++) {
		const struct net_op *op = &net->ops[i];

		if (op->kind != OP_CONV)
			continue;
		c->copy_offset[op->weight] = *elements;
		*elements += arena_padded(net->params[op->weight].count / net->tensors[op->in].c * stored_channels(c, op->in) *
					  cuda_element_bytes(c->element)) / cuda_element_bytes(c->element);
	}
	return OK;
}

/* What the optimiser does with each parameter. */
static int write_runs(struct cuda *c)
{
	const struct net *net = c->base.net;
	struct cuda_run *runs = calloc(net->param_count, sizeof(*runs));
	int rc;

	if (!runs)
		return err(NO_MEMORY, "no memory for %zu parameters", net->param_count);
	for (size_t i = 0; i < net->param_count; i++) {
		const struct net_param *p = &net->params[i];

		runs[i] = (struct cuda_run){ .offset = c->plan.offset[i], .count = p->count, .weight_decay = p->decays };
		c->longest_run = p->count > c->longest_run ? p->count : c->longest_run;
	}
	for (size_t i = 0; i < net->op_count; i++) {
		const struct net_op *op = &net->ops[i];

		if (op->kind != OP_CONV)
			continue;
		runs[op->weight].copy = copy_at(c, op->weight);
		runs[op->weight].row = net->tensors[op->in].c;
		runs[op->weight].copy_row = stored_channels(c, op->in);
	}
	rc = cuda_to_device(c, c->runs, runs, net->param_count * sizeof(*runs));
	if (!rc)
		rc = cuda_wait(c);
	free(runs);
	return rc;
}

/* Room for the partial sums of the largest batch norm. */
static size_t partial_floats(const struct cuda *c)
{
	size_t most = 0;

	for (size_t i = 0; i < c->base.net->tensor_count; i++) {
		const struct net_tensor *t = &c->base.net->tensors[i];
		const struct cuda_act x = { .n = c->config.clips_max, .c = t->c, .dims = { t->t, t->h, t->w }, .pitch = t->c };
		size_t floats = cuda_norm_partial_floats(&x);

		most = floats > most ? floats : most;
	}
	return most;
}

static float *floats(struct cuda *c, size_t count, const char *what, int *rc)
{
	return cuda_memory_device(&c->memory, count * sizeof(float), what, rc);
}

static int open_state(struct cuda *c)
{
	const struct net *net = c->base.net;
	const struct net_tensor *fast = &net->tensors[FAST];
	size_t copy_elements, longest = 0;
	int rc = place_copies(c, &copy_elements);

	for (size_t i = 0; i < net->param_count; i++)
		longest = net->params[i].count > longest ? net->params[i].count : longest;
	c->nodes = calloc(net->op_count, sizeof(*c->nodes));
	c->base.bn_batches = calloc(net->buffer_count, sizeof(*c->base.bn_batches));
	c->plain = malloc(longest * sizeof(*c->plain));
	if (!rc && (!c->nodes || !c->base.bn_batches || !c->plain))
		rc = err(NO_MEMORY, "no memory for %zu operators", net->op_count);
	for (size_t i = 0; !rc && i < net->op_count; i++)
		c->nodes[i].op = &net->ops[i];
	c->base.grads = floats(c, net->values, "the gradients", &rc);
	c->base.weights = floats(c, net->values, "the weights", &rc);
	c->base.momentum = floats(c, net->values, "the momentum", &rc);
	c->base.bn_state = floats(c, net->buffer_values, "the running statistics", &rc);
	c->bn_mean = floats(c, net->buffer_values, "the batch's statistics", &rc);
	c->bn_inv_std = floats(c, net->buffer_values, "the batch's statistics", &rc);
	c->partial = floats(c, partial_floats(c), "the batch norms' partial sums", &rc);
	c->raw = floats(c, c->config.clips_max * 3 * fast->t * fast->h * fast->w, "a batch of clips", &rc);
	c->copies = cuda_memory_device(&c->memory, copy_elements * cuda_element_bytes(c->element), "the weights in the "
				       "convolutions' type", &rc);
	c->runs = cuda_memory_device(&c->memory, net->param_count * sizeof(*c->runs), "the list of parameters", &rc);
	c->hyper = floats(c, 3, "the optimiser's numbers", &rc);
	c->hyper_pinned = cuda_memory_pinned(&c->memory, 3 * sizeof(float), "the optimiser's numbers", &rc);
	return rc ? rc : write_runs(c);
}

/* The head's memory depends on boxes, not on clips. */
static int open_head(struct cuda *c)
{
	const struct net *net = c->base.net;
	const size_t boxes = c->config.boxes_max, clips = c->config.clips_max;
	const struct net_op *op = net->ops;
	struct head *h = &c->head;
	size_t first = 0;
	int rc = OK;

	while (op->kind != OP_ROI_HEAD)
		op++;
	h->feature_count = net->tensors[op->out].c;
	h->rois = floats(c, boxes * 5, "boxes", &rc);
	h->labels = floats(c, boxes * NET_CLASSES, "labels", &rc);
	h->features = floats(c, boxes * h->feature_count, "the boxes' features", &rc);
	h->dfeatures = floats(c, boxes * h->feature_count, "the boxes' features", &rc);
	h->drop = floats(c, boxes * h->feature_count, "the dropout's mask", &rc);
	h->drop_pinned = cuda_memory_pinned(&c->memory, boxes * h->feature_count * sizeof(float), "the dropout's mask", &rc);
	h->logits = floats(c, boxes * NET_CLASSES, "logits", &rc);
	h->dlogits = floats(c, boxes * NET_CLASSES, "logits", &rc);
	h->preds = floats(c, boxes * NET_CLASSES, "predictions", &rc);
	h->preds_pinned = cuda_memory_pinned(&c->memory, boxes * NET_CLASSES * sizeof(float), "predictions", &rc);
	h->loss = floats(c, 1, "the loss", &rc);
	h->loss_pinned = cuda_memory_pinned(&c->memory, sizeof(float), "the loss", &rc);
	for (int p = 0; p < 2; p++) {
		const struct net_tensor *t = &net->tensors[p == SLOW ? op->in : op->in2];

		h->roi[p] = (struct cuda_roi){
			.element = c->element, .boxes = h->rois,
			.mean = floats(c, clips * t->c * t->h * t->w, "the head's means over time", &rc),
			.winner = cuda_memory_device(&c->memory, boxes * t->c, "the head's bins", &rc),
			.out = NET_ROI_OUT, .scale = 1.0f / NET_ROI_STRIDE, .aligned = true,
			.features = h->features + first, .dfeatures = h->dfeatures + first, .stride = h->feature_count,
		};
		first += t->c;
	}
	c->base.preds = h->preds_pinned;
	return rc;
}

/* Activations: most of the memory, and the part that a smaller batch makes smaller. */
static int open_arena(struct cuda *c)
{
	const size_t bytes = c->plan.clip_bytes * c->config.clips_max;
	size_t free_bytes = 0, all_bytes = 0;
	int rc = TRY_CUDA(cudaMemGetInfo(&free_bytes, &all_bytes));

	if (!rc && bytes > free_bytes)
		return err(NO_MEMORY, "%zu clips of net '%s' need %.3f GiB of device memory for activations and their gradients; "
			   "%.3f GiB are free, enough for %zu clips", c->config.clips_max, c->base.net->preset->name,
			   (double)bytes / (1 << 30), (double)free_bytes / (1 << 30), free_bytes / c->plan.clip_bytes);
	c->arena = cuda_memory_device(&c->memory, bytes, "activations and their gradients", &rc);
	return rc;
}

/* Weights by the rules of initialisation. */
static int open_weights(struct cuda *c)
{
	const struct net *net = c->base.net;
	size_t most = 0;
	float *plain;
	int rc = OK;

	for (size_t i = 0; i < net->param_count; i++)
		most = net->params[i].count > most ? net->params[i].count : most;
	plain = malloc(most * sizeof(*plain));
	if (!plain)
		return err(NO_MEMORY, "no memory for the first weights");
	for (size_t i = 0; !rc && i < net->param_count; i++) {
		initial_weights(net, i, c->config.seed, plain);
		rc = cuda_set(&c->base, STATE_WEIGHT, i, plain);
	}
	for (size_t i = 0; i < most; i++)
		plain[i] = 1;
	for (size_t i = 0; !rc && i < net->buffer_count; i++)
		rc = cuda_set(&c->base, STATE_VAR, i, plain);
	free(plain);
	return rc;
}

/* Tensors lie alike wherever this file laid them. */
static uint64_t layout_hash(const struct cuda *c)
{
	uint64_t hash = hash_text(HASH_START, "cuda NDHWC");

	for (size_t i = 0; i < c->base.net->param_count; i++)
		hash = hash_word(hash, c->plan.offset[i], sizeof(c->plan.offset[i]));
	return hash_word(hash, c->math, sizeof(c->math));
}

static int cuda_open(struct kernels **k, const struct kernel_config *config)
{
	struct cuda *c = calloc(1, sizeof(*c));
	int rc;

	*k = NULL;
	if (!c)
		return err(NO_MEMORY, "no memory for the CUDA back end");
	c->base = (struct kernels){ .backend = &sfscale_kernels_cuda, .net = config->net };
	c->config = *config;
	rc = choose_math(c);
	if (!rc)
		rc = open_device(c);
	for (int i = 0; i < NET_INPUTS; i++)
		c->channels[i] = cuda_conv_channels(c->math, config->net->tensors[i].c);
	if (!rc)
		rc = kernel_plan_init(&c->plan, config->net, config->grad_offset, clip_values, c, cuda_element_bytes(c->element));
	if (!rc)
		rc = open_state(c);
	if (!rc)
		rc = open_head(c);
	if (!rc)
		rc = open_arena(c);
	if (!rc)
		rc = prepare(c, config->clips_max);
	if (!rc)
		rc = open_weights(c);
	if (rc) {
		cuda_close(&c->base);
		return rc;
	}
	c->config.grad_offset = c->plan.offset;
	c->base.layout_hash = layout_hash(c);
	c->base.element_bytes = cuda_element_bytes(c->element);
	c->base.device_bytes = c->memory.device_bytes + c->workspace.device_bytes;
	*k = &c->base;
	return OK;
}

static int cuda_version(char *text, size_t bytes)
{
	char dnn[32];
	int runtime = 0, rc = TRY_CUDA(cudaRuntimeGetVersion(&runtime));

	cuda_dnn_version(dnn, sizeof(dnn));
	snprintf(text, bytes, "CUDA %d.%d, %s", runtime / 1000, runtime % 1000 / 10, dnn);
	return rc;
}

const struct kernel_backend sfscale_kernels_cuda = {
	.name = "cuda",
	.on_device = true,
	.probe = cuda_probe,
	.open = cuda_open,
	.close = cuda_close,
	.input = cuda_input,
	.forward = cuda_forward,
	.evaluate = cuda_evaluate,
	.loss = cuda_loss,
	.backward = cuda_backward,
	.update = cuda_update,
	.get = cuda_get,
	.set = cuda_set,
	.describe = cuda_describe,
	.time_op = cuda_time_op,
	.ceilings = cuda_ceilings,
	.version = cuda_version,
};
