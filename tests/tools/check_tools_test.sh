#!/bin/sh
# The check for missing tools, tested: with a PATH in which one thing at a time is missing, it has
# to name that thing, say how to get it, and exit with 1; with everything there it has to be silent.
set -u
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
check=$here/../../tools/check-tools.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
passed=0
failed=0

# A PATH with the programs that the check itself uses and nothing else; cases add to it.
fresh() {
    rm -rf "$folder/bin"
    mkdir "$folder/bin"
    for program in sh sed head cut dirname rm printf; do
        path=$(command -v "$program") && case $path in /*) ln -s "$path" "$folder/bin/$program" ;; esac
    done
}

# fake NAME SCRIPT: a program that only does what the check asks of it.
fake() {
    printf '#!/bin/sh\n%s\n' "$2" >"$folder/bin/$1"
    chmod +x "$folder/bin/$1"
}

everything() {
    fresh
    fake cargo 'echo "cargo 1.99.0"'
    fake rustc 'echo "rustc 1.99.0 (abc 2030-01-01)"'
    fake cc :
    fake python3 'echo "3.12 /somewhere/python3"'
}

# expect NAME STATUS WORDS...: each of WORDS has to be part of what it said.
expect() {
    name=$1
    status=$2
    shift 2
    said=$(env -i PATH="$folder/bin" HOME="$folder" sh "$check" --offline-ok 2>&1)
    got=$?
    problem=
    [ "$got" = "$status" ] || problem="exit status $got instead of $status"
    for words in "$@"; do
        case $said in *"$words"*) ;; *) problem="$problem; does not say \"$words\"" ;; esac
    done
    [ "$status" = 0 ] && [ -n "$said" ] && problem="$problem; was not silent"
    if [ -n "$problem" ]; then
        failed=$((failed + 1))
        printf 'FAIL %s: %s\n%s\n' "$name" "$problem" "$said"
    else
        passed=$((passed + 1))
    fi
}

everything
expect "everything is there" 0

everything && rm "$folder/bin/cargo"
expect "no cargo" 1 "missing: cargo" "rustup.rs" "1 thing(s) missing"

everything && fake rustc 'echo "rustc 1.70.0 (abc 2023-01-01)"'
expect "an old rustc" 1 "found 1.70" "rustup update stable"

everything && fake rustc 'echo "error: no default toolchain" >&2; exit 1'
expect "rustup without a toolchain" 1 "rustup default stable"

everything && rm "$folder/bin/cc"
expect "no C compiler" 1 "missing: a C compiler" "apt-get install gcc"

everything && rm "$folder/bin/python3"
expect "no Python" 1 "missing: Python 3.11 or newer" "apt-get install python3 python3-venv" "pyenv install"

everything && fake python3 'echo "python3 is Python 3.9; 3.11 or newer is needed" >&2; exit 1'
expect "an old Python" 1 "missing: Python 3.11 or newer" "passed over python3" "is Python 3.9"

everything && fake python3 'echo "python3 (Python 3.12) lacks the module ensurepip: on Debian and Ubuntu install python3.12-venv" >&2; exit 1'
expect "a Python without venv" 1 "install python3.12-venv"

everything && rm "$folder/bin/python3" && fake python3.13 'echo "3.13 /elsewhere/python3.13"'
expect "only python3.13" 0

fresh
expect "nothing at all" 1 "missing: cargo" "missing: a C compiler" "missing: Python" "3 thing(s) missing"

printf 'check-tools: %s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
