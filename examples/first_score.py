#!/usr/bin/env python3
"""Time from the start of a process to its first score, and its peak memory: medians of several runs, one random picture.

cargo build --release --bins --examples; examples/first_score.py [--runs 7] [--threads 2] [VARIANT ...]
"""

import argparse
import os
import statistics
import struct
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

RELEASE = Path(__file__).resolve().parent.parent / "target/release"


def png(side):
    rows = b"".join(b"\0" + os.urandom(3 * side) for _ in range(side))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def run(command):
    """(seconds, MiB)"""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("variants", nargs="*", metavar="VARIANT", default=["qmamba-nano", "qmamba-t"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        picture = f"{folder}/picture.png"
        Path(picture).write_bytes(png(224))
        for variant in args.variants:
            model = variant
            if variant != "qmamba-nano":
                model = f"{folder}/{variant}.safetensors"
                subprocess.run([RELEASE / "examples/random_weights", variant, model], check=True)
            options = ["--model", model, "--threads", str(args.threads), "--crops", "1"]
            runs = [run([RELEASE / "qmambaiqa", "score", picture, *options]) for _ in range(args.runs + 1)][1:]
            seconds, memory = (statistics.median(values) for values in zip(*runs))
            print(f"{variant}: first score after {seconds:.3f} s, {memory:.0f} MiB at most")


if __name__ == "__main__":
    main()
