/*
 * tests/fuzz/fuzz_record.c - a whole run folder of arbitrary bytes, read as `report` does (libFuzzer; `make fuzz`).
 *
 * An input is a row of files, each a u32 of its length and its bytes: run.json, then the record of rank 0, 1, and so on.  The
 * checksums of blocks are set right before the files are written, or nothing behind them would ever be
 * reached; a block whose checksum is WRONG_CRC keeps it.  What was read goes on to curves, findings and a trace: the
 * identities that the report asserts (parts == wall, induced == wait) must hold for any records.
 *
 * FUZZ_RECORD_RUN in the environment names run folders (blanks between them); each becomes the seed FUZZ_RECORD_SEEDS/0, 1, ...
 */
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "bench/base/record.h"
#include "report/diagnose.h"
#include "report/export.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { RANKS_MAX = 8, PROLOGUE_BYTES = 16, WRONG_CRC = 0x5eed };

static char folder[] = "/tmp/sfscale-fuzz-XXXXXX";

static void remove_folder(void)
{
	dir_remove(folder);
}

/* 0: run.json; from 1 on: the records. */
static void piece_path(char path[PATH_BYTES], const char *dir, size_t piece)
{
	if (piece ? path_make(path, "%s/" FOLDER_RECORD, dir, piece - 1) : path_make(path, "%s/" FOLDER_RUN, dir))
		abort();
}

/* ---- seeds ----------------------------------------------------------------------------- */

static void seed_make(const char *run, const char *seeds, int number)
{
	char path[PATH_BYTES], *text;
	size_t bytes;
	FILE *out;

	if (path_make(path, "%s/%d", seeds, number) || !(out = fopen(path, "wb")))
		abort();
	for (size_t piece = 0; piece <= RANKS_MAX; piece++) {
		uint32_t length;

		piece_path(path, run, piece);
		if (access(path, R_OK) || file_read(path, &text, &bytes))
			break;
		length = (uint32_t)bytes;
		fwrite(&length, sizeof(length), 1, out);
		fwrite(text, 1, bytes, out);
		free(text);
	}
	if (fclose(out))
		abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *seeds = getenv("FUZZ_RECORD_SEEDS");
	char *runs = getenv("FUZZ_RECORD_RUN"), *rest;
	int number = 0;

	(void)argc, (void)argv;
	if (!mkdtemp(folder))
		abort();
	atexit(remove_folder);
	for (char *run = runs && seeds ? strtok_r(runs, " ", &rest) : NULL; run; run = strtok_r(NULL, " ", &rest))
		seed_make(run, seeds, number++);
	return 0;
}

/* ---- inputs ---------------------------------------------------------------------------- */

static void checksums_mend(uint8_t *record, size_t bytes)
{
	struct { uint32_t type, count, bytes, crc; } b;

	for (size_t at = PROLOGUE_BYTES; at + sizeof(b) <= bytes; at += sizeof(b) + b.bytes) {
		memcpy(&b, record + at, sizeof(b));
		if (b.bytes > bytes - at - sizeof(b))
			break;
		if (b.crc != WRONG_CRC)
			b.crc = (uint32_t)crc32_z(0, record + at + sizeof(b), b.bytes);
		memcpy(record + at, &b, sizeof(b));
	}
}

/* A job of more ranks than there can be records here only takes long. */
static bool is_small(const char *run, size_t bytes)
{
	cJSON *o = cJSON_ParseWithLength(run, bytes);
	double ranks = json_number(cJSON_GetObjectItemCaseSensitive(o, "place"), "ranks", 0);

	cJSON_Delete(o);
	return ranks <= RANKS_MAX;
}

static bool folder_write(const uint8_t *data, size_t bytes)
{
	char path[PATH_BYTES];

	for (size_t piece = 0; piece <= RANKS_MAX; piece++) {
		uint32_t length = 0;
		uint8_t *copy;
		FILE *out;

		piece_path(path, folder, piece);
		unlink(path);
		if (bytes < sizeof(length))
			continue;
		memcpy(&length, data, sizeof(length));
		data += sizeof(length);
		bytes -= sizeof(length);
		length = length < bytes ? length : (uint32_t)bytes;
		if (!piece && !is_small((const char *)data, length))
			return false;
		copy = malloc(length + 1);
		if (!copy)
			abort();
		memcpy(copy, data, length);
		if (piece)
			checksums_mend(copy, length);
		out = fopen(path, "wb");
		if (!out || fwrite(copy, 1, length, out) != length || fclose(out))
			abort();
		free(copy);
		data += length;
		bytes -= length;
	}
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	const char *dirs[] = { folder };
	struct findings found = { 0 };
	struct curve curve = { 0 };
	struct export_sum sum;
	char trace[PATH_BYTES];
	struct runs runs;

	if (!folder_write(data, bytes) || path_make(trace, "%s/trace", folder))
		return 0;
	if (!runs_read(&runs, dirs, 1) && !curve_make(&curve, &runs))
		(void)!findings_make(&found, &curve, &runs, folder);
	findings_release(&found);
	curve_release(&curve);
	runs_release(&runs);
	(void)!export_perfetto(folder, trace, &(struct export_choice){ 0 }, &sum);
	return 0;
}
