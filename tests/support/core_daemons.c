/* Worlds side by side. */
#include "tests/support/core_daemons.h"

static uint64_t scalars[DAEMONS_MOST * LIMIT_BLOCK_SEGMENTS];

static void describe(struct daemons *d, uint32_t engine)
{
	struct core_world *world = &d->worlds[engine];

	core_world_init(world);
	world->tensors = d->tensors;
	world->tensor_count = d->tensor_count;
	world->options.lane = engine % d->lanes;
	world->options.lanes = d->lanes;
	world->options.workers = LIMIT_WORKERS;
	world->open.daemon = engine / d->lanes;
	world->open.daemons = d->daemons;
	world->open.workers = d->workers;
	world->open.reduce = MSG_SUM;
	world->open.clip = d->clip;
	world->open.relays_norms = true;
}

static void join(struct daemons *d, uint32_t engine)
{
	const struct msg_opened *first = &d->clients[0][0].opened;
	struct core_world *world = &d->worlds[engine];

	world->open.expect_run = engine > 0 ? first->run_id : 0;
	core_world_start(world);
	for (uint32_t rank = 0; rank < d->workers && rank < DAEMONS_RANKS; rank++) {
		struct core_client *client = &d->clients[engine][rank];
		*client = core_client_of(world, rank, (int32_t)rank);
		assert_int_equal(core_hello(client)->head.status, OPTD_OK);
		assert_int_equal(core_open(client)->head.status, OPTD_OK);
	}
	d->clients[engine][0].opened.token = first->token;
	core_init_weights(&d->clients[engine][0], NULL);
}

void daemons_start(struct daemons *d)
{
	uint32_t engines = d->daemons * d->lanes;

	assert_true(engines <= DAEMONS_MOST);
	for (uint32_t i = 0; i < engines * LIMIT_BLOCK_SEGMENTS; i++)
		scalars[i] = CORE_SCALAR;
	d->tensor_count = d->tensors != NULL ? d->tensor_count : engines * LIMIT_BLOCK_SEGMENTS;
	d->tensors = d->tensors != NULL ? d->tensors : scalars;
	for (uint32_t i = 0; i < engines; i++) {
		describe(d, i);
		join(d, i);
	}
}

void daemons_end(struct daemons *d)
{
	for (uint32_t i = 0; i < d->daemons * d->lanes; i++)
		core_world_end(&d->worlds[i]);
}

struct core_world *daemons_world(struct daemons *d, uint32_t daemon)
{
	return &d->worlds[daemon * d->lanes];
}

struct core_client *daemons_client(struct daemons *d, uint32_t daemon, uint32_t rank)
{
	return &d->clients[daemon * d->lanes][rank];
}

const struct model *daemons_model(struct daemons *d, uint32_t daemon)
{
	return core_shard(daemons_world(d, daemon))->model;
}

struct layout_run daemons_blocks(struct daemons *d, uint32_t daemon)
{
	return layout_owned(daemons_model(d, 0)->layout, daemon, d->daemons, 0, 1);
}

uint32_t daemons_segment(struct daemons *d, uint32_t block)
{
	const struct layout *layout = daemons_model(d, 0)->layout;
	return block == layout_block_count(layout) ? layout_segment_count(layout)
	                                           : layout_block(layout, block)->first_segment;
}

/* ---- pushes ------------------------------------------------------------- */

uint64_t daemons_push_lane(struct daemons *d, uint32_t engine, uint32_t rank, uint64_t step, const float *gradient)
{
	const struct model *model = core_shard(&d->worlds[engine])->model;

	return core_push(&d->clients[engine][rank], MSG_PUSH, step, model->owned.first, model->owned.count,
	                 gradient + model->begin);
}

uint64_t daemons_push(struct daemons *d, uint32_t daemon, uint32_t rank, uint64_t step, const float *gradient)
{
	uint64_t first = daemons_push_lane(d, daemon * d->lanes, rank, step, gradient);

	for (uint32_t lane = 1; lane < d->lanes; lane++)
		daemons_push_lane(d, daemon * d->lanes + lane, rank, step, gradient);
	daemons_carry(d, daemon);
	return first;
}

void daemons_carry(struct daemons *d, uint32_t daemon)
{
	struct lane_message *message;

	for (uint32_t i = 0; i < 2 * d->lanes; i++) {
		struct core_world *from = daemons_world(d, daemon) + i % d->lanes;
		while ((message = outbox_take_told(&from->out)) != NULL) {
			struct core_world *to = daemons_world(d, daemon) + message->to;
			engine_hear(to->engine, message, to->now_ms, &to->out);
			core_collect(to);
		}
	}
}

/* ---- NORM --------------------------------------------------------------- */

struct msg daemons_norm(struct core_client *client, uint64_t step, struct layout_run run)
{
	struct msg msg = core_msg(client, MSG_NORM);

	msg.step = step;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = run.first, .count = run.count};
	return msg;
}

uint64_t daemons_send(struct core_client *client, uint64_t step, struct layout_run run, const double *numbers,
                      uint32_t count)
{
	struct msg msg = daemons_norm(client, step, run);

	return core_send(client, &msg, (const float *)(const void *)numbers, 2 * (uint64_t)count);
}

uint64_t daemons_ask(struct daemons *d, uint32_t daemon, uint32_t rank, uint64_t step)
{
	return daemons_send(daemons_client(d, daemon, rank), step, daemons_blocks(d, daemon), NULL, 0);
}

uint64_t daemons_tell(struct daemons *d, uint32_t daemon, uint32_t rank, uint64_t step, uint32_t of,
                      const double *parts)
{
	struct layout_run run = daemons_blocks(d, of);
	uint32_t first = daemons_segment(d, run.first), end = daemons_segment(d, run.first + run.count);
	uint64_t request = daemons_send(daemons_client(d, daemon, rank), step, run, parts + first, end - first);

	daemons_carry(d, daemon);
	return request;
}

const double *daemons_told(struct daemons *d, uint32_t daemon, uint64_t request, uint32_t count)
{
	const struct core_answer *answer = core_answer(daemons_world(d, daemon), request);

	core_assert_ok(daemons_world(d, daemon), request);
	assert_int_equal(answer->head.verb, MSG_NORM);
	assert_int_equal(answer->head.payload_bytes, count * sizeof(double));
	assert_int_equal(answer->head.part_count, 1);
	return (const double *)(const void *)answer->values;
}
