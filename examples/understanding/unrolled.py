"""Two diagrams: the network unrolled in time, and what truncation leaves of the way back.

python examples/understanding/unrolled.py [--folder docs/pictures]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as `python examples/...` too

import argparse

from examples.understanding.svg import PICTURES, arrow, box, document, text

NAME = "rex"
STEP, FIRST = 165, 170
ROWS = {"x": 250, "h": 165, "y": 80, "loss": 30}


def unrolled() -> str:
    """One box for h a time step, the same U, W, V in each; gradients run the other way."""
    parts, symbols = [], ["end", *NAME, "end"]
    for t in range(len(NAME) + 1):
        x = FIRST + STEP * t
        parts += [
            box(x, ROWS["x"], 64, 28, symbols[t]),
            box(x, ROWS["h"], 64, 34, f"h{t + 1}"),
            box(x, ROWS["y"], 64, 28, f"y{t + 1}"),
            text(x, ROWS["loss"], f"-ln p({symbols[t + 1]})", "mono", "middle"),
            arrow(x - 8, ROWS["x"] - 15, x - 8, ROWS["h"] + 19),
            arrow(x + 8, ROWS["h"] + 19, x + 8, ROWS["x"] - 15, "s1"),
            arrow(x - 8, ROWS["h"] - 18, x - 8, ROWS["y"] + 16),
            arrow(x + 8, ROWS["y"] + 16, x + 8, ROWS["h"] - 18, "s1"),
            arrow(x - 8, ROWS["y"] - 15, x - 8, ROWS["loss"] + 8),
            arrow(x + 8, ROWS["loss"] + 8, x + 8, ROWS["y"] - 15, "s1"),
            text(x - 16, (ROWS["x"] + ROWS["h"]) / 2 + 5, "U", "mono", "end"),
            text(x - 16, (ROWS["h"] + ROWS["y"]) / 2 + 5, "V", "mono", "end"),
            arrow(x - STEP + 33, ROWS["h"] - 6, x - 34, ROWS["h"] - 6),
            arrow(x - 34, ROWS["h"] + 8, x - STEP + 33, ROWS["h"] + 8, "s1"),
            text(x - STEP / 2, ROWS["h"] - 13, "W", "mono", "middle"),
        ]
    width = FIRST + STEP * len(NAME) + 70
    parts += [
        text(8, ROWS["h"] + 30, "h0 = 0", "mono"),
        arrow(30, 296, 62, 296),
        text(68, 300, "forward: what each array is made of"),
        arrow(380, 296, 348, 296, "s1"),
        text(388, 300, "backward: its gradient, from the losses to U, W, V"),
    ]
    return document(width, 318, "The network unrolled over a name", parts)


def reach(t: int, form: str, span: int) -> int:
    """The first step that the loss of step t reaches back to."""
    return {"whole": 0, "chunks": t - t % span, "per step": max(0, t - span + 1)}[form]


def truncation(steps: int = 12, span: int = 5) -> str:
    """For each step's loss a bar over the steps that its gradient passes."""
    titles = {
        "whole": "the whole sequence",
        "chunks": f"chunks of {span}",
        "per step": f"per step, {span} each",
    }
    parts = []
    for k, (form, title) in enumerate(titles.items()):
        left, cell, row = 40 + 290 * k, 19, 15
        parts.append(text(left, 20, title, "title"))
        for t in range(steps):
            first, y = reach(t, form, span), 36 + row * t
            bar = f'x="{left + cell * first}" y="{y}" width="{cell * (t - first + 1) - 3}"'
            parts.append(f'<rect class="s0 solid" opacity=".55" rx="3" {bar} height="9"/>')
            end = f'x="{left + cell * t}" y="{y}" width="{cell - 3}"'
            parts.append(f'<rect class="s1 solid" rx="3" {end} height="9"/>')
        bottom = 36 + row * steps
        for t in range(0, steps, 2):
            parts.append(text(left + cell * (t + 0.4), bottom + 14, f"{t + 1}", "small", "middle"))
        parts.append(text(left + cell * steps / 2, bottom + 30, "time step", "small", "middle"))
    return document(900, 256, "How far back each step's loss reaches", parts)


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description="The network unrolled, and truncation.")
    parser.add_argument("--folder", type=Path, default=PICTURES)
    folder = parser.parse_args().folder
    (folder / "unrolled.svg").write_text(unrolled(), encoding="utf-8")
    (folder / "truncation.svg").write_text(truncation(), encoding="utf-8")


if __name__ == "__main__":
    main()
