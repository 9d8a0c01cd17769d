/*
 * Options: the command line, what it prints and the status it ends with.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/options.h"

static struct options options;
static char *out, *err;
static int code;

#define RUN(...) run((const char *const[]){ "optd", __VA_ARGS__, NULL })

/* Parses a command line, and keeps what it printed in out and err. */
static bool run(const char *const *words)
{
	size_t out_bytes, err_bytes;
	FILE *out_file, *err_file;
	char *argv[16];
	int argc = 0;
	bool go;

	free(out);
	free(err);
	out_file = open_memstream(&out, &out_bytes);
	err_file = open_memstream(&err, &err_bytes);
	assert_true(out_file && err_file);
	for (; words[argc]; argc++)
		argv[argc] = (char *)(uintptr_t)words[argc];
	argv[argc] = NULL;
	go = options_parse(argc, argv, out_file, err_file, &options, &code);
	fclose(out_file);
	fclose(err_file);
	return go;
}

static int forget(void **state)
{
	(void)state;
	free(out);
	free(err);
	out = err = NULL;
	return 0;
}

/* A file with this text; its path is good until the next call. */
static const char *file_with(const char *text)
{
	static char path[64];
	int fd;

	strcpy(path, "/tmp/optd-test-options-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	return path;
}

static void refused(int status, const char *what)
{
	assert_int_equal(code, status);
	assert_string_equal(out, "");
	if (!strstr(err, what))
		fail_msg("wanted \"%s\", got \"%s\"", what, err);
	assert_ptr_equal(strchr(err, '\n'), err + strlen(err) - 1);
}

static void test_no_arguments_run_with_defaults(void **state)
{
	(void)state;
	assert_true(run((const char *const[]){ "optd", NULL }));
	assert_string_equal(options.config.listen.text[0], "tcp://127.0.0.1:16783");
	assert_int_equal(options.isa, optim_isa_best());
	assert_string_equal(out, "");
	assert_string_equal(err, "");
}

static void test_help_names_every_option(void **state)
{
	static const char *const names[] = { "--config",  "--check-config", "--print-config",
		                             "--version", "--help",         "--listen",
		                             "--lanes",   "--data-dir",     "--log-level",
		                             "--isa" };

	(void)state;
	assert_false(RUN("--help"));
	assert_int_equal(code, 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_non_null(strstr(out, names[i]));
	for (char *line = strtok(out, "\n"); line; line = strtok(NULL, "\n"))
		assert_true(strlen(line) <= 80);
}

static void test_version_is_the_client_librarys(void **state)
{
	char line[256], wanted[64];
	FILE *file = fopen("client/optd.h", "r");
	bool same = false;

	(void)state;
	assert_non_null(file);
	snprintf(wanted, sizeof(wanted), "#define OPTD_VERSION \"%s\"\n", OPTIONS_VERSION);
	while (fgets(line, sizeof(line), file))
		same |= strcmp(line, wanted) == 0;
	fclose(file);
	assert_true(same);
	assert_false(RUN("--version"));
	assert_int_equal(code, 0);
	assert_ptr_equal(strstr(out, "optd " OPTIONS_VERSION "\n"), out);
}

static void test_wrong_command_lines_end_with_64(void **state)
{
	(void)state;
	assert_false(RUN("--lines", "3"));
	refused(EXIT_USAGE, "unknown option --lines; the nearest is --lanes");
	assert_false(RUN("--bogus=7"));
	refused(EXIT_USAGE, "unknown option --bogus=7; optd --help lists");
	assert_false(RUN("--l", "3"));
	refused(EXIT_USAGE, "--l: there are several options that begin so");
	assert_false(RUN("-x"));
	refused(EXIT_USAGE, "unknown option -x");
	assert_false(RUN("--config"));
	refused(EXIT_USAGE, "--config needs a value");
	assert_false(RUN("optd.yaml"));
	refused(EXIT_USAGE,
	        "unexpected argument \"optd.yaml\" (a configuration is named with --config)");
	assert_false(RUN("-c", "a", "-c", "b"));
	refused(EXIT_USAGE, "--config is given twice");
	assert_false(RUN("--lanes", "1", "--lanes", "2"));
	refused(EXIT_USAGE, "--lanes is given more than 1 time");
	assert_false(RUN("--lanes", "65"));
	refused(EXIT_USAGE, "optd: --lanes: \"65\" is out of range; allowed: a whole number");
	assert_false(RUN("--log-level", "all"));
	refused(EXIT_USAGE, "optd: --log-level: \"all\" is not");
	assert_false(RUN("--help=3"));
	refused(EXIT_USAGE, "--help=3: this option takes no value");
	assert_false(RUN("--listen", "tcp://0.0.0.0:0"));
	refused(EXIT_USAGE, "command line: listen: tcp://0.0.0.0:0 can be reached");
	assert_false(RUN("--data-dir", "~nobody/x"));
	refused(EXIT_USAGE, "command line: data_dir: \"~nobody/x\" begins with ~");
}

static void test_wrong_configurations_end_with_78(void **state)
{
	const char *path = file_with("lanes: 1\nlistn: x\n");

	(void)state;
	assert_false(RUN("--config", path));
	unlink(path);
	refused(EXIT_BAD_CONFIG, ":2: unknown key \"listn\"; the nearest is \"listen\"");
	assert_ptr_equal(strstr(err, path), err + strlen("optd: "));
	assert_false(RUN("--config", "/nonexistent.yaml"));
	refused(EXIT_BAD_CONFIG, "/nonexistent.yaml: cannot be read");
}

static void test_command_line_wins_over_the_file(void **state)
{
	const char *path = file_with(
		"listen: tcp://127.0.0.1:1\nlanes: 1\ndata_dir: /a\nlog: {level: warn}\n");
	bool go = RUN("--listen", "tcp://127.0.0.1:0", "--listen=ipc:///tmp/x", "--lanes", "3",
	              "--data-dir", "/b", "--log-level", "error", "-c", path);

	(void)state;
	unlink(path);
	assert_true(go);
	assert_int_equal(options.config.listen.count, 2);
	assert_string_equal(options.config.listen.text[1], "ipc:///tmp/x");
	assert_int_equal(options.config.lanes, 3);
	assert_string_equal(options.config.data_dir, "/b");
	assert_int_equal(options.config.log_level, LOG_ERROR);
}

static void test_isa_can_be_forced(void **state)
{
	(void)state;
	assert_true(RUN("--isa", "base"));
	assert_int_equal(options.isa, OPTIM_ISA_BASE);
	assert_true(options.isa_forced);
	assert_false(RUN("--isa", "mmx"));
	refused(EXIT_USAGE, "--isa mmx: is not known; this machine can use: base");
}

static void test_check_says_ok_and_what_memory_it_means(void **state)
{
	const char *path = file_with(
		"models:\n- {name: m, optimizer: adam, mode: sync, workers: 2}\n"
		"- {name: n, mode: async}\n");
	char wanted[96];

	(void)state;
	assert_false(RUN("--check-config", "--config", path));
	unlink(path);
	assert_int_equal(code, 0);
	snprintf(wanted, sizeof(wanted), "%s: ok\n", path);
	assert_ptr_equal(strstr(out, wanted), out);
	assert_non_null(strstr(out, "parameters x 12 bytes: weights and 2 state vectors (adam)"));
	assert_non_null(strstr(out, "parameters x 4 bytes: the step being collected (sync)"));
	assert_non_null(strstr(out, "32MiB under way: 2 workers x the window of 16MiB"));
	assert_non_null(strstr(out, "answers that readers have not read: what the models leave, at least 32MiB"));
	assert_non_null(strstr(out, "parameters x (1 + state vectors) x 4 bytes"));
}

static void test_check_refuses_what_a_start_would_refuse(void **state)
{
	const char *path = file_with("limits: {window: 1MiB}\n");

	(void)state;
	assert_false(RUN("--check-config", "--config", path));
	unlink(path);
	refused(EXIT_BAD_CONFIG, ":1: limits.window: 1MiB holds less than two messages");
}

static void test_print_shows_what_the_command_line_changed(void **state)
{
	(void)state;
	assert_false(RUN("--print-config", "--lanes", "7"));
	assert_int_equal(code, 0);
	assert_non_null(strstr(out, "\nlanes: 7\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_arguments_run_with_defaults),
		cmocka_unit_test(test_help_names_every_option),
		cmocka_unit_test(test_version_is_the_client_librarys),
		cmocka_unit_test(test_wrong_command_lines_end_with_64),
		cmocka_unit_test(test_wrong_configurations_end_with_78),
		cmocka_unit_test(test_command_line_wins_over_the_file),
		cmocka_unit_test(test_isa_can_be_forced),
		cmocka_unit_test(test_check_says_ok_and_what_memory_it_means),
		cmocka_unit_test(test_check_refuses_what_a_start_would_refuse),
		cmocka_unit_test(test_print_shows_what_the_command_line_changed),
	};

	return cmocka_run_group_tests(tests, NULL, forget);
}
