/*
 * kernels/plan.c - see plan.h.
 */
#include "kernels/plan.h"

#include "bench/base/err.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

static void use(struct piece *pieces, int tensor, size_t moment)
{
	struct piece *p = &pieces[tensor];

	p->from = moment < p->from ? moment : p->from;
	p->to = moment > p->to ? moment : p->to;
}

static void plan_op(struct kernel_plan *p, const struct net *net, size_t index)
{
	const struct net_op *op = &net->ops[index];
	const size_t forward = index + 1, backward = 2 * net->op_count - index;
	const int in = kernel_plan_root(net, op->in), out = kernel_plan_root(net, op->out);
	const bool head = op->kind == OP_ROI_HEAD;

	if (op->kind == OP_FC)
		return;
	use(p->values, in, kernel_plan_is_input(in) ? 0 : forward);
	use(p->values, in, op->kind == OP_CONV || op->kind == OP_BN ? backward : forward);
	if (!kernel_plan_is_input(in))
		use(p->grads, in, backward);
	if (op->in2 >= 0) {
		use(p->values, kernel_plan_root(net, op->in2), forward);
		use(p->grads, kernel_plan_root(net, op->in2), backward);
	}
	if (head)
		return;
	use(p->values, out, forward);
	use(p->values, out, op->kind == OP_BN && op->relu ? backward : forward);
	use(p->grads, out, backward);
	if (op->kind == OP_MAXPOOL) {
		use(p->winners, op->out, forward);
		use(p->winners, op->out, backward);
	}
}

/* A tensor with several readers gets its gradient from the first of them in backward's order; the others add theirs.  Slices
 * are read only through their concatenation. */
static int find_sums(struct kernel_plan *p, const struct net *net)
{
	bool *written = calloc(net->tensor_count, sizeof(*written));

	if (!written)
		return err(NO_MEMORY, "no memory for %zu tensors", net->tensor_count);
	for (size_t i = net->op_count; i-- > 0;) {
		const struct net_op *op = &net->ops[i];

		assert(net->tensors[op->in].of < 0 && (op->in2 < 0 || net->tensors[op->in2].of < 0));
		if (op->kind == OP_CONV)
			p->adds[i] = written[op->in];
		else
			assert(!written[op->in]);
		written[op->in] = true;
		if (op->in2 < 0)
			continue;
		if (op->kind == OP_BN)
			p->adds[i] = written[op->in2];
		else
			assert(!written[op->in2]);
		written[op->in2] = true;
	}
	free(written);
	return OK;
}

int kernel_places_init(struct kernel_places *p, const struct net *net, const size_t *grad_offset)
{
	size_t at = 0;

	p->offset = calloc(net->param_count, sizeof(*p->offset));
	p->bn_offset = calloc(net->buffer_count, sizeof(*p->bn_offset));
	if (!p->offset || !p->bn_offset)
		return err(NO_MEMORY, "no memory for the places of %zu parameters", net->param_count);
	for (size_t i = 0; i < net->param_count; at += net->params[i++].count)
		p->offset[i] = grad_offset ? grad_offset[i] : at;
	at = 0;
	for (size_t i = 0; i < net->buffer_count; at += net->buffers[i++].channels)
		p->bn_offset[i] = at;
	return OK;
}

void kernel_places_release(struct kernel_places *p)
{
	free(p->offset);
	free(p->bn_offset);
	*p = (struct kernel_places){ NULL, NULL };
}

float *kernel_places_at(const struct kernel_places *p, const struct kernels *k, enum state_kind kind, size_t index, size_t *count)
{
	float *const flat[] = { [STATE_WEIGHT] = k->weights, [STATE_GRAD] = k->grads, [STATE_MOMENTUM] = k->momentum };

	if (kind == STATE_MEAN || kind == STATE_VAR) {
		*count = k->net->buffers[index].channels;
		return k->bn_state + 2 * p->bn_offset[index] + (kind == STATE_VAR ? *count : 0);
	}
	*count = k->net->params[index].count;
	return flat[kind] + p->offset[index];
}

static void find_makers(struct kernel_plan *p, const struct net *net)
{
	for (size_t i = 0; i < net->op_count; i++) {
		const int params[2] = { net->ops[i].weight, net->ops[i].bias };

		for (int k = 0; k < 2; k++)
			if (params[k] >= 0)
				p->op_of_ready[net->params[params[k]].ready] = i;
	}
}

int kernel_plan_init(struct kernel_plan *p, const struct net *net, const size_t *grad_offset,
		     size_t (*clip_values)(const void *context, int tensor), const void *context, size_t element_bytes)
{
	const size_t pieces = 3 * net->tensor_count;
	int rc;

	*p = (struct kernel_plan){
		.op_of_ready = calloc(net->param_count, sizeof(*p->op_of_ready)),
		.adds = calloc(net->op_count, sizeof(*p->adds)),
		.values = calloc(pieces, sizeof(*p->values)),
	};
	if (!p->op_of_ready || !p->adds || !p->values)
		return err(NO_MEMORY, "no memory for the plan of %zu operators", net->op_count);
	p->grads = p->values + net->tensor_count;
	p->winners = p->grads + net->tensor_count;
	rc = kernel_places_init(&p->places, net, grad_offset);
	if (rc)
		return rc;
	find_makers(p, net);
	rc = find_sums(p, net);
	if (rc)
		return rc;
	for (size_t i = 0; i < pieces; i++)
		p->values[i].from = SIZE_MAX;
	for (size_t i = 0; i < net->op_count; i++)
		plan_op(p, net, i);
	for (size_t i = 0; i < pieces; i++) {
		struct piece *piece = &p->values[i];

		if (piece->from != SIZE_MAX)
			piece->bytes = clip_values(context, (int)(i % net->tensor_count)) * (piece >= p->winners ? 1 : element_bytes);
	}
	p->clip_bytes = arena_plan(p->values, pieces);
	return p->clip_bytes ? OK : NO_MEMORY;
}

void kernel_plan_release(struct kernel_plan *p)
{
	kernel_places_release(&p->places);
	free(p->op_of_ready);
	free(p->adds);
	free(p->values);
	*p = (struct kernel_plan){ 0 };
}
