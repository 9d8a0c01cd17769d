/*
 * Config loss_scale: a scale that the server keeps for a model.
 *
 *     loss_scale: {init_scale: 65536, growth_factor: 2, backoff_factor: 0.5, growth_interval: 2000}
 *
 * What is left out has PyTorch's default; {} is all of them.
 */
#include <string.h>

#include "server/config_value.h"
#include "server/config_yaml.h"
#include "server/core/scaler.h"

static int refuse(struct reader *reader, const yaml_node_t *node, const char *reason)
{
	return reader_refuse(reader, reader_line(node), "models.%s", reason);
}

/* The setting of this name, or NULL. */
static double *find_setting(struct msg_loss_scale *settings, double *interval, const char *name)
{
	if (strcmp(name, "init_scale") == 0)
		return &settings->init_scale;
	if (strcmp(name, "growth_factor") == 0)
		return &settings->growth_factor;
	if (strcmp(name, "backoff_factor") == 0)
		return &settings->backoff_factor;
	return strcmp(name, "growth_interval") == 0 ? interval : NULL;
}

static int read_setting(struct reader *reader, struct msg_loss_scale *settings, double *interval,
                        const yaml_node_t *key, const yaml_node_t *value)
{
	double *out = find_setting(settings, interval, node_text(key));

	if (!out)
		return reader_refuse(reader, reader_line(key),
		                     "models.loss_scale: \"%.64s\" is not known; it has init_scale, growth_factor, "
		                     "backoff_factor and growth_interval", node_text(key));
	/* Not 0 either, which would be taken for nothing given. */
	if (!node_real(value, false, out) || *out == 0)
		return reader_refuse(reader, reader_line(key), "models.loss_scale: %.64s is not a number above 0",
		                     node_text(key));
	return 0;
}

int reader_loss_scale(struct reader *reader, const yaml_node_t *key, const yaml_node_t *value,
                      struct msg_loss_scale *out)
{
	struct msg_loss_scale settings = { .given = true };
	char reason[CONFIG_WHY_BYTES];
	double interval = 0;
	int rc;

	if (value->type != YAML_MAPPING_NODE)
		return refuse(reader, key, "loss_scale: must be {init_scale: 65536, growth_interval: 2000, ...}, or {} "
		              "for the defaults");
	rc = reader_keys(reader, value);
	for (const yaml_node_pair_t *pair = value->data.mapping.pairs.start;
	     rc == 0 && pair < value->data.mapping.pairs.top; pair++)
		rc = read_setting(reader, &settings, &interval, reader_node(reader, pair->key),
		                  reader_node(reader, pair->value));
	if (rc < 0)
		return rc;
	if (interval != 0 && !(interval >= 1 && interval <= LIMIT_GROWTH_INTERVAL && interval == (double)(uint32_t)interval))
		return refuse(reader, key, "loss_scale: growth_interval must be a whole number from 1 to 2147483647");
	settings.growth_interval = (uint32_t)interval;
	if (scaler_settings(&settings, reason, sizeof(reason)) < 0)
		return refuse(reader, key, reason);
	*out = settings;
	return 0;
}

void config_print_loss_scale(FILE *out, const struct msg_loss_scale *settings)
{
	char initial[VALUE_TEXT_BYTES], growth[VALUE_TEXT_BYTES], backoff[VALUE_TEXT_BYTES];

	value_real_text(settings->init_scale, initial);
	value_real_text(settings->growth_factor, growth);
	value_real_text(settings->backoff_factor, backoff);
	fprintf(out, "{init_scale: %s, growth_factor: %s, backoff_factor: %s, growth_interval: %u}", initial, growth,
	        backoff, settings->growth_interval);
}
