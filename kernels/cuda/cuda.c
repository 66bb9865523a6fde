/*
 * kernels/cuda/cuda.c - the CUDA back end: cuDNN's convolutions (conv.h), our own everything else (ops.h).
 *
 * The same nodes over the same plan as the CPU's (kernels/plan.h), in other words: activations are NDHWC, in float or bf16;
 * weights, momentum, gradients, statistics and the head are float.  Convolutions read their weights from a copy in the
 * element type, with the inputs' channels padded; the optimiser writes it in the same pass.
 *
 * Here: what is usable, opening and closing, state in and out.
 */
#include "kernels/cuda/instance.h"

#include "bench/base/hash.h"
#include "kernels/initial.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((visibility("default"))) extern const struct kernel_backend sfscale_kernels_cuda;

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
	const float *stored = kernel_places_at(&c->plan.places, k, kind, index, &count);
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
	float *stored = kernel_places_at(&c->plan.places, k, kind, index, &count);
	int rc;

	if (p)
		permute(p, plain, c->plain, false);
	c->copies_stale = true;
	rc = cuda_to_device(c, stored, p ? c->plain : plain, count * sizeof(float));
	return rc ? rc : cuda_wait(c);
}

/* ---- open and close ---- */

static void cuda_close(struct kernels *k)
{
	struct cuda *c = cuda_of(k);

	if (!c)
		return;
	if (c->stream)
		cudaStreamSynchronize(c->stream);	/* whatever comes of it */
	cuda_batch_close(c);
	cuda_timeline_close(c->timeline);
	cuda_unprepare(c);
	cuda_dnn_close(c->dnn);
	cuda_memory_release(&c->scratch);
	cuda_memory_release(&c->memory);
	for (size_t i = 0; c->marks && i < c->mark_count; i++)
		if (c->marks[i])
			cudaEventDestroy(c->marks[i]);
	if (c->answered)
		cudaEventDestroy(c->answered);
	if (c->stream)
		cudaStreamDestroy(c->stream);
	free(c->marks);
	kernel_plan_release(&c->plan);
	free(c->nodes);
	free(c->backward);
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
	if (!rc)
		rc = TRY_CUDA(cudaEventCreateWithFlags(&c->answered, cudaEventDisableTiming));
	return rc ? rc : cuda_dnn_open(&c->dnn, c->stream, c->math);
}

/* What a step does for each bucket, of which there are parameters at most, and besides. */
static size_t pieces_of_step(const struct cuda *c)
{
	return c->base.net->param_count + 8;
}

/* Events for others. */
static int open_marks(struct cuda *c)
{
	int rc = OK;

	c->mark_count = pieces_of_step(c);
	c->marks = calloc(c->mark_count, sizeof(*c->marks));
	if (!c->marks)
		return err(NO_MEMORY, "no memory for %zu events", c->mark_count);
	for (size_t i = 0; i < c->mark_count && !rc; i++)
		rc = TRY_CUDA(cudaEventCreateWithFlags(&c->marks[i], cudaEventDisableTiming));
	return rc;
}

/* The device is a step behind at most, or a part of one. */
static int open_timeline(struct cuda *c)
{
	int rc = cuda_timeline_open(&c->timeline, 2 * pieces_of_step(c));

	if (!rc)
		rc = cuda_timeline_stamp_ns(c->timeline, c->stream, &c->base.stamp_ns);
	if (!rc)
		c->base.clock_bound_ns = cuda_timeline_bound_ns();
	return rc;
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
		*elements += arena_padded(net->params[op->weight].count / net->tensors[op->in].c * cuda_stored_channels(c, op->in) *
					  cuda_element_bytes(c->element)) / cuda_element_bytes(c->element);
	}
	return OK;
}

/* Which frames of crops the slow pathway shows. */
static int write_shown(struct cuda *c)
{
	const struct net *net = c->base.net;
	uint32_t *shown = malloc(net->slow_frames * sizeof(*shown));
	int rc;

	if (!shown)
		return err(NO_MEMORY, "no memory for %zu frames", net->slow_frames);
	for (size_t i = 0; i < net->slow_frames; i++)
		shown[i] = (uint32_t)net_shown_frame(net->frames, net->slow_frames, c->config.old_linspace, i);
	rc = cuda_to_device(c, c->shown, shown, net->slow_frames * sizeof(*shown));
	if (!rc)
		rc = cuda_wait(c);
	free(shown);
	return rc;
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

		runs[i] = (struct cuda_run){ .offset = c->plan.places.offset[i], .count = p->count, .weight_decay = p->decays };
	}
	for (size_t i = 0; i < net->op_count; i++) {
		const struct net_op *op = &net->ops[i];

		if (op->kind != OP_CONV)
			continue;
		runs[op->weight].copy = cuda_copy_at(c, op->weight);
		runs[op->weight].row = net->tensors[op->in].c;
		runs[op->weight].copy_row = cuda_stored_channels(c, op->in);
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

/* Most of the memory grows with the clips: too many are refused before anything is allocated, with the number that would fit. */
static int check_fit(struct cuda *c)
{
	const size_t clip_bytes = c->plan.clip_bytes + cuda_raw_clip_floats(c) * sizeof(float), bytes = clip_bytes * c->config.clips_max;
	size_t free_bytes = 0, all_bytes = 0;
	int rc = TRY_CUDA(cudaMemGetInfo(&free_bytes, &all_bytes));

	if (rc || bytes <= free_bytes)
		return rc;
	return err(NO_MEMORY, "%zu clips of net '%s' need %.3f GiB of device memory for activations and their gradients; %.3f of %.3f GiB "
		   "are free, enough for %zu clips", c->config.clips_max, c->base.net->preset->name, (double)bytes / (1 << 30),
		   (double)free_bytes / (1 << 30), (double)all_bytes / (1 << 30), free_bytes / clip_bytes);
}

static float *floats(struct cuda *c, size_t count, const char *what, int *rc)
{
	return cuda_memory_device(&c->memory, count * sizeof(float), what, rc);
}

static int open_state(struct cuda *c)
{
	const struct net *net = c->base.net;
	size_t copy_elements;
	int rc = place_copies(c, &copy_elements);

	for (size_t i = 0; i < net->param_count; i++)
		c->longest_run = net->params[i].count > c->longest_run ? net->params[i].count : c->longest_run;
	while (net->ops[c->trunk_ops].kind != OP_ROI_HEAD)
		c->trunk_ops++;
	c->nodes = calloc(net->op_count, sizeof(*c->nodes));
	c->backward = calloc(c->trunk_ops + 1, sizeof(*c->backward));
	c->base.bn_batches = calloc(net->buffer_count, sizeof(*c->base.bn_batches));
	c->plain = malloc(c->longest_run * sizeof(*c->plain));
	if (!rc && (!c->nodes || !c->backward || !c->base.bn_batches || !c->plain))
		rc = err(NO_MEMORY, "no memory for %zu operators", net->op_count);
	for (size_t i = 0; !rc && i < net->op_count; i++)
		c->nodes[i].op = &net->ops[i];
	c->base.grads = floats(c, net->values, "the gradients", &rc);
	if (c->config.in_parts)
		c->sum = floats(c, net->values, "the gradients of a step's parts", &rc);
	c->base.weights = floats(c, net->values, "the weights", &rc);
	c->base.momentum = floats(c, net->values, "the momentum", &rc);
	c->base.bn_state = floats(c, net->buffer_values, "the running statistics", &rc);
	c->bn_mean = floats(c, net->buffer_values, "the batch's statistics", &rc);
	c->bn_inv_std = floats(c, net->buffer_values, "the batch's statistics", &rc);
	c->partial = floats(c, partial_floats(c), "the batch norms' partial sums", &rc);
	c->copies = cuda_memory_device(&c->memory, copy_elements * cuda_element_bytes(c->element), "the weights in the "
				       "convolutions' type", &rc);
	c->runs = cuda_memory_device(&c->memory, net->param_count * sizeof(*c->runs), "the list of parameters", &rc);
	c->hyper = floats(c, 3, "the optimiser's numbers", &rc);
	for (size_t i = 0; i < ARRAY_LEN(c->hyper_pinned); i++)
		c->hyper_pinned[i] = cuda_memory_pinned(&c->memory, 3 * sizeof(float), "the optimiser's numbers", &rc);
	c->shown = cuda_memory_device(&c->memory, net->slow_frames * sizeof(*c->shown), "the slow pathway's frames", &rc);
	c->arena = cuda_memory_device(&c->memory, c->plan.clip_bytes * c->config.clips_max, "activations and their gradients", &rc);
	if (!rc)
		rc = write_shown(c);
	return rc ? rc : write_runs(c);
}

/* The head's memory depends on boxes, not on clips. */
static int open_head(struct cuda *c)
{
	const struct net *net = c->base.net;
	const size_t boxes = c->config.boxes_max, clips = c->config.clips_max;
	const struct net_op *op = net->ops;
	struct cuda_head *h = &c->head;
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
		const struct net_tensor *t = &net->tensors[p == CUDA_SLOW ? op->in : op->in2];

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
	c->base.loss = h->loss_pinned;
	return rc;
}

/* Weights by the rules of initialisation. */
static int open_weights(struct cuda *c)
{
	const struct net *net = c->base.net;
	float *plain = malloc(c->longest_run * sizeof(*plain));
	int rc = OK;

	if (!plain)
		return err(NO_MEMORY, "no memory for the first weights");
	for (size_t i = 0; !rc && i < net->param_count; i++) {
		initial_weights(net, i, c->config.seed, plain);
		rc = cuda_set(&c->base, STATE_WEIGHT, i, plain);
	}
	for (size_t i = 0; i < c->longest_run; i++)
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
		hash = hash_word(hash, c->plan.places.offset[i], sizeof(c->plan.places.offset[i]));
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
	if (!rc && config->tuning)
		rc = cuda_conv_learn(c->dnn, config->tuning);
	for (int i = 0; i < NET_INPUTS; i++)
		c->channels[i] = cuda_conv_channels(c->math, config->net->tensors[i].c);
	if (!rc)
		rc = kernel_plan_init(&c->plan, config->net, config->grad_offset, cuda_clip_values, c, cuda_element_bytes(c->element));
	if (!rc)
		rc = check_fit(c);
	if (!rc)
		rc = open_marks(c);
	if (!rc)
		rc = open_timeline(c);
	if (!rc)
		rc = open_state(c);
	if (!rc)
		rc = cuda_batch_open(c);
	if (!rc)
		rc = open_head(c);
	if (!rc)
		rc = cuda_prepare(c, config->clips_max);
	if (!rc)
		rc = open_weights(c);
	if (rc) {
		cuda_close(&c->base);
		return rc;
	}
	c->config.grad_offset = c->plan.places.offset;
	c->base.layout_hash = layout_hash(c);
	c->base.element_bytes = cuda_element_bytes(c->element);
	c->base.device_bytes = c->memory.device_bytes + c->scratch.device_bytes;
	*k = &c->base;
	return OK;
}

static const char *cuda_tuning(struct kernels *k)
{
	return cuda_conv_choices(cuda_of(k)->dnn);
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
	.takes_parts = true,
	.probe = cuda_probe,
	.open = cuda_open,
	.close = cuda_close,
	.input = cuda_input,
	.forward = cuda_forward,
	.evaluate = cuda_evaluate,
	.loss = cuda_loss,
	.backward = cuda_backward,
	.update = cuda_update,
	.queue = {
		.answer = cuda_answer,
		.settle = cuda_settle,
		.mark = cuda_mark,
		.follow = cuda_follow,
		.collect = cuda_collect,
	},
	.get = cuda_get,
	.set = cuda_set,
	.describe = cuda_describe,
	.tuning = cuda_tuning,
	.time_op = cuda_time_op,
	.ceilings = cuda_ceilings,
	.pin = cuda_pin,
	.unpin = cuda_unpin,
	.version = cuda_version,
};
