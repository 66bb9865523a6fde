/*
 * kernels/cuda/dnn.c - cuDNN's graph API in few lines.
 */
#include "kernels/cuda/dnn.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Before it: wrong results of 3-D convolutions in bf16 (9.8 to 9.10), several times the time and memory (to 9.14). */
enum { GOOD_VERSION = 91500, DESCRIBED_VERSION = 90800 };

const char *cuda_dnn_last(char *text, size_t bytes)
{
	text[0] = '\0';
	cudnnGetLastErrorString(text, bytes);
	text[strcspn(text, "\n")] = '\0';
	return text;
}

int cuda_dnn_check(cudnnStatus_t status, const char *call, const char *file, int line)
{
	char why[512];

	if (status == CUDNN_STATUS_SUCCESS)
		return OK;
	cuda_dnn_last(why, sizeof(why));
	return err(CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED ? UNSUPPORTED : FAILED, "%s at %s:%d: %s%s%s",
		   call, file, line, cudnnGetErrorString(status), why[0] ? ": " : "", why);
}

void cuda_dnn_drop(cudnnBackendDescriptor_t *d)
{
	if (*d)
		cudnnBackendDestroyDescriptor(*d);
	*d = NULL;
}

cudnnStatus_t cuda_dnn_make(cudnnBackendDescriptor_t *out, cudnnBackendDescriptorType_t type,
			    const struct cuda_dnn_attr *attrs, size_t count)
{
	cudnnStatus_t status = cudnnBackendCreateDescriptor(type, out);

	if (status != CUDNN_STATUS_SUCCESS) {
		*out = NULL;
		return status;
	}
	for (size_t i = 0; i < count && status == CUDNN_STATUS_SUCCESS; i++)
		if (attrs[i].count)
			status = cudnnBackendSetAttribute(*out, attrs[i].name, attrs[i].type, attrs[i].count, attrs[i].values);
	if (status == CUDNN_STATUS_SUCCESS)
		status = cudnnBackendFinalize(*out);
	if (status != CUDNN_STATUS_SUCCESS)
		cuda_dnn_drop(out);
	return status;
}

cudnnStatus_t cuda_dnn_configs(const struct cuda_dnn *dnn, cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
			       cudnnBackendDescriptor_t *configs, size_t *count)
{
	const struct cuda_dnn_attr attrs[] = {
		{ CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph },
		{ CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode },
		{ CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, dnn->described != NULL, &dnn->described },
	};
	cudnnBackendDescriptor_t heuristics;
	size_t room = *count;
	int64_t found = 0;
	cudnnStatus_t status = cuda_dnn_make(&heuristics, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, attrs, ARRAY_LEN(attrs));

	memset(configs, 0, room * sizeof(*configs));
	for (size_t i = 0; i < room && status == CUDNN_STATUS_SUCCESS; i++)
		status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[i]);
	if (status == CUDNN_STATUS_SUCCESS)
		status = cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
						  (int64_t)room, &found, configs);
	*count = status == CUDNN_STATUS_SUCCESS ? (size_t)found : 0;
	for (size_t i = *count; i < room; i++)
		cuda_dnn_drop(&configs[i]);
	cuda_dnn_drop(&heuristics);
	return status;
}

cudnnStatus_t cuda_dnn_plan(struct cuda_dnn *dnn, cudnnBackendDescriptor_t config, cudnnBackendDescriptor_t *plan,
			    size_t *workspace_bytes)
{
	const struct cuda_dnn_attr attrs[] = {
		{ CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config },
		{ CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, dnn->handle != NULL, &dnn->handle },
		{ CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, dnn->described != NULL, &dnn->described },
	};
	int64_t bytes = 0, got;
	cudnnStatus_t status = cuda_dnn_make(plan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, attrs, ARRAY_LEN(attrs));

	dnn->plans++;
	if (status == CUDNN_STATUS_SUCCESS)
		status = cudnnBackendGetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &got,
						  &bytes);
	if (status != CUDNN_STATUS_SUCCESS)
		cuda_dnn_drop(plan);
	*workspace_bytes = (size_t)bytes;
	return status;
}

void cuda_dnn_version(char *text, size_t bytes)
{
	size_t v = cudnnGetVersion();

	snprintf(text, bytes, "cuDNN %zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
}

static void warn_of_version(void)
{
	static bool said;
	char version[32];

	if (said || cudnnGetVersion() >= GOOD_VERSION)
		return;
	said = true;
	cuda_dnn_version(version, sizeof(version));
	warn("%s: versions before 9.15 are known for wrong results of 3-D convolutions", version);
}

static int open_empty(struct cuda_dnn **out, enum cuda_math math)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return err(NO_MEMORY, "no memory for a cuDNN handle");
	(*out)->math = math;
	return OK;
}

int cuda_dnn_open(struct cuda_dnn **out, cudaStream_t stream, enum cuda_math math)
{
	struct cuda_dnn *dnn;
	struct cudaDeviceProp chip;
	int device, driver = 0, rc = open_empty(out, math);

	if (rc)
		return rc;
	warn_of_version();
	dnn = *out;
	dnn->stream = stream;
	rc = TRY_DNN(cudnnCreate(&dnn->handle));
	if (rc)
		dnn->handle = NULL;
	if (!rc)
		rc = TRY_DNN(cudnnSetStream(dnn->handle, stream));
	if (!rc)
		rc = TRY_CUDA(cudaGetDevice(&device));
	if (!rc)
		rc = TRY_CUDA(cudaGetDeviceProperties(&chip, device));
	if (!rc)
		rc = TRY_CUDA(cudaDriverGetVersion(&driver));
	if (!rc)
		rc = TRY_CUDA(cudaMalloc((void **)&dnn->samples, (CUDA_SAMPLES + 2) * sizeof(*dnn->samples)));
	if (rc) {
		cuda_dnn_close(dnn);
		*out = NULL;
		return rc;
	}
	snprintf(dnn->chip, sizeof(dnn->chip), "%s with driver %d.%d", chip.name, driver / 1000, driver % 1000 / 10);
	return OK;
}

int cuda_dnn_open_described(struct cuda_dnn **out, const char *json, enum cuda_math math)
{
	const struct cuda_dnn_attr attr =
		{ CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json), json };
	int rc;

	if (cudnnGetVersion() < DESCRIBED_VERSION)
		return err(UNSUPPORTED, "cuDNN before 9.8 plans for the chip that is here, not for a described one");
	rc = open_empty(out, math);
	if (rc)
		return rc;
	snprintf((*out)->chip, sizeof((*out)->chip), "described");
	rc = TRY_DNN(cuda_dnn_make(&(*out)->described, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &attr, 1));
	if (rc) {
		cuda_dnn_close(*out);
		*out = NULL;
	}
	return rc;
}

void cuda_dnn_close(struct cuda_dnn *dnn)
{
	if (!dnn)
		return;
	cuda_dnn_drop(&dnn->described);
	cudaFree(dnn->samples);
	if (dnn->handle)
		cudnnDestroy(dnn->handle);
	free(dnn->choices);
	free(dnn);
}
