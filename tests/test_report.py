"""The page of a run: whole by itself, and safe whatever is in the data."""

import re
from html.parser import HTMLParser
from itertools import pairwise

from charrnn.report import Report, curves, page

RESULT = {
    "model": "tiny",
    "version": "a" * 64,
    "outcome": "refused",
    "reason": "worse <b>",
    "seconds": {"training": 3.21, "all": 4.0},
    "gate": {
        "loss": 1.5,
        "live": {"sequences": 12, "candidate_loss": 1.5, "loss": 1.25},
        "strongest": None,
        "sanity": {"empty": 0.0, "repeating": 0.0, "duplicates": 0.125, "novel": None},
        "live_sanity": None,
    },
}
METRICS = [{"step": 10 * k, "training_loss": 3 / k, "validation_loss": 4 / k} for k in range(1, 9)]
HOSTILE = "<script>alert('&')</script>"


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.opened, self.open, self.values = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.opened.append(tag)
        self.values += [value for name, value in attrs if name in ("href", "src")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.opened.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def report(**changes):
    values = {
        "result": RESULT,
        "metrics": METRICS,
        "samples": {0.5: ["Allo"], 1.0: [HOSTILE]},
        "added": [HOSTILE],
        "removed": ["Old"],
        **changes,
    }
    return page(Report(**values))


def test_a_page_needs_nothing_else_and_runs_nothing():
    text = report()
    elements = Elements(text)
    assert elements.open == []  # well formed
    assert not {"script", "link", "img", "iframe"} & set(elements.opened)
    assert elements.values == []
    assert "://" not in text
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text


def test_it_shows_the_curves_the_gate_the_samples_the_changes_and_the_time():
    text = report()
    for shown in (
        "1.5000",
        "1.2500",
        "12.5%",
        "Temperature 0.5",
        "Allo",
        "Old",
        "3.2 s",
        "refused",
    ):
        assert shown in text


def test_the_curves_have_a_point_for_each_look_within_the_picture():
    lines = re.findall(r'<polyline points="([^"]+)"', curves(METRICS))
    assert len(lines) == 2
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.split()]
        assert len(points) == len(METRICS)
        assert all(0 <= x <= 640 and 0 <= y <= 260 for x, y in points)
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(points))


def test_a_run_without_looks_or_gate_has_a_page_too():
    for metrics in ([], METRICS[:1], [{**METRICS[0]}] * 2):
        assert "<h2>Loss, nats" in report(metrics=metrics, result={**RESULT, "gate": None})
