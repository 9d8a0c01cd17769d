/*
 * Where a daemon is found: at the port that needs no saying, and at the addresses that
 * it advertises because its own are not those that workers reach.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"
#include "tests/support/daemon_proxy.h"

#define LANES 2
#define STEPS 5
#define DEFAULT_PORT 16783
#define DEFAULT_ENDPOINT "tcp://127.0.0.1:16783"

static const struct plan alone = { .optimizer = "adam", .workers = 1, .mode = OPTD_SYNC };

struct fixture {
	struct daemon_process daemon;
	struct daemon_proxy *proxies[LANES];
	struct trainer trainer;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	trainer_close(&fixture->trainer);
	for (int i = 0; i < LANES; i++)
		daemon_proxy_free(fixture->proxies[i]);
	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

static void train_at(struct fixture *fixture, const char *endpoint)
{
	assert_int_equal(trainer_open(&fixture->trainer, endpoint, &alone, 0), OPTD_OK);
	trainer_run(&fixture->trainer, STEPS);
	trainer_assert_exact(fixture->trainer.weights, &alone, STEPS);
}

/* ---- advertised ------------------------------------------------------------ */

/* A daemon behind a forwarder for each lane, which is what it advertises.  It lives
 * twice, since its config must name forwarders that must know its ports. */
static void start_behind_proxies(struct fixture *fixture)
{
	struct daemon_process *daemon = &fixture->daemon;
	char path[96];

	daemon_start_tcp(daemon, LANES);
	assert_int_equal(daemon_stop(daemon), 0);
	snprintf(path, sizeof(path), "%s/optd.yaml", daemon->directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	for (int i = 0; i < LANES; i++)
		fixture->proxies[i] = daemon_proxy_new(daemon->endpoints[i]);
	fprintf(file, "listen: ['%s', '%s']\n", daemon->endpoints[0], daemon->endpoints[1]);
	fprintf(file, "advertise: ['%s', '%s']\n", daemon_proxy_endpoint(fixture->proxies[0]),
	        daemon_proxy_endpoint(fixture->proxies[1]));
	fclose(file);
	assert_true(daemon_start_with(daemon, (const char *[]){ "--config", path, NULL }));
}

static void test_a_worker_reaches_the_other_lanes_where_they_are_advertised(void **state)
{
	struct fixture *fixture = *state;

	start_behind_proxies(fixture);
	train_at(fixture, daemon_proxy_endpoint(fixture->proxies[0]));
	assert_true(daemon_proxy_connections(fixture->proxies[0]) > 0);
	assert_true(daemon_proxy_connections(fixture->proxies[1]) > 0);
}

/* The caller's word for the first lane counts: it may be nearer than what others need. */
static void test_the_first_lane_is_where_the_worker_says(void **state)
{
	struct fixture *fixture = *state;

	start_behind_proxies(fixture);
	train_at(fixture, fixture->daemon.endpoints[0]);
	assert_int_equal(daemon_proxy_connections(fixture->proxies[0]), 0);
	assert_true(daemon_proxy_connections(fixture->proxies[1]) > 0);
}

static void keep_endpoint(void *user, const optd_status_row *row)
{
	char (*endpoints)[128] = user;

	for (int i = 0; i < LANES; i++) {
		if (endpoints[i][0] != '\0')
			continue;
		snprintf(endpoints[i], sizeof(endpoints[i]), "%s", row->endpoint);
		return;
	}
}

static void test_status_names_the_advertised_lanes(void **state)
{
	struct fixture *fixture = *state;
	char endpoints[LANES][128] = { "" };

	start_behind_proxies(fixture);
	train_at(fixture, daemon_proxy_endpoint(fixture->proxies[0]));
	assert_int_equal(optd_get_status(fixture->trainer.client, keep_endpoint, endpoints), OPTD_OK);
	for (int i = 0; i < LANES; i++)
		assert_string_equal(endpoints[i], daemon_proxy_endpoint(fixture->proxies[i]));
}

/* A lane's connection that breaks is made again at the advertised address. */
static void test_a_cut_connection_is_made_again_where_it_was_advertised(void **state)
{
	struct fixture *fixture = *state;

	start_behind_proxies(fixture);
	train_at(fixture, fixture->daemon.endpoints[0]);
	uint32_t before = daemon_proxy_connections(fixture->proxies[1]);
	daemon_proxy_cut(fixture->proxies[1]);
	trainer_run(&fixture->trainer, 2 * STEPS);
	trainer_assert_exact(fixture->trainer.weights, &alone, 2 * STEPS);
	assert_true(daemon_proxy_connections(fixture->proxies[1]) > before);
}

/* ---- by default ------------------------------------------------------------- */

static bool default_port_is_free(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(DEFAULT_PORT) };
	int yes = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	bool is_free = bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	close(fd);
	return is_free;
}

static void test_a_daemon_without_a_config_is_at_the_default_port(void **state)
{
	struct fixture *fixture = *state;

	if (!default_port_is_free() ||
	    (!daemon_start_with(&fixture->daemon, (const char *[]){ NULL }) && !default_port_is_free())) {
		print_message("# %s is in use here\n", DEFAULT_ENDPOINT);
		skip();
	}
	assert_true(fixture->daemon.pid > 0);
	assert_int_equal(fixture->daemon.endpoint_count, 1);
	assert_string_equal(fixture->daemon.endpoints[0], DEFAULT_ENDPOINT);
	train_at(fixture, DEFAULT_ENDPOINT);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_worker_reaches_the_other_lanes_where_they_are_advertised),
		TEST(test_the_first_lane_is_where_the_worker_says),
		TEST(test_status_names_the_advertised_lanes),
		TEST(test_a_cut_connection_is_made_again_where_it_was_advertised),
		TEST(test_a_daemon_without_a_config_is_at_the_default_port),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
