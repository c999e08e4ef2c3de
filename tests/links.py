#!/usr/bin/env python3
"""Checks that every relative link and anchor in the Markdown files of the repository exists; prints FILE:LINE of broken ones
and exits with 1. Links to other sites are not followed. Usage: tests/links.py"""
import pathlib
import re
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!\\)\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^()\s>]*(?:\([^()]*\))?[^()\s>]*)>?(?:\s+\"[^\"]*\")?\)")
DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s+<?(\S+?)>?\s*$")


def lines(path):
    """Numbered lines outside of fenced code, without code spans."""
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
        heading = re.match(r" {0,3}#{1,6}\s+(.*?)\s*#*\s*$", line)
        if heading:
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
            count = 0
            while slug + (f"-{count}" if count else "") in found:
                count += 1
            found.add(slug + (f"-{count}" if count else ""))
    return found


tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
broken, count = [], 0
for page in sorted(ROOT / name for name in tracked.stdout.splitlines() if (ROOT / name).is_file()):
    for number, line in lines(page):
        line = "" if line.startswith("    ") and not line.lstrip().startswith(("-", "*")) else re.sub(r"`[^`]*`", "code", line)
        for target in LINK.findall(line) + DEFINITION.findall(line):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            count += 1
            name, _, anchor = urllib.parse.unquote(target).partition("#")
            other = (page.parent / name).resolve() if name else page
            if not other.exists() or ROOT not in [other, *other.parents] or anchor and other.suffix == ".md" and anchor not in anchors(other):
                broken.append(f"{page.relative_to(ROOT)}:{number}: {target}")
print("\n".join(broken) or f"all {count} relative links of the Markdown files exist")
sys.exit(bool(broken))
