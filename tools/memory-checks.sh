#!/usr/bin/env bash
# The engine's tests under AddressSanitizer, or under valgrind's memcheck: `memory-checks.sh asan`, `... valgrind`.
# What is left out of it is named below, each with its reason. Fails if a test fails or one of them finds something.
#
#   CHECK_ARGS  arguments for the test programs, such as part of a test's name
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
crates="-p manyhands-os -p manyhands-shm -p manyhands -p manyhands-fuzz"
host=$(rustc -vV | sed -n 's/^host: //p')
failed=0

# The test programs that a build of them names, one a line.
programs() {
    cargo test --no-run --locked $crates --lib --tests "$@" --message-format=json 2>/dev/null |
        sed -n 's/.*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*/\1/p' | sort -u
}

# run NAME COMMAND...: says how it went.
run() {
    local name=$1 status
    shift
    timeout -k 20 "${LIMIT:-900}" "$@" >"build/memory-check.log" 2>&1 </dev/null
    status=$?
    if [ "$status" -eq 0 ]; then
        printf '%-24s %s\n' "$name" "$(grep -h '^test result' build/memory-check.log | tail -n 1)"
    else
        failed=1
        printf '%-24s FAILED with status %d\n' "$name" "$status"
        tail -n 60 build/memory-check.log
    fi
}

name_of() { basename "$1" | sed 's/-[0-9a-f]*$//'; }

asan() {
    export RUSTC_BOOTSTRAP=1 # for the flag, which is not stable yet
    # Children that a test kills or that leave by _exit have not freed what they had, and leaks are looked for by
    # stopping all threads, which these tests do themselves: so leaks are left to valgrind and to the tests that count.
    # A test reads in a child what is not mapped there, and wants to see that child end by SIGSEGV.
    export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:handle_segv=0
    for program in $(RUSTFLAGS="-Zsanitizer=address" programs --target "$host" --target-dir target/asan); do
        local skip=()
        case $(name_of "$program") in
        # Compiles programs against the library as it is without a sanitizer.
        messages) continue ;;
        loom_*) continue ;; # nothing without --cfg loom
        esac
        run "$(name_of "$program")" env -C "$(folder "$program")" "$program" "${skip[@]}" ${CHECK_ARGS:-}
    done
}

# Where cargo would run it.
folder() {
    local name
    name=$(name_of "$1")
    for crate in os shm fuzz; do
        if [ "$name" = "manyhands_$crate" ] || [ -f "crates/manyhands-$crate/tests/$name.rs" ]; then
            echo "$PWD/crates/manyhands-$crate"
            return
        fi
    done
    echo "$PWD/crates/manyhands"
}

valgrind_() {
    command -v valgrind >/dev/null || { echo "valgrind is not installed (apt-get install valgrind)"; exit 1; }
    for program in $(programs); do
        local skip=()
        case $(name_of "$program") in
        # It does not know pidfd_open, so these would be tests of what is done instead, beside threads that it runs one
        # at a time: deaths are waited for that are not seen.
        death) continue ;;
        # Pools and processes wait for each other in real time, which is a fiftieth of it here; kill sweeps are ptrace's.
        pool | process | unprepared) continue ;;
        # Properties: hundreds of thousands of steps, which the sanitizer sees.
        hostile | corpus) continue ;;
        mailbox) skip=(--skip any_interleaving) ;;
        # vfork is a fork to it, so the child's word on why it could not exec does not reach the parent.
        child) skip=(--skip that_is_not_open_cannot_be_kept --skip that_is_not_there_is_named
            --skip that_cannot_be_run_is_an_error) ;;
        # It does not know that children have no such mapping (MADV_DONTFORK), and has limits of its own.
        memory) skip=(--skip dropping_the_parents_mapping --skip that_cannot_be_had_is_an_error) ;;
        loom_*) continue ;; # nothing without --cfg loom
        esac
        run "$(name_of "$program")" env -C "$(folder "$program")" valgrind --quiet --error-exitcode=99 \
            --trace-children=no --leak-check=no --fair-sched=try "$program" "${skip[@]}" --test-threads=1 ${CHECK_ARGS:-}
    done
}

mkdir -p build
case ${1:-} in
asan) asan ;;
valgrind) valgrind_ ;;
*)
    echo "usage: $0 asan|valgrind"
    exit 2
    ;;
esac
[ "$failed" -eq 0 ] && echo "$1: nothing found"
exit "$failed"
