/*
 * comm/topo/text.c - see text.h.
 */
#include "comm/topo/text.h"

#include "bench/base/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <zlib.h>

/* Text beyond this is no log that a person kept; it also stops a gzip bomb. */
#define TEXT_BYTES_MAX ((size_t)4 << 30)

static void *must(void *memory, size_t bytes)
{
	if (!memory) {
		err(NO_MEMORY, "no memory for %zu bytes of topology", bytes);
		abort();
	}
	return memory;
}

void *topo_alloc(size_t count, size_t size)
{
	return must(calloc(count ? count : 1, size), count * size);
}

void *topo_grow(void *array, size_t count, size_t *room, size_t size)
{
	if (count < *room)
		return array;
	*room = *room ? 2 * *room : 16;
	return must(realloc(array, *room * size), *room * size);
}

int topo_text_read(struct topo_text *t, const char *path)
{
	size_t room = 1 << 16;
	struct stat st;
	gzFile gz;
	int got;

	*t = (struct topo_text){ 0 };
	if (stat(path, &st))
		return err(FAILED, "cannot read '%s': %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err(FAILED, "cannot read '%s': it is a folder", path);
	if (st.st_size > 0 && (size_t)st.st_size < TEXT_BYTES_MAX)
		room = (size_t)st.st_size + 2;
	gz = gzopen(path, "rb");
	if (!gz)
		return err(FAILED, "cannot read '%s': %s", path, strerror(errno));
	gzbuffer(gz, 1 << 18);
	t->at = must(malloc(room), room);
	while ((got = gzread(gz, t->at + t->bytes, (unsigned)(room - t->bytes - 1 < 1u << 30 ? room - t->bytes - 1
												  : 1u << 30))) > 0) {
		t->bytes += (size_t)got;
		if (t->bytes + 1 < room)
			continue;
		if (room > TEXT_BYTES_MAX)
			break;
		room *= 2;
		t->at = must(realloc(t->at, room), room);
	}
	t->at[t->bytes] = 0;
	if (got < 0) {
		err(FAILED, "cannot read '%s': %s", path, gzerror(gz, &(int){ 0 }));
		topo_text_release(t);
	} else if (got > 0) {
		err(FAILED, "cannot read '%s': more than %zu bytes of text", path, TEXT_BYTES_MAX);
		topo_text_release(t);
	}
	gzclose(gz);
	return t->at ? OK : FAILED;
}

void topo_text_release(struct topo_text *t)
{
	free(t->at);
	*t = (struct topo_text){ 0 };
}

bool topo_line(struct topo_span *rest, struct topo_span *line)
{
	const char *nl;

	if (rest->at == rest->end)
		return false;
	nl = memchr(rest->at, '\n', topo_span_length(*rest));
	*line = (struct topo_span){ rest->at, nl ? nl : rest->end };
	rest->at = nl ? nl + 1 : rest->end;
	if (line->end > line->at && line->end[-1] == '\r')
		line->end--;
	return true;
}

bool topo_take_hex(struct topo_span *s, uint64_t *v)
{
	const char *p = s->at;
	uint64_t n = 0;

	for (; p < s->end; p++) {
		unsigned digit = (unsigned char)*p - '0';

		if (digit > 9) {
			digit = ((unsigned char)*p | 32u) - 'a';
			if (digit > 5)
				break;
			digit += 10;
		}
		if (p - s->at == 16)
			return false;
		n = 16 * n + digit;
	}
	if (p == s->at)
		return false;
	s->at = p;
	*v = n;
	return true;
}

bool topo_take_real(struct topo_span *s, double *v)
{
	struct topo_span t = *s;
	uint64_t whole, part;
	const char *from;

	if (!topo_take_u64(&t, &whole))
		return false;
	*v = (double)whole;
	from = t.at + 1;
	if (topo_take(&t, ".") && topo_take_u64(&t, &part)) {
		double scale = 1;

		for (; from < t.at; from++)
			scale *= 10;
		*v += (double)part / scale;
	}
	s->at = t.at;
	return true;
}

bool topo_take_date(struct topo_span *s, uint32_t *day)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct topo_span t = *s, month = t;
	uint64_t year, m = 0, d, skipped;

	if (topo_take_u64(&t, &year)) {
		if (!topo_take(&t, "-") || !topo_take_u64(&t, &m) || !topo_take(&t, "-") || !topo_take_u64(&t, &d))
			return false;
	} else {
		topo_take_word(&t, " ", &month);		/* the day of the week */
		topo_skip_blanks(&t);
		if (!topo_take_word(&t, " ", &month) || topo_span_length(month) != 3)
			return false;
		for (uint64_t i = 0; i < 12; i++)
			if (!memcmp(month.at, months + 3 * i, 3))
				m = i + 1;
		topo_skip_blanks(&t);
		if (!topo_take_u64(&t, &d) || !topo_take(&t, " ") || !topo_take_u64(&t, &skipped) ||
		    !topo_take(&t, ":") || !topo_take_u64(&t, &skipped) || !topo_take(&t, ":") ||
		    !topo_take_u64(&t, &skipped) || !topo_take(&t, " ") || !topo_take_u64(&t, &year))
			return false;
	}
	if (year < 1990 || year > 2100 || m < 1 || m > 12 || d < 1 || d > 31)
		return false;
	*day = (uint32_t)(10000 * year + 100 * m + d);
	*s = t;
	return true;
}

bool topo_take_word(struct topo_span *s, const char *stops, struct topo_span *word)
{
	const char *p = s->at;

	for (; p < s->end && *p; p++) {
		const char *stop = stops;	/* a few: strchr() would cost more than it looks at */

		while (*stop && *stop != *p)
			stop++;
		if (*stop)
			break;
	}
	if (p == s->at)
		return false;
	*word = (struct topo_span){ s->at, p };
	s->at = p;
	return true;
}

bool topo_take_past(struct topo_span *s, const char *literal)
{
	size_t room = topo_span_length(*s), n = strlen(literal);
	const char *p = n == 1 ? memchr(s->at, *literal, room) : memmem(s->at, room, literal, n);

	if (p)
		s->at = p + n;
	return p != NULL;
}

bool topo_span_is(struct topo_span s, const char *text)
{
	return topo_span_length(s) == strlen(text) && !memcmp(s.at, text, topo_span_length(s));
}

bool topo_span_is_caseless(struct topo_span s, const char *text)
{
	return topo_span_length(s) == strlen(text) && !strncasecmp(s.at, text, topo_span_length(s));
}

bool topo_span_has(struct topo_span s, const char *text)
{
	return memmem(s.at, topo_span_length(s), text, strlen(text)) != NULL;
}

/* Where the name is, or would be. */
static struct topo_names_slot *name_slot(const struct topo_names *names, const char *at, size_t bytes, uint32_t hash)
{
	size_t i = hash & (names->room - 1);

	while (names->slots[i].text && (names->slots[i].hash != hash || names->slots[i].bytes != bytes ||
					memcmp(names->slots[i].text, at, bytes)))
		i = (i + 1) & (names->room - 1);
	return &names->slots[i];
}

static void names_widen(struct topo_names *names)
{
	struct topo_names wide = { .room = names->room ? 2 * names->room : 64, .count = names->count };

	wide.slots = topo_alloc(wide.room, sizeof(*wide.slots));
	for (size_t i = 0; i < names->room; i++) {
		const struct topo_names_slot *old = &names->slots[i];

		if (old->text)
			*name_slot(&wide, old->text, old->bytes, old->hash) = *old;
	}
	free(names->slots);
	*names = wide;
}

const char *topo_name(struct topo_names *names, struct topo_span s)
{
	uint64_t h = 0xcbf29ce484222325u;	/* FNV-1a */
	struct topo_names_slot *slot;
	const char *end = s.at;

	for (; end < s.end && *end; end++)
		h = (h ^ (unsigned char)*end) * 0x100000001b3u;
	if (2 * (names->count + 1) > names->room)
		names_widen(names);
	slot = name_slot(names, s.at, (size_t)(end - s.at), (uint32_t)(h ^ h >> 29));
	if (!slot->text) {
		*slot = (struct topo_names_slot){ .text = strndup(s.at, (size_t)(end - s.at)),
						  .bytes = (size_t)(end - s.at), .hash = (uint32_t)(h ^ h >> 29) };
		must(slot->text, slot->bytes);
		names->count++;
	}
	return slot->text;
}

const char *topo_name_of(struct topo_names *names, const char *text)
{
	return topo_name(names, (struct topo_span){ text, text + strlen(text) });
}

void topo_names_release(struct topo_names *names)
{
	for (size_t i = 0; i < names->room; i++)
		free(names->slots[i].text);
	free(names->slots);
	*names = (struct topo_names){ 0 };
}

static struct topo_map_slot *map_slot(const struct topo_map *m, uint64_t key)
{
	uint64_t h = key * 0x9e3779b97f4a7c15u;
	size_t i = (size_t)(h ^ h >> 32) & (m->room - 1);

	while (m->slots[i].used && m->slots[i].key != key)
		i = (i + 1) & (m->room - 1);
	return &m->slots[i];
}

uint32_t topo_map_get(const struct topo_map *m, uint64_t key)
{
	const struct topo_map_slot *slot = m->room ? map_slot(m, key) : NULL;

	return slot && slot->used ? slot->value : (uint32_t)TOPO_NONE;
}

void topo_map_set(struct topo_map *m, uint64_t key, uint32_t value)
{
	struct topo_map_slot *slot;

	if (2 * (m->count + 1) > m->room) {
		struct topo_map wide = { .room = m->room ? 2 * m->room : 64, .count = m->count };

		wide.slots = topo_alloc(wide.room, sizeof(*wide.slots));
		for (size_t i = 0; i < m->room; i++)
			if (m->slots[i].used)
				*map_slot(&wide, m->slots[i].key) = m->slots[i];
		free(m->slots);
		*m = wide;
	}
	slot = map_slot(m, key);
	m->count += !slot->used;
	*slot = (struct topo_map_slot){ .key = key, .value = value, .used = true };
}

void topo_map_release(struct topo_map *m)
{
	free(m->slots);
	*m = (struct topo_map){ 0 };
}
