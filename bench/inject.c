/*
 * bench/inject.c - see inject.h.
 *
 * A delay sleeps: a late rank does not take the cores from those that it keeps waiting, so on one
 * host the wait of the others is the delay and nothing else.
 */
#include "bench/inject.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The row of the step whose span has this name.  Not a collective: a rank that sleeps in one has arrived already. */
static int find_phase(const char *text, const char *name, enum span_id *span)
{
	for (size_t i = 0; i < step_row_count; i++) {
		const struct span_row *row = &span_rows[step_rows[i].span];

		if (row->kind == KIND_RANGE && !strcmp(row->name, name)) {
			*span = step_rows[i].span;
			return OK;
		}
	}
	return err(USAGE, "--inject: '%s': phase '%s' is none of load, h2d, fwd, loss, bwd, drain, opt, log", text, name);
}

static bool read_number(const char *text, double least, double *value)
{
	char *end;

	*value = strtod(text, &end);
	return end != text && !*end && isfinite(*value) && *value >= least;
}

/* "10:19" or "10" */
static bool read_range(char *text, uint32_t *first, uint32_t *last)
{
	char *colon = strchr(text, ':');
	double a, b;

	if (colon)
		*colon = '\0';
	if (!read_number(text, 0, &a) || !read_number(colon ? colon + 1 : text, a, &b) || b >= EVENT_NO_ITER)
		return false;
	*first = (uint32_t)a;
	*last = (uint32_t)b;
	return true;
}

/* Takes one text apart; `words` is a copy of it that is cut up. */
static int read_one(const char *text, char *words, size_t world, size_t *rank, struct injection *in)
{
	bool has_rank = false, has_phase = false, has_ms = false;
	char *save = NULL;
	double number;
	int rc = OK;

	*in = (struct injection){ .last = EVENT_NO_ITER - 1, .probability = 1 };
	for (char *w = strtok_r(words, ",", &save); w && !rc; w = strtok_r(NULL, ",", &save)) {
		char *value = strchr(w, '=');
		bool fits = value != NULL;

		if (value)
			*value++ = '\0';
		if (fits && !strcmp(w, "rank")) {
			fits = has_rank = read_number(value, 0, &number) && number < (double)world;
			*rank = fits ? (size_t)number : 0;
		} else if (fits && !strcmp(w, "phase")) {
			has_phase = true;
			rc = find_phase(text, value, &in->span);
		} else if (fits && !strcmp(w, "ms")) {
			fits = has_ms = read_number(value, 0, &number);
			in->delay_ns = fits ? (uint64_t)(number * 1e6) : 0;
		} else if (fits && !strcmp(w, "iteration")) {
			fits = read_range(value, &in->first, &in->last);
		} else if (fits && !strcmp(w, "prob")) {
			fits = read_number(value, 0, &in->probability) && in->probability <= 1;
		} else {
			fits = false;
		}
		if (!fits)
			return err(USAGE, "--inject: '%s': '%s' does not fit (rank=R, below %zu, phase=P, ms=X, iteration=A:B, prob=p)",
				   text, w, world);
	}
	if (!rc && !(has_rank && has_phase && has_ms))
		rc = err(USAGE, "--inject: '%s' wants at least rank=R,phase=P,ms=X", text);
	return rc;
}

int injections_init(struct injections *all, const struct opt_names *texts, size_t rank, size_t world, uint64_t seed)
{
	int rc = OK;

	*all = (struct injections){ .at = calloc(texts->count + 1, sizeof(*all->at)) };
	if (!all->at)
		return err(NO_MEMORY, "no memory for injections");
	for (size_t i = 0; i < texts->count && !rc; i++) {
		char *words = strdup(texts->at[i]);
		struct injection *in = &all->at[all->count];
		size_t to = 0;

		rc = words ? read_one(texts->at[i], words, world, &to, in) : err(NO_MEMORY, "no memory for injections");
		rng_init(&in->rng, seed, i);
		if (!rc && to == rank)
			all->count++;
		free(words);
	}
	return rc;
}

void injections_release(struct injections *all)
{
	free(all->at);
	*all = (struct injections){ 0 };
}

void injections_apply(struct injections *all, enum span_id span, uint32_t iteration)
{
	for (size_t i = 0; i < all->count; i++) {
		struct injection *in = &all->at[i];

		if (in->span == span && iteration >= in->first && iteration <= in->last &&
		    rng_uniform(&in->rng) < in->probability)
			clock_sleep_ns(in->delay_ns);
	}
}
