#!/usr/bin/env python3
"""Sorts pictures into the contents that ladders are made of, as links: DATA/contents/NAME/*.

    examples/training/contents.py DATA --wallpapers FOLDER --held-out weights/qmamba-nano.validation.csv

DATA holds `pristine` (CLIC training and gb82 of imazen/zentrain-corpus) and `biq512` (BIQ2021 with its mos.csv); FOLDER is what the
Debian packages of wallpapers unpack to. Written are

  test    13 CLIC photographs at 1024 rows. Nothing is trained on them; clips made of them test `compare`
  clic    the others
  gb82    photographs and screens
  wall    wallpapers of 1080 rows and more, each content once, without drawn patterns
  wall2   every second of them
  best    120 photographs of BIQ2021 of the highest scores that are not held out
  many    600 others among the 2,400 of the highest scores
  soft    100 of its photographs from the fifteenth percentile of scores up, not held out: not sharp, not clean
"""

import argparse
import csv
import hashlib
import pathlib
import random
import re

from PIL import Image

TEST = ("22ea", "7e49", "2a24", "100a02", "afe3", "a10a", "8bb1", "2c1f", "3140", "9466", "aed9", "ef57", "ddcd")
DRAWN = re.compile(r"Ubuntu-Mate|Stripes|gnome_|Transparent|2004default|GreenTraditional")


def link(folder, name, target):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if not path.is_symlink():
        path.symlink_to(target.resolve())


def wallpapers(folder):
    """The largest picture of each content."""
    best = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp") or not path.is_file():
            continue
        name = re.sub(r"^.*usr_share_", "", "_".join(path.parts))[-80:]
        try:
            with Image.open(path) as picture:
                size = picture.size
                if min(size) < 1080 or DRAWN.search(name):
                    continue
                small = picture.convert("RGB").resize((16, 16)).tobytes()
        except OSError:
            continue
        theme = str(path.parent.parent) if "/contents/images/" in str(path) else None
        key = theme or hashlib.sha256(bytes(v // 24 for v in small)).hexdigest()
        if key not in best or best[key][0] < size[0] * size[1]:
            best[key] = size[0] * size[1], name, path
    return sorted((name, path) for _, name, path in best.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--wallpapers", type=pathlib.Path, required=True)
    parser.add_argument("--held-out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    out = args.data / "contents"

    for path in sorted((args.data / "pristine").glob("clic-1024-train_*")):
        number = path.name.split("_")[1]
        link(out / ("test" if number.startswith(TEST) else "clic"), number[:8] + ".png", path)
    for path in sorted((args.data / "pristine").glob("gb82*")):
        link(out / "gb82", path.name, path)
    for i, (name, path) in enumerate(wallpapers(args.wallpapers)):
        link(out / "wall", name, path)
        if i % 2:
            link(out / "wall2", name, path)

    with open(args.held_out, newline="") as file:
        held_out = {r["image"] for r in csv.DictReader(file)}
    with open(args.data / "biq512/mos.csv", newline="") as file:
        rows = sorted((float(r["mos"]), r["image"]) for r in csv.DictReader(file) if r["image"] not in held_out)
    names = [name for _, name in rows]
    soft = set(random.Random(31).sample(names[len(names) * 15 // 100 :], 100))
    best = [name for name in names[:-700:-2] if name not in soft][:120]
    rest = [name for name in names[-2400:] if name not in soft.union(best)]
    many = random.Random(7).sample(rest, 600)
    for kind, chosen in (("soft", sorted(soft)), ("best", best), ("many", many)):
        for name in chosen:
            link(out / kind, name, args.data / "biq512" / name)
    for folder in sorted(out.iterdir()):
        print(f"{folder}: {len(list(folder.iterdir()))} contents")


if __name__ == "__main__":
    main()
