/*
 * Options: see options.h.
 *
 * What the command line sets goes through the same table of knobs as the file,
 * after it, so both have one range and one error text.
 */
#include "server/options.h"

#include <getopt.h>
#include <stdarg.h>
#include <string.h>

#include "proto/nearest.h"

static const char usage[] =
	"usage: optd [--config FILE] [OPTION]...\n"
	"\n"
	"A parameter server: holds models, applies the gradients that workers push, and\n"
	"serves fresh weights. Runs in the foreground until TERM or INT.\n"
	"\n"
	"  -c, --config FILE       read this YAML file (default: none, all defaults)\n"
	"      --check-config      check the configuration and its memory, exit\n"
	"      --print-config      print the configuration in effect as YAML, exit\n"
	"      --version           print version and instruction sets, exit\n"
	"  -h, --help              print this, exit\n"
	"\n"
	"In place of what the file says:\n"
	"      --listen ENDPOINT   where to listen; repeat it for further lanes, all of\n"
	"                          which each worker must reach\n"
	"                          (default: tcp://127.0.0.1:16783; port 0: any free one)\n"
	"      --lanes N           threads that serve (default: one for each endpoint)\n"
	"      --data-dir DIR      where checkpoints are kept\n"
	"      --log-level LEVEL   error, warn or info\n"
	"      --isa NAME          force the kernels' instruction set, for tests;\n"
	"                          the results are the same bits\n"
	"\n"
	"Exit status: 0 done, 64 usage, 70 internal error, 71 system error, 73 data\n"
	"directory in use, 74 input or output error, 77 no permission, 78 configuration.\n"
	"Manual: optd(8), optd.yaml(5).\n";

enum {
	OPTION_CHECK = 256,
	OPTION_PRINT,
	OPTION_VERSION,
	OPTION_LISTEN,
	OPTION_LANES,
	OPTION_DATA_DIR,
	OPTION_LOG_LEVEL,
	OPTION_ISA
};

static const struct option table[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "check-config", no_argument, NULL, OPTION_CHECK },
	{ "print-config", no_argument, NULL, OPTION_PRINT },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ "help", no_argument, NULL, 'h' },
	{ "listen", required_argument, NULL, OPTION_LISTEN },
	{ "lanes", required_argument, NULL, OPTION_LANES },
	{ "data-dir", required_argument, NULL, OPTION_DATA_DIR },
	{ "log-level", required_argument, NULL, OPTION_LOG_LEVEL },
	{ "isa", required_argument, NULL, OPTION_ISA },
	{ NULL, 0, NULL, 0 },
};

/* Flags that set a knob; one that may be repeated gathers its values. */
static const struct {
	int option;
	const char *flag, *path;
} setters[] = {
	{ OPTION_LISTEN, "--listen", "listen" },
	{ OPTION_LANES, "--lanes", "lanes" },
	{ OPTION_DATA_DIR, "--data-dir", "data_dir" },
	{ OPTION_LOG_LEVEL, "--log-level", "log.level" },
};

#define SETTER_COUNT (sizeof(setters) / sizeof(setters[0]))

/* The command line, taken apart. */
struct line {
	const char *file, *isa;
	bool check, print, version, help;
	const char *values[SETTER_COUNT][LIMIT_LANES];
	uint32_t counts[SETTER_COUNT];
};

__attribute__((format(printf, 2, 3))) static int misused(FILE *err, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("optd: ", err);
	vfprintf(err, format, arguments);
	fputs("; optd --help lists all options\n", err);
	va_end(arguments);
	return EXIT_USAGE;
}

static int take_setter(struct line *line, int option, const char *value, FILE *err)
{
	for (size_t i = 0; i < SETTER_COUNT; i++) {
		uint32_t max = setters[i].option == OPTION_LISTEN ? LIMIT_LANES : 1;

		if (setters[i].option != option)
			continue;
		if (line->counts[i] == max)
			return misused(err, "%s is given more than %u time%s", setters[i].flag, max,
			               max == 1 ? "" : "s");
		line->values[i][line->counts[i]++] = value;
	}
	return 0;
}

/* What getopt did not take: it tells only by optopt that it knew the option. */
static int refuse_option(const char *word, FILE *err)
{
	struct nearest nearest;
	char name[64];

	if (strncmp(word, "--", 2) != 0)
		return misused(err, "unknown option -%c", optopt);
	if (optopt != 0)
		return misused(err, "%.64s: this option takes no value", word);
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(word + 2, "="), word + 2);
	nearest = nearest_of(name);
	for (const struct option *row = table; row->name; row++) {
		if (strncmp(row->name, name, strlen(name)) == 0)
			return misused(err, "%.64s: there are several options that begin so", word);
		nearest_try(&nearest, row->name);
	}
	if (!nearest.best)
		return misused(err, "unknown option %.64s", word);
	return misused(err, "unknown option %.64s; the nearest is --%s", word, nearest.best);
}

static int take(struct line *line, int option, char **argv, FILE *err)
{
	switch (option) {
	case 'c':
		if (line->file)
			return misused(err, "--config is given twice");
		line->file = optarg;
		return 0;
	case OPTION_CHECK:
		line->check = true;
		return 0;
	case OPTION_PRINT:
		line->print = true;
		return 0;
	case OPTION_VERSION:
		line->version = true;
		return 0;
	case 'h':
		line->help = true;
		return 0;
	case OPTION_ISA:
		line->isa = optarg;
		return 0;
	case ':':
		return misused(err, "%s needs a value", argv[optind - 1]);
	case '?':
		return refuse_option(argv[optind - 1], err);
	default:
		return take_setter(line, option, optarg, err);
	}
}

static int read_line(struct line *line, int argc, char **argv, FILE *err)
{
	int option;

	opterr = 0;
	optind = 0; /* glibc: begin anew */
	while ((option = getopt_long(argc, argv, ":c:h", table, NULL)) != -1) {
		int code = take(line, option, argv, err);
		if (code != 0)
			return code;
	}
	if (optind < argc)
		return misused(err, "unexpected argument \"%s\"%s", argv[optind],
		               line->file ? "" : " (a configuration is named with --config)");
	return 0;
}

static void list_isas(FILE *out)
{
	for (int i = 0; i < OPTIM_ISA_COUNT; i++) {
		if (optim_isa_usable((enum optim_isa)i))
			fprintf(out, " %s", optim_isa_name((enum optim_isa)i));
	}
}

static int set_isa(const struct line *line, struct options *options, FILE *err)
{
	int isa = line->isa ? optim_isa_find(line->isa) : (int)optim_isa_best();

	if (isa < 0 || !optim_isa_usable((enum optim_isa)isa)) {
		fprintf(err, "optd: --isa %s: %s; this machine can use:", line->isa,
		        isa < 0 ? "is not known" : "this machine does not have it");
		list_isas(err);
		putc('\n', err);
		return EXIT_USAGE;
	}
	options->isa = (enum optim_isa)isa;
	options->isa_forced = line->isa != NULL;
	return 0;
}

/* The sentence without the knob's path at its beginning: the flag names it. */
static const char *without_path(const char *why, const char *path)
{
	size_t bytes = strlen(path);

	return strncmp(why, path, bytes) == 0 && strncmp(why + bytes, ": ", 2) == 0 ? why + bytes + 2 : why;
}

/* Defaults, then the file, then the command line. */
static int load(const struct line *line, struct config *config, FILE *err)
{
	char why[CONFIG_WHY_BYTES];
	int rc;

	config_init(config);
	rc = line->file ? config_read(config, line->file, why, sizeof(why)) : 0;
	if (rc < 0) {
		fprintf(err, "optd: %s\n", why);
		return rc == OPTD_DENIED ? EXIT_PERMISSIONS : EXIT_BAD_CONFIG;
	}
	for (size_t i = 0; i < SETTER_COUNT; i++) {
		if (line->counts[i] == 0)
			continue;
		rc = config_set(config, setters[i].path, line->values[i], line->counts[i], why,
		                sizeof(why));
		if (rc < 0) {
			fprintf(err, "optd: %s: %s\n", setters[i].flag,
			        without_path(why, setters[i].path));
			return EXIT_USAGE;
		}
	}
	rc = config_finish(config, why, sizeof(why));
	if (rc < 0) {
		fprintf(err, "optd: %s\n", why);
		return strncmp(why, CONFIG_COMMAND, strlen(CONFIG_COMMAND)) == 0 ? EXIT_USAGE
		                                                                 : EXIT_BAD_CONFIG;
	}
	return 0;
}

/* What needs no configuration; false when there is nothing of it. */
static bool answer(const struct line *line, FILE *out)
{
	if (line->help) {
		fputs(usage, out);
	} else if (line->version) {
		fprintf(out,
		        "optd %s\nprotocol versions %d to %d\ninstruction sets:", OPTIONS_VERSION,
		        LIMIT_PROTOCOL_MIN, LIMIT_PROTOCOL_MAX);
		list_isas(out);
		putc('\n', out);
	} else {
		return false;
	}
	return true;
}

bool options_parse(int argc, char **argv, FILE *out, FILE *err, struct options *options,
                   int *exit_code)
{
	struct line line = { 0 };

	*exit_code = read_line(&line, argc, argv, err);
	if (*exit_code != 0 || answer(&line, out))
		return false;
	*exit_code = set_isa(&line, options, err);
	if (*exit_code == 0)
		*exit_code = load(&line, &options->config, err);
	if (*exit_code != 0)
		return false;
	if (line.print)
		config_print(&options->config, out);
	if (line.check && !line.print) {
		fprintf(out, "%s: ok\n", line.file ? line.file : "built-in defaults");
		config_print_memory(&options->config, out);
	}
	return !line.print && !line.check;
}
