/* What OPEN says of the caller's options, to each daemon: copied, since it is said again
 * after every reconnect. */
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

/* A copy that lives as long as the model; false without memory. */
static bool keep(optd_model *model, const char *text, struct msg_text *out)
{
	*out = (struct msg_text){NULL, 0};
	if (!text)
		return true;
	char *copy = strdup(text);
	if (!copy)
		return false;
	model->given[model->given_count++] = copy;
	*out = text_of(copy);
	return true;
}

static bool keep_hypers(optd_model *model, const optd_open_options *options, struct msg_open *open)
{
	open->hyper_count = options->hyper_count;
	for (uint32_t i = 0; i < options->hyper_count; i++) {
		const optd_hyper *h = &options->hypers[i];
		if (!keep(model, h->name, &open->hypers[i].name))
			return false;
		open->hypers[i].count = h->count;
		memcpy(open->hypers[i].values, h->values, h->count * sizeof(double));
	}
	return true;
}

static bool keep_schedule(optd_model *model, const optd_open_options *options, struct msg_open *open)
{
	open->schedule_count = options->schedule_count;
	for (uint32_t i = 0; i < options->schedule_count; i++) {
		const optd_schedule *given = &options->schedule[i];
		struct msg_schedule_part *part = &open->schedule[i];
		if (!keep(model, given->name, &part->name))
			return false;
		part->until = given->until;
		part->param_count = given->param_count;
		for (uint32_t j = 0; j < given->param_count; j++) {
			const optd_schedule_param *param = &given->params[j];
			if (!keep(model, param->name, &part->params[j].name))
				return false;
			part->params[j].count = param->count;
			memcpy(part->params[j].values, param->values, param->count * sizeof(double));
		}
	}
	return true;
}

static bool keep_options(optd_model *model, const optd_open_options *options, struct msg_open *open)
{
	return keep(model, options->optimizer, &open->optimizer) &&
	       keep(model, options->match, &open->match) && keep(model, options->run, &open->run) &&
	       keep_hypers(model, options, open) && keep_schedule(model, options, open);
}

static int encode_layout(optd_model *model, struct session_spec *spec)
{
	optd_client *client = model->client;
	size_t bytes = wire_layout_bytes(model->layout);
	uint32_t allowed = client->lanes[0]->session.message_bytes;
	if (bytes > allowed)
		return client_fail(client, OPTD_TOO_LARGE,
		                   "model '%s': the layout of %u tensors takes %zu bytes, %s takes %u",
		                   model->name, layout_tensor_count(model->layout), bytes,
		                   model_endpoint(model), allowed);
	model->layout_bytes = malloc(bytes);
	if (!model->layout_bytes)
		return OPTD_NO_MEMORY;
	wire_layout_encode(model->layout, model->layout_bytes);
	spec->layout = model->layout_bytes;
	spec->layout_bytes = bytes;
	spec->layout_checksum = wire_checksum(model->layout_bytes, bytes);
	spec->open.layout_hash = layout_hash(model->layout);
	return 0;
}

int specs_make(optd_model *model, const optd_open_options *options)
{
	static const optd_open_options none;
	optd_client *client = model->client;
	if (!options)
		options = &none;
	model->specs = calloc(client->daemon_count, sizeof(*model->specs));
	if (!model->specs)
		return OPTD_NO_MEMORY;
	struct session_spec *spec = &model->specs[0];
	spec->rank = client->rank;
	int rc = keep_options(model, options, &spec->open) ? 0 : OPTD_NO_MEMORY;
	if (rc == 0 && model->layout)
		rc = encode_layout(model, spec);
	if (rc < 0)
		return rc;
	spec->open.model = text_of(model->name);
	spec->open.daemons = client->daemon_count;
	spec->open.client = client->number;
	spec->open.mode = (enum msg_mode)options->mode;
	spec->open.reduce = (enum msg_reduce)options->reduce;
	spec->open.resume = (enum msg_resume)options->resume;
	spec->open.workers = options->workers;
	spec->open.step_timeout_ms = options->step_timeout_ms;
	for (uint32_t i = 1; i < client->daemon_count; i++) {
		model->specs[i] = *spec;
		model->specs[i].open.daemon = i;
	}
	return 0;
}

void specs_free(optd_model *model)
{
	for (uint32_t i = 0; i < model->given_count; i++)
		free(model->given[i]);
	free(model->specs);
	free(model->layout_bytes);
}
