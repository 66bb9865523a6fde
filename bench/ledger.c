/*
 * bench/ledger.c - see ledger.h.
 */
#include "bench/ledger.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "bench/base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { LOCK_WAIT_S = 10 };

/* Parses what is there.  `good` receives the bytes up to the end of the last whole line. */
static int read_lines(struct ledger *l, char *text, size_t *good)
{
	size_t number = 0;

	*good = 0;
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		cJSON *one;

		number++;
		*end = '\0';
		one = cJSON_Parse(line);
		if (!one)
			return err(FAILED, "%s:%zu: not a line of a ledger", l->path, number);
		cJSON_AddItemToArray(l->lines, one);
		*good = (size_t)(end + 1 - text);
	}
	return OK;
}

/* The lock is inherited by what the sweep starts: of one that was killed the launcher may still be ending its ranks, which write
 * into folders that are to be made again.  It was told to end as its sweep died, so a while is enough. */
static int lock(struct ledger *l)
{
	const uint64_t start_ns = clock_ns();

	while (flock(l->fd, LOCK_EX | LOCK_NB)) {
		if (clock_ns() - start_ns > (uint64_t)LOCK_WAIT_S * NS_PER_S)
			return err(FAILED, "'%s' is in use by another sweep, or by what one has left running", l->path);
		clock_sleep_ns(NS_PER_S / 20);
	}
	return OK;
}

int ledger_open(struct ledger *l, const char *dir)
{
	char path[PATH_BYTES], *text = NULL;
	size_t bytes, good = 0;
	int rc = path_make(path, "%s/" FOLDER_LEDGER, dir);

	*l = (struct ledger){ .fd = -1 };
	if (rc)
		return rc;
	l->path = strdup(path);
	l->lines = cJSON_CreateArray();
	l->fd = open(path, O_RDWR | O_CREAT | O_APPEND, 0644);
	if (l->fd < 0)
		rc = err(FAILED, "cannot open '%s': %s", path, strerror(errno));
	else
		rc = lock(l);
	if (!rc)
		rc = file_read(path, &text, &bytes);
	if (!rc)
		rc = read_lines(l, text, &good);
	if (!rc && good < bytes) {
		warn("%s: the last line was cut off; its point runs again", path);
		if (ftruncate(l->fd, (off_t)good))
			rc = err(FAILED, "cannot mend '%s': %s", path, strerror(errno));
	}
	free(text);
	if (rc)
		ledger_close(l);
	return rc;
}

const cJSON *ledger_find(const struct ledger *l, const char *key)
{
	const cJSON *found = NULL, *line;

	cJSON_ArrayForEach(line, l->lines) {
		if (!strcmp(json_string(line, "key", ""), key))
			found = line;
	}
	return found;
}

int ledger_append(struct ledger *l, cJSON *line)
{
	char *text = cJSON_PrintUnformatted(line), *whole = NULL;
	int bytes = text ? asprintf(&whole, "%s\n", text) : -1, rc = OK;
	off_t before = lseek(l->fd, 0, SEEK_END);

	cJSON_AddItemToArray(l->lines, line);
	if (bytes < 0)
		rc = err(NO_MEMORY, "no memory for a line of '%s'", l->path);
	else if (write(l->fd, whole, (size_t)bytes) != bytes || fsync(l->fd)) {
		rc = err(FAILED, "cannot write '%s': %s", l->path, strerror(errno ? errno : ENOSPC));
		/* Half a line would spoil the next one. */
		if (ftruncate(l->fd, before))
			warn("'%s' ends in half a line", l->path);
	}
	cJSON_free(text);
	free(whole);
	return rc;
}

void ledger_close(struct ledger *l)
{
	if (l->fd >= 0)
		close(l->fd);
	cJSON_Delete(l->lines);
	free(l->path);
	*l = (struct ledger){ .fd = -1 };
}

void ledger_key(const char *text, char key[LEDGER_KEY_BYTES])
{
	snprintf(key, LEDGER_KEY_BYTES, "%016" PRIx64, hash_text(HASH_START, text));
}
