/*
 * tests/inject_nvtx.c - a tool for NVTX as test_run needs one: NVTX_INJECTION64_PATH names this
 * library, and each range goes as a line "thread push DOMAIN NAME PAYLOAD" or "thread pop" into the
 * file that SFSCALE_NVTX_LOG names.  Where the NVTX headers are absent it is empty.
 */
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Handles are ours to choose: the address of a copy of the name. */
struct name {
	char text[64];
};

static FILE *out;

static void *keep(const char *text)
{
	struct name *n = calloc(1, sizeof(*n));

	if (n)
		snprintf(n->text, sizeof(n->text), "%s", text);
	return n;
}

static nvtxDomainHandle_t domain_create(const char *text)
{
	return keep(text);
}

static nvtxStringHandle_t register_string(nvtxDomainHandle_t domain, const char *text)
{
	(void)domain;
	return keep(text);
}

static int push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *a)
{
	const char *text = a->messageType == NVTX_MESSAGE_TYPE_REGISTERED ?
		((const struct name *)(const void *)a->message.registered)->text : "(not registered)";

	fprintf(out, "%ld push %s %s %llu\n", (long)syscall(SYS_gettid), ((const struct name *)(const void *)domain)->text,
		text, a->payloadType == NVTX_PAYLOAD_TYPE_UNSIGNED_INT64 ? (unsigned long long)a->payload.ullValue : ~0ull);
	return 0;
}

static int pop(nvtxDomainHandle_t domain)
{
	(void)domain;
	fprintf(out, "%ld pop\n", (long)syscall(SYS_gettid));
	return 0;
}

NVTX_DYNAMIC_EXPORT int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table)
{
	const NvtxExportTableCallbacks *callbacks = get_table(NVTX_ETID_CALLBACKS);
	NvtxFunctionTable slots;
	unsigned slot_count;

	if (!out)
		out = fopen(getenv("SFSCALE_NVTX_LOG"), "w");
	if (!out || !callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &slots, &slot_count) ||
	    slot_count < NVTX_CBID_CORE2_SIZE)
		return 0;
	setvbuf(out, NULL, _IOLBF, 0);
	*slots[NVTX_CBID_CORE2_DomainCreateA] = (NvtxFunctionPointer)domain_create;
	*slots[NVTX_CBID_CORE2_DomainRegisterStringA] = (NvtxFunctionPointer)register_string;
	*slots[NVTX_CBID_CORE2_DomainRangePushEx] = (NvtxFunctionPointer)push;
	*slots[NVTX_CBID_CORE2_DomainRangePop] = (NvtxFunctionPointer)pop;
	return 1;
}
#endif
