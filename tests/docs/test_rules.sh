#!/bin/sh
# optctl rules: what it says of the optimizers is in the docs, word by word.  Prints TAP.
set -u

: "${OPTCTL_BIN:?}"
dir=$(mktemp -d "${TMPDIR:-/tmp}/optd-rules.XXXXXX")
trap 'rm -rf "$dir"' EXIT
number=0
failed=0

result() { # status, name
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number - $2"
	else
		echo "not ok $number - $2"
		failed=1
	fi
}

table_is_in_the_docs() {
	sed -n '/^<!-- optctl rules --markdown -->$/,/^<!-- end -->$/p' optim/README.md | sed '1d;$d' >"$dir/page"
	"$OPTCTL_BIN" rules --markdown >"$dir/table" && diff "$dir/page" "$dir/table" >"$dir/diff" && return
	sed 's/^/# /' "$dir/diff"
	echo "# paste the output of optctl rules --markdown between the marks in optim/README.md"
	return 1
}

each_has_a_page() {
	"$OPTCTL_BIN" rules >"$dir/list" || return
	names=$(awk 'NF == 0 { exit } NR > 1 { print $1 }' "$dir/list")
	[ "$(echo "$names" | wc -l)" -ge 30 ] || { echo "# the list has only: $names"; return 1; }
	for name in $names; do
		"$OPTCTL_BIN" rules "$name" >"$dir/one" || return
		for label in update where pushed state bytes source; do
			grep -q "^  $label  *[^ ]" "$dir/one" || { echo "# $name says nothing of its $label"; return 1; }
		done
	done
}

settings() { # page
	awk 'found { print $1 } $1 == "setting" { found = 1 }' "$1"
}

# Who has no source has the page alone: each setting in the update, and no other rule's name
# in its place.  betas are its beta1 and beta2; clip_value stands behind it, as of all rules.
each_update_says_all() {
	for name in $names; do
		"$OPTCTL_BIN" rules "$name" >"$dir/one" || return
		sed -n '/^  update/,/^  where/p' "$dir/one" >"$dir/update"
		for setting in $(settings "$dir/one"); do
			grep -qwE "$(echo "$setting" | sed 's/^betas$/beta1/')" "$dir/update" || [ "$setting" = clip_value ] ||
				{ echo "# the update of $name says nothing of $setting"; return 1; }
		done
		! grep -E '(^| )as [a-z]|_kernel' "$dir/update" || { echo "# $name points elsewhere"; return 1; }
	done
}

# As of rules: a schedule's parameters stand in what it makes of lr.
each_schedule_has_a_page() {
	names=$(sed -n 's/^Schedules: //p' "$dir/list" | tr -d ,)
	[ "$(echo "$names" | wc -w)" -ge 11 ] || { echo "# the list has only: $names"; return 1; }
	for name in $names; do
		"$OPTCTL_BIN" rules "$name" >"$dir/one" && grep -q "^  rate  *[^ ]" "$dir/one" || return
		sed -n '/^  rate/,/^  where/p' "$dir/one" >"$dir/rate"
		for setting in $(settings "$dir/one"); do
			grep -qw "$setting" "$dir/rate" || { echo "# $name says nothing of $setting"; return 1; }
		done
	done
}

another_name_is_refused() {
	"$OPTCTL_BIN" rules adan 2>"$dir/error" >"$dir/output"
	[ $? -eq 1 ] && [ ! -s "$dir/output" ] &&
		grep -q "no optimizer or schedule 'adan'; the nearest is 'adam'; optctl rules lists all" "$dir/error" || return
	"$OPTCTL_BIN" rules cosin 2>"$dir/error"
	grep -q "'cosin'; the nearest is 'cosine'; " "$dir/error" || return
	"$OPTCTL_BIN" rules levenberg 2>"$dir/error"
	[ $? -eq 1 ] && grep -q "no optimizer or schedule 'levenberg'; optctl rules lists all" "$dir/error"
}

echo "1..5"
table_is_in_the_docs
result $? "test_table_in_the_docs_is_what_optctl_prints"
each_has_a_page
result $? "test_each_optimizer_in_the_list_has_a_page_with_all_it_should_say"
each_update_says_all
result $? "test_each_update_says_what_its_settings_do"
each_schedule_has_a_page
result $? "test_each_schedule_in_the_list_has_a_page_with_all_its_settings"
another_name_is_refused
result $? "test_another_name_is_refused_with_the_nearest"
exit $failed
