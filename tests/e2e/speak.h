/*
 * Speak: optd's messages over a ZMTP peer, for tests that say what the client
 * library never would.
 */
#ifndef OPTD_TEST_SPEAK_H
#define OPTD_TEST_SPEAK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/layout.h"
#include "proto/msg.h"

struct speaker {
	int fd;
	uint64_t session, epoch, requests;
	/* of the model opened last */
	uint32_t object;
	uint64_t layout, token;
	/* the last answer */
	int32_t status;
	uint32_t skipped_rank_plus_one, skipped_tensor_plus_one;
	char text[LIMIT_TEXT_BYTES + 1];
};

/* Connects and says HELLO; fails the test without a WELCOME. */
void speak_hello(struct speaker *speaker, const char *endpoint);
void speak_close(struct speaker *speaker);

/* A request with session, epoch and number filled in, to be changed at will. */
struct msg speak_request(struct speaker *speaker, enum msg_verb verb);
/* Encodes it and sends it as it is; payload, its size and checksum are taken from *msg. */
bool speak_send(struct speaker *speaker, const struct msg *msg);
/* Waits for the answer to this request, passing over others; false when there
 * is none in time or the connection is gone.  Fills status and text, and after
 * OPEN what it tells. */
bool speak_answer(struct speaker *speaker, const struct msg *request, int timeout_ms);
/* Both: the status, or OPTD_TIMEOUT. */
int speak_ask(struct speaker *speaker, const struct msg *msg);

/* Opens a model of one tensor, sgd, as a rank: async, or sync with so many
 * workers if that is not 0. */
int speak_open(struct speaker *speaker, const char *name, const uint64_t *shape, uint32_t dimensions,
               int32_t rank, uint32_t workers);
/* INIT of a model of one block with zeros, and done. */
int speak_init(struct speaker *speaker, uint64_t bytes);
/* A PUSH of the model's one block by rank 0. */
struct msg speak_push(struct speaker *speaker, const float *gradient, uint64_t bytes);

#endif
