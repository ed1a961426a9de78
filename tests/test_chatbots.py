"""The chatbots in examples/ run, and do what they say, with the weights that ship."""

import importlib.util
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import pytest
from playwright.sync_api import sync_playwright

import charrnn
from tests.api.server import running

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
CHROMIUM = Path("/usr/bin/chromium")
LINES = "hello!\nname me a dinosaur starting with k\nwhat did stegosaurus eat?\nbye\n"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        """Nothing."""


@pytest.fixture(scope="module")
def pages():
    """Where a page of one's own is served."""
    handler = partial(_Quiet, directory=str(EXAMPLES))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def address(pages):
    with running(CHARRNN_CORS_ORIGINS=pages) as server:
        yield f"http://{server.host}:{server.port}"


def run(name, *arguments, lines=LINES):
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        input=lines,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


def module(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def names_in(reply):
    return [name.strip("?") for name in reply.split()]


def test_they_are_short():
    for name in ("chatbot.py", "chatbot_http.py", "chatbot_openai.py"):
        assert len((EXAMPLES / name).read_text().splitlines()) < 60


def test_the_embedded_one_talks_and_names_new_dinosaurs():
    bot = module("chatbot").Bot(random_seed=7)
    names = names_in(bot.answer("name me a dinosaur starting with k"))
    assert len(names) == 3
    assert all(name.startswith("K") for name in names)
    known = set(charrnn.load("dinosaurs").frozen.names)
    assert not {name.lower() for name in names} & known
    assert len(names_in(bot.answer("give me some dinosaur names"))) == 3
    assert bot.answer("hello!") == charrnn.load("rex").chat(random_seed=7).say("hello!")
    assert bot.answer("😀")
    assert bot.answer("name a dinosaur starting with ı")  # i to who ignores case
    assert run("chatbot.py").count("bot>") == 3


def test_the_one_over_http_says_what_the_embedded_one_says_and_keeps_the_talk(address):
    bot = module("chatbot_http").Bot(address, random_seed=7)
    names = names_in(bot.answer("name me a dinosaur starting with k"))
    assert len(names) == 3
    assert all(name.startswith("K") for name in names)
    assert bot.answer("name a dinosaur starting with ı")
    assert bot.answer("what did stegosaurus eat?")
    assert [message["role"] for message in bot.messages] == ["user", "assistant"]
    assert run("chatbot_http.py", address).count("bot>") == 3
    bot.address = "http://127.0.0.1:9"  # nobody is there
    with pytest.raises(URLError):
        bot.answer("hello!")
    assert len(bot.messages) == 2


def test_the_official_client_lists_names_and_talks(address):
    written = run("chatbot_openai.py", address)
    assert "models: dinosaurs, rex" in written
    assert written.count("Tyr") >= 3
    replies = [line for line in written.split("\n") if line.startswith("rex> ")]
    assert len(replies) == 3
    assert all(len(reply) > len("rex> ") for reply in replies)


def test_the_page_talks_in_a_browser(address, pages):
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"there is no browser at {CHROMIUM}: `apt install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page()
        page.goto(f"{pages}/chatbot.html?service={address}")
        page.route("**/completions", lambda route: route.abort(), times=1)
        page.fill("#line", "is anybody there?")
        page.press("#line", "Enter")
        page.get_by_text("(").wait_for()
        sent = []
        page.on("request", lambda request: sent.append(request.post_data_json))
        for number, line in enumerate(("hello!", "what did stegosaurus eat?"), 1):
            page.fill("#line", line)
            page.press("#line", "Enter")
            page.wait_for_function(f"document.querySelectorAll('[data-done]').length == {number}")
        said = page.locator("#talk p").all_inner_texts()[2:]
        browser.close()
    asked = [[turn["role"] for turn in body["messages"]] for body in sent if body]
    assert asked == [["user"], ["user", "assistant", "user"]]
    assert said[0] == "you: hello!"
    assert [line[:5] for line in said] == ["you: ", "rex: "] * 2
    assert all(len(line) > 6 for line in said)
