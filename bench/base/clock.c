/*
 * bench/base/clock.c - see clock.h.
 */
#include "bench/base/clock.h"

#include <stdio.h>
#include <string.h>

bool clock_uses_tsc;

/* The kernel watches its clock source against others and drops an unstable TSC, so its
 * choice is worth more than the CPUID bits alone. */
void clock_init(void)
{
#if defined(__x86_64__)
	char source[32] = "";
	FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "r");

	if (!f)
		return;
	if (fgets(source, sizeof(source), f))
		clock_uses_tsc = !strcmp(source, "tsc\n");
	fclose(f);
#endif
}

struct clock_tie clock_tie_take(void)
{
	struct clock_tie best = { 0, 0 };
	uint64_t narrowest = UINT64_MAX;

	for (int i = 0; i < 4; i++) {
		uint64_t before = clock_ticks();
		uint64_t ns = clock_ns();
		uint64_t width = clock_ticks() - before;

		if (width < narrowest) {
			narrowest = width;
			best = (struct clock_tie){ .ticks = before + width / 2, .ns = ns };
		}
	}
	return best;
}

uint64_t clock_tie_ns(struct clock_tie a, struct clock_tie b, uint64_t ticks)
{
	__int128 ns;

	if (b.ticks == a.ticks)
		return a.ns + (ticks - a.ticks);
	ns = (__int128)(int64_t)(ticks - a.ticks) * (int64_t)(b.ns - a.ns);
	return a.ns + (uint64_t)(int64_t)(ns / (int64_t)(b.ticks - a.ticks));
}

void clock_utc_text(char text[CLOCK_UTC_BYTES])
{
	time_t now = time(NULL);
	struct tm utc;

	strftime(text, CLOCK_UTC_BYTES, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
}

void clock_boot_id(char id[CLOCK_BOOT_BYTES])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");

	if (!f || !fgets(id, CLOCK_BOOT_BYTES, f))
		id[0] = '\0';
	if (f)
		fclose(f);
	id[strcspn(id, "\n")] = '\0';
}

void clock_sleep_ns(uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };

	while (nanosleep(&t, &t))
		;
}
