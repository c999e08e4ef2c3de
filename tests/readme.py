#!/usr/bin/env python3
"""Runs every command and program of README.md and of docs/ pages given by name, on inputs that it makes.

    tests/readme.py [--qmambaiqa target/release/qmambaiqa] [--plugin target/release/libqmambaiqa.so] [--keep FOLDER] [PAGE...]

Needs gst-launch-1.0 with x264enc, ffmpeg with libvmaf for the commands that measure with a reference, python3-gi, and
gir1.2-gst-rtsp-server-1.0 for the cameras. What is missing skips the commands that need it, with the reason. Changed in each command:
`rtsp://camera/N` to a server on this machine, `autovideosink` to `fakesink`, ranges of encoder settings to two settings. Commands that
watch live streams are interrupted after --seconds. A command passes if it succeeds and prints scores: for
`gst-launch-1.0 -m` the field `score`, for the others a number with decimals. Exit status 1: at least one failed.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIVE = re.compile(r"rtsp://camera/(\d)|\bmonitor\b")
# Commands that build and test, which are what runs this script, and those of other machines and of files that only users have.
ELSEWHERE = ("./examples/demo.sh", "./tests/run.sh", "apt ", "cargo ", "git ")
SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_service(sys.argv[1])
for camera in "12":
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch("( videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=10/1"
                       " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay name=pay0 pt=96 )")
    factory.set_shared(True)
    server.get_mount_points().add_factory("/" + camera, factory)
server.attach(None)
GLib.MainLoop().run()
"""


def commands(text):
    """(language, command) of fenced blocks and of indented lines; comments and line continuations are resolved."""
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S):
        if language == "python":
            yield "python", body
        elif language == "sh":
            for line in re.sub(r"\\\n\s*", "", body).splitlines():
                if line and not line.startswith("#"):
                    yield "sh", line
    for line in re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).splitlines():
        if line.startswith("    ") and not line.strip().startswith(ELSEWHERE):
            yield "sh", line.strip()


def make_inputs(folder):
    """Short films, pictures and a folder of pictures with opinion scores."""
    encode = "x264enc speed-preset=ultrafast quantizer=%d pass=quant ! h264parse"
    for name, quantizer, mux in (("a.mp4", 20, "mp4mux"), ("b.mp4", 45, "mp4mux"), ("clip.mp4", 30, "mp4mux"), ("film.mp4", 10, "mp4mux"),
                                 ("film.mkv", 20, "matroskamux")):
        frames = 330 if name == "film.mkv" else 30
        subprocess.run(f"gst-launch-1.0 -q videotestsrc num-buffers={frames} pattern=smpte75 ! video/x-raw,format=I420,width=640,height=360,"
                       f"framerate=30/1 ! {encode % quantizer} ! {mux} ! filesink location={folder / name}", shell=True, check=True)
    data = folder / "folder-with-mos.csv"
    data.mkdir()
    rows = ["image,mos"]
    for i in range(24):
        subprocess.run(f"gst-launch-1.0 -q videotestsrc num-buffers=1 pattern={i} ! video/x-raw,width=288,height=288 ! pngenc ! "
                       f"filesink location={data}/{i}.png", shell=True, check=True)
        rows.append(f"{i}.png,{i * 7 % 24}")
    (data / "mos.csv").write_text("\n".join(rows) + "\n")


def start_cameras(folder):
    """The port of an RTSP server with the cameras 1 and 2, or None."""
    for python in ("/usr/bin/python3", sys.executable):
        test = 'import gi; gi.require_version("GstRtspServer", "1.0"); from gi.repository import GstRtspServer'
        if subprocess.run([python, "-c", test], capture_output=True).returncode == 0:
            port = 18554
            server = subprocess.Popen([python, "-c", SERVER, str(port)], cwd=folder, stderr=subprocess.DEVNULL)
            time.sleep(2)
            return server, port
    return None, None


def adapt(command, port):
    command = re.sub(r"rtsp://camera/(\d)", rf"rtsp://127.0.0.1:{port}/\1", command)
    command = re.sub(r"\s+#\s.*$", "", command).replace("autovideosink", "fakesink sync=false")
    command = re.sub(r"crf 20\.\.44", "crf 30..44 step 14", command)
    command = re.sub(r"crf 25\.\.61 step 6", "crf 45..61 step 16", command)
    if command.startswith("qmambaiqa tune") or command.startswith("qmambaiqa train"):
        command += " --phases 64:1 --batch 8"
    return command


def reason_to_skip(language, command, port, gi):
    if "rtsp://" in command and port is None:
        return "no RTSP server: apt install python3-gi gir1.2-gst-rtsp-server-1.0"
    if language == "python" and not gi:
        return "no GObject introspection: apt install python3-gi gir1.2-gst-plugins-base-1.0"
    if re.search(r"qmambaiqa (ffmpeg|compare)", command) and not shutil.which("ffmpeg"):
        return "no ffmpeg"
    return None


def run(language, command, folder, environment, seconds):
    """Exit status and output. A live command is interrupted after some seconds; its status is then 0 if it stops by itself."""
    words = ["/usr/bin/python3", "-c", command] if language == "python" else ["bash", "-c", f"exec {command}"]
    process = subprocess.Popen(words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    live = LIVE.search(command) or "127.0.0.1" in command
    try:
        output, _ = process.communicate(timeout=seconds if live else 300)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        return -9, process.communicate()[0] + "\n(did not end after an interrupt)"
    # An interrupted run has one of these statuses even if it went well; the caller looks for its scores.
    return (0 if live and process.returncode in (0, 1, 130) else process.returncode or 1), output


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=pathlib.Path)
    parser.add_argument("--qmambaiqa", type=pathlib.Path, default=ROOT / "target/release/qmambaiqa")
    parser.add_argument("--plugin", type=pathlib.Path, default=ROOT / "target/release/libqmambaiqa.so")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for inputs and outputs, kept")
    parser.add_argument("--seconds", type=float, default=12, help="how long live streams are watched (%(default)s)")
    args = parser.parse_args()
    for path in (args.qmambaiqa, args.plugin):
        if not path.is_file():
            sys.exit(f"{path} does not exist: cargo build --release, or name another")
    temporary = None if args.keep else tempfile.TemporaryDirectory()
    folder = args.keep or pathlib.Path(temporary.name)
    (folder / "bin").mkdir(parents=True)
    (folder / "plugins").mkdir()
    shutil.copy(args.qmambaiqa, folder / "bin/qmambaiqa")
    shutil.copy(args.plugin, folder / "plugins/libqmambaiqa.so")
    environment = {**os.environ, "PATH": f"{(folder / 'bin').resolve()}:{os.environ['PATH']}", "GST_REGISTRY": str((folder / "registry").resolve()),
                   "GST_PLUGIN_PATH": str((folder / "plugins").resolve()), "XDG_CACHE_HOME": str((folder / "cache").resolve())}
    make_inputs(folder)
    server, port = start_cameras(folder)
    gi = subprocess.run(["/usr/bin/python3", "-c", "import gi"], capture_output=True).returncode == 0
    passed = failed = skipped = 0
    try:
        for page in args.pages or [ROOT / "README.md"]:
            for language, command in commands(page.read_text()):
                command = adapt(command, port) if language == "sh" else command
                shown = command.strip().splitlines()[0] if language == "sh" else "the Python program"
                if reason := reason_to_skip(language, command, port, gi):
                    print(f"skipped  {shown}\n         {reason}", flush=True)
                    skipped += 1
                    continue
                status, output = run(language, command, folder, environment, args.seconds)
                numbers = len(re.findall(r"score=\(double\)" if "gst-launch-1.0 -m" in command else r"\d+\.\d+", output))
                if status == 0 and (numbers or "overlay=true" in command):
                    print(f"passed   {shown}", flush=True)
                    passed += 1
                else:
                    print(f"FAILED   {shown}\n         exit status {status}, {numbers} scores\n{output[-2000:]}", flush=True)
                    failed += 1
    finally:
        if server:
            server.kill()
    print(f"{passed} commands passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
