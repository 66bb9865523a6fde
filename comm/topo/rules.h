/*
 * comm/topo/rules.h - what can be wrong between rings, nodes and fabric, one name per thing.
 *
 * A rule is a row; its judge answers ok, fault, not applicable or cannot tell (and which file
 * would tell), with the lines that prove it.  Silence on a healthy machine is half of the
 * purpose: where evidence is missing the answer is "cannot tell", never a fault.
 */
#ifndef SFSCALE_COMM_TOPO_RULES_H
#define SFSCALE_COMM_TOPO_RULES_H

#include "comm/topo/bounds.h"

enum topo_verdict { TOPO_OK, TOPO_FAULT, TOPO_NOT_APPLICABLE, TOPO_CANNOT_TELL };
enum topo_severity { TOPO_INFO, TOPO_WARNING, TOPO_ERROR };
extern const char *const topo_verdict_names[], *const topo_severity_names[];

enum { EVIDENCE_MAX = 4 };

struct topo_finding {
	const struct topo_rule *rule;
	enum topo_verdict verdict;
	enum topo_severity severity;
	char what[512];			/* one sentence of fact */
	char advice[512];		/* one sentence to follow; "" */
	char missing[128];		/* cannot tell: what would */
	struct topo_at evidence[EVIDENCE_MAX];
	size_t evidence_count;		/* all of them, more than fit */
	double now_gbps, mended_gbps;	/* bus bandwidth bound with the fault and without; 0: not in numbers */
	const char *comm;		/* id of the communicator judged; NULL: the whole job */
	size_t comms;			/* how many communicators gave this same answer */
};

struct topo_judging {
	const struct topo_model *m;
	const struct topo_comm *c;	/* NULL for rules of the job */
	struct topo_flows flows, sorted_flows;
	struct topo_bounds bounds, sorted;	/* now, and with hosts in the order that crosses least */
	double even, even_sorted; /* ideal bounds with channels even over all NICs of the kind in use; 0: unknown */
	uint32_t *hosts;		/* that order */
	size_t host_count;
};

struct topo_rule {
	const char *name, *ids;		/* ours, and the specifications' */
	const char *meaning;
	bool of_comm;
	void (*judge)(const struct topo_judging *, struct topo_finding *);
};
extern const struct topo_rule topo_rules[];
extern const size_t topo_rule_count;

struct topo_findings {
	struct topo_finding *at;
	size_t count, room;
};

void topo_judging_init(struct topo_judging *, const struct topo_model *, const struct topo_comm *);
void topo_judging_release(struct topo_judging *);

/* Judges every rule; worst first. */
void topo_judge(const struct topo_model *, struct topo_findings *);
void topo_findings_release(struct topo_findings *);
/* The answer of a rule: the worst one when several communicators differ; NULL: no such rule. */
const struct topo_finding *topo_finding_of(const struct topo_findings *, const char *rule);

#endif
