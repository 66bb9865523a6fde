/*
 * report/waterfall.c - see waterfall.h.
 *
 * A panel per step from n to 2n nodes: a bar of what an iteration should take, a step up or
 * down for each of the greatest parts of the loss, a bar of what it takes.  The other parts
 * are one step together, so that every panel arrives where it must.
 *
 * Where there are more panels than an eye can compare, each variant has that of its most
 * nodes; the table has all.
 */
#include "report/waterfall.h"

#include "report/figures.h"
#include "report/loss.h"

#include <math.h>
#include <string.h>

enum { PANELS_MAX = 6, PARTS_MAX = 4 };
static const double least_share = 0.01;	/* of the whole: less is no step of its own */
static const char rest_colour[] = "#d0d0d0", ideal_colour[] = "#b0b0b0";

/* The rows of one loss: [first, total], the last one being the total. */
struct panel {
	size_t first, total;
	double x;	/* of its first bar */
};

static bool row_is_total(const struct table *t, size_t row)
{
	return !strcmp(table_word(t, row, "part"), term_title(TERM_TOTAL));
}

static bool is_last_of_variant(const struct table *t, size_t total)
{
	return total + 1 == table_rows(t) ||
	       strcmp(table_word(t, total, "variant"), table_word(t, total + 1, "variant"));
}

/* Returns how many there are, also of those that `panels` has no room for. */
static size_t panels_find(const struct table *t, struct panel panels[PANELS_MAX], bool last_only)
{
	size_t n = 0, first = 0;

	for (size_t r = 0; r < table_rows(t); r++) {
		if (!row_is_total(t, r))
			continue;
		if (!last_only || is_last_of_variant(t, r)) {
			if (n < PANELS_MAX)
				panels[n] = (struct panel){ .first = first, .total = r };
			n++;
		}
		first = r + 1;
	}
	return n;
}

/* Returns the number of panels to draw; `left_out`: of others. */
static size_t panels_choose(const struct table *t, struct panel panels[PANELS_MAX], size_t *left_out)
{
	size_t all = panels_find(t, panels, false), n = all > PANELS_MAX ? panels_find(t, panels, true) : all;

	n = n < PANELS_MAX ? n : PANELS_MAX;
	*left_out = all - n;
	return n;
}

static double size_of(const struct table *t, size_t row)
{
	return fabs(table_number(t, row, "loss_ms"));
}

static bool has_step(const struct table *t, const struct panel *p, size_t row)
{
	size_t greater = 0;

	for (size_t r = p->first; r < p->total; r++)
		greater += size_of(t, r) > size_of(t, row);
	return greater < PARTS_MAX && size_of(t, row) >= least_share * table_number(t, p->total, "to_ms");
}

static size_t panel_bars(const struct table *t, const struct panel *p)
{
	size_t n = 3;	/* should, rest, is */

	for (size_t r = p->first; r < p->total; r++)
		n += has_step(t, p, r);
	return n;
}

size_t waterfall_width(const struct tables *tables)
{
	enum { BAR_WIDTH = 48, LEGEND_WIDTH = 300 };
	const struct table *t = &tables->at[TABLE_LOSS];
	struct panel panels[PANELS_MAX];
	size_t left_out, n = panels_choose(t, panels, &left_out), width = LEGEND_WIDTH;

	for (size_t i = 0; i < n; i++)
		width += BAR_WIDTH * (panel_bars(t, &panels[i]) + 1);
	return width > FIGURE_WIDTH ? width : FIGURE_WIDTH;
}

/* ---- what has been drawn --------------------------------------------------------------- */

/* The script's parts, as they must come in this order: objects and labels, data, plot. */
struct canvas {
	FILE *f;
	bool used[TERM_COUNT], rest;	/* colours that the legend explains */
	double top, bottom;
	int decimals;	/* of the small numbers on the bars of this panel */
};

static void reach(struct canvas *c, double y)
{
	c->top = fmax(c->top, y);
	c->bottom = fmin(c->bottom, y);
}

static void bar(struct canvas *c, double x, double from, double to, const char *colour)
{
	fprintf(c->f, "set object rectangle from %g,%.9g to %g,%.9g fc rgb '%s' fs solid 1 border rgb '%s'\n", x - 0.42,
		from, x + 0.42, to, colour, colour);
	reach(c, from);
	reach(c, to);
}

static void number(struct canvas *c, double x, double y, double ms, bool signed_, const char *colour)
{
	fprintf(c->f, signed_ ? "set label '%+.*f'" : "set label '%.*f'", fabs(ms) < 100 ? c->decimals : 0, ms);
	fprintf(c->f, " at %g,%.9g center offset 0,%g front font ',11' tc rgb '%s'\n", x, y, 0.6, colour);
}

static void level(struct canvas *c, double x, double y)
{
	fprintf(c->f, "set arrow from %g,%.9g to %g,%.9g nohead lw 1 lc rgb '#666666'\n", x + 0.42, y, x + 0.58, y);
}

/* The interval of a step, or where there is none the span of the runs. */
static void whisker(struct canvas *c, const struct table *t, size_t row, double x, double base)
{
	double low = table_number(t, row, "loss_ci_low_ms"), high = table_number(t, row, "loss_ci_high_ms");

	if (isnan(low)) {
		low = table_number(t, row, "loss_min_ms");
		high = table_number(t, row, "loss_max_ms");
	}
	if (!(high > low))
		return;
	fprintf(c->f, "set arrow from %g,%.9g to %g,%.9g heads size graph 0.005,90 front lw 1.2 lc rgb 'black'\n",
		x + 0.3, base + low, x + 0.3, base + high);
	reach(c, base + low);
	reach(c, base + high);
}

/* Returns the x behind it. */
static double step(struct canvas *c, double x, double *at, double ms, const char *colour)
{
	level(c, x - 1, *at);
	bar(c, x, *at, *at + ms, colour);
	number(c, x, fmax(*at, *at + ms), ms, true, "black");
	*at += ms;
	return x + 1;
}

static int part_of(const struct table *t, size_t row)
{
	int part = 0;

	while (part < TERM_TOTAL && strcmp(table_word(t, row, "part"), term_title(part)))
		part++;
	return part;
}

static double panel_draw(struct canvas *c, const struct table *t, const struct panel *p)
{
	double ideal = table_number(t, p->total, "ideal_ms"), is = table_number(t, p->total, "to_ms");
	double at = ideal, x = p->x;
	double rest = table_number(t, p->total, "loss_ms");
	bool small = false;

	c->decimals = is < 20 ? 2 : is < 500 ? 1 : 0;
	bar(c, x, 0, ideal, ideal_colour);
	number(c, x++, ideal, ideal, false, "black");
	for (size_t r = p->first; r < p->total; r++) {
		int part = part_of(t, r);

		if (!has_step(t, p, r)) {
			small = true;
			continue;
		}
		whisker(c, t, r, x, at);
		x = step(c, x, &at, table_number(t, r, "loss_ms"), term_colour(part));
		rest -= table_number(t, r, "loss_ms");
		c->used[part] = true;
	}
	if (small && fabs(rest) >= 0.1 * least_share * is) {	/* less no eye sees */
		x = step(c, x, &at, rest, rest_colour);
		c->rest = true;
	}
	level(c, x - 1, is);
	bar(c, x, 0, is, term_colour(TERM_TOTAL));
	number(c, x, is, is, false, "black");
	whisker(c, t, p->total, x, ideal);
	return x;
}

/* ---- the figure ------------------------------------------------------------------------ */

static void legend_entry(FILE *f, const char *colour, const char *title)
{
	fprintf(f, ", \\\n  NaN with boxes fs solid 1 fc rgb '%s' title '%s'", colour, title);
}

const char *waterfall_draw(FILE *f, const struct tables *tables)
{
	const struct table *t = &tables->at[TABLE_LOSS];
	struct panel panels[PANELS_MAX];
	size_t left_out, n = panels_choose(t, panels, &left_out);
	struct canvas c = { .f = f };
	double ends[PANELS_MAX], x = 0;
	int most = 0;

	if (!n)
		return "it takes runs on two numbers of nodes";
	for (size_t i = 0; i < n; i++, x += 2) {
		panels[i].x = x;
		x = ends[i] = panel_draw(&c, t, &panels[i]);
	}
	fprintf(f, "set xtics scale 0 (");
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%s'%g' %g, '%g' %g", i ? ", " : "", table_number(t, panels[i].total, "nodes_from"),
			panels[i].x, table_number(t, panels[i].total, "nodes_to"), ends[i]);
	fprintf(f, ")\nset label 'nodes' at graph 0, graph 0 right offset -1,-1.1\n");
	for (size_t i = 0; i < n; i++) {
		int lines = figure_variant(f, table_word(t, panels[i].total, "variant"), (panels[i].x + ends[i]) / 2);

		most = lines > most ? lines : most;
	}
	if (left_out)
		fprintf(f, "set label '%zu other step%s: in the table' at screen 0.02,0.03 left font ',12' "
			   "tc rgb '#555555'\n", left_out, left_out == 1 ? "" : "s");
	fprintf(f,
		"set label 'whole run; whiskers: 95 %% interval, under 6 runs least and greatest pair of runs' "
		"at screen 0.98,0.03 right font ',12' tc rgb '#555555'\n"
		"set bmargin %g\nset ylabel 'ms per iteration'\nset xrange [-0.8:%g]\nset yrange [%.9g:%.9g]\n"
		"set key outside right center reverse Left\n"
		"plot NaN with boxes fs solid 1 fc rgb '%s' title 'should be: s T(n)'", 3.8 + 1.1 * most,
		ends[n - 1] + 0.8, c.bottom < 0 ? 1.08 * c.bottom : 0, 1.1 * c.top, ideal_colour);
	for (int part = 0; part < TERM_TOTAL; part++)
		if (c.used[part])
			legend_entry(f, term_colour(part), term_title(part));
	if (c.rest)
		legend_entry(f, rest_colour, "smaller parts");
	legend_entry(f, term_colour(TERM_TOTAL), "is: T(2n)");
	fprintf(f, "\n");
	return NULL;
}
