/*
 * comm/topo/xml.c - NCCL's topology and graph XML, and the check that every XML passes first.
 *
 * expat reads; a file that declares entities of its own is refused, because no tool that
 * writes these files does, and a bomb is made of them.
 */
#include "comm/topo/node.h"

#include "bench/base/err.h"

#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 200, NODES_MAX = 4096, LINKS_MAX = 255 };

struct check {
	XML_Parser parser;
	const char *source;
	int depth, rc;
	char *root, *version;
};

static const char *attribute(const char **a, const char *name)
{
	for (; *a; a += 2)
		if (!strcmp(a[0], name))
			return a[1];
	return NULL;
}

static void check_open(void *user, const char *name, const char **a)
{
	struct check *c = user;
	const char *v = attribute(a, "version");

	if (!c->depth++) {
		snprintf(c->root, 32, "%s", name);
		snprintf(c->version, 16, "%s", v ? v : "");
	}
	if (c->depth > DEPTH_MAX && !c->rc) {
		c->rc = err(FAILED, "%s:%lu: elements nested more than %d deep", c->source,
			    XML_GetCurrentLineNumber(c->parser), DEPTH_MAX);
		XML_StopParser(c->parser, XML_FALSE);
	}
}

static void check_close(void *user, const char *name)
{
	(void)name;
	((struct check *)user)->depth--;
}

static void check_entity(void *user, const char *name, int parameter, const char *value, int length, const char *base,
			 const char *system, const char *public, const char *notation)
{
	struct check *c = user;

	(void)parameter, (void)value, (void)length, (void)base, (void)system, (void)public, (void)notation;
	if (!c->rc)
		c->rc = err(FAILED, "%s:%lu: declares the entity '%s'; topology files have none", c->source,
			    XML_GetCurrentLineNumber(c->parser), name);
	XML_StopParser(c->parser, XML_FALSE);
}

static int parse(XML_Parser p, const char *source, const char *text, size_t bytes, const int *rc)
{
	if (bytes > 1u << 30)
		return err(FAILED, "%s: more than 1 GiB of XML", source);
	if (XML_Parse(p, text, (int)bytes, 1) == XML_STATUS_OK || *rc)
		return *rc;
	return err(FAILED, "%s:%lu: %s", source, XML_GetCurrentLineNumber(p), XML_ErrorString(XML_GetErrorCode(p)));
}

int topo_xml_check(const char *source, const char *text, size_t bytes, char root[32], char version[16])
{
	struct check c = { .parser = XML_ParserCreate(NULL), .source = source, .root = root, .version = version };
	int rc;

	root[0] = version[0] = 0;
	if (!c.parser)
		return err(NO_MEMORY, "no memory for an XML parser");
	XML_SetUserData(c.parser, &c);
	XML_SetElementHandler(c.parser, check_open, check_close);
	XML_SetEntityDeclHandler(c.parser, check_entity);
	rc = parse(c.parser, source, text, bytes, &c.rc);
	XML_ParserFree(c.parser);
	return rc;
}

bool topo_bus_parse(const char *text, uint64_t *bus)
{
	struct topo_span s = { text, text + strlen(text) };
	uint64_t domain, number, device, function = 0;

	if (!topo_take_hex(&s, &domain) || !topo_take(&s, ":") || !topo_take_hex(&s, &number) || !topo_take(&s, ":") ||
	    !topo_take_hex(&s, &device) || (topo_take(&s, ".") && !topo_take_hex(&s, &function)) || s.at != s.end)
		return false;
	if (domain > UINT32_MAX || number > 0xff || device > 0x1f || function > 7)
		return false;
	*bus = domain << 20 | number << 12 | device << 4 | function;
	return true;
}

/* ---- <system> ---- */

/* One pci element on the way down from a cpu. */
struct level {
	bool pci;
	uint64_t bus;
	uint32_t gpu, nic;	/* what this pci is; TOPO_NONE */
};

struct system {
	struct check c;
	struct topo_node *node;
	struct topo_names *names;
	uint32_t file;
	int cpu;		/* ordinal of the cpu element; -1 outside */
	struct level path[DEPTH_MAX + 1];
	/* Of each GPU and each NIC: its cpu, and the bus ids of the bridges above it. */
	struct place { int cpu; int depth; uint64_t above[16]; } *gpus, *nics;
	size_t gpu_room, nic_room;
	struct topo_map buses;
	struct { uint32_t gpu; uint64_t target; int count; } links[NODES_MAX];
	size_t link_count;
};

static void defect(struct system *s, const char *format, const char *what)
{
	char text[256];
	struct topo_defect d = { .at = { s->file, (uint32_t)XML_GetCurrentLineNumber(s->c.parser) } };

	snprintf(text, sizeof(text), format, what);
	d.text = topo_name_of(s->names, text);
	TOPO_PUSH(s->node->defects, s->node->defect_count, s->node->defect_room) = d;
}

static struct place place_here(const struct system *s)
{
	struct place p = { .cpu = s->cpu };

	for (int d = 1; d < s->c.depth && p.depth < 16; d++)
		if (s->path[d].pci)
			p.above[p.depth++] = s->path[d].bus;
	return p;
}

static void system_pci(struct system *s, const char **a)
{
	const char *bus_text = attribute(a, "busid"), *class_text = attribute(a, "class");
	const char *speed = attribute(a, "link_speed"), *width = attribute(a, "link_width");
	unsigned long class = class_text ? strtoul(class_text, NULL, 16) : 0;
	struct level *here = &s->path[s->c.depth];
	struct topo_node *n = s->node;
	static const struct { const char *text; double per_lane;
	} speeds[] = {
		{ "2.5 GT/s", 0.1875 }, { "5 GT/s", 0.375 }, { "5.0 GT/s", 0.375 }, { "8 GT/s", 0.75 },
		{ "8.0 GT/s", 0.75 },	{ "16 GT/s", 1.5 },  { "16.0 GT/s", 1.5 },  { "32 GT/s", 3.0 },
		{ "32.0 GT/s", 3.0 },	{ "64 GT/s", 6.0 },  { "64.0 GT/s", 6.0 },
	};
	double gbps = 0;
	bool known = false;

	*here = (struct level){ .pci = true, .gpu = TOPO_NONE, .nic = TOPO_NONE };
	if (!bus_text || !topo_bus_parse(bus_text, &here->bus)) {
		defect(s, "busid '%s' is no PCI address", bus_text ? bus_text : "");
		return;
	}
	if (topo_map_get(&s->buses, here->bus) != TOPO_NONE)
		defect(s, "busid '%s' stands here a second time", bus_text);
	topo_map_set(&s->buses, here->bus, 1);
	for (size_t i = 0; speed && i < ARRAY_LEN(speeds); i++)
		if (!strncmp(speed, speeds[i].text, strlen(speeds[i].text))) {
			known = true;
			gbps = speeds[i].per_lane * (width && atoi(width) > 0 ? atoi(width) : 16);
		}
	if (speed && !known)
		defect(s, *speed ? "link_speed '%s' is no speed NCCL knows: taken for 8 GT/s"
				 : "link_speed is empty: taken for 8 GT/s%s", speed);
	if ((class >> 8 == 0x302 || class >> 8 == 0x300) && n->gpu_count < NODES_MAX) {
		here->gpu = (uint32_t)n->gpu_count;
		TOPO_PUSH(s->gpus, n->gpu_count, s->gpu_room) = place_here(s);
		n->gpu_count--;
		TOPO_PUSH(n->gpus, n->gpu_count, n->gpu_room) = (struct topo_gpu){ .bus = here->bus, .name = "",
			.pcie_gbps = gbps, .nvlink_gbps = topo_nvlink_gbps(0), .package = s->cpu,
			.located = s->cpu >= 0 };
	} else if ((class >> 8 == 0x207 || class >> 8 == 0x200) && n->hca_count < NODES_MAX) {
		here->nic = (uint32_t)n->hca_count;
		TOPO_PUSH(s->nics, n->hca_count, s->nic_room) = place_here(s);
		n->hca_count--;
		TOPO_PUSH(n->hcas, n->hca_count, n->hca_room) = (struct topo_hca){ .bus = here->bus, .name = "",
			.pcie_gbps = gbps, .package = s->cpu, .located = s->cpu >= 0 };
	} else if (class >> 8 == 0x604) {
		n->bridges = true;
	}
}

static void system_net(struct system *s, const char **a)
{
	const char *name = attribute(a, "name"), *guid = attribute(a, "guid"), *speed = attribute(a, "speed");
	const char *gdr = attribute(a, "gdr"), *port = attribute(a, "port");
	int number = port ? atoi(port) : 1;
	struct topo_hca *h = NULL;

	for (int d = s->c.depth - 1; d > 0 && !h; d--)
		if (s->path[d].pci && s->path[d].nic != TOPO_NONE)
			h = &s->node->hcas[s->path[d].nic];
	if (gdr && !strcmp(gdr, "0"))
		defect(s, "net '%s' has gdr 0: no GPUDirect RDMA with this file", name ? name : "");
	if (guid && !strtoull(guid, NULL, 16))
		defect(s, "net '%s' has guid 0x0: written under NET/Socket, not for InfiniBand", name ? name : "");
	if (!h || !name)
		return;
	h->name = topo_name_of(s->names, name);
	h->node_guid = guid ? strtoull(guid, NULL, 16) : 0;
	if (number >= 1 && number <= HCA_PORTS && speed)
		h->ports[number - 1].gbps = strtod(speed, NULL) / 8000;
}

/* The GPU in whose pci element this one stands; TOPO_NONE. */
static uint32_t gpu_above(const struct system *s)
{
	for (int d = s->c.depth - 1; d > 0; d--)
		if (s->path[d].pci && s->path[d].gpu != TOPO_NONE)
			return s->path[d].gpu;
	return TOPO_NONE;
}

static void system_cpu(struct system *s, const char **a)
{
	const char *architecture = attribute(a, "arch"), *vendor = attribute(a, "vendor");
	const char *family = attribute(a, "familyid"), *model = attribute(a, "modelid");

	topo_node_sockets(s->node, architecture ? architecture : "", vendor ? vendor : "", family ? atoi(family) : 0,
			  model ? atoi(model) : 0);
}

static void system_open(void *user, const char *name, const char **a)
{
	struct system *s = user;
	const char *value;
	uint64_t target;
	uint32_t gpu = TOPO_NONE;

	check_open(&s->c, name, a);
	if (s->c.rc)
		return;
	s->path[s->c.depth] = (struct level){ .gpu = TOPO_NONE, .nic = TOPO_NONE };
	if (!strcmp(name, "cpu")) {
		s->cpu = s->node->packages++;
		system_cpu(s, a);
		value = attribute(a, "numaid");
		if (value && !strcmp(value, "-1"))
			defect(s, "numaid %s: a virtual machine without NUMA nodes", value);
	} else if (!strcmp(name, "pci")) {
		system_pci(s, a);
	} else if (!strcmp(name, "net")) {
		system_net(s, a);
	} else if (!strcmp(name, "gpu")) {
		gpu = gpu_above(s);
		value = attribute(a, "sm");
		if (gpu != TOPO_NONE && value)
			s->node->gpus[gpu].nvlink_gbps = topo_nvlink_gbps(atoi(value));
	} else if (!strcmp(name, "nvlink")) {
		gpu = gpu_above(s);
		value = attribute(a, "target");
		if (gpu == TOPO_NONE || !value || !topo_bus_parse(value, &target))
			return;
		if (target == s->node->gpus[gpu].bus)
			defect(s, "nvlink of GPU '%s' leads to the GPU itself", value);
		else if (s->link_count < NODES_MAX) {
			s->links[s->link_count].gpu = gpu;
			s->links[s->link_count].target = target;
			value = attribute(a, "count");
			s->links[s->link_count].count = value ? atoi(value) : 1;
			if (s->links[s->link_count].count < 0 || s->links[s->link_count].count > LINKS_MAX)
				defect(s, "nvlink has count '%s'", value);
			else
				s->link_count++;
		}
	}
}

static void system_close(void *user, const char *name)
{
	struct system *s = user;

	if (!strcmp(name, "cpu"))
		s->cpu = -1;
	check_close(&s->c, name);
}

static uint8_t class_of(const struct place *a, const struct place *b)
{
	int common = 0;

	while (common < a->depth && common < b->depth && a->above[common] == b->above[common])
		common++;
	if (common)
		return a->depth == common && b->depth == common ? CLASS_PIX : CLASS_PXB;
	return a->cpu < 0 || b->cpu < 0 ? CLASS_UNKNOWN : a->cpu == b->cpu ? CLASS_PHB : CLASS_SYS;
}

static void system_settle(struct system *s)
{
	struct topo_node *n = s->node;

	n->numa_nodes = n->packages;
	n->gpu_hca = topo_alloc(n->gpu_count * n->hca_count, 1);
	n->gpu_gpu = topo_alloc(n->gpu_count * n->gpu_count, 1);
	for (size_t g = 0; g < n->gpu_count; g++) {
		for (size_t h = 0; h < n->hca_count; h++)
			n->gpu_hca[g * n->hca_count + h] = class_of(&s->gpus[g], &s->nics[h]);
		for (size_t k = 0; k < n->gpu_count; k++)
			n->gpu_gpu[g * n->gpu_count + k] = g == k ? CLASS_LOC : class_of(&s->gpus[g], &s->gpus[k]);
	}
	for (size_t i = 0; i < s->link_count; i++) {
		uint32_t to = topo_node_gpu(n, s->links[i].target);

		if (!n->nvlinks)
			n->nvlinks = topo_alloc(n->gpu_count * n->gpu_count, sizeof(*n->nvlinks));
		for (size_t k = 0; k < n->gpu_count; k++)	/* a switch reaches every GPU */
			if ((to == TOPO_NONE && k != s->links[i].gpu) || k == to)
				n->nvlinks[s->links[i].gpu * n->gpu_count + k] += s->links[i].count;
	}
}

int topo_node_nccl(struct topo_node *n, struct topo_names *names, const char *source, uint32_t file, const char *text,
		   size_t bytes)
{
	struct system *s = topo_alloc(1, sizeof(*s));
	char root[32], version[16];
	int rc;

	*n = (struct topo_node){ .host = "", .source = topo_name_of(names, source), .nccl = true };
	s->c = (struct check){ .parser = XML_ParserCreate(NULL), .source = source, .root = root, .version = version };
	s->node = n;
	s->names = names;
	s->file = file;
	s->cpu = -1;
	if (!s->c.parser) {
		free(s);
		return err(NO_MEMORY, "no memory for an XML parser");
	}
	XML_SetUserData(s->c.parser, s);
	XML_SetElementHandler(s->c.parser, system_open, system_close);
	rc = parse(s->c.parser, source, text, bytes, &s->c.rc);
	if (!rc)
		system_settle(s);
	XML_ParserFree(s->c.parser);
	topo_map_release(&s->buses);
	free(s->gpus);
	free(s->nics);
	free(s);
	if (rc)
		topo_node_release(n);
	return rc;
}

/* ---- <graphs> ---- */

struct graphs {
	struct check c;
	struct topo_graphs *out;
	struct topo_names *names;
	uint32_t file;
};

static int number(const char **a, const char *name, int absent)
{
	const char *v = attribute(a, name);

	return v ? (int)strtol(v, NULL, 10) : absent;
}

static double real(const char **a, const char *name)
{
	const char *v = attribute(a, name);

	return v ? strtod(v, NULL) : 0;
}

static void graphs_open(void *user, const char *name, const char **a)
{
	struct graphs *g = user;
	struct topo_at at = { g->file, (uint32_t)XML_GetCurrentLineNumber(g->c.parser) };
	struct topo_graph *graph = g->out->count ? &g->out->at[g->out->count - 1] : NULL;
	struct topo_graph_channel *channel = graph && graph->channel_count ? &graph->channels[graph->channel_count - 1]
									   : NULL;
	const char *v;

	check_open(&g->c, name, a);
	if (g->c.rc)
		return;
	if (!strcmp(name, "graph")) {
		struct topo_graph new = { .source = topo_name_of(g->names, g->c.source), .at = at,
			.id = number(a, "id", -1), .pattern = number(a, "pattern", -1),
			.crossnic = number(a, "crossnic", 0), .channels_said = number(a, "nchannels", -1) };

		new.bw_intra = real(a, attribute(a, "speedintra") ? "speedintra" : "bwintra");
		new.bw_inter = real(a, attribute(a, "speedinter") ? "speedinter" : "bwinter");
		v = attribute(a, "typeintra");
		snprintf(new.type_intra, sizeof(new.type_intra), "%s", v ? v : "");
		v = attribute(a, "typeinter");
		snprintf(new.type_inter, sizeof(new.type_inter), "%s", v ? v : "");
		TOPO_PUSH(g->out->at, g->out->count, g->out->room) = new;
	} else if (!strcmp(name, "channel") && graph) {
		TOPO_PUSH(graph->channels, graph->channel_count, graph->channel_room) =
			(struct topo_graph_channel){ .net_in = -1, .net_out = -1, .at = at };
	} else if (!strcmp(name, "net") && channel) {
		v = attribute(a, "dev");
		if (!channel->gpu_count)
			channel->net_in = v ? (int64_t)(strtoull(v, NULL, 16) & INT64_MAX) : -1;
		else
			channel->net_out = v ? (int64_t)(strtoull(v, NULL, 16) & INT64_MAX) : -1;
	} else if (!strcmp(name, "gpu") && channel && channel->gpu_count < ARRAY_LEN(channel->gpus)) {
		channel->gpus[channel->gpu_count++] = number(a, "dev", -1);
	}
}

static void graphs_close(void *user, const char *name)
{
	check_close(&((struct graphs *)user)->c, name);
}

int topo_graphs_read(struct topo_graphs *out, struct topo_names *names, const char *source, uint32_t file,
		     const char *text, size_t bytes)
{
	char root[32], version[16];
	struct graphs g = { .out = out, .names = names, .file = file };
	int rc;

	g.c = (struct check){ .parser = XML_ParserCreate(NULL), .source = source, .root = root, .version = version };
	if (!g.c.parser)
		return err(NO_MEMORY, "no memory for an XML parser");
	XML_SetUserData(g.c.parser, &g);
	XML_SetElementHandler(g.c.parser, graphs_open, graphs_close);
	rc = parse(g.c.parser, source, text, bytes, &g.c.rc);
	XML_ParserFree(g.c.parser);
	return rc;
}

void topo_graphs_release(struct topo_graphs *g)
{
	for (size_t i = 0; i < g->count; i++)
		free(g->at[i].channels);
	free(g->at);
	*g = (struct topo_graphs){ 0 };
}
