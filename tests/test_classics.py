"""The classics: each original's form equals ours where it is right, and is caught where not."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from charrnn.cells import CELLS
from charrnn.config import CorpusConfig
from charrnn.corpus import load_corpus
from charrnn.gradients import numerical_gradient, relative_error
from charrnn.ops import Workspace
from charrnn.packed import Batch
from charrnn.parameters import Parameters
from examples.classics import concatenated, course, dinosaurs, layered, minimal, words

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "classics"
QUICK = {
    "concatenated": [],
    "minimal": ["--iterations", "20"],
    "words": ["--quick"],
    "layered": ["--quick"],
    "course": [],
    "dinosaurs": ["--quick"],
}


def test_every_classic_is_listed_here_and_in_the_page():
    names = {path.stem for path in FOLDER.glob("*.py")}
    page = (ROOT / "docs" / "classics.md").read_text()
    assert names == set(QUICK)
    assert set(re.findall(r"python examples/classics/(\w+)\.py", page)) == names


@pytest.mark.parametrize("name", QUICK)
def test_a_classic_runs_as_a_command(name):
    command = [sys.executable, FOLDER / f"{name}.py", *QUICK[name]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


# 1


def test_one_matrix_on_the_concatenation_is_w_above_u():
    found = concatenated.compare(seed=3)
    assert max(found.rnn_step, found.rnn_sequence, found.lstm_sequence) < 1e-14
    assert found.gradient < 1e-8


# 2


def ids_and_network(vocab=11, hidden=6, length=200):
    model = minimal.network(vocab, seed=4, hidden=hidden)
    return np.random.default_rng(5).integers(0, vocab, length), model


def test_the_published_equations_give_our_loss_and_gradients():
    ids, model = ids_and_network()
    model.params.flat[:] += np.random.default_rng(1).normal(0, 0.3, model.params.flat.size)
    h, steps = np.random.default_rng(6).normal(size=(1, 1, 1, 6)), minimal.STEPS
    batch = Batch(ids[:steps], ids[1 : steps + 1], np.ones(steps, int))
    grads, columns = model.params.like(), minimal.as_columns(model.params)
    mean, last, _ = model.loss_and_grads(batch, h, grads, Workspace())
    loss, published, h_last = minimal.published(columns, batch.ids, batch.targets, h[0, 0].T)
    assert abs(loss - mean * steps) < 1e-10
    assert np.abs(h_last.T - last[0, 0]).max() < 1e-10
    for name, gradient in minimal.as_columns(grads).items():
        assert np.abs(published[name]).max() > 0
        assert np.abs(published[name] - gradient * steps).max() < 1e-10


def test_the_published_training_and_ours_go_the_same_way():
    ids, model = ids_and_network()
    theirs = Parameters.from_arrays(model.params)
    run = minimal.Ours(model, ids)
    losses = [run.step() for _ in range(30)]  # the text is read through more than three times
    expected = minimal.published_training(theirs, ids, 30)
    assert abs(losses[0] - minimal.STEPS * np.log(11)) < 0.01
    assert np.abs(np.array(losses) - expected).max() < 1e-8
    assert np.abs(model.params.flat - theirs.flat).max() < 1e-8


# 3


def sentence_network(seed=0, length=12):
    model = words.network(9, hidden=4, seed=seed)
    rng = np.random.default_rng(seed)
    model.params.flat[:] += rng.normal(0, 0.5, model.params.flat.size)
    for name in ("layers.0.b", "out.c"):
        model.params[name][:] = 0
    return model, (rng.integers(0, 9, length), rng.integers(0, 9, length))


def test_per_step_truncation_by_hand_is_the_graphs():
    model, sentence = sentence_network()
    by_hand, graph = words.per_step(model, sentence), words.per_step_by_graph(model, sentence)
    for name in words.LEARNED:
        assert np.abs(by_hand[name] - graph[name]).max() < 1e-10


@pytest.mark.parametrize("t", [0, 3, 4, 5, 11])
def test_a_steps_own_loss_reaches_back_through_four_steps_before_it(t):
    model, (ids, targets) = sentence_network()

    def share(n):  # of the first n steps
        return words.per_step(model, (ids[:n], targets[:n]))["layers.0.U"]

    touched = np.flatnonzero(np.abs(share(t + 1) - share(t)).max(axis=1) > 1e-12)
    assert set(touched) == set(ids[max(0, t - 4) : t + 1])


def test_truncation_agrees_with_the_whole_up_to_five_words_and_differs_beyond():
    for length, same in ((5, True), (6, False), (12, False)):
        model, sentence = sentence_network(length=length)
        whole = words.chunked(model, sentence, length)
        for form in (words.per_step(model, sentence), words.chunked(model, sentence, 5)):
            error = relative_error(form["layers.0.U"], whole["layers.0.U"])
            assert (error < 1e-12) == same


def test_the_rate_is_halved_when_the_total_loss_rises(monkeypatch):
    model, sentence = sentence_network()
    losses, seen = iter([1.0, 3.0, 2.0]), []
    ones = {name: np.ones_like(model.params[name]) for name in words.LEARNED}

    def gradient(*_):
        seen.append(model.params["out.V"][0, 0])
        return ones

    monkeypatch.setattr(words, "total_loss", lambda *_: next(losses))
    monkeypatch.setattr(words, "per_step", gradient)
    words.train(model, [sentence], 3, rate=0.1)
    steps = -np.diff([*seen, model.params["out.V"][0, 0]])
    assert np.allclose(steps, [0.1, 0.05, 0.05])


def test_the_total_loss_weighs_sentences_alike_and_predict_takes_the_likeliest():
    model, sentence = sentence_network()
    short = tuple(part[:2] for part in sentence)
    alone = [words.total_loss(model, [s]) for s in (sentence, short)]
    assert words.total_loss(model, [sentence, short]) == pytest.approx(np.mean(alone))
    logits, _, _ = model.forward(sentence[0][None], model.init_state(1))
    assert np.array_equal(words.predict(model, sentence[0]), logits[0].argmax(axis=1))


# 4


@pytest.mark.parametrize("cell", layered.KINDS)
def test_layers_with_weights_of_their_own_are_our_network(cell):
    assert layered.distance_from_ours(cell) < 1e-12
    assert max(layered.errors(cell).values()) < 1e-7


@pytest.mark.parametrize(
    ("mistake", "wrong"),
    [("input gate", {"layers.0", "layers.1"}), ("list of dx", {"layers.0"})],
)
def test_each_mistake_of_the_layered_lstm_is_caught_where_it_acts(mistake, wrong):
    errors = layered.errors("lstm", [mistake])
    assert {name[:8] for name, error in errors.items() if error > 1e-2} == wrong
    assert all(error < 1e-7 for name, error in errors.items() if name[:8] not in wrong)


@pytest.mark.parametrize("mistake", layered.MISTAKES)
def test_wrong_gradients_learn_as_well_so_a_falling_loss_proves_nothing(mistake):
    first, last = layered.learned([mistake], steps=200)
    assert last < first - 0.15


# 5

COURSE = {
    "rnn": (course.rnn_forward, course.rnn_backward),
    "gru": (course.gru_forward, course.gru_backward),
}


def course_case(cell, n_a=course.N_A):
    rng, params = course.drawn("ucr", n_a=n_a)
    if cell == "rnn":
        shapes = {"Waa": (n_a, n_a), "Wax": (n_a, course.N_X), "ba": (n_a, 1)}
        params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    x = rng.normal(size=(course.N_X, course.SAMPLES))
    state, dstate = rng.normal(size=(2, n_a, course.SAMPLES))
    return params, x, state, dstate


@pytest.mark.parametrize("cell", COURSE)
def test_the_courses_steps_have_the_gradients_of_their_equations(cell):
    forward, backward = COURSE[cell]
    params, x, state, dstate = course_case(cell)
    found = backward(params, dstate, forward(params, x, state)[1])

    def loss(_):
        return float((forward(params, x, state)[0] * dstate).sum())

    for name, array in {**params, "x": x, "a_prev": state}.items():
        assert relative_error(found[name], numerical_gradient(loss, array)) < 1e-7


def test_the_courses_rnn_and_lstm_are_our_cells_in_other_letters():
    params, x, a, _ = course_case("rnn")
    a_x = (params["Wax"] @ x + params["ba"]).T
    ours, _ = CELLS["rnn"].forward({"W": params["Waa"].T}, a_x, a.T[None])
    assert np.abs(ours[0].T - course.rnn_forward(params, x, a)[0]).max() < 1e-14

    rng, params = course.drawn("ufoc")
    a, c = rng.normal(size=(2, course.N_A, course.SAMPLES))
    W, U, b = (
        np.concatenate([params[f"{letter}{gate}"][:, part] for gate in "ufoc"]).T
        for letter, part in (("W", slice(course.N_A)), ("W", slice(course.N_A, None)), ("b", [0]))
    )
    ours, _ = CELLS["lstm"].forward({"W": W}, x.T @ U + b, np.stack([a.T, c.T]))
    theirs = course.lstm_forward(params, x, a, c)[:2]
    assert np.abs(ours - np.stack([part.T for part in theirs])).max() < 1e-14


@pytest.mark.parametrize(("n_a", "same"), [(1, True), (course.N_A, False)])
def test_the_courses_gru_is_ours_with_one_unit_only(n_a, same):
    params, x, c, _ = course_case("gru", n_a)
    signs = {"r": 1, "u": -1, "c": 1}  # z = 1 - G_u = sigmoid(-a_u)
    W, U, b = (
        np.concatenate([s * params[f"{letter}{gate}"][:, part] for gate, s in signs.items()]).T
        for letter, part in (("W", slice(n_a)), ("W", slice(n_a, None)), ("b", [0]))
    )
    ours, _ = CELLS["gru"].forward({"W": W, "b_h": np.zeros(n_a)}, x.T @ U + b, c.T[None])
    distance = np.abs(ours[0].T - course.gru_forward(params, x, c)[0]).max()
    assert (distance < 1e-14) == same


GATES = {"Wc", "Wu", "Wf", "Wo"}


@pytest.mark.parametrize(
    ("form", "wrong"),
    [
        ("right", set()),
        ("as printed", {"Wc", "Wu", "Wf"}),
        ("no bracket", {"Wc", "Wu", "Wf"}),
        ("slope c~ (1 - tanh(c~^2))", {"Wc"}),
        ("i_t = G_f", {"Wc"}),
        ("i_t = G_o", {"Wc"}),
        ("first term only", {"Wc", "Wu", "Wf"}),
        ("second term only", {"Wc", "Wu", "Wf"}),
    ],
)
def test_each_reading_of_the_courses_gate_derivatives_is_judged(form, wrong):
    errors = course.step_errors(course.FORMS[form])
    assert {name for name in GATES if errors[name] > 1e-2} == wrong
    assert all(errors[name] < 1e-7 for name in GATES - wrong)


def test_the_courses_loop_needs_both_gradients_handed_on():
    assert max(course.sequence_errors("ac").values()) < 1e-7
    for hand_on in ("", "a", "c"):
        errors = course.sequence_errors(hand_on)
        assert min(errors.values()) > 1e-2, hand_on


# 6


def test_the_exercise_starts_at_its_loss_and_learns():
    corpus = load_corpus([ROOT / "data" / "dinosaurs.txt"], CorpusConfig())
    run = dinosaurs.Exercise(corpus.sequences["train"], corpus.vocabulary)
    assert run.smooth == pytest.approx(7 * np.log(27))
    losses = [run.step() for _ in range(1500)]
    per_name = np.log(27) * len(run.names[0][:-1])
    assert losses[0] == pytest.approx(per_name, rel=0.01)
    assert np.mean(losses[-200:]) < 0.75 * np.mean(losses[:20])
    assert not run.model.params["layers.0.U"][run.end].any()


def test_the_exercises_step_is_its_equations():
    corpus = load_corpus([ROOT / "data" / "dinosaurs.txt"], CorpusConfig())
    run = dinosaurs.Exercise(corpus.sequences["train"], corpus.vocabulary, hidden=5)
    run.model.params.flat[:] *= 200  # so that gradients reach the clip
    p, ids, a = minimal.as_columns(run.model.params), run.names[0], np.zeros((5, 1))
    expected = {name: array.copy() for name, array in p.items()}
    _, grads, _ = minimal.published(expected, ids[:-1], ids[1:], a)
    assert max(np.abs(g).max() for g in grads.values()) > dinosaurs.CLIP
    grads["U"][:, run.end] = 0  # the first input is the zero vector: no weight takes part
    run.step()
    for name, gradient in grads.items():
        expected[name] -= dinosaurs.RATE * np.clip(gradient, -dinosaurs.CLIP, dinosaurs.CLIP)
        assert np.abs(minimal.as_columns(run.model.params)[name] - expected[name]).max() < 1e-12
