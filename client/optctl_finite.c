/*
 * optctl status: what was not finite, and the loss scale.  Each lane counts the same steps
 * as skipped, so the most that any has seen is the model's; elements add up; the scale that
 * counts is the lead's, which is the first.
 */
#include "client/optctl_finite.h"

#include <inttypes.h>

#include "client/optctl.h"

static const char *policy_name(const optd_status_row *row)
{
	static const char *const names[] = {
	        [OPTD_SKIP_STEP] = "skip_step", [OPTD_REJECT] = "reject", [OPTD_ZERO] = "zero"};
	return row->nonfinite >= OPTD_SKIP_STEP && row->nonfinite <= OPTD_ZERO ? names[row->nonfinite] : NULL;
}

void optctl_finite_add(optd_status_row *total, const optd_status_row *row)
{
	total->zeroed += row->zeroed;
	if (row->skipped > total->skipped)
		total->skipped = row->skipped;
	if (row->skipped == 0 || row->skipped_step <= total->skipped_step)
		return;
	total->skipped_step = row->skipped_step;
	total->skipped_rank = row->skipped_rank;
	total->skipped_tensor = row->skipped_tensor;
}

static void print_policy(const optd_status_row *row)
{
	printf("  not finite  %s", policy_name(row));
	if (row->nonfinite == OPTD_ZERO)
		printf(": %" PRIu64 " element%s counted as 0", row->zeroed, row->zeroed == 1 ? "" : "s");
	if (row->skipped > 0) {
		printf(": %" PRIu64 " step%s skipped, the last was step %" PRIu64 ", ", row->skipped,
		       row->skipped == 1 ? "" : "s", row->skipped_step);
		if (row->skipped_rank == OPTD_NO_WORKER)
			fputs("whose norm was not finite", stdout);
		else
			printf("for rank %u", row->skipped_rank);
		fputs(row->skipped_tensor[0] ? ", tensor " : "", stdout);
		optctl_text(stdout, row->skipped_tensor);
	}
	printf("\n");
}

void optctl_finite_print(const optd_status_row *row)
{
	if (policy_name(row))
		print_policy(row);
	if (row->loss_scale > 0)
		printf("  loss scale  %.9g, for %u step%s (grows by %.9g after %u, falls to %.9g of it)\n",
		       row->loss_scale, row->growth_tracker, row->growth_tracker == 1 ? "" : "s",
		       row->scaler.growth_factor, row->scaler.growth_interval, row->scaler.backoff_factor);
}

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *last_json(const optd_status_row *row)
{
	json_t *last = json_object();
	json_object_set_new(last, "step", number(row->skipped_step));
	json_object_set_new(last, "rank", row->skipped_rank == OPTD_NO_WORKER ? json_null() : number(row->skipped_rank));
	json_object_set_new(last, "tensor", json_string(row->skipped_tensor));
	return last;
}

static json_t *scale_json(const optd_status_row *row)
{
	json_t *scale = json_object();
	json_object_set_new(scale, "scale", json_real(row->loss_scale));
	json_object_set_new(scale, "growth_tracker", number(row->growth_tracker));
	json_object_set_new(scale, "init_scale", json_real(row->scaler.init_scale));
	json_object_set_new(scale, "growth_factor", json_real(row->scaler.growth_factor));
	json_object_set_new(scale, "backoff_factor", json_real(row->scaler.backoff_factor));
	json_object_set_new(scale, "growth_interval", number(row->scaler.growth_interval));
	return scale;
}

void optctl_finite_json(json_t *model, const optd_status_row *row)
{
	json_object_set_new(model, "nonfinite", policy_name(row) ? json_string(policy_name(row)) : json_null());
	json_object_set_new(model, "skipped_steps", number(row->skipped));
	json_object_set_new(model, "last_skipped", row->skipped > 0 ? last_json(row) : json_null());
	json_object_set_new(model, "zeroed", number(row->zeroed));
	json_object_set_new(model, "loss_scale", row->loss_scale > 0 ? scale_json(row) : json_null());
}
