/*
 * loader/synth.c - see synth.h.
 *
 * The film.  A video is cut into shots of four seconds.  A shot is divided into columns; in each
 * stands a person, or nobody, so people never hide each other and a label is never a guess.  A
 * person is a rectangle that drifts within its column and is filled with a moving pattern; its
 * motion is its pose label, its texture what it does with an object, its colour what it does
 * with others.  So a network has to look at time (fast pathway) for the first and at space (slow
 * pathway) for the rest.  Training mirrors clips at random: no label may depend on left and
 * right, and none does.  A pattern moves 1.5 periods a second at most, which even a clip that
 * takes every eighth frame can follow.
 *
 * Behind the people two layers of 1/f noise slide over each other, and grain lies over all: it
 * gives the files the size, and so the decoder the work, of filmed frames.
 *
 * Everything is a function of (seed, video, second or frame) and computed in whole numbers: the
 * answer depends neither on the number of threads nor on the machine's arithmetic, and a detail
 * can be asked for again - by the painter, and by the writer of the annotations - without being
 * stored.  The bytes of a JPEG depend on the version of the library as well.
 *
 * A detector is played, too: it finds each person at almost the right place, some twice (with a
 * score that readers drop), and in the training list some empty columns, without an action.
 *
 * Not here: what the files are called (ava.h); whether a data set is sound (check.h).
 */
#include "loader/synth.h"

#include "bench/base/err.h"
#include "bench/base/rng.h"
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

/* ---- what can be seen, and what it is called ------------------------------------------- */

/* An angle, or the place in a period, is 16 bits of a turn; more bits wrap. */
enum {
	TURN = 1 << 16,
	SLOW = TURN / 2 / AVA_FPS,		/* per frame: half a period per second */
	FAST = TURN * 3 / 2 / AVA_FPS,		/* 1.5 periods per second */
};

struct motion {
	int action;
	int right, down;			/* per frame: the pattern slides in its rectangle, */
	int turn;				/* turns, */
	int pulse;				/* grows and shrinks, */
	int blink;				/* pales and comes back */
};

static const struct motion motions[] = {
	{ .action = 12 },			/* stand */
	{ .action = 7, .down = -FAST },		/* jump/leap */
	{ .action = 5, .down = FAST },		/* fall down */
	{ .action = 14, .right = SLOW },	/* walk */
	{ .action = 10, .right = FAST },	/* run/jog */
	{ .action = 4, .turn = SLOW },		/* dance */
	{ .action = 3, .pulse = FAST / 2 },	/* crouch/kneel */
	{ .action = 9, .blink = FAST },		/* martial art */
};

enum texture { CHECKERS, BLOBS, LATTICE };

static const int texture_actions[] = {
	[CHECKERS] = 0,				/* nothing in hand */
	[BLOBS] = 17,				/* carry/hold (an object) */
	[LATTICE] = 59,				/* touch (an object) */
};

static const struct colour {
	int action;
	uint8_t rgb[3];
} colours[] = {
	{ 0, { 235, 235, 235 } },		/* alone */
	{ 79, { 240, 90, 70 } },		/* talk to */
	{ 80, { 80, 220, 100 } },		/* watch (a person) */
	{ 74, { 100, 130, 250 } },		/* listen to (a person) */
};

/* The 60 classes that AVA evaluates.  What is made above uses a few of them; a label map names all. */
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

/* ---- the script: who is where, doing what ---------------------------------------------- */

enum {
	SHOT_S = 4,
	SHOT_FRAMES = SHOT_S * AVA_FPS,
	COLUMNS_MAX = 3,
	PERIODS = 2,			/* of a pattern, over the shorter side of its rectangle */
	TILE = 512,			/* side of the noise behind the people; a power of two */
	GRAIN = 1 << 14,		/* bytes of grain; a power of two */
};

/* Streams of random numbers: one for each purpose, video and moment. */
enum purpose { FOR_TILE, FOR_GRAIN, FOR_VIDEO, FOR_SHOT, FOR_FRAME, FOR_DETECTOR };

static void draw_from(struct rng *rng, uint64_t seed, enum purpose purpose, size_t video, size_t moment)
{
	rng_init(rng, seed, (uint64_t)purpose << 56 | (uint64_t)video << 32 | moment);
}

struct rect {
	int x1, y1, x2, y2;		/* pixels; the second corner lies outside */
};

struct actor {
	const struct motion *motion;	/* NULL: an empty column, that a detector may fall for */
	enum texture texture;
	const struct colour *colour;
	bool leftwards;			/* sideways, and the sense of a turn: nobody's label */
	struct rect begin;		/* at the first frame of the shot */
	int dx, dy;			/* from there to the last frame, in pixels */
};

struct shot {
	struct actor actors[COLUMNS_MAX];
	size_t count;
};

/* A whole number in least..most. */
static int between(struct rng *rng, int least, int most)
{
	return least + (int)rng_below(rng, (uint32_t)(most - least + 1));
}

static struct actor actor_draw(struct rng *rng, int column_x, int column_width, int height)
{
	struct actor a = { 0 };
	int w = between(rng, column_width * 5 / 8, column_width * 7 / 8), h = between(rng, height / 2, height * 7 / 8);
	int x = column_x + between(rng, 0, column_width - w), y = between(rng, 0, height - h);

	a.begin = (struct rect){ x, y, x + w, y + h };
	a.dx = column_x + between(rng, 0, column_width - w) - x;
	a.dy = between(rng, 0, height - h) - y;
	a.motion = &motions[rng_below(rng, ARRAY_LEN(motions))];
	a.texture = (enum texture)rng_below(rng, ARRAY_LEN(texture_actions));
	a.colour = &colours[rng_below(rng, ARRAY_LEN(colours))];
	a.leftwards = rng_below(rng, 2);
	return a;
}

static struct shot shot_draw(const struct synth_config *c, size_t video, size_t shot_index)
{
	struct shot shot = { 0 };
	struct rng rng;
	int width;
	size_t peopled;

	draw_from(&rng, c->seed, FOR_SHOT, video, shot_index);
	shot.count = 1 + rng_below(&rng, COLUMNS_MAX);
	peopled = rng_below(&rng, (uint32_t)shot.count);	/* this one for certain: every keyframe is a clip */
	width = (int)(c->width / shot.count);
	for (size_t i = 0; i < shot.count; i++) {
		shot.actors[i] = actor_draw(&rng, (int)i * width, width, (int)c->height);
		if (!rng_below(&rng, 4) && i != peopled)
			shot.actors[i].motion = NULL;
	}
	return shot;
}

/* Shots are cut between keyframes, half a second away from the next. */
static size_t shot_of(size_t frame, size_t *within)
{
	size_t shifted = frame + AVA_FPS / 2;

	*within = shifted % SHOT_FRAMES;
	return shifted / SHOT_FRAMES;
}

static struct rect actor_rect(const struct actor *a, size_t within)
{
	int dx = a->dx * (int)within / (SHOT_FRAMES - 1), dy = a->dy * (int)within / (SHOT_FRAMES - 1);

	return (struct rect){ a->begin.x1 + dx, a->begin.y1 + dy, a->begin.x2 + dx, a->begin.y2 + dy };
}

/* ---- the painter ----------------------------------------------------------------------- */

/* A sine made of parabolas, 1 is 16384: the same on every machine, and nobody sees the difference. */
static int wave(uint32_t angle)
{
	int x = (int)(angle & (TURN / 2 - 1)), y = (int)(((int64_t)x * (TURN / 2 - x)) >> 14);

	return angle & (TURN / 2) ? -y : y;
}

/* Noise whose grains of 2, 4, 8 ... 128 pixels are as strong as they are large; edges fit each other. */
static void tile_make(uint8_t *tile, uint64_t seed)
{
	uint32_t knots[TILE / 2 + 1];
	struct rng rng;

	memset(tile, 0, TILE * TILE);
	for (int cell = 128; cell >= 2; cell /= 2) {
		int per_side = TILE / cell;
		uint32_t salt;

		draw_from(&rng, seed, FOR_TILE, 0, (size_t)cell);
		salt = rng_u32(&rng);
		for (int y = 0; y < TILE; y++) {
			int row = y / cell, fy = y % cell;

			for (int k = 0; k <= per_side; k++) {
				uint32_t value[2];

				for (int j = 0; j < 2; j++) {
					uint32_t h = salt ^ (uint32_t)((row + j) % per_side * 4099 + k % per_side);

					h = (h ^ h >> 16) * 0x7feb352du;	/* a mixer of whole words */
					h = (h ^ h >> 15) * 0x846ca68bu;
					value[j] = (h ^ h >> 16) & 255;
				}
				knots[k] = value[0] * (uint32_t)(cell - fy) + value[1] * (uint32_t)fy;
			}
			for (int x = 0; x < TILE; x++) {
				uint32_t k = (uint32_t)(x / cell), fx = (uint32_t)(x % cell), size = (uint32_t)cell;

				/* Interpolated, times cell squared; the strength is cell / 256. */
				tile[y * TILE + x] += (uint8_t)((knots[k] * (size - fx) + knots[k + 1] * fx) / size / 256);
			}
		}
	}
}

/* What all threads share, and nobody changes while they work. */
struct studio {
	const struct synth_config *config;
	char root[PATH_BYTES];		/* the folder that is being filled */
	uint8_t *tile;			/* (TILE,TILE), owned */
	int8_t *grain;			/* (GRAIN), owned */
	struct painter *painters;	/* one per thread, owned */
	atomic_uint_fast64_t jpeg_bytes[SYNTH_SPLITS];
	atomic_bool said;		/* what went wrong */
};

struct painter {
	tjhandle jpeg;
	uint8_t *rgb;			/* (height,width,3), owned */
	uint8_t *file;			/* owned */
	unsigned long room;		/* of `file`: no frame needs more */
};

static void background_paint(const struct studio *s, size_t video, size_t frame, uint8_t *rgb)
{
	const struct synth_config *c = s->config;
	unsigned tint[3], near_x, near_y, far_x, far_y;
	struct rng rng;
	int speed_x, speed_y;

	draw_from(&rng, c->seed, FOR_VIDEO, video, 0);
	for (int i = 0; i < 3; i++)
		tint[i] = (unsigned)between(&rng, 90, 170);
	speed_x = between(&rng, -48, 48);	/* 1/32 of a pixel per frame: a camera that pans */
	speed_y = between(&rng, -16, 16);
	near_x = rng_u32(&rng) + (unsigned)(speed_x * (int)frame / 32);
	near_y = rng_u32(&rng) + (unsigned)(speed_y * (int)frame / 32);
	far_x = rng_u32(&rng) + (unsigned)(speed_x * (int)frame / 96);
	far_y = rng_u32(&rng);
	draw_from(&rng, c->seed, FOR_FRAME, video, frame);
	for (unsigned y = 0; y < c->height; y++) {
		const uint8_t *a = s->tile + (y + near_y) % TILE * TILE, *b = s->tile + (y + far_y) % TILE * TILE;
		unsigned grain = rng_u32(&rng);

		for (unsigned x = 0; x < c->width; x++, rgb += 3) {
			unsigned light = a[(x + near_x) % TILE] + b[(x + far_x) % TILE];
			int noise = s->grain[(x + grain) % GRAIN];

			for (int i = 0; i < 3; i++)	/* 3..183: nothing to clip */
				rgb[i] = (uint8_t)(8 + (int)(light * tint[i] / 510) + noise);
		}
	}
}

static int texture_at(enum texture texture, uint32_t u, uint32_t v)
{
	switch (texture) {
	case CHECKERS:
		return (u ^ v) & (TURN / 2) ? 16384 : -16384;
	case BLOBS:
		return wave(u) * wave(v) / 16384;
	case LATTICE:
		return (u & (TURN - 1)) < TURN / 4 || (v & (TURN - 1)) < TURN / 4 ? 16384 : -16384;
	}
	return 0;
}

static void actor_paint(const struct studio *s, const struct actor *a, size_t within, uint8_t *rgb)
{
	const struct motion *m = a->motion;
	struct rect r = actor_rect(a, within);
	int w = r.x2 - r.x1, h = r.y2 - r.y1, t = (int)within, sense = a->leftwards ? -1 : 1;
	int scale = 16384 + wave((uint32_t)(m->pulse * t)) / 2;		/* 0.5..1.5 */
	int contrast = 16384 - (m->blink ? 16384 + wave((uint32_t)(m->blink * t)) : 0) / 2;
	int64_t step = (int64_t)TURN * PERIODS / (w < h ? w : h) * scale / 16384;
	uint32_t angle = (uint32_t)(sense * m->turn * t);
	int32_t cosine = (int32_t)(step * wave(angle + TURN / 4) / 16384), sine = (int32_t)(step * wave(angle) / 16384);
	uint32_t slide_x = (uint32_t)(sense * m->right * t), slide_y = (uint32_t)(m->down * t);

	for (int y = 0; y < h; y++) {
		uint8_t *pixel = rgb + 3 * ((size_t)(r.y1 + y) * s->config->width + (size_t)r.x1);
		int32_t from_x = -(w / 2), from_y = y - h / 2;
		uint32_t u = (uint32_t)(cosine * from_x - sine * from_y) - slide_x;
		uint32_t v = (uint32_t)(sine * from_x + cosine * from_y) - slide_y;

		for (int x = 0; x < w; x++, pixel += 3, u += (uint32_t)cosine, v += (uint32_t)sine) {
			/* 40..255 of the colour; the grain below stays visible in an eighth of the light. */
			int value = 148 + texture_at(a->texture, u, v) * 107 / 16384 * contrast / 16384;

			for (int i = 0; i < 3; i++)
				pixel[i] = (uint8_t)((a->colour->rgb[i] * value * 7 / 255 + pixel[i]) / 8);
		}
	}
}

static void frame_paint(const struct studio *s, size_t video, size_t frame, uint8_t *rgb)
{
	size_t within, shot_index = shot_of(frame, &within);
	struct shot shot = shot_draw(s->config, video, shot_index);

	background_paint(s, video, frame, rgb);
	for (size_t i = 0; i < shot.count; i++)
		if (shot.actors[i].motion)
			actor_paint(s, &shot.actors[i], within, rgb);
}

/* ---- files ----------------------------------------------------------------------------- */

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
		frame_paint(s, number, frame, p->rgb);
		if (tjCompress2(p->jpeg, p->rgb, (int)c->width, 0, (int)c->height, TJPF_RGB, &p->file, &bytes,
				TJSAMP_420, c->quality, TJFLAG_NOREALLOC))
			return give_up(s, "cannot compress a frame: %s", tjGetErrorStr2(p->jpeg));
		if (path_make(path, "%s/" AVA_FRAMES "/" AVA_FRAME_PATH, s->root, name, name, frame + 1))
			return FAILED;
		why = frame_write(path, p->file, bytes);
		if (why)
			return give_up(s, "cannot write '%s': %s", path, strerror(why));
		atomic_fetch_add(&s->jpeg_bytes[split], bytes);
	}
	return OK;
}

static void frame_list_print(const struct synth_config *c, enum synth_split split, struct synth_counts *counts, FILE *f)
{
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
		      const struct rect *r, int slack, struct rng *rng)
{
	int corner[4] = { share(r->x1, c->width), share(r->y1, c->height), share(r->x2, c->width),
			  share(r->y2, c->height) };
	int used = snprintf(text, BOX_BYTES, "%s,%04zu", name, second);

	for (int i = 0; i < 4; i++) {
		int v = slack ? clamp(corner[i] + between(rng, -slack, slack), 1000) : corner[i];

		used += snprintf(text + used, BOX_BYTES - (size_t)used, ",%d.%03d", v / 1000, v % 1000);
	}
}

/* One row for each thing that the person does, or one without action; `last` is its id or the score. */
static size_t actions_print(FILE *f, const char *box, const struct actor *a, const char *last)
{
	int actions[] = { a->motion ? a->motion->action : 0, texture_actions[a->texture], a->colour->action };
	size_t rows = 0;

	if (!a->motion)
		return fprintf(f, "%s,,%s\n", box, last) > 0;
	for (size_t i = 0; i < ARRAY_LEN(actions); i++)
		if (actions[i])
			rows += fprintf(f, "%s,%d,%s\n", box, actions[i], last) > 0;
	return rows;
}

/* The last second of the first validation video stands for those on which annotators did not agree. */
static bool is_excluded(const struct synth_config *c, enum synth_split split, size_t video, size_t second)
{
	return split == SYNTH_VAL && !video && c->seconds > 1 && second == AVA_SECOND_MIN + c->seconds - 1;
}

static void truth_print(const struct synth_config *c, enum synth_split split, struct synth_counts *counts, FILE *f)
{
	char name[NAME_BYTES], box[BOX_BYTES], person[24];

	for (size_t video = 0; video < c->videos[split]; video++)
		for (size_t second = AVA_SECOND_MIN; second < AVA_SECOND_MIN + c->seconds; second++) {
			size_t within, shot_index = shot_of(ava_keyframe(second), &within);
			struct shot shot = shot_draw(c, video_number(c, split, video), shot_index);

			if (is_excluded(c, split, video, second))
				continue;
			video_name(name, split, video);
			for (size_t i = 0; i < shot.count; i++) {
				struct rect r = actor_rect(&shot.actors[i], within);

				if (!shot.actors[i].motion)
					continue;
				snprintf(person, sizeof(person), "%zu", shot_index * COLUMNS_MAX + i);
				box_print(box, c, name, second, &r, 0, NULL);
				counts->rows += actions_print(f, box, &shot.actors[i], person);
				counts->boxes++;
			}
		}
}

static void predicted_print(const struct synth_config *c, enum synth_split split, struct synth_counts *counts, FILE *f)
{
	/* What a detector does with persons, again with some of them, and with nobody: the error of the
	 * corners in thousandths of the frame, the score in millionths, in how many of four cases. */
	enum { SURE = (int)(AVA_SCORE_MIN * 1000000) };
	static const struct {
		bool person;
		int slack, least, most;
		uint32_t of_four;
	} habits[] = {
		{ true, 15, SURE, 999999, 4 },
		{ true, 60, SURE / 4, SURE - 1, 1 },
		{ false, 15, SURE / 2, 999999, 4 },
	};
	char name[NAME_BYTES], box[BOX_BYTES], score[16];
	struct rng rng;

	(void)counts;		/* of the ground truth alone */
	for (size_t video = 0; video < c->videos[split]; video++)
		for (size_t second = AVA_SECOND_MIN; second < AVA_SECOND_MIN + c->seconds; second++) {
			size_t number = video_number(c, split, video), within;
			size_t shot_index = shot_of(ava_keyframe(second), &within);
			struct shot shot = shot_draw(c, number, shot_index);

			video_name(name, split, video);
			draw_from(&rng, c->seed, FOR_DETECTOR, number, second);
			for (size_t k = 0; k < shot.count * ARRAY_LEN(habits); k++) {
				const struct actor *a = &shot.actors[k / ARRAY_LEN(habits)];
				size_t h = k % ARRAY_LEN(habits);
				struct rect r = actor_rect(a, within);

				/* Boxes without action are in the training list only ("include_negative"). */
				if (habits[h].person != !!a->motion || (!a->motion && split != SYNTH_TRAIN) ||
				    rng_below(&rng, 4) >= habits[h].of_four)
					continue;
				box_print(box, c, name, second, &r, habits[h].slack, &rng);
				snprintf(score, sizeof(score), "0.%06d", between(&rng, habits[h].least, habits[h].most));
				actions_print(f, box, a, score);
			}
		}
}

static void label_map_print(const struct synth_config *c, enum synth_split split, struct synth_counts *counts, FILE *f)
{
	(void)c, (void)split, (void)counts;
	for (size_t i = 0; i < ARRAY_LEN(labels); i++)
		fprintf(f, "item {\n  name: \"%s\"\n  id: %d\n}\n", labels[i].name, labels[i].id);
}

static void exclusions_print(const struct synth_config *c, enum synth_split split, struct synth_counts *counts, FILE *f)
{
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
	void (*print)(const struct synth_config *, enum synth_split, struct synth_counts *, FILE *);
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
	t->print(s->config, t->split, counts, f);
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
	free(s->tile);
	free(s->grain);
}

static int studio_init(struct studio *s, const struct synth_config *c)
{
	struct rng rng;

	s->config = c;
	s->tile = malloc(TILE * TILE);
	s->grain = malloc(GRAIN);
	s->painters = calloc(c->threads, sizeof(*s->painters));
	if (!s->tile || !s->grain || !s->painters)
		return err(NO_MEMORY, "no memory to paint with");
	for (size_t i = 0; i < c->threads; i++) {
		struct painter *p = &s->painters[i];

		p->room = tjBufSize((int)c->width, (int)c->height, TJSAMP_420);
		p->rgb = malloc(3 * c->width * c->height);
		p->file = malloc(p->room);
		p->jpeg = tjInitCompress();
		if (!p->rgb || !p->file || !p->jpeg)
			return err(NO_MEMORY, "no memory to paint with %zu threads", c->threads);
	}
	tile_make(s->tile, c->seed);
	draw_from(&rng, c->seed, FOR_GRAIN, 0, 0);
	for (size_t i = 0; i < GRAIN; i++)
		s->grain[i] = (int8_t)between(&rng, -5, 5);
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
		counts[i].jpeg_bytes = atomic_load(&s->jpeg_bytes[i]);
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
