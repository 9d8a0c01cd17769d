/* Checkpoints of models with parameter groups: each tensor has the state of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/safetensors.h"
#include "proto/status.h"
#include "server/disk/checkpoint.h"
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

static void test_every_bit_of_every_groups_state_comes_back(void **state)
{
	struct sample sample;
	struct checkpoint_file *file;

	(void)state;
	sample_grouped(&sample, 1);
	file = sample_saved(&sample, dir, path);
	assert_true(sample_same(&sample, file, 0, layout_block_count(sample.layout)));
	checkpoint_close(file);
	sample_deinit(&sample);
}

static void test_groups_come_back(void **state)
{
	const double milestones[] = { 5, 20 }, betas[] = { 0.1 + 0.2, 0.7 };
	struct sample sample;
	struct checkpoint_file *file;
	const struct groups *groups;

	(void)state;
	sample_grouped(&sample, 2);
	struct optim *optim = &sample.about.groups.list[1].optim;
	ok(optim_set(optim, "betas", betas, 2, why, sizeof why));
	optim->schedule.part_count = 1;
	schedule_part_init(&optim->schedule.parts[0], SCHEDULE_MULTISTEP);
	ok(schedule_set(&optim->schedule.parts[0], "milestones", milestones, 2, why, sizeof why));
	file = sample_saved(&sample, dir, path);
	groups = &checkpoint_about(file)->groups;
	assert_int_equal(groups->count, 4);
	for (uint32_t i = 0; i < 4; i++) {
		const struct group *group = &sample.about.groups.list[i];
		assert_string_equal(groups->list[i].tensors, group->tensors);
		assert_int_equal(groups->list[i].frozen, group->frozen);
		if (!group->frozen && optim_compare(&groups->list[i].optim, &group->optim, why, sizeof why) < 0)
			fail_msg("group %u: %s", i, why);
	}
	checkpoint_close(file);
	sample_deinit(&sample);
}

static void test_tensors_have_the_names_of_their_own_groups_state(void **state)
{
	static const char *const names[] = {
		"fc.weight", "fc.bias", "scale", "bn.mean",
		"state.fc.weight.exp_avg", "state.fc.bias.exp_avg",
		"state.fc.weight.exp_avg_sq", "state.fc.bias.exp_avg_sq",
		"state.fc.weight.step", "state.fc.bias.step", "state.bn.mean.step",
		"state.fc.bias.mu_product",
		"optd.layout", "optd.padding", "optd.versions", "optd.updates", "optd.carries", "optd.seen", "optd.checksums", "optd.seal",
	};
	struct sample sample;
	struct safetensors *head;
	uint8_t *bytes;
	size_t size;

	(void)state;
	sample_grouped(&sample, 3);
	checkpoint_close(sample_saved(&sample, dir, path));
	head = sample_head(path, &bytes, &size);
	for (uint32_t i = 0; i < safetensors_count(head) && i < sizeof names / sizeof *names; i++)
		assert_string_equal(safetensors_tensors(head)[i].name, names[i]);
	assert_int_equal(safetensors_count(head), sizeof names / sizeof *names);
	assert_int_equal(safetensors_find(head, "state.fc.weight.exp_avg")->rank, 2);
	safetensors_free(head);
	free(bytes);
	sample_deinit(&sample);
}

static void test_a_file_without_groups_is_of_the_format_before_them(void **state)
{
	struct sample sample;
	struct safetensors *head;
	uint8_t *bytes;
	size_t size;

	(void)state;
	sample_small(&sample, 4);
	checkpoint_close(sample_saved(&sample, dir, path));
	head = sample_head(path, &bytes, &size);
	assert_string_equal(safetensors_metadata(head, "optd.checkpoint"), "2");
	assert_null(safetensors_metadata(head, "groups"));
	safetensors_free(head);
	free(bytes);
	sample_deinit(&sample);
}

/* Given all settings that a head may hold. */
static void fill_schedule(struct optim *optim)
{
	optim->schedule.part_count = SCHEDULE_PARTS_MAX;
	for (uint32_t i = 0; i < SCHEDULE_PARTS_MAX; i++) {
		const double number = 1.0 / 3, steps = 1000003;
		schedule_part_init(&optim->schedule.parts[i], SCHEDULE_ONECYCLE);
		ok(schedule_set(&optim->schedule.parts[i], "max_lr", &number, 1, why, sizeof why));
		ok(schedule_set(&optim->schedule.parts[i], "pct_start", &number, 1, why, sizeof why));
		ok(schedule_set(&optim->schedule.parts[i], "total_steps", &steps, 1, why, sizeof why));
		optim->schedule.ends[i] = UINT64_C(9007199254740000) + i;
	}
}

static void test_a_head_with_the_largest_groups_is_as_promised(void **state)
{
	struct sample sample;
	struct layout *layout = layout_new();
	char pattern[LIMIT_PATTERN_BYTES] = "";
	uint64_t promised, text_bytes;
	uint8_t *bytes;
	size_t size;

	(void)state;
	memset(pattern, 1, sizeof pattern - 1);
	for (uint32_t i = 0; i < LIMIT_GROUPS; i++) {
		pattern[0] = (char)('a' + i);
		sample_add(layout, pattern, NULL, 0);
	}
	sample_init(&sample, layout, "adamw", 0, 5);
	for (uint32_t i = 0; i < LIMIT_GROUPS; i++) {
		pattern[0] = (char)('a' + i);
		fill_schedule(&sample_group(&sample, pattern, "adamw")->optim);
	}
	promised = checkpoint_head_bytes(&sample.about);
	checkpoint_close(sample_saved(&sample, dir, path));
	bytes = sample_bytes(path, &size);
	ok(safetensors_text_bytes(bytes, size, size, &text_bytes, why, sizeof why));
	assert_in_range(text_bytes, 1, promised);
	free(bytes);
	sample_deinit(&sample);
}

/* Groups that each have a tensor of a random layout. */
static void add_groups(struct sample *sample, uint64_t *seed)
{
	static const char *const rules[] = { "sgd", "adam", "nadam", "asgd", "average", "rprop" };
	static const char *const patterns[] = { "last", "p[02468]*", "*7", "layer.0*", "p?", "*.weight" };

	for (uint32_t i = 0; i < 6; i++) {
		struct group *group = sample_group(sample, patterns[i], rules[sample_random(seed) % 6]);
		group->frozen = sample_random(seed) % 4 == 0;
		if (groups_fit(&sample->about.groups, sample->layout, why, sizeof why) < 0)
			sample->about.groups.count--;
	}
}

static void test_random_models_with_groups_come_back(void **state)
{
	uint64_t seed = rng_seed();

	(void)state;
	printf("# OPTD_SEED=%llu\n", (unsigned long long)seed);
	for (uint32_t round = 0; round < 8; round++) {
		struct sample sample;
		struct checkpoint_file *file;
		uint64_t head = seed;

		sample_init(&sample, sample_layout(&seed), "sgd", round % 3, seed);
		add_groups(&sample, &seed);
		sample.about.daemons = 1 + (uint32_t)(sample_random(&seed) % 2);
		sample.about.daemon = (uint32_t)(sample_random(&seed) % sample.about.daemons);
		struct layout_run owned = checkpoint_owned(&sample.about);
		if (owned.count > 0) {
			file = sample_saved(&sample, dir, path);
			if (!sample_same(&sample, file, owned.first, owned.count))
				fail_msg("seed %llu", (unsigned long long)head);
			for (uint32_t i = 0; i < owned.count; i++)
				assert_true(sample_same(&sample, file, owned.first + i, 1));
			checkpoint_close(file);
		}
		sample_deinit(&sample);
	}
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
	sample_grouped(&sample, 6);
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

static int try_with(const char *from, const char *to)
{
	struct sample sample;
	uint8_t *bytes;
	size_t size;

	sample_grouped(&sample, 7);
	checkpoint_close(sample_saved(&sample, dir, path));
	bytes = sample_bytes(path, &size);
	sample_change(bytes, size, from, to);
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

static void test_groups_that_make_no_sense_are_refused_by_name(void **state)
{
	(void)state;
	refuses("\"groups\":\"4\"", "\"groups\":\"9\"", OPTD_CORRUPT, "'groups' is 9, not from 1 to 8");
	refuses("\"groups\":\"4\"", "\"grouqs\":\"4\"", OPTD_CORRUPT, "'groups' is missing");
	refuses("\"*.bias\"", "\"[.bias\"", OPTD_CORRUPT, "'group.0.tensors': tensors '[.bias' has a '['");
	refuses("\"*.bias\"", "\"*.bixs\"", OPTD_CORRUPT, "group 1: '*.bixs' matches no tensor; of the 4 the nearest are 'fc.bias'");
	refuses("\"group.3.tensors\"", "\"group.3.tensorx\"", OPTD_CORRUPT, "'group.3.tensors' is missing");
	refuses("\"group.2.frozen\":\"1\"", "\"group.2.frozen\":\"2\"", OPTD_CORRUPT, "'group.2.frozen' is 2");
	refuses("\"group.2.frozen\":\"1\"", "\"group.2.frozen\":\"0\"", OPTD_CORRUPT, "'group.2.optimizer' is missing");
	refuses("\"group.0.optimizer\":\"nadam\"", "\"group.0.optimizer\":\"nadaw\"", OPTD_CORRUPT, "'group.0.optimizer' is not one");
	refuses("\"group.0.optimizer\":\"nadam\"", "\"group.0.optimizer\":\"radam\"", OPTD_CORRUPT, "the file has 20 tensors");
	refuses("\"group.0.optimizer.lr\":\"0", "\"group.0.optimizer.lr\":\"-", OPTD_CORRUPT, "group.0.nadam: lr=-");
	refuses("\"optd.checkpoint\":\"3\"", "\"optd.checkpoint\":\"2\"", OPTD_CORRUPT, "the file has 20 tensors");
	refuses("\"optd.checkpoint\":\"3\"", "\"optd.checkpoint\":\"5\"", OPTD_UNSUPPORTED, "none of 2, 3 and 4");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_bit_of_every_groups_state_comes_back),
		TEST(test_groups_come_back),
		TEST(test_tensors_have_the_names_of_their_own_groups_state),
		TEST(test_a_file_without_groups_is_of_the_format_before_them),
		TEST(test_a_head_with_the_largest_groups_is_as_promised),
		TEST(test_random_models_with_groups_come_back),
		TEST(test_every_flipped_bit_is_found),
		TEST(test_groups_that_make_no_sense_are_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
