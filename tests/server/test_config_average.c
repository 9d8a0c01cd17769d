/* The average of a model in the config: how it is written, printed, and refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/server/config_support.h"

#define MODEL(average) "models:\n- name: m\n  average: " average "\n"

static void is(const char *wants)
{
	char text[AVERAGE_TEXT_BYTES];

	average_text(&config.models[0].average, text, sizeof(text));
	assert_string_equal(text, wants);
}

static void test_average_is_a_kind_or_one_with_settings(void **state)
{
	(void)state;
	accepts(MODEL("swa"));
	is("swa start=0 every=1");
	accepts(MODEL("{decay: 0.5, kind: ema, num_updates: true}"));
	is("ema decay=0.5 num_updates=1 start=0 every=1");
	accepts(MODEL("{kind: swa, start: 1000, every: 10}"));
	is("swa start=1000 every=10");
	accepts(MODEL("{kind: ema, num_updates: 1, start: 1e3}"));
	is("ema decay=0.999 num_updates=1 start=1000 every=1");
	accepts("models:\n- name: m\n");
	is("none");
}

static void test_printed_average_reads_back_the_same(void **state)
{
	(void)state;
	accepts(MODEL("{kind: ema, decay: 0.30000000000000004, num_updates: true, start: 9007199254740991}"));
	reads_back_the_same();
	accepts(MODEL("{kind: swa, every: 1234567890123}"));
	reads_back_the_same();
}

static void test_bad_averages_are_refused_with_their_line(void **state)
{
	static const struct {
		const char *text, *what;
	} bad[] = {
		{ MODEL(""), "must be ema or swa, or {kind: ema, decay: 0.999, ...}" },
		{ MODEL("[ema]"), "must be ema or swa" },
		{ MODEL("mean"), "no average 'mean'; it may be ema or swa" },
		{ MODEL("none"), "none is no kind: leave average out, and there is none unless a worker asks" },
		{ MODEL("{decay: 0.5}"), "has no kind" },
		{ MODEL("{kind: }"), "the kind must be a word" },
		{ MODEL("{kind: [ema]}"), "the kind must be a word" },
		{ MODEL("{kind: adam}"), "no average 'adam'" },
		{ MODEL("{kind: swa, decay: 0.5}"), "the average swa has no setting 'decay'; it has start every" },
		{ MODEL("{kind: ema, decay: 2}"), "decay=2 is out of range" },
		{ MODEL("{kind: ema, decay: much}"), "decay: \"much\" is not a number" },
		{ MODEL("{kind: ema, decay: [0.5]}"), "decay: \"[...]\" is not a number" },
		{ MODEL("{kind: ema, num_updates: 2}"), "num_updates: \"2\" is not true or false" },
		{ MODEL("{kind: ema, every: 0}"), "every=0 is out of range" },
		{ MODEL("{kind: ema, every: 1.5}"), "every=1.5 is out of range; allowed is a whole number" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refuses(bad[i].text, "c.yaml:3: models.average: ", bad[i].what);
}

/* Eight groups whose patterns have so many letters, and perhaps an average. */
static int load_groups(const char *average, int letters)
{
	char text[4096];
	size_t used = (size_t)snprintf(text, sizeof(text), "models:\n- name: m\n%s  optimizer: {name: adam, groups: [",
	                               average);

	for (int i = 0; i < 8; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "{tensors: '%0*d'},", letters, i);
	snprintf(text + used, sizeof(text) - used, "]}\n");
	return load(text);
}

static void test_average_that_groups_leave_no_room_for_is_refused(void **state)
{
	int letters = 100;

	(void)state;
	while (load_groups("", letters + 1) == 0)
		letters++;
	assert_true(load_groups("  average: ema\n", letters) < 0);
	assert_non_null(strstr(why, "groups take"));
	assert_int_equal(load_groups("  average: ema\n", letters - 40), 0);
}

static char *memory_text(const char *yaml)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	accepts(yaml);
	assert_non_null(out);
	config_print_memory(&config, out);
	fclose(out);
	return text;
}

static void test_memory_of_a_model_has_its_average(void **state)
{
	char *text = memory_text("models:\n- {name: m, optimizer: adam, mode: async, average: ema}\n");

	(void)state;
	assert_non_null(strstr(text, "parameters x 12 bytes: weights and 2 state vectors (adam)\n"
	                             "  parameters x 4 bytes: the average of the weights (ema)\n"));
	assert_non_null(strstr(text, "so 1,000,000 parameters take 16,000,000 bytes"));
	free(text);
	text = memory_text("models:\n- {name: m, optimizer: adam, mode: async}\n");
	assert_null(strstr(text, "average"));
	assert_non_null(strstr(text, "so 1,000,000 parameters take 12,000,000 bytes"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_average_is_a_kind_or_one_with_settings),
		cmocka_unit_test(test_printed_average_reads_back_the_same),
		cmocka_unit_test(test_bad_averages_are_refused_with_their_line),
		cmocka_unit_test(test_average_that_groups_leave_no_room_for_is_refused),
		cmocka_unit_test(test_memory_of_a_model_has_its_average),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
