/*
 * bench/main.c - the list of commands.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/commands.h"
#include "comm/comm.h"
#include "kernels/kernels.h"
#include "loader/loader.h"

#include <build.h>
#include <errno.h>
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
	&command_loader,
	&command_diagnose,
	&command_eval,
	&command_export,
	&command_topo,
	&command_verify,
	NULL
};

/* Commands whose name opens with the word `group`, which ends with a blank; "": all. */
static size_t list(const char *group)
{
	size_t count = 0;

	for (size_t i = 0; commands[i]; i++)
		if (!strncmp(commands[i]->name, group, strlen(group))) {
			printf("  %-12s %s\n", commands[i]->name, commands[i]->summary);
			count++;
		}
	return count;
}

static void help(void)
{
	printf("sfscale: how well the SlowFast training step scales, and why no better\n\n");
	list("");
	printf("\n'sfscale COMMAND --help' lists a command's options; 'sfscale --version' says what was built in.\n");
}

static void version_item(bool first, const char *name, int (*version)(char *, size_t))
{
	char text[256];

	printf("%s%s", first ? "" : ", ", name);
	if (version && !version(text, sizeof(text)))
		printf(" (%s)", text);
}

static void version(void)
{
	printf("sfscale %s\nbuilt with    %s\nkernels       ", BUILD_VERSION, BUILD_FLAGS);
	for (size_t i = 0; kernel_backends[i]; i++)
		version_item(!i, kernel_backends[i]->name, kernel_backends[i]->version);
	printf("\ncomm          ");
	for (size_t i = 0; comm_backends[i]; i++)
		version_item(!i, comm_backends[i]->name, comm_backends[i]->version);
#ifdef HAVE_NVTX
	printf("\nNVTX          yes\n");
#else
	printf("\nNVTX          no\n");
#endif
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

/* "data" alone is no command, but the first word of two: lists those. */
static int run_group(int argc, char **argv)
{
	char group[64];

	if (argc == 1 || (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))) {
		snprintf(group, sizeof(group), "%s ", argv[0]);
		if (list(group))
			return argc == 1 ? USAGE : OPT_HELP;
	}
	return err(USAGE, "unknown command '%s%s%s' ('sfscale --help' lists them)", argv[0], argc > 1 ? " " : "",
		   argc > 1 ? argv[1] : "");
}

/* argv[0] is the first word behind the program's name. */
static int run(int argc, char **argv)
{
	if (!argc || !strcmp(argv[0], "--help") || !strcmp(argv[0], "-h") || !strcmp(argv[0], "help")) {
		help();
		return argc ? OPT_HELP : USAGE;
	}
	if (!strcmp(argv[0], "--version")) {
		version();
		return OK;
	}
	for (size_t i = 0; commands[i]; i++) {
		int words = words_matched(commands[i]->name, argc, argv);

		if (words)
			return commands[i]->run(argc - words, argv + words);
	}
	return run_group(argc, argv);
}

int main(int argc, char **argv)
{
	int rc;

	clock_init();
	if (argc > 1 && !strcmp(argv[1], "loader-worker"))	/* not for people, so not in the list */
		return rc_exit(loader_worker_main(argc - 2, argv + 2));
	rc = run(argc - (argc > 0), argv + (argc > 0));
	if (rc == OPT_HELP)
		rc = OK;
	/* A full disk behind a pipe or a redirection shows here at the latest. */
	errno = 0;
	if (fflush(stdout) || ferror(stdout)) {
		int lost = err(FAILED, "cannot write to standard output: %s", errno ? strerror(errno) : "some is lost");

		rc = rc ? rc : lost;
	}
	return rc_exit(rc);
}
