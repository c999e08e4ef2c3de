#!/usr/bin/env bash
# Sets a Debian machine up and runs every test: formatting, lints, documentation, tests. Usage: tests/run.sh
set -euo pipefail
cd "$(dirname "$0")/.."
begin=$SECONDS
. examples/setup.sh

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}" CARGO_TERM_COLOR=never
cargo fmt --check
cargo clippy --quiet --all-targets -- -D warnings
cargo clippy --quiet --no-default-features -- -D warnings
cargo clippy --quiet --lib --no-default-features --features frei0r -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps
if command -v python3 >/dev/null; then
    python3 tests/links.py
    python3 tests/tables.py
    python3 tests/layers.py
else
    echo "skipped the links and tables of the documentation and the layers of src/: no python3 here"
fi
tests/kernels.sh
cargo test --no-fail-fast
gpu=$(cargo test --quiet --test gpu -- --nocapture 2>&1 | grep -o 'skipped .*' || true)
echo "all checks and tests passed in $((SECONDS - begin)) s; $(grep -c . <<<"$gpu" || true) tests that need a GPU skipped"
[ -z "$gpu" ] || echo "$gpu"
