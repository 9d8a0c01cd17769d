/*
 * Checkpoint: all that a daemon must know of a model to go on with it, in one
 * safetensors file per model and daemon:
 *
 *     DIR/models/<name of the model, escaped>.safetensors
 *
 *     <tensor>                 F32  weights, in the order of the layout
 *     state.<tensor>.<slot>    F32  optimizer state, first slots first: of each tensor
 *                                   those that its parameter group's rule has; a number
 *                                   a row is [.., rows, 1], one a column [.., 1, columns]
 *     state.<tensor>.average   F32  the average of the weights, of a model that keeps one
 *     state.<tensor>.step      F32  updates, as PyTorch has them; not of frozen tensors
 *     state.<tensor>.<number>  F32  what the rule carries, as PyTorch has it
 *     optd.layout              U8   every tensor of the model (server/disk/shapes)
 *     optd.padding             U8   so that what follows is aligned
 *     optd.versions            I64  [blocks] updates each block has seen
 *     optd.updates             I64  [segments] updates each segment has seen
 *     optd.carries             F32  [segments, 2] what each segment carries; where no
 *                                   rule carries anything, [0, 2]
 *     optd.seen                I64  [ranks, blocks] async: steps taken in
 *     optd.checksums           I64  [blocks] XXH3 of a block's weights, slots and average
 *     optd.seal                I64  XXH3 of the head and of all above but the first four
 *
 * A tensor of which this daemon holds a part is stored as a flat slice.  A
 * tensor whose name begins with "state." or "optd.", or is "__metadata__", is
 * stored as optd.weight.<tensor>; so names never collide.  Settings are texts of
 * the file's metadata (server/disk/manifest).  Every byte is covered by a check.
 *
 * What of a tensor's state depends on its shape belongs to the tensor's first block; all
 * blocks of a tensor that its rule looks at as a whole have one version.
 *
 * Because each block has its own checksum, blocks can be handed over in any
 * order and from any lane while the others are being trained.
 *
 * A file is written aside, synced and renamed: at any moment the old one or the
 * new one is there, whole.  Paths are never made from a name unescaped.
 */
#ifndef OPTD_DISK_CHECKPOINT_H
#define OPTD_DISK_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "optim/optim.h"
#include "proto/layout.h"
#include "proto/msg.h"
#include "server/core/average.h"
#include "server/core/change.h"
#include "server/core/group.h"
#include "server/core/history.h"
#include "server/core/scaler.h"

/* What a checkpoint says about its model, beside the arrays. */
struct checkpoint {
	const char *model; /* fewer than LIMIT_NAME_BYTES of UTF-8 */
	const char *run;   /* the job's own name for the run, or "" */
	uint64_t run_id;
	const struct layout *layout; /* cut */
	struct optim optim;   /* of tensors that no group has */
	struct groups groups; /* each has a tensor of the layout */
	struct average average;
	struct changes changes;
	enum msg_mode mode;
	enum msg_reduce reduce;
	uint32_t workers;
	uint32_t step_timeout_ms;
	struct msg_clip clip;
	enum msg_nonfinite nonfinite;
	struct msg_loss_scale loss_scale;
	struct scaler scaler; /* where that stands */
	uint32_t seats; /* ranks that optd.seen speaks of; 0 in sync */
	uint32_t daemon, daemons;
	struct history history;
	uint64_t epoch; /* of the daemon that wrote it */
	bool final;     /* as its last act: no update came after */
	int64_t created_s, saved_s;      /* unix time of the model and of this file */
};

/* The blocks that this daemon holds, all its lanes together. */
struct layout_run checkpoint_owned(const struct checkpoint *about);

/* Bytes that the head of a file takes, at most and within a few percent: without a
 * list of tensors being made, so a peer may ask for any.  Looks only at layout,
 * optim, groups, average and the daemon's place.  Beyond LIMIT_SAFETENSORS_HEADER, checkpoint_begin
 * fails. */
uint64_t checkpoint_head_bytes(const struct checkpoint *about);

/* Blocks [first_block, + block_count) and what they hold; arrays cover just
 * them: elements, blocks, and segments.  Of a slot only the tensors are looked at whose
 * group has it; where slots are packed (server/core/whole.h), there is nothing else in it. */
struct checkpoint_part {
	uint32_t first_block, block_count;
	const float *weights;
	const float *const *slots;   /* [groups_slot_count] */
	const uint64_t *versions;    /* [block_count] */
	const uint64_t *updates;     /* [segments of the blocks] */
	const struct optim_carry *carries; /* [segments of the blocks], where a rule has any */
	const uint64_t *const *seen; /* [seats], NULL entries are zeros; may be NULL */
	const float *average;        /* where one is kept */
};

/* The same to be filled; the rest of a slot stays as it is. */
struct checkpoint_target {
	uint32_t first_block, block_count;
	float *weights;
	float *const *slots;
	uint64_t *versions;
	uint64_t *updates;
	struct optim_carry *carries;
	float *average;
};

/* Writing.
 *
 * Every function: 0, or a negative status and a sentence in why.  OPTD_IO when
 * the file cannot be written (a full disk, say): the old file stays as it was
 * and what was begun is removed.  OPTD_BUSY when this model is being saved. */

/* Writes all in one call; the parts cover the run of blocks, in any order. */
int checkpoint_write(const char *dir, const struct checkpoint *about,
                     const struct checkpoint_part *parts, uint32_t part_count,
                     char *why, size_t why_bytes);

/* Or piece by piece.  begin borrows about->layout until the end; takes a
 * descriptor and memory for the tables, not for the vectors. */
struct checkpoint_writer;
int checkpoint_begin(const char *dir, const struct checkpoint *about,
                     struct checkpoint_writer **out, char *why, size_t why_bytes);
/* Several threads may put parts at once as long as no block is in two of them.
 * The part's arrays must stand still during the call. */
int checkpoint_put(struct checkpoint_writer *writer, const struct checkpoint_part *part,
                   char *why, size_t why_bytes);
/* Takes the writer, also on failure.  OPTD_INVALID if a block was not put. */
int checkpoint_commit(struct checkpoint_writer **writer, char *why, size_t why_bytes);
/* Takes the writer and removes what was begun; NULL is fine. */
void checkpoint_abandon(struct checkpoint_writer **writer);

/* Reading.  Sentences in why speak of "the file" without its path, which the
 * caller has. */

/* Opens a file and checks every byte of it, in bounded memory: the head, the
 * tables, and one block.  OPTD_CORRUPT says what is wrong, OPTD_UNSUPPORTED that
 * another version wrote it, OPTD_IO that it cannot be read, OPTD_DENIED that this
 * user may not read it, and what to do. */
struct checkpoint_file;
int checkpoint_open(const char *path, struct checkpoint_file **out, char *why, size_t why_bytes);
/* The same of bytes in memory, borrowed until checkpoint_close. */
int checkpoint_open_memory(const void *bytes, size_t size, struct checkpoint_file **out,
                           char *why, size_t why_bytes);
void checkpoint_close(struct checkpoint_file *file);

/* What it says; good until checkpoint_close. */
const struct checkpoint *checkpoint_about(const struct checkpoint_file *file);
/* Updates that a block of the file has seen; steps of a rank that it took in. */
uint64_t checkpoint_version(const struct checkpoint_file *file, uint32_t block);
uint64_t checkpoint_seen(const struct checkpoint_file *file, uint32_t rank, uint32_t block);
/* Reads any blocks of the file's run, however they were put, and checks them
 * again, since the file may have changed. */
int checkpoint_read(const struct checkpoint_file *file, const struct checkpoint_target *target,
                    char *why, size_t why_bytes);

/* The directory. */

enum checkpoint_entry {
	CHECKPOINT_FOUND,    /* a file to open */
	CHECKPOINT_LEFTOVER, /* of an interrupted write; it has been removed */
};

/* Calls for each file, in the order of their names, until a call returns nonzero,
 * which is then returned.  Call it while nothing is being saved. */
int checkpoint_list(const char *dir,
                    int (*call)(void *context, enum checkpoint_entry entry, const char *path),
                    void *context, char *why, size_t why_bytes);

/* Removes a model's file for good; 0 also when there is none. */
int checkpoint_remove(const char *dir, const char *model, char *why, size_t why_bytes);

/* The name of a model's file within DIR/models. */
#define CHECKPOINT_NAME_BYTES 256
void checkpoint_name(const char *model, char name[CHECKPOINT_NAME_BYTES]);

#endif
