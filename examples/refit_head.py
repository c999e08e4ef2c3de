#!/usr/bin/env python3
"""Fits a network's head anew, to opinion scores and what a teacher says of the same pictures, half and half.

    qmambaiqa features DIR --out features.safetensors --model WEIGHTS --crops 1 --sampling center
    examples/refit_head.py DIR features.safetensors maps.safetensors WEIGHTS OUT.safetensors --held-out OUT.validation.csv

maps.safetensors is from examples/teacher_maps.py; its first component is the teacher's own score. WEIGHTS is a weights file
or a checkpoint of `qmambaiqa train`, whose averages are taken. The head is a ridge regression on the features of all pictures
that --held-out does not name; the other weights stay as they are. The output is scaled so that 0 and 1 are the lowest and the
highest opinion score.
"""

import argparse
import csv
import json
import pathlib

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

RIDGE = 100.0
AVERAGE = "average/"
PASSING = ("teacher.", "auxiliary.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("dir", "features", "maps", "weights", "out"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--held-out", type=pathlib.Path, required=True)
    parser.add_argument("--model", default="qmamba-nano")
    args = parser.parse_args()

    with open(args.dir / "mos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(args.held_out, newline="") as file:
        held_out = {r["image"] for r in csv.DictReader(file)}
    train = np.array([r["image"] not in held_out for r in rows])
    mos = np.array([float(r["mos"]) for r in rows])
    mos = (mos - mos.min()) / (mos.max() - mos.min())
    features = load_file(args.features)["features"].astype(np.float64)
    teacher = load_file(args.maps)["features"][..., 0].astype(np.float64).mean((1, 2))

    # The teacher's score in the opinions' unit, then the mean of both.
    slope, offset = np.polyfit(teacher[train], mos[train], 1)
    label = (mos + slope * teacher + offset) / 2
    centre, scale = features[train].mean(0), features[train].std(0) + 1e-9
    x, y = (features[train] - centre) / scale, label[train] - label[train].mean()
    weight = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y) / scale
    bias = label[train].mean() - centre @ weight
    score = features @ weight + bias
    rank = lambda v: np.argsort(np.argsort(v))
    srcc = np.corrcoef(rank(score[~train]), rank(mos[~train]))[0, 1]
    print(f"held-out part: SRCC {srcc:.4f}; scores {score.min():.2f} to {score.max():.2f}")

    tensors = load_file(args.weights)
    if any(name.startswith(AVERAGE) for name in tensors):
        tensors = {n[len(AVERAGE) :]: v for n, v in tensors.items() if n.startswith(AVERAGE)}
    tensors = {n: v.astype(np.float16) for n, v in tensors.items() if not n.startswith(PASSING)}
    tensors["classifier.head.weight"] = weight[None].astype(np.float16)
    tensors["classifier.head.bias"] = np.array([bias], np.float16)
    with safe_open(args.weights, "np") as file:
        about = file.metadata() or {}
    metadata = {"model": args.model, "range": "[0.0,1.0]", "name": args.model, "producer": "examples/refit_head.py"}
    if "position" in about:
        settings = json.loads(about["position"])["settings"]
        names = lambda value: pathlib.Path(value).name if isinstance(value, str) and "/" in value else value
        kept = {k: [names(v) for v in value] if isinstance(value, list) else names(value) for k, value in settings.items()}
        metadata["training"] = json.dumps(kept)
    save_file(tensors, args.out, metadata)


if __name__ == "__main__":
    main()
