/*
 * bench/eval.c - `sfscale eval`: AVA's frame-mAP of a file of detections.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/table.h"
#include "bench/commands.h"
#include "loader/ava_eval.h"
#include "report/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct eval_options {
	const char *truth, *detections, *labels, *excluded, *rule, *out;
	bool json;
};

#define AT(field) offsetof(struct eval_options, field)
static const struct opt opts[] = {
	{ "groundtruth", OPT_NAME, AT(truth), NULL, "CSV: video, second, x1, y1, x2, y2, action[, person]", NULL },
	{ "detections", OPT_NAME, AT(detections), NULL, "CSV: video, second, x1, y1, x2, y2, action, score", NULL },
	{ "labelmap", OPT_NAME, AT(labels), NULL, "the classes that count (.pbtxt)", NULL },
	{ "excluded", OPT_NAME, AT(excluded), NULL, "CSV: video, second of keyframes to leave out; activitynet has no such "
	  "file and passes it over", NULL },
	{ "rule", OPT_NAME, AT(rule), "pyslowfast", "whose reading of the files: the one behind published PySlowFast numbers, or "
	  "the challenge's", AVA_RULE_NAMES },
	{ "json", OPT_BOOL, AT(json), "off", "as JSON: mAP, AP by class id, and the tables", NULL },
	{ "out", OPT_NAME, AT(out), NULL, "folder for eval.json, accuracy.csv, classes.csv and their figure", NULL },
};
#undef AT

static const struct field accuracy_fields[] = {
	{ "rule", "", "evaluator whose rules were followed", 0 },
	{ "mAP", "1", "mean of AP over the classes with ground truth", 4 },
	{ "classes", "1", "classes with ground truth", 0 },
	{ "keyframes", "1", "keyframes that took part", 0 },
	{ "truth", "1", "labelled boxes of the ground truth", 0 },
	{ "detections", "1", "labelled boxes detected", 0 },
};

static const struct field class_fields[] = {
	{ "id", "1", "action id of AVA", 0 },
	{ "name", "", "of the action", 0 },
	{ "truth", "1", "labelled boxes of the ground truth: the histogram of labels", 0 },
	{ "detections", "1", "labelled boxes detected", 0 },
	{ "AP", "1", "average precision at an overlap of 0.5; none: no ground truth, no part of the mean", 4 },
};

struct eval_tables {
	struct table accuracy, classes;
};

static void answer_make(struct eval_tables *t, const struct ava_eval *e, const char *rule)
{
	size_t truth = 0, detections = 0;

	table_init(&t->classes, "classes", "Average precision by class", class_fields, ARRAY_LEN(class_fields));
	for (size_t id = 0; id <= AVA_CLASSES; id++) {
		const struct ava_eval_class *c = &e->classes[id];

		if (!e->labels.name[id])
			continue;
		truth += c->truth;
		detections += c->detections;
		table_int(&t->classes, (int64_t)id);
		table_text(&t->classes, e->labels.name[id]);
		table_int(&t->classes, (int64_t)c->truth);
		table_int(&t->classes, (int64_t)c->detections);
		table_real(&t->classes, c->ap);
	}
	table_init(&t->accuracy, "accuracy", "Frame-mAP", accuracy_fields, ARRAY_LEN(accuracy_fields));
	table_text(&t->accuracy, rule);
	table_real(&t->accuracy, e->map);
	table_int(&t->accuracy, (int64_t)e->class_count);
	table_int(&t->accuracy, (int64_t)e->keyframes);
	table_int(&t->accuracy, (int64_t)truth);
	table_int(&t->accuracy, (int64_t)detections);
}

/* Bars of AP, the most frequent class first, and how often each class stands in the ground truth. */
static const char *classes_draw(FILE *f, const void *context)
{
	const struct table *t = context;
	size_t rows = table_rows(t), shown = 0;
	bool done[AVA_CLASSES + 1] = { false };

	fprintf(f, "$classes << EOD\n");
	for (;;) {
		size_t most = rows;

		for (size_t r = 0; r < rows; r++)
			if (!done[r] && table_number(t, r, "truth") > (most < rows ? table_number(t, most, "truth") : 0))
				most = r;
		if (most == rows)
			break;
		done[most] = true;
		fprintf(f, "%zu %.6g %g \"%.26s\"\n", shown++, table_number(t, most, "AP"), table_number(t, most, "truth"),
			table_word(t, most, "name"));
	}
	fprintf(f, "EOD\nset bmargin at screen 0.4\nset xrange [-1:%zu]\nset yrange [0:1]\nset y2range [0.8:*]\nset logscale y2\n"
		"set border 11\nset y2tics\nset ylabel 'AP'\nset y2label 'labelled boxes'\nset xtics rotate by 55 right font ',9'\n"
		"set boxwidth 0.8\nset style fill solid noborder\nset key at screen 0.98,0.96 right top horizontal\n"
		"plot $classes using 1:2:xtic(4) with boxes lc rgb '%s' title 'AP', \\\n"
		"  $classes using 1:3 axes x1y2 with points pt %d ps 0.8 lc rgb '%s' title 'labels'\n",
		shown, figure_colour(0), figure_shape(0), figure_colour(1));
	return shown ? NULL : "no class has ground truth";
}

static int draw(const char *dir, const struct eval_tables *t)
{
	char place[128], why[PLOT_WHY_BYTES];
	bool made;
	int rc;

	snprintf(place, sizeof(place), "mAP %.4f by the rule of %s, %g classes, %g labelled boxes",
		 table_number(&t->accuracy, 0, "mAP"), table_word(&t->accuracy, 0, "rule"), table_number(&t->accuracy, 0, "classes"),
		 table_number(&t->accuracy, 0, "truth"));
	rc = plot_make(dir, &(struct plot){ .name = "classes", .title = "Which actions are found?", .place = place,
					    .width = FIGURE_WIDTH, .draw = classes_draw, .context = &t->classes }, &made, why);
	if (rc != FAILED && !made)
		warn("no figure: %s%s", rc ? "cannot start gnuplot: " : "", why);
	return rc == FAILED ? rc : OK;
}

static cJSON *number_or_null(double v)
{
	return isnan(v) ? cJSON_CreateNull() : cJSON_CreateNumber(v);
}

/* The two keys that scripts ask for, then both tables. */
static cJSON *json_make(const struct eval_tables *t, const struct ava_eval *e)
{
	const struct table *const tables[] = { &t->accuracy, &t->classes };
	cJSON *o = cJSON_CreateObject(), *ap, *fields;
	char key[16];

	cJSON_AddItemToObject(o, "mAP", number_or_null(e->map));
	ap = cJSON_AddObjectToObject(o, "AP");
	for (int id = 0; id <= AVA_CLASSES; id++) {
		snprintf(key, sizeof(key), "%d", id);
		if (e->labels.name[id])
			cJSON_AddItemToObject(ap, key, number_or_null(e->classes[id].ap));
	}
	for (size_t i = 0; i < ARRAY_LEN(tables); i++)
		cJSON_AddItemToObject(o, tables[i]->name, table_json(tables[i]));
	fields = cJSON_AddObjectToObject(o, "fields");
	for (size_t i = 0; i < ARRAY_LEN(tables); i++)
		cJSON_AddItemToObject(fields, tables[i]->name, table_fields_json(tables[i]));
	return o;
}

static int write_all(const char *dir, const struct eval_tables *t, const cJSON *json)
{
	char path[PATH_BYTES];
	int rc = dir_make(dir);

	if (!rc)
		rc = path_make(path, "%s/eval.json", dir);
	if (!rc)
		rc = json_write(path, json);
	if (!rc)
		rc = table_write_csv(&t->accuracy, dir);
	if (!rc)
		rc = table_write_csv(&t->classes, dir);
	return rc ? rc : draw(dir, t);
}

static int print(const struct eval_tables *t, const cJSON *json, bool as_json)
{
	char *text;

	if (!as_json) {
		tables_print((const struct table *[]){ &t->accuracy, &t->classes }, 2, TABLE_TEXT);
		return OK;
	}
	text = cJSON_Print(json);
	if (!text)
		return err(NO_MEMORY, "no memory for the answer");
	printf("%s\n", text);
	cJSON_free(text);
	return OK;
}

static int evaluate(const struct eval_options *o)
{
	const struct ava_eval_files files = { .truth = o->truth, .detections = o->detections, .labels = o->labels,
					      .excluded = o->excluded };
	struct eval_tables tables = { 0 };
	struct ava_eval e;
	cJSON *json;
	int rc = ava_eval_run(&e, &files, strcmp(o->rule, "activitynet") ? AVA_RULE_PYSLOWFAST : AVA_RULE_ACTIVITYNET);

	if (rc)
		return rc;
	answer_make(&tables, &e, o->rule);
	json = json_make(&tables, &e);
	rc = o->out ? write_all(o->out, &tables, json) : OK;
	if (!rc)
		rc = print(&tables, json, o->json);
	cJSON_Delete(json);
	table_release(&tables.accuracy);
	table_release(&tables.classes);
	ava_eval_release(&e);
	return rc;
}

static int run(int argc, char **argv)
{
	const char **operands = calloc((size_t)argc + 1, sizeof(*operands));
	struct eval_options o;
	size_t count = 0;
	int rc = operands ? opt_parse(&command_eval, &o, argc, argv, operands, &count)
			  : err(NO_MEMORY, "no memory for %d words", argc);

	if (!rc && count)
		rc = err(USAGE, "eval: '%s' belongs to no option", operands[0]);
	if (!rc && (!o.truth || !o.detections || !o.labels))
		rc = err(USAGE, "eval: --groundtruth, --detections and --labelmap are needed");
	if (!rc)
		rc = evaluate(&o);
	free(operands);
	return rc;
}

const struct command command_eval = { "eval", "", "frame-mAP of detections on AVA, by the rules of either evaluator",
				      opts, ARRAY_LEN(opts), run, sizeof(struct eval_options) };
