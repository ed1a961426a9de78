"""Files that are whole or absent, against kills, full disks and each other."""

import errno
import os
import stat
import threading

import pytest

from charrnn.files import (
    TEMPORARY,
    append_line,
    canonical_json,
    read_json_lines,
    sweep,
    write_atomically,
)
from tests import builders


def entries(folder):
    return sorted(entry.name for entry in folder.iterdir())


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_write_makes_the_folders_and_the_bytes(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    for data in (b"", b"\0\xff" * 100_000, b"short"):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert entries(path.parent) == ["file.bin"]


def test_a_killed_writer_leaves_the_old_bytes_or_the_new_ones(tmp_path):
    builders.run("rewriting", tmp_path, 8)


@pytest.mark.prove
def test_eighty_killed_writers_leave_the_old_bytes_or_the_new_ones(tmp_path):
    builders.run("rewriting", tmp_path, 80)


def test_writers_at_once_never_mix_their_bytes_nor_their_lines(tmp_path):
    builders.run("writing_at_once", tmp_path)


def test_a_file_that_may_not_grow_keeps_its_old_bytes(tmp_path):
    builders.run("writing_beyond_a_limit", tmp_path)


class FullFile:
    """A file on a disk that is full after its first bytes."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        self.file.write(data[:3])
        full_disk()


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_bytes_and_nothing_else(where, tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    write_atomically(path, b"old")
    original = type(path).open
    broken = {
        "write": (type(path), "open", lambda *a, **k: FullFile(original(*a, **k))),
        "fsync": (os, "fsync", full_disk),
        "replace": (type(path), "replace", full_disk),
    }[where]
    with monkeypatch.context() as patch:
        patch.setattr(*broken)
        with pytest.raises(OSError, match="No space left") as caught:
            write_atomically(path, b"the new bytes")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert entries(tmp_path) == ["file.bin"]


def test_an_interrupt_leaves_the_old_bytes_and_nothing_else(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    path = tmp_path / "file.bin"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert entries(tmp_path) == ["file.bin"]


def test_a_target_that_can_not_be_replaced_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").touch()
    (tmp_path / "file").touch()
    for path in (tmp_path / "folder", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"directory|exists"):
            write_atomically(path, b"new")
    assert entries(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error_and_keeps_the_old_bytes(tmp_path):
    path = tmp_path / "file.bin"
    write_atomically(path, b"old")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            write_atomically(path, b"new")
        assert entries(tmp_path) == ["file.bin"]
    finally:
        tmp_path.chmod(0o700)
    assert path.read_bytes() == b"old"


def test_a_folder_that_refuses_new_files_keeps_the_old_bytes(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    write_atomically(path, b"old")

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "open", refuse)
        with pytest.raises(OSError, match="Read-only"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o000])
def test_a_files_mode_obeys_the_umask_whatever_the_old_files_was(mask, tmp_path):
    path = tmp_path / "file.bin"
    before = os.umask(mask)
    try:
        for _ in range(2):
            write_atomically(path, b"data")
            assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
            path.chmod(0o400)
        assert os.umask(mask) == mask
    finally:
        os.umask(before)


def test_threads_that_write_at_once_leave_the_umask_as_it_was(tmp_path, monkeypatch):
    before = os.umask(0o022)
    os.umask(before)
    changed = []
    monkeypatch.setattr(os, "umask", changed.append)
    threads = [
        threading.Thread(target=write_atomically, args=(tmp_path / str(n), b"x")) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert changed == []
    assert entries(tmp_path) == ["0", "1", "2", "3"]


def test_a_sweep_removes_what_killed_writers_left_and_nothing_else(tmp_path):
    (tmp_path / f".CURRENT.json.abc{TEMPORARY}").touch()
    (tmp_path / f".x.safetensors.0123{TEMPORARY}").touch()
    for kept in ("CURRENT.json", f"mine{TEMPORARY}", ".hidden"):
        (tmp_path / kept).touch()
    sweep(tmp_path)
    assert entries(tmp_path) == sorted([".hidden", "CURRENT.json", f"mine{TEMPORARY}"])
    sweep(tmp_path / "absent")
    sweep(tmp_path / "CURRENT.json")


def test_appended_lines_are_read_back_in_order(tmp_path):
    path = tmp_path / "new folder" / "log.jsonl"
    for n in range(5):
        append_line(path, canonical_json({"n": n, "text": "ä\n恐"}))
    assert [line["n"] for line in read_json_lines(path)] == list(range(5))
    assert read_json_lines(path)[0]["text"] == "ä\n恐"


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_after_a_torn_one_is_read(cut, tmp_path):
    path = tmp_path / "log.jsonl"
    append_line(path, '{"n":0}')
    append_line(path, '{"n":"é恐"}')
    path.write_bytes(path.read_bytes()[:-cut])
    append_line(path, '{"n":2}')
    numbers = [line["n"] for line in read_json_lines(path)]
    assert numbers == ([0, "é恐", 2] if cut == 1 else [0, 2])


def test_lines_that_are_no_objects_are_passed_over(tmp_path):
    path = tmp_path / "log.jsonl"
    good = b'{"n":1}'
    bad = [b"", b"[1]", b"5", b"null", b'"text"', b"{", b"\xff\xfe", b"\0", b"[" * 100_000]
    bad.append(b'{"n":' + b"1" * 5000 + b"}")
    path.write_bytes(b"\n".join([good, *bad, good]))
    assert read_json_lines(path) == [{"n": 1}, {"n": 1}]


def test_an_absent_log_has_no_lines(tmp_path):
    (tmp_path / "file").touch()
    assert read_json_lines(tmp_path / "absent.jsonl") == []
    assert read_json_lines(tmp_path / "file" / "log.jsonl") == []
    assert read_json_lines(tmp_path / "file") == []


def test_a_full_disk_in_an_append_keeps_the_lines_before(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    append_line(path, '{"n":0}')
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            append_line(path, '{"n":1}')
    append_line(path, '{"n":2}')
    assert [line["n"] for line in read_json_lines(path)] in ([0, 2], [0, 1, 2])


def test_one_value_has_one_canonical_text():
    assert canonical_json({"b": 1, "a": [1.5, None, "é"]}) == '{"a":[1.5,null,"\\u00e9"],"b":1}'
    assert canonical_json({"a": [1.5, None, "é"], "b": 1}) == canonical_json(
        {"b": 1, "a": [1.5, None, "é"]}
    )
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"loss": float("nan")})
