"""Writes the tables of the benchmarks into docs/performance.md, and those of scaling.py into
docs/scaling.md, between the markers that stand there; the text around them is written by hand.

    python benchmarks/report.py build/bench       # the folder of the benchmarks' --json files

A section whose benchmark has no file there stays as it is, and so do the tables of other kernels of
OpenBLAS than those that were measured. What a benchmark found in several runs, quality.json and
quality-600.json, is put together: rows under one title are one table.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
import json
import re
from typing import Any

from benchmarks.common import ROOT, Table

PAGE = ROOT / "docs" / "performance.md"
PAGES = {"scaling": ROOT / "docs" / "scaling.md"}  # of those that have another one
START_UP = "Start-up"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--page", type=Path, help="write into this page, whatever is found")
    chosen = parser.parse_args()
    for name in ("generate", "train", "choices", "memory", "quality", "service", "soak", "scaling"):
        paths = [chosen.folder / f"{name}.json", *sorted(chosen.folder.glob(f"{name}-*.json"))]
        reports = together([each for path in paths if path.exists() for each in reports_in(path)])
        if not reports:
            continue
        place = chosen.page or PAGES.get(name, PAGE)
        page = place.read_text(encoding="utf-8")
        for section, text in sections(name, reports).items():
            page = filled(page, section, text)
        place.write_text(page, encoding="utf-8")
        print(f"written: {name} into {place}")


def reports_in(path: Path) -> list[dict[str, Any]]:
    """What a run of a benchmark wrote, kernel by kernel."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["quick"]:
        raise SystemExit(f"{path}: figures of --quick mean nothing; measure without it")
    reports: list[dict[str, Any]] = found["reports"]
    return reports


def together(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One report for each kernel, with the machine as its first run found it."""
    found: dict[str, dict[str, Any]] = {}
    for report in reports:
        whole = found.setdefault(report["machine"]["kernel"], report)
        if whole is report:
            continue
        whole["checks"] += report["checks"]
        for table in report["tables"]:
            same = [each for each in whole["tables"] if each["title"] == table["title"]]
            if same:
                same[0]["rows"] += table["rows"]
            else:
                whole["tables"].append(table)
    return list(found.values())


def sections(name: str, reports: list[dict[str, Any]]) -> dict[str, str]:
    """The generated texts of a benchmark, by section of the page."""
    texts = {name: ""}
    if name == "generate":
        texts["startup"] = ""
    for report in reports:
        facts = {key: value for key, value in report["machine"].items() if key != "kernel"}
        head = "; ".join(f"{key} {value}" for key, value in facts.items())
        largest = max((float(line.split()[-2]) for line in report["checks"]), default=None)
        for section in texts:
            texts[section] += f"\n### {report['machine']['kernel']}\n\n{head}.\n"
        if largest is not None:
            texts[name] += (
                f"\n{len(report['checks'])} comparisons before timing; the largest difference was "
                f"{largest:.1e}.\n"
            )
        for values in report["tables"]:
            columns = [(heading, form) for heading, form in values["columns"]]
            table = Table(values["title"], columns, values["rows"], values["note"])
            section = "startup" if table.title.startswith(START_UP) else name
            texts[section] += f"\n**{table.title}**\n\n{table.markdown()}\n"
            texts[section] += f"\n{table.note}\n" if table.note else ""
    return texts


def filled(page: str, section: str, text: str) -> str:
    """The page with a section's tables replaced, kernel by kernel: those of a kernel that this
    machine doesn't have stay as they were.
    """
    begin, end = f"<!-- generated: {section} -->", "<!-- end -->"
    marked = re.compile(f"{re.escape(begin)}(.*?){re.escape(end)}", flags=re.DOTALL)
    found = marked.findall(page)
    assert len(found) == 1, f"one {begin} must stand in the page"
    tables = by_kernel(found[0]) | by_kernel(text)
    return marked.sub(lambda _: f"{begin}\n\n{''.join(tables.values())}{end}", page)


def by_kernel(text: str) -> dict[str, str]:
    """The tables of a section, by the heading that names their kernel."""
    _, *parts = re.split(r"^(?=### )", text, flags=re.MULTILINE)
    return {part.split("\n", 1)[0]: f"{part.strip()}\n\n" for part in parts}


if __name__ == "__main__":
    main()
