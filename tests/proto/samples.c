/* Samples of every message. */
#include "tests/proto/samples.h"

#include <string.h>

static const float elements[64] = {1.0f, -2.5f, 3e-7f, 4e20f, 5.0f, 6.0f};
static const uint8_t mask_low[1] = {0x05};
static const uint8_t mask_high[2] = {0x00, 0x80};
static const uint8_t records[] = "\x03\x0a\x01w";

static struct msg_text text(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

const char *sample_name(enum sample which)
{
	static const char *const names[SAMPLE_COUNT] = {
	        "hello", "welcome", "open", "opened", "open_refused", "init", "init_done", "push",
	        "push_bf16", "push_folded", "push_ok", "pull", "pull_ok", "push_pull", "push_pull_f16", "push_pull_ok", "waiting",
	        "close_step", "status", "status_ok", "save", "save_ok", "drop", "goodbye",
	        "set", "set_ok", "norm", "norm_tell", "norm_ok",
	};

	return names[which];
}

static struct msg common(enum msg_verb verb, bool reply, int32_t status)
{
	return (struct msg){
	        .verb = verb,
	        .reply = reply,
	        .status = status,
	        .request = 1001,
	        .session = UINT64_C(0xfedcba9876543210),
	        .epoch = 17,
	        .object = 3,
	        .layout = UINT64_C(0x8123456789abcdef),
	        .rank = reply ? MSG_NO_RANK : 0,
	        .incarnation = 5,
	        .step = 9380,
	};
}

static void add_payload(struct msg *msg, const void *bytes, uint64_t size)
{
	msg->payload = bytes;
	msg->payload_bytes = size;
}

static void add_blocks(struct msg *msg, uint32_t first, uint32_t count)
{
	msg->parts[msg->part_count++] = (struct msg_part){.first = first, .count = count};
}

static void add_masked(struct msg *msg, uint32_t block, const uint8_t *mask, uint32_t bytes)
{
	msg->parts[msg->part_count++] =
	        (struct msg_part){.first = block, .count = 1, .mask = mask, .mask_bytes = bytes};
}

static void fill_hello(struct msg *msg)
{
	msg->hello = (struct msg_hello){.protocol_min = 1,
	                                .protocol_max = 4,
	                                .host = text("rechner-ä"),
	                                .pid = 4711,
	                                .software = text("liboptd 0.1.0")};
}

static void fill_welcome(struct msg *msg)
{
	msg->welcome = (struct msg_welcome){.protocol = 1,
	                                    .daemon_id = UINT64_C(0xd00dfeed12345678),
	                                    .lane = 1,
	                                    .lanes = 2,
	                                    .message_bytes = LIMIT_MESSAGE_BYTES,
	                                    .window_bytes = LIMIT_WINDOW_BYTES,
	                                    .software = text("optd 0.1.0"),
	                                    .endpoint_count = 2,
	                                    .endpoints = {text("tcp://10.0.0.1:16783"),
	                                                  text("tcp://10.0.0.1:16784")}};
}

/* Two groups with settings and one without; good for as long as the program. */
static const struct msg_group *sample_groups(void)
{
	static struct msg_hyper hypers[2];
	static struct msg_schedule_part schedule[1];
	static struct msg_group groups[3];

	hypers[0] = (struct msg_hyper){.name = text("weight_decay"), .values = {0.5}, .count = 1};
	hypers[1] = (struct msg_hyper){.name = text("betas"), .values = {0.1, 0.2}, .count = 2};
	schedule[0] = (struct msg_schedule_part){
	        .name = text("step"),
	        .param_count = 1,
	        .params = {{.name = text("step_size"), .values = {7}, .count = 1}}};
	groups[0] = (struct msg_group){.tensors = text("*.bi\xc3\xa4s"),
	                               .lr_factor = 0.25,
	                               .hyper_count = 2,
	                               .hypers = hypers,
	                               .schedule_count = 1,
	                               .schedule = schedule};
	groups[1] = (struct msg_group){.tensors = text("bn?.*"), .optimizer = text("adam"), .match = text("torch1"),
	                               .whole = true};
	groups[2] = (struct msg_group){.tensors = text("x"), .frozen = true};
	return groups;
}

static void fill_open(struct msg *msg)
{
	msg->open = (struct msg_open){
	        .model = text("fashion"),
	        .daemon = 1,
	        .daemons = 3,
	        .layout_hash = UINT64_C(0xabcdef0123456789),
	        .client = 77,
	        .resume = MSG_RESUME_MUST,
	        .run = text("job-12"),
	        .expect_run = UINT64_C(0x1122334455667788),
	        .seen_step = 41,
	        .seen_version = 43,
	        .seen_epoch = 6,
	        .optimizer = text("adam"),
	        .match = text("torch2"),
	        .mode = MSG_SYNC,
	        .reduce = MSG_MEAN,
	        .workers = 2,
	        .step_timeout_ms = 60000,
	        .wants_init = true,
	        .hyper_count = 2,
	        .hypers = {{.name = text("lr"), .values = {1e-3}, .count = 1},
	                   {.name = text("betas"), .values = {0.9, 0.999}, .count = 2}},
	        .schedule_count = 2,
	        .schedule = {{.name = text("linear_warmup"),
	                      .until = 500,
	                      .param_count = 1,
	                      .params = {{.name = text("total_iters"), .values = {500}, .count = 1}}},
	                     {.name = text("multistep"),
	                      .param_count = 2,
	                      .params = {{.name = text("milestones"), .values = {100, 200, 300, 400}, .count = 4},
	                                 {.name = text("gamma"), .values = {0.5}, .count = 1}}}},
	        .group_count = 3,
	        .groups = sample_groups(),
	        .average = {.kind = text("ema"),
	                    .hyper_count = 2,
	                    .hypers = {{.name = text("decay"), .values = {0.75}, .count = 1},
	                               {.name = text("every"), .values = {10}, .count = 1}}},
	        .whole_settings = true,
	        .relays_norms = true,
	        .nonfinite = MSG_SKIP_STEP,
	        .loss_scale = {.given = true, .growth_factor = 4, .growth_interval = 77},
	};
}

static void fill_opened(struct msg *msg)
{
	msg->opened = (struct msg_opened){
	        .model = 3,
	        .layout = UINT64_C(0x8123456789abcdef),
	        .run_id = UINT64_C(0x1122334455667788),
	        .step = 42,
	        .incarnation = 6,
	        .token = 7,
	        .lease_ms = 30000,
	        .state = MSG_MODEL_GRANTED,
	        .created = true,
	        .restored = true,
	        .age_s = 50400,
	        .mode = MSG_ASYNC,
	        .reduce = MSG_SUM,
	        .workers = 4,
	        .step_timeout_ms = 1000,
	        .optimizer = text("sgd"),
	        .elements = UINT64_C(1) << 40,
	        .tensors = 12,
	        .nonfinite = MSG_ZERO,
	        .loss_scale = {true, 1024, 2, 0.25, 500},
	        .loss_scale_now = 4096,
	};
	msg->rule = (struct msg_rule){
	        .name = text("adam"),
	        .match = text("torch1"),
	        .whole = true,
	        .hyper_count = 2,
	        .hypers = {{.name = text("lr"), .values = {0.1}, .count = 1},
	                   {.name = text("betas"), .values = {0.8, 0.99}, .count = 2}},
	        .schedule_count = 1,
	        .schedule = {{.name = text("cosine"),
	                      .until = 9,
	                      .param_count = 1,
	                      .params = {{.name = text("T_max"), .values = {40}, .count = 1}}}},
	        .group_count = 2,
	        .groups = sample_groups() + 1,
	        .average = {.kind = text("swa"),
	                    .hyper_count = 1,
	                    .hypers = {{.name = text("start"), .values = {1e15}, .count = 1}}},
	};
}

static struct msg make_session(enum sample which)
{
	struct msg msg;

	switch (which) {
	case SAMPLE_HELLO:
		msg = common(MSG_HELLO, false, OPTD_OK);
		fill_hello(&msg);
		return msg;
	case SAMPLE_WELCOME:
		msg = common(MSG_HELLO, true, OPTD_OK);
		fill_welcome(&msg);
		return msg;
	case SAMPLE_OPEN:
		msg = common(MSG_OPEN, false, OPTD_OK);
		fill_open(&msg);
		add_payload(&msg, records, sizeof(records) - 1);
		return msg;
	case SAMPLE_OPENED:
		msg = common(MSG_OPEN, true, OPTD_OK);
		fill_opened(&msg);
		return msg;
	default:
		msg = common(MSG_OPEN, true, OPTD_RANK_HELD);
		msg.text = text("rank 0 of model 'fashion' is held by rechner-ä:4711");
		return msg;
	}
}

static struct msg make_first_weights(enum sample which)
{
	struct msg msg = common(MSG_INIT, false, OPTD_OK);

	msg.token = 7;
	if (which == SAMPLE_INIT) {
		add_blocks(&msg, 0, 2);
		add_payload(&msg, elements, sizeof(elements));
	}
	return msg;
}

static struct msg make_step(enum sample which)
{
	struct msg msg;

	switch (which) {
	case SAMPLE_PUSH:
	case SAMPLE_PUSH_BF16:
		msg = common(MSG_PUSH, false, OPTD_OK);
		msg.dtype = which == SAMPLE_PUSH ? DTYPE_F32 : DTYPE_BF16;
		msg.weight = 128;
		msg.base_version = 9379;
		msg.loss_scale = 0.75;
		add_blocks(&msg, 2, 3);
		add_masked(&msg, 5, mask_low, sizeof(mask_low));
		add_masked(&msg, 9, mask_high, sizeof(mask_high));
		add_payload(&msg, elements, sizeof(elements));
		return msg;
	case SAMPLE_PUSH_FOLDED:
		return common(MSG_PUSH, true, OPTD_FOLDED);
	case SAMPLE_PUSH_OK:
		msg = common(MSG_PUSH, true, OPTD_OK);
		msg.version = 9381;
		msg.version_max = 9382;
		msg.skipped_rank_plus_one = 3;
		msg.skipped_tensor_plus_one = 12;
		msg.zeroed = 9;
		msg.next_loss_scale = 32768;
		return msg;
	case SAMPLE_PUSH_PULL:
	case SAMPLE_PUSH_PULL_F16:
	case SAMPLE_PUSH_PULL_OK:
		msg = common(MSG_PUSH_PULL, which == SAMPLE_PUSH_PULL_OK, OPTD_OK);
		msg.version_max = msg.version = which == SAMPLE_PUSH_PULL_OK ? 9381 : 0;
		msg.dtype = which == SAMPLE_PUSH_PULL_F16 ? DTYPE_F16 : DTYPE_F32;
		add_blocks(&msg, 0, 1);
		add_payload(&msg, elements, sizeof(elements));
		return msg;
	case SAMPLE_WAITING:
		msg = common(MSG_PUSH_PULL, true, OPTD_WAITING);
		msg.text = text("waiting for 1 of 2 workers: rank 1");
		return msg;
	default:
		msg = common(MSG_CLOSE_STEP, false, OPTD_OK);
		msg.verdict = MSG_POISONED;
		msg.poison_tensor_plus_one = LIMIT_TENSORS;
		add_blocks(&msg, 0, 2);
		add_blocks(&msg, 4000000, 100);
		return msg;
	}
}

static struct msg make_pull(enum sample which)
{
	struct msg msg = common(MSG_PULL, which == SAMPLE_PULL_OK, OPTD_OK);

	add_blocks(&msg, 7, 1);
	msg.source = MSG_AVERAGE;
	if (which == SAMPLE_PULL) {
		msg.rank = MSG_NO_RANK;
		msg.min_version = 12;
	} else {
		msg.version = 12;
		msg.version_max = 14;
		add_payload(&msg, elements, sizeof(elements));
	}
	return msg;
}

static struct msg make_admin(enum sample which)
{
	struct msg msg;

	switch (which) {
	case SAMPLE_STATUS:
		return common(MSG_STATUS, false, OPTD_OK);
	case SAMPLE_STATUS_OK:
		msg = common(MSG_STATUS, true, OPTD_OK);
		msg.lane_status = (struct msg_lane_status){1, 2, 3, 4, 5, 6, 7, UINT64_MAX};
		add_payload(&msg, records, sizeof(records) - 1);
		return msg;
	case SAMPLE_SAVE:
		return common(MSG_SAVE, false, OPTD_OK);
	case SAMPLE_SAVE_OK:
		return common(MSG_SAVE, true, OPTD_OK);
	case SAMPLE_DROP:
		msg = common(MSG_DROP, false, OPTD_OK);
		msg.named.model = text("fashion");
		return msg;
	default:
		return common(MSG_GOODBYE, false, OPTD_OK);
	}
}

static struct msg make_set(enum sample which)
{
	struct msg msg = common(MSG_SET, which == SAMPLE_SET_OK, OPTD_OK);

	if (which == SAMPLE_SET_OK) {
		msg.version = 9381;
		msg.version_max = 9382;
		return msg;
	}
	msg.set = (struct msg_set){.model = text("fashion"),
	                           .tensors = text("*.bias"),
	                           .id = UINT64_C(0xfedcba9876543211),
	                           .act = MSG_SET_PROMISE,
	                           .has_from = true,
	                           .from = 9400,
	                           .hyper_count = 2,
	                           .hypers = {{text("lr"), {0.01}, 1}, {text("betas"), {0.9, 0.99}, 2}}};
	return msg;
}

static struct msg make_norm(enum sample which)
{
	static const double numbers[] = {0.25, 1e300, 0, 7};
	struct msg msg = common(MSG_NORM, which == SAMPLE_NORM_OK, OPTD_OK);

	msg.step = 41;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 3, .count = 2};
	if (which != SAMPLE_NORM) {
		msg.payload = numbers;
		msg.payload_bytes = sizeof(numbers);
	}
	return msg;
}

struct msg sample_make(enum sample which)
{
	if (which <= SAMPLE_OPEN_REFUSED)
		return make_session(which);
	if (which <= SAMPLE_INIT_DONE)
		return make_first_weights(which);
	if (which == SAMPLE_PULL || which == SAMPLE_PULL_OK)
		return make_pull(which);
	if (which <= SAMPLE_CLOSE_STEP)
		return make_step(which);
	if (which >= SAMPLE_NORM)
		return make_norm(which);
	return which >= SAMPLE_SET ? make_set(which) : make_admin(which);
}
