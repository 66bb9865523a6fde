/*
 * kernels/cuda/timeline.c - see timeline.h.
 */
#include "kernels/cuda/timeline.h"

#include "bench/base/clock.h"
#include "kernels/cuda/memory.h"

#include <assert.h>
#include <stdlib.h>

/* ---- the device's clock ---------------------------------------------------------------- */

/* Looked at so often, which takes some 20 us; the best of so many tries counts. */
#define TIE_EVERY_NS (100 * 1000000ull)
enum { TRIES = 3, FIRST_TRIES = 16 };
#define BASE_NS NS_PER_S	/* ties nearer than this say less of the rate than the host's own clock does */
/* What two clocks drift: crystals apart by their data sheets, and by their temperature once the rate is known. */
#define DRIFT_UNKNOWN 1e-4
#define DRIFT_KNOWN 1e-5

/* The device's clock showed `device_ns` at some moment that is `wrong_ticks` from `ticks` at most. */
struct tie {
	uint64_t device_ns, ticks, wrong_ticks;
};

static struct cuda_clock {
	unsigned users;
	struct cuda_memory memory;
	uint64_t *stamp;		/* pinned */
	cudaStream_t stream;
	struct clock_tie host;		/* when it was opened: what a tick is */
	struct tie first, latest;
	uint64_t tried_ns;		/* on the host's clock */
	uint64_t step_ns;		/* in which it moves */
	double worst_ticks;		/* that anybody was told a time with */
} device_clock;

/* One stamp on the stream, and the host's ticks around it.  The query finds a device that has failed. */
static int look(struct cuda_clock *c, struct tie *tie)
{
	volatile uint64_t *stamp = c->stamp;
	uint64_t before, after;
	int rc;

	*stamp = 0;
	before = clock_ticks();
	rc = cuda_stamp(c->stamp, c->stream);
	for (unsigned i = 1; !rc && !*stamp; i++)
		if (i % 256 == 0) {
			cudaError_t e = cudaStreamQuery(c->stream);

			rc = e == cudaErrorNotReady ? OK : TRY_CUDA(e);
		}
	after = clock_ticks();
	*tie = (struct tie){ *stamp, before + (after - before) / 2, (after - before + 1) / 2 };
	return rc ? rc : TRY_CUDA(cudaStreamSynchronize(c->stream));
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
	while (b) {
		const uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* The best of `tries`; all of them tell in which steps the clock moves. */
static int look_often(struct cuda_clock *c, unsigned tries, struct tie *best)
{
	uint64_t before_ns = 0;
	int rc = OK;

	best->wrong_ticks = UINT64_MAX;
	for (unsigned i = 0; i < tries && !rc; i++) {
		struct tie tie;

		rc = look(c, &tie);
		if (!rc && i)
			c->step_ns = common_divisor(c->step_ns, tie.device_ns - before_ns);
		before_ns = tie.device_ns;
		if (!rc && tie.wrong_ticks < best->wrong_ticks)
			*best = tie;
	}
	return rc;
}

static bool rate_is_known(const struct cuda_clock *c)
{
	return c->latest.device_ns - c->first.device_ns > BASE_NS;
}

/* How wrong the latest tie has become: crystals drift, and a rate between two ties is as wrong as both over their distance. */
static double wrong_at(const struct cuda_clock *c, uint64_t ticks)
{
	const double apart = (double)(c->latest.ticks - c->first.ticks), both = (double)(c->latest.wrong_ticks + c->first.wrong_ticks);
	const double known = both > DRIFT_KNOWN * apart ? both / (apart > 0 ? apart : 1) : DRIFT_KNOWN;
	const double drift = rate_is_known(c) ? known : DRIFT_UNKNOWN;

	return (double)c->latest.wrong_ticks + drift * (double)(ticks - c->latest.ticks);
}

/* Ties the clocks again where it is time to, and the new tie is better than what the latest one has become meanwhile: a host
 * that was interrupted, or a device that is full of work and answers late, makes a bad one. */
static int clock_look(struct cuda_clock *c)
{
	const uint64_t now_ns = clock_ns();
	struct tie tie;
	int rc;

	if (now_ns - c->tried_ns < TIE_EVERY_NS)
		return OK;
	c->tried_ns = now_ns;
	rc = look_often(c, TRIES, &tie);
	if (!rc && (double)tie.wrong_ticks <= wrong_at(c, tie.ticks))
		c->latest = tie;
	return rc;
}

static int clock_open(struct cuda_clock *c)
{
	int least, greatest, rc;

	if (c->users++)
		return OK;
	c->host = clock_tie_take();
	rc = TRY_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
	if (!rc)
		rc = TRY_CUDA(cudaStreamCreateWithPriority(&c->stream, cudaStreamNonBlocking, greatest));
	c->stamp = cuda_memory_pinned(&c->memory, sizeof(*c->stamp), "the device's clock", &rc);
	if (!rc)
		rc = look_often(c, FIRST_TRIES, &c->first);
	c->latest = c->first;
	c->tried_ns = clock_ns();
	return rc;
}

static void clock_close(struct cuda_clock *c)
{
	if (--c->users)
		return;
	if (c->stream)
		cudaStreamDestroy(c->stream);
	cuda_memory_release(&c->memory);
	*c = (struct cuda_clock){ .users = 0 };
}

/* Since it was opened, on the host's clock. */
static double ticks_per_ns(const struct cuda_clock *c)
{
	const struct clock_tie now = clock_tie_take();

	return (double)(now.ticks - c->host.ticks) / (double)(now.ns - c->host.ns);
}

/* Ticks per nanosecond of the device: between the ties when they are far apart, else as if its nanoseconds were the host's. */
static double clock_rate(const struct cuda_clock *c)
{
	return rate_is_known(c) ? (double)(c->latest.ticks - c->first.ticks) / (double)(c->latest.device_ns - c->first.device_ns)
				: ticks_per_ns(c);
}

static uint64_t clock_ticks_of(const struct cuda_clock *c, double rate, uint64_t device_ns)
{
	return c->latest.ticks + (uint64_t)(int64_t)(rate * (double)(int64_t)(device_ns - c->latest.device_ns));
}

double cuda_timeline_bound_ns(void)
{
	const struct cuda_clock *c = &device_clock;

	return (c->worst_ticks > 0 ? c->worst_ticks : (double)c->first.wrong_ticks) / ticks_per_ns(c) + (double)c->step_ns;
}

/* ---- spans ----------------------------------------------------------------------------- */

struct cuda_span {
	struct lane *lane;
	uint64_t arg;
	enum span_id id;
	uint32_t iter, seq;
};

struct cuda_timeline {
	struct cuda_memory memory;
	size_t room;			/* a power of two */
	uint64_t *stamps;		/* pinned; two for each span, 0 until they are there */
	struct cuda_span *spans;	/* owned */
	size_t begun, collected;	/* counts; the span with number n lies at n modulo room */
	bool open;
	struct lane_end {
		const struct lane *lane;
		uint64_t ticks;
	} ends[4];			/* where each lane's latest span ended: ties may move by what they are wrong */
};

int cuda_timeline_open(struct cuda_timeline **out, size_t spans)
{
	struct cuda_timeline *t = calloc(1, sizeof(*t));
	int rc;

	*out = NULL;
	if (!t)
		return err(NO_MEMORY, "no memory for a timeline of the device");
	t->room = 1;
	while (t->room < spans)
		t->room *= 2;
	t->spans = calloc(t->room, sizeof(*t->spans));
	rc = clock_open(&device_clock);
	if (!rc && !t->spans)
		rc = err(NO_MEMORY, "no memory for %zu spans of the device", t->room);
	t->stamps = cuda_memory_pinned(&t->memory, 2 * t->room * sizeof(*t->stamps), "the device's stamps", &rc);
	if (rc)
		cuda_timeline_close(t);
	else
		*out = t;
	return rc;
}

void cuda_timeline_close(struct cuda_timeline *t)
{
	if (!t)
		return;
	cuda_memory_release(&t->memory);
	clock_close(&device_clock);
	free(t->spans);
	free(t);
}

static uint64_t *stamps_of(const struct cuda_timeline *t, size_t number)
{
	return t->stamps + 2 * (number & (t->room - 1));
}

int cuda_timeline_begin(struct cuda_timeline *t, struct lane *lane, enum span_id id, uint64_t arg, cudaStream_t stream)
{
	const bool counts = lane && span_rows[id].kind == KIND_COLLECTIVE;
	const uint32_t seq = counts ? lane->collectives++ : 0;
	uint64_t *at = stamps_of(t, t->begun);

	t->open = lane && t->begun - t->collected < t->room;
	if (lane && !t->open)
		atomic_fetch_add(&lane->dropped, 1);
	if (!t->open)
		return OK;
	t->spans[t->begun & (t->room - 1)] = (struct cuda_span){ lane, arg, id, lane->iter, seq };
	at[0] = at[1] = 0;
	return cuda_stamp(&at[0], stream);
}

int cuda_timeline_end(struct cuda_timeline *t, cudaStream_t stream)
{
	if (!t->open)
		return OK;
	t->open = false;
	return cuda_stamp(&stamps_of(t, t->begun++)[1], stream);
}

static struct lane_end *end_of(struct cuda_timeline *t, const struct lane *lane)
{
	struct lane_end *e = t->ends;

	while (e->lane && e->lane != lane)
		e++;
	assert(e < t->ends + ARRAY_LEN(t->ends));
	e->lane = lane;
	return e;
}

int cuda_timeline_collect(struct cuda_timeline *t)
{
	int rc = clock_look(&device_clock);
	const double rate = clock_rate(&device_clock), wrong_ticks = wrong_at(&device_clock, clock_ticks());

	device_clock.worst_ticks = wrong_ticks > device_clock.worst_ticks ? wrong_ticks : device_clock.worst_ticks;

	for (; t->collected < t->begun && !rc; t->collected++) {
		const volatile uint64_t *at = stamps_of(t, t->collected);
		const struct cuda_span *s = &t->spans[t->collected & (t->room - 1)];
		struct lane_end *end = end_of(t, s->lane);
		uint64_t from, to;

		if (!at[1])	/* written behind the other one */
			break;
		from = clock_ticks_of(&device_clock, rate, at[0]);
		to = clock_ticks_of(&device_clock, rate, at[1]);
		from = from > end->ticks ? from : end->ticks;
		to = to > from ? to : from;
		end->ticks = to;
		span_put(s->lane, s->id, from, to, s->iter, s->seq, s->arg);
	}
	return rc;
}

int cuda_timeline_stamp_ns(struct cuda_timeline *t, cudaStream_t stream, double *ns)
{
	enum { STAMPS = 64 };
	struct cuda_stopwatch watch;
	float ms = 0;
	int rc = cuda_stopwatch_open(&watch);

	if (!rc)
		rc = cuda_stamp(t->stamps, stream);	/* loads it */
	if (!rc)
		rc = cuda_stopwatch_start(&watch, stream);
	for (int i = 0; i < STAMPS && !rc; i++)
		rc = cuda_stamp(t->stamps, stream);
	if (!rc)
		rc = cuda_stopwatch_stop(&watch, stream, &ms);
	cuda_stopwatch_close(&watch);
	*ns = 1e6 * (double)ms / STAMPS;
	return rc;
}
