/*
 * optctl: looks at and manages running daemons.
 */
#include "client/optctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/link.h"
#include "proto/limits.h"
#include "proto/nearest.h"

#define DEFAULT_SERVER "tcp://127.0.0.1:16783"
/* Looking should fail soon; saving and exporting may take long. */
#define QUICK_MS 5000u
#define LONG_MS 600000u
/* Where HELLO is not answered within this time, a look at the addresses tells
 * whether waiting is of use. */
#define FIRST_MS 200u

static const char usage[] =
	"usage: optctl [--server ENDPOINTS] [--timeout SECONDS] COMMAND ...\n"
	"\n"
	"  status [--json] [MODEL]          models, steps, workers, who is missing\n"
	"  export [--average] MODEL FILE.safetensors\n"
	"                                   the weights alone, for others to use\n"
	"  save [MODEL]                     a checkpoint now, of one model or of all;\n"
	"                                   returns when it is on disk\n"
	"  set [--group PATTERN] [--from VERSION] MODEL NAME=VALUE ...\n"
	"                                   hyper-parameters of a model that runs, from\n"
	"                                   an update on: set demo lr=0.01 betas=0.9,0.99\n"
	"  drop [--yes] MODEL               forget a model and its checkpoint, for good\n"
	"  rules [NAME]                     the optimizers and schedules, or one with its\n"
	"                                   formula and settings; asks no server\n"
	"\n"
	"  -s, --server ENDPOINTS  the daemons, in the order in which workers name them,\n"
	"                          with commas (default: $OPTD_SERVER, else\n"
	"                          " DEFAULT_SERVER ")\n"
	"  -t, --timeout SECONDS   how long to wait for an answer (default: 5; 600 for\n"
	"                          save and export once the server is there); where\n"
	"                          nobody listens, it fails at once\n"
	"      --json              status as one JSON document, for programs\n"
	"  -y, --yes               drop without asking\n"
	"      --average           export the average of the weights that the model keeps\n"
	"  -g, --group PATTERN     set: a parameter group, by the pattern it was made\n"
	"                          with (default: what is in no group)\n"
	"  -f, --from VERSION      set: the block versions from which on it holds\n"
	"                          (default: the lowest that no block has passed)\n"
	"      --markdown          rules as a table for a page\n"
	"      --version           print version, exit\n"
	"  -h, --help              print this, exit\n"
	"\n"
	"Exit status: 0 done, 1 failed, 64 usage, 69 a server does not answer.\n"
	"Manual: optctl(1).\n";

int optctl_fail(int status, const char *text)
{
	fprintf(stderr, "optctl: ");
	optctl_text(stderr, text);
	fprintf(stderr, "\n");
	return status == OPTD_UNREACHABLE ? EXIT_NO_SERVER : EXIT_FAILED;
}

static int misused(const char *what, const char *argument)
{
	fprintf(stderr, "optctl: %s%s", what, argument ? ": " : "");
	optctl_text(stderr, argument ? argument : "");
	fprintf(stderr, "; try optctl --help\n");
	return EXIT_BAD_USAGE;
}

/* ---- numbers ------------------------------------------------------------ */

const char *optctl_count(uint64_t count, char *text)
{
	char digits[OPTCTL_NUMBER_BYTES];
	int n = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)count);
	char *at = text;
	for (int i = 0; i < n; i++) {
		if (i > 0 && (n - i) % 3 == 0)
			*at++ = ',';
		*at++ = digits[i];
	}
	*at = '\0';
	return text;
}

const char *optctl_bytes(uint64_t bytes, char *text)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	double size = (double)bytes;
	size_t unit = 0;
	while (size >= 1024 && unit + 1 < sizeof(units) / sizeof(*units)) {
		size /= 1024;
		unit++;
	}
	snprintf(text, OPTCTL_NUMBER_BYTES, unit == 0 || size >= 100 ? "%.0f %s" : "%.1f %s", size,
	         units[unit]);
	return text;
}

/* ---- commands ------------------------------------------------------------ */

static int command_status(struct optctl *ctl, char **arguments)
{
	return optctl_status(ctl, arguments[0]);
}

static int command_export(struct optctl *ctl, char **arguments)
{
	return optctl_export(ctl, arguments[0], arguments[1]);
}

void optctl_likely_try(struct optctl_likely *likely, const char *name)
{
	nearest_try(&likely->nearest, name);
	if (likely->nearest.best != name)
		return;
	snprintf(likely->best, sizeof(likely->best), "%s", name);
	likely->nearest.best = likely->best;
}

static void try_row(void *user, const optd_status_row *row)
{
	optctl_likely_try(user, row->model);
}

/* A command on a model failed; of a name that no server knows, the nearest one is told. */
static int model_failed(const struct optctl *ctl, int status, const char *model)
{
	struct optctl_likely likely = {.nearest = nearest_of(model)};
	char text[4096];
	snprintf(text, sizeof(text), "%s", optd_error(ctl->client));
	size_t end = strlen(text);
	if (status == OPTD_NO_MODEL && optd_get_status(ctl->client, try_row, &likely) == 0 &&
	    likely.best[0] && likely.nearest.distance > 0)
		snprintf(text + end, sizeof(text) - end, "; the nearest is '%s'", likely.best);
	return optctl_fail(status, text);
}

static void print_done(const char *what, const char *model)
{
	printf("%s '", what);
	optctl_text(stdout, model);
	printf("'\n");
}

static void count_row(void *user, const optd_status_row *row)
{
	(void)row;
	++*(size_t *)user;
}

static int command_save(struct optctl *ctl, char **arguments)
{
	size_t rows = 0;
	int rc = arguments[0] ? 0 : optd_get_status(ctl->client, count_row, &rows);
	if (rc < 0)
		return optctl_fail(rc, optd_error(ctl->client));
	if (!arguments[0] && rows == 0) {
		printf("no models on %s: there is nothing to save\n", ctl->server);
		return EXIT_DONE;
	}
	rc = optd_save(ctl->client, arguments[0]);
	if (rc < 0)
		return model_failed(ctl, rc, arguments[0] ? arguments[0] : "");
	if (arguments[0])
		print_done("saved", arguments[0]);
	else
		printf("saved all models\n");
	return EXIT_DONE;
}

/* Whether a person at a terminal says yes. */
static int asked(const char *model, const char *server)
{
	char answer[16];
	printf("Forget model '");
	optctl_text(stdout, model);
	printf("' on %s and its checkpoint, for good? [y/N] ", server);
	fflush(stdout);
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int command_drop(struct optctl *ctl, char **arguments)
{
	if (!ctl->yes && !isatty(STDIN_FILENO))
		return misused("drop asks on a terminal, and there is none; say --yes", NULL);
	if (!ctl->yes && !asked(arguments[0], ctl->server)) {
		printf("nothing was dropped\n");
		return EXIT_FAILED;
	}
	int rc = optd_drop(ctl->client, arguments[0]);
	if (rc < 0)
		return model_failed(ctl, rc, arguments[0]);
	print_done("dropped", arguments[0]);
	return EXIT_DONE;
}

static int command_set(struct optctl *ctl, char **arguments)
{
	return optctl_set(ctl, arguments[0], model_failed);
}

static int command_rules(struct optctl *ctl, char **arguments)
{
	return optctl_rules(ctl, arguments[0]);
}

static const struct command {
	const char *name;
	int least, most; /* arguments */
	uint32_t timeout_ms; /* 0: it asks no server */
	int (*run)(struct optctl *ctl, char **arguments);
	int (*parse)(struct optctl *ctl, char **arguments); /* before a server is asked; NULL: nothing to */
	const char *needs[2]; /* the least, by name */
} commands[] = {
	{"status", 0, 1, QUICK_MS, command_status, NULL, {NULL}},
	{"export", 2, 2, LONG_MS, command_export, NULL, {"MODEL", "FILE.safetensors"}},
	{"save", 0, 1, LONG_MS, command_save, NULL, {NULL}},
	{"set", 2, 33, QUICK_MS, command_set, optctl_set_parse, {"MODEL", "NAME=VALUE"}},
	{"drop", 1, 1, QUICK_MS, command_drop, NULL, {"MODEL"}},
	{"rules", 0, 1, 0, command_rules, NULL, {NULL}},
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* ---- arguments ------------------------------------------------------------ */

static int parse_timeout(const char *text, uint32_t *out)
{
	char *end;
	errno = 0;
	double seconds = strtod(text, &end);
	if (errno != 0 || end == text || *end != '\0' || !(seconds >= 0.001 && seconds <= 86400))
		return misused("--timeout takes 0.001 to 86400 seconds, not", text);
	*out = (uint32_t)(seconds * 1000);
	return EXIT_DONE;
}

static int parse_from(const char *text, struct optctl *ctl)
{
	char *end;
	errno = 0;
	ctl->from = strtoull(text, &end, 10);
	ctl->has_from = 1;
	if (*text < '0' || *text > '9' || errno != 0 || *end != '\0' || ctl->from > LIMIT_COUNTER)
		return misused("--from takes a version from 0 to 2^62, not", text);
	return EXIT_DONE;
}

static const struct option option_table[] = {
	{"server", required_argument, NULL, 's'}, {"timeout", required_argument, NULL, 't'},
	{"json", no_argument, NULL, 'j'},         {"yes", no_argument, NULL, 'y'},
	{"version", no_argument, NULL, 'v'},      {"help", no_argument, NULL, 'h'},
	{"markdown", no_argument, NULL, 'm'},     {"average", no_argument, NULL, 'a'},
	{"group", required_argument, NULL, 'g'},
	{"from", required_argument, NULL, 'f'},
	{NULL, 0, NULL, 0},
};
/* Of a word that is none of what there is. */
static int misspelt(const char *what, const char *word, const char *dashes, const struct nearest *nearest)
{
	char text[2 * LIMIT_NAME_BYTES];
	if (!nearest->best)
		snprintf(text, sizeof(text), "%s%.500s", dashes, word);
	else
		snprintf(text, sizeof(text), "%s%.400s; the nearest is %s%s", dashes, word, dashes, nearest->best);
	return misused(what, text);
}

/* One that begins with "--": without its value it is known, or may be meant to be another. */
static int misused_long(const char *given)
{
	char name[64], text[72];
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(given + 2, "="), given + 2);
	struct nearest nearest = nearest_of(name);
	for (const struct option *option = option_table; option->name; option++)
		nearest_try(&nearest, option->name);
	if (nearest.distance > 0)
		return misspelt("there is no such option", name, "--", &nearest);
	snprintf(text, sizeof(text), "--%s", name);
	return misused("the option takes no value", text);
}

/* The option that getopt refused; it moves operands behind options, so that its index
 * tells where. */
static int misused_option(int argc, char **argv)
{
	static const char *const valued[] = {"-s", "-t", "-g", "-f", "--server", "--timeout", "--group", "--from"};
	const char *given = optind > 0 && optind <= argc ? argv[optind - 1] : "";
	for (size_t i = 0; i < sizeof(valued) / sizeof(*valued); i++)
		if (strcmp(given, valued[i]) == 0)
			return misused("a value is missing after", given);
	if (strncmp(given, "--", 2) == 0)
		return misused_long(given);
	const char letter[] = {'-', (char)optopt, '\0'};
	return misused("there is no such option", letter);
}

/* Returns -1 to go on, or an exit code. */
static int parse_options(int argc, char **argv, struct optctl *ctl)
{

	int option;
	/* One sentence about a mistake, and it is ours. */
	opterr = 0;
	while ((option = getopt_long(argc, argv, "s:t:g:f:yh", option_table, NULL)) != -1) {
		switch (option) {
		case 's':
			ctl->server = optarg;
			break;
		case 't':
			if (parse_timeout(optarg, &ctl->timeout_ms) != EXIT_DONE)
				return EXIT_BAD_USAGE;
			break;
		case 'j':
			ctl->json = 1;
			break;
		case 'y':
			ctl->yes = 1;
			break;
		case 'g':
			if (!*optarg)
				return misused("--group takes a pattern, or is left out for the model's own optimizer; not", "''");
			ctl->group = optarg;
			break;
		case 'f':
			if (parse_from(optarg, ctl) != EXIT_DONE)
				return EXIT_BAD_USAGE;
			break;
		case 'm':
			ctl->markdown = 1;
			break;
		case 'a':
			ctl->average = 1;
			break;
		case 'v':
			printf("optctl %s\n", optd_version());
			return EXIT_DONE;
		case 'h':
			fputs(usage, stdout);
			return EXIT_DONE;
		default:
			return misused_option(argc, argv);
		}
	}
	return -1;
}

/* Whether at one of the endpoints nobody listens. */
static int nobody_listens(const char *endpoints)
{
	char why[256];
	int error = 0;
	char *copy = strdup(endpoints);
	char *rest = copy;
	for (char *one = copy ? strtok_r(copy, ", ", &rest) : NULL; one && error == 0;
	     one = strtok_r(NULL, ", ", &rest)) {
		error = link_diagnose(one, LINK_DIAGNOSE_MS, why, sizeof(why));
		/* Nothing was heard: that may yet come. */
		if (error == ETIMEDOUT)
			error = 0;
	}
	free(copy);
	return error != 0;
}

/* Workers wait for a daemon that is to come; a person who looks wants to know. */
int optctl_connect(struct optctl *ctl, const char *endpoints)
{
	uint32_t whole_ms = ctl->timeout_ms ? ctl->timeout_ms : QUICK_MS;
	optd_options options = {.rank = -1, .timeout_ms = whole_ms > FIRST_MS ? FIRST_MS : whole_ms};
	int rc = optd_connect(endpoints, &options, &ctl->client);
	if (rc != OPTD_UNREACHABLE || whole_ms <= FIRST_MS || nobody_listens(endpoints))
		return rc;
	options.timeout_ms = whole_ms - FIRST_MS;
	return optd_connect(endpoints, &options, &ctl->client);
}

static int misspelt_command(const char *given)
{
	struct nearest nearest = nearest_of(given);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		nearest_try(&nearest, commands[i].name);
	return misspelt("there is no such command", given, "", &nearest);
}

static int missing(const char *what, const char *after)
{
	char text[64];
	snprintf(text, sizeof(text), "%s is missing after", what);
	return misused(text, after);
}

static int written(int code)
{
	if (fflush(stdout) == 0)
		return code;
	fprintf(stderr, "optctl: writing failed: %s\n", strerror(errno));
	return EXIT_FAILED;
}

static int run(struct optctl *ctl, const struct command *command, char **arguments)
{
	if (command->timeout_ms == 0)
		return written(command->run(ctl, arguments));
	int rc = optctl_connect(ctl, ctl->server);
	if (rc == OPTD_UNREACHABLE && command->run == command_status && strchr(ctl->server, ','))
		return written(optctl_status_apart(ctl, arguments[0]));
	if (rc < 0) {
		int failed = optctl_fail(rc, optd_error(NULL));
		return rc == OPTD_INVALID ? EXIT_BAD_USAGE : failed;
	}
	optd_set_timeout(ctl->client, ctl->timeout_ms ? ctl->timeout_ms : command->timeout_ms);
	int code = command->run(ctl, arguments);
	optd_close(&ctl->client);
	return written(code);
}

int main(int argc, char **argv)
{
	struct optctl ctl = {.server = getenv("OPTD_SERVER")};
	if (!ctl.server || !*ctl.server)
		ctl.server = DEFAULT_SERVER;
	int code = parse_options(argc, argv, &ctl);
	if (code >= 0)
		return code;
	if (optind == argc) {
		fputs(usage, stderr);
		return EXIT_BAD_USAGE;
	}
	const struct command *command = find_command(argv[optind]);
	int given = argc - optind - 1;
	if (!command)
		return misspelt_command(argv[optind]);
	if (given < command->least)
		return missing(command->needs[given], argv[argc - 1]);
	if (given > command->most)
		return misused("there are too many arguments after", command->name);
	if (ctl.json && command->run != command_status)
		return misused("--json is for status, not for", command->name);
	if (ctl.yes && command->run != command_drop)
		return misused("--yes is for drop, not for", command->name);
	if (ctl.markdown && command->run != command_rules)
		return misused("--markdown is for rules, not for", command->name);
	if (ctl.average && command->run != command_export)
		return misused("--average is for export, not for", command->name);
	if ((ctl.group || ctl.has_from) && command->run != command_set)
		return misused("--group and --from are for set, not for", command->name);
	char **arguments = &argv[optind + 1];
	code = command->parse ? command->parse(&ctl, arguments) : EXIT_DONE;
	return code == EXIT_DONE ? run(&ctl, command, arguments) : code;
}
