/*
 * report/diagnose.c - see diagnose.h.
 *
 * A rule is a row: it looks at one point and says what the matter costs there, and, asked again for the point where
 * it costs most, writes the sentences.  What could be won is said by measurement where there
 * is one (another variant on the same nodes), and else as what it is: at most all of it.
 */
#include "report/diagnose.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "report/waiting.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* All that rules look at. */
struct view {
	const struct curve *curve;
	const struct point *point;
	struct breakdown whole, steady;
	struct point_waits waits;
	double iteration_ms, epoch_s;	/* mean over ranks; NaN when run.json does not say how long an epoch is */
};

struct words {
	FILE *what, *evidence, *advice;
	const char *dirs;
};

#define N3(v) figures3(v, (char[32]){ 0 })

static double share(const struct breakdown *b, enum group g)
{
	return b->wall_ns ? 100 * (double)b->parts_ns[g] / (double)b->wall_ns : 0;
}

static double part_ms(const struct breakdown *b, enum group g)
{
	return b->iterations ? 1e-6 * (double)b->parts_ns[g] / (double)b->iterations : NAN;
}

static void put_where(FILE *f, const struct point *p)
{
	fprintf(f, "%s on %zu node%s", p->variant, p->nodes, p->nodes == 1 ? "" : "s");
}

/* "SUBJECT 12.3 % of the time: 4.56 ms of an iteration of 37.1 ms (where)"; `when` narrows the time. */
static void put_share(FILE *f, const struct view *v, const char *subject, enum group g, const char *when)
{
	fprintf(f, "%s %s %% of the time%s: %s ms of an iteration of %s ms (", subject, N3(share(&v->whole, g)), when,
		N3(part_ms(&v->whole, g)), N3(v->iteration_ms));
	put_where(f, v->point);
	fprintf(f, ")");
}

static void put_table(const struct words *w, const char *table)
{
	fprintf(w->evidence, "sfscale report %s --table %s", w->dirs, table);
}

/* ---- what could be won ----------------------------------------------------------------- */

/* The fastest other variant on the same nodes and ranks; NULL: none is faster by more than can be told. */
static const struct point *better(const struct view *v)
{
	const struct point *best = NULL;

	for (size_t i = 0; i < v->curve->count; i++) {
		const struct point *p = &v->curve->points[i];

		if (p != v->point && p->run_count && p->nodes == v->point->nodes && p->ranks == v->point->ranks &&
		    p->pace[SCOPE_WHOLE].clips_per_s.min > v->point->pace[SCOPE_WHOLE].clips_per_s.max &&
		    (!best || p->pace[SCOPE_WHOLE].clips_per_s.median > best->pace[SCOPE_WHOLE].clips_per_s.median))
			best = p;
	}
	return best;
}

/* "..., which would give back"; `percent` of the time is the most that there is to win. */
static void put_gain(FILE *f, const struct view *v, double percent)
{
	const struct point *best = better(v);
	double slow, fast;

	if (!isnan(v->epoch_s))
		fprintf(f, "; at most %s s per epoch are to be won", N3(0.01 * percent * v->epoch_s));
	else
		fprintf(f, "; at most %s ms per iteration are to be won", N3(0.01 * percent * v->iteration_ms));
	if (!best)
		return;
	slow = v->point->pace[SCOPE_WHOLE].iteration_ms.median;
	fast = best->pace[SCOPE_WHOLE].iteration_ms.median;
	fprintf(f, "; '%s' was measured on the same nodes: every run of it is faster, and it gives back %s ms per iteration",
		best->variant, N3(slow - fast));
	if (!isnan(v->epoch_s))
		fprintf(f, ", %s s per epoch", N3((slow - fast) / v->iteration_ms * v->epoch_s));
}

static void put_loader_advice(FILE *f, const struct view *v)
{
	if (!v->point->workers)
		fprintf(f, "--workers 1 or more: the training thread loads, and computes nothing meanwhile");
	else if (strcmp(v->point->policy, "threads"))
		fprintf(f, "--policy threads");
	else
		fprintf(f, "more --workers as long as there are cores for them, then a faster disk or smaller frames");
}

/* ---- rules ----------------------------------------------------------------------------- */

static double wait_cost(const struct view *v)
{
	return v->waits.wall_ns ? 100 * (double)v->waits.sum.wait_ns / (double)v->waits.wall_ns : 0;
}

static size_t most_late(const struct waits *w, int64_t *ns)
{
	size_t most = 0;

	*ns = -1;
	for (size_t r = 0; r < w->ranks; r++) {
		int64_t sum = 0;

		for (int c = 0; c < CAUSE_COUNT; c++)
			sum += w->late[r].induced_ns[c];
		if (sum > *ns) {
			*ns = sum;
			most = r;
		}
	}
	return most;
}

static int most_cause(const int64_t ns[CAUSE_COUNT])
{
	int most = 0;

	for (int c = 1; c < CAUSE_COUNT; c++)
		most = ns[c] > ns[most] ? c : most;
	return most;
}

static void put_cause_advice(FILE *f, const struct view *v, int cause)
{
	switch (cause) {
	case CAUSE_loader:
		put_loader_advice(f, v);
		break;
	case CAUSE_compute:
		fprintf(f, "look at what else runs on its node, at clocks and temperature, and at clips of unequal size");
		break;
	case CAUSE_copy:
		fprintf(f, "look at the memory and the bus of its node");
		break;
	case CAUSE_boundary:
		fprintf(f, "do at the boundary on no rank what the others need not wait for");
		break;
	case CAUSE_wire:
		fprintf(f, "look at the links of its node: it leaves collectives later than the others");
		break;
	default:
		fprintf(f, "look at what the host of that rank does between the known ranges");
	}
}

static void wait_say(const struct view *v, const struct words *w)
{
	const struct waits *sum = &v->waits.sum;
	int64_t stay_ns = 0, wait_ns = 0, late_ns;
	size_t rank = most_late(sum, &late_ns);
	const struct lateness *late = &sum->late[rank];
	int cause = most_cause(late->induced_ns), main_cause = most_cause(sum->induced_ns);
	double whole = (double)sum->wait_ns;

	for (int name = 0; name < SPAN_COUNT; name++) {
		stay_ns += sum->calls[name].stay_ns;
		wait_ns += sum->calls[name].wait_ns;
	}
	fprintf(w->what, "%s %% of the time in collectives is waiting for a late rank; exposed it costs %s ms of an iteration of "
		"%s ms (", N3(100 * (double)wait_ns / (double)stay_ns), N3(1e-6 * whole / (double)v->waits.iterations),
		N3(v->iteration_ms));
	put_where(w->what, v->point);
	fprintf(w->what, "); ");
	if (late->verdict != LATE_BY_CHANCE && (double)late_ns * (double)sum->ranks > 2 * whole) {
		bool starts = late->verdict == LATE_AT_STARTS;

		fprintf(w->what, "%s %% of that for rank %zu, because of its %s (%s %%); it is the late one in %zu of %zu %s"
			"iterations%s, which is not chance (p = %.1g)", N3(100 * (double)late_ns / whole), rank, cause_rows[cause].title,
			N3(100 * (double)late->induced_ns[cause] / (double)late_ns), starts ? late->times_first : late->times,
			starts ? sum->judged_first : sum->judged, starts ? "first " : "", starts ? " of epochs" : "",
			starts ? late->chance_first : late->chance);
		if (sum->judged_first && late->all_ns && 2 * late->first_ns > late->all_ns)
			fprintf(w->what, "; %s %% of the waiting for it is in the first iteration of an epoch",
				N3(100 * (double)late->first_ns / (double)late->all_ns));
		put_cause_advice(w->advice, v, cause);
		fprintf(w->advice, " (rank %zu)", rank);
	} else {
		fprintf(w->what, "no rank alone is to blame: the worst, rank %zu, makes %s %% of it; %s %% of it is for the %s of "
			"whoever is late", rank, N3(100 * (double)late_ns / whole),
			N3(100 * (double)sum->induced_ns[main_cause] / whole), cause_rows[main_cause].title);
		fprintf(w->advice, "make the %s of all ranks steadier, not faster on the mean: ", cause_rows[main_cause].title);
		put_cause_advice(w->advice, v, main_cause);
	}
	put_gain(w->advice, v, wait_cost(v));
	put_table(w, "late");
}

static double wire_cost(const struct view *v)
{
	return v->point->ranks > 1 ? share(&v->whole, GROUP_wire) : 0;
}

static void wire_say(const struct view *v, const struct words *w)
{
	const struct call_sum *s = &v->waits.sum.calls[SPAN_ALLREDUCE];
	double ranks = (double)v->point->ranks;

	put_share(w->what, v, "moving data in collectives takes", GROUP_wire, " where nothing computes");
	if (s->wire_ns)
		fprintf(w->what, "; gradients move at a bus bandwidth of %s MB/s",
			N3(2e3 * (ranks - 1) * (double)s->bytes / (double)s->wire_ns));
	fprintf(w->advice, "--overlap on and other --bucket-bytes if it is off or buckets are few; else the network itself: "
		"'sfscale topo' on what NCCL logged");
	put_gain(w->advice, v, wire_cost(v));
	put_table(w, "collectives");
}

static double unsplit_cost(const struct view *v)
{
	return v->point->ranks > 1 ? share(&v->whole, GROUP_unsplit) : 0;
}

static void unsplit_say(const struct view *v, const struct words *w)
{
	size_t splits[SPLIT_COUNT] = { 0 };

	for (int name = 0; name < SPAN_COUNT; name++)
		for (int s = 0; s < SPLIT_COUNT; s++)
			splits[s] += v->waits.sum.calls[name].splits[s];
	fprintf(w->what, "%s %% of the time is in collectives of which nobody can say whether they waited or moved (%zu unmatched, "
		"%zu contradictory, %zu unclear; ", N3(unsplit_cost(v)), splits[SPLIT_UNMATCHED], splits[SPLIT_CONTRADICTION],
		splits[SPLIT_UNCLEAR]);
	put_where(w->what, v->point);
	fprintf(w->what, ")");
	fprintf(w->advice, "records of all ranks, and clocks that are aligned: without them the other findings are blind here");
	put_table(w, "collectives");
}

static double loader_cost(const struct view *v)
{
	return share(&v->whole, GROUP_loader);
}

static void loader_say(const struct view *v, const struct words *w)
{
	put_share(w->what, v, "ranks stand still for a batch", GROUP_loader, "");
	put_loader_advice(w->advice, v);
	put_gain(w->advice, v, loader_cost(v));
	put_table(w, "breakdown");
}

static double boundary_cost(const struct view *v)
{
	return share(&v->whole, GROUP_boundary);
}

static void boundary_say(const struct view *v, const struct words *w)
{
	struct stall s;

	fprintf(w->what, "epoch boundaries, with the wait for the first batch, take %s %% of the time (", N3(boundary_cost(v)));
	put_where(w->what, v->point);
	fprintf(w->what, ")");
	if (!point_stall(v->point, false, &s) && s.cost_ms.n) {
		enum boundary_part most = stall_greatest(&s);

		fprintf(w->what, "; one costs %s ms, %s steady iterations", N3(s.cost_ms.median),
			N3(s.cost_ms.median / v->point->pace[SCOPE_STEADY].iteration_ms.median));
		if (s.parts_ms[most] <= s.cost_ms.median)
			fprintf(w->what, ", %s ms of it %s", N3(s.parts_ms[most]), boundary_part_words[most]);
	}
	if (strcmp(v->point->policy, "threads"))
		fprintf(w->advice, "--policy threads, whose workers live from epoch to epoch");
	else
		fprintf(w->advice, "more --prefetch, so that the first batch is ready when the epoch begins");
	put_gain(w->advice, v, boundary_cost(v));
	put_table(w, "boundary");
}

static double copy_cost(const struct view *v)
{
	return share(&v->whole, GROUP_copy);
}

static void copy_say(const struct view *v, const struct words *w)
{
	put_share(w->what, v, "copies into the network's input take", GROUP_copy, "");
	fprintf(w->advice, "a smaller --crop or fewer --frames show whether it is the amount of data");
	put_gain(w->advice, v, copy_cost(v));
	put_table(w, "breakdown");
}

static double launch_cost(const struct view *v)
{
	return share(&v->whole, GROUP_launch);
}

static void launch_say(const struct view *v, const struct words *w)
{
	put_share(w->what, v, "devices have nothing to do while their hosts launch", GROUP_launch, "");
	fprintf(w->advice, "--graph on if it is off; more --clips, so that a launch is more work; or cores that loader workers leave "
		"to the training thread (--workers)");
	put_gain(w->advice, v, launch_cost(v));
	put_table(w, "breakdown");
}

static double unattributed_cost(const struct view *v)
{
	return share(&v->whole, GROUP_unattributed);
}

static void unattributed_say(const struct view *v, const struct words *w)
{
	fprintf(w->what, "%s %% of the time is in no known range (", N3(unattributed_cost(v)));
	put_where(w->what, v->point);
	fprintf(w->what, "), more than this report trusts");
	fprintf(w->advice, "ranges around what the program does there, or records without dropped events");
	put_table(w, "shares");
}

static const struct rule {
	const char *name;
	double (*cost)(const struct view *);		/* per cent of the time of the point */
	void (*say)(const struct view *, const struct words *);
} rules[] = {
	{ "wait", wait_cost, wait_say },
	{ "wire", wire_cost, wire_say },
	{ "unsplit", unsplit_cost, unsplit_say },
	{ "loader", loader_cost, loader_say },
	{ "boundary", boundary_cost, boundary_say },
	{ "copy", copy_cost, copy_say },
	{ "launch", launch_cost, launch_say },
	{ "unattributed", unattributed_cost, unattributed_say },
};

/* ---- all of them ----------------------------------------------------------------------- */

static int finding_open(struct finding *f, struct words *w, const char *name, const char *dirs)
{
	size_t bytes;

	*f = (struct finding){ .name = name };
	*w = (struct words){ open_memstream(&f->what, &bytes), open_memstream(&f->evidence, &bytes),
			     open_memstream(&f->advice, &bytes), dirs };
	return w->what && w->evidence && w->advice ? OK : err(NO_MEMORY, "no memory for a finding");
}

static void words_close(struct words *w)
{
	FILE *const files[] = { w->what, w->evidence, w->advice };

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (files[i])
			fclose(files[i]);
}

static int view_make(struct view *v, const struct curve *c, const struct point *p)
{
	const cJSON *step = cJSON_GetObjectItemCaseSensitive(p->runs[0]->json, "step");

	*v = (struct view){ .curve = c, .point = p };
	point_breakdown(p, SCOPE_WHOLE, &v->whole);
	point_breakdown(p, SCOPE_STEADY, &v->steady);
	v->iteration_ms = v->whole.iterations ? 1e-6 * (double)v->whole.wall_ns / (double)v->whole.iterations : NAN;
	v->epoch_s = 1e-3 * v->iteration_ms * json_number(step, "iterations_per_epoch", NAN);
	return point_waits_make(&v->waits, p, false);
}

/* A run that did not end well is the worst that can be found. */
static int failed_find(struct findings *all, const struct runs *runs, const char *dirs)
{
	const struct run *first = NULL;
	size_t failed = 0;
	struct words w;
	int rc;

	for (size_t i = 0; i < runs->count; i++)
		if (!run_counts(&runs->at[i])) {
			first = first ? first : &runs->at[i];
			failed++;
		}
	if (!failed)
		return OK;
	rc = finding_open(&all->at[all->count], &w, "failed", dirs);
	if (!rc) {
		fprintf(w.what, "%zu of %zu runs did not end well; the first, '%s', is %s: %s", failed, runs->count,
			first->folder, first->status, first->reason ? first->reason : "no reason given");
		fprintf(w.advice, "mend it and run the sweep again: it does what is missing");
		put_table(&w, "runs");
		all->at[all->count].error = true;
		all->at[all->count].cost_percent = 100;
	}
	words_close(&w);
	all->count++;
	return rc;
}

static int rule_find(struct findings *all, const struct rule *rule, const struct view *views, size_t count, const char *dirs)
{
	const struct view *worst = NULL;
	size_t shown = 0;
	struct words w;
	int rc;

	for (size_t i = 0; i < count; i++) {
		shown += rule->cost(&views[i]) >= DIAGNOSE_PERCENT;
		if (!worst || rule->cost(&views[i]) > rule->cost(worst))
			worst = &views[i];
	}
	if (!shown)
		return OK;
	rc = finding_open(&all->at[all->count], &w, rule->name, dirs);
	if (!rc) {
		rule->say(worst, &w);
		fprintf(w.what, shown > 1 ? ".  %zu of %zu points have it." : ".", shown, count);
		all->at[all->count].cost_percent = rule->cost(worst);
	}
	words_close(&w);
	all->count++;
	return rc;
}

static int by_cost(const void *a, const void *b)
{
	const struct finding *x = a, *y = b;

	if (x->error != y->error)
		return x->error ? -1 : 1;
	return (x->cost_percent < y->cost_percent) - (x->cost_percent > y->cost_percent);
}

int findings_make(struct findings *all, const struct curve *c, const struct runs *runs, const char *dirs)
{
	struct view *views = calloc(c->count + 1, sizeof(*views));
	size_t n = 0;
	int rc = OK;

	*all = (struct findings){ .at = calloc(ARRAY_LEN(rules) + 1, sizeof(*all->at)) };
	if (!views || !all->at)
		rc = err(NO_MEMORY, "no memory for the findings");
	for (size_t i = 0; i < c->count && !rc; i++)
		if (c->points[i].run_count)
			rc = view_make(&views[n++], c, &c->points[i]);
	if (!rc)
		rc = failed_find(all, runs, dirs);
	for (size_t i = 0; i < ARRAY_LEN(rules) && !rc; i++)
		rc = rule_find(all, &rules[i], views, n, dirs);
	for (size_t i = 0; views && i < n; i++)
		point_waits_release(&views[i].waits);
	free(views);
	if (rc)
		findings_release(all);
	else
		qsort(all->at, all->count, sizeof(*all->at), by_cost);
	return rc;
}

void findings_release(struct findings *all)
{
	for (size_t i = 0; all->at && i < all->count; i++) {
		free(all->at[i].what);
		free(all->at[i].evidence);
		free(all->at[i].advice);
	}
	free(all->at);
	*all = (struct findings){ 0 };
}

bool findings_error(const struct findings *all)
{
	return all->count && all->at[0].error;
}

void findings_print(const struct findings *all, FILE *f)
{
	if (!all->count)
		fprintf(f, "Nothing stands out: no cause takes %.0f %% of the time of any point.\n", DIAGNOSE_PERCENT);
	for (size_t i = 0; i < all->count; i++) {
		const struct finding *one = &all->at[i];

		if (one->error)
			fprintf(f, "%zu. error: %s\n", i + 1, one->what);
		else
			fprintf(f, "%zu. [%.1f %%] %s\n", i + 1, one->cost_percent, one->what);
		fprintf(f, "   shown by: %s\n   try: %s\n", one->evidence, one->advice);
	}
}

cJSON *findings_json(const struct findings *all)
{
	cJSON *list = cJSON_CreateArray();

	for (size_t i = 0; i < all->count; i++) {
		cJSON *o = cJSON_CreateObject();

		cJSON_AddStringToObject(o, "name", all->at[i].name);
		cJSON_AddStringToObject(o, "severity", all->at[i].error ? "error" : "cost");
		cJSON_AddNumberToObject(o, "cost_percent", all->at[i].cost_percent);
		cJSON_AddStringToObject(o, "what", all->at[i].what);
		cJSON_AddStringToObject(o, "evidence", all->at[i].evidence);
		cJSON_AddStringToObject(o, "try", all->at[i].advice);
		cJSON_AddItemToArray(list, o);
	}
	return list;
}
