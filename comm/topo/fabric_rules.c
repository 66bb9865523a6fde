/*
 * comm/topo/fabric_rules.c - judges of cabling, and of rings against it.
 *
 * Crossings are always fixable by rank order: NCCL visits hosts in the order of their lowest
 * rank, whatever lies between them, so an order sorted by switch reaches the least at every level.
 */
#include "comm/topo/judges.h"

#include "bench/base/err.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double hca_bound(const struct topo_judging *j)
{
	const struct topo_bound *hca = topo_bound_of(&j->bounds, "hca");

	return hca ? hca->ideal : INFINITY;
}

static bool in_fabric(const struct topo_judging *j, struct topo_finding *f)
{
	if (j->c->host_count < 2) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "one host");
		return false;
	}
	if (j->m->has_fabric && j->m->joined_by_guid + j->m->joined_by_name)
		return true;
	judge_needs(f, "--fabric (ibnetdiscover), or --fabric topology.conf",
		    j->m->has_fabric ? "no HCA of the job is in the fabric file" : "the cabling is not known");
	return false;
}

/* HCAs that the fabric file knows by GUID under another LID than their hosts do: the subnet was set up anew between. */
static size_t lids_moved(const struct topo_model *m)
{
	size_t moved = 0;

	for (size_t i = 0; i < m->node_count; i++)
		for (size_t h = 0; h < m->nodes[i].hca_count && !m->nodes[i].nccl; h++) {
			const struct topo_hca *a = &m->nodes[i].hcas[h];
			uint32_t node = a->node_guid ? topo_map_get(&m->fabric.by_guid, a->node_guid)
						     : (uint32_t)TOPO_NONE;
			uint32_t lid;

			if (node == TOPO_NONE && a->ports[0].guid)
				node = topo_map_get(&m->fabric.by_port_guid, a->ports[0].guid);
			if (node == TOPO_NONE || !a->ports[0].lid || m->fabric.nodes[node].is_switch)
				continue;
			lid = topo_map_get(&m->fabric.lid_of, m->fabric.nodes[node].guid);
			moved += lid != TOPO_NONE && lid != a->ports[0].lid;
		}
	return moved;
}

void judge_fabric_join(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_model *m = j->m;
	size_t hcas = 0, found = 0, moved = lids_moved(m);
	bool is_old = m->fabric.day && m->log.day && m->fabric.day < m->log.day;
	const struct topo_hca *lost = NULL;

	if (!m->has_fabric) {
		judge_needs(f, "--fabric", "the cabling is not known");
		return;
	}
	for (size_t i = 0; i < m->node_count; i++)
		for (size_t h = 0; h < m->nodes[i].hca_count && !m->nodes[i].nccl; h++) {
			const struct topo_hca *a = &m->nodes[i].hcas[h];
			const struct topo_port *p = &a->ports[0];
			bool in = (a->node_guid && topo_map_get(&m->fabric.by_guid, a->node_guid) != TOPO_NONE) ||
				  (p->guid && topo_map_get(&m->fabric.by_port_guid, p->guid) != TOPO_NONE) ||
				  (a->system_guid && topo_map_get(&m->fabric.by_system, a->system_guid) != TOPO_NONE);

			hcas++;
			found += in;
			lost = in ? lost : a;
		}
	if (m->not_joined && m->joined_by_guid + m->joined_by_name) {
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "%zu of %zu NICs of the job are not in the fabric file",
			  m->not_joined, m->not_joined + m->joined_by_guid + m->joined_by_name);
		judge_advise(f, "write ibnetdiscover again, from each subnet that the rails belong to");
	} else if (moved && is_old) {
		judge_say(f, TOPO_FAULT, TOPO_WARNING,
			  "the fabric file of %u is older than the run of %u, and %zu HCAs have another LID since",
			  m->fabric.day, m->log.day, moved);
		judge_advise(f, "write ibnetdiscover again, and the forwarding tables with it");
	} else if (m->joined_by_guid + m->joined_by_name) {
		judge_say(f, TOPO_OK, TOPO_INFO,
			  "%zu NICs by GUID, %zu by host name and order (give --hwloc to be sure); %zu with another "
			  "LID",
			  m->joined_by_guid, m->joined_by_name, moved);
	} else if (hcas && found == hcas) {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu HCAs of %zu nodes by GUID; %zu with another LID", found,
			  m->node_count, moved);
	} else if (found) {
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "%zu of %zu HCAs are not in the fabric file, such as %s",
			  hcas - found, hcas, lost->name);
		judge_advise(f, "another subnet, or an old file: write ibnetdiscover again");
	} else {
		judge_needs(f, "the fabric file of this job's subnet, and --hwloc of its hosts",
			    hcas || m->not_joined ? "no HCA of the job is in the fabric file"
						  : "no HCA of the job is known");
	}
}

/* Crossings of a scheduler's leaf groups in rank order, and the least. */
static bool group_crossings(const struct topo_judging *j, size_t *now, size_t *least, size_t *groups)
{
	const struct topo_fabric *f = &j->m->fabric;
	size_t count, placed = 0;
	uint32_t *hosts = topo_hosts_of(j->c, &count), *group = topo_alloc(count, sizeof(*group));
	bool *seen = topo_alloc(f->group_count, sizeof(*seen));

	struct topo_map of_host = { 0 };

	for (size_t k = f->member_count; k-- > 0;)
		topo_map_set(&of_host, (uintptr_t)f->members[k].host, f->members[k].group);
	*now = *groups = 0;
	for (size_t i = 0; i < count; i++) {
		group[i] = topo_map_get(&of_host, (uintptr_t)j->m->log.hosts[hosts[i]].name);
		placed += group[i] != TOPO_NONE;
		if (group[i] != TOPO_NONE && !seen[group[i]]) {
			seen[group[i]] = true;
			++*groups;
		}
	}
	for (size_t i = 0; i < count; i++)
		*now += group[i] != group[(i + 1) % count];
	*least = *groups > 1 ? *groups : 0;
	topo_map_release(&of_host);
	free(hosts);
	free(group);
	free(seen);
	return placed == count && count;
}

static void crossings(const struct topo_judging *j, struct topo_finding *f, const char *level)
{
	const struct topo_bound *row = topo_bound_of(&j->bounds, level), *sorted = topo_bound_of(&j->sorted, level);

	if (!row) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "no %s to cross", level);
		return;
	}
	if (row->crossings <= row->crossings_least || (sorted && sorted->crossings >= row->crossings)) {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu crossings over all channels, the least possible", row->crossings);
		return;
	}
	judge_cite(f, j->c->at);
	judge_say(f, TOPO_FAULT, row->ideal < hca_bound(j) ? TOPO_ERROR : TOPO_WARNING,
		  "rings cross from %s to %s %zu times where %zu do: "
		  "bound %.1f GB/s at %s, %.1f in sorted order",
		  level, level, row->crossings, sorted ? sorted->crossings : row->crossings_least, row->ideal,
		  row->where, sorted ? sorted->ideal : INFINITY);
	judge_advise(
		f,
		"start the job with the hosts in the order below (--out writes hostfile, rankfile and Slurm's list)");
	if (row->ideal < hca_bound(j)) {
		f->now_gbps = row->ideal;
		f->mended_gbps = j->sorted.ideal;
	}
}

void judge_leaf_crossings(const struct topo_judging *j, struct topo_finding *f)
{
	size_t now, least, groups;

	if (!j->m->has_fabric && j->m->has_groups && j->c->host_count > 1) {
		if (!group_crossings(j, &now, &least, &groups))
			judge_needs(f, "a topology.conf that names all hosts of the job", "some hosts are in no group");
		else if (now <= least)
			judge_say(f, TOPO_OK, TOPO_INFO, "%zu changes of switch per channel over %zu switches", now,
				  groups);
		else {
			judge_cite(f, j->c->at);
			judge_say(f, TOPO_FAULT, TOPO_WARNING, "each channel changes switches %zu times where %zu do",
				  now, least);
			judge_advise(f, "start the job with the hosts in the order below (--out writes it)");
		}
		return;
	}
	if (in_fabric(j, f))
		crossings(j, f, "leaf");
}

void judge_rack_crossings(const struct topo_judging *j, struct topo_finding *f)
{
	if (in_fabric(j, f))
		crossings(j, f, "rack");
}

void judge_uplink_bound(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_bound *worst = NULL;

	if (!in_fabric(j, f))
		return;
	for (size_t i = 0; i < j->bounds.count; i++)
		if (j->bounds.at[i].groups && (!worst || j->bounds.at[i].ideal < worst->ideal))
			worst = &j->bounds.at[i];
	if (!worst) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "no hop uses an uplink");
	} else if (worst->ideal >= hca_bound(j)) {
		judge_say(f, TOPO_OK, TOPO_INFO, "uplinks carry %.1f GB/s, HCAs %.1f", worst->ideal, hca_bound(j));
	} else {
		judge_say(f, TOPO_FAULT, TOPO_ERROR,
			  "%s: %.0f channel hops over %.1f GB/s of uplinks bound the rings to %.1f GB/s, below the "
			  "HCAs' %.1f",
			  worst->where, worst->hops, worst->capacity, worst->ideal, hca_bound(j));
		judge_advise(f, "hosts sorted by switch would be bound at %.1f GB/s", j->sorted.ideal);
		f->now_gbps = worst->ideal;
		f->mended_gbps = j->sorted.ideal;
	}
}

void judge_static_collision(const struct topo_judging *j, struct topo_finding *f)
{
	if (!in_fabric(j, f))
		return;
	if (!j->m->has_routes) {
		judge_needs(f, "--routes (dump_fts, or ibroute of each switch)", "forwarding tables are not known");
	} else if (!j->bounds.routed) {
		judge_needs(f, "forwarding tables of all switches on the way",
			    "some hops cannot be followed through the tables");
	} else if (j->bounds.fixed < 0.999 * fmin(j->bounds.ideal, hca_bound(j))) {
		judge_say(f, TOPO_FAULT, j->bounds.adaptive ? TOPO_INFO : TOPO_WARNING,
			  "%sthe tables send %.0f channel hops through %s: bound %.1f GB/s, ideally spread %.1f",
			  j->bounds.adaptive ? "without adaptive routing " : "", j->bounds.collision_hops,
			  j->bounds.collision, j->bounds.fixed, j->bounds.ideal);
		judge_advise(f,
			     "adaptive routing, another routing engine (ftree), or hosts swapped within a leaf; sorted "
			     "by switch %.1f",
			     j->sorted.fixed);
		f->now_gbps = j->bounds.fixed;
		f->mended_gbps = j->bounds.ideal;
	} else {
		judge_say(f, TOPO_OK, TOPO_INFO, "the fullest link carries %.0f channel hops",
			  j->bounds.collision_hops);
	}
}

/* Routing engines like up/down may send a hop the long way round, or there and back by ways of other lengths. */
void judge_path_length(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_model *m = j->m;
	uint8_t **cables;		/* per switch that a hop starts at: to all others */
	size_t followed = 0, longer = 0, uneven = 0, most = 0;
	const struct topo_flow *worst = NULL;

	if (!in_fabric(j, f))
		return;
	if (!m->has_routes) {
		judge_needs(f, "--routes (dump_fts, or ibroute of each switch)", "forwarding tables are not known");
		return;
	}
	cables = topo_alloc(m->fabric.node_count, sizeof(*cables));
	for (size_t i = 0; i < j->flows.count; i++) {
		const struct topo_flow *w = &j->flows.at[i];
		bool known = w->nic_from != TOPO_NONE && w->nic_to != TOPO_NONE;
		uint32_t from = known ? topo_model_leaf(m, w->nic_from) : (uint32_t)TOPO_NONE;
		uint32_t to = known ? topo_model_leaf(m, w->nic_to) : (uint32_t)TOPO_NONE;
		size_t there = known ? topo_model_route(m, w->nic_from, w->nic_to, NULL) : 0, back, least;

		if (!there || from == TOPO_NONE || to == TOPO_NONE)
			continue;
		if (!cables[from]) {
			cables[from] = topo_alloc(m->fabric.node_count, sizeof(*cables[from]));
			topo_fabric_distances(&m->fabric, from, cables[from]);
		}
		followed++;
		least = cables[from][to] + 1u;		/* switches are one more than the cables between them */
		back = topo_model_route(m, w->nic_to, w->nic_from, NULL);
		longer += there > least;
		uneven += back && back != there;
		if (there > least && there - least > most) {
			most = there - least;
			worst = w;
		}
	}
	for (size_t i = 0; i < m->fabric.node_count; i++)
		free(cables[i]);
	free(cables);
	if (!followed)
		judge_needs(f, "forwarding tables of all switches on the way",
			    "no hop can be followed through the tables");
	else if (longer) {
		judge_say(f, TOPO_FAULT, TOPO_INFO,
			  "%zu of %zu channel hops take more switches than they must, such as %s to %s: %zu more; "
			  "%zu take another number back",
			  longer, followed, m->log.hosts[worst->host_from].name, m->log.hosts[worst->host_to].name,
			  most, uneven);
		judge_advise(f, "compare the subnet manager's routing engine (ftree, minhop) with the fabric's shape");
	} else {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu channel hops by the shortest ways", followed);
	}
}

/* The usual value among those that are not 0. */
static float usual(const float *values, size_t count)
{
	float best = 0;
	size_t most = 0;

	for (size_t i = 0; i < count; i++) {
		size_t n = 0;

		for (size_t k = 0; k < count; k++)
			n += values[k] == values[i];
		if (values[i] > 0 && n > most) {
			most = n;
			best = values[i];
		}
	}
	return best;
}

/* Links of one class: between two levels of switches, or from the job's adapters to leaves. */
void judge_link_degraded(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_fabric *fab = &j->m->fabric;
	enum { CLASSES = 16, RATES = 24 };
	float rates[CLASSES][RATES];
	size_t counts[CLASSES][RATES] = { { 0 } }, kinds[CLASSES] = { 0 }, degraded = 0, links = 0;
	bool job = j->m->joined_by_guid + j->m->joined_by_name > 0;

	if (!j->m->has_fabric) {
		judge_needs(f, "--fabric", "the cabling is not known");
		return;
	}
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < fab->link_count; i++) {
			const struct topo_link *l = &fab->links[i];
			const struct topo_vertex *a = &fab->nodes[l->node],
						 *b = l->peer == TOPO_NONE ? NULL : &fab->nodes[l->peer];
			size_t class, k, most = 0;

			if (!b || !b->is_switch || !a->is_switch || l->gbps <= 0 || a->level >= b->level ||
			    b->level >= CLASSES)
				continue;
			class = b->level;
			for (k = 0; k < kinds[class] && rates[class][k] != l->gbps; k++)
				;
			if (!pass) {
				if (k == kinds[class] && k < RATES)
					rates[class][kinds[class]++] = l->gbps;
				if (k < RATES)
					counts[class][k]++;
				continue;
			}
			links++;
			for (size_t r = 0; r < kinds[class]; r++)
				most = counts[class][r] > counts[class][most] ? r : most;
			if (l->gbps >= rates[class][most] || 2 * counts[class][most] < counts[class][k < RATES ? k : 0])
				continue;
			judge_cite(f, l->at);
			if (!degraded++)
				judge_say(f, TOPO_FAULT, job ? TOPO_ERROR : TOPO_WARNING,
					  "port %u of '%.60s' (0x%llx) runs at %.2f GB/s, links of "
					  "its class at %.2f",
					  l->port, a->description, (unsigned long long)a->guid, (double)l->gbps,
					  (double)rates[class][most]);
		}
	if (!degraded)
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu links between switches", links);
	else
		judge_advise(
			f,
			"replace the cable or clean it; %zu of %zu links between switches are slower than their class",
			degraded, links);
}

static void leaf_count(const struct topo_fabric *f, uint32_t leaf, size_t *up, size_t *down, double *up_gbps,
		       double *down_gbps)
{
	const struct topo_vertex *v = &f->nodes[leaf];

	*up = *down = 0;
	*up_gbps = *down_gbps = 0;
	for (uint32_t i = v->first; i < v->first + v->count; i++) {
		const struct topo_link *l = &f->links[i];
		const struct topo_vertex *p = l->peer == TOPO_NONE ? NULL : &f->nodes[l->peer];

		if (p && p->is_switch && p->level == 1) {
			++*up;
			*up_gbps += l->gbps;
		} else if (p && !p->is_switch && !p->aggregation) {
			++*down;
			*down_gbps += l->gbps;
		}
	}
}

void judge_uplinks_missing(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_fabric *fab = &j->m->fabric;
	float *ups = topo_alloc(fab->node_count, sizeof(*ups)), mode;
	size_t leaves = 0, few = 0, up, down;
	double a, b;

	if (!j->m->has_fabric || fab->levels < 2) {
		if (!j->m->has_fabric)
			judge_needs(f, "--fabric", "the cabling is not known");
		else
			judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "one level of switches");
		free(ups);
		return;
	}
	for (uint32_t i = 0; i < fab->node_count; i++)
		if (fab->nodes[i].level == 0) {
			leaf_count(fab, i, &up, &down, &a, &b);
			if (down >= 2)		/* with one adapter it is a service switch, or a spine with a manager */
				ups[leaves++] = (float)up;
		}
	mode = usual(ups, leaves);
	for (uint32_t i = 0; i < fab->node_count; i++) {
		if (fab->nodes[i].level != 0)
			continue;
		leaf_count(fab, i, &up, &down, &a, &b);
		if (down < 2 || (float)up >= mode || !up)
			continue;
		judge_cite(f, fab->nodes[i].at);
		if (!few++)
			judge_say(f, TOPO_FAULT, TOPO_WARNING, "'%.60s' (0x%llx) has %zu of %.0f uplinks",
				  fab->nodes[i].description, (unsigned long long)fab->nodes[i].guid, up, (double)mode);
	}
	if (few)
		judge_advise(f,
			     "%zu of %zu leaves lack uplinks: look for unplugged or disabled ports (iblinkinfo shows "
			     "Polling)",
			     few, leaves);
	else
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu leaves with %.0f uplinks or more", leaves, (double)mode);
	free(ups);
}

void judge_taper(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_fabric *fab = &j->m->fabric;
	double worst = 0, up_gbps, down_gbps;
	size_t up, down, worst_up = 0, worst_down = 0;

	if (!j->m->has_fabric) {
		judge_needs(f, "--fabric", "the cabling is not known");
		return;
	}
	for (uint32_t i = 0; i < fab->node_count; i++) {
		if (fab->nodes[i].level != 0)
			continue;
		leaf_count(fab, i, &up, &down, &up_gbps, &down_gbps);
		if (up_gbps > 0 && down_gbps / up_gbps > worst) {
			worst = down_gbps / up_gbps;
			worst_up = up;
			worst_down = down;
		}
	}
	if (worst <= 0)
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "one level of switches");
	else
		judge_say(f, TOPO_OK, TOPO_INFO,
			  "%zu leaves; the narrowest has %zu adapters on %zu uplinks, %.2f:1 by capacity", fab->leaves,
			  worst_down, worst_up, worst);
}

/* The leaf of each host's first NIC in use. */
static size_t leaves_of_hosts(const struct topo_judging *j, size_t *hosts_on)
{
	size_t leaves = 0;
	bool *done = topo_alloc(j->m->log.host_count, sizeof(*done));

	for (size_t i = 0; i < j->flows.count; i++) {
		const struct topo_flow *w = &j->flows.at[i];
		uint32_t adapter = w->nic_from == TOPO_NONE ? (uint32_t)TOPO_NONE : j->m->log.nics[w->nic_from].adapter;
		uint32_t link =
			adapter == TOPO_NONE ? (uint32_t)TOPO_NONE : topo_fabric_uplink(&j->m->fabric, adapter, 0);

		if (w->channel != j->flows.at[0].channel || link == TOPO_NONE || done[w->host_from])
			continue;
		done[w->host_from] = true;
		leaves += !hosts_on[j->m->fabric.links[link].peer]++;
	}
	free(done);
	return leaves;
}

void judge_spread(const struct topo_judging *j, struct topo_finding *f)
{
	size_t *hosts_on, leaves, widest = 0, needed;

	if (!in_fabric(j, f))
		return;
	hosts_on = topo_alloc(j->m->fabric.node_count, sizeof(*hosts_on));
	leaves = leaves_of_hosts(j, hosts_on);
	for (uint32_t i = 0; i < j->m->fabric.node_count; i++) {
		size_t up, down;
		double a, b;

		if (!hosts_on[i])
			continue;
		leaf_count(&j->m->fabric, i, &up, &down, &a, &b);
		widest = down > widest ? down : widest;
	}
	needed = widest ? (j->c->host_count + widest - 1) / widest : 0;
	if (!needed)
		judge_needs(f, "NET lines of all processes", "no leaf is known");
	else if (leaves <= needed + 1)		/* an allocation rarely starts at a leaf's first port */
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu hosts on %zu leaves", j->c->host_count, leaves);
	else {
		judge_say(f, TOPO_FAULT, TOPO_INFO, "%zu hosts are spread over %zu leaves where %zu would do",
			  j->c->host_count, leaves, needed);
		judge_advise(f, "ask the scheduler for neighbouring hosts (--switches, a rack-bound queue)");
	}
	free(hosts_on);
}

void judge_lone_host(const struct topo_judging *j, struct topo_finding *f)
{
	size_t *hosts_on, leaves, lone = 0;

	if (!in_fabric(j, f))
		return;
	hosts_on = topo_alloc(j->m->fabric.node_count, sizeof(*hosts_on));
	leaves = leaves_of_hosts(j, hosts_on);
	for (uint32_t i = 0; i < j->m->fabric.node_count; i++)
		lone += hosts_on[i] == 1;
	if (!lone || leaves == j->c->host_count)
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu leaves", leaves);
	else {
		judge_say(f, TOPO_FAULT, TOPO_INFO,
			  "%zu of %zu leaves have one host of the job: two crossings each for one host", lone, leaves);
		judge_advise(f, "swap these hosts for free ones on the other leaves");
	}
	free(hosts_on);
}

/* Numbers between the least and the greatest of one prefix that no switch has. */
static size_t numbers_missing(const struct topo_fabric *f, char *list, size_t room)
{
	const char *first = f->members[0].host;
	size_t digits = strlen(first), prefix, missing = 0;
	enum { NUMBERS_MAX = 100000 };
	long low = 0, high = -1;
	bool *there;

	while (digits && first[digits - 1] >= '0' && first[digits - 1] <= '9')
		digits--;
	prefix = digits;
	digits = strlen(first) - prefix;
	if (!digits || digits > 8 || prefix > 90)
		return 0;
	for (size_t i = 0; i < f->member_count; i++)
		if (!strncmp(f->members[i].host, first, prefix) && strlen(f->members[i].host) == prefix + digits) {
			long n = strtol(f->members[i].host + prefix, NULL, 10);

			low = high < 0 || n < low ? n : low;
			high = n > high ? n : high;
		}
	if (high < low || high - low >= NUMBERS_MAX)
		return 0;
	there = topo_alloc((size_t)(high - low + 1), sizeof(*there));
	for (size_t i = 0; i < f->member_count; i++)
		if (!strncmp(f->members[i].host, first, prefix) && strlen(f->members[i].host) == prefix + digits) {
			long n = strtol(f->members[i].host + prefix, NULL, 10);

			if (n >= low && n <= high)
				there[n - low] = true;
		}
	for (long n = low; n <= high; n++) {
		size_t used = strlen(list);

		if (!there[n - low] && missing++ < 6)
			snprintf(list + used, room - used, "%s%.*s%0*ld", used ? ", " : "", (int)prefix, first,
				 (int)digits, n);
	}
	free(there);
	return missing;
}

void judge_groups_valid(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_fabric *fab = &j->m->fabric;
	size_t twice = 0, missing;
	const char *which = NULL;
	char list[160] = "";
	struct topo_map seen = { 0 };

	if (!fab->member_count) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "no topology.conf");
		return;
	}
	for (size_t g = 0; g < fab->group_count; g++) {
		size_t steps = 0;

		for (uint32_t p = (uint32_t)g; p != TOPO_NONE && steps <= fab->group_count; p = fab->groups[p].parent)
			steps++;
		if (steps <= fab->group_count)
			continue;
		judge_cite(f, fab->groups[g].at);
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "switch %s is above itself", fab->groups[g].name);
		judge_advise(f, "Switches= must form a tree");
		return;
	}
	for (size_t i = 0; i < fab->member_count; i++) {
		uint32_t before = topo_map_get(&seen, (uintptr_t)fab->members[i].host);

		if (before != TOPO_NONE && fab->members[before].group != fab->members[i].group) {
			twice++;
			which = fab->members[i].host;
			judge_cite(f, fab->members[before].at);
			judge_cite(f, fab->members[i].at);
		}
		topo_map_set(&seen, (uintptr_t)fab->members[i].host, (uint32_t)i);
	}
	topo_map_release(&seen);
	missing = fab->groups_of_job ? 0 : numbers_missing(fab, list, sizeof(list));
	if (twice) {
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "%s is under two switches (%zu such)%s%s%s", which, twice,
			  missing ? "; under none: " : "", list, missing > 6 ? ", ..." : "");
		judge_advise(f, "name each host under one switch: Slurm takes the last, and places jobs by it");
	} else {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu hosts under %zu switches%s%s", fab->member_count,
			  fab->group_count, missing ? "; under none: " : "", list);
	}
}

void judge_rail_cabling(const struct topo_judging *j, struct topo_finding *f)
{
	const struct topo_fabric *fab = &j->m->fabric;
	enum { RAILS = 64 };
	size_t pure = 0, mixed = 0, odd = 0;
	char list[200] = "";

	if (!j->m->has_fabric) {
		judge_needs(f, "--fabric", "the cabling is not known");
		return;
	}
	for (uint32_t leaf = 0; leaf < fab->node_count; leaf++) {
		const struct topo_vertex *v = &fab->nodes[leaf];
		size_t rails[RAILS] = { 0 }, total = 0;
		int32_t main_rail = 0;

		if (v->level != 0)
			continue;
		for (uint32_t i = v->first; i < v->first + v->count; i++) {
			const struct topo_vertex *a =
				fab->links[i].peer == TOPO_NONE ? NULL : &fab->nodes[fab->links[i].peer];

			if (a && !a->is_switch && !a->aggregation && a->rail >= 0 && a->rail < RAILS) {
				rails[a->rail]++;
				total++;
			}
		}
		for (int32_t r = 0; r < RAILS; r++)
			main_rail = rails[r] > rails[main_rail] ? r : main_rail;
		if (total < 4)
			continue;
		if (10 * rails[main_rail] < 9 * total) {
			mixed++;
			continue;
		}
		pure++;
		for (uint32_t i = v->first; i < v->first + v->count && rails[main_rail] < total; i++) {
			const struct topo_vertex *a =
				fab->links[i].peer == TOPO_NONE ? NULL : &fab->nodes[fab->links[i].peer];
			size_t used = strlen(list);

			if (!a || a->is_switch || a->aggregation || a->rail < 0 || a->rail == main_rail)
				continue;
			odd++;
			judge_cite(f, fab->links[i].at);
			snprintf(list + used, sizeof(list) - used, "%s'%.40s' on '%.30s'", used ? ", " : "",
				 a->description, v->description);
		}
	}
	if (!pure || mixed > pure || fab->leaves < 2) {
		judge_say(f, TOPO_NOT_APPLICABLE, TOPO_INFO, "leaves do not carry one rail each");
	} else if (!odd) {
		judge_say(f, TOPO_OK, TOPO_INFO, "%zu leaves carry one rail each", pure);
	} else {
		judge_say(f, TOPO_FAULT, TOPO_WARNING, "%zu HCAs are on the leaf of another rail: %s", odd, list);
		judge_advise(f, "swap these cables: each costs a ring channel two more crossings of the spine");
	}
}
