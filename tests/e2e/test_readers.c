/*
 * Readers that ask and never read, each within its own bounds, are bounded
 * together: what they have not read may take what the models leave of
 * limits.memory, whoever asks then hears BUSY, and it ends when they leave, or are
 * let go for one who reads.
 *
 * They come over ipc, where the kernel keeps 200 KiB for each: of a TCP connection
 * it takes 4 MiB, sooner or later, which would hide most of what is claimed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"
#include "tests/e2e/speak.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"
#include "tests/support/zmtp_peer.h"

#define MIB (UINT64_C(1) << 20)
#define MEMORY_BYTES (64 * MIB)
/* A tenth and 32 MiB are for the program itself, as in test_memory. */
#define RESIDENT_BYTES (MEMORY_BYTES + MEMORY_BYTES / 10 + 32 * MIB)
/* Answers of 5 MiB to each: less than the three windows at which one is let go
 * for its own sake, and 200 MiB to all. */
#define READERS 40
#define PULLS 5
#define PULL_BLOCKS 2 /* limits.message */
/* Workers that never read: 4.5 MiB of answers to each. */
#define WORKERS 30
#define STEPS 9
/* Of a model in sync: three times what makes one who does not read be let go. */
#define SYNC_BLOCKS 40
/* Pulls that wait, of each reader: 400 MiB of answers to all. */
#define WAITING 20
/* A layout of nearly limits.message. */
#define TENSORS 40000
/* Half of its blocks, and asks for the parts of a norm of these: 5 MiB of answers to each. */
#define NORM_BLOCKS 5
#define NORM_ASKS 20

struct fixture {
	struct daemon_process daemon;
	struct speaker greedy[READERS];
	struct msg last[READERS]; /* pull of each */
	struct speaker reader;    /* reads what it asks for */
};

static void start_daemon(struct daemon_process *daemon)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/optd.yaml", daemon->directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fprintf(file, "listen: ipc://%s/lane\n"
	                    "limits:\n  memory: 64MiB\n  window: 2MiB\n  message: 1MiB\n",
	                    daemon->directory) > 0);
	assert_int_equal(fclose(file), 0);
	assert_true(daemon_start_with(daemon, (const char *[]){ "--config", path, NULL }));
}

static void train_model(const char *endpoint)
{
	const struct plan plan = { .optimizer = "sgd", .workers = 1, .mode = OPTD_ASYNC };
	struct trainer trainer;

	if (trainer_open(&trainer, endpoint, &plan, 0) != OPTD_OK)
		fail_msg("%s", trainer_error(&trainer));
	trainer_close(&trainer);
}

static void open_reader(struct speaker *speaker, const char *endpoint, const char *model)
{
	speak_hello(speaker, endpoint);
	struct msg open = speak_request(speaker, MSG_OPEN);
	open.open = (struct msg_open){ .model = { model, 1 }, .daemons = 1 };
	assert_int_equal(speak_ask(speaker, &open), OPTD_OK);
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	fixture->reader.fd = -1;
	for (int i = 0; i < READERS; i++)
		fixture->greedy[i].fd = -1;
	daemon_init(&fixture->daemon);
	start_daemon(&fixture->daemon);
	train_model(fixture->daemon.endpoints[0]);
	open_reader(&fixture->reader, fixture->daemon.endpoints[0], "m");
	return 0;
}

static void leave(struct fixture *fixture)
{
	for (int i = 0; i < READERS; i++) {
		if (fixture->greedy[i].fd >= 0)
			speak_close(&fixture->greedy[i]);
	}
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	leave(fixture);
	if (fixture->reader.fd >= 0)
		speak_close(&fixture->reader);
	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

static struct msg pull_of(struct speaker *speaker)
{
	struct msg pull = speak_request(speaker, MSG_PULL);
	pull.part_count = 1;
	pull.parts[0].count = PULL_BLOCKS;
	return pull;
}

/* All ask, and have something to read that they do not read. */
static void ask_and_never_read(struct fixture *fixture)
{
	for (int i = 0; i < READERS; i++) {
		struct speaker *speaker = &fixture->greedy[i];
		open_reader(speaker, fixture->daemon.endpoints[0], "m");
		for (int j = 0; j < PULLS; j++) {
			fixture->last[i] = pull_of(speaker);
			assert_true(speak_send(speaker, &fixture->last[i]));
		}
	}
	for (int i = 0; i < READERS; i++)
		assert_true(zmtp_readable(fixture->greedy[i].fd, DAEMON_DEADLINE_MS));
}

/* The reader pulls until it is answered so; meanwhile it may hear OK or BUSY. */
static void pull_until(struct fixture *fixture, int status)
{
	uint64_t deadline_ms = daemon_now_ms() + DAEMON_DEADLINE_MS;
	int rc = OPTD_TIMEOUT;

	while (rc != status && daemon_now_ms() < deadline_ms) {
		struct msg pull = pull_of(&fixture->reader);
		rc = speak_ask(&fixture->reader, &pull);
		assert_true(rc == OPTD_OK || rc == OPTD_BUSY);
	}
	if (rc != status)
		fail_msg("pulls are still answered %d, not %d: %s", rc, status, fixture->reader.text);
}

static void assert_keeps_to_memory(const struct fixture *fixture)
{
	uint64_t peak = daemon_peak_rss(&fixture->daemon);

	print_message("# at most %.1f MiB resident, allowed %.1f\n", (double)peak / (double)MIB,
	              (double)RESIDENT_BYTES / (double)MIB);
	if (!daemon_sanitized())
		assert_true(peak <= RESIDENT_BYTES);
}

static void test_pulls_hear_busy_with_what_waits_and_what_is_left(void **state)
{
	struct fixture *fixture = *state;
	unsigned long long waiting = 0, left = 0;

	ask_and_never_read(fixture);
	pull_until(fixture, OPTD_BUSY);
	int found = sscanf(fixture->reader.text,
	                   "answers of %llu bytes wait to be read, 0 of them by you, and limits.memory leaves %llu:",
	                   &waiting, &left);
	if (found != 2)
		fail_msg("both sizes are not in: %s", fixture->reader.text);
	/* The model takes little, and one more message may have been let in. */
	assert_in_range(left, MEMORY_BYTES / 2, MEMORY_BYTES);
	assert_in_range(waiting, left, left + 2 * MIB);
}

static void test_unread_answers_keep_to_limits_memory(void **state)
{
	struct fixture *fixture = *state;

	ask_and_never_read(fixture);
	/* Their last answers tell that all was handled.  None was cut: each kept to
	 * what one reader may leave. */
	for (int i = 0; i < READERS; i++)
		assert_true(speak_answer(&fixture->greedy[i], &fixture->last[i], DAEMON_DEADLINE_MS));
	assert_keeps_to_memory(fixture);
}

static void test_pulls_are_answered_again_when_greedy_readers_left(void **state)
{
	struct fixture *fixture = *state;

	ask_and_never_read(fixture);
	pull_until(fixture, OPTD_BUSY);
	leave(fixture);
	pull_until(fixture, OPTD_OK);
}

static void test_those_that_never_read_are_let_go_for_one_who_does(void **state)
{
	struct fixture *fixture = *state;

	ask_and_never_read(fixture);
	pull_until(fixture, OPTD_BUSY);
	pull_until(fixture, OPTD_OK);
	assert_true(daemon_wait_log(&fixture->daemon, "event=unread", 1));
}

static void test_status_is_answered_while_pulls_hear_busy(void **state)
{
	struct fixture *fixture = *state;

	ask_and_never_read(fixture);
	pull_until(fixture, OPTD_BUSY);
	struct msg status = speak_request(&fixture->reader, MSG_STATUS);
	assert_int_equal(speak_ask(&fixture->reader, &status), OPTD_OK);
}

/* It would fit beside the first model: it has to wait for the memory that unread answers
 * take, and gets it when those who read nothing are let go. */
static void test_a_model_waits_for_memory_that_unread_answers_take(void **state)
{
	const uint64_t shape[] = { 8 * MIB };
	struct fixture *fixture = *state;
	uint64_t deadline_ms = daemon_now_ms() + DAEMON_DEADLINE_MS;

	ask_and_never_read(fixture);
	pull_until(fixture, OPTD_BUSY);
	int rc = speak_open(&fixture->reader, "large", shape, 1, 0, 0);
	assert_int_equal(rc, OPTD_BUSY);
	assert_non_null(strstr(fixture->reader.text, "once answers that wait have been read"));
	while (rc == OPTD_BUSY && daemon_now_ms() < deadline_ms)
		rc = speak_open(&fixture->reader, "large", shape, 1, 0, 0);
	assert_int_equal(rc, OPTD_OK);
}

/* ---- other answers with a payload ---------------------------------------- */

static struct msg push_pull(struct speaker *speaker, int32_t rank, uint64_t step)
{
	static const float gradient[LIMIT_BLOCK_ELEMENTS];
	struct msg msg = speak_push(speaker, gradient, LIMIT_BLOCK_BYTES);

	msg.verb = MSG_PUSH_PULL;
	msg.rank = rank;
	msg.step = step;
	return msg;
}

/* One of a model of one block, which rank 0 gives its first weights. */
static void open_worker(struct speaker *speaker, const char *endpoint, int32_t rank)
{
	const uint64_t shape[] = { LIMIT_BLOCK_ELEMENTS };

	uint64_t deadline_ms = daemon_now_ms() + DAEMON_DEADLINE_MS;
	int rc;

	speak_hello(speaker, endpoint);
	/* Its window may have to be taken from one who does not read. */
	do {
		rc = speak_open(speaker, "w", shape, 1, rank, 0);
	} while (rc == OPTD_BUSY && daemon_now_ms() < deadline_ms);
	assert_int_equal(rc, OPTD_OK);
	if (rank == 0)
		assert_int_equal(speak_init(speaker, LIMIT_BLOCK_BYTES), OPTD_OK);
}

static void test_workers_that_never_read_keep_to_limits_memory_and_stop_nobody(void **state)
{
	struct fixture *fixture = *state;
	const char *endpoint = fixture->daemon.endpoints[0];
	struct speaker honest;
	uint64_t step = 0;

	open_worker(&honest, endpoint, 0);
	for (int32_t i = 0; i < WORKERS; i++) {
		struct speaker *greedy = &fixture->greedy[i];
		open_worker(greedy, endpoint, i + 1);
		for (uint64_t j = 0; j < STEPS; j++) {
			struct msg msg = push_pull(greedy, i + 1, j);
			assert_true(speak_send(greedy, &msg));
		}
		/* Answered in turn with them, and never BUSY. */
		for (int j = 0; j < STEPS; j++) {
			struct msg msg = push_pull(&honest, 0, step++);
			assert_int_equal(speak_ask(&honest, &msg), OPTD_OK);
		}
	}
	assert_keeps_to_memory(fixture);
	speak_close(&honest);
}

/* A push of one block of a model that has many, in its first step. */
static struct msg push_block(struct speaker *speaker, int32_t rank, uint32_t block)
{
	struct msg msg = push_pull(speaker, rank, 0);

	msg.parts[0].first = block;
	return msg;
}

static void open_sync(struct speaker *speaker, const char *endpoint, int32_t rank)
{
	const uint64_t shape[] = { SYNC_BLOCKS * (uint64_t)LIMIT_BLOCK_ELEMENTS };

	speak_hello(speaker, endpoint);
	if (speak_open(speaker, "sync", shape, 1, rank, 2) != OPTD_OK)
		fail_msg("%s", speaker->text);
}

static void init_sync(struct speaker *speaker)
{
	for (uint32_t i = 0; i <= SYNC_BLOCKS; i++) {
		struct msg init = push_block(speaker, 0, i);
		init.verb = MSG_INIT;
		init.token = speaker->token;
		if (i == SYNC_BLOCKS)
			init.part_count = 0, init.payload_bytes = 0, init.payload = NULL, init.checksum = 0;
		assert_int_equal(speak_ask(speaker, &init), OPTD_OK);
	}
}

/* One has pushed all its blocks of a step and reads nothing yet; the other has not begun. */
static void push_late(struct fixture *fixture, struct msg *pushes)
{
	const char *endpoint = fixture->daemon.endpoints[0];
	struct speaker *late = &fixture->greedy[0], *other = &fixture->greedy[1];

	open_sync(late, endpoint, 0);
	init_sync(late);
	open_sync(other, endpoint, 1);
	for (uint32_t i = 0; i < SYNC_BLOCKS; i++) {
		pushes[i] = push_block(late, 0, i);
		assert_true(speak_send(late, &pushes[i]));
	}
}

static void read_late(struct fixture *fixture, const struct msg *pushes)
{
	struct speaker *late = &fixture->greedy[0];

	for (uint32_t i = 0; i < SYNC_BLOCKS; i++) {
		assert_true(speak_answer(late, &pushes[i], DAEMON_DEADLINE_MS));
		assert_int_equal(late->status, OPTD_OK);
	}
	assert_keeps_to_memory(fixture);
}

static void test_a_sync_worker_that_reads_late_gets_every_answer(void **state)
{
	struct fixture *fixture = *state;
	struct msg pushes[SYNC_BLOCKS];

	push_late(fixture, pushes);
	for (uint32_t i = 0; i < SYNC_BLOCKS; i++) {
		struct msg push = push_block(&fixture->greedy[1], 1, i);
		assert_int_equal(speak_ask(&fixture->greedy[1], &push), OPTD_OK);
	}
	read_late(fixture, pushes);
}

static void test_so_it_does_when_one_message_completes_the_step(void **state)
{
	struct fixture *fixture = *state;
	struct msg pushes[SYNC_BLOCKS];

	push_late(fixture, pushes);
	struct msg closes = speak_request(&fixture->greedy[1], MSG_CLOSE_STEP);
	closes.rank = 1;
	closes.incarnation = 1;
	closes.part_count = 1;
	closes.parts[0] = (struct msg_part){ .count = SYNC_BLOCKS };
	assert_int_equal(speak_ask(&fixture->greedy[1], &closes), OPTD_OK);
	read_late(fixture, pushes);
}

/* Pulls of the model's one block that wait for its first update; with a mask, so that
 * no two of them share their bytes. */
static struct msg pulls_that_wait(struct speaker *speaker, int count)
{
	static const uint8_t mask = 1;
	struct msg pull, status;

	for (int i = 0; i < count; i++) {
		pull = speak_request(speaker, MSG_PULL);
		pull.min_version = 1;
		pull.part_count = 1;
		pull.parts[0] = (struct msg_part){ .count = 1, .mask = &mask, .mask_bytes = 1 };
		assert_true(speak_send(speaker, &pull));
	}
	status = speak_request(speaker, MSG_STATUS);
	assert_int_equal(speak_ask(speaker, &status), OPTD_OK);
	return pull;
}

static void test_pulls_that_one_push_releases_keep_to_limits_memory(void **state)
{
	static const float gradient[LIMIT_BLOCK_ELEMENTS];
	struct fixture *fixture = *state;
	const char *endpoint = fixture->daemon.endpoints[0];
	struct speaker worker;

	open_worker(&worker, endpoint, 0);
	for (int i = 0; i < READERS; i++) {
		open_reader(&fixture->greedy[i], endpoint, "w");
		pulls_that_wait(&fixture->greedy[i], WAITING);
	}
	speak_close(&fixture->reader);
	open_reader(&fixture->reader, endpoint, "w");
	struct msg pull = pulls_that_wait(&fixture->reader, 1);
	struct msg push = speak_push(&worker, gradient, LIMIT_BLOCK_BYTES);
	assert_int_equal(speak_ask(&worker, &push), OPTD_OK);
	for (int i = 0; i < READERS; i++)
		assert_true(zmtp_readable(fixture->greedy[i].fd, DAEMON_DEADLINE_MS));
	leave(fixture);
	assert_true(speak_answer(&fixture->reader, &pull, DAEMON_DEADLINE_MS));
	assert_int_equal(fixture->reader.status, OPTD_OK);
	assert_keeps_to_memory(fixture);
	speak_close(&worker);
}

static void make_model_of_many_tensors(const char *endpoint)
{
	const optd_options options = { .rank = 0, .timeout_ms = DAEMON_DEADLINE_MS };
	const optd_open_options open = { .optimizer = "sgd", .workers = 1, .mode = OPTD_ASYNC };
	optd_layout *layout = optd_layout_new();
	optd_client *client;
	optd_model *model;
	char name[32];

	for (int i = 0; i < TENSORS; i++) {
		snprintf(name, sizeof(name), "tensor%06d", i);
		assert_true(optd_layout_add(layout, name, (const uint64_t[]){ 1 }, 1) >= 0);
	}
	assert_int_equal(optd_connect(endpoint, &options, &client), OPTD_OK);
	assert_true(optd_open(client, "many", layout, &open, &model) >= 0);
	optd_close(&client);
	optd_layout_free(layout);
}

static void test_layouts_that_are_never_read_keep_to_limits_memory(void **state)
{
	struct fixture *fixture = *state;
	const char *endpoint = fixture->daemon.endpoints[0];
	struct msg open, last[READERS];

	make_model_of_many_tensors(endpoint);
	for (int i = 0; i < READERS; i++) {
		struct speaker *greedy = &fixture->greedy[i];
		speak_hello(greedy, endpoint);
		for (int j = 0; j < PULLS; j++) {
			open = speak_request(greedy, MSG_OPEN);
			open.open = (struct msg_open){ .model = { "many", 4 }, .daemons = 1 };
			assert_true(speak_send(greedy, &open));
		}
		last[i] = open;
	}
	for (int i = 0; i < READERS; i++)
		assert_true(speak_answer(&fixture->greedy[i], &last[i], DAEMON_DEADLINE_MS));
	assert_keeps_to_memory(fixture);
}

/* ---- parts of a norm ------------------------------------------------------ */

/* Opens a model of many tensors that clips a norm, as the first of two servers has it. */
static void open_normed(struct speaker *speaker, const char *endpoint, int32_t rank)
{
	struct layout *layout = layout_new();
	char name[32];

	for (int i = 0; i < TENSORS; i++) {
		int bytes = snprintf(name, sizeof(name), "tensor%06d", i);
		assert_int_equal(layout_add(layout, name, (size_t)bytes, NULL, 0, 0), 0);
	}
	speak_hello(speaker, endpoint);
	struct msg open = speak_request(speaker, MSG_OPEN);
	open.payload_bytes = wire_layout_bytes(layout);
	void *bytes = malloc(open.payload_bytes);
	wire_layout_encode(layout, bytes);
	open.payload = bytes;
	open.checksum = wire_checksum(bytes, open.payload_bytes);
	open.rank = rank;
	assert_int_equal(layout_cut(layout, NULL), 0);
	open.open = (struct msg_open){ .model = { "n", 1 }, .daemons = 2, .layout_hash = layout_hash(layout),
		                       .client = speaker->session, .wants_init = true, .optimizer = { "sgd", 3 },
		                       .mode = MSG_SYNC, .workers = WORKERS, .clip = { .norm = 1 },
		                       .relays_norms = true };
	if (speak_ask(speaker, &open) != OPTD_OK)
		fail_msg("%s", speaker->text);
	layout_free(layout);
	free(bytes);
}

static struct msg about_normed(struct speaker *speaker, enum msg_verb verb, int32_t rank, uint32_t first,
                               uint32_t count)
{
	struct msg msg = speak_request(speaker, verb);

	msg.rank = rank;
	msg.incarnation = 1;
	msg.token = verb == MSG_INIT ? speaker->token : 0;
	msg.part_count = count > 0;
	msg.parts[0] = (struct msg_part){ .first = first, .count = count };
	return msg;
}

static void init_normed(struct speaker *speaker)
{
	static const float zeros[LIMIT_BLOCK_SEGMENTS];

	for (uint32_t i = 0; i <= NORM_BLOCKS; i++) {
		struct msg init = about_normed(speaker, MSG_INIT, 0, i, i < NORM_BLOCKS);
		init.payload = i < NORM_BLOCKS ? zeros : NULL;
		init.payload_bytes = i < NORM_BLOCKS ? sizeof(zeros) : 0;
		init.checksum = wire_checksum(init.payload, init.payload_bytes);
		if (speak_ask(speaker, &init) != OPTD_OK)
			fail_msg("%s", speaker->text);
	}
}

/* All of the step is collected, so each ask is answered at once, with 160 KiB or BUSY. */
static void test_norms_that_are_never_read_keep_to_limits_memory(void **state)
{
	struct fixture *fixture = *state;
	struct msg last[WORKERS], ask;

	for (int32_t i = 0; i < WORKERS; i++) {
		open_normed(&fixture->greedy[i], fixture->daemon.endpoints[0], i);
		if (i == 0)
			init_normed(&fixture->greedy[i]);
		struct msg close = about_normed(&fixture->greedy[i], MSG_CLOSE_STEP, i, 0, NORM_BLOCKS);
		assert_true(speak_send(&fixture->greedy[i], &close));
	}
	for (int32_t i = 0; i < WORKERS; i++) {
		ask = about_normed(&fixture->greedy[i], MSG_NORM, i, 0, NORM_BLOCKS);
		assert_int_equal(speak_ask(&fixture->greedy[i], &ask), OPTD_OK);
	}
	for (int32_t i = 0; i < WORKERS; i++) {
		for (int j = 0; j < NORM_ASKS; j++) {
			last[i] = about_normed(&fixture->greedy[i], MSG_NORM, i, 0, NORM_BLOCKS);
			assert_true(speak_send(&fixture->greedy[i], &last[i]));
		}
	}
	for (int32_t i = 0; i < WORKERS; i++)
		assert_true(speak_answer(&fixture->greedy[i], &last[i], DAEMON_DEADLINE_MS));
	assert_keeps_to_memory(fixture);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pulls_hear_busy_with_what_waits_and_what_is_left),
		TEST(test_unread_answers_keep_to_limits_memory),
		TEST(test_pulls_are_answered_again_when_greedy_readers_left),
		TEST(test_those_that_never_read_are_let_go_for_one_who_does),
		TEST(test_a_model_waits_for_memory_that_unread_answers_take),
		TEST(test_status_is_answered_while_pulls_hear_busy),
		TEST(test_workers_that_never_read_keep_to_limits_memory_and_stop_nobody),
		TEST(test_a_sync_worker_that_reads_late_gets_every_answer),
		TEST(test_so_it_does_when_one_message_completes_the_step),
		TEST(test_pulls_that_one_push_releases_keep_to_limits_memory),
		TEST(test_layouts_that_are_never_read_keep_to_limits_memory),
		TEST(test_norms_that_are_never_read_keep_to_limits_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
