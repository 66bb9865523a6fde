/*
 * bench/ledger.h - the memory of a sweep: one line per point, never changed, only added to.
 *
 * The schema is in bench/base/folder.h.
 */
#ifndef SFSCALE_BENCH_LEDGER_H
#define SFSCALE_BENCH_LEDGER_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

enum { LEDGER_KEY_BYTES = 17 };

struct ledger {
	int fd;			/* locked while open: a sweep folder belongs to one sweep at a time, and to what it has started */
	char *path;		/* owned */
	cJSON *lines;		/* owned: an array, as read and appended */
};

/* FAILED (said) when another sweep holds the folder, or a line in the middle is damaged.  A last line
 * that a kill cut off is dropped: its point was not finished. */
int ledger_open(struct ledger *, const char *dir);

/* The newest line of `key`, borrowed; NULL: none. */
const cJSON *ledger_find(const struct ledger *, const char *key);

/* On the disk when it returns.  Takes `line`, also on failure. */
int ledger_append(struct ledger *, cJSON *line);
void ledger_close(struct ledger *);

/* A hash over `text` (bench/base/hash.h), as 16 hex digits. */
void ledger_key(const char *text, char key[LEDGER_KEY_BYTES]);

#endif
