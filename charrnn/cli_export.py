"""The command that writes a model for another program: PyTorch, ONNX, or a page in a browser."""

import os
from pathlib import Path
from typing import Any, get_args

import click

from charrnn.cli_options import said, settings_options, version_option, weights_option
from charrnn.config import ExportConfig
from charrnn.errors import CharRNNError
from charrnn.export import torch_file
from charrnn.export_json import json_file
from charrnn.export_onnx import onnx_file
from charrnn.files import write_atomically
from charrnn.generator import Generator, load

ENDINGS = {"torch": ".torch.safetensors", "onnx": ".onnx", "json": ".json"}
FORMATS = get_args(ExportConfig.fields()["to"].annotation)


@click.command("export", short_help="Write a model for another program: torch, ONNX or JSON.")
@click.argument("model")
@click.option(
    "--to", required=True, type=click.Choice(FORMATS), help=ExportConfig.fields()["to"].description
)
@settings_options(ExportConfig, "numbers")
@click.option(
    "-o",
    "--output",
    "output",
    type=click.Path(path_type=Path),
    help="The file to write.  [default: the model's name, with an ending, in the current folder]",
)
@click.option("--force", is_flag=True, help="Write over a file that is there already.")
@version_option
@weights_option
def export_command(
    model: str,
    to: str,
    output: Path | None,
    force: bool,
    version: str | None,
    weights: Path | None,
    **options: Any,
) -> None:
    """Write a model for another program: a PyTorch state dict, an ONNX graph, or a JSON that a page
    in a browser or a small device can read.

    docs/export.md describes the files, and has what loads them.

    \b
    python -m charrnn export dinosaurs --to onnx
    python -m charrnn export dinosaurs --to json --numbers float16 -o public/names.json
    """
    config = ExportConfig.checked({"to": to, **said(options, "numbers")})
    generator = load(model, version=version, weights=weights)
    path = output or Path(generator.name + ENDINGS[to])
    _check_place(path, force)
    data, note = _exported(generator, config)
    _write(path, data, force)
    click.echo(f"{path}: {_size(len(data))}{note}")


def _exported(generator: Generator, config: ExportConfig) -> tuple[bytes, str]:
    """The file, and what there is to say of it."""
    if config.to == "torch":
        return torch_file(generator), ""
    if config.to == "onnx":
        return onnx_file(generator), ""
    data, price = json_file(generator, config.numbers)
    return data, (
        f"; {price.exported:.4f} nats per symbol on {price.texts} ({price.symbols:,} symbols), "
        f"{price.exact:.4f} before"
    )


def _check_place(path: Path, force: bool) -> None:
    """Raises CharRNNError where nothing can be written, or a file must stay as it is."""
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise CharRNNError(f"{above} is no folder: name another file with -o")
    if path.is_dir():
        raise CharRNNError(f"{path} is a folder: name a file in it with -o")
    if os.path.lexists(path) and not force:
        raise CharRNNError(
            f"{path} is there already: give --force to write over it, or another file with -o"
        )
    if os.path.lexists(path) and not path.is_file():
        raise CharRNNError(f"{path} is no regular file: name another one with -o")


def _write(path: Path, data: bytes, force: bool) -> None:
    """The file, whole or not at all; without `force` only where none came meanwhile."""
    try:
        write_atomically(path, data, replace=force)
    except OSError as error:
        if isinstance(error, FileExistsError):
            _check_place(path, force)
        raise CharRNNError(
            f"{path}: {error.strerror}; make room or mend it and give the same command again, or "
            "name another file with -o"
        ) from None


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


EXPORT_COMMANDS = (export_command,)
