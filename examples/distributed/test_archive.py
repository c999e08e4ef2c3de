#!/usr/bin/env python3
"""Tries score_archive.py on a cluster of two workers, one of which is killed in mid-run: test_archive.py BINARY

Needs what score_archive.py needs, psutil (PyPI), and gst-launch-1.0 to make the files.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import psutil
import pyarrow.parquet
from ray.cluster_utils import Cluster

SCRIPT = pathlib.Path(__file__).with_name("score_archive.py")
BROKEN = {
    "broken.png": b"\x89PNG\r\n\x1a\n broken",
    "empty.mp4": b"",
    "text 'of' a file.mp4": b"no picture\n",
    "crash.png": b"ends the command line, see make_binary\n",
}


def make_files(folder):
    """23 pictures, 13 videos and 4 broken files, in two folders."""
    (folder / "b").mkdir(parents=True)

    def gstreamer(frames, pattern, encoder, path):
        source = f"videotestsrc num-buffers={frames} pattern={pattern} ! video/x-raw,format=I420,width=320,height=240"
        words = f"{source} ! videoconvert ! {encoder} ! filesink".split()
        subprocess.run(["gst-launch-1.0", "-q", *words, f"location={path}"], check=True)

    for i in range(23):
        gstreamer(1, i % 20, "pngenc", folder / "b" / f"picture {i:02}.png")
    for i in range(13):
        gstreamer(4, i, "y4menc", folder / f"video-{i:02}.y4m")
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content)
    return sorted(str(p) for p in folder.rglob("*") if p.is_file())


def make_binary(path, binary):
    """The command line, but one file is its end."""
    path.write_text(f"#!/bin/sh\ncase \"$*\" in *crash.png*) kill -9 $$ ;; esac\nexec '{binary}' \"$@\"\n")
    path.chmod(0o755)
    return path


def scores_now(raylet):
    """Does a worker of this node run the command line?"""
    return any("score" in child.cmdline()[1:2] for child in psutil.Process(raylet).children(recursive=True))


def rows(out):
    return {path: pyarrow.parquet.read_table(path).to_pylist() for path in out.glob("*.parquet")}


def means(out):
    return {pathlib.Path(row["path"]).name: row["mean"] for batch in rows(out).values() for row in batch}


def check(what, good):
    print(f"{'ok' if good else 'FAILED'}: {what}", flush=True)
    if not good:
        sys.exit(1)


def check_rows(out, files):
    table = [row for batch in rows(out).values() for row in batch]
    check(f"every one of {len(files)} files once", sorted(row["path"] for row in table) == files)
    failed = {pathlib.Path(row["path"]).name: row["error"] for row in table if row["error"] is not None}
    check(f"errors are those of the broken files: {failed}", failed.keys() == BROKEN.keys() and all(failed.values()))
    scored = [row for row in table if row["error"] is None]
    check(f"{len(scored)} files have scores", all(row["frames"] > 0 and 0 <= row["mean"] <= 100 for row in scored))


def main():
    if len(sys.argv) != 2:
        sys.exit("test_archive.py: name the command line: test_archive.py target/release/qmambaiqa")
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = pathlib.Path(temporary, "archive"), pathlib.Path(temporary, "results")
        files = make_files(folder)
        binary = make_binary(pathlib.Path(temporary, "qmambaiqa"), binary)
        memory = {"object_store_memory": 100_000_000}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **memory})
        workers = [cluster.add_node(num_cpus=1, **memory) for _ in range(2)]

        def start(*options):
            command = [sys.executable, SCRIPT, folder, "--out", out, "--binary", binary, "--batch", "3"]
            return subprocess.Popen([*command, "--address", cluster.address, *options], stdout=subprocess.PIPE, text=True)

        def finish(process, code=0):
            printed, _ = process.communicate(timeout=300)
            print(printed, end="")
            check(f"it ends with {code}", process.returncode == code)
            return printed

        try:
            first = start()
            killed = workers[0].all_processes["raylet"][0].process.pid
            limit = time.monotonic() + 120
            while not (len(rows(out)) >= 3 and scores_now(killed)) and time.monotonic() < limit:
                time.sleep(0.02)
            busy = scores_now(killed)
            os.kill(killed, signal.SIGKILL)
            check(f"a worker is killed while it scores, after {len(rows(out))} of {-(-len(files) // 3)} batches", busy and 3 <= len(rows(out)) < len(files) // 3)
            finish(first)
            check_rows(out, files)

            before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
            check("the second run has nothing to do", "40 finished before, 0 to score" in finish(start()))
            check("and writes nothing", before == {path: path.stat().st_mtime_ns for path in out.iterdir()})

            old = means(out)
            (folder / "video-03.y4m").write_bytes((folder / "video-04.y4m").read_bytes())
            (folder / "new.png").write_bytes((folder / "b" / "picture 05.png").read_bytes())
            check("one changed and one new file are scored", "39 finished before, 2 to score" in finish(start()))
            check_rows(out, sorted([*files, str(folder / "new.png")]))
            new = means(out)
            check("the changed file has its new score", old["video-03.y4m"] != new["video-03.y4m"] == new["video-04.y4m"])

            finish(start("--", "--crops", "1"), code=1)
            check_rows(out, sorted([*files, str(folder / "new.png")]))
        finally:
            cluster.shutdown()


if __name__ == "__main__":
    main()
