/* What saver.c and save.c share; only they include it. */
#ifndef OPTD_SERVER_SAVER_PARTS_H
#define OPTD_SERVER_SAVER_PARTS_H

#include "server/disk/checkpoint.h"
#include "server/saver.h"

/* A sentence with a model's name in it. */
#define SAVER_WHY_BYTES (LIMIT_NAME_BYTES + 256)

/* Who asked, if somebody did.  A place is taken before the request is queued and
 * given back by its answer, so that neither can fail. */
struct asker {
	struct saver *saver;
	struct lane *lane; /* NULL: the place is free */
	uint32_t peer;
	enum msg_verb verb;
	uint64_t request, session;
	struct mail mail; /* to the main thread, then back to the lane */
};

enum job_kind {
	JOB_SAVE, /* one model */
	JOB_DROP,
	JOB_ALL,  /* finds out which models there are, and queues a save for each */
	JOB_DONE, /* tells who asked for all that they are done */
};

struct job {
	struct job *next;
	enum job_kind kind;
	char model[LIMIT_NAME_BYTES];
	bool unchanged_too; /* somebody asked for a file: write one */
	bool last;          /* the daemon stops after it */
	bool asked;           /* by a peer, who could ask for ever */
	struct asker *asker;  /* NULL: one of all models, or the daemon's own */
	void (*done)(void *user, bool well); /* JOB_DONE */
	void *user;
	int status; /* OPTD_OK so far, or why it failed */
	char why[SAVER_WHY_BYTES];
};

/* What one lane says of the model being saved. */
struct part {
	struct saver *saver;
	struct mail there, back; /* one post at a time each way, which cannot fail */
	struct mail drain;
	struct shard *shard; /* NULL: the lane has nothing of it */
	/* Versions of the blocks, when asked, then of what was written. */
	uint64_t lowest, highest;
	uint64_t updates; /* their sum, which every step's commit changes */
	struct changes changes; /* as they were then: the same on all lanes */
	uint32_t seats;
	struct scaler scaler; /* at the highest of these versions, from which it is held */
	struct skips skips;   /* likewise */
	int status;
	char why[SAVER_WHY_BYTES];
	uint32_t name_count;
	char names[LIMIT_MODELS][LIMIT_NAME_BYTES];
};

/* What the newest checkpoint of a model holds.  A version never goes back within a
 * run, so the sum of all says whether any block has changed. */
struct saved {
	char model[LIMIT_NAME_BYTES]; /* "": free */
	uint64_t run_id;
	uint64_t updates;
	uint64_t changes; /* of settings, made by then */
};

struct saver {
	struct saver_options options;
	struct mailbox mailbox;
	struct job *first, *last;
	bool busy;
	bool stopping; /* begin none but those of the end */
	bool stopped;  /* begin no job any more */
	pthread_mutex_t lock; /* of askers */
	struct asker askers[LIMIT_JOBS];
	struct log_limit log_limit;
	struct saved saved[LIMIT_MODELS];
	/* the job at hand */
	struct part parts[LIMIT_LANES];
	uint32_t waiting; /* lanes that have not answered */
	struct checkpoint about;
	struct checkpoint_writer *writer;
	uint64_t lowest, highest, updates; /* of the lanes together, as in their parts */
	uint64_t began_ms;
	uv_work_t work;
	int work_status;
	char work_why[SAVER_WHY_BYTES];
};

/* The job at hand has failed, for this reason. */
void job_fail(struct saver *saver, int status, const char *why);
/* The job at hand is over: answers who asked and begins the next one. */
void job_finish(struct saver *saver);

/* NULL without memory. */
struct job *job_new(enum job_kind kind, const char *model);
/* Takes the job, behind the others.  job_next begins it if none is at hand. */
void job_queue(struct saver *saver, struct job *job);
void job_next(struct saver *saver);
/* Two jobs: one that queues the saves, and one behind them that tells of their end,
 * as `end` says.  False without memory. */
bool job_queue_all(struct saver *saver, bool unchanged_too, const struct job *end);

/* Answers who asked for the job, which is taken. */
void asker_answer(struct job *job);
/* The same, because the daemon stops. */
void asker_turn_away(struct job *job);

/* Has run done on every lane's thread; each of them must end in lane_done. */
void each_lane(struct saver *saver, void (*run)(void *lane, void *part));
/* On the lane's thread: has `then` done on the main thread. */
void lane_done(struct part *part, void (*then)(void *saver, void *part));
/* In `then`: whether this was the last lane. */
bool lanes_all_done(struct saver *saver);

/* Begins JOB_SAVE. */
void save_begin(struct saver *saver);
/* The model's file is gone, or is about to be. */
void save_forget(struct saver *saver, const char *model);

#endif
