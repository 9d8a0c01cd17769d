/* Files while descriptors are short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "server/disk/file.h"

#define DESCRIPTORS 64
/* When one is given back, by a timer: the calls under test wait and nothing else runs. */
#define FREE_US 20000

static int last_fd;

static void give_one_back(int signal)
{
	(void)signal;
	close(last_fd);
}

/* A directory of the test's own, and no descriptor left until the timer. */
struct fixture {
	char path[32];
	int dir;
	int fds[DESCRIPTORS], count;
	struct rlimit before;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct sigaction action = { .sa_handler = give_one_back };
	const struct itimerval timer = { .it_value.tv_usec = FREE_US };

	assert_non_null(fixture);
	*state = fixture;
	strcpy(fixture->path, "/tmp/test_file.XXXXXX");
	assert_non_null(mkdtemp(fixture->path));
	fixture->dir = open(fixture->path, O_RDONLY | O_DIRECTORY);
	assert_true(fixture->dir >= 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &fixture->before), 0);
	const struct rlimit few = { DESCRIPTORS, fixture->before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while ((last_fd = dup(fixture->dir)) >= 0)
		fixture->fds[fixture->count++] = last_fd;
	assert_int_equal(errno, EMFILE);
	last_fd = fixture->fds[--fixture->count];
	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	for (int i = 0; i < fixture->count; i++)
		close(fixture->fds[i]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &fixture->before), 0);
	unlinkat(fixture->dir, "new", 0);
	close(fixture->dir);
	rmdir(fixture->path);
	free(fixture);
	return 0;
}

static void test_a_new_file_waits_for_a_descriptor(void **state)
{
	struct fixture *fixture = *state;
	char why[256] = "";
	int fd = file_create(fixture->dir, "new", why, sizeof(why));

	if (fd < 0)
		fail_msg("%s", why);
	close(fd);
}

static void test_a_directory_waits_for_a_descriptor(void **state)
{
	struct fixture *fixture = *state;
	char why[256] = "";
	int fd = dir_open(AT_FDCWD, fixture->path, 0, why, sizeof(why));

	if (fd < 0)
		fail_msg("%s", why);
	close(fd);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_new_file_waits_for_a_descriptor),
		TEST(test_a_directory_waits_for_a_descriptor),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
