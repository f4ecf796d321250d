# What people and .ci/run use. `make demo` and `make test` need nothing but Rust and, for the tests,
# what `make packages` installs.

CARGO  ?= cargo
PREFIX ?= /usr/local
TOOLS  := sshd rsync lsyncd setfacl setfattr man groff zsh fish

.PHONY: all demo test seeds drill packages bench install lint doc check clean

all:
	$(CARGO) build --release --locked

# A mirror at work on this host, with times; ends with failure if the trees differ.
demo:
	$(CARGO) build --release --locked --bin speil --example demo
	$(CARGO) run --release --locked --quiet --example demo

test: packages
	$(CARGO) test --locked --lib --bins --test it

# Fifty seeds of 3,000 adversarial edits each, live over a real sshd: with the periodic pass off, with
# it on, with two targets that are cut off at random, and with the daemon killed. About half an hour.
seeds: packages
	SPEIL_SEEDS=1..51 SPEIL_OPERATIONS=3000 $(CARGO) test --locked --test it live::

# Drills: minutes each, with figures, in up to 10 GB of memory.
# One of them: make drill DRILL=a_million
drill: packages
	$(CARGO) test --release --locked --test it drill::$(DRILL) -- --ignored --nocapture --test-threads=1

# Debian and Ubuntu, as root; elsewhere it says what is missing and the tests say where it hurts.
packages:
	@missing=; for tool in $(TOOLS); do \
	    PATH="$$PATH:/usr/sbin:/sbin" command -v $$tool >/dev/null || missing="$$missing $$tool"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get update -q && apt-get install -q -y --no-install-recommends \
	        openssh-server openssh-client rsync lsyncd acl attr man-db groff zsh fish </dev/null; \
	else \
	    echo "the tests need:$$missing (openssh-server rsync lsyncd acl attr man-db groff zsh fish)" >&2; exit 1; \
	fi

bench:
	$(CARGO) bench --locked --bench end_to_end

install: all
	install -D -m 755 "$${CARGO_TARGET_DIR:-target}/release/speil" "$(DESTDIR)$(PREFIX)/bin/speil"

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --locked

check:
	.ci/run

clean:
	$(CARGO) clean
