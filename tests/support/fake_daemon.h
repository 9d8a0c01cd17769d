/*
 * A fake daemon: speaks the protocol well enough for one worker, and badly
 * where a test wants it.
 *
 * It runs on a thread of its own behind a ROUTER on a free port, holds one
 * model whose update is w += g, and does what a test has asked for before the
 * call: lose an answer, forget its sessions, go back a step.  It keeps counts of
 * what it was sent.
 */
#ifndef OPTD_TEST_FAKE_DAEMON_H
#define OPTD_TEST_FAKE_DAEMON_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/layout.h"
#include "proto/msg.h"
#include "proto/wire.h"

struct fake_daemon {
	char endpoint[LIMIT_ENDPOINT_BYTES + 1];
	uint64_t id;

	/* Set by tests, used up by the daemon. */
	_Atomic int lose_answers;    /* so many answers to requests about weights are not sent */
	_Atomic int damage_answers;  /* so many have a payload with one bit turned */
	_Atomic int odd_frames;      /* so many answers are preceded by nonsense */
	_Atomic int hold;            /* while set, pushes, SAVE and DROP hear WAITING and no answer */
	_Atomic int forget_sessions; /* as if the connection had been replaced */
	_Atomic int restart;         /* another epoch; sessions are gone, the model stays */
	_Atomic int back;            /* steps that the model goes back with the restart */
	_Atomic int lose_model;      /* and the model is gone with the restart */
	_Atomic int refuse_push;     /* status of the next push */
	_Atomic int window;          /* that WELCOME grants, for two messages; 0: the usual */
	_Atomic int averages;        /* pulls of an average are answered as such, with the weights */
	_Atomic int lanes;           /* so many are named by WELCOME, if any, and the last as */
	_Atomic(const char *) last_lane; /* this */
	_Atomic int nonfinite;       /* the policy that OPENED names: set it before */
	_Atomic int workers;         /* that it names; 0: 1 */
	_Atomic int next_scale;      /* the loss scale that it and answers name, if any */
	_Atomic int step_answers;    /* of the model, while it runs */
	_Atomic int clips;           /* OPENED names a clip_norm of 1 */
	_Atomic int refuse_norm;     /* status of the next NORM */

	/* Counts. */
	_Atomic int close_weight; /* of the last CLOSE_STEP */
	_Atomic int dtype;        /* of the last push */
	_Atomic int pushed_bytes; /* of payloads */
	_Atomic int poisoned;     /* messages that said so; and the tensor of the last, plus one */
	_Atomic int poison_tensor_plus_one;
	_Atomic int rejected;     /* CLOSE_STEPs that said so under reject */
	_Atomic int rejected_blocks, rejected_step; /* all that they named; the last's */
	_Atomic int scale;        /* of the last push's loss */
	_Atomic int base_version; /* of the last push */
	_Atomic int asked, told;  /* NORM: for this one's parts, and of others' */
	_Atomic int told_wrong;   /* among those, numbers that no daemon would have answered */
	_Atomic int hellos, opens, pushes, applied, closed_blocks, goodbyes;

	/* The daemon's own. */
	void *context, *socket;
	pthread_t thread;
	_Atomic bool stop;
	struct wire_arena *arena;
	struct layout *layout;
	uint64_t epoch, run, step, session;
	uint64_t *versions; /* by block */
	uint32_t number, daemons; /* its place among those that share the model */
	float *weights;
	bool ready;
	struct msg reply;
	unsigned char header[LIMIT_HEADER_BYTES];
};

void fake_daemon_start(struct fake_daemon *daemon, uint64_t id);
/* The same at an endpoint where another has been. */
void fake_daemon_start_at(struct fake_daemon *daemon, const char *endpoint, uint64_t id);
void fake_daemon_stop(struct fake_daemon *daemon);

#endif
