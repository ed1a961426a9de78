"""What a training came to, as others hear of it."""

from charrnn.outcomes import Changes, Outcome, write_report
from charrnn.training import Run
from tests import builders
from tests.training_runs import small_corpus, small_recipe


def test_changes_are_those_of_the_names_as_people_write_them(tmp_path):
    before = builders.frozen()  # Allo, Brachio, Tarbo-Rex
    corpus = builders.corpus_of(tmp_path, "Allo\nTarbo-Rex\nTyranno\nYi\n")
    changes = Changes.since(before, corpus)
    assert (changes.added, changes.removed) == (("Tyranno", "Yi"), ("Brachio",))
    assert Changes.since(None, corpus) == Changes()


def test_a_report_for_which_there_is_no_room_does_not_undo_the_run(tmp_path, monkeypatch, caplog):
    trained = Run(small_recipe("names", steps=2), small_corpus("names", tmp_path)).train()
    outcome = Outcome("small", trained.version, "promoted", "first version", trained=trained)
    path = tmp_path / "reports" / "page.html"
    assert write_report(outcome, path, tmp_path) == path

    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("charrnn.outcomes.write_atomically", full)
    assert write_report(outcome, path, tmp_path) is None
    assert "No space left on device" in caplog.text


def test_a_report_of_running_text_has_samples_and_a_curve_too(tmp_path):
    trained = Run(
        small_recipe("text", steps=20), small_corpus("text", tmp_path), tmp_path / "run"
    ).train()
    outcome = Outcome("small", trained.version, "promoted", "first version", trained=trained)
    text = write_report(outcome, tmp_path / "page.html", tmp_path / "run").read_text()
    assert text.count("<li>") == 60
    assert "<svg" in text
