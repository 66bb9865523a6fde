/*
 * bench/base/opt.h - options are rows.
 *
 * A command has one array of rows; the command line, --help, the record's config block and
 * `sweep --over` all read it.  Values land in the command's own struct, at `offset`.
 */
#ifndef SFSCALE_BASE_OPT_H
#define SFSCALE_BASE_OPT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum opt_type {
	OPT_U64,	/* uint64_t: a whole number, 0 or more */
	OPT_BYTES,	/* uint64_t: 4096, 64K, 25M, 1.5G (powers of 1024) */
	OPT_F64,	/* double */
	OPT_BOOL,	/* bool: on|off, yes|no; the bare flag means on */
	OPT_NAME,	/* const char *, borrowed from argv or from the row; NULL when no default */
	OPT_NAMES,	/* struct opt_names: one or more words up to the next --flag; the flag may be repeated */
};

enum { OPT_NAMES_MAX = 1024 };

struct opt_names {
	size_t count;
	const char *at[OPT_NAMES_MAX];
};

struct opt {
	const char *name;	/* without the dashes */
	enum opt_type type;
	size_t offset;
	const char *def;	/* as on the command line; NULL: 0, false, none */
	const char *help;	/* one line; for OPT_NAME may open with the choices as "a|b|c: " ... */
	const char *choices;	/* ... which are checked when given here, as "a|b|c"; NULL: any word */
};

/* One command as --help and main() see it. */
struct command {
	const char *name;	/* "run", "data make" */
	const char *operands;	/* "DIR...", or "" */
	const char *summary;	/* one line */
	const struct opt *opts;
	size_t opt_count;
	int (*run)(int argc, char **argv);	/* argv[0] is the first word after the name; returns an rc */
	size_t values_bytes;	/* of the struct that the rows fill, for those who read another command's options; 0: nobody */
};

/* Sets the defaults, then reads argv[0..argc).  Words that are no options are collected, in
 * order, in `operands` (room for argc), `operand_count` receives their number.  "--" ends
 * the options.  "--help" prints the manual of `cmd` and ends with OPT_HELP.
 * Returns OK, OPT_HELP, or USAGE, having said what is wrong. */
enum { OPT_HELP = 1 };
int opt_parse(const struct command *cmd, void *values, int argc, char **argv,
	      const char **operands, size_t *operand_count);

/* One value, by the row's rule; `text` is borrowed for OPT_NAME.  USAGE when it does not fit. */
int opt_set(const struct opt *row, void *values, const char *text);

/* The value as text that opt_set() takes back (of OPT_NAMES: all words, a blank between them); owned by the
 * caller.  NULL: no value (OPT_NAME without default), or no memory. */
char *opt_text(const struct opt *row, const void *values);

/* The row called `name`, or NULL. */
const struct opt *opt_find(const struct opt *rows, size_t count, const char *name);

/* All values as an object keyed by option name; owned by the caller. */
cJSON *opt_json(const struct opt *rows, size_t count, const void *values);

/* "25M" -> 26214400.  OK or USAGE (silent: the caller knows the option's name). */
int opt_bytes(const char *text, uint64_t *bytes);

#endif
