/*
 * tests/fuzz/fuzz_safetensors.c - arbitrary bytes as a file of tensors (libFuzzer; `make fuzz`).
 *
 * The first byte chooses: the rest is a whole file, length in front and all, which is opened and read; or it is a header
 * alone, with as many bytes of data behind it as the second byte says, so that the fuzzer need not learn to count.  What
 * is accepted must be consistent: every tensor is found under its name, and together they are the data.
 */
#include "kernels/safetensors.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must(int holds)
{
	if (!holds)
		abort();
}

static void check(const struct safetensors *f, uint64_t data_bytes)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < f->count; i++) {
		must(safetensors_find(f, f->tensors[i].name) == &f->tensors[i]);
		sum += safetensor_bytes(&f->tensors[i]);
	}
	must(sum == data_bytes);
	for (size_t i = 0; i < f->text_count; i++)
		must(safetensors_text(f, f->texts[i].key) == f->texts[i].text);
}

static void whole_file(const uint8_t *data, size_t bytes)
{
	int fd = memfd_create("fuzz", 0);
	struct safetensors f;
	char path[64];

	must(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!safetensors_open(&f, path)) {
		check(&f, bytes - f.data_at);
		for (size_t i = 0; i < f.count; i++) {
			void *values = malloc(safetensor_bytes(&f.tensors[i]) + 1);

			must(values && !safetensors_read(&f, &f.tensors[i], values));
			free(values);
		}
		safetensors_close(&f);
	}
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct safetensors f;
	char *text;

	if (bytes < 2)
		return 0;
	if (data[0] & 1) {
		whole_file(data + 1, bytes - 1);
		return 0;
	}
	text = malloc(bytes - 1);
	must(text != NULL);
	memcpy(text, data + 2, bytes - 2);
	if (!safetensors_parse(&f, "fuzz", text, bytes - 2, data[1]))
		check(&f, data[1]);
	safetensors_close(&f);
	return 0;
}
