/*
 * Config: defaults, values and their ranges, endpoints and lanes, printing, docs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/core/settings.h"
#include "server/config_value.h"
#include "tests/server/config_support.h"

/* ---------------------------------------------------------------- defaults */

static void test_empty_file_gives_defaults(void **state)
{
	static const char *const empty[] = { "",      "\n\n",         "# only a comment\n",
		                             "---\n", "--- ~\n...\n", "{}" };

	(void)state;
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
		accepts(empty[i]);
		assert_int_equal(config.listen.count, 1);
		assert_string_equal(config.listen.text[0], "tcp://127.0.0.1:16783");
		assert_int_equal(config.lanes, 1);
		assert_int_equal(config.step_timeout_ms, 60000);
		assert_int_equal(config.waiting_notice_ms, 5000);
		assert_int_equal(config.checkpoint_interval_ms, 300000);
		assert_true(config.checkpoint_on_exit);
		assert_false(config.insecure);
		assert_int_equal(config.log_level, LOG_INFO);
		assert_int_equal(config.model_count, 0);
	}
}

static void test_defaults_are_those_of_limits(void **state)
{
	(void)state;
	accepts("");
	assert_int_equal(config.window_bytes, LIMIT_WINDOW_BYTES);
	assert_int_equal(config.message_bytes, LIMIT_MESSAGE_BYTES);
	assert_int_equal(config.models_max, LIMIT_MODELS);
	assert_int_equal(config.workers_max, LIMIT_WORKERS);
	assert_true(config.memory_bytes <= host_memory_bytes() / 100 * 80);
	assert_true(config.memory_bytes > host_memory_bytes() / 100 * 79);
}

static void test_words_of_enums_stand_at_their_values(void **state)
{
	char text[64];

	(void)state;
	for (int i = 0; i < LOG_FORMAT_COUNT; i++) {
		snprintf(text, sizeof(text), "log: {format: %s}",
		         log_format_name((enum log_format)i));
		accepts(text);
		assert_int_equal(config.log_format, i);
	}
	for (int i = 0; i < LOG_LEVEL_COUNT; i++) {
		snprintf(text, sizeof(text), "log: {level: %s}", log_level_name((enum log_level)i));
		accepts(text);
		assert_int_equal(config.log_level, i);
	}
	accepts("models: [{name: m, mode: async, reduce: sum}]");
	assert_int_equal(config.models[0].mode, MSG_ASYNC);
	assert_int_equal(config.models[0].reduce, MSG_SUM);
}

/* ---------------------------------------------------------------- values */

static void test_every_knob_can_be_set(void **state)
{
	(void)state;
	accepts("listen: [tcp://127.0.0.1:1, ipc:///tmp/x]\n"
	        "lanes: 2\n"
	        "advertise: [tcp://example.org:1, tcp://example.org:2]\n"
	        "data_dir: /tmp/d\n"
	        "limits:\n  memory: 3GiB\n  window: 2MiB\n  message: 1MiB\n  connections: 5\n"
	        "  models: 6\n  workers: 7\n"
	        "step_timeout: 2min\nwaiting_notice: 250ms\ninit_lease: 3s\ndrain_timeout: 4s\n"
	        "checkpoint: {interval: 1h, on_exit: false}\n"
	        "log: {format: json, level: warn}\n"
	        "security: {insecure: true}\n");
	assert_int_equal(config.listen.count, 2);
	assert_string_equal(config.advertise.text[1], "tcp://example.org:2");
	assert_string_equal(config.data_dir, "/tmp/d");
	assert_true(config.memory_bytes == UINT64_C(3) << 30);
	assert_int_equal(config.window_bytes, 2 << 20);
	assert_int_equal(config.message_bytes, 1 << 20);
	assert_int_equal(config.connections, 5);
	assert_int_equal(config.models_max, 6);
	assert_int_equal(config.workers_max, 7);
	assert_int_equal(config.step_timeout_ms, 120000);
	assert_int_equal(config.waiting_notice_ms, 250);
	assert_int_equal(config.init_lease_ms, 3000);
	assert_int_equal(config.drain_timeout_ms, 4000);
	assert_int_equal(config.checkpoint_interval_ms, 3600000);
	assert_false(config.checkpoint_on_exit);
	assert_int_equal(config.log_format, LOG_JSON);
	assert_int_equal(config.log_level, LOG_WARN);
	assert_true(config.insecure);
}

static void test_values_are_read_strictly(void **state)
{
	static const char *const bad[] = {
		"lanes: 1x",
		"lanes: 1.0",
		"lanes: 0x1",
		"lanes: +1",
		"lanes: -1",
		"lanes: 1e0",
		"lanes: \"1\"",
		"lanes: 18446744073709551617",
		"lanes: two",
		"lanes: true",
		"limits: {memory: 8GB}",
		"limits: {memory: 8 GiB}",
		"limits: {memory: 8gib}",
		"limits: {memory: 1.5GiB}",
		"limits: {memory: 0%}",
		"limits: {memory: 101%}",
		"limits: {memory: 80%%}",
		"limits: {memory: 99999999999999GiB}",
		"limits: {window: 80%}",
		"step_timeout: 60",
		"step_timeout: 60 s",
		"step_timeout: 1m",
		"step_timeout: 1e3ms",
		"step_timeout: off",
		"step_timeout: 0",
		"checkpoint: {on_exit: yes}",
		"checkpoint: {on_exit: 1}",
		"checkpoint: {on_exit: True}",
		"checkpoint: {on_exit: \"true\"}",
		"log: {level: INFO}",
		"log: {level: debug}",
		"log: {format: 0}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refuses(bad[i], "c.yaml:1: ", "; allowed: ");
}

static void test_ranges_hold_at_both_ends(void **state)
{
	(void)state;
	accepts("lanes: 64");
	refuses("lanes: 65",
	        "c.yaml:1: ", "\"65\" is out of range; allowed: a whole number from 1 to 64");
	refuses("lanes: 0", "c.yaml:1: ", "out of range");
	accepts("step_timeout: 1s");
	refuses("step_timeout: 999ms", "c.yaml:1: ", "a time from 1s to 24h");
	accepts("step_timeout: 24h");
	refuses("step_timeout: 86400001ms", "c.yaml:1: ", "out of range");
	accepts("limits: {message: 512KiB}");
	refuses("limits: {memory: 101%}", "c.yaml:1: ", "\"101%\" is out of range");
	refuses("limits: {memory: 101}", "c.yaml:1: ", "out of range");
	refuses("limits: {message: 524287}", "c.yaml:1: ", "a size from 512KiB to 4MiB");
}

static void test_off_means_never(void **state)
{
	(void)state;
	accepts("checkpoint: {interval: off}");
	assert_int_equal(config.checkpoint_interval_ms, 0);
	accepts("drain_timeout: off");
	assert_int_equal(config.drain_timeout_ms, 0);
	refuses("checkpoint: {interval: never}", "c.yaml:1: ", ", or off");
}

static void test_zero_is_told_to_be_off(void **state)
{
	(void)state;
	refuses("checkpoint: {interval: 0}", "c.yaml:1: ",
	        "\"0\" is not a time with its unit; allowed: a time from 1s to 168h (ms, s, min or h), or off");
	refuses("drain_timeout: 0s", "c.yaml:1: ",
	        "\"0s\" is out of range; allowed: a time from 1ms to 1h (ms, s, min or h), or off");
}

static void test_memory_may_be_a_share(void **state)
{
	(void)state;
	accepts("limits: {memory: 50%}");
	assert_true(config.memory_bytes <= host_memory_bytes() / 2);
	assert_true(config.memory_bytes > host_memory_bytes() / 2 - (2 << 20));
}

/* ---------------------------------------------------------------- endpoints */

static void test_endpoints_are_checked(void **state)
{
	static const char *const bad[] = { "127.0.0.1:1",        "udp://127.0.0.1:1",
		                           "tcp://127.0.0.1",    "tcp://:1",
		                           "tcp://127.0.0.1:",   "tcp://127.0.0.1:65536",
		                           "tcp://127.0.0.1:1x", "tcp://127.0.0.1:-1",
		                           "tcp://[::1:1",       "tcp://::1:1",
		                           "tcp://[]:1",         "tcp://[lo]:1",
		                           "tcp://a/b:1",        "tcp://a b:1" };
	char text[128];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "lanes: 1\nlisten: \"%s\"\n", bad[i]);
		refuses(text, "c.yaml:2: ", "is not an endpoint; allowed: tcp://ADDRESS:PORT");
	}
	refuses("listen: \"ipc://\"", "c.yaml:1: ", "names no path");
	refuses("listen: []", "c.yaml:1: ", "at least one endpoint");
	refuses("listen: [tcp://127.0.0.1:1, tcp://localhost:1]", "c.yaml:1: ", "given twice");
	refuses("advertise: tcp://127.0.0.1:0", "c.yaml:1: ", "nothing to connect to");
	refuses("advertise: 'tcp://*:5'", "c.yaml:1: ", "nothing to connect to");
}

static void test_ipc_path_leaves_room_for_a_lane(void **state)
{
	char text[160] = "listen: ipc://";
	size_t start = strlen(text);

	(void)state;
	memset(text + start, 'p', CONFIG_IPC_PATH_BYTES);
	accepts(text);
	text[start + CONFIG_IPC_PATH_BYTES] = 'p';
	refuses(text, "c.yaml:1: ", "105 bytes; a socket's may have 104");
}

static void test_bind_beyond_loopback_needs_insecure(void **state)
{
	static const char *const outside[] = { "tcp://0.0.0.0:1",      "tcp://*:1",
		                               "tcp://10.0.0.1:1",     "tcp://[::]:1",
		                               "tcp://eth0:1",         "tcp://128.0.0.1:1",
		                               "tcp://127.evil.org:1", "tcp://[fe80::1]:1" };
	static const char *const inside[] = { "tcp://127.0.0.1:1", "tcp://127.9.9.9:1",
		                              "tcp://[::1]:1", "tcp://localhost:1",
		                              "ipc:///tmp/x" };
	char text[128];

	(void)state;
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		snprintf(text, sizeof(text), "lanes: 2\nlisten: [ipc://x, \"%s\"]\n", outside[i]);
		refuses(text, "c.yaml:2: ",
		        "can be reached from other machines, and there are no keys yet");
		snprintf(text, sizeof(text), "listen: \"%s\"\nsecurity: {insecure: true}\n",
		         outside[i]);
		accepts(text);
		assert_false(config_loopback(&config));
	}
	for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
		snprintf(text, sizeof(text), "listen: \"%s\"\n", inside[i]);
		accepts(text);
		assert_true(config_loopback(&config));
	}
}

static void lane_is(uint32_t lane, const char *wanted)
{
	char endpoint[LIMIT_ENDPOINT_BYTES + 1];

	config_lane_endpoint(&config, lane, endpoint);
	assert_string_equal(endpoint, wanted);
}

static void test_lanes_beyond_the_list_get_endpoints(void **state)
{
	(void)state;
	accepts("listen: [tcp://localhost:5, ipc:///tmp/x]\nlanes: 4\n");
	lane_is(0, "tcp://127.0.0.1:5");
	lane_is(1, "ipc:///tmp/x");
	lane_is(2, "tcp://127.0.0.1:*");
	lane_is(3, "tcp://127.0.0.1:*");
	accepts("listen: ipc:///tmp/x\nlanes: 3\n");
	lane_is(0, "ipc:///tmp/x");
	lane_is(1, "ipc:///tmp/x.1");
	lane_is(2, "ipc:///tmp/x.2");
	accepts("listen: \"tcp://[::1]:0\"\n");
	lane_is(0, "tcp://[::1]:*");
}

static void test_lanes_follow_listen(void **state)
{
	(void)state;
	accepts("listen: [tcp://127.0.0.1:1, tcp://127.0.0.1:2]\n");
	assert_int_equal(config.lanes, 2);
	accepts("listen: [tcp://127.0.0.1:0, tcp://127.0.0.1:*]\n");
	refuses("listen: [tcp://127.0.0.1:1, tcp://127.0.0.1:2]\nlanes: 1\n",
	        "c.yaml:2: ", "lanes: 1, but listen names 2 endpoints");
	refuses("lanes: 2\nadvertise: tcp://a:1\n", "c.yaml:2: ", "1 endpoint for 2 lanes");
}

static void test_message_may_not_exceed_what_the_wire_takes(void **state)
{
	(void)state;
	refuses("limits: {message: 4194305}", "c.yaml:1: ", "a size from 512KiB to 4MiB");
}

static void test_window_holds_two_messages(void **state)
{
	(void)state;
	accepts("limits: {window: 8MiB, message: 4MiB}");
	refuses("limits:\n  message: 4MiB\n  window: 8191KiB\n",
	        "c.yaml:3: ", "less than two messages of 4MiB");
}

/* ---------------------------------------------------------------- printing */

static void test_printed_config_reads_back_the_same(void **state)
{
	(void)state;
	accepts("");
	reads_back_the_same();
	accepts("listen: [tcp://127.0.0.1:0, 'ipc:///tmp/a \"quoted\\ path']\nlanes: 5\ndata_dir: /x y/#z\n"
	        "advertise: [tcp://a:1, tcp://b:2, tcp://c:3, tcp://d:4, tcp://e:5]\n"
	        "checkpoint: {interval: off, on_exit: false}\nlog: {format: journald, level: error}\n"
	        "limits: {memory: 12345678}\ndrain_timeout: off\nstep_timeout: 1500ms\n"
	        "models:\n- {name: 'a: b', mode: async, reduce: sum, step_timeout: 7s}\n"
	        "- {name: \"true\", workers: 3}\n- {name: 'gr\xc3\xbcn'}\n");
	reads_back_the_same();
}

/* Characters that a YAML file reads as line breaks, or not at all. */
static void test_awkward_characters_read_back_the_same(void **state)
{
	(void)state;
	accepts("models:\n- {name: \"\\L\"}\n- {name: \"a\\P\"}\n- {name: \"\\uFEFF b\"}\n- {name: \"\\N\"}\n"
	        "- {name: \"\\x80\"}\n- {name: \"\\x9F\\xA0\"}\n- {name: \"\\uFFFE\\uFFFD\\U0001F600\"}\n");
	reads_back_the_same();
}

static void test_numbers_are_printed_as_people_write_them_and_read_back(void **state)
{
	static const struct {
		double value;
		const char *text;
	} numbers[] = {
		{ 0, "0" },       { 500, "500" },           { 9500, "9500" },   { 999999999, "999999999" },
		{ 1e9, "1e+09" }, { 1234567890123, "1234567890123" }, { 0.001, "0.001" }, { 1e-8, "1e-08" },
		{ -20, "-20" },   { 0.30000000000000004, "0.30000000000000004" }, { 9500.5, "9500.5" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		char text[VALUE_TEXT_BYTES];
		double again;

		value_real_text(numbers[i].value, text);
		assert_string_equal(text, numbers[i].text);
		assert_true(value_real(text, strlen(text), false, &again));
		assert_memory_equal(&again, &numbers[i].value, sizeof(again));
	}
}

static void test_every_rule_and_match_reads_back_the_same(void **state)
{
	const double lr = 0.30000000000000004;
	char text[256];

	(void)state;
	for (uint32_t rule = 0; rule < optim_rule_count(); rule++) {
		for (int match = 0; match < OPTIM_MATCH_COUNT; match++) {
			struct optim optim;

			if (optim_init(&optim, optim_rule(rule), (enum optim_match)match, why,
			               sizeof(why)) < 0 ||
			    optim_check(&optim, why, sizeof(why)) < 0)
				continue;
			const char *hyper = optim_set(&optim, "lr", &lr, 1, why, sizeof(why)) < 0 ||
			                                    optim_settle(&optim, why, sizeof(why)) < 0
			                            ? ""
			                            : ", lr: 0.30000000000000004";
			snprintf(text, sizeof(text), "models: [{name: m, optimizer: {name: %s, match: %s%s}}]",
			         optim_rule_name(optim_rule(rule)), optim_match_name((enum optim_match)match), hyper);
			accepts(text);
			reads_back_the_same();
		}
	}
}

/* ---------------------------------------------------------------- around it */

static void test_command_line_sets_after_the_file(void **state)
{
	const char *const endpoints[] = { "tcp://127.0.0.1:7", "tcp://127.0.0.1:8" };
	const char *const outside = "tcp://0.0.0.0:1";

	(void)state;
	accepts("listen: tcp://127.0.0.1:1");
	assert_int_equal(config_set(&config, "listen", endpoints, 2, why, sizeof(why)), 0);
	assert_int_equal(config.listen.count, 2);
	assert_string_equal(config.listen.text[1], "tcp://127.0.0.1:8");
	assert_int_equal(config_set(&config, "listen", &outside, 1, why, sizeof(why)), 0);
	assert_int_equal(config_finish(&config, why, sizeof(why)), OPTD_INVALID);
	assert_ptr_equal(strstr(why, "command line: listen: "), why);
}

static void test_missing_file_is_named(void **state)
{
	(void)state;
	config_init(&config);
	assert_int_equal(config_read(&config, "/nonexistent/c.yaml", why, sizeof(why)),
	                 OPTD_INVALID);
	assert_string_equal(why, "/nonexistent/c.yaml: cannot be read: No such file or directory");
}

static char *slurp(const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = calloc(1, 1 << 20);

	assert_non_null(file);
	assert_non_null(text);
	assert_true(fread(text, 1, (1 << 20) - 1, file) > 0);
	fclose(file);
	return text;
}

static void test_shipped_config_is_valid(void **state)
{
	(void)state;
	config_init(&config);
	if (config_read(&config, "deploy/optd.yaml", why, sizeof(why)) < 0)
		fail_msg("%s", why);
	assert_int_equal(config_finish(&config, why, sizeof(why)), 0);
	assert_int_equal(config.model_count, 0);
}

static void test_model_shown_in_the_shipped_config_is_valid(void **state)
{
	(void)state;
	char *text = slurp("deploy/optd.yaml");
	/* Taking the "# " off its lines is what the reader would do. */
	char *to = strstr(text, "\n# models:\n");
	assert_non_null(to++);
	for (char *from = to; *from != '\0';) {
		if (from[0] == '#')
			from += from[1] == ' ' ? 2 : 1;
		while (*from != '\0' && (*to++ = *from++) != '\n')
			;
	}
	*to = '\0';
	config_init(&config);
	if (config_parse(&config, "optd.yaml", text, strlen(text), why, sizeof(why)) < 0)
		fail_msg("%s", why);
	assert_int_equal(config_finish(&config, why, sizeof(why)), 0);
	assert_int_equal(config.model_count, 1);
	assert_string_equal(config.models[0].name, "fashion");
	assert_int_equal(config.models[0].workers, 2);
	free(text);
}

static void test_data_dir_follows_the_environment(void **state)
{
	char directory[CONFIG_PATH_BYTES + 1];
	const char *reason;

	(void)state;
	setenv("STATE_DIRECTORY", "/run/first:/run/second", 1);
	assert_int_equal(config_data_dir(directory, &reason, why, sizeof(why)), 0);
	assert_string_equal(directory, "/run/first");
	assert_string_equal(reason, "$STATE_DIRECTORY");
	setenv("STATE_DIRECTORY", "not/absolute", 1);
	setenv("XDG_STATE_HOME", "/home/x/state", 1);
	assert_int_equal(config_data_dir(directory, &reason, why, sizeof(why)), 0);
	/* Who may write /var/lib keeps state there; others in their own directory. */
	if (strcmp(directory, "/var/lib/optd") != 0)
		assert_string_equal(directory, "/home/x/state/optd");
	unsetenv("STATE_DIRECTORY");
	accepts("data_dir: /given");
	assert_string_equal(config.data_dir_reason, "data_dir");
}

static void test_home_stands_for_a_tilde(void **state)
{
	char *home = getenv("HOME") ? strdup(getenv("HOME")) : NULL;

	(void)state;
	setenv("HOME", "/home/x", 1);
	accepts("data_dir: ~/optd/state");
	assert_string_equal(config.data_dir, "/home/x/optd/state");
	accepts("data_dir: ./~");
	assert_string_equal(config.data_dir, "./~");
	refuses("lanes: 1\ndata_dir: ~other/x",
	        "c.yaml:2: data_dir: ", "\"~other/x\" begins with ~, and only ~/ is known");
	refuses("data_dir: \"~\"", "c.yaml:1: data_dir: ", "only ~/ is known");
	unsetenv("HOME");
	refuses("data_dir: ~/x", "c.yaml:1: data_dir: ", "$HOME is not set");
	if (home)
		setenv("HOME", home, 1);
	free(home);
}

static void test_flags_of_optimizers_are_words_or_digits(void **state)
{
	static const char *const set[] = { "true", "1" }, *const unset[] = { "false", "0" };
	char text[128];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		snprintf(text, sizeof(text),
		         "models: [{name: m, optimizer: {name: adam, amsgrad: %s}}]", set[i]);
		accepts(text);
		assert_int_equal(optim_slot_count(&config.models[0].optimizer), 3);
		snprintf(text, sizeof(text),
		         "models: [{name: m, optimizer: {name: adam, amsgrad: %s}}]", unset[i]);
		accepts(text);
		assert_int_equal(optim_slot_count(&config.models[0].optimizer), 2);
	}
	refuses("models: [{name: m, optimizer: {name: adam, amsgrad: 2}}]",
	        "c.yaml:1: ", "is not true or false (or 1 or 0)");
}

/* Reads a whole text file of the repository. */
/* Whether a line of text holds both words. */
static bool line_holds(const char *text, const char *key, const char *word)
{
	for (const char *at = strstr(text, key); at; at = strstr(at + 1, key)) {
		const char *end = strchrnul(at, '\n'), *found = strstr(at, word);

		if (found && found < end)
			return true;
	}
	return false;
}

static void test_every_knob_is_documented(void **state)
{
	char *guide = slurp("deploy/OPERATIONS.md"), *manual = slurp("deploy/optd.yaml.5");
	char key[64], allowed[256];

	(void)state;
	for (uint32_t i = 0; i < config_knob_count(); i++) {
		const struct config_knob *knob = config_knob(i);

		snprintf(key, sizeof(key), "| `%s` |", knob->path);
		config_knob_allowed(knob, allowed, sizeof(allowed));
		if (!line_holds(guide, key, knob->initial ? knob->initial : "") ||
		    !line_holds(guide, key, allowed))
			fail_msg("deploy/OPERATIONS.md: no line %s with default and range: %s", key,
			         allowed);
		snprintf(key, sizeof(key), ".B %s\n", knob->path);
		if (!strstr(manual, key) || !strstr(manual, allowed))
			fail_msg("deploy/optd.yaml.5: no entry for %s with: %s", knob->path,
			         allowed);
	}
	free(guide);
	free(manual);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty_file_gives_defaults),
		cmocka_unit_test(test_defaults_are_those_of_limits),
		cmocka_unit_test(test_words_of_enums_stand_at_their_values),
		cmocka_unit_test(test_every_knob_can_be_set),
		cmocka_unit_test(test_values_are_read_strictly),
		cmocka_unit_test(test_ranges_hold_at_both_ends),
		cmocka_unit_test(test_off_means_never),
		cmocka_unit_test(test_zero_is_told_to_be_off),
		cmocka_unit_test(test_memory_may_be_a_share),
		cmocka_unit_test(test_endpoints_are_checked),
		cmocka_unit_test(test_ipc_path_leaves_room_for_a_lane),
		cmocka_unit_test(test_bind_beyond_loopback_needs_insecure),
		cmocka_unit_test(test_lanes_beyond_the_list_get_endpoints),
		cmocka_unit_test(test_lanes_follow_listen),
		cmocka_unit_test(test_message_may_not_exceed_what_the_wire_takes),
		cmocka_unit_test(test_window_holds_two_messages),
		cmocka_unit_test(test_printed_config_reads_back_the_same),
		cmocka_unit_test(test_awkward_characters_read_back_the_same),
		cmocka_unit_test(test_numbers_are_printed_as_people_write_them_and_read_back),
		cmocka_unit_test(test_every_rule_and_match_reads_back_the_same),
		cmocka_unit_test(test_command_line_sets_after_the_file),
		cmocka_unit_test(test_missing_file_is_named),
		cmocka_unit_test(test_shipped_config_is_valid),
		cmocka_unit_test(test_model_shown_in_the_shipped_config_is_valid),
		cmocka_unit_test(test_data_dir_follows_the_environment),
		cmocka_unit_test(test_home_stands_for_a_tilde),
		cmocka_unit_test(test_flags_of_optimizers_are_words_or_digits),
		cmocka_unit_test(test_every_knob_is_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
