"""Which sentence answers a question, without a model: the sentence that shares most with what is asked.

Evidence of four kinds is added up:
- words: the share, weighed by inverse document frequency, of the question's words that the sentence holds. The names
  of the article are left out on both sides: every sentence is about it. A draft of the answer by a model that may be
  wrong adds its words, less the value it gives: "The capital of X is ..." names the relation whatever follows (the idea
  of HyDE, Gao et al. 2022, arXiv:2212.10496, with a sentence instead of an embedding);
- the infobox: a line whose key is asked for (by its words, or by a known relation) says which value is meant, and a
  sentence that holds this value is likely the one that says so;
- the type: "when" wants a year, "how many" a number, "who" a name;
- the place: the lead says what matters most, and the search has its own opinion on which article it is.

On the sample wiki, with no draft, the sentence so found holds the fact for nine questions of ten in wordings that
nothing here was made from; on XQuAD (a paragraph per answer, no infobox) for three of four.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from wikigpt.corpus.sentences import split_sentences
from wikigpt.knowledge.asked import Wordings, asked_types, plain_key
from wikigpt.knowledge.index import Hit, Index
from wikigpt.knowledge.passages import FACTS, LEAD
from wikigpt.knowledge.text import (
    UNSPACED,
    find_units,
    fold,
    meaningful,
    search_terms,
    stem,
    units,
    weighed_terms,
    without,
)

Relations = Callable[[str, str], Sequence[tuple[Wordings, float]]]
"""(question without its subject, language) -> relations it may ask for and how likely (0 to 1), likeliest first."""

# What each kind of evidence counts, in units of "the sentence holds all words of the question".
_HINT = 0.4  # it holds all words of the draft, or the name of the relation
_TYPE = 0.25  # it holds a year, a number, a name where one is asked for
_ARTICLE = 0.5  # it stands in the article that the search puts first
_LEAD, _FIRST = 0.1, 0.04  # it stands in the lead, it opens the article
_LENGTH = -0.15  # it is long: 800 bytes and over
_LACKS = -0.5  # it lacks the value that the infobox gives, times how much that is asked for
_BESIDE = -1.0  # neither it nor its article names the subject of the question
_LINE = -0.2  # it is a line of the infobox, which is a poorer reading than a sentence

_SINGLE_CHARACTER = 0.7  # weight of a Chinese character, where a pair weighs its inverse document frequency (0 to 12)
_ENOUGH = 0.25  # how much a fact must be asked for to count as evidence
_LIKELY = 0.4  # how likely a relation must be for its name to serve as a hint
_DRAFT = 0.7  # trust in the relation that a draft speaks of

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


# "…, what is that?"
_WHAT = re.compile(r"[是指]什么(?:东西|意思)?\W*$|\bwhat (?:is|are|was|were) (?:it|that|this|they)\b", re.I)
_STATED = 0.4  # so much of a statement's words make a sentence one of its kind


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


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a question asks of one article."""

    named: bool
    """Whether the question names the article."""
    names: list[str]
    """Left out of all comparisons: the article's own; of an article that is not named, those that are."""
    subjects: list[list[str]]
    """Units of the names of which a sentence must hold one; none where the article itself is named."""
    words: dict[str, float]
    hints: dict[str, float]
    types: list[str]
    facts: list[Fact]
    """Those asked for, the likeliest first."""
    statements: list[dict[str, float]]
    """Where the article has no infobox: the words of sentences that state what is asked for, all of a kind."""
    kind: bool
    """Whether all that is asked for is what the subject is."""


def find_quote(
    index: Index, question: str, hits: Sequence[Hit], lang: str, *, draft: str = "", relations: Relations | None = None
) -> Quote | None:
    """Return the best sentence (or infobox line) of the passages `hits`; None where there is no passage at all.

    `draft` is an answer that may be wrong; `relations` knows wordings that share no word with what they ask for.
    """
    if not hits:
        return None
    top = max(hits, key=lambda hit: hit.score)
    mentions = [
        mention.name
        for mention in index.named(question)
        if mention.capital or (top.title_match and mention.article == top.article)
    ]
    subjects = mentions + unknown_names(index, question)
    draft = re.sub(r"\*\*.*?\*\*|\[\d+\]", " , ", draft)
    best: Quote | None = None
    for article in dict.fromkeys(hit.article for hit in hits):
        own = [hit for hit in hits if hit.article == article]
        found = _ARTICLE * max(hit.score for hit in own) / (top.score or 1.0)
        asked = _asked(index, question, draft, own, lang, relations, subjects)
        for quote in (*_lines(asked), *_sentences(asked, own)):
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
    for owner in re.findall(rf"([{UNSPACED}]+)的", fold(question)):
        if not meaningful(owner):
            continue
        owner = meaningful(owner)[-1]
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


def share(weights: Mapping[str, float], terms: Collection[str]) -> float:
    """Return which part (0 to 1) of `weights` belongs to `terms`; 0 if there are no weights."""
    held = sum(weight for term, weight in weights.items() if term in terms)
    return held / sum(weights.values()) if held else 0.0


def value_parts(value: str) -> list[str]:
    """Cut a list of values, "French, German and Italian", into its parts; numbers and dates with commas stay whole."""
    return [part.strip() for part in re.split(r"[,，](?!\s*\d)|[;、；/]|\s(?:and|和|与)\s|\n", value) if part.strip()]


def _asked(
    index: Index,
    question: str,
    draft: str,
    hits: Sequence[Hit],
    lang: str,
    relations: Relations | None,
    subjects: list[str],
) -> _Asked:
    """Work out what is asked of the article that `hits` (all of one) belong to."""
    named = any(hit.title_match for hit in hits)
    names = index.names_of(hits[0].article) + ([] if named else subjects)
    meant: list[tuple[Wordings, float]] = []
    # Relations count only where the article is named: else its subject may be something that the wiki does not know.
    if relations and named:
        meant += relations(without(question, names), lang)
        meant += [(wordings, _DRAFT * likely) for wordings, likely in relations(without(draft, names), lang)]
        meant.sort(key=lambda item: -item[1])
    relation = meant[0][0].texts[0] if meant and meant[0][1] > _LIKELY else ""
    words = weigh(index, question, names)
    types = asked_types(question)
    lines = [(hit, line, *_key_value(line)) for hit in hits if hit.kind == FACTS for line in hit.text.splitlines()]
    keys = {plain_key(key) for _, _, key, _ in lines}
    likely = {
        plain_key(key): much for wordings, much in reversed(meant) if wordings.fits(keys) for key in wordings.keys
    }
    facts = []
    for hit, line, key, value in lines:
        likeness = max(_key_likeness(words, key), likely.get(plain_key(key), 0.0))
        fact = Fact(hit, line, key, value, asked_for(likeness, value, types))
        if units(value) and fact.asked > _ENOUGH:
            facts.append(fact)
    # Without an infobox there is no line to tell the sentence by; the wording of answers has to do.
    sure = meant[0][0] if meant and meant[0][1] > _LIKELY and not lines else None
    statements = (
        [weigh(index, re.sub(r"\*\*.*?\*\*|\{\w+\}", " , ", text), names) for text in sure.statements] if sure else []
    )
    return _Asked(
        statements=[statement for statement in statements if statement],
        kind=not lines and named and (not sure.keys if sure else bool(_WHAT.search(question))),
        named=named,
        names=names,
        subjects=[] if named else [units(subject) for subject in subjects],
        words=words,
        hints=weigh(index, f"{draft} {relation}", names),
        types=types,
        facts=sorted(facts, key=lambda fact: -fact.asked),
    )


def _lines(asked: _Asked) -> Iterable[Quote]:
    """Yield the two infobox lines that are asked for most."""
    for fact in asked.facts[:2] if not asked.subjects else ():
        words = share(asked.words, weighed_terms(without(fact.line, asked.names)))
        yield Quote(fact.hit, fact.line, fact.value, words + fact.asked + _LINE, min(1.0, fact.asked))


def _sentences(asked: _Asked, hits: Sequence[Hit]) -> Iterable[Quote]:
    """Yield the sentences of one article's passages, scored."""
    first = min((hit.passage for hit in hits if hit.kind == LEAD), default=-1)
    for hit in hits:
        if hit.kind != FACTS:
            for position, sentence in enumerate(split_sentences(hit.text, hit.lang)):
                yield _sentence(asked, hit, sentence, opens=hit.passage == first and position == 0)


def _sentence(asked: _Asked, hit: Hit, sentence: str, *, opens: bool) -> Quote:
    """Score one sentence; `opens`: it is the first of its article."""
    terms = weighed_terms(without(f"{hit.section} {sentence}", asked.names))
    words = share(asked.words, terms)
    hinted = _HINT * share(asked.hints, terms)
    fact = next((fact for fact in asked.facts if _holds_value(sentence, fact.value)), None)
    if fact:  # what its infobox line says it says too, in other words
        words = max(words, 0.9 * share(asked.words, weighed_terms(without(fact.line, asked.names))))
    # A draft may speak well of what the wiki does not know, so it proves nothing unless the article is the right one.
    evidence = max(words, hinted * asked.named, fact.asked if fact else 0.0)
    score = words + hinted + (fact.asked if fact else _LACKS * min(1.0, asked.facts[0].asked) if asked.facts else 0.0)
    stated = max((share(statement, terms) for statement in asked.statements), default=0.0)
    if stated > _STATED and all(_HAS[kind].search(sentence) for kind in asked.types):
        evidence, score = max(evidence, stated), score + stated
    if not asked.words or asked.kind:  # "What is X?" asks for nothing but X: the first sentence says what it is
        evidence, score = (1.0, score + 1.0) if opens else (0.1, score)
    score += _TYPE * any(_HAS[kind].search(sentence) for kind in asked.types)
    score += _LEAD * (hit.kind == LEAD) + _FIRST * opens
    score += _LENGTH * min(1.0, len(sentence.encode()) / 800)
    if asked.subjects:
        held = units(sentence)
        if all(find_units(held, subject) < 0 for subject in asked.subjects):
            evidence, score = 0.0, score + _BESIDE
    return Quote(hit, sentence, fact.value if fact else None, score, min(1.0, evidence))


def _key_likeness(words: Mapping[str, float], key: str) -> float:
    """Return how well an infobox key fits the words of a question: it holds them, and little else."""
    terms = weighed_terms(key)
    held = sum(term in words for term in terms)
    return share(words, terms) * (1 + held / len(terms)) / 2 if held else 0.0


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
