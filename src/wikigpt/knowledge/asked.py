"""Which fact a question asks for: its wording compared with known wordings of each relation.

"How many people live in Chad?" asks for the infobox key `population` although they share no word. The known wordings
are those that training conversations are made with; any other list will do as well.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache

from wikigpt.knowledge.text import STOP_WORDS, search_terms, units, weighed_terms

_ASKS: dict[str, re.Pattern[str]] = {
    "year": re.compile(
        r"\b(?:when|what year|which year|what date)\b|哪一?年|何年|几年|什么时候|何时|年份|哪个年|什么年|哪天",
        re.I,
    ),
    "number": re.compile(
        r"\bhow (?:many|much|tall|long|large|high|big|far|deep|old|wide|heavy)\b|\b(?:number|amount) of\b"
        r"|多少|多高|多长|多大|多深|多远|多重|几个|几颗|几位|几名|几人|第几|几种",
        re.I,
    ),
    "person": re.compile(r"\b(?:who|whom|whose|which person|by whom)\b|谁|何人|哪位|哪个人|什么人", re.I),
    "place": re.compile(r"\bwhere\b|哪里|哪儿|何处|何地|什么地方|哪个国家|在哪|位于哪", re.I),
}


_FITTING = 0.15
_UNKNOWN = 0.3
"""A word that no wording has may be small talk or the very thing asked for: it weighs this part of a rare known one."""


Terms = dict[str, float]


@dataclass(frozen=True, slots=True)
class Wordings:
    """A relation in one language: the infobox keys that hold it, and texts that ask for it or state it, its noun first.

    `{...}` in a text stands for anything. One key may mean different things: `symbol` is one thing beside
    `atomic_number`, another beside `currency_code`. So an infobox must have a key of each of `needs` and none of
    `excludes`.
    """

    keys: tuple[str, ...]
    texts: tuple[str, ...]
    statements: tuple[str, ...] = ()
    """Those of the texts that state it, as sentences do."""
    needs: tuple[frozenset[str], ...] = ()
    excludes: frozenset[str] = frozenset()

    def fits(self, keys: AbstractSet[str]) -> bool:
        """Whether an infobox with these keys (as `plain_key` writes them) may hold this relation."""
        return all(need & keys for need in self.needs) and not self.excludes & keys


class Asked:
    """Says which infobox keys a question asks for."""

    def __init__(self, wordings: Mapping[str, Sequence[Wordings]]) -> None:
        self._languages = {lang: _Language(listed) for lang, listed in wordings.items()}

    def __call__(self, question: str, lang: str) -> list[tuple[Wordings, float]]:
        """Return the relations whose wordings are like `question`, with how well they fit (0 to 1), the best first.

        The question should come without the name of its subject.
        """
        known = self._languages.get(lang)
        return known.fitting(question) if known else []


def asked_types(question: str) -> list[str]:
    """Return which kinds of answer the wording asks for: "year", "number", "person", "place"."""
    return [kind for kind, pattern in _ASKS.items() if pattern.search(question)]


def plain_key(key: str) -> str:
    """Return an infobox key without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", key)).casefold()


@lru_cache(maxsize=1)
def known_relations() -> Asked:
    """Return the relations of `wikigpt.instruct` with the wordings of its training conversations, no held-out one."""
    from wikigpt.instruct.relations import catalogue

    wordings: dict[str, list[Wordings]] = {"en": [], "zh": []}
    keys = {lang: defaultdict[str, frozenset[str]](frozenset) for lang in wordings}
    for relation in catalogue().relations:
        for lang in wordings:
            keys[lang][relation.id] |= frozenset(map(plain_key, relation.keys.get(lang, ())))
    for relation in catalogue().relations:
        for lang, listed in wordings.items():
            phrases = relation.phrases(lang)
            needs = tuple(keys[lang][id] for id in relation.when.has)
            excludes = frozenset[str]().union(*(keys[lang][id] for id in relation.when.lacks))
            texts = (phrases.noun, phrases.nouns, phrases.np, *phrases.ask, *phrases.answers)
            listed.append(
                Wordings(relation.keys.get(lang, ()), tuple(filter(None, texts)), phrases.answers, needs, excludes)
            )
    return Asked(wordings)


class _Language:
    """The wordings of one language."""

    def __init__(self, listed: Sequence[Wordings]) -> None:
        self._listed = listed
        self._texts = [[terms for text in w.texts if (terms := _terms(text))] for w in listed]
        self._words = [_together(texts) for texts in self._texts]
        # A word that many relations are asked with ("largest", "which city") says little about which one is meant.
        frequency = Counter(term for words in self._words for term in words)
        self._idf = {term: math.log(1 + len(listed) / count) for term, count in frequency.items()}
        self._unknown = _UNKNOWN * math.log(1 + len(listed))

    def fitting(self, question: str) -> list[tuple[Wordings, float]]:
        """See `Asked.__call__`."""
        terms = _terms(question)
        found: list[tuple[Wordings, float]] = []
        if not terms.keys() & self._idf.keys():
            return found
        for wordings, texts, words in zip(self._listed, self._texts, self._words, strict=True):
            # Most like one wording, and its words used in any of them.
            score = 0.7 * max((self._likeness(terms, text) for text in texts), default=0.0)
            score += 0.3 * self._common(terms, words) / self._sum(terms)
            if score > _FITTING:
                found.append((wordings, score))
        return sorted(found, key=lambda item: -item[1])

    def _likeness(self, a: Terms, b: Terms) -> float:
        """Dice's coefficient (0 to 1), weighed by inverse frequency."""
        return 2 * self._common(a, b) / (self._sum(a) + self._sum(b))

    def _common(self, a: Terms, b: Terms) -> float:
        return sum(self._idf[term] * min(weight, b[term]) for term, weight in a.items() if term in b)

    def _sum(self, terms: Terms) -> float:
        return sum(self._idf.get(term, self._unknown) * weight for term, weight in terms.items())


def _terms(text: str) -> Terms:
    """Return what wordings are compared by, with weights.

    Stems and pairs count most. To these come whole words (discoverer is not discovery), the beginnings of words
    (populous is near population), single characters (much where one stands alone, as in 哪个洲), and the kind of answer
    asked for.
    """
    text = re.sub(r"\{\w+\}(?:'s)?", " , ", text)
    terms: Terms = {f"<{kind}>": 1.0 for kind in asked_types(text)}
    alone = set(search_terms(text))
    for term in weighed_terms(text):
        if not term.isascii():
            terms[term] = 1.0 if len(term) > 1 else 0.8 if term in alone else 0.4
            continue
        terms[term] = 1.0
        if len(term) >= 5:
            terms[f"{term[:5]}*"] = 0.5
    return terms | {f"={word}": 0.5 for word in units(text) if word.isascii() and word not in STOP_WORDS}


def _together(texts: Iterable[Terms]) -> Terms:
    """Return all terms, each with its greatest weight."""
    found: Terms = {}
    for terms in texts:
        for term, weight in terms.items():
            found[term] = max(weight, found.get(term, 0.0))
    return found
