"""Options of the command line that several commands share, and those that are settings."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import click

from charrnn.recipe import SIZED
from charrnn.settings import Settings, kind_of_value

F = TypeVar("F", bound=Callable[..., Any])

weights_option = click.option(
    "--weights",
    type=click.Path(path_type=Path, file_okay=False),
    help="The weights folder.  [default: $CHARRNN_WEIGHTS, the repository's, or ./weights]",
)

version_option = click.option("--version", help="A kept version, by its first hex digits.")


def asking_options(function: F) -> F:
    """Which version of a model is asked, from which folder, and how it answers."""
    as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")
    return version_option(weights_option(as_json(function)))


def settings_options(
    model: type[Settings], *names: str, defaults: Mapping[str, Any] = MappingProxyType({})
) -> Callable[[F], F]:
    """An option for each field, described by the field itself. Not given means not said. `defaults`
    are those of a command that has others.
    """

    def decorate(function: F) -> F:
        for name in reversed(names):
            field = model.fields()[name]
            kind = kind_of_value(field)
            default = "by the size of the data" if name in SIZED else field.default
            default = defaults.get(name, default)
            flag = f"--{name.replace('_', '-')}"
            if kind.type is bool:  # said either way, or not at all
                flag += f"/--no-{name.replace('_', '-')}"
            function = click.option(
                flag,
                name,
                type=click.Choice(kind.choices) if kind.choices else kind.type,
                multiple=kind.several,
                default=None,
                help=field.description
                + ("" if default in (None, ()) else f"  [default: {default}]"),
            )(function)
        return function

    return decorate


def said(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """The options among `names` that were given."""
    return {name: options[name] for name in names if options[name] not in (None, ())}
