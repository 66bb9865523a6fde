/*
 * kernels/kernels.c - the list of back ends, and what can be done with any.
 */
#include "kernels/kernels.h"

#include "bench/base/err.h"
#include "bench/base/library.h"
#include "kernels/backends.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct kernel_backend *const kernel_backends[] = {
	&kernel_cpu,
	&kernel_null,
	NULL
};

const struct kernel_backend *kernel_backend_find(const char *name)
{
	for (size_t i = 0; kernel_backends[i]; i++)
		if (!strcmp(kernel_backends[i]->name, name))
			return kernel_backends[i];
	return NULL;
}

static int cannot_run(const char *name, const char *why)
{
	return err(UNSUPPORTED, "kernels '%s' cannot run here: %s", name, why);
}

int kernel_backend_load(const char *name, const struct kernel_backend **backend)
{
	char why[LIBRARY_WHY_BYTES] = "";

	*backend = kernel_backend_find(name);
	if (!*backend)
		*backend = library_table("kernels", name, why);
	return *backend ? OK : cannot_run(name, why);
}

int kernel_backend_choose(const char *name, const struct kernel_backend **backend)
{
	char why[512] = "";
	int rc = kernel_backend_load(name, backend);

	return rc || !(*backend)->probe(why, sizeof(why)) ? rc : cannot_run(name, why);
}

const char *kernel_precision(const char *option)
{
	return strcmp(option, "auto") ? option : NULL;
}

int kernels_answer(struct kernels *k)
{
	const struct kernel_queue *queue = &k->backend->queue;

	return queue->answer ? queue->answer(k) : OK;
}

int kernels_check_input(const struct step_input *in, const struct kernel_config *c)
{
	if (!in->clips || in->clips > c->clips_max || !in->boxes || in->boxes > c->boxes_max)
		return err(FAILED, "a batch of %zu clips and %zu boxes: wants 1 to %zu and 1 to %zu", in->clips, in->boxes,
			   c->clips_max, c->boxes_max);
	assert(in->crops ? !in->slow && !in->fast : in->slow && in->fast);
	for (size_t i = 0; i < in->boxes; i++)
		if (!(in->rois[i * 5] >= 0 && in->rois[i * 5] < (float)in->clips))
			return err(FAILED, "box %zu belongs to clip %g of %zu", i, in->rois[i * 5], in->clips);
	return OK;
}

static int carry(struct kernels *from, struct kernels *to, enum state_kind kind, size_t count, float *plain)
{
	int rc = OK;

	for (size_t i = 0; i < count && !rc; i++) {
		rc = from->backend->get(from, kind, i, plain);
		if (!rc)
			rc = to->backend->set(to, kind, i, plain);
	}
	return rc;
}

int kernels_carry(struct kernels *from, struct kernels *to)
{
	const struct net *net = from->net;
	float *plain = malloc((net->values + net->buffer_values) * sizeof(*plain));	/* no tensor is larger */
	int rc = plain ? OK : err(NO_MEMORY, "no memory to carry the state of net '%s' over", net->preset->name);

	assert(net->values == to->net->values && net->buffer_count == to->net->buffer_count);
	if (!rc)
		rc = carry(from, to, STATE_WEIGHT, net->param_count, plain);
	if (!rc)
		rc = carry(from, to, STATE_MOMENTUM, net->param_count, plain);
	if (!rc)
		rc = carry(from, to, STATE_MEAN, net->buffer_count, plain);
	if (!rc)
		rc = carry(from, to, STATE_VAR, net->buffer_count, plain);
	if (!rc)
		memcpy(to->bn_batches, from->bn_batches, net->buffer_count * sizeof(*to->bn_batches));
	free(plain);
	return rc;
}
