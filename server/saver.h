/*
 * Saver: what concerns all lanes at once: checkpoints, and dropping a model.
 *
 * Jobs are done one at a time, in order, on the main thread; LIMIT_JOBS of peers may
 * wait, more are BUSY.  A checkpoint asks
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
	uint64_t drain_ms;    /* how long a step may hold up the last checkpoint */
};

/* NULL without memory. */
struct saver *saver_new(const struct saver_options *options);
/* Begins to close; free it when the loop has run out. */
void saver_close(struct saver *saver);
void saver_free(struct saver *saver);

/* As lane_options.admin: SAVE and DROP from a client.  Any thread. */
void saver_admin(void *saver, struct lane *lane, const struct msg *request, uint32_t peer,
                 const char *name);

/* Saves every model that changed since its last checkpoint, unless that waits to be
 * done already.  On the main thread. */
void saver_all(struct saver *saver);

/* The daemon stops: when the job at hand is done, saves every model that changed
 * (with `save`), from where no model goes on: what was acknowledged is in the files.
 * What peers asked for and waits gets DRAINING.  Then calls done with whether all went
 * well; no job is begun after that.  On the main thread, once. */
void saver_stop(struct saver *saver, bool save, void (*done)(void *user, bool well), void *user);

#endif
