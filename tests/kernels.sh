#!/usr/bin/env bash
# Compiles the CUDA kernels for every target, warnings being errors, and refuses registers spilled to memory. Needs no GPU.
# The compiler is that of PATH, of CUDA_HOME, or of Python packages (170 MB), which are kept in ~/.cache/cuda13-build.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${CUDA_BUILD_ROOT:-$HOME/.cache/cuda13-build}
kept=$cache/nvidia/cu13/bin/nvcc
nvcc=$(command -v nvcc || true)
[ -x "${CUDA_HOME:-}/bin/nvcc" ] && nvcc=$CUDA_HOME/bin/nvcc
[ -z "$nvcc" ] && [ -x "$kept" ] && nvcc=$kept
if [ -z "$nvcc" ] && python3 -m pip install -q --no-deps --target "$cache" nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 \
    nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 >/dev/null 2>&1; then
    nvcc=$kept
fi
if [ -z "$nvcc" ]; then
    echo "skipped the compilation of CUDA kernels: no nvcc here, and pip cannot get one"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
targets=()
for target in $(grep -oP '^const ARCHITECTURES.*= \[\K[^\]]*' kernels/compile.rs | tr -d ,); do
    targets+=("-gencode=arch=compute_$target,code=sm_$target")
done
[ ${#targets[@]} -gt 0 ] || { echo "no targets found in kernels/compile.rs" >&2; exit 1; }
"$nvcc" -std=c++17 -O3 -fatbin --threads 0 -Werror all-warnings -Xptxas -v "${targets[@]}" -o "$folder/kernels.fatbin" \
    kernels/kernels.cu >"$folder/report" 2>&1 || { cat "$folder/report" >&2; exit 1; }
spills=$(grep -B2 -E '[1-9][0-9]* bytes spill' "$folder/report" || true)
[ -z "$spills" ] || { printf 'kernels spill registers:\n%s\n' "$spills" >&2; exit 1; }
echo "CUDA kernels: $(grep -c 'bytes spill' "$folder/report") compiled for ${#targets[@]} targets, no spills," \
    "at most $(grep -oP 'Used \K[0-9]+' "$folder/report" | sort -n | tail -1) registers"
