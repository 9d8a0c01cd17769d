/*
 * Cutting a model's layout: which tensors are whole follows from the rules, which only the
 * server knows; it tells them of the model and of each group.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "client/internal.h"
#include "proto/glob.h"

/* A tensor is in the first group whose pattern matches, or in none. */
static bool is_whole(const struct msg_rule *rule, const struct glob *globs, const char *name)
{
	for (uint32_t i = 0; i < rule->group_count; i++)
		if (glob_match(&globs[i], name))
			return rule->groups[i].whole;
	return rule->whole;
}

static bool any_whole(const struct msg_rule *rule)
{
	bool any = rule->whole;
	for (uint32_t i = 0; i < rule->group_count; i++)
		any |= rule->groups[i].whole;
	return any;
}

static int cut_whole(optd_model *model, const struct msg_rule *rule)
{
	char why[256];
	uint32_t count = layout_tensor_count(model->layout);
	struct glob *globs = calloc(rule->group_count + 1u, sizeof(*globs));
	uint8_t *whole = calloc(count + 1u, 1);
	int rc = globs && whole ? 0 : OPTD_NO_MEMORY;
	for (uint32_t i = 0; rc == 0 && i < rule->group_count; i++)
		rc = glob_parse(&globs[i], rule->groups[i].tensors.bytes, why, sizeof(why));
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		whole[i] = is_whole(rule, globs, layout_tensor(model->layout, i)->name);
	if (rc == 0)
		rc = layout_cut(model->layout, whole);
	free(globs);
	free(whole);
	return rc;
}

/* The lead's id is of its own cut: with whole tensors, what is pushed to the wrong block
 * would not be noticed later. */
static int check_cut(optd_model *model, uint64_t id)
{
	const optd_client *client = model->client;
	uint64_t here = layout_id(model->layout, 0, client->daemon_count, client->daemons[0].lane_count);
	if (!layout_has_whole(model->layout) || id == here)
		return 0;
	return client_fail(model->client, OPTD_LAYOUT,
	                   "model '%s' on %s: client and server cut its layout into different blocks (layout id "
	                   "%016" PRIx64 " here, %016" PRIx64 " there): update the older one",
	                   model->name, model_endpoint(model), here, id);
}

int model_cut(optd_model *model, uint64_t id)
{
	int rc = any_whole(&model->rule) ? cut_whole(model, &model->rule) : layout_cut(model->layout, NULL);
	if (rc == OPTD_NO_MEMORY)
		return rc;
	if (rc < 0)
		return client_fail(model->client, OPTD_LAYOUT, "model '%s' on %s: its layout cannot be cut",
		                   model->name, model_endpoint(model));
	return check_cut(model, id);
}
