/*
 * tests/test_data.c - data sets: made the same each time, whole or not at all, and judged.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "loader/ava.h"
#include "loader/check.h"
#include "loader/jpeg.h"
#include "loader/synth.h"

#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char home[] = "/tmp/sfscale-data-XXXXXX";	/* everything below is removed at the end */
static char made[PATH_BYTES];				/* a set that tests may damage and must mend */

static const struct synth_config small = {
	.videos = { 2, 1 }, .seconds = 5, .width = 64, .height = 48, .quality = 90, .seed = 7, .threads = 2,
};

/* A shell command; its exit status. */
static int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int shell(const char *format, ...)
{
	char command[3 * PATH_BYTES];
	va_list args;
	int status;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static const char *in(const char *folder, const char *file)
{
	static char path[PATH_BYTES];

	assert_int_equal(path_make(path, "%s/%s", folder, file), OK);
	return path;
}

static int make_home(void **state)
{
	struct synth_counts counts[SYNTH_SPLITS];

	(void)state;
	if (!mkdtemp(home) || path_make(made, "%s/made", home))
		return -1;
	return synth_make(made, &small, counts);
}

static int drop_home(void **state)
{
	(void)state;
	return shell("rm -rf %s", home);
}

static void the_seed_and_the_options_decide_every_byte(void **state)
{
	struct synth_counts counts[SYNTH_SPLITS];
	struct synth_config c = small;
	char other[PATH_BYTES];

	(void)state;
	assert_int_equal(path_make(other, "%s/other", home), OK);
	c.threads = 1;
	assert_int_equal(synth_make(other, &c, counts), OK);
	assert_int_equal(shell("diff -r %s %s", made, other), 0);
	assert_int_equal(shell("rm -r %s", other), 0);
	c.threads = 5;
	assert_int_equal(synth_make(other, &c, counts), OK);
	assert_int_equal(shell("diff -r %s %s", made, other), 0);
	assert_int_equal(shell("rm -r %s", other), 0);
	c.seed++;
	assert_int_equal(synth_make(other, &c, counts), OK);
	assert_int_equal(shell("diff -rq %s %s >%s/log", made, other, home), 1);
	assert_int_equal(shell("rm -r %s", other), 0);
}

static void maker_checker_and_reader_count_the_same(void **state)
{
	struct synth_counts counts[SYNTH_SPLITS];
	struct check_report r;
	struct ava_index ix;
	char other[PATH_BYTES];

	(void)state;
	assert_int_equal(path_make(other, "%s/other", home), OK);
	assert_int_equal(synth_make(other, &small, counts), OK);
	assert_int_equal(check_run(other, &(struct check_config){ .threads = 2, .show = 9 }, &r), OK);
	assert_int_equal(check_found(&r), 0);
	for (int i = 0; i < SYNTH_SPLITS; i++) {
		assert_int_equal(r.splits[i].videos, small.videos[i]);
		assert_int_equal(r.splits[i].frames, counts[i].frames);
		assert_int_equal(r.splits[i].frames, small.videos[i] * 30 * (5 + 4));
		assert_int_equal(r.splits[i].clips, counts[i].clips);
		assert_int_equal(r.splits[i].truth_rows, counts[i].rows);
		assert_int_equal(r.splits[i].frame_bytes, counts[i].frame_bytes);
		assert_true(r.splits[i].predicted_rows > r.splits[i].dropped_rows);
	}
	assert_int_equal(r.splits[CHECK_VAL].excluded, 1);
	assert_int_equal(ava_index_read(&ix, other), OK);
	assert_int_equal(ix.example_count, counts[SYNTH_TRAIN].clips);
	assert_int_equal(ix.frame_count, counts[SYNTH_TRAIN].frames);
	ava_index_release(&ix);
	assert_int_equal(shell("rm -r %s", other), 0);
}

static void a_video_has_as_many_frames_around_its_keyframes_as_in_ava(void **state)
{
	struct synth_config c = { .seconds = AVA_SECONDS };

	(void)state;
	assert_int_equal(synth_video_frames(&c), 27030);
}

/* What a network could learn without looking at time: the mean colour of a person is its third label. */
static void the_colour_of_a_person_is_its_label(void **state)
{
	enum { GREY, TALK = 79, WATCH = 80, LISTEN = 74 };
	struct jpeg_reader jpeg;
	struct ava_index ix;
	size_t seen[AVA_CLASSES + 1] = { 0 };

	(void)state;
	assert_int_equal(ava_index_read(&ix, made), OK);
	assert_int_equal(jpeg_reader_init(&jpeg), OK);
	for (size_t i = 0; i < ix.example_count; i++) {
		const struct ava_example *e = &ix.examples[i];
		char path[PATH_BYTES], why[2 * PATH_BYTES];

		assert_int_equal(ava_index_path(&ix, e->video, ava_keyframe(e->second), path), OK);
		assert_int_equal(jpeg_read(&jpeg, path, why, sizeof(why)), OK);
		for (size_t j = e->first_box; j < e->first_box + e->box_count; j++) {
			const struct ava_box *b = &ix.boxes[j];
			size_t x1 = (size_t)(b->x1 * 64) + 3, x2 = (size_t)(b->x2 * 64) - 3;
			size_t y1 = (size_t)(b->y1 * 48) + 3, y2 = (size_t)(b->y2 * 48) - 3;
			double sum[3] = { 0 };
			int label = GREY, labels = 0;

			for (int a = 1; a <= AVA_CLASSES; a++) {
				bool set = b->labels[(a - 1) / 8] >> (a - 1) % 8 & 1;

				labels += set;
				if (set && (a == TALK || a == WATCH || a == LISTEN))
					label = a;
			}
			if (!labels)
				continue;	/* nobody */
			for (size_t y = y1; y < y2; y++)
				for (size_t x = x1; x < x2; x++)
					for (int k = 0; k < 3; k++)
						sum[k] += jpeg.rgb[3 * (y * 64 + x) + (size_t)k];
			seen[label]++;
			assert_int_equal(sum[0] > 1.4 * sum[1] && sum[0] > 1.4 * sum[2], label == TALK);
			assert_int_equal(sum[1] > 1.4 * sum[0] && sum[1] > 1.4 * sum[2], label == WATCH);
			assert_int_equal(sum[2] > 1.4 * sum[0] && sum[2] > 1.4 * sum[1], label == LISTEN);
		}
	}
	assert_true(!!seen[GREY] + !!seen[TALK] + !!seen[WATCH] + !!seen[LISTEN] >= 2);
	jpeg_reader_release(&jpeg);
	ava_index_release(&ix);
}

/* ---- the checker ----------------------------------------------------------------------- */

/* Checks `made`; what was said on stderr is owned by the caller. */
static char *judge(bool headers, struct check_report *r)
{
	char log[PATH_BYTES], *said;
	int out, saved = dup(STDERR_FILENO);

	assert_int_equal(path_make(log, "%s/log", home), OK);
	out = creat(log, 0600);
	dup2(out, STDERR_FILENO);
	assert_int_equal(check_run(made, &(struct check_config){ .headers = headers, .threads = 2, .show = 3 }, r), OK);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(out);
	assert_int_equal(file_read(log, &said, NULL), OK);
	return said;
}

/* `text` with another line `number`; NULL: without it.  Owned by the caller. */
static char *line_replaced(const char *text, size_t number, const char *line)
{
	const char *begin = text, *end;
	char *out = malloc(strlen(text) + (line ? strlen(line) : 0) + 2);

	for (size_t i = 1; i < number; i++)
		begin = strchr(begin, '\n') + 1;
	end = strchr(begin, '\n') + 1;
	sprintf(out, "%.*s%s%s%s", (int)(begin - text), text, line ? line : "", line ? "\n" : "", end);
	return out;
}

static void a_damaged_line_is_named_with_its_file(void **state)
{
	static const char frame[] = "train_00001 0 0 train_00001/train_00001_000001.jpg";
	static const struct {
		const char *file;
		size_t line;
		const char *text;
		enum check_kind kind;
		const char *said;
	} cases[] = {
		{ AVA_TRAIN_FRAMES, 1, frame, CHECK_ROW, "skip this line" },
		{ AVA_TRAIN_FRAMES, 9, frame, CHECK_ROW, "4 fields" },
		{ AVA_TRAIN_FRAMES, 9, NULL, CHECK_FRAME, "'8' of 'train_00001' stands where 7 belongs" },
		{ AVA_TRAIN_FRAMES, 2, NULL, CHECK_FRAME, "'1' of 'train_00001' stands where 0 belongs" },
		{ AVA_TRAIN_FRAMES, 9, "train_00001 0 x train_00001/train_00001_000008.jpg \"\"", CHECK_FRAME, "'x' of" },
		{ AVA_VAL_FRAMES, 7, "val_2 0 0 val_00001/val_00001_000006.jpg \"\"\n"
		  "val_00001 0 5 val_00001/val_00001_000006.jpg \"\"", CHECK_VIDEO, "'val_2' has no" },
		{ AVA_TRAIN_TRUTH, 3, "train_00001,0901,0.1,0.1,0.9,0.9,12,0", CHECK_SECOND, "901 is outside" },
		{ AVA_TRAIN_TRUTH, 3, "train_00001,1799,0.1,0.1,0.9,0.9,12,0", CHECK_SECOND, "1799 is outside" },
		{ AVA_TRAIN_TRUTH, 3, "train_00001,0990,0.1,0.1,0.9,0.9,12,0", CHECK_SECOND, "frame 2700" },
		{ AVA_TRAIN_TRUTH, 3, "train_00001,0902,0.1,0.1,0.9,0.9,81,0", CHECK_ROW, "'81'" },
		{ AVA_TRAIN_TRUTH, 3, "train_00001,0902,0.1,0.1,0.9,0.9,0,0", CHECK_ROW, "'0'" },
		{ AVA_TRAIN_TRUTH, 3, "train_00001,0902,0.1,0.1,0.9,1.001,12,0", CHECK_ROW, "'1.001'" },
		{ AVA_TRAIN_TRUTH, 3, "train_00001,0902,-0.1,0.1,0.9,0.9,12,0", CHECK_ROW, "'-0.1'" },
		{ AVA_TRAIN_TRUTH, 3, "train_00001,0902,nan,0.1,0.9,0.9,12,0", CHECK_ROW, "'nan'" },
		{ AVA_TRAIN_TRUTH, 3, "train_00001,0902,0.1", CHECK_ROW, "3 fields" },
		{ AVA_VAL_TRUTH, 2, "train_00001,0902,0.1,0.1,0.9,0.9,12,0", CHECK_VIDEO, "'train_00001' is not in" },
		{ AVA_TRAIN_PREDICTED, 5, "train_00009,0902,0.1,0.1,0.9,0.9,,0.9", CHECK_VIDEO, "'train_00009'" },
		{ AVA_VAL_PREDICTED, 1, "val_00001,0902,0.1,0.1,0.9,0.9,12,1.5", CHECK_ROW, "1.5" },
		{ AVA_VAL_EXCLUDED, 1, "val_00001,0800", CHECK_SECOND, "800" },
		{ AVA_VAL_EXCLUDED, 1, "val_00001", CHECK_ROW, "video,second" },
		{ AVA_LABEL_MAP, 7, "  id: 99", CHECK_ROW, "99" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char path[PATH_BYTES], place[PATH_BYTES + 32], *good, *bad, *said, *at;
		struct check_report r;

		strcpy(path, in(made, cases[i].file));
		assert_int_equal(file_read(path, &good, NULL), OK);
		bad = line_replaced(good, cases[i].line, cases[i].text);
		assert_int_equal(file_write(path, bad, strlen(bad)), OK);
		said = judge(true, &r);
		assert_int_equal(r.found[cases[i].kind], 1);
		assert_int_equal(check_found(&r), 1);
		snprintf(place, sizeof(place), "%s:%zu: ", path, cases[i].line);
		at = strstr(said, place);
		assert_non_null(at);
		assert_non_null(strstr(at, cases[i].said));
		assert_int_equal(file_write(path, good, strlen(good)), OK);
		free(said);
		free(bad);
		free(good);
	}
}

static void a_damaged_frame_is_named_with_its_line(void **state)
{
	enum damage { GONE, EMPTY, CUT, TEXT, RESIZED };
	static const struct {
		enum damage damage;
		const char *said;
	} cases[] = {
		{ GONE, "No such file" }, { EMPTY, "" }, { CUT, "damaged" }, { TEXT, "no JPEG" },
		{ RESIZED, "has 32 x 40 pixels, the first of 'train_00002' 64 x 48" },
	};
	static const char frame[] = AVA_FRAMES "/train_00002/train_00002_000011.jpg";
	struct synth_counts counts[SYNTH_SPLITS];
	struct synth_config c = small;
	char odd[PATH_BYTES], path[PATH_BYTES], place[PATH_BYTES + 32], *good, *other;
	size_t bytes, other_bytes;

	(void)state;
	c.width = 32;
	c.height = 40;
	assert_int_equal(path_make(odd, "%s/odd", home), OK);
	assert_int_equal(synth_make(odd, &c, counts), OK);
	assert_int_equal(file_read(in(odd, frame), &other, &other_bytes), OK);
	strcpy(path, in(made, frame));
	assert_int_equal(file_read(path, &good, &bytes), OK);
	snprintf(place, sizeof(place), "%s:%d: ", in(made, AVA_TRAIN_FRAMES), 1 + 9 * 30 + 11);
	for (size_t i = 0; i < 2 * ARRAY_LEN(cases); i++) {
		struct check_report r;
		char *said, *at;

		unlink(path);
		switch (cases[i / 2].damage) {
		case GONE: break;
		case EMPTY: assert_int_equal(file_write(path, "", 0), OK); break;
		case CUT: assert_int_equal(file_write(path, good, bytes - bytes / 4), OK); break;
		case TEXT: assert_int_equal(file_write(path, "a frame", 7), OK); break;
		case RESIZED: assert_int_equal(file_write(path, other, other_bytes), OK); break;
		}
		said = judge(i % 2, &r);
		assert_int_equal(r.found[CHECK_FRAME], 1);
		assert_int_equal(check_found(&r), 1);
		at = strstr(said, place);
		assert_non_null(at);
		assert_non_null(strstr(at, cases[i / 2].said));
		free(said);
	}
	assert_int_equal(file_write(path, good, bytes), OK);
	free(good);
	free(other);
	assert_int_equal(shell("rm -r %s", odd), 0);
}

static void a_file_that_is_absent_is_one_finding(void **state)
{
	static const char *const files[] = { AVA_TRAIN_FRAMES, AVA_VAL_TRUTH, AVA_LABEL_MAP, AVA_VAL_EXCLUDED };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char path[PATH_BYTES], away[PATH_BYTES], *said;
		struct check_report r;

		strcpy(path, in(made, files[i]));
		assert_int_equal(path_make(away, "%s/away", home), OK);
		assert_int_equal(rename(path, away), 0);
		said = judge(true, &r);
		assert_int_equal(r.found[CHECK_FILE], 1);
		assert_int_equal(check_found(&r), 1);
		assert_non_null(strstr(said, path));
		assert_int_equal(rename(away, path), 0);
		free(said);
	}
}

static void a_file_of_boxes_that_is_empty_is_one_finding(void **state)
{
	static const char *const files[] = { AVA_TRAIN_TRUTH, AVA_VAL_TRUTH, AVA_TRAIN_PREDICTED };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char path[PATH_BYTES], *good, *said;
		struct check_report r;

		strcpy(path, in(made, files[i]));
		assert_int_equal(file_read(path, &good, NULL), OK);
		assert_int_equal(file_write(path, "", 0), OK);
		said = judge(true, &r);
		assert_int_equal(r.found[CHECK_FILE], 1);
		assert_int_equal(check_found(&r), 1);
		assert_non_null(strstr(said, path));
		assert_int_equal(file_write(path, good, strlen(good)), OK);
		free(said);
		free(good);
	}
}

static void findings_are_counted_beyond_those_shown(void **state)
{
	char *good, *bad, *said, *at, path[PATH_BYTES];
	struct check_report r;
	size_t shown = 0;

	(void)state;
	strcpy(path, in(made, AVA_VAL_PREDICTED));
	assert_int_equal(file_read(path, &good, NULL), OK);
	bad = line_replaced(good, 1, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj");
	assert_int_equal(file_write(path, bad, strlen(bad)), OK);
	said = judge(true, &r);
	assert_int_equal(r.found[CHECK_ROW], 10);
	for (at = said; (at = strstr(at, "1 fields")); at++)
		shown++;
	assert_int_equal(shown, 3);
	assert_int_equal(file_write(path, good, strlen(good)), OK);
	free(said);
	free(bad);
	free(good);
}

/* ---- whole or not at all --------------------------------------------------------------- */

/* Nothing called "NAME" or "NAME.tmp-..." in `home`. */
static bool nothing_left(const char *name)
{
	char pattern[PATH_BYTES];
	glob_t g;
	int rc;

	assert_int_equal(path_make(pattern, "%s/%s*", home, name), OK);
	rc = glob(pattern, 0, NULL, &g);
	globfree(&g);
	return rc == GLOB_NOMATCH;
}

/* No file may grow beyond a limit: to the writer it looks like a full disk. */
static void a_full_disk_leaves_nothing(void **state)
{
	static const struct {
		rlim_t bytes;
		const char *fails_at;
	} cases[] = { { 300, ".csv" }, { 40 << 10, ".jpg" } };
	struct synth_config c = small;

	(void)state;
	c.width = 640;		/* a frame has 60 KB or more, the longest list 30 */
	c.height = 480;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (!child) {
			struct synth_counts counts[SYNTH_SPLITS];
			struct rlimit limit = { cases[i].bytes, cases[i].bytes };
			char full[PATH_BYTES];

			signal(SIGXFSZ, SIG_IGN);
			if (path_make(full, "%s/full", home) || setrlimit(RLIMIT_FSIZE, &limit) ||
			    synth_make(full, &c, counts) != FAILED || !strstr(err_last(), cases[i].fails_at))
				_exit(1);
			_exit(0);
		}
		waitpid(child, &status, 0);
		assert_int_equal(status, 0);
		assert_true(nothing_left("full"));
	}
}

static void a_folder_that_exists_is_left_alone(void **state)
{
	struct synth_counts counts[SYNTH_SPLITS];
	char taken[PATH_BYTES], file[PATH_BYTES + 8], slash[PATH_BYTES + 8], *text;

	(void)state;
	assert_int_equal(path_make(taken, "%s/taken", home), OK);
	assert_int_equal(dir_make(taken), OK);
	snprintf(file, sizeof(file), "%s/mine", taken);
	assert_int_equal(file_write(file, "mine", 4), OK);
	snprintf(slash, sizeof(slash), "%s//", taken);
	assert_int_equal(synth_make(taken, &small, counts), FAILED);
	assert_int_equal(synth_make(slash, &small, counts), FAILED);
	assert_int_equal(synth_make(file, &small, counts), FAILED);
	assert_int_equal(file_read(file, &text, NULL), OK);
	assert_string_equal(text, "mine");
	free(text);
	assert_int_equal(shell("rm -r %s", taken), 0);
	assert_true(nothing_left("taken"));
}

/* The program of this build. */
static const char *program(void)
{
	static char path[PATH_BYTES];
	const char *build = getenv("SFSCALE_BUILD");

	snprintf(path, sizeof(path), "%s/sfscale", build ? build : "build");
	return path;
}

static void an_interrupted_maker_leaves_nothing(void **state)
{
	char cut[PATH_BYTES];
	pid_t child;
	int status;

	(void)state;
	assert_int_equal(path_make(cut, "%s/cut", home), OK);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		execl(program(), program(), "data", "make", cut, "--videos", "1", "--seconds", "897", (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 1000 && nothing_left("cut") && !waitpid(child, &status, WNOHANG); i++)
		usleep(10000);
	assert_false(nothing_left("cut"));
	assert_int_equal(kill(child, SIGTERM), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 2);
	assert_true(nothing_left("cut"));
}

static void the_exit_status_is_the_verdict(void **state)
{
	static const struct {
		const char *words;
		int status;
	} cases[] = {
		{ "data check made", 0 },
		{ "data check --headers --json made", 0 },
		{ "data check", 1 },
		{ "data check made made", 1 },
		{ "data check --threads 100000 made", 1 },
		{ "data check nowhere", 2 },
		{ "data check .", 3 },
		{ "data make made", 2 },
		{ "data make", 1 },
		{ "data make new --seconds 898", 1 },
		{ "data make new --seconds 0", 1 },
		{ "data make new --videos 0", 1 },
		{ "data make new --quality 101", 1 },
		{ "data make new --width 8", 1 },
		{ "data make new --depth 8", 1 },
		{ "data make made/frame_lists/train.csv/new", 2 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char whole[PATH_BYTES];

		assert_non_null(realpath(program(), whole));
		assert_int_equal(shell("cd %s && %s %s >log 2>&1", home, whole, cases[i].words), cases[i].status);
	}
	assert_true(nothing_left("new"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_seed_and_the_options_decide_every_byte),
		cmocka_unit_test(maker_checker_and_reader_count_the_same),
		cmocka_unit_test(a_video_has_as_many_frames_around_its_keyframes_as_in_ava),
		cmocka_unit_test(the_colour_of_a_person_is_its_label),
		cmocka_unit_test(a_damaged_line_is_named_with_its_file),
		cmocka_unit_test(a_damaged_frame_is_named_with_its_line),
		cmocka_unit_test(a_file_that_is_absent_is_one_finding),
		cmocka_unit_test(a_file_of_boxes_that_is_empty_is_one_finding),
		cmocka_unit_test(findings_are_counted_beyond_those_shown),
		cmocka_unit_test(a_full_disk_leaves_nothing),
		cmocka_unit_test(a_folder_that_exists_is_left_alone),
		cmocka_unit_test(an_interrupted_maker_leaves_nothing),
		cmocka_unit_test(the_exit_status_is_the_verdict),
	};

	return cmocka_run_group_tests(tests, make_home, drop_home);
}
