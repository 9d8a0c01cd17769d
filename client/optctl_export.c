/*
 * optctl export: a model's weights, or their average, as a safetensors file, written aside, synced
 * and renamed, so that the file is whole or not there.
 *
 * In sync mode the weights are all of one version: a pull that asks for a
 * version that is still to come is answered block by block as that version
 * comes about.  In async mode there is no such version, and the file says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/limits.h"
#include "proto/safetensors.h"
#include "proto/status.h"

#include "client/optctl.h"

#define ATTEMPTS 20
/* A version that is still to come may not come, if nobody trains. */
#define ATTEMPT_MS 5000u

struct export {
	optd_model *model;
	optd_model_info info;
	float *weights;
	uint64_t version, version_max;
	char *head;
	size_t head_bytes;
	uint64_t data_bytes;
	char why[512];
};

/* ---- one version -------------------------------------------------------- */

static int pull_once(const struct optctl *ctl, const struct export *e, uint64_t min_version)
{
	return ctl->average ? optd_pull_average(e->model, e->weights, min_version)
	                    : optd_pull(e->model, e->weights, min_version);
}

/* Pulls until all blocks are of one version, or, in async, once. */
static int pull(const struct optctl *ctl, struct export *e)
{
	int rc = pull_once(ctl, e, 0);
	optd_model_versions(e->model, &e->version, &e->version_max);
	for (int i = 0; rc == 0 && i < ATTEMPTS; i++) {
		if (e->version == e->version_max || e->info.mode == OPTD_ASYNC)
			return 0;
		/* First the version that is coming about; if training goes on past it,
		 * ones further ahead, so that all blocks are asked for in time. */
		optd_set_timeout(ctl->client, ATTEMPT_MS);
		rc = pull_once(ctl, e, e->version_max + (uint64_t)i);
		optd_model_versions(e->model, &e->version, &e->version_max);
	}
	if (rc == OPTD_TIMEOUT)
		snprintf(e->why, sizeof(e->why),
		         "the model stands between steps %" PRIu64 " and %" PRIu64
		         " and nobody completes the step; export again when its workers are back",
		         e->version, e->version_max);
	else if (rc < 0)
		snprintf(e->why, sizeof(e->why), "%s", optd_error(ctl->client));
	else if (e->version != e->version_max)
		snprintf(e->why, sizeof(e->why),
		         "%d pulls brought no single version, training is too fast; try again", ATTEMPTS + 1);
	else
		return 0;
	return rc < 0 ? rc : OPTD_BUSY;
}

/* ---- the head ------------------------------------------------------------- */

static int encode(struct export *e, const char *name, struct safetensors_tensor *tensors, uint32_t count,
                  const char *average)
{
	char version[24], version_max[24];
	for (uint32_t i = 0; i < count; i++) {
		tensors[i].dtype = SAFETENSORS_F32;
		tensors[i].name = optd_model_tensor(e->model, i, &tensors[i].shape, &tensors[i].rank, NULL, NULL);
	}
	int rc = safetensors_place(tensors, count, &e->data_bytes);
	if (rc < 0)
		return rc;
	snprintf(version, sizeof(version), "%" PRIu64, e->version);
	snprintf(version_max, sizeof(version_max), "%" PRIu64, e->version_max);
	/* Nothing that differs from run to run: equal weights give equal files. */
	struct safetensors_text metadata[6] = {
		{"format", "pt"}, {"optd.model", name}, {"optd.step", version}};
	uint32_t texts = 3;
	if (e->version != e->version_max) {
		metadata[texts++] = (struct safetensors_text){"optd.torn", "true"};
		metadata[texts++] = (struct safetensors_text){"optd.step_max", version_max};
	}
	if (average)
		metadata[texts++] = (struct safetensors_text){"optd.average", average};
	return safetensors_encode(tensors, count, metadata, texts, LIMIT_SAFETENSORS_HEADER, &e->head,
	                          &e->head_bytes, e->why, sizeof(e->why));
}

static int make_head(struct export *e, const char *name, const char *average)
{
	uint32_t count = optd_model_tensor_count(e->model);
	struct safetensors_tensor *tensors = calloc(count, sizeof(*tensors));
	int rc = tensors ? encode(e, name, tensors, count, average) : OPTD_NO_MEMORY;
	free(tensors);
	return rc;
}

/* ---- the file --------------------------------------------------------------- */

static int write_all(int fd, const void *bytes, size_t size)
{
	const char *at = bytes;
	while (size > 0) {
		ssize_t n = write(fd, at, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		at += n;
		size -= (size_t)n;
	}
	return 0;
}

static int sync_folder(const char *path)
{
	char copy[PATH_MAX];
	snprintf(copy, sizeof(copy), "%s", path);
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 ? -1 : fsync(fd);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Writes, syncs and renames; errno says what failed. */
static int write_aside(const struct export *e, const char *path, char *aside)
{
	int fd = mkstemp(aside);
	if (fd < 0)
		return -1;
	mode_t mask = umask(0);
	umask(mask);
	int rc = fchmod(fd, 0666 & ~mask);
	if (rc == 0)
		rc = write_all(fd, e->head, e->head_bytes);
	if (rc == 0)
		rc = write_all(fd, e->weights, e->data_bytes);
	if (rc == 0)
		rc = fsync(fd);
	int error = errno;
	if (close(fd) != 0 && rc == 0) {
		rc = -1;
		error = errno;
	}
	if (rc == 0 && rename(aside, path) == 0)
		return sync_folder(path);
	if (rc == 0)
		error = errno;
	unlink(aside);
	errno = error;
	return -1;
}

static int write_file(struct export *e, const char *path)
{
	char aside[PATH_MAX];
	int n = snprintf(aside, sizeof(aside), "%s.XXXXXX", path);
	if (n < 0 || (size_t)n >= sizeof(aside)) {
		snprintf(e->why, sizeof(e->why), "the path is too long");
		return OPTD_INVALID;
	}
	if (write_aside(e, path, aside) == 0)
		return 0;
	snprintf(e->why, sizeof(e->why), "%s: %s", path, strerror(errno));
	return OPTD_IO;
}

/* ---- the command -------------------------------------------------------------- */

static void report(const struct optctl *ctl, const struct export *e, const char *path)
{
	char count[OPTCTL_NUMBER_BYTES], size[OPTCTL_NUMBER_BYTES];
	uint32_t tensors = optd_model_tensor_count(e->model);
	printf("%s: %u tensor%s, %s parameters", path, tensors, tensors == 1 ? "" : "s",
	       optctl_count(e->info.elements, count));
	printf(", %s", optctl_bytes(e->head_bytes + e->data_bytes, size));
	if (ctl->average) {
		printf(", the average of its weights: ");
		optctl_text(stdout, e->info.average);
	}
	if (e->version == e->version_max)
		printf(", step %" PRIu64 "\n", e->version);
	else
		printf(", steps %" PRIu64 " to %" PRIu64
		       " (async: blocks of several versions; the file says torn)\n",
		       e->version, e->version_max);
}

static int export(const struct optctl *ctl, struct export *e, const char *name, const char *path)
{
	int rc = optd_open(ctl->client, name, NULL, NULL, &e->model);
	if (rc < 0) {
		snprintf(e->why, sizeof(e->why), "%s", optd_error(ctl->client));
		return rc;
	}
	optd_model_get_info(e->model, &e->info);
	if (!e->info.ready) {
		snprintf(e->why, sizeof(e->why), "model '%s' has no weights yet", name);
		return OPTD_NOT_READY;
	}
	e->weights = malloc(e->info.elements * sizeof(float));
	if (!e->weights)
		return OPTD_NO_MEMORY;
	rc = pull(ctl, e);
	if (rc == 0)
		rc = make_head(e, name, ctl->average ? e->info.average : NULL);
	if (rc == 0)
		rc = write_file(e, path);
	if (rc == 0)
		report(ctl, e, path);
	return rc;
}

int optctl_export(const struct optctl *ctl, const char *name, const char *path)
{
	struct export e = {0};
	int rc = export(ctl, &e, name, path);
	int code = EXIT_DONE;
	if (rc < 0)
		code = optctl_fail(rc, e.why[0] ? e.why : optd_status_text(rc));
	free(e.weights);
	free(e.head);
	return code;
}
