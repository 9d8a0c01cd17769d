/*
 * Gradients that are not finite and loss scales: the fields about them, of headers and
 * bodies, between protobuf's structs and ours.
 */
#include "proto/wire_body.h"

#include <math.h>
#include <string.h>

/* ---- headers ------------------------------------------------------------ */

void wire_finite_read(const Optd__V1__Header *in, struct msg *out)
{
	out->verdict = (enum msg_verdict)in->verdict;
	out->poison_tensor_plus_one = in->poison_tensor_plus_one;
	out->skipped_rank_plus_one = in->skipped_rank_plus_one;
	out->skipped_tensor_plus_one = in->skipped_tensor_plus_one;
	out->zeroed = in->zeroed;
	out->loss_scale = in->loss_scale;
	out->next_loss_scale = in->next_loss_scale;
}

void wire_finite_write(const struct msg *in, Optd__V1__Header *out)
{
	out->verdict = (Optd__V1__Verdict)in->verdict;
	out->poison_tensor_plus_one = in->poison_tensor_plus_one;
	out->skipped_rank_plus_one = in->skipped_rank_plus_one;
	out->skipped_tensor_plus_one = in->skipped_tensor_plus_one;
	out->zeroed = in->zeroed;
	out->loss_scale = in->loss_scale;
	out->next_loss_scale = in->next_loss_scale;
}

/* 0 is none; written so that NaN fails. */
static int check_scale(double scale, const char *what, const struct refusal *why)
{
	if (scale == 0 || (scale >= LIMIT_LOSS_SCALE_MIN && scale <= LIMIT_LOSS_SCALE_MAX))
		return 0;
	return refuse(why, OPTD_MALFORMED, "%s %g is not a number from %.3g to %.3g", what, scale,
	              LIMIT_LOSS_SCALE_MIN, LIMIT_LOSS_SCALE_MAX);
}

int wire_finite_check(const struct msg *msg, const struct refusal *why)
{
	int rc = wire_check_known(msg->verdict, MSG_POISONED, "verdict", why);

	if (rc == 0 && (msg->poison_tensor_plus_one > LIMIT_TENSORS || msg->skipped_tensor_plus_one > LIMIT_TENSORS))
		rc = refuse(why, OPTD_MALFORMED, "a tensor beyond %u", LIMIT_TENSORS - 1);
	if (rc == 0 && msg->skipped_rank_plus_one > MSG_SKIPPED_SUM)
		rc = refuse(why, OPTD_MALFORMED, "a rank beyond %u", LIMIT_WORKERS - 1);
	if (rc == 0)
		rc = check_scale(msg->loss_scale, "loss_scale", why);
	return rc == 0 ? check_scale(msg->next_loss_scale, "next_loss_scale", why) : rc;
}

/* ---- settings ----------------------------------------------------------- */

int wire_nonfinite_read(ProtobufCBinaryData in, enum msg_nonfinite *out, const struct refusal *why)
{
	struct msg_text text = wire_text(in);
	int rc = wire_check_text(text, LIMIT_NAME_BYTES, "nonfinite", why);

	*out = msg_nonfinite_find(text);
	if (rc < 0 || text.size == 0 || *out != MSG_NONFINITE_UNSET)
		return rc;
	return refuse(why, OPTD_UNSUPPORTED, "nonfinite '%.*s' is not known to this version; it may be skip_step, "
	              "reject or zero", (int)text.size, text.bytes);
}

void wire_loss_scale_read(const Optd__V1__LossScale *in, struct msg_loss_scale *out)
{
	if (!in)
		return;
	*out = (struct msg_loss_scale){.given = true,
	                               .init_scale = in->init_scale,
	                               .growth_factor = in->growth_factor,
	                               .backoff_factor = in->backoff_factor,
	                               .growth_interval = in->growth_interval};
}

Optd__V1__LossScale *wire_loss_scale_write(const struct msg_loss_scale *in, Optd__V1__LossScale *room)
{
	if (!in->given)
		return NULL;
	optd__v1__loss_scale__init(room);
	room->init_scale = in->init_scale;
	room->growth_factor = in->growth_factor;
	room->backoff_factor = in->backoff_factor;
	room->growth_interval = in->growth_interval;
	return room;
}

ProtobufCBinaryData wire_nonfinite_write(enum msg_nonfinite policy)
{
	const char *name = policy == MSG_NONFINITE_UNSET ? "" : msg_nonfinite_name(policy);

	return (ProtobufCBinaryData){strlen(name), (uint8_t *)(uintptr_t)name};
}

int wire_loss_scale_check(const struct msg_loss_scale *settings, const struct refusal *why)
{
	if (isfinite(settings->init_scale) && isfinite(settings->growth_factor) &&
	    isfinite(settings->backoff_factor))
		return 0;
	return refuse(why, OPTD_MALFORMED, "loss_scale has a setting that is not a finite number");
}

int wire_scale_now_check(const struct msg_opened *opened, const struct refusal *why)
{
	int rc = wire_loss_scale_check(&opened->loss_scale, why);

	if (rc == 0 && opened->loss_scale.given && opened->loss_scale_now == 0)
		rc = refuse(why, OPTD_MALFORMED, "OPENED with loss_scale, and without the one of now");
	return rc == 0 ? check_scale(opened->loss_scale_now, "loss_scale_now", why) : rc;
}
