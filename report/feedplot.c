/*
 * report/feedplot.c - see feedplot.h.
 *
 * "study" is the table that the study behind this suite printed, as a picture: what an epoch boundary costs
 * and how long ten iterations take, against the workers.
 */
#include "report/feedplot.h"

#include "report/figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINES_MAX = 7 };

static const char *const colours[LINES_MAX] = { "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000" };

static bool row_is(const struct table *t, size_t row, const char *field, const char *word)
{
	return !strcmp(table_word(t, row, field), word);
}

/* The first words of a column that differ, at most LINES_MAX; returns how many. */
static size_t words_of(const struct table *t, const char *field, const char *words[LINES_MAX])
{
	size_t n = 0;

	for (size_t r = 0; r < table_rows(t) && n < LINES_MAX; r++) {
		size_t i = 0;

		while (i < n && strcmp(words[i], table_word(t, r, field)))
			i++;
		if (i == n)
			words[n++] = table_word(t, r, field);
	}
	return n;
}

static double fewest_nodes(const struct table *t, const char *field, const char *word)
{
	double least = INFINITY;

	for (size_t r = 0; r < table_rows(t); r++)
		if (row_is(t, r, field, word))
			least = fmin(least, table_number(t, r, "nodes"));
	return least;
}

static void note(FILE *f, const char *text)
{
	fprintf(f, "set label '%s' at screen 0.98,0.03 right font ',12' tc rgb '#555555'\n", text);
}

/* ---- the queue ------------------------------------------------------------------------- */

const char *queue_draw(FILE *f, const struct tables *tables)
{
	const struct table *t = &tables->at[TABLE_QUEUE];
	const char *variants[LINES_MAX];
	size_t n = words_of(t, "variant", variants);
	double before = 0;

	if (!n)
		return "";	/* no policy with workers is no news */
	for (size_t v = 0; v < n; v++) {
		double nodes = fewest_nodes(t, "variant", variants[v]);

		fprintf(f, "$q%zu << EOD\n", v);
		for (size_t r = 0; r < table_rows(t); r++)
			if (row_is(t, r, "variant", variants[v]) && table_number(t, r, "nodes") == nodes)
				fprintf(f, "%g %.6g\n", 0.5 * (table_number(t, r, "from") + table_number(t, r, "to") - 1),
					table_number(t, r, "depth_mean"));
		fprintf(f, "EOD\n");
	}
	/* Epochs, of the first line. */
	for (size_t r = 0; r < table_rows(t) && row_is(t, r, "variant", variants[0]); r++) {
		if (table_number(t, r, "epoch") > before)
			fprintf(f, "set arrow from first %g, graph 0 to first %g, graph 1 nohead back lw 1 dt 3 lc rgb '#999999'\n",
				table_number(t, r, "from") - 0.5, table_number(t, r, "from") - 0.5);
		before = table_number(t, r, "epoch");
	}
	note(f, n == LINES_MAX ? "dotted: an epoch begins; the first 7 lines, the table has all" : "dotted: an epoch begins");
	fprintf(f, "set xlabel 'iteration'\nset ylabel 'batches ready when one is asked for'\nset yrange [0:*]\n"
		   "set key outside right center reverse Left\nplot ");
	for (size_t v = 0; v < n; v++) {
		fprintf(f, "%s$q%zu using 1:2 with linespoints lw 2 pt 7 ps 0.5 lc rgb '%s' title ", v ? ", \\\n  " : "", v, colours[v]);
		figure_quoted(f, variants[v]);
	}
	fprintf(f, "\n");
	return NULL;
}

/* ---- the study's table ----------------------------------------------------------------- */

static bool study_shown(const struct table *t, size_t row, const char *series, double nodes)
{
	return row_is(t, row, "kind", "boundary") && row_is(t, row, "series", series) &&
	       table_number(t, row, "nodes") == nodes && !isnan(table_number(t, row, "workers"));
}

/* workers, stall, its least and greatest, ten iterations; returns the number of points. */
static size_t study_data(FILE *f, const struct table *t, const char *series, size_t index, double unit)
{
	double nodes = fewest_nodes(t, "series", series);
	size_t n = 0;

	fprintf(f, "$s%zu << EOD\n", index);
	for (size_t r = 0; r < table_rows(t); r++) {
		if (!study_shown(t, r, series, nodes))
			continue;
		fprintf(f, "%g %.6g %.6g %.6g %.6g\n", table_number(t, r, "workers"), unit * table_number(t, r, "cost_ms"),
			unit * table_number(t, r, "cost_min_ms"), unit * table_number(t, r, "cost_max_ms"),
			unit * table_number(t, r, "ten_iterations_ms"));
		n++;
	}
	fprintf(f, "EOD\n");
	return n;
}

const char *study_draw(FILE *f, const struct tables *tables)
{
	const struct table *t = &tables->at[TABLE_BOUNDARY];
	const char *series[LINES_MAX];
	size_t all = words_of(t, "series", series), drawn = 0, most = 0;
	double top = 0, low = INFINITY, high = -INFINITY;
	bool seconds;

	for (size_t r = 0; r < table_rows(t); r++) {
		low = fmin(low, table_number(t, r, "workers"));
		high = fmax(high, table_number(t, r, "workers"));
		top = fmax(top, fmax(table_number(t, r, "cost_ms"), table_number(t, r, "ten_iterations_ms")));
	}
	seconds = top >= 2000;
	for (size_t s = 0; s < all; s++) {
		size_t n = study_data(f, t, series[s], s, seconds ? 1e-3 : 1);

		most = n > most ? n : most;
	}
	if (most < 2)
		return "";	/* workers were not swept */
	fprintf(f,
		"set xlabel 'loader workers per rank'\nset ylabel 'stall at an epoch boundary, %s (filled)'\nset y2label '10 iterations, %s (open)'\n"
		"set border 11 lc rgb '#666666'\nset y2tics nomirror out\nset yrange [0:*]\nset y2range [0:*]\nset xtics 1\n"
		"set xzeroaxis lt -1 lw 1 lc rgb '#666666'\nset xrange [%g:%g]\n"
		"set key outside right center reverse Left\nplot ",
		seconds ? "s" : "ms", seconds ? "s" : "ms", low - 0.4, high + 0.4);
	for (size_t s = 0; s < all; s++) {
		fprintf(f,
			"%s$s%zu using 1:2 with lines lw 2.5 lc rgb '%s' notitle, \\\n"
			"  $s%zu using 1:2:3:4 with yerrorbars lw 1.5 pt 7 ps 1.3 lc rgb '%s' title ",
			drawn++ ? ", \\\n  " : "", s, colours[s], s, colours[s]);
		figure_quoted(f, series[s]);
		fprintf(f, ", \\\n  $s%zu using 1:5 axes x1y2 with linespoints lw 2 dt 2 pt 6 ps 1.3 lc rgb '%s' notitle", s, colours[s]);
	}
	fprintf(f, "\n");
	return NULL;
}
