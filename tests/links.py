#!/usr/bin/env python3
"""Checks that every relative link and anchor in the Markdown files of the repository exists; prints FILE:LINE of broken ones
and exits with 1. Usage: tests/links.py"""
import pathlib
import re
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!\\)\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^()\s>]*(?:\([^()]*\))?[^()\s>]*)>?(?:\s+\"[^\"]*\")?\)")


def lines(path):
    """Numbered lines outside of fenced code."""
    fence = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark = re.match(r"\s*(```+|~~~+)", line)
        if mark and (fence is None or mark[1].startswith(fence)):
            fence = None if fence else mark[1]
        elif fence is None:
            yield number, line


def anchors(path):
    """Anchors that GitHub gives to headings, and those of HTML."""
    found = set()
    for _, line in lines(path):
        found.update(re.findall(r"<a\s+(?:id|name)=\"([^\"]+)\"", line))
        if heading := re.match(r" {0,3}#{1,6}\s+(.*?)\s*#*\s*$", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower().replace(" ", "-")
            slug = re.sub(r"[^\w-]", "", text)
            found.add(next(name for name in (slug, *(f"{slug}-{n}" for n in range(1, 100))) if name not in found))
    return found


def pages():
    """The files that git knows or would know; without git, those outside of hidden folders and build outputs."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "*.md"]
    try:
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        names = [p.relative_to(ROOT) for p in ROOT.rglob("*.md") if not re.search(r"/(\.|target/)", f"/{p.relative_to(ROOT)}")]
    return sorted(ROOT / name for name in names if (ROOT / name).is_file())


broken = []
for page in pages():
    for number, line in lines(page):
        line = "" if line.startswith("    ") and not line.lstrip().startswith(("-", "*")) else re.sub(r"`[^`]*`", "code", line)
        for target in LINK.findall(line):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            name, _, anchor = urllib.parse.unquote(target).partition("#")
            other = (page.parent / name).resolve() if name else page
            if not other.exists() or ROOT not in [other, *other.parents] or anchor and other.suffix == ".md" and anchor not in anchors(other):
                broken.append(f"{page.relative_to(ROOT)}:{number}: {target}")
print("\n".join(broken) or "all relative links of the Markdown files exist")
sys.exit(bool(broken))
