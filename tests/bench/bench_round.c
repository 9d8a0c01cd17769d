/*
 * Rounds of push and pull: optd beside the least that could do the same.
 *
 *     bench_round [--require RATIO] [--rounds N] [--warm-up N] [--elements N]
 *                 [--transport tcp|ipc|both] [--message KIB] [--window KIB] [--no-memory]
 *
 * A round is one optd_push_pull of a whole model with adam and one worker.  In
 * turn with it run the bare server (bare.h), the bare echo, and memcpy, each in
 * a process of its own, on tcp and on ipc; which begins moves on by one each
 * round.  The machine drifts, so a ratio is formed within a round; shown are
 * medians and ranges.  In the end optd's weights and the bare server's are the
 * same bits, or the two have not done the same work.
 *
 * After the rounds the daemon's resident memory is set against the formula, also
 * with two workers of which one is stopped.
 *
 * --message and --window are also what the daemon is told.
 * --require: exit status 1 when optd reaches less than this ratio of the bare
 * server on a transport, or the daemon is larger than the formula by 10 % and
 * 32 MiB.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/optd.h"
#include "proto/limits.h"
#include "server/base/mem.h"
#include "tests/bench/bare.h"
#include "tests/bench/measure.h"
#include "tests/bench/optd_process.h"
#include "tests/bench/stalled.h"

#define ROUNDS_MAX 1000
#define TRANSPORTS 2
#define MIB (1024.0 * 1024.0)
#define ADAM_VECTORS 3 /* weights and two slots */
#define STALLED_STEPS 5

enum contest { OPTD, BARE, ECHO, MEMCPY, CONTESTS };
static const char *const contest_names[] = { "optd", "bare server", "bare echo", "memcpy" };
static const char *const transport_names[TRANSPORTS] = { "tcp", "ipc" };

struct options {
	double require;
	size_t rounds, warm_up, elements, message_bytes, window_bytes;
	bool run[TRANSPORTS];
	bool memory;
};

/* All that runs on one transport. */
struct stage {
	struct optd_process daemon;
	optd_client *client;
	optd_model *model;
	float *optd_weights;
	pid_t servers[CONTESTS];
	char endpoints[CONTESTS][LIMIT_ENDPOINT_BYTES];
	struct bare_client *clients[CONTESTS];
	float *bare_weights;
	double seconds[CONTESTS][ROUNDS_MAX];
};

struct bench {
	struct options options;
	char directory[64]; /* sockets, the daemons' files */
	struct stage stages[TRANSPORTS];
	struct stalled stalled;
	float *gradient;
};

static float *new_floats(size_t n)
{
	float *floats = mem_new(n * sizeof(float));

	if (floats == NULL)
		die("no memory for %zu floats", n);
	memset(floats, 0, n * sizeof(float));
	return floats;
}

/* ---- setting up ---------------------------------------------------------- */

static void listen_at(const struct bench *bench, int transport, const char *name, char *out)
{
	if (transport == 0)
		snprintf(out, LIMIT_ENDPOINT_BYTES, "tcp://127.0.0.1:*");
	else
		snprintf(out, LIMIT_ENDPOINT_BYTES, "ipc://%s/%s", bench->directory, name);
}

static struct bare_plan plan_of(const struct options *options, enum contest contest)
{
	return (struct bare_plan){ .elements = options->elements,
		                   .message_elements = options->message_bytes / sizeof(float),
		                   .window_bytes = options->window_bytes,
		                   .echo = contest == ECHO };
}

/* Everything that forks, before anything makes threads. */
static void start_processes(struct bench *bench)
{
	char listen[LIMIT_ENDPOINT_BYTES];

	if (bench->options.memory)
		stalled_start(&bench->stalled, bench->options.elements);
	for (int t = 0; t < TRANSPORTS; t++) {
		struct stage *stage = &bench->stages[t];
		if (!bench->options.run[t])
			continue;
		for (enum contest c = BARE; c <= ECHO; c++) {
			struct bare_plan plan = plan_of(&bench->options, c);
			listen_at(bench, t, contest_names[c], listen);
			stage->servers[c] = bare_server_start(&plan, listen, stage->endpoints[c]);
		}
		listen_at(bench, t, "optd", listen);
		optd_process_start(&stage->daemon, listen, bench->directory,
		                   bench->options.window_bytes);
	}
}

static void open_model(struct stage *stage, size_t elements)
{
	const uint64_t shape[] = { elements };
	optd_options options = { .rank = 0 };
	optd_open_options open = { .optimizer = "adam", .workers = 1 };
	optd_layout *layout = optd_layout_new();

	if (optd_connect(stage->daemon.endpoint, &options, &stage->client) < 0)
		die("optd: %s", optd_error(NULL));
	optd_layout_add(layout, "w", shape, 1);
	if (optd_open(stage->client, "bench", layout, &open, &stage->model) < 0 ||
	    optd_init(stage->model, stage->optd_weights) < 0)
		die("optd: %s", optd_error(stage->client));
	optd_layout_free(layout);
}

static void open_clients(struct bench *bench)
{
	size_t n = bench->options.elements;
	uint32_t random = 1;

	bench->gradient = new_floats(n);
	for (size_t i = 0; i < n; i++) {
		random = random * 1664525u + 1013904223u;
		bench->gradient[i] = (float)(random >> 8) / 16777216.0f - 0.5f;
	}
	for (int t = 0; t < TRANSPORTS; t++) {
		struct stage *stage = &bench->stages[t];
		if (!bench->options.run[t])
			continue;
		stage->optd_weights = new_floats(n);
		stage->bare_weights = new_floats(n);
		for (size_t i = 0; i < n; i++)
			stage->optd_weights[i] = bare_first_weight(i);
		for (enum contest c = BARE; c <= ECHO; c++) {
			struct bare_plan plan = plan_of(&bench->options, c);
			stage->clients[c] = bare_client_open(&plan, stage->endpoints[c]);
		}
		open_model(stage, n);
	}
}

static void close_all(struct bench *bench)
{
	for (int t = 0; t < TRANSPORTS; t++) {
		struct stage *stage = &bench->stages[t];
		if (!bench->options.run[t])
			continue;
		optd_close(&stage->client);
		optd_process_stop(&stage->daemon);
		for (enum contest c = BARE; c <= ECHO; c++) {
			bare_client_close(stage->clients[c]);
			bare_server_stop(stage->servers[c]);
		}
	}
}

/* ---- rounds ------------------------------------------------------------- */

static double time_contest(struct bench *bench, struct stage *stage, enum contest contest)
{
	double began = measure_now();

	if (contest == OPTD) {
		if (optd_push_pull(stage->model, bench->gradient, stage->optd_weights) < 0)
			die("optd: %s", optd_error(stage->client));
	} else if (contest == MEMCPY) {
		/* The destination gets its weights back in the next bare round. */
		memcpy(stage->bare_weights, bench->gradient,
		       bench->options.elements * sizeof(float));
	} else {
		bare_client_round(stage->clients[contest], bench->gradient, stage->bare_weights);
	}
	return measure_now() - began;
}

static void run_rounds(struct bench *bench)
{
	size_t total = bench->options.warm_up + bench->options.rounds;

	for (size_t round = 0; round < total; round++) {
		for (size_t i = 0; i < (size_t)TRANSPORTS * CONTESTS; i++) {
			size_t turn = (round + i) % ((size_t)TRANSPORTS * CONTESTS);
			struct stage *stage = &bench->stages[turn % TRANSPORTS];
			enum contest contest = (enum contest)(turn / TRANSPORTS);
			if (!bench->options.run[turn % TRANSPORTS])
				continue;
			double seconds = time_contest(bench, stage, contest);
			if (round >= bench->options.warm_up)
				stage->seconds[contest][round - bench->options.warm_up] = seconds;
		}
	}
}

/* The memcpy of the last round stands in the way: ask once more. */
static void compare_weights(struct bench *bench, struct stage *stage)
{
	size_t bytes = bench->options.elements * sizeof(float);

	time_contest(bench, stage, OPTD);
	time_contest(bench, stage, BARE);
	if (memcmp(stage->optd_weights, stage->bare_weights, bytes) != 0)
		die("optd's weights and the bare server's differ: they have not done the same work");
}

/* ---- reporting ---------------------------------------------------------- */

/* Prints a transport's lines; returns the median ratio of optd to the bare server. */
static double report_stage(const struct options *options, const char *name, struct stage *stage)
{
	double ratios[ROUNDS_MAX];
	double bytes = 2.0 * (double)options->elements * sizeof(float);

	for (size_t i = 0; i < options->rounds; i++)
		ratios[i] = stage->seconds[BARE][i] / stage->seconds[OPTD][i];
	for (int c = 0; c < CONTESTS; c++) {
		struct spread s = measure_spread(stage->seconds[c], options->rounds);
		/* memcpy has one direction. */
		double moved = c == MEMCPY ? bytes / 2 : bytes;
		printf("%s   %-12s %8.1f   %7.1f (%.1f to %.1f) %10.2f\n", name, contest_names[c],
		       1 / s.median, s.median * 1e3, s.min * 1e3, s.max * 1e3,
		       moved / s.median / 1e9);
	}
	struct spread ratio = measure_spread(ratios, options->rounds);
	printf("%s   optd / bare server: %.2f (%.2f to %.2f)\n\n", name, ratio.median, ratio.min,
	       ratio.max);
	return ratio.median;
}

/* Whether a daemon is as large as the formula says. */
static bool report_memory(const struct options *options, const struct optd_process *daemon,
                          const char *what, uint32_t workers)
{
	double vectors = ADAM_VECTORS + (workers > 1); /* the accumulator */
	double model = vectors * (double)options->elements * sizeof(float) / MIB;
	double windows = workers * (double)options->window_bytes / MIB;
	double allowed = (model + windows) * 1.1 + 32;
	double now = (double)measure_status_kib(daemon->pid, "VmRSS") / 1024;
	double most = (double)measure_status_kib(daemon->pid, "VmHWM") / 1024;

	printf("%-38s %6.1f %6.1f   %.0f + %.0f = %.0f%16.0f   %s\n", what, now, most, model,
	       windows, model + windows, allowed, most <= allowed ? "within" : "TOO LARGE");
	return most <= allowed;
}

static bool report_stalled(struct bench *bench)
{
	struct optd_process daemon;
	float *weights = new_floats(bench->options.elements);
	char listen[LIMIT_ENDPOINT_BYTES];

	listen_at(bench, 0, "stalled", listen);
	optd_process_start(&daemon, listen, bench->directory, bench->options.window_bytes);
	stalled_run(&bench->stalled, daemon.endpoint, bench->options.elements, bench->gradient,
	            weights, STALLED_STEPS);
	bool fits = report_memory(&bench->options, &daemon, "optd, tcp, 2 workers, one stopped", 2);
	stalled_end(&bench->stalled);
	optd_process_stop(&daemon);
	mem_free(weights, bench->options.elements * sizeof(float));
	return fits;
}

static bool report(struct bench *bench)
{
	const struct options *options = &bench->options;
	bool good = true;

	printf("%zu parameters (%.0f MiB), adam, 1 worker; messages of %zu KiB, window %zu KiB; "
	       "%zu rounds\n\n",
	       options->elements, (double)options->elements * sizeof(float) / MIB,
	       options->message_bytes / 1024, options->window_bytes / 1024, options->rounds);
	printf("                   rounds/s   ms a round (range)   GB/s, both ways together\n");
	for (int t = 0; t < TRANSPORTS; t++) {
		if (options->run[t] && report_stage(options, transport_names[t],
		                                    &bench->stages[t]) < options->require) {
			printf("%s: below the required %.2f\n", transport_names[t],
			       options->require);
			good = false;
		}
	}
	if (!options->memory)
		return good;
	printf("resident memory, MiB                      now   most   formula         allowed\n");
	for (int t = 0; t < TRANSPORTS; t++) {
		char what[64];
		snprintf(what, sizeof(what), "optd, %s, 1 worker", transport_names[t]);
		if (options->run[t])
			good &= report_memory(options, &bench->stages[t].daemon, what, 1);
	}
	return good;
}

/* ---- the command line --------------------------------------------------- */

static size_t number(const char *name, const char *value, size_t least, size_t most)
{
	char *end;
	unsigned long long n = strtoull(value, &end, 10);

	if (*value < '0' || *value > '9' || *end != '\0' || n < least || n > most)
		die("%s %s: give a number from %zu to %zu", name, value, least, most);
	return (size_t)n;
}

static bool set_option(struct options *options, const char *name, const char *value)
{
	if (strcmp(name, "--require") == 0)
		options->require = atof(value);
	else if (strcmp(name, "--rounds") == 0)
		options->rounds = number(name, value, 1, ROUNDS_MAX);
	else if (strcmp(name, "--warm-up") == 0)
		options->warm_up = number(name, value, 0, ROUNDS_MAX);
	else if (strcmp(name, "--elements") == 0)
		options->elements = number(name, value, 1, (size_t)1 << 32);
	else if (strcmp(name, "--message") == 0)
		options->message_bytes = number(name, value, 4, (size_t)256 << 10) * 1024;
	else if (strcmp(name, "--window") == 0)
		options->window_bytes = number(name, value, 1024, (size_t)1 << 20) * 1024;
	else if (strcmp(name, "--transport") == 0)
		for (int t = 0; t < TRANSPORTS; t++)
			options->run[t] = strcmp(value, "both") == 0 ||
			                  strcmp(value, transport_names[t]) == 0;
	else
		return false;
	return true;
}

static void parse(struct options *options, int argc, char **argv)
{
	*options = (struct options){ .rounds = 31,
		                     .warm_up = 5,
		                     .elements = (size_t)16 << 20,
		                     .message_bytes = LIMIT_BLOCK_BYTES,
		                     .window_bytes = LIMIT_WINDOW_BYTES,
		                     .run = { true, true },
		                     .memory = true };
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--no-memory") == 0)
			options->memory = false;
		else if (i + 1 < argc && set_option(options, argv[i], argv[i + 1]))
			i++;
		else
			die("usage: bench_round [--require RATIO] [--rounds N] [--warm-up N]\n"
			    "       [--elements N] [--transport tcp|ipc|both] [--message KIB] "
			    "[--window KIB] [--no-memory]");
	}
}

int main(int argc, char **argv)
{
	static struct bench bench; /* too large for a small stack */

	parse(&bench.options, argc, argv);
	scratch_new(bench.directory);
	bare_keep_warm(false);
	start_processes(&bench);
	open_clients(&bench);
	run_rounds(&bench);
	for (int t = 0; t < TRANSPORTS; t++) {
		if (bench.options.run[t])
			compare_weights(&bench, &bench.stages[t]);
	}
	bool good = report(&bench);
	close_all(&bench);
	if (bench.options.memory)
		good &= report_stalled(&bench);
	scratch_remove(bench.directory);
	return good || bench.options.require == 0 ? 0 : 1;
}
