/* Checkpoints: what is saved comes back bit for bit, however it is split. */
#include "server/disk/checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/safetensors.h"
#include "proto/status.h"
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

static void test_every_bit_comes_back(void **state)
{
	struct sample sample;
	struct checkpoint_file *file;

	(void)state;
	sample_small(&sample, 1);
	file = sample_saved(&sample, dir, path);
	assert_true(sample_same(&sample, file, 0, layout_block_count(sample.layout)));
	assert_int_equal(checkpoint_version(file, 0), sample.versions[0]);
	checkpoint_close(file);
	sample_deinit(&sample);
}

static void test_settings_come_back(void **state)
{
	struct sample sample;
	struct checkpoint_file *file;
	const struct checkpoint *about;

	(void)state;
	sample_small(&sample, 2);
	file = sample_saved(&sample, dir, path);
	about = checkpoint_about(file);
	assert_string_equal(about->model, sample.about.model);
	assert_string_equal(about->run, sample.about.run);
	assert_int_equal(about->run_id, sample.about.run_id);
	assert_int_equal(about->mode, MSG_SYNC);
	assert_int_equal(about->reduce, MSG_MEAN);
	assert_int_equal(about->workers, 2);
	assert_int_equal(about->step_timeout_ms, 30000);
	assert_memory_equal(&about->history, &sample.about.history, sizeof about->history);
	assert_int_equal(about->epoch, UINT64_C(1) << 62);
	assert_true(about->final);
	assert_int_equal(about->created_s, 1700000000);
	assert_int_equal(about->saved_s, 1700000900);
	assert_int_equal(optim_compare(&about->optim, &sample.about.optim, why, sizeof why), 0);
	assert_int_equal(layout_compare(about->layout, sample.layout, why, sizeof why), 0);
	assert_int_equal(layout_hash(about->layout), layout_hash(sample.layout));
	checkpoint_close(file);
	sample_deinit(&sample);
}

static void test_a_schedule_comes_back(void **state)
{
	const double milestones[] = { 5, 20, 20, 33 }, total = 7, gamma = 0.1 + 0.2;
	struct sample sample;
	struct checkpoint_file *file;
	struct schedule *schedule = &sample.about.optim.schedule;

	(void)state;
	sample_small(&sample, 2);
	schedule->part_count = 2;
	schedule->ends[0] = 7;
	schedule_part_init(&schedule->parts[0], SCHEDULE_LINEAR_WARMUP);
	ok(schedule_set(&schedule->parts[0], "total_iters", &total, 1, why, sizeof why));
	schedule_part_init(&schedule->parts[1], SCHEDULE_MULTISTEP);
	ok(schedule_set(&schedule->parts[1], "milestones", milestones, 4, why, sizeof why));
	ok(schedule_set(&schedule->parts[1], "gamma", &gamma, 1, why, sizeof why));
	file = sample_saved(&sample, dir, path);
	assert_int_equal(optim_compare(&checkpoint_about(file)->optim, &sample.about.optim, why, sizeof why), 0);
	checkpoint_close(file);
	sample_deinit(&sample);
}

/* As a version wrote it that did not cycle a momentum of 0: without a buffer. */
static void test_onecycle_with_a_momentum_of_0_comes_back_as_it_was(void **state)
{
	const double rate = 0.5, steps = 9;
	struct sample sample;
	struct checkpoint_file *file;
	const struct optim *optim;

	(void)state;
	sample_small(&sample, 2);
	ok(optim_init(&sample.about.optim, optim_find("sgd"), OPTIM_TORCH2, why, sizeof why));
	sample.about.optim.schedule.part_count = 1;
	schedule_part_init(&sample.about.optim.schedule.parts[0], SCHEDULE_ONECYCLE);
	ok(schedule_set(&sample.about.optim.schedule.parts[0], "max_lr", &rate, 1, why, sizeof why));
	ok(schedule_set(&sample.about.optim.schedule.parts[0], "total_steps", &steps, 1, why, sizeof why));
	file = sample_saved(&sample, dir, path);
	optim = &checkpoint_about(file)->optim;
	assert_true(optim->values[1][0] == 0);
	assert_int_equal(optim_slot_count(optim), 0);
	checkpoint_close(file);
	sample_deinit(&sample);
}

/* Puts the run in random pieces in random order. */
static void put_shuffled(const struct sample *sample, struct checkpoint_writer *writer, uint64_t *seed)
{
	struct layout_run owned = checkpoint_owned(&sample->about);
	uint32_t cuts[8] = { 0 }, count = 1 + (uint32_t)(sample_random(seed) % 4), turn = (uint32_t)sample_random(seed);

	for (uint32_t i = 1; i < count; i++)
		cuts[i] = cuts[i - 1] + (uint32_t)(sample_random(seed) % (owned.count - cuts[i - 1] + 1));
	cuts[count] = owned.count;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t k = (i + turn) % count;
		const float *slots[OPTIM_SLOTS_MAX];
		const uint64_t *seen[16];
		struct checkpoint_part part = sample_part(sample, owned.first + cuts[k], cuts[k + 1] - cuts[k], slots, seen);
		ok(checkpoint_put(writer, &part, why, sizeof why));
	}
}

/* Reads the run in other random pieces. */
static void assert_same_in_pieces(const struct sample *sample, const struct checkpoint_file *file, uint64_t *seed)
{
	struct layout_run owned = checkpoint_owned(&sample->about);

	for (uint32_t at = 0; at < owned.count;) {
		uint32_t count = 1 + (uint32_t)(sample_random(seed) % (owned.count - at));
		assert_true(sample_same(sample, file, owned.first + at, count));
		at += count;
	}
}

static void test_blocks_may_come_one_by_one_from_the_last(void **state)
{
	struct sample sample;
	struct checkpoint_writer *writer;
	struct checkpoint_file *file;
	struct layout *layout = layout_new();
	struct layout_run owned;

	(void)state;
	sample_add(layout, "a", (uint64_t[]){ LIMIT_BLOCK_ELEMENTS - 5 }, 1);
	sample_add(layout, "b", (uint64_t[]){ 4, LIMIT_BLOCK_ELEMENTS }, 2);
	sample_init(&sample, layout, "momentum", 2, 11);
	sample.about.daemons = 2;
	sample.about.daemon = 1;
	owned = checkpoint_owned(&sample.about);
	assert_true(owned.first > 0 && owned.count > 1);
	ok(checkpoint_begin(dir, &sample.about, &writer, why, sizeof why));
	for (uint32_t i = owned.count; i-- > 0;) {
		const float *slots[OPTIM_SLOTS_MAX];
		const uint64_t *seen[16];
		struct checkpoint_part part = sample_part(&sample, owned.first + i, 1, slots, seen);
		ok(checkpoint_put(writer, &part, why, sizeof why));
	}
	ok(checkpoint_commit(&writer, why, sizeof why));
	sample_path(&sample, dir, path);
	ok(checkpoint_open(path, &file, why, sizeof why));
	assert_true(sample_same(&sample, file, owned.first, owned.count));
	assert_true(sample_same(&sample, file, owned.first + 1, 1));
	checkpoint_close(file);
	sample_deinit(&sample);
}

/* Without and with slots, and with numbers carried. */
static const char *const optimizers[] = { "sgd", "momentum", "adagrad", "rmsprop", "adam", "nadam", "asgd" };

static void test_random_models_in_any_split(void **state)
{
	uint64_t seed = rng_seed();

	(void)state;
	print_message("# OPTD_SEED=%llu\n", (unsigned long long)seed);
	for (int round = 0; round < 12; round++) {
		struct sample sample;
		struct checkpoint_writer *writer;
		struct checkpoint_file *file;
		uint32_t seats = (uint32_t)(sample_random(&seed) % 4);

		sample_init(&sample, sample_layout(&seed), optimizers[round % 7], seats, seed);
		sample.about.daemons = 1 + (uint32_t)(sample_random(&seed) % 3);
		sample.about.daemon = (uint32_t)(sample_random(&seed) % sample.about.daemons);
		ok(checkpoint_begin(dir, &sample.about, &writer, why, sizeof why));
		put_shuffled(&sample, writer, &seed);
		ok(checkpoint_commit(&writer, why, sizeof why));
		assert_null(writer);
		sample_path(&sample, dir, path);
		ok(checkpoint_open(path, &file, why, sizeof why));
		assert_int_equal(layout_compare(checkpoint_about(file)->layout, sample.layout, why, sizeof why), 0);
		assert_same_in_pieces(&sample, file, &seed);
		checkpoint_close(file);
		sample_deinit(&sample);
	}
}

/* The head of the file at `path`. */
static struct safetensors *decode(const uint8_t *bytes, size_t size)
{
	struct safetensors *head;
	uint64_t text_bytes;

	ok(safetensors_text_bytes(bytes, size, 1u << 24, &text_bytes, why, sizeof why));
	assert_int_equal((8 + text_bytes) % 64, 0);
	ok(safetensors_decode(bytes + 8, text_bytes, size - 8 - text_bytes, 100000, 100, &head, why, sizeof why));
	return head;
}

/* Writes it, and compares the head with what was said of it: never more, and but for
 * the room for names and changes within a tenth. */
static void assert_head_as_promised(const struct sample *sample)
{
	uint64_t promised = checkpoint_head_bytes(&sample->about), text_bytes;
	uint8_t *bytes;
	size_t size;

	checkpoint_close(sample_saved(sample, dir, path));
	bytes = sample_bytes(path, &size);
	ok(safetensors_text_bytes(bytes, size, size, &text_bytes, why, sizeof why));
	free(bytes);
	assert_in_range(text_bytes, 1, promised);
	assert_in_range(promised, 1, text_bytes + text_bytes / 10 + 64 * 1024);
}

static void test_a_head_is_never_larger_than_promised(void **state)
{
	uint64_t seed = rng_seed();

	(void)state;
	print_message("# OPTD_SEED=%llu\n", (unsigned long long)seed);
	for (uint32_t round = 0; round < 10; round++) {
		struct sample sample;

		sample_init(&sample, sample_layout(&seed), optimizers[round % 7], round % 3, seed);
		sample.about.daemons = 1 + (uint32_t)(sample_random(&seed) % 3);
		sample.about.daemon = (uint32_t)(sample_random(&seed) % sample.about.daemons);
		assert_head_as_promised(&sample);
		sample_deinit(&sample);
	}
}

static void test_names_that_grow_keep_a_head_within_what_was_promised(void **state)
{
	const uint64_t ones[LIMIT_TENSOR_RANK] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
	struct layout *layout = layout_new();
	char name[32], escaped[LIMIT_NAME_BYTES];
	struct sample sample;
	double amsgrad = 1;

	(void)state;
	/* In a head a control character takes six bytes; a reserved name gets longer. */
	memset(escaped, 1, sizeof escaped - 1);
	escaped[sizeof escaped - 1] = '\0';
	sample_add(layout, escaped, ones, LIMIT_TENSOR_RANK);
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof name, "optd.%d", i);
		sample_add(layout, name, NULL, 0);
	}
	sample_init(&sample, layout, "adam", 3, 5);
	ok(optim_set(&sample.about.optim, "amsgrad", &amsgrad, 1, why, sizeof why));
	sample.about.model = sample.about.run = escaped;
	assert_head_as_promised(&sample);
	sample_deinit(&sample);
}

static void test_a_long_name_of_the_model_keeps_a_head_within_what_was_promised(void **state)
{
	char escaped[LIMIT_NAME_BYTES] = "";
	struct sample sample;

	(void)state;
	memset(escaped, 1, sizeof escaped - 1);
	sample_small(&sample, 6);
	sample.about.model = sample.about.run = escaped;
	assert_head_as_promised(&sample);
	sample_deinit(&sample);
}

static void test_tensors_have_pytorchs_names_and_memorys_order(void **state)
{
	static const char *const names[] = {
		"fc.weight", "fc.bias", "scale", "state.fc.weight.exp_avg", "state.fc.bias.exp_avg", "state.scale.exp_avg",
		"state.fc.weight.exp_avg_sq", "state.fc.bias.exp_avg_sq", "state.scale.exp_avg_sq",
		"state.fc.weight.step", "state.fc.bias.step", "state.scale.step",
		"optd.layout", "optd.padding", "optd.versions", "optd.updates", "optd.carries", "optd.seen", "optd.checksums", "optd.seal",
	};
	struct sample sample;
	struct safetensors *head;
	uint8_t *bytes;
	size_t size;

	(void)state;
	sample_small(&sample, 3);
	checkpoint_close(sample_saved(&sample, dir, path));
	bytes = sample_bytes(path, &size);
	head = decode(bytes, size);
	assert_int_equal(safetensors_count(head), sizeof names / sizeof *names);
	for (uint32_t i = 0; i < safetensors_count(head); i++)
		assert_string_equal(safetensors_tensors(head)[i].name, names[i]);
	assert_int_equal(safetensors_find(head, "fc.weight")->rank, 2);
	assert_int_equal(safetensors_find(head, "state.scale.step")->rank, 0);
	safetensors_free(head);
	free(bytes);
	sample_deinit(&sample);
}

static void test_a_part_of_a_tensor_is_a_flat_slice(void **state)
{
	struct sample sample;
	struct safetensors *head;
	struct layout *layout = layout_new();
	uint8_t *bytes;
	size_t size;

	(void)state;
	sample_add(layout, "w", (uint64_t[]){ 3, LIMIT_BLOCK_ELEMENTS }, 2);
	sample_init(&sample, layout, "sgd", 0, 4);
	sample.about.daemons = 2;
	checkpoint_close(sample_saved(&sample, dir, path));
	bytes = sample_bytes(path, &size);
	head = decode(bytes, size);
	assert_int_equal(safetensors_find(head, "w")->rank, 1);
	assert_int_equal(safetensors_find(head, "w")->shape[0], 2 * LIMIT_BLOCK_ELEMENTS);
	safetensors_free(head);
	free(bytes);
	sample_deinit(&sample);
}

/* A number of the checkpoint that lies at `path`. */
static float stored_number(const char *name)
{
	size_t size;
	uint8_t *bytes = sample_bytes(path, &size);
	struct safetensors *head = decode(bytes, size);
	const struct safetensors_tensor *number = safetensors_find(head, name);
	float value;

	assert_non_null(number);
	assert_int_equal(number->rank, 0);
	memcpy(&value, bytes + size - safetensors_tensors(head)[safetensors_count(head) - 1].end + number->begin,
	       sizeof value);
	safetensors_free(head);
	free(bytes);
	return value;
}

static void test_step_is_the_highest_update_of_a_tensors_segments(void **state)
{
	struct sample sample;
	struct layout *layout = layout_new();

	(void)state;
	sample_add(layout, "w", (uint64_t[]){ 2, LIMIT_BLOCK_ELEMENTS }, 2);
	sample_init(&sample, layout, "sgd", 0, 4);
	sample.updates[0] = 8;
	sample.updates[1] = 7;
	checkpoint_close(sample_saved(&sample, dir, path));
	assert_true(stored_number("state.w.step") == 8.0f);
	sample_deinit(&sample);
}

static void test_carried_numbers_have_pytorchs_names(void **state)
{
	struct sample sample;
	struct layout *layout = layout_new();

	(void)state;
	sample_add(layout, "v", (uint64_t[]){ 2 }, 1);
	sample_add(layout, "w", (uint64_t[]){ 2, LIMIT_BLOCK_ELEMENTS }, 2);
	sample_init(&sample, layout, "asgd", 0, 4);
	for (uint32_t i = 0; i < layout_segment_count(layout); i++) {
		sample.updates[i] = i == 2 ? 8 : 7;
		sample.carries[i] = (struct optim_carry){ { (float)i + 0.25f, (float)i + 0.5f } };
	}
	checkpoint_close(sample_saved(&sample, dir, path));
	assert_true(stored_number("state.v.eta") == 0.25f);
	assert_true(stored_number("state.v.mu") == 0.5f);
	assert_true(stored_number("state.w.eta") == 2.25f); /* of the segment with the most updates */
	assert_true(stored_number("state.w.mu") == 2.5f);
	sample_deinit(&sample);
}

static void test_a_tensors_name_never_collides_with_ours(void **state)
{
	struct sample sample;
	struct checkpoint_file *file;
	struct layout *layout = layout_new();

	(void)state;
	sample_add(layout, "x", (uint64_t[]){ 2 }, 1);
	sample_add(layout, "state.x.exp_avg", (uint64_t[]){ 2 }, 1);
	sample_add(layout, "optd.seal", (uint64_t[]){ 2 }, 1);
	sample_add(layout, "optd.weight.optd.seal", (uint64_t[]){ 2 }, 1);
	sample_add(layout, "__metadata__", (uint64_t[]){ 2 }, 1);
	sample_init(&sample, layout, "adam", 0, 5);
	file = sample_saved(&sample, dir, path);
	assert_true(sample_same(&sample, file, 0, 1));
	checkpoint_close(file);
	sample_deinit(&sample);
}

static void test_a_daemon_without_blocks_has_a_file_too(void **state)
{
	struct sample sample;
	struct checkpoint_file *file;

	(void)state;
	sample_small(&sample, 6);
	sample.about.daemons = 3;
	sample.about.daemon = 2;
	file = sample_saved(&sample, dir, path);
	assert_int_equal(checkpoint_owned(checkpoint_about(file)).count, 0);
	assert_int_equal(layout_compare(checkpoint_about(file)->layout, sample.layout, why, sizeof why), 0);
	checkpoint_close(file);
	sample_deinit(&sample);
}

static void test_a_block_that_was_not_put_is_named(void **state)
{
	struct sample sample;
	struct checkpoint_writer *writer;
	struct layout *layout = layout_new();
	const float *slots[OPTIM_SLOTS_MAX];
	const uint64_t *seen[16];
	struct checkpoint_part part;

	(void)state;
	sample_add(layout, "w", (uint64_t[]){ 3, LIMIT_BLOCK_ELEMENTS }, 2);
	sample_init(&sample, layout, "sgd", 0, 7);
	ok(checkpoint_begin(dir, &sample.about, &writer, why, sizeof why));
	part = sample_part(&sample, 0, 2, slots, seen);
	ok(checkpoint_put(writer, &part, why, sizeof why));
	assert_int_equal(checkpoint_commit(&writer, why, sizeof why), OPTD_INVALID);
	assert_non_null(strstr(why, "block 2 "));
	sample_path(&sample, dir, path);
	assert_int_not_equal(access(path, F_OK), 0);
	sample_deinit(&sample);
}

static void test_blocks_of_others_are_refused(void **state)
{
	struct sample sample;
	struct checkpoint_file *file;
	struct checkpoint_target target = { .first_block = 0, .block_count = 2 };
	struct checkpoint_writer *writer;
	struct checkpoint_part part = { .first_block = 1, .block_count = 1 };

	(void)state;
	sample_small(&sample, 8);
	file = sample_saved(&sample, dir, path);
	assert_int_equal(checkpoint_read(file, &target, why, sizeof why), OPTD_INVALID);
	checkpoint_close(file);
	ok(checkpoint_begin(dir, &sample.about, &writer, why, sizeof why));
	assert_int_equal(checkpoint_put(writer, &part, why, sizeof why), OPTD_INVALID);
	checkpoint_abandon(&writer);
	sample_deinit(&sample);
}

/* Runs the independent reader on the file at `path`; its output, or NULL without
 * a Python to run it. */
static FILE *witness(const char *option)
{
	const char *script = "tests/disk/read_safetensors.py";
	char command[700];

	if (access("/usr/bin/python3", X_OK) != 0 || access(script, R_OK) != 0)
		return NULL;
	snprintf(command, sizeof command, "/usr/bin/python3 %s %s %s 2>&1", script, path, option);
	return popen(command, "r");
}

static void test_an_independent_reader_sees_the_same_bits(void **state)
{
	struct sample sample;
	char line[4096], hex[128];
	FILE *output;
	uint32_t bits;
	size_t at = 0;

	(void)state;
	sample_small(&sample, 9);
	checkpoint_close(sample_saved(&sample, dir, path));
	output = witness("");
	if (!output) {
		sample_deinit(&sample);
		skip();
	}
	assert_non_null(fgets(line, sizeof line, output));
	for (int i = 0; i < 10; i++) {
		memcpy(&bits, &sample.weights[i], sizeof bits);
		at += (size_t)snprintf(hex + at, sizeof hex - at, "%08x", __builtin_bswap32(bits));
	}
	assert_memory_equal(line, "F32 [2, 5] fc.weight ", 21);
	assert_memory_equal(line + 21, hex, at);
	while (fgets(line, sizeof line, output))
		;
	assert_int_equal(pclose(output), 0);
	sample_deinit(&sample);
}

static void test_an_independent_reader_accepts_random_models(void **state)
{
	uint64_t seed = rng_seed();

	(void)state;
	print_message("# OPTD_SEED=%llu\n", (unsigned long long)seed);
	for (int round = 0; round < 4; round++) {
		struct sample sample;
		char line[1024] = "";
		FILE *output;
		int status;

		sample_init(&sample, sample_layout(&seed), "adam", (uint32_t)round, seed);
		checkpoint_close(sample_saved(&sample, dir, path));
		output = witness("--quiet");
		if (!output) {
			sample_deinit(&sample);
			skip();
		}
		(void)!fgets(line, sizeof line, output);
		status = pclose(output);
		if (status != 0)
			fail_msg("%s", line);
		sample_deinit(&sample);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_bit_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_schedule_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_onecycle_with_a_momentum_of_0_comes_back_as_it_was, setup, teardown),
		cmocka_unit_test_setup_teardown(test_blocks_may_come_one_by_one_from_the_last, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_models_in_any_split, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_head_is_never_larger_than_promised, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_that_grow_keep_a_head_within_what_was_promised, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_long_name_of_the_model_keeps_a_head_within_what_was_promised, setup,
		                                teardown),
		cmocka_unit_test_setup_teardown(test_tensors_have_pytorchs_names_and_memorys_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_part_of_a_tensor_is_a_flat_slice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_step_is_the_highest_update_of_a_tensors_segments, setup, teardown),
		cmocka_unit_test_setup_teardown(test_carried_numbers_have_pytorchs_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_tensors_name_never_collides_with_ours, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_daemon_without_blocks_has_a_file_too, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_block_that_was_not_put_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(test_blocks_of_others_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_independent_reader_sees_the_same_bits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_independent_reader_accepts_random_models, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
