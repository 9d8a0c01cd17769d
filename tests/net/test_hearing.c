/* Hearing: messages of other threads are heard once, in order; what comes too late is freed. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "server/net/hearing.h"

#define TELLERS 4
#define EACH 500

struct fixture {
	uv_loop_t loop;
	struct hearing hearing;
	uint64_t next[TELLERS]; /* step that is to come of each */
	uint32_t heard;
};

static void hear(void *user, struct lane_message *message)
{
	struct fixture *fixture = user;

	assert_int_equal(message->step, fixture->next[message->from]++);
	fixture->heard++;
	free(message);
}

static struct lane_message *message_of(uint32_t from, uint64_t step)
{
	struct lane_message *message = calloc(1, sizeof(*message));
	assert_non_null(message);
	message->from = from;
	message->step = step;
	return message;
}

static int set_up(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){0};
	*state = &fixture;
	uv_loop_init(&fixture.loop);
	hearing_init(&fixture.hearing);
	hearing_open(&fixture.hearing, &fixture.loop, hear, &fixture);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	uv_run(&fixture->loop, UV_RUN_DEFAULT);
	hearing_deinit(&fixture->hearing);
	return uv_loop_close(&fixture->loop);
}

struct teller {
	pthread_t thread;
	struct fixture *fixture;
	uint32_t from;
};

static void *tell(void *argument)
{
	struct teller *teller = argument;

	for (uint64_t step = 0; step < EACH; step++)
		hearing_tell(&teller->fixture->hearing, message_of(teller->from, step));
	return NULL;
}

static void test_what_several_threads_tell_is_heard_once_and_of_each_in_order(void **state)
{
	struct fixture *fixture = *state;
	struct teller tellers[TELLERS];

	for (uint32_t i = 0; i < TELLERS; i++) {
		tellers[i] = (struct teller){.fixture = fixture, .from = i};
		assert_int_equal(pthread_create(&tellers[i].thread, NULL, tell, &tellers[i]), 0);
	}
	while (fixture->heard < TELLERS * EACH)
		uv_run(&fixture->loop, UV_RUN_ONCE);
	for (uint32_t i = 0; i < TELLERS; i++)
		pthread_join(tellers[i].thread, NULL);
	hearing_close(&fixture->hearing);
}

static void test_what_is_not_heard_in_time_is_forgotten(void **state)
{
	struct fixture *fixture = *state;

	hearing_tell(&fixture->hearing, message_of(0, 0));
	hearing_close(&fixture->hearing);
	hearing_tell(&fixture->hearing, message_of(0, 1));
	uv_run(&fixture->loop, UV_RUN_DEFAULT);
	assert_int_equal(fixture->heard, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_what_several_threads_tell_is_heard_once_and_of_each_in_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_not_heard_in_time_is_forgotten, set_up,
		                                tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
