"""The commands that draw nothing: the most probable names, and how probable given texts are."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from charrnn.cli_options import asking_options, said, settings_options
from charrnn.config import EXPECTED, MOST_EXPECTED, BeamConfig
from charrnn.generator import load
from charrnn.tables import table_of_score

MOST_TEXTS = 10_000  # of one command


@click.command("beam", short_help="The most probable names of a model, in falling order.")
@click.argument("model")
@click.option("--seed", default="", help="The text that the names begin with.")
@settings_options(BeamConfig, *BeamConfig.fields())
@asking_options
def beam_command(
    model: str,
    seed: str,
    version: str | None,
    weights: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """The most probable names of a model, in falling order, with their probabilities.

    \b
    python -m charrnn beam dinosaurs --seed Tyr
    python -m charrnn beam dinosaurs --count 5 --seed Velo --ends-with raptor --no-novel
    """
    generator = load(model, version=version, weights=weights)
    config = BeamConfig.checked(said(options, *options))
    found = generator.beam(seed, config=config)
    if as_json:
        answer = {
            "model": generator.name,
            "version": generator.version,
            "seed": found.seed,
            "samples": [
                {"text": each.text, "logprob": each.logprob, "novel": each.novel} for each in found
            ],
            "requested": found.requested,
            "shortfall": found.shortfall,
        }
        click.echo(json.dumps(answer))
        return
    for each in found:
        click.echo(f"{each.logprob:9.4f}  {each.text}")
    if found.shortfall:
        click.echo(found.shortfall, err=True)


@click.command("score")
@click.argument("model")
@click.argument("texts", nargs=-1)
@click.option(
    "--expected",
    type=click.IntRange(0, MOST_EXPECTED),
    default=EXPECTED,
    help=f"How many of the likeliest symbols are told for each place.  [default: {EXPECTED}]",
)
@asking_options
def score_command(
    model: str,
    texts: tuple[str, ...],
    expected: int,
    version: str | None,
    weights: Path | None,
    as_json: bool,
) -> None:
    """How probable texts are: as a whole, and character by character. Without TEXTS, the lines of
    stdin.

    \b
    python -m charrnn score dinosaurs Tyrannosaurus
    python -m charrnn score dinosaurs --json < names.txt
    """
    generator = load(model, version=version, weights=weights)
    lines = texts or tuple(line for line in sys.stdin.read().splitlines() if line.strip())
    if not 1 <= len(lines) <= MOST_TEXTS:
        raise click.UsageError(f"TEXTS must be 1 to {MOST_TEXTS}, got {len(lines)}")
    scores = generator.score_many(lines, expected=expected)
    if as_json:
        answer = {"model": generator.name, "version": generator.version}
        click.echo(json.dumps({**answer, "scores": [score.to_json() for score in scores]}))
        return
    for score in scores:
        click.echo(table_of_score(score))


NAME_COMMANDS = (beam_command, score_command)
