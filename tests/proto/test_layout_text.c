/* Layouts in words: shapes, the first difference, the nearest name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/layout.h"

static char why[256];

static struct layout *make(const char *name, uint64_t rows, uint32_t group)
{
	struct layout *layout = layout_new();

	assert_non_null(layout);
	assert_int_equal(layout_add(layout, "fc0.bias", 8, (uint64_t[]){64}, 1, 0), 0);
	assert_int_equal(layout_add(layout, name, strlen(name), (uint64_t[]){rows, 784}, 2, group), 0);
	return layout;
}

static void differ(struct layout *a, struct layout *b, const char *words)
{
	assert_int_equal(layout_compare(a, b, why, sizeof(why)), -1);
	assert_string_equal(why, words);
	layout_free(a);
	layout_free(b);
}

static void test_equal_layouts_compare_equal(void **state)
{
	(void)state;
	struct layout *a = make("fc1.weight", 128, 0), *b = make("fc1.weight", 128, 0);
	assert_int_equal(layout_compare(a, b, why, sizeof(why)), 0);
	layout_free(a);
	layout_free(b);
}

static void test_another_shape_is_told_with_both_shapes(void **state)
{
	(void)state;
	differ(make("fc1.weight", 128, 0), make("fc1.weight", 256, 0),
	       "tensor 'fc1.weight': here [128,784], the model has [256,784]");
}

static void test_another_name_is_told_with_both_names(void **state)
{
	(void)state;
	differ(make("fc1.weight", 128, 0), make("fc2.weight", 128, 0),
	       "tensor 1: here 'fc1.weight' [128,784], the model has 'fc2.weight' [128,784]");
}

static void test_another_group_is_told_with_both_groups(void **state)
{
	(void)state;
	differ(make("fc1.weight", 128, 0), make("fc1.weight", 128, 2),
	       "tensor 'fc1.weight': here in group 0, the model has it in group 2");
}

static void test_a_tensor_too_many_is_named(void **state)
{
	(void)state;
	struct layout *more = make("fc1.weight", 128, 0);
	assert_int_equal(layout_add(more, "extra", 5, NULL, 0, 0), 0);
	differ(more, make("fc1.weight", 128, 0),
	       "3 tensors here, the model has 2: tensor 'extra' [] is only here");
}

static void test_a_tensor_too_few_is_named(void **state)
{
	(void)state;
	struct layout *more = make("fc1.weight", 128, 0);
	assert_int_equal(layout_add(more, "extra", 5, NULL, 0, 0), 0);
	differ(make("fc1.weight", 128, 0), more,
	       "2 tensors here, the model has 3: tensor 'extra' [] is only in the model");
}

static void test_another_cut_is_told(void **state)
{
	(void)state;
	struct layout *a = make("fc1.weight", 2, 0), *b = make("fc1.weight", 2, 0);
	assert_int_equal(layout_cut(a, NULL), 0);
	assert_int_equal(layout_cut(b, (uint8_t[]){1, 0}), 0);
	differ(a, b, "the tensors are equal, but they are cut into 1 blocks here and into 2 in the "
	             "model: the optimizers differ");
}

static void test_words_are_cut_to_their_buffer(void **state)
{
	char small[12];

	(void)state;
	struct layout *a = make("fc1.weight", 128, 0), *b = make("fc1.weight", 256, 0);
	assert_int_equal(layout_compare(a, b, small, sizeof(small)), -1);
	assert_string_equal(small, "tensor 'fc1");
	layout_free(a);
	layout_free(b);
}

static void test_a_shape_of_16_large_dimensions_fits(void **state)
{
	char text[300];
	struct layout_tensor tensor = {.rank = LIMIT_TENSOR_RANK};

	(void)state;
	for (uint32_t i = 0; i < LIMIT_TENSOR_RANK; i++)
		tensor.shape[i] = LIMIT_ELEMENTS;
	layout_shape_text(&tensor, text, sizeof(text));
	assert_int_equal(strlen(text), 16 * 13 + 15 + 2);
}

static void test_the_nearest_name_is_offered(void **state)
{
	(void)state;
	struct layout *layout = make("fc1.weight", 1, 0);
	assert_int_equal(layout_add(layout, "fc1.weights2", 12, NULL, 0, 0), 0);
	assert_string_equal(layout_nearest(layout, "fc1.wieght"), "fc1.weight");
	assert_string_equal(layout_nearest(layout, "fc0.bais"), "fc0.bias");
	assert_string_equal(layout_nearest(layout, "fc1.weights3"), "fc1.weights2");
	assert_null(layout_nearest(layout, "conv7.kernel"));
	layout_free(layout);
}

static void test_an_empty_layout_has_no_nearest_name(void **state)
{
	(void)state;
	struct layout *layout = layout_new();
	assert_null(layout_nearest(layout, "w"));
	layout_free(layout);
}

static void test_a_very_long_name_has_no_nearest_one(void **state)
{
	static char name[5000];

	(void)state;
	struct layout *layout = make("fc1.weight", 1, 0);
	memset(name, 'x', sizeof(name) - 1);
	assert_null(layout_nearest(layout, name));
	layout_free(layout);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_equal_layouts_compare_equal),
	        cmocka_unit_test(test_another_shape_is_told_with_both_shapes),
	        cmocka_unit_test(test_another_name_is_told_with_both_names),
	        cmocka_unit_test(test_another_group_is_told_with_both_groups),
	        cmocka_unit_test(test_a_tensor_too_many_is_named),
	        cmocka_unit_test(test_a_tensor_too_few_is_named),
	        cmocka_unit_test(test_another_cut_is_told),
	        cmocka_unit_test(test_words_are_cut_to_their_buffer),
	        cmocka_unit_test(test_a_shape_of_16_large_dimensions_fits),
	        cmocka_unit_test(test_the_nearest_name_is_offered),
	        cmocka_unit_test(test_an_empty_layout_has_no_nearest_name),
	        cmocka_unit_test(test_a_very_long_name_has_no_nearest_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
