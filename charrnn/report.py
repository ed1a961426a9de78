"""The report of a run: one HTML file that needs nothing else, no script, no network."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charrnn.look import LOOK

WIDTH, HEIGHT = 640, 260
LEFT, BOTTOM, TOP, RIGHT = 48, 28, 10, 12  # room for the axes
SHOWN_NAMES = 200  # of those added or removed

STYLE = (
    LOOK
    + """body{background:var(--page);color:var(--ink);font:1rem/1.6 var(--text);max-width:60rem;
margin:0 auto;padding:3rem 1.5rem 6rem}h1{font:400 2rem/1.2 var(--names);margin:0}
h2{font-size:1.1rem;margin:2.5rem 0 .6rem}h3{font-size:1rem;color:var(--quiet);font-weight:400}
table{border-collapse:collapse}td,th{padding:.25rem .8rem .25rem 0;border-bottom:1px solid
var(--line);text-align:left}td.n{text-align:right;font-variant-numeric:tabular-nums}
svg{max-width:100%;height:auto}svg .v{stroke:var(--accent)}svg .t{stroke:var(--quiet)}
svg .vt{fill:var(--accent)}svg .tt{fill:var(--quiet)}svg .grid{stroke:var(--line)}
ul.s{columns:4 9rem;padding-left:0;list-style:none;font-family:var(--names)}
text{font-size:11px;fill:currentColor}pre{white-space:pre-wrap}"""
)


@dataclass(frozen=True)
class Report:
    """What a report shows. `result` is that of the command's --json."""

    result: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    samples: Mapping[float, Sequence[str]]
    """Texts by temperature."""
    added: Sequence[str]
    removed: Sequence[str]


def page(report: Report) -> str:
    """The report as HTML."""
    result = report.result
    title = f"{result['model']} {result['version'][:12]}: {result['outcome']}"
    parts = [
        f"<h1>{_safe(title)}</h1><p>{_safe(result['reason'])}</p>",
        "<h2>Loss, nats per character over steps</h2>",
        curves(report.metrics),
        "<h2>The gate</h2>",
        _gate(result.get("gate")),
        "<h2>Data</h2>",
        _data(report),
        "<h2>Time</h2>",
        _table([], [[what, f"{s:.1f} s"] for what, s in result["seconds"].items()]),
        "<h2>Samples</h2>",
        *(_samples(temperature, texts) for temperature, texts in report.samples.items()),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" '
        f'content="light dark"><title>{_safe(title)}</title><style>{STYLE}</style></head>\n'
        "<body>" + "\n".join(parts) + "</body></html>\n"
    )


def curves(metrics: Sequence[Mapping[str, Any]]) -> str:
    """The training and the validation loss over the steps, as SVG."""
    if len(metrics) < 2:
        return "<p>Too few looks at the validation set for a curve.</p>"
    lines = {
        "validation": ("validation_loss", "v"),
        "training (smoothed, with dropout)": ("training_loss", "t"),
    }
    losses = [float(line[key]) for line in metrics for key, _ in lines.values()]
    low, high = min(losses), max(losses)
    high = high if high > low else low + 1.0
    last = max(float(line["step"]) for line in metrics)

    def x(step: float) -> float:
        return LEFT + step / last * (WIDTH - LEFT - RIGHT)

    def y(loss: float) -> float:
        return TOP + (high - loss) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for k in range(5):
        loss, step = low + k * (high - low) / 4, k * last / 4
        parts.append(
            f'<path d="M{LEFT} {y(loss):.1f}H{WIDTH - RIGHT}" class="grid"/>'
            f'<text x="{LEFT - 6}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.2f}</text>'
            f'<text x="{x(step):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{step:,.0f}</text>'
        )
    for k, (name, (key, kind)) in enumerate(lines.items()):
        points = " ".join(f"{x(float(m['step'])):.1f},{y(float(m[key])):.1f}" for m in metrics)
        parts.append(
            f'<polyline points="{points}" class="{kind}" fill="none" stroke-width="2"/>'
            f'<text x="{WIDTH - RIGHT}" y="{TOP + 14 + 16 * k}" text-anchor="end" '
            f'class="{kind}t">{name}</text>'
        )
    label = "Nats per character over steps"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{label}">'
        f"<title>{label}</title>{''.join(parts)}</svg>"
    )


def _gate(gate: Mapping[str, Any] | None) -> str:
    """The candidate beside the live version and the strongest of those kept."""
    if not gate:
        return "<p>The first version: there was nothing to hold it against.</p>"
    live, strongest = gate["live"], gate["strongest"]
    rows = [["loss on all of today's held-out data", _number(gate["loss"]), ""]]
    for what, rival in (("the live version", live), ("the best kept version", strongest)):
        if rival and not (rival is strongest and strongest == live):
            on = f"on the {rival['sequences']:,} that {what} can be held to"
            rows.append([on, _number(rival["candidate_loss"]), _number(rival["loss"])])
    before = gate["live_sanity"] or {}
    for key, what in (
        ("empty", "empty texts"),
        ("repeating", "texts that repeat themselves"),
        ("duplicates", "texts drawn before"),
        ("novel", "names not in the list"),
    ):
        if gate["sanity"][key] is not None:
            rows.append([what, _share(gate["sanity"][key]), _share(before.get(key))])
    return _table(["", "new", "old"], rows)


def _data(report: Report) -> str:
    parts = [f"<p>{len(report.added):,} added, {len(report.removed):,} removed since "]
    parts.append("the version that was live.</p>")
    for what, names in (("Added", report.added), ("Removed", report.removed)):
        if names:
            more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
            parts.append(f"<p>{what}: {_safe(', '.join(names[:SHOWN_NAMES]))}{more}</p>")
    return "".join(parts)


def _samples(temperature: float, texts: Sequence[str]) -> str:
    items = "".join(f"<li>{_safe(text)}</li>" for text in texts)
    return f'<h3>Temperature {temperature:g}</h3><ul class="s">{items}</ul>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_safe(cell)}</th>" for cell in heads)
    body = "".join(
        "<tr>"
        + f"<td>{_safe(row[0])}</td>"
        + "".join(f'<td class="n">{_safe(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<table>{f'<tr>{head}</tr>' if heads else ''}{body}</table>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _safe(text: str) -> str:
    return html.escape(text)
