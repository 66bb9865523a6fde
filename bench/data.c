/*
 * bench/data.c - `data make` and `data check`: an AVA data set from a seed, and the verdict on any.
 *
 * The options of `make` default to a set for a demonstration: 32 training clips, made in about a second.
 */
#include "bench/base/err.h"
#include "bench/base/table.h"
#include "bench/commands.h"
#include "loader/check.h"
#include "loader/parallel.h"
#include "loader/synth.h"

#include <signal.h>
#include <stdlib.h>

/* An option that both commands have. */
enum { THREADS_MAX = 1024 };
#define THREADS_HELP "threads; 0: as many as there are cores"

/* Options into `values`, the only operand into `dir` (borrowed from argv). */
static int read_words(const struct command *cmd, void *values, int argc, char **argv, const char **dir)
{
	const char **operands = calloc((size_t)argc + 1, sizeof(*operands));
	size_t count;
	int rc;

	if (!operands)
		return err(NO_MEMORY, "no memory for %d words", argc);
	rc = opt_parse(cmd, values, argc, argv, operands, &count);
	*dir = operands[0];
	free(operands);
	if (!rc && count != 1)
		rc = err(USAGE, "%s: wants one folder, got %zu ('sfscale %s --help')", cmd->name, count, cmd->name);
	return rc;
}

/* ---- data make ------------------------------------------------------------------------- */

struct make_values {
	uint64_t videos, val_videos, seconds, width, height, quality, seed, threads;
};

#define AT(field) offsetof(struct make_values, field)
static const struct opt make_opts[] = {
	{ "videos", OPT_U64, AT(videos), "4", "training videos; videos x seconds is the number of training clips "
	  "(AVA: 235 x 897)", NULL },
	{ "val-videos", OPT_U64, AT(val_videos), "1", "validation videos, as long as those (AVA: 64)", NULL },
	{ "seconds", OPT_U64, AT(seconds), "8", "keyframes per video, one a second, each the middle of one clip; "
	  "a video has 30 x (seconds + 4) frames", NULL },
	{ "width", OPT_U64, AT(width), "128", "of a frame, in pixels", NULL },
	{ "height", OPT_U64, AT(height), "96", "of a frame, in pixels", NULL },
	{ "quality", OPT_U64, AT(quality), "95", "of the JPEG files, 1..100", NULL },
	{ "seed", OPT_U64, AT(seed), "0", "the same options and seed give the same bytes", NULL },
	{ "threads", OPT_U64, AT(threads), "0", THREADS_HELP, NULL },
};
#undef AT

static const struct {
	const char *option;
	uint64_t least, most;
} make_limits[] = {
	{ "videos", 1, SYNTH_VIDEOS_MAX },
	{ "val-videos", 1, SYNTH_VIDEOS_MAX },
	{ "seconds", 1, AVA_SECONDS },
	{ "width", SYNTH_SIDE_MIN, SYNTH_SIDE_MAX },
	{ "height", SYNTH_SIDE_MIN, SYNTH_SIDE_MAX },
	{ "quality", 1, 100 },
	{ "threads", 0, THREADS_MAX },
};

static int make_judge(const struct make_values *v)
{
	for (size_t i = 0; i < ARRAY_LEN(make_limits); i++) {
		const struct opt *row = opt_find(make_opts, ARRAY_LEN(make_opts), make_limits[i].option);
		uint64_t value = *(const uint64_t *)((const char *)v + row->offset);

		if (value < make_limits[i].least || value > make_limits[i].most)
			return err(USAGE, "--%s: %llu is not in %llu..%llu", row->name, (unsigned long long)value,
				   (unsigned long long)make_limits[i].least, (unsigned long long)make_limits[i].most);
	}
	return OK;
}

static atomic_bool interrupted;

static void interrupt(int signal_number)
{
	(void)signal_number;
	atomic_store(&interrupted, true);
}

/* Signals that ask for an end: the half of a data set that stands by then is removed.  One that is
 * ignored, as nohup arranges, stays so. */
static void interrupts_catch(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = interrupt, .sa_flags = SA_RESTART }, before;

	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (!sigaction(signals[i], NULL, &before) && before.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
}

static const struct field made_fields[] = {
	{ "split", "", "train or val", 0 },
	{ "videos", "1", "videos", 0 },
	{ "frames", "1", "JPEG files", 0 },
	{ "clips", "1", "keyframes, each the middle of a clip", 0 },
	{ "boxes", "1", "boxes of the ground truth", 0 },
	{ "rows", "1", "rows of the ground truth: (box, action)", 0 },
	{ "frame_bytes", "B", "size of all frames", 0 },
};

static void made_print(const struct synth_config *c, const struct synth_counts counts[SYNTH_SPLITS])
{
	struct table t;

	table_init(&t, "made", NULL, made_fields, ARRAY_LEN(made_fields));
	for (enum synth_split i = 0; i < SYNTH_SPLITS; i++) {
		table_text(&t, i == SYNTH_TRAIN ? "train" : "val");
		table_int(&t, (int64_t)c->videos[i]);
		table_int(&t, (int64_t)counts[i].frames);
		table_int(&t, (int64_t)counts[i].clips);
		table_int(&t, (int64_t)counts[i].boxes);
		table_int(&t, (int64_t)counts[i].rows);
		table_int(&t, (int64_t)counts[i].frame_bytes);
	}
	table_print_text(&t, stdout);
	table_release(&t);
}

static int make_command(int argc, char **argv)
{
	struct make_values v;
	struct synth_counts counts[SYNTH_SPLITS];
	struct synth_config c;
	const char *dir = NULL;
	int rc = read_words(&command_data_make, &v, argc, argv, &dir);

	if (!rc)
		rc = make_judge(&v);
	if (rc)
		return rc;
	interrupts_catch();
	c = (struct synth_config){
		.videos = { [SYNTH_TRAIN] = v.videos, [SYNTH_VAL] = v.val_videos },
		.seconds = v.seconds, .width = v.width, .height = v.height, .quality = (int)v.quality,
		.seed = v.seed, .threads = v.threads ? v.threads : parallel_cores(), .stop = &interrupted,
	};
	rc = synth_make(dir, &c, counts);
	if (!rc)
		made_print(&c, counts);
	return rc;
}

const struct command command_data_make = {
	"data make", "DIR", "makes an AVA v2.2 data set: JPEG frames, frame lists, annotations", make_opts,
	ARRAY_LEN(make_opts), make_command, sizeof(struct make_values)
};

/* ---- data check ------------------------------------------------------------------------ */

struct check_values {
	bool headers, json, csv;
	uint64_t show, threads;
};

#define AT(field) offsetof(struct check_values, field)
static const struct opt check_opts[] = {
	{ "headers", OPT_BOOL, AT(headers), "off", "of each frame read header and end, do not decode it", NULL },
	{ "show", OPT_U64, AT(show), "20", "findings of each kind that are printed; all are counted", NULL },
	{ "threads", OPT_U64, AT(threads), "0", THREADS_HELP, NULL },
	{ "csv", OPT_BOOL, AT(csv), "off", "the tables as CSV", NULL },
	{ "json", OPT_BOOL, AT(json), "off", "the tables as JSON, with the meaning of their fields", NULL },
};
#undef AT

static const struct field split_fields[] = {
	{ "split", "", "train or val", 0 },
	{ "videos", "1", "videos in the frame list", 0 },
	{ "frames", "1", "frames in the frame list", 0 },
	{ "clips", "1", "keyframes with a box, as training (val: evaluation) reads the rows", 0 },
	{ "truth_rows", "1", "rows of the ground truth: (box, action)", 0 },
	{ "predicted_rows", "1", "rows of the detector", 0 },
	{ "dropped_rows", "1", "those of them whose score is too low to be read", 0 },
	{ "excluded", "1", "keyframes that evaluation leaves out", 0 },
	{ "frame_bytes", "B", "size of all good frames", 0 },
};

static const struct field finding_fields[] = {
	{ "finding", "", "kind of finding", 0 },
	{ "count", "1", "how many", 0 },
	{ "meaning", "", "what is wrong", 0 },
};

static void check_tables(const struct check_report *report, struct table *splits, struct table *findings)
{
	table_init(splits, "splits", NULL, split_fields, ARRAY_LEN(split_fields));
	for (enum check_split i = 0; i < CHECK_SPLITS; i++) {
		const struct check_counts *n = &report->splits[i];

		table_text(splits, check_splits[i]);
		table_int(splits, (int64_t)n->videos);
		table_int(splits, (int64_t)n->frames);
		table_int(splits, (int64_t)n->clips);
		table_int(splits, (int64_t)n->truth_rows);
		table_int(splits, (int64_t)n->predicted_rows);
		table_int(splits, (int64_t)n->dropped_rows);
		table_int(splits, (int64_t)n->excluded);
		table_int(splits, (int64_t)n->frame_bytes);
	}
	table_init(findings, "findings", NULL, finding_fields, ARRAY_LEN(finding_fields));
	for (enum check_kind i = 0; i < CHECK_KINDS; i++) {
		table_text(findings, check_kinds[i].name);
		table_int(findings, (int64_t)report->found[i]);
		table_text(findings, check_kinds[i].meaning);
	}
}

static void check_print(const struct check_report *report, const struct check_values *v)
{
	struct table tables[2];

	check_tables(report, &tables[0], &tables[1]);
	tables_print((const struct table *[]){ &tables[0], &tables[1] }, ARRAY_LEN(tables),
		     v->json ? TABLE_JSON : v->csv ? TABLE_CSV : TABLE_TEXT);
	table_release(&tables[0]);
	table_release(&tables[1]);
}

static int check_command(int argc, char **argv)
{
	struct check_values v;
	struct check_report report;
	const char *dir = NULL;
	int rc = read_words(&command_data_check, &v, argc, argv, &dir);
	size_t count;

	if (!rc && v.threads > THREADS_MAX)
		rc = err(USAGE, "--threads: %llu is more than %d", (unsigned long long)v.threads, THREADS_MAX);
	if (!rc)
		rc = check_run(dir, &(struct check_config){ .headers = v.headers, .show = v.show,
							    .threads = v.threads ? v.threads : parallel_cores() },
			       &report);
	if (rc)
		return rc;
	check_print(&report, &v);
	count = check_found(&report);
	return count ? err(BELOW, "'%s' is not sound: %zu finding%s", dir, count, count > 1 ? "s" : "") : OK;
}

const struct command command_data_check = {
	"data check", "DIR", "judges an AVA data set: counts, and each finding with file and line; "
	"exit 3 when there is one", check_opts, ARRAY_LEN(check_opts), check_command,
	sizeof(struct check_values)
};
