/*
 * tests/emulated/cudnn.c - the part of cuDNN's graph API that kernels/cuda calls, on this CPU.
 *
 * A descriptor is a bag of attributes.  What a plan does is read from the attributes alone: types, dimensions, strides, pads,
 * dilations, alpha and beta of one convolution or one of its gradients, in plain loops with sums in float.  So a view that says
 * other sums than the convolution's is found by its results.
 *
 * Refused as by the real one, as far as a caller could get it wrong: attributes that are missing, of another type, set too
 * late; descriptors that are not final; sizes that do not belong together; pointers that are missing or not aligned; float
 * gradients of bf16 tensors, for which cuDNN 9.19 has no engine.  The heuristics list some engines that a caller must not
 * take, and none in mode A for some shapes.  An engine overwrites its whole workspace before and after its work.
 * A call that is not refused is an item of the handle's stream.
 */
#include <cudnn.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bf16.h"
#include "tests/emulated/emulated.h"

enum { VERSION = 91900, ATTRIBUTES = 16, RANK_MAX = 3 };
#define LEN(a) (sizeof(a) / sizeof((a)[0]))

struct attribute {
	cudnnBackendAttributeName_t name;
	cudnnBackendAttributeType_t type;
	int64_t count;
	void *values;		/* owned; of descriptors, references that are counted */
};

struct descriptor {
	cudnnBackendDescriptorType_t type;
	bool final;
	unsigned references;
	struct attribute attributes[ATTRIBUTES];
	size_t count;
};

struct cudnnContext {
	cudaStream_t stream;
};

static _Thread_local char last[256];

static cudnnStatus_t refuse(cudnnStatus_t status, const char *why)
{
	snprintf(last, sizeof(last), "%s", why);
	return status;
}

/* ---- what must be there ---- */

static const struct {
	cudnnBackendDescriptorType_t type;
	cudnnBackendAttributeName_t required[8];
	size_t count;
} kinds[] = {
	{ CUDNN_BACKEND_TENSOR_DESCRIPTOR, { CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_ATTR_TENSOR_DATA_TYPE,
		CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_ATTR_TENSOR_STRIDES }, 5 },
	{ CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, { CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_ATTR_CONVOLUTION_CONV_MODE,
		CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES,
		CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS }, 7 },
	{ CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, { CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
		CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
		CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
		CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA }, 6 },
	{ CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, { CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA }, 6 },
	{ CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, { CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA }, 6 },
	{ CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, { CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_ATTR_OPERATIONGRAPH_HANDLE }, 2 },
	{ CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, { CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_ATTR_ENGINEHEUR_MODE }, 2 },
	{ CUDNN_BACKEND_ENGINE_DESCRIPTOR, { CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_ATTR_ENGINE_GLOBAL_INDEX }, 2 },
	{ CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, { CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE }, 2 },
	{ CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, { CUDNN_ATTR_ENGINECFG_ENGINE }, 1 },
	{ CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, { CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
		CUDNN_ATTR_EXECUTION_PLAN_HANDLE }, 2 },
	{ CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, { CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
		CUDNN_ATTR_VARIANT_PACK_WORKSPACE }, 3 },
};

static size_t bytes_of(cudnnBackendAttributeType_t type)
{
	switch (type) {
	case CUDNN_TYPE_INT64: return sizeof(int64_t);
	case CUDNN_TYPE_FLOAT: return sizeof(float);
	case CUDNN_TYPE_CHAR: return 1;
	case CUDNN_TYPE_HANDLE:
	case CUDNN_TYPE_VOID_PTR:
	case CUDNN_TYPE_BACKEND_DESCRIPTOR: return sizeof(void *);
	default: return sizeof(int);	/* the enums */
	}
}

/* ---- descriptors ---- */

static struct attribute *find(const struct descriptor *d, cudnnBackendAttributeName_t name)
{
	for (size_t i = 0; i < d->count; i++)
		if (d->attributes[i].name == name)
			return (struct attribute *)&d->attributes[i];
	return NULL;
}

static void release(struct descriptor *d);

static void clear(struct descriptor *d)
{
	for (size_t i = 0; i < d->count; i++) {
		struct attribute *a = &d->attributes[i];

		for (int64_t j = 0; a->type == CUDNN_TYPE_BACKEND_DESCRIPTOR && j < a->count; j++)
			release(((struct descriptor **)a->values)[j]);
		free(a->values);
	}
	d->count = 0;
	d->final = false;
}

static void release(struct descriptor *d)
{
	if (--d->references)
		return;
	clear(d);
	free(d);
}

static struct descriptor *make(cudnnBackendDescriptorType_t type)
{
	struct descriptor *d = calloc(1, sizeof(*d));

	if (d) {
		d->type = type;
		d->references = 1;
	}
	return d;
}

/* Replaces what has this name. */
static void put(struct descriptor *d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
		const void *values)
{
	struct attribute *a = find(d, name);
	const size_t bytes = bytes_of(type) * (size_t)count;

	if (!a && d->count == ATTRIBUTES)
		abort();
	if (!a)
		a = &d->attributes[d->count++];
	else
		free(a->values);
	*a = (struct attribute){ name, type, count, malloc(bytes ? bytes : 1) };
	memcpy(a->values, values, bytes);
	for (int64_t i = 0; type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < count; i++)
		((struct descriptor **)a->values)[i]->references++;
}

/* `to` becomes what `from` is. */
static void copy(struct descriptor *to, const struct descriptor *from)
{
	clear(to);
	for (size_t i = 0; i < from->count; i++)
		put(to, from->attributes[i].name, from->attributes[i].type, from->attributes[i].count, from->attributes[i].values);
	to->final = true;
}

static int64_t integer(const struct descriptor *d, cudnnBackendAttributeName_t name)
{
	const struct attribute *a = find(d, name);

	return a->type == CUDNN_TYPE_INT64 ? *(int64_t *)a->values : *(int *)a->values;
}

static const int64_t *integers(const struct descriptor *d, cudnnBackendAttributeName_t name)
{
	return find(d, name)->values;
}

static struct descriptor *child(const struct descriptor *d, cudnnBackendAttributeName_t name)
{
	return *(struct descriptor **)find(d, name)->values;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
	int ordered = emulated_failure(__func__);

	if (ordered)
		return refuse((cudnnStatus_t)ordered, "ordered to fail");
	for (size_t i = 0; i < LEN(kinds); i++)
		if (kinds[i].type == type) {
			*out = make(type);
			return *out ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
		}
	return refuse(CUDNN_STATUS_NOT_SUPPORTED, "not a descriptor that is emulated");
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
	release(d);
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
				       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
	struct descriptor *d = descriptor;

	if (d->final)
		return refuse(CUDNN_STATUS_NOT_INITIALIZED, "the descriptor is final already");
	if (!values || count < 1)
		return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "an attribute without values");
	for (int64_t i = 0; type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < count; i++)
		if (!((struct descriptor *const *)values)[i]->final)
			return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "a descriptor that is not final");
	put(d, name, type, count, values);
	return CUDNN_STATUS_SUCCESS;
}

/* ---- what an operation is ---- */

struct tensor {
	int64_t uid, dims[2 + RANK_MAX], strides[2 + RANK_MAX];		/* two outer, then three of space, the first maybe 1 */
	bool bf16;
};

struct operation {
	enum { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS } pass;
	struct tensor x, weights, y;
	int64_t stride[RANK_MAX], pad[RANK_MAX], dilation[RANK_MAX];
	size_t rank;
	float alpha, beta;
};

static const struct {
	cudnnBackendDescriptorType_t type;
	cudnnBackendAttributeName_t conv, x, weights, y, alpha, beta;
} operations[] = {
	[FORWARD] = { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
		CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
		CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
		CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA },
	[BACKWARD_DATA] = { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA },
	[BACKWARD_WEIGHTS] = { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA },
};

static struct tensor tensor_of(const struct descriptor *d)
{
	const int64_t *dims = integers(d, CUDNN_ATTR_TENSOR_DIMENSIONS), *strides = integers(d, CUDNN_ATTR_TENSOR_STRIDES);
	const size_t rank = (size_t)find(d, CUDNN_ATTR_TENSOR_DIMENSIONS)->count - 2, skip = RANK_MAX - rank;
	struct tensor t = { .uid = integer(d, CUDNN_ATTR_TENSOR_UNIQUE_ID), .dims = { dims[0], dims[1], 1, 1, 1 },
			    .strides = { strides[0], strides[1] },
			    .bf16 = integer(d, CUDNN_ATTR_TENSOR_DATA_TYPE) == CUDNN_DATA_BFLOAT16 };

	for (size_t i = 0; i < rank; i++) {
		t.dims[2 + skip + i] = dims[2 + i];
		t.strides[2 + skip + i] = strides[2 + i];
	}
	return t;
}

static struct operation operation_of(const struct descriptor *op)
{
	size_t pass = FORWARD;
	struct operation o;
	const struct descriptor *conv;

	while (operations[pass].type != op->type)
		pass++;
	conv = child(op, operations[pass].conv);
	o.pass = pass;
	o.x = tensor_of(child(op, operations[pass].x));
	o.weights = tensor_of(child(op, operations[pass].weights));
	o.y = tensor_of(child(op, operations[pass].y));
	o.alpha = *(float *)find(op, operations[pass].alpha)->values;
	o.beta = *(float *)find(op, operations[pass].beta)->values;
	o.rank = (size_t)integer(conv, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS);
	for (size_t i = 0; i < RANK_MAX; i++) {
		const size_t skip = RANK_MAX - o.rank;
		const bool there = i >= skip;

		o.stride[i] = there ? integers(conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES)[i - skip] : 1;
		o.pad[i] = there ? integers(conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS)[i - skip] : 0;
		o.dilation[i] = there ? integers(conv, CUDNN_ATTR_CONVOLUTION_DILATIONS)[i - skip] : 1;
	}
	return o;
}

static struct operation operation_of_graph(const struct descriptor *graph)
{
	return operation_of(child(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS));
}

/* ---- what belongs together ---- */

static cudnnStatus_t check_tensor(const struct descriptor *d)
{
	const int64_t type = integer(d, CUDNN_ATTR_TENSOR_DATA_TYPE);
	const struct attribute *dims = find(d, CUDNN_ATTR_TENSOR_DIMENSIONS);

	if (type != CUDNN_DATA_BFLOAT16 && type != CUDNN_DATA_FLOAT)
		return refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "only float and bf16 are emulated");
	if (dims->count < 4 || dims->count > 5 || find(d, CUDNN_ATTR_TENSOR_STRIDES)->count != dims->count)
		return refuse(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "four or five dimensions, and as many strides");
	for (int64_t i = 0; i < dims->count; i++)
		if (((int64_t *)dims->values)[i] < 1)
			return refuse(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND, "a dimension below 1");
	return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t check_convolution(const struct descriptor *d)
{
	const int64_t rank = integer(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS);
	static const cudnnBackendAttributeName_t lists[] = { CUDNN_ATTR_CONVOLUTION_DILATIONS,
		CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS };

	for (size_t i = 0; i < LEN(lists); i++)
		if (find(d, lists[i])->count != rank)
			return refuse(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "a list of another length than the spatial dimensions");
	if (integer(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE) != CUDNN_DATA_FLOAT ||
	    integer(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE) != CUDNN_CROSS_CORRELATION)
		return refuse(CUDNN_STATUS_NOT_SUPPORTED, "only float sums and cross-correlation are emulated");
	return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t check_operation(const struct descriptor *op)
{
	const struct operation o = operation_of(op);
	const bool output_of_rank = find(child(op, operations[o.pass].x), CUDNN_ATTR_TENSOR_DIMENSIONS)->count == (int64_t)o.rank + 2;

	if (!output_of_rank || o.x.dims[0] != o.y.dims[0] || o.x.dims[1] != o.weights.dims[1] || o.y.dims[1] != o.weights.dims[0])
		return refuse(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "x, w and y do not belong together");
	for (size_t i = 0; i < RANK_MAX; i++) {
		const int64_t reach = o.dilation[i] * (o.weights.dims[2 + i] - 1) + 1;

		if (o.y.dims[2 + i] != (o.x.dims[2 + i] + 2 * o.pad[i] - reach) / o.stride[i] + 1)
			return refuse(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "y is not as large as the convolution makes it");
	}
	if (o.x.uid == o.y.uid || o.x.uid == o.weights.uid || o.y.uid == o.weights.uid)
		return refuse(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "two tensors of one id");
	return CUDNN_STATUS_SUCCESS;
}

/* ---- engines ---- */

enum { TILES = 3 };	/* values of the knob that engine 7 has */

static const struct {
	int64_t number;
	size_t workspace_bytes;
	size_t tiles;		/* with a knob of so many values */
	bool in_4d_only;
	cudnnBackendNumericalNote_t note;
} engines[] = {
	{ 0, 0, 0, false, CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP },
	{ 7, 1000, TILES, false, CUDNN_NUMERICAL_NOTE_TENSOR_CORE },
	{ 5, 0, 0, false, CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP },
	{ 9, 64, 0, false, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC },
	{ 11, 4096, 0, true, CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP },
	{ 13, (size_t)8 << 30, 0, false, CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP },
};

static int engine_index(int64_t number)
{
	for (size_t i = 0; i < LEN(engines); i++)
		if (engines[i].number == number)
			return (int)i;
	return -1;
}

static bool is_supported(const struct descriptor *graph, int64_t number)
{
	const struct operation o = operation_of_graph(graph);
	const int i = engine_index(number);

	return i >= 0 && !(engines[i].in_4d_only && o.rank == 3) && o.x.bf16 == o.y.bf16 && o.x.bf16 == o.weights.bf16;
}

static cudnnStatus_t check_engine(struct descriptor *d)
{
	const int64_t number = integer(d, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);

	if (!is_supported(child(d, CUDNN_ATTR_ENGINE_OPERATION_GRAPH), number))
		return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the engine does not know this graph");
	put(d, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 1, &engines[engine_index(number)].note);
	return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t check_config(const struct descriptor *d)
{
	const size_t tiles = engines[engine_index(integer(child(d, CUDNN_ATTR_ENGINECFG_ENGINE), CUDNN_ATTR_ENGINE_GLOBAL_INDEX))].tiles;
	const struct attribute *knobs = find(d, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES);

	for (int64_t i = 0; knobs && i < knobs->count; i++) {
		const struct descriptor *k = ((struct descriptor **)knobs->values)[i];

		if (integer(k, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE) != CUDNN_KNOB_TYPE_TILE_SIZE ||
		    (size_t)integer(k, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE) >= tiles)
			return refuse(CUDNN_STATUS_BAD_PARAM, "a knob that the engine does not have");
	}
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor)
{
	struct descriptor *d = descriptor;
	cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
	size_t kind = 0;

	while (kinds[kind].type != d->type)
		kind++;
	for (size_t i = 0; i < kinds[kind].count; i++)
		if (!find(d, kinds[kind].required[i]))
			return refuse(CUDNN_STATUS_BAD_PARAM, "an attribute is missing");
	switch (d->type) {
	case CUDNN_BACKEND_TENSOR_DESCRIPTOR: status = check_tensor(d); break;
	case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR: status = check_convolution(d); break;
	case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
	case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
	case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR: status = check_operation(d); break;
	case CUDNN_BACKEND_ENGINE_DESCRIPTOR: status = check_engine(d); break;
	case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR: status = check_config(d); break;
	default: break;
	}
	d->final = status == CUDNN_STATUS_SUCCESS;
	return status;
}

/* ---- heuristics ---- */

static const struct { int64_t engine, tile; } mode_a[] = { { 13, -1 }, { 7, 2 }, { 7, 0 }, { 7, 2 }, { 9, -1 }, { 7, 1 }, { 5, -1 }, { 11, -1 } };

static void config_make(struct descriptor *to, struct descriptor *graph, int64_t engine, int64_t tile)
{
	const cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_TILE_SIZE;
	struct descriptor *e = make(CUDNN_BACKEND_ENGINE_DESCRIPTOR), *k = make(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);

	put(e, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph);
	put(e, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &engine);
	cudnnBackendFinalize(e);
	clear(to);
	put(to, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &e);
	if (tile >= 0) {
		put(k, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
		put(k, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &tile);
		k->final = true;
		put(to, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &k);
	}
	to->final = true;
	release(e);
	release(k);
}

static int64_t configs_list(const struct descriptor *heuristics, int64_t room, struct descriptor **out)
{
	struct descriptor *graph = child(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
	const struct operation o = operation_of_graph(graph);
	const int64_t mode = integer(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE);
	int64_t count = 0;

	if (mode == CUDNN_HEUR_MODE_FALLBACK && room && is_supported(graph, 0))
		config_make(out[count++], graph, 0, -1);
	/* The real one lists none for some shapes either. */
	for (size_t i = 0; mode == CUDNN_HEUR_MODE_A && i < LEN(mode_a) && count < room; i++)
		if (o.weights.dims[4] != 5 && is_supported(graph, mode_a[i].engine))
			config_make(out[count++], graph, mode_a[i].engine, mode_a[i].tile);
	return count;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
				       cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *values)
{
	const struct descriptor *d = descriptor;
	const struct attribute *a;

	if (!d->final)
		return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "the descriptor is not final");
	if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
		*count = configs_list(d, room, values);
		return CUDNN_STATUS_SUCCESS;
	}
	if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
		const struct descriptor *e = child(child(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG), CUDNN_ATTR_ENGINECFG_ENGINE);

		*(int64_t *)values = (int64_t)engines[engine_index(integer(e, CUDNN_ATTR_ENGINE_GLOBAL_INDEX))].workspace_bytes;
		*count = 1;
		return CUDNN_STATUS_SUCCESS;
	}
	a = find(d, name);
	*count = a ? a->count : 0;
	if (!a)
		return name == CUDNN_ATTR_ENGINECFG_KNOB_CHOICES ? CUDNN_STATUS_SUCCESS :
		       refuse(CUDNN_STATUS_BAD_PARAM, "there is no such attribute");
	if (a->type != type)
		return refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "an attribute of another type");
	for (int64_t i = 0; i < a->count && i < room; i++)
		if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
			copy(((struct descriptor **)values)[i], ((struct descriptor **)a->values)[i]);
		else
			memcpy((char *)values + (size_t)i * bytes_of(type), (char *)a->values + (size_t)i * bytes_of(type), bytes_of(type));
	return CUDNN_STATUS_SUCCESS;
}

/* ---- execution ---- */

static size_t positions(const struct tensor *t)
{
	return (size_t)(t->dims[2] * t->dims[3] * t->dims[4]);
}

static size_t values_of(const struct tensor *t)
{
	return (size_t)(t->dims[0] * t->dims[1]) * positions(t);
}

/* Where value i of the order (outer, space, channel) is in memory. */
static size_t address(const struct tensor *t, unsigned i)	/* 32 bits: a division takes a third of the time */
{
	const unsigned c = (unsigned)t->dims[1], w = (unsigned)t->dims[4], h = (unsigned)t->dims[3], d = (unsigned)t->dims[2];

	return i % c * (size_t)t->strides[1] + i / c % w * (size_t)t->strides[4] + i / c / w % h * (size_t)t->strides[3] +
	       i / c / w / h % d * (size_t)t->strides[2] + i / c / w / h / d * (size_t)t->strides[0];
}

/* In that order, as float; owned by the caller. */
static float *read_all(const struct tensor *t, const void *at)
{
	const size_t count = values_of(t);
	float *out = malloc(count * sizeof(*out));

	if (!out)
		abort();
	for (unsigned i = 0; i < count; i++)
		out[i] = t->bf16 ? bf16_value(((const uint16_t *)at)[address(t, i)]) : ((const float *)at)[address(t, i)];
	return out;
}

static void write_all(const struct tensor *t, const float *from, float alpha, float beta, void *at)
{
	const size_t count = values_of(t);

	for (unsigned i = 0; i < count; i++) {
		const size_t a = address(t, i);
		float v = alpha * from[i];

		if (t->bf16) {
			if (beta != 0)
				v += beta * bf16_value(((uint16_t *)at)[a]);
			((uint16_t *)at)[a] = bf16_bits(v);
		} else {
			if (beta != 0)
				v += beta * ((float *)at)[a];
			((float *)at)[a] = v;
		}
	}
}

/* The place of x that each tap of each output place reads, (out, tap), all three linear; -1: padding.  The same for all clips;
 * owned by the caller. */
static int64_t *sources(const struct operation *o)
{
	const int64_t *od = o->y.dims + 2, *kd = o->weights.dims + 2, *id = o->x.dims + 2;
	int64_t *all = malloc(positions(&o->y) * positions(&o->weights) * sizeof(*all)), *next = all;
	int64_t out[RANK_MAX], tap[RANK_MAX];

	if (!all)
		abort();
	for (out[0] = 0; out[0] < od[0]; out[0]++)
	for (out[1] = 0; out[1] < od[1]; out[1]++)
	for (out[2] = 0; out[2] < od[2]; out[2]++)
	for (tap[0] = 0; tap[0] < kd[0]; tap[0]++)
	for (tap[1] = 0; tap[1] < kd[1]; tap[1]++)
	for (tap[2] = 0; tap[2] < kd[2]; tap[2]++) {
		int64_t at = 0;

		for (size_t i = 0; i < RANK_MAX && at >= 0; i++) {
			const int64_t place = out[i] * o->stride[i] - o->pad[i] + tap[i] * o->dilation[i];

			at = place < 0 || place >= id[i] ? -1 : at * id[i] + place;
		}
		*next++ = at;
	}
	return all;
}

/* Threads wait for each other longer than small ones take. */
static bool is_large(const struct operation *o)
{
	return values_of(&o->y) * positions(&o->weights) * (size_t)o->x.dims[1] > (size_t)1 << 24;
}

/* All three are y += x w over the same places; arrays are (outer, space, channel). */
static void forward(const struct operation *o, const int64_t *sources, const float *x, const float *w, float *y)
{
	const size_t outs = positions(&o->y), ins = positions(&o->x), taps = positions(&o->weights);
	const size_t cin = (size_t)o->x.dims[1], cout = (size_t)o->y.dims[1], clips = (size_t)o->x.dims[0];

#pragma omp parallel for if (is_large(o))
	for (size_t row = 0; row < clips * outs; row++)
		for (size_t tap = 0; tap < taps; tap++) {
			const int64_t from = sources[row % outs * taps + tap];
			const float *in = x + (row / outs * ins + (size_t)from) * cin;

			for (size_t k = 0; from >= 0 && k < cout; k++) {
				const float *weight = w + (k * taps + tap) * cin;
				float sum = 0;

#pragma omp simd reduction(+ : sum)
				for (size_t c = 0; c < cin; c++)
					sum += in[c] * weight[c];
				y[row * cout + k] += sum;
			}
		}
}

static void backward_data(const struct operation *o, const int64_t *sources, float *dx, const float *w, const float *dy)
{
	const size_t outs = positions(&o->y), ins = positions(&o->x), taps = positions(&o->weights);
	const size_t cin = (size_t)o->x.dims[1], cout = (size_t)o->y.dims[1], clips = (size_t)o->x.dims[0];

#pragma omp parallel for if (is_large(o))
	for (size_t n = 0; n < clips; n++)
		for (size_t out = 0; out < outs; out++)
			for (size_t tap = 0; tap < taps; tap++) {
				const int64_t to = sources[out * taps + tap];
				float *d = dx + (n * ins + (size_t)to) * cin;

				for (size_t k = 0; to >= 0 && k < cout; k++) {
					const float g = dy[(n * outs + out) * cout + k], *weight = w + (k * taps + tap) * cin;

					for (size_t c = 0; c < cin; c++)
						d[c] += g * weight[c];
				}
			}
}

static void backward_weights(const struct operation *o, const int64_t *sources, const float *x, float *dw, const float *dy)
{
	const size_t outs = positions(&o->y), ins = positions(&o->x), taps = positions(&o->weights);
	const size_t cin = (size_t)o->x.dims[1], cout = (size_t)o->y.dims[1], clips = (size_t)o->x.dims[0];

#pragma omp parallel for if (is_large(o))
	for (size_t tap = 0; tap < taps; tap++)
		for (size_t row = 0; row < clips * outs; row++) {
			const int64_t from = sources[row % outs * taps + tap];
			const float *in = x + (row / outs * ins + (size_t)from) * cin;

			for (size_t k = 0; from >= 0 && k < cout; k++) {
				const float g = dy[row * cout + k];
				float *d = dw + (k * taps + tap) * cin;

				for (size_t c = 0; c < cin; c++)
					d[c] += g * in[c];
			}
		}
}

/* All that a plan and its pack say, by value: both may be gone when the stream gets there. */
struct execution {
	struct operation operation;
	void *x, *w, *y, *workspace;
	size_t bytes;		/* of the workspace */
};

static void execute(const struct operation *o, void *x, void *w, void *y)
{
	const struct { const struct tensor *tensor; void *at; } all[] = { { &o->x, x }, { &o->weights, w }, { &o->y, y } };
	const size_t out = o->pass == FORWARD ? 2 : o->pass == BACKWARD_DATA ? 0 : 1;
	int64_t *at = sources(o);
	float *values[3];

	for (size_t i = 0; i < LEN(all); i++)
		values[i] = i == out ? calloc(values_of(all[i].tensor), sizeof(float)) : read_all(all[i].tensor, all[i].at);
	if (!values[out])
		abort();
	switch (o->pass) {
	case FORWARD: forward(o, at, values[0], values[1], values[2]); break;
	case BACKWARD_DATA: backward_data(o, at, values[0], values[1], values[2]); break;
	case BACKWARD_WEIGHTS: backward_weights(o, at, values[0], values[1], values[2]); break;
	}
	write_all(all[out].tensor, values[out], o->alpha, o->beta, all[out].at);
	for (size_t i = 0; i < LEN(all); i++)
		free(values[i]);
	free(at);
}

static bool run(void *arguments)
{
	const struct execution *e = arguments;

	if (e->bytes)
		memset(e->workspace, 0xff, e->bytes);
	execute(&e->operation, e->x, e->w, e->y);
	if (e->bytes)
		memset(e->workspace, 0xff, e->bytes);
	return true;
}

static void *pointer_of(const struct descriptor *pack, int64_t uid)
{
	const struct attribute *ids = find(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
	const struct attribute *at = find(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);

	for (int64_t i = 0; i < ids->count && i < at->count; i++)
		if (((int64_t *)ids->values)[i] == uid)
			return ((void **)at->values)[i];
	return NULL;
}

static uint64_t wrong_engines;

void emulated_wrong_engines(uint64_t numbers)
{
	wrong_engines = numbers;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
	const int ordered = emulated_failure(__func__);
	const struct descriptor *p = plan, *v = pack, *engine;
	struct execution e;
	int64_t bytes, got;

	if (ordered)
		return refuse((cudnnStatus_t)ordered, "ordered to fail");
	if (!handle || !p->final || !v->final)
		return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "a handle, a final plan and a final pack are wanted");
	engine = child(child(p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG), CUDNN_ATTR_ENGINECFG_ENGINE);
	e.operation = operation_of_graph(child(engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH));
	if (wrong_engines >> integer(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX) & 1)
		e.operation.alpha *= 1.5f;
	e.x = pointer_of(v, e.operation.x.uid);
	e.w = pointer_of(v, e.operation.weights.uid);
	e.y = pointer_of(v, e.operation.y.uid);
	e.workspace = *(void **)find(v, CUDNN_ATTR_VARIANT_PACK_WORKSPACE)->values;
	cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &got, &bytes);
	e.bytes = (size_t)bytes;
	if (!e.x || !e.w || !e.y || (e.bytes && !e.workspace))
		return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a tensor or the workspace has no address");
	/* All tensors were declared with one alignment; the workspace has the allocator's. */
	if (((uintptr_t)e.x | (uintptr_t)e.w | (uintptr_t)e.y) % 16 || (uintptr_t)e.workspace % 256)
		return refuse(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "an address that is not aligned");
	emulated_enqueue(handle->stream, run, &e, sizeof(e));
	return CUDNN_STATUS_SUCCESS;
}

/* ---- the library ---- */

size_t cudnnGetVersion(void)
{
	return VERSION;
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
	const int ordered = emulated_failure(__func__);

	if (ordered)
		return refuse((cudnnStatus_t)ordered, "ordered to fail");
	*handle = calloc(1, sizeof(**handle));
	return *handle ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
	free(handle);
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
	handle->stream = stream;
	return CUDNN_STATUS_SUCCESS;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
	return status == CUDNN_STATUS_SUCCESS ? "CUDNN_STATUS_SUCCESS" : "an emulated CUDNN_STATUS";
}

void cudnnGetLastErrorString(char *text, size_t bytes)
{
	snprintf(text, bytes, "%s", last);
	last[0] = '\0';
}
