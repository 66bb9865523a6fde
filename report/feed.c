/*
 * report/feed.c - see feed.h.
 */
#include "report/feed.h"

#include "bench/base/err.h"
#include "report/windows.h"

#include <stdlib.h>
#include <string.h>

enum { LANE_TRAINING = 0, LANES_MAX = 4096 };	/* of a record; bench/base/folder.h */

/* What a worker said within one epoch. */
struct saying {
	uint64_t cpu_ns;		/* with its last batch */
	uint64_t first_uss, uss, pss;	/* bytes; 0: not said */
	size_t batches, first_batches;	/* so far, when it said the last and the first */
};

/* While one record is read. */
struct reading {
	struct feed *feed;
	const struct record *rec;
	const struct marks *marks;
	uint32_t *epoch_of;		/* owned; of each iteration */
	int64_t *steady_ns;		/* owned; steady time before each cut */
	int64_t *ready;			/* owned; when each batch was, INT64_MAX: not known */
	size_t batches;			/* places in it: as many as were asked for */
	struct saying *said;		/* owned; (lanes, epochs) */
	uint64_t *cpu_ns;		/* owned; of each lane, with the batch before */
	size_t lanes;
};

static void reading_release(struct reading *r)
{
	free(r->epoch_of);
	free(r->steady_ns);
	free(r->ready);
	free(r->said);
	free(r->cpu_ns);
}

static int reading_init(struct reading *r, struct feed *f, const struct record *rec, const struct marks *m)
{
	size_t lanes = 1;

	*r = (struct reading){ .feed = f, .rec = rec, .marks = m };
	for (size_t i = 0; i < rec->event_count; i++) {
		r->batches += rec->events[i].name == SPAN_LOAD && rec->events[i].lane == LANE_TRAINING;
		lanes = rec->events[i].lane >= lanes && rec->events[i].lane < LANES_MAX ? rec->events[i].lane + 1u : lanes;
	}
	r->lanes = lanes;
	f->ranks = 1;
	for (size_t w = 0; w < m->windows; w++)
		f->epoch_count += m->kinds[w] == WINDOW_FIRST;
	f->iteration_count = m->iterations;
	f->iterations = calloc(f->iteration_count + 1, sizeof(*f->iterations));
	f->epochs = calloc(f->epoch_count + 1, sizeof(*f->epochs));
	r->epoch_of = calloc(f->iteration_count + 1, sizeof(*r->epoch_of));
	r->steady_ns = calloc(m->windows + 1, sizeof(*r->steady_ns));
	r->ready = malloc((r->batches + 1) * sizeof(*r->ready));
	r->said = calloc(lanes * (f->epoch_count + 1), sizeof(*r->said));
	r->cpu_ns = calloc(lanes, sizeof(*r->cpu_ns));
	if (f->iterations && f->epochs && r->epoch_of && r->steady_ns && r->ready && r->said && r->cpu_ns)
		return OK;
	reading_release(r);
	return err(NO_MEMORY, "no memory for %zu iterations", f->iteration_count);
}

static void iteration_add(struct feed_iteration *to, const struct feed_iteration *i)
{
	to->stall_ns += i->stall_ns;
	to->head_ns += i->head_ns;
	to->hand_ns += i->hand_ns;
	if (i->asked && (!to->asked || i->depth_least < to->depth_least))
		to->depth_least = i->depth_least;
	to->depth += i->depth;
	to->asked += i->asked;
}

/* ---- the training thread --------------------------------------------------------------- */

static void take_windows(struct reading *r, const struct rank_windows *windows)
{
	const struct marks *m = r->marks;
	struct feed *f = r->feed;
	size_t iteration = 0, epochs = 0;
	int64_t begin_ns = m->cuts[0];

	for (size_t w = 0; w < m->windows; w++) {
		struct feed_epoch *e;

		if (m->kinds[w] == WINDOW_STEADY)
			f->steady_ns += windows->lengths_ns[w];
		r->steady_ns[w + 1] = f->steady_ns;
		if (m->kinds[w] == WINDOW_BOUNDARY) {
			begin_ns = m->cuts[w];
			continue;
		}
		if (m->kinds[w] == WINDOW_FIRST)
			f->epochs[epochs++].boundary_ns = m->cuts[w] - begin_ns;
		if (!epochs)
			continue;	/* a record without its beginning */
		e = &f->epochs[epochs - 1];
		e->iterations++;
		e->wall_ns = m->cuts[w + 1] - begin_ns;
		e->stall_ns += windows->stalls_ns[w];
		f->iterations[iteration].stall_ns = windows->stalls_ns[w];
		r->epoch_of[iteration++] = (uint32_t)epochs - 1;
	}
}

/* Steady time before a moment. */
static int64_t steady_before(const struct reading *r, int64_t at_ns)
{
	const struct marks *m = r->marks;
	size_t low = 0, high = m->windows;

	while (low < high) {
		size_t middle = (low + high + 1) / 2;

		if (m->cuts[middle] <= at_ns)
			low = middle;
		else
			high = middle - 1;
	}
	if (low == m->windows || at_ns <= m->cuts[0] || m->kinds[low] != WINDOW_STEADY)
		return r->steady_ns[low];
	return r->steady_ns[low] + at_ns - m->cuts[low];
}

/* A wait for batch b: that long no more than a later one was there; and from when it was there itself, its handing over. */
static void take_load(struct reading *r, const struct event *e, size_t b, size_t in_flight)
{
	struct feed_iteration *it = &r->feed->iterations[e->iter];
	struct feed_epoch *epoch = &r->feed->epochs[r->epoch_of[e->iter]];
	int64_t due = r->ready[b], first = due;

	if (!epoch->first_ns)
		epoch->first_ns = epoch->boundary_ns + e->t1 - e->t0;
	if (due == INT64_MAX)
		return;
	due = due < e->t0 ? e->t0 : due < e->t1 ? due : e->t1;
	for (size_t later = b + 1; later < r->batches && later <= b + in_flight; later++)
		first = r->ready[later] < first ? r->ready[later] : first;
	first = first > e->t0 ? first : e->t0;
	it->hand_ns += e->t1 - due;
	it->head_ns += first < due ? due - first : 0;
}

/* In the order of batches; what was covered by other work is no stall. */
static void take_loads(struct reading *r, size_t in_flight)
{
	struct feed *f = r->feed;
	size_t b = 0;

	for (size_t i = 0; i < r->rec->event_count && f->epoch_count; i++) {
		const struct event *e = &r->rec->events[i];

		if (e->name != SPAN_LOAD || e->lane != LANE_TRAINING)
			continue;
		if (e->iter < f->iteration_count)
			take_load(r, e, b, in_flight);
		b++;
	}
	for (size_t i = 0; i < f->iteration_count; i++) {
		struct feed_iteration *it = &f->iterations[i];

		it->hand_ns = it->hand_ns < it->stall_ns ? it->hand_ns : it->stall_ns;
		it->head_ns = it->head_ns < it->stall_ns - it->hand_ns ? it->head_ns : it->stall_ns - it->hand_ns;
	}
}

/* ---- the makers ------------------------------------------------------------------------ */

static void take_stage(struct reading *r, const struct event *e, int stage, double share)
{
	r->feed->batch_ns[stage] += e->t1 - e->t0;
	r->feed->stages_ns[stage] += share * (double)(e->t1 - e->t0);
}

static void take_saying(struct reading *r, const struct event *e, double share, int64_t length_ns)
{
	struct saying *s = &r->said[e->lane * r->feed->epoch_count + r->epoch_of[e->iter]];
	uint64_t *before = &r->cpu_ns[e->lane], cpu_ns;

	switch (e->name) {
	case SPAN_WORKER_CPU:
		/* One that is new counts from 0; and no batch takes more than its time. */
		cpu_ns = e->arg < *before ? e->arg : e->arg - *before;
		r->feed->cpu_ns += share * (double)(cpu_ns < (uint64_t)length_ns ? cpu_ns : (uint64_t)length_ns);
		*before = e->arg;
		s->cpu_ns = e->arg;
		s->batches++;
		break;
	case SPAN_WORKER_USS:
		s->uss = e->arg;
		if (!s->first_uss) {
			s->first_uss = e->arg;
			s->first_batches = s->batches;
		}
		break;
	case SPAN_WORKER_PSS:
		s->pss = e->arg;
		break;
	}
}

/* A worker's events of a batch follow each other, the batch itself first. */
static void take_makers(struct reading *r)
{
	struct feed *f = r->feed;
	int64_t length_ns = 0;
	double share = 0;

	for (size_t i = 0; i < r->rec->event_count; i++) {
		const struct event *e = &r->rec->events[i];

		if (e->iter >= f->iteration_count || e->lane >= r->lanes || !f->epoch_count)
			continue;
		if (e->name == SPAN_MAKE_BATCH) {
			length_ns = e->t1 - e->t0;
			share = length_ns ? (double)(steady_before(r, e->t1) - steady_before(r, e->t0)) / (double)length_ns : 0;
			if (e->arg < r->batches)
				r->ready[e->arg] = e->t1;
			f->batches++;
		} else if (e->name >= SPAN_BATCH_READ && e->name <= SPAN_BATCH_HAND_OVER) {
			take_stage(r, e, (int)e->name - SPAN_BATCH_READ, share);
		} else if (e->name >= SPAN_WORKER_CPU && e->name <= SPAN_WORKER_PSS) {
			take_saying(r, e, share, length_ns);
		} else if (e->name == SPAN_QUEUE_DEPTH && e->lane == LANE_TRAINING) {
			iteration_add(&f->iterations[e->iter], &(struct feed_iteration){
				.depth = e->arg, .depth_least = e->arg < UINT32_MAX ? (uint32_t)e->arg : UINT32_MAX, .asked = 1 });
		}
	}
}

/* One worker in one epoch; `before` is the same place in the epoch before, if its process is the same. */
static void sum_worker(struct feed_epoch *e, const struct saying *s, const struct saying *before)
{
	uint64_t cpu_ns = s->cpu_ns - (before && before->cpu_ns <= s->cpu_ns ? before->cpu_ns : 0);
	uint64_t base = s->first_uss;
	size_t batches = s->batches - s->first_batches;

	if (before && before->uss) {
		base = before->uss;
		batches = s->batches;
	}
	e->workers++;
	e->cpu_ns += cpu_ns;
	e->cpu_most_ns = cpu_ns > e->cpu_most_ns ? cpu_ns : e->cpu_most_ns;
	if (!s->uss)
		return;
	e->weighed++;
	e->uss_bytes += s->uss;
	e->uss_most_bytes = s->uss > e->uss_most_bytes ? s->uss : e->uss_most_bytes;
	e->pss_bytes += s->pss;
	if (!batches)
		return;
	e->grown++;
	e->growth_bytes += ((double)s->uss - (double)base) / (double)batches;
}

static void sum_workers(struct reading *r, bool kept)
{
	size_t epochs = r->feed->epoch_count;

	for (size_t lane = 0; lane < r->lanes; lane++)
		for (size_t e = 0; e < epochs; e++) {
			const struct saying *s = &r->said[lane * epochs + e];

			if (s->batches)
				sum_worker(&r->feed->epochs[e], s, kept && e ? s - 1 : NULL);
		}
}

int feed_make(struct feed *f, const struct record *rec, const struct rank_windows *windows, struct feed_plan plan)
{
	struct reading r;
	int rc;

	*f = (struct feed){ 0 };
	rc = reading_init(&r, f, rec, &windows->marks);
	if (rc) {
		feed_release(f);
		return rc;
	}
	for (size_t b = 0; b < r.batches; b++)
		r.ready[b] = INT64_MAX;
	take_windows(&r, windows);
	take_makers(&r);
	take_loads(&r, plan.in_flight);
	sum_workers(&r, plan.kept);
	reading_release(&r);
	return OK;
}

/* ---- ranks together -------------------------------------------------------------------- */

static int64_t greater(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

void feed_epoch_add(struct feed_epoch *to, const struct feed_epoch *e)
{
	to->iterations = e->iterations > to->iterations ? e->iterations : to->iterations;
	to->wall_ns = greater(to->wall_ns, e->wall_ns);
	to->boundary_ns = greater(to->boundary_ns, e->boundary_ns);
	to->first_ns = greater(to->first_ns, e->first_ns);
	to->stall_ns += e->stall_ns;
	to->workers += e->workers;
	to->weighed += e->weighed;
	to->grown += e->grown;
	to->cpu_ns += e->cpu_ns;
	to->cpu_most_ns = (uint64_t)greater((int64_t)to->cpu_most_ns, (int64_t)e->cpu_most_ns);
	to->uss_bytes += e->uss_bytes;
	to->uss_most_bytes = (uint64_t)greater((int64_t)to->uss_most_bytes, (int64_t)e->uss_most_bytes);
	to->pss_bytes += e->pss_bytes;
	to->growth_bytes += e->growth_bytes;
}

int feed_add(struct feed *to, const struct feed *f)
{
	if (!to->iterations) {
		to->iterations = calloc(f->iteration_count + 1, sizeof(*to->iterations));
		to->epochs = calloc(f->epoch_count + 1, sizeof(*to->epochs));
		if (!to->iterations || !to->epochs)
			return err(NO_MEMORY, "no memory for %zu iterations", f->iteration_count);
		to->iteration_count = f->iteration_count;
		to->epoch_count = f->epoch_count;
	}
	for (size_t i = 0; i < f->iteration_count && i < to->iteration_count; i++)
		iteration_add(&to->iterations[i], &f->iterations[i]);
	for (size_t e = 0; e < f->epoch_count && e < to->epoch_count; e++)
		feed_epoch_add(&to->epochs[e], &f->epochs[e]);
	to->ranks += f->ranks;
	to->steady_ns += f->steady_ns;
	to->cpu_ns += f->cpu_ns;
	to->batches += f->batches;
	for (int s = 0; s < STAGE_COUNT; s++) {
		to->stages_ns[s] += f->stages_ns[s];
		to->batch_ns[s] += f->batch_ns[s];
	}
	return OK;
}

void feed_release(struct feed *f)
{
	free(f->iterations);
	free(f->epochs);
	*f = (struct feed){ 0 };
}
