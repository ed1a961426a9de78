import io
import json
import logging

import pytest

from api import logs


@pytest.fixture(autouse=True)
def _no_request():
    logs.request_id.set("")


@pytest.fixture(params=["json", "text"])
def style(request):
    return request.param


@pytest.fixture
def written(style):
    """A logger, and what it has written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.formatter(style))
    logger = logging.Logger("apart", logging.INFO)  # pytest's report can't hold what is logged here
    logger.addHandler(handler)
    return logger, stream


@pytest.mark.parametrize("given", ["a", "0af7651916cd43dd8448eb211c80319c", "a.b_c~d:e+f/g=h@i-j"])
def test_an_id_that_is_sane_is_kept(given):
    assert logs.new_or_given_id(given) == given


@pytest.mark.parametrize(
    "given", [None, "", " ", "a b", "a\n", "é", "a" * 129, '"', "a,b", "\x1b[1m"]
)
def test_any_other_is_replaced_by_a_new_one(given):
    made = {logs.new_or_given_id(given) for _ in range(3)}
    assert len(made) == 3
    assert all(logs.REQUEST_ID.fullmatch(each) for each in made)


HOSTILE = (
    'x\n2026-01-01 [CRITICAL] forged\r\n{"level":"critical"}\x1b[2J\u2028\u202e\x85\x00\udc80"}'
)


def test_nothing_in_a_message_makes_a_line_of_its_own(written):
    logger, stream = written
    logger.warning("refused: %s", HOSTILE, extra={"fields": {"value": HOSTILE}})
    assert len(stream.getvalue().splitlines()) == 1
    assert stream.getvalue().rstrip("\n").isprintable()


def test_a_traceback_can_not_forge_a_line(written, style):
    logger, stream = written
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logger.exception("it broke")
    first, *rest = stream.getvalue().splitlines()
    assert "it broke" in first
    assert all(line.startswith("    ") for line in rest)
    assert bool(rest) == (style == "text")


def test_a_line_of_json_has_its_fields():
    record = logging.LogRecord("api", logging.INFO, "", 0, "said %s", ("x",), None)
    record.fields = {"status": 200}
    line = json.loads(logs.formatter("json").format(record))
    assert line.pop("time").endswith("Z")
    assert line.pop("pid") > 0
    assert line == {"level": "info", "logger": "api", "message": "said x", "status": 200}


def test_the_request_is_named_in_each_of_its_lines(written):
    logger, stream = written
    token = logs.request_id.set("abc123")
    logger.info("one")
    logs.request_id.reset(token)
    logger.info("two")
    assert ["abc123" in line for line in stream.getvalue().splitlines()] == [True, False]


@pytest.mark.parametrize(("is_terminal", "expected"), [(True, "text"), (False, "json")])
def test_a_terminal_gets_text_and_all_else_json(monkeypatch, is_terminal, expected):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal, raising=False)
    assert type(logs.formatter("auto")) is type(logs.formatter(expected))


def test_a_refusal_to_start_is_one_line_in_the_same_form():
    assert logs.refusal("it can't start", "text") == "it can't start"
    assert json.loads(logs.refusal("it can't start", "json"))["message"] == "it can't start"
