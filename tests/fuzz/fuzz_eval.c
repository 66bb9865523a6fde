/*
 * tests/fuzz/fuzz_eval.c - the evaluation on arbitrary files (libFuzzer; `make fuzz`).
 *
 * The first byte chooses the rule; bytes of 0xff part the input into detections, ground truth, excluded keyframes and
 * label map.  Without the last one there is a map of two classes, so that rows are seldom passed over.
 */
#include "bench/base/err.h"
#include "loader/ava_eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { PARTS = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const char map[] = "item {\n  name: \"stand\"\n  id: 12\n}\nitem {\n  name: \"sit\"\n  id: 1\n}\n";
	static int file[PARTS];
	char path[PARTS][32];
	struct ava_eval e;
	enum ava_rule rule;

	if (!bytes)
		return 0;
	rule = data[0] % AVA_RULES;
	data++;
	bytes--;
	for (size_t i = 0; i < PARTS; i++) {
		const uint8_t *mark = i + 1 < PARTS && bytes ? memchr(data, 0xff, bytes) : NULL;
		size_t n = mark ? (size_t)(mark - data) : bytes;
		const void *text = data;

		if (i == PARTS - 1 && !n) {
			text = map;
			n = strlen(map);
		} else {
			data += n + (mark != NULL);
			bytes -= n + (mark != NULL);
		}
		if (!file[i])
			file[i] = memfd_create("fuzz", 0);
		snprintf(path[i], sizeof(path[i]), "/proc/self/fd/%d", file[i]);
		if (ftruncate(file[i], 0) || pwrite(file[i], text, n, 0) != (ssize_t)n)
			abort();
	}
	if (!ava_eval_run(&e, &(struct ava_eval_files){ path[1], path[0], path[3], path[2] }, rule)) {
		if (!isnan(e.map) && !(e.map >= 0 && e.map <= 1))
			abort();
		ava_eval_release(&e);
	}
	return 0;
}
