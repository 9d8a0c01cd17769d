#!/bin/bash
# deploy/deps.sh with package tools that are not the machine's: what it lists, whom it
# asks, what it installs, and how it ends where it cannot.  Prints TAP.
set -u

# What whoever runs the tests has said about packages is not for these.
unset DEPS
dir=$(mktemp -d "${TMPDIR:-/tmp}/optd-deps.XXXXXX")
trap 'rm -rf "$dir"' EXIT
# Nothing but these is found, so that no real apt-get or sudo is.
tools=$dir/tools fakes=$dir/fakes
mkdir "$tools" "$fakes"
for tool in bash sh env grep awk cat tail mktemp rm dirname sed; do
	ln -s "$(command -v $tool)" "$tools/$tool"
done
number=0
failed=0

# A program in the fakes' folder.
fake() { # name, lines of sh
	printf '#!/bin/sh\n%s\n' "$2" >"$fakes/$1"
	chmod +x "$fakes/$1"
}

# A Debian machine, root's, that has every package but libyaml-dev and libcmocka-dev.
machine() {
	rm -f "$fakes"/* "$dir"/did
	grep -v '^#' deploy/packages.txt | awk '{ print $2 }' |
		grep -vx -e libyaml-dev -e libcmocka-dev >"$dir/installed"
	fake dpkg-query "for p in \"\$@\"; do grep -qxF -- \"\$p\" $dir/installed && echo \"ii  \$p\"; done; exit 1"
	fake apt-get "echo \"apt-get \$*\" >>$dir/did; echo words of apt-get"
	fake id 'echo 0'
}

# Runs it for a scope; its outputs are in $dir/out, its status in $status.
status=0
deps() {
	env -i PATH="$fakes:$tools" HOME="$dir" TMPDIR="$dir" ${DEPS:+DEPS="$DEPS"} \
		bash deploy/deps.sh "$@" >"$dir/out" 2>&1 </dev/null
	status=$?
}

result() { # status, name
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number - $2"
	else
		echo "not ok $number - $2"
		echo "# exit $status"
		sed 's/^/# /' "$dir/out"
		[ ! -e "$dir/did" ] || sed 's/^/# ran: /' "$dir/did"
		failed=1
	fi
}

says() { grep -qF -- "$1" "$dir/out"; }
did() { grep -qxF -- "$1" "$dir/did" 2>/dev/null; }
untouched() { [ ! -e "$dir/did" ]; }
install='apt-get -q install -y --no-install-recommends libyaml-dev'

echo "1..14"

machine
echo libyaml-dev >>"$dir/installed"
deps run
[ "$status" = 0 ] && [ ! -s "$dir/out" ] && untouched
result $? "test_nothing_is_said_when_nothing_is_missing"

machine
deps run
[ "$status" = 0 ] && grep -qE '^  libyaml-dev +reads the config$' "$dir/out"
result $? "test_what_is_missing_is_listed_with_what_it_is_for"
! says libcmocka-dev && ! says libuv1-dev
result $? "test_only_what_the_scope_needs_and_is_missing_is_listed"
did "$install" && says "Installed."
result $? "test_without_a_terminal_it_installs_and_goes_on"

machine
deps test
did "$install libcmocka-dev"
result $? "test_a_scope_includes_those_before_it"

machine
fake apt-get "case \$* in *install*) echo E: no space; exit 100 ;; esac"
deps run
[ "$status" = 1 ] && says "E: no space" &&
	says "  sudo apt-get update && sudo apt-get install -y --no-install-recommends libyaml-dev"
result $? "test_a_failed_install_ends_with_the_line_to_run"

machine
fake apt-get "echo \"apt-get \$*\" >>$dir/did; case \$* in *update*) exit 100 ;; esac"
deps run
[ "$status" = 0 ] && did "$install" && says "lists at hand"
result $? "test_a_mirror_that_is_down_is_no_reason_to_stop"

machine
fake id 'echo 1000'
deps run
[ "$status" = 1 ] && untouched && says "become root" &&
	says "  apt-get update && apt-get install -y --no-install-recommends libyaml-dev"
result $? "test_without_root_and_sudo_it_prints_the_line_for_root"

machine
fake id 'echo 1000'
fake sudo 'exit 1'
deps run
[ "$status" = 1 ] && untouched && says "sudo asks for a password" &&
	says "  sudo apt-get update && sudo apt-get install"
result $? "test_a_password_that_nobody_can_type_is_not_asked_for"

machine
fake id 'echo 1000'
fake sudo "shift; echo sudo \"\$1\" >>$dir/did; \"\$@\""
deps run
[ "$status" = 0 ] && did "sudo env" && did "$install"
result $? "test_sudo_without_a_password_is_used"

machine
DEPS=skip deps run
[ "$status" = 0 ] && untouched && [ ! -s "$dir/out" ]
result $? "test_skip_does_nothing"

machine
rm "$fakes/dpkg-query"
deps run
[ "$status" = 1 ] && untouched && says "not a Debian system" && says "reads the config"
result $? "test_another_system_is_told_what_to_look_for"

machine
deps everything
[ "$status" = 64 ] && says "'everything'"
result $? "test_an_unknown_scope_is_a_usage_error"

machine
if command -v script >/dev/null; then
	echo n | env -i PATH="$fakes:$tools" HOME="$dir" SHELL="$(command -v sh)" \
		"$(command -v script)" -qec "bash deploy/deps.sh run" /dev/null >"$dir/out" 2>&1
	status=$?
	[ "$status" = 1 ] && untouched && says "Install them now?" && says "Nothing was installed."
	result $? "test_on_a_terminal_a_no_installs_nothing"
else
	number=$((number + 1))
	echo "ok $number - test_on_a_terminal_a_no_installs_nothing # SKIP there is no script(1) to make a terminal"
fi
exit $failed
