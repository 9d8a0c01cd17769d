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

static struct pushed floats(const float *gradient)
{
	return (struct pushed){gradient, DTYPE_F32};
}

static enum dtype type_of(optd_half type)
{
	return type == OPTD_BF16 ? DTYPE_BF16 : type == OPTD_F16 ? DTYPE_F16 : DTYPE_COUNT;
}

static struct pushed halves(optd_half type, const uint16_t *gradient)
{
	return (struct pushed){gradient, type_of(type)};
}

/* What a pull asks for. */
struct wanted {
	uint64_t min_version;
	enum msg_source source;
};

static const struct wanted NEWEST = {0, MSG_WEIGHTS};

/* ---- checks ----------------------------------------------------------- */

static int check_type(optd_model *model, enum dtype type)
{
	if (type < DTYPE_COUNT)
		return 0;
	return client_fail(model->client, OPTD_INVALID,
	                   "model '%s': the gradient's type is neither OPTD_BF16 nor OPTD_F16", model->name);
}

/* Float32 may come back where the gradient was; what is shorter would be overwritten while
 * part of it is still to be sent. */
static int check_apart(optd_model *model, struct pushed gradient, const float *weights, uint64_t count)
{
	uintptr_t g = (uintptr_t)gradient.values, w = (uintptr_t)weights;
	if (gradient.type == DTYPE_F32 || g >= w + count * sizeof(float) ||
	    w >= g + count * dtype_bytes(gradient.type))
		return 0;
	return client_fail(model->client, OPTD_INVALID,
	                   "model '%s': gradient and weights share memory, which a gradient of two bytes "
	                   "an element may not",
	                   model->name);
}

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
static int start(optd_model *model, enum msg_verb verb, struct pushed gradient, float *weights,
                 struct wanted wanted, struct call **out)
{
	uint64_t count = layout_elements(model->layout);
	const struct route *route;
	bool push = verb != MSG_PULL, pull = verb != MSG_PUSH;
	struct verdict verdict = {0};
	int rc = 0;
	if (push)
		rc = check_worker(model, "push");
	if (rc == 0 && push)
		rc = check_type(model, gradient.type);
	if (rc == 0 && push)
		rc = check_pointer(model, gradient.values, "gradient");
	if (rc == 0 && pull)
		rc = check_pointer(model, weights, "weights");
	if (rc == 0)
		rc = check_version(model, wanted.min_version);
	if (rc == 0 && push && pull)
		rc = check_apart(model, gradient, weights, count);
	if (rc == 0 && push)
		rc = inplace_check(model, gradient.values, count * dtype_bytes(gradient.type));
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
	call->type = gradient.type;
	call->source = gradient.values;
	call->target = weights;
	call->in_place = push && pull && gradient.values == weights;
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

static int run(optd_model *model, enum msg_verb verb, struct pushed gradient, float *weights,
               struct wanted wanted)
{
	struct call *call;
	uint64_t deadline_ms = deadline_of(model->client);
	int rc = start(model, verb, gradient, weights, wanted, &call);
	if (rc == OPTD_NOT_FINITE)
		reject_finish(model, true);
	return rc < 0 ? rc : call_finish(model->client, call, deadline_ms);
}

int optd_push_pull(optd_model *model, const float *gradient, float *weights)
{
	return run(model, MSG_PUSH_PULL, floats(gradient), weights, NEWEST);
}

int optd_push(optd_model *model, const float *gradient)
{
	return run(model, MSG_PUSH, floats(gradient), NULL, NEWEST);
}

int optd_push_pull_half(optd_model *model, optd_half type, const uint16_t *gradient, float *weights)
{
	return run(model, MSG_PUSH_PULL, halves(type, gradient), weights, NEWEST);
}

int optd_push_half(optd_model *model, optd_half type, const uint16_t *gradient)
{
	return run(model, MSG_PUSH, halves(type, gradient), NULL, NEWEST);
}

int optd_pull(optd_model *model, float *weights, uint64_t min_version)
{
	return run(model, MSG_PULL, floats(NULL), weights, (struct wanted){min_version, MSG_WEIGHTS});
}

int optd_pull_average(optd_model *model, float *weights, uint64_t min_version)
{
	return run(model, MSG_PULL, floats(NULL), weights, (struct wanted){min_version, MSG_AVERAGE});
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
	enum dtype type; /* of the sources */
	uint32_t count;
	uint32_t *tensors;
	const void **sources;
	float **targets;
	struct verdict verdict;
};

static void some_free(struct some *some)
{
	free(some->tensors);
	free(some->sources);
	free(some->targets);
}

static int some_make(optd_model *model, enum dtype type, const void *parts, uint32_t count, struct some *some)
{
	*some = (struct some){.type = type, .count = count};
	int rc = check_type(model, type);
	if (rc == 0 && count > 0)
		rc = check_pointer(model, parts, "parts");
	if (rc < 0)
		return rc;
	some->tensors = calloc(count + 1, sizeof(*some->tensors));
	some->sources = calloc(count + 1, sizeof(*some->sources));
	some->targets = calloc(count + 1, sizeof(*some->targets));
	if (!some->tensors || !some->sources || !some->targets)
		return client_fail(model->client, OPTD_NO_MEMORY, "out of memory");
	return 0;
}

static int some_of_floats(optd_model *model, const optd_part *parts, uint32_t count, struct some *some)
{
	int rc = some_make(model, DTYPE_F32, parts, count, some);
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		some->tensors[i] = parts[i].tensor;
		some->sources[i] = parts[i].gradient;
		some->targets[i] = parts[i].weights;
	}
	return rc;
}

static int some_of_halves(optd_model *model, optd_half type, const optd_half_part *parts, uint32_t count,
                          struct some *some)
{
	int rc = some_make(model, type_of(type), parts, count, some);
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		some->tensors[i] = parts[i].tensor;
		some->sources[i] = parts[i].gradient;
		some->targets[i] = parts[i].weights;
	}
	return rc;
}

static int check_part(optd_model *model, struct some *some, uint32_t i, enum msg_verb verb)
{
	uint32_t tensor = some->tensors[i], total = layout_tensor_count(model->layout);
	const void *source = some->sources[i];
	if (tensor >= total)
		return client_fail(model->client, OPTD_NO_TENSOR,
		                   "model '%s': part %u names tensor %u, the model has %u", model->name, i,
		                   tensor, total);
	if (i > 0 && tensor <= some->tensors[i - 1])
		return client_fail(model->client, OPTD_INVALID,
		                   "model '%s': tensor %u follows tensor %u; give parts in ascending order, "
		                   "each tensor once",
		                   model->name, tensor, some->tensors[i - 1]);
	const struct layout_tensor *t = layout_tensor(model->layout, tensor);
	if ((verb != MSG_PULL && !source && t->count) || (verb != MSG_PUSH && !some->targets[i] && t->count))
		return client_fail(model->client, OPTD_INVALID, "model '%s': tensor '%s' has no array",
		                   model->name, t->name);
	if (verb == MSG_PULL)
		return 0;
	int rc = verb == MSG_PUSH_PULL ? check_apart(model, (struct pushed){source, some->type}, some->targets[i], t->count)
	                               : 0;
	if (rc == 0)
		rc = inplace_check(model, source, t->count * dtype_bytes(some->type));
	return rc < 0 ? rc
	              : verdict_check_tensor(model, tensor, (struct pushed){source, some->type}, &some->verdict);
}

static bool shares_array(const struct some *some)
{
	for (uint32_t i = 0; i < some->count; i++)
		if (some->sources[i] == some->targets[i])
			return true;
	return false;
}

static int run_route(optd_model *model, enum msg_verb verb, const struct some *some, struct wanted wanted)
{
	optd_client *client = model->client;
	const struct route *route;
	uint64_t deadline_ms = deadline_of(client);
	int rc = model_route_some(model, some->tensors, some->count, verb != MSG_PULL, &route);
	if (rc < 0)
		return client_fail(client, rc, "model '%s': %s", model->name, status_text(rc));
	struct call *call = call_new(client, model, verb, route->message_count);
	if (!call)
		return OPTD_NO_MEMORY;
	call->route = route;
	call->type = some->type;
	call->sources = some->sources;
	call->targets = some->targets;
	call->in_place = verb == MSG_PUSH_PULL && some->type == DTYPE_F32 && shares_array(some);
	call->min_version = wanted.min_version;
	call->source_of_pull = wanted.source;
	call->weight = verb != MSG_PULL ? model->weight : 0;
	if (verb != MSG_PULL)
		verdict_mark(call, some->verdict);
	rc = call_begin(call, some->tensors, some->count);
	return rc < 0 ? rc : call_finish(client, call, deadline_ms);
}

/* Does a call of these arrays, or of none after an error, and frees them. */
static int run_some(optd_model *model, enum msg_verb verb, int rc, struct some *some, struct wanted wanted)
{
	if (rc == 0)
		rc = check_version(model, wanted.min_version);
	for (uint32_t i = 0; rc == 0 && i < some->count; i++)
		rc = check_part(model, some, i, verb);
	if (rc == OPTD_NOT_FINITE)
		reject_finish(model, true);
	if (rc == 0)
		rc = run_route(model, verb, some, wanted);
	some_free(some);
	return rc;
}

static int push_floats(optd_model *model, enum msg_verb verb, const optd_part *parts, uint32_t count)
{
	struct some some = {0};
	int rc = check_worker(model, "push");
	if (rc == 0)
		rc = some_of_floats(model, parts, count, &some);
	return run_some(model, verb, rc, &some, NEWEST);
}

static int push_halves(optd_model *model, enum msg_verb verb, optd_half type, const optd_half_part *parts,
                       uint32_t count)
{
	struct some some = {0};
	int rc = check_worker(model, "push");
	if (rc == 0)
		rc = some_of_halves(model, type, parts, count, &some);
	return run_some(model, verb, rc, &some, NEWEST);
}

static int pull_floats(optd_model *model, const optd_part *parts, uint32_t count, struct wanted wanted)
{
	struct some some = {0};
	int rc = some_of_floats(model, parts, count, &some);
	return run_some(model, MSG_PULL, rc, &some, wanted);
}

int optd_push_pull_parts(optd_model *model, const optd_part *parts, uint32_t count)
{
	return push_floats(model, MSG_PUSH_PULL, parts, count);
}

int optd_push_parts(optd_model *model, const optd_part *parts, uint32_t count)
{
	return push_floats(model, MSG_PUSH, parts, count);
}

int optd_push_pull_parts_half(optd_model *model, optd_half type, const optd_half_part *parts, uint32_t count)
{
	return push_halves(model, MSG_PUSH_PULL, type, parts, count);
}

int optd_push_parts_half(optd_model *model, optd_half type, const optd_half_part *parts, uint32_t count)
{
	return push_halves(model, MSG_PUSH, type, parts, count);
}

int optd_pull_parts(optd_model *model, const optd_part *parts, uint32_t count, uint64_t min_version)
{
	return pull_floats(model, parts, count, (struct wanted){min_version, MSG_WEIGHTS});
}

int optd_pull_average_parts(optd_model *model, const optd_part *parts, uint32_t count, uint64_t min_version)
{
	return pull_floats(model, parts, count, (struct wanted){min_version, MSG_AVERAGE});
}

/* ---- started calls ---------------------------------------------------- */

static int started(optd_model *model, enum msg_verb verb, struct pushed gradient, float *weights,
                   struct wanted wanted, optd_ticket *ticket)
{
	struct call *call;
	int rc = start(model, verb, gradient, weights, wanted, &call);
	if (rc == OPTD_NOT_FINITE)
		reject_finish(model, false);
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
	return started(model, MSG_PUSH_PULL, floats(gradient), weights, NEWEST, ticket);
}

int optd_start_push(optd_model *model, const float *gradient, optd_ticket *ticket)
{
	return started(model, MSG_PUSH, floats(gradient), NULL, NEWEST, ticket);
}

int optd_start_push_pull_half(optd_model *model, optd_half type, const uint16_t *gradient, float *weights,
                              optd_ticket *ticket)
{
	return started(model, MSG_PUSH_PULL, halves(type, gradient), weights, NEWEST, ticket);
}

int optd_start_push_half(optd_model *model, optd_half type, const uint16_t *gradient, optd_ticket *ticket)
{
	return started(model, MSG_PUSH, halves(type, gradient), NULL, NEWEST, ticket);
}

int optd_start_pull(optd_model *model, float *weights, uint64_t min_version, optd_ticket *ticket)
{
	return started(model, MSG_PULL, floats(NULL), weights, (struct wanted){min_version, MSG_WEIGHTS}, ticket);
}

int optd_start_pull_average(optd_model *model, float *weights, uint64_t min_version, optd_ticket *ticket)
{
	return started(model, MSG_PULL, floats(NULL), weights, (struct wanted){min_version, MSG_AVERAGE}, ticket);
}
