/*
 * optctl status: every lane reports its part of each model; here the parts are
 * put together, as a table for people or as JSON for programs.  What a lane has
 * counted is its own.
 */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/optctl.h"
#include "client/optctl_finite.h"

#define ROW_TEXTS 6

/* A lane's row with texts of its own. */
struct row {
	optd_status_row at;
	char *texts[ROW_TEXTS];
	json_t *changes, *rates;
};

struct rows {
	struct row *all;
	size_t count, room;
	const char *model; /* the only one that is kept; NULL: all are */
	struct optctl_likely likely;
	json_t *lanes;      /* of the servers that answered; as they are in the JSON */
	json_t *unanswered; /* endpoints of the others */
	int failed;
};

static void keep(void *user, const optd_status_row *from)
{
	struct rows *rows = user;
	if (rows->model && strcmp(rows->model, from->model) != 0) {
		optctl_likely_try(&rows->likely, from->model);
		return;
	}
	if (rows->count == rows->room) {
		size_t room = rows->room ? rows->room * 2 : 16;
		struct row *grown = realloc(rows->all, room * sizeof(*grown));
		if (!grown) {
			rows->failed = 1;
			return;
		}
		rows->all = grown;
		rows->room = room;
	}
	struct row *row = &rows->all[rows->count++];
	row->at = *from;
	row->at.endpoint = row->texts[0] = strdup(from->endpoint);
	row->at.model = row->texts[1] = strdup(from->model);
	row->at.optimizer = row->texts[2] = strdup(from->optimizer);
	row->at.waiting = row->texts[3] = strdup(from->waiting);
	row->at.skipped_tensor = row->texts[4] = strdup(from->skipped_tensor);
	row->at.average = row->texts[5] = strdup(from->average);
	row->changes = optctl_changes(from);
	row->rates = optctl_rates(from);
	row->at.changes = NULL; /* good during the call alone */
	row->at.rates = NULL;
	rows->failed |= !row->changes || !row->rates;
	for (int i = 0; i < ROW_TEXTS; i++)
		rows->failed |= !row->texts[i];
}

static void rows_init(struct rows *rows, const char *model)
{
	*rows = (struct rows){.model = model, .lanes = json_array(), .unanswered = json_array()};
	rows->likely.nearest = nearest_of(model ? model : "");
}

static void rows_free(struct rows *rows)
{
	json_decref(rows->lanes);
	json_decref(rows->unanswered);
	for (size_t i = 0; i < rows->count; i++) {
		json_decref(rows->all[i].changes);
		json_decref(rows->all[i].rates);
		for (int k = 0; k < ROW_TEXTS; k++)
			free(rows->all[i].texts[k]);
	}
	free(rows->all);
}

/* ---- lanes ------------------------------------------------------------------ */

static json_t *lane_json(const optd_lane_row *row)
{
	return json_pack("{s:s s:I s:I s:I s:I s:I s:I s:I s:I}", "endpoint", row->endpoint,
	                 "connections", (json_int_t)row->connections, "accepted",
	                 (json_int_t)row->accepted, "refused", (json_int_t)row->refused, "cut",
	                 (json_int_t)row->cut, "flooded", (json_int_t)row->flooded, "malformed",
	                 (json_int_t)row->malformed, "strangers", (json_int_t)row->strangers, "unsent",
	                 (json_int_t)row->unsent);
}

static void keep_lane(void *user, const optd_lane_row *row)
{
	struct rows *rows = user;
	rows->failed |= json_array_append_new(rows->lanes, lane_json(row)) < 0;
}

static json_int_t count_of(json_t *lane, const char *what)
{
	return json_integer_value(json_object_get(lane, what));
}

#define COUNT "%" JSON_INTEGER_FORMAT

/* Nothing is said of a lane that has met no trouble. */
static void print_lane(json_t *lane)
{
	json_int_t refused = count_of(lane, "refused"), cut = count_of(lane, "cut"), flooded = count_of(lane, "flooded"),
	           malformed = count_of(lane, "malformed"), strangers = count_of(lane, "strangers");
	if (refused + cut + flooded + malformed + strangers == 0)
		return;
	printf("lane ");
	optctl_text(stdout, json_string_value(json_object_get(lane, "endpoint")));
	printf(": " COUNT " connections\n", count_of(lane, "connections"));
	printf("  refused     " COUNT " connections beyond the limit\n", refused);
	printf("  cut         " COUNT " connections for what they sent, " COUNT " for how much\n", cut, flooded);
	printf("  messages    " COUNT " malformed, " COUNT " without a session, " COUNT " answers not taken\n",
	       malformed, strangers, count_of(lane, "unsent"));
}

/* ---- models ---------------------------------------------------------------- */

/* Whether no row before this one is of the same model. */
static int first_of_model(const struct rows *rows, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (strcmp(rows->all[k].at.model, rows->all[i].at.model) == 0)
			return 0;
	return 1;
}

/* A model over all its lanes; counters of messages add up, versions have a range,
 * the fewest workers that any lane sees are present. */
static optd_status_row sum(const struct rows *rows, size_t first)
{
	optd_status_row total = rows->all[first].at;
	for (size_t i = first + 1; i < rows->count; i++) {
		const optd_status_row *row = &rows->all[i].at;
		if (strcmp(row->model, total.model) != 0)
			continue;
		total.ready &= row->ready;
		total.block_count += row->block_count;
		total.version = row->version < total.version ? row->version : total.version;
		total.version_max = row->version_max > total.version_max ? row->version_max : total.version_max;
		total.step = row->step < total.step ? row->step : total.step;
		if (row->workers_present < total.workers_present)
			total.workers_present = row->workers_present;
		if (row->saved_version < total.saved_version)
			total.saved_version = row->saved_version;
		if (!total.waiting[0])
			total.waiting = row->waiting;
		total.bytes += row->bytes;
		total.pushes += row->pushes;
		total.pulls += row->pulls;
		total.duplicates += row->duplicates;
		total.refused += row->refused;
		optctl_finite_add(&total, row);
	}
	return total;
}

/* Of the lane that is the furthest behind: its next update is the model's. */
static json_t *rates_of(const struct rows *rows, size_t first)
{
	const struct row *last = &rows->all[first];
	for (size_t i = first + 1; i < rows->count; i++)
		if (strcmp(rows->all[i].at.model, last->at.model) == 0 && rows->all[i].at.version < last->at.version)
			last = &rows->all[i];
	return last->rates;
}

/* Whether two lanes have made the same changes, as far as both tell. */
static int same_changes(const struct row *a, const struct row *b)
{
	size_t n = json_array_size(a->changes), m = json_array_size(b->changes);
	if (n + a->at.changes_left_out != m + b->at.changes_left_out)
		return 0;
	for (; n > 0 && m > 0; n--, m--)
		if (!json_equal(json_array_get(a->changes, n - 1), json_array_get(b->changes, m - 1)))
			return 0;
	return 1;
}

/* The first lane of the model whose changes are not those of row `first`, or NULL. */
static const char *other_changes(const struct rows *rows, size_t first)
{
	for (size_t i = first + 1; i < rows->count; i++)
		if (strcmp(rows->all[i].at.model, rows->all[first].at.model) == 0 &&
		    !same_changes(&rows->all[first], &rows->all[i]))
			return rows->all[i].at.endpoint;
	return NULL;
}

static const char *mode_name(const optd_status_row *row)
{
	return row->mode == OPTD_ASYNC ? "async" : "sync";
}

/* ---- for people -------------------------------------------------------------- */

static void state_text(const optd_status_row *row, int all_answered, char *text, size_t bytes)
{
	if (row->block_count < row->blocks)
		snprintf(text, bytes, "incomplete: %u of %u blocks; %s", row->block_count, row->blocks,
		         all_answered ? "name all servers" : "not all servers answer");
	else if (!row->ready)
		snprintf(text, bytes, "no weights yet");
	else if (row->waiting[0])
		snprintf(text, bytes, "waiting for %s", row->waiting);
	else if (row->workers_present == 0)
		snprintf(text, bytes, "idle: no workers");
	else
		snprintf(text, bytes, "training");
}

static void steps_text(const optd_status_row *row, char *text, size_t bytes)
{
	if (row->version == row->version_max)
		snprintf(text, bytes, "%" PRIu64, row->version);
	else
		snprintf(text, bytes, "%" PRIu64 " to %" PRIu64, row->version, row->version_max);
}

static void saved_text(const optd_status_row *row, char *text, size_t bytes)
{
	if (row->saved_version == 0)
		snprintf(text, bytes, "nothing yet");
	else if (row->saved_version >= row->version)
		snprintf(text, bytes, "step %" PRIu64 ", the latest", row->saved_version);
	else
		snprintf(text, bytes, "step %" PRIu64 ", %" PRIu64 " behind", row->saved_version,
		         row->version - row->saved_version);
}

/* Of a model that clips a norm and has made a step. */
static void print_clipping(const optd_status_row *row)
{
	if (row->last_norm == 0 && row->last_factor == 0)
		return;
	printf("  clipping    last norm %g, times %g; %" PRIu64 " step%s clipped, %" PRIu64
	       " not finite and skipped\n",
	       row->last_norm, row->last_factor, row->clipped, row->clipped == 1 ? "" : "s", row->overflowed);
}

static void print_model(const optd_status_row *row, json_t *rates, int all_answered)
{
	char count[OPTCTL_NUMBER_BYTES], size[OPTCTL_NUMBER_BYTES], text[256];
	state_text(row, all_answered, text, sizeof(text));
	optctl_text(stdout, row->model);
	printf(": ");
	optctl_text(stdout, text);
	printf("\n");
	steps_text(row, text, sizeof(text));
	printf("  step        %s\n", text);
	printf("  parameters  %s in %u tensor%s", optctl_count(row->elements, count), row->tensors,
	       row->tensors == 1 ? "" : "s");
	printf(", %s of memory\n", optctl_bytes(row->bytes, size));
	printf("  optimizer   ");
	optctl_text(stdout, row->optimizer);
	printf("\n");
	optctl_print_rates(rates);
	if (row->average[0]) {
		printf("  average     ");
		optctl_text(stdout, row->average);
		printf("\n");
	}
	if (row->mode == OPTD_ASYNC)
		printf("  workers     %u present, async\n", row->workers_present);
	else
		printf("  workers     %u of %u present, %s\n", row->workers_present, row->workers,
		       mode_name(row));
	print_clipping(row);
	optctl_finite_print(row);
	saved_text(row, text, sizeof(text));
	printf("  saved       %s\n", text);
	printf("  run         %016" PRIx64 "%s\n", row->run_id, row->restored ? ", from a checkpoint" : "");
	printf("  messages    %" PRIu64 " pushes, %" PRIu64 " pulls, %" PRIu64 " repeated, %" PRIu64
	       " refused\n",
	       row->pushes, row->pulls, row->duplicates, row->refused);
}

static void print_models(const struct optctl *ctl, const struct rows *rows)
{
	int all_answered = json_array_size(rows->unanswered) == 0;
	if (rows->count == 0)
		printf("no models on %s\n", all_answered ? ctl->server : "the servers that answer");
	for (size_t i = 0; i < rows->count; i++) {
		if (!first_of_model(rows, i))
			continue;
		optd_status_row row = sum(rows, i);
		const char *other = other_changes(rows, i);
		print_model(&row, rates_of(rows, i), all_answered);
		optctl_print_changes(rows->all[i].changes, row.changes_left_out);
		if (!other)
			continue;
		printf("  WARNING     the changes on ");
		optctl_text(stdout, other);
		printf(" are others: set them again from a later step on\n");
	}
	for (size_t i = 0; !rows->model && i < json_array_size(rows->lanes); i++)
		print_lane(json_array_get(rows->lanes, i));
}

/* ---- for programs -------------------------------------------------------------- */

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

/* JSON has no other numbers than finite ones. */
static json_t *real(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static void set_numbers(json_t *object, const optd_status_row *row)
{
	json_object_set_new(object, "version", number(row->version));
	json_object_set_new(object, "version_max", number(row->version_max));
	json_object_set_new(object, "step", number(row->step));
	json_object_set_new(object, "block_count", number(row->block_count));
	json_object_set_new(object, "workers_present", number(row->workers_present));
	json_object_set_new(object, "waiting", json_string(row->waiting));
	json_object_set_new(object, "bytes", number(row->bytes));
	json_object_set_new(object, "pushes", number(row->pushes));
	json_object_set_new(object, "pulls", number(row->pulls));
	json_object_set_new(object, "duplicates", number(row->duplicates));
	json_object_set_new(object, "refused", number(row->refused));
	json_object_set_new(object, "saved_version", number(row->saved_version));
	json_object_set_new(object, "last_norm", real(row->last_norm));
	json_object_set_new(object, "last_factor", real(row->last_factor));
	json_object_set_new(object, "clipped", number(row->clipped));
	json_object_set_new(object, "overflowed", number(row->overflowed));
}

static json_t *model_json(const struct rows *rows, size_t first)
{
	optd_status_row total = sum(rows, first);
	json_t *model = json_object(), *lanes = json_array();
	char run[24];
	snprintf(run, sizeof(run), "%016" PRIx64, total.run_id);
	json_object_set_new(model, "name", json_string(total.model));
	json_object_set_new(model, "run", json_string(run));
	json_object_set_new(model, "ready", json_boolean(total.ready));
	json_object_set_new(model, "restored", json_boolean(total.restored));
	json_object_set_new(model, "mode", json_string(mode_name(&total)));
	json_object_set_new(model, "optimizer", json_string(total.optimizer));
	json_object_set(model, "learning_rates", rates_of(rows, first));
	json_object_set_new(model, "average", json_string(total.average));
	json_object_set_new(model, "elements", number(total.elements));
	json_object_set_new(model, "tensors", number(total.tensors));
	json_object_set_new(model, "blocks", number(total.blocks));
	json_object_set_new(model, "workers", number(total.workers));
	set_numbers(model, &total);
	optctl_finite_json(model, &total);
	json_object_set(model, "changes", rows->all[first].changes);
	json_object_set_new(model, "changes_left_out", number(total.changes_left_out));
	for (size_t i = first; i < rows->count; i++) {
		const optd_status_row *row = &rows->all[i].at;
		if (strcmp(row->model, total.model) != 0)
			continue;
		json_t *lane = json_object();
		json_object_set_new(lane, "endpoint", json_string(row->endpoint));
		json_object_set_new(lane, "first_block", number(row->first_block));
		set_numbers(lane, row);
		json_object_set(lane, "changes", rows->all[i].changes);
		json_array_append_new(lanes, lane);
	}
	json_object_set_new(model, "lanes", lanes);
	return model;
}

static int print_json(const struct optctl *ctl, const struct rows *rows)
{
	json_t *document = json_object(), *models = json_array();
	for (size_t i = 0; i < rows->count; i++)
		if (first_of_model(rows, i))
			json_array_append_new(models, model_json(rows, i));
	json_object_set_new(document, "server", json_string(ctl->server));
	json_object_set(document, "unanswered", rows->unanswered);
	json_object_set_new(document, "models", models);
	json_object_set(document, "lanes", rows->lanes);
	int rc = json_dumpf(document, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	printf("\n");
	json_decref(document);
	return rc;
}

/* ---- asking -------------------------------------------------------------------- */

static int ask(struct optctl *ctl, struct rows *rows)
{
	int rc = optd_get_status(ctl->client, keep, rows);
	return rc < 0 ? rc : optd_get_lanes(ctl->client, keep_lane, rows);
}

static int no_model(const struct optctl *ctl, const struct rows *rows)
{
	char text[4096];
	int n = snprintf(text, sizeof(text), "no model '%.512s' on %.2048s", rows->model, ctl->server);
	if (rows->likely.best[0])
		snprintf(text + n, sizeof(text) - (size_t)n, "; the nearest is '%s'", rows->likely.best);
	return optctl_fail(OPTD_NO_MODEL, text);
}

/* Prints what was told; returns the exit code. */
static int tell(const struct optctl *ctl, const struct rows *rows)
{
	int code = EXIT_DONE;
	if (rows->failed || !rows->lanes || !rows->unanswered)
		return optctl_fail(OPTD_NO_MEMORY, "out of memory");
	if (rows->model && rows->count == 0)
		code = no_model(ctl, rows);
	else if (!ctl->json)
		print_models(ctl, rows);
	else if (print_json(ctl, rows) != 0)
		code = optctl_fail(OPTD_NO_MEMORY, "out of memory");
	return json_array_size(rows->unanswered) > 0 ? EXIT_NO_SERVER : code;
}

/* A line about each server that does not answer. */
static void ask_one(struct optctl *ctl, const char *endpoint, struct rows *rows)
{
	int rc = optctl_connect(ctl, endpoint);
	const char *why = optd_error(NULL);
	if (rc == 0) {
		rc = ask(ctl, rows);
		why = optd_error(ctl->client);
	}
	if (rc < 0) {
		optctl_fail(rc, why);
		json_array_append_new(rows->unanswered, json_string(endpoint));
	}
	optd_close(&ctl->client);
}

int optctl_status_apart(struct optctl *ctl, const char *model)
{
	struct rows rows;
	size_t servers = 0;
	char *copy = strdup(ctl->server), *rest = NULL;
	rows_init(&rows, model);
	rows.failed = !copy;
	for (char *one = copy ? strtok_r(copy, ", ", &rest) : NULL; one; one = strtok_r(NULL, ", ", &rest)) {
		ask_one(ctl, one, &rows);
		servers++;
	}
	int none = servers > 0 && json_array_size(rows.unanswered) == servers;
	int code = none ? EXIT_NO_SERVER : tell(ctl, &rows);
	rows_free(&rows);
	free(copy);
	return code;
}

int optctl_status(struct optctl *ctl, const char *model)
{
	struct rows rows;
	rows_init(&rows, model);
	int rc = ask(ctl, &rows);
	int code = rc < 0 ? EXIT_NO_SERVER : tell(ctl, &rows);
	rows_free(&rows);
	if (rc == OPTD_UNREACHABLE && strchr(ctl->server, ',')) {
		optd_close(&ctl->client);
		return optctl_status_apart(ctl, model);
	}
	return rc < 0 ? optctl_fail(rc, optd_error(ctl->client)) : code;
}
