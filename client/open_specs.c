/* What OPEN says of the caller's options, to each daemon: copied, since it is said again
 * after every reconnect. */
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

/* These borrow what the caller named; keep_options copies it. */

static struct msg_text borrow(const char *text)
{
	return text ? text_of(text) : (struct msg_text){NULL, 0};
}

static void borrow_hypers(const optd_hyper *hypers, uint32_t count, struct msg_hyper *out)
{
	for (uint32_t i = 0; i < count; i++) {
		out[i].name = text_of(hypers[i].name);
		out[i].count = hypers[i].count;
		memcpy(out[i].values, hypers[i].values, hypers[i].count * sizeof(double));
	}
}

static void borrow_schedule(const optd_schedule *schedule, uint32_t count, struct msg_schedule_part *out)
{
	for (uint32_t i = 0; i < count; i++) {
		out[i].name = text_of(schedule[i].name);
		out[i].until = schedule[i].until;
		out[i].param_count = schedule[i].param_count;
		for (uint32_t j = 0; j < schedule[i].param_count; j++) {
			const optd_schedule_param *param = &schedule[i].params[j];
			out[i].params[j].name = text_of(param->name);
			out[i].params[j].count = param->count;
			memcpy(out[i].params[j].values, param->values, param->count * sizeof(double));
		}
	}
}

/* Its lists are the model's own from the start. */
static bool keep_given_group(struct keep *keep, const optd_group *given, struct msg_group *out)
{
	struct msg_hyper *hypers = keep_room(keep, given->hyper_count * sizeof(*hypers));
	struct msg_schedule_part *schedule = keep_room(keep, given->schedule_count * sizeof(*schedule));
	if (!hypers || !schedule)
		return false;
	borrow_hypers(given->hypers, given->hyper_count, hypers);
	borrow_schedule(given->schedule, given->schedule_count, schedule);
	*out = (struct msg_group){.tensors = borrow(given->tensors),
	                          .frozen = given->frozen != 0,
	                          .lr_factor = given->lr_factor,
	                          .optimizer = borrow(given->optimizer),
	                          .match = borrow(given->match),
	                          .hyper_count = given->hyper_count,
	                          .hypers = hypers,
	                          .schedule_count = given->schedule_count,
	                          .schedule = schedule};
	return keep_text(keep, &out->tensors) && keep_text(keep, &out->optimizer) &&
	       keep_text(keep, &out->match) && keep_hypers(keep, hypers, out->hyper_count) &&
	       keep_schedule(keep, schedule, out->schedule_count);
}

static bool keep_given_groups(struct keep *keep, const optd_open_options *options, struct msg_open *open)
{
	struct msg_group *groups = keep_room(keep, options->group_count * sizeof(*groups));
	bool kept = groups != NULL;
	for (uint32_t i = 0; kept && i < options->group_count; i++)
		kept = keep_given_group(keep, &options->groups[i], &groups[i]);
	open->groups = groups;
	open->group_count = options->group_count;
	return kept;
}

static bool keep_options(struct keep *keep, const optd_open_options *options, struct msg_open *open)
{
	open->optimizer = borrow(options->optimizer);
	open->match = borrow(options->match);
	open->run = borrow(options->run);
	open->hyper_count = options->hyper_count;
	borrow_hypers(options->hypers, options->hyper_count, open->hypers);
	open->schedule_count = options->schedule_count;
	borrow_schedule(options->schedule, options->schedule_count, open->schedule);
	return keep_text(keep, &open->optimizer) && keep_text(keep, &open->match) &&
	       keep_text(keep, &open->run) && keep_hypers(keep, open->hypers, open->hyper_count) &&
	       keep_schedule(keep, open->schedule, open->schedule_count) &&
	       average_keep(keep, options, &open->average) && keep_given_groups(keep, options, open);
}

static struct msg_loss_scale loss_scale_of(const optd_scaler *given)
{
	if (!given)
		return (struct msg_loss_scale){.given = false};
	return (struct msg_loss_scale){true, given->init_scale, given->growth_factor, given->backoff_factor,
	                               given->growth_interval};
}

/* With the numbers that take most: what does not fit a header then would be sent to nobody. */
static int check_header(optd_model *model, const struct session_spec *spec)
{
	optd_client *client = model->client;
	struct msg *msg = &client->out;
	memset(msg, 0, sizeof(*msg));
	msg->verb = MSG_OPEN;
	msg->request = msg->session = msg->epoch = msg->incarnation = msg->checksum = UINT64_MAX;
	msg->payload_bytes = UINT32_MAX;
	msg->rank = spec->rank;
	msg->open = spec->open;
	msg->open.expect_run = msg->open.seen_step = msg->open.seen_version = UINT64_MAX;
	msg->open.seen_epoch = UINT64_MAX;
	msg->open.wants_init = true;
	if (wire_encode(msg, client->header, sizeof(client->header)) > 0)
		return 0;
	return client_fail(client, OPTD_TOO_LARGE,
	                   "model '%s': its names, settings and %u groups take more than the %u bytes of a "
	                   "message's header: give fewer or shorter ones",
	                   model->name, spec->open.group_count, LIMIT_HEADER_BYTES);
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
	int rc = keep_options(&model->keep, options, &spec->open) ? 0 : OPTD_NO_MEMORY;
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
	spec->open.relays_norms = true;
	spec->open.clip = (struct msg_clip){options->clip_norm, options->clip_norm_type, options->clip_tensor_norm};
	spec->open.nonfinite = (enum msg_nonfinite)options->nonfinite;
	spec->open.loss_scale = loss_scale_of(options->loss_scale);
	rc = check_header(model, spec);
	if (rc < 0)
		return rc;
	for (uint32_t i = 1; i < client->daemon_count; i++) {
		model->specs[i] = *spec;
		model->specs[i].open.daemon = i;
	}
	return 0;
}

void specs_agreed(optd_model *model)
{
	for (uint32_t i = 0; i < model->client->daemon_count; i++) {
		struct msg_open *open = &model->specs[i].open;
		open->hyper_count = open->schedule_count = open->group_count = 0;
		open->whole_settings = false;
	}
}

void specs_free(optd_model *model)
{
	keep_free(&model->keep);
	free(model->specs);
	free(model->layout_bytes);
}
