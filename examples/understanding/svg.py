"""Pictures as SVG written by hand: they read on a light page and on a dark one, and need nothing.

Lines over an axis in panels side by side, and the few shapes that diagrams are made of.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
WIDTH, HEIGHT = 330, 250  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 52, 42  # within a panel, around its lines

STYLE = """
  svg { color: #1f2328; font: 12px sans-serif } .page { fill: #fff }
  text { fill: currentColor } .title { font-weight: bold; font-size: 13px }
  .small { font-size: 10.5px } .mono { font-family: monospace }
  .grid { stroke: currentColor; opacity: .15 } .frame { stroke: currentColor; fill: none }
  .faint { opacity: .45 } .box { stroke: currentColor; fill: none; stroke-width: 1.3 }
  .way { stroke: currentColor; fill: none; stroke-width: 1.3 }
  .s0 { stroke: #0969da; fill: #0969da } .s1 { stroke: #bc4c00; fill: #bc4c00 }
  .s2 { stroke: #1a7f37; fill: #1a7f37 } .s3 { stroke: #8250df; fill: #8250df }
  polyline { fill: none !important; stroke-width: 1.8 } .dashed { stroke-dasharray: 5 3 }
  text.s0, text.s1, text.s2, text.s3, .solid { stroke: none } .line { fill: none }
  @media (prefers-color-scheme: dark) {
    svg { color: #e6edf3 } .page { fill: #0d1117 }
    .s0 { stroke: #58a6ff; fill: #58a6ff } .s1 { stroke: #f0883e; fill: #f0883e }
    .s2 { stroke: #3fb950; fill: #3fb950 } .s3 { stroke: #bc8cff; fill: #bc8cff }
  }
"""


@dataclass(frozen=True)
class Panel:
    """Lines over one axis. `logarithmic` is the upward axis; `dashed` names lines drawn so."""

    title: str
    across: str
    values: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    bounds: tuple[float, float]
    logarithmic: bool = False
    dashed: Sequence[str] = field(default_factory=tuple)


def document(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """The whole file."""
    size = f'viewBox="0 0 {width:g} {height:g}" role="img"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<title>{escape(title)}</title><style>{STYLE}</style>",
            f'<rect class="page" width="{width:g}" height="{height:g}"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Words at a place."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(words)}</text>'


def arrow(x1: float, y1: float, x2: float, y2: float, kind: str = "way") -> str:
    """A line with a head at its end."""
    angle, size = math.atan2(y2 - y1, x2 - x1), 7
    tips = [
        f"{x2 - size * math.cos(angle + turn):.1f},{y2 - size * math.sin(angle + turn):.1f}"
        for turn in (0.4, -0.4)
    ]
    head = f"M{tips[0]}L{x2:.1f},{y2:.1f}L{tips[1]}"
    return f'<path class="{kind} line" d="M{x1:.1f},{y1:.1f}L{x2:.1f},{y2:.1f}{head}"/>'


def box(x: float, y: float, width: float, height: float, words: str) -> str:
    """A frame around its middle, with words in it."""
    place = f'x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width}" height="{height}"'
    return f'<rect class="box" rx="5" {place}/>' + text(x, y + 4, words, "mono", "middle")


def panels(every: Sequence[Panel], title: str) -> str:
    """Panels from left to right, as a file."""
    parts = [
        f'<g transform="translate({WIDTH * k} 0)">{_panel(panel)}</g>'
        for k, panel in enumerate(every)
    ]
    return document(WIDTH * len(every), HEIGHT, title, parts)


def _panel(panel: Panel) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    first, last = min(panel.values), max(panel.values)

    def across(value: float) -> float:
        return LEFT + (right - LEFT) * (value - first) / (last - first)

    def upward(value: float) -> float:
        low, high = panel.bounds
        if panel.logarithmic:
            value, low, high = (math.log10(v) for v in (value, low, high))
        return bottom - (bottom - TOP) * (value - low) / (high - low)

    parts = [text(LEFT, 16, panel.title, "title")]
    for tick in _ticks(panel):
        y = upward(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(text(LEFT - 5, y + 4, _short(tick, panel.logarithmic), "small", "end"))
    for value in _steps(first, last):
        x = across(value)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        parts.append(text(x, bottom + 15, f"{value:g}", "small", "middle"))
    frame = f'width="{right - LEFT}" height="{bottom - TOP}"'
    parts.append(f'<rect class="frame faint" x="{LEFT}" y="{TOP}" {frame}/>')
    parts.append(text((LEFT + right) / 2, bottom + 32, panel.across, "small", "middle"))
    place = float(LEFT)
    for k, (name, line) in enumerate(panel.lines.items()):
        points = " ".join(
            f"{across(x):.1f},{upward(y):.1f}"
            for x, y in zip(panel.values, line, strict=True)
            if y >= panel.bounds[0]  # what falls out of the frame is not drawn
        )
        dashed = " dashed" if name in panel.dashed else ""
        parts.append(f'<polyline class="s{k}{dashed}" points="{points}"/>')
        parts.append(text(place, 40, name, f"s{k}"))
        place += 7.2 * len(name) + 14
    return "".join(parts)


def _ticks(panel: Panel) -> list[float]:
    low, high = panel.bounds
    if panel.logarithmic:
        return [10.0**n for n in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    return _steps(low, high)


def _steps(low: float, high: float) -> list[float]:
    """Round values from low to high, about five."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * n for n in (1, 2, 2.5, 5, 10) if unit * n >= rough * 0.99)
    first = math.ceil(low / step - 1e-9)
    return [round(step * n, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _short(value: float, logarithmic: bool) -> str:
    if logarithmic and not 0.01 <= value <= 100:
        return f"1e{round(math.log10(value))}"
    return f"{value:g}"
