/*
 * bench/checkpoint.c - see checkpoint.h.
 */
#include "bench/checkpoint.h"

#include "bench/base/err.h"
#include "kernels/weights.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS = WEIGHTS_MODEL | WEIGHTS_MOMENTUM };

int checkpoint_write(const struct checkpoint_plan *p, size_t epochs, struct kernels *k)
{
	char path[PATH_BYTES], epoch[24], *text = cJSON_PrintUnformatted(p->options);
	int rc = text ? path_make(path, "%s/" CHECKPOINT_FOLDER, p->run_folder) : err(NO_MEMORY, "no memory for options");

	if (!rc)
		rc = dir_make(path);
	if (!rc)
		rc = path_make(path, "%s/" CHECKPOINT_FOLDER "/" CHECKPOINT_FILE, p->run_folder, epochs);
	snprintf(epoch, sizeof(epoch), "%zu", epochs - 1);
	if (!rc)
		rc = weights_save(k, PARTS, path, (const struct safetensors_text[]){ { "epoch", epoch }, { "options", text } }, 2);
	free(text);
	return rc;
}

/* The number of a checkpoint's name; 0: the name is none. */
static size_t number_of(const char *name)
{
	char again[64];
	size_t number;

	if (sscanf(name, "checkpoint_epoch_%zu", &number) != 1)
		return 0;
	snprintf(again, sizeof(again), CHECKPOINT_FILE, number);
	return strcmp(again, name) ? 0 : number;	/* what is half written has another ending */
}

int checkpoint_find(char path[PATH_BYTES], const char *from)
{
	char folder[PATH_BYTES];
	const struct dirent *e;
	size_t newest = 0;
	DIR *d;
	int rc = path_make(folder, "%s/" CHECKPOINT_FOLDER, from);

	if (rc || !dir_exists(from))
		return rc ? rc : path_make(path, "%s", from);
	d = opendir(folder);
	if (!d)
		return err(FAILED, "'%s' has no checkpoints: cannot open '%s': %s", from, folder, strerror(errno));
	while ((e = readdir(d)))
		newest = number_of(e->d_name) > newest ? number_of(e->d_name) : newest;
	closedir(d);
	return newest ? path_make(path, "%s/" CHECKPOINT_FILE, folder, newest)
		      : err(FAILED, "'%s' holds no checkpoint that is whole", folder);
}

static int read_texts(struct checkpoint *c, const struct safetensors *f)
{
	const char *epoch = safetensors_text(f, "epoch"), *options = safetensors_text(f, "options");
	char end;

	if (!epoch || sscanf(epoch, "%zu%c", &c->epochs, &end) != 1 || c->epochs >= UINT32_MAX)
		return err(FAILED, "'%s' is no checkpoint: its metadata do not say which epoch is finished", f->path);
	c->epochs++;
	c->options = options ? cJSON_Parse(options) : NULL;
	return OK;
}

int checkpoint_read(struct checkpoint *c, const char *path, struct kernels *k)
{
	struct safetensors f = { 0 };
	int rc = safetensors_open(&f, path);

	*c = (struct checkpoint){ 0 };
	if (!rc)
		rc = read_texts(c, &f);
	if (!rc)
		rc = weights_load(k, PARTS, &f, false, NULL);
	safetensors_close(&f);
	if (rc)
		checkpoint_release(c);
	return rc;
}

void checkpoint_release(struct checkpoint *c)
{
	cJSON_Delete(c->options);
	*c = (struct checkpoint){ 0 };
}

/* Those that change when and by whom something is done, and not what comes out. */
static const char *const idle_options[] = {
	"out", "init", "resume", "checkpoint-period", "epochs", "policy", "workers", "prefetch", "nodes", "bind", "overlap", "log-period",
	"pixels", "inject", "eval-period", "eval-seconds", "eval-frames", "emulate-kernels", "emulate-loader", "emulate-start-ms",
	"emulate-storage-ms", "hang-s", "nccl", "nccl-timeout-s", "one-gpu", "profile", "tuning", "graph",
};

static bool is_idle(const char *option, bool planned)
{
	size_t i = 0;

	if (planned && !strcmp(option, "epochs"))
		return false;		/* multigrid spreads its phases over them */

	while (i < ARRAY_LEN(idle_options) && strcmp(option, idle_options[i]))
		i++;
	return i < ARRAY_LEN(idle_options);
}

char *checkpoint_changes(const struct checkpoint *c, const cJSON *options)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);
	const cJSON *now;
	const bool planned = strcmp(json_string(options, "multigrid", "off"), "off");

	if (!f)
		return NULL;
	if (!cJSON_IsObject(c->options))
		fprintf(f, "with which options it was written, it does not say");
	cJSON_ArrayForEach(now, options) {
		const cJSON *then = cJSON_GetObjectItemCaseSensitive(c->options, now->string);
		char *was, *is;

		if (!then || is_idle(now->string, planned) || cJSON_Compare(then, now, true))
			continue;
		was = cJSON_PrintUnformatted(then);
		is = cJSON_PrintUnformatted(now);
		fprintf(f, "%s%s %s is now %s", ftell(f) ? ", " : "", now->string, was, is);
		free(was);
		free(is);
	}
	fclose(f);
	if (bytes)
		return text;
	free(text);
	return NULL;
}
