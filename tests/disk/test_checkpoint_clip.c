/* Checkpoints of models that clip a norm: of a format of their own, which says what it has. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/status.h"
#include "server/disk/checkpoint.h"
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

/* A file of a sync model with this limit, in memory. */
static uint8_t *file_of(struct msg_clip clip, bool grouped, size_t *size)
{
	struct sample sample;

	if (grouped)
		sample_grouped(&sample, 3);
	else
		sample_small(&sample, 3);
	sample.about.mode = MSG_SYNC;
	sample.about.clip = clip;
	if (sample_write(&sample, dir, why, sizeof why) < 0)
		fail_msg("%s", why);
	sample_path(&sample, dir, path);
	sample_deinit(&sample);
	return sample_bytes(path, size);
}

static void comes_back(struct msg_clip clip, bool grouped)
{
	struct checkpoint_file *file;
	size_t size;
	uint8_t *bytes = file_of(clip, grouped, &size);

	assert_non_null(memmem(bytes, size, "\"optd.checkpoint\":\"4\"", 21));
	if (checkpoint_open_memory(bytes, size, &file, why, sizeof why) < 0)
		fail_msg("%s", why);
	const struct checkpoint *about = checkpoint_about(file);
	assert_true(about->clip.norm == clip.norm && about->clip.tensor_norm == clip.tensor_norm &&
	            about->clip.norm_type == clip.norm_type);
	assert_int_equal(about->groups.count, grouped ? 4 : 0);
	checkpoint_close(file);
	free(bytes);
}

static void test_limits_come_back(void **state)
{
	(void)state;
	comes_back((struct msg_clip){.norm = 0.1, .norm_type = 2}, false);
	comes_back((struct msg_clip){.tensor_norm = 1e-7, .norm_type = INFINITY}, false);
	comes_back((struct msg_clip){.norm = 3, .norm_type = 1.5}, true);
}

static void test_a_model_without_a_limit_has_the_format_before_it(void **state)
{
	size_t size;
	uint8_t *bytes = file_of((struct msg_clip){0}, false, &size);

	(void)state;
	assert_non_null(memmem(bytes, size, "\"optd.checkpoint\":\"2\"", 21));
	assert_null(memmem(bytes, size, "clip_norm", 9));
	free(bytes);
}

static void refuses(const char *from, const char *to, int status, const char *words)
{
	struct checkpoint_file *file;
	size_t size;
	uint8_t *bytes = file_of((struct msg_clip){.norm = 0.5, .norm_type = INFINITY}, true, &size);

	sample_change(bytes, size, from, to);
	assert_int_equal(checkpoint_open_memory(bytes, size, &file, why, sizeof why), status);
	if (!strstr(why, words))
		fail_msg("\"%s\" instead of \"%s\"", why, words);
	free(bytes);
}

static void test_keys_that_this_version_does_not_know_are_refused_by_name(void **state)
{
	(void)state;
	refuses("\"clip_norm\":\"0.5\"", "\"clip_nerm\":\"0.5\"", OPTD_CORRUPT, "clip_norm_type");
	refuses("\"optimizer.lr\"", "\"optimizer.lx\"", OPTD_CORRUPT, "'optimizer.lr' is missing");
	/* What another version has more. */
	refuses("\"clip_norm\":\"0.5\",\"clip_norm_type\":\"inf\"", "\"clip_rows\":\"0.5\",\"clip_rows_type\":\"inf\"",
	        OPTD_UNSUPPORTED, "does not know 'clip_rows'");
}

static void test_limits_that_make_no_sense_are_refused(void **state)
{
	(void)state;
	refuses("\"clip_norm\":\"0.5\"", "\"clip_norm\":\"-.5\"", OPTD_CORRUPT, "'clip_norm' is -0.5, not above 0");
	refuses("\"clip_norm\":\"0.5\"", "\"clip_norm\":\"inf\"", OPTD_CORRUPT, "'clip_norm' is not a number");
	refuses("\"clip_norm_type\":\"inf\"", "\"clip_norm_type\":\"0.2\"", OPTD_CORRUPT, "clip_norm_type is 0.2");
	refuses("\"clip_norm_type\":\"inf\"", "\"clip_norm_tapy\":\"inf\"", OPTD_CORRUPT, "'clip_norm_type' is missing");
	refuses("\"mode\":\"sync\"", "\"mode\":\"sinc\"", OPTD_CORRUPT, "'mode' is neither");
}

/* Each worker's push is answered as it is applied: of several in a step, or where a norm is
 * waited for, that cannot be. */
static void refuses_easgd(uint32_t workers, struct msg_clip clip, const char *words)
{
	struct checkpoint_file *file;
	struct sample sample;
	uint64_t seed = 7;

	/* Both are without state. */
	sample_init(&sample, sample_layout(&seed), "sgd", 0, 7);
	assert_int_equal(optim_init(&sample.about.optim, optim_find("easgd"), OPTIM_TORCH2, why, sizeof why), 0);
	sample.about.mode = MSG_SYNC;
	sample.about.workers = workers;
	sample.about.clip = clip;
	if (sample_write(&sample, dir, why, sizeof why) < 0)
		fail_msg("%s", why);
	sample_path(&sample, dir, path);
	sample_deinit(&sample);
	assert_int_equal(checkpoint_open(path, &file, why, sizeof why), OPTD_CORRUPT);
	if (!strstr(why, words))
		fail_msg("\"%s\" instead of \"%s\"", why, words);
}

static void test_answers_of_a_workers_own_that_could_not_be_given_are_refused(void **state)
{
	(void)state;
	refuses_easgd(4, (struct msg_clip){0}, "easgd answers each worker by itself: use mode async");
	refuses_easgd(1, (struct msg_clip){.norm = 1, .norm_type = 2}, "cannot wait for the norm");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_limits_come_back),
		TEST(test_a_model_without_a_limit_has_the_format_before_it),
		TEST(test_keys_that_this_version_does_not_know_are_refused_by_name),
		TEST(test_limits_that_make_no_sense_are_refused),
		TEST(test_answers_of_a_workers_own_that_could_not_be_given_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
