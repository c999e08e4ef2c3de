#!/usr/bin/env bash
# Runs what a GPU would be asked for on an emulated one (kernels/host/driver.h): the same program, launches and kernels, candle's
# too, done by the CPU. It shows what is computed, not how fast, and not what the GPU's memory model or its approximate functions do.
# Needs nvcc, as feature `cuda` does, and g++; the first build takes ten minutes. Usage: tests/emulated_gpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
target=${CARGO_TARGET_DIR:-target}
kernels/host/driver.sh "$folder"
cargo build --release --features cuda
cargo build --release --no-default-features --features cuda,train --example benchmark_gpu
cargo test --release --no-default-features --features cuda,train --test gpu --no-run
on() { LD_LIBRARY_PATH=$folder GST_PLUGIN_PATH=$target/release GST_REGISTRY=$folder/registry timeout 900 "$@"; }

QMAMBAIQA_GPU=required on cargo test --release --no-default-features --features cuda,train --test gpu
for nodes in 0 7 100; do # recordings that fail, early and late
    EMULATED_GPU_CAPTURES=$nodes QMAMBAIQA_GPU=required on cargo test --release --no-default-features --features cuda,train --test gpu steady
done
# A recording that takes long enough for other threads to come in between.
EMULATED_GPU_CAPTURE_MS=3 QMAMBAIQA_GPU=required on cargo test --release --no-default-features --features cuda,train --test gpu recordings
TRY=1 QMAMBAIQA_GPU=required on "$target/release/examples/benchmark_gpu" qmamba-nano

# The element, with its messages; each with what must be among them.
play() { # expected, properties...
    local expected=$1
    shift
    on gst-launch-1.0 -m videotestsrc pattern=snow num-buffers=8 ! video/x-raw,format=I420,width=320,height=240 \
        ! qmambaiqa crops=1 "$@" ! fakesink sync=false >"$folder/messages" 2>&1 || true
    grep -qE "$expected" "$folder/messages" || { cat "$folder/messages" >&2; echo "FAILED: no $expected" >&2; exit 1; }
    echo "element $*: $(grep -oE "$expected" "$folder/messages" | head -1)"
}
play "type=\(string\)pooled, frames=\(guint64\)8" device=cuda
play "type=\(string\)pooled, frames=\(guint64\)8" device=cuda batch=4 max-latency=60000000000
EMULATED_GPU_LAUNCHES=400 play "ERROR.*frame [0-9] cannot be scored: cuda:0, emulated GPU fails.*" device=cuda
EMULATED_GPU_LAUNCHES=400 play "WARNING.*the CPU scores from frame [0-9] on: cuda:0, emulated GPU fails" device=auto
grep -q "type=(string)pooled, frames=(guint64)8" "$folder/messages"
EMULATED_GPU_MEMORY=5000000 play "ERROR.*cuda:0, emulated GPU fails.*out of memory.*score fewer crops at once" device=cuda
EMULATED_GPU_MEMORY=5000000 play "WARNING.*the CPU scores and not the GPU.*out of memory" device=auto
echo "all that an emulated GPU can show was shown"
