/* An average that workers name: read as the config's is, compared with the model's, told. */
#include <string.h>

#include "server/core/settings.h"
#include "tests/support/core_world.h"

static const struct engine_options OPTIONS = {.workers = 8, .step_timeout_ms = 30000};
static char why[1024];

static struct msg_text text_of(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

/* With one setting, or none for NULL. */
static struct msg_open open_of(const char *kind, const char *name, double value)
{
	struct msg_open open = {.optimizer = text_of("sgd")};

	open.average.kind = text_of(kind);
	open.average.hyper_count = name != NULL;
	open.average.hypers[0] = (struct msg_hyper){.values = {value}, .count = 1};
	if (name != NULL)
		open.average.hypers[0].name = text_of(name);
	return open;
}

static struct model_settings made(const struct engine_preset *preset, const struct msg_open *open)
{
	struct model_settings settings;

	if (settings_make(&OPTIONS, preset, open, &settings, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return settings;
}

static void is(const struct model_settings *settings, const char *wants)
{
	char text[AVERAGE_TEXT_BYTES];

	average_text(&settings->average, text, sizeof(text));
	assert_string_equal(text, wants);
}

static void test_model_has_the_average_that_its_first_worker_names(void **state)
{
	(void)state;
	struct msg_open open = open_of("ema", "decay", 0.5), none = open_of("", NULL, 0);
	struct model_settings settings = made(NULL, &open);
	is(&settings, "ema decay=0.5 num_updates=0 start=0 every=1");
	settings = made(NULL, &none);
	is(&settings, "none");
}

static void test_average_of_the_config_stands_and_must_not_be_contradicted(void **state)
{
	(void)state;
	struct msg_open first = open_of("swa", "every", 5), none = open_of("", NULL, 0), other = open_of("ema", NULL, 0);
	struct engine_preset preset = {.model = "m", .settings.average = made(NULL, &first).average};
	struct core_answer said = {.text = ""};
	struct model_settings settings = made(&preset, &none);
	is(&settings, "swa start=0 every=5");
	settings = made(&preset, &first);
	is(&settings, "swa start=0 every=5");
	assert_int_equal(settings_make(&OPTIONS, &preset, &other, &settings, said.text, sizeof(said.text)),
	                 OPTD_CONFLICT);
	core_assert_text(&said, "average|ema decay=0.999|swa start=0 every=5|config");
}

static void test_average_that_is_none_is_refused_in_making(void **state)
{
	(void)state;
	struct msg_open mean = open_of("mean", NULL, 0), far = open_of("ema", "decay", 2);
	struct model_settings settings;
	assert_int_equal(settings_make(&OPTIONS, NULL, &mean, &settings, why, sizeof(why)), OPTD_HYPER);
	assert_int_equal(settings_make(&OPTIONS, NULL, &far, &settings, why, sizeof(why)), OPTD_HYPER);
}

static void compares(struct msg_open open, int status, const char *words)
{
	struct msg_open first = open_of("ema", "decay", 0.5);
	struct model_settings has = made(NULL, &first);
	struct core_answer said = {.text = ""};

	int rc = settings_compare(&open, &has, said.text, sizeof(said.text));
	if (rc != status)
		fail_msg("%s: %s", status_name(rc), said.text);
	core_assert_text(&said, words);
}

static void test_only_what_a_worker_names_is_compared(void **state)
{
	(void)state;
	compares(open_of("", NULL, 0), OPTD_OK, "");
	compares(open_of("ema", NULL, 0), OPTD_OK, "");
	compares(open_of("ema", "decay", 0.5), OPTD_OK, "");
	compares(open_of("ema", "start", 0), OPTD_OK, "");
	compares(open_of("ema", "decay", 0.25), OPTD_CONFLICT, "average: ema decay=0.25|has ema decay=0.5");
	compares(open_of("ema", "every", 2), OPTD_CONFLICT, "decay=0.5 num_updates=0 start=0 every=2|every=1");
	compares(open_of("swa", NULL, 0), OPTD_CONFLICT, "swa start=0 every=1 is asked for|has ema decay=0.5");
	compares(open_of("ema", "dekay", 0), OPTD_HYPER, "'dekay'");
}

static void test_worker_that_names_one_conflicts_with_a_model_that_has_none(void **state)
{
	(void)state;
	struct msg_open none = open_of("", NULL, 0), open = open_of("ema", NULL, 0);
	struct model_settings has = made(NULL, &none);
	struct core_answer said = {.text = ""};
	assert_int_equal(settings_compare(&open, &has, said.text, sizeof(said.text)), OPTD_CONFLICT);
	core_assert_text(&said, "average: ema decay=0.999|has none");
}

static void test_whole_settings_without_an_average_are_of_a_model_without_one(void **state)
{
	(void)state;
	struct msg_open whole = open_of("", NULL, 0);
	whole.whole_settings = true;
	compares(whole, OPTD_CONFLICT, "none is asked for|has ema decay=0.5");
	struct model_settings has = made(NULL, &whole);
	assert_int_equal(settings_compare(&whole, &has, why, sizeof(why)), OPTD_OK);
}

static void test_what_is_told_makes_the_same_average(void **state)
{
	(void)state;
	struct msg_open first = open_of("ema", "decay", 0.1), again = open_of("", NULL, 0);
	struct model_settings settings = made(NULL, &first);
	static struct msg_rule told;
	settings_tell(&settings, &told);
	again.average = told.average;
	again.whole_settings = true;
	struct model_settings same = made(NULL, &again);
	assert_true(average_equal(&same.average, &settings.average));
	assert_int_equal(settings_compare(&again, &settings, why, sizeof(why)), OPTD_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_model_has_the_average_that_its_first_worker_names),
	        cmocka_unit_test(test_average_of_the_config_stands_and_must_not_be_contradicted),
	        cmocka_unit_test(test_average_that_is_none_is_refused_in_making),
	        cmocka_unit_test(test_only_what_a_worker_names_is_compared),
	        cmocka_unit_test(test_worker_that_names_one_conflicts_with_a_model_that_has_none),
	        cmocka_unit_test(test_whole_settings_without_an_average_are_of_a_model_without_one),
	        cmocka_unit_test(test_what_is_told_makes_the_same_average),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
