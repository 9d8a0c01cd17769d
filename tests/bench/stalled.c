/* Two workers in sync, of which rank 0 is stopped. */
#include "tests/bench/stalled.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/optd.h"
#include "proto/limits.h"
#include "server/base/mem.h"
#include "tests/bench/measure.h"

#define WORKERS 2
/* How long the one that goes on waits for the one that is stopped. */
#define PATIENCE_MS 2000

static optd_model *open_model(const char *endpoint, int rank, size_t elements, const float *weights,
                              optd_client **client)
{
	const uint64_t shape[] = { elements };
	optd_options options = { .rank = rank };
	optd_open_options open = { .optimizer = "adam", .workers = WORKERS };
	optd_layout *layout = optd_layout_new();
	optd_model *model = NULL;

	if (optd_connect(endpoint, &options, client) < 0)
		die("rank %d: %s", rank, optd_error(NULL));
	optd_layout_add(layout, "w", shape, 1);
	if (optd_open(*client, "bench", layout, &open, &model) < 0 || optd_init(model, weights) < 0)
		die("rank %d: %s", rank, optd_error(*client));
	optd_layout_free(layout);
	return model;
}

/* Until it is killed. */
static void work(int endpoint_fd, size_t elements)
{
	char endpoint[LIMIT_ENDPOINT_BYTES];
	optd_client *client;

	if (read(endpoint_fd, endpoint, sizeof(endpoint)) != sizeof(endpoint))
		_exit(0);
	float *vector = mem_new(elements * sizeof(float));
	if (vector == NULL)
		die("rank 0: no memory");
	optd_model *model = open_model(endpoint, 0, elements, vector, &client);
	/* What it pulls is what it pushes next: any numbers will do. */
	while (optd_push_pull(model, vector, vector) == OPTD_OK)
		continue;
	_exit(0);
}

void stalled_start(struct stalled *stalled, size_t elements)
{
	int ends[2];

	if (pipe(ends) != 0)
		die("cannot make a pipe");
	stalled->pid = fork();
	if (stalled->pid < 0)
		die("cannot fork");
	if (stalled->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[1]);
		work(ends[0], elements);
	}
	close(ends[0]);
	stalled->endpoint = ends[1];
}

void stalled_run(struct stalled *stalled, const char *endpoint, size_t elements,
                 const float *gradient, float *weights, int steps)
{
	char text[LIMIT_ENDPOINT_BYTES] = "";
	optd_client *client;

	strncpy(text, endpoint, sizeof(text) - 1);
	if (write(stalled->endpoint, text, sizeof(text)) != sizeof(text))
		die("rank 0 has gone");
	optd_model *model = open_model(endpoint, 1, elements, weights, &client);
	for (int i = 0; i < steps; i++) {
		if (optd_push_pull(model, gradient, weights) < 0)
			die("rank 1: %s", optd_error(client));
	}
	kill(stalled->pid, SIGSTOP);
	waitpid(stalled->pid, NULL, WUNTRACED);
	optd_set_timeout(client, PATIENCE_MS);
	/* The step that it was stopped in may still be completed by what it had sent. */
	while (optd_push_pull(model, gradient, weights) == OPTD_OK)
		continue;
	optd_close(&client);
}

void stalled_end(struct stalled *stalled)
{
	kill(stalled->pid, SIGKILL);
	waitpid(stalled->pid, NULL, 0);
	close(stalled->endpoint);
}
