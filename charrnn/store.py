"""The weights folder: a folder a model, a file a version, and which version is live.

weights/dinosaurs/
  3f9ac2….safetensors    immutable, named by the SHA-256 of its bytes
  CURRENT.json           which file is live, its scores, when, why; replaced atomically
  history.jsonl          one line for each promotion, refusal and rollback
  SHIPPED                the versions that came with the program: they are never deleted
  run/                   checkpoint, metrics and reports of trainings
weights/.texts/          large texts, encoded to be learned from; it may be removed
"""

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from charrnn.config import MODEL_NAME_PATTERN, MODEL_NAME_RULE
from charrnn.errors import (
    ConfigError,
    FieldProblem,
    PromotionError,
    WeightsCorruptError,
    WeightsMissingError,
    shown,
)
from charrnn.files import append_line, read_json_lines, write_atomically
from charrnn.weights import FrozenModel, from_bytes, read_file, sha256_of

SUFFIX = ".safetensors"
SHORT_VERSION = 12  # hex digits that people and answers name a version by
SHORTEST_PREFIX = 6
HISTORY = "history.jsonl"
SHIPPED = "SHIPPED"
ROLLED_BACK = "rolled back"
LIVE_EVENTS = ("promoted", ROLLED_BACK)
TEXTS = ".texts"  # no model can have such a name


def default_root() -> Path:
    """Where weights are when nobody says: CHARRNN_WEIGHTS, the repository that this library runs
    from, or `weights` in the current folder.
    """
    named = os.environ.get("CHARRNN_WEIGHTS")
    return Path(named) if named else _repository_root() or Path("weights")


def shipped_root() -> Path | None:
    """The weights that ship: of the repository that this library runs from, or those that were
    installed with it.
    """
    return _repository_root() or _packaged_root()


def _repository_root() -> Path | None:
    repository = Path(__file__).resolve().parent.parent
    return repository / "weights" if (repository / "pyproject.toml").is_file() else None


def spare_root() -> Path | None:
    """Where a model is looked for that isn't under `default_root`: what was installed with the
    library, unless CHARRNN_WEIGHTS names a folder. It is for reading.
    """
    return None if os.environ.get("CHARRNN_WEIGHTS") else _packaged_root()


def _packaged_root() -> Path | None:
    packaged = Path(__file__).resolve().parent / "shipped"
    return packaged if packaged.is_dir() else None


class Current(NamedTuple):
    """What CURRENT.json says."""

    version: str
    promoted_at: str
    reason: str
    recipe: str | None
    evaluation: Mapping[str, Any]
    record: Mapping[str, Any]
    """All of it, as the history has it too."""


class Store:
    """Reads and changes a weights folder. Reading needs no lock; one process may write a model.

    `shipped` is the weights folder that a fresh one is filled from.
    """

    def __init__(self, root: Path | str | None = None, shipped: Path | None = None) -> None:
        self.root = default_root() if root is None else Path(root)
        self.shipped = shipped or shipped_root()

    @property
    def texts(self) -> Path:
        """Where large texts are kept that were encoded to be learned from: CHARRNN_CACHE, or a
        folder beside the models.
        """
        named = os.environ.get("CHARRNN_CACHE")
        return Path(named) if named else self.root / TEXTS

    def folder(self, name: str) -> Path:
        """A model's folder. Raises ConfigError for a name that can't be one."""
        if not re.fullmatch(MODEL_NAME_PATTERN, name):
            raise ConfigError([FieldProblem("model", MODEL_NAME_RULE, shown(name))])
        return self.root / name

    def models(self) -> list[str]:
        """The models with a live version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(
            entry.name
            for entry in self.root.iterdir()
            if re.fullmatch(MODEL_NAME_PATTERN, entry.name) and _is_there(entry / "CURRENT.json")
        )

    def or_packaged(self, name: str) -> "Store":
        """This store; or the one that was installed with the library, where that has a model that
        this one lacks.
        """
        spare = spare_root()
        if spare is None or name in self.models():
            return self
        installed = Store(spare)
        return installed if name in installed.models() else self

    def current(self, name: str) -> Current:
        """What is live. Raises WeightsMissingError, WeightsCorruptError."""
        path = self.folder(name) / "CURRENT.json"
        try:
            data = json.loads(path.read_text("utf-8"))
            version = data["version"]
            if not re.fullmatch(r"[0-9a-f]{64}", version):
                raise ValueError("no version")
            return Current(
                version,
                str(data.get("promoted_at", "")),
                str(data.get("reason", "")),
                data.get("recipe"),
                dict(data.get("evaluation", {})),
                data,
            )
        except (FileNotFoundError, NotADirectoryError):
            raise WeightsMissingError(self._no_model(name)) from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else error
            raise WeightsCorruptError(
                f"{path}: can't be read as the record of a live version ({why}); promote a "
                "version anew, or restore it from a copy"
            ) from None

    def live_version(self, name: str) -> str:
        """The live version in short: 12 hex digits."""
        return self.current(name).version[:SHORT_VERSION]

    def versions(self, name: str) -> list[str]:
        """The full names of all versions kept, sorted."""
        return sorted(
            path.stem
            for path in self.folder(name).glob(f"*{SUFFIX}")
            if re.fullmatch(r"[0-9a-f]{64}", path.stem)
        )

    def resolve(self, name: str, version: str | None = None) -> str:
        """The full name of a version given by at least 6 of its first digits; None: the live one.

        Raises WeightsMissingError.
        """
        if version is None:
            return self.current(name).version
        if name not in self.models() and not self.versions(name):
            raise WeightsMissingError(self._no_model(name))
        found = [v for v in self.versions(name) if v.startswith(version)]
        if len(version) >= SHORTEST_PREFIX and len(found) == 1:
            return found[0]
        why = "is ambiguous" if len(found) > 1 else "doesn't exist"
        if len(version) < SHORTEST_PREFIX:
            why = f"must be at least {SHORTEST_PREFIX} of its first hex digits"
        kept = ", ".join(v[:SHORT_VERSION] for v in self.versions(name)) or "none"
        raise WeightsMissingError(
            f"version {version!r} of model {name!r} {why}; those kept are {kept}"
        )

    def load(self, name: str, version: str | None = None) -> tuple[FrozenModel, str]:
        """A version's network, and its full name. Raises WeightsError's children."""
        full = self.resolve(name, version)
        path = self.folder(name) / f"{full}{SUFFIX}"
        return from_bytes(read_file(path), str(path)), full

    def add(self, name: str, data: bytes) -> str:
        """Write a new version; it isn't live yet. Returns its full name."""
        version = sha256_of(data)
        from_bytes(data, "the version to be added")
        path = self.folder(name) / f"{version}{SUFFIX}"
        if not (path.is_file() and path.read_bytes() == data):
            write_atomically(path, data)
            _write_protect(path)
        return version

    def fill(self, name: str) -> bool:
        """Copy a model that ships with the program to this folder, where it isn't there yet.

        What is live comes last, so a copy that is cut off is made again. Returns whether there
        was anything to do.
        """
        folder = self.folder(name)
        source = self.shipped / name if self.shipped else folder
        here, there = folder / "CURRENT.json", source / "CURRENT.json"
        if here.exists() or not there.is_file() or source.resolve() == folder.resolve():
            return False
        files = [*source.glob(f"*{SUFFIX}"), source / SHIPPED, source / HISTORY, there]
        for path in files:
            if path.is_file() and not (folder / path.name).exists():  # another may fill it too
                write_atomically(folder / path.name, path.read_bytes())
            if path.suffix == SUFFIX:
                _write_protect(folder / path.name)
        return True

    def shipped_versions(self, name: str) -> frozenset[str]:
        """The versions that came with the program."""
        path = self.folder(name) / SHIPPED
        return frozenset(path.read_text("utf-8").split()) if path.is_file() else frozenset()

    def promote(
        self,
        name: str,
        version: str,
        *,
        reason: str,
        recipe: str | None = None,
        event: str = "promoted",
        details: Mapping[str, Any] | None = None,
    ) -> Current:
        """Make a kept version the live one, and write it down. Raises WeightsError's children.

        `details` go into the record: scores, hashes, duration.
        """
        model, full = self.load(name, version)
        previous, now = self.live(name), _now()
        record = {
            "version": full,
            "evaluation": dict(model.evaluation),
            "promoted_at": now,
            "reason": reason,
            "recipe": recipe,
            "event": event,
            "at": now,
            "previous": previous,
            **(details or {}),
        }
        self.mend(name)
        folder = self.folder(name)
        text = json.dumps(record, indent=2) + "\n"
        try:
            write_atomically(folder / "CURRENT.json", text.encode())
        except OSError as error:
            raise PromotionError(
                f"{folder / 'CURRENT.json'}: can't be written: {error.strerror}; the live version "
                "is as it was"
            ) from None
        try:
            append_line(folder / HISTORY, json.dumps(record))
        except OSError as error:
            raise PromotionError(
                f"{folder / HISTORY}: can't be written: {error.strerror}; version "
                f"{full[:SHORT_VERSION]} is live all the same"
            ) from None
        return self.current(name)

    def mend(self, name: str) -> None:
        """Write down the live version where its promotion was cut off right before that. Only
        where no other process is at work on the model.
        """
        try:
            record = self.current(name).record
        except (WeightsMissingError, WeightsCorruptError):
            return
        known = [(line.get("version"), line.get("at")) for line in self.history(name)]
        if "event" in record and (record["version"], record.get("at")) not in known:
            append_line(self.folder(name) / HISTORY, json.dumps(record))

    def note(
        self,
        name: str,
        event: str,
        version: str,
        *,
        reason: str,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write down what changes nothing, as that a kept version was refused."""
        model, full = self.load(name, version)
        line = {
            "event": event,
            "at": _now(),
            "version": full,
            "reason": reason,
            "evaluation": dict(model.evaluation),
            **(details or {}),
        }
        append_line(self.folder(name) / HISTORY, json.dumps(line))

    def remove(self, name: str, version: str) -> None:
        """Delete a version's file. Whether it may go is the caller's to know."""
        (self.folder(name) / f"{version}{SUFFIX}").unlink(missing_ok=True)

    def history(self, name: str) -> list[dict[str, Any]]:
        """What was live when, and what was refused: a record for each, oldest first."""
        return read_json_lines(self.folder(name) / HISTORY)

    def ways_back(self, name: str) -> list[str]:
        """The versions that were live before the present one and are kept, the latest first: those
        that a rollback has left behind are not among them.
        """
        stack: list[str] = []
        for line in self.history(name):
            version = line.get("version")
            if line.get("event") not in LIVE_EVENTS or not isinstance(version, str):
                continue
            if line["event"] == ROLLED_BACK and version in stack:
                del stack[len(stack) - 1 - stack[::-1].index(version) :]
            stack.append(version)
        live, kept = self.live(name), self.versions(name)
        if stack and stack[-1] == live:
            stack.pop()
        return [v for v in dict.fromkeys(reversed(stack)) if v in kept and v != live]

    def live(self, name: str) -> str | None:
        """The full name of the live version; None where there is none, or its record is damaged."""
        try:
            return self.current(name).version
        except (WeightsMissingError, WeightsCorruptError):
            return None

    def _no_model(self, name: str) -> str:
        known = ", ".join(self.models()) or "none yet: python -m charrnn train my-list.txt"
        return f"no model {name!r} in {self.root}; there are: {known}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write_protect(path: Path) -> None:
    path.chmod(path.stat().st_mode & ~0o222)


def _is_there(path: Path) -> bool:
    """Whether there is a file; one that can't be looked at is: who loads it is told why."""
    try:
        return path.is_file()
    except OSError:
        return True
