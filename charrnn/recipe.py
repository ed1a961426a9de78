"""Recipes: everything that a training follows from, as a TOML file or from defaults by size.

name = "dinosaurs"
data = ["dinosaurs.txt"]     # files, folders and globs, beside the recipe
[corpus]                     # CorpusConfig
[network]                    # NetworkConfig
[training]                   # TrainConfig
[gate]                       # GateConfig
[retraining]                 # RetrainConfig
"""

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import tomli_w

from charrnn.config import (
    MODEL_NAME_PATTERN,
    MODEL_NAME_RULE,
    CorpusConfig,
    GateConfig,
    NetworkConfig,
    RetrainConfig,
    TrainConfig,
)
from charrnn.corpus import Corpus
from charrnn.errors import ConfigError, CorpusError, FieldProblem
from charrnn.settings import Settings, setting

SUFFIX = ".toml"
SIZED = frozenset(  # settings whose defaults follow from the data
    {"cell", "hidden_size", "dropout", "dropout_mask", "recurrent_dropout"}
    | {"steps", "batch_size", "chain", "learning_rate", "warmup_steps", "warmup_share"}
    | {"weight_decay", "averaging"}
)

# Settings that are younger than some weights, and what they were before: said of none where they
# are so, since these weights still are what their recipe gives.
LATER: dict[str, dict[str, Any]] = {
    "corpus": {"unit": "character"},
    "training": {"summed": False, "word_dropout": 0.0},
}

OTHER_RULES: dict[str, dict[str, Any]] = {  # what differs where the update rule isn't AdamW
    "adam": {"weight_decay": 0.0},
    "sgd": {"weight_decay": 0.0, "learning_rate": 1.0},
    "adagrad": {"weight_decay": 0.0, "learning_rate": 0.1},
}


def _model_name(name: str) -> str:
    if not re.fullmatch(MODEL_NAME_PATTERN, name):
        raise ValueError(MODEL_NAME_RULE)
    return name


class Recipe(Settings):
    """A training, whole. What isn't given follows from the size of the data (`completed`)."""

    name: str = setting(check=_model_name, description="the model's name")
    data: list[str] = setting(
        min_length=1,
        items={"min_length": 1},
        description="files, folders (their .txt files) and globs, relative to the recipe",
    )
    corpus: CorpusConfig = setting(default=CorpusConfig())
    network: NetworkConfig = setting(default=NetworkConfig())
    training: TrainConfig = setting(default=TrainConfig())
    gate: GateConfig = setting(default=GateConfig())
    retraining: RetrainConfig = setting(default=RetrainConfig())

    def paths(self, folder: Path, written_in: Path | None = None) -> list[Path]:
        """The data files, for a recipe in `folder`, in the order of `data`, each once.

        Raises CorpusError for an entry that there is nothing of; it names the line of `written_in`.
        """
        found: list[Path] = []
        for entry in self.data:
            files = _files(folder, entry)
            if not files or (written_in and not files[0].is_file()):
                where = f"{written_in}:{_line_of_data(written_in, entry)}: " if written_in else ""
                what = "matches no file" if files == [] else "is not there"
                raise CorpusError(
                    f"{where}data {entry!r} {what} in {folder}; put the file there, or correct "
                    "the entry"
                )
            found += files
        return list(dict.fromkeys(found))

    def completed(self, corpus: Corpus) -> Self:
        """The recipe with every value written out: what it doesn't say, by the size of the data."""
        suited = defaults_for(corpus)
        own = OTHER_RULES.get(self.training.optimizer, {})
        if "warmup_steps" in self.training.said():  # which are meant whole
            own = {**own, "warmup_share": None}
        return self.changed(
            corpus=self.corpus.changed(
                kind=corpus.kind, case=corpus.vocabulary.case, unit=corpus.vocabulary.unit
            ),
            network=self.network.over(suited.network),
            training=self.training.over({**suited.training, **own}),
        )

    def to_keep(self, corpus: Corpus) -> Self:
        """The recipe to train by again: the network and the training written out, but what looks
        at the data (names or text, capitals, how many steps) left to look at it again.
        """
        whole = self.completed(corpus)
        return self.changed(network=whole.network, training=whole.training)

    def said_defaults(self) -> list[str]:
        """The settings that it gives the defaults of their class, and for which it would have had
        others by the data, had it not given them: by their values alone the two can't be told
        apart.
        """
        return sorted(
            name
            for part in (self.network, self.training)
            for name, value in part.said().items()
            if name in SIZED and value is not None and value == getattr(type(part)(), name)
        )

    def plain(self) -> dict[str, Any]:
        """Every value, without nulls."""
        return _without_nulls(self.values())

    def described(self) -> dict[str, Any]:
        """What the weights follow from, with the data's file names alone: a weights file says
        nothing of a machine, nor of what happens to it later.
        """
        plain = {k: v for k, v in self.plain().items() if k not in ("gate", "retraining")}
        for table, later in LATER.items():
            plain[table] = {k: v for k, v in plain[table].items() if later.get(k) != v}
        return {**plain, "data": [Path(file).name for file in self.data]}


@dataclass(frozen=True)
class Defaults:
    """What suits a corpus: the network, the training, and passes over the data at most."""

    network: dict[str, Any]
    training: dict[str, Any]
    passes: int


def defaults_for(corpus: Corpus) -> Defaults:
    """By kind and size: the smaller the list, the more dropout and the shorter the training.

    How these were found stands in docs/quality.md.
    """
    characters = corpus.characters("train")
    if corpus.kind == "chat":
        network = {"cell": "gru", "hidden_size": 256, "dropout": 0.3}
        training = {"batch_size": 16, "learning_rate": 0.01, "averaging": 0.99, "chain": 3}
        return Defaults(network, training, 20)
    if corpus.vocabulary.unit == "word":
        return _defaults_for_words(characters)
    if corpus.kind == "text":
        network = {"cell": "gru", "hidden_size": 256, "dropout": 0.1}
        training = {"batch_size": 32, "learning_rate": 0.02, "weight_decay": 0.05}
        return Defaults(network, {**training, "warmup_steps": 200, "warmup_share": 0.2}, 20)
    training = {"averaging": 0.99, "weight_decay": 0.05, "learning_rate": 0.02}
    dropping = {"dropout": 0.5, "dropout_mask": "sequence", "recurrent_dropout": 0.3}
    if characters < 8_000:
        network = {"cell": "gru", "hidden_size": 128, **dropping}
        return Defaults(network, {**training, "batch_size": 16}, 16)
    if characters < 60_000:
        network = {"cell": "gru", "hidden_size": 256, **dropping}
        return Defaults(network, {**training, "batch_size": 32}, 16)
    network = {"cell": "lstm", "hidden_size": 256, **dropping}
    network |= {"dropout": 0.3, "recurrent_dropout": 0.2}
    larger = {"averaging": 0.998, "learning_rate": 0.016, "batch_size": 64}
    return Defaults(network, {**training, **larger}, 12)


def _defaults_for_words(words: int) -> Defaults:
    """For a model of words, by how many there are to learn from (docs/words.md)."""
    network = {"cell": "gru", "hidden_size": 128 if words < 100_000 else 256, "dropout": 0.5}
    training = {"batch_size": 32, "learning_rate": 0.004, "weight_decay": 0.05, "averaging": 0.99}
    return Defaults(network, training, 20)


def read_recipe(path: Path) -> Recipe:
    """A recipe from a TOML file. Raises ConfigError, and CorpusError where it can't be read."""
    text = ""
    try:
        text = path.read_text("utf-8-sig")
        values = tomllib.loads(text)
    except OSError as error:
        raise CorpusError(f"{path}: can't be read: {error.strerror}; give a recipe") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1 if text else None
        problem = FieldProblem("recipe", "must be TOML", str(error), line)
        raise ConfigError([problem], str(path)) from None
    try:
        return Recipe.checked({"name": name_for(path), **values})
    except ConfigError as error:
        problems = [p._replace(line=line_of(text, p.field)) for p in error.problems]
        raise ConfigError(problems, str(path)) from None


def line_of(text: str, field: str) -> int | None:
    """The line of a recipe that says `field` ("network.hidden_size"); where it isn't said in a
    line of its own, that of the nearest thing around it.
    """
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.split("\n"), 1):
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            table = f"{header[1]}."
            lines.setdefault(header[1], number)
        elif key := re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=", line):
            lines.setdefault(f"{table}{key[1]}", number)
    while field:
        if field in lines:
            return lines[field]
        field = field.rpartition(".")[0]
    return None


def _line_of_data(path: Path, entry: str) -> int | None:
    """The line of an entry of `data`, which may be a list of several lines."""
    text = path.read_text("utf-8-sig")
    first = line_of(text, "data") or 1
    for number, line in enumerate(text.split("\n")[first - 1 :], first):
        if f'"{entry}"' in line or f"'{entry}'" in line:
            return number
    return first


def _files(folder: Path, entry: str) -> list[Path]:
    """The files that an entry of `data` stands for; a plain path stands for itself."""
    path = folder / entry
    if path.is_dir():
        return sorted(file for file in path.glob("*.txt") if file.is_file())
    if re.search(r"[*?[]", entry) and not path.exists():
        start = Path(path.anchor or ".")  # an absolute pattern is one below the root
        pattern = str(path.relative_to(start)) if path.anchor else str(path)
        try:
            return sorted(file for file in start.glob(pattern) if file.is_file())
        except ValueError:  # `**` within a name, which Python 3.13 is the first to read
            return []
    return [path]


def recipe_for(data: Path) -> Recipe:
    """The recipe of a bare data file, or a folder, named after it; a link is followed anew each
    time. Raises CorpusError for what can't be read again.
    """
    if data.exists() and not (data.is_file() or data.is_dir()):
        raise CorpusError(
            f"{data}: must be a file, since it is read more than once; save it as one"
        )
    data = data.absolute()
    return Recipe.checked({"name": name_for(data), "data": [str(data)]})


def write_recipe(recipe: Recipe) -> str:
    """A recipe as TOML: what it says, and not what it leaves to the data."""
    return tomli_w.dumps(_without_nulls(recipe.said()))


def name_for(path: Path) -> str:
    """A model name after a file's: "My List.txt" gives "my-list"."""
    plain = unicodedata.normalize("NFKD", path.stem).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9._-]+", "-", plain).strip("-._")[:64]
    return name or "model"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value
