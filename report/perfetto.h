/*
 * report/perfetto.h - writes a trace as Perfetto's protocol buffers, which ui.perfetto.dev and trace_processor open.
 *
 * Protocol buffers and not Chrome's JSON: times are whole nanoseconds, tracks have names of their own, and a flow is a
 * property of the slices that it joins.  The messages are Trace, TracePacket, TrackDescriptor, TrackEvent
 * and DebugAnnotation of protos/perfetto/trace; names are written out each time, which needs no state
 * in a reader.  Times are since a moment that the caller chooses; there is one clock only.
 *
 * A failed write shows in ferror() of the file.
 */
#ifndef SFSCALE_REPORT_PERFETTO_H
#define SFSCALE_REPORT_PERFETTO_H

#include <stdint.h>
#include <stdio.h>

struct perfetto {
	FILE *out;		/* borrowed */
	uint64_t tracks;	/* described so far: their numbers are 1, 2, ... */
	uint64_t packets;
};

/* A value beside a slice: text, or a number where `text` is NULL. */
struct perfetto_note {
	const char *name, *text;
	int64_t number;
};

/* Each returns the number of the new track; processes and threads stand in ascending order. */
uint64_t perfetto_process(struct perfetto *, const char *name, int32_t order);
uint64_t perfetto_thread(struct perfetto *, uint64_t process, const char *name, int32_t order);
uint64_t perfetto_counter(struct perfetto *, uint64_t process, const char *name);

/* Slices of a track nest; its calls come in the order of their times.  `flow` joins slices, 0: none. */
void perfetto_begin(struct perfetto *, uint64_t track, uint64_t at_ns, const char *name, uint64_t flow,
		    const struct perfetto_note *, size_t note_count);
void perfetto_end(struct perfetto *, uint64_t track, uint64_t at_ns);
void perfetto_instant(struct perfetto *, uint64_t track, uint64_t at_ns, const char *name);
void perfetto_count(struct perfetto *, uint64_t track, uint64_t at_ns, int64_t value);

#endif
