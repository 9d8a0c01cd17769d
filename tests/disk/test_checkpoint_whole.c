/* Checkpoints of models whose rules look at whole tensors: state by shape, and format 4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/safetensors.h"
#include "proto/status.h"
#include "server/core/model.h"
#include "server/core/whole.h"
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

/* ---- a model and its file ----------------------------------------------- */

static void init_optim(struct optim *optim, const char *name)
{
	double half = 0.5;

	ok(optim_init(optim, optim_find(name), OPTIM_TORCH2, why, sizeof why));
	/* The one with a slot of each kind. */
	if (strcmp(name, "adafactor_paper") == 0)
		ok(optim_set(optim, "beta1", &half, 1, why, sizeof why));
}

static struct model_settings settings_of(const char *own, const char *pattern, const char *name)
{
	struct model_settings settings = { .mode = MSG_SYNC, .reduce = MSG_MEAN, .workers = 2,
		                           .step_timeout_ms = 1000 };

	init_optim(&settings.optim, own);
	if (pattern) {
		settings.groups.count = 1;
		ok(group_begin(&settings.groups.list[0], pattern, &settings.optim, name, NULL, why, sizeof why));
	}
	return settings;
}

static struct layout *copy_of(const struct layout *from)
{
	struct layout *layout = layout_new();

	for (uint32_t i = 0; i < layout_tensor_count(from); i++) {
		const struct layout_tensor *t = layout_tensor(from, i);
		sample_add(layout, t->name, t->shape, t->rank);
	}
	return layout;
}

static struct model *model_of(const struct model_settings *settings, const struct layout *from,
                              struct model_place place)
{
	struct layout *layout = copy_of(from);

	ok(whole_cut(&settings->groups, &settings->optim, layout));
	struct model *model = model_new("m", settings, &layout, place);
	assert_non_null(model);
	return model;
}

/* Where tensors have it: nothing else is ever touched. */
static void fill_slot(struct model *model, uint32_t slot, uint64_t *seed)
{
	uint64_t begin = 0;

	for (uint32_t i = 0; i < model->segment_count; i++) {
		uint64_t count = whole_slot(model_optim_made(model, i), model->layout, model->first_segment + i, slot);
		float *at = model->slots[slot] + (model->slot_begins[slot] ? model->slot_begins[slot][i] : begin);
		for (uint64_t j = 0; j < count; j++)
			at[j] = (float)(sample_random(seed) % 100000);
		begin += layout_segment(model->layout, model->first_segment + i)->count;
	}
}

/* Numbers everywhere; what belongs together counts alike. */
static void fill(struct model *model, uint64_t *seed)
{
	for (uint64_t i = 0; i < model->elements; i++)
		model->weights[i] = (float)(sample_random(seed) % 100000);
	for (uint32_t s = 0; s < model->slot_count; s++)
		fill_slot(model, s, seed);
	for (uint32_t i = 0; i < model->owned.count; i++) {
		uint32_t block = model->owned.first + i;
		uint32_t segment = model_block(model, block)->first_segment - model->first_segment;
		bool begins = model_unit(model, block).first == block;
		model->versions[i] = begins ? 100 + sample_random(seed) % 3 : model->versions[i - 1];
		for (uint32_t j = 0; j < model_block(model, block)->segment_count; j++)
			model->updates[segment + j] =
				begins ? sample_random(seed) % 100 : model->updates[segment - 1];
	}
}

static struct checkpoint about_of(const struct model *model)
{
	return (struct checkpoint){ .model = "m", .run = "", .run_id = 1, .layout = model->layout,
		                    .optim = model->settings.optim, .groups = model->settings.groups,
		                    .mode = model->settings.mode, .reduce = model->settings.reduce,
		                    .workers = 2, .step_timeout_ms = 1000, .daemon = model->place.daemon,
		                    .daemons = model->place.daemons, .epoch = 1 };
}

static int put_block(struct checkpoint_writer *writer, const struct model *model, uint32_t block)
{
	uint32_t index = block - model->owned.first;
	uint32_t segment = model_block(model, block)->first_segment - model->first_segment;
	const float *slots[OPTIM_SLOTS_MAX];

	for (uint32_t s = 0; s < model->slot_count; s++)
		slots[s] = model->slots[s] + model_slot_offset(model, block, s);
	struct checkpoint_part part = { .first_block = block, .block_count = 1, .slots = slots,
		                        .weights = model->weights + model_offset(model, block),
		                        .versions = model->versions + index, .updates = model->updates + segment };
	return checkpoint_put(writer, &part, why, sizeof why);
}

/* Block by block, from the last on. */
static void save(const struct model *model)
{
	struct checkpoint about = about_of(model);
	struct checkpoint_writer *writer;
	char name[CHECKPOINT_NAME_BYTES];

	ok(checkpoint_begin(dir, &about, &writer, why, sizeof why));
	for (uint32_t i = model->owned.count; i-- > 0;)
		ok(put_block(writer, model, model->owned.first + i));
	ok(checkpoint_commit(&writer, why, sizeof why));
	checkpoint_name("m", name);
	snprintf(path, sizeof path, "%s/models/%s", dir, name);
}

/* Into one of several lanes, whose part must be what the whole has there. */
static void compare_lane(const struct model *whole, const struct checkpoint_file *file, uint32_t lane,
                         uint32_t lanes)
{
	struct model_place place = { whole->place.daemon, whole->place.daemons, lane, lanes };
	struct model *model = model_of(&whole->settings, whole->layout, place);
	struct checkpoint_target target = { model->owned.first, model->owned.count, model->weights, model->slots,
		                            model->versions, model->updates, model->carries, model->average };
	ok(checkpoint_read(file, &target, why, sizeof why));
	uint32_t block = model->owned.first - whole->owned.first;
	uint32_t segment = model->first_segment - whole->first_segment;
	if (model->owned.count > 0) {
		assert_memory_equal(model->weights, whole->weights + (model->begin - whole->begin), model->elements * 4);
		assert_memory_equal(model->versions, whole->versions + block, model->owned.count * 8);
		assert_memory_equal(model->updates, whole->updates + segment, model->segment_count * 8);
	}
	for (uint32_t s = 0; s < model->slot_count && model->owned.count > 0; s++)
		if (model->slot_elements[s] > 0)
			assert_memory_equal(model->slots[s],
			                    whole->slots[s] + model_slot_offset(whole, model->owned.first, s),
			                    model->slot_elements[s] * 4);
	model_free(model);
}

static void compare_all(const struct model *whole)
{
	struct checkpoint_file *file;

	ok(checkpoint_open(path, &file, why, sizeof why));
	for (uint32_t lanes = 1; lanes <= 4; lanes++)
		for (uint32_t lane = 0; lane < lanes; lane++)
			compare_lane(whole, file, lane, lanes);
	checkpoint_close(file);
}

static struct layout *some_layout(uint64_t *seed)
{
	struct layout *layout = layout_new();
	char name[32];

	for (uint32_t i = 0; i < 1 + sample_random(seed) % 12; i++) {
		uint64_t shape[3] = { 1 + sample_random(seed) % 500, sample_random(seed) % 500, 2 };
		uint32_t rank = (uint32_t)(sample_random(seed) % 4);
		snprintf(name, sizeof name, "t%u.%s", i, rank == 2 ? "weight" : "bias");
		sample_add(layout, name, shape, rank);
	}
	sample_add(layout, "last.weight", (uint64_t[]){ 700, 400 }, 2);
	sample_add(layout, "last.bias", (uint64_t[]){ 3 }, 1);
	return layout;
}

static void test_random_models_come_back_in_any_number_of_lanes(void **state)
{
	static const char *const rules[][2] = { { "adafactor", NULL }, { "adafactor", "adamw" },
		                                { "adafactor_paper", "sgd" }, { "lars", NULL }, { "lamb", "adafactor" },
		                                { "muon", "adamw" }, { "adamw", "adafactor_paper" } };
	uint64_t seed = rng_seed();

	(void)state;
	printf("# OPTD_SEED=%llu\n", (unsigned long long)seed);
	for (uint32_t i = 0; i < 21; i++) {
		struct layout *layout = some_layout(&seed);
		struct model_settings settings =
			settings_of(rules[i % 7][0], rules[i % 7][1] ? "*.bias" : NULL, rules[i % 7][1]);
		uint32_t daemons = 1 + (uint32_t)(sample_random(&seed) % 2);
		struct model_place place = { (uint32_t)(sample_random(&seed) % daemons), daemons, 0, 1 };
		struct model *model = model_of(&settings, layout, place);
		if (model->owned.count > 0) {
			fill(model, &seed);
			save(model);
			compare_all(model);
		}
		model_free(model);
		layout_free(layout);
	}
}

/* ---- the head ----------------------------------------------------------- */

/* A matrix of two blocks, a stack of matrices, a vector, one without elements, and one under adamw. */
static struct model *known_model(const char *own)
{
	struct layout *layout = layout_new();
	struct model_settings settings = settings_of(own, "*.bias", "adamw");
	uint64_t seed = 5;

	sample_add(layout, "w", (uint64_t[]){ 350, 400 }, 2);
	sample_add(layout, "w.bias", (uint64_t[]){ 4 }, 1);
	sample_add(layout, "stack", (uint64_t[]){ 2, 3, 4 }, 3);
	sample_add(layout, "v", (uint64_t[]){ 7 }, 1);
	sample_add(layout, "none", (uint64_t[]){ 0, 5 }, 2);
	struct model *model = model_of(&settings, layout, (struct model_place){ 0, 1, 0, 1 });
	layout_free(layout);
	fill(model, &seed);
	save(model);
	return model;
}

static void assert_shape(const struct safetensors *head, const char *name, const uint64_t *shape, uint32_t rank)
{
	const struct safetensors_tensor *tensor = safetensors_find(head, name);

	if (!tensor)
		fail_msg("no '%s'", name);
	assert_int_equal(tensor->rank, rank);
	for (uint32_t i = 0; i < rank; i++)
		assert_int_equal(tensor->shape[i], shape[i]);
}

static void test_state_has_pytorchs_names_and_shapes(void **state)
{
	struct model *model = known_model("adafactor");
	struct safetensors *head;
	uint8_t *bytes;
	size_t size;

	(void)state;
	head = sample_head(path, &bytes, &size);
	assert_shape(head, "state.w.row_var", (uint64_t[]){ 350, 1 }, 2);
	assert_shape(head, "state.w.col_var", (uint64_t[]){ 1, 400 }, 2);
	assert_shape(head, "state.stack.row_var", (uint64_t[]){ 2, 3, 1 }, 3);
	assert_shape(head, "state.stack.col_var", (uint64_t[]){ 2, 1, 4 }, 3);
	assert_shape(head, "state.v.variance", (uint64_t[]){ 7 }, 1);
	assert_shape(head, "state.w.bias.exp_avg", (uint64_t[]){ 4 }, 1);
	assert_shape(head, "state.none.row_var", (uint64_t[]){ 0, 5 }, 2);
	assert_null(safetensors_find(head, "state.w.exp_avg"));
	const struct safetensors_tensor *rows = safetensors_find(head, "state.w.row_var");
	uint64_t text_bytes;
	memcpy(&text_bytes, bytes, 8);
	assert_memory_equal(bytes + 8 + text_bytes + rows->begin, model->slots[0], 350 * sizeof(float));
	assert_string_equal(safetensors_metadata(head, "optd.checkpoint"), "4");
	assert_string_equal(safetensors_metadata(head, "whole"), "3");
	safetensors_free(head);
	free(bytes);
	model_free(model);
}

static void test_a_head_is_as_long_as_promised(void **state)
{
	struct model *model = known_model("adafactor_paper");
	struct checkpoint about = about_of(model);
	uint64_t promised = checkpoint_head_bytes(&about), text_bytes;
	size_t size;
	uint8_t *bytes = sample_bytes(path, &size);

	(void)state;
	ok(safetensors_text_bytes(bytes, size, size, &text_bytes, why, sizeof why));
	assert_in_range(text_bytes, 1, promised);
	free(bytes);
	model_free(model);
}

/* ---- what is refused ---------------------------------------------------- */

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
	struct layout *layout = layout_new();
	struct model_settings settings = settings_of("adafactor", NULL, NULL);
	uint64_t seed = 9;
	size_t size;

	(void)state;
	sample_add(layout, "w", (uint64_t[]){ 3, 4 }, 2);
	struct model *model = model_of(&settings, layout, (struct model_place){ 0, 1, 0, 1 });
	fill(model, &seed);
	save(model);
	uint8_t *bytes = sample_bytes(path, &size);
	for (size_t i = 0; i < size * 8; i += 3) {
		bytes[i / 8] ^= (uint8_t)(1u << (i % 8));
		assert_true(try(bytes, size) < 0);
		bytes[i / 8] ^= (uint8_t)(1u << (i % 8));
	}
	ok(try(bytes, size));
	free(bytes);
	model_free(model);
	layout_free(layout);
}

/* Writes `to` over `from`, of the same length, in the head, and the seal that then fits. */
static void refuses(const char *from, const char *to, int status, const char *words)
{
	struct safetensors *head;
	struct digest *digest = digest_new();
	uint8_t *bytes;
	uint64_t text_bytes, value;
	size_t size;

	model_free(known_model("lars"));
	head = sample_head(path, &bytes, &size);
	memcpy(&text_bytes, bytes, 8);
	uint8_t *data = bytes + 8 + text_bytes, *at = memmem(bytes, 8 + text_bytes, from, strlen(from));
	assert_non_null(at);
	memcpy(at, to, strlen(to));
	digest_add(digest, bytes, 8 + text_bytes);
	digest_add(digest, data + safetensors_find(head, "optd.layout")->begin,
	           safetensors_find(head, "optd.seal")->begin - safetensors_find(head, "optd.layout")->begin);
	value = digest_value(digest);
	memcpy(data + safetensors_find(head, "optd.seal")->begin, &value, sizeof value);
	digest_free(digest);
	safetensors_free(head);
	int rc = try(bytes, size);
	free(bytes);
	if (rc != status || !strstr(why, words))
		fail_msg("%s: \"%s\" instead of \"%s\"", status_name(rc), why, words);
}

static void test_texts_that_make_no_sense_are_refused(void **state)
{
	(void)state;
	refuses("\"whole\":\"3\"", "\"whole\":\"2\"", OPTD_CORRUPT, "'whole' is 2, and this version has 3");
	refuses("\"whole\":\"3\"", "\"wholf\":\"3\"", OPTD_CORRUPT, "'whole' is 0");
	refuses("\"run\":\"\"", "\"run\":\"\"", OPTD_OK, "");
	refuses("\"optd.checkpoint\":\"4\"", "\"optd.checkpoint\":\"2\"", OPTD_CORRUPT, "whole");
	refuses("\"mode\":\"sync\",\"reduce\"", "\"mode\":\"sync\",\"reduce\"", OPTD_OK, "");
	refuses("\"optimizer.nesterov\"", "\"optimizer.nesterow\"", OPTD_CORRUPT, "'optimizer.nesterov' is missing");
}

/* A text more, in the place of the spaces behind the head. */
static void test_a_text_of_another_version_is_refused(void **state)
{
	struct safetensors *head;
	struct safetensors_text texts[200];
	const struct safetensors_text *has;
	const struct safetensors_tensor *tensors;
	uint8_t *bytes;
	char *text;
	uint32_t count;
	size_t size, text_size;
	uint64_t text_bytes, value;
	struct digest *digest = digest_new();

	(void)state;
	model_free(known_model("lars"));
	head = sample_head(path, &bytes, &size);
	memcpy(&text_bytes, bytes, 8);
	has = safetensors_texts(head, &count);
	memcpy(texts, has, count * sizeof *texts);
	texts[count] = (struct safetensors_text){ "hours", "7" };
	tensors = safetensors_tensors(head);
	ok(safetensors_encode(tensors, safetensors_count(head), texts, count + 1, 1u << 20, &text, &text_size, why,
	                      sizeof why));
	size_t data = size - 8 - text_bytes;
	uint8_t *file = malloc(text_size + data);
	memcpy(file, text, text_size);
	memcpy(file + text_size, bytes + 8 + text_bytes, data);
	digest_add(digest, file, text_size);
	digest_add(digest, file + text_size + safetensors_find(head, "optd.layout")->begin,
	           safetensors_find(head, "optd.seal")->begin - safetensors_find(head, "optd.layout")->begin);
	value = digest_value(digest);
	memcpy(file + text_size + safetensors_find(head, "optd.seal")->begin, &value, sizeof value);
	assert_int_equal(try(file, text_size + data), OPTD_UNSUPPORTED);
	assert_non_null(strstr(why, "'hours'"));
	digest_free(digest);
	safetensors_free(head);
	free(file);
	free(text);
	free(bytes);
}

static void test_blocks_of_a_tensor_at_different_versions_are_refused(void **state)
{
	struct model *model = known_model("lars");
	struct checkpoint_file *file;

	(void)state;
	model->versions[1]++;
	save(model);
	assert_int_equal(checkpoint_open(path, &file, why, sizeof why), OPTD_CORRUPT);
	assert_non_null(strstr(why, "blocks 0 and 1 of tensor 'w'"));
	model->versions[1]--;
	model->updates[1]++;
	save(model);
	assert_int_equal(checkpoint_open(path, &file, why, sizeof why), OPTD_CORRUPT);
	model_free(model);
}

static void test_shapes_that_the_rule_does_not_take_are_refused(void **state)
{
	struct model *model = known_model("lars");
	struct checkpoint_file *file;

	(void)state;
	init_optim(&model->settings.optim, "muon");
	save(model);
	assert_int_equal(checkpoint_open(path, &file, why, sizeof why), OPTD_CORRUPT);
	assert_non_null(strstr(why, "tensor 'stack'"));
	model_free(model);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_random_models_come_back_in_any_number_of_lanes),
		TEST(test_state_has_pytorchs_names_and_shapes),
		TEST(test_a_head_is_as_long_as_promised),
		TEST(test_every_flipped_bit_is_found),
		TEST(test_texts_that_make_no_sense_are_refused),
		TEST(test_a_text_of_another_version_is_refused),
		TEST(test_blocks_of_a_tensor_at_different_versions_are_refused),
		TEST(test_shapes_that_the_rule_does_not_take_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
