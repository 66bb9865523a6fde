/*
 * tests/test_export.c - traces field by field against Perfetto's schema (protos/perfetto/trace), and against the run that they show.
 *
 * The decoder here knows the encoding and nothing of the writer.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "bench/base/record.h"
#include "bench/made.h"
#include "report/export.h"
#include "report/runs.h"
#include "tests/folders.h"

#include <fcntl.h>
#include <inttypes.h>

#define MS 1000000ll

enum { RANKS = 4, NODES = 2, EPOCHS = 2, ITERATIONS = 4, BUCKETS = 2, COLLECTIVES = BUCKETS + 2 };

/* ---- a decoder ------------------------------------------------------------------------- */

enum { VARINT, FIXED64, BYTES };
enum message { NONE, TRACE, PACKET, TRACK, PROCESS, THREAD, COUNTER, EVENT, NOTE };

/* The schema, as far as a trace may use it. */
static const struct { enum message of; uint32_t number; uint32_t wire; enum message holds; } schema[] = {
	{ TRACE, 1, BYTES, PACKET },
	{ PACKET, 8, VARINT, NONE },	/* timestamp */
	{ PACKET, 10, VARINT, NONE },	/* trusted_packet_sequence_id */
	{ PACKET, 11, BYTES, EVENT },	/* track_event */
	{ PACKET, 13, VARINT, NONE },	/* sequence_flags */
	{ PACKET, 60, BYTES, TRACK },	/* track_descriptor */
	{ TRACK, 1, VARINT, NONE },	/* uuid */
	{ TRACK, 2, BYTES, NONE },	/* name */
	{ TRACK, 3, BYTES, PROCESS },
	{ TRACK, 4, BYTES, THREAD },
	{ TRACK, 5, VARINT, NONE },	/* parent_uuid */
	{ TRACK, 8, BYTES, COUNTER },
	{ PROCESS, 1, VARINT, NONE },	/* pid */
	{ PROCESS, 3, VARINT, NONE },	/* legacy_sort_index */
	{ PROCESS, 6, BYTES, NONE },	/* process_name */
	{ THREAD, 1, VARINT, NONE },	/* pid */
	{ THREAD, 2, VARINT, NONE },	/* tid */
	{ THREAD, 3, VARINT, NONE },	/* legacy_sort_index */
	{ THREAD, 5, BYTES, NONE },	/* thread_name */
	{ EVENT, 4, BYTES, NOTE },	/* debug_annotations */
	{ EVENT, 9, VARINT, NONE },	/* type */
	{ EVENT, 11, VARINT, NONE },	/* track_uuid */
	{ EVENT, 23, BYTES, NONE },	/* name */
	{ EVENT, 30, VARINT, NONE },	/* counter_value */
	{ EVENT, 47, FIXED64, NONE },	/* flow_ids */
	{ NOTE, 4, VARINT, NONE },	/* int_value */
	{ NOTE, 6, BYTES, NONE },	/* string_value */
	{ NOTE, 10, BYTES, NONE },	/* name */
};

struct wire_field {
	uint32_t number;
	uint64_t value;		/* of BYTES: how many */
	const uint8_t *bytes;
	enum message holds;
};

static uint64_t take_varint(const uint8_t **at, const uint8_t *end)
{
	uint64_t value = 0;

	for (int shift = 0; ; shift += 7) {
		assert_true(*at < end && shift < 64);
		value |= (uint64_t)(**at & 0x7f) << shift;
		if (!(*(*at)++ & 0x80))
			return value;
	}
}

/* The next field of a message; one that the schema has not fails the test. */
static bool take(enum message of, const uint8_t **at, const uint8_t *end, struct wire_field *f)
{
	uint64_t key;
	size_t i = 0;

	if (*at == end)
		return false;
	key = take_varint(at, end);
	while (i < ARRAY_LEN(schema) && (schema[i].of != of || schema[i].number != key >> 3))
		i++;
	if (i == ARRAY_LEN(schema) || schema[i].wire != (key & 7))
		fail_msg("message %d has a field %" PRIu64 " of type %d", of, key >> 3, (int)(key & 7));
	*f = (struct wire_field){ .number = schema[i].number, .holds = schema[i].holds };
	if (schema[i].wire == FIXED64) {
		assert_true(end - *at >= 8);
		memcpy(&f->value, *at, 8);
		*at += 8;
		return true;
	}
	f->value = take_varint(at, end);
	if (schema[i].wire == BYTES) {
		assert_true(f->value <= (uint64_t)(end - *at));
		f->bytes = *at;
		*at += f->value;
	}
	return true;
}

struct track {
	uint64_t uuid, parent, pid;
	char name[64];
	bool process, thread, counter;
	int64_t order;
};

struct seen {
	uint64_t at, until;	/* until: of a slice */
	uint64_t type, track, flow;
	int64_t count, iteration, wait_ns, waits_for;
	size_t parent;		/* slice around it; itself: none */
	char name[32], split[32];
};

struct trace {
	struct track tracks[128];
	struct seen *events;	/* owned; slices (type 1), instants (3), counters (4) */
	size_t track_count, event_count;
};

static void copy_text(char *out, size_t room, const struct wire_field *f)
{
	assert_true(f->value < room);
	memcpy(out, f->bytes, f->value);
	out[f->value] = '\0';
}

static void take_track(struct trace *t, const uint8_t *at, const uint8_t *end)
{
	struct track *k = &t->tracks[t->track_count++];
	struct wire_field f, g;

	assert_true(t->track_count <= ARRAY_LEN(t->tracks));
	*k = (struct track){ 0 };
	while (take(TRACK, &at, end, &f)) {
		const uint8_t *in = f.bytes;

		k->uuid = f.number == 1 ? f.value : k->uuid;
		k->parent = f.number == 5 ? f.value : k->parent;
		if (f.number == 2)
			copy_text(k->name, sizeof(k->name), &f);
		k->process |= f.holds == PROCESS;
		k->thread |= f.holds == THREAD;
		k->counter |= f.holds == COUNTER;
		while (f.holds && take(f.holds, &in, f.bytes + f.value, &g)) {
			if (g.bytes)
				copy_text(k->name, sizeof(k->name), &g);
			k->pid = g.number == 1 ? g.value : k->pid;
			k->order = g.number == 3 ? (int64_t)g.value : k->order;
		}
	}
	assert_int_equal(k->process + k->thread + k->counter, 1);
	assert_true(k->uuid && *k->name);
	for (size_t i = 0; i + 1 < t->track_count; i++)
		assert_true(t->tracks[i].uuid != k->uuid);
}

static const struct track *track_of(const struct trace *t, uint64_t uuid)
{
	for (size_t i = 0; i < t->track_count; i++)
		if (t->tracks[i].uuid == uuid)
			return &t->tracks[i];
	fail_msg("track %" PRIu64 " is not described before its events", uuid);
	return NULL;
}

static void take_note(struct seen *e, const uint8_t *at, const uint8_t *end)
{
	char name[32] = "", text[32] = "";
	int64_t number = 0;
	struct wire_field f;

	while (take(NOTE, &at, end, &f)) {
		if (f.bytes)
			copy_text(f.number == 10 ? name : text, 32, &f);
		else
			number = (int64_t)f.value;
	}
	if (!strcmp(name, "iteration"))
		e->iteration = number;
	else if (!strcmp(name, "wait ns"))
		e->wait_ns = number;
	else if (!strcmp(name, "waits for rank"))
		e->waits_for = number;
	else if (!strcmp(name, "split"))
		strcpy(e->split, text);
	else
		assert_true(!strcmp(name, "arg") || !strcmp(name, "bytes") || !strcmp(name, "sequence"));
}

static struct seen take_event(const uint8_t *at, const uint8_t *end)
{
	struct seen e = { .iteration = -2, .wait_ns = -1, .waits_for = -1 };
	struct wire_field f;

	while (take(EVENT, &at, end, &f)) {
		e.type = f.number == 9 ? f.value : e.type;
		e.track = f.number == 11 ? f.value : e.track;
		e.count = f.number == 30 ? (int64_t)f.value : e.count;
		e.flow = f.number == 47 ? f.value : e.flow;
		if (f.number == 23)
			copy_text(e.name, sizeof(e.name), &f);
		if (f.holds == NOTE)
			take_note(&e, f.bytes, f.bytes + f.value);
	}
	return e;
}

/* Slices nest, and no track runs backwards: begins and ends come in order, and each end ends the innermost. */
static void take_trace(struct trace *t, const char *path)
{
	uint64_t latest[128] = { 0 };
	size_t open[128][16], depth[128] = { 0 }, bytes, packets = 0;
	struct wire_field f, g;
	const uint8_t *at;
	char *data;

	*t = (struct trace){ 0 };
	assert_int_equal(file_read(path, &data, &bytes), OK);
	t->events = calloc(bytes / 8 + 1, sizeof(*t->events));
	assert_non_null(t->events);
	at = (const uint8_t *)data;
	while (take(TRACE, &at, (const uint8_t *)data + bytes, &f)) {
		const uint8_t *in = f.bytes, *end = f.bytes + f.value;
		uint64_t time = UINT64_MAX, sequence = 0, flags = 0;
		struct seen e = { 0 };
		size_t k;

		while (take(PACKET, &in, end, &g)) {
			time = g.number == 8 ? g.value : time;
			sequence = g.number == 10 ? g.value : sequence;
			flags = g.number == 13 ? g.value : flags;
			if (g.holds == TRACK)
				take_track(t, g.bytes, g.bytes + g.value);
			else if (g.holds == EVENT)
				e = take_event(g.bytes, g.bytes + g.value);
		}
		assert_int_equal(sequence, 1);
		assert_int_equal(flags, packets++ ? 2 : 1);
		if (!e.type)
			continue;
		k = (size_t)(track_of(t, e.track) - t->tracks);
		assert_true(time != UINT64_MAX && time >= latest[k]);
		latest[k] = e.at = time;
		assert_true(t->tracks[k].counter == (e.type == 4));
		if (e.type == 2) {
			assert_true(depth[k]);
			t->events[open[k][--depth[k]]].until = time;
			continue;
		}
		assert_true(t->tracks[k].counter || *e.name);
		e.parent = depth[k] ? open[k][depth[k] - 1] : t->event_count;
		if (e.type == 1) {
			assert_true(depth[k] < 16);
			open[k][depth[k]++] = t->event_count;
		}
		t->events[t->event_count++] = e;
	}
	for (size_t k = 0; k < t->track_count; k++)
		assert_int_equal(depth[k], 0);
	free(data);
}

/* Rank of the process that the event's track belongs to, by the process's name. */
static int rank_of(const struct trace *t, const struct seen *e)
{
	int rank = -1, node = -1;

	assert_int_equal(sscanf(track_of(t, track_of(t, e->track)->parent)->name, "rank %d, node %d", &rank, &node), 2);
	assert_int_equal(node, rank / (RANKS / NODES));
	return rank;
}

/* ---- runs and their traces ------------------------------------------------------------- */

static int64_t delay(const void *context, int rank, int iteration, enum span_id id)
{
	(void)context;
	return id == SPAN_LOAD && rank == 2 && iteration == 2 ? 30 * MS : 0;
}

/* Node 1 booted 7 s before node 0. */
static int64_t shift(const void *context, int rank)
{
	(void)context;
	return rank / (RANKS / NODES) * 7000 * MS;
}

static void run_write(const char *dir)
{
	struct made plan = { .ranks = RANKS, .epochs = EPOCHS, .iterations = ITERATIONS, .buckets = BUCKETS, .load = 4 * MS,
			     .first_load = 9 * MS, .copy = 2 * MS, .bcast = MS / 10, .fwd = 30 * MS, .bwd = 30 * MS, .wire = 8 * MS,
			     .opt = 5 * MS, .loss_wire = MS / 5, .log = MS, .boundary = 20 * MS, .delay = delay, .shift = shift };
	size_t events;

	assert_int_equal(made_folder_write(dir, &plan, NODES, &events), OK);
}

/* Behind the last block of rank 0's record. */
static void record_append(const char *dir, const struct event *events, size_t count)
{
	struct record_writer w = { 0 };
	char path[PATH_BYTES];

	assert_int_equal(path_make(path, "%s/" FOLDER_RECORD, dir, (size_t)0), OK);
	w.path = strdup(path);
	w.fd = open(path, O_WRONLY | O_APPEND);
	assert_true(w.fd >= 0);
	assert_int_equal(record_write(&w, RECORD_EVENTS, events, count * sizeof(*events), count), OK);
	assert_int_equal(record_writer_close(&w), OK);
}

static void trace_path(const char *dir, char path[PATH_BYTES])
{
	assert_int_equal(path_make(path, "%s/trace", dir), OK);
}

static struct export_sum trace_of(const char *dir, const char *iterations, const char *ranks, struct trace *t)
{
	struct export_sum sum;
	char path[PATH_BYTES];

	trace_path(dir, path);
	assert_int_equal(export_perfetto(dir, path, &(struct export_choice){ iterations, ranks }, &sum), OK);
	take_trace(t, path);
	return sum;
}

/* ---- tests ----------------------------------------------------------------------------- */

static void ranks_are_processes_and_lanes_are_threads_with_their_names(void **state)
{
	static const char *const lanes[] = { "account", "train", "comm" };
	struct trace t;
	int processes = 0;

	run_write(*state);
	trace_of(*state, NULL, NULL, &t);
	for (size_t i = 0; i < t.track_count; i++) {
		const struct track *k = &t.tracks[i];
		char name[64];

		if (k->process) {
			snprintf(name, sizeof(name), "rank %d, node %d", processes, processes / (RANKS / NODES));
			assert_string_equal(k->name, name);
			assert_int_equal(k->order, processes++);
			continue;
		}
		assert_true(k->thread && k->order < (int64_t)ARRAY_LEN(lanes));
		assert_string_equal(k->name, lanes[k->order]);
		assert_int_equal(k->pid, track_of(&t, k->parent)->pid);
	}
	assert_int_equal(processes, RANKS);
	assert_int_equal(t.track_count, RANKS * (1 + ARRAY_LEN(lanes)));
	free(t.events);
}

/* Windows sum to the wall time, their parts to them, and the parts of each class to what the tables say. */
static void the_account_lane_sums_to_the_account_of_the_run(void **state)
{
	int64_t parts[CLS_COUNT] = { 0 }, wall = 0, in_windows = 0;
	const char *dir = *state;
	struct runs all;
	struct trace t;

	run_write(dir);
	trace_of(dir, "0:7", NULL, &t);
	assert_int_equal(runs_read(&all, &dir, 1), OK);
	for (size_t i = 0; i < t.event_count; i++) {
		const struct seen *e = &t.events[i];
		int cls = 0;

		if (strcmp(track_of(&t, e->track)->name, "account"))
			continue;
		if (e->parent == i) {
			wall += (int64_t)(e->until - e->at);
			continue;
		}
		while (cls < CLS_COUNT && strcmp(class_names[cls], e->name))
			cls++;
		assert_true(cls < CLS_COUNT);
		parts[cls] += (int64_t)(e->until - e->at);
		in_windows += (int64_t)(e->until - e->at);
	}
	assert_int_equal(wall, in_windows);
	for (int cls = 0; cls < CLS_COUNT; cls++)
		for (int k = 0; k < WINDOW_KINDS; k++)
			parts[cls] -= all.at[0].sums[k].parts_ns[cls];
	for (int cls = 0; cls < CLS_COUNT; cls++)
		assert_int_equal(parts[cls], 0);
	assert_true(all.at[0].sums[WINDOW_STEADY].parts_ns[CLS_COMM_WAIT] > 0);
	runs_release(&all);
	free(t.events);
}

static void a_flow_joins_exactly_the_chosen_members_of_one_collective(void **state)
{
	static const struct { const char *ranks; unsigned members; size_t flows; } cases[] = {
		{ NULL, 0xf, 3 * COLLECTIVES },
		{ "0,2-3", 0xd, 3 * COLLECTIVES },
		{ "1", 0, 0 },		/* nobody to be joined with */
	};

	run_write(*state);
	for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
		unsigned members[256] = { 0 };
		const struct seen *first[256] = { 0 };
		struct trace t;
		size_t flows = 0;
		struct export_sum sum = trace_of(*state, "1:3", cases[c].ranks, &t);

		for (size_t i = 0; i < t.event_count; i++) {
			const struct seen *e = &t.events[i];
			unsigned bit = 1u << rank_of(&t, e);

			if (!e->flow)
				continue;
			assert_true(e->flow < 256 && e->type == 1 && !(members[e->flow] & bit));
			members[e->flow] |= bit;
			if (!first[e->flow])
				first[e->flow] = e;
			assert_string_equal(e->name, first[e->flow]->name);
			assert_int_equal(e->iteration, first[e->flow]->iteration);
		}
		for (size_t i = 0; i < 256; i++) {
			flows += members[i] != 0;
			assert_true(!members[i] || members[i] == cases[c].members);
		}
		assert_int_equal(flows, cases[c].flows);
		assert_int_equal(sum.flows, flows);
		free(t.events);
	}
}

static void only_chosen_iterations_and_ranks_are_in_it(void **state)
{
	static const struct { const char *iterations, *ranks; int first, last; unsigned in; size_t windows; } cases[] = {
		{ "2:3", "0,2-3", 2, 3, 0xd, 2 },
		{ "4:4", "1", 4, 4, 0x2, 2 },		/* an epoch's first one, with its boundary */
		{ NULL, NULL, 0, 7, 0xf, 10 },
	};

	run_write(*state);
	for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
		struct export_sum sum;
		struct trace t;
		size_t windows[RANKS] = { 0 }, slices = 0;
		unsigned ranks = 0;

		sum = trace_of(*state, cases[c].iterations, cases[c].ranks, &t);
		for (size_t i = 0; i < t.event_count; i++) {
			const struct seen *e = &t.events[i];
			int rank = rank_of(&t, e);

			slices += e->type == 1;
			ranks |= 1u << rank;
			if (e->type == 1)
				assert_true(e->iteration >= cases[c].first && e->iteration <= cases[c].last);
			windows[rank] += e->parent == i && !strcmp(track_of(&t, e->track)->name, "account");
		}
		assert_int_equal(ranks, cases[c].in);
		for (unsigned r = 0; r < RANKS; r++)
			assert_int_equal(windows[r], cases[c].in >> r & 1 ? cases[c].windows : 0);
		assert_int_equal(sum.slices, slices);
		assert_int_equal(sum.iterations, cases[c].last - cases[c].first + 1);
		free(t.events);
	}
}

/* All ranks leave an all-reduce at one moment of the common clock, whatever their own clocks show; and the wait of 30 ms
 * for rank 2 stands where it was. */
static void times_are_of_the_common_clock_and_waits_are_in_their_collectives(void **state)
{
	uint64_t left[256] = { 0 };
	int64_t longest = 0;
	struct trace t;

	run_write(*state);
	trace_of(*state, "1:3", NULL, &t);
	for (size_t i = 0; i < t.event_count; i++) {
		const struct seen *e = &t.events[i];
		int rank = rank_of(&t, e);
		int64_t wait = 0, wire = 0;

		assert_true(e->at < 7000 * (uint64_t)MS);	/* 7 s of node 1 are taken out */
		if (!e->flow)
			continue;
		for (size_t k = i + 1; k < t.event_count; k++) {
			if (t.events[k].parent != i)
				continue;
			*(strcmp(t.events[k].name, class_names[CLS_COMM_WAIT]) ? &wire : &wait) += (int64_t)(t.events[k].until - t.events[k].at);
		}
		if (!strcmp(e->split, "unclear")) {	/* a broadcast for which nobody waits: 1 us of clock error is all there is */
			assert_string_equal(e->name, "bcast_bn");
			assert_int_equal(e->wait_ns, -1);
			assert_int_equal(wait + wire, 0);
			continue;
		}
		assert_int_equal(wait, e->wait_ns);
		assert_int_equal(wait + wire, e->until - e->at);
		if (!strcmp(e->name, "allreduce") && !left[e->flow])
			left[e->flow] = e->until;
		if (!strcmp(e->name, "allreduce"))
			assert_int_equal(e->until, left[e->flow]);
		if (e->iteration == 2 && !strcmp(e->name, "allreduce") && rank != 2 && wait) {
			assert_int_equal(e->waits_for, 2);
			longest = wait > longest ? wait : longest;
		}
	}
	assert_int_equal(longest, 30 * MS);	/* in the first bucket; the second one queues behind it */
	free(t.events);
}

/* A viewer refuses spans of one track that lie across each other. */
static void spans_that_overlap_get_tracks_side_by_side(void **state)
{
	static const struct event more[] = {
		{ .t0 = 1100 * MS, .t1 = 1130 * MS, .name = SPAN_MAKE_BATCH, .lane = 2, .cls = CLS_ASIDE },
		{ .t0 = 1110 * MS, .t1 = 1140 * MS, .name = SPAN_MAKE_BATCH, .lane = 2, .cls = CLS_ASIDE },
		{ .t0 = 1112 * MS, .t1 = 1120 * MS, .name = SPAN_MAKE_BATCH, .lane = 2, .cls = CLS_ASIDE },
		{ .t0 = 1130 * MS, .t1 = 1150 * MS, .name = SPAN_MAKE_BATCH, .lane = 2, .cls = CLS_ASIDE },
		{ .t0 = 1100 * MS, .t1 = 1100 * MS, .arg = 5, .name = SPAN_QUEUE_DEPTH, .lane = 0, .kind = KIND_COUNTER, .cls = CLS_ASIDE },
		{ .t0 = 1200 * MS, .t1 = 1200 * MS, .name = SPAN_RUN_END, .lane = 2, .kind = KIND_MARK, .cls = CLS_ASIDE },
		{ .t0 = 10 * MS, .t1 = 20 * MS, .name = SPAN_MAKE_BATCH, .lane = 2, .cls = CLS_ASIDE },	/* before the run */
	};
	static const struct { uint64_t type, at; const char *track; } want[] = {
		{ 4, 100, "queue_depth" },
		{ 1, 100, "lane 2" }, { 1, 110, "lane 2 (2)" }, { 1, 112, "lane 2" }, { 1, 130, "lane 2" }, { 3, 200, "lane 2" },
	};
	struct trace t;
	size_t n = 0;

	run_write(*state);
	record_append(*state, more, ARRAY_LEN(more));
	trace_of(*state, "0:0", "0", &t);
	for (size_t i = 0; i < t.event_count; i++) {
		const struct seen *e = &t.events[i];
		const struct track *k = track_of(&t, e->track);

		if (!k->counter && strncmp(k->name, "lane 2", 6))
			continue;
		assert_true(n < ARRAY_LEN(want));
		assert_int_equal(e->type, want[n].type);
		assert_int_equal(e->at, want[n].at * (uint64_t)MS);
		assert_string_equal(k->name, want[n].track);
		assert_int_equal(e->count, e->type == 4 ? 5 : 0);
		n++;
	}
	assert_int_equal(n, ARRAY_LEN(want));
	free(t.events);
}

static void a_choice_that_the_run_has_not_is_named_and_leaves_no_file(void **state)
{
	static const struct { const char *iterations, *ranks, *folder; int rc; const char *says; } cases[] = {
		{ "5:8", NULL, "", USAGE, "'5:8': the run has 8" },
		{ "3:2", NULL, "", USAGE, "'3:2' is not A:B" },
		{ "3-4", NULL, "", USAGE, "'3-4' is not A:B" },
		{ "-1:4", NULL, "", USAGE, "'-1:4' is not A:B" },
		{ NULL, "4", "", USAGE, "'4': the run has 4" },
		{ NULL, "0,,1", "", USAGE, "'0,,1' is not numbers" },
		{ NULL, "", "", USAGE, "'' is not numbers" },
		{ NULL, NULL, "/no", FAILED, "no run folder" },
		{ NULL, "1", "", FAILED, "rank 1 cannot be exported" },	/* its record is removed before this one */
		{ NULL, NULL, "", FAILED, "rank 1 cannot be exported" },
	};
	char path[PATH_BYTES], dir[PATH_BYTES], record[PATH_BYTES];
	struct export_sum sum;

	run_write(*state);
	trace_path(*state, path);
	assert_int_equal(path_make(record, "%s/" FOLDER_RECORD, (char *)*state, (size_t)1), OK);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (cases[i].rc == FAILED && !*cases[i].folder)
			unlink(record);
		assert_int_equal(path_make(dir, "%s%s", (char *)*state, cases[i].folder), OK);
		assert_int_equal(export_perfetto(dir, path, &(struct export_choice){ cases[i].iterations, cases[i].ranks }, &sum),
				 cases[i].rc);
		if (!strstr(err_last(), cases[i].says))
			fail_msg("'%s' says nothing of '%s'", err_last(), cases[i].says);
		assert_int_equal(access(path, F_OK), -1);
	}
}

/* Nobody knows what a rank without a record did in a collective. */
static void a_missing_rank_leaves_the_others_without_flows_and_is_said(void **state)
{
	struct export_sum sum;
	char record[PATH_BYTES];
	struct trace t;

	run_write(*state);
	assert_int_equal(path_make(record, "%s/" FOLDER_RECORD, (char *)*state, (size_t)1), OK);
	unlink(record);
	sum = trace_of(*state, NULL, "0,2", &t);
	assert_int_equal(sum.flows, 0);
	assert_int_equal(sum.ranks, 2);
	assert_non_null(strstr(sum.flaw, "damaged"));
	free(t.events);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		IN_FOLDER(ranks_are_processes_and_lanes_are_threads_with_their_names),
		IN_FOLDER(the_account_lane_sums_to_the_account_of_the_run),
		IN_FOLDER(a_flow_joins_exactly_the_chosen_members_of_one_collective),
		IN_FOLDER(only_chosen_iterations_and_ranks_are_in_it),
		IN_FOLDER(times_are_of_the_common_clock_and_waits_are_in_their_collectives),
		IN_FOLDER(spans_that_overlap_get_tracks_side_by_side),
		IN_FOLDER(a_choice_that_the_run_has_not_is_named_and_leaves_no_file),
		IN_FOLDER(a_missing_rank_leaves_the_others_without_flows_and_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
