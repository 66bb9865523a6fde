/*
 * comm/topo/fabric_graph.c - the fabric once it is read: cables joined, levels, groups, distances.
 *
 * Levels come from distance to the job's adapters, never from "has an adapter": management
 * nodes hang on spines, and every switch since Switch-IB2 has SHARP's pseudo adapter.
 */
#include "comm/topo/fabric.h"

#include <stdlib.h>
#include <string.h>

static int by_node_port(const void *a, const void *b)
{
	const struct topo_link *x = a, *y = b;

	if (x->node != y->node)
		return x->node < y->node ? -1 : 1;
	if (x->port != y->port)
		return x->port < y->port ? -1 : 1;
	return x->at.line < y->at.line ? -1 : x->at.line > y->at.line;
}

static uint32_t link_of_port(const struct topo_fabric *f, uint32_t node, uint16_t port)
{
	const struct topo_vertex *v = &f->nodes[node];
	uint32_t low = v->first, high = v->first + v->count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (f->links[mid].port < port)
			low = mid + 1;
		else
			high = mid;
	}
	return low < v->first + v->count && f->links[low].port == port ? low : (uint32_t)TOPO_NONE;
}

static void links_index(struct topo_fabric *f)
{
	size_t kept = 0;

	if (f->link_count)
		qsort(f->links, f->link_count, sizeof(*f->links), by_node_port);
	for (size_t i = 0; i < f->link_count; i++)	/* a port told twice is one port */
		if (!kept || f->links[kept - 1].node != f->links[i].node || f->links[kept - 1].port != f->links[i].port)
			f->links[kept++] = f->links[i];
	f->link_count = kept;
	for (size_t i = 0; i < f->node_count; i++)
		f->nodes[i].first = f->nodes[i].count = 0;
	for (size_t i = 0; i < f->link_count; i++) {
		struct topo_vertex *v = &f->nodes[f->links[i].node];

		if (!v->count++)
			v->first = (uint32_t)i;
	}
}

static int by_host_guid(const void *a, const void *b)
{
	const struct topo_vertex *x = *(struct topo_vertex *const *)a, *y = *(struct topo_vertex *const *)b;
	int order = strcmp(x->host, y->host);

	if (!order)	/* "mlx5_10" after "mlx5_9" */
		order = strverscmp(x->description, y->description);
	return order ? order : x->guid < y->guid ? -1 : x->guid > y->guid;
}

/* The order of an adapter within its host is its rail: numbers in descriptions skip. */
static void rails_number(struct topo_fabric *f)
{
	struct topo_vertex **adapters = topo_alloc(f->node_count, sizeof(*adapters));
	size_t n = 0;

	for (size_t i = 0; i < f->node_count; i++)
		if (!f->nodes[i].is_switch && *f->nodes[i].host)
			adapters[n++] = &f->nodes[i];
	qsort(adapters, n, sizeof(*adapters), by_host_guid);
	for (size_t i = 0; i < n; i++)
		adapters[i]->rail = i && adapters[i]->host == adapters[i - 1]->host ? adapters[i - 1]->rail + 1 : 0;
	free(adapters);
}

void topo_fabric_settle(struct topo_fabric *f)
{
	size_t told;

	links_index(f);
	told = f->link_count;
	for (size_t i = 0; i < told; i++) {	/* a cable that only one end tells of still has two ends */
		uint32_t peer =
			f->links[i].peer_guid ? topo_map_get(&f->by_guid, f->links[i].peer_guid) : (uint32_t)TOPO_NONE;

		f->links[i].peer = peer;
		if (peer != TOPO_NONE && link_of_port(f, peer, f->links[i].peer_port) == TOPO_NONE) {
			struct topo_link back = f->links[i];

			back.node = peer;
			back.peer = f->links[i].node;
			back.port = f->links[i].peer_port;
			back.peer_port = f->links[i].port;
			back.peer_guid = f->nodes[f->links[i].node].guid;
			TOPO_PUSH(f->links, f->link_count, f->link_room) = back;
		}
	}
	links_index(f);
	for (size_t i = 0; i < f->link_count; i++) {
		struct topo_link *l = &f->links[i];
		uint32_t back = l->peer == TOPO_NONE ? (uint32_t)TOPO_NONE : link_of_port(f, l->peer, l->peer_port);

		l->back = back != TOPO_NONE && f->links[back].peer == l->node ? back : (uint32_t)TOPO_NONE;
		if (l->gbps == 0 && l->back != TOPO_NONE)
			l->gbps = f->links[l->back].gbps;
	}
	rails_number(f);
	f->settled = true;
}

uint32_t topo_fabric_uplink(const struct topo_fabric *f, uint32_t adapter, uint16_t port)
{
	const struct topo_vertex *v = &f->nodes[adapter];

	for (uint32_t i = v->first; i < v->first + v->count; i++)
		if (f->links[i].peer != TOPO_NONE && f->nodes[f->links[i].peer].is_switch &&
		    (!port || f->links[i].port == port))
			return i;
	return port ? topo_fabric_uplink(f, adapter, 0) : (uint32_t)TOPO_NONE;
}

size_t topo_fabric_groups(const struct topo_fabric *f, uint32_t cut, uint32_t *group)
{
	uint32_t *stack = topo_alloc(f->node_count, sizeof(*stack)), count = 0;

	for (size_t i = 0; i < f->node_count; i++)
		group[i] = TOPO_NONE;
	for (uint32_t start = 0; start < f->node_count; start++) {
		size_t depth = 0;

		if (f->nodes[start].level != 0 || group[start] != TOPO_NONE)
			continue;
		stack[depth++] = start;
		group[start] = count;
		while (depth) {
			const struct topo_vertex *v = &f->nodes[stack[--depth]];

			for (uint32_t i = v->first; i < v->first + v->count; i++) {
				uint32_t to = f->links[i].peer;

				if (to == TOPO_NONE || group[to] != TOPO_NONE || !f->nodes[to].is_switch ||
				    f->nodes[to].level >= cut || f->nodes[to].level == v->level)
					continue;
				group[to] = count;
				stack[depth++] = to;
			}
		}
		count++;
	}
	free(stack);
	return count;
}

void topo_fabric_levels(struct topo_fabric *f, const bool *is_job)
{
	uint32_t *queue = topo_alloc(f->node_count, sizeof(*queue)), top = 0;
	size_t head = 0, tail = 0;

	for (size_t i = 0; i < f->node_count; i++)
		f->nodes[i].level = TOPO_NONE;
	for (uint32_t i = 0; i < f->node_count; i++) {
		const struct topo_vertex *v = &f->nodes[i];

		if (v->is_switch || v->aggregation || (is_job && !is_job[i]))
			continue;
		for (uint32_t k = v->first; k < v->first + v->count; k++) {
			uint32_t leaf = f->links[k].peer;

			if (leaf != TOPO_NONE && f->nodes[leaf].is_switch && f->nodes[leaf].level == TOPO_NONE) {
				f->nodes[leaf].level = 0;
				queue[tail++] = leaf;
			}
		}
	}
	f->leaves = tail;
	while (head < tail) {
		const struct topo_vertex *v = &f->nodes[queue[head++]];

		for (uint32_t k = v->first; k < v->first + v->count; k++) {
			uint32_t to = f->links[k].peer;

			if (to != TOPO_NONE && f->nodes[to].is_switch && f->nodes[to].level == TOPO_NONE) {
				f->nodes[to].level = v->level + 1;
				top = f->nodes[to].level > top ? f->nodes[to].level : top;
				queue[tail++] = to;
			}
		}
	}
	f->levels = tail ? top + 1 : 0;
	free(queue);
}

void topo_fabric_distances(const struct topo_fabric *f, uint32_t from, uint8_t *cables)
{
	uint32_t *queue = topo_alloc(f->node_count, sizeof(*queue));
	size_t head = 0, tail = 0;

	memset(cables, UINT8_MAX, f->node_count);
	cables[from] = 0;
	queue[tail++] = from;
	while (head < tail) {
		const struct topo_vertex *v = &f->nodes[queue[head]];
		uint8_t next = cables[queue[head++]];

		for (uint32_t k = v->first; k < v->first + v->count && next < UINT8_MAX - 1; k++) {
			uint32_t to = f->links[k].peer;

			if (to == TOPO_NONE || !f->nodes[to].is_switch || cables[to] != UINT8_MAX)
				continue;
			cables[to] = next + 1;
			queue[tail++] = to;
		}
	}
	free(queue);
}

void topo_fabric_release(struct topo_fabric *f)
{
	free(f->nodes);
	free(f->links);
	free(f->groups);
	free(f->members);
	for (size_t i = 0; i < f->table_count; i++)
		free(f->tables[i].ports);
	free(f->tables);
	topo_map_release(&f->by_guid);
	topo_map_release(&f->by_port_guid);
	topo_map_release(&f->by_lid);
	topo_map_release(&f->by_system);
	topo_map_release(&f->lid_of);
	topo_map_release(&f->table_of);
	*f = (struct topo_fabric){ 0 };
}
