/*
 * report/export.c - see export.h.
 *
 * A rank is written while its record is at hand (struct watch, report/runs.h), so no more than one is ever in memory.  Of
 * each lane the slices are sorted by their begin, the longer first, and put onto tracks: onto the first one on
 * which they lie side by side or within each other.  For lanes of a program whose spans nest that is one
 * track; overlapping spans, which a viewer would refuse, get a second.
 */
#include "report/export.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "report/perfetto.h"
#include "report/runs.h"
#include "report/windows.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { USUAL_ITERATIONS = 10, TRACKS_MAX = 8, DEPTH_MAX = 16 };
enum { LANE_WINDOWS = UINT16_MAX + 1 };		/* behind the lanes of a record */

/* What a slice says beside its name. */
enum about { ABOUT_SPAN, ABOUT_COLLECTIVE, ABOUT_CLASS, ABOUT_WINDOW };

struct slice {
	int64_t t0, t1;
	uint32_t lane, order;		/* order: among those of the same length, a parent comes first */
	enum about about;
	const char *name;
	const struct event *event;	/* ABOUT_SPAN, ABOUT_COLLECTIVE */
	uint32_t iteration;
};

struct slices {
	struct slice *at;	/* owned */
	size_t count, room;
};

struct job {
	const struct export_choice *choice;
	struct perfetto out;
	struct export_sum *sum;
	uint32_t first, last;	/* iterations */
	bool *wanted, *seen;	/* owned; by rank; NULL before the first rank was seen */
	bool *flows;		/* owned; by collective: counted */
	size_t ranks;
};

/* ---- what was chosen ------------------------------------------------------------------- */

/* "12" of "12-15": where the number ends, or NULL. */
static const char *number_end(const char *text, size_t *number)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	*number = (size_t)n;
	return isdigit((unsigned char)*text) && n < UINT32_MAX ? end : NULL;
}

/* "3", or "3", a mark and "7". */
static const char *range_end(const char *text, char mark, size_t *first, size_t *last)
{
	const char *at = number_end(text, first);

	*last = *first;
	if (at && *at == mark)
		at = number_end(at + 1, last);
	return at && *first <= *last ? at : NULL;
}

static int choose_iterations(struct job *j, size_t iterations)
{
	const char *text = j->choice->iterations, *end;
	size_t first, last;

	j->first = 0;
	j->last = USUAL_ITERATIONS - 1;
	if (text) {
		end = range_end(text, ':', &first, &last);
		if (!end || *end)
			return err(USAGE, "--iterations: '%s' is not A:B, A not above B", text);
		if (last >= iterations)
			return err(USAGE, "--iterations: '%s': the run has %zu, from 0 on", text, iterations);
		j->first = (uint32_t)first;
		j->last = (uint32_t)last;
	}
	return iterations ? OK : err(FAILED, "no iteration in the records");
}

static int choose_ranks(struct job *j)
{
	const char *text = j->choice->ranks, *at = text;

	for (size_t r = 0; r < j->ranks && !text; r++)
		j->wanted[r] = true;
	while (at) {
		size_t first, last;
		const char *end = range_end(at, '-', &first, &last);

		if (!end || (*end && *end != ','))
			return err(USAGE, "--ranks: '%s' is not numbers and ranges, such as 0,3,8-11", text);
		if (last >= j->ranks)
			return err(USAGE, "--ranks: '%s': the run has %zu, from 0 on", text, j->ranks);
		memset(j->wanted + first, true, last - first + 1);
		at = *end ? end + 1 : NULL;
	}
	return OK;
}

/* Once the run is known. */
static int job_choose(struct job *j, const struct run *r, const struct match *m, const struct marks *marks)
{
	int rc;

	j->ranks = r->ranks;
	j->wanted = calloc(r->ranks, sizeof(*j->wanted));
	j->seen = calloc(r->ranks, sizeof(*j->seen));
	j->flows = calloc(m->count + 1, sizeof(*j->flows));
	if (!j->wanted || !j->seen || !j->flows)
		return err(NO_MEMORY, "no memory for %zu ranks", r->ranks);
	rc = choose_iterations(j, marks->iterations);
	return rc ? rc : choose_ranks(j);
}

/* ---- slices of a rank ------------------------------------------------------------------ */

static int slice_add(struct slices *s, struct slice one)
{
	if (s->count == s->room) {
		size_t room = 2 * s->room + 256;
		struct slice *more = realloc(s->at, room * sizeof(*more));

		if (!more)
			return err(NO_MEMORY, "no memory for %zu slices", room);
		s->at = more;
		s->room = room;
	}
	one.order = (uint32_t)s->count;
	s->at[s->count++] = one;
	return OK;
}

static bool is_chosen(const struct job *j, const struct event *e, const struct marks *m, const struct run *r)
{
	if (e->t0 < r->begin_ns || e->name >= SPAN_COUNT)
		return false;
	if (e->iter != EVENT_NO_ITER)
		return e->iter >= j->first && e->iter <= j->last;
	for (size_t w = 0, k = 0; w < m->windows; w++) {	/* rare: the clocks of the nodes are compared */
		if (k >= j->first && k <= j->last && m->cuts[w] <= e->t0 && e->t0 < m->cuts[w + 1])
			return true;
		k += m->kinds[w] != WINDOW_BOUNDARY;
	}
	return false;
}

static int take_events(struct slices *s, const struct job *j, const struct run *r, const struct match *m, size_t rank,
		       const struct record *rec, const struct marks *marks)
{
	int rc = OK;

	for (size_t i = 0; i < rec->event_count && !rc; i++) {
		const struct event *e = &rec->events[i];
		int64_t end = e->t1 > e->t0 ? e->t1 : e->t0;	/* a clock that jumped */
		struct slice one = { e->t0, end, e->lane, 0, match_find(m, e) ? ABOUT_COLLECTIVE : ABOUT_SPAN, "", e, e->iter };
		int64_t moves;

		if (!is_chosen(j, e, marks, r))
			continue;
		one.name = span_rows[e->name].name;
		rc = slice_add(s, one);
		one.about = ABOUT_CLASS;
		if (rc || !match_moves_ns(m, rank, e, &moves))
			continue;
		if (moves > e->t0)
			rc = slice_add(s, (struct slice){ e->t0, moves, e->lane, 0, ABOUT_CLASS, class_names[CLS_COMM_WAIT], NULL, e->iter });
		if (!rc && moves < end)
			rc = slice_add(s, (struct slice){ moves, end, e->lane, 0, ABOUT_CLASS, class_names[CLS_COMM_WIRE], NULL, e->iter });
	}
	return rc;
}

/* The windows, each filled with the classes that its time went to. */
static int take_windows(struct slices *s, const struct job *j, const struct marks *m, struct ledger *ledger)
{
	static const char *const names[WINDOW_KINDS] = {
		[WINDOW_BOUNDARY] = "boundary", [WINDOW_FIRST] = "first iteration", [WINDOW_STEADY] = "iteration",
	};
	uint32_t k = 0;
	int rc = OK;

	for (size_t w = 0; w < m->windows && !rc; w++) {
		struct slice one = { m->cuts[w], m->cuts[w + 1], LANE_WINDOWS, 0, ABOUT_WINDOW, names[m->kinds[w]], NULL, k };

		if (k >= j->first && k <= j->last)
			rc = slice_add(s, one);
		for (int64_t at = one.t0, to; at < one.t1 && k >= j->first && k <= j->last && !rc; at = to) {
			const char *name = class_names[ledger_class(ledger, at, one.t1, &to)];

			rc = slice_add(s, (struct slice){ at, to, LANE_WINDOWS, 0, ABOUT_CLASS, name, NULL, k });
		}
		k += m->kinds[w] != WINDOW_BOUNDARY;
	}
	return rc;
}

static int by_place(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;

	if (x->lane != y->lane)
		return x->lane < y->lane ? -1 : 1;
	if (x->t0 != y->t0)
		return x->t0 < y->t0 ? -1 : 1;
	if (x->t1 != y->t1)
		return x->t1 > y->t1 ? -1 : 1;
	return (x->order > y->order) - (x->order < y->order);
}

/* ---- writing --------------------------------------------------------------------------- */

/* The rank that is being written. */
struct page {
	struct job *job;
	const struct match *match;
	const struct record *rec;
	size_t rank;
	uint64_t process;
	int64_t origin_ns;
};

struct track {
	uint64_t number;	/* 0: not described yet */
	int64_t ends[DEPTH_MAX];
	size_t depth;
};

static uint64_t since(const struct page *p, int64_t at_ns)
{
	return (uint64_t)(at_ns - p->origin_ns);
}

/* A collective that two or more of the chosen ranks are in; the first of its slices counts it. */
static uint64_t flow_of(const struct page *p, const struct collective *c)
{
	uint32_t index = match_index(p->match, c);
	size_t members = 0;

	if (c->split == SPLIT_UNMATCHED)
		return 0;
	for (size_t r = 0; r < p->job->ranks && members < 2; r++)
		members += p->job->wanted[r] && match_member(p->match, c->lane, r);
	if (members < 2)
		return 0;
	p->job->sum->flows += !p->job->flows[index];
	p->job->flows[index] = true;
	return (uint64_t)index + 1;
}

static void slice_begin(const struct page *p, uint64_t track, const struct slice *s)
{
	struct perfetto_note notes[7];
	size_t n = 0;
	uint64_t flow = 0;

	notes[n++] = (struct perfetto_note){ "iteration", NULL, s->iteration == EVENT_NO_ITER ? -1 : (int64_t)s->iteration };
	if (s->about == ABOUT_SPAN)
		notes[n++] = (struct perfetto_note){ "arg", NULL, (int64_t)s->event->arg };
	if (s->about == ABOUT_COLLECTIVE) {
		const struct collective *c = match_find(p->match, s->event);

		flow = flow_of(p, c);
		notes[n++] = (struct perfetto_note){ "bytes", NULL, (int64_t)s->event->arg };
		notes[n++] = (struct perfetto_note){ "sequence", NULL, s->event->seq };
		notes[n++] = (struct perfetto_note){ "split", split_names[c->split], 0 };
		if (match_is_split(c)) {
			notes[n++] = (struct perfetto_note){ "waits for rank", NULL, match_awaited(p->match, c, p->rank) };
			notes[n++] = (struct perfetto_note){ "wait ns", NULL, match_wait_ns(p->match, c, p->rank) };
		}
	}
	perfetto_begin(&p->job->out, track, since(p, s->t0), s->name, flow, notes, n);
	p->job->sum->slices++;
}

static void pop(const struct page *p, struct track *t, int64_t until_ns)
{
	for (; t->depth && t->ends[t->depth - 1] <= until_ns; t->depth--)
		perfetto_end(&p->job->out, t->number, since(p, t->ends[t->depth - 1]));
}

static void describe(const struct page *p, struct track *t, uint32_t lane, size_t beside)
{
	const cJSON *lanes = cJSON_GetObjectItemCaseSensitive(p->rec->head, "lanes");
	const cJSON *text = cJSON_GetArrayItem(lanes, (int)lane);
	char name[256];

	if (lane == LANE_WINDOWS)
		snprintf(name, sizeof(name), "account");
	else if (cJSON_IsString(text))
		snprintf(name, sizeof(name), "%s", text->valuestring);
	else
		snprintf(name, sizeof(name), "lane %u", lane);
	if (beside)
		snprintf(name + strlen(name), sizeof(name) - strlen(name), " (%zu)", beside + 1);
	t->number = perfetto_thread(&p->job->out, p->process, name, lane == LANE_WINDOWS ? 0 : (int32_t)lane + 1);
}

/* Slices of one lane, sorted. */
static void lane_write(const struct page *p, const struct slice *at, size_t count)
{
	struct track tracks[TRACKS_MAX] = { 0 };
	uint64_t counters[SPAN_COUNT] = { 0 };

	for (size_t i = 0; i < count; i++) {
		const struct slice *s = &at[i];
		enum event_kind kind = s->event ? (enum event_kind)s->event->kind : KIND_RANGE;
		struct track *t = tracks;

		if (kind == KIND_COUNTER) {
			uint64_t *counter = &counters[s->event->name];

			*counter = *counter ? *counter : perfetto_counter(&p->job->out, p->process, s->name);
			perfetto_count(&p->job->out, *counter, since(p, s->t0), (int64_t)s->event->arg);
			continue;
		}
		for (; t < tracks + TRACKS_MAX; t++) {
			pop(p, t, s->t0);
			if (!t->depth || (t->ends[t->depth - 1] >= s->t1 && t->depth < DEPTH_MAX))
				break;
		}
		if (t == tracks + TRACKS_MAX) {
			p->job->sum->left_out++;
			continue;
		}
		if (!t->number)
			describe(p, t, s->lane, (size_t)(t - tracks));
		if (kind == KIND_MARK) {
			perfetto_instant(&p->job->out, t->number, since(p, s->t0), s->name);
			continue;
		}
		slice_begin(p, t->number, s);
		t->ends[t->depth++] = s->t1;
	}
	for (size_t i = 0; i < TRACKS_MAX; i++)
		pop(p, &tracks[i], INT64_MAX);
}

static int rank_write(void *context, const struct run *r, const struct match *m, size_t rank, const struct record *rec,
		      const struct marks *marks, struct ledger *ledger)
{
	struct page p = { .job = context, .match = m, .rec = rec, .rank = rank, .origin_ns = r->begin_ns };
	struct slices s = { 0 };
	char name[256];
	int rc = p.job->wanted ? OK : job_choose(p.job, r, m, marks);

	if (rc || !p.job->wanted[rank])
		return rc;
	p.job->seen[rank] = true;
	p.job->sum->ranks++;
	snprintf(name, sizeof(name), "rank %zu, node %g", rank, json_number(rec->head, "node", 0));
	p.process = perfetto_process(&p.job->out, name, (int32_t)rank);
	rc = take_windows(&s, p.job, marks, ledger);
	rc = rc ? rc : take_events(&s, p.job, r, m, rank, rec, marks);
	if (!rc && s.count)
		qsort(s.at, s.count, sizeof(*s.at), by_place);
	for (size_t i = 0, n; i < s.count && !rc; i += n) {
		for (n = 1; i + n < s.count && s.at[i + n].lane == s.at[i].lane; n++)
			;
		lane_write(&p, s.at + i, n);
	}
	free(s.at);
	return rc;
}

/* ---- all of it ------------------------------------------------------------------------- */

/* What keeps the trace from being what was asked for. */
static int job_judge(struct job *j, const struct runs *all, const char *dir)
{
	const struct run *r = all->count ? all->at : NULL;
	const char *reason = r && r->reason ? r->reason : "no record can be used";

	if (!j->wanted)
		return err(FAILED, "nothing to export from '%s': %s", dir, reason);
	for (size_t rank = 0; rank < j->ranks; rank++)
		if (j->wanted[rank] && !j->seen[rank])
			return err(FAILED, "rank %zu cannot be exported from '%s': %s", rank, dir, reason);
	if (!run_counts(r))
		snprintf(j->sum->flaw, sizeof(j->sum->flaw), "%s: %s", r->status, reason);
	j->last = j->last < r->iterations ? j->last : (uint32_t)r->iterations - 1;
	j->sum->iterations = (size_t)j->last - j->first + 1;
	return OK;
}

int export_perfetto(const char *dir, const char *file, const struct export_choice *choice, struct export_sum *sum)
{
	struct job j = { .choice = choice, .sum = sum };
	const struct watch watch = { rank_write, &j };
	char path[PATH_BYTES];
	struct runs all = { 0 };
	int rc = path_make(path, "%s/" FOLDER_RUN, dir);

	*sum = (struct export_sum){ 0 };
	if (!rc && access(path, R_OK))
		rc = err(FAILED, "'%s' is no run folder: it has no %s%s", dir, FOLDER_RUN,
			 path_make(path, "%s/" FOLDER_LEDGER, dir) || access(path, R_OK) ? "" : "; a sweep's runs lie in its folder 'runs'");
	if (rc)
		return rc;
	j.out.out = file_begin(file);
	if (!j.out.out)
		return FAILED;
	rc = runs_read_watched(&all, &dir, 1, &watch);
	rc = rc ? rc : job_judge(&j, &all, dir);
	rc = file_end(j.out.out, file, rc);
	runs_release(&all);
	free(j.wanted);
	free(j.seen);
	free(j.flows);
	return rc;
}
