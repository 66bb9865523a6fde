/*
 * comm/topo/fabric.c - every text that tells how a fabric is cabled, into one graph.
 *
 * The kinds are told apart by their first telling line.  What they share: a cable is named
 * from both ends, so each line makes one directed link, and the peers meet by GUID and port
 * when all is read.  An adapter whose own block is missing is made from the switch's line, a
 * switch never is: its other ports would be unknown.
 */
#include "comm/topo/reading.h"

#include "bench/base/err.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORT_MAX = 255, LID_MAX = 0xbfff };

/* Data rate of one lane in GB/s: 8b/10b up to QDR, 64b/66b after; and what iblinkinfo and .lst print for it. */
static const struct lane { const char *name; double gbps, signalling; int spd; } lanes[] = {
	{ "SDR", 0.25, 2.5, 2 }, { "DDR", 0.5, 5.0, 5 }, { "QDR", 1.0, 10.0, 10 }, { "FDR10", 1.25, 10.3125, 0 },
	{ "FDR", 1.705, 14.0625, 14 }, { "EDR", 3.125, 25.78125, 25 }, { "HDR", 6.25, 53.125, 50 },
	{ "NDR", 12.5, 106.25, 100 }, { "XDR", 25.0, 212.5, 200 },
};

double topo_lane_gbps(struct topo_span name)
{
	for (size_t i = 0; i < ARRAY_LEN(lanes); i++)
		if (topo_span_is(name, lanes[i].name))
			return lanes[i].gbps;
	return 0;
}

bool topo_next_line(struct topo_reading *r)
{
	r->at.line++;
	return topo_line(&r->rest, &r->line);
}

int topo_complain(const struct topo_reading *r, const char *what)
{
	return err(FAILED, "%s:%u: %s: '%.*s'", r->source, r->at.line, what,
		   (int)(topo_span_length(r->line) < 60 ? topo_span_length(r->line) : 60), r->line.at);
}

static uint32_t vertex(struct topo_fabric *f, uint64_t guid, bool is_switch, struct topo_at at)
{
	uint32_t i = topo_map_get(&f->by_guid, guid);

	if (i != TOPO_NONE)
		return i;
	i = (uint32_t)f->node_count;
	TOPO_PUSH(f->nodes, f->node_count, f->node_room) =
		(struct topo_vertex){ .guid = guid, .is_switch = is_switch, .description = "", .host = "", .rail = -1,
				      .level = TOPO_NONE, .at = at };
	topo_map_set(&f->by_guid, guid, i);
	return i;
}

static void describe(struct topo_fabric *f, uint32_t node, struct topo_span text)
{
	struct topo_vertex *v = &f->nodes[node];
	struct topo_span s = text, word;

	topo_skip_blanks(&text);
	s = text;
	if (*v->description)
		return;
	v->description = topo_name(f->names, text);
	v->aggregation = !v->is_switch && topo_span_has(text, "Aggregation Node");
	/* A host's adapters are called after it; one with no name given is called after its chip. */
	if (!v->is_switch && !v->aggregation && topo_take_word(&s, " \t", &word) &&
	    !topo_span_has(text, "Mellanox Techn"))
		v->host = topo_name(f->names, word);
}

static struct topo_link *link_add(struct topo_fabric *f, uint32_t node, uint64_t port, struct topo_at at)
{
	TOPO_PUSH(f->links, f->link_count, f->link_room) = (struct topo_link){ .node = node, .peer = TOPO_NONE,
		.back = TOPO_NONE, .port = (uint16_t)port, .at = at };
	return &f->links[f->link_count - 1];
}

/* "4xEDR", "4x EDR", with what follows left alone. */
static bool take_rate(struct topo_span *s, struct topo_link *l)
{
	struct topo_span t = *s, speed;
	uint64_t width;

	if (!topo_take_u64(&t, &width) || !topo_take(&t, "x") || width > 16)
		return false;
	topo_skip_blanks(&t);
	if (!topo_take_word(&t, " \t\"", &speed))
		return false;
	l->width = (uint8_t)width;
	l->lane_gbps = (float)topo_lane_gbps(speed);
	l->gbps = (float)width * l->lane_gbps;
	*s = t;
	return true;
}

/* Text in double quotes: to the last one on the line before `stop`, because names may hold anything. */
static bool take_quoted(struct topo_span *s, struct topo_span *text)
{
	struct topo_span t = *s;
	const char *last;

	topo_skip_blanks(&t);
	if (!topo_take(&t, "\""))
		return false;
	last = memrchr(t.at, '"', topo_span_length(t));
	if (!last)
		return false;
	*text = (struct topo_span){ t.at, last };
	s->at = last + 1;
	return true;
}

/* "H-506b4b03003ceee8" in quotes: kind and GUID. */
static bool take_node_name(struct topo_span *s, char *kind, uint64_t *guid)
{
	struct topo_span t = *s;

	topo_skip_blanks(&t);
	if (!topo_take(&t, "\"") || t.at == t.end)
		return false;
	*kind = *t.at++;
	if (!strchr("SHR", *kind) || !topo_take(&t, "-") || !topo_take_hex(&t, guid) || !topo_take(&t, "\""))
		return false;
	*s = t;
	return true;
}

/* ---- ibnetdiscover, and ibdiagnet2's spelling of it ---- */

/* [1](506b4b03003fa98a) "S-..."[36](..) # lid 83 lmc 0 "SwitchIB ..." lid 48 4xEDR */
static int netdiscover_port(struct topo_reading *r, uint32_t node, bool is_switch)
{
	struct topo_span s = r->line, quoted, own = { s.at, s.at };
	uint64_t port, guid, peer, peer_port, port_guid = 0, v;
	struct topo_link *l;
	char kind;

	if (!topo_take(&s, "[") || !topo_take_u64(&s, &port) || !topo_take(&s, "]") || port > PORT_MAX)
		return topo_complain(r, "a port line starts with its number in brackets");
	while (topo_take(&s, "["))
		if (!topo_take_past(&s, "]"))		/* "[ext 2]" */
			return topo_complain(r, "unclosed bracket");
	if (topo_take(&s, "(") && (!topo_take_hex(&s, &port_guid) || !topo_take(&s, ")")))
		return topo_complain(r, "a port GUID is hexadecimal");
	if (!take_node_name(&s, &kind, &peer))
		return topo_complain(r, "no GUID of the node at the other end");
	if (!topo_take(&s, "[") || !topo_take_u64(&s, &peer_port) || !topo_take(&s, "]") || peer_port > PORT_MAX)
		return topo_complain(r, "no port at the other end");
	guid = 0;
	while (topo_take(&s, "["))
		topo_take_past(&s, "]");
	if (topo_take(&s, "("))
		topo_take_hex(&s, &guid);
	l = link_add(r->f, node, port, r->at);
	l->peer_guid = peer;
	l->peer_port = (uint16_t)peer_port;
	if (kind == 'H' && guid > 0xff) {		/* ibdiagnet2 gives the port's number there */
		uint32_t adapter = vertex(r->f, peer, false, r->at);

		topo_map_set(&r->f->by_port_guid, guid, adapter);
	} else if (kind == 'H') {
		vertex(r->f, peer, false, r->at);
	}
	if (!is_switch && port_guid > 0xff)
		topo_map_set(&r->f->by_port_guid, port_guid, node);
	if (!topo_take_past(&s, "#"))
		return OK;
	own = s;
	if (!is_switch && topo_take_past(&own, "lid ") && topo_take_u64(&own, &v) && v && v <= LID_MAX) {
		topo_map_set(&r->f->by_lid, v, node);
		topo_map_set(&r->f->lid_of, r->f->nodes[node].guid, (uint32_t)v);
	}
	if (take_quoted(&own, &quoted) || (topo_take_past(&s, "\"") && (s.at--, take_quoted(&s, &quoted)))) {
		struct topo_span tail = { quoted.end + 1, r->line.end };

		if (topo_take_past(&tail, "lid ") && topo_take_u64(&tail, &v)) {
			topo_skip_blanks(&tail);
			take_rate(&tail, l);
		}
		if (kind == 'H')
			describe(r->f, topo_map_get(&r->f->by_guid, peer), quoted);
	}
	return OK;
}

/* Switch 37 "S-..." # "name" base port 0 lid 1085 lmc 0 */
static int netdiscover_node(struct topo_reading *r, char kind_wanted, uint64_t system_guid, uint32_t *node)
{
	struct topo_span s = r->line, name;
	uint64_t ports, guid, lid;
	char kind;

	if (!topo_take_word(&s, " \t", &name))
		return topo_complain(r, "no node");
	topo_skip_blanks(&s);
	if (!topo_take_u64(&s, &ports) || !take_node_name(&s, &kind, &guid) || kind != kind_wanted)
		return topo_complain(r, "a node line gives its ports and its GUID in quotes");
	*node = vertex(r->f, guid, kind != 'H', r->at);
	r->f->nodes[*node].is_switch = kind != 'H';
	r->f->nodes[*node].system_guid = system_guid;
	if (system_guid)
		topo_map_set(&r->f->by_system, system_guid, *node);
	if (topo_take_past(&s, "#") && take_quoted(&s, &name)) {
		describe(r->f, *node, name);
		if (topo_take_past(&s, "lid ") && topo_take_u64(&s, &lid) && lid && lid <= LID_MAX) {
			topo_map_set(&r->f->by_lid, lid, *node);
			topo_map_set(&r->f->lid_of, guid, (uint32_t)lid);
		}
	}
	return OK;
}

static int netdiscover_read(struct topo_reading *r)
{
	uint32_t node = TOPO_NONE;
	uint64_t system_guid = 0;
	size_t blocks = 0, ports = 0;
	int rc = OK;

	while (!rc && topo_next_line(r)) {
		struct topo_span s = r->line;

		topo_skip_blanks(&s);
		r->line = s;
		if (s.at == s.end || *s.at == '#')
			continue;
		if (topo_take(&s, "sysimgguid=0x")) {
			if (!topo_take_hex(&s, &system_guid))
				rc = topo_complain(r, "a GUID is hexadecimal");
		} else if (topo_take(&s, "Switch") || topo_take(&s, "Ca") || topo_take(&s, "Rt")) {
			rc = netdiscover_node(r,
					      *r->line.at == 'S'   ? 'S'
					      : *r->line.at == 'C' ? 'H'
								   : 'R',
					      system_guid, &node);
			system_guid = 0;
			blocks++;
		} else if (*s.at == '[' && s.end - s.at > 1 && isdigit((unsigned char)s.at[1])) {
			rc = node == TOPO_NONE ? topo_complain(r, "a port before any node")
					       : netdiscover_port(r, node, r->f->nodes[node].is_switch);
			ports++;
		} else if (topo_take(&s, "switchguid=") || topo_take(&s, "caguid=") || topo_take(&s, "rtguid=")) {
			uint64_t guid;

			if (!topo_take(&s, "0x") || !topo_take_hex(&s, &guid))
				rc = topo_complain(r, "a GUID is hexadecimal");
		} else if (blocks && !topo_span_has(s, "vendid=") && !topo_span_has(s, "devid=") &&
			   !topo_take(&s, "Chassis ") && !topo_take(&s, "Non-Chassis ") && !topo_take(&s, "DR path ")) {
			rc = topo_complain(r, "no line of ibnetdiscover");
		}
	}
	if (!rc && blocks && !ports)
		rc = err(FAILED, "%s:%u: the file ends after '%s' without one port: not a whole ibnetdiscover",
			 r->source, r->at.line - 1, r->f->nodes[node].description);
	return rc;
}

/* ---- ibnetdiscover -p ---- */

struct ports_end {
	bool is_switch;
	uint64_t lid, port, guid;
};

static bool take_ports_end(struct topo_span *s, struct ports_end *e)
{
	topo_skip_blanks(s);
	e->is_switch = topo_take(s, "SW");
	if (!e->is_switch && !topo_take(s, "CA") && !topo_take(s, "RT"))
		return false;
	topo_skip_blanks(s);
	if (!topo_take_u64(s, &e->lid))
		return false;
	topo_skip_blanks(s);
	if (!topo_take_u64(s, &e->port) || e->port > PORT_MAX)
		return false;
	topo_skip_blanks(s);
	return topo_take(s, "0x") && topo_take_hex(s, &e->guid);
}

/* Adapters are known here by port GUID alone: one vertex per port. */
static uint32_t ports_vertex(struct topo_reading *r, const struct ports_end *e)
{
	uint32_t v = vertex(r->f, e->guid, e->is_switch, r->at);

	if (!e->is_switch)
		topo_map_set(&r->f->by_port_guid, e->guid, v);
	if (e->lid && e->lid <= LID_MAX) {
		topo_map_set(&r->f->by_lid, e->lid, v);
		topo_map_set(&r->f->lid_of, e->guid, (uint32_t)e->lid);
	}
	return v;
}

/* CA 1326 1 0x.. 4x EDR - SW 27 28 0x.. ( 'lassen28 HCA-2' - 'SwitchIB ..' ); without a peer only 'name' */
static int ports_line(struct topo_reading *r)
{
	struct topo_span s = r->line, t, name;
	struct ports_end here, there;
	struct topo_link *l;
	uint32_t a, b;

	if (!take_ports_end(&s, &here))
		return topo_complain(r, "a line of 'ibnetdiscover -p' gives type, LID, port and GUID");
	a = ports_vertex(r, &here);
	topo_skip_blanks(&s);
	t = s;
	l = link_add(r->f, a, here.port, r->at);
	if (!take_rate(&t, l))
		return topo_complain(r, "no width and speed");
	topo_skip_blanks(&t);
	if (topo_take(&t, "- ") && take_ports_end(&t, &there)) {
		b = ports_vertex(r, &there);
		l = &r->f->links[r->f->link_count - 1];
		l->peer_guid = there.guid;
		l->peer_port = (uint16_t)there.port;
		if (topo_take_past(&t, "( '")) {
			const char *middle = memmem(t.at, topo_span_length(t), "' - '", 5), *end;

			if (middle) {
				describe(r->f, a, (struct topo_span){ t.at, middle });
				t.at = middle + 5;
				end = memrchr(t.at, '\'', topo_span_length(t));
				describe(r->f, b, (struct topo_span){ t.at, end ? end : t.end });
			}
		}
	} else if (topo_take_past(&t, "'") && topo_take_word(&t, "'", &name)) {
		describe(r->f, a, name);
	}
	return OK;
}

static int ports_read(struct topo_reading *r)
{
	int rc = OK;

	while (!rc && topo_next_line(r)) {
		struct topo_span s = r->line;

		topo_skip_blanks(&s);
		if (topo_take(&s, "DR path") || s.at == s.end || *s.at == '#')
			continue;		/* progress lines of -s */
		rc = ports_line(r);
	}
	return rc;
}

/* ---- iblinkinfo -l ---- */

/* 0xguid "name" lid port[  ] ==( 4X 25.78125 Gbps Active/ LinkUp)==> 0xguid lid port[  ] "name" ( .. ) */
static int linkinfo_line(struct topo_reading *r)
{
	struct topo_span s = r->line, name, rate;
	uint64_t guid, lid = 0, port, width, peer, peer_port;
	struct topo_link *l;
	uint32_t node;
	const char *arrow = memmem(s.at, topo_span_length(s), "==(", 3);
	double signalling;

	if (!topo_take(&s, "0x") || !topo_take_hex(&s, &guid) || !arrow)
		return topo_complain(r, "a line of 'iblinkinfo -l' starts with a GUID and has an arrow");
	s.end = arrow;
	if (!take_quoted(&s, &name))
		return topo_complain(r, "no name in quotes");
	node = vertex(r->f, guid, true, r->at);
	describe(r->f, node, name);
	topo_skip_blanks(&s);
	if (topo_take_u64(&s, &lid) && lid && lid <= LID_MAX) {
		topo_map_set(&r->f->by_lid, lid, node);
		topo_map_set(&r->f->lid_of, guid, (uint32_t)lid);
	}
	topo_skip_blanks(&s);
	if (!topo_take_u64(&s, &port) || port > PORT_MAX)
		return topo_complain(r, "no port number");
	s = (struct topo_span){ arrow + 3, r->line.end };
	topo_skip_blanks(&s);
	rate = s;
	if (!topo_take_past(&s, "==>"))
		return topo_complain(r, "the arrow has no head");
	topo_skip_blanks(&s);
	if (!topo_take(&s, "0x") || !topo_take_hex(&s, &peer))
		return OK;				/* Down: no cable */
	l = link_add(r->f, node, port, r->at);
	l->peer_guid = peer;
	topo_skip_blanks(&s);
	topo_take_u64(&s, &lid);
	topo_skip_blanks(&s);
	if (topo_take_u64(&s, &peer_port) && peer_port <= PORT_MAX)
		l->peer_port = (uint16_t)peer_port;
	if (topo_take_u64(&rate, &width) && topo_take(&rate, "X") && width <= 16) {
		topo_skip_blanks(&rate);
		if (topo_take_real(&rate, &signalling)) {
			bool fdr10 = topo_span_has(rate, "(FDR10)");

			l->width = (uint8_t)width;
			for (size_t i = 0; i < ARRAY_LEN(lanes); i++)
				if (signalling > lanes[i].signalling * 0.98 &&
				    signalling < lanes[i].signalling * 1.02 && fdr10 == !strcmp(lanes[i].name, "FDR10"))
					l->lane_gbps = (float)lanes[i].gbps;
			if (fdr10 && l->lane_gbps == 0)
				l->lane_gbps = 1.25f;
			l->gbps = (float)width * l->lane_gbps;
		}
	}
	if (topo_take_past(&s, "\"")) {
		const char *end = memchr(s.at, '"', topo_span_length(s));
		uint32_t known = topo_map_get(&r->f->by_guid, peer);

		if (known == TOPO_NONE) {		/* a switch will say so itself */
			known = vertex(r->f, peer, false, r->at);
			topo_map_set(&r->f->by_port_guid, peer, known);
			if (lid && lid <= LID_MAX)
				topo_map_set(&r->f->lid_of, peer, (uint32_t)lid);
		}
		describe(r->f, known, (struct topo_span){ s.at, end ? end : s.end });
	}
	return OK;
}

static int linkinfo_read(struct topo_reading *r)
{
	struct topo_span all = r->rest, line;
	struct topo_map ports = { 0 };
	int rc = OK;

	while (topo_line(&all, &line)) {	/* who has several ports under one GUID is a switch */
		uint64_t guid;

		topo_skip_blanks(&line);
		if (topo_take(&line, "0x") && topo_take_hex(&line, &guid) && topo_span_has(line, "==("))
			topo_map_set(&ports, guid, topo_map_get(&ports, guid) == TOPO_NONE ? 1 : 2);
	}
	for (size_t i = 0; i < ports.room; i++)
		if (ports.slots[i].used) {
			uint32_t v = vertex(r->f, ports.slots[i].key, ports.slots[i].value > 1, r->at);

			if (ports.slots[i].value == 1)
				topo_map_set(&r->f->by_port_guid, ports.slots[i].key, v);
		}
	topo_map_release(&ports);
	while (!rc && topo_next_line(r)) {
		topo_skip_blanks(&r->line);
		if (r->line.at < r->line.end && *r->line.at != '#')
			rc = linkinfo_line(r);
	}
	return rc;
}

/* ---- .lst of ibdiagnet and opensm ---- */

struct lst_end {
	bool is_switch;
	uint64_t node_guid, port_guid, system_guid, lid, port;
	struct topo_span name;
};

static bool take_lst_end(struct topo_span *s, struct lst_end *e)
{
	static const struct { const char *key; size_t offset;
	} keys[] = {
		{ "SystemGUID:", offsetof(struct lst_end, system_guid) },
		{ "NodeGUID:", offsetof(struct lst_end, node_guid) },
		{ "PortGUID:", offsetof(struct lst_end, port_guid) },
	};
	struct topo_span t;

	topo_skip_blanks(s);
	if (!topo_take(s, "{ "))
		return false;
	e->is_switch = topo_take(s, "SW");
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (!topo_take_past(s, keys[i].key) || !topo_take_hex(s, (uint64_t *)((char *)e + keys[i].offset)))
			return false;
	if (!topo_take_past(s, " {"))
		return false;
	t = *s;
	if (!topo_take_past(&t, "} LID:"))
		return false;
	e->name = (struct topo_span){ s->at, t.at - strlen("} LID:") };
	if (!topo_take_hex(&t, &e->lid) || !topo_take_past(&t, "PN:") || !topo_take_hex(&t, &e->port) ||
	    e->port > PORT_MAX)
		return false;
	if (!topo_take_past(&t, "}"))
		return false;
	*s = t;
	return true;
}

static uint32_t lst_vertex(struct topo_reading *r, const struct lst_end *e)
{
	uint32_t v = vertex(r->f, e->node_guid, e->is_switch, r->at);

	r->f->nodes[v].system_guid = e->system_guid;
	topo_map_set(&r->f->by_system, e->system_guid, v);
	if (!e->is_switch)
		topo_map_set(&r->f->by_port_guid, e->port_guid, v);
	if (e->lid && e->lid <= LID_MAX) {
		topo_map_set(&r->f->by_lid, e->lid, v);
		topo_map_set(&r->f->lid_of, e->node_guid, (uint32_t)e->lid);
	}
	describe(r->f, v, e->name);
	return v;
}

static int lst_read(struct topo_reading *r)
{
	while (topo_next_line(r)) {
		struct topo_span s = r->line;
		struct lst_end a = { 0 }, b = { 0 };
		uint32_t from, to;
		uint64_t width, spd;
		double gbps = 0;

		topo_skip_blanks(&s);
		if (s.at == s.end || *s.at == '#')
			continue;
		if (!take_lst_end(&s, &a) || !take_lst_end(&s, &b))
			return topo_complain(r, "a line of a .lst file gives both ends in braces");
		from = lst_vertex(r, &a);
		to = lst_vertex(r, &b);
		if (!topo_take_past(&s, "PHY=") || !topo_take_u64(&s, &width) || width > 16)
			width = 4;
		if (topo_take_past(&s, "SPD=") && topo_take_u64(&s, &spd))
			for (size_t i = 0; i < ARRAY_LEN(lanes); i++)
				if (lanes[i].spd == (int)spd)
					gbps = lanes[i].gbps;
		for (int side = 0; side < 2; side++) {
			struct topo_link *l = link_add(r->f, side ? to : from, side ? b.port : a.port, r->at);

			l->peer_guid = side ? a.node_guid : b.node_guid;
			l->peer_port = (uint16_t)(side ? a.port : b.port);
			l->width = (uint8_t)width;
			l->lane_gbps = (float)gbps;
			l->gbps = (float)((double)width * gbps);
		}
	}
	return OK;
}

/* ---- which reader ---- */

enum kind {
	KIND_UNKNOWN, KIND_NETDISCOVER, KIND_PORTS, KIND_LINKINFO, KIND_LST, KIND_SLURM, KIND_SLURM_YAML, KIND_SLURM_ADDR,
};

static enum kind kind_of(struct topo_span rest)
{
	struct topo_span line;

	while (topo_line(&rest, &line)) {
		struct topo_span s = line, pair, key;
		uint64_t v;

		topo_take(&s, "\xef\xbb\xbf");
		topo_skip_blanks(&s);
		if (s.at == s.end)
			continue;
		if (topo_span_has(s, "Topology file: generated") || topo_span_has(s, "generated by IBDIAG") ||
		    topo_take(&s, "vendid=") || topo_take(&s, "sysimgguid="))
			return KIND_NETDISCOVER;
		pair = s;
		if (topo_take_word(&pair, "=", &key) && pair.at < pair.end && topo_span_is_caseless(key, "SwitchName"))
			return KIND_SLURM;
		if (topo_take(&s, "- topology:") || topo_take(&s, "tree:") || topo_take(&s, "block:"))
			return KIND_SLURM_YAML;
		if (topo_span_has(s, "SLURM_TOPOLOGY_ADDR="))
			return KIND_SLURM_ADDR;
		if (topo_take(&s, "{ CA Ports:") || topo_take(&s, "{ SW Ports:"))
			return KIND_LST;
		if (topo_take(&s, "DR path slid"))
			continue;
		if (topo_take(&s, "0x") && topo_take_hex(&s, &v) && topo_span_has(s, "==("))
			return KIND_LINKINFO;
		if (topo_take(&s, "CA ") || topo_take(&s, "SW ") || topo_take(&s, "RT "))
			return KIND_PORTS;
	}
	return KIND_UNKNOWN;
}

int topo_fabric_read(struct topo_fabric *f, const char *source, uint32_t file, const char *text, size_t bytes)
{
	enum { HEAD_BYTES = 4096 };		/* where a file says when it was written */
	struct topo_reading r = { .f = f, .source = source, .at = { .file = file }, .rest = { text, text + bytes } };
	static int (*const readers[])(struct topo_reading *) = {
		[KIND_NETDISCOVER] = netdiscover_read, [KIND_PORTS] = ports_read, [KIND_LINKINFO] = linkinfo_read,
		[KIND_LST] = lst_read, [KIND_SLURM] = topo_slurm_conf_read,
		[KIND_SLURM_YAML] = topo_slurm_yaml_read,
		[KIND_SLURM_ADDR] = topo_slurm_addr_read,
	};
	enum kind kind = kind_of(r.rest);
	struct topo_span head = { text, text + (bytes < HEAD_BYTES ? bytes : HEAD_BYTES) };

	if (kind == KIND_UNKNOWN)
		return err(FAILED,
			   "%s: neither ibnetdiscover, iblinkinfo -l, .lst, topology.conf, topology.yaml nor "
			   "SLURM_TOPOLOGY_ADDR",
			   source);
	if (topo_take_past(&head, "generated on "))
		topo_take_date(&head, &f->day);
	return readers[kind](&r);
}

/* ---- forwarding tables ---- */

bool topo_routes_are(const char *text, size_t bytes)
{
	return memmem(text, bytes < 65536 ? bytes : 65536, "Unicast lids [", 14) != NULL;
}

int topo_routes_read(struct topo_fabric *f, const char *source, uint32_t file, const char *text, size_t bytes)
{
	struct topo_reading r = { .f = f, .source = source, .at = { .file = file }, .rest = { text, text + bytes } };
	size_t tables = 0, now = SIZE_MAX;

	while (topo_next_line(&r)) {
		struct topo_span s = r.line;
		uint64_t guid, lid, port;
		uint32_t node;

		topo_skip_blanks(&s);
		if (topo_take(&s, "Unicast lids [")) {
			if (!topo_take_past(&s, " guid 0x") || !topo_take_hex(&s, &guid))
				return topo_complain(&r, "a table names its switch's GUID");
			node = vertex(f, guid, true, r.at);
			now = topo_map_get(&f->table_of, node);
			if (now == TOPO_NONE) {
				now = f->table_count;
				f->tables = topo_grow(f->tables, f->table_count++, &f->table_room, sizeof(*f->tables));
				memset(&f->tables[now], 0, sizeof(*f->tables));
				f->tables[now].node = node;
				topo_map_set(&f->table_of, node, (uint32_t)now);
			}
			tables++;
			continue;
		}
		if (!topo_take(&s, "0x"))
			continue;
		if (now == SIZE_MAX)
			return topo_complain(&r, "a route before any switch");
		if (!topo_take_hex(&s, &lid) || lid > LID_MAX)
			return topo_complain(&r, "no unicast LID");
		topo_skip_blanks(&s);
		if (!topo_take_u64(&s, &port) || port > PORT_MAX)
			return topo_complain(&r, "no output port");
		if (lid >= f->tables[now].lid_count) {
			size_t count = lid + 1 > 2 * f->tables[now].lid_count ? lid + 1 : 2 * f->tables[now].lid_count;
			uint8_t *ports = realloc(f->tables[now].ports, count);

			if (!ports)
				return err(NO_MEMORY, "no memory for a forwarding table");
			memset(ports + f->tables[now].lid_count, 255, count - f->tables[now].lid_count);
			f->tables[now].ports = ports;
			f->tables[now].lid_count = count;
		}
		f->tables[now].ports[lid] = (uint8_t)port;
	}
	return tables ? OK : err(FAILED, "%s: holds no forwarding table ('Unicast lids [...')", source);
}
