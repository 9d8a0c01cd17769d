/* What speak says, of a model of some blocks. */
#include "tests/e2e/blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "proto/wire.h"

static const float zeros[BLOCKS * LIMIT_BLOCK_ELEMENTS];

void blocks_init(struct speaker *speaker, uint32_t first, uint32_t count)
{
	struct msg init = speak_request(speaker, MSG_INIT);

	init.rank = 0;
	init.token = speaker->token;
	init.part_count = 1;
	init.parts[0].first = first;
	init.parts[0].count = count;
	init.payload = zeros;
	init.payload_bytes = count * LIMIT_BLOCK_BYTES;
	init.checksum = wire_checksum(zeros, init.payload_bytes);
	assert_int_equal(speak_ask(speaker, &init), OPTD_OK);
	/* One without blocks says that these were all. */
	init = speak_request(speaker, MSG_INIT);
	init.rank = 0;
	init.token = speaker->token;
	assert_int_equal(speak_ask(speaker, &init), OPTD_OK);
}

void blocks_join(struct speaker *speaker, const char *endpoint, const char *model)
{
	const uint64_t shape[] = { BLOCKS * LIMIT_BLOCK_ELEMENTS };

	speak_hello(speaker, endpoint);
	assert_int_equal(speak_open(speaker, model, shape, 1, 0, 0), OPTD_OK);
	if (speaker->token != 0)
		blocks_init(speaker, 0, BLOCKS);
}

void blocks_push(struct speaker *speaker, uint32_t block, uint64_t step)
{
	struct msg push = speak_push(speaker, zeros, LIMIT_BLOCK_BYTES);

	push.step = step;
	push.parts[0].first = block;
	assert_int_equal(speak_ask(speaker, &push), OPTD_OK);
}

struct msg blocks_named(struct speaker *speaker, enum msg_verb verb, const char *model)
{
	struct msg msg = speak_request(speaker, verb);

	msg.named.model = (struct msg_text){ model, (uint32_t)strlen(model) };
	return msg;
}

int blocks_ask(struct speaker *speaker, enum msg_verb verb, const char *model)
{
	struct msg msg = blocks_named(speaker, verb, model);

	return speak_ask(speaker, &msg);
}
