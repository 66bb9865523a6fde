/*
 * report/match.c - see match.h.
 *
 * The key is (lane, seq): the k-th collective of a lane is the same one on all ranks, because all
 * ranks execute one step table.  Name, bytes and iteration must agree, or the key lied.
 *
 * One contradiction needs no second estimate: nobody can leave a symmetric collective before the
 * last rank has entered it.  It is looked for inside each group of ranks with one clock, and
 * over all groups where their clocks are aligned.
 */
#include "report/match.h"

#include "bench/base/err.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const char *const split_names[SPLIT_COUNT] = {
	[SPLIT_CLOCKED] = "clocked",
	[SPLIT_CLOCK_FREE] = "clock-free",
	[SPLIT_UNMATCHED] = "unmatched",
	[SPLIT_CONTRADICTION] = "contradiction",
	[SPLIT_UNCLEAR] = "unclear",
};

enum { ROOT = 0, LANE_TRAINING = 0 };	/* bench/base/folder.h */

/* A broadcast has a root; every other collective here is symmetric. */
static bool is_rooted(const struct collective *c)
{
	return c->name == SPAN_BCAST_BN;
}

int match_open(struct match *m, size_t ranks)
{
	*m = (struct match){ .ranks = ranks, .strips = calloc(ranks + 1, sizeof(*m->strips)) };
	return m->strips ? OK : err(NO_MEMORY, "no memory for %zu ranks", ranks);
}

void match_release(struct match *m)
{
	for (size_t r = 0; m->strips && r < m->ranks; r++)
		for (int l = 0; l < MATCH_LANES; l++)
			free(m->strips[r].at[l]);
	for (int l = 0; l < MATCH_LANES; l++)
		free(m->known[l]);
	free(m->strips);
	free(m->list);
	free(m->order);
	*m = (struct match){ 0 };
}

/* ---- collecting ------------------------------------------------------------------------ */

/* A seq counts collectives of a record, dropped ones too; more than there are events by far is damage. */
static bool is_key(const struct event *e, size_t event_count)
{
	return e->lane < MATCH_LANES && e->seq <= 2 * event_count + 4096;
}

static int strip_room(struct match *m, struct strip *s, const size_t need[MATCH_LANES])
{
	for (int l = 0; l < MATCH_LANES; l++) {
		if (!need[l])
			continue;
		s->at[l] = malloc(need[l] * sizeof(*s->at[l]));
		if (!s->at[l])
			return err(NO_MEMORY, "no memory for %zu collectives", need[l]);
		for (size_t i = 0; i < need[l]; i++)
			s->at[l][i] = (struct stay){ 0, -1 };
		s->count[l] = need[l];
		if (need[l] > m->room[l]) {
			struct collective *more = realloc(m->known[l], need[l] * sizeof(*more));

			if (!more)
				return err(NO_MEMORY, "no memory for %zu collectives", need[l]);
			for (size_t i = m->room[l]; i < need[l]; i++)
				more[i] = (struct collective){ .name = SPAN_COUNT, .lane = (uint16_t)l,
							       .seq = (uint32_t)i, .sync = NO_COLLECTIVE, .rooted = NO_COLLECTIVE };
			m->known[l] = more;
			m->room[l] = need[l];
		}
	}
	return OK;
}

int match_add(struct match *m, size_t rank, const struct event *events, size_t count, struct match_clock clock)
{
	struct strip *s = &m->strips[rank];
	size_t need[MATCH_LANES] = { 0 };
	int rc;

	for (size_t i = 0; i < count; i++)
		if (events[i].kind == KIND_COLLECTIVE && is_key(&events[i], count) &&
		    events[i].seq >= need[events[i].lane])
			need[events[i].lane] = (size_t)events[i].seq + 1;
	rc = strip_room(m, s, need);
	m->added++;
	s->clock = clock;
	m->device_ns = clock.device_ns > m->device_ns ? clock.device_ns : m->device_ns;
	for (size_t i = 0; i < count && !rc; i++) {
		const struct event *e = &events[i];
		struct collective *c;

		m->ahead |= e->lane == LANE_TRAINING && e->cls == CLS_LAUNCH;
		if (e->kind != KIND_COLLECTIVE)
			continue;
		if (!is_key(e, count)) {
			m->left_out++;
			continue;
		}
		c = &m->known[e->lane][e->seq];
		if (c->name == SPAN_COUNT) {
			c->name = e->name;
			c->bytes = e->arg;
			c->iter = e->iter;
		}
		c->other |= c->name != e->name || c->bytes != e->arg || c->iter != e->iter || e->t1 < e->t0 ||
			    (e->flags & EVENT_CLIPPED) || s->at[e->lane][e->seq].begin_ns <= s->at[e->lane][e->seq].end_ns;
		s->at[e->lane][e->seq] = (struct stay){ e->t0, e->t1 };
	}
	return rc;
}

const struct collective *match_find(const struct match *m, const struct event *e)
{
	size_t lane = e->lane;

	if (e->kind != KIND_COLLECTIVE || lane >= MATCH_LANES || e->seq >= m->first[lane + 1] - m->first[lane])
		return NULL;
	return &m->list[m->first[lane] + e->seq];
}

/* ---- splitting ------------------------------------------------------------------------- */

/* Of one collective over its ranks. */
struct view {
	int64_t last_ns, second_ns, first_ns;	/* arrivals; second: of the one before the last */
	int64_t left_ns;			/* the first to leave */
	int64_t stay_ns;			/* shortest */
	int64_t skew_ns;			/* between ends that one clock stamped */
	int64_t bound_ns;			/* between clocks; MATCH_UNALIGNED */
	uint32_t last, shortest;
	bool whole, alone, one_clock, left_early;
};

/* The groups of ranks lie together or not: a group's extremes are gathered by its number. */
struct extremes {
	int64_t last_ns, left_ns, end_ns;
	uint32_t collective;	/* that they are of, plus 1: no clearing between two */
};

static int64_t device_ns(const struct match *m, size_t lane)
{
	return m->ahead && lane != LANE_TRAINING ? 2 * m->device_ns : 0;
}

int64_t match_stamp_ns(const struct match *m, size_t lane)
{
	return MATCH_STAMP_NS + device_ns(m, lane);
}

static void look(const struct match *m, const struct collective *c, struct extremes *groups, struct view *v)
{
	const int64_t apart_ns = match_stamp_ns(m, c->lane);
	uint32_t stamp = match_index(m, c) + 1, group = 0;
	size_t members = 0;

	*v = (struct view){ .last_ns = INT64_MIN, .second_ns = INT64_MIN, .first_ns = INT64_MAX, .left_ns = INT64_MAX,
			    .stay_ns = INT64_MAX, .whole = true, .one_clock = true };
	for (size_t r = 0; r < m->ranks; r++) {
		struct stay s = match_stay(m, c, r);
		struct match_clock clock = m->strips[r].clock;
		struct extremes *g = &groups[clock.group];

		if (!match_member(m, c->lane, r))
			continue;
		members++;
		group = members == 1 ? clock.group : group;

		if (s.end_ns < s.begin_ns) {
			v->whole = false;
			return;
		}
		if (s.begin_ns > v->last_ns) {
			v->second_ns = v->last_ns;
			v->last_ns = s.begin_ns;
			v->last = (uint32_t)r;
		} else if (s.begin_ns > v->second_ns) {
			v->second_ns = s.begin_ns;
		}
		v->first_ns = s.begin_ns < v->first_ns ? s.begin_ns : v->first_ns;
		v->left_ns = s.end_ns < v->left_ns ? s.end_ns : v->left_ns;
		if (s.end_ns - s.begin_ns < v->stay_ns) {
			v->stay_ns = s.end_ns - s.begin_ns;
			v->shortest = (uint32_t)r;
		}
		v->one_clock &= clock.group == group;
		if (clock.bound_ns > v->bound_ns)
			v->bound_ns = clock.bound_ns;
		if (g->collective != stamp)
			*g = (struct extremes){ s.begin_ns, s.end_ns, s.end_ns, stamp };
		g->last_ns = s.begin_ns > g->last_ns ? s.begin_ns : g->last_ns;
		g->left_ns = s.end_ns < g->left_ns ? s.end_ns : g->left_ns;
		g->end_ns = s.end_ns > g->end_ns ? s.end_ns : g->end_ns;
		v->left_early |= g->left_ns + apart_ns < g->last_ns;
		if (g->end_ns - g->left_ns > v->skew_ns)
			v->skew_ns = g->end_ns - g->left_ns;
	}
	v->whole &= m->whole;
	v->alone = members == 1;
	if (v->one_clock)
		v->bound_ns = 0;
	else if (v->bound_ns != MATCH_UNALIGNED)
		v->bound_ns *= 2;	/* two clocks, each wrong by its bound */
	if (v->bound_ns != MATCH_UNALIGNED && !v->alone)
		v->bound_ns += device_ns(m, c->lane);
}

/* Whether each rank's clock-free wait is possible by what the ranks of its own clock saw. */
static bool estimates_meet(const struct match *m, const struct collective *c, const struct extremes *groups,
			   const struct view *v)
{
	for (size_t r = 0; r < m->ranks; r++) {
		struct stay s = match_stay(m, c, r);
		const struct extremes *g = &groups[m->strips[r].clock.group];
		int64_t wait = s.end_ns - s.begin_ns - v->stay_ns;

		if (match_member(m, c->lane, r) && (wait + v->skew_ns < g->last_ns - s.begin_ns || wait - v->skew_ns > g->left_ns - s.begin_ns))
			return false;
	}
	return true;
}

static void split(const struct match *m, struct collective *c, struct extremes *groups)
{
	bool rooted = is_rooted(c), clocked;
	struct view v;

	look(m, c, groups, &v);
	if (c->other || !v.whole || (rooted && !match_member(m, c->lane, ROOT))) {
		c->split = SPLIT_UNMATCHED;
		return;
	}
	clocked = v.bound_ns != MATCH_UNALIGNED &&
		  (double)v.bound_ns <= MATCH_BOUND_SHARE * (double)(v.last_ns - v.first_ns);
	c->last = v.last;
	c->late_ns = v.alone ? 0 : v.last_ns - v.second_ns;
	c->bound_ns = v.bound_ns;
	if (!rooted && (v.left_early || (v.bound_ns != MATCH_UNALIGNED &&
					 v.left_ns + v.bound_ns + MATCH_STAMP_NS < v.last_ns))) {
		c->split = SPLIT_CONTRADICTION;
	} else if (clocked || v.one_clock) {
		c->split = SPLIT_CLOCKED;
		c->root = rooted ? ROOT : v.last;
		c->last_ns = v.last_ns;
		c->root_ns = match_stay(m, c, c->root).begin_ns;
	} else if (rooted) {
		c->split = SPLIT_UNCLEAR;
	} else if (!estimates_meet(m, c, groups, &v)) {
		c->split = SPLIT_CONTRADICTION;
	} else {
		c->split = SPLIT_CLOCK_FREE;
		c->last = c->root = v.shortest;
		c->last_ns = v.stay_ns;
		c->bound_ns = v.skew_ns;
		c->late_ns = 0;		/* after whom, no clock says */
	}
}

int64_t match_wait_ns(const struct match *m, const struct collective *c, size_t rank)
{
	struct stay s = match_stay(m, c, rank);
	int64_t stay = s.end_ns - s.begin_ns, wait;

	if (c->split == SPLIT_CLOCK_FREE)
		wait = stay - c->last_ns;
	else
		wait = (match_awaited(m, c, rank) == c->last ? c->last_ns : c->root_ns) - s.begin_ns;

	return wait < 0 ? 0 : wait > stay ? stay : wait;
}

bool match_moves_ns(const struct match *m, size_t rank, const struct event *e, int64_t *at_ns)
{
	const struct collective *c = match_find(m, e);

	if (!c || !match_is_split(c))
		return false;
	*at_ns = e->t0 + match_wait_ns(m, c, rank);
	return true;
}

/* ---- order ----------------------------------------------------------------------------- */

struct begun {
	int64_t at_ns;
	uint32_t index;
};

static int by_begin(const void *a, const void *b)
{
	const struct begun *x = a, *y = b;

	if (x->at_ns != y->at_ns)
		return x->at_ns < y->at_ns ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

static bool lane_covers(const struct match *m, int lane, int other)
{
	for (size_t r = 0; r < m->ranks; r++)
		if (match_member(m, (size_t)other, r) && !match_member(m, (size_t)lane, r))
			return false;
	return true;
}

static size_t first_member(const struct match *m, size_t lane)
{
	size_t r = 0;

	while (r < m->ranks && !match_member(m, lane, r))
		r++;
	return r;
}

/* Whether one of these two of an iteration cannot have held who came to the other: buckets run beside the training thread, which joins
 * them at the end of the iteration; or, where it runs ahead of the device, does not, and averages the loss beside them. */
static bool is_beside(const struct match *m, const struct collective *a, const struct collective *b)
{
	if (a->iter != b->iter)
		return false;
	if (a->lane == b->lane)
		return a->lane != LANE_TRAINING;
	return m->ahead && (a->name == SPAN_LOSS_ALLREDUCE || b->name == SPAN_LOSS_ALLREDUCE);
}

/* A collective, and when the first rank of its lane left it. */
struct held {
	uint32_t index;
	int64_t left_ns;
};
#define HELD_BY_NONE ((struct held){ NO_COLLECTIVE, INT64_MIN })

/*
 * What held all ranks together before each collective: of the symmetric ones before it that do not run beside it, the one
 * that was left last.
 */
static void syncs_find(struct match *m)
{
	bool covers[MATCH_LANES][MATCH_LANES];
	struct held latest[MATCH_LANES], former[MATCH_LANES];	/* on each lane; former: of an iteration before that */
	struct held rooted = HELD_BY_NONE;			/* the latest */
	size_t first[MATCH_LANES];

	for (int l = 0; l < MATCH_LANES; l++) {
		latest[l] = former[l] = HELD_BY_NONE;
		first[l] = first_member(m, (size_t)l);
		for (int of = 0; of < MATCH_LANES; of++)
			covers[l][of] = lane_covers(m, l, of);
	}
	for (size_t i = 0; i < m->order_count; i++) {
		struct collective *c = &m->list[m->order[i]];
		struct held this = { m->order[i], match_stay(m, c, first[c->lane]).end_ns }, best = HELD_BY_NONE;

		for (int l = 0; l < MATCH_LANES; l++) {
			struct held h = latest[l];

			if (h.index != NO_COLLECTIVE && is_beside(m, &m->list[h.index], c))
				h = former[l];
			if (h.left_ns > best.left_ns && covers[l][c->lane])
				best = h;
		}
		c->sync = best.index;
		if (rooted.left_ns > best.left_ns && covers[m->list[rooted.index].lane][c->lane])
			c->rooted = rooted.index;
		if (match_is_split(c) && is_rooted(c))
			rooted = this;
		if (is_rooted(c) || !match_is_split(c))
			continue;
		if (latest[c->lane].index != NO_COLLECTIVE && m->list[latest[c->lane].index].iter != c->iter)
			former[c->lane] = latest[c->lane];
		latest[c->lane] = this;
	}
}

static int order_make(struct match *m)
{
	struct begun *begun = malloc((m->count + 1) * sizeof(*begun));
	size_t n = 0;

	m->order = malloc((m->count + 1) * sizeof(*m->order));
	if (!begun || !m->order) {
		free(begun);
		return err(NO_MEMORY, "no memory for the order of %zu collectives", m->count);
	}
	for (size_t i = 0; i < m->count; i++)
		if (m->list[i].split != SPLIT_UNMATCHED)
			begun[n++] = (struct begun){ match_stay(m, &m->list[i], first_member(m, m->list[i].lane)).begin_ns,
						     (uint32_t)i };
	qsort(begun, n, sizeof(*begun), by_begin);
	for (size_t i = 0; i < n; i++)
		m->order[i] = begun[i].index;
	m->order_count = n;
	free(begun);
	syncs_find(m);
	return OK;
}

int match_solve(struct match *m)
{
	struct extremes *groups;
	size_t group_count = 1;

	for (int l = 0; l < MATCH_LANES; l++) {
		m->first[l] = m->count;
		m->count += m->room[l];
	}
	m->first[MATCH_LANES] = m->count;
	m->whole = m->added == m->ranks;
	for (size_t r = 0; r < m->ranks; r++)
		if (m->strips[r].clock.group >= group_count)
			group_count = (size_t)m->strips[r].clock.group + 1;
	m->list = malloc((m->count + 1) * sizeof(*m->list));
	groups = calloc(group_count, sizeof(*groups));
	if (!m->list || !groups) {
		free(groups);
		return err(NO_MEMORY, "no memory for %zu collectives", m->count);
	}
	for (int l = 0; l < MATCH_LANES; l++) {
		if (m->room[l])
			memcpy(m->list + m->first[l], m->known[l], m->room[l] * sizeof(*m->list));
		free(m->known[l]);
		m->known[l] = NULL;
	}
	for (size_t i = 0; i < m->count; i++)
		split(m, &m->list[i], groups);
	free(groups);
	return order_make(m);
}
