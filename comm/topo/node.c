/*
 * comm/topo/node.c - a node's layout from hwloc, of a file or of this machine.
 *
 * Two devices are classed by the type of their common ancestor, not by counting bridges alone:
 * files written with fewer object types lack bridges.  `linkspeed` is the link's present speed,
 * and an idle GPU sits at generation 1, so a slow GPU link is never called degraded from here.
 * HWLOC_DISTANCES_TRANSFORM_LINKS divides by the smallest value and is not used: NVLink counts
 * come from MB/s per link.
 */
#include "comm/topo/node.h"

#include "bench/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <hwloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const topo_counter_names[COUNTERS] = {
	"link_downed", "symbol_error", "port_xmit_discards", "port_xmit_wait", "port_xmit_data",
};
const char *const topo_class_names[] = { "LOC", "PIX", "PXB", "PHB", "NODE", "NODE*", "SYS", "?" };

void topo_node_release(struct topo_node *n)
{
	free(n->gpus);
	free(n->hcas);
	free(n->gpu_hca);
	free(n->gpu_gpu);
	free(n->nvlinks);
	free(n->defects);
	*n = (struct topo_node){ 0 };
}

uint32_t topo_node_gpu(const struct topo_node *n, uint64_t bus)
{
	for (size_t i = 0; i < n->gpu_count; i++)
		if (n->gpus[i].bus == bus)
			return (uint32_t)i;
	return TOPO_NONE;
}

uint32_t topo_node_hca(const struct topo_node *n, const char *name)
{
	for (size_t i = 0; i < n->hca_count; i++)
		if (!strcmp(n->hcas[i].name, name))
			return (uint32_t)i;
	return TOPO_NONE;
}

double topo_nvlink_gbps(int capability)
{
	if (capability >= 100)
		return 50;		/* NVLink5 */
	if (capability == 86)
		return 14.0625;		/* a bridge between PCIe boards */
	return capability >= 60 && capability < 70 ? 20 : 25;
}

/* Hardware could carry more where a processor has several such links; these are what NCCL reckons with, by its
 * topo.h. */
void topo_node_sockets(struct topo_node *n, const char *architecture, const char *vendor, int family, int model)
{
	static const struct {
		const char *architecture, *vendor;
		int family, model_from;		/* 0: any */
		double gbps;
		const char *link;
	} rows[] = {
		{ "ppc64", "", 0, 0, 32, "X-Bus" },
		{ "x86_64", "GenuineIntel", 6, 0xcf, 40, "UPI" },	/* Emerald Rapids */
		{ "x86_64", "GenuineIntel", 6, 0x8f, 22, "UPI" },	/* Sapphire Rapids */
		{ "x86_64", "GenuineIntel", 6, 0x55, 10, "UPI" },	/* Skylake */
		{ "x86_64", "GenuineIntel", 6, 0, 6, "QPI" },
		{ "x86_64", "AuthenticAMD", 26, 0, 32, "xGMI" },	/* Zen 5 */
		{ "x86_64", "AuthenticAMD", 25, 0, 24, "xGMI" },	/* Zen 3 and 4 */
		{ "x86_64", "AuthenticAMD", 23, 0, 16, "xGMI" },
	};

	/* NCCL adds the extended family shifted by four: 175 is 15 and 10, which CPUID's manual makes 25. */
	if (!strcmp(vendor, "AuthenticAMD") && family > 0x8e)
		family = (family & 0xf) + (family >> 4);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (!strncmp(architecture, rows[i].architecture, strlen(rows[i].architecture)) &&
		    !strcmp(vendor, rows[i].vendor) && (!rows[i].family || rows[i].family == family) &&
		    model >= rows[i].model_from) {
			n->socket_link = rows[i].link;
			n->socket_gbps = rows[i].gbps;
			return;
		}
}

/* The object itself or its nearest ancestor of this type. */
static hwloc_obj_t up_to(hwloc_obj_t o, hwloc_obj_type_t type)
{
	while (o && o->type != type)
		o = o->parent;
	return o;
}

static hwloc_obj_t pci_of(hwloc_obj_t o)
{
	return up_to(o, HWLOC_OBJ_PCI_DEVICE);
}

static uint64_t bus_of(hwloc_obj_t pci)
{
	return (uint64_t)pci->attr->pcidev.domain << 20 | (uint64_t)pci->attr->pcidev.bus << 12 |
	       (uint64_t)pci->attr->pcidev.dev << 4 | pci->attr->pcidev.func;
}

/* First ancestor with CPUs of its own. */
static hwloc_obj_t cpu_side(hwloc_obj_t o)
{
	while (o && !o->cpuset)
		o = o->parent;
	return o;
}

static hwloc_obj_t package_of(hwloc_obj_t o)
{
	return up_to(o, HWLOC_OBJ_PACKAGE);
}

static bool is_gpu(hwloc_obj_t pci)
{
	unsigned class = pci->attr->pcidev.class_id, vendor = pci->attr->pcidev.vendor_id;

	if (vendor == 0x10de)
		return class == 0x0302 || class == 0x0300;
	if (vendor != 0x1002)
		return false;
	if (class == 0x0302 || class == 0x0380 || class == 0x1200)
		return true;
	/* A display adapter of AMD's is a GPU to us when its driver says so: servers have ES1000 chips. */
	for (hwloc_obj_t o = pci->io_first_child; o; o = o->next_sibling)
		if (o->name && !strncmp(o->name, "rsmi", 4))
			return true;
	return false;
}

static int bridges_between(hwloc_obj_t o, hwloc_obj_t top)
{
	int n = 0;

	for (o = o->parent; o && o != top; o = o->parent)
		n += o->type == HWLOC_OBJ_BRIDGE;
	return n;
}

static uint8_t class_of(hwloc_obj_t a, hwloc_obj_t b)
{
	hwloc_obj_t up = NULL, x, y;

	if (a == b || (a->attr->pcidev.domain == b->attr->pcidev.domain && a->attr->pcidev.bus == b->attr->pcidev.bus &&
		       a->attr->pcidev.dev == b->attr->pcidev.dev))
		return CLASS_LOC;
	for (x = a->parent; x && !up; x = x->parent)
		for (y = b->parent; y && !up; y = y->parent)
			if (x == y)
				up = x;
	if (!up)
		return CLASS_UNKNOWN;
	if (up->type == HWLOC_OBJ_BRIDGE && up->attr->bridge.upstream_type == HWLOC_OBJ_BRIDGE_PCI)
		return bridges_between(a, up) + bridges_between(b, up) <= 2 ? CLASS_PIX : CLASS_PXB;
	if (up->type == HWLOC_OBJ_BRIDGE)
		return CLASS_PHB;
	x = cpu_side(a);
	y = cpu_side(b);
	if (!x || !y || x->type == HWLOC_OBJ_MACHINE || y->type == HWLOC_OBJ_MACHINE)
		return CLASS_UNKNOWN;
	if (x->nodeset && y->nodeset && hwloc_bitmap_isequal(x->nodeset, y->nodeset))
		return CLASS_NODE;
	return package_of(x) && package_of(x) == package_of(y) ? CLASS_SUBNUMA : CLASS_SYS;
}

/* "506b:4b03:003c:eee8", or the low half of a GID. */
static uint64_t guid_of(const char *text)
{
	uint64_t v = 0;

	for (; text && *text; text++) {
		const char *digits = "0123456789abcdef", *d = strchr(digits, *text | 0x20);

		if (*text != ':' && d)
			v = v << 4 | (uint64_t)(d - digits);
	}
	return v;
}

static void hca_infos(struct topo_hca *h, hwloc_obj_t o)
{
	char key[32];
	const char *v;

	h->node_guid = guid_of(hwloc_obj_get_info_by_name(o, "NodeGUID"));
	h->system_guid = guid_of(hwloc_obj_get_info_by_name(o, "SysImageGUID"));
	for (int p = 0; p < HCA_PORTS; p++) {
		h->ports[p].ethernet = -1;
		snprintf(key, sizeof(key), "Port%dState", p + 1);
		v = hwloc_obj_get_info_by_name(o, key);
		h->ports[p].state = v ? atoi(v) : 0;
		snprintf(key, sizeof(key), "Port%dLID", p + 1);
		v = hwloc_obj_get_info_by_name(o, key);
		h->ports[p].lid = v ? (uint32_t)strtoul(v, NULL, 16) : 0;
		snprintf(key, sizeof(key), "Port%dGID0", p + 1);
		h->ports[p].guid = guid_of(hwloc_obj_get_info_by_name(o, key));
	}
}

static bool is_openfabrics(hwloc_obj_t o)
{
#if HWLOC_API_VERSION >= 0x30000
	return o->attr->osdev.types & HWLOC_OBJ_OSDEV_OPENFABRICS;
#else
	return o->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS;
#endif
}

/* The CPUs of the device's socket, or those nearest to it where there are no sockets. */
static const char *cpus_of(struct topo_names *names, hwloc_obj_t cpu)
{
	hwloc_obj_t o = package_of(cpu) ? package_of(cpu) : cpu;
	char *list = NULL;
	const char *name;

	if (!o || !o->complete_cpuset || hwloc_bitmap_list_asprintf(&list, o->complete_cpuset) < 0)
		return NULL;
	name = topo_name_of(names, list);
	free(list);
	return name;
}

/* hwloc has no compute capability; its PCI id tells the generations whose NVLinks are not like V100's. */
static double nvlink_gbps_of(hwloc_obj_t pci)
{
	static const struct { unsigned first, last; int capability; } rows[] = {
		{ 0x15f0, 0x15ff, 60 },		/* GP100 */
		{ 0x2200, 0x22ff, 86 },		/* GA102 */
		{ 0x2900, 0x29ff, 100 },	/* GB100: B100, B200, GB200 */
		{ 0x3180, 0x31ff, 103 },	/* GB110: B300, GB300 */
	};
	unsigned id = pci->attr->pcidev.device_id;

	for (size_t i = 0; i < ARRAY_LEN(rows) && pci->attr->pcidev.vendor_id == 0x10de; i++)
		if (id >= rows[i].first && id <= rows[i].last)
			return topo_nvlink_gbps(rows[i].capability);
	return topo_nvlink_gbps(0);
}

struct devices {
	hwloc_obj_t *gpus, *hcas;	/* PCI devices; borrowed from the topology */
	size_t gpu_room, hca_room;
};

static void devices_find(struct topo_node *n, struct topo_names *names, hwloc_topology_t t, struct devices *d)
{
	for (hwloc_obj_t o = hwloc_get_next_pcidev(t, NULL); o; o = hwloc_get_next_pcidev(t, o)) {
		hwloc_obj_t cpu = cpu_side(o);
		const char *name = "";

		if (!is_gpu(o))
			continue;
		for (hwloc_obj_t c = o->io_first_child; c; c = c->next_sibling)
			if (c->name && (!strncmp(c->name, "cuda", 4) || (!strncmp(c->name, "nvml", 4) && !*name)))
				name = topo_name_of(names, c->name);
		TOPO_PUSH(d->gpus, n->gpu_count, d->gpu_room) = o;
		n->gpu_count--;
		TOPO_PUSH(n->gpus, n->gpu_count, n->gpu_room) = (struct topo_gpu){ .bus = bus_of(o), .name = name,
			.pcie_gbps = o->attr->pcidev.linkspeed, .nvlink_gbps = nvlink_gbps_of(o),
			.package = package_of(cpu) ? (int)package_of(cpu)->logical_index : -1,
			.located = cpu && cpu->type != HWLOC_OBJ_MACHINE, .cpus = cpus_of(names, cpu) };
	}
	for (hwloc_obj_t o = hwloc_get_next_osdev(t, NULL); o; o = hwloc_get_next_osdev(t, o)) {
		hwloc_obj_t pci = pci_of(o), cpu = cpu_side(o);
		struct topo_hca h = { .package = package_of(cpu) ? (int)package_of(cpu)->logical_index : -1,
				      .located = cpu && cpu->type != HWLOC_OBJ_MACHINE };

		if (!is_openfabrics(o) || !o->name)
			continue;
		h.name = topo_name_of(names, o->name);
		h.bus = pci ? bus_of(pci) : UINT64_MAX;
		h.pcie_gbps = pci ? pci->attr->pcidev.linkspeed : 0;
		hca_infos(&h, o);
		TOPO_PUSH(d->hcas, n->hca_count, d->hca_room) = pci;
		n->hca_count--;
		TOPO_PUSH(n->hcas, n->hca_count, n->hca_room) = h;
	}
	for (hwloc_obj_t o = hwloc_get_next_bridge(t, NULL); o; o = hwloc_get_next_bridge(t, o))
		n->bridges |= o->attr->bridge.upstream_type == HWLOC_OBJ_BRIDGE_PCI;
}

static void classes_fill(struct topo_node *n, const struct devices *d)
{
	n->gpu_hca = topo_alloc(n->gpu_count * n->hca_count, 1);
	n->gpu_gpu = topo_alloc(n->gpu_count * n->gpu_count, 1);
	for (size_t g = 0; g < n->gpu_count; g++) {
		for (size_t h = 0; h < n->hca_count; h++)
			n->gpu_hca[g * n->hca_count + h] =
				d->hcas[h] ? class_of(d->gpus[g], d->hcas[h]) : CLASS_UNKNOWN;
		for (size_t k = 0; k < n->gpu_count; k++)
			n->gpu_gpu[g * n->gpu_count + k] = class_of(d->gpus[g], d->gpus[k]);
	}
}

static void nvlinks_fill(struct topo_node *n, hwloc_topology_t t)
{
	struct hwloc_distances_s *d = NULL;
	unsigned found = 1;
	bool switches = false;

	if (hwloc_distances_get_by_name(t, "NVLinkBandwidth", &found, &d, 0) || !found || !d)
		return;
	for (unsigned i = 0; i < d->nbobjs; i++)
		switches |= d->objs[i] && d->objs[i]->type == HWLOC_OBJ_PCI_DEVICE;
	if (switches) {		/* without switches the closure would zero the GPU pairs */
		hwloc_distances_transform(t, d, HWLOC_DISTANCES_TRANSFORM_MERGE_SWITCH_PORTS, NULL, 0);
		hwloc_distances_transform(t, d, HWLOC_DISTANCES_TRANSFORM_TRANSITIVE_CLOSURE, NULL, 0);
	}
	n->nvlinks = topo_alloc(n->gpu_count * n->gpu_count, sizeof(*n->nvlinks));
	for (unsigned i = 0; i < d->nbobjs; i++)
		for (unsigned k = 0; k < d->nbobjs; k++) {
			hwloc_obj_t a = d->objs[i] ? pci_of(d->objs[i]) : NULL,
				    b = d->objs[k] ? pci_of(d->objs[k]) : NULL;
			uint32_t x = a ? topo_node_gpu(n, bus_of(a)) : (uint32_t)TOPO_NONE;
			uint32_t y = b ? topo_node_gpu(n, bus_of(b)) : (uint32_t)TOPO_NONE;
			hwloc_uint64_t v = d->values[i * d->nbobjs + k];

			if (x != TOPO_NONE && y != TOPO_NONE && x != y && v < 10000000)
				n->nvlinks[x * n->gpu_count + y] = (int)((double)v / 1e3 / n->gpus[x].nvlink_gbps + 0.5);
		}
	hwloc_distances_release(t, d);
}

/* hwloc 3 keeps them beside the root object. */
static const char *machine_info(hwloc_topology_t t, const char *name)
{
	const char *v = hwloc_obj_get_info_by_name(hwloc_get_root_obj(t), name);

#if HWLOC_API_VERSION >= 0x30000
	struct hwloc_infos_s *infos = hwloc_topology_get_infos(t);

	for (unsigned i = 0; !v && i < infos->count; i++)
		if (!strcmp(infos->array[i].name, name))
			v = infos->array[i].value;
#endif
	return v;
}

static const char *info_of(hwloc_obj_t o, const char *name)
{
	const char *v = hwloc_obj_get_info_by_name(o, name);

	return v ? v : "";
}

static int node_fill(struct topo_node *n, struct topo_names *names, hwloc_topology_t t)
{
	struct devices d = { 0 };
	const char *host = machine_info(t, "HostName"), *architecture = machine_info(t, "Architecture");
	hwloc_obj_t socket = hwloc_get_obj_by_type(t, HWLOC_OBJ_PACKAGE, 0);

	n->host = topo_name_of(names, host ? host : "");
	n->packages = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PACKAGE);
	n->numa_nodes = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_NUMANODE);
	devices_find(n, names, t, &d);
	classes_fill(n, &d);
	nvlinks_fill(n, t);
	if (n->packages > 1)
		topo_node_sockets(n, architecture ? architecture : "", info_of(socket, "CPUVendor"),
				  atoi(info_of(socket, "CPUFamilyNumber")), atoi(info_of(socket, "CPUModelNumber")));
	free(d.gpus);
	free(d.hcas);
	return OK;
}

static int topology_open(hwloc_topology_t *t)
{
	if (hwloc_topology_init(t))
		return err(FAILED, "hwloc cannot start");
	hwloc_topology_set_io_types_filter(*t, HWLOC_TYPE_FILTER_KEEP_ALL);
	hwloc_topology_set_flags(*t, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
	return OK;
}

/* hwloc 2.9 trusts the files that it reads: some that no hwloc ever wrote make it crash or loop.  So a child tries
 * first.  True: it came through. */
static bool child_can_load(const char *text, size_t bytes)
{
	enum { SECONDS = 20 };
	static const int deaths[] = { SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGALRM };
	hwloc_topology_t t;
	pid_t child;
	int status;

	fflush(NULL);
	child = fork();
	if (child < 0)
		return true;		/* no process to be had: go without the test */
	if (!child) {
		int nowhere = open("/dev/null", O_WRONLY);

		if (nowhere >= 0)
			dup2(nowhere, STDERR_FILENO);
		for (size_t i = 0; i < ARRAY_LEN(deaths); i++)	/* die quietly, whoever else catches these */
			signal(deaths[i], SIG_DFL);
		alarm(SECONDS);
		_exit(topology_open(&t) || hwloc_topology_set_xmlbuffer(t, text, (int)bytes + 1) ||
		      hwloc_topology_load(t));
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

int topo_node_hwloc(struct topo_node *n, struct topo_names *names, const char *source, const char *text, size_t bytes)
{
	unsigned library = hwloc_get_api_version() >> 16;
	char root[32], version[16];
	hwloc_topology_t t;
	int rc;

	*n = (struct topo_node){ .host = "", .source = topo_name_of(names, source) };
	rc = topo_xml_check(source, text, bytes, root, version);
	if (rc)
		return rc;
	if (!strcmp(root, "topologydiff"))
		return err(FAILED, "%s: an hwloc topology *difference*; give the XML that it refers to", source);
	if (strcmp(root, "topology"))
		return err(FAILED, "%s: the root element is <%s>; hwloc writes <topology>", source, root);
	if (atoi(version) > (int)library)
		return err(FAILED, "%s: hwloc XML %s, and this build has hwloc %u: write it again with "
			   "'lstopo --export-xml-flags v2'", source, version, library);
	if (!*version && library >= 3)
		return err(FAILED, "%s: hwloc XML 1.x, which hwloc %u no longer reads", source, library);
	if (!child_can_load(text, bytes))
		return err(FAILED,
			   "%s: hwloc does not accept this XML ('HWLOC_XML_VERBOSE=1 lstopo -i FILE' tells more)",
			   source);
	rc = topology_open(&t);
	if (rc)
		return rc;
	if (hwloc_topology_set_xmlbuffer(t, text, (int)bytes + 1) || hwloc_topology_load(t)) {
		hwloc_topology_destroy(t);
		return err(FAILED, "%s: hwloc does not accept this XML", source);
	}
	rc = node_fill(n, names, t);
	hwloc_topology_destroy(t);
	return rc;
}

/* One line of /sys/class/infiniband/HCA/`path`; "" when absent. */
static void sysfs_read(const char *hca, const char *path, char out[128])
{
	char name[256];
	FILE *f;

	snprintf(name, sizeof(name), "/sys/class/infiniband/%s/%s", hca, path);
	f = fopen(name, "r");
	if (!f || !fgets(out, 128, f))
		out[0] = 0;
	if (f)
		fclose(f);
	out[strcspn(out, "\n")] = 0;
}

static void hca_sysfs(struct topo_hca *h)
{
	char text[128], path[64];

	for (int p = 0; p < HCA_PORTS; p++) {
		snprintf(path, sizeof(path), "ports/%d/rate", p + 1);
		sysfs_read(h->name, path, text);
		h->ports[p].gbps = strtod(text, NULL) / 8;
		snprintf(path, sizeof(path), "ports/%d/link_layer", p + 1);
		sysfs_read(h->name, path, text);
		h->ports[p].ethernet = *text ? !strcmp(text, "Ethernet") : -1;
	}
	sysfs_read(h->name, "device/current_link_width", text);
	h->width = atoi(text);
	sysfs_read(h->name, "device/max_link_width", text);
	h->width_max = atoi(text);
}

int topo_node_live(struct topo_node *n, struct topo_names *names)
{
	hwloc_topology_t t;
	int rc;

	*n = (struct topo_node){ .host = "", .source = "this machine" };
	rc = topology_open(&t);
	if (rc)
		return rc;
	if (hwloc_topology_load(t))
		rc = err(FAILED, "hwloc cannot read this machine");
	else
		rc = node_fill(n, names, t);
	hwloc_topology_destroy(t);
	for (size_t i = 0; i < n->hca_count; i++)
		hca_sysfs(&n->hcas[i]);
	return rc;
}
