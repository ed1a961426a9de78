"""The JSON that `export` writes: what it holds, what it costs, and that plain Python and JavaScript
read it as our network does.
"""

import base64
import importlib.util
import itertools
import json
import os
import random
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

import charrnn
from charrnn.cells import CELLS
from charrnn.cells.rnn import RNN
from charrnn.errors import ConfigError, WeightsFormatError
from charrnn.export_json import CELLS as DESCRIBED
from charrnn.export_json import FORMAT, as_read, json_file
from charrnn.model import CharRNN
from charrnn.parameters import Parameters
from charrnn.vocabulary import UNKNOWN, Vocabulary
from tests.models import constant_network, frozen, generator, running, titled
from tests.test_export_files import of_words

ROOT = Path(__file__).parent.parent
PORTABLE = ROOT / "examples" / "portable"
CHROMIUM = Path("/usr/bin/chromium")
NUMBERS = ("int8", "float16", "float32")
CASES = [
    *((cell, layers, "float32") for cell in DESCRIBED for layers in (1, 2)),
    ("lstm", 2, "int8"),
    ("gru", 2, "float16"),
]
CLOSE = 1e-5


def reader():
    spec = importlib.util.spec_from_file_location("reader", PORTABLE / "reader.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


Model = reader().Model


def as_exported(made, text):
    """Our network with the weights that the file has."""
    arrays = {name: as_read(entry) for name, entry in json.loads(text)["arrays"].items()}
    names = list(made.model.params)
    return CharRNN(made.model.config, Parameters.from_arrays({n: arrays[n] for n in names}))


def logits_after(made, model, text):
    """Of our network, after the start symbol and a text."""
    ids = np.array([[made.vocabulary.start, *made.vocabulary.encode(text)]])
    logits, _, _ = model.forward(ids, model.init_state(1))
    return logits[0, -1]


def chances(seed=3):
    return random.Random(seed).random


# --- The file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", NUMBERS)
def test_weights_come_back_as_near_as_their_numbers_allow(numbers):
    made = titled(cell="gru", layers=2, hidden=20)
    text, _ = json_file(made, numbers)
    found = as_exported(made, text)
    for name, array in made.model.params.items():
        error = np.abs(found.params[name] - array)
        if array.ndim == 1 or numbers == "float32":
            assert not error.any()
        elif numbers == "float16":
            assert error.any()
            assert (error <= np.abs(array) * 2.0**-11 + 2.0**-25).all()
        else:
            assert error.any()
            assert (error <= np.abs(array).max(axis=0) / 127 * 0.5001).all()


@pytest.mark.parametrize("factor", [0.0, 1e-45, 1e-38])
def test_columns_of_nearly_nothing_stay_finite(factor):
    made = titled()
    params = made.model.params.like()
    params.flat[:] = made.model.params.flat
    params["out.V"][:, 1] *= np.float32(factor)
    made.model = CharRNN(made.model.config, params)
    found = as_exported(made, json_file(made, "int8")[0])
    column, near = made.model.params["out.V"][:, 1], found.params["out.V"][:, 1]
    assert np.isfinite(near).all()
    assert np.abs(near - column).max() <= np.abs(column).max()


def test_the_file_says_what_it_is_and_comes_out_the_same():
    made = titled(layers=2)
    text, price = json_file(made, "int8")
    assert json_file(made, "int8")[0] == text
    about = json.loads(text)
    assert about["charrnn"] == FORMAT
    assert (about["name"], about["version"], about["numbers"]) == ("tiny", made.version, "int8")
    assert about["symbols"] == list(made.vocabulary.symbols)
    assert about["nats_per_symbol"]["exported"] == price.exported
    assert about["arrays"].keys() == made.model.params.keys()
    assert text.isascii()


def test_eight_bits_are_small():
    made = charrnn.load("dinosaurs")
    count = made.model.params.flat.size
    assert len(json_file(made, "int8")[0]) < 1.45 * count  # base64 alone makes it 1.33


def test_the_table_of_the_page_is_what_the_command_says():
    page = (ROOT / "docs" / "export.md").read_text("utf-8")
    made = charrnn.load("dinosaurs")
    for numbers in NUMBERS:
        text, price = json_file(made, numbers)
        row = f"| {numbers} | {len(text) / 1e3:,.1f} | {price.exported:.4f} | {price.exact:.4f} |"
        assert row in page
        assert price.texts == "test names"
    assert f"{made.model.params.flat.size:,} parameters" in page


# --- What it costs --------------------------------------------------------------------------------


def test_the_price_is_the_loss_of_the_weights_as_they_are_written():
    made = charrnn.load("dinosaurs")
    stated = made.frozen.evaluation["test"]
    _, price = json_file(made, "float32")
    assert price.exact == price.exported
    assert price.exact == pytest.approx(stated["nats_per_character"], abs=1e-6)
    assert price.symbols == stated["characters"]
    _, coarse = json_file(made, "int8")
    assert coarse.exact == price.exact
    assert 0 < abs(coarse.exported - coarse.exact) < 0.01


def test_running_text_is_measured_on_texts_of_its_own():
    made = running("abc \n", hidden=12)
    _, price = json_file(made, "int8")
    assert price.texts == "texts of its own"
    assert price.symbols > 1000
    assert price.exported != price.exact


def test_a_model_that_writes_nothing_cannot_be_measured():
    made = titled()
    logits = np.zeros(len(made.vocabulary), np.float32)
    logits[made.vocabulary.end] = 100
    made.model = constant_network(logits)
    with pytest.raises(WeightsFormatError, match="writes only empty texts"):
        json_file(generator(with_model(made)), "int8")


def with_model(made):
    model = made.model
    return charrnn.weights.FrozenModel("names", model.config, model.params, made.vocabulary, ())


# --- What is refused ------------------------------------------------------------------------------


def test_words_are_refused():
    with pytest.raises(ConfigError, match="unit must be character to be exported as JSON"):
        json_file(of_words(), "int8")


def test_a_cell_that_the_format_does_not_describe_is_refused(monkeypatch):
    class Clockwork(RNN):
        name = "clockwork"

    monkeypatch.setitem(CELLS, "clockwork", Clockwork())
    with pytest.raises(ConfigError, match=r"cell must be one that the format describes"):
        json_file(titled(cell="clockwork"), "int8")


def test_weights_too_large_for_float16_are_refused():
    made = titled()
    params = made.model.params.like()
    params.flat[:] = made.model.params.flat
    params["layers.0.W"][0, 0] = 70_000
    made.model = CharRNN(made.model.config, params)
    with pytest.raises(ConfigError, match=r"numbers must be float32 or int8 .* up to 70000"):
        json_file(made, "float16")
    json_file(made, "int8")


# --- Plain Python ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "layers", "numbers"), CASES)
def test_the_reader_in_python_gives_our_logits(cell, layers, numbers):
    made = titled(cell=cell, layers=layers)
    text, _ = json_file(made, numbers)
    name = made.frozen.names[0]
    found, _ = Model(text).read(name)
    assert np.abs(found - logits_after(made, as_exported(made, text), name)).max() < CLOSE


def test_the_reader_draws_as_often_as_is_probable():
    """Of 4,000 draws each symbol's count is within 5 standard deviations: a false alarm once in
    200,000 runs, were the draws not always the same.
    """
    drawn, logits, chance = reader().drawn, [0.3, -1.0, 2.0, 0.0], chances()
    counts = np.bincount([drawn(logits, 0.5, {3}, chance()) for _ in range(4000)], minlength=4)
    p = np.exp(np.array(logits[:3]) / 0.5)
    p = np.array([*(p / p.sum()), 0])
    assert (np.abs(counts - 4000 * p) <= 5 * np.sqrt(4000 * p * (1 - p))).all()
    assert drawn(logits, 0, {2}, 0.5) == 0
    assert drawn(logits, 1.0, {None}, 1 - 1e-17) == 2  # rounding leaves nothing: the likeliest


def test_the_reader_writes_names_with_capitals_until_their_end():
    made = charrnn.load("dinosaurs")
    model, chance = Model(json_file(made, "int8")[0]), chances()
    names = [model.write("tyr", chance=chance) for _ in range(5)]
    assert all(re.fullmatch(r"Tyr[a-z]+", name) for name in names)
    assert len(set(names)) > 1
    assert model.write("tyr", max_length=4, temperature=0.5, chance=chance)[:3] == "Tyr"
    assert made.score(names[0]).logprob > -60


def test_the_reader_stops_and_knows_what_it_does_not_know():
    made = generator(frozen("text", Vocabulary.of(["aaabbb\n\n€"], ends=False, fewest=2), seed=2))
    assert made.vocabulary.unknown is not None
    model = Model(json_file(made, "float32")[0])
    texts = [model.write("a€b", max_length=60, chance=chances(k)) for k in range(20)]
    assert all(text.startswith("a€b") and UNKNOWN not in text for text in texts)
    assert all(len(text) == 60 for text in texts)
    stopped = [model.write("ab", stop="b", max_length=60, chance=chances(k)) for k in range(20)]
    assert all(set(text[2:]) <= {"a", "\n"} for text in stopped)
    with pytest.raises(ValueError, match="'1' is unknown to this model"):
        Model(json_file(titled(), "int8")[0]).read("x1")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"charrnn": 2}', "\ud800"])
def test_the_reader_refuses_what_is_no_such_file(text):
    with pytest.raises(ValueError, match="not a file that"):
        Model(text)


def test_the_reader_needs_nothing_but_python(tmp_path):
    (tmp_path / "m.json").write_bytes(json_file(charrnn.load("dinosaurs"), "int8")[0])
    command = [sys.executable, "-I", "-S", str(PORTABLE / "reader.py"), str(tmp_path / "m.json")]
    done = subprocess.run(
        [*command, "--seed", "Ty", "--count", "3", "--random-seed", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [name[:2] for name in done.stdout.split()] == ["Ty"] * 3
    wrong = subprocess.run([*command, "--seed", "é"], capture_output=True, text=True)
    assert wrong.returncode == 1
    assert wrong.stderr.endswith("character 'é' is unknown to this model\n")


# --- A browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """A browser that no server can be reached from."""
    if not CHROMIUM.exists():
        assert not os.environ.get("CI"), "CI must have chromium"
        pytest.skip(f"there is no browser at {CHROMIUM}: `apt install chromium`")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser.new_context(offline=True)
        browser.close()


@pytest.fixture
def page(browser):
    found, errors = browser.new_page(), []
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.goto((PORTABLE / "names.html").as_uri())
    yield found
    found.close()
    assert errors == []


def test_the_reader_in_javascript_gives_the_same_logits_and_texts(page):
    for cell, layers, numbers in CASES:
        made = titled(cell=cell, layers=layers)
        text, _ = json_file(made, numbers)
        name, model = made.frozen.names[0], Model(text)
        expected, _ = model.read(name)
        given = [next_() for next_ in itertools.repeat(chances(), 300)]
        found = page.evaluate(
            """([text, name, given]) => {
                const model = new CharRNN(text), chance = () => given.shift();
                const texts = Array.from({ length: 10 }, () => model.write("", { chance }));
                return [[...model.read(name).logits], texts];
            }""",
            [text.decode(), name, given],
        )
        assert np.abs(np.array(found[0]) - expected).max() < CLOSE, (cell, layers, numbers)
        chance = iter(given).__next__
        assert found[1] == [model.write("", chance=chance) for _ in range(10)]


def test_the_reader_in_javascript_reads_every_float16(page):
    bits = np.arange(1 << 16, dtype="<u2").view("<f2")
    finite = bits[np.isfinite(bits)]
    text = base64.b64encode(finite.tobytes()).decode()
    found = page.evaluate("text => [...unpacked(text, 'float16')]", text)
    assert np.array_equal(found, finite.astype(float))


@pytest.mark.parametrize("case", ["keep", "title", "sentence"])
def test_capitals_are_the_same_in_both_languages_as_ours(page, case):
    texts = ["tyr rex", "ab-cd é-ü", "ßa ß", "1a _b", "", "ǆ ж-я 龍", "a  b\nc"]
    texts = [unicodedata.normalize("NFC", text) for text in texts]
    ours = [charrnn.vocabulary.written(text, case) for text in texts]
    assert [reader().capitals(text, case) for text in texts] == ours
    found = page.evaluate("([texts, rule]) => texts.map((t) => capitals(t, rule))", [texts, case])
    assert found == ours


def test_a_page_from_the_disk_makes_names_without_a_server(page, tmp_path):
    (tmp_path / "m.json").write_bytes(json_file(charrnn.load("dinosaurs"), "int8")[0])
    page.set_input_files("#file", tmp_path / "m.json")
    expect(page.locator("#texts")).to_have_text(re.compile(r"^([A-Z][a-z-]*\n){9}[A-Z][a-z-]*$"))
    page.fill("#seed", "Tyr")
    page.click("button")
    expect(page.locator("#texts")).to_have_text(re.compile(r"^(Tyr[a-z-]*\n){9}Tyr[a-z-]*$"))
    page.fill("#seed", "é")
    page.click("button")
    expect(page.locator("#texts")).to_have_text('character "é" is unknown to this model')
    (tmp_path / "wrong.json").write_text("{}")
    page.set_input_files("#file", tmp_path / "wrong.json")
    expect(page.locator("#what")).to_contain_text("not a file that")


def test_a_single_page_holds_the_model_whatever_its_name_is(browser, tmp_path):
    made = titled()
    made.name = "</script><script>alert(1)</script>"
    (tmp_path / "m.json").write_bytes(json_file(made, "int8")[0])
    command = [sys.executable, str(PORTABLE / "single_page.py"), str(tmp_path / "m.json")]
    done = subprocess.run(command, capture_output=True, check=True)
    (tmp_path / "page.html").write_bytes(done.stdout)
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    expect(page.locator("#texts")).to_have_text(re.compile(r"^(.+\n){9}.+$"))
    expect(page.locator("#what")).to_contain_text(made.name)
    page.close()
    (tmp_path / "m.json").write_text("[]")
    wrong = subprocess.run(command, capture_output=True, text=True)
    assert (wrong.returncode, "not a file that" in wrong.stderr) == (1, True)
