/*
 * report/lateplot.c - see lateplot.h.
 */
#include "report/lateplot.h"

#include "report/figures.h"
#include "report/waiting.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BAR_WIDTH = 42, LEGEND_WIDTH = 260, LATE_BARS = 24 };

struct bar {
	size_t row;
	double x;
};

static double cause_ms(const struct table *t, size_t row, int cause)
{
	char field[64];

	snprintf(field, sizeof(field), "%s_ms", cause_rows[cause].name);
	return table_number(t, row, field);
}

/* One block per cause: x, y, left, right, bottom, top.  A share that has room is written into its box. */
static void cause_data(FILE *f, const struct table *t, const struct bar *bars, size_t n, int cause, double top)
{
	fprintf(f, "$c%d << EOD\n", cause);
	for (int labels = 0; labels < 2; labels++) {
		for (size_t i = 0; i < n; i++) {
			double low = 0, ms = cause_ms(t, bars[i].row, cause), whole = 0;

			for (int c = 0; c < CAUSE_COUNT; c++) {
				whole += cause_ms(t, bars[i].row, c);
				low += c < cause ? cause_ms(t, bars[i].row, c) : 0;
			}
			if (!labels)
				fprintf(f, "%g %.9g %g %g %.9g %.9g\n", bars[i].x, low, bars[i].x - 0.42, bars[i].x + 0.42, low,
					low + ms);
			else if (ms > 0.045 * top)
				fprintf(f, "set label '%.0f' at %g,%.9g center front font ',11' tc rgb '%s'\n",
					100 * ms / whole, bars[i].x, low + ms / 2, figure_ink(cause_rows[cause].colour));
		}
		if (!labels)
			fprintf(f, "EOD\n");
	}
}

static const char *stack_draw(FILE *f, const struct table *t, const struct bar *bars, size_t n, const char *whole,
			      const char *note)
{
	double top = 0;
	bool any = false;

	for (size_t i = 0; i < n; i++)
		top = fmax(top, table_number(t, bars[i].row, whole));
	if (!(top > 0))
		return "";
	for (int c = 0; c < CAUSE_COUNT; c++)
		cause_data(f, t, bars, n, c, top);
	for (size_t i = 0; i < n; i++) {
		double ms = table_number(t, bars[i].row, whole);

		if (ms < 0.03 * top)
			continue;	/* next to the axis numbers would run into each other */
		fprintf(f, "set label '%.*f' at %g,%.9g center offset 0,0.7 font ',12'\n", ms < 10 ? 2 : ms < 100 ? 1 : 0,
			ms, bars[i].x, ms);
	}
	fprintf(f, "set label ");
	figure_quoted(f, note);
	fprintf(f,
		" at screen 0.98,0.03 right font ',12' tc rgb '#555555'\n"
		"set xrange [-0.7:%g]\nset yrange [0:%.9g]\nset key outside right center reverse Left invert\n"
		"set style fill solid 1 border rgb 'white'\nplot ", bars[n - 1].x + 0.7, 1.12 * top);
	for (int c = 0; c < CAUSE_COUNT; c++) {
		double most = 0;

		for (size_t i = 0; i < n; i++)
			most = fmax(most, cause_ms(t, bars[i].row, c));
		if (most < 0.001 * top)
			continue;	/* not to be seen: only in the table */
		fprintf(f, "%s$c%d using 1:2:3:4:5:6 with boxxyerror lw 0.5 fc rgb '%s' title '%s'", any ? ", \\\n  " : "", c,
			cause_rows[c].colour, cause_rows[c].title);
		any = true;
	}
	fprintf(f, "\n");
	return NULL;
}

/* ---- what for -------------------------------------------------------------------------- */

size_t waits_width(const struct tables *tables)
{
	size_t width = LEGEND_WIDTH + BAR_WIDTH * table_rows(&tables->at[TABLE_WAITS]) * 3 / 2;

	return width > FIGURE_WIDTH ? width : FIGURE_WIDTH;
}

static bool same_variant(const struct table *t, size_t a, size_t b)
{
	return !strcmp(table_word(t, a, "variant"), table_word(t, b, "variant"));
}

const char *waits_draw(FILE *f, const struct tables *tables)
{
	const struct table *t = &tables->at[TABLE_WAITS];
	size_t n = table_rows(t), first = 0;
	struct bar *bars = calloc(n + 1, sizeof(*bars));
	const char *why_not = bars && n ? NULL : "";
	int most = 0;
	double x = 0;

	for (size_t i = 0; i < n && !why_not; i++) {
		x += i && !same_variant(t, i - 1, i) ? 0.7 : 0;
		bars[i] = (struct bar){ i, x++ };
	}
	if (!why_not)
		fprintf(f, "set xtics scale 0 (");
	for (size_t i = 0; i < n && !why_not; i++)
		fprintf(f, "%s'%g' %g", i ? ", " : "", table_number(t, i, "nodes"), bars[i].x);
	if (!why_not)
		fprintf(f, ")\n");
	for (size_t i = 0; i < n && !why_not; i++) {
		int lines;

		if (i + 1 < n && same_variant(t, i, i + 1))
			continue;
		lines = figure_variant(f, table_word(t, i, "variant"), (bars[first].x + bars[i].x) / 2);
		most = lines > most ? lines : most;
		first = i + 1;
	}
	if (!why_not) {
		fprintf(f, "set bmargin %g\nset label 'nodes' at graph 0, graph 0 right offset -1,-1.1\n"
			"set ylabel 'exposed wait, ms per iteration'\n", 3.8 + 1.1 * most);
		why_not = stack_draw(f, t, bars, n, "wait_ms", "numbers in the bars are % of the wait; colours: what the rank "
				     "that was waited for did longer");
	}
	free(bars);
	return why_not;
}

/* ---- who ------------------------------------------------------------------------------- */

/* The point with the most wait per iteration: its row in table waits. */
static size_t worst_point(const struct table *t)
{
	size_t worst = 0;

	for (size_t i = 1; i < table_rows(t); i++)
		if (table_number(t, i, "wait_ms") > table_number(t, worst, "wait_ms"))
			worst = i;
	return worst;
}

static int by_rank(const void *a, const void *b)
{
	const struct bar *x = a, *y = b;

	return (x->x > y->x) - (x->x < y->x);
}

const char *late_draw(FILE *f, const struct tables *tables)
{
	const struct table *points = &tables->at[TABLE_WAITS], *t = &tables->at[TABLE_LATE];
	size_t worst = worst_point(points), n = 0;
	struct bar bars[LATE_BARS];
	char note[256];

	if (!table_rows(points))
		return "";
	for (size_t r = 0; r < table_rows(t) && n < LATE_BARS; r++)
		if (!strcmp(table_word(t, r, "variant"), table_word(points, worst, "variant")) &&
		    table_number(t, r, "nodes") == table_number(points, worst, "nodes"))
			bars[n++] = (struct bar){ r, table_number(t, r, "rank") };	/* the worst come first in the table */
	if (!n)
		return "";
	qsort(bars, n, sizeof(*bars), by_rank);
	fprintf(f, "set xtics scale 0 (");
	for (size_t i = 0; i < n; i++) {
		bool persistent = strcmp(table_word(t, bars[i].row, "verdict"), late_verdicts[LATE_BY_CHANCE]);

		fprintf(f, "%s'%g%s' %zu", i ? ", " : "", bars[i].x, persistent ? "*" : "", i);
		bars[i].x = (double)i;
	}
	fprintf(f, ")\nset bmargin 6\nset xlabel 'rank%s; *: persistently late or at epoch starts, not by chance'\nset ylabel 'others wait, ms per iteration'\n",
		n < table_number(points, worst, "ranks") ? " (the worst)" : "");
	snprintf(note, sizeof(note), "%s on %g nodes: the most wait of all points", table_word(points, worst, "variant"),
		 table_number(points, worst, "nodes"));
	return stack_draw(f, t, bars, n, "induced_ms", note);
}
