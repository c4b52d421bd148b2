"""Pairs of answers for preference learning: one grounded in the passages, one that looks like it and is wrong.

Nothing but the wiki says which is better: the right answer is made from the passage it cites, and the wrong one from it
by one fault that readers of retrieved text make.
"""

import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from wikigpt.chat.grounding import NOT_FOUND, cited, with_citation, without_citations
from wikigpt.instruct.articles import Article, View
from wikigpt.instruct.gate import Gate, passages_of, question_of, stands_in, value_of
from wikigpt.instruct.make import Maker, Use
from wikigpt.instruct.relations import Catalogue, Fact
from wikigpt.instruct.settings import InstructSettings, Share
from wikigpt.instruct.talk import Conversation

Pair = dict[str, Any]

FAULTS = ("other_value", "wrong_citation", "no_citation", "needless_refusal")
"""What may be wrong with the rejected answer to a question that the passages answer.

`other_value`: a value of another article, that no passage about the subject holds; `wrong_citation`: the number of a
passage that does not say it; `no_citation`: none; `needless_refusal`: "not found", though it is there. Where the answer
is not in the passages, "not found" is chosen and an answer rejected: `made_up`.
"""
MADE_UP_SHARE = 0.25  # of all pairs, as much as one of the four faults and a bit more: refusing has to be learnt, too


def preference_pairs(
    view: View, settings: InstructSettings, catalogue: Catalogue, seed: int, gate: Gate, use: Use = "train"
) -> list[Pair]:
    """Return `settings.pairs` pairs about the articles to train on, or held-out ones a tenth as many.

    A pair is `{"messages", "chosen", "rejected", "lang", "kind", "sources"}`: `messages` ends with the user's turn,
    `kind` is the fault of the rejected answer. The right answers pass `gate` as every conversation does.
    """
    # A seed of its own: the questions are not the open-book conversations over again.
    maker = Maker(view, settings, catalogue, f"{seed}/pairs")
    articles = maker.train if use == "train" else maker.validation
    facts = sum(len(article.facts) for article in articles)
    most = settings.pairs.maximum if use == "train" else settings.pairs.maximum // 10
    wanted = min(most, round(settings.pairs.weight * facts))
    if not wanted:
        return []
    made_up = round(MADE_UP_SHARE * wanted)
    # More are drawn than wanted, because not every question can be answered wrongly in the way that it should be.
    answered = maker.open_book(_exactly(2 * (wanted - made_up), facts), articles, use)
    refused = maker.unanswerable(_exactly(4 * made_up, facts), articles, use)
    rng = maker.rng("pairs", use)
    found = [
        *_some(_answered(maker, gate.passed(answered), rng), wanted - made_up, rng),
        *_some(_refused(maker, gate.passed(refused), rng), made_up, rng),
    ]
    rng.shuffle(found)
    return found


def _exactly(number: int, opportunities: int) -> Share:
    return Share(weight=number / max(1, opportunities), maximum=number)


def _some(pairs: Iterator[Pair], number: int, rng: Random) -> list[Pair]:
    """Return `number` different pairs, drawn from all kinds in turn while they last."""
    unique = {(pair["messages"][-1]["content"], pair["kind"]): pair for pair in pairs}
    kinds: dict[str, list[Pair]] = {}
    for pair in unique.values():
        kinds.setdefault(pair["kind"], []).append(pair)
    for group in kinds.values():
        rng.shuffle(group)
    ranked = sorted((place, kind) for kind, group in kinds.items() for place in range(len(group)))
    return [kinds[kind][place] for place, kind in ranked[:number]]


def _answered(maker: Maker, conversations: Iterator[Conversation], rng: Random) -> Iterator[Pair]:
    """Pairs about what the passages hold, the faults in turn."""
    for number, made in enumerate(conversations):
        asked, right = (message["content"] for message in made["messages"])
        order = [*FAULTS[number % len(FAULTS) :], *FAULTS[: number % len(FAULTS)]]
        for fault in order:  # the next one where the passages give no opportunity for this
            if wrong := _spoilt(maker, made, asked, right, fault, rng):
                yield _pair(made, right, wrong, fault)
                break


def _spoilt(maker: Maker, made: Conversation, asked: str, right: str, fault: str, rng: Random) -> str:
    """Return the right answer with a fault in it, or "" where that cannot be."""
    passages, (number,), value = passages_of(asked), cited(right), value_of(right)
    if fault == "needless_refusal":
        return NOT_FOUND[maker.lang]
    if fault == "no_citation":
        return without_citations(right)
    if fault == "wrong_citation":
        others = [n for n, text in passages.items() if not stands_in(value, text)]
        return with_citation(without_citations(right), rng.choice(others), maker.lang) if others else ""
    values = [fact.value for _, fact in _rivals(maker, made, value, rng)]
    other = next(
        (v for v in values if v != value and not stands_in(v, passages[number]) and not _overlap(v, value)), ""
    )
    return right.replace(f"**{value}**", f"**{other}**") if other else ""


def _rivals(maker: Maker, made: Conversation, value: str, rng: Random) -> Sequence[tuple[Article, Fact]]:
    """Facts of the relation that was asked for, the subject's own true one first: what a memory would answer."""
    article = maker.view.titles[made["sources"][0]["title"]]
    asked_for = [
        fact
        for fact in article.facts
        if fact.value == value
        or maker.everywhere.titles_of[fact.relation.id, value]  # the passage's may be another one
    ]
    if len({fact.relation.id for fact in asked_for}) != 1:
        return []  # 1940 may be a year of birth or of death
    own = [(article, asked_for[0])]
    holders = maker.same[asked_for[0].relation]
    return own + rng.sample(holders, min(len(holders), 8))


def _refused(maker: Maker, conversations: Iterator[Conversation], rng: Random) -> Iterator[Pair]:
    """Pairs about what the passages do not hold: the rejected answer tells what one says of another thing."""
    for made in conversations:
        asked, right = (message["content"] for message in made["messages"])
        if right != NOT_FOUND[maker.lang]:
            continue
        question, passages = question_of(asked), passages_of(asked)
        article = maker.view.titles[made["sources"][0]["title"]]
        ids = {fact.relation.id: fact.relation for fact in article.facts}
        asks = [r for r in ids.values() if re.search(re.escape(r.phrases(maker.lang).noun), question, re.IGNORECASE)]
        relation = asks[0] if asks else None
        holders = maker.same[relation] if relation else []
        told = [
            (number, fact)
            for _, fact in rng.sample(holders, min(len(holders), 200))
            for number, text in passages.items()
            if stands_in(fact.value, text)
        ]
        if relation and told:
            number, fact = rng.choice(told)
            template = rng.choice(relation.phrases(maker.lang).answers)
            wrong = with_citation(maker.speaker.tell(template, article, fact), number, maker.lang)
            yield _pair(made, right, wrong, "made_up")


def _overlap(a: str, b: str) -> bool:
    return a.casefold() in b.casefold() or b.casefold() in a.casefold()


def _pair(made: Conversation, chosen: str, rejected: str, kind: str) -> Pair:
    return {
        "messages": made["messages"][:-1],
        "chosen": chosen,
        "rejected": rejected,
        "lang": made["lang"],
        "kind": kind,
        "sources": made["sources"],
    }
