"""The same chatbot over HTTP, with nothing but Python's own library: a running service does it all.

make serve
python examples/chatbot_http.py http://127.0.0.1:8000
"""

import json
import re
import sys
import urllib.request
from typing import Any

WANTS_NAMES = re.compile(r"\bname\b.*\bdinosaurs?\b|\bdinosaur names?\b", re.IGNORECASE)
BEGINNING = re.compile(
    r"\b(?:start\w*|begin\w*) (?:with|in) \W*((?a:[a-z]{1,12}))\b", re.IGNORECASE
)


class Bot:
    """Answers lines. The service keeps nothing: the talk so far is kept here, and sent along."""

    def __init__(self, address: str, **settings: Any) -> None:
        self.address, self.settings = address.rstrip("/"), settings
        self.messages: list[dict[str, str]] = []

    def answer(self, line: str) -> str:
        """The reply to a line, whatever it holds."""
        if WANTS_NAMES.search(line):
            found = BEGINNING.search(line)
            body = {"seed": found[1] if found else "", "count": 20, "temperature": 0.8}
            samples = self._post("/generate", body | self.settings)["samples"]
            names = dict.fromkeys(sample["text"] for sample in samples if sample["novel"])
            return " ".join(f"{name}?" for name in list(names)[:3]) or "i can't think of one."
        messages = [*self.messages, {"role": "user", "content": line}]
        asked = {"model": "rex", "messages": messages[-21:]} | self.settings
        reply: dict[str, str] = self._post("/v1/chat/completions", asked)["choices"][0]["message"]
        self.messages = [*messages, {"role": "assistant", "content": reply["content"]}]
        return reply["content"]

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(self.address + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


if __name__ == "__main__":
    bot = Bot(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
    try:
        for line in iter(lambda: input("you> "), "bye"):
            print("bot>", bot.answer(line))
    except (EOFError, KeyboardInterrupt):
        print()
