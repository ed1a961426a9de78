"""Recipes: what a file may say, what follows from the data, and that nothing is lost on the way."""

import os
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from charrnn.config import CorpusConfig
from charrnn.corpus import load_corpus
from charrnn.errors import CharRNNError, ConfigError, CorpusError
from charrnn.recipe import (
    OTHER_RULES,
    SIZED,
    Recipe,
    defaults_for,
    name_for,
    read_recipe,
    recipe_for,
    write_recipe,
)
from tests.training_runs import name_list, small_corpus

SHIPPED = sorted(Path(__file__).parent.parent.glob("data/*.toml"))


def written(folder, text):
    path = folder / "beasts.toml"
    path.write_text(text)
    return path


def test_a_recipe_needs_only_its_data(tmp_path):
    recipe = read_recipe(written(tmp_path, 'data = ["beasts.txt"]'))
    assert recipe.name == "beasts"
    assert recipe.paths(tmp_path) == [tmp_path / "beasts.txt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data = [", "recipe must be TOML"),
        ('data = ["a"]\nlearning_rate = 1', "learning_rate is not a known field"),
        ('data = ["a"]\n[training]\nlearning_rat = 1', "training.learning_rat is not a known fiel"),
        ('data = ["a"]\n[training]\nlearning_rate = -1', "learning_rate must be more than 0 and"),
        ('data = ["a"]\n[network]\nhidden_size = "big"', "hidden_size must be a whole number"),
        ('data = ["a"]\n[network]\nhidden_size = 5000', "hidden_size must be from 1 to 4096, got"),
        (
            'data = ["a"]\n[corpus]\nkind = "poem"',
            "corpus.kind must be one of 'auto', 'names', 'text' or",
        ),
        ('data = ["a"]\nname = "Beasts!"', "name "),
        ("data = []", "data must not be empty"),
        ('name = "x"', "data is missing"),
        ('data = ["a"]\nnetwork = 3', "network must be an object"),
    ],
)
def test_what_a_recipe_says_wrongly_is_named_with_the_file(text, message, tmp_path):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_recipe(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("data = [", [1]),
        ('data = ["a"]\n\n[training]\nsteps = 5\nlearning_rat = 1', [5]),
        ('data = ["a"]\n[network]\nhidden_size = 0\n[gate]\ntolerance = -1', [3, 5]),
        ('data = ["a"]\n# network.hidden_size\nnetwork = {hidden_size = 0}', [3]),
        ('data = ["a"]\nnetwork.hidden_size = 0', [2]),
        ('data = [\n  "a",\n  "",\n]', [1]),
        ('data = ["a"]\n[retraining]\nhook = "mail"', [3]),
        ('data = ["a"]\n[gate]\nleast_novel = 0.9\nmost_novel = 0.5', [3]),
    ],
)
def test_what_a_recipe_says_wrongly_is_named_with_its_lines(text, lines, tmp_path):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_recipe(path)
    assert [problem.line for problem in caught.value.problems] == lines
    assert all(f"{path}:{line}: " in str(caught.value) for line in lines)


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path):
    (tmp_path / "a").write_text("Rex\n")
    path = written(tmp_path, 'data = ["a"]\n')
    plain = read_recipe(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_recipe(path) == plain


def test_data_may_be_files_folders_and_globs_each_file_once(tmp_path):
    for name in ("b.txt", "a.txt", "notes.md", "sub/c.txt", "sub/d.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def found(*data):
        recipe = Recipe.checked({"name": "x", "data": list(data)})
        return [str(path.relative_to(tmp_path)) for path in recipe.paths(tmp_path)]

    assert found("b.txt", "a.txt") == ["b.txt", "a.txt"]
    assert found(".") == ["a.txt", "b.txt"]
    assert found("sub") == ["sub/c.txt"]
    assert found("*.txt") == ["a.txt", "b.txt"]
    assert found("**/*.txt", "sub/d.csv") == ["a.txt", "b.txt", "sub/c.txt", "sub/d.csv"]
    assert found(str(tmp_path / "sub" / "*"), "a.txt", "a.txt") == [
        *("sub/c.txt", "sub/d.csv", "a.txt")
    ]


@pytest.mark.parametrize(
    ("entry", "line", "message"),
    [
        ("gone.txt", 3, "data 'gone.txt' is not there"),
        ("*.list", 3, "data '*.list' matches no file"),
        ("empty", 3, "data 'empty' matches no file"),
        ("a**b/*", 3, "data 'a**b/*' matches no file"),
    ],
)
def test_data_that_is_not_there_is_named_with_file_and_line(entry, line, message, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").touch()
    path = written(tmp_path, f'data = [\n  "a.txt",\n  "{entry}",\n]\n')
    with pytest.raises(CorpusError) as caught:
        read_recipe(path).paths(tmp_path, path)
    assert str(caught.value).startswith(f"{path}:{line}: {message}")


def test_what_weights_do_not_follow_from_is_not_described(tmp_path):
    said = {"gate": {"tolerance": 0.5}, "retraining": {"hook": ["x"]}}
    recipe = Recipe.checked({"name": "a", "data": ["secret/place/a.txt"], **said})
    assert set(recipe.described()) == {"name", "data", "corpus", "network", "training"}
    assert recipe.described()["data"] == ["a.txt"]


def test_a_recipe_that_is_not_there_or_not_text_is_an_error_of_ours(tmp_path):
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "no.toml", tmp_path, tmp_path / "bytes.toml"):
        with pytest.raises(CharRNNError, match=str(path)):
            read_recipe(path)


def test_what_a_recipe_says_stays_and_the_rest_follows_from_the_data(tmp_path):
    corpus = small_corpus("names", tmp_path)
    said = {"network": {"hidden_size": 7}, "training": {"learning_rate": 0.5}}
    recipe = Recipe.checked({"name": "a", "data": ["names.txt"], **said}).completed(corpus)
    assert (recipe.network.hidden_size, recipe.training.learning_rate) == (7, 0.5)
    assert recipe.network.dropout > 0
    assert recipe.corpus.kind == "names"


@pytest.mark.parametrize(
    ("kind", "mask", "recurrent"), [("names", "sequence", 0.3), ("text", "step", 0)]
)
def test_names_are_learned_with_masks_that_last_and_text_is_not(kind, mask, recurrent, tmp_path):
    corpus = small_corpus(kind, tmp_path)
    network = Recipe.checked({"name": "a", "data": [f"{kind}.txt"]}).completed(corpus).network
    assert (network.dropout_mask, network.recurrent_dropout) == (mask, recurrent)
    said = Recipe.checked({"name": "a", "data": ["x"], "network": {"recurrent_dropout": 0}})
    assert said.completed(corpus).network.recurrent_dropout == 0


@pytest.mark.parametrize(
    ("kind", "said", "steps", "share"),
    [
        ("text", {}, 200, 0.2),
        ("text", {"warmup_steps": 30}, 30, None),
        ("text", {"warmup_steps": 30, "warmup_share": 0.5}, 30, 0.5),
        ("text", {"warmup_share": 0.5}, 200, 0.5),
        ("names", {}, 50, None),
    ],
)
def test_text_warms_up_for_longer_within_a_share_and_steps_that_are_said_are_meant_whole(
    kind, said, steps, share, tmp_path
):
    corpus = small_corpus(kind, tmp_path)
    recipe = Recipe.checked({"name": "a", "data": [f"{kind}.txt"], "training": said})
    for again in (recipe.completed(corpus), recipe.completed(corpus).completed(corpus)):
        assert (again.training.warmup_steps, again.training.warmup_share) == (steps, share)


@pytest.mark.parametrize("kind", ["names", "text"])
@pytest.mark.parametrize(
    ("rule", "rate", "decay"),
    [("adamw", 0.02, 0.05), ("adam", 0.02, 0), ("sgd", 1.0, 0), ("adagrad", 0.1, 0)],
)
def test_another_update_rule_has_a_rate_of_its_own_and_no_decay(kind, rule, rate, decay, tmp_path):
    corpus = small_corpus(kind, tmp_path)
    values = {"name": "a", "data": [f"{kind}.txt"], "training": {"optimizer": rule}}
    training = Recipe.checked(values).completed(corpus).training
    assert (training.learning_rate, training.weight_decay) == (rate, decay)
    values["training"]["learning_rate"] = 0.5
    assert Recipe.checked(values).completed(corpus).training.learning_rate == 0.5


def test_a_larger_list_gets_a_larger_network(tmp_path):
    sizes = []
    for copies in (1, 30):
        path = tmp_path / f"{copies}.txt"
        suffixes = ["", *[chr(97 + k % 26) * (1 + k // 26) + "o" for k in range(copies - 1)]]
        path.write_text("\n".join(n + s for s in suffixes for n in name_list(900).split("\n")))
        corpus = load_corpus([path], CorpusConfig())
        sizes.append(recipe_for(path).completed(corpus).network.hidden_size)
    assert sizes[0] < sizes[1]


def test_a_bare_file_that_is_a_link_stays_one(tmp_path, monkeypatch):
    (tmp_path / "today.txt").write_text(name_list(30))
    (tmp_path / "current.txt").symlink_to("today.txt")
    monkeypatch.chdir(tmp_path)
    recipe = recipe_for(Path("current.txt"))
    assert (recipe.name, recipe.data) == ("current", [str(tmp_path / "current.txt")])


def test_a_pipe_is_refused_since_it_is_read_but_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match="pipe: must be a file, since it is read more than once"):
        recipe_for(tmp_path / "pipe")


def test_a_written_recipe_reads_back_equal(tmp_path):
    corpus = small_corpus("text", tmp_path)
    recipe = Recipe.checked({"name": "a", "data": ["text.txt"]}).completed(corpus)
    assert read_recipe(written(tmp_path, write_recipe(recipe))) == recipe


def test_a_kept_recipe_looks_at_the_data_again(tmp_path):
    corpus = small_corpus("names", tmp_path)
    kept = Recipe.checked({"name": "a", "data": ["names.txt"]}).to_keep(corpus)
    assert (kept.corpus.case, kept.corpus.kind, kept.training.steps) == ("auto", "auto", None)
    assert kept.network == kept.completed(corpus).network


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("my-list.txt", "my-list"),
        ("My List.txt", "my-list"),
        ("Élan vital.txt", "elan-vital"),
        ("恐竜.txt", "model"),
        (".hidden", "hidden"),
        ("a" * 200 + ".txt", "a" * 64),
    ],
)
def test_a_model_is_named_after_its_file(file, name):
    assert name_for(Path(file)) == name


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_whole_and_its_data_is_there(path):
    recipe = read_recipe(path)
    assert all(file.is_file() for file in recipe.paths(path.parent))
    assert recipe.training.steps or recipe.training.minutes
    assert "processes" in tomllib.loads(path.read_text())["training"]  # it decides the last bits


def test_what_younger_settings_were_before_is_not_said():
    recipe = Recipe.checked({"name": "a", "data": ["a.txt"]})
    said = recipe.described()
    assert "unit" not in said["corpus"]
    assert "summed" not in said["training"]
    assert "word_dropout" not in said["training"]
    other = recipe.changed(corpus={"unit": "word"}, training={"summed": True}).described()
    assert (other["corpus"]["unit"], other["training"]["summed"]) == ("word", True)


@pytest.mark.parametrize(
    ("kind", "unit", "size"),
    [
        ("chat", "character", 10**5),
        ("text", "character", 10**6),
        ("text", "word", 10**4),
        ("text", "word", 10**6),
        *(("names", "character", size) for size in (10**3, 10**4, 10**6)),
    ],
)
def test_what_follows_from_the_data_is_known_to_do_so(kind, unit, size):
    vocabulary = SimpleNamespace(unit=unit)
    corpus = SimpleNamespace(kind=kind, vocabulary=vocabulary, characters=lambda part: size)
    suited = defaults_for(corpus)
    assert {*suited.network, *suited.training} <= SIZED
    assert all(other.keys() <= SIZED for other in OTHER_RULES.values())
