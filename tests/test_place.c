/*
 * tests/test_place.c - machines in, placement of ranks out.
 */
#include "bench/base/err.h"
#include "bench/bind.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void load(hwloc_topology_t *t, const char *synthetic, const char *allowed)
{
	assert_int_equal(hwloc_topology_init(t), 0);
	assert_int_equal(hwloc_topology_set_synthetic(*t, synthetic), 0);
	assert_int_equal(hwloc_topology_load(*t), 0);
	if (allowed) {
		hwloc_bitmap_t set = hwloc_bitmap_alloc();

		/* As a control group does. */
		hwloc_bitmap_list_sscanf(set, allowed);
		assert_int_equal(hwloc_topology_restrict(*t, set, 0), 0);
		hwloc_bitmap_free(set);
	}
}

static void ranks_get_whole_numa_nodes_and_share_them_evenly(void **state)
{
	static const struct {
		const char *machine, *allowed;
		size_t ranks, share;		/* PUs of rank 0 */
		const char *text;
	} cases[] = {
		/* two cores, as a virtual machine has: nobody is kept from a core */
		{ "core:2 pu:1", NULL, 4, 1, "1 NUMA node: ranks 0-3 on PUs 0-1" },
		{ "core:2 pu:1", NULL, 1, 2, "1 NUMA node: rank 0 on PUs 0-1" },
		/* the study's node: 2 x 20 cores, 4 ranks */
		{ "pack:2 numa:1 core:20 pu:1", NULL, 4, 10, "2 NUMA nodes: ranks 0-1 on PUs 0-19, ranks 2-3 on PUs 20-39" },
		{ "pack:2 numa:1 core:20 pu:1", NULL, 1, 40, "2 NUMA nodes: rank 0 on PUs 0-39" },
		{ "pack:2 numa:1 core:20 pu:1", NULL, 3, 10, "2 NUMA nodes: ranks 0-1 on PUs 0-19, rank 2 on PUs 20-39" },
		/* more nodes than ranks: blocks of them */
		{ "pack:2 numa:4 core:2 pu:2", NULL, 2, 16, "8 NUMA nodes: rank 0 on PUs 0-15, rank 1 on PUs 16-31" },
		{ "pack:2 numa:4 core:2 pu:2", NULL, 8, 4, "8 NUMA nodes: rank 0 on PUs 0-3, rank 1 on PUs 4-7, rank 2 on PUs 8-11, "
		  "rank 3 on PUs 12-15, rank 4 on PUs 16-19, rank 5 on PUs 20-23, rank 6 on PUs 24-27, rank 7 on PUs 28-31" },
		{ "pack:2 numa:4 core:2 pu:2", NULL, 64, 1, NULL },
		/* a control group that allows some cores: never wider, and a node without cores is none */
		{ "pack:2 numa:1 core:8 pu:1", "0-3,8-9", 2, 4, "2 NUMA nodes: rank 0 on PUs 0-3, rank 1 on PUs 8-9" },
		{ "pack:2 numa:1 core:8 pu:1", "8-15", 2, 4, "1 NUMA node: ranks 0-1 on PUs 8-15" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		hwloc_topology_t t;
		struct bind_plan p;
		char text[512];

		load(&t, cases[i].machine, cases[i].allowed);
		assert_int_equal(bind_plan_make(&p, t, cases[i].ranks, false), OK);
		bind_plan_text(&p, text, sizeof(text));
		if (cases[i].text)
			assert_string_equal(text, cases[i].text);
		assert_int_equal(bind_plan_share(&p, 0), cases[i].share);
		for (size_t r = 0; r < p.ranks; r++) {
			assert_false(hwloc_bitmap_iszero(p.sets[r]));
			assert_true(hwloc_bitmap_isincluded(p.sets[r], hwloc_topology_get_allowed_cpuset(t)));
		}
		bind_plan_release(&p);
		hwloc_topology_destroy(t);
	}
}

static void without_a_gpu_asking_for_one_changes_nothing(void **state)
{
	hwloc_topology_t t;
	struct bind_plan p;
	char text[512];

	(void)state;
	load(&t, "pack:2 numa:1 core:4 pu:1", NULL);
	assert_int_equal(bind_plan_make(&p, t, 2, true), OK);
	bind_plan_text(&p, text, sizeof(text));
	assert_string_equal(text, "2 NUMA nodes: rank 0 on PUs 0-3, rank 1 on PUs 4-7");
	bind_plan_release(&p);
	hwloc_topology_destroy(t);
}

static void a_rank_runs_near_the_gpu_that_it_serves(void **state)
{
	/* Machines as their owners exported them: four V100 on two sockets; eight T4 on two. */
	static const struct {
		const char *file;
		size_t ranks, gpus, first_of_second_socket;
	} cases[] = {
		{ "../shared/data/hwloc/mpibind-coral-lassen.xml", 4, 4, 2 },
		{ "../shared/data/hwloc/mpibind-g4dnmetal.xml", 8, 8, 4 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		hwloc_topology_t t;
		struct bind_plan p;

		if (access(cases[i].file, R_OK)) {
			print_message("SKIP: no '%s'\n", cases[i].file);
			skip();
		}
		assert_int_equal(hwloc_topology_init(&t), 0);
		hwloc_topology_set_io_types_filter(t, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
		assert_int_equal(hwloc_topology_set_xml(t, cases[i].file), 0);
		assert_int_equal(hwloc_topology_load(t), 0);
		assert_int_equal(bind_plan_make(&p, t, cases[i].ranks, true), OK);
		assert_true(p.gpus);
		assert_int_equal(p.domains, cases[i].gpus);
		for (size_t r = 1; r < p.ranks; r++)
			assert_int_equal(hwloc_bitmap_isequal(p.sets[r], p.sets[r - 1]), r != cases[i].first_of_second_socket);
		bind_plan_release(&p);
		hwloc_topology_destroy(t);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(ranks_get_whole_numa_nodes_and_share_them_evenly),
	cmocka_unit_test(without_a_gpu_asking_for_one_changes_nothing),
	cmocka_unit_test(a_rank_runs_near_the_gpu_that_it_serves),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
