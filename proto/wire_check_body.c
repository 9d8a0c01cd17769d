/* The checks of bodies: HELLO, OPEN, their answers, and models by name. */
#include "proto/wire_internal.h"

#include <inttypes.h>
#include <math.h>

static int check_hello(const struct msg_hello *hello, const struct refusal *why)
{
	if (hello->protocol_min == 0 || hello->protocol_min > hello->protocol_max)
		return refuse(why, OPTD_MALFORMED, "protocol versions %" PRIu32 " to %" PRIu32,
		              hello->protocol_min, hello->protocol_max);
	int rc = wire_check_text(hello->host, LIMIT_NAME_BYTES, "host", why);
	if (rc == 0)
		rc = wire_check_text(hello->software, LIMIT_NAME_BYTES, "software", why);
	return rc;
}

static int check_welcome(const struct msg_welcome *welcome, const struct refusal *why)
{
	if (welcome->protocol == 0)
		return refuse(why, OPTD_MALFORMED, "WELCOME without a protocol version");
	if (welcome->lanes == 0 || welcome->lanes > LIMIT_LANES || welcome->lane >= welcome->lanes)
		return refuse(why, OPTD_MALFORMED, "lane %" PRIu32 " of %" PRIu32 ", at most %u are allowed",
		              welcome->lane, welcome->lanes, LIMIT_LANES);
	if (welcome->endpoint_count != welcome->lanes)
		return refuse(why, OPTD_MALFORMED, "%" PRIu32 " endpoints for %" PRIu32 " lanes",
		              welcome->endpoint_count, welcome->lanes);
	if (welcome->message_bytes < LIMIT_BLOCK_BYTES || welcome->window_bytes < welcome->message_bytes)
		return refuse(why, OPTD_MALFORMED, "messages of %" PRIu32 " bytes in a window of %" PRIu32
		              ": at least %u are needed",
		              welcome->message_bytes, welcome->window_bytes, LIMIT_BLOCK_BYTES);
	for (uint32_t i = 0; i < welcome->endpoint_count; i++) {
		int rc = wire_check_text(welcome->endpoints[i], LIMIT_ENDPOINT_BYTES, "an endpoint", why);
		if (rc < 0)
			return rc;
		if (welcome->endpoints[i].size == 0)
			return refuse(why, OPTD_MALFORMED, "endpoint %" PRIu32 " is empty", i);
	}
	return wire_check_text(welcome->software, LIMIT_NAME_BYTES, "software", why);
}

/* A name and finite numbers; `what` is a hyper-parameter, say. */
static int check_numbers(const struct msg_text *name, const double *values, uint32_t count,
                         const char *what, const struct refusal *why)
{
	int rc = wire_check_text(*name, LIMIT_NAME_BYTES, "the name of a hyper-parameter", why);
	if (rc < 0)
		return rc;
	if (name->size == 0 || count == 0)
		return refuse(why, OPTD_MALFORMED, "a %s without a name or value", what);
	for (uint32_t i = 0; i < count; i++)
		if (!isfinite(values[i]))
			return refuse(why, OPTD_MALFORMED, "%s '%.*s' is %g, not a finite number", what,
			              (int)name->size, name->bytes, values[i]);
	return 0;
}

int wire_check_hypers(const struct msg_hyper *hypers, uint32_t count, const struct refusal *why)
{
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		rc = check_numbers(&hypers[i].name, hypers[i].values, hypers[i].count,
		                   "hyper-parameter", why);
	return rc;
}

static int check_schedule_part(const struct msg_schedule_part *part, const struct refusal *why)
{
	int rc = wire_check_text(part->name, LIMIT_NAME_BYTES, "the name of a schedule", why);
	if (rc == 0 && part->name.size == 0)
		rc = refuse(why, OPTD_MALFORMED, "a schedule without a name");
	for (uint32_t i = 0; rc == 0 && i < part->param_count; i++)
		rc = check_numbers(&part->params[i].name, part->params[i].values, part->params[i].count,
		                   "schedule's parameter", why);
	return rc;
}

static int check_schedule(const struct msg_schedule_part *parts, uint32_t count,
                          const struct refusal *why)
{
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		rc = check_schedule_part(&parts[i], why);
	return rc;
}

static int check_group(const struct msg_group *group, const struct refusal *why)
{
	int rc = wire_check_text(group->tensors, LIMIT_PATTERN_BYTES - 1, "a group's pattern", why);
	if (rc == 0 && group->tensors.size == 0)
		rc = refuse(why, OPTD_MALFORMED, "a group without tensors");
	if (rc == 0)
		rc = wire_check_text(group->optimizer, LIMIT_NAME_BYTES, "a group's optimizer", why);
	if (rc == 0)
		rc = wire_check_text(group->match, LIMIT_NAME_BYTES, "a group's match", why);
	if (rc == 0 && !isfinite(group->lr_factor))
		rc = refuse(why, OPTD_MALFORMED, "a group's lr_factor is %g, not a finite number",
		            group->lr_factor);
	if (rc == 0)
		rc = wire_check_hypers(group->hypers, group->hyper_count, why);
	return rc == 0 ? check_schedule(group->schedule, group->schedule_count, why) : rc;
}

static int check_groups(const struct msg_group *groups, uint32_t count, const struct refusal *why)
{
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		rc = check_group(&groups[i], why);
	return rc;
}

static int check_average(const struct msg_average *average, const struct refusal *why)
{
	int rc = wire_check_text(average->kind, LIMIT_NAME_BYTES, "an average's kind", why);
	if (rc == 0 && average->kind.size == 0 && average->hyper_count > 0)
		rc = refuse(why, OPTD_MALFORMED, "an average with settings, but without a kind");
	return rc == 0 ? wire_check_hypers(average->hypers, average->hyper_count, why) : rc;
}

static int check_open_settings(const struct msg_open *open, const struct refusal *why)
{
	int rc = wire_check_known(open->resume, MSG_RESUME_MUST, "resume", why);
	if (rc == 0)
		rc = wire_check_known(open->mode, MSG_ASYNC, "mode", why);
	if (rc == 0)
		rc = wire_check_known(open->reduce, MSG_SUM, "reduce", why);
	if (rc == 0 && open->workers > LIMIT_WORKERS)
		rc = refuse(why, OPTD_MALFORMED, "%" PRIu32 " workers, at most %u are allowed",
		            open->workers, LIMIT_WORKERS);
	if (rc == 0)
		rc = wire_loss_scale_check(&open->loss_scale, why);
	if (rc == 0)
		rc = wire_check_hypers(open->hypers, open->hyper_count, why);
	if (rc == 0)
		rc = check_schedule(open->schedule, open->schedule_count, why);
	if (rc == 0)
		rc = wire_check_norms(&open->clip, why);
	if (rc == 0)
		rc = check_average(&open->average, why);
	return rc == 0 ? check_groups(open->groups, open->group_count, why) : rc;
}

static int check_open(const struct msg *msg, const struct refusal *why)
{
	const struct msg_open *open = &msg->open;

	int rc = wire_check_text(open->model, LIMIT_NAME_BYTES, "the model's name", why);
	if (rc == 0)
		rc = wire_check_text(open->run, LIMIT_NAME_BYTES, "run", why);
	if (rc == 0)
		rc = wire_check_text(open->optimizer, LIMIT_NAME_BYTES, "optimizer", why);
	if (rc == 0)
		rc = wire_check_text(open->match, LIMIT_NAME_BYTES, "match", why);
	if (rc == 0)
		rc = wire_check_counter(open->seen_step, "seen_step", why);
	if (rc == 0)
		rc = wire_check_counter(open->seen_version, "seen_version", why);
	if (rc < 0)
		return rc;
	if (open->model.size == 0)
		return refuse(why, OPTD_MALFORMED, "OPEN without the name of a model");
	if (open->daemons == 0 || open->daemons > LIMIT_DAEMONS || open->daemon >= open->daemons)
		return refuse(why, OPTD_MALFORMED,
		              "server %" PRIu32 " of %" PRIu32 ", at most %u are allowed", open->daemon,
		              open->daemons, LIMIT_DAEMONS);
	if (open->layout_hash == 0 && msg->payload_bytes > 0)
		return refuse(why, OPTD_MALFORMED, "OPEN with a layout, but without its hash");
	return check_open_settings(open, why);
}

static int check_rule(const struct msg_rule *rule, const struct refusal *why)
{
	int rc = wire_check_text(rule->name, LIMIT_NAME_BYTES, "rule", why);
	if (rc == 0)
		rc = wire_check_text(rule->match, LIMIT_NAME_BYTES, "match", why);
	if (rc == 0)
		rc = wire_check_hypers(rule->hypers, rule->hyper_count, why);
	if (rc == 0)
		rc = check_schedule(rule->schedule, rule->schedule_count, why);
	if (rc == 0)
		rc = wire_check_norms(&rule->clip, why);
	if (rc == 0)
		rc = check_average(&rule->average, why);
	return rc == 0 ? check_groups(rule->groups, rule->group_count, why) : rc;
}

static int check_opened(const struct msg *msg, const struct refusal *why)
{
	const struct msg_opened *opened = &msg->opened;

	if ((uint32_t)opened->state < MSG_MODEL_READY)
		return refuse(why, OPTD_MALFORMED, "OPENED without a state");
	int rc = wire_check_known(opened->state, MSG_MODEL_WAITING, "state", why);
	if (rc == 0)
		rc = wire_check_known(opened->mode, MSG_ASYNC, "mode", why);
	if (rc == 0)
		rc = wire_check_known(opened->reduce, MSG_SUM, "reduce", why);
	if (rc == 0)
		rc = wire_check_counter(opened->step, "step", why);
	if (rc == 0)
		rc = wire_check_counter(opened->incarnation, "incarnation", why);
	if (rc == 0)
		rc = wire_check_counter(opened->token, "token", why);
	if (rc == 0)
		rc = wire_check_text(opened->optimizer, LIMIT_TEXT_BYTES, "optimizer", why);
	if (rc < 0)
		return rc;
	if (opened->elements > LIMIT_ELEMENTS || opened->tensors > LIMIT_TENSORS ||
	    opened->workers > LIMIT_WORKERS)
		return refuse(why, OPTD_MALFORMED, "a model of %" PRIu64 " elements, %" PRIu32
		              " tensors and %" PRIu32 " workers is beyond the limits",
		              opened->elements, opened->tensors, opened->workers);
	rc = wire_scale_now_check(opened, why);
	if (rc < 0)
		return rc;
	return check_rule(&msg->rule, why);
}

int wire_check_body(const struct msg *msg, const struct refusal *why)
{
	if (!wire_has_body(msg))
		return 0;
	switch (msg->verb) {
	case MSG_HELLO:
		return msg->reply ? check_welcome(&msg->welcome, why) : check_hello(&msg->hello, why);
	case MSG_OPEN:
		return msg->reply ? check_opened(msg, why) : check_open(msg, why);
	case MSG_SAVE:
	case MSG_DROP:
		if (msg->verb == MSG_DROP && !msg->reply && msg->named.model.size == 0)
			return refuse(why, OPTD_MALFORMED, "DROP without the name of a model");
		return wire_check_text(msg->named.model, LIMIT_NAME_BYTES, "the model's name", why);
	case MSG_SET:
		return msg->reply ? 0 : wire_check_set(&msg->set, why);
	default:
		return 0;
	}
}
