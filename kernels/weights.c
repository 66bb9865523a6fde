/*
 * kernels/weights.c - see weights.h.
 *
 * Which tensors a part has, and what they are called, is one walk over a few rows and the net's
 * lists; saving, loading and declaring are what is done at each stop of it.
 */
#include "kernels/weights.h"

#include "bench/base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the order of a file.  Counters first: values of 8 bytes. */
static const struct family {
	const char *prefix, *suffix;
	unsigned part;
	bool counters;
	bool buffers;			/* one for each batch norm, else for each parameter */
	enum state_kind state;		/* unless counters */
} families[] = {
	{ "", ".num_batches_tracked", WEIGHTS_MODEL, true, true, 0 },
	{ "", "", WEIGHTS_MODEL, false, false, STATE_WEIGHT },
	{ "", ".running_mean", WEIGHTS_MODEL, false, true, STATE_MEAN },
	{ "", ".running_var", WEIGHTS_MODEL, false, true, STATE_VAR },
	{ "momentum.", "", WEIGHTS_MOMENTUM, false, false, STATE_MOMENTUM },
	{ "grad.", "", WEIGHTS_GRADS, false, false, STATE_GRAD },
};

/* One tensor of the state: where the walk stands. */
struct stop {
	const struct family *family;
	size_t index;		/* of parameter or batch norm */
	char name[80];
	enum safetensors_type type;
	size_t rank;
	const size_t *dims;	/* the net's */
};

/* From a zeroed stop to the first, and from each to the next; false behind the last. */
static bool walk(struct stop *s, const struct net *net, unsigned parts)
{
	const struct family *f = s->family;

	if (f && ++s->index < (f->buffers ? net->buffer_count : net->param_count))
		;
	else {
		f = f ? f + 1 : families;
		while (f < families + ARRAY_LEN(families) && !(f->part & parts))
			f++;
		if (f == families + ARRAY_LEN(families))
			return false;
		s->index = 0;
	}
	s->family = f;
	s->type = f->counters ? SAFETENSORS_I64 : SAFETENSORS_F32;
	s->rank = f->counters ? 0 : f->buffers ? 1 : net->params[s->index].rank;
	s->dims = f->buffers ? &net->buffers[s->index].channels : net->params[s->index].dims;
	snprintf(s->name, sizeof(s->name), "%s%s%s", f->prefix,
		 f->buffers ? net->buffers[s->index].name : net->params[s->index].name, f->suffix);
	return true;
}

/* Room for the values of any tensor of the net; to be freed. */
static void *room_for_any(const struct net *net)
{
	size_t most = 0;
	void *room;

	for (size_t i = 0; i < net->param_count; i++)	/* a batch norm's state is as large as its weight */
		most = net->params[i].count > most ? net->params[i].count : most;
	room = malloc(most * sizeof(float));
	if (!room)
		err(NO_MEMORY, "no memory for %zu values", most);
	return room;
}

int weights_add(struct safetensors_writer *w, const struct net *net, unsigned parts)
{
	struct stop s = { 0 };
	int rc = OK;

	while (!rc && walk(&s, net, parts))
		rc = safetensors_add(w, s.name, s.type, s.rank, s.dims);
	return rc;
}

int weights_put(struct safetensors_writer *w, struct kernels *k, unsigned parts)
{
	struct stop s = { 0 };
	float *plain = room_for_any(k->net);
	int rc = plain ? OK : NO_MEMORY;

	while (!rc && walk(&s, k->net, parts)) {
		if (!s.family->counters)
			rc = k->backend->get(k, s.family->state, s.index, plain);
		if (!rc)
			rc = safetensors_put(w, s.family->counters ? (void *)&k->bn_batches[s.index] : plain);
	}
	free(plain);
	return rc;
}

int weights_save(struct kernels *k, unsigned parts, const char *path, const struct safetensors_text *texts,
		 size_t text_count)
{
	struct safetensors_writer w = { 0 };
	int rc = weights_add(&w, k->net, parts);

	if (!rc)
		rc = safetensors_begin(&w, path, texts, text_count);
	if (!rc)
		rc = weights_put(&w, k, parts);
	return safetensors_end(&w, rc);
}

unsigned weights_parts(const struct net *net, const struct safetensors *f)
{
	struct stop s = { 0 };
	unsigned parts = 0;

	while (walk(&s, net, ~0u))
		if (safetensors_find(f, s.name))
			parts |= s.family->part;
	return parts;
}

static bool fits(const struct stop *s, const struct safetensor *t)
{
	bool same = t->type == s->type && t->rank == s->rank;

	for (size_t i = 0; same && i < s->rank; i++)
		same = t->dims[i] == s->dims[i];
	return same;
}

/* Names as many as a message holds. */
struct names {
	char text[1400];
	size_t used, more;
};

static void names_add(struct names *n, const struct stop *s, const struct safetensor *t)
{
	char one[256], shape[SAFETENSOR_TEXT_BYTES];
	int bytes = t ? snprintf(one, sizeof(one), "%s%s is %s", n->used ? ", " : "", s->name, safetensor_text(t, shape))
		      : snprintf(one, sizeof(one), "%s%s", n->used ? ", " : "", s->name);

	if (n->more || n->used + (size_t)bytes >= sizeof(n->text)) {
		n->more++;
		return;
	}
	memcpy(n->text + n->used, one, (size_t)bytes + 1);
	n->used += (size_t)bytes;
}

/* Counts what the file has of the parts, and names the rest. */
static void compare(const struct net *net, unsigned parts, const struct safetensors *f, struct weights_found *found,
		    struct names *names)
{
	struct stop s = { 0 };

	while (walk(&s, net, parts)) {
		const struct safetensor *t = safetensors_find(f, s.name);

		found->wanted++;
		if (t && fits(&s, t))
			found->taken++;
		else
			names_add(names, &s, t);
	}
}

static int take_all(struct kernels *k, unsigned parts, const struct safetensors *f)
{
	struct stop s = { 0 };
	float *plain = room_for_any(k->net);
	int rc = plain ? OK : NO_MEMORY;

	while (!rc && walk(&s, k->net, parts)) {
		const struct safetensor *t = safetensors_find(f, s.name);

		if (!t || !fits(&s, t))
			continue;
		rc = safetensors_read(f, t, s.family->counters ? (void *)&k->bn_batches[s.index] : plain);
		if (!rc && !s.family->counters)
			rc = k->backend->set(k, s.family->state, s.index, plain);
	}
	free(plain);
	return rc;
}

int weights_load(struct kernels *k, unsigned parts, const struct safetensors *f, bool partial,
		 struct weights_found *found)
{
	struct weights_found own = { 0 };
	struct names names = { 0 };
	char more[32] = "";
	int rc = OK;

	compare(k->net, parts, f, &own, &names);
	if (names.more)
		snprintf(more, sizeof(more), " and %zu more", names.more);
	if (found)
		*found = own;
	if (own.taken < own.wanted && !partial)
		rc = err(FAILED, "'%s' has %zu of the %zu tensors of net '%s'; missing, or of another shape: %s%s", f->path,
			 own.taken, own.wanted, k->net->preset->name, names.text, more);
	else if (own.taken < own.wanted)
		warn("'%s' has %zu of the %zu tensors of net '%s'; these stay as they are: %s%s", f->path, own.taken, own.wanted,
		     k->net->preset->name, names.text, more);
	return rc ? rc : take_all(k, parts, f);
}
