/*
 * kernels/safetensors.h - files of named tensors.
 *
 * The format in one breath: eight bytes with the length of a JSON text, the text, the data.  The
 * text says of each tensor its type, shape, and where its data begin and end; strings without
 * tensor live under "__metadata__".  Every reader of the format (PyTorch's among them) takes what
 * is written here.
 *
 * A file is judged before anything of it is believed: what it claims must fit into the bytes that
 * are there.  No allocation is larger than the file.
 */
#ifndef SFSCALE_KERNELS_SAFETENSORS_H
#define SFSCALE_KERNELS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { SAFETENSORS_RANK_MAX = 5, SAFETENSORS_TEXTS_MAX = 256 };

enum safetensors_type { SAFETENSORS_F32, SAFETENSORS_I64 };

struct safetensor {
	char *name;
	uint64_t begin;		/* of its data, in bytes behind the header */
	uint32_t dims[SAFETENSORS_RANK_MAX];
	uint8_t rank;		/* 0: a scalar */
	uint8_t type;		/* enum safetensors_type */
};

size_t safetensor_count(const struct safetensor *);	/* values */
size_t safetensor_bytes(const struct safetensor *);
/* "F32 (80,2304)" for messages.  Returns `out`. */
enum { SAFETENSOR_TEXT_BYTES = 80 };
const char *safetensor_text(const struct safetensor *, char out[SAFETENSOR_TEXT_BYTES]);

/* A key of "__metadata__" and its string. */
struct safetensors_text {
	const char *key, *text;
};

/* ---- reading ---- */

/* An open file; zero is closed. */
struct safetensors {
	struct safetensor *tensors;	/* by name, ascending; owned */
	size_t count;
	struct safetensors_text texts[SAFETENSORS_TEXTS_MAX];
	size_t text_count;
	char *path, *header;		/* owned */
	uint64_t data_at;		/* where in the file data begin */
	int fd;
};

/* FAILED, said, with path and tensor: not to be read; cut short; a header that is none, or longer than 100 MB or the
 * file; a type that is neither F32 nor I64; more than SAFETENSORS_RANK_MAX dimensions; data that differ in size from
 * the shape, overlap, leave a gap, or lie outside; a name that comes twice. */
int safetensors_open(struct safetensors *, const char *path);
void safetensors_close(struct safetensors *);

/* NULL: no such tensor; no such text.  Borrowed until close. */
const struct safetensor *safetensors_find(const struct safetensors *, const char *name);
const char *safetensors_text(const struct safetensors *, const char *key);

/* The values, safetensor_bytes() of them. */
int safetensors_read(const struct safetensors *, const struct safetensor *, void *values);

/* Checks a header, `bytes` of text behind which `data_bytes` of data lie, and fills tensors and texts.  The text is
 * owned by the struct from now on, has room for one more byte, and is changed; `path` only serves messages.  What
 * safetensors_open() does behind the file; close releases in either case. */
int safetensors_parse(struct safetensors *, const char *path, char *text, size_t bytes, uint64_t data_bytes);

/* ---- writing ---- */

/* A file in the making: add all tensors, begin, put their values in the same order, end.  So only one tensor's
 * values need to be in memory at a time.  Tensors of 8-byte values first, or readers that map the file stumble.
 * Zero is a new one. */
struct safetensors_writer {
	struct safetensor *tensors;	/* owned */
	size_t count, room, put;
	uint64_t bytes;			/* of data */
	FILE *file;
	const char *path;		/* borrowed from begin to end */
};

int safetensors_add(struct safetensors_writer *, const char *name, enum safetensors_type, size_t rank,
		    const size_t *dims);
/* Writes the header beside `path`. */
int safetensors_begin(struct safetensors_writer *, const char *path, const struct safetensors_text *texts,
		      size_t text_count);
/* Of the next tensor. */
int safetensors_put(struct safetensors_writer *, const void *values);
/* Flushed to disk and renamed to `path` when `rc` and everything before was OK, else removed; either way the writer
 * is zero again.  Returns the first failure.  To be called whether or not begin was. */
int safetensors_end(struct safetensors_writer *, int rc);

#endif
