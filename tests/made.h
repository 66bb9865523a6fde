/*
 * tests/made.h - a job that never ran: the step on any number of ranks, in exact nanoseconds.
 *
 * Each phase takes the time of the plan plus a delay that the test chooses per rank, iteration and phase.
 * Broadcasts wait for rank 0 (or for everybody), all-reduces for the last rank, and all ranks leave an all-reduce together.
 * Events go to a sink as the recorder would write them; stamps are shifted by the clock of the rank.
 */
#ifndef SFSCALE_TESTS_MADE_H
#define SFSCALE_TESTS_MADE_H

#include "bench/base/span.h"

#include <stdlib.h>

enum { MADE_BUCKETS_MAX = 16 };

struct made {
	int ranks, epochs, iterations, buckets;
	int64_t load, first_load, copy, bcast, fwd, bwd, wire, opt, loss_wire, log, boundary;	/* ns; bwd, wire: of a bucket */
	bool no_overlap;	/* buckets travel while draining */
	bool bcast_holds;	/* a broadcast keeps all ranks until the last one came, not only those without data */
	int64_t (*delay)(const void *context, int rank, int iteration, enum span_id);	/* NULL: none */
	int64_t (*shift)(const void *context, int rank);	/* NULL: one clock */
	void (*sink)(void *context, int rank, const struct event *);
	void *context;
};

struct made_rank {
	int64_t at, lane_free;
	uint32_t seq[2];
};

struct made_state {
	const struct made *plan;
	struct made_rank *ranks;
	uint32_t iter;
};

static int64_t made_delay(const struct made_state *s, int rank, enum span_id id)
{
	return s->plan->delay ? s->plan->delay(s->plan->context, rank, (int)s->iter, id) : 0;
}

static void made_put(struct made_state *s, int rank, enum span_id id, int lane, int64_t t0, int64_t t1, uint64_t arg)
{
	const struct made *m = s->plan;
	int64_t shift = m->shift ? m->shift(m->context, rank) : 0;
	bool collective = span_rows[id].kind == KIND_COLLECTIVE;

	m->sink(m->context, rank, &(struct event){
		.t0 = t0 + shift, .t1 = t1 + shift, .arg = arg, .name = id, .iter = s->iter, .lane = (uint16_t)lane,
		.seq = collective ? s->ranks[rank].seq[lane]++ : 0, .kind = (uint8_t)span_rows[id].kind,
		.cls = (uint8_t)span_rows[id].cls });
}

/* A phase of the training thread. */
static void made_phase(struct made_state *s, int rank, enum span_id id, int64_t ns, uint64_t arg)
{
	struct made_rank *r = &s->ranks[rank];
	int64_t t0 = r->at;

	r->at += ns + made_delay(s, rank, id);
	made_put(s, rank, id, 0, t0, r->at, arg);
}

static void made_collective(struct made_state *s, enum span_id id, int64_t ns, uint64_t bytes)
{
	int64_t open = s->ranks[0].at;		/* of a broadcast: when the root comes */

	ns += made_delay(s, 0, id);		/* a slow network is slow for all */
	for (int r = 1; r < s->plan->ranks && (id != SPAN_BCAST_BN || s->plan->bcast_holds); r++)
		open = s->ranks[r].at > open ? s->ranks[r].at : open;
	for (int r = 0; r < s->plan->ranks; r++) {
		struct made_rank *k = &s->ranks[r];
		int64_t t0 = k->at;

		k->at = (t0 > open ? t0 : open) + ns;
		made_put(s, r, id, 0, t0, k->at, bytes);
	}
}

/* All buckets, once their ready times (by rank) are known. */
static void made_buckets(struct made_state *s, const int64_t *ready)
{
	const struct made *m = s->plan;
	int64_t ns = m->wire + made_delay(s, 0, SPAN_ALLREDUCE);

	for (int b = 0; b < m->buckets; b++) {
		int64_t open = INT64_MIN;

		for (int r = 0; r < m->ranks; r++) {
			struct made_rank *k = &s->ranks[r];
			int64_t at = m->no_overlap ? k->at : ready[b * m->ranks + r];

			k->lane_free = k->lane_free > at ? k->lane_free : at;	/* now: when it comes */
			open = k->lane_free > open ? k->lane_free : open;
		}
		for (int r = 0; r < m->ranks; r++) {
			made_put(s, r, SPAN_ALLREDUCE, 1, s->ranks[r].lane_free, open + ns, 1000 + (uint64_t)b);
			s->ranks[r].lane_free = open + ns;
		}
	}
	for (int r = 0; r < m->ranks; r++) {
		struct made_rank *k = &s->ranks[r];
		int64_t t0 = k->at;

		k->at = k->lane_free > t0 && m->buckets ? k->lane_free : t0;
		made_put(s, r, SPAN_DRAIN, 0, t0, k->at, 0);
	}
}

static void made_iteration(struct made_state *s, bool first, int64_t *ready)
{
	const struct made *m = s->plan;

	for (int r = 0; r < m->ranks; r++) {
		made_phase(s, r, SPAN_LOAD, first ? m->first_load : m->load, 0);
		made_phase(s, r, SPAN_H2D, m->copy, 0);
	}
	made_collective(s, SPAN_BCAST_BN, m->bcast, 64);
	for (int r = 0; r < m->ranks; r++) {
		made_phase(s, r, SPAN_FWD, m->fwd, 0);
		for (int b = 0; b < m->buckets; b++) {
			made_phase(s, r, SPAN_BWD, m->bwd, (uint64_t)b);
			ready[b * m->ranks + r] = s->ranks[r].at;
		}
	}
	made_buckets(s, ready);
	for (int r = 0; r < m->ranks; r++)
		made_phase(s, r, SPAN_OPT, m->opt, 0);
	made_collective(s, SPAN_LOSS_ALLREDUCE, m->loss_wire, 4);
	for (int r = 0; r < m->ranks; r++)
		made_phase(s, r, SPAN_LOG, m->log, 0);
}

static void made_run(const struct made *m)
{
	struct made_state s = { .plan = m, .ranks = calloc((unsigned)m->ranks, sizeof(*s.ranks)) };
	int64_t *ready = calloc((unsigned)m->ranks * (size_t)MADE_BUCKETS_MAX, sizeof(*ready));

	for (int r = 0; r < m->ranks; r++)
		s.ranks[r].at = 1000000000;
	for (int e = 0; e < m->epochs; e++) {
		for (int r = 0; r < m->ranks; r++) {
			int64_t begin = s.ranks[r].at;

			made_phase(&s, r, SPAN_WORKERS_START, m->boundary, 0);
			made_put(&s, r, SPAN_EPOCH_BEGIN, 0, begin, s.ranks[r].at, (uint64_t)e);
		}
		for (int i = 0; i < m->iterations; i++, s.iter++)
			made_iteration(&s, !i, ready);
	}
	for (int r = 0; r < m->ranks; r++)
		made_put(&s, r, SPAN_RUN_END, 0, s.ranks[r].at, s.ranks[r].at, 0);
	free(ready);
	free(s.ranks);
}

#endif
