/*
 * bench/base/opt.c - see opt.h.
 */
#include "bench/base/opt.h"

#include "bench/base/err.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int opt_bytes(const char *text, uint64_t *bytes)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	char *end;
	double v;

	if (!isdigit((unsigned char)*text))
		return USAGE;
	v = strtod(text, &end);
	if (*end) {
		suffix = strchr(suffixes, toupper((unsigned char)*end));
		if (!suffix || end[1])
			return USAGE;
		v *= exp2(10.0 * (double)(suffix - suffixes + 1));
	}
	if (!(v >= 0 && v < 0x1p63))
		return USAGE;
	*bytes = (uint64_t)v;
	return OK;
}

static int parse_u64(const char *text, uint64_t *v)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return USAGE;
	errno = 0;
	*v = strtoull(text, &end, 10);
	return *end || errno ? USAGE : OK;
}

static int parse_f64(const char *text, double *v)
{
	char *end;

	*v = strtod(text, &end);
	return end == text || *end || !isfinite(*v) ? USAGE : OK;
}

static int parse_bool(const char *text, bool *v)
{
	if (!strcmp(text, "on") || !strcmp(text, "yes"))
		*v = true;
	else if (!strcmp(text, "off") || !strcmp(text, "no"))
		*v = false;
	else
		return USAGE;
	return OK;
}

/* Is `word` one of "a|b|c"? */
static bool among(const char *choices, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
		if (!strncmp(at, word, length) && (at[length] == '|' || !at[length]))
			return length > 0;
	return false;
}

int opt_set(const struct opt *row, void *values, const char *text)
{
	static const char *const wants[] = {
		[OPT_U64] = "a whole number, 0 or more", [OPT_BYTES] = "a size such as 4096, 64K or 25M",
		[OPT_F64] = "a number", [OPT_BOOL] = "on or off",
	};
	void *at = (char *)values + row->offset;
	struct opt_names *names = at;
	int rc = OK;

	switch (row->type) {
	case OPT_U64:
		rc = parse_u64(text, at);
		break;
	case OPT_BYTES:
		rc = opt_bytes(text, at);
		break;
	case OPT_F64:
		rc = parse_f64(text, at);
		break;
	case OPT_BOOL:
		rc = parse_bool(text, at);
		break;
	case OPT_NAME:
		if (row->choices && !among(row->choices, text))
			return err(USAGE, "--%s: '%s' is none of %s", row->name, text, row->choices);
		*(const char **)at = text;
		break;
	case OPT_NAMES:
		if (names->count == OPT_NAMES_MAX)
			return err(USAGE, "--%s: more than %d values", row->name, OPT_NAMES_MAX);
		names->at[names->count++] = text;
		break;
	}
	return rc ? err(USAGE, "--%s: '%s' is not %s", row->name, text, wants[row->type]) : OK;
}

/* The words, a blank between them. */
static char *names_text(const struct opt_names *names)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);

	for (size_t i = 0; f && i < names->count; i++)
		fprintf(f, "%s%s", i ? " " : "", names->at[i]);
	if (f)
		fclose(f);
	return text;
}

char *opt_text(const struct opt *row, const void *values)
{
	const void *at = (const char *)values + row->offset;
	char text[64];
	const char *name;

	switch (row->type) {
	case OPT_U64:
	case OPT_BYTES:
		snprintf(text, sizeof(text), "%llu", (unsigned long long)*(const uint64_t *)at);
		return strdup(text);
	case OPT_F64:
		snprintf(text, sizeof(text), "%.17g", *(const double *)at);
		return strdup(text);
	case OPT_BOOL:
		return strdup(*(const bool *)at ? "on" : "off");
	case OPT_NAME:
		name = *(const char *const *)at;
		return name ? strdup(name) : NULL;
	case OPT_NAMES:
		return names_text(at);
	}
	return NULL;
}

const struct opt *opt_find(const struct opt *rows, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(rows[i].name, name))
			return &rows[i];
	return NULL;
}

static void set_default(const struct opt *row, void *values)
{
	static const size_t sizes[] = {
		[OPT_U64] = sizeof(uint64_t), [OPT_BYTES] = sizeof(uint64_t), [OPT_F64] = sizeof(double),
		[OPT_BOOL] = sizeof(bool), [OPT_NAME] = sizeof(char *), [OPT_NAMES] = sizeof(struct opt_names),
	};

	memset((char *)values + row->offset, 0, sizes[row->type]);
	if (row->def && opt_set(row, values, row->def))
		abort();	/* a default that does not fit its own row is our mistake */
}

static void print_help(const struct command *cmd)
{
	printf("sfscale %s [options]%s%s\n  %s\n", cmd->name, *cmd->operands ? " " : "", cmd->operands,
	       cmd->summary);
	if (cmd->opt_count)
		printf("\n");
	for (size_t i = 0; i < cmd->opt_count; i++) {
		const struct opt *o = &cmd->opts[i];

		printf("  --%-22s %s", o->name, o->help);
		if (o->choices)
			printf(" (%s)", o->choices);
		if (o->def)
			printf(" [%s]", o->def);
		printf("\n");
	}
}

/* Reads the value or values of the option at argv[*i]; *i moves to the last word used. */
static int read_option(const struct command *cmd, void *values, int argc, char **argv, int *i)
{
	const char *word = argv[*i] + 2, *equals = strchr(word, '=');
	size_t length = equals ? (size_t)(equals - word) : strlen(word);
	char name[64];
	const struct opt *row;
	int rc = OK, first;

	snprintf(name, sizeof(name), "%.*s", (int)length, word);
	row = opt_find(cmd->opts, cmd->opt_count, name);
	if (!row)
		return err(USAGE, "%s: unknown option '--%s' ('sfscale %s --help' lists them)", cmd->name, name,
			   cmd->name);
	if (equals)
		return opt_set(row, values, equals + 1);
	if (row->type == OPT_BOOL && (*i + 1 == argc || parse_bool(argv[*i + 1], &(bool){ false })))
		return opt_set(row, values, "on");
	first = *i + 1;
	if (first == argc)
		return err(USAGE, "--%s wants a value", name);
	do {
		rc = opt_set(row, values, argv[++*i]);
	} while (!rc && row->type == OPT_NAMES && *i + 1 < argc && strncmp(argv[*i + 1], "--", 2));
	return rc;
}

int opt_parse(const struct command *cmd, void *values, int argc, char **argv, const char **operands,
	      size_t *operand_count)
{
	bool options = true;

	*operand_count = 0;
	for (size_t i = 0; i < cmd->opt_count; i++)
		set_default(&cmd->opts[i], values);
	for (int i = 0; i < argc; i++) {
		int rc = OK;

		if (options && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
			print_help(cmd);
			return OPT_HELP;
		}
		if (options && !strcmp(argv[i], "--"))
			options = false;
		else if (options && !strncmp(argv[i], "--", 2))
			rc = read_option(cmd, values, argc, argv, &i);
		else
			operands[(*operand_count)++] = argv[i];
		if (rc)
			return rc;
	}
	if (*operand_count && !*cmd->operands)
		return err(USAGE, "%s: takes no '%s'", cmd->name, operands[0]);
	return OK;
}

/* JSON numbers are doubles to most readers; above 2^53 the digits are kept all the same. */
static void add_u64(cJSON *out, const char *name, uint64_t value)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
	if (value < 1ull << 53)
		cJSON_AddNumberToObject(out, name, (double)value);
	else
		cJSON_AddRawToObject(out, name, digits);
}

cJSON *opt_json(const struct opt *rows, size_t count, const void *values)
{
	cJSON *out = cJSON_CreateObject();

	for (size_t i = 0; i < count; i++) {
		const void *at = (const char *)values + rows[i].offset;
		const struct opt_names *names = at;
		const char *name = rows[i].name;

		switch (rows[i].type) {
		case OPT_U64:
		case OPT_BYTES:
			add_u64(out, name, *(const uint64_t *)at);
			break;
		case OPT_F64:
			cJSON_AddNumberToObject(out, name, *(const double *)at);
			break;
		case OPT_BOOL:
			cJSON_AddBoolToObject(out, name, *(const bool *)at);
			break;
		case OPT_NAME:
			if (*(const char *const *)at)
				cJSON_AddStringToObject(out, name, *(const char *const *)at);
			else
				cJSON_AddNullToObject(out, name);
			break;
		case OPT_NAMES:
			cJSON_AddItemToObject(out, name,
					      cJSON_CreateStringArray((const char *const *)names->at, (int)names->count));
			break;
		}
	}
	return out;
}
