# Everything happens in .venv beside this file.  Debian packages are installed where we may (root, or sudo without a
# password); elsewhere the missing ones are named.  What is done already is not done again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# program:package, as needed by each target; sbin is not on every user's path
DEMO_NEEDS := ip:iproute2 nft:nftables
TEST_NEEDS := $(DEMO_NEEDS) sshd:openssh-server ssh:openssh-client
BENCH_NEEDS := $(TEST_NEEDS) igmpproxy:igmpproxy
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help setup demo test test-clients test-vm faults check format bench fuzz agent clean
.SILENT:

help:
	echo "make demo    the main job in a lab of network namespaces, under a minute"
	echo "make test    every test, several files at a time; seven minutes on two cores (make test ARGS='-k querier')"
	echo "make test-vm tests that need 802.1Q, on a kernel that is booted for them (user-mode-linux), a minute"
	echo "make test-clients  NETCONF clients of others against the agent: half a gigabyte to install, a minute"
	echo "make faults  every system call of a transaction, in turn, is the one that goes wrong: 2,700 cases, two minutes"
	echo "make check   format, lint, types, architecture: what CI runs before the tests"
	echo "make bench   measured against Debian's igmpproxy"
	echo "make fuzz    let a coverage-guided fuzzer loose on decoders and engine (make fuzz SECONDS_EACH=600)"
	echo "make agent   igmpconf-agent.pyz, the one file for a device"
	echo "make setup   only the virtual environment; make clean removes it and all that was built"

setup: $(VENV)/.installed

demo: setup
	./.ci/packages $(DEMO_NEEDS)
	$(BIN)/igmpconf demo $(ARGS)

test: setup
	./.ci/packages $(TEST_NEEDS)
	together=0; alone=0; \
	echo "tests side by side:"; $(BIN)/pytest -q --ignore=tests/vm --only together -n auto --dist loadfile --no-loadscope-reorder $(ARGS) || together=$$?; \
	echo "tests that need the machine for themselves:"; $(BIN)/pytest -q --ignore=tests/vm --only alone $(ARGS) -n 0 || alone=$$?; \
	case $$together,$$alone in 0,0|0,5|5,0) ;; *) exit 1;; esac  # pytest's 5: ARGS selects none of these

test-clients: $(VENV)/.clients
	./.ci/packages $(TEST_NEEDS)
	$(BIN)/pytest -q -rs tests/topology/test_other_clients.py $(ARGS)

test-vm: setup
	./.ci/packages ip:iproute2 linux.uml:user-mode-linux modprobe:kmod
	$(BIN)/pytest -q -rs tests/vm

faults: setup
	FAULTS=all $(BIN)/pytest -q --timeout=900 tests/faults $(ARGS)

check: setup
	$(BIN)/ruff format --quiet --check .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary igmpconf bench
	$(BIN)/pytest -q tests/architecture

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	./.ci/packages $(BENCH_NEEDS)
	$(BIN)/python -m bench $(ARGS)

SECONDS_EACH ?= 60
fuzz: setup
	$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/pip install -qq --disable-pip-version-check --only-binary :all: 'atheris>=2.3' || { echo "atheris has no wheel for this machine; the Hypothesis tests in tests/fuzz run everywhere" >&2; exit 1; }
	for target in decoders engine; do $(BIN)/python -m tests.fuzz.fuzzer $$target -max_total_time=$(SECONDS_EACH) $(ARGS) || exit 1; done

agent: igmpconf-agent.pyz

igmpconf-agent.pyz: setup $(shell find igmpconf -name '*.py')
	$(BIN)/python -m igmpconf.apply.bundle $@

# The stamp says: made from this pyproject.toml.  A virtual environment whose Python has gone is made anew.
$(VENV)/.installed: pyproject.toml $(shell test -x $(BIN)/python && $(BIN)/python -c '' 2>/dev/null || echo remake)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "igmpconf needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || ./.ci/packages --required python3-venv:python3-venv
	echo "setting up $(VENV) (once)"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install -qq --disable-pip-version-check -e '.[dev]'
	$(BIN)/pip install -qq --disable-pip-version-check --only-binary :all: 'atheris>=2.3' 2>/dev/null || echo "no atheris for this machine: its test will be skipped" >&2
	touch $@

# Ansible and its collections are too large for everybody's environment.
$(VENV)/.clients: $(VENV)/.installed
	echo "installing NETCONF clients into $(VENV) (once)"
	$(BIN)/pip install -qq --disable-pip-version-check -e '.[clients]'
	touch $@

.PHONY: remake
remake:

clean:
	rm -rf $(VENV) .fuzz build dist *.egg-info igmpconf-agent.pyz .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
