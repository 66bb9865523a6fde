/*
 * bench/base/table.c - see table.h.
 */
#include "bench/base/table.h"

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { CELL_CHARS = 64, FIELDS_MAX = 64 };

void table_init(struct table *t, const char *name, const char *title, const struct field *fields, size_t field_count)
{
	*t = (struct table){ .name = name, .title = title, .fields = fields, .field_count = field_count };
}

void table_release(struct table *t)
{
	for (size_t i = 0; i < t->cell_count; i++)
		free(t->cells[i].text);
	free(t->cells);
	*t = (struct table){ 0 };
}

size_t table_rows(const struct table *t)
{
	return t->field_count ? t->cell_count / t->field_count : 0;
}

const struct cell *table_cell(const struct table *t, size_t row, size_t column)
{
	assert(row < table_rows(t) && column < t->field_count);
	return &t->cells[row * t->field_count + column];
}

/* A table is a few thousand cells of a report; without memory for it nothing useful is left to do. */
static void append(struct table *t, struct cell c)
{
	if (t->cell_count == t->cell_room) {
		t->cell_room = t->cell_room ? 2 * t->cell_room : 256;
		t->cells = realloc(t->cells, t->cell_room * sizeof(*t->cells));
		if (!t->cells) {
			err(NO_MEMORY, "no memory for table '%s'", t->name);
			abort();
		}
	}
	t->cells[t->cell_count++] = c;
}

void table_text(struct table *t, const char *text)
{
	append(t, (struct cell){ .kind = CELL_TEXT, .text = strdup(text) });
}

void table_int(struct table *t, int64_t value)
{
	append(t, (struct cell){ .kind = CELL_INT, .whole = value });
}

void table_real(struct table *t, double value)
{
	if (isnan(value))
		table_none(t);
	else
		append(t, (struct cell){ .kind = CELL_REAL, .real = value });
}

void table_none(struct table *t)
{
	append(t, (struct cell){ .kind = CELL_NONE });
}

/* `decimals` < 0: as many digits as tell the value apart from its neighbours. */
static const char *cell_string(const struct cell *c, int decimals, const char *none, char out[CELL_CHARS])
{
	switch (c->kind) {
	case CELL_NONE:
		return none;
	case CELL_TEXT:
		return c->text;
	case CELL_INT:
		snprintf(out, CELL_CHARS, "%lld", (long long)c->whole);
		return out;
	case CELL_REAL:
		break;
	}
	if (decimals < 0)
		snprintf(out, CELL_CHARS, "%.17g", c->real);
	else
		snprintf(out, CELL_CHARS, "%.*f", decimals, c->real);
	return out;
}

bool table_column_is_text(const struct table *t, size_t column)
{
	for (size_t r = 0; r < table_rows(t); r++)
		if (table_cell(t, r, column)->kind == CELL_TEXT)
			return true;
	return false;
}

bool table_column_empty(const struct table *t, size_t column)
{
	size_t r = 0;

	while (r < table_rows(t) && table_cell(t, r, column)->kind == CELL_NONE)
		r++;
	return r && r == table_rows(t);
}

void table_print_text(const struct table *t, FILE *out)
{
	int width[FIELDS_MAX];
	bool text[FIELDS_MAX];
	char room[CELL_CHARS];

	assert(t->field_count <= FIELDS_MAX);
	for (size_t f = 0; f < t->field_count; f++) {
		width[f] = (int)strlen(t->fields[f].name);
		text[f] = table_column_is_text(t, f);
		for (size_t r = 0; r < table_rows(t); r++) {
			const char *s = cell_string(table_cell(t, r, f), t->fields[f].decimals, "-", room);

			width[f] = (int)strlen(s) > width[f] ? (int)strlen(s) : width[f];
		}
	}
	if (t->field_count && text[t->field_count - 1])
		width[t->field_count - 1] = 0;		/* no blanks at the end of a line */
	if (t->title)
		fprintf(out, "%s\n", t->title);
	for (size_t line = 0; line <= table_rows(t); line++) {
		const char *blanks = "";

		for (size_t f = 0; f < t->field_count; f++) {
			const char *s = line ? cell_string(table_cell(t, line - 1, f), t->fields[f].decimals, "-", room)
					     : t->fields[f].name;

			if (table_column_empty(t, f))
				continue;
			fprintf(out, "%s%*s", blanks, text[f] ? -width[f] : width[f], s);
			blanks = "  ";
		}
		fprintf(out, "\n");
	}
}

void table_print_csv(const struct table *t, FILE *out)
{
	char text[CELL_CHARS];

	for (size_t f = 0; f < t->field_count; f++)
		fprintf(out, "%s%s", f ? "," : "", t->fields[f].name);
	fprintf(out, "\n");
	for (size_t r = 0; r < table_rows(t); r++) {
		for (size_t f = 0; f < t->field_count; f++) {
			const char *s = cell_string(table_cell(t, r, f), -1, "", text);

			fprintf(out, "%s", f ? "," : "");
			if (!strpbrk(s, ",\"\n")) {
				fputs(s, out);
				continue;
			}
			fputc('"', out);
			for (; *s; s++)
				fprintf(out, *s == '"' ? "\"\"" : "%c", *s);
			fputc('"', out);
		}
		fprintf(out, "\n");
	}
}

cJSON *table_json(const struct table *t)
{
	cJSON *rows = cJSON_CreateArray();

	for (size_t r = 0; r < table_rows(t); r++) {
		cJSON *row = cJSON_CreateObject();

		for (size_t f = 0; f < t->field_count; f++) {
			const struct cell *c = table_cell(t, r, f);
			const char *key = t->fields[f].name;

			if (c->kind == CELL_TEXT)
				cJSON_AddStringToObject(row, key, c->text);
			else if (c->kind == CELL_INT)
				cJSON_AddNumberToObject(row, key, (double)c->whole);
			else if (c->kind == CELL_REAL)
				cJSON_AddNumberToObject(row, key, c->real);
			else
				cJSON_AddNullToObject(row, key);
		}
		cJSON_AddItemToArray(rows, row);
	}
	return rows;
}

cJSON *table_fields_json(const struct table *t)
{
	cJSON *rows = cJSON_CreateArray();

	for (size_t f = 0; f < t->field_count; f++) {
		cJSON *row = cJSON_CreateObject();

		cJSON_AddStringToObject(row, "name", t->fields[f].name);
		cJSON_AddStringToObject(row, "unit", t->fields[f].unit);
		cJSON_AddStringToObject(row, "meaning", t->fields[f].meaning);
		cJSON_AddItemToArray(rows, row);
	}
	return rows;
}

const char *figures3(double v, char out[32])
{
	snprintf(out, 32, "%.*f", fabs(v) < 1 ? 3 : fabs(v) < 10 ? 2 : fabs(v) < 100 ? 1 : 0, v);
	return out;
}

static void print_json(const struct table *const *tables, size_t count)
{
	cJSON *all = cJSON_CreateObject(), *fields = cJSON_AddObjectToObject(all, "fields");
	char *text;

	for (size_t i = 0; i < count; i++) {
		cJSON_AddItemToObject(all, tables[i]->name, table_json(tables[i]));
		cJSON_AddItemToObject(fields, tables[i]->name, table_fields_json(tables[i]));
	}
	text = cJSON_Print(all);
	printf("%s\n", text ? text : "");
	free(text);
	cJSON_Delete(all);
}

void tables_print(const struct table *const *tables, size_t count, enum table_form form)
{
	if (form == TABLE_JSON)
		print_json(tables, count);
	for (size_t i = 0; i < count && form != TABLE_JSON; i++) {
		if (i)
			printf("\n");
		(form == TABLE_CSV ? table_print_csv : table_print_text)(tables[i], stdout);
	}
}

int table_write_csv(const struct table *t, const char *dir)
{
	char path[PATH_BYTES];
	FILE *f;

	if (path_make(path, "%s/%s.csv", dir, t->name) || !(f = file_begin(path)))
		return FAILED;
	table_print_csv(t, f);
	return file_end(f, path, OK);
}
