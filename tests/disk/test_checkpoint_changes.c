/* Checkpoints of models whose settings have changed: of format 4, with the changes in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/status.h"
#include "server/disk/checkpoint.h"
#include "server/disk/manifest.h"
#include "tests/disk/sample.h"

enum { LR, BETAS };

static char dir[64], why[512], path[512];

static int setup(void **state)
{
	(void)state;
	sample_dir(dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sample_dir_remove(dir);
	return 0;
}

static struct change change_of(uint64_t from, uint32_t group)
{
	struct change change = { .from = from, .group = group, .given = 1u << LR };
	change.values[LR][0] = 1.0 / 3;
	if (group == 0)
		return change;
	change.given |= 1u << BETAS;
	change.values[BETAS][0] = 0.8;
	change.values[BETAS][1] = 0.95;
	return change;
}

/* A file with changes of the model's own optimizer and of group 2, which is adam. */
static uint8_t *file_of(bool grouped, size_t *size)
{
	struct sample sample;

	if (grouped)
		sample_grouped(&sample, 3);
	else
		sample_small(&sample, 3);
	sample.about.changes.count = grouped ? 2 : 1;
	sample.about.changes.list[0] = change_of(120, 0);
	sample.about.changes.list[1] = change_of(LIMIT_COUNTER, 2);
	if (sample_write(&sample, dir, why, sizeof why) < 0)
		fail_msg("%s", why);
	sample_path(&sample, dir, path);
	sample_deinit(&sample);
	return sample_bytes(path, size);
}

static int try(const uint8_t *bytes, size_t size)
{
	struct checkpoint_file *file;
	int rc = checkpoint_open_memory(bytes, size, &file, why, sizeof why);

	if (rc == OPTD_OK)
		checkpoint_close(file);
	return rc;
}

static void test_changes_come_back(void **state)
{
	(void)state;
	for (int grouped = 0; grouped < 2; grouped++) {
		struct checkpoint_file *file;
		size_t size;
		uint8_t *bytes = file_of(grouped, &size);
		const struct change own = change_of(120, 0), other = change_of(LIMIT_COUNTER, 2);

		assert_non_null(memmem(bytes, size, "\"optd.checkpoint\":\"4\"", 21));
		if (checkpoint_open_memory(bytes, size, &file, why, sizeof why) < 0)
			fail_msg("%s", why);
		const struct checkpoint *about = checkpoint_about(file);
		assert_int_equal(about->changes.count, 1 + grouped);
		assert_int_equal(about->groups.count, grouped ? 4 : 0);
		assert_memory_equal(&about->changes.list[0], &own, sizeof own);
		if (grouped)
			assert_memory_equal(&about->changes.list[1], &other, sizeof other);
		checkpoint_close(file);
		free(bytes);
	}
}

static void test_a_model_without_changes_is_of_the_format_before_them(void **state)
{
	struct sample sample;
	size_t size;

	(void)state;
	sample_small(&sample, 3);
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), OPTD_OK);
	sample_path(&sample, dir, path);
	sample_deinit(&sample);
	uint8_t *bytes = sample_bytes(path, &size);
	assert_non_null(memmem(bytes, size, "\"optd.checkpoint\":\"2\"", 21));
	assert_null(memmem(bytes, size, "change", 6));
	free(bytes);
}

static void refuses(const char *from, const char *to, int status, const char *words)
{
	size_t size;
	uint8_t *bytes = file_of(true, &size);

	sample_change(bytes, size, from, to);
	assert_int_equal(try(bytes, size), status);
	if (!strstr(why, words))
		fail_msg("\"%s\" instead of \"%s\"", why, words);
	free(bytes);
}

static void test_changes_that_make_no_sense_are_refused_by_name(void **state)
{
	(void)state;
	refuses("\"changes\":\"2\"", "\"changes\":\"3\"", OPTD_CORRUPT, "'change.2' is missing");
	refuses("\"changes\":\"2\"", "\"changes\":\"0\"", OPTD_CORRUPT, "'changes' is 0, not from 1 to 64");
	refuses("\"changes\":\"2\"", "\"changes\":\"1\"", OPTD_UNSUPPORTED, "does not know 'change.1'");
	refuses("\"changes\":\"2\"", "\"chanqes\":\"2\"", OPTD_UNSUPPORTED, "this version does not know");
	refuses("from=120 ", "frum=120 ", OPTD_CORRUPT, "'change.0': it does not say");
	refuses("group=0 lr", "group=9 lr", OPTD_CORRUPT, "it is of group 9, of 4");
	refuses("group=2 lr", "group=3 lr", OPTD_CORRUPT, "or that is frozen");
	refuses("group=2 lr", "group=1 lr", OPTD_OK, "");
	refuses("betas=0.8", "betas=7.8", OPTD_CORRUPT, "betas=[7.8");
	refuses("group=0 lr=0.", "group=0 lr=-.", OPTD_CORRUPT, "sgd: lr=-0.33333");
	refuses("group=0 lr=0.", "group=0 lr=x.", OPTD_CORRUPT, "not a list of names and numbers");
	refuses("group=0 lr=0.", "group=0 lq=0.", OPTD_CORRUPT, "no hyper-parameter 'lq'");
	refuses("from=4611686018427387904", "from=4611686018427387905", OPTD_CORRUPT, "'change.1': it does not say");
	refuses("from=4611686018427387904", "from=0000000000000000119", OPTD_CORRUPT, "before that of 'change.0'");
}

/* State that is not in the file. */
static void test_a_change_that_takes_other_state_is_refused(void **state)
{
	struct sample sample;

	(void)state;
	sample_small(&sample, 3);
	sample.about.changes.count = 1;
	sample.about.changes.list[0] = change_of(3, 0);
	for (uint32_t i = 0; i < optim_hyper_count(sample.about.optim.rule); i++) {
		if (strcmp(optim_hyper(sample.about.optim.rule, i)->name, "amsgrad") != 0)
			continue;
		sample.about.changes.list[0].given = 1u << i;
		sample.about.changes.list[0].values[i][0] = 1;
	}
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), OPTD_OK);
	sample_path(&sample, dir, path);
	sample_deinit(&sample);
	size_t size;
	uint8_t *bytes = sample_bytes(path, &size);
	assert_int_equal(try(bytes, size), OPTD_CORRUPT);
	assert_non_null(strstr(why, "max_exp_avg_sq"));
	free(bytes);
}

static void test_every_flipped_bit_is_found(void **state)
{
	size_t size;
	uint8_t *bytes = file_of(true, &size);

	(void)state;
	for (size_t i = 0; i < size * 8; i += 3) {
		bytes[i / 8] ^= (uint8_t)(1u << (i % 8));
		assert_true(try(bytes, size) < 0);
		bytes[i / 8] ^= (uint8_t)(1u << (i % 8));
	}
	assert_int_equal(try(bytes, size), OPTD_OK);
	free(bytes);
}

static void test_a_change_of_all_that_any_rule_has_fits_its_text(void **state)
{
	char text[MANIFEST_VALUE_BYTES];

	(void)state;
	for (uint32_t r = 0; r < optim_rule_count(); r++) {
		struct checkpoint about = { .optim = { .rule = optim_rule(r) } };
		struct change change = { .from = LIMIT_COUNTER, .group = 0, .given = UINT32_MAX };
		for (uint32_t i = 0; i < OPTIM_HYPERS_MAX * OPTIM_VALUES_MAX; i++)
			change.values[i / OPTIM_VALUES_MAX][i % OPTIM_VALUES_MAX] = -1.2345678901234567e-300;
		memset(text, 'x', sizeof text);
		manifest_change_write(&about, &change, text);
		assert_in_range(strlen(text), 1, sizeof text - 8);
	}
}

static void test_a_head_with_all_changes_is_as_promised(void **state)
{
	struct sample sample;
	size_t size;
	uint64_t text_bytes;

	(void)state;
	sample_small(&sample, 3);
	uint64_t promised = checkpoint_head_bytes(&sample.about);
	for (uint32_t i = 0; i < LIMIT_CHANGES; i++)
		sample.about.changes.list[i] = change_of(LIMIT_COUNTER, 0);
	sample.about.changes.count = LIMIT_CHANGES;
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), OPTD_OK);
	sample_path(&sample, dir, path);
	sample_deinit(&sample);
	uint8_t *bytes = sample_bytes(path, &size);
	memcpy(&text_bytes, bytes, 8);
	assert_in_range(text_bytes, 1, promised);
	assert_int_equal(try(bytes, size), OPTD_OK);
	free(bytes);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_changes_come_back),
		TEST(test_a_model_without_changes_is_of_the_format_before_them),
		TEST(test_changes_that_make_no_sense_are_refused_by_name),
		TEST(test_a_change_that_takes_other_state_is_refused),
		TEST(test_every_flipped_bit_is_found),
		TEST(test_a_change_of_all_that_any_rule_has_fits_its_text),
		TEST(test_a_head_with_all_changes_is_as_promised),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
