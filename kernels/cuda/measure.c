/*
 * kernels/cuda/measure.c - what was chosen, and what it takes alone.
 */
#include "kernels/cuda/instance.h"

#include <math.h>

/* ---- what was chosen ---- */

static const struct field described_fields[] = {
	{ "operator", "", "module of the network", 0 },
	{ "forward", "", "what runs it: cuDNN's engine and view, or own", 0 },
	{ "backward_data", "", "likewise", 0 },
	{ "backward_weights", "", "likewise", 0 },
	{ "candidates", "1", "that were timed, all passes", 0 },
};

int cuda_describe(struct kernels *k, struct table *table)
{
	const struct cuda *c = cuda_of(k);

	table_init(table, "implementations", "What executes each operator", described_fields, ARRAY_LEN(described_fields));
	for (size_t i = 0; i < k->net->op_count; i++) {
		const struct cuda_node *node = &c->nodes[i];
		size_t all = 0;

		table_text(table, node->op->name);
		for (int p = 0; p < OP_PASSES; p++) {
			char text[64] = "own";
			size_t candidates = 0;

			if (node->conv && cuda_conv_describe(node->conv, (enum op_pass)p, text, sizeof(text), &candidates))
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
static bool one_pass(struct cuda *c, const struct cuda_node *node, enum op_pass pass, int *rc)
{
	const struct net_op *op = node->op;
	const bool conv = op->kind == OP_CONV;

	if (conv ? pass == OP_BACKWARD_DATA && kernel_plan_is_input(op->in) : pass == OP_BACKWARD_WEIGHTS)
		return false;
	if (pass == OP_FORWARD)
		*rc = cuda_node_forward(c, node, true);
	else if (!conv)
		*rc = cuda_node_backward(c, node);
	else if (pass == OP_BACKWARD_WEIGHTS)
		*rc = cuda_node_backward_weights(c, node);
	else
		*rc = cuda_node_backward_data(c, node);
	return true;
}

/* What the device takes for what `enqueue` puts on the stream. */
static int device_ns(struct cuda *c, int (*enqueue)(struct cuda *, void *), void *context, double *ns)
{
	struct cuda_stopwatch watch;
	float ms = 0;
	int rc = cuda_stopwatch_open(&watch);

	if (!rc)
		rc = cuda_stopwatch_start(&watch, c->stream);
	if (!rc)
		rc = enqueue(c, context);
	if (!rc)
		rc = cuda_stopwatch_stop(&watch, c->stream, &ms);
	cuda_stopwatch_close(&watch);
	*ns = 1e6 * (double)ms;
	return rc;
}

struct passes {
	const struct cuda_node *node;
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

int cuda_time_op(struct kernels *k, size_t op, enum op_pass pass, size_t times, uint64_t *ns)
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

int cuda_ceilings(struct kernels *k, double *flop_per_s, double *bytes_per_s)
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
	int rc = cuda_conv_open(&p.conv, c->dnn, &shape, 1u << OP_FORWARD, false);

	p.x = cuda_memory_device(&memory, p.bytes, what, &rc);
	p.y = cuda_memory_device(&memory, p.bytes, what, &rc);
	p.weights = cuda_memory_device(&memory, (size_t)CHANNELS * CHANNELS * element, what, &rc);
	p.workspace = cuda_memory_device(&memory, rc ? 0 : cuda_conv_workspace_bytes(p.conv), what, &rc);
	if (!rc)	/* zeros would run faster than data does */
		rc = cuda_noise(p.x, p.bytes / element, c->element, c->stream);
	if (!rc)
		rc = cuda_noise(p.weights, (size_t)CHANNELS * CHANNELS, c->element, c->stream);
	if (!rc)
		rc = cuda_conv_tune(p.conv, p.x, p.weights, p.y, p.workspace);
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
