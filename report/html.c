/*
 * report/html.c - see html.h.
 */
#include "report/html.h"

#include "bench/base/file.h"

#include <string.h>

static const char head[] =
	"<!doctype html>\n"
	"<html lang=\"en\">\n"
	"<head>\n"
	"<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	"<title>sfscale report</title>\n"
	"<style>\n"
	":root { color-scheme: light dark; --ink: #1d2327; --soft: #5b666e; --page: #fff; --panel: #f5f7f8;\n"
	"  --line: #d9dfe3; --accent: #0072b2; --alarm: #b34700; }\n"
	"@media (prefers-color-scheme: dark) {\n"
	"  :root { --ink: #e4e8ea; --soft: #9aa6ad; --page: #14181a; --panel: #1e2427; --line: #364046;\n"
	"    --accent: #6bbcf0; --alarm: #f0a060; } }\n"
	"body { margin: 0 auto; max-width: 80rem; padding: 2rem 1.2rem 4rem; color: var(--ink); background: var(--page);\n"
	"  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; }\n"
	"h1 { font-size: 1.7rem; margin: 0; }\n"
	"h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }\n"
	"h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }\n"
	"a { color: var(--accent); }\n"
	"ul { padding-left: 1.2rem; }\n"
	".place { margin: .3rem 0 1.4rem; color: var(--soft); font-size: 1.05rem; }\n"
	".said { padding: 1rem 1.3rem 1rem 2.4rem; margin: 0; background: var(--panel);\n"
	"  border-left: 4px solid var(--accent); }\n"
	".said li { margin: .25rem 0; }\n"
	".alarm { color: var(--alarm); }\n"
	"figure { margin: 1.2rem 0; }\n"
	"figure img { width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 6px;\n"
	"  box-sizing: border-box; }\n"
	"figcaption, .note { color: var(--soft); font-size: .86rem; }\n"
	".wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }\n"
	"table { border-collapse: collapse; width: 100%; font-size: .8rem; font-variant-numeric: tabular-nums; }\n"
	"th, td { padding: .3rem .55rem; text-align: right; border-bottom: 1px solid var(--line); }\n"
	"th { font-weight: 600; background: var(--panel); vertical-align: bottom; }\n"
	"th small { display: block; font-weight: 400; color: var(--soft); }\n"
	"td { vertical-align: top; }\n"
	"tr:last-child td { border-bottom: 0; }\n"
	".t { text-align: left; }\n"
	"td.t { white-space: nowrap; }\n"
	"td.long { white-space: normal; min-width: 16rem; }\n"
	"dl { font-size: .86rem; margin: 0; display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; }\n"
	"dt { font-family: ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; }\n"
	"dd { margin: 0; color: var(--soft); }\n"
	"@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin: 0 0 .4rem 1rem; } }\n"
	"@media print {\n"
	"  body { max-width: none; font-size: 10pt; padding: 0; }\n"
	"  .wide { overflow: visible; border: 0; }\n"
	"  table { font-size: 6pt; }\n"
	"  th, td { padding: .15rem .25rem; }\n"
	"  td.t, td.long { min-width: 0; white-space: normal; overflow-wrap: anywhere; }\n"
	"  figure, tr { break-inside: avoid; }\n"
	"  h2, h3 { break-after: avoid; }\n"
	"  @page { size: A4 landscape; margin: 12mm; } }\n"
	"</style>\n"
	"</head>\n"
	"<body>\n";

static void text(FILE *f, const char *s)
{
	for (; *s; s++)
		switch (*s) {
		case '<': fputs("&lt;", f); break;
		case '>': fputs("&gt;", f); break;
		case '&': fputs("&amp;", f); break;
		case '"': fputs("&quot;", f); break;
		default: fputc(*s, f);
		}
}

/* The name of a column may break after each underscore. */
static void column_name(FILE *f, const char *s)
{
	for (; *s; s++)
		fprintf(f, *s == '_' ? "_<wbr>" : "%c", *s);
}

static void cell(FILE *f, const struct cell *c, const struct field *field)
{
	enum { LONG_TEXT = 24 };

	switch (c->kind) {
	case CELL_TEXT:
		fprintf(f, "<td class=\"t%s\">", strlen(c->text) > LONG_TEXT ? " long" : "");
		text(f, c->text);
		fputs("</td>", f);
		break;
	case CELL_INT:
		fprintf(f, "<td>%lld</td>", (long long)c->whole);
		break;
	case CELL_REAL:
		fprintf(f, "<td>%.*f</td>", field->decimals, c->real);
		break;
	case CELL_NONE:
		fputs("<td>-</td>", f);
		break;
	}
}

/* A column that has no value, or says nothing but the place that stands above the table, takes
 * room for nothing; CSV and JSON have it. */
static bool column_is_idle(const struct table *t, size_t field, const char *place)
{
	if (table_column_empty(t, field))
		return true;
	for (size_t r = 0; r < table_rows(t); r++) {
		const struct cell *c = table_cell(t, r, field);

		if (c->kind != CELL_TEXT || strcmp(c->text, place))
			return false;
	}
	return true;
}

static void table(FILE *f, const struct table *t, const char *place)
{
	fprintf(f, "<h3 id=\"%s\">", t->name);
	text(f, t->title ? t->title : t->name);
	fprintf(f, "</h3>\n<div class=\"wide\"><table>\n<tr>");
	for (size_t i = 0; i < t->field_count; i++) {
		const struct field *field = &t->fields[i];

		if (column_is_idle(t, i, place))
			continue;
		fprintf(f, "<th%s title=\"", table_column_is_text(t, i) ? " class=\"t\"" : "");
		text(f, field->meaning);
		fputs("\">", f);
		column_name(f, field->name);
		if (*field->unit && strcmp(field->unit, "1")) {
			fputs("<small>", f);
			text(f, field->unit);
			fputs("</small>", f);
		}
		fputs("</th>", f);
	}
	fputs("</tr>\n", f);
	for (size_t r = 0; r < table_rows(t); r++) {
		fputs("<tr>", f);
		for (size_t i = 0; i < t->field_count; i++)
			if (!column_is_idle(t, i, place))
				cell(f, table_cell(t, r, i), &t->fields[i]);
		fputs("</tr>\n", f);
	}
	fprintf(f, "</table></div>\n<p class=\"note\">With every column: <a href=\"%s.csv\">%s.csv</a> and "
		"<a href=\"summary.json\">summary.json</a>.</p>\n", t->name, t->name);
}

static void meanings(FILE *f, const struct table *t)
{
	fprintf(f, "<h3>Table %s</h3>\n<dl>\n", t->name);
	for (size_t i = 0; i < t->field_count; i++) {
		fprintf(f, "<dt>%s</dt><dd>", t->fields[i].name);
		if (*t->fields[i].unit && strcmp(t->fields[i].unit, "1")) {
			fputc('[', f);
			text(f, t->fields[i].unit);
			fputs("] ", f);
		}
		text(f, t->fields[i].meaning);
		fputs("</dd>\n", f);
	}
	fputs("</dl>\n", f);
}

static void list(FILE *f, const char *class, const cJSON *sentences)
{
	const cJSON *s;

	fprintf(f, "<ul%s%s%s>\n", *class ? " class=\"" : "", class, *class ? "\"" : "");
	cJSON_ArrayForEach(s, sentences) {
		fputs("<li>", f);
		text(f, s->valuestring);
		fputs("</li>\n", f);
	}
	fputs("</ul>\n", f);
}

/* A row of a definition list: a text, a list of texts, or an object "name value, name value". */
static void definition(FILE *f, const char *name, const cJSON *value)
{
	const cJSON *v;
	bool first = true;

	if (!cJSON_GetArraySize(value))
		return;
	fprintf(f, "<dt>%s</dt><dd>", name);
	cJSON_ArrayForEach(v, value) {
		char *printed = cJSON_IsString(v) ? NULL : cJSON_PrintUnformatted(v);

		fputs(first ? "" : ", ", f);
		first = false;
		if (v->string) {
			text(f, v->string);
			fputc(' ', f);
		}
		text(f, printed ? printed : v->valuestring);
		cJSON_free(printed);
	}
	fputs("</dd>\n", f);
}

static void figure_all(FILE *f, const cJSON *summary, const char *place)
{
	const cJSON *fig;

	cJSON_ArrayForEach(fig, cJSON_GetObjectItemCaseSensitive(summary, "figures")) {
		const char *name = json_string(fig, "name", "");

		if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(fig, "made")))
			continue;
		fprintf(f, "<figure><img src=\"%s.svg\" alt=\"", name);
		text(f, json_string(fig, "title", ""));
		fprintf(f, "\">\n<figcaption>");
		text(f, place);
		fprintf(f, ". Also as <a href=\"%s.png\">PNG</a>; <a href=\"%s.gp\">the gnuplot script with its data"
			"</a>.</figcaption></figure>\n", name, name);
	}
}

static void trust(FILE *f, const cJSON *summary)
{
	const cJSON *measured = cJSON_GetObjectItemCaseSensitive(summary, "measured");

	fputs("<h2>How it was counted</h2>\n", f);
	list(f, "", cJSON_GetObjectItemCaseSensitive(summary, "rules"));
	fputs("<h2>What was measured</h2>\n<dl>\n", f);
	definition(f, "version", cJSON_GetObjectItemCaseSensitive(measured, "versions"));
	definition(f, "build", cJSON_GetObjectItemCaseSensitive(measured, "builds"));
	definition(f, "cpu", cJSON_GetObjectItemCaseSensitive(measured, "cpus"));
	definition(f, "libraries", cJSON_GetObjectItemCaseSensitive(measured, "libraries"));
	definition(f, "options in common", cJSON_GetObjectItemCaseSensitive(measured, "options"));
	fprintf(f, "<dt>report by</dt><dd>sfscale ");
	text(f, json_string(summary, "version", ""));
	fputs("</dd>\n</dl>\n", f);
}

void html_print(FILE *f, const cJSON *summary, const struct tables *tables, const struct table *warnings)
{
	const char *place = json_string(summary, "place", "");
	size_t n = table_rows(warnings);

	fputs(head, f);
	fputs("<h1>How well does the step scale, and where does its time go?</h1>\n<p class=\"place\">Measured on ", f);
	text(f, place);
	fputs(".", f);
	if (n)
		fprintf(f, " <a class=\"alarm\" href=\"#warnings\">%zu warning%s</a>", n, n == 1 ? "" : "s");
	fputs("</p>\n", f);
	list(f, "said", cJSON_GetObjectItemCaseSensitive(summary, "headlines"));
	figure_all(f, summary, place);
	fputs("<h2>The numbers</h2>\n", f);
	for (int i = 0; i < TABLE_COUNT; i++)
		table(f, &tables->at[i], place);
	if (n)
		table(f, warnings, place);
	trust(f, summary);
	fputs("<h2>What the columns mean</h2>\n", f);
	for (int i = 0; i < TABLE_COUNT; i++)
		meanings(f, &tables->at[i]);
	fputs("</body>\n</html>\n", f);
}
