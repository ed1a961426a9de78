"""The benchmarks run and say what they found. Nothing is timed here: figures of --quick mean
nothing, and the peers are left out.
"""

import json
import math
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import TURN_SECONDS, Report, Table, kernel_environments, take_turns
from benchmarks.load import load
from benchmarks.models import names_generator, network, symbols
from charrnn import blas_kernel

ROOT = Path(__file__).parent.parent
TITLES = {
    "generate": ["Running text, one text", "64 names in one request", "Start-up"],
    "train": ["Training: characters a second"],
    "choices": [
        "64 rows times",
        "in panels",
        "Four rows behind",
        "W (rows, terms) times",
        "Products with one side",
        "A step of Adam",
        "A few sequences",
        "A sample's random",
    ],
    "memory": ["Growth of training with V", "Growth of one request with length"],
    "service": ["Requests a second: 12", "Latency, half", "What others wait for"],
    "soak": ["Soak"],
    "mpi": ["Training by ranks on this machine", "Training by ranks on paper"],
    "big": ["Training from big data", "Reading alone", "Serving those names"],
    "scaling": ["What a core serves", "What goes over the network", "A million users a day"],
    "quality": [
        "names, 100 names",
        "text.txt, its last tenth",
        "names.txt, names never seen",
    ],
}


def benchmark(name, *options):
    """Runs a benchmark as a person would, without peers; what it prints."""
    script = ROOT / "benchmarks" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, script, *map(str, options)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def options_of(name, folder):
    if name == "memory":
        return ["--svg", folder / "growth.svg"]
    if name == "quality":
        text = (ROOT / "data" / "rex-chat.txt").read_text(encoding="utf-8")
        names = (ROOT / "data" / "dinosaurs.txt").read_text(encoding="utf-8").splitlines()
        (folder / "text.txt").write_text(text[:5000], encoding="utf-8")
        (folder / "names.txt").write_text("\n".join(names[:100]), encoding="utf-8")
        small = ["--", "--hidden-size", "8", "--steps", "3"]
        lists = [folder / "names.txt", "--seeds", 2]
        return [*lists, "--text", folder / "text.txt", "--names", folder / "names.txt", *small]
    return []


@pytest.mark.parametrize("name", TITLES)
def test_a_benchmark_prints_tables_and_writes_valid_json(name, tmp_path):
    path = tmp_path / "figures.json"
    printed = benchmark(name, "--quick", "--no-peers", "--json", path, *options_of(name, tmp_path))
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["benchmark"], found["quick"]) == (name, True)
    (report,) = found["reports"]
    assert blas_kernel() in report["machine"]["kernel"]
    titles = [table["title"] for table in report["tables"]]
    for title in TITLES[name]:
        assert any(title in whole for whole in titles)
        assert title in printed
    for table in report["tables"]:
        assert table["rows"]
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
    for figure in report["figures"]:
        assert 0 < figure["low"] <= figure["median"] <= figure["high"]
    if name in ("generate", "train", "quality"):
        assert "| not installed" in printed
    if name == "memory":
        ElementTree.parse(tmp_path / "growth.svg")


def test_the_tables_are_written_between_the_markers_of_the_page(tmp_path):
    page = tmp_path / "performance.md"
    shutil.copy(ROOT / "docs" / "performance.md", page)
    before = page.read_text(encoding="utf-8")
    table = Table("Growth of nothing", [("", "s"), ("bytes", ",d")], [["a", 1234], ["b", None]])
    report = {"machine": {"kernel": "some kernel"}, "checks": [], "tables": [vars(table)]}
    found = {"benchmark": "memory", "quick": False, "reports": [report]}
    (tmp_path / "memory.json").write_text(json.dumps(found), encoding="utf-8")
    benchmark("report", tmp_path, "--page", page)
    after = page.read_text(encoding="utf-8")
    assert "| a   | 1,234 |" in after
    assert "| b   | —     |" in after
    assert "### OpenBLAS" in after.split("generated: memory")[1].split("<!-- end")[0]  # as it was
    assert after.split("## Growth")[0] == before.split("## Growth")[0]
    assert after.split("## Where")[1] == before.split("## Where")[1]


def test_what_several_runs_of_a_benchmark_found_is_one_table(tmp_path):
    page = tmp_path / "performance.md"
    shutil.copy(ROOT / "docs" / "performance.md", page)
    for number, (name, title) in enumerate(
        [("quality", "Loss"), ("quality-82", "Loss"), ("quality-9", "Other"), ("qualityless", "x")]
    ):
        table = Table(title, [("run", "d")], [[number + 1000]])
        report = {"machine": {"kernel": "some", "n": number}, "checks": [], "tables": [vars(table)]}
        found = {"benchmark": "quality", "quick": False, "reports": [report]}
        (tmp_path / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
    benchmark("report", tmp_path, "--page", page)
    section = page.read_text(encoding="utf-8").split("generated: quality")[1].split("<!-- end")[0]
    assert section.count("### some\n\nn 0.\n") == section.count("### some") == 1
    rows = "| run  |\n|------|\n| 1000 |\n| 1001 |\n"
    assert f"**Loss**\n\n{rows}\n**Other**\n\n| run  |\n|------|\n| 1002 |\n" in section
    assert "1003" not in section


def test_contenders_that_compute_different_things_are_not_timed(capsys):
    report = Report({})
    report.check("ours and theirs", 1e-6)
    assert report.checks == ["ours and theirs: 1.0e-06 apart"]
    for error in (1e-3, float("nan")):
        with pytest.raises(SystemExit, match="not the same computation: ours and theirs"):
            report.check("ours and theirs", error)


def test_contenders_take_turns_after_a_round_that_is_not_counted():
    played = []
    names = ("first", "second")
    works = {name: lambda name=name: played.append(name) or 1 for name in names}
    times = take_turns(works, seconds=0, rounds=5)
    assert played == [*names] * 4
    assert set(times) == set(names)


def test_a_turn_is_as_many_calls_as_take_a_while(monkeypatch):
    now = iter(range(10**9))
    monkeypatch.setattr("time.perf_counter", lambda: next(now) / 1024)  # seconds
    calls = []
    times = take_turns({"short": lambda: calls.append(1) or 1}, seconds=1, rounds=4)
    assert len(calls) == 1 + 4 * math.ceil(1024 * TURN_SECONDS)
    assert times["short"].median == 1 / 1024


def test_the_kernels_are_different_ones():
    kernels = list(kernel_environments())
    assert 1 <= len(kernels) == len(set(kernels)) <= 2


def test_a_network_that_is_measured_is_neither_sure_nor_at_a_loss():
    model = network("gru", 16, 30)
    state = model.init_state(8)
    logits = np.empty(0)
    for id_ in range(6):
        logits, state = model.step(np.full(8, id_), state)
    assert 0.5 < logits.std() < 4
    assert len(set(symbols(3000))) == 3000


def test_the_measured_names_end():
    samples = names_generator("rnn", 16, steps=5).generate(count=20, random_seed=0)
    assert {sample.finish_reason for sample in samples} <= {"end", "length"}


@pytest.mark.parametrize("seconds", [0, 0.1])
def test_a_load_on_a_server_that_is_not_there_ends(seconds):
    with socket.socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        found = load(taken.getsockname(), 2, seconds, lambda number: b"GET / HTTP/1.1\r\n\r\n")
    assert found.latencies == []
    assert found.failed == found.statuses[0] >= 2
