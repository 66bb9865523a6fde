/*
 * tests/fuzz/fuzz_topo.c - every reader of comm/topo on arbitrary bytes (libFuzzer; `make fuzz`).
 *
 * The first byte chooses the reader, so that one program covers them all; FUZZ_TOPO_READER in the
 * environment fixes it for a run over one kind of seed.  What was read goes on through settling,
 * judging and reporting: those must stand any model that a reader can make.
 */
#include "comm/topo/verdict.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static int reader = -1;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *text = getenv("FUZZ_TOPO_READER");
	int nowhere = open("/dev/null", O_WRONLY);

	(void)argc, (void)argv;
	if (text)
		reader = atoi(text);
	if (nowhere >= 0 && reader >= 0 && getenv("FUZZ_TOPO_QUIET"))
		dup2(nowhere, STDERR_FILENO);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct topo_model m = { 0 };
	struct topo_report r;
	enum topo_input input = reader >= 0 ? (enum topo_input)reader : INPUT_AUTO;
	char *text;

	if (reader < 0) {
		if (!bytes)
			return 0;
		input = (enum topo_input)(data[0] % (INPUT_SYSFS + 1));
		data++;
		bytes--;
	}
	text = malloc(bytes + 1);
	if (!text)
		return 0;
	memcpy(text, data, bytes);
	text[bytes] = 0;
	if (input == INPUT_LOG)		/* past the check for an anchor, so that any line is tried */
		topo_log_parse(&m.log, "fuzz", text, bytes);
	if (input == INPUT_LOG || !topo_model_take(&m, "fuzz", text, bytes, input)) {
		topo_model_settle(&m);
		topo_report_make(&r, &m, 0);
		topo_report_release(&r);
	}
	topo_model_release(&m);
	free(text);
	return 0;
}
