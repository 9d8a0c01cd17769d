/* The C library on one side, optim/ on the other. */
#include "tests/e2e/trainer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optim/tensor.h"
#include "tests/support/half.h"

static const struct tensor {
	const char *name;
	uint64_t shape[3];
	uint32_t rank;
} tensors[] = {
	{ "scale", { 0 }, 0 },
	{ "embed.weight", { 512, 700 }, 2 },
	{ "embed.bias", { 7 }, 1 },
	{ "none", { 0, 3 }, 2 },
	{ "fc.weight", { 3, 100, 257 }, 3 },
	{ "fc.bias", { 100 }, 1 },
	{ "norm.weight", { 257 }, 1 },
	{ "norm.bias", { 257 }, 1 },
};

#define TENSORS (sizeof(tensors) / sizeof(tensors[0]))
#define CALL_MS 30000u

optd_layout *trainer_layout(void)
{
	optd_layout *layout = optd_layout_new();

	assert_non_null(layout);
	for (size_t i = 0; i < TENSORS; i++)
		assert_int_equal(optd_layout_add(layout, tensors[i].name, tensors[i].shape,
		                                 tensors[i].rank), (int)i);
	return layout;
}

uint64_t trainer_elements(void)
{
	optd_layout *layout = trainer_layout();
	uint64_t elements = optd_layout_elements(layout);
	optd_layout_free(layout);
	return elements;
}

/* ---- numbers ------------------------------------------------------------ */

/* A number in (-1, 1) that looks random. */
static float noise(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t z = (a * 0x9e3779b97f4a7c15u) ^ (b * 0xbf58476d1ce4e5b9u) ^ (c * 0x94d049bb133111ebu);

	z = (z ^ (z >> 31)) * 0xd6e8feb86659fd93u;
	z ^= z >> 32;
	return (float)((int32_t)(z & 0xffffff) - 0x800000) / (float)0x800000;
}

void trainer_first_weights(float *weights)
{
	uint64_t elements = trainer_elements();

	for (uint64_t i = 0; i < elements; i++)
		weights[i] = noise(i, 7, 7);
}

void trainer_gradient(float *gradient, const float *weights, uint64_t step, int32_t rank)
{
	uint64_t elements = trainer_elements();

	for (uint64_t i = 0; i < elements; i++)
		gradient[i] = 0.1f * weights[i] + 0.05f * noise(i, step, (uint64_t)rank);
}

/* ---- the worker --------------------------------------------------------- */

static const optd_hyper adam_hypers[] = { { "lr", { 0.003 }, 1 }, { "betas", { 0.8, 0.99 }, 2 } };
static const optd_hyper sgd_hypers[] = { { "lr", { 0.05 }, 1 }, { "momentum", { 0.9 }, 1 } };

/* Others than these two train with their defaults. */
const optd_schedule trainer_schedule[2] = {
	{ "linear_warmup", (const optd_schedule_param[]){ { "total_iters", { 2 }, 1 } }, 1, 2 },
	{ "cosine", (const optd_schedule_param[]){ { "T_max", { 9 }, 1 } }, 1, 0 },
};

static uint32_t plan_hypers(const struct plan *plan, const optd_hyper **hypers)
{
	*hypers = strcmp(plan->optimizer, "adam") == 0 ? adam_hypers : sgd_hypers;
	return strcmp(plan->optimizer, "adam") == 0 || strcmp(plan->optimizer, "sgd") == 0 ? 2 : 0;
}

optd_open_options trainer_options(const struct plan *plan)
{
	const optd_hyper *hypers;
	uint32_t count = plan_hypers(plan, &hypers);

	return (optd_open_options){ .optimizer = plan->optimizer,
		                    .hypers = hypers,
		                    .schedule = plan->cosine ? trainer_schedule : NULL,
		                    .schedule_count = plan->cosine ? 2 : 0,
		                    .hyper_count = count,
		                    .mode = plan->mode,
		                    .workers = plan->workers,
		                    .step_timeout_ms = plan->step_timeout_ms,
		                    .clip_norm = plan->clip_norm,
		                    .clip_norm_type = plan->clip_norm_type,
		                    .clip_tensor_norm = plan->clip_tensor_norm,
		                    .nonfinite = plan->nonfinite,
		                    .loss_scale = plan->loss_scale,
		                    .run = "e2e" };
}

int trainer_open(struct trainer *trainer, const char *endpoints, const struct plan *plan,
                 int32_t rank)
{
	uint64_t elements = trainer_elements();
	optd_options options = { .rank = rank,
		                 .timeout_ms = plan->timeout_ms > 0 ? plan->timeout_ms : CALL_MS };
	optd_open_options open_options = trainer_options(plan);
	optd_model_info info;

	*trainer = (struct trainer){ .plan = *plan, .rank = rank };
	trainer->weights = calloc(elements, sizeof(float));
	trainer->gradient = calloc(elements, sizeof(float));
	trainer->half = calloc(elements, sizeof(uint16_t));
	assert_true(trainer->weights != NULL && trainer->gradient != NULL && trainer->half != NULL);
	trainer_first_weights(trainer->weights);
	int rc = optd_connect(endpoints, &options, &trainer->client);
	if (rc < 0)
		return rc;
	optd_layout *layout = trainer_layout();
	/* A reader makes no model: one of the workers does, sooner or later. */
	do {
		rc = optd_open(trainer->client, "m", layout, &open_options, &trainer->model);
	} while (rank < 0 && rc == OPTD_NO_MODEL);
	optd_layout_free(layout);
	if (rc == OPTD_OK && rank >= 0)
		rc = optd_init(trainer->model, trainer->weights);
	if (rc >= 0)
		rc = optd_pull(trainer->model, trainer->weights, 0);
	if (rc < 0)
		return rc;
	optd_model_get_info(trainer->model, &info);
	trainer->step = info.step;
	return OPTD_OK;
}

void trainer_close(struct trainer *trainer)
{
	optd_close(&trainer->client);
	free(trainer->weights);
	free(trainer->gradient);
	free(trainer->half);
	memset(trainer, 0, sizeof(*trainer));
}

const char *trainer_error(const struct trainer *trainer)
{
	return optd_error(trainer->client);
}

static optd_half half_of(const struct plan *plan, uint32_t rank)
{
	return plan->halves != NULL ? plan->halves[rank] : (optd_half)0;
}

static int push_pull(struct trainer *trainer)
{
	optd_half half = half_of(&trainer->plan, (uint32_t)trainer->rank);
	uint64_t elements = trainer_elements();

	if (half == (optd_half)0)
		return optd_push_pull(trainer->model, trainer->gradient, trainer->weights);
	for (uint64_t i = 0; i < elements; i++)
		trainer->half[i] = half_narrow((enum dtype)half, trainer->gradient[i]);
	return optd_push_pull_half(trainer->model, half, trainer->half, trainer->weights);
}

int trainer_step(struct trainer *trainer)
{
	trainer_gradient(trainer->gradient, trainer->weights, trainer->step, trainer->rank);
	int rc = push_pull(trainer);
	trainer->step += rc >= OPTD_OK; /* a skipped one is over, too */
	return rc;
}

void trainer_run(struct trainer *trainer, uint64_t step)
{
	while (trainer->step < step) {
		int rc = trainer_step(trainer);
		if (rc < 0)
			fail_msg("step %llu of rank %d: %s: %s", (unsigned long long)trainer->step,
			         trainer->rank, optd_status_name(rc), trainer_error(trainer));
	}
}

/* ---- the reference ------------------------------------------------------ */

static void set_hypers(struct optim *optim, const struct plan *plan)
{
	const optd_hyper *hypers;
	uint32_t count = plan_hypers(plan, &hypers);
	char why[256];

	assert_int_equal(optim_init(optim, optim_find(plan->optimizer), OPTIM_TORCH2, why,
	                            sizeof(why)), 0);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(optim_set(optim, hypers[i].name, hypers[i].values, hypers[i].count, why,
		                           sizeof(why)), 0);
}

static void change_hypers(struct optim *optim, const struct plan *plan, uint64_t step)
{
	char why[256];

	for (uint32_t i = 0; i < plan->change_count; i++) {
		if (plan->changes[i].from == step)
			assert_int_equal(optim_set(optim, plan->changes[i].name, &plan->changes[i].value, 1, why,
			                           sizeof(why)), 0);
	}
}

static void set_schedule(struct schedule *schedule)
{
	char why[256];

	schedule->part_count = 2;
	for (uint32_t i = 0; i < 2; i++) {
		const optd_schedule *s = &trainer_schedule[i];
		schedule_part_init(&schedule->parts[i], (enum schedule_kind)schedule_find(s->name));
		for (uint32_t j = 0; j < s->param_count; j++)
			assert_int_equal(schedule_set(&schedule->parts[i], s->params[j].name, s->params[j].values,
			                              s->params[j].count, why, sizeof(why)), OPTD_OK);
		schedule->ends[i] = s->until;
	}
}

/* A rule that looks at whole tensors, one after the other. */
static void step_tensors(const struct optim *optim, const struct optim_scalars *scalars, float *weights,
                         float *const *slots, const float *gradient)
{
	uint64_t at = 0;

	for (size_t i = 0; i < TENSORS; i++) {
		struct tensor_shape shape = tensor_shape_of(tensors[i].shape, tensors[i].rank);
		float *own[OPTIM_SLOTS_MAX] = { NULL }, *scratch;
		if (tensor_elements(&shape) == 0)
			continue;
		for (uint32_t s = 0; s < optim_slot_count(optim); s++)
			own[s] = slots[s] + at;
		scratch = malloc((tensor_scratch(optim, &shape) + 1) * sizeof(float));
		assert_non_null(scratch);
		struct tensor_update update = { .optim = optim, .isa = optim_isa_best(), .scalars = scalars,
			                        .shape = shape, .w = weights + at, .slots = own,
			                        .g = { gradient + at, 1.0f, DTYPE_F32 }, .scratch = scratch };
		tensor_begin(&update);
		while (!tensor_run(&update, UINT64_MAX))
			continue;
		free(scratch);
		at += tensor_elements(&shape);
	}
}

/* One step of all ranks: the mean in rank order, then the rule. */
static void reference_step(const struct optim *optim, const struct plan *plan, uint64_t step,
                           struct optim_carry *carry, float *weights, float *const *slots, float *sum,
                           float *gradient)
{
	uint64_t elements = trainer_elements();
	const struct optim_gradient mine = { gradient, (float)(1.0 / plan->workers), DTYPE_F32 };
	struct optim_scalars scalars;

	for (uint32_t rank = 0; rank < plan->workers; rank++) {
		trainer_gradient(gradient, weights, step, (int32_t)rank);
		enum dtype type = (enum dtype)half_of(plan, rank);
		for (uint64_t i = 0; type != DTYPE_F32 && i < elements; i++)
			gradient[i] = half_value(type, half_narrow(type, gradient[i]));
		if (rank == 0)
			optim_scale(OPTIM_ISA_BASE, sum, mine, elements);
		else
			optim_fold(OPTIM_ISA_BASE, sum, mine, elements);
	}
	trainer_clip(sum, plan);
	optim_scalars(optim, step + 1, carry, &scalars);
	if (optim_rule_class(optim->rule) == OPTIM_TENSOR)
		step_tensors(optim, &scalars, weights, slots, sum);
	else
		optim_step(optim, OPTIM_ISA_BASE, &scalars, weights, slots, sum, elements);
}

void trainer_assert_exact(const float *weights, const struct plan *plan, uint64_t steps)
{
	uint64_t elements = trainer_elements();
	float *arrays[3 + OPTIM_SLOTS_MAX] = { NULL };
	struct optim_carry carry;
	struct optim optim;

	set_hypers(&optim, plan);
	if (plan->cosine)
		set_schedule(&optim.schedule);
	optim_carry_initial(&optim, &carry);
	for (uint32_t i = 0; i < 3 + optim_slot_count(&optim); i++) {
		arrays[i] = malloc(elements * sizeof(float));
		assert_non_null(arrays[i]);
		for (uint64_t j = 0; i >= 3 && j < elements; j++)
			arrays[i][j] = optim_slot_initial(&optim, i - 3);
	}
	trainer_first_weights(arrays[0]);
	for (uint64_t step = 0; step < steps; step++) {
		change_hypers(&optim, plan, step);
		reference_step(&optim, plan, step, &carry, arrays[0], arrays + 3, arrays[1], arrays[2]);
	}
	uint64_t differing = 0, first = 0;
	for (uint64_t i = elements; i-- > 0;) {
		if (memcmp(&weights[i], &arrays[0][i], sizeof(float)) != 0) {
			differing++;
			first = i;
		}
	}
	float wanted = arrays[0][first];
	for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
		free(arrays[i]);
	if (differing > 0)
		fail_msg("%llu of %llu weights differ after %llu steps, the first is %llu: %a, not %a",
		         (unsigned long long)differing, (unsigned long long)elements,
		         (unsigned long long)steps, (unsigned long long)first, (double)weights[first],
		         (double)wanted);
}
