/* Manifest, whether all of its keys are known. */
#include <stdlib.h>
#include <string.h>

#include "proto/status.h"
#include "server/disk/file.h"
#include "server/disk/manifest.h"

static bool has_key(const struct manifest *manifest, const char *key)
{
	for (uint32_t i = 0; i < manifest->count; i++) {
		if (strcmp(manifest->texts[i].key, key) == 0)
			return true;
	}
	return false;
}

/* Fit for a sentence: others' files may have any. */
static const char *say_key(const char *key)
{
	const char *at = key;

	while (*at > ' ' && *at < 0x7f)
		at++;
	return *at == '\0' ? key : "(unprintable)";
}

int manifest_check_keys(const struct safetensors *head, const struct checkpoint *about, char *why,
                        size_t why_bytes)
{
	const char *format = safetensors_metadata(head, "optd.checkpoint");
	struct manifest *known;
	uint32_t count;
	const struct safetensors_text *texts = safetensors_texts(head, &count);
	int rc = OPTD_OK;

	if (!format || strcmp(format, MANIFEST_FORMAT_KEYS) != 0)
		return OPTD_OK;
	known = malloc(sizeof *known);
	if (!known)
		return disk_fail(OPTD_NO_MEMORY, why, why_bytes, "no memory to read the checkpoint");
	/* What would be written of it is all that is known of it. */
	manifest_encode(about, known);
	for (uint32_t i = 0; rc == OPTD_OK && i < count; i++) {
		if (!has_key(known, texts[i].key))
			rc = disk_fail(OPTD_UNSUPPORTED, why, why_bytes, "metadata: this version does not know '%.100s': "
			               "a later version of optd wrote this checkpoint", say_key(texts[i].key));
	}
	free(known);
	return rc;
}
