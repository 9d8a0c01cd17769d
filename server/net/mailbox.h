/*
 * Mailbox: how one thread has something done on another's loop.
 *
 * Posts are done in order, each once, on the loop's thread.  A post takes memory,
 * unless it is made with a mail that the caller keeps: that cannot fail.
 */
#ifndef OPTD_NET_MAILBOX_H
#define OPTD_NET_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <uv.h>

/* Only mailbox.c looks inside. */
struct mail {
	struct mail *next;
	void (*run)(void *user, void *argument);
	void *user;
	void *argument;
	bool kept; /* the caller's */
};

struct mailbox {
	uv_async_t async;
	pthread_mutex_t lock;
	struct mail *first, *last;
};

void mailbox_open(struct mailbox *mailbox, uv_loop_t *loop);
/* Begins to close; posts not yet done are forgotten.  On the loop's thread. */
void mailbox_close(struct mailbox *mailbox);

/* Any thread.  OPTD_NO_MEMORY. */
int mailbox_post(struct mailbox *mailbox, void (*run)(void *user, void *argument), void *user,
                 void *argument);
/* The same with the caller's mail, which is free again when run is called. */
void mailbox_post_kept(struct mailbox *mailbox, struct mail *mail,
                       void (*run)(void *user, void *argument), void *user, void *argument);

#endif
