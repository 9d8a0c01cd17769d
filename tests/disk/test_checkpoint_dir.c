/* The directory of checkpoints: names, what is there, and disks that are full. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/status.h"
#include "server/disk/checkpoint.h"
#include "tests/disk/sample.h"

static char dir[64], why[512], path[512], temporary[520];
static struct sample sample;

static int setup(void **state)
{
	(void)state;
	sample_dir(dir);
	sample_small(&sample, 1);
	sample_path(&sample, dir, path);
	snprintf(temporary, sizeof temporary, "%s.tmp", path);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sample_deinit(&sample);
	sample_dir_remove(dir);
	return 0;
}

/* Files of this process may not grow beyond so many bytes. */
static void limit_files(rlim_t bytes)
{
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void assert_old_file_is_whole(void)
{
	struct checkpoint_file *file;

	assert_int_equal(access(temporary, F_OK), -1);
	assert_int_equal(checkpoint_open(path, &file, why, sizeof why), 0);
	assert_true(sample_same(&sample, file, 0, 1));
	checkpoint_close(file);
}

static void test_no_room_at_the_beginning_keeps_the_old_file(void **state)
{
	int rc;

	(void)state;
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
	limit_files(100);
	rc = sample_write(&sample, dir, why, sizeof why);
	limit_files(RLIM_INFINITY);
	assert_int_equal(rc, OPTD_IO);
	assert_non_null(strstr(why, "File too large"));
	assert_old_file_is_whole();
}

/* Writes a second time, the file being limited from `stage` on: before put, or
 * before commit. */
static int write_limited(int stage, rlim_t bytes)
{
	struct checkpoint_writer *writer;
	const float *slots[OPTIM_SLOTS_MAX];
	const uint64_t *seen[16];
	struct checkpoint_part part = sample_part(&sample, 0, 1, slots, seen);
	int rc;

	assert_int_equal(checkpoint_begin(dir, &sample.about, &writer, why, sizeof why), 0);
	if (stage == 0)
		limit_files(bytes);
	rc = checkpoint_put(writer, &part, why, sizeof why);
	if (stage == 1)
		limit_files(bytes);
	if (rc == OPTD_OK)
		rc = checkpoint_commit(&writer, why, sizeof why);
	else
		checkpoint_abandon(&writer);
	limit_files(RLIM_INFINITY);
	return rc;
}

static void test_no_room_at_any_later_byte_keeps_the_old_file(void **state)
{
	struct stat info;

	(void)state;
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
	assert_int_equal(stat(path, &info), 0);
	for (rlim_t bytes = 0; bytes < (rlim_t)info.st_size; bytes += 7) {
		assert_int_equal(write_limited(0, bytes), OPTD_IO);
		assert_old_file_is_whole();
		assert_int_equal(write_limited(1, bytes), OPTD_IO);
		assert_old_file_is_whole();
	}
	assert_int_equal(write_limited(0, (rlim_t)info.st_size), OPTD_OK);
}

static void test_a_new_file_replaces_the_old_one(void **state)
{
	(void)state;
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
	sample.weights[3] = 42.0f;
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
	assert_old_file_is_whole();
}

static void test_files_are_for_the_owner_only(void **state)
{
	struct stat info;

	(void)state;
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	*strrchr(path, '/') = '\0';
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0700);
}

static void test_a_model_is_saved_by_one_at_a_time(void **state)
{
	struct checkpoint_writer *writer;

	(void)state;
	assert_int_equal(checkpoint_begin(dir, &sample.about, &writer, why, sizeof why), 0);
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), OPTD_BUSY);
	assert_int_equal(access(temporary, F_OK), 0);
	checkpoint_abandon(&writer);
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
}

static void test_a_link_in_the_directorys_place_is_refused(void **state)
{
	char other[600];

	(void)state;
	snprintf(other, sizeof other, "%s/models", dir);
	assert_int_equal(symlink("/tmp", other), 0);
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), OPTD_IO);
	assert_int_equal(unlink(other), 0);
}

/* A link in the temporary file's place must not be written through. */
static void test_a_link_in_the_files_place_is_refused(void **state)
{
	char victim[600];

	(void)state;
	snprintf(victim, sizeof victim, "%s/victim", dir);
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
	assert_int_equal(symlink(victim, temporary), 0);
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), OPTD_BUSY);
	assert_int_equal(access(victim, F_OK), -1);
}

/* What checkpoint_list told: "F name" and "L name" lines. */
static int note(void *context, enum checkpoint_entry entry, const char *file)
{
	char *text = context;

	strcat(text, entry == CHECKPOINT_FOUND ? "F" : "L");
	strcat(text, strrchr(file, '/'));
	return 0;
}

static void touch(const char *name)
{
	char file[600];
	FILE *stream;

	snprintf(file, sizeof file, "%s/models/%s", dir, name);
	stream = fopen(file, "w");
	assert_non_null(stream);
	fclose(stream);
}

static void test_leftovers_are_removed_and_told(void **state)
{
	char text[1000] = "";

	(void)state;
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
	touch("mnist.safetensors.tmp");
	touch("a.safetensors");
	touch("notes.txt");
	assert_int_equal(checkpoint_list(dir, note, text, why, sizeof why), 0);
	assert_string_equal(text, "F/a.safetensorsF/mnist.safetensorsL/mnist.safetensors.tmp");
	assert_int_equal(access(temporary, F_OK), -1);
	text[0] = '\0';
	assert_int_equal(checkpoint_list(dir, note, text, why, sizeof why), 0);
	assert_string_equal(text, "F/a.safetensorsF/mnist.safetensors");
}

static void test_an_empty_directory_lists_nothing(void **state)
{
	char text[1000] = "";

	(void)state;
	assert_int_equal(checkpoint_list(dir, note, text, why, sizeof why), 0);
	assert_string_equal(text, "");
	assert_int_equal(checkpoint_list("/nonexistent", note, text, why, sizeof why), OPTD_IO);
}

static void test_a_removed_model_is_gone(void **state)
{
	(void)state;
	assert_int_equal(checkpoint_remove(dir, "mnist", why, sizeof why), 0);
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
	assert_int_equal(checkpoint_remove(dir, "mnist", why, sizeof why), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(checkpoint_remove(dir, "mnist", why, sizeof why), 0);
}

static void assert_name(const char *model, const char *expected)
{
	char name[CHECKPOINT_NAME_BYTES];

	checkpoint_name(model, name);
	assert_string_equal(name, expected);
}

static void test_names_are_never_paths(void **state)
{
	(void)state;
	assert_name("resnet-50_v1.5", "resnet-50_v1.5.safetensors");
	assert_name("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd.safetensors");
	assert_name(".", "%2E.safetensors");
	assert_name("a%2Fb", "a%252Fb.safetensors");
	assert_name("caf\xc3\xa9 \n", "caf%C3%A9%20%0A.safetensors");
}

static void test_long_names_differ_and_fit_a_file_system(void **state)
{
	char model[LIMIT_NAME_BYTES], one[CHECKPOINT_NAME_BYTES], two[CHECKPOINT_NAME_BYTES];
	struct checkpoint_file *file;

	(void)state;
	memset(model, '/', sizeof model - 1);
	model[sizeof model - 1] = '\0';
	checkpoint_name(model, one);
	model[sizeof model - 2] = 'x';
	checkpoint_name(model, two);
	assert_string_not_equal(one, two);
	assert_true(strlen(one) + strlen(".tmp") <= 255);
	sample.about.model = model;
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), 0);
	sample_path(&sample, dir, path);
	assert_int_equal(checkpoint_open(path, &file, why, sizeof why), 0);
	assert_string_equal(checkpoint_about(file)->model, model);
	checkpoint_close(file);
}

static void test_a_model_without_a_name_is_refused(void **state)
{
	(void)state;
	sample.about.model = "";
	assert_int_equal(sample_write(&sample, dir, why, sizeof why), OPTD_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_room_at_the_beginning_keeps_the_old_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_room_at_any_later_byte_keeps_the_old_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_new_file_replaces_the_old_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files_are_for_the_owner_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_model_is_saved_by_one_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_link_in_the_directorys_place_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_link_in_the_files_place_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leftovers_are_removed_and_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_empty_directory_lists_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_removed_model_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_are_never_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_names_differ_and_fit_a_file_system, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_model_without_a_name_is_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
