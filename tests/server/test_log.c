/*
 * Log: lines, escaping, cutting, the limiter.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "server/log.h"

#define NOW 1795383876 /* 2026-11-22T21:44:36Z */

static char line[LOG_LINE_BYTES + 1];

#define FORMAT(format, level, ...) \
	line_of(format, level, (const struct log_field[]){ __VA_ARGS__, log_end() })

static const char *line_of(enum log_format format, enum log_level level,
                           const struct log_field *fields)
{
	size_t size = log_line(format, level, NOW, fields, line);

	assert_true(size <= LOG_LINE_BYTES);
	line[size] = '\0';
	assert_int_equal(line[size - 1], '\n');
	return line;
}

static void test_text_line_has_time_level_and_fields(void **state)
{
	(void)state;
	assert_string_equal(
		FORMAT(LOG_TEXT, LOG_INFO, log_str("event", "listen"),
	               log_str("endpoint", "tcp://127.0.0.1:16783"), log_u64("lanes", 2)),
		"2026-11-22T21:44:36Z info event=listen endpoint=tcp://127.0.0.1:16783 lanes=2\n");
}

static void test_json_line_is_one_object_with_types(void **state)
{
	json_t *root;

	(void)state;
	root = json_loads(FORMAT(LOG_JSON, LOG_WARN, log_str("event", "a\"b\\c\n"),
	                         log_i64("rank", -1), log_f64("loss", 0.5), log_bool("ok", true)),
	                  0, NULL);
	assert_non_null(root);
	assert_string_equal(json_string_value(json_object_get(root, "time")),
	                    "2026-11-22T21:44:36Z");
	assert_string_equal(json_string_value(json_object_get(root, "level")), "warn");
	assert_string_equal(json_string_value(json_object_get(root, "event")), "a\"b\\c\n");
	assert_int_equal(json_integer_value(json_object_get(root, "rank")), -1);
	assert_true(json_real_value(json_object_get(root, "loss")) == 0.5);
	assert_true(json_is_true(json_object_get(root, "ok")));
	json_decref(root);
}

static void test_journald_line_begins_with_priority(void **state)
{
	(void)state;
	assert_string_equal(FORMAT(LOG_JOURNALD, LOG_ERROR, log_str("event", "stop")),
	                    "<3>error event=stop\n");
	assert_string_equal(FORMAT(LOG_JOURNALD, LOG_INFO, log_str("event", "stop")),
	                    "<6>info event=stop\n");
}

static void test_values_are_quoted_when_needed(void **state)
{
	(void)state;
	assert_non_null(
		strstr(FORMAT(LOG_TEXT, LOG_INFO, log_str("why", "a b")), " why=\"a b\"\n"));
	assert_non_null(strstr(FORMAT(LOG_TEXT, LOG_INFO, log_str("why", "")), " why=\"\"\n"));
	assert_non_null(
		strstr(FORMAT(LOG_TEXT, LOG_INFO, log_str("why", "a=b")), " why=\"a=b\"\n"));
	assert_non_null(strstr(FORMAT(LOG_TEXT, LOG_INFO, log_str("why", NULL)), " why=-\n"));
}

static void test_control_characters_cannot_forge_a_line(void **state)
{
	static const char hostile[] = "x\n2026 info event=root\r\x1b[2J\0end\x7f";

	(void)state;
	FORMAT(LOG_TEXT, LOG_INFO, log_bytes("host", hostile, sizeof(hostile) - 1));
	assert_non_null(
		strstr(line, "host=\"x\\n2026 info event=root\\x0d\\x1b[2J\\x00end\\x7f\"\n"));
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void test_utf8_stays_and_what_is_not_utf8_is_escaped(void **state)
{
	(void)state;
	assert_non_null(strstr(FORMAT(LOG_TEXT, LOG_INFO, log_str("host", "gr\xc3\xbcn")),
	                       "\"gr\xc3\xbcn\""));
	/* overlong, surrogate, cut off, C1 control, right-to-left override */
	assert_non_null(
		strstr(FORMAT(LOG_TEXT, LOG_INFO, log_str("h", "\xc0\xaf")), "\"\\xc0\\xaf\""));
	assert_non_null(strstr(FORMAT(LOG_TEXT, LOG_INFO, log_str("h", "\xed\xa0\x80")),
	                       "\"\\xed\\xa0\\x80\""));
	assert_non_null(strstr(FORMAT(LOG_TEXT, LOG_INFO, log_bytes("h", "\xe2\x82\xac", 2)),
	                       "\"\\xe2\\x82\""));
	assert_non_null(
		strstr(FORMAT(LOG_TEXT, LOG_INFO, log_str("h", "\xc2\x9b")), "\"\\xc2\\x9b\""));
	assert_non_null(strstr(FORMAT(LOG_TEXT, LOG_INFO, log_str("h", "\xe2\x80\xae")),
	                       "\"\\xe2\\x80\\xae\""));
}

static void test_random_bytes_are_always_valid_json(void **state)
{
	unsigned seed = (unsigned)getpid();
	char bytes[64];
	json_t *root;

	(void)state;
	print_message("seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < 2000; round++) {
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (char)rand();
		root = json_loads(FORMAT(LOG_JSON, LOG_INFO,
		                         log_bytes("host", bytes, sizeof(bytes))),
		                  JSON_ALLOW_NUL, NULL);
		assert_non_null(root);
		json_decref(root);
	}
}

static void test_long_value_is_cut_and_line_stays_whole(void **state)
{
	static char text[3 * LOG_LINE_BYTES];
	json_t *root;

	(void)state;
	/* Every length around the border, so that each part of the end is cut once. */
	for (size_t size = LOG_LINE_BYTES - 200; size < LOG_LINE_BYTES + 20; size++) {
		memset(text, size % 2 ? 'x' : '\n', sizeof(text));
		root = json_loads(FORMAT(LOG_JSON, LOG_INFO,
		                         log_bytes("a", text, size % 2 ? size : size / 2),
		                         log_str("b", "short"), log_u64("c", UINT32_MAX)),
		                  0, NULL);
		assert_non_null(root);
		json_decref(root);
		FORMAT(LOG_TEXT, LOG_INFO, log_bytes("a", text, size), log_str("b", "short"));
	}
	assert_non_null(strstr(line, "...\"\n"));
}

static void test_nan_is_null_in_json(void **state)
{
	(void)state;
	assert_non_null(strstr(FORMAT(LOG_JSON, LOG_INFO, log_f64("loss", strtod("nan", NULL))),
	                       "\"loss\":null}"));
}

static void test_levels_beyond_the_logs_are_left_out(void **state)
{
	struct log log = { .format = LOG_TEXT, .level = LOG_WARN };
	int ends[2];
	ssize_t size;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	log.fd = ends[1];
	log_event(&log, LOG_INFO, "quiet");
	log_event(&log, LOG_WARN, "loud", log_u64("n", 1));
	close(ends[1]);
	size = read(ends[0], line, LOG_LINE_BYTES);
	assert_true(size > 0);
	line[size] = '\0';
	assert_null(strstr(line, "quiet"));
	assert_non_null(strstr(line, " warn event=loud n=1\n"));
	close(ends[0]);
}

static void test_limiter_lets_one_event_a_minute_through(void **state)
{
	struct log_limit limit = { 0 };
	uint64_t left_out = 9;

	(void)state;
	assert_true(log_limit(&limit, "peer", 4, 1000, &left_out));
	assert_int_equal(left_out, 0);
	assert_false(log_limit(&limit, "peer", 4, 1001, &left_out));
	assert_false(log_limit(&limit, "peer", 4, 60999, &left_out));
	assert_true(log_limit(&limit, "other", 5, 61000, &left_out));
	assert_true(log_limit(&limit, "peer", 4, 61000, &left_out));
	assert_int_equal(left_out, 2);
}

static void test_limiter_bounds_peers_that_invent_names(void **state)
{
	struct log_limit limit = { 0 };
	uint64_t left_out, logged = 0;

	(void)state;
	for (uint32_t peer = 0; peer < 10000; peer++)
		logged += log_limit(&limit, &peer, sizeof(peer), 5, &left_out);
	assert_int_equal(logged, LOG_LIMIT_PEERS);
	assert_true(log_limit(&limit, "new", 3, 5 + LOG_LIMIT_MS, &left_out));
	assert_int_equal(left_out, 10000 - LOG_LIMIT_PEERS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_line_has_time_level_and_fields),
		cmocka_unit_test(test_json_line_is_one_object_with_types),
		cmocka_unit_test(test_journald_line_begins_with_priority),
		cmocka_unit_test(test_values_are_quoted_when_needed),
		cmocka_unit_test(test_control_characters_cannot_forge_a_line),
		cmocka_unit_test(test_utf8_stays_and_what_is_not_utf8_is_escaped),
		cmocka_unit_test(test_random_bytes_are_always_valid_json),
		cmocka_unit_test(test_long_value_is_cut_and_line_stays_whole),
		cmocka_unit_test(test_nan_is_null_in_json),
		cmocka_unit_test(test_levels_beyond_the_logs_are_left_out),
		cmocka_unit_test(test_limiter_lets_one_event_a_minute_through),
		cmocka_unit_test(test_limiter_bounds_peers_that_invent_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
