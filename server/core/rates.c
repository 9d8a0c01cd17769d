/* One pass over the segments: the fewest updates of each group. */
#include "server/core/rates.h"

#include <string.h>

#include "server/core/model_parts.h"

static void count_updates(const struct model *model, uint64_t least[1 + LIMIT_GROUPS])
{
	for (uint32_t i = 0; i <= LIMIT_GROUPS; i++)
		least[i] = UINT64_MAX;
	for (uint32_t i = 0; i < model->segment_count; i++) {
		uint32_t group = model_group(model, i);
		if (model->updates[i] < least[group])
			least[group] = model->updates[i];
	}
}

/* Of tensors that are updated at all; of a shard without any, its version. */
static uint64_t count_elsewhere(const struct model *model, const uint64_t least[1 + LIMIT_GROUPS])
{
	const struct groups *groups = &model->settings.groups;
	uint64_t fewest = UINT64_MAX, lowest, highest;

	for (uint32_t i = 0; i <= groups->count; i++) {
		if (groups_optim(groups, &model->settings.optim, i) != NULL && least[i] < fewest)
			fewest = least[i];
	}
	model_versions(model, &lowest, &highest);
	return fewest < UINT64_MAX ? fewest : lowest;
}

void rates_of(const struct model *model, const struct model_settings *settings, struct rates *out)
{
	uint64_t least[1 + LIMIT_GROUPS];

	memset(out, 0, sizeof(*out));
	count_updates(model, least);
	uint64_t elsewhere = count_elsewhere(model, least);
	for (uint32_t i = 0; i <= settings->groups.count; i++) {
		const struct optim *optim = groups_optim(&settings->groups, &settings->optim, i);
		if (optim != NULL)
			out->has[i] = optim_lr(optim, least[i] < UINT64_MAX ? least[i] : elsewhere, &out->lr[i]);
	}
}
