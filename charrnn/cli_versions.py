"""The commands that change which version is live, and their exit statuses:

0    it is done; `retrain`: the new version is live
1    it failed: the weights folder, the disk, a training that went astray
2    the command line, the recipe or the data is wrong
10   `retrain`: nothing has changed since the last attempt, or the bytes are those of the live one
11   `retrain`: the gate refused the new version; what was live is live
12   another process is at work on the model
130  stopped by Ctrl-C or a polite kill; the same command goes on from the checkpoint
"""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from charrnn.cli_options import weights_option
from charrnn.console import if_heard
from charrnn.errors import CharRNNError, ConfigError, CorpusError, FieldProblem, LockedError
from charrnn.evaluation import Loss
from charrnn.outcomes import Outcome
from charrnn.progress import reporting, stoppable
from charrnn.ranks import told_by_mpiexec
from charrnn.retraining import retrain
from charrnn.store import SHORT_VERSION, Current, Store
from charrnn.tables import sequences_of, table_of_history
from charrnn.versions import promote, prune, rollback

FAILED, WRONG, STOPPED = 1, 2, 130
STATUSES = {"promoted": 0, "unchanged": 10, "refused": 11}
LOCKED = 12

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


def exit_status(error: CharRNNError) -> int:
    """The exit status of a command that raised an error of ours."""
    if isinstance(error, LockedError):
        return LOCKED
    return WRONG if isinstance(error, ConfigError | CorpusError) else FAILED


@click.command("retrain", short_help="Train a live model again; the better one is live then.")
@click.argument("model")
@click.option("--force", is_flag=True, help="Train even if nothing has changed.")
@click.option("--promote-anyway", is_flag=True, help="Go live whatever the gate says.")
@click.option(
    "--warm-start/--cold-start", default=None, help="Begin with the live weights, or with chance."
)
@click.option(
    "--recipe",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Another recipe than that of the live version.",
)
@weights_option
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@json_option
def retrain_command(
    model: str,
    weights: Path | None,
    quiet: bool,
    as_json: bool,
    recipe: Path | None,
    **flags: Any,
) -> None:
    """Train a live model again, by its recipe, on its data as it is today.

    The new version goes live if it passes the recipe's gate. Exit status: 0 it is live, 10 nothing
    has changed, 11 refused by the gate, 12 another process is at work, 2 the recipe or the data is
    wrong, 1 failed, 130 stopped.

    \b
    python -m charrnn retrain dinosaurs
    python -m charrnn retrain my-list --quiet --json
    """
    if told_by_mpiexec():
        rule = "must be run without mpiexec: one process compares and promotes"
        raise ConfigError([FieldProblem("retrain", rule, "several")])
    with reporting(quiet) as listener, stoppable() as stop:
        outcome = retrain(
            model,
            Store(weights),
            recipe_path=recipe,
            be_nice=True,
            listener=listener,
            stop=stop,
            **flags,
        )
    with if_heard():
        if as_json:
            click.echo(json.dumps(outcome.to_json()))
        else:
            say_outcome(outcome, weights)
    raise click.exceptions.Exit(STATUSES[outcome.event])


@click.command("history", short_help="What was live when and why, and what was refused.")
@click.argument("model")
@weights_option
@click.option("--json", "as_json", is_flag=True, help="One JSON array, with all that is kept.")
def history_command(model: str, weights: Path | None, as_json: bool) -> None:
    """What was live when and why, and what was refused: the oldest first.

    \b
    python -m charrnn history dinosaurs
    python -m charrnn history my-list --json
    """
    store = Store(weights)
    store.fill(model)
    lines = store.history(model)
    if not lines:
        store.current(model)  # says which models there are, where this is none
    if as_json:
        click.echo(json.dumps(lines))
    elif lines:
        click.echo(table_of_history(lines))
    else:
        click.echo(f"nothing is written down of {model} yet", err=True)


@click.command("rollback", short_help="Make the version live that was live before.")
@click.argument("model")
@click.option("--to", metavar="VERSION", help="A kept version, by its first hex digits.")
@weights_option
def rollback_command(model: str, to: str | None, weights: Path | None) -> None:
    """Make the version live that was live before, or another one that is kept.

    \b
    python -m charrnn rollback dinosaurs
    python -m charrnn rollback dinosaurs --to 3f9ac2
    """
    _say_live(model, rollback(model, Store(weights), to))


@click.command("promote")
@click.argument("model")
@click.argument("version")
@weights_option
def promote_command(model: str, version: str, weights: Path | None) -> None:
    """Make a kept version live, as one that the gate refused.

    \b
    python -m charrnn promote dinosaurs 3f9ac2
    python -m charrnn promote my-list 5b559f --weights /srv/charrnn/weights
    """
    _say_live(model, promote(model, version, Store(weights)))


@click.command("prune")
@click.argument("model")
@click.option(
    "--keep", metavar="N", type=click.IntRange(min=1), required=True, help="How many versions stay."
)
@weights_option
def prune_command(model: str, keep: int, weights: Path | None) -> None:
    """Delete all versions but the newest. The live one always stays, and so do the one before it,
    the best, and those that came with the program.

    \b
    python -m charrnn prune dinosaurs --keep 30
    python -m charrnn prune my-list --keep 5 --weights /srv/charrnn/weights
    """
    store = Store(weights)
    for version in prune(model, store, keep):
        click.echo(f"deleted {version[:SHORT_VERSION]}")
    click.echo(f"{len(store.versions(model))} kept")


VERSION_COMMANDS = (
    retrain_command,
    history_command,
    rollback_command,
    promote_command,
    prune_command,
)


def say_outcome(outcome: Outcome, weights: Path | None) -> None:
    """What came of a training in a folder of weights, and what to do with it."""
    folder = f" --weights {shlex.quote(str(weights))}" if weights else ""
    name, version = outcome.name, outcome.version[:SHORT_VERSION]
    if outcome.trained is None:
        click.echo(f"unchanged: {outcome.reason}; {version} is live. --force trains all the same")
        return
    model, progress = outcome.trained.model, outcome.trained.progress
    validation, test = (Loss(**model.evaluation[split]) for split in ("validation", "test"))
    what = sequences_of(model.kind, model.vocabulary.unit)
    chosen_by, tested_on = (
        f"{each.sequences:,} {what if each.sequences != 1 else what.removesuffix('s')}"
        for each in (validation, test)
    )
    click.echo(
        f"kept: step {progress.best_step:,} of {progress.step:,}, the best on {chosen_by} that it "
        "didn't learn from"
    )
    click.echo(
        f"{name} {version}: {test.nats_per_character:.4f} nats per {model.vocabulary.unit} on "
        f"{tested_on} that it never saw (perplexity {test.perplexity:.2f})"
    )
    if outcome.report:
        click.echo(f"report: {outcome.report}")
    if outcome.event == "unchanged":
        click.echo(f"unchanged: {outcome.reason}")
        return
    if not outcome.promoted:
        click.echo(f"not promoted: {outcome.reason}; what was live is live")
        click.echo(
            f"to have it live all the same:  python -m charrnn promote {name} {version}{folder}"
        )
        return
    click.echo(f"live: {outcome.reason}")
    click.echo(f"sample from it:  python -m charrnn sample {name} --count 10{folder}")
    body = json.dumps({"model": name, "count": 5})
    serve = f"CHARRNN_WEIGHTS={shlex.quote(str(weights.resolve()))} " if weights else ""
    click.echo(
        f"serve it:        {serve}make serve, then: curl -d '{body}' localhost:8000/generate"
    )


def _say_live(name: str, current: Current) -> None:
    click.echo(f"{name}: {current.version[:SHORT_VERSION]} is live ({current.reason})")
