"""One file for a browser: names.html, reader.js and a model in a single page, to be opened from the
disk, mailed, or put on any web space.

    python -m charrnn export dinosaurs --to json
    python examples/portable/single_page.py dinosaurs.json >dinosaurs.html
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
READER = '<script src="reader.js"></script>'


def page(text: str) -> str:
    """The page around a model's JSON. Raises ValueError where the text is none."""
    try:
        version = json.loads(text)["charrnn"]
    except (ValueError, TypeError, KeyError):
        version = None
    if version != 1:
        raise ValueError("not a file that `python -m charrnn export --to json` wrote")
    model = text.replace("<", "\\u003c")  # whatever stands in it, no tag ends or begins there
    script = (HERE / "reader.js").read_text("utf-8")
    whole = (HERE / "names.html").read_text("utf-8")
    within = (
        f'<script type="application/json" id="model">{model}</script>\n<script>{script}</script>'
    )
    assert whole.count(READER) == 1
    return whole.replace(READER, within)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: single_page.py MODEL.json >PAGE.html")
    try:
        sys.stdout.write(page(Path(sys.argv[1]).read_text("utf-8")))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {sys.argv[1]}: {getattr(error, 'strerror', error)}")


if __name__ == "__main__":
    main()
