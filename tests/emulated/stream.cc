/*
 * tests/emulated/stream.cc - the part of the CUDA runtime that has an order: streams, events, copies, graphs.
 *
 * A stream is a queue of items.  An item says whether it is over; one that is not yet is tried again, and holds up its own stream
 * and nobody else's.  Whichever thread of the host wants something of a stream runs its items, one thread at a time; there is no
 * thread behind the streams, so a run with one thread and one seed is always the same.
 *
 * When items run is emulated_lazy()'s choice.  A device may run them at once or late, and in any order that no event forbids:
 * who forgot to wait gets away with it at once, and is found late.  What waits here is what CUDA says that waits; the default
 * stream waits for those that are not cudaStreamNonBlocking, and they for it.
 *
 * An event is a place in a stream, the one behind its last record: a place that can be waited for by other streams, whatever
 * becomes of the event meanwhile.
 *
 * While a stream captures, its items become a graph's.  One stream alone: events do not fork a capture here, as they could on a
 * device.  What a capture forbids, it forbids as strictly as the manual allows a device to.
 */
#include "tests/emulated/runtime.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { PAUSE_US = 50, ITEMS_MOST = 4 };

using item = std::function<bool()>;
using stream_ref = std::shared_ptr<CUstream_st>;
using event_ref = std::shared_ptr<CUevent_st>;
/* Enqueues items; called with the mutex held, in a graph once for each of its launches. */
using enqueuer = std::function<void(const stream_ref &)>;

struct capture {
	uint64_t number;
	std::thread::id thread;
	enum cudaStreamCaptureMode mode;
	bool invalid;
	std::vector<enqueuer> enqueuers;
};

struct CUstream_st {
	struct emulated_stream face = { emulated_enqueue };	/* first: emulated.h says so */
	bool blocking = false, destroyed = false;
	bool busy = false;		/* a thread runs the first item, without the mutex */
	std::deque<item> items;
	uint64_t over = 0;		/* items that are */
	std::unique_ptr<capture> capturing;

	uint64_t end() const { return over + items.size(); }
};

/* A record of an event. */
struct moment {
	stream_ref stream;
	uint64_t end, ns;
};

struct CUevent_st {
	bool timed;
	std::shared_ptr<moment> last;
	uint64_t capture;		/* the number of the one that it was last recorded in, or 0 */
};

struct CUgraph_st {
	std::vector<enqueuer> enqueuers;
};

struct CUgraphExec_st {
	std::vector<enqueuer> enqueuers;
};

static uint64_t first_seed()
{
	const char *text = getenv("SFSCALE_EMULATED_LAZY");

	return text ? strtoull(text, NULL, 10) : 0;
}

/* The mutex guards all of these and what they hold.  Never destroyed: threads may outlive main(). */
static std::mutex &mutex = *new std::mutex;
static uint64_t seed = first_seed(), chance = seed, captures;
static const stream_ref &standard = *new stream_ref(new CUstream_st);	/* of the handle NULL */
static auto &streams = *new std::vector<stream_ref>{ standard };
static auto &events = *new std::map<cudaEvent_t, event_ref>;
static auto &graphs = *new std::map<cudaGraph_t, std::shared_ptr<CUgraph_st>>;
static auto &executables = *new std::map<cudaGraphExec_t, std::shared_ptr<CUgraphExec_st>>;
static thread_local enum cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

using lock = std::unique_lock<std::mutex>;

template <typename T> static std::shared_ptr<T> find(const std::map<T *, std::shared_ptr<T>> &all, T *handle)
{
	auto at = all.find(handle);

	return at == all.end() ? nullptr : at->second;
}

static stream_ref find_stream(cudaStream_t handle)
{
	if (!handle || handle == cudaStreamLegacy)
		return standard;
	for (const stream_ref &s : streams)
		if (s.get() == handle && !s->destroyed)
			return s;
	return nullptr;
}

uint64_t emulated_clock_ns(void)
{
	struct timespec t;
	uint64_t ns;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
	return (ns + ns / 10000 + 1700000000000000000) / 32 * 32;
}

/* ---- running ---- */

static bool is_by_chance()
{
	return seed && seed != UINT64_MAX;
}

/* Runs the first item; false: it is not over. */
static bool run_first(lock &l, const stream_ref &s)
{
	item &first = s->items.front();		/* stays where it is while others are enqueued */
	bool over;

	s->busy = true;
	l.unlock();
	over = first();
	l.lock();
	s->busy = false;
	if (!over)
		return false;
	s->items.pop_front();
	s->over++;
	if (s->destroyed && s->items.empty())
		streams.erase(std::remove(streams.begin(), streams.end(), s), streams.end());
	return true;
}

/* Runs what is before `end`, but `most` items; false: not all of it is over. */
static bool advance(const stream_ref &s, uint64_t end, size_t most = SIZE_MAX)
{
	lock l(mutex);

	while (s->over < end && !s->items.empty() && most-- && !s->busy && run_first(l, s))
		;
	return s->over >= end;
}

static void wait_for(const stream_ref &s, uint64_t end)
{
	while (!advance(s, end))
		usleep(PAUSE_US);
}

void emulated_stir(void)
{
	lock l(mutex);

	for (uint64_t count = is_by_chance() ? emulated_random(&chance) % (ITEMS_MOST + 1) : 0; count; count--) {
		std::vector<stream_ref> ready;

		for (const stream_ref &s : streams)
			if (!s->items.empty() && !s->busy)
				ready.push_back(s);
		if (ready.empty())
			return;
		run_first(l, ready[emulated_random(&chance) % ready.size()]);
	}
}

void emulated_finish(void)
{
	std::vector<std::pair<stream_ref, uint64_t>> all;
	size_t most = SIZE_MAX;

	{
		lock l(mutex);

		for (const stream_ref &s : streams)
			all.push_back({ s, s->end() });
	}
	for (bool done = false; !done;) {
		uint64_t turn = 0;

		if (is_by_chance()) {
			lock l(mutex);

			turn = emulated_random(&chance);
			most = 1 + turn / all.size() % ITEMS_MOST;
		}
		done = true;
		for (size_t i = 0; i < all.size(); i++) {
			const auto &to = all[(turn + i) % all.size()];

			done = advance(to.first, to.second, most) && done;
		}
		if (!done)
			usleep(PAUSE_US);
	}
}

void emulated_lazy(uint64_t s)
{
	std::vector<stream_ref> all;

	{
		lock l(mutex);

		seed = chance = s;
		if (!seed)
			all = streams;
	}
	for (const stream_ref &one : all)
		advance(one, UINT64_MAX);
}

/* ---- enqueueing ---- */

static item behind(const stream_ref &other, uint64_t end)
{
	return [other, end] { return advance(other, end); };
}

/* With the mutex held. */
static void append(const stream_ref &s, const item &i)
{
	if (s == standard) {
		for (const stream_ref &other : streams)
			if (other->blocking && !other->items.empty())
				s->items.push_back(behind(other, other->end()));
	} else if (s->blocking && !standard->items.empty()) {
		s->items.push_back(behind(standard, standard->end()));
	}
	s->items.push_back(i);
}

/* With the mutex held: whatever is enqueued on a stream ends here, unless it captures. */
static cudaError_t enqueue_locked(const stream_ref &s, const enqueuer &e)
{
	if (!s)
		return cudaErrorInvalidResourceHandle;
	for (const stream_ref &other : streams)
		if (s == standard && other->blocking && other->capturing) {
			other->capturing->invalid = true;
			return cudaErrorStreamCaptureImplicit;
		}
	if (!s->capturing)
		e(s);
	else if (s->capturing->invalid)
		return cudaErrorStreamCaptureInvalidated;
	else
		s->capturing->enqueuers.push_back(e);
	return cudaSuccess;
}

/* Now, if that is as soon as it can. */
static void begin(lock &l, const stream_ref &s)
{
	const uint64_t end = s->end();

	if (seed)
		return;
	l.unlock();
	advance(s, end);
}

static cudaError_t enqueue(cudaStream_t stream, const enqueuer &e)
{
	lock l(mutex);
	const stream_ref s = find_stream(stream);
	const cudaError_t error = enqueue_locked(s, e);

	if (!error)
		begin(l, s);
	return emulated_result(error);
}

cudaError_t emulated_push(cudaStream_t stream, const item &i)
{
	return enqueue(stream, [i](const stream_ref &s) { append(s, i); });
}

void emulated_enqueue(void *stream, bool (*run)(void *arguments), const void *arguments, size_t bytes)
{
	const std::vector<char> given((const char *)arguments, (const char *)arguments + bytes);
	const cudaError_t e = emulated_push((cudaStream_t)stream, [run, kept = given]() mutable { return run(kept.data()); });

	if (e == cudaErrorInvalidResourceHandle) {
		fprintf(stderr, "emulated_enqueue: no such stream\n");
		abort();
	}
}

/* Where the stream ends now; of the default one, what it would wait for is before it. */
static uint64_t end_of(const stream_ref &s)
{
	if (s == standard)
		append(s, [] { return true; });
	return s->end();
}

/* ---- what a capture forbids ---- */

/* With the mutex held: what waits for this stream is an error while it captures. */
static bool is_capturing(const stream_ref &s)
{
	if (s->capturing)
		s->capturing->invalid = true;
	return s->capturing != nullptr;
}

bool emulated_is_forbidden(void)
{
	lock l(mutex);
	bool forbidden = false;

	for (const stream_ref &s : streams) {
		capture *c = s->capturing.get();

		if (!c || c->mode == cudaStreamCaptureModeRelaxed || thread_mode == cudaStreamCaptureModeRelaxed)
			continue;
		if (c->thread == std::this_thread::get_id() ||
		    (c->mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal))
			forbidden = c->invalid = true;
	}
	return forbidden;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
	MAY_FAIL();
	std::swap(*mode, thread_mode);
	return cudaSuccess;
}

/* The stream and its end; or an error, where waiting is one. */
static cudaError_t to_wait_for(cudaStream_t stream, stream_ref *s, uint64_t *end)
{
	lock l(mutex);

	*s = find_stream(stream);
	if (!*s)
		return emulated_result(cudaErrorInvalidResourceHandle);
	if (is_capturing(*s))
		return emulated_result(cudaErrorStreamCaptureUnsupported);
	*end = end_of(*s);
	return cudaSuccess;
}

/* ---- copies ---- */

struct rows {
	char *to;
	size_t to_pitch;
	const char *from;
	size_t from_pitch, bytes, count;
};

static void move(const rows &r)
{
	for (size_t i = 0; i < r.count; i++)
		memmove(r.to + i * r.to_pitch, r.from + i * r.from_pitch, r.bytes);
}

/* Memory of the host that a device cannot reach by itself. */
static bool is_pageable(const void *at, size_t pitch, const rows &r)
{
	return emulated_side_of(at, (r.count - 1) * pitch + r.bytes) == EMULATED_PAGEABLE;
}

static cudaError_t copy(rows r, enum cudaMemcpyKind kind, cudaStream_t stream)
{
	bool from_pageable, to_pageable;
	stream_ref s;
	uint64_t end;
	cudaError_t e;

	if (r.bytes > r.to_pitch || r.bytes > r.from_pitch)
		return emulated_result(cudaErrorInvalidValue);
	if (!r.bytes || !r.count)
		return cudaSuccess;
	from_pageable = kind != cudaMemcpyDeviceToHost && kind != cudaMemcpyDeviceToDevice && is_pageable(r.from, r.from_pitch, r);
	to_pageable = kind != cudaMemcpyHostToDevice && kind != cudaMemcpyDeviceToDevice && is_pageable(r.to, r.to_pitch, r);
	{
		lock l(mutex);

		s = find_stream(stream);
		if (!s)
			return emulated_result(cudaErrorInvalidResourceHandle);
		if ((from_pageable || to_pageable) && is_capturing(s))
			return emulated_result(cudaErrorStreamCaptureUnsupported);
		end = from_pageable ? end_of(s) : 0;
	}
	/* The source is read when the stream has got here, and is the caller's again at once: the copy is made from another. */
	if (from_pageable && !to_pageable) {
		auto kept = std::make_shared<std::vector<char>>(r.bytes * r.count);
		const rows in = { kept->data(), r.bytes, r.from, r.from_pitch, r.bytes, r.count };

		wait_for(s, end);
		move(in);
		r.from = kept->data();
		r.from_pitch = r.bytes;
		return emulated_push(stream, [r, kept] { return move(r), true; });
	}
	e = emulated_push(stream, [r] { return move(r), true; });
	if (e || (!to_pageable && kind != cudaMemcpyHostToHost))
		return e;
	e = to_wait_for(stream, &s, &end);
	if (!e)
		wait_for(s, end);
	return e;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
	MAY_FAIL();
	return copy({ (char *)to, bytes, (const char *)from, bytes, bytes, 1 }, kind, stream);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
			      enum cudaMemcpyKind kind, cudaStream_t stream)
{
	MAY_FAIL();
	return copy({ (char *)to, to_pitch, (const char *)from, from_pitch, width, height }, kind, stream);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
	MAY_FAIL();
	return emulated_push(stream, [=] { return memset(to, value, bytes), true; });
}

/* The calls without a stream are the default stream's, and are done when they return. */
static cudaError_t in_default_stream(const item &i)
{
	const cudaError_t e = emulated_push(NULL, i);
	lock l(mutex);
	const uint64_t end = standard->end();

	l.unlock();
	if (!e)
		wait_for(standard, end);
	return e;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
	(void)kind;
	MAY_FAIL_OR_WAIT();
	return in_default_stream([=] { return memmove(to, from, bytes), true; });
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
	MAY_FAIL_OR_WAIT();
	return in_default_stream([=] { return memset(to, value, bytes), true; });
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
	stream_ref s;

	(void)priority;
	MAY_FAIL();
	if (flags & ~cudaStreamNonBlocking)
		return emulated_result(cudaErrorInvalidValue);
	s = std::make_shared<CUstream_st>();
	s->blocking = !(flags & cudaStreamNonBlocking);
	*stream = s.get();
	lock l(mutex);
	streams.push_back(s);
	return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
	MAY_FAIL();
	return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
	MAY_FAIL();
	return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}

/* What is enqueued is done before it is gone, but nobody waits for that here. */
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	MAY_FAIL();
	lock l(mutex);
	const stream_ref s = find_stream(stream);

	if (!s || s == standard)
		return emulated_result(cudaErrorInvalidResourceHandle);
	s->capturing.reset();
	s->destroyed = true;
	if (s->items.empty())
		streams.erase(std::remove(streams.begin(), streams.end(), s), streams.end());
	return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	cudaError_t e;
	stream_ref s;
	uint64_t end;

	MAY_FAIL_OR_WAIT();
	e = to_wait_for(stream, &s, &end);
	if (!e)
		wait_for(s, end);
	return e;
}

/* How far a question brings a stream; the default one to its end, which each question moves.  "Not ready" is no error that
 * cudaGetLastError() would tell of. */
static cudaError_t ask(const stream_ref &s, uint64_t end)
{
	return advance(s, end, seed && s != standard ? 1 : SIZE_MAX) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
	cudaError_t e;
	stream_ref s;
	uint64_t end;

	MAY_FAIL_OR_WAIT();
	e = to_wait_for(stream, &s, &end);
	return e ? e : ask(s, end);
}

cudaError_t cudaDeviceSynchronize(void)
{
	MAY_FAIL_OR_WAIT();
	emulated_finish();
	return cudaSuccess;
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
	event_ref e;

	MAY_FAIL();
	e = std::make_shared<CUevent_st>();
	e->timed = !(flags & cudaEventDisableTiming);
	*event = e.get();
	lock l(mutex);
	events[e.get()] = e;
	return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
	MAY_FAIL();
	return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	MAY_FAIL();
	lock l(mutex);
	return emulated_result(events.erase(event) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

static void record(const stream_ref &s, const event_ref &e)
{
	auto m = std::make_shared<moment>();

	append(s, [m] { return m->ns = emulated_clock_ns(), true; });
	m->stream = s;
	m->end = s->end();
	e->last = m;
	e->capture = 0;
}

/* In a capture a record is only a mark, for other streams that would join; with cudaEventRecordExternal it is the graph's. */
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags)
{
	MAY_FAIL();
	lock l(mutex);
	const event_ref e = find(events, event);
	const stream_ref s = find_stream(stream);
	cudaError_t error;

	if (!e || !s)
		return emulated_result(cudaErrorInvalidResourceHandle);
	if (s->capturing && !s->capturing->invalid && !(flags & cudaEventRecordExternal)) {
		e->capture = s->capturing->number;
		return cudaSuccess;
	}
	error = enqueue_locked(s, [e](const stream_ref &to) { record(to, e); });
	if (!error)
		begin(l, s);
	return emulated_result(error);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	MAY_FAIL();
	return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}

static void wait_for_event(const stream_ref &s, const event_ref &e)
{
	if (e->last)
		append(s, behind(e->last->stream, e->last->end));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
	MAY_FAIL();
	lock l(mutex);
	const event_ref e = find(events, event);
	const stream_ref s = find_stream(stream);
	cudaError_t error;

	if (!e || !s)
		return emulated_result(cudaErrorInvalidResourceHandle);
	if (e->capture && !(s->capturing && s->capturing->number == e->capture)) {
		fprintf(stderr, "cudaStreamWaitEvent: a capture of more than one stream is not emulated\n");
		return emulated_result(cudaErrorCapturedEvent);
	}
	if (e->capture)
		return cudaSuccess;	/* is before this in the same stream */
	if (s->capturing && e->last && !(flags & cudaEventWaitExternal)) {
		s->capturing->invalid = true;
		return emulated_result(cudaErrorStreamCaptureIsolation);
	}
	error = enqueue_locked(s, [e](const stream_ref &to) { wait_for_event(to, e); });
	if (!error)
		begin(l, s);
	return emulated_result(error);
}

/* Its last record, NULL where there is none; or an error. */
static cudaError_t last_record(cudaEvent_t event, std::shared_ptr<moment> *last)
{
	lock l(mutex);
	const event_ref e = find(events, event);

	if (!e)
		return emulated_result(cudaErrorInvalidResourceHandle);
	if (e->capture)
		return emulated_result(cudaErrorCapturedEvent);
	*last = e->last;
	return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	std::shared_ptr<moment> m;
	cudaError_t e;

	MAY_FAIL_OR_WAIT();
	e = last_record(event, &m);
	if (m)
		wait_for(m->stream, m->end);
	return e;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
	std::shared_ptr<moment> m;
	cudaError_t e;

	MAY_FAIL_OR_WAIT();
	e = last_record(event, &m);
	return m ? ask(m->stream, m->end) : e;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
	MAY_FAIL();
	lock l(mutex);
	const event_ref a = find(events, from), b = find(events, to);

	if (!a || !b || !a->timed || !b->timed || !a->last || !b->last)
		return emulated_result(cudaErrorInvalidResourceHandle);
	if (a->last->stream->over < a->last->end || b->last->stream->over < b->last->end)
		return cudaErrorNotReady;
	*ms = (float)((double)(int64_t)(b->last->ns - a->last->ns) * 1e-6);
	return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
	MAY_FAIL();
	lock l(mutex);
	const stream_ref s = find_stream(stream);

	if (!s || s == standard)
		return emulated_result(s ? cudaErrorStreamCaptureUnsupported : cudaErrorInvalidResourceHandle);
	if (s->capturing)
		return emulated_result(cudaErrorIllegalState);
	s->capturing.reset(new capture{ ++captures, std::this_thread::get_id(), mode, false, {} });
	return cudaSuccess;
}

/* Also where it fails the stream captures no more. */
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
	const cudaError_t ordered = (cudaError_t)emulated_failure(__func__);

	emulated_stir();
	lock l(mutex);
	const stream_ref s = find_stream(stream);
	std::unique_ptr<capture> c;
	std::shared_ptr<CUgraph_st> g;

	if (!s)
		return emulated_result(cudaErrorInvalidResourceHandle);
	if (!s->capturing)
		return emulated_result(cudaErrorIllegalState);
	if (s->capturing->mode != cudaStreamCaptureModeRelaxed && s->capturing->thread != std::this_thread::get_id())
		return emulated_result(cudaErrorStreamCaptureWrongThread);
	c = std::move(s->capturing);
	*graph = NULL;
	if (ordered)
		return emulated_result(ordered);
	if (c->invalid)
		return emulated_result(cudaErrorStreamCaptureInvalidated);
	g = std::make_shared<CUgraph_st>();
	g->enqueuers = std::move(c->enqueuers);
	graphs[g.get()] = g;
	*graph = g.get();
	return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
	MAY_FAIL();
	lock l(mutex);
	const stream_ref s = find_stream(stream);

	if (!s)
		return emulated_result(cudaErrorInvalidResourceHandle);
	*status = !s->capturing ? cudaStreamCaptureStatusNone :
		  s->capturing->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags)
{
	(void)flags;
	MAY_FAIL();
	lock l(mutex);
	const auto g = find(graphs, graph);
	const auto x = std::make_shared<CUgraphExec_st>();

	if (!g)
		return emulated_result(cudaErrorInvalidValue);
	x->enqueuers = g->enqueuers;
	executables[x.get()] = x;
	*executable = x.get();
	return cudaSuccess;
}

#if CUDART_VERSION >= 12000
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags)
#else
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, cudaGraphNode_t *, char *, size_t flags)
#endif
{
	MAY_FAIL();
	return cudaGraphInstantiateWithFlags(executable, graph, flags);
}

/* Of a graph on a stream: its items, as if they were enqueued one after the other. */
static cudaError_t launch(cudaGraphExec_t executable, cudaStream_t stream, bool for_real)
{
	lock l(mutex);
	const auto x = find(executables, executable);
	const stream_ref s = find_stream(stream);
	cudaError_t e = x && s ? cudaSuccess : cudaErrorInvalidResourceHandle;

	for (size_t i = 0; for_real && !e && i < x->enqueuers.size(); i++)
		e = enqueue_locked(s, x->enqueuers[i]);
	if (!e)
		begin(l, s);
	return emulated_result(e);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream)
{
	MAY_FAIL();
	return launch(executable, stream, false);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream)
{
	MAY_FAIL();
	return launch(executable, stream, true);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
	MAY_FAIL();
	lock l(mutex);
	return emulated_result(graphs.erase(graph) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable)
{
	MAY_FAIL();
	lock l(mutex);
	return emulated_result(executables.erase(executable) ? cudaSuccess : cudaErrorInvalidValue);
}
