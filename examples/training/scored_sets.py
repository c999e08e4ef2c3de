#!/usr/bin/env python3
"""Lays a set of pictures out of the git folder of a clone as a folder with a mos.csv (image,mos,...) or pictures.csv.

    examples/training/scored_sets.py SET REPOSITORY OUT

SET               REPOSITORY                                                        gives
biq512            nisarahmedrana/BIQ2021                                         9,998 photographs of the training part, 512x512, MOS 0..1
uhd-stills        Telecommunication-Telemedia-Assessment/image_quality_test      112 frames of 13 contents, x265 intra CRF x height, MOS 1..5;
                                                                                 shown scaled to 2160 lines
uhd-video-frames  Telecommunication-Telemedia-Assessment/AVT-VQDB-UHD-1          408 frames of 10 contents, H.264, HEVC and VP9, 360p to 2160p,
                                                                                 MOS 1..5 of the video; at half the coded size
kadid-references  imazen/zentrain-corpus                                         81 references of KADID-10k, 512x384, without scores
pristine          imazen/zentrain-corpus                                         pristine photographs and screens, without scores (CLIC training, gb82)

The other contents of these sets and their test parts are left out: they are there to judge the result by.
"""
import csv
import io
import os
import re
import subprocess
import sys

NOT_BIQ = ("ss02_1014.jpg", "ss02_1949.jpg")  # in the repository's table, not among the 9,998
VQDB_GIVEN = ("air_acrobatics", "bigbuck", "cutting_orange", "vegetables", "surfing", "Daydreamer", "Giftmord", "LeagueOfLegends",
              "Moment_of_Intensity", "fr-041_debris")


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in SETS:
        sys.exit(__doc__)
    name, repository, out = sys.argv[1:]
    git = lambda *a: subprocess.run(["git", "--git-dir", repository, *a], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    os.makedirs(out, exist_ok=True)
    columns, rows = SETS[name](git)
    kept = 0
    with open(os.path.join(out, "mos.csv" if "mos" in columns else "pictures.csv"), "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", *columns])
        for image, path, values in rows:
            data = git("cat-file", "blob", "HEAD:" + path)
            if not data:  # over 4 MiB: not in the snapshot
                continue
            with open(os.path.join(out, image), "wb") as picture:
                picture.write(data)
            table.writerow([image, *values])
            kept += 1
    print(f"{kept} pictures in {out}")


def table(git, path):
    return list(csv.reader(io.StringIO(git("show", "HEAD:" + path).decode("utf-8-sig"))))


def biq512(git):
    names = {re.sub(r"[ ()]+", "_", os.path.splitext(p)[0].split("/")[-1]).strip("_"): p
             for p in git("ls-tree", "-r", "--name-only", "HEAD", "Images").decode().splitlines()}
    for row in table(git, "Train (Images and MOS).csv")[1:]:
        key = re.sub(r"[ ()]+", "_", os.path.splitext(row[0])[0]).strip("_")
        if key in names and key + ".jpg" not in NOT_BIQ:
            yield key + ".jpg", names[key], [row[1]]


def uhd_stills(git):
    rows = table(git, "test_1/mos_ci.csv")[1:]
    given = set(sorted({r[0].split("_crf_")[0] for r in rows})[::3])
    for r in rows:
        source = r[0].split("_crf_")[0]
        if source in given:
            crf, height = re.search(r"_crf_(\d+)_height_(\d+)", r[0]).groups()
            yield r[0] + ".png", f"test_1/images/{r[0]}.png", [r[1], source, int(crf), int(height)]


def uhd_video_frames(git):
    frames = {re.sub(r"^docs/thumbs/new/test_\d_", "", p): p
              for p in git("ls-tree", "-r", "--name-only", "HEAD", "docs/thumbs/new").decode().splitlines()}
    for test in "1234":
        for source, video, mos, _ in (r[:4] for r in table(git, f"test_{test}/mos_ci.csv")[1:]):
            if not source.startswith(VQDB_GIVEN):
                continue
            stem = os.path.splitext(video)[0]
            path = f"docs/thumbs/new/test_{test}_{stem}.jpg"
            if os.path.basename(path).split("_", 2)[2] not in frames:
                path = path.replace("h264", "hevc")
            height = re.search(r"_(\d+)p_", video)
            yield f"test_{test}_{stem}.jpg", path, [mos, source, test, height.group(1) if height else ""]


def kadid_references(git):
    for p in git("ls-tree", "-r", "--name-only", "HEAD", "mlp-tune/kadid10k").decode().split():
        if p.endswith(".png"):
            yield os.path.basename(p), p, []


def pristine(git):
    for folder in ("clic-train", "clic-1024-train", "gb82-photo", "gb82-screen"):
        for p in git("ls-tree", "-r", "--name-only", "HEAD", "mlp-tune/" + folder).decode().split():
            if p.endswith(".png"):
                yield f"{folder}_{os.path.basename(p)}", p, [folder]


SETS = {
    "biq512": lambda git: (["mos"], biq512(git)),
    "uhd-stills": lambda git: (["mos", "source", "crf", "height"], uhd_stills(git)),
    "uhd-video-frames": lambda git: (["mos", "source", "test", "height"], uhd_video_frames(git)),
    "kadid-references": lambda git: ([], kadid_references(git)),
    "pristine": lambda git: (["group"], pristine(git)),
}

if __name__ == "__main__":
    main()
