/*
 * assign, average, ema, swa: what is pushed are values.
 *
 *     assign:   w = x
 *     average:  w = w + rate * (x - w)
 *     ema:      w = d * w + (1 - d) * x,  d = decay, or with num_updates
 *               min(decay, (1 + t) / (10 + t)), which follows sooner at first
 *     swa:      w = x at the first update, then w + (x - w) / t
 *
 * assign and average are for what is not trained but kept with a model, such as the
 * running statistics of a normalisation layer.  ema and swa average a model over its
 * updates: an exponential moving average as TensorFlow has it, and stochastic weight
 * averaging as torch.optim.swa_utils (Izmailov et al. 2018,
 * https://arxiv.org/abs/1803.05407).
 */
#include <string.h>

#include "optim/kernel.h"

enum average_hyper { RATE };
enum ema_hyper { DECAY, NUM_UPDATES };

static const struct optim_hyper average_hypers[] = {
	[RATE] = { "rate", OPTIM_REAL, 1, { 0.1 }, 0, 1, false, false },
};

static const struct optim_hyper ema_hypers[] = {
	[DECAY] = { "decay", OPTIM_REAL, 1, { 0.999 }, 0, 1, false, false },
	[NUM_UPDATES] = { "num_updates", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

enum average_scalar { MOVE };
enum ema_scalar { KEEP, TAKE };
enum swa_scalar { COUNT };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim, (void)out;
	return 0;
}

static void assign_scalars(const struct optim *optim, double t, float *out)
{
	(void)optim, (void)t, (void)out;
}

static void average_scalars(const struct optim *optim, double t, float *out)
{
	(void)t;
	out[MOVE] = (float)optim->values[RATE][0];
}

static void assign_step(const struct optim *optim, const float *s, float *w, float *const *slot,
                        const float *x, size_t n)
{
	(void)optim, (void)s, (void)slot;
	memcpy(w, x, n * sizeof(*w));
}

KERNEL_LOOP average_loop(const float *s, float *restrict w, const float *restrict x, size_t n)
{
	const float move = s[MOVE];

	for (size_t i = 0; i < n; i++) {
		float wi = w[i];

		w[i] = wi + move * (x[i] - wi);
	}
}

static void average_step(const struct optim *optim, const float *s, float *w, float *const *slot,
                         const float *x, size_t n)
{
	(void)optim, (void)slot;
	average_loop(s, w, x, n);
}

static void ema_scalars(const struct optim *optim, double t, float *out)
{
	double decay = optim->values[DECAY][0], early = (1 + t) / (10 + t);

	if (optim->values[NUM_UPDATES][0] != 0 && early < decay)
		decay = early;
	out[KEEP] = (float)decay;
	out[TAKE] = (float)(1 - decay);
}

KERNEL_LOOP ema_loop(const float *s, float *restrict w, const float *restrict x, size_t n)
{
	const float keep = s[KEEP], take = s[TAKE];

	for (size_t i = 0; i < n; i++)
		w[i] = keep * w[i] + take * x[i];
}

static void ema_step(const struct optim *optim, const float *s, float *w, float *const *slot,
                     const float *x, size_t n)
{
	(void)optim, (void)slot;
	ema_loop(s, w, x, n);
}

static void swa_scalars(const struct optim *optim, double t, float *out)
{
	(void)optim;
	out[COUNT] = (float)t;
}

KERNEL_LOOP swa_loop(const float *s, float *restrict w, const float *restrict x, size_t n)
{
	const float count = s[COUNT];

	for (size_t i = 0; i < n; i++) {
		float wi = w[i];

		w[i] = wi + (x[i] - wi) / count;
	}
}

static void swa_step(const struct optim *optim, const float *s, float *w, float *const *slot,
                     const float *x, size_t n)
{
	(void)optim, (void)slot;
	if (s[COUNT] == 1)
		memcpy(w, x, n * sizeof(*w));
	else
		swa_loop(s, w, x, n);
}

const struct rule_row KERNEL(optim_row_ema) = {
	.name = "ema",
	.formula = "w = d*w + (1-d)*x, d = num_updates ? min(decay, (1+t)/(10+t)) : decay",
	.source = "torch.optim.swa_utils; with num_updates as TensorFlow's ExponentialMovingAverage",
	.reach = OPTIM_ELEMENTWISE,
	.push = OPTIM_WEIGHTS,
	.hypers = ema_hypers,
	.hyper_count = KERNEL_COUNT(ema_hypers),
	.slots = slots,
	.scalars = ema_scalars,
	.step = ema_step,
};

const struct rule_row KERNEL(optim_row_swa) = {
	.name = "swa",
	.formula = "w = t == 1 ? x : w + (x-w)/t",
	.source = "torch.optim.swa_utils; Izmailov et al. 2018, arXiv 1803.05407",
	.reach = OPTIM_ELEMENTWISE,
	.push = OPTIM_WEIGHTS,
	.slots = slots,
	.scalars = swa_scalars,
	.step = swa_step,
};

const struct rule_row KERNEL(optim_row_assign) = {
	.name = "assign",
	.formula = "w = x",
	.source = "the definition",
	.reach = OPTIM_ELEMENTWISE,
	.push = OPTIM_WEIGHTS,
	.slots = slots,
	.scalars = assign_scalars,
	.step = assign_step,
};

const struct rule_row KERNEL(optim_row_average) = {
	.name = "average",
	.formula = "w = w + rate*(x-w)",
	.source = "the definition",
	.reach = OPTIM_ELEMENTWISE,
	.push = OPTIM_WEIGHTS,
	.hypers = average_hypers,
	.hyper_count = KERNEL_COUNT(average_hypers),
	.slots = slots,
	.scalars = average_scalars,
	.step = average_step,
};
