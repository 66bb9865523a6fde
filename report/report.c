/*
 * report/report.c - see report.h.
 *
 * Everything is made in the folder OUT/.partial and moved into OUT file by file when all of
 * it is there: a full disk or a kill leaves the former report, and files of others that
 * lie in OUT stay.
 */
#include "report/report.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "report/html.h"
#include "report/summary.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void text_print(FILE *f, const cJSON *summary, const struct tables *tables, const struct table *warnings)
{
	static const char *const lists[] = { "headlines", "rules" };
	const cJSON *s;

	fprintf(f, "Measured on %s\n", json_string(summary, "place", ""));
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		fputc('\n', f);
		cJSON_ArrayForEach(s, cJSON_GetObjectItemCaseSensitive(summary, lists[i]))
			fprintf(f, "- %s\n", s->valuestring);
		if (!i)
			for (int t = 0; t < TABLE_COUNT; t++) {
				fputc('\n', f);
				table_print_text(&tables->at[t], f);
			}
	}
	if (table_rows(warnings)) {
		fputc('\n', f);
		table_print_text(warnings, f);
	}
}

/* ---- files ----------------------------------------------------------------------------- */

static int files_write(const char *dir, const cJSON *summary, const struct tables *tables, const struct table *warnings)
{
	char json[PATH_BYTES], txt[PATH_BYTES], html[PATH_BYTES];
	int rc = OK;
	FILE *f;

	if (path_make(json, "%s/summary.json", dir) || path_make(txt, "%s/report.txt", dir) ||
	    path_make(html, "%s/index.html", dir))
		return FAILED;
	for (int i = 0; i < TABLE_COUNT && !rc; i++)
		rc = table_write_csv(&tables->at[i], dir);
	if (!rc)
		rc = table_write_csv(warnings, dir);
	if (!rc)
		rc = json_write(json, summary);
	if (rc)
		return rc;
	f = file_begin(txt);
	if (!f)
		return FAILED;
	text_print(f, summary, tables, warnings);
	rc = file_end(f, txt, OK);
	f = rc ? NULL : file_begin(html);
	if (!f)
		return FAILED;
	html_print(f, summary, tables, warnings);
	return file_end(f, html, OK);
}

/* Calls `what` for every file of a folder; stops at the first failure. */
static int each_file(const char *dir, const char *out, int (*what)(const char *path, const char *name, const char *out))
{
	DIR *folder = opendir(dir);
	char path[PATH_BYTES];
	struct dirent *entry;
	int rc = OK;

	while (folder && !rc && (entry = readdir(folder)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) {
			rc = path_make(path, "%s/%s", dir, entry->d_name);
			rc = rc ? rc : what(path, entry->d_name, out);
		}
	if (folder)
		closedir(folder);
	return rc;
}

static int move(const char *path, const char *name, const char *out)
{
	char to[PATH_BYTES];

	if (path_make(to, "%s/%s", out, name))
		return FAILED;
	return rename(path, to) ? err(FAILED, "cannot rename '%s' to '%s': %s", path, to, strerror(errno)) : OK;
}

static int discard(const char *path, const char *name, const char *out)
{
	(void)name;
	(void)out;
	unlink(path);
	return OK;
}

/* Figures of a former report that this one has not. */
static void stale_remove(const char *out, const bool made[FIGURE_COUNT])
{
	static const char *const kinds[] = { "svg", "png" };
	char path[PATH_BYTES];

	for (size_t i = 0; i < FIGURE_COUNT; i++)
		for (size_t k = 0; k < ARRAY_LEN(kinds) && !made[i]; k++)
			if (!path_make(path, "%s/%s.%s", out, figures[i].name, kinds[k]))
				unlink(path);
}

static int write_all(const char *out, const struct curve *c, struct runs *all, FILE *text)
{
	struct tables tables = { 0 };
	char partial[PATH_BYTES], *place = summary_place(all);
	bool made[FIGURE_COUNT];
	cJSON *summary = NULL;
	int rc = place ? path_make(partial, "%s/.partial", out) : NO_MEMORY;

	if (rc) {
		free(place);
		return rc;
	}
	rc = tables_make(&tables, c, all, place);
	if (!rc)
		rc = dir_make(partial);
	if (!rc)
		each_file(partial, NULL, discard);	/* of a report that was killed */
	if (!rc)
		rc = plots_make(partial, &tables, place, all, made);
	if (!rc) {
		summary = summary_make(all, c, &tables, place, made);
		rc = files_write(partial, summary, &tables, &all->warnings);
	}
	if (!rc)
		rc = each_file(partial, out, move);
	if (!rc) {
		stale_remove(out, made);
		if (text)
			text_print(text, summary, &tables, &all->warnings);
	}
	each_file(partial, NULL, discard);
	rmdir(partial);
	cJSON_Delete(summary);
	tables_release(&tables);
	free(place);
	return rc;
}

int report_make(const char *const *dirs, size_t dir_count, const char *out, FILE *text)
{
	struct runs all;
	struct curve c = { 0 };
	int rc = runs_read(&all, dirs, dir_count);

	if (!rc && all.windows_unequal)
		rc = err(FAILED, "the parts of %zu of %zu windows do not sum to their wall time", all.windows_unequal,
			 all.windows_checked);
	if (!rc)
		rc = curve_make(&c, &all);
	if (!rc)
		rc = write_all(out, &c, &all, text);
	curve_release(&c);
	runs_release(&all);
	return rc;
}

static int table_print(const struct tables *tables, const struct table *warnings, const char *name, FILE *text)
{
	char names[512] = "";
	size_t used = 0;

	for (int i = 0; i <= TABLE_COUNT; i++) {
		const struct table *t = i < TABLE_COUNT ? &tables->at[i] : warnings;

		if (!strcmp(t->name, name)) {
			table_print_text(t, text);
			return OK;
		}
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? "|" : "", t->name);
	}
	return err(USAGE, "no table '%s'; there are %s", name, names);
}

int report_table(const char *const *dirs, size_t dir_count, const char *name, FILE *text)
{
	struct tables tables = { 0 };
	struct curve c = { 0 };
	struct runs all;
	char *place = NULL;
	int rc = runs_read(&all, dirs, dir_count);

	if (!rc)
		rc = curve_make(&c, &all);
	if (!rc && !(place = summary_place(&all)))
		rc = NO_MEMORY;
	if (!rc)
		rc = tables_make(&tables, &c, &all, place);
	if (!rc)
		rc = table_print(&tables, &all.warnings, name, text);
	tables_release(&tables);
	free(place);
	curve_release(&c);
	runs_release(&all);
	return rc;
}
