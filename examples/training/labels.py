#!/usr/bin/env python3
"""Writes the training tables of a network, next to the folders of their images.

    examples/training/labels.py DATA --scores SCORES.csv --maps MAPS.safetensors [--kadid REFERENCES]

DATA contains `biq512` (photographs with subjective scores), ladders of `qmambaiqa distort` (folders whose names start with `l`), and
optionally `kadid`. SCORES has a teacher's score of each photograph (columns image,score, on the scale of the subjective scores).
It writes folders with a mos.csv that refers to the images in those folders:

  photographs   (subjective + teacher's score) / 2, without the images in --held-out; their teacher maps in maps.safetensors
  ladders       encodings of pristine images: VMAF and the label of `distort`, weighted by the kind of encoder; sources have 100
  soft          the same, of photographs of BIQ2021, which have distortions of their own
  kadid-part    the images of --kadid references of `kadid`, drawn at random, with all distortions
  kadid-rest    those of the other references, to test with
  kadid-codecs  JPEG and JPEG 2000 of kadid-part
"""

import argparse
import csv
import pathlib
import random

import numpy as np
from safetensors.numpy import load_file, save_file

STILL_CODECS = ("jpeg", "webp", "noise", "blur")  # VMAF is trained on video
VMAF_SHARE, VMAF_SHARE_STILLS = 0.8, 0.3
KADID_CODECS = ("_09_", "_10_")  # JPEG 2000 and JPEG, in file names


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(folder, rows):
    folder.mkdir(exist_ok=True)
    with open(folder / "mos.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["image", "mos", "reference"])
        out.writerows(rows)
    print(f"{folder}: {len(rows)} images")


def label(row):
    if row["codec"] == "none":
        return 100.0
    mos, share = float(row["mos"]), VMAF_SHARE_STILLS if row["codec"] in STILL_CODECS else VMAF_SHARE
    return mos if not row["vmaf"] or row["codec"] in ("noise", "blur") else share * float(row["vmaf"]) + (1 - share) * mos


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--scores", type=pathlib.Path)
    parser.add_argument("--maps", type=pathlib.Path)
    parser.add_argument("--held-out", type=pathlib.Path, default="weights/qmamba-nano.validation.csv")
    parser.add_argument("--kadid", type=int, default=0, metavar="REFERENCES", help="number of references (default: all)")
    args = parser.parse_args()

    held_out = {r["image"] for r in table(args.held_out)}
    scores = {r["image"]: float(r["score"]) for r in table(args.scores)} if args.scores else {}
    rows = table(args.data / "biq512/mos.csv")
    kept = [i for i, r in enumerate(rows) if r["image"] not in held_out]
    photographs = []
    for name, mos in ((rows[i]["image"], float(rows[i]["mos"])) for i in kept):
        photographs.append([f"../biq512/{name}", f"{(mos + scores.get(name, mos)) / 2:.5f}", ""])
    write(args.data / "photographs", photographs)
    if args.maps:
        maps = load_file(args.maps)["features"]
        if len(maps) != len(rows):
            parser.error(f"{args.maps} has {len(maps)} images and biq512 {len(rows)}")
        save_file({"features": np.ascontiguousarray(maps[kept])}, args.data / "photographs/maps.safetensors")

    ladders, soft = [], []
    for folder in sorted(args.data.glob("l[0-9]*")):
        for r in table(folder / "mos.csv"):
            of = soft if "_ss0" in r["reference"] else ladders
            of.append([f"../{folder.name}/{r['image']}", f"{label(r):.3f}", f"{folder.name}/{r['reference']}"])
    write(args.data / "ladders", ladders)
    write(args.data / "soft", soft)

    if (args.data / "kadid/mos.csv").exists():
        rows = table(args.data / "kadid/mos.csv")
        references = sorted({r["reference"] for r in rows})
        random.Random(1).shuffle(references)
        kept = set(references[: args.kadid or None])
        row = lambda r: [f"../kadid/{r['image']}", r["mos"], r["reference"]]
        part = [row(r) for r in rows if r["reference"] in kept]
        write(args.data / "kadid-part", part)
        write(args.data / "kadid-rest", [row(r) for r in rows if r["reference"] not in kept])
        write(args.data / "kadid-codecs", [r for r in part if any(codec in r[0] for codec in KADID_CODECS)])


if __name__ == "__main__":
    main()
