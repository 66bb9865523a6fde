/*
 * tests/fuzz/fuzz_ava.c - the index of a data set from arbitrary files (libFuzzer; `make fuzz`).
 *
 * Bytes of 0xff part the input into frame list, predicted boxes and ground truth.  Without boxes every video gets one, so that
 * lists alone come through.  The index keeps a list as runs of paths that count up; here it must give back what stands in
 * the lines, path by path, and the same after a journey through its stream.
 */
#include "bench/base/err.h"
#include "loader/ava.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { PARTS = 3 };
static const char *const names[PARTS] = { AVA_TRAIN_FRAMES, AVA_TRAIN_PREDICTED, AVA_TRAIN_TRUTH };
static char folder[] = "/tmp/fuzz-ava-XXXXXX";

static void remove_folder(void)
{
	dir_remove(folder);
}

/* A data set whose files are in memory. */
static void make_folder(int file[PARTS])
{
	char path[PATH_BYTES], *slash, target[32];

	if (!mkdtemp(folder))
		abort();
	atexit(remove_folder);
	for (size_t i = 0; i < PARTS; i++) {
		file[i] = memfd_create("fuzz", 0);
		snprintf(target, sizeof(target), "/proc/self/fd/%d", file[i]);
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		slash = strrchr(path, '/');
		*slash = '\0';
		if (dir_make(path))
			abort();
		*slash = '/';
		if (symlink(target, path))
			abort();
	}
}

/* A box for the video of each line behind the header. */
static void write_boxes(char *text, FILE *f)
{
	char *line, *rest = strchr(text, '\n');

	while (rest && (line = strtok_r(NULL, "\n", &rest)))
		fprintf(f, "%.*s,902,0,0,1,1,1,0.9\n", (int)strcspn(line, " \t\r"), line);
}

static size_t video_of(const struct ava_index *ix, const char *name)
{
	size_t v = 0;

	while (v < ix->video_count && strcmp(ix->videos[v].name, name))
		v++;
	if (v == ix->video_count)
		abort();
	return v;
}

/* Whether the index says what the lines do. */
static void compare(const struct ava_index *ix, const char *list)
{
	size_t *seen = calloc(ix->video_count, sizeof(*seen)), frames = 0;
	char path[PATH_BYTES], why[AVA_WHY_BYTES];
	struct ava_frame_row row;
	struct line_reader r;

	if (!seen || line_reader_open(&r, list))
		abort();
	line_reader_next(&r);
	while (line_reader_next(&r)) {
		size_t v;

		if (ava_frame_row(r.line, &row, why))
			abort();
		v = video_of(ix, row.video);
		frames++;
		if (strlen(ix->root) + 1 + strlen(row.path) < PATH_BYTES &&
		    (ava_index_path(ix, v, seen[v], path) || strcmp(path + strlen(ix->root) + 1, row.path)))
			abort();
		seen[v]++;
	}
	line_reader_close(&r, OK);
	if (frames != ix->frame_count)
		abort();
	free(seen);
}

static char *stream_of(const struct ava_index *ix, size_t *bytes)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, bytes);
	int rc = ava_index_write(ix, f);

	fclose(f);
	if (!rc)
		return text;
	free(text);		/* a path that is too long */
	return NULL;
}

static void travel(const struct ava_index *ix)
{
	size_t bytes, again_bytes;
	char *text = stream_of(ix, &bytes), *again;
	struct ava_index there;
	FILE *f;

	if (!text)
		return;
	f = fmemopen(text, bytes, "r");
	if (ava_index_rebuild(&there, f))
		abort();
	fclose(f);
	again = stream_of(&there, &again_bytes);
	if (!again || again_bytes != bytes || memcmp(again, text, bytes))
		abort();
	ava_index_release(&there);
	free(again);
	free(text);
}

static void put(int file, const void *text, size_t bytes)
{
	if (ftruncate(file, 0) || pwrite(file, text, bytes, 0) != (ssize_t)bytes)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static int file[PARTS];
	size_t part_bytes[PARTS];
	char *list = strndup((const char *)data, bytes), path[PATH_BYTES];
	struct ava_index ix;

	if (!file[0])
		make_folder(file);
	for (size_t i = 0; i < PARTS; i++) {
		const uint8_t *mark = i + 1 < PARTS && bytes ? memchr(data, 0xff, bytes) : NULL;

		part_bytes[i] = mark ? (size_t)(mark - data) : bytes;
		put(file[i], data, part_bytes[i]);
		data += part_bytes[i] + (mark != NULL);
		bytes -= part_bytes[i] + (mark != NULL);
	}
	if (!part_bytes[1]) {
		char *boxes = NULL;
		size_t n;
		FILE *f = open_memstream(&boxes, &n);

		write_boxes(list, f);
		fclose(f);
		put(file[1], boxes, n);
		free(boxes);
	}
	free(list);
	snprintf(path, sizeof(path), "%s/%s", folder, names[0]);
	if (!ava_index_read(&ix, folder)) {
		compare(&ix, path);
		travel(&ix);
		ava_index_release(&ix);
	}
	return 0;
}
