/*
 * Checkpoint, the directory: names of files, what is there, removing.
 */
#include "server/disk/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/status.h"
#include "server/disk/digest.h"
#include "server/disk/file.h"

#define SUFFIX ".safetensors"
#define LEFTOVER_SUFFIX ".safetensors.tmp"

/* An escaped name up to here stands as it is; of a longer one this much, and a
 * hash of the whole.  With both suffixes that stays below the 255 bytes that
 * file systems allow. */
#define ESCAPED_MAX 200u
#define ESCAPED_CUT 160u

/* Letters, digits, '_', '-' and '.' (not in front, which would hide the file or
 * climb up) stand for themselves, every other byte is %XX; so different names
 * have different files, whatever is in them. */
void checkpoint_name(const char *model, char name[CHECKPOINT_NAME_BYTES])
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	size_t used = 0, size = strlen(model);

	for (size_t i = 0; i < size && used <= ESCAPED_MAX; i++) {
		if (strchr(plain, model[i]) && !(i == 0 && model[i] == '.'))
			name[used++] = model[i];
		else
			used += (size_t)snprintf(name + used, 4, "%%%02X", (unsigned char)model[i]);
	}
	if (used > ESCAPED_MAX) {
		used = ESCAPED_CUT;
		name[used++] = '%';
		name[used++] = '~'; /* never comes from escaping */
		digest_name(model, size, name + used);
		used += 32;
	}
	memcpy(name + used, SUFFIX, sizeof SUFFIX);
}

static int ends_in(const char *name, const char *suffix)
{
	size_t name_bytes = strlen(name), suffix_bytes = strlen(suffix);

	return name_bytes > suffix_bytes && strcmp(name + name_bytes - suffix_bytes, suffix) == 0;
}

static int is_ours(const struct dirent *entry)
{
	return ends_in(entry->d_name, SUFFIX) || ends_in(entry->d_name, LEFTOVER_SUFFIX);
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* DIR/models; 0 and *out -1 when there is none. */
static int open_models(const char *dir, int *out, char *why, size_t why_bytes)
{
	int top = dir_open(AT_FDCWD, dir, 0, why, why_bytes);

	if (top < 0)
		return top;
	*out = dir_open(top, "models", 0, why, why_bytes);
	if (*out < 0 && errno == ENOENT) {
		close(top);
		*out = -1;
		return OPTD_OK;
	}
	close(top);
	return *out < 0 ? *out : OPTD_OK;
}

static int list_entry(const char *dir, int models, const char *name,
                      int (*call)(void *context, enum checkpoint_entry entry, const char *path),
                      void *context, char *why, size_t why_bytes)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/models/%s", dir, name);

	if (n < 0 || (size_t)n >= sizeof path)
		return disk_fail(OPTD_IO, why, why_bytes, "'%.200s...': the path is too long", dir);
	if (!ends_in(name, LEFTOVER_SUFFIX))
		return call(context, CHECKPOINT_FOUND, path);
	if (unlinkat(models, name, 0) < 0)
		return disk_fail(OPTD_IO, why, why_bytes, "cannot remove '%s', which an interrupted write left: %m", path);
	return call(context, CHECKPOINT_LEFTOVER, path);
}

int checkpoint_list(const char *dir,
                    int (*call)(void *context, enum checkpoint_entry entry, const char *path),
                    void *context, char *why, size_t why_bytes)
{
	struct dirent **entries;
	int models, count, rc = open_models(dir, &models, why, why_bytes);

	if (rc < 0 || models < 0)
		return rc;
	count = scandirat(models, ".", &entries, is_ours, by_bytes);
	if (count < 0) {
		rc = disk_fail(OPTD_IO, why, why_bytes, "cannot list '%s/models': %m", dir);
		close(models);
		return rc;
	}
	for (int i = 0; i < count; i++) {
		if (rc == 0)
			rc = list_entry(dir, models, entries[i]->d_name, call, context, why, why_bytes);
		free(entries[i]);
	}
	free(entries);
	close(models);
	return rc;
}

int checkpoint_remove(const char *dir, const char *model, char *why, size_t why_bytes)
{
	char name[CHECKPOINT_NAME_BYTES];
	int models, rc = open_models(dir, &models, why, why_bytes);

	if (rc < 0 || models < 0)
		return rc;
	checkpoint_name(model, name);
	if (unlinkat(models, name, 0) < 0 && errno != ENOENT)
		rc = disk_fail(OPTD_IO, why, why_bytes, "cannot remove '%s/models/%s': %m", dir, name);
	else if (fsync(models) < 0)
		rc = disk_fail(OPTD_IO, why, why_bytes, "cannot sync '%s/models': %m", dir);
	close(models);
	return rc;
}
