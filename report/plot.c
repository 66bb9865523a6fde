/*
 * report/plot.c - see plot.h.
 *
 * Writes scripts and runs gnuplot.  Every figure carries its question and the place on top;
 * what is below them is drawn by whoever asks, for a report by report/figures.c.
 */
#include "report/plot.h"

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int script_write(const char *path, const struct plot *p, const char **why_not)
{
	FILE *f = file_begin(path);

	if (!f)
		return FAILED;
	fprintf(f,
		"# gnuplot %s.gp draws %s.svg and %s.png\nset encoding utf8\n"
		"set terminal svg noenhanced size %zu,%d font 'Helvetica, Arial, DejaVu Sans, sans-serif,14' "
		"background rgb 'white'\n"
		"set output '%s.svg'\n",
		p->name, p->name, p->name, p->width, FIGURE_HEIGHT, p->name);
	fprintf(f, "set label 1 '%s' at screen 0.02,0.955 left font ',18'\nset label 2 ", p->title);
	figure_quoted(f, p->place);
	fprintf(f, " at screen 0.02,0.895 left font ',13' tc rgb '#555555'\n"
		"set tmargin at screen 0.83\nset border 3 lc rgb '#666666'\nset tics nomirror out\n"
		"set grid ytics lt 1 lw 0.5 lc rgb '#dddddd'\nset bars 0.8\nset key samplen 2.5 spacing 1.25\n");
	*why_not = p->draw(f, p->context);
	fprintf(f, "set terminal pngcairo noenhanced size %zu,%d font 'sans,14' background rgb 'white'\n"
		"set output '%s.png'\nreplot\n", p->width, FIGURE_HEIGHT, p->name);
	return file_end(f, path, OK);
}

/* Runs gnuplot in `dir`; what it complains of goes into gnuplot.log.  An errno when it cannot be
 * started, -1 when it fails. */
static int gnuplot_run(const char *dir, const char *script)
{
	char *argv[] = { "gnuplot", (char *)(uintptr_t)script, NULL };
	posix_spawn_file_actions_t actions;
	int status = 0, rc;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addchdir_np(&actions, dir);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "gnuplot.log", O_WRONLY | O_CREAT | O_TRUNC, 0666);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	rc = posix_spawnp(&pid, "gnuplot", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc)
		return rc;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -1;
}

static bool picture_exists(const char *dir, const char *name, const char *kind)
{
	char path[PATH_BYTES];
	struct stat st;

	return !path_make(path, "%s/%s.%s", dir, name, kind) && !stat(path, &st) && st.st_size > 0;
}

/* The first line of gnuplot's complaint that says something. */
static void complaint(const char *dir, char out[PLOT_WHY_BYTES])
{
	char path[PATH_BYTES], *text = NULL;

	snprintf(out, PLOT_WHY_BYTES, "gnuplot: no picture");
	if (path_make(path, "%s/gnuplot.log", dir) || access(path, R_OK) || file_read(path, &text, NULL))
		return;
	for (char *at = strtok(text, "\n"); at; at = strtok(NULL, "\n"))
		if (strspn(at, " \t^") < strlen(at)) {
			snprintf(out, PLOT_WHY_BYTES, "gnuplot: %s", at + strspn(at, " \t"));
			if (strstr(at, "line"))
				break;
		}
	free(text);
}

int plot_make(const char *dir, const struct plot *p, bool *made, char why[PLOT_WHY_BYTES])
{
	char path[PATH_BYTES], script[64];
	const char *why_not;
	int rc;

	*made = false;
	snprintf(script, sizeof(script), "%s.gp", p->name);
	if (path_make(path, "%s/%s", dir, script) || script_write(path, p, &why_not))
		return FAILED;
	if (why_not) {
		unlink(path);
		snprintf(why, PLOT_WHY_BYTES, "%s", why_not);
		return OK;
	}
	rc = gnuplot_run(dir, script);
	*made = !rc && picture_exists(dir, p->name, "svg") && picture_exists(dir, p->name, "png");
	if (rc > 0)
		snprintf(why, PLOT_WHY_BYTES, "%s", strerror(rc));
	else if (!*made)
		complaint(dir, why);
	if (!path_make(path, "%s/gnuplot.log", dir))
		unlink(path);
	return rc > 0 ? UNSUPPORTED : OK;
}

/* ---- the figures of a report ----------------------------------------------------------- */

struct drawing {
	const struct figure *figure;
	const struct tables *tables;
};

static const char *figure_draw(FILE *f, const void *context)
{
	const struct drawing *d = context;

	return d->figure->draw(f, d->tables);
}

int plots_make(const char *dir, const struct tables *tables, const char *place, struct runs *all,
	       bool made[FIGURE_COUNT])
{
	bool absent = false;

	for (size_t i = 0; i < FIGURE_COUNT; i++) {
		const struct figure *fig = &figures[i];
		const struct drawing drawing = { fig, tables };
		const struct plot plot = { .name = fig->name, .title = fig->title, .place = place,
					   .width = fig->width ? fig->width(tables) : FIGURE_WIDTH, .draw = figure_draw,
					   .context = &drawing };
		char why[PLOT_WHY_BYTES];
		int rc = plot_make(dir, &plot, &made[i], why);

		if (rc == FAILED)
			return rc;
		if (rc && !absent)
			runs_warn(all, "gnuplot", "no figures: cannot start it: %s", why);
		else if (!rc && !made[i] && *why)
			runs_warn(all, fig->name, "no figure: %s", why);
		absent |= rc != OK;
	}
	return OK;
}
