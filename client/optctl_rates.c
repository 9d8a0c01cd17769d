/*
 * optctl status: the learning rates of a model's next update, for people in one line and
 * for programs as numbers.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "client/optctl.h"

json_t *optctl_rates(const optd_status_row *row)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < row->rate_count; i++) {
		json_t *rate = json_object();
		double lr = row->rates[i].lr;
		json_object_set_new(rate, "group", json_string(row->rates[i].tensors));
		/* JSON has no other numbers than finite ones. */
		json_object_set_new(rate, "lr", isfinite(lr) ? json_real(lr) : json_null());
		json_array_append_new(list, rate);
	}
	return list;
}

void optctl_print_rates(json_t *rates)
{
	for (size_t i = 0; i < json_array_size(rates); i++) {
		json_t *rate = json_array_get(rates, i), *lr = json_object_get(rate, "lr");
		const char *group = json_string_value(json_object_get(rate, "group"));
		fputs(i == 0 ? "  learning rate " : "; ", stdout);
		if (group && *group) {
			printf("'");
			optctl_text(stdout, group);
			printf("' ");
		}
		if (json_is_null(lr))
			printf("not finite");
		else
			printf("%.6g", json_real_value(lr));
	}
	if (json_array_size(rates) > 0)
		printf("\n");
}
