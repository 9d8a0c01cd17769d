/* getopt_long, strict numbers. */
#include "client/examples/arguments.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE 64

static const char USAGE[] =
        "usage: fashion_mnist [options]\n"
        "\n"
        "Trains a classifier on Fashion-MNIST as one of several workers of an optd daemon.\n"
        "\n"
        "  --server ENDPOINTS  daemons, separated by commas (tcp://127.0.0.1:16783)\n"
        "  --rank N            this worker's number, from 0 (0)\n"
        "  --workers N         how many there are (1)\n"
        "  --model NAME        name of the model on the daemon (fashion)\n"
        "  --optimizer NAME    adam, sgd, rmsprop, ... (the daemon's choice, or sgd)\n"
        "  --set NAME=VALUE    a hyper-parameter, as in --set lr=0.001 --set betas=0.9,0.999\n"
        "  --match NAME        torch2, torch1 or numpy\n"
        "  --mode sync|async   (the daemon's choice, or sync)\n"
        "  --resume auto|never|must\n"
        "  --epochs N          passes over the images (6)\n"
        "  --steps N           stop after so many steps instead\n"
        "  --batch N           images a worker takes each step (64)\n"
        "  --hidden N          units of the hidden layer (128)\n"
        "  --seed N            of first weights and order of images (1)\n"
        "  --data DIR          (/usr/share/datasets/fashion-mnist)\n"
        "  --timeout S         seconds a call may take (90)\n"
        "  --quiet             no progress\n"
        "  --help\n";

static bool number(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno == 0 && end != text && *end == '\0' && text[0] != '-' && value >= min && value <= max) {
		*out = value;
		return true;
	}
	fprintf(stderr, "fashion_mnist: --%s is '%s'; it takes a whole number from %llu to %llu\n", name,
	        text, (unsigned long long)min, (unsigned long long)max);
	return false;
}

static bool word(const char *name, const char *text, const char *const *words, int *out)
{
	for (int i = 0; words[i] != NULL; i++) {
		if (strcmp(text, words[i]) == 0) {
			*out = i;
			return true;
		}
	}
	fprintf(stderr, "fashion_mnist: --%s is '%s'; --help lists what it may be\n", name, text);
	return false;
}

/* NAME=VALUE or NAME=A,B; the text is cut up in place. */
static bool hyper(struct arguments *a, char *text)
{
	char *value = strchr(text, '=');
	if (value == NULL || a->open.hyper_count == HYPERS_MAX) {
		fprintf(stderr, "fashion_mnist: --set takes NAME=VALUE, not '%s'\n", text);
		return false;
	}
	*value++ = '\0';
	optd_hyper *h = &a->hypers[a->open.hyper_count++];
	h->name = text;
	for (h->count = 0; h->count < sizeof(h->values) / sizeof(h->values[0]);) {
		char *end;
		h->values[h->count++] = strtod(value, &end);
		if (end != value && *end == '\0')
			return true;
		if (end == value || *end != ',')
			break;
		value = end + 1;
	}
	fprintf(stderr, "fashion_mnist: --set %s: '%s' is not a number or up to three with commas\n", text, value);
	return false;
}

static const struct option OPTIONS[] = {
        {"server", required_argument, NULL, 's'},    {"rank", required_argument, NULL, 'r'},
        {"workers", required_argument, NULL, 'w'},   {"model", required_argument, NULL, 'm'},
        {"optimizer", required_argument, NULL, 'o'}, {"set", required_argument, NULL, 'S'},
        {"match", required_argument, NULL, 'M'},     {"mode", required_argument, NULL, 'y'},
        {"resume", required_argument, NULL, 'R'},    {"epochs", required_argument, NULL, 'e'},
        {"steps", required_argument, NULL, 'n'},     {"batch", required_argument, NULL, 'b'},
        {"hidden", required_argument, NULL, 'H'},    {"seed", required_argument, NULL, 'x'},
        {"data", required_argument, NULL, 'd'},      {"timeout", required_argument, NULL, 't'},
        {"quiet", no_argument, NULL, 'q'},           {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
};

static bool take_number(struct arguments *a, int option, const char *text)
{
	uint64_t n = 0;

	switch (option) {
	case 'r':
		if (!number("rank", text, 0, 1023, &n))
			return false;
		a->rank = (int32_t)n;
		return true;
	case 'w':
		if (!number("workers", text, 1, 1024, &n))
			return false;
		a->workers = (uint32_t)n;
		return true;
	case 'e':
		if (!number("epochs", text, 0, 100000, &n))
			return false;
		a->epochs = (uint32_t)n;
		return true;
	case 'b':
		if (!number("batch", text, 1, 60000, &n))
			return false;
		a->batch = (uint32_t)n;
		return true;
	case 'H':
		if (!number("hidden", text, 1, 65536, &n))
			return false;
		a->hidden = (uint32_t)n;
		return true;
	case 't':
		if (!number("timeout", text, 1, 86400, &n))
			return false;
		a->timeout_s = (uint32_t)n;
		return true;
	case 'n':
		return number("steps", text, 0, UINT64_MAX, &a->steps);
	default:
		return number("seed", text, 0, UINT64_MAX, &a->seed);
	}
}

static bool take(struct arguments *a, int option, char *text)
{
	static const char *const modes[] = {"", "sync", "async", NULL};
	static const char *const resumes[] = {"auto", "never", "must", NULL};
	int index = 0;

	switch (option) {
	case 's':
		a->server = text;
		return true;
	case 'm':
		a->model = text;
		return true;
	case 'd':
		a->data = text;
		return true;
	case 'o':
		a->open.optimizer = text;
		return true;
	case 'M':
		a->open.match = text;
		return true;
	case 'q':
		a->quiet = true;
		return true;
	case 'S':
		return hyper(a, text);
	case 'y':
		if (!word("mode", text, modes, &index))
			return false;
		a->open.mode = (optd_mode)index;
		return true;
	case 'R':
		if (!word("resume", text, resumes, &index))
			return false;
		a->open.resume = (optd_resume)index;
		return true;
	default:
		return take_number(a, option, text);
	}
}

bool arguments_parse(int argc, char **argv, struct arguments *a, int *exit_code)
{
	int option;

	*a = (struct arguments){.server = "tcp://127.0.0.1:16783",
	                        .model = "fashion",
	                        .data = "/usr/share/datasets/fashion-mnist",
	                        .workers = 1,
	                        .epochs = 6,
	                        .batch = 64,
	                        .hidden = 128,
	                        .seed = 1};
	*exit_code = EXIT_USAGE;
	while ((option = getopt_long(argc, argv, "h", OPTIONS, NULL)) != -1) {
		if (option == 'h') {
			fputs(USAGE, stdout);
			*exit_code = 0;
			return false;
		}
		if (option == '?' || !take(a, option, optarg))
			return false;
	}
	if (optind < argc) {
		fprintf(stderr, "fashion_mnist: '%s' is not an option; see --help\n", argv[optind]);
		return false;
	}
	if ((uint32_t)a->rank >= a->workers) {
		fprintf(stderr, "fashion_mnist: --rank %d of --workers %u: ranks go from 0 to %u\n", a->rank,
		        a->workers, a->workers - 1);
		return false;
	}
	a->open.hypers = a->hypers;
	a->open.workers = a->workers;
	return true;
}
