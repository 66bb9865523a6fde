/*
 * tests/test_commands.c - what the program says of itself, and the count that `make test` ends with.
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/commands.h"
#include "tests/shell.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static const struct command *const commands[] = {
	&command_net, &command_data_make, &command_data_check, &command_run, &command_sweep, &command_report,
	&command_bench, &command_loader, &command_diagnose, &command_eval, &command_export, &command_topo, &command_verify,
};

static void the_help_of_every_command_names_each_of_its_options(void **state)
{
	char all[1 << 14], out[1 << 14], text[256];
	size_t listed = 0;

	(void)state;
	assert_int_equal(program("--help", all, sizeof(all)), 0);
	for (const char *at = all; (at = strstr(at, "\n  ")); at++)
		listed++;
	assert_int_equal(listed, ARRAY_LEN(commands));	/* else the list above lacks a command */
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		const struct command *c = commands[i];

		snprintf(text, sizeof(text), "\n  %-12s %s\n", c->name, c->summary);
		assert_non_null(strstr(all, text));
		snprintf(text, sizeof(text), "%s --help", c->name);
		assert_int_equal(program(text, out, sizeof(out)), 0);
		snprintf(text, sizeof(text), "sfscale %s", c->name);
		assert_int_equal(strncmp(out, text, strlen(text)), 0);
		assert_non_null(strstr(out, c->summary));
		for (size_t o = 0; o < c->opt_count; o++) {
			snprintf(text, sizeof(text), "\n  --%s ", c->opts[o].name);
			if (!strstr(out, text) || !strstr(out, c->opts[o].help))
				fail_msg("'%s --help' does not list '--%s'", c->name, c->opts[o].name);
		}
	}
}

static void words_that_are_no_command_are_answered_with_those_that_are(void **state)
{
	static const struct { const char *words; int rc; const char *says; } rows[] = {
		{ "", 1, "data make " }, { "help", 0, "data make " }, { "-h", 0, "data make " },
		{ "data", 1, "data check " }, { "data --help", 0, "data check " }, { "data -h", 0, "data make " },
		{ "data mak", 1, "unknown command 'data mak'" }, { "dat", 1, "unknown command 'dat'" },
		{ "dat --help", 1, "unknown command 'dat --help'" }, { "''", 1, "unknown command ''" },
		{ "--version", 0, "\nkernels       cpu (oneDNN " }, { "--version", 0, "\ncomm          mpi (" },
		{ "--version", 0, "\nNVTX          " }, { "--version", 0, "\nbuilt with    " },
	};
	char out[1 << 14];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(program(rows[i].words, out, sizeof(out)), rows[i].rc);
		if (!strstr(out, rows[i].says))
			fail_msg("'%s' does not say '%s' but: %s", rows[i].words, rows[i].says, out);
		if (!strncmp(rows[i].words, "data", 4))
			assert_null(strstr(out, "sweep"));
	}
}

static void output_that_is_lost_is_a_failure(void **state)
{
	static const char *const rows[] = {
		"--help", "--version", "net", "net --json", "net --help", "data --help", "report --help",
	};
	char out[1 << 14], words[256];

	(void)state;
	if (access("/dev/full", W_OK)) {
		print_message("SKIP: no /dev/full\n");
		skip();
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(words, sizeof(words), "%s >/dev/full", rows[i]);
		assert_int_equal(program(words, out, sizeof(out)), 2);
		assert_non_null(strstr(out, "sfscale: cannot write to standard output: "));
	}
}

/* Programs that print as cmocka does, judged by tests/run.sh. */
static void a_test_counts_once_and_a_program_that_dies_counts_as_a_failure(void **state)
{
#define RUN(name) "[ RUN      ] " name "\n"
#define SAY(verdict, name) "[  " verdict "] " name "\n"
#define GOOD RUN("good") "[       OK ] good\n"
#define BAD RUN("bad") SAY("ERROR   ", "--- 1 != 2") SAY("FAILED  ", "bad")
	static const struct { const char *print; int program, rc; const char *count; } rows[] = {
		{ GOOD, 0, 0, "1 passed, 0 failed, 0 skipped\n" },
		{ GOOD BAD SAY("FAILED  ", "1 test(s), listed below:") SAY("FAILED  ", "bad") "\n 1 FAILED TEST(S)\n", 1, 1,
		  "1 passed, 1 failed, 0 skipped\n" },
		{ GOOD RUN("not_here") "SKIP: no GPU\n" SAY("SKIPPED ", "not_here") SAY("SKIPPED ", "1 test(s), listed below:")
		  SAY("SKIPPED ", "not_here"), 0, 0, "1 passed, 0 failed, 1 skipped\n" },
		{ SAY("FAILED  ", "GROUP SETUP") SAY("ERROR   ", "tests"), 1, 1, "0 passed, 1 failed, 0 skipped\n" },
		{ GOOD SAY("FAILED  ", "GROUP TEARDOWN"), 0, 1, "1 passed, 1 failed, 0 skipped\n" },
		{ GOOD RUN("set_up_fails") SAY("ERROR   ", "set_up_fails"), 1, 1, "1 passed, 1 failed, 0 skipped\n" },
		{ GOOD RUN("leaves"), 0, 1, "1 passed, 1 failed, 0 skipped\n" },
		{ GOOD, 139, 1, "1 passed, 1 failed, 0 skipped\n" },
		{ GOOD BAD, 139, 1, "1 passed, 1 failed, 0 skipped\n" },
		{ "", 0, 1, "0 passed, 0 failed, 0 skipped\n" },
	};
	char home[] = "/tmp/sfscale-commands-XXXXXX", line[PATH_BYTES], path[PATH_BYTES], out[1 << 14], script[1 << 12];

	(void)state;
	assert_non_null(mkdtemp(home));
	assert_int_equal(path_make(path, "%s/tests", home), OK);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(path_make(path, "%s/tests/test_x", home), OK);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *count;

		snprintf(script, sizeof(script), "#!/bin/sh\ncat <<'EOF'\n%sEOF\nexit %d\n", rows[i].print, rows[i].program);
		assert_int_equal(file_write(path, script, strlen(script)), OK);
		assert_int_equal(chmod(path, 0700), 0);
		snprintf(line, sizeof(line), "tests/run.sh %s", home);
		assert_int_equal(shell(line, out, sizeof(out)), rows[i].rc);
		count = strstr(out, rows[i].count);
		if (!count || count[strlen(rows[i].count)])
			fail_msg("row %zu ends with: %s", i, out);
	}
	snprintf(line, sizeof(line), "rm -r %s", home);
	assert_int_equal(shell(line, out, sizeof(out)), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_help_of_every_command_names_each_of_its_options),
		cmocka_unit_test(words_that_are_no_command_are_answered_with_those_that_are),
		cmocka_unit_test(output_that_is_lost_is_a_failure),
		cmocka_unit_test(a_test_counts_once_and_a_program_that_dies_counts_as_a_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
