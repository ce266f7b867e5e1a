#!/bin/sh
# Prints the Pythons that manyhands is built and tested with, one line each: VERSION PATH,
# for instance "3.11 /usr/bin/python3". The first is the one that builds and runs the demo.
# Always: every path printed was started, is CPython 3.11 or newer, and can make a virtual environment.
#
#   find-pythons.sh          the default python3 first, then 3.11, 3.12 and 3.13 where pyenv or PATH has them
#   find-pythons.sh --why    what was found and why it was passed over
#
# PYTHON=/path/to/python3 puts that one first; PYTHONS="one two" uses exactly those.
set -u
why=${1:-}
seen=" "
probe='import sys
v = "%d.%d" % sys.version_info[:2]
if sys.implementation.name != "cpython": sys.exit("%s is %s; CPython is needed" % (sys.executable, sys.implementation.name))
if sys.version_info < (3, 11): sys.exit("%s is Python %s; 3.11 or newer is needed" % (sys.executable, v))
try:
    import ensurepip, venv
except ImportError as e:
    sys.exit("%s (Python %s) lacks the module %s: on Debian and Ubuntu install python%s-venv" % (sys.executable, v, e.name, v))
print(v, sys.executable)'

try() {
    command -v "$1" >/dev/null 2>&1 || return 1
    # A pyenv shim for a version that is not active exists and fails: so start it.
    if ! answer=$("$1" -I -c "$probe" 2>&1); then
        [ "$why" = --why ] && printf '  passed over %s: %s\n' "$1" "$(printf '%s' "$answer" | head -n 1)"
        return 1
    fi
    version=${answer%% *}
    case $seen in *" $version "*) return 0 ;; esac
    seen="$seen$version "
    [ "$why" = --why ] || printf '%s\n' "$answer"
}

if [ -n "${PYTHONS:-}" ]; then
    for python in $PYTHONS; do try "$python"; done
    exit 0
fi

[ -n "${PYTHON:-}" ] && try "$PYTHON"
try python3 || for version in 3.13 3.12 3.11 3.14; do try "python$version" && break; done
versions=
if command -v pyenv >/dev/null 2>&1; then
    versions=$(pyenv root 2>/dev/null)/versions
elif [ -n "${PYENV_ROOT:-}" ]; then
    versions=$PYENV_ROOT/versions
elif [ -n "${HOME:-}" ]; then
    versions=$HOME/.pyenv/versions
fi
for version in 3.11 3.12 3.13; do
    for python in "$versions/$version".*/bin/python3; do
        [ -x "$python" ] && try "$python" && continue 2
    done
    try "python$version"
done
exit 0
