/*
 * tests/test_eval.c - frame-mAP: the evaluators' own numbers, an evaluation by other means, and bad files.
 */
#include "bench/base/rng.h"
#include "loader/ava_eval.h"
#include "tests/shell.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static char home[] = "/tmp/sfscale-eval-XXXXXX";

static int make_home(void **state)
{
	(void)state;
	return !mkdtemp(home);
}

static int remove_home(void **state)
{
	(void)state;
	return dir_remove(home);
}

static const char *const names[AVA_RULES] = { [AVA_RULE_PYSLOWFAST] = "pyslowfast", [AVA_RULE_ACTIVITYNET] = "activitynet" };

/* Files of a case made by the test; `at` rotates over a few buffers. */
static const char *file(const char *name, const char *text)
{
	static char path[4][PATH_BYTES];
	static size_t next;
	char *at = path[next++ % ARRAY_LEN(path)];

	assert_int_equal(path_make(at, "%s/%s", home, name), OK);
	if (text)
		assert_int_equal(file_write(at, text, strlen(text)), OK);
	return at;
}

static const char label_map[] = "item {\n  name: \"stand\"\n  id: 12\n}\nitem {\n  name: \"listen\"\n  id: 74\n}\n"
				"item {\n  name: \"dance\"\n  id: 4\n}\n";

static int evaluate(struct ava_eval *e, const char *truth, const char *detections, const char *excluded, enum ava_rule rule)
{
	const struct ava_eval_files files = {
		.labels = file("map.pbtxt", label_map), .truth = file("truth.csv", truth),
		.detections = file("found.csv", detections), .excluded = excluded ? file("excluded.csv", excluded) : NULL };

	return ava_eval_run(e, &files, rule);
}

/* ---- the evaluators' numbers ----------------------------------------------------------- */

static void the_answers_of_both_evaluators_come_out_to_1e_9(void **state)
{
	static const char *const cases[] = { "worked-example", "case1", "case2" };
	static const char *const keys[AVA_RULES] = { [AVA_RULE_PYSLOWFAST] = "pyslowfast", [AVA_RULE_ACTIVITYNET] = "official" };
	static const char dir[] = "../shared/data/ava-eval";

	(void)state;
	if (access(dir, R_OK)) {
		printf("SKIP: there is no %s\n", dir);
		skip();
	}
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char path[5][PATH_BYTES];
		static const char *const files[] = { "groundtruth.csv", "detections.csv", "labelmap.pbtxt", "excluded.csv",
						     "expected.json" };
		cJSON *expected;

		for (size_t f = 0; f < ARRAY_LEN(files); f++)
			assert_int_equal(path_make(path[f], "%s/%s/%s", dir, cases[i], files[f]), OK);
		assert_int_equal(json_read(path[4], &expected), OK);
		for (enum ava_rule rule = 0; rule < AVA_RULES; rule++) {
			const struct ava_eval_files in = { path[0], path[1], path[2], path[3] };
			const cJSON *e = cJSON_GetObjectItem(expected, keys[rule]), *ap;
			struct ava_eval got;
			size_t seen = 0;

			assert_int_equal(ava_eval_run(&got, &in, rule), OK);
			assert_true(fabs(got.map - json_number(e, "mAP", NAN)) <= 1e-9);
			assert_int_equal(got.class_count, (size_t)json_number(e, "classes_with_gt", -1));
			cJSON_ArrayForEach(ap, cJSON_GetObjectItem(e, "AP")) {
				const struct ava_eval_class *c = &got.classes[atoi(ap->string)];

				assert_int_equal(!cJSON_IsNumber(ap), isnan(c->ap));
				assert_false(cJSON_IsNumber(ap) && !(fabs(c->ap - ap->valuedouble) <= 1e-9));
				seen++;
			}
			assert_int_equal(seen, got.labels.count);
			ava_eval_release(&got);
		}
		cJSON_Delete(expected);
	}
}

/* ---- by hand --------------------------------------------------------------------------- */

#define G1 "v,0902,.1,.1,.5,.9,12\n"
#define G2 "v,0902,.6,.2,.9,.8,12\nv,0902,.6,.2,.9,.8,74\n"
#define G3 "v,0903,.25,.25,.75,.75,12\n"
#define D(second, box, action, score) "v," second "," box "," action "," score "\n"

static void what_separates_the_rules_shows_in_the_numbers(void **state)
{
	static const struct {
		const char *truth, *detections, *excluded;
		double map[AVA_RULES];
	} cases[] = {
		/* A first that overlaps enough takes the box from a better one, under PySlowFast's rule. */
		{ G1, D("0902", ".12,.11,.5,.88", "12", ".3") D("0902", ".1,.1,.48,.9", "12", ".8"), NULL, { 0.5, 1 } },
		{ G1, D("0902", ".1,.1,.48,.9", "12", ".8") D("0902", ".12,.11,.5,.88", "12", ".3"), NULL, { 1, 1 } },
		/* An overlap of exactly one half is enough; less is not. */
		{ G3, D("0903", ".25,.25,.5,.75", "12", ".7"), NULL, { 1, 1 } },
		{ G3, D("0903", ".25,.25,.4375,.75", "12", ".9"), NULL, { 0, 0 } },
		/* On a keyframe without ground truth: false, or of no account. */
		{ G1, D("0904", ".1,.1,.5,.9", "12", ".9") D("0902", ".1,.1,.5,.9", "12", ".8"), NULL, { 0.5, 1 } },
		{ G1 "v,0904\n", D("0904", ".1,.1,.5,.9", "12", ".9") D("0902", ".1,.1,.5,.9", "12", ".8"), NULL, { 0.5, 0.5 } },
		/* A row of an action that does not count makes its keyframe known. */
		{ G1 "v,0904,0,0,1,1,13\n", D("0904", ".1,.1,.5,.9", "12", ".9") D("0902", ".1,.1,.5,.9", "12", ".8"), NULL,
		  { 0.5, 0.5 } },
		/* An excluded keyframe is not there; activitynet has no such file. */
		{ G1 G3, D("0902", ".1,.1,.5,.9", "12", ".9"), "v,0903\n", { 1, 0.5 } },
		/* Seconds are whole, or have decimals. */
		{ G1, D("902", ".1,.1,.5,.9", "12", ".9"), NULL, { 1, 1 } },
		/* A class with ground truth and no detection is 0; one without ground truth is no part of the mean. */
		{ G2, D("0902", ".6,.2,.9,.8", "74", ".9") D("0902", ".6,.2,.9,.8", "4", ".9"), NULL, { 0.5, 0.5 } },
		/* Twice the same ground truth counts twice and is found once. */
		{ G1 G1, D("0902", ".1,.1,.5,.9", "12", ".9") D("0902", ".1,.1,.5,.9", "12", ".8"), NULL, { 0.5, 0.5 } },
		/* The best box is taken: no second choice. */
		{ "v,1000,0,0,.5,.5,12\nv,1000,0,0,.5,.4,12\n", D("1000", "0,0,.5,.5", "12", ".9") D("1000", "0,0,.5,.49", "12", ".8"),
		  NULL, { 0.5, 0.5 } },
		/* Of equal scores in a class the later one comes first. */
		{ G1, D("0902", ".1,.1,.5,.9", "12", ".5") D("0902", "0,0,.1,.1", "12", ".5"), NULL, { 0.5, 1 } },
		{ G1, "", NULL, { 0, 0 } },
		{ "", D("0902", ".1,.1,.5,.9", "12", ".9"), NULL, { NAN, NAN } },
		/* Lines from Windows, blanks around numbers, exponents. */
		{ "v,0902,.1,.1,.5,.9,12\r\n", "v, 902, 1e-1,.1 ,.5,.9,+12,5E-1\r\n", "x,1\r\n", { 1, 1 } },
		/* A detection without area or with corners exchanged is dropped. */
		{ G1, D("0902", ".5,.1,.1,.9", "12", ".9") D("0902", ".3,.1,.3,.9", "12", ".8") D("0902", ".1,.1,.5,.9", "12", ".7"), NULL,
		  { 1, 1 } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (enum ava_rule rule = 0; rule < AVA_RULES; rule++) {
			struct ava_eval e;
			double map = cases[i].map[rule];

			assert_int_equal(evaluate(&e, cases[i].truth, cases[i].detections, cases[i].excluded, rule), OK);
			if (isnan(map) ? !isnan(e.map) : !(fabs(e.map - map) <= 1e-12))
				fail_msg("case %zu by %s: %g, not %g", i, names[rule], e.map, map);
			ava_eval_release(&e);
		}
}

static void a_detection_without_score_is_certain_for_activitynet_only(void **state)
{
	struct ava_eval e;

	(void)state;
	assert_int_equal(evaluate(&e, G1, "v,902,.1,.1,.5,.9,12\n", NULL, AVA_RULE_ACTIVITYNET), OK);
	assert_true(e.map == 1);
	ava_eval_release(&e);
	assert_int_equal(evaluate(&e, G1, "v,902,.1,.1,.5,.9,12\n", NULL, AVA_RULE_PYSLOWFAST), FAILED);
	assert_non_null(strstr(err_last(), "found.csv:1: 7 fields"));
}

/* ---- bad files ------------------------------------------------------------------------- */

static void a_row_that_is_none_is_an_error_with_its_line(void **state)
{
	static const struct {
		const char *truth, *detections, *excluded, *says;
	} cases[] = {
		{ G1 "v,902,.1,.1,.5,12\n", "", NULL, "truth.csv:2: 6 fields" },
		{ G1, D("902", "0,0,1,1", "12", ".5,1"), NULL, "found.csv:1: 9 fields" },
		{ G1 "\n", "", NULL, "truth.csv:2: 0 fields" },
		{ G1, D("902", "0,0,1,1", "12", "nan"), NULL, "found.csv:1: score 'nan'" },
		{ G1, D("902", "0,0,1,1", "12", "inf"), NULL, "found.csv:1: score 'inf'" },
		{ G1, D("902", "0,0,1,1", "12", ""), NULL, "found.csv:1: score ''" },
		{ G1, D("902", "0,0,1,1", "12", "0x1"), NULL, "found.csv:1: score '0x1'" },
		{ G1, D("902", "0,0,nan,1", "12", ".5"), NULL, "found.csv:1: coordinate 'nan'" },
		{ G1, D("902", "0,zero,1,1", "4", ".5"), NULL, "found.csv:1: coordinate 'zero'" },
		{ G1, D("902", "0,0,1,1", "", ".5"), NULL, "found.csv:1: action ''" },
		{ G1, D("902", "0,0,1,1", "1.5", ".5"), NULL, "found.csv:1: action '1.5'" },
		{ G1, D("soon", "0,0,1,1", "12", ".5"), NULL, "found.csv:1: second 'soon'" },
		{ "v,902,.5,.1,.1,.9,12\n", "", NULL, "truth.csv:1: ground truth whose second corner" },
		{ G1, "", "v\n", "excluded.csv:1: 1 fields" },
		{ G1, "", "v,1,2\n", "excluded.csv:1: 3 fields" },
		{ G1, "", "v,x\n", "excluded.csv:1: second 'x'" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct ava_eval e;

		assert_int_equal(evaluate(&e, cases[i].truth, cases[i].detections, cases[i].excluded, AVA_RULE_PYSLOWFAST), FAILED);
		if (!strstr(err_last(), cases[i].says))
			fail_msg("case %zu says '%s', not '%s'", i, err_last(), cases[i].says);
	}
}

/* A file that cannot be read to its end has no mAP: here a folder, which opens and then cannot be read. */
static void what_cannot_be_read_to_its_end_is_an_error(void **state)
{
	const struct ava_eval_files files = { .labels = file("map.pbtxt", label_map), .truth = file("truth.csv", G1), .detections = "/" };
	struct ava_eval e;

	(void)state;
	assert_int_equal(ava_eval_run(&e, &files, AVA_RULE_PYSLOWFAST), FAILED);
	assert_non_null(strstr(err_last(), "cannot read '/' to its end"));
}

static void what_the_label_map_does_not_hold_is_passed_over(void **state)
{
	static const char *const unknown[] = { "13", "0", "-1", "81", "999999999999999999999" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
		char truth[256], detections[256];
		struct ava_eval e;

		/* Even what else is wrong with such a row, behind the action. */
		snprintf(truth, sizeof(truth), "v,902,.5,.1,.1,.9,%s\n" G1, unknown[i]);
		snprintf(detections, sizeof(detections), "v,902,.1,.1,.5,.9,%s,nan\nv,902,.1,.1,.5,.9,12,.5\n", unknown[i]);
		assert_int_equal(evaluate(&e, truth, detections, NULL, AVA_RULE_PYSLOWFAST), OK);
		assert_true(e.map == 1);
		assert_int_equal(e.class_count, 1);
		ava_eval_release(&e);
	}
}

/* ---- by other means -------------------------------------------------------------------- */

enum { MADE_TRUTH = 60, MADE_FOUND = 500, MADE_CLASSES = 3, MADE_KEYFRAMES = 6, BEST = 50 };
static const int made_ids[MADE_CLASSES] = { 4, 12, 74 };

struct made_row {
	int keyframe, class;
	double box[4], score;
	bool used, out;
};

/* Corners in thousandths, so that text and number are the same. */
static void made_box(struct rng *rng, double box[4])
{
	for (int axis = 0; axis < 2; axis++) {
		unsigned a = rng_below(rng, 8) * 100, b = a + 100 + rng_below(rng, 3) * 100;

		box[axis] = a / 1000.0;
		box[axis + 2] = b / 1000.0;
	}
}

static double made_overlap(const double a[4], const double b[4])
{
	double w = fmin(a[2], b[2]) - fmax(a[0], b[0]), h = fmin(a[3], b[3]) - fmax(a[1], b[1]);
	double common = w > 0 && h > 0 ? w * h : 0;

	return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common);
}

/* The definition, word for word: every threshold is tried, precision and recall are counted anew at each. */
static double plain_ap(const struct made_row *found, const bool *hit, const bool *counts, int class, int truth)
{
	double precision[MADE_FOUND + 1], recall[MADE_FOUND + 1], ap = 0, before = 0;
	int points = 0;

	for (int i = 0; i < MADE_FOUND; i++) {
		int above = 0, hits = 0;

		if (!counts[i] || found[i].class != class)
			continue;
		for (int j = 0; j < MADE_FOUND; j++)
			if (counts[j] && found[j].class == class && found[j].score >= found[i].score) {
				above++;
				hits += hit[j];
			}
		precision[points] = (double)hits / above;
		recall[points++] = (double)hits / truth;
	}
	for (;;) {	/* the next level of recall, and the best precision at it or beyond */
		double next = 2, best = 0;

		for (int p = 0; p < points; p++)
			if (recall[p] > before && recall[p] < next)
				next = recall[p];
		if (next > 1.5)
			return ap;
		for (int p = 0; p < points; p++)
			if (recall[p] >= next && precision[p] > best)
				best = precision[p];
		ap += (next - before) * best;
		before = next;
	}
}

static int rank_in_keyframe(const struct made_row *found, int i)
{
	int rank = 0;

	for (int j = 0; j < MADE_FOUND; j++)
		rank += found[j].keyframe == found[i].keyframe && found[j].score > found[i].score;
	return rank;
}

/* Visits detections by a rank of the rule's, lowest first, and matches; the mean over classes. */
static double plain_map(struct made_row *truth, const struct made_row *found, enum ava_rule rule)
{
	static bool hit[MADE_FOUND], counts[MADE_FOUND];
	static int ranks[MADE_FOUND];
	double sum = 0;
	int classes = 0;

	memset(hit, 0, sizeof(hit));
	for (int i = 0; i < MADE_FOUND; i++)
		ranks[i] = rule == AVA_RULE_PYSLOWFAST ? i : rank_in_keyframe(found, i);
	for (int t = 0; t < MADE_TRUTH; t++)
		truth[t].used = false;
	for (int rank = 0; rank < MADE_FOUND; rank++)
		for (int i = 0; i < MADE_FOUND; i++) {
			int best = -1;
			double most = 0;

			if (ranks[i] != rank)
				continue;
			counts[i] = rule == AVA_RULE_PYSLOWFAST || rank < BEST;
			for (int t = 0; counts[i] && t < MADE_TRUTH; t++)
				if (truth[t].keyframe == found[i].keyframe && truth[t].class == found[i].class &&
				    made_overlap(truth[t].box, found[i].box) > most) {
					most = made_overlap(truth[t].box, found[i].box);
					best = t;
				}
			hit[i] = most >= 0.5 && !truth[best].used;
			if (hit[i])
				truth[best].used = true;
		}
	for (int c = 0; c < MADE_CLASSES; c++) {
		int n = 0;

		for (int t = 0; t < MADE_TRUTH; t++)
			n += truth[t].class == c;
		classes += n > 0;
		sum += n ? plain_ap(found, hit, counts, c, n) : 0;
	}
	return sum / classes;
}

static void random_files_evaluate_as_by_the_plain_definition(void **state)
{
	static struct made_row truth[MADE_TRUTH], found[MADE_FOUND];
	struct rng rng;

	(void)state;
	for (uint64_t seed = 0; seed < 4; seed++) {
		char *text[2];
		size_t bytes;
		FILE *f = open_memstream(&text[0], &bytes);

		rng_init(&rng, seed, 1);
		for (int t = 0; t < MADE_TRUTH; t++) {
			truth[t] = (struct made_row){ .keyframe = (int)rng_below(&rng, MADE_KEYFRAMES),
						      .class = (int)rng_below(&rng, MADE_CLASSES) };
			made_box(&rng, truth[t].box);
			fprintf(f, "v%d,0%d,%.3f,%.3f,%.3f,%.3f,%d,1\n", truth[t].keyframe % 2, 902 + truth[t].keyframe, truth[t].box[0],
				truth[t].box[1], truth[t].box[2], truth[t].box[3], made_ids[truth[t].class]);
		}
		for (int k = 0; k < MADE_KEYFRAMES; k++)	/* all known to activitynet */
			fprintf(f, "v%d,0%d\n", k % 2, 902 + k);
		fclose(f);
		f = open_memstream(&text[1], &bytes);
		for (int i = 0; i < MADE_FOUND; i++) {
			/* Scores are all different; every other box is near a true one. */
			found[i] = (struct made_row){ .keyframe = (int)rng_below(&rng, MADE_KEYFRAMES),
						      .class = (int)rng_below(&rng, MADE_CLASSES),
						      .score = (double)(i * 7919 % MADE_FOUND + 1) / 512 };
			made_box(&rng, found[i].box);
			fprintf(f, "v%d,0%d,%.3f,%.3f,%.3f,%.3f,%d,%.17g\n", found[i].keyframe % 2, 902 + found[i].keyframe,
				found[i].box[0], found[i].box[1], found[i].box[2], found[i].box[3], made_ids[found[i].class], found[i].score);
		}
		fclose(f);
		for (enum ava_rule rule = 0; rule < AVA_RULES; rule++) {
			struct ava_eval e;
			double plain = plain_map(truth, found, rule);

			assert_int_equal(evaluate(&e, text[0], text[1], NULL, rule), OK);
			if (!(fabs(e.map - plain) <= 1e-9) || !(plain > 0 && plain < 1))
				fail_msg("seed %d by %s: %.12g, not %.12g", (int)seed, names[rule], e.map, plain);
			ava_eval_release(&e);
		}
		free(text[0]);
		free(text[1]);
	}
}

/* ---- the command ----------------------------------------------------------------------- */

static void eval_answers_as_text_csv_and_json_with_one_number(void **state)
{
	static char out[1 << 16], line[PATH_BYTES], path[PATH_BYTES];
	cJSON *printed, *written;

	(void)state;
	file("map.pbtxt", label_map);
	file("truth.csv", G1 G2 G3);
	file("found.csv", D("0902", ".12,.11,.5,.88", "12", ".3") D("0902", ".1,.1,.48,.9", "12", ".8") D("0902", ".62,.2,.92,.8", "12", ".6")
	     D("0903", ".25,.25,.5,.75", "12", ".7") D("0903", ".25,.25,.4375,.75", "12", ".9") D("0904", ".1,.1,.4,.4", "12", ".95")
	     D("0902", ".62,.2,.92,.8", "74", ".55"));
	snprintf(line, sizeof(line), "eval --groundtruth %s/truth.csv --detections %s/found.csv --labelmap %s/map.pbtxt --out %s/out --json",
		 home, home, home, home);
	assert_int_equal(program(line, out, sizeof(out)), 0);
	printed = cJSON_Parse(out);
	assert_non_null(printed);
	assert_true(json_number(printed, "mAP", -1) == 0.75);
	assert_true(json_number(cJSON_GetObjectItem(printed, "AP"), "12", -1) == 0.5);
	assert_true(json_number(cJSON_GetObjectItem(printed, "AP"), "74", -1) == 1);
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetObjectItem(printed, "AP"), "4")));
	snprintf(path, sizeof(path), "%s/out/eval.json", home);
	assert_int_equal(json_read(path, &written), OK);
	assert_true(cJSON_Compare(printed, written, true));
	snprintf(path, sizeof(path), "grep -q '^12,stand,3,6,0.5$' %s/out/classes.csv && grep -q '^pyslowfast,0.75,' %s/out/accuracy.csv", home, home);
	assert_int_equal(shell(path, out, sizeof(out)), 0);
	cJSON_Delete(printed);
	cJSON_Delete(written);
	if (!system("command -v gnuplot >/dev/null 2>&1")) {
		snprintf(path, sizeof(path), "grep -q '<svg' %s/out/classes.svg && test -s %s/out/classes.png", home, home);
		assert_int_equal(shell(path, out, sizeof(out)), 0);
	}
	snprintf(line, sizeof(line), "eval --groundtruth %s/truth.csv --detections %s/found.csv --labelmap %s/map.pbtxt --rule activitynet",
		 home, home, home);
	assert_int_equal(program(line, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "0.8750"));
	assert_int_equal(program("eval --groundtruth nowhere", out, sizeof(out)), 1);
	snprintf(line, sizeof(line), "eval --groundtruth nowhere --detections %s/found.csv --labelmap %s/map.pbtxt", home, home);
	assert_int_equal(program(line, out, sizeof(out)), 2);
	assert_non_null(strstr(out, "cannot open 'nowhere'"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_answers_of_both_evaluators_come_out_to_1e_9),
		cmocka_unit_test(what_separates_the_rules_shows_in_the_numbers),
		cmocka_unit_test(a_detection_without_score_is_certain_for_activitynet_only),
		cmocka_unit_test(a_row_that_is_none_is_an_error_with_its_line),
		cmocka_unit_test(what_cannot_be_read_to_its_end_is_an_error),
		cmocka_unit_test(what_the_label_map_does_not_hold_is_passed_over),
		cmocka_unit_test(random_files_evaluate_as_by_the_plain_definition),
		cmocka_unit_test(eval_answers_as_text_csv_and_json_with_one_number),
	};

	return cmocka_run_group_tests(tests, make_home, remove_home);
}
