#!/bin/bash
# Makes sure that Debian's packages are there.
#
#     deploy/deps.sh run|test|check
#
# Says nothing and takes a few milliseconds when nothing is missing.  Otherwise
# lists what is missing and what it is for, and installs it: on a terminal after
# one question, without a terminal or with DEPS=install at once.  Where it cannot
# install it prints the one line to run and exits 1.  DEPS=skip does nothing.
set -eu

scope=${1:-test}
case $scope in
run | test | check) ;;
*)
	echo "deploy/deps.sh: unknown scope '$scope': run, test or check" >&2
	exit 64
	;;
esac
[ "${DEPS:-}" != skip ] || exit 0

# scope, package, what for; each scope includes those before it.
table=$(grep -v '^#' "$(dirname "$0")/packages.txt")
case $scope in
run) wanted='run' ;;
test) wanted='run|test' ;;
check) wanted='run|test|check' ;;
esac
rows=$(grep -E "^($wanted) " <<<"$table")
packages=$(awk '{ print $2 }' <<<"$rows")

if ! command -v dpkg-query >/dev/null; then
	echo "This is not a Debian system, so optd cannot look for these packages (their" >&2
	echo "Debian names); install their like and set DEPS=skip:" >&2
	awk '{ printf "  %-26s", $2; $1 = $2 = ""; print $0 }' <<<"$rows" >&2
	exit 1
fi

# shellcheck disable=SC2086  # one word per package
installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $packages 2>/dev/null |
	awk '$1 ~ /^.i$/ { print $2 }') || true
missing=
for package in $packages; do
	grep -qxF "$package" <<<"$installed" || missing="$missing $package"
done
missing=${missing# }
[ -n "$missing" ] || exit 0

# The one line to run, when somebody else has to: why, and "sudo " or nothing.
by_hand() {
	echo "$1" >&2
	echo "Please run this, then try again:" >&2
	echo >&2
	echo "  ${2-sudo }apt-get update && ${2-sudo }apt-get install -y --no-install-recommends $missing" >&2
	echo >&2
	echo "(or DEPS=skip to go on without)" >&2
	exit 1
}

echo "optd needs these Debian packages:"
for package in $missing; do
	awk -v p="$package" '$2 == p { printf "  %-26s", p; $1 = $2 = ""; print $0 }' <<<"$rows"
done

terminal=
if [ -t 0 ] && [ -t 1 ]; then
	terminal=yes
fi
if [ -n "$terminal" ] && [ "${DEPS:-}" != install ]; then
	read -r -p "Install them now? [Y/n] " answer
	case $answer in
	'' | y | Y | yes | Yes) ;;
	*) by_hand "Nothing was installed." ;;
	esac
fi

if ! command -v apt-get >/dev/null; then
	by_hand "There is no apt-get here."
fi
if [ "$(id -u)" = 0 ]; then
	as_root=
elif ! command -v sudo >/dev/null; then
	by_hand "Installing needs root, and there is no sudo here: become root." ""
elif [ -n "$terminal" ]; then
	as_root=sudo
elif sudo -n true 2>/dev/null; then
	as_root='sudo -n'
else
	by_hand "Installing needs root, and sudo asks for a password."
fi

echo "Installing ..."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
	# shellcheck disable=SC2086  # empty or two words
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" >>"$log" 2>&1
}
# A stale list of packages is worth a try: the mirror may be down and the
# packages still in the cache.
apt -q update || echo "apt-get update failed; trying with the lists at hand." >&2
# shellcheck disable=SC2086  # one word per package
if ! apt -q install -y --no-install-recommends $missing; then
	tail -n 20 "$log" >&2
	by_hand "apt-get could not install them (its last words are above)."
fi
echo "Installed."
