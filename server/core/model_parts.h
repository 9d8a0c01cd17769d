/* Model, the parts: what its files share.  Only they include this. */
#ifndef OPTD_CORE_MODEL_PARTS_H
#define OPTD_CORE_MODEL_PARTS_H

#include "server/core/model.h"

/* Number of the group that a segment of the shard is in. */
uint32_t model_group(const struct model *model, uint32_t index);
/* What a step's commit does to the loss scale, and to what is known of skipped steps.  It
 * follows from the commit alone. */
void model_judge(struct model *model, const struct commit *commit);
/* What a commit does to versions and duplicate checks, when the rest is done. */
void model_count(struct model *model, const struct commit *commit);

#endif
