"""What the documents say is what the code does."""

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from gunicorn.config import make_settings

from api.openai_schemas import IGNORED, NEUTRAL, ChatRequest, CompletionRequest
from api.schemas import GenerateRequest
from api.settings import table
from charrnn.cli import main
from charrnn.cli_versions import FAILED, LOCKED, STATUSES, STOPPED, WRONG
from charrnn.config import (
    CHAT_TEMPERATURE,
    LONGEST_HISTORY,
    LONGEST_REPLY,
    LONGEST_TURN,
    GateConfig,
    GenerationConfig,
    RetrainConfig,
)
from charrnn.recipe import Recipe

ROOT = Path(__file__).parent.parent
KNOWN_SETTINGS = set(make_settings())
NOT_TO_SET = {"wsgi_app", "access_log_format"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rows(page, heading):
    """The cells of the table under a heading."""
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [tuple(cell.strip().strip("`") for cell in line.strip("|").split("|")) for line in lines]


def gunicorns_own():
    """(setting, value) of what gunicorn.conf.py fixes; what it takes from CHARRNN_* is not."""
    for node in ast.parse((ROOT / "gunicorn.conf.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            (target,) = node.targets
            if target.id in KNOWN_SETTINGS:
                yield target.id, str(node.value.value)


def test_the_table_of_settings_is_the_services_own_and_gunicorns():
    page = (ROOT / "docs" / "service.md").read_text()
    ours = len(table())
    found = rows(page, "Settings")
    assert found[:ours] == table()
    fixed = dict(gunicorns_own())
    assert {name: value for name, value, _ in found[ours:]} == {
        name: value for name, value in fixed.items() if name not in NOT_TO_SET
    }


def test_the_table_of_fields_is_the_requests_own():
    page = (ROOT / "docs" / "service.md").read_text()
    assert {row[0] for row in rows(page, "POST /generate")} == set(GenerateRequest.fields())


def test_the_exit_statuses_are_the_commands_own():
    page = (ROOT / "docs" / "retraining.md").read_text()
    own = {*STATUSES.values(), FAILED, WRONG, LOCKED, STOPPED}
    assert {int(row[0]) for row in rows(page, "Exit statuses")} == own


def test_the_gate_of_the_page_is_that_of_the_defaults():
    page = (ROOT / "docs" / "retraining.md").read_text()
    gate, rest = (
        tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    )
    assert gate["gate"] == GateConfig().values()
    Recipe.checked({"name": "x", **rest})
    assert set(rest["retraining"]) == set(RetrainConfig.fields())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_pages_have_the_options_that_they_show(page):
    for line in re.findall(r"python -m charrnn (.*)", page.read_text()):
        command, *words = line.replace("`", " ").split()
        known = CliRunner().invoke(main, [command, "--help"]).output
        assert "No such command" not in known
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0].rstrip(".,;:)") in known, line


# --- docs/how-it-works.md -------------------------------------------------------------------------

BLOCK = re.compile(r"^```(text|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HOW = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
QUOTES = [block for kind, block in BLOCK.findall(HOW) if kind == "python"]


def source_of(path, name):
    """The lines of a definition, without their indentation; `name` may be Class.method."""
    text = (ROOT / path).read_text(encoding="utf-8")
    node = ast.parse(text)
    for part in name.split("."):
        found = [
            child for child in ast.iter_child_nodes(node) if getattr(child, "name", "") == part
        ]
        assert found, f"{path} defines no {name}"
        node = found[0]
    return [line.strip() for line in text.splitlines()[node.lineno - 1 : node.end_lineno]]


@pytest.mark.parametrize("quote", QUOTES, ids=lambda quote: quote.splitlines()[0][2:])
def test_a_quoted_line_stands_in_the_function_it_is_said_to(quote):
    head, *lines = quote.splitlines()
    path, name = head.removeprefix("# ").split(", ")
    source = source_of(path, name)
    assert lines
    assert [line for line in lines if line.strip() not in source] == []


def test_no_formula_is_without_its_source_and_its_line():
    for section in HOW.split("\n## ")[1:]:
        kinds = [kind for kind, _ in BLOCK.findall(section)]
        pieces = section.split("```text\n")[1:]
        for piece in pieces:
            assert "Source: " in piece, piece
            assert "```python\n" in piece, piece
        assert pieces or "python" not in kinds, section.splitlines()[0]
    assert len(QUOTES) > 20


def test_every_section_is_in_the_list_at_the_head_of_the_page():
    head, *sections = HOW.split("\n## ")
    anchors = [
        re.sub(r"[^a-z -]", "", s.splitlines()[0].lower()).replace(" ", "-") for s in sections
    ]
    assert re.findall(r"\(#([a-z-]+)\)", head) == anchors


# --- docs/openai.md -------------------------------------------------------------------------------


def test_the_table_of_openais_fields_has_each_of_them_and_says_what_becomes_of_it():
    page = (ROOT / "docs" / "openai.md").read_text()
    found = {
        name: what
        for names, what in rows(page, "Fields")[:-1]
        for name in re.findall(r"\w+", names.split(" and every")[0])
    }
    fields = set(CompletionRequest.fields()) | set(ChatRequest.fields())
    assert set(found) >= fields - set(GenerationConfig.fields()) | NEUTRAL.keys() | IGNORED
    assert set(found) <= fields | NEUTRAL.keys() | IGNORED
    assert {name for name, what in found.items() if what.startswith("ignored")} == IGNORED
    assert {name for name, what in found.items() if what.startswith("refused")} == set(NEUTRAL)
    for name, values in NEUTRAL.items():
        for value in values:
            assert json.dumps(value) in found[name].replace("`", ""), name


def test_the_bounds_of_a_chat_are_the_codes_own():
    page = (ROOT / "docs" / "chat.md").read_text()
    theirs = (ROOT / "docs" / "openai.md").read_text()
    assert f"{LONGEST_HISTORY:,} characters" in theirs
    assert f"left out: 1, and {CHAT_TEMPERATURE:g} in a chat" in theirs
    assert f"left out: {LONGEST_REPLY} " in theirs
    assert f"{LONGEST_TURN} characters" in page
    assert f"temperature {CHAT_TEMPERATURE:g}" in page


@pytest.mark.parametrize(
    "command", ["beam dinosaurs --seed Tyr --count 3", "score dinosaurs Rexoraptor"]
)
def test_what_a_page_shows_of_a_command_is_what_it_prints(command):
    page = (ROOT / "docs" / "names.md").read_text()
    shown = page.split(f"    python -m charrnn {command}\n\n")[1].split("\n\n")[0].splitlines()
    printed = CliRunner().invoke(main, command.split()).stdout.splitlines()
    wanted = [line.split() for line in shown if line.strip() != "..."]
    for line, own in zip(wanted, printed[: len(wanted)], strict=True):
        for word, other in zip(line, own.split(), strict=True):
            number, same = (each.rstrip(",") for each in (word, other))
            try:
                assert float(number) == pytest.approx(float(same), abs=2e-4)
            except ValueError:
                assert word == other
