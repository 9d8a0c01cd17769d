/*
 * Fuzz config: any bytes as a configuration file.
 *
 * They are refused with a sentence that names a line, or give a config whose
 * printed form reads back as itself.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *print(const struct config *config, size_t *bytes)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, bytes);

	if (!out)
		abort();
	config_print(config, out);
	fclose(out);
	return text;
}

static int load(struct config *config, const char *bytes, size_t size, char *why, size_t why_bytes)
{
	int rc;

	config_init(config);
	rc = config_parse(config, "fuzz.yaml", bytes, size, why, why_bytes);
	if (rc < 0 && strncmp(why, "fuzz.yaml:", 10) != 0)
		abort();
	return rc < 0 ? rc : config_finish(config, why, why_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config config, again;
	char why[CONFIG_WHY_BYTES] = "", *first, *second;
	size_t first_bytes, second_bytes;

	if (load(&config, (const char *)data, size, why, sizeof(why)) < 0) {
		if (why[0] == '\0')
			abort();
		return 0;
	}
	first = print(&config, &first_bytes);
	if (load(&again, first, first_bytes, why, sizeof(why)) < 0)
		abort();
	second = print(&again, &second_bytes);
	if (first_bytes != second_bytes || memcmp(first, second, first_bytes) != 0)
		abort();
	free(first);
	free(second);
	return 0;
}
