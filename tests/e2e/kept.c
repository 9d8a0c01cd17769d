/* server/disk reads it. */
#include "tests/e2e/kept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "server/disk/checkpoint.h"

static struct checkpoint_file *open_file(const char *path)
{
	struct checkpoint_file *file;
	char why[512];

	if (checkpoint_open(path, &file, why, sizeof(why)) < 0)
		fail_msg("%s: %s", path, why);
	return file;
}

struct kept kept_versions(const char *path)
{
	struct kept kept = { UINT64_MAX, 0 };
	struct checkpoint_file *file = open_file(path);
	struct layout_run owned = checkpoint_owned(checkpoint_about(file));
	assert_true(owned.count > 1);
	for (uint32_t i = 0; i < owned.count; i++) {
		uint64_t version = checkpoint_version(file, owned.first + i);
		kept.lowest = version < kept.lowest ? version : kept.lowest;
		kept.highest = version > kept.highest ? version : kept.highest;
	}
	checkpoint_close(file);
	return kept;
}

uint64_t kept_version(const char *path, uint32_t block)
{
	struct checkpoint_file *file = open_file(path);
	uint64_t version = checkpoint_version(file, block);

	checkpoint_close(file);
	return version;
}

void kept_assert_at(const char *path, uint64_t lowest, uint64_t highest)
{
	struct kept kept = kept_versions(path);

	if (kept.lowest != lowest || kept.highest != highest)
		fail_msg("blocks are at %llu to %llu, not %llu to %llu",
		         (unsigned long long)kept.lowest, (unsigned long long)kept.highest,
		         (unsigned long long)lowest, (unsigned long long)highest);
}
