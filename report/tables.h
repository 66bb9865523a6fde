/*
 * report/tables.h - every number that a report shows, as tables.
 *
 * A new answer is a new table: fields, a function that appends rows, a row in own_makers[].
 * Text, CSV, JSON, the page and the figures read these tables and nothing else.
 */
#ifndef SFSCALE_REPORT_TABLES_H
#define SFSCALE_REPORT_TABLES_H

#include "report/curve.h"

enum table_id {
	TABLE_SPEEDUP, TABLE_BREAKDOWN, TABLE_SHARES, TABLE_BOUNDARY, TABLE_LOSS, TABLE_SCALING, TABLE_POP,
	TABLE_WAITS, TABLE_COLLECTIVES, TABLE_LATE, TABLE_PAIRS,	/* report/waiting.h */
	TABLE_LOADER, TABLE_EPOCHS, TABLE_QUEUE, TABLE_WORKERS,		/* report/feeding.h */
	TABLE_ACCURACY,		/* report/accuracy.h */
	TABLE_RUNS, TABLE_COUNT
};

struct tables {
	struct table at[TABLE_COUNT];	/* owned, with their titles */
};

/* `place` stands in every title. */
int tables_make(struct tables *, const struct curve *, const struct runs *, const char *place);
void tables_release(struct tables *);

/* A cell by the name of its field.  NaN, and "", for a cell of another kind. */
double table_number(const struct table *, size_t row, const char *field);
const char *table_word(const struct table *, size_t row, const char *field);

#endif
