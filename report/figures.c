/*
 * report/figures.c - what each figure draws: the bodies of the gnuplot scripts.
 *
 * C decides what is drawn and where (positions, colours, labels); gnuplot draws.  Colours are
 * those of Okabe and Ito, which colour-blind readers tell apart; variants differ in
 * the shape of their points as well.  Data are copied from the tables, never computed here.
 */
#include "report/figures.h"

#include "bench/base/err.h"
#include "report/accuracy.h"
#include "report/feedplot.h"
#include "report/lateplot.h"
#include "report/waterfall.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SERIES_MAX = 16, NUMBERS_MAX = 64 };	/* more lines than that no eye and no legend can hold */

static const char *const palette[] = { "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000" };
static const int shapes[] = { 7, 5, 9, 11, 13, 4, 6 };	/* filled circle, square, triangles, diamond; open ones */

const char *figure_colour(size_t line)
{
	return palette[line % ARRAY_LEN(palette)];
}

int figure_shape(size_t line)
{
	return shapes[(line + line / ARRAY_LEN(palette)) % ARRAY_LEN(shapes)];
}

/* Nothing is special between single quotes but the quote itself. */
void figure_quoted(FILE *f, const char *text)
{
	fputc('\'', f);
	for (; *text; text++)
		fprintf(f, *text == '\'' ? "''" : "%c", *text == '\n' ? ' ' : *text);
	fputc('\'', f);
}

/* The distinct words of a column, the first SERIES_MAX of them, in order of first appearance; returns how many. */
static size_t words_of(const struct table *t, const char *field, const char *words[SERIES_MAX])
{
	size_t n = 0;

	for (size_t r = 0; r < table_rows(t); r++) {
		size_t i = 0;

		while (i < n && strcmp(words[i], table_word(t, r, field)))
			i++;
		if (i == n && n < SERIES_MAX)
			words[n++] = table_word(t, r, field);
	}
	return n;
}

/* Nothing is left out in silence. */
static void note_left_out(FILE *f, bool full)
{
	if (full)
		fprintf(f,
			"set label 'the first %d lines; the table has all' at screen 0.98,0.03 right "
			"font ',12' tc rgb '#555555'\n",
			SERIES_MAX);
}

static bool row_is(const struct table *t, size_t row, const char *field, const char *word)
{
	return !strcmp(table_word(t, row, field), word);
}

/* A tic for every value of a column, and only there. */
static void tics(FILE *f, const char *axis, const struct table *t, const char *field)
{
	fprintf(f, "set %stics (", axis);
	for (size_t r = 0; r < table_rows(t); r++)
		fprintf(f, "%s%g", r ? ", " : "", table_number(t, r, field));
	fprintf(f, ")\n");
}

/* ---- rate and speed-up ----------------------------------------------------------------- */

/* A line per variant over the numbers of nodes: the columns `name`, name_min and name_max, whole run. */
static bool point_shown(const struct table *t, size_t row, const char *variant)
{
	return row_is(t, row, "variant", variant) && row_is(t, row, "scope", scope_names[SCOPE_WHOLE]);
}

static void curve_data(FILE *f, const struct table *t, const char *name, const char *variant, size_t index)
{
	char low[64], high[64];

	snprintf(low, sizeof(low), "%s_min", name);
	snprintf(high, sizeof(high), "%s_max", name);
	fprintf(f, "$v%zu << EOD\n", index);
	for (size_t r = 0; r < table_rows(t); r++)
		if (point_shown(t, r, variant) && !isnan(table_number(t, r, name)))
			fprintf(f, "%g %.6g %.6g %.6g\n", table_number(t, r, "nodes"), table_number(t, r, name),
				table_number(t, r, low), table_number(t, r, high));
	fprintf(f, "EOD\n");
}

/* One figure over nodes. */
struct view {
	const char *column, *label, *ideal;
	bool with_base;		/* a speed-up without its base says little */
};

/* "threads (1 = 3.20 clips/s), failed on 4": a point that is not there must not go unnoticed. */
static void curve_title(char title[256], const struct table *t, const char *variant, const struct view *view)
{
	size_t used = (size_t)snprintf(title, 256, "%s", variant);
	bool failed = false;

	for (size_t r = 0; r < table_rows(t) && view->with_base && used < 256; r++)
		if (point_shown(t, r, variant) && table_number(t, r, "nodes") == table_number(t, r, "base_nodes") &&
		    table_number(t, r, "runs"))
			used += (size_t)snprintf(title + used, 256 - used, " (1 = %.3g clips/s)",
						 table_number(t, r, "clips_per_s"));
	for (size_t r = 0; r < table_rows(t) && used < 256; r++)
		if (point_shown(t, r, variant) && !table_number(t, r, "runs")) {
			used += (size_t)snprintf(title + used, 256 - used, "%s%g", failed ? ", " : ", failed on ",
						 table_number(t, r, "nodes"));
			failed = true;
		}
}

/* Of the figure's width, `longest` being the title of a line beside these; gnuplot itself guesses far too high. */
static double legend_share(const char (*titles)[256], size_t count, size_t longest)
{
	enum { SAMPLE_WIDTH = 75 };
	const double char_width = 8;

	for (size_t i = 0; i < count; i++)
		longest = strlen(titles[i]) > longest ? strlen(titles[i]) : longest;
	return fmin(0.5, (SAMPLE_WIDTH + char_width * (double)longest) / FIGURE_WIDTH);
}

static const char *curve_draw(FILE *f, const struct table *t, const struct view *view)
{
	const char *variants[SERIES_MAX];
	char titles[SERIES_MAX][256], name_max[64];
	size_t n = words_of(t, "variant", variants);
	double low = INFINITY, high = 0, ideal = 0, top = 0, legend;

	snprintf(name_max, sizeof(name_max), "%s_max", view->column);
	for (size_t r = 0; r < table_rows(t); r++) {
		double nodes = table_number(t, r, "nodes");

		if (!row_is(t, r, "scope", scope_names[SCOPE_WHOLE]) || isnan(table_number(t, r, view->column)))
			continue;
		low = fmin(low, nodes);
		high = fmax(high, nodes);
		top = fmax(top, table_number(t, r, name_max));
		if (nodes == table_number(t, r, "base_nodes"))
			ideal = fmax(ideal, table_number(t, r, view->column) / nodes);
	}
	if (!n || !(low < high))
		return "it takes runs on two numbers of nodes";
	for (size_t v = 0; v < n; v++) {
		curve_data(f, t, view->column, variants[v], v);
		curve_title(titles[v], t, variants[v], view);
	}
	note_left_out(f, n == SERIES_MAX);
	legend = legend_share(titles, n, strlen(view->ideal));
	tics(f, "x", t, "nodes");
	fprintf(f,
		"set xlabel 'nodes'\nset ylabel '%s'\nset rmargin at screen %.3f\n"
		"set key at screen %.3f, screen 0.84 left top reverse Left font ',12'\n",
		view->label, 0.98 - legend, 0.99 - legend);
	if (high / low > 8)	/* doublings at equal distances */
		fprintf(f, "set logscale xy 2\nset xrange [%g:%g]\n", low / 1.15, high * 1.15);
	else
		fprintf(f, "set xrange [%g:%g]\nset yrange [0:%g]\n", low - 0.08 * (high - low),
			high + 0.08 * (high - low), 1.1 * fmax(ideal * high, top));
	fprintf(f, "plot %.9g * x with lines lw 2 dt 2 lc rgb '#999999' title '%s'", ideal, view->ideal);
	for (size_t v = 0; v < n; v++) {
		const char *colour = figure_colour(v);

		fprintf(f,
			", \\\n  $v%zu using 1:2 with lines lw 2.5 lc rgb '%s' notitle, \\\n  $v%zu using 1:2:3:4 with "
			"yerrorbars lw 1.5 pt %d ps 1.3 lc rgb '%s' title ",
			v, colour, v, figure_shape(v), colour);
		figure_quoted(f, titles[v]);
	}
	fprintf(f, "\n");
	return NULL;
}

static const char *rate_draw(FILE *f, const struct tables *tables)
{
	static const struct view view = { "clips_per_s", "clips/s, whole run", "ideal, from the fastest base", false };

	return curve_draw(f, &tables->at[TABLE_SPEEDUP], &view);
}

static const char *speedup_draw(FILE *f, const struct tables *tables)
{
	static const struct view view = { "speedup", "speed-up, whole run (own base = 1)", "ideal", true };

	return curve_draw(f, &tables->at[TABLE_SPEEDUP], &view);
}

/* ---- breakdown ------------------------------------------------------------------------- */

/* Bars of one variant stand together, a gap of one between variants. */
struct bar {
	size_t row;
	double x;
};

static size_t bars_make(const struct table *t, struct bar *bars)
{
	double x = 0;
	size_t n = 0;

	for (size_t r = 0; r < table_rows(t); r++) {
		if (!row_is(t, r, "scope", scope_names[SCOPE_WHOLE]))
			continue;
		if (n && !row_is(t, bars[n - 1].row, "variant", table_word(t, r, "variant")))
			x += 0.7;
		bars[n++] = (struct bar){ .row = r, .x = x++ };
	}
	return n;
}

static double part_ms(const struct table *t, size_t row, int group)
{
	char field[64];

	snprintf(field, sizeof(field), "%s_ms", group_rows[group].name);
	return table_number(t, row, field);
}

/* By the luma of the sRGB values. */
const char *figure_ink(const char *colour)
{
	unsigned long rgb = strtoul(colour + 1, NULL, 16);

	return 299 * (rgb >> 16 & 255) + 587 * (rgb >> 8 & 255) + 114 * (rgb & 255) > 127 * 1000 ? "black" : "white";
}

/* A quarter of the bars' room is gaps between variants. */
static size_t breakdown_width(const struct tables *tables)
{
	enum { BAR_WIDTH = 42, LEGEND_WIDTH = 300 };
	size_t width = LEGEND_WIDTH + BAR_WIDTH * table_rows(&tables->at[TABLE_BREAKDOWN]) / SCOPE_COUNT * 4 / 3;

	return width > FIGURE_WIDTH ? width : FIGURE_WIDTH;
}

/* One block per group: x, y, left, right, bottom, top.  Shares that have room are written into their box. */
static void group_data(FILE *f, const struct table *t, const struct bar *bars, size_t n, int group, double top)
{
	fprintf(f, "$g%d << EOD\n", group);
	for (size_t i = 0; i < n; i++) {
		double low = 0, ms = part_ms(t, bars[i].row, group);

		for (int g = 0; g < group; g++)
			low += part_ms(t, bars[i].row, g);
		fprintf(f, "%g %.9g %g %g %.9g %.9g\n", bars[i].x, low, bars[i].x - 0.42, bars[i].x + 0.42, low,
			low + ms);
	}
	fprintf(f, "EOD\n");
	for (size_t i = 0; i < n; i++) {
		double low = 0, ms = part_ms(t, bars[i].row, group);

		for (int g = 0; g < group; g++)
			low += part_ms(t, bars[i].row, g);
		if (ms > 0.045 * top)
			fprintf(f, "set label '%.0f' at %g,%.9g center front font ',11' tc rgb '%s'\n",
				100 * ms / table_number(t, bars[i].row, "iteration_ms"), bars[i].x, low + ms / 2,
				figure_ink(group_rows[group].colour));
	}
}

int figure_variant(FILE *f, const char *variant, double x)
{
	int lines = 0;

	for (const char *at = variant; at; lines++) {
		const char *comma = strstr(at, ", ");
		char text[64];

		snprintf(text, sizeof(text), "%.*s", comma ? (int)(comma - at) : (int)strlen(at), at);
		fprintf(f, "set label ");
		figure_quoted(f, text);
		fprintf(f, " at first %g, graph 0 center offset 0,%g font ',12'\n", x, -2.1 - 1.1 * lines);
		at = comma ? comma + 2 : NULL;
	}
	return lines;
}

/* x, least and greatest run; at the right of the bar, where no number is. */
static void bar_ranges(FILE *f, const struct table *t, const struct bar *bars, size_t n)
{
	fprintf(f, "$range << EOD\n");
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%g %.9g %.9g\n", bars[i].x + 0.32, table_number(t, bars[i].row, "iteration_min_ms"),
			table_number(t, bars[i].row, "iteration_max_ms"));
	fprintf(f, "EOD\n");
}

static void bar_labels(FILE *f, const struct table *t, const struct bar *bars, size_t n)
{
	size_t first = 0;
	int lines = 0, most = 0;

	fprintf(f, "set xtics scale 0 (");
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%s'%g' %g", i ? ", " : "", table_number(t, bars[i].row, "nodes"), bars[i].x);
	fprintf(f, ")\n");
	for (size_t i = 0; i < n; i++) {
		double ms = table_number(t, bars[i].row, "iteration_ms");

		fprintf(f, "set label '%.*f' at %g,%.9g center offset 0,0.7 font ',12'\n",
			ms < 10 ? 2 : ms < 100 ? 1 : 0, ms, bars[i].x,
			table_number(t, bars[i].row, "iteration_max_ms"));
		if (i + 1 < n && row_is(t, bars[i + 1].row, "variant", table_word(t, bars[i].row, "variant")))
			continue;
		lines = figure_variant(f, table_word(t, bars[i].row, "variant"), (bars[first].x + bars[i].x) / 2);
		most = lines > most ? lines : most;
		first = i + 1;
	}
	fprintf(f, "set bmargin %g\nset label 'nodes' at graph 0, graph 0 right offset -1,-1.1\n", 3.8 + 1.1 * most);
}

static const char *breakdown_draw(FILE *f, const struct tables *tables)
{
	const struct table *t = &tables->at[TABLE_BREAKDOWN];
	struct bar *bars = calloc(table_rows(t) + 1, sizeof(*bars));
	size_t n = bars ? bars_make(t, bars) : 0;
	double top = 0;
	bool any = false;

	for (size_t i = 0; i < n; i++)
		top = fmax(top, table_number(t, bars[i].row, "iteration_max_ms"));
	for (int g = 0; g < GROUP_COUNT && n; g++)
		group_data(f, t, bars, n, g, top);
	if (n) {
		bar_labels(f, t, bars, n);
		bar_ranges(f, t, bars, n);
		fprintf(f,
			"set label 'whole run, boundaries included; numbers in the bars are %% of the iteration' "
			"at screen 0.98,0.03 "
			"right font ',12' tc rgb '#555555'\nset ylabel 'ms per iteration'\n"
			"set xrange [-0.7:%g]\nset yrange [0:%.9g]\nset key outside right center reverse Left invert spacing 1.05\n"
			"set style fill solid 1 border rgb 'white'\nplot ",
			bars[n - 1].x + 0.7, 1.08 * top);
	}
	for (int g = 0; g < GROUP_COUNT && n; g++) {
		double most = 0;

		for (size_t i = 0; i < n; i++)
			most = fmax(most, part_ms(t, bars[i].row, g) / table_number(t, bars[i].row, "iteration_ms"));
		if (most < 0.001)
			continue;	/* not to be seen: only in the table */
		fprintf(f, "%s$g%d using 1:2:3:4:5:6 with boxxyerror lw 0.5 fc rgb '%s' title '%s'",
			any ? ", \\\n  " : "", g, group_rows[g].colour, group_rows[g].title);
		any = true;
	}
	if (any)
		fprintf(f, ", \\\n  $range using 1:2:(0):($3 - $2) with vectors heads size graph 0.006,90 lw 1.3 "
			   "lc rgb 'black' title 'min..max of the runs'\n");
	free(bars);
	return any ? NULL : "no run counts";
}

/* ---- boundary -------------------------------------------------------------------------- */

/* The x axis is the workers; where only one number of them was measured, it is the nodes.  The other of
 * the two makes lines of its own, whose points stand beside each other. */
static const struct axis {
	const char *field, *label, *one, *many;
} axes[] = {
	{ "workers", "loader workers per rank", "worker", "workers" },
	{ "nodes", "nodes", "node", "nodes" },
};

static bool stall_shown(const struct table *t, size_t row)
{
	return row_is(t, row, "kind", "boundary") && !isnan(table_number(t, row, "workers"));
}

/* The distinct numbers of a column, ascending; returns how many. */
static size_t numbers_of(const struct table *t, const char *field, double numbers[NUMBERS_MAX])
{
	size_t n = 0;

	for (size_t r = 0; r < table_rows(t); r++) {
		double v = table_number(t, r, field);
		size_t i = 0, at = n;

		while (i < n && numbers[i] != v)
			i++;
		if (i < n || n == NUMBERS_MAX || !stall_shown(t, r))
			continue;
		for (n++; at > 0 && numbers[at - 1] > v; at--)
			numbers[at] = numbers[at - 1];
		numbers[at] = v;
	}
	return n;
}

/* One line: a series at one number `of` the other axis.  Returns the number of its points. */
static size_t stall_data(FILE *f, const struct table *t, const char *series, const struct axis axis[2], double of,
			 double aside, size_t index)
{
	size_t n = 0;

	fprintf(f, "$l%zu << EOD\n", index);
	for (size_t r = 0; r < table_rows(t); r++) {
		if (!stall_shown(t, r) || !row_is(t, r, "series", series) || table_number(t, r, axis[1].field) != of)
			continue;
		fprintf(f, "%g %.6g %.6g %.6g\n", table_number(t, r, axis[0].field) + aside,
			table_number(t, r, "cost_ms"), table_number(t, r, "cost_min_ms"),
			table_number(t, r, "cost_max_ms"));
		n++;
	}
	fprintf(f, "EOD\n");
	return n;
}

static const char *boundary_draw(FILE *f, const struct tables *tables)
{
	const struct table *t = &tables->at[TABLE_BOUNDARY];
	const char *series[SERIES_MAX];
	struct axis axis[2] = { axes[0], axes[1] };
	double x[NUMBERS_MAX], of[NUMBERS_MAX], floor_ms = 0, step;
	size_t x_count = numbers_of(t, axis[0].field, x), of_count, series_count = words_of(t, "series", series), n = 0;
	char *plot = NULL;
	size_t plot_bytes;
	FILE *lines = open_memstream(&plot, &plot_bytes);

	if (x_count == 1) {
		axis[0] = axes[1];
		axis[1] = axes[0];
		x_count = numbers_of(t, axis[0].field, x);
	}
	of_count = numbers_of(t, axis[1].field, of);
	step = x_count ? 0.035 * fmax(1, x[x_count - 1] - x[0]) : 0;
	for (size_t s = 0; s < series_count && x_count && lines; s++)
		for (size_t i = 0; i < of_count; i++) {
			const char *colour = palette[s % ARRAY_LEN(palette)];
			char title[256];

			if (n == SERIES_MAX || !stall_data(f, t, series[s], axis, of[i],
							   ((double)i - 0.5 * (double)(of_count - 1)) * step, n))
				continue;
			snprintf(title, sizeof(title), "%s, %g %s", series[s], of[i],
				 of[i] == 1 ? axis[1].one : axis[1].many);
			fprintf(lines,
				"%s$l%zu using 1:2 with lines lw 2 lc rgb '%s' notitle, \\\n  $l%zu using 1:2:3:4 with "
				"yerrorbars lw 1.5 pt %d ps 1.3 lc rgb '%s' title ",
				n ? ", \\\n  " : "", n, colour, n, shapes[i % ARRAY_LEN(shapes)], colour);
			figure_quoted(lines, title);
			n++;
		}
	if (lines)
		fclose(lines);
	for (size_t r = 0; r < table_rows(t); r++)
		if (stall_shown(t, r))
			floor_ms = fmin(floor_ms, table_number(t, r, "cost_min_ms"));
	if (n) {
		tics(f, "x", t, axis[0].field);
		note_left_out(f, n == SERIES_MAX);
		fprintf(f,
			"set xlabel '%s'\nset ylabel 'stall at an epoch boundary, ms'\nset xrange [%g:%g]\n"
			"set yrange [%s:*]\nset key outside right center reverse Left\n"
			"set xzeroaxis lt -1 lw 1 lc rgb '#666666'\nplot %s\n",
			axis[0].label, x[0] - 0.5 - step, x[x_count - 1] + 0.5 + step, floor_ms < 0 ? "*" : "0", plot);
	}
	free(plot);
	return n ? NULL : "it takes two epochs with steady iterations, and a number of workers";
}

const struct figure figures[FIGURE_COUNT] = {
	{ "rate", "How fast is it on more nodes?", rate_draw, NULL },
	{ "speedup", "How well does it scale?", speedup_draw, NULL },
	{ "breakdown", "Where does the time of an iteration go?", breakdown_draw, breakdown_width },
	{ "loss", "What do more nodes lose, and where?", waterfall_draw, waterfall_width },
	{ "waits", "What do ranks wait for in collectives?", waits_draw, waits_width },
	{ "late", "Which ranks keep the others waiting, and with what?", late_draw, NULL },
	{ "boundary", "What does an epoch boundary cost?", boundary_draw, NULL },
	{ "study", "What do loader workers cost at a boundary, and what do they bring?", study_draw, NULL },
	{ "queue", "Does the loader keep ahead?", queue_draw, NULL },
	{ "accuracy", "What is learned with more ranks?", accuracy_draw, NULL },
};
