/*
 * tests/reference/generate.h - the weights and the batch of a check, out of nothing.
 *
 * generate.py is the same in Python, to the last bit, and says why the numbers are these.  C11 without contraction:
 * the product is exact in double, and the sum is rounded once more to float.
 */
#ifndef SFSCALE_TESTS_GENERATE_H
#define SFSCALE_TESTS_GENERATE_H

#include "bench/base/err.h"
#include "bench/base/hash.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Word `i` of the sequence of a name: splitmix64. */
static uint64_t generate_word(uint64_t seed, size_t i)
{
	uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static double generate_unit(uint64_t seed, size_t i)
{
	return (double)((int64_t)(generate_word(seed, i) >> 40) * 2 + 1 - (1 << 24)) * 0x1p-24;
}

static void generate_values(const char *name, size_t count, double middle, double spread, float *values)
{
	const uint64_t seed = hash_text(HASH_START, name);

	for (size_t i = 0; i < count; i++)
		values[i] = (float)(middle + spread * generate_unit(seed, i));
}

/* A tensor of the state by its name; the dimensions behind the first have `fan_in` values. */
static void generate_state(const char *name, size_t count, size_t fan_in, float *values)
{
	static const struct { const char *ending; double middle, spread; } rules[] = {	/* spread 0: by fan-in */
		{ "stem.bn.bias", -1, 0.25 }, { "branch2.c_bn.weight", 0.25, 0.125 }, { "branch2.c_bn.bias", 0.5, 0.25 },
		{ "head.projection.weight", 0, 0.02 }, { "head.projection.bias", 0, 0.5 }, { "conv.weight", 0, 0 },
		{ "conv_f2s.weight", 0, 0 }, { "branch1.weight", 0, 0 }, { "branch2.a.weight", 0, 0 },
		{ "branch2.b.weight", 0, 0 }, { "branch2.c.weight", 0, 0 }, { "running_mean", 0, 0.25 },
		{ "running_var", 1, 0.5 }, { ".weight", 1, 0.25 }, { ".bias", 2.5, 0.25 },
	};
	size_t bytes = strlen(name), i = 0;

	while (bytes < strlen(rules[i].ending) || strcmp(name + bytes - strlen(rules[i].ending), rules[i].ending))
		i++;
	generate_values(name, count, rules[i].middle, rules[i].spread > 0 ? rules[i].spread : sqrt(6.0 / (double)fan_in),
			values);
}

static void generate_boxes(size_t clips, size_t boxes, size_t crop, float *rois)
{
	const uint64_t seed = hash_text(HASH_START, "boxes");

	for (size_t b = 0; b < boxes; b++) {
		rois[b * 5] = (float)(b * clips / boxes);
		for (size_t c = 0; c < 2; c++) {
			double low = (1 + generate_unit(seed, 4 * b + c)) / 2 * ((double)crop / 2);

			if (b == boxes - 1 && c == 0)	/* a line on the right border */
				rois[b * 5 + 1] = rois[b * 5 + 3] = (float)(crop - 1);
			else {
				rois[b * 5 + 1 + c] = (float)low;
				rois[b * 5 + 3 + c] =
				    (float)(low + (1 + generate_unit(seed, 4 * b + 2 + c)) / 2 * ((double)crop / 2));
			}
		}
	}
}

static void generate_labels(size_t count, float *labels)
{
	const uint64_t seed = hash_text(HASH_START, "labels");

	for (size_t i = 0; i < count; i++)
		labels[i] = generate_unit(seed, i) > 0.75;
}

#endif
