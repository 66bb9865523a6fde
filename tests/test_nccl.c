/*
 * tests/test_nccl.c - comm/nccl with real ranks, an emulated device (tests/emulated/) and a libnccl of our own (fake_nccl.c);
 * and the real libnccl where there is one, as far as that goes without a GPU.
 *
 * What is proved is what comm/nccl does with NCCL's answers: nothing here has moved a byte between GPUs.
 */
#include "tests/shell.h"

#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define FAKE "fake_nccl.so"

static char folder[] = "/tmp/sfscale-nccl-XXXXXX";

static int make_folder(void **state)
{
	(void)state;
	return !mkdtemp(folder);
}

/* Nothing is left: no file of a communicator, no process that knows the folder. */
static int remove_folder(void **state)
{
	char line[PATH_BYTES], out[4096];
	int rc;

	(void)state;
	assert_int_equal(path_make(line, "grep -als 'FAKE_NCCL_DIR=%s' /proc/[0-9]*/environ", folder), OK);
	rc = shell(line, out, sizeof(out)) == 0 ? print_error("left behind: %s\n", out), 1 : rmdir(folder);
	return rc;
}

static const char *build(void)
{
	const char *dir = getenv("SFSCALE_BUILD");

	return dir ? dir : "build";
}

static void skip_without_cuda(void)
{
#ifndef HAVE_CUDA
	print_message("SKIP: built without CUDA\n");
	skip();
#endif
}

/* One set of ranks: `count` of them with `environment`, `library` in the build's tests folder (or as the loader finds it, where
 * it has no such file), and what ranks_nccl takes behind it. */
struct ranks {
	int count;
	const char *environment, *library, *words;
};

/* One rank alone, or mpirun over one set or two; what they print, and the exit status. */
static int job(const struct ranks *a, const struct ranks *b, char *out, size_t room)
{
	char line[PATH_BYTES], path[2][PATH_BYTES], launcher[PATH_BYTES] = "", second[PATH_BYTES] = "";
	const struct ranks *sets[2] = { a, b };

	for (int i = 0; i < 2 && sets[i]; i++) {
		assert_int_equal(path_make(path[i], "%s/tests/%s", build(), sets[i]->library), OK);
		if (access(path[i], F_OK))
			strcpy(path[i], sets[i]->library);
	}
	if (b)
		assert_int_equal(path_make(second, ": -n %d env FAKE_NCCL_DIR=%s %s %s/tests/ranks_nccl %s %s", b->count, folder, b->environment,
					   build(), path[1], b->words), OK);
	if (b || a->count > 1)
		assert_int_equal(path_make(launcher, "mpirun --oversubscribe --bind-to none -n %d", a->count), OK);
	/* Open MPI leaks at its end. */
	assert_int_equal(path_make(line, "ASAN_OPTIONS=detect_leaks=0 timeout -k 5 60 %s env FAKE_NCCL_DIR=%s %s %s/tests/ranks_nccl %s %s "
				   "%s", launcher, folder, a->environment, build(), path[0], a->words, second), OK);
	return shell(line, out, room);
}

static void says(const char *out, const char *text)
{
	if (text && !strstr(out, text))
		fail_msg("'%s' is not in: %s", text, out);
}

static void device_memory_is_averaged_and_broadcast_over_ranks(void **state)
{
	static const struct ranks cases[] = {
		{ 1, "", FAKE, "30 1" },
		{ 2, "", FAKE, "30 2" },
		{ 4, "", FAKE, "30 4" },
		{ 3, "", FAKE, "30 1 one-gpu" },
		{ 2, "NCCL_HOSTID=same", FAKE, "30 1 one-gpu" },	/* must be another on each rank */
		{ 1, "RANKS_BF16=1", FAKE, "30 1" },
		{ 4, "RANKS_BF16=1", FAKE, "30 4" },
		{ 4, "RANKS_BF16=1 SFSCALE_EMULATED_LAZY=18446744073709551615", FAKE, "30 4" },
	};
	char out[8192];

	(void)state;
	skip_without_cuda();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (job(&cases[i], NULL, out, sizeof(out)))
			fail_msg("case %zu: %s", i, out);
		says(out, "nccl 2.");
		says(out, FAKE);	/* the file that was opened */
		if (strstr(out, "sfscale:"))	/* the end of NCCL has no exit status of its own: what is still registered then is said */
			fail_msg("case %zu: %s", i, out);
	}
}

/* `said` and `also`: by the rank that knows, with its name. */
static void what_cannot_work_is_a_sentence_and_an_exit_status(void **state)
{
	static const struct {
		struct ranks a, b;
		int exit;
		const char *said, *also;
	} cases[] = {
		{ { 2, "FAKE_NCCL_VERSION=30100", "fake_nccl_bare.so", "30 2" }, { 0 }, 2, "fake_nccl_bare.so' is NCCL 3.1.0; ", "rank " },
		{ { 1, "FAKE_NCCL_VERSION=30100", FAKE, "30 1" }, { 0 }, 2, "is NCCL 3.1.0; ", NULL },
		{ { 1, "FAKE_NCCL_VERSION=2708", FAKE, "30 1" }, { 0 }, 0, "nccl 2.7.8, ", NULL },
		{ { 2, "FAKE_NCCL_VERSION=21304", "fake_nccl_bare.so", "30 2" }, { 0 }, 2, "lacks 'ncclGetErrorString'", "rank " },
		{ { 1, "", "inject_io.so", "30 1" }, { 0 }, 2, "is no NCCL: it has no 'ncclGetVersion'", NULL },
		{ { 2, "", "no-such-libnccl.so", "30 2" }, { 0 }, 2, "cannot open NCCL (--nccl): no-such-libnccl.so: ", "rank " },
		{ { 1, "", FAKE, "30 0" }, { 0 }, 2, "no CUDA-capable device", NULL },
		{ { 3, "", FAKE, "30 2" }, { 0 }, 1, "rank 2: GPU '0000:01:00.0' of this host is rank 0's", "--one-gpu" },
		{ { 1, "", FAKE, "30 2" }, { 1, "FAKE_NCCL_VERSION=22703", FAKE, "30 2" }, 2,
		  "rank 1: NCCL here is 2.27.3 ('", "and on rank 0 2.28.9 ('" },
		{ { 3, "FAKE_NCCL_FAIL=1:3", FAKE, "30 3" }, { 0 }, 4, "rank 1: ncclAllReduce: remote error: the cable was pulled", NULL },
		/* SIGSTOP: there, and does not answer. */
		{ { 3, "", FAKE, "1 3 19 2 1" }, { 0 }, 4, "ncclAllReduce: not done after 1 s (--nccl-timeout-s)", "rank " },
		{ { 3, "", FAKE, "30 3 9 1 2" }, { 0 }, 137, "signal 9", NULL },
	};
	char out[8192];

	(void)state;
	skip_without_cuda();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int rc = job(&cases[i].a, cases[i].b.count ? &cases[i].b : NULL, out, sizeof(out));

		if (rc != cases[i].exit)
			fail_msg("case %zu: exit %d: %s", i, rc, out);
		says(out, cases[i].said);
		says(out, cases[i].also);
	}
}

/* Whether or not the program has CUDA: who cannot run here and who cannot sum there is named, and no folder is made. */
static void gradients_and_those_who_sum_them_must_meet(void **state)
{
	static const struct { const char *words, *said; } cases[] = {
		{ "--kernels null --comm nccl", "comm 'nccl'" },
		{ "--kernels cuda --comm mpi", "kernels 'cuda'" },
		{ "--kernels null --one-gpu", "--one-gpu wants --kernels cuda" },
		{ "--kernels null --gradients bf16", "comm 'null' sums gradients as they are (--gradients)" },
		{ "--kernels null --nccl-timeout-s 0", "--nccl-timeout-s is 1 to " },
	};
	char words[PATH_BYTES], out[8192];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(path_make(words, "run --policy null --net nano --out %s/run %s", folder, cases[i].words), OK);
		assert_in_range(program(words, out, sizeof(out)), 1, 2);
		says(out, cases[i].said);
	}
}

/* The mean loss of the run's only epoch. */
static double loss_of(const char *name)
{
	char path[PATH_BYTES];
	double loss;
	cJSON *run;

	assert_int_equal(path_make(path, "%s/%s/run.json", folder, name), OK);
	assert_int_equal(json_read(path, &run), OK);
	loss = json_number(cJSON_GetArrayItem(cJSON_GetObjectItem(cJSON_GetObjectItem(run, "results"), "epochs"), 0), "loss", NAN);
	cJSON_Delete(run);
	return loss;
}

/* The whole program, emulated: three steps from the same weights on the same samples. */
static void ranks_over_nccl_train_as_ranks_over_mpi(void **state)
{
	char line[PATH_BYTES], out[8192], run[PATH_BYTES];

	(void)state;
	skip_without_cuda();
	assert_int_equal(path_make(line, "data make %s/data --videos 3 --seconds 10", folder), OK);
	assert_int_equal(program(line, out, sizeof(out)), 0);
	assert_int_equal(path_make(run, "run --data %s/data --net nano --epochs 1 --iterations 3 --workers 1 --precision fp32 --dropout 0 "
				   "--nodes 2 --out %s", folder, folder), OK);
	assert_int_equal(path_make(line, "export ASAN_OPTIONS=detect_leaks=0 FAKE_NCCL_DIR=%s; timeout -k 5 100 mpirun --oversubscribe -n 2 "
				   "%s/emulated/sfscale %s/nccl --kernels cuda --one-gpu --nccl %s/tests/" FAKE, folder, build(), run, build()), OK);
	if (shell(line, out, sizeof(out)))
		fail_msg("%s", out);
	assert_int_equal(path_make(line, "export ASAN_OPTIONS=detect_leaks=0; timeout -k 5 100 mpirun --oversubscribe -n 2 %s/sfscale %s/mpi",
				   build(), run), OK);
	if (shell(line, out, sizeof(out)))
		fail_msg("%s", out);
	assert_true(fabs(loss_of("nccl") - loss_of("mpi")) < 1e-5);
	assert_int_equal(path_make(line, "rm -r %s/data %s/nccl %s/mpi", folder, folder, folder), OK);
	assert_int_equal(shell(line, out, sizeof(out)), 0);
}

#define REAL "libnccl.so.2"

static void skip_without_library(void)
{
	skip_without_cuda();
	if (!dlopen(REAL, RTLD_NOW | RTLD_LOCAL)) {
		print_message("SKIP: no " REAL "\n");
		skip();
	}
}

static void the_real_library_tells_its_version_and_file(void **state)
{
	static const struct ranks fake = { 1, "FAKE_NCCL_VERSION=29999", FAKE, "30 2" }, real = { 1, "", REAL, "30 2" };
	char out[8192];

	(void)state;
	skip_without_library();
	assert_int_equal(job(&fake, &real, out, sizeof(out)), 2);
	says(out, "rank 1: NCCL here is 2.");
	says(out, "libnccl.so");
}

/* A real library finds no driver under the emulated device. */
static void the_real_library_without_a_gpu_is_a_sentence(void **state)
{
	static const struct ranks real = { 1, "", REAL, "30 1" };
	char out[8192];

	(void)state;
	skip_without_library();
	if (!access("/dev/nvidiactl", F_OK)) {
		print_message("SKIP: there is a GPU, and the device memory of this test is not its\n");
		skip();
	}
	assert_int_equal(job(&real, NULL, out, sizeof(out)), 2);
	says(out, "sfscale: nccl");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(device_memory_is_averaged_and_broadcast_over_ranks),
		cmocka_unit_test(what_cannot_work_is_a_sentence_and_an_exit_status),
		cmocka_unit_test(ranks_over_nccl_train_as_ranks_over_mpi),
		cmocka_unit_test(gradients_and_those_who_sum_them_must_meet),
		cmocka_unit_test(the_real_library_tells_its_version_and_file),
		cmocka_unit_test(the_real_library_without_a_gpu_is_a_sentence),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
