/*
 * comm/clock.c - see clock.h.
 *
 * After HCA3 (Hunold and Carpen-Amarie): in each round the leaders that are synchronised serve
 * others *with their corrected clock*, so no models need merging.  HCA3 doubles their number in
 * a round; here each serves `fan` others, one after another.  Errors add up along the hops to
 * the reference and time along the leaders served: 15 to a round make 128 nodes 2 hops and 30
 * turns of 65 exchanges or more (6 ms at a round trip of 3 us, 0.1 s at 50 us) instead of 7 and 7.
 *
 * HCA3 fits a line to mid-points.  Here nothing is fitted: all is intervals that hold by cause
 * and effect.  A client asks at t1 and has the answer at t2 (its own clock); the server's stamp
 * r, on the reference clock, was made in between.  So the offset reference - client was
 *
 *	at t1 no greater than r - t1,     at t2 no less than r - t2
 *
 * and where r itself is known as an interval, its upper and lower end go in.  The exchange with
 * the shortest round trip gives the narrowest interval; the others, moved to the same moment
 * with what is known of the rates, can only narrow it further.  Requests are often delayed where
 * replies are not, so the intersection is narrower than half the shortest round trip suggests.
 *
 * The rate comes from the offsets of this point and the one before, an epoch (at the start:
 * 100 ms) earlier: a base so long that the error of a microsecond is nothing.  Before that the
 * rate is known to be within SYNC_RATE_MAX only.
 */
#include "comm/clock.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"

#include <math.h>
#include <stdlib.h>

/* A client goes on until STALE exchanges in a row have made the interval no narrower by a sixteenth. */
enum { STALE = 64, EXCHANGES_MAX = 1024, FIRST_BASE_NS = 100000000 };

#define OFFSET_MAX_NS (INT64_C(1) << 60)	/* wider than any two clocks are apart */

/* What a rate, known as a mean up to now, may have become: ten times the usual wander. */
#define RATE_MARGIN (10 * SYNC_WANDER)

/* Offset of the reference against this clock: at `at_ns` within [low_ns, high_ns], changing by
 * [rate_low, rate_high] per ns.  All zero on the reference itself. */
struct known {
	int64_t at_ns, low_ns, high_ns;
	double rate_low, rate_high;
};

struct comm_clock {
	struct comm *comm;
	struct comm_clock_source source;
	size_t count, mine;	/* clocks, and which is this rank's */
	size_t *leaders;	/* (count); owned; [0] is the reference */
	uint64_t opened_ns;	/* clock_ns() */
	bool looked;		/* `known` is */
	struct known known;	/* a leader's */
	uint32_t hops;
	size_t agreed;
	int64_t round_trip_ns;
	struct exchange {
		int64_t asked_ns, told_ns;	/* this clock */
		int64_t low_ns, high_ns;	/* the offset: at told_ns no less, at asked_ns no greater */
	} exchanges[EXCHANGES_MAX];
};

/* A question is one byte, true in the last one.  An answer: the reference clock was in between. */
struct answer {
	int64_t low_ns, high_ns;
	uint32_t hops, unused;
};

static int64_t now(const struct comm_clock *k)
{
	return (int64_t)k->source.now_ns(k->source.arg);
}

static uint64_t host_now_ns(void *unused)
{
	(void)unused;
	return clock_ns();
}

/* ---- intervals ------------------------------------------------------------------------- */

/* Bounds of the offset at another moment. */
static int64_t low_at(const struct known *n, int64_t ns)
{
	double d = (double)(ns - n->at_ns);

	return n->low_ns + (int64_t)floor(fmin(n->rate_low * d, n->rate_high * d));
}

static int64_t high_at(const struct known *n, int64_t ns)
{
	double d = (double)(ns - n->at_ns);

	return n->high_ns + (int64_t)ceil(fmax(n->rate_low * d, n->rate_high * d));
}

static int64_t width(const struct exchange *x)
{
	return x->high_ns - x->low_ns;
}

/* The offset as one exchange has it, at the middle of its round trip.  A clock that shows n ns may be
 * 1 ns farther: the ends give way by that. */
static struct known from_exchange(const struct exchange *x, double rate_low, double rate_high)
{
	struct known low = { x->told_ns, x->low_ns - 1, x->low_ns - 1, rate_low, rate_high };
	struct known high = { x->asked_ns, x->high_ns + 1, x->high_ns + 1, rate_low, rate_high };
	int64_t at_ns = x->asked_ns + (x->told_ns - x->asked_ns) / 2;

	return (struct known){ at_ns, low_at(&low, at_ns), high_at(&high, at_ns), rate_low, rate_high };
}

/* What all exchanges say together, at the middle of the shortest.  One that contradicts the rest (its
 * clock jumped) is left out.  Returns how many agree. */
static size_t agree(struct known *out, const struct exchange *x, size_t count, double rate_low, double rate_high)
{
	size_t best = 0, agreed = 0;

	for (size_t i = 1; i < count; i++)
		if (width(&x[i]) < width(&x[best]))
			best = i;
	*out = from_exchange(&x[best], rate_low, rate_high);
	for (size_t i = 0; i < count; i++) {
		struct known one = from_exchange(&x[i], rate_low, rate_high);
		int64_t low_ns = low_at(&one, out->at_ns), high_ns = high_at(&one, out->at_ns);

		if (low_ns > out->high_ns || high_ns < out->low_ns)
			continue;
		out->low_ns = low_ns > out->low_ns ? low_ns : out->low_ns;
		out->high_ns = high_ns < out->high_ns ? high_ns : out->high_ns;
		agreed++;
	}
	return agreed;
}

/* The mean rate from one moment to a later one; after a jump nothing is known. */
static void learn_rate(struct known *n, const struct known *before)
{
	double apart = (double)(n->at_ns - before->at_ns);

	n->rate_low = -SYNC_RATE_MAX;
	n->rate_high = SYNC_RATE_MAX;
	if (apart > 0) {
		double low = (double)(n->low_ns - before->high_ns) / apart;
		double high = (double)(n->high_ns - before->low_ns) / apart;

		if (low <= SYNC_RATE_MAX && high >= -SYNC_RATE_MAX) {
			n->rate_low = fmax(low, -SYNC_RATE_MAX);
			n->rate_high = fmin(high, SYNC_RATE_MAX);
		}
	}
}

static struct known with_margin(struct known n)
{
	n.rate_low = fmax(n.rate_low - RATE_MARGIN, -SYNC_RATE_MAX);
	n.rate_high = fmin(n.rate_high + RATE_MARGIN, SYNC_RATE_MAX);
	return n;
}

/* ---- messages -------------------------------------------------------------------------- */

static int serve(struct comm_clock *k, size_t client)
{
	struct comm *c = k->comm;
	struct known n = k->mine ? with_margin(k->known) : (struct known){ 0 };
	bool last = false;
	int rc = OK;

	while (!last && !rc) {
		struct answer a = { .hops = k->hops };
		int64_t ns;

		rc = c->backend->recv(c, &last, sizeof(last), client);
		ns = now(k);
		a.low_ns = ns + low_at(&n, ns);
		a.high_ns = ns + high_at(&n, ns);
		if (!rc)
			rc = c->backend->send(c, &a, sizeof(a), client);
	}
	return rc;
}

static int exchange(struct comm_clock *k, size_t server, struct exchange *x, bool last)
{
	struct comm *c = k->comm;
	struct answer a = { 0 };
	int rc;

	x->asked_ns = now(k);
	rc = c->backend->send(c, &last, sizeof(last), server);
	if (!rc)
		rc = c->backend->recv(c, &a, sizeof(a), server);
	x->told_ns = now(k);
	x->low_ns = a.low_ns - x->told_ns;
	x->high_ns = a.high_ns - x->asked_ns;
	k->hops = a.hops + 1;
	return rc;
}

static int ask(struct comm_clock *k, size_t server)
{
	struct known before = k->known, rates = with_margin(before);
	int64_t low_ns = -OFFSET_MAX_NS, high_ns = OFFSET_MAX_NS, narrow_ns = 2 * OFFSET_MAX_NS;
	size_t n = 0, stale = 0;
	bool last = false;
	int rc = OK;

	if (!k->looked)
		rates = (struct known){ .rate_low = -SYNC_RATE_MAX, .rate_high = SYNC_RATE_MAX };
	k->round_trip_ns = INT64_MAX;
	while (!last && !rc) {
		struct exchange *x = &k->exchanges[n++];

		last = stale >= STALE || n == EXCHANGES_MAX;
		rc = exchange(k, server, x, last);
		/* The rate hardly shows within a few ms: good enough for stopping, not for the answer. */
		low_ns = x->low_ns > low_ns ? x->low_ns : low_ns;
		high_ns = x->high_ns < high_ns ? x->high_ns : high_ns;
		stale++;
		if (high_ns - low_ns < narrow_ns - narrow_ns / 16) {
			narrow_ns = high_ns - low_ns;
			stale = 0;
		}
		if (x->told_ns - x->asked_ns < k->round_trip_ns)
			k->round_trip_ns = x->told_ns - x->asked_ns;
	}
	if (rc)
		return rc;
	k->agreed = agree(&k->known, k->exchanges, n, rates.rate_low, rates.rate_high);
	if (k->looked)
		learn_rate(&k->known, &before);
	k->looked = true;
	return OK;
}

/* The first `have` clocks are known; each leader of them serves every have-th clock behind. */
static int look(struct comm_clock *k)
{
	size_t have = 1, next;
	int rc = OK;

	if (k->comm->rank != k->leaders[k->mine])
		return OK;
	for (; have < k->count && !rc; have = next) {
		next = have * (k->source.fan + 1) < k->count ? have * (k->source.fan + 1) : k->count;
		if (k->mine >= have && k->mine < next)
			rc = ask(k, k->leaders[k->mine % have]);
		for (size_t client = k->mine + have; k->mine < have && client < next && !rc; client += have)
			rc = serve(k, k->leaders[client]);
	}
	return rc;
}

/* ---- the interface --------------------------------------------------------------------- */

int comm_clock_open(struct comm_clock **out, struct comm *c, const struct comm_clock_source *source)
{
	struct comm_clock *k = calloc(1, sizeof(*k));
	int rc;

	if (!k)
		return err(NO_MEMORY, "no memory for the clocks of a job");
	k->comm = c;
	k->source = source ? *source : (struct comm_clock_source){ .now_ns = host_now_ns };
	k->source.fan = k->source.fan ? k->source.fan : COMM_CLOCK_FAN;
	k->count = k->source.per_rank ? c->world : c->hosts;
	k->mine = k->source.per_rank ? c->rank : c->host;
	k->opened_ns = clock_ns();
	k->leaders = malloc(k->count * sizeof(*k->leaders));
	for (size_t i = 0; k->leaders && i < k->count; i++)
		k->leaders[i] = k->source.per_rank ? i : c->host_leaders[i];
	rc = k->leaders ? look(k) : err(NO_MEMORY, "no memory for %zu clocks", k->count);
	if (rc) {
		comm_clock_close(k);
		return rc;
	}
	*out = k;
	return OK;
}

static struct sync_point point_of(const struct comm_clock *k)
{
	const struct known *n = &k->known;
	int64_t offset_ns = n->low_ns + (n->high_ns - n->low_ns) / 2;

	return (struct sync_point){
		.local_ns = n->at_ns, .ref_ns = n->at_ns + offset_ns, .bound_ns = n->high_ns - offset_ns,
		.rate = (n->rate_low + n->rate_high) / 2, .rate_bound = (n->rate_high - n->rate_low) / 2,
		.leader = (uint32_t)k->leaders[k->mine], .hops = k->hops, .exchanges = (uint32_t)k->agreed,
		.round_trip_ns = k->round_trip_ns < UINT32_MAX ? (uint32_t)k->round_trip_ns : UINT32_MAX };
}

int comm_clock_sync(struct comm_clock *k, struct sync_point *point)
{
	uint64_t open_ns = clock_ns() - k->opened_ns;
	int rc;

	if (k->count == 1) {
		int64_t ns = now(k);

		*point = (struct sync_point){ .local_ns = ns, .ref_ns = ns, .leader = (uint32_t)k->leaders[0] };
		return OK;
	}
	if (open_ns < FIRST_BASE_NS)
		clock_sleep_ns(FIRST_BASE_NS - open_ns);
	if (!k->mine)	/* the reference: its clock is what it is */
		k->known = (struct known){ .at_ns = now(k) };
	rc = look(k);
	for (size_t i = 0; i < k->count && !rc; i++) {
		struct sync_point one = point_of(k);

		rc = k->comm->backend->bcast(k->comm, &one, sizeof(one), k->leaders[i]);
		if (i == k->mine)
			*point = one;
	}
	return rc;
}

void comm_clock_close(struct comm_clock *k)
{
	if (!k)
		return;
	free(k->leaders);
	free(k);
}
