"""Training conversations said differently: other words, slips of the pen, names of the other language, other subjects.

Each of these rewrites conversations and adds none, so that runs with and without it learn from the same number. What
is held out is never touched. All are off unless the settings ask for them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import Any

from wikigpt.instruct.articles import Article, View
from wikigpt.instruct.gate import passages_of, question_of, reason_against, value_of
from wikigpt.instruct.relations import read_toml
from wikigpt.instruct.settings import InstructSettings, Noise
from wikigpt.instruct.talk import Conversation
from wikigpt.instruct.wording import display_name, find_value, replace_value

REWORDED = frozenset(
    {"fact", "definition", "grounded", "unanswerable", "follow_up", "section", "translation", "category"}
)
"""Kinds whose last question may be reworded; the others hold a text that is not the asker's own."""

TRANSLATED = frozenset({"fact", "definition", "grounded", "section"})
"""Kinds whose question may name its subject in the other language."""

_WORD = re.compile(r"[A-Za-z]{5,}")
# Characters that sound alike and that typists mix up.
_SOUND_ALIKE = str.maketrans("的得在再做作那哪吗嘛知之请清道到", "得的再在作做哪那嘛吗之知清请到道")


def augmented(
    conversations: Iterable[Conversation], views: Mapping[str, View], settings: InstructSettings, seed: int
) -> Iterator[Conversation]:
    """Yield the conversations, some of them rewritten, as many as the settings say, in the same order.

    Args:
        conversations: those to train on.
        views: the articles by language; names and other subjects are taken from those to train on alone.
    """
    parts = (
        settings.entity_swap,
        settings.back_translation,
        settings.paraphrase,
        settings.noise if settings.noises else 0,
    )
    for number, made in enumerate(conversations):
        view = views.get(made["lang"])
        if view is None or not any(parts):
            yield made
            continue
        rng = Random(f"{seed}/augment/{number}")
        swap, translate, reword, slip = (rng.random() < part for part in parts)
        article = view.titles.get(made["sources"][0]["title"]) if len(made["sources"]) == 1 else None
        if article and swap and (other := alike(article, view, rng)):
            made = entity_swapped(made, article, other) or made
        if article and translate:
            made = back_translated(made, article) or made
        if reword and made["task"] in REWORDED:
            made = _asked_anew(made, paraphrase(last_asked(made), made["lang"], rng))
        if slip and made["task"] in REWORDED:
            names = [form for s in made["sources"] for form in (s["title"], display_name(s["title"]))]
            way = rng.choice(settings.noises)
            made = _asked_anew(made, noisy(last_asked(made), made["lang"], rng, way, names))
        yield made


@lru_cache(maxsize=1)
def _frames() -> dict[str, Any]:
    return read_toml("augment.toml")


def paraphrase(question: str, lang: str, rng: Random) -> str:
    """Return a question that asks for the same in other words: an opening, the question or its like, a closing.

    All names and numbers in it stay as they are, and it is never the question itself.
    """
    frames = _frames()[lang]
    turned = [match.expand(like) for rule, like in frames["rules"] if (match := re.match(rule, question))]
    core = rng.choice([question, *turned])
    opening, closing = rng.choice(frames["openings"]), rng.choice(frames["closings"])
    if core == question and not opening and not closing:
        opening = frames["openings"][1]
    if lang == "zh":
        return opening + core + (("" if core[-1] in "。？！?.!" else "，") + closing if closing else "")
    end = "" if core[-1] in ".?!。？！" or not closing else "."
    return " ".join(part for part in (opening, core + end, closing) if part)


def noisy(question: str, lang: str, rng: Random, way: Noise, names: Sequence[str] = ()) -> str:
    """Return a question with one slip; what stands in `names`, and every digit, is spelt right.

    Args:
        way: "typos" (two letters exchanged, one lost or doubled; in Chinese a character of the same sound), "spaces"
            (one of them missing), "traditional" (Simplified Chinese in Traditional characters, names too). Where the
            way does not apply, as a missing space in Chinese without spaces, the question is returned as it is.
    """
    if way == "traditional":
        return _traditional(question) if lang == "zh" else question
    free = [True] * len(question)
    for name in names:
        for match in re.finditer(re.escape(name), question, re.IGNORECASE):
            free[match.start() : match.end()] = [False] * len(match[0])
    if way == "spaces":
        able = [i for i, c in enumerate(question) if c == " " and free[i] and 0 < i < len(question) - 1]
        able = [i for i in able if free[i - 1] and free[i + 1]]
        return question if not able else question[: (i := rng.choice(able))] + question[i + 1 :]
    if lang == "zh":
        able = [i for i, c in enumerate(question) if ord(c) in _SOUND_ALIKE and free[i]]
        i = rng.choice(able) if able else 0
        return question[:i] + question[i].translate(_SOUND_ALIKE) + question[i + 1 :] if able else question
    words = [match for match in _WORD.finditer(question) if all(free[match.start() : match.end()])]
    if not words:
        return question
    word = rng.choice(words)
    i = word.start() + rng.randrange(1, len(word[0]) - 2)  # the first and the last letter are rarely wrong
    slip = rng.choice((question[i + 1] + question[i], question[i + 1], question[i] * 2 + question[i + 1]))
    return question[:i] + slip + question[i + 2 :]


def back_translated(made: Conversation, article: Article) -> Conversation | None:
    """Return the conversation with its subject named in the other language, as the interlanguage link does.

    "What is the capital of 法国?" is answered as before: "The capital of France is **Paris**." None where the article
    has no such link, the question does not name it, or the name stays in it all the same.
    """
    code = {"en": "zh", "zh": "en"}.get(made["lang"])
    other = next((display_name(title) for lang, title in article.langlinks if lang == code), "")
    question = last_asked(made)
    for name in dict.fromkeys((article.shown, article.title, article.name)):
        question = _renamed(question, name, other)
    if not other or other not in question or article.name.casefold() in question.casefold():
        return None
    return _asked_anew(made, question) if made["task"] in TRANSLATED else None


def alike(article: Article, view: View, rng: Random, tries: int = 20) -> Article | None:
    """Return a training article to stand in for `article`: of some drawn, the one that shares most relations."""
    relations = {fact.relation.id for fact in article.facts}
    train = [other for other in rng.sample(view.articles, min(tries, len(view.articles))) if other.split == "train"]
    found = [(len(relations & {fact.relation.id for fact in other.facts}), other) for other in train]
    best = max(found, key=lambda pair: pair[0], default=(0, article))
    return best[1] if best[0] and best[1].name != article.name else None


def entity_swapped(made: Conversation, article: Article, other: Article) -> Conversation | None:
    """Return an open-book conversation in which everything is said of `other` that was said of `article`.

    What the passage says is then true of nothing that the model may know: only reading helps. None where it cannot be
    done without a trace: `article` is not named in the question, is still named anywhere afterwards, or `other` was.
    """
    asked, answer = (message["content"] for message in made["messages"][-2:])
    named, value = find_value(article.name, question_of(asked)) and len(article.name) > 1, value_of(answer)
    if made["task"] != "grounded" or not named or not passages_of(asked) or other.name.casefold() in asked.casefold():
        return None
    for name in dict.fromkeys((article.title, article.name, article.shown.removeprefix("the "))):
        asked, answer = _renamed(asked, name, other.name), _renamed(answer, name, other.name)
    trace = article.name.casefold() in (asked + answer).casefold() or not find_value(other.name, question_of(asked))
    if trace or value_of(answer) != value:  # 荷兰语 is not to become 埃及语
        return None
    turned = _with_turns(made, asked, answer)
    return None if reason_against(turned) else turned


def _renamed(text: str, name: str, other: str) -> str:
    """Return `text` with `other` for every whole `name`, also for one that begins a sentence."""
    for form in dict.fromkeys((name, name[:1].upper() + name[1:])):
        text = replace_value(text, form, other)
    return text


def last_asked(made: Conversation) -> str:
    """Return the last question of a conversation, without passages."""
    return question_of(made["messages"][-2]["content"])


def _asked_anew(made: Conversation, question: str) -> Conversation:
    """Return the conversation with another last question; the passages in front of it stay."""
    asked = made["messages"][-2]["content"]
    return _with_turns(made, asked.removesuffix(last_asked(made)) + question)


def _with_turns(made: Conversation, asked: str, answer: str | None = None) -> Conversation:
    *before, user, assistant = made["messages"]
    last = assistant if answer is None else {**assistant, "content": answer}
    return {**made, "messages": [*before, {**user, "content": asked}, last]}


@lru_cache(maxsize=1)
def _converter() -> Any:
    from opencc import OpenCC  # takes 0.1 s to load

    return OpenCC("s2t")


def _traditional(text: str) -> str:
    return str(_converter().convert(text))
