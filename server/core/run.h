/*
 * Run: which run of a model an OPEN means, and whether it has lost what the client saw.
 * Only verb_open.c includes this.
 */
#ifndef OPTD_CORE_RUN_H
#define OPTD_CORE_RUN_H

#include "server/core/verbs.h"

/* Since the model was made, or its checkpoint. */
uint64_t run_age_s(const struct call *call, const struct model *model);
/* "exists at step 9380, run ab12, 14 h old" */
struct msg_text run_exists_text(struct call *call, const struct model *model);
/* Whether the model belongs to the job that asks, as far as that can be told. */
bool run_is_same(const struct msg_open *open, const struct shard *shard);
/* In sync the step under way, also where this rank's part of it is in already: a
 * push of it again is known for what it is and waits for the others, while one of
 * the step after would come too early. */
uint64_t run_next_step(const struct shard *shard, uint32_t rank);
/* Refuses the call (MODEL_LOST, EXISTS, ROLLBACK) if the model is not what it expects. */
bool run_agrees(struct call *call, const struct shard *shard);

#endif
