/*
 * report/blame.c - see blame.h.
 *
 * A *course* is the account of one rank as a running sum: how much time of each cause it had
 * spent by any moment at which it came to a collective or left one.  Q_k and R_k are then
 * differences of two entries.  The courses of 512 ranks need not be in memory together: of q only
 * the sums up to the collectives in which it was waited for are kept, and each r compares itself
 * with them.
 *
 * Following chains: the origins of q's own waits before collective c are known when those of all
 * collectives before c are, so one pass in the order of the collectives finds every root.
 */
#include "report/blame.h"

#include "bench/base/err.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const struct cause_row cause_rows[CAUSE_COUNT] = {
#define CAUSE_ROW(name, title, colour, meaning) { #name, title, colour },
	CAUSES(CAUSE_ROW)
#undef CAUSE_ROW
};

/* Behind the causes: waiting in its turn, which is followed to other ranks. */
enum { TRACK_WAIT = CAUSE_COUNT, TRACK_COUNT };

static const uint8_t track_of_class[CLS_COUNT] = {
	[CLS_COMPUTE_FWD] = CAUSE_compute,
	[CLS_COMPUTE_BWD] = CAUSE_compute,
	[CLS_COMPUTE_OPT] = CAUSE_compute,
	[CLS_COMPUTE_OTHER] = CAUSE_compute,
	[CLS_COMM_WIRE] = CAUSE_wire,
	[CLS_COMM_WAIT] = TRACK_WAIT,
	[CLS_COMM] = CAUSE_unknown,
	[CLS_COPY] = CAUSE_copy,
	[CLS_LOADER] = CAUSE_loader,
	[CLS_BOUNDARY_EVAL] = CAUSE_boundary,
	[CLS_BOUNDARY_CKPT] = CAUSE_boundary,
	[CLS_BOUNDARY_WORKERS] = CAUSE_boundary,
	[CLS_BOUNDARY_SAMPLER] = CAUSE_boundary,
	[CLS_LAUNCH] = CAUSE_host,
	[CLS_SYNC] = CAUSE_host,
	[CLS_OTHER] = CAUSE_host,
	[CLS_UNATTRIBUTED] = CAUSE_unknown,
};

struct track {
	int64_t ns[TRACK_COUNT];
};

/* Of a rank that others waited for in a collective: what it had spent since ... */
struct course_at {
	struct track since_sync;	/* ... it left the sync: its Q_k */
	struct track since_rooted;	/* ... it left the rooted collective behind the sync, if there is one */
	uint32_t anchor;	/* anchor_of() it there */
	struct wait *links;	/* owned; its own waits since the sync */
	size_t link_count;
	struct origins roots;	/* of those waits; ns are weights */
};

struct courses {
	const struct match *match;
	struct course_at *at[2];	/* owned; by collective: of its last rank, and of its root */
	bool *wanted;		/* owned; by rank */
};

static struct course_at *awaited_at(const struct courses *all, const struct collective *k, uint32_t awaited)
{
	return &all->at[awaited != k->last][match_index(all->match, k)];
}

/* ---- sharing out ----------------------------------------------------------------------- */

void apportion(int64_t total, const int64_t *weights, size_t n, int64_t *shares)
{
	__int128 sum = 0, run = 0;
	int64_t given = 0;

	for (size_t i = 0; i < n; i++)
		sum += weights[i];
	for (size_t i = 0; i < n; i++) {	/* rounding the running sum keeps the whole */
		int64_t upto = given;

		if (weights[i]) {	/* few are above 0, and dividing is slow */
			run += weights[i];
			upto = run == sum ? total : (int64_t)(run * total / sum);
		}
		shares[i] = upto - given;
		given = upto;
	}
}

static bool same_origin(const struct origin *a, const struct origin *b)
{
	return a->cause == b->cause && a->length == b->length &&
	       !memcmp(a->chain, b->chain, a->length * sizeof(a->chain[0]));
}

enum { LONG_LIST = 16 };

static size_t origin_hash(const struct origin *o)
{
	uint64_t h = o->cause;

	for (uint32_t i = 0; i < o->length; i++)
		h = (h ^ o->chain[i]) * 0x9e3779b97f4a7c15u;
	return (size_t)(h >> 32);
}

/* The slot of this origin, or the free one where it would be.  There are twice as many slots as places. */
static uint32_t *slot_of(const struct origins *o, const struct origin *one)
{
	size_t mask = 2 * o->room - 1, i = origin_hash(one) & mask;

	while (o->slots[i] && !same_origin(&o->at[o->slots[i] - 1], one))
		i = (i + 1) & mask;
	return &o->slots[i];
}

static int origins_grow(struct origins *o)
{
	size_t room = o->room ? 2 * o->room : 4;
	struct origin *more = realloc(o->at, room * sizeof(*more));
	uint32_t *slots = room > LONG_LIST ? calloc(2 * room, sizeof(*slots)) : NULL;

	o->at = more ? more : o->at;
	if (!more || (room > LONG_LIST && !slots)) {
		free(slots);
		return err(NO_MEMORY, "no memory for %zu causes of waits", room);
	}
	free(o->slots);
	o->slots = slots;
	o->room = room;
	for (size_t i = 0; slots && i < o->count; i++)
		*slot_of(o, &o->at[i]) = (uint32_t)i + 1;
	return OK;
}

int origins_add(struct origins *o, const struct origin *one)
{
	size_t i = 0;
	int rc;

	if (o->slots) {
		i = *slot_of(o, one);
		i = i ? i - 1 : o->count;
	} else {
		while (i < o->count && !same_origin(&o->at[i], one))
			i++;
	}
	if (i < o->count) {
		o->at[i].ns += one->ns;
		return OK;
	}
	rc = o->count == o->room ? origins_grow(o) : OK;
	if (rc)
		return rc;
	if (o->slots)
		*slot_of(o, one) = (uint32_t)o->count + 1;
	o->at[o->count++] = *one;
	return OK;
}

void origins_release(struct origins *o)
{
	free(o->at);
	free(o->slots);
	*o = (struct origins){ 0 };
}

/* `first` in front of the chain. */
static struct origin origin_behind(uint32_t first, const struct origin *o)
{
	struct origin out = { .cause = o->cause, .length = o->length < CHAIN_MAX ? o->length + 1 : CHAIN_MAX };

	out.chain[0] = first;
	memcpy(out.chain + 1, o->chain, (out.length - 1) * sizeof(out.chain[0]));
	out.chain[out.length - 1] = o->chain[o->length - 1];
	return out;
}

/* ---- courses --------------------------------------------------------------------------- */

/* The part of a wait that no wait begun before it has. */
struct piece {
	int64_t begin_ns, end_ns;
	uint32_t collective;
};

void course_release(struct course *c)
{
	free(c->pieces);
	*c = (struct course){ 0 };
}

static int by_piece(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	return (x->begin_ns > y->begin_ns) - (x->begin_ns < y->begin_ns);
}

static int64_t clamp(int64_t at, int64_t low, int64_t high)
{
	return at < low ? low : at > high ? high : at;
}

int course_make(struct course *c, const struct match *m, size_t rank, int64_t begin_ns, int64_t end_ns)
{
	int64_t covered = begin_ns;
	bool ascend = true;

	*c = (struct course){ begin_ns, end_ns, malloc((m->order_count + 1) * sizeof(*c->pieces)), 0 };
	if (!c->pieces)
		return err(NO_MEMORY, "no memory for the waits of rank %zu", rank);
	for (size_t i = 0; i < m->order_count; i++) {
		const struct collective *k = &m->list[m->order[i]];
		int64_t at = match_stay(m, k, rank).begin_ns;

		if (!match_is_split(k) || !match_member(m, k->lane, rank))
			continue;
		ascend &= !c->piece_count || c->pieces[c->piece_count - 1].begin_ns <= at;
		c->pieces[c->piece_count++] = (struct piece){ at, at + match_wait_ns(m, k, rank), m->order[i] };
	}
	if (!ascend)
		qsort(c->pieces, c->piece_count, sizeof(*c->pieces), by_piece);
	for (size_t i = 0; i < c->piece_count; i++) {
		struct piece *p = &c->pieces[i];
		int64_t to = clamp(p->end_ns, begin_ns, end_ns);

		p->begin_ns = clamp(p->begin_ns, covered, end_ns > covered ? end_ns : covered);
		p->end_ns = to > p->begin_ns ? to : p->begin_ns;
		covered = p->end_ns;
	}
	return OK;
}

/* When the rank left the sync of `k`; without one, when its account begins. */
static int64_t sync_left_ns(const struct course *c, const struct match *m, size_t rank, const struct collective *k)
{
	int64_t at = k->sync == NO_COLLECTIVE ? c->begin_ns : match_stay(m, &m->list[k->sync], rank).end_ns;

	return clamp(at, c->begin_ns, c->end_ns);
}

static int64_t came_ns(const struct course *c, const struct match *m, size_t rank, const struct collective *k)
{
	return clamp(match_stay(m, k, rank).begin_ns, c->begin_ns, c->end_ns);
}

static struct track between(struct ledger *l, int64_t from_ns, int64_t to_ns)
{
	struct track spent = { 0 };

	ledger_add(l, from_ns, to_ns, track_of_class, spent.ns);
	return spent;
}

/*
 * Two ranks that were held by the same one in a rooted collective left it together, as they leave a symmetric
 * one: then their time counts from there, and what made one of them late before is paid for.
 */
#define ANCHOR_NONE UINT32_MAX

static uint32_t anchor_of(const struct match *m, uint32_t rooted, size_t rank)
{
	const struct collective *k;
	uint32_t awaited;

	if (rooted == NO_COLLECTIVE || !match_member(m, m->list[rooted].lane, rank))
		return ANCHOR_NONE;
	k = &m->list[rooted];
	awaited = match_awaited(m, k, rank);
	return awaited == rank || match_wait_ns(m, k, rank) ? awaited : ANCHOR_NONE;
}

static int64_t rooted_left_ns(const struct course *c, const struct match *m, size_t rank, const struct collective *k)
{
	return clamp(match_stay(m, &m->list[k->rooted], rank).end_ns, c->begin_ns, c->end_ns);
}

/* Whether the rank and the one that it waits for in `k` left the rooted collective before it together. */
static bool left_together(const struct courses *all, size_t rank, const struct collective *k, uint32_t awaited)
{
	uint32_t anchor = anchor_of(all->match, k->rooted, rank);

	return anchor != ANCHOR_NONE && anchor == awaited_at(all, k, awaited)->anchor;
}

/* A wait: where, for whom. */
struct wait {
	const struct collective *in;
	uint32_t awaited;
	bool together;			/* left_together() */
	int64_t wait_ns, exposed_ns;	/* what causes explain: all of it, or what work_on() leaves; what is to be shared out */
	int64_t since_ns;		/* when the rank left the collective that both had left together */
	struct track spent;		/* R_k: by the rank since then, until it came */
	int64_t paid[CAUSE_COUNT];	/* blamed on the awaited one by the rank's other waits since then */
};

/* The device worked on while its host waited, as that of the awaited one did before its host came: what it did counts for the
 * rank as well, and its wait is what is left of it. */
static void work_on(struct wait *w, const struct course *c, struct ledger *l, int64_t came_ns)
{
	struct track meanwhile = between(l, came_ns, clamp(came_ns + w->wait_ns, came_ns, c->end_ns));

	w->wait_ns = meanwhile.ns[TRACK_WAIT];
	for (int t = 0; t < CAUSE_COUNT; t++)
		w->spent.ns[t] += meanwhile.ns[t];
}

static struct wait wait_of(const struct courses *all, const struct course *c, struct ledger *l, size_t rank,
			   const struct collective *k, int64_t exposed_ns)
{
	const struct match *m = all->match;
	struct wait w = { .in = k, .awaited = match_awaited(m, k, rank), .wait_ns = match_wait_ns(m, k, rank),
			  .exposed_ns = exposed_ns };

	w.together = left_together(all, rank, k, w.awaited);
	w.since_ns = w.together ? rooted_left_ns(c, m, rank, k) : sync_left_ns(c, m, rank, k);
	w.spent = between(l, w.since_ns, came_ns(c, m, rank, k));
	if (match_is_aside(m, k))
		work_on(&w, c, l, came_ns(c, m, rank, k));
	return w;
}

static int64_t piece_exposed_ns(struct ledger *l, const struct piece *p)
{
	static const uint8_t waits[CLS_COUNT] = { [CLS_COMM_WAIT] = 1 };
	int64_t ns[2] = { 0 };

	ledger_add(l, p->begin_ns, p->end_ns, waits, ns);
	return ns[1];
}

/* ---- those who are waited for ---------------------------------------------------------- */

int courses_open(struct courses **out, const struct match *m)
{
	struct courses *all = calloc(1, sizeof(*all));
	bool rooted = false;

	for (size_t i = 0; i < m->order_count; i++)
		rooted |= m->list[m->order[i]].root != m->list[m->order[i]].last;
	if (all)
		*all = (struct courses){ .match = m, .wanted = calloc(m->ranks + 1, sizeof(*all->wanted)),
					 .at = { calloc(m->count + 1, sizeof(*all->at[0])),
						 calloc(rooted ? m->count + 1 : 1, sizeof(*all->at[0])) } };
	if (!all || !all->at[0] || !all->at[1] || !all->wanted) {
		courses_close(all);
		return err(NO_MEMORY, "no memory for the causes of %zu collectives", m->count);
	}
	for (size_t i = 0; i < m->order_count && m->ranks > 1; i++) {
		const struct collective *k = &m->list[m->order[i]];

		if (!match_is_split(k))
			continue;
		all->wanted[k->last] = all->wanted[k->root] = true;
		awaited_at(all, k, k->last)->anchor = anchor_of(m, k->rooted, k->last);
		awaited_at(all, k, k->root)->anchor = anchor_of(m, k->rooted, k->root);
	}
	*out = all;
	return OK;
}

static void course_at_release(struct course_at *at)
{
	free(at->links);
	origins_release(&at->roots);
}

void courses_close(struct courses *all)
{
	if (!all)
		return;
	for (size_t i = 0; all->at[0] && all->at[1] && i < all->match->count; i++) {
		course_at_release(&all->at[0][i]);
		if (all->match->list[i].root != all->match->list[i].last)
			course_at_release(&all->at[1][i]);
	}
	free(all->at[0]);
	free(all->at[1]);
	free(all->wanted);
	free(all);
}

bool courses_wanted(const struct courses *all, size_t rank)
{
	return all->wanted[rank];
}

/* The waits of the awaited rank between the sync of `k` and its coming to it. */
static int links_make(const struct courses *all, struct course_at *at, const struct course *c, struct ledger *l,
		      size_t rank, const struct collective *k)
{
	const struct match *m = all->match;
	int64_t from = sync_left_ns(c, m, rank, k), to = came_ns(c, m, rank, k);
	size_t low = 0, high = c->piece_count;

	while (low < high) {	/* the first piece that ends behind `from`: ends ascend as begins do */
		size_t middle = (low + high) / 2;

		if (c->pieces[middle].end_ns <= from)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < c->piece_count && c->pieces[low].begin_ns < to; low++) {
		const struct collective *before = &m->list[c->pieces[low].collective];
		int64_t exposed = piece_exposed_ns(l, &c->pieces[low]);
		struct wait *more;

		if (!exposed || before == k || match_awaited(m, before, rank) == rank)
			continue;
		more = realloc(at->links, (at->link_count + 1) * sizeof(*more));
		if (!more)
			return err(NO_MEMORY, "no memory for a chain of waits");
		at->links = more;
		more[at->link_count++] = wait_of(all, c, l, rank, before, exposed);
	}
	return OK;
}

int courses_add(struct courses *all, size_t rank, const struct course *c, struct ledger *l)
{
	const struct match *m = all->match;
	int rc = OK;

	for (size_t i = 0; i < m->order_count && !rc; i++) {
		const struct collective *k = &m->list[m->order[i]];
		struct course_at *at;

		if (!match_is_split(k) || (k->last != rank && k->root != rank))
			continue;
		at = awaited_at(all, k, (uint32_t)rank);
		at->since_sync = between(l, sync_left_ns(c, m, rank, k), came_ns(c, m, rank, k));
		if (k->rooted != NO_COLLECTIVE)
			at->since_rooted = between(l, rooted_left_ns(c, m, rank, k), came_ns(c, m, rank, k));
		if (at->since_sync.ns[TRACK_WAIT])
			rc = links_make(all, at, c, l, rank, k);
	}
	return rc;
}

/* ---- sharing a wait out ---------------------------------------------------------------- */

/* The shares of the causes, and that of the awaited rank's own waits. */
static void share_out(const struct courses *all, const struct wait *w, int64_t shares[TRACK_COUNT])
{
	const struct course_at *late = awaited_at(all, w->in, w->awaited);
	const struct track *did = w->together ? &late->since_rooted : &late->since_sync;
	int64_t excess[TRACK_COUNT], rest = w->wait_ns, own = 0;

	for (int t = 0; t < TRACK_COUNT; t++) {
		excess[t] = did->ns[t] - w->spent.ns[t];
		rest -= excess[t];
	}
	/* Left over: they did not leave the collective before together, or did not begin together. */
	excess[w->in->sync == NO_COLLECTIVE ? CAUSE_host : CAUSE_wire] += rest;
	for (int t = 0; t < CAUSE_COUNT; t++) {
		excess[t] = excess[t] > w->paid[t] ? excess[t] - w->paid[t] : 0;
		own += excess[t];
	}
	/* What it did itself explains first: waiting while the other worked makes nobody late. */
	excess[TRACK_WAIT] = own < w->wait_ns && excess[TRACK_WAIT] > 0 ? w->wait_ns - own : 0;
	if (!own && !excess[TRACK_WAIT])
		excess[CAUSE_unknown] = 1;
	apportion(w->exposed_ns, excess, TRACK_COUNT, shares);
}

/* Shares the wait out and adds its origins: what the awaited rank did itself, and the roots of its waits. */
static int origins_of(struct origins *out, const struct courses *all, const struct wait *w, int64_t shares[TRACK_COUNT])
{
	const struct origins *roots = &awaited_at(all, w->in, w->awaited)->roots;
	int64_t *parts, *weights;
	int rc = OK;

	share_out(all, w, shares);
	if (!roots->count) {
		shares[CAUSE_unknown] += shares[TRACK_WAIT];
		shares[TRACK_WAIT] = 0;
	}
	for (int t = 0; t < CAUSE_COUNT && !rc; t++)
		if (shares[t])
			rc = origins_add(out, &(struct origin){ .chain = { w->awaited }, .length = 1, .cause = t,
								.ns = shares[t] });
	if (rc || !shares[TRACK_WAIT])
		return rc;
	parts = calloc(2 * roots->count, sizeof(*parts));
	if (!parts)
		return err(NO_MEMORY, "no memory for %zu roots", roots->count);
	weights = parts + roots->count;
	for (size_t i = 0; i < roots->count; i++)
		weights[i] = roots->at[i].ns;
	apportion(shares[TRACK_WAIT], weights, roots->count, parts);
	for (size_t i = 0; i < roots->count && !rc; i++) {
		struct origin o = origin_behind(w->awaited, &roots->at[i]);

		o.ns = parts[i];
		rc = o.ns ? origins_add(out, &o) : OK;
	}
	free(parts);
	return rc;
}

static int links_trace(const struct courses *all, struct course_at *at)
{
	int64_t shares[TRACK_COUNT];
	int rc = OK;

	for (size_t i = 0; i < at->link_count && !rc; i++)
		rc = origins_of(&at->roots, all, &at->links[i], shares);
	return rc;
}

int courses_trace(struct courses *all)
{
	const struct match *m = all->match;
	int rc = OK;

	for (size_t i = 0; i < m->order_count && !rc; i++) {
		const struct collective *k = &m->list[m->order[i]];

		if (!match_is_split(k))
			continue;
		rc = links_trace(all, awaited_at(all, k, k->last));
		if (!rc && k->root != k->last)
			rc = links_trace(all, awaited_at(all, k, k->root));
	}
	return rc;
}

/* What waits of this rank were blamed on, as far back as the collective that the last ones count from. */
struct payments {
	struct payment {
		int64_t begin_ns;
		uint32_t awaited;
		int64_t ns[TRACK_COUNT];
	} *at;		/* owned */
	size_t count, room;
};

/* Sums what was paid to the awaited one of `w` since both left together; forgets what is older. */
static void payments_sum(struct payments *p, struct wait *w)
{
	size_t n = 0;

	for (size_t i = 0; i < p->count; i++) {
		if (p->at[i].begin_ns < w->since_ns)
			continue;
		for (int t = 0; t < CAUSE_COUNT && p->at[i].awaited == w->awaited; t++)
			w->paid[t] += p->at[i].ns[t];
		p->at[n++] = p->at[i];
	}
	p->count = n;
}

static struct payment *payment_add(struct payments *p, int64_t begin_ns, uint32_t awaited)
{
	if (p->count == p->room) {
		size_t room = 2 * p->room + 8;
		struct payment *more = realloc(p->at, room * sizeof(*more));

		if (!more)
			return NULL;
		p->at = more;
		p->room = room;
	}
	p->at[p->count] = (struct payment){ .begin_ns = begin_ns, .awaited = awaited };
	return &p->at[p->count++];
}

int blame_make(struct blame *out, const struct courses *all, size_t rank, const struct course *c, struct ledger *l)
{
	const struct match *m = all->match;
	struct payments paid = { 0 };
	int64_t induced_ns = 0;
	int rc = OK;

	*out = (struct blame){ .wait_ns = ledger_between(l, c->begin_ns, c->end_ns).parts_ns[CLS_COMM_WAIT] };
	for (size_t i = 0; i < c->piece_count && !rc; i++) {
		int64_t exposed = piece_exposed_ns(l, &c->pieces[i]);
		struct payment *payment;
		struct wait w;

		if (!exposed)
			continue;
		w = wait_of(all, c, l, rank, &m->list[c->pieces[i].collective], exposed);
		payments_sum(&paid, &w);
		payment = payment_add(&paid, c->pieces[i].begin_ns, w.awaited);
		rc = payment ? origins_of(&out->origins, all, &w, payment->ns) : err(NO_MEMORY, "no memory for the causes of a wait");
	}
	free(paid.at);
	for (size_t i = 0; i < out->origins.count; i++)
		induced_ns += out->origins.at[i].ns;
	assert(rc || induced_ns == out->wait_ns);
	return rc;
}

void blame_release(struct blame *b)
{
	origins_release(&b->origins);
	*b = (struct blame){ 0 };
}
