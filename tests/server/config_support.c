/*
 * Config support: see config_support.h.
 */
#include "tests/server/config_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct config config;
char why[CONFIG_WHY_BYTES];

int load(const char *text)
{
	int rc;

	why[0] = '\0';
	config_init(&config);
	rc = config_parse(&config, "c.yaml", text, strlen(text), why, sizeof(why));
	return rc < 0 ? rc : config_finish(&config, why, sizeof(why));
}

void accepts(const char *text)
{
	if (load(text) != 0)
		fail_msg("refused: %s", why);
}

void refuses(const char *text, const char *place, const char *what)
{
	assert_int_equal(load(text), OPTD_INVALID);
	if (strncmp(why, place, strlen(place)) != 0 || !strstr(why, what))
		fail_msg("wanted \"%s...%s\", got \"%s\"", place, what, why);
}

static char *print(const struct config *from)
{
	size_t size;
	char *text;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	config_print(from, out);
	fclose(out);
	return text;
}

void reads_back_the_same(void)
{
	static struct config before;
	char *first = print(&config), *second;

	before = config;
	accepts(first);
	second = print(&config);
	assert_string_equal(first, second);
	/* Where a value stood in a file is another matter. */
	for (uint32_t i = 0; i < config.model_count; i++)
		before.models[i].line = config.models[i].line;
	assert_memory_equal(&before, &config, offsetof(struct config, file));
	free(first);
	free(second);
}
