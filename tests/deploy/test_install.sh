#!/bin/bash
# `make install` into a staging folder: everything is there, a program compiles with
# what was put there, and `make uninstall` takes all of it back.  Prints TAP.
# shellcheck disable=SC2317 # functions are called through must
set -u

bin=$(dirname "${OPTD_BIN:?}")
flavour=$(basename "$bin")
version=$(sed -n 's/^#define OPTD_VERSION "\(.*\)"/\1/p' client/optd.h)
dir=$(mktemp -d "${TMPDIR:-/tmp}/optd-install.XXXXXX")
trap 'rm -rf "$dir"' EXIT
stage=$dir/stage
usr=$stage/usr
number=0
failed=0
cc=${CC:-cc}
# A program that uses a sanitized library must be sanitized itself.
case $flavour in
asan) sanitize=-fsanitize=address,undefined ;;
tsan) sanitize=-fsanitize=thread ;;
*) sanitize= ;;
esac

result() { # status, name
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number - $2"
	else
		echo "not ok $number - $2"
		failed=1
	fi
}

# Says what does not hold.
must() {
	"$@" >"$dir/output" 2>&1 && return 0
	echo "# failed: $*"
	head -n 20 "$dir/output" | sed 's/^/# /'
	return 1
}

make_it() {
	make FLAVOUR="$flavour" DEPS=skip DESTDIR="$stage" PREFIX=/usr "$@"
}

links_to() { [ "$(readlink "$1")" = "$2" ]; }

has() { # pattern, command and arguments
	local pattern=$1
	shift
	"$@" 2>/dev/null | grep -qE -- "$pattern"
}

lacks() {
	local pattern=$1
	shift
	! "$@" | grep -E -- "$pattern"
}

echo "1..13"

must make_it install
result $? "test_install_succeeds"

must test -x "$usr/bin/optd" && must test -x "$usr/bin/optctl" &&
	must has "$version" "$usr/bin/optd" --version && must has "$version" "$usr/bin/optctl" --version
result $? "test_the_programs_are_there_and_say_their_version"

must cmp "$usr/include/optd.h" client/optd.h
result $? "test_the_header_is_there"

lib=$usr/lib
must test -f "$lib/liboptd.so.$version" && must test -f "$lib/liboptd.a" &&
	must links_to "$lib/liboptd.so.0" "liboptd.so.$version" && must links_to "$lib/liboptd.so" liboptd.so.0 &&
	must has 'SONAME.*\[liboptd\.so\.0\]' readelf -d "$lib/liboptd.so.$version"
result $? "test_the_library_has_a_versioned_name_and_a_soname"

all=0
for file in share/man/man1/optctl.1 share/man/man8/optd.8 share/man/man5/optd.yaml.5 \
	share/bash-completion/completions/optd share/bash-completion/completions/optctl \
	lib/systemd/system/optd.service share/doc/optd/optd.yaml lib/pkgconfig/liboptd.pc; do
	must test -s "$usr/$file" || all=1
done
result $all "test_manuals_completions_unit_and_config_are_there"

must lacks . grep -rIE -e '@[A-Z]+@' -e "$stage" "$usr/share" "$usr/lib/systemd" "$usr/lib/pkgconfig" &&
	must has '^ExecStart=/usr/bin/optd' cat "$usr/lib/systemd/system/optd.service"
result $? "test_files_name_the_prefix_and_not_the_stage"

cat >"$dir/program.c" <<'TXT'
#include <optd.h>
#include <stdio.h>

int main(void)
{
	optd_client *client;
	printf("%s %s %d\n", OPTD_VERSION, optd_version(), optd_connect("bogus", NULL, &client));
	return 0;
}
TXT
config() { PKG_CONFIG_PATH=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$stage pkg-config "$@" liboptd; }
wanted="^$version $version -[0-9]+$"

# shellcheck disable=SC2046,SC2086 # words
must [ "$(config --modversion)" = "$version" ] &&
	must $cc -std=c11 -Wall -Wextra -Werror $sanitize -o "$dir/shared" "$dir/program.c" $(config --cflags --libs) &&
	must has 'NEEDED.*\[liboptd\.so\.0\]' readelf -d "$dir/shared" &&
	must has "$wanted" env LD_LIBRARY_PATH="$lib" "$dir/shared"
result $? "test_a_program_compiles_with_pkg_config_and_runs"

# shellcheck disable=SC2046,SC2086
must $cc -std=c11 -Wall -Wextra -Werror $sanitize -o "$dir/static" "$dir/program.c" $(config --cflags) \
	"$lib/liboptd.a" $(config --libs-only-l --static | sed 's/-loptd//') &&
	must has "$wanted" "$dir/static"
result $? "test_a_program_links_the_static_library_and_runs"

# The words as they are, and again with the archive taken.
sed 's|"client/optd.h"|<optd.h>|' client/examples/ten_lines.c >"$dir/ten_lines.c"
all=0
for static in "" -Wl,-Bstatic; do
	# shellcheck disable=SC2046,SC2086
	must $cc -std=c11 -Wall -Wextra -Werror $sanitize -o "$dir/static" "$dir/ten_lines.c" \
		$(config --cflags) $(config --libs --static | sed "s/-loptd/$static -loptd ${static:+-Wl,-Bdynamic}/") || all=1
done
[ $all -eq 0 ] && must lacks liboptd readelf -d "$dir/static"
result $? "test_what_pkg_config_says_for_a_static_link_is_enough"

must lacks ' [TDBRV] ([^o]|o[^p]|op[^t]|opt[^d]|optd[^_])' nm -g --defined-only "$lib/liboptd.a"
result $? "test_the_static_library_defines_only_names_of_ours"

all=0
for program in "$usr/bin/optd" "$usr/bin/optctl" "$lib/liboptd.so.$version"; do
	must has 'Type: +DYN' readelf -h "$program" && must has GNU_RELRO readelf -lW "$program" &&
		must has 'BIND_NOW|FLAGS_1.*NOW' readelf -dW "$program" &&
		must has '__stack_chk_fail' readelf -W --dyn-syms "$program" &&
		must lacks 'GNU_STACK.*RWE' readelf -lW "$program" || all=1
done
must has 'FLAGS_1.*PIE' readelf -dW "$usr/bin/optd" && must has 'FLAGS_1.*PIE' readelf -dW "$usr/bin/optctl" || all=1
result $all "test_what_is_installed_is_hardened"

make_it help >"$dir/help" 2>&1
all=0
for target in all deps run test check check-long bench vectors install uninstall format clean help; do
	must has "^$target +[a-z]" cat "$dir/help" || all=1
done
result $all "test_help_lists_the_targets"

must make_it uninstall && must [ -z "$(find "$stage" ! -type d)" ]
result $? "test_uninstall_takes_all_of_it_back"
exit $failed
