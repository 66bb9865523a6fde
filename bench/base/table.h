/*
 * bench/base/table.h - numbers leave the program through here.
 *
 * A table is a list of fields (name, unit, meaning) and rows of cells.  Aligned text, CSV
 * and JSON are three prints of one table, so they cannot disagree.
 */
#ifndef SFSCALE_BASE_TABLE_H
#define SFSCALE_BASE_TABLE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct field {
	const char *name;	/* key in CSV and JSON; carries the unit: "stall_ms" */
	const char *unit;	/* "ms", "1", "" */
	const char *meaning;	/* one line: what, with its formula */
	int decimals;		/* of reals in text; CSV and JSON keep all digits */
};

struct cell {
	enum cell_kind { CELL_NONE, CELL_TEXT, CELL_INT, CELL_REAL } kind;
	char *text;		/* owned */
	int64_t whole;
	double real;
};

struct table {
	const char *name;	/* file name and JSON key: "breakdown" */
	const char *title;	/* one line above the text form */
	const struct field *fields;	/* borrowed */
	size_t field_count;
	struct cell *cells;	/* owned, row after row */
	size_t cell_count;
	size_t cell_room;
};

void table_init(struct table *, const char *name, const char *title, const struct field *fields, size_t field_count);
void table_release(struct table *);
size_t table_rows(const struct table *);
const struct cell *table_cell(const struct table *, size_t row, size_t column);

/* Append the next cell of the current row; a row ends by itself after the last field. */
void table_text(struct table *, const char *text);
void table_int(struct table *, int64_t value);
void table_real(struct table *, double value);	/* NaN: no value */
void table_none(struct table *);

/* Some row has a word there: such columns keep left, numbers keep right. */
bool table_column_is_text(const struct table *, size_t column);
/* No row has a value there. */
bool table_column_empty(const struct table *, size_t column);

/* Text leaves out columns that are empty; CSV and JSON have every one. */
void table_print_text(const struct table *, FILE *);
void table_print_csv(const struct table *, FILE *);
/* An array of one object per row, keyed by field name; empty cells are null.  Owned by the caller. */
cJSON *table_json(const struct table *);
/* The meanings: an array of {name, unit, meaning}.  Owned by the caller. */
cJSON *table_fields_json(const struct table *);

/* On stdout, in one of three forms.  Text and CSV have an empty line between tables; JSON is one object: each table by its
 * name, and "fields" with the meanings of each. */
enum table_form { TABLE_TEXT, TABLE_CSV, TABLE_JSON };
void tables_print(const struct table *const *tables, size_t count, enum table_form);
/* DIR/NAME.csv, whole or not at all. */
int table_write_csv(const struct table *, const char *dir);

/* A number within a sentence: three significant digits, and never an exponent.  Returns `out`. */
const char *figures3(double v, char out[32]);

#endif
