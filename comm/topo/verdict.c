/*
 * comm/topo/verdict.c - see verdict.h.
 */
#include "comm/topo/verdict.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "bench/base/record.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct field comm_fields[] = {
	{ "id", "", "commId, or size and number where NCCL prints none", 0 },
	{ "count", "1", "communicators with these same figures", 0 },
	{ "ranks", "1", "size", 0 },
	{ "present", "1", "ranks that speak in the logs", 0 },
	{ "complete", "1", "ranks that reported Init COMPLETE", 0 },
	{ "hosts", "1", "different host names", 0 },
	{ "channels", "1", "ring channels", 0 },
	{ "closed", "1", "channels whose ring is one known cycle", 0 },
	{ "edges", "1", "connections named in the log", 0 },
	{ "net", "1", "of these over the network", 0 },
	{ "gdr", "1", "of these with GPUDirect RDMA on both sides", 0 },
	{ "nic_crossed", "1", "of these with another NIC name at the other end", 0 },
};
static const struct field hop_fields[] = {
	{ "channels", "", "ring channels that make this hop", 0 },
	{ "from", "", "host that sends", 0 },
	{ "to", "", "host that receives", 0 },
	{ "ranks", "", "sending and receiving rank of the first such channel", 0 },
	{ "send", "", "NIC that sends", 0 },
	{ "receive", "", "NIC that receives", 0 },
	{ "gdr", "", "sides with GPUDirect RDMA: both, send, receive, none", 0 },
	{ "verdict", "",
	  "ok; crossed: other NIC at the other end; one-sided: an end is not in the logs; unseen: neither is", 0 },
};
static const struct field nic_fields[] = {
	{ "host", "", "host", 0 },
	{ "nic", "", "device", 0 },
	{ "net", "", "InfiniBand, RoCE, Socket or plugin", 0 },
	{ "sends", "1", "ring channels that leave the host on it", 0 },
	{ "receives", "1", "ring channels that enter the host on it", 0 },
	{ "gbps", "GB/s", "rate one way", 1 },
};
static const struct field finding_fields[] = {
	{ "finding", "", "name of the rule", 0 },
	{ "ids", "", "the specification's names", 0 },
	{ "verdict", "", "fault, cannot tell or ok", 0 },
	{ "severity", "", "error: wrong or half speed; warning: a loss is likely; info", 0 },
	{ "what", "", "the fact", 0 },
	{ "evidence", "", "file:line", 0 },
	{ "advice", "", "what mends it; for cannot tell the input that would tell", 0 },
	{ "now_gbps", "GB/s", "bound of the bus bandwidth as it is", 1 },
	{ "mended_gbps", "GB/s", "the same once mended", 1 },
	{ "communicators", "1", "how many gave this answer", 0 },
};
static const struct field bound_fields[] = {
	{ "level", "", "where links or groups are counted", 0 },
	{ "ideal_gbps", "GB/s", "C * min capacity / hops, hops spread evenly over a group's uplinks", 1 },
	{ "static_gbps", "GB/s", "the same along real forwarding tables", 1 },
	{ "worst_gbps", "GB/s", "the same with all hops of a group on one uplink", 1 },
	{ "capacity_gbps", "GB/s", "of the limiting link or group, one direction", 1 },
	{ "hops", "1", "channel hops on it", 1 },
	{ "crossings", "1", "hops that change group, all channels", 0 },
	{ "crossings_least", "1", "the least possible: one per group and channel", 0 },
	{ "limit", "", "the limiting link or group", 0 },
};
static const struct field mend_fields[] = {
	{ "change", "", "one thing mended", 0 },
	{ "ideal_gbps", "GB/s", "ideal bound with it", 1 },
	{ "static_gbps", "GB/s", "bound along the forwarding tables with it", 1 },
	{ "gain", "1", "ideal bound over that of now", 2 },
};
static const struct field order_fields[] = {
	{ "place", "1", "from 0", 0 },
	{ "host", "", "host", 0 },
	{ "was", "1", "its place now", 0 },
	{ "leaf", "", "switch of its first NIC", 0 },
};

const char *topo_place(const struct topo_log *log, struct topo_at at, char *out, size_t room)
{
	const char *slash;

	if (!at.line || at.file >= log->file_count) {
		*out = 0;
		return out;
	}
	slash = strrchr(log->files[at.file], '/');
	snprintf(out, room, "%s:%u", slash ? slash + 1 : log->files[at.file], at.line);
	return out;
}

struct comm_counts {
	size_t present, complete, closed, net, gdr, crossed;
};

static struct comm_counts comm_count(const struct topo_log *log, const struct topo_comm *c)
{
	struct comm_counts n = { 0 };

	for (size_t r = 0; r < c->rank_count; r++) {
		n.present += c->ranks[r].present;
		n.complete += c->ranks[r].complete;
	}
	for (size_t k = 0; k < c->channel_count; k++)
		n.closed += c->closed[k];
	for (size_t i = 0; i < c->edge_count; i++) {
		const struct topo_edge *e = &c->edges[i];

		if (e->via != TOPO_VIA_NET || e->conn)
			continue;
		n.net++;
		n.gdr += e->send.gdr && e->recv.gdr;
		n.crossed += e->send.seen && e->recv.seen && log->nics[e->send.nic].name != log->nics[e->recv.nic].name;
	}
	return n;
}

static void comms_table(struct table *t, const struct topo_log *log)
{
	for (size_t i = 0; i < log->comm_count; i++) {
		const struct topo_comm *c = &log->comms[i];
		struct comm_counts n = comm_count(log, c);
		size_t same = 1;

		while (i + 1 < log->comm_count) {	/* they are sorted by size */
			const struct topo_comm *d = &log->comms[i + 1];
			struct comm_counts m = comm_count(log, d);

			if (d->rank_count != c->rank_count || d->host_count != c->host_count ||
			    memcmp(&m, &n, sizeof(n)) || d->edge_count != c->edge_count)
				break;
			same++;
			i++;
		}
		table_text(t, c->id);
		table_int(t, (int64_t)same);
		table_int(t, (int64_t)c->rank_count);
		table_int(t, (int64_t)n.present);
		table_int(t, (int64_t)n.complete);
		table_int(t, (int64_t)c->host_count);
		table_int(t, (int64_t)c->channel_count);
		table_int(t, (int64_t)n.closed);
		table_int(t, (int64_t)c->edge_count);
		table_int(t, (int64_t)n.net);
		table_int(t, (int64_t)n.gdr);
		table_int(t, (int64_t)n.crossed);
	}
}

/* "0-3 7", adding n to what stands there. */
static void list_add(char *list, size_t room, unsigned n)
{
	size_t used = strlen(list);
	char *last = list + used;
	unsigned before;

	while (last > list && last[-1] >= '0' && last[-1] <= '9')
		last--;
	before = used ? (unsigned)strtoul(last, NULL, 10) : n;
	if (used && before + 1 == n && last > list && last[-1] == '-')
		snprintf(last, room - (size_t)(last - list), "%u", n);
	else if (used && before + 1 == n)
		snprintf(list + used, room - used, "-%u", n);
	else
		snprintf(list + used, room - used, "%s%u", used ? " " : "", n);
}

struct hop_row {
	const struct topo_flow *flow;
	int32_t from, to;
	bool send_gdr, recv_gdr, seen;
	char channels[120];
};

static void hops_table(struct table *t, const struct topo_model *m, const struct topo_comm *c,
		       const struct topo_flows *f)
{
	struct hop_row *rows = NULL;
	size_t count = 0, room = 0;

	for (size_t i = 0; i < f->count && count < 4096; i++) {
		const struct topo_flow *w = &f->at[i];
		struct hop_row row = { .flow = w, .from = -1, .to = -1 };
		const struct topo_edge *e;
		size_t k;

		e = w->rank_from < 0 ? NULL : topo_edge_find(c, w->channel, w->rank_from, w->rank_to);
		if (e) {
			row.from = e->from;
			row.to = e->to;
			row.seen = true;
			row.send_gdr = e->send.gdr;
			row.recv_gdr = e->recv.gdr;
		}
		for (k = 0; k < count; k++)
			if (rows[k].flow->host_from == w->host_from && rows[k].flow->host_to == w->host_to &&
			    rows[k].flow->nic_from == w->nic_from && rows[k].flow->nic_to == w->nic_to &&
			    rows[k].send_gdr == row.send_gdr && rows[k].recv_gdr == row.recv_gdr)
				break;
		if (k == count)
			TOPO_PUSH(rows, count, room) = row;
		list_add(rows[k].channels, sizeof(rows[k].channels), w->channel);
	}
	for (size_t k = 0; k < count; k++) {
		const struct hop_row *r = &rows[k];
		const char *a = r->flow->nic_from == TOPO_NONE ? NULL : m->log.nics[r->flow->nic_from].name;
		const char *b = r->flow->nic_to == TOPO_NONE ? NULL : m->log.nics[r->flow->nic_to].name;
		char ranks[32] = "-";

		if (r->seen)
			snprintf(ranks, sizeof(ranks), "%d -> %d", r->from, r->to);
		table_text(t, r->channels);
		table_text(t, m->log.hosts[r->flow->host_from].name);
		table_text(t, m->log.hosts[r->flow->host_to].name);
		table_text(t, ranks);
		table_text(t, a ? a : "-");
		table_text(t, b ? b : "-");
		table_text(t, !r->seen			   ? "-"
			      : r->send_gdr && r->recv_gdr ? "both"
			      : r->send_gdr		   ? "send"
			      : r->recv_gdr		   ? "receive"
							   : "none");
		table_text(t, !a && !b ? "unseen" : !a || !b ? "one-sided" : a == b ? "ok" : "crossed");
	}
	free(rows);
}

static void nics_table(struct table *t, const struct topo_model *m, const struct topo_flows *f)
{
	size_t *loads = topo_alloc(2 * m->log.nic_count, sizeof(*loads));

	for (size_t i = 0; i < f->count; i++) {
		if (f->at[i].nic_from != TOPO_NONE)
			loads[2 * f->at[i].nic_from]++;
		if (f->at[i].nic_to != TOPO_NONE)
			loads[2 * f->at[i].nic_to + 1]++;
	}
	for (size_t i = 0; i < m->log.nic_count; i++) {
		double gbps = topo_model_nic_gbps(m, (uint32_t)i);

		table_text(t, m->log.hosts[m->log.nics[i].host].name);
		table_text(t, m->log.nics[i].name);
		table_text(t, m->log.nics[i].net);
		table_int(t, (int64_t)loads[2 * i]);
		table_int(t, (int64_t)loads[2 * i + 1]);
		table_real(t, gbps > 0 ? gbps : NAN);
	}
	free(loads);
}

static void finite_real(struct table *t, double v)
{
	table_real(t, v > 0 && isfinite(v) ? v : NAN);
}

static void findings_table(struct table *t, const struct topo_model *m, const struct topo_findings *all)
{
	for (size_t i = 0; i < all->count; i++) {
		const struct topo_finding *f = &all->at[i];
		char evidence[512] = "", place[160];

		if (f->verdict == TOPO_NOT_APPLICABLE)
			continue;
		for (size_t k = 0; k < f->evidence_count && k < EVIDENCE_MAX; k++) {
			size_t used = strlen(evidence);

			topo_place(&m->log, f->evidence[k], place, sizeof(place));
			snprintf(evidence + used, sizeof(evidence) - used, "%s%s", used ? " " : "", place);
		}
		if (f->evidence_count > EVIDENCE_MAX) {
			size_t used = strlen(evidence);

			snprintf(evidence + used, sizeof(evidence) - used, " (%zu in all)", f->evidence_count);
		}
		table_text(t, f->rule->name);
		table_text(t, f->rule->ids);
		table_text(t, topo_verdict_names[f->verdict]);
		table_text(t, f->verdict == TOPO_FAULT ? topo_severity_names[f->severity] : "");
		table_text(t, f->what);
		table_text(t, evidence);
		table_text(t, f->verdict == TOPO_CANNOT_TELL ? f->missing : f->advice);
		finite_real(t, f->now_gbps);
		finite_real(t, f->mended_gbps);
		table_int(t, (int64_t)f->comms);
	}
}

static void bounds_table(struct table *t, const struct topo_bounds *b)
{
	for (size_t i = 0; i < b->count; i++) {
		const struct topo_bound *row = &b->at[i];

		table_text(t, row->level);
		finite_real(t, row->ideal);
		finite_real(t, row->fixed);
		finite_real(t, row->worst);
		finite_real(t, row->capacity);
		finite_real(t, row->hops);
		if (row->groups || row->crossings) {
			table_int(t, (int64_t)row->crossings);
			table_int(t, (int64_t)row->crossings_least);
		} else {
			table_none(t);
			table_none(t);
		}
		table_text(t, row->where);
	}
}

static void mend_row(struct table *t, const char *change, double ideal, double fixed, double now)
{
	table_text(t, change);
	finite_real(t, ideal);
	finite_real(t, fixed);
	table_real(t, now > 0 && ideal > 0 && isfinite(ideal) ? ideal / now : NAN);
}

static void mends_table(struct table *t, const struct topo_judging *j)
{
	const struct topo_bounds *now = &j->bounds, *sorted = &j->sorted;

	mend_row(t, "as it is", now->ideal, now->fixed, now->ideal);
	mend_row(t, "hosts in the order below", sorted->ideal, sorted->fixed, now->ideal);
	if (j->even <= 0)
		return;
	mend_row(t, "channels even over all NICs, one NIC both ways", j->even, 0, now->ideal);
	mend_row(t, "both", j->even_sorted, 0, now->ideal);
}

static const char *leaf_name(const struct topo_model *m, uint32_t nic, char out[96])
{
	uint32_t adapter = nic == TOPO_NONE ? (uint32_t)TOPO_NONE : m->log.nics[nic].adapter;
	uint32_t link = adapter == TOPO_NONE ? (uint32_t)TOPO_NONE : topo_fabric_uplink(&m->fabric, adapter, 0);

	*out = 0;
	if (link != TOPO_NONE)
		snprintf(out, 96, "0x%llx %.60s", (unsigned long long)m->fabric.nodes[m->fabric.links[link].peer].guid,
			 m->fabric.nodes[m->fabric.links[link].peer].description);
	return out;
}

static void order_table(struct table *t, const struct topo_judging *j)
{
	size_t count, hosts = j->m->log.host_count;
	uint32_t *now = topo_hosts_of(j->c, &count), *was = topo_alloc(hosts, sizeof(*was)),
		 *nic = topo_alloc(hosts, sizeof(*nic));
	char leaf[96];

	for (size_t i = 0; i < count; i++)
		was[now[i]] = (uint32_t)i;
	for (size_t h = 0; h < hosts; h++)
		nic[h] = TOPO_NONE;
	for (size_t i = j->flows.count; i-- > 0;)	/* so that the first channel's remains */
		nic[j->flows.at[i].host_from] = j->flows.at[i].nic_from;
	for (size_t i = 0; i < j->host_count; i++) {
		table_int(t, (int64_t)i);
		table_text(t, j->m->log.hosts[j->hosts[i]].name);
		table_int(t, was[j->hosts[i]]);
		table_text(t, leaf_name(j->m, nic[j->hosts[i]], leaf));
	}
	free(now);
	free(was);
	free(nic);
}

static void summarise(struct topo_report *r)
{
	const struct topo_bounds *b = &r->main.bounds;
	size_t used = 0;

	if (!r->main.c || !b->count) {
		snprintf(r->summary, sizeof(r->summary), "ring bound: no level could be counted");
	} else {
		used = (size_t)snprintf(r->summary, sizeof(r->summary), "ring bound:");
		for (size_t i = 0; i < b->count && used < sizeof(r->summary) - 100; i++) {
			const struct topo_bound *row = &b->at[i];

			if (!isfinite(row->ideal))
				continue;
			used += (size_t)snprintf(r->summary + used, sizeof(r->summary) - used, " %s %.1f%s", row->level,
						 row->ideal, row->estimate ? " (estimate)" : "");
			if (b->routed && row->groups && row->fixed > 0)
				used += (size_t)snprintf(r->summary + used, sizeof(r->summary) - used,
							 " (ideal) / %.1f (static%s)", row->fixed,
							 b->adaptive ? " if adaptive routing is off" : "");
			used += (size_t)snprintf(r->summary + used, sizeof(r->summary) - used, ",");
		}
		used--;
		used += (size_t)snprintf(r->summary + used, sizeof(r->summary) - used,
					 " -> busbw <= %.1f GB/s, limited by %s",
					 topo_bounds_least(b), b->limit);
	}
	if (r->measured_gbps > 0 && used < sizeof(r->summary) - 60) {
		double bound = r->main.c ? topo_bounds_least(b) : 0;

		used = strlen(r->summary);
		if (bound > 0)
			snprintf(r->summary + used, sizeof(r->summary) - used, "; measured %.1f = %.0f %%%s",
				 r->measured_gbps, 100 * r->measured_gbps / bound,
				 r->measured_gbps > bound ? " (no ring can: a tree, NVLS or SHARP)" : "");
		else
			snprintf(r->summary + used, sizeof(r->summary) - used, "; measured %.1f", r->measured_gbps);
	}
}

void topo_report_make(struct topo_report *r, const struct topo_model *m, double measured_gbps)
{
	static const struct { const char *name, *title; const struct field *fields; size_t count;
	} shapes[] = {
		[VERDICT_COMMS] = { "communicators", "Communicators", comm_fields, ARRAY_LEN(comm_fields) },
		[VERDICT_HOPS] = { "hops", "Ring hops between hosts", hop_fields, ARRAY_LEN(hop_fields) },
		[VERDICT_NICS] = { "nics", "Ring channels per NIC", nic_fields, ARRAY_LEN(nic_fields) },
		[VERDICT_FINDINGS] = { "findings", "Findings", finding_fields, ARRAY_LEN(finding_fields) },
		[VERDICT_BOUNDS] = { "bounds", "Bounds of ring bus bandwidth", bound_fields, ARRAY_LEN(bound_fields) },
		[VERDICT_MENDS] = { "mends", "What a change is worth", mend_fields, ARRAY_LEN(mend_fields) },
		[VERDICT_ORDER] = { "order", "Hosts in the order that crosses least", order_fields,
				    ARRAY_LEN(order_fields) },
	};
	const struct topo_comm *main = m->log.comm_count && m->log.comms[0].rank_count > 1 ? &m->log.comms[0] : NULL;

	*r = (struct topo_report){ .measured_gbps = measured_gbps };
	for (size_t i = 0; i < VERDICT_TABLES; i++)
		table_init(&r->tables[i], shapes[i].name, shapes[i].title, shapes[i].fields, shapes[i].count);
	topo_judge(m, &r->findings);
	for (size_t i = 0; i < r->findings.count; i++)
		if (r->findings.at[i].verdict == TOPO_FAULT)
			r->faults[r->findings.at[i].severity]++;
	topo_judging_init(&r->main, m, main);
	comms_table(&r->tables[VERDICT_COMMS], &m->log);
	findings_table(&r->tables[VERDICT_FINDINGS], m, &r->findings);
	if (main && main->host_count > 1) {
		hops_table(&r->tables[VERDICT_HOPS], m, main, &r->main.flows);
		nics_table(&r->tables[VERDICT_NICS], m, &r->main.flows);
		order_table(&r->tables[VERDICT_ORDER], &r->main);
	}
	if (main && r->main.bounds.count) {
		bounds_table(&r->tables[VERDICT_BOUNDS], &r->main.bounds);
		if (main->host_count > 1)
			mends_table(&r->tables[VERDICT_MENDS], &r->main);
	}
	summarise(r);
}

void topo_report_release(struct topo_report *r)
{
	for (size_t i = 0; i < VERDICT_TABLES; i++)
		table_release(&r->tables[i]);
	topo_judging_release(&r->main);
	topo_findings_release(&r->findings);
}

/* ---- measured ---- */

/* size count type redop root time algbw busbw #wrong [time algbw busbw #wrong] */
static double busbw_of_line(struct topo_span s)
{
	struct topo_span word;
	double best = 0, v;
	int column = 0;

	for (topo_skip_blanks(&s); topo_take_word(&s, " \t", &word); topo_skip_blanks(&s), column++) {
		struct topo_span w = word;
		bool number = topo_take_real(&w, &v) && w.at == w.end;

		if ((column < 2 || (column >= 5 && column <= 7)) && !number)
			return 0;
		if ((column == 2 || column == 3) && number)
			return 0;
		if ((column == 7 || column == 11) && number && v > best)
			best = v;
	}
	return column >= 9 ? best : 0;
}

/* What one of our runs did: per collective the shortest of all ranks' spans, which leaves out most of the waiting for
 * late ranks; of these the median over the collectives of the greatest size. */
struct collective {
	uint64_t bytes;
	int64_t ns;
};

static int by_speed(const void *a, const void *b)
{
	const struct collective *x = a, *y = b;

	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	return x->ns < y->ns ? -1 : x->ns > y->ns;
}

static void collectives_take(const struct record *r, struct collective **all, size_t *count, size_t *room)
{
	int wanted = -1, at = 0;
	const cJSON *name;

	cJSON_ArrayForEach(name, cJSON_GetObjectItem(r->head, "names")) {
		if (cJSON_IsString(name) && !strcmp(name->valuestring, span_rows[SPAN_ALLREDUCE].name))
			wanted = at;
		at++;
	}
	for (size_t i = 0; i < r->event_count; i++) {
		const struct event *e = &r->events[i];

		if ((int64_t)e->name != wanted || e->t1 <= e->t0 || !e->arg || e->seq > 1u << 24)
			continue;
		while (*count <= e->seq)
			TOPO_PUSH(*all, *count, *room) = (struct collective){ .ns = INT64_MAX };
		(*all)[e->seq].bytes = e->arg;
		if (e->t1 - e->t0 < (*all)[e->seq].ns)
			(*all)[e->seq].ns = e->t1 - e->t0;
	}
}

static int measured_of_run(const char *folder, double *gbps)
{
	struct collective *all = NULL;
	size_t count = 0, room = 0, same = 0, world = 1;
	char path[PATH_BYTES];
	int rc = OK;

	for (size_t rank = 0; rank < world && !rc; rank++) {
		struct record r;

		rc = path_make(path, "%s/" FOLDER_RECORD, folder, rank);
		rc = rc ? rc : record_read(path, &r);
		if (rc)
			break;
		world = (size_t)json_number(r.head, "world", 1);
		collectives_take(&r, &all, &count, &room);
		record_release(&r);
	}
	if (!rc && count)
		qsort(all, count, sizeof(*all), by_speed);
	while (same < count && all[same].bytes == all[0].bytes && all[same].ns != INT64_MAX)
		same++;
	if (!rc && (!same || world < 2))
		rc = err(FAILED, "%s: no all-reduce of several ranks was recorded", folder);
	if (!rc)	/* bytes per ns are GB/s */
		*gbps = (double)all[same / 2].bytes / (double)all[same / 2].ns * 2 * (double)(world - 1) /
			(double)world;
	free(all);
	return rc;
}

int topo_measured(const char *what, double *gbps)
{
	char *end;
	struct topo_text t;
	struct topo_span rest, line;
	cJSON *json, *row;
	int rc;

	*gbps = strtod(what, &end);
	if (end != what && !*end)
		return *gbps > 0 ? OK : err(USAGE, "--measured: '%s' is no bandwidth", what);
	*gbps = 0;
	if (dir_exists(what))
		return measured_of_run(what, gbps);
	rc = topo_text_read(&t, what);
	if (rc)
		return rc;
	json = cJSON_ParseWithLength(t.at, t.bytes);
	cJSON_ArrayForEach(row, cJSON_GetObjectItem(json, "results")) {
		static const char *const places[] = { "out_of_place", "in_place" };

		for (size_t i = 0; i < ARRAY_LEN(places); i++)
			*gbps = fmax(*gbps, json_number(cJSON_GetObjectItem(row, places[i]), "bus_bw", 0));
	}
	cJSON_Delete(json);
	rest = (struct topo_span){ t.at, t.at + t.bytes };
	while (topo_line(&rest, &line))
		*gbps = fmax(*gbps, busbw_of_line(line));
	topo_text_release(&t);
	return *gbps > 0 ? OK : err(FAILED, "%s: neither a table nor JSON of nccl-tests", what);
}
