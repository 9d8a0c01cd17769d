/*
 * What the wire would refuse.  A server drops a message that breaks the wire's
 * rules, or gets it cut to fit; so what a program gave is held against them
 * before anything is sent.
 */
#include <math.h>
#include <string.h>

#include "client/internal.h"
#include "proto/glob.h"
#include "proto/utf8.h"

static int check_text(optd_client *client, const char *text, const char *what)
{
	if (!text)
		return 0;
	if (strlen(text) >= LIMIT_NAME_BYTES)
		return client_fail(client, OPTD_INVALID, "%s has %zu bytes, at most %u are allowed", what,
		                   strlen(text), LIMIT_NAME_BYTES - 1);
	if (!utf8_valid(text, strlen(text)))
		return client_fail(client, OPTD_INVALID, "%s is not UTF-8", what);
	return 0;
}

int check_name(optd_client *client, const char *name)
{
	if (!name || !*name)
		return client_fail(client, OPTD_INVALID, "a model's name has 1 to %u bytes",
		                   LIMIT_NAME_BYTES - 1);
	return check_text(client, name, "the model's name");
}

static int check_hyper(optd_client *client, const char *model, const optd_hyper *h, uint32_t index)
{
	if (!h->name || !*h->name || h->count < 1 || h->count > LIMIT_HYPER_VALUES)
		return client_fail(client, OPTD_INVALID,
		                   "hyper-parameter %u ('%s') has %u values, 1 to 3 and a name are needed",
		                   index, h->name ? h->name : "", h->count);
	int rc = check_text(client, h->name, "the name of a hyper-parameter");
	for (uint32_t i = 0; rc == 0 && i < h->count; i++)
		if (!isfinite(h->values[i]))
			rc = client_fail(client, OPTD_HYPER,
			                 "model '%s': hyper-parameter '%s' is %g; give a finite number", model,
			                 h->name, h->values[i]);
	return rc;
}

int check_hypers(optd_client *client, const char *model, const optd_hyper *hypers, uint32_t count)
{
	if (count > LIMIT_HYPERS)
		return client_fail(client, OPTD_TOO_LARGE, "%u hyper-parameters, at most %u are allowed", count,
		                   LIMIT_HYPERS);
	if (count > 0 && !hypers)
		return client_fail(client, OPTD_INVALID, "%u hyper-parameters are announced, but hypers is NULL",
		                   count);
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		rc = check_hyper(client, model, &hypers[i], i);
	return rc;
}

static int check_param(optd_client *client, const char *model, const char *schedule,
                       const optd_schedule_param *param)
{
	if (!param->name || !*param->name || param->count < 1 || param->count > LIMIT_SCHEDULE_VALUES)
		return client_fail(client, OPTD_INVALID,
		                   "model '%s': schedule '%s': parameter '%s' has %u values, 1 to %u and a name "
		                   "are needed",
		                   model, schedule, param->name ? param->name : "", param->count,
		                   LIMIT_SCHEDULE_VALUES);
	int rc = check_text(client, param->name, "the name of a schedule's parameter");
	for (uint32_t i = 0; rc == 0 && i < param->count; i++)
		if (!isfinite(param->values[i]))
			rc = client_fail(client, OPTD_HYPER,
			                 "model '%s': schedule '%s': '%s' is %g; give a finite number", model,
			                 schedule, param->name, param->values[i]);
	return rc;
}

static int check_stretch(optd_client *client, const char *model, const optd_schedule *s, uint32_t index)
{
	if (!s->name || !*s->name)
		return client_fail(client, OPTD_INVALID, "model '%s': stretch %u of the schedule has no name",
		                   model, index);
	if (s->param_count > LIMIT_SCHEDULE_PARAMS)
		return client_fail(client, OPTD_TOO_LARGE,
		                   "model '%s': schedule '%s' has %u parameters, at most %u are allowed", model,
		                   s->name, s->param_count, LIMIT_SCHEDULE_PARAMS);
	if (s->param_count > 0 && !s->params)
		return client_fail(client, OPTD_INVALID,
		                   "model '%s': schedule '%s' announces %u parameters, but params is NULL", model,
		                   s->name, s->param_count);
	int rc = check_text(client, s->name, "the name of a schedule");
	for (uint32_t i = 0; rc == 0 && i < s->param_count; i++)
		rc = check_param(client, model, s->name, &s->params[i]);
	return rc;
}

static int check_schedule(optd_client *client, const char *model, const optd_schedule *schedule,
                          uint32_t count)
{
	if (count > LIMIT_SCHEDULE_PARTS)
		return client_fail(client, OPTD_TOO_LARGE,
		                   "model '%s': a schedule of %u stretches, at most %u are allowed", model, count,
		                   LIMIT_SCHEDULE_PARTS);
	if (count > 0 && !schedule)
		return client_fail(client, OPTD_INVALID,
		                   "model '%s': a schedule of %u stretches is announced, but schedule is NULL",
		                   model, count);
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		rc = check_stretch(client, model, &schedule[i], i);
	return rc;
}

static int check_pattern(optd_client *client, const char *model, const char *tensors, uint32_t index)
{
	struct glob glob;
	char why[128];
	if (!tensors)
		return client_fail(client, OPTD_INVALID, "model '%s': group %u has no tensors, a pattern", model,
		                   index + 1);
	if (!utf8_valid(tensors, strlen(tensors)))
		return client_fail(client, OPTD_INVALID, "model '%s': tensors of group %u is not UTF-8", model,
		                   index + 1);
	if (glob_parse(&glob, tensors, why, sizeof(why)) < 0)
		return client_fail(client, OPTD_HYPER, "model '%s': group %u: tensors '%s' %s", model, index + 1,
		                   tensors, why);
	return 0;
}

static int check_group(optd_client *client, const char *model, const optd_group *group, uint32_t index)
{
	int rc = check_pattern(client, model, group->tensors, index);
	if (rc == 0)
		rc = check_text(client, group->optimizer, "the name of a group's optimizer");
	if (rc == 0)
		rc = check_text(client, group->match, "a group's match");
	if (rc == 0 && !isfinite(group->lr_factor))
		rc = client_fail(client, OPTD_HYPER, "model '%s': group %u: lr_factor is %g; give a finite number",
		                 model, index + 1, group->lr_factor);
	if (rc == 0)
		rc = check_hypers(client, model, group->hypers, group->hyper_count);
	return rc == 0 ? check_schedule(client, model, group->schedule, group->schedule_count) : rc;
}

static int check_groups(optd_client *client, const char *model, const optd_open_options *options)
{
	if (options->group_count > LIMIT_GROUPS)
		return client_fail(client, OPTD_TOO_LARGE, "model '%s': %u groups, at most %u are allowed", model,
		                   options->group_count, LIMIT_GROUPS);
	if (options->group_count > 0 && !options->groups)
		return client_fail(client, OPTD_INVALID,
		                   "model '%s': %u groups are announced, but groups is NULL", model,
		                   options->group_count);
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < options->group_count; i++)
		rc = check_group(client, model, &options->groups[i], i);
	return rc;
}

/* An enum of options, given as a number. */
static int check_known(optd_client *client, unsigned value, unsigned highest, const char *what)
{
	if (value <= highest)
		return 0;
	return client_fail(client, OPTD_INVALID, "%s is %u, 0 to %u are allowed", what, value, highest);
}

static int check_scaler(optd_client *client, const char *model, const optd_scaler *scaler)
{
	if (!scaler || (isfinite(scaler->init_scale) && isfinite(scaler->growth_factor) &&
	                isfinite(scaler->backoff_factor)))
		return 0;
	return client_fail(client, OPTD_HYPER, "model '%s': loss_scale has a setting that is not a finite number",
	                   model);
}

int check_open_options(optd_client *client, const char *model, const optd_open_options *options)
{
	if (!options)
		return 0;
	int rc = check_text(client, options->optimizer, "the optimizer's name");
	if (rc == 0)
		rc = check_text(client, options->match, "match");
	if (rc == 0)
		rc = check_text(client, options->run, "run");
	if (rc == 0)
		rc = check_hypers(client, model, options->hypers, options->hyper_count);
	if (rc == 0)
		rc = check_schedule(client, model, options->schedule, options->schedule_count);
	if (rc == 0)
		rc = check_groups(client, model, options);
	if (rc == 0)
		rc = check_clip(client, model, options);
	if (rc == 0)
		rc = average_check(client, model, options);
	if (rc == 0)
		rc = check_known(client, (unsigned)options->mode, OPTD_ASYNC, "mode");
	if (rc == 0)
		rc = check_known(client, (unsigned)options->reduce, OPTD_SUM, "reduce");
	if (rc == 0)
		rc = check_known(client, (unsigned)options->resume, OPTD_RESUME_MUST, "resume");
	if (rc == 0)
		rc = check_known(client, (unsigned)options->nonfinite, OPTD_ZERO, "nonfinite");
	if (rc == 0)
		rc = check_scaler(client, model, options->loss_scale);
	if (rc == 0 && options->workers > LIMIT_WORKERS)
		rc = client_fail(client, OPTD_TOO_LARGE, "model '%s': %u workers, at most %u are allowed",
		                 model, options->workers, LIMIT_WORKERS);
	return rc;
}

int check_set(optd_client *client, const char *model, const char *tensors, const optd_hyper *hypers,
              uint32_t hyper_count)
{
	int rc = check_name(client, model);
	if (rc == 0 && tensors && (strlen(tensors) >= LIMIT_PATTERN_BYTES || !utf8_valid(tensors, strlen(tensors))))
		rc = client_fail(client, OPTD_INVALID,
		                 "model '%s': the pattern of a group has at most %u bytes, and is UTF-8", model,
		                 LIMIT_PATTERN_BYTES - 1);
	if (rc == 0 && hyper_count == 0)
		rc = client_fail(client, OPTD_INVALID, "model '%s': name a hyper-parameter to change", model);
	return rc == 0 ? check_hypers(client, model, hypers, hyper_count) : rc;
}

int check_version(optd_model *model, uint64_t min_version)
{
	if (min_version <= LIMIT_COUNTER)
		return 0;
	return client_fail(model->client, OPTD_INVALID,
	                   "model '%s': min_version %llu is beyond 2^62, a step nobody reaches",
	                   model->name, (unsigned long long)min_version);
}
