/*
 * kernels/safetensors.c - see safetensors.h.
 *
 * The header is JSON of one fixed form, so a reader of that form alone is shorter than the checks that would have to
 * follow a general one - which keeps the first of two equal names, or the last, and asks for many times the text's
 * size when the text is a long list.  This one works in place: strings lose their escapes and get their NUL where
 * they stand, and the table of tensors is no larger than the text that describes them.
 *
 * Data are read tensor by tensor straight to where they are wanted.  Mapping the file would save a copy of pages that
 * the page cache may have, and turn an I/O error into a signal.
 */
#include "kernels/safetensors.h"

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little endian, and values are copied as they are");

static const struct type {
	const char *name;
	size_t bytes;
} types[] = {
	[SAFETENSORS_F32] = { "F32", 4 },
	[SAFETENSORS_I64] = { "I64", 8 },
};

enum {
	LENGTH_BYTES = 8,		/* in front of the header */
	HEADER_BYTES_MAX = 100000000,
	ALIGN = 8,			/* of the data in the file */
};

/* The shortest description of a tensor: {"":{"dtype":"F32","shape":[],"data_offsets":[0,4]}} without the outer pair. */
enum { DESCRIPTION_BYTES_MIN = 50 };
_Static_assert(sizeof(struct safetensor) <= DESCRIPTION_BYTES_MIN, "the table is no larger than its text");

static const char metadata[] = "__metadata__";

size_t safetensor_count(const struct safetensor *t)
{
	size_t count = 1;

	for (size_t i = 0; i < t->rank; i++)
		count *= t->dims[i];
	return count;
}

size_t safetensor_bytes(const struct safetensor *t)
{
	return safetensor_count(t) * types[t->type].bytes;
}

const char *safetensor_text(const struct safetensor *t, char out[SAFETENSOR_TEXT_BYTES])
{
	size_t used = (size_t)snprintf(out, SAFETENSOR_TEXT_BYTES, "%s (", types[t->type].name);

	for (size_t i = 0; i < t->rank; i++)
		used += (size_t)snprintf(out + used, SAFETENSOR_TEXT_BYTES - used, "%s%" PRIu32, i ? "," : "", t->dims[i]);
	snprintf(out + used, SAFETENSOR_TEXT_BYTES - used, ")");
	return out;
}

/* ---- the header's JSON ---- */

/* Behind the text stands a NUL, which ends every loop: it is no part of valid JSON. */
struct cursor {
	const char *path, *start;
	char *at;
};

static int bad(const struct cursor *c, const char *what)
{
	return err(FAILED, "'%s': byte %zu of the header: %s", c->path, (size_t)(c->at - c->start), what);
}

static char next(struct cursor *c)
{
	while (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r')
		c->at++;
	return *c->at;
}

static bool take(struct cursor *c, char wanted)
{
	bool there = next(c) == wanted;

	c->at += there;
	return there;
}

static int hex4(const char *at, uint32_t *value)
{
	*value = 0;
	for (int i = 0; i < 4; i++) {
		static const char digits[] = "0123456789abcdefABCDEF";
		const char *digit = at[i] ? strchr(digits, at[i]) : NULL;

		if (!digit)
			return FAILED;
		*value = *value << 4 | (uint32_t)(digit - digits < 16 ? digit - digits : digit - digits - 6);
	}
	return OK;
}

static char *utf8_put(char *out, uint32_t code)
{
	const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
	static const uint8_t lead[] = { 0, 0xc0, 0xe0, 0xf0 };

	*out++ = (char)(lead[more] | code >> 6 * more);
	for (int i = more - 1; i >= 0; i--)
		*out++ = (char)(0x80 | (code >> 6 * i & 0x3f));
	return out;
}

/* \uXXXX, or two of them for one character; `at` stands behind the 'u'. */
static int unicode(struct cursor *c, char **out)
{
	uint32_t code, low;

	if (hex4(c->at, &code))
		return bad(c, "no four hexadecimal digits");
	c->at += 4;
	if (code >= 0xd800 && code < 0xdc00 && c->at[0] == '\\' && c->at[1] == 'u' && !hex4(c->at + 2, &low) &&
	    low >= 0xdc00 && low < 0xe000) {
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
		c->at += 6;
	}
	if (!code || (code >= 0xd800 && code < 0xe000))
		return bad(c, "a character that no text can have");
	*out = utf8_put(*out, code);
	return OK;
}

/* The next string, without its escapes, in its place. */
static int string(struct cursor *c, char **text)
{
	static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
	char *out;

	if (!take(c, '"'))
		return bad(c, "a string should stand here");
	*text = out = c->at;
	while (*c->at != '"') {
		const char *escape;

		if ((unsigned char)*c->at < ' ')
			return bad(c, "a string without end");
		if (*c->at != '\\') {
			*out++ = *c->at++;
			continue;
		}
		c->at++;
		escape = *c->at ? strchr(escapes, *c->at) : NULL;
		if (!escape && *c->at != 'u')
			return bad(c, "an unknown escape");
		c->at++;
		if (escape)
			*out++ = meanings[escape - escapes];
		else if (unicode(c, &out))
			return FAILED;
	}
	c->at++;
	*out = '\0';
	return OK;
}

/* [1,2,3]: whole numbers below 2^63. */
static int numbers(struct cursor *c, uint64_t *values, size_t most, size_t *count)
{
	*count = 0;
	if (!take(c, '['))
		return bad(c, "a list of numbers should stand here");
	if (take(c, ']'))
		return OK;
	do {
		uint64_t v = 0;

		if (next(c) < '0' || *c->at > '9')
			return bad(c, "a whole number should stand here");
		for (; *c->at >= '0' && *c->at <= '9'; c->at++) {
			if (v > (INT64_MAX - 9) / 10)
				return bad(c, "a number beyond 2^63");
			v = v * 10 + (uint64_t)(*c->at - '0');
		}
		if (*count == most)
			return bad(c, "a list that is too long: 5 dimensions, 2 offsets at most");
		values[(*count)++] = v;
	} while (take(c, ','));
	return take(c, ']') ? OK : bad(c, "a list without end");
}

/* ---- reading ---- */

/* Of an entry of the header, before it is believed. */
struct claim {
	char *type;
	uint64_t dims[SAFETENSORS_RANK_MAX], offsets[2];
	size_t rank, offset_count;
};

static int judge(const char *path, struct safetensor *t, const struct claim *claim, uint64_t data_bytes)
{
	const uint64_t begin = claim->offsets[0], end = claim->offsets[1];
	uint64_t bytes;
	size_t type = 0;

	while (type < ARRAY_LEN(types) && strcmp(claim->type, types[type].name))
		type++;
	if (type == ARRAY_LEN(types))
		return err(FAILED, "'%s': tensor '%s' is of type '%s'; F32 and I64 can be read", path, t->name, claim->type);
	if (claim->offset_count != 2 || begin > end)
		return err(FAILED, "'%s': tensor '%s' does not begin and end in this order", path, t->name);
	if (end > data_bytes)
		return err(FAILED, "'%s': tensor '%s' ends at byte %" PRIu64 " of the data, and there are %" PRIu64 ": cut short, or "
			   "damaged", path, t->name, end, data_bytes);
	bytes = types[type].bytes;
	for (size_t i = 0; i < claim->rank; i++) {
		if (claim->dims[i] > UINT32_MAX || __builtin_mul_overflow(bytes, claim->dims[i], &bytes))
			return err(FAILED, "'%s': tensor '%s' is larger than memory", path, t->name);
		t->dims[i] = (uint32_t)claim->dims[i];
	}
	if (bytes != end - begin)
		return err(FAILED, "'%s': tensor '%s' has %" PRIu64 " bytes of data; its shape asks for %" PRIu64, path, t->name,
			   end - begin, bytes);
	t->begin = begin;
	t->type = (uint8_t)type;
	t->rank = (uint8_t)claim->rank;
	return OK;
}

/* {"dtype": ..., "shape": ..., "data_offsets": ...}, each once, in any order. */
static int description(struct cursor *c, struct claim *claim)
{
	bool shaped = false;

	*claim = (struct claim){ 0 };
	if (!take(c, '{'))
		return bad(c, "a tensor should be described here");
	do {
		char *key;
		int rc = string(c, &key);

		if (rc || !take(c, ':'))
			return rc ? rc : bad(c, "':' should stand here");
		if (!strcmp(key, "dtype") && !claim->type)
			rc = string(c, &claim->type);
		else if (!strcmp(key, "shape") && !shaped) {
			shaped = true;
			rc = numbers(c, claim->dims, SAFETENSORS_RANK_MAX, &claim->rank);
		} else if (!strcmp(key, "data_offsets") && !claim->offset_count)
			rc = numbers(c, claim->offsets, 2, &claim->offset_count);
		else
			rc = bad(c, "a key that tells nothing of a tensor, or comes twice");
		if (rc)
			return rc;
	} while (take(c, ','));
	if (!take(c, '}'))
		return bad(c, "a description without end");
	return claim->type && shaped && claim->offset_count ? OK
		: bad(c, "a tensor without one of dtype, shape and data_offsets");
}

static int texts(struct cursor *c, struct safetensors *f)
{
	if (f->text_count)
		return bad(c, "metadata for the second time");
	if (!take(c, '{'))
		return bad(c, "texts should stand here");
	if (take(c, '}'))
		return OK;
	do {
		char *key, *text;
		int rc = string(c, &key);

		if (!rc && !take(c, ':'))
			rc = bad(c, "':' should stand here");
		if (!rc)
			rc = string(c, &text);
		if (!rc && f->text_count == SAFETENSORS_TEXTS_MAX)
			rc = bad(c, "more than 256 texts");
		if (!rc && safetensors_text(f, key))
			rc = bad(c, "a text for the second time");
		if (rc)
			return rc;
		f->texts[f->text_count++] = (struct safetensors_text){ key, text };
	} while (take(c, ','));
	return take(c, '}') ? OK : bad(c, "texts without end");
}

static int entries(struct cursor *c, struct safetensors *f, uint64_t data_bytes)
{
	if (*c->at != '{')
		return bad(c, "'{' should stand here");
	c->at++;
	if (take(c, '}'))
		return OK;
	do {
		struct safetensor *t = &f->tensors[f->count];
		struct claim claim;
		char *name;
		int rc = string(c, &name);

		if (!rc && !take(c, ':'))
			rc = bad(c, "':' should stand here");
		if (!rc && !strcmp(name, metadata))
			rc = texts(c, f);
		else if (!rc) {
			rc = description(c, &claim);
			t->name = name;
			if (!rc)
				rc = judge(f->path, t, &claim, data_bytes);
			f->count++;
		}
		if (rc)
			return rc;
	} while (take(c, ','));
	return take(c, '}') ? OK : bad(c, "the header does not end");
}

static int by_place(const void *a, const void *b)
{
	const struct safetensor *s = a, *t = b;
	size_t s_bytes = safetensor_bytes(s), t_bytes = safetensor_bytes(t);

	return s->begin != t->begin ? (s->begin < t->begin ? -1 : 1) : (s_bytes > t_bytes) - (s_bytes < t_bytes);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct safetensor *)a)->name, ((const struct safetensor *)b)->name);
}

/* Every byte of data belongs to one tensor. */
static int check_places(struct safetensors *f, uint64_t data_bytes)
{
	uint64_t at = 0;

	qsort(f->tensors, f->count, sizeof(*f->tensors), by_place);
	for (size_t i = 0; i < f->count; i++) {
		const struct safetensor *t = &f->tensors[i];

		if (t->begin != at)
			return err(FAILED, "'%s': tensor '%s' begins at byte %" PRIu64 " of the data, %s: the one before ends at %" PRIu64,
				   f->path, t->name, t->begin, t->begin < at ? "inside another" : "behind a gap", at);
		at += safetensor_bytes(t);
	}
	return at == data_bytes ? OK
		: err(FAILED, "'%s': the last %" PRIu64 " bytes belong to no tensor", f->path, data_bytes - at);
}

static int check_names(struct safetensors *f)
{
	qsort(f->tensors, f->count, sizeof(*f->tensors), by_name);
	for (size_t i = 1; i < f->count; i++)
		if (!by_name(&f->tensors[i - 1], &f->tensors[i]))
			return err(FAILED, "'%s': tensor '%s' comes twice", f->path, f->tensors[i].name);
	return OK;
}

int safetensors_parse(struct safetensors *f, const char *path, char *text, size_t bytes, uint64_t data_bytes)
{
	struct cursor c = { .start = text, .at = text };
	int rc;

	*f = (struct safetensors){ .header = text, .fd = -1, .path = strdup(path),
				   .tensors = calloc(bytes / DESCRIPTION_BYTES_MIN + 1, sizeof(*f->tensors)) };
	if (!f->path || !f->tensors)
		return err(NO_MEMORY, "no memory for the header of '%s'", path);
	c.path = f->path;
	text[bytes] = '\0';
	rc = entries(&c, f, data_bytes);
	if (!rc && (next(&c) || c.at != text + bytes))
		rc = bad(&c, "the header should end here");
	if (!rc)
		rc = check_places(f, data_bytes);
	return rc ? rc : check_names(f);
}

/* All of it, or FAILED without a word; errno is 0 when the file ended. */
static int read_at(int fd, void *to, size_t bytes, uint64_t at)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = pread(fd, (char *)to + done, bytes - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n ? errno : 0;
			return FAILED;
		}
		done += (size_t)n;
	}
	return OK;
}

static int cannot_read(const char *path)
{
	return err(FAILED, "cannot read '%s': %s", path, errno ? strerror(errno) : "it became shorter");
}

static int open_header(struct safetensors *f, const char *path, int fd)
{
	struct stat st;
	uint64_t bytes;
	char *text;
	int rc;

	if (fstat(fd, &st))
		return cannot_read(path);
	if (st.st_size < LENGTH_BYTES)
		return err(FAILED, "'%s' is no safetensors file: it has %lld bytes", path, (long long)st.st_size);
	if (read_at(fd, &bytes, LENGTH_BYTES, 0))
		return cannot_read(path);
	if (bytes > HEADER_BYTES_MAX)
		return err(FAILED, "'%s' is no safetensors file: its header would have %" PRIu64 " bytes, and 100 MB are the most", path,
			   bytes);
	if (bytes > (uint64_t)st.st_size - LENGTH_BYTES)
		return err(FAILED, "'%s' is cut short: its header has %" PRIu64 " bytes, the file %lld", path, bytes,
			   (long long)st.st_size);
	text = malloc(bytes + 1);
	if (!text)
		return err(NO_MEMORY, "no memory for the header of '%s'", path);
	if (read_at(fd, text, bytes, LENGTH_BYTES)) {
		free(text);
		return cannot_read(path);
	}
	rc = safetensors_parse(f, path, text, bytes, (uint64_t)st.st_size - LENGTH_BYTES - bytes);
	f->data_at = LENGTH_BYTES + bytes;
	return rc;
}

int safetensors_open(struct safetensors *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

	*f = (struct safetensors){ .fd = -1 };
	if (fd < 0)
		return err(FAILED, "cannot open '%s': %s", path, strerror(errno));
	rc = open_header(f, path, fd);
	f->fd = fd;
	if (rc) {
		close(fd);
		f->fd = -1;
		safetensors_close(f);
	}
	return rc;
}

void safetensors_close(struct safetensors *f)
{
	if (f->path && f->fd >= 0)
		close(f->fd);
	free(f->tensors);
	free(f->header);
	free(f->path);
	*f = (struct safetensors){ 0 };
}

const struct safetensor *safetensors_find(const struct safetensors *f, const char *name)
{
	const struct safetensor key = { .name = (char *)name };

	return f->count ? bsearch(&key, f->tensors, f->count, sizeof(key), by_name) : NULL;
}

const char *safetensors_text(const struct safetensors *f, const char *key)
{
	for (size_t i = 0; i < f->text_count; i++)
		if (!strcmp(f->texts[i].key, key))
			return f->texts[i].text;
	return NULL;
}

int safetensors_read(const struct safetensors *f, const struct safetensor *t, void *values)
{
	return read_at(f->fd, values, safetensor_bytes(t), f->data_at + t->begin) ? cannot_read(f->path) : OK;
}

/* ---- writing ---- */

int safetensors_add(struct safetensors_writer *w, const char *name, enum safetensors_type type, size_t rank,
		    const size_t *dims)
{
	struct safetensor *t;

	assert(rank <= SAFETENSORS_RANK_MAX);
	assert(type != SAFETENSORS_I64 || !w->count || w->tensors[w->count - 1].type == SAFETENSORS_I64);
	if (w->count == w->room) {
		size_t room = w->room ? 2 * w->room : 1024;
		struct safetensor *more = realloc(w->tensors, room * sizeof(*more));

		if (!more)
			return err(NO_MEMORY, "no memory for %zu tensors", room);
		w->tensors = more;
		w->room = room;
	}
	t = &w->tensors[w->count];
	*t = (struct safetensor){ .name = strdup(name), .begin = w->bytes, .rank = (uint8_t)rank, .type = (uint8_t)type };
	if (!t->name)
		return err(NO_MEMORY, "no memory for '%s'", name);
	for (size_t i = 0; i < rank; i++)
		t->dims[i] = (uint32_t)dims[i];
	w->bytes += safetensor_bytes(t);
	w->count++;
	return OK;
}

static void put_string(FILE *f, const char *text)
{
	fputc('"', f);
	for (; *text; text++) {
		if ((unsigned char)*text < ' ')
			fprintf(f, "\\u%04x", *text);
		else
			fprintf(f, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
	}
	fputc('"', f);
}

static void put_tensor(FILE *f, const struct safetensor *t)
{
	put_string(f, t->name);
	fprintf(f, ":{\"dtype\":\"%s\",\"shape\":[", types[t->type].name);
	for (size_t i = 0; i < t->rank; i++)
		fprintf(f, "%s%" PRIu32, i ? "," : "", t->dims[i]);
	fprintf(f, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", t->begin, t->begin + safetensor_bytes(t));
}

int safetensors_begin(struct safetensors_writer *w, const char *path, const struct safetensors_text *list,
		      size_t text_count)
{
	char *header = NULL;
	size_t bytes = 0;
	uint64_t padded;
	FILE *f = open_memstream(&header, &bytes);

	if (!f)
		return err(NO_MEMORY, "no memory for the header of '%s'", path);
	fputc('{', f);
	for (size_t i = 0; i < text_count; i++) {
		fprintf(f, i ? "," : "\"%s\":{", metadata);
		put_string(f, list[i].key);
		fputc(':', f);
		put_string(f, list[i].text);
	}
	fprintf(f, text_count ? "}" : "");
	for (size_t i = 0; i < w->count; i++) {
		fprintf(f, i || text_count ? "," : "");
		put_tensor(f, &w->tensors[i]);
	}
	fputc('}', f);
	if (fclose(f)) {
		free(header);
		return err(NO_MEMORY, "no memory for the header of '%s'", path);
	}
	padded = (bytes + ALIGN - 1) / ALIGN * ALIGN;
	w->path = path;
	w->file = file_begin(path);
	if (w->file) {		/* what does not arrive shows in the end */
		fwrite(&padded, sizeof(padded), 1, w->file);
		fprintf(w->file, "%s%*s", header, (int)(padded - bytes), "");
	}
	free(header);
	return w->file ? OK : FAILED;
}

int safetensors_put(struct safetensors_writer *w, const void *values)
{
	const size_t bytes = safetensor_bytes(&w->tensors[w->put]);

	assert(w->put < w->count);
	w->put++;
	return fwrite(values, 1, bytes, w->file) == bytes ? OK
		: err(FAILED, "cannot write '%s': %s", w->path, strerror(errno));
}

int safetensors_end(struct safetensors_writer *w, int rc)
{
	assert(rc || w->put == w->count);
	if (w->file)
		rc = file_end(w->file, w->path, rc);
	for (size_t i = 0; i < w->count; i++)
		free(w->tensors[i].name);
	free(w->tensors);
	*w = (struct safetensors_writer){ 0 };
	return rc;
}
