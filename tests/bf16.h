/*
 * tests/bf16.h - bf16 by its definition, the upper half of a float, rounded to nearest even; what tests hold others against.
 */
#ifndef SFSCALE_TESTS_BF16_H
#define SFSCALE_TESTS_BF16_H

#include <stdint.h>
#include <string.h>

static inline float bf16_value(uint16_t bits)
{
	const uint32_t wide = (uint32_t)bits << 16;
	float v;

	memcpy(&v, &wide, sizeof(v));
	return v;
}

static inline uint16_t bf16_bits(float v)
{
	uint32_t wide;

	memcpy(&wide, &v, sizeof(wide));
	if (v != v)
		return 0x7fff;
	return (uint16_t)((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
}

#endif
