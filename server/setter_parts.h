/* What setter.c and setter_ask.c share; only they include it. */
#ifndef OPTD_SERVER_SETTER_PARTS_H
#define OPTD_SERVER_SETTER_PARTS_H

#include <pthread.h>
#include <stdbool.h>

#include "server/setter.h"

#define SETTER_NAME_BYTES 64
#define SETTER_DONE 16

/* A request, with what it points to.  A place is taken before it is queued and given back
 * by its answer, so that neither can fail. */
struct set_asked {
	struct set_asked *next;
	struct setter *setter;
	struct lane *lane; /* NULL: the place is free */
	uint32_t peer;
	uint64_t request, session;
	struct msg_set set; /* texts are below */
	char model[LIMIT_NAME_BYTES];
	char tensors[LIMIT_PATTERN_BYTES];
	char names[LIMIT_HYPERS][SETTER_NAME_BYTES];
	struct mail mail; /* to the main thread, then back to the lane */
	/* the answer */
	int status;
	uint64_t version, version_max;
	char why[LIMIT_TEXT_BYTES];
};

/* What one lane says of the model. */
struct set_part {
	struct setter *setter;
	struct mail there, back;
	uint32_t blocks, share; /* it has; the daemon should have */
	uint64_t from;          /* at which it holds them */
	uint64_t lowest;
	int status;
	char why[LIMIT_TEXT_BYTES];
	char text[LIMIT_TEXT_BYTES]; /* of the change */
	char group[LIMIT_PATTERN_BYTES]; /* whose it is, by its pattern; "": the model's own */
};

enum set_state { SET_NONE, SET_PREPARED, SET_PROMISED };

struct set_done {
	uint64_t id; /* 0: none */
	bool made;
	uint64_t from;
};

struct setter {
	struct lane **lanes;
	uint32_t lane_count;
	const struct log *log;
	struct mailbox mailbox;
	uv_timer_t timer; /* the hold */
	pthread_mutex_t lock; /* of places */
	struct set_asked places[LIMIT_SETS];
	struct set_asked *first, *last; /* to be done, on the main thread */
	bool busy;
	struct set_asked *asked; /* at hand; NULL: the hold is over, or the daemon stops */
	bool stopping;
	bool ended; /* nobody is answered any more */
	void (*stopped)(void *user);
	void *user;
	/* the change at hand */
	struct set_part parts[LIMIT_LANES];
	uint32_t waiting; /* lanes that have not answered */
	enum set_state state;
	uint64_t id;
	char model[LIMIT_NAME_BYTES];
	uint64_t from, passed;
	int failed;
	char why[LIMIT_TEXT_BYTES];
	/* those that are over, the last of them: a request may come again */
	struct set_done done[SETTER_DONE];
	uint32_t done_next;
};

/* Takes up what was asked, on the main thread, behind the others. */
void setter_queue(struct setter *setter, struct set_asked *asked);
/* Sends the answer and gives the place back. */
void set_answer(struct set_asked *asked, int status, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

#endif
