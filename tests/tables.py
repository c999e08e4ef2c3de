#!/usr/bin/env python3
"""Checks that the reference tables of the guide agree with the source code: the element's properties with their defaults and
states, log fields, metric names, fields of the metadata, subcommands and options. Usage: tests/tables.py"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
errors = []


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def compare(what, documented, actual):
    for name in sorted(set(documented) ^ set(actual)):
        errors.append(f"{what}: `{name}` is {'not documented' if name in actual else 'not in the source'}")


def documented_names(page, heading):
    section = re.split(r"\n## ", read(page).split(f"\n## {heading}\n")[1])[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def default(text):
    """A default in settings.rs, written as in the guide; None if settings.rs takes it from another type."""
    for name, value in (("SECOND", "10**9"), ("MSECOND", "10**6")):
        text = text.replace(f"gst::ClockTime::{name}.nseconds()", value)
    if re.fullmatch(r"[\d.* ]+", text):
        return f"{eval(text):g}" if "." in text else str(eval(text))
    return {"String::new()": "empty", "true": "true", "false": "false"}.get(text)


settings = dict(re.findall(r"^            (\w+): (.+),$", read("src/plugin/settings.rs"), re.M))
rows = read("docs/element.md").split("\n## Properties\n")[1].split("Read-only properties")[0]
table = {cells[1].strip(" `"): cells for cells in (row.split("|") for row in rows.splitlines() if row.startswith("| `"))}
source = {}
for entry in read("src/plugin/properties.rs").split("property!(")[1:]:
    match = re.match(r'\w+ "([a-z-]+)",\s*".*?",\s*([\w.]+),', entry, re.S)
    if match and "mutable_" in entry:
        source[match[1]] = (match[2], re.search(r"mutable_(\w+)", entry)[1].upper())
compare("docs/element.md, properties", table, source)
for name in table.keys() & source.keys():
    field, state = source[name]
    value = default(settings.get(field, ""))
    for kind, said, real in (("default", table[name][3].strip(" `"), value), ("state", table[name][4].strip(), state)):
        if real is not None and said != real:
            errors.append(f"docs/element.md, {name}: {kind} is {real}, not {said}")

record = re.search(r"pub struct Record<'a> \{(.*?)\n\}", read("src/log.rs"), re.S)[1]
compare("docs/monitoring.md, log fields", documented_names("docs/monitoring.md", "Logs")[3:], re.findall(r"pub (\w+):", record))
for page, path, text in (("docs/monitoring.md", "src/log.rs", "fields, now {};"), ("docs/compare.md", "src/bin/qmambaiqa/compare/output.rs", "`schema` (now {})")):
    if text.format(re.search(r"const SCHEMA: u32 = (\d+)", read(path))[1]) not in read(page):
        errors.append(f"{page}: the schema is not that of {path}")
metrics = read("src/metrics.rs")
gauges, counters = (re.findall(r'\("(\w+)", "', metrics.split(f"const {name}: ")[1].split("];")[0]) for name in ("GAUGES", "COUNTERS"))
names = gauges + [f"{name}_total" for name in counters] + ["scores", "scoring_time_seconds"]
compare("docs/monitoring.md, metrics", documented_names("docs/monitoring.md", "Metrics"), [f"qmambaiqa_{name}" for name in names])
meta = re.findall(r'structure\.set\("([\w-]+)"', read("src/plugin/quality.rs"))
meta += re.findall(r'"(change|sharpness)"', read("src/plugin/quality.rs"))
compare("docs/metadata.md, metadata", documented_names("docs/metadata.md", "Buffer metadata"), meta)

commands = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src/bin").rglob("*.rs")))
options = {name.replace("_", "-") for name in re.findall(r"^\s+(?:pub )?(\w+): ", commands, re.M)}
options |= set(re.findall(r'long = "([\w-]+)"', commands))
for page in ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]:
    for line in re.findall(r"^.*qmambaiqa (?:score|compare|monitor|train|tune|evaluate|features|distort)\b.*$", read(page), re.M):
        for option in re.findall(r"(?<=\s)--([a-z][\w-]+)", line.split(" -- ")[0]):
            if option not in options | {"help", "release", "example"}:
                errors.append(f"{page}: no option --{option}: {line.strip()}")

print("\n".join(errors) or "the tables of the guide agree with the source code")
sys.exit(bool(errors))
