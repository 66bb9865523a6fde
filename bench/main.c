/*
 * bench/main.c - the list of commands.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/commands.h"
#include "loader/loader.h"

#include <build.h>
#include <stdio.h>
#include <string.h>

static const struct command *const commands[] = {
	&command_net,
	&command_data_make,
	&command_data_check,
	&command_run,
	&command_sweep,
	&command_report,
	&command_bench,
	NULL
};

static void help(void)
{
	printf("sfscale: how well the SlowFast training step scales, and why no better\n\n");
	for (size_t i = 0; commands[i]; i++)
		printf("  %-12s %s\n", commands[i]->name, commands[i]->summary);
	printf("\n'sfscale COMMAND --help' lists a command's options; 'sfscale --version' says what was built in.\n");
}

/* How many of argv's first words are the command's name ("data make" is two); 0: it is another one. */
static int words_matched(const char *name, int argc, char **argv)
{
	int words = 0;

	while (*name) {
		size_t length = strcspn(name, " ");

		if (words == argc || strlen(argv[words]) != length || strncmp(argv[words], name, length))
			return 0;
		words++;
		name += length + (name[length] == ' ');
	}
	return words;
}

int main(int argc, char **argv)
{
	clock_init();
	if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
		help();
		return argc < 2 ? rc_exit(USAGE) : 0;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("sfscale %s\n", BUILD_VERSION);
		return 0;
	}
	if (!strcmp(argv[1], "loader-worker"))	/* not for people, so not in the list */
		return rc_exit(loader_worker_main(argc - 2, argv + 2));
	for (size_t i = 0; commands[i]; i++) {
		int words = words_matched(commands[i]->name, argc - 1, argv + 1);
		int rc;

		if (!words)
			continue;
		rc = commands[i]->run(argc - 1 - words, argv + 1 + words);
		return rc == OPT_HELP ? 0 : rc_exit(rc);
	}
	return rc_exit(err(USAGE, "unknown command '%s' ('sfscale --help' lists them)", argv[1]));
}
