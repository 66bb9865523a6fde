/*
 * bench/base/clock.h - the one clock.
 *
 * Time is CLOCK_MONOTONIC_RAW in nanoseconds: never stepped, never slewed, the same for all
 * processes of a node.  Reading it costs some 22 ns on the virtual machines that we meet,
 * which is most of the 25 ns that an event may cost, and an event needs two stamps.  So
 * spans are stamped in *ticks*: the invariant time-stamp counter (10 ns) where the kernel
 * itself trusts it as its clock source, else the clock above.  Ticks become nanoseconds
 * when a record block is sealed, by interpolation between *ties* (both clocks read at one
 * moment), so no frequency is ever assumed, and two processes of one node agree.
 */
#ifndef SFSCALE_BASE_CLOCK_H
#define SFSCALE_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define NS_PER_S 1000000000ull

static inline uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Set once by clock_init(), before any other thread starts. */
extern bool clock_uses_tsc;

/* Chooses the tick source.  Without it ticks are nanoseconds. */
void clock_init(void);

/* A stamp; the same source in every process of a node. */
static inline uint64_t clock_ticks(void)
{
#if defined(__x86_64__)
	if (clock_uses_tsc)
		return __rdtsc();
#endif
	return clock_ns();
}

/* Both clocks at one moment. */
struct clock_tie {
	uint64_t ticks;
	uint64_t ns;
};

/* The tie with the narrowest bracket of a few tries: within some 30 ns. */
struct clock_tie clock_tie_take(void);

/* Ticks to ns on the line through two ties; before `a` and after `b` the line goes on. */
uint64_t clock_tie_ns(struct clock_tie a, struct clock_tie b, uint64_t ticks);

/* Now, as ISO 8601 in UTC: for people, never for measuring. */
enum { CLOCK_UTC_BYTES = 32 };
void clock_utc_text(char text[CLOCK_UTC_BYTES]);

/* Names the boot of this machine: records with the same one were stamped by the same clock.  "" where the system
 * does not say. */
enum { CLOCK_BOOT_BYTES = 64 };
void clock_boot_id(char id[CLOCK_BOOT_BYTES]);

/* Sleeps; for pacing and polling, never for measuring. */
void clock_sleep_ns(uint64_t ns);

#endif
