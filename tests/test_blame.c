/*
 * tests/test_blame.c - waits, wire and blame against jobs whose truth is known, and the identities that
 * hold for any events.
 */
#include "bench/base/rng.h"
#include "bench/base/sync.h"
#include "report/waits.h"
#include "tests/jobs.h"

#include <math.h>
#include <string.h>

/* ---- known truth ----------------------------------------------------------------------- */

static void a_delay_comes_back_as_wait_of_the_others_blamed_on_its_rank_and_phase(void **state)
{
	static const struct { enum span_id phase; enum cause cause; } cases[] = {
		{ SPAN_LOAD, CAUSE_loader }, { SPAN_H2D, CAUSE_copy }, { SPAN_FWD, CAUSE_compute }, { SPAN_BWD, CAUSE_compute },
		{ SPAN_OPT, CAUSE_compute }, { SPAN_LOG, CAUSE_host },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (int who = 0; who < 4; who++)
			for (int way = 0; way < 4; way++) {
				struct job *j = job_new(4);

				j->plan.no_overlap = way & 1;
				j->plan.bcast_holds = way & 2;
				j->late[j->late_count++] = (struct late){ cases[i].phase, who, 1, 4, 30 * MS };
				job_run(j);
				assert_int_equal(splits(j, SPLIT_CLOCKED), j->match.count);
				for (int r = 0; r < 4; r++) {
					assert_int_equal(j->blame[r].wait_ns, r == who ? 0 : 3 * 30 * MS);
					assert_int_equal(induced(j, r, who, cases[i].cause), r == who ? 0 : 3 * 30 * MS);
				}
				job_free(j);
			}
}

static void a_slow_boundary_of_one_rank_is_blamed_as_boundary(void **state)
{
	struct job *j = job_new(3);

	(void)state;
	j->late[j->late_count++] = (struct late){ SPAN_WORKERS_START, 1, 5, 6, 700 * MS };
	job_run(j);
	assert_int_equal(induced(j, 0, 1, CAUSE_boundary), 700 * MS);
	assert_int_equal(induced(j, 2, 1, CAUSE_boundary), 700 * MS);
	assert_int_equal(j->blame[0].wait_ns, 700 * MS);
	job_free(j);
}

static void a_slow_network_is_wire_and_nobody_waits(void **state)
{
	struct job *fast = job_new(4), *slow = job_new(4);

	(void)state;
	slow->late[slow->late_count++] = (struct late){ SPAN_ALLREDUCE, 0, 0, 10, 25 * MS };
	job_run(fast);
	job_run(slow);
	for (int r = 0; r < 4; r++) {
		assert_int_equal(slow->blame[r].wait_ns, 0);
		assert_int_equal(slow->whole[r].parts_ns[CLS_COMM_WIRE] - fast->whole[r].parts_ns[CLS_COMM_WIRE],
				 10 * 25 * MS);
	}
	job_free(fast);
	job_free(slow);
}

/* While rank 2's later buckets come, the others hide nothing any more: all that they wait is its loader. */
static void buckets_that_queue_behind_a_late_rank_are_blamed_on_what_made_it_late(void **state)
{
	struct job *j = job_new(4);

	(void)state;
	j->plan.buckets = 4;
	j->plan.bwd = 10 * MS;
	j->plan.wire = 3 * MS;
	j->late[j->late_count++] = (struct late){ SPAN_LOAD, 2, 3, 4, 30 * MS };
	job_run(j);
	for (int r = 0; r < 4; r++) {
		/* it is 30 ms late; what the first three buckets move meanwhile is wire, no wait */
		assert_int_equal(j->blame[r].wait_ns, r == 2 ? 0 : (30 - 3 * 3) * MS);
		assert_int_equal(induced(j, r, 2, CAUSE_loader), j->blame[r].wait_ns);
	}
	job_free(j);
}

/* Rank 0 is late to its broadcast, rank 3 waits for it, and its own delay behind it then keeps the others waiting:
 * two late ranks at once are told apart. */
static void two_late_ranks_are_told_apart(void **state)
{
	struct job *j = job_new(4);

	(void)state;
	j->late[j->late_count++] = (struct late){ SPAN_LOAD, 0, 2, 3, 20 * MS };
	j->late[j->late_count++] = (struct late){ SPAN_FWD, 3, 2, 3, 50 * MS };
	job_run(j);
	for (int r = 1; r < 3; r++) {
		assert_int_equal(induced(j, r, 0, CAUSE_loader), 20 * MS);
		assert_int_equal(induced(j, r, 3, CAUSE_compute), 50 * MS);
		assert_int_equal(j->blame[r].wait_ns, 70 * MS);
	}
	assert_int_equal(induced(j, 3, 0, CAUSE_loader), 20 * MS);
	assert_int_equal(induced(j, 0, 3, CAUSE_compute), 50 * MS);
	job_free(j);
}

/* In microseconds instead of milliseconds. */
static void the_example_of_the_readme_is_true(void **state)
{
	static const struct { enum span_id id; int seq; int64_t t0[2], t1[2]; } rows[] = {
		{ SPAN_LOSS_ALLREDUCE, 0, { -5, -5 }, { 0, 0 } },
		{ SPAN_LOAD, 0, { 0, 0 }, { 10, 30 } },
		{ SPAN_FWD, 0, { 10, 30 }, { 40, 65 } },
		{ SPAN_LOSS_ALLREDUCE, 1, { 40, 65 }, { 75, 75 } },
	};
	struct job *j = job_new(2);

	(void)state;
	for (int r = 0; r < 2; r++)
		for (size_t i = 0; i < ARRAY_LEN(rows); i++)
			job_put(j, r, &(struct event){ .t0 = 1000 * rows[i].t0[r], .t1 = 1000 * rows[i].t1[r], .name = rows[i].id,
				.seq = (uint32_t)rows[i].seq, .cls = (uint8_t)span_rows[rows[i].id].cls,
				.kind = (uint8_t)span_rows[rows[i].id].kind });
	job_analyse(j);
	assert_int_equal(j->blame[0].wait_ns, 25000);
	assert_int_equal(induced(j, 0, 1, CAUSE_loader), 20000);
	assert_int_equal(induced(j, 0, 1, CAUSE_compute), 5000);
	assert_int_equal(j->blame[1].wait_ns, 0);
	assert_int_equal(j->whole[0].parts_ns[CLS_COMM_WIRE], 5000 + 10000);	/* and that of the collective before */
	assert_int_equal(j->whole[0].parts_ns[CLS_LOADER], 10000);
	assert_int_equal(j->whole[0].parts_ns[CLS_COMPUTE_FWD], 30000);
	assert_int_equal(j->whole[0].parts_ns[CLS_COMM_WAIT], 25000);
	job_free(j);
}

/* Gradients of 2 x 3 ms in two buckets that move 5 ms each: one moves under 3 ms of backward, 7 ms are exposed. */
static void the_example_of_the_readme_with_overlap_is_true(void **state)
{
	struct job *calm = job_new(3), *late = job_new(3);

	(void)state;
	calm->plan.buckets = late->plan.buckets = 2;
	calm->plan.bwd = late->plan.bwd = 3 * MS;
	calm->plan.wire = late->plan.wire = 5 * MS;
	late->late[late->late_count++] = (struct late){ SPAN_FWD, 2, 3, 4, 30 * MS };
	job_run(calm);
	job_run(late);
	for (int r = 0; r < 2; r++) {
		assert_int_equal(late->blame[r].wait_ns - calm->blame[r].wait_ns, 27 * MS);
		assert_int_equal(induced(late, r, 2, CAUSE_compute), 27 * MS);
		assert_int_equal(late->whole[r].parts_ns[CLS_COMM_WIRE] - calm->whole[r].parts_ns[CLS_COMM_WIRE], 3 * MS);
	}
	job_free(calm);
	job_free(late);
}

/* The rank is late for its broadcast, and again behind it.  Where the broadcast held the others, its loader is paid for
 * there; where not (it is not the root), the all-reduce pays for both. */
static void what_was_waited_for_once_is_not_blamed_again(void **state)
{
	(void)state;
	for (int who = 0; who < 3; who++)
		for (int holds = 0; holds < 2; holds++) {
			struct job *j = job_new(3);

			j->plan.bcast_holds = holds;
			j->late[j->late_count++] = (struct late){ SPAN_LOAD, who, 2, 3, 40 * MS };
			j->late[j->late_count++] = (struct late){ SPAN_FWD, who, 2, 3, 7 * MS };
			job_run(j);
			for (int r = 0; r < 3; r++) {
				assert_int_equal(induced(j, r, who, CAUSE_loader), r == who ? 0 : 40 * MS);
				assert_int_equal(induced(j, r, who, CAUSE_compute), r == who ? 0 : 7 * MS);
				assert_int_equal(j->blame[r].wait_ns, r == who ? 0 : 47 * MS);
			}
			job_free(j);
		}
}

/* Rank 1 loads 30 longer and is waited for in the first bucket; then it leaves that bucket 5 after rank 0, which waits for it in the
 * second: that is the wire's, the loader has been paid for. */
static void a_cause_is_blamed_for_what_it_took_and_no_more(void **state)
{
	static const struct { enum span_id id; int lane, seq; int64_t t0[2], t1[2]; } rows[] = {
		{ SPAN_LOSS_ALLREDUCE, 0, 0, { 0, 0 }, { 10, 10 } },
		{ SPAN_LOAD, 0, 0, { 10, 10 }, { 20, 50 } },
		{ SPAN_BWD, 0, 0, { 20, 50 }, { 30, 60 } },
		{ SPAN_DRAIN, 0, 0, { 30, 60 }, { 85, 85 } },
		{ SPAN_ALLREDUCE, 1, 0, { 30, 60 }, { 70, 75 } },
		{ SPAN_ALLREDUCE, 1, 1, { 70, 75 }, { 85, 85 } },
	};
	struct job *j = job_new(2);

	(void)state;
	for (int r = 0; r < 2; r++)
		for (size_t i = 0; i < ARRAY_LEN(rows); i++)
			job_put(j, r, &(struct event){
				.t0 = rows[i].t0[r], .t1 = rows[i].t1[r], .name = rows[i].id, .seq = (uint32_t)rows[i].seq,
				.lane = (uint16_t)rows[i].lane, .cls = (uint8_t)span_rows[rows[i].id].cls,
				.kind = (uint8_t)span_rows[rows[i].id].kind });
	job_analyse(j);
	assert_int_equal(j->blame[0].wait_ns, 30 + 5);
	assert_int_equal(induced(j, 0, 1, CAUSE_loader), 30);
	assert_int_equal(induced(j, 0, 1, CAUSE_wire), 5);
	job_free(j);
}

/* Ranks 0 and 2 have a lane of their own, on which 2 waits for 0; then all wait for 2.  Rank 1 learns that it
 * was the loader of rank 0. */
static void a_wait_of_the_late_rank_itself_is_followed_to_the_root(void **state)
{
	static const struct { enum span_id id; int lane, seq; int64_t t0[3], t1[3]; } rows[] = {
		{ SPAN_LOSS_ALLREDUCE, 0, 0, { 0, 0, 0 }, { 10, 10, 10 } },
		{ SPAN_LOAD, 0, 0, { 10, 10, 10 }, { 90, 20, 20 } },
		{ SPAN_ALLREDUCE, 2, 0, { 90, 0, 20 }, { 92, -1, 92 } },
		{ SPAN_DRAIN, 0, 0, { 90, 20, 20 }, { 92, 20, 92 } },
		{ SPAN_FWD, 0, 0, { 92, 20, 92 }, { 96, 24, 100 } },
		{ SPAN_LOSS_ALLREDUCE, 0, 1, { 96, 24, 100 }, { 107, 107, 107 } },
	};
	struct job *j = job_new(3);
	int64_t chained = 0;

	(void)state;
	for (int r = 0; r < 3; r++)
		for (size_t i = 0; i < ARRAY_LEN(rows); i++)
			if (rows[i].t0[r] <= rows[i].t1[r])
				job_put(j, r, &(struct event){
					.t0 = rows[i].t0[r], .t1 = rows[i].t1[r], .name = rows[i].id, .seq = (uint32_t)rows[i].seq,
					.lane = (uint16_t)rows[i].lane, .cls = (uint8_t)span_rows[rows[i].id].cls,
					.kind = (uint8_t)span_rows[rows[i].id].kind });
	job_analyse(j);
	assert_int_equal(splits(j, SPLIT_CLOCKED), 3);
	assert_int_equal(induced(j, 2, 0, CAUSE_loader), 70);
	assert_int_equal(induced(j, 0, 2, CAUSE_compute), 4);
	/* Of the 76 that rank 1 waits, rank 2 itself made 4 by computing and 2 by moving. */
	assert_int_equal(j->blame[1].wait_ns, 76);
	assert_int_equal(induced(j, 1, 2, CAUSE_compute), 4);
	assert_int_equal(induced(j, 1, 2, CAUSE_wire), 2);
	assert_int_equal(induced(j, 1, 0, CAUSE_loader), 70);
	for (size_t i = 0; i < j->blame[1].origins.count; i++) {
		const struct origin *o = &j->blame[1].origins.at[i];

		if (o->length == 2 && o->chain[0] == 2 && o->chain[1] == 0)
			chained += o->ns;
	}
	assert_int_equal(chained, 70);
	job_free(j);
}

/* ---- clocks ---------------------------------------------------------------------------- */

static void without_a_common_clock_the_shortest_stay_tells_the_wait(void **state)
{
	struct job *j = job_new(4);

	(void)state;
	for (int r = 0; r < 4; r++) {
		j->group[r] = (uint32_t)r / 2;
		j->shift[r] = r / 2 ? 123456789 * MS : 0;
	}
	j->bound_ns = MATCH_UNALIGNED;
	j->late[j->late_count++] = (struct late){ SPAN_LOAD, 2, 3, 4, 30 * MS };
	job_run(j);
	/* Broadcasts have no clock-free estimate: 10 of them are unclear. */
	assert_int_equal(splits(j, SPLIT_UNCLEAR), 10);
	assert_int_equal(splits(j, SPLIT_CLOCK_FREE), 20);
	for (int r = 0; r < 4; r++) {
		assert_int_equal(j->blame[r].wait_ns, r == 2 ? 0 : 30 * MS);
		assert_int_equal(induced(j, r, 2, CAUSE_loader), r == 2 ? 0 : 30 * MS);
	}
	job_free(j);
}

static void clocks_of_known_bound_are_trusted_where_the_wait_is_longer(void **state)
{
	struct job *j = job_new(4);

	(void)state;
	for (int r = 0; r < 4; r++)
		j->group[r] = (uint32_t)r;
	j->bound_ns = 2 * MS;
	j->late[j->late_count++] = (struct late){ SPAN_FWD, 1, 0, 10, 30 * MS };
	job_run(j);
	assert_int_equal(splits(j, SPLIT_CLOCKED), 10);		/* the buckets; 4 ms are less than a fifth of 30 */
	assert_int_equal(splits(j, SPLIT_UNCLEAR), 10);		/* nobody waits in broadcasts; clocks cannot tell */
	assert_int_equal(splits(j, SPLIT_CLOCK_FREE), 10);
	assert_int_equal(induced(j, 0, 1, CAUSE_compute), 300 * MS);
	job_free(j);
}

static void what_contradicts_itself_or_is_not_on_all_ranks_is_unsplit_and_counted(void **state)
{
	struct job *j = job_new(3);
	struct event *gone;

	(void)state;
	made_run(&j->plan);
	for (size_t i = 0; i < j->records[1].event_count; i++) {
		struct event *e = &j->records[1].events[i];

		if (e->name == SPAN_ALLREDUCE && e->iter == 2) {	/* leaves long before anybody came */
			e->t0 -= 900 * MS;
			e->t1 -= 900 * MS;
		}
		if (e->name == SPAN_ALLREDUCE && e->iter == 3)
			e->arg++;	/* another number of bytes */
	}
	gone = &j->records[2].events[0];
	while (gone->name != SPAN_LOSS_ALLREDUCE || gone->iter != 4)
		gone++;
	*gone = (struct event){ .t0 = gone->t0, .t1 = gone->t0, .cls = CLS_ASIDE };
	job_analyse(j);
	assert_int_equal(splits(j, SPLIT_CONTRADICTION), 1);
	assert_int_equal(splits(j, SPLIT_UNMATCHED), 2);
	assert_int_equal(splits(j, SPLIT_CLOCKED), 27);
	for (int r = 0; r < 3; r++)
		assert_true(j->whole[r].parts_ns[CLS_COMM] > 0);
	job_free(j);
}

/* ---- identities ------------------------------------------------------------------------ */

/* As records have them: wait and wire are not. */
static uint8_t random_class(struct rng *rng)
{
	uint8_t cls = (uint8_t)rng_below(rng, CLS_UNATTRIBUTED);

	return cls == CLS_COMM_WAIT || cls == CLS_COMM_WIRE ? CLS_COMM : cls;
}

/* Events that no step would make: anything at any time, collectives that contradict each other. */
static void random_events(struct job *j, struct rng *rng)
{
	uint32_t collectives = rng_below(rng, 12);
	int64_t skew = rng_below(rng, 3) ? 40 : 400, offset = (int64_t)rng_below(rng, 400) - 200;
	double rate = rng_below(rng, 2) ? 0.2 * (rng_uniform(rng) - 0.5) : 0;

	for (int r = 0; r < j->plan.ranks; r++) {
		uint32_t seq[2] = { 0 };

		j->group[r] = rng_below(rng, 2);
		for (uint32_t i = 0; i < 40; i++) {
			int64_t t0 = rng_below(rng, 1200);

			job_put(j, r, &(struct event){ .t0 = t0, .t1 = t0 + rng_below(rng, 90), .name = SPAN_FWD,
				.cls = random_class(rng), .lane = (uint16_t)rng_below(rng, 3) });
		}
		for (uint32_t i = 0; i < collectives; i++) {
			uint32_t lane = i % 2, name = lane ? SPAN_ALLREDUCE : i % 4 ? SPAN_LOSS_ALLREDUCE : SPAN_BCAST_BN;
			int64_t t0 = 100 * i + rng_below(rng, (uint32_t)skew);

			if (rng_below(rng, 50) == 0)
				seq[lane]++;	/* dropped */
			job_put(j, r, &(struct event){ .t0 = t0, .t1 = t0 + rng_below(rng, 3) * 60 + rng_below(rng, 50),
				.name = name, .iter = i / 4, .lane = (uint16_t)lane, .seq = seq[lane]++,
				.kind = KIND_COLLECTIVE, .cls = CLS_COMM });
		}
		for (size_t i = 0; i < j->records[r].event_count && j->group[r]; i++) {	/* one clock is off and runs at another rate */
			struct event *e = &j->records[r].events[i];

			e->t0 += offset + (int64_t)floor(rate * (double)e->t0);
			e->t1 += offset + (int64_t)floor(rate * (double)e->t1);
		}
	}
}

static void identities_hold(const struct job *j, struct stay before[RANKS_MAX][64], const size_t before_count[RANKS_MAX])
{
	for (int r = 0; r < j->plan.ranks; r++) {
		const struct record *rec = &j->records[r];
		int64_t comm_ns = 0, stay_ns = 0, sum = 0;

		for (size_t i = 0; i < rec->event_count; i++)
			if (rec->events[i].kind == KIND_COLLECTIVE) {
				assert_true(rec->events[i].t1 >= rec->events[i].t0);
				comm_ns += rec->events[i].t1 - rec->events[i].t0;
			}
		for (size_t i = 0; i < before_count[r]; i++)
			stay_ns += before[r][i].end_ns - before[r][i].begin_ns;
		assert_true(comm_ns == stay_ns);		/* wait + wire (+ unsplit) == collective */
		assert_true(parts_sum_ns(j->whole[r].parts_ns) == account_ns(&j->whole[r]));
		for (size_t i = 0; i < j->blame[r].origins.count; i++) {
			assert_true(j->blame[r].origins.at[i].ns > 0);
			sum += j->blame[r].origins.at[i].ns;
		}
		assert_true(sum == j->blame[r].wait_ns);	/* induced == wait */
		assert_true(sum == j->whole[r].parts_ns[CLS_COMM_WAIT]);
	}
}

static void for_any_events_parts_are_wall_and_induced_is_wait_and_wait_and_wire_are_the_collective(void **state)
{
	enum { TRIALS = 1500 };
	static const int64_t bounds[] = { 0, 3, MATCH_UNALIGNED };
	size_t found[SPLIT_COUNT] = { 0 }, waits = 0;
	struct rng rng;

	(void)state;
	rng_init(&rng, 6, 4);
	for (int trial = 0; trial < TRIALS; trial++) {
		struct job *j = job_new(1 + (int)rng_below(&rng, RANKS_MAX));
		struct stay before[RANKS_MAX][64];
		size_t count[RANKS_MAX] = { 0 };

		random_events(j, &rng);
		j->bound_ns = bounds[rng_below(&rng, ARRAY_LEN(bounds))];
		if (rng_below(&rng, 2))
			memset(j->group, 0, sizeof(j->group));
		for (int r = 0; r < j->plan.ranks; r++)
			for (size_t i = 0; i < j->records[r].event_count; i++)
				if (j->records[r].events[i].kind == KIND_COLLECTIVE)
					before[r][count[r]++] = (struct stay){ j->records[r].events[i].t0,
									       j->records[r].events[i].t1 };
		job_analyse(j);
		identities_hold(j, before, count);
		for (int s = 0; s < SPLIT_COUNT; s++)
			found[s] += splits(j, (enum split)s);
		for (int r = 0; r < j->plan.ranks; r++)
			waits += j->blame[r].origins.count;
		job_free(j);
	}
	for (int s = 0; s < SPLIT_COUNT; s++)
		assert_true(found[s] > 50);	/* the trials reach every verdict */
	assert_true(waits > TRIALS);
}

/* The step itself with random delays of everybody, any number of buckets: the wait of each rank is that of the truth. */
static int64_t random_delay(const void *context, int rank, int iteration, enum span_id id)
{
	struct rng rng;

	(void)context;
	rng_init(&rng, (uint64_t)(id + 100 * iteration), (uint64_t)rank);
	return rng_below(&rng, 4) ? 0 : rng_below(&rng, 20 * MS);
}

static void with_random_delays_every_clocked_wait_is_blamed_on_somebody_else(void **state)
{
	(void)state;
	for (int buckets = 1; buckets < 6; buckets++) {
		struct job *j = job_new(5);

		j->plan.buckets = buckets;
		j->plan.delay = random_delay;
		job_run(j);
		assert_int_equal(splits(j, SPLIT_CLOCKED), j->match.count);
		for (int r = 0; r < 5; r++) {
			assert_true(j->blame[r].wait_ns > 0);
			assert_true(induced(j, r, r, -1) <= j->blame[r].wait_ns / 20);	/* by a chain back to itself */
			assert_true(induced(j, r, -1, CAUSE_unknown) == 0);
			assert_true(induced(j, r, -1, -1) == j->blame[r].wait_ns);
		}
		job_free(j);
	}
}

/* What a node's clock showed, and back: at comparisons that are wrong by their bound at most. */
struct node_clock {
	double offset_ns, rate;
	struct sync map;
};

static int64_t shows(const struct node_clock *c, int64_t ns)
{
	return ns + llrint(c->offset_ns + c->rate * (double)ns);
}

static void clock_make(struct node_clock *c, int node, int64_t end_ns, struct rng *rng)
{
	struct sync_point points[16];
	size_t n = 0;

	*c = (struct node_clock){ .offset_ns = node ? 2e10 * (rng_uniform(rng) - 0.5) : 0,
				  .rate = node ? 1e-4 * (rng_uniform(rng) - 0.5) : 0 };
	for (int64_t ns = 0; n < ARRAY_LEN(points); ns += end_ns / (ARRAY_LEN(points) - 2)) {
		int64_t bound_ns = node ? 1 + rng_below(rng, 5000) : 0;

		points[n++] = (struct sync_point){
			.local_ns = shows(c, ns), .ref_ns = ns + (node ? (int64_t)rng_below(rng, 2 * (uint32_t)bound_ns + 1) - bound_ns : 0),
			.bound_ns = bound_ns, .rate = -c->rate, .rate_bound = 1e-7, .leader = (uint32_t)node, .hops = node > 0,
			.exchanges = 10, .round_trip_ns = 9000 };
	}
	assert_int_equal(sync_init(&c->map, points, n), OK);
	assert_int_equal(c->map.left_out + c->map.jumps, 0);
}

/* A job as its ranks' clocks show it, brought to one time by their comparisons: the identities hold, and each clocked wait
 * is that of the job itself, within the bound that the collective has. */
static void with_random_offsets_and_drifts_waits_are_true_within_their_bounds(void **state)
{
	enum { TRIALS = 60, NODES = 3 };
	size_t clocked = 0, bounded = 0;
	struct rng rng;

	(void)state;
	rng_init(&rng, 12, 5);
	for (int trial = 0; trial < TRIALS; trial++) {
		int ranks = 2 + (int)rng_below(&rng, RANKS_MAX - 1);
		struct job *truth = job_new(ranks), *j = job_new(ranks);
		struct stay before[RANKS_MAX][64];
		size_t count[RANKS_MAX] = { 0 };
		struct node_clock clocks[NODES];

		truth->plan.buckets = j->plan.buckets = 1 + (int)rng_below(&rng, 3);
		truth->plan.no_overlap = j->plan.no_overlap = rng_below(&rng, 2);
		truth->plan.delay = j->plan.delay = random_delay;
		job_run(truth);
		made_run(&j->plan);
		for (int n = 0; n < NODES; n++)
			clock_make(&clocks[n], n, 4000 * MS, &rng);
		for (int r = 0; r < ranks; r++) {
			const struct node_clock *c = &clocks[r % NODES];

			j->group[r] = (uint32_t)(r % NODES);
			for (size_t i = 0; i < j->records[r].event_count; i++) {
				struct event *e = &j->records[r].events[i];
				int64_t local[] = { shows(c, e->t0), shows(c, e->t1) };
				int64_t bound_ns = sync_bound_ns(&c->map, local[1]);

				e->t0 = sync_ref_ns(&c->map, local[0]);
				e->t1 = sync_ref_ns(&c->map, local[1]);
				j->bound_ns = bound_ns > j->bound_ns ? bound_ns : j->bound_ns;
				if (e->kind == KIND_COLLECTIVE)
					before[r][count[r]++] = (struct stay){ e->t0, e->t1 };
			}
		}
		job_analyse(j);
		identities_hold(j, before, count);
		assert_int_equal(j->match.count, truth->match.count);
		for (size_t k = 0; k < j->match.count; k++) {
			const struct collective *c = &j->match.list[k];

			clocked += c->split == SPLIT_CLOCKED;
			for (int r = 0; r < ranks && c->split == SPLIT_CLOCKED && c->root == c->last; r++) {
				int64_t wait_ns = match_wait_ns(&truth->match, &truth->match.list[k], (size_t)r);

				assert_true(llabs(match_wait_ns(&j->match, c, (size_t)r) - wait_ns) <= c->bound_ns + 4);
				bounded++;
			}
		}
		for (int n = 0; n < NODES; n++)
			sync_release(&clocks[n].map);
		job_free(truth);
		job_free(j);
	}
	assert_true(clocked > 10 * TRIALS && bounded > 20 * TRIALS);
}

static void shares_sum_to_the_whole(void **state)
{
	struct rng rng;

	(void)state;
	rng_init(&rng, 3, 3);
	for (int trial = 0; trial < 2000; trial++) {
		int64_t weights[9], shares[9], sum = 0, weight = 0, total = rng_u32(&rng) * (int64_t)rng_below(&rng, 1 << 20);
		size_t n = 1 + rng_below(&rng, 9);

		for (size_t i = 0; i < n; i++)
			weight += weights[i] = rng_below(&rng, 3) ? (int64_t)rng_u32(&rng) << rng_below(&rng, 30) : 0;
		apportion(total, weights, n, shares);
		for (size_t i = 0; i < n; i++) {
			assert_true(shares[i] >= 0 && (weights[i] || !shares[i]));
			assert_true(!weight || fabs((double)shares[i] - (double)total * (double)weights[i] / (double)weight) <
					       1.5 + 1e-12 * (double)total);
			sum += shares[i];
		}
		assert_true(sum == (weight ? total : 0));
	}
}

/* ---- persistently or by chance --------------------------------------------------------- */

static void a_rank_is_persistently_late_when_chance_would_not_do_it(void **state)
{
	bool first[10] = { 0 };

	(void)state;
	assert_true(fabs(binomial_tail(10, 3, 0.5) - 0.9453125) < 1e-12);
	assert_true(fabs(binomial_tail(4, 4, 0.25) - 1.0 / 256) < 1e-15);
	assert_true(binomial_tail(7, 0, 0.3) == 1);
	first[0] = first[5] = true;
	for (int often = 0; often < 2; often++) {
		struct job *j = job_new(4);
		struct waits w;

		j->late[j->late_count++] = (struct late){ SPAN_LOAD, 1, 0, often ? 10 : 4, 30 * MS };
		j->late[j->late_count++] = (struct late){ SPAN_FWD, 2, 4, often ? 4 : 7, 30 * MS };
		j->late[j->late_count++] = (struct late){ SPAN_FWD, 3, 7, often ? 7 : 10, 30 * MS };
		job_run(j);
		assert_int_equal(waits_open(&w, 4), OK);
		assert_int_equal(waits_judge(&w, &j->match, first, 10), OK);
		for (size_t r = 0; r < 4; r++)
			assert_int_equal(waits_add(&w, r, &j->blame[r]), OK);
		waits_sort(&w);
		assert_int_equal(w.judged, 10);
		assert_int_equal(w.judged_first, 2);
		assert_int_equal(w.late[1].times, often ? 10 : 4);
		assert_int_equal(w.late[1].times_first, often ? 2 : 1);
		assert_int_equal(w.late[1].verdict, often ? LATE_PERSISTENTLY : LATE_BY_CHANCE);
		assert_false(w.late[0].verdict || w.late[2].verdict || w.late[3].verdict);
		assert_int_equal(w.late[1].induced_ns[CAUSE_loader], 3 * (often ? 10 : 4) * 30 * MS);
		assert_int_equal(w.wait_ns, 3 * 10 * 30 * MS);
		assert_int_equal(w.induced_ns[CAUSE_loader] + w.induced_ns[CAUSE_compute], w.wait_ns);
		assert_int_equal(w.calls[SPAN_ALLREDUCE].calls, 10);
		assert_int_equal(w.calls[SPAN_ALLREDUCE].wait_ns, 3 * 10 * 30 * MS);
		assert_int_equal(w.calls[SPAN_ALLREDUCE].wire_ns, 4 * 10 * 8 * MS);
		assert_true(w.calls[SPAN_ALLREDUCE].late_ns.median == 30.0 * MS);
		assert_true(w.pairs[0].origin.ns >= w.pairs[w.pair_count - 1].origin.ns);
		waits_release(&w);
		job_free(j);
	}
}

static void a_rank_that_is_late_only_when_epochs_begin_is_told_from_a_persistent_one(void **state)
{
	struct lateness starts = { .times = 10, .times_first = 10 }, always = { .times = 60, .times_first = 1 };

	(void)state;
	lateness_judge(&starts, 1000, 10, 64);
	lateness_judge(&always, 1000, 10, 64);
	assert_int_equal(starts.verdict, LATE_AT_STARTS);
	assert_int_equal(always.verdict, LATE_PERSISTENTLY);
}

/* One run in a hundred may raise an alarm when all ranks are alike: here 2 of 400 do. */
static void ranks_that_are_alike_are_hardly_ever_called_persistent(void **state)
{
	enum { RUNS = 400, ALIKE = 16, ITERATIONS = 500 };
	struct rng rng;
	int alarms = 0;

	(void)state;
	rng_init(&rng, 8, 8);
	for (int run = 0; run < RUNS; run++) {
		struct lateness late[ALIKE] = { 0 };
		bool alarm = false;

		for (int i = 0; i < ITERATIONS; i++) {
			struct lateness *l = &late[rng_below(&rng, ALIKE)];

			l->times++;
			l->times_first += i % 50 == 0;
		}
		for (int r = 0; r < ALIKE; r++) {
			lateness_judge(&late[r], ITERATIONS, ITERATIONS / 50, ALIKE);
			alarm |= late[r].verdict != LATE_BY_CHANCE;
		}
		alarms += alarm;
	}
	assert_in_range(alarms, 0, 8);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_delay_comes_back_as_wait_of_the_others_blamed_on_its_rank_and_phase),
		cmocka_unit_test(a_slow_boundary_of_one_rank_is_blamed_as_boundary),
		cmocka_unit_test(a_slow_network_is_wire_and_nobody_waits),
		cmocka_unit_test(buckets_that_queue_behind_a_late_rank_are_blamed_on_what_made_it_late),
		cmocka_unit_test(two_late_ranks_are_told_apart),
		cmocka_unit_test(the_example_of_the_readme_is_true),
		cmocka_unit_test(the_example_of_the_readme_with_overlap_is_true),
		cmocka_unit_test(what_was_waited_for_once_is_not_blamed_again),
		cmocka_unit_test(a_cause_is_blamed_for_what_it_took_and_no_more),
		cmocka_unit_test(a_wait_of_the_late_rank_itself_is_followed_to_the_root),
		cmocka_unit_test(without_a_common_clock_the_shortest_stay_tells_the_wait),
		cmocka_unit_test(clocks_of_known_bound_are_trusted_where_the_wait_is_longer),
		cmocka_unit_test(what_contradicts_itself_or_is_not_on_all_ranks_is_unsplit_and_counted),
		cmocka_unit_test(for_any_events_parts_are_wall_and_induced_is_wait_and_wait_and_wire_are_the_collective),
		cmocka_unit_test(with_random_delays_every_clocked_wait_is_blamed_on_somebody_else),
		cmocka_unit_test(with_random_offsets_and_drifts_waits_are_true_within_their_bounds),
		cmocka_unit_test(shares_sum_to_the_whole),
		cmocka_unit_test(a_rank_is_persistently_late_when_chance_would_not_do_it),
		cmocka_unit_test(a_rank_that_is_late_only_when_epochs_begin_is_told_from_a_persistent_one),
		cmocka_unit_test(ranks_that_are_alike_are_hardly_ever_called_persistent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
