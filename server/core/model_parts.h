/* Model, the parts: what its files share.  Only they include this. */
#ifndef OPTD_CORE_MODEL_PARTS_H
#define OPTD_CORE_MODEL_PARTS_H

#include "server/core/model.h"

/* Number of the group that a segment of the shard is in. */
uint32_t model_group(const struct model *model, uint32_t index);
/* What the groups' next update of a block is done by. */
void model_changed(const struct model *model, uint32_t block, struct changed *out);
/* What a commit does to versions and duplicate checks, when the rest is done. */
void model_count(struct model *model, const struct commit *commit);

#endif
