/* Manifest, the part about gradients that are not finite and the loss scale: keys of format 4. */
#ifndef OPTD_DISK_MANIFEST_FINITE_H
#define OPTD_DISK_MANIFEST_FINITE_H

#include <stdbool.h>

#include "server/disk/manifest.h"

/* Whether the model has any that is not what its mode has by itself. */
bool manifest_has_finite(const struct checkpoint *about);
void manifest_put_finite(const struct checkpoint *about, struct manifest *manifest);
/* With `keys` not set, what the mode has by itself.  OPTD_CORRUPT and why. */
int manifest_get_finite(const struct safetensors *head, bool keys, struct checkpoint *about, char *why,
                        size_t why_bytes);

#endif
