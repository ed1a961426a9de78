"""The pictures of the README and of docs/page.md: the page itself, and names being dreamed up.

    python examples/page_pictures.py [--folder docs/pictures] [--dream]

The page is photographed in /usr/bin/chromium over a service of its own on a free port, with the
models that ship; where there is no chromium, that is said, and only the animation is drawn.
`--dream` draws nothing else.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as `python examples/...` too

import argparse
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Literal

import charrnn
from examples.understanding.svg import PICTURES

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"]
PATIENCE = 30_000  # milliseconds
ROWS, COLUMNS, RANDOM_SEED = 5, 2, 11
LETTER, LINE = 15.0, 46  # pixels from letter to letter, and from name to name
PACE, CYCLE = 0.09, 12.0  # seconds from letter to letter, and until it all begins again
MOST_NATS = 5.0  # a letter of this surprise, or more, has the deepest shade
STYLE = """\
text{font:24px ui-monospace,Menlo,Consolas,monospace;fill:#26221c;text-anchor:middle}
rect{fill:#a33f12}g{animation:12s infinite both}
@media(prefers-color-scheme:dark){text{fill:#ece6dc}rect{fill:#f2a274}}
@media(prefers-reduced-motion:reduce){g{animation:none!important}}
"""


def dream(generator: charrnn.Generator) -> str:
    """Names that appear letter by letter, each shaded by how unsure the network was, as SVG."""
    count = ROWS * COLUMNS
    names = [
        s.text
        for s in generator.generate(
            count=count, temperature=0.8, max_length=16, random_seed=RANDOM_SEED
        )
    ]
    parts, rules, number = [], [], 0
    for place, score in enumerate(generator.score_many(names, expected=0)):
        left = 20 + 330 * (place % COLUMNS)
        top = 44 + LINE * (place // COLUMNS)
        for k, (letter, symbol) in enumerate(zip(score.text, score.symbols, strict=False)):
            x, doubt = left + LETTER * k, min(1.0, -symbol.logprob / MOST_NATS) * 0.45
            begins = 100 * (0.3 + place * 0.75 + k * PACE) / CYCLE
            rules.append(
                f"@keyframes l{number}{{0%,{begins:.2f}%{{opacity:0}}{begins + 1.5:.2f}%,96%"
                "{opacity:1}to{opacity:0}}"
                f".l{number}{{animation-name:l{number}}}"
            )
            shade = (
                f'<rect x="{x:g}" y="{top - 26}" width="{LETTER:g}" height="36" '
                f'fill-opacity="{doubt:.2f}"/>'
            )
            drawn = f'<text x="{x + LETTER / 2:g}" y="{top}">{escape(letter)}</text>'
            parts.append(f'<g class="l{number}">{shade}{drawn}</g>')
            number += 1
    width, height = 680, 44 + LINE * ROWS
    title = "Names being dreamed up; the deeper a letter's shade, the less sure the network was"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img"><title>{title}</title>\n'
        f"<style>{STYLE}{''.join(rules)}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


@contextmanager
def service() -> Iterator[str]:
    """The address of a service on a free port, with the models that ship."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CHARRNN_")}
    ours = {"CHARRNN_PORT": "0", "CHARRNN_WORKERS": "1", "CHARRNN_LOG_FORMAT": "text"}
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"],
        cwd=ROOT,
        env=inherited | ours | {"CHARRNN_ACCESS_LOG": "off"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        for line in process.stderr:
            if found := re.search(r"listening on (http://\S+:\d+)", line):
                yield found[1]
                break
        else:
            raise SystemExit("the service didn't start: `make serve` tells why")
    finally:
        process.terminate()
        process.communicate()


def photograph(folder: Path) -> None:
    """The views of the page as PNG."""
    from playwright.sync_api import sync_playwright  # seldom installed

    with service() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        views: tuple[tuple[str, str, Literal["light", "dark"]], ...] = (
            ("page", "names", "light"),
            ("page-dark", "names", "dark"),
            ("inside", "inside", "light"),
        )
        for name, view, scheme in views:
            height = 800 if view == "names" else 1240
            page = browser.new_page(
                viewport={"width": 1280, "height": height},
                color_scheme=scheme,
                reduced_motion="reduce",
            )
            page.set_default_timeout(PATIENCE)
            page.goto(f"{address}/#{view}")
            page.wait_for_selector("#names .word:not([disabled])", state="attached")
            if view == "names":
                page.click("#more summary")
                page.fill("[name=random_seed]", "7")
                page.click("#more summary")
                page.fill("#seed", "Tyr")
                page.wait_for_selector('#about-run:has-text("seed 7,")')
                page.wait_for_selector('#names .letter[style*="--doubt"]', state="attached")
                for k in (0, 3, 4):
                    page.locator("#names li").nth(k).locator("[aria-label^=Keep]").click()
                page.locator("#names .word").nth(2).locator(".letter").nth(5).hover()
                page.wait_for_selector("#peek:visible")
            else:
                page.wait_for_selector("#gates svg")
            page.wait_for_timeout(600)  # what is shaded fades in
            page.screenshot(path=folder / f"{name}.png")
            page.close()
        browser.close()


def main() -> None:
    """Draw, and say what can't be drawn."""
    parser = argparse.ArgumentParser(description="The pictures of the page.")
    parser.add_argument("--folder", type=Path, default=PICTURES)
    parser.add_argument("--dream", action="store_true", help="only the animation")
    chosen = parser.parse_args()
    (chosen.folder / "dream.svg").write_text(dream(charrnn.load("dinosaurs")), encoding="utf-8")
    if chosen.dream:
        return
    if not CHROMIUM.exists():
        print(f"there is no browser at {CHROMIUM}: `apt install chromium`", file=sys.stderr)
        raise SystemExit(1)
    photograph(chosen.folder)


if __name__ == "__main__":
    main()
