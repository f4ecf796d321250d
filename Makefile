# What people and .ci/run use. `make demo` and `make test` need nothing but Rust and, for the tests,
# what `make packages` installs.

CARGO  ?= cargo
PREFIX ?= /usr/local
TOOLS  := sshd ip rsync lsyncd setfacl setfattr man groff zsh fish haproxy keepalived python3 curl

.PHONY: all demo recording test sim failover-model failover failover-pause failover-mysql failover-pacemaker failover-patroni seeds fuzz-rsync faults soak attack deny fuzz drill judge page packages bench micro install deb dist test-deb test-dist test-ansible lint doc check clean

all:
	$(CARGO) build --release --locked

# A mirror at work on this host, with times; ends with failure if the trees differ.
demo:
	$(CARGO) build --release --locked --bin speil --example demo
	$(CARGO) run --release --locked --quiet --example demo

test: packages
	$(CARGO) test --locked --lib --bins --test it --test sim --test failover

# Histories of edits and faults in memory, about two million steps a second on one core, for SIM_SECONDS; then every
# rule left out in turn. A seed that fails is printed: SIM_SEED=N make sim runs that one history and prints it.
SIM_SECONDS ?= 60

sim:
	SIM_SECONDS=$(SIM_SECONDS) $(CARGO) test --release --locked --test sim -- --nocapture --test-threads=1

# Three hosts, and everything that can happen to them while one takes over from another: STATES states breadth first
# for each plan, SECONDS of histories at random, and for each rule that is left out at most so long. SHOW=1 prints
# what a rule is missed by.
STATES  ?= 300000
SECONDS ?= 60

failover-model:
	STATES=$(STATES) SECONDS=$(SECONDS) $(CARGO) test --release --locked --test failover -- --nocapture --test-threads=1

# Three hosts in namespaces with sshd, keepalived and HAProxy, uploads all the time, and every way for a host to die;
# prints the table of docs/failover.md. As root, with python3; one scenario: make failover SCENARIO=split. Some minutes.
ROUNDS   ?= 3
SCENARIO ?=

failover: packages
	@# A library that sets clocks wrong; without it, one scenario is left out.
	@ls target/tools/usr/lib/*/faketime/*.so.1 >/dev/null 2>&1 || ! command -v apt-get >/dev/null || \
	    { mkdir -p target/tools && cd target/tools && apt-get download -q libfaketime && dpkg-deb -x libfaketime_*.deb . && rm libfaketime_*.deb; }
	$(CARGO) build --locked --bin speil
	ROUNDS=$(ROUNDS) tests/data/failover/drill.py "$${CARGO_TARGET_DIR:-target}/debug/speil" $(SCENARIO)

# How long nothing is accepted in a planned switch, with the same hosts: ROUNDS switches, a third of a minute each.
failover-pause: packages
	$(CARGO) build --locked --bin speil
	ROUNDS=$(ROUNDS) tests/data/failover/pause.py "$${CARGO_TARGET_DIR:-target}/debug/speil"

# The same for two hosts that have a MariaDB beside the uploads, with `contrib/mysql/`. What is installed has no service.
failover-mysql: packages
	command -v mariadbd >/dev/null || apt-get install -q -y --no-install-recommends mariadb-server-core mariadb-client </dev/null
	$(CARGO) build --locked --bin speil
	ROUNDS=$(ROUNDS) tests/data/failover/mysql.py "$${CARGO_TARGET_DIR:-target}/debug/speil" $(SCENARIO)

# The same under Pacemaker with `contrib/pacemaker/`, and under Patroni with `contrib/patroni/`. Debian's packages are
# unpacked below the disks of the hosts, not installed.
UNPACKED = mkdir -p target/tools/$(1)/partial && apt-get install -d -y -q --no-install-recommends -o Dir::Cache::archives=$(CURDIR)/target/tools/$(1) $(2) </dev/null

failover-pacemaker: packages
	$(call UNPACKED,pacemaker,pacemaker pacemaker-cli-utils corosync resource-agents pcs)
	$(CARGO) build --locked --bin speil
	ROUNDS=$(ROUNDS) tests/data/failover/pacemaker.py "$${CARGO_TARGET_DIR:-target}/debug/speil" target/tools/pacemaker $(SCENARIO)

failover-patroni: packages
	id postgres >/dev/null || { echo "the account postgres is missing: apt-get install postgresql" >&2; exit 1; }
	$(call UNPACKED,patroni,patroni etcd-server python3-etcd python3-psycopg2 postgresql-15 sudo)
	$(CARGO) build --locked --bin speil
	ROUNDS=$(ROUNDS) tests/data/failover/patroni.py "$${CARGO_TARGET_DIR:-target}/debug/speil" target/tools/patroni $(SCENARIO)

# Random trees and words, rsync as the judge: COUNT cases from SEED on.
fuzz-rsync: packages
	SPEIL_ALIKE=$(or $(COUNT),5000) SPEIL_SEED=$(or $(SEED),1) $(CARGO) test --locked --test it alike:: -- --nocapture

# Fifty seeds of 3,000 adversarial edits each, live over a real sshd: with the periodic pass off, with
# it on, with two targets that are cut off at random, with the daemon killed, and across filters. Quarter of
# an hour.
seeds: packages
	SPEIL_SEEDS=1..51 SPEIL_OPERATIONS=3000 $(CARGO) test --locked --test it live::

# The race of symlinks against the agent for a minute, with and without Landlock.
attack: packages
	SPEIL_ATTACK_SECONDS=60 $(CARGO) test --locked --test it attack::symlinks -- --nocapture

# Every step of every fault: the Nth system call that fails, N from 1 until none does; either end, ssh
# and sshd killed after each message; power cuts in every state of the disk. About an hour, as root.
# One of them: make faults FAULT=power
faults: packages
	SPEIL_FAULTS=1 $(CARGO) test --locked --test it faults::$(FAULT) -- --nocapture --test-threads=1

# Edits and random kills under three targets, with what they cost, a line a minute.
MINUTES ?= 60

soak: packages
	MINUTES=$(MINUTES) $(CARGO) test --release --locked --test it faults::soak -- --ignored --nocapture

# Advisories, licences and sources of the dependencies. The advisories are fetched.
deny:
	$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install cargo-deny --locked
	$(CARGO) deny check

# Each fuzz target for FUZZ seconds, with a nightly toolchain: contrib/fuzz/README.md.
FUZZ         ?= 240
FUZZ_TARGETS := frames messages delta filter lsyncd options

fuzz:
	$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --locked
	for target in $(FUZZ_TARGETS); do \
	    mkdir -p contrib/fuzz/corpus/$$target; nice -n 10 $(CARGO) +nightly fuzz run --fuzz-dir contrib/fuzz $$target contrib/fuzz/corpus/$$target contrib/fuzz/seeds/$$target -- \
	        -max_total_time=$(FUZZ) -max_len=65536 -rss_limit_mb=2048 || exit 1; \
	done

# Drills: minutes each, with figures, in up to 10 GB of memory.
# One of them: make drill DRILL=a_million
drill: packages
	$(CARGO) test --release --locked --test it drill::$(DRILL) -- --ignored --nocapture --test-threads=1

# Ten real trees of this host, each mirrored live and in one pass, and rsync as the judge.
judge: packages
	$(CARGO) test --locked --test it judge:: -- --ignored --nocapture
# The page in a headless Chromium, which SPEIL_CHROMIUM may name; SPEIL_SCREENSHOTS=DIR keeps the pictures.
page:
	$(CARGO) test --locked --test it page:: -- --ignored

# docs/recording.svg, from a real run between two hosts that are made for it. As root, with python3.
recording:
	$(CARGO) build --release --locked --bin speil
	contrib/recording/make "$${CARGO_TARGET_DIR:-target}/release/speil" docs/recording.svg

# Debian and Ubuntu, as root; elsewhere it says what is missing and the tests say where it hurts.
packages:
	@missing=; for tool in $(TOOLS); do \
	    PATH="$$PATH:/usr/sbin:/sbin" command -v $$tool >/dev/null || missing="$$missing $$tool"; \
	done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get update -q && apt-get install -q -y --no-install-recommends \
	        openssh-server openssh-client iproute2 rsync lsyncd acl attr man-db groff zsh fish haproxy keepalived python3 curl </dev/null; \
	else \
	    echo "the tests need:$$missing (openssh-server iproute2 rsync lsyncd acl attr man-db groff zsh fish haproxy keepalived python3 curl)" >&2; exit 1; \
	fi
	@# These programs alone, unpacked beside the build: their packages would start a server.
	@for it in prometheus:bin/promtool nginx:sbin/nginx; do \
	    package=$${it%%:*}; program=$${it#*:}; \
	    if command -v $${program##*/} >/dev/null || [ -x target/tools/usr/$$program ]; then continue; fi; \
	    if command -v apt-get >/dev/null; then \
	        if [ "$$(id -u)" = 0 ]; then apt-get update -q >/dev/null; fi; \
	        (mkdir -p target/tools && cd target/tools && apt-get download -q $$package && \
	            dpkg-deb -x $${package}_*.deb . && rm $${package}_*.deb) || exit 1; \
	    else \
	        echo "the tests need $${program##*/} ($$package)" >&2; exit 1; \
	    fi; \
	done

# The table of docs/performance.md: an hour on two idle cores, with up to 5 GB in memory. As root, for one row.
bench: packages
	$(CARGO) bench --locked --bench end_to_end

# Single steps, without network and peers.
micro:
	$(CARGO) bench --locked --bench micro

# Program, units, man pages, completions and documents below PREFIX.
install: all
	contrib/package/stage "$${CARGO_TARGET_DIR:-target}/release/speil" "$(PREFIX)" "$(DESTDIR)"

# Debian packages into target/debian: speil, and speil-lsyncd, which is lsyncd's name for it.
# DEB_PROFILE=dev builds one to try out.
DEB_PROFILE ?= release
DEB_TOOL    := 2.12.1
DEB_BUILT    = $${CARGO_TARGET_DIR:-target}/$(if $(filter dev,$(DEB_PROFILE)),debug,$(DEB_PROFILE))/speil
# Fills target/package, of which the packages are made, with an executable.
STAGE        = rm -rf target/package && \
    ZSH_DIR=vendor-completions contrib/package/stage $(1) /usr target/package/deb && \
    contrib/package/stage $(1) /usr target/package/rpm && ln -s speil target/package/lsyncd

deb:
	$(CARGO) deb --version 2>/dev/null | grep -q '$(DEB_TOOL)$$' || $(CARGO) install cargo-deb --locked --version $(DEB_TOOL)
	$(CARGO) build --locked --bin speil --profile $(DEB_PROFILE)
	$(call STAGE,"$(DEB_BUILT)")
	$(CARGO) deb --locked --no-build --quiet --profile $(DEB_PROFILE)
	$(CARGO) deb --locked --no-build --quiet --profile $(DEB_PROFILE) --variant lsyncd

# What is given away, into target/dist: a tar.gz to be unpacked in /usr/local, and packages for Debian and Red Hat. The
# executable runs with glibc GLIBC and newer, whichever this host has: zig links it, in a Python environment of its own.
GLIBC    ?= 2.17
RPM_TOOL := 0.21.1
ZIG_VENV ?= target/zig
TRIPLE    = $(shell rustc -vV | sed -n 's/^host: //p')
VERSION   = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
ARCHIVE   = speil-$(VERSION)-$(firstword $(subst -, ,$(TRIPLE)))-linux
DIST_BUILT = $${CARGO_TARGET_DIR:-target}/$(TRIPLE)/release/speil

dist:
	[ -x $(ZIG_VENV)/bin/cargo-zigbuild ] || { python3 -m venv $(ZIG_VENV) && $(ZIG_VENV)/bin/pip -q install cargo-zigbuild==0.24.1 ziglang==0.17.1; }
	$(CARGO) deb --version 2>/dev/null | grep -q '$(DEB_TOOL)$$' || $(CARGO) install cargo-deb --locked --version $(DEB_TOOL)
	$(CARGO) generate-rpm --version 2>/dev/null | grep -q '$(RPM_TOOL)$$' || $(CARGO) install cargo-generate-rpm --locked --version $(RPM_TOOL)
	PATH="$(abspath $(ZIG_VENV))/bin:$$PATH" $(CARGO) zigbuild --release --locked --bin speil --target $(TRIPLE).$(GLIBC)
	contrib/package/glibc "$(DIST_BUILT)" $(GLIBC)
	$(call STAGE,"$(DIST_BUILT)")
	rm -rf target/dist && mkdir -p target/dist
	contrib/package/stage "$(DIST_BUILT)" /usr/local "target/package/tar"
	mv target/package/tar/usr/local "target/package/$(ARCHIVE)"
	tar -C target/package --owner=0 --group=0 --sort=name -czf "target/dist/$(ARCHIVE).tar.gz" "$(ARCHIVE)"
	$(CARGO) deb --locked --no-build --no-strip --quiet --output target/dist/
	$(CARGO) deb --locked --no-build --no-strip --quiet --output target/dist/ --variant lsyncd
	$(CARGO) generate-rpm --payload-compress gzip --output target/dist/
	cd target/dist && sha256sum -- * >SHA256SUMS && ls -l

# Installs the packages in a Debian made for it, tries them out, removes them, and looks for what is
# left. As root, with debootstrap.
test-deb: deb
	contrib/deb/try target/debian

# What `make dist` has built: the packages for Debian as above, the one for Red Hat and the tar.gz in a root of SUITE,
# which is older than what builds them. As root, with debootstrap and rpm.
test-dist:
	contrib/deb/try target/dist
	SUITE=bullseye contrib/package/try target/dist

# The Ansible role: syntax, lint, and applied to this host below a temporary directory. The tools go into
# a virtual environment of their own.
ANSIBLE_VENV ?= target/ansible

test-ansible:
	$(CARGO) build --locked --bin speil
	[ -x $(ANSIBLE_VENV)/bin/ansible-lint ] || { python3 -m venv $(ANSIBLE_VENV) && $(ANSIBLE_VENV)/bin/pip -q install ansible-core==2.19.14 ansible-lint==26.10.1; }
	PATH="$(abspath $(ANSIBLE_VENV))/bin:$$PATH" contrib/ansible/test/run "$${CARGO_TARGET_DIR:-target}/debug/speil"

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --locked

check:
	.ci/run

clean:
	$(CARGO) clean
