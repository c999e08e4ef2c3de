#!/usr/bin/env bash
# Builds the emulated GPU (driver.h) into a folder, under the names by which CUDA's libraries are looked for:
#   kernels/host/driver.sh FOLDER && LD_LIBRARY_PATH=FOLDER qmambaiqa score --device cuda ...
# Needs g++ and the sources of candle's kernels, which cargo fetches for feature `cuda`.
set -euo pipefail
mkdir -p "$1" && folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
candle=$(cargo metadata --format-version 1 --features cuda --manifest-path ../../Cargo.toml |
    grep -oP '"manifest_path":"\K[^"]*candle-kernels-[^"]*(?=/Cargo.toml")' | head -1)/src
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
# No contraction, so that sums are those of the source; no rule of aliasing, as in nvcc; candle's sources have warnings and what only nvcc allows.
flags=(-std=c++17 -O3 -march=native -ffp-contract=off -fno-strict-aliasing -fPIC -fvisibility=hidden)
ours=(-Wall -Werror -Wno-unknown-pragmas)
theirs=(-w -fpermissive -Icandle "-I$candle" "-I$objects")
g++ "${flags[@]}" "${theirs[@]}" -DNAMES_ALONE -E candle.cpp | grep -oP 'extern "C" +void +\K\w+(?=\()' | sort -u |
    sed 's/.*/ENTRY(&)/' >"$objects/candle_names.h"
g++ "${flags[@]}" "${theirs[@]}" -c candle.cpp -o "$objects/candle.o" &
for part in driver blas; do g++ "${flags[@]}" "${ours[@]}" -c "$part.cpp" -o "$objects/$part.o"; done
wait $!
# One library under all names: each function is found in whichever it is looked for.
g++ -shared -Wl,-soname,libcuda.so.1 -Wl,--no-undefined -o "$folder/libcuda.so.1" "$objects"/*.o -lpthread
for version in 12 13; do
    for name in cublas cublasLt nvrtc; do ln -sf libcuda.so.1 "$folder/lib$name.so.$version"; done
done
ln -sf libcuda.so.1 "$folder/libcurand.so.10"
