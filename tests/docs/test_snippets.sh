#!/bin/sh
# The C programs shown in README.md and client/README.md compile as they stand and
# do what they say against a real daemon; what is less than a program compiles.  Prints TAP.
set -u

: "${OPTD_BIN:?}"
bin=$(dirname "$OPTD_BIN")
cc=${CC:-cc}
# A program that uses a sanitized library must be sanitized itself.
case $bin in
*/asan) sanitize=-fsanitize=address,undefined ;;
*/tsan) sanitize=-fsanitize=thread ;;
*) sanitize= ;;
esac
dir=$(mktemp -d "${TMPDIR:-/tmp}/optd-docs.XXXXXX")
daemon=
number=0
failed=0

# shellcheck disable=SC2317 # called by the trap
finish() {
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null
	wait
	rm -rf "$dir"
}
trap finish EXIT

result() { # status, name
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number - $2"
	else
		echo "not ok $number - $2"
		failed=1
	fi
}

# The first C block of a page that has a main().
snippet() {
	awk '/^```c$/ { block = ""; inside = 1; next }
	     /^```$/ { if (inside && block ~ /int main/) { printf "%s", block; exit } inside = 0 }
	     inside { block = block $0 "\n" }' "$1"
}

start_daemon() {
	mkfifo "$dir/ready"
	"$OPTD_BIN" --listen tcp://127.0.0.1:0 --data-dir "$dir/state" >"$dir/ready" 2>"$dir/log" &
	daemon=$!
	# Stays open: the daemon's standard output.
	exec 3<"$dir/ready"
	while read -r word server _ <&3; do
		[ "$word" != READY ] || return 0
	done
	return 1
}

# The C blocks of a page that are no programs, each as a function.
fragments() {
	awk '/^```c$/ { block = ""; inside = 1; next }
	     /^```$/ { if (inside && block !~ /int main/) print "void f" n++ "(void);\nvoid f" n - 1 "(void)\n{\n" block "}"
	               inside = 0 }
	     inside { block = block $0 "\n" }' "$1"
}

try_fragments() { # page
	{
		printf '#include <optd.h>\n#include <poll.h>\n#include <string.h>\n'
		printf 'extern optd_client *client;\nextern optd_model *model;\nextern optd_layout *layout;\n'
		printf 'extern float g[10], w[10];\nextern optd_ticket ticket;\nextern int rc;\n'
		fragments "$1"
	} >"$dir/fragments.c"
	grep -q '^void f1' "$dir/fragments.c" || { echo "# $1 shows none"; return 1; }
	$cc -std=c11 -Wall -Wextra -Werror -Iclient -fsyntax-only "$dir/fragments.c" 2>"$dir/errors" ||
		{ sed 's/^/# /' "$dir/errors"; return 1; }
}

try() { # page, name of the source
	snippet "$1" | sed "s|tcp://127.0.0.1:16783|$server|" >"$dir/$2.c"
	[ -s "$dir/$2.c" ] || { echo "# $1 shows no program"; return 1; }
	# shellcheck disable=SC2086
	$cc -std=c11 -Wall -Wextra -Werror $sanitize -Iclient -o "$dir/$2" "$dir/$2.c" -L"$bin" -loptd \
		-Wl,-rpath,"$bin" 2>"$dir/errors" || { sed 's/^/# /' "$dir/errors"; return 1; }
	"$dir/$2" >"$dir/output" 2>&1 || { echo "# exit $?"; sed 's/^/# /' "$dir/output"; return 1; }
}

# The same program where nothing listens, and waits less for it.
tells_why_nothing_answers() { # page
	kill "$daemon"
	wait "$daemon"
	daemon=
	sed 's/\.rank = 0/&, .timeout_ms = 300/' "$1" >"$dir/impatient.md"
	try "$dir/impatient.md" impatient >/dev/null && return 1
	grep -q "${server#tcp://}" "$dir/output" || { sed 's/^/# /' "$dir/output"; return 1; }
}

echo "1..4"
if ! start_daemon; then
	sed 's/^/# /' "$dir/log"
	result 1 "test_program_in_README_trains"
	exit 1
fi
try README.md readme
result $? "test_program_in_README_trains"
try client/README.md guide
result $? "test_program_in_the_clients_guide_trains"
tells_why_nothing_answers README.md
result $? "test_program_in_README_says_why_it_could_not_connect"
try_fragments client/README.md
result $? "test_fragments_in_the_clients_guide_compile"
exit $failed
