/*
 * report/accuracy.c - see accuracy.h.
 */
#include "report/accuracy.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/stats.h"
#include "report/figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- table ----------------------------------------------------------------------------- */

static const struct field fields[] = {
	{ "series", "", "the options that were swept, without nodes and emulated ranks; else the loader policy", 0 },
	{ "nodes", "1", "nodes of the launcher", 0 },
	{ "ranks", "1", "ranks that the weights have seen, those included that a process stood for (--emulate-ranks)", 0 },
	{ "emulated", "", "ranks of one process: their weights are those of real ranks, their time is not; empty: none", 0 },
	{ "clips", "1", "of one step, all ranks", 0 },
	{ "runs", "1", "runs that were validated", 0 },
	{ "failed", "1", "runs that do not count, among them those that diverged", 0 },
	{ "mAP", "1", "frame-mAP of the latest validation, PySlowFast's rule; median over runs", 4 },
	{ "mAP_min", "1", "least run", 4 },
	{ "mAP_max", "1", "greatest run", 4 },
	{ "loss_last", "", "mean training loss of the last epoch; median over runs", 4 },
	{ "place", "", "where this row was measured", 0 },
};

static const cJSON *epochs_of(const struct run *r)
{
	return cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(r->json, "results"), "epochs");
}

double run_map(const struct run *r)
{
	const cJSON *epoch;
	double map = NAN;

	cJSON_ArrayForEach(epoch, epochs_of(r))
		if (cJSON_GetObjectItemCaseSensitive(epoch, "mAP"))
			map = json_number(epoch, "mAP", NAN);
	return map;
}

static double run_emulated(const struct run *r)
{
	return json_number(cJSON_GetObjectItemCaseSensitive(r->json, "step"), "emulate_ranks", 1);
}

/* The variant without its emulated ranks, which are the x axis here. */
static void series_text(const struct point *p, char out[256])
{
	static const char key[] = "emulate-ranks=";
	const char *at = p->variant;
	size_t used = 0;

	*out = '\0';
	while (*at) {
		size_t n = strcspn(at, ",");

		if (strncmp(at, key, strlen(key)) && used < 256)
			used += (size_t)snprintf(out + used, 256 - used, "%s%.*s", used ? ", " : "", (int)n, at);
		at += n;
		at += strspn(at, ", ");
	}
	if (!*out)
		snprintf(out, 256, "%s", p->policy);
}

static int point_row(struct table *t, const struct point *p)
{
	double *maps = calloc(2 * (p->run_count + 1), sizeof(*maps)), *losses = maps + p->run_count + 1, emulated;
	struct summary map, loss;
	char series[256], text[32];
	size_t n = 0;

	if (!maps)
		return err(NO_MEMORY, "no memory for %zu runs", p->run_count);
	for (size_t i = 0; i < p->run_count; i++) {
		const cJSON *epochs = epochs_of(p->runs[i]);

		if (isnan(run_map(p->runs[i])))
			continue;
		losses[n] = json_number(cJSON_GetArrayItem(epochs, cJSON_GetArraySize(epochs) - 1), "loss", NAN);
		maps[n++] = run_map(p->runs[i]);
	}
	map = summarize(maps, n);
	loss = summarize(losses, n);
	free(maps);
	if (!n)
		return OK;
	emulated = run_emulated(p->runs[0]);
	series_text(p, series);
	table_text(t, series);
	table_int(t, (int64_t)p->nodes);
	table_int(t, (int64_t)((double)p->ranks * emulated));
	if (emulated > 1) {
		snprintf(text, sizeof(text), "%g per process", emulated);
		table_text(t, text);
	} else
		table_none(t);
	table_real(t, run_clips(p->runs[0]));
	table_int(t, (int64_t)n);
	table_int(t, (int64_t)p->failed_count);
	table_real(t, map.median);
	table_real(t, map.min);
	table_real(t, map.max);
	table_real(t, loss.median);
	table_text(t, p->place);
	return OK;
}

static int make(struct table *t, const struct curve *c, const struct runs *all)
{
	int rc = OK;

	(void)all;
	for (size_t i = 0; i < c->count && !rc; i++)
		rc = point_row(t, &c->points[i]);
	return rc;
}

const struct table_maker table_accuracy = { "accuracy", "Accuracy: what is learned with more ranks", fields, ARRAY_LEN(fields), make };

/* ---- figure ---------------------------------------------------------------------------- */

enum { SERIES_MAX = 16 };

/* Rows of a series stand in the order of the sweep: gnuplot sorts them. */
static void series_data(FILE *f, const struct table *t, const char *series, size_t index)
{
	fprintf(f, "$s%zu << EOD\n", index);
	for (size_t r = 0; r < table_rows(t); r++)
		if (!strcmp(table_word(t, r, "series"), series))
			fprintf(f, "%g %.6g %.6g %.6g\n", table_number(t, r, "ranks"), table_number(t, r, "mAP"),
				table_number(t, r, "mAP_min"), table_number(t, r, "mAP_max"));
	fprintf(f, "EOD\n");
}

const char *accuracy_draw(FILE *f, const struct tables *tables)
{
	const struct table *t = &tables->at[TABLE_ACCURACY];
	const char *series[SERIES_MAX];
	double low = INFINITY, high = 0;
	bool emulated = !table_column_empty(t, 3);
	size_t n = 0;

	for (size_t r = 0; r < table_rows(t); r++) {
		size_t i = 0;

		low = fmin(low, table_number(t, r, "ranks"));
		high = fmax(high, table_number(t, r, "ranks"));
		while (i < n && strcmp(series[i], table_word(t, r, "series")))
			i++;
		if (i == n && n < SERIES_MAX)
			series[n++] = table_word(t, r, "series");
	}
	if (!n)
		return "";		/* nobody asked for a validation */
	if (!(low < high))
		return "it takes validated runs with two numbers of ranks";
	for (size_t i = 0; i < n; i++)
		series_data(f, t, series[i], i);
	fprintf(f, "set xtics (");
	for (size_t r = 0; r < table_rows(t); r++)
		fprintf(f, "%s%g", r ? ", " : "", table_number(t, r, "ranks"));
	fprintf(f, ")\nset xlabel 'ranks%s'\nset ylabel 'mAP'\nset logscale x 2\nset xrange [%g:%g]\nset yrange [0:*]\n"
		"set key outside right top reverse Left\nplot ", emulated ? " (emulated ones included)" : "", low / 1.15, high * 1.15);
	for (size_t i = 0; i < n; i++) {
		fprintf(f, "%s$s%zu using 1:2 smooth unique with lines lw 2.5 lc rgb '%s' notitle, \\\n"
			"  $s%zu using 1:2:3:4 with yerrorbars lw 1.5 pt %d ps 1.3 lc rgb '%s' title ", i ? ", \\\n  " : "", i,
			figure_colour(i), i, figure_shape(i), figure_colour(i));
		figure_quoted(f, series[i]);
	}
	fprintf(f, "\n");
	return NULL;
}
