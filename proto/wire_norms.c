/* What OPEN and OPENED say of clipping: between protobuf's structs and ours. */
#include <math.h>

#include "proto/wire_body.h"

struct msg_clip wire_norms_of_open(const Optd__V1__Open *in)
{
	return (struct msg_clip){in->clip_norm, in->clip_norm_type, in->clip_tensor_norm};
}

struct msg_clip wire_norms_of_opened(const Optd__V1__Opened *in)
{
	return (struct msg_clip){in->clip_norm, in->clip_norm_type, in->clip_tensor_norm};
}

void wire_norms_to_open(const struct msg_clip *in, Optd__V1__Open *out)
{
	out->clip_norm = in->norm;
	out->clip_norm_type = in->norm_type;
	out->clip_tensor_norm = in->tensor_norm;
}

void wire_norms_to_opened(const struct msg_clip *in, Optd__V1__Opened *out)
{
	out->clip_norm = in->norm;
	out->clip_norm_type = in->norm_type;
	out->clip_tensor_norm = in->tensor_norm;
}

int wire_check_norms(const struct msg_clip *clip, const struct refusal *why)
{
	if (!isfinite(clip->norm))
		return refuse(why, OPTD_MALFORMED, "clip_norm is %g, not a finite number", clip->norm);
	if (!isfinite(clip->tensor_norm))
		return refuse(why, OPTD_MALFORMED, "clip_tensor_norm is %g, not a finite number", clip->tensor_norm);
	/* Infinity is the norm of the largest element. */
	if (isnan(clip->norm_type))
		return refuse(why, OPTD_MALFORMED, "clip_norm_type is not a number");
	return 0;
}
