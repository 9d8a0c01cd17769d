/* Mailbox: posts are done once, in order, on the loop's thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "server/net/mailbox.h"

#define ROUNDS 5

struct fixture {
	uv_loop_t loop;
	struct mailbox mailbox;
	struct mail mail;
	int runs;
	char said[8];
	size_t length;
};

static int set_up(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){0};
	*state = &fixture;
	uv_loop_init(&fixture.loop);
	mailbox_open(&fixture.mailbox, &fixture.loop);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	mailbox_close(&fixture->mailbox);
	uv_run(&fixture->loop, UV_RUN_DEFAULT);
	return uv_loop_close(&fixture->loop);
}

static void say(void *user, void *argument)
{
	struct fixture *fixture = user;

	fixture->said[fixture->length++] = *(const char *)argument;
}

static void test_kept_and_other_posts_are_done_in_order(void **state)
{
	struct fixture *fixture = *state;
	char word[] = "abc";

	assert_int_equal(mailbox_post(&fixture->mailbox, say, fixture, &word[0]), 0);
	mailbox_post_kept(&fixture->mailbox, &fixture->mail, say, fixture, &word[1]);
	assert_int_equal(mailbox_post(&fixture->mailbox, say, fixture, &word[2]), 0);
	uv_run(&fixture->loop, UV_RUN_ONCE);
	assert_string_equal(fixture->said, "abc");
}

static void post_again(void *user, void *argument)
{
	struct fixture *fixture = user;

	if (++fixture->runs < ROUNDS)
		mailbox_post_kept(&fixture->mailbox, argument, post_again, fixture, argument);
}

static void test_a_kept_mail_may_be_posted_again_when_it_runs(void **state)
{
	struct fixture *fixture = *state;

	mailbox_post_kept(&fixture->mailbox, &fixture->mail, post_again, fixture, &fixture->mail);
	while (fixture->runs < ROUNDS)
		uv_run(&fixture->loop, UV_RUN_ONCE);
	assert_int_equal(uv_run(&fixture->loop, UV_RUN_NOWAIT), 1);
	assert_int_equal(fixture->runs, ROUNDS);
}

static void test_closing_forgets_kept_and_other_posts(void **state)
{
	struct fixture *fixture = *state;
	char word[] = "x";

	assert_int_equal(mailbox_post(&fixture->mailbox, say, fixture, word), 0);
	mailbox_post_kept(&fixture->mailbox, &fixture->mail, say, fixture, word);
	mailbox_close(&fixture->mailbox);
	uv_run(&fixture->loop, UV_RUN_DEFAULT);
	assert_int_equal(fixture->length, 0);
	mailbox_open(&fixture->mailbox, &fixture->loop);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_kept_and_other_posts_are_done_in_order),
		TEST(test_a_kept_mail_may_be_posted_again_when_it_runs),
		TEST(test_closing_forgets_kept_and_other_posts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
