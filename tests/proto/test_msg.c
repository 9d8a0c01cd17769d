/* Verbs and statuses have names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/msg.h"
#include "proto/status.h"

static void test_every_verb_has_a_name(void **state)
{
	(void)state;
	for (uint32_t verb = MSG_HELLO; verb < MSG_VERB_COUNT; verb++)
		assert_string_not_equal(msg_verb_name(verb), "?");
	assert_string_equal(msg_verb_name(MSG_PUSH_PULL), "PUSH_PULL");
	assert_string_equal(msg_verb_name(0), "?");
	assert_string_equal(msg_verb_name(MSG_VERB_COUNT), "?");
}

static void test_every_status_has_a_name_and_a_sentence(void **state)
{
	(void)state;
	for (int status = OPTD_CANCELLED; status <= OPTD_WAITING; status++) {
		assert_string_not_equal(status_name(status), "UNKNOWN");
		assert_string_not_equal(status_text(status), status_text(12345));
	}
	assert_string_equal(status_name(-12345), "UNKNOWN");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_every_verb_has_a_name),
	        cmocka_unit_test(test_every_status_has_a_name_and_a_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
