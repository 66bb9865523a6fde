/*
 * report/summary.c - see summary.h.
 */
#include "report/summary.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "report/feeding.h"
#include "report/loss.h"
#include "report/waiting.h"

#include <build.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { SENTENCE_MAX = 1024 };

static void sentence(cJSON *list, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void sentence(cJSON *list, const char *format, ...)
{
	char text[SENTENCE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	cJSON_AddItemToArray(list, cJSON_CreateString(text));
}

/* One node on one host is a real one, but beside emulated nodes of the same host it is the first of them; so is a
 * process of one rank beside those that stand for several. */
static bool is_covered(const struct runs *all, const char *place)
{
	static const char emulated[] = "emulated ", several[] = ", emulated ranks per process";
	const size_t length = strlen(place);

	for (size_t i = 0; i < all->count; i++) {
		const char *other = all->at[i].place;

		if (all->at[i].ranks && ((!strncmp(other, emulated, strlen(emulated)) && !strcmp(other + strlen(emulated), place)) ||
					 (!strncmp(other, place, length) && !strcmp(other + length, several))))
			return true;
	}
	return false;
}

char *summary_place(const struct runs *all)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);
	bool any = false;

	for (size_t i = 0; f && i < all->count; i++) {
		size_t j = 0;

		while (j < i && (!all->at[j].ranks || strcmp(all->at[j].place, all->at[i].place)))
			j++;
		if (j < i || !all->at[i].ranks || is_covered(all, all->at[i].place))
			continue;	/* said before, or a failed point that knows no place */
		fprintf(f, "%s%s", any ? "; " : "", all->at[i].place);
		any = true;
	}
	if (f && !any)
		fprintf(f, "place unknown");
	if (f)
		fclose(f);
	if (!text)
		err(NO_MEMORY, "no memory for the place of the report");
	return text;
}

/* ---- headlines ------------------------------------------------------------------------- */

static void put_speedup(FILE *f, const struct point *p)
{
	double rate = p->pace[SCOPE_WHOLE].clips_per_s.median,
	       speedup = rate / p->base->pace[SCOPE_WHOLE].clips_per_s.median;
	char a[32], b[32];

	fprintf(f, "%s: %s clips/s on %zu node%s", p->variant, figures3(rate, a), p->nodes, p->nodes == 1 ? "" : "s");
	if (p->base != p)
		fprintf(f, ", %s times %zu node%s (efficiency %.0f %%)", figures3(speedup, b), p->base->nodes,
			p->base->nodes == 1 ? "" : "s", 100 * speedup * (double)p->base->nodes / (double)p->nodes);
}

/* The three greatest parts. */
static void put_breakdown(FILE *f, const struct point *p)
{
	bool said[GROUP_COUNT] = { false };
	struct breakdown b;

	point_breakdown(p, SCOPE_WHOLE, &b);
	for (int i = 0; i < 3 && b.wall_ns; i++) {
		int most = 0;

		while (said[most])
			most++;
		for (int g = 0; g < GROUP_COUNT; g++)
			if (!said[g] && b.parts_ns[g] > b.parts_ns[most])
				most = g;
		said[most] = true;
		fprintf(f, "%s%.0f %% %s", i ? ", " : "; of its time ",
			100 * (double)b.parts_ns[most] / (double)b.wall_ns, group_rows[most].title);
	}
}

/* Of the greatest part of the wait: what for. */
static void put_waits(FILE *f, const struct point *p)
{
	struct point_waits w;
	int most = 0;

	if (p->ranks < 2 || point_waits_make(&w, p, false))
		return;
	for (int c = 1; c < CAUSE_COUNT; c++)
		most = w.sum.induced_ns[c] > w.sum.induced_ns[most] ? c : most;
	if (w.sum.wait_ns)
		fprintf(f, "; %.0f %% of the wait is for the %s of a late rank", 100 * (double)w.sum.induced_ns[most] /
			(double)w.sum.wait_ns, cause_rows[most].title);
	point_waits_release(&w);
}

/* The cause is named where it makes at least half; less than a tenth of an iteration is lost in the noise of any
 * iteration. */
static void put_boundary(FILE *f, const struct point *p)
{
	char cost[32], share[32], part[32];
	enum boundary_part most;
	double iteration_ms = p->pace[SCOPE_STEADY].iteration_ms.median;
	struct stall s;

	if (point_stall(p, false, &s) || !s.cost_ms.n)
		return;
	most = stall_greatest(&s);
	fprintf(f, "; an epoch boundary costs %s%s ms, %s steady iterations",
		s.cost_ms.median < 0.1 * iteration_ms ? "nothing worth naming: " : "", figures3(s.cost_ms.median, cost),
		figures3(s.cost_ms.median / iteration_ms, share));
	if (s.cost_ms.median >= 0.1 * iteration_ms && s.parts_ms[most] >= 0.5 * s.cost_ms.median)
		fprintf(f, ", most of it %s (%s ms)", boundary_part_words[most], figures3(s.parts_ms[most], part));
}

/* What bounds the loader, where it does not keep up. */
static void put_loader(FILE *f, const struct point *p)
{
	struct loader_verdict v;
	char how[256];

	if (point_loader(p, &v) && v.bound != BOUND_NOTHING)
		fprintf(f, "; the loader stalls %.0f %% of the steady time, bound by %s (%s)", v.stall_percent, v.name,
			loader_verdict_text(&v, how));
}

/* ---- what workers cost ----------------------------------------------------------------- */

enum { WORKER_COUNTS_MAX = 32 };

/* A series on one number of nodes: its points with workers, and what their boundaries cost. */
struct growth {
	const struct point *points[WORKER_COUNTS_MAX];
	struct stall stalls[WORKER_COUNTS_MAX];
	size_t count;
};

/* Per worker, by least squares: of the whole mean, or of a part of it.  r2: how much of the variation the line explains. */
static double slope(const struct growth *g, int part, double *r2)
{
	double n = (double)g->count, sx = 0, sy = 0, sxx = 0, sxy = 0, syy = 0;

	for (size_t i = 0; i < g->count; i++) {
		double x = (double)g->points[i]->workers, y = part < 0 ? g->stalls[i].mean_ms : g->stalls[i].parts_ms[part];

		sx += x;
		sy += y;
		sxx += x * x;
		sxy += x * y;
		syy += y * y;
	}
	if (r2)
		*r2 = (n * sxy - sx * sy) * (n * sxy - sx * sy) / ((n * sxx - sx * sx) * (n * syy - sy * sy));
	return (n * sxy - sx * sy) / (n * sxx - sx * sx);
}

static bool growth_make(struct growth *g, const struct curve *c, size_t first)
{
	const struct point *p = &c->points[first];

	g->count = 0;
	for (size_t i = 0; i < c->count; i++) {
		const struct point *q = &c->points[i];

		if (strcmp(q->series, p->series) || q->nodes != p->nodes)
			continue;
		if (i < first || g->count == WORKER_COUNTS_MAX)
			return false;		/* said before */
		if (q->workers < 1 || !q->run_count)
			continue;
		if (point_stall(q, false, &g->stalls[g->count]) || !g->stalls[g->count].stretches)
			continue;
		g->points[g->count++] = q;
	}
	return g->count >= 3;
}

/* A stall that grows with the workers: by how much for each, and by which part. */
static void growths_say(cJSON *list, const struct curve *c)
{
	for (size_t i = 0; i < c->count; i++) {
		char each[32], part[32], before[32], after[32];
		struct growth g;
		double r2, ms, part_ms = 0;
		int most = PART_STOP;

		if (!growth_make(&g, c, i))
			continue;
		ms = slope(&g, -1, &r2);
		for (int k = 0; k < PART_REST; k++)
			if (slope(&g, k, NULL) > part_ms) {
				part_ms = slope(&g, k, NULL);
				most = k;
			}
		/* A tenth of an iteration per worker is lost in the noise of any iteration; and a line explains most. */
		if (!(r2 > 0.9) || !(ms > 0.1 * g.points[0]->pace[SCOPE_STEADY].iteration_ms.median))
			continue;
		sentence(list, "%s on %zu node%s: the stall at an epoch boundary grows by %s ms with each loader worker (a straight line through %zu "
			       "numbers of workers explains %.1f %% of it), most of it %s, %s ms for each%s. Ten iterations take %s ms "
			       "with %lld workers and %s with %lld.", g.points[0]->series, g.points[0]->nodes,
			 g.points[0]->nodes == 1 ? "" : "s", figures3(ms, each), g.count, 100 * r2,
			 boundary_part_words[most], figures3(part_ms, part),
			 most == PART_START || most == PART_INDEX ?
			 ": they are started one after another, in every epoch, and no batch is asked for before the last one is up. "
			 "A policy that keeps its workers over epochs (persistent, threads) does not pay it" : "",
			 figures3(g.stalls[0].ten_iterations_ms, before),
			 (long long)g.points[0]->workers,
			 figures3(g.stalls[g.count - 1].ten_iterations_ms, after),
			 (long long)g.points[g.count - 1]->workers);
	}
}

/* The interval, or what the runs say without one. */
static void put_range(FILE *f, const struct term *t)
{
	bool sure = interval_exists(t->ci_ms);
	char low[32], high[32];

	fprintf(f, "%s %s to %s ms", sure ? "95 % interval" : "over all pairs of runs",
		figures3(sure ? t->ci_ms.low : t->min_ms, low), figures3(sure ? t->ci_ms.high : t->max_ms, high));
}

/* The three parts that lose most, as far as they are worth a word. */
static void put_losers(FILE *f, const struct loss *l)
{
	double least_ms = 0.02 * l->terms[TERM_TOTAL].loss_ms;
	bool said[TERM_TOTAL] = { false };

	for (int i = 0; i < 3; i++) {
		char loss[32];
		int most = -1;

		for (int t = 0; t < TERM_TOTAL; t++)
			if (!said[t] && l->terms[t].loss_ms > least_ms &&
			    (most < 0 || l->terms[t].loss_ms > l->terms[most].loss_ms))
				most = t;
		if (most < 0)
			return;
		said[most] = true;
		fprintf(f, "%s%s ms %s", i ? ", " : ", of it ", figures3(l->terms[most].loss_ms, loss),
			term_title(most));
	}
}

static void put_loss(FILE *f, const struct loss *l, enum scope scope)
{
	const struct term *total = &l->terms[TERM_TOTAL];
	char is[32], ideal[32], loss[32];

	(void)scope;	/* of the whole run */
	fprintf(f, "%s: from %zu to %zu nodes an iteration takes %s ms where %s ms would be ideal: ", l->to->variant,
		l->from->nodes, l->to->nodes, figures3(total->to_ms, is), figures3(total->ideal_ms, ideal));
	if (total->loss_ms > 0)
		fprintf(f, "%s ms are lost (efficiency %.0f %%)", figures3(total->loss_ms, loss),
			100 * total->ideal_ms / total->to_ms);
	else
		fprintf(f, "nothing is lost");
	if (l->from->run_count > 1 || l->to->run_count > 1) {
		fprintf(f, ", ");
		put_range(f, total);
	}
	if (total->loss_ms > 0)
		put_losers(f, l);
}

static void put_beyond(FILE *f, const struct loss *l, enum scope scope)
{
	char from[32], to[32], ratio[32], excess[32];

	fprintf(f, "%s: from %zu to %zu nodes %s iteration grows from %s to %s ms, %s times. Waiting for the slowest "
		   "of %zu times as many ranks makes it at most %zu times as long, however their delays are "
		   "distributed, if that does not change with scale: the cause grows with scale (a shared resource), "
		   "and no jitter of independent ranks explains it. Beyond the bound are %s ms",
		l->to->variant, l->from->nodes, l->to->nodes, scope == SCOPE_STEADY ? "a steady" : "an",
		figures3(l->excess.from_ms, from), figures3(l->excess.to_ms, to),
		figures3(l->excess.to_ms / l->excess.from_ms, ratio), l->times, l->times,
		figures3(l->excess.loss_ms, excess));
	if (l->from->run_count > 1 || l->to->run_count > 1) {
		fprintf(f, ", ");
		put_range(f, &l->excess);
	}
	if (l->from->ranks == 1)
		fprintf(f, "; a single rank exchanges nothing, so the exchange itself may be that cause");
	if (strstr(l->to->place, "emulated nodes"))
		fprintf(f, "; emulated nodes share their host, which is such a resource");
}

/* `put` into a sentence of the list. */
static void sentence_of(cJSON *list, void (*put)(FILE *, const struct loss *, enum scope), const struct loss *l,
			enum scope scope)
{
	char text[SENTENCE_MAX] = "";
	FILE *f = fmemopen(text, sizeof(text), "w");

	if (!f)
		return;
	put(f, l, scope);
	fclose(f);
	sentence(list, "%s.", text);
}

/* What the greatest step of each variant loses; every step whose cause grows with scale, by its steady
 * iterations where it has them, as boundaries have causes of their own. */
static void losses_say(cJSON *list, const struct curve *c)
{
	size_t undecided = 0;

	for (size_t i = 0; i < c->count; i++) {
		const struct point *p = &c->points[i], *from = loss_from(c, p);
		struct loss whole, steady, *said = &steady;

		if (!from || loss_make(from, p, SCOPE_WHOLE, &whole) || loss_make(from, p, SCOPE_STEADY, &steady))
			continue;
		if (i + 1 == c->count || p[1].base != p->base)
			sentence_of(list, put_loss, &whole, SCOPE_WHOLE);
		if (isnan(steady.excess.loss_ms) || whole.verdict > steady.verdict)
			said = &whole;
		if (said->verdict == VERDICT_BEYOND)
			sentence_of(list, put_beyond, said, said == &steady ? SCOPE_STEADY : SCOPE_WHOLE);
		undecided += said->verdict == VERDICT_UNDECIDED;
	}
	if (undecided)
		sentence(list, "In %zu step%s to more nodes the mean iteration grows by more than delays of "
			       "independent ranks can explain, but not in all pairs of runs (from 6 runs on: not with the whole "
			       "interval); more runs would decide it: see verdict in table scaling.", undecided,
			 undecided == 1 ? "" : "s");
}

/* What these numbers do not tell of. */
static void uncovered_say(cJSON *list, const struct runs *all)
{
	size_t left_out = 0, unsplit = 0, calls = 0;
	unsigned long long dropped = 0;

	for (size_t i = 0; i < all->count; i++) {
		const struct run *r = &all->at[i];

		if (!run_counts(r)) {
			left_out++;
			continue;
		}
		dropped += r->dropped;
		for (int name = 0; name < SPAN_COUNT; name++) {
			calls += r->waits.calls[name].calls;
			for (int s = SPLIT_UNMATCHED; s < SPLIT_COUNT; s++)
				unsplit += r->waits.calls[name].splits[s];
		}
	}
	if (left_out)
		sentence(list, "%zu of %zu runs did not end well and are in no median: see tables runs and warnings.",
			 left_out, all->count);
	if (unsplit)
		sentence(list, "%zu of %zu collectives are not told apart into waiting and moving: see unsplit_ms in tables breakdown "
			 "and collectives, and table warnings.", unsplit, calls);
	if (dropped)
		sentence(list, "%llu events were lost to full rings; their time stands under other classes: see table warnings.", dropped);
}

/* A sentence per variant, on its greatest number of nodes that has a run. */
static cJSON *headlines_make(const struct runs *all, const struct curve *c)
{
	cJSON *list = cJSON_CreateArray();
	const struct point *last = NULL;

	for (size_t i = 0; i < c->count; i++) {
		const struct point *p = &c->points[i];
		char text[SENTENCE_MAX] = "";
		FILE *f;

		last = p->run_count ? p : last;
		if (!last || (i + 1 < c->count && p[1].base == p->base))
			continue;
		f = fmemopen(text, sizeof(text), "w");
		if (!f)
			break;
		put_speedup(f, last);
		put_breakdown(f, last);
		put_waits(f, last);
		put_boundary(f, last);
		put_loader(f, last);
		fclose(f);
		sentence(list, "%s.", text);
		last = NULL;
	}
	growths_say(list, c);
	losses_say(list, c);
	uncovered_say(list, all);
	return list;
}

/* ---- what must be known ---------------------------------------------------------------- */

static void iterations_count(const struct curve *c, size_t counts[WINDOW_KINDS])
{
	for (size_t i = 0; i < c->count; i++)
		for (size_t j = 0; j < c->points[i].run_count; j++)
			for (size_t w = 0; w < c->points[i].runs[j]->windows; w++)
				counts[c->points[i].runs[j]->kinds[w]]++;
}

static cJSON *overhead_make(const struct curve *c)
{
	cJSON *o = cJSON_CreateObject();
	double pair_ns = NAN, next_ns = NAN, events = 0, rank_ns = 0;

	for (size_t i = 0; i < c->count; i++)
		for (size_t j = 0; j < c->points[i].run_count; j++) {
			const struct run *r = c->points[i].runs[j];
			const cJSON *cost = cJSON_GetObjectItemCaseSensitive(r->json, "event_cost");

			pair_ns = fmax(pair_ns, json_number(cost, "pair_ns", NAN));
			next_ns = fmax(next_ns, json_number(cost, "next_ns", NAN));
			events += (double)r->events;
			for (int k = 0; k < WINDOW_KINDS; k++)
				rank_ns += (double)r->sums[k].wall_ns;
		}
	cJSON_AddNumberToObject(o, "pair_ns", pair_ns);		/* cJSON writes NaN as null */
	cJSON_AddNumberToObject(o, "next_ns", next_ns);
	cJSON_AddNumberToObject(o, "events", events);
	cJSON_AddNumberToObject(o, "share_percent", 100 * events * pair_ns / rank_ns);
	return o;
}

static cJSON *rules_make(const struct runs *all, const size_t counts[WINDOW_KINDS], const cJSON *overhead)
{
	cJSON *list = cJSON_CreateArray();
	char order[SENTENCE_MAX] = "";

	for (int c = 0; c < CLS_COUNT; c++) {
		strncat(order, c ? ", " : "", sizeof(order) - strlen(order) - 1);
		strncat(order, class_names[c], sizeof(order) - strlen(order) - 1);
	}
	sentence(list, "An iteration, a boundary and a run take as long as their slowest rank; breakdowns are means "
		       "over ranks.");
	sentence(list,
		 "Steady iterations are all but the first of each epoch: %zu of %zu; the %zu others are left out by "
		 "this rule and count as part of boundary and start-up.",
		 counts[WINDOW_STEADY], counts[WINDOW_STEADY] + counts[WINDOW_FIRST], counts[WINDOW_FIRST]);
	sentence(list, "Each nanosecond of a window goes to the first of these classes that is active: %s.", order);
	sentence(list,
		 "The parts of all %zu windows (each rank of each run) sum to their wall time, in integer "
		 "nanoseconds%s.",
		 all->windows_checked, all->windows_unequal ? ": NOT TRUE" : "");
	sentence(list, "A collective is split at the moment at which its last rank came (a broadcast: its root) into wait and wire; "
		       "both views of an exposed wait, the account's and the blame's, are equal in integer nanoseconds.");
	sentence(list, "A wait is blamed on what the rank that was waited for did longer than the waiting one, since both left a "
		       "collective together; in proportion where that is several things.");
	sentence(list,
		 isnan(json_number(overhead, "pair_ns", NAN)) ? "What recording an event costs is not known." :
		 "Recording one event costs %.1f ns (a span of the step, which begins as another ends; one that begins "
		 "and ends by itself takes a second stamp: %.1f ns), measured by the runs themselves, the worst run counts; "
		 "the %.0f events of the runs in the medians took at most %.4f %% of their time.",
		 json_number(overhead, "next_ns", 0), json_number(overhead, "pair_ns", 0),
		 json_number(overhead, "events", 0), json_number(overhead, "share_percent", 0));
	sentence(list, "The base case of a speed-up is the same variant on its smallest number of nodes.");
	sentence(list, "The run is the replicate: medians are over runs, error bars are min..max, and a 95 %% interval "
		       "(exact order statistics) is given from 6 runs on.");
	sentence(list, "A loss is T(2n) - s T(n), s being clips of a node on 2n / on n, of means over runs, so the "
		       "parts add up; its interval is a studentised bootstrap of whole runs, from 6 on either side "
		       "(%zu resamples, seed %llu).", bootstrap_usual.resamples,
		 (unsigned long long)bootstrap_usual.seed);
	sentence(list, "Within one run the interval of its median steady iteration comes from blocks of iterations "
		       "(moving blocks, %zu resamples, seed %llu); it says nothing of other runs.",
		 bootstrap_usual.resamples,
		 (unsigned long long)bootstrap_usual.seed);
	return list;
}

/* The distinct texts of one key, at the top of run.json or in one of its objects. */
static cJSON *distinct(const struct runs *all, const char *part, const char *key)
{
	cJSON *list = cJSON_CreateArray();

	for (size_t i = 0; i < all->count; i++) {
		const cJSON *from = part ? cJSON_GetObjectItemCaseSensitive(all->at[i].json, part) : all->at[i].json,
			    *former;
		const char *text = json_string(from, key, NULL);

		cJSON_ArrayForEach(former, list)
			if (text && !strcmp(former->valuestring, text))
				break;
		if (text && !former)
			cJSON_AddItemToArray(list, cJSON_CreateString(text));
	}
	return list;
}

/* The entries of an object of run.json in which all runs that have one agree. */
static cJSON *common(const struct runs *all, const char *part)
{
	cJSON *out = NULL;

	for (size_t i = 0; i < all->count; i++) {
		const cJSON *theirs = cJSON_GetObjectItemCaseSensitive(all->at[i].json, part);
		cJSON *mine = out ? out->child : NULL, *next;

		if (!theirs)
			continue;
		if (!out)
			out = cJSON_Duplicate(theirs, 1);
		for (; mine; mine = next) {
			next = mine->next;
			if (!cJSON_Compare(mine, cJSON_GetObjectItemCaseSensitive(theirs, mine->string), 1))
				cJSON_Delete(cJSON_DetachItemViaPointer(out, mine));
		}
	}
	return out ? out : cJSON_CreateObject();
}

static void table_add(cJSON *tables, const struct table *t)
{
	cJSON *o = cJSON_AddObjectToObject(tables, t->name);

	cJSON_AddStringToObject(o, "title", t->title ? t->title : t->name);
	cJSON_AddItemToObject(o, "fields", table_fields_json(t));
	cJSON_AddItemToObject(o, "rows", table_json(t));
}

cJSON *summary_make(const struct runs *all, const struct curve *c, const struct tables *tables, const char *place,
		    const bool figures_made[FIGURE_COUNT])
{
	cJSON *s = cJSON_CreateObject(), *o, *list;
	cJSON *overhead = overhead_make(c);
	size_t counts[WINDOW_KINDS] = { 0 };

	iterations_count(c, counts);
	cJSON_AddNumberToObject(s, "schema", SUMMARY_SCHEMA);
	cJSON_AddStringToObject(s, "version", BUILD_VERSION);
	cJSON_AddStringToObject(s, "place", place);
	cJSON_AddItemToObject(s, "headlines", headlines_make(all, c));
	cJSON_AddItemToObject(s, "rules", rules_make(all, counts, overhead));
	o = cJSON_AddObjectToObject(s, "identity");
	cJSON_AddNumberToObject(o, "windows_checked", (double)all->windows_checked);
	cJSON_AddNumberToObject(o, "windows_unequal", (double)all->windows_unequal);
	cJSON_AddBoolToObject(o, "parts_equal_wall", all->windows_checked && !all->windows_unequal);
	o = cJSON_AddObjectToObject(s, "iterations");
	cJSON_AddNumberToObject(o, "total", (double)(counts[WINDOW_STEADY] + counts[WINDOW_FIRST]));
	cJSON_AddNumberToObject(o, "steady", (double)counts[WINDOW_STEADY]);
	cJSON_AddNumberToObject(o, "first_of_epoch", (double)counts[WINDOW_FIRST]);
	cJSON_AddItemToObject(s, "overhead", overhead);
	o = cJSON_AddObjectToObject(s, "measured");
	cJSON_AddItemToObject(o, "versions", distinct(all, NULL, "version"));
	cJSON_AddItemToObject(o, "builds", distinct(all, NULL, "build"));
	cJSON_AddItemToObject(o, "cpus", distinct(all, "place", "cpu"));
	cJSON_AddItemToObject(o, "libraries", common(all, "libraries"));
	cJSON_AddItemToObject(o, "options", common(all, "options"));
	list = cJSON_AddArrayToObject(s, "figures");
	for (size_t i = 0; i < FIGURE_COUNT; i++) {
		cJSON_AddItemToArray(list, o = cJSON_CreateObject());
		cJSON_AddStringToObject(o, "name", figures[i].name);
		cJSON_AddStringToObject(o, "title", figures[i].title);
		cJSON_AddBoolToObject(o, "made", figures_made[i]);
	}
	o = cJSON_AddObjectToObject(s, "tables");
	for (int i = 0; i < TABLE_COUNT; i++)
		table_add(o, &tables->at[i]);
	table_add(o, &all->warnings);
	return s;
}
