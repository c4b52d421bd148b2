"""Which sentence answers a question, without a model: the sentence that shares most with what is asked.

Four kinds of evidence are added up, each between 0 and 1:
- words: the share, weighed by inverse document frequency, of the question's words that the sentence holds. The names
  of the article are left out on both sides: every sentence is about it. A draft of the answer by a model that may be
  wrong adds its words, less the value it gives: "The capital of X is ..." names the relation whatever follows (the idea
  of HyDE, Gao et al. 2022, arXiv:2212.10496, with a sentence instead of an embedding);
- the infobox: a line whose key is asked for (by its words, or by a known relation) says which value is meant, and a
  sentence that holds this value is likely the one that says so;
- the type: "when" wants a year, "how many" a number, "who" a name;
- the place: the lead says what matters most, and the search has its own opinion on which article it is.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from wikigpt.corpus.sentences import split_sentences
from wikigpt.knowledge.asked import Wordings, asked_types, plain_key
from wikigpt.knowledge.index import Hit, Index
from wikigpt.knowledge.passages import FACTS, LEAD
from wikigpt.knowledge.text import UNSPACED, find_units, fold, search_terms, stem, units, weighed_terms, without

Relations = Callable[[str, str], Sequence[tuple[Wordings, float]]]
"""(question without its subject, language) -> relations it may ask for and how likely (0 to 1), likeliest first."""

_HINT = 0.4
_DRAFT = 0.7
_SINGLE_CHARACTER = 0.7
_ENOUGH = 0.25
_LINE = 0.2
_TYPE_BONUS = 0.25
_ARTICLE = 0.5
_BESIDE = 1.0
_LENGTH = 0.15
_LIKELY = 0.4
_LEAD_BONUS = 0.1
_FIRST_BONUS = 0.04

_HAS: dict[str, re.Pattern[str]] = {
    "year": re.compile(
        r"(?<!\d)[12]\d{3}(?!\d)|\d+\s?(?:BCE?|AD|CE)\b|(?:公元前?|前)\d+|\d年|\d世纪|\d(?:st|nd|rd|th) century"
    ),
    "number": re.compile(
        r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|no|none|million|billion)\b|[一二两三四五六七八九十百千万亿]"
    ),
    "person": re.compile(r"(?<=[^.!?]\s)[A-Z][\w'’.-]+(?:\s[A-Z][\w'’.-]+)*|·|[\u4e00-\u9fff]"),
    "place": re.compile(r"(?<=[^.!?]\s)[A-Z]\w+|[\u4e00-\u9fff]"),
}


@dataclass(frozen=True, slots=True)
class Quote:
    """The sentence that answers best; `value` is the infobox value that it holds, if one was asked for.

    `coverage` (0 to 1) is the share of what was asked that the evidence speaks of: low where it is beside the point.
    """

    hit: Hit
    sentence: str
    value: str | None
    score: float
    coverage: float


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of an infobox, and how much (0 to 1 and over) the question asks for it."""

    hit: Hit
    line: str
    key: str
    value: str
    asked: float


def find_quote(
    index: Index, question: str, hits: Sequence[Hit], lang: str, *, draft: str = "", relations: Relations | None = None
) -> Quote | None:
    """Return the best sentence of the passages `hits` for `question`; None where there is no passage at all."""
    main = max(hits, key=lambda hit: hit.score, default=None)
    mentioned = [
        mention
        for mention in index.named(question)
        if mention.capital or (main is not None and main.title_match and mention.article == main.article)
    ]
    subjects = [mention.name for mention in mentioned] + unknown_names(index, question)
    top = max((hit.score for hit in hits), default=0.0) or 1.0
    best: Quote | None = None
    for article in dict.fromkeys(hit.article for hit in hits):
        own = [hit for hit in hits if hit.article == article]
        found = _ARTICLE * max(hit.score for hit in own) / top
        for quote in _quotes(index, question, own, lang, draft, relations, subjects):
            if best is None or quote.score + found > best.score:
                best = replace(quote, score=quote.score + found)
    return best


def unknown_names(index: Index, question: str) -> list[str]:
    """Return what `question` writes as names but the wiki knows nowhere.

    These are words with a capital inside of a sentence, and in Chinese what stands before 的 and consists of pairs of
    characters that no passage holds.
    """
    words = re.findall(r"(?<=[^.!?:]\s)[A-Z][^\W\d_]+", question)
    unknown = [word for word in words if not index.frequency(fold(word))]
    for owner in re.findall(rf"([{UNSPACED}]{{3,}})的", fold(question)):
        start = len(owner) - 1
        while start and not index.frequency(owner[start - 1 : start + 1]):
            start -= 1
        if len(owner) - start >= 3:
            unknown.append(owner[start:])
    return unknown


def weigh(index: Index, text: str, names: Iterable[str]) -> dict[str, float]:
    """Return the stems and pairs of `text` with their inverse document frequencies, less what `names` hold."""
    text = without(text, names)
    weights = {stem(term): index.idf(term) for term in search_terms(text)}
    singles = (term for term in weighed_terms(text) if len(term) == 1 and not term.isascii())
    return weights | dict.fromkeys(singles, _SINGLE_CHARACTER)


def overlap(weights: dict[str, float], text: str, names: Iterable[str]) -> float:
    """Return the share (0 to 1) of `weights` that `text` holds."""
    total = sum(weights.values())
    if not total:
        return 0.0
    held = weighed_terms(without(text, names))
    return sum(weight for term, weight in weights.items() if term in held) / total


def value_parts(value: str) -> list[str]:
    """Cut a list of values, "French, German and Italian", into its parts; numbers and dates with commas stay whole."""
    return [part.strip() for part in re.split(r"[,，](?!\s*\d)|[;、；/]|\s(?:and|和|与)\s|\n", value) if part.strip()]


def _quotes(
    index: Index,
    question: str,
    hits: list[Hit],
    lang: str,
    draft: str,
    relations: Relations | None,
    subjects: Sequence[str],
) -> Iterable[Quote]:
    """Yield every sentence and infobox line of one article's passages, scored."""
    names = index.names_of(hits[0].article)
    # Of an article that is not what the question names, only what speaks of that is to the point.
    named = any(hit.title_match for hit in hits)
    if not named:
        names += subjects
    wanted = [] if named else [units(subject) for subject in subjects]
    # Only where the question names the article: else its subject is something that the wiki may not know at all.
    draft = re.sub(r"\*\*.*?\*\*|\[\d+\]", " , ", draft)
    meant = list(relations(without(question, names), lang)) if relations and named else []
    if relations and named and draft:
        meant += [(wordings, _DRAFT * likely) for wordings, likely in relations(without(draft, names), lang)]
        meant.sort(key=lambda item: -item[1])
    own_keys = {plain_key(_key_value(line)[0]) for hit in hits if hit.kind == FACTS for line in hit.text.splitlines()}
    fitting = [(wordings, likely) for wordings, likely in reversed(meant) if wordings.fits(own_keys)]
    keys = {plain_key(key): likely for wordings, likely in fitting for key in wordings.keys}
    noun = meant[0][0].texts[0] if meant and meant[0][1] > _LIKELY else ""
    weights = weigh(index, question, names)
    hints = weigh(index, f"{draft} {noun}", names)
    types = asked_types(question)
    asked = [fact for fact in _facts(hits, weights, keys, types) if fact.asked > _ENOUGH]
    asked.sort(key=lambda fact: -fact.asked)
    for fact in asked[:2] if not wanted else ():
        # A sentence is nicer to read, but the infobox never beats about the bush.
        score = overlap(weights, fact.line, names) + fact.asked - _LINE
        yield Quote(fact.hit, fact.line, fact.value, score, min(1.0, fact.asked))
    first = min((hit.passage for hit in hits if hit.kind == LEAD), default=-1)
    for hit in hits:
        if hit.kind == FACTS:
            continue
        for position, sentence in enumerate(split_sentences(hit.text, hit.lang)):
            opens = hit.passage == first and position == 0
            words = overlap(weights, f"{hit.section} {sentence}", names)
            hinted = overlap(hints, f"{hit.section} {sentence}", names)
            held = next((fact for fact in asked if _holds_value(sentence, fact.value)), None)
            if held:
                words = max(words, 0.9 * overlap(weights, held.line, names))
            evidence = max(words, _HINT * hinted * named, held.asked if held else 0.0)
            if not weights:  # "What is X?" asks for nothing but X: the first sentence says what it is
                evidence = 1.0 if opens else 0.1
            score = words + _HINT * hinted + (held.asked if held else 0.0) + (opens and not weights)
            score += _TYPE_BONUS * any(_HAS[kind].search(sentence) for kind in types)
            score -= _LENGTH * min(1.0, len(sentence.encode()) / 800)
            score += _LEAD_BONUS * (hit.kind == LEAD) + _FIRST_BONUS * opens
            if wanted and not any(find_units(units(sentence), subject) >= 0 for subject in wanted):
                score, evidence = score - _BESIDE, 0.0
            yield Quote(hit, sentence, held.value if held else None, score, min(1.0, evidence))


def _facts(
    hits: Sequence[Hit], weights: dict[str, float], keys: Mapping[str, float], types: list[str]
) -> Iterable[Fact]:
    """Yield the lines of the infobox, with how much each is asked for."""
    for hit in hits:
        if hit.kind == FACTS:
            for line in hit.text.splitlines():
                key, value = _key_value(line)
                likeness = max(overlap(weights, key, ()), keys.get(plain_key(key), 0.0))
                yield Fact(hit, line, key, value, asked_for(likeness, value, types))


def asked_for(likeness: float, value: str, types: Sequence[str]) -> float:
    """Return how much a fact is asked for: how well its key fits, and whether `value` is of a type asked for."""
    if not likeness or not types:
        return likeness
    fits = any(_is_of_type(value, kind) for kind in types)
    return likeness + 0.1 if fits else likeness * 0.6


def _is_of_type(value: str, kind: str) -> bool:
    if kind in ("person", "place"):
        return not re.search(r"\d", value)
    return _HAS[kind].search(value) is not None


def _key_value(line: str) -> tuple[str, str]:
    """Read a line of `facts_as_text`; what has no colon is a value without a key."""
    key, _, value = re.match(r"(?:([^:：]*)(：|:\s))?(.*)", line, re.S).groups(default="")  # type: ignore[union-attr]
    return key.strip(), value.strip()


def _holds_value(sentence: str, value: str) -> bool:
    """Whether the sentence holds the value, or each part of it where it is a list."""
    words = units(sentence)
    return find_units(words, units(value)) >= 0 or all(
        find_units(words, units(part)) >= 0 for part in value_parts(value)
    )
