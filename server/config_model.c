/*
 * Config models: the list of settings for models by name.
 *
 * Most of an entry are knobs like any other.  The optimizer is not: which keys
 * it has depends on its rule, so it is read by the table of rules in optim/.
 */
#include <string.h>

#include "server/config_value.h"
#include "server/config_yaml.h"
#include "server/core/settings.h"

#define SECTION "models."

const yaml_node_t *reader_find(struct reader *reader, const yaml_node_t *mapping, const char *name)
{
	for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
	     pair < mapping->data.mapping.pairs.top; pair++) {
		if (strcmp(node_text(reader_node(reader, pair->key)), name) == 0)
			return reader_node(reader, pair->value);
	}
	return NULL;
}

bool node_word(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE && !node_null(node) &&
	       strlen(node_text(node)) == node->data.scalar.length;
}

/* The rule and match, with all defaults. */
static int begin_optimizer(struct reader *reader, struct optim *optim, const yaml_node_t *name,
                           const yaml_node_t *match)
{
	char reason[CONFIG_WHY_BYTES];
	const struct optim_rule *rule;
	int which = OPTIM_TORCH2;

	if (!node_word(name))
		return reader_refuse(reader, reader_line(name),
		                     "models.optimizer: the name must be a word");
	rule = optim_find(node_text(name));
	if (!rule) {
		optim_unknown(node_text(name), reason, sizeof(reason));
		return reader_refuse(reader, reader_line(name), "models.optimizer: %s", reason);
	}
	if (match)
		which = node_word(match) ? optim_match_find(node_text(match)) : -1;
	if (which < 0)
		return reader_refuse(
			reader, reader_line(match),
			"models.optimizer: match is not known; allowed: one of torch2, "
			"torch1, numpy");
	if (optim_init(optim, rule, (enum optim_match)which, reason, sizeof(reason)) < 0)
		return reader_refuse(reader, reader_line(match ? match : name),
		                     "models.optimizer: %s", reason);
	return 0;
}

/* The hyper-parameter of this name, or NULL. */
static const struct optim_hyper *find_hyper(const struct optim *optim, const char *name)
{
	for (uint32_t i = 0; i < optim_hyper_count(optim->rule); i++) {
		if (strcmp(optim_hyper(optim->rule, i)->name, name) == 0)
			return optim_hyper(optim->rule, i);
	}
	return NULL;
}

bool node_real(const yaml_node_t *node, bool flag, double *out)
{
	return node->type == YAML_SCALAR_NODE && !node_quoted(node) &&
	       value_real(node_text(node), node->data.scalar.length, flag, out);
}

static const char *allowed_of(const struct optim_hyper *hyper)
{
	if (hyper->kind == OPTIM_FLAG)
		return "true or false (or 1 or 0)";
	if (hyper->count == 1)
		return "a number, such as 0.001 or 1e-3";
	return hyper->count == 2 ? "a list of two numbers, such as [0.9, 0.999]" : "a list of three numbers";
}

/* What PyTorch says in words, and a number says here. */
static const struct {
	const char *rule, *hyper, *hint;
} words[] = {
	{ "muon", "adjust_lr_fn", "; 0 is PyTorch's \"original\", 1 its \"match_rms_adamw\"" },
	{ "adafactor", "eps",
	  "; PyTorch's null in the first place is the float32 epsilon: write [1.1920929e-7, 0.001], or leave eps out" },
	{ "adafactor_paper", "eps", "; write [1e-30, 0.001]" },
};

static const char *word_hint(const struct optim *optim, const struct optim_hyper *hyper)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i].rule, optim_rule_name(optim->rule)) == 0 &&
		    strcmp(words[i].hyper, hyper->name) == 0)
			return words[i].hint;
	}
	return "";
}

int reader_hyper(struct reader *reader, struct optim *optim, const yaml_node_t *key,
                 const yaml_node_t *value)
{
	const struct optim_hyper *hyper = find_hyper(optim, node_text(key));
	bool flag = hyper && hyper->kind == OPTIM_FLAG, valid = true;
	char reason[CONFIG_WHY_BYTES];
	double values[OPTIM_VALUES_MAX] = { 0 };
	uint32_t count = 1;

	if (hyper && value->type == YAML_SEQUENCE_NODE) {
		const yaml_node_item_t *items = value->data.sequence.items.start;

		count = (uint32_t)(value->data.sequence.items.top - items);
		for (uint32_t i = 0; i < count && i < OPTIM_VALUES_MAX; i++)
			valid = valid && node_real(reader_node(reader, items[i]), flag, &values[i]);
	} else if (hyper) {
		valid = node_real(value, flag, &values[0]);
	}
	if (!valid)
		return reader_refuse(reader, reader_line(key), "models.optimizer: %.64s: \"%.64s\" is not %s%s",
		                     node_text(key), value->type == YAML_SCALAR_NODE ? node_text(value) : "[...]",
		                     allowed_of(hyper), word_hint(optim, hyper));
	/* An unknown name gets its error, with the nearest one, here too. */
	if (optim_set(optim, node_text(key), values, count, reason, sizeof(reason)) < 0)
		return reader_refuse(reader, reader_line(key), "models.optimizer: %s", reason);
	return 0;
}

static int read_hypers(struct reader *reader, struct optim *optim, const yaml_node_t *mapping)
{
	char reason[CONFIG_WHY_BYTES];
	int rc = 0;

	for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
	     rc == 0 && pair < mapping->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = reader_node(reader, pair->key);

		if (strcmp(node_text(key), "schedule") == 0)
			rc = reader_schedule(reader, reader_node(reader, pair->value), &optim->schedule);
		else if (strcmp(node_text(key), "name") != 0 && strcmp(node_text(key), "match") != 0 &&
		         strcmp(node_text(key), "groups") != 0)
			rc = reader_hyper(reader, optim, key, reader_node(reader, pair->value));
	}
	if (rc == 0 && optim_settle(optim, reason, sizeof(reason)) < 0)
		rc = reader_refuse(reader, reader_line(mapping), "models.optimizer: %s", reason);
	return rc;
}

static int read_optimizer(struct reader *reader, struct config_model *model, const yaml_node_t *key,
                          const yaml_node_t *value)
{
	struct optim optim;
	const yaml_node_t *name = value, *groups = NULL;
	char reason[CONFIG_WHY_BYTES];
	int rc = 0;

	if (node_null(value) || value->type == YAML_SEQUENCE_NODE)
		return reader_refuse(
			reader, reader_line(key),
			"models.optimizer: must be a name, or {name: adam, lr: 0.001, ...}");
	if (value->type == YAML_SCALAR_NODE) {
		rc = begin_optimizer(reader, &optim, value, NULL);
	} else {
		rc = reader_keys(reader, value);
		name = rc == 0 ? reader_find(reader, value, "name") : NULL;
		if (rc == 0 && !name)
			rc = reader_refuse(
				reader, reader_line(value),
				"models.optimizer: has no name; write {name: adam, ...}");
		if (rc == 0)
			rc = begin_optimizer(reader, &optim, name, reader_find(reader, value, "match"));
		if (rc == 0)
			rc = read_hypers(reader, &optim, value);
		groups = rc == 0 ? reader_find(reader, value, "groups") : NULL;
	}
	/* Last, wherever they stand: they begin with what the model has. */
	if (rc == 0 && groups != NULL)
		rc = reader_groups(reader, groups, &optim, &model->groups);
	if (rc < 0)
		return rc;
	model->optimizer = optim;
	model->optimizer_given = true;
	const struct model_settings settings = { .optim = optim, .groups = model->groups };
	if (settings_fit(&settings, reason, sizeof(reason)) < 0)
		rc = reader_refuse(reader, reader_line(key), "models.optimizer: %s", reason);
	return rc;
}

/* Where the entry says it all: what it leaves open is looked at when the model is made. */
static int check_answers(struct reader *reader, const struct config_model *model, const yaml_node_t *mapping)
{
	const struct model_settings settings = {
		.optim = model->optimizer, .groups = model->groups, .mode = model->mode, .workers = model->workers,
		.clip = model->clip
	};
	char reason[200];

	if (!model->optimizer_given || settings_answers(&settings, reason, sizeof(reason)) == 0)
		return 0;
	return reader_refuse(reader, reader_line(mapping), "models.optimizer: %s", reason);
}

/* The average may stand before the optimizer or behind it. */
static int check_fit(struct reader *reader, const struct config_model *model, const yaml_node_t *mapping)
{
	const struct model_settings settings = {
		.optim = model->optimizer, .groups = model->groups, .average = model->average };
	char reason[CONFIG_WHY_BYTES];

	if (settings_fit(&settings, reason, sizeof(reason)) < 0)
		return reader_refuse(reader, reader_line(mapping), "models: %s", reason);
	return 0;
}

static int read_model(struct reader *reader, struct config_model *model, const yaml_node_t *mapping)
{
	int rc = reader_keys(reader, mapping);

	for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
	     rc == 0 && pair < mapping->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = reader_node(reader, pair->key);
		const yaml_node_t *value = reader_node(reader, pair->value);
		const struct config_knob *knob;
		char path[96];

		snprintf(path, sizeof(path), SECTION "%.64s", node_text(key));
		knob = config_knob_find(path);
		if (!knob)
			rc = reader_unknown(reader, key, SECTION);
		else if (knob->type == CONFIG_LOSS_SCALE)
			rc = reader_loss_scale(reader, key, value, &model->loss_scale);
		else if (knob->type == CONFIG_OPTIMIZER)
			rc = read_optimizer(reader, model, key, value);
		else if (knob->type == CONFIG_AVERAGE)
			rc = reader_average(reader, &model->average, key, value);
		else
			rc = reader_knob(reader, knob, model, key, value);
	}
	if (rc == 0 && model->optimizer_given && average_is_kept(&model->average))
		rc = check_fit(reader, model, mapping);
	if (rc == 0 && model->name[0] == '\0')
		rc = reader_refuse(reader, reader_line(mapping), "models: this entry has no name");
	return rc == 0 ? check_answers(reader, model, mapping) : rc;
}

int reader_models(struct reader *reader, const yaml_node_t *list)
{
	struct config *config = reader->config;

	if (list->type != YAML_SEQUENCE_NODE)
		return reader_refuse(reader, reader_line(list),
		                     "models: is a list; write \"- name: NAME\" for each");
	for (const yaml_node_item_t *item = list->data.sequence.items.start;
	     item < list->data.sequence.items.top; item++) {
		const yaml_node_t *entry = reader_node(reader, *item);
		struct config_model *model = &config->models[config->model_count];
		int rc;

		if (entry->type != YAML_MAPPING_NODE)
			return reader_refuse(reader, reader_line(entry),
			                     "models: an entry begins with \"- name: NAME\"");
		if (config->model_count == LIMIT_MODELS)
			return reader_refuse(reader, reader_line(entry),
			                     "models: more than %u entries", LIMIT_MODELS);
		memset(model, 0, sizeof(*model));
		model->line = reader_line(entry);
		rc = read_model(reader, model, entry);
		if (rc < 0)
			return rc;
		for (uint32_t i = 0; i < config->model_count; i++) {
			if (strcmp(config->models[i].name, model->name) == 0)
				return reader_refuse(
					reader, model->line,
					"models: \"%.64s\" is given twice; first on line %u",
					model->name, config->models[i].line);
		}
		config->model_count++;
	}
	return 0;
}
