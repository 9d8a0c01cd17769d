/*
 * optctl as a program: exit codes, what reaches the terminal, and how soon.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "client/link.h"

#include "tests/support/fake_daemon.h"
#include "tests/support/optctl_process.h"

static void test_a_refused_connection_fails_at_once(void **state)
{
	char out[2048];
	uint64_t before = hub_now_ms();
	(void)state;
	assert_int_equal(optctl_run(out, sizeof(out), "-s tcp://127.0.0.1:1 -t 60 status"), 69);
	assert_non_null(strstr(out, "Connection refused"));
	/* Of sixty seconds. */
	assert_true(hub_now_ms() - before < 10000);
}

static void test_controls_and_bad_utf8_in_names_do_not_reach_the_terminal(void **state)
{
	struct fake_daemon daemon;
	char out[2048];
	(void)state;
	fake_daemon_start(&daemon, 5);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s save 'a\nb\x1b[31m\x7f\xc2\x9bö'",
	                            daemon.endpoint), 0);
	assert_string_equal(out, "saved 'a\\x0ab\\x1b[31m\\x7f\\xc2\\x9bö'\n");
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s 'a\xff'", daemon.endpoint), 64);
	assert_non_null(strstr(out, ": a\\xff;"));
	fake_daemon_stop(&daemon);
}

static void test_what_is_misused_is_told_once_with_code_64(void **state)
{
	static const char *const misused[] = {
		"--server foo status", "status --yes", "save --json", "-z", "--bogus", "status -s", "export m",
		"set m lr=0.1 --group ''", "-s tcp://127.0.0.1:1 set m lr=abc", "-s tcp://127.0.0.1:1 set m lr",
	};
	char out[2048];
	(void)state;
	for (size_t i = 0; i < sizeof(misused) / sizeof(*misused); i++) {
		assert_int_equal(optctl_run(out, sizeof(out), "%s", misused[i]), 64);
		assert_memory_equal(out, "optctl: ", 8);
		assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
	}
}

static void test_what_is_misspelt_or_missing_is_named(void **state)
{
	static const struct {
		const char *arguments, *said;
	} wrong[] = {
		{"set --form 5 m lr=1", "optctl: there is no such option: --form; the nearest is --from; try optctl --help\n"},
		{"set --form=5 m lr=1", "optctl: there is no such option: --form; the nearest is --from; try optctl --help\n"},
		{"status --xylophone", "optctl: there is no such option: --xylophone; try optctl --help\n"},
		{"status --json=1", "optctl: the option takes no value: --json; try optctl --help\n"},
		{"stauts", "optctl: there is no such command: stauts; the nearest is status; try optctl --help\n"},
		{"export", "optctl: MODEL is missing after: export; try optctl --help\n"},
		{"export m", "optctl: FILE.safetensors is missing after: m; try optctl --help\n"},
		{"set m", "optctl: NAME=VALUE is missing after: m; try optctl --help\n"},
		{"drop --yes", "optctl: MODEL is missing after: drop; try optctl --help\n"},
	};
	char out[2048];
	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		assert_int_equal(optctl_run(out, sizeof(out), "%s", wrong[i].arguments), 64);
		assert_string_equal(out, wrong[i].said);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_refused_connection_fails_at_once),
		cmocka_unit_test(test_controls_and_bad_utf8_in_names_do_not_reach_the_terminal),
		cmocka_unit_test(test_what_is_misused_is_told_once_with_code_64),
		cmocka_unit_test(test_what_is_misspelt_or_missing_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
