/* Buf: holders, and a pool that keeps memory warm within its bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/buf.h"

static void count_release(struct buf *buf)
{
	(*(int *)buf->data)++;
}

static void test_last_holder_releases(void **state)
{
	(void)state;
	int released = 0;
	struct buf buf = {.data = &released, .release = count_release};
	atomic_store(&buf.holders, 1);
	assert_ptr_equal(buf_hold(&buf), &buf);
	buf_drop(&buf);
	assert_int_equal(released, 0);
	buf_drop(&buf);
	assert_int_equal(released, 1);
	buf_drop(NULL);
}

static void test_buffer_has_the_bytes_asked_for(void **state)
{
	(void)state;
	static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 1 << 20, (2 << 20) + 1};
	struct buf_pool *pool = buf_pool_new(0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct buf *buf = buf_pool_take(pool, sizes[i]);
		assert_non_null(buf);
		assert_int_equal(buf->bytes, sizes[i]);
		assert_int_equal((uintptr_t)buf->data % 64, 0);
		memset(buf->data, 1, sizes[i]);
		buf_drop(buf);
	}
	buf_pool_free(pool);
}

static void test_a_new_buffer_takes_little_more_than_its_bytes(void **state)
{
	(void)state;
	static const size_t sizes[] = {0, 1, 4097};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct buf *buf = buf_new(sizes[i]);
		assert_non_null(buf);
		assert_int_equal(buf->bytes, sizes[i]);
		assert_in_range(buf->room, sizes[i], sizes[i] + 64);
		memset(buf->data, 1, sizes[i]);
		buf_drop(buf);
	}
	assert_null(buf_new(SIZE_MAX));
}

static void test_released_buffer_is_given_again(void **state)
{
	(void)state;
	struct buf_pool *pool = buf_pool_new(1 << 20);
	struct buf *first = buf_pool_take(pool, 5000);
	void *data = first->data;
	buf_drop(first);
	struct buf *second = buf_pool_take(pool, 8000); /* of the same class */
	assert_ptr_equal(second->data, data);
	assert_int_equal(second->bytes, 8000);
	buf_drop(second);
	buf_pool_free(pool);
}

static void test_pool_keeps_no_more_than_its_bound(void **state)
{
	(void)state;
	struct buf_pool *pool = buf_pool_new(8192);
	struct buf *bufs[3];
	void *data[3];
	int again = 0;
	for (int i = 0; i < 3; i++) {
		bufs[i] = buf_pool_take(pool, 4096);
		data[i] = bufs[i]->data;
	}
	for (int i = 0; i < 3; i++)
		buf_drop(bufs[i]);
	/* Two are kept, most recent first; the third went over the bound. */
	for (int i = 0; i < 2; i++) {
		bufs[i] = buf_pool_take(pool, 4096);
		again += bufs[i]->data == data[0] || bufs[i]->data == data[1];
	}
	assert_int_equal(again, 2);
	for (int i = 0; i < 2; i++)
		buf_drop(bufs[i]);
	buf_pool_free(pool);
}

static void test_absurd_size_is_refused(void **state)
{
	(void)state;
	struct buf_pool *pool = buf_pool_new(0);
	assert_null(buf_pool_take(pool, SIZE_MAX / 2));
	assert_null(buf_pool_take(pool, SIZE_MAX));
	buf_pool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_last_holder_releases),
	        cmocka_unit_test(test_buffer_has_the_bytes_asked_for),
	        cmocka_unit_test(test_a_new_buffer_takes_little_more_than_its_bytes),
	        cmocka_unit_test(test_released_buffer_is_given_again),
	        cmocka_unit_test(test_pool_keeps_no_more_than_its_bound),
	        cmocka_unit_test(test_absurd_size_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
