"""One picture of small panels with logarithmic axes, as SVG written by hand: it reads on a light
page and on a dark one, and needs nothing to be drawn.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

COLUMNS = 4
WIDTH, HEIGHT = 250, 190  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 42, 16, 40, 44  # within a panel, around its lines
HEAD = 46  # of the picture

STYLE = """
  svg { background: #fff; color: #1f2328; font: 10px sans-serif }
  .page { fill: #fff } text { fill: currentColor } .title { font-weight: bold; font-size: 11px }
  .head { font-size: 13px; font-weight: bold }
  .grid { stroke: currentColor; opacity: .15 }
  .frame { stroke: currentColor; opacity: .5; fill: none }
  .s0 { stroke: #0969da; fill: #0969da } .s1 { stroke: #bc4c00; fill: #bc4c00 }
  polyline { fill: none !important; stroke-width: 1.6 } circle { stroke: none }
  text.s0, text.s1 { stroke: none }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; color: #e6edf3 } .page { fill: #0d1117 }
    .s0 { stroke: #58a6ff; fill: #58a6ff } .s1 { stroke: #f0883e; fill: #f0883e }
  }
"""


@dataclass(frozen=True)
class Panel:
    """Lines over one axis; both axes are logarithmic."""

    title: str
    axis: str
    words: str
    values: Sequence[int]
    lines: dict[str, list[float]]


def picture(panels: Sequence[Panel], head: str, foot: str) -> str:
    """The SVG: panels from left to right, a second row of a pair below its first."""
    ordered = [*panels[0::2], *panels[1::2]]  # speeds, then memory
    rows = math.ceil(len(ordered) / COLUMNS)
    width, height = COLUMNS * WIDTH, HEAD + rows * HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>How cost grows: {escape(head)}</title><style>{STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}"/>',
        f'<text class="head" x="12" y="20">{escape(head)}</text>',
        f'<text x="12" y="36">{escape(foot)}; both axes of every panel are logarithmic</text>',
    ]
    for k, panel in enumerate(ordered):
        x, y = WIDTH * (k % COLUMNS), HEAD + HEIGHT * (k // COLUMNS)
        parts.append(f'<g transform="translate({x} {y})">{_panel(panel)}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel) -> str:
    every = [value for line in panel.lines.values() for value in line]
    xs = _scale(min(panel.values), max(panel.values), LEFT, WIDTH - RIGHT)
    low, high = _whole_decades(min(every), max(every))
    ys = _scale(low, high, HEIGHT - BOTTOM, TOP)
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<text class="title" x="{LEFT}" y="12">{escape(panel.title)}</text>']
    for tick in _decades(low, high):
        y = ys(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(
            f'<text x="{LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{_short(tick)}</text>'
        )
    free = 0.0  # from where a label doesn't touch the one before it
    for value in panel.values:
        x, label = xs(value), _short(value)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        half = 3.2 * len(label)
        if x - half >= free:
            free = x + half + 4
            place = f'x="{x:.1f}" y="{bottom + 13}"'
            parts.append(f'<text {place} text-anchor="middle">{label}</text>')
    frame = f'<rect class="frame" x="{LEFT}" y="{TOP}" '
    parts.append(f'{frame}width="{right - LEFT}" height="{bottom - TOP}"/>')
    middle = (LEFT + right) / 2
    words = panel.words if panel.axis == "length" else f"{panel.axis}: {panel.words}"
    parts.append(f'<text x="{middle}" y="{bottom + 27}" text-anchor="middle">{words}</text>')
    for k, (name, line) in enumerate(panel.lines.items()):
        points = [(xs(x), ys(y)) for x, y in zip(panel.values, line, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="s{k}" points="{path}"/>')
        parts += [f'<circle class="s{k}" cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in points]
        parts.append(f'<text class="s{k}" x="{LEFT}" y="{24 + 11 * k}">{escape(name)}</text>')
    return "".join(parts)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """From a value to its place on a logarithmic axis."""
    span = math.log(high / low) or 1.0
    return lambda value: start + (end - start) * math.log(value / low) / span


def _whole_decades(low: float, high: float) -> tuple[float, float]:
    """The axis from one power of ten to another, at least one decade apart."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return 10.0**first, 10.0 ** max(last, first + 1)


def _decades(low: float, high: float) -> list[float]:
    return [10.0**n for n in range(round(math.log10(low)), round(math.log10(high)) + 1)]


def _short(value: float) -> str:
    """1000 as 1k, a million as 1M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size and value % (size / 10) == 0:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
