/*
 * bench/base/span.h - what a program says about its own time.
 *
 * The vocabulary (spans and classes) is two enums with a table beside each.  The order of
 * enum event_class is the priority order of the decomposition: where several are active at
 * one moment, the first one owns it.
 *
 * Each thread that speaks has a *lane*: a ring of events with one writer and no lock.  A
 * span costs two tick stamps and one 48-byte store; recorder_flush(), called by the training
 * thread in the LOG row of the step, turns ticks into nanoseconds, seals what is new as a
 * checksummed block and writes it.  So what the writing costs is inside the account, and a
 * kill -9 loses one iteration at most.  A full ring drops events and counts them.
 *
 * Every span is an NVTX range (domain "sfscale", registered string, payload: iteration),
 * where the NVTX headers were found and a tool is attached.
 */
#ifndef SFSCALE_BASE_SPAN_H
#define SFSCALE_BASE_SPAN_H

#include "bench/base/clock.h"
#include "bench/base/sync.h"

#include <cjson/cJSON.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum event_class {
	CLS_COMPUTE_FWD,	/* includes head and loss */
	CLS_COMPUTE_BWD,
	CLS_COMPUTE_OPT,
	CLS_COMPUTE_OTHER,
	CLS_COMM_WIRE,		/* given by the merge, not by the recorder */
	CLS_COMM_WAIT,		/* likewise */
	CLS_COMM,		/* a collective, waiting and moving not told apart */
	CLS_COPY,		/* host to device and back, and into the network's input layout */
	/* From here on what the training thread does: where it owns time, a device had nothing to do, and that is why. */
	CLS_LOADER,		/* it waits for a batch */
	CLS_BOUNDARY_EVAL,
	CLS_BOUNDARY_CKPT,
	CLS_BOUNDARY_WORKERS,	/* stopping and starting loader workers */
	CLS_BOUNDARY_SAMPLER,	/* permutation and shards of an epoch */
	CLS_LAUNCH,		/* it hands work to the device */
	CLS_SYNC,		/* blocked with nothing pending that is known: it waits for a device that is idle, or is being told */
	CLS_OTHER,		/* inside a known range of no class above */
	CLS_UNATTRIBUTED,	/* given by the decomposition: no range at all */
	CLS_COUNT,
	CLS_ASIDE = 255,	/* not part of the sum: work of loader workers */
};
extern const char *const class_names[CLS_COUNT];	/* "compute.fwd", "loader", ... */

enum event_kind { KIND_RANGE, KIND_COLLECTIVE, KIND_MARK, KIND_COUNTER, KIND_KERNEL, KIND_COPY, KIND_API };

enum span_id {
	SPAN_EPOCH_BEGIN,	/* boundary window: from here, or from SPAN_CKPT or SPAN_EVAL before, to the first SPAN_LOAD; arg: epoch */
	SPAN_WORKERS_STOP,	/* arg: workers */
	SPAN_WORKERS_START,
	SPAN_WORKERS_INDEX,	/* inside: an index written for one worker, and read by it; arg: worker */
	SPAN_SAMPLER,
	SPAN_LOAD,		/* the first of its iteration opens the window; arg: batch number in the epoch */
	SPAN_H2D,		/* arg: bytes */
	SPAN_BCAST_BN,		/* arg: bytes */
	SPAN_FWD,
	SPAN_LOSS,
	SPAN_BWD,		/* arg: bucket that it completes */
	SPAN_ALLREDUCE,		/* comm lane; arg: bytes */
	SPAN_DRAIN,		/* waiting until the last bucket is in */
	SPAN_OPT,
	SPAN_SYNC,		/* the host waits for what a device owes it: the loss */
	SPAN_LOSS_ALLREDUCE,	/* arg: bytes */
	SPAN_LOG,
	SPAN_RUN_END,		/* mark: the last window ends here */
	SPAN_MAKE_BATCH,	/* worker lanes: one batch from files to tensors; arg: its number over all epochs */
	SPAN_BATCH_READ,	/* parts of MAKE_BATCH: its time by stage (loader/stage.h), laid end to end: how long, not when */
	SPAN_BATCH_DECODE,
	SPAN_BATCH_TRANSFORM,
	SPAN_BATCH_HAND_OVER,
	SPAN_WORKER_CPU,	/* counters on worker lanes: ns on a core since it began, with each batch; */
	SPAN_WORKER_USS,	/* bytes, before its second batch and the last one of each epoch (loader/usage.h) */
	SPAN_WORKER_PSS,
	SPAN_QUEUE_DEPTH,	/* counter: batches ready when next() was called */
	SPAN_CLOCK_SYNC,	/* this program's own: clocks of the nodes compared */
	SPAN_CKPT,		/* writing a checkpoint; arg: epoch that is finished */
	SPAN_EVAL,		/* validation behind an epoch; arg: clips of this rank */
	SPAN_GATHER,		/* its predictions, from all ranks to all; arg: bytes */
	SPAN_COUNT
};

struct span_row {
	const char *name;
	enum event_kind kind;
	enum event_class cls;
	bool on_device;		/* where there is one, it does the work, and the host launches it */
};
extern const struct span_row span_rows[SPAN_COUNT];

/* 48 bytes, little endian; the unit of the record file. */
struct event {
	int64_t t0;	/* ns on the node's clock; ticks while still in a lane */
	int64_t t1;	/* == t0 for marks and counters */
	uint64_t arg;
	uint32_t name;	/* index into the header's "names" */
	uint32_t corr;	/* links a launch with what it launched; 0: none */
	uint32_t iter;	/* over all epochs, from 0; EVENT_NO_ITER */
	uint32_t seq;	/* of a collective on its lane, from 0: the same (lane, seq) is the same collective on all ranks */
	uint16_t comm;
	uint16_t lane;	/* index into the header's "lanes" */
	uint16_t flags;
	uint8_t kind;
	uint8_t cls;
};
_Static_assert(sizeof(struct event) == 48, "the record file's unit");

enum { EVENT_NO_ITER = 0xffffffffu, SPAN_DEPTH = 8 };
enum event_flag {
	EVENT_CLIPPED = 1 << 0,		/* begun before, or still open when the record ended */
};

struct lane {
	struct event *ring;		/* owned by the recorder */
	uint64_t mask;
	_Atomic uint64_t head;		/* written by the lane's thread */
	_Atomic uint64_t tail;		/* written by recorder_flush() */
	_Atomic uint64_t dropped;
	uint16_t id;
	uint32_t iter;			/* goes into every span begun from now on; set by the lane's thread */
	uint32_t collectives;		/* ended on this lane so far */
	bool launches;			/* device work is launched here, and told by lanes of the device: it is host.launch */
	unsigned depth;
	struct open_span {
		uint64_t ticks, arg;
		uint32_t iter;		/* when it began */
		enum span_id id;
	} open[SPAN_DEPTH];
};

/* All calls take a NULL lane and then do nothing, so code may speak without being recorded.
 * Spans of one lane nest.  begin/end cost two stamps; a chain of spans shares them: next()
 * ends the innermost span and begins another at the same moment. */
void span_begin(struct lane *, enum span_id, uint64_t arg);
void span_end(struct lane *);
void span_next(struct lane *, enum span_id, uint64_t arg);

/* An event stamped elsewhere (in ticks), such as by a worker process. */
void span_put(struct lane *, enum span_id, uint64_t t0_ticks, uint64_t t1_ticks, uint32_t iter, uint32_t seq,
	      uint64_t arg);

struct recorder;

/* Makes the record file of one rank and its lanes.  `head` (borrowed) says who and what: it
 * is stored with "names", "classes" and "lanes" added.  `ring_events` is a power of two. */
int recorder_open(struct recorder **, const char *path, const cJSON *head, const char *const *lane_names,
		  size_t lane_count, size_t ring_events);
struct lane *recorder_lane(struct recorder *, size_t index);

/* Seals and writes what the lanes hold.  FAILED (said) when the disk is full: what was
 * written before stays readable. */
int recorder_flush(struct recorder *);

/* Writes where this rank's clock stands against the reference clock, at once. */
int recorder_sync(struct recorder *, const struct sync_point *);

/* Flushes, writes `tail` (borrowed; with "dropped" added) as the last block, frees all. */
int recorder_close(struct recorder *, const cJSON *tail);

/* ns per begin/end pair and per next(), each the best of several loops over a real lane:
 * what recording costs on this machine. */
struct span_cost {
	double pair_ns, next_ns;
};
int span_cost_measure(struct span_cost *);

#endif
