"""The files that `export` writes, read by what they are for: PyTorch's state dict, ONNX's graph."""

import errno
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
from click.testing import CliRunner
from onnx.reference import ReferenceEvaluator

import charrnn
from charrnn import cli_export, export_onnx, files
from charrnn.cells import CELLS
from charrnn.cells.rnn import RNN
from charrnn.cli import main
from charrnn.errors import CharRNNError, ConfigError
from charrnn.export import METADATA_KEY, torch_file, torch_state_dict
from charrnn.export_onnx import ONNX_CELLS, onnx_file
from charrnn.generator import Generator
from charrnn.store import Store
from charrnn.weights import to_bytes
from charrnn.wordlist import WordVocabulary
from tests.models import frozen, generator, network, text_model, titled

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "export.md").read_text("utf-8")
LOADER, USE, ONNX_USE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
CELLS_AND_LAYERS = [(cell, layers) for cell in ONNX_CELLS for layers in (1, 3)]
CLOSE = 1e-5


def of_words(cell: str = "gru", *, hidden: int = 3) -> Generator:
    """A model of words, more of them than a row of U is long."""
    sentences = [" ".join(f"word{k}" for k in range(20)) + "."] * 2
    return generator(
        frozen("text", WordVocabulary.of(sentences, largest=40, fewest=1), cell=cell, hidden=hidden)
    )


def listed(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


def case_of(model, batch=3, time=7):
    """Ids (B, T), a state away from zero, and what the network makes of them."""
    rng = np.random.default_rng(5)
    ids = rng.integers(0, model.config.vocab_size, (batch, time))
    state = rng.normal(0, 0.5, model.init_state(batch).shape).astype(np.float32)
    logits, final, _ = model.forward(ids, state)
    assert np.abs(logits).max() > 100 * CLOSE
    return ids, state, logits, final


# --- ONNX -----------------------------------------------------------------------------------------


def runtime(data):
    """A function of ids and state, by onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda ids, state: session.run(None, {"ids": ids, "state": state})


def reference(data):
    """Likewise, by the reference evaluator of onnx."""
    found = ReferenceEvaluator(onnx.load_from_string(data))
    return lambda ids, state: found.run(None, {"ids": ids, "state": state})


@pytest.mark.parametrize("engine", [runtime, reference])
@pytest.mark.parametrize(("cell", "layers"), CELLS_AND_LAYERS)
def test_onnx_gives_the_same_logits_and_state(engine, cell, layers):
    made = titled(cell=cell, layers=layers, hidden=9)
    run = engine(onnx_file(made))
    ids, state, logits, final = case_of(made.model)
    found_logits, found_state = run(ids, state)
    assert np.abs(found_logits - logits).max() < CLOSE
    assert np.abs(found_state - final).max() < CLOSE


@pytest.mark.parametrize("cell", ONNX_CELLS)
def test_steps_in_onnx_are_the_whole_sequence(cell):
    made = titled(cell=cell, layers=2)
    run = runtime(onnx_file(made))
    ids, state, logits, final = case_of(made.model)
    for t in range(ids.shape[1]):
        found, state = run(ids[:, t : t + 1], state)
        assert np.abs(found[:, 0] - logits[:, t]).max() < CLOSE
    assert np.abs(state - final).max() < CLOSE


@pytest.mark.parametrize("cell", ONNX_CELLS)
def test_onnx_reads_many_words_by_their_rows(cell):
    made = of_words(cell)
    rows = made.model.params["layers.0.U"]
    assert rows.shape[0] > rows.shape[1]
    data = onnx_file(made)
    shapes = {each.name: tuple(each.dims) for each in onnx.load_from_string(data).graph.initializer}
    assert shapes["symbols"] == rows.shape
    ids, state, logits, final = case_of(made.model)
    found_logits, found_state = runtime(data)(ids, state)
    assert np.abs(found_logits - logits).max() < CLOSE
    assert np.abs(found_state - final).max() < CLOSE


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_two_gates_swapped_in_onnx_would_be_noticed(cell, monkeypatch):
    made = titled(cell=cell)
    first, second, *others = ONNX_CELLS[cell].gates
    wrong = replace(ONNX_CELLS[cell], gates=(second, first, *others))
    monkeypatch.setitem(ONNX_CELLS, cell, wrong)
    ids, state, logits, _ = case_of(made.model)
    found, _ = runtime(onnx_file(made))(ids, state)
    assert np.abs(found - logits).max() > 100 * CLOSE


def test_the_onnx_file_is_checked_says_what_it_is_and_comes_out_the_same():
    made = titled(layers=2)
    data = onnx_file(made)
    assert data == onnx_file(made)
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert [each.version for each in model.opset_import] == [export_onnx.OPSET]
    (about,) = [json.loads(p.value) for p in model.metadata_props if p.key == METADATA_KEY]
    assert about["symbols"] == list(made.vocabulary.symbols)
    assert (about["start"], about["end"]) == (made.vocabulary.start, made.vocabulary.end)


def test_a_cell_that_onnx_has_not_is_refused(monkeypatch):
    class Clockwork(RNN):
        name = "clockwork"

    monkeypatch.setitem(CELLS, "clockwork", Clockwork())
    with pytest.raises(ConfigError, match=r"cell must be one that ONNX has .*'clockwork'"):
        onnx_file(titled(cell="clockwork"))


def test_without_the_package_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(CharRNNError, match="pip install onnx"):
        onnx_file(titled())


def test_the_name_in_the_documentation_is_drawn_by_onnxruntime(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    made = charrnn.load("dinosaurs")
    Path("dinosaurs.onnx").write_bytes(onnx_file(made))
    names = {}
    exec(ONNX_USE, names)
    assert 1 <= len(names["name"]) <= made.default_max_length
    assert set(names["name"]) <= set(made.known_characters)


# --- PyTorch --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made", [titled(cell="lstm", layers=2), of_words()], ids=["names", "words"]
)
def test_the_torch_file_holds_the_state_dict_and_what_it_is(made):
    data = torch_file(made)
    assert data == torch_file(made)
    arrays = safetensors.numpy.load(data)
    expected = torch_state_dict(made.model.config, made.model.params)
    assert arrays.keys() == expected.keys()
    assert all(np.array_equal(arrays[name], array) for name, array in expected.items())
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = json.loads(header["__metadata__"][METADATA_KEY])
    assert (about["name"], about["version"]) == (made.name, made.version)
    assert about["symbols"] == list(made.vocabulary.symbols)
    assert about["unknown"] == made.vocabulary.unknown
    assert ("glued_before" in about) == (about["unit"] == "word")


def test_the_loader_is_ten_lines():
    assert len([line for line in LOADER.splitlines() if line]) <= 10


@pytest.mark.parametrize(("cell", "layers"), CELLS_AND_LAYERS)
def test_the_loader_in_the_documentation_gives_our_logits(cell, layers, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    made = generator(frozen("names", titled().vocabulary, cell=cell, layers=layers, hidden=7))
    word = made.vocabulary.known_characters[:3]
    monkeypatch.chdir(tmp_path)
    Path("dinosaurs.torch.safetensors").write_bytes(torch_file(made))
    names = {}
    exec(LOADER + USE.replace("tyr", word), names)
    ids = np.array([[made.vocabulary.start, *made.vocabulary.encode(word)]])
    logits, _, _ = made.model.forward(ids, made.model.init_state(1))
    assert np.abs(names["logits"].detach().numpy() - logits).max() < CLOSE


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A weights folder with `tiny`, and a current folder to write to."""
    store = Store(tmp_path / "weights")
    made = text_model("ab \n")
    store.promote("tiny", store.add("tiny", to_bytes(made)), reason="a test")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return store.root


def exported(weights, *arguments):
    done = CliRunner().invoke(main, ["export", *arguments, "--weights", str(weights)])
    return done.exit_code, done.output


@pytest.mark.parametrize("to", cli_export.FORMATS)
def test_the_command_writes_the_file_and_never_over_another(weights, to):
    path = Path("tiny" + cli_export.ENDINGS[to])
    status, said = exported(weights, "tiny", "--to", to)
    assert (status, path.exists()) == (0, True), said
    assert said.startswith(f"{path}: ")
    before = path.read_bytes()
    path.write_bytes(b"mine")
    assert exported(weights, "tiny", "--to", to) == (
        1,
        f"error: {path} is there already: give --force to write over it, or another file with -o\n",
    )
    assert path.read_bytes() == b"mine"
    assert exported(weights, "tiny", "--to", to, "--force")[0] == 0
    assert path.read_bytes() == before
    assert listed() == [path.name]


def test_a_file_that_comes_meanwhile_stays(weights, monkeypatch):
    def slow(_):
        Path("tiny.onnx").write_bytes(b"mine")
        return b"ours"

    monkeypatch.setattr(cli_export, "onnx_file", slow)
    status, said = exported(weights, "tiny", "--to", "onnx")
    assert (status, "is there already" in said) == (1, True)
    assert Path("tiny.onnx").read_bytes() == b"mine"
    assert listed() == ["tiny.onnx"]


def test_where_there_are_no_hard_links_no_file_is_written_over_either(tmp_path, monkeypatch):
    def refused(self, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refused)
    files.write_atomically(tmp_path / "a", b"1", replace=False)
    with pytest.raises(FileExistsError):
        files.write_atomically(tmp_path / "a", b"2", replace=False)
    assert (tmp_path / "a").read_bytes() == b"1"
    assert listed(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nope", "--to", "onnx"], 1, "no model 'nope' in "),
        (["../tiny", "--to", "onnx"], 2, "model must be "),
        (["tiny", "--to", "keras"], 2, "'keras' is not one of"),
        (["tiny"], 2, "Missing option '--to'"),
        (["tiny", "--to", "torch", "--numbers", "int8"], 2, "numbers must be left out with torch"),
        (["tiny", "--to", "onnx", "-o", "."], 1, ". is a folder: name a file in it with -o"),
        (["tiny", "--to", "onnx", "-o", "/dev/null", "--force"], 1, "/dev/null is no regular file"),
        (["tiny", "--to", "onnx", "-o", "/dev/null/x"], 1, "/dev/null is no folder"),
        (["tiny", "--to", "onnx", "--version", "abcdef"], 1, "version 'abcdef' of model 'tiny'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(weights, arguments, status, message):
    found, said = exported(weights, *arguments)
    assert (found, message in said) == (status, True), said
    assert listed() == []


def test_a_full_disk_leaves_nothing_and_says_so(weights, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    status, said = exported(weights, "tiny", "--to", "json", "-o", "new/tiny.json")
    assert status == 1
    assert said.startswith("error: new/tiny.json: No space left on device; make room")
    assert "or name another file with -o" in said
    assert listed("new") == []


def test_an_exported_file_is_not_taken_for_weights(weights):
    exported(weights, "tiny", "--to", "torch")
    with pytest.raises(CharRNNError, match="not of charrnn"):
        charrnn.load("tiny.torch.safetensors")


def test_a_bare_network_of_random_weights_has_the_gates_that_the_tables_name():
    for name, cell in ONNX_CELLS.items():
        assert sorted(cell.gates) == sorted(network(name).cell.gates)
    assert ONNX_CELLS.keys() == CELLS.keys()
