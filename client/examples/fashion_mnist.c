/*
 * Fashion-MNIST: trains a classifier as one of several workers.
 *
 * Every worker computes gradients on its own part of the 60,000 images and
 * gives them to the daemon, which averages them, runs the optimizer, and hands
 * back the weights.  Which images a worker takes in a step is a function of the
 * seed, its rank and the step, so a worker that comes back, or a run that is
 * gone on with after a restart, does just what the first one would have done.
 *
 * Rank 0 shows progress and measures accuracy on the 10,000 test images.
 */
#include <cblas.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/examples/arguments.h"
#include "client/examples/dataset.h"
#include "client/examples/mlp.h"
#include "client/optd.h"

#define CLASSES 10
#define TEST_ROWS 500

struct training {
	struct arguments arguments;
	struct dataset train, test;
	struct mlp mlp;
	optd_client *client;
	optd_model *model;
	float *weights, *gradient;
	float *images; /* [batch][pixels]: the step's rows, gathered */
	uint8_t *labels;
	uint32_t *order; /* the epoch's order of this worker's images */
	uint32_t mine;   /* how many it has */
	uint64_t epoch_of_order;
	uint32_t steps_per_epoch;
	bool terminal;
	double loss_sum;
	uint32_t loss_count;
	double began_s;
	uint64_t began_step;
};

static double now_s(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static int complain(const struct training *t, const char *what)
{
	fprintf(stderr, "fashion_mnist: rank %d: %s: %s\n", t->arguments.rank, what, optd_error(t->client));
	return -1;
}

static void on_notice(void *user, const char *text)
{
	const struct training *t = user;
	fprintf(stderr, "%sfashion_mnist: rank %d: %s\n", t->terminal ? "\r\033[K" : "", t->arguments.rank,
	        text);
}

/* ---- data --------------------------------------------------------------- */

/* This worker's images are those whose number leaves its rank; each epoch has
 * an order of its own. */
static void shuffle(struct training *t, uint64_t epoch)
{
	uint64_t state = t->arguments.seed * UINT64_C(1000003) + epoch * 4099 +
	                 (uint64_t)t->arguments.rank;
	for (uint32_t i = 0; i < t->mine; i++)
		t->order[i] = i * t->arguments.workers + (uint32_t)t->arguments.rank;
	for (uint32_t i = t->mine - 1; i > 0; i--) {
		uint32_t j = (uint32_t)(draw(&state) % (i + 1));
		uint32_t swap = t->order[i];
		t->order[i] = t->order[j];
		t->order[j] = swap;
	}
	t->epoch_of_order = epoch;
}

static void gather(struct training *t, uint64_t step)
{
	uint64_t epoch = step / t->steps_per_epoch;
	uint32_t first = (uint32_t)(step % t->steps_per_epoch) * t->arguments.batch;

	if (epoch != t->epoch_of_order)
		shuffle(t, epoch);
	for (uint32_t i = 0; i < t->arguments.batch; i++) {
		uint32_t image = t->order[first + i];
		memcpy(t->images + (size_t)i * t->train.pixels,
		       t->train.images + (size_t)image * t->train.pixels, t->train.pixels * sizeof(float));
		t->labels[i] = t->train.labels[image];
	}
}

static int prepare(struct training *t)
{
	struct arguments *a = &t->arguments;

	if (dataset_read(&t->train, a->data, "train") < 0 || dataset_read(&t->test, a->data, "t10k") < 0)
		return -1;
	uint32_t sizes[] = {t->train.pixels, a->hidden, CLASSES};
	t->mine = (t->train.count - (uint32_t)a->rank + a->workers - 1) / a->workers;
	/* All workers take as many steps, however the images divide. */
	t->steps_per_epoch = t->train.count / a->workers / a->batch;
	t->order = calloc(t->mine, sizeof(*t->order));
	t->images = calloc((size_t)a->batch * t->train.pixels, sizeof(float));
	t->labels = calloc(a->batch, 1);
	if (t->steps_per_epoch == 0) {
		fprintf(stderr, "fashion_mnist: %u images are too few for %u workers with batches of %u\n",
		        t->train.count, a->workers, a->batch);
		return -1;
	}
	if (t->order == NULL || t->images == NULL || t->labels == NULL ||
	    mlp_init(&t->mlp, sizes, 2, a->batch > TEST_ROWS ? a->batch : TEST_ROWS) < 0)
		return -1;
	t->weights = calloc(mlp_parameters(&t->mlp), sizeof(float));
	t->gradient = calloc(mlp_parameters(&t->mlp), sizeof(float));
	shuffle(t, 0);
	return t->weights != NULL && t->gradient != NULL ? 0 : -1;
}

/* ---- the daemon --------------------------------------------------------- */

static optd_layout *make_layout(const struct training *t)
{
	const struct mlp *mlp = &t->mlp;
	optd_layout *layout = optd_layout_new();

	for (uint32_t i = 0; layout != NULL && i < mlp->layers; i++) {
		char name[32];
		uint64_t weight[] = {mlp->sizes[i + 1], mlp->sizes[i]};
		uint64_t bias[] = {mlp->sizes[i + 1]};
		snprintf(name, sizeof(name), "fc%u.weight", i + 1);
		optd_layout_add(layout, name, weight, 2);
		snprintf(name, sizeof(name), "fc%u.bias", i + 1);
		optd_layout_add(layout, name, bias, 1);
	}
	return layout;
}

/* Opens the model, sees that it has weights, and pulls them; *step is where to go on. */
static int join(struct training *t, uint64_t *step)
{
	const struct arguments *a = &t->arguments;
	optd_options options = {.rank = a->rank,
	                        .timeout_ms = a->timeout_s * 1000,
	                        .notice = on_notice,
	                        .user = t};
	optd_model_info info;

	if (optd_connect(a->server, &options, &t->client) < 0)
		return complain(t, "cannot connect");
	optd_layout *layout = make_layout(t);
	int rc = optd_open(t->client, a->model, layout, &a->open, &t->model);
	optd_layout_free(layout);
	if (rc < 0)
		return complain(t, "cannot open the model");
	mlp_start(&t->mlp, t->weights, a->seed);
	if (optd_init(t->model, t->weights) < 0 || optd_pull(t->model, t->weights, 0) < 0)
		return complain(t, "cannot get the first weights");
	optd_model_get_info(t->model, &info);
	if (a->rank == 0 && !a->quiet)
		printf("model '%s': %llu parameters in %u tensors, %s, %s, %u worker%s\n", a->model,
		       (unsigned long long)info.elements, info.tensors, info.optimizer,
		       info.mode == OPTD_ASYNC ? "async" : "sync", info.workers, info.workers == 1 ? "" : "s");
	if (info.attached[0] != '\0')
		printf("rank %d: going on with a model that %s\n", a->rank, info.attached);
	else if (info.step > 0)
		printf("rank %d: going on at step %llu\n", a->rank, (unsigned long long)info.step);
	fflush(stdout);
	*step = info.step;
	return 0;
}

/* Whether a step only lacks another worker.  A timeout of ours may come before the
 * server's, or because nobody is there any more: a pull of what there is tells. */
static bool still_waits(struct training *t, int rc)
{
	if (rc != OPTD_STEP_TIMEOUT && rc != OPTD_TIMEOUT)
		return false;
	fprintf(stderr, "fashion_mnist: rank %d: %s\n", t->arguments.rank, optd_error(t->client));
	return rc == OPTD_STEP_TIMEOUT || optd_pull(t->model, t->weights, 0) == OPTD_OK;
}

/* Somebody's gradient was NaN or Inf: the weights are as they were, and training goes on. */
static void say_skipped(struct training *t)
{
	optd_step_outcome outcome;

	if (optd_last_step(t->model, &outcome) == OPTD_OK && t->arguments.rank == 0)
		fprintf(stderr, "fashion_mnist: step %llu was skipped: the gradient of rank %u is not finite (%s)\n",
		        (unsigned long long)outcome.step, outcome.rank, outcome.tensor);
}

/* One push_pull, seen through what may happen to a server. */
static int exchange(struct training *t, uint64_t *step)
{
	int rc = optd_push_pull(t->model, t->gradient, t->weights);

	while (still_waits(t, rc))
		rc = optd_push_pull(t->model, t->gradient, t->weights);
	if (rc >= OPTD_OK) {
		if (rc == OPTD_SKIPPED)
			say_skipped(t);
		++*step;
		return 0;
	}
	if (rc != OPTD_ROLLBACK)
		return complain(t, "step failed");
	fprintf(stderr, "fashion_mnist: rank %d: %s\n", t->arguments.rank, optd_error(t->client));
	if (optd_resume_model(t->model, step) < 0 || optd_pull(t->model, t->weights, 0) < 0)
		return complain(t, "cannot go on after a rollback");
	return 0;
}

/* ---- telling ------------------------------------------------------------ */

static double test_accuracy(struct training *t)
{
	uint32_t right = 0;
	for (uint32_t i = 0; i < t->test.count; i += TEST_ROWS) {
		uint32_t rows = t->test.count - i < TEST_ROWS ? t->test.count - i : TEST_ROWS;
		right += mlp_right(&t->mlp, t->weights, t->test.images + (size_t)i * t->test.pixels,
		                   t->test.labels + i, rows);
	}
	return 100.0 * right / t->test.count;
}

static double images_per_s(const struct training *t, uint64_t step)
{
	double seconds = now_s() - t->began_s;
	uint64_t images = (step - t->began_step) * t->arguments.batch * t->arguments.workers;
	return seconds > 0 ? (double)images / seconds : 0;
}

/* What a terminal of 80 columns leaves beside the numbers. */
#define BAR 16

static void show_bar(struct training *t, uint64_t step)
{
	char bar[BAR + 1];
	uint32_t at = (uint32_t)((step - 1) % t->steps_per_epoch) + 1;
	uint32_t filled = at * BAR / t->steps_per_epoch;

	if (!t->terminal || (at % 10 != 0 && at != t->steps_per_epoch))
		return;
	memset(bar, '.', BAR);
	memset(bar, '=', filled);
	bar[BAR] = '\0';
	printf("\repoch %llu/%u [%s] loss %.3f  %.0f images/s  step %llu\033[K",
	       (unsigned long long)((step - 1) / t->steps_per_epoch + 1), t->arguments.epochs, bar,
	       t->loss_count > 0 ? t->loss_sum / t->loss_count : 0, images_per_s(t, step),
	       (unsigned long long)step);
	fflush(stdout);
}

static void show_epoch(struct training *t, uint64_t step)
{
	if (t->arguments.rank != 0 || (step % t->steps_per_epoch != 0 && step != t->arguments.steps))
		return;
	double accuracy = test_accuracy(t);
	printf("%sepoch %llu/%u  loss %.4f  test accuracy %.2f %%  %.0f images/s  step %llu\n",
	       t->terminal ? "\r\033[K" : "", (unsigned long long)((step - 1) / t->steps_per_epoch + 1),
	       t->arguments.epochs, t->loss_count > 0 ? t->loss_sum / t->loss_count : 0, accuracy,
	       images_per_s(t, step), (unsigned long long)step);
	fflush(stdout);
	t->loss_sum = 0;
	t->loss_count = 0;
}

/* ---- training ----------------------------------------------------------- */

static int train(struct training *t)
{
	const struct arguments *a = &t->arguments;
	uint64_t step = 0;
	uint64_t last = a->steps > 0 ? a->steps : (uint64_t)a->epochs * t->steps_per_epoch;

	if (join(t, &step) < 0)
		return -1;
	if (step >= last && !a->quiet)
		printf("rank %d: the model is at step %llu of %llu already; raise --epochs, choose another "
		       "--model, or optctl drop %s\n",
		       a->rank, (unsigned long long)step, (unsigned long long)last, a->model);
	t->began_s = now_s();
	t->began_step = step;
	while (step < last) {
		uint64_t before = step;
		gather(t, step);
		t->loss_sum += mlp_gradient(&t->mlp, t->weights, t->images, t->labels, a->batch, t->gradient);
		t->loss_count++;
		if (exchange(t, &step) < 0)
			return -1;
		if (step == before + 1 && a->rank == 0 && !a->quiet) {
			show_bar(t, step);
			show_epoch(t, step);
		}
	}
	return 0;
}

static void finish(struct training *t)
{
	optd_close(&t->client);
	mlp_deinit(&t->mlp);
	dataset_free(&t->train);
	dataset_free(&t->test);
	free(t->weights);
	free(t->gradient);
	free(t->images);
	free(t->labels);
	free(t->order);
}

int main(int argc, char **argv)
{
	static struct training t;
	int code;

	if (!arguments_parse(argc, argv, &t.arguments, &code))
		return code;
	/* Workers share the machine's cores among them, not each all of them. */
	openblas_set_num_threads(1);
	t.terminal = isatty(STDOUT_FILENO) && t.arguments.rank == 0 && !t.arguments.quiet;
	code = prepare(&t) < 0 || train(&t) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	finish(&t);
	return code;
}
