/*
 * report/windows.c - see windows.h.
 *
 * The record is cut into windows at the marks of the training lane, accounted for by
 * decompose() over the events of all lanes, and added up.  The boundary is accounted for by
 * the same sweep with other classes: the spans in boundary_spans[] instead of event classes,
 * so its parts sum to its length as well.
 */
#include "report/windows.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "report/decompose.h"

#include <stdlib.h>
#include <string.h>

/* A part of the boundary is a row here and in enum boundary_part; the earlier one wins where
 * two overlap.  The only LOAD inside a boundary is that of the first iteration. */
static const struct {
	enum span_id span;
	enum boundary_part part;
} boundary_spans[] = {
	{ SPAN_WORKERS_STOP, PART_STOP },
	{ SPAN_WORKERS_START, PART_START },
	{ SPAN_SAMPLER, PART_SAMPLER },
	{ SPAN_LOAD, PART_FIRST_BATCH },
};

enum { LANE_TRAINING = 0 };	/* bench/base/folder.h */

/* The row of windows of one rank: window i lies between cuts i and i + 1. */
struct marks {
	int64_t *cuts;
	enum window_kind *kinds;
	size_t windows;
	bool ascend, ended;
};

static int index_of(const char *name, const char *(*name_at)(int), int count)
{
	int i = 0;

	while (i < count && strcmp(name, name_at(i)))
		i++;
	return i;
}

static const char *span_name(int i) { return span_rows[i].name; }
static const char *class_name(int i) { return class_names[i]; }

/* The record says what its numbers mean; events get this program's numbers.  A span that is
 * unknown here is of no interest, a class that is unknown is other time. */
static void events_translate(struct record *rec)
{
	enum { KNOWN_MAX = 256 };
	uint32_t names[KNOWN_MAX], classes[KNOWN_MAX];
	const cJSON *name_list = cJSON_GetObjectItemCaseSensitive(rec->head, "names");
	const cJSON *class_list = cJSON_GetObjectItemCaseSensitive(rec->head, "classes");
	const cJSON *item;
	size_t name_count = 0, class_count = 0;

	cJSON_ArrayForEach(item, name_list)
		if (name_count < KNOWN_MAX)
			names[name_count++] = (uint32_t)index_of(cJSON_IsString(item) ? item->valuestring : "",
								 span_name, SPAN_COUNT);
	cJSON_ArrayForEach(item, class_list)
		if (class_count < KNOWN_MAX)
			classes[class_count++] = (uint32_t)index_of(cJSON_IsString(item) ? item->valuestring : "",
								    class_name, CLS_COUNT);
	for (size_t i = 0; i < rec->event_count; i++) {
		struct event *e = &rec->events[i];

		e->name = e->name < name_count ? names[e->name] : SPAN_COUNT;
		if (e->cls == CLS_ASIDE)
			continue;
		e->cls = e->cls < class_count && classes[e->cls] < CLS_COUNT ? (uint8_t)classes[e->cls] : CLS_OTHER;
	}
}

static int marks_make(struct marks *m, const struct record *rec)
{
	size_t n = 0;

	*m = (struct marks){ .ascend = true };
	m->cuts = malloc((rec->event_count + 1) * sizeof(*m->cuts));
	m->kinds = malloc((rec->event_count + 1) * sizeof(*m->kinds));
	if (!m->cuts || !m->kinds)
		return err(NO_MEMORY, "no memory for the windows of %zu events", rec->event_count);
	for (size_t i = 0; i < rec->event_count && !m->ended; i++) {
		const struct event *e = &rec->events[i];
		bool epoch = e->name == SPAN_EPOCH_BEGIN, load = e->name == SPAN_LOAD;

		if (e->lane != LANE_TRAINING)
			continue;
		m->ended = e->name == SPAN_RUN_END;
		if (!epoch && !load && !m->ended)
			continue;
		m->kinds[n] = epoch ? WINDOW_BOUNDARY
			    : n && m->kinds[n - 1] == WINDOW_BOUNDARY ? WINDOW_FIRST : WINDOW_STEADY;
		m->cuts[n] = e->t0;
		m->ascend &= !n || m->cuts[n - 1] <= e->t0;
		n++;
	}
	m->windows = n ? n - 1 : 0;	/* the last mark ends a window; one still open has no length */
	return OK;
}

static void marks_release(struct marks *m)
{
	free(m->cuts);
	free(m->kinds);
}

static void sum_add(struct window_sum *sum, const struct account *a)
{
	sum->windows++;
	sum->wall_ns += account_ns(a);
	for (int c = 0; c < CLS_COUNT; c++)
		sum->parts_ns[c] += a->parts_ns[c];
	sum->comm_ns += a->comm_ns;
	sum->comm_hidden_ns += a->comm_hidden_ns;
}

static int sums_add(struct runs *all, struct run *r, size_t rank, const struct record *rec, const struct marks *m)
{
	struct account *accounts = calloc(m->windows + 1, sizeof(*accounts));
	int rc;

	if (!accounts)
		return err(NO_MEMORY, "no memory for %zu windows", m->windows);
	rc = decompose(rec->events, rec->event_count, m->cuts, m->windows, accounts);
	for (size_t w = 0; w < m->windows && !rc; w++) {
		int64_t ns = account_ns(&accounts[w]);

		all->windows_checked++;
		all->windows_unequal += parts_sum_ns(accounts[w].parts_ns) != ns;
		sum_add(&r->sums[m->kinds[w]], &accounts[w]);
		sum_add(&r->rank_sums[rank], &accounts[w]);
		if (w < r->windows && ns > r->slowest_ns[w])
			r->slowest_ns[w] = ns;
	}
	if (!rc && m->windows && m->cuts[m->windows] - m->cuts[0] > r->wall_ns)
		r->wall_ns = m->cuts[m->windows] - m->cuts[0];
	free(accounts);
	return rc;
}

/* The stretches between optimiser steps that an epoch's begin lies in: cuts 2i and 2i + 1 are
 * the ends of stretch i.  Returns their number. */
static size_t stretch_cuts(const struct event *own, size_t count, int64_t *cuts)
{
	int64_t at = 0;		/* the end of the last optimiser step; never runs backwards */
	bool stepped = false, open = false;
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		if (own[i].name == SPAN_EPOCH_BEGIN && !open) {
			if (!stepped)
				at = own[i].t0;
			cuts[2 * n] = at;
			open = true;
		} else if (own[i].name == SPAN_OPT) {
			at = own[i].t1 > at ? own[i].t1 : at;
			stepped = true;
			if (open)
				cuts[2 * n++ + 1] = at;
			open = false;
		}
	}
	return n;
}

static uint8_t boundary_class(const struct event *e)
{
	for (size_t i = 0; i < ARRAY_LEN(boundary_spans); i++)
		if (e->name == boundary_spans[i].span)
			return (uint8_t)boundary_spans[i].part;
	return CLS_ASIDE;
}

static void stretch_take(struct stretch *s, const struct account *a)
{
	if (account_ns(a) <= s->length_ns)
		return;
	s->length_ns = account_ns(a);
	for (int p = 0; p < PART_REST; p++)
		s->parts_ns[p] = a->parts_ns[p];
	s->parts_ns[PART_REST] = a->parts_ns[CLS_UNATTRIBUTED];
}

static int stretches_add(struct run *r, const struct record *rec)
{
	struct event *own = malloc((rec->event_count + 1) * sizeof(*own));
	int64_t *cuts = malloc((2 * rec->event_count + 2) * sizeof(*cuts));
	struct account *accounts = NULL;
	struct stretch *more;
	size_t count = 0, n = 0;
	int rc = OK;

	for (size_t i = 0; own && i < rec->event_count; i++)
		if (rec->events[i].lane == LANE_TRAINING)
			own[count++] = rec->events[i];
	if (own && cuts)
		n = stretch_cuts(own, count, cuts);
	for (size_t i = 0; own && i < count; i++)
		own[i].cls = boundary_class(&own[i]);
	accounts = calloc(2 * n + 1, sizeof(*accounts));
	if (n > r->stretch_count) {
		more = realloc(r->stretches, n * sizeof(*more));
		if (more) {
			memset(more + r->stretch_count, 0, (n - r->stretch_count) * sizeof(*more));
			r->stretches = more;
			r->stretch_count = n;
		} else {
			rc = NO_MEMORY;
		}
	}
	if (rc || !own || !cuts || !accounts)
		rc = err(NO_MEMORY, "no memory for the epoch boundaries of '%s'", r->folder);
	else if (n)
		rc = decompose(own, count, cuts, 2 * n - 1, accounts);
	for (size_t i = 0; i < n && !rc; i++)
		stretch_take(&r->stretches[i], &accounts[2 * i]);
	free(own);
	free(cuts);
	free(accounts);
	return rc;
}

/* The first rank says what windows there are; a later one must agree. */
static int windows_agree(struct run *r, const struct marks *m, const char *path)
{
	size_t common = m->windows < r->windows ? m->windows : r->windows;

	if (!r->ranks_read++) {
		r->kinds = malloc((m->windows + 1) * sizeof(*r->kinds));
		r->slowest_ns = calloc(m->windows + 1, sizeof(*r->slowest_ns));
		r->rank_sums = calloc(r->ranks, sizeof(*r->rank_sums));
		if (!r->kinds || !r->slowest_ns || !r->rank_sums)
			return err(NO_MEMORY, "no memory for %zu windows", m->windows);
		memcpy(r->kinds, m->kinds, m->windows * sizeof(*r->kinds));
		r->windows = m->windows;
		return OK;
	}
	if (m->windows != r->windows || memcmp(m->kinds, r->kinds, common * sizeof(*r->kinds)))
		run_spoil(r, "damaged", "%s: has %zu windows, the ranks before it have %zu, or others", path,
			  m->windows, r->windows);
	r->windows = common;
	return OK;
}

int windows_add(struct runs *all, struct run *r, size_t rank, struct record *rec, const char *path)
{
	struct marks m = { 0 };
	int rc;

	if (json_number(rec->head, "rank", -1) != (double)rank ||
	    json_number(rec->head, "world", -1) != (double)r->ranks) {
		run_spoil(r, "damaged", "%s: is rank %g of %g, not %zu of %zu: a record of another run", path,
		      json_number(rec->head, "rank", -1), json_number(rec->head, "world", -1), rank, r->ranks);
		return OK;
	}
	events_translate(rec);
	rc = marks_make(&m, rec);
	if (rc || !m.ascend) {
		if (!rc)
			run_spoil(r, "damaged", "%s: its windows run backwards", path);
		marks_release(&m);
		return rc;
	}
	if (!rec->tail)
		run_spoil(r, "cut off", "%s: ends without its last block, %zu bytes behind the last whole one", path,
		      rec->bad_bytes);
	else if (!m.ended)
		run_spoil(r, "damaged", "%s: no end of the run in it", path);
	rc = windows_agree(r, &m, path);
	if (!rc)
		rc = sums_add(all, r, rank, rec, &m);
	if (!rc)
		rc = stretches_add(r, rec);
	r->dropped += (uint64_t)json_number(rec->tail, "dropped", 0);
	r->events += rec->event_count;
	marks_release(&m);
	return rc;
}
