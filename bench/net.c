/*
 * bench/net.c - the command `sfscale net`: what the network is, layer by layer.
 *
 * Four tables, from the rows that everything else executes: parameters, layers (fused
 * operators in the order of forward), stages with the total, and the buckets in which the
 * gradients would travel.  Work and sizes are those of one clip in fp32; behind the ROI head
 * of one box.
 */
#include "bench/base/err.h"
#include "bench/commands.h"
#include "bench/plan.h"
#include "kernels/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct net_values {
	const char *net, *table, *layout;
	uint64_t frames, crop, first_bucket_bytes, bucket_bytes;
	bool csv, json;
};

enum { TABLE_PARAMETERS, TABLE_LAYERS, TABLE_STAGES, TABLE_BUCKETS, TABLE_COUNT };
#define TABLE_NAMES "parameters|layers|stages|buckets"

#define AT(field) offsetof(struct net_values, field)
static const struct opt net_opts[] = {
	{ "net", OPT_NAME, AT(net), "r50", "preset", NET_PRESET_NAMES },
	{ "frames", OPT_U64, AT(frames), "0", "fast frames per clip, a multiple of 4 from 8; 0: the preset's", NULL },
	{ "crop", OPT_U64, AT(crop), "0", "height and width, a multiple of 16 from 64; 0: the preset's", NULL },
	{ "buckets", OPT_NAME, AT(layout), "rebuilt", "their layout", BUCKET_LAYOUTS },
	{ "first-bucket-bytes", OPT_BYTES, AT(first_bucket_bytes), "1M", "limit of the first bucket; not for size", NULL },
	{ "bucket-bytes", OPT_BYTES, AT(bucket_bytes), "25M", "limit of the other buckets", NULL },
	{ "table", OPT_NAME, AT(table), "all", "what to print", "all|" TABLE_NAMES },
	{ "csv", OPT_BOOL, AT(csv), "off", "the tables as CSV", NULL },
	{ "json", OPT_BOOL, AT(json), "off", "the tables as JSON, with the meaning of their fields", NULL },
};
#undef AT

static const struct field parameter_fields[] = {
	{ "index", "1", "place in PySlowFast's registration order", 0 },
	{ "name", "", "as in PySlowFast's state_dict", 0 },
	{ "shape", "", "Cout x Cin x T x H x W; channels; out x in", 0 },
	{ "count", "1", "values", 0 },
	{ "group", "", "conv, bn or fc", 0 },
	{ "weight_decay", "", "on: the optimiser's weight decay applies", 0 },
	{ "ready", "1", "place in the order in which backward finishes gradients", 0 },
	{ "bucket-bytes", "1", "bucket in which the gradient travels, in the order of reduction", 0 },
};

static const struct field layer_fields[] = {
	{ "index", "1", "place in the order of forward", 0 },
	{ "stage", "", "stage of the network", 0 },
	{ "name", "", "module in PySlowFast", 0 },
	{ "kind", "", "conv; bn; bn+relu; bn+add+relu; maxpool; roi: pool over time, ROIAlign, max; fc", 0 },
	{ "kernel", "", "T x H x W", 0 },
	{ "stride", "", "T x H x W", 0 },
	{ "padding", "", "T x H x W", 0 },
	{ "dilation", "", "T x H x W", 0 },
	{ "in", "", "C x T x H x W of a clip (roi: of the slow pathway; fc: of a box)", 0 },
	{ "out", "", "C x T x H x W of a clip (roi, fc: of a box)", 0 },
	{ "parameters", "1", "trainable values", 0 },
	{ "macs", "1", "multiply-adds of forward, one clip (fc: one box)", 0 },
	{ "out_bytes", "B", "4 * values of out", 0 },
	{ "bucket-bytes", "1", "bucket of the operator's last gradient", 0 },
};

static const struct field stage_fields[] = {
	{ "stage", "", "stage of the network; total: all of them", 0 },
	{ "tensors", "1", "parameters, as tensors", 0 },
	{ "parameters", "1", "trainable values", 0 },
	{ "gradient_bytes", "B", "4 * parameters", 0 },
	{ "state_bytes", "B", "running mean and variance (fp32) and counter (int64) of batch norms", 0 },
	{ "convolutions", "1", "convolutions", 0 },
	{ "macs", "1", "multiply-adds of the convolutions, forward, one clip", 0 },
	{ "out_bytes", "B", "outputs of all operators, one clip, without those of the head", 0 },
};

static const struct field bucket_fields[] = {
	{ "bucket-bytes", "1", "place in the order of reduction", 0 },
	{ "tensors", "1", "gradients in the bucket", 0 },
	{ "bytes", "B", "their size", 0 },
	{ "first_tensor", "", "first gradient in the flat buffer", 0 },
	{ "last_tensor", "", "last gradient in the flat buffer", 0 },
	{ "ready", "1", "complete when the gradient with this place in backward's order exists", 0 },
	{ "backward_macs", "1", "multiply-adds of backward's convolutions until then, one clip", 0 },
	{ "backward_percent", "%", "100 * backward_macs / those of the last bucket", 1 },
};

enum { SHAPE_CHARS = 96 };

/* "8x2x32x32" */
static void put_shape(struct table *t, const size_t *v, size_t n)
{
	char text[SHAPE_CHARS];
	size_t used = 0;

	for (size_t i = 0; i < n; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%zu", i ? "x" : "", v[i]);
	table_text(t, text);
}

static void put_tensor(struct table *t, const struct net_tensor *x)
{
	put_shape(t, (const size_t[]){ x->c, x->t, x->h, x->w }, 4);
}

static uint64_t tensor_bytes(const struct net_tensor *x)
{
	return (uint64_t)x->c * x->t * x->h * x->w * sizeof(float);
}

static size_t bucket_of(const struct bucket_plan *plan, size_t param)
{
	size_t b = 0;

	while (plan->grad_offset[param] >= plan->buckets[b].offset + plan->buckets[b].count)
		b++;
	return b;
}

static void parameters_fill(struct table *t, const struct net *net, const struct bucket_plan *plan)
{
	static const char *const groups[] = { [PARAM_CONV] = "conv", [PARAM_BN] = "bn", [PARAM_FC] = "fc" };

	for (size_t i = 0; i < net->param_count; i++) {
		const struct net_param *p = &net->params[i];

		table_int(t, (int64_t)i);
		table_text(t, p->name);
		put_shape(t, p->dims, p->rank);
		table_int(t, (int64_t)p->count);
		table_text(t, groups[p->group]);
		table_text(t, p->decays ? "on" : "off");
		table_int(t, (int64_t)p->ready);
		table_int(t, (int64_t)bucket_of(plan, i));
	}
}

static const char *kind_of(const struct net_op *op)
{
	static const char *const kinds[] = { [OP_CONV] = "conv", [OP_MAXPOOL] = "maxpool", [OP_ROI_HEAD] = "roi",
					     [OP_FC] = "fc" };

	if (op->kind != OP_BN)
		return kinds[op->kind];
	return op->in2 >= 0 ? "bn+add+relu" : op->relu ? "bn+relu" : "bn";
}

/* The parameters of an operator, none to two. */
static size_t params_of(const struct net_op *op, size_t params[2])
{
	size_t n = 0;

	if (op->weight >= 0)
		params[n++] = (size_t)op->weight;
	if (op->bias >= 0)
		params[n++] = (size_t)op->bias;
	return n;
}

static void layers_fill(struct table *t, const struct net *net, const struct bucket_plan *plan)
{
	for (size_t i = 0; i < net->op_count; i++) {
		const struct net_op *op = &net->ops[i];
		const size_t *const windows[] = { op->kernel, op->stride, op->pad, op->dilation };
		size_t params[2], count = params_of(op, params), values = 0, bucket = 0;

		table_int(t, (int64_t)i);
		table_text(t, op->stage);
		table_text(t, op->name);
		table_text(t, kind_of(op));
		for (size_t w = 0; w < ARRAY_LEN(windows); w++) {
			if (op->kind == OP_CONV || op->kind == OP_MAXPOOL)
				put_shape(t, windows[w], 3);
			else
				table_none(t);
		}
		put_tensor(t, &net->tensors[op->in]);
		put_tensor(t, &net->tensors[op->out]);
		for (size_t p = 0; p < count; p++) {
			size_t b = bucket_of(plan, params[p]);

			values += net->params[params[p]].count;
			bucket = b > bucket ? b : bucket;
		}
		table_int(t, (int64_t)values);
		table_int(t, (int64_t)op->macs);
		table_int(t, (int64_t)tensor_bytes(&net->tensors[op->out]));
		if (count)
			table_int(t, (int64_t)bucket);
		else
			table_none(t);
	}
}

struct sums {
	size_t tensors, parameters, state_bytes, convolutions;
	uint64_t macs, out_bytes;
};

static void sums_add(struct sums *s, const struct net *net, const struct net_op *op)
{
	size_t params[2], count = params_of(op, params);

	for (size_t p = 0; p < count; p++) {
		s->tensors++;
		s->parameters += net->params[params[p]].count;
	}
	if (op->buffer >= 0)
		s->state_bytes += 2 * net->buffers[op->buffer].channels * sizeof(float) + sizeof(int64_t);
	if (op->kind == OP_CONV) {
		s->convolutions++;
		s->macs += op->macs;
	}
	if (op->kind != OP_ROI_HEAD && op->kind != OP_FC)
		s->out_bytes += tensor_bytes(&net->tensors[op->out]);
}

static void put_sums(struct table *t, const char *stage, const struct sums *s)
{
	table_text(t, stage);
	table_int(t, (int64_t)s->tensors);
	table_int(t, (int64_t)s->parameters);
	table_int(t, (int64_t)(s->parameters * sizeof(float)));
	table_int(t, (int64_t)s->state_bytes);
	table_int(t, (int64_t)s->convolutions);
	table_int(t, (int64_t)s->macs);
	table_int(t, (int64_t)s->out_bytes);
}

static void stages_fill(struct table *t, const struct net *net)
{
	struct sums stage = { 0 }, total = { 0 };

	for (size_t i = 0; i < net->op_count; i++) {
		const struct net_op *op = &net->ops[i];

		sums_add(&stage, net, op);
		sums_add(&total, net, op);
		if (i + 1 == net->op_count || strcmp(op->stage, op[1].stage)) {
			put_sums(t, op->stage, &stage);
			stage = (struct sums){ 0 };
		}
	}
	put_sums(t, "total", &total);
}

static void buckets_fill(struct table *t, const struct net *net, const struct bucket_plan *plan)
{
	uint64_t all = net_backward_macs(net, net->param_count - 1);

	for (size_t b = 0; b < plan->bucket_count; b++) {
		const struct bucket *k = &plan->buckets[b];
		uint64_t macs = net_backward_macs(net, k->ready);
		const char *first = "", *last = "";

		for (size_t i = 0; i < net->param_count; i++) {
			if (plan->grad_offset[i] == k->offset)
				first = net->params[i].name;
			if (plan->grad_offset[i] + net->params[i].count == k->offset + k->count)
				last = net->params[i].name;
		}
		table_int(t, (int64_t)b);
		table_int(t, (int64_t)k->tensors);
		table_int(t, (int64_t)(k->count * sizeof(float)));
		table_text(t, first);
		table_text(t, last);
		table_int(t, (int64_t)k->ready);
		table_int(t, (int64_t)macs);
		table_real(t, 100 * (double)macs / (double)all);
	}
}

static void print_chosen(const struct table tables[TABLE_COUNT], const struct net_values *v)
{
	const struct table *chosen[TABLE_COUNT];
	size_t count = 0;

	for (size_t i = 0; i < TABLE_COUNT; i++)
		if (!strcmp(v->table, "all") || !strcmp(v->table, tables[i].name))
			chosen[count++] = &tables[i];
	tables_print(chosen, count, v->json ? TABLE_JSON : v->csv ? TABLE_CSV : TABLE_TEXT);
}

static void net_print(const struct net *net, const struct bucket_plan *plan, const struct net_values *v)
{
	struct table tables[TABLE_COUNT];
	char title[160];

	snprintf(title, sizeof(title), "%s: width %zu, %zu fast and %zu slow frames of %zu x %zu", net->preset->name,
		 net->preset->width, net->frames, net->slow_frames, net->crop, net->crop);
	table_init(&tables[TABLE_PARAMETERS], "parameters", title, parameter_fields, ARRAY_LEN(parameter_fields));
	table_init(&tables[TABLE_LAYERS], "layers", title, layer_fields, ARRAY_LEN(layer_fields));
	table_init(&tables[TABLE_STAGES], "stages", title, stage_fields, ARRAY_LEN(stage_fields));
	table_init(&tables[TABLE_BUCKETS], "buckets", title, bucket_fields, ARRAY_LEN(bucket_fields));
	parameters_fill(&tables[TABLE_PARAMETERS], net, plan);
	layers_fill(&tables[TABLE_LAYERS], net, plan);
	stages_fill(&tables[TABLE_STAGES], net);
	buckets_fill(&tables[TABLE_BUCKETS], net, plan);
	print_chosen(tables, v);
	for (size_t i = 0; i < TABLE_COUNT; i++)
		table_release(&tables[i]);
}

static int net_command(int argc, char **argv)
{
	const char **operands = calloc((size_t)argc + 1, sizeof(*operands));
	size_t operand_count;
	struct net_values v;
	struct net net = { 0 };
	struct bucket_plan plan = { 0 };
	int rc = operands ? opt_parse(&command_net, &v, argc, argv, operands, &operand_count)
			  : err(NO_MEMORY, "no memory for the command line");

	free(operands);
	if (!rc && v.csv && v.json)
		rc = err(USAGE, "--csv and --json: one of them");
	if (!rc && (!v.first_bucket_bytes || !v.bucket_bytes))
		rc = err(USAGE, "--%s: wants 1 or more bytes", v.bucket_bytes ? "first-bucket" : "bucket");
	if (!rc)
		rc = net_init(&net, net_preset_find(v.net), v.frames, v.crop);
	if (!rc)
		rc = plan_buckets(&plan, &net, v.layout, v.first_bucket_bytes, v.bucket_bytes);
	if (!rc)
		net_print(&net, &plan, &v);
	bucket_plan_release(&plan);
	net_release(&net);
	return rc;
}

const struct command command_net = {
	"net", "", "every layer of the network: shapes, parameters, multiply-adds, bytes, buckets", net_opts,
	ARRAY_LEN(net_opts), net_command, sizeof(struct net_values)
};
