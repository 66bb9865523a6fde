/*
 * loader/ring.c - see ring.h.
 *
 * The whole file is filled with pages when it is made: a machine without the memory says so
 * then, not by a SIGBUS in the middle of a batch, and no batch pays for page faults of the
 * kernel's zeroing.
 */
#include "loader/ring.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ALIGN = 64 };

static size_t aligned(size_t bytes)
{
	return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static uint8_t *take(uint8_t **at, size_t bytes)
{
	uint8_t *here = *at;

	*at += aligned(bytes);
	return here;
}

/* The one place that knows the layout of a slot; the end is what its size is. */
static struct ring_batch lay(const struct batch_plan *p, uint8_t *at, uint8_t **end)
{
	size_t plane = p->geometry.crop * p->geometry.crop, r = p->boxes_max;
	struct ring_batch b = {
		.fast_floats = 3 * p->geometry.frames * plane,
		.slow_floats = 3 * (p->geometry.frames / p->geometry.alpha) * plane,
	};

	b.slot = (struct ring_slot *)take(&at, sizeof(*b.slot));
	b.examples = (uint32_t *)take(&at, p->clips * sizeof(*b.examples));
	b.meta = (int64_t *)take(&at, r * 2 * sizeof(*b.meta));
	b.rois = (float *)take(&at, r * 5 * sizeof(*b.rois));
	b.labels = (float *)take(&at, r * AVA_CLASSES * sizeof(*b.labels));
	b.slow = (float *)take(&at, p->clips * b.slow_floats * sizeof(*b.slow));
	b.fast = (float *)take(&at, p->clips * b.fast_floats * sizeof(*b.fast));
	*end = at;
	return b;
}

static int map(struct ring *r)
{
	r->base = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	if (r->base == MAP_FAILED) {
		r->base = NULL;
		return err(NO_MEMORY, "cannot map %zu bytes of batches: %s", r->bytes, strerror(errno));
	}
	r->control = (struct ring_control *)r->base;
	return OK;
}

static void measure(struct ring *r, const struct batch_plan *p)
{
	uint8_t start[1], *end;

	lay(p, start, &end);
	r->slot_bytes = (size_t)(end - start);
	r->bytes = aligned(sizeof(struct ring_control)) + p->slots * r->slot_bytes;
}

int ring_open(struct ring *r, const struct batch_plan *p)
{
	int rc;

	*r = (struct ring){ .fd = memfd_create("sfscale-batches", MFD_CLOEXEC) };
	if (r->fd < 0)
		return err(FAILED, "cannot make shared memory: %s", strerror(errno));
	measure(r, p);
	rc = posix_fallocate(r->fd, 0, (off_t)r->bytes);
	if (rc)
		rc = err(NO_MEMORY, "no shared memory for %zu batches in flight, %zu bytes: %s", p->slots, r->bytes,
			 strerror(rc));
	if (!rc)
		rc = map(r);
	if (rc)
		ring_close(r);
	else
		r->control->plan = *p;
	return rc;
}

int ring_attach(struct ring *r, int fd)
{
	struct ring_control head;
	struct stat st;

	*r = (struct ring){ .fd = fd };
	if (fstat(fd, &st) || pread(fd, &head, sizeof(head), 0) != sizeof(head))
		return err(FAILED, "no batches in descriptor %d: %s", fd, strerror(errno));
	measure(r, &head.plan);
	return (size_t)st.st_size == r->bytes ? map(r) : err(FAILED, "the batches in descriptor %d are not ours", fd);
}

void ring_close(struct ring *r)
{
	if (r->base)
		munmap(r->base, r->bytes);
	if (r->fd >= 0)
		close(r->fd);
	*r = (struct ring){ .fd = -1 };
}

struct ring_batch ring_batch(const struct ring *r, uint32_t b)
{
	size_t slot = b % r->control->plan.slots;
	uint8_t *end;

	return lay(&r->control->plan, r->base + aligned(sizeof(struct ring_control)) + slot * r->slot_bytes, &end);
}

/* ---- waiting --------------------------------------------------------------------------- */

void ring_futex_wait(_Atomic uint32_t *word, uint32_t seen, uint64_t timeout_ns)
{
	struct timespec t = { .tv_sec = (time_t)(timeout_ns / NS_PER_S), .tv_nsec = (long)(timeout_ns % NS_PER_S) };

	syscall(SYS_futex, word, FUTEX_WAIT, seen, timeout_ns ? &t : NULL, NULL, 0);
}

void ring_futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

bool ring_wait_free(const struct ring *r, uint32_t b)
{
	struct ring_control *c = r->control;

	for (;;) {
		uint32_t turn = atomic_load(&c->turn);	/* before looking: what comes after it moves it */

		if (atomic_load(&c->stop))
			return false;
		if (b < atomic_load(&c->released) + c->plan.slots)
			return true;
		ring_futex_wait(&c->turn, turn, 0);
	}
}

void ring_deliver(const struct ring *r, uint32_t b)
{
	struct ring_slot *s = ring_batch(r, b).slot;

	atomic_store(&s->ready, b + 1);
	ring_futex_wake(&s->ready);
}

bool ring_is_ready(const struct ring *r, uint32_t b)
{
	return atomic_load(&ring_batch(r, b).slot->ready) == b + 1;
}

bool ring_wait_ready(const struct ring *r, uint32_t b, uint64_t timeout_ns)
{
	_Atomic uint32_t *ready = &ring_batch(r, b).slot->ready;
	uint32_t seen = atomic_load(ready);

	if (seen != b + 1)
		ring_futex_wait(ready, seen, timeout_ns);
	return atomic_load(ready) == b + 1;
}

size_t ring_depth(const struct ring *r, uint32_t b)
{
	size_t n = 0;

	for (uint32_t i = 0; i < r->control->plan.slots; i++)
		n += ring_is_ready(r, b + i);
	return n;
}

static void turn(struct ring_control *c)
{
	atomic_fetch_add(&c->turn, 1);
	ring_futex_wake(&c->turn);
}

void ring_release(const struct ring *r, uint32_t b)
{
	atomic_store(&r->control->released, b);
	turn(r->control);
}

void ring_stop(const struct ring *r)
{
	atomic_store(&r->control->stop, 1);
	turn(r->control);
}
