/*
 * bench/base/hash.h - FNV-1a, 64 bits (Fowler, Noll and Vo): equal things have equal hashes on every machine.
 */
#ifndef SFSCALE_BASE_HASH_H
#define SFSCALE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START 0xcbf29ce484222325ull

static inline uint64_t hash_byte(uint64_t hash, uint8_t byte)
{
	return (hash ^ byte) * 0x100000001b3ull;
}

static inline uint64_t hash_text(uint64_t hash, const char *text)
{
	for (; *text; text++)
		hash = hash_byte(hash, (uint8_t)*text);
	return hash;
}

/* The lowest `bytes` bytes of `value`, least first: the same on either byte order. */
static inline uint64_t hash_word(uint64_t hash, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		hash = hash_byte(hash, (uint8_t)(value >> 8 * i));
	return hash;
}

#endif
