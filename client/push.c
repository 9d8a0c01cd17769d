/*
 * The public calls on a model: push, pull and both, of all of it or of some
 * tensors, blocking or started.
 */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

static uint64_t deadline_of(const optd_client *client)
{
	return hub_now_ms() + client->timeout_ms;
}

/* What a pull asks for. */
struct wanted {
	uint64_t min_version;
	enum msg_source source;
};

static const struct wanted NEWEST = {0, MSG_WEIGHTS};

/* ---- checks ----------------------------------------------------------- */

static int check_worker(optd_model *model, const char *what)
{
	if (model->client->rank != MSG_NO_RANK)
		return 0;
	return client_fail(model->client, OPTD_DENIED,
	                   "model '%s': this client only reads; connect with a rank to %s", model->name,
	                   what);
}

static int check_pointer(optd_model *model, const void *array, const char *what)
{
	if (array)
		return 0;
	return client_fail(model->client, OPTD_INVALID, "model '%s': %s is NULL", model->name, what);
}

/* ---- the whole model -------------------------------------------------- */

static int call_begin(struct call *call, const uint32_t *tensors, uint32_t count)
{
	optd_client *client = call->model->client;
	int rc = call->in_place ? inplace_keep(call, tensors, count) : 0;
	if (rc == 0)
		return call_start(client, call);
	call_free(client, call);
	return client_fail(client, rc, "out of memory");
}

/* Checks a call and starts it. */
static int start(optd_model *model, enum msg_verb verb, const float *gradient, float *weights,
                 struct wanted wanted, struct call **out)
{
	const struct route *route;
	bool push = verb != MSG_PULL, pull = verb != MSG_PUSH;
	struct verdict verdict = {0};
	int rc = 0;
	if (push)
		rc = check_worker(model, "push");
	if (rc == 0 && push)
		rc = check_pointer(model, gradient, "gradient");
	if (rc == 0 && pull)
		rc = check_pointer(model, weights, "weights");
	if (rc == 0)
		rc = check_version(model, wanted.min_version);
	if (rc == 0 && push)
		rc = inplace_check(model, gradient, layout_elements(model->layout));
	if (rc == 0 && push)
		rc = verdict_check(model, gradient, &verdict);
	if (rc < 0)
		return rc;
	rc = model_route(model, &route);
	if (rc < 0)
		return client_fail(model->client, rc, "model '%s': %s", model->name, status_text(rc));
	struct call *call = call_new(model->client, model, verb, route->message_count);
	if (!call)
		return OPTD_NO_MEMORY;
	call->route = route;
	call->whole = true;
	call->source = gradient;
	call->target = weights;
	call->in_place = push && pull && gradient == weights;
	call->min_version = wanted.min_version;
	call->source_of_pull = wanted.source;
	call->weight = push ? model->weight : 0;
	if (push)
		verdict_mark(call, verdict);
	rc = call_begin(call, NULL, 0);
	if (rc == 0)
		*out = call;
	return rc;
}

static int run(optd_model *model, enum msg_verb verb, const float *gradient, float *weights,
               struct wanted wanted)
{
	struct call *call;
	uint64_t deadline_ms = deadline_of(model->client);
	int rc = start(model, verb, gradient, weights, wanted, &call);
	return rc < 0 ? rc : call_finish(model->client, call, deadline_ms);
}

int optd_push_pull(optd_model *model, const float *gradient, float *weights)
{
	return run(model, MSG_PUSH_PULL, gradient, weights, NEWEST);
}

int optd_push(optd_model *model, const float *gradient)
{
	return run(model, MSG_PUSH, gradient, NULL, NEWEST);
}

int optd_pull(optd_model *model, float *weights, uint64_t min_version)
{
	return run(model, MSG_PULL, NULL, weights, (struct wanted){min_version, MSG_WEIGHTS});
}

int optd_pull_average(optd_model *model, float *weights, uint64_t min_version)
{
	return run(model, MSG_PULL, NULL, weights, (struct wanted){min_version, MSG_AVERAGE});
}

int optd_set_weight(optd_model *model, double samples)
{
	/* Not a denormal either: a share of it would be zero. */
	if (samples != 0 && (!(samples >= DBL_MIN) || samples > LIMIT_WEIGHT))
		return client_fail(model->client, OPTD_INVALID,
		                   "model '%s': a weight of %g samples; give a number from 0 to 2^53",
		                   model->name, samples);
	model->weight = samples;
	return 0;
}

/* ---- some tensors ----------------------------------------------------- */

/* The arrays of a call of some tensors. */
struct some {
	uint32_t *tensors;
	const float **sources;
	float **targets;
	struct verdict verdict;
};

static void some_free(struct some *some)
{
	free(some->tensors);
	free(some->sources);
	free(some->targets);
}

static int check_part(optd_model *model, const optd_part *parts, uint32_t i, enum msg_verb verb,
                      struct verdict *verdict)
{
	const optd_part *p = &parts[i];
	uint32_t total = layout_tensor_count(model->layout);
	if (p->tensor >= total)
		return client_fail(model->client, OPTD_NO_TENSOR,
		                   "model '%s': part %u names tensor %u, the model has %u", model->name, i,
		                   p->tensor, total);
	if (i > 0 && p->tensor <= parts[i - 1].tensor)
		return client_fail(model->client, OPTD_INVALID,
		                   "model '%s': tensor %u follows tensor %u; give parts in ascending order, "
		                   "each tensor once",
		                   model->name, p->tensor, parts[i - 1].tensor);
	const struct layout_tensor *t = layout_tensor(model->layout, p->tensor);
	if ((verb != MSG_PULL && !p->gradient && t->count) || (verb != MSG_PUSH && !p->weights && t->count))
		return client_fail(model->client, OPTD_INVALID, "model '%s': tensor '%s' has no array",
		                   model->name, t->name);
	if (verb == MSG_PULL)
		return 0;
	int rc = inplace_check(model, p->gradient, t->count);
	return rc < 0 ? rc : verdict_check_tensor(model, p->tensor, p->gradient, verdict);
}

static int some_make(optd_model *model, const optd_part *parts, uint32_t count, enum msg_verb verb,
                     struct some *some)
{
	some->tensors = calloc(count + 1, sizeof(*some->tensors));
	some->sources = calloc(count + 1, sizeof(*some->sources));
	some->targets = calloc(count + 1, sizeof(*some->targets));
	if (!some->tensors || !some->sources || !some->targets)
		return client_fail(model->client, OPTD_NO_MEMORY, "out of memory");
	for (uint32_t i = 0; i < count; i++) {
		int rc = check_part(model, parts, i, verb, &some->verdict);
		if (rc < 0)
			return rc;
		some->tensors[i] = parts[i].tensor;
		some->sources[i] = parts[i].gradient;
		some->targets[i] = parts[i].weights;
	}
	return 0;
}

static bool shares_array(const optd_part *parts, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (parts[i].gradient == parts[i].weights)
			return true;
	return false;
}

static int run_route(optd_model *model, enum msg_verb verb, const struct some *some, uint32_t count,
                     struct wanted wanted, bool in_place)
{
	optd_client *client = model->client;
	const struct route *route;
	uint64_t deadline_ms = deadline_of(client);
	int rc = model_route_some(model, some->tensors, count, verb != MSG_PULL, &route);
	if (rc < 0)
		return client_fail(client, rc, "model '%s': %s", model->name, status_text(rc));
	struct call *call = call_new(client, model, verb, route->message_count);
	if (!call)
		return OPTD_NO_MEMORY;
	call->route = route;
	call->sources = some->sources;
	call->targets = some->targets;
	call->in_place = in_place;
	call->min_version = wanted.min_version;
	call->source_of_pull = wanted.source;
	call->weight = verb != MSG_PULL ? model->weight : 0;
	if (verb != MSG_PULL)
		verdict_mark(call, some->verdict);
	rc = call_begin(call, some->tensors, count);
	return rc < 0 ? rc : call_finish(client, call, deadline_ms);
}

static int run_some(optd_model *model, enum msg_verb verb, const optd_part *parts, uint32_t count,
                    struct wanted wanted)
{
	struct some some = {0};
	int rc = verb == MSG_PULL ? 0 : check_worker(model, "push");
	if (rc == 0 && count > 0)
		rc = check_pointer(model, parts, "parts");
	if (rc == 0)
		rc = check_version(model, wanted.min_version);
	if (rc < 0)
		return rc;
	rc = some_make(model, parts, count, verb, &some);
	if (rc == 0)
		rc = run_route(model, verb, &some, count, wanted,
		               verb == MSG_PUSH_PULL && shares_array(parts, count));
	some_free(&some);
	return rc;
}

int optd_push_pull_parts(optd_model *model, const optd_part *parts, uint32_t count)
{
	return run_some(model, MSG_PUSH_PULL, parts, count, NEWEST);
}

int optd_push_parts(optd_model *model, const optd_part *parts, uint32_t count)
{
	return run_some(model, MSG_PUSH, parts, count, NEWEST);
}

int optd_pull_parts(optd_model *model, const optd_part *parts, uint32_t count, uint64_t min_version)
{
	return run_some(model, MSG_PULL, parts, count, (struct wanted){min_version, MSG_WEIGHTS});
}

int optd_pull_average_parts(optd_model *model, const optd_part *parts, uint32_t count, uint64_t min_version)
{
	return run_some(model, MSG_PULL, parts, count, (struct wanted){min_version, MSG_AVERAGE});
}

/* ---- started calls ---------------------------------------------------- */

static int started(optd_model *model, enum msg_verb verb, const float *gradient, float *weights,
                   struct wanted wanted, optd_ticket *ticket)
{
	struct call *call;
	int rc = start(model, verb, gradient, weights, wanted, &call);
	if (rc < 0)
		return rc;
	*ticket = call->ticket;
	/* What fits the window goes out at once. */
	client_pump(model->client);
	client_leave(model->client);
	return 0;
}

int optd_start_push_pull(optd_model *model, const float *gradient, float *weights, optd_ticket *ticket)
{
	return started(model, MSG_PUSH_PULL, gradient, weights, NEWEST, ticket);
}

int optd_start_push(optd_model *model, const float *gradient, optd_ticket *ticket)
{
	return started(model, MSG_PUSH, gradient, NULL, NEWEST, ticket);
}

int optd_start_pull(optd_model *model, float *weights, uint64_t min_version, optd_ticket *ticket)
{
	return started(model, MSG_PULL, NULL, weights, (struct wanted){min_version, MSG_WEIGHTS}, ticket);
}

int optd_start_pull_average(optd_model *model, float *weights, uint64_t min_version, optd_ticket *ticket)
{
	return started(model, MSG_PULL, NULL, weights, (struct wanted){min_version, MSG_AVERAGE}, ticket);
}
