/* Checkpoints of models with a policy for NaN and a loss scale: the keys of format 4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/safetensors.h"
#include "proto/status.h"
#include "server/disk/checkpoint.h"
#include "server/disk/manifest.h"
#include "tests/disk/sample.h"

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

static void ok(int rc)
{
	if (rc < 0)
		fail_msg("%s: %s", status_name(rc), why);
}

/* Its settings, as texts. */
static const struct msg_loss_scale SETTINGS = { true, 1024, 2.5, 0.1, 10 };

static void begin(struct sample *sample, enum msg_mode mode)
{
	sample_small(sample, 1);
	sample->about.mode = mode;
	sample->about.seats = 0;
}

static void assert_format(const char *format)
{
	size_t size;
	uint8_t *bytes = sample_bytes(path, &size);
	char text[40];

	snprintf(text, sizeof text, "\"optd.checkpoint\":\"%s\"", format);
	assert_non_null(memmem(bytes, size, text, strlen(text)));
	free(bytes);
}

static void test_what_a_mode_has_by_itself_is_not_written(void **state)
{
	static const enum msg_nonfinite policies[] = { [MSG_SYNC] = MSG_SKIP_STEP, [MSG_ASYNC] = MSG_REJECT };

	(void)state;
	for (enum msg_mode mode = MSG_SYNC; mode <= MSG_ASYNC; mode++) {
		struct sample sample;
		uint8_t *before, *after;
		size_t before_bytes, after_bytes;
		begin(&sample, mode);
		checkpoint_close(sample_saved(&sample, dir, path));
		before = sample_bytes(path, &before_bytes);
		sample.about.nonfinite = policies[mode];
		struct checkpoint_file *file = sample_saved(&sample, dir, path);
		assert_format("2");
		after = sample_bytes(path, &after_bytes);
		assert_int_equal(before_bytes, after_bytes);
		assert_memory_equal(before, after, after_bytes);
		assert_int_equal(checkpoint_about(file)->nonfinite, policies[mode]);
		assert_false(checkpoint_about(file)->loss_scale.given);
		checkpoint_close(file);
		free(before);
		free(after);
		sample_deinit(&sample);
	}
}

static void test_another_policy_comes_back_in_format_4(void **state)
{
	struct sample sample;

	(void)state;
	begin(&sample, MSG_ASYNC);
	sample.about.nonfinite = MSG_ZERO;
	struct checkpoint_file *file = sample_saved(&sample, dir, path);
	assert_format("4");
	assert_int_equal(checkpoint_about(file)->nonfinite, MSG_ZERO);
	checkpoint_close(file);
	sample_deinit(&sample);
}

static void test_the_last_skipped_step_comes_back(void **state)
{
	struct sample sample;

	(void)state;
	begin(&sample, MSG_SYNC);
	sample.about.skips = (struct skips){ .count = 9, .version = UINT64_C(1) << 40, .rank = 1023, .tensor_plus_one = 2 };
	struct checkpoint_file *file = sample_saved(&sample, dir, path);
	const struct skips *skips = &checkpoint_about(file)->skips;
	assert_format("4");
	assert_int_equal(skips->version, UINT64_C(1) << 40);
	assert_int_equal(skips->rank, 1023);
	assert_int_equal(skips->tensor_plus_one, 2);
	assert_int_equal(skips->count, 0); /* since the daemon started */
	checkpoint_close(file);
	sample_deinit(&sample);
}

static void test_loss_scale_and_where_it_stands_come_back(void **state)
{
	struct sample sample;

	(void)state;
	begin(&sample, MSG_SYNC);
	sample.about.loss_scale = SETTINGS;
	sample.about.scaler = (struct scaler){ 0x1.fffffep-20f, 9, UINT64_C(1) << 61 };
	struct checkpoint_file *file = sample_saved(&sample, dir, path);
	const struct checkpoint *about = checkpoint_about(file);
	assert_format("4");
	assert_true(about->loss_scale.given && about->loss_scale.init_scale == 1024);
	assert_true(about->loss_scale.growth_factor == 2.5 && about->loss_scale.backoff_factor == 0.1);
	assert_int_equal(about->loss_scale.growth_interval, 10);
	assert_true(about->scaler.scale == 0x1.fffffep-20f);
	assert_int_equal(about->scaler.tracker, 9);
	assert_int_equal(about->scaler.steps, UINT64_C(1) << 61);
	checkpoint_close(file);
	sample_deinit(&sample);
}

static void test_groups_go_with_it(void **state)
{
	struct sample sample;

	(void)state;
	sample_grouped(&sample, 3);
	sample.about.mode = MSG_SYNC;
	sample.about.seats = 0;
	sample.about.nonfinite = MSG_REJECT;
	struct checkpoint_file *file = sample_saved(&sample, dir, path);
	assert_format("4");
	assert_int_equal(checkpoint_about(file)->groups.count, 4);
	assert_int_equal(checkpoint_about(file)->nonfinite, MSG_REJECT);
	assert_true(sample_same(&sample, file, 0, layout_block_count(sample.layout)));
	checkpoint_close(file);
	sample_deinit(&sample);
}

/* ---- texts that make no sense ------------------------------------------- */

/* Decodes the settings of a model with a loss scale, one text of which is another, under
 * another key if it is given. */
static int decode(const char *key, const char *other, const char *value)
{
	struct manifest *manifest = malloc(sizeof *manifest);
	struct safetensors_tensor none = { .name = "t", .rank = 0 };
	struct safetensors *head;
	struct checkpoint about;
	struct sample sample;
	uint64_t data_bytes;
	size_t bytes;
	char *text;

	begin(&sample, MSG_SYNC);
	sample.about.loss_scale = SETTINGS;
	sample.about.scaler = (struct scaler){ 512, 3, 7 };
	sample.about.skips = (struct skips){ .version = 5, .rank = 1, .tensor_plus_one = 1 };
	if (strcmp(key, "nonfinite") == 0) {
		sample.about.nonfinite = MSG_REJECT;
		sample.about.loss_scale.given = false;
	}
	manifest_encode(&sample.about, manifest);
	for (uint32_t i = 0; i < manifest->count; i++) {
		if (strcmp(manifest->texts[i].key, key) == 0)
			manifest->texts[i] = (struct safetensors_text){ other ? other : key, value };
	}
	ok(safetensors_place(&none, 1, &data_bytes));
	ok(safetensors_encode(&none, 1, manifest->texts, manifest->count, 1u << 20, &text, &bytes, why, sizeof why));
	ok(safetensors_decode(text + 8, bytes - 8, data_bytes, 1, 100, &head, why, sizeof why));
	int rc = manifest_decode(head, &about, why, sizeof why);
	about.layout = sample.layout;
	if (rc == OPTD_OK)
		rc = manifest_check_keys(head, &about, why, sizeof why);
	safetensors_free(head);
	free(text);
	free(manifest);
	sample_deinit(&sample);
	return rc;
}

static void refuses(const char *key, const char *other, const char *value, int status, const char *words)
{
	assert_int_equal(decode(key, other, value), status);
	if (!strstr(why, words))
		fail_msg("\"%s\" instead of \"%s\"", why, words);
}

static void test_texts_that_make_no_sense_are_refused_by_name(void **state)
{
	(void)state;
	assert_int_equal(decode("nothing", NULL, ""), OPTD_OK);
	refuses("loss_scale", NULL, "1024,2.5,0.1", OPTD_CORRUPT, "'loss_scale' is not a list of four");
	refuses("loss_scale", NULL, "1024,2.5,0.1,10,", OPTD_CORRUPT, "'loss_scale' is not a list of four");
	refuses("loss_scale", NULL, "nan,2.5,0.1,10", OPTD_CORRUPT, "'loss_scale' is not a list of four");
	refuses("loss_scale", NULL, "1024,2.5,0.1,-1", OPTD_CORRUPT, "'loss_scale' is not a list of four");
	refuses("loss_scale", NULL, "1024,1,0.1,10", OPTD_CORRUPT, "growth_factor is 1");
	refuses("loss_scale", NULL, "1024,2,3,10", OPTD_CORRUPT, "backoff_factor is 3");
	refuses("loss_scale.now", NULL, "0,3,7", OPTD_CORRUPT, "'loss_scale.now' is not a scale");
	refuses("loss_scale.now", NULL, "-512,3,7", OPTD_CORRUPT, "'loss_scale.now' is not a scale");
	refuses("loss_scale.now", NULL, "512,10,7", OPTD_CORRUPT, "'loss_scale.now' is not a scale");
	refuses("loss_scale.now", NULL, "512,3,99999999999999999999", OPTD_CORRUPT, "'loss_scale.now' is not a scale");
	refuses("loss_scale.now", NULL, "", OPTD_CORRUPT, "'loss_scale.now' is not a scale");
	refuses("loss_scale.now", "loss_scale.nov", "", OPTD_CORRUPT, "'loss_scale.now' is not a scale");
	refuses("skipped", NULL, "0,1,1", OPTD_CORRUPT, "'skipped' is not a step");
	refuses("skipped", NULL, "5,1025,1", OPTD_CORRUPT, "'skipped' is not a step");
	refuses("skipped", NULL, "5,1", OPTD_CORRUPT, "'skipped' is not a step");
	refuses("skipped", NULL, "5,1,1,1", OPTD_CORRUPT, "'skipped' is not a step");
	refuses("mode", NULL, "async", OPTD_CORRUPT, "loss_scale is for mode sync");
	assert_int_equal(decode("nonfinite", NULL, "zero"), OPTD_OK);
	refuses("nonfinite", NULL, "clip", OPTD_CORRUPT, "'nonfinite' is not one that this version knows");
}

static void test_a_key_that_is_not_known_is_refused(void **state)
{
	(void)state;
	refuses("loss_scale", "lozz_scale", "1024,2.5,0.1,10", OPTD_UNSUPPORTED, "does not know 'lozz_scale'");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_a_mode_has_by_itself_is_not_written),
		TEST(test_another_policy_comes_back_in_format_4),
		TEST(test_the_last_skipped_step_comes_back),
		TEST(test_loss_scale_and_where_it_stands_come_back),
		TEST(test_groups_go_with_it),
		TEST(test_texts_that_make_no_sense_are_refused_by_name),
		TEST(test_a_key_that_is_not_known_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
