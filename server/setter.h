/*
 * Setter: changes of a running model's hyper-parameters, which concern all lanes at once
 * and, where a client has several daemons, all of those.
 *
 * One change at a time, on the main thread.  It is first prepared: every lane looks at it
 * and holds the model's blocks at the version it is to hold from.  Then its version is
 * agreed on, which no block on any daemon has passed, and it is promised; then it is made.
 * With one daemon that is done at once (NOW).  Between its steps a client may die: what
 * was prepared is withdrawn and what was promised is made after LIMIT_SET_HOLD_MS without
 * a word, so that blocks are held for no longer.
 */
#ifndef OPTD_SERVER_SETTER_H
#define OPTD_SERVER_SETTER_H

#include <stdint.h>

#include "server/log.h"
#include "server/net/lane.h"
#include "server/net/mailbox.h"

struct setter;

/* On the main thread's loop; lanes and log are kept.  NULL without memory. */
struct setter *setter_new(uv_loop_t *loop, struct lane **lanes, uint32_t lane_count, const struct log *log);
/* Begins to close; free it when the loop has run out. */
void setter_close(struct setter *setter);
void setter_free(struct setter *setter);

/* As lane_options.set: SET from a client.  Any thread. */
void setter_ask(void *setter, struct lane *lane, const struct msg *request, uint32_t peer);

/* The daemon stops: what is promised is made, what is prepared is withdrawn, others get
 * DRAINING.  Then calls done, at once where nothing is at hand.  On the main thread, once. */
void setter_stop(struct setter *setter, void (*done)(void *user), void *user);
/* The lanes are about to end: nothing more is done. */
void setter_end(struct setter *setter);

#endif
