/*
 * report/waits.c - see waits.h.
 */
#include "report/waits.h"

#include "bench/base/err.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define PERSISTENT_CHANCE 0.01	/* over all ranks of a run */

const char *const late_verdicts[LATE_VERDICTS] = {
	[LATE_BY_CHANCE] = "chance",
	[LATE_AT_STARTS] = "at epoch starts",
	[LATE_PERSISTENTLY] = "persistent",
};

static double binomial(size_t n, size_t k, double p)
{
	return exp(lgamma((double)n + 1) - lgamma((double)k + 1) - lgamma((double)(n - k) + 1) + (double)k * log(p) +
		   (double)(n - k) * log1p(-p));
}

/* Away from the mean, in whose direction terms only grow: each from the one before, until none counts. */
double binomial_tail(size_t n, size_t k, double p)
{
	double odds = p / (1 - p), sum = 0, term;

	if (!k || p >= 1)
		return 1;
	if ((double)k > (double)n * p) {
		term = k <= n ? binomial(n, k, p) : 0;
		for (size_t i = k; term > 1e-17 * sum; i++) {
			sum += term;
			term *= (double)(n - i) / (double)(i + 1) * odds;
		}
		return sum;
	}
	term = binomial(n, k - 1, p);
	for (size_t i = k - 1; term > 1e-17 * sum; i--) {
		sum += term;
		term *= (double)i / (double)(n - i + 1) / odds;
	}
	return 1 - sum;
}

/* ---- collectives ----------------------------------------------------------------------- */

static void call_add(struct waits *w, const struct match *m, const struct collective *c, bool first)
{
	struct call_sum *sum = &w->calls[c->name];
	struct lateness *late;

	sum->calls++;
	sum->splits[c->split]++;
	sum->bytes += (int64_t)c->bytes;
	for (size_t r = 0; r < m->ranks; r++) {
		struct stay s = match_stay(m, c, r);
		int64_t stay = s.end_ns - s.begin_ns, wait;

		if (stay < 0)
			continue;
		sum->stay_ns += stay;
		if (!match_is_split(c)) {
			sum->unsplit_ns += stay;
			continue;
		}
		wait = match_wait_ns(m, c, r);
		sum->wait_ns += wait;
		sum->wire_ns += stay - wait;
		late = &w->late[match_awaited(m, c, r)];
		late->all_ns += wait;
		late->first_ns += first ? wait : 0;
	}
	if (match_is_split(c) && c->bound_ns > sum->bound_ns)
		sum->bound_ns = c->bound_ns;
}

static int late_summaries(struct waits *w, const struct match *m)
{
	double *ns = malloc((m->count + 1) * sizeof(*ns));

	if (!ns)
		return err(NO_MEMORY, "no memory for %zu collectives", m->count);
	for (int name = 0; name < SPAN_COUNT; name++) {
		size_t n = 0;

		for (size_t i = 0; i < m->count && w->calls[name].calls; i++)
			if (m->list[i].name == (uint32_t)name && m->list[i].split == SPLIT_CLOCKED)
				ns[n++] = (double)m->list[i].late_ns;
		w->calls[name].late_ns = summarize(ns, n);
	}
	free(ns);
	return OK;
}

/* ---- who is late ----------------------------------------------------------------------- */

void lateness_judge(struct lateness *l, size_t judged, size_t judged_first, size_t ranks)
{
	double each = 1.0 / (double)ranks, alarm = PERSISTENT_CHANCE * each / 2;

	l->chance = binomial_tail(judged, l->times, each);
	l->chance_first = binomial_tail(judged_first, l->times_first, each);
	l->verdict = l->chance < alarm ? LATE_PERSISTENTLY : l->chance_first < alarm ? LATE_AT_STARTS : LATE_BY_CHANCE;
}

static int late_ranks(struct waits *w, const struct match *m, const bool *first, size_t iterations)
{
	const struct collective **latest = calloc(iterations + 1, sizeof(*latest));

	if (!latest)
		return err(NO_MEMORY, "no memory for %zu iterations", iterations);
	for (size_t i = 0; i < m->count; i++) {
		const struct collective *c = &m->list[i];

		if (c->split == SPLIT_CLOCKED && c->iter < iterations &&
		    (!latest[c->iter] || c->late_ns > latest[c->iter]->late_ns))
			latest[c->iter] = c;
	}
	for (size_t i = 0; i < iterations; i++) {
		if (!latest[i] || m->ranks < 2)
			continue;
		w->judged++;
		w->judged_first += first[i];
		w->late[latest[i]->last].times++;
		w->late[latest[i]->last].times_first += first[i];
	}
	free(latest);
	for (size_t r = 0; r < m->ranks; r++)
		lateness_judge(&w->late[r], w->judged, w->judged_first, m->ranks);
	return OK;
}

int waits_open(struct waits *w, size_t ranks)
{
	*w = (struct waits){ .ranks = ranks, .late = calloc(ranks + 1, sizeof(*w->late)) };
	return w->late ? OK : err(NO_MEMORY, "no memory for %zu ranks", ranks);
}

int waits_judge(struct waits *w, const struct match *m, const bool *first, size_t iterations)
{
	int rc;

	w->left_out = m->left_out;
	for (size_t i = 0; i < m->count; i++)
		if (m->list[i].name < SPAN_COUNT)
			call_add(w, m, &m->list[i], m->list[i].iter < iterations && first[m->list[i].iter]);
	for (int name = 0; name < SPAN_COUNT; name++)
		assert(w->calls[name].wait_ns + w->calls[name].wire_ns + w->calls[name].unsplit_ns ==
		       w->calls[name].stay_ns);
	rc = late_summaries(w, m);
	return rc ? rc : late_ranks(w, m, first, iterations);
}

/* ---- whose waits ----------------------------------------------------------------------- */

int waits_add(struct waits *w, size_t waiter, const struct blame *b)
{
	size_t need = w->pair_count + b->origins.count;

	if (need > w->pair_room) {
		size_t room = need > 2 * w->pair_room ? need : 2 * w->pair_room;
		struct pair *more = realloc(w->pairs, room * sizeof(*more));

		if (!more)
			return err(NO_MEMORY, "no memory for %zu causes of waits", room);
		w->pairs = more;
		w->pair_room = room;
	}
	w->wait_ns += b->wait_ns;
	for (size_t i = 0; i < b->origins.count; i++) {
		const struct origin *o = &b->origins.at[i];

		w->induced_ns[o->cause] += o->ns;
		w->chained_ns += o->length > 1 ? o->ns : 0;
		w->late[o->chain[o->length - 1]].induced_ns[o->cause] += o->ns;
		w->pairs[w->pair_count++] = (struct pair){ (uint32_t)waiter, *o };
	}
	return OK;
}

static int by_ns(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	if (x->origin.ns != y->origin.ns)
		return x->origin.ns > y->origin.ns ? -1 : 1;
	return (x->waiter > y->waiter) - (x->waiter < y->waiter);
}

void waits_sort(struct waits *w)
{
	if (w->pair_count)
		qsort(w->pairs, w->pair_count, sizeof(*w->pairs), by_ns);
}

void waits_release(struct waits *w)
{
	free(w->late);
	free(w->pairs);
	*w = (struct waits){ 0 };
}
