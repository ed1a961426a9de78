"""A chat in the terminal: lines in, replies out as they are drawn.

Where input or output is no terminal there are no prompts and no colours: a line in, a reply out.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from charrnn.chat import Chat
from charrnn.errors import CharRNNError, ConfigError

PROMPT, WIDEST_NAME = "you", 12
HELP = """\
/temperature 0.5   how daring the replies are, from 0 to 10
/seed 7            the random seed: the same talk gets the same replies
/reset             forget the talk
/save FILE         keep the talk, to go on later
/load FILE         go on where one was kept
/help              this list
/quit              leave; so does Ctrl-D. Ctrl-C stops a reply"""


def converse(chat: Chat) -> None:
    """Talk until the person leaves. Replies go to stdout, what is said about the talk to stderr."""
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if on_terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # gives input() its editing and its history
        click.echo(f"You talk to {chat.name}. /help lists what else there is.", err=True)
    while True:
        try:
            line = input(f"{PROMPT}> " if on_terminal else "")
        except EOFError:
            if on_terminal:
                click.echo(err=True)
            return
        except KeyboardInterrupt:
            if not on_terminal:
                raise
            click.echo("\n/quit or Ctrl-D leaves", err=True)
            continue
        except UnicodeDecodeError:
            click.echo("that was not UTF-8, and was not read", err=True)
            continue
        if line.lstrip().startswith("/"):
            if not _obey(chat, line.split()):
                return
        elif line.strip():
            _reply(chat, line, on_terminal)


def _reply(chat: Chat, line: str, on_terminal: bool) -> None:
    """Say something, and show the reply as it comes; Ctrl-C ends it where it is."""
    name = chat.name if len(chat.name) <= WIDEST_NAME else "bot"
    if on_terminal:
        click.echo(click.style(f"{name}> ", bold=True), nl=False)
    pieces = chat.stream(line)
    try:
        for piece in pieces:
            click.echo(piece, nl=False)
            sys.stdout.flush()
    except KeyboardInterrupt:
        if not on_terminal:
            raise
        click.echo(" ...", nl=False)
    finally:
        getattr(pieces, "close", lambda: None)()
    click.echo()
    sys.stdout.flush()


def _obey(chat: Chat, words: list[str]) -> bool:
    """Do what a line with a slash says; whether the talk goes on."""
    command, arguments = words[0], words[1:]
    if command in ("/quit", "/exit", "/q"):
        return False
    try:
        if command not in COMMANDS:
            say = f"{command} is not something that can be done here; /help lists what can"
        else:
            say = COMMANDS[command](chat, " ".join(arguments))
    except (CharRNNError, OSError) as error:
        say = str(error)
    click.echo(say, err=True)
    return True


def _temperature(chat: Chat, argument: str) -> str:
    if argument:
        try:
            chat.change(temperature=float(argument))
        except ValueError as error:
            said = isinstance(error, ConfigError)
            return str(error) if said else f"temperature must be a number, got {argument!r}"
    return f"temperature {chat.temperature:g}"


def _seed(chat: Chat, argument: str) -> str:
    if argument:
        if not argument.isascii() or not argument.isdigit() or len(argument) > 20:
            return f"random_seed must be a whole number from 0, got {argument[:40]!r}"
        chat.change(random_seed=int(argument))
    return f"random seed {chat.random_seed}; with /reset before it the same talk comes again"


def _reset(chat: Chat, argument: str) -> str:
    chat.reset()
    return "the talk is forgotten"


def _save(chat: Chat, argument: str) -> str:
    if not argument:
        return "name a file: /save talk.json"
    path = Path(argument).expanduser()
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(chat.save()), "utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return f"kept in {path}"


def _load(chat: Chat, argument: str) -> str:
    if not argument:
        return "name a file: /load talk.json"
    path = Path(argument).expanduser()
    try:
        saved = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        return f"{path} is no talk that was kept with /save"
    chat.restore(saved)
    return f"the talk of {path} goes on, after {chat.turns} turns"


COMMANDS: dict[str, Callable[[Chat, str], str]] = {
    "/help": lambda chat, argument: HELP,
    "/temperature": _temperature,
    "/seed": _seed,
    "/reset": _reset,
    "/save": _save,
    "/load": _load,
}
