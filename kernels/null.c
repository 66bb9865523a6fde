/*
 * kernels/null.c - a step without arithmetic.
 *
 * As it is, a step takes no time, and what is left of a run is everything but compute.  With
 * an emulation each phase takes the time that a distribution gives, so that 128 ranks on two
 * cores exercise harness, loader, comm and report as a cluster would:
 *
 *	PHASE=DISTRIBUTION[,PHASE=DISTRIBUTION...]	input forward loss backward update
 *	forward=normal:10,2,backward=lognormal:20,0.1	see bench/base/dist.h
 *
 * A phase that is not named takes no time.  Backward draws one time per step and spends it in
 * proportion to the MACs that precede each gradient, so buckets become ready as in a real
 * step.  Ranks differ: the stream of their draws is dropout_seed.
 *
 * Phases sleep and never spin, for there are more ranks than cores.  A sleep ends late, by
 * some 60 us or by whatever a full machine takes; the next sleep of the same step is shorter
 * by that.  Not of the next step, or a process that was stopped would race afterwards.
 *
 * The state (weights, gradients, momentum, running statistics) is there and can be read,
 * written and exchanged; no step changes it, but for counting batches.  Loss and predictions
 * are 0: no answer may be checked.
 */
#include "kernels/backends.h"

#include "bench/base/clock.h"
#include "bench/base/dist.h"
#include "bench/base/err.h"
#include "bench/base/hash.h"
#include "kernels/plan.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum phase { PHASE_INPUT, PHASE_FORWARD, PHASE_LOSS, PHASE_BACKWARD, PHASE_UPDATE, PHASE_COUNT };
static const char *const phase_names[] = { "input", "forward", "loss", "backward", "update" };
_Static_assert(ARRAY_LEN(phase_names) == PHASE_COUNT, "a name for each phase");

struct null {
	struct kernels base;
	float *preds, loss;
	struct kernel_places places;
	struct dist dists[PHASE_COUNT];
	struct rng rng;
	size_t part;			/* of this step */
	uint64_t late_ns;		/* slept too long in this step, not yet made up for */
	uint64_t backward_ns;		/* of this step */
	uint64_t backward_macs;		/* done in this step */
	uint64_t backward_macs_all;
};

static struct null *self(struct kernels *k)
{
	return (struct null *)k;
}

/* The phase whose "name=" `text` begins with; PHASE_COUNT: none. */
static enum phase phase_named(const char *text)
{
	enum phase p = 0;

	while (p < PHASE_COUNT && !(!strncmp(text, phase_names[p], strlen(phase_names[p])) &&
				    text[strlen(phase_names[p])] == '='))
		p++;
	return p;
}

/* Distributions contain commas themselves: only one in front of a phase's name separates. */
static size_t distribution_length(const char *text)
{
	const char *comma = text;

	while ((comma = strchr(comma, ',')) && phase_named(comma + 1) == PHASE_COUNT)
		comma++;
	return comma ? (size_t)(comma - text) : strlen(text);
}

static int emulation_read(struct null *n, const char *emulate)
{
	bool named[PHASE_COUNT] = { false };

	for (const char *at = emulate; *at;) {
		enum phase p = phase_named(at);
		size_t length;
		char *text;
		int rc;

		if (p == PHASE_COUNT || named[p])
			return err(USAGE, "emulation '%s': '%s' wants to be PHASE=DISTRIBUTION, each phase once, "
				   "phases input, forward, loss, backward, update", emulate, at);
		named[p] = true;
		at += strlen(phase_names[p]) + 1;
		length = distribution_length(at);
		text = strndup(at, length);
		rc = text ? dist_init(&n->dists[p], text) : err(NO_MEMORY, "no memory for emulation '%s'", emulate);
		free(text);
		if (rc)
			return rc;
		at += length;
		at += *at == ',';
	}
	return OK;
}

static void spend(struct null *n, uint64_t ns)
{
	uint64_t start_ns, slept_ns;

	if (ns <= n->late_ns) {
		n->late_ns -= ns;
		return;
	}
	ns -= n->late_ns;
	start_ns = clock_ns();
	clock_sleep_ns(ns);
	slept_ns = clock_ns() - start_ns;
	n->late_ns = slept_ns > ns ? slept_ns - ns : 0;
}

static void spend_phase(struct null *n, enum phase p)
{
	spend(n, dist_draw_ns(&n->dists[p], &n->rng));
}

static int null_probe(char *why, size_t why_bytes)
{
	(void)why;
	(void)why_bytes;
	return OK;
}

static void null_close(struct kernels *k)
{
	struct null *n = self(k);

	for (size_t p = 0; p < PHASE_COUNT; p++)
		dist_release(&n->dists[p]);
	free(k->grads);
	free(k->weights);
	free(k->bn_state);
	free(k->bn_batches);
	free(k->momentum);
	free(n->preds);
	kernel_places_release(&n->places);
	free(n);
}

/* Of the parameters' places: the same in ranks whose flat buffers correspond. */
static uint64_t layout_hash(const struct null *n)
{
	uint64_t hash = hash_text(HASH_START, kernel_null.name);

	for (size_t i = 0; i < n->base.net->param_count; i++)
		hash = hash_word(hash, n->places.offset[i], sizeof(n->places.offset[i]));
	return hash;
}

static void set_variances(struct null *n)
{
	for (size_t i = 0; i < n->base.net->buffer_count; i++) {
		size_t channels;
		float *var = kernel_places_at(&n->places, &n->base, STATE_VAR, i, &channels);

		for (size_t c = 0; c < channels; c++)
			var[c] = 1;
	}
}

static int null_open(struct kernels **out, const struct kernel_config *config)
{
	const struct net *net = config->net;
	struct null *n = calloc(1, sizeof(*n));
	struct kernels *k = &n->base;
	int rc = OK;

	if (!n)
		return err(NO_MEMORY, "no memory for back end '%s'", kernel_null.name);
	/* What is never written stays without memory behind it: 128 instances of r50 fit where they must. */
	*k = (struct kernels){
		.backend = &kernel_null,
		.net = net,
		.precision = "none",
		.element_bytes = sizeof(float),
		.grads = calloc(net->values, sizeof(float)),
		.weights = calloc(net->values, sizeof(float)),
		.momentum = calloc(net->values, sizeof(float)),
		.bn_state = calloc(net->buffer_values, sizeof(float)),
		.bn_batches = calloc(net->buffer_count, sizeof(int64_t)),
	};
	n->preds = calloc(config->boxes_max * NET_CLASSES + 1, sizeof(float));
	if (!k->grads || !k->weights || !k->bn_state || !k->bn_batches || !k->momentum || !n->preds)
		rc = err(NO_MEMORY, "no memory for the state of net '%s'", net->preset->name);
	else
		rc = kernel_places_init(&n->places, net, config->grad_offset);
	if (!rc && config->emulate)
		rc = emulation_read(n, config->emulate);
	if (rc) {
		null_close(k);
		return rc;
	}
	set_variances(n);
	k->preds = n->preds;
	k->loss = &n->loss;
	k->layout_hash = layout_hash(n);
	rng_init(&n->rng, config->seed, config->dropout_seed);
	n->backward_macs_all = net_backward_macs(net, net->param_count - 1);
	*out = k;
	return OK;
}

static int null_input(struct kernels *k, const struct step_input *in)
{
	struct null *n = self(k);

	n->part = in->part;
	n->late_ns = 0;
	spend_phase(n, PHASE_INPUT);
	return OK;
}

static int null_forward(struct kernels *k)
{
	for (size_t i = 0; i < k->net->buffer_count; i++)
		k->bn_batches[i] += !self(k)->part;
	spend_phase(self(k), PHASE_FORWARD);
	return OK;
}

static int null_loss(struct kernels *k)
{
	struct null *n = self(k);

	spend_phase(n, PHASE_LOSS);
	n->backward_ns = dist_draw_ns(&n->dists[PHASE_BACKWARD], &n->rng);
	n->backward_macs = 0;
	return OK;
}

static int null_backward(struct kernels *k, size_t ready)
{
	struct null *n = self(k);
	uint64_t macs = net_backward_macs(k->net, ready);

	assert(macs >= n->backward_macs);
	spend(n, (uint64_t)((double)n->backward_ns * (double)(macs - n->backward_macs) / (double)n->backward_macs_all));
	n->backward_macs = macs;
	return OK;
}

static int null_update(struct kernels *k, const struct sgd *sgd)
{
	(void)sgd;
	spend_phase(self(k), PHASE_UPDATE);
	return OK;
}

static int null_get(struct kernels *k, enum state_kind kind, size_t index, float *plain)
{
	size_t count;
	const float *from = kernel_places_at(&self(k)->places, k, kind, index, &count);

	memcpy(plain, from, count * sizeof(*plain));
	return OK;
}

static int null_set(struct kernels *k, enum state_kind kind, size_t index, const float *plain)
{
	size_t count;
	float *to = kernel_places_at(&self(k)->places, k, kind, index, &count);

	memcpy(to, plain, count * sizeof(*plain));
	return OK;
}

const struct kernel_backend kernel_null = {
	.name = "null",
	.takes_parts = true,
	.probe = null_probe,
	.open = null_open,
	.close = null_close,
	.input = null_input,
	.forward = null_forward,
	.loss = null_loss,
	.backward = null_backward,
	.update = null_update,
	.get = null_get,
	.set = null_set,
};
