"""The command line as a user meets it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from charrnn.cli import main
from charrnn.memory import peak_memory
from charrnn.progress import duration, size
from charrnn.store import Store
from charrnn.vocabulary import Vocabulary
from charrnn.weights import to_bytes
from tests.models import TITLE_NAMES, frozen
from tests.training_runs import name_list, running_text

COMMANDS = ("train", "sample", "chat", "evaluate", "models")
VERSION_COMMANDS = ("retrain", "history", "rollback", "promote", "prune")
QUICK = ("--steps", "40", "--hidden-size", "12", "--processes", "1")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder with a list and a text, and no weights yet."""
    (tmp_path / "my-list.txt").write_text(name_list(150).title())
    (tmp_path / "story.txt").write_text(running_text(5_000))
    monkeypatch.setenv("CHARRNN_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def charrnn(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", [*COMMANDS, *VERSION_COMMANDS])
def test_each_command_has_two_examples_that_name_it(command):
    page = charrnn(command, "--help").output
    assert len(re.findall(rf"^ +python -m charrnn {command}\b", page, re.MULTILINE)) == 2
    assert "--weights" in page


def test_options_show_the_bounds_owners_defaults():
    page = " ".join(charrnn("train", "--help").output.split())
    assert "[default: by the size of the data]" in page
    assert "[default: adamw]" in page
    assert "[auto|names|text|chat]" in page


def test_a_list_becomes_a_model_that_samples_scores_and_is_listed(place):
    trained = charrnn("train", "my-list.txt", *QUICK)
    assert trained.exit_code == 0, trained.output
    # Of the 150, those that it is chosen by and those that it is tested on: never seen in training.
    assert re.findall(r"on (\d+) names", trained.stdout) == ["20", "11"]
    for said in (
        "names: ",
        "written in title case",
        "this will take about",
        "B of memory\n" if peak_memory() else "\n",
        "python -m charrnn sample my-list --count 10",
        'curl -d \'{"model": "my-list", "count": 5}\' localhost:8000/generate',
        "nats per character on",
    ):
        assert said in trained.output
    sampled = charrnn("sample", "my-list", "--seed", "KA", "--count", 3, "--random-seed", 5)
    names = sampled.stdout.splitlines()
    assert len(names) == 3
    assert all(name.startswith("Ka") for name in names)
    assert charrnn(
        "sample", "my-list", "--seed", "ka", "--count", 3, "--random-seed", 5
    ).stdout == (sampled.stdout)
    assert "my-list" in charrnn("models").stdout
    table = charrnn("evaluate", "my-list", "--samples", 0).stdout
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["train", "validation", "test"]
    figures = json.loads(charrnn("evaluate", "my-list", "--samples", 0, "--json").stdout)
    assert figures["splits"]["test"]["nats_per_character"] > 0
    assert "samples" not in figures
    assert json.loads(charrnn("models", "--json").stdout)[0]["name"] == "my-list"


def test_evaluate_compares_what_is_drawn_with_what_is_real(place):
    charrnn("train", "my-list.txt", *QUICK)
    few = ("--samples", 200, "--rediscovery", 300, "--temperature", 0.8, "--random-seed", 4)
    table = charrnn("evaluate", "my-list", *few)
    assert "drawing 300 texts" in table.stderr
    head = table.stdout.splitlines()[6]
    assert head.split("  ")[0] == "200 drawn at temperature 0.8"
    for said in ("in no split of the list", "letter pairs, total variation", "among 300 drawn"):
        assert said in table.stdout
    assert charrnn("evaluate", "my-list", *few).stdout == table.stdout
    found = json.loads(charrnn("evaluate", "my-list", *few, "--json").stdout)["samples"]
    assert (found["samples"], found["rediscovery_samples"]) == (200, 300)
    assert 0 < found["novel"] <= 1
    for name in ("letter_pairs", "lengths", "nearest"):
        assert 0 < found[name]["real"] < 1
        assert 0 < found[name]["generated"] <= 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--samples", -1, "samples must be from 0 to 100000, got -1"),
        ("--temperature", "nan", "temperature must be"),
        ("--random-seed", -1, "random_seed must be"),
    ],
)
def test_what_evaluate_is_told_wrongly_is_named(option, value, message, place):
    charrnn("train", "my-list.txt", *QUICK)
    answer = charrnn("evaluate", "my-list", option, value)
    assert answer.exit_code == 2
    assert message in answer.stderr


@pytest.mark.parametrize(
    ("kind", "names", "what"),
    [("names", TITLE_NAMES, "how its names were split"), ("text", (), "its losses")],
)
def test_a_file_that_tells_nothing_of_its_training_is_not_evaluated(kind, names, what, tmp_path):
    vocabulary = Vocabulary.of(TITLE_NAMES, ends=kind == "names")
    path = tmp_path / "plain.safetensors"
    path.write_bytes(to_bytes(frozen(kind, vocabulary, names)))
    answer = charrnn("evaluate", path, "--samples", 0)
    assert answer.exit_code == 1
    assert answer.stderr.startswith(f"error: plain: its file doesn't say {what}; evaluate one")


def test_the_random_seed_that_was_drawn_gives_the_same_again(place):
    charrnn("train", "my-list.txt", *QUICK)
    first = charrnn("sample", "my-list", "--count", 4)
    drawn = re.search(r"the same again: --random-seed (\d+)", first.stderr).group(1)
    assert charrnn("sample", "my-list", "--count", 4, "--random-seed", drawn).stdout == first.stdout


def test_json_samples_have_the_form_of_the_services_answer(place):
    charrnn("train", "my-list.txt", *QUICK)
    answer = json.loads(charrnn("sample", "my-list", "--count", 2, "--json").stdout)
    assert list(answer) == [
        *("model", "version", "seed", "random_seed", "samples", "requested", "shortfall")
    ]
    assert list(answer["samples"][0]) == ["text", "logprob", "finish_reason", "novel"]


def test_running_text_is_taken_for_what_it_is(place):
    trained = charrnn("train", "story.txt", *QUICK)
    assert trained.exit_code == 0, trained.output
    assert "blocks of text" in trained.output
    text = charrnn("sample", "story", "--max-length", 30, "--random-seed", 1).stdout
    assert len(text.rstrip("\n")) == 30
    table = charrnn("evaluate", "story", "--samples", 3).stdout
    assert "test" in table
    assert "3 drawn at temperature 1" in table
    assert "that repeat themselves" in table


def test_a_live_name_is_refused_pointing_to_retrain(place):
    charrnn("train", "my-list.txt", *QUICK)
    again = charrnn("train", "my-list.txt", *QUICK)
    assert again.exit_code == 1
    assert "`python -m charrnn retrain my-list`" in again.stderr
    assert charrnn("train", "my-list.txt", "--name", "other", *QUICK).exit_code == 0
    assert Store().models() == ["my-list", "other"]


def test_retrain_replaces_or_says_why_not(place):
    charrnn("train", "my-list.txt", *QUICK)
    again = charrnn("retrain", "my-list", "--quiet")
    assert again.exit_code == 10, again.output
    assert again.stdout.startswith("unchanged: data and recipe are as they were at the last attem")
    (place / "my-list.txt").write_text(name_list(160).title())
    grown = charrnn("retrain", "my-list", "--quiet", "--promote-anyway")
    assert grown.exit_code == 0, grown.output
    assert "live: " in grown.stdout
    assert grown.stderr == ""


def test_a_recipe_with_options_on_top_keeps_what_it_was_trained_by(place):
    folder = place / "recipes"
    folder.mkdir()
    (folder / "beasts.toml").write_text('data = ["../my-list.txt"]\n[training]\nsteps = 30\n')
    trained = charrnn("train", folder / "beasts.toml", *QUICK)
    assert trained.exit_code == 0, trained.output
    assert Store().current("beasts").recipe == "weights/beasts/recipe.toml"
    assert charrnn("retrain", "beasts", "--quiet").exit_code == 10


def test_a_link_to_data_stays_one_in_the_recipe_that_is_kept(place):
    (place / "current.txt").symlink_to("my-list.txt")
    (place / "current.toml").write_text('data = ["current.txt"]')
    for source, name in (("current.txt", "current"), ("current.toml", "other")):
        assert charrnn("train", source, *QUICK, "--name", name).exit_code == 0
        kept = (Store().folder(name) / "recipe.toml").read_text()
        assert f'"{place / "current.txt"}"' in kept


def test_a_recipe_as_it_is_is_referred_to(place):
    (place / "beasts.toml").write_text(
        'data = ["my-list.txt"]\n[network]\nhidden_size = 9\n[training]\nsteps = 30\n'
        "processes = 1\n"
    )
    assert charrnn("train", "beasts.toml").exit_code == 0
    assert Store().current("beasts").recipe == "beasts.toml"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train", "nowhere.txt"], 2, "nowhere.txt: can't be read: No such file"),
        (["train", "my-list.txt", "--hidden-size", "0"], 2, "hidden_size must be from 1 to 4096"),
        (["train", "my-list.txt", "--cell", "elman"], 2, "cell must be one of rnn, lstm, gru"),
        (["train", "my-list.txt", "--steps", "x"], 2, "'x' is not a valid integer"),
        (["train", "my-list.txt", "--name", "../up"], 2, "name "),
        (["train", "my-list.txt", "--name", ""], 2, "name must be 1 to 64 lower-case letters"),
        (["sample", "nothing"], 1, "no model 'nothing'"),
        (["sample", "nothing.safetensors"], 1, "no such weights file"),
        (["sample", "../weights"], 2, "model must be 1 to 64 lower-case letters"),
        (["evaluate", "nothing"], 1, "train my-list.txt"),
        (["retrain", "nothing"], 1, "no model 'nothing'"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_a_mistake_is_one_line_and_a_status(arguments, status, message, place):
    result = charrnn(*arguments)
    assert result.exit_code == status
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (place / "weights" / "my-list" / "CURRENT.json").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--temperature", "-1"], 2, "temperature must be from 0 to 10, got -1"),
        (["--temperature", "nan"], 2, "temperature must be a finite number"),
        (["--seed", "ka☃"], 1, "character '☃' (U+2603) at position 2 is unknown"),
        (["--seed", "kakaka", "--max-length", "3"], 2, "max_length must be at least the seed's"),
        (["--version", "abcdef"], 1, "doesn't exist; those kept are"),
    ],
)
def test_a_wrong_request_names_the_rule(arguments, status, message, place):
    charrnn("train", "my-list.txt", *QUICK)
    result = charrnn("sample", "my-list", *arguments)
    assert result.exit_code == status
    assert message in result.stderr


def test_no_model_yet_says_how_to_get_one(place):
    result = charrnn("models")
    assert result.exit_code == 0
    assert "python -m charrnn train my-list.txt" in result.stderr


def started(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "charrnn", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        **options,
    )


def test_ctrl_c_saves_a_checkpoint_that_the_same_command_goes_on_from(place):
    command = ("train", "my-list.txt", "--steps", "3000", "--hidden-size", "64", "--processes", "1")
    process = started(*command)
    for line in process.stderr:
        if line.startswith("step "):
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"stopped at step [\d,]+; the same command goes on from there", error)
    assert "Traceback" not in error
    process = started(*command)
    for line in process.stderr:
        if "going on from the checkpoint at step" in line:
            break
    else:
        pytest.fail("it began anew")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_ctrl_c_at_a_run_of_several_processes_stops_it_cleanly_and_keeps_its_bytes(place):
    command = ["train", "my-list.txt", "--steps", "300", "--hidden-size", "64", "--processes", "3"]
    with started(*command, process_group=0) as process:  # a terminal asks all of them
        for line in process.stderr:
            if line.startswith("step "):
                break
        os.killpg(process.pid, signal.SIGINT)
        out, error = process.communicate(timeout=60)  # ends when the workers have, too
    assert process.returncode == 130
    assert out == ""
    assert re.search(r"stopped at step [\d,]+; the same command goes on from there", error)
    assert "Traceback" not in error
    assert "going on from the checkpoint at step" in charrnn(*command).stderr
    calm = charrnn(*command, "--weights", place / "calm", "--quiet")
    assert f"charrnn sample my-list --count 10 --weights {place / 'calm'}\n" in calm.stdout
    versions = [Store(root).live_version("my-list") for root in (None, place / "calm")]
    assert versions[0] == versions[1]


def test_a_second_training_of_the_same_name_is_refused_while_the_first_goes_on(place):
    first = started("train", "my-list.txt", "--steps", "5000", "--processes", "1")
    try:
        for line in first.stderr:
            if line.startswith("step "):
                break
        began = time.monotonic()
        second = charrnn("train", "my-list.txt", *QUICK)
        assert second.exit_code == 12
        assert "is being trained by another process" in second.stderr
        assert time.monotonic() - began < 30
    finally:
        first.kill()
        first.communicate()
    assert charrnn("train", "my-list.txt", *QUICK).exit_code == 0


def test_a_reader_that_has_had_enough_is_no_error(place):
    charrnn("train", "my-list.txt", *QUICK)
    process = started("sample", "my-list", "--count", "5000", "--max-length", "12")
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert "Traceback" not in error
    assert "error" not in error


def test_a_full_disk_is_one_line(place, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("charrnn.store.write_atomically", full)
    result = charrnn("train", "my-list.txt", *QUICK)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert Store().models() == []


@pytest.mark.parametrize(
    ("seconds", "said"), [(3.2, "3 s"), (89, "89 s"), (120, "2 min"), (7200, "2.0 h")]
)
def test_durations_are_said_as_people_do(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(64_200_000, "64 MB"), (994_000_000, "994 MB"), (999_000_000, "1.0 GB"), (2.34e10, "23.4 GB")],
)
def test_sizes_are_said_as_people_do(count, said):
    assert size(count) == said


def test_models_goes_on_past_a_broken_one_and_fails_at_the_end(place):
    charrnn("train", "my-list.txt", *QUICK)
    broken = place / "weights" / "broken"
    broken.mkdir()
    (broken / "CURRENT.json").write_text("{}")
    result = charrnn("models")
    assert result.exit_code == 1
    assert "my-list" in result.stdout
    assert "can't be read as the record of a live version (it has no 'version')" in result.stderr


def test_ctrl_c_while_sampling_ends_with_130(place):
    charrnn("train", "story.txt", *QUICK)
    process = started("sample", "story", "--max-length", "1000000")
    process.stdout.read(5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip().endswith("stopped")


def test_three_names_and_fifty_learn_more_than_their_letters(place):
    for count in (3, 20, 50):
        (place / f"n{count}.txt").write_text(name_list(count))
        assert charrnn("train", f"n{count}.txt", "--quiet").exit_code == 0
    figures = json.loads(charrnn("evaluate", "n50", "--samples", 0, "--json").stdout)["splits"][
        "train"
    ]
    assert figures["perplexity"] < 8  # of 17 symbols
