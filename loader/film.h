/*
 * loader/film.h - the film that a made data set shows, frame by frame.
 *
 * A video is cut into shots of four seconds.  A shot is divided into columns; in each stands a
 * person, or nobody, so people never hide each other and a label is never a guess.  A person is
 * a rectangle that drifts within its column and is filled with a moving pattern: its motion, its
 * texture and its colour are its labels.
 *
 * Everything is a function of (seed, size, video, frame), so the painter and the writer of the
 * annotations ask for the same shot and get the same answer, and any number of threads may ask.
 */
#ifndef SFSCALE_LOADER_FILM_H
#define SFSCALE_LOADER_FILM_H

#include <stddef.h>
#include <stdint.h>

enum { FILM_COLUMNS_MAX = 3, FILM_ACTIONS = 3 };

struct film {
	uint64_t seed;
	size_t width, height;		/* of a frame, in pixels */
	uint8_t *tile;			/* noise behind the people, owned */
	int8_t *grain;			/* noise over all, owned */
};

struct film_rect {
	int x1, y1, x2, y2;		/* pixels; the second corner lies outside */
};

struct film_actor {
	int actions[FILM_ACTIONS];	/* pose, with an object, with others; 0: none.  No pose: nobody is here,
					 * but a detector may think so */
	struct film_rect rect;		/* in the frame that was asked for */
	size_t id;			/* of the person within the video */
	size_t motion, texture, colour;	/* rows of the painter's tables */
	int sense;			/* 1 or -1: sideways and turning; nobody's label */
};

struct film_shot {
	struct film_actor actors[FILM_COLUMNS_MAX];
	size_t count;			/* at least one of them is a person */
	size_t within;			/* number of the frame in the shot */
};

/* NO_MEMORY (said). */
int film_init(struct film *, uint64_t seed, size_t width, size_t height);
void film_release(struct film *);

/* Who is seen in a frame (from 0), doing what. */
struct film_shot film_shot(const struct film *, size_t video, size_t frame);

/* The frame itself: RGB RGB ..., rows without padding. */
void film_paint(const struct film *, size_t video, size_t frame, uint8_t *rgb);

#endif
