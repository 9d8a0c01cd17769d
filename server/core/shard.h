/*
 * Shard: everything one lane keeps about one model: its state, the gate before
 * it, who holds which rank, who may give first weights, and who waits.
 *
 * The struct is open to the files of the core; others read it through the
 * functions below.
 */
#ifndef OPTD_CORE_SHARD_H
#define OPTD_CORE_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/core/gate.h"
#include "server/core/lead.h"
#include "server/core/model.h"
#include "server/core/outbox.h"
#include "server/core/reject.h"
#include "server/core/wait.h"

#define SHARD_HOST_BYTES 64

/* Who holds a rank, or held it last. */
struct holder {
	bool held;
	bool ever;
	uint32_t peer;
	uint64_t client; /* the process, over its reconnects */
	uint64_t incarnation;
	uint32_t pid;
	char host[SHARD_HOST_BYTES];
};

/* Who may give the model its first weights. */
struct grant {
	uint64_t token; /* rises with each grant; 0: none yet */
	bool active;
	uint32_t peer;
	uint64_t expires_ms;
};

struct shard_counts {
	uint64_t pushes, pulls, duplicates, refused, commits;
	/* Of a model that clips: of the last step, and steps that were made smaller, or skipped
	 * because their norm was not finite. */
	double last_norm, last_factor;
	uint64_t clipped, overflowed;
	uint64_t zeroed; /* elements */
};

struct shard {
	struct model *model;
	struct gate *gate;
	struct lead *lead; /* NULL: no step is decided as a whole */
	struct rejects *rejects; /* NULL: nobody is to be told of any */
	uint32_t handle;
	bool ready; /* first weights are complete, on all lanes as far as this one knows */
	struct holder *holders; /* [holder_count], by rank */
	uint32_t holder_count;
	uint32_t ranks; /* counted in bytes: in async they come as they like */
	struct grant grant;
	struct wait_list waits;
	bool has_own;       /* some of its rules answer each worker by itself: server/core/own.h */
	uint64_t own_bytes; /* of such answers, in waits */
	struct heap *watched; /* [blocks] the waits that look at each: server/core/watch.h */
	uint64_t bytes; /* by the formula */
	struct shard_counts counts;
	uint64_t saved_version; /* lowest version in the newest checkpoint */
	uint64_t skips_told;    /* of model->skips, to whoever keeps a log */
	/* a checkpoint's cut */
	bool cutting;
	uint64_t cut_version;
	bool cut_last;        /* the daemon is stopping: what is saved stays as it is */
	uint8_t *cut_saved;   /* [blocks] while cutting */
	uint32_t cut_at;      /* behind the one saved last: there may be a million of them, and to look at
	                         each from the first on would take minutes */
	uint8_t *cut_free;    /* [blocks] those whose commits go on */
	/* a change of settings that is being agreed on */
	bool setting;
	struct change set; /* no block goes past set.from */
	uint64_t set_passed;
};

/* Takes *model.  NULL without memory: *model is still the caller's. */
struct shard *shard_new(struct model **model, enum optim_isa isa);
void shard_free(struct shard *shard);

/* What one rank may have under way to one lane, and the longest message. */
struct shard_window {
	uint32_t bytes, message_bytes;
};

/* Bytes a shard of these settings keeps whoever comes: weights, state, sums, tables. */
uint64_t shard_own_bytes(const struct model_settings *settings, const struct layout *layout,
                         struct model_place place);
/* Bytes it will take with the ranks that they name. */
uint64_t shard_bytes(const struct model_settings *settings, const struct layout *layout,
                     struct model_place place, struct shard_window window);
/* What one more rank takes: its window for pushes, as much for answers, and again for those
 * that are its own; its tables. */
uint64_t shard_rank_bytes(const struct model_settings *settings, const struct layout *layout,
                          struct model_place place, struct shard_window window);

/* Bytes of pushes that may wait for this shard. */
uint64_t shard_allows(const struct shard *shard, struct shard_window window);

/* Elements behind a part; 0 for a part that does not fit the model, with a
 * sentence in why. */
uint64_t shard_part_elements(const struct shard *shard, const struct msg_part *part, char *why,
                             size_t why_bytes);

/* The weights of parts, or their average, one after the other, in a new buffer; NULL
 * without memory. */
struct buf *shard_weights(const struct shard *shard, enum msg_source source,
                          const struct msg_part *parts, uint32_t count, struct buf_pool *pool);

/* Lowest and highest version over the parts. */
void shard_part_versions(const struct shard *shard, const struct msg_part *parts, uint32_t count,
                         uint64_t *lowest, uint64_t *highest);

/* The rank's holder, growing the table up to it; NULL without memory. */
struct holder *shard_holder(struct shard *shard, uint32_t rank);
uint32_t shard_workers_present(const struct shard *shard);

/* "rank 1 (host:123, gone), rank 3" for the ranks that block waits for, with why where one has
 * said so, and how many they are. */
#define SHARD_MISSING_BYTES 512
uint32_t shard_missing_text(const struct shard *shard, uint32_t block, char *text, size_t bytes);

/* The lowest block of a wait that is not done, or of the shard for NULL. */
uint32_t shard_lagging_block(const struct shard *shard, const struct wait *wait);

#endif
