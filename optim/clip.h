/*
 * Clip: limits on a gradient, as torch.nn.utils.clip_grad_value_ and
 * clip_grad_norm_ have them.
 *
 * A norm is a reduction, and a reduction's bits depend on its order.  Here it is
 * fixed: optim_power_sum of each segment, the segments' sums added in their order.
 * So the result does not depend on how a model is shared among lanes and servers.
 */
#ifndef OPTD_OPTIM_CLIP_H
#define OPTD_OPTIM_CLIP_H

#include "optim/optim.h"

/* out[i] = x[i] held within [-limit, limit]; NaN stays.  out may be x. */
void clip_value(enum optim_isa isa, float *out, const float *x, float limit, size_t n);

/* A segment's part of a p-norm (p >= 1, or INFINITY): the sum of |x[i]|^p, or the
 * largest |x[i]|.  NaN if an element is. */
double clip_part(enum optim_isa isa, const float *x, size_t n, double p);

/* Two parts, the first one of what comes earlier in the model. */
double clip_join(double first, double second, double p);

/* The norm that all parts make. */
double clip_norm(double parts, double p);

/* What each element is to be multiplied with so that the norm is at most max_norm: 1
 * where it is not above; NaN for a norm of NaN, 0 for one of Inf, so that finite
 * elements become 0 and infinite ones NaN, as in PyTorch. */
float clip_factor(double norm, double max_norm);

#endif
