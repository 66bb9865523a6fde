/*
 * report/skew.c - see skew.h.
 *
 * In one collective a node is two numbers: when its last rank entered, and when its first rank
 * left.  With x the offset of a node, for every two nodes
 *
 *	x(a) + first left(a) >= x(b) + last entered(b)
 *
 * so of all collectives only the one with the greatest entered(b) - left(a) matters for the pair:
 * a matrix of lower bounds of x(a) - x(b).  Bounds of x(a) against node 0 are longest paths in
 * that graph (Bellman and Ford), and a circle of positive length is a contradiction.
 *
 * Clocks drift.  An offset is asked for at one time on each node's clock (`at_ns`, near the
 * anchor), and a stamp that lies d away from it gives way by rate_max * d.  Node 0 is the
 * reference and does not drift.
 *
 * Not here: a second pass with the rates that the first one found.  It was tried: bounds become 15
 * to 25 % narrower, which is the share of drift in them; the rest is the collectives' own duration.
 */
#include "report/skew.h"

#include "bench/base/err.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NO_BOUND INT64_MIN	/* in the matrix: no collective has both nodes */

typedef __int128 wide;		/* sums along paths of untrusted times */

struct graph {
	size_t nodes;
	int64_t *more;		/* (a, b): x(a) - x(b) is no less; owned */
	size_t *from;		/* (a, b): the collective that says so; owned */
	int64_t *entered, *left;	/* (nodes): of one collective; owned */
	wide *x;		/* (nodes); owned */
	size_t *because;	/* (nodes): x(a) came from x(because[a]); NOBODY; owned */
	bool *known;		/* (nodes): x is; owned */
};
#define NOBODY SIZE_MAX

static void graph_release(struct graph *g)
{
	free(g->more);
	free(g->from);
	free(g->entered);
	free(g->left);
	free(g->x);
	free(g->because);
	free(g->known);
}

static int graph_init(struct graph *g, size_t nodes)
{
	*g = (struct graph){ .nodes = nodes };
	g->more = malloc(nodes * nodes * sizeof(*g->more));
	g->from = malloc(nodes * nodes * sizeof(*g->from));
	g->entered = malloc(nodes * sizeof(*g->entered));
	g->left = malloc(nodes * sizeof(*g->left));
	g->x = malloc(nodes * sizeof(*g->x));
	g->because = malloc(nodes * sizeof(*g->because));
	g->known = malloc(nodes * sizeof(*g->known));
	if (g->more && g->from && g->entered && g->left && g->x && g->because && g->known)
		return OK;
	graph_release(g);
	return err(NO_MEMORY, "no memory for the clocks of %zu nodes", nodes);
}

/* ---- stamps ---------------------------------------------------------------------------- */

/* Of each node in collective k: last entered, SKEW_ABSENT if nobody; first left, INT64_MAX likewise. */
static void node_stamps(const struct skew_stamps *s, size_t k, int64_t *entered, int64_t *left)
{
	const int64_t *enter_ns = s->enter_ns + k * s->ranks, *leave_ns = s->leave_ns + k * s->ranks;

	for (size_t n = 0; n < s->nodes; n++) {
		entered[n] = SKEW_ABSENT;
		left[n] = INT64_MAX;
	}
	for (size_t r = 0; r < s->ranks; r++) {
		size_t n = s->node[r];

		if (enter_ns[r] != SKEW_ABSENT && enter_ns[r] > entered[n])
			entered[n] = enter_ns[r];
		if (leave_ns[r] != SKEW_ABSENT && leave_ns[r] < left[n])
			left[n] = leave_ns[r];
	}
}

/* A time of each node near the anchor: its last entry there, or in the collective next to it that has one. */
static void find_times(const struct skew_stamps *s, size_t anchor, struct graph *g, struct skew_interval *of)
{
	size_t missing = s->nodes;

	for (size_t n = 0; n < s->nodes; n++)
		of[n].at_ns = SKEW_ABSENT;
	for (size_t d = 0; d < s->collectives && missing; d++) {
		for (int side = 0; side < 2; side++) {
			if (side ? d > anchor : anchor + d >= s->collectives)
				continue;
			node_stamps(s, side ? anchor - d : anchor + d, g->entered, g->left);
			for (size_t n = 0; n < s->nodes; n++) {
				if (of[n].at_ns != SKEW_ABSENT || g->entered[n] == SKEW_ABSENT)
					continue;
				of[n].at_ns = g->entered[n];
				missing--;
			}
		}
	}
	for (size_t n = 0; n < s->nodes; n++)
		if (of[n].at_ns == SKEW_ABSENT)
			of[n].at_ns = 0;
}

/* What drift may have moved a stamp by, since the time for which the offset is asked. */
static int64_t drift_ns(const struct skew_stamps *s, size_t node, int64_t ns, int64_t at_ns)
{
	return node ? (int64_t)ceil(s->rate_max * fabs((double)(ns - at_ns))) : 0;
}

static void find_bounds(const struct skew_stamps *s, const struct skew_interval *of, struct graph *g)
{
	for (size_t i = 0; i < g->nodes * g->nodes; i++)
		g->more[i] = NO_BOUND;
	for (size_t k = 0; k < s->collectives; k++) {
		node_stamps(s, k, g->entered, g->left);
		for (size_t n = 0; n < g->nodes; n++) {
			if (g->entered[n] != SKEW_ABSENT)
				g->entered[n] -= drift_ns(s, n, g->entered[n], of[n].at_ns);
			if (g->left[n] != INT64_MAX)
				g->left[n] += drift_ns(s, n, g->left[n], of[n].at_ns);
		}
		for (size_t a = 0; a < g->nodes; a++) {
			if (g->left[a] == INT64_MAX)
				continue;
			for (size_t b = 0; b < g->nodes; b++) {
				size_t ab = a * g->nodes + b;

				if (g->entered[b] == SKEW_ABSENT || g->entered[b] - g->left[a] <= g->more[ab])
					continue;
				g->more[ab] = g->entered[b] - g->left[a];
				g->from[ab] = k;
			}
		}
	}
}

/* ---- paths ----------------------------------------------------------------------------- */

/* One pass of Bellman and Ford towards the longest paths: the lower bounds of x(a) - x(0), or with
 * `reverse` of x(0) - x(a). */
static bool lengthen(struct graph *g, bool reverse)
{
	bool changed = false;

	for (size_t a = 0; a < g->nodes; a++) {
		for (size_t b = 0; b < g->nodes; b++) {
			int64_t more = reverse ? g->more[b * g->nodes + a] : g->more[a * g->nodes + b];

			if (!g->known[b] || more == NO_BOUND || (g->known[a] && g->x[b] + more <= g->x[a]))
				continue;
			g->x[a] = g->x[b] + more;
			g->because[a] = b;
			g->known[a] = changed = true;
		}
	}
	return changed;
}

/* A node on a circle of `because`; NOBODY when there is none. */
static size_t on_circle(const struct graph *g)
{
	for (size_t n = 0; n < g->nodes; n++) {
		size_t at = n;

		for (size_t steps = 0; at != NOBODY && steps < g->nodes; steps++)
			at = g->because[at];
		if (at != NOBODY)
			return at;
	}
	return NOBODY;
}

/* Begins everywhere at 0, so that no circle is out of reach.  Without circle the passes end by
 * themselves after as many as there are nodes; with one, x grows until `because` shows it. */
static size_t contradiction(struct graph *g)
{
	for (size_t n = 0; n < g->nodes; n++) {
		g->x[n] = 0;
		g->known[n] = true;
		g->because[n] = NOBODY;
	}
	for (size_t pass = 0; lengthen(g, false); pass++) {
		size_t node = pass < g->nodes ? NOBODY : on_circle(g);

		if (node != NOBODY)
			return node;
	}
	return NOBODY;
}

static int64_t clamp(wide ns)
{
	return ns > INT64_MAX - 1 ? INT64_MAX - 1 : ns < INT64_MIN + 1 ? INT64_MIN + 1 : (int64_t)ns;
}

/* The rank of a node that was the last to enter collective k, or the first to leave it. */
static size_t rank_of(const struct skew_stamps *s, size_t k, size_t node, bool entered)
{
	size_t found = NOBODY;

	for (size_t r = 0; r < s->ranks; r++) {
		const int64_t *ns = entered ? s->enter_ns + k * s->ranks : s->leave_ns + k * s->ranks;

		if (s->node[r] == node && ns[r] != SKEW_ABSENT &&
		    (found == NOBODY || (entered ? ns[r] > ns[found] : ns[r] < ns[found])))
			found = r;
	}
	return found;
}

static int prove(const struct skew_stamps *s, const struct graph *g, size_t node, struct skew_proof *proof)
{
	size_t a = node;
	wide sum = 0;

	proof->steps = calloc(g->nodes, sizeof(*proof->steps));
	if (!proof->steps)
		return err(NO_MEMORY, "no memory for a proof over %zu nodes", g->nodes);
	do {
		size_t b = g->because[a], k = g->from[a * g->nodes + b];

		proof->steps[proof->count++] = (struct skew_step){ k, rank_of(s, k, a, false), rank_of(s, k, b, true) };
		sum += g->more[a * g->nodes + b];
		a = b;
	} while (a != node);
	assert(sum > 0);
	proof->short_ns = clamp(sum);
	return OK;
}

static void from_node_0(struct graph *g, bool reverse)
{
	for (size_t n = 0; n < g->nodes; n++)
		g->known[n] = n == 0;
	g->x[0] = 0;
	while (lengthen(g, reverse))
		;
}

int skew_solve(const struct skew_stamps *s, size_t anchor, struct skew_interval *of, struct skew_proof *proof)
{
	struct graph g;
	size_t node;
	int rc;

	assert(s->nodes && anchor < s->collectives);
	*proof = (struct skew_proof){ 0 };
	rc = graph_init(&g, s->nodes);
	if (rc)
		return rc;
	find_times(s, anchor, &g, of);
	find_bounds(s, of, &g);
	node = contradiction(&g);
	if (node != NOBODY) {
		rc = prove(s, &g, node, proof);
	} else {
		from_node_0(&g, false);
		for (size_t n = 0; n < s->nodes; n++)
			of[n].low_ns = g.known[n] ? clamp(g.x[n]) : SKEW_NO_LOW;
		from_node_0(&g, true);
		for (size_t n = 0; n < s->nodes; n++)
			of[n].high_ns = g.known[n] ? clamp(-g.x[n]) : SKEW_NO_HIGH;
	}
	graph_release(&g);
	return rc;
}

void skew_proof_release(struct skew_proof *proof)
{
	free(proof->steps);
	*proof = (struct skew_proof){ 0 };
}

/* ---- maps ------------------------------------------------------------------------------ */

static struct sync_point point_of(const struct skew_interval *i, size_t node, double rate_max)
{
	int64_t middle_ns = i->low_ns + (i->high_ns - i->low_ns) / 2;

	return (struct sync_point){ .local_ns = i->at_ns, .ref_ns = i->at_ns + middle_ns,
				    .bound_ns = i->high_ns - middle_ns, .rate_bound = rate_max,
				    .leader = (uint32_t)node, .hops = node != 0, .round_trip_ns = UINT32_MAX };
}

/* The anchors are every `every`-th collective and the last one. */
static size_t anchor_of(const struct skew_stamps *s, size_t every, size_t i)
{
	return i * every < s->collectives ? i * every : s->collectives - 1;
}

/* Solves around each anchor; points is (nodes, anchors), count is (nodes). */
static int solve_all(const struct skew_stamps *s, size_t every, size_t anchors, struct sync_point *points,
		     size_t *count, struct skew_interval *of, struct skew_proof *proof)
{
	int rc = OK;

	for (size_t i = 0; i < anchors && !rc && !proof->steps; i++) {
		size_t anchor = anchor_of(s, every, i), begin = anchor > every ? anchor - every : 0;
		size_t end = anchor + every < s->collectives ? anchor + every + 1 : s->collectives;
		struct skew_stamps some = *s;

		some.collectives = end - begin;
		some.enter_ns = s->enter_ns + begin * s->ranks;
		some.leave_ns = s->leave_ns + begin * s->ranks;
		rc = skew_solve(&some, anchor - begin, of, proof);
		for (size_t k = 0; k < proof->count; k++)
			proof->steps[k].collective += begin;
		for (size_t n = 0; n < s->nodes && !rc && !proof->steps; n++)
			if (skew_is_bounded(&of[n]))
				points[n * anchors + count[n]++] = point_of(&of[n], n, s->rate_max);
	}
	return rc;
}

int skew_maps(const struct skew_stamps *s, size_t every, struct sync *map, struct skew_proof *proof)
{
	size_t anchors = s->collectives ? (s->collectives + every - 2) / every + 1 : 0, made = 0;
	struct sync_point *points = malloc((s->nodes * anchors + 1) * sizeof(*points));
	struct skew_interval *of = malloc(s->nodes * sizeof(*of));
	size_t *count = calloc(s->nodes, sizeof(*count));
	int rc;

	*proof = (struct skew_proof){ 0 };
	if (points && of && count)
		rc = solve_all(s, every, anchors, points, count, of, proof);
	else
		rc = err(NO_MEMORY, "no memory for the maps of %zu nodes", s->nodes);
	for (; made < s->nodes && !rc && !proof->steps; made++)
		rc = sync_init(&map[made], points + made * anchors, count[made]);
	for (size_t n = 0; rc && n < made; n++)
		sync_release(&map[n]);
	free(points);
	free(of);
	free(count);
	return rc;
}
