"""Evaluation questions, in phrasings that no conversation uses."""

import re
from collections.abc import Iterator
from typing import Any

from wikigpt.instruct.articles import Article, View, holding
from wikigpt.instruct.make import Maker
from wikigpt.instruct.relations import Fact
from wikigpt.instruct.settings import Share
from wikigpt.instruct.talk import sample
from wikigpt.instruct.wording import bare, display_name

Question = dict[str, Any]


def questions(maker: Maker, views: dict[str, View], taught: set[str]) -> Iterator[Question]:
    """Yield the questions of one language; `taught` are those of training conversations, as `bare` writes them."""
    s = maker.settings
    for facts, most, core in ((maker.core, s.core_questions, True), (maker.other, s.other_questions, False)):
        for (article, fact), _ in sample(facts, Share(weight=1, maximum=most), maker.rng("ask", core)):
            if question := _heldout(maker, article, fact, taught):
                yield _entry(
                    "closed_book",
                    maker.lang,
                    question,
                    answers(fact, maker.lang, views),
                    fact.relation.id,
                    article,
                    core,
                )
    found = [
        (article, fact)
        for article in maker.validation
        for fact in article.facts
        if fact.relation.keys and holding(fact, article.pieces)
    ]
    for (article, fact), _ in sample(
        found, Share(weight=1, maximum=s.grounded_questions), maker.rng("ask", "grounded")
    ):
        if question := _heldout(maker, article, fact, taught):
            yield _entry(
                "grounded", maker.lang, question, answers(fact, maker.lang, views), fact.relation.id, article, False
            )
    yield from _unanswerable(maker, s.unanswerable_questions)


def answers(fact: Fact, lang: str, views: dict[str, View]) -> list[str]:
    """Return all that counts as right: the value, its other names and forms.

    With and without unit; a number without its thousands separators; redirects to, and the interlanguage title of,
    the article that the value names.
    """
    accepted = [fact.value]
    if fact.unit:
        accepted.append(fact.value + fact.unit)
    if fact.relation.type == "number":
        plain = re.sub(r"(?<=\d)[,\u00a0\u202f ](?=\d{3}(?!\d))", "", fact.value)
        number = re.match(r"[^\d]*([\d.,]*\d)", plain)
        accepted += [plain, *([number[1]] if number else [])]
    if fact.relation.type == "year":
        accepted.append(fact.value.removesuffix("年"))
    if lang == "zh" and fact.relation.many:
        parts = re.split(r"[、,，;；和及与]", fact.value)
        accepted += ["、".join(parts), "和".join(parts)] if len(parts) > 1 and all(parts) else []
    if fact.relation.type in ("entity", "person", "text") and (named := views[lang].titles.get(fact.value)):
        names = [alias for alias in named.aliases if not re.fullmatch("[A-Z]{2,3}", alias)]  # no country codes
        accepted += [*names, *(display_name(title) for code, title in named.langlinks if code in views)]
    return list(dict.fromkeys(accepted))


def _heldout(maker: Maker, article: Article, fact: Fact, taught: set[str]) -> str | None:
    """Return the question for a fact in a phrasing that no training conversation happens to use word for word."""
    rng = maker.rng("heldout", article.title, fact.relation.id)
    templates = maker.catalogue.questions(fact.relation, maker.lang, "heldout")
    for template in rng.sample(templates, len(templates)):
        question = maker.speaker.ask(template, article)
        if bare(question) not in taught:
            return question
    return None


def _unanswerable(maker: Maker, most: int) -> Iterator[Question]:
    """A third about made-up things, the rest about what the article of a real thing does not say."""
    numbers = {number for article in maker.view.articles for number in article.lacks if maker.absent[number].heldout}
    each = Share(weight=1, maximum=-(-most // max(1, len(numbers))))  # no attribute outweighs the others
    absent = [
        (article, maker.absent[number])
        for number in sorted(numbers)
        for article, _ in sample(
            [article for article in maker.view.articles if number in article.lacks], each, maker.rng("lack", number)
        )
    ]
    relations = [relation for relation in maker.asked_relations() if relation.keys]
    made_up = max(most // 3, most - len(absent)) if relations else 0
    for number in range(made_up):
        rng = maker.rng("nobody", number)
        relation = rng.choice(relations)
        question = maker.made_up_question(relation, rng, "heldout")
        yield _entry("unanswerable", maker.lang, question, [], relation.id, None, False)
    for (article, attribute), _ in sample(absent, Share(weight=1, maximum=most - made_up), maker.rng("ask", "absent")):
        question = maker.absent_question(article, attribute, maker.rng("absent", article.title), "heldout")
        yield _entry("unanswerable", maker.lang, question, [], attribute.relation.id, article, False)


def _entry(
    task: str, lang: str, question: str, accepted: list[str], relation: str, article: Article | None, core: bool
) -> Question:
    return {
        "task": task,
        "lang": lang,
        "question": question,
        "answers": accepted,
        "relation": relation,
        "title": article.title if article else "",
        "id": article.id if article else "",
        "core": core,
    }
