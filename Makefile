# optd: build, test, install.  `make help` lists the targets.
#
# Sources are found by folder, nothing is registered here.  A flavour is a set of
# flags with its own output tree, build/FLAVOUR: release (default), o3, asan,
# tsan, clang, clang-o3, fuzz.  DEV=1 turns warnings into errors; DEPS=skip leaves
# Debian's packages alone; V=1 shows the commands.

FLAVOUR ?= release
PREFIX  ?= /usr/local
VERSION := $(shell sed -n 's/^.define OPTD_VERSION "\(.*\)"/\1/p' client/optd.h)
SOVERSION := 0
MAKEFLAGS += --no-builtin-rules --no-print-directory
# All cores unless the caller says otherwise (make JOBS=1); `make clean all` in turn.
JOBS ?= $(if $(filter clean,$(MAKECMDGOALS)),1,$(shell nproc))
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(JOBS)
endif
ifneq ($(filter test check check-%,$(MAKECMDGOALS)),)
DEV ?= 1
export DEV
endif

# ---------------------------------------------------------------- flavours
ifeq ($(origin CC),default)
CC := $(if $(filter clang% fuzz,$(FLAVOUR)),clang-14,gcc)
endif
SANITIZE_asan := -fsanitize=address,undefined -fno-sanitize-recover=all
SANITIZE_tsan := -fsanitize=thread
SANITIZE_fuzz := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
SANITIZE := $(SANITIZE_$(FLAVOUR))
FLAVOURS := release o3 asan tsan clang clang-o3 fuzz
OPTIMIZE := $(if $(SANITIZE),-O1 -fno-omit-frame-pointer,$(if $(filter %o3,$(FLAVOUR)),-O3,-O2))
$(if $(filter $(FLAVOUR),$(FLAVOURS)),,$(error FLAVOUR=$(FLAVOUR) is none of: $(FLAVOURS)))
B := build/$(FLAVOUR)

# ---------------------------------------------------------------- flags
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
        -Wwrite-strings -Wvla -Wconversion
# Sanitizers bring their own checks; _FORTIFY_SOURCE would hide memory errors from them.
HARDEN := -fstack-protector-strong $(if $(SANITIZE),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
# Asked before the first run has installed the compiler, too: then the kernel knows.
MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null || uname -m)
ifneq ($(filter x86_64%,$(MACHINE)),)
HARDEN += -fstack-clash-protection -fcf-protection
ISAS := base avx2 avx512
endif
ISAS ?= base
# optim/isa.c says why not with clang.
F16C := $(if $(findstring clang,$(CC)),,-mf16c)
ISA_avx2 := -mavx2 -mfma $(F16C)
ISA_avx512 := -mavx512f -mavx512vl -mavx512dq -mavx512bw -mavx2 -mfma $(F16C) -mprefer-vector-width=512
# -ffp-contract=off: the rules give the same bits with every compiler.
# -fno-math-errno: without it gcc does not vectorise sqrtf.
C := -std=c11 -D_GNU_SOURCE -I. -I$(B)/gen -g $(OPTIMIZE) $(WARN) -fno-common -fPIC \
     -fvisibility=hidden -ffp-contract=off -fno-math-errno $(HARDEN) $(SANITIZE) $(CPPFLAGS) $(CFLAGS)
WERROR := $(if $(filter 1,$(DEV)),-Werror)
LD := $(SANITIZE) -Wl,-z,relro,-z,now -Wl,--as-needed $(LDFLAGS)
COMPILE = $(CC) $(C) $(WERROR) -MMD -MP -c -o $@ $<
Q := $(if $(V),,@)

# ---------------------------------------------------------------- sources
objects = $(patsubst %.c,$(B)/%.o,$(1))
KERNELS := $(wildcard optim/*_kernel.c)
WIRE    := $(wildcard proto/wire*.c)
SAFE    := $(wildcard proto/safetensors*.c)
EXAMPLE_MAINS := $(shell grep -l '^int main.[iv]' /dev/null client/examples/*.c 2>/dev/null)
GEN := $(if $(wildcard proto/optd.proto),$(B)/gen/proto/optd.pb-c)

OBJ_optim  := $(call objects,$(filter-out $(KERNELS),$(wildcard optim/*.c))) \
              $(foreach isa,$(ISAS),$(KERNELS:%.c=$(B)/%.$(isa).o))
OBJ_proto  := $(call objects,$(filter-out $(SAFE) $(WIRE),$(wildcard proto/*.c)))
OBJ_wire   := $(call objects,$(WIRE)) $(GEN:%=%.o)
OBJ_safetensors := $(call objects,$(SAFE))
OBJ_base   := $(call objects,$(wildcard server/base/*.c))
OBJ_core   := $(call objects,$(wildcard server/core/*.c))
OBJ_net    := $(call objects,$(wildcard server/net/*.c))
OBJ_disk   := $(call objects,$(wildcard server/disk/*.c))
OBJ_server := $(call objects,$(filter-out server/main.c,$(wildcard server/*.c)))
OBJ_clientcore := $(call objects,$(wildcard client/route*.c client/inflight*.c client/session*.c client/relay*.c))
OBJ_client := $(call objects,$(filter-out client/optctl%,$(wildcard client/*.c)))
OBJ_optctl := $(call objects,$(wildcard client/optctl*.c))
OBJ_example := $(call objects,$(filter-out $(EXAMPLE_MAINS),$(wildcard client/examples/*.c)))
OBJ_support := $(call objects,$(wildcard tests/support/*.c))
ARCHIVES := optim proto wire safetensors base core net disk server clientcore example support

# liboptd carries the plain words and the wire within itself.
OBJ_sdk := $(OBJ_client) $(if $(OBJ_client),$(OBJ_wire) $(OBJ_proto))
SDK_REAL := $(B)/liboptd.so.$(VERSION)
SDK := $(if $(OBJ_client),$(B)/liboptd.so $(B)/liboptd.so.$(SOVERSION) $(B)/liboptd.a)

archive = $(foreach name,$(1),$(if $(OBJ_$(name)),$(B)/lib$(name).a))
SERVER := server net disk core wire safetensors proto base optim
SERVER_LIBS := -luv -lzmq -lprotobuf-c -lyaml -ljansson -lm -pthread
SDK_LIBS := -lzmq -lprotobuf-c -lm -pthread
# Whatever sits above the layers (net, server, e2e, bench, fuzz) links the lot.
EVERYTHING := $(call archive,$(SERVER)) $(if $(SDK),$(B)/liboptd.a)

PROGRAMS := $(strip $(if $(wildcard server/main.c),$(B)/optd) $(if $(OBJ_optctl),$(B)/optctl))
EXAMPLES := $(EXAMPLE_MAINS:client/examples/%.c=$(B)/examples/%)
TESTS   := $(patsubst %.c,$(B)/%,$(wildcard tests/*/test_*.c))
SCRIPTS := $(wildcard tests/*/test_*.sh)
BENCHES := $(patsubst %.c,$(B)/%,$(wildcard tests/bench/bench_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
VECTORS := $(if $(wildcard tests/optim/vectors.c),$(B)/vectors)
DIR ?= tests/vectors

all: $(PROGRAMS) $(SDK) $(EXAMPLES) ## build the daemon, optctl, the library, the examples
tests: all $(TESTS) $(VECTORS)
.PHONY: all tests run test suite lint fuzz check check-long bench bench-optim vectors install uninstall format clean help deps
.DELETE_ON_ERROR:
.SECONDARY:

# ---------------------------------------------------------------- compiling
# Stamps: rewritten only when their words change, so that objects follow the
# flags and archives follow the list of sources.
$(B)/flags: FORCE
	@mkdir -p $(@D); echo '$(CC) $(C) $(ISA_avx2) $(ISA_avx512)' | cmp -s - $@ || echo '$(CC) $(C) $(ISA_avx2) $(ISA_avx512)' > $@
$(B)/sources: FORCE
	@mkdir -p $(@D); echo '$(LD)' $(sort $(foreach name,$(ARCHIVES) sdk,$(OBJ_$(name)))) > $@.new; \
	 if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
FORCE:

define say
@mkdir -p $(@D)$(if $(V),,; echo '  $(1) $@')
endef

$(B)/%.o: %.c $(B)/flags
	$(call say,CC  )
	$(Q)$(COMPILE)

define isa_rule
$$(B)/optim/%_kernel.$(1).o: optim/%_kernel.c $$(B)/flags
	$$(call say,CC  )
	$$(Q)$$(COMPILE) -O3 -DOPTIM_ISA=$(1) $$(ISA_$(1))
endef
$(foreach isa,$(ISAS),$(eval $(call isa_rule,$(isa))))

$(B)/gen/proto/%.pb-c.c $(B)/gen/proto/%.pb-c.h: proto/%.proto
	$(call say,GEN )
	@mkdir -p $(B)/gen
	$(Q)protoc-c --c_out=$(B)/gen $<
$(B)/gen/%.o: $(B)/gen/%.c $(B)/flags
	$(call say,CC  )
	$(Q)$(CC) $(C) -w -MMD -MP -c -o $@ $<
$(call objects,$(WIRE)): | $(GEN:%=%.h)

# ---------------------------------------------------------------- libraries
define archive_rule
$$(B)/lib$(1).a: $$(OBJ_$(1)) $$(B)/sources Makefile
	$$(call say,AR  )
	$$(Q)rm -f $$@; ar rcs $$@ $$(OBJ_$(1))
endef
$(foreach name,$(ARCHIVES),$(eval $(call archive_rule,$(name))))

$(B)/liboptd.a: $(OBJ_sdk) $(B)/sources
	$(call say,AR  )
	$(Q)rm -f $@; ar rcs $@ $(OBJ_sdk)
# For installing: one object in which all but optd_* is local, so that our short
# names (layout_new) cannot meet a program's own.
$(B)/static/liboptd.a: $(OBJ_sdk) $(B)/sources
	$(call say,AR  )
	$(Q)ld -r -o $(@:.a=.o) $(OBJ_sdk) && objcopy --localize-hidden $(@:.a=.o) && rm -f $@ && ar rcs $@ $(@:.a=.o)
# "optd_" followed by "_" is protobuf-c's spelling of our package: not for export.
$(B)/liboptd.map: Makefile
	@mkdir -p $(@D); echo '{ global: optd_[!_]*; local: *; };' > $@
$(SDK_REAL): $(OBJ_sdk) $(B)/liboptd.map $(B)/sources
	$(call say,LD  )
	$(Q)$(CC) $(C) $(LD) -shared -Wl,-soname,liboptd.so.$(SOVERSION) -Wl,--version-script=$(B)/liboptd.map \
	  -o $@ $(OBJ_sdk) $(SDK_LIBS)
$(B)/liboptd.so.$(SOVERSION) $(B)/liboptd.so: $(SDK_REAL)
	@ln -sf $(<F) $@

# ---------------------------------------------------------------- programs
link = $(Q)$(CC) $(C) $(LD) -pie -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group

$(B)/optd: $(B)/server/main.o $(call archive,$(SERVER))
	$(call say,LD  )
	$(link) $(SERVER_LIBS)
$(B)/optctl: $(OBJ_optctl) $(B)/liboptd.a $(call archive,safetensors base optim)
	$(call say,LD  )
	$(link) $(SDK_LIBS) -ljansson

# Examples use what a user has: the shared library and its header.
LIBS_fashion_mnist := -lopenblas -lz -lm
$(EXAMPLES): $(B)/examples/%: $(B)/client/examples/%.o $(call archive,example) $(SDK)
	$(call say,LD  )
	$(Q)$(CC) $(C) $(LD) -pie -o $@ $< $(call archive,example) -L$(B) -loptd -Wl,-rpath,'$$ORIGIN/..' \
	  $(or $(LIBS_$*),-lm)

# Each test links only what its layer may link: when core reaches for a socket,
# its tests stop linking.  programs: sources, archives, libraries.  Files of a
# test folder that are not programs serve all programs of that folder.
helpers = $(filter-out $(1)/test_% $(1)/bench_% $(1)/fuzz_% $(1)/vectors.c,$(wildcard $(1)/*.c))
define programs
$(patsubst %.c,$(B)/%,$(1)): $(B)/%: $(B)/%.o $(B)/tests/support/stdout_lines.o $(call objects,$(call helpers,$(patsubst %/,%,$(dir $(firstword $(1)))))) \
  $(call archive,support) $(2)
	$$(call say,LD  )
	$$(link) $(3) -lcmocka
endef
layer = $(if $(1),$(eval $(call programs,$(1),$(call archive,$(2)),$(3))))
top = $(if $(1),$(eval $(call programs,$(1),$(EVERYTHING),$(SERVER_LIBS))))

T_WIRE  := $(wildcard tests/proto/test_wire*.c)
T_SAFE  := $(wildcard tests/proto/test_safetensors*.c)
T_ROUTE := $(wildcard tests/client/test_route*.c tests/client/test_inflight*.c tests/client/test_session*.c tests/client/test_relay*.c)
$(call layer,$(wildcard tests/optim/test_*.c),optim proto,-lm)
$(call layer,$(filter-out $(T_WIRE) $(T_SAFE),$(wildcard tests/proto/test_*.c)),proto,-lm)
$(call layer,$(T_WIRE),wire proto,-lprotobuf-c -lm)
$(call layer,$(T_SAFE),safetensors proto,-ljansson -lm)
$(call layer,$(wildcard tests/base/test_*.c),base proto,-lm)
$(call layer,$(wildcard tests/core/test_*.c),core proto base optim,-lm)
$(call layer,$(wildcard tests/sim/test_*.c),core clientcore proto base optim,-lm)
$(call layer,$(T_ROUTE),clientcore proto base,-lm)
$(call layer,$(wildcard tests/disk/test_*.c),disk safetensors proto base core optim server,-ljansson -luv -lm)
$(call layer,$(wildcard tests/support/test_*.c),proto,-lm)
$(call top,$(filter-out $(T_ROUTE),$(wildcard tests/client/test_*.c)))
$(foreach folder,net server e2e bench fuzz,$(call top,$(wildcard tests/$(folder)/test_*.c)))
$(call top,$(wildcard tests/bench/bench_*.c))
# It speaks to a lane in its own process, where liboptd's names would meet the server's.
$(B)/tests/net/test_stalled_lane: $(B)/tests/e2e/speak.o

$(B)/vectors: $(B)/tests/optim/vectors.o $(call objects,$(call helpers,tests/optim)) $(call archive,support optim proto)
	$(call say,LD  )
	$(link) -lm
$(FUZZERS): $(B)/%: $(B)/tests/fuzz/%.o $(call objects,$(call helpers,tests/fuzz)) $(EVERYTHING)
	$(call say,LD  )
	$(link) -fsanitize=fuzzer $(SERVER_LIBS)

# ---------------------------------------------------------------- doing
ABS := $(CURDIR)/$(B)
export OPTD_BIN = $(ABS)/optd
export OPTCTL_BIN = $(ABS)/optctl
export EXAMPLES_DIR = $(ABS)/examples

deps: ## install the Debian packages that make run and make test need
	@deploy/deps.sh test
run: ## train Fashion-MNIST with two workers against a daemon
	@deploy/deps.sh run
	@$(MAKE) all
	@exec env BIN=$(B) deploy/run.sh
test: ## build and run every test, then the optimizer vectors
	@deploy/deps.sh test
	@$(MAKE) suite
check: ## before sending: layers, lint, sanitizers, short fuzzing (some 15 minutes)
	@deploy/deps.sh check
	@+tests/check.sh
check-long: ## everything else: other compilers and levels, long fuzzing, mutants
	@deploy/deps.sh check
	@+tests/check.sh long
# The parts of the above: SUITE="net e2e/test_lanes" takes only tests beginning so.
SUITE_TESTS := $(if $(SUITE),$(foreach name,$(SUITE),$(filter $(B)/tests/$(name)%,$(TESTS))),$(TESTS))
SUITE_ITEMS := $(SUITE_TESTS) $(if $(SUITE),,$(SCRIPTS) $(if $(VECTORS),"$(VECTORS) $(DIR)"))
suite: all $(SUITE_TESTS) $(if $(SUITE),,$(VECTORS))
	@tests/run.sh $(SUITE_ITEMS)
lint: $(GEN:%=%.h)
	@tests/lint.sh $(B)/gen
FUZZ_SECONDS ?= 15
fuzz: $(FUZZERS)
	@mkdir -p $(FUZZERS:%=%.corpus)
	@TEST_TIMEOUT=$$(($(FUZZ_SECONDS) + 120)) tests/run.sh $(foreach fuzzer,$(FUZZERS),"$(fuzzer) -max_total_time=$(FUZZ_SECONDS) \
	  -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix=$(B)/ $(fuzzer).corpus \
	  $(wildcard $(patsubst $(B)/fuzz_%,tests/fuzz/corpus/%,$(fuzzer)))")

bench: $(PROGRAMS) $(SDK) $(BENCHES) ## measure the data path and the kernels
	@for bench in $(BENCHES); do \
		case $$bench in *bench_round) floor=0.7 ;; *bench_kernels) floor=0.85 ;; *bench_muon) floor=0.6 ;; *) floor=0 ;; esac; \
		echo "== $${bench##*/}: at least $$floor of its limit"; $$bench --require $$floor || exit 1; \
	done
bench-optim: $(B)/tests/bench/bench_kernels ## every update rule against memory, and torch.optim if it is there
	@tests/bench/optim.sh $<
vectors: $(VECTORS) ## replay recorded optimizer runs: make vectors DIR=...
	@$(VECTORS) $(DIR)
format: ## lay out the C files as .clang-format says
	clang-format-14 -i $$(git ls-files '*.c' '*.h')
clean: ## remove what was built
	rm -rf build
help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14
	@echo "FLAVOUR=release|o3|asan|tsan|clang|clang-o3|fuzz  DEV=1  DEPS=skip|install  V=1  JOBS=N"

# PREFIX is where things will live, DESTDIR where they are put for now.
LIBDIR ?= $(PREFIX)/lib
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
LIBRARIES := $(if $(SDK),$(SDK_REAL) $(B)/static/liboptd.a)
# source:destination; @PREFIX@, @LIBDIR@ and @VERSION@ inside are filled in.
PLACED := client/optd.h:$(PREFIX)/include/optd.h deploy/optd.pc.in:$(LIBDIR)/pkgconfig/liboptd.pc
PLACED += $(foreach page,$(wildcard deploy/*.[1-8] deploy/man/*.[1-8]),$(page):$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page)))
PLACED += $(foreach unit,$(wildcard deploy/*.service deploy/systemd/*.service),$(unit):$(UNITDIR)/$(notdir $(unit)))
PLACED += $(foreach file,$(wildcard deploy/optd.yaml),$(file):$(PREFIX)/share/doc/optd/$(notdir $(file)))
COMPLETIONS := $(wildcard deploy/completion*/*)
PLACED += $(foreach file,$(filter %.bash,$(COMPLETIONS)),$(file):$(PREFIX)/share/bash-completion/completions/$(notdir $(file:.bash=)))
PLACED += $(foreach file,$(filter %.fish,$(COMPLETIONS)),$(file):$(PREFIX)/share/fish/vendor_completions.d/$(notdir $(file)))
PLACED += $(foreach file,$(filter %.zsh,$(COMPLETIONS)),$(file):$(PREFIX)/share/zsh/site-functions/_$(notdir $(file:.zsh=)))
PLACED += $(foreach file,$(foreach name,$(COMPLETIONS),$(filter _%,$(notdir $(name)))),$(filter %/$(file),$(COMPLETIONS)):$(PREFIX)/share/zsh/site-functions/$(file))

install: $(PROGRAMS) $(LIBRARIES) ## install under PREFIX (/usr/local), staged in DESTDIR
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBDIR)
	$(if $(PROGRAMS),install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin)
	$(if $(SDK),install -m 644 $(LIBRARIES) $(DESTDIR)$(LIBDIR))
	ln -sf $(notdir $(SDK_REAL)) $(DESTDIR)$(LIBDIR)/liboptd.so.$(SOVERSION)
	ln -sf liboptd.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/liboptd.so
	@set -e; for pair in $(PLACED); do \
	  from=$${pair%%:*}; to=$(DESTDIR)$${pair#*:}; mkdir -p $${to%/*}; echo "install $$to"; \
	  sed 's|@PREFIX@|$(PREFIX)|g; s|@LIBDIR@|$(LIBDIR)|g; s|@VERSION@|$(VERSION)|g' $$from > $$to; chmod 644 $$to; done
# Programs find the library by the cache that ldconfig keeps, and only in the directories it knows.
	@PATH=$$PATH:/usr/sbin:/sbin; \
	 if [ -n "$(DESTDIR)" ]; then echo "staged in $(DESTDIR); run ldconfig where it is installed"; \
	 elif [ "$$(id -u)" -ne 0 ]; then echo "run ldconfig as root, or set LD_LIBRARY_PATH=$(LIBDIR)"; \
	 elif ! ldconfig || ! ldconfig -p | grep -qF "$(LIBDIR)/liboptd.so"; then \
	   echo "ldconfig does not look into $(LIBDIR): name it in /etc/ld.so.conf.d, or set LD_LIBRARY_PATH"; fi
uninstall: ## remove what install put there
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,optd optctl) $(addprefix $(DESTDIR),$(foreach pair,$(PLACED),$(lastword $(subst :, ,$(pair))))) \
	  $(addprefix $(DESTDIR)$(LIBDIR)/,liboptd.a liboptd.so liboptd.so.$(SOVERSION) $(notdir $(SDK_REAL)))

-include $(shell find $(B) -name '*.d' 2>/dev/null)
