#!/bin/sh
# The schema must not be recursive: protobuf-c unpacks nested messages by
# recursion without a bound, so a type that contains itself would let a peer
# choose how deep our stack goes.  Also refuses maps (messages in disguise,
# unbounded), and nesting deeper than five.
#
# Plants a recursive type first, to see that it would be found.
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# messages HEADER: one line "type type" for each message and a message within
# it, as protoc-c understood them: structs, and pointers to structs in them.
messages() {
	awk '
		/^struct +[A-Z][A-Za-z0-9_]*$/ { type = $2; next }
		/^};/ { type = "" }
		type != "" && $1 != "ProtobufCMessage" && $1 ~ /__/ && $2 ~ /^\*/ { print type, $1 }' "$1"
}

# check FILE: 0 if no message can reach itself and none is deeper than five.
check() {
	protoc-c --c_out="$work" --proto_path="$(dirname "$1")" "$1" || return 2
	if sed 's,//.*,,' "$1" | grep -n 'map *<'; then
		return 1
	fi
	messages "$work/$(basename "$1" .proto).pb-c.h" > "$work/messages"
	[ -s "$work/messages" ] || { echo "no message was found in $1"; return 2; }
	awk '
		{ inside[$1] = inside[$1] " " $2 }
		function depth(type, level,   n, i, list) {
			if (level > 5) { print "nested deeper than 5, or recursive: " type; bad = 1; return }
			n = split(inside[type], list, " ")
			for (i = 1; i <= n && !bad; i++)
				depth(list[i], level + 1)
		}
		END { for (type in inside) if (!bad) depth(type, 1); exit bad }' "$work/messages"
}

plant() {
	sed "$1" proto/optd.proto > "$work/planted.proto"
	if cmp -s proto/optd.proto "$work/planted.proto"; then
		echo "schema: the planted error '$1' did not take" >&2
		exit 1
	fi
	if check "$work/planted.proto" > "$work/found"; then
		echo "schema: a planted error was not found: $1" >&2
		exit 1
	fi
	[ -s "$work/found" ] || { echo "schema: the planted '$1' does not compile" >&2; exit 1; }
}

plant 's/^  bytes mask = 3;/  bytes mask = 3;\n  repeated Part inner = 4;/'
plant 's/^  repeated double values = 2;/  repeated double values = 2;\n  Open open = 3;/'
plant 's/^  bytes mask = 3;/  bytes mask = 3;\n  oneof some { Header up = 5; }/'
plant 's/^  uint32 group = 3;/  uint32 group = 3;\n  map<uint32, uint32> more = 4;/'

check proto/optd.proto || { echo "schema: proto/optd.proto has a recursive message" >&2; exit 1; }
echo "schema: no message of proto/optd.proto contains itself"
