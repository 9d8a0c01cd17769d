/* The data directory: one daemon at a time, an epoch for each of its lives. */
#include "server/disk/datadir.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/status.h"
#include "tests/disk/sample.h"

static char dir[64], why[512], file[128];

static int setup(void **state)
{
	(void)state;
	sample_dir(dir);
	snprintf(file, sizeof file, "%s/meta", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sample_dir_remove(dir);
	return 0;
}

static struct datadir *opened(const char *path)
{
	struct datadir *datadir;
	int rc = datadir_open(path, &datadir, why, sizeof why);

	if (rc < 0)
		fail_msg("%s: %s", status_name(rc), why);
	return datadir;
}

static void write_meta(const char *bytes, size_t size)
{
	FILE *stream = fopen(file, "wb");

	assert_non_null(stream);
	assert_int_equal(fwrite(bytes, 1, size, stream), size);
	fclose(stream);
}

static void test_the_epoch_rises_and_the_id_stays(void **state)
{
	uint64_t id = 0;

	(void)state;
	for (uint64_t epoch = 1; epoch <= 3; epoch++) {
		struct datadir *datadir = opened(dir);
		assert_int_equal(datadir_epoch(datadir), epoch);
		assert_true(epoch == 1 || datadir_id(datadir) == id);
		id = datadir_id(datadir);
		assert_int_not_equal(id, 0);
		datadir_close(datadir);
	}
}

/* The epoch is on the disk before open returns: the next life, whatever became
 * of this one, has a higher one. */
static void test_a_killed_daemons_epoch_is_not_used_again(void **state)
{
	struct datadir *datadir;
	int status;
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	if (child == 0) {
		if (datadir_open(dir, &datadir, why, sizeof why) == 0)
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	datadir = opened(dir);
	assert_int_equal(datadir_epoch(datadir), 2);
	datadir_close(datadir);
}

static void test_two_directories_have_two_ids(void **state)
{
	char one[96], two[96];
	struct datadir *a, *b;

	(void)state;
	snprintf(one, sizeof one, "%s/one", dir);
	snprintf(two, sizeof two, "%s/two", dir);
	a = opened(one);
	b = opened(two);
	assert_int_not_equal(datadir_id(a), datadir_id(b));
	datadir_close(a);
	datadir_close(b);
}

static void test_a_held_directory_names_its_holder(void **state)
{
	struct datadir *datadir = opened(dir), *second = NULL;
	char pid[32];

	(void)state;
	assert_int_equal(datadir_open(dir, &second, why, sizeof why), OPTD_BUSY);
	snprintf(pid, sizeof pid, "process %ld", (long)getpid());
	assert_non_null(strstr(why, pid));
	assert_null(second);
	datadir_close(datadir);
	datadir = opened(dir);
	assert_int_equal(datadir_epoch(datadir), 2); /* the refused one took none */
	datadir_close(datadir);
}

static void test_missing_parents_are_made_for_the_owner(void **state)
{
	char path[96];
	struct stat info;

	(void)state;
	snprintf(path, sizeof path, "%s/a/b//c/", dir);
	datadir_close(opened(path));
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0700);
	strcat(path, "models");
	assert_int_equal(stat(path, &info), 0);
}

static void test_a_damaged_meta_is_refused(void **state)
{
	struct datadir *datadir = NULL;
	uint8_t *good;
	size_t size;

	(void)state;
	datadir_close(opened(dir));
	good = sample_bytes(file, &size);
	for (size_t cut = 0; cut < size; cut++) {
		write_meta((const char *)good, cut);
		assert_int_equal(datadir_open(dir, &datadir, why, sizeof why), OPTD_CORRUPT);
		assert_non_null(strstr(why, "meta' is damaged"));
	}
	write_meta("optd 2\ndaemon 1\n", 16);
	assert_int_equal(datadir_open(dir, &datadir, why, sizeof why), OPTD_CORRUPT);
	write_meta("optd 1\ndaemon 0000000000000000\nepoch 1\nend\n", 43);
	assert_int_equal(datadir_open(dir, &datadir, why, sizeof why), OPTD_CORRUPT);
	assert_null(datadir);
	free(good);
}

static void test_a_full_disk_leaves_meta_as_it_was(void **state)
{
	struct datadir *datadir = NULL;
	struct rlimit limit;
	int rc;

	(void)state;
	datadir_close(opened(dir));
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = 8;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	rc = datadir_open(dir, &datadir, why, sizeof why);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(rc, OPTD_IO);
	datadir = opened(dir);
	assert_int_equal(datadir_epoch(datadir), 2);
	datadir_close(datadir);
}

static void test_an_interrupted_write_of_meta_does_no_harm(void **state)
{
	struct datadir *datadir;
	char path[96];
	FILE *stream;

	(void)state;
	snprintf(path, sizeof path, "%s/meta.tmp", dir);
	stream = fopen(path, "w");
	assert_non_null(stream);
	fclose(stream);
	datadir = opened(dir);
	assert_int_equal(datadir_epoch(datadir), 1);
	assert_int_equal(access(path, F_OK), -1);
	datadir_close(datadir);
}

static void test_links_inside_are_refused(void **state)
{
	static const char *const names[] = { "LOCK", "meta", "models" };
	struct datadir *datadir = NULL;
	char path[96];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		assert_int_equal(symlink("/tmp", path), 0);
		assert_int_equal(datadir_open(dir, &datadir, why, sizeof why), OPTD_IO);
		assert_int_equal(unlink(path), 0);
	}
}

static void test_a_path_that_cannot_be_made_is_told(void **state)
{
	struct datadir *datadir;

	(void)state;
	assert_int_equal(datadir_open("/dev/null/optd", &datadir, why, sizeof why), OPTD_IO);
	assert_non_null(strstr(why, "'/dev/null/optd'"));
	assert_int_equal(datadir_open("", &datadir, why, sizeof why), OPTD_INVALID);
}

/* root may do anything, so the test becomes somebody else for the call. */
static void test_a_directory_of_somebody_else_is_denied(void **state)
{
	struct datadir *datadir = NULL;
	char path[96];
	int made, held;

	(void)state;
	datadir_close(opened(dir));
	assert_int_equal(chmod(dir, 0500), 0);
	assert_int_equal(getuid() == 0 ? seteuid(65534) : 0, 0);
	snprintf(path, sizeof path, "%s/within", dir);
	made = datadir_open(path, &datadir, why, sizeof why);
	held = datadir_open(dir, &datadir, why, sizeof why);
	assert_int_equal(getuid() == 0 ? seteuid(0) : 0, 0);
	assert_int_equal(chmod(dir, 0700), 0);
	assert_int_equal(made, OPTD_DENIED);
	assert_int_equal(held, OPTD_DENIED);
	assert_non_null(strstr(why, "Permission denied"));
	assert_null(datadir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_epoch_rises_and_the_id_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_killed_daemons_epoch_is_not_used_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_directories_have_two_ids, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_held_directory_names_its_holder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing_parents_are_made_for_the_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_damaged_meta_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_full_disk_leaves_meta_as_it_was, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_interrupted_write_of_meta_does_no_harm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_inside_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_path_that_cannot_be_made_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_directory_of_somebody_else_is_denied, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
