/*
 * bench/base/dist.c - see dist.h.
 */
#include "bench/base/dist.h"

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1e6

static const struct dist_row {
	const char *name;
	size_t numbers;		/* behind the colon */
	const char *form;
} dist_rows[] = {
	[DIST_CONST] = { "const", 1, "const:MS" },
	[DIST_NORMAL] = { "normal", 2, "normal:MEAN_MS,SD_MS" },
	[DIST_LOGNORMAL] = { "lognormal", 2, "lognormal:MEDIAN_MS,SIGMA" },
	[DIST_FILE] = { "file", 0, "file:PATH" },
};

/* A duration, or a spread of durations: a day at most, so that sums stay far from overflow. */
static bool number_read(const char *text, double *value, const char **end)
{
	char *stop;

	*value = strtod(text, &stop);
	*end = stop;
	return stop != text && *value >= 0 && *value <= 864e5;
}

static int numbers_read(struct dist *d, const struct dist_row *row, const char *at, const char *text)
{
	double *const into[] = { &d->center_ms, &d->spread };
	bool good = true;

	for (size_t i = 0; i < row->numbers && good; i++)
		good = (!i || *at++ == ',') && number_read(at, into[i], &at);
	if (!good || *at)
		return err(USAGE, "distribution '%s': wants %s, numbers from 0 to 86400000", text, row->form);
	return OK;
}

static int file_values_read(struct dist *d, const char *path)
{
	struct line_reader r;
	size_t room = 0;
	int rc = line_reader_open(&r, path);

	while (!rc && line_reader_next(&r)) {
		const char *end;
		double value, *more;

		if (!*r.line || *r.line == '#')
			continue;
		if (d->value_count == room) {
			room = room ? 2 * room : 64;
			more = realloc(d->values_ms, room * sizeof(*more));
			if (!more) {
				rc = err(NO_MEMORY, "no memory for the values of '%s'", path);
				break;
			}
			d->values_ms = more;
		}
		if (!number_read(r.line, &value, &end) || *end)
			rc = line_err(&r, FAILED, "'%s' is no duration in ms from 0 to 86400000", r.line);
		d->values_ms[d->value_count++] = value;
	}
	rc = line_reader_close(&r, rc);
	if (!rc && (!d->value_count || d->value_count > UINT32_MAX))
		rc = err(FAILED, "'%s' has %zu values: wants 1 to %u", path, d->value_count, UINT32_MAX);
	return rc;
}

int dist_init(struct dist *d, const char *text)
{
	const char *colon = strchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0;
	int rc;

	*d = (struct dist){ 0 };
	for (size_t i = 0; i < ARRAY_LEN(dist_rows); i++) {
		const struct dist_row *row = &dist_rows[i];

		if (!length || strlen(row->name) != length || strncmp(row->name, text, length))
			continue;
		d->kind = (enum dist_kind)i;
		rc = d->kind == DIST_FILE ? file_values_read(d, colon + 1) : numbers_read(d, row, colon + 1, text);
		if (rc)
			dist_release(d);
		return rc;
	}
	return err(USAGE, "distribution '%s': wants %s, %s, %s or %s", text, dist_rows[DIST_CONST].form,
		   dist_rows[DIST_NORMAL].form, dist_rows[DIST_LOGNORMAL].form, dist_rows[DIST_FILE].form);
}

void dist_release(struct dist *d)
{
	free(d->values_ms);
	*d = (struct dist){ 0 };
}

uint64_t dist_draw_ns(const struct dist *d, struct rng *r)
{
	double ms = d->center_ms;

	switch (d->kind) {
	case DIST_CONST:
		break;
	case DIST_NORMAL:
		ms += d->spread * rng_normal(r);
		break;
	case DIST_LOGNORMAL:
		ms *= exp(d->spread * rng_normal(r));
		break;
	case DIST_FILE:
		ms = d->values_ms[rng_below(r, (uint32_t)d->value_count)];
		break;
	}
	/* The tail of a wide lognormal has no end; the clock's does. */
	return ms > 0 ? (uint64_t)fmin(ms * NS_PER_MS, 0x1p62) : 0;
}
