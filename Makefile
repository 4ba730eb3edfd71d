# What people call. Everything is built into bin/; nothing outside of this directory is
# changed but what `run` mounts, what `install` puts below PREFIX, and packages.

VAULT  ?= $(HOME)/vault
PREFIX ?= /usr/local
GO     ?= go
BIN     = bin
# Where units go. For PREFIX=$HOME/.local say USER_UNITS=$HOME/.local/share/systemd/user.
SYSTEM_UNITS ?= $(PREFIX)/lib/systemd/system
USER_UNITS   ?= $(PREFIX)/lib/systemd/user
# How long all tests may take; soak has no bound worth the name.
TEST_TIMEOUT ?= 40m
SOAK_TIMEOUT ?= 24h
FUZZ_TIME ?= 1m

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

PROGRAMS = stasis stasis-mount stasis-peer
UNITS    = cmd/stasis-mount/units
INSTALLED_UNITS = "$(DESTDIR)$(SYSTEM_UNITS)/stasis-peer.service" "$(DESTDIR)$(SYSTEM_UNITS)/stasis-mount@.service" \
	"$(DESTDIR)$(USER_UNITS)/stasis-mount@.service"

# program:package, for whoever lacks the program.
RUN_NEEDS  = fusermount3:fuse3 findmnt:util-linux
TEST_NEEDS = $(RUN_NEEDS) rsync:rsync git:git sqlite3:sqlite3 tar:tar fuser:psmisc setfattr:attr \
	losetup:mount mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs xfs_io:xfsprogs vim.tiny:vim-tiny unzip:unzip setfacl:acl
# Large, or for the full counts only: without them their tests are skipped.
SOAK_NEEDS = $(TEST_NEEDS) gio:libglib2.0-bin fio:fio dbench:dbench stress-ng:stress-ng pg_createcluster:postgresql

.PHONY: build run test lint unit bench soak fuzz install uninstall deps test-deps soak-deps go clean

build: go
	$(GO) build -trimpath -o $(BIN)/ ./cmd/...

# Mounts VAULT, or shows its status if it is mounted. A daemon that was killed leaves a
# mount that does not answer, which stasis-mount clears.
run: deps build
	@type="$$(findmnt -n -o FSTYPE --mountpoint "$(VAULT)" | tail -n 1)"; \
	if [ "$$type" = fuse.stasis ] && timeout 10 stat -f "$(VAULT)" >/dev/null 2>&1; then \
		exec bin/stasis status "$(VAULT)"; \
	fi; \
	[ -n "$$type" ] || mkdir -p "$(VAULT)" || exit 1; \
	bin/stasis-mount "$(VAULT)" && echo "The commands are in $(CURDIR)/bin; \`make install\` puts them into $(PREFIX)/bin."

test: test-deps lint unit

unit: go
	$(GO) test -timeout $(TEST_TIMEOUT) ./...

soak: soak-deps go fuzz
	STASIS_SOAK=1 $(GO) test -count=1 -timeout $(SOAK_TIMEOUT) ./...

# Every parser of bytes from outside, FUZZ_TIME each.
fuzz: go
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' "$$package" | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 1x "$$package" || exit 1; \
		done; \
	done

bench: test-deps build
	$(GO) run ./integration/bench --bin $(BIN)

lint: go
	@unformatted="$$(gofmt -l cmd fs store router peer integration)"; \
		if [ -n "$$unformatted" ]; then echo "gofmt these: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# Builds first where Go is at hand, which under sudo it often is not.
install:
	@if command -v $(GO) >/dev/null || ! [ -x $(BIN)/stasis-mount ]; then $(MAKE) --no-print-directory build; fi
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(SYSTEM_UNITS)" "$(DESTDIR)$(USER_UNITS)"
	install $(addprefix $(BIN)/,$(PROGRAMS)) "$(DESTDIR)$(PREFIX)/bin"
	install -m 644 cmd/stasis-peer/stasis-peer.service $(UNITS)/system/stasis-mount@.service "$(DESTDIR)$(SYSTEM_UNITS)"
	install -m 644 $(UNITS)/user/stasis-mount@.service "$(DESTDIR)$(USER_UNITS)"
	sed -i "s|/usr/local/bin|$(PREFIX)/bin|" $(INSTALLED_UNITS)

# Takes away what install put there, and nothing else: no state directory, no vault, no
# peer's crates. Directories go only if they are left empty.
uninstall:
	rm -f $(foreach p,$(PROGRAMS),"$(DESTDIR)$(PREFIX)/bin/$(p)") $(INSTALLED_UNITS)
	@for d in "$(DESTDIR)$(SYSTEM_UNITS)" "$(DESTDIR)$(USER_UNITS)"; do \
		[ ! -d "$$d" ] || rmdir --ignore-fail-on-non-empty "$$d"; done
	@echo "Vaults and peers stay as they are: their files lie in ~/.local/share/stasis, ~/.local/share/stasis-peer,"
	@echo "/var/lib/stasis, /var/lib/stasis-peer, or where you had them."

clean:
	rm -rf $(BIN)

go:
	@command -v $(GO) >/dev/null || { echo "Go is missing: install it from https://go.dev/dl or as the package golang" >&2; exit 1; }

deps: ; @$(call provide,$(RUN_NEEDS))
test-deps: ; @$(call provide,$(TEST_NEEDS))
soak-deps: ; @$(call provide,$(SOAK_NEEDS))

# provide installs the packages of the programs that are missing, with sudo only for that.
define provide
PATH="$$PATH:/usr/sbin:/sbin"; missing=""; \
for need in $(1); do command -v "$${need%%:*}" >/dev/null || missing="$$missing $${need##*:}"; done; \
[ -z "$$missing" ] && exit 0; \
command -v apt-get >/dev/null || { echo "Install these packages first:$$missing" >&2; exit 1; }; \
sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
echo "Installing$$missing"; \
$$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing
endef
