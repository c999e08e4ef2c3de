#!/usr/bin/env python3
"""Scores every file of a folder with `qmambaiqa score`, on one machine or on a Ray cluster; results are Parquet files.

    pip install ray pyarrow
    score_archive.py FOLDER --out RESULTS [--address auto] [-- --crops 9 --style-prompt compression]

FOLDER, RESULTS and the command line have the same path on each machine. What stands after `--` goes to `qmambaiqa score`.

Another run scores what is new or has changed (size or time of modification). A file that cannot be scored is a row with an
`error`. A batch whose worker dies is scored again, elsewhere.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import pyarrow
import pyarrow.compute
import pyarrow.parquet
import ray

STATISTICS = ("mean", "harmonic_mean", "min", "p1", "p5", "p10", "p50")
SCHEMA = pyarrow.schema(
    [("path", pyarrow.string()), ("size", pyarrow.int64()), ("modified_ns", pyarrow.int64()), ("frames", pyarrow.int64())]
    + [(name, pyarrow.float64()) for name in STATISTICS]
    + [("error", pyarrow.string())]
)
SETTINGS = b"qmambaiqa"  # the key of the settings in a result's metadata


class File(NamedTuple):
    """A file as it was when listed: another size or time is another file."""

    path: str
    size: int
    modified_ns: int


class Settings(NamedTuple):
    binary: str
    options: list  # of `qmambaiqa score`
    threads: int
    timeout: float  # seconds for each file of a batch
    out: pathlib.Path


def list_files(folder, patterns, out):
    """All files under `folder`, in order, apart from the results in `out`."""

    def unreadable(error):
        sys.exit(f"score_archive.py: {error.filename}: {error.strerror}; its files would be missing")

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(f for f in folders if pathlib.Path(parent, f) != out)
        for name in sorted(n for n in names if any(fnmatch.fnmatch(n, p) for p in patterns)):
            path = os.path.join(parent, name)
            try:
                status = os.stat(path)
            except OSError:
                status = None  # a link to nowhere: the command line says so
            if status and not stat.S_ISREG(status.st_mode):
                continue
            # A table holds UTF-8. Another name is not found as it is written here, and its row says so.
            shown = os.fsencode(path).decode(errors="backslashreplace")
            yield File(shown, status.st_size if status else 0, status.st_mtime_ns if status else 0)


def write(table, path):
    """A reader, and the next run, see all of it or nothing."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    os.close(handle)
    try:
        pyarrow.parquet.write_table(table, temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def finished(out, files, options):
    """Files with a row. Rows of files that have changed since are taken out."""
    now = {file.path: file for file in files}
    done = set()
    for path in sorted(out.glob("*.parquet")):
        table = pyarrow.parquet.read_table(path)
        if not table.schema.equals(SCHEMA) or json.loads((table.schema.metadata or {}).get(SETTINGS, b"null")) != options:
            sys.exit(f"score_archive.py: {path} was made with other options; name another folder with --out")
        rows = [File(*row.values()) for row in table.select(File._fields).to_pylist()]
        # What is no longer listed stays: the folder may be another part of the archive.
        keep = [now.get(row.path, row) == row for row in rows]
        if not any(keep):
            path.unlink()
        elif not all(keep):
            write(table.filter(pyarrow.array(keep)), path)
        done.update(row for row, kept in zip(rows, keep) if kept)
    return done


def command_line(files, settings):
    """Runs `qmambaiqa score`: what it says about each file, or why it ended before it had finished."""
    command = [settings.binary, "score", "--format", "json", "--threads", str(settings.threads), *settings.options]
    try:
        ended = subprocess.run(
            [*command, *(file.path for file in files)],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=settings.timeout * len(files),
        )
    except subprocess.TimeoutExpired:
        return {}, f"not finished after {settings.timeout:g} s"
    messages = ended.stderr.decode(errors="replace")
    lines = (json.loads(line) for line in ended.stdout.splitlines() if line.endswith(b"}"))
    found = {line["source"]: line["summary"] for line in lines if "summary" in line}
    for file in files:
        # The command line names the file first.
        if error := re.search(f"^qmambaiqa: {re.escape(file.path)}: (.*)$", messages, re.MULTILINE):
            found[file.path] = {"error": error[1]}
    last = "".join(messages.strip().splitlines()[-1:])
    if ended.returncode in (0, 1, 2):
        if missing := [file.path for file in files if file.path not in found]:
            # Its options or the machine are at fault, not a file.
            raise RuntimeError(last or f"{settings.binary} said nothing about {missing[0]}")
        return found, None
    return found, f"{settings.binary} ended with {ended.returncode}" + (last and f": {last}")


def score(files, settings):
    """A row for each file."""
    found, ended = command_line(files, settings)
    for file in files:
        if file.path not in found and len(files) > 1:
            yield from score([file], settings)  # which file ended it?
        else:
            yield {**file._asdict(), **found.get(file.path, {"error": ended})}


@ray.remote
def score_batch(files, settings):
    """Writes the rows of a batch; returns how many have an error."""
    # Named by what is scored: a batch that runs twice, because its worker was lost, is written once.
    name = hashlib.sha256(json.dumps([settings.options, files]).encode()).hexdigest()[:32]
    path = settings.out / f"{name}.parquet"
    if not path.exists():
        schema = SCHEMA.with_metadata({SETTINGS: json.dumps(settings.options)})
        write(pyarrow.Table.from_pylist(list(score(files, settings)), schema=schema), path)
    return pyarrow.parquet.read_table(path, columns=["error"])["error"].is_valid().to_pylist().count(True)


def run(batches, settings, retries):
    """Scores batches over the cluster; prints as they end. The number of files whose batch was lost."""
    task = score_batch.options(num_cpus=settings.threads, max_retries=retries)
    waiting = {task.remote(batch, settings): batch for batch in batches}
    ended = errors = lost = 0
    begin, total = time.monotonic(), sum(map(len, batches))
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        batch = waiting.pop(ready)
        try:
            errors += ray.get(ready)
            ended += len(batch)
        except ray.exceptions.RayError as error:
            cause = str(error).strip().splitlines()[-1]
            print(f"score_archive.py: {len(batch)} files from {batch[0].path} on: {cause}", file=sys.stderr)
            lost += len(batch)
        rate = ended / (time.monotonic() - begin)
        print(f"{ended} of {total} files, {errors} with an error, {lost} lost, {rate:.1f} files/s", flush=True)
    return lost


def summarize(out):
    table = pyarrow.parquet.read_table(out)
    scored = table.filter(table["error"].is_null())
    failed = table.filter(table["error"].is_valid()).sort_by("path")
    print(f"{out}: {table.num_rows} files, {scored.num_rows} scored, {failed.num_rows} with an error")
    if scored.num_rows:
        quantiles = pyarrow.compute.quantile(scored["mean"], q=[0, 0.1, 0.5, 0.9, 1]).to_pylist()
        print("mean scores: min {:.1f}, p10 {:.1f}, p50 {:.1f}, p90 {:.1f}, max {:.1f}".format(*quantiles))
    for row in failed.slice(0, 10).to_pylist():
        print(f"  {row['path']}: {row['error']}")
    if failed.num_rows > 10:
        print(f"  and {failed.num_rows - 10} more")


def arguments():
    words, options = sys.argv[1:], []
    if "--" in words:
        words, options = words[: words.index("--")], words[words.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the Parquet files; made if missing")
    parser.add_argument("--binary", default="qmambaiqa", help="the command line: a name in PATH, or a path (default: %(default)s)")
    parser.add_argument("--address", default=os.environ.get("RAY_ADDRESS"), help="Ray cluster, or `auto` (default: $RAY_ADDRESS, else this machine)")
    parser.add_argument("--match", action="append", help="score files with names like this, as *.mp4; may be repeated (default: all)")
    parser.add_argument("--batch", type=int, default=16, help="files in a batch (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPUs of a batch (default: %(default)s; more batches at once use a machine better)")
    parser.add_argument("--retries", type=int, default=3, help="times that a batch is scored again when its worker dies (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for each file of a batch (default: %(default)s)")
    args = parser.parse_args(words)
    if args.batch < 1 or args.threads < 1 or args.retries < 0 or args.timeout <= 0:
        parser.error("--batch and --threads are 1 or more, --retries 0 or more, --timeout above 0")
    if not args.folder.is_dir():
        parser.error(f"{args.folder}: no such folder")
    return args, options


def main():
    args, options = arguments()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    files = list(list_files(args.folder.resolve(), args.match or ["*"], out))
    if not files:
        sys.exit(f"score_archive.py: {args.folder}: no files to score")
    done = finished(out, files, options)
    todo = [file for file in files if file not in done]
    print(f"{len(files)} files, {len(files) - len(todo)} finished before, {len(todo)} to score")
    lost = 0
    if todo:
        # No large objects pass between tasks.
        ray.init(**({"address": args.address} if args.address else {"object_store_memory": 100_000_000}), log_to_driver=False)
        batches = [todo[i : i + args.batch] for i in range(0, len(todo), args.batch)]
        lost = run(batches, Settings(args.binary, options, args.threads, args.timeout, out), args.retries)
    if any(out.glob("*.parquet")):
        summarize(out)
    if lost:
        sys.exit(f"score_archive.py: {lost} files have no row; run again")


if __name__ == "__main__":
    main()
