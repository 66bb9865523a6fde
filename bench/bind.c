/*
 * bench/bind.c - see bind.h.
 *
 * Memory is not bound: Linux takes it from the node of the core that touches it first, and a strict binding would
 * end a run that a few pages of another node would have let go on.
 */
#include "bench/bind.h"

#include "bench/base/err.h"

#include <stdlib.h>
#include <string.h>

enum { PCI_CLASS_DISPLAY = 0x03, PCI_VENDOR_NVIDIA = 0x10de };

/* Where work can be: a row of disjoint sets, or one for each GPU. */
struct domains {
	hwloc_const_cpuset_t *sets;	/* owned; the sets are the topology's */
	size_t count;
};

static bool is_gpu(hwloc_obj_t o)
{
	return o->attr->pcidev.class_id >> 8 == PCI_CLASS_DISPLAY && o->attr->pcidev.vendor_id == PCI_VENDOR_NVIDIA;
}

/* hwloc lists PCI devices by domain and bus. */
static void find_gpus(struct domains *d, hwloc_topology_t t)
{
	hwloc_obj_t o = NULL;

	while ((o = hwloc_get_next_pcidev(t, o)))
		if (is_gpu(o))
			d->sets[d->count++] = hwloc_get_non_io_ancestor_obj(t, o)->cpuset;
}

/* Memory without cores (and the second kind of memory of the same cores) is no place to run. */
static void find_numa_nodes(struct domains *d, hwloc_topology_t t)
{
	hwloc_obj_t o = NULL;

	while ((o = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, o))) {
		bool taken = hwloc_bitmap_iszero(o->cpuset);

		for (size_t i = 0; i < d->count; i++)
			taken |= hwloc_bitmap_intersects(d->sets[i], o->cpuset);
		if (!taken)
			d->sets[d->count++] = o->cpuset;
	}
}

static size_t pci_count(hwloc_topology_t t)
{
	hwloc_obj_t o = NULL;
	size_t n = 0;

	while ((o = hwloc_get_next_pcidev(t, o)))
		n++;
	return n;
}

/* Ranks in blocks over domains; where domains are more, each rank gets a block of them. */
static void share_out(struct bind_plan *p, const struct domains *d)
{
	for (size_t r = 0; r < p->ranks; r++) {
		size_t first = r * d->count / p->ranks, end = (r + 1) * d->count / p->ranks;

		if (p->gpus)	/* ranks beyond the last GPU begin anew */
			end = first = r % d->count;
		hwloc_bitmap_copy(p->sets[r], d->sets[first]);
		for (size_t i = first + 1; i < end; i++)
			hwloc_bitmap_or(p->sets[r], p->sets[r], d->sets[i]);
	}
}

int bind_plan_make(struct bind_plan *p, hwloc_topology_t t, size_t ranks, bool gpus)
{
	size_t room = pci_count(t) + (size_t)hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_NUMANODE) + 1;
	struct domains d = { .sets = calloc(room, sizeof(*d.sets)) };
	int rc = OK;

	*p = (struct bind_plan){ .ranks = ranks, .sets = calloc(ranks, sizeof(*p->sets)) };
	for (size_t r = 0; p->sets && r < ranks; r++)
		if (!(p->sets[r] = hwloc_bitmap_alloc()))
			rc = NO_MEMORY;
	if (!p->sets || !d.sets || rc) {
		free(d.sets);
		bind_plan_release(p);
		return err(NO_MEMORY, "no memory to place %zu ranks", ranks);
	}
	if (gpus)
		find_gpus(&d, t);
	p->gpus = d.count > 0;
	if (!d.count)
		find_numa_nodes(&d, t);
	if (!d.count)
		d.sets[d.count++] = hwloc_topology_get_allowed_cpuset(t);
	p->domains = d.count;
	share_out(p, &d);
	free(d.sets);
	return OK;
}

void bind_plan_release(struct bind_plan *p)
{
	for (size_t r = 0; p->sets && r < p->ranks; r++)
		hwloc_bitmap_free(p->sets[r]);
	free(p->sets);
	*p = (struct bind_plan){ 0 };
}

size_t bind_plan_share(const struct bind_plan *p, size_t rank)
{
	size_t pus = (size_t)hwloc_bitmap_weight(p->sets[rank]), sharers = 0;

	for (size_t r = 0; r < p->ranks; r++)
		sharers += hwloc_bitmap_intersects(p->sets[r], p->sets[rank]);
	return sharers && pus / sharers ? pus / sharers : 1;
}

void bind_plan_text(const struct bind_plan *p, char *out, size_t room)
{
	size_t used = (size_t)snprintf(out, room, "%zu %s%s:", p->domains, p->gpus ? "GPU" : "NUMA node",
				       p->domains == 1 ? "" : "s");

	for (size_t r = 0, next; r < p->ranks && used < room; r = next) {
		char set[128];

		for (next = r + 1; next < p->ranks && hwloc_bitmap_isequal(p->sets[next], p->sets[r]); next++)
			;
		hwloc_bitmap_list_snprintf(set, sizeof(set), p->sets[r]);
		if (next == r + 1)
			used += (size_t)snprintf(out + used, room - used, "%s rank %zu on PUs %s", r ? "," : "", r, set);
		else
			used += (size_t)snprintf(out + used, room - used, "%s ranks %zu-%zu on PUs %s", r ? "," : "", r, next - 1,
						 set);
	}
}
