"""What the shipped chatbot knows, and what a turn costs.

Held-out loss, for the replies alone too; how often the reply to a held-out question names the right
animal, period or food, by temperature; the time of a turn after a long talk, and of reading a
history again. How answers are scored stands in `score`, and in docs/chat.md.

    python benchmarks/chat.py                       # all of it, on test conversations
    python benchmarks/chat.py --split validation    # what choices are made by
"""

import argparse
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

import charrnn
from charrnn.config import PERSON, CorpusConfig
from charrnn.corpus import Corpus, load_corpus
from charrnn.ops import chosen_log_softmax

TEMPERATURES = (0.0, 0.2, 0.3, 0.5, 0.7, 1.0)
DRAWS = 5  # replies to each question; at temperature 0 they are all the same
PERIODS = ("triassic", "jurassic", "cretaceous")
FOODS = {  # words by what they stand for
    "plants": "plant plants leaf leaves fern ferns cycad cycads conifer conifers twig twigs needle "
    "needles seed seeds nut nuts fruit fruits berry berries horsetail horsetails ginkgo ginkgos "
    "moss branch branches grass herbivore vegetarian",
    "meat": "meat hunter hunters predator prey flesh carnivore duck-bills sauropods dinosaurs "
    "reptiles mammals lizards animals hunted",
    "fish": "fish",
    "insects": "insect insects termites ants bugs",
}
FOOD_OF = {word: kind for kind, words in FOODS.items() for word in words.split()}
ASKS_PERIOD = re.compile(r"\bwhen\b|\bperiod\b|triassic|jurassic|cretaceous")
ASKS_FOOD = re.compile(r"\b(eat|ate|eater|eaters|food|diet|carnivore|herbivore|hunter|predator)\b")
ASKS_ANIMAL = re.compile(
    r"\b(which|what|who|any|name)\b.*\b(dinosaurs?|eater|hunter|predator|mean|means|animal|one)\b"
)
ASKS_ELSE = re.compile(r"\b(you|your|i|my|me a|joke|fact|quiz|look|mummies|dream)\b")
WRAPPED = {  # the data's own questions, with words around them
    "period": "hello rex, i would like to know something: when did {} live please",
    "food": "hello rex, i would like to know something: what did {} eat please",
}
REWORDED = {
    "period": "can you tell me in which period {} was around",
    "food": "what would {} have had for dinner",
}

Turn = tuple[str, str]


@dataclass(frozen=True)
class Fact:
    """A question with one right answer: what it is about, of which kind, and what came before."""

    kind: str  # animal, period or food
    subject: str
    right: frozenset[str]
    turns: tuple[Turn, ...]
    question: str


def turns_of(conversation: str) -> list[Turn]:
    """The person's lines with their replies."""
    turns: list[Turn] = []
    for line in conversation.strip("\n").split("\n"):
        if line.startswith(PERSON):
            turns.append((line.removeprefix(PERSON), ""))
        elif turns:
            turns[-1] = (turns[-1][0], f"{turns[-1][1]} {line}".strip())
    return [turn for turn in turns if turn[1]]


def words(text: str) -> list[str]:
    """The words of a text, t. rex as the genus that it is."""
    whole = re.sub(r"\bt\.? ?rex\b", "tyrannosaurus", text.lower())
    return re.findall(r"[a-z]+(?:-[a-z]+)*", whole)


def animals(text: str, genera: frozenset[str]) -> list[str]:
    """The genera that a text names, in order."""
    return [word for word in words(text) if word in genera]


def named(kind: str, text: str, genera: frozenset[str]) -> list[str]:
    """What a text names of a kind, in order."""
    if kind == "period":
        return [word for word in words(text) if word in PERIODS]
    if kind == "food":
        return [FOOD_OF[word] for word in words(text) if word in FOOD_OF]
    return animals(text, genera)


def facts(conversations: Sequence[str], genera: frozenset[str]) -> Iterator[Fact]:
    """The questions of conversations whose answers can be told right from wrong."""
    for conversation in conversations:
        turns, subject = turns_of(conversation), ""
        for n, (question, reply) in enumerate(turns):
            asked = animals(question, genera)
            subject = asked[-1] if asked else subject
            found = _fact(question, reply, subject, tuple(turns[:n]), genera)
            if found:
                yield found
            answered = animals(reply, genera)
            subject = answered[-1] if answered and not asked else subject


def _fact(
    question: str, reply: str, subject: str, turns: tuple[Turn, ...], genera: frozenset[str]
) -> Fact | None:
    for kind, asks in (("period", ASKS_PERIOD), ("food", ASKS_FOOD)):
        answer = named(kind, reply, genera)
        of_another = set(animals(f"{question} {reply}", genera)) - {subject}
        if subject and answer and not of_another and asks.search(question):
            right = frozenset(answer) if kind == "period" else frozenset(answer[:1])
            return Fact(kind, subject, right, turns, question) if len(right) == 1 else None
    if ASKS_ELSE.search(question) or not ASKS_ANIMAL.search(question):
        return None
    before = set(animals(" ".join([question, *map(" ".join, turns)]), genera))
    new = [animal for animal in animals(reply, genera) if animal not in before]
    return Fact("animal", new[0], frozenset(new), turns, question) if new else None


def asked_otherwise(train: Sequence[Fact], data: str, wordings: Mapping[str, str]) -> list[Fact]:
    """What training tells, asked for in words that no file has: one question for each attribute of
    each animal, where its answers in training agree.

    wordings: of each kind of question, with a place for the animal.
    """
    asked = {}
    answers = {(fact.kind, fact.subject, fact.right) for fact in train}
    told = Counter((kind, subject) for kind, subject, _ in answers)
    for fact in train:
        if fact.kind in wordings and told[fact.kind, fact.subject] == 1:
            question = wordings[fact.kind].format(fact.subject.replace("tyrannosaurus", "t rex"))
            assert question not in data, f"{question!r} is in the data"
            asked[fact.kind, fact.subject] = Fact(fact.kind, fact.subject, fact.right, (), question)
    return list(asked.values())


def score(fact: Fact, reply: str, genera: frozenset[str]) -> bool:
    """Whether a reply is right. Of periods it names the one and no other; of foods the first that
    it names is of the right sort; of animals the first that hasn't come up is among those of the
    written answer.
    """
    answer = named(fact.kind, reply, genera)
    if fact.kind == "period":
        return set(answer) == fact.right
    if fact.kind == "animal":
        before = set(animals(" ".join([fact.question, *map(" ".join, fact.turns)]), genera))
        answer = [animal for animal in answer if animal not in before]
    return answer[:1] != [] and answer[0] in fact.right


def replies(
    bot: charrnn.Generator, some: Sequence[Fact], temperature: float
) -> dict[Fact, list[str]]:
    """Replies to questions, each after the turns that stood before it."""
    facts = list(dict.fromkeys(some))
    config = charrnn.GenerationConfig(
        count=DRAWS if temperature else 1, temperature=temperature, max_length=300, random_seed=0
    )
    found: dict[Fact, list[str]] = {fact: [] for fact in facts}
    requests = [bot.reply_request(fact.turns, fact.question, config) for fact in facts]
    for news in bot.writer().write(requests, 64):
        if news.sample:
            found[facts[news.request]].append(news.sample.text)
    return found


def share_right(
    some: Sequence[Fact], said: Mapping[Fact, Sequence[str]], genera: frozenset[str]
) -> float:
    """How often replies are right."""
    marks = [score(fact, reply, genera) for fact in some for reply in said[fact]]
    return sum(marks) / len(marks) if marks else float("nan")


def majority(train: Sequence[Fact], some: Sequence[Fact]) -> float:
    """How often the commonest answer to a kind of question would be right."""
    common = {
        kind: Counter(next(iter(sorted(f.right))) for f in train if f.kind == kind).most_common(1)
        for kind in ("animal", "period", "food")
    }
    marks = [common[fact.kind][0][0] in fact.right for fact in some if common[fact.kind]]
    return sum(marks) / len(marks) if marks else float("nan")


def reply_loss(bot: charrnn.Generator, conversations: Sequence[str]) -> tuple[float, int]:
    """Nats per character of the replies, the newline that ends each included; and how many."""
    total, count = 0.0, 0
    for conversation in conversations:
        ids = bot.vocabulary.ids_of(conversation)
        logits = np.array([row.copy() for row in bot.compiled.logits(ids[:-1].tolist())])
        logprobs = chosen_log_softmax(logits, ids[1:])
        place, body = 1, conversation[1:-1]  # what is predicted, but for the blank line's newline
        for line in body.splitlines(keepends=True):
            if not line.startswith(PERSON):
                total -= float(logprobs[place - 1 : place - 1 + len(line)].sum())
                count += len(line)
            place += len(line)
    return total / count, count


def seconds(action: Callable[[], object], times: int) -> float:
    """The median time of an action."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def report_times(bot: charrnn.Generator) -> None:
    """What a turn costs after a long talk, and a history that is read again."""
    chat = bot.chat(random_seed=0, temperature=0.3)
    taken = []
    for turn in range(200):
        began, question = time.perf_counter(), ("when did it live?", "what did it eat?")[turn % 2]
        size = len(chat.say(question)) + len(question)
        taken.append((time.perf_counter() - began) / size)
    first, last = float(np.median(taken[:20])), float(np.median(taken[-20:]))
    print(
        f"a turn of 200, per character: the first 20 {1e6 * first:.0f} us, the last 20 "
        f"{1e6 * last:.0f} us, ratio {last / first:.2f}"
    )
    ids = bot.vocabulary.ids_of(("> what did it eat?\nplants, like ferns.\n" * 30)[:1000]).tolist()
    state = bot.compiled.start(bot.vocabulary.start).state
    taken_once = seconds(lambda: bot.compiled.read(ids, state), 15)
    print(f"a history of 1,000 characters is read in {1000 * taken_once:.1f} ms")


def report_facts(
    bot: charrnn.Generator, corpus: Corpus, split: str, temperatures: Sequence[float]
) -> None:
    """The table of facts."""
    genera = frozenset((ROOT / "data" / "dinosaurs.txt").read_text("utf-8").lower().split())
    train = list(facts(corpus.sequences["train"], genera))
    held_out = list(facts(corpus.sequences[split], genera))
    data = "".join(text for texts in corpus.sequences.values() for text in texts)
    known = {(fact.kind, fact.subject) for fact in train}
    groups = {
        "all": held_out,
        **{kind: [f for f in held_out if f.kind == kind] for kind in ("animal", "period", "food")},
        "pair in training": [f for f in held_out if (f.kind, f.subject) in known],
        "pair absent": [f for f in held_out if (f.kind, f.subject) not in known],
        "known, wrapped": asked_otherwise(train, data, WRAPPED),
        "known, reworded": asked_otherwise(train, data, REWORDED),
    }
    print(f"\n{'questions':18}{'number':>8}{'majority':>10}", end="")
    print("".join(f"{f'T = {t:g}':>9}" for t in temperatures))
    every = [fact for some in groups.values() for fact in some]
    said = [replies(bot, every, temperature) for temperature in temperatures]
    for name, some in groups.items():
        print(f"{name:18}{len(some):8}{majority(train, some):10.2f}", end="")
        print("".join(f"{share_right(some, each, genera):9.2f}" for each in said))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="rex", help="a model of conversations, or its file")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "rex-chat.txt")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--temperature", type=float, action="append", help="another than the usual")
    parser.add_argument("--questions", action="store_true", help="each question and a reply, too")
    args = parser.parse_args()
    bot = charrnn.load(args.model)
    config = CorpusConfig.checked(bot.frozen.provenance["recipe"]["corpus"])
    corpus = load_corpus([args.data], config)
    held_out = corpus.sequences[args.split]
    loss = bot.frozen.evaluation[args.split]
    alone, count = reply_loss(bot, held_out)
    print(f"{bot.name} {bot.version}, {args.split}: {len(held_out)} conversations")
    print(
        f"{loss['nats_per_character']:.4f} nats per character; of the {count:,} of the replies "
        f"alone {alone:.4f}"
    )
    report_facts(bot, corpus, args.split, args.temperature or TEMPERATURES)
    if args.questions:
        genera = frozenset((ROOT / "data" / "dinosaurs.txt").read_text("utf-8").lower().split())
        for fact, (reply,) in replies(bot, list(facts(held_out, genera)), 0.0).items():
            mark = "right" if score(fact, reply, genera) else "wrong"
            print(f"{mark} {fact.kind} {','.join(sorted(fact.right))}: {fact.question} -> {reply}")
    print()
    report_times(bot)


if __name__ == "__main__":
    main()
