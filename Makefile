# Two commands matter: `make demo` and `make test`. Each sets up what it needs on a fresh
# machine with Rust, Python 3.11+ and a C linker, and says what is missing where something is.
#
# Always: nothing outside this folder is written, except by cargo and pip into their caches.
# One virtual environment a Python version under .venv/, and one for the tools; the wheel is
# built once, for the stable ABI, and installed into each of them.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# The first Python found builds and runs the demo; all of them run the tests, the last CPython's suite.
FIRST     = $(shell sed -n '1s/ .*//p' .venv/found)
LAST      = $(shell cut -d' ' -f1 .venv/found | sort -t. -k2 -n | tail -n 1)
VERSIONS  = $(shell cut -d' ' -f1 .venv/found)
PY        = .venv/$(FIRST)/bin/python
TOOLS     = .venv/tools/bin
CARGO    ?= cargo
# PyO3 asks this Python about the stable ABI, not whichever one is first on PATH.
export PYO3_PYTHON = $(CURDIR)/$(TOOLS)/python

SOURCES := .cargo/config.toml Cargo.toml Cargo.lock pyproject.toml README.md LICENSE-MIT LICENSE-APACHE \
	$(shell find crates python -name '*.rs' -o -name 'Cargo.toml' -o -name '*.py' -o -name '*.pyi' -o -name 'py.typed')

##@ The two commands

demo: rounds ?= 3
demo: build/wheel.stamp ## builds everything and shows, measured, what threads and processes do (rounds=3)
	@$(MAKE) .venv/$(FIRST)/.ready
	@$(CARGO) build --quiet --release --locked -p manyhands-examples --bin demo
	@$(PY) demo --rounds $(rounds) --output build --rust "$$($(PY) tools/target_dir.py)/release/demo"

PARTS = tools rust loom python libraries seeds conformance
test: ## all tests: Rust, loom, every Python found, the seeds, CPython's suite
	@for part in $(PARTS); do echo "== test-$$part"; $(MAKE) test-$$part || { echo "make test: test-$$part failed"; exit 1; }; done
	@echo "make test: all tests passed"

##@ Parts of the tests

test-tools: ## the check for missing tools, itself tested
	@sh tests/tools/check_tools_test.sh

test-rust: .venv/tools/.ready ## unit, integration and documentation tests of the crates
	@if $(CARGO) nextest --version >/dev/null 2>&1; \
	then $(CARGO) nextest run --workspace --locked --features manyhands/tokio; \
	else timeout -k 10 900 $(CARGO) test --workspace --locked --quiet --features manyhands/tokio; fi
	@timeout -k 10 600 $(CARGO) test --workspace --locked --doc --quiet --features manyhands/tokio
	@timeout -k 10 300 $(CARGO) test -p manyhands-os --features crash-points --test crash --locked --quiet

test-loom: ## every interleaving of ring, mailbox and doorbell, by loom
	@RUSTFLAGS="--cfg loom" timeout -k 10 900 $(CARGO) test --locked --profile quick --quiet -p manyhands-shm --tests --target-dir $(LOOM_TARGET)
LOOM_TARGET = $(or $(CARGO_TARGET_DIR),target)/loom

test-python: build/wheel.stamp ## pytest, for every Python found, two at a time
	@$(MAKE) -k -j2 -Otarget $(addprefix test-python-,$(VERSIONS))

# What fails is run once more and listed as RERUN: on a shared machine one test in some thousands meets a moment
# that says nothing about us. Whoever sees one there again has found something.
RERUNS ?= 1
test-python-%: .venv/%/.ready
	@echo "pytest on Python $*"
	@timeout -k 10 1500 .venv/$*/bin/python -m pytest -q --reruns $(RERUNS) $(PYTEST_ARGS)

test-libraries: build/wheel.stamp ## joblib, scikit-learn, scipy, pandas, polars on manyhands, and their examples, on the newest Python
	@$(MAKE) .venv/libraries-$(LAST)/.ready
	@timeout -k 10 900 .venv/libraries-$(LAST)/bin/python -m pytest -q --reruns $(RERUNS) $(wildcard tests/ecosystem tests/arrays) \
	    tests/examples/test_libraries.py $(PYTEST_ARGS)

test-seeds: build/wheel.stamp ## the seeds' own checker, where ../shared has it (pytest runs our copy anyway)
	@$(MAKE) .venv/$(FIRST)/.ready
	@if [ -f ../shared/seeds/check.py ]; then timeout -k 10 900 $(PY) ../shared/seeds/check.py; \
	else echo "no ../shared/seeds here: tests/seeds has run the same programs"; fi

test-conformance: build/wheel.stamp ## CPython's suite, every start method, where ../shared has the runner
	@$(MAKE) .venv/$(LAST)/.ready
	@if [ -f ../shared/conformance/conformance.py ]; \
	then .venv/$(LAST)/bin/python tests/stdlib/run.py ../shared/conformance/conformance.py $(CONFORMANCE_ARGS); \
	else echo "no ../shared/conformance here: CPython's suite is not run"; fi

##@ Checks that are not tests

lint: lint-rust lint-python lint-words deny unsafe-check ## all linters

lint-rust: .venv/tools/.ready
	@$(CARGO) fmt --all -- --check
	@$(CARGO) clippy --workspace --all-targets --locked --quiet -- -D warnings
	@$(CARGO) clippy --workspace --all-targets --locked --quiet --features manyhands-py/crash-points,manyhands/tokio -- -D warnings
	@! $(CARGO) tree --locked -p manyhands -i pyo3 2>/dev/null | grep . || { echo "the engine must know no Python, but manyhands depends on pyo3 (above)"; exit 1; }

lint-python: .venv/tools/.ready
	@$(TOOLS)/ruff check .
	@$(TOOLS)/ruff format --check .

lint-words: .venv/tools/.ready
	@$(TOOLS)/typos

deny: ## licences, sources and bans of the dependency tree (installs cargo-deny once)
	@tools/cargo-deny.sh check bans licenses sources

advisories: ## known vulnerabilities in dependencies (asks RustSec's database over the network)
	@tools/cargo-deny.sh check advisories

unsafe-check: .venv/tools/.ready ## docs/unsafe.md lists the unsafe blocks as they are
	@$(TOOLS)/python tools/unsafe_inventory.py --check docs/unsafe.md

typecheck: build/wheel.stamp ## mypy --strict, stubtest of the built engine, and what is said of typical programs
	@$(MAKE) .venv/tools/.wheel
	@$(TOOLS)/mypy
	@$(TOOLS)/python -m mypy.stubtest manyhands._engine
	@$(TOOLS)/python -B tests/typing/checkers.py

format: .venv/tools/.ready ## formats Rust and Python
	@$(CARGO) fmt --all
	@$(TOOLS)/ruff check --fix .
	@$(TOOLS)/ruff format .

docs: .venv/tools/.ready ## Rust's documentation with warnings denied, and the unsafe inventory page
	@$(TOOLS)/python tools/unsafe_inventory.py --write docs/unsafe.md
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet --features manyhands/tokio

# The order in which they go to crates.io: each needs those before it.
CRATES = manyhands-os manyhands-shm manyhands
publish-check: ## packs the crates for crates.io and builds what was packed, without uploading (two minutes)
	@$(CARGO) publish --dry-run --allow-dirty --locked --quiet $(addprefix -p ,$(CRATES))

site: .venv/site/.ready docs ## the documentation as a site in build/site, links checked, Rust's beside it
	@NO_MKDOCS_2_WARNING=1 .venv/site/bin/mkdocs build --strict
	@rm -rf build/site/rust && cp -r $(or $(CARGO_TARGET_DIR),target)/doc build/site/rust
	@echo "open build/site/index.html"

##@ Measures and long runs

bench-smoke: build/wheel.stamp ## apply, map and start against the standard library (a minute or two)
	@$(MAKE) .venv/$(FIRST)/.ready
	@$(PY) -m benches --smoke $(BENCH_ARGS)

bench: build/wheel.stamp ## all workloads, all peers, on the newest Python (hours; BENCH_ARGS="--only queue --rounds 3")
	@$(MAKE) .venv/peers-$(LAST)/.ready
	@.venv/peers-$(LAST)/bin/python -m benches --pictures docs/pictures $(BENCH_ARGS)

# BENCH_TIME is how many seconds each figure takes, after as many of warming up; BENCH_ARGS=ring measures what has "ring" in
# its name.
BENCH_TIME ?= 0.5
bench-engine: .venv/tools/.ready ## the engine without Python, by criterion, each figure beside the hardware's floor (a minute, and the build)
	@mkdir -p build
	@touch build/bench-engine.stamp
	@$(CARGO) bench --locked -p manyhands-shm -p manyhands --benches -- --warm-up-time $(BENCH_TIME) --measurement-time $(BENCH_TIME) $(BENCH_ARGS)
	@$(TOOLS)/python tools/floors.py build/bench-engine.stamp

figures: .venv/tools/.ready ## writes the README's tables from the last 'make demo' and 'make bench-smoke'
	@$(TOOLS)/python tools/figures.py README.md

# STRESS_ARGS="--seed 7 --method spawn" replays, and narrows down.
STRESS_KILLS ?= 10000
STRESS_POOLS ?= 10000
stress: build/wheel.stamp build/stress.stamp ## kills 10,000 processes of all kinds, at random moments and named points, and opens 10,000 pools (an hour; STRESS_KILLS, STRESS_POOLS)
	@$(MAKE) .venv/$(FIRST)/.ready .venv/stress-$(FIRST)/.ready
	@$(PY) benches/stress.py --kills $(STRESS_KILLS) --points .venv/stress-$(FIRST)/bin/python $(STRESS_ARGS)
	@$(PY) benches/stress_pools.py --pools $(STRESS_POOLS)

stress-smoke: build/wheel.stamp build/stress.stamp ## the same with few kills, at some of the named points
	@$(MAKE) .venv/$(FIRST)/.ready .venv/stress-$(FIRST)/.ready
	@$(PY) benches/stress.py --kills 400 --points .venv/stress-$(FIRST)/bin/python --points-method fork \
	    --points-only pool --points-only locks --points-only producers --points-only consumers $(STRESS_ARGS)
	@$(PY) benches/stress_pools.py --pools 150

# FUZZ_RUNS is how many executions each target gets, FUZZ_TIME how many seconds at most, FUZZ_TARGETS which ones.
fuzz: ## what is read of other processes, by libFuzzer and AddressSanitizer (FUZZ_RUNS=100000, FUZZ_TIME=0)
	@tools/fuzz.sh

fuzz-python: build/wheel.stamp ## the same for what needs an interpreter (FUZZ_RUNS=5000)
	@$(MAKE) .venv/$(LAST)/.ready
	@.venv/$(LAST)/bin/python fuzz/python_decoders.py --runs $(or $(FUZZ_RUNS),5000)

asan: ## the engine's tests under AddressSanitizer
	@tools/memory-checks.sh asan

valgrind: ## the engine's tests under valgrind's memcheck
	@tools/memory-checks.sh valgrind

##@ Building

wheel: build/wheel.stamp ## one abi3 wheel for CPython 3.11 and newer, in dist/

dev: .venv/tools/.ready ## installs the package in place into the first Python's environment, for editing
	@$(MAKE) .venv/$(FIRST)/.ready
	@VIRTUAL_ENV="$(CURDIR)/.venv/$(FIRST)" $(TOOLS)/maturin develop --release --quiet
	@echo "edit python/ freely; run 'make dev' again after a change in crates/ (and 'make clean-venv' to go back to the wheel)"

check-tools: ## names what this machine lacks
	@sh tools/check-tools.sh

clean-venv: ## removes the virtual environments and the wheel
	rm -rf .venv build dist python/manyhands/*.so

clean: clean-venv ## removes everything that was built
	$(CARGO) clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile

# The environments. A file named .ready says: this environment is complete.

.venv/found: tools/find-pythons.sh tools/check-tools.sh
	@sh tools/check-tools.sh
	@mkdir -p .venv
	@sh tools/find-pythons.sh > $@

.venv/tools/.ready: .venv/found pyproject.toml
	@echo "setting up the tools (maturin, ruff, mypy, pyright, typos) in .venv/tools"
	@"$$(sed -n '1s/^[^ ]* //p' .venv/found)" -m venv --clear .venv/tools
	@$(TOOLS)/python -m pip install --quiet $$($(TOOLS)/python tools/extra.py dev)
	@touch $@

build/wheel.stamp: $(SOURCES) | .venv/tools/.ready
	@echo "building the wheel"
	@rm -rf dist
	@mkdir -p build
	@$(TOOLS)/maturin build --quiet --release --locked --interpreter $(TOOLS)/python --out dist
	@touch $@

# A second wheel, whose processes kill themselves at named points when they are told to. Not optimised as a whole: it
# is built in a minute, and beside the other one in another profile.
build/stress.stamp: $(SOURCES) | .venv/tools/.ready
	@echo "building the wheel with crash points"
	@rm -rf build/stress
	@mkdir -p build
	@$(TOOLS)/maturin build --quiet --profile quick --locked --features crash-points --interpreter $(TOOLS)/python --out build/stress
	@touch $@

.venv/stress-%/.ready: build/stress.stamp
	@[ -x .venv/stress-$*/bin/python ] || "$$(sed -n 's/^$* //p' .venv/found)" -m venv .venv/stress-$*
	@.venv/stress-$*/bin/python -m pip install --quiet --force-reinstall --no-deps build/stress/manyhands-*.whl
	@touch $@

.venv/tools/.wheel: build/wheel.stamp
	@$(TOOLS)/python -m pip install --quiet --force-reinstall --no-deps dist/manyhands-*.whl
	@touch $@

.venv/site/.ready: .venv/found pyproject.toml tools/extra.py
	@echo "setting up mkdocs in .venv/site"
	@[ -x .venv/site/bin/python ] || "$$(sed -n '1s/^[^ ]* //p' .venv/found)" -m venv .venv/site
	@.venv/site/bin/python -m pip install --quiet $$(.venv/site/bin/python tools/extra.py docs)
	@touch $@

# One peer after the other: what cannot be installed here is named, and costs no other peer its place.
.venv/peers-%/.ready: build/wheel.stamp pyproject.toml tools/extra.py
	@echo "setting up the peers for Python $* in .venv/peers-$*"
	@[ -x .venv/peers-$*/bin/python ] || "$$(sed -n 's/^$* //p' .venv/found)" -m venv .venv/peers-$*
	@for peer in $$(.venv/peers-$*/bin/python tools/extra.py peers); do \
	    .venv/peers-$*/bin/python -m pip install --quiet "$$peer" || echo "$$peer cannot be installed on Python $*: left out"; done
	@.venv/peers-$*/bin/python -m pip install --quiet --force-reinstall --no-deps dist/manyhands-*.whl
	@touch $@

.venv/libraries-%/.ready: .venv/%/.ready pyproject.toml
	@[ -x .venv/libraries-$*/bin/python ] || { echo "setting up other libraries for Python $* in .venv/libraries-$*"; \
	    "$$(sed -n 's/^$* //p' .venv/found)" -m venv .venv/libraries-$* && \
	    .venv/libraries-$*/bin/python -m pip install --quiet $$(.venv/libraries-$*/bin/python tools/extra.py test) \
	        $$(.venv/libraries-$*/bin/python tools/extra.py libraries | tr -d ' '); }
	@.venv/libraries-$*/bin/python -m pip install --quiet --force-reinstall --no-deps dist/manyhands-*.whl
	@touch $@

.venv/%/.ready: build/wheel.stamp
	@[ -x .venv/$*/bin/python ] || { echo "setting up Python $* in .venv/$*"; \
	    "$$(sed -n 's/^$* //p' .venv/found)" -m venv .venv/$* && \
	    .venv/$*/bin/python -m pip install --quiet $$(.venv/$*/bin/python tools/extra.py test) && \
	    .venv/$*/bin/python -m pip install --quiet --target .venv/$*/closures $$(.venv/$*/bin/python tools/extra.py closures); }
	@.venv/$*/bin/python -m pip install --quiet --force-reinstall --no-deps dist/manyhands-*.whl
	@touch $@

.PHONY: demo test test-tools test-rust test-loom test-python test-libraries test-seeds test-conformance lint lint-rust \
	lint-python lint-words deny advisories unsafe-check typecheck format docs site publish-check bench-smoke bench bench-engine figures stress \
	stress-smoke fuzz fuzz-python asan valgrind wheel dev check-tools clean-venv clean help
.SECONDARY:
