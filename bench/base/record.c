/*
 * bench/base/record.c - see record.h.
 */
#include "bench/base/record.h"

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <zlib.h>

static const char magic[8] = { 'S', 'F', 'S', 'C', 'A', 'L', 'E', '\n' };
enum { BYTE_ORDER_TAG = 0x01020304 };

struct prologue {
	char magic[8];
	uint32_t version, byte_order;
};

struct block {
	uint32_t type, count, bytes, crc;
};

static uint32_t checksum(const void *payload, size_t bytes)
{
	return (uint32_t)crc32_z(0, payload, bytes);
}

/* A write that the disk takes in pieces goes on where it stopped. */
static int write_all(struct record_writer *w, struct iovec *parts, int n)
{
	while (n) {
		ssize_t done = writev(w->fd, parts, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return err(FAILED, "cannot write '%s': %s", w->path, strerror(errno));
		while (n && (size_t)done >= parts->iov_len) {
			done -= (ssize_t)parts->iov_len;
			parts++;
			n--;
		}
		if (n) {
			parts->iov_base = (char *)parts->iov_base + done;
			parts->iov_len -= (size_t)done;
		}
	}
	return OK;
}

int record_writer_open(struct record_writer *w, const char *path)
{
	struct prologue p = { .version = RECORD_VERSION, .byte_order = BYTE_ORDER_TAG };
	int rc;

	memcpy(p.magic, magic, sizeof(magic));
	*w = (struct record_writer){ .fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666),
				     .path = strdup(path) };
	if (w->fd < 0)
		rc = err(FAILED, "cannot write '%s': %s", path, strerror(errno));
	else
		rc = write_all(w, &(struct iovec){ &p, sizeof(p) }, 1);
	if (rc) {
		int ignored = record_writer_close(w);
		(void)ignored;
	}
	return rc;
}

int record_write(struct record_writer *w, enum record_block type, const void *payload, size_t bytes, size_t count)
{
	struct block b = { .type = type, .count = (uint32_t)count, .bytes = (uint32_t)bytes,
			   .crc = checksum(payload, bytes) };
	struct iovec parts[] = { { &b, sizeof(b) }, { (void *)(uintptr_t)payload, bytes } };

	return write_all(w, parts, 2);
}

int record_write_json(struct record_writer *w, enum record_block type, const cJSON *value)
{
	char *text = cJSON_PrintUnformatted(value);
	int rc;

	if (!text)
		return err(NO_MEMORY, "no memory to write '%s'", w->path);
	rc = record_write(w, type, text, strlen(text), 1);
	free(text);
	return rc;
}

int record_writer_close(struct record_writer *w)
{
	int rc = OK;

	if (w->fd >= 0 && close(w->fd))
		rc = err(FAILED, "cannot write '%s': %s", w->path, strerror(errno));
	free((void *)(uintptr_t)w->path);
	*w = (struct record_writer){ .fd = -1 };
	return rc;
}

/* Events move down to where those before them end, in the memory that the file was read into. */
static void take_events(struct record *r, const char *payload, const struct block *b)
{
	if (b->bytes % sizeof(*r->events) || b->bytes / sizeof(*r->events) != b->count)
		return;
	memmove(r->events + r->event_count, payload, b->bytes);
	r->event_count += b->count;
}

/* `list` with the units of a block behind its `count`; a block that does not hold as many as it says
 * is passed over.  Without memory the list stays as it is and `rc` says so. */
static void *take_units(void *list, size_t *count, size_t unit_bytes, const char *payload, const struct block *b,
			int *rc)
{
	char *more;

	if (!b->count || b->bytes % unit_bytes || b->bytes / unit_bytes != b->count)
		return list;
	more = realloc(list, (*count + b->count) * unit_bytes);
	if (!more) {
		*rc = err(NO_MEMORY, "no memory for %zu units of %zu bytes", *count + b->count, unit_bytes);
		return list;
	}
	memcpy(more + *count * unit_bytes, payload, b->bytes);
	*count += b->count;
	return more;
}

static cJSON *take_json(cJSON *former, const char *payload, const struct block *b)
{
	return former ? former : cJSON_ParseWithLength(payload, b->bytes);
}

/* Reads block after block; stops without complaint at the first one that is not whole.  `data` becomes the record's
 * list of events: each event lies behind its place there. */
static int take_blocks(struct record *r, char *data, size_t bytes)
{
	size_t at = sizeof(struct prologue);
	int rc = OK;

	r->events = (struct event *)(void *)data;
	while (!rc && bytes - at >= sizeof(struct block)) {
		const char *payload = data + at + sizeof(struct block);
		struct block b;

		memcpy(&b, data + at, sizeof(b));
		if (b.bytes > bytes - at - sizeof(b) || checksum(payload, b.bytes) != b.crc)
			break;
		if (b.type == RECORD_HEAD)
			r->head = take_json(r->head, payload, &b);
		else if (b.type == RECORD_TAIL)
			r->tail = take_json(r->tail, payload, &b);
		else if (b.type == RECORD_EVENTS)
			take_events(r, payload, &b);
		else if (b.type == RECORD_SYNC)
			r->syncs = take_units(r->syncs, &r->sync_count, sizeof(*r->syncs), payload, &b, &rc);
		at += sizeof(b) + b.bytes;
	}
	r->bad_bytes = bytes - at;
	return rc;
}

int record_read(const char *path, struct record *r)
{
	struct prologue p = { 0 };
	size_t bytes;
	char *data;
	int rc = file_read(path, &data, &bytes);

	*r = (struct record){ 0 };
	if (rc)
		return rc;
	if (bytes >= sizeof(p))
		memcpy(&p, data, sizeof(p));
	if (memcmp(p.magic, magic, sizeof(magic)))
		rc = err(FAILED, "'%s' is no sfscale record: byte 0 is not its magic", path);
	else if (p.byte_order != BYTE_ORDER_TAG)
		rc = err(FAILED, "'%s': byte 12: written on a machine of the other byte order", path);
	else if (p.version != RECORD_VERSION)
		rc = err(FAILED, "'%s': byte 8: version %u, this program reads %d", path, p.version, RECORD_VERSION);
	else
		rc = take_blocks(r, data, bytes);
	if (!rc && !r->head)
		rc = err(FAILED, "'%s': byte %zu: no readable head", path, sizeof(p));
	if (!r->events)
		free(data);
	if (rc)
		record_release(r);
	return rc;
}

void record_release(struct record *r)
{
	cJSON_Delete(r->head);
	cJSON_Delete(r->tail);
	free(r->events);
	free(r->syncs);
	*r = (struct record){ 0 };
}
