/*
 * bench/place.c - see place.h.
 *
 * Cores are those that the container or the batch system allows: two of 40 are a machine of
 * two.  Where the job has more nodes than hosts, nodes are
 * groups of ranks and compete for the cores of one host: "emulated nodes" then stands in front
 * of every number, for none of them says anything about a cluster.
 */
#include "bench/place.h"

#include "bench/base/err.h"

#include <hwloc.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int find_host(struct place *p)
{
	hwloc_topology_t t;
	hwloc_obj_t package;
	const char *model = NULL;
	cpu_set_t bound;

	CPU_ZERO(&bound);
	sched_getaffinity(0, sizeof(bound), &bound);
	if (hwloc_topology_init(&t) || hwloc_topology_load(t))
		return err(FAILED, "hwloc cannot read the layout of this machine");
	p->cores = (size_t)hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_CORE);
	p->pus = (size_t)hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PU);
	/* Not hwloc's: it adds up NUMA nodes, and virtual machines leave some of theirs out. */
	p->memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE);
	package = hwloc_get_obj_by_type(t, HWLOC_OBJ_PACKAGE, 0);
	if (package)
		model = hwloc_obj_get_info_by_name(package, "CPUModel");
	snprintf(p->cpu, sizeof(p->cpu), "%s", model ? model : "unknown");
	p->pus_bound = CPU_COUNT(&bound) ? (size_t)CPU_COUNT(&bound) : p->pus;
	hwloc_topology_destroy(t);
	return OK;
}

static void describe(struct place *p, const char *emulated)
{
	char hosts[32], each[64] = "";

	if (p->hosts == 1)
		snprintf(hosts, sizeof(hosts), "one host");
	else
		snprintf(hosts, sizeof(hosts), "%zu hosts", p->hosts);
	if (p->ranks_per_node > 1)
		snprintf(each, sizeof(each), " of %zu ranks", p->ranks_per_node);
	snprintf(p->text, sizeof(p->text), "%zu %snode%s%s, %s, %zu core%s%s%s%s", p->nodes,
		 p->nodes > p->hosts ? "emulated " : "", p->nodes == 1 ? "" : "s", each, hosts, p->cores,
		 p->cores == 1 ? "" : "s", p->hosts > 1 ? " each" : "", emulated ? ", emulated " : "",
		 emulated ? emulated : "");
}

int place_find(struct place *p, size_t ranks, size_t nodes, size_t hosts, const char *emulated)
{
	int rc;

	*p = (struct place){ .ranks = ranks, .nodes = nodes ? nodes : hosts, .hosts = hosts };
	if (ranks % p->nodes)
		return err(USAGE, "--nodes: %zu ranks do not divide over %zu nodes", ranks, p->nodes);
	p->ranks_per_node = ranks / p->nodes;
	rc = find_host(p);
	if (!rc)
		describe(p, emulated);
	return rc;
}

cJSON *place_json(const struct place *p)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddNumberToObject(o, "ranks", (double)p->ranks);
	cJSON_AddNumberToObject(o, "nodes", (double)p->nodes);
	cJSON_AddNumberToObject(o, "ranks_per_node", (double)p->ranks_per_node);
	cJSON_AddNumberToObject(o, "hosts", (double)p->hosts);
	cJSON_AddNumberToObject(o, "cores", (double)p->cores);
	cJSON_AddStringToObject(o, "cpu", p->cpu);
	cJSON_AddNumberToObject(o, "memory_bytes", (double)p->memory_bytes);
	cJSON_AddStringToObject(o, "text", p->text);
	return o;
}

unsigned place_threads(const struct place *p, size_t local_ranks)
{
	size_t threads = p->pus_bound < p->pus ? p->pus_bound : p->pus / local_ranks;

	return threads ? (unsigned)threads : 1;
}
