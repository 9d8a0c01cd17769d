/*
 * World: one engine and the clients of a test, in one process without sockets.
 *
 * A client here is a handful of numbers.  Requests are built by hand and given to
 * the engine; everything the engine sends is copied and kept, so that a test can
 * ask for the answer to a request.  The clock is a number.
 *
 * Functions assert (by cmocka) what every test relies on, so that tests show only
 * their claim.
 */
#ifndef OPTD_TEST_CORE_WORLD_H
#define OPTD_TEST_CORE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/layout.h"
#include "proto/msg.h"
#include "server/core/engine.h"

#define CORE_SCALAR UINT64_MAX

struct core_answer {
	uint32_t peer;
	uint64_t after_commit;
	struct msg head; /* without parts' masks; texts are in `text` and `optimizer` */
	char text[LIMIT_TEXT_BYTES];
	char optimizer[LIMIT_TEXT_BYTES];
	float *values;
	uint64_t count;
};

struct core_world {
	struct engine_options options;
	struct engine *engine;
	struct buf_pool *pool;
	struct outbox out;
	struct principal principal; /* of all clients; anonymous */
	uint64_t now_ms;
	uint64_t requests;
	struct core_answer *answers;
	uint32_t answer_count, answer_room;
	bool kept_stay; /* those that waited are answered by the test itself */
	bool work_stays; /* updates of whole tensors are done by the test itself */
	const struct engine_room *room; /* who has it, or NULL: all */
	uint32_t payloads; /* buffers given to the engine that it still holds */
	/* The model that clients of this world open. */
	const uint64_t *tensors; /* elements of each; CORE_SCALAR for one without dimensions */
	uint32_t tensor_count;
	uint64_t columns; /* with it, larger tensors that are a multiple are matrices */
	struct msg_open open;
};

struct core_client {
	struct core_world *world;
	uint32_t peer;
	uint64_t session;
	uint64_t client;
	int32_t rank;
	struct msg_opened opened;
};

/* A world with usual options and a model "m" of a few elements in one block:
 * t0 [4], t1 [3], t2 scalar; sgd with lr 1, sync, one worker.  Change what the test
 * is about, then start it. */
void core_world_init(struct core_world *world);
void core_world_start(struct core_world *world);
void core_world_end(struct core_world *world); /* asserts that nothing leaked */

/* Makes the model one of `count` scalars, which cuts into blocks of 4096. */
void core_world_scalars(struct core_world *world, uint32_t count);
/* The model's layout, uncut. */
struct layout *core_world_layout(const struct core_world *world);

void core_tick(struct core_world *world, uint64_t after_ms);
/* Copies what the outbox holds and what the engine has to answer, after a call of it by
 * the test itself. */
void core_collect(struct core_world *world);
/* The model's state as one number. */
uint64_t core_hash(const struct core_world *world);
/* Of the model that clients open, or of "m" where that is not there. */
struct shard *core_shard(const struct core_world *world);

struct core_client core_client_of(struct core_world *world, uint32_t peer, int32_t rank);
/* A request of this client, to be filled in and sent. */
struct msg core_msg(struct core_client *client, enum msg_verb verb);
/* Sends it with a copy of the values; returns its number. */
uint64_t core_send(struct core_client *client, struct msg *msg, const float *values, uint64_t count);
uint64_t core_send_typed(struct core_client *client, struct msg *msg, enum dtype type, const void *values,
                         uint64_t count);

const struct core_answer *core_hello(struct core_client *client);
/* Opens with world->open.  The answer, whatever it is; opened is kept on success. */
const struct core_answer *core_open(struct core_client *client);
/* Gives the model its first weights (zeros for NULL) under client->opened.token. */
void core_init_weights(struct core_client *client, const float *values);
/* HELLO, OPEN, and first weights of zero if this client is to give them. */
struct core_client core_join(struct core_world *world, uint32_t peer, int32_t rank);

/* A push of `count` whole blocks from `first` on. */
uint64_t core_push(struct core_client *client, enum msg_verb verb, uint64_t step, uint32_t first,
                   uint32_t count, const float *values);
/* The same with every element `value`. */
uint64_t core_push_all(struct core_client *client, uint64_t step, float value);
uint64_t core_close_step(struct core_client *client, uint64_t step, uint32_t first, uint32_t count);
uint64_t core_pull(struct core_client *client, uint32_t first, uint32_t count, uint64_t min_version);

/* The first final answer to a request, or NULL; the last notice with this status. */
const struct core_answer *core_answer(const struct core_world *world, uint64_t request);
const struct core_answer *core_notice(const struct core_world *world, uint64_t request, int status);
uint32_t core_answers_to(const struct core_world *world, uint64_t request);

/* Asserts that a request was refused with this status and that the text holds the
 * words, separated by '|'. */
void core_assert_refused(const struct core_world *world, uint64_t request, int status,
                         const char *words);
void core_assert_text(const struct core_answer *answer, const char *words);
void core_assert_ok(const struct core_world *world, uint64_t request);

#endif
