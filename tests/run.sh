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
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps
cargo test --no-fail-fast
echo "all checks and tests passed in $((SECONDS - begin)) s; tests that need a GPU: 0 run (none exist yet)"
