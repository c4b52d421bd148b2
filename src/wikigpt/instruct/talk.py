"""Turns facts into what people say: filled templates, conversations, samples of a wanted size."""

from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar

from wikigpt.instruct.articles import Article, View
from wikigpt.instruct.relations import Fact
from wikigpt.instruct.settings import Share
from wikigpt.instruct.wording import careless, is_list, possessive, sentence_case

T = TypeVar("T")
Conversation = dict[str, Any]


class Speaker:
    """Fills templates about the articles of one language.

    Args:
        remarks: what may be said "before" and "after" a question.
        noise: part of the questions written carelessly.
        chatter: part of the questions with remarks around them.
    """

    def __init__(self, view: View, remarks: dict[str, list[str]], *, noise: float, chatter: float) -> None:
        self.view = view
        self.lang = view.lang
        self.remarks = remarks
        self.noise = noise
        self.chatter = chatter

    def ask(self, template: str, article: Article, rng: Random | None = None, **fields: str) -> str:
        """Return a question about `article`; with `rng` some are careless or amid chatter."""
        question = sentence_case(self._fill(template, article.shown, article.name, fields))
        if rng and rng.random() < self.noise:
            question = careless(question, self.lang, rng)
        if rng and rng.random() < self.chatter:
            question = self._amid_chatter(question, rng)
        return question

    def _amid_chatter(self, question: str, rng: Random) -> str:
        """Return the question with a remark before it, behind it, or both."""
        space = "" if self.lang == "zh" else " "
        where = rng.choice(("before", "after", "both"))
        if where != "after":
            question = rng.choice(self.remarks["before"]) + space + question
        if where != "before":
            question += space + rng.choice(self.remarks["after"])
        return question

    def tell(self, template: str, article: Article, fact: Fact) -> str:
        """Return the sentence that answers with `fact`, the value in bold."""
        phrases = fact.relation.phrases(self.lang)
        several = (
            self.lang == "en"
            and bool(phrases.nouns)
            and is_list(fact.value, "en")
            and fact.value not in self.view.titles
        )
        value, the = fact.value, self.view.the(fact.value)
        if self.lang == "en" and "{the}" in template and value.startswith("the "):
            value, the = value.removeprefix("the "), "the "
        fields = {
            "value": value,
            "the": the,
            "unit": fact.unit,
            "noun": phrases.nouns if several else phrases.noun,
            "is": "are" if several else "is",
        }
        text = self._fill(template, article.shown, article.name, fields)
        return sentence_case(text, bold=fact.relation.type != "code")

    def say(self, template: str, article: Article, **fields: str) -> str:
        """Return any other sentence about `article`."""
        return sentence_case(self._fill(template, article.shown, article.name, fields))

    def _fill(self, template: str, shown: str, name: str, fields: dict[str, str]) -> str:
        owner = possessive(shown, self.lang)
        return template.format(title=shown, name=name, owner=owner, **{"the": "", **fields})


def conversation(task: str, lang: str, turns: Sequence[str], sources: Sequence[Article] = ()) -> Conversation:
    """Return a conversation in the form of `train.jsonl`; `turns` are user and assistant in alternation."""
    messages = [
        {"role": "assistant" if number % 2 else "user", "content": content} for number, content in enumerate(turns)
    ]
    unique = {article.title: article.source for article in sources}
    return {"messages": messages, "task": task, "lang": lang, "sources": list(unique.values())}


def sample(opportunities: Sequence[T], share: Share, rng: Random) -> list[tuple[T, int]]:
    """Return the opportunities to be taken, each with the how-manyth time it is: `weight` times each, `maximum` in all.

    A part of a whole is drawn at random.
    """
    if not opportunities:
        return []
    wanted = min(share.maximum, round(share.weight * len(opportunities)))
    rounds, rest = divmod(wanted, len(opportunities))
    taken = [(item, number) for number in range(rounds) for item in opportunities]
    return taken + [(opportunities[i], rounds) for i in sorted(rng.sample(range(len(opportunities)), rest))]


def pick(options: Sequence[T], number: int, rng: Random) -> list[T]:
    """Return `number` of `options` in random order: all of them once before any of them twice."""
    picked: list[T] = []
    while len(picked) < number and options:
        picked += rng.sample(list(options), len(options))
    return picked[:number]
