/*
 * optctl as a program: exit codes, what reaches the terminal, and how soon.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/wait.h>

#include "client/link.h"

#include "tests/support/fake_daemon.h"

/* Runs optctl through a shell with both outputs in `out`; returns its exit code. */
static int optctl(const char *arguments, char *out, size_t out_bytes)
{
	char command[2048];
	const char *program = getenv("OPTCTL_BIN");
	snprintf(command, sizeof(command), "%s %s 2>&1", program ? program : "build/release/optctl",
	         arguments);
	FILE *pipe = popen(command, "r");
	assert_non_null(pipe);
	size_t n = fread(out, 1, out_bytes - 1, pipe);
	out[n] = '\0';
	int status = pclose(pipe);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_a_refused_connection_fails_at_once(void **state)
{
	char out[2048];
	uint64_t before = hub_now_ms();
	(void)state;
	assert_int_equal(optctl("-s tcp://127.0.0.1:1 -t 60 status", out, sizeof(out)), 69);
	assert_non_null(strstr(out, "Connection refused"));
	/* Of sixty seconds. */
	assert_true(hub_now_ms() - before < 10000);
}

static void test_controls_and_bad_utf8_in_names_do_not_reach_the_terminal(void **state)
{
	struct fake_daemon daemon;
	char arguments[1024], out[2048];
	(void)state;
	fake_daemon_start(&daemon, 5);
	snprintf(arguments, sizeof(arguments), "-s %s save 'a\nb\x1b[31m\x7f\xc2\x9bö'", daemon.endpoint);
	assert_int_equal(optctl(arguments, out, sizeof(out)), 0);
	assert_string_equal(out, "saved 'a\\x0ab\\x1b[31m\\x7f\\xc2\\x9bö'\n");
	snprintf(arguments, sizeof(arguments), "-s %s 'a\xff'", daemon.endpoint);
	assert_int_equal(optctl(arguments, out, sizeof(out)), 64);
	assert_non_null(strstr(out, ": a\\xff;"));
	fake_daemon_stop(&daemon);
}

static void test_what_is_misused_is_told_once_with_code_64(void **state)
{
	static const char *const misused[] = {
		"--server foo status", "status --yes", "save --json", "-z", "--bogus", "status -s", "export m",
	};
	char out[2048];
	(void)state;
	for (size_t i = 0; i < sizeof(misused) / sizeof(*misused); i++) {
		assert_int_equal(optctl(misused[i], out, sizeof(out)), 64);
		assert_memory_equal(out, "optctl: ", 8);
		assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_refused_connection_fails_at_once),
		cmocka_unit_test(test_controls_and_bad_utf8_in_names_do_not_reach_the_terminal),
		cmocka_unit_test(test_what_is_misused_is_told_once_with_code_64),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
