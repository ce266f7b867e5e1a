#!/bin/sh
# Runs cargo-deny, in the one version that deny.toml is written for.
# A cargo-deny of that version on PATH is used; else it is installed once, into a cache
# outside the checkout, because building it takes minutes and a fresh clone has nothing.
set -eu
version=0.20.2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/manyhands/cargo-deny-$version

if [ "$(cargo-deny --version 2>/dev/null)" = "cargo-deny $version" ]; then
    exec cargo-deny "$@"
fi
if [ ! -x "$cache/bin/cargo-deny" ]; then
    echo "installing cargo-deny $version, once (some minutes)"
    # Not optimised: it reads a few manifests, and builds in half the time.
    CARGO_TARGET_DIR=$cache/build cargo install --quiet --locked --debug --root "$cache" --version "$version" cargo-deny
    rm -rf "$cache/build"
fi
exec "$cache/bin/cargo-deny" "$@"
