"""The reference page: complete, from here alone, and readable in a browser."""

import base64
import hashlib
import os
import re
import shlex
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, sync_playwright
from werkzeug.serving import make_server

from api import create_app
from api.pages import in_words, prose
from api.settings import ServiceSettings
from api.shapes import schemas
from tests.api.tiny import Tiny

CHROMIUM = Path("/usr/bin/chromium")
KEY = "k3y" * 8
FORBIDDEN = {"script", "iframe", "object", "embed", "form", "img", "base", "video", "audio"}


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.commands: list[str] = []
        self.in_command = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.attributes |= set(values)
        self.ids += [str(values["id"])] if values.get("id") else []
        self.links += [str(values[name]) for name in ("href", "src") if name in values]
        if values.get("class") == "command":
            self.in_command = True
            self.commands.append("")

    def handle_endtag(self, tag: str) -> None:
        self.in_command &= tag != "pre"

    def handle_data(self, data: str) -> None:
        if self.in_command:
            self.commands[-1] += data


@pytest.fixture
def answer(client):
    return client.get("/docs")


def test_the_page_is_html_under_a_strict_policy_that_allows_its_own_style_alone(answer):
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    policy = answer.headers["Content-Security-Policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


def test_the_page_asks_for_nothing_from_elsewhere_and_runs_nothing(answer):
    page = Page(answer.text)
    assert not set(page.tags) & FORBIDDEN
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
    assert {link for link in page.links if not link.startswith("#")} == {"openapi.json", "data:,"}
    assert "url(" not in answer.text
    assert "@import" not in answer.text


def test_every_link_on_the_page_leads_to_one_place_on_it(answer):
    page = Page(answer.text)
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_every_operation_field_status_and_shape_is_on_the_page(client, answer):
    document, ids = client.get("/openapi.json").json, set(Page(answer.text).ids)
    assert set(document["components"]["schemas"]) <= ids
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["operationId"] in ids
            assert f'<span class="path">{path}</span>' in answer.text
    for field in document["components"]["schemas"]["GenerateRequest"]["properties"]:
        assert f"<code>{field}</code>" in answer.text
    for status in ("400", "404", "405", "410", "413", "422", "500", "503"):
        assert f'<span class="status">{status}</span>' in answer.text


def test_every_command_on_the_page_can_be_copied_and_is_answered(chatty):
    client = create_app(ServiceSettings(), chatty.store).test_client()
    commands = Page(client.get("/docs").text).commands
    assert len(commands) >= 8
    for command in commands:
        program, *words = shlex.split(command)
        *options, address = words
        body = options[options.index("-d") + 1] if "-d" in options else None
        assert program == "curl"
        got = client.open(address, method="POST" if body else "GET", data=body, buffered=True)
        assert got.status_code == 200, command


def test_commands_bring_a_key_where_one_is_asked_for(weights):
    settings = ServiceSettings(api_keys=KEY)
    text = create_app(settings, weights.store).test_client().get("/docs").text
    assert "curl -H &#39;Authorization: Bearer KEY&#39; -d" in text
    assert "Needs no API key." in text
    assert KEY not in text


@pytest.mark.parametrize(
    "host", ['"><script>alert(1)</script>', "a'b", "x y", "☃".encode().decode("latin-1")]
)
def test_a_hostile_host_header_stays_text(client, host):
    answer = client.get("/docs", headers={"Host": host})
    if answer.status_code == 200:
        assert "<script" not in answer.text
        for command in Page(answer.text).commands:
            assert shlex.split(command)[0] == "curl"


def test_what_stands_in_a_description_stays_text():
    assert prose("a < `b & c`\n\n<i>") == "<p>a &lt; <code>b &amp; c</code></p><p>&lt;i&gt;</p>"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 2000}, "whole number from 1 to 2,000"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number above 0 to 1"),
        ({"type": ["boolean", "null"]}, "true or false or null"),
        ({"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]}, "text of at most 9 ch"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 3}, "list of at most 3: text"),
        ({"type": "string", "enum": ["<a>", "b"]}, "<code>&lt;a&gt;</code>, <code>b</code>"),
        ({"$ref": "#/components/schemas/Model"}, '<a href="#Model">Model</a>'),
        ({}, "anything"),
    ],
)
def test_a_schema_is_told_in_words(schema, words):
    assert in_words(schema).startswith(words)


def test_every_shape_has_words_for_every_member():
    for shape in schemas().values():
        for member in shape["properties"].values():
            assert in_words(member)


# --- In a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. In CI it must be there."""
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"there is no browser at {CHROMIUM}: `apt install chromium`")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )


@pytest.fixture(scope="module")
def address(weights: Tiny) -> Iterator[str]:
    """Where the service listens: a thread of this process."""
    app = create_app(ServiceSettings(), weights.store)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_page_whole_at_every_width(browser, address, width, scheme):
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=True
    )
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/docs")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert said == [], "nothing breaks the page's policy"
    assert asked == [f"{address}/docs"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", background))) / 3
    assert (lightness > 128) is (scheme == "light"), "the style is in force"
    page.click("nav a[href='#generate']")
    assert page.evaluate("document.querySelector('#generate').getBoundingClientRect().top") < 100
    context.close()


def test_a_browser_with_the_policy_would_run_no_script(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/docs")
    with pytest.raises(Error, match="Content Security Policy"):
        page.add_script_tag(content="window.ran = true")
    assert page.evaluate("window.ran") is None
    page.close()
