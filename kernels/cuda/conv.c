/*
 * kernels/cuda/conv.c - convolutions by cuDNN's graph API.
 *
 * A graph of one operation for each pass and each view; the heuristics list engines with their knobs for it, best first; the
 * first few of them and one of each other engine are built into plans, tried at the step's own addresses, and all but the
 * fastest of those that are right (sample.h) are dropped.  Executing builds nothing: a plan, and a variant pack that is made again only for other addresses.
 *
 * Left out: results that differ from run to run, sums in less than float, more workspace than
 * WORKSPACE_MAX; and for float without TF32 whatever uses tensor cores, which is how cuDNN marks TF32.
 *
 * The gradient of the weights comes in elements: for bf16 there is no engine that leaves float.  It is made in the workspace
 * and widened (cuda_narrow()), which also leaves the padded channels behind.
 *
 * What cuDNN 9.19 lists in mode A for compute capability 9.0, asked of a described H100 (tests/described_conv.c; plans were
 * built, none has run), for the 49 distinct convolutions of r50 at 8 clips:
 *
 *   bf16, TF32, float        engines for every pass, strided backward-data too; 5-D and folded alike, but bf16's slow stem
 *                            of 8 channels forward, which has them in 4-D only
 *   beta 1, backward-data    the same engines as beta 0
 *   bf16 x, dy, float dw     none at all, in no mode
 *   stem of 3 or 4 channels  bf16: those with tensor cores want 51 to 206 MB to pad in, those of 8 channels nothing;
 *                            TF32: 4 want half of what 8 do
 *
 * A choice is a line of text, because it must travel: to convolutions of the same shape, to other ranks, into a file.
 */
#include "kernels/cuda/conv.h"

#include "kernels/cuda/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VIEWS = 2 };		/* as it is, and folded */
enum { CONFIGS = 64 };		/* looked at, per view: the heuristics list some 40 */
enum { FIRST = 3, PER_VIEW = 6 };	/* candidates: the first few, then one of each other engine */
enum { KNOBS = CUDNN_KNOB_TYPE_COUNTS };
enum { ALIGNMENT = 16, PIECE = 256 };
enum { TIMED_RUNS = 5 };
#define WORKSPACE_MAX ((size_t)512 << 20)	/* one is shared by all convolutions; with more, some engines unfold the input */

/* The convolution in other words.  (T,H,W) that is meant comes first; the rest of the arrays is not read. */
struct view {
	size_t rank;		/* of space: 3 or 2 */
	int64_t n, cin, cout;
	int64_t in[3], out[3], kernel[3], stride[3], pad[3], dilation[3];
};

struct candidate {
	size_t view;		/* index */
	cudnnBackendDescriptor_t plan;
	size_t workspace_bytes;
	int64_t engine;
	char text[160];		/* "5-D 62 2=3,13=1": view, engine, knobs */
};

struct pass {
	struct candidate at[VIEWS * PER_VIEW];	/* the first one runs */
	size_t count, found;		/* there are; there were before the tuning */
	cudnnBackendDescriptor_t pack;	/* of the addresses below */
	void *bound[4];			/* x, weights, y, workspace */
};

struct cuda_conv {
	struct cuda_dnn *dnn;	/* borrowed */
	struct cuda_conv_shape shape;
	unsigned passes;
	bool adds_dx;
	struct view views[VIEWS];
	size_t view_count;
	struct pass pass[OP_PASSES];
};

/* The names of one thing in three operations. */
static const struct {
	const char *name;
	cudnnBackendDescriptorType_t operation;
	cudnnBackendAttributeName_t conv, x, weights, y, alpha, beta;
} passes[OP_PASSES] = {
	[OP_FORWARD] = { "forward", CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
		CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
		CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
		CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA },
	[OP_BACKWARD_DATA] = { "backward-data", CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA },
	[OP_BACKWARD_WEIGHTS] = { "backward-weights", CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
		CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA },
};

static const char *const math_names[] = { "fp32", "tf32", "bf16" };

size_t cuda_conv_channels(enum cuda_math math, size_t cin)
{
	size_t unit = math == CUDA_MATH_BF16 ? 8 : 4;

	return (cin + unit - 1) / unit * unit;
}

static enum cuda_element element(const struct cuda_conv *c)
{
	return c->dnn->math == CUDA_MATH_BF16 ? CUDA_BF16 : CUDA_F32;
}

/* ---- views ---- */

static struct view plain_view(const struct cuda_conv_shape *s)
{
	struct view v = { .rank = 3, .n = (int64_t)s->n, .cin = (int64_t)s->cin, .cout = (int64_t)s->cout };

	for (size_t i = 0; i < 3; i++) {
		v.in[i] = (int64_t)s->in[i];
		v.out[i] = (int64_t)s->out[i];
		v.kernel[i] = (int64_t)s->kernel[i];
		v.stride[i] = (int64_t)s->stride[i];
		v.pad[i] = (int64_t)s->pad[i];
		v.dilation[i] = (int64_t)s->dilation[i];
	}
	return v;
}

/* Neither reaches over its own place along this axis nor skips one. */
static bool passes_through(const struct view *v, size_t axis)
{
	return v->kernel[axis] == 1 && v->stride[axis] == 1 && v->pad[axis] == 0;
}

static bool folded_view(const struct view *v, struct view *f)
{
	*f = *v;
	f->rank = 2;
	if (passes_through(v, 0)) {	/* N*T images (H,W) */
		f->n *= v->in[0];
		for (size_t i = 0; i < 2; i++) {
			f->in[i] = v->in[i + 1];
			f->out[i] = v->out[i + 1];
			f->kernel[i] = v->kernel[i + 1];
			f->stride[i] = v->stride[i + 1];
			f->pad[i] = v->pad[i + 1];
			f->dilation[i] = v->dilation[i + 1];
		}
		return true;
	}
	f->in[1] *= v->in[2];		/* images (T,H*W) */
	f->out[1] *= v->out[2];
	return passes_through(v, 1) && passes_through(v, 2);
}

/* ---- graphs ---- */

enum { UID_X = 1, UID_WEIGHTS, UID_Y };

/* Channels innermost, packed. */
static cudnnStatus_t tensor(const struct cuda_conv *c, int64_t uid, size_t rank, int64_t outer, int64_t channels,
			    const int64_t space[3], cudnnBackendDescriptor_t *out)
{
	cudnnDataType_t type = element(c) == CUDA_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
	int64_t dims[5] = { outer, channels }, strides[5] = { 0, 1 }, alignment = ALIGNMENT, stride = channels;

	for (size_t i = rank; i-- > 0; stride *= space[i]) {
		dims[2 + i] = space[i];
		strides[2 + i] = stride;
	}
	strides[0] = stride;
	return cuda_dnn_make(out, CUDNN_BACKEND_TENSOR_DESCRIPTOR, (const struct cuda_dnn_attr[]){
		{ CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid },
		{ CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type },
		{ CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment },
		{ CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, (int64_t)rank + 2, dims },
		{ CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, (int64_t)rank + 2, strides },
	}, 5);
}

static cudnnStatus_t convolution(const struct view *v, cudnnBackendDescriptor_t *out)
{
	cudnnDataType_t sums = CUDNN_DATA_FLOAT;
	cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
	int64_t rank = (int64_t)v->rank;

	return cuda_dnn_make(out, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, (const struct cuda_dnn_attr[]){
		{ CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums },
		{ CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode },
		{ CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &rank },
		{ CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, rank, v->dilation },
		{ CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, rank, v->stride },
		{ CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, rank, v->pad },
		{ CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, rank, v->pad },
	}, 7);
}

/* The graph of one operation. */
static cudnnStatus_t graph(const struct cuda_conv *c, const struct view *v, enum op_pass pass,
			   cudnnBackendDescriptor_t *out)
{
	cudnnBackendDescriptor_t x = NULL, weights = NULL, y = NULL, conv = NULL, op = NULL;
	float alpha = 1, beta = pass == OP_BACKWARD_DATA && c->adds_dx;
	cudnnStatus_t status = tensor(c, UID_X, v->rank, v->n, v->cin, v->in, &x);

	*out = NULL;
	if (status == CUDNN_STATUS_SUCCESS)
		status = tensor(c, UID_WEIGHTS, v->rank, v->cout, v->cin, v->kernel, &weights);
	if (status == CUDNN_STATUS_SUCCESS)
		status = tensor(c, UID_Y, v->rank, v->n, v->cout, v->out, &y);
	if (status == CUDNN_STATUS_SUCCESS)
		status = convolution(v, &conv);
	if (status == CUDNN_STATUS_SUCCESS)
		status = cuda_dnn_make(&op, passes[pass].operation, (const struct cuda_dnn_attr[]){
			{ passes[pass].conv, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &conv },
			{ passes[pass].x, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x },
			{ passes[pass].weights, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &weights },
			{ passes[pass].y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y },
			{ passes[pass].alpha, CUDNN_TYPE_FLOAT, 1, &alpha },
			{ passes[pass].beta, CUDNN_TYPE_FLOAT, 1, &beta },
		}, 6);
	if (status == CUDNN_STATUS_SUCCESS)
		status = cuda_dnn_make(out, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, (const struct cuda_dnn_attr[]){
			{ CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &op },
			{ CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, c->dnn->handle != NULL, &c->dnn->handle },
		}, 2);
	cuda_dnn_drop(&op);
	cuda_dnn_drop(&conv);
	cuda_dnn_drop(&y);
	cuda_dnn_drop(&weights);
	cuda_dnn_drop(&x);
	return status;
}

/* ---- candidates ---- */

static cudnnStatus_t get(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
			 void *value)
{
	int64_t count = 0;
	cudnnStatus_t status = cudnnBackendGetAttribute(d, name, type, 1, &count, value);

	return status == CUDNN_STATUS_SUCCESS && count != 1 ? CUDNN_STATUS_INTERNAL_ERROR : status;
}

static bool append(char *text, size_t bytes, const char *format, long long a, long long b)
{
	size_t used = strlen(text);
	int n = snprintf(text + used, bytes - used, format, a, b);

	return n >= 0 && (size_t)n < bytes - used;
}

/* "62 2=3,13=1"; "62 -" without knobs. */
static bool knobs_text(cudnnBackendDescriptor_t config, char *text, size_t bytes)
{
	cudnnBackendDescriptor_t knobs[KNOBS] = { NULL };
	cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
	int64_t count = 0;
	bool fits = true;

	for (size_t i = 0; i < KNOBS && status == CUDNN_STATUS_SUCCESS; i++)
		status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knobs[i]);
	if (status == CUDNN_STATUS_SUCCESS)
		status = cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, KNOBS,
						  &count, knobs);
	for (int64_t i = 0; i < count && status == CUDNN_STATUS_SUCCESS; i++) {
		cudnnBackendKnobType_t type;
		int64_t value;

		status = get(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, &type);
		if (status == CUDNN_STATUS_SUCCESS)
			status = get(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, &value);
		if (status == CUDNN_STATUS_SUCCESS)
			fits = append(text, bytes, i ? ",%lld=%lld" : " %lld=%lld", type, value) && fits;
	}
	for (size_t i = 0; i < KNOBS; i++)
		cuda_dnn_drop(&knobs[i]);
	return status == CUDNN_STATUS_SUCCESS && fits && (count || append(text, bytes, " -", 0, 0));
}

/* What the results would not be: reproducible, in full precision, or, asked for float, float. */
static bool engine_is_welcome(cudnnBackendDescriptor_t engine, enum cuda_math math)
{
	cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
	int64_t count = 0;

	if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, ARRAY_LEN(notes), &count,
				     notes) != CUDNN_STATUS_SUCCESS)
		return false;
	for (int64_t i = 0; i < count; i++)
		switch (notes[i]) {
		case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
		case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
			return false;
		case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
		case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
			if (math == CUDA_MATH_F32)
				return false;
			break;
		default:
			break;
		}
	return true;
}

/* Its view, engine and text, from a configuration; false: not wanted. */
static bool candidate_name(const struct cuda_conv *c, size_t view, cudnnBackendDescriptor_t config, struct candidate *out)
{
	cudnnBackendDescriptor_t engine;
	bool good;

	*out = (struct candidate){ .view = view };
	if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS)
		return false;
	good = get(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, &engine) == CUDNN_STATUS_SUCCESS &&
	       get(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, &out->engine) == CUDNN_STATUS_SUCCESS &&
	       engine_is_welcome(engine, c->dnn->math) &&
	       append(out->text, sizeof(out->text), "%lld-D %lld", (long long)c->views[view].rank + 2, out->engine) &&
	       knobs_text(config, out->text, sizeof(out->text));
	cuda_dnn_drop(&engine);
	return good;
}

static bool wanted(const struct pass *p, size_t first_of_view, const struct candidate *next)
{
	bool engine_is_new = true;

	for (size_t i = first_of_view; i < p->count; i++) {
		if (!strcmp(p->at[i].text, next->text))
			return false;
		engine_is_new = engine_is_new && p->at[i].engine != next->engine;
	}
	return p->count - first_of_view < FIRST || engine_is_new;
}

/* Those of one view that one heuristic knows, behind what is there. */
static void search_view(struct cuda_conv *c, enum op_pass pass, size_t view, cudnnBackendHeurMode_t mode)
{
	struct pass *p = &c->pass[pass];
	cudnnBackendDescriptor_t g, configs[CONFIGS];
	size_t count = CONFIGS, first = p->count;

	if (graph(c, &c->views[view], pass, &g) != CUDNN_STATUS_SUCCESS)
		return;
	if (cuda_dnn_configs(c->dnn, g, mode, configs, &count) != CUDNN_STATUS_SUCCESS)
		count = 0;
	for (size_t i = 0; i < count; i++) {
		struct candidate *next = &p->at[p->count];

		if (p->count - first < PER_VIEW && candidate_name(c, view, configs[i], next) && wanted(p, first, next) &&
		    cuda_dnn_plan(c->dnn, configs[i], &next->plan, &next->workspace_bytes) == CUDNN_STATUS_SUCCESS) {
			if (next->workspace_bytes <= WORKSPACE_MAX)
				p->count++;
			else
				cuda_dnn_drop(&next->plan);
		}
		cuda_dnn_drop(&configs[i]);
	}
	cuda_dnn_drop(&g);
}

/* The candidates of a pass: of the heuristics' first mode that lists any, in every view. */
static void search(struct cuda_conv *c, enum op_pass pass)
{
	static const cudnnBackendHeurMode_t modes[] = { CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK };

	for (size_t m = 0; m < ARRAY_LEN(modes) && !c->pass[pass].count; m++)
		for (size_t v = 0; v < c->view_count; v++)
			search_view(c, pass, v, modes[m]);
}

/* ---- choices as text ---- */

enum { KEY_BYTES = 512 };

static void key_of(const struct cuda_conv *c, char text[KEY_BYTES])
{
	const struct cuda_conv_shape *s = &c->shape;
	const struct { const char *name; const size_t *at; } triples[] = {
		{ "in", s->in }, { "out", s->out }, { "kernel", s->kernel }, { "stride", s->stride }, { "pad", s->pad },
		{ "dilation", s->dilation },
	};
	char version[32];
	int used;

	cuda_dnn_version(version, sizeof(version));
	used = snprintf(text, KEY_BYTES, "%s, %s, %s, n %zu, channels %zu to %zu", version, c->dnn->chip,
			math_names[c->dnn->math], s->n, s->cin, s->cout);
	for (size_t i = 0; i < ARRAY_LEN(triples); i++)
		used += snprintf(text + used, KEY_BYTES - (size_t)used, ", %s %zux%zux%zu", triples[i].name, triples[i].at[0],
				 triples[i].at[1], triples[i].at[2]);
	snprintf(text + used, KEY_BYTES - (size_t)used, ", passes %x%s", c->passes, c->adds_dx ? ", adds" : "");
}

/* What stands behind a key; NULL: nothing. */
static const char *choice_of(const struct cuda_dnn *dnn, const char *key)
{
	const size_t length = strlen(key);

	for (const char *line = dnn->choices; line && *line; line = strchr(line, '\n') + 1)
		if (!strncmp(line, key, length) && line[length] == '\t')
			return line + length + 1;
	return NULL;
}

const char *cuda_conv_choices(const struct cuda_dnn *dnn)
{
	return dnn->choices ? dnn->choices : "";
}

int cuda_conv_learn(struct cuda_dnn *dnn, const char *choices)
{
	const size_t had = dnn->choices ? strlen(dnn->choices) : 0, length = strlen(choices);
	const bool ends = !length || choices[length - 1] == '\n';
	char *all = realloc(dnn->choices, had + length + 2);

	if (!all)
		return err(NO_MEMORY, "no memory for the choices of convolutions");
	dnn->choices = all;
	snprintf(all + had, length + 2, "%s%s", choices, ends ? "" : "\n");
	return OK;
}

static int remember(struct cuda_conv *c)
{
	char line[KEY_BYTES + OP_PASSES * (sizeof(c->pass[0].at[0].text) + 2)];
	size_t used;

	key_of(c, line);
	used = strlen(line);
	for (size_t p = 0; p < OP_PASSES; p++)
		if (c->pass[p].count)
			used += (size_t)snprintf(line + used, sizeof(line) - used, "%s%s", strchr(line, '\t') ? "; " : "\t",
						 c->pass[p].at[0].text);
	snprintf(line + used, sizeof(line) - used, "\n");
	return cuda_conv_learn(c->dnn, line);
}

/* An engine of this number with these knobs: "2=3,13=1" or "-". */
static cudnnStatus_t config_of(const struct cuda_conv *c, cudnnBackendDescriptor_t g, int64_t number, const char *knobs,
			       cudnnBackendDescriptor_t *config)
{
	const struct cuda_dnn *dnn = c->dnn;
	cudnnBackendDescriptor_t engine, chosen[KNOBS] = { NULL };
	int64_t count = 0;
	cudnnStatus_t status = cuda_dnn_make(&engine, CUDNN_BACKEND_ENGINE_DESCRIPTOR, (const struct cuda_dnn_attr[]){
		{ CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &g },
		{ CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &number },
		{ CUDNN_ATTR_ENGINE_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, dnn->described != NULL, &dnn->described },
	}, 3);
	int used = 0, type;
	long long wide;

	*config = NULL;
	for (; status == CUDNN_STATUS_SUCCESS && count < KNOBS && sscanf(knobs, "%d=%lld%n", &type, &wide, &used) == 2; count++) {
		const cudnnBackendKnobType_t knob = (cudnnBackendKnobType_t)type;
		const int64_t value = wide;

		status = cuda_dnn_make(&chosen[count], CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, (const struct cuda_dnn_attr[]){
			{ CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &knob },
			{ CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value },
		}, 2);
		knobs += used + (knobs[used] == ',');
	}
	if (status == CUDNN_STATUS_SUCCESS)
		status = cuda_dnn_make(config, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, (const struct cuda_dnn_attr[]){
			{ CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine },
			{ CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, chosen },
		}, 2);
	for (int64_t i = 0; i < KNOBS; i++)
		cuda_dnn_drop(&chosen[i]);
	cuda_dnn_drop(&engine);
	return status;
}

/* The one candidate of a pass that a text names, "5-D 62 2=3,13=1"; false: not to be had. */
static bool take(struct cuda_conv *c, enum op_pass pass, const char *text, size_t length)
{
	struct pass *p = &c->pass[pass];
	struct candidate *next = &p->at[0];
	cudnnBackendDescriptor_t g, config = NULL;
	long long rank, engine;
	int knobs = 0;

	*next = (struct candidate){ .view = 0 };
	if (length >= sizeof(next->text))
		return false;
	memcpy(next->text, text, length);
	if (sscanf(next->text, "%lld-D %lld %n", &rank, &engine, &knobs) != 2 || !knobs)
		return false;
	next->engine = engine;
	while (next->view < c->view_count && (long long)c->views[next->view].rank + 2 != rank)
		next->view++;
	if (next->view == c->view_count || graph(c, &c->views[next->view], pass, &g) != CUDNN_STATUS_SUCCESS)
		return false;
	if (config_of(c, g, engine, next->text + knobs, &config) == CUDNN_STATUS_SUCCESS &&
	    cuda_dnn_plan(c->dnn, config, &next->plan, &next->workspace_bytes) == CUDNN_STATUS_SUCCESS)
		p->count = p->found = 1;
	cuda_dnn_drop(&config);
	cuda_dnn_drop(&g);
	return p->count;
}

static void passes_close(struct cuda_conv *c)
{
	for (size_t p = 0; p < OP_PASSES; p++) {
		for (size_t i = 0; i < c->pass[p].count; i++)
			cuda_dnn_drop(&c->pass[p].at[i].plan);
		cuda_dnn_drop(&c->pass[p].pack);
		c->pass[p] = (struct pass){ .count = 0 };
	}
}

/* All passes as a line says, instead of what there is. */
static bool take_all(struct cuda_conv *c, const char *choice)
{
	passes_close(c);
	for (size_t p = 0; p < OP_PASSES; p++)
		if (c->passes & 1u << p) {
			size_t length = strcspn(choice, ";\n");

			if (!take(c, (enum op_pass)p, choice, length))
				return false;
			choice += length;
			choice += strspn(choice, "; ");
		}
	return true;
}

/* ---- one convolution ---- */

static int search_all(struct cuda_conv *c)
{
	char key[KEY_BYTES], words[512];

	for (size_t p = 0; p < OP_PASSES; p++) {
		if (!(c->passes & 1u << p))
			continue;
		search(c, (enum op_pass)p);
		c->pass[p].found = c->pass[p].count;
		if (c->pass[p].count)
			continue;
		key_of(c, key);
		return err(UNSUPPORTED, "no engine for the %s pass of a convolution: %s: %s", passes[p].name, key, cuda_dnn_last(words, sizeof(words)));
	}
	return OK;
}

int cuda_conv_open(struct cuda_conv **out, struct cuda_dnn *dnn, const struct cuda_conv_shape *shape, unsigned which,
		   bool adds_dx)
{
	struct cuda_conv *c = calloc(1, sizeof(*c));
	char key[KEY_BYTES];
	const char *known;
	int rc;

	*out = NULL;
	if (!c)
		return err(NO_MEMORY, "no memory for a convolution");
	c->dnn = dnn;
	c->shape = *shape;
	c->passes = which;
	c->adds_dx = adds_dx;
	c->views[0] = plain_view(shape);
	c->view_count = 1 + folded_view(&c->views[0], &c->views[1]);
	key_of(c, key);
	known = choice_of(dnn, key);
	if (known && take_all(c, known)) {
		*out = c;
		return OK;
	}
	if (known)
		warn("the choice for a convolution does not work any more, and is searched again: %s", key);
	passes_close(c);
	rc = search_all(c);
	if (rc)
		cuda_conv_close(c);
	else
		*out = c;
	return rc;
}

void cuda_conv_close(struct cuda_conv *c)
{
	if (!c)
		return;
	passes_close(c);
	free(c);
}

static size_t weight_values(const struct cuda_conv_shape *s)
{
	return s->cout * s->kernel[0] * s->kernel[1] * s->kernel[2] * s->cin;
}

/* The gradient of the weights in elements, as cuDNN leaves it, lies before what the engines get of the workspace. */
static size_t gradient_bytes(const struct cuda_conv *c)
{
	const size_t bytes = weight_values(&c->shape) * cuda_element_bytes(element(c));

	return (bytes + PIECE - 1) / PIECE * PIECE;
}

static void *rest_of(const struct cuda_conv *c, void *workspace)
{
	return (char *)workspace + gradient_bytes(c);
}

size_t cuda_conv_workspace_bytes(const struct cuda_conv *c)
{
	size_t most = 0;

	for (size_t p = 0; p < OP_PASSES; p++)
		for (size_t i = 0; i < c->pass[p].count; i++) {
			const size_t bytes = c->pass[p].at[i].workspace_bytes + (p == OP_BACKWARD_WEIGHTS ? gradient_bytes(c) : 0);

			most = bytes > most ? bytes : most;
		}
	return most;
}

/* ---- execution ---- */

static const int64_t uids[] = { UID_X, UID_WEIGHTS, UID_Y };

/* Addresses seldom change: those of a step never. */
static cudnnStatus_t bind(struct pass *p, void *x, void *weights, void *y, void *workspace)
{
	void *const now[] = { x, weights, y, workspace };

	if (p->pack && !memcmp(now, p->bound, sizeof(now)))
		return CUDNN_STATUS_SUCCESS;
	cuda_dnn_drop(&p->pack);
	memcpy(p->bound, now, sizeof(now));
	return cuda_dnn_make(&p->pack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, (const struct cuda_dnn_attr[]){
		{ CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, uids },
		{ CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, now },
		{ CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace },
	}, 3);
}

static int run(struct cuda_conv *c, enum op_pass pass, const void *x, const void *weights, const void *y, void *workspace)
{
	struct pass *p = &c->pass[pass];
	int rc;

	if (!c->dnn->handle)
		return err(UNSUPPORTED, "a described chip executes nothing");
	rc = TRY_DNN(bind(p, (void *)x, (void *)weights, (void *)y, workspace));
	return rc ? rc : TRY_DNN(cudnnBackendExecute(c->dnn->handle, p->at[0].plan, p->pack));
}

int cuda_conv_forward(struct cuda_conv *c, const void *x, const void *weights, void *y, void *workspace)
{
	return run(c, OP_FORWARD, x, weights, y, workspace);
}

int cuda_conv_backward_data(struct cuda_conv *c, const void *dy, const void *weights, void *dx, void *workspace)
{
	return run(c, OP_BACKWARD_DATA, dx, weights, dy, workspace);
}

int cuda_conv_backward_weights(struct cuda_conv *c, const void *x, const void *dy, size_t narrow, float *dweights,
			       void *workspace)
{
	const struct cuda_conv_shape *s = &c->shape;
	const bool direct = element(c) == CUDA_F32 && narrow == s->cin && (uintptr_t)dweights % ALIGNMENT == 0;
	int rc = run(c, OP_BACKWARD_WEIGHTS, x, direct ? dweights : workspace, dy, rest_of(c, workspace));

	return rc || direct ? rc : cuda_narrow(workspace, element(c), s->cout * s->kernel[0] * s->kernel[1] * s->kernel[2],
					       s->cin, narrow, dweights, c->dnn->stream);
}

/* ---- tuning ---- */

static int by_value(const void *a, const void *b)
{
	const float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

/* The median of several runs. */
static int time_of(const struct cuda_conv *c, const struct pass *p, const struct candidate *a, const struct cuda_stopwatch *watch,
		   float *ms)
{
	float times[TIMED_RUNS] = { 0 };
	int rc = OK;

	for (size_t i = 0; i < TIMED_RUNS && !rc; i++) {
		rc = cuda_stopwatch_start(watch, c->dnn->stream);
		if (!rc)
			rc = TRY_DNN(cudnnBackendExecute(c->dnn->handle, a->plan, p->pack));
		if (!rc)
			rc = cuda_stopwatch_stop(watch, c->dnn->stream, &times[i]);
	}
	qsort(times, TIMED_RUNS, sizeof(*times), by_value);
	*ms = times[TIMED_RUNS / 2];
	return rc;
}

/* One pass of a convolution while its candidates are tried. */
struct tuning {
	struct cuda_conv *conv;
	enum op_pass pass;
	void *x, *weights, *y, *workspace;	/* of the convolution */
	void *result;				/* one of them */
	struct cuda_stopwatch watch;
};

static const enum cuda_sampled sampled_of[OP_PASSES] = {
	[OP_FORWARD] = CUDA_SAMPLE_Y, [OP_BACKWARD_DATA] = CUDA_SAMPLE_DX, [OP_BACKWARD_WEIGHTS] = CUDA_SAMPLE_DW,
};

/* By which the sums of an engine may be off, of all that was sampled: elements are rounded once, and TF32 cuts what it reads.  An
 * engine that is wrong is off by 1. */
static const double tolerances[] = { [CUDA_MATH_F32] = 1e-3, [CUDA_MATH_TF32] = 2e-2, [CUDA_MATH_BF16] = 2e-2 };

static size_t place_values(size_t n, const size_t dims[3], size_t channels)
{
	return n * dims[0] * dims[1] * dims[2] * channels;
}

static int noise(const struct cuda_conv *c, void *at, size_t values)
{
	return cuda_noise(at, values, element(c), c->dnn->stream);
}

/* Noise wherever the pass reads, and where it adds, so that each candidate begins with the same. */
static int make_noise(const struct tuning *t)
{
	const struct cuda_conv *c = t->conv;
	const struct cuda_conv_shape *s = &c->shape;
	int rc = noise(c, t->x, place_values(s->n, s->in, s->cin));

	if (!rc)
		rc = noise(c, t->weights, weight_values(s));
	return rc ? rc : noise(c, t->y, place_values(s->n, s->out, s->cout));
}

static int expect(const struct tuning *t)
{
	const struct cuda_conv *c = t->conv;
	int rc = make_noise(t);

	return rc ? rc : cuda_sample(&c->shape, sampled_of[t->pass], element(c), t->x, t->weights, t->y, t->result,
				     c->adds_dx && t->pass == OP_BACKWARD_DATA, c->dnn->samples, c->dnn->stream);
}

/* Runs a candidate once; *right: its results are what they should be. */
static int try(const struct tuning *t, const struct candidate *a, bool *right)
{
	const struct cuda_conv *c = t->conv;
	float off[2] = { 0 }, *off_there = c->dnn->samples + CUDA_SAMPLES;
	char key[KEY_BYTES];
	int rc = make_noise(t);

	*right = false;
	if (rc || cudnnBackendExecute(c->dnn->handle, a->plan, c->pass[t->pass].pack) != CUDNN_STATUS_SUCCESS)
		return rc;
	rc = cuda_sample_compare(&c->shape, sampled_of[t->pass], element(c), t->result, c->dnn->samples, off_there, c->dnn->stream);
	if (!rc)
		rc = TRY_CUDA(cudaMemcpyAsync(off, off_there, sizeof(off), cudaMemcpyDeviceToHost, c->dnn->stream));
	if (!rc)
		rc = TRY_CUDA(cudaStreamSynchronize(c->dnn->stream));
	*right = sqrt((double)off[0]) <= tolerances[c->dnn->math] * sqrt((double)off[1]);
	if (!rc && !*right) {
		key_of(c, key);
		warn("engine %lld (%zu-D) is off by %.2g, and is left out: the %s pass of a convolution: %s", (long long)a->engine,
		     c->views[a->view].rank + 2, sqrt((double)(off[0] / off[1])), passes[t->pass].name, key);
	}
	return rc;
}

/* The fastest of those that run at all and rightly, behind a run that is not counted. */
static int find_fastest(const struct tuning *t, size_t *best)
{
	const struct pass *p = &t->conv->pass[t->pass];
	char key[KEY_BYTES];
	float least = 0;
	bool any = false;
	int rc = expect(t);

	for (size_t i = 0; i < p->count && !rc; i++) {
		bool right;
		float ms = 0;

		rc = try(t, &p->at[i], &right);
		if (rc || !right)
			continue;
		if (p->count > 1)
			rc = time_of(t->conv, p, &p->at[i], &t->watch, &ms);
		if (!any || ms < least) {
			*best = i;
			least = ms;
		}
		any = true;
	}
	if (rc || any)
		return rc;
	key_of(t->conv, key);
	return err(UNSUPPORTED, "no engine computes the %s pass of a convolution rightly: %s", passes[t->pass].name, key);
}

static void keep(struct pass *p, size_t best)
{
	const struct candidate kept = p->at[best];

	p->at[best].plan = NULL;
	for (size_t i = 0; i < p->count; i++)
		cuda_dnn_drop(&p->at[i].plan);
	p->at[0] = kept;
	p->count = 1;
}

static int tune_pass(struct tuning *t)
{
	struct pass *p = &t->conv->pass[t->pass];
	const bool gradient = t->pass == OP_BACKWARD_WEIGHTS;
	size_t best = 0;
	int rc = TRY_DNN(bind(p, t->x, gradient ? t->workspace : t->weights, t->y, gradient ? rest_of(t->conv, t->workspace) : t->workspace));

	t->result = t->pass == OP_FORWARD ? t->y : gradient ? t->workspace : t->x;
	if (!rc)
		rc = find_fastest(t, &best);
	keep(p, best);
	return rc;
}

static int tune_all(struct cuda_conv *c, void *x, void *weights, void *y, void *workspace)
{
	struct tuning t = { .conv = c, .x = x, .weights = weights, .y = y, .workspace = workspace };
	int rc = cuda_stopwatch_open(&t.watch);

	for (int p = 0; p < OP_PASSES && !rc; p++) {
		t.pass = (enum op_pass)p;
		if (c->pass[p].count)
			rc = tune_pass(&t);
	}
	cuda_stopwatch_close(&t.watch);
	return rc ? rc : TRY_CUDA(cudaMemsetAsync(weights, 0, weight_values(&c->shape) * cuda_element_bytes(element(c)), c->dnn->stream));
}

int cuda_conv_tune(struct cuda_conv *c, void *x, void *weights, void *y, void *workspace)
{
	char key[KEY_BYTES];
	const char *known;
	int rc = OK;

	key_of(c, key);
	known = choice_of(c->dnn, key);		/* by another that was opened before the choice was made */
	if (known)
		return take_all(c, known) ? OK : err(FAILED, "what was chosen for an equal convolution fails here: %s", key);
	if (c->dnn->handle)
		rc = tune_all(c, x, weights, y, workspace);
	for (size_t p = 0; p < OP_PASSES; p++)
		if (c->pass[p].count)
			keep(&c->pass[p], 0);
	return rc ? rc : remember(c);
}

int cuda_conv_describe(const struct cuda_conv *c, enum op_pass pass, char *text, size_t bytes, size_t *candidates)
{
	const struct candidate *a = &c->pass[pass].at[0];

	*candidates = c->pass[pass].found;
	if (!c->pass[pass].count)
		return snprintf(text, bytes, "-") < 0 ? FAILED : OK;
	snprintf(text, bytes, "engine %lld %zu-D, %.1f MB", (long long)a->engine, c->views[a->view].rank + 2,
		 (double)a->workspace_bytes * 1e-6);
	return OK;
}
