/*
 * report/plot.c - see plot.h.
 *
 * C decides what is drawn and where (positions, colours, labels); gnuplot draws.  Colours are
 * those of Okabe and Ito, which colour-blind readers tell apart; variants differ in
 * the shape of their points as well.  Every figure carries the place under its title.
 */
#include "report/plot.h"

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { SERIES_MAX = 64, WIDTH_MIN = 1080, HEIGHT = 480, BAR_WIDTH = 42, LEGEND_WIDTH = 300 };

static const char *const palette[] = { "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000" };
static const int shapes[] = { 7, 5, 9, 11, 13, 4, 6 };	/* filled circle, square, triangles, diamond; open ones */

/* A gnuplot string: nothing is special between single quotes but the quote itself. */
static void quoted(FILE *f, const char *text)
{
	fputc('\'', f);
	for (; *text; text++)
		fprintf(f, *text == '\'' ? "''" : "%c", *text == '\n' ? ' ' : *text);
	fputc('\'', f);
}

/* The distinct words of a column, in order of first appearance; returns their number. */
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
			used += (size_t)snprintf(title + used, 256 - used, " (1 = %.3g clips/s)", table_number(t, r, "clips_per_s"));
	for (size_t r = 0; r < table_rows(t) && used < 256; r++)
		if (point_shown(t, r, variant) && !table_number(t, r, "runs")) {
			used += (size_t)snprintf(title + used, 256 - used, "%s%g", failed ? ", " : ", failed on ",
						 table_number(t, r, "nodes"));
			failed = true;
		}
}

/* Of the figure's width; gnuplot itself guesses far too high. */
static double legend_share(const char (*titles)[256], size_t count)
{
	enum { SAMPLE_WIDTH = 75 };
	const double char_width = 8;
	size_t longest = 12;

	for (size_t i = 0; i < count; i++)
		longest = strlen(titles[i]) > longest ? strlen(titles[i]) : longest;
	return fmin(0.5, (SAMPLE_WIDTH + char_width * (double)longest) / WIDTH_MIN);
}

static bool curve_draw(FILE *f, const struct table *t, const struct view *view)
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
		return false;	/* one number of nodes has no curve */
	for (size_t v = 0; v < n; v++) {
		curve_data(f, t, view->column, variants[v], v);
		curve_title(titles[v], t, variants[v], view);
	}
	legend = legend_share(titles, n);
	tics(f, "x", t, "nodes");
	fprintf(f, "set xlabel 'nodes'\nset ylabel '%s'\nset rmargin at screen %.3f\n"
		"set key at screen %.3f, screen 0.84 left top reverse Left font ',12'\n", view->label, 0.98 - legend, 0.99 - legend);
	if (high / low > 8)	/* doublings at equal distances */
		fprintf(f, "set logscale xy 2\nset xrange [%g:%g]\n", low / 1.15, high * 1.15);
	else
		fprintf(f, "set xrange [%g:%g]\nset yrange [0:%g]\n", low - 0.08 * (high - low),
			high + 0.08 * (high - low), 1.1 * fmax(ideal * high, top));
	fprintf(f, "plot %.9g * x with lines lw 2 dt 2 lc rgb '#999999' title '%s'", ideal, view->ideal);
	for (size_t v = 0; v < n; v++) {
		const char *colour = palette[v % ARRAY_LEN(palette)];
		int shape = shapes[(v + v / ARRAY_LEN(palette)) % ARRAY_LEN(shapes)];

		fprintf(f, ", \\\n  $v%zu using 1:2 with lines lw 2.5 lc rgb '%s' notitle, \\\n  $v%zu using 1:2:3:4 with "
			"yerrorbars lw 1.5 pt %d ps 1.3 lc rgb '%s' title ", v, colour, v, shape, colour);
		quoted(f, titles[v]);
	}
	fprintf(f, "\n");
	return true;
}

static bool rate_draw(FILE *f, const struct tables *tables)
{
	static const struct view view = { "clips_per_s", "clips/s, whole run", "ideal, from the fastest base", false };

	return curve_draw(f, &tables->at[TABLE_SPEEDUP], &view);
}

static bool speedup_draw(FILE *f, const struct tables *tables)
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

/* Black on light colours, white on dark ones (luma of the sRGB values). */
static const char *ink_on(const char *colour)
{
	unsigned long rgb = strtoul(colour + 1, NULL, 16);

	return 299 * (rgb >> 16 & 255) + 587 * (rgb >> 8 & 255) + 114 * (rgb & 255) > 127 * 1000 ? "black" : "white";
}

/* One block per group: x, y, left, right, bottom, top.  Shares that have room are written into their box. */
static void group_data(FILE *f, const struct table *t, const struct bar *bars, size_t n, int group, double top)
{
	fprintf(f, "$g%d << EOD\n", group);
	for (size_t i = 0; i < n; i++) {
		double low = 0, ms = part_ms(t, bars[i].row, group);

		for (int g = 0; g < group; g++)
			low += part_ms(t, bars[i].row, g);
		fprintf(f, "%g %.9g %g %g %.9g %.9g\n", bars[i].x, low, bars[i].x - 0.42, bars[i].x + 0.42, low, low + ms);
	}
	fprintf(f, "EOD\n");
	for (size_t i = 0; i < n; i++) {
		double low = 0, ms = part_ms(t, bars[i].row, group);

		for (int g = 0; g < group; g++)
			low += part_ms(t, bars[i].row, g);
		if (ms > 0.045 * top)
			fprintf(f, "set label '%.0f' at %g,%.9g center front font ',11' tc rgb '%s'\n",
				100 * ms / table_number(t, bars[i].row, "iteration_ms"), bars[i].x, low + ms / 2,
				ink_on(group_rows[group].colour));
	}
}

/* "respawn, workers=4" under its bars, a line for each option; returns their number. */
static int variant_label(FILE *f, const char *variant, double x)
{
	int lines = 0;

	for (const char *at = variant; at; lines++) {
		const char *comma = strstr(at, ", ");
		char text[64];

		snprintf(text, sizeof(text), "%.*s", comma ? (int)(comma - at) : (int)strlen(at), at);
		fprintf(f, "set label ");
		quoted(f, text);
		fprintf(f, " at first %g, graph 0 center offset 0,%g font ',12'\n", x, -2.1 - 1.1 * lines);
		at = comma ? comma + 2 : NULL;
	}
	return lines;
}

/* x, least and greatest run. */
static void bar_ranges(FILE *f, const struct table *t, const struct bar *bars, size_t n)
{
	fprintf(f, "$range << EOD\n");
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%g %.9g %.9g\n", bars[i].x, table_number(t, bars[i].row, "iteration_min_ms"),
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

		fprintf(f, "set label '%.*f' at %g,%.9g center offset 0,0.7 font ',12'\n", ms < 10 ? 2 : ms < 100 ? 1 : 0, ms,
			bars[i].x, table_number(t, bars[i].row, "iteration_max_ms"));
		if (i + 1 < n && row_is(t, bars[i + 1].row, "variant", table_word(t, bars[i].row, "variant")))
			continue;
		lines = variant_label(f, table_word(t, bars[i].row, "variant"), (bars[first].x + bars[i].x) / 2);
		most = lines > most ? lines : most;
		first = i + 1;
	}
	fprintf(f, "set bmargin %g\nset label 'nodes' at graph 0, graph 0 right offset -1,-1.1\n", 3.8 + 1.1 * most);
}

static bool breakdown_draw(FILE *f, const struct tables *tables)
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
		fprintf(f, "set label 'whole run, boundaries included; numbers in the bars are %% of the iteration' at screen 0.98,0.03 "
			"right font ',12' tc rgb '#555555'\nset ylabel 'ms per iteration'\n"
			"set xrange [-0.7:%g]\nset yrange [0:%.9g]\nset key outside right center reverse Left invert\n"
			"set style fill solid 1 border rgb 'white'\nplot ", bars[n - 1].x + 0.7, 1.08 * top);
	}
	for (int g = 0; g < GROUP_COUNT && n; g++) {
		double most = 0;

		for (size_t i = 0; i < n; i++)
			most = fmax(most, part_ms(t, bars[i].row, g) / table_number(t, bars[i].row, "iteration_ms"));
		if (most < 0.001)
			continue;	/* not to be seen: only in the table */
		fprintf(f, "%s$g%d using 1:2:3:4:5:6 with boxxyerror lw 0.5 fc rgb '%s' title '%s'", any ? ", \\\n  " : "", g,
			group_rows[g].colour, group_rows[g].title);
		any = true;
	}
	if (any)
		fprintf(f, ", \\\n  $range using 1:2:(0):($3 - $2) with vectors heads size graph 0.006,90 lw 1.3 lc rgb 'black' title 'min..max of the runs'\n");
	free(bars);
	return any;
}

/* ---- boundary -------------------------------------------------------------------------- */

/* A line per series and number of nodes.  Where several numbers of nodes share a worker count,
 * they stand beside each other. */
struct line {
	const char *series;
	double nodes;
	size_t colour, shape;
};

static size_t lines_make(const struct table *t, struct line lines[SERIES_MAX], size_t *node_counts)
{
	const char *series[SERIES_MAX];
	size_t n = 0, series_count = words_of(t, "series", series);
	double nodes[SERIES_MAX];

	*node_counts = 0;
	for (size_t r = 0; r < table_rows(t); r++) {
		size_t i = 0;

		while (i < *node_counts && nodes[i] != table_number(t, r, "nodes"))
			i++;
		if (i == *node_counts && i < SERIES_MAX)
			nodes[(*node_counts)++] = table_number(t, r, "nodes");
	}
	for (size_t s = 0; s < series_count; s++)
		for (size_t i = 0; i < *node_counts && n < SERIES_MAX; i++)
			lines[n++] = (struct line){ .series = series[s], .nodes = nodes[i], .colour = s, .shape = i };
	return n;
}

static bool line_has(const struct table *t, size_t row, const struct line *l)
{
	return row_is(t, row, "kind", "boundary") && row_is(t, row, "series", l->series) &&
	       table_number(t, row, "nodes") == l->nodes && !isnan(table_number(t, row, "workers"));
}

static bool boundary_draw(FILE *f, const struct tables *tables)
{
	const struct table *t = &tables->at[TABLE_BOUNDARY];
	struct line lines[SERIES_MAX];
	double low = INFINITY, high = -INFINITY, floor_ms = 0, step = 1;
	size_t node_counts, n = lines_make(t, lines, &node_counts), drawn = 0;

	for (size_t r = 0; r < table_rows(t); r++) {
		low = fmin(low, table_number(t, r, "workers"));
		high = fmax(high, table_number(t, r, "workers"));
		if (row_is(t, r, "kind", "boundary"))
			floor_ms = fmin(floor_ms, table_number(t, r, "cost_min_ms"));
	}
	if (!(low <= high))
		return false;
	step = fmax(1, high - low) * 0.035;
	for (size_t i = 0; i < n; i++) {
		double aside = ((double)lines[i].shape - 0.5 * (double)(node_counts - 1)) * step;

		fprintf(f, "$l%zu << EOD\n", i);
		for (size_t r = 0; r < table_rows(t); r++)
			if (line_has(t, r, &lines[i]))
				fprintf(f, "%g %.6g %.6g %.6g\n", table_number(t, r, "workers") + aside,
					table_number(t, r, "cost_ms"), table_number(t, r, "cost_min_ms"),
					table_number(t, r, "cost_max_ms"));
		fprintf(f, "EOD\n");
	}
	tics(f, "x", t, "workers");
	fprintf(f, "set xlabel 'loader workers per rank'\nset ylabel 'stall at an epoch boundary, ms'\n"
		"set xrange [%g:%g]\nset yrange [%s:*]\nset key outside right center reverse Left\n"
		"set xzeroaxis lt -1 lw 1 lc rgb '#666666'\nplot ", low - 0.5 - step, high + 0.5 + step,
		floor_ms < 0 ? "*" : "0");
	for (size_t i = 0; i < n; i++) {
		const char *colour = palette[lines[i].colour % ARRAY_LEN(palette)];
		char title[256];
		bool any = false;

		for (size_t r = 0; r < table_rows(t); r++)
			any |= line_has(t, r, &lines[i]);
		if (!any)
			continue;
		snprintf(title, sizeof(title), "%s, %g node%s", lines[i].series, lines[i].nodes,
			 lines[i].nodes == 1 ? "" : "s");
		fprintf(f, "%s$l%zu using 1:2 with lines lw 2 lc rgb '%s' notitle, \\\n  $l%zu using 1:2:3:4 with yerrorbars "
			"lw 1.5 pt %d ps 1.3 lc rgb '%s' title ", drawn++ ? ", \\\n  " : "", i, colour, i,
			shapes[lines[i].shape % ARRAY_LEN(shapes)], colour);
		quoted(f, title);
	}
	fprintf(f, "\n");
	return drawn > 0;
}

/* ---- gnuplot --------------------------------------------------------------------------- */

const struct figure figures[FIGURE_COUNT] = {
	{ "rate", "How fast is it on more nodes?", rate_draw },
	{ "speedup", "How well does it scale?", speedup_draw },
	{ "breakdown", "Where does the time of an iteration go?", breakdown_draw },
	{ "boundary", "What does an epoch boundary cost, and does it grow with workers?", boundary_draw },
};

static int script_write(const char *path, const struct figure *fig, const struct tables *tables, const char *place,
			bool *any)
{
	const struct table *t = &tables->at[TABLE_BREAKDOWN];
	size_t width = WIDTH_MIN, bars_width = LEGEND_WIDTH + BAR_WIDTH * table_rows(t) / SCOPE_COUNT * 4 / 3;
	FILE *f = file_begin(path);

	if (!f)
		return FAILED;
	if (fig->draw == breakdown_draw && bars_width > width)	/* a third of it is gaps */
		width = bars_width;
	fprintf(f, "# gnuplot %s.gp draws %s.svg and %s.png\nset encoding utf8\n"
		"set terminal svg noenhanced size %zu,%d font 'Helvetica, Arial, DejaVu Sans, sans-serif,14' background rgb 'white'\n"
		"set output '%s.svg'\n", fig->name, fig->name, fig->name, width, HEIGHT, fig->name);
	fprintf(f, "set label 1 '%s' at screen 0.02,0.955 left font ',18'\nset label 2 ", fig->title);
	quoted(f, place);
	fprintf(f, " at screen 0.02,0.895 left font ',13' tc rgb '#555555'\n"
		"set tmargin at screen 0.83\nset border 3 lc rgb '#666666'\nset tics nomirror out\n"
		"set grid ytics lt 1 lw 0.5 lc rgb '#dddddd'\nset bars 0.8\nset key samplen 2.5 spacing 1.25\n");
	*any = fig->draw(f, tables);
	fprintf(f, "set terminal pngcairo noenhanced size %zu,%d font 'sans,14' background rgb 'white'\n"
		"set output '%s.png'\nreplot\n", width, HEIGHT, fig->name);
	return file_end(f, path, OK);
}

/* Runs gnuplot in `dir`; what it complains of goes into gnuplot.log.  An errno when it cannot be
 * started, -1 when it fails. */
static int gnuplot_run(const char *dir, const char *script)
{
	char *argv[] = { "gnuplot", (char *)(uintptr_t)script, NULL };
	posix_spawn_file_actions_t actions;
	int status = 0, rc;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addchdir_np(&actions, dir);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "gnuplot.log", O_WRONLY | O_CREAT | O_TRUNC, 0666);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	rc = posix_spawnp(&pid, "gnuplot", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc)
		return rc;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -1;
}

static bool picture_exists(const char *dir, const char *name, const char *kind)
{
	char path[PATH_BYTES];
	struct stat st;

	return !path_make(path, "%s/%s.%s", dir, name, kind) && !stat(path, &st) && st.st_size > 0;
}

/* The first line of gnuplot's complaint that says something. */
static void complaint(const char *dir, char *out, size_t room)
{
	char path[PATH_BYTES], *text = NULL;

	snprintf(out, room, "no picture");
	if (path_make(path, "%s/gnuplot.log", dir) || access(path, R_OK) || file_read(path, &text, NULL))
		return;
	for (char *at = strtok(text, "\n"); at; at = strtok(NULL, "\n"))
		if (strspn(at, " \t^") < strlen(at)) {
			snprintf(out, room, "%s", at + strspn(at, " \t"));
			if (strstr(at, "line"))
				break;
		}
	free(text);
}

int plots_make(const char *dir, const struct tables *tables, const char *place, struct runs *all, bool made[FIGURE_COUNT])
{
	bool absent = false;
	char path[PATH_BYTES], why[256];

	for (size_t i = 0; i < FIGURE_COUNT; i++) {
		const struct figure *fig = &figures[i];
		char script[64];
		bool any = false;
		int rc;

		made[i] = false;
		snprintf(script, sizeof(script), "%s.gp", fig->name);
		if (path_make(path, "%s/%s", dir, script) || script_write(path, fig, tables, place, &any))
			return FAILED;
		if (!any) {
			unlink(path);
			runs_warn(all, fig->name, "no figure: the runs that count hold nothing to draw");
			continue;
		}
		rc = absent ? ENOENT : gnuplot_run(dir, script);
		made[i] = !rc && picture_exists(dir, fig->name, "svg") && picture_exists(dir, fig->name, "png");
		if (rc > 0 && !absent)
			runs_warn(all, "gnuplot", "no figures: cannot start it: %s", strerror(rc));
		absent |= rc > 0;
		if (!made[i] && rc <= 0) {
			complaint(dir, why, sizeof(why));
			runs_warn(all, fig->name, "no figure: gnuplot: %s", why);
		}
	}
	if (!path_make(path, "%s/gnuplot.log", dir))
		unlink(path);
	return OK;
}
