#!/bin/sh
# Times that the client's manual promises are those that it is built with, one version
# stands in all places, and pages for man read as they were written.  Prints TAP.
set -u

number=0
failed=0

# The value of a constant of the client, in milliseconds.
constant() {
	sed -n "s/^#define $2 \([0-9]*\)u\{0,1\}\$/\1/p" "$1"
}

# A page with its lines and comments joined, so that a sentence may be wrapped anywhere.
text() {
	sed 's/^ \*//' "$1" | tr -s '\n ' ' '
}

says() { # page, sentence
	case $(text "$1") in
	*"$2"*) return 0 ;;
	esac
	echo "# $1 does not say: $2"
	return 1
}

result() { # status, name
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number - $2"
	else
		echo "not ok $number - $2"
		failed=1
	fi
}

first=$(constant client/link.c LINK_RECONNECT_MS)
last=$(constant client/link.c LINK_RECONNECT_MAX_MS)
probe=$(constant client/session.h SESSION_PROBE_MS)
answer=$(constant client/session.h SESSION_ANSWER_MS)
timeout=$(constant client/internal.h CLIENT_TIMEOUT_MS)

echo "1..8"
for page in client/optd.h client/README.md; do
	says "$page" "first after $first ms, then each time after twice as long" &&
		says "$page" "up to $((last / 1000)) s"
	result $? "test_times_of_reconnecting_stand_in_$page"
	says "$page" "is asked after $((probe / 1000)) s whether it lives, and connected to anew after $((answer / 1000)) s"
	result $? "test_times_of_a_silent_server_stand_in_$page"
	says "$page" "within the client's timeout ($((timeout / 1000)) s unless"
	result $? "test_a_calls_default_timeout_stands_in_$page"
done

# optd.h stands alone for those who install it, and the daemon does not include it.
version=$(sed -n 's/^#define OPTD_VERSION "\(.*\)"/\1/p' client/optd.h)
stated() { # pages: every version that they state
	grep -hoE '"(optd )?[0-9]+\.[0-9]+\.[0-9]+"' "$@" | grep -oE '[0-9.]+'
}
others=$(stated client/optd.h server/options.h server/core/verb_open.c deploy/*.[158] | grep -vxF "$version")
[ -n "$version" ] && [ -z "$others" ] || echo "# optd.h says $version, others say $others"
[ -n "$version" ] && [ -z "$others" ]
result $? "test_one_version_stands_in_all_places"

# Macros of two fonts join their words: a sentence that slips onto such a line loses its spaces.
glued=$(awk '/^\.(BR|RB|IR|RI|BI|IB) / {
	line = $0
	gsub(/"[^"]*"/, "\"", line)
	words = 0
	for (i = split(line, word, " "); i > 1 && words < 2; i--)
		words = word[i] ~ /^[A-Za-z]+[.,;:]?$/ ? words + 1 : 0
	if (words == 2)
		print "# " FILENAME ":" FNR ": " $0
}' deploy/*.[158])
[ -z "$glued" ] || echo "$glued"
[ -z "$glued" ]
result $? "test_no_line_of_two_fonts_joins_words_of_a_sentence"
exit $failed
