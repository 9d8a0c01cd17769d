/* What is random, and the engines; core_run_push.c does the steps, core_run_compare.c the rest. */
#include "tests/support/core_run.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/core/settings.h"
#include "server/core/whole.h"
#include "tests/support/core_world.h"

static const char *const ENDPOINTS[LIMIT_LANES] = {"a", "b", "c", "d", "e", "f", "g"};

static void *new_array(uint64_t count, size_t size)
{
	void *array = calloc(count + 1, size);
	assert_non_null(array);
	return array;
}

/* ---- what is random ----------------------------------------------------- */

static uint64_t choose_count(struct rng *rng, bool big)
{
	if (rng_one_in(rng, 12))
		return 0;
	if (big && rng_one_in(rng, 3))
		return LIMIT_BLOCK_ELEMENTS + rng_below(rng, 2 * LIMIT_BLOCK_ELEMENTS);
	return 1 + rng_below(rng, rng_one_in(rng, 4) ? 3000 : 20);
}

/* Some are matrices, the large ones narrow: muon's products are as long as the shorter side
 * squared. */
static void choose_shape(struct rng *rng, uint64_t count, bool scalar, struct run_shape *shape)
{
	uint64_t rows = 1 + rng_below(rng, count > 5000 ? 3 : 30);

	*shape = (struct run_shape){scalar ? 0 : 1, {count, 1}};
	if (scalar || !rng_one_in(rng, 3))
		return;
	shape->rank = 2;
	shape->sizes[0] = rows;
	shape->sizes[1] = count / rows;
	if (rng_one_in(rng, 2)) {
		shape->sizes[0] = count / rows;
		shape->sizes[1] = rows;
	}
}

static void add_tensor(struct run *run, uint32_t number)
{
	const struct run_shape *shape = &run->shapes[number];
	char name[16];
	/* So that a pattern can tell matrices. */
	int bytes = snprintf(name, sizeof(name), shape->rank == 2 ? "t%um" : "t%u", number);

	run->counts[number] = 1;
	for (uint32_t d = 0; d < shape->rank; d++)
		run->counts[number] *= shape->sizes[d];
	assert_int_equal(layout_add(run->layout, name, (size_t)bytes, shape->sizes, shape->rank, 0), 0);
}

static void choose_layout(struct run *run)
{
	struct rng *rng = &run->rng;
	static const uint32_t sizes[] = {1, 6, 6, 40, 300, LIMIT_BLOCK_SEGMENTS + 900};
	uint32_t size = sizes[rng_below(rng, 6)];
	bool big = size <= 6 && rng_one_in(rng, 2);

	run->tensor_count = size == 1 ? 1 : size / 2 + rng_below(rng, size);
	run->counts = new_array(run->tensor_count, sizeof(uint64_t));
	run->shapes = new_array(run->tensor_count, sizeof(*run->shapes));
	run->layout = layout_new();
	for (uint32_t i = 0; i < run->tensor_count; i++) {
		bool scalar = rng_one_in(rng, 5) || (i == 0 && size == 1);
		uint64_t count = choose_count(rng, big);
		if (size > 300)
			count = count % 8;
		if (i == 0 && count == 0)
			count = 5;
		choose_shape(rng, count, scalar, &run->shapes[i]);
		if (i == 0 && run->shapes[i].rank == 2)
			run->shapes[i] = (struct run_shape){2, {3, 2}};
		add_tensor(run, i);
	}
}

static void cut_layout(struct run *run)
{
	uint32_t last = UINT32_MAX;

	assert_int_equal(whole_cut(&run->settings.groups, &run->settings.optim, run->layout), 0);
	for (uint32_t i = 0; i < layout_segment_count(run->layout); i++) {
		run->spans |= layout_segment(run->layout, i)->tensor == last;
		last = layout_segment(run->layout, i)->tensor;
	}
}

/* Hyper-parameters at random; what the rule refuses stays at its default. */
static void choose_hypers(struct rng *rng, struct optim *optim)
{
	static const double values[] = {0, 1e-8, 1e-3, 0.1, 0.5, 0.9, 0.99};
	char why[256];

	for (uint32_t i = 0; i < optim_hyper_count(optim->rule); i++) {
		const struct optim_hyper *hyper = optim_hyper(optim->rule, i);
		double some[OPTIM_VALUES_MAX];
		for (uint32_t j = 0; j < OPTIM_VALUES_MAX; j++)
			some[j] = values[rng_below(rng, 7)];
		if (hyper->kind == OPTIM_FLAG)
			some[0] = rng_one_in(rng, 2);
		if (rng_one_in(rng, 2))
			optim_set(optim, hyper->name, some, hyper->count, why, sizeof(why));
	}
}

/* One that moves lr and the momentum, for as long as a run lasts. */
static void choose_schedule(struct rng *rng, struct schedule *schedule)
{
	const double max_lr = 0.1, steps = 1 + rng_below(rng, 20), no = 0;
	struct schedule_part *part = &schedule->parts[0];
	char why[256];

	if (!rng_one_in(rng, 4))
		return;
	schedule->part_count = 1;
	schedule_part_init(part, SCHEDULE_ONECYCLE);
	assert_int_equal(schedule_set(part, "max_lr", &max_lr, 1, why, sizeof(why)), 0);
	assert_int_equal(schedule_set(part, "total_steps", &steps, 1, why, sizeof(why)), 0);
	if (rng_one_in(rng, 3))
		schedule_set(part, "cycle_momentum", &no, 1, why, sizeof(why));
}

static bool is_rule(const struct optim *optim, const char *name)
{
	return strcmp(optim_rule_name(optim->rule), name) == 0;
}

static void choose_optim(struct rng *rng, struct optim *optim)
{
	char why[256];
	bool whole = rng_one_in(rng, 3);

	for (;;) {
		/* One that answers each worker by itself is not like the others. */
		const struct optim_rule *rule = rng_one_in(rng, 12)
		                                        ? optim_find("easgd")
		                                        : optim_rule(rng_below(rng, optim_rule_count()));
		enum optim_match match = (enum optim_match)rng_below(rng, OPTIM_MATCH_COUNT);
		if (optim_init(optim, rule, match, why, sizeof(why)) < 0 ||
		    (whole && optim_rule_class(rule) != OPTIM_TENSOR))
			continue;
		choose_hypers(rng, optim);
		choose_schedule(rng, &optim->schedule);
		if (optim_settle(optim, why, sizeof(why)) == 0)
			return;
	}
}

const struct group *run_group(const struct run *run, uint32_t tensor)
{
	const struct groups *groups = &run->settings.groups;

	for (uint32_t i = 0; i < groups->count; i++) {
		if (fnmatch(groups->list[i].tensors, layout_tensor(run->layout, tensor)->name, 0) == 0)
			return &groups->list[i];
	}
	return NULL;
}

static void choose_pattern(struct rng *rng, uint32_t tensor_count, char *pattern, size_t bytes)
{
	static const char *const some[] = {"t*5", "t?", "*[0-4]", "t[!1]*", "t??", "t*[!02468]", "*1*", "t[2-37]?", "*m"};

	if (rng_one_in(rng, 3))
		snprintf(pattern, bytes, "t%u", rng_below(rng, tensor_count));
	else
		snprintf(pattern, bytes, "%s", some[rng_below(rng, 9)]);
}

/* Those of up to five that have a tensor. */
static void choose_groups(struct run *run)
{
	struct groups *groups = &run->settings.groups;
	struct rng *rng = &run->rng;
	bool muon = is_rule(&run->settings.optim, "muon");

	groups->count = 0;
	for (uint32_t tries = rng_one_in(rng, 2) ? muon : 1 + rng_below(rng, 5); tries > 0; tries--) {
		struct group *group = &groups->list[groups->count];
		bool has = false;
		memset(group, 0, sizeof(*group));
		choose_pattern(rng, run->tensor_count, group->tensors, sizeof(group->tensors));
		group->frozen = rng_one_in(rng, 4);
		choose_optim(rng, &group->optim);
		/* As people do: it takes matrices, and others have another. */
		if (muon && tries == 1)
			snprintf(group->tensors, sizeof(group->tensors), "*[0-9]");
		else if (is_rule(&group->optim, "muon"))
			snprintf(group->tensors, sizeof(group->tensors), "*m");
		groups->count++;
		for (uint32_t i = 0; i < run->tensor_count; i++)
			has |= run_group(run, i) == group;
		groups->count -= has ? 0 : 1;
	}
}

/* A norm needs all lanes, which one daemon has. */
static void choose_clip(struct run *run)
{
	static const double limits[] = {1e-3, 0.1, 1, 30, 1000};
	static const double types[] = {0, 0, 1, 2, 3, 1.5, INFINITY};
	static const uint32_t lanes[] = {1, 2, 3, 7};
	struct msg_clip *clip = &run->settings.clip;
	struct rng *rng = &run->rng;

	if (run->settings.mode != MSG_SYNC || rng_one_in(rng, 2) ||
	    groups_answering(&run->settings.groups, &run->settings.optim) != NULL)
		return;
	*(rng_one_in(rng, 2) ? &clip->norm : &clip->tensor_norm) = limits[rng_below(rng, 5)];
	clip->norm_type = types[rng_below(rng, 7)];
	if (!rng_one_in(rng, 3))
		return;
	run->daemons = 1;
	run->lanes = lanes[rng_below(rng, 4)];
}

/* What is done about NaN and Inf, and the loss scales. */
static void choose_policy(struct run *run, bool zero)
{
	struct model_settings *settings = &run->settings;

	settings->nonfinite = zero ? MSG_ZERO : settings->mode == MSG_SYNC ? MSG_SKIP_STEP : MSG_REJECT;
	settings->loss_scale = (struct msg_loss_scale){.given = false};
	run->scaled = rng_one_in(&run->rng, 2);
	if (run->scaled && settings->nonfinite == MSG_SKIP_STEP)
		settings->loss_scale = (struct msg_loss_scale){true, 1024.0, 2.0, 0.5, 2};
}

static void choose_average(struct rng *rng, struct average *average)
{
	double start = rng_below(rng, 3), every = 1 + rng_below(rng, 3), warm = rng_below(rng, 2), decay = 0.75;
	char why[256];

	if (rng_one_in(rng, 3))
		return;
	bool ema = rng_one_in(rng, 2);
	assert_int_equal(average_begin(average, ema ? "ema" : "swa", why, sizeof(why)), 0);
	assert_int_equal(average_set(average, "start", &start, 1, why, sizeof(why)), 0);
	assert_int_equal(average_set(average, "every", &every, 1, why, sizeof(why)), 0);
	if (!ema)
		return;
	assert_int_equal(average_set(average, "num_updates", &warm, 1, why, sizeof(why)), 0);
	assert_int_equal(average_set(average, "decay", &decay, 1, why, sizeof(why)), 0);
}

static void choose_settings(struct run *run, enum msg_mode mode)
{
	struct rng *rng = &run->rng;
	char why[LIMIT_TEXT_BYTES];
	bool answering;

	do {
		choose_optim(rng, &run->settings.optim);
		choose_groups(run);
		run->settings.mode = mode != MSG_MODE_UNSET  ? mode :
		                     rng_one_in(rng, 3) ? MSG_ASYNC :
		                                           MSG_SYNC;
		/* Who is answered by himself is not waited for. */
		answering = run->settings.mode == MSG_SYNC &&
		            groups_answering(&run->settings.groups, &run->settings.optim) != NULL;
	} while (whole_check(&run->settings.groups, &run->settings.optim, run->settings.mode, run->layout,
	                     why, sizeof(why)) < 0 ||
	         (answering && whole_any(&run->settings.groups, &run->settings.optim)));
	choose_average(rng, &run->settings.average);
	run->settings.reduce = rng_one_in(rng, 3) ? MSG_SUM : MSG_MEAN;
	run->settings.workers = answering ? 1 : 1 + rng_below(rng, RUN_WORKERS);
	run->settings.step_timeout_ms = 1000;
	run->weighted = rng_one_in(rng, 3);
	choose_policy(run, rng_one_in(rng, 3));
	run->changing = rng_one_in(rng, 2);
	do {
		run->daemons = 1 + rng_below(rng, 3);
		run->lanes = 1 + rng_below(rng, 3);
	} while (run->daemons * run->lanes > 7);
	choose_clip(run);
	run->preset = (struct engine_preset){"m", true, run->settings};
}

void run_init(struct run *run, uint64_t seed, enum msg_mode mode)
{
	memset(run, 0, sizeof(*run));
	run->seed = seed;
	run->rng = rng_new(seed);
	choose_layout(run);
	choose_settings(run, mode);
	cut_layout(run);
	uint64_t elements = layout_elements(run->layout);
	run->weights = new_array(elements, sizeof(float));
	for (uint64_t i = 0; i < elements; i++)
		run->weights[i] = rng_float(&run->rng);
	for (uint32_t i = 0; i < run->settings.workers; i++) {
		run->gradients[i] = new_array(elements, sizeof(float));
		run->halves[i] = new_array(elements, sizeof(uint16_t));
		run->has[i] = new_array(run->tensor_count, sizeof(bool));
	}
	reference_init(&run->reference, &run->settings.optim, run->counts, run->tensor_count,
	               run->weights);
	run->reference.average = run->settings.average;
	for (uint32_t i = 0; i < run->tensor_count; i++) {
		const struct group *group = run_group(run, i);
		reference_shape(&run->reference, i, run->shapes[i].sizes, run->shapes[i].rank);
		if (group != NULL)
			reference_group(&run->reference, i, group->frozen ? NULL : &group->optim);
	}
	if (run->settings.clip.norm > 0 || run->settings.clip.tensor_norm > 0)
		reference_clip(&run->reference, &run->settings.clip, run->layout);
}

void run_text(const struct run *run, char *text, size_t bytes)
{
	char optim[500], average[AVERAGE_TEXT_BYTES];
	settings_describe(&run->settings, optim, sizeof(optim));
	average_text(&run->settings.average, average, sizeof(average));
	snprintf(text, bytes,
	         "OPTD_SEED=%llu: %u tensors, %llu elements, %u blocks, %u daemons x %u lanes, %s, "
	         "%s%s, %u workers, average %s, %s",
	         (unsigned long long)run->seed, run->tensor_count,
	         (unsigned long long)layout_elements(run->layout), layout_block_count(run->layout),
	         run->daemons, run->lanes, run->settings.mode == MSG_SYNC ? "sync" : "async",
	         run->settings.reduce == MSG_SUM ? "sum" : "mean", run->weighted ? " weighted" : "",
	         run->settings.workers, average, optim);
}

/* ---- engines ------------------------------------------------------------ */

struct run_tap {
	struct run *run;
	uint32_t engine;
};

static void *copy_of(const void *bytes, size_t size)
{
	if (bytes == NULL || size == 0)
		return NULL;
	void *copy = malloc(size);
	assert_non_null(copy);
	memcpy(copy, bytes, size);
	return copy;
}

static size_t value_count(const struct model *model, const struct commit *commit)
{
	const struct layout_block *b = layout_block(model->layout, commit->block);
	size_t count = 0;

	if (commit->empty)
		return 0;
	if (!commit->packed)
		return layout_run_elements(model->layout, (struct layout_run){commit->block, commit->more + 1});
	for (uint32_t i = 0; i < b->segment_count; i++) {
		if (commit_has(commit->present, i))
			count += layout_segment(model->layout, b->first_segment + i)->count;
	}
	return count;
}

static void record(void *user, const struct model *model, const struct commit *commit)
{
	const struct run_tap *tap = user;
	struct run *run = tap->run;

	if (run->commit_count == run->commit_room) {
		run->commit_room = run->commit_room * 2 + 64;
		run->commits = realloc(run->commits, run->commit_room * sizeof(*run->commits));
		assert_non_null(run->commits);
	}
	struct run_commit *kept = &run->commits[run->commit_count++];
	kept->engine = tap->engine;
	kept->commit = *commit;
	if (commit->kind == COMMIT_SETTINGS) {
		kept->commit.change = copy_of(commit->change, sizeof(*commit->change));
		return;
	}
	const struct layout_block *b = layout_block(model->layout, commit->block);
	kept->commit.contributors = copy_of(commit->contributors,
	                                    commit->contributor_count * sizeof(*commit->contributors));
	kept->commit.present = copy_of(commit->present, (b->segment_count + 7) / 8);
	kept->commit.values = copy_of(commit->values, value_count(model, commit) * dtype_bytes(commit->type));
	kept->commit.factors = copy_of(commit->factors, b->segment_count * sizeof(float));
	kept->commit.scalars =
	        copy_of(commit->scalars, commit->scalars_count * sizeof(*commit->scalars));
}

static enum optim_isa choose_isa(struct rng *rng)
{
	enum optim_isa isa = (enum optim_isa)rng_below(rng, OPTIM_ISA_COUNT);
	return optim_isa_usable(isa) ? isa : OPTIM_ISA_BASE;
}

static void start_engine(struct run *run, uint32_t index)
{
	run->isas[index] = choose_isa(&run->rng);
	run->taps[index] = (struct run_tap){run, index};
	struct engine_options options = {.lane = index % run->lanes,
	                                 .lanes = run->lanes,
	                                 .endpoints = ENDPOINTS,
	                                 .epoch = 3,
	                                 .seed = run->seed,
	                                 .isa = run->isas[index],
	                                 .memory_bytes = UINT64_C(1) << 32,
	                                 .message_bytes = LIMIT_MESSAGE_BYTES,
	                                 .window_bytes = LIMIT_WINDOW_BYTES,
	                                 .models = 1,
	                                 .workers = RUN_WORKERS,
	                                 .step_timeout_ms = 1000,
	                                 .notice_ms = 1000,
	                                 .lease_ms = 1000,
	                                 .presets = &run->preset,
	                                 .preset_count = 1,
	                                 .on_commit = run->record ? record : NULL,
	                                 .user = &run->taps[index]};
	run->engines[index] = engine_new(&options, run->pool);
	assert_non_null(run->engines[index]);
}

static struct layout *layout_copy(const struct run *run)
{
	struct layout *layout = layout_new();
	for (uint32_t i = 0; i < layout_tensor_count(run->layout); i++) {
		const struct layout_tensor *t = layout_tensor(run->layout, i);
		assert_int_equal(layout_add(layout, t->name, strlen(t->name), t->shape, t->rank, t->group), 0);
	}
	return layout;
}

static void handle(struct run *run, uint32_t index, uint32_t rank, struct msg *msg,
                   struct layout **layout)
{
	msg->request = ++run->requests;
	msg->session = 100 + rank;
	msg->epoch = 3;
	msg->rank = (int32_t)rank;
	engine_handle(run->engines[index], rank, &PRINCIPAL_ANONYMOUS, msg, NULL, layout, 0, &run->out);
	assert_int_equal(run->out.count, 1);
	if (run->out.entries[0].head.status != OPTD_OK)
		fail_msg("%.*s", (int)run->out.entries[0].head.text.size, run->out.entries[0].head.text.bytes);
}

static void open_rank(struct run *run, uint32_t index, uint32_t rank, uint64_t run_id)
{
	struct layout *layout = layout_copy(run);
	struct msg hello = {.verb = MSG_HELLO, .hello = {.protocol_min = 1, .protocol_max = 1}};
	struct msg open = {.verb = MSG_OPEN,
	                   .open = {.model = {"m", 1},
	                            .daemon = index / run->lanes,
	                            .daemons = run->daemons,
	                            .layout_hash = layout_hash(run->layout),
	                            .client = 900 + rank,
	                            .wants_init = true,
	                            .relays_norms = true,
	                            .expect_run = run_id}};

	handle(run, index, rank, &hello, &layout);
	outbox_clear(&run->out);
	handle(run, index, rank, &open, &layout);
	run->opened[index][rank] = run->out.entries[0].head.opened;
	outbox_clear(&run->out);
	layout_free(layout);
}

static void give_weights(struct run *run, uint32_t index, uint64_t token)
{
	const struct model *model = run_model(run, index);
	struct layout *none = NULL;

	for (uint32_t i = 0; i <= model->owned.count; i++) {
		struct msg init = {.verb = MSG_INIT,
		                   .object = run->opened[index][0].model,
		                   .layout = run->opened[index][0].layout,
		                   .token = token,
		                   .part_count = i < model->owned.count};
		if (i < model->owned.count) {
			const struct layout_block *b = layout_block(run->layout, model->owned.first + i);
			init.parts[0] = (struct msg_part){.first = model->owned.first + i, .count = 1};
			init.payload = run->weights + b->begin;
			init.payload_bytes = b->count * sizeof(float);
		}
		handle(run, index, 0, &init, &none);
		outbox_clear(&run->out);
	}
}

void run_start(struct run *run)
{
	if (run->settings.loss_scale.given)
		reference_scale(&run->reference, &run->settings.loss_scale);
	run->pool = buf_pool_new(1u << 24);
	run->taps = new_array(RUN_ENGINES, sizeof(*run->taps));
	outbox_init(&run->out);
	for (uint32_t i = 0; i < run->daemons * run->lanes; i++) {
		start_engine(run, i);
		for (uint32_t rank = 0; rank < run->settings.workers; rank++)
			open_rank(run, i, rank, i > 0 ? run->opened[0][0].run_id : 0);
		give_weights(run, i, run->opened[0][0].token);
	}
}

struct model *run_model(const struct run *run, uint32_t engine)
{
	return engine_find(run->engines[engine], "m")->model;
}

struct model *run_model_new(const struct run *run, uint32_t engine)
{
	struct layout *layout = layout_copy(run);
	struct model_place place = {engine / run->lanes, run->daemons, engine % run->lanes, run->lanes};

	assert_int_equal(whole_cut(&run->settings.groups, &run->settings.optim, layout), 0);
	struct model *model = model_new("m", &run->settings, &layout, place);
	assert_non_null(model);
	return model;
}

void run_deinit(struct run *run)
{
	for (uint32_t i = 0; i < RUN_ENGINES; i++)
		engine_free(run->engines[i]);
	free(run->norm.numbers);
	outbox_deinit(&run->out);
	buf_pool_free(run->pool);
	for (uint32_t i = 0; i < run->commit_count; i++) {
		free((void *)(uintptr_t)run->commits[i].commit.contributors);
		free((void *)(uintptr_t)run->commits[i].commit.present);
		free((void *)(uintptr_t)run->commits[i].commit.values);
		free((void *)(uintptr_t)run->commits[i].commit.factors);
		free((void *)(uintptr_t)run->commits[i].commit.scalars);
		free((void *)(uintptr_t)run->commits[i].commit.change);
	}
	free(run->commits);
	free(run->taps);
	for (uint32_t i = 0; i < run->settings.workers; i++) {
		free(run->gradients[i]);
		free(run->halves[i]);
		free(run->has[i]);
	}
	free(run->weights);
	free(run->counts);
	free(run->shapes);
	layout_free(run->layout);
	reference_deinit(&run->reference);
}
