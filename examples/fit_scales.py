#!/usr/bin/env python3
"""Fits the scale head of a model or style prompt, with the backbone frozen.

    qmambaiqa features DIR --each-crop --crops 4 --scales 1,2,4,8,16,32 --out DIR.safetensors [--style-prompt NAME] [--display-height N]
    examples/fit_scales.py WEIGHTS OUT --opinions F.safetensors TABLE COLUMN WEIGHT --ladder F.safetensors TABLE ... [options]

The head has four knots, at crop scales s = 0..3 (s = log2 of the reduced picture's shorter side over 224). A crop's output is
w(s).f + b(s), interpolated linearly between knots. A picture's output is the mean over its levels, weighted by exp(share(s)).

The fit is a ridge regression of the change from a starting head, in the first principal components of the features. Terms:
  --opinions  subjective scores, with a free offset; COLUMN of TABLE (mos.csv) names the source content
  --ladder    tables of `distort`; the label mixes VMAF and the impairment label (column mos), the source is 1
  --retain    pictures whose output stays near that of the old head and near their opinion score (column mos)
  consistency: all levels of a picture estimate the same quality; crop noise: crops of one level do
  pairs:      a logistic loss on pairs of one content whose VMAF differs by 6 or more, and on each source above its encodings
Errors within a content and errors of the contents' means have separate weights. --partitions N reports N partitions of the
contents in five folds; a fold's contents are in no training set of --opinions. The same input gives the same output.
"""

import argparse
import csv
import json
import pathlib
import re

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.stats import spearmanr

KNOTS, TAU, FOLDS = 4, 0.02, 5
STILL_CODECS = ("jpeg", "webp", "noise", "blur")  # VMAF is trained on video: these labels are mostly the impairment label
UNRANKED_CODECS = ("noise", "blur")  # in no pair by VMAF


class Dataset:
    """Level means of the features of a folder, coarsest level first, with the columns of its table."""

    def __init__(self, features, table, weight=1.0):
        with safe_open(features, "np") as file:
            f, scale, image = (file.get_tensor(n) for n in ("features", "scale", "image"))
            names = [pathlib.Path(n).name for n in json.loads(file.metadata()["images"])]
        with open(table, newline="") as file:
            rows = {r["image"]: r for r in csv.DictReader(file)}
        self.name, self.weight, self.table = pathlib.Path(features).name.removesuffix(".safetensors"), float(weight), [rows[n] for n in names]
        scale, image = scale.astype(np.float64), image.astype(int)
        levels = [np.unique(scale[image == i].round(3)) for i in range(len(names))]
        shape = len(names), max(map(len, levels))
        self.x, self.s, self.used = np.zeros((*shape, f.shape[1])), np.zeros(shape), np.zeros(shape, bool)
        for i, values in enumerate(levels):
            for k, s in enumerate(values):
                self.x[i, k] = f[(image == i) & (scale.round(3) == s)].astype(np.float64).mean(0)
                self.s[i, k], self.used[i, k] = s, True
        self.noise = crop_noise(f.astype(np.float64), scale, image)
        self.offset, self.between, self.within = False, 1.0, 1.0
        self.mos = np.array([float(r["mos"]) for r in self.table])
        self.label, self.content, self.vmaf = self.mos, np.zeros(len(names), int), None

    def knots(self):
        s = np.clip(self.s, 0, KNOTS - 1)
        return np.clip(1 - np.abs(s[..., None] - np.arange(KNOTS)), 0, None)

    def levels(self, share):
        a = np.exp(self.knots() @ share) * self.used
        return a / a.sum(1, keepdims=True)

    def outputs(self, w, b, share):
        return (self.levels(share) * (self.knots() * (self.x @ w.T + b)).sum(-1)).sum(1)

    def select(self, mask):
        other = object.__new__(type(self))
        other.__dict__ = {k: v[mask] if isinstance(v, np.ndarray) else v for k, v in self.__dict__.items()}
        return other


def crop_noise(f, scale, image):
    """Sums of squares of the features of crops around their level's mean, and degrees of freedom, for each knot."""
    _, index, count = np.unique(np.stack([image, scale.round(3)]), axis=1, return_inverse=True, return_counts=True)
    index = index.reshape(-1)
    apart, fewer = centred(f, index), 1 - 1 / count[index]
    near = np.clip(1 - np.abs(np.clip(scale, 0, KNOTS - 1)[:, None] - np.arange(KNOTS)), 0, None)
    return [((apart * near[:, k, None]).T @ apart, (near[:, k] * fewer).sum()) for k in range(KNOTS)]


def ladder(features, table, args):
    d = Dataset(features, table, args.ladder_weight)
    codec = np.array([r["codec"] for r in d.table])
    vmaf = np.array([float(r["vmaf"] or 100) for r in d.table])
    d.source = codec == "none"
    part = np.where(np.isin(codec, STILL_CODECS), args.vmaf_share_stills, args.vmaf_share)
    d.label = np.where(d.source, 100, part * vmaf + (1 - part) * d.mos) / 100 * args.ladder_top
    d.label = args.gain * d.label + (1 - args.gain) * args.ladder_top
    d.vmaf, d.content = np.where(d.source, 100, vmaf), np.array([r["reference"] for r in d.table])
    d.between, d.within, d.offset = args.ladder_between, args.ladder_within, args.ladder_offset
    d.ranked = ~np.isin(codec, UNRANKED_CODECS)
    return d


def opinions(features, table, column, weight, args):
    d = Dataset(features, table, weight)
    merged = lambda name: next((c for c in args.contents.split(",") if c and c in name.lower()), name.lower())
    d.content = np.array([merged(r[column]) for r in d.table])
    rate = [re.search(r"_([\d.]+)fps", r["image"]) for r in d.table]
    halvings = np.array([np.log2(60 / min(float(m[1]), 60)) if m else 0 for m in rate])
    d.label = (d.mos - 1 + args.frame_rate_cost * halvings) / 4 * args.gain
    d.offset, d.between, d.within = True, 1.0, args.within
    return d


def centred(values, content):
    _, index = np.unique(content, return_inverse=True)
    sums = np.zeros((index.max() + 1,) + values.shape[1:])
    np.add.at(sums, index, values)
    return values - (sums / np.bincount(index).reshape(-1, *[1] * (values.ndim - 1)))[index]


def pairs(d, least=6.0):
    """Pairs (better, worse, weight) of one content; a source counts three times."""
    better = (d.vmaf[:, None] - d.vmaf >= least) | (d.source[:, None] & (d.vmaf < 97))
    i, j = np.nonzero(better & d.ranked & d.ranked[:, None] & (d.content[:, None] == d.content))
    w = np.minimum((d.vmaf[i] - d.vmaf[j]) / 10, 1)
    return i, j, np.where(d.source[i], 3 * np.maximum(w, 0.5), w)


def fit(sets, start, share, basis, noise, args):
    """The head's weights (KNOTS, channels) and biases (KNOTS) that minimise the loss."""
    w0, b0 = start
    n = KNOTS * len(basis) + KNOTS
    free = sum(d.offset for d in sets)
    m, v, ranked, column = np.zeros((n + free, n + free)), np.zeros(n + free), [], n
    for d in sets:
        knots, a = d.knots(), d.levels(share)
        q = np.concatenate([(knots[..., None] * (d.x @ basis.T)[:, :, None]).reshape(*a.shape, -1), knots], -1)
        old = (knots * (d.x @ w0.T + b0)).sum(-1)
        fused, before = (a[..., None] * q).sum(1), (a * old).sum(1)
        rows = np.concatenate([fused, np.zeros((len(fused), free))], 1)
        if d.offset:
            rows[:, column] = -1
            column += 1
        error, f = d.label - before, d.weight / len(rows)
        inner, inner_error = centred(fused, d.content), centred(error, d.content)
        spread = np.sqrt(d.used / d.used.sum(1, keepdims=True))
        apart = ((q - fused[:, None]) * spread[..., None])[d.used]
        m += f * d.between * rows.T @ rows
        v += f * d.between * rows.T @ error
        m[:n, :n] += f * (d.within * inner.T @ inner + args.consistency * apart.T @ apart)
        v[:n] += f * (d.within * inner.T @ inner_error - args.consistency * apart.T @ ((old - before[:, None]) * spread)[d.used])
        if d.vmaf is not None and args.pairs:
            ranked.append((fused, before, *pairs(d)))
    for k in range(KNOTS):  # variance of a crop's output within a level
        part = slice(k * len(basis), (k + 1) * len(basis))
        m[part, part] += args.crop_noise / KNOTS * basis @ noise[k] @ basis.T
        v[part] -= args.crop_noise / KNOTS * basis @ noise[k] @ w0[k]
    diagonal = np.full(n + free, 1e-6)
    diagonal[: n - KNOTS] = args.ridge / KNOTS
    root = cholesky(m + np.diag(diagonal), lower=True)
    centre = solve_triangular(root, v, lower=True)
    total = sum(r[4].sum() for r in ranked)

    def loss(z):
        x = solve_triangular(root, z, lower=True, trans="T")
        value, gradient = 0.5 * ((z - centre) ** 2).sum(), np.zeros(n + free)
        for fused, before, i, j, w in ranked:
            y = fused @ x[:n] + before
            gap = (y[i] - y[j]) / TAU
            value += args.pairs * TAU * (w * np.logaddexp(0, -gap)).sum() / total
            pull = args.pairs * w / (1 + np.exp(np.clip(gap, -50, 50))) / total
            gradient[:n] -= fused.T @ (np.bincount(i, pull, len(y)) - np.bincount(j, pull, len(y)))
        return value, z - centre + solve_triangular(root, gradient, lower=True)

    z = minimize(loss, centre, jac=True, method="L-BFGS-B", options={"maxiter": 60}).x if ranked else centre
    x = solve_triangular(root, z, lower=True, trans="T")
    return w0 + x[: n - KNOTS].reshape(KNOTS, -1) @ basis, b0 + x[n - KNOTS : n]


def report(d, y):
    text = f"{d.name:28} SRCC {spearmanr(y, d.mos)[0]:.3f}  output {y.min():.2f} to {y.max():.2f}, median {np.median(y):.2f}"
    if d.vmaf is not None:
        gap, same = d.vmaf[:, None] - d.vmaf, d.content[:, None] == d.content
        right = lambda mask: f"{(y[:, None] > y)[mask & same].mean():.3f}"
        bins = ((0.01, 3), (3, 6), (6, 10), (10, 101))
        text += "  pairs by VMAF " + ", ".join(f"{lo:.0f}+ {right((gap >= lo) & (gap < hi))}" for lo, hi in bins)
        text += f"  source above {right(d.source[:, None] & (d.vmaf < 97))}"
    print(text, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("weights", type=pathlib.Path)
    add("out", type=pathlib.Path)
    add("--opinions", nargs=4, action="append", default=[], metavar=("FEATURES", "TABLE", "COLUMN", "WEIGHT"))
    add("--ladder", nargs=2, action="append", default=[], metavar=("FEATURES", "TABLE"))
    add("--retain", nargs=3, action="append", default=[], metavar=("FEATURES", "TABLE", "WEIGHT"))
    add("--test", nargs=2, action="append", default=[], metavar=("FEATURES", "TABLE"), help="report only")
    add("--judge", nargs=3, action="append", default=[], metavar=("FEATURES", "TABLE", "COLUMN"), help="folds only, such as other crop counts")
    add("--start", nargs=2, action="append", default=[], metavar=("WEIGHTS", "FACTOR"), help="sum of heads to start from (default: WEIGHTS)")
    add("--start-scales", action="store_true", help="start from the head of scales that WEIGHTS has, such as one that training learned")
    add("--share", default="0.4,0.5,-0.2,-1", help="log weights of the levels at the knots")
    add("--contents", default="", help="name parts; sources that contain the same part are one content")
    for name, value in (("ridge", 4.0), ("consistency", 0.2), ("crop-noise", 10.0), ("pairs", 30.0), ("within", 32.0), ("gain", 1.0), ("ladder-weight", 1.0),
                        ("ladder-between", 1.0), ("ladder-within", 2.0), ("ladder-top", 0.97), ("vmaf-share", 0.8), ("vmaf-share-stills", 0.3),
                        ("retain-opinions", 0.0), ("frame-rate-cost", 0.0), ("top", 0.0)):  # fmt: skip
        add(f"--{name}", type=float, default=value)
    add("--ladder-offset", action="store_true", help="give each ladder table a free offset")
    add("--components", type=int, default=96)
    add("--partitions", type=int, default=0)
    args = parser.parse_args()

    share = np.array([float(v) for v in args.share.split(",")])
    head = lambda path: [load_file(path)[f"classifier.head.{n}"].astype(np.float64).reshape(-1) for n in ("weight", "bias")]
    old_weight, old_bias = head(args.weights)
    w = sum(float(f) * head(p)[0] for p, f in args.start) if args.start else old_weight
    start = np.tile(w, (KNOTS, 1)), np.full(KNOTS, old_bias[0])
    if args.start_scales:
        start = [load_file(args.weights)[f"classifier.scales.{n}"].astype(np.float64) for n in ("weight", "bias")]
    given = [opinions(*o, args) for o in args.opinions]
    sets = given + [ladder(*o, args) for o in args.ladder]
    for features, table, weight in args.retain:
        d = Dataset(features, table, weight)
        d.within = 0.0
        old = d.outputs(np.tile(old_weight, (KNOTS, 1)), old_bias, np.zeros(KNOTS))
        d.label = args.retain_opinions * d.mos + (1 - args.retain_opinions) * old
        sets.append(d)
    covariance = sum(np.cov(d.x[d.used].T) for d in sets if d.vmaf is not None or d.offset)
    basis = np.linalg.eigh(covariance)[1][:, ::-1][:, : args.components].T

    extra = [opinions(*j, 0, args) for j in args.judge]
    add_up = lambda k, i: sum(d.noise[k][i] for d in sets + extra)
    noise = [add_up(k, 0) / (add_up(k, 1) + 1e-9) for k in range(KNOTS)]

    w, b = fit(sets, start, share, basis, noise, args)
    y = np.concatenate([d.outputs(w, b, share) for d in sets])
    factor = args.top / np.percentile(y, 99) if args.top else 1.0
    w, b = (factor * w).astype(np.float16).astype(np.float64), (factor * b).astype(np.float16).astype(np.float64)
    tests = [ladder(*t, args) if "vmaf" in open(t[1]).readline() else Dataset(*t) for t in args.test]
    for d in sets + tests:
        report(d, d.outputs(w, b, share))

    judged = given + extra
    found = {d.name: [] for d in judged}
    for seed in range(args.partitions):
        names = sorted({c for d in judged for c in d.content})
        np.random.default_rng(seed).shuffle(names)
        fold = {c: i % FOLDS for i, c in enumerate(names)}
        y = {d.name: np.zeros(len(d.mos)) for d in judged}
        for k in range(FOLDS):
            train = [d.select(np.array([fold[c] != k for c in d.content])) if d in given else d for d in sets]
            head_w, head_b = fit(train, start, share, basis, noise, args)
            for d in judged:
                mask = np.array([fold[c] == k for c in d.content])
                y[d.name][mask] = d.select(mask).outputs(head_w, head_b, share)
        for d in judged:
            found[d.name].append(spearmanr(y[d.name], d.mos)[0])
    for name, values in found.items() if args.partitions else ():
        print(f"{name:28} five folds, SRCC {np.mean(values):.3f}  ({', '.join(f'{v:.3f}' for v in values)})")

    tensors = load_file(args.weights)
    with safe_open(args.weights, "np") as file:
        metadata = file.metadata() or {}
    for name, value in (("weight", w), ("bias", b), ("share", share)):
        tensors[f"classifier.scales.{name}"] = value.astype(np.float16)
    settings = {k: v for k, v in vars(args).items() if isinstance(v, (float, int)) and not isinstance(v, bool)} | {"share": args.share}
    data = [[pathlib.Path(o[0]).name, *(o[3:] or o[2:])] for o in args.opinions + args.ladder + args.retain]
    metadata["scales"] = json.dumps({"producer": "examples/fit_scales.py", "data": data, "settings": settings})
    save_file(tensors, args.out, metadata)


if __name__ == "__main__":
    main()
