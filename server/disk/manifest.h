/*
 * Manifest: the settings of a checkpoint as texts of a safetensors file's
 * metadata, and back.
 *
 * Numbers are decimal, real ones with the digits that read back the same, ids
 * hexadecimal; so a person can read them with any tool that shows the head.
 */
#ifndef OPTD_DISK_MANIFEST_H
#define OPTD_DISK_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/safetensors.h"
#include "server/disk/checkpoint.h"

/* The version of a checkpoint's format.  With parameter groups it is another, so that a
 * version that does not know them does not go on without; a reader takes all.  In 4 each
 * feature that came later has keys of its own, which are there where it is used, and a
 * reader refuses a key that it does not know. */
#define MANIFEST_FORMAT "2"
#define MANIFEST_FORMAT_GROUPS "3"
#define MANIFEST_FORMAT_KEYS "4"

/* An optimizer: 16 hyper-parameters, a schedule of four parts with name, end and ten
 * parameters, and a few words.  The model's, those of its groups, and other settings. */
#define MANIFEST_OPTIMIZER_TEXTS 72u
#define MANIFEST_TEXTS_MAX (45u + MANIFEST_OPTIMIZER_TEXTS * (1u + LIMIT_GROUPS) + LIMIT_CHANGES)

/* Sixteen numbers with the digits that read back the same, or sixteen marks of a history. */
#define MANIFEST_VALUE_BYTES 688u

struct manifest {
	struct safetensors_text texts[MANIFEST_TEXTS_MAX];
	uint32_t count;
	char keys[MANIFEST_TEXTS_MAX][64];
	char values[MANIFEST_TEXTS_MAX][MANIFEST_VALUE_BYTES];
};

/* Borrows about->model and about->run. */
void manifest_encode(const struct checkpoint *about, struct manifest *manifest);

/* Fills *about but for the layout; its texts borrow from the head.
 * OPTD_UNSUPPORTED for another format, OPTD_CORRUPT for what is missing or makes
 * no sense, and which text that is. */
int manifest_decode(const struct safetensors *head, struct checkpoint *about, char *why, size_t why_bytes);

/* Of format 4: whether all of its keys are those of what was read of it, about, which has its
 * layout by now.  OPTD_UNSUPPORTED and the first that is not. */
int manifest_check_keys(const struct safetensors *head, const struct checkpoint *about, char *why,
                        size_t why_bytes);

/* The history of restores as a text, "3:100,7:2500": in epoch 3 at version 100; and back: false
 * for one that is none, up to this epoch, which wrote it. */
void manifest_history_write(const struct history *history, char text[static MANIFEST_VALUE_BYTES]);
bool manifest_history_read(const char *text, uint64_t epoch, struct history *history);

/* A change as a text, "from=120 group=0 lr=0.01 betas=0.9,0.98", and back: OPTD_CORRUPT and
 * what makes no sense of it.  Of about, optimizer and groups are looked at. */
void manifest_change_write(const struct checkpoint *about, const struct change *change,
                           char text[static MANIFEST_VALUE_BYTES]);
int manifest_change_read(const struct checkpoint *about, const char *text, struct change *change, char *why,
                         size_t why_bytes);

/* 0 when the file's layout, cut here, is the one that was saved. */
int manifest_check_layout(const struct safetensors *head, const struct layout *layout,
                          char *why, size_t why_bytes);

#endif
