"""The page at /, in a browser: one works with it, with keys alone too, and nothing leaves it."""

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect, sync_playwright

from charrnn.config import ModelConfig
from charrnn.model import CharRNN
from charrnn.vocabulary import Vocabulary
from charrnn.weights import FrozenModel, to_bytes
from tests.api import tiny
from tests.api.server import PATIENCE, ROOT, running

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
KEY = "k3y" * 8
VIEWS = ("names", "chat", "inside", "models")
SAURUS = tuple(f"{a}{b}saurus" for a in ("al", "bro", "cer", "dip") for b in ("o", "ani", "u"))
SVG = "{http://www.w3.org/2000/svg}"
REFUSED = re.compile("Failed to load resource")  # what a browser says of a status that is no 200

expect.set_options(timeout=PATIENCE * 1000)


def stream_of(*names, novel=True, done=True):
    """A stream of events, as the service sends it."""
    pieces = [{"index": k, "text": name} for k, name in enumerate(names)]
    samples = [
        {"index": k, "logprob": -9.0, "finish_reason": "end", "novel": novel}
        for k in range(len(names))
    ]
    last = {"version": "0" * 12, "random_seed": 7, "samples": samples, "shortfall": None}
    text = "".join(f"data: {json.dumps(each)}\n\n" for each in pieces)
    return text + (f"event: done\ndata: {json.dumps(last)}\n\n" if done else "")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. In CI it must be there."""
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"there is no browser at {CHROMIUM}: `apt install chromium`")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> tiny.Tiny:
    """Tiny weights, and an LSTM whose list is long enough to look for units in."""
    made = tiny.make(tmp_path_factory.mktemp("page"), chats=True)
    vocabulary = Vocabulary.of(SAURUS, ends=True, case="title")
    config = ModelConfig(cell="lstm", hidden_size=20, num_layers=2, vocab_size=len(vocabulary))
    params = CharRNN.initialized(config, np.random.default_rng(5)).params
    version = made.store.add(
        "beasts", to_bytes(FrozenModel("names", config, params, vocabulary, SAURUS))
    )
    made.store.promote("beasts", version, reason="a test")
    return made


@pytest.fixture(scope="module")
def address(browser, folder) -> Iterator[str]:
    with running("-c", "gunicorn.conf.py", "wsgi:app", CHARRNN_WEIGHTS=folder.root) as server:
        yield f"http://{server.host}:{server.port}"


class Tab:
    """A page, what it said in its console, and what it asked for."""

    def __init__(self, browser, address, **options):
        self.address, self.said, self.asked, self.bodies = address, [], [], []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        self.context.set_default_timeout(PATIENCE * 1000)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", self._note)

    def _note(self, request):
        self.asked.append(request.url)
        if request.method == "POST":
            self.bodies.append((request.url.removeprefix(self.address), request.post_data_json))

    def open(self, fragment="names"):
        self.page.goto(f"{self.address}/#{fragment}")
        return self.page

    def names(self, count=12):
        """The names, once all have come."""
        said = self.page.locator("#about-run")
        expect(said).to_contain_text("Random seed")
        words = self.page.locator("#names .word:not([disabled])")
        expect(words).to_have_count(count)
        expect(self.page.locator("#names li.stale")).to_have_count(0)
        return words.evaluate_all("words => words.map(word => word.getAttribute('aria-label'))")

    def last(self, path):
        return [body for url, body in self.bodies if url == path][-1]

    def close(self, allowed=None):
        self.context.close()
        said = [words for words in self.said if not (allowed and allowed.search(words))]
        assert said == []
        origin = self.address
        assert [url for url in self.asked if not url.startswith((origin, "data:", "blob:"))] == []


@pytest.fixture
def tab(browser, address):
    opened = Tab(browser, address, permissions=["clipboard-read", "clipboard-write"])
    yield opened
    opened.close(getattr(opened, "allowed", None))


def clipboard(page):
    return page.evaluate("navigator.clipboard.readText()")


def test_without_a_key_pressed_there_are_names_and_typing_brings_those_that_begin_so(tab):
    page = tab.open()
    assert len(tab.names()) == 12
    page.locator("#seed").press_sequentially("Abc", delay=10)
    expect(page.locator("#names .word").first).to_have_attribute("aria-label", re.compile("^Abc"))
    expect(page.locator("#names li.stale")).to_have_count(0)
    assert all(name.startswith("Abc") for name in tab.names())
    assert tab.last("/generate")["stream"] is True
    assert tab.last("/generate")["seed"] == "Abc"
    expect(page.locator("#live")).to_contain_text("12 names: Abc")
    assert page.locator("#names [aria-live]").count() == 0, "nothing is said letter by letter"


def test_every_control_is_in_what_is_asked_for(tab):
    tab.allowed = REFUSED  # there is no such version to score them
    page = tab.open()
    tab.names()
    page.route(
        "**/generate",
        lambda route: route.fulfill(
            status=200, content_type="text/event-stream", body=stream_of("Abcdef")
        ),
    )
    page.locator("#more summary").click()
    values = {
        "ends_with": "f",
        "contains": "cd",
        "pattern": "a*",
        "exclude_letters": "xz",
        "min_length": 3,
        "max_length": 9,
        "count": 2,
        "top_k": 5,
        "top_p": 0.5,
        "random_seed": 42,
    }
    for name, value in values.items():
        page.locator(f"#ask [name={name}]").fill(str(value))
    page.locator("#ask [name=real]").check()
    page.locator("#temperature").focus()
    page.keyboard.press("End")
    expect(page.locator("#temperature")).to_have_attribute("aria-valuetext", "2, wild")
    with page.expect_request(lambda sent: (sent.post_data_json or {}).get("temperature") == 2):
        page.get_by_role("button", name="Draw again").click()
    expect(page.locator("#names li")).to_have_count(1)  # fewer than asked for leave no gaps
    asked = tab.last("/generate")
    expected = values | {"seed": "", "temperature": 2, "novel": False, "model": "dinosaurs"}
    assert asked == expected | {"stream": True}
    with page.expect_request(  # a score has no top_k either
        lambda sent: sent.url.endswith("/generate") and "top_k" not in sent.post_data_json
    ):
        page.get_by_role("button", name="As it was").click()
    assert set(tab.last("/generate")) == {
        "model",
        "seed",
        "temperature",
        "count",
        "random_seed",
        "stream",
    }


def test_letters_are_shaded_and_tell_by_keys_what_else_was_considered(tab):
    page = tab.open()
    tab.names()
    longer = page.locator(".letter:nth-child(2)")  # a tiny network writes names of one letter, too
    word = page.locator("#names .word").filter(has=longer).first
    expect(word.locator(".letter").first).to_have_attribute("style", re.compile("--doubt"))
    word.focus()
    page.keyboard.press("ArrowRight")
    peek = page.locator("#peek")
    expect(peek).to_contain_text("At the start")
    expect(peek.locator("li")).to_have_count(5)
    expect(peek.locator(".drawn")).to_have_count(1)
    page.keyboard.press("End")
    expect(peek).to_contain_text("the end")
    page.keyboard.press("Escape")
    expect(peek).to_be_hidden()
    word.locator(".letter").nth(1).hover()
    expect(peek).to_contain_text("After “")


def test_a_name_is_copied_and_more_like_it_are_drawn(tab):
    page = tab.open()
    first = tab.names()[0]
    seed = tab.last("/generate")["random_seed"]
    page.get_by_role("button", name=f"Copy {first}", exact=True).click()
    expect(page.locator("#notice")).to_contain_text("was copied")
    assert clipboard(page) == first
    page.get_by_role("button", name=f"More like {first}", exact=True).click()
    expect(page.locator("#about-run")).to_contain_text(f"Like {first}")
    asked = tab.last("/generate")
    assert asked["random_seed"] == seed
    assert first.startswith(asked["seed"])
    assert len(asked["seed"]) >= min(2, len(first))


def test_a_name_that_exists_is_called_real(tab):
    tab.allowed = REFUSED  # there is no such version to score it
    page = tab.page
    page.route(
        "**/generate",
        lambda route: route.fulfill(
            status=200, content_type="text/event-stream", body=stream_of("Allosaurus", novel=False)
        ),
    )
    tab.open()
    expect(page.locator("#names .badge").first).to_have_text("already a real dinosaur")


def test_kept_names_are_ordered_exported_and_copied_as_a_link_to_the_same(browser, tab):
    page = tab.open()
    names = tab.names()
    for name in names[2::-1]:
        page.get_by_role("button", name=f"Keep {name}", exact=True).click()
    kept = page.locator("#kept li span")
    assert kept.all_text_contents() == names[2::-1]
    page.reload()
    expect(kept).to_have_count(3)
    page.get_by_role("button", name=f"{names[0]}: up").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    order = [names[0], names[2], names[1]]
    assert kept.all_text_contents() == order
    page.locator("#kept li").nth(2).drag_to(page.locator("#kept li").nth(1))
    order = names[:3]
    assert kept.all_text_contents() == order

    def downloaded(form):
        with page.expect_download() as download:
            page.locator(f"[data-export={form}]").click()
        assert download.value.suggested_filename == f"names.{form}"
        return Path(download.value.path()).read_text(encoding="utf-8")

    assert downloaded("txt").split("\n") == [*order, ""]
    assert [row["name"] for row in csv.DictReader(io.StringIO(downloaded("csv")))] == order
    assert [each["text"] for each in json.loads(downloaded("json"))] == order
    page.locator("#kept-copy").click()
    assert clipboard(page).split("\n") == order
    page.locator("#kept-link").click()
    expect(page.locator("#notice")).to_contain_text("link")
    link = clipboard(page)

    other = Tab(browser, tab.address)
    other.context.add_init_script("localStorage.setItem('charrnn.model', 'rex')")  # it talks
    other.page.goto(link)
    shared = other.page.locator("#shared")
    expect(shared).to_contain_text("the same to the letter, by dinosaurs ")
    assert shared.locator("li").all_text_contents() == order
    other.page.get_by_role("button", name="Keep them").click()
    assert other.page.locator("#kept li span").all_text_contents() == order
    other.close()

    page.get_by_role("button", name=f"Forget {names[1]}").click()
    assert kept.all_text_contents() == [names[0], names[2]]
    page.get_by_role("button", name="Forget all").click()
    expect(kept).to_have_count(0)
    page.get_by_role("button", name="Bring them back").click()
    expect(kept).to_have_count(2)


def test_a_link_to_a_version_that_is_gone_says_so_and_a_damaged_one_too(tab):
    tab.allowed = REFUSED
    draws = [["dinosaurs", "abcdefabcdef", {"seed": "A"}, 7, [[0, "Abra"], [3, "<b>bold</b>"]]]]
    letters = base64.urlsafe_b64encode(json.dumps(draws).encode()).decode().rstrip("=")
    page = tab.open(f"kept={letters}")
    expect(page.locator("#shared")).to_contain_text(
        "version abcdefabcdef of dinosaurs is no longer here"
    )
    assert page.locator("#shared li").all_text_contents() == ["Abra", "<b>bold</b>"]
    page.goto(f"{tab.address}/#kept=%%%")
    expect(page.locator("#shared")).to_contain_text("This link is damaged")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#shared")).to_be_hidden()


def test_what_the_model_does_not_know_is_said_at_the_field(tab):
    tab.allowed = REFUSED
    page = tab.open()
    tab.names()
    page.fill("#seed", "Tyr 9")
    expect(page.locator("#seed-problem")).to_contain_text("character ' ' (U+0020) at position 3")
    expect(page.locator("#seed")).to_have_attribute("aria-invalid", "true")
    page.fill("#seed", "Ab")
    expect(page.locator("#seed-problem")).to_be_empty()


def test_one_chats_with_settings_and_begins_anew(tab):
    page = tab.open("chat")
    expect(page.locator("#chat-title")).to_have_text("Talk to rex")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.locator("#chat-length").fill("12")
    page.locator("#chat-seed").fill("5")
    page.fill("#line", "hello")
    page.keyboard.press("Enter")
    replies = page.locator("#talk .it:not(.waiting)")
    expect(page.locator("#live")).to_contain_text("rex: ")
    first = replies.first.text_content()
    asked = tab.last("/v1/chat/completions")
    assert asked["messages"] == [{"role": "user", "content": "hello"}]
    assert (asked["model"], asked["stream"], asked["max_tokens"], asked["seed"]) == (
        "rex",
        True,
        12,
        5,
    )
    page.fill("#line", "again")
    page.keyboard.press("Enter")
    expect(replies).to_have_count(2)
    said = tab.last("/v1/chat/completions")["messages"]
    assert [turn["role"] for turn in said] == ["user", "assistant", "user"]
    assert said[1]["content"] == first
    page.get_by_role("button", name="Begin anew").click()
    expect(page.locator("#talk .me")).to_have_count(0)


def test_one_looks_inside_at_probabilities_units_and_gates(tab):
    tab.allowed = REFUSED  # this model knows no t
    page = tab.open("inside")
    page.select_option("#model", "beasts")
    page.fill("#inside-text", "alosa")
    places = page.locator("#strip .place")
    expect(places).to_have_count(6)
    assert places.nth(2).locator("i").count() == 6
    expect(page.locator("#live")).to_contain_text("next:")
    chips = page.locator("#units button")
    assert "the approach of -saurus" in chips.all_text_contents()
    chips.nth(1).click()
    expect(chips.nth(1)).to_have_attribute("aria-pressed", "true")
    assert page.locator("#coloured span").all_text_contents() == list("alosa")
    assert {"i", "f", "o", "g", "h", "c"} <= set(page.locator("#gates text").all_text_contents())
    page.fill("#unit", "7.5")
    page.keyboard.press("Enter")
    expect(page.locator("#unit-title")).to_have_text("Unit 7")
    assert page.locator("#field i").count() == 20
    page.locator("#field i").nth(11).click()
    expect(page.locator("#unit-title")).to_have_text("Unit 11")
    places.nth(1).click()
    expect(page.locator("#units-after")).to_have_text("after “a”")
    page.fill("#layer", "1")
    page.keyboard.press("Enter")
    expect(chips).to_have_count(0)


def test_any_model_is_chosen_and_its_card_tells_of_it(tab):
    page = tab.open("models")
    card = page.get_by_role("article", name="elves")
    card.get_by_text("History").click()
    expect(card.locator("tbody tr")).to_have_count(1)
    expect(card.locator("tbody")).to_contain_text("a test")
    card.get_by_role("button", name="Use elves").click()
    expect(page.locator("#model")).to_have_value("elves")
    page.get_by_role("link", name="Names", exact=True).click()
    expect(page.locator("#names-title")).to_have_text("Names that never were")
    assert tab.last("/generate")["model"] == "elves"
    page.select_option("#model", "prose")
    expect(page.locator("#names .word:not([disabled])")).to_have_count(2)
    page.reload()
    expect(page.locator("#model")).to_have_value("prose")
    expect(page.locator("#names-lead")).to_contain_text("letter by letter")

    prose = page.request.get(f"{tab.address}/models/prose").json() | {"unit": "word"}
    page.route("**/models", lambda route: route.fulfill(json={"default": "", "models": [prose]}))
    with page.expect_request("**/generate"):
        page.reload()
    expect(page.locator("#names-lead")).to_contain_text("word by word")
    expect(page.locator("#ask label").filter(has_text="At most, words")).to_have_count(1)
    assert tab.last("/generate")["max_length"] == 100


def test_names_are_written_by_another_model_where_the_one_in_use_talks_or_by_nobody(tab):
    page = tab.open()
    tab.names()
    page.select_option("#model", "rex")
    expect(page.locator("#view-chat")).to_be_visible()
    page.reload()
    page.get_by_role("link", name="Names", exact=True).click()
    page.fill("#seed", "Abc")
    expect(page.locator("#names .word").first).to_have_attribute("aria-label", re.compile("^Abc"))
    tab.names()
    expect(page.locator("#model")).to_have_value("rex")
    expect(page.locator("#about-run")).to_contain_text("of dinosaurs")
    assert tab.last("/generate")["model"] == "dinosaurs"

    listed = page.request.get(f"{tab.address}/models").json()
    talkers = [card for card in listed["models"] if card["kind"] == "chat"]
    page.route("**/models", lambda route: route.fulfill(json={"default": "rex", "models": talkers}))
    page.goto(tab.address)
    expect(page.locator("#view-chat")).to_be_visible()
    page.get_by_role("link", name="Names", exact=True).click()
    expect(page.locator("#names-title")).to_have_text("Nobody here writes")
    expect(page.locator("#seed")).to_be_hidden()
    page.goto(f"{tab.address}/#constructor")  # no view of ours
    expect(page.locator("#view-names")).to_be_visible()


def refuse(page, path, status):
    """Answer the next request to a path so."""
    headers = {"Retry-After": "1", "Content-Type": "application/problem+json"}
    body = json.dumps({"detail": f"no: {status}"})
    answer = {"status": status, "headers": headers, "body": body}
    page.route(path, lambda route: route.fulfill(**answer), times=1)


def test_a_busy_service_a_cut_stream_and_no_network_are_said_and_got_over(tab):
    tab.allowed = REFUSED
    page = tab.page
    refuse(page, "**/models", 500)
    tab.open()
    expect(page.locator("#notice")).to_contain_text("no: 500")
    refuse(page, "**/models", 429)  # as a proxy in front of it does
    page.reload()
    expect(page.locator("#notice")).to_contain_text("busy")
    tab.names()
    refuse(page, "**/generate", 503)
    page.fill("#seed", "A")
    expect(page.locator("#notice")).to_contain_text("busy")
    expect(page.locator("#names .word").first).to_have_attribute("aria-label", re.compile("^A"))
    expect(page.locator("#notice")).to_be_hidden()

    page.route(
        "**/generate",
        lambda route: route.fulfill(
            status=200, content_type="text/event-stream", body=stream_of("Bitten", done=False)
        ),
        times=1,
    )
    page.fill("#seed", "B")
    expect(page.locator("#notice")).to_contain_text("cut off")
    expect(page.locator("#names .word").nth(11)).to_have_attribute("aria-label", re.compile("^B"))
    first, second = [body for url, body in tab.bodies if url == "/generate"][-2:]
    assert first == second, "the same names come again"
    expect(page.locator("#notice")).to_be_hidden()

    tab.context.set_offline(True)
    page.fill("#seed", "C")
    expect(page.locator("#notice")).to_contain_text("offline")
    tab.context.set_offline(False)
    expect(page.locator("#names .word").first).to_have_attribute("aria-label", re.compile("^C"))
    expect(page.locator("#notice")).to_be_hidden()


def test_a_service_with_keys_is_asked_with_one_that_stays_in_the_tab_and_restarts_unnoticed(
    browser, folder
):
    settings = {"CHARRNN_WEIGHTS": folder.root, "CHARRNN_API_KEYS": KEY}
    with running("-c", "gunicorn.conf.py", "wsgi:app", **settings) as server:
        port = str(server.port)
        tab = Tab(browser, f"http://{server.host}:{port}")
        page = tab.open()
        field = page.locator("#key-text")
        field.fill("schlüssel“schlüssel“123")  # which no header can hold
        page.get_by_role("button", name="Use it").click()
        assert field.evaluate("field => field.validity.patternMismatch")
        assert page.evaluate("sessionStorage.getItem('charrnn.key')") is None
        for key in ("w" * 24, f" {KEY} "):
            page.locator("#key-text").fill(key)
            page.get_by_role("button", name="Use it").click()
            if KEY not in key:
                expect(page.locator("#key")).to_contain_text("not a known one")
        tab.names()
        assert page.evaluate("sessionStorage.getItem('charrnn.key')") == KEY
        assert page.evaluate("JSON.stringify(localStorage)").find(KEY) == -1
    page.fill("#seed", "A")
    expect(page.locator("#notice")).to_contain_text("doesn't answer")
    with running("-c", "gunicorn.conf.py", "wsgi:app", **settings, CHARRNN_PORT=port):
        expect(page.locator("#names .word").first).to_have_attribute(
            "aria-label", re.compile("^A"), timeout=PATIENCE * 1000
        )
        tab.close(REFUSED)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_fault_of_accessibility_is_found_and_nothing_sticks_out(browser, address, scheme):
    tab = Tab(browser, address, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True)
    page = tab.open()
    name = tab.names()[0]
    page.get_by_role("button", name=f"Keep {name}", exact=True).click()
    page.locator("#more summary").click()
    expect(page.locator("#names .letter").first).to_have_attribute("style", re.compile("--doubt"))
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.letter')).animationName") == "none"
    )
    for view in VIEWS:
        page.goto(f"{address}/#{view}")
        expect(page.locator(f"#view-{view}")).to_be_visible()
        if view == "inside":
            page.set_viewport_size({"width": 320, "height": 844})
            page.fill("#inside-text", "tyran" * 8)
            expect(page.locator("#strip .place")).to_have_count(41)
            drawn = page.locator("#gates svg")
            expect(drawn).to_be_visible()
            ratio = drawn.evaluate("svg => svg.clientWidth / svg.viewBox.baseVal.width")
            assert ratio >= 1, "labels keep their size"
        if view == "chat":
            page.fill("#line", "hello")
            page.keyboard.press("Enter")
            expect(page.locator("#talk .it:not(.waiting)")).to_have_count(1)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        for width in (1280, 390, 320):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (view, width)
    tab.close()


def test_without_javascript_the_page_says_so_and_gives_a_command(browser, address):
    tab = Tab(browser, address, java_script_enabled=False)
    page = tab.open()
    expect(page.locator(".plain")).to_contain_text("This page needs JavaScript")
    expect(page.locator(".plain pre")).to_contain_text("curl -d")
    assert not page.locator("#seed").is_visible()
    tab.close()


def test_what_the_page_loads_is_within_its_policy(browser, address):
    tab = Tab(browser, address)
    page = tab.open()
    tab.names()
    assert {url.removeprefix(address) for url in tab.asked} >= {"/", "/static/app.js", "/models"}
    with pytest.raises(Exception, match="Content Security Policy"):
        page.add_script_tag(content="window.ran = true")
    assert page.evaluate("window.ran") is None
    tab.close(re.compile("Content Security Policy"))


def test_the_page_is_documented_with_pictures_that_load_fast_and_are_drawn_by_a_command(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/page.md" in readme
    assert readme.index("docs/pictures/page.png") < readme.index("docs/pictures/dream.svg")
    for name in ("page.png", "page-dark.png", "inside.png", "dream.svg"):
        assert 1000 < (ROOT / "docs" / "pictures" / name).stat().st_size < 150_000
    assert "examples/page_pictures.py" in (ROOT / "Makefile").read_text(encoding="utf-8")
    command = [sys.executable, "examples/page_pictures.py", "--dream", "--folder", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    letters = [text.text for text in ElementTree.parse(tmp_path / "dream.svg").iter(f"{SVG}text")]
    assert len(letters) > 50
