/*
 * loader/ring.c - see ring.h.
 *
 * All memory gets its pages when the ring is opened: a machine without it shows then, not in the
 * middle of a batch, and threads meet no page fault.  Worker processes map what they touch of the file,
 * as PyTorch's do.  Threads need no file, and of memory without one the kernel gives large pages: a row
 * of a tensor lies in another small page than the one before, and finding those took two fifths of the
 * time of writing.
 */
#include "loader/ring.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "loader/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
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

/* Where the arrays of a slot begin, in bytes, and where it ends. */
struct layout {
	size_t examples, meta, rois, labels, pixels, fast, end;
};

static size_t slow_values(const struct clip_geometry *g)
{
	return 3 * (g->frames / g->alpha) * g->crop * g->crop;
}

static size_t fast_values(const struct clip_geometry *g)
{
	return 3 * g->frames * g->crop * g->crop;
}

static struct layout lay(const struct batch_plan *p)
{
	struct layout l;

	l.examples = aligned(sizeof(struct ring_slot));
	l.meta = l.examples + aligned(p->clips * sizeof(uint32_t));
	l.rois = l.meta + aligned(p->boxes_max * 2 * sizeof(int64_t));
	l.labels = l.rois + aligned(p->boxes_max * 5 * sizeof(float));
	l.pixels = l.labels + aligned(p->boxes_max * AVA_CLASSES * sizeof(float));
	l.fast = l.pixels + (p->crops ? 0 : aligned(p->clips * slow_values(&p->geometry) * sizeof(float)));
	l.end = l.fast + aligned(p->clips * fast_values(&p->geometry) * (p->crops ? sizeof(uint8_t) : sizeof(float)));
	return l;
}

static int map(struct ring *r, int flags)
{
	r->base = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, flags, r->fd, 0);
	if (r->base == MAP_FAILED) {
		r->base = NULL;
		return err(NO_MEMORY, "cannot map %zu bytes of batches: %s", r->bytes, strerror(errno));
	}
	r->control = (struct ring_control *)r->base;
	return OK;
}

static void measure(struct ring *r, const struct batch_plan *p)
{
	r->slot_bytes = lay(p).end;
	r->bytes = aligned(sizeof(struct ring_control)) + p->slots * r->slot_bytes;
}

/* Before anything is taken, and before the first worker starts. */
static int check_limits(const struct ring *r, const struct batch_plan *p, bool shared)
{
	struct limit_found limit = limits_least("", shared);

	if (r->bytes <= limit.bytes)
		return OK;
	return err(NO_MEMORY, "no memory for %zu batches of %zu MiB, %zu MiB in all: there are %zu MiB by %s (fewer workers, or a "
		   "smaller batch, need less)", p->slots, r->slot_bytes >> 20, r->bytes >> 20, limit.bytes >> 20, limit.who);
}

static int take_file(struct ring *r, const struct batch_plan *p)
{
	int fd = memfd_create("sfscale-batches", MFD_CLOEXEC), rc;

	/* Away from the low numbers, which a worker's program gets for its own use. */
	r->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 10);
	rc = errno;
	if (fd >= 0)
		close(fd);
	if (r->fd < 0)
		return err(FAILED, "cannot make shared memory: %s", strerror(rc));
	rc = posix_fallocate(r->fd, 0, (off_t)r->bytes);
	if (rc)
		return err(NO_MEMORY, "no shared memory for %zu batches of %zu MiB (fewer workers, or a smaller batch, need "
			   "less): %s", p->slots, r->slot_bytes >> 20, strerror(rc));
	return map(r, MAP_SHARED | MAP_POPULATE);
}

static int take_memory(struct ring *r)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int rc = map(r, MAP_PRIVATE | MAP_ANONYMOUS);

	if (rc)
		return rc;
	madvise(r->base, r->bytes, MADV_HUGEPAGE);	/* small ones do, where there are no others */
	for (size_t at = 0; at < r->bytes; at += page)
		r->base[at] = 0;
	return OK;
}

int ring_open(struct ring *r, const struct batch_plan *p, bool shared)
{
	int rc;

	*r = (struct ring){ .fd = -1 };
	measure(r, p);
	rc = check_limits(r, p, shared);
	if (!rc)
		rc = shared ? take_file(r, p) : take_memory(r);
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
	return (size_t)st.st_size == r->bytes ? map(r, MAP_SHARED) : err(FAILED, "the batches in descriptor %d are not ours", fd);
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
	const struct batch_plan *p = &r->control->plan;
	uint8_t *base = r->base + aligned(sizeof(struct ring_control)) + b % p->slots * r->slot_bytes;
	struct clip_geometry g = batch_plan_geometry(p, b);
	struct layout l = lay(p);
	size_t slow = slow_values(&g), fast = fast_values(&g);

	return (struct ring_batch){
		.slot = (struct ring_slot *)base,
		.examples = (uint32_t *)(base + l.examples),
		.meta = (int64_t *)(base + l.meta),
		.rois = (float *)(base + l.rois),
		.labels = (float *)(base + l.labels),
		.slow = p->crops ? NULL : (float *)(base + l.pixels),
		.fast = p->crops ? NULL : (float *)(base + l.fast),
		.crops = p->crops ? base + l.pixels : NULL,
		.slow_values = slow,
		.fast_values = fast,
		.clip_bytes = p->crops ? fast : (slow + fast) * sizeof(float),
	};
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
