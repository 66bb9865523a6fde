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
#include "bench/bind.h"

#include <errno.h>
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

	*p = (struct place){ .ranks = ranks, .nodes = nodes ? nodes : hosts, .hosts = hosts, .bound_by = "nobody" };
	if (ranks % p->nodes)
		return err(USAGE, "--nodes: %zu ranks do not divide over %zu nodes", ranks, p->nodes);
	p->ranks_per_node = ranks / p->nodes;
	rc = find_host(p);
	if (!rc)
		describe(p, emulated);
	return rc;
}

/* Of the ranks of this host; the process itself is bound where there is a choice. */
static int bind_near(struct place *p, hwloc_topology_t t, size_t local_rank, size_t local_ranks, bool gpus)
{
	struct bind_plan plan;
	int rc = bind_plan_make(&plan, t, local_ranks, gpus);

	if (rc)
		return rc;
	bind_plan_text(&plan, p->bound_text, sizeof(p->bound_text));
	p->pus_share = bind_plan_share(&plan, local_rank);
	hwloc_bitmap_list_snprintf(p->bound_to, sizeof(p->bound_to), plan.sets[local_rank]);
	if (hwloc_bitmap_isequal(plan.sets[local_rank], hwloc_topology_get_allowed_cpuset(t))) {
		snprintf(p->bound_text + strlen(p->bound_text), sizeof(p->bound_text) - strlen(p->bound_text), ": nothing to choose");
	} else if (hwloc_set_cpubind(t, plan.sets[local_rank], HWLOC_CPUBIND_PROCESS)) {
		/* No reason to end a run. */
		snprintf(p->bound_text, sizeof(p->bound_text), "not bound: the system refuses it (%s)", strerror(errno));
		p->bound_to[0] = '\0';
	} else {
		p->bound_by = "sfscale";
	}
	bind_plan_release(&plan);
	return OK;
}

int place_bind(struct place *p, size_t local_rank, size_t local_ranks, bool on, bool gpus)
{
	hwloc_bitmap_t now = hwloc_bitmap_alloc();
	hwloc_topology_t t;
	int rc = OK;

	if (!now || hwloc_topology_init(&t)) {
		hwloc_bitmap_free(now);
		return err(NO_MEMORY, "no memory for the layout of this machine");
	}
	if (gpus)
		hwloc_topology_set_io_types_filter(t, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
	if (hwloc_topology_load(t)) {
		rc = err(FAILED, "hwloc cannot read the layout of this machine");
	} else if (p->pus_bound < p->pus) {
		hwloc_get_cpubind(t, now, HWLOC_CPUBIND_PROCESS);
		hwloc_bitmap_list_snprintf(p->bound_to, sizeof(p->bound_to), now);
		p->bound_by = "launcher";
		snprintf(p->bound_text, sizeof(p->bound_text), "as the launcher bound them: rank 0 on PUs %s", p->bound_to);
	} else if (!on) {
		snprintf(p->bound_text, sizeof(p->bound_text), "not bound (--bind off)");
	} else {
		rc = bind_near(p, t, local_rank, local_ranks, gpus);
	}
	hwloc_topology_destroy(t);
	hwloc_bitmap_free(now);
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
	cJSON_AddStringToObject(o, "bound_by", p->bound_by);
	cJSON_AddStringToObject(o, "bound", p->bound_text);
	return o;
}

unsigned place_threads(const struct place *p, size_t local_ranks)
{
	size_t threads = p->pus_bound < p->pus ? p->pus_bound : p->pus_share ? p->pus_share : p->pus / local_ranks;

	return threads ? (unsigned)threads : 1;
}
