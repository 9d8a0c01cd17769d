#!/bin/sh
# Only optd_ names leave the shared library, and all that optd.h declares do.
# Prints TAP.
set -eu

library=$(dirname "${OPTD_BIN:?}")/liboptd.so
exported=$(nm -D --defined-only "$library" | awk '{print $3}' | sort -u)
declared=$(sed -n 's/^OPTD_API.*[ *]\(optd_[a-z_]*\)(.*/\1/p' client/optd.h | sort -u)
failed=0

# What of $1 is not in $2, as a result called $3.
missing() {
	strangers=$(echo "$1" | while read -r name; do echo "$2" | grep -qx "$name" || echo "# $name"; done)
	if [ -z "$strangers" ]; then
		echo "ok - $3"
	else
		echo "not ok - $3"
		echo "$strangers"
		failed=1
	fi
}

echo "1..2"
missing "$exported" "$declared" test_only_declared_names_are_exported
missing "$declared" "$exported" test_every_declared_name_is_exported
exit $failed
