/*
 * Samples: one valid message of every verb and body, in both directions, with
 * every field that the verb knows set to a number of its own.
 */
#ifndef OPTD_TESTS_PROTO_SAMPLES_H
#define OPTD_TESTS_PROTO_SAMPLES_H

#include "proto/msg.h"

enum sample {
	SAMPLE_HELLO,
	SAMPLE_WELCOME,
	SAMPLE_OPEN,
	SAMPLE_OPENED,
	SAMPLE_OPEN_REFUSED,
	SAMPLE_INIT,
	SAMPLE_INIT_DONE,
	SAMPLE_PUSH,
	SAMPLE_PUSH_BF16,
	SAMPLE_PUSH_FOLDED,
	SAMPLE_PUSH_OK,
	SAMPLE_PULL,
	SAMPLE_PULL_OK,
	SAMPLE_PUSH_PULL,
	SAMPLE_PUSH_PULL_F16,
	SAMPLE_PUSH_PULL_OK,
	SAMPLE_WAITING,
	SAMPLE_CLOSE_STEP,
	SAMPLE_STATUS,
	SAMPLE_STATUS_OK,
	SAMPLE_SAVE,
	SAMPLE_SAVE_OK,
	SAMPLE_DROP,
	SAMPLE_GOODBYE,
	SAMPLE_SET,
	SAMPLE_SET_OK,
	SAMPLE_NORM,
	SAMPLE_NORM_TELL,
	SAMPLE_NORM_OK,
	SAMPLE_COUNT,
};

const char *sample_name(enum sample which);

/* The message; its payload and texts are static.  Only the checksum is left
 * for the caller to fill in. */
struct msg sample_make(enum sample which);

#endif
