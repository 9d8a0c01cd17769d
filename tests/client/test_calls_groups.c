/* Parameter groups that a program gives: what is refused before anything is sent. */
#include "tests/support/calls_world.h"

static int open_with(struct world *w, const optd_group *groups, uint32_t count)
{
	optd_layout *layout = calls_layout();
	optd_open_options options = {.groups = groups, .group_count = count};
	optd_model *model;
	int rc = optd_open(w->client, "n", layout, &options, &model);

	optd_layout_free(layout);
	optd_model_close(&model);
	return rc;
}

static void expect_refused(struct world *w, optd_group group, int status, const char *why)
{
	int opens = atomic_load(&w->daemon.opens);

	assert_int_equal(open_with(w, &group, 1), status);
	if (!strstr(optd_error(w->client), why))
		fail_msg("%s", optd_error(w->client));
	assert_int_equal(atomic_load(&w->daemon.opens), opens);
}

static void test_groups_that_are_none_are_refused_at_once(void **state)
{
	struct world *w = *state;
	const optd_hyper nan = {"lr", {NAN, 0}, 1}, unnamed = {"", {1}, 1};
	const optd_schedule nameless = {.name = ""};

	expect_refused(w, (optd_group){0}, OPTD_INVALID, "group 1 has no tensors");
	expect_refused(w, (optd_group){.tensors = ""}, OPTD_HYPER, "1 to 255 bytes");
	expect_refused(w, (optd_group){.tensors = "a["}, OPTD_HYPER, "'a[' has a '['");
	expect_refused(w, (optd_group){.tensors = "\xff"}, OPTD_INVALID, "not UTF-8");
	expect_refused(w, (optd_group){.tensors = "a", .optimizer = "\xff"}, OPTD_INVALID, "a group's optimizer");
	expect_refused(w, (optd_group){.tensors = "a", .match = "\xff"}, OPTD_INVALID, "a group's match");
	expect_refused(w, (optd_group){.tensors = "a", .lr_factor = NAN}, OPTD_HYPER, "lr_factor is ");
	expect_refused(w, (optd_group){.tensors = "a", .hypers = &nan, .hyper_count = 1}, OPTD_HYPER, "'lr' is ");
	expect_refused(w, (optd_group){.tensors = "a", .hypers = &unnamed, .hyper_count = 1}, OPTD_INVALID, "");
	expect_refused(w, (optd_group){.tensors = "a", .hyper_count = 1}, OPTD_INVALID, "hypers is NULL");
	expect_refused(w, (optd_group){.tensors = "a", .schedule = &nameless, .schedule_count = 1}, OPTD_INVALID,
	               "has no name");
}

static void test_more_groups_than_allowed_are_refused_at_once(void **state)
{
	struct world *w = *state;
	optd_group groups[LIMIT_GROUPS + 1];
	int opens = atomic_load(&w->daemon.opens);

	for (uint32_t i = 0; i <= LIMIT_GROUPS; i++)
		groups[i] = (optd_group){.tensors = "a"};
	assert_int_equal(open_with(w, groups, LIMIT_GROUPS + 1), OPTD_TOO_LARGE);
	assert_non_null(strstr(optd_error(w->client), "9 groups, at most 8"));
	assert_int_equal(open_with(w, NULL, 1), OPTD_INVALID);
	assert_non_null(strstr(optd_error(w->client), "groups is NULL"));
	assert_int_equal(atomic_load(&w->daemon.opens), opens);
}

static void test_groups_that_do_not_fit_a_header_are_refused_at_once(void **state)
{
	struct world *w = *state;
	char pattern[LIMIT_PATTERN_BYTES] = "", name[400] = "";
	optd_group groups[LIMIT_GROUPS];
	int opens = atomic_load(&w->daemon.opens);

	memset(pattern, 'p', sizeof(pattern) - 1);
	memset(name, 'n', sizeof(name) - 1);
	for (uint32_t i = 0; i < LIMIT_GROUPS; i++)
		groups[i] = (optd_group){.tensors = pattern, .optimizer = name};
	assert_int_equal(open_with(w, groups, LIMIT_GROUPS), OPTD_TOO_LARGE);
	assert_non_null(strstr(optd_error(w->client), "8 groups take more than the 4096 bytes"));
	assert_int_equal(atomic_load(&w->daemon.opens), opens);
}

/* It passes over what it does not know. */
static void test_server_that_does_not_know_groups_is_told_apart(void **state)
{
	struct world *w = *state;
	const optd_group group = {.tensors = "a"};

	assert_int_equal(open_with(w, &group, 1), OPTD_UNSUPPORTED);
	assert_non_null(strstr(optd_error(w->client), "does not know parameter groups"));
	assert_int_equal(open_with(w, NULL, 0), OPTD_OK);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, calls_set_up, calls_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CASE(test_groups_that_are_none_are_refused_at_once),
	        CASE(test_more_groups_than_allowed_are_refused_at_once),
	        CASE(test_groups_that_do_not_fit_a_header_are_refused_at_once),
	        CASE(test_server_that_does_not_know_groups_is_told_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
