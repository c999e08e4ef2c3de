#!/usr/bin/env python3
"""Times our networks and PyTorch's of the same cost on the same cores, alternately in one run, and prints ratios.

pip install torch torchvision timm; cargo build --release --example benchmark
examples/compare_pytorch.py [--threads 2] [--rounds 7] [--level avx512|avx2] [--variant qmamba-t]
    [--precision standard fast] [--peer swin_tiny_patch4_window7_224 ...]
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parent.parent / "target/release/examples/benchmark"
BATCHES = (1, 8)
# What makes PyTorch, oneDNN and MKL keep to a level.
LEVELS = {
    "avx512": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}


def ours(name, threads):
    """Milliseconds per crop by batch size, `name` being VARIANT:PRECISION."""
    text = subprocess.run([BENCHMARK, str(threads), name], check=True, capture_output=True, text=True).stdout
    return {int(b): float(ms) for b, ms in re.findall(r"batch (\d+): ([\d.]+) ms", text)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--level", choices=LEVELS)
    parser.add_argument("--variant", default="qmamba-t")
    parser.add_argument("--precision", nargs="+", default=["standard", "fast"])
    parser.add_argument("--peer", nargs="+", default=["swin_tiny_patch4_window7_224", "convnext_tiny"])
    args = parser.parse_args()
    if not BENCHMARK.exists():
        sys.exit(f"{BENCHMARK} is missing: cargo build --release --example benchmark")
    if args.level and "QMAMBAIQA_CPU" not in os.environ:
        # The libraries read these when they are loaded.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **LEVELS[args.level], "QMAMBAIQA_CPU": args.level})
    import timm
    import torch

    torch.set_num_threads(args.threads)
    models = {name: timm.create_model(name).eval() for name in args.peer}
    crops = {batch: torch.randn(batch, 3, 224, 224) for batch in BATCHES}

    def theirs(model, batch, kind):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
            begin = time.perf_counter()
            model(crops[batch])
            return (time.perf_counter() - begin) / batch * 1e3

    kinds = ("f32", "bf16")
    for model in models.values():
        for kind in kinds:
            for batch in BATCHES:
                theirs(model, batch, kind)  # warm
    owns = [f"{args.variant}:{precision}" for precision in args.precision]
    times = {}
    for _ in range(args.rounds):
        for own in owns:
            for batch, ms in ours(own, args.threads).items():
                times.setdefault((own, "", batch), []).append(ms)
        for name, model in models.items():
            for kind in kinds:
                for batch in BATCHES:
                    ms = statistics.median(theirs(model, batch, kind) for _ in range(3))
                    times.setdefault((name, kind, batch), []).append(ms)
    print(f"torch {torch.__version__}, {args.threads} threads, {args.rounds} rounds, level {args.level or 'best'}; ms a crop")
    print(f"{'':38} batch  median   " + "   ".join(f"{own} / theirs: median (least to greatest)" for own in owns))
    for (name, kind, batch), ms in times.items():
        shown = []
        for own in owns if name not in owns else []:
            ratios = [a / b for a, b in zip(times[(own, "", batch)], ms)]
            shown.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        print(f"{name + ' ' + kind:38} {batch:5} {statistics.median(ms):7.1f}   {'   '.join(shown)}")


if __name__ == "__main__":
    main()
