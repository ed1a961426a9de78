"""Writes the tables of the benchmarks into docs/performance.md, and those of scaling.py into
docs/scaling.md, between the markers that stand there; the text around them is written by hand.

    python benchmarks/report.py build/bench       # the folder of the benchmarks' --json files

A section whose benchmark has no file there stays as it is, and so do the tables of other kernels of
OpenBLAS than those that were measured.
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
        path, place = chosen.folder / f"{name}.json", chosen.page or PAGES.get(name, PAGE)
        if not path.exists():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["quick"]:
            raise SystemExit(f"{path}: figures of --quick mean nothing; measure without it")
        page = place.read_text(encoding="utf-8")
        for section, text in sections(found).items():
            page = filled(page, section, text)
        place.write_text(page, encoding="utf-8")
        print(f"written: {path.stem} into {place}")


def sections(found: dict[str, Any]) -> dict[str, str]:
    """The generated texts of a benchmark, by section of the page."""
    name, texts = found["benchmark"], {found["benchmark"]: ""}
    if name == "generate":
        texts["startup"] = ""
    for report in found["reports"]:
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
            columns = [(name, form) for name, form in values["columns"]]
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
