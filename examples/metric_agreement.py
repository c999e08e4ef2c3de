#!/usr/bin/env python3
"""How well full-reference metrics agree with opinion scores, on a set without its references.

    pip install imageio-ffmpeg scipy ssimulacra2
    examples/metric_agreement.py compression-dev

DIR has a mos.csv with `image,reference,quality_setting,mos`. The picture of a content at its best setting stands for the
reference, so it is left out. Prints Spearman's correlation of each metric with the scores of all others: what labels made
of it (`qmambaiqa distort`) can teach at best, about.
"""

import csv
import json
import pathlib
import subprocess
import sys
import tempfile

import imageio_ffmpeg
import numpy as np
from scipy.stats import spearmanr
from ssimulacra2 import compute_ssimulacra2

FEATURES = {"VMAF NEG": "vmaf", "MS-SSIM": "float_ms_ssim", "VIF, scale 2": "integer_vif_scale2", "AIM": "integer_aim_egl_1", "PSNR": "psnr_y"}


def libvmaf(reference, picture):
    with tempfile.NamedTemporaryFile(suffix=".json") as log:
        graph = "[0:v]format=yuv420p[d];[1:v]format=yuv420p[r];[d][r]libvmaf=model=version=vmaf_v0.6.1neg:"
        graph += f"feature=name=float_ms_ssim|name=psnr|name=vif:log_fmt=json:log_path={log.name}"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", picture, "-i", reference, "-lavfi", graph]
        subprocess.run([*map(str, command), "-f", "null", "-"], check=True)
        return json.load(log)["frames"][0]["metrics"]


def main():
    folder = pathlib.Path(sys.argv[1])
    with open(folder / "mos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    best = {}
    for row in rows:
        if float(row["quality_setting"]) > float(best.get(row["reference"], row)["quality_setting"]) - 1e-9:
            best[row["reference"]] = row
    rows = [r for r in rows if r is not best[r["reference"]]]
    values = {name: [] for name in ("SSIMULACRA2", *FEATURES)}
    for row in rows:
        pair = folder / best[row["reference"]]["image"], folder / row["image"]
        values["SSIMULACRA2"].append(compute_ssimulacra2(*map(str, pair)))
        measured = libvmaf(*pair)
        for name, key in FEATURES.items():
            values[name].append(measured[key])
    values = {name: np.array(v, float) for name, v in values.items()}
    values["AIM"] *= -1  # it measures what is wrong
    decibels = -10 * np.log10(1 - values["MS-SSIM"])
    mapped = [100 / (1 + np.exp(-(values["SSIMULACRA2"] - 45) / 20)), values["VMAF NEG"], 5 * (decibels - 5)]
    values["mean of SSIMULACRA2, VMAF NEG, MS-SSIM (distort --label mean)"] = np.mean(mapped, 0)
    impairment = mapped[0] + 100 / (1 + (np.maximum(-values["AIM"], 0) / 0.043) ** 1.97)
    values["mean of SSIMULACRA2 and AIM (distort --label impairment)"] = impairment / 2
    scores = [float(r["mos"]) for r in rows]
    for name, value in values.items():
        print(f"{spearmanr(value, scores)[0]:.3f}  {name}")


if __name__ == "__main__":
    main()
