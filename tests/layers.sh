#!/bin/bash
# The rules of the house that a script can check: who may include whom, which
# calls a pure folder may not make, how long a file may be.
#
#     tests/layers.sh [ROOT]        prints each violation as file:line, exit 1
#     tests/layers.sh --self-test   plants one violation of each kind and
#                                   demands that it is found
set -eu

# Who may include what: the first row whose pattern matches a file decides.  The
# second column is a regular expression for "quoted" includes; @plain stands for
# the headers of proto/ but those of the wire and of safetensors.
rows="
optim/                      optim/|proto/(dtype|status|limits|nearest)\.h
proto/wire                  proto/
proto/safetensors           proto/safetensors|@plain
proto/                      @plain
server/base/                server/base/|@plain
server/core/                server/core/|server/base/|optim/(optim|clip|tensor)\.h|@plain
server/net/                 server/net/|server/core/|server/base/|server/log\.h|proto/
server/disk/                server/disk/|server/core/|server/base/|server/log\.h|optim/optim\.h|proto/safetensors|@plain
server/                     server/|optim/optim\.h|optim/tensor\.h|proto/
client/(route|inflight|session|relay) client/(route|inflight|session|relay)|server/base/|@plain
client/examples/            client/examples/|client/optd\.h
client/optctl_rules         client/|optim/(optim|text)\.h|@plain
client/                     client/|proto/
"
# <system> includes that only some may use: header, then who; the pure folders none.
pure='optim/|server/core/|client/(route|inflight|session|relay)'
owners="
uv\.h                       server/net/|server/disk/|server/[a-z_]*\.[ch]|tests/
zmq\.h                      server/net/|server/[a-z_]*\.[ch]|client/|tests/
protobuf-c/                 proto/wire
yaml\.h                     server/[a-z_]*\.[ch]|tests/
jansson\.h                  proto/safetensors|client/optctl|tests/
cblas\.h                    client/examples/|tests/bench/
(pthread|threads)\.h        server/base/|server/net/|server/[a-z_]*\.[ch]|client/[a-z_]*\.[ch]|tests/
(time|sys/.*|unistd|fcntl|netdb|poll|signal|dirent|netinet/.*|arpa/.*)\.h  server/base/mem|server/net/|server/disk/|server/[a-z_]*\.[ch]|client/|tests/
"
# Functions that a pure folder does not call.
heap='malloc|calloc|realloc|reallocarray|aligned_alloc|posix_memalign|free|mmap|alloca'
world='fopen|open|openat|read|write|close|socket|send|recv|poll|unlink|rename|stat|getenv|system|fork'
noise='printf|fprintf|vfprintf|puts|fputs|putchar|perror|syslog|abort|exit'
clocks='time|clock|clock_gettime|gettimeofday|nanosleep|usleep|sleep|rand|random|srand|drand48|getrandom|getentropy'
threads='pthread_[a-z_]*|thrd_[a-z_]*|mtx_[a-z_]*'
calls="
optim/                      $heap|$world|$noise|$clocks|$threads
proto/                      $world|$noise|$clocks|$threads
server/base/                fopen|open|socket|send|recv|unlink|rename|getenv|$noise|$clocks
server/core/                $world|$noise|$clocks|$threads
client/(route|inflight|session|relay)     $world|$noise|$clocks|$threads
"
longest=600

violations=0
violation() {
	echo "$1"
	violations=$((violations + 1))
}

# The value of the first row of table $1 whose pattern matches the path $2.
lookup() {
	local pattern value
	while read -r pattern value; do
		[ -n "$pattern" ] || continue
		if [[ $2 =~ ^$pattern ]]; then
			printf '%s' "$value"
			return
		fi
	done <<<"$1"
}

may_include() {
	local allowed=$1 header=$2
	[ -n "$allowed" ] || return 0
	case $allowed in
	*@plain)
		if [[ $header =~ ^proto/ && ! $header =~ ^proto/(wire|safetensors|.*\.pb-c) ]]; then
			return 0
		fi
		allowed=${allowed%%@plain}
		allowed=${allowed%|}
		[ -n "$allowed" ] || return 1
		;;
	esac
	[[ $header =~ ^($allowed) ]]
}

check_includes() {
	local file=$1 allowed number header pattern who
	allowed=$(lookup "$rows" "$file")
	while IFS=: read -r number header; do
		case $header in
		'"'*)
			header=${header//\"/}
			may_include "$allowed" "$header" ||
				violation "$file:$number: includes \"$header\"; this layer may include $allowed"
			[[ $header != *.pb-c.h || $file =~ ^proto/wire ]] ||
				violation "$file:$number: includes \"$header\"; only proto/wire* sees generated types"
			;;
		*)
			header=${header//[<>]/}
			while read -r pattern who; do
				[ -n "$pattern" ] || continue
				[[ $header =~ ^$pattern ]] || continue
				[[ $file =~ ^($who) && ! $file =~ ^($pure) ]] ||
					violation "$file:$number: includes <$header>; only $who may"
			done <<<"$owners"
			;;
		esac
	done < <(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*\([<"][^>"]*[>"]\).*/\1/;T;=;p' "$file" |
		paste -d: - -)
}

check_calls() {
	local file=$1 banned line
	banned=$(lookup "$calls" "$file")
	[ -n "$banned" ] || return 0
	# Comments and strings may talk about anything.
	while read -r line; do
		violation "$file:${line%%:*}: calls ${line#*:}(); this layer leaves that to others"
	done < <(blank "$file" | grep -noE "(^|[^a-z_>.])($banned) ?\(" | sed 's/[^0-9a-z_:]//g')
}

# The file with comments and strings emptied, line for line.
blank() {
	awk '
	{
		text = ""
		for (i = 1; i <= length($0); i++) {
			c = substr($0, i, 1)
			two = substr($0, i, 2)
			if (inside) {
				if (two == "*/") { inside = 0; i++ }
			} else if (quote != "") {
				if (c == "\\") i++
				else if (c == quote) quote = ""
			} else if (two == "/*") { inside = 1; i++ }
			else if (two == "//") break
			else if (c == "\"" || c == "\047") quote = c
			else text = text c
		}
		quote = ""
		print text
	}' "$1"
}

check_text() {
	local file=$1 lines number
	case $file in
	tests/vectors/*) return 0 ;;
	esac
	grep -Iq . "$file" || return 0
	lines=$(wc -l <"$file")
	[ "$lines" -le $longest ] ||
		violation "$file:$lines: $lines lines; a file has at most $longest"
	while IFS=: read -r number _; do
		violation "$file:$number: an open end (TO""DO); finish it or file an issue"
	done < <(grep -nE '\b(TO''DO|FIX''ME)\b' "$file")
}

list_files() {
	if [ -e .git ]; then
		git ls-files --cached --others --exclude-standard
	else
		find . -path ./build -prune -o -type f -printf '%P\n'
	fi | sort -u
}

check_tree() {
	local file count=0
	cd "$1"
	while read -r file; do
		[ -f "$file" ] || continue
		count=$((count + 1))
		check_text "$file"
		case $file in
		*.c | *.h)
			check_includes "$file"
			check_calls "$file"
			;;
		esac
	done < <(list_files)
	if [ "$violations" != 0 ]; then
		echo "layers: $violations violations in $count files"
		return 1
	fi
	echo "layers: $count files hold"
}

# Self-test: a small sound tree passes, and with each plant it does not.
plant() {
	local file=$1 text=$2
	mkdir -p "$tree/$(dirname "$file")"
	printf '%s\n' "$text" >"$tree/$file"
	if said=$(bash "$0" "$tree"); then
		echo "not ok - unnoticed in $file: ${text%%$'\n'*}"
		missed=$((missed + 1))
	elif [[ $said != "$file:"* ]]; then
		echo "not ok - blamed something else for $file: $said"
		missed=$((missed + 1))
	else
		echo "ok - $file: ${text%%$'\n'*}"
		found=$((found + 1))
	fi
	rm "$tree/$file"
}

self_test() {
	tree=$(mktemp -d)
	trap 'rm -rf "$tree"' EXIT
	found=0 missed=0
	mkdir -p "$tree/server/core" "$tree/client"
	printf '/* free(x) is not called here */\n#include "server/core/gate.h"\n#include <string.h>\n' \
		>"$tree/server/core/gate.c"
	printf '#include <zmq.h>\n#include "proto/wire.h"\nint f(void) { return socket(1); }\n' >"$tree/client/link.c"
	bash "$0" "$tree" || missed=1
	plant optim/adam.c '#include "server/base/buf.h"'
	plant optim/adam.c 'float *x = malloc(4);'
	plant optim/adam.c '#include <pthread.h>'
	plant optim/adam.c '	pthread_mutex_lock(&m);'
	plant optim/adam.c '	f = fopen("x", "r");'
	plant proto/layout.c '#include "server/core/model.h"'
	plant proto/layout.c '#include "proto/wire.h"'
	plant proto/layout.c '#include "proto/optd.pb-c.h"'
	plant proto/layout.c '#include <jansson.h>'
	plant server/base/buf.c '#include "server/core/model.h"'
	plant server/core/gate2.c '#include "proto/wire.h"'
	plant server/core/gate2.c '#include "server/net/loop.h"'
	plant server/core/gate2.c '#include <uv.h>'
	plant server/core/gate2.c '#include <zmq.h>'
	plant server/core/gate2.c '#include <time.h>'
	plant server/core/gate2.c '#include <sys/socket.h>'
	plant server/core/gate2.c 'now = clock_gettime(0, &t);'
	plant server/core/gate2.c 'x = rand();'
	plant server/core/gate2.c 'fprintf(stderr, "hm");'
	plant server/net/loop.c '#include "server/disk/checkpoint.h"'
	plant server/net/loop.c '#include "proto/optd.pb-c.h"'
	plant server/disk/checkpoint.c '#include "server/net/loop.h"'
	plant server/disk/checkpoint.c '#include <zmq.h>'
	plant client/route.c '#include "client/link.h"'
	plant client/inflight.c '#include <zmq.h>'
	plant client/client.c '#include "server/core/gate.h"'
	plant client/examples/demo.c '#include "proto/layout.h"'
	plant tests/core/test_x.c '#include "proto/optd.pb-c.h"'
	plant server/core/gate2.c "/* TO""DO: later */"
	plant README.md "$(yes line | head -601)"
	echo "$found passed, $missed failed"
	[ "$missed" = 0 ]
}

case ${1:-} in
--self-test) self_test ;;
*) check_tree "${1:-$(dirname "$0")/..}" ;;
esac
