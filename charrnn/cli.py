"""The command line. Results go to stdout, progress to stderr; what the exit statuses mean stands
in `charrnn.cli_versions`. Options that are settings take their bounds and defaults from
`charrnn.config`.
"""

import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import click

from charrnn import __version__
from charrnn.chat import CHAT_DEFAULTS
from charrnn.checking import check_command
from charrnn.cli_chat import converse
from charrnn.cli_export import EXPORT_COMMANDS
from charrnn.cli_names import NAME_COMMANDS
from charrnn.cli_options import (
    asking_options,
    said,
    settings_options,
    version_option,
    weights_option,
)
from charrnn.cli_versions import STOPPED, VERSION_COMMANDS, exit_status, say_outcome
from charrnn.comparison import TEXTS, compare
from charrnn.config import (
    CorpusConfig,
    EvaluationConfig,
    GenerationConfig,
    NetworkConfig,
    TrainConfig,
)
from charrnn.console import give_up_stdout, if_heard
from charrnn.errors import CharRNNError, TrainingInterrupted, WeightsError
from charrnn.evaluation import Loss, evaluate
from charrnn.generator import Generator, load
from charrnn.ops import Workspace
from charrnn.progress import reporting, stoppable
from charrnn.ranks import Ranks, ranks_here
from charrnn.recipe import SUFFIX as RECIPE_SUFFIX
from charrnn.recipe import Recipe, read_recipe, recipe_for
from charrnn.retraining import follow, train
from charrnn.splits import SPLITS, split
from charrnn.store import Store, spare_root
from charrnn.tables import table_of_comparison, table_of_losses, table_of_models


@contextmanager
def _in_a_line() -> Iterator[None]:
    """Turns our errors, and the system's, into one line and an exit status."""
    try:
        yield
    except TrainingInterrupted as stopped:
        click.echo(str(stopped), err=True)
        status = STOPPED
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        status = STOPPED
    except CharRNNError as error:
        click.echo(f"error: {error}", err=True)
        status = exit_status(error)
    except BrokenPipeError:  # the reader of our output has had enough
        status = 0
    except OSError as error:
        where = error.filename or "the disk"
        click.echo(
            f"error: {where}: {error.strerror}; make room or mend it and give the same command "
            "again, or name another folder with --weights",
            err=True,
        )
        status = 1
    else:
        return
    give_up_stdout()
    raise click.exceptions.Exit(status)


class Commands(click.Group):
    """Commands that end with a line where they fail, and so does what `--version` says."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _in_a_line():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _in_a_line():
            return super().invoke(ctx)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="charrnn")
def main() -> None:
    """Learn a list of names, or running text, and generate more.

    \b
    python -m charrnn train my-list.txt
    python -m charrnn sample dinosaurs --seed Tyr --count 5
    """


main.add_command(check_command)
for command in (*VERSION_COMMANDS, *NAME_COMMANDS, *EXPORT_COMMANDS):
    main.add_command(command)

CHAT_OPTIONS = ("temperature", "top_k", "top_p", "max_length", "random_seed")
CORPUS_OPTIONS = ("kind", "unit", "column", "vocabulary", "fewest", "case", "split_by")
NETWORK_OPTIONS = (
    *("cell", "hidden_size", "num_layers"),
    *("dropout", "dropout_mask", "recurrent_dropout"),
)
TRAIN_OPTIONS = (
    "minutes",
    "steps",
    "batch_size",
    "seq_length",
    "optimizer",
    "learning_rate",
    "random_seed",
    "processes",
)


FORWARDED = (signal.SIGUSR1,)  # mpiexec passes it on to all ranks, and leaves them time


@main.command("train", short_help="Learn from a list of names, running text or conversations.")
@click.argument("source", metavar="FILE_OR_RECIPE", type=click.Path(path_type=Path))
@click.option("--name", help="The model's name.  [default: the file's]")
@settings_options(CorpusConfig, *CORPUS_OPTIONS)
@settings_options(NetworkConfig, *NETWORK_OPTIONS)
@settings_options(TrainConfig, *TRAIN_OPTIONS)
@weights_option
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
def train_command(
    source: Path, name: str | None, weights: Path | None, quiet: bool, **options: Any
) -> None:
    """Learn from a list of names (one a line), running text, a column of a table (CSV, TSV), or
    a recipe (.toml).

    The network's size and the time follow from the data, unless they are given. A run that was
    stopped goes on from its checkpoint when the same command is given again. Losses are in nats
    per symbol: a character, or with --unit word a word.

    \b
    python -m charrnn train my-list.txt
    python -m charrnn train comments.csv --unit word --column body
    mpiexec -n 4 python -m charrnn train novel.toml
    """
    ranks = ranks_here()
    if ranks and not ranks.is_first:
        _follow(source, name, options, Store(weights), ranks)
        return
    with ranks.joining() if ranks else nullcontext():
        recipe, kept = _recipe_of(source, name, options)
    with reporting(quiet) as listener, stoppable(*(FORWARDED if ranks else ())) as stop:
        outcome = train(
            recipe,
            source.parent,
            Store(weights),
            recipe_path=kept,
            listener=listener,
            stop=stop,
            ranks=ranks,
        )
    with if_heard():
        say_outcome(outcome, weights)


def _follow(
    source: Path, name: str | None, options: dict[str, Any], store: Store, ranks: Ranks
) -> None:
    """A rank that isn't the first has nothing to say: what ends it, the first one tells."""
    logging.getLogger("charrnn").setLevel(logging.CRITICAL)
    with suppress(CharRNNError), stoppable(*FORWARDED) as stop:
        with ranks.joining():
            recipe, kept = _recipe_of(source, name, options)
        follow(recipe, source.parent, store, ranks, recipe_path=kept, stop=stop)


def _recipe_of(
    source: Path, name: str | None, options: dict[str, Any]
) -> tuple[Recipe, Path | None]:
    """The recipe of a training, and where it is kept as it is; None where options change it."""
    is_recipe = source.suffix == RECIPE_SUFFIX
    written = read_recipe(source) if is_recipe else recipe_for(source)
    recipe = _with_options(written, name, options)
    if is_recipe and recipe == written:
        return recipe, source
    return (_absolute(recipe, source.parent) if is_recipe else recipe), None


@main.command("sample", short_help="Generate from a model.")
@click.argument("model")
@click.option("--seed", default="", help="The text that the output begins with.")
@settings_options(GenerationConfig, *GenerationConfig.fields())
@asking_options
def sample_command(
    model: str,
    seed: str,
    version: str | None,
    weights: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Generate from a model: a name in the weights folder, or a path to a .safetensors file.

    Texts go to stdout, one a line; the random seed that gives them again to stderr.

    \b
    python -m charrnn sample dinosaurs --seed Tyr --count 5
    python -m charrnn sample dinosaurs --temperature 0.7 --count 20 --random-seed 7
    """
    generator = load(model, version=version, weights=weights)
    config = GenerationConfig.checked(said(options, *options))
    if generator.frozen.kind != "names" and config.count == 1 and not as_json:
        for piece in generator.stream(seed, config=config):
            click.echo(piece.text, nl=False)
            sys.stdout.flush()
        click.echo()
        return
    samples = generator.generate(seed, config=config)
    if as_json:
        texts = [vars(sample) for sample in samples]
        answer = {
            "model": generator.name,
            "version": generator.version,
            "seed": samples.seed,
            "random_seed": samples.random_seed,
            "samples": texts,
            "requested": samples.requested,
            "shortfall": samples.shortfall,
        }
        click.echo(json.dumps(answer))
        return
    for sample in samples:
        click.echo(sample.text)
    if samples.shortfall:
        click.echo(samples.shortfall, err=True)
    if config.random_seed is None:
        click.echo(f"the same again: --random-seed {samples.random_seed}", err=True)


@main.command("chat")
@click.argument("model", default="rex")
@settings_options(GenerationConfig, *CHAT_OPTIONS, defaults=CHAT_DEFAULTS)
@version_option
@weights_option
def chat_command(model: str, version: str | None, weights: Path | None, **options: Any) -> None:
    """Talk with a model that learned from conversations.

    Ctrl-C stops a reply, Ctrl-D leaves, /help lists the rest. Lines that are piped in are answered
    one by one.

    \b
    python -m charrnn chat rex
    python -m charrnn chat rex --temperature 0 --random-seed 7
    """
    generator = load(model, version=version, weights=weights)
    converse(generator.chat(**said(options, *CHAT_OPTIONS)))


@main.command("evaluate", short_help="How well a model predicts names or text that it never saw.")
@click.argument("model")
@settings_options(EvaluationConfig, *EvaluationConfig.fields())
@asking_options
def evaluate_command(
    model: str, version: str | None, weights: Path | None, as_json: bool, **options: Any
) -> None:
    """How well a model predicts what it has learned from, and what it has never seen; and how the
    texts that it writes compare with real ones.

    The test names took part in nothing but these figures. For running text and conversations, which
    the weights file doesn't hold, the losses are those written at the end of its training.
    docs/quality.md tells what each figure is.

    \b
    python -m charrnn evaluate dinosaurs
    python -m charrnn evaluate my-list --samples 0 --json
    """
    generator = load(model, version=version, weights=weights)
    config = EvaluationConfig.checked(said(options, *options))
    losses = _losses(generator)
    if not as_json:
        frozen = generator.frozen
        block = "block" if frozen.vocabulary.end is None else "sentence"
        each = {"names": "name", "chat": "conversation"}.get(frozen.kind, block)
        click.echo(f"{generator.name}, version {generator.version}")
        click.echo(table_of_losses(losses, each, frozen.vocabulary.unit))
    compared = {}
    if config.samples:
        names = generator.frozen.kind == "names"
        count = max(config.samples, config.rediscovery) if names else min(config.samples, TEXTS)
        click.echo(f"drawing {count:,} text{'s' * (count != 1)} ...", err=True)
        compared = compare(generator, config, losses["test"].nats_per_character).to_json()
    if as_json:
        values = {
            name: {
                **loss.to_json(),
                "bits_per_character": loss.bits_per_character,
                "perplexity": loss.perplexity,
                "nats_per_sequence": loss.nats_per_sequence,
            }
            for name, loss in losses.items()
        }
        answer = {"model": generator.name, "version": generator.version, "splits": values}
        click.echo(json.dumps({**answer, **({"samples": compared} if compared else {})}))
    elif compared:
        click.echo("\n" + table_of_comparison(compared))


@main.command("models")
@weights_option
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def models_command(weights: Path | None, as_json: bool) -> None:
    """The models in the weights folder, with what is live of each.

    \b
    python -m charrnn models
    python -m charrnn models --weights /srv/charrnn/weights
    """
    store, cards, broken = Store(weights), [], []
    spare = spare_root() if weights is None else None
    names = {*store.models(), *(Store(spare).models() if spare else ())}
    for name in sorted(names):
        try:
            cards.append(load(name, weights=weights).card())
        except WeightsError as error:
            broken.append(error)
    if as_json:
        click.echo(json.dumps(cards))
    elif cards:
        click.echo(table_of_models(cards))
    elif not broken:
        click.echo(f"no model in {store.root}: python -m charrnn train my-list.txt", err=True)
    for why in broken:
        click.echo(f"error: {why}", err=True)
    if broken:
        raise click.exceptions.Exit(1)


def _with_options(recipe: Recipe, name: str | None, options: dict[str, Any]) -> Recipe:
    """The recipe with what the command line says. Raises ConfigError."""
    return recipe.changed(
        **({} if name is None else {"name": name}),
        corpus=recipe.corpus.changed(**said(options, *CORPUS_OPTIONS)),
        network=recipe.network.changed(**said(options, *NETWORK_OPTIONS)),
        training=recipe.training.changed(**said(options, *TRAIN_OPTIONS)),
    )


def _absolute(recipe: Recipe, folder: Path) -> Recipe:
    """A recipe that can be kept in another folder than its data."""
    return recipe.changed(data=[str(path.absolute()) for path in recipe.paths(folder)])


def _losses(generator: Generator) -> dict[str, Loss]:
    """Of each split that the file tells of. Raises WeightsError where it tells of none."""
    frozen = generator.frozen
    if not (frozen.provenance.get("recipe") if frozen.names else frozen.evaluation):
        what = "how its names were split" if frozen.names else "its losses"
        raise WeightsError(
            f"{generator.name}: its file doesn't say {what}; evaluate one that `train` has written"
        )
    if not frozen.names:
        return {name: Loss(**values) for name, values in frozen.evaluation.items()}
    config = CorpusConfig.checked(frozen.provenance["recipe"]["corpus"])
    sides = split(frozen.names, config)
    work = Workspace()
    return {s: evaluate(generator.model, sides[s], frozen.vocabulary, work) for s in SPLITS}
