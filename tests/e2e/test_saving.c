/*
 * Checkpoints while the daemon runs, and DROP: what is written and when, what
 * the log says, and how much one may ask for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/status.h"
#include "tests/e2e/blocks.h"
#include "tests/e2e/kept.h"
#include "tests/support/daemon_process.h"

#define MODEL "blocks"
#define SAVED "event=checkpoint model=" MODEL " "

struct fixture {
	struct daemon_process daemon;
	struct speaker speaker;
	char file[128]; /* the checkpoint of the model */
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	fixture->speaker.fd = -1;
	daemon_init(&fixture->daemon);
	snprintf(fixture->file, sizeof(fixture->file), "%s/models/" MODEL ".safetensors",
	         fixture->daemon.data);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	if (fixture->speaker.fd >= 0)
		speak_close(&fixture->speaker);
	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

static void start(struct fixture *fixture, const char *config)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/optd.yaml", fixture->daemon.directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fprintf(file, "listen: tcp://127.0.0.1:0\n%s", config) > 0);
	assert_int_equal(fclose(file), 0);
	assert_true(daemon_start_with(&fixture->daemon, (const char *[]){ "--config", path, NULL }));
	blocks_join(&fixture->speaker, fixture->daemon.endpoints[0], MODEL);
}

/* ---- what is written ---------------------------------------------------- */

/* The lowest and the highest version are what the first file has. */
static void test_the_end_saves_a_block_that_is_between_the_others(void **state)
{
	struct fixture *fixture = *state;
	struct speaker *speaker = &fixture->speaker;

	start(fixture, "");
	blocks_push(speaker, 0, 0);
	blocks_push(speaker, 0, 1);
	assert_int_equal(blocks_ask(speaker, MSG_SAVE, MODEL), OPTD_OK);
	blocks_push(speaker, 1, 0);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	assert_int_equal(kept_version(fixture->file, 0), 2);
	assert_int_equal(kept_version(fixture->file, 1), 1);
	assert_int_equal(kept_version(fixture->file, 2), 0);
}

static void test_the_interval_saves_what_changed_since(void **state)
{
	struct fixture *fixture = *state;
	struct speaker *speaker = &fixture->speaker;

	start(fixture, "checkpoint: {interval: 1s}\n");
	blocks_push(speaker, 0, 0);
	assert_true(daemon_wait_log(&fixture->daemon, SAVED "version=0 highest=1", 1));
	blocks_push(speaker, 1, 0);
	blocks_push(speaker, 2, 0);
	assert_true(daemon_wait_log(&fixture->daemon, SAVED "version=1 highest=1", 1));
	daemon_kill(&fixture->daemon);
	kept_assert_at(fixture->file, 1, 1);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_end_saves_a_block_that_is_between_the_others),
		TEST(test_the_interval_saves_what_changed_since),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
