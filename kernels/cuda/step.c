/*
 * kernels/cuda/step.c - executes the net: nodes over tensors, forward, backward, update.
 *
 * Everything is enqueued on one stream, in order, and no slot of the table waits for it.  What the host writes and the device
 * reads later (the masks of dropout, the optimiser's numbers) is written only when a loss behind the last reading was
 * answered.
 *
 * Not here: how a batch comes in (batch.c).
 */
#include "kernels/cuda/instance.h"

#include "kernels/dropout.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

/* ---- tensors ---- */

/* Channels of a tensor with memory of its own, as stored. */
size_t cuda_stored_channels(const struct cuda *c, int tensor)
{
	return kernel_plan_is_input(tensor) ? c->channels[tensor] : c->base.net->tensors[tensor].c;
}

size_t cuda_clip_values(const void *cuda, int tensor)
{
	const struct cuda *c = cuda;
	const struct net_tensor *t = &c->base.net->tensors[tensor];

	return cuda_stored_channels(c, tensor) * t->t * t->h * t->w;
}

struct cuda_act cuda_act_of(const struct cuda *c, const struct piece *pieces, int tensor)
{
	const struct net_tensor *t = &c->base.net->tensors[tensor];
	int root = kernel_plan_root(c->base.net, tensor);

	return (struct cuda_act){ .at = c->arena + pieces[root].offset * c->prepared_clips + t->c0 * cuda_element_bytes(c->element),
				  .n = c->prepared_clips, .c = t->c, .dims = { t->t, t->h, t->w },
				  .pitch = cuda_stored_channels(c, root) };
}

static float *weights_at(const struct cuda *c, int param)
{
	return c->base.weights + c->plan.places.offset[param];
}

static float *grads_at(const struct cuda *c, int param)
{
	return c->base.grads + c->plan.places.offset[param];
}

void *cuda_copy_at(const struct cuda *c, int param)
{
	return (char *)c->copies + c->copy_offset[param] * cuda_element_bytes(c->element);
}

/* ---- nodes ---- */

static struct cuda_conv_shape conv_shape(const struct cuda *c, const struct net_op *op)
{
	const struct net_tensor *x = &c->base.net->tensors[op->in], *y = &c->base.net->tensors[op->out];
	struct cuda_conv_shape shape = { .n = c->prepared_clips, .cin = cuda_stored_channels(c, op->in), .cout = y->c,
					 .in = { x->t, x->h, x->w }, .out = { y->t, y->h, y->w } };

	assert(x->of < 0 && y->of < 0);		/* packed */
	memcpy(shape.kernel, op->kernel, sizeof(shape.kernel));
	memcpy(shape.stride, op->stride, sizeof(shape.stride));
	memcpy(shape.pad, op->pad, sizeof(shape.pad));
	memcpy(shape.dilation, op->dilation, sizeof(shape.dilation));
	return shape;
}

static int conv_node_open(struct cuda *c, struct cuda_node *node)
{
	const struct cuda_conv_shape shape = conv_shape(c, node->op);
	const unsigned all = 1u << OP_FORWARD | 1u << OP_BACKWARD_DATA | 1u << OP_BACKWARD_WEIGHTS;

	return cuda_conv_open(&node->conv, c->dnn, &shape,
			      kernel_plan_is_input(node->op->in) ? all & ~(1u << OP_BACKWARD_DATA) : all,
			      c->plan.adds[node - c->nodes]);
}

static void norm_node_bind(struct cuda *c, struct cuda_node *node)
{
	const struct net_op *op = node->op;
	const size_t first = c->plan.places.bn_offset[op->buffer], channels = c->base.net->buffers[op->buffer].channels;

	node->norm = (struct cuda_norm){
		.element = c->element,
		.x = cuda_act_of(c, c->plan.values, op->in), .y = cuda_act_of(c, c->plan.values, op->out),
		.dx = cuda_act_of(c, c->plan.grads, op->in), .dy = cuda_act_of(c, c->plan.grads, op->out),
		.relu = op->relu, .add_dshortcut = c->plan.adds[node - c->nodes],
		.weight = weights_at(c, op->weight), .bias = weights_at(c, op->bias),
		.dweight = grads_at(c, op->weight), .dbias = grads_at(c, op->bias),
		.running_mean = c->base.bn_state + 2 * first,
		.running_var = c->base.bn_state + 2 * first + channels,
		.mean = c->bn_mean + first, .inv_std = c->bn_inv_std + first,
		.partial = c->partial,
	};
	if (op->in2 >= 0) {
		node->norm.shortcut = cuda_act_of(c, c->plan.values, op->in2);
		node->norm.dshortcut = cuda_act_of(c, c->plan.grads, op->in2);
	}
}

static void pool_node_bind(struct cuda *c, struct cuda_node *node)
{
	const struct net_op *op = node->op;

	node->pool = (struct cuda_pool){
		.element = c->element,
		.x = cuda_act_of(c, c->plan.values, op->in), .y = cuda_act_of(c, c->plan.values, op->out),
		.dx = cuda_act_of(c, c->plan.grads, op->in), .dy = cuda_act_of(c, c->plan.grads, op->out),
		.winner = (uint8_t *)c->arena + c->plan.winners[op->out].offset * c->prepared_clips,
		.kernel = { op->kernel[1], op->kernel[2] }, .stride = { op->stride[1], op->stride[2] },
		.pad = { op->pad[1], op->pad[2] },
	};
}

static void roi_node_bind(struct cuda *c, const struct net_op *op)
{
	const int in[2] = { [CUDA_SLOW] = op->in, [CUDA_FAST] = op->in2 };

	for (int p = 0; p < 2; p++) {
		c->head.roi[p].x = cuda_act_of(c, c->plan.values, in[p]);
		c->head.roi[p].dx = cuda_act_of(c, c->plan.grads, in[p]);
	}
}

/* Which candidate runs each pass: at the addresses of the step, over what is there. */
static int conv_node_tune(struct cuda *c, struct cuda_node *node)
{
	const struct net_op *op = node->op;

	c->copies_stale = true;
	return cuda_conv_tune(node->conv, cuda_act_of(c, c->plan.values, op->in).at, cuda_copy_at(c, op->weight),
			      cuda_act_of(c, c->plan.values, op->out).at, c->workspace);
}

void cuda_unprepare(struct cuda *c)
{
	for (size_t i = 0; i < ARRAY_LEN(c->forward); i++)
		cuda_graph_drop(&c->forward[i]);
	for (size_t i = 0; c->backward && i <= c->trunk_ops; i++)
		cuda_graph_drop(&c->backward[i].graph);
	for (size_t i = 0; c->nodes && i < c->base.net->op_count; i++) {
		cuda_conv_close(c->nodes[i].conv);
		c->nodes[i].conv = NULL;
	}
	c->prepared_clips = 0;
}

static int grow_workspace(struct cuda *c, size_t bytes)
{
	int rc = OK;

	if (c->workspace && bytes <= c->scratch.device_bytes)
		return OK;
	cuda_memory_release(&c->scratch);
	c->workspace = cuda_memory_device(&c->scratch, bytes, "the convolutions' workspace", &rc);
	return rc;
}

/* Each is tuned before the next is opened: of equal ones only the first is searched for. */
static int conv_node_make(struct cuda *c, struct cuda_node *node)
{
	int rc = conv_node_open(c, node);

	if (!rc)
		rc = grow_workspace(c, cuda_conv_workspace_bytes(node->conv));
	return rc ? rc : conv_node_tune(c, node);
}

int cuda_prepare(struct cuda *c, size_t clips)
{
	const struct net *net = c->base.net;
	int rc = cuda_wait(c);		/* what is there may be in use */

	cuda_unprepare(c);
	c->prepared_clips = clips;
	for (size_t i = 0; !rc && i < net->op_count; i++) {
		struct cuda_node *node = &c->nodes[i];

		switch (node->op->kind) {
		case OP_CONV: rc = conv_node_make(c, node); break;
		case OP_BN: norm_node_bind(c, node); break;
		case OP_MAXPOOL: pool_node_bind(c, node); break;
		case OP_ROI_HEAD: roi_node_bind(c, node->op); break;
		case OP_FC: break;
		}
	}
	if (rc)
		cuda_unprepare(c);
	return rc;
}

/* ---- forward and backward of an operator ---- */

static int roi_forward(struct cuda *c, bool training)
{
	struct cuda_head *h = &c->head;
	const size_t count = c->boxes * h->feature_count;
	int rc = cuda_roi_forward(&h->roi[CUDA_SLOW], c->stream);

	if (!rc)
		rc = cuda_roi_forward(&h->roi[CUDA_FAST], c->stream);
	dropout_draw(c->config.dropout_seed + c->part, (uint64_t)c->base.bn_batches[0], training ? c->config.dropout : 0, count,
		     h->drop_pinned);
	if (!rc)
		rc = cuda_to_device(c, h->drop, h->drop_pinned, count * sizeof(float));
	return rc ? rc : cuda_scale(h->features, h->drop, count, c->stream);
}

static int roi_backward(struct cuda *c)
{
	struct cuda_head *h = &c->head;
	int rc = cuda_scale(h->dfeatures, h->drop, c->boxes * h->feature_count, c->stream);

	if (!rc)
		rc = cuda_roi_backward(&h->roi[CUDA_SLOW], c->stream);
	return rc ? rc : cuda_roi_backward(&h->roi[CUDA_FAST], c->stream);
}

static int fc_forward(struct cuda *c, const struct net_op *op)
{
	struct cuda_head *h = &c->head;
	const size_t count = c->boxes * NET_CLASSES;
	int rc = cuda_fc_forward(h->features, weights_at(c, op->weight), weights_at(c, op->bias), c->boxes, h->feature_count,
				 NET_CLASSES, h->logits, c->stream);

	if (!rc)
		rc = cuda_sigmoid(h->logits, count, h->preds, c->stream);
	return rc ? rc : cuda_to_host(c, h->preds_pinned, h->preds, count * sizeof(float));
}

static int fc_backward(struct cuda *c, const struct net_op *op)
{
	struct cuda_head *h = &c->head;
	int rc = cuda_bce_backward(h->preds, h->labels, c->boxes * NET_CLASSES, h->dlogits, c->stream);

	return rc ? rc : cuda_fc_backward(h->features, weights_at(c, op->weight), h->dlogits, c->boxes, h->feature_count,
					  NET_CLASSES, h->dfeatures, grads_at(c, op->weight), grads_at(c, op->bias), c->stream);
}

/* Running statistics are those of a step's first part. */
static int norm_forward(struct cuda *c, const struct cuda_node *node, bool training)
{
	struct cuda_norm norm = node->norm;

	if (!training)
		return cuda_norm_evaluate(&norm, c->stream);
	if (c->part)
		norm.running_mean = norm.running_var = NULL;
	return cuda_norm_forward(&norm, c->stream);
}

int cuda_node_forward(struct cuda *c, const struct cuda_node *node, bool training)
{
	const struct net_op *op = node->op;

	switch (op->kind) {
	case OP_CONV:
		return cuda_conv_forward(node->conv, cuda_act_of(c, c->plan.values, op->in).at, cuda_copy_at(c, op->weight),
					 cuda_act_of(c, c->plan.values, op->out).at, c->workspace);
	case OP_BN:
		return norm_forward(c, node, training);
	case OP_MAXPOOL:
		return cuda_pool_forward(&node->pool, c->stream);
	case OP_ROI_HEAD:
		return roi_forward(c, training);
	case OP_FC:
		return fc_forward(c, op);
	}
	return OK;
}

int cuda_node_backward_weights(struct cuda *c, const struct cuda_node *node)
{
	const struct net_op *op = node->op;

	return cuda_conv_backward_weights(node->conv, cuda_act_of(c, c->plan.values, op->in).at, cuda_act_of(c, c->plan.grads, op->out).at,
					  c->base.net->tensors[op->in].c, grads_at(c, op->weight), c->workspace);
}

int cuda_node_backward_data(struct cuda *c, const struct cuda_node *node)
{
	const struct net_op *op = node->op;

	return cuda_conv_backward_data(node->conv, cuda_act_of(c, c->plan.grads, op->out).at, cuda_copy_at(c, op->weight),
				       cuda_act_of(c, c->plan.grads, op->in).at, c->workspace);
}

static int conv_backward(struct cuda *c, const struct cuda_node *node)
{
	int rc = cuda_node_backward_weights(c, node);

	return rc || kernel_plan_is_input(node->op->in) ? rc : cuda_node_backward_data(c, node);
}

int cuda_node_backward(struct cuda *c, const struct cuda_node *node)
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

int cuda_take_weights(struct cuda *c)
{
	if (!c->copies_stale)
		return OK;
	c->copies_stale = false;
	return cuda_copy_weights(c->base.weights, c->runs, c->base.net->param_count, c->longest_run, c->element, c->stream);
}

/* What is enqueued between the two is a span of the device. */
static int compute_begin(struct cuda *c, enum span_id id, uint64_t arg)
{
	return cuda_timeline_begin(c->timeline, c->base.lanes.compute, id, arg, c->stream);
}

static int compute_end(struct cuda *c)
{
	return cuda_timeline_end(c->timeline, c->stream);
}

/* The host will wait until the device is here. */
static int owe_answer(struct cuda *c)
{
	return TRY_CUDA(cudaEventRecord(c->answered, c->stream));
}

static int forward(struct cuda *c, size_t from, size_t to, bool training)
{
	int rc = OK;

	for (size_t i = from; !rc && i < to; i++)
		rc = cuda_node_forward(c, &c->nodes[i], training);
	return rc;
}

static int trunk_forward(void *cuda)
{
	struct cuda *c = cuda;

	return forward(c, 0, c->trunk_ops, true);
}

/* Either as one launch, or operator by operator. */
static int run_piece(struct cuda *c, struct cuda_graph *graph, int (*enqueue)(void *), void *context)
{
	return c->config.graph ? cuda_graph_run(graph, c->stream, enqueue, context) : enqueue(context);
}

int cuda_forward(struct kernels *k)
{
	struct cuda *c = cuda_of(k);
	int rc = compute_begin(c, SPAN_FWD, 0);

	if (!rc)
		rc = run_piece(c, &c->forward[c->part > 0], trunk_forward, c);
	for (size_t i = 0; i < k->net->buffer_count; i++)
		k->bn_batches[i] += !c->part;
	if (!rc)
		rc = forward(c, c->trunk_ops, k->net->op_count, true);
	return rc ? rc : compute_end(c);
}

int cuda_evaluate(struct kernels *k)
{
	struct cuda *c = cuda_of(k);
	int rc = forward(c, 0, k->net->op_count, false);

	return rc ? rc : owe_answer(c);
}

int cuda_loss(struct kernels *k)
{
	struct cuda *c = cuda_of(k);
	int rc = compute_begin(c, SPAN_LOSS, 0);

	c->backwards = 0;
	if (!rc)
		rc = cuda_bce(c->head.preds, c->head.labels, c->boxes * NET_CLASSES, c->head.loss, c->stream);
	if (!rc)
		rc = cuda_to_host(c, c->head.loss_pinned, c->head.loss, sizeof(float));
	if (!rc)
		rc = compute_end(c);
	return rc ? rc : owe_answer(c);
}

/* Gradients join those of the parts before; behind the last part stands the mean. */
static int gather(struct cuda *c, size_t offset, size_t count)
{
	float *grads = c->base.grads + offset, *sum = c->sum + offset;

	if (!c->part)
		return TRY_CUDA(cudaMemcpyAsync(sum, grads, count * sizeof(*sum), cudaMemcpyDeviceToDevice, c->stream));
	if (c->part + 1 < c->parts)
		return cuda_gather(sum, grads, count, 1, c->stream);
	return cuda_gather(grads, sum, count, (float)c->parts, c->stream);
}

/* The gradients of operators [from, to), neighbours in the flat buffer together, which those of a bucket are. */
static int gather_ops(struct cuda *c, size_t from, size_t to)
{
	size_t begin = 0, end = 0;
	int rc = OK;

	for (size_t i = to; i-- > from && !rc;)
		for (int p = 0; p < 2 && !rc; p++) {
			const int param = p ? c->base.net->ops[i].bias : c->base.net->ops[i].weight;
			const size_t at = param < 0 ? end : c->plan.places.offset[param];
			const size_t count = param < 0 ? 0 : c->base.net->params[param].count;

			if (at == end) {
				end += count;
			} else if (at + count == begin) {
				begin = at;
			} else {
				rc = end > begin ? gather(c, begin, end - begin) : OK;
				begin = at;
				end = at + count;
			}
		}
	return rc || begin == end ? rc : gather(c, begin, end - begin);
}

/* Of operators [from, to), the last one first. */
struct stretch {
	struct cuda *cuda;
	size_t from, to;
};

static int stretch_backward(void *context)
{
	const struct stretch *s = context;
	int rc = OK;

	for (size_t i = s->to; !rc && i > s->from; i--)
		rc = cuda_node_backward(s->cuda, &s->cuda->nodes[i - 1]);
	return rc;
}

/* Buckets are the same in every step, so that a piece that begins with an operator always ends with the same one: or nearly. */
static int trunk_backward(struct cuda *c, size_t from, size_t to)
{
	struct cuda_piece *piece = &c->backward[to];
	int rc = OK;

	if (piece->graph.exec && piece->until != from) {
		rc = cuda_wait(c);
		cuda_graph_drop(&piece->graph);
	}
	piece->until = from;
	return rc ? rc : run_piece(c, &piece->graph, stretch_backward, &(struct stretch){ c, from, to });
}

int cuda_backward(struct kernels *k, size_t ready)
{
	struct cuda *c = cuda_of(k);
	const size_t until = ready + 1 == k->net->param_count ? 0 : c->plan.op_of_ready[ready], from = c->backward_left;
	const size_t head = until > c->trunk_ops ? until : c->trunk_ops;	/* down to here it depends on the boxes */
	int rc = compute_begin(c, SPAN_BWD, c->backwards++);

	if (!rc && from > head)
		rc = stretch_backward(&(struct stretch){ c, head, from });
	if (!rc && until < head && until < from)
		rc = trunk_backward(c, until, from < head ? from : head);
	if (!rc && c->parts > 1)
		rc = gather_ops(c, until, from);
	c->backward_left = until < from ? until : from;
	return rc ? rc : compute_end(c);
}

/* The copy of the update before may still be under way; the one before that is not, for a loss behind it was answered. */
int cuda_update(struct kernels *k, const struct sgd *sgd)
{
	struct cuda *c = cuda_of(k);
	const float hyper[3] = { (float)sgd->lr, (float)sgd->momentum, (float)sgd->weight_decay };
	float *pinned = c->hyper_pinned[c->updates++ % 2];
	int rc = compute_begin(c, SPAN_OPT, 0);

	memcpy(pinned, hyper, sizeof(hyper));
	if (!rc)
		rc = cuda_to_device(c, c->hyper, pinned, sizeof(hyper));
	if (!rc)
		rc = cuda_sgd(k->weights, k->momentum, k->grads, c->runs, k->net->param_count, c->longest_run, c->hyper,
			      sgd->nesterov, c->element, c->stream);
	return rc ? rc : compute_end(c);
}

/* ---- order, and waiting ---- */

int cuda_answer(struct kernels *k)
{
	return TRY_CUDA(cudaEventSynchronize(cuda_of(k)->answered));
}

int cuda_settle(struct kernels *k)
{
	return cuda_wait(cuda_of(k));
}

int cuda_mark(struct kernels *k, void **event)
{
	struct cuda *c = cuda_of(k);

	*event = c->marks[c->marked++ % c->mark_count];
	return TRY_CUDA(cudaEventRecord(*event, c->stream));
}

int cuda_follow(struct kernels *k, void *event)
{
	return event ? TRY_CUDA(cudaStreamWaitEvent(cuda_of(k)->stream, event, 0)) : OK;
}

int cuda_collect(struct kernels *k)
{
	int rc = cuda_timeline_collect(cuda_of(k)->timeline);

	k->clock_bound_ns = cuda_timeline_bound_ns();
	return rc;
}
