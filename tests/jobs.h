/*
 * tests/jobs.h - made jobs (bench/made.h) in memory: their records, and what match and blame make of them.
 */
#ifndef SFSCALE_TESTS_JOBS_H
#define SFSCALE_TESTS_JOBS_H

#include "bench/base/err.h"
#include "bench/made.h"
#include "report/blame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define MS 1000000ll

enum { RANKS_MAX = 8 };

/* Delays of a job: `ms` more for `rank` in `phase`, in iterations [from, to). */
struct late {
	enum span_id phase;
	int rank, from, to;
	int64_t ns;
};

struct job {
	struct made plan;
	struct late late[4];
	int late_count;
	int64_t shift[RANKS_MAX];
	uint32_t group[RANKS_MAX];
	int64_t bound_ns;
	int64_t device_ns;		/* likewise, of the stamps of devices */
	struct record records[RANKS_MAX];
	size_t room[RANKS_MAX];
	/* what came out */
	struct match match;
	struct courses *courses;
	struct blame blame[RANKS_MAX];
	struct account whole[RANKS_MAX];
};

static inline int64_t job_delay(const void *context, int rank, int iteration, enum span_id id)
{
	const struct job *j = context;
	int64_t ns = 0;

	for (int i = 0; i < j->late_count; i++)
		if (j->late[i].phase == id && j->late[i].rank == rank && iteration >= j->late[i].from && iteration < j->late[i].to)
			ns += j->late[i].ns;
	return ns;
}

static inline int64_t job_shift(const void *context, int rank)
{
	return ((const struct job *)context)->shift[rank];
}

static inline void job_put(struct job *j, int rank, const struct event *e)
{
	struct record *r = &j->records[rank];

	if (r->event_count == j->room[rank]) {
		j->room[rank] = 2 * j->room[rank] + 64;
		r->events = realloc(r->events, j->room[rank] * sizeof(*r->events));
		assert_non_null(r->events);
	}
	r->events[r->event_count++] = *e;
}

static inline void job_sink(void *context, int rank, const struct event *e)
{
	job_put(context, rank, e);
}

static inline struct job *job_new(int ranks)
{
	struct job *j = calloc(1, sizeof(*j));

	assert_non_null(j);
	j->plan = (struct made){
		.ranks = ranks, .epochs = 2, .iterations = 5, .buckets = 1, .load = 4 * MS, .first_load = 9 * MS, .copy = 2 * MS,
		.bcast = MS / 10, .fwd = 30 * MS, .bwd = 60 * MS, .wire = 8 * MS, .opt = 5 * MS, .loss_wire = MS / 5, .log = MS,
		.boundary = 20 * MS, .delay = job_delay, .shift = job_shift, .sink = job_sink, .context = j };
	return j;
}

static inline void bounds_of(const struct record *r, int64_t *begin, int64_t *end)
{
	*begin = INT64_MAX;
	*end = INT64_MIN;
	for (size_t i = 0; i < r->event_count; i++) {
		*begin = r->events[i].t0 < *begin ? r->events[i].t0 : *begin;
		*end = r->events[i].t1 > *end ? r->events[i].t1 : *end;
	}
}

/* Of one rank after its collectives were split. */
static inline void ledger_of(struct job *j, size_t rank, struct course *course, struct ledger *ledger)
{
	int64_t begin, end;

	bounds_of(&j->records[rank], &begin, &end);
	assert_int_equal(course_make(course, &j->match, rank, begin, end), OK);
	assert_int_equal(ledger_make(ledger, j->records[rank].events, j->records[rank].event_count, &j->match, rank,
				     begin, end), OK);
	j->whole[rank] = ledger_between(ledger, begin, end);
}

static inline void job_analyse(struct job *j)
{
	size_t ranks = (size_t)j->plan.ranks;
	struct course course;
	struct ledger ledger;

	assert_int_equal(match_open(&j->match, ranks), OK);
	for (size_t r = 0; r < ranks; r++)
		assert_int_equal(match_add(&j->match, r, j->records[r].events, j->records[r].event_count,
					   (struct match_clock){ j->group[r], j->bound_ns, j->device_ns }), OK);
	assert_int_equal(match_solve(&j->match), OK);
	assert_int_equal(courses_open(&j->courses, &j->match), OK);
	for (size_t r = 0; r < ranks; r++) {
		if (!courses_wanted(j->courses, r))
			continue;
		ledger_of(j, r, &course, &ledger);
		assert_int_equal(courses_add(j->courses, r, &course, &ledger), OK);
		course_release(&course);
		ledger_release(&ledger);
	}
	assert_int_equal(courses_trace(j->courses), OK);
	for (size_t r = 0; r < ranks; r++) {
		ledger_of(j, r, &course, &ledger);
		assert_int_equal(blame_make(&j->blame[r], j->courses, r, &course, &ledger), OK);
		course_release(&course);
		ledger_release(&ledger);
	}
}

static inline void job_run(struct job *j)
{
	made_run(&j->plan);
	job_analyse(j);
}

static inline void job_free(struct job *j)
{
	courses_close(j->courses);
	match_release(&j->match);
	for (int r = 0; r < RANKS_MAX; r++) {
		free(j->records[r].events);
		blame_release(&j->blame[r]);
	}
	free(j);
}

/* What `waiter` waited, by root (-1: any) and cause (-1: any). */
static inline int64_t induced(const struct job *j, int waiter, int root, int cause)
{
	const struct origins *o = &j->blame[waiter].origins;
	int64_t ns = 0;

	for (size_t i = 0; i < o->count; i++)
		if ((root < 0 || o->at[i].chain[o->at[i].length - 1] == (uint32_t)root) &&
		    (cause < 0 || o->at[i].cause == (enum cause)cause))
			ns += o->at[i].ns;
	return ns;
}

static inline size_t splits(const struct job *j, enum split how)
{
	size_t n = 0;

	for (size_t i = 0; i < j->match.count; i++)
		n += j->match.list[i].split == how;
	return n;
}

#endif
