/*
 * bench/verify.c - the command `sfscale verify`: a few steps from a given state on a given batch.
 *
 * Everything that goes in and comes out is a file of named tensors, so that any program can be the other side: PyTorch
 * makes a state and a batch, takes the same steps, and writes what it found under the same names.
 *
 * Not here: what is equal (bench/against.c).
 */
#include "bench/against.h"
#include "bench/base/file.h"
#include "bench/base/err.h"
#include "bench/commands.h"
#include "bench/place.h"
#include "kernels/weights.h"

#include <build.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct verify_options {
	const char *net, *state, *batch, *out, *against, *kernels, *precision;
	uint64_t crop, frames, steps, threads, seed, worst;
	double lr, momentum, weight_decay, dropout;
	bool nesterov, partial, csv, json;
};

#define AT(field) offsetof(struct verify_options, field)
static const struct opt verify_opts[] = {
	{ "net", OPT_NAME, AT(net), "r50", "preset of the network", NET_PRESET_NAMES },
	{ "crop", OPT_U64, AT(crop), "0", "height and width of the input; 0: the preset's", NULL },
	{ "frames", OPT_U64, AT(frames), "0", "frames of the fast pathway; 0: the preset's", NULL },
	{ "state", OPT_NAME, AT(state), NULL, "weights and running statistics by PySlowFast's names (safetensors); momentum where there is", NULL },
	{ "partial", OPT_BOOL, AT(partial), "off", "what the state lacks is drawn by the rules of initialisation", NULL },
	{ "seed", OPT_U64, AT(seed), "0", "of what is drawn", NULL },
	{ "batch", OPT_NAME, AT(batch), NULL, "'slow' (N,3,T/4,H,W), 'fast' (N,3,T,H,W), 'boxes' (R,5), 'labels' (R,80)", NULL },
	{ "steps", OPT_U64, AT(steps), "1", "steps, all on this batch", NULL },
	{ "lr", OPT_F64, AT(lr), "0.1", "learning rate", NULL },
	{ "momentum", OPT_F64, AT(momentum), "0.9", "of SGD", NULL },
	{ "nesterov", OPT_BOOL, AT(nesterov), "on", "Nesterov's form of it", NULL },
	{ "weight-decay", OPT_F64, AT(weight_decay), "1e-7", "of all but batch norm", NULL },
	{ "dropout", OPT_F64, AT(dropout), "0", "in front of the classifier; not 0: nobody else draws the same", NULL },
	{ "kernels", OPT_NAME, AT(kernels), "cpu", "who computes", "cpu|cuda" },
	{ "precision", OPT_NAME, AT(precision), "auto", "in which convolutions compute; auto: fp32 on a CPU, bf16 with CUDA", KERNEL_PRECISIONS },
	{ "threads", OPT_U64, AT(threads), "0", "compute threads; 0: all", NULL },
	{ "out", OPT_NAME, AT(out), NULL, "file to write: 'loss' (K), 'preds' (K,R,80), and after the last step 'grad.NAME', 'momentum.NAME', "
	  "weights and buffers", NULL },
	{ "against", OPT_NAME, AT(against), NULL, "reference with the same names; exit 3 when a tensor is over its tolerance, which is wider for tf32 and bf16", NULL },
	{ "worst", OPT_U64, AT(worst), "10", "tensors to list", NULL },
	{ "csv", OPT_BOOL, AT(csv), "off", "the tables as CSV", NULL },
	{ "json", OPT_BOOL, AT(json), "off", "the tables as JSON, with the meaning of their fields", NULL },
};
#undef AT

enum { STEPS_MAX = 1000000 };

/* All that is owned; zero is nothing. */
struct verify {
	struct verify_options o;
	struct net net;
	struct safetensors state, batch;
	float *slow, *fast, *rois, *labels;
	struct step_input in;
	struct kernels *k;
	float *losses, *preds;		/* (K), (K,R,80) */
};

static int check_options(const struct verify_options *o)
{
	const struct { const char *name, *value; } read[] = { { "state", o->state }, { "batch", o->batch }, { "against", o->against } };

	const struct { const char *name, *value; } needed[] = { { "state", o->state }, { "batch", o->batch }, { "out", o->out } };

	for (size_t i = 0; i < ARRAY_LEN(needed); i++)
		if (!needed[i].value)
			return err(USAGE, "verify: --%s FILE is needed", needed[i].name);
	for (size_t i = 0; i < ARRAY_LEN(read); i++)
		if (read[i].value && file_same(o->out, read[i].value))
			return err(USAGE, "verify: --out would overwrite what --%s names", read[i].name);
	if (!o->steps || o->steps > STEPS_MAX)
		return err(USAGE, "verify: --steps is 1 to %d", STEPS_MAX);
	if (o->threads > 1024)
		return err(USAGE, "verify: --threads is 0 to 1024");
	if (!(o->dropout >= 0 && o->dropout <= 0.99))
		return err(USAGE, "verify: --dropout is 0 to 0.99");
	if (o->csv && o->json)
		return err(USAGE, "verify: --csv and --json: one of them");
	return OK;
}

/* ---- the batch ---- */

/* The values of a tensor of this shape; its first dimension is free when 0, and then told. */
static int read_input(const struct safetensors *f, const char *name, size_t rank, size_t *dims, float **values)
{
	const struct safetensor *t = safetensors_find(f, name);
	struct safetensor wanted = { .rank = (uint8_t)rank, .type = SAFETENSORS_F32 };
	char is[SAFETENSOR_TEXT_BYTES], should[SAFETENSOR_TEXT_BYTES];

	if (!t)
		return err(FAILED, "'%s' has no tensor '%s'", f->path, name);
	for (size_t i = 0; i < rank; i++)
		wanted.dims[i] = (uint32_t)dims[i];
	if (!dims[0])
		wanted.dims[0] = t->dims[0];
	if (t->type != wanted.type || t->rank != rank || memcmp(t->dims, wanted.dims, sizeof(t->dims)) || !t->dims[0])
		return err(FAILED, "'%s': tensor '%s' is %s, not %s", f->path, name, safetensor_text(t, is),
			   safetensor_text(&wanted, should));
	dims[0] = t->dims[0];
	*values = malloc(safetensor_bytes(t));
	return *values ? safetensors_read(f, t, *values) : err(NO_MEMORY, "no memory for '%s'", name);
}

/* Samples of a box grow with its area: one that reaches beyond a neighbouring crop is a mistake. */
static int check_boxes(const struct verify *v)
{
	const float crop = (float)v->net.crop;

	for (size_t i = 0; i < v->in.boxes; i++)
		for (size_t c = 1; c < 5; c++)
			if (!(v->rois[i * 5 + c] >= -crop && v->rois[i * 5 + c] <= 2 * crop))
				return err(FAILED, "'%s': box %zu has a corner at %g, and the crop is 0 to %zu", v->o.batch, i,
					   v->rois[i * 5 + c], v->net.crop);
	return OK;
}

static int open_batch(struct verify *v)
{
	const struct net *n = &v->net;
	size_t slow[] = { 0, 3, n->slow_frames, n->crop, n->crop }, fast[] = { 0, 3, n->frames, n->crop, n->crop };
	size_t boxes[] = { 0, 5 }, labels[] = { 0, NET_CLASSES };
	int rc = safetensors_open(&v->batch, v->o.batch);

	if (!rc)
		rc = read_input(&v->batch, "slow", 5, slow, &v->slow);
	fast[0] = slow[0];
	if (!rc)
		rc = read_input(&v->batch, "fast", 5, fast, &v->fast);
	if (!rc)
		rc = read_input(&v->batch, "boxes", 2, boxes, &v->rois);
	labels[0] = boxes[0];
	if (!rc)
		rc = read_input(&v->batch, "labels", 2, labels, &v->labels);
	v->in = (struct step_input){ .clips = slow[0], .boxes = boxes[0], .slow = v->slow, .fast = v->fast, .rois = v->rois,
				     .labels = v->labels };
	return rc ? rc : check_boxes(v);
}

/* ---- the steps ---- */

static int open_kernels(struct verify *v)
{
	const struct kernel_backend *backend;
	struct place place;
	int rc = kernel_backend_choose(v->o.kernels, &backend);

	if (!rc)
		rc = place_find(&place, 1, 1, 1, NULL);
	if (!rc)
		rc = backend->open(&v->k, &(struct kernel_config){
			.net = &v->net, .clips_max = v->in.clips, .boxes_max = v->in.boxes, .seed = v->o.seed,
			.threads = v->o.threads ? (unsigned)v->o.threads : place_threads(&place, 1), .dropout_seed = v->o.seed,
			.dropout = v->o.dropout, .graph = true, .precision = kernel_precision(v->o.precision) });
	return rc;
}

static int load_state(struct verify *v)
{
	int rc = safetensors_open(&v->state, v->o.state);
	unsigned parts = rc ? 0 : weights_parts(&v->net, &v->state) & WEIGHTS_MOMENTUM;

	return rc ? rc : weights_load(v->k, WEIGHTS_MODEL | parts, &v->state, v->o.partial, NULL);
}

static int take_steps(struct verify *v)
{
	const struct kernel_backend *b = v->k->backend;
	const struct sgd sgd = { v->o.lr, v->o.momentum, v->o.weight_decay, v->o.nesterov };
	const size_t preds = v->in.boxes * NET_CLASSES;
	int rc = OK;

	v->losses = calloc(v->o.steps, sizeof(*v->losses));
	v->preds = calloc(v->o.steps, preds * sizeof(*v->preds));
	if (!v->losses || !v->preds)
		return err(NO_MEMORY, "no memory for the predictions of %" PRIu64 " steps", v->o.steps);
	for (size_t i = 0; !rc && i < v->o.steps; i++) {
		rc = b->input(v->k, &v->in);
		if (!rc)
			rc = b->forward(v->k);
		if (!rc)
			rc = b->loss(v->k);
		if (!rc)
			rc = kernels_answer(v->k);
		if (!rc) {
			v->losses[i] = *v->k->loss;
			memcpy(v->preds + i * preds, v->k->preds, preds * sizeof(*v->preds));
		}
		if (!rc)
			rc = b->backward(v->k, v->net.param_count - 1);
		if (!rc)
			rc = b->update(v->k, &sgd);
	}
	return rc;
}

static int write_out(struct verify *v)
{
	const unsigned parts = WEIGHTS_MODEL | WEIGHTS_MOMENTUM | WEIGHTS_GRADS;
	const struct safetensors_text texts[] = { { "program", "sfscale verify " BUILD_VERSION }, { "net", v->o.net },
						  { "kernels", v->o.kernels }, { "precision", v->k->precision } };
	struct safetensors_writer w = { 0 };
	int rc = weights_add(&w, &v->net, parts);

	if (!rc)
		rc = safetensors_add(&w, "loss", SAFETENSORS_F32, 1, (const size_t[]){ v->o.steps });
	if (!rc)
		rc = safetensors_add(&w, "preds", SAFETENSORS_F32, 3, (const size_t[]){ v->o.steps, v->in.boxes, NET_CLASSES });
	if (!rc)
		rc = safetensors_begin(&w, v->o.out, texts, ARRAY_LEN(texts));
	if (!rc)
		rc = weights_put(&w, v->k, parts);
	if (!rc)
		rc = safetensors_put(&w, v->losses);
	if (!rc)
		rc = safetensors_put(&w, v->preds);
	return safetensors_end(&w, rc);
}

/* ---- the comparison ---- */

static int compare(const struct verify_options *o, const char *precision)
{
	struct safetensors got = { 0 }, want = { 0 };
	struct table classes = { 0 }, worst = { 0 };
	const struct table *tables[] = { &classes, &worst };
	int rc = safetensors_open(&got, o->out);

	if (!rc)
		rc = safetensors_open(&want, o->against);
	if (!rc)
		rc = against(&got, &want, against_times(precision), o->worst, &classes, &worst);
	if (!rc || rc == BELOW)
		tables_print(tables, ARRAY_LEN(tables), o->json ? TABLE_JSON : o->csv ? TABLE_CSV : TABLE_TEXT);
	table_release(&classes);
	table_release(&worst);
	safetensors_close(&got);
	safetensors_close(&want);
	return rc;
}

static void release(struct verify *v)
{
	if (v->k)
		v->k->backend->close(v->k);
	safetensors_close(&v->state);
	safetensors_close(&v->batch);
	net_release(&v->net);
	free(v->slow);
	free(v->fast);
	free(v->rois);
	free(v->labels);
	free(v->losses);
	free(v->preds);
}

static int verify_main(int argc, char **argv)
{
	const char **operands = calloc((size_t)argc + 1, sizeof(*operands));
	size_t operand_count;
	struct verify v = { 0 };
	const char *precision;
	int rc = operands ? opt_parse(&command_verify, &v.o, argc, argv, operands, &operand_count)
			  : err(NO_MEMORY, "no memory for the command line");

	free(operands);
	if (!rc)
		rc = check_options(&v.o);
	if (!rc)
		rc = net_init(&v.net, net_preset_find(v.o.net), v.o.frames, v.o.crop);
	if (!rc)
		rc = open_batch(&v);
	if (!rc)
		rc = open_kernels(&v);
	if (!rc)
		rc = load_state(&v);
	if (!rc)
		rc = take_steps(&v);
	if (!rc)
		rc = write_out(&v);
	precision = v.k ? v.k->precision : NULL;	/* static */
	release(&v);
	return !rc && v.o.against ? compare(&v.o, precision) : rc;
}

const struct command command_verify = {
	"verify", "", "a few steps from a given state on a given batch, against a reference file", verify_opts,
	ARRAY_LEN(verify_opts), verify_main, sizeof(struct verify_options)
};
