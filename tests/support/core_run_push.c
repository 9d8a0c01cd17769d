/* The steps of a run: gradients, their messages, and their order of arrival. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/core/lane_message.h"
#include "server/core/whole.h"
#include "tests/support/core_run.h"
#include "tests/support/core_world.h"
#include "tests/support/half.h"

/* A message on its way: a header and the elements behind it. */
struct letter {
	struct msg msg;
	uint8_t masks[LIMIT_PARTS][LIMIT_MASK_BYTES];
	char *values; /* of msg.dtype */
	uint64_t count;
	uint32_t first_block, block_count;
};

/* What one rank sends to one engine in one step, in order. */
struct queue {
	struct letter *letters;
	uint32_t count, room, next;
};

enum fill { FILL_NONE, FILL_SOME, FILL_ALL };

static enum fill block_fill(const struct run *run, uint32_t rank, uint32_t block, uint8_t *mask)
{
	const struct layout_block *b = layout_block(run->layout, block);
	uint32_t filled = 0;

	memset(mask, 0, LIMIT_MASK_BYTES);
	for (uint32_t i = 0; i < b->segment_count; i++) {
		uint32_t tensor = layout_segment(run->layout, b->first_segment + i)->tensor;
		if (!run->has[rank][tensor])
			continue;
		mask[i / 8] |= (uint8_t)(1u << (i % 8));
		filled++;
	}
	if (filled == 0)
		return FILL_NONE;
	return filled == b->segment_count ? FILL_ALL : FILL_SOME;
}

static void add_values(const struct run *run, struct letter *letter, uint32_t rank, uint32_t block,
                       const uint8_t *mask)
{
	const struct layout_block *b = layout_block(run->layout, block);
	enum dtype type = letter->msg.dtype;
	const void *gradients = type == DTYPE_F32 ? (const void *)run->gradients[rank] : run->halves[rank];

	letter->values = realloc(letter->values, (letter->count + b->count) * sizeof(float));
	assert_non_null(letter->values);
	for (uint32_t i = 0; i < b->segment_count; i++) {
		const struct layout_segment *s = layout_segment(run->layout, b->first_segment + i);
		if (!commit_has(mask, i))
			continue;
		memcpy(letter->values + letter->count * dtype_bytes(type),
		       dtype_at(gradients, type, b->begin + s->offset), s->count * dtype_bytes(type));
		letter->count += s->count;
	}
}

static void add_block(struct run *run, struct letter *letter, uint32_t rank, uint32_t block,
                      enum fill fill, const uint8_t *mask)
{
	struct msg *msg = &letter->msg;
	struct msg_part *last = msg->part_count > 0 ? &msg->parts[msg->part_count - 1] : NULL;

	letter->block_count++;
	if (fill != FILL_NONE)
		add_values(run, letter, rank, block, fill == FILL_ALL ? NULL : mask);
	if (fill != FILL_SOME && last != NULL && last->mask == NULL && !rng_one_in(&run->rng, 3)) {
		last->count++;
		return;
	}
	struct msg_part *part = &msg->parts[msg->part_count];
	*part = (struct msg_part){.first = block, .count = 1};
	if (fill == FILL_SOME) {
		memcpy(letter->masks[msg->part_count], mask, LIMIT_MASK_BYTES);
		part->mask_bytes = (layout_block(run->layout, block)->segment_count + 7) / 8;
		part->mask = letter->masks[msg->part_count];
	}
	msg->part_count++;
}

static struct letter *add_letter(struct run *run, struct queue *queue, uint32_t rank, bool close)
{
	/* Room for all at once: masks are pointed to. */
	assert_true(queue->count < queue->room);
	struct letter *letter = &queue->letters[queue->count++];
	memset(letter, 0, sizeof(*letter));
	letter->msg.verb = close                        ? MSG_CLOSE_STEP
	                   : rng_one_in(&run->rng, 3) ? MSG_PUSH_PULL
	                                                : MSG_PUSH;
	letter->msg.dtype = close ? DTYPE_F32 : run->types[rank];
	letter->msg.rank = (int32_t)rank;
	letter->msg.step = run->steps;
	letter->msg.weight = run->weighted ? run->samples[rank] : 0;
	letter->msg.loss_scale = run->scales[rank];
	if (run->poisoned >> rank & 1) {
		letter->msg.verdict = MSG_POISONED;
		letter->msg.poison_tensor_plus_one = 1 + rank % run->tensor_count;
	}
	return letter;
}

static void fill_queue(struct run *run, struct queue *queue, uint32_t engine, uint32_t rank)
{
	struct layout_run owned = run_model(run, engine)->owned;
	uint8_t mask[LIMIT_MASK_BYTES];
	struct letter *letter = NULL;
	bool closing = false;

	queue->room = owned.count;
	queue->letters = calloc(owned.count + 1, sizeof(*queue->letters));
	assert_non_null(queue->letters);
	for (uint32_t i = 0; i < owned.count; i++) {
		uint32_t block = owned.first + i;
		enum fill fill = block_fill(run, rank, block, mask);
		/* Of an answer, which is float32. */
		uint64_t room = LIMIT_MESSAGE_BYTES / sizeof(float) - layout_block(run->layout, block)->count;
		bool full = letter != NULL && (letter->msg.part_count == 5 || letter->count > room);
		if (letter == NULL || closing != (fill == FILL_NONE) || full || rng_one_in(&run->rng, 3)) {
			closing = fill == FILL_NONE;
			letter = add_letter(run, queue, rank, closing);
			letter->first_block = block;
		}
		add_block(run, letter, rank, block, fill, mask);
	}
}

/* ---- arrival ------------------------------------------------------------ */

static void release(struct buf *buf)
{
	free(buf->data);
	free(buf);
}

static struct buf *payload_of(const struct letter *letter)
{
	struct buf *buf = calloc(1, sizeof(*buf));
	assert_non_null(buf);
	buf->bytes = letter->count * dtype_bytes(letter->msg.dtype);
	buf->data = malloc(buf->bytes + 1);
	assert_non_null(buf->data);
	if (letter->count > 0)
		memcpy(buf->data, letter->values, buf->bytes);
	buf->release = release;
	atomic_store(&buf->holders, 1);
	return buf;
}

/* Where each push is a commit, the answer to one is checked when it comes. */
struct asked {
	uint32_t rank;
	const struct letter *letter;
	bool again; /* it was committed before */
};

/* What a push that comes again is answered for a tensor under such a rule; to be freed. */
static float *again_of(const struct run *run, uint32_t rank, uint32_t tensor)
{
	const struct reference *reference = &run->reference;
	uint64_t begin = reference->begin[tensor], n = reference->begin[tensor + 1] - begin;
	const struct reference_part part = {.loss_scale = run->scales[rank]};
	float factor = (float)(1.0 / reference_scale_of(reference, &part, tensor));
	float *x = malloc((n + 1) * sizeof(float)), *made = malloc((n + 1) * sizeof(float));

	assert_true(x != NULL && made != NULL);
	for (uint64_t i = 0; i < n; i++)
		x[i] = factor * run->gradients[rank][begin + i];
	reference_answer(reference, tensor, x, made);
	free(x);
	return made;
}

static void expect_segment(const struct run *run, const struct asked *asked, const struct layout_block *b,
                           uint32_t segment, const float *got)
{
	const struct layout_segment *s = layout_segment(run->layout, b->first_segment + segment);
	const struct reference *reference = &run->reference;
	const struct optim *optim = reference->optims[s->tensor];
	uint64_t at = b->begin + s->offset, begin = reference->begin[s->tensor];
	/* A step that is skipped has no answers but the weights. */
	bool own = optim != NULL && optim_replies(optim) && run->poisoned == 0;
	float *made = NULL;
	const float *want = own ? reference->answers + at : reference->weights + at;

	if (own && asked->again) {
		made = again_of(run, asked->rank, s->tensor);
		want = made + (at - begin);
	}
	if (memcmp(got, want, s->count * sizeof(float)) != 0)
		fail_msg("seed %llu: rank %u is answered something else for tensor %u%s",
		         (unsigned long long)run->seed, asked->rank, s->tensor, asked->again ? ", again" : "");
	free(made);
}

static void expect_answer(const struct run *run, const struct asked *asked, const struct outbox_entry *entry)
{
	const struct letter *letter = asked->letter;
	const float *got = entry->payload->data;

	for (uint32_t i = 0; i < letter->msg.part_count; i++) {
		const struct msg_part *part = &letter->msg.parts[i];
		for (uint32_t j = 0; j < part->count; j++) {
			const struct layout_block *b = layout_block(run->layout, part->first + j);
			for (uint32_t k = 0; k < b->segment_count; k++) {
				if (!commit_has(part->mask, k))
					continue;
				expect_segment(run, asked, b, k, got);
				got += layout_segment(run->layout, b->first_segment + k)->count;
			}
		}
	}
	assert_int_equal((const char *)got - (const char *)entry->payload->data, entry->head.payload_bytes);
}

/* While settings change, pushes may be held back, and what they meet is known only then; and
 * those of whole tensors come into a queue. */
static bool is_direct(const struct run *run)
{
	if (run->changing || whole_any(&run->settings.groups, &run->settings.optim))
		return false;
	return run->settings.mode == MSG_ASYNC || (run->settings.workers == 1 && run->reference.layout == NULL);
}

/* Whoever is answered of a step hears whether it was skipped, and for whom. */
static void check_told(const struct run *run, const struct msg *head)
{
	uint32_t rank = 0;

	while (rank < run->settings.workers && !(run->poisoned >> rank & 1))
		rank++;
	bool skipped = run->poisoned != 0;
	uint32_t no_one = run->reference.skipped_sum ? MSG_SKIPPED_SUM : 0;
	assert_int_equal(head->skipped_rank_plus_one, skipped ? rank + 1 : no_one);
	assert_int_equal(head->skipped_tensor_plus_one, skipped ? 1 + rank % run->tensor_count : 0);
	assert_true(head->next_loss_scale == (double)run->reference.scale);
}

static void read_some(struct run *run, const struct asked *asked)
{
	for (uint32_t i = 0; i < run->out.count; i++) {
		const struct msg *head = &run->out.entries[i].head;
		if (head->verb == MSG_NORM) {
			struct buf *payload = run->out.entries[i].payload;
			run_norm_take(run, head, payload != NULL ? payload->data : NULL);
			continue;
		}
		if (is_direct(run) && head->status == OPTD_OK && head->verb == MSG_PUSH_PULL) {
			assert_int_equal(head->request, run->requests);
			expect_answer(run, asked, &run->out.entries[i]);
		}
		/* What a duplicate replaced has its answer, too. */
		if (head->status < 0 && head->status != OPTD_CANCELLED)
			fail_msg("seed %llu: %s: %.*s", (unsigned long long)run->seed, status_name(head->status),
			         (int)head->text.size, head->text.bytes);
		run->answered += head->status <= OPTD_OK;
		if (head->status == OPTD_OK)
			check_told(run, head);
	}
	outbox_clear(&run->out);
}

static void read_answers(struct run *run, uint32_t engine, const struct asked *asked)
{
	struct lane_message *told;

	do
		read_some(run, asked);
	while (engine_answer(run->engines[engine], NULL, &run->out) ||
	       engine_answer_kept(run->engines[engine], NULL, &run->out));
	while ((told = outbox_take_told(&run->out)) != NULL) {
		/* One for each shard. */
		assert_true(run->told_count < RUN_ENGINES);
		run->told_in[run->told_count] = engine / run->lanes;
		run->told[run->told_count++] = told;
	}
}

void run_answers(struct run *run, uint32_t engine)
{
	read_answers(run, engine, NULL);
}

/* Slices of whole tensors' updates: some, or all there are. */
static void work(struct run *run, uint32_t engine, bool all)
{
	uint32_t slices = rng_below(&run->rng, 5);

	for (uint32_t i = 0; all || i < slices; i++) {
		uint64_t budget = 1 + rng_below(&run->rng, rng_one_in(&run->rng, 2) ? 10 : 1000000);
		if (engine_work(run->engines[engine], budget) == ENGINE_IDLE)
			break;
		run_answers(run, engine);
	}
}

void run_work(struct run *run, uint32_t engine)
{
	work(run, engine, true);
}

/* One of those on their way between lanes arrives. */
static void hear(struct run *run)
{
	uint32_t index = rng_below(&run->rng, run->told_count);
	struct lane_message *told = run->told[index];
	uint32_t to = run->told_in[index] * run->lanes + told->to;

	run->told[index] = run->told[--run->told_count];
	run->told_in[index] = run->told_in[run->told_count];
	engine_hear(run->engines[to], told, 0, &run->out);
	read_answers(run, to, NULL);
}

static void deliver(struct run *run, uint32_t engine, uint32_t rank, const struct letter *letter, bool again)
{
	const struct asked asked = {rank, letter, again};
	struct msg msg = letter->msg;
	struct layout *none = NULL;
	struct buf *payload = payload_of(letter);

	msg.request = ++run->requests;
	msg.session = 100 + rank;
	msg.epoch = 3;
	msg.object = run->opened[engine][rank].model;
	msg.layout = run->opened[engine][rank].layout;
	msg.incarnation = run->opened[engine][rank].incarnation;
	msg.payload = letter->count > 0 ? payload->data : NULL;
	msg.payload_bytes = payload->bytes;
	engine_handle(run->engines[engine], rank, &PRINCIPAL_ANONYMOUS, &msg, payload, &none, 0,
	              &run->out);
	buf_drop(payload);
	read_answers(run, engine, &asked);
	work(run, engine, false);
}

/* In async the reference takes each block's tensors when they arrive. */
static void reference_take(struct run *run, uint32_t rank, const struct letter *letter)
{
	struct reference_part part = {run->gradients[rank], run->has[rank], 0, run->scales[rank], false};

	for (uint32_t i = 0; i < letter->block_count; i++) {
		const struct layout_block *b = layout_block(run->layout, letter->first_block + i);
		for (uint32_t j = 0; j < b->segment_count; j++)
			reference_push(&run->reference, &part,
			               layout_segment(run->layout, b->first_segment + j)->tensor);
	}
}

static void reference_take_all(struct run *run, uint32_t rank)
{
	struct reference_part part = {run->gradients[rank], run->has[rank], 0, run->scales[rank], false};
	for (uint32_t i = 0; i < run->tensor_count; i++)
		reference_push(&run->reference, &part, i);
}

/* Delivers what the ranks first to last - 1 have, in a random order between
 * them and between engines; to one engine each sends in order. */
static void deliver_ranks(struct run *run, struct queue (*queues)[RUN_WORKERS], uint32_t first,
                          uint32_t last, bool apply)
{
	uint32_t engines = run->daemons * run->lanes;
	uint32_t left = 0;
	bool carries = true;

	run_norm_begin(run);
	for (uint32_t e = 0; e < engines; e++) {
		for (uint32_t rank = first; rank < last; rank++)
			left += queues[e][rank].count;
	}
	while (left > 0 || run->told_count > 0 || carries) {
		if (carries && (left == 0 || rng_one_in(&run->rng, 4)))
			carries = run_norm_turn(run);
		if (run->told_count > 0 && (left == 0 || rng_one_in(&run->rng, 4)))
			hear(run);
		if (left == 0)
			continue;
		uint32_t e = rng_below(&run->rng, engines);
		uint32_t rank = first + rng_below(&run->rng, last - first);
		struct queue *queue = &queues[e][rank];
		if (queue->next > 0 && rng_one_in(&run->rng, 8)) {
			deliver(run, e, rank, &queue->letters[rng_below(&run->rng, queue->next)], true);
			run->duplicates++;
		}
		if (queue->next == queue->count)
			continue;
		run_set_turn(run, apply);
		if (apply)
			reference_take(run, rank, &queue->letters[queue->next]);
		deliver(run, e, rank, &queue->letters[queue->next++], false);
		left--;
	}
	run_set_finish(run);
}

/* An element, by what it is in the type that this rank sends. */
static void set_gradient(struct run *run, uint32_t rank, uint64_t at, float value, uint16_t bf16, uint16_t f16)
{
	enum dtype type = run->types[rank];

	run->halves[rank][at] = type == DTYPE_BF16 ? bf16 : f16;
	run->gradients[rank][at] = type == DTYPE_F32 ? value : half_value(type, run->halves[rank][at]);
}

/* Finite gradients whose sum is not, or has a norm beyond all others. */
static void choose_giants(struct run *run)
{
	uint32_t tensor = rng_below(&run->rng, run->tensor_count);
	const struct optim *optim = run->reference.optims[tensor];

	if (run->reference.layout == NULL || !rng_one_in(&run->rng, 6) || optim == NULL ||
	    optim_rule_push(optim->rule) == OPTIM_WEIGHTS || run->counts[tensor] == 0)
		return;
	uint64_t at = run->reference.begin[tensor] + rng_below(&run->rng, (uint32_t)run->counts[tensor]);
	for (uint32_t rank = 0; rank < run->settings.workers; rank++)
		set_gradient(run, rank, at, 3e38f, 0x7f62, 0x7bff);
}

/* Some elements that are not finite. */
static void spoil(struct run *run, uint32_t rank)
{
	static const float bad[] = {NAN, INFINITY, -INFINITY};
	uint64_t elements = layout_elements(run->layout);

	if (run->settings.nonfinite == MSG_SKIP_STEP)
		run->poisoned |= 1u << rank;
	for (uint32_t i = 1 + rng_below(&run->rng, 20); i > 0; i--)
		set_gradient(run, rank, rng_next(&run->rng) % elements, bad[rng_below(&run->rng, 3)], 0xff80, 0x7c01);
}

/* As the reference has it: elements of tensors that are pushed count as 0. */
static void zero(struct run *run, uint32_t rank)
{
	for (uint32_t i = 0; i < run->tensor_count; i++) {
		uint64_t begin = run->reference.begin[i], end = run->reference.begin[i + 1];
		for (uint64_t j = begin; run->has[rank][i] && j < end; j++) {
			if (isfinite(run->gradients[rank][j]))
				continue;
			run->gradients[rank][j] = 0.0f;
			run->zeroed++;
		}
	}
}

static void choose_scale(struct run *run, uint32_t rank)
{
	static const double scales[] = {0, 1, 1024, 3, 65536, 0.1};

	run->scales[rank] = run->settings.loss_scale.given ? (double)run->reference.scale
	                    : run->scaled                  ? scales[rng_below(&run->rng, 6)]
	                                                   : 0;
}

static void choose_gradients(struct run *run)
{
	uint64_t elements = layout_elements(run->layout);

	run->poisoned = 0;
	for (uint32_t rank = 0; rank < run->settings.workers; rank++) {
		uint32_t sparse = 1 + rng_below(&run->rng, 5);
		bool all = rng_one_in(&run->rng, 2), none = rng_one_in(&run->rng, 10);
		enum dtype type = (enum dtype)rng_below(&run->rng, DTYPE_COUNT);
		run->types[rank] = type;
		for (uint64_t i = 0; i < elements && type == DTYPE_F32; i++)
			run->gradients[rank][i] = rng_float(&run->rng);
		for (uint64_t i = 0; i < elements && type != DTYPE_F32; i++)
			run->halves[rank][i] = half_random(type, &run->rng);
		if (type != DTYPE_F32)
			half_values(type, run->halves[rank], run->gradients[rank], elements);
		for (uint32_t i = 0; i < run->tensor_count; i++)
			run->has[rank][i] = !none && (all || rng_one_in(&run->rng, sparse));
		run->samples[rank] = 1 + rng_below(&run->rng, 1000);
		choose_scale(run, rank);
		if (run->settings.nonfinite != MSG_REJECT && rng_one_in(&run->rng, 4))
			spoil(run, rank);
	}
	choose_giants(run);
}

static void judge_sync(struct run *run)
{
	struct reference_part parts[RUN_WORKERS];

	for (uint32_t rank = 0; rank < run->settings.workers; rank++)
		parts[rank] = (struct reference_part){run->gradients[rank], run->has[rank],
		                                      run->weighted ? run->samples[rank] : 0,
		                                      run->scales[rank], (run->poisoned >> rank & 1) != 0};
	reference_judge(&run->reference, parts, run->settings.workers,
	                run->settings.reduce == MSG_MEAN);
}

static void deliver_async(struct run *run, struct queue (*queues)[RUN_WORKERS])
{
	/* A tensor in several blocks has no one order of updates unless a rank's
	 * push is taken in without another's in between. */
	if (!run->spans) {
		deliver_ranks(run, queues, 0, run->settings.workers, true);
		return;
	}
	uint32_t offset = rng_below(&run->rng, run->settings.workers);
	for (uint32_t i = 0; i < run->settings.workers; i++) {
		uint32_t rank = (i + offset) % run->settings.workers;
		if (!run->changing)
			reference_take_all(run, rank);
		deliver_ranks(run, queues, rank, rank + 1, false);
		if (run->changing)
			reference_take_all(run, rank);
	}
}

void run_step(struct run *run)
{
	struct queue queues[RUN_ENGINES][RUN_WORKERS];
	uint64_t before = run->answered, sent = run->requests;

	memset(queues, 0, sizeof(queues));
	choose_gradients(run);
	for (uint32_t e = 0; e < run->daemons * run->lanes; e++) {
		for (uint32_t rank = 0; rank < run->settings.workers; rank++)
			fill_queue(run, &queues[e][rank], e, rank);
	}
	for (uint32_t rank = 0; run->settings.nonfinite == MSG_ZERO && rank < run->settings.workers; rank++)
		zero(run, rank);
	if (run->settings.mode == MSG_ASYNC) {
		deliver_async(run, queues);
	} else {
		judge_sync(run);
		run->skipped += run->poisoned != 0 || run->reference.skipped_sum;
		if (!run->changing)
			reference_finish(&run->reference);
		deliver_ranks(run, queues, 0, run->settings.workers, false);
		if (run->changing)
			reference_finish(&run->reference);
	}
	for (uint32_t e = 0; e < run->daemons * run->lanes; e++)
		run_work(run, e);
	run->steps++;
	assert_int_equal(run->answered - before, run->requests - sent);
	for (uint32_t e = 0; e < RUN_ENGINES; e++) {
		for (uint32_t rank = 0; rank < RUN_WORKERS; rank++) {
			for (uint32_t i = 0; i < queues[e][rank].count; i++)
				free(queues[e][rank].letters[i].values);
			free(queues[e][rank].letters);
		}
	}
}
