/* Manifest: settings to texts and back. */
#include "server/disk/manifest.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/status.h"
#include "server/core/clipping.h"
#include "server/core/settings.h"
#include "server/disk/file.h"
#include "server/disk/manifest_finite.h"

/* Where decoding stands: the first refusal is kept, later reads give zeros. */
struct reader {
	const struct safetensors *head;
	int rc;
	char *why;
	size_t why_bytes;
};

static const char *const modes[] = { [MSG_SYNC] = "sync", [MSG_ASYNC] = "async" };
static const char *const reduces[] = { [MSG_MEAN] = "mean", [MSG_SUM] = "sum" };

static void put_text(struct manifest *manifest, const char *key, const char *value)
{
	assert(manifest->count < MANIFEST_TEXTS_MAX);
	manifest->texts[manifest->count++] = (struct safetensors_text){ key, value };
}

__attribute__((format(printf, 3, 4)))
static void put(struct manifest *manifest, const char *key, const char *format, ...)
{
	char *value = manifest->values[manifest->count];
	va_list args;

	va_start(args, format);
	vsnprintf(value, sizeof manifest->values[0], format, args);
	va_end(args);
	put_text(manifest, key, value);
}

/* A key for the next text, good as long as the manifest. */
__attribute__((format(printf, 2, 3)))
static char *make_key(struct manifest *manifest, const char *format, ...)
{
	char *key = manifest->keys[manifest->count];
	va_list args;

	va_start(args, format);
	vsnprintf(key, sizeof manifest->keys[0], format, args);
	va_end(args);
	return key;
}

static void put_numbers(struct manifest *manifest, const char *key, const double *numbers, uint32_t count)
{
	char *value = manifest->values[manifest->count];
	size_t used = 0;

	for (uint32_t i = 0; i < count; i++)
		used += (size_t)snprintf(value + used, sizeof manifest->values[0] - used, "%s%.17g", i > 0 ? "," : "",
		                         numbers[i]);
	put_text(manifest, key, value);
}

/* Keys of an optimizer begin with prefix: "" for the model's, "group.0." for a group's. */
static void put_schedule(struct manifest *manifest, const char *prefix, const struct schedule *schedule)
{
	put(manifest, make_key(manifest, "%sschedule", prefix), "%" PRIu32, schedule->part_count);
	for (uint32_t i = 0; i < schedule->part_count; i++) {
		const struct schedule_part *part = &schedule->parts[i];
		uint32_t count;
		const struct schedule_param *params = schedule_params(part->kind, &count);
		put_text(manifest, make_key(manifest, "%sschedule.%u", prefix, i), schedule_name(part->kind));
		put(manifest, make_key(manifest, "%sschedule.%u.until", prefix, i), "%" PRIu64, schedule->ends[i]);
		for (uint32_t j = 0; j < count; j++)
			put_numbers(manifest, make_key(manifest, "%sschedule.%u.%s", prefix, i, params[j].name),
			            &part->values[j], 1);
		if (part->milestone_count > 0)
			put_numbers(manifest, make_key(manifest, "%sschedule.%u.milestones", prefix, i),
			            part->milestones, part->milestone_count);
	}
}

static void put_optim(struct manifest *manifest, const char *prefix, const struct optim *optim)
{
	put_text(manifest, make_key(manifest, "%soptimizer", prefix), optim_rule_name(optim->rule));
	put_text(manifest, make_key(manifest, "%soptimizer.match", prefix), optim_match_name(optim->match));
	for (uint32_t i = 0; i < optim_hyper_count(optim->rule); i++) {
		const struct optim_hyper *hyper = optim_hyper(optim->rule, i);
		put_numbers(manifest, make_key(manifest, "%soptimizer.%s", prefix, hyper->name), optim->values[i],
		            hyper->count);
	}
	put_schedule(manifest, prefix, &optim->schedule);
}

static void put_groups(struct manifest *manifest, const struct groups *groups)
{
	if (groups->count > 0)
		put(manifest, "groups", "%" PRIu32, groups->count);
	for (uint32_t i = 0; i < groups->count; i++) {
		const struct group *group = &groups->list[i];
		char prefix[24];
		snprintf(prefix, sizeof prefix, "group.%u.", i);
		put_text(manifest, make_key(manifest, "%stensors", prefix), group->tensors);
		put_text(manifest, make_key(manifest, "%sfrozen", prefix), group->frozen ? "1" : "0");
		if (!group->frozen)
			put_optim(manifest, prefix, &group->optim);
	}
}

static void put_changes(struct manifest *manifest, const struct checkpoint *about)
{
	if (about->changes.count > 0)
		put(manifest, "changes", "%" PRIu32, about->changes.count);
	for (uint32_t i = 0; i < about->changes.count; i++) {
		manifest_change_write(about, &about->changes.list[i], manifest->values[manifest->count]);
		put_text(manifest, make_key(manifest, "change.%u", i), manifest->values[manifest->count]);
	}
}

static void put_clip(struct manifest *manifest, const struct msg_clip *clip)
{
	if (clip->norm > 0)
		put_numbers(manifest, "clip_norm", &clip->norm, 1);
	if (clip->tensor_norm > 0)
		put_numbers(manifest, "clip_tensor_norm", &clip->tensor_norm, 1);
	if (clipping_on(clip))
		put_numbers(manifest, "clip_norm_type", &clip->norm_type, 1);
}

static void put_average(struct manifest *manifest, const struct average *average)
{
	if (!average_is_kept(average))
		return;
	put_text(manifest, "average", average_kind(average));
	for (uint32_t i = 0; i < average_setting_count(average); i++) {
		double value = average_value(average, i);
		put_numbers(manifest, make_key(manifest, "average.%s", average_setting(average, i)->name), &value, 1);
	}
}

static uint32_t count_whole(const struct layout *layout)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < layout_tensor_count(layout); i++)
		count += layout_whole(layout, i);
	return count;
}

static const char *format_of(const struct checkpoint *about)
{
	if (manifest_has_finite(about) || clipping_on(&about->clip) || average_is_kept(&about->average) ||
	    about->changes.count > 0 || layout_has_whole(about->layout))
		return MANIFEST_FORMAT_KEYS;
	return about->groups.count > 0 ? MANIFEST_FORMAT_GROUPS : MANIFEST_FORMAT;
}

void manifest_encode(const struct checkpoint *about, struct manifest *manifest)
{
	assert(about->mode == MSG_SYNC || about->mode == MSG_ASYNC);
	assert(about->reduce == MSG_MEAN || about->reduce == MSG_SUM);
	manifest->count = 0;
	put_text(manifest, "optd.checkpoint", format_of(about));
	put_text(manifest, "model", about->model);
	put_text(manifest, "run", about->run);
	put(manifest, "run_id", "%016" PRIx64, about->run_id);
	put_optim(manifest, "", &about->optim);
	put_groups(manifest, &about->groups);
	manifest_put_finite(about, manifest);
	put_average(manifest, &about->average);
	put_changes(manifest, about);
	put_text(manifest, "mode", modes[about->mode]);
	put_text(manifest, "reduce", reduces[about->reduce]);
	put(manifest, "workers", "%" PRIu32, about->workers);
	put(manifest, "step_timeout_ms", "%" PRIu32, about->step_timeout_ms);
	put_clip(manifest, &about->clip);
	put(manifest, "seats", "%" PRIu32, about->seats);
	put(manifest, "daemon", "%" PRIu32, about->daemon);
	put(manifest, "daemons", "%" PRIu32, about->daemons);
	put(manifest, "elements", "%" PRIu64, layout_elements(about->layout));
	put(manifest, "layout_hash", "%016" PRIx64, layout_hash(about->layout));
	if (layout_has_whole(about->layout))
		put(manifest, "whole", "%" PRIu32, count_whole(about->layout));
	manifest_history_write(&about->history, manifest->values[manifest->count]);
	put_text(manifest, "restores", manifest->values[manifest->count]);
	put(manifest, "epoch", "%" PRIu64, about->epoch);
	put(manifest, "final", "%d", about->final);
	put(manifest, "created_s", "%" PRId64, about->created_s);
	put(manifest, "saved_s", "%" PRId64, about->saved_s);
}

__attribute__((format(printf, 2, 3)))
static void refuse(struct reader *reader, const char *format, ...)
{
	char text[256];
	va_list args;

	if (reader->rc < 0)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	reader->rc = disk_fail(OPTD_CORRUPT, reader->why, reader->why_bytes, "metadata: %s", text);
}

/* Never NULL: "" after a refusal. */
static const char *get(struct reader *reader, const char *key)
{
	const char *value = safetensors_metadata(reader->head, key);

	if (!value)
		refuse(reader, "'%s' is missing", key);
	return value ? value : "";
}

static bool has(const struct reader *reader, const char *key)
{
	return safetensors_metadata(reader->head, key) != NULL;
}

/* A whole number without sign; base 16 has exactly sixteen digits. */
static uint64_t get_number(struct reader *reader, const char *key, int base, uint64_t min, uint64_t max)
{
	const char *text = get(reader, key);
	size_t digits = strspn(text, base == 16 ? "0123456789abcdef" : "0123456789");
	uint64_t value;

	if (digits == 0 || text[digits] || (base == 16 ? digits != 16 : digits > 19)) {
		refuse(reader, "'%s' is not a number", key);
		return min;
	}
	value = strtoull(text, NULL, base);
	if (value < min || value > max) {
		refuse(reader, "'%s' is %" PRIu64 ", not from %" PRIu64 " to %" PRIu64, key, value, min, max);
		return min;
	}
	return value;
}

static uint32_t get_u32(struct reader *reader, const char *key, uint32_t min, uint32_t max)
{
	return (uint32_t)get_number(reader, key, 10, min, max);
}

/* The index of a text among words 1 and 2. */
static int get_word(struct reader *reader, const char *key, const char *const *words)
{
	const char *text = get(reader, key);

	for (int i = 1; i <= 2; i++)
		if (strcmp(text, words[i]) == 0)
			return i;
	refuse(reader, "'%s' is neither %s nor %s", key, words[1], words[2]);
	return 1;
}

static const char *get_name(struct reader *reader, const char *key)
{
	const char *text = get(reader, key);

	if (strlen(text) >= LIMIT_NAME_BYTES)
		refuse(reader, "'%s' is longer than %u bytes", key, LIMIT_NAME_BYTES - 1);
	return text;
}

/* Finite numbers with commas between them, at most `most`; returns how many, and 0
 * after a refusal. */
static uint32_t get_numbers(struct reader *reader, const char *key, double *values, uint32_t most)
{
	const char *at = get(reader, key);

	for (uint32_t count = 0; count < most; count++) {
		char *end;
		if (count > 0 && *at++ != ',')
			break;
		values[count] = strtod(at, &end);
		if (end == at || !isfinite(values[count]))
			break;
		at = end;
		if (*at == '\0')
			return count + 1;
	}
	refuse(reader, "'%s' is not %s", key, most > 1 ? "a list of numbers" : "a number");
	return 0;
}

static void get_hyper(struct reader *reader, const char *prefix, struct optim *optim,
                      const struct optim_hyper *hyper)
{
	char key[64], why[256];
	double values[OPTIM_VALUES_MAX] = { 0 };
	uint32_t count;

	snprintf(key, sizeof key, "%soptimizer.%s", prefix, hyper->name);
	count = get_numbers(reader, key, values, hyper->count);
	if (count > 0 && optim_set(optim, hyper->name, values, count, why, sizeof why) < 0)
		refuse(reader, "%s%s", prefix, why);
}

static void get_schedule_param(struct reader *reader, const char *prefix, struct schedule_part *part, uint32_t index,
                               const char *name, uint32_t most)
{
	char key[64], why[256];
	double values[SCHEDULE_MILESTONES_MAX];
	uint32_t count;

	snprintf(key, sizeof key, "%sschedule.%u.%s", prefix, index, name);
	count = get_numbers(reader, key, values, most);
	if (count > 0 && schedule_set(part, name, values, count, why, sizeof why) < 0)
		refuse(reader, "%s%s", prefix, why);
}

static void get_schedule_part(struct reader *reader, const char *prefix, uint32_t index, struct schedule *schedule)
{
	struct schedule_part *part = &schedule->parts[index];
	const struct schedule_param *params;
	uint32_t count;
	char key[64];
	int kind;

	snprintf(key, sizeof key, "%sschedule.%u", prefix, index);
	kind = schedule_find(get(reader, key));
	if (kind < 0) {
		refuse(reader, "'%s' is not a schedule that this version knows", key);
		return;
	}
	params = schedule_params((enum schedule_kind)kind, &count);
	schedule_part_init(part, (enum schedule_kind)kind);
	snprintf(key, sizeof key, "%sschedule.%u.until", prefix, index);
	schedule->ends[index] = get_number(reader, key, 10, 0, INT64_MAX);
	for (uint32_t j = 0; j < count; j++)
		get_schedule_param(reader, prefix, part, index, params[j].name, 1);
	if (kind == SCHEDULE_MULTISTEP)
		get_schedule_param(reader, prefix, part, index, "milestones", SCHEDULE_MILESTONES_MAX);
}

static void get_schedule(struct reader *reader, const char *prefix, struct schedule *schedule)
{
	char key[64];

	snprintf(key, sizeof key, "%sschedule", prefix);
	schedule->part_count = get_u32(reader, key, 0, SCHEDULE_PARTS_MAX);
	for (uint32_t i = 0; i < schedule->part_count && reader->rc == OPTD_OK; i++)
		get_schedule_part(reader, prefix, i, schedule);
}

/* The rule and match, with its defaults. */
static void get_rule(struct reader *reader, const char *prefix, struct optim *optim)
{
	char name[64], match[64], why[256];
	const struct optim_rule *rule;
	int which;

	snprintf(name, sizeof name, "%soptimizer", prefix);
	snprintf(match, sizeof match, "%soptimizer.match", prefix);
	rule = optim_find(get(reader, name));
	which = optim_match_find(get(reader, match));
	if (!rule)
		refuse(reader, "'%s' is not one that this version knows", name);
	if (which < 0)
		refuse(reader, "'%s' is not one that this version knows", match);
	if (reader->rc == OPTD_OK && optim_init(optim, rule, (enum optim_match)which, why, sizeof why) < 0)
		refuse(reader, "%s%s", prefix, why);
}

static void get_optim(struct reader *reader, const char *prefix, struct optim *optim)
{
	char why[256];

	get_rule(reader, prefix, optim);
	if (reader->rc < 0)
		return;
	for (uint32_t i = 0; i < optim_hyper_count(optim->rule); i++)
		get_hyper(reader, prefix, optim, optim_hyper(optim->rule, i));
	get_schedule(reader, prefix, &optim->schedule);
	if (reader->rc == OPTD_OK && optim_check(optim, why, sizeof why) < 0)
		refuse(reader, "%s%s", prefix, why);
}

static void get_group(struct reader *reader, uint32_t index, const struct optim *own, struct group *group)
{
	char prefix[24], key[64], why[256];

	snprintf(prefix, sizeof prefix, "group.%u.", index);
	snprintf(key, sizeof key, "%stensors", prefix);
	if (reader->rc == OPTD_OK && group_begin(group, get(reader, key), own, NULL, NULL, why, sizeof why) < 0)
		refuse(reader, "'%s': %s", key, why);
	snprintf(key, sizeof key, "%sfrozen", prefix);
	group->frozen = get_u32(reader, key, 0, 1) == 1;
	if (!group->frozen)
		get_optim(reader, prefix, &group->optim);
}

static void get_groups(struct reader *reader, const struct optim *own, struct groups *groups)
{
	groups->count = get_u32(reader, "groups", 1, LIMIT_GROUPS);
	for (uint32_t i = 0; i < groups->count && reader->rc == OPTD_OK; i++)
		get_group(reader, i, own, &groups->list[i]);
}

/* Rising, and each such that the model could have come to it. */
static void get_changes(struct reader *reader, struct checkpoint *about)
{
	const struct model_settings made = { .optim = about->optim, .groups = about->groups };
	struct changes *changes = &about->changes;
	char key[24], why[LIMIT_TEXT_BYTES];

	if (reader->rc < 0 || !has(reader, "changes"))
		return;
	changes->count = get_u32(reader, "changes", 1, LIMIT_CHANGES);
	for (uint32_t i = 0; i < changes->count && reader->rc == OPTD_OK; i++) {
		struct change *change = &changes->list[i];
		snprintf(key, sizeof key, "change.%u", i);
		const char *text = get(reader, key);
		if (reader->rc == OPTD_OK && manifest_change_read(about, text, change, why, sizeof why) < 0)
			refuse(reader, "'%s': %.150s", key, why);
		else if (i > 0 && change->from < changes->list[i - 1].from)
			refuse(reader, "'%s' is from a version before that of 'change.%u'", key, i - 1);
	}
	if (reader->rc == OPTD_OK && settings_check_changes(&made, changes, why, sizeof why) < 0)
		refuse(reader, "changes: %.200s", why);
}

/* Above 0, and where it is a norm's type infinity too. */
static double get_limit(struct reader *reader, const char *key, bool infinite)
{
	double value = 0;

	if (!has(reader, key) && !infinite)
		return 0;
	if (infinite && strcmp(get(reader, key), "inf") == 0)
		return INFINITY;
	if (get_numbers(reader, key, &value, 1) == 1 && !(value > 0))
		refuse(reader, "'%s' is %g, not above 0", key, value);
	return value;
}

static void get_clip(struct reader *reader, struct checkpoint *about)
{
	char why[256];

	about->clip.norm = get_limit(reader, "clip_norm", false);
	about->clip.tensor_norm = get_limit(reader, "clip_tensor_norm", false);
	if (clipping_on(&about->clip) || has(reader, "clip_norm_type"))
		about->clip.norm_type = get_limit(reader, "clip_norm_type", true);
	if (reader->rc == OPTD_OK && clipping_check(&about->clip, about->mode, why, sizeof why) < 0)
		refuse(reader, "%s", why);
}

/* A rule that answers each worker by itself, in a model that cannot: the engine takes such a
 * model for impossible. */
static void check_answers(struct reader *reader, const struct checkpoint *about)
{
	const struct model_settings made = { .optim = about->optim, .groups = about->groups, .mode = about->mode,
		                             .workers = about->workers, .clip = about->clip };
	char why[256];

	if (reader->rc == OPTD_OK && settings_answers(&made, why, sizeof why) < 0)
		refuse(reader, "%s", why);
}

static void get_average_setting(struct reader *reader, const char *name, struct average *average)
{
	char key[64], why[256];
	double value = 0;

	snprintf(key, sizeof key, "average.%s", name);
	if (get_numbers(reader, key, &value, 1) > 0 && average_set(average, name, &value, 1, why, sizeof why) < 0)
		refuse(reader, "%s", why);
}

static void get_average(struct reader *reader, struct average *average)
{
	char why[256];

	if (reader->rc < 0 || !safetensors_metadata(reader->head, "average"))
		return;
	if (average_begin(average, get(reader, "average"), why, sizeof why) < 0) {
		refuse(reader, "%s", why);
		return;
	}
	for (uint32_t i = 0; i < average_setting_count(average); i++)
		get_average_setting(reader, average_setting(average, i)->name, average);
}

int manifest_decode(const struct safetensors *head, struct checkpoint *about, char *why, size_t why_bytes)
{
	struct reader reader = { .head = head, .why = why, .why_bytes = why_bytes };
	const char *format = safetensors_metadata(head, "optd.checkpoint");

	if (!format)
		return disk_fail(OPTD_UNSUPPORTED, why, why_bytes, "this safetensors file is not a checkpoint of optd");
	bool keys = strcmp(format, MANIFEST_FORMAT_KEYS) == 0;
	bool grouped = keys ? has(&reader, "groups") : strcmp(format, MANIFEST_FORMAT_GROUPS) == 0;
	if (!keys && !grouped && strcmp(format, MANIFEST_FORMAT) != 0)
		return disk_fail(OPTD_UNSUPPORTED, why, why_bytes, "another version of optd wrote this checkpoint: "
		                 "its format is none of " MANIFEST_FORMAT ", " MANIFEST_FORMAT_GROUPS " and " MANIFEST_FORMAT_KEYS);
	*about = (struct checkpoint){ 0 };
	about->model = get_name(&reader, "model");
	if (!*about->model)
		refuse(&reader, "'model' is empty");
	about->run = get_name(&reader, "run");
	about->run_id = get_number(&reader, "run_id", 16, 0, UINT64_MAX);
	get_optim(&reader, "", &about->optim);
	if (grouped)
		get_groups(&reader, &about->optim, &about->groups);
	if (keys)
		get_average(&reader, &about->average);
	about->mode = (enum msg_mode)get_word(&reader, "mode", modes);
	about->reduce = (enum msg_reduce)get_word(&reader, "reduce", reduces);
	about->workers = get_u32(&reader, "workers", 0, LIMIT_WORKERS);
	about->step_timeout_ms = get_u32(&reader, "step_timeout_ms", 0, UINT32_MAX);
	about->seats = get_u32(&reader, "seats", 0, LIMIT_WORKERS);
	about->daemons = get_u32(&reader, "daemons", 1, LIMIT_DAEMONS);
	about->daemon = get_u32(&reader, "daemon", 0, about->daemons - 1);
	about->epoch = get_number(&reader, "epoch", 10, 0, INT64_MAX);
	about->final = get_number(&reader, "final", 10, 0, 1) != 0;
	if (!manifest_history_read(get(&reader, "restores"), about->epoch, &about->history))
		refuse(&reader, "'restores' is not a list of at most %u epochs and versions that rise, up to "
		       "epoch %" PRIu64, HISTORY_MARKS, about->epoch);
	about->created_s = (int64_t)get_number(&reader, "created_s", 10, 0, INT64_MAX);
	about->saved_s = (int64_t)get_number(&reader, "saved_s", 10, 0, INT64_MAX);
	if (keys) {
		get_clip(&reader, about);
		get_changes(&reader, about);
	}
	check_answers(&reader, about);
	/* Knows the mode by now. */
	return reader.rc < 0 ? reader.rc : manifest_get_finite(head, keys, about, why, why_bytes);
}

int manifest_check_layout(const struct safetensors *head, const struct layout *layout,
                          char *why, size_t why_bytes)
{
	struct reader reader = { .head = head, .why = why, .why_bytes = why_bytes };
	uint64_t elements = get_number(&reader, "elements", 10, 0, LIMIT_ELEMENTS);
	uint64_t hash = get_number(&reader, "layout_hash", 16, 0, UINT64_MAX);

	uint64_t whole = 0;

	if (safetensors_metadata(head, "whole"))
		whole = get_number(&reader, "whole", 10, 1, LIMIT_TENSORS);
	if (whole != count_whole(layout))
		refuse(&reader, "'whole' is %" PRIu64 ", and this version has %" PRIu32 " tensors that are", whole,
		       count_whole(layout));
	if (elements != layout_elements(layout))
		refuse(&reader, "'elements' is %" PRIu64 ", the layout has %" PRIu64, elements, layout_elements(layout));
	if (hash != layout_hash(layout))
		refuse(&reader, "the layout is cut into other blocks than this version makes");
	return reader.rc;
}
