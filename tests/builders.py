"""Small things that several tests build: a frozen model, a weights folder, and processes that are
killed while they write.

python -m tests.builders SCENARIO FOLDER [KILLS]    # fails where a promise is broken
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from charrnn.config import CorpusConfig, ModelConfig
from charrnn.corpus import Corpus, load_corpus
from charrnn.files import append_line, read_json_lines, sweep, write_atomically
from charrnn.model import CharRNN
from charrnn.store import Store
from charrnn.vocabulary import Vocabulary
from charrnn.weights import FrozenModel, sha256_of, to_bytes

ROOT = Path(__file__).parent.parent
NAMES = ("allo", "brachio", "tarbo-rex")


def frozen(n: int = 0, *, cell: str = "gru", dtype: type = np.float32) -> FrozenModel:
    """A network of random weights over three names; another one for each n, which it records."""
    vocabulary = Vocabulary.of(NAMES, ends=True, case="title")
    config = ModelConfig(cell=cell, hidden_size=2, vocab_size=len(vocabulary))
    params = CharRNN.initialized(config, np.random.default_rng(n), dtype).params
    return FrozenModel("names", config, params, vocabulary, NAMES, {"n": n}, {"n": n})


def store_of(root: Path, count: int = 1, name: str = "tiny") -> tuple[Store, list[str]]:
    """A weights folder with `count` versions of one model; the first is live."""
    store = Store(root)
    versions = [store.add(name, to_bytes(frozen(n))) for n in range(count)]
    store.promote(name, versions[0], reason="a test")
    return store, versions


def corpus_of(folder: Path, text: str | bytes, **config: object) -> Corpus:
    """The corpus of one file with this text."""
    path = folder / "data.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return load_corpus([path], CorpusConfig.checked(config))


def python(*arguments: object, **environment: str) -> "subprocess.Popen[str]":
    """Another Python process, in which `tests` and `charrnn` can be imported."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(scenario: str, *arguments: object, **environment: str) -> str:
    """Run a scenario of this module in its own process; what it printed."""
    process = python("-m", "tests.builders", scenario, *arguments, **environment)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out


def fork(work: Callable[[], None]) -> int:
    """Do `work` in a child of this process, which ends with it. Returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def join(pids: list[int]) -> None:
    """Wait for children, none of which may have failed."""
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)


def kill_at_a_random_moment(work: Callable[[], None], rng: random.Random, longest: float) -> None:
    """Kill a child within `longest` seconds of its beginning."""
    ready, begun = os.pipe()

    def announced() -> None:
        os.write(begun, b"!")
        work()

    pid = fork(announced)
    os.read(ready, 1)
    time.sleep(rng.uniform(0, longest))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "it ended by itself"
    os.close(ready)
    os.close(begun)


def pattern(k: int) -> bytes:
    """Bytes that show whether they are whole: k of one value, behind their number."""
    return k.to_bytes(4, "big") + bytes([k % 251]) * (k * 977 % 300_000)


def is_whole(data: bytes) -> bool:
    return data == pattern(int.from_bytes(data[:4], "big"))


def rewriting(folder: Path, kills: int) -> None:
    """A file that is rewritten without end, by a process that is killed, is whole each time."""
    path, rng, torn = folder / "file.bin", random.Random(kills), 0
    write_atomically(path, pattern(0))

    def rewrite() -> None:
        k = int.from_bytes(path.read_bytes()[:4], "big")
        while True:
            k += 1
            write_atomically(path, pattern(k))

    for _ in range(kills):
        kill_at_a_random_moment(rewrite, rng, 0.03)
        assert is_whole(path.read_bytes())
        torn += len(list(folder.iterdir())) > 1
        sweep(folder)
        assert [entry.name for entry in folder.iterdir()] == [path.name]
    assert path.read_bytes() != pattern(0)
    # At least a third of the time is spent within a write: a false alarm in 1 of 10^14 runs.
    assert torn or kills < 80


def writing_at_once(folder: Path) -> None:
    """Writers of one file at once: always one of theirs, whole; of one log: every line, whole."""
    path, log = folder / "file.bin", folder / "log.jsonl"
    write_atomically(path, pattern(0))

    def write(writer: int) -> None:
        for k in range(25):
            write_atomically(path, pattern(300 * writer + k))
            append_line(log, json.dumps({"writer": writer, "k": k, "long": "x" * 20_000}))

    pids = [fork(lambda writer=writer: write(writer)) for writer in range(3)]  # type: ignore[misc]
    for _ in range(300):
        assert is_whole(path.read_bytes())
    join(pids)
    lines = [(line["writer"], line["k"]) for line in read_json_lines(log)]
    assert sorted(lines) == [(writer, k) for writer in range(3) for k in range(25)]
    assert len(list(folder.iterdir())) == 2


def writing_beyond_a_limit(folder: Path) -> None:
    """A file that may not grow as large as the new bytes keeps the old ones."""
    path = folder / "file.bin"
    write_atomically(path, pattern(1))

    def write() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_atomically(path, pattern(2) + b"x" * 5000)
        except OSError:
            return
        raise AssertionError("the limit was not felt")

    join([fork(write)])
    assert path.read_bytes() == pattern(1)
    assert len(list(folder.iterdir())) == 1


def promoting(folder: Path, kills: int) -> None:
    """A live version that is replaced without end, by a process that is killed, can be loaded."""
    store, _ = store_of(folder)
    rng, seen, longest = random.Random(kills), set[str](), 0.1

    def promote() -> None:
        n = json.loads((folder / "tiny" / "CURRENT.json").read_text())["evaluation"]["n"]
        while True:
            n += 1
            model = replace(frozen(), provenance={"n": n}, evaluation={"n": n})
            store.promote("tiny", store.add("tiny", to_bytes(model)), reason=str(n))

    for round_ in range(1, kills + 1):
        kill_at_a_random_moment(promote, rng, longest)
        model, version = store.load("tiny")
        assert model.evaluation == store.current("tiny").evaluation
        # A promotion that was killed before it was written down is missing, and no other.
        n, written = model.evaluation["n"], [r["evaluation"]["n"] for r in store.history("tiny")]
        assert written == sorted(set(written))
        assert n + 1 - len(written) in range(round_ + 1)
        if version in seen:
            longest = min(2 * longest, 2.0)  # a busy machine: nothing went live in that time
        seen.add(version)
    assert len(seen) > 1


def promoting_a_hundred_times(folder: Path) -> None:
    """Two versions go live in turn."""
    store = Store(folder)
    versions = store.versions("tiny")
    for k in range(100):
        store.promote("tiny", versions[k % 2], reason=str(k))


def naming() -> None:
    """The name of one weights file, and of one with the same contents in another order."""
    model = frozen(7)
    shuffled = replace(model, provenance={"b": 1, "a": {"d": 2, "c": 3}}, evaluation={"x": 0.1})
    print(sha256_of(to_bytes(model)), sha256_of(to_bytes(shuffled)))  # noqa: T201


def main() -> None:
    scenario, *arguments = sys.argv[1:]
    if scenario == "naming":
        naming()
        return
    folder, kills = Path(arguments[0]), [int(kills) for kills in arguments[1:]]
    scenarios: dict[str, Callable[..., None]] = {
        "rewriting": rewriting,
        "writing_at_once": writing_at_once,
        "writing_beyond_a_limit": writing_beyond_a_limit,
        "promoting": promoting,
        "promoting_a_hundred_times": promoting_a_hundred_times,
    }
    scenarios[scenario](folder, *kills)


if __name__ == "__main__":
    main()


def made_up(count, seed=0):
    """Different names, the same ones every time."""
    rng = np.random.default_rng(seed)
    names = {
        "".join(rng.choice(list("abdeiklmnorstu"), rng.integers(3, 12))) for _ in range(9 * count)
    }
    return sorted(names)[:count]
