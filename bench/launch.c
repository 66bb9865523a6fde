/*
 * bench/launch.c - see launch.h.
 *
 * The launcher runs in a process group of its own with a TMPDIR of its own: a job that hangs is
 * ended as a group, and what Open MPI leaves in its session folder after a hard kill goes with
 * the folder (unless this program is itself killed with -9).  Should this program die, the kernel ends the launcher (parent-death signal), and
 * mpirun its ranks.
 *
 * mpirun ignores SIGTERM when a host has dropped off the network (seen for ten minutes), so
 * the last word is SIGKILL.
 */
#include "bench/launch.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_MAX = 512, WORD_BYTES = 512, POLL_NS = 2000000 };

static volatile sig_atomic_t told_to_stop;

static void on_signal(int sig)
{
	(void)sig;
	told_to_stop = 1;
}

void launch_catch_signals(void)
{
	struct sigaction a = { .sa_handler = on_signal };

	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
}

/* Replaces {nodes}, {ranks}, {ranks-per-node} in `word`. */
static int fill_in(const struct launch *l, const char *word, char out[WORD_BYTES])
{
	const char *const whole = word;
	const struct { const char *name; size_t value; } places[] = {
		{ "{nodes}", l->nodes }, { "{ranks}", l->nodes * l->ranks_per_node },
		{ "{ranks-per-node}", l->ranks_per_node },
	};
	size_t at = 0;

	while (*word) {
		size_t i = 0;

		while (i < ARRAY_LEN(places) && strncmp(word, places[i].name, strlen(places[i].name)))
			i++;
		if (at + 24 > WORD_BYTES)
			return err(USAGE, "--launcher: a word of more than %d bytes", WORD_BYTES - 24);
		if (*word == '{' && i == ARRAY_LEN(places))
			return err(USAGE, "--launcher: '%s': there is {nodes}, {ranks} and {ranks-per-node}", whole);
		if (i < ARRAY_LEN(places)) {
			at += (size_t)sprintf(out + at, "%zu", places[i].value);
			word += strlen(places[i].name);
		} else {
			out[at++] = *word++;
		}
	}
	out[at] = '\0';
	return OK;
}

/* The words of launcher and command, each owned; NULL at the end. */
static int make_words(const struct launch *l, char *words[WORDS_MAX])
{
	char *text = strdup(l->launcher), *save = NULL, filled[WORD_BYTES];
	size_t n = 0;
	int rc = text ? OK : NO_MEMORY;

	for (char *w = text ? strtok_r(text, " ", &save) : NULL; w && n < WORDS_MAX && !rc; w = strtok_r(NULL, " ", &save)) {
		rc = fill_in(l, w, filled);
		words[n++] = rc ? NULL : strdup(filled);
	}
	free(text);
	if (rc == USAGE)
		return rc;
	for (size_t i = 0; l->command[i] && n < WORDS_MAX; i++)
		words[n++] = strdup(l->command[i]);
	if (n == WORDS_MAX)
		return err(USAGE, "the launcher's command has more than %d words", WORDS_MAX - 1);
	words[n] = NULL;
	for (size_t i = 0; i < n; i++)
		if (!words[i])
			rc = NO_MEMORY;
	return rc ? err(rc, "no memory for a command line") : OK;
}

/* In the child: never returns. */
static void become(char **words, const char *log, const char *tmp, int report)
{
	int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0644), code;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	setenv("TMPDIR", tmp, 1);
	if (geteuid() == 0) {	/* Open MPI wants to be told twice */
		setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
		setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
	}
	if (fd >= 0 && dup2(open("/dev/null", O_RDONLY), 0) == 0 && dup2(fd, 1) == 1 && dup2(fd, 2) == 2) {
		close(fd);
		execvp(words[0], words);
	}
	code = errno;
	if (write(report, &code, sizeof(code)) < 0)
		_exit(126);
	_exit(127);
}

/* Polls until the launcher has ended, and ends it when time is up or we are told to stop. */
static void watch(pid_t pid, const struct launch *l, struct launch_result *r)
{
	uint64_t start = clock_ns(), asked = 0;
	siginfo_t ended = { 0 };
	int status = 0;

	/* Not reaped yet when it has ended: its group keeps its number until what is left of it is gone. */
	while (!waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) && !ended.si_pid) {
		uint64_t now = clock_ns();

		r->interrupted = r->interrupted || told_to_stop;
		r->timed_out = r->timed_out || (l->timeout_s && now - start > l->timeout_s * NS_PER_S);
		if (!asked && (r->interrupted || r->timed_out)) {
			kill(-pid, SIGTERM);
			asked = now;
		}
		if (asked && now - asked > LAUNCH_GRACE_S * NS_PER_S)
			kill(-pid, SIGKILL);
		clock_sleep_ns(POLL_NS);
	}
	r->wall_ns = clock_ns() - start;
	/* Ranks that lost their launcher. */
	kill(-pid, SIGKILL);
	waitpid(pid, &status, 0);
	r->exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int start(const struct launch *l, char **words, const char *tmp, struct launch_result *r)
{
	int report[2], code = 0;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC))
		return err(FAILED, "cannot make a pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0)
		become(words, r->log, tmp, report[1]);
	close(report[1]);
	if (pid < 0) {
		close(report[0]);
		return err(FAILED, "cannot fork: %s", strerror(errno));
	}
	setpgid(pid, pid);
	/* Nothing arrives when exec worked: the pipe closes with it. */
	if (read(report[0], &code, sizeof(code)) == (ssize_t)sizeof(code)) {
		close(report[0]);
		waitpid(pid, NULL, 0);
		return err(FAILED, "cannot start '%s': %s", words[0], strerror(code));
	}
	close(report[0]);
	watch(pid, l, r);
	return OK;
}

int launch_run(const struct launch *l, struct launch_result *r)
{
	char *words[WORDS_MAX] = { NULL }, tmp[PATH_BYTES];
	const char *parent = getenv("TMPDIR");
	int rc;

	*r = (struct launch_result){ 0 };
	rc = dir_make(l->log_dir);
	if (!rc)
		rc = path_make(r->log, "%s/log", l->log_dir);
	if (!rc)
		rc = make_words(l, words);
	if (!rc)
		rc = path_make(tmp, "%s/sfscale-XXXXXX", parent && *parent ? parent : "/tmp");
	if (!rc && !mkdtemp(tmp))
		rc = err(FAILED, "cannot make a temporary folder as '%s': %s", tmp, strerror(errno));
	if (!rc) {
		rc = start(l, words, tmp, r);
		dir_remove(tmp);
	}
	for (size_t i = 0; i < WORDS_MAX; i++)
		free(words[i]);
	return rc;
}
