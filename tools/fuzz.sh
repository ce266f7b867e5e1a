#!/usr/bin/env bash
# Builds the fuzz targets (fuzz/) with libFuzzer and AddressSanitizer and runs them one after the other, each on its
# corpus and on what earlier runs found worth keeping (fuzz/found). Prints how many executions that were; fails when
# one found something, which then lies in fuzz/artifacts.
#
#   FUZZ_RUNS     executions of each target; 100000 by default
#   FUZZ_TIME     seconds for each target at most; 0, the default, is without limit
#   FUZZ_TARGETS  some of them by name; all by default
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../fuzz"
runs=${FUZZ_RUNS:-100000}
time=${FUZZ_TIME:-0}
host=$(rustc -vV | sed -n 's/^host: //p')
targets=${FUZZ_TARGETS:-$(sed -n '/^\[\[bin\]\]/,$s/^name = "\(.*\)"/\1/p' Cargo.toml)}

# What libFuzzer wants of the compiler is not stable yet, and works with a stable one all the same.
export RUSTC_BOOTSTRAP=1
sancov="-Cllvm-args=-sanitizer-coverage"
RUSTFLAGS="-Cpasses=sancov-module $sancov-level=4 $sancov-inline-8bit-counters $sancov-pc-table $sancov-trace-compares --cfg fuzzing -Zsanitizer=address -Ccodegen-units=1" \
    cargo build --release --locked --quiet --target "$host" --target-dir target || exit 1

# Where memory was allocated is of use for a finding alone, which can be run again without these.
export ASAN_OPTIONS=${ASAN_OPTIONS:-malloc_context_size=1:quarantine_size_mb=16}
total=0
failed=0
for target in $targets; do
    mkdir -p "found/$target" "artifacts/$target"
    log=artifacts/$target.log
    "target/$host/release/$target" "found/$target" "corpus/$target" -runs="$runs" -max_total_time="$time" \
        -timeout=20 -rss_limit_mb=3000 -malloc_limit_mb=1024 -max_len=600 -reload=0 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" >"$log" 2>&1
    status=$?
    made=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    total=$((total + ${made:-0}))
    printf '%-10s %12s executions' "$target" "${made:-0}"
    if [ "$status" -eq 0 ]; then
        printf ', nothing found\n'
    else
        failed=1
        printf ', FOUND SOMETHING (status %d, fuzz/%s):\n' "$status" "$log"
        grep -m 3 -A 2 -E 'panicked at|ERROR: |^SUMMARY' "$log"
    fi
done
printf '%-10s %12s executions\n' total "$total"
exit $failed
