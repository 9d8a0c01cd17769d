/* optd: a parameter server. */
#include "server/daemon.h"
#include "server/options.h"

int main(int argc, char **argv)
{
	static struct options options; /* too large for a small stack */
	int code;

	if (!options_parse(argc, argv, stdout, stderr, &options, &code))
		return code;
	return daemon_run(&options.config, options.isa);
}
