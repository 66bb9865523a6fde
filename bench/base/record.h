/*
 * bench/base/record.h - the record file, as bytes.
 *
 *   prologue   "SFSCALE\n", u32 version, u32 byte-order tag 0x01020304
 *   block...   u32 type, u32 count, u32 bytes, u32 crc32 of the payload; then the payload
 *
 * Blocks: HEAD (JSON: who, names, classes, lanes), EVENTS (struct event), TIE (struct
 * clock_tie: the clock pairs used), TAIL (JSON: status, dropped), SYNC (struct sync_point:
 * where this rank's clock stood against the reference clock of the run).  A file without TAIL
 * is a run that was killed; it is good to its last whole block.  CRC-32 is zlib's.
 *
 * A reader passes over blocks of a type that it does not know, so a new type raises no
 * version: a file of an older program just has none.
 *
 * The recorder (span.c) and the importers write, report/ reads.
 */
#ifndef SFSCALE_BASE_RECORD_H
#define SFSCALE_BASE_RECORD_H

#include "bench/base/span.h"
#include "bench/base/sync.h"

enum { RECORD_VERSION = 1 };
enum record_block { RECORD_HEAD = 1, RECORD_EVENTS, RECORD_TIE, RECORD_TAIL, RECORD_SYNC };

struct record_writer {
	int fd;
	const char *path;	/* owned */
};

int record_writer_open(struct record_writer *, const char *path);
int record_write(struct record_writer *, enum record_block, const void *payload, size_t bytes, size_t count);
int record_write_json(struct record_writer *, enum record_block, const cJSON *);
int record_writer_close(struct record_writer *);

/* One file in memory. */
struct record {
	cJSON *head;		/* owned; never NULL after OK */
	cJSON *tail;		/* owned; NULL: the run was cut off */
	struct event *events;	/* owned; in the order of writing */
	size_t event_count;
	struct sync_point *syncs;	/* owned; in the order of writing; what sync_init() takes */
	size_t sync_count;
	size_t bad_bytes;	/* behind the last good block */
};

/* FAILED (said, with file and byte) when there is no readable head; damage behind it only
 * shortens the record and is told by `tail` and `bad_bytes`. */
int record_read(const char *path, struct record *);
void record_release(struct record *);

#endif
