#!/bin/sh
# Only optd_ names leave the shared library, and all that optd.h declares do.
set -eu
library=$(dirname "${OPTD_BIN:?}")/liboptd.so
exported=$(nm -D --defined-only "$library" | awk '{print $3}' | sort -u)
strangers=$(echo "$exported" | grep -v '^optd_[a-z]' || true)
[ -z "$strangers" ] || {
	echo "names that should not leave $library:"
	echo "$strangers"
	exit 1
}
declared=$(sed -n 's/^OPTD_API.*[ *]\(optd_[a-z_]*\)(.*/\1/p' client/optd.h | sort -u)
[ "$declared" = "$exported" ] || {
	echo "declared in client/optd.h and exported by $library differ:"
	for name in $declared; do echo "$exported" | grep -qx "$name" || echo "  not exported: $name"; done
	for name in $exported; do echo "$declared" | grep -qx "$name" || echo "  not declared: $name"; done
	exit 1
}
echo "$(echo "$declared" | wc -l) names"
