/*
 * comm/topo/preset.c - see preset.h.
 *
 * Sources: ABCI's public documents and the report of its network (6 cables from each leaf to each
 * of 3 switches, 8 from those to the spine: 24 per rack of 68 ports); which HCA hangs on which leaf is not
 * public and assumed.  NVIDIA's SuperPOD reference architecture.  The Lassen dump of 2019.
 */
#include "comm/topo/preset.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/rng.h"

#include <stdlib.h>
#include <string.h>

const struct topo_preset topo_presets[] = {
	{ .name = "abci-v", .meaning = "4 V100 and 2 EDR per host, 34 hosts a rack, racks tapered 1:2.83",
	  .host = "g%04zu", .hosts_max = 1088, .gpus = 4, .rails = 2, .speed = "EDR", .hosts_per_group = 34,
	  .hosts_per_leaf = 17, .leaf_uplinks = 18, .mid = MID_PER_GROUP, .mids = 3, .mid_uplinks = 8, .tops = 24, .top_stride = 3,
	  .gpu_id = "10de:1db5", .nvlink_mbps = "50000", .nccl = "2.18.5" },
	{ .name = "superpod", .meaning = "8 GPUs and 8 NDR per host, 32 hosts a unit, one leaf per rail, no taper",
	  .host = "dgx%04zu", .hosts_max = 4096, .gpus = 8, .rails = 8, .speed = "NDR", .hosts_per_group = 32,
	  .hosts_per_leaf = 32, .leaf_uplinks = 32, .mid = MID_PER_RAIL, .mids = 32, .tops = 128, .top_stride = 256,
	  .nic_on_switch = true, .gpu_id = "10de:2330", .nvlink_mbps = "", .nccl = "2.18.5" },
	{ .name = "lassen", .meaning = "4 V100 and 2 EDR per host, 18 hosts on a pair of leaves, tapered 2:1",
	  .host = "lassen%zu", .hosts_max = 756, .gpus = 4, .rails = 2, .speed = "EDR", .hosts_per_group = 18,
	  .hosts_per_leaf = 18, .leaf_uplinks = 9, .mid = MID_SHARED, .mids = 54, .mid_uplinks = 18, .tops = 36,
	  .top_stride = 2, .gpu_id = "10de:1db1", .nvlink_mbps = "75000", .nccl = "2.18.5" },
};
const size_t topo_preset_count = ARRAY_LEN(topo_presets);

const char *const topo_order_names[ORDER_KINDS] = { "contiguous", "shuffled", "alternating", "twice" };

const struct topo_preset *topo_preset_find(const char *name)
{
	for (size_t i = 0; i < topo_preset_count; i++)
		if (!strcmp(topo_presets[i].name, name))
			return &topo_presets[i];
	return NULL;
}

void topo_preset_order(const struct topo_preset *p, enum topo_order_kind kind, size_t hosts, uint64_t seed,
		       uint32_t *order)
{
	size_t groups = (hosts + p->hosts_per_group - 1) / p->hosts_per_group, n = 0;
	struct rng rng;

	for (size_t i = 0; i < hosts; i++)
		order[i] = (uint32_t)i;
	switch (kind) {
	case ORDER_SHUFFLED:
		rng_init(&rng, seed, 1);
		for (size_t i = hosts; i > 1; i--) {
			size_t k = rng_below(&rng, (uint32_t)i);
			uint32_t swap = order[i - 1];

			order[i - 1] = order[k];
			order[k] = swap;
		}
		break;
	case ORDER_ALTERNATING:		/* the next host is always of another group, while there is one */
		for (size_t i = 0; i < p->hosts_per_group; i++)
			for (size_t g = 0; g < groups; g++)
				if (g * p->hosts_per_group + i < hosts)
					order[n++] = (uint32_t)(g * p->hosts_per_group + i);
		break;
	case ORDER_TWICE:		/* half of each group, then the other halves: twice the crossings */
		for (size_t half = 0; half < 2; half++)
			for (size_t g = 0; g < groups; g++)
				for (size_t i = half * p->hosts_per_group / 2; i < (half + 1) * p->hosts_per_group / 2;
				     i++)
					if (g * p->hosts_per_group + i < hosts)
						order[n++] = (uint32_t)(g * p->hosts_per_group + i);
		break;
	default:
		break;
	}
}

static const char *host_name(const struct topo_preset *p, uint32_t host, char out[32])
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(out, 32, p->host, (size_t)host + 1);
#pragma GCC diagnostic pop
	return out;
}

/* ---- fabric ---- */

struct shape {
	size_t groups, leaves_per_group, leaves, mids, tops, mid_uplinks;
};

static struct shape shape_of(const struct topo_preset *p, size_t hosts)
{
	struct shape s = { .groups = (hosts + p->hosts_per_group - 1) / p->hosts_per_group, .tops = p->tops };

	s.leaves_per_group = p->hosts_per_group / p->hosts_per_leaf * p->rails;
	s.leaves = s.groups * s.leaves_per_group;
	s.mids = p->mid == MID_PER_GROUP ? p->mids * s.groups : p->mid == MID_PER_RAIL ? p->mids * p->rails : p->mids;
	s.mid_uplinks = p->mid_uplinks ? p->mid_uplinks : s.groups;
	return s;
}

static uint64_t host_guid(uint32_t host, size_t rail)
{
	return 0x0001000000000000ull | (uint64_t)(host + 1) << 12 | rail << 4;
}

enum { LEVEL_LEAF = 1, LEVEL_MID, LEVEL_TOP };

static uint64_t switch_guid(int level, size_t index)
{
	return 0x0002000000000000ull | (uint64_t)level << 32 | (uint64_t)(index + 1) << 4;
}

static size_t leaf_of(const struct topo_preset *p, uint32_t host, size_t rail)
{
	size_t group = host / p->hosts_per_group, in_group = host % p->hosts_per_group;
	size_t leaves_per_group = p->hosts_per_group / p->hosts_per_leaf * p->rails;

	return group * leaves_per_group + in_group / p->hosts_per_leaf * p->rails + rail;
}

/* Mid that uplink u of a leaf goes to. */
static size_t mid_of(const struct topo_preset *p, const struct shape *s, size_t leaf, size_t u)
{
	size_t group = leaf / s->leaves_per_group, rail = leaf % p->rails;

	if (p->mid == MID_PER_GROUP)
		return group * p->mids + u % p->mids;
	if (p->mid == MID_PER_RAIL)
		return rail * p->mids + u % p->mids;
	return (leaf * p->leaf_uplinks + u) % p->mids;
}

/* One end of a cable as both blocks print it. */
struct cable {
	uint64_t a, b;
	size_t port_a, port_b;
};

struct cables {
	struct cable *at;
	size_t count;
};

/* Cables between switches, ports numbered as they come; hosts sit on a leaf's first ports. */
static struct cables cables_make(const struct topo_preset *p, const struct shape *s)
{
	struct cables c = { .at = calloc(s->leaves * p->leaf_uplinks + s->mids * s->mid_uplinks + 1, sizeof(*c.at)) };
	size_t *mid_ports = calloc(s->mids + 1, sizeof(*mid_ports)),
	       *top_ports = calloc(s->tops + 1, sizeof(*top_ports));

	if (!c.at || !mid_ports || !top_ports)
		abort();
	for (size_t leaf = 0; leaf < s->leaves; leaf++)
		for (size_t u = 0; u < p->leaf_uplinks; u++) {
			size_t mid = mid_of(p, s, leaf, u);

			c.at[c.count++] = (struct cable){ switch_guid(LEVEL_LEAF, leaf), switch_guid(LEVEL_MID, mid),
							  p->hosts_per_leaf + 1 + u, ++mid_ports[mid] };
		}
	for (size_t mid = 0; mid < s->mids; mid++)
		for (size_t u = 0; u < s->mid_uplinks; u++) {
			size_t top = (mid % p->top_stride * s->mid_uplinks + u) % s->tops;

			c.at[c.count++] = (struct cable){ switch_guid(LEVEL_MID, mid), switch_guid(LEVEL_TOP, top),
							  ++mid_ports[mid], ++top_ports[top] };
		}
	free(mid_ports);
	free(top_ports);
	return c;
}

static int by_end(const void *x, const void *y)
{
	const struct cable *a = x, *b = y;

	if (a->a != b->a)
		return a->a < b->a ? -1 : 1;
	return a->port_a < b->port_a ? -1 : a->port_a > b->port_a;
}

static const char *switch_label(uint64_t guid, char out[32])
{
	static const char *const names[] = { "?", "leaf", "mid", "spine" };

	snprintf(out, 32, "%s%04llu", names[guid >> 32 & 3], (unsigned long long)((guid & 0xffffffff) >> 4));
	return out;
}

/* LIDs: switches first, then adapters, in the order of printing. */
static unsigned switch_lid(const struct shape *s, uint64_t guid)
{
	size_t index = (guid & 0xffffffff) >> 4;
	int level = (int)(guid >> 32 & 3);

	return (unsigned)(index + (level > LEVEL_LEAF ? s->leaves : 0) + (level > LEVEL_MID ? s->mids : 0));
}

static unsigned host_lid(const struct topo_preset *p, const struct shape *s, uint32_t host, size_t rail)
{
	return (unsigned)(s->leaves + s->mids + s->tops + host * p->rails + rail + 1);
}

void topo_preset_fabric(const struct topo_preset *p, size_t hosts, FILE *f)
{
	struct shape s = shape_of(p, hosts);
	struct cables c = cables_make(p, &s), all;
	size_t capacity = s.groups * p->hosts_per_group, next = 0;
	char label[32], name[32];

	all.count = 2 * c.count;
	all.at = malloc((all.count + 1) * sizeof(*all.at));
	if (!all.at)
		abort();
	for (size_t i = 0; i < c.count; i++) {
		all.at[2 * i] = c.at[i];
		all.at[2 * i + 1] = (struct cable){ c.at[i].b, c.at[i].a, c.at[i].port_b, c.at[i].port_a };
	}
	qsort(all.at, all.count, sizeof(*all.at), by_end);
	fprintf(f, "#\n# Topology file: generated by sfscale, a model of %s, not a discovery\n#\n", p->name);
	while (next < all.count) {
		uint64_t guid = all.at[next].a;
		bool leaf = (guid >> 32 & 3) == LEVEL_LEAF;

		fprintf(f, "\nvendid=0x2c9\ndevid=0xd2f0\nsysimgguid=0x%llx\nswitchguid=0x%llx(%llx)\n",
			(unsigned long long)guid, (unsigned long long)guid, (unsigned long long)guid);
		fprintf(f, "Switch\t254 \"S-%016llx\"\t\t# \"%s\" enhanced port 0 lid %u lmc 0\n",
			(unsigned long long)guid, switch_label(guid, label), switch_lid(&s, guid));
		for (size_t slot = 0; leaf && slot < p->hosts_per_leaf; slot++) {
			size_t index = ((guid & 0xffffffff) >> 4) - 1, in_group = index % s.leaves_per_group;
			uint32_t host = (uint32_t)(index / s.leaves_per_group * p->hosts_per_group +
						   in_group / p->rails * p->hosts_per_leaf + slot);
			size_t rail = in_group % p->rails;

			if (host < capacity)
				fprintf(f, "[%zu]\t\"H-%016llx\"[1](%llx) \t\t# \"%s mlx5_%zu\" lid %u 4x%s\n",
					slot + 1, (unsigned long long)host_guid(host, rail),
					(unsigned long long)host_guid(host, rail) + 1, host_name(p, host, name), rail,
					host_lid(p, &s, host, rail), p->speed);
		}
		for (; next < all.count && all.at[next].a == guid; next++)
			fprintf(f, "[%zu]\t\"S-%016llx\"[%zu]\t\t# \"%s\" lid %u 4x%s\n", all.at[next].port_a,
				(unsigned long long)all.at[next].b, all.at[next].port_b,
				switch_label(all.at[next].b, label), switch_lid(&s, all.at[next].b), p->speed);
	}
	for (uint32_t host = 0; host < capacity; host++)
		for (size_t rail = 0; rail < p->rails; rail++) {
			uint64_t guid = host_guid(host, rail), leaf = switch_guid(LEVEL_LEAF, leaf_of(p, host, rail));

			fprintf(f, "\nvendid=0x2c9\ndevid=0x1017\nsysimgguid=0x%llx\ncaguid=0x%llx\n",
				(unsigned long long)guid, (unsigned long long)guid);
			fprintf(f, "Ca\t1 \"H-%016llx\"\t\t# \"%s mlx5_%zu\"\n", (unsigned long long)guid,
				host_name(p, host, name), rail);
			fprintf(f, "[1](%llx) \t\"S-%016llx\"[%zu]\t\t# lid %u lmc 0 \"%s\" lid %u 4x%s\n",
				(unsigned long long)guid + 1, (unsigned long long)leaf,
				host % p->hosts_per_group % p->hosts_per_leaf + 1, host_lid(p, &s, host, rail),
				switch_label(leaf, label), switch_lid(&s, leaf), p->speed);
		}
	free(c.at);
	free(all.at);
}

void topo_preset_hosts(const struct topo_preset *p, const uint32_t *order, size_t hosts, FILE *f)
{
	char name[32];

	for (size_t i = 0; i < hosts; i++)
		fprintf(f, "%s slots=%zu\n", host_name(p, order[i], name), p->gpus);
}

/* ---- log ---- */

/* GPUs of a host in the order in which channel c's ring passes them: enters at the first GPU of its NIC, leaves at
 * the last; with one GPU per NIC it goes once round, and the last hands over to the first's NIC (PXN). */
static void gpus_in_ring(const struct topo_preset *p, size_t channel, size_t *out)
{
	size_t per_nic = p->gpus / p->rails, first = channel * per_nic, n = 0;

	out[n++] = first;
	for (size_t i = per_nic; i < p->gpus; i++)
		out[n++] = (first + i) % p->gpus;
	for (size_t i = 1; i < per_nic; i++)
		out[n++] = first + i;
}

static void log_prefix(const struct topo_preset *p, uint32_t host, size_t gpu, FILE *f)
{
	char name[32];

	fprintf(f, "%s:%zu:%zu [%zu] NCCL INFO ", host_name(p, host, name), 10000 + host * p->gpus + gpu,
		10000 + host * p->gpus + gpu, gpu);
}

static unsigned long gpu_bus(size_t gpu)
{
	return (unsigned long)(0x10 + 8 * gpu) << 12;
}

static void log_rank(const struct topo_preset *p, const uint32_t *order, size_t hosts, size_t place, size_t gpu,
		     bool asymmetric, FILE *f)
{
	size_t ranks = hosts * p->gpus, rank = place * p->gpus + gpu, ring[64];
	uint32_t host = order[place];

	log_prefix(p, host, gpu, f);
	fprintf(f, "NET/IB : Using");
	for (size_t n = 0; n < p->rails; n++)
		fprintf(f, " [%zu]mlx5_%zu:1/IB", n, n);
	fprintf(f, " [RO]; OOB ib0:10.0.%zu.%zu<0>\n", place / 250, place % 250 + 1);
	log_prefix(p, host, gpu, f);
	fprintf(f, "comm 0x%zx rank %zu nranks %zu cudaDev %zu nvmlDev %zu busId %lx commId 0x5ca1e - Init START\n",
		0x7f0000000000 + rank * 64, rank, ranks, gpu, gpu, gpu_bus(gpu));
	for (size_t c = 0; c < p->rails; c++) {
		size_t at = 0, next, before, nic_out = asymmetric && !(c % 2) ? (c + 1) % p->rails : c;
		size_t after = (place + 1) % hosts, previous = (place + hosts - 1) % hosts;

		gpus_in_ring(p, c, ring);
		while (ring[at] != gpu)
			at++;
		next = at + 1 < p->gpus ? place * p->gpus + ring[at + 1] : after * p->gpus + ring[0];
		before = at ? place * p->gpus + ring[at - 1] : previous * p->gpus + ring[p->gpus - 1];
		log_prefix(p, host, gpu, f);
		fprintf(f, "Ring %02zu : %zu -> %zu -> %zu\n", c, before, rank, next);
		if (!at && hosts > 1) {
			log_prefix(p, host, gpu, f);
			fprintf(f, "Channel %02zu/0 : %zu[%zu] -> %zu[%zu] [receive] via NET/IB/%zu/GDRDMA\n", c,
				before, ring[p->gpus - 1], rank, gpu, c);
		}
		log_prefix(p, host, gpu, f);
		if (at + 1 < p->gpus || hosts == 1)
			fprintf(f, "Channel %02zu/0 : %zu[%zu] -> %zu[%zu] via P2P/IPC\n", c, rank, gpu,
				hosts == 1 && at + 1 == p->gpus ? ring[0] : next, ring[(at + 1) % p->gpus]);
		else if (p->gpus == p->rails && p->rails > 1)
			fprintf(f, "Channel %02zu/0 : %zu[%zu] -> %zu[%zu] [send] via NET/IB/%zu(%zu)/GDRDMA\n", c,
				rank, gpu, next, ring[0], nic_out, place * p->gpus + nic_out);
		else
			fprintf(f, "Channel %02zu/0 : %zu[%zu] -> %zu[%zu] [send] via NET/IB/%zu/GDRDMA\n", c, rank,
				gpu, next, ring[0], nic_out);
	}
	log_prefix(p, host, gpu, f);
	fprintf(f, "Connected all rings\n");
	log_prefix(p, host, gpu, f);
	fprintf(f, "comm 0x%zx rank %zu nranks %zu cudaDev %zu nvmlDev %zu busId %lx commId 0x5ca1e - Init COMPLETE\n",
		0x7f0000000000 + rank * 64, rank, ranks, gpu, gpu, gpu_bus(gpu));
}

void topo_preset_log(const struct topo_preset *p, const uint32_t *order, size_t hosts, bool asymmetric, FILE *f)
{
	fprintf(f, "# written by sfscale as a plan for %s: nothing ran\nNCCL version %s+cuda12.2\n", p->name, p->nccl);
	for (size_t place = 0; place < hosts; place++)
		for (size_t gpu = 0; gpu < p->gpus; gpu++)
			log_rank(p, order, hosts, place, gpu, asymmetric, f);
}

/* ---- hwloc ---- */

static void xml_hca(const struct topo_preset *p, uint32_t host, size_t rail, unsigned bus, int *gp, FILE *f)
{
	uint64_t g = host_guid(host, rail), port = g + 1;

	fprintf(f,
		"<object type=\"PCIDev\" gp_index=\"%d\" pci_busid=\"0000:%02x:00.0\" pci_type=\"0207 [15b3:1017] "
		"[15b3:0000] 00\" "
		"pci_link_speed=\"%s\">\n",
		(*gp)++, bus, strcmp(p->speed, "NDR") ? "15.753846" : "63.015385");
	fprintf(f, "<object type=\"OSDev\" gp_index=\"%d\" name=\"mlx5_%zu\" osdev_type=\"3\">\n", (*gp)++, rail);
	fprintf(f,
		"<info name=\"NodeGUID\" value=\"%04x:%04x:%04x:%04x\"/>\n<info name=\"SysImageGUID\" "
		"value=\"%04x:%04x:%04x:%04x\"/>\n",
		(unsigned)(g >> 48), (unsigned)(g >> 32 & 0xffff), (unsigned)(g >> 16 & 0xffff), (unsigned)(g & 0xffff),
		(unsigned)(g >> 48), (unsigned)(g >> 32 & 0xffff), (unsigned)(g >> 16 & 0xffff),
		(unsigned)(g & 0xffff));
	fprintf(f,
		"<info name=\"Port1State\" value=\"4\"/>\n<info name=\"Port1GID0\" "
		"value=\"fe80:0000:0000:0000:%04x:%04x:%04x:%04x\"/>\n",
		(unsigned)(port >> 48), (unsigned)(port >> 32 & 0xffff), (unsigned)(port >> 16 & 0xffff),
		(unsigned)(port & 0xffff));
	fprintf(f, "</object>\n</object>\n");
}

static void xml_bridge(unsigned from, unsigned to, int depth, bool host_side, int *gp, FILE *f)
{
	fprintf(f,
		"<object type=\"Bridge\" gp_index=\"%d\" bridge_type=\"%d-1\" depth=\"%d\" "
		"bridge_pci=\"0000:[%02x-%02x]\"",
		(*gp)++, !host_side, depth, from, to);
	if (!host_side)
		fprintf(f,
			" pci_busid=\"0000:%02x:00.0\" pci_type=\"0604 [10b5:8796] [10b5:8796] ca\" "
			"pci_link_speed=\"15.753846\"",
			from - 1);
	fprintf(f, ">\n");
}

static void xml_gpu(const struct topo_preset *p, size_t gpu, int *gp, FILE *f)
{
	fprintf(f,
		"<object type=\"PCIDev\" gp_index=\"%d\" pci_busid=\"0000:%02lx:00.0\" pci_type=\"0302 [%s] "
		"[10de:0000] a1\" "
		"pci_link_speed=\"15.753846\">\n",
		(*gp)++, gpu_bus(gpu) >> 12, p->gpu_id);
	fprintf(f,
		"<object type=\"OSDev\" gp_index=\"%zu\" name=\"nvml%zu\" subtype=\"NVML\" "
		"osdev_type=\"1\"/>\n</object>\n",
		1000 + gpu, gpu);
}

void topo_preset_hwloc(const struct topo_preset *p, uint32_t host, FILE *f)
{
	size_t per_socket = p->gpus / 2, rails_per_socket = p->rails / 2, per_nic = p->gpus / p->rails;
	int gp = 1;
	char name[32];

	fprintf(f, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<topology version=\"2.0\">\n");
	fprintf(f,
		"<object type=\"Machine\" os_index=\"0\" cpuset=\"0x3\" complete_cpuset=\"0x3\" allowed_cpuset=\"0x3\" "
		"nodeset=\"0x3\" "
		"complete_nodeset=\"0x3\" allowed_nodeset=\"0x3\" gp_index=\"%d\">\n<info name=\"HostName\" "
		"value=\"%s\"/>\n",
		gp++, host_name(p, host, name));
	for (size_t s = 0; s < 2; s++) {
		char sets[160];

		snprintf(sets, sizeof(sets),
			 "cpuset=\"0x%zx\" complete_cpuset=\"0x%zx\" nodeset=\"0x%zx\" complete_nodeset=\"0x%zx\"",
			 s + 1, s + 1, s + 1, s + 1);
		fprintf(f, "<object type=\"Package\" os_index=\"%zu\" %s gp_index=\"%d\">\n", s, sets, gp++);
		fprintf(f,
			"<object type=\"NUMANode\" os_index=\"%zu\" %s gp_index=\"%d\" local_memory=\"1073741824\"/>\n",
			s, sets, gp++);
		fprintf(f,
			"<object type=\"Core\" os_index=\"0\" %s gp_index=\"%d\">\n<object type=\"PU\" "
			"os_index=\"%zu\" %s "
			"gp_index=\"%d\"/>\n</object>\n",
			sets, gp, s, sets, gp + 1);
		gp += 2;
		for (size_t r = s * rails_per_socket; r < (s + 1) * rails_per_socket; r++) {
			size_t first = r * per_nic;
			unsigned bus = (unsigned)(gpu_bus(first) >> 12),
				 last = (unsigned)(gpu_bus(first + per_nic - 1) >> 12);

			xml_bridge(bus - 4, last + 1, 0, true, &gp, f);
			xml_bridge(bus - 2, last + 1, 1, false, &gp, f);
			for (size_t g = first; g < first + per_nic; g++) {
				unsigned b = (unsigned)(gpu_bus(g) >> 12);

				xml_bridge(b, b, 2, false, &gp, f);
				xml_gpu(p, g, &gp, f);
				fprintf(f, "</object>\n");
			}
			if (p->nic_on_switch) {
				xml_bridge(last + 1, last + 1, 2, false, &gp, f);
				xml_hca(p, host, r, last + 1, &gp, f);
				fprintf(f, "</object>\n");
			}
			fprintf(f, "</object>\n</object>\n");
			if (!p->nic_on_switch) {
				xml_bridge(0x80 + 4 * (unsigned)r, 0x81 + 4 * (unsigned)r, 0, true, &gp, f);
				xml_hca(p, host, r, 0x81 + 4 * (unsigned)r, &gp, f);
				fprintf(f, "</object>\n");
			}
		}
		fprintf(f, "</object>\n");
	}
	fprintf(f, "</object>\n");
	if (*p->nvlink_mbps && per_socket) {
		char indexes[256] = "", values[1024] = "";

		for (size_t i = 0; i < p->gpus; i++)
			snprintf(indexes + strlen(indexes), sizeof(indexes) - strlen(indexes), "OSDev:%zu ", 1000 + i);
		for (size_t i = 0; i < p->gpus * p->gpus; i++)
			snprintf(values + strlen(values), sizeof(values) - strlen(values), "%s ",
				 i / p->gpus == i % p->gpus ? "1000000" : p->nvlink_mbps);
		fprintf(f,
			"<distances2hetero nbobjs=\"%zu\" kind=\"9\" name=\"NVLinkBandwidth\">\n<indexes "
			"length=\"%zu\">%s</indexes>\n"
			"<u64values length=\"%zu\">%s</u64values>\n</distances2hetero>\n",
			p->gpus, strlen(indexes), indexes, strlen(values), values);
	}
	fprintf(f, "</topology>\n");
}

int topo_preset_write(const struct topo_preset *p, enum topo_order_kind kind, size_t hosts, uint64_t seed,
		      bool asymmetric, const char *folder)
{
	enum { FABRIC, HOSTS, LOG, FIRST_XML, SECOND_XML, FILES };
	uint32_t *order = malloc((hosts + 1) * sizeof(*order));
	int rc = order ? dir_make(folder) : err(NO_MEMORY, "no memory for %zu hosts", hosts);

	if (order)
		topo_preset_order(p, kind, hosts, seed, order);
	for (int k = 0; k < FILES && !rc; k++) {
		static const char *const names[] = { "fabric.ibnetdiscover", "hosts.txt", "nccl.log" };
		char path[PATH_BYTES], host[64];
		FILE *f;

		if (k >= FIRST_XML && (size_t)(k - FIRST_XML) >= hosts)
			break;
		host_name(p, (uint32_t)(k >= FIRST_XML ? k - FIRST_XML : 0), host);
		strcat(host, ".xml");
		rc = path_make(path, "%s/%s", folder, k < FIRST_XML ? names[k] : host);
		f = rc ? NULL : file_begin(path);
		if (!f) {
			rc = FAILED;
			break;
		}
		if (k == FABRIC)
			topo_preset_fabric(p, hosts, f);
		else if (k == HOSTS)
			topo_preset_hosts(p, order, hosts, f);
		else if (k == LOG)
			topo_preset_log(p, order, hosts, asymmetric, f);
		else
			topo_preset_hwloc(p, (uint32_t)(k - FIRST_XML), f);
		rc = file_end(f, path, rc);
	}
	free(order);
	return rc;
}
