/*
 * optd as an operator meets it: how it starts and why it does not, what its
 * signals do, and what is on the disk afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/speak.h"
#include "tests/e2e/worker.h"
#include "client/optd.h"
#include "tests/support/daemon_process.h"

#define EXIT_USAGE 64
#define EXIT_SYSTEM 71
#define EXIT_DATA_DIR 73
#define EXIT_STORAGE 74
#define EXIT_PERMISSIONS 77
#define EXIT_BAD_CONFIG 78

struct fixture {
	struct daemon_process first, second;
	struct worker worker;
	bool working;
	char config[96]; /* a file of the first one's directory */
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->first);
	daemon_init(&fixture->second);
	snprintf(fixture->config, sizeof(fixture->config), "%s/optd.yaml", fixture->first.directory);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	if (fixture->working)
		worker_stop(&fixture->worker);
	daemon_deinit(&fixture->first);
	daemon_deinit(&fixture->second);
	free(fixture);
	return 0;
}

static void write_config(const struct fixture *fixture, const char *text)
{
	FILE *file = fopen(fixture->config, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void assert_logged(const struct daemon_process *daemon, const char *text)
{
	char *log = daemon_log_text(daemon);
	if (strstr(log, text) == NULL)
		fail_msg("\"%s\" is not in: %s", text, log);
	free(log);
}

/* Starts it with arguments that it must refuse. */
static void assert_refused(struct daemon_process *daemon, const char *const *arguments, int code)
{
	assert_false(daemon_start_with(daemon, arguments));
	if (daemon->exit_code != code) {
		char *log = daemon_log_text(daemon);
		print_error("%s", log);
		free(log);
	}
	assert_int_equal(daemon->exit_code, code);
	assert_null(strstr(daemon->said, "READY"));
}

/* The path of the one file that matches, or "" */
static void find_checkpoint(const struct daemon_process *daemon, char path[256])
{
	char pattern[128];
	glob_t found;

	path[0] = '\0';
	snprintf(pattern, sizeof(pattern), "%s/models/*.safetensors", daemon->data);
	if (glob(pattern, 0, NULL, &found) == 0) {
		assert_int_equal(found.gl_pathc, 1);
		snprintf(path, 256, "%s", found.gl_pathv[0]);
	}
	globfree(&found);
}

/* A daemon that trains. */
static void start_training(struct fixture *fixture)
{
	daemon_start_tcp(&fixture->first, 1);
	worker_start(&fixture->worker, fixture->first.endpoints[0]);
	fixture->working = true;
}

static void stop_training(struct fixture *fixture)
{
	worker_stop(&fixture->worker);
	fixture->working = false;
}

/* ---- command line and config -------------------------------------------- */

static void test_help_and_version_are_answered_without_starting(void **state)
{
	struct fixture *fixture = *state;
	static const char *const questions[] = { "--help", "--version" };

	for (int i = 0; i < 2; i++) {
		assert_refused(&fixture->first, (const char *[]){ questions[i], NULL }, 0);
		assert_non_null(strstr(fixture->first.said, "optd"));
	}
	assert_int_not_equal(access(fixture->first.data, F_OK), 0);
}

static void test_an_unknown_option_is_a_usage_error(void **state)
{
	struct fixture *fixture = *state;

	assert_refused(&fixture->first, (const char *[]){ "--lane", "x", "--frobnicate", NULL },
	               EXIT_USAGE);
	assert_logged(&fixture->first, "optd --help");
}

static void test_a_bad_config_starts_nothing(void **state)
{
	struct fixture *fixture = *state;
	char place[128];

	write_config(fixture, "listen: tcp://127.0.0.1:0\nlanes: many\n");
	assert_refused(&fixture->first, (const char *[]){ "--config", fixture->config, NULL },
	               EXIT_BAD_CONFIG);
	snprintf(place, sizeof(place), "%s:2:", fixture->config);
	assert_logged(&fixture->first, place);
	assert_logged(&fixture->first, "many");
	assert_int_not_equal(access(fixture->first.data, F_OK), 0);
}

static void test_an_unknown_key_is_named_with_its_line(void **state)
{
	struct fixture *fixture = *state;
	char place[128];

	write_config(fixture, "listen: tcp://127.0.0.1:0\nlimits:\n  memry: 1GiB\n");
	assert_refused(&fixture->first, (const char *[]){ "--config", fixture->config, NULL },
	               EXIT_BAD_CONFIG);
	snprintf(place, sizeof(place), "%s:3:", fixture->config);
	assert_logged(&fixture->first, place);
	assert_logged(&fixture->first, "memry");
}

static void test_check_config_says_ok_and_starts_nothing(void **state)
{
	struct fixture *fixture = *state;

	write_config(fixture, "listen: tcp://127.0.0.1:0\nlimits: {memory: 1GiB}\n");
	assert_refused(&fixture->first,
	               (const char *[]){ "--config", fixture->config, "--check-config", NULL }, 0);
	assert_non_null(strstr(fixture->first.said, "ok"));
	assert_int_not_equal(access(fixture->first.data, F_OK), 0);
}

static void test_a_printed_config_is_a_config(void **state)
{
	struct fixture *fixture = *state;

	write_config(fixture, "listen: tcp://127.0.0.1:0\nstep_timeout: 7s\n");
	assert_refused(&fixture->first,
	               (const char *[]){ "--config", fixture->config, "--print-config", NULL }, 0);
	assert_non_null(strstr(fixture->first.said, "step_timeout"));
	char *printed = strdup(fixture->first.said);
	write_config(fixture, printed);
	free(printed);
	assert_refused(&fixture->first,
	               (const char *[]){ "--config", fixture->config, "--check-config", NULL }, 0);
}

/* ---- starting ----------------------------------------------------------- */

static void test_a_start_says_where_and_how_state_is_kept(void **state)
{
	struct fixture *fixture = *state;

	daemon_start_tcp(&fixture->first, 2);
	assert_non_null(strstr(fixture->first.said, "auth     off, loopback only"));
	assert_non_null(strstr(fixture->first.said, "memory"));
	assert_non_null(strstr(fixture->first.said, fixture->first.data));
	assert_string_not_equal(fixture->first.endpoints[0], fixture->first.endpoints[1]);
	assert_int_equal(daemon_stop(&fixture->first), 0);
}

static void test_a_port_in_use_names_address_holder_and_a_free_one(void **state)
{
	struct fixture *fixture = *state;
	char holder[64];

	daemon_start_tcp(&fixture->first, 1);
	assert_refused(&fixture->second,
	               (const char *[]){ "--listen", fixture->first.endpoints[0], NULL }, EXIT_SYSTEM);
	assert_logged(&fixture->second, fixture->first.endpoints[0]);
	snprintf(holder, sizeof(holder), "optd (pid %d) holds it", (int)fixture->first.pid);
	assert_logged(&fixture->second, holder);
	assert_logged(&fixture->second, "free is, for example, tcp://127.0.0.1:");
}

static void test_a_port_in_use_makes_no_data_directory(void **state)
{
	struct fixture *fixture = *state;

	daemon_start_tcp(&fixture->first, 1);
	assert_refused(&fixture->second,
	               (const char *[]){ "--listen", fixture->first.endpoints[0], NULL }, EXIT_SYSTEM);
	assert_int_not_equal(access(fixture->second.data, F_OK), 0);
}

static void test_a_second_lanes_port_in_use_leaves_an_empty_directory_empty(void **state)
{
	struct fixture *fixture = *state;

	daemon_start_tcp(&fixture->first, 1);
	assert_int_equal(mkdir(fixture->second.data, 0700), 0);
	assert_refused(&fixture->second,
	               (const char *[]){ "--listen", "tcp://127.0.0.1:0", "--listen",
	                                 fixture->first.endpoints[0], NULL },
	               EXIT_SYSTEM);
	assert_int_equal(rmdir(fixture->second.data), 0);
}

/* The second one must not get as far as binding: that takes the path of a socket
 * from under whoever listens there. */
static void test_the_same_daemon_twice_leaves_the_first_ones_socket_alone(void **state)
{
	struct fixture *fixture = *state;

	daemon_start_ipc(&fixture->first, 1);
	assert_refused(&fixture->second,
	               (const char *[]){ "--data-dir", fixture->first.data, "--listen",
	                                 fixture->first.endpoints[0], NULL },
	               EXIT_DATA_DIR);
	worker_start(&fixture->worker, fixture->first.endpoints[0]);
	fixture->working = true;
	stop_training(fixture);
}

static void test_a_socket_path_in_use_is_refused_and_stays_its_holders(void **state)
{
	struct fixture *fixture = *state;
	char holder[64];

	daemon_start_ipc(&fixture->first, 1);
	assert_refused(&fixture->second,
	               (const char *[]){ "--listen", fixture->first.endpoints[0], NULL }, EXIT_SYSTEM);
	snprintf(holder, sizeof(holder), "optd (pid %d) listens there", (int)fixture->first.pid);
	assert_logged(&fixture->second, fixture->first.endpoints[0]);
	assert_logged(&fixture->second, holder);
	worker_start(&fixture->worker, fixture->first.endpoints[0]);
	fixture->working = true;
	stop_training(fixture);
}

static void test_a_data_directory_in_use_names_its_holder(void **state)
{
	struct fixture *fixture = *state;
	char holder[32];

	daemon_start_tcp(&fixture->first, 1);
	assert_refused(&fixture->second,
	               (const char *[]){ "--data-dir", fixture->first.data, "--listen",
	                                 "tcp://127.0.0.1:0", NULL },
	               EXIT_DATA_DIR);
	snprintf(holder, sizeof(holder), "%d", (int)fixture->first.pid);
	assert_logged(&fixture->second, holder);
	assert_logged(&fixture->second, fixture->first.data);
}

static void test_listening_beyond_loopback_is_refused(void **state)
{
	struct fixture *fixture = *state;

	write_config(fixture, "listen: tcp://0.0.0.0:0\n");
	assert_refused(&fixture->first, (const char *[]){ "--config", fixture->config, NULL },
	               EXIT_BAD_CONFIG);
	assert_logged(&fixture->first, "insecure");
	assert_int_not_equal(access(fixture->first.data, F_OK), 0);
}

static void test_insecure_listens_beyond_loopback_and_says_so(void **state)
{
	struct fixture *fixture = *state;

	write_config(fixture, "listen: tcp://0.0.0.0:0\nsecurity: {insecure: true}\n");
	assert_true(daemon_start_with(&fixture->first,
	                              (const char *[]){ "--config", fixture->config, NULL }));
	assert_non_null(strstr(fixture->first.said, "INSECURE"));
	assert_int_equal(daemon_stop(&fixture->first), 0);
}

/* ---- signals ------------------------------------------------------------ */

static void test_usr1_writes_checkpoints_and_training_goes_on(void **state)
{
	struct fixture *fixture = *state;
	char path[256];

	start_training(fixture);
	daemon_signal(&fixture->first, SIGUSR1);
	assert_true(daemon_wait_log(&fixture->first, "event=checkpoint", 1));
	find_checkpoint(&fixture->first, path);
	assert_string_not_equal(path, "");
	worker_wait(&fixture->worker, 5);
	stop_training(fixture);
}

static void look_saved(void *user, const optd_status_row *row)
{
	uint64_t *rows = user;

	++*rows;
	assert_true(row->version > 0);
	assert_int_equal(row->saved_version, row->version);
}

/* The daemon knows that what it has restored is on the disk. */
static void assert_saved(const struct daemon_process *daemon)
{
	const optd_options reader = { .rank = -1, .timeout_ms = DAEMON_DEADLINE_MS };
	optd_client *client;
	uint64_t rows = 0;

	assert_int_equal(optd_connect(daemon->endpoints[0], &reader, &client), OPTD_OK);
	assert_int_equal(optd_get_status(client, look_saved, &rows), OPTD_OK);
	assert_int_equal(rows, 1);
	optd_close(&client);
}

static void check_end(struct fixture *fixture, int signal_number)
{
	char path[256];

	start_training(fixture);
	stop_training(fixture);
	daemon_signal(&fixture->first, signal_number);
	assert_int_equal(daemon_wait(&fixture->first), 0);
	find_checkpoint(&fixture->first, path);
	assert_string_not_equal(path, "");
	daemon_restart(&fixture->first, 1);
	assert_logged(&fixture->first, "event=restored");
	assert_saved(&fixture->first);
	assert_int_equal(daemon_stop(&fixture->first), 0);
}

static void test_term_saves_what_the_next_start_restores(void **state)
{
	check_end(*state, SIGTERM);
}

static void test_int_saves_what_the_next_start_restores(void **state)
{
	check_end(*state, SIGINT);
}

/* ---- damaged state ------------------------------------------------------ */

static void test_a_damaged_checkpoint_is_refused_by_name(void **state)
{
	struct fixture *fixture = *state;
	char path[256];
	unsigned char byte;

	start_training(fixture);
	stop_training(fixture);
	assert_int_equal(daemon_stop(&fixture->first), 0);
	find_checkpoint(&fixture->first, path);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	off_t middle = lseek(fd, 0, SEEK_END) / 2;
	assert_int_equal(pread(fd, &byte, 1, middle), 1);
	byte ^= 0x40;
	assert_int_equal(pwrite(fd, &byte, 1, middle), 1);
	close(fd);
	assert_refused(&fixture->first, (const char *[]){ "--listen", "tcp://127.0.0.1:0", NULL },
	               EXIT_STORAGE);
	assert_logged(&fixture->first, path);
}

static void test_a_truncated_checkpoint_is_refused_by_name(void **state)
{
	struct fixture *fixture = *state;
	struct stat about;
	char path[256];

	start_training(fixture);
	stop_training(fixture);
	assert_int_equal(daemon_stop(&fixture->first), 0);
	find_checkpoint(&fixture->first, path);
	assert_int_equal(stat(path, &about), 0);
	assert_int_equal(truncate(path, about.st_size - 1), 0);
	assert_refused(&fixture->first, (const char *[]){ "--listen", "tcp://127.0.0.1:0", NULL },
	               EXIT_STORAGE);
	assert_logged(&fixture->first, path);
}

static void test_a_checkpoint_that_may_not_be_read_is_a_matter_of_permission(void **state)
{
	struct fixture *fixture = *state;
	char path[256], user[64];

	start_training(fixture);
	stop_training(fixture);
	assert_int_equal(daemon_stop(&fixture->first), 0);
	find_checkpoint(&fixture->first, path);
	assert_int_equal(chmod(path, 0), 0);
	fixture->first.plain = true;
	assert_refused(&fixture->first, (const char *[]){ "--listen", "tcp://127.0.0.1:0", NULL },
	               EXIT_PERMISSIONS);
	assert_logged(&fixture->first, path);
	snprintf(user, sizeof(user), "(uid %ld) may not read it", (long)geteuid());
	assert_logged(&fixture->first, user);
	assert_logged(&fixture->first, "start optd as its owner");
	assert_int_equal(chmod(path, 0600), 0);
	daemon_restart(&fixture->first, 1);
	assert_logged(&fixture->first, "event=restored");
	assert_int_equal(daemon_stop(&fixture->first), 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_help_and_version_are_answered_without_starting),
		TEST(test_an_unknown_option_is_a_usage_error),
		TEST(test_a_bad_config_starts_nothing),
		TEST(test_an_unknown_key_is_named_with_its_line),
		TEST(test_check_config_says_ok_and_starts_nothing),
		TEST(test_a_printed_config_is_a_config),
		TEST(test_a_start_says_where_and_how_state_is_kept),
		TEST(test_a_port_in_use_names_address_holder_and_a_free_one),
		TEST(test_a_port_in_use_makes_no_data_directory),
		TEST(test_a_second_lanes_port_in_use_leaves_an_empty_directory_empty),
		TEST(test_the_same_daemon_twice_leaves_the_first_ones_socket_alone),
		TEST(test_a_socket_path_in_use_is_refused_and_stays_its_holders),
		TEST(test_a_data_directory_in_use_names_its_holder),
		TEST(test_listening_beyond_loopback_is_refused),
		TEST(test_insecure_listens_beyond_loopback_and_says_so),
		TEST(test_usr1_writes_checkpoints_and_training_goes_on),
		TEST(test_term_saves_what_the_next_start_restores),
		TEST(test_int_saves_what_the_next_start_restores),
		TEST(test_a_damaged_checkpoint_is_refused_by_name),
		TEST(test_a_truncated_checkpoint_is_refused_by_name),
		TEST(test_a_checkpoint_that_may_not_be_read_is_a_matter_of_permission),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
