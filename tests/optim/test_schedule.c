/*
 * Schedules against PyTorch's recorded values, and what is refused.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "optim/schedule.h"
#include "proto/status.h"

#define FILE_NAME "tests/vectors/schedules.tsv"
#define CLOSE 1e-12 /* relative: PyTorch's recursive forms round at each step */

static void set(struct schedule_part *part, const char *name, double value)
{
	char why[256] = "";

	if (schedule_set(part, name, &value, 1, why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

static void set_milestones(struct schedule_part *part, const char *text)
{
	double values[SCHEDULE_MILESTONES_MAX];
	uint32_t count = 0;
	char why[256], *end;

	for (const char *at = text; count < SCHEDULE_MILESTONES_MAX; at = end + 1) {
		values[count++] = strtod(at, &end);
		if (*end != ',')
			break;
	}
	assert_int_equal(schedule_set(part, "milestones", values, count, why, sizeof(why)), 0);
}

/* One "name=value" of the file, whose words are ours but for these. */
static void set_word(struct schedule_part *part, const char *name, const char *value)
{
	if (strcmp(name, "milestones") == 0)
		set_milestones(part, value);
	else if (strcmp(name, "anneal") == 0)
		set(part, "linear", strcmp(value, "linear") == 0);
	else if (strcmp(name, "decay") == 0 && strcmp(value, "1-sqrt") == 0)
		set(part, "shape", 2);
	else
		set(part, name, strtod(value, NULL));
}

static struct schedule recorded(const char *id, const char *params)
{
	struct schedule schedule = { .part_count = 1 };
	char words[256], *save = NULL;
	int kind = schedule_find(strncmp(id, "wsd", 3) == 0 ? "wsd" : id);

	if (strcmp(id, "warmup_cosine_seq") == 0) { /* LinearLR(0.1, 1, 5), then CosineAnnealingLR(40) */
		schedule.part_count = 2;
		schedule.ends[0] = 5;
		schedule_part_init(&schedule.parts[0], SCHEDULE_LINEAR_WARMUP);
		set(&schedule.parts[0], "start_factor", 0.1);
		schedule_part_init(&schedule.parts[1], SCHEDULE_COSINE);
		set(&schedule.parts[1], "T_max", 40);
		return schedule;
	}
	assert_true(kind >= 0);
	schedule_part_init(&schedule.parts[0], (enum schedule_kind)kind);
	snprintf(words, sizeof(words), "%s", params);
	for (char *word = strtok_r(words, ";", &save); word != NULL; word = strtok_r(NULL, ";", &save)) {
		char *value = strchr(word, '=');

		assert_non_null(value);
		*value = '\0';
		set_word(&schedule.parts[0], word, value + 1);
	}
	return schedule;
}

static void assert_close(const char *id, uint64_t t, const char *what, double got, double want)
{
	if (fabs(got - want) > CLOSE * fabs(want))
		fail_msg("%s at t = %llu: %s is %.17g, recorded %.17g", id, (unsigned long long)t, what, got,
		         want);
}

static void test_every_recorded_value_is_met(void **state)
{
	FILE *file = fopen(FILE_NAME, "r");
	char line[512];
	uint32_t rows = 0;

	(void)state;
	if (file == NULL)
		fail_msg("no %s (run from the top of the tree)", FILE_NAME);
	assert_non_null(fgets(line, sizeof(line), file));
	while (fgets(line, sizeof(line), file) != NULL) {
		char *fields[7], *at = line, why[256];
		double momentum;

		for (int i = 0; i < 7; i++)
			fields[i] = strsep(&at, "\t\n");
		struct schedule schedule = recorded(fields[0], fields[2]);
		uint64_t t = strtoull(fields[3], NULL, 10);

		assert_int_equal(schedule_check(&schedule, why, sizeof(why)), 0);
		assert_close(fields[0], t, "lr", schedule_lr(&schedule, strtod(fields[1], NULL), t),
		             strtod(fields[5], NULL));
		assert_int_equal(schedule_momentum(&schedule, t, &momentum), strcmp(fields[0], "onecycle") == 0);
		if (strcmp(fields[0], "onecycle") == 0)
			assert_close(fields[0], t, "momentum", momentum, strtod(fields[6], NULL));
		rows++;
	}
	fclose(file);
	assert_int_equal(rows, 13 * 60);
}

static void test_all_zeros_is_a_constant_rate(void **state)
{
	struct schedule schedule = { 0 };
	char why[256];

	(void)state;
	assert_int_equal(schedule_check(&schedule, why, sizeof(why)), 0);
	assert_true(schedule_lr(&schedule, 0.25, 0) == 0.25);
	assert_true(schedule_lr(&schedule, 0.25, UINT64_MAX) == 0.25);
}

static void test_names_read_back(void **state)
{
	(void)state;
	for (int i = 0; i < SCHEDULE_KIND_COUNT; i++)
		assert_int_equal(schedule_find(schedule_name((enum schedule_kind)i)), i);
	assert_int_equal(schedule_find("cosin"), -1);
}

static void assert_refused(int rc, const char *why, const char *first, const char *second)
{
	assert_int_equal(rc, OPTD_HYPER);
	if (strstr(why, first) == NULL || strstr(why, second) == NULL)
		fail_msg("'%s' names not both '%s' and '%s'", why, first, second);
}

static void test_nearest_name_forgives_a_typo(void **state)
{
	(void)state;
	assert_string_equal(schedule_nearest("cosin"), "cosine");
	assert_string_equal(schedule_nearest("one_cycle"), "onecycle");
	assert_null(schedule_nearest(""));
	assert_null(schedule_nearest("triangular2"));
}

static void test_the_list_for_errors_has_each_name_once_and_in_order(void **state)
{
	char all[256] = "";

	(void)state;
	for (int i = 0; i < SCHEDULE_KIND_COUNT; i++) {
		strcat(all, i > 0 ? ", " : "");
		strcat(all, schedule_name((enum schedule_kind)i));
	}
	assert_string_equal(all, SCHEDULE_NAMES);
}

static void test_every_parameter_has_its_range(void **state)
{
	(void)state;
	for (int kind = 0; kind < SCHEDULE_KIND_COUNT; kind++) {
		uint32_t count;
		const struct schedule_param *params = schedule_params((enum schedule_kind)kind, &count);

		assert_true(count <= SCHEDULE_PARAMS_MAX);
		for (uint32_t i = 0; i < count; i++) {
			const double bad[] = { NAN, INFINITY, -INFINITY, nextafter(params[i].min, -1),
				               nextafter(params[i].max, INFINITY),
				               params[i].whole ? params[i].min + 0.5 : NAN };
			struct schedule_part part, before;
			char why[256];

			schedule_part_init(&part, (enum schedule_kind)kind);
			before = part;
			for (size_t j = 0; j < sizeof(bad) / sizeof(bad[0]); j++)
				assert_refused(schedule_set(&part, params[i].name, &bad[j], 1, why, sizeof(why)),
				               why, params[i].name, schedule_name((enum schedule_kind)kind));
			assert_memory_equal(&part, &before, sizeof(part));
			assert_int_equal(schedule_set(&part, params[i].name, &params[i].min, 1, why, sizeof(why)), 0);
			assert_int_equal(schedule_set(&part, params[i].name, &params[i].max, 1, why, sizeof(why)), 0);
		}
	}
}

static void test_what_is_required_is_asked_for(void **state)
{
	struct schedule schedule = { .part_count = 1 };
	char why[256];

	(void)state;
	schedule_part_init(&schedule.parts[0], SCHEDULE_COSINE);
	assert_refused(schedule_check(&schedule, why, sizeof(why)), why, "cosine", "needs T_max");
	schedule_part_init(&schedule.parts[0], SCHEDULE_MULTISTEP);
	assert_refused(schedule_check(&schedule, why, sizeof(why)), why, "multistep", "needs milestones");
}

static void test_unknown_parameters_and_counts_are_named(void **state)
{
	struct schedule_part part;
	double values[2] = { 1, 2 }, falling[2] = { 7, 6 };
	char why[256];

	(void)state;
	schedule_part_init(&part, SCHEDULE_COSINE);
	assert_refused(schedule_set(&part, "tmax", values, 1, why, sizeof(why)), why, "'tmax'", "T_max eta_min");
	assert_refused(schedule_set(&part, "T_max", values, 2, why, sizeof(why)), why, "T_max", "given 2");
	schedule_part_init(&part, SCHEDULE_MULTISTEP);
	assert_refused(schedule_set(&part, "milestones", falling, 2, why, sizeof(why)), why, "milestone 2", "6");
}

static void test_pytorchs_words_are_told_what_is_here_instead(void **state)
{
	struct schedule_part part;
	const double value = 0.9;
	char why[256];

	(void)state;
	schedule_part_init(&part, SCHEDULE_ONECYCLE);
	assert_refused(schedule_set(&part, "max_momentum", &value, 1, why, sizeof(why)), why, "'max_momentum'",
	               "between 0.95 and 0.85");
	assert_refused(schedule_set(&part, "base_momentum", &value, 1, why, sizeof(why)), why, "'base_momentum'",
	               "between 0.95 and 0.85");
	assert_refused(schedule_set(&part, "anneal_strategy", &value, 1, why, sizeof(why)), why, "'anneal_strategy'",
	               "write linear: true");
}

static void test_parts_of_a_sequence_end_one_after_the_other(void **state)
{
	struct schedule schedule = { .part_count = 3, .ends = { 10, 10 } };
	char why[256];

	(void)state;
	assert_refused(schedule_check(&schedule, why, sizeof(why)), why, "part 2", "end at 10");
	schedule.ends[1] = 11;
	assert_int_equal(schedule_check(&schedule, why, sizeof(why)), 0);
}

/* PyTorch raises after total_steps; a server that trains on holds the last rate. */
static void test_onecycle_holds_its_end(void **state)
{
	struct schedule schedule = { .part_count = 1 };

	(void)state;
	schedule_part_init(&schedule.parts[0], SCHEDULE_ONECYCLE);
	set(&schedule.parts[0], "max_lr", 1);
	set(&schedule.parts[0], "total_steps", 10);
	assert_true(schedule_lr(&schedule, 1, 9) == 1.0 / 25 / 1e4);
	assert_true(schedule_lr(&schedule, 1, 1000) == 1.0 / 25 / 1e4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_recorded_value_is_met),
		cmocka_unit_test(test_all_zeros_is_a_constant_rate),
		cmocka_unit_test(test_names_read_back),
		cmocka_unit_test(test_the_list_for_errors_has_each_name_once_and_in_order),
		cmocka_unit_test(test_nearest_name_forgives_a_typo),
		cmocka_unit_test(test_every_parameter_has_its_range),
		cmocka_unit_test(test_what_is_required_is_asked_for),
		cmocka_unit_test(test_unknown_parameters_and_counts_are_named),
		cmocka_unit_test(test_pytorchs_words_are_told_what_is_here_instead),
		cmocka_unit_test(test_parts_of_a_sequence_end_one_after_the_other),
		cmocka_unit_test(test_onecycle_holds_its_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
