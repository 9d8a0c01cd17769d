/*
 * Config host: what depends on where the daemon runs: its directory, its memory.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/config_value.h"

#define SYSTEM_PARENT "/var/lib"
#define SYSTEM_DIR "/var/lib/optd"
#define CGROUP_ROOT "/sys/fs/cgroup"

/* A control group's path: the kernel's own limit of paths. */
#define CGROUP_PATH_BYTES 4096u

static bool join(char out[CONFIG_PATH_BYTES + 1], const char *directory, size_t directory_bytes,
                 const char *rest)
{
	int size = snprintf(out, CONFIG_PATH_BYTES + 1, "%.*s%s", (int)directory_bytes, directory,
	                    rest);

	return size > 0 && (size_t)size <= CONFIG_PATH_BYTES;
}

/* The XDG rules: a path that is not absolute counts as not set. */
static const char *absolute(const char *name)
{
	const char *value = getenv(name);

	return value && value[0] == '/' && strlen(value) < CONFIG_PATH_BYTES ? value : NULL;
}

/* Root makes the directory itself; others need it made for them. */
static bool system_dir_usable(void)
{
	if (access(SYSTEM_DIR, F_OK) == 0)
		return access(SYSTEM_DIR, W_OK | X_OK) == 0;
	return access(SYSTEM_PARENT, W_OK | X_OK) == 0;
}

int config_expand_home(char path[CONFIG_PATH_BYTES + 1], char *why, size_t why_bytes)
{
	const char *home = absolute("HOME");
	char whole[CONFIG_PATH_BYTES + 1];

	if (path[0] != '~')
		return 0;
	if (path[1] != '/') {
		snprintf(why, why_bytes,
		         "\"%.64s\" begins with ~, and only ~/ is known; write the whole path, or "
		         "./%.64s for a directory of that name",
		         path, path);
		return OPTD_INVALID;
	}
	if (!home || !join(whole, home, strlen(home), path + 1)) {
		snprintf(why, why_bytes, "\"%.64s\": %s; write the whole path", path,
		         home ? "is too long with $HOME in place of ~"
		              : "$HOME is not set, or not an absolute path");
		return OPTD_INVALID;
	}
	memcpy(path, whole, sizeof(whole));
	return 0;
}

int config_data_dir(char out[CONFIG_PATH_BYTES + 1], const char **reason, char *why,
                    size_t why_bytes)
{
	const char *state = absolute("STATE_DIRECTORY");
	const char *xdg = absolute("XDG_STATE_HOME");
	const char *home = absolute("HOME");

	/* systemd lists several directories with colons; the first is the unit's own. */
	if (state && join(out, state, strcspn(state, ":"), "")) {
		*reason = "$STATE_DIRECTORY";
		return 0;
	}
	if (system_dir_usable() && join(out, SYSTEM_DIR, strlen(SYSTEM_DIR), "")) {
		*reason = SYSTEM_DIR " can be written";
		return 0;
	}
	if (xdg && join(out, xdg, strlen(xdg), "/optd")) {
		*reason = "$XDG_STATE_HOME";
		return 0;
	}
	if (home && join(out, home, strlen(home), "/.local/state/optd")) {
		*reason = "$HOME";
		return 0;
	}
	snprintf(why, why_bytes,
	         "data_dir: is not set, " SYSTEM_DIR
	         " cannot be written, and neither $XDG_STATE_HOME nor "
	         "$HOME is set; set data_dir or --data-dir");
	return OPTD_INVALID;
}

static uint64_t read_limit(const char *path)
{
	unsigned long long bytes = 0;
	FILE *file = fopen(path, "re");

	if (!file)
		return UINT64_MAX;
	/* "max" is no number: no limit here. */
	if (fscanf(file, "%llu", &bytes) != 1)
		bytes = 0;
	fclose(file);
	return bytes ? bytes : UINT64_MAX;
}

/* The least memory.max from this process's control group up to the root; in a
 * container the group's own root is all one sees. */
static uint64_t cgroup_limit(void)
{
	char line[CGROUP_PATH_BYTES], path[2 * CGROUP_PATH_BYTES];
	FILE *file = fopen("/proc/self/cgroup", "re");
	uint64_t least = UINT64_MAX;
	char *group = NULL;

	if (!file)
		return least;
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "0::/", 4) == 0) {
			group = line + 3;
			break;
		}
	}
	fclose(file);
	while (group) {
		uint64_t here;

		snprintf(path, sizeof(path), CGROUP_ROOT "%s/memory.max", group);
		here = read_limit(path);
		if (here < least)
			least = here;
		if (group[0] == '\0')
			break;
		*strrchr(group, '/') = '\0';
	}
	return least;
}

uint64_t host_memory_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
	uint64_t machine = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
	uint64_t group = cgroup_limit();

	/* A system that does not say how much it has gets a cautious guess. */
	if (machine == 0)
		machine = UINT64_C(1) << 30;
	return group < machine ? group : machine;
}
