#!/bin/sh
# Looks whether this machine has what the build needs, and says in one sentence each what is
# missing and how to get it.
# Always: reads only; exits 0 when everything is there, 1 when something is missing.
# Not looked for: Python's C headers. manyhands is built against Python's stable ABI by PyO3,
# which brings its own declarations, so no python3-dev package is needed.
#
#   check-tools.sh [--offline-ok]     --offline-ok: do not ask whether pip can reach an index
set -u
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
missing=0

say() {
    missing=$((missing + 1))
    printf 'missing: %s\n' "$1" >&2
}

have() { command -v "$1" >/dev/null 2>&1; }

# The oldest compiler that the workspace states, e.g. 1.88.
wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$root/Cargo.toml" | head -n 1)

if ! have cargo || ! have rustc; then
    say "cargo, Rust's build tool: install Rust $wanted or newer from https://rustup.rs (curl --proto '=https' -sSf https://sh.rustup.rs | sh), then open a new shell."
else
    found=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9]*\.[0-9]*\).*/\1/p')
    if [ -z "$found" ]; then
        say "a working rustc: 'rustc --version' failed; run 'rustup default stable' to choose a toolchain."
    elif [ "${found%%.*}" -lt "${wanted%%.*}" ] || { [ "${found%%.*}" -eq "${wanted%%.*}" ] && [ "${found##*.}" -lt "$(printf '%s' "$wanted" | cut -d. -f2)" ]; }; then
        say "Rust $wanted or newer (found $found): run 'rustup update stable'; a distribution's older rustc can stay beside rustup's."
    fi
fi

if ! have cc && ! have gcc && ! have clang; then
    say "a C compiler, which cargo uses as its linker: install one, for example 'apt-get install gcc libc6-dev' or 'dnf install gcc'."
fi

pythons=$("$here/find-pythons.sh" 2>/dev/null)
if [ -z "$pythons" ]; then
    say "Python 3.11 or newer with its venv module: install one, for example 'apt-get install python3 python3-venv' or 'pyenv install 3.13', or name it with 'make PYTHON=/path/to/python3'."
    "$here/find-pythons.sh" --why >&2
elif [ "${1:-}" != --offline-ok ] && [ ! -d "$root/.venv/tools" ]; then
    # Only where the virtual environments are still to be filled. The first of the Pythons asks.
    python=$(printf '%s\n' "$pythons" | sed -n '1s/^[^ ]* //p')
    if "$python" -m pip --version >/dev/null 2>&1 &&
        ! "$python" -m pip --disable-pip-version-check --retries 2 --timeout 60 download --quiet --no-deps --no-binary :none: \
            --dest "${TMPDIR:-/tmp}/manyhands-check.$$" pytest-timeout >/dev/null 2>&1; then
        say "a way for pip to reach a package index: the tests' tools (pytest, maturin) come from PyPI; connect this machine, or set PIP_INDEX_URL to a mirror."
    fi
    rm -rf "${TMPDIR:-/tmp}/manyhands-check.$$"
fi

if [ "$missing" -gt 0 ]; then
    printf '%s thing(s) missing; nothing was built.\n' "$missing" >&2
    exit 1
fi
