#!/usr/bin/env bash
# Every check that needs an NVIDIA GPU, in one command; prints a short table. Not run on any GPU yet.
# Needs nvcc (CUDA 12.8 or newer), the driver and CUDA's libraries; compute-sanitizer is used where it is there.
set -uo pipefail
cd "$(dirname "$0")/.."
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || { echo "skipped: no NVIDIA GPU here"; exit 0; }
table=()
failed=0
check() { # name command...
    local name=$1
    shift
    echo "== $name: $*"
    if "$@"; then table+=("passed  $name"); else table+=("FAILED  $name"); failed=1; fi
}
check "build" cargo build --release --features cuda
check "GPU against CPU: operations and scores" cargo test --release --features cuda --test gpu -- --nocapture
test=$(cargo test --release --features cuda --test gpu --no-run 2>&1 | grep -oP 'Executable .*\(\K[^)]*')
for tool in memcheck racecheck; do
    if command -v compute-sanitizer >/dev/null; then
        check "operations under $tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "$test" operations
    else
        table+=("not run operations under $tool: no compute-sanitizer here")
    fi
done
table+=("not run benchmarks: not written yet")
printf '%s\n' "" "${table[@]}"
exit $failed
