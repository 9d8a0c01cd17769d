/*
 * Saver: what concerns all lanes at once: checkpoints, and dropping a model.
 *
 * Jobs are done one at a time, in order, on the main thread.  A checkpoint asks
 * every lane how far the model is, agrees on one version, lets each lane write
 * its blocks as they reach it, and has the file synced and renamed on a worker
 * thread; training goes on meanwhile but for the blocks that are being written.
 */
#ifndef OPTD_SERVER_SAVER_H
#define OPTD_SERVER_SAVER_H

#include <stdbool.h>
#include <stdint.h>

#include "server/log.h"
#include "server/net/lane.h"
#include "server/net/mailbox.h"

struct saver;

struct saver_options {
	uv_loop_t *loop;      /* the main thread's */
	struct lane **lanes;  /* kept */
	uint32_t lane_count;
	const char *data_dir; /* kept */
	const struct log *log; /* kept */
	uint64_t patience_ms; /* how long a step may hold up a checkpoint */
};

/* NULL without memory. */
struct saver *saver_new(const struct saver_options *options);
/* Begins to close; free it when the loop has run out. */
void saver_close(struct saver *saver);
void saver_free(struct saver *saver);

/* As lane_options.admin: SAVE and DROP from a client.  Any thread. */
void saver_admin(void *saver, struct lane *lane, const struct msg *request, uint32_t peer,
                 const char *name);

/* Saves every model that changed since its last checkpoint, then calls done.  On
 * the main thread.  done may be NULL. */
void saver_all(struct saver *saver, void (*done)(void *user), void *user);

#endif
