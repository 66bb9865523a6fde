/*
 * comm/topo/text.h - what every reader of foreign text needs: the file, its words, names kept once.
 *
 * A reader sees one block of memory that ends with a NUL and never writes into it.  Memory for
 * the model comes from topo_grow(), which ends the program when there is none: this command
 * works on files, and a half-read fabric has no verdict.
 */
#ifndef SFSCALE_COMM_TOPO_TEXT_H
#define SFSCALE_COMM_TOPO_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct topo_text {
	char *at;		/* owned; a NUL stands behind the last byte */
	size_t bytes;
};

/* The file, unpacked when it is gzip.  FAILED, said. */
int topo_text_read(struct topo_text *, const char *path);
void topo_text_release(struct topo_text *);

/* A part of a text: [at, end). */
struct topo_span {
	const char *at, *end;
};

static inline size_t topo_span_length(struct topo_span s)
{
	return (size_t)(s.end - s.at);
}

/* The next line of `rest` without its end ("\n" or "\r\n"); false: nothing left. */
bool topo_line(struct topo_span *rest, struct topo_span *line);

/* Each takes what it names from the front and tells whether it was there; if not, nothing moves.  Inline are those
 * that a log's lines consist of; of a literal, length and bytes are then known where it is taken. */
static inline bool topo_take(struct topo_span *s, const char *literal)
{
	size_t n = strlen(literal);

	if ((size_t)(s->end - s->at) < n || memcmp(s->at, literal, n))
		return false;
	s->at += n;
	return true;
}

/* Decimal. */
static inline bool topo_take_u64(struct topo_span *s, uint64_t *v)
{
	const char *p = s->at;
	uint64_t n = 0;

	for (; p < s->end && *p >= '0' && *p <= '9'; p++) {
		if (n > (UINT64_MAX - 9) / 10)
			return false;
		n = 10 * n + (uint64_t)(*p - '0');
	}
	if (p == s->at)
		return false;
	s->at = p;
	*v = n;
	return true;
}

/* Decimal with sign, refused beyond 2^31 - 1. */
static inline bool topo_take_int(struct topo_span *s, int32_t *v)
{
	struct topo_span t = *s;
	bool minus = topo_take(&t, "-");
	uint64_t n;

	if (!topo_take_u64(&t, &n) || n > INT32_MAX)
		return false;
	*v = minus ? -(int32_t)n : (int32_t)n;
	*s = t;
	return true;
}

static inline void topo_skip_blanks(struct topo_span *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\t'))
		s->at++;
}

bool topo_take_hex(struct topo_span *, uint64_t *);		/* without 0x, at most 16 digits */
bool topo_take_real(struct topo_span *, double *);		/* digits and one point */
/* "Mon Mar 11 07:30:59 2019" or "2019-03-11" as 20190311. */
bool topo_take_date(struct topo_span *, uint32_t *day);
/* A run of bytes that are none of `stops`; false when it would be empty. */
bool topo_take_word(struct topo_span *, const char *stops, struct topo_span *word);
/* From just behind the first `literal`; false: it is not there. */
bool topo_take_past(struct topo_span *, const char *literal);
bool topo_span_is(struct topo_span, const char *text);
bool topo_span_is_caseless(struct topo_span, const char *text);	/* ASCII */
bool topo_span_has(struct topo_span, const char *text);

/* Strings kept once: equal names are equal pointers. */
struct topo_names {
	struct topo_names_slot { char *text; size_t bytes; uint32_t hash; } *slots;	/* owned, the strings too */
	size_t room, count;	/* open addressing: room is a power of two */
};

const char *topo_name(struct topo_names *, struct topo_span);
const char *topo_name_of(struct topo_names *, const char *text);
void topo_names_release(struct topo_names *);

/* Room for one more: the array moves when it is full. */
void *topo_grow(void *array, size_t count, size_t *room, size_t size);
#define TOPO_PUSH(array, count, room) \
	(*((array) = topo_grow((array), (count), &(room), sizeof(*(array))), (count)++, &(array)[(count) - 1]))
/* Zeroed. */
void *topo_alloc(size_t count, size_t size);

/* Numbers by 64-bit key, for joins by GUID, LID and the like. */
struct topo_map {
	struct topo_map_slot { uint64_t key; uint32_t value; bool used; } *slots;
	size_t room, count;
};
enum { TOPO_NONE = UINT32_MAX };

uint32_t topo_map_get(const struct topo_map *, uint64_t key);	/* TOPO_NONE: absent */
void topo_map_set(struct topo_map *, uint64_t key, uint32_t value);
void topo_map_release(struct topo_map *);

#endif
