#!/usr/bin/env bash
# Every check and benchmark that needs an NVIDIA GPU, in one command; prints a short table. Not run on any GPU yet.
#   tests/gpu.sh              builds here (nvcc of CUDA 12.8 or newer), then runs here
#   tests/gpu.sh pack FOLDER  builds here and puts what runs into FOLDER, for a machine that has neither Rust nor a network;
#                             no GPU is needed. With PLUGIN=1 the element is built too; BUNDLE names a program that
#                             copies GStreamer and a plugin's libraries to a folder, for a machine that has none
#   tests/gpu.sh FOLDER       runs what was packed; FOLDER and this script are all that is needed there, with the driver and CUDA's
#                             libraries (those of a Python package are found)
# DATA=FOLDER, a folder with a mos.csv, is what training is timed on: an epoch of qmamba-nano; `pack` takes it along, and without it
# training is not timed. TRAINING="VARIANT CROP" asks for another network and size.
# compute-sanitizer, GStreamer and PyTorch are used where they are there. What is printed goes to $OUT too, where that is set.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
pack=
[ "${1:-}" = pack ] && { pack=1; shift; }
folder=${1:-}
data=
[ -z "${DATA:-}" ] || data=$(cd "$DATA" && pwd) || exit 1
[ -z "$pack" ] || [ -n "$folder" ] || { echo "usage: tests/gpu.sh [pack] FOLDER" >&2; exit 2; }
if [ -z "$pack" ]; then
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || { echo "skipped: no NVIDIA GPU here"; exit 0; }
fi

if [ -n "$pack" ] || [ -z "$folder" ]; then
    folder=${folder:-$(mktemp -d)}
    mkdir -p "$folder" && folder=$(cd "$folder" && pwd) && cd "$root" || exit 1
    build=(cargo build --release --no-default-features --features cuda,train)
    "${build[@]}" --example benchmark_gpu --example benchmark_training || exit 1
    target=${CARGO_TARGET_DIR:-target}
    test=$(cargo test --release --no-default-features --features cuda,train --test gpu --no-run 2>&1 |
        tee /dev/stderr | grep -oP 'Executable .*\(\K[^)]*') || exit 1
    install -s "$test" "$folder/gpu-test" && install -s "$target"/release/examples/benchmark_{gpu,training} "$folder/" || exit 1
    if [ "${PLUGIN:-}" = 1 ]; then
        cargo build --release --features cuda --lib || exit 1
        install -s "$target/release/libqmambaiqa.so" "$folder/"
        [ -z "${BUNDLE:-}" ] || "$BUNDLE" "$folder/gst" "$folder/libqmambaiqa.so" || exit 1
    fi
    cp examples/compare_pytorch_gpu.py "$folder/"
    if [ -n "$pack" ]; then
        [ -z "$data" ] || cp -rT "$data" "$folder/data" || exit 1
        du -sh "$folder"
        exit
    fi
fi
folder=$(cd "$folder" && pwd) || exit 1
cd "$folder" || exit 1

# CUDA's libraries may be PyTorch's.
python=$(command -v python3 || true)
if [ -n "$python" ]; then
    libraries=$("$python" -c 'import glob, site, sys
folders = site.getsitepackages() + sys.path
print(":".join(sorted({f for s in folders for f in glob.glob(s + "/nvidia/*/lib")})))' 2>/dev/null)
    export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}${libraries:-}"
fi
[ -z "${OUT:-}" ] || exec > >(tee "$OUT/gpu.txt") 2>&1

table=()
failed=0
check() { # name command...
    local name=$1 begin=$SECONDS
    shift
    echo "== $name: $*"
    if "$@"; then table+=("passed  $name ($((SECONDS - begin)) s)"); else table+=("FAILED  $name"); failed=1; fi
}
skip() { table+=("not run $1: $2"); }
element() { # crops a frame, batch
    local frames=300 begin end
    begin=$(date +%s.%N)
    GST_PLUGIN_PATH="$folder${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}" gst-launch-1.0 -q videotestsrc pattern=snow num-buffers=$frames \
        ! video/x-raw,format=I420,width=1920,height=1080 ! qmambaiqa device=cuda crops="$1" batch="$2" max-latency=1000000000 \
        ! fakesink sync=false || return 1
    end=$(date +%s.%N)
    awk -v n=$frames -v begin="$begin" -v end="$end" -v c="$1" -v b="$2" 'BEGIN {
        printf "element, 1920x1080, crops=%d batch=%d: %.0f frames/s, start of the process included\n", c, b, n / (end - begin) }'
}

export QMAMBAIQA_GPU=required # a GPU that cannot be used fails what needs one, and is not skipped
check "GPU against CPU: operations, gradients, scores, a step of training" ./gpu-test --nocapture --test-threads 1
check "benchmarks" ./benchmark_gpu
data=${data:-$([ ! -f data/mos.csv ] || echo data)}
if [ -n "$data" ]; then
    # Candle's own pool of threads would slow the CPU down.
    check "training, pictures per second" env CANDLE_NUM_THREADS=1 ./benchmark_training "$data" ${TRAINING:-}
else
    skip "training, pictures per second" "no DATA=FOLDER with a mos.csv"
fi
# A compute-sanitizer that cannot use this machine says so by failing on a program without a fault.
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        check "operations, gradients and crops under $tool" timeout 240 compute-sanitizer --tool "$tool" --error-exitcode 1 ./gpu-test operations gradients frames
    done
else
    skip "operations, gradients and crops under memcheck and racecheck" "no compute-sanitizer here"
fi
[ ! -f gst/env.sh ] || . gst/env.sh
if ! command -v gst-launch-1.0 >/dev/null; then
    skip "element at 1080p" "no GStreamer here"
elif [ ! -f libqmambaiqa.so ]; then
    skip "element at 1080p" "packed without PLUGIN=1"
else
    check "element at 1080p, batch 1" element 8 1
    check "element at 1080p, batch 16" element 8 16
fi
if [ -n "$python" ] && "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    check "PyTorch beside it" "$python" compare_pytorch_gpu.py
else
    skip "PyTorch beside it" "no PyTorch with CUDA here"
fi
printf '%s\n' "" "${table[@]}"
exit $failed
