#!/usr/bin/env python3
"""Checks which parts of src/ use which: every room uses rooms of lower layers only.

    tests/layers.py            # exit status 1, and file:line of each use that is not allowed
    tests/layers.py --circles  # also lists files that use each other, directly or through others

A room is a folder or file of src/. Uses are paths that begin with `crate::`, `super::` or `self::`; documentation, comments and test
modules do not count, nor does an item that is only re-exported by the room it is taken from. UPWARD names the uses that are still
to be removed; one that is no longer there has to leave the list.
"""

import pathlib
import re
import sys

SRC = pathlib.Path(__file__).resolve().parent.parent / "src"
LAYERS = [
    ("error", "random", "pooling", "simd"),
    ("frame", "weights_file"),
    ("indicators", "crops"),
    ("ops",),
    ("device",),
    ("model", "embedded"),
    ("graphs", "network", "score", "scorer"),
    ("http", "log", "metrics", "train"),
    ("plugin", "frei0r"),
]
# Within these layers rooms may use each other: they are parts of one room to be.
TOGETHER = ({"model", "embedded"}, {"graphs", "network", "score", "scorer"}, {"http", "log", "metrics"})
UPWARD = set()
LAYER = {room: i for i, rooms in enumerate(LAYERS) for room in rooms}
ALWAYS = {"error", "Error", "Result"}


def code(path):
    """The lines of a file without comments, texts and test modules."""
    lines, depth = [], None
    for line in path.read_text().splitlines():
        line = re.sub(r'"(\\.|[^"\\])*"', '""', line)
        line = re.sub(r"//.*", "", line)
        if depth is None and re.match(r"\s*#\[cfg\((all\()?test", line):
            depth = 0
            lines.append("")
            continue
        if depth is not None:
            depth += line.count("{") - line.count("}")
            ended = depth <= 0 and (";" in line or "}" in line)
            lines.append("")
            if ended:
                depth = None
            continue
        lines.append(line)
    return lines


def module(path):
    """The path of a file's module: src/ops/linear.rs is (ops, linear)."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return parts[:-1] if parts[-1] in ("mod", "lib", "main") else parts


def uses(path, modules):
    """(line number, module) of every module that a file names."""
    here = module(path)
    for number, line in enumerate(code(path), 1):
        for found in re.finditer(r"\b(crate|super|self)((?:::\w+)+)(?:::\{([^{}]*)\})?", line):
            base = {"crate": (), "super": here[:-1], "self": here}[found[1]]
            tail = found[2].split("::")[1:]
            while tail and tail[0] == "super":
                base, tail = base[:-1], tail[1:]
            names = [tail] if found[3] is None else [tail + [n.strip().split("::")[0]] for n in found[3].split(",") if n.strip()]
            for name in names:
                whole = (*base, *name)
                depth = max((n for n in range(len(whole) + 1) if whole[:n] in modules), default=0)
                yield number, whole[:depth], whole
        brace = re.search(r"\buse crate::\{([^{}]*)\}", line)
        for name in brace[1].split(",") if brace else ():
            yield number, (name.strip().split("::")[0],), (name.strip(),)


def circles(edges):
    """Strongly connected groups of more than one file (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    sys.setrecursionlimit(10000)
    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def main():
    paths = [p for p in sorted(SRC.rglob("*.rs")) if "tests" not in p.stem and "tests" not in p.relative_to(SRC).parts]
    modules = {module(p): p for p in paths if p.name not in ("lib.rs", "main.rs")}
    wrong, seen, edges = [], set(), {}
    for path in paths:
        here = module(path)
        if here[:1] == ("bin",) or not here:
            continue
        for number, target, whole in uses(path, modules):
            room = (target or whole)[0]
            if target in modules and target != here:
                edges.setdefault(path, set()).add(modules[target])
            if room == here[0] or room in ALWAYS or room not in LAYER:
                continue
            together = any(here[0] in rooms and room in rooms for rooms in TOGETHER)
            if LAYER[room] < LAYER[here[0]] or together:
                continue
            seen.add((here[0], room))
            if (here[0], room) not in UPWARD:
                wrong.append(f"{path.relative_to(SRC.parent)}:{number}: {here[0]} uses {room}, which is not below it")
    wrong += [f"tests/layers.py: UPWARD names ({a}, {b}), which is no longer there" for a, b in sorted(UPWARD - seen)]
    wrong += [f"src/{m[0]}: tests/layers.py has no layer for it" for m in modules if len(m) == 1 and m[0] not in LAYER and m[0] != "bin"]
    if "--circles" in sys.argv:
        groups = circles(edges)
        for group in groups:
            print("circle:", *(str(p.relative_to(SRC)) for p in group))
        print(f"{len(groups)} circles of {sum(map(len, groups))} files")
    left = ", but for " + ", ".join(f"{a} -> {b}" for a, b in sorted(UPWARD)) if UPWARD else ""
    print("\n".join(wrong) or f"every room of src/ uses lower layers only{left}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
