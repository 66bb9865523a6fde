/*
 * loader/synth.c - see synth.h.
 *
 * The film (film.h) is cut into seconds, which threads paint, compress and write; the text files
 * are printed before.  Nothing is stored in between: where a person stands is asked again.  All
 * of it goes into a folder of another name, which is renamed when it is whole and on the disk.
 *
 * The bytes depend on the options, the seed, and the version of libjpeg-turbo alone.
 *
 * A detector is played, too: it finds each person at almost the right place, some twice (with a
 * score that readers drop), and in the training list it finds some that are not there.
 *
 * Not here: what the files are called (ava.h); whether a data set is sound (check.h).
 */
#include "loader/synth.h"

#include "bench/base/err.h"
#include "bench/base/rng.h"
#include "loader/film.h"
#include "loader/parallel.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <turbojpeg.h>
#include <unistd.h>

/* The 60 classes that AVA evaluates.  The film shows a few of them; a label map names all. */
static const struct {
	int id;
	const char *name;
} labels[] = {
	{ 1, "bend/bow (at the waist)" },
	{ 3, "crouch/kneel" },
	{ 4, "dance" },
	{ 5, "fall down" },
	{ 6, "get up" },
	{ 7, "jump/leap" },
	{ 8, "lie/sleep" },
	{ 9, "martial art" },
	{ 10, "run/jog" },
	{ 11, "sit" },
	{ 12, "stand" },
	{ 13, "swim" },
	{ 14, "walk" },
	{ 15, "answer phone" },
	{ 17, "carry/hold (an object)" },
	{ 20, "climb (e.g., a mountain)" },
	{ 22, "close (e.g., a door, a box)" },
	{ 24, "cut" },
	{ 26, "dress/put on clothing" },
	{ 27, "drink" },
	{ 28, "drive (e.g., a car, a truck)" },
	{ 29, "eat" },
	{ 30, "enter" },
	{ 34, "hit (an object)" },
	{ 36, "lift/pick up" },
	{ 37, "listen (e.g., to music)" },
	{ 38, "open (e.g., a window, a car door)" },
	{ 41, "play musical instrument" },
	{ 43, "point to (an object)" },
	{ 45, "pull (an object)" },
	{ 46, "push (an object)" },
	{ 47, "put down" },
	{ 48, "read" },
	{ 49, "ride (e.g., a bike, a car, a horse)" },
	{ 51, "sail boat" },
	{ 52, "shoot" },
	{ 54, "smoke" },
	{ 56, "take a photo" },
	{ 57, "text on/look at a cellphone" },
	{ 58, "throw" },
	{ 59, "touch (an object)" },
	{ 60, "turn (e.g., a screwdriver)" },
	{ 61, "watch (e.g., TV)" },
	{ 62, "work on a computer" },
	{ 63, "write" },
	{ 64, "fight/hit (a person)" },
	{ 65, "give/serve (an object) to (a person)" },
	{ 66, "grab (a person)" },
	{ 67, "hand clap" },
	{ 68, "hand shake" },
	{ 69, "hand wave" },
	{ 70, "hug (a person)" },
	{ 72, "kiss (a person)" },
	{ 73, "lift (a person)" },
	{ 74, "listen to (a person)" },
	{ 76, "push (another person)" },
	{ 77, "sing to (e.g., self, a person, a group)" },
	{ 78, "take (an object) from (a person)" },
	{ 79, "talk to (e.g., self, a person, a group)" },
	{ 80, "watch (a person)" },
};

/* ---- files ----------------------------------------------------------------------------- */

/* What all threads share, and nobody changes while they work. */
struct studio {
	const struct synth_config *config;
	char root[PATH_BYTES];		/* the folder that is being filled */
	struct film film;
	struct painter *painters;	/* one per thread, owned */
	atomic_uint_fast64_t frame_bytes[SYNTH_SPLITS];
	atomic_bool said;		/* what went wrong */
};

struct painter {
	tjhandle jpeg;
	uint8_t *rgb;			/* (height,width,3), owned */
	uint8_t *file;			/* owned */
	unsigned long room;		/* of `file`: no frame needs more */
};

/* The name of a video: train_00001, val_00001. */
enum { NAME_BYTES = 32 };

static void video_name(char name[NAME_BYTES], enum synth_split split, size_t video)
{
	snprintf(name, NAME_BYTES, "%s_%05zu", split == SYNTH_TRAIN ? "train" : "val", video + 1);
}

/* The number of a video in the whole set, by which its random numbers are drawn. */
static size_t video_number(const struct synth_config *c, enum synth_split split, size_t video)
{
	return split == SYNTH_TRAIN ? video : c->videos[SYNTH_TRAIN] + video;
}

size_t synth_video_frames(const struct synth_config *c)
{
	return (c->seconds + SYNTH_SECONDS_AROUND) * AVA_FPS;
}

static bool stopped(const struct studio *s)
{
	return s->config->stop && atomic_load(s->config->stop);
}

static int give_up(struct studio *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Says why, unless another thread has said it: all of them meet the same full disk. */
static int give_up(struct studio *s, const char *format, ...)
{
	char text[2 * PATH_BYTES];
	va_list args;

	if (atomic_exchange(&s->said, true))
		return FAILED;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return err(FAILED, "%s", text);
}

static int frame_write(const char *path, const uint8_t *data, size_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
	bool arrived = fd >= 0;
	int why;

	while (arrived && bytes) {
		ssize_t n = write(fd, data, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		arrived = n >= 0;
		if (arrived) {
			data += n;
			bytes -= (size_t)n;
		}
	}
	why = errno;
	if (fd >= 0 && close(fd) && arrived) {
		arrived = false;
		why = errno;
	}
	return arrived ? OK : why;
}

/* Item: a second of a video. */
static int second_make(void *context, size_t thread, size_t item)
{
	struct studio *s = context;
	struct painter *p = &s->painters[thread];
	const struct synth_config *c = s->config;
	size_t seconds = c->seconds + SYNTH_SECONDS_AROUND, number = item / seconds, first = item % seconds * AVA_FPS;
	enum synth_split split = number < c->videos[SYNTH_TRAIN] ? SYNTH_TRAIN : SYNTH_VAL;
	char name[NAME_BYTES], path[PATH_BYTES];

	video_name(name, split, number - video_number(c, split, 0));
	for (size_t frame = first; frame < first + AVA_FPS; frame++) {
		unsigned long bytes = p->room;
		int why;

		if (stopped(s))
			return give_up(s, "interrupted: nothing was made");
		film_paint(&s->film, number, frame, p->rgb);
		if (tjCompress2(p->jpeg, p->rgb, (int)c->width, 0, (int)c->height, TJPF_RGB, &p->file, &bytes,
				TJSAMP_420, c->quality, TJFLAG_NOREALLOC))
			return give_up(s, "cannot compress a frame: %s", tjGetErrorStr2(p->jpeg));
		if (path_make(path, "%s/" AVA_FRAMES "/" AVA_FRAME_PATH, s->root, name, name, frame + 1))
			return FAILED;
		why = frame_write(path, p->file, bytes);
		if (why)
			return give_up(s, "cannot write '%s': %s", path, strerror(why));
		atomic_fetch_add(&s->frame_bytes[split], bytes);
	}
	return OK;
}

static void frame_list_print(const struct studio *s, enum synth_split split, struct synth_counts *counts, FILE *f)
{
	const struct synth_config *c = s->config;
	char name[NAME_BYTES];

	fprintf(f, "%s\n", AVA_FRAMES_HEADER);
	for (size_t video = 0; video < c->videos[split]; video++) {
		video_name(name, split, video);
		for (size_t frame = 0; frame < synth_video_frames(c); frame++)
			fprintf(f, "%s %zu %zu " AVA_FRAME_PATH " \"\"\n", name, video, frame, name, name, frame + 1);
	}
	counts->frames = c->videos[split] * synth_video_frames(c);
	counts->clips = c->videos[split] * c->seconds;
}

/* The film draws from streams below it. */
#define DETECTOR_STREAM (1ull << 62)

/* The fields that truth and detection share: "video,second,x1,y1,x2,y2". */
enum { BOX_BYTES = 80 };

static int share(int pixel, size_t side)
{
	return (pixel * 1000 + (int)side / 2) / (int)side;
}

static int clamp(int value, int most)
{
	return value < 0 ? 0 : value > most ? most : value;
}

/* `slack`: how far the corners may lie from the right place, in thousandths of the frame. */
static void box_print(char text[BOX_BYTES], const struct synth_config *c, const char *name, size_t second,
		      const struct film_rect *r, int slack, struct rng *rng)
{
	int corner[4] = { share(r->x1, c->width), share(r->y1, c->height), share(r->x2, c->width),
			  share(r->y2, c->height) };
	int used = snprintf(text, BOX_BYTES, "%s,%04zu", name, second);

	for (int i = 0; i < 4; i++) {
		int v = corner[i];

		if (slack)
			v = clamp(v - slack + (int)rng_below(rng, 2 * (uint32_t)slack + 1), 1000);
		used += snprintf(text + used, BOX_BYTES - (size_t)used, ",%d.%03d", v / 1000, v % 1000);
	}
}

/* One row for each thing that the person does, or one without action; `last` is its id or the score. */
static size_t actions_print(FILE *f, const char *box, const struct film_actor *a, const char *last)
{
	size_t rows = 0;

	if (!a->actions[0])
		return fprintf(f, "%s,,%s\n", box, last) > 0;
	for (size_t i = 0; i < FILM_ACTIONS; i++)
		if (a->actions[i])
			rows += fprintf(f, "%s,%d,%s\n", box, a->actions[i], last) > 0;
	return rows;
}

/* The last second of the first validation video stands for those on which annotators did not agree. */
static bool is_excluded(const struct synth_config *c, enum synth_split split, size_t video, size_t second)
{
	return split == SYNTH_VAL && !video && c->seconds > 1 && second == AVA_SECOND_MIN + c->seconds - 1;
}

static void truth_print(const struct studio *s, enum synth_split split, struct synth_counts *counts, FILE *f)
{
	const struct synth_config *c = s->config;
	char name[NAME_BYTES], box[BOX_BYTES], person[24];

	for (size_t video = 0; video < c->videos[split]; video++)
		for (size_t second = AVA_SECOND_MIN; second < AVA_SECOND_MIN + c->seconds; second++) {
			size_t number = video_number(c, split, video);
			struct film_shot shot = film_shot(&s->film, number, ava_keyframe(second));

			if (is_excluded(c, split, video, second))
				continue;
			video_name(name, split, video);
			for (size_t i = 0; i < shot.count; i++) {
				const struct film_actor *a = &shot.actors[i];

				if (!a->actions[0])
					continue;
				snprintf(person, sizeof(person), "%zu", a->id);
				box_print(box, c, name, second, &a->rect, 0, NULL);
				counts->rows += actions_print(f, box, a, person);
				counts->boxes++;
			}
		}
}

static void predicted_print(const struct studio *s, enum synth_split split, struct synth_counts *counts, FILE *f)
{
	const struct synth_config *c = s->config;
	/* What a detector does with persons, again with some of them, and with nobody: the error of the
	 * corners in thousandths of the frame, the score in millionths, in how many of four cases. */
	enum { SURE = (int)(AVA_SCORE_MIN * 1000000) };
	static const struct {
		bool person;
		int slack;
		uint32_t least, beyond, of_four;
	} habits[] = {
		{ true, 15, SURE, 1000000, 4 },
		{ true, 60, SURE / 4, SURE, 1 },
		{ false, 15, SURE / 2, 1000000, 4 },
	};
	char name[NAME_BYTES], box[BOX_BYTES], score[16];
	struct rng rng;

	(void)counts;		/* of the ground truth alone */
	for (size_t video = 0; video < c->videos[split]; video++)
		for (size_t second = AVA_SECOND_MIN; second < AVA_SECOND_MIN + c->seconds; second++) {
			size_t number = video_number(c, split, video);
			struct film_shot shot = film_shot(&s->film, number, ava_keyframe(second));

			video_name(name, split, video);
			rng_init(&rng, c->seed, DETECTOR_STREAM | (uint64_t)number << 32 | second);
			for (size_t k = 0; k < shot.count * ARRAY_LEN(habits); k++) {
				const struct film_actor *a = &shot.actors[k / ARRAY_LEN(habits)];
				size_t h = k % ARRAY_LEN(habits);
				bool person = a->actions[0];

				/* Boxes without action are in the training list only ("include_negative"). */
				if (habits[h].person != person || (!person && split != SYNTH_TRAIN) ||
				    rng_below(&rng, 4) >= habits[h].of_four)
					continue;
				box_print(box, c, name, second, &a->rect, habits[h].slack, &rng);
				snprintf(score, sizeof(score), "0.%06u",
					 habits[h].least + rng_below(&rng, habits[h].beyond - habits[h].least));
				actions_print(f, box, a, score);
			}
		}
}

static void label_map_print(const struct studio *s, enum synth_split split, struct synth_counts *counts, FILE *f)
{
	(void)s, (void)split, (void)counts;
	for (size_t i = 0; i < ARRAY_LEN(labels); i++)
		fprintf(f, "item {\n  name: \"%s\"\n  id: %d\n}\n", labels[i].name, labels[i].id);
}

static void exclusions_print(const struct studio *s, enum synth_split split, struct synth_counts *counts, FILE *f)
{
	const struct synth_config *c = s->config;
	char name[NAME_BYTES];

	(void)counts;
	video_name(name, split, 0);
	for (size_t second = AVA_SECOND_MIN; second < AVA_SECOND_MIN + c->seconds; second++)
		if (is_excluded(c, split, 0, second))
			fprintf(f, "%s,%04zu\n", name, second);
}

static const struct text {
	const char *file;
	enum synth_split split;
	void (*print)(const struct studio *, enum synth_split, struct synth_counts *, FILE *);
} texts[] = {
	{ AVA_TRAIN_FRAMES, SYNTH_TRAIN, frame_list_print },
	{ AVA_VAL_FRAMES, SYNTH_VAL, frame_list_print },
	{ AVA_TRAIN_TRUTH, SYNTH_TRAIN, truth_print },
	{ AVA_VAL_TRUTH, SYNTH_VAL, truth_print },
	{ AVA_TRAIN_PREDICTED, SYNTH_TRAIN, predicted_print },
	{ AVA_VAL_PREDICTED, SYNTH_VAL, predicted_print },
	{ AVA_LABEL_MAP, SYNTH_VAL, label_map_print },
	{ AVA_VAL_EXCLUDED, SYNTH_VAL, exclusions_print },
};

static int text_make(const struct studio *s, const struct text *t, struct synth_counts *counts)
{
	char path[PATH_BYTES];
	FILE *f;

	if (path_make(path, "%s/%s", s->root, t->file))
		return FAILED;
	*strrchr(path, '/') = '\0';
	if (dir_make(path))
		return FAILED;
	path[strlen(path)] = '/';	/* what was cut off stands behind it still */
	f = file_begin(path);
	if (!f)
		return FAILED;
	t->print(s, t->split, counts, f);
	return file_end(f, path, OK);
}

/* ---- the whole ------------------------------------------------------------------------- */

static void studio_release(struct studio *s)
{
	for (size_t i = 0; s->painters && i < s->config->threads; i++) {
		if (s->painters[i].jpeg)
			tjDestroy(s->painters[i].jpeg);
		free(s->painters[i].rgb);
		free(s->painters[i].file);
	}
	free(s->painters);
	film_release(&s->film);
}

static int studio_init(struct studio *s, const struct synth_config *c)
{
	int rc = film_init(&s->film, c->seed, c->width, c->height);

	s->config = c;
	s->painters = calloc(c->threads, sizeof(*s->painters));
	if (!rc && !s->painters)
		rc = err(NO_MEMORY, "no memory to paint with");
	if (rc)
		return rc;
	for (size_t i = 0; i < c->threads; i++) {
		struct painter *p = &s->painters[i];

		p->room = tjBufSize((int)c->width, (int)c->height, TJSAMP_420);
		p->rgb = malloc(3 * c->width * c->height);
		p->file = malloc(p->room);
		p->jpeg = tjInitCompress();
		if (!p->rgb || !p->file || !p->jpeg)
			return err(NO_MEMORY, "no memory to paint with %zu threads", c->threads);
	}
	return OK;
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	return remove(path);
}

/* On the disk before it gets its name, so that not even a power cut leaves half of it. */
static int settle(const char *root)
{
	int fd = open(root, O_RDONLY | O_DIRECTORY), rc = OK;

	if (fd < 0 || syncfs(fd))
		rc = err(FAILED, "cannot write '%s': %s", root, strerror(errno));
	if (fd >= 0)
		close(fd);
	return rc;
}

/* A new folder beside `dir`, with the rights that mkdir() would have given. */
static int root_make(char root[PATH_BYTES], const char *dir)
{
	char parent[PATH_BYTES], *slash;
	mode_t mask = umask(0);

	umask(mask);
	if (path_make(parent, "%s", dir))
		return FAILED;
	slash = strrchr(parent, '/');
	if (slash && slash > parent) {
		*slash = '\0';
		if (dir_make(parent))
			return FAILED;
	}
	if (path_make(root, "%s.tmp-XXXXXX", dir))
		return FAILED;
	if (!mkdtemp(root))
		return err(FAILED, "cannot make a directory beside '%s': %s", dir, strerror(errno));
	if (chmod(root, 0777 & ~mask))
		return err(FAILED, "cannot open '%s' to others: %s", root, strerror(errno));
	return OK;
}

static int fill(struct studio *s, struct synth_counts counts[SYNTH_SPLITS])
{
	const struct synth_config *c = s->config;
	char name[NAME_BYTES], path[PATH_BYTES];
	int rc = OK;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		rc = stopped(s) ? give_up(s, "interrupted: nothing was made")
				: text_make(s, &texts[i], &counts[texts[i].split]);
		if (rc)
			return rc;
	}
	for (enum synth_split i = 0; i < SYNTH_SPLITS; i++)
		for (size_t video = 0; video < c->videos[i]; video++) {
			video_name(name, i, video);
			if (path_make(path, "%s/" AVA_FRAMES "/%s", s->root, name) || dir_make(path))
				return FAILED;
		}
	rc = parallel_each((c->videos[SYNTH_TRAIN] + c->videos[SYNTH_VAL]) * (c->seconds + SYNTH_SECONDS_AROUND),
			   c->threads, second_make, s);
	for (enum synth_split i = 0; i < SYNTH_SPLITS; i++)
		counts[i].frame_bytes = atomic_load(&s->frame_bytes[i]);
	return rc;
}

int synth_make(const char *dir, const struct synth_config *config, struct synth_counts counts[SYNTH_SPLITS])
{
	struct studio s = { 0 };
	char target[PATH_BYTES];
	struct stat st;
	int rc;

	memset(counts, 0, SYNTH_SPLITS * sizeof(*counts));
	if (path_make(target, "%s", dir))
		return FAILED;
	for (size_t n = strlen(target); n > 1 && target[n - 1] == '/'; n--)
		target[n - 1] = '\0';
	if (!lstat(target, &st))
		return err(FAILED, "'%s' exists already", target);
	rc = studio_init(&s, config);
	if (!rc)
		rc = root_make(s.root, target);
	if (!rc) {
		rc = fill(&s, counts);
		if (!rc)
			rc = settle(s.root);
		if (!rc && rename(s.root, target))
			rc = err(FAILED, "cannot rename '%s' to '%s': %s", s.root, target, strerror(errno));
		if (rc)
			nftw(s.root, drop, 16, FTW_DEPTH | FTW_PHYS);
	}
	studio_release(&s);
	return rc;
}
