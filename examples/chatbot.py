"""A chatbot that embeds the library: rex talks, and the dinosaur model makes up names.

python examples/chatbot.py
you> name me a dinosaur starting with k
bot> Kentitan? Kayanosaurus? Kulceratops?
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # not needed once it is installed

import charrnn

WANTS_NAMES = re.compile(r"\bname\b.*\bdinosaurs?\b|\bdinosaur names?\b", re.IGNORECASE)
BEGINNING = re.compile(
    r"\b(?:start\w*|begin\w*) (?:with|in) \W*((?a:[a-z]{1,12}))\b", re.IGNORECASE
)


class Bot:
    """Answers lines; what it can't make up itself it leaves to rex."""

    def __init__(self, random_seed: int | None = None) -> None:
        self.chat = charrnn.load("rex").chat(random_seed=random_seed)
        self.dinosaurs = charrnn.load("dinosaurs")
        self.random_seed = random_seed

    def answer(self, line: str) -> str:
        """The reply to a line, whatever it holds."""
        if not WANTS_NAMES.search(line):
            return self.chat.say(line)
        found = BEGINNING.search(line)
        seed = found[1] if found else ""
        samples = self.dinosaurs.generate(
            seed, count=20, temperature=0.8, max_length=20, random_seed=self.random_seed
        )
        new = dict.fromkeys(s.text for s in samples if s.novel and s.finish_reason == "end")
        return " ".join(f"{name}?" for name in list(new)[:3]) or "i can't think of one."


def main() -> None:
    bot = Bot()
    for line in iter(lambda: input("you> "), "bye"):
        print("bot>", bot.answer(line))


if __name__ == "__main__":
    try:
        main()
    except (EOFError, KeyboardInterrupt):
        print()
