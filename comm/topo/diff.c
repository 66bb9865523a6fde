/*
 * comm/topo/diff.c - see diff.h.
 */
#include "comm/topo/diff.h"

#include "bench/base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct field diff_fields[] = {
	{ "aspect", "", "what is compared", 0 },
	{ "a", "", "in the first run", 0 },
	{ "b", "", "in the second", 0 },
	{ "verdict", "", "same or differs", 0 },
};

enum { TEXT = 256 };

static bool row(struct table *t, const char *aspect, const char *a, const char *b)
{
	bool differs = strcmp(a, b) != 0;

	table_text(t, aspect);
	table_text(t, a);
	table_text(t, b);
	table_text(t, differs ? "differs" : "same");
	return differs;
}

static bool row_number(struct table *t, const char *aspect, size_t a, size_t b)
{
	char x[24], y[24];

	snprintf(x, sizeof(x), "%zu", a);
	snprintf(y, sizeof(y), "%zu", b);
	return row(t, aspect, x, y);
}

/* The ring of a channel from rank 0 on. */
static void ring_text(const struct topo_comm *c, size_t channel, char out[TEXT])
{
	size_t used = 0, steps = 0;
	int32_t at = 0;

	*out = 0;
	if (!c || channel >= c->channel_count)
		return;
	do {
		used += (size_t)snprintf(out + used, TEXT - used, "%s%d", used ? " " : "", at);
		at = c->next[channel * c->rank_count + (size_t)at];
		steps++;
	} while (at > 0 && steps < c->rank_count && used < TEXT - 16);
	if (at > 0)
		snprintf(out + used, TEXT - used, " ...");
	else if (at < 0)
		snprintf(out + used, TEXT - used, " ?");
}

static bool rings_equal(const struct topo_comm *a, const struct topo_comm *b, size_t channel)
{
	return channel < a->channel_count && channel < b->channel_count && a->rank_count == b->rank_count &&
	       !memcmp(a->next + channel * a->rank_count, b->next + channel * a->rank_count,
		       a->rank_count * sizeof(*a->next));
}

static size_t diff_rings(struct table *t, const struct topo_comm *a, const struct topo_comm *b)
{
	size_t most = a->channel_count > b->channel_count ? a->channel_count : b->channel_count, differ = 0, shown = 0;
	char x[TEXT], y[TEXT], aspect[64];

	for (size_t k = 0; k < most; k++) {
		if (rings_equal(a, b, k))
			continue;
		differ++;
		if (shown++ >= 4)
			continue;
		ring_text(a, k, x);
		ring_text(b, k, y);
		snprintf(aspect, sizeof(aspect), "ring of channel %02zu", k);
		row(t, aspect, *x ? x : "none", *y ? y : "none");
	}
	if (differ) {
		snprintf(x, sizeof(x), "%zu channels", a->channel_count);
		snprintf(y, sizeof(y), "%zu of %zu differ", differ, most);
		row(t, "rings", x, y);
	} else {
		row_number(t, "rings", a->channel_count, b->channel_count);
	}
	return differ > 0;
}

/* "P2P/IPC 96, IB 32": how many connections of each kind, in order of first appearance in `order`. */
struct kinds {
	struct { const char *name; size_t count; } at[24];
	size_t count;
};

static void kinds_count(const struct topo_comm *c, bool ring_only, struct kinds *k)
{
	*k = (struct kinds){ .count = 0 };
	for (size_t i = 0; i < c->edge_count; i++) {
		size_t n = 0;

		if (c->edges[i].conn || (ring_only && !c->edges[i].ring))
			continue;
		while (n < k->count && strcmp(k->at[n].name, c->edges[i].how))
			n++;
		if (n == k->count && n < ARRAY_LEN(k->at))
			k->at[k->count++].name = c->edges[i].how;
		if (n < ARRAY_LEN(k->at))
			k->at[n].count++;
	}
}

static int by_kind(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void kinds_text(struct kinds *k, char out[TEXT])
{
	size_t used = 0;

	*out = 0;
	qsort(k->at, k->count, sizeof(k->at[0]), by_kind);
	for (size_t i = 0; i < k->count && used < TEXT - 40; i++)
		used += (size_t)snprintf(out + used, TEXT - used, "%s%.30s %zu", used ? ", " : "", k->at[i].name,
					 k->at[i].count);
}

static void gdr_text(const struct topo_comm *c, char out[TEXT])
{
	size_t net = 0, gdr = 0;

	for (size_t i = 0; i < c->edge_count; i++) {
		net += c->edges[i].via == TOPO_VIA_NET && !c->edges[i].conn;
		gdr += c->edges[i].via == TOPO_VIA_NET && !c->edges[i].conn && c->edges[i].send.gdr &&
		       c->edges[i].recv.gdr;
	}
	snprintf(out, TEXT, "%zu of %zu", gdr, net);
}

/* NICs of the ring hop that leaves `from` in a channel: "mlx5_0>mlx5_1". */
static void hop_text(const struct topo_model *m, const struct topo_comm *c, size_t channel, int32_t from,
		     char out[TEXT])
{
	int32_t to = channel < c->channel_count && from < (int32_t)c->rank_count
			     ? c->next[channel * c->rank_count + (size_t)from] : -1;
	const struct topo_edge *e = to < 0 ? NULL : topo_edge_find(c, channel, from, to);

	if (!e || e->via != TOPO_VIA_NET)
		snprintf(out, TEXT, "-");
	else
		snprintf(out, TEXT, "%d to %d, %.40s to %.40s", from, to,
			 e->send.seen ? m->log.nics[e->send.nic].name : "?",
			 e->recv.seen ? m->log.nics[e->recv.nic].name : "?");
}

static size_t diff_hops(struct table *t, const struct topo_model *ma, const struct topo_comm *a,
			const struct topo_model *mb, const struct topo_comm *b)
{
	size_t differ = 0, hops = 0, most = a->channel_count > b->channel_count ? a->channel_count : b->channel_count;
	size_t ranks = a->rank_count > b->rank_count ? a->rank_count : b->rank_count;
	char x[TEXT], y[TEXT], aspect[64];

	for (size_t k = 0; k < most; k++)
		for (int32_t r = 0; r < (int32_t)ranks; r++) {
			hop_text(ma, a, k, r, x);
			hop_text(mb, b, k, r, y);
			hops += strcmp(x, "-") || strcmp(y, "-");
			if (!strcmp(x, y))
				continue;
			if (differ++ < 4) {
				snprintf(aspect, sizeof(aspect), "hop of channel %02zu", k);
				row(t, aspect, x, y);
			}
		}
	snprintf(x, sizeof(x), "%zu", hops);
	snprintf(y, sizeof(y), differ ? "%zu of them differ" : "%zu", differ ? differ : hops);
	row(t, "network hops of rings, by NIC", x, y);
	return differ > 0;
}

static const char *choice_of(const struct topo_log *l, const struct topo_choice *key, char out[TEXT])
{
	for (size_t i = 0; i < l->choice_count; i++) {
		const struct topo_choice *c = &l->choices[i];

		if (strcmp(c->function, key->function) || c->bytes != key->bytes)
			continue;
		snprintf(out, TEXT, "%.40s %.40s", c->algo, c->proto);
		if (c->channels >= 0)
			snprintf(out + strlen(out), TEXT - strlen(out), ", %d channels", c->channels);
		return out;
	}
	return "-";
}

static size_t diff_choices(struct table *t, const struct topo_log *a, const struct topo_log *b)
{
	size_t differ = 0;
	char x[TEXT], y[TEXT], aspect[96];

	for (int side = 0; side < 2; side++) {
		const struct topo_log *l = side ? b : a;

		for (size_t i = 0; i < l->choice_count; i++) {
			const char *p = choice_of(a, &l->choices[i], x), *q = choice_of(b, &l->choices[i], y);

			if (side && strcmp(p, "-"))
				continue;		/* told from the first run's side */
			snprintf(aspect, sizeof(aspect), "%.40s %llu bytes", l->choices[i].function,
				 (unsigned long long)l->choices[i].bytes);
			differ += row(t, aspect, p, q);
		}
	}
	return differ;
}

static const char *setting_of(const struct topo_log *l, const char *name)
{
	for (size_t i = 0; i < l->setting_count; i++)
		if (!strcmp(l->settings[i].name, name))
			return l->settings[i].value;
	return "not set";
}

static size_t diff_settings(struct table *t, const struct topo_log *a, const struct topo_log *b)
{
	size_t differ = 0;

	for (int side = 0; side < 2; side++) {
		const struct topo_log *l = side ? b : a;

		for (size_t i = 0; i < l->setting_count; i++) {
			const char *name = l->settings[i].name;

			if ((i && l->settings[i - 1].name == name) || (side && strcmp(setting_of(a, name), "not set")))
				continue;
			differ += row(t, name, setting_of(a, name), setting_of(b, name));
		}
	}
	return differ;
}

size_t topo_diff(struct table *t, const struct topo_model *ma, const struct topo_model *mb)
{
	const struct topo_comm *a = ma->log.comm_count ? &ma->log.comms[0] : NULL,
			       *b = mb->log.comm_count ? &mb->log.comms[0] : NULL;
	size_t differ = 0;
	char x[TEXT], y[TEXT];
	struct kinds k;

	table_init(t, "diff", "What two runs chose", diff_fields, ARRAY_LEN(diff_fields));
	differ += row(t, "NCCL", ma->log.version ? ma->log.version : "?", mb->log.version ? mb->log.version : "?");
	differ += row_number(t, "hosts", ma->log.host_count, mb->log.host_count);
	differ += row_number(t, "communicators", ma->log.comm_count, mb->log.comm_count);
	if (a && b) {
		differ += row_number(t, "ranks", a->rank_count, b->rank_count);
		differ += row_number(t, "channels", a->channel_count, b->channel_count);
		differ += diff_rings(t, a, b);
		for (int ring = 0; ring < 2; ring++) {
			kinds_count(a, ring, &k);
			kinds_text(&k, x);
			kinds_count(b, ring, &k);
			kinds_text(&k, y);
			differ += row(t, ring ? "transports of rings" : "transports", x, y);
		}
		gdr_text(a, x);
		gdr_text(b, y);
		differ += row(t, "network connections with GPUDirect RDMA", x, y);
		differ += diff_hops(t, ma, a, mb, b);
	}
	differ += diff_choices(t, &ma->log, &mb->log);
	differ += diff_settings(t, &ma->log, &mb->log);
	return differ;
}
