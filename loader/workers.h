/*
 * loader/workers.h - who makes the batches, and how long they live.
 *
 * A policy is a row.  All makers run the same loop over the range they were started for, one epoch
 * or the whole run: process k of w makes batches first + k, first + k + w, ...; a thread the next one that
 * nobody has taken; each as soon as its slot in the ring is free.
 */
#ifndef SFSCALE_LOADER_WORKERS_H
#define SFSCALE_LOADER_WORKERS_H

#include "bench/base/span.h"
#include "loader/batch.h"

#include <pthread.h>
#include <sys/types.h>

enum worker_kind {
	WORKER_NONE,		/* the training thread does it, when it needs a batch */
	WORKER_THREAD,
	WORKER_FORK,		/* a process that inherits the index */
	WORKER_SPAWN,		/* a program of its own that gets a copy of the index sent */
};

struct loader_policy {
	const char *name;
	const char *meaning;
	enum worker_kind kind;
	bool whole_run;		/* started once; else anew in each epoch */
	bool null;		/* delivers one and the same batch: no data set */
};

extern const struct loader_policy loader_policies[];	/* ends with a NULL name */
const struct loader_policy *loader_policy_find(const char *name);	/* NULL: unknown */

struct worker {
	size_t number, step;		/* step: how many there are */
	uint32_t first, end;		/* its range of batches, of all workers */
	const struct ring *ring;	/* borrowed */
	const struct ava_index *index;	/* borrowed */
	_Atomic uint32_t *next;		/* threads take their batches from there; borrowed; NULL: they come in turn */
	_Atomic uint32_t at;		/* the latest that was taken so; UINT32_MAX: none yet */
	pthread_t thread;
	bool has_thread;
	struct batch_maker maker;	/* of a thread; a process makes its own */
	pid_t pid;			/* 0: none, or buried */
};

/* How often whoever waits for a worker looks whether it is still alive. */
enum { WORKERS_LOOK_NS = 100000000 };

struct workers {
	enum worker_kind kind;
	uint64_t hang_ns;	/* 0: none hangs */
	_Atomic uint32_t next;	/* batch that no thread has taken */
	uint32_t expected;	/* the batch that is waited for ... */
	uint32_t beat;		/* ... what its maker had done at the latest look ... */
	uint64_t quiet_ns;	/* ... and since when it has done nothing more */
	bool hung;
	size_t count;
	struct worker *all;		/* owned */
};

/* Starts `count` of them for batches first <= b < end; afterwards workers_stop() in any case.  `lane` (NULL: not
 * recorded) gets SPAN_WORKERS_INDEX. */
int workers_start(struct workers *, enum worker_kind, size_t count, uint32_t first, uint32_t end,
		  const struct ring *, const struct ava_index *, uint64_t hang_ns, struct lane *lane);

/* From now on batch `b` is waited for; workers_check() is called every WORKERS_LOOK_NS until it is there. */
void workers_expect(struct workers *, uint32_t b);

/* Looks whether a process died without having done its part, or who makes the expected batch hangs: FAILED, said with
 * how it ended, or what it is at. */
int workers_check(struct workers *);

/* Ends and buries them: those that made all their batches leave by themselves, others are killed
 * or, threads, finish the batch they are at.  False: a thread that hangs is still there, and what it uses must stay. */
bool workers_stop(struct workers *);

#endif
