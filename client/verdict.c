/*
 * Verdicts: a gradient is looked through before anything of it is sent.
 *
 * What is found is said by every message of the step, so that all servers come to the same
 * end; how the step ended is kept for the program, and what to multiply its next loss with.
 */
#include <float.h>

#include "client/internal.h"

/* ---- looking ---------------------------------------------------------- */

static int not_finite(optd_model *model, uint32_t tensor, uint64_t index, const char *value)
{
	const struct layout_tensor *t = layout_tensor(model->layout, tensor);
	return client_fail(model->client, OPTD_NOT_FINITE,
	                   "model '%s' on %s: the gradient of tensor '%s' is %s at index %llu of %llu; "
	                   "nothing was sent (nonfinite is reject): push this step again with a finite one",
	                   model->name, model_endpoint(model), t->name, value,
	                   (unsigned long long)index, (unsigned long long)t->count);
}

static int found(optd_model *model, uint32_t tensor, uint64_t index, const char *value,
                 struct verdict *verdict)
{
	if (model->info.nonfinite != OPTD_SKIP_STEP) {
		reject_start(model, tensor);
		return not_finite(model, tensor, index, value);
	}
	if (!verdict->poisoned)
		verdict->tensor = tensor;
	verdict->poisoned = true;
	return 0;
}

/* The tensor that holds element `at` of the vector. */
static uint32_t tensor_at(const struct layout *layout, uint64_t at)
{
	uint32_t low = 0, high = layout_tensor_count(layout) - 1;
	while (low < high) {
		uint32_t middle = low + (high - low + 1) / 2;
		if (layout_tensor(layout, middle)->offset <= at)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* What the model's next push was multiplied with; 0: nothing. */
static double scale_of(const optd_model *model)
{
	return model->loss_scale > 0 ? model->loss_scale : model->next_scale;
}

/* Where it is not finite, also only once it is divided, as torch's GradScaler looks after it has
 * unscaled.  That it does so under rules that take no gradients is of no matter: it would need
 * values beyond 3.4e38 times the scale. */
static uint64_t look(const optd_model *model, struct pushed gradient, uint64_t count)
{
	return finite_check(gradient.values, gradient.type, count, finite_limit(scale_of(model)));
}

static const char *name_of(struct pushed gradient, uint64_t bad)
{
	const void *at = dtype_at(gradient.values, gradient.type, bad);
	if (finite_check(at, gradient.type, 1, FLT_MAX) == 1)
		return "infinite, divided by its loss scale,";
	return finite_name(gradient.values, gradient.type, bad);
}

int verdict_check(optd_model *model, struct pushed gradient, struct verdict *verdict)
{
	uint64_t count = layout_elements(model->layout);
	if (model->info.nonfinite == OPTD_ZERO)
		return 0; /* the server looks */
	uint64_t bad = look(model, gradient, count);
	if (bad == count)
		return 0;
	uint32_t tensor = tensor_at(model->layout, bad);
	return found(model, tensor, bad - layout_tensor(model->layout, tensor)->offset,
	             name_of(gradient, bad), verdict);
}

int verdict_check_tensor(optd_model *model, uint32_t tensor, struct pushed gradient, struct verdict *verdict)
{
	uint64_t count = layout_tensor(model->layout, tensor)->count;
	if (model->info.nonfinite == OPTD_ZERO || verdict->poisoned)
		return 0;
	uint64_t bad = look(model, gradient, count);
	return bad < count ? found(model, tensor, bad, name_of(gradient, bad), verdict) : 0;
}

/* ---- saying ----------------------------------------------------------- */

void verdict_mark(struct call *call, struct verdict verdict)
{
	const optd_model *model = call->model;
	call->poisoned = verdict.poisoned;
	call->poison_tensor = verdict.tensor;
	call->loss_scale = scale_of(model);
}

void verdict_begin(struct call *call)
{
	optd_model *model = call->model;
	if (call->poisoned) {
		model->poison_step_plus_one = call->step + 1;
		model->poison_tensor = call->poison_tensor;
	} else if (model->poison_step_plus_one == call->step + 1) {
		call->poisoned = true;
		call->poison_tensor = model->poison_tensor;
	}
}

void verdict_fill(const struct call *call, struct msg *msg)
{
	msg->loss_scale = call->loss_scale;
	if (!call->poisoned)
		return;
	msg->verdict = MSG_POISONED;
	msg->poison_tensor_plus_one = call->poison_tensor + 1;
}

/* ---- hearing ---------------------------------------------------------- */

void verdict_answer(struct call *call, const struct lane *lane, const struct msg *reply)
{
	optd_model *model = call->model;
	uint32_t rank = reply->skipped_rank_plus_one;
	call->zeroed += reply->zeroed;
	if (rank > 0 && (call->skipped_rank_plus_one == 0 || rank < call->skipped_rank_plus_one)) {
		call->skipped_rank_plus_one = rank;
		call->skipped_tensor_plus_one = reply->skipped_tensor_plus_one;
	}
	if (reply->next_loss_scale > 0 && lane == model->client->lanes[0])
		model->next_scale = reply->next_loss_scale;
}

static uint32_t worker_of(uint32_t rank_plus_one)
{
	return rank_plus_one == MSG_SKIPPED_SUM ? OPTD_NO_WORKER : rank_plus_one > 0 ? rank_plus_one - 1 : 0;
}

int verdict_result(const struct call *call)
{
	optd_model *model = call->model;
	uint32_t tensor = call->skipped_tensor_plus_one;
	bool named = tensor > 0 && tensor <= layout_tensor_count(model->layout);
	model->has_outcome = true;
	model->outcome = (optd_step_outcome){
		.step = call->step,
		.skipped = call->skipped_rank_plus_one > 0,
		.rank = worker_of(call->skipped_rank_plus_one),
		.tensor = named ? layout_tensor(model->layout, tensor - 1)->name : "",
		.zeroed = call->zeroed,
	};
	return model->outcome.skipped ? OPTD_SKIPPED : OPTD_OK;
}

/* ---- opening ---------------------------------------------------------- */

int verdict_known(optd_model *model, const struct msg_opened *lead)
{
	const struct msg_open *open = &model->specs[0].open;
	bool policy = open->nonfinite != MSG_NONFINITE_UNSET && lead->nonfinite == MSG_NONFINITE_UNSET;
	bool scale = open->loss_scale.given && !lead->loss_scale.given;
	if (!policy && !scale)
		return 0;
	return client_fail(model->client, OPTD_UNSUPPORTED, "model '%s' on %s: this server does not know %s: update it",
	                   model->name, model_endpoint(model), policy ? "policies for what is not finite"
	                                                              : "loss scales");
}

void verdict_settle(optd_model *model)
{
	const optd_client *client = model->client;
	enum msg_nonfinite policy = client->lanes[0]->session.slots[model->slot].opened.nonfinite;
	for (uint32_t i = 1; i < client->lane_count; i++) {
		const struct msg_opened *opened = &client->lanes[i]->session.slots[model->slot].opened;
		if (model->runs[i].count > 0 && opened->nonfinite != policy)
			policy = MSG_REJECT; /* a daemon that is older would refuse its part */
	}
	model->info.nonfinite = policy == MSG_NONFINITE_UNSET ? OPTD_REJECT : (optd_nonfinite)policy;
}

void verdict_opened(optd_model *model, const struct msg_opened *lead)
{
	model->info.keeps_loss_scale = lead->loss_scale.given;
	model->next_scale = lead->loss_scale_now;
}

/* ---- the program's ---------------------------------------------------- */

int optd_set_loss_scale(optd_model *model, double scale)
{
	if (scale != 0 && !(scale >= LIMIT_LOSS_SCALE_MIN && scale <= LIMIT_LOSS_SCALE_MAX))
		return client_fail(model->client, OPTD_INVALID,
		                   "model '%s': a loss scale of %g; give a number from %.3g to %.3g, or 0 for none",
		                   model->name, scale, LIMIT_LOSS_SCALE_MIN, LIMIT_LOSS_SCALE_MAX);
	model->loss_scale = scale;
	return 0;
}

double optd_loss_scale(const optd_model *model)
{
	if (model->next_scale > 0)
		return model->next_scale;
	return model->loss_scale > 0 ? model->loss_scale : 1;
}

int optd_last_step(optd_model *model, optd_step_outcome *outcome)
{
	if (!model->has_outcome)
		return client_fail(model->client, OPTD_INVALID, "model '%s': no push of this client is done yet",
		                   model->name);
	*outcome = model->outcome;
	return 0;
}
