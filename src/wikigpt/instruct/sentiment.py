"""Is this remark positive, negative or neutral? Opinions written by hand, the same for every wiki."""

from collections.abc import Iterator
from functools import lru_cache
from random import Random
from typing import Any

from wikigpt.instruct.relations import read_toml
from wikigpt.instruct.settings import Share
from wikigpt.instruct.talk import Conversation, conversation, pick, sample

LABELS = ("positive", "negative", "neutral")


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    return read_toml("sentiment.toml")


def opinions(lang: str, *, heldout: bool) -> list[tuple[str, str]]:
    """Return (sentence, label in `lang`) in the order of the file; the last sentence of each list is held out."""
    table = _table()[lang]
    topics = [topic for name, topic in table.items() if isinstance(topic, dict) and name != "labels"]
    return [
        (sentence, table["labels"][label])
        for topic in topics
        for label in LABELS
        for sentence in (topic[label][-1:] if heldout else topic[label][:-1])
    ]


def sentiments(lang: str, share: Share, rng: Random, *, heldout: bool = False) -> Iterator[Conversation]:
    """Yield conversations on opinions, `share.weight` for each sentence, no two on one sentence worded alike.

    Held-out ones have both sentence and phrasing that no training conversation has.
    """
    table = _table()[lang]
    orders: dict[str, list[str]] = {}
    for (sentence, label), number in sample(opinions(lang, heldout=heldout), share, rng):
        templates = table["heldout" if heldout else "ask"]
        order = orders.setdefault(sentence, rng.sample(templates, len(templates)))
        told = pick(table["answers"], 1, rng)[0].format(value=label)
        asked = order[number % len(order)].format(text=sentence)
        yield conversation("sentiment", lang, [asked, told])
