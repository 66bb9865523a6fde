/*
 * tests/test_topo_data.c - real logs, layouts and fabrics get the verdicts that their indexes expect.
 *
 * The folder is not part of the sources; without it everything here is skipped.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "comm/topo/verdict.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define DATA "../shared/data/"

static void need_data(void)
{
	if (access(DATA "nccl/INDEX.tsv", R_OK) == 0)
		return;
	print_message("SKIP: no folder " DATA "\n");
	skip();
}

/* "file file ..." of one folder, read by content. */
static int model_of(struct topo_model *m, const char *folder, const char *files)
{
	char list[512], path[PATH_BYTES], *save = NULL;
	int rc = OK;

	snprintf(list, sizeof(list), "%s", files);
	*m = (struct topo_model){ 0 };
	for (char *file = strtok_r(list, " ", &save); file && !rc; file = strtok_r(NULL, " ", &save)) {
		snprintf(path, sizeof(path), DATA "%s/%s", folder, file);
		rc = topo_model_read(m, path, INPUT_AUTO);
	}
	if (!rc)
		topo_model_settle(m);
	return rc;
}

/* Exactly these rules find a fault ("a b c"), and these cannot tell for want of evidence in the log. */
static void real_logs_and_files_of_nccl_get_their_expected_faults_and_no_other(void **state)
{
	static const struct {
		const char *file, *faults;
		size_t net, crossed, hosts, channels;
		const char *untold;
	} rows[] = {
		{ "log02_v100x16_4node_opa_2.10.3.txt", "nic-hop nic-balance nic-idle gdr", 40, 8, 4, 4, "" },
		{ "log04_v100x4_1node_16gb_2.7.8.txt", "", 0, 0, 1, 12, "" },
		{ "log11_a100x2_sendrecv_2.20.5.txt", "", 0, 0, 1, 24, "" },
		{ "log13_polaris_awsofi_2025_2.20.5.txt", "", 11, 0, 2, 4, "log-form" },
		{ "log15_polaris_socket_bond_2.20.5.txt", "socket-fallback", 12, 0, 2, 4, "" },
		{ "log17_polaris_resnet_awsofi_partial_2.20.5.txt", "comm-complete", 10, 0, 2, 4,
		  "log-form ring-contiguous" },
		{ "log21_mlperf11_dell_dss8440_8xA100pcie_2.11.4.txt", "p2p-limited", 0, 0, 1, 2, "" },
		{ "log22_mlperf20_azure_n1_rnnt_good_2.12.10.txt", "", 0, 0, 1, 24, "" },
		{ "log23_mlperf20_azure_n1_rnnt_p2ploc_2.12.10.txt", "p2p-limited", 0, 0, 1, 2, "" },
		{ "log25_mlperf20_azure_n2_ssd_2.12.10.txt", "sharp", 96, 0, 2, 24, "" },
		{ "log30_mlperf31_dell_2xXE8640_bert_pxn_2.18.5.txt", "", 64, 0, 2, 16, "" },
		{ "log34_mlperf50_dell_XE9680_H200_retinanet_2.22.3.txt", "", 0, 0, 1, 24, "" },
		{ "log36_mlperf51_dell_2xB200_lora_mixed_ib_roce_2.27.7.txt", "nic-mix", 128, 0, 2, 32, "" },
		{ "log41_k8s_roce_8pod_2.4.8.txt", "nic-names gdr node-count nic-distance", 8, 7, 8, 1, "nic-hop" },
		{ "log44_efa_p4d_2node_2.9.9.txt", "", 32, 0, 2, 8, "" },
		{ "graph01_azure_ncv4_graph.xml", "", 0, 0, 0, 0, "" },
		{ "xml01_azure_ndv4_topo.xml", "", 0, 0, 0, 0, "" },
		{ "xml04_azure_ncv4_topo.xml", "nccl-topo-file", 0, 0, 0, 0, "" },
		{ "xml06_aws_p4d_topo.xml", "", 0, 0, 0, 0, "" },
		{ "xml22_mlperf_dell_xe8545_dupbusid.xml", "nccl-topo-file", 0, 0, 0, 0, "" },
	};

	(void)state;
	need_data();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct topo_findings all;
		struct topo_model m;
		size_t net = 0, crossed = 0;

		assert_int_equal(model_of(&m, "nccl", rows[i].file), OK);
		topo_judge(&m, &all);
		for (size_t k = 0; k < all.count; k++) {
			const struct topo_finding *f = &all.at[k];

			if ((f->verdict == TOPO_FAULT) != (strstr(rows[i].faults, f->rule->name) != NULL) &&
			    f->verdict == TOPO_FAULT)
				fail_msg("%s: %s: %s", rows[i].file, f->rule->name, f->what);
		}
		for (size_t k = 0; k < topo_rule_count; k++) {
			const struct topo_finding *f = topo_finding_of(&all, topo_rules[k].name);
			const char *at = strstr(rows[i].faults, topo_rules[k].name);
			size_t n = strlen(topo_rules[k].name);

			if (at && (at[n] == ' ' || !at[n]) && (at == rows[i].faults || at[-1] == ' '))
				if (!f || f->verdict != TOPO_FAULT)
					fail_msg("%s: no fault %s: %s", rows[i].file, topo_rules[k].name,
						 f ? f->what : "");
			at = strstr(rows[i].untold, topo_rules[k].name);
			if (at && (at[n] == ' ' || !at[n]))
				assert_true(f && f->verdict == TOPO_CANNOT_TELL);
		}
		if (m.log.comm_count) {
			const struct topo_comm *c = &m.log.comms[0];

			for (size_t k = 0; k < c->edge_count; k++) {
				const struct topo_edge *e = &c->edges[k];

				net += e->via == TOPO_VIA_NET;
				crossed += e->via == TOPO_VIA_NET &&
					   m.log.nics[e->send.nic].name != m.log.nics[e->recv.nic].name;
			}
			assert_int_equal(net, rows[i].net);
			assert_int_equal(crossed, rows[i].crossed);
			assert_int_equal(c->host_count, rows[i].hosts);
			assert_int_equal(c->channel_count, rows[i].channels);
		}
		topo_findings_release(&all);
		topo_model_release(&m);
	}
}

static void every_ring_edge_of_the_key_case_is_judged_as_its_index_says(void **state)
{
	struct topo_model m;
	const struct topo_comm *c;
	size_t ring_net = 0;

	(void)state;
	need_data();
	assert_int_equal(model_of(&m, "nccl", "log02_v100x16_4node_opa_2.10.3.txt"), OK);
	c = &m.log.comms[0];
	for (size_t i = 0; i < c->edge_count; i++) {
		const struct topo_edge *e = &c->edges[i];
		bool crossed;

		if (e->via != TOPO_VIA_NET)
			continue;
		crossed = m.log.nics[e->send.nic].name != m.log.nics[e->recv.nic].name;
		ring_net += e->ring;
		assert_int_equal(crossed, e->ring && e->channel % 2 == 0);	/* tree edges are aligned */
		if (crossed) {
			assert_string_equal(m.log.nics[e->send.nic].name, "hfi1_3");
			assert_string_equal(m.log.nics[e->recv.nic].name, "hfi1_1");
		}
	}
	assert_int_equal(ring_net, 16);
	topo_model_release(&m);
}

static void a_ring_that_alternates_between_two_machines_of_pods_changes_them_six_times(void **state)
{
	struct topo_model m;
	struct topo_findings all;

	(void)state;
	need_data();
	assert_int_equal(model_of(&m, "nccl", "log41_k8s_roce_8pod_2.4.8.txt"), OK);
	topo_judge(&m, &all);
	assert_non_null(strstr(topo_finding_of(&all, "node-count")->what, "changes machines 6 times where 2 would do"));
	topo_findings_release(&all);
	topo_model_release(&m);
}

/* The table of switch 60 ends early: hosts that all seven tables know are followed from leaf to adapter, and with the
 * others the answer is that tables are missing. */
static void real_forwarding_tables_lead_every_hop_that_they_know_to_its_host(void **state)
{
	static const char *const tables[] = { "3", "4", "5", "58", "59", "60", "92" };

	(void)state;
	need_data();
	for (int known = 0; known < 2; known++) {
		struct topo_model m = { 0 };
		struct topo_judging j;
		struct topo_findings all;
		char path[PATH_BYTES], list[8192] = "";
		size_t hosts = 0;

		assert_int_equal(topo_model_read(&m, DATA "ib/plafrim2-truescale.ibnetdiscover-s-p.txt", INPUT_FABRIC),
				 OK);
		for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
			snprintf(path, sizeof(path), DATA "ib/plafrim2-ibroute/ibroute-fe80-0000-0000-0000-%s.txt",
				 tables[i]);
			assert_int_equal(topo_model_read(&m, path, INPUT_AUTO), OK);
		}
		assert_int_equal(m.fabric.table_count, ARRAY_LEN(tables));
		topo_fabric_settle(&m.fabric);
		for (size_t i = 0; i < m.fabric.node_count; i++) {
			const struct topo_vertex *v = &m.fabric.nodes[i];
			uint32_t lid = topo_map_get(&m.fabric.lid_of, v->guid);
			bool in_all = true;

			for (size_t t = 0; t < m.fabric.table_count; t++)
				in_all = in_all && lid < m.fabric.tables[t].lid_count &&
					 m.fabric.tables[t].ports[lid] != 255;
			if (strncmp(v->host, "miriel", 6) || v->rail || (known && !in_all))
				continue;
			snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s\n", v->host);
			hosts++;
		}
		assert_in_range(hosts, known ? 30 : 61, known ? 60 : 96);
		assert_int_equal(topo_model_take(&m, "hosts", list, strlen(list), INPUT_HOSTS), OK);
		topo_model_settle(&m);
		topo_judging_init(&j, &m, &m.log.comms[0]);
		assert_int_equal(j.flows.count, hosts);
		assert_int_equal(j.bounds.routed, known);
		if (known)
			assert_true(j.bounds.fixed > 0 && j.bounds.fixed <= j.bounds.ideal);
		topo_judge(&m, &all);
		assert_int_equal(topo_finding_of(&all, "static-collision")->verdict == TOPO_CANNOT_TELL, !known);
		topo_findings_release(&all);
		topo_judging_release(&j);
		topo_model_release(&m);
	}
}

static void real_node_layouts_have_their_measured_distances(void **state)
{
	static const struct {
		const char *file;
		size_t gpus, hcas;
		const char *first;
		int nvlinks;
		const char *faults;
	} rows[] = {
		{ "fluxcore-ipa20.xml", 4, 4, "PIX NODE* NODE* SYS", 6, "gpu-far port-active sub-numa" },
		{ "fluxsched-lassen6.xml", 4, 4, "NODE NODE SYS SYS", -1, "" },
		{ "hwloc-nvidiaDGX2.v2.xml", 16, 0, "", 6, "" },
		{ "mpibind-coral-lassen.xml", 4, 4, "NODE NODE SYS SYS", -1, "" },
		{ "mpibind-g4dnmetal.xml", 8, 1, "SYS", -1, "gpu-far" },
		{ "netloc-plafrim2-sirocco01.xml", 4, 1, "SYS", -1, "gpu-far" },
	};

	(void)state;
	need_data();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct topo_findings all;
		struct topo_model m;
		char first[64] = "";

		assert_int_equal(model_of(&m, "hwloc", rows[i].file), OK);
		assert_int_equal(m.nodes[0].gpu_count, rows[i].gpus);
		assert_int_equal(m.nodes[0].hca_count, rows[i].hcas);
		for (size_t h = 0; h < m.nodes[0].hca_count; h++)
			snprintf(first + strlen(first), sizeof(first) - strlen(first), "%s%s", h ? " " : "",
				 topo_class_names[m.nodes[0].gpu_hca[h]]);
		assert_string_equal(first, rows[i].first);
		assert_int_equal(m.nodes[0].nvlinks ? m.nodes[0].nvlinks[1] : -1, rows[i].nvlinks);
		topo_judge(&m, &all);
		for (size_t k = 0; k < all.count; k++)
			if (all.at[k].verdict == TOPO_FAULT && !strstr(rows[i].faults, all.at[k].rule->name))
				fail_msg("%s: %s: %s", rows[i].file, all.at[k].rule->name, all.at[k].what);
		topo_findings_release(&all);
		topo_model_release(&m);
	}
}

static void files_that_cannot_be_used_are_refused_with_the_reason(void **state)
{
	static const struct { const char *folder, *file, *says; } rows[] = {
		{ "hwloc", "hwloc-nvidia-dgx-gb10.v3.xml", "hwloc XML 3.0" },
		{ "hwloc", "netloc-avakas-node097.diff.xml", "difference" },
		{ "ib", "topograph-bad.ibnetdiscover.txt", "without one port" },
		{ "ib", "INDEX.tsv", "neither" },
	};

	(void)state;
	need_data();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct topo_model m;

		if (model_of(&m, rows[i].folder, rows[i].file) == OK) {
			topo_model_release(&m);		/* hwloc 3 reads the first */
			continue;
		}
		if (!strstr(err_last(), rows[i].says) || !strstr(err_last(), rows[i].file))
			fail_msg("'%s' does not say '%s'", err_last(), rows[i].says);
		topo_model_release(&m);
	}
}

static void real_fabrics_have_their_switches_and_their_one_swapped_cable(void **state)
{
	static const struct { const char *file; size_t switches, adapters, links, leaves, levels; } rows[] = {
		{ "lassen-cs7500-edr.ibnetdiscover.txt", 174, 1644, 6886, 84, 3 },
		{ "clova-dgxa100-hdr.ibnetdiscover.txt", 206, 1336, 7144, 58, 3 },
		{ "plafrim2-mlx.ibnetdiscover-s-p.txt", 1, 23, 59, 1, 1 },
		{ "plafrim2-truescale.ibnetdiscover-s-p.txt", 7, 96, 348, 5, 2 },
	};
	struct topo_model m;
	struct topo_findings all;
	const struct topo_finding *f;

	(void)state;
	need_data();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		size_t switches = 0;

		assert_int_equal(model_of(&m, "ib", rows[i].file), OK);
		for (size_t k = 0; k < m.fabric.node_count; k++)
			switches += m.fabric.nodes[k].is_switch;
		assert_int_equal(switches, rows[i].switches);
		assert_int_equal(m.fabric.node_count - switches, rows[i].adapters);
		assert_int_equal(m.fabric.link_count, rows[i].links);
		assert_int_equal(m.fabric.leaves, rows[i].leaves);
		assert_int_equal(m.fabric.levels, rows[i].levels);
		topo_judge(&m, &all);
		f = topo_finding_of(&all, "rail-cabling");
		if (i == 1) {
			assert_int_equal(f->verdict, TOPO_FAULT);
			assert_non_null(strstr(f->what, "2 HCAs"));
			assert_non_null(strstr(f->what, "pg-spd071 mlx5_1"));
			assert_non_null(strstr(f->what, "pg-spd071 mlx5_2"));
		} else {
			assert_int_not_equal(f->verdict, TOPO_FAULT);
		}
		assert_int_equal(topo_finding_of(&all, "link-degraded")->verdict, TOPO_OK);
		topo_findings_release(&all);
		topo_model_release(&m);
	}
	assert_int_equal(model_of(&m, "ib", "nvidia-circe-dgx2-superpod.topology.conf"), OK);
	topo_judge(&m, &all);
	f = topo_finding_of(&all, "groups-valid");
	assert_int_equal(f->verdict, TOPO_FAULT);
	assert_non_null(strstr(f->what, "circe-n051"));
	assert_non_null(strstr(f->what, "circe-n059"));
	topo_findings_release(&all);
	topo_model_release(&m);
}

static void layouts_join_their_fabric_by_guid(void **state)
{
	static const struct { const char *layouts[2], *fabric;
	} rows[] = {
		{ { "hwloc/mpibind-coral-lassen.xml", "hwloc/fluxsched-lassen6.xml" },
		  "ib/lassen-cs7500-edr.ibnetdiscover.txt" },
		{ { "hwloc/netloc-plafrim2-sirocco01.xml", NULL }, "ib/plafrim2-truescale.ibnetdiscover-s-p.txt" },
	};

	(void)state;
	need_data();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct topo_model m = { 0 };
		struct topo_findings all;
		char path[PATH_BYTES];

		for (size_t k = 0; k < 2 && rows[i].layouts[k]; k++) {
			snprintf(path, sizeof(path), DATA "%s", rows[i].layouts[k]);
			assert_int_equal(topo_model_read(&m, path, INPUT_HWLOC), OK);
		}
		snprintf(path, sizeof(path), DATA "%s", rows[i].fabric);
		assert_int_equal(topo_model_read(&m, path, INPUT_FABRIC), OK);
		topo_model_settle(&m);
		topo_judge(&m, &all);
		assert_int_equal(topo_finding_of(&all, "fabric-join")->verdict, TOPO_OK);
		topo_findings_release(&all);
		topo_model_release(&m);
	}
}

static int by_number(const void *a, const void *b)
{
	return strverscmp(*(const char *const *)a, *(const char *const *)b);
}

/* Dual-HCA hosts called lassen* or fire*, by name, from the 100th on. */
static void lassen_in_hostname_order_crosses_least_and_is_bound_by_its_hcas(void **state)
{
	static const struct { size_t hosts, crossings; } rows[] = { { 16, 4 }, { 32, 6 }, { 64, 10 }, { 128, 16 } };
	struct topo_model all = { 0 };
	const char **names = NULL;
	size_t count = 0, room = 0;

	(void)state;
	need_data();
	assert_int_equal(topo_model_read(&all, DATA "ib/lassen-cs7500-edr.ibnetdiscover.txt", INPUT_FABRIC), OK);
	topo_fabric_settle(&all.fabric);
	for (size_t i = 0; i < all.fabric.node_count; i++) {
		const struct topo_vertex *v = &all.fabric.nodes[i];

		bool third = false;

		if (v->rail != 1 || (strncmp(v->host, "lassen", 6) && strncmp(v->host, "fire", 4)))
			continue;
		for (size_t k = 0; k < all.fabric.node_count && !third; k++)
			third = all.fabric.nodes[k].host == v->host && all.fabric.nodes[k].rail == 2;
		if (!third)
			TOPO_PUSH(names, count, room) = v->host;
	}
	assert_int_equal(count, 704);
	qsort(names, count, sizeof(*names), by_number);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (int shuffled = 0; shuffled < 2; shuffled++) {
			char list[16384] = "";
			struct topo_model m = { 0 };
			struct topo_judging j;

			for (size_t h = 0; h < rows[i].hosts; h++) {	/* 37 is no divisor: strides through them all */
				size_t at = 100 + (shuffled ? 37 * h % rows[i].hosts : h);

				snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s\n", names[at]);
			}
			assert_int_equal(
				topo_model_read(&m, DATA "ib/lassen-cs7500-edr.ibnetdiscover.txt", INPUT_FABRIC), OK);
			topo_fabric_settle(&m.fabric);
			assert_int_equal(topo_model_take(&m, "hosts", list, strlen(list), INPUT_HOSTS), OK);
			topo_model_settle(&m);
			topo_judging_init(&j, &m, &m.log.comms[0]);
			assert_int_equal(j.flows.channels, 2);
			for (size_t k = 0; k < j.bounds.count; k++)
				if (!strcmp(j.bounds.at[k].level, "leaf")) {
					assert_int_equal(j.bounds.at[k].crossings_least, rows[i].crossings);
					if (!shuffled)
						assert_int_equal(j.bounds.at[k].crossings, rows[i].crossings);
					else if (rows[i].hosts == 128)
						assert_in_range(j.bounds.at[k].crossings, 200, 256);
				}
			if (!shuffled)
				assert_true(fabs(j.bounds.ideal - 25) < 1e-6);
			else if (rows[i].hosts == 128)		/* 17 or 18 hops leave the fullest leaf */
				assert_true(j.bounds.ideal > 12.4 && j.bounds.ideal < 14.1);
			assert_true(fabs(j.sorted.ideal - 25) < 1e-6);
			topo_judging_release(&j);
			topo_model_release(&m);
		}
	free(names);
	topo_model_release(&all);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_logs_and_files_of_nccl_get_their_expected_faults_and_no_other),
		cmocka_unit_test(every_ring_edge_of_the_key_case_is_judged_as_its_index_says),
		cmocka_unit_test(a_ring_that_alternates_between_two_machines_of_pods_changes_them_six_times),
		cmocka_unit_test(real_forwarding_tables_lead_every_hop_that_they_know_to_its_host),
		cmocka_unit_test(real_node_layouts_have_their_measured_distances),
		cmocka_unit_test(files_that_cannot_be_used_are_refused_with_the_reason),
		cmocka_unit_test(real_fabrics_have_their_switches_and_their_one_swapped_cable),
		cmocka_unit_test(layouts_join_their_fabric_by_guid),
		cmocka_unit_test(lassen_in_hostname_order_crosses_least_and_is_bound_by_its_hcas),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
