"""A person compares two models without knowing which is which: one question, two answers, one vote.

Which answer stands first is drawn anew for each question, and nobody is told before the end. Votes are rows of the form
that Chatbot Arena publishes (Zheng et al. 2023, arXiv:2306.05685), so `wikigpt prefer` and other tools learn from them.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TextIO

from wikigpt.artifacts import write_atomic
from wikigpt.chat.session import ChatSession, language_of
from wikigpt.chat.terminal import locale_language, plain
from wikigpt.errors import UserError

Vote = dict[str, Any]

_PLACES = {"1": 0, "2": 1}
_KEYS = {"=": "tie", "0": "tie (bothbad)", "s": "skip", "q": "quit"}
_TEXTS = {
    "en": {
        "hello": "Which answer is better?  1, 2, = as good, 0 neither, s skip, q quit (the votes are kept)",
        "question": "Question",
        "same": "Both said the same: a tie.",
        "keys": "Type one of 1, 2, =, 0, s, q.",
    },
    "zh": {
        "hello": "哪个回答更好？  1、2，= 一样好，0 都不好，s 跳过，q 结束（投票会保留）",
        "question": "问题",
        "same": "两个回答相同，记为平局。",
        "keys": "请输入 1、2、=、0、s、q 之一。",
    },
}


@dataclass(frozen=True, slots=True)
class Tally:
    """Votes between two models, counted from the first one's side."""

    wins: int
    losses: int
    ties: int
    both_bad: int

    @property
    def n(self) -> int:
        """Votes in all."""
        return self.wins + self.losses + self.ties + self.both_bad

    @property
    def share(self) -> float:
        """How often the first model was preferred, 0 to 1; half of every tie."""
        return (self.wins + (self.ties + self.both_bad) / 2) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of `share` (Wilson 1927)."""
        z, n, share = 1.96, self.n, self.share
        middle = share + z * z / (2 * n)
        half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


class Votes:
    """The votes of a file, which is made with the first one and whole after each.

    Raises:
        UserError: the file holds something that is no vote, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Vote] = []
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read as a file of votes ({error}).") from None
        # Not `splitlines`: it cuts at U+2028 and the like, which JSON leaves in a text as they are.
        for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
            try:
                row = json.loads(line)
                missing = {"model_a", "model_b", "winner", "question"} - row.keys()
            except (ValueError, AttributeError):
                missing = {"a JSON object"}
            if missing:
                raise UserError(f"{path}, line {number}: not a vote ({', '.join(sorted(missing))} is missing).")
            self.rows.append(row)

    def add(self, vote: Vote) -> None:
        """Write the file anew with one more vote."""
        self.rows.append(vote)
        write_atomic(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows))

    def tally(self, model_a: str, model_b: str) -> Tally:
        """The votes between these two, whichever was called `model_a` in them."""
        forth = Counter(r["winner"] for r in self.rows if (r["model_a"], r["model_b"]) == (model_a, model_b))
        back = Counter(r["winner"] for r in self.rows if (r["model_b"], r["model_a"]) == (model_a, model_b))
        if model_a == model_b:
            back.clear()  # these are the same votes
        both = forth + back
        return Tally(
            forth["model_a"] + back["model_b"], forth["model_b"] + back["model_a"], both["tie"], both["tie (bothbad)"]
        )

    def asked(self, model_a: str, model_b: str) -> set[str]:
        """Questions that were voted on between these two."""
        pair = {model_a, model_b}
        return {row["question"] for row in self.rows if {row["model_a"], row["model_b"]} == pair}


def run_arena(
    names: tuple[str, str],
    sessions: tuple[ChatSession, ChatSession],
    votes: Votes,
    questions: Sequence[str] | None = None,
    *,
    seed: int = 0,
    lang: str | None = None,
    output: TextIO | None = None,
) -> Tally:
    """Ask, show both answers, take a vote, until the questions or the person's patience end.

    Args:
        names: what the two models are called in the votes.
        sessions: chats with them; each question stands alone.
        votes: where each vote goes at once; questions that were voted on there are not asked again.
        questions: what to ask; None lets the person type questions.
        seed: draws which answer stands first.
        lang: language of the interface, "zh" or "en"; None takes the locale's.
        output: where to write, standard output by default.

    Returns:
        All votes between the two in the file, from the first one's side.
    """
    texts = _TEXTS["zh" if (lang or locale_language()).startswith("zh") else "en"]
    output = output or sys.stdout

    def say(text: str) -> None:
        output.write(text + "\n")
        output.flush()

    with suppress(ImportError):
        import readline  # noqa: F401  # gives `input()` line editing
    to_ask = _typed(texts["question"]) if questions is None else _listed(questions, votes.asked(*names), say)
    say(texts["hello"])
    with suppress(EOFError, KeyboardInterrupt):  # every vote is on disk
        for question in to_ask:
            try:
                answers = [session.answer_all([question])[0].text for session in sessions]
            except UserError as error:  # the question is too long for a model
                say(plain(str(error)))
                continue
            order = (0, 1) if Random(f"{seed} {question}").random() < 0.5 else (1, 0)
            winner = _vote(answers, order, texts, say)
            if winner == "quit":
                break
            if winner != "skip":
                votes.add(_row(names, question, answers, winner))
    return votes.tally(*names)


def _typed(prompt: str) -> Iterator[str]:
    while True:
        if question := input(f"\n{prompt}> ").strip():
            yield question


def _listed(questions: Sequence[str], asked: set[str], say: Callable[[str], None]) -> Iterator[str]:
    for number, question in enumerate(map(str.strip, questions), 1):
        if question not in asked:
            say(f"\n{number}/{len(questions)}  {plain(question)}")
            yield question


def _vote(answers: Sequence[str], order: tuple[int, int], texts: dict[str, str], say: Callable[[str], None]) -> str:
    """Show the answers in this order and return the winner, "skip" or "quit"."""
    for place, which in enumerate(order, 1):
        say(f"\n[{place}] {plain(answers[which])}")
    if answers[0].strip() == answers[1].strip():
        say("\n" + texts["same"])
        return "tie"
    while True:
        key = input("\n1 2 = 0 s q> ").strip().lower()
        if key in _PLACES:
            return ("model_a", "model_b")[order[_PLACES[key]]]
        if key in _KEYS:
            return _KEYS[key]
        say(texts["keys"])


def _row(names: tuple[str, str], question: str, answers: Sequence[str], winner: str) -> Vote:
    asked = {"role": "user", "content": question}
    talks = [[asked, {"role": "assistant", "content": answer}] for answer in answers]
    return {
        "question": question,
        "model_a": names[0],
        "model_b": names[1],
        "winner": winner,
        "conversation_a": talks[0],
        "conversation_b": talks[1],
        "language": language_of(question),
    }
