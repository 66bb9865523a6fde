/*
 * tests/ranks_clock.c - run under mpirun by test_clock: ranks of one host that believe in clocks of
 * their own, up to 10 s apart and 100 ppm against each other, find out how these stand.
 *
 *	ranks_clock POINTS SECONDS FAN skip|sleep
 *
 * The host's clock is the truth, so a rank's clock is a function of it and every error can be
 * computed afterwards, at any moment.  POINTS are taken over SECONDS.  With `skip` the truth
 * leaps over the time between two points, in which no rank looks at a clock; with `sleep` it
 * passes.  The points go through a record file on their way.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/record.h"
#include "bench/base/rng.h"
#include "comm/clock.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOKS = 20000 };

struct own_clock {
	int64_t offset_ns;
	double drift;
};
static int64_t skipped_ns;

static struct own_clock own_clock_of(size_t rank)
{
	struct rng r;

	rng_init(&r, 3, rank);
	return (struct own_clock){ (int64_t)(10e9 * (2 * rng_uniform(&r) - 1)), 50e-6 * (rank % 2 ? 1 : -1) };
}

static int64_t shows(struct own_clock c, int64_t truth_ns)
{
	return truth_ns + c.offset_ns + llrint(c.drift * (double)truth_ns);
}

static int64_t truth_ns(void)
{
	return (int64_t)clock_ns() + skipped_ns;
}

static uint64_t own_now_ns(void *arg)
{
	return (uint64_t)shows(*(struct own_clock *)arg, truth_ns());
}

static int write_points(struct comm *c, struct own_clock *own, const char *path, size_t points, double seconds,
			size_t fan, bool skip)
{
	static const char *const lanes[] = { "train" };
	int64_t step_ns = (int64_t)(seconds * 1e9 / (double)(points - 1));
	struct comm_clock_source source = { .now_ns = own_now_ns, .arg = own, .per_rank = true, .fan = fan };
	cJSON *none = cJSON_CreateObject();
	struct comm_clock *clock = NULL;
	struct recorder *r = NULL;
	int rc = comm_clock_open(&clock, c, &source), closed;

	if (!rc)
		rc = recorder_open(&r, path, none, lanes, 1, 64);
	for (size_t i = 0; i < points && !rc; i++) {
		struct sync_point p;

		if (i && skip)
			skipped_ns += step_ns;
		else if (i)
			clock_sleep_ns((uint64_t)step_ns);
		span_begin(recorder_lane(r, 0), SPAN_CLOCK_SYNC, 0);
		rc = comm_clock_sync(clock, &p);
		span_end(recorder_lane(r, 0));
		if (!rc)
			rc = recorder_sync(r, &p);
	}
	closed = recorder_close(r, none);
	comm_clock_close(clock);
	cJSON_Delete(none);
	return rc ? rc : closed;
}

/* Judges the map from the first point to the last and a tenth beyond, as in a run that was killed. */
static int judge(struct comm *c, struct own_clock own, const struct record *r, size_t points)
{
	struct own_clock reference = own_clock_of(0);
	int64_t worst_ns = 0, widest_ns = 0, begin_ns, length_ns, spent_ns = INT64_MAX;
	size_t violations = 0;
	struct sync s;

	if (r->sync_count != points)
		return err(FAILED, "%zu of %zu points in the record", r->sync_count, points);
	if (sync_init(&s, r->syncs, r->sync_count))
		return NO_MEMORY;
	if (s.left_out || s.jumps)
		return err(FAILED, "%zu points left out, %zu jumps", s.left_out, s.jumps);
	begin_ns = (int64_t)((double)(s.points[0].local_ns - own.offset_ns) / (1 + own.drift));
	length_ns = s.points[s.count - 1].local_ns - s.points[0].local_ns;
	for (int64_t i = 0; i <= LOOKS + LOOKS / 10; i++) {
		int64_t truth = begin_ns + length_ns / LOOKS * i, local_ns = shows(own, truth);
		int64_t error_ns = llabs(sync_ref_ns(&s, local_ns) - shows(reference, truth));
		int64_t bound_ns = sync_bound_ns(&s, local_ns);

		violations += error_ns > bound_ns;
		if (i > LOOKS)
			continue;
		worst_ns = error_ns > worst_ns ? error_ns : worst_ns;
		widest_ns = bound_ns > widest_ns ? bound_ns : widest_ns;
	}
	for (size_t i = 0; i < r->event_count; i++)
		if (r->events[i].t1 - r->events[i].t0 < spent_ns)
			spent_ns = r->events[i].t1 - r->events[i].t0;
	printf("rank %zu: offset %+.3f s, drift %+.0f ppm, %" PRIu32 " hops, round trip %" PRIu32 " ns, bound at points "
	       "%" PRId64 " ns; over %.1f s: error %" PRId64 " ns, bound %" PRId64 " ns, violations %zu; a sync %.1f ms\n",
	       c->rank, (double)own.offset_ns / 1e9, own.drift * 1e6, s.points[s.count - 1].hops,
	       s.points[s.count - 1].round_trip_ns, s.points[s.count - 1].bound_ns, (double)length_ns / 1e9, worst_ns,
	       widest_ns, violations, (double)spent_ns / 1e6);
	sync_release(&s);
	if (violations)
		return err(FAILED, "the bound was violated %zu times", violations);
	return worst_ns < 5000 ? OK : err(BELOW, "an error of %" PRId64 " ns", worst_ns);
}

int main(int argc, char **argv)
{
	char path[PATH_BYTES];
	struct own_clock own;
	struct record r;
	struct comm *c;
	float failed;
	int rc;

	clock_init();
	if (argc != 5 || comm_backend_find("mpi")->open(&c, NULL))
		return 2;
	err_rank((int)c->rank);
	own = own_clock_of(c->rank);
	rc = path_make(path, "/tmp/sfscale-clock-%d.sfr", (int)getpid());
	if (!rc)
		rc = write_points(c, &own, path, strtoul(argv[1], NULL, 10), strtod(argv[2], NULL),
				  strtoul(argv[3], NULL, 10), !strcmp(argv[4], "skip"));
	if (!rc)
		rc = record_read(path, &r);
	if (!rc) {
		rc = judge(c, own, &r, strtoul(argv[1], NULL, 10));
		record_release(&r);
	}
	unlink(path);
	/* A violation on any rank is everybody's, whichever rank mpirun hears first. */
	failed = rc && rc != BELOW;
	if (c->backend->sum(c, &failed, 1) || failed > 0)
		rc = FAILED;
	c->backend->close(c);
	return rc_exit(rc);
}
