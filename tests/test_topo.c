/*
 * tests/test_topo.c - readers, rules and bounds of comm/topo on excerpts written for the purpose.
 *
 * Each excerpt has the smallest form of a fault beside its healthy twin: a rule that speaks on
 * the twin is as wrong as one that is silent on the fault.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/span.h"
#include "comm/topo/diff.h"
#include "comm/topo/preset.h"
#include "comm/topo/verdict.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static void model_of(struct topo_model *m, const char *text, enum topo_input input)
{
	assert_int_equal(topo_model_take(m, "excerpt", text, strlen(text), input), OK);
}

static struct topo_model log_of(const char *text)
{
	struct topo_model m = { 0 };

	model_of(&m, text, INPUT_LOG);
	topo_model_settle(&m);
	return m;
}

/* The verdict of one rule on a settled model. */
static enum topo_verdict verdict_of(const struct topo_model *m, const char *rule)
{
	struct topo_findings all;
	const struct topo_finding *f;
	enum topo_verdict verdict;

	topo_judge(m, &all);
	f = topo_finding_of(&all, rule);
	assert_non_null(f);
	verdict = f->verdict;
	topo_findings_release(&all);
	return verdict;
}

static size_t faults_of(const struct topo_model *m)
{
	struct topo_findings all;
	size_t faults = 0;

	topo_judge(m, &all);
	for (size_t i = 0; i < all.count; i++) {
		faults += all.at[i].verdict == TOPO_FAULT;
		if (all.at[i].verdict == TOPO_FAULT)
			print_message("fault %s: %s\n", all.at[i].rule->name, all.at[i].what);
	}
	topo_findings_release(&all);
	return faults;
}

/* ---- the log's grammar ---- */

static void a_connection_line_of_any_era_is_read_in_full(void **state)
{
	static const struct {
		const char *line;
		enum topo_via via;
		const char *how;
		int net, proxy, conn;
		bool gdr;
	} eras[] = {
		{ "Ring 00 : 0 -> 1 via P2P/IPC", TOPO_VIA_P2P, "P2P/IPC", -1, -1, 0, false },
		{ "Ring 00 : 0[0] -> 1[1] via P2P/direct pointer", TOPO_VIA_P2P, "P2P/direct pointer", -1, -1, 0,
		  false },
		{ "Ring 00 : 0[0] -> 1[1] via direct shared memory", TOPO_VIA_SHM, "direct shared memory", -1, -1, 0,
		  false },
		{ "Ring 00 : 0 -> 1 [send] via NET/IB/0", TOPO_VIA_NET, "IB", 0, -1, 0, false },
		{ "Ring 00 : 0[8a000] -> 1[1a000] [send] via NET/IB/2/GDRDMA", TOPO_VIA_NET, "IB", 2, -1, 0, true },
		{ "Channel 00 : 0[8a000] -> 1[1a000] [send] via NET/Socket/1", TOPO_VIA_NET, "Socket", 1, -1, 0,
		  false },
		{ "Channel 00 : 0[8a000] -> 1[1a000] [send] via NET/IB/2/GDRDMA/Shared", TOPO_VIA_NET, "IB", 2, -1, 1,
		  true },
		{ "Channel 00 : 0[1c000] -> 1[1a000] via P2P/indirect/2[1c000]", TOPO_VIA_P2P, "P2P/indirect/2[1c000]",
		  -1, -1, 0, false },
		{ "Channel 00/0 : 0[1] -> 1[0] [send] via NET/IBext/1(5)/GDRDMA", TOPO_VIA_NET, "IBext", 1, 5, 0,
		  true },
		{ "Channel 00/1 : 0[1] -> 1[0] via P2P/CUMEM/read", TOPO_VIA_P2P, "P2P/CUMEM/read", -1, -1, 1, false },
		{ "Channel 00/0 : 0[1] -> 1[0] via P2P/MNNVL", TOPO_VIA_P2P, "P2P/MNNVL", -1, -1, 0, false },
		{ "Channel 00 : 0[1] -> 1[0] via SHM/direct/direct", TOPO_VIA_SHM, "SHM/direct/direct", -1, -1, 0,
		  false },
		{ "Channel 00/0 : 0[1] -> 1[0] [send] via NET/AWS Libfabric/3/GDRDMA", TOPO_VIA_NET, "AWS Libfabric", 3,
		  -1, 0, true },
		{ "Channel 00/0 : 0[1] -> 1[0] [send] via NET/IBext_v10/8/GDRDMA(PCI)", TOPO_VIA_NET, "IBext_v10", 8,
		  -1, 0, true },
		{ "Channel 00/0 : 0[1] -> 1[0] [send] via NET/IB/0/GDRDMA comm 0x7f00 nRanks 02", TOPO_VIA_NET, "IB", 0,
		  -1, 0, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(eras); i++) {
		char text[1024];
		struct topo_model m;
		const struct topo_edge *e;

		snprintf(text, sizeof(text),
			 "a:1:2 [0] NCCL INFO comm 0x7f00 rank 0 nranks 2 cudaDev 0 busId 1a000 commId 0x9 - Init "
			 "START\n"
			 "12: [1,0]<stdout>:a:1:2 [0] NCCL INFO %s\n"
			 "a:1:2 [0] NCCL INFO comm 0x7f00 rank 0 nranks 2 cudaDev 0 busId 1a000 commId 0x9 - Init "
			 "COMPLETE\n",
			 eras[i].line);
		m = log_of(text);
		assert_int_equal(m.log.comm_count, 1);
		assert_int_equal(m.log.strange, 0);
		assert_int_equal(m.log.comms[0].edge_count, 1);
		e = &m.log.comms[0].edges[0];
		assert_int_equal(e->via, eras[i].via);
		assert_string_equal(e->how, eras[i].how);
		assert_int_equal(e->send.net, eras[i].net);
		assert_int_equal(e->send.proxy, eras[i].proxy);
		assert_int_equal(e->conn, eras[i].conn);
		assert_int_equal(e->send.gdr, eras[i].gdr);
		assert_int_equal(e->send.at.line, 2);
		topo_model_release(&m);
	}
}

static void an_invented_connection_line_is_counted_and_not_read(void **state)
{
	static const char *const invented[] = {
		"Ring 00 : 0[0] -> 1[1] [via PCIe]", "Channel 00/0 : 0[1] -> 1[0] [recv] via NET/IB/0",
		"Channel 00 : 0[1] -> 1[0] via NVLink", "Channel 00/0 : 0[1] -> 1[0] [send] via NET/IB",
		"Channel 00/0 : 0[1] -> 1[0] [send] via NET/IB/0/GDR", "Channel 00/x : 0[1] -> 1[0] via P2P/IPC",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(invented); i++) {
		char text[512];
		struct topo_model m;

		snprintf(text, sizeof(text), "a:1:2 [0] NCCL INFO %s\n", invented[i]);
		m = log_of(text);
		assert_int_equal(m.log.strange, 1);
		assert_int_equal(m.log.strange_at.line, 1);
		assert_int_equal(verdict_of(&m, "log-form"), TOPO_FAULT);
		topo_model_release(&m);
	}
}

/* Two hosts of two GPUs; %s: NICs and suffix of the hops of channel 0, in order 1 -> 2 send, receive, 3 -> 0 send,
 * receive. */
#define RANK(host, pid, rank, dev)                                                                                     \
	host ":" pid ":" pid " [" dev "] NCCL INFO comm 0x1" rank " rank " rank " nranks 4 cudaDev " dev               \
	     " busId 1" dev "000 - Init COMPLETE\n"
static const char two_hosts[] =
	"NCCL version 2.12.10+cuda11.6\n"
	"a:1:1 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB ib0:10.0.0.1<0>\n"
	"a:2:2 [1] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB ib0:10.0.0.1<0>\n"
	"b:3:3 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB ib0:10.0.0.2<0>\n"
	"b:4:4 [1] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB ib0:10.0.0.2<0>\n"
	"a:1:1 [0] NCCL INFO Channel 00/02 :    0   1   2   3\n"
	"a:1:1 [0] NCCL INFO Channel 01/02 :    0   1   2   3\n"
	"a:1:1 [0] NCCL INFO Channel 00 : 0[10000] -> 1[11000] via P2P/IPC\n"
	"a:1:1 [0] NCCL INFO Channel 01 : 0[10000] -> 1[11000] via P2P/IPC\n"
	"b:3:3 [0] NCCL INFO Channel 00 : 2[10000] -> 3[11000] via P2P/IPC\n"
	"b:3:3 [0] NCCL INFO Channel 01 : 2[10000] -> 3[11000] via P2P/IPC\n"
	"a:2:2 [1] NCCL INFO Channel 00/0 : 1[11000] -> 2[10000] [send] via NET/IB/%s\n"
	"b:3:3 [0] NCCL INFO Channel 00/0 : 1[11000] -> 2[10000] [receive] via NET/IB/%s\n"
	"b:4:4 [1] NCCL INFO Channel 00/0 : 3[11000] -> 0[10000] [send] via NET/IB/%s\n"
	"a:1:1 [0] NCCL INFO Channel 00/0 : 3[11000] -> 0[10000] [receive] via NET/IB/%s\n"
	"a:2:2 [1] NCCL INFO Channel 01/0 : 1[11000] -> 2[10000] [send] via NET/IB/1/GDRDMA\n"
	"b:3:3 [0] NCCL INFO Channel 01/0 : 1[11000] -> 2[10000] [receive] via NET/IB/1/GDRDMA\n"
	"b:4:4 [1] NCCL INFO Channel 01/0 : 3[11000] -> 0[10000] [send] via NET/IB/1/GDRDMA\n"
	"a:1:1 [0] NCCL INFO Channel 01/0 : 3[11000] -> 0[10000] [receive] via NET/IB/1/GDRDMA\n"
	RANK("a", "1", "0", "0") RANK("a", "2", "1", "1") RANK("b", "3", "2", "0") RANK("b", "4", "3", "1");

static void two_hosts_text(char out[4096], const char *s1, const char *r1, const char *s2, const char *r2)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	assert_in_range(snprintf(out, 4096, two_hosts, s1, r1, s2, r2), 1, 4095);
#pragma GCC diagnostic pop
}

static void each_fault_of_a_hop_is_told_and_a_healthy_hop_is_silent(void **state)
{
	static const struct { const char *ends[4], *rule; enum topo_verdict verdict; } cases[] = {
		{ { "0/GDRDMA", "0/GDRDMA", "0/GDRDMA", "0/GDRDMA" }, "nic-hop", TOPO_OK },
		{ { "0/GDRDMA", "0/GDRDMA", "0/GDRDMA", "0/GDRDMA" }, "gdr", TOPO_OK },
		{ { "0/GDRDMA", "0/GDRDMA", "0/GDRDMA", "0/GDRDMA" }, "nic-idle", TOPO_OK },
		{ { "0/GDRDMA", "1/GDRDMA", "0/GDRDMA", "1/GDRDMA" }, "nic-hop", TOPO_FAULT },
		{ { "0/GDRDMA", "1/GDRDMA", "0/GDRDMA", "1/GDRDMA" }, "nic-balance", TOPO_FAULT },
		{ { "1/GDRDMA", "1/GDRDMA", "1/GDRDMA", "1/GDRDMA" }, "nic-idle", TOPO_FAULT },
		{ { "0", "0", "0", "0" }, "gdr", TOPO_FAULT },
		{ { "0/GDRDMA", "0", "0/GDRDMA", "0" }, "gdr-sides", TOPO_FAULT },
		{ { "0/GDRDMA", "0/GDRDMA", "0/GDRDMA", "0/GDRDMA" }, "gdr-sides", TOPO_OK },
	};
	char text[4096];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct topo_model m;

		two_hosts_text(text, cases[i].ends[0], cases[i].ends[1], cases[i].ends[2], cases[i].ends[3]);
		m = log_of(text);
		assert_int_equal(m.log.comms[0].host_count, 2);
		assert_true(m.log.comms[0].closed[0] && m.log.comms[0].closed[1]);
		assert_int_equal(verdict_of(&m, cases[i].rule), cases[i].verdict);
		if (i == 0)
			assert_int_equal(faults_of(&m), 0);
		topo_model_release(&m);
	}
}

static void a_log_cut_anywhere_never_gives_an_error_that_the_whole_does_not(void **state)
{
	char text[4096], part[4096];
	size_t length;

	(void)state;
	two_hosts_text(text, "0/GDRDMA", "0/GDRDMA", "0/GDRDMA", "0/GDRDMA");
	length = strlen(text);
	for (size_t cut = 0; cut < length; cut += 7) {
		struct topo_model m = { 0 };
		struct topo_findings all;

		memcpy(part, text, cut);
		part[cut] = 0;
		topo_log_parse(&m.log, "cut", part, cut);
		topo_model_settle(&m);
		topo_judge(&m, &all);
		for (size_t i = 0; i < all.count; i++)
			if (all.at[i].verdict == TOPO_FAULT && all.at[i].severity == TOPO_ERROR)
				fail_msg("cut at %zu: %s: %s", cut, all.at[i].rule->name, all.at[i].what);
		topo_findings_release(&all);
		topo_model_release(&m);
	}
}

static void a_line_torn_by_another_process_gives_both_messages_to_their_owners(void **state)
{
	static const char text[] = "node1:100:100 [0] NCCL INFO comm 0x1 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId "
				   "1000 commId 0x7 - Init START\n"
				   "node2:200:200 [0] NCCL INFO comm 0x2 rank 1 nranks 2 cudaDev 0 nvmlDev 0 busId "
				   "1000 commId 0x7 - Init START\n"
				   "node1:100:100 [0] NCCL INFO Channel 00/0 : 1[0] -> 0[0] [receive] via "
				   "NET/IB/0/GDnode2:200:200 [0] NCCL INFO "
				   "Channel 00/0 : 1[0] -> 0[0] [send] via NET/IB/0/GDRDMA\n"
				   "e1:100:100 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[0] [send] via NET/IB/0/GDRDMA\n"
				   "00:200 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[0] [receive] via NET/IB/0/GDRDMA\n"
				   "node1:100:100 [0] NCCL INFO comm 0x1 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId "
				   "1000 commId 0x7 - Init COMPLETE\n"
				   "node2:200:200 [0] NCCL INFO comm 0x2 rank 1 nranks 2 cudaDev 0 nvmlDev 0 busId "
				   "1000 commId 0x7 - Init COMPLETE\n";
	struct topo_model m = log_of(text);
	const struct topo_edge *back;

	(void)state;
	assert_int_equal(m.log.host_count, 2);
	assert_string_equal(m.log.hosts[0].name, "node1");
	assert_int_equal(m.log.comm_count, 1);
	assert_int_equal(m.log.strange, 1);		/* "NET/IB/0/GD" */
	assert_true(m.log.torn >= 1);
	back = topo_edge_find(&m.log.comms[0], 0, 1, 0);
	assert_true(back && back->send.seen && !back->recv.seen);
	back = topo_edge_find(&m.log.comms[0], 0, 0, 1);
	assert_true(back && back->send.seen && back->recv.seen);
	assert_int_equal(faults_of(&m), 0);
	assert_int_equal(verdict_of(&m, "log-form"), TOPO_CANNOT_TELL);
	topo_model_release(&m);
}

/* A line whose anchor has been seen is known by its bytes: not by those of a text that is gone, nor by the end of a
 * longer host's. */
static void a_thread_is_known_again_behind_any_prefix_and_in_the_next_file(void **state)
{
	static const char *const parts[] = {
		"n1:100:200 [0] NCCL INFO comm 0x1 rank 0 nranks 2 cudaDev 0 busId 10000 commId 0x9 - Init START\n"
		"12:01 n1:100:200 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[0] via P2P/IPC\n"
		"[1,0]<stdout>:n1:100:200 [0] NCCL INFO Channel 01/0 : 0[0] -> 1[0] via P2P/IPC\n",
		"n1:100:200 [0] NCCL INFO Channel 02/0 : 0[0] -> 1[0] via P2P/IPC\n"
		"wn1:101:200 [0] NCCL INFO comm 0x1 rank 1 nranks 2 cudaDev 0 busId 10000 commId 0x9 - Init START\n"
		"wn1:101:200 [0] NCCL INFO Channel 00/0 : 1[0] -> 0[0] via P2P/IPC\n"
		"n1:100:200 [0] NCCL INFO Channel 03/0 : 0[0] -> 1[0] via P2P/IPC\n",
	};
	struct topo_model m = { 0 };
	size_t from[2] = { 0, 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		char *text = strdup(parts[i]);

		model_of(&m, text, INPUT_LOG);
		free(text);
	}
	topo_model_settle(&m);
	assert_int_equal(m.log.host_count, 2);
	assert_int_equal(m.log.torn, 0);
	assert_int_equal(m.log.comm_count, 1);
	for (size_t i = 0; i < m.log.comms[0].edge_count; i++)
		from[m.log.comms[0].edges[i].from]++;
	assert_int_equal(from[0], 4);
	assert_int_equal(from[1], 1);
	topo_model_release(&m);
}

static void communicators_without_an_id_are_told_apart_by_host_and_by_device(void **state)
{
	char text[16384] = "";
	struct topo_model m;

	(void)state;
	for (int host = 0; host < 4; host++) /* first one of 2 ranks on each host, then one per device over all hosts */
		for (int dev = 0; dev < 2; dev++) {
			int pid = 10 * host + dev + 1;
			char *end = text + strlen(text);

			snprintf(end, 512,
				 "h%d:%d:%d [%d] NCCL INFO comm 0x%d rank %d nranks 2 cudaDev %d busId %d000 - Init "
				 "COMPLETE\n"
				 "h%d:%d:%d [%d] NCCL INFO comm 0x%d rank %d nranks 4 cudaDev %d busId %d000 - Init "
				 "COMPLETE\n",
				 host, pid, pid, dev, pid, dev, dev, dev + 1, host, pid, pid, dev, pid + 100, host, dev,
				 dev + 1);
		}
	m = log_of(text);
	assert_int_equal(m.log.comm_count, 2 + 4);
	for (size_t i = 0; i < m.log.comm_count; i++) {
		const struct topo_comm *c = &m.log.comms[i];

		assert_false(c->ambiguous);
		assert_int_equal(c->rank_count, i < 2 ? 4 : 2);
		assert_int_equal(c->host_count, i < 2 ? 4 : 1);
		for (size_t r = 0; r < c->rank_count; r++) {
			assert_true(c->ranks[r].present && c->ranks[r].complete);
			if (i < 2)
				assert_int_equal(c->ranks[r].cuda_dev, c->ranks[0].cuda_dev);
		}
	}
	topo_model_release(&m);
}

static void connections_made_after_init_belong_to_the_newest_communicator_that_fits(void **state)
{
	static const char text[] = "a:1:1 [0] NCCL INFO ncclCommInitRank comm 0x1 rank 0 nranks 2 cudaDev 0 nvmlDev 0 "
				   "busId 1000 commId 0x7 - Init START\n"
				   "a:1:1 [0] NCCL INFO ncclCommInitRank comm 0x1 rank 0 nranks 2 cudaDev 0 nvmlDev 0 "
				   "busId 1000 commId 0x7 - Init COMPLETE\n"
				   "a:1:9 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM\n"
				   "a:1:9 [0] NCCL INFO Connected all rings, use ring PXN 0 GDR 1\n"
				   "[2025-01-01 10:00:00] a:1:1 [0] NCCL INFO [Rank 1] ncclCommInitRank comm 0x2 rank "
				   "1 nranks 2 cudaDev 0 nvmlDev 0 "
				   "busId 1000 commId 0x8 - Init START\n"
				   "a:1:1 [0] NCCL INFO [Rank 1] ncclCommInitRank comm 0x2 rank 1 nranks 2 cudaDev 0 "
				   "nvmlDev 0 busId 1000 commId 0x8 - "
				   "Init COMPLETE\n"
				   "a:1:10 [0] NCCL INFO Channel 01/0 : 1[0] -> 0[1] via P2P/CUMEM\n";
	struct topo_model m = log_of(text);

	(void)state;
	assert_int_equal(m.log.comm_count, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(m.log.comms[i].edge_count, 1);
		assert_int_equal(m.log.comms[i].edges[0].channel, strcmp(m.log.comms[i].id, "0x7") ? 1 : 0);
	}
	topo_model_release(&m);
}

/* Processes without address randomization hold their communicators at the same place. */
static void a_communicators_pointer_is_one_of_the_process_that_names_it(void **state)
{
#define INIT(host, id, event)                                                                                         \
	host ":1:1 [0] NCCL INFO comm 0x7f00 rank 0 nranks 2 cudaDev 0 busId 1000 commId " id " - Init " event "\n"
#define CHANNEL(host, channel) host ":1:1 [0] NCCL INFO Channel " channel " : 0[0] -> 1[1] via P2P/IPC comm 0x7f00 nRanks 02\n"
	struct topo_model m = log_of(INIT("a", "0x7", "START") INIT("a", "0x7", "COMPLETE") INIT("b", "0x8", "START")
				     INIT("b", "0x8", "COMPLETE") CHANNEL("a", "00/0") CHANNEL("b", "01/0"));
#undef INIT
#undef CHANNEL

	(void)state;
	assert_int_equal(m.log.comm_count, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(m.log.comms[i].edge_count, 1);
		assert_int_equal(m.log.comms[i].edges[0].channel, strcmp(m.log.comms[i].id, "0x7") ? 1 : 0);
	}
	topo_model_release(&m);
}

static void a_setting_said_again_is_kept_where_it_was_said_first(void **state)
{
	static const char line[] = "a:1:1 [0] NCCL INFO NCCL_IB_HCA set by environment to mlx5_0.\n";
	struct topo_model m = { 0 };
	char first[256];

	(void)state;
	snprintf(first, sizeof(first), "\n%s%s", line, line);
	model_of(&m, first, INPUT_LOG);
	model_of(&m, line, INPUT_LOG);
	topo_model_settle(&m);
	assert_int_equal(m.log.setting_count, 1);
	assert_int_equal(m.log.settings[0].at.file, 0);
	assert_int_equal(m.log.settings[0].at.line, 2);
	topo_model_release(&m);
}

static void a_host_id_makes_nodes_of_one_machine_and_one_node_of_two_containers(void **state)
{
	for (int ids = 0; ids < 3; ids++) {
		char text[2048] = "";
		struct topo_model m;

		for (int rank = 0; rank < 2; rank++) {
			const char *host = ids == 2 && rank ? "pod1" : "pod0";
			char *end = text + strlen(text);

			end += sprintf(
				end,
				"%s:%d:%d [0] NCCL INFO NET/Socket : Using [0]lo:127.0.0.1<0> [1]eth0:10.0.0.1<0>\n",
				host, rank + 1, rank + 1);
			if (ids)
				end += sprintf(end, "%s:%d:%d [0] NCCL INFO NCCL_HOSTID set by environment to n%d.\n",
					       host, rank + 1, rank + 1, ids == 1 ? rank : 0);
			for (int to = 0; to < 2; to++)
				end += sprintf(
					end,
					"%s:%d:%d [0] NCCL INFO Channel 00/0 : %d[0] -> %d[0] [%s] via NET/Socket/%d\n",
					host, rank + 1, rank + 1, to, !to, rank == to ? "send" : "receive", rank == to);
			sprintf(end,
				"%s:%d:%d [0] NCCL INFO comm 0x%d rank %d nranks 2 cudaDev 0 busId 1000 commId 0x5 - "
				"Init COMPLETE\n",
				host, rank + 1, rank + 1, rank + 1, rank);
		}
		m = log_of(text);
		assert_int_equal(m.log.host_count, ids == 1 ? 2 : 1);
		assert_int_equal(verdict_of(&m, "net-in-host"), ids == 1 ? TOPO_OK : TOPO_FAULT);
		assert_int_equal(verdict_of(&m, "nic-hop"), ids == 1 ? TOPO_FAULT : TOPO_NOT_APPLICABLE);
		topo_model_release(&m);
	}
	(void)state;
}

static void containers_of_one_subnet_with_different_gpus_are_one_machine_and_the_ring_changes_it(void **state)
{
	static const struct { const char *subnets, *gpus, *says; } rows[] = {
		{ "1212", "0011", "2 machines, and the ring changes machines 4 times where 2 would do" },
		{ "1122", "0101", NULL },		/* sorted */
		{ "1212", "0010", NULL },		/* one GPU twice in a subnet: that is no machine */
		{ "1234", "0011", NULL },		/* each a subnet of its own */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[4096] = "";
		struct topo_model m;
		struct topo_findings all;
		const struct topo_finding *f;

		for (int rank = 0; rank < 4; rank++) {
			char *end = text + strlen(text);

			end += sprintf(end, "pod%d:1:1 [0] NCCL INFO Bootstrap : Using [0]eth0:10.0.%c.%d<0>\n", rank,
				       rows[i].subnets[rank], rank + 10);
			for (int side = 0; side < 2; side++)
				end += sprintf(end, "pod%d:1:1 [0] NCCL INFO Ring 00 : %d -> %d [%s] via NET/IB/0\n",
					       rank, side ? rank : (rank + 3) % 4, side ? (rank + 1) % 4 : rank,
					       side ? "send" : "receive");
			sprintf(end, "pod%d:1:1 [0] NCCL INFO comm 0x%d rank %d nranks 4 cudaDev 0 nvmlDev %c - Init "
				     "COMPLETE\n",
				rank, rank + 1, rank, rows[i].gpus[rank]);
		}
		m = log_of(text);
		topo_judge(&m, &all);
		f = topo_finding_of(&all, "node-count");
		assert_int_equal(f->verdict, TOPO_FAULT);
		if (!rows[i].says)
			assert_null(strstr(f->what, "machines"));
		else if (!strstr(f->what, rows[i].says))
			fail_msg("%s", f->what);
		topo_findings_release(&all);
		topo_model_release(&m);
	}
}

/* ---- node layout ---- */

static struct topo_model xml_of(const char *text)
{
	struct topo_model m = { 0 };

	model_of(&m, text, INPUT_AUTO);
	topo_model_settle(&m);
	return m;
}

static void a_topology_file_that_cannot_be_is_told_and_a_pruned_one_is_not(void **state)
{
	static const struct { const char *xml; enum topo_verdict verdict;
	} cases[] = {
		{ "<system version=\"1\"><cpu numaid=\"0\"><pci busid=\"ffff:ff:01.0\" class=\"0x060400\" "
		  "link_speed=\"16 GT/s\" "
		  "link_width=\"16\"><pci busid=\"0001:00:00.0\" class=\"0x030200\" link_speed=\"16 GT/s\" "
		  "link_width=\"16\"/>"
		  "<pci busid=\"0101:00:00.0\" class=\"0x020700\" link_speed=\"16 GT/s\" "
		  "link_width=\"16\"/></pci></cpu></system>",
		  TOPO_OK },
		{ "<system version=\"1\"><cpu numaid=\"0\"><pci busid=\"0:1:0.0\" class=\"0x030200\"/>"
		  "<pci busid=\"0000:01:00.0\" class=\"0x020700\"/></cpu></system>",
		  TOPO_FAULT },
		{ "<system version=\"1\"><cpu numaid=\"0\"><pci busid=\"0001:00:00.0\" class=\"0x030200\"><gpu "
		  "dev=\"0\">"
		  "<nvlink target=\"0001:00:00.0\" count=\"12\" tclass=\"0x030200\"/></gpu></pci></cpu></system>",
		  TOPO_FAULT },
		{ "<system version=\"1\"><cpu numaid=\"-1\"/></system>", TOPO_FAULT },
		{ "<system version=\"1\"><cpu numaid=\"0\"><nic><net name=\"eth0\" guid=\"0x0\" "
		  "gdr=\"0\"/></nic></cpu></system>",
		  TOPO_FAULT },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct topo_model m = xml_of(cases[i].xml);

		assert_int_equal(verdict_of(&m, "nccl-topo-file"), cases[i].verdict);
		if (i == 0)
			assert_int_equal(m.nodes[0].gpu_hca[0], CLASS_PIX);
		topo_model_release(&m);
	}
}

static void xml_that_is_cut_deep_a_bomb_or_of_another_kind_is_refused(void **state)
{
	char deep[8192] = "<system>";
	static const char *const bad[] = {
		"<system version=\"1\"><cpu>", "<a/>", "<topologydiff refname=\"x\"/>", "<topology version=\"9.0\"/>",
		"<topology version=\"2.0\"></topology>", "<graphs><graph></graphs>",
		"<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><system>&b;</system>",
	};

	(void)state;
	for (int i = 0; i < 1000; i++)
		strcat(deep, "<pci>");
	for (size_t i = 0; i <= ARRAY_LEN(bad); i++) {
		const char *text = i < ARRAY_LEN(bad) ? bad[i] : deep;
		struct topo_model m = { 0 };

		if (topo_model_take(&m, "bad", text, strlen(text), INPUT_AUTO) == OK)
			fail_msg("accepted: %.60s", text);
		topo_model_release(&m);
	}
}

static char *printed(void (*print)(const struct topo_preset *, uint32_t, FILE *), const struct topo_preset *p)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *f = open_memstream(&text, &bytes);

	print(p, 0, f);
	fclose(f);
	return text;
}

static void a_preset_host_has_the_distances_that_its_machine_is_known_for(void **state)
{
	static const struct { const char *preset; size_t gpus, hcas; uint8_t near, far; int nvlinks; } cases[] = {
		{ "abci-v", 4, 2, CLASS_NODE, CLASS_SYS, 2 },	/* HCA on a root port: no GDRDMA by default */
		{ "superpod", 8, 8, CLASS_PIX, CLASS_SYS, -1 },
		{ "lassen", 4, 2, CLASS_NODE, CLASS_SYS, 3 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *text = printed(topo_preset_hwloc, topo_preset_find(cases[i].preset));
		struct topo_model m = xml_of(text);
		const struct topo_node *n = &m.nodes[0];

		assert_int_equal(n->gpu_count, cases[i].gpus);
		assert_int_equal(n->hca_count, cases[i].hcas);
		assert_int_equal(n->packages, 2);
		assert_int_equal(n->gpu_hca[0], cases[i].near);
		assert_int_equal(n->gpu_hca[n->hca_count - 1], cases[i].far);
		assert_int_equal(n->nvlinks ? n->nvlinks[1] : -1, cases[i].nvlinks);
		assert_int_equal(faults_of(&m), 0);
		topo_model_release(&m);
		free(text);
	}
}

/* Two sockets of the CPU given, a GPU of the capability given and an HCA on each, the GPUs joined by two NVLinks. */
static const char two_sockets[] =
	"<system version=\"1\"><cpu numaid=\"0\" %s>"
	"<pci busid=\"0000:10:00.0\" class=\"0x030200\" link_speed=\"8 GT/s\" link_width=\"16\">"
	"<gpu dev=\"0\" sm=\"%d\"><nvlink target=\"0000:11:00.0\" count=\"%d\" tclass=\"0x030200\"/></gpu></pci>"
	"<pci busid=\"0000:20:00.0\" class=\"0x020700\" link_speed=\"8 GT/s\" link_width=\"16\"><nic>"
	"<net name=\"mlx5_0\" port=\"1\" guid=\"0x1\" speed=\"100000\" gdr=\"1\"/></nic></pci></cpu>"
	"<cpu numaid=\"1\" %s><pci busid=\"0000:11:00.0\" class=\"0x030200\" link_speed=\"8 GT/s\" link_width=\"16\">"
	"<gpu dev=\"1\" sm=\"%d\"><nvlink target=\"0000:10:00.0\" count=\"%d\" tclass=\"0x030200\"/></gpu></pci>"
	"<pci busid=\"0000:21:00.0\" class=\"0x020700\" link_speed=\"8 GT/s\" link_width=\"16\"><nic>"
	"<net name=\"mlx5_1\" port=\"1\" guid=\"0x2\" speed=\"100000\" gdr=\"1\"/></nic></pci></cpu></system>";

static void two_sockets_text(char out[4096], const char *cpu, int sm, int links)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	assert_in_range(snprintf(out, 4096, two_sockets, cpu, sm, links, cpu, sm, links), 1, 4095);
#pragma GCC diagnostic pop
}

static void links_carry_what_their_generation_does(void **state)
{
	static const struct { const char *cpu; int sm; double nvlink, socket; const char *link; } cases[] = {
		{ "arch=\"x86_64\" vendor=\"GenuineIntel\" familyid=\"6\" modelid=\"79\"", 60, 20, 6, "QPI" },
		{ "arch=\"x86_64\" vendor=\"GenuineIntel\" familyid=\"6\" modelid=\"85\"", 70, 25, 10, "UPI" },
		{ "arch=\"x86_64\" vendor=\"AuthenticAMD\" familyid=\"175\" modelid=\"1\"", 80, 25, 24, "xGMI" },
		{ "arch=\"x86_64\" vendor=\"AuthenticAMD\" familyid=\"23\" modelid=\"49\"", 86, 14.0625, 16, "xGMI" },
		{ "arch=\"x86_64\" vendor=\"GenuineIntel\" familyid=\"6\" modelid=\"143\"", 90, 25, 22, "UPI" },
		{ "arch=\"x86_64\" vendor=\"GenuineIntel\" familyid=\"6\" modelid=\"207\"", 100, 50, 40, "UPI" },
		{ "arch=\"ppc64\"", 70, 25, 32, "X-Bus" },
		{ "arch=\"arm64\"", 0, 25, 0, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[4096];
		struct topo_model m;

		two_sockets_text(text, cases[i].cpu, cases[i].sm, 2);
		m = xml_of(text);
		assert_float_equal(m.nodes[0].gpus[0].nvlink_gbps, cases[i].nvlink, 1e-4);
		assert_int_equal(m.nodes[0].nvlinks[1], 2);
		assert_float_equal(m.nodes[0].socket_gbps, cases[i].socket, 1e-4);
		assert_int_equal(!m.nodes[0].socket_link, !cases[i].link);
		if (cases[i].link)
			assert_string_equal(m.nodes[0].socket_link, cases[i].link);
		topo_model_release(&m);
	}
}

/* Channel 1's receivers sit across the sockets from their HCA; channel 0 may join them in that direction. */
static void hops_between_sockets_are_counted_per_direction_and_limit_nothing_by_an_estimate(void **state)
{
	static const struct { const char *send, *receive; int links; double hops, bound, nvlink; } cases[] = {
		{ "1/GDRDMA", "0/GDRDMA", 2, 1, 20, 50 },
		{ "0/GDRDMA", "0/GDRDMA", 2, 2, 10, 50 },
		{ "0/GDRDMA", "1/GDRDMA", 2, 3, 20.0 / 3, 50 },
		{ "1/GDRDMA", "0/GDRDMA", 0, 2, 10, NAN },	/* no NVLinks: P2P from socket 0 to 1 */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct topo_model m = { 0 };
		struct topo_report r;
		const struct topo_bound *socket, *nvlink;
		char log[4096], xml[4096];

		two_hosts_text(log, cases[i].send, cases[i].receive, cases[i].send, cases[i].receive);
		two_sockets_text(xml, "arch=\"x86_64\" vendor=\"GenuineIntel\" familyid=\"6\" modelid=\"85\"", 70,
				 cases[i].links);
		model_of(&m, log, INPUT_LOG);
		model_of(&m, xml, INPUT_NCCL_XML);
		topo_model_settle(&m);
		topo_report_make(&r, &m, 0);
		socket = topo_bound_of(&r.main.bounds, "socket");
		nvlink = topo_bound_of(&r.main.bounds, "nvlink");
		assert_non_null(socket);
		assert_float_equal(socket->hops, cases[i].hops, 1e-4);
		assert_float_equal(socket->ideal, cases[i].bound, 1e-4);
		assert_true(socket->estimate);
		assert_null(strstr(r.main.bounds.limit, "socket"));
		if (isnan(cases[i].nvlink))
			assert_null(nvlink);
		else
			assert_float_equal(nvlink->ideal, cases[i].nvlink, 1e-4);
		topo_report_release(&r);
		topo_model_release(&m);
	}
}

/* ---- fabric ---- */

static void one_cable_reads_the_same_from_every_kind_of_text(void **state)
{
	static const char *const texts[] = {
		"vendid=0x2c9\nsysimgguid=0x10\nswitchguid=0x10(10)\nSwitch\t36 \"S-0000000000000010\"\t\t# \"leaf # "
		"1; (a)\" base port 0 lid 3 "
		"lmc 0\n[7]\t\"H-0000000000000020\"[1](21) \t\t# \"h1 HCA-1\" lid 9 "
		"4xEDR\n\nvendid=0x2c9\ncaguid=0x20\n"
		"Ca\t1 \"H-0000000000000020\"\t\t# \"h1 HCA-1\"\n[1](21) \t\"S-0000000000000010\"[7]\t\t# lid 9 lmc 0 "
		"\"leaf # 1; (a)\" lid 3 "
		"4xEDR\n",
		"\xef\xbb\xbf[root@x]# ibnetdiscover\r\n# Topology file: generated\r\nswitchguid=0x10(10)\r\nSwitch  "
		"36 \"S-0000000000000010\"  "
		"# \"leaf\" enhanced port 0 lid 3 lmc 0\r\n[7][ext 2]  \"H-0000000000000020\"[1](21)   # \"h1 HCA-1\" "
		"lid 9 4xEDR\r\n",
		"# This database file was automatically generated by IBDIAG\nswitchguid=0x10(10)\nSwitch 36 "
		"\"S-0000000000000010\" # \"leaf\" base "
		"port 0 lid 3 lmc 0\n[7](7) \"H-0000000000000020\"[1](21)      # \"h1 HCA-1\" lid 9 4xEDR\n",
		"DR path slid 0; dlid 0; 0 -> new Switch {10} portnum 0 lid 0-0 \"\"\n"
		"SW     3  7 0x0000000000000010 4x EDR - CA     9  1 0x0000000000000020 ( 'leaf' - 'h1 HCA-1' )\n"
		"CA     9  1 0x0000000000000020 4x EDR - SW     3  7 0x0000000000000010 ( 'h1 HCA-1' - 'leaf' \n",
		"0x0000000000000010 \"leaf\"      3    7[  ] ==( 4X      25.78125 Gbps Active/  LinkUp)==>  "
		"0x0000000000000020      9    1[  ] "
		"\"h1 HCA-1\" ( )\n0x0000000000000010 \"leaf\"      3    8[  ] ==(                Down/ Polling)==>    "
		"         [  ] \"\" ( )\n",
		"{ CA Ports:01 SystemGUID:0000000000000020 NodeGUID:0000000000000020 PortGUID:0000000000000021 "
		"VenID:0002C9 DevID:1017 Rev:0 "
		"{h1 HCA-1} LID:0009 PN:01 } { SW Ports:24 SystemGUID:0000000000000010 NodeGUID:0000000000000010 "
		"PortGUID:0000000000000010 "
		"VenID:0002C9 DevID:cf08 Rev:0 {leaf} LID:0003 PN:07 } PHY=4x LOG=ACT SPD=25\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct topo_model m = { 0 };
		uint32_t host, link;

		model_of(&m, texts[i], INPUT_FABRIC);
		topo_model_settle(&m);
		host = topo_map_get(&m.fabric.by_guid, 0x20);
		assert_int_not_equal(host, TOPO_NONE);
		assert_string_equal(m.fabric.nodes[host].host, "h1");
		link = topo_fabric_uplink(&m.fabric, host, 1);
		assert_int_not_equal(link, TOPO_NONE);
		assert_int_equal(m.fabric.links[link].peer_port, 7);
		assert_int_equal(m.fabric.nodes[m.fabric.links[link].peer].guid, 0x10);
		assert_true(fabs((double)m.fabric.links[link].gbps - 12.5) < 1e-6);
		assert_int_equal(m.fabric.leaves, 1);
		topo_model_release(&m);
	}
}

static void a_broken_fabric_is_refused_with_its_line(void **state)
{
	static const struct { const char *text, *says; } bad[] = {
		{ "vendid=0x2c9\ncaguid=0x20\nCa\t1 \"H-0000000000000020\"\t\t# \"h1\"\n", "without one port" },
		{ "vendid=0x2c9\nswitchguid=<redacted>\n", "bad:2" },
		{ "vendid=0x2c9\nSwitch 36 \"S-<redacted>\" # \"x\" base port 0 lid 1 lmc 0\n", "bad:2" },
		{ "vendid=0x2c9\nSwitch 36 \"S-10\" # \"x\" base port 0 lid 1 lmc 0\n[1] \"H-20\"\n", "bad:3" },
		{ "vendid=0x2c9\nSwitch 36 \"S-10\" # \"x\" base port 0 lid 1 lmc 0\n[999999] \"H-20\"[1]\n", "bad:3" },
		{ "SwitchName=s0 Nodes=n[1-\n", "bad:1" },
		{ "Nodes=n1\nSwitchName=s0\n", "bad:1" },
		{ "hello\n", "neither" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct topo_model m = { 0 };

		assert_int_not_equal(topo_model_take(&m, "bad", bad[i].text, strlen(bad[i].text), INPUT_FABRIC), OK);
		if (!strstr(err_last(), bad[i].says))
			fail_msg("'%s' does not say '%s'", err_last(), bad[i].says);
		topo_model_release(&m);
	}
}

static void loops_and_cycles_in_a_fabric_end_nothing(void **state)
{
	static const char text[] = /* a cable from a switch to itself, and three switches in a ring */
		"vendid=0x2c9\nSwitch 9 \"S-1\" # \"a\" base port 0 lid 1 lmc 0\n[1] \"S-1\"[2] # \"a\" lid 1 4xEDR\n"
		"[2] \"S-1\"[1] # \"a\" lid 1 4xEDR\n[3] \"S-2\"[3] # \"b\" lid 2 4xEDR\n[4] \"S-3\"[3] # \"c\" lid 3 "
		"4xEDR\n"
		"[5] \"H-10\"[1](11) # \"h1 mlx5_0\" lid 7 4xEDR\n"
		"Switch 9 \"S-2\" # \"b\" base port 0 lid 2 lmc 0\n[4] \"S-3\"[4] # \"c\" lid 3 4xEDR\n[5] "
		"\"H-20\"[1](21) # \"h2 mlx5_0\" lid 8 "
		"4xEDR\nSwitch 9 \"S-3\" # \"c\" base port 0 lid 3 lmc 0\n";
	static const char routes[] =	/* and tables that send LID 8 round for ever */
		"Unicast lids [0x0-0x8] of switch Lid 1 guid 0x0000000000000001 (a):\n0x0008 004 : (x)\n"
		"Unicast lids [0x0-0x8] of switch Lid 3 guid 0x0000000000000003 (c):\n0x0008 003 : (x)\n";
	struct topo_model m = { 0 };

	(void)state;
	model_of(&m, text, INPUT_FABRIC);
	model_of(&m, routes, INPUT_ROUTES);
	topo_fabric_settle(&m.fabric);
	model_of(&m, "h1\nh2\n", INPUT_HOSTS);
	topo_model_settle(&m);
	assert_int_equal(verdict_of(&m, "static-collision"), TOPO_CANNOT_TELL);
	assert_int_equal(verdict_of(&m, "leaf-crossings"), TOPO_OK);
	topo_model_release(&m);
}

static void a_schedulers_topology_is_checked_and_counts_crossings(void **state)
{
	struct topo_model m = { 0 };

	(void)state;
	model_of(&m, "SwitchName=s0 Nodes=n[1-3]\nSwitchName=s1 Nodes=n[3-4]\n", INPUT_FABRIC);
	topo_model_settle(&m);
	assert_int_equal(verdict_of(&m, "groups-valid"), TOPO_FAULT);
	topo_model_release(&m);
	for (int sorted = 0; sorted < 2; sorted++) {
		m = (struct topo_model){ 0 };
		model_of(&m,
			 "SwitchName=s0 Nodes=n[01-02]\nSwitchName=s1 Nodes=n[03-04]\nSwitchName=top Switches=s[0-1]\n",
			 INPUT_FABRIC);
		model_of(&m, sorted ? "n[01-04]\n" : "n01\nn03\nn02\nn04\n", INPUT_HOSTS);
		topo_model_settle(&m);
		assert_int_equal(verdict_of(&m, "groups-valid"), TOPO_OK);
		assert_int_equal(verdict_of(&m, "leaf-crossings"), sorted ? TOPO_OK : TOPO_FAULT);
		topo_model_release(&m);
	}
}

static void a_topology_conf_is_read_as_slurm_reads_it(void **state)
{
	static const struct { const char *text; int rc; size_t hosts, groups; } cases[] = {
		{ "switchname=s0 nodes=n[1-2]\nSWITCHNAME=s1 Nodes=n3 LINKSPEED=9\nSwitchName=t SWITCHES=s[0-1]\n", OK, 3, 3 },
		{ "SwitchName=s0 \\\n  Nodes=n1,\\\r\nn2,n[3-\\  \n4]\nSwitchName=s1 Nodes=n5\n", OK, 5, 2 },
		{ "SwitchName=s0 Nodes=n1 # the left \\\nSwitchName=s1 Nodes=n2#n3\n#\\\n\nSwitchName=s2 Nodes=n4\\", OK, 3, 3 },
		{ "SwitchName=s0 Nodes=n1\\\nNodes=n2\n", OK, 1, 1 },	/* joined without a blank: one odd name */
		{ "SwitchName=s0\nNodes=n1\n", FAILED, 0, 0 },
		{ "SwitchName=s0 \\\n\nNodes=n1\n", FAILED, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct topo_model m = { 0 };

		assert_int_equal(topo_model_take(&m, "conf", cases[i].text, strlen(cases[i].text), INPUT_AUTO), cases[i].rc);
		if (cases[i].rc == OK) {
			assert_int_equal(m.fabric.member_count, cases[i].hosts);
			assert_int_equal(m.fabric.group_count, cases[i].groups);
		}
		topo_model_release(&m);
	}
}

static void a_topology_yaml_says_what_a_topology_conf_does(void **state)
{
	static const struct { const char *text; int rc; size_t hosts, groups; } cases[] = {
		{ "---\n# written by the site\n- topology: top\n  cluster_default: true\n  tree:\n    switches:\n"
		  "      - switch: spine\n        children: s[0-1]\n      - switch: \"s0\"\n        nodes: n[01-02]  # left\n"
		  "      - switch: s1\n        nodes: 'n[03-04]'\n- topology: again\n  tree:\n    switches:\n"
		  "      - switch: s9\n        nodes: n[01-04]\n", OK, 4, 3 },
		{ "- topology: b\n  block:\n    block_sizes: [2, 4]\n    blocks:\n      - block: s0\n        nodes: n[01-02]\n"
		  "      - block: s1\n        nodes: n[03-04]\n", OK, 4, 2 },
		{ "- topology: flat\n  cluster_default: true\n  flat: true\n", FAILED, 0, 0 },
		{ "- topology: r\n  ring:\n    rings:\n      - ring: r0\n        nodes: n[1-4]\n", FAILED, 0, 0 },
		{ "- topology: t\n  tree:\n    switches:\n      - switch:\n", FAILED, 0, 0 },
		{ "- topology: t\n  tree:\n    switches:\n      - switch: a\n        nodes: n[1-\n", FAILED, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct topo_model m = { 0 };

		assert_int_equal(topo_model_take(&m, "yaml", cases[i].text, strlen(cases[i].text), INPUT_AUTO), cases[i].rc);
		if (cases[i].rc == OK) {
			model_of(&m, "n01\nn03\nn02\nn04\n", INPUT_HOSTS);
			topo_model_settle(&m);
			assert_int_equal(m.fabric.member_count, cases[i].hosts);
			assert_int_equal(m.fabric.group_count, cases[i].groups);
			assert_int_equal(verdict_of(&m, "groups-valid"), TOPO_OK);
			assert_int_equal(verdict_of(&m, "leaf-crossings"), TOPO_FAULT);
		}
		topo_model_release(&m);
	}
}

static void a_rule_for_racks_makes_groups_of_host_names(void **state)
{
	static const char *const bad[] = { "", "g%d", "g/34", "g%d/0", "g%d/34x", "g%d/-1" };
	static const struct { const char *rule, *hosts; size_t members, groups; enum topo_verdict crossings; } cases[] = {
		{ "g%d/34", "g0033\ng0034\ng0035\ng0036\n", 4, 2, TOPO_OK },
		{ "g%d/34", "g0033\ng0035\ng0034\ng0036\n", 4, 2, TOPO_FAULT },
		{ "r%d-ib/2", "r1-ib\nr3-ib\nr2-ib\nr4-ib\n", 4, 2, TOPO_FAULT },
		{ "g%d/34", "login1\ng0000\ng34x\n", 1, 1, TOPO_OK },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct topo_rack_rule rule;

		assert_int_equal(topo_rack_rule_parse(&rule, bad[i]), USAGE);
	}
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct topo_model m = { 0 };

		assert_int_equal(topo_rack_rule_parse(&m.rack_rule, cases[i].rule), OK);
		model_of(&m, cases[i].hosts, INPUT_HOSTS);
		topo_model_settle(&m);
		assert_int_equal(m.fabric.member_count, cases[i].members);
		assert_int_equal(m.fabric.group_count, cases[i].groups);
		if (cases[i].members > 1)
			assert_int_equal(verdict_of(&m, "leaf-crossings"), cases[i].crossings);
		topo_model_release(&m);
	}
}

static void a_jobs_own_addresses_are_its_groups(void **state)
{
	static const char addresses[] = "0: SLURM_TOPOLOGY_ADDR=top.s0.n01\n1: SLURM_TOPOLOGY_ADDR=top.s1.n03\n"
					"0: SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node\n"
					"2: SLURM_TOPOLOGY_ADDR=top.s0.n02\n3: SLURM_TOPOLOGY_ADDR=top.s1.n04\n"
					"3: SLURM_TOPOLOGY_ADDR=top.s1.n04\n";

	(void)state;
	for (int sorted = 0; sorted < 2; sorted++) {
		struct topo_model m = { 0 };

		model_of(&m, addresses, INPUT_AUTO);
		model_of(&m, sorted ? "n[01-04]\n" : "n01\nn03\nn02\nn04\n", INPUT_HOSTS);
		topo_model_settle(&m);
		assert_int_equal(m.fabric.member_count, 4);
		assert_int_equal(m.fabric.group_count, 3);
		assert_string_equal(m.fabric.groups[m.fabric.groups[1].parent].name, "top");
		assert_int_equal(verdict_of(&m, "groups-valid"), TOPO_OK);
		assert_int_equal(verdict_of(&m, "leaf-crossings"), sorted ? TOPO_OK : TOPO_FAULT);
		topo_model_release(&m);
	}
	for (size_t i = 0; i < 3; i++) {
		static const char *const bad[] = { "SLURM_TOPOLOGY_ADDR=\n", "SLURM_TOPOLOGY_ADDR=n01\n",
						   "SLURM_TOPOLOGY_ADDR=s0.\n" };
		struct topo_model m = { 0 };

		assert_int_equal(topo_model_take(&m, "bad", bad[i], strlen(bad[i]), INPUT_FABRIC), FAILED);
		topo_model_release(&m);
	}
}

/* ---- bounds ---- */

/* A planned job over a preset's fabric. */
static void plan(struct topo_model *m, const struct topo_preset *p, const uint32_t *order, size_t hosts,
		 const char *fabric)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *f = open_memstream(&text, &bytes);

	topo_preset_hosts(p, order, hosts, f);
	fclose(f);
	*m = (struct topo_model){ 0 };
	model_of(m, fabric, INPUT_FABRIC);
	topo_fabric_settle(&m->fabric);
	model_of(m, text, INPUT_HOSTS);
	topo_model_settle(m);
	free(text);
}

static char *fabric_of(const struct topo_preset *p, size_t hosts)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *f = open_memstream(&text, &bytes);

	topo_preset_fabric(p, hosts, f);
	fclose(f);
	return text;
}

static double ideal_of(const struct topo_preset *p, enum topo_order_kind kind, size_t hosts, uint64_t seed,
		       const char *fabric, double *sorted)
{
	uint32_t order[1024];
	struct topo_judging j;
	struct topo_model m;
	double ideal;

	topo_preset_order(p, kind, hosts, seed, order);
	plan(&m, p, order, hosts, fabric);
	topo_judging_init(&j, &m, &m.log.comms[0]);
	ideal = j.bounds.ideal;
	*sorted = j.sorted.ideal;
	for (size_t i = 0; i < j.sorted.count; i++)
		assert_int_equal(j.sorted.at[i].crossings, j.sorted.at[i].crossings_least);
	topo_judging_release(&j);
	topo_model_release(&m);
	return ideal;
}

static void the_rack_model_of_abci_gives_the_published_bounds(void **state)
{
	static const struct { size_t hosts; double shuffled, alternating; } rows[] = {
		{ 34, 25.0, 25.0 }, { 68, 17.9, 8.8 }, { 102, 12.2, 8.8 }, { 128, 11.2, 8.8 },
	};
	enum { SEEDS = 20 };
	const struct topo_preset *p = topo_preset_find("abci-v");

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *fabric = fabric_of(p, rows[i].hosts);
		double sum = 0, sorted;

		assert_true(fabs(ideal_of(p, ORDER_CONTIGUOUS, rows[i].hosts, 0, fabric, &sorted) - 25) < 1e-6);
		assert_true(fabs(ideal_of(p, ORDER_ALTERNATING, rows[i].hosts, 0, fabric, &sorted) -
				 rows[i].alternating) < 0.05);
		assert_true(fabs(sorted - 25) < 1e-6);
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			sum += ideal_of(p, ORDER_SHUFFLED, rows[i].hosts, seed, fabric, &sorted);
			assert_true(fabs(sorted - 25) < 1e-6);
		}
		print_message("%zu hosts shuffled: %.2f GB/s, mean of %d\n", rows[i].hosts, sum / SEEDS, SEEDS);
		assert_true(fabs(sum / SEEDS - rows[i].shuffled) < 0.05 * rows[i].shuffled);
		free(fabric);
	}
}

static void reversing_a_ring_or_renaming_its_hosts_changes_no_bound(void **state)
{
	const struct topo_preset *p = topo_preset_find("lassen");
	char *fabric = fabric_of(p, 72), *renamed = strdup(fabric), *at = renamed;
	uint32_t order[72], backward[72];
	double bound[3];

	(void)state;
	topo_preset_order(p, ORDER_SHUFFLED, 72, 5, order);
	for (size_t i = 0; i < 72; i++)
		backward[i] = order[71 - i];
	while ((at = strstr(at, "lassen")))
		memcpy(at, "nessal", 6);
	for (int k = 0; k < 3; k++) {
		struct topo_preset other = *p;
		struct topo_judging j;
		struct topo_model m;

		other.host = k == 2 ? "nessal%zu" : p->host;
		plan(&m, &other, k == 1 ? backward : order, 72, k == 2 ? renamed : fabric);
		topo_judging_init(&j, &m, &m.log.comms[0]);
		bound[k] = j.bounds.ideal;
		topo_judging_release(&j);
		topo_model_release(&m);
	}
	assert_true(bound[0] < 25 && bound[0] == bound[1] && bound[0] == bound[2]);
	free(fabric);
	free(renamed);
}

static void a_plans_log_is_read_back_as_the_plan(void **state)
{
	(void)state;
	for (size_t i = 0; i < topo_preset_count; i++)
		for (int asymmetric = 0; asymmetric < 2; asymmetric++) {
			const struct topo_preset *p = &topo_presets[i];
			uint32_t order[40];
			struct topo_model m = { 0 };
			char *text = NULL;
			size_t bytes = 0;
			FILE *f = open_memstream(&text, &bytes);

			topo_preset_order(p, ORDER_CONTIGUOUS, 40, 0, order);
			topo_preset_log(p, order, 40, asymmetric, f);
			fclose(f);
			model_of(&m, text, INPUT_LOG);
			topo_model_settle(&m);
			assert_int_equal(m.log.comms[0].rank_count, 40 * p->gpus);
			assert_int_equal(m.log.comms[0].channel_count, p->rails);
			assert_int_equal(verdict_of(&m, "ring-closed"), TOPO_OK);
			assert_int_equal(verdict_of(&m, "ring-contiguous"), TOPO_OK);
			assert_int_equal(verdict_of(&m, "nic-hop"), asymmetric ? TOPO_FAULT : TOPO_OK);
			assert_int_equal(verdict_of(&m, "nic-balance"), asymmetric ? TOPO_FAULT : TOPO_OK);
			if (!asymmetric)
				assert_int_equal(faults_of(&m), 0);
			topo_model_release(&m);
			free(text);
		}
}

/* Leaves a and b with two hosts each, two spines, one cable each. */
static const char two_leaves[] =
	"vendid=0x2c9\nSwitch 9 \"S-a\" # \"leaf a\" base port 0 lid 1 lmc 0\n[1] \"H-11\"[1](21) # \"h1 "
	"mlx5_0\" lid 11 4xEDR\n"
	"[2] \"H-12\"[1](22) # \"h2 mlx5_0\" lid 12 4xEDR\n[3] \"S-c\"[1] # \"spine c\" lid 3 4xEDR\n[4] "
	"\"S-d\"[1] # \"spine d\" lid 4 "
	"4xEDR\nSwitch 9 \"S-b\" # \"leaf b\" base port 0 lid 2 lmc 0\n[1] \"H-13\"[1](23) # \"h3 mlx5_0\" lid "
	"13 4xEDR\n"
	"[2] \"H-14\"[1](24) # \"h4 mlx5_0\" lid 14 4xEDR\n[3] \"S-c\"[2] # \"spine c\" lid 3 4xEDR\n[4] "
	"\"S-d\"[2] # \"spine d\" lid 4 "
	"4xEDR\nSwitch 9 \"S-c\" # \"spine c\" base port 0 lid 3 lmc 0\nSwitch 9 \"S-d\" # \"spine d\" base "
	"port 0 lid 4 lmc 0\n"
	"Ca 1 \"H-11\" # \"h1 mlx5_0\"\n[1](21) \"S-a\"[1] # lid 11 lmc 0 \"leaf a\" lid 1 4xEDR\n"
	"Ca 1 \"H-12\" # \"h2 mlx5_0\"\n[1](22) \"S-a\"[2] # lid 12 lmc 0 \"leaf a\" lid 1 4xEDR\n"
	"Ca 1 \"H-13\" # \"h3 mlx5_0\"\n[1](23) \"S-b\"[1] # lid 13 lmc 0 \"leaf b\" lid 2 4xEDR\n"
	"Ca 1 \"H-14\" # \"h4 mlx5_0\"\n[1](24) \"S-b\"[2] # lid 14 lmc 0 \"leaf b\" lid 2 4xEDR\n";

static void a_host_that_nothing_places_comes_behind_those_that_have_a_place(void **state)
{
	static const char *const groups = "SwitchName=s0 Nodes=h[3-4]\nSwitchName=s1 Nodes=h[1-2]\n";
	static const struct { const char *fabric, *hosts, *order; } rows[] = {
		{ two_leaves, "h1\nx1\nh3\nh2\nh4\n", "h1 h2 h3 h4 x1 " },
		{ two_leaves, "x1\nh1\nh3\nh2\nh4\n", "x1 h1 h2 h3 h4 " },	/* but rank 0's is first */
		{ groups, "h1\nx1\nh3\nh2\nh4\n", "h1 h2 h3 h4 x1 " },
		{ groups, "x1\nh1\nh3\nh2\nh4\n", "x1 h3 h4 h1 h2 " },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct topo_model m = { 0 };
		char order[64] = "";
		uint32_t *hosts;
		size_t count;

		model_of(&m, rows[i].fabric, INPUT_FABRIC);
		topo_fabric_settle(&m.fabric);
		model_of(&m, rows[i].hosts, INPUT_HOSTS);
		topo_model_settle(&m);
		hosts = topo_order_of(&m, &m.log.comms[0], &count);
		for (size_t k = 0; k < count; k++)
			strcat(strcat(order, m.log.hosts[hosts[k]].name), " ");
		assert_string_equal(order, rows[i].order);
		free(hosts);
		topo_model_release(&m);
	}
}

static void a_flow_follows_the_forwarding_tables_and_collisions_are_counted(void **state)
{
	/* They use spine c alone. */
	static const char routes[] = "Unicast lids [0x0-0xe] of switch Lid 1 guid 0x000000000000000a (leaf a):\n  Lid  "
				     "Out   Destination\n       Port     Info\n"
				     "0x000b 001 : (x)\n0x000c 002 : (x)\n0x000d 003 : (x)\n0x000e %s : (x)\n"
				     "Unicast lids [0x0-0xe] of switch Lid 2 guid 0x000000000000000b (leaf b):\n0x000b "
				     "003 : (x)\n0x000c 003 : (x)\n"
				     "0x000d 001 : (x)\n0x000e 002 : (x)\n"
				     "Unicast lids [0x0-0xe] of switch Lid 3 guid 0x000000000000000c (spine "
				     "c):\n0x000b 001 # (x)\n0x000c 001 # (x)\n"
				     "0x000d 002 # (x)\n0x000e 002 # (x)\n"
				     "Unicast lids [0x0-0xe] of switch Lid 4 guid 0x000000000000000d (spine "
				     "d):\n0x000d 002 : (x)\n0x000e 002 : (x)\n";
	static const struct { const char *to_h4, *order; double ideal, fixed; } rows[] = {
		{ "003", "h1\nh2\nh3\nh4\n", 12.5, 12.5 },
		{ "003", "h1\nh3\nh2\nh4\n", 12.5, 6.25 },	/* both hops up from a take spine c */
		{ "004", "h1\nh3\nh2\nh4\n", 12.5, 6.25 },	/* b's still do */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct topo_model m = { 0 };
		struct topo_judging j;
		char tables[2048];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(tables, sizeof(tables), routes, rows[i].to_h4);
#pragma GCC diagnostic pop
		model_of(&m, two_leaves, INPUT_FABRIC);
		model_of(&m, tables, INPUT_ROUTES);
		topo_fabric_settle(&m.fabric);
		model_of(&m, rows[i].order, INPUT_HOSTS);
		topo_model_settle(&m);
		topo_judging_init(&j, &m, &m.log.comms[0]);
		assert_true(j.bounds.routed);
		assert_true(fabs(j.bounds.ideal - rows[i].ideal) < 1e-6);
		assert_true(fabs(j.bounds.fixed - rows[i].fixed) < 1e-6);
		assert_true(j.bounds.fixed <= j.bounds.ideal && j.bounds.worst <= j.bounds.fixed);
		assert_int_equal(verdict_of(&m, "static-collision"),
				 rows[i].fixed < rows[i].ideal ? TOPO_FAULT : TOPO_OK);
		assert_int_equal(verdict_of(&m, "path-length"), TOPO_OK);
		assert_true(fabs(topo_bounds_least(&j.bounds) - rows[i].fixed) < 1e-6);
		topo_judging_release(&j);
		m.adaptive = true;		/* then the tables decide nothing, and what they would is still known */
		topo_judging_init(&j, &m, &m.log.comms[0]);
		assert_true(fabs(topo_bounds_least(&j.bounds) - rows[i].ideal) < 1e-6);
		assert_true(fabs(j.bounds.fixed - rows[i].fixed) < 1e-6);
		topo_judging_release(&j);
		topo_model_release(&m);
	}
}

/* Seven switches in a row with a host at each end: the fourth is at level 3, and cables get faster towards it. */
static void every_level_has_a_figure_by_the_forwarding_tables(void **state)
{
	static const char *const cables[] = { "EDR", "HDR", "NDR", "NDR", "HDR", "EDR" };
	static const struct { const char *level; double fixed; } rows[] = {
		{ "leaf", 12.5 }, { "rack", 25 }, { "level 3", 50 },
	};
	struct topo_model m = { 0 };
	struct topo_judging j;
	char *fabric, *tables;
	size_t bytes;
	FILE *f = open_memstream(&fabric, &bytes), *t = open_memstream(&tables, &bytes);

	(void)state;
	fprintf(f, "vendid=0x2c9\n");
	for (int s = 1; s <= 7; s++) {
		fprintf(f, "Switch 9 \"S-%d\" # \"s%d\" base port 0 lid %d lmc 0\n", s, s, s);
		if (s < 7)
			fprintf(f, "[2] \"S-%d\"[1] # \"s%d\" lid %d 4x%s\n", s + 1, s + 1, s + 1, cables[s - 1]);
		fprintf(t, "Unicast lids [0x0-0x9] of switch Lid %d guid 0x%016x (s%d):\n0x0008 001 : (x)\n0x0009 002 : (x)\n",
			s, (unsigned)s, s);
	}
	fprintf(f, "Ca 1 \"H-11\" # \"h1 x\"\n[1](21) \"S-1\"[1] # lid 8 lmc 0 \"s1\" lid 1 4xEDR\n"
		   "Ca 1 \"H-12\" # \"h2 x\"\n[1](22) \"S-7\"[2] # lid 9 lmc 0 \"s7\" lid 7 4xEDR\n");
	fclose(f);
	fclose(t);
	model_of(&m, fabric, INPUT_FABRIC);
	model_of(&m, tables, INPUT_ROUTES);
	topo_fabric_settle(&m.fabric);
	model_of(&m, "h1\nh2\n", INPUT_HOSTS);
	topo_model_settle(&m);
	topo_judging_init(&j, &m, &m.log.comms[0]);
	assert_true(j.bounds.routed);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct topo_bound *b = topo_bound_of(&j.bounds, rows[i].level);

		assert_non_null(b);
		assert_true(fabs(b->fixed - rows[i].fixed) < 1e-6);
	}
	topo_judging_release(&j);
	topo_model_release(&m);
	free(fabric);
	free(tables);
}

/* A triangle of switches with a host each; a's table sends what is for c's host through b, or straight. */
static void a_detour_of_the_forwarding_tables_is_told(void **state)
{
	static const char fabric[] =
		"vendid=0x2c9\nSwitch 9 \"S-a\" # \"a\" base port 0 lid 1 lmc 0\n"
		"[1] \"H-11\"[1](21) # \"h1 x\" lid 11 4xEDR\n"
		"[2] \"S-b\"[2] # \"b\" lid 2 4xEDR\n[3] \"S-c\"[2] # \"c\" lid 3 4xEDR\n"
		"Switch 9 \"S-b\" # \"b\" base port 0 lid 2 lmc 0\n[1] \"H-12\"[1](22) # \"h2 x\" lid 12 4xEDR\n"
		"[3] \"S-c\"[3] # \"c\" lid 3 4xEDR\n"
		"Switch 9 \"S-c\" # \"c\" base port 0 lid 3 lmc 0\n[1] \"H-13\"[1](23) # \"h3 x\" lid 13 4xEDR\n"
		"Ca 1 \"H-11\" # \"h1 x\"\n[1](21) \"S-a\"[1] # lid 11 lmc 0 \"a\" lid 1 4xEDR\n"
		"Ca 1 \"H-12\" # \"h2 x\"\n[1](22) \"S-b\"[1] # lid 12 lmc 0 \"b\" lid 2 4xEDR\n"
		"Ca 1 \"H-13\" # \"h3 x\"\n[1](23) \"S-c\"[1] # lid 13 lmc 0 \"c\" lid 3 4xEDR\n";

	(void)state;
	for (int detour = 0; detour < 2; detour++) {
		struct topo_model m = { 0 };
		char tables[1024];

		snprintf(tables, sizeof(tables),
			 "Unicast lids [0x0-0xd] of switch Lid 1 guid 0x000000000000000a (a):\n"
			 "0x000b 001 : (x)\n0x000c 002 : (x)\n0x000d %s : (x)\n"
			 "Unicast lids [0x0-0xd] of switch Lid 2 guid 0x000000000000000b (b):\n"
			 "0x000b 002 : (x)\n0x000c 001 : (x)\n0x000d 003 : (x)\n"
			 "Unicast lids [0x0-0xd] of switch Lid 3 guid 0x000000000000000c (c):\n"
			 "0x000b 002 : (x)\n0x000c 003 : (x)\n0x000d 001 : (x)\n",
			 detour ? "002" : "003");
		model_of(&m, fabric, INPUT_FABRIC);
		model_of(&m, tables, INPUT_ROUTES);
		topo_fabric_settle(&m.fabric);
		model_of(&m, "h1\nh3\nh2\n", INPUT_HOSTS);
		topo_model_settle(&m);
		assert_int_equal(verdict_of(&m, "path-length"), detour ? TOPO_FAULT : TOPO_OK);
		topo_model_release(&m);
	}
}

static void a_fabric_file_older_than_the_run_is_told_when_lids_have_changed(void **state)
{
	static const struct { const char *ran, *lid; enum topo_verdict is; } rows[] = {
		{ "Thu Jun 18 14:28:58 2020", "0x000c", TOPO_FAULT },
		{ "2020-06-18T14:28:58 ", "0x000c", TOPO_FAULT },
		{ "Thu Jun 18 14:28:58 2020", "0x000b", TOPO_OK },	/* old, but nothing moved */
		{ "Sun Mar 10 14:28:58 2019", "0x000c", TOPO_OK },	/* the run came first */
		{ "", "0x000c", TOPO_OK },				/* no date: no proof */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct topo_model m = { 0 };
		char log[512], sysfs[512];

		snprintf(log, sizeof(log),
			 "%sn1:1:1 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB ; OOB ib0:10.0.0.1<0>\n"
			 "%sn1:1:1 [0] NCCL INFO comm 0x1 rank 0 nranks 1 cudaDev 0 busId 1000 - Init COMPLETE\n",
			 rows[i].ran, rows[i].ran);
		snprintf(sysfs, sizeof(sysfs), "n1: /sys/class/infiniband/mlx5_0/node_guid:0000:0000:0000:0011\n"
					       "n1: /sys/class/infiniband/mlx5_0/ports/1/lid:%s\n", rows[i].lid);
		model_of(&m, log, INPUT_AUTO);
		model_of(&m, sysfs, INPUT_AUTO);
		model_of(&m,
			 "# Topology file: generated on Mon Mar 11 07:30:59 2019\nvendid=0x2c9\n"
			 "Switch 9 \"S-a\" # \"a\" base port 0 lid 1 lmc 0\n"
			 "[1] \"H-11\"[1](21) # \"n1 mlx5_0\" lid 11 4xEDR\n"
			 "Ca 1 \"H-11\" # \"n1 mlx5_0\"\n[1](21) \"S-a\"[1] # lid 11 lmc 0 \"a\" lid 1 4xEDR\n",
			 INPUT_AUTO);
		topo_model_settle(&m);
		assert_int_equal(m.fabric.day, 20190311);
		assert_int_equal(verdict_of(&m, "fabric-join"), rows[i].is);
		topo_model_release(&m);
	}
}

static void sysfs_lines_of_hosts_show_the_slow_port_and_the_narrow_slot(void **state)
{
	static const char text[] = "n1: /sys/class/infiniband/mlx5_0/ports/1/rate:100 Gb/sec (4X EDR)\nn1: "
				   "/sys/class/infiniband/mlx5_0/ports/1/state:4: ACTIVE\n"
				   "n2: /sys/class/infiniband/mlx5_0/ports/1/rate:100 Gb/sec (4X EDR)\nn2: "
				   "/sys/class/infiniband/mlx5_0/ports/1/state:4: ACTIVE\n"
				   "n3: /sys/class/infiniband/mlx5_0/ports/1/rate:%s Gb/sec (4X)\nn3: "
				   "/sys/class/infiniband/mlx5_0/ports/1/state:4: ACTIVE\n"
				   "n3: /sys/class/infiniband/mlx5_0/device/current_link_width:%s\nn3: "
				   "/sys/class/infiniband/mlx5_0/device/max_link_width:16\n";
	static const struct { const char *rate, *width; enum topo_verdict rate_is, width_is;
	} rows[] = {
		{ "100", "16", TOPO_OK, TOPO_OK },
		{ "50", "16", TOPO_FAULT, TOPO_OK },
		{ "100", "8", TOPO_OK, TOPO_FAULT },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char filled[2048];
		struct topo_model m = { 0 };

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(filled, sizeof(filled), text, rows[i].rate, rows[i].width);
#pragma GCC diagnostic pop
		model_of(&m, filled, INPUT_AUTO);
		topo_model_settle(&m);
		assert_int_equal(verdict_of(&m, "rate"), rows[i].rate_is);
		assert_int_equal(verdict_of(&m, "pcie-width"), rows[i].width_is);
		assert_int_equal(verdict_of(&m, "port-active"), TOPO_OK);
		topo_model_release(&m);
	}
}

static void what_counters_gained_between_two_files_is_judged_and_one_file_tells_nothing(void **state)
{
	static const char text[] = "n1: /sys/class/infiniband/mlx5_0/ports/1/state:4: ACTIVE\n"
				   "n1: /sys/class/infiniband/mlx5_0/ports/1/counters/symbol_error:%d\n"
				   "n1: /sys/class/infiniband/mlx5_0/ports/1/counters/port_xmit_wait:%d\n"
				   "n1: /sys/class/infiniband/mlx5_0/ports/1/counters/port_xmit_data:%d\n";
	static const struct { int symbols, wait, data; enum topo_verdict is; } rows[] = {
		{ 7, 1000, 100000000, TOPO_OK },		/* seven since boot, none since */
		{ 8, 1000, 100000000, TOPO_FAULT },
		{ 7, 6000000, 100000000, TOPO_FAULT },		/* 5.7 % */
		{ 7, 5000000, 100000000, TOPO_OK },		/* 4.8 % */
		{ 7, 90, 100, TOPO_OK },			/* too little data to tell */
		{ 3, 1000, 100000000, TOPO_OK },		/* set back in between */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct topo_model m = { 0 };
		char before[1024], after[1024];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(before, sizeof(before), text, 7, 0, 0);
		snprintf(after, sizeof(after), text, rows[i].symbols, rows[i].wait, rows[i].data);
#pragma GCC diagnostic pop
		assert_int_equal(topo_model_take(&m, "before", before, strlen(before), INPUT_SYSFS), OK);
		assert_int_equal(verdict_of(&m, "counters"), TOPO_CANNOT_TELL);
		assert_int_equal(topo_model_take(&m, "after", after, strlen(after), INPUT_AUTO), OK);
		topo_model_settle(&m);
		assert_int_equal(verdict_of(&m, "counters"), rows[i].is);
		topo_model_release(&m);
	}
}

static void the_distance_of_a_ring_end_is_judged_by_the_hosts_own_layout(void **state)
{
	const struct topo_preset *p = topo_preset_find("abci-v");
	char *xml = printed(topo_preset_hwloc, p);

	(void)state;
	for (int swapped = 0; swapped < 2; swapped++) {
		struct topo_model m = { 0 };
		uint32_t order[2] = { 0, 1 };
		char *text = NULL, *at;
		size_t bytes = 0;
		FILE *f = open_memstream(&text, &bytes);

		topo_preset_log(p, order, 2, false, f);
		fclose(f);
		for (at = text; swapped && (at = strstr(at, "via NET/IB/"));
		     at += 12) /* all over the other socket's HCA */
			at[11] = at[11] == '0' ? '1' : '0';
		model_of(&m, text, INPUT_LOG);
		model_of(&m, xml, INPUT_HWLOC);
		topo_model_settle(&m);
		assert_int_equal(verdict_of(&m, "nic-distance"), swapped ? TOPO_FAULT : TOPO_OK);
		assert_int_equal(verdict_of(&m, "ring-in-node"), TOPO_OK);
		assert_int_equal(verdict_of(&m, "nvlink-equal"), TOPO_OK);
		topo_model_release(&m);
		free(text);
	}
	free(xml);
}

/* The preset's GPUs 0 and 1 are near CPU 0, 2 and 3 near CPU 1. */
static void a_process_bound_to_the_other_socket_is_told_in_every_era(void **state)
{
	static const struct { const char *version, *line; enum topo_verdict with, without; } rows[] = {
		{ "2.10.3", "Setting affinity for GPU 3 to 02", TOPO_OK, TOPO_CANNOT_TELL },
		{ "2.10.3", "Setting affinity for GPU 3 to 01", TOPO_FAULT, TOPO_CANNOT_TELL },
		{ "2.10.3", "Setting affinity for GPU 0 to 01,00000000", TOPO_FAULT, TOPO_CANNOT_TELL },
		{ "2.27.3", "Setting affinity for GPU 3 to 0-1", TOPO_OK, TOPO_CANNOT_TELL },
		{ "2.27.3", "Setting affinity for GPU 3 to 0", TOPO_FAULT, TOPO_CANNOT_TELL },
		{ "2.28.3", "ncclTopoGetCpuAffinity: Affinity for GPU 3 is 1. (GPU affinity = 0-3 ; CPU affinity = 1).",
		  TOPO_OK, TOPO_OK },
		{ "2.28.3", "ncclTopoGetCpuAffinity: Affinity for GPU 3 is empty, ignoring. (GPU affinity = 32-63 ; "
			    "CPU affinity = 0-31).", TOPO_FAULT, TOPO_FAULT },
		{ "2.10.3", "Setting affinity for GPU 3 to zz", TOPO_CANNOT_TELL, TOPO_CANNOT_TELL },
	};
	const struct topo_preset *p = topo_preset_find("abci-v");
	char *xml = printed(topo_preset_hwloc, p);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (int layout = 0; layout < 2; layout++) {
			struct topo_model m = { 0 };
			uint32_t order[2] = { 0, 1 };
			char *text = NULL, *log;
			size_t bytes = 0;
			FILE *f = open_memstream(&text, &bytes);

			fprintf(f, "NCCL version %s+cuda12\n", rows[i].version);
			topo_preset_log(p, order, 2, false, f);
			fclose(f);
			assert_true(asprintf(&log, "%sg0001:1:1 [0] NCCL INFO %s\n", text, rows[i].line) > 0);
			model_of(&m, log, INPUT_LOG);
			if (layout)
				model_of(&m, xml, INPUT_HWLOC);
			topo_model_settle(&m);
			assert_int_equal(verdict_of(&m, "cpu-binding"), layout ? rows[i].with : rows[i].without);
			topo_model_release(&m);
			free(text);
			free(log);
		}
	free(xml);
}

static void sharps_groups_name_hosts_by_port_guid(void **state)
{
	char *xml = printed(topo_preset_hwloc, topo_preset_find("abci-v"));
	struct topo_model m = { 0 };

	(void)state;
	model_of(&m, xml, INPUT_HWLOC);
	model_of(&m, "SwitchName=ibsw1 Nodes=0x0001000000001001,0x0001000000009991\n", INPUT_FABRIC);
	topo_model_settle(&m);
	assert_string_equal(m.fabric.members[0].host, "g0001");
	assert_string_equal(m.fabric.members[1].host, "0x0001000000009991");
	topo_model_release(&m);
	free(xml);
}

static void a_difference_of_two_runs_is_told_and_equal_runs_have_none(void **state)
{
	char texts[3][4096];
	struct topo_model m[3];
	struct table t;
	bool nic = false;

	(void)state;
	two_hosts_text(texts[0], "0/GDRDMA", "0/GDRDMA", "0/GDRDMA", "0/GDRDMA");
	two_hosts_text(texts[1], "0/GDRDMA", "0/GDRDMA", "0/GDRDMA", "0/GDRDMA");
	two_hosts_text(texts[2], "1/GDRDMA", "0", "0/GDRDMA", "0/GDRDMA");
	for (int i = 0; i < 3; i++)
		m[i] = log_of(texts[i]);
	assert_int_equal(topo_diff(&t, &m[0], &m[1]), 0);
	table_release(&t);
	assert_int_equal(topo_diff(&t, &m[0], &m[2]), 2);	/* a NIC of a hop, and GPUDirect RDMA */
	for (size_t r = 0; r < table_rows(&t); r++)
		nic = nic || !strcmp(table_cell(&t, r, 2)->text, "1 to 2, mlx5_1 to mlx5_0");
	assert_true(nic);
	table_release(&t);
	for (int i = 0; i < 3; i++)
		topo_model_release(&m[i]);
}

static void measured_is_a_number_or_the_best_of_a_table(void **state)
{
	static const struct { const char *text; double gbps;
	} files[] = {
		{ "#       size  count  type redop root time algbw busbw #wrong time algbw busbw #wrong\n"
		  "     1048576  262144 float   sum   -1  100.0 10.49  18.35      0  99.0 10.59  18.53      0\n"
		  "     2097152  524288 float   sum   -1  150.0 13.98  24.47      0  152.0 13.80  24.15      0\n",
		  24.47 },
		{ "{\"results\": [{\"size\": 8, \"out_of_place\": {\"bus_bw\": 3.5}, \"in_place\": {\"bus_bw\": "
		  "4.25}}]}",
		  4.25 },
		{ "nothing\n", 0 },
	};
	char folder[] = "/tmp/sfscale-topo-XXXXXX", path[PATH_BYTES];
	double gbps;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/table", folder);
	assert_int_equal(topo_measured("12.5", &gbps), OK);
	assert_true(gbps == 12.5);
	assert_int_not_equal(topo_measured("-1", &gbps), OK);
	assert_int_not_equal(topo_measured("/nowhere", &gbps), OK);
	assert_int_not_equal(topo_measured(folder, &gbps), OK);		/* no record of a run in it */
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		assert_int_equal(file_write(path, files[i].text, strlen(files[i].text)), OK);
		assert_int_equal(topo_measured(path, &gbps) == OK, files[i].gbps > 0);
		assert_true(fabs(gbps - files[i].gbps) < 1e-9);
	}
	unlink(path);
	rmdir(folder);
}

static void a_run_of_ours_is_measured_by_its_largest_buckets(void **state)
{
	char folder[] = "/tmp/sfscale-topo-XXXXXX", path[PATH_BYTES];
	double gbps;

	(void)state;
	assert_non_null(mkdtemp(folder));
	for (int rank = 0; rank < 2; rank++) {
		const char *const lanes[] = { "main", "comm" };
		cJSON *head = cJSON_CreateObject(), *tail = cJSON_CreateObject();
		struct recorder *r;

		snprintf(path, sizeof(path), "%s/rank-%05d.sfr", folder, rank);
		cJSON_AddNumberToObject(head, "world", 2);
		assert_int_equal(recorder_open(&r, path, head, lanes, 2, 64), OK);
		cJSON_Delete(head);
		/* rank 0 waits for rank 1, which needs 1 ms for 10 MB: 10 GB/s, times 2 (2-1)/2 */
		span_put(recorder_lane(r, 1), SPAN_ALLREDUCE, 1000000, rank ? 2000000 : 9000000, 0, 0, 10000000);
		span_put(recorder_lane(r, 1), SPAN_ALLREDUCE, 10000000, 10000001, 0, 1, 8);
		assert_int_equal(recorder_close(r, tail), OK);
		cJSON_Delete(tail);
	}
	assert_int_equal(topo_measured(folder, &gbps), OK);
	assert_true(fabs(gbps - 10) < 0.5);
	for (int rank = 0; rank < 2; rank++) {
		snprintf(path, sizeof(path), "%s/rank-%05d.sfr", folder, rank);
		unlink(path);
	}
	rmdir(folder);
}

/* Exit status of the program with these arguments. */
static int program(const char *arguments)
{
	char command[2 * PATH_BYTES];
	const char *build = getenv("SFSCALE_BUILD");
	int status;

	snprintf(command, sizeof(command), "%s/sfscale topo %s >/dev/null 2>&1", build ? build : "build", arguments);
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_command_ends_with_0_or_3_or_2_and_writes_what_it_says(void **state)
{
	static const char *const written[] = { "verdict.json",	 "hosts.txt", "hostfile", "rankfile",
					       "slurm_hostfile", "ring.gp",   "nics.gp" };
	char folder[] = "/tmp/sfscale-topo-XXXXXX", arguments[PATH_BYTES], path[PATH_BYTES], *text;
	cJSON *json;

	(void)state;
	assert_non_null(mkdtemp(folder));
#define RUN(...) (snprintf(arguments, sizeof(arguments), __VA_ARGS__), program(arguments))
	assert_int_equal(RUN("--generate abci-v --nodes 68 --order alternating --out %s/bad", folder), 0);
	assert_int_equal(RUN("--generate abci-v --nodes 68 --out %s/good", folder), 0);
	assert_int_equal(RUN("%s/good/nccl.log --fabric %s/good/fabric.ibnetdiscover", folder, folder), 0);
	assert_int_equal(
		RUN("%s/bad/nccl.log --fabric %s/bad/fabric.ibnetdiscover --out %s/out", folder, folder, folder), 3);
	assert_int_equal(RUN("--hosts %s/out/hostfile --fabric %s/bad/fabric.ibnetdiscover", folder, folder),
			 0); /* mended */
	assert_int_equal(RUN("--diff %s/bad/nccl.log %s/good/nccl.log", folder, folder), 0);
	assert_int_equal(RUN("--nccl-log %s/absent", folder), 2);
	assert_int_equal(RUN("--nccl-log %s/good/hosts.txt", folder), 2);
	assert_int_equal(RUN("--nodes x"), 1);
	assert_int_equal(RUN("--generate abci-v"), 1);
	snprintf(arguments, sizeof(arguments), "gzip -c %s/good/nccl.log > %s/nccl.log.gz", folder, folder);
	assert_int_equal(system(arguments), 0);
	assert_int_equal(RUN("--json %s/nccl.log.gz", folder), 0);
	for (size_t i = 0; i < ARRAY_LEN(written); i++) {
		snprintf(path, sizeof(path), "%s/out/%s", folder, written[i]);
		assert_int_equal(access(path, R_OK), 0);
	}
	snprintf(path, sizeof(path), "%s/out/verdict.json", folder);
	assert_int_equal(json_read(path, &json), OK);
	assert_true(json_number(cJSON_GetObjectItem(json, "faults"), "error", 0) >= 1);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "order")), 68);
	cJSON_Delete(json);
	snprintf(path, sizeof(path), "%s/out/rankfile", folder);
	assert_int_equal(file_read(path, &text, NULL), OK);
	assert_int_equal(strncmp(text, "rank 0=g0001 slot=0:*\n", 22), 0);
	free(text);
	snprintf(arguments, sizeof(arguments), "rm -r %s", folder);
	assert_int_equal(system(arguments), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_connection_line_of_any_era_is_read_in_full),
		cmocka_unit_test(an_invented_connection_line_is_counted_and_not_read),
		cmocka_unit_test(each_fault_of_a_hop_is_told_and_a_healthy_hop_is_silent),
		cmocka_unit_test(a_log_cut_anywhere_never_gives_an_error_that_the_whole_does_not),
		cmocka_unit_test(a_line_torn_by_another_process_gives_both_messages_to_their_owners),
		cmocka_unit_test(a_thread_is_known_again_behind_any_prefix_and_in_the_next_file),
		cmocka_unit_test(communicators_without_an_id_are_told_apart_by_host_and_by_device),
		cmocka_unit_test(connections_made_after_init_belong_to_the_newest_communicator_that_fits),
		cmocka_unit_test(a_communicators_pointer_is_one_of_the_process_that_names_it),
		cmocka_unit_test(a_setting_said_again_is_kept_where_it_was_said_first),
		cmocka_unit_test(a_host_id_makes_nodes_of_one_machine_and_one_node_of_two_containers),
		cmocka_unit_test(containers_of_one_subnet_with_different_gpus_are_one_machine_and_the_ring_changes_it),
		cmocka_unit_test(a_topology_file_that_cannot_be_is_told_and_a_pruned_one_is_not),
		cmocka_unit_test(xml_that_is_cut_deep_a_bomb_or_of_another_kind_is_refused),
		cmocka_unit_test(a_preset_host_has_the_distances_that_its_machine_is_known_for),
		cmocka_unit_test(links_carry_what_their_generation_does),
		cmocka_unit_test(hops_between_sockets_are_counted_per_direction_and_limit_nothing_by_an_estimate),
		cmocka_unit_test(one_cable_reads_the_same_from_every_kind_of_text),
		cmocka_unit_test(a_broken_fabric_is_refused_with_its_line),
		cmocka_unit_test(loops_and_cycles_in_a_fabric_end_nothing),
		cmocka_unit_test(a_schedulers_topology_is_checked_and_counts_crossings),
		cmocka_unit_test(a_topology_conf_is_read_as_slurm_reads_it),
		cmocka_unit_test(a_topology_yaml_says_what_a_topology_conf_does),
		cmocka_unit_test(a_rule_for_racks_makes_groups_of_host_names),
		cmocka_unit_test(a_jobs_own_addresses_are_its_groups),
		cmocka_unit_test(the_rack_model_of_abci_gives_the_published_bounds),
		cmocka_unit_test(reversing_a_ring_or_renaming_its_hosts_changes_no_bound),
		cmocka_unit_test(a_plans_log_is_read_back_as_the_plan),
		cmocka_unit_test(a_host_that_nothing_places_comes_behind_those_that_have_a_place),
		cmocka_unit_test(a_flow_follows_the_forwarding_tables_and_collisions_are_counted),
		cmocka_unit_test(every_level_has_a_figure_by_the_forwarding_tables),
		cmocka_unit_test(a_detour_of_the_forwarding_tables_is_told),
		cmocka_unit_test(a_fabric_file_older_than_the_run_is_told_when_lids_have_changed),
		cmocka_unit_test(sysfs_lines_of_hosts_show_the_slow_port_and_the_narrow_slot),
		cmocka_unit_test(what_counters_gained_between_two_files_is_judged_and_one_file_tells_nothing),
		cmocka_unit_test(the_distance_of_a_ring_end_is_judged_by_the_hosts_own_layout),
		cmocka_unit_test(a_process_bound_to_the_other_socket_is_told_in_every_era),
		cmocka_unit_test(sharps_groups_name_hosts_by_port_guid),
		cmocka_unit_test(a_difference_of_two_runs_is_told_and_equal_runs_have_none),
		cmocka_unit_test(measured_is_a_number_or_the_best_of_a_table),
		cmocka_unit_test(a_run_of_ours_is_measured_by_its_largest_buckets),
		cmocka_unit_test(the_command_ends_with_0_or_3_or_2_and_writes_what_it_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
