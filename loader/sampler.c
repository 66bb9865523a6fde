/*
 * loader/sampler.c - see sampler.h.
 *
 * PyTorch's CPU generator is MT19937 (Matsumoto and Nishimura 1998) with its 32-bit
 * initialisation; randperm exchanges element i with one of those behind it, taking the plain
 * remainder.  The remainder is slightly unfair, and part of the definition.
 */
#include "loader/sampler.h"

#include "bench/base/err.h"

#include <assert.h>
#include <stdlib.h>

enum { MT_WORDS = 624, MT_SHIFT = 397 };

struct mt19937 {
	uint32_t word[MT_WORDS];
	size_t next;
};

static void mt_seed(struct mt19937 *mt, uint32_t seed)
{
	mt->word[0] = seed;
	for (uint32_t i = 1; i < MT_WORDS; i++)
		mt->word[i] = 1812433253u * (mt->word[i - 1] ^ mt->word[i - 1] >> 30) + i;
	mt->next = MT_WORDS;
}

static void mt_turn(struct mt19937 *mt)
{
	for (size_t i = 0; i < MT_WORDS; i++) {
		uint32_t mixed = (mt->word[i] & 0x80000000u) | (mt->word[(i + 1) % MT_WORDS] & 0x7fffffffu);

		mt->word[i] = mt->word[(i + MT_SHIFT) % MT_WORDS] ^ mixed >> 1 ^ (mixed & 1 ? 0x9908b0dfu : 0);
	}
	mt->next = 0;
}

static uint32_t mt_u32(struct mt19937 *mt)
{
	uint32_t v;

	if (mt->next == MT_WORDS)
		mt_turn(mt);
	v = mt->word[mt->next++];
	v ^= v >> 11;
	v ^= v << 7 & 0x9d2c5680u;
	v ^= v << 15 & 0xefc60000u;
	return v ^ v >> 18;
}

int sampler_init(struct sampler *s, size_t count, size_t world)
{
	assert(world && world <= count);
	*s = (struct sampler){ .count = count, .world = world, .share = (count + world - 1) / world };
	s->order = malloc(count * sizeof(*s->order));
	return s->order ? OK : err(NO_MEMORY, "no memory for the order of %zu examples", count);
}

void sampler_release(struct sampler *s)
{
	free(s->order);
	*s = (struct sampler){ 0 };
}

void sampler_draw(struct sampler *s, uint64_t seed)
{
	struct mt19937 mt;

	mt_seed(&mt, (uint32_t)seed);
	for (size_t i = 0; i < s->count; i++)
		s->order[i] = (uint32_t)i;
	for (size_t i = 0; i + 1 < s->count; i++) {
		size_t j = i + mt_u32(&mt) % (s->count - i);
		uint32_t other = s->order[j];

		s->order[j] = s->order[i];
		s->order[i] = other;
	}
}
