/*
 * tests/test_loader.c - the data set's rows and index, the sampler, clips, and the policies.
 *
 * Its data set: two videos of 100 small frames, nine keyframes each, made here.  The keyframes
 * behind second 903 lie beyond the last frame, as at the end of a short film.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/record.h"
#include "bench/base/rng.h"
#include "kernels/net.h"
#include "loader/ava.h"
#include "loader/clip.h"
#include "loader/limits.h"
#include "loader/loader.h"
#include "loader/sampler.h"
#include "loader/workers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <turbojpeg.h>
#include <unistd.h>
#include <cmocka.h>

enum { WIDTH = 64, HEIGHT = 48, FRAMES = 100, VIDEOS = 2, KEYFRAMES = 9, EXAMPLES = VIDEOS * KEYFRAMES };

static char data[64];		/* the good data set */
static const char *const videos[VIDEOS] = { "first_2", "second" };

/* ---- a data set ------------------------------------------------------------------------ */

static FILE *open_below(const char *dir, const char *name, const char *mode)
{
	char path[PATH_BYTES], *slash;
	FILE *f;

	assert_int_equal(path_make(path, "%s/%s", dir, name), OK);
	slash = strrchr(path, '/');
	*slash = '\0';
	assert_int_equal(dir_make(path), OK);
	*slash = '/';
	f = fopen(path, mode);
	assert_non_null(f);
	return f;
}

static void write_frame(const char *dir, const char *video, size_t number, size_t width, size_t height)
{
	uint8_t *rgb = malloc(3 * width * height);
	unsigned char *jpeg = NULL;
	unsigned long bytes = 0;
	tjhandle c = tjInitCompress();
	char name[PATH_BYTES];
	FILE *f;

	for (size_t i = 0; i < width * height; i++) {
		rgb[3 * i] = (uint8_t)(4 * (i % width));
		rgb[3 * i + 1] = (uint8_t)(5 * (i / width));
		rgb[3 * i + 2] = (uint8_t)(2 * number + (video[0] == 's' ? 40 : 0));
	}
	assert_int_equal(tjCompress2(c, rgb, (int)width, 0, (int)height, TJPF_RGB, &jpeg, &bytes, TJSAMP_444, 95, 0), 0);
	assert_int_equal(path_make(name, AVA_FRAMES "/" AVA_FRAME_PATH, video, video, number), OK);
	f = open_below(dir, name, "w");
	assert_int_equal(fwrite(jpeg, 1, bytes, f), bytes);
	fclose(f);
	tjFree(jpeg);
	tjDestroy(c);
	free(rgb);
}

static void make_data(char dir[64])
{
	const char *tmp = getenv("TMPDIR");
	FILE *frames, *truth, *predicted;

	snprintf(dir, 64, "%.40s/sfscale-loader-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	frames = open_below(dir, AVA_TRAIN_FRAMES, "w");
	truth = open_below(dir, AVA_TRAIN_TRUTH, "w");
	predicted = open_below(dir, AVA_TRAIN_PREDICTED, "w");
	fprintf(frames, "%s\n", AVA_FRAMES_HEADER);
	for (size_t v = 0; v < VIDEOS; v++) {
		for (size_t i = 1; i <= FRAMES; i++) {
			write_frame(dir, videos[v], i, WIDTH, HEIGHT);
			fprintf(frames, "%s %zu %zu " AVA_FRAME_PATH " \"\"\n", videos[v], v, i - 1, videos[v], videos[v], i);
		}
		for (size_t s = 0; s < KEYFRAMES; s++) {
			fprintf(truth, "%s,%04zu,0.100,0.200,0.500,0.900,12,0\n", videos[v], 902 + s);
			fprintf(truth, "%s,%04zu,0.100,0.200,0.500,0.900,80,0\n", videos[v], 902 + s);
			/* Twice the same box with an action; a box of nobody's; one that scores too low. */
			fprintf(predicted, "%s,%04zu,0.100,0.200,0.500,0.900,1,0.95\n", videos[v], 902 + s);
			if (s % 2)
				fprintf(predicted, "%s,%04zu,0.6,0,1,0.5,,0.8\n", videos[v], 902 + s);
			fprintf(predicted, "%s,%04zu,0.3,0.3,0.4,0.4,5,0.79\n", videos[v], 902 + s);
		}
	}
	fclose(frames);
	fclose(truth);
	fclose(predicted);
}

static int set_up(void **state)
{
	(void)state;
	make_data(data);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	dir_remove(data);
	return 0;
}

static struct loader_config config_of(const char *policy, size_t workers)
{
	return (struct loader_config){
		.data = data, .policy = policy, .workers = workers, .prefetch = 2, .clips = 2, .frames = 8, .alpha = 4,
		.rate = 2, .crop = 32, .scale_min = 36, .scale_max = 60, .seed = 5, .world = 1, .epochs = 2,
	};
}

/* ---- sampler, frames ------------------------------------------------------------------- */

static void the_order_of_an_epoch_is_that_of_torch_randperm(void **state)
{
	static const uint32_t want[2][10] = { { 4, 1, 7, 5, 3, 9, 0, 8, 6, 2 }, { 5, 6, 1, 2, 0, 8, 9, 3, 7, 4 } };
	struct sampler s;

	(void)state;
	assert_int_equal(sampler_init(&s, 10, 1), OK);
	for (size_t seed = 0; seed < 2; seed++) {
		sampler_draw(&s, seed);
		for (size_t i = 0; i < 10; i++)
			assert_int_equal(sampler_at(&s, 0, i), want[seed][i]);
	}
	sampler_release(&s);
}

static void ranks_share_an_epoch_filled_up_from_its_beginning(void **state)
{
	static const uint32_t want[4][3] = { { 4, 3, 6 }, { 1, 9, 2 }, { 7, 0, 4 }, { 5, 8, 1 } };

	(void)state;
	for (size_t rank = 0; rank < 4; rank++) {
		struct sampler s;

		assert_int_equal(sampler_init(&s, 10, 4), OK);
		sampler_draw(&s, 0);
		assert_int_equal(s.share, 3);
		for (size_t i = 0; i < 3; i++)
			assert_int_equal(sampler_at(&s, rank, i), want[rank][i]);
		sampler_release(&s);
	}
}

static void the_slow_pathway_gets_the_frames_of_the_spec(void **state)
{
	static const struct { size_t frames, alpha, slow[16], old_last; } cases[] = {
		{ 32, 4, { 0, 4, 8, 13, 17, 22, 26, 31 }, 30 },
		{ 16, 4, { 0, 5, 10, 15 }, 15 },
		{ 64, 4, { 0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63 }, 62 },
		{ 32, 8, { 0, 10, 20, 31 }, 31 },
		{ 8, 4, { 0, 7 }, 7 },
		{ 4, 4, { 0 }, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct clip_geometry g = { .frames = cases[i].frames, .alpha = cases[i].alpha };

		for (size_t k = 0; k < g.frames / g.alpha; k++)
			assert_int_equal(clip_slow_frame(&g, k), cases[i].slow[k]);
		g.old_linspace = true;
		for (size_t k = 0; k + 1 < g.frames / g.alpha; k++)
			assert_int_equal(clip_slow_frame(&g, k), cases[i].slow[k]);
		assert_int_equal(clip_slow_frame(&g, g.frames / g.alpha - 1), cases[i].old_last);
	}
}

static void a_clip_is_a_window_around_its_keyframe_within_the_film(void **state)
{
	struct clip_geometry g = { .frames = 32, .rate = 2 };
	size_t frames[32];

	(void)state;
	clip_frames(&g, ava_keyframe(902), 27030, frames);
	assert_int_equal(frames[0], 60 - 32);
	assert_int_equal(frames[16], 60);
	assert_int_equal(frames[31], 60 + 30);
	clip_frames(&g, 10, 30, frames);
	assert_int_equal(frames[0], 0);
	assert_int_equal(frames[11], 0);
	assert_int_equal(frames[12], 2);
	assert_int_equal(frames[31], 29);
}

/* ---- rows and index -------------------------------------------------------------------- */

static void a_row_that_is_none_says_why(void **state)
{
	static const struct { const char *line, *why; } boxes[] = {
		{ "v,0902,0.1,0.2,0.3,0.4,80,1", NULL },
		{ "v,902,0,0,1,1,,0.95\r", NULL },
		{ "v,902,0,0,1,1,-1,0.95", NULL },
		{ "v,902,0,0,1,1,80", "7 fields" },
		{ "v,902,0,0,1,1,80,1,2", "9 fields" },
		{ "", "1 fields" },
		{ ",902,0,0,1,1,80,1", "no video" },
		{ "v,x,0,0,1,1,80,1", "second 'x'" },
		{ "v,902.5,0,0,1,1,80,1", "second '902.5'" },
		{ "v,902,0,0,1.01,1,80,1", "coordinate '1.01'" },
		{ "v,902,nan,0,1,1,80,1", "coordinate 'nan'" },
		{ "v,902,0,,1,1,80,1", "coordinate ''" },
		{ "v,902,0.5,0,0.4,1,80,1", "second corner" },
		{ "v,902,0,0,1,1,81,1", "action '81'" },
		{ "v,902,0,0,1,1,0,1", "action '0'" },
		{ "v,902,0,0,1,1,80,high", "'high'" },
	};
	static const struct { const char *line, *why; } frames[] = {
		{ "v 0 12 v/v_000013.jpg \"\"", NULL },
		{ "v 0 12 v/v_000013.jpg", "4 fields" },
		{ "v 0 12 v/v_000013.jpg \"\" more", "6 fields" },
	};
	char line[128], why[AVA_WHY_BYTES];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(boxes); i++) {
		struct ava_box_row row;

		strcpy(line, boxes[i].line);
		assert_int_equal(ava_box_row(line, &row, why), boxes[i].why ? FAILED : OK);
		if (boxes[i].why)
			assert_non_null(strstr(why, boxes[i].why));
	}
	for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
		struct ava_frame_row row;

		strcpy(line, frames[i].line);
		assert_int_equal(ava_frame_row(line, &row, why), frames[i].why ? FAILED : OK);
		if (frames[i].why)
			assert_non_null(strstr(why, frames[i].why));
	}
}

static void boxes_with_the_same_four_texts_are_one(void **state)
{
	struct ava_index ix;

	(void)state;
	assert_int_equal(ava_index_read(&ix, data), OK);
	assert_int_equal(ix.video_count, VIDEOS);
	assert_int_equal(ix.frame_count, VIDEOS * FRAMES);
	assert_int_equal(ix.run_count, VIDEOS);
	assert_int_equal(ix.example_count, EXAMPLES);
	assert_int_equal(ix.box_count, EXAMPLES + VIDEOS * (KEYFRAMES / 2));
	for (size_t i = 0; i < EXAMPLES; i++) {
		const struct ava_example *e = &ix.examples[i];
		const struct ava_box *b = &ix.boxes[e->first_box];

		assert_int_equal(e->video, i / KEYFRAMES);
		assert_int_equal(e->second, 902 + i % KEYFRAMES);
		assert_int_equal(e->box_count, i % KEYFRAMES % 2 ? 2 : 1);
		/* Actions 1, 12 and 80, and none for the box of nobody. */
		assert_int_equal(b->labels[0], 1);
		assert_int_equal(b->labels[1], 1 << 3);
		assert_int_equal(b->labels[9], 1 << 7);
		for (size_t k = 0; k < AVA_CLASSES / 8 && e->box_count == 2; k++)
			assert_int_equal(b[1].labels[k], 0);
	}
	ava_index_release(&ix);
}

static void paths_come_back_whatever_their_names(void **state)
{
	static const char *const paths[] = {
		"a/a_000001.jpg", "a/a_000002.jpg", "a/a_000004.jpg", "x9.jpg", "x10.jpg", "x11.jpg", "x011.jpg", "plain", "plain",
		"12345678901234567890.jpg", "12345678901234567891.jpg", "99/f.jpg", "100/f.jpg", "100/g.jpg", "_99", "_0100",
		"a8", "a9", "a10", "a98", "a099", "a100", "a101", "a101x", "a102", "_0999999998", "_0999999999", "_1000000000",
	};
	enum { TURNS, ONE_AFTER_ANOTHER, ORDERS };
	char dir[64], path[PATH_BYTES], want[PATH_BYTES];
	struct ava_index ix, copy;
	FILE *f, *stream;

	(void)state;
	make_data(dir);
	for (int order = 0; order < ORDERS; order++) {
		stream = tmpfile();
		f = open_below(dir, AVA_TRAIN_FRAMES, "w");
		fprintf(f, "%s\n", AVA_FRAMES_HEADER);
		for (size_t k = 0; k < VIDEOS * ARRAY_LEN(paths); k++) {
			size_t v = order == TURNS ? k % VIDEOS : k / ARRAY_LEN(paths);
			size_t i = order == TURNS ? k / VIDEOS : k % ARRAY_LEN(paths);

			fprintf(f, "%s %zu %zu %s \"\"\n", videos[v], v, i, paths[i]);
		}
		fclose(f);
		assert_int_equal(ava_index_read(&ix, dir), OK);
		assert_int_equal(ava_index_write(&ix, stream), OK);
		rewind(stream);
		assert_int_equal(ava_index_rebuild(&copy, stream), OK);
		assert_int_equal(copy.run_count, ix.run_count);
		for (size_t v = 0; v < VIDEOS; v++) {
			assert_int_equal(ix.videos[v].frame_count, ARRAY_LEN(paths));
			for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
				snprintf(want, sizeof(want), "%s/" AVA_FRAMES "/%s", dir, paths[i]);
				assert_int_equal(ava_index_path(&ix, v, i, path), OK);
				assert_string_equal(path, want);
				assert_int_equal(ava_index_path(&copy, v, i, path), OK);
				assert_string_equal(path, want);
			}
		}
		assert_int_equal(copy.example_count, ix.example_count);
		assert_memory_equal(copy.boxes, ix.boxes, ix.box_count * sizeof(*ix.boxes));
		fclose(stream);
		ava_index_release(&copy);
		ava_index_release(&ix);
	}
	dir_remove(dir);
}

static void a_name_travels_as_it_is(void **state)
{
	struct ava_video video = { .name = "\v\f9 " };
	const struct ava_index ix = { .videos = &video, .video_count = 1, .root = "folder" };
	struct ava_index copy;
	FILE *stream = tmpfile();

	(void)state;
	assert_int_equal(ava_index_write(&ix, stream), OK);
	rewind(stream);
	assert_int_equal(ava_index_rebuild(&copy, stream), OK);
	assert_string_equal(copy.videos[0].name, video.name);
	fclose(stream);
	ava_index_release(&copy);
}

static void a_broken_data_set_is_named_with_file_and_line(void **state)
{
	static const struct { const char *file, *line, *say; } cases[] = {
		{ AVA_TRAIN_FRAMES, "too few fields", "train.csv:202: 3 fields" },
		{ AVA_TRAIN_FRAMES, "third 2 0 x.jpg \"\"", "video 'third' has frames and no box" },
		{ AVA_TRAIN_TRUTH, "second,0901,0,0,1,1,2,0", "ava_train_v2.2.csv:37: second 901 is not in 902..1798" },
		{ AVA_TRAIN_TRUTH, "other,0902,0,0,1,1,2,0", "ava_train_v2.2.csv:37: video 'other'" },
		{ AVA_TRAIN_PREDICTED, "second,0902,0,0,1,1,99,0.9", "_v2.2.csv:45: action '99'" },
	};
	struct ava_index ix;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char dir[64];
		FILE *f;

		make_data(dir);
		f = open_below(dir, cases[i].file, "a");
		fprintf(f, "%s\n", cases[i].line);
		fclose(f);
		assert_int_equal(ava_index_read(&ix, dir), FAILED);
		assert_non_null(strstr(err_last(), cases[i].say));
		dir_remove(dir);
	}
	assert_int_equal(ava_index_read(&ix, "/nowhere/at/all"), FAILED);
	assert_non_null(strstr(err_last(), "/nowhere/at/all"));
}

/* ---- clips ----------------------------------------------------------------------------- */

static void a_box_moves_with_the_pixels(void **state)
{
	const struct ava_box box = { .x1 = 0.25f, .y1 = 0, .x2 = 0.5f, .y2 = 1 };
	/* A frame of 64 x 48 at twice its size, the crop of 32 at (20, 10). */
	struct clip_view v = { .width = 64, .height = 48, .wide = 128, .high = 96, .x = 20, .y = 10 };
	const struct clip_geometry g = { .crop = 32 }, whole = { .rule = CLIP_TEST, .crop = 96, .width = 128, .height = 96 };
	float roi[4];

	(void)state;
	clip_roi(&v, &g, &box, roi);
	assert_true(roi[0] == 12 && roi[1] == 0 && roi[2] == 31 && roi[3] == 31);
	v.flip = true;
	clip_roi(&v, &g, &box, roi);
	assert_true(roi[0] == 0 && roi[2] == 19);
	v.x = 90;		/* right of the box: nothing is left of it, and it stays */
	v.flip = false;
	clip_roi(&v, &g, &box, roi);
	assert_true(roi[0] == 0 && roi[2] == 0);
	clip_view_test(&v, &whole, 64, 48);
	clip_roi(&v, &whole, &box, roi);
	assert_true(v.wide == 128 && v.high == 96 && roi[0] == 32 && roi[1] == 0 && roi[2] == 64 && roi[3] == 94);
}

static void the_view_of_a_clip_depends_on_seed_epoch_and_example(void **state)
{
	const struct clip_geometry g = { .crop = 224, .scale_min = 256, .scale_max = 320 };
	size_t flips = 0, differ = 0;
	struct clip_view first;

	(void)state;
	clip_view_draw(&first, &g, 340, 256, 1, 0, 0);
	for (size_t i = 0; i < 1000; i++) {
		struct clip_view v, again;

		clip_view_draw(&v, &g, 340, 256, 1, i % 10, i / 10);
		clip_view_draw(&again, &g, 340, 256, 1, i % 10, i / 10);
		assert_memory_equal(&v, &again, sizeof(v));
		assert_in_range(v.high, 256, 320);
		assert_int_equal(v.wide, (size_t)floor(340.0 / 256 * (double)v.high));
		assert_in_range(v.x, 0, v.wide - 224 - 1);
		assert_in_range(v.y, 0, v.high - 224 - 1);
		flips += v.flip;
		differ += v.x != first.x || v.y != first.y || v.high != first.high;
	}
	assert_in_range(flips, 400, 600);
	assert_true(differ > 900);
}

static void validation_sees_the_middle_of_a_frame_scaled_to_the_crop(void **state)
{
	static const struct {
		size_t width, height;
		struct clip_view view;
	} cases[] = {
		{ 340, 256, { 340, 256, 297, 224, 37, 0, false } },	/* the offset is rounded up */
		{ 256, 341, { 256, 341, 224, 298, 0, 37, false } },
		{ 400, 224, { 400, 224, 400, 224, 88, 0, false } },	/* not scaled */
		{ 100, 100, { 100, 100, 224, 224, 0, 0, false } },
	};
	const struct clip_geometry g = { .rule = CLIP_VAL, .crop = 224 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct clip_view v;

		clip_view_val(&v, &g, cases[i].width, cases[i].height);
		assert_memory_equal(&v, &cases[i].view, sizeof(v));
	}
}

static void pixels_are_scaled_as_cv2_scales_them(void **state)
{
	enum { W = 8, H = 6, CROP = 5 };
	/* cv2.resize(image, (wide, high), interpolation=cv2.INTER_LINEAR)[y:y+5, x:x+5, channel] of OpenCV 4.14. */
	static const struct { struct clip_view view; int channel, want[CROP * CROP]; } cases[] = {
		{ { W, H, 13, 10, 8, 5, false }, 0,
		  { 115, 139, 149, 189, 217, 74, 93, 138, 184, 216, 48, 29, 79, 129, 163, 92, 119, 173, 138, 110, 122, 179, 235,
		    144, 75 } },
		{ { W, H, 13, 10, 8, 5, false }, 2,
		  { 169, 140, 56, 90, 119, 153, 146, 97, 78, 66, 85, 135, 185, 87, 13, 171, 172, 131, 120, 114, 228, 196, 95,
		    142, 181 } },
		{ { W, H, 7, 5, 0, 0, true }, 0,
		  { 12, 55, 99, 130, 160, 122, 164, 162, 131, 100, 104, 150, 123, 133, 143, 86, 137, 85, 135, 70, 180, 64, 148,
		    137, 109 } },
		{ { W, H, 7, 5, 0, 0, false }, 2,
		  { 118, 156, 179, 223, 118, 151, 171, 89, 109, 129, 82, 128, 101, 111, 121, 179, 85, 114, 113, 112, 70, 150,
		    172, 115, 206 } },
		{ { W, H, W, H, 1, 0, false }, 1, { 0 } },	/* not scaled: the pixels themselves */
	};
	const struct clip_geometry g = { .frames = 2, .alpha = 2, .rate = 1, .crop = CROP };
	float tensor[2 * 3 * CROP * CROP], slow[3 * CROP * CROP];
	struct clip_maker m;

	(void)state;
	assert_int_equal(clip_maker_init(&m, &g), OK);
	m.jpeg.rgb = m.jpeg.memory = calloc(W * H * 3 + JPEG_SPARE, 1);
	m.jpeg.window = (struct jpeg_window){ .width = W, .height = H };
	for (size_t i = 0; i < W * H; i++)
		for (size_t c = 0; c < 3; c++)
			m.jpeg.rgb[3 * i + c] = (uint8_t)(37 * (i % W) + 91 * (i / W) + 53 * c + 11 * (i % W) * (i / W));
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		const struct clip_view *v = &cases[k].view;

		clip_view_use(&m, v);
		clip_pixels(&m, tensor, 1, slow, 0);	/* the second frame of two */
		for (size_t i = 0; i < CROP * CROP; i++) {
			size_t x = i % CROP, y = i / CROP, c = (size_t)cases[k].channel;
			size_t at = v->flip ? y * CROP + CROP - 1 - x : i;
			int want = v->wide == W ? m.jpeg.rgb[3 * ((y + v->y) * W + x + v->x) + c] : cases[k].want[at];
			float got = tensor[(2 * c + 1) * CROP * CROP + i];

			assert_float_equal(got, ((float)want / 255 - 0.45f) / 0.225f, 2e-6);
			assert_true(slow[c * CROP * CROP + i] == got);
		}
	}
	clip_maker_release(&m);
}

/* As in tests/reference/cv2_resize.py. */
static uint32_t draw_below(uint64_t *draw, uint32_t n)
{
	*draw = *draw * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*draw >> 33) % n;
}

static void a_hundred_random_images_are_within_a_grey_level_of_cv2(void **state)
{
	enum { CROP = 10, PLANE = CROP * CROP };
	const struct clip_geometry g = { .frames = 1, .alpha = 1, .rate = 1, .crop = CROP };
	size_t bytes, differ = 0;
	float tensor[3 * PLANE];
	uint64_t draw = 1;
	char *want;

	(void)state;
	assert_int_equal(file_read("tests/data/cv2_resize.bin", &want, &bytes), OK);
	assert_int_equal(bytes, 100 * 3 * PLANE);
	for (size_t k = 0; k < 100; k++) {
		struct clip_view v = { 0 };
		struct clip_maker m;

		v.width = 2 + draw_below(&draw, 39);
		v.height = 2 + draw_below(&draw, 39);
		v.wide = CROP + draw_below(&draw, 31);
		v.high = CROP + draw_below(&draw, 31);
		v.x = draw_below(&draw, (uint32_t)v.wide - CROP + 1);
		v.y = draw_below(&draw, (uint32_t)v.high - CROP + 1);
		assert_int_equal(clip_maker_init(&m, &g), OK);
		m.jpeg.rgb = m.jpeg.memory = calloc(3 * v.width * v.height + JPEG_SPARE, 1);
		m.jpeg.window = (struct jpeg_window){ .width = v.width, .height = v.height };
		for (size_t i = 0; i < 3 * v.width * v.height; i++)
			m.jpeg.rgb[i] = (uint8_t)draw_below(&draw, 256);
		clip_view_use(&m, &v);
		clip_pixels(&m, tensor, 0, NULL, 0);
		for (size_t i = 0; i < 3 * PLANE; i++) {
			long got = lrintf((tensor[i % 3 * PLANE + i / 3] * 0.225f + 0.45f) * 255);
			long off = labs(got - (uint8_t)want[3 * PLANE * k + i]);

			assert_true(off <= 1);
			differ += off;
		}
		clip_maker_release(&m);
	}
	print_message("%zu of %zu pixels differ, by 1\n", differ, bytes);
	free(want);
}

/* A frame of `width` x `height`, 3 bytes a pixel, of noise. */
static uint8_t *noise(struct rng *rng, size_t width, size_t height)
{
	uint8_t *rgb = calloc(3 * width * height + JPEG_SPARE, 1);

	for (size_t i = 0; i < 3 * width * height; i++)
		rgb[i] = (uint8_t)rng_u32(rng);
	return rgb;
}

static void vector_instructions_change_no_bit(void **state)
{
	enum { CROP_MOST = 70, FLOATS = 3 * 72 * 72 };	/* room for an odd beginning */
	float *both = aligned_alloc(64, 2 * 2 * FLOATS * sizeof(*both));
	static uint8_t crops[2][FLOATS];
	struct rng rng;

	(void)state;
	rng_init(&rng, 3, 0);
	for (size_t k = 0; k < 60; k++) {
		struct clip_geometry g = { .frames = 1, .alpha = 1, .rate = 1, .crop = 1 + rng_below(&rng, CROP_MOST) };
		size_t width = 2 + rng_below(&rng, 100), height = 2 + rng_below(&rng, 100), bytes = 3 * g.crop * g.crop * sizeof(float);
		struct clip_maker m;
		struct clip_view v;

		g.scale_min = g.crop + rng_below(&rng, 20);
		g.scale_max = g.scale_min + rng_below(&rng, 20);
		assert_int_equal(clip_maker_init(&m, &g), OK);
		if (!m.vectors) {
			puts("SKIP: no AVX2");
			skip();
		}
		m.jpeg.rgb = m.jpeg.memory = noise(&rng, width, height);
		m.jpeg.window = (struct jpeg_window){ .width = width, .height = height };
		clip_view_draw(&v, &g, width, height, 1, 0, k);
		clip_view_use(&m, &v);
		for (int i = 0; i < 2; i++) {
			m.vectors = i;
			/* Both at an aligned and at an odd address. */
			clip_pixels(&m, both + 2 * FLOATS * i + k % 2, 0, both + 2 * FLOATS * i + FLOATS, 0);
		}
		assert_memory_equal(both + k % 2, both + 2 * FLOATS + k % 2, bytes);
		for (int i = 0; i < 2; i++) {
			m.vectors = i;
			clip_crop(&m, crops[i] + k % 2, 0);
		}
		for (size_t i = 0; i < bytes / sizeof(float); i++)
			assert_true(net_pixel(crops[1][k % 2 + i]) == both[i % 3 * g.crop * g.crop + i / 3 + k % 2]);
		assert_memory_equal(crops[0] + k % 2, crops[1] + k % 2, bytes / sizeof(float));
		assert_memory_equal(both + FLOATS, both + 3 * FLOATS, bytes);
		assert_memory_equal(both + FLOATS, both + k % 2, bytes);
		clip_maker_release(&m);
	}
	free(both);
}

/* Writes a JPEG of noise with that chroma. */
static void write_noise(const char *path, struct rng *rng, size_t width, size_t height, int sampling, int flags)
{
	uint8_t *rgb = noise(rng, width, height);
	unsigned char *jpeg = NULL;
	unsigned long bytes = 0;
	tjhandle c = tjInitCompress();

	assert_int_equal(tjCompress2(c, rgb, (int)width, 0, (int)height, TJPF_RGB, &jpeg, &bytes, sampling, 90, flags), 0);
	assert_int_equal(file_write(path, jpeg, bytes), OK);
	tjFree(jpeg);
	tjDestroy(c);
	free(rgb);
}

static void a_window_has_the_pixels_of_the_whole_frame(void **state)
{
	static const struct { int sampling, flags; } cases[] = {
		{ TJSAMP_444, 0 }, { TJSAMP_422, 0 }, { TJSAMP_420, 0 }, { TJSAMP_440, 0 }, { TJSAMP_411, 0 }, { TJSAMP_GRAY, 0 },
		{ TJSAMP_420, TJFLAG_PROGRESSIVE },
	};
	char path[PATH_BYTES], why[2 * PATH_BYTES];
	struct jpeg_reader whole, part;
	struct rng rng;

	(void)state;
	rng_init(&rng, 4, 0);
	assert_int_equal(path_make(path, "%s/noise.jpg", data), OK);
	assert_int_equal(jpeg_reader_init(&whole), OK);
	assert_int_equal(jpeg_reader_init(&part), OK);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		write_noise(path, &rng, 70 + rng_below(&rng, 30), 60 + rng_below(&rng, 30), cases[i].sampling, cases[i].flags);
		assert_int_equal(jpeg_read(&whole, path, why, sizeof(why)), OK);
		for (size_t k = 0; k < 100; k++) {
			struct jpeg_window w = { .x = rng_below(&rng, (uint32_t)whole.width),
						 .y = rng_below(&rng, (uint32_t)whole.height) };

			w.width = 1 + rng_below(&rng, (uint32_t)(whole.width - w.x));
			w.height = 1 + rng_below(&rng, (uint32_t)(whole.height - w.y));
			assert_int_equal(jpeg_open(&part, path, why, sizeof(why)), OK);
			assert_int_equal(jpeg_decode(&part, path, &w, why, sizeof(why)), OK);
			assert_true(part.window.x <= w.x && w.x + w.width <= part.window.x + part.window.width);
			assert_true(part.window.y <= w.y && w.y + w.height <= part.window.y + part.window.height);
			for (size_t y = w.y; y < w.y + w.height; y++)
				assert_memory_equal(part.rgb + 3 * ((y - part.window.y) * part.window.width + w.x - part.window.x),
						    whole.rgb + 3 * (y * whole.width + w.x), 3 * w.width);
		}
	}
	jpeg_reader_release(&part);
	jpeg_reader_release(&whole);
}

/* ---- policies -------------------------------------------------------------------------- */

/* A whole run; FNV-1a over everything that it delivered, and the checksum of each epoch. */
static int run_all(const struct loader_config *c, uint64_t *tensors, uint64_t *checksums)
{
	struct loader *ld;
	int rc = loader_open(&ld, c);

	if (rc)
		return rc;
	*tensors = 0xcbf29ce484222325ull;
	for (size_t e = 0; e < c->epochs && !rc; e++) {
		rc = loader_epoch_begin(ld, e);
		for (size_t i = 0; i < loader_iterations(ld) && !rc; i++) {
			size_t plane = c->crop * c->crop;
			struct clip_batch b;

			rc = loader_next(ld, &b);
			if (rc)
				break;
			const struct { const void *at; size_t bytes; } parts[] = {
				{ b.slow, c->crops ? 0 : b.clips * 3 * c->frames / c->alpha * plane * sizeof(float) },
				{ c->crops ? (const void *)b.crops : b.fast,
				  b.clips * 3 * c->frames * plane * (c->crops ? 1 : sizeof(float)) },
				{ b.rois, b.boxes * 5 * sizeof(float) },
				{ b.labels, b.boxes * AVA_CLASSES * sizeof(float) },
				{ b.meta, b.boxes * 2 * sizeof(int64_t) },
			};

			assert_int_equal(b.bytes, parts[0].bytes + parts[1].bytes);
			assert_true(c->crops ? b.crops && !b.slow && !b.fast : !b.crops && b.slow && b.fast);
			assert_true(b.boxes <= loader_boxes_max(ld));
			for (size_t k = 0; k < ARRAY_LEN(parts); k++)
				for (size_t at = 0; at < parts[k].bytes; at += 4) {
					uint32_t word;

					memcpy(&word, (const char *)parts[k].at + at, 4);
					*tensors = (*tensors ^ word) * 0x100000001b3ull;
				}
		}
		checksums[e] = loader_checksum(ld);
	}
	loader_close(ld);
	return rc;
}

static void the_choices_of_an_option_are_the_policies(void **state)
{
	char names[128] = "";

	(void)state;
	for (const struct loader_policy *p = loader_policies; p->name; p++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", *names ? "|" : "", p->name);
	assert_string_equal(names, LOADER_POLICIES);
}

static void all_policies_deliver_the_same_tensors_and_the_same_crops(void **state)
{
	static const char *const policies[] = { "threads", "fork", "persistent", "respawn" };
	struct loader_config c = config_of("inline", 0);
	uint64_t want[2], want_sums[2], got, sums[2];

	(void)state;
	for (int crops = 0; crops < 2; crops++) {
		c.crops = crops;
		assert_int_equal(run_all(&c, &want[crops], want_sums), OK);
		assert_true(want_sums[0] != want_sums[1]);
	}
	for (size_t i = 0; i < ARRAY_LEN(policies); i++)
		for (size_t k = 0; k < 2 * 4; k++) {
			size_t workers = k / 2;

			c = config_of(policies[i], workers);
			c.crops = k % 2;
			c.prefetch = workers ? workers : 1;
			assert_int_equal(run_all(&c, &got, sums), OK);
			assert_true(got == want[c.crops]);
			assert_true(sums[0] == want_sums[0] && sums[1] == want_sums[1]);
		}
}

/* A run that is resumed begins later, and must see what the whole run saw from there on. */
/* Channel, frame and place of the tensors against bytes, clip by clip. */
static void finished_crops_are_the_tensors_bit_for_bit(void **state)
{
	struct loader_config c = config_of("inline", 0), as_crops;
	size_t plane = c.crop * c.crop, slow_frames = c.frames / c.alpha;
	struct clip_batch want, got;
	struct loader *ld[2];

	(void)state;
	for (int old = 0; old < 2; old++) {
		c.old_linspace = old;
		as_crops = c;
		as_crops.crops = true;
		assert_int_equal(loader_open(&ld[0], &c), OK);
		assert_int_equal(loader_open(&ld[1], &as_crops), OK);
		for (int i = 0; i < 2; i++)
			assert_int_equal(loader_epoch_begin(ld[i], 0), OK);
		for (size_t i = 0; i < loader_iterations(ld[0]); i++) {
			assert_int_equal(loader_next(ld[0], &want), OK);
			assert_int_equal(loader_next(ld[1], &got), OK);
			assert_int_equal(want.bytes, (c.frames + slow_frames) * got.bytes / c.frames * sizeof(float));
			assert_memory_equal(want.rois, got.rois, want.boxes * 5 * sizeof(float));
			for (size_t at = 0; at < want.clips * c.frames * plane * 3; at++) {
				size_t ch = at % 3, pixel = at / 3 % plane, t = at / 3 / plane % c.frames, n = at / 3 / plane / c.frames;

				assert_true(want.fast[((n * 3 + ch) * c.frames + t) * plane + pixel] == net_pixel(got.crops[at]));
			}
			for (size_t at = 0; at < want.clips * 3 * slow_frames * plane; at++) {
				size_t pixel = at % plane, k = at / plane % slow_frames, ch = at / plane / slow_frames % 3;
				size_t n = at / plane / slow_frames / 3, t = net_shown_frame(c.frames, slow_frames, old, k);

				assert_true(want.slow[at] == net_pixel(got.crops[((n * c.frames + t) * plane + pixel) * 3 + ch]));
			}
		}
		loader_close(ld[0]);
		loader_close(ld[1]);
	}
}

static void the_first_epoch_may_be_any(void **state)
{
	static const char *const policies[] = { "inline", "threads", "persistent", "respawn" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
		struct loader_config c = config_of(policies[i], 2);
		uint64_t tensors, sums[3];
		struct clip_batch b;
		struct loader *ld;

		c.epochs = 3;
		assert_int_equal(run_all(&c, &tensors, sums), OK);
		assert_int_equal(loader_open(&ld, &c), OK);
		for (size_t e = 1; e < 3; e++) {
			assert_int_equal(loader_epoch_begin(ld, e), OK);
			for (size_t k = 0; k < loader_iterations(ld); k++)
				assert_int_equal(loader_next(ld, &b), OK);
			assert_true(loader_checksum(ld) == sums[e]);
		}
		loader_close(ld);
	}
}

/* Counts how often each (video, second) comes, over the ranks of a world. */
static void ranks_together_see_every_clip_once_per_epoch(void **state)
{
	(void)state;
	for (size_t world = 1; world <= 3; world++) {
		size_t seen[2][EXAMPLES] = { 0 };

		for (size_t rank = 0; rank < world; rank++) {
			struct loader_config c = config_of("threads", 2);
			struct clip_batch b;
			struct loader *ld;

			c.clips = 1;
			c.rank = rank;
			c.world = world;
			assert_int_equal(loader_open(&ld, &c), OK);
			assert_int_equal(loader_iterations(ld), EXAMPLES / world);
			for (size_t e = 0; e < 2; e++) {
				assert_int_equal(loader_epoch_begin(ld, e), OK);
				for (size_t i = 0; i < loader_iterations(ld); i++) {
					assert_int_equal(loader_next(ld, &b), OK);
					seen[e][b.meta[0] * KEYFRAMES + b.meta[1] - 902]++;
				}
			}
			loader_close(ld);
		}
		for (size_t i = 0; i < EXAMPLES; i++)
			assert_true(seen[0][i] == 1 && seen[1][i] == 1);
	}
}

static void a_configuration_that_cannot_work_is_a_usage_error(void **state)
{
	struct loader_config c;
	struct loader *ld;

	(void)state;
#define CASE(policy, workers, change, say) \
	do { \
		c = config_of(policy, workers); \
		change; \
		assert_int_equal(loader_open(&ld, &c), USAGE); \
		assert_non_null(strstr(err_last(), say)); \
	} while (0)
	CASE("magic", 1, , "unknown loader policy 'magic'");
	CASE("fork", 1, c.prefetch = 0, "prefetch at least 1");
	CASE("inline", 0, c.world = EXAMPLES + 1, "19 ranks are more than the data set has clips (18)");
	CASE("inline", 0, c.clips = EXAMPLES + 1, "too few for a batch of 19");
	CASE("inline", 0, c.scale_min = 31, "crop of 32 does not fit");
	CASE("inline", 0, c.alpha = 3, "8 frames per clip are no multiple of alpha, 3");
	CASE("inline", 0, c.rank = 1, "no rank 1 of 1");
	CASE("null", 0, , "number of iterations");
	CASE("null", 0, (c.iterations_max = 1, c.emulate = "gauss:1"), "gauss");
#undef CASE
}

/* All epochs or until the first failure; the reason is in err_last(). */
static int run_on(struct loader *ld, const struct loader_config *c)
{
	struct clip_batch b;

	for (size_t e = 0; e < c->epochs; e++) {
		if (loader_epoch_begin(ld, e))
			return FAILED;
		for (size_t i = 0; i < loader_iterations(ld); i++)
			if (loader_next(ld, &b))
				return FAILED;
	}
	return OK;
}

static void a_frame_that_is_no_good_is_named(void **state)
{
	enum { TRUNCATED, GARBAGE, EMPTY, ABSENT, OTHER_SIZE, BAD_KINDS };
	static const char *const say[BAD_KINDS] = { "is damaged", "is no JPEG", "is empty", "cannot open", "pixels, others" };
	static const char *const policies[] = { "inline", "threads", "fork", "persistent", "respawn" };

	(void)state;
	for (size_t kind = 0; kind < BAD_KINDS; kind++) {
		char dir[64], bad[PATH_BYTES];
		struct stat st;

		make_data(dir);
		snprintf(bad, sizeof(bad), "%s/" AVA_FRAMES "/" AVA_FRAME_PATH, dir, videos[1], videos[1], (size_t)FRAMES);
		assert_int_equal(stat(bad, &st), 0);
		if (kind == TRUNCATED || kind == EMPTY)
			assert_int_equal(truncate(bad, kind == EMPTY ? 0 : st.st_size - 200), 0);
		else if (kind == ABSENT)
			assert_int_equal(unlink(bad), 0);
		else if (kind == OTHER_SIZE)
			write_frame(dir, videos[1], FRAMES, WIDTH, HEIGHT + 8);
		else
			assert_int_equal(file_write(bad, "no picture at all", 17), OK);
		for (size_t p = 0; p < (kind == TRUNCATED ? ARRAY_LEN(policies) : 1); p++) {
			struct loader_config c = config_of(policies[p], 2);
			struct loader *ld;

			c.data = dir;
			c.frames = 32;		/* so that the last frame stands beside others */
			assert_int_equal(loader_open(&ld, &c), OK);
			assert_int_equal(run_on(ld, &c), FAILED);
			assert_non_null(strstr(err_last(), bad));
			assert_non_null(strstr(err_last(), say[kind]));
			loader_close(ld);
		}
		dir_remove(dir);
	}
}

/* ---- memory ---------------------------------------------------------------------------- */

static void write_below(const char *dir, const char *name, const char *text)
{
	FILE *f = open_below(dir, name, "w");

	fputs(text, f);
	fclose(f);
}

static void the_least_limit_on_memory_is_found_and_named(void **state)
{
	static const struct { const char *cgroup, *file, *text, *used, *stat; size_t mib; const char *who; } cases[] = {
		{ "0::/\n", "sys/fs/cgroup/memory.max", "max\n", "0\n", "", 1000, "MemAvailable" },
		{ "0::/\n", "sys/fs/cgroup/memory.max", "104857600\n", "41943040\n", "anon 1\ninactive_file 20971520\n", 80,
		  "sys/fs/cgroup/memory.max" },
		{ "1:cpu:/x\n0::/job/step\n", "sys/fs/cgroup/job/memory.max", "10485760\n", "0\n", "", 10, "job/memory.max" },
		{ "4:memory:/job\n0::/\n", "sys/fs/cgroup/memory/job/memory.limit_in_bytes", "5242880\n", "9999999999\n", "", 0,
		  "memory.limit_in_bytes" },
		{ "4:memory:/job\n", "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n", "1\n", "", 1000,
		  "MemAvailable" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char root[64], used[128];
		struct limit_found found;

		snprintf(root, sizeof(root), "/tmp/sfscale-limits-XXXXXX");
		assert_non_null(mkdtemp(root));
		write_below(root, "proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    1024000 kB\n");
		write_below(root, "proc/self/cgroup", cases[i].cgroup);
		write_below(root, cases[i].file, cases[i].text);
		snprintf(used, sizeof(used), "%.*s/%s", (int)(strrchr(cases[i].file, '/') - cases[i].file), cases[i].file,
			 strstr(cases[i].file, "limit_in_bytes") ? "memory.usage_in_bytes" : "memory.current");
		write_below(root, used, cases[i].used);
		snprintf(strrchr(used, '/'), 32, "/memory.stat");
		write_below(root, used, cases[i].stat);
		found = limits_least(root, true);
		assert_int_equal(found.bytes >> 20, cases[i].mib);
		assert_non_null(strstr(found.who, cases[i].who));
		dir_remove(root);
	}
}

static void memory_that_is_not_there_is_said_with_its_limit_before_a_worker_starts(void **state)
{
	static const struct { const char *policy; int resource; bool crops; const char *batches, *who; } cases[] = {
		{ "respawn", RLIMIT_FSIZE, false, "5 batches of 15 MiB, 75 MiB in all", "ulimit -f" },
		{ "respawn", RLIMIT_FSIZE, true, "5 batches of 3 MiB, 15 MiB in all", "ulimit -f" },
#ifndef __SANITIZE_ADDRESS__	/* which maps terabytes for itself */
		{ "respawn", RLIMIT_AS, false, "5 batches of 15 MiB, 75 MiB in all", "ulimit -v" },
		{ "threads", RLIMIT_AS, false, "5 batches of 15 MiB, 75 MiB in all", "ulimit -v" },
		{ "threads", RLIMIT_DATA, false, "5 batches of 15 MiB, 75 MiB in all", "ulimit -d" },
#endif
	};
	struct loader_config c = config_of("threads", 2);
	struct rlimit before, low;
	struct loader *ld;
	int rc;

	(void)state;
	c.crop = 256;
	c.scale_min = c.scale_max = 256;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char say[256];

		c.policy = cases[i].policy;
		getrlimit(cases[i].resource, &before);
		low = (struct rlimit){ 1 << 20, before.rlim_max };
		c.crops = cases[i].crops;
		setrlimit(cases[i].resource, &low);
		rc = loader_open(&ld, &c);
		setrlimit(cases[i].resource, &before);
		assert_int_equal(rc, NO_MEMORY);
		snprintf(say, sizeof(say), "no memory for %s: there are %d MiB by %s", cases[i].batches,
			 cases[i].resource == RLIMIT_FSIZE, cases[i].who);
		assert_non_null(strstr(err_last(), say));
	}
	/* Threads need no file. */
	c.policy = "threads";
	getrlimit(RLIMIT_FSIZE, &before);
	low = (struct rlimit){ 1 << 20, before.rlim_max };
	setrlimit(RLIMIT_FSIZE, &low);
	rc = loader_open(&ld, &c);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_int_equal(rc, OK);
	loader_close(ld);
}

/* ---- processes ------------------------------------------------------------------------- */

/* Children of this process, zombies included. */
static size_t children(pid_t *pids, size_t room)
{
	char path[64], *text, *at, *end;
	size_t n = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%ld/children", (long)getpid());
	assert_int_equal(file_read(path, &text, NULL), OK);
	for (at = text; n < room; at = end, n++) {
		pids[n] = (pid_t)strtol(at, &end, 10);
		if (end == at)
			break;
	}
	free(text);
	return n;
}

static size_t entries(const char *path)
{
	DIR *dir = opendir(path);
	size_t n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void a_killed_worker_is_an_error_that_names_it(void **state)
{
	static const char *const policies[] = { "fork", "persistent", "respawn" };

	(void)state;
	for (size_t p = 0; p < ARRAY_LEN(policies); p++) {
		struct loader_config c = config_of(policies[p], 2);
		struct clip_batch b;
		struct loader *ld;
		size_t taken = 0;
		char say[96];
		pid_t pids[8];

		c.prefetch = 1;
		assert_int_equal(loader_open(&ld, &c), OK);
		assert_int_equal(loader_epoch_begin(ld, 0), OK);
		assert_int_equal(children(pids, 8), 2);
		assert_int_equal(kill(pids[1], SIGKILL), 0);
		while (!loader_next(ld, &b))	/* what it had made still counts */
			assert_true(++taken < loader_iterations(ld));
		assert_int_equal(loader_next(ld, &b), FAILED);
		snprintf(say, sizeof(say), "loader worker 1 (process %ld) was killed by signal 9", (long)pids[1]);
		assert_non_null(strstr(err_last(), say));
		loader_close(ld);
		assert_int_equal(children(pids, 8), 0);
	}
}

static void a_worker_that_is_stopped_is_an_error_that_names_it(void **state)
{
	static const char *const policies[] = { "fork", "persistent", "respawn" };

	(void)state;
	for (size_t p = 0; p < ARRAY_LEN(policies); p++) {
		struct loader_config c = config_of(policies[p], 2);
		struct clip_batch b;
		struct loader *ld;
		char say[96];
		pid_t pids[8];

		c.prefetch = 1;
		c.hang_ns = 300000000;
		assert_int_equal(loader_open(&ld, &c), OK);
		assert_int_equal(loader_epoch_begin(ld, 0), OK);
		assert_int_equal(children(pids, 8), 2);
		assert_int_equal(kill(pids[0], SIGSTOP), 0);
		while (!loader_next(ld, &b))
			;
		snprintf(say, sizeof(say), "loader worker 0 (process %ld, stopped) hangs: for 0.3 s", (long)pids[0]);
		assert_non_null(strstr(err_last(), say));
		loader_close(ld);
		assert_int_equal(children(pids, 8), 0);
	}
}

static void a_worker_that_stops_after_its_last_batch_does_not_hold_up_the_epoch(void **state)
{
	struct loader_config c = config_of("fork", 1);
	struct clip_batch b;
	struct loader *ld;
	pid_t pid;

	(void)state;
	c.hang_ns = 300000000;
	c.iterations_max = 1;
	assert_int_equal(loader_open(&ld, &c), OK);
	assert_int_equal(loader_epoch_begin(ld, 0), OK);
	assert_int_equal(children(&pid, 1), 1);
	assert_int_equal(loader_next(ld, &b), OK);
	kill(pid, SIGSTOP);
	assert_int_equal(loader_epoch_begin(ld, 1), OK);
	assert_int_equal(loader_next(ld, &b), OK);
	loader_close(ld);
	assert_int_equal(children(&pid, 1), 0);
}

/* Every read() of a frame: worker 1 is held in it while `held`, those of others are counted. */
static atomic_bool held;
static atomic_size_t reads;

ssize_t read(int fd, void *to, size_t bytes)
{
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	while (held && !strcmp(name, "loader-1"))
		clock_sleep_ns(1000000);
	reads += strcmp(name, "loader-1") != 0;
	return syscall(SYS_read, fd, to, bytes);
}

/* The frames of each batch from the first on. */
static void count_frames(size_t *frames, size_t batches)
{
	struct loader_config c = config_of("inline", 0);
	struct clip_batch b;
	struct loader *ld;

	assert_int_equal(loader_open(&ld, &c), OK);
	assert_int_equal(loader_epoch_begin(ld, 0), OK);
	for (size_t i = 0; i < batches; i++) {
		reads = 0;
		assert_int_equal(loader_next(ld, &b), OK);
		frames[i] = reads;
	}
	loader_close(ld);
}

/* Five batches are made ahead.  Worker 1 is held at its first; the other four are for worker 0, which in turn would make
 * three of them. */
static void a_slow_thread_does_not_hold_the_others_up(void **state)
{
	enum { AHEAD = 5, WAIT_MS = 10000 };
	struct loader_config c = config_of("threads", 2);
	size_t frames[AHEAD], sum = 0, most = 0, in_turn;
	struct loader *ld;

	(void)state;
	count_frames(frames, AHEAD);
	for (size_t i = 0; i < AHEAD; i++) {
		sum += frames[i];
		most = frames[i] > most ? frames[i] : most;
	}
	in_turn = frames[0] + frames[2] + frames[4];
	assert_true(sum - most > in_turn);
	reads = 0;
	held = true;
	assert_int_equal(loader_open(&ld, &c), OK);
	assert_int_equal(loader_epoch_begin(ld, 0), OK);
	for (size_t ms = 0; ms < WAIT_MS && reads < sum - most; ms++)
		clock_sleep_ns(1000000);
	held = false;
	assert_true(reads >= sum - most);
	loader_close(ld);
}

static void frames_that_disappear_during_an_epoch_are_named(void **state)
{
	static const char *const policies[] = { "inline", "threads", "fork", "persistent", "respawn" };

	(void)state;
	for (size_t p = 0; p < ARRAY_LEN(policies); p++) {
		struct loader_config c = config_of(policies[p], 2);
		char dir[64], frames[PATH_BYTES];
		struct clip_batch b;
		struct loader *ld;
		size_t taken = 0;
		pid_t pid;

		make_data(dir);
		c.data = dir;
		c.prefetch = 1;
		c.skip_damaged = true;		/* a file that is not there is no damaged one */
		assert_int_equal(loader_open(&ld, &c), OK);
		assert_int_equal(loader_epoch_begin(ld, 0), OK);
		assert_int_equal(loader_next(ld, &b), OK);
		snprintf(frames, sizeof(frames), "%s/" AVA_FRAMES, dir);
		assert_int_equal(dir_remove(frames), OK);
		while (!loader_next(ld, &b))
			assert_true(++taken < loader_iterations(ld));
		assert_non_null(strstr(err_last(), "cannot open '"));
		loader_close(ld);
		assert_int_equal(children(&pid, 1), 0);
		dir_remove(dir);
	}
}

static void a_worker_that_does_not_come_up_is_an_error(void **state)
{
	struct loader_config c = config_of("respawn", 3);
	struct loader *ld;
	pid_t pid;

	(void)state;
	assert_int_equal(loader_open(&ld, &c), OK);
	assert_int_equal(setenv("SFSCALE_TEST_WORKER", "fails", 1), 0);
	assert_int_equal(loader_epoch_begin(ld, 0), FAILED);
	unsetenv("SFSCALE_TEST_WORKER");
	assert_non_null(strstr(err_last(), "loader worker 0 "));
	assert_non_null(strstr(err_last(), "ended with exit status 7 before batch 0 of epoch 0"));
	loader_close(ld);
	assert_int_equal(children(&pid, 1), 0);
}

static void a_worker_that_stops_while_it_starts_is_an_error(void **state)
{
	struct loader_config c = config_of("respawn", 2);
	struct loader *ld;
	pid_t pid;

	(void)state;
	c.hang_ns = 300000000;
	assert_int_equal(loader_open(&ld, &c), OK);
	assert_int_equal(setenv("SFSCALE_TEST_WORKER", "stops", 1), 0);
	assert_int_equal(loader_epoch_begin(ld, 0), FAILED);
	unsetenv("SFSCALE_TEST_WORKER");
	assert_non_null(strstr(err_last(), "stopped) hangs"));
	loader_close(ld);
	assert_int_equal(children(&pid, 1), 0);
}

/* Started in turn: the second one begins when the first is up. */
static void an_emulated_start_takes_its_time_for_each_worker(void **state)
{
	static const struct { const char *policy; uint64_t least_ns; } cases[] = { { "respawn", 3 * 30000000 }, { "fork", 0 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct loader_config c = config_of(cases[i].policy, 3);
		uint64_t begin;
		struct loader *ld;

		c.start_ns = 30000000;
		c.hang_ns = 200000000;
		assert_int_equal(loader_open(&ld, &c), OK);
		begin = clock_ns();
		assert_int_equal(loader_epoch_begin(ld, 0), OK);
		assert_true(clock_ns() - begin >= cases[i].least_ns);
		loader_close(ld);
	}
}

static void nothing_is_left_after_close(void **state)
{
	static const char *const policies[] = { "inline", "respawn", "fork", "persistent", "threads" };
	size_t descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");

	(void)state;
	for (size_t i = 0; i < 3 * ARRAY_LEN(policies); i++) {
		struct loader_config c = config_of(policies[i / 3], 3);
		struct clip_batch b;
		struct loader *ld;
		pid_t pid;

		assert_int_equal(loader_open(&ld, &c), OK);
		if (i % 3)		/* before, in and after the first epoch */
			assert_int_equal(loader_epoch_begin(ld, 0), OK);
		for (size_t k = 0; k < (i % 3 == 2 ? loader_iterations(ld) : i % 3); k++)
			assert_int_equal(loader_next(ld, &b), OK);
		loader_close(ld);
		assert_int_equal(children(&pid, 1), 0);
		assert_int_equal(entries("/proc/self/fd"), descriptors);
		assert_int_equal(entries("/proc/self/task"), threads);
	}
}

static void workers_die_with_the_one_who_started_them(void **state)
{
	static const char *const policies[] = { "persistent", "respawn" };

	(void)state;
	/* Orphans come to us, so that their end can be waited for. */
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	for (size_t p = 0; p < ARRAY_LEN(policies); p++) {
		pid_t trainer = fork();
		int ended = 0;

		if (!trainer) {
			struct loader_config c = config_of(policies[p], 2);
			struct loader *ld;

			c.epochs = 50;
			if (!loader_open(&ld, &c) && !loader_epoch_begin(ld, 0))
				kill(getpid(), SIGKILL);
			_exit(1);
		}
		for (int status, pid; ended < 3 && (pid = wait(&status)) > 0; ended++)
			assert_true(pid != trainer || WIFSIGNALED(status));	/* so its workers were there */
		assert_int_equal(ended, 3);
	}
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void workers_live_beside_a_running_mpi(void **state)
{
	const char *build = getenv("SFSCALE_BUILD");
	char command[PATH_BYTES];

	(void)state;
	/* Open MPI leaks at its end; ours are looked for in this process. */
	assert_int_equal(path_make(command, "ASAN_OPTIONS=detect_leaks=0 timeout -k 5 60 mpirun --oversubscribe "
				   "--bind-to none -n 2 %s/tests/ranks_loader %s", build ? build : "build", data), OK);
	assert_int_equal(system(command), 0);
}

static void the_null_loader_takes_its_time_and_delivers_grey_in_order(void **state)
{
	struct loader_config c = config_of("null", 0);
	struct clip_batch b;
	struct loader *ld;
	uint64_t sums[2], begun;
	float grey;

	(void)state;
	c.data = NULL;
	c.iterations_max = 9;
	c.emulate = "const:2";
	assert_int_equal(loader_open(&ld, &c), OK);
	begun = clock_ns();
	assert_int_equal(loader_iterations(ld), 9);
	for (size_t e = 0; e < 2; e++) {
		assert_int_equal(loader_epoch_begin(ld, e), OK);
		for (size_t i = 0; i < 9; i++)
			assert_int_equal(loader_next(ld, &b), OK);
		sums[e] = loader_checksum(ld);
	}
	assert_true(clock_ns() - begun >= 2 * 9 * 2000000ull);
	assert_true(sums[0] != sums[1]);
	assert_int_equal(b.clips, 2);
	assert_true(b.boxes > 0 && b.boxes <= loader_boxes_max(ld));
	for (size_t k = 0; k < b.boxes; k++) {
		assert_true(b.rois[5 * k] == (k < b.boxes / 2 ? 0 : 1));
		assert_true(b.rois[5 * k + 1] < b.rois[5 * k + 3] && b.rois[5 * k + 4] < 32);
	}
	assert_true(b.fast[0] == 0 && b.slow[0] == 0);
	loader_close(ld);

	c.crops = true;
	assert_int_equal(loader_open(&ld, &c), OK);
	assert_int_equal(loader_epoch_begin(ld, 0), OK);
	assert_int_equal(loader_next(ld, &b), OK);
	grey = net_pixel(b.crops[b.bytes - 1]);
	assert_true(fabsf(grey) < 1 / (255 * NET_DEVIATION));
	loader_close(ld);
}

static void without_workers_the_training_thread_loads_under_any_policy(void **state)
{
	static const char *const policies[] = { "inline", "threads", "fork", "respawn", "persistent" };
	uint64_t first = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
		struct loader_config c = config_of(policies[i], 0);
		struct loader *ld;

		assert_int_equal(loader_open(&ld, &c), OK);
		assert_int_equal(run_on(ld, &c), OK);
		first = i ? first : loader_checksum(ld);
		assert_int_equal(loader_checksum(ld), first);
		loader_close(ld);
	}
}

/* ---- what is recorded ------------------------------------------------------------------ */

static size_t count_of(const struct record *r, uint16_t lane, enum span_id id)
{
	size_t n = 0;

	for (size_t i = 0; i < r->event_count; i++)
		n += r->events[i].lane == lane && r->events[i].name == id;
	return n;
}

/* A record of 3 epochs under a policy with 2 workers. */
static void record_of(const char *policy, struct record *r)
{
	static const char *const names[] = { "train", "worker 0", "worker 1" };
	struct loader_config c = config_of(policy, 2);
	char path[] = "/tmp/sfscale-test-XXXXXX";
	struct lane *workers[2];
	struct recorder *rec;
	struct loader *ld;
	cJSON *head = cJSON_CreateObject();

	close(mkstemp(path));
	c.epochs = 3;
	assert_int_equal(recorder_open(&rec, path, head, names, 3, 1 << 10), OK);
	assert_int_equal(loader_open(&ld, &c), OK);
	workers[0] = recorder_lane(rec, 1);
	workers[1] = recorder_lane(rec, 2);
	loader_lanes(ld, recorder_lane(rec, 0), workers);
	assert_int_equal(run_on(ld, &c), OK);
	loader_close(ld);
	assert_int_equal(recorder_close(rec, head), OK);
	assert_int_equal(record_read(path, r), OK);
	cJSON_Delete(head);
	unlink(path);
}

static void lanes_tell_who_made_which_batch(void **state)
{
	static const struct { const char *policy; size_t starts, stops; } cases[] = {
		{ "inline", 0, 0 }, { "threads", 1, 0 }, { "persistent", 1, 0 }, { "fork", 3, 2 }, { "respawn", 3, 2 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool alone = !strcmp(cases[i].policy, "inline");
		struct record r;

		record_of(cases[i].policy, &r);
		assert_int_equal(count_of(&r, 0, SPAN_SAMPLER), 3);
		assert_int_equal(count_of(&r, 0, SPAN_WORKERS_START), cases[i].starts);
		assert_int_equal(count_of(&r, 0, SPAN_WORKERS_STOP), cases[i].stops);
		assert_int_equal(count_of(&r, 0, SPAN_QUEUE_DEPTH), alone ? 0 : 27);
		assert_int_equal(count_of(&r, 1, SPAN_MAKE_BATCH) + count_of(&r, 2, SPAN_MAKE_BATCH), alone ? 0 : 27);
		assert_int_equal(count_of(&r, 0, SPAN_MAKE_BATCH), alone ? 27 : 0);
		/* Threads take as many as each comes to. */
		if (!alone && strcmp(cases[i].policy, "threads"))
			assert_true(count_of(&r, 1, SPAN_MAKE_BATCH) >= 13 && count_of(&r, 2, SPAN_MAKE_BATCH) >= 12);
		for (size_t k = 0; k < r.event_count; k++)
			assert_true(r.events[k].t0 <= r.events[k].t1);
		record_release(&r);
	}
}

static void the_stages_of_a_batch_sum_to_its_time(void **state)
{
	static const char *const policies[] = { "inline", "threads", "fork", "respawn" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
		struct record r;
		size_t batches = 0;

		record_of(policies[i], &r);
		for (size_t k = 0; k < r.event_count; k++) {
			int64_t at = r.events[k].t0;

			if (r.events[k].name != SPAN_MAKE_BATCH)
				continue;
			assert_true(k + STAGE_COUNT < r.event_count);
			for (int s = 0; s < STAGE_COUNT; s++) {
				const struct event *e = &r.events[k + 1 + (size_t)s];

				assert_int_equal(e->name, SPAN_BATCH_READ + s);
				assert_true(e->t0 == at && e->t1 >= at);
				at = e->t1;
			}
			assert_true(at == r.events[k].t1);
			batches++;
		}
		assert_int_equal(batches, 27);
		record_release(&r);
	}
}

static void workers_say_what_they_take_of_the_machine(void **state)
{
	/* A process weighs itself before its second batch and its last one of each epoch; a thread has no memory of its own. */
	static const struct { const char *policy; size_t cpu, memory; } cases[] = {
		{ "inline", 0, 0 }, { "threads", 27, 0 }, { "persistent", 27, 8 }, { "fork", 27, 12 }, { "respawn", 27, 12 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t cpu = 0, uss = 0, pss = 0;
		struct record r;

		record_of(cases[i].policy, &r);
		for (uint16_t lane = 0; lane < 3; lane++) {
			cpu += count_of(&r, lane, SPAN_WORKER_CPU);
			uss += count_of(&r, lane, SPAN_WORKER_USS);
			pss += count_of(&r, lane, SPAN_WORKER_PSS);
		}
		assert_int_equal(cpu, cases[i].cpu);
		assert_int_equal(uss, cases[i].memory);
		assert_int_equal(pss, cases[i].memory);
		for (size_t k = 0; k < r.event_count; k++)
			if (r.events[k].name == SPAN_WORKER_PSS)
				assert_true(r.events[k - 1].arg > 0 && r.events[k].arg >= r.events[k - 1].arg);
		record_release(&r);
	}
}

static void a_loader_is_bound_by_one_thing(void **state)
{
	static const struct {
		struct loader_account a;
		const char *name;
	} cases[] = {
		{ { 1000, 5, 0, 0, 2000, { 0, 1900, 0, 0 }, NAN }, "nothing" },
		{ { 1000, 200, 0, 0, 2000, { 100, 1000, 500, 0 }, 1600 }, "decode" },
		{ { 1000, 200, 0, 0, 2000, { 900, 500, 500, 0 }, NAN }, "storage" },
		{ { 1000, 200, 0, 0, 2000, { 0, 500, 900, 200 }, NAN }, "transform" },
		{ { 1000, 200, 0, 0, 2000, { 0, 500, 200, 900 }, NAN }, "hand-over" },
		{ { 1000, 200, 150, 0, 2000, { 100, 400, 100, 0 }, NAN }, "order" },
		{ { 1000, 200, 20, 0, 2000, { 100, 400, 100, 0 }, NAN }, "unevenness" },
		{ { 1000, 200, 50, 110, 2000, { 100, 400, 100, 0 }, NAN }, "hand-over" },
		{ { 0, 0, 0, 0, 0, { 0 }, NAN }, "nothing" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct loader_verdict v = loader_judge(&cases[i].a);
		char text[256];

		assert_string_equal(v.name, cases[i].name);
		assert_true(strlen(loader_verdict_text(&v, text)) > 20);
		assert_null(strstr(text, "nan"));
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(the_order_of_an_epoch_is_that_of_torch_randperm),
	cmocka_unit_test(ranks_share_an_epoch_filled_up_from_its_beginning),
	cmocka_unit_test(the_slow_pathway_gets_the_frames_of_the_spec),
	cmocka_unit_test(a_clip_is_a_window_around_its_keyframe_within_the_film),
	cmocka_unit_test(a_row_that_is_none_says_why),
	cmocka_unit_test(boxes_with_the_same_four_texts_are_one),
	cmocka_unit_test(paths_come_back_whatever_their_names),
	cmocka_unit_test(a_name_travels_as_it_is),
	cmocka_unit_test(a_broken_data_set_is_named_with_file_and_line),
	cmocka_unit_test(a_box_moves_with_the_pixels),
	cmocka_unit_test(validation_sees_the_middle_of_a_frame_scaled_to_the_crop),
	cmocka_unit_test(the_view_of_a_clip_depends_on_seed_epoch_and_example),
	cmocka_unit_test(pixels_are_scaled_as_cv2_scales_them),
	cmocka_unit_test(a_hundred_random_images_are_within_a_grey_level_of_cv2),
	cmocka_unit_test(vector_instructions_change_no_bit),
	cmocka_unit_test(a_window_has_the_pixels_of_the_whole_frame),
	cmocka_unit_test(the_choices_of_an_option_are_the_policies),
	cmocka_unit_test(all_policies_deliver_the_same_tensors_and_the_same_crops),
	cmocka_unit_test(finished_crops_are_the_tensors_bit_for_bit),
	cmocka_unit_test(the_first_epoch_may_be_any),
	cmocka_unit_test(without_workers_the_training_thread_loads_under_any_policy),
	cmocka_unit_test(the_first_epoch_may_be_any),
	cmocka_unit_test(ranks_together_see_every_clip_once_per_epoch),
	cmocka_unit_test(a_configuration_that_cannot_work_is_a_usage_error),
	cmocka_unit_test(a_frame_that_is_no_good_is_named),
	cmocka_unit_test(the_least_limit_on_memory_is_found_and_named),
	cmocka_unit_test(memory_that_is_not_there_is_said_with_its_limit_before_a_worker_starts),
	cmocka_unit_test(a_killed_worker_is_an_error_that_names_it),
	cmocka_unit_test(a_worker_that_is_stopped_is_an_error_that_names_it),
	cmocka_unit_test(a_worker_that_stops_after_its_last_batch_does_not_hold_up_the_epoch),
	cmocka_unit_test(a_slow_thread_does_not_hold_the_others_up),
	cmocka_unit_test(frames_that_disappear_during_an_epoch_are_named),
	cmocka_unit_test(a_worker_that_does_not_come_up_is_an_error),
	cmocka_unit_test(a_worker_that_stops_while_it_starts_is_an_error),
	cmocka_unit_test(an_emulated_start_takes_its_time_for_each_worker),
	cmocka_unit_test(nothing_is_left_after_close),
	cmocka_unit_test(workers_die_with_the_one_who_started_them),
	cmocka_unit_test(workers_live_beside_a_running_mpi),
	cmocka_unit_test(the_null_loader_takes_its_time_and_delivers_grey_in_order),
	cmocka_unit_test(lanes_tell_who_made_which_batch),
	cmocka_unit_test(the_stages_of_a_batch_sum_to_its_time),
	cmocka_unit_test(workers_say_what_they_take_of_the_machine),
	cmocka_unit_test(a_loader_is_bound_by_one_thing),
};

int main(int argc, char **argv)
{
	clock_init();
	/* `respawn` starts this very program. */
	if (argc > 1 && !strcmp(argv[1], "loader-worker") && getenv("SFSCALE_TEST_WORKER")) {
		if (!strcmp(getenv("SFSCALE_TEST_WORKER"), "stops"))
			raise(SIGSTOP);
		return 7;
	}
	if (argc > 1 && !strcmp(argv[1], "loader-worker"))
		return rc_exit(loader_worker_main(argc - 2, argv + 2));
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
