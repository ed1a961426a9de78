import logging
import os
import time

import pytest

from api import keys
from api.errors import StartError
from api.keys import KeyRing, Keys

ONE, TWO = "0ne" * 8, "tw0" * 8


@pytest.fixture
def at_once(monkeypatch):
    """A file is looked at each time, not only twice a second."""
    monkeypatch.setattr(keys, "RECHECK_SECONDS", 0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"{ONE}\n")
    return path


def rewrite(path, text):
    """As an editor does: a new file in the place of the old one, with a time of its own."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.utime(fresh, ns=(0, time.monotonic_ns()))
    fresh.replace(path)


def test_each_of_several_keys_is_known_and_nothing_else():
    ring = KeyRing(Keys.listed(f"{ONE}, {TWO},"))
    assert len(ring) == 2
    assert ring.know(ONE)
    assert ring.know(TWO)
    for other in ("", ONE[:-1], ONE + "x", ONE.upper(), f"{ONE},{TWO}", f" {ONE}", "\ud800", "☃"):
        assert not ring.know(other)


def test_keys_are_compared_all_of_them_in_constant_time(monkeypatch):
    compared = []

    def compare(one, other):
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    many = Keys.listed(",".join(f"{n:020}" for n in range(50)))
    assert many.know(f"{0:020}")
    assert not many.know("x")
    assert compared == [(32, 32)] * 100, "digests: their length tells nothing of a key's"


def test_a_thousand_keys_are_the_most():
    assert len(Keys(f"{n:020}" for n in range(1000))) == 1000
    with pytest.raises(ValueError, match="must have at most 1000 keys, and has 1001"):
        Keys(f"{n:020}" for n in range(1001))


def test_what_a_key_was_is_not_in_what_is_kept_of_it():
    kept = Keys.listed(ONE)
    assert repr(kept) == "<1 keys>"
    assert ONE not in f"{vars(kept)}"


def test_a_file_has_a_key_a_line_comments_and_blank_lines(tmp_path):
    path = tmp_path / "keys"
    path.write_bytes(f"\ufeff# the web shop\r\n{ONE}  # since May\r\n\r\n  {TWO}".encode())
    ring = KeyRing(None, str(path))
    assert len(ring) == 2
    assert ring.know(ONE)
    assert ring.know(TWO)


def test_the_keys_of_the_settings_and_of_the_file_hold_together(file):
    ring = KeyRing(Keys.listed(TWO), str(file))
    assert ring.know(ONE)
    assert ring.know(TWO)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no key; `openssl rand -hex 24` makes a good one"),
        (b"# nothing yet\n\n", "has no key"),
        (b"s3cret\n", "must have keys of 16 to 256 characters; key 1 has 6"),
        (f"{ONE}\n{TWO} s3cret\n".encode(), "must have keys of ASCII letters, digits and signs"),
        (b"\xff\xfe\x00", "must be UTF-8"),
        (b"#" * 1_048_577, "must have at most 1048576 bytes"),
    ],
)
def test_a_file_that_will_not_do_stops_the_start_and_shows_no_key(tmp_path, content, message):
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(StartError) as caught:
        KeyRing(None, str(path))
    assert f"CHARRNN_API_KEYS_FILE ({path}) {message}" in str(caught.value)
    assert not any(key in str(caught.value) for key in (ONE, TWO, "s3cret"))


def test_a_file_that_is_none_stops_the_start(tmp_path):
    with pytest.raises(StartError, match="can't be read: No such file or directory"):
        KeyRing(None, str(tmp_path / "nothing"))
    with pytest.raises(StartError, match="must be a regular file"):
        KeyRing(None, str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StartError, match="must be a regular file"):
        KeyRing(None, str(tmp_path / "pipe"))


def test_a_file_that_changes_is_read_again(file, at_once, caplog):
    caplog.set_level(logging.INFO)
    ring = KeyRing(None, str(file))
    rewrite(file, f"{TWO}\n")
    assert ring.know(TWO)
    assert not ring.know(ONE), "a key that was taken out is refused"
    assert caplog.messages == [f"CHARRNN_API_KEYS_FILE ({file}): 1 keys are in force"]


def test_a_file_is_looked_at_only_now_and_then(file, monkeypatch):
    monkeypatch.setattr(keys, "RECHECK_SECONDS", 3600)
    ring = KeyRing(None, str(file))
    rewrite(file, f"{TWO}\n")
    assert ring.know(ONE)


def test_a_file_that_was_emptied_leaves_no_key(file, at_once):
    ring = KeyRing(None, str(file))
    rewrite(file, "# all revoked\n")
    assert not ring.know(ONE)


@pytest.mark.parametrize("content", ["s3cret\n", None])
def test_a_change_that_will_not_do_is_logged_once_and_changes_nothing(
    file, at_once, caplog, content
):
    ring = KeyRing(None, str(file))
    if content is None:
        file.unlink()
    else:
        rewrite(file, content)
    assert all(ring.know(ONE) for _ in range(3))
    (message,) = caplog.messages
    assert message.endswith("; the keys of before stay in force")
    assert "s3cret" not in message
    rewrite(file, f"{TWO}\n")
    assert ring.know(TWO)
    assert not ring.know(ONE)
