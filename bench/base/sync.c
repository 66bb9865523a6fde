/*
 * bench/base/sync.c - see sync.h.
 *
 * Points come from a file and are checked before they are trusted: times within +-TIME_MAX keep
 * every sum below inside 63 bits.  Rates are small, so a double holds rate * distance to the
 * nanosecond for distances of a week and more; the distance itself stays an integer.
 */
#include "bench/base/sync.h"

#include "bench/base/err.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#define TIME_MAX (INT64_C(1) << 60)	/* 36 years since boot */

static int64_t clamp(int64_t ns)
{
	return ns > TIME_MAX ? TIME_MAX : ns < -TIME_MAX ? -TIME_MAX : ns;
}

static bool believable(const struct sync_point *p)
{
	return clamp(p->local_ns) == p->local_ns && clamp(p->ref_ns) == p->ref_ns && p->bound_ns >= 0 &&
	       p->bound_ns <= TIME_MAX && fabs(p->rate) <= SYNC_RATE_MAX && p->rate_bound >= 0 &&
	       p->rate_bound <= 2 * SYNC_RATE_MAX;
}

static bool is_reference(const struct sync *s)
{
	return s->count && s->points[0].hops == 0;
}

/* Of the segment that begins with point p: its length, mean rate, and what the bounds of its ends
 * leave open of that. */
static double length_of(const struct sync_point *p)
{
	return (double)(p[1].local_ns - p[0].local_ns);
}

static double rate_of(const struct sync_point *p)
{
	return (double)((p[1].ref_ns - p[0].ref_ns) - (p[1].local_ns - p[0].local_ns)) / length_of(p);
}

static double rate_error_of(const struct sync_point *p)
{
	return (double)(p[0].bound_ns + p[1].bound_ns) / length_of(p);
}

static bool jumps(const struct sync_point *p)
{
	return fabs(rate_of(p)) > SYNC_RATE_MAX + rate_error_of(p);
}

static double find_wander(const struct sync *s)
{
	double wander = SYNC_WANDER;

	for (const struct sync_point *p = s->points; p + 2 < s->points + s->count; p++) {
		double change = fabs(rate_of(p + 1) - rate_of(p)) - rate_error_of(p) - rate_error_of(p + 1);

		if (change > wander && !jumps(p) && !jumps(p + 1))
			wander = change;
	}
	return wander;
}

int sync_init(struct sync *s, const struct sync_point *points, size_t count)
{
	*s = (struct sync){ .points = malloc((count + 1) * sizeof(*points)), .wander = SYNC_WANDER };
	if (!s->points)
		return err(NO_MEMORY, "no memory for %zu sync points", count);
	for (size_t i = 0; i < count; i++) {
		const struct sync_point *last = s->count ? &s->points[s->count - 1] : NULL;

		if (believable(&points[i]) && (!last || (points[i].local_ns > last->local_ns &&
							 points[i].leader == last->leader)))
			s->points[s->count++] = points[i];
		else
			s->left_out++;
	}
	for (size_t i = 0; i + 1 < s->count; i++)
		s->jumps += jumps(&s->points[i]);
	s->wander = find_wander(s);
	return OK;
}

void sync_release(struct sync *s)
{
	free(s->points);
	*s = (struct sync){ 0 };
}

/* The last point at or before `local_ns`, the first if there is none. */
static size_t segment(const struct sync *s, int64_t local_ns)
{
	size_t low = 0, high = s->count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (s->points[middle].local_ns <= local_ns)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static bool outside(const struct sync *s, size_t i, int64_t local_ns)
{
	return i + 1 == s->count || local_ns < s->points[i].local_ns;
}

int64_t sync_ref_ns(const struct sync *s, int64_t local_ns)
{
	const struct sync_point *p;
	int64_t distance;
	size_t i;

	if (!s->count || is_reference(s))
		return local_ns;
	local_ns = clamp(local_ns);
	i = segment(s, local_ns);
	p = &s->points[i];
	distance = local_ns - p->local_ns;
	return p->ref_ns + distance + llrint((outside(s, i, local_ns) ? p->rate : rate_of(p)) * (double)distance);
}

int64_t sync_bound_ns(const struct sync *s, int64_t local_ns)
{
	const struct sync_point *p;
	double distance, rest;
	size_t i;

	if (!s->count)
		return SYNC_UNKNOWN;
	if (is_reference(s))
		return 0;
	local_ns = clamp(local_ns);
	i = segment(s, local_ns);
	p = &s->points[i];
	distance = fabs((double)(local_ns - p->local_ns));
	if (outside(s, i, local_ns))
		return p->bound_ns + (int64_t)ceil((p->rate_bound + 2 * s->wander) * distance) + 1;
	if (jumps(p))
		return distance > 0 ? SYNC_UNKNOWN : p->bound_ns;
	rest = length_of(p) - distance;
	return (int64_t)ceil(((double)p[0].bound_ns * rest + (double)p[1].bound_ns * distance) / length_of(p) +
			     s->wander * fmin(distance, rest)) + 1;
}

/* What is open of the rate in segment i, or behind the last point. */
static double rate_error(const struct sync *s, size_t i)
{
	if (i + 1 == s->count)
		return s->points[i].rate_bound + 2 * s->wander;
	return jumps(&s->points[i]) ? INFINITY : rate_error_of(&s->points[i]) + s->wander;
}

int64_t sync_apart_bound_ns(const struct sync *a, int64_t a_ns, const struct sync *b, int64_t b_ns)
{
	int64_t a_bound = sync_bound_ns(a, a_ns), b_bound = sync_bound_ns(b, b_ns), sum;
	double rate = 0, apart;

	if (a_bound == SYNC_UNKNOWN || b_bound == SYNC_UNKNOWN)
		sum = SYNC_UNKNOWN;
	else
		sum = a_bound + b_bound;
	if (!a->count || !b->count || a->points[0].leader != b->points[0].leader || is_reference(a))
		return sum;
	a_ns = clamp(a_ns);
	b_ns = clamp(b_ns);
	for (size_t i = segment(a, a_ns < b_ns ? a_ns : b_ns); i <= segment(a, a_ns < b_ns ? b_ns : a_ns); i++)
		rate = fmax(rate, rate_error(a, i));
	apart = ceil(fabs((double)(a_ns - b_ns)) * rate) + 1;
	return apart < (double)sum ? (int64_t)apart : sum;
}
