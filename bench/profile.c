/*
 * bench/profile.c - see profile.h.
 *
 * Each pass is timed alone: a few times in a row, so that what starts it is no part of it, and several times over, of which the
 * median counts.  What it is held against is its roofline: the longer of its multiply-adds at the rate of a large matrix
 * product and its bytes at the rate of a large copy, both measured here and now.  Bytes are the fewest: each tensor that it
 * needs read once, each that it makes written once.  A tensor that a cache still holds beats that; nothing beats it by much.
 *
 * The sum is that of the passes alone, and no step: between them a step has launches, input, loss and optimiser.
 */
#include "bench/profile.h"

#include "bench/base/err.h"
#include "bench/base/stats.h"

#include <math.h>
#include <stdlib.h>

enum { TURNS = 5 };
static const double enough_ns = 2e6;	/* of one turn */

static const struct field fields[] = {
	{ "operator", "", "module of the network", 0 },
	{ "stage", "", "of the network", 0 },
	{ "pass", "", "forward, backward (to the input) or weights (backward to them)", 0 },
	{ "runs_on", "", "implementation: the library's name for it, or own", 0 },
	{ "ms", "ms", "median", 4 },
	{ "share_percent", "%", "of the sum of all passes", 1 },
	{ "gflop", "1e9", "two for each multiply-add", 3 },
	{ "tflop_per_s", "1e12/s", "of them", 3 },
	{ "mb", "1e6 B", "fewest bytes: what it needs read once, what it makes written once", 3 },
	{ "gb_per_s", "1e9 B/s", "of them", 1 },
	{ "roofline_percent", "%", "the longer of both at the rates of the ceilings, as a share of what it took", 1 },
};
static const struct field ceiling_fields[] = {
	{ "ceiling", "", "what was measured, here and now", 0 },
	{ "rate", "", "in the unit beside it", 1 },
	{ "unit", "", "of the rate", 0 },
};
static const char *const pass_names[OP_PASSES] = { "forward", "backward", "weights" };

/* The bytes of a tensor, all clips. */
static double bytes_of(const struct kernels *k, int tensor, size_t clips)
{
	const struct net_tensor *t = &k->net->tensors[tensor];

	return (double)(clips * t->c * t->t * t->h * t->w * k->element_bytes);
}

static double bytes_moved(const struct kernels *k, const struct net_op *op, enum op_pass pass, size_t clips)
{
	const double in = bytes_of(k, op->in, clips), in2 = op->in2 < 0 ? 0 : bytes_of(k, op->in2, clips);
	const double out = op->kind == OP_ROI_HEAD || op->kind == OP_FC ? 0 : bytes_of(k, op->out, clips);
	const double weights = op->kind != OP_CONV ? 0 : (double)k->net->params[op->weight].count;

	switch (op->kind) {
	case OP_CONV:
		return in + out + weights * (double)(pass == OP_BACKWARD_WEIGHTS ? sizeof(float) : k->element_bytes);
	case OP_BN:	/* backward: x, dy and the sign of y to dx and the shortcut's */
		return pass == OP_FORWARD ? in + in2 + out : in + out * (op->relu ? 2 : 1) + in + in2;
	case OP_MAXPOOL:
		return in + out + out / (double)k->element_bytes;
	case OP_ROI_HEAD:
		return in + in2;
	case OP_FC:
		return (double)(k->net->params[op->weight].count * sizeof(float)) * (pass == OP_FORWARD ? 1 : 2);
	}
	return 0;
}

/* Of one pass, or 0 where the operator has none. */
static int time_pass(struct kernels *k, size_t op, enum op_pass pass, double *ns)
{
	double turns[TURNS];
	uint64_t once = 0;
	size_t times;
	int rc = k->backend->time_op(k, op, pass, 1, &once);	/* warms up */

	if (!rc)
		rc = k->backend->time_op(k, op, pass, 1, &once);
	*ns = 0;
	if (rc || !once)
		return rc;
	times = (double)once < enough_ns ? (size_t)(enough_ns / (double)once) + 1 : 1;
	for (size_t i = 0; i < TURNS && !rc; i++) {
		uint64_t all = 0;

		rc = k->backend->time_op(k, op, pass, times, &all);
		turns[i] = (double)all / (double)times;
	}
	*ns = rc ? 0 : quantile(turns, TURNS, 0.5);
	return rc;
}

struct ceilings {
	double flop_per_s, bytes_per_s;
};

/* What a pass took and did; the sum of several adds up field by field. */
struct work {
	double ns, flop, bytes, least_ns;	/* least: by its roofline */
};

static void row(struct table *t, const char *operator, const char *stage, const char *pass, const char *runs_on, struct work w,
		double all_ns)
{
	table_text(t, operator);
	table_text(t, stage);
	table_text(t, pass);
	table_text(t, runs_on);
	table_real(t, 1e-6 * w.ns);
	table_real(t, 100 * w.ns / all_ns);
	table_real(t, 1e-9 * w.flop);
	table_real(t, 1e-3 * w.flop / w.ns);
	table_real(t, 1e-6 * w.bytes);
	table_real(t, w.bytes / w.ns);
	table_real(t, 100 * w.least_ns / w.ns);
}

static const char *runs_on(const struct table *implementations, size_t op, enum op_pass pass)
{
	const struct cell *cell = implementations->field_count ? table_cell(implementations, op, 1 + pass) : NULL;

	return cell && cell->kind == CELL_TEXT ? cell->text : "own";
}

static void write_rows(struct kernels *k, size_t clips, const double *ns, const struct table *implementations,
		       const struct ceilings *c, struct table *t)
{
	const struct net *net = k->net;
	struct work all = { 0 };

	for (size_t i = 0; i < net->op_count * OP_PASSES; i++)
		all.ns += ns[i];
	for (size_t i = 0; i < net->op_count * OP_PASSES; i++) {
		const struct net_op *op = &net->ops[i / OP_PASSES];
		const enum op_pass pass = i % OP_PASSES;
		struct work w = { .ns = ns[i], .flop = op->kind == OP_CONV ? 2 * (double)(op->macs * clips) : 0,
				  .bytes = bytes_moved(k, op, pass, clips) };

		if (!(ns[i] > 0))
			continue;
		w.least_ns = 1e9 * fmax(w.flop / c->flop_per_s, w.bytes / c->bytes_per_s);
		row(t, op->name, op->stage, pass_names[pass], runs_on(implementations, i / OP_PASSES, pass), w, all.ns);
		all.flop += w.flop;
		all.bytes += w.bytes;
		all.least_ns += w.least_ns;
	}
	row(t, "all", "", "", "", all, all.ns);
}

static void write_ceilings(const struct ceilings *c, struct table *t)
{
	table_text(t, "a large matrix product");
	table_real(t, 1e-9 * c->flop_per_s);
	table_text(t, "GFLOP/s");
	table_text(t, "a large copy");
	table_real(t, 1e-9 * c->bytes_per_s);
	table_text(t, "GB/s, read and written");
}

int profile_ops(struct kernels *k, size_t clips, struct table *ops, struct table *ceilings)
{
	const size_t passes = k->net->op_count * OP_PASSES;
	double *ns = calloc(passes, sizeof(*ns));
	struct table implementations = { 0 };
	struct ceilings c;
	int rc = ns ? OK : err(NO_MEMORY, "no memory to profile %zu passes", passes);

	if (!rc && (!k->backend->time_op || !k->backend->ceilings))
		rc = err(UNSUPPORTED, "kernels '%s' cannot time their operators", k->backend->name);
	for (size_t i = 0; i < passes && !rc; i++)
		rc = time_pass(k, i / OP_PASSES, i % OP_PASSES, &ns[i]);
	if (!rc)
		rc = k->backend->ceilings(k, &c.flop_per_s, &c.bytes_per_s);
	if (!rc && k->backend->describe)
		rc = k->backend->describe(k, &implementations);
	table_init(ops, "ops", "What each operator takes, alone", fields, ARRAY_LEN(fields));
	table_init(ceilings, "ceilings", "What a roofline is made of", ceiling_fields, ARRAY_LEN(ceiling_fields));
	if (!rc) {
		write_rows(k, clips, ns, &implementations, &c, ops);
		write_ceilings(&c, ceilings);
	}
	table_release(&implementations);
	free(ns);
	return rc;
}
