/*
 * bench/topo.c - `sfscale topo`: NCCL's rings against the node and the fabric.
 *
 * Any subset of inputs gives the verdict that it allows.  Needs no GPU, no network and no
 * running job.  Exit status 3: at least one finding of severity error.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/commands.h"
#include "comm/topo/diff.h"
#include "comm/topo/draw.h"
#include "comm/topo/preset.h"
#include "comm/topo/verdict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct topo_options {
	struct opt_names logs, hwloc, fabric, routes, sysfs, diff;
	const char *nccl_topo, *nccl_graph, *rack_rule, *hosts, *measured, *out;
	const char *generate, *order;
	uint64_t nodes, seed;
	double nic_gbps;
	bool asymmetric, live, adaptive, json, all;
};

#define AT(field) offsetof(struct topo_options, field)
static const struct opt opts[] = {
	{ "nccl-log", OPT_NAMES, AT(logs), NULL, "NCCL or RCCL logs (NCCL_DEBUG=INFO), plain or gzip", NULL },
	{ "nccl-topo", OPT_NAME, AT(nccl_topo), NULL, "what NCCL_TOPO_FILE or NCCL_TOPO_DUMP_FILE names", NULL },
	{ "nccl-graph", OPT_NAME, AT(nccl_graph), NULL, "what NCCL_GRAPH_FILE or NCCL_GRAPH_DUMP_FILE names", NULL },
	{ "hwloc", OPT_NAMES, AT(hwloc), NULL, "hwloc XML of hosts, or one for all", NULL },
	{ "live", OPT_BOOL, AT(live), "no", "read this machine with hwloc and sysfs", NULL },
	{ "sysfs", OPT_NAMES, AT(sysfs), NULL,
	  "'HOST: /sys/class/infiniband/...:value' lines (see README), gathered before and after the run", NULL },
	{ "fabric", OPT_NAMES, AT(fabric), NULL,
	  "ibnetdiscover (also -p), iblinkinfo -l, .lst, topology.conf or .yaml, each host's SLURM_TOPOLOGY_ADDR=",
	  NULL },
	{ "routes", OPT_NAMES, AT(routes), NULL, "forwarding tables: dump_fts, ibroute, opensm's dump", NULL },
	{ "adaptive-routing", OPT_BOOL, AT(adaptive), "no",
	  "switches choose ways themselves: --routes says what would be without", NULL },
	{ "rack-rule", OPT_NAME, AT(rack_rule), NULL,
	  "racks from host names where no file tells: g%d/34 puts g0001 to g0034 into the first", NULL },
	{ "hosts", OPT_NAME, AT(hosts), NULL, "instead of a log: hosts in rank order, to judge a job before it runs",
	  NULL },
	{ "measured", OPT_NAME, AT(measured), NULL, "bus bandwidth in GB/s, or a table or JSON of nccl-tests", NULL },
	{ "nic-gbps", OPT_F64, AT(nic_gbps), "0", "rate of a NIC one way, in GB/s, where no input tells", NULL },
	{ "json", OPT_BOOL, AT(json), "no", "print JSON instead of text", NULL },
	{ "all", OPT_BOOL, AT(all), "no", "print also what is ok, and every NIC and host", NULL },
	{ "diff", OPT_NAMES, AT(diff), NULL, "two logs: what the runs chose differently", NULL },
	{ "generate", OPT_NAME, AT(generate), NULL, "write a machine and a plan into --out instead of judging",
	  "abci-v|superpod|lassen" },
	{ "nodes", OPT_U64, AT(nodes), "68", "hosts of the plan", NULL },
	{ "order", OPT_NAME, AT(order), "contiguous", "their order in the plan",
	  "contiguous|shuffled|alternating|twice" },
	{ "seed", OPT_U64, AT(seed), "1", "of a shuffled order", NULL },
	{ "asymmetric", OPT_BOOL, AT(asymmetric), "no", "even channels of the plan leave on the next NIC", NULL },
	{ "out", OPT_NAME, AT(out), NULL,
	  "folder for verdict.json, ring.svg, nics.svg, hostfile, rankfile, slurm_hostfile, hosts.txt", NULL },
};

static int run_topo(int argc, char **argv);

const struct command command_topo = {
	.name = "topo", .operands = "FILE...",
	.summary = "NCCL's rings against node and fabric: faults, bounds, and the order that mends",
	.opts = opts, .opt_count = ARRAY_LEN(opts), .run = run_topo,
};

static int read_names(struct topo_model *m, const struct opt_names *names, enum topo_input input)
{
	int rc = OK;

	for (size_t i = 0; i < names->count && !rc; i++)
		rc = topo_model_read(m, names->at[i], input);
	return rc;
}

/* The host list last: it is placed into the fabric. */
static int read_all(struct topo_model *m, const struct topo_options *o, const char **operands, size_t operand_count)
{
	int rc = OK;

	for (size_t i = 0; i < operand_count && !rc; i++)
		rc = topo_model_read(m, operands[i], INPUT_AUTO);
	rc = rc ? rc : read_names(m, &o->logs, INPUT_LOG);
	rc = rc ? rc : read_names(m, &o->hwloc, INPUT_HWLOC);
	if (!rc && o->nccl_topo)
		rc = topo_model_read(m, o->nccl_topo, INPUT_NCCL_XML);
	if (!rc && o->nccl_graph)
		rc = topo_model_read(m, o->nccl_graph, INPUT_GRAPH);
	if (!rc && o->live)
		rc = topo_model_live(m);
	rc = rc ? rc : read_names(m, &o->sysfs, INPUT_SYSFS);
	rc = rc ? rc : read_names(m, &o->fabric, INPUT_FABRIC);
	rc = rc ? rc : read_names(m, &o->routes, INPUT_ROUTES);
	if (!rc && o->hosts)
		rc = topo_model_read(m, o->hosts, INPUT_HOSTS);
	if (!rc && !m->log.file_count && !m->node_count)
		rc = err(USAGE, "topo: no input ('sfscale topo --help' lists what it reads)");
	return rc;
}

/* What cannot be told, a line per input that would tell. */
static void print_untold(const struct topo_findings *all)
{
	for (size_t i = 0; i < all->count; i++) {
		const struct topo_finding *f = &all->at[i];
		bool said = f->verdict != TOPO_CANNOT_TELL;

		for (size_t k = 0; k < i && !said; k++)
			said = all->at[k].verdict == TOPO_CANNOT_TELL && !strcmp(all->at[k].missing, f->missing);
		if (said)
			continue;
		printf("?        %s", f->what);
		for (size_t k = i; k < all->count; k++)
			if (all->at[k].verdict == TOPO_CANNOT_TELL && !strcmp(all->at[k].missing, f->missing))
				printf("%s%s", k == i ? ": " : ", ", all->at[k].rule->name);
		printf("\n         would tell: %s\n", f->missing);
	}
}

static void print_findings(const struct topo_model *m, const struct topo_report *r, bool all)
{
	static const char *const heads[] = { "info", "warning", "ERROR" };
	size_t ok = 0, untold = 0;

	for (size_t i = 0; i < r->findings.count; i++) {
		const struct topo_finding *f = &r->findings.at[i];
		char place[160];

		ok += f->verdict == TOPO_OK;
		untold += f->verdict == TOPO_CANNOT_TELL;
		if (f->verdict == TOPO_NOT_APPLICABLE || f->verdict == TOPO_CANNOT_TELL ||
		    (f->verdict == TOPO_OK && !all))
			continue;
		printf("%-8s %s: %s\n", f->verdict == TOPO_FAULT ? heads[f->severity] : "ok", f->rule->name, f->what);
		if (f->verdict == TOPO_FAULT && f->comms > 1)
			printf("         the same in %zu communicators\n", f->comms);
		for (size_t k = 0; k < f->evidence_count && k < EVIDENCE_MAX && f->verdict == TOPO_FAULT; k++)
			printf("%s%s", k ? " " : "         see ",
			       topo_place(&m->log, f->evidence[k], place, sizeof(place)));
		if (f->evidence_count && f->verdict == TOPO_FAULT)
			printf(f->evidence_count > EVIDENCE_MAX ? " (%zu in all)\n" : "\n", f->evidence_count);
		if (f->verdict == TOPO_FAULT && f->now_gbps > 0 && f->mended_gbps > f->now_gbps)
			printf("         costs: bound %.1f GB/s, %.1f when mended\n", f->now_gbps, f->mended_gbps);
		if (*f->advice && f->verdict == TOPO_FAULT)
			printf("         do: %s\n", f->advice);
	}
	print_untold(&r->findings);
	printf("%zu errors, %zu warnings, %zu infos; %zu ok, %zu cannot tell%s\n", r->faults[TOPO_ERROR],
	       r->faults[TOPO_WARNING], r->faults[TOPO_INFO], ok, untold, all ? "" : " (--all shows what is ok)");
}

static void print_text(const struct topo_model *m, const struct topo_report *r, bool all)
{
	if (m->log.version)
		printf("NCCL %s, %zu host%s, %zu messages in %zu lines\n\n", m->log.version, m->log.host_count,
		       m->log.host_count == 1 ? "" : "s", m->log.messages, m->log.lines);
	for (size_t i = 0; i < VERDICT_TABLES; i++) {
		const struct table *t = &r->tables[i];
		bool long_one = i == VERDICT_NICS || i == VERDICT_ORDER || i == VERDICT_HOPS;

		if (i == VERDICT_FINDINGS) {
			print_findings(m, r, all);
			printf("\n");
			continue;
		}
		if (!table_rows(t) || (i == VERDICT_MENDS && !r->main.bounds.count))
			continue;
		if (long_one && !all && table_rows(t) > 24) {
			printf("%s: %zu rows (--all, --json or --out show them)\n\n", t->title, table_rows(t));
			continue;
		}
		table_print_text(t, stdout);
		printf("\n");
	}
	printf("%s\n", r->summary);
}

static cJSON *verdict_json(const struct topo_model *m, const struct topo_report *r)
{
	cJSON *out = cJSON_CreateObject(), *inputs = cJSON_AddArrayToObject(out, "inputs"), *count, *fields;

	cJSON_AddNumberToObject(out, "schema", 1);
	for (size_t i = 0; i < m->log.file_count; i++)
		cJSON_AddItemToArray(inputs, cJSON_CreateString(m->log.files[i]));
	if (m->log.version)
		cJSON_AddStringToObject(out, "nccl", m->log.version);
	cJSON_AddStringToObject(out, "summary", r->summary);
	count = cJSON_AddObjectToObject(out, "faults");
	for (size_t i = 0; i < ARRAY_LEN(r->faults); i++)
		cJSON_AddNumberToObject(count, topo_severity_names[i], (double)r->faults[i]);
	if (r->measured_gbps > 0)
		cJSON_AddNumberToObject(out, "measured_gbps", r->measured_gbps);
	for (size_t i = 0; i < VERDICT_TABLES; i++)
		cJSON_AddItemToObject(out, r->tables[i].name, table_json(&r->tables[i]));
	fields = cJSON_AddObjectToObject(out, "fields");
	for (size_t i = 0; i < VERDICT_TABLES; i++)
		cJSON_AddItemToObject(fields, r->tables[i].name, table_fields_json(&r->tables[i]));
	return out;
}

static int write_out(const struct topo_model *m, const struct topo_report *r, const char *folder)
{
	char path[PATH_BYTES];
	cJSON *json;
	int rc = dir_make(folder);

	rc = rc ? rc : path_make(path, "%s/verdict.json", folder);
	if (rc)
		return rc;
	json = verdict_json(m, r);
	rc = json_write(path, json);
	cJSON_Delete(json);
	if (!rc && r->main.c && r->main.host_count > 1) {
		rc = topo_order_write(m, r->main.c, r->main.hosts, r->main.host_count, folder);
		rc = rc ? rc : topo_draw(&r->main, folder);
	}
	return rc;
}

static int generate(const struct topo_options *o)
{
	const struct topo_preset *p = topo_preset_find(o->generate);
	enum topo_order_kind kind = ORDER_CONTIGUOUS;
	int rc;

	if (!o->out)
		return err(USAGE, "topo: --generate wants --out FOLDER");
	if (!o->nodes || o->nodes > p->hosts_max)
		return err(USAGE, "--nodes: %s has 1 to %zu hosts", p->name, p->hosts_max);
	while (strcmp(topo_order_names[kind], o->order))
		kind++;
	rc = topo_preset_write(p, kind, o->nodes, o->seed, o->asymmetric, o->out);
	if (!rc)
		printf("%s, %llu hosts %s: now try 'sfscale topo %s/nccl.log --fabric %s/fabric.ibnetdiscover'\n",
		       p->name, (unsigned long long)o->nodes, o->order, o->out, o->out);
	return rc;
}

static int diff(const struct topo_options *o)
{
	struct topo_model m[2] = { { .has_log = false }, { .has_log = false } };
	struct table t;
	size_t differ;
	cJSON *json;
	char *text;
	int rc = OK;

	if (o->diff.count != 2)
		return err(USAGE, "--diff wants two logs");
	for (size_t i = 0; i < 2 && !rc; i++) {
		rc = topo_model_read(&m[i], o->diff.at[i], INPUT_LOG);
		if (!rc)
			topo_model_settle(&m[i]);
	}
	if (!rc) {
		differ = topo_diff(&t, &m[0], &m[1]);
		json = o->json ? table_json(&t) : NULL;
		text = json ? cJSON_Print(json) : NULL;
		if (o->json)
			printf("%s\n", text ? text : "");
		else
			table_print_text(&t, stdout);
		if (!o->json)
			printf("\n%zu aspects differ\n", differ);
		free(text);
		cJSON_Delete(json);
		table_release(&t);
	}
	topo_model_release(&m[0]);
	topo_model_release(&m[1]);
	return rc;
}

static int run_topo(int argc, char **argv)
{
	static struct topo_options o;		/* 40 KB of names */
	const char **operands = calloc((size_t)argc + 1, sizeof(*operands));
	struct topo_model m = { 0 };
	struct topo_report r;
	double measured = 0;
	size_t operand_count;
	cJSON *json;
	char *text;
	int rc;

	if (!operands)
		return err(NO_MEMORY, "no memory for options");
	rc = opt_parse(&command_topo, &o, argc, argv, operands, &operand_count);
	if (!rc && (o.generate || o.diff.count)) {
		if (operand_count)
			rc = err(USAGE, "topo: --%s reads no '%s'", o.generate ? "generate" : "diff", operands[0]);
		else
			rc = o.generate ? generate(&o) : diff(&o);
		free(operands);
		return rc;
	}
	if (!rc && o.measured)
		rc = topo_measured(o.measured, &measured);
	if (!rc && o.rack_rule)
		rc = topo_rack_rule_parse(&m.rack_rule, o.rack_rule);
	rc = rc ? rc : read_all(&m, &o, operands, operand_count);
	free(operands);
	if (rc) {
		topo_model_release(&m);
		return rc;
	}
	m.nic_gbps = o.nic_gbps;
	m.adaptive = o.adaptive;
	topo_model_settle(&m);
	topo_report_make(&r, &m, measured);
	if (o.json) {
		json = verdict_json(&m, &r);
		text = cJSON_Print(json);
		printf("%s\n", text ? text : "");
		free(text);
		cJSON_Delete(json);
	} else {
		print_text(&m, &r, o.all);
	}
	if (o.out)
		rc = write_out(&m, &r, o.out);
	if (!rc && r.faults[TOPO_ERROR])
		rc = BELOW;
	topo_report_release(&r);
	topo_model_release(&m);
	return rc;
}
