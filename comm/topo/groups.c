/*
 * comm/topo/groups.c - hosts under switches by name, as a scheduler tells them: no links, no speeds.
 *
 * Slurm's topology.conf, which sharp_cmd writes too, with port GUIDs for hosts; topology.yaml,
 * which takes its place in current Slurm; the address that Slurm gives to each process of a
 * job; and a rule for sites whose host names count through the racks.  Whether the groups can be
 * true is a rule's question.
 */
#include "comm/topo/reading.h"

#include "bench/base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOSTS_OF_LIST_MAX = 65536 };

/* Splits at commas outside brackets. */
static bool take_list_item(struct topo_span *s, struct topo_span *item)
{
	const char *p = s->at;
	int depth = 0;

	if (s->at == s->end)
		return false;
	for (; p < s->end && (depth || *p != ','); p++)
		depth += *p == '[' ? 1 : *p == ']' ? -1 : 0;
	*item = (struct topo_span){ s->at, p };
	s->at = p < s->end ? p + 1 : p;
	return true;
}

/* prefix[ranges]suffix, or a plain name. */
static bool expand_item(struct topo_span item, void (*each)(void *, const char *), void *user, size_t *budget)
{
	const char *open = memchr(item.at, '[', topo_span_length(item));
	const char *close = open ? memchr(open, ']', (size_t)(item.end - open)) : NULL;
	char name[256];

	if (topo_span_length(item) > 200 || (open && !close))
		return false;
	if (!open) {
		snprintf(name, sizeof(name), "%.*s", (int)topo_span_length(item), item.at);
		each(user, name);
		return (*budget)-- > 0;
	}
	for (struct topo_span ranges = { open + 1, close }, range; take_list_item(&ranges, &range);) {
		uint64_t low, high;
		int digits = (int)topo_span_length(range);

		if (!topo_take_u64(&range, &low))
			return false;
		digits -= (int)topo_span_length(range);
		high = low;
		if (topo_take(&range, "-") && !topo_take_u64(&range, &high))
			return false;
		if (range.at != range.end || high < low || high - low >= *budget)
			return false;
		*budget -= high - low + 1;
		for (uint64_t n = low; n <= high; n++) {
			snprintf(name, sizeof(name), "%.*s%0*llu%.*s", (int)(open - item.at), item.at,
				 digits > 20 ? 20 : digits, (unsigned long long)n, (int)(item.end - close - 1),
				 close + 1);
			each(user, name);
		}
	}
	return true;
}

bool topo_hostlist(struct topo_span list, void (*each)(void *user, const char *host), void *user)
{
	struct topo_span item;
	size_t budget = HOSTS_OF_LIST_MAX;
	bool good = true;

	while (good && take_list_item(&list, &item))
		if (topo_span_length(item))
			good = expand_item(item, each, user, &budget);
	return good;
}

static uint32_t group_named(struct topo_fabric *f, const char *name, struct topo_at at)
{
	for (size_t i = 0; i < f->group_count; i++)
		if (f->groups[i].name == name)
			return (uint32_t)i;
	TOPO_PUSH(f->groups, f->group_count, f->group_room) = (struct topo_group){ .name = name, .parent = TOPO_NONE,
										   .at = at };
	return (uint32_t)f->group_count - 1;
}

struct joining {
	struct topo_reading *r;
	uint32_t group;
};

static void join_host(void *user, const char *host)
{
	struct joining *j = user;
	struct topo_fabric *f = j->r->f;
	const char *name = topo_name_of(f->names, host);

	f->members = topo_grow(f->members, f->member_count, &f->member_room, sizeof(*f->members));
	f->members[f->member_count].host = name;
	f->members[f->member_count].group = j->group;
	f->members[f->member_count++].at = j->r->at;
}

static void join_switch(void *user, const char *child)
{
	struct joining *j = user;
	uint32_t group = group_named(j->r->f, topo_name_of(j->r->f->names, child), j->r->at);

	if (group != j->group)
		j->r->f->groups[group].parent = j->group;
}

/* The next line as Slurm reads it: without its comment, and where it ends in a backslash with the line behind it. */
static bool next_joined(struct topo_reading *r, char *joined)
{
	size_t bytes = 0, length;
	bool any = false, more = true;

	while (more && topo_next_line(r)) {
		const char *comment = memchr(r->line.at, '#', topo_span_length(r->line));
		const char *end = comment ? comment : r->line.end;

		while (end > r->line.at && (end[-1] == ' ' || end[-1] == '\t'))
			end--;
		more = end > r->line.at && end[-1] == '\\';
		length = (size_t)(end - r->line.at) - more;
		memcpy(joined + bytes, r->line.at, length);
		bytes += length;
		any = true;
	}
	r->line = (struct topo_span){ joined, joined + bytes };
	return any;
}

static int conf_line(struct topo_reading *r)
{
	struct topo_span s = r->line, word, key;
	struct joining j = { .r = r, .group = TOPO_NONE };

	for (;;) {
		topo_skip_blanks(&s);
		if (!topo_take_word(&s, " \t", &word))
			return OK;
		if (!topo_take_word(&word, "=", &key) || !topo_take(&word, "="))
			return topo_complain(r, "topology.conf has key=value pairs");
		if (topo_span_is_caseless(key, "SwitchName")) {
			j.group = group_named(r->f, topo_name(r->f->names, word), r->at);
			r->f->groups[j.group].at = r->at;
		} else if (topo_span_is_caseless(key, "Nodes") || topo_span_is_caseless(key, "Switches")) {
			bool nodes = topo_span_is_caseless(key, "Nodes");

			if (j.group == TOPO_NONE)
				return topo_complain(r, "Nodes= or Switches= before SwitchName=");
			if (!topo_hostlist(word, nodes ? join_host : join_switch, &j))
				return topo_complain(r, "malformed host list");
		}
	}
}

int topo_slurm_conf_read(struct topo_reading *r)
{
	char *joined = topo_alloc(topo_span_length(r->rest), 1);
	int rc = OK;

	while (!rc && next_joined(r, joined))
		rc = conf_line(r);
	free(joined);
	return rc;
}

/* "SLURM_TOPOLOGY_ADDR=top.leaf.node" as a job's environment has it, a line per host, with anything in front: switches
 * from the top down, then the host. */
int topo_slurm_addr_read(struct topo_reading *r)
{
	struct topo_map seen = { 0 };		/* a host says it once per rank */

	while (topo_next_line(r)) {
		struct topo_span s = r->line, part, host;
		struct joining j = { .r = r, .group = TOPO_NONE };
		const char *dot, *name;

		if (!topo_take_past(&s, "SLURM_TOPOLOGY_ADDR="))
			continue;
		while (s.end > s.at && strchr("\"' \t", s.end[-1]))
			s.end--;
		for (dot = s.end; dot > s.at && dot[-1] != '.'; dot--)
			;
		host = (struct topo_span){ dot, s.end };
		s.end = dot;
		while (topo_take_word(&s, ".", &part) && topo_take(&s, ".")) {
			uint32_t group = group_named(r->f, topo_name(r->f->names, part), r->at);

			if (j.group != TOPO_NONE && group != j.group)
				r->f->groups[group].parent = j.group;
			j.group = group;
		}
		if (s.at < s.end || host.at == host.end || j.group == TOPO_NONE) {
			topo_map_release(&seen);
			return topo_complain(r, "an address is SWITCH.SWITCH.HOST");
		}
		name = topo_name(r->f->names, host);
		if (topo_map_get(&seen, (uintptr_t)name) != TOPO_NONE)
			continue;
		topo_map_set(&seen, (uintptr_t)name, j.group);
		join_host(&j, name);
	}
	topo_map_release(&seen);
	r->f->groups_of_job = true;
	return OK;
}

/* "- key: value" or "key: value", quoted or not; false: another kind of line. */
static bool take_pair(struct topo_span s, struct topo_span *key, struct topo_span *value, bool *item)
{
	topo_skip_blanks(&s);
	*item = topo_take(&s, "-");
	topo_skip_blanks(&s);
	if (!topo_take_word(&s, ": \t#", key) || !topo_take(&s, ":"))
		return false;
	topo_skip_blanks(&s);
	for (const char *p = s.at; p < s.end; p++)
		if (*p == '#' && (p == s.at || p[-1] == ' '))
			s.end = p;
	while (s.end > s.at && strchr(" \t\"'", s.end[-1]))
		s.end--;
	while (s.at < s.end && strchr("\"'", *s.at))
		s.at++;
	*value = s;
	return true;
}

/* Of the YAML only what its manual page shows: items of one key per line.  A tree gives groups with parents, a
 * block groups without; of several topologies the first that has either. */
int topo_slurm_yaml_read(struct topo_reading *r)
{
	struct joining j = { .r = r, .group = TOPO_NONE };
	size_t before = r->f->group_count;

	while (topo_next_line(r)) {
		struct topo_span key, value;
		bool item;

		if (!take_pair(r->line, &key, &value, &item))
			continue;
		if (topo_span_is(key, "topology")) {
			if (r->f->group_count > before)
				break;
		} else if (topo_span_is(key, "switch") || topo_span_is(key, "block")) {
			if (!item)
				continue;
			if (value.at == value.end)
				return topo_complain(r, "a group without a name");
			j.group = group_named(r->f, topo_name(r->f->names, value), r->at);
			r->f->groups[j.group].at = r->at;
		} else if (topo_span_is(key, "nodes") || topo_span_is(key, "children")) {
			bool nodes = topo_span_is(key, "nodes");

			if (j.group == TOPO_NONE)
				return topo_complain(r, "nodes or children before a switch or block; only topologies of those are read");
			if (!topo_hostlist(value, nodes ? join_host : join_switch, &j))
				return topo_complain(r, "malformed host list");
		}
	}
	return r->f->group_count > before
		       ? OK
		       : err(FAILED, "%s: a topology.yaml without a tree or block topology", r->source);
}

int topo_rack_rule_parse(struct topo_rack_rule *rule, const char *text)
{
	const char *number = strstr(text, "%d"), *slash = number ? strrchr(number, '/') : NULL;
	uint64_t hosts;
	struct topo_span s = { slash ? slash + 1 : text, text + strlen(text) };

	if (!slash || !topo_take_u64(&s, &hosts) || s.at != s.end || !hosts || hosts > HOSTS_OF_LIST_MAX)
		return err(USAGE, "--rack-rule: '%s' is not NAME%%d/HOSTS, such as g%%d/34", text);
	*rule = (struct topo_rack_rule){ .before = { text, number }, .after = { number + 2, slash }, .hosts = hosts };
	return OK;
}

/* g0035 under g%d/34 is the first host of rack 2. */
void topo_rack_rule_join(struct topo_fabric *f, const struct topo_rack_rule *rule, const char *host)
{
	struct topo_reading r = { .f = f };
	struct joining j = { .r = &r };
	struct topo_span s = { host, host + strlen(host) };
	size_t before = topo_span_length(rule->before), after = topo_span_length(rule->after);
	uint64_t number;
	char rack[32];

	if (topo_span_length(s) < before || memcmp(s.at, rule->before.at, before))
		return;
	s.at += before;
	if (!topo_take_u64(&s, &number) || !number || topo_span_length(s) < after || memcmp(s.at, rule->after.at, after))
		return;
	snprintf(rack, sizeof(rack), "rack %llu", (unsigned long long)((number - 1) / rule->hosts + 1));
	j.group = group_named(f, topo_name_of(f->names, rack), r.at);
	join_host(&j, host);
	f->groups_of_job = true;
}
