/* Checkpoints that are not what was written: each is refused, with a reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/safetensors.h"
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

/* A small checkpoint's bytes. */
static uint8_t *small_file(size_t *size)
{
	struct sample sample;

	sample_small(&sample, 1);
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
	sample_path(&sample, dir, path);
	sample_deinit(&sample);
	return sample_bytes(path, size);
}

static int try(const uint8_t *bytes, size_t size)
{
	struct checkpoint_file *file;
	int rc;

	why[0] = '\0';
	rc = checkpoint_open_memory(bytes, size, &file, why, sizeof why);
	if (rc == OPTD_OK)
		checkpoint_close(file);
	return rc;
}

static void test_every_flipped_bit_is_found(void **state)
{
	size_t size;
	uint8_t *bytes = small_file(&size);

	(void)state;
	assert_int_equal(try(bytes, size), OPTD_OK);
	for (size_t i = 0; i < size * 8; i++) {
		bytes[i / 8] ^= (uint8_t)(1u << i % 8);
		if (try(bytes, size) >= 0 || !*why)
			fail_msg("bit %zu of byte %zu of %zu", i % 8, i / 8, size);
		bytes[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	free(bytes);
}

static void test_every_cut_is_found(void **state)
{
	size_t size;
	uint8_t *bytes = small_file(&size);

	(void)state;
	for (size_t cut = 0; cut < size; cut++) {
		/* A copy of just this size, for the sanitizer's sake. */
		uint8_t *copy = malloc(cut + !cut);
		assert_non_null(copy);
		memcpy(copy, bytes, cut);
		if (try(copy, cut) >= 0 || !*why)
			fail_msg("cut to %zu of %zu bytes", cut, size);
		free(copy);
	}
	free(bytes);
}

static void test_bytes_behind_the_end_are_found(void **state)
{
	size_t size;
	uint8_t *bytes = small_file(&size), *longer = malloc(size + 1);

	(void)state;
	assert_non_null(longer);
	memcpy(longer, bytes, size);
	longer[size] = 0;
	assert_int_equal(try(longer, size + 1), OPTD_CORRUPT);
	free(longer);
	free(bytes);
}

static void test_damage_is_told_by_block_and_tensor(void **state)
{
	size_t size;
	uint8_t *bytes = small_file(&size);
	uint64_t head = 0;

	(void)state;
	memcpy(&head, bytes, 8);
	bytes[8 + head] ^= 1;
	assert_int_equal(try(bytes, size), OPTD_CORRUPT);
	assert_non_null(strstr(why, "block 0 is damaged (in tensor 'fc.weight'"));
	free(bytes);
}

static void test_blocks_that_changed_places_are_found(void **state)
{
	struct sample sample;
	struct layout *layout = layout_new();
	size_t size, n = LIMIT_BLOCK_BYTES;
	uint8_t *bytes, *swap = malloc(n);
	uint64_t head;

	(void)state;
	assert_non_null(swap);
	sample_add(layout, "w", (uint64_t[]){ 2, LIMIT_BLOCK_ELEMENTS }, 2);
	sample_init(&sample, layout, "sgd", 0, 2);
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
	sample_path(&sample, dir, path);
	bytes = sample_bytes(path, &size);
	memcpy(&head, bytes, 8);
	memcpy(swap, bytes + 8 + head, n);
	memcpy(bytes + 8 + head, bytes + 8 + head + n, n);
	memcpy(bytes + 8 + head + n, swap, n);
	assert_int_equal(try(bytes, size), OPTD_CORRUPT);
	free(swap);
	free(bytes);
	sample_deinit(&sample);
}

static void test_a_file_that_changes_after_opening_is_not_served(void **state)
{
	struct sample sample;
	struct checkpoint_file *file;
	FILE *stream;

	(void)state;
	sample_small(&sample, 3);
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
	sample_path(&sample, dir, path);
	assert_int_equal(checkpoint_open(path, &file, why, sizeof why), 0);
	assert_true(sample_same(&sample, file, 0, 1));
	stream = fopen(path, "r+b");
	assert_non_null(stream);
	assert_int_equal(truncate(path, 100), 0);
	fclose(stream);
	assert_false(sample_same(&sample, file, 0, 1));
	checkpoint_close(file);
	sample_deinit(&sample);
}

static void test_a_foreign_safetensors_file_is_told_apart(void **state)
{
	struct safetensors_tensor tensor = { "w", SAFETENSORS_F32, 0, NULL, 0, 4 };
	uint8_t bytes[512] = { 0 };
	size_t size;
	char *head;

	(void)state;
	assert_int_equal(safetensors_encode(&tensor, 1, NULL, 0, 1000, &head, &size, why, sizeof why), 0);
	memcpy(bytes, head, size);
	free(head);
	assert_int_equal(try(bytes, size + 4), OPTD_UNSUPPORTED);
	assert_non_null(strstr(why, "not a checkpoint of optd"));
}

static void test_links_and_pipes_are_not_followed(void **state)
{
	size_t size;
	char other[600];
	struct checkpoint_file *file;

	(void)state;
	free(small_file(&size));
	snprintf(other, sizeof other, "%s/link", dir);
	assert_int_equal(symlink(path, other), 0);
	assert_int_equal(checkpoint_open(other, &file, why, sizeof why), OPTD_IO);
	assert_non_null(strstr(why, "symbolic link"));
	snprintf(other, sizeof other, "%s/pipe", dir);
	assert_int_equal(mkfifo(other, 0600), 0);
	assert_int_equal(checkpoint_open(other, &file, why, sizeof why), OPTD_IO);
	assert_non_null(strstr(why, "not a regular file"));
	assert_int_equal(checkpoint_open(dir, &file, why, sizeof why), OPTD_IO);
	assert_int_equal(checkpoint_open("/nonexistent", &file, why, sizeof why), OPTD_IO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_flipped_bit_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_cut_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bytes_behind_the_end_are_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage_is_told_by_block_and_tensor, setup, teardown),
		cmocka_unit_test_setup_teardown(test_blocks_that_changed_places_are_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_file_that_changes_after_opening_is_not_served, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_foreign_safetensors_file_is_told_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_and_pipes_are_not_followed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
