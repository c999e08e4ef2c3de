#!/usr/bin/env python3
"""Writes the tables that a network is trained by, beside the folders that their pictures lie in.

    examples/training/labels.py DATA --scores SCORES.csv

DATA holds `biq512` (photographs with opinion scores), ladders of `qmambaiqa distort` (folders whose names begin with `l`), and
`kadid` where there is one. SCORES has a teacher's score of each photograph (columns image,score, on the scale of the opinions).
Written are folders with a mos.csv whose names of pictures lead to those folders:

  photographs   (opinion + teacher's score) / 2; opinions alone for the pictures named by --held-out
  ladders       encodings of pristine pictures: VMAF and the label of `distort`, weighted by the kind of encoder; sources have 100
  soft          the same, of photographs of BIQ2021, which have faults of their own
  kadid-part    --kadid pictures of `kadid`, whole references, all distortions
"""

import argparse
import csv
import pathlib
import random

STILL_CODECS = ("jpeg", "webp", "noise", "blur")  # VMAF is trained on video
VMAF_SHARE, VMAF_SHARE_STILLS = 0.8, 0.3


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(folder, rows):
    folder.mkdir(exist_ok=True)
    with open(folder / "mos.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["image", "mos", "reference"])
        out.writerows(rows)
    print(f"{folder}: {len(rows)} pictures")


def label(row):
    if row["codec"] == "none":
        return 100.0
    mos, share = float(row["mos"]), VMAF_SHARE_STILLS if row["codec"] in STILL_CODECS else VMAF_SHARE
    return mos if not row["vmaf"] or row["codec"] in ("noise", "blur") else share * float(row["vmaf"]) + (1 - share) * mos


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--scores", type=pathlib.Path)
    parser.add_argument("--held-out", type=pathlib.Path, default="weights/qmamba-nano.validation.csv")
    parser.add_argument("--kadid", type=int, default=0, metavar="REFERENCES", help="how many references (default: all)")
    args = parser.parse_args()

    held_out = {r["image"] for r in table(args.held_out)}
    scores = {r["image"]: float(r["score"]) for r in table(args.scores)} if args.scores else {}
    photographs = []
    for r in table(args.data / "biq512/mos.csv"):
        mos = float(r["mos"])
        if r["image"] not in held_out and r["image"] in scores:
            mos = (mos + scores[r["image"]]) / 2
        photographs.append([f"../biq512/{r['image']}", f"{mos:.5f}", ""])
    write(args.data / "photographs", photographs)

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
        write(args.data / "kadid-part", [[f"../kadid/{r['image']}", r["mos"], r["reference"]] for r in rows if r["reference"] in kept])


if __name__ == "__main__":
    main()
