"""The pictures of docs/how-it-works.md, and what is measured for them."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

import charrnn
from charrnn.cells import CELLS
from charrnn.config import ModelConfig
from charrnn.graph import backward, constant, parameter
from charrnn.model import CharRNN
from charrnn.operations import gather, softmax_cross_entropy
from charrnn.reference import GRAPH_CELLS
from examples.understanding import distance, svg, temperature, units, unrolled

ROOT = Path(__file__).parent.parent
SCRIPTS = {
    "unrolled": ["unrolled.svg", "truncation.svg"],
    "distance": ["distance.svg"],
    "temperature": ["temperature.svg", "next.svg"],
    "units": ["units.svg"],
}
DRAWN = sorted(picture for pictures in SCRIPTS.values() for picture in pictures)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_command_draws_its_pictures(name, tmp_path):
    quick = [] if name == "unrolled" else ["--quick"]
    command = [sys.executable, ROOT / "examples" / "understanding" / f"{name}.py"]
    done = subprocess.run(
        [*command, *quick, "--folder", tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == set(SCRIPTS[name])


@pytest.mark.parametrize("picture", DRAWN)
def test_a_picture_that_ships_is_whole_and_reads_on_light_and_dark(picture):
    text = (svg.PICTURES / picture).read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert root.find("{*}title").text
    assert "prefers-color-scheme: dark" in text
    for words in root.iter("{*}text"):
        shifted = 0 <= float(words.attrib["x"]) <= width and 0 <= float(words.attrib["y"]) <= height
        assert shifted, words.text


def test_every_picture_stands_in_the_page_and_in_the_makefile():
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for script, pictures in SCRIPTS.items():
        assert f" {script}" in makefile.split("pictures: ")[1].split("lint:")[0]
        assert all(f"pictures/{picture})" in page for picture in pictures)
    of_the_page = {"page.png", "page-dark.png", "inside.png", "dream.svg"}  # tests/api/test_page.py
    assert {path.name for path in svg.PICTURES.iterdir()} == set(DRAWN) | of_the_page


@pytest.mark.parametrize("cell", CELLS)
def test_the_norms_by_distance_are_those_of_the_graph(cell):
    B, T, V, H = 3, 7, 5, 4
    config = ModelConfig(cell=cell, hidden_size=H, vocab_size=V)
    rng = np.random.default_rng(0)
    model = CharRNN.initialized(config, rng, np.float64)
    ids, targets = rng.integers(0, V, (B, T)), rng.integers(0, V, B)
    nodes = {name: parameter(array) for name, array in model.params.items()}
    layer = {name[9:]: node for name, node in nodes.items() if name.startswith("layers.0.")}
    state = [constant(part) for part in model.init_state(B)[0]]
    passed = []
    for t in range(T):
        state = GRAPH_CELLS[cell](layer, gather(layer["U"], ids[:, t]) + layer["b"], state)
        passed.append(state)
    backward(softmax_cross_entropy(state[0] @ nodes["out.V"] + nodes["out.c"], targets))
    found = distance.gradient_norms(model, ids, targets)
    for k in range(T):
        expected = np.linalg.norm(passed[T - 1 - k][0].grad, axis=1).mean()
        # A graph's gradient is the total one: the LSTM's h has no way on but the next step's gates.
        assert found["h"][k] == pytest.approx(expected, rel=1e-10)


def test_truncation_reaches_back_as_far_as_the_picture_says():
    assert [unrolled.reach(t, "chunks", 5) for t in (0, 4, 5, 11)] == [0, 0, 5, 10]
    assert [unrolled.reach(t, "per step", 5) for t in (0, 4, 5, 11)] == [0, 0, 1, 7]
    assert unrolled.reach(11, "whole", 5) == 0


def test_temperature_one_is_the_networks_own_distribution_and_zero_leaves_one_choice():
    logits = np.random.default_rng(0).normal(size=(4, 6))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert temperature.perplexity(logits, 1.0) == pytest.approx(
        np.exp(-(p * np.log(p)).sum(axis=1).mean())
    )
    assert temperature.perplexity(logits, 1e-3) == pytest.approx(1, abs=1e-6)
    assert temperature.perplexity(logits, 1e3) == pytest.approx(6, abs=1e-3)


def test_the_shares_of_samples_add_up():
    found = temperature.sampled(charrnn.load("dinosaurs"), 0.3, 200)
    assert found.novel + found.copies + found.held_out == pytest.approx(1)
    assert (
        found.copies > 0
    )  # this cold, some are; with 60 draws at about 7% the odds of none are 1%


def test_correlations_are_pearsons():
    rng = np.random.default_rng(0)
    states, feature = rng.normal(size=(50, 3)), rng.normal(size=50)
    states[:, 2] = 1.0
    expected = [np.corrcoef(states[:, k], feature)[0, 1] for k in range(2)]
    found = units.correlations(states, feature)
    assert np.allclose(found[:2], expected)
    assert found[2] == 0


def test_a_units_state_is_read_after_each_letter():
    generator = charrnn.load("dinosaurs")
    names = ["rex", "allo"]
    found = units.states(generator, names)
    assert found.shape == (7, generator.model.config.hidden_size)
    alone = units.states(generator, ["allo"])
    assert np.array_equal(found[3:], alone)
    assert units.values(names, units.FEATURES["letters read so far"]).tolist() == [
        1,
        2,
        3,
        1,
        2,
        3,
        4,
    ]
