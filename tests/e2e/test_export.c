/*
 * optctl export against a daemon of two lanes: what is in the file, and what is left
 * where it cannot be written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/limits.h"
#include "proto/safetensors.h"
#include "tests/e2e/speak.h"
#include "tests/e2e/team.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"
#include "tests/support/optctl_process.h"

#define LANES 2
#define STEPS 5
#define WIDE (2 * (uint64_t)LIMIT_BLOCK_ELEMENTS)
#define WITNESS "tests/disk/read_safetensors.py"

static const struct plan alone = { .optimizer = "adam", .workers = 1, .mode = OPTD_SYNC };
static const struct plan pair = { .optimizer = "adam", .workers = 2, .mode = OPTD_SYNC };
static const struct plan loose = { .optimizer = "sgd", .workers = 1, .mode = OPTD_ASYNC };

struct fixture {
	struct daemon_process daemon;
	struct trainer trainer;
	struct team team;
	char folder[96], path[128]; /* the file's, which nothing else is in */
	char out[4096];             /* of optctl */
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	daemon_start_tcp(&fixture->daemon, LANES);
	snprintf(fixture->folder, sizeof(fixture->folder), "%s/out", fixture->daemon.directory);
	snprintf(fixture->path, sizeof(fixture->path), "%s/m.safetensors", fixture->folder);
	assert_int_equal(mkdir(fixture->folder, 0700), 0);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	trainer_close(&fixture->trainer);
	daemon_deinit(&fixture->daemon);
	team_join(&fixture->team);
	team_free_weights(&fixture->team);
	free(fixture);
	return 0;
}

static void train(struct fixture *fixture, const struct plan *plan, uint64_t steps)
{
	assert_int_equal(trainer_open(&fixture->trainer, fixture->daemon.endpoints[0], plan, 0), OPTD_OK);
	trainer_run(&fixture->trainer, steps);
}

static int export_under(struct fixture *fixture, const char *before, const char *path)
{
	return optctl_run_under(before, fixture->out, sizeof(fixture->out), "-s %s export m %s",
	                        fixture->daemon.endpoints[0], path);
}

static void export(struct fixture *fixture)
{
	if (export_under(fixture, "", fixture->path) != 0)
		fail_msg("%s", fixture->out);
}

static void assert_out_has(const struct fixture *fixture, const char *text)
{
	if (strstr(fixture->out, text) == NULL)
		fail_msg("\"%s\" is not in: %s", text, fixture->out);
}

/* Files beginning so. */
static size_t files(const char *beginning)
{
	char pattern[256];
	glob_t found;

	snprintf(pattern, sizeof(pattern), "%s*", beginning);
	size_t count = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
	globfree(&found);
	return count;
}

/* ---- reading what was written ------------------------------------------- */

struct exported {
	char *bytes;
	size_t size;
	struct safetensors *head;
	const float *weights;
};

static char *slurp(const char *path, size_t *size)
{
	struct stat about;
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	assert_int_equal(fstat(fileno(file), &about), 0);
	*size = (size_t)about.st_size;
	char *bytes = malloc(*size + 1);
	assert_non_null(bytes);
	assert_int_equal(fread(bytes, 1, *size, file), *size);
	fclose(file);
	return bytes;
}

static void exported_open(struct exported *file, const char *path, uint64_t elements)
{
	uint64_t text = 0;
	char why[256] = "";

	file->bytes = slurp(path, &file->size);
	assert_true(file->size > 8);
	assert_int_equal(safetensors_text_bytes(file->bytes, file->size, LIMIT_SAFETENSORS_HEADER, &text,
	                                        why, sizeof(why)), 0);
	if (safetensors_decode(file->bytes + 8, text, file->size - 8 - text, 64, 64, &file->head, why,
	                       sizeof(why)) < 0)
		fail_msg("%s", why);
	file->weights = (const float *)(const void *)(file->bytes + 8 + text);
	assert_int_equal(file->size - 8 - text, elements * sizeof(float));
}

static void exported_close(struct exported *file)
{
	safetensors_free(file->head);
	free(file->bytes);
}

static void assert_metadata(const struct exported *file, const char *key, const char *value)
{
	const char *has = safetensors_metadata(file->head, key);

	if (value == NULL)
		assert_null(has);
	else
		assert_string_equal(has != NULL ? has : "(nothing)", value);
}

/* ---- what is in it ------------------------------------------------------- */

static void test_a_sync_models_file_has_its_weights_and_says_which(void **state)
{
	struct fixture *fixture = *state;
	struct exported file;

	train(fixture, &alone, STEPS);
	export(fixture);
	assert_out_has(fixture, "8 tensors");
	assert_out_has(fixture, "step 5\n");
	exported_open(&file, fixture->path, trainer_elements());
	assert_memory_equal(file.weights, fixture->trainer.weights, trainer_elements() * sizeof(float));
	assert_metadata(&file, "format", "pt");
	assert_metadata(&file, "optd.model", "m");
	assert_metadata(&file, "optd.step", "5");
	assert_metadata(&file, "optd.torn", NULL);
	assert_metadata(&file, "optd.step_max", NULL);
	exported_close(&file);
}

static void test_tensors_have_their_names_and_shapes(void **state)
{
	struct fixture *fixture = *state;
	struct exported file;

	train(fixture, &alone, 1);
	export(fixture);
	exported_open(&file, fixture->path, trainer_elements());
	assert_int_equal(safetensors_count(file.head), 8);
	const struct safetensors_tensor *tensor = safetensors_find(file.head, "fc.weight");
	assert_non_null(tensor);
	assert_int_equal(tensor->dtype, SAFETENSORS_F32);
	assert_int_equal(tensor->rank, 3);
	assert_memory_equal(tensor->shape, ((const uint64_t[]){ 3, 100, 257 }), 24);
	assert_int_equal(safetensors_find(file.head, "scale")->rank, 0);
	exported_close(&file);
}

/* Two workers and two lanes: without asking for one version, blocks would be of several. */
static void test_a_file_made_during_training_is_of_one_step(void **state)
{
	struct fixture *fixture = *state;
	struct exported file;

	team_start(&fixture->team, fixture->daemon.endpoints[0], &pair, 1000000);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->daemon.endpoints[0], &pair, -1), OPTD_OK);
	assert_int_equal(optd_pull(fixture->trainer.model, fixture->trainer.weights, 3), OPTD_OK);
	for (int i = 0; i < 3; i++) {
		export(fixture);
		exported_open(&file, fixture->path, trainer_elements());
		assert_metadata(&file, "optd.torn", NULL);
		uint64_t step = strtoull(safetensors_metadata(file.head, "optd.step"), NULL, 10);
		assert_in_range(step, 3, 1000000);
		trainer_assert_exact(file.weights, &pair, step);
		exported_close(&file);
	}
	/* Ends the team, while there is a daemon to tell it so. */
	assert_int_equal(optd_drop(fixture->trainer.client, "m"), OPTD_OK);
	team_join(&fixture->team);
}

static void test_equal_weights_give_equal_files(void **state)
{
	struct fixture *fixture = *state;
	size_t first_size, size;

	train(fixture, &alone, STEPS);
	export(fixture);
	char *first = slurp(fixture->path, &first_size);
	export(fixture);
	char *second = slurp(fixture->path, &size);
	assert_int_equal(size, first_size);
	assert_memory_equal(second, first, size);
	free(first);
	free(second);
}

/* Model "m" of two blocks, one on each lane, async, with zeros for weights. */
static void make_wide_model(const struct fixture *fixture)
{
	const optd_options options = { .rank = 0, .timeout_ms = DAEMON_DEADLINE_MS };
	const optd_open_options open_options = { .optimizer = "sgd", .mode = OPTD_ASYNC };
	optd_layout *layout = optd_layout_new();
	optd_client *client;
	optd_model *model;
	float *weights = calloc(WIDE, sizeof(float));

	assert_int_equal(optd_layout_add(layout, "w", (const uint64_t[]){ WIDE }, 1), 0);
	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], &options, &client), OPTD_OK);
	assert_int_equal(optd_open(client, "m", layout, &open_options, &model), OPTD_OK);
	assert_int_equal(optd_init(model, weights), 1);
	optd_layout_free(layout);
	optd_close(&client);
	free(weights);
}

/* A push of the first lane's block alone, which the library would not make. */
static void push_first_block(const struct fixture *fixture)
{
	struct speaker speaker;
	float *gradient = calloc(LIMIT_BLOCK_ELEMENTS, sizeof(float));

	speak_hello(&speaker, fixture->daemon.endpoints[0]);
	assert_int_equal(speak_open(&speaker, "m", (const uint64_t[]){ WIDE }, 1, 0, 0), OPTD_OK);
	struct msg push = speak_push(&speaker, gradient, LIMIT_BLOCK_BYTES);
	push.incarnation = 2;
	assert_int_equal(speak_ask(&speaker, &push), OPTD_OK);
	speak_close(&speaker);
	free(gradient);
}

static void test_an_async_models_file_says_that_it_is_torn(void **state)
{
	struct fixture *fixture = *state;
	struct exported file;

	make_wide_model(fixture);
	push_first_block(fixture);
	export(fixture);
	assert_out_has(fixture, "steps 0 to 1 (async: blocks of several versions; the file says torn)");
	exported_open(&file, fixture->path, WIDE);
	assert_metadata(&file, "optd.torn", "true");
	assert_metadata(&file, "optd.step", "0");
	assert_metadata(&file, "optd.step_max", "1");
	exported_close(&file);
}

static void test_an_async_model_of_one_version_is_not_called_torn(void **state)
{
	struct fixture *fixture = *state;
	struct exported file;

	train(fixture, &loose, STEPS);
	export(fixture);
	exported_open(&file, fixture->path, trainer_elements());
	assert_metadata(&file, "optd.step", "5");
	assert_metadata(&file, "optd.torn", NULL);
	exported_close(&file);
}

/* Another program's idea of the format, tensor by tensor. */
static void test_an_independent_reader_sees_the_same_bits(void **state)
{
	struct fixture *fixture = *state;
	char command[256];

	if (access("/usr/bin/python3", X_OK) != 0 || access(WITNESS, R_OK) != 0) {
		print_message("# no /usr/bin/python3 or no " WITNESS "\n");
		skip();
	}
	train(fixture, &alone, STEPS);
	export(fixture);
	const unsigned char *at = (const unsigned char *)fixture->trainer.weights;
	snprintf(command, sizeof(command), "/usr/bin/python3 " WITNESS " %s", fixture->path);
	FILE *pipe = popen(command, "r");
	assert_non_null(pipe);
	char *line = NULL;
	size_t room = 0;
	while (getline(&line, &room, pipe) > 0) {
		assert_memory_equal(line, "F32 [", 5);
		const char *hex = strrchr(line, ' ') + 1;
		for (; *hex != '\n'; hex += 2, at++) {
			const char byte[] = { hex[0], hex[1], '\0' };
			assert_int_equal(strtoul(byte, NULL, 16), *at);
		}
	}
	free(line);
	assert_int_equal(pclose(pipe), 0);
	assert_ptr_equal(at, fixture->trainer.weights + trainer_elements());
}

/* ---- where it cannot be written ------------------------------------------ */

static void test_a_file_that_is_there_is_replaced_by_the_whole_new_one(void **state)
{
	struct fixture *fixture = *state;
	struct exported file;

	FILE *old = fopen(fixture->path, "w");
	fputs("old", old);
	fclose(old);
	train(fixture, &alone, STEPS);
	export(fixture);
	exported_open(&file, fixture->path, trainer_elements());
	assert_metadata(&file, "optd.step", "5");
	exported_close(&file);
	assert_int_equal(files(fixture->path), 1);
}

/* The limit on a file's size stands for a disk that becomes full in the middle. */
static void test_a_full_disk_leaves_the_old_file_and_nothing_half_written(void **state)
{
	struct fixture *fixture = *state;
	size_t size;

	train(fixture, &alone, 1);
	FILE *old = fopen(fixture->path, "w");
	fputs("old", old);
	fclose(old);
	assert_int_equal(export_under(fixture, "trap '' XFSZ; ulimit -f 64; ", fixture->path), 1);
	assert_out_has(fixture, fixture->path);
	assert_out_has(fixture, "File too large");
	assert_int_equal(files(fixture->path), 1);
	char *kept = slurp(fixture->path, &size);
	assert_int_equal(size, 3);
	assert_memory_equal(kept, "old", 3);
	free(kept);
}

static void test_a_folder_that_is_not_there_is_named(void **state)
{
	struct fixture *fixture = *state;
	char path[192];

	train(fixture, &alone, 1);
	snprintf(path, sizeof(path), "%s/none/m.safetensors", fixture->folder);
	assert_int_equal(export_under(fixture, "", path), 1);
	assert_out_has(fixture, path);
	assert_out_has(fixture, "No such file or directory");
}

/* The last step, giving it its name, fails. */
static void test_a_folder_in_its_place_leaves_nothing_beside_it(void **state)
{
	struct fixture *fixture = *state;

	train(fixture, &alone, 1);
	assert_int_equal(export_under(fixture, "", fixture->folder), 1);
	assert_out_has(fixture, "Is a directory");
	assert_int_equal(files(fixture->folder), 1);
}

static void test_a_model_that_is_not_there_makes_no_file(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(export_under(fixture, "", fixture->path), 1);
	assert_out_has(fixture, "'m'");
	assert_int_equal(files(fixture->path), 0);
}

static void test_a_model_without_weights_makes_no_file(void **state)
{
	struct fixture *fixture = *state;
	const optd_options options = { .rank = 0, .timeout_ms = DAEMON_DEADLINE_MS };
	const optd_open_options open_options = trainer_options(&alone);
	optd_client *client;
	optd_model *model;
	optd_layout *layout = trainer_layout();

	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], &options, &client), OPTD_OK);
	assert_int_equal(optd_open(client, "m", layout, &open_options, &model), OPTD_OK);
	assert_int_equal(export_under(fixture, "", fixture->path), 1);
	assert_out_has(fixture, "model 'm' has no weights yet");
	assert_int_equal(files(fixture->path), 0);
	optd_layout_free(layout);
	optd_close(&client);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_sync_models_file_has_its_weights_and_says_which),
		TEST(test_tensors_have_their_names_and_shapes),
		TEST(test_a_file_made_during_training_is_of_one_step),
		TEST(test_equal_weights_give_equal_files),
		TEST(test_an_async_models_file_says_that_it_is_torn),
		TEST(test_an_async_model_of_one_version_is_not_called_torn),
		TEST(test_an_independent_reader_sees_the_same_bits),
		TEST(test_a_file_that_is_there_is_replaced_by_the_whole_new_one),
		TEST(test_a_full_disk_leaves_the_old_file_and_nothing_half_written),
		TEST(test_a_folder_that_is_not_there_is_named),
		TEST(test_a_folder_in_its_place_leaves_nothing_beside_it),
		TEST(test_a_model_that_is_not_there_makes_no_file),
		TEST(test_a_model_without_weights_makes_no_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
