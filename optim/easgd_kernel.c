/*
 * easgd: elastic averaging.  Zhang, Choromanska, LeCun 2015,
 * https://arxiv.org/abs/1412.6651
 *
 * A worker pushes its own weights x, and is answered with new ones of its own,
 * drawn towards the centre w, while the centre is drawn towards it:
 *
 *     e = alpha * (x - w)        of the old x and w
 *     w = w + e
 *     x = x - e                  the answer
 *
 * With p workers alpha = 0.9 / p is usual.
 */
#include "optim/kernel.h"

enum hyper { ALPHA };

static const struct optim_hyper hypers[] = {
	[ALPHA] = { "alpha", OPTIM_REAL, 1, { 0.1 }, 0, 1, false, false },
};

enum scalar { PULL };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim, (void)out;
	return 0;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	(void)t;
	out[PULL] = (float)optim->values[ALPHA][0];
}

KERNEL_LOOP loop(const float *s, float *restrict w, const float *restrict x, size_t n)
{
	const float pull = s[PULL];

	for (size_t i = 0; i < n; i++) {
		float wi = w[i];

		w[i] = wi + pull * (x[i] - wi);
	}
}

KERNEL_LOOP reply_loop(const float *s, const float *restrict w, const float *restrict x,
                       float *restrict out, size_t n)
{
	const float pull = s[PULL];

	for (size_t i = 0; i < n; i++) {
		float xi = x[i];

		out[i] = xi - pull * (xi - w[i]);
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *x, size_t n)
{
	(void)optim, (void)slot;
	loop(s, w, x, n);
}

static void reply(const struct optim *optim, const float *s, const float *w, const float *x,
                  float *out, size_t n)
{
	(void)optim;
	reply_loop(s, w, x, out, n);
}

const struct rule_row KERNEL(optim_row_easgd) = {
	.name = "easgd",
	.formula = "e = alpha*(x-w); "
	           "w = w + e; "
	           "the worker is answered x - e",
	.source = "Zhang, Choromanska, LeCun 2015, arXiv 1412.6651",
	.reach = OPTIM_ELEMENTWISE,
	.push = OPTIM_WEIGHTS,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.slots = slots,
	.scalars = scalars,
	.step = step,
	.reply = reply,
};
