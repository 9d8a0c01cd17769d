/*
 * Restore: from checkpoints to the lanes' engines, before anyone is served.
 */
#ifndef OPTD_SERVER_RESTORE_H
#define OPTD_SERVER_RESTORE_H

#include <stddef.h>
#include <stdint.h>

#include "server/log.h"
#include "server/net/lane.h"

/* Reads every checkpoint of the data directory into the lanes, which share its
 * blocks whatever their number was when it was written.  Each model is logged; a
 * damaged file is an error: starting without it would lose it in silence, and so is a
 * model beyond limits.models (OPTD_BUSY) or limits.memory (OPTD_TOO_LARGE).  Of memory_bytes,
 * which is that of all lanes, only what the models are counts here, not what their
 * workers may have under way: that grows with the lanes, and a model that was served
 * comes back with any number of them.  Where it goes beyond, the log warns.  *epoch: the
 * latest in which one of them was written, 0 if there is none.  Returns the
 * number of models, or a negative status and a sentence in why that names the file. */
int restore_all(const char *data_dir, struct lane **lanes, uint32_t lane_count,
                uint64_t memory_bytes, uint64_t *epoch, const struct log *log, char *why, size_t why_bytes);

#endif
