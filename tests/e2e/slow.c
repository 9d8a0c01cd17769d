/* What speak says, in blocks. */
#include "tests/e2e/slow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "proto/wire.h"

static const float zeros[SLOW_BLOCKS * LIMIT_BLOCK_ELEMENTS];

void slow_join(struct speaker *speaker, const char *endpoint)
{
	const uint64_t shape[] = { SLOW_BLOCKS * LIMIT_BLOCK_ELEMENTS };

	speak_hello(speaker, endpoint);
	assert_int_equal(speak_open(speaker, SLOW_MODEL, shape, 1, 0, 1), OPTD_OK);
}

void slow_init(struct speaker *speaker)
{
	struct msg init = speak_request(speaker, MSG_INIT);

	init.rank = 0;
	init.token = speaker->token;
	init.part_count = 1;
	init.parts[0].count = SLOW_BLOCKS;
	init.payload = zeros;
	init.payload_bytes = sizeof(zeros);
	init.checksum = wire_checksum(zeros, sizeof(zeros));
	assert_int_equal(speak_ask(speaker, &init), OPTD_OK);
	/* One without blocks says that these were all. */
	init = speak_request(speaker, MSG_INIT);
	init.rank = 0;
	init.token = speaker->token;
	assert_int_equal(speak_ask(speaker, &init), OPTD_OK);
}

void slow_push(struct speaker *speaker, uint64_t step, uint32_t first, uint32_t count)
{
	struct msg push = speak_push(speaker, zeros, count * LIMIT_BLOCK_BYTES);

	push.step = push.base_version = step;
	push.parts[0].first = first;
	push.parts[0].count = count;
	assert_int_equal(speak_ask(speaker, &push), OPTD_OK);
}
