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

#include <stdlib.h>
#include <string.h>

/* A part of the boundary is a row here and in enum boundary_part; where two overlap the row that comes first wins,
 * as its rank among classes: an index is passed on while workers are started.  Of the LOADs inside a boundary only those of the
 * first iteration count.  Evaluation and checkpoints are known by their class, as they may have spans of their own inside. */
static const struct {
	enum span_id span;	/* SPAN_COUNT: any of this class */
	enum event_class cls;
	enum boundary_part part;
} boundary_spans[] = {
	{ SPAN_COUNT, CLS_BOUNDARY_EVAL, PART_EVAL },
	{ SPAN_COUNT, CLS_BOUNDARY_CKPT, PART_CKPT },
	{ SPAN_WORKERS_STOP, CLS_BOUNDARY_WORKERS, PART_STOP },
	{ SPAN_WORKERS_INDEX, CLS_BOUNDARY_WORKERS, PART_INDEX },
	{ SPAN_WORKERS_START, CLS_BOUNDARY_WORKERS, PART_START },
	{ SPAN_SAMPLER, CLS_BOUNDARY_SAMPLER, PART_SAMPLER },
	{ SPAN_LOAD, CLS_LOADER, PART_FIRST_BATCH },
};

enum { LANE_TRAINING = 0 };	/* bench/base/folder.h */

#define TIME_MAX_NS (INT64_C(1) << 60)	/* no clock shows more than 36 years: an event beyond is damage, passed over and counted */

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
size_t windows_translate(struct record *rec)
{
	enum { KNOWN_MAX = 256 };
	uint32_t names[KNOWN_MAX], classes[KNOWN_MAX];
	const cJSON *name_list = cJSON_GetObjectItemCaseSensitive(rec->head, "names");
	const cJSON *class_list = cJSON_GetObjectItemCaseSensitive(rec->head, "classes");
	const cJSON *item;
	size_t name_count = 0, class_count = 0, impossible = 0;

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

		if (e->t0 < -TIME_MAX_NS || e->t1 > TIME_MAX_NS || e->t1 < e->t0) {
			*e = (struct event){ .name = SPAN_COUNT, .kind = KIND_MARK, .cls = CLS_ASIDE };
			impossible++;
			continue;
		}
		e->name = e->name < name_count ? names[e->name] : SPAN_COUNT;
		if (e->cls == CLS_ASIDE)
			continue;
		e->cls = e->cls < class_count && classes[e->cls] < CLS_COUNT ? (uint8_t)classes[e->cls] : CLS_OTHER;
		if (e->cls == CLS_COMM_WAIT || e->cls == CLS_COMM_WIRE)
			e->cls = CLS_COMM;	/* no record can know */
	}
	return impossible;
}

static bool is_device_work(const struct event *e)
{
	return e->cls <= CLS_COPY;
}

/* Iteration k is done when the last device work that carries its number is. */
static void work_cuts_make(struct marks *m, const struct record *rec)
{
	for (size_t k = 0; k <= m->iterations; k++)
		m->work_cuts[k] = m->cuts[0];
	for (size_t i = 0; i < rec->event_count; i++) {
		const struct event *e = &rec->events[i];

		if (is_device_work(e) && e->iter < m->iterations && e->t1 > m->work_cuts[e->iter + 1])
			m->work_cuts[e->iter + 1] = e->t1;
	}
	for (size_t k = 0; k < m->iterations; k++)
		if (m->work_cuts[k + 1] < m->work_cuts[k])
			m->work_cuts[k + 1] = m->work_cuts[k];
}

static bool opens_boundary(const struct event *e)
{
	return e->name == SPAN_EPOCH_BEGIN || e->name == SPAN_CKPT || e->name == SPAN_EVAL;
}

int marks_make(struct marks *m, const struct record *rec)
{
	size_t n = 0, room = 1;
	uint32_t iter = EVENT_NO_ITER;	/* of the window that is open */

	*m = (struct marks){ .ascend = true };
	for (size_t i = 0; i < rec->event_count; i++)
		room += rec->events[i].lane == LANE_TRAINING &&
			(opens_boundary(&rec->events[i]) || rec->events[i].name == SPAN_LOAD ||
			 rec->events[i].name == SPAN_RUN_END);
	m->cuts = malloc(room * sizeof(*m->cuts));
	m->kinds = malloc(room * sizeof(*m->kinds));
	m->work_cuts = malloc((room + 1) * sizeof(*m->work_cuts));
	if (!m->cuts || !m->kinds || !m->work_cuts) {
		marks_release(m);
		return err(NO_MEMORY, "no memory for the windows of %zu events", rec->event_count);
	}
	for (size_t i = 0; i < rec->event_count && !m->ended; i++) {
		const struct event *e = &rec->events[i];
		bool epoch = opens_boundary(e), load = e->name == SPAN_LOAD;

		if (e->lane != LANE_TRAINING)
			continue;
		m->ended = e->name == SPAN_RUN_END;
		/* A process that stands for several ranks asks for a batch of each. */
		load = load && (e->iter != iter || iter == EVENT_NO_ITER);
		if (!epoch && !load && !m->ended)
			continue;
		if (epoch && n && m->kinds[n - 1] == WINDOW_BOUNDARY)
			continue;	/* one window, whatever happens between two epochs */
		iter = load ? e->iter : EVENT_NO_ITER;
		m->kinds[n] = epoch ? WINDOW_BOUNDARY
			    : n && m->kinds[n - 1] == WINDOW_BOUNDARY ? WINDOW_FIRST : WINDOW_STEADY;
		m->cuts[n] = e->t0;
		m->ascend &= !n || m->cuts[n - 1] <= e->t0;
		n++;
	}
	m->windows = n ? n - 1 : 0;	/* the last mark ends a window; one still open has no length */
	for (size_t w = 0; w < m->windows; w++)
		m->iterations += m->kinds[w] != WINDOW_BOUNDARY;
	if (!n)
		m->cuts[0] = 0;
	work_cuts_make(m, rec);
	return OK;
}

void marks_release(struct marks *m)
{
	free(m->cuts);
	free(m->kinds);
	free(m->work_cuts);
	*m = (struct marks){ 0 };
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

static void sums_make(struct rank_windows *p, struct ledger *ledger)
{
	const struct marks *m = &p->marks;
	size_t iteration = 0;

	for (size_t w = 0; w < m->windows; w++) {
		struct account a = ledger_between(ledger, m->cuts[w], m->cuts[w + 1]);

		p->lengths_ns[w] = account_ns(&a);
		p->stalls_ns[w] = a.parts_ns[CLS_LOADER];
		p->unequal += parts_sum_ns(a.parts_ns) != account_ns(&a);
		sum_add(&p->sums[m->kinds[w]], &a);
	}
	for (size_t w = 0; w < m->windows; w++) {
		struct account a;

		if (m->kinds[w] == WINDOW_BOUNDARY)
			continue;
		a = ledger_between(ledger, m->work_cuts[iteration], m->work_cuts[iteration + 1]);
		iteration++;
		p->unequal += parts_sum_ns(a.parts_ns) != account_ns(&a);
		if (m->kinds[w] == WINDOW_STEADY)
			sum_add(&p->work, &a);
	}
}

/* When the optimiser step of each iteration, and of one that is cut off, ended; INT64_MIN: not known; to be freed.  A launch of it on
 * a device is none. */
static int64_t *steps_make(const struct marks *m, const struct record *rec)
{
	int64_t *ends = malloc((m->iterations + 1) * sizeof(*ends));

	for (size_t k = 0; k <= m->iterations && ends; k++)
		ends[k] = INT64_MIN;
	for (size_t i = 0; i < rec->event_count && ends; i++) {
		const struct event *e = &rec->events[i];

		if (e->name == SPAN_OPT && e->cls == CLS_COMPUTE_OPT && e->iter <= m->iterations && e->t1 > ends[e->iter])
			ends[e->iter] = e->t1;
	}
	return ends;
}

/* The stretches between the optimiser steps on either side of an epoch's begin: cuts 2i and 2i + 1 are the ends of stretch i,
 * which ends in an iteration.  A device's steps lie later in the record, and may end behind the begin.  Returns their number. */
static size_t stretch_cuts(const struct marks *m, const struct record *rec, const int64_t *ends, int64_t *cuts, uint32_t *iterations)
{
	int64_t at = INT64_MIN;		/* the end of the last one; never runs backwards */
	size_t n = 0;

	for (size_t i = 0; i < rec->event_count; i++) {
		const struct event *e = &rec->events[i];
		uint32_t k = e->iter;
		int64_t from;

		if (e->lane != LANE_TRAINING || e->name != SPAN_EPOCH_BEGIN || k > m->iterations || ends[k] == INT64_MIN ||
		    (n && k <= iterations[n - 1]))
			continue;
		from = k && ends[k - 1] != INT64_MIN ? ends[k - 1] : e->t0;
		from = from > at ? from : at;
		at = ends[k] > from ? ends[k] : from;
		cuts[2 * n] = from;
		cuts[2 * n + 1] = at;
		iterations[n++] = k;
	}
	return n;
}

/* The row, as a class of the boundary's own account. */
static uint8_t boundary_class(const struct event *e)
{
	for (size_t i = 0; i < ARRAY_LEN(boundary_spans); i++)
		if (e->name == boundary_spans[i].span ||
		    (boundary_spans[i].span == SPAN_COUNT && e->cls == boundary_spans[i].cls))
			return (uint8_t)i;
	return CLS_ASIDE;
}

/* Events of the training lane that reach into a stretch, with the classes of the boundary's account; to be freed.  Few
 * do, so where they lie is asked first.  NULL: no memory. */
static struct event *stretch_events(const struct record *rec, const int64_t *cuts, const uint32_t *iterations, size_t stretches,
				    size_t *count)
{
	size_t at = 0, n = 0, room = 64;
	struct event *out = malloc(room * sizeof(*out));

	for (size_t i = 0; i < rec->event_count && out && at < stretches; i++) {
		const struct event *e = &rec->events[i];
		uint8_t cls;

		if (e->lane != LANE_TRAINING || e->t1 <= cuts[2 * at])
			continue;
		while (at < stretches && cuts[2 * at + 1] <= e->t0)
			at++;
		cls = at < stretches && e->t1 > cuts[2 * at] ? boundary_class(e) : CLS_ASIDE;
		if (cls != CLS_ASIDE && e->name == SPAN_LOAD && e->iter != iterations[at])
			continue;	/* the host is ahead of its device's step */
		if (cls == CLS_ASIDE)
			continue;
		if (n == room) {
			struct event *more = realloc(out, (room *= 2) * sizeof(*out));

			if (!more)
				free(out);
			out = more;
			if (!out)
				break;
		}
		out[n] = *e;
		out[n++].cls = cls;
	}
	*count = n;
	return out;
}

static int stretches_make(struct rank_windows *p, const struct record *rec)
{
	int64_t *cuts = malloc((2 * p->marks.windows + 4) * sizeof(*cuts));
	uint32_t *iterations = malloc((p->marks.windows + 2) * sizeof(*iterations));
	int64_t *ends = steps_make(&p->marks, rec);
	size_t n = cuts && iterations && ends ? stretch_cuts(&p->marks, rec, ends, cuts, iterations) : 0, count = 0;
	struct event *own = cuts && iterations ? stretch_events(rec, cuts, iterations, n, &count) : NULL;
	struct account *accounts = calloc(2 * n + 1, sizeof(*accounts));
	int rc = OK;

	p->stretches = calloc(n + 1, sizeof(*p->stretches));
	if (!cuts || !iterations || !ends || !own || !accounts || !p->stretches)
		rc = err(NO_MEMORY, "no memory for %zu epoch boundaries", n);
	else if (n)
		rc = decompose(own, count, cuts, 2 * n - 1, accounts);
	for (size_t i = 0; i < n && !rc; i++) {
		struct stretch *s = &p->stretches[p->stretch_count++];

		s->length_ns = account_ns(&accounts[2 * i]);
		s->iteration = iterations[i];
		for (size_t row = 0; row < ARRAY_LEN(boundary_spans); row++)
			s->parts_ns[boundary_spans[row].part] = accounts[2 * i].parts_ns[row];
		s->parts_ns[PART_REST] = accounts[2 * i].parts_ns[CLS_UNATTRIBUTED];
	}
	free(own);
	free(ends);
	free(iterations);
	free(cuts);
	free(accounts);
	return rc;
}

int windows_make(struct rank_windows *p, struct marks *marks, const struct record *rec, struct ledger *ledger)
{
	*p = (struct rank_windows){ .marks = *marks, .lengths_ns = calloc(marks->windows + 1, sizeof(int64_t)),
				    .stalls_ns = calloc(marks->windows + 1, sizeof(int64_t)) };
	*marks = (struct marks){ 0 };
	if (!p->lengths_ns || !p->stalls_ns)
		return err(NO_MEMORY, "no memory for %zu windows", p->marks.windows);
	sums_make(p, ledger);
	return stretches_make(p, rec);
}

void windows_release(struct rank_windows *p)
{
	marks_release(&p->marks);
	free(p->lengths_ns);
	free(p->stalls_ns);
	free(p->stretches);
	*p = (struct rank_windows){ 0 };
}

/* ---- into the run ---------------------------------------------------------------------- */

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

static void sum_fold(struct window_sum *sum, const struct window_sum *more)
{
	sum->windows += more->windows;
	sum->wall_ns += more->wall_ns;
	for (int c = 0; c < CLS_COUNT; c++)
		sum->parts_ns[c] += more->parts_ns[c];
	sum->comm_ns += more->comm_ns;
	sum->comm_hidden_ns += more->comm_hidden_ns;
}

static int stretches_fold(struct run *r, const struct rank_windows *p)
{
	if (p->stretch_count > r->stretch_count) {
		struct stretch *more = realloc(r->stretches, p->stretch_count * sizeof(*more));

		if (!more)
			return err(NO_MEMORY, "no memory for %zu boundaries", p->stretch_count);
		memset(more + r->stretch_count, 0, (p->stretch_count - r->stretch_count) * sizeof(*more));
		r->stretches = more;
		r->stretch_count = p->stretch_count;
	}
	for (size_t i = 0; i < p->stretch_count; i++)
		if (p->stretches[i].length_ns > r->stretches[i].length_ns)
			r->stretches[i] = p->stretches[i];
	return OK;
}

int windows_add(struct runs *all, struct run *r, size_t rank, const struct rank_windows *p, const struct record *rec,
		const char *path)
{
	const struct marks *m = &p->marks;
	int64_t wall_ns = m->windows ? m->cuts[m->windows] - m->cuts[0] : 0;
	int rc;

	if (!rec->tail)
		run_spoil(r, "cut off", "%s: ends without its last block, %zu bytes behind the last whole one", path,
			  rec->bad_bytes);
	else if (!m->ended)
		run_spoil(r, "damaged", "%s: no end of the run in it", path);
	rc = windows_agree(r, m, path);
	if (rc)
		return rc;
	all->windows_checked += m->windows;
	all->windows_unequal += p->unequal;
	for (int k = 0; k < WINDOW_KINDS; k++) {
		sum_fold(&r->sums[k], &p->sums[k]);
		sum_fold(&r->rank_sums[rank], &p->sums[k]);
	}
	sum_fold(&r->work, &p->work);
	for (size_t w = 0; w < m->windows && w < r->windows; w++)
		if (p->lengths_ns[w] > r->slowest_ns[w])
			r->slowest_ns[w] = p->lengths_ns[w];
	r->wall_ns = wall_ns > r->wall_ns ? wall_ns : r->wall_ns;
	r->dropped += (uint64_t)json_number(rec->tail, "dropped", 0);
	return stretches_fold(r, p);
}
