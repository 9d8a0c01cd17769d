/*
 * The smallest worker there is: ten parameters that the server's adam moves
 * towards 0 to 9.  Needs a daemon at the default address.
 */
#include <stdio.h>

#include "client/optd.h"

int main(void)
{
	float w[10] = {0}, g[10];
	optd_client *client;
	optd_model *model;
	optd_layout *layout = optd_layout_new();
	optd_layout_add(layout, "w", (const uint64_t[]){10}, 1);
	if (optd_connect("tcp://127.0.0.1:16783", &(optd_options){.rank = 0}, &client) < 0)
		return fprintf(stderr, "%s\n", optd_error(NULL)), 1;
	int rc = optd_open(client, "guide", layout, &(optd_open_options){.optimizer = "adam"}, &model);
	if (rc == OPTD_OK && (rc = optd_init(model, w)) == 0)
		rc = optd_pull(model, w, 0); /* somebody was first: take theirs */
	for (int step = 0; rc >= 0 && step < 100; step++) {
		for (int i = 0; i < 10; i++)
			g[i] = 2 * (w[i] - (float)i); /* towards w[i] == i */
		rc = optd_push_pull(model, g, w);
	}
	if (rc < 0)
		fprintf(stderr, "%s: %s\n", optd_status_name(rc), optd_error(client));
	optd_layout_free(layout);
	optd_close(&client);
	return rc < 0;
}
