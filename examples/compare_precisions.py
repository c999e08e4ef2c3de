#!/usr/bin/env python3
"""How far scores of `standard` and `fast` are from those of `exact`, over the frames of clips: greatest and mean, of 100.

cargo build --release; examples/compare_precisions.py CLIP... [--interval 0.1] [--style-prompt none compression]
"""

import argparse
import json
import subprocess
from pathlib import Path

SCORE = Path(__file__).resolve().parent.parent / "target/release/qmambaiqa"


def scores(args, style_prompt, precision):
    options = ["--interval", str(args.interval), "--style-prompt", style_prompt, "--precision", precision]
    lines = subprocess.run(
        [SCORE, "score", *args.clips, *options, "--format", "json"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return [record["score"] for record in map(json.loads, lines) if "score" in record]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", metavar="CLIP")
    parser.add_argument("--interval", type=float, default=0.1)
    parser.add_argument("--style-prompt", nargs="+", default=["none", "compression"])
    args = parser.parse_args()
    for style_prompt in args.style_prompt:
        exact = scores(args, style_prompt, "exact")
        for precision in ("standard", "fast"):
            others = scores(args, style_prompt, precision)
            assert len(others) == len(exact) > 0, (len(others), len(exact))
            differences = [abs(a - b) for a, b in zip(exact, others)]
            print(f"style prompt {style_prompt}, {precision}: {len(differences)} frames, at most {max(differences):.4f}, "
                  f"mean {sum(differences) / len(differences):.4f}")


if __name__ == "__main__":
    main()
