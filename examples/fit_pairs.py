#!/usr/bin/env python3
"""Fits a scale head that orders encodings of one content, with the backbone frozen: the style prompt `compression-pairs`.

    qmambaiqa features DIR --each-crop --crops 4 --scales 1,2,4,8,16,32 --style-prompt compression --out DIR.safetensors
    examples/fit_pairs.py WEIGHTS OUT --ladder F.safetensors TABLE [WEIGHT] ... [--test F.safetensors TABLE ...]

WEIGHTS is the style prompt whose features the head reads; TABLE is the mos.csv that `distort` wrote. The head's output for a
picture is the mean over its levels, weighted by exp(share(s)), of w(s).f. The probability that A is better than B, two pictures
of one content, is the logistic function of the difference of their outputs; w minimises its logarithm over pairs of which
VMAF differs by 6 or more, and over each source and its encodings. With --largest each ladder is learned a second time, with that weight,
from its largest level only: a picture of 224 to 447 rows has no other level.

Only differences are learned. The outputs are scaled so that a difference of one point on the 0-100 scale is 2.5 points of VMAF, in the
mean, and moved so that sources have --top in the mean. The same input gives the same output.
"""

import argparse
import json
import pathlib

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.optimize import minimize

from fit_scales import KNOTS, UNRANKED_CODECS, Dataset, centred, pairs


class Ladder(Dataset):
    """Pictures of `distort`, with the level means of their features."""

    def __init__(self, features, table, weight=1.0):
        super().__init__(features, table, weight)
        codec = np.array([r["codec"] for r in self.table])
        self.source, self.ranked = codec == "none", ~np.isin(codec, UNRANKED_CODECS)
        self.vmaf = np.where(self.source, 100, [float(r["vmaf"] or 100) for r in self.table])
        self.content = np.array([r["reference"] for r in self.table])

    def largest(self, weight):
        """The largest level of each picture as a small picture of its own, at a scale of 0 to 1."""
        other = self.select(np.ones(len(self.mos), bool))
        level = np.where(self.used, self.s, -1).argmax(1)[:, None]
        other.x, other.used = np.take_along_axis(self.x, level[..., None], 1), np.ones_like(level, bool)
        other.s = np.random.default_rng(0).uniform(0, 1, level.shape)
        other.name, other.weight = self.name + " largest", self.weight * weight
        return other

    def rows(self, share, basis):
        """What the output is linear in: for each knot, the projected features."""
        knots, a = self.knots(), self.levels(share)
        each = (knots[..., None] * (self.x @ basis.T)[:, :, None]).reshape(*a.shape, -1)
        return (a[..., None] * each).sum(1)


def report(d, y):
    gap = d.vmaf[:, None] - d.vmaf
    same = (d.content[:, None] == d.content) & d.ranked & d.ranked[:, None]
    right = lambda mask: f"{(y[:, None] > y)[mask & same].mean():.3f}"
    bins = ((0.01, 3), (3, 6), (6, 10), (10, 101))
    text = ", ".join(f"{low:.0f}+ {right((gap >= low) & (gap < high))}" for low, high in bins)
    print(f"{d.name:36} pairs by VMAF {text}  source above {right(d.source[:, None] & (d.vmaf < 97))}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--ladder", nargs="+", action="append", required=True, metavar="FEATURES TABLE [WEIGHT]")
    parser.add_argument("--test", nargs=2, action="append", default=[], metavar=("FEATURES", "TABLE"), help="report only")
    parser.add_argument("--share", default="0.3,0.6,0,-1", help="log weights of the levels at the knots")
    parser.add_argument("--penalty", type=float, default=1e-4, help="of the squared weights")
    parser.add_argument("--largest", type=float, default=0.0, help="weight of the largest levels alone")
    parser.add_argument("--components", type=int, default=96, help="principal components of the features")
    parser.add_argument("--gain", type=float, default=0.4, help="points for a point of VMAF")
    parser.add_argument("--top", type=float, default=66.0, help="mean score of the sources")
    args = parser.parse_args()

    share = np.array([float(v) for v in args.share.split(",")])
    ladders = [Ladder(*given) for given in args.ladder]
    sets = ladders + [d.largest(args.largest) for d in ladders if args.largest]
    basis = np.linalg.eigh(sum(np.cov(d.x[d.used].T) for d in ladders))[1][:, ::-1][:, : args.components].T
    rows, ranked = [d.rows(share, basis) for d in sets], [pairs(d) for d in sets]
    x = np.concatenate([q[i] - q[j] for q, (i, j, _) in zip(rows, ranked)])
    weight = np.concatenate([d.weight * w for d, (_, _, w) in zip(sets, ranked)])
    unit = x.std()
    x, weight = x / unit, weight / weight.sum()

    def loss(v):
        gap = x @ v
        pull = weight / (1 + np.exp(np.clip(gap, -50, 50)))
        return (weight * np.logaddexp(0, -gap)).sum() + args.penalty * v @ v, 2 * args.penalty * v - x.T @ pull

    v = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x / unit
    for d, q in zip(sets, rows):
        report(d, q @ v)
    for given in args.test:
        d = Ladder(*given)
        report(d, d.rows(share, basis) @ v)

    y, vmaf, source = (np.concatenate(parts) for parts in zip(*((q @ v, d.vmaf, d.source) for d, q in zip(ladders, rows))))
    kept = np.concatenate([d.ranked for d in ladders])
    content = np.concatenate([np.char.add(f"{i}/", d.content) for i, d in enumerate(ladders)])
    apart, by_vmaf = centred(y[kept], content[kept]), centred(vmaf[kept], content[kept])
    gain = args.gain / 100 * (apart @ by_vmaf) / (apart @ apart)
    bias = args.top / 100 - gain * y[source].mean()
    spread = np.percentile(gain * y + bias, [0, 1, 50, 99, 100]).round(2)
    print(f"outputs, least, 1 %, median, 99 % and greatest: {spread}")

    tensors = load_file(args.weights)
    with safe_open(args.weights, "np") as file:
        metadata = file.metadata() or {}
    fitted = {"weight": gain * v.reshape(KNOTS, -1) @ basis, "bias": np.full(KNOTS, bias), "share": share}
    tensors |= {f"classifier.scales.{name}": value.astype(np.float16) for name, value in fitted.items()}
    settings = {k: v for k, v in vars(args).items() if isinstance(v, float)} | {"share": args.share}
    data = [[pathlib.Path(given[0]).name, *given[2:]] for given in args.ladder]
    metadata["scales"] = json.dumps({"producer": "examples/fit_pairs.py", "data": data, "settings": settings})
    save_file(tensors, args.out, metadata)


if __name__ == "__main__":
    main()
