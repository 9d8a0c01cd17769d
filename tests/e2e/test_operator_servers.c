/*
 * optctl status, save and drop against two daemons, of which each has its part of a model,
 * or none, or is down.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client/optd.h"
#include "proto/limits.h"
#include "tests/support/daemon_process.h"
#include "tests/support/optctl_process.h"

#define ONE_BLOCK LIMIT_BLOCK_ELEMENTS
#define TWO_BLOCKS (2 * LIMIT_BLOCK_ELEMENTS)
/* Too little for any checkpoint here, enough for the log. */
#define SMALL_FILE 65536

struct fixture {
	struct daemon_process daemons[2];
	optd_client *client;
	float *weights;
	char endpoints[300];
	char out[4096]; /* of optctl */
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	static const optd_options worker = {.rank = 0, .timeout_ms = DAEMON_DEADLINE_MS};

	assert_non_null(f);
	*state = f;
	for (int i = 0; i < 2; i++) {
		daemon_init(&f->daemons[i]);
		daemon_start_tcp(&f->daemons[i], 1);
	}
	snprintf(f->endpoints, sizeof(f->endpoints), "%s,%s", f->daemons[0].endpoints[0],
	         f->daemons[1].endpoints[0]);
	f->weights = calloc(TWO_BLOCKS, sizeof(float));
	assert_int_equal(optd_connect(f->endpoints, &worker, &f->client), OPTD_OK);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	optd_close(&f->client);
	for (int i = 0; i < 2; i++)
		daemon_deinit(&f->daemons[i]);
	free(f->weights);
	free(f);
	return 0;
}

/* Makes the model, with weights. */
static void make(struct fixture *f, const char *name, uint64_t elements)
{
	optd_layout *layout = optd_layout_new();
	optd_model *model;

	assert_int_equal(optd_layout_add(layout, "w", &elements, 1), 0);
	assert_int_equal(optd_open(f->client, name, layout, NULL, &model), OPTD_OK);
	assert_int_equal(optd_init(model, f->weights), 1);
	optd_layout_free(layout);
}

static int optctl(struct fixture *f, const char *arguments)
{
	return optctl_run(f->out, sizeof(f->out), "-s %s %s", f->endpoints, arguments);
}

static void must(struct fixture *f, const char *arguments)
{
	if (optctl(f, arguments) != 0)
		fail_msg("%s", f->out);
}

/* Drops the model on one of the two, as a drop that failed on the other leaves it. */
static void drop_on_one(struct fixture *f, int which, const char *name)
{
	int rc = optctl_run(f->out, sizeof(f->out), "-s %s drop --yes %s", f->daemons[which].endpoints[0],
	                    name);
	if (rc != 0)
		fail_msg("%s", f->out);
}

static void test_a_server_without_a_block_of_the_model_does_not_fail_its_save(void **state)
{
	struct fixture *f = *state;

	make(f, "small", ONE_BLOCK);
	must(f, "save small");
	assert_string_equal(f->out, "saved 'small'\n");
}

static void test_a_server_without_a_block_of_the_model_does_not_fail_its_drop(void **state)
{
	struct fixture *f = *state;

	make(f, "small", ONE_BLOCK);
	must(f, "drop --yes small");
	assert_string_equal(f->out, "dropped 'small'\n");
}

static void test_a_drop_that_one_server_has_done_goes_on_when_asked_again(void **state)
{
	struct fixture *f = *state;

	for (int which = 0; which < 2; which++) {
		make(f, which == 0 ? "a" : "b", TWO_BLOCKS);
		drop_on_one(f, which, which == 0 ? "a" : "b");
		must(f, which == 0 ? "drop --yes a" : "drop --yes b");
	}
	must(f, "status");
	assert_memory_equal(f->out, "no models on ", 13);
}

static void test_a_name_that_no_server_has_is_an_error_with_the_nearest(void **state)
{
	struct fixture *f = *state;

	make(f, "fashion", TWO_BLOCKS);
	make(f, "small", ONE_BLOCK);
	assert_int_equal(optctl(f, "drop --yes fasion"), 1);
	assert_non_null(strstr(f->out, "no model 'fasion' here; the nearest is 'fashion'\n"));
	assert_int_equal(optctl(f, "save smal"), 1);
	assert_non_null(strstr(f->out, "'smal'"));
	assert_non_null(strstr(f->out, "; the nearest is 'small'\n"));
}

static void test_a_failure_is_told_rather_than_that_another_has_no_part(void **state)
{
	struct fixture *f = *state;
	const struct rlimit small = {SMALL_FILE, RLIM_INFINITY};

	make(f, "m", TWO_BLOCKS);
	drop_on_one(f, 0, "m");
	assert_int_equal(prlimit(f->daemons[1].pid, RLIMIT_FSIZE, &small, NULL), 0);
	assert_int_equal(optctl(f, "save m"), 1);
	assert_non_null(strstr(f->out, f->daemons[1].endpoints[0]));
	assert_non_null(strstr(f->out, "File too large"));
}

static void test_status_tells_of_the_servers_that_answer_when_one_is_down(void **state)
{
	struct fixture *f = *state;
	char down[400];

	make(f, "m", TWO_BLOCKS);
	daemon_kill(&f->daemons[1]);
	assert_int_equal(optctl(f, "status"), 69);
	snprintf(down, sizeof(down), "optctl: no server answers at %s: ", f->daemons[1].endpoints[0]);
	const char *line = strstr(f->out, "optctl: ");
	assert_non_null(line);
	assert_memory_equal(line, down, strlen(down));
	assert_null(strstr(line + 1, "optctl: "));
	assert_non_null(strstr(f->out, "m: incomplete: 1 of 2 blocks; not all servers answer\n"));
	assert_non_null(strstr(f->out, "  workers     1 of 1 present, sync\n"));
	assert_int_equal(optctl(f, "status --json"), 69);
	const char *document = strchr(f->out, '{'); /* behind the line about the other */
	assert_non_null(document);
	json_t *json = json_loads(document, 0, NULL), *unanswered = json_object_get(json, "unanswered");
	assert_int_equal(json_array_size(unanswered), 1);
	assert_string_equal(json_string_value(json_array_get(unanswered, 0)), f->daemons[1].endpoints[0]);
	assert_int_equal(json_array_size(json_object_get(json, "models")), 1);
	assert_int_equal(json_array_size(json_object_get(json, "lanes")), 1);
	json_decref(json);
	daemon_kill(&f->daemons[0]);
	assert_int_equal(optctl(f, "status"), 69);
	assert_null(strstr(f->out, "no models"));
}

static void test_status_of_a_model_shows_that_one_alone(void **state)
{
	struct fixture *f = *state;

	make(f, "fashion", TWO_BLOCKS);
	make(f, "small", ONE_BLOCK);
	must(f, "status fashion");
	assert_memory_equal(f->out, "fashion: ", 9);
	assert_null(strstr(f->out, "small"));
	must(f, "status --json small");
	json_t *json = json_loads(f->out, 0, NULL), *models = json_object_get(json, "models");
	assert_int_equal(json_array_size(models), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(models, 0), "name")), "small");
	json_decref(json);
	assert_int_equal(optctl(f, "status fasion"), 1);
	assert_memory_equal(f->out, "optctl: no model 'fasion' on ", 29);
	assert_non_null(strstr(f->out, "; the nearest is 'fashion'\n"));
	assert_int_equal(optctl(f, "status a b"), 64);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_server_without_a_block_of_the_model_does_not_fail_its_save),
		TEST(test_a_server_without_a_block_of_the_model_does_not_fail_its_drop),
		TEST(test_a_drop_that_one_server_has_done_goes_on_when_asked_again),
		TEST(test_a_name_that_no_server_has_is_an_error_with_the_nearest),
		TEST(test_status_tells_of_the_servers_that_answer_when_one_is_down),
		TEST(test_status_of_a_model_shows_that_one_alone),
		TEST(test_a_failure_is_told_rather_than_that_another_has_no_part),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
