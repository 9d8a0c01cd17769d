/* Clipping by a norm: what a program may ask for, and whether the server knows it. */
#include <math.h>

#include "client/internal.h"

static int check_limit(optd_client *client, const char *model, const char *name, double value)
{
	if (isfinite(value) && value >= 0)
		return 0;
	return client_fail(client, OPTD_HYPER, "model '%s': %s is %g; give a limit above 0, or 0 for none", model,
	                   name, value);
}

int check_clip(optd_client *client, const char *model, const optd_open_options *options)
{
	double type = options->clip_norm_type;
	int rc = check_limit(client, model, "clip_norm", options->clip_norm);
	if (rc == 0)
		rc = check_limit(client, model, "clip_tensor_norm", options->clip_tensor_norm);
	if (rc == 0 && type != 0 && !(type >= 1))
		rc = client_fail(client, OPTD_HYPER, "model '%s': clip_norm_type is %g; give 1 or more, or INFINITY",
		                 model, type);
	return rc;
}

int check_clip_known(optd_model *model)
{
	const struct msg_clip *asked = &model->specs[0].open.clip, *has = &model->rule.clip;
	if (asked->norm == has->norm && asked->tensor_norm == has->tensor_norm)
		return 0;
	if (asked->norm == 0 && asked->tensor_norm == 0)
		return 0;
	return client_fail(model->client, OPTD_UNSUPPORTED,
	                   "model '%s' on %s: this server does not know clipping by a norm: update it",
	                   model->name, model_endpoint(model));
}
