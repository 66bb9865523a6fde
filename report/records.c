/*
 * report/records.c - see records.h.
 */
#include "report/records.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "loader/workers.h"
#include "report/blame.h"
#include "report/crew.h"
#include "report/windows.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEEP_BYTES = 1 << 30 };

/* What is known of a rank between the passes. */
struct rank {
	struct record rec;	/* owned; kept from the first pass to the second, or empty */
	struct marks marks;	/* owned; from the first pass to the second */
	struct ledger ledger;	/* owned; kept from the second pass to the third, or empty */
	bool usable, kept, accounted;
	size_t kept_bytes;	/* of the record */
	int64_t begin_ns, end_ns;
};

struct passes {
	struct runs *all;
	struct run *run;
	struct rank *ranks;	/* owned */
	size_t kept_bytes;
	const char **clocks;	/* owned, with its texts: what tells the clocks of ranks apart */
	size_t clock_count;
	bool asked, unfinished;	/* whether we know that it runs no more; that run.json says it runs */
	struct match match;
	struct courses *courses;
	struct feed_plan plan;
};

static int record_path(const struct passes *p, size_t rank, char path[PATH_BYTES])
{
	return path_make(path, "%s/" FOLDER_RECORD, p->run->folder, rank);
}

/* Whether the process that wrote this record lives: only its own machine, in its own boot, can know. */
static bool still_running(const cJSON *head)
{
	char host[256] = "", boot[CLOCK_BOOT_BYTES];
	pid_t pid = (pid_t)json_number(head, "pid", 0);

	clock_boot_id(boot);
	if (pid <= 0 || !*boot || gethostname(host, sizeof(host) - 1))
		return false;
	return !strcmp(host, json_string(head, "host", "")) && !strcmp(boot, json_string(head, "boot_id", "")) &&
	       (!kill(pid, 0) || errno == EPERM);
}

/* run.json is rank 0's, which was ended when another rank failed; that one left its reason in its record. */
static void ask_failed_rank(struct passes *p)
{
	struct run *r = p->run;

	for (size_t rank = 0; rank < r->ranks && run_counts(r); rank++) {
		char path[PATH_BYTES];
		struct record rec;

		if (record_path(p, rank, path) || access(path, R_OK) || record_read(path, &rec))
			continue;
		if (!strcmp(json_string(rec.tail, "status", ""), "failed"))
			run_spoil(r, "failed", "rank %zu: %s", rank, json_string(rec.tail, "reason", "no reason given"));
		record_release(&rec);
	}
}

/* ---- clocks ---------------------------------------------------------------------------- */

/* The worst bound lies in the middle between two points, or at an end. */
static int64_t worst_bound(const struct sync *s, int64_t begin_ns, int64_t end_ns)
{
	int64_t worst = sync_bound_ns(s, begin_ns), at = sync_bound_ns(s, end_ns);

	worst = at > worst ? at : worst;
	for (size_t i = 1; i < s->count; i++) {
		int64_t low = s->points[i - 1].local_ns, high = s->points[i].local_ns;

		at = sync_bound_ns(s, low + (high - low) / 2);
		worst = at > worst ? at : worst;
	}
	return worst;
}

/* How a record's clock stands to the reference clock of the run. */
struct alignment {
	int64_t bound_ns;	/* how wrong that may be; MATCH_UNALIGNED */
	size_t jumps, left_out;	/* as in struct sync */
};

/* Brings the events to the reference clock; a record without sync points keeps its own time, which nobody else's can be
 * compared with. */
static int align(struct record *rec, struct alignment *a)
{
	int64_t begin = INT64_MAX, end = INT64_MIN;
	struct sync s;
	int rc = sync_init(&s, rec->syncs, rec->sync_count);

	*a = (struct alignment){ MATCH_UNALIGNED, s.jumps, s.left_out };
	if (rc)
		return rc;
	for (size_t i = 0; i < rec->event_count && s.count; i++) {
		begin = rec->events[i].t0 < begin ? rec->events[i].t0 : begin;
		end = rec->events[i].t1 > end ? rec->events[i].t1 : end;
	}
	if (s.count && rec->event_count)
		a->bound_ns = worst_bound(&s, begin, end);
	for (size_t i = 0; i < rec->event_count && s.count && s.points[0].hops; i++) {
		rec->events[i].t0 = sync_ref_ns(&s, rec->events[i].t0);
		rec->events[i].t1 = sync_ref_ns(&s, rec->events[i].t1);
	}
	sync_release(&s);
	return OK;
}

/* ---- first pass: match ----------------------------------------------------------------- */

struct first_part {
	struct record rec;
	struct marks marks;
	char why[PATH_BYTES + 256];	/* it cannot be read; "": it can */
	bool absent;
	size_t impossible;	/* events with times that cannot be */
	struct alignment clock;
};

static int first_work(void *context, size_t rank, void *part)
{
	const struct passes *p = context;
	struct first_part *f = part;
	char path[PATH_BYTES];
	int rc;

	if (record_path(p, rank, path))
		return FAILED;
	if (access(path, R_OK)) {
		f->absent = true;
		snprintf(f->why, sizeof(f->why), "%s: %s", path, strerror(errno));
		return OK;
	}
	rc = record_read(path, &f->rec);
	if (rc && rc != NO_MEMORY) {
		snprintf(f->why, sizeof(f->why), "%s", err_own());
		return OK;
	}
	if (rc)
		return rc;
	f->impossible = windows_translate(&f->rec);
	rc = align(&f->rec, &f->clock);
	return rc ? rc : marks_make(&f->marks, &f->rec);
}

/* Ranks of one host since one boot have one clock, as long as all of them were aligned or none; where neither host nor boot
 * is known, nobody shares it. */
static int clock_of(struct passes *p, const struct first_part *f, size_t rank, struct match_clock *clock)
{
	const char *boot = json_string(f->rec.head, "boot_id", ""), *host = json_string(f->rec.head, "host", "");
	char text[512];
	size_t i = 0;

	if (*boot || *host)
		snprintf(text, sizeof(text), "%s%s", *boot ? boot : host, f->rec.sync_count ? "" : " alone");
	else
		snprintf(text, sizeof(text), "rank %zu", rank);
	while (i < p->clock_count && strcmp(p->clocks[i], text))
		i++;
	if (i == p->clock_count) {
		p->clocks[i] = strdup(text);
		if (!p->clocks[i])
			return err(NO_MEMORY, "no memory for the clocks of %zu ranks", rank);
		p->clock_count++;
	}
	*clock = (struct match_clock){ (uint32_t)i, f->clock.bound_ns,
				       (int64_t)json_number(f->rec.tail, "device_bound_ns", json_number(f->rec.head, "device_bound_ns", 0)) };
	return OK;
}

/* Whether the record is of this rank of this run, and its time runs forward, at one pace. */
static bool record_fits(struct passes *p, size_t rank, const struct first_part *f)
{
	const cJSON *head = f->rec.head;
	const char *id = json_string(p->run->json, "id", json_string(head, "run", ""));
	char path[PATH_BYTES];

	if (record_path(p, rank, path))
		return false;
	if (p->unfinished && !p->asked) {
		p->asked = true;
		ask_failed_rank(p);
		if (still_running(head))
			run_spoil(p->run, "running", "it has not ended yet");
		else
			run_spoil(p->run, "cut off", "its process is gone and run.json says \"running\"");
	}
	if (json_number(head, "rank", -1) != (double)rank || json_number(head, "world", -1) != (double)p->run->ranks)
		run_spoil(p->run, "damaged", "%s: is rank %g of %g, not %zu of %zu: a record of another run", path,
			  json_number(head, "rank", -1), json_number(head, "world", -1), rank, p->run->ranks);
	else if (strcmp(id, json_string(head, "run", id)))
		run_spoil(p->run, "damaged", "%s: a record of another run, '%s', not of '%s'", path,
			  json_string(head, "run", ""), id);
	else if (f->clock.jumps)
		run_spoil(p->run, "damaged", "%s: its clock, or the reference clock, jumped in %zu of the stretches between its %zu "
			  "comparisons", path, f->clock.jumps, f->rec.sync_count - f->clock.left_out);
	else if (!f->marks.ascend)
		run_spoil(p->run, "damaged", "%s: its windows run backwards", path);
	else
		return true;
	return false;
}

static int first_take(void *context, size_t rank, void *part, int rc)
{
	struct passes *p = context;
	struct first_part *f = part;
	struct rank *k = &p->ranks[rank];
	struct match_clock clock;
	size_t bytes = f->rec.event_count * sizeof(struct event);

	if (!rc && *f->why) {	/* of a run that is known to have failed it is no news */
		run_spoil(p->run, f->absent && p->unfinished ? "cut off" : "damaged", "%s", f->why);
	} else if (!rc && record_fits(p, rank, f)) {
		if (f->impossible)
			runs_warn(p->all, p->run->folder, "rank %zu: %zu of %zu events have times that cannot be and are left out", rank,
				  f->impossible, f->rec.event_count);
		if (f->clock.left_out)
			runs_warn(p->all, p->run->folder, "rank %zu: %zu of %zu comparisons of its clock cannot be and are left out",
				  rank, f->clock.left_out, f->rec.sync_count);
		rc = clock_of(p, f, rank, &clock);
		if (!rc)
			rc = match_add(&p->match, rank, f->rec.events, f->rec.event_count, clock);
		k->usable = !rc;
		k->begin_ns = f->marks.cuts[0];
		k->end_ns = f->marks.cuts[f->marks.windows];
		k->marks = f->marks;
		p->run->begin_ns = k->begin_ns < p->run->begin_ns ? k->begin_ns : p->run->begin_ns;
		f->marks = (struct marks){ 0 };
	}
	if (k->usable && p->kept_bytes + bytes <= KEEP_BYTES) {
		p->kept_bytes += k->kept_bytes = bytes;
		k->rec = f->rec;
		k->kept = true;
	} else {
		record_release(&f->rec);
	}
	marks_release(&f->marks);
	return rc;
}

/* The first contradiction that two ranks of one clock make: either its stamps are wrong, or it is not the same collective. */
static void contradiction_warn(const struct passes *p)
{
	const struct match *m = &p->match;
	const struct collective *c = m->list;

	while (c < m->list + m->count && c->split != SPLIT_CONTRADICTION)
		c++;
	for (size_t left = 0; c < m->list + m->count && left < m->ranks; left++)
		for (size_t came = 0; came < m->ranks; came++) {
			int64_t gap_ns = match_stay(m, c, came).begin_ns - match_stay(m, c, left).end_ns;

			if (!match_member(m, c->lane, left) || !match_member(m, c->lane, came) || gap_ns <= match_stamp_ns(m, c->lane) ||
			    m->strips[left].clock.group != m->strips[came].clock.group)
				continue;
			runs_warn(p->all, p->run->folder, "rank %zu left the %s of iteration %u %.3f ms before rank %zu came to it, by "
				  "one clock: a clock jumped, or they are not the same collective", left, span_rows[c->name].name,
				  c->iter, 1e-6 * (double)gap_ns, came);
			return;
		}
}

/* ---- second pass: account -------------------------------------------------------------- */

/* The events of a rank: the kept ones, or read again. */
static int rank_read(struct passes *p, size_t rank, struct record *rec)
{
	struct rank *k = &p->ranks[rank];
	char path[PATH_BYTES];
	struct alignment clock;
	int rc = OK;

	if (k->kept) {
		*rec = k->rec;
		k->rec = (struct record){ 0 };
	} else {
		rc = record_path(p, rank, path);
		rc = rc ? rc : record_read(path, rec);
		if (!rc) {
			windows_translate(rec);
			rc = align(rec, &clock);
		}
	}
	return rc;
}

struct second_part {
	struct record rec;
	struct ledger ledger;
	struct rank_windows windows;
	struct feed feed;
};

static int second_work(void *context, size_t rank, void *part)
{
	struct passes *p = context;
	struct second_part *s = part;
	struct rank *k = &p->ranks[rank];
	struct course course = { 0 };
	int rc;

	if (!k->usable)
		return OK;
	rc = rank_read(p, rank, &s->rec);
	if (!rc) {
		int64_t worked_ns = k->marks.work_cuts[k->marks.iterations];

		rc = ledger_make(&s->ledger, s->rec.events, s->rec.event_count, &p->match, rank, k->begin_ns,
				 worked_ns > k->end_ns ? worked_ns : k->end_ns);
	}
	if (!rc)
		rc = windows_make(&s->windows, &k->marks, &s->rec, &s->ledger);
	if (!rc)
		rc = feed_make(&s->feed, &s->rec, &s->windows, p->plan);
	if (!rc && courses_wanted(p->courses, rank)) {
		rc = course_make(&course, &p->match, rank, k->begin_ns, k->end_ns);
		rc = rc ? rc : courses_add(p->courses, rank, &course, &s->ledger);
	}
	course_release(&course);
	return rc;
}

static int second_take(void *context, size_t rank, void *part, int rc)
{
	struct passes *p = context;
	struct second_part *s = part;
	struct rank *k = &p->ranks[rank];
	size_t bytes = ledger_bytes(&s->ledger);
	char path[PATH_BYTES];

	if (!k->usable)
		return rc;
	rc = rc ? rc : record_path(p, rank, path);
	if (!rc)
		rc = windows_add(p->all, p->run, rank, &s->windows, &s->rec, path);
	if (!rc)
		rc = feed_add(&p->run->feed, &s->feed);
	if (!rc && p->all->watch)
		rc = p->all->watch->rank(p->all->watch->context, p->run, &p->match, rank, &s->rec, &s->windows.marks, &s->ledger);
	p->run->events += s->rec.event_count;
	p->run->segments += s->ledger.count;
	p->kept_bytes -= k->kept_bytes;
	k->accounted = !rc && p->kept_bytes + bytes <= KEEP_BYTES;
	if (k->accounted) {
		p->kept_bytes += bytes;
		k->ledger = s->ledger;
	} else {
		ledger_release(&s->ledger);
	}
	record_release(&s->rec);
	windows_release(&s->windows);
	feed_release(&s->feed);
	return rc;
}

/* ---- third pass: blame ----------------------------------------------------------------- */

/* The account that was kept, or a new one. */
static int rank_ledger(struct passes *p, size_t rank, struct ledger *ledger)
{
	struct rank *k = &p->ranks[rank];
	struct record rec = { 0 };
	int rc;

	if (k->accounted) {
		*ledger = k->ledger;
		k->ledger = (struct ledger){ 0 };
		return OK;
	}
	rc = rank_read(p, rank, &rec);
	if (!rc)
		rc = ledger_make(ledger, rec.events, rec.event_count, &p->match, rank, k->begin_ns, k->end_ns);
	record_release(&rec);
	return rc;
}

static int third_work(void *context, size_t rank, void *part)
{
	struct passes *p = context;
	struct blame *blame = part;
	const struct rank *k = &p->ranks[rank];
	struct ledger ledger = { 0 };
	struct course course = { 0 };
	int rc = k->usable ? rank_ledger(p, rank, &ledger) : OK;

	if (!rc && k->usable)
		rc = course_make(&course, &p->match, rank, k->begin_ns, k->end_ns);
	if (!rc && k->usable)
		rc = blame_make(blame, p->courses, rank, &course, &ledger);
	course_release(&course);
	ledger_release(&ledger);
	return rc;
}

static int third_take(void *context, size_t rank, void *part, int rc)
{
	struct passes *p = context;
	struct blame *blame = part;

	if (!rc && p->ranks[rank].usable)
		rc = waits_add(&p->run->waits, rank, blame);
	blame_release(blame);
	return rc;
}

/* ---- all of them ----------------------------------------------------------------------- */

/* Which iterations are first ones: once the windows are known. */
static int judge(struct passes *p)
{
	const struct run *r = p->run;
	bool *first = calloc(r->windows + 1, sizeof(*first));
	size_t n = 0;
	int rc;

	if (!first)
		return err(NO_MEMORY, "no memory for %zu iterations", r->windows);
	for (size_t w = 0; w < r->windows; w++)
		if (r->kinds[w] != WINDOW_BOUNDARY)
			first[n++] = r->kinds[w] == WINDOW_FIRST;
	rc = waits_judge(&p->run->waits, &p->match, first, n);
	free(first);
	return rc;
}

static void wait_check(const struct run *r)
{
	int64_t wait_ns = 0;

	for (int k = 0; k < WINDOW_KINDS; k++)
		wait_ns += r->sums[k].parts_ns[CLS_COMM_WAIT];
	if (wait_ns != r->waits.wait_ns)
		abort();	/* the blamed waits are not those of the account: ours to mend */
}

/* Record after record takes the same few megabytes.  Given back to the system each time they cost a fault per
 * page: of 512 ranks x 10,000 iterations 3.8 million, 14 s of 69 s of CPU time; kept, 3 s of 43. */
static void memory_keep(void)
{
	enum { ONE_BLOCK_MAX = 1 << 25, KEPT_MAX = 1 << 29 };

	mallopt(M_MMAP_THRESHOLD, ONE_BLOCK_MAX);
	mallopt(M_TRIM_THRESHOLD, KEPT_MAX);
}

static struct feed_plan plan_of(const struct run *r)
{
	enum { IN_FLIGHT_MAX = 4096 };
	const struct loader_policy *policy = loader_policy_find(r->policy);
	double prefetch = json_number(cJSON_GetObjectItemCaseSensitive(r->json, "options"), "prefetch", 0);
	double in_flight = prefetch * (double)r->workers;

	return (struct feed_plan){ .kept = policy && policy->whole_run,
				   .in_flight = in_flight > 0 && in_flight < IN_FLIGHT_MAX ? (size_t)in_flight : 0 };
}

int records_read(struct runs *all, struct run *r)
{
	struct passes p = { .all = all, .run = r, .asked = !run_counts(r),
			    .unfinished = !strcmp(json_string(r->json, "status", ""), "running") };
	char path[PATH_BYTES];
	int rc = match_open(&p.match, r->ranks);

	if (r->ranks && !record_path(&p, r->ranks, path) && !access(path, F_OK))
		runs_warn(all, path, "a record of a rank that this run, of %zu, has not: left out", r->ranks);
	memory_keep();
	p.plan = plan_of(r);
	p.ranks = calloc(r->ranks + 1, sizeof(*p.ranks));
	p.clocks = calloc(r->ranks + 1, sizeof(*p.clocks));
	if (!rc && (!p.ranks || !p.clocks))
		rc = err(NO_MEMORY, "no memory for %zu ranks", r->ranks);
	if (!rc)
		rc = waits_open(&r->waits, r->ranks);
	if (!rc)
		rc = crew_run(&(struct crew){ first_work, first_take, &p, r->ranks, sizeof(struct first_part) });
	if (!rc)
		rc = match_solve(&p.match);
	if (!rc && run_counts(r))
		contradiction_warn(&p);
	if (!rc)
		rc = courses_open(&p.courses, &p.match);
	if (!rc)
		rc = crew_run(&(struct crew){ second_work, second_take, &p, r->ranks, sizeof(struct second_part) });
	if (!rc)
		rc = courses_trace(p.courses);
	if (!rc)
		rc = crew_run(&(struct crew){ third_work, third_take, &p, r->ranks, sizeof(struct blame) });
	if (!rc) {
		wait_check(r);
		rc = judge(&p);
	}
	courses_close(p.courses);
	match_release(&p.match);
	for (size_t i = 0; p.ranks && i < r->ranks; i++) {
		record_release(&p.ranks[i].rec);
		marks_release(&p.ranks[i].marks);
		ledger_release(&p.ranks[i].ledger);
	}
	for (size_t i = 0; i < p.clock_count; i++)
		free((void *)(uintptr_t)p.clocks[i]);
	free(p.ranks);
	free(p.clocks);
	return rc;
}
