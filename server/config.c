/*
 * Config: the table of knobs, and the checks that look at several of them.
 *
 * How a value is read and written is config_value.c's business, how a file is
 * walked config_yaml.c's, and what is printed config_print.c's.
 */
#include "server/config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/config_value.h"
#include "server/core/clipping.h"
#include "server/core/settings.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)
#define PIB (MIB * GIB)
#define SECOND UINT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)

static const char *const format_words[] = { "text", "json", "journald" };
static const char *const level_words[] = { "error", "warn", "info" };
static const char *const mode_words[] = { NULL, "sync", "async" };
static const char *const reduce_words[] = { NULL, "mean", "sum" };
static const char *const nonfinite_words[] = { NULL, "skip_step", "reject", "zero" };

#define AT(field) .offset = offsetof(struct config, field)
#define AT_MODEL(field) .offset = offsetof(struct config_model, field)
#define RANGE(low, high) .min = low, .max = high
#define WORDS(list) .words = list, .word_count = sizeof(list) / sizeof(list[0])

/* The one list.  Knobs of a section stand together: it is printed in this order. */
static const struct config_knob knobs[] = {
	{ "listen", CONFIG_ENDPOINTS, AT(listen), .initial = "tcp://127.0.0.1:16783",
	  RANGE(1, LIMIT_LANES),
	  .about =
	          "where to listen, one endpoint a lane; these are not alternatives: each worker must "
	          "reach all of them; port 0 or * is any free port" },
	{ "lanes", CONFIG_INT, AT(lanes), RANGE(1, LIMIT_LANES),
	  .about =
	          "threads that serve, each with its own endpoint and blocks; default: one for each "
	          "endpoint of listen" },
	{ "advertise", CONFIG_ENDPOINTS, AT(advertise), RANGE(0, LIMIT_LANES),
	  .about = "endpoints told to clients in place of listen's, one a lane (NAT, Kubernetes); "
	           "default: listen's" },
	{ "data_dir", CONFIG_STRING, AT(data_dir), RANGE(1, CONFIG_PATH_BYTES),
	  .about =
	          "where checkpoints are kept; ~/ is $HOME, and a relative path starts at the working "
	          "directory; default: $STATE_DIRECTORY, else /var/lib/optd if it can "
	          "be written, else $XDG_STATE_HOME/optd or ~/.local/state/optd" },

	{ "limits.memory", CONFIG_MEMORY, AT(memory_bytes), .initial = "80%", RANGE(MIB, PIB),
	  .about = "memory for all models together; a model that does not fit is refused" },
	{ "limits.window", CONFIG_BYTES, AT(window_bytes), .initial = "16MiB", RANGE(MIB, GIB),
	  .about = "bytes a worker may have under way to one lane; at least 2 x limits.message" },
	{ "limits.message", CONFIG_BYTES, AT(message_bytes), .initial = "4MiB",
	  RANGE(LIMIT_BLOCK_BYTES, LIMIT_MESSAGE_BYTES),
	  .about = "largest payload of one message; at least one block" },
	{ "limits.connections", CONFIG_INT, AT(connections), .initial = "4096", RANGE(1, 65536),
	  .about = "connections a lane accepts" },
	{ "limits.models", CONFIG_INT, AT(models_max), .initial = "64", RANGE(1, LIMIT_MODELS),
	  .about = "models held at once" },
	{ "limits.workers", CONFIG_INT, AT(workers_max), .initial = "1024", RANGE(1, LIMIT_WORKERS),
	  .about = "ranks that one model may have" },

	{ "step_timeout", CONFIG_DURATION, AT(step_timeout_ms), .initial = "60s",
	  RANGE(SECOND, 24 * HOUR),
	  .about =
	          "how long a step in sync mode waits for a missing worker before the others get an "
	          "error; also how long a pull waits for the version it asks for" },
	{ "waiting_notice", CONFIG_DURATION, AT(waiting_notice_ms), .initial = "5s",
	  RANGE(100, HOUR),
	  .about = "after how long waiting workers hear which ranks are missing" },
	{ "init_lease", CONFIG_DURATION, AT(init_lease_ms), .initial = "60s",
	  RANGE(SECOND, 24 * HOUR),
	  .about =
	          "how long the worker chosen to give a model's first weights may take before another "
	          "is chosen" },
	{ "drain_timeout", CONFIG_DURATION, AT(drain_timeout_ms), .initial = "10s", RANGE(1, HOUR),
	  .may_be_off = true,
	  .about =
	          "how long a stopping daemon goes on serving until the step of every model is whole; "
	          "off: not at all" },

	{ "checkpoint.interval", CONFIG_DURATION, AT(checkpoint_interval_ms), .initial = "5min",
	  RANGE(SECOND, 168 * HOUR), .may_be_off = true,
	  .about = "time between checkpoints of every model; off: only when asked, and on exit" },
	{ "checkpoint.on_exit", CONFIG_BOOL, AT(checkpoint_on_exit), .initial = "true",
	  .about = "write a checkpoint of every model when TERM or INT stops the daemon" },

	{ "log.format", CONFIG_ENUM, AT(log_format), .initial = "text", WORDS(format_words),
	  .about = "form of the lines on stderr" },
	{ "log.level", CONFIG_ENUM, AT(log_level), .initial = "info", WORDS(level_words),
	  .about = "the least important events that are still logged" },

	{ "security.insecure", CONFIG_BOOL, AT(insecure), .initial = "false",
	  .about =
	          "allow to listen beyond loopback, where anybody may read, change and drop models: "
	          "there are no keys yet" },

	{ "models.name", CONFIG_STRING, AT_MODEL(name), RANGE(1, LIMIT_NAME_BYTES - 1),
	  .about = "the model these settings are for; needed" },
	{ "models.optimizer", CONFIG_OPTIMIZER, AT_MODEL(optimizer),
	  .about = "a name, or {name, match, hyper-parameters by PyTorch's names, schedule, groups}; default: "
	           "the worker's, else sgd with lr 0.001" },
	{ "models.average", CONFIG_AVERAGE, AT_MODEL(average),
	  .about = "an average of the weights that is kept beside them and can be pulled and exported: a kind, "
	           "or {kind, start, every, and of ema decay, num_updates}; default: the worker's, else none" },
	{ "models.mode", CONFIG_ENUM, AT_MODEL(mode), WORDS(mode_words),
	  .about =
	          "sync: a step takes one push of every worker; async: each push is applied at once; "
	          "default: the worker's" },
	{ "models.workers", CONFIG_INT, AT_MODEL(workers), RANGE(1, LIMIT_WORKERS),
	  .about = "ranks of the model, 0 to workers - 1; default: the worker's" },
	{ "models.reduce", CONFIG_ENUM, AT_MODEL(reduce), WORDS(reduce_words),
	  .about = "how the pushes of a step become one gradient; default: the worker's" },
	{ "models.step_timeout", CONFIG_DURATION, AT_MODEL(step_timeout_ms),
	  RANGE(SECOND, 24 * HOUR), .about = "step_timeout of this model; default: step_timeout" },
	{ "models.clip_norm", CONFIG_REAL, AT_MODEL(clip.norm),
	  .about =
	          "sync: what the norm of a step's gradient, all tensors together, is held to, as "
	          "clip_grad_norm_ of PyTorch; default: the worker's, else no limit" },
	{ "models.clip_tensor_norm", CONFIG_REAL, AT_MODEL(clip.tensor_norm),
	  .about = "instead of clip_norm: what the norm of each tensor's gradient is held to, as clipnorm of "
	           "Keras; default: the worker's, else no limit" },
	{ "models.clip_norm_type", CONFIG_REAL, AT_MODEL(clip.norm_type), RANGE(1, CONFIG_REAL_INF),
	  .about = "which norm: 2, 1 or another power, or inf for the largest element; default: the worker's, "
	           "else 2" },
	{ "models.nonfinite", CONFIG_ENUM, AT_MODEL(nonfinite), WORDS(nonfinite_words),
	  .about =
	          "what is done about a gradient that holds NaN or Inf; skip_step: the step is left out for "
	          "all workers (sync only); reject: the push is refused; zero: such elements count as 0; "
	          "default: the worker's, else skip_step in sync and reject in async" },
	{ "models.loss_scale", CONFIG_LOSS_SCALE, AT_MODEL(loss_scale),
	  .about =
	          "a loss scale that the server keeps for all workers, as PyTorch's GradScaler does (sync and "
	          "skip_step only); default: the worker's, else none" },
};

#define KNOB_COUNT (sizeof(knobs) / sizeof(knobs[0]))

_Static_assert(KNOB_COUNT <= CONFIG_KNOBS, "raise CONFIG_KNOBS");
_Static_assert(sizeof(enum msg_mode) == sizeof(uint32_t), "enums are written as uint32_t");

uint32_t config_knob_count(void)
{
	return KNOB_COUNT;
}

const struct config_knob *config_knob(uint32_t index)
{
	assert(index < KNOB_COUNT);
	return &knobs[index];
}

const struct config_knob *config_knob_find(const char *path)
{
	for (size_t i = 0; i < KNOB_COUNT; i++) {
		if (strcmp(knobs[i].path, path) == 0)
			return &knobs[i];
	}
	return NULL;
}

void config_init(struct config *config)
{
	char why[CONFIG_WHY_BYTES];

	memset(config, 0, sizeof(*config));
	for (size_t i = 0; i < KNOB_COUNT; i++) {
		const char *text = knobs[i].initial;
		int rc;

		if (!text)
			continue;
		rc = value_set(&knobs[i], config, text, strlen(text), false, why, sizeof(why));
		assert(rc == 0);
		(void)rc;
	}
}

int config_set(struct config *config, const char *path, const char *const *values, uint32_t count,
               char *why, size_t why_bytes)
{
	const struct config_knob *knob = config_knob_find(path);

	assert(knob && count > 0 && (count == 1 || knob->type == CONFIG_ENDPOINTS));
	if (knob->type == CONFIG_ENDPOINTS)
		memset((char *)config + knob->offset, 0, sizeof(struct config_endpoints));
	for (uint32_t i = 0; i < count; i++) {
		int rc = value_set(knob, config, values[i], strlen(values[i]), false, why,
		                   why_bytes);
		if (rc < 0)
			return rc;
	}
	config->lines[knob - knobs] = CONFIG_LINE_COMMAND;
	return 0;
}

/* "optd.yaml:7: " of a line of the file, CONFIG_COMMAND, or nothing. */
static int refuse_line(const struct config *config, uint32_t line, char *why, size_t why_bytes,
                       const char *format, va_list arguments)
{
	int used = 0;

	if (line == CONFIG_LINE_COMMAND)
		used = snprintf(why, why_bytes, CONFIG_COMMAND);
	else if (line != CONFIG_LINE_DEFAULT && config->file)
		used = snprintf(why, why_bytes, "%s:%u: ", config->file, line);
	if ((size_t)used < why_bytes)
		vsnprintf(why + used, why_bytes - (size_t)used, format, arguments);
	return OPTD_INVALID;
}

/* An error of several knobs, blamed on the one at path. */
__attribute__((format(printf, 5, 6))) static int refuse(const struct config *config,
                                                        const char *path, char *why,
                                                        size_t why_bytes, const char *format, ...)
{
	uint32_t line = config->lines[config_knob_find(path) - knobs];
	va_list arguments;
	int rc;

	va_start(arguments, format);
	rc = refuse_line(config, line, why, why_bytes, format, arguments);
	va_end(arguments);
	return rc;
}

__attribute__((format(printf, 5, 6))) static int refuse_model(const struct config *config,
                                                              const struct config_model *model,
                                                              char *why, size_t why_bytes,
                                                              const char *format, ...)
{
	va_list arguments;
	int rc;

	va_start(arguments, format);
	rc = refuse_line(config, model->line, why, why_bytes, format, arguments);
	va_end(arguments);
	return rc;
}

static bool same_fixed_port(const char *a, const char *b)
{
	char left[LIMIT_ENDPOINT_BYTES + 1], right[LIMIT_ENDPOINT_BYTES + 1];

	endpoint_lane(a, 0, left);
	endpoint_lane(b, 0, right);
	return strcmp(left, right) == 0 && left[strlen(left) - 1] != '*';
}

static int finish_listen(const struct config *config, char *why, size_t why_bytes)
{
	const struct config_endpoints *listen = &config->listen;

	for (uint32_t i = 0; i < listen->count; i++) {
		if (!config->insecure && !endpoint_loopback(listen->text[i]))
			return refuse(
				config, "listen", why, why_bytes,
				"listen: %s can be reached from other machines, and there are no keys "
				"yet: anybody could read, change and drop models; listen on loopback "
				"(tcp://127.0.0.1:16783) or ipc, or set security: {insecure: true}",
				listen->text[i]);
		for (uint32_t j = 0; j < i; j++) {
			if (same_fixed_port(listen->text[i], listen->text[j]))
				return refuse(
					config, "listen", why, why_bytes,
					"listen: %s is given twice; each lane needs an endpoint of its "
					"own",
					listen->text[i]);
		}
	}
	return 0;
}

static int finish_lanes(struct config *config, char *why, size_t why_bytes)
{
	uint32_t count = config->listen.count;

	if (config->lanes == 0)
		config->lanes = count;
	if (config->lanes < count)
		return refuse(
			config, "lanes", why, why_bytes,
			"lanes: %u, but listen names %u endpoints; a lane listens on one: take lanes: "
			"%u or fewer endpoints",
			config->lanes, count, count);
	if (config->advertise.count != 0 && config->advertise.count != config->lanes)
		return refuse(
			config, "advertise", why, why_bytes,
			"advertise: %u endpoint%s for %u lane%s; give one for each lane, or none",
			config->advertise.count, config->advertise.count == 1 ? "" : "s",
			config->lanes, config->lanes == 1 ? "" : "s");
	return 0;
}

static int finish_window(const struct config *config, char *why, size_t why_bytes)
{
	char window[VALUE_TEXT_BYTES], message[VALUE_TEXT_BYTES];

	if (config->window_bytes / 2 >= config->message_bytes)
		return 0;
	value_bytes_text(config->window_bytes, window);
	value_bytes_text(config->message_bytes, message);
	return refuse(
		config, "limits.window", why, why_bytes,
		"limits.window: %s holds less than two messages of %s (limits.message); raise "
		"limits.window or lower limits.message",
		window, message);
}

static int finish_models(const struct config *config, char *why, size_t why_bytes)
{
	char reason[CONFIG_WHY_BYTES];

	if (config->model_count > config->models_max)
		return refuse_model(config, &config->models[config->models_max], why, why_bytes,
		                    "models: %u models are configured and limits.models allows %u",
		                    config->model_count, config->models_max);
	for (uint32_t i = 0; i < config->model_count; i++) {
		const struct config_model *model = &config->models[i];

		if (settings_check_finite(model->mode, model->nonfinite, model->loss_scale.given, reason,
		                          sizeof(reason)) < 0)
			return refuse_model(config, model, why, why_bytes, "model %s: %s", model->name, reason);
		if (model->workers > config->workers_max)
			return refuse_model(config, model, why, why_bytes,
			                    "model %s: workers: %u, and limits.workers allows %u",
			                    model->name, model->workers, config->workers_max);
		if (clipping_check(&model->clip, model->mode, reason, sizeof(reason)) < 0)
			return refuse_model(config, model, why, why_bytes, "model %s: %s", model->name, reason);
	}
	return 0;
}

static int finish_data_dir(struct config *config, char *why, size_t why_bytes)
{
	char reason[CONFIG_WHY_BYTES];

	config->data_dir_reason = "data_dir";
	if (config_expand_home(config->data_dir, reason, sizeof(reason)) < 0)
		return refuse(config, "data_dir", why, why_bytes, "data_dir: %s", reason);
	return 0;
}

int config_finish(struct config *config, char *why, size_t why_bytes)
{
	int rc = finish_listen(config, why, why_bytes);

	if (rc == 0)
		rc = finish_lanes(config, why, why_bytes);
	if (rc == 0)
		rc = finish_window(config, why, why_bytes);
	if (rc == 0)
		rc = finish_models(config, why, why_bytes);
	if (rc < 0)
		return rc;
	if (config->data_dir[0] != '\0')
		return finish_data_dir(config, why, why_bytes);
	return config_data_dir(config->data_dir, &config->data_dir_reason, why, why_bytes);
}

void config_lane_endpoint(const struct config *config, uint32_t lane,
                          char out[LIMIT_ENDPOINT_BYTES + 1])
{
	const struct config_endpoints *listen = &config->listen;

	assert(lane < config->lanes);
	if (lane < listen->count)
		endpoint_lane(listen->text[lane], 0, out);
	else
		endpoint_lane(listen->text[0], lane - listen->count + 1, out);
}

bool config_loopback(const struct config *config)
{
	for (uint32_t i = 0; i < config->listen.count; i++) {
		if (!endpoint_loopback(config->listen.text[i]))
			return false;
	}
	return true;
}

/* Reads at most `limit` bytes: the file may be a pipe, which has no size. */
static int read_all(int fd, char *bytes, size_t limit, size_t *size)
{
	*size = 0;
	while (*size < limit) {
		ssize_t got = read(fd, bytes + *size, limit - *size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		*size += (size_t)got;
	}
	return 0;
}

int config_read(struct config *config, const char *file, char *why, size_t why_bytes)
{
	char *bytes = malloc(LIMIT_CONFIG_BYTES + 1);
	size_t size = 0;
	int fd = -1, rc = 0;

	if (!bytes) {
		snprintf(why, why_bytes, "%s: no memory to read it", file);
		return OPTD_INVALID;
	}
	fd = open(file, O_RDONLY | O_CLOEXEC);
	/* One byte more than allowed shows that a file is too long. */
	if (fd < 0 || read_all(fd, bytes, LIMIT_CONFIG_BYTES + 1, &size) < 0) {
		rc = errno == EACCES ? OPTD_DENIED : OPTD_INVALID;
		snprintf(why, why_bytes, "%s: cannot be read: %s", file, strerror(errno));
	} else {
		rc = config_parse(config, file, bytes, size, why, why_bytes);
	}
	if (fd >= 0)
		close(fd);
	free(bytes);
	return rc;
}
