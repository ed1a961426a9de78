"""What an operator can set, from `CHARRNN_*` variables, checked at start.

Bounds of a request that the library also has are the library's here; the service's own are lower.
"""

import difflib
import os
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from api.errors import StartError
from api.keys import Keys
from charrnn.config import LONGEST_TEXT, GenerationConfig
from charrnn.errors import ConfigError, FieldProblem, shown
from charrnn.settings import Settings, kind_of_value, setting

PREFIX = "CHARRNN_"
OWNED_ELSEWHERE = {"CHARRNN_CACHE", "CHARRNN_PROVE"}  # that the library and the tests read
MOST_TEXTS: int = GenerationConfig.fields()["count"].rules["le"]
SECRET = {"api_keys"}  # never shown, not even where they are wrong
UNSHOWN = "a value that is not shown"
OPEN_PATHS = "/,/livez,/readyz,/healthz,/openapi.json,/docs,/static/"
ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")


def cores() -> int:
    """Cores that this process may use; a container's share in time is not counted."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _host(text: str) -> str:
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text  # of IPv6


def _keys(value: Any) -> Keys:
    if isinstance(value, Keys):
        return value
    if not isinstance(value, str):
        raise ValueError("must be text")
    return Keys.listed(value)


def _paths(text: str) -> str:
    paths = [path.strip() for path in text.split(",")]
    if not all(path.startswith("/") for path in paths):
        raise ValueError("must be paths that begin with /, separated by commas")
    return ",".join(paths)


def _origins(text: str) -> str:
    origins = [origin.strip().lower() for origin in text.split(",")]
    if origins != ["*"] and not all(map(ORIGIN.fullmatch, origins)):
        raise ValueError("must be * or origins such as https://example.org, separated by commas")
    return ",".join(origins)


class ServiceSettings(Settings):
    """Everything about the service that can be set. A field `port` is the variable CHARRNN_PORT."""

    host: str = setting(
        default="127.0.0.1",
        check=_host,
        description="address to listen on; 0.0.0.0 for every network of this machine",
    )
    port: int = setting(
        default=8000, ge=0, le=65535, description="port to listen on; 0 for any free one"
    )
    weights: str | None = setting(
        default=None, description="the folder of weights; unset: the one of this repository"
    )
    model: str | None = setting(
        default=None,
        description="model of a request that names none; unset: dinosaurs, else the first",
    )
    max_count: int = setting(
        default=100, ge=1, le=MOST_TEXTS, description="most texts of a request"
    )
    max_length: int = setting(
        default=2000, ge=1, le=LONGEST_TEXT, description="most characters of a text"
    )
    max_characters: int = setting(
        default=20_000,
        ge=1,
        description="most characters of a request in all: its texts times their longest length",
    )
    max_body: int = setting(
        default=64 * 1024,
        ge=64,
        le=16 * 1024 * 1024,
        description="largest body of a request, bytes",
    )
    read_timeout: int = setting(
        default=10,
        ge=1,
        le=3600,
        description="longest time for a request to arrive as a whole, seconds",
    )
    blocklist: str | None = setting(
        default=None,
        description="a file of words that no text may have, one a line, besides those of the "
        "library; unset: those only",
    )
    time_limit: int = setting(
        default=30,
        ge=1,
        le=3600,
        description="longest time for the texts of a request, seconds; then they end as they are",
    )
    max_requests: int | None = setting(
        default=None,
        ge=1,
        description="most requests that a worker is at work on, above which it answers 503; "
        "unset: two fewer than its threads",
    )
    log_format: Literal["auto", "json", "text"] = setting(
        default="auto", description="lines of the log; auto: text on a terminal, else JSON"
    )
    access_log: Literal["on", "off"] = setting(
        default="on", description="whether each request is logged"
    )
    proxies: int = setting(
        default=0,
        ge=0,
        le=16,
        description="proxies that every request comes through, each of which adds the address "
        "that asked it to X-Forwarded-For: the log has the client's then; 0: that header is not "
        "believed",
    )
    workers: int = setting(default=cores, ge=1, le=1024, description="worker processes")
    threads: int = setting(
        default=128,
        ge=1,
        le=1024,
        description="threads of a worker, and so requests at once; few of them compute at a time; "
        "there are always two more than CHARRNN_MAX_REQUESTS, for the other routes",
    )
    api_keys: Any = setting(  # text; kept as digests
        default=None,
        check=_keys,
        description="keys, separated by commas: every request must bring one; unset, and no file "
        "of keys: none is asked for",
    )
    api_keys_file: str | None = setting(
        default=None,
        description="a file of more keys, one a line; read again within a second when it changes",
    )
    open_paths: str = setting(
        default=OPEN_PATHS,
        check=_paths,
        description="paths that need no key, separated by commas; one such as /static/ is for "
        "all below it; /metrics may be added",
    )
    cors_origins: str | None = setting(
        default=None,
        check=_origins,
        description="origins whose pages may read the answers, separated by commas, or *; unset: "
        "none",
    )

    def opens(self, path: str) -> bool:
        """Whether a path needs no key, by the list of those that don't."""
        paths = self.open_paths.split(",")
        return path in paths or any(
            path.startswith(each) for each in paths if each.endswith("/") and each != "/"
        )

    @property
    def asks_for_keys(self) -> bool:
        """Whether a request needs an API key."""
        return self.api_keys is not None or self.api_keys_file is not None

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """As every other settings', but a secret that is refused is not shown."""
        try:
            return super().checked(values, where)
        except ConfigError as error:
            shown = [
                FieldProblem(each.field, each.rule, UNSHOWN) if each.field in SECRET else each
                for each in error.problems
            ]
            raise ConfigError(shown, where) from None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Settings from `CHARRNN_*` variables; an empty one counts as unset.

        Raises ConfigError for a wrong value and StartError for a name that nobody reads.
        """
        environ = os.environ if environ is None else environ
        given = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
        _refuse_unknown(set(given) - set(map(variable, cls.fields())) - OWNED_ELSEWHERE)
        values = {
            name: _number_or_text(text) if kind_of_value(field).type is int else text
            for name, field in cls.fields().items()
            if (text := given.get(variable(name), "").strip())
        }
        try:
            return cls.checked(values)
        except ConfigError as error:
            raise ConfigError(
                [_named_as_variable(each, given) for each in error.problems]
            ) from None


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def table() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, for the documents."""
    return [
        (variable(name), _default(field.default), field.description)
        for name, field in ServiceSettings.fields().items()
    ]


def _default(value: Any) -> str:
    if callable(value):
        return str(value.__name__)
    return "unset" if value is None else str(value)


def _number_or_text(text: str) -> int | str:
    """The number that digits stand for; anything else stays text, for the check to refuse."""
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,20}", text) else text


def _named_as_variable(problem: FieldProblem, given: Mapping[str, str]) -> FieldProblem:
    name = variable(problem.field)
    value = UNSHOWN if problem.field in SECRET else shown(given[name])
    return FieldProblem(name, problem.rule, value)


def _refuse_unknown(names: set[str]) -> None:
    known = list(ServiceSettings.fields())
    for name in sorted(names):  # its value stays out of the message: it may be a secret
        close = difflib.get_close_matches(name.removeprefix(PREFIX).lower(), known, n=1)
        hint = f" (did you mean {variable(close[0])}?)" if close else ""
        every = ", ".join(map(variable, known))
        raise StartError(f"{name} is not a setting{hint}; the known ones are {every}")
