/*
 * bench/base/span.c - see span.h.
 *
 * The ring is single producer, single consumer: the lane's thread moves `head`, the flusher
 * moves `tail`.  Stamps in the ring are ticks; recorder_flush() takes a tie before it looks
 * at the rings, so every event that it finds ended before that tie, and maps its stamps on
 * the broken line through all ties so far.  The line is monotonic, so order and nesting
 * survive the conversion.
 */
#include "bench/base/span.h"

#include "bench/base/err.h"
#include "bench/base/record.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef HAVE_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

const char *const class_names[CLS_COUNT] = {
	[CLS_COMPUTE_FWD] = "compute.fwd",
	[CLS_COMPUTE_BWD] = "compute.bwd",
	[CLS_COMPUTE_OPT] = "compute.opt",
	[CLS_COMPUTE_OTHER] = "compute.other",
	[CLS_COMM_WIRE] = "comm.wire",
	[CLS_COMM_WAIT] = "comm.wait",
	[CLS_COMM] = "comm.unsplit",
	[CLS_COPY] = "copy",
	[CLS_LOADER] = "loader",
	[CLS_BOUNDARY_EVAL] = "boundary.eval",
	[CLS_BOUNDARY_CKPT] = "boundary.ckpt",
	[CLS_BOUNDARY_WORKERS] = "boundary.workers",
	[CLS_BOUNDARY_SAMPLER] = "boundary.sampler",
	[CLS_LAUNCH] = "host.launch",
	[CLS_SYNC] = "host.sync",
	[CLS_OTHER] = "host.other",
	[CLS_UNATTRIBUTED] = "unattributed",
};

const struct span_row span_rows[SPAN_COUNT] = {
	[SPAN_EPOCH_BEGIN]	= { "epoch_begin",	KIND_RANGE,	 CLS_OTHER },
	[SPAN_WORKERS_STOP]	= { "workers_stop",	KIND_RANGE,	 CLS_BOUNDARY_WORKERS },
	[SPAN_WORKERS_START]	= { "workers_start",	KIND_RANGE,	 CLS_BOUNDARY_WORKERS },
	[SPAN_WORKERS_INDEX]	= { "workers_index",	KIND_RANGE,	 CLS_BOUNDARY_WORKERS },
	[SPAN_SAMPLER]		= { "sampler",		KIND_RANGE,	 CLS_BOUNDARY_SAMPLER },
	[SPAN_LOAD]		= { "load",		KIND_RANGE,	 CLS_LOADER },
	[SPAN_H2D]		= { "h2d",		KIND_RANGE,	 CLS_COPY },
	[SPAN_BCAST_BN]		= { "bcast_bn",		KIND_COLLECTIVE, CLS_COMM },
	[SPAN_FWD]		= { "fwd",		KIND_RANGE,	 CLS_COMPUTE_FWD },
	[SPAN_LOSS]		= { "loss",		KIND_RANGE,	 CLS_COMPUTE_FWD },
	[SPAN_BWD]		= { "bwd",		KIND_RANGE,	 CLS_COMPUTE_BWD },
	[SPAN_ALLREDUCE]	= { "allreduce",	KIND_COLLECTIVE, CLS_COMM },
	[SPAN_DRAIN]		= { "drain",		KIND_RANGE,	 CLS_SYNC },
	[SPAN_OPT]		= { "opt",		KIND_RANGE,	 CLS_COMPUTE_OPT },
	[SPAN_SYNC]		= { "sync",		KIND_RANGE,	 CLS_SYNC },
	[SPAN_LOSS_ALLREDUCE]	= { "loss_allreduce",	KIND_COLLECTIVE, CLS_COMM },
	[SPAN_LOG]		= { "log",		KIND_RANGE,	 CLS_OTHER },
	[SPAN_RUN_END]		= { "run_end",		KIND_MARK,	 CLS_ASIDE },
	[SPAN_MAKE_BATCH]	= { "make_batch",	KIND_RANGE,	 CLS_ASIDE },
	[SPAN_BATCH_READ]	= { "batch_read",	KIND_RANGE,	 CLS_ASIDE },
	[SPAN_BATCH_DECODE]	= { "batch_decode",	KIND_RANGE,	 CLS_ASIDE },
	[SPAN_BATCH_TRANSFORM]	= { "batch_transform",	KIND_RANGE,	 CLS_ASIDE },
	[SPAN_BATCH_HAND_OVER]	= { "batch_hand_over",	KIND_RANGE,	 CLS_ASIDE },
	[SPAN_WORKER_CPU]	= { "worker_cpu",	KIND_COUNTER,	 CLS_ASIDE },
	[SPAN_WORKER_USS]	= { "worker_uss",	KIND_COUNTER,	 CLS_ASIDE },
	[SPAN_WORKER_PSS]	= { "worker_pss",	KIND_COUNTER,	 CLS_ASIDE },
	[SPAN_QUEUE_DEPTH]	= { "queue_depth",	KIND_COUNTER,	 CLS_ASIDE },
	[SPAN_CLOCK_SYNC]	= { "clock_sync",	KIND_RANGE,	 CLS_OTHER },
	[SPAN_CKPT]		= { "ckpt",		KIND_RANGE,	 CLS_BOUNDARY_CKPT },
	[SPAN_EVAL]		= { "eval",		KIND_RANGE,	 CLS_BOUNDARY_EVAL },
	[SPAN_GATHER]		= { "gather",		KIND_COLLECTIVE, CLS_COMM },
};

enum { TIES_KEPT = 64, BLOCK_EVENTS = 16384 };

struct recorder {
	struct record_writer file;
	struct lane *lanes;		/* owned, with their rings */
	size_t lane_count;
	struct clock_tie ties[TIES_KEPT];	/* the newest at tie_count - 1, modulo */
	size_t tie_count;
	struct event block[BLOCK_EVENTS];
};

/* ---- NVTX ------------------------------------------------------------------------------ */

#ifdef HAVE_NVTX
static nvtxDomainHandle_t nvtx_domain;	/* NULL without a tool: then a span skips NVTX */
static nvtxStringHandle_t nvtx_names[SPAN_COUNT];

static void nvtx_open(void)
{
	if (nvtx_domain)
		return;
	nvtx_domain = nvtxDomainCreateA("sfscale");
	for (size_t i = 0; nvtx_domain && i < SPAN_COUNT; i++)
		nvtx_names[i] = nvtxDomainRegisterStringA(nvtx_domain, span_rows[i].name);
}

static void nvtx_push(enum span_id id, uint32_t iter)
{
	nvtxEventAttributes_t a = { .version = NVTX_VERSION, .size = NVTX_EVENT_ATTRIB_STRUCT_SIZE };

	if (!nvtx_domain)
		return;
	a.messageType = NVTX_MESSAGE_TYPE_REGISTERED;
	a.message.registered = nvtx_names[id];
	a.payloadType = NVTX_PAYLOAD_TYPE_UNSIGNED_INT64;
	a.payload.ullValue = iter;
	nvtxDomainRangePushEx(nvtx_domain, &a);
}

static void nvtx_pop(void)
{
	if (nvtx_domain)
		nvtxDomainRangePop(nvtx_domain);
}
#else
static void nvtx_open(void) {}
static void nvtx_push(enum span_id id, uint32_t iter) { (void)id; (void)iter; }
static void nvtx_pop(void) {}
#endif

/* ---- lanes ----------------------------------------------------------------------------- */

static inline void put(struct lane *l, enum span_id id, uint64_t t0, uint64_t t1, uint32_t iter, uint32_t seq,
		       uint64_t arg)
{
	uint64_t head = atomic_load_explicit(&l->head, memory_order_relaxed);

	if (head - atomic_load_explicit(&l->tail, memory_order_acquire) > l->mask) {
		atomic_fetch_add_explicit(&l->dropped, 1, memory_order_relaxed);
		return;
	}
	l->ring[head & l->mask] = (struct event){
		.t0 = (int64_t)t0, .t1 = (int64_t)t1, .arg = arg, .name = id, .iter = iter, .seq = seq,
		.lane = l->id, .kind = (uint8_t)span_rows[id].kind, .cls = (uint8_t)span_rows[id].cls,
	};
	atomic_store_explicit(&l->head, head + 1, memory_order_release);
}

static inline void open_at(struct lane *l, enum span_id id, uint64_t ticks, uint64_t arg)
{
	assert(l->depth < SPAN_DEPTH);
	l->open[l->depth++] = (struct open_span){ .ticks = ticks, .arg = arg, .iter = l->iter, .id = id };
	nvtx_push(id, l->iter);
}

static inline void close_at(struct lane *l, uint64_t ticks)
{
	struct open_span s;

	assert(l->depth > 0);
	s = l->open[--l->depth];
	put(l, s.id, s.ticks, ticks, s.iter, span_rows[s.id].kind == KIND_COLLECTIVE ? l->collectives++ : 0, s.arg);
	nvtx_pop();
}

void span_begin(struct lane *l, enum span_id id, uint64_t arg)
{
	if (l)
		open_at(l, id, clock_ticks(), arg);
}

void span_end(struct lane *l)
{
	if (l)
		close_at(l, clock_ticks());
}

void span_next(struct lane *l, enum span_id id, uint64_t arg)
{
	uint64_t now;

	if (!l)
		return;
	now = clock_ticks();
	close_at(l, now);
	open_at(l, id, now, arg);
}

void span_put(struct lane *l, enum span_id id, uint64_t t0_ticks, uint64_t t1_ticks, uint32_t iter, uint32_t seq,
	      uint64_t arg)
{
	if (l)
		put(l, id, t0_ticks, t1_ticks, iter, seq, arg);
}

/* ---- the recorder ---------------------------------------------------------------------- */

static int write_head(struct recorder *r, const cJSON *head, const char *const *lane_names)
{
	cJSON *whole = cJSON_Duplicate(head, 1);
	cJSON *names, *lanes;
	int rc;

	names = cJSON_AddArrayToObject(whole, "names");
	for (size_t i = 0; i < SPAN_COUNT; i++)
		cJSON_AddItemToArray(names, cJSON_CreateString(span_rows[i].name));
	cJSON_AddItemToObject(whole, "classes", cJSON_CreateStringArray(class_names, CLS_COUNT));
	lanes = cJSON_CreateStringArray(lane_names, (int)r->lane_count);
	cJSON_AddItemToObject(whole, "lanes", lanes);
	rc = record_write_json(&r->file, RECORD_HEAD, whole);
	cJSON_Delete(whole);
	return rc;
}

static void release(struct recorder *r)
{
	for (size_t i = 0; r->lanes && i < r->lane_count; i++)
		free(r->lanes[i].ring);
	free(r->lanes);
	free(r);
}

int recorder_open(struct recorder **out, const char *path, const cJSON *head, const char *const *lane_names,
		  size_t lane_count, size_t ring_events)
{
	struct recorder *r = calloc(1, sizeof(*r));
	int rc = OK;

	assert(ring_events && !(ring_events & (ring_events - 1)));
	if (!r)
		return err(NO_MEMORY, "no memory for a recorder");
	r->lane_count = lane_count;
	r->lanes = calloc(lane_count, sizeof(*r->lanes));
	for (size_t i = 0; r->lanes && i < lane_count; i++) {
		struct lane *l = &r->lanes[i];

		l->ring = malloc(ring_events * sizeof(*l->ring));
		if (!l->ring)
			rc = NO_MEMORY;
		else	/* touched now, so that no span pays for a page fault */
			memset(l->ring, 0, ring_events * sizeof(*l->ring));
		l->mask = ring_events - 1;
		l->id = (uint16_t)i;
		l->iter = EVENT_NO_ITER;
	}
	if (!r->lanes || rc)
		rc = err(NO_MEMORY, "no memory for %zu lanes of %zu events", lane_count, ring_events);
	if (!rc) {
		nvtx_open();
		rc = record_writer_open(&r->file, path);
	}
	if (!rc) {
		r->ties[r->tie_count++] = clock_tie_take();
		rc = write_head(r, head, lane_names);
		if (rc)
			record_writer_close(&r->file);
	}
	if (rc) {
		release(r);
		return rc;
	}
	*out = r;
	return OK;
}

struct lane *recorder_lane(struct recorder *r, size_t index)
{
	assert(index < r->lane_count);
	return &r->lanes[index];
}

/* The segment of the broken line that holds `ticks`; events are young, so from the end. */
static int64_t to_ns(const struct recorder *r, uint64_t ticks)
{
	size_t oldest = r->tie_count > TIES_KEPT ? r->tie_count - TIES_KEPT : 0;
	size_t i = r->tie_count - 1;

	if (i == 0)
		return (int64_t)clock_tie_ns(r->ties[0], r->ties[0], ticks);
	while (i > oldest + 1 && r->ties[(i - 1) % TIES_KEPT].ticks > ticks)
		i--;
	return (int64_t)clock_tie_ns(r->ties[(i - 1) % TIES_KEPT], r->ties[i % TIES_KEPT], ticks);
}

static int write_block(struct recorder *r, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		r->block[i].t0 = to_ns(r, (uint64_t)r->block[i].t0);
		r->block[i].t1 = to_ns(r, (uint64_t)r->block[i].t1);
	}
	return n ? record_write(&r->file, RECORD_EVENTS, r->block, n * sizeof(r->block[0]), n) : OK;
}

int recorder_flush(struct recorder *r)
{
	size_t n = 0;
	int rc;

	/* A tick later than this tie is mapped by going on along the last segment. */
	r->ties[r->tie_count % TIES_KEPT] = clock_tie_take();
	rc = record_write(&r->file, RECORD_TIE, &r->ties[r->tie_count % TIES_KEPT], sizeof(struct clock_tie), 1);
	r->tie_count++;
	for (size_t i = 0; i < r->lane_count && !rc; i++) {
		struct lane *l = &r->lanes[i];
		uint64_t tail = atomic_load_explicit(&l->tail, memory_order_relaxed);
		uint64_t head = atomic_load_explicit(&l->head, memory_order_acquire);

		for (; tail != head && !rc; tail++) {
			r->block[n++] = l->ring[tail & l->mask];
			if (n == BLOCK_EVENTS) {
				rc = write_block(r, n);
				n = 0;
			}
		}
		atomic_store_explicit(&l->tail, tail, memory_order_release);
	}
	return rc ? rc : write_block(r, n);
}

int recorder_sync(struct recorder *r, const struct sync_point *point)
{
	return record_write(&r->file, RECORD_SYNC, point, sizeof(*point), 1);
}

int recorder_close(struct recorder *r, const cJSON *tail)
{
	uint64_t dropped = 0;
	cJSON *whole;
	int rc, closed;

	if (!r)
		return OK;
	rc = recorder_flush(r);
	for (size_t i = 0; i < r->lane_count; i++)
		dropped += atomic_load(&r->lanes[i].dropped);
	whole = cJSON_Duplicate(tail, 1);
	cJSON_AddNumberToObject(whole, "dropped", (double)dropped);
	if (!rc)
		rc = record_write_json(&r->file, RECORD_TAIL, whole);
	cJSON_Delete(whole);
	closed = record_writer_close(&r->file);
	release(r);
	return rc ? rc : closed;
}

int span_cost_measure(struct span_cost *cost)
{
	enum { EVENTS = 1 << 12, LOOPS = 64 };
	struct lane lane = { .ring = calloc(EVENTS, sizeof(struct event)), .mask = EVENTS - 1 };

	if (!lane.ring)
		return err(NO_MEMORY, "no memory for %d events", EVENTS);
	*cost = (struct span_cost){ 1e9, 1e9 };
	for (int loop = 0; loop < LOOPS; loop++) {
		uint64_t t0 = clock_ns(), t1, t2;

		for (int i = 0; i < EVENTS; i++) {
			span_begin(&lane, SPAN_FWD, (uint64_t)i);
			span_end(&lane);
		}
		t1 = clock_ns();
		atomic_store(&lane.tail, atomic_load(&lane.head));
		span_begin(&lane, SPAN_FWD, 0);
		for (int i = 0; i < EVENTS - 1; i++)
			span_next(&lane, SPAN_BWD, (uint64_t)i);
		span_end(&lane);
		t2 = clock_ns();
		atomic_store(&lane.tail, atomic_load(&lane.head));
		if ((double)(t1 - t0) / EVENTS < cost->pair_ns)
			cost->pair_ns = (double)(t1 - t0) / EVENTS;
		if ((double)(t2 - t1) / EVENTS < cost->next_ns)
			cost->next_ns = (double)(t2 - t1) / EVENTS;
	}
	free(lane.ring);
	return OK;
}
