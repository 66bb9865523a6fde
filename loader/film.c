/*
 * loader/film.c - see film.h.
 *
 * What a person does can be seen.  Its motion is the pose label, its texture what it does with
 * an object, its colour what it does with others; so a network has to look at time (fast pathway)
 * for the first and at space (slow pathway) for the rest.  Training mirrors clips at random: no
 * label may depend on left and right, and none does.  A pattern moves 1.5 periods a second at
 * most, which even a clip that takes every eighth frame can follow.
 *
 * Behind the people two layers of 1/f noise slide over each other, and grain lies over all: it
 * gives the files the size, and so the decoder the work, of filmed frames.
 *
 * All arithmetic is in whole numbers, so a frame does not depend on the machine.
 */
#include "loader/film.h"

#include "bench/base/err.h"
#include "bench/base/rng.h"
#include "loader/ava.h"

#include <stdlib.h>
#include <string.h>

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

/* ---- the script: who is where, doing what ---------------------------------------------- */

enum {
	SHOT_S = 4,
	SHOT_FRAMES = SHOT_S * AVA_FPS,
	PERIODS = 2,			/* of a pattern, over the shorter side of its rectangle */
	TILE = 512,			/* side of the noise behind the people; a power of two */
	GRAIN = 1 << 14,		/* bytes of grain; a power of two */
};

/* Streams of random numbers: one for each purpose, video and moment. */
enum purpose { FOR_TILE, FOR_GRAIN, FOR_VIDEO, FOR_SHOT, FOR_FRAME };

static void draw_from(struct rng *rng, uint64_t seed, enum purpose purpose, size_t video, size_t moment)
{
	rng_init(rng, seed, (uint64_t)purpose << 56 | (uint64_t)video << 32 | moment);
}

/* A whole number in least..most. */
static int between(struct rng *rng, int least, int most)
{
	return least + (int)rng_below(rng, (uint32_t)(most - least + 1));
}

static int clamp(int value, int least, int most)
{
	return value < least ? least : value > most ? most : value;
}

/* It drifts by an eighth of its size in the whole shot, a small part of what the slowest pattern does. */
static struct film_actor actor_draw(struct rng *rng, int column_x, int column_width, int height, size_t within)
{
	int w = between(rng, column_width * 5 / 8, column_width * 7 / 8), h = between(rng, height / 2, height * 7 / 8);
	int x = column_x + between(rng, 0, column_width - w), y = between(rng, 0, height - h);
	int last_x = clamp(x + between(rng, -w / 8, w / 8), column_x, column_x + column_width - w);
	int last_y = clamp(y + between(rng, -h / 8, h / 8), 0, height - h);
	struct film_actor a;

	/* One draw per statement: an initialiser list may be evaluated in any order. */
	a.motion = rng_below(rng, ARRAY_LEN(motions));
	a.texture = rng_below(rng, ARRAY_LEN(texture_actions));
	a.colour = rng_below(rng, ARRAY_LEN(colours));
	a.sense = rng_below(rng, 2) ? -1 : 1;
	a.id = 0;
	x += (last_x - x) * (int)within / (SHOT_FRAMES - 1);
	y += (last_y - y) * (int)within / (SHOT_FRAMES - 1);
	a.rect = (struct film_rect){ x, y, x + w, y + h };
	a.actions[0] = motions[a.motion].action;
	a.actions[1] = texture_actions[a.texture];
	a.actions[2] = colours[a.colour].action;
	return a;
}

struct film_shot film_shot(const struct film *film, size_t video, size_t frame)
{
	size_t shifted = frame + AVA_FPS / 2, index = shifted / SHOT_FRAMES;	/* cut between two keyframes */
	struct film_shot shot = { .within = shifted % SHOT_FRAMES };
	struct rng rng;
	int width;
	size_t peopled;

	draw_from(&rng, film->seed, FOR_SHOT, video, index);
	shot.count = 1 + rng_below(&rng, FILM_COLUMNS_MAX);
	peopled = rng_below(&rng, (uint32_t)shot.count);	/* this one for certain: every keyframe is a clip */
	width = (int)(film->width / shot.count);
	for (size_t i = 0; i < shot.count; i++) {
		struct film_actor *a = &shot.actors[i];

		*a = actor_draw(&rng, (int)i * width, width, (int)film->height, shot.within);
		a->id = index * FILM_COLUMNS_MAX + i;
		if (!rng_below(&rng, 4) && i != peopled)
			memset(a->actions, 0, sizeof(a->actions));
	}
	return shot;
}

/* ---- the painter ----------------------------------------------------------------------- */

/* A sine made of parabolas, 1 is 16384: the same on every machine, and nobody sees the difference. */
static int wave(uint32_t angle)
{
	int x = (int)(angle & (TURN / 2 - 1)), y = x * (TURN / 2 - x) >> 14;

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
				uint32_t value = knots[k] * (size - fx) + knots[k + 1] * fx;	/* times cell squared */

				tile[y * TILE + x] += (uint8_t)(value / size / 256);	/* of strength cell / 256 */
			}
		}
	}
}

/* The sum of two tiles, 0..510, in the colours of a video: what grain is added to. */
enum { LIGHTS = 511 };

static void background_paint(const struct film *film, size_t video, size_t frame, uint8_t *rgb)
{
	uint8_t shades[LIGHTS][4];	/* the fourth byte is for the address only */
	unsigned near_x, near_y, far_x, far_y;
	struct rng rng;
	int speed_x, speed_y;

	draw_from(&rng, film->seed, FOR_VIDEO, video, 0);
	for (int i = 0; i < 3; i++) {
		unsigned tint = (unsigned)between(&rng, 90, 170);

		for (unsigned light = 0; light < LIGHTS; light++)
			shades[light][i] = (uint8_t)(8 + light * tint / (LIGHTS - 1));
	}
	speed_x = between(&rng, -48, 48);	/* 1/32 of a pixel per frame: a camera that pans */
	speed_y = between(&rng, -16, 16);
	near_x = rng_u32(&rng) + (unsigned)(speed_x * (int)frame / 32);
	near_y = rng_u32(&rng) + (unsigned)(speed_y * (int)frame / 32);
	far_x = rng_u32(&rng) + (unsigned)(speed_x * (int)frame / 96);
	far_y = rng_u32(&rng);
	draw_from(&rng, film->seed, FOR_FRAME, video, frame);
	for (unsigned y = 0; y < film->height; y++) {
		const uint8_t *a = film->tile + (y + near_y) % TILE * TILE;
		const uint8_t *b = film->tile + (y + far_y) % TILE * TILE;
		unsigned grain = rng_u32(&rng);

		for (unsigned x = 0; x < film->width; x++, rgb += 3) {
			const uint8_t *shade = shades[a[(x + near_x) % TILE] + b[(x + far_x) % TILE]];
			int noise = film->grain[(x + grain) % GRAIN];

			for (int i = 0; i < 3; i++)	/* 3..183: nothing to clip */
				rgb[i] = (uint8_t)(shade[i] + noise);
		}
	}
}

/* -16384..16384 */
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

/* What texture_at() says, in so many steps. */
enum { STEPS = 512, STEP = 2 * 16384 / STEPS };

static void actor_paint(const struct film *film, const struct film_actor *a, size_t within, uint8_t *rgb)
{
	const struct motion *m = &motions[a->motion];
	const struct film_rect r = a->rect;
	int w = r.x2 - r.x1, h = r.y2 - r.y1, t = (int)within;
	int scale = 16384 + wave((uint32_t)(m->pulse * t)) / 2;		/* 0.5..1.5 */
	int contrast = 16384 - (m->blink ? 16384 + wave((uint32_t)(m->blink * t)) : 0) / 2;
	int64_t step = (int64_t)TURN * PERIODS / (w < h ? w : h) * scale / 16384;
	uint32_t angle = (uint32_t)(a->sense * m->turn * t);
	int32_t cosine = (int32_t)(step * wave(angle + TURN / 4) / 16384), sine = (int32_t)(step * wave(angle) / 16384);
	uint32_t slide_x = (uint32_t)(a->sense * m->right * t), slide_y = (uint32_t)(m->down * t);
	uint16_t shades[STEPS + 1][4];	/* in eighths: the rest is what lies behind */

	for (int k = 0; k <= STEPS; k++)
		for (int i = 0; i < 3; i++)	/* 41..255 of 255 */
			shades[k][i] = (uint16_t)(7 * colours[a->colour].rgb[i] *
						  (148 + (k * STEP - 16384) * 107 / 16384 * contrast / 16384) / 255);
	for (int y = 0; y < h; y++) {
		uint8_t *pixel = rgb + 3 * ((size_t)(r.y1 + y) * film->width + (size_t)r.x1);
		int32_t from_x = -(w / 2), from_y = y - h / 2;
		uint32_t u = (uint32_t)(cosine * from_x - sine * from_y) - slide_x;
		uint32_t v = (uint32_t)(sine * from_x + cosine * from_y) - slide_y;

		for (int x = 0; x < w; x++, pixel += 3, u += (uint32_t)cosine, v += (uint32_t)sine) {
			const uint16_t *shade = shades[(texture_at((enum texture)a->texture, u, v) + 16384) / STEP];

			for (int i = 0; i < 3; i++)	/* the grain shines through */
				pixel[i] = (uint8_t)((shade[i] + pixel[i]) / 8u);
		}
	}
}

void film_paint(const struct film *film, size_t video, size_t frame, uint8_t *rgb)
{
	struct film_shot shot = film_shot(film, video, frame);

	background_paint(film, video, frame, rgb);
	for (size_t i = 0; i < shot.count; i++)
		if (shot.actors[i].actions[0])
			actor_paint(film, &shot.actors[i], shot.within, rgb);
}

int film_init(struct film *film, uint64_t seed, size_t width, size_t height)
{
	struct rng rng;

	*film = (struct film){ .seed = seed, .width = width, .height = height };
	film->tile = malloc(TILE * TILE);
	film->grain = malloc(GRAIN);
	if (!film->tile || !film->grain) {
		film_release(film);
		return err(NO_MEMORY, "no memory for the scenery");
	}
	tile_make(film->tile, seed);
	draw_from(&rng, seed, FOR_GRAIN, 0, 0);
	for (size_t i = 0; i < GRAIN; i++)
		film->grain[i] = (int8_t)between(&rng, -5, 5);
	return OK;
}

void film_release(struct film *film)
{
	free(film->tile);
	free(film->grain);
	*film = (struct film){ 0 };
}
