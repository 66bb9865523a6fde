/*
 * comm/topo/model.c - inputs by content, joins by GUID.
 */
#include "comm/topo/model.h"

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

struct hosts_reading {
	struct topo_model *m;
	const char **hosts;
	size_t count, room;
};

static void hosts_take(void *user, const char *host)
{
	struct hosts_reading *h = user;

	TOPO_PUSH(h->hosts, h->count, h->room) = topo_name_of(&h->m->log.names, host);
}

/* "node001 slots=4", one a line or in host-list syntax; comments with '#'. */
static int hosts_read(struct topo_model *m, const char *source, const char *text, size_t bytes)
{
	struct topo_span rest = { text, text + bytes }, line, word;
	struct hosts_reading h = { .m = m };
	const char *rails[64];
	char name[16];
	size_t number = 0, rail_count = 0;
	int rc = OK;

	while (!rc && topo_line(&rest, &line)) {
		number++;
		topo_skip_blanks(&line);
		if (line.at == line.end || *line.at == '#' || !topo_take_word(&line, " \t#", &word))
			continue;
		for (const char *p = word.at; p < word.end && !rc; p++)
			if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.[],", *p))
				rc = err(FAILED, "%s:%zu: '%.*s' is no host name", source, number,
					 (int)topo_span_length(word), word.at);
		if (!rc && !topo_hostlist(word, hosts_take, &h))
			rc = err(FAILED, "%s:%zu: malformed host list '%.*s'", source, number,
				 (int)topo_span_length(word), word.at);
	}
	if (!rc && !h.count)
		rc = err(FAILED, "%s: names no host", source);
	if (!rc) {	/* rails are counted when the fabric is known; until then one */
		for (size_t i = 0; i < m->fabric.node_count && m->fabric.settled; i++)
			if (m->fabric.nodes[i].host == h.hosts[0] && rail_count < ARRAY_LEN(rails)) {
				snprintf(name, sizeof(name), "rail%zu", rail_count);
				rails[rail_count++] = topo_name_of(&m->log.names, name);
			}
		if (!rail_count)
			rails[rail_count++] = topo_name_of(&m->log.names, "rail0");
		topo_log_plan(&m->log, source, h.hosts, h.count, 1, rails, rail_count);
	}
	free(h.hosts);
	return rc;
}

/* The first file's count before the run, those of later files after it. */
static void counter_take(struct topo_port *p, const char *source, struct topo_span name, struct topo_span value)
{
	struct topo_counts *c = !p->before.source || p->before.source == source ? &p->before : &p->after;
	uint64_t v;

	for (size_t i = 0; i < COUNTERS; i++)
		if (topo_span_is(name, topo_counter_names[i]) && topo_take_u64(&value, &v)) {
			c->source = source;
			c->said[i] = true;
			c->value[i] = v;
		}
}

/* Lines "/sys/class/infiniband/HCA/...:value" as grep prints them, one node per file, or many with "node1: " in
 * front. */
static int sysfs_read(struct topo_model *m, const char *source, const char *text, size_t bytes)
{
	struct topo_span rest = { text, text + bytes }, line;
	const char *file = topo_name_of(&m->log.names, source);
	size_t taken = 0;

	while (topo_line(&rest, &line)) {
		struct topo_span s = line, before = line, dev, path, value;
		struct topo_node *n = NULL;
		struct topo_hca *h = NULL;
		const char *host, *name;
		uint64_t port;

		if (!topo_take_past(&s, "/sys/class/infiniband/") || !topo_take_word(&s, "/", &dev) ||
		    !topo_take(&s, "/") || !topo_take_word(&s, ":", &path) || !topo_take(&s, ":"))
			continue;
		value = s;
		before.end = dev.at - strlen("/sys/class/infiniband/");
		while (before.end > before.at && strchr(": ", before.end[-1]))
			before.end--;
		host = topo_name(&m->log.names, before);
		name = topo_name(&m->log.names, dev);
		for (size_t i = 0; i < m->node_count && !n; i++)
			if (m->nodes[i].host == host)
				n = &m->nodes[i];
		if (!n) {
			TOPO_PUSH(m->nodes, m->node_count, m->node_room) =
				(struct topo_node){ .host = host, .source = file };
			n = &m->nodes[m->node_count - 1];
		}
		for (size_t i = 0; i < n->hca_count && !h; i++)
			if (n->hcas[i].name == name)
				h = &n->hcas[i];
		if (!h && n->gpu_count)
			continue;	/* an hwloc file of this host knows its HCAs; the matrix is sized for them */
		if (!h) {
			TOPO_PUSH(n->hcas, n->hca_count, n->hca_room) =
				(struct topo_hca){ .name = name, .package = -1, .bus = UINT64_MAX };
			h = &n->hcas[n->hca_count - 1];
			for (int p = 0; p < HCA_PORTS; p++)
				h->ports[p].ethernet = -1;
		}
		taken++;
		if (topo_span_is(path, "device/current_link_width")) {
			h->width = atoi(value.at);
		} else if (topo_span_is(path, "device/max_link_width")) {
			h->width_max = atoi(value.at);
		} else if (topo_span_is(path, "node_guid")) {
			for (h->node_guid = 0; value.at < value.end; topo_take(&value, ":")) {
				uint64_t part;

				if (!topo_take_hex(&value, &part))
					break;
				h->node_guid = h->node_guid << 16 | part;
			}
		} else if (topo_take(&path, "ports/") && topo_take_u64(&path, &port) && port >= 1 &&
			   port <= HCA_PORTS) {
			struct topo_port *p = &h->ports[port - 1];

			if (topo_span_is(path, "/rate"))
				p->gbps = strtod(value.at, NULL) / 8;
			else if (topo_span_is(path, "/state"))
				p->state = atoi(value.at);
			else if (topo_span_is(path, "/link_layer"))
				p->ethernet = topo_span_is(value, "Ethernet");
			else if (topo_take(&path, "/counters/"))
				counter_take(p, file, path, value);
			else if (topo_span_is(path, "/lid"))
				p->lid = (uint32_t)strtoul(value.at, NULL, 16);
		}
	}
	m->has_sysfs = true;
	return taken ? OK : err(FAILED, "%s: no line of /sys/class/infiniband/HCA/...:value", source);
}

static int xml_take(struct topo_model *m, const char *source, const char *text, size_t bytes)
{
	char root[32], version[16];
	struct topo_node n;
	uint32_t file = (uint32_t)m->log.file_count;
	int rc = topo_xml_check(source, text, bytes, root, version);

	if (rc)
		return rc;
	if (!strcmp(root, "graphs")) {
		rc = topo_graphs_read(&m->graphs, &m->log.names, source, file, text, bytes);
	} else if (!strcmp(root, "system")) {
		rc = topo_node_nccl(&n, &m->log.names, source, file, text, bytes);
		m->has_nccl_topo = true;
	} else {
		rc = topo_node_hwloc(&n, &m->log.names, source, text, bytes);
		m->has_hwloc = true;
	}
	TOPO_PUSH(m->log.files, m->log.file_count, m->log.file_room) = topo_name_of(&m->log.names, source);
	if (!rc && strcmp(root, "graphs"))
		TOPO_PUSH(m->nodes, m->node_count, m->node_room) = n;
	return rc;
}

int topo_model_take(struct topo_model *m, const char *source, const char *text, size_t bytes, enum topo_input input)
{
	struct topo_span s = { text, text + bytes };
	uint32_t file = (uint32_t)m->log.file_count;
	int rc;

	m->fabric.names = &m->log.names;
	topo_take(&s, "\xef\xbb\xbf");
	while (s.at < s.end && strchr(" \t\r\n", *s.at) && *s.at)
		s.at++;
	if (input == INPUT_HWLOC || input == INPUT_NCCL_XML || input == INPUT_GRAPH ||
	    (input == INPUT_AUTO && s.at < s.end && *s.at == '<'))
		return xml_take(m, source, text, bytes);
	if (input == INPUT_HOSTS)
		return hosts_read(m, source, text, bytes);
	if (input == INPUT_LOG || (input == INPUT_AUTO && topo_log_is(text, bytes))) {
		if (!topo_log_is(text, bytes))
			return err(FAILED,
				   "%s: no line 'host:pid:tid [dev] NCCL INFO ...' (NCCL_DEBUG=INFO prints them)",
				   source);
		topo_log_parse(&m->log, source, text, bytes);
		m->has_log = true;
		return OK;
	}
	if (input == INPUT_SYSFS || (input == INPUT_AUTO && memmem(text, bytes < 4096 ? bytes : 4096,
								   "/sys/class/infiniband/", 22)))
		rc = sysfs_read(m, source, text, bytes);
	else if (input == INPUT_ROUTES || topo_routes_are(text, bytes))
		rc = topo_routes_read(&m->fabric, source, file, text, bytes), m->has_routes = true;
	else
		rc = topo_fabric_read(&m->fabric, source, file, text, bytes);
	TOPO_PUSH(m->log.files, m->log.file_count, m->log.file_room) = topo_name_of(&m->log.names, source);
	m->has_fabric = m->fabric.link_count > 0;
	m->has_groups = m->fabric.member_count > 0;
	return rc;
}

int topo_model_read(struct topo_model *m, const char *path, enum topo_input input)
{
	struct topo_text t;
	int rc = topo_text_read(&t, path);

	if (!rc && input == INPUT_HOSTS && !m->fabric.settled)
		topo_fabric_settle(&m->fabric);
	if (!rc)
		rc = topo_model_take(m, path, t.at, t.bytes, input);
	topo_text_release(&t);
	return rc;
}

int topo_model_live(struct topo_model *m)
{
	struct topo_node n;
	int rc = topo_node_live(&n, &m->log.names);

	m->has_hwloc = m->has_sysfs = true;
	if (rc)
		topo_node_release(&n);
	else
		TOPO_PUSH(m->nodes, m->node_count, m->node_room) = n;
	return rc;
}

void topo_model_release(struct topo_model *m)
{
	for (size_t i = 0; i < m->node_count; i++)
		topo_node_release(&m->nodes[i]);
	free(m->nodes);
	topo_fabric_release(&m->fabric);
	topo_graphs_release(&m->graphs);
	topo_log_release(&m->log);
	*m = (struct topo_model){ 0 };
}

/* ---- joins ---- */

static bool facts_cover(const struct topo_node *n, const struct topo_comm *c, uint32_t host)
{
	for (size_t r = 0; r < c->rank_count; r++)
		if (c->ranks[r].present && c->ranks[r].host == host && c->ranks[r].bus &&
		    topo_node_gpu(n, c->ranks[r].bus) == TOPO_NONE)
			return false;
	return true;
}

/* A file that names the host; else the only file of a machine, when it has the GPUs that the ranks sit on. */
static void facts_join(struct topo_model *m)
{
	for (size_t h = 0; h < m->log.host_count; h++) {
		struct topo_host *host = &m->log.hosts[h];

		for (size_t i = 0; i < m->node_count; i++) {
			const char *name = m->nodes[i].host, *dot = strchr(name, '.');
			size_t length = dot ? (size_t)(dot - name) : strlen(name);

			if (length && strlen(host->name) == length && !strncmp(host->name, name, length))
				host->facts = (uint32_t)i;
		}
		if (host->facts == TOPO_NONE && m->node_count == 1 && m->nodes[0].gpu_count) {
			bool covers = true;

			for (size_t c = 0; c < m->log.comm_count; c++)
				covers = covers && facts_cover(&m->nodes[0], &m->log.comms[c], (uint32_t)h);
			host->facts = covers ? 0 : (uint32_t)TOPO_NONE;
		}
	}
}

const struct topo_node *topo_model_facts(const struct topo_model *m, uint32_t host)
{
	return host == TOPO_NONE || m->log.hosts[host].facts == TOPO_NONE ? NULL : &m->nodes[m->log.hosts[host].facts];
}

const struct topo_hca *topo_model_hca(const struct topo_model *m, uint32_t nic)
{
	const struct topo_node *n = nic == TOPO_NONE ? NULL : topo_model_facts(m, m->log.nics[nic].host);
	uint32_t hca = n ? topo_node_hca(n, m->log.nics[nic].name) : (uint32_t)TOPO_NONE;

	return hca == TOPO_NONE ? NULL : &n->hcas[hca];
}

/* The facts are this very host's, not those of its kind: its GUIDs may be used. */
static bool facts_are_own(const struct topo_model *m, uint32_t host)
{
	const struct topo_node *n = topo_model_facts(m, host);
	size_t length = strlen(m->log.hosts[host].name);

	return n && !strncmp(n->host, m->log.hosts[host].name, length) && (!n->host[length] || n->host[length] == '.');
}

static uint32_t adapter_by_guid(const struct topo_model *m, const struct topo_nic *nic, const struct topo_hca *h)
{
	int port = nic->port >= 1 && nic->port <= HCA_PORTS ? nic->port - 1 : 0;
	uint32_t a = h->node_guid ? topo_map_get(&m->fabric.by_guid, h->node_guid) : (uint32_t)TOPO_NONE;

	if (a == TOPO_NONE && h->ports[port].guid)
		a = topo_map_get(&m->fabric.by_port_guid, h->ports[port].guid);
	if (a == TOPO_NONE && h->ports[port].guid)
		a = topo_map_get(&m->fabric.by_guid, h->ports[port].guid);
	if (a == TOPO_NONE && h->ports[port].lid)
		a = topo_map_get(&m->fabric.by_lid, h->ports[port].lid);
	if (a == TOPO_NONE && h->system_guid)
		a = topo_map_get(&m->fabric.by_system, h->system_guid);
	return a != TOPO_NONE && !m->fabric.nodes[a].is_switch ? a : (uint32_t)TOPO_NONE;
}

struct by_host_entry { const char *host; uint32_t node; };

static int by_host_rail(const void *a, const void *b)
{
	const struct by_host_entry *x = a, *y = b;

	return x->host < y->host ? -1 : x->host > y->host;
}

/* Without GUIDs: the adapter whose description is "host nic", else the one at the NIC's place among its host's. */
static uint32_t adapter_by_name(const struct topo_model *m, const struct by_host_entry *index, size_t count,
				const struct topo_nic *nic, int32_t rail)
{
	const char *host = m->log.hosts[nic->host].name;
	struct by_host_entry key = { .host = host };
	const struct by_host_entry *e = count ? bsearch(&key, index, count, sizeof(key), by_host_rail) : NULL;
	uint32_t by_rail = TOPO_NONE;

	if (!e)
		return TOPO_NONE;
	while (e > index && e[-1].host == host)
		e--;
	for (; e < index + count && e->host == host; e++) {
		const struct topo_vertex *v = &m->fabric.nodes[e->node];
		const char *blank = strrchr(v->description, ' ');

		if (blank && !strcmp(blank + 1, nic->name))
			return e->node;
		if (v->rail == rail)
			by_rail = e->node;
	}
	return by_rail;
}

static int by_nic_name(const void *a, const void *b)
{
	const struct topo_nic *x = *(struct topo_nic *const *)a, *y = *(struct topo_nic *const *)b;

	if (x->host != y->host)
		return x->host < y->host ? -1 : 1;
	return strverscmp(x->name, y->name);
}

static void nics_join(struct topo_model *m)
{
	struct by_host_entry *index = topo_alloc(m->fabric.node_count, sizeof(*index));
	struct topo_nic **sorted = topo_alloc(m->log.nic_count, sizeof(*sorted));
	size_t count = 0;
	int32_t rail = 0;

	for (uint32_t i = 0; i < m->fabric.node_count; i++)
		if (!m->fabric.nodes[i].is_switch && *m->fabric.nodes[i].host)
			index[count++] = (struct by_host_entry){ m->fabric.nodes[i].host, i };
	qsort(index, count, sizeof(*index), by_host_rail);
	for (size_t i = 0; i < m->log.nic_count; i++)
		sorted[i] = &m->log.nics[i];
	qsort(sorted, m->log.nic_count, sizeof(*sorted), by_nic_name);
	for (size_t i = 0; i < m->log.nic_count; i++) {
		struct topo_nic *nic = sorted[i];
		const struct topo_hca *h = topo_model_hca(m, (uint32_t)(nic - m->log.nics));

		rail = i && sorted[i - 1]->host == nic->host ? rail + 1 : 0;
		if (!strcmp(nic->net, "Socket") || !strcmp(nic->net, "RoCE"))
			continue;	/* Ethernet is not in an InfiniBand fabric, whatever its device is called */
		if (h && facts_are_own(m, nic->host))
			nic->adapter = adapter_by_guid(m, nic, h);
		if (nic->adapter != TOPO_NONE) {
			m->joined_by_guid++;
			continue;
		}
		nic->adapter = adapter_by_name(m, index, count, nic, rail);
		if (nic->adapter != TOPO_NONE)
			m->joined_by_name++;
		else
			m->not_joined++;
	}
	free(index);
	free(sorted);
}

/* sharp_cmd names hosts by the GUIDs of their ports: to host names, through the layouts or the fabric. */
static void members_name(struct topo_model *m)
{
	for (size_t i = 0; i < m->fabric.member_count; i++) {
		struct topo_span s = { m->fabric.members[i].host,
				       m->fabric.members[i].host + strlen(m->fabric.members[i].host) };
		const char *host = NULL;
		uint64_t guid;
		uint32_t node;

		if (!topo_take(&s, "0x") || !topo_take_hex(&s, &guid) || s.at != s.end)
			continue;
		for (size_t n = 0; n < m->node_count && !host; n++)
			for (size_t h = 0; h < m->nodes[n].hca_count; h++)
				if (m->nodes[n].hcas[h].ports[0].guid == guid || m->nodes[n].hcas[h].node_guid == guid)
					host = m->nodes[n].host;
		node = topo_map_get(&m->fabric.by_port_guid, guid);
		if (!host && node != TOPO_NONE)
			host = m->fabric.nodes[node].host;
		if (host && *host)
			m->fabric.members[i].host = host;
	}
}

void topo_model_settle(struct topo_model *m)
{
	bool *job;

	topo_log_finish(&m->log);
	facts_join(m);
	if (!m->fabric.settled)
		topo_fabric_settle(&m->fabric);
	members_name(m);
	for (size_t i = 0; i < m->log.host_count && m->rack_rule.hosts && !m->has_groups; i++) {
		m->fabric.names = &m->log.names;
		topo_rack_rule_join(&m->fabric, &m->rack_rule, m->log.hosts[i].name);
	}
	m->has_groups = m->fabric.member_count > 0;
	if (!m->has_fabric)
		return;
	nics_join(m);
	job = topo_alloc(m->fabric.node_count, sizeof(*job));
	for (size_t i = 0; i < m->log.nic_count; i++)
		if (m->log.nics[i].adapter != TOPO_NONE)
			job[m->log.nics[i].adapter] = true;
	topo_fabric_levels(&m->fabric, m->joined_by_guid + m->joined_by_name ? job : NULL);
	free(job);
}

double topo_model_nic_gbps(const struct topo_model *m, uint32_t nic)
{
	const struct topo_nic *n = &m->log.nics[nic];
	const struct topo_hca *h = topo_model_hca(m, nic);
	int port = n->port >= 1 && n->port <= HCA_PORTS ? n->port - 1 : 0;
	uint32_t link = n->adapter != TOPO_NONE ? topo_fabric_uplink(&m->fabric, n->adapter, (uint16_t)n->port)
						: (uint32_t)TOPO_NONE;

	if (link != TOPO_NONE && m->fabric.links[link].gbps > 0)
		return m->fabric.links[link].gbps;
	return h && h->ports[port].gbps > 0 ? h->ports[port].gbps : m->nic_gbps;
}
