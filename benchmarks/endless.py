"""Long texts, streamed: the most memory that a process holds, by the length of the text, through
the library, the command line and the service.

    python benchmarks/endless.py [--lengths 10000 1000000]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import http.client
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial

from benchmarks.common import ROOT
from benchmarks.models import text_generator
from benchmarks.service import HOST, OURS, serving
from charrnn.config import LONGEST_TEXT
from charrnn.memory import peak_memory
from charrnn.store import Store
from charrnn.tables import table
from charrnn.weights import to_bytes

HIDDEN, VOCABULARY = 64, 60  # all of them ASCII
NAME = "endless"
LIBRARY = """
import sys, charrnn
generator = charrnn.load(sys.argv[1])
for piece in generator.stream(max_length=int(sys.argv[2]), random_seed=1):
    sys.stdout.write(piece.text)
"""


def of_command(*command: str) -> tuple[int, int]:
    """Characters that a process writes, and the most bytes that it holds until the last of them."""
    characters = peak = 0
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert process.stdout
    while chunk := os.read(process.stdout.fileno(), 65_536):
        characters += len(chunk)  # ASCII
        peak = max(peak, peak_memory(process.pid) or 0)
    assert process.wait() == 0
    return characters, peak


def of_service(weights: Path, length: int) -> tuple[int, int]:
    """Characters of a stream, and the most bytes that a worker holds."""
    environ = {"CHARRNN_WEIGHTS": str(weights), "CHARRNN_TIME_LIMIT": "3600"}
    environ |= dict.fromkeys(("CHARRNN_MAX_LENGTH", "CHARRNN_MAX_CHARACTERS"), str(LONGEST_TEXT))
    body = json.dumps({"model": NAME, "stream": True, "max_length": length, "random_seed": 1})
    characters = 0
    with serving(OURS, ["-c", "gunicorn.conf.py"], environ) as (port, process):
        connection = http.client.HTTPConnection(HOST, port, timeout=600)
        connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
        event = ""
        for line in connection.getresponse():
            if line.startswith(b"event: "):
                event = line[7:].decode().strip()
            elif line.startswith(b"data: ") and not event:
                characters += len(json.loads(line[6:])["text"])
        assert event == "done"
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return characters, max(peak_memory(int(child)) or 0 for child in children)


def main() -> None:
    """Measure each length in each way, in processes of their own."""
    parser = argparse.ArgumentParser(description="The memory of long streams.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[10_000, 1_000_000])
    lengths = parser.parse_args().lengths
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        data = to_bytes(text_generator("gru", HIDDEN, VOCABULARY).frozen)
        version = store.add(NAME, data)
        store.promote(NAME, version, reason="a measurement")
        file = str(store.folder(NAME) / f"{version}.safetensors")
        for length in lengths:
            sample = ("-m", "charrnn", "sample", file, "--random-seed", "1", "--max-length")
            ways: dict[str, Callable[[], tuple[int, int]]] = {
                "Generator.stream": partial(of_command, "-c", LIBRARY, file, str(length)),
                "the command line": partial(of_command, *sample, str(length)),
                "POST /generate, stream": partial(of_service, Path(folder), length),
            }
            for way, measure in ways.items():
                characters, peak = measure()
                rows.append((way, f"{characters:,}", f"{peak / 1e6:.1f}"))
                print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    print(table(("way", "characters", "peak MB"), rows))


if __name__ == "__main__":
    main()
