/* Model, the parts: what its files share.  Only they include this. */
#ifndef OPTD_CORE_MODEL_PARTS_H
#define OPTD_CORE_MODEL_PARTS_H

#include "server/core/model.h"

/* What a commit does to versions and duplicate checks, when the rest is done. */
void model_count(struct model *model, const struct commit *commit);

#endif
