/*
 * Bodies: HELLO, WELCOME, OPEN, OPENED, a lane's counts and models by name, between protobuf's
 * structs and ours.  Nothing is judged here but what struct msg has no room
 * for; wire_check_body does the rest.
 */
#include "proto/wire_body.h"

/* ---- reading ------------------------------------------------------------ */

static void hello_read(const Optd__V1__Hello *in, struct msg_hello *out)
{
	out->protocol_min = in->protocol_min;
	out->protocol_max = in->protocol_max;
	out->host = wire_text(in->host);
	out->pid = in->pid;
	out->software = wire_text(in->software);
}

static int welcome_read(const Optd__V1__Welcome *in, struct msg_welcome *out,
                        const struct refusal *why)
{
	if (in->n_endpoints > LIMIT_LANES)
		return refuse(why, OPTD_MALFORMED, "%zu endpoints, at most %u are allowed",
		              in->n_endpoints, LIMIT_LANES);
	out->protocol = in->protocol;
	out->daemon_id = in->daemon_id;
	out->lane = in->lane;
	out->lanes = in->lanes;
	out->message_bytes = in->message_bytes;
	out->window_bytes = in->window_bytes;
	out->software = wire_text(in->software);
	out->endpoint_count = (uint32_t)in->n_endpoints;
	for (size_t i = 0; i < in->n_endpoints; i++)
		out->endpoints[i] = wire_text(in->endpoints[i]);
	return 0;
}

int wire_hypers_read(Optd__V1__Hyper *const *in, size_t count, struct msg_hyper *out,
                     uint32_t *out_count, const struct refusal *why)
{
	if (count > LIMIT_HYPERS)
		return refuse(why, OPTD_MALFORMED, "%zu hyper-parameters, at most %u are allowed", count,
		              LIMIT_HYPERS);
	*out_count = (uint32_t)count;
	for (size_t i = 0; i < count; i++) {
		if (in[i]->n_values > LIMIT_HYPER_VALUES)
			return refuse(why, OPTD_MALFORMED, "a hyper-parameter of %zu values, at most %u",
			              in[i]->n_values, LIMIT_HYPER_VALUES);
		out[i].name = wire_text(in[i]->name);
		out[i].count = (uint32_t)in[i]->n_values;
		for (size_t v = 0; v < in[i]->n_values; v++)
			out[i].values[v] = in[i]->values[v];
	}
	return 0;
}

static int schedule_part_read(const Optd__V1__SchedulePart *in, struct msg_schedule_part *out,
                              const struct refusal *why)
{
	if (in->n_params > LIMIT_SCHEDULE_PARAMS)
		return refuse(why, OPTD_MALFORMED, "a schedule of %zu parameters, at most %u", in->n_params,
		              LIMIT_SCHEDULE_PARAMS);
	out->name = wire_text(in->name);
	out->until = in->until;
	out->param_count = (uint32_t)in->n_params;
	for (size_t i = 0; i < in->n_params; i++) {
		const Optd__V1__Hyper *param = in->params[i];
		if (param->n_values > LIMIT_SCHEDULE_VALUES)
			return refuse(why, OPTD_MALFORMED, "a schedule's parameter of %zu values, at most %u",
			              param->n_values, LIMIT_SCHEDULE_VALUES);
		out->params[i].name = wire_text(param->name);
		out->params[i].count = (uint32_t)param->n_values;
		for (size_t v = 0; v < param->n_values; v++)
			out->params[i].values[v] = param->values[v];
	}
	return 0;
}

int wire_schedule_read(Optd__V1__SchedulePart *const *in, size_t count, struct msg_schedule_part *out,
                       uint32_t *out_count, const struct refusal *why)
{
	int rc = 0;

	if (count > LIMIT_SCHEDULE_PARTS)
		return refuse(why, OPTD_MALFORMED, "a schedule of %zu parts, at most %u are allowed", count,
		              LIMIT_SCHEDULE_PARTS);
	*out_count = (uint32_t)count;
	for (size_t i = 0; i < count && rc == 0; i++)
		rc = schedule_part_read(in[i], &out[i], why);
	return rc;
}

static int open_read(const Optd__V1__Open *in, struct wire_arena *arena, struct msg_open *out,
                     const struct refusal *why)
{
	out->model = wire_text(in->model);
	out->daemon = in->daemon;
	out->daemons = in->daemons;
	out->layout_hash = in->layout_hash;
	out->client = in->client;
	out->resume = (enum msg_resume)in->resume;
	out->run = wire_text(in->run);
	out->expect_run = in->expect_run;
	out->seen_step = in->seen_step;
	out->seen_version = in->seen_version;
	out->seen_epoch = in->seen_epoch;
	out->optimizer = wire_text(in->optimizer);
	out->match = wire_text(in->match);
	out->mode = (enum msg_mode)in->mode;
	out->reduce = (enum msg_reduce)in->reduce;
	out->workers = in->workers;
	out->step_timeout_ms = in->step_timeout_ms;
	out->wants_init = in->wants_init != 0;
	out->whole_settings = in->whole_settings != 0;
	out->relays_norms = in->relays_norms != 0;
	out->clip = wire_norms_of_open(in);
	wire_loss_scale_read(in->loss_scale, &out->loss_scale);
	int rc = wire_nonfinite_read(in->nonfinite, &out->nonfinite, why);
	if (rc == 0)
		rc = wire_hypers_read(in->hypers, in->n_hypers, out->hypers, &out->hyper_count, why);
	if (rc == 0)
		rc = wire_average_read(in->average, &out->average, why);
	if (rc == 0)
		rc = wire_schedule_read(in->schedule, in->n_schedule, out->schedule, &out->schedule_count, why);
	return rc < 0 ? rc
	              : wire_groups_read(in->groups, in->n_groups, arena, &out->groups, &out->group_count, why);
}

static void opened_read(const Optd__V1__Opened *in, struct msg_opened *out)
{
	out->model = in->model;
	out->layout = in->layout;
	out->run_id = in->run_id;
	out->step = in->step;
	out->incarnation = in->incarnation;
	out->token = in->token;
	out->lease_ms = in->lease_ms;
	out->state = (enum msg_model_state)in->state;
	out->created = in->created != 0;
	out->restored = in->restored != 0;
	out->age_s = in->age_s;
	out->mode = (enum msg_mode)in->mode;
	out->reduce = (enum msg_reduce)in->reduce;
	out->workers = in->workers;
	out->step_timeout_ms = in->step_timeout_ms;
	out->optimizer = wire_text(in->optimizer);
	out->elements = in->elements;
	out->tensors = in->tensors;
	/* One that is not known here is none: whoever pushes looks before it sends. */
	out->nonfinite = msg_nonfinite_find(wire_text(in->nonfinite));
	wire_loss_scale_read(in->loss_scale, &out->loss_scale);
	out->loss_scale_now = in->loss_scale_now;
}

static int rule_read(const Optd__V1__Opened *in, struct wire_arena *arena, struct msg_rule *out,
                     const struct refusal *why)
{
	out->name = wire_text(in->rule);
	out->match = wire_text(in->match);
	out->whole = in->whole != 0;
	out->clip = wire_norms_of_opened(in);
	int rc = wire_hypers_read(in->hypers, in->n_hypers, out->hypers, &out->hyper_count, why);
	if (rc == 0)
		rc = wire_average_read(in->average, &out->average, why);
	if (rc == 0)
		rc = wire_schedule_read(in->schedule, in->n_schedule, out->schedule, &out->schedule_count, why);
	return rc < 0 ? rc
	              : wire_groups_read(in->groups, in->n_groups, arena, &out->groups, &out->group_count, why);
}

static void lane_status_read(const Optd__V1__LaneStatus *in, struct msg_lane_status *out)
{
	out->connections = in->connections;
	out->accepted = in->accepted;
	out->refused = in->refused;
	out->cut = in->cut;
	out->flooded = in->flooded;
	out->malformed = in->malformed;
	out->strangers = in->strangers;
	out->unsent = in->unsent;
}

static int missing(const struct msg *msg, const struct refusal *why)
{
	return refuse(why, OPTD_MALFORMED, "%s %s without its body", msg_verb_name(msg->verb),
	              msg->reply ? "reply" : "request");
}

int wire_body_read(const Optd__V1__Header *header, struct wire_arena *arena, struct msg *out,
                   const struct refusal *why)
{
	if (!wire_has_body(out))
		return 0;
	switch (out->verb) {
	case MSG_HELLO:
		if (out->reply)
			return header->welcome ? welcome_read(header->welcome, &out->welcome, why)
			                       : missing(out, why);
		if (!header->hello)
			return missing(out, why);
		hello_read(header->hello, &out->hello);
		return 0;
	case MSG_OPEN:
		if (!out->reply)
			return header->open ? open_read(header->open, arena, &out->open, why)
			                    : missing(out, why);
		if (!header->opened)
			return missing(out, why);
		opened_read(header->opened, &out->opened);
		return rule_read(header->opened, arena, &out->rule, why);
	case MSG_STATUS:
		/* Daemons before it was there send none. */
		if (out->reply && header->lane_status)
			lane_status_read(header->lane_status, &out->lane_status);
		return 0;
	case MSG_SAVE:
	case MSG_DROP:
		if (header->named)
			out->named.model = wire_text(header->named->model);
		return 0;
	case MSG_SET:
		if (out->reply)
			return 0;
		return header->set ? wire_set_read(header->set, &out->set, why) : missing(out, why);
	default:
		return 0;
	}
}

/* ---- writing ------------------------------------------------------------ */

static void hello_write(const struct msg_hello *in, Optd__V1__Hello *out)
{
	optd__v1__hello__init(out);
	out->protocol_min = in->protocol_min;
	out->protocol_max = in->protocol_max;
	out->host = wire_clip(in->host, LIMIT_NAME_BYTES);
	out->pid = in->pid;
	out->software = wire_clip(in->software, LIMIT_NAME_BYTES);
}

static void welcome_write(const struct msg_welcome *in, struct wire_body *body)
{
	Optd__V1__Welcome *out = &body->welcome;

	optd__v1__welcome__init(out);
	out->protocol = in->protocol;
	out->daemon_id = in->daemon_id;
	out->lane = in->lane;
	out->lanes = in->lanes;
	out->message_bytes = in->message_bytes;
	out->window_bytes = in->window_bytes;
	out->software = wire_clip(in->software, LIMIT_NAME_BYTES);
	out->endpoints = body->endpoints;
	out->n_endpoints = in->endpoint_count;
	for (uint32_t i = 0; i < in->endpoint_count; i++)
		body->endpoints[i] = wire_clip(in->endpoints[i], LIMIT_ENDPOINT_BYTES);
}

void wire_hypers_write(const struct msg_hyper *in, uint32_t count, struct wire_rule *rule)
{
	for (uint32_t i = 0; i < count; i++) {
		Optd__V1__Hyper *hyper = &rule->hypers[i];
		optd__v1__hyper__init(hyper);
		hyper->name = wire_clip(in[i].name, LIMIT_NAME_BYTES);
		hyper->values = (double *)in[i].values;
		hyper->n_values = in[i].count;
		rule->hyper_pointers[i] = hyper;
	}
}

void wire_schedule_write(const struct msg_schedule_part *in, uint32_t count, struct wire_rule *rule)
{
	uint32_t used = 0;

	for (uint32_t i = 0; i < count; i++) {
		const struct msg_schedule_part *part = &in[i];
		Optd__V1__SchedulePart *out = &rule->schedule[i];
		optd__v1__schedule_part__init(out);
		rule->schedule_pointers[i] = out;
		out->name = wire_clip(part->name, LIMIT_NAME_BYTES);
		out->until = part->until;
		out->params = &rule->param_pointers[used];
		out->n_params = part->param_count;
		for (uint32_t j = 0; j < part->param_count; j++, used++) {
			Optd__V1__Hyper *param = &rule->params[used];
			optd__v1__hyper__init(param);
			param->name = wire_clip(part->params[j].name, LIMIT_NAME_BYTES);
			param->values = (double *)part->params[j].values;
			param->n_values = part->params[j].count;
			rule->param_pointers[used] = param;
		}
	}
}

static void open_write(const struct msg_open *in, struct wire_body *body)
{
	Optd__V1__Open *out = &body->open;

	optd__v1__open__init(out);
	out->model = wire_clip(in->model, LIMIT_NAME_BYTES);
	out->daemon = in->daemon;
	out->daemons = in->daemons;
	out->layout_hash = in->layout_hash;
	out->client = in->client;
	out->resume = (Optd__V1__Resume)in->resume;
	out->run = wire_clip(in->run, LIMIT_NAME_BYTES);
	out->expect_run = in->expect_run;
	out->seen_step = in->seen_step;
	out->seen_version = in->seen_version;
	out->seen_epoch = in->seen_epoch;
	out->optimizer = wire_clip(in->optimizer, LIMIT_NAME_BYTES);
	out->match = wire_clip(in->match, LIMIT_NAME_BYTES);
	out->mode = (Optd__V1__Mode)in->mode;
	out->reduce = (Optd__V1__Reduce)in->reduce;
	out->workers = in->workers;
	out->step_timeout_ms = in->step_timeout_ms;
	out->wants_init = in->wants_init;
	out->whole_settings = in->whole_settings;
	out->relays_norms = in->relays_norms;
	wire_norms_to_open(&in->clip, out);
	out->nonfinite = wire_nonfinite_write(in->nonfinite);
	out->loss_scale = wire_loss_scale_write(&in->loss_scale, &body->loss_scale);
	out->average = wire_average_write(&in->average, &body->average);
	out->hypers = body->rule.hyper_pointers;
	out->n_hypers = in->hyper_count;
	wire_hypers_write(in->hypers, in->hyper_count, &body->rule);
	out->schedule = body->rule.schedule_pointers;
	out->n_schedule = in->schedule_count;
	wire_schedule_write(in->schedule, in->schedule_count, &body->rule);
}

static void rule_write(const struct msg_rule *in, struct wire_body *body)
{
	Optd__V1__Opened *out = &body->opened;

	out->whole = in->whole;
	wire_norms_to_opened(&in->clip, out);
	out->rule = wire_clip(in->name, LIMIT_NAME_BYTES);
	out->average = wire_average_write(&in->average, &body->average);
	out->match = wire_clip(in->match, LIMIT_NAME_BYTES);
	out->hypers = body->rule.hyper_pointers;
	out->n_hypers = in->hyper_count;
	wire_hypers_write(in->hypers, in->hyper_count, &body->rule);
	out->schedule = body->rule.schedule_pointers;
	out->n_schedule = in->schedule_count;
	wire_schedule_write(in->schedule, in->schedule_count, &body->rule);
}

static void opened_write(const struct msg_opened *in, struct wire_body *body)
{
	Optd__V1__Opened *out = &body->opened;

	optd__v1__opened__init(out);
	out->model = in->model;
	out->layout = in->layout;
	out->run_id = in->run_id;
	out->step = in->step;
	out->incarnation = in->incarnation;
	out->token = in->token;
	out->lease_ms = in->lease_ms;
	out->state = (Optd__V1__ModelState)in->state;
	out->created = in->created;
	out->restored = in->restored;
	out->age_s = in->age_s;
	out->mode = (Optd__V1__Mode)in->mode;
	out->reduce = (Optd__V1__Reduce)in->reduce;
	out->workers = in->workers;
	out->step_timeout_ms = in->step_timeout_ms;
	out->optimizer = wire_clip(in->optimizer, LIMIT_TEXT_BYTES);
	out->elements = in->elements;
	out->tensors = in->tensors;
	out->nonfinite = wire_nonfinite_write(in->nonfinite);
	out->loss_scale = wire_loss_scale_write(&in->loss_scale, &body->loss_scale);
	out->loss_scale_now = in->loss_scale_now;
}

static void named_write(const struct msg_named *in, Optd__V1__Named *out)
{
	optd__v1__named__init(out);
	out->model = wire_clip(in->model, LIMIT_NAME_BYTES);
}

static void lane_status_write(const struct msg_lane_status *in, Optd__V1__LaneStatus *out)
{
	optd__v1__lane_status__init(out);
	out->connections = in->connections;
	out->accepted = in->accepted;
	out->refused = in->refused;
	out->cut = in->cut;
	out->flooded = in->flooded;
	out->malformed = in->malformed;
	out->strangers = in->strangers;
	out->unsent = in->unsent;
}

void wire_body_write(const struct msg *msg, struct wire_body *body, Optd__V1__Header *header)
{
	if (!wire_has_body(msg))
		return;
	switch (msg->verb) {
	case MSG_HELLO:
		if (msg->reply) {
			welcome_write(&msg->welcome, body);
			header->welcome = &body->welcome;
		} else {
			hello_write(&msg->hello, &body->hello);
			header->hello = &body->hello;
		}
		break;
	case MSG_OPEN:
		if (msg->reply) {
			opened_write(&msg->opened, body);
			rule_write(&msg->rule, body);
			header->opened = &body->opened;
		} else {
			open_write(&msg->open, body);
			header->open = &body->open;
		}
		break;
	case MSG_STATUS:
		if (msg->reply) {
			lane_status_write(&msg->lane_status, &body->lane_status);
			header->lane_status = &body->lane_status;
		}
		break;
	case MSG_SAVE:
	case MSG_DROP:
		named_write(&msg->named, &body->named);
		header->named = &body->named;
		break;
	case MSG_SET:
		if (!msg->reply) {
			wire_set_write(&msg->set, body);
			header->set = &body->set;
		}
		break;
	default:
		break;
	}
}
