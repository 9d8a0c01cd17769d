/* Safetensors heads: what is written reads back, and what is not allowed is
 * refused with a sentence. */
#include "proto/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/status.h"

#define LIMIT (1u << 20)

/* The head of an empty tensor, for texts that are wrong elsewhere. */
#define EMPTY "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}"

static char why[512];

static int decode(const char *text, uint64_t data_bytes, struct safetensors **out)
{
	/* A copy of exactly this size, so that a sanitizer sees reads beyond it. */
	size_t size = strlen(text);
	char *copy = malloc(size + !size);
	int rc;

	assert_non_null(copy);
	memcpy(copy, text, size);
	why[0] = '\0';
	rc = safetensors_decode(copy, size, data_bytes, 100, 10, out, why, sizeof why);
	free(copy);
	return rc;
}

static void assert_accepted(const char *text, uint64_t data_bytes)
{
	struct safetensors *head;
	int rc = decode(text, data_bytes, &head);

	if (rc < 0)
		fail_msg("%s: refused: %s", text, why);
	safetensors_free(head);
}

static void assert_refused(const char *text, uint64_t data_bytes, int status, const char *because)
{
	struct safetensors *head = NULL;
	int rc = decode(text, data_bytes, &head);

	if (rc != status || !strstr(why, because))
		fail_msg("%s: %s: %s", text, status_name(rc), why);
	assert_null(head);
}

static void corrupt(const char *text, uint64_t data_bytes, const char *because)
{
	assert_refused(text, data_bytes, OPTD_CORRUPT, because);
}

/* Encodes, checks the frame of the head, decodes. */
static struct safetensors *round_trip(struct safetensors_tensor *tensors, uint32_t count,
                                      const struct safetensors_text *metadata, uint32_t metadata_count,
                                      char **bytes)
{
	struct safetensors *head;
	uint64_t data_bytes, text_bytes;
	size_t size;

	assert_int_equal(safetensors_place(tensors, count, &data_bytes), 0);
	assert_int_equal(safetensors_encode(tensors, count, metadata, metadata_count, LIMIT, bytes, &size,
	                                    why, sizeof why), 0);
	assert_int_equal(size % SAFETENSORS_ALIGN, 0);
	assert_int_equal(safetensors_text_bytes(*bytes, size + data_bytes, LIMIT, &text_bytes, why, sizeof why), 0);
	assert_int_equal(text_bytes, size - 8);
	assert_int_equal(safetensors_decode(*bytes + 8, text_bytes, data_bytes, 100, 10, &head, why, sizeof why), 0);
	return head;
}

static void test_what_is_written_reads_back(void **state)
{
	uint64_t matrix[] = { 2, 3 }, bytes[] = { 5 }, none[] = { 0, 7 };
	struct safetensors_tensor tensors[] = {
		{ "fc1.weight", SAFETENSORS_F32, 2, matrix, 0, 0 },
		{ "quote\" slash\\ tab\t \xc3\xa9 \xf0\x9f\x98\x80", SAFETENSORS_U8, 1, bytes, 0, 0 },
		{ "none", SAFETENSORS_F64, 2, none, 0, 0 },
		{ "", SAFETENSORS_I64, 0, NULL, 0, 0 },
	};
	struct safetensors_text metadata[] = { { "a", "1" }, { "b\n", "\x01\"" } };
	char *text;
	struct safetensors *head = round_trip(tensors, 4, metadata, 2, &text);
	const struct safetensors_tensor *read = safetensors_tensors(head);

	(void)state;
	assert_int_equal(safetensors_count(head), 4);
	for (uint32_t i = 0; i < 4; i++) {
		assert_string_equal(read[i].name, tensors[i].name);
		assert_int_equal(read[i].dtype, tensors[i].dtype);
		assert_int_equal(read[i].rank, tensors[i].rank);
		assert_memory_equal(read[i].shape ? (const void *)read[i].shape : "", tensors[i].shape ? (const void *)tensors[i].shape : "",
		                    tensors[i].rank * sizeof(uint64_t));
		assert_int_equal(read[i].begin, tensors[i].begin);
		assert_int_equal(read[i].end, tensors[i].end);
		assert_ptr_equal(safetensors_find(head, tensors[i].name), &read[i]);
	}
	assert_int_equal(tensors[3].end, 24 + 5 + 8);
	assert_string_equal(safetensors_metadata(head, "b\n"), "\x01\"");
	assert_null(safetensors_metadata(head, "c"));
	assert_null(safetensors_find(head, "fc1"));
	safetensors_free(head);
	free(text);
}

static void test_a_head_without_tensors_is_a_file(void **state)
{
	char *text;
	struct safetensors *head = round_trip(NULL, 0, NULL, 0, &text);

	(void)state;
	assert_int_equal(safetensors_count(head), 0);
	assert_memory_equal(text, "\x38\0\0\0\0\0\0\0{}    ", 14);
	safetensors_free(head);
	free(text);
}

static void test_the_writer_refuses_what_no_reader_would_take(void **state)
{
	uint64_t huge[] = { UINT64_C(1) << 40, UINT64_C(1) << 22 };
	struct safetensors_tensor twice[] = { { "a", SAFETENSORS_U8, 0, NULL, 0, 1 }, { "a", SAFETENSORS_U8, 0, NULL, 1, 2 } };
	struct safetensors_tensor bad[] = { { "\xff", SAFETENSORS_U8, 0, NULL, 0, 1 } };
	struct safetensors_tensor reserved[] = { { "__metadata__", SAFETENSORS_U8, 0, NULL, 0, 1 } };
	struct safetensors_tensor large[] = { { "a", SAFETENSORS_F32, 2, huge, 0, 0 } };
	struct safetensors_text keys[] = { { "k", "1" }, { "k", "2" } }, value[] = { { "k", "\xc0\x80" } };
	uint64_t data_bytes;
	size_t size;
	char *text;

	(void)state;
	assert_int_equal(safetensors_encode(twice, 2, NULL, 0, LIMIT, &text, &size, why, sizeof why), OPTD_INVALID);
	assert_non_null(strstr(why, "'a' is given twice"));
	assert_int_equal(safetensors_encode(bad, 1, NULL, 0, LIMIT, &text, &size, why, sizeof why), OPTD_INVALID);
	assert_int_equal(safetensors_encode(reserved, 1, NULL, 0, LIMIT, &text, &size, why, sizeof why), OPTD_INVALID);
	assert_int_equal(safetensors_encode(NULL, 0, keys, 2, LIMIT, &text, &size, why, sizeof why), OPTD_INVALID);
	assert_int_equal(safetensors_encode(NULL, 0, value, 1, LIMIT, &text, &size, why, sizeof why), OPTD_INVALID);
	assert_int_equal(safetensors_encode(twice, 1, NULL, 0, 55, &text, &size, why, sizeof why), OPTD_TOO_LARGE);
	assert_int_equal(safetensors_place(large, 1, &data_bytes), OPTD_TOO_LARGE);
}

static void test_the_length_is_checked_against_file_and_limit(void **state)
{
	uint64_t bytes;

	(void)state;
	assert_int_equal(safetensors_text_bytes("\x02\0\0\0\0\0\0\0", 10, 2, &bytes, why, sizeof why), 0);
	assert_int_equal(bytes, 2);
	assert_int_equal(safetensors_text_bytes("\x03\0\0\0\0\0\0\0", 10, 9, &bytes, why, sizeof why), OPTD_CORRUPT);
	assert_int_equal(safetensors_text_bytes("\x03\0\0\0\0\0\0\0", 11, 2, &bytes, why, sizeof why), OPTD_TOO_LARGE);
	assert_int_equal(safetensors_text_bytes("\xff\xff\xff\xff\xff\xff\xff\xff", 11, LIMIT, &bytes, why, sizeof why), OPTD_CORRUPT);
}

static void test_space_and_order_are_free(void **state)
{
	struct safetensors *head;

	(void)state;
	assert_accepted("{ }   ", 0);
	assert_accepted("{\"a\":" EMPTY "}", 0);
	assert_accepted("{ \"a\" :\t{ \"shape\" : [ 1 , 2 ] ,\n\"data_offsets\":[0,2],\"dtype\":\"U8\"}\r}  ", 2);
	assert_int_equal(decode("{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]},"
	                        "\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
	                        "\"__metadata__\":{}}", 3, &head), 0);
	assert_string_equal(safetensors_tensors(head)[0].name, "a");
	assert_string_equal(safetensors_tensors(head)[1].name, "b");
	safetensors_free(head);
}

static void test_every_cut_of_a_head_is_refused(void **state)
{
	const char *text = "{\"__metadata__\":{\"k\\n\":\"\\ud83d\\ude00\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],"
	                   "\"data_offsets\":[0,8]}}";

	(void)state;
	assert_accepted(text, 8);
	for (size_t size = 0; size < strlen(text); size++) {
		char part[256];

		snprintf(part, sizeof part, "%.*s", (int)size, text);
		assert_refused(part, 8, OPTD_CORRUPT, "");
	}
}

static void test_holes_and_overlaps_are_refused(void **state)
{
	(void)state;
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "begins at byte 1");
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
	        "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}", 5, "'b' begins at byte 3");
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
	        "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "'b' begins at byte 1");
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 3, "take 2 bytes, the file has 3");
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, "take 2 bytes, the file has 1");
}

static void test_sizes_must_match_shapes(void **state)
{
	(void)state;
	corrupt("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "takes 8 bytes by its shape");
	corrupt("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "placed at [4,0]");
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "2^63");
	corrupt("{\"a\":{\"dtype\":\"I64\",\"shape\":[1152921504606846976],\"data_offsets\":[0,0]}}", 0, "2^63");
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}",
	        1, "more than 16 numbers");
	assert_accepted("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1);
}

static void test_numbers_are_whole_and_below_2_63(void **state)
{
	static const char *const bad[] = { "-1", "1.0", "1e0", "01", "00", "+1", "\"1\"", "null", "true", "[1]", "0x1" };
	char text[128];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(text, sizeof text, "{\"a\":{\"dtype\":\"U8\",\"shape\":[%s],\"data_offsets\":[0,1]}}", bad[i]);
		corrupt(text, 1, "expected");
	}
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775808],\"data_offsets\":[0,1]}}", 1, "below 2^63");
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[99999999999999999999],\"data_offsets\":[0,1]}}", 1, "below 2^63");
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0]}}", 1, "two data_offsets");
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1,1]}}", 1, "more than 2 numbers");
}

static void test_nothing_may_be_given_twice(void **state)
{
	(void)state;
	corrupt("{\"a\":" EMPTY ",\"a\":" EMPTY "}", 0, "two tensors are called 'a'");
	corrupt("{\"a\":" EMPTY ",\"\\u0061\":" EMPTY "}", 0, "two tensors are called 'a'");
	corrupt("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "two entries 'dtype'");
	corrupt("{\"__metadata__\":{\"k\":\"1\",\"k\":\"1\"}}", 0, "two entries 'k'");
	corrupt("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "two entries '__metadata__'");
}

static void test_nothing_may_be_missing_or_unknown(void **state)
{
	(void)state;
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}", 0, "'a' lacks");
	corrupt("{\"a\":{}}", 0, "a string");
	corrupt("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"extra\":1}}", 0, "unknown entry 'extra'");
	corrupt("{\"a\":1}", 0, "'{'");
	corrupt("{\"__metadata__\":{\"k\":1}}", 0, "a string");
	corrupt("{\"__metadata__\":[]}", 0, "'{'");
	corrupt(" {}", 0, "does not begin with '{'");
	corrupt("[]", 0, "does not begin with '{'");
	corrupt("{}\n", 0, "nothing but spaces");
	corrupt("{}{}", 0, "nothing but spaces");
	corrupt("{\"a\":" EMPTY ",}", 0, "a string");
	assert_refused("{\"a\":{\"dtype\":\"BF16\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, OPTD_UNSUPPORTED, "'BF16'");
}

static void test_strings_must_be_utf8_without_nul(void **state)
{
	static const char *const bad[] = {
		"\x80", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82",
		"\\u0000", "\\ud800", "\\ud800x", "\\ud800\\u0061", "\\udc00", "\\u12g4", "\\x", "\\", "\n", "\x1f",
	};
	char text[128];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(text, sizeof text, "{\"%s\":" EMPTY "}", bad[i]);
		corrupt(text, 0, "expected");
	}
	assert_accepted("{\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20ac\\ud83d\\ude00\":" EMPTY "}", 0);
}

static void test_counts_and_names_have_bounds(void **state)
{
	char name[SAFETENSORS_NAME_MAX + 2], text[2 * sizeof name];
	struct safetensors *head;
	const char *two = "{\"a\":" EMPTY ",\"b\":" EMPTY "}", *keys = "{\"__metadata__\":{\"a\":\"\",\"b\":\"\"}}";

	(void)state;
	memset(name, 'x', sizeof name);
	name[SAFETENSORS_NAME_MAX] = '\0';
	snprintf(text, sizeof text, "{\"%s\":" EMPTY "}", name);
	assert_accepted(text, 0);
	snprintf(text, sizeof text, "{\"%sx\":" EMPTY "}", name);
	corrupt(text, 0, "longer than 1024 bytes");
	assert_int_equal(safetensors_decode(two, strlen(two), 0, 1, 0, &head, why, sizeof why), OPTD_TOO_LARGE);
	assert_int_equal(safetensors_decode(two, strlen(two), 0, 2, 0, &head, why, sizeof why), 0);
	safetensors_free(head);
	assert_int_equal(safetensors_decode(keys, strlen(keys), 0, 0, 1, &head, why, sizeof why), OPTD_TOO_LARGE);
	assert_int_equal(safetensors_decode(keys, strlen(keys), 0, 0, 2, &head, why, sizeof why), 0);
	safetensors_free(head);
}

static void test_a_refusal_holds_no_control_character(void **state)
{
	(void)state;
	corrupt("{\"a\\u001b[2J\\n\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,0]}}", 0, "'a?[2J?'");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_reads_back),
		cmocka_unit_test(test_a_head_without_tensors_is_a_file),
		cmocka_unit_test(test_the_writer_refuses_what_no_reader_would_take),
		cmocka_unit_test(test_the_length_is_checked_against_file_and_limit),
		cmocka_unit_test(test_space_and_order_are_free),
		cmocka_unit_test(test_every_cut_of_a_head_is_refused),
		cmocka_unit_test(test_holes_and_overlaps_are_refused),
		cmocka_unit_test(test_sizes_must_match_shapes),
		cmocka_unit_test(test_numbers_are_whole_and_below_2_63),
		cmocka_unit_test(test_nothing_may_be_given_twice),
		cmocka_unit_test(test_nothing_may_be_missing_or_unknown),
		cmocka_unit_test(test_strings_must_be_utf8_without_nul),
		cmocka_unit_test(test_counts_and_names_have_bounds),
		cmocka_unit_test(test_a_refusal_holds_no_control_character),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
