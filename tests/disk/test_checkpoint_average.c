/* Checkpoints of models that keep an average of their weights, and format 4, which they are of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/safetensors.h"
#include "proto/status.h"
#include "server/disk/checkpoint.h"
#include "server/disk/digest.h"
#include "tests/disk/sample.h"
#include "tests/support/rng_seed.h"

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

static void comes_back(const struct sample *sample)
{
	struct checkpoint_file *file = sample_saved(sample, dir, path);
	const struct average *average = &checkpoint_about(file)->average;

	assert_true(sample_same(sample, file, 0, layout_block_count(sample->layout)));
	assert_true(average_equal(average, &sample->about.average));
	assert_int_equal(checkpoint_about(file)->groups.count, sample->about.groups.count);
	checkpoint_close(file);
}

static void test_every_bit_of_an_average_comes_back_and_how_it_is_made(void **state)
{
	struct sample sample;

	(void)state;
	sample_small(&sample, 1);
	sample_average(&sample, "ema");
	comes_back(&sample);
	sample_deinit(&sample);
	sample_grouped(&sample, 2);
	sample_average(&sample, "swa");
	comes_back(&sample);
	sample_deinit(&sample);
}

static void test_average_stands_behind_the_state_of_every_tensor(void **state)
{
	static const char *const names[] = {
		"fc.weight", "fc.bias", "scale", "bn.mean",
		"state.fc.weight.exp_avg", "state.fc.bias.exp_avg",
		"state.fc.weight.exp_avg_sq", "state.fc.bias.exp_avg_sq",
		"state.fc.weight.average", "state.fc.bias.average", "state.scale.average", "state.bn.mean.average",
		"state.fc.weight.step",
	};
	struct sample sample;
	struct safetensors *head;
	uint8_t *bytes;
	size_t size;

	(void)state;
	sample_grouped(&sample, 3);
	sample_average(&sample, "swa");
	checkpoint_close(sample_saved(&sample, dir, path));
	head = sample_head(path, &bytes, &size);
	for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
		assert_string_equal(safetensors_tensors(head)[i].name, names[i]);
	assert_int_equal(safetensors_find(head, "state.fc.weight.average")->rank, 2);
	assert_string_equal(safetensors_metadata(head, "optd.checkpoint"), "4");
	assert_string_equal(safetensors_metadata(head, "average"), "swa");
	assert_string_equal(safetensors_metadata(head, "average.start"), "9007199254740991");
	assert_null(safetensors_metadata(head, "average.decay"));
	safetensors_free(head);
	free(bytes);
	sample_deinit(&sample);
}

static void has_format(const struct sample *sample, const char *format)
{
	struct safetensors *head;
	uint8_t *bytes;
	size_t size;

	checkpoint_close(sample_saved(sample, dir, path));
	head = sample_head(path, &bytes, &size);
	assert_string_equal(safetensors_metadata(head, "optd.checkpoint"), format);
	assert_null(safetensors_metadata(head, "average"));
	assert_null(safetensors_find(head, "state.fc.weight.average"));
	safetensors_free(head);
	free(bytes);
}

static void test_a_file_without_an_average_is_of_the_format_before_it(void **state)
{
	struct sample sample;

	(void)state;
	sample_small(&sample, 4);
	has_format(&sample, "2");
	sample_deinit(&sample);
	sample_grouped(&sample, 4);
	has_format(&sample, "3");
	sample_deinit(&sample);
}

static void test_random_models_with_an_average_come_back_by_block(void **state)
{
	uint64_t seed = rng_seed();

	(void)state;
	printf("# OPTD_SEED=%llu\n", (unsigned long long)seed);
	for (uint32_t round = 0; round < 6; round++) {
		struct sample sample;
		uint64_t head = seed;

		sample_init(&sample, sample_layout(&seed), round % 2 ? "adam" : "sgd", round % 3, seed);
		sample_average(&sample, round % 4 < 2 ? "ema" : "swa");
		sample.about.daemons = 1 + (uint32_t)(sample_random(&seed) % 2);
		struct layout_run owned = checkpoint_owned(&sample.about);
		struct checkpoint_file *file = owned.count > 0 ? sample_saved(&sample, dir, path) : NULL;
		for (uint32_t i = 0; i < owned.count; i++)
			if (!sample_same(&sample, file, owned.first + i, 1))
				fail_msg("seed %llu, block %u", (unsigned long long)head, i);
		checkpoint_close(file);
		sample_deinit(&sample);
	}
}

static void test_a_head_with_an_average_is_as_promised(void **state)
{
	struct sample sample;
	uint64_t seed = 5, promised, text_bytes;
	uint8_t *bytes;
	size_t size;

	(void)state;
	sample_init(&sample, sample_layout(&seed), "adam", 0, seed);
	sample_average(&sample, "ema");
	promised = checkpoint_head_bytes(&sample.about);
	checkpoint_close(sample_saved(&sample, dir, path));
	bytes = sample_bytes(path, &size);
	ok(safetensors_text_bytes(bytes, size, size, &text_bytes, why, sizeof why));
	assert_in_range(text_bytes, promised * 9 / 10, promised);
	free(bytes);
	sample_deinit(&sample);
}

static int try(const uint8_t *bytes, size_t size)
{
	struct checkpoint_file *file;
	int rc = checkpoint_open_memory(bytes, size, &file, why, sizeof why);

	if (rc == OPTD_OK)
		checkpoint_close(file);
	return rc;
}

static void test_every_flipped_bit_is_found(void **state)
{
	struct sample sample;
	uint8_t *bytes;
	size_t size;

	(void)state;
	sample_small(&sample, 6);
	sample_average(&sample, "ema");
	checkpoint_close(sample_saved(&sample, dir, path));
	bytes = sample_bytes(path, &size);
	for (size_t i = 0; i < size * 8; i += 3) {
		bytes[i / 8] ^= (uint8_t)(1u << (i % 8));
		assert_true(try(bytes, size) < 0);
		bytes[i / 8] ^= (uint8_t)(1u << (i % 8));
	}
	ok(try(bytes, size));
	free(bytes);
	sample_deinit(&sample);
}

/* Writes `to` over `from`, of the same length, in the head, and the seal that then fits: as
 * whoever made such a file would have. */
static int try_with(const char *from, const char *to)
{
	struct sample sample;
	struct safetensors *head;
	struct digest *digest = digest_new();
	uint8_t *bytes, *at;
	uint64_t text_bytes, value;
	size_t size;

	sample_small(&sample, 7);
	sample_average(&sample, "ema");
	checkpoint_close(sample_saved(&sample, dir, path));
	head = sample_head(path, &bytes, &size);
	memcpy(&text_bytes, bytes, 8);
	uint8_t *data = bytes + 8 + text_bytes;
	at = memmem(bytes, 8 + text_bytes, from, strlen(from));
	assert_non_null(at);
	assert_int_equal(strlen(from), strlen(to));
	memcpy(at, to, strlen(to));
	digest_add(digest, bytes, 8 + text_bytes);
	digest_add(digest, data + safetensors_find(head, "optd.layout")->begin,
	           safetensors_find(head, "optd.seal")->begin - safetensors_find(head, "optd.layout")->begin);
	value = digest_value(digest);
	memcpy(data + safetensors_find(head, "optd.seal")->begin, &value, sizeof value);
	digest_free(digest);
	safetensors_free(head);
	sample_deinit(&sample);
	int rc = try(bytes, size);
	free(bytes);
	return rc;
}

static void refuses(const char *from, const char *to, int status, const char *words)
{
	assert_int_equal(try_with(from, to), status);
	if (!strstr(why, words))
		fail_msg("\"%s\" instead of \"%s\"", why, words);
}

static void test_averages_that_make_no_sense_are_refused_by_name(void **state)
{
	(void)state;
	refuses("\"average\":\"ema\"", "\"average\":\"emu\"", OPTD_CORRUPT, "no average 'emu'");
	refuses("\"average.every\":\"1\"", "\"average.every\":\"0\"", OPTD_CORRUPT, "every=0");
	refuses("\"average.every\":\"1\"", "\"average.evexy\":\"1\"", OPTD_CORRUPT, "'average.every' is missing");
	refuses("\"average.every\":\"1\"", "\"average.every\":\"x\"", OPTD_CORRUPT, "'average.every' is not a number");
	refuses("\"average.num_updates\":\"0\"", "\"average.num_updates\":\"7\"", OPTD_CORRUPT, "num_updates=7");
	/* Swa has no decay. */
	refuses("\"average\":\"ema\"", "\"average\":\"swa\"", OPTD_UNSUPPORTED, "'average.decay'");
	/* As a version before it would read it. */
	refuses("\"optd.checkpoint\":\"4\"", "\"optd.checkpoint\":\"2\"", OPTD_CORRUPT, "tensors");
}

static void test_a_key_that_is_not_known_is_refused_by_name(void **state)
{
	(void)state;
	refuses("\"average.start\":\"9007199254740991\"", "\"xx\":\"y\",\"average.start\":\"9007199\"", OPTD_UNSUPPORTED,
	        "this version does not know 'xx': a later version of optd");
	refuses("\"average.start\":\"9007199254740991\"", "\"x\\n\":\"\",\"average.start\":\"9007199\"", OPTD_UNSUPPORTED,
	        "(unprintable)");
	refuses("\"average.start\":\"9007199254740991\"", "\"average.start\":\"9007199254740990\"", OPTD_OK, "");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_bit_of_an_average_comes_back_and_how_it_is_made),
		TEST(test_average_stands_behind_the_state_of_every_tensor),
		TEST(test_a_file_without_an_average_is_of_the_format_before_it),
		TEST(test_random_models_with_an_average_come_back_by_block),
		TEST(test_a_head_with_an_average_is_as_promised),
		TEST(test_every_flipped_bit_is_found),
		TEST(test_averages_that_make_no_sense_are_refused_by_name),
		TEST(test_a_key_that_is_not_known_is_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
