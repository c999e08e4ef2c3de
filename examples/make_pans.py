#!/usr/bin/env python3
"""Makes short clips that pan slowly over photographs, without loss.

    examples/make_pans.py PICTURE... --out FOLDER [--size 1280x720] [--seconds 5] [--rate 25] [--speed 2]

Each clip moves over its picture by whole pixels, so that nothing is interpolated, along the side with more room, at --speed
pixels a frame or as fast as the room allows; the other side is centred. Pictures that are too small are errors. The clips
are FFV1 in Matroska, 4:2:0, BT.709, which GStreamer and ffmpeg decode. --ffmpeg names one; without it, the one on the PATH,
or that of `pip install imageio-ffmpeg`.
"""

import argparse
import pathlib
import re
import shutil
import subprocess


def find_ffmpeg(named):
    if named or shutil.which("ffmpeg"):
        return named or "ffmpeg"
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


def size_of(ffmpeg, picture):
    about = subprocess.run([ffmpeg, "-hide_banner", "-i", picture], capture_output=True, text=True).stderr
    found = re.search(r"Video:.*?, (\d+)x(\d+)", about)
    if not found:
        raise SystemExit(f"{picture}: no picture that {ffmpeg} reads")
    return int(found[1]), int(found[2])


def path_over(room, frames, speed):
    """First place and step of each side: the longer room is panned over, the middle of it; the other side is centred."""
    along = 0 if room[0] >= room[1] else 1
    step = min(speed, room[along] // max(frames - 1, 1))
    places = [side // 2 for side in room]
    places[along] = (room[along] - step * (frames - 1)) // 2
    return places, [step if side == along else 0 for side in (0, 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=int, default=25)
    parser.add_argument("--speed", type=int, default=2)
    parser.add_argument("--ffmpeg")
    args = parser.parse_args()
    ffmpeg = find_ffmpeg(args.ffmpeg)
    width, height = map(int, args.size.split("x"))
    frames = round(args.seconds * args.rate)
    args.out.mkdir(parents=True, exist_ok=True)
    for picture in args.pictures:
        sides = size_of(ffmpeg, picture)
        room = (sides[0] - width, sides[1] - height)
        if min(room) < 0 or max(room) < frames - 1:
            raise SystemExit(f"{picture}: {sides[0]}x{sides[1]} has no room for {frames} frames of {args.size}")
        (x, y), (right, down) = path_over(room, frames, args.speed)
        # Read once; cut before chroma is halved, so that odd places are exact.
        filters = (f"format=gbrp,loop=loop=-1:size=1,setpts=N/{args.rate}/TB,crop={width}:{height}:{x}+{right}*n:{y}+{down}*n,"
                   "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,setsar=1,"
                   "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709")
        out = args.out / f"{picture.stem}.mkv"
        command = [ffmpeg, "-v", "error", "-y", "-framerate", str(args.rate), "-i", picture, "-vf", filters,
                   "-frames:v", str(frames), "-r", str(args.rate), "-c:v", "ffv1", out]
        subprocess.run(command, check=True)
        print(f"{out}: {frames} frames, {right or down} pixels a frame {'right' if right else 'down'}")


if __name__ == "__main__":
    main()
