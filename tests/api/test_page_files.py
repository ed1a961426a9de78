"""The page at / and its files, as they are sent."""

import re
from pathlib import Path

import pytest

from api import create_app
from api.page import FILES, POLICY
from api.settings import ServiceSettings
from charrnn.look import LOOK
from charrnn.report import STYLE

HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
LARGEST = 100_000  # bytes of the page and all its files


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (HTML["Accept"], "text/html"),
        ("text/html", "text/html"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json", "application/json"),
        ("image/png", "application/json"),
    ],
)
def test_browsers_get_the_page_and_programs_the_routes(client, accept, kind):
    answer = client.get("/", headers={"Accept": accept})
    assert (answer.status_code, answer.mimetype) == (200, kind)
    assert "Accept" in answer.vary


def test_the_page_runs_and_loads_nothing_but_its_own_files(client):
    answer = client.get("/", headers=HTML)
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    text = answer.text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    for address in re.findall(r'(?:src|href)="([^"#]*)', text):
        assert re.match(r"static/|docs|openapi\.json|data:|$", address), address
    for name, file in FILES.items():
        content = file.content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"(^|\s)//[^\n]*", "", content), name
        assert not re.search(r"@import|url\(|innerHTML|eval\(|document\.write", content), name


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_count": 1},
        {"max_length": 8},
        {"max_length": 100},
        {"max_characters": 30},
        {"max_count": 2, "max_length": 1, "max_characters": 1},
    ],
)
def test_what_the_page_asks_for_at_first_is_within_the_services_limits(chatty, limits):
    settings = ServiceSettings(**limits)
    client = create_app(settings, chatty.store).test_client()
    fields = {}
    for tag in re.findall(r"<input[^>]*>", client.get("/", headers=HTML).text):
        field = dict(re.findall(r'([a-z]+)="([^"]*)"', tag))
        fields[field.get("name", field.get("id"))] = field
    longest = min(settings.max_length, settings.max_characters)
    for name in ("max_length", "chat-length"):
        assert 1 <= int(fields[name]["max"]) <= longest
    for name in ("seed", "inside-text"):
        assert len(fields[name].get("value", "")) <= int(fields[name]["maxlength"]) <= longest
    assert int(fields["count"]["max"]) == settings.max_count
    length = int(fields["chat-length"]["value"])
    talk = {"messages": [{"role": "user", "content": "a"}], "model": "rex", "max_tokens": length}
    for path, body in (
        ("/generate", {"count": int(fields["count"]["value"])}),
        ("/inspect", {"text": fields["inside-text"]["value"]}),
        ("/v1/chat/completions", talk),
    ):
        assert client.post(path, json=body).status_code == 200, path


def test_the_page_and_its_files_stay_small(client):
    page = client.get("/", headers=HTML).data
    assert len(page) + sum(len(file.content) for file in FILES.values()) < LARGEST


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_its_type_and_is_not_sent_twice(client, name):
    answer = client.get(f"/static/{name}")
    assert answer.content_type.startswith(
        {".js": "text/javascript", ".css": "text/css"}[Path(name).suffix]
    )
    assert answer.headers["Cache-Control"] == "no-cache"
    again = client.get(f"/static/{name}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    other = client.get(f"/static/{name}", headers={"If-None-Match": '"other"'})
    assert other.data == answer.data


@pytest.mark.parametrize("name", ["x.js", "..", "../page.py", "%2e%2e%2fpage.py", "page.css/", ""])
def test_no_other_file_is_served(client, name):
    assert client.get(f"/static/{name}").status_code == 404


def test_the_page_the_reports_and_the_reference_share_their_look(client):
    assert STYLE.startswith(LOOK)
    assert FILES["page.css"].content.decode().startswith(LOOK)
    assert LOOK in client.get("/docs").text


def luminance(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1])
def test_the_colours_have_the_contrast_that_the_look_promises(scheme):
    block = re.findall(r"--page.*?}", LOOK, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    pairs = [(a, b) for a in ("ink", "quiet", "accent") for b in ("page", "panel")]
    for fore, back in [*pairs, ("on-accent", "accent")]:
        low, high = sorted((luminance(colours[fore]), luminance(colours[back])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (fore, back)


def test_the_history_of_a_model_is_told_without_what_is_the_operators(client, weights):
    answer = client.get("/models/dinosaurs/history").json
    assert [each["event"] for each in answer["events"]] == ["promoted", "promoted"]
    assert answer["events"][-1]["version"] == weights.live[:12]
    assert set(answer["events"][0]) == {"event", "at", "reason", "version", "validation", "test"}
    assert client.get("/models/unicorns/history").status_code == 404


def test_a_history_that_grows_is_read_again_and_told_to_its_last_fifty(own_weights):
    client = create_app(ServiceSettings(), own_weights.store).test_client()
    assert len(client.get("/models/elves/history").json["events"]) == 1
    for k in range(60):
        own_weights.store.note(
            "elves", "refused", own_weights.store.current("elves").version, reason=f"{k}"
        )
    events = client.get("/models/elves/history").json["events"]
    assert [each["reason"] for each in events] == [str(k) for k in range(10, 60)]


def test_a_card_tells_since_when_it_is_live(client, weights):
    card = client.get("/models/dinosaurs").json
    assert card["promoted_at"] == weights.store.current("dinosaurs").promoted_at
