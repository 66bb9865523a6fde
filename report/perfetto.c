/*
 * report/perfetto.c - see perfetto.h.
 *
 * A message is a row of fields: a varint of 8 x number + wire type, then a varint (type 0), eight bytes
 * (1), or a length and as many bytes (2), among which are messages within messages.  A length is not known
 * before its message is; so it takes four bytes always, as a varint may.
 *
 * The numbers of processes and threads are those of their tracks: the reader asks only that they differ.
 */
#include "report/perfetto.h"

#include <assert.h>
#include <string.h>

enum { TEXT_MAX = 200, PACKET_MAX = 4096, LENGTH_BYTES = 4 };

/* Fields, by the message that they are of. */
enum { TRACE_PACKET = 1 };
enum { PACKET_TIMESTAMP = 8, PACKET_SEQUENCE = 10, PACKET_EVENT = 11, PACKET_FLAGS = 13, PACKET_TRACK = 60 };
enum { TRACK_UUID = 1, TRACK_NAME = 2, TRACK_PROCESS = 3, TRACK_THREAD = 4, TRACK_PARENT = 5, TRACK_COUNTER = 8 };
enum { PROCESS_PID = 1, PROCESS_ORDER = 3, PROCESS_NAME = 6 };
enum { THREAD_PID = 1, THREAD_TID = 2, THREAD_ORDER = 3, THREAD_NAME = 5 };
enum { EVENT_NOTE = 4, EVENT_TYPE = 9, EVENT_TRACK = 11, EVENT_NAME = 23, EVENT_COUNT = 30, EVENT_FLOW = 47 };
enum { NOTE_NUMBER = 4, NOTE_TEXT = 6, NOTE_NAME = 10 };
enum event_type { SLICE_BEGIN = 1, SLICE_END, INSTANT, COUNTER };
enum { SEQUENCE = 1, STATE_CLEARED = 1, STATE_NEEDED = 2 };
enum { VARINT, FIXED64, BYTES };

struct packet {
	uint8_t at[PACKET_MAX];
	size_t used;
};

static void varint(struct packet *p, uint64_t value)
{
	for (; value > 0x7f; value >>= 7)
		p->at[p->used++] = (uint8_t)(value | 0x80);
	p->at[p->used++] = (uint8_t)value;
}

static void key(struct packet *p, uint32_t field, uint32_t type)
{
	assert(p->used + TEXT_MAX + 32 < PACKET_MAX);	/* a caller has a handful of notes */
	varint(p, field << 3 | type);
}

static void put_number(struct packet *p, uint32_t field, uint64_t value)
{
	key(p, field, VARINT);
	varint(p, value);
}

static void put_fixed(struct packet *p, uint32_t field, uint64_t value)
{
	key(p, field, FIXED64);
	for (int i = 0; i < 8; i++)
		p->at[p->used++] = (uint8_t)(value >> 8 * i);
}

/* Texts come from records, which may be damaged: what is not printable ASCII might be no UTF-8 and becomes '?'. */
static void put_text(struct packet *p, uint32_t field, const char *text)
{
	size_t length = strnlen(text, TEXT_MAX);

	key(p, field, BYTES);
	varint(p, length);
	for (size_t i = 0; i < length; i++)
		p->at[p->used++] = text[i] < ' ' || text[i] > '~' ? '?' : (uint8_t)text[i];
}

/* Returns where the message begins, for message_end(). */
static size_t message_begin(struct packet *p, uint32_t field)
{
	key(p, field, BYTES);
	return p->used += LENGTH_BYTES;
}

static void message_end(struct packet *p, size_t begin)
{
	size_t length = p->used - begin;

	for (int i = 0; i < LENGTH_BYTES; i++)
		p->at[begin - LENGTH_BYTES + (size_t)i] = (uint8_t)(length >> 7 * i & 0x7f) | (i + 1 < LENGTH_BYTES ? 0x80 : 0);
}

static size_t packet_begin(struct perfetto *f, struct packet *p)
{
	size_t begin;

	p->used = 0;
	begin = message_begin(p, TRACE_PACKET);
	put_number(p, PACKET_SEQUENCE, SEQUENCE);
	put_number(p, PACKET_FLAGS, f->packets++ ? STATE_NEEDED : STATE_CLEARED);
	return begin;
}

static void packet_end(struct perfetto *f, struct packet *p, size_t begin)
{
	message_end(p, begin);
	fwrite(p->at, 1, p->used, f->out);
}

/* ---- tracks ---------------------------------------------------------------------------- */

uint64_t perfetto_process(struct perfetto *f, const char *name, int32_t order)
{
	struct packet p;
	size_t packet = packet_begin(f, &p), track = message_begin(&p, PACKET_TRACK), process;

	put_number(&p, TRACK_UUID, ++f->tracks);
	process = message_begin(&p, TRACK_PROCESS);
	put_number(&p, PROCESS_PID, f->tracks);
	put_number(&p, PROCESS_ORDER, (uint64_t)order);
	put_text(&p, PROCESS_NAME, name);
	message_end(&p, process);
	message_end(&p, track);
	packet_end(f, &p, packet);
	return f->tracks;
}

uint64_t perfetto_thread(struct perfetto *f, uint64_t process, const char *name, int32_t order)
{
	struct packet p;
	size_t packet = packet_begin(f, &p), track = message_begin(&p, PACKET_TRACK), thread;

	put_number(&p, TRACK_UUID, ++f->tracks);
	put_number(&p, TRACK_PARENT, process);
	thread = message_begin(&p, TRACK_THREAD);
	put_number(&p, THREAD_PID, process);
	put_number(&p, THREAD_TID, f->tracks);
	put_number(&p, THREAD_ORDER, (uint64_t)order);
	put_text(&p, THREAD_NAME, name);
	message_end(&p, thread);
	message_end(&p, track);
	packet_end(f, &p, packet);
	return f->tracks;
}

uint64_t perfetto_counter(struct perfetto *f, uint64_t process, const char *name)
{
	struct packet p;
	size_t packet = packet_begin(f, &p), track = message_begin(&p, PACKET_TRACK);

	put_number(&p, TRACK_UUID, ++f->tracks);
	put_text(&p, TRACK_NAME, name);
	put_number(&p, TRACK_PARENT, process);
	message_end(&p, message_begin(&p, TRACK_COUNTER));
	message_end(&p, track);
	packet_end(f, &p, packet);
	return f->tracks;
}

/* ---- events ---------------------------------------------------------------------------- */

static void put_note(struct packet *p, const struct perfetto_note *n)
{
	size_t note = message_begin(p, EVENT_NOTE);

	put_text(p, NOTE_NAME, n->name);
	if (n->text)
		put_text(p, NOTE_TEXT, n->text);
	else
		put_number(p, NOTE_NUMBER, (uint64_t)n->number);
	message_end(p, note);
}

static void put_event(struct perfetto *f, enum event_type type, uint64_t track, uint64_t at_ns, const char *name, uint64_t flow,
		      int64_t count, const struct perfetto_note *notes, size_t note_count)
{
	struct packet p;
	size_t packet = packet_begin(f, &p), event;

	put_number(&p, PACKET_TIMESTAMP, at_ns);
	event = message_begin(&p, PACKET_EVENT);
	put_number(&p, EVENT_TYPE, type);
	put_number(&p, EVENT_TRACK, track);
	if (name)
		put_text(&p, EVENT_NAME, name);
	if (flow)
		put_fixed(&p, EVENT_FLOW, flow);
	if (type == COUNTER)
		put_number(&p, EVENT_COUNT, (uint64_t)count);
	for (size_t i = 0; i < note_count; i++)
		put_note(&p, &notes[i]);
	message_end(&p, event);
	packet_end(f, &p, packet);
}

void perfetto_begin(struct perfetto *f, uint64_t track, uint64_t at_ns, const char *name, uint64_t flow,
		    const struct perfetto_note *notes, size_t note_count)
{
	put_event(f, SLICE_BEGIN, track, at_ns, name, flow, 0, notes, note_count);
}

void perfetto_end(struct perfetto *f, uint64_t track, uint64_t at_ns)
{
	put_event(f, SLICE_END, track, at_ns, NULL, 0, 0, NULL, 0);
}

void perfetto_instant(struct perfetto *f, uint64_t track, uint64_t at_ns, const char *name)
{
	put_event(f, INSTANT, track, at_ns, name, 0, 0, NULL, 0);
}

void perfetto_count(struct perfetto *f, uint64_t track, uint64_t at_ns, int64_t value)
{
	put_event(f, COUNTER, track, at_ns, NULL, 0, value, NULL, 0);
}
