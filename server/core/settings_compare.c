/* A worker's settings against those of a model that has changed. */
#include <string.h>

#include "server/core/settings.h"

/* Whether it agrees with what a model has at one of the versions from which a change holds. */
static bool agrees_somewhere(const struct msg_open *open, const struct model *model,
                             const struct change *pending)
{
	const struct changes *changes = &model->changes;
	struct model_settings is;
	char why[LIMIT_TEXT_BYTES];

	for (uint32_t i = changes->count + (pending != NULL ? 1 : 0); i-- > 0;) {
		const struct change *change = i < changes->count ? &changes->list[i] : pending;
		settings_at(&model->settings, changes, change == pending ? pending : NULL, change->from, &is);
		if (settings_compare(open, &is, why, sizeof(why)) == OPTD_OK)
			return true;
	}
	return settings_compare(open, &model->settings, why, sizeof(why)) == OPTD_OK;
}

int settings_compare_changed(const struct msg_open *open, const struct model *model,
                             const struct change *pending, char *why, size_t why_bytes)
{
	struct model_settings is;
	uint64_t lowest, highest;

	if (model->changes.count == 0 && pending == NULL)
		return settings_compare(open, &model->settings, why, why_bytes);
	if (agrees_somewhere(open, model, pending))
		return OPTD_OK;
	model_versions(model, &lowest, &highest);
	settings_at(&model->settings, &model->changes, NULL, lowest, &is);
	return settings_compare(open, &is, why, why_bytes);
}

int settings_compare_preset(const struct engine_preset *preset, const struct model *model, char *why,
                            size_t why_bytes)
{
	const struct model_settings *settings = &preset->settings;
	struct settings_told told;
	struct msg_rule rule = {.group_count = 0};
	struct msg_open open = {.mode = settings->mode,
	                        .reduce = settings->reduce,
	                        .workers = settings->workers,
	                        .step_timeout_ms = settings->step_timeout_ms,
	                        .nonfinite = settings->nonfinite,
	                        .loss_scale = settings->loss_scale,
	                        .clip = settings->clip};

	if (preset->optim_given) {
		settings_tell(settings, &rule);
		settings_tell_groups(settings, &told);
		open.optimizer = rule.name;
		open.match = rule.match;
		open.hyper_count = rule.hyper_count;
		memcpy(open.hypers, rule.hypers, sizeof(open.hypers));
		open.schedule_count = rule.schedule_count;
		memcpy(open.schedule, rule.schedule, sizeof(open.schedule));
		open.group_count = settings->groups.count;
		open.groups = told.groups;
	}
	return settings_compare_changed(&open, model, NULL, why, why_bytes);
}
