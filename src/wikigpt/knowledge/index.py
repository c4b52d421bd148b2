"""Reading the index: which articles a question names, and which passages answer it best.

Search goes in two steps. SQLite sums the inverse document frequencies of the question's rarer terms over the
passages that hold them and hands over the best few dozen; those are scored again with BM25 (Robertson and Zaragoza
2009) over stems, to which the title counts as text of its own. An article that the question names gets a bonus, so
its passages come first unless the question as a whole speaks for another.

Where the index has vectors (see `dense`), the passages nearest in meaning are candidates, too, and both orders are
joined by reciprocal ranks (Cormack et al. 2009).
"""

import heapq
import math
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wikigpt.chat.grounding import Passage
from wikigpt.errors import UserError
from wikigpt.knowledge import passages as kinds
from wikigpt.knowledge.build import ACRONYM, FILE, FORMAT
from wikigpt.knowledge.text import (
    STOP_WORDS,
    UNSPACED,
    fold,
    lone_characters,
    pairs,
    search_terms,
    singulars,
    stem,
    term_counts,
    units,
)

if TYPE_CHECKING:
    from wikigpt.knowledge.dense import Vectors

MAX_QUESTION = 2_000
"""Characters of a question that are looked at."""

_TERMS = 24  # rarest terms that are searched for
_LOOKED_AT = 2_000  # passages whose language is looked up
_CANDIDATES = 40  # passages scored a second time
_NAMED_PASSAGES = 60  # passages of a named article that are all scored, before the word index chooses among them
_TITLE_ROWS = 2_000
_PROBES = 200  # passages that are looked up when the index is checked
_RARE = 0.02  # part of the passages that a rare character stands in at most

# Weights of the second scoring, in units of a term's inverse document frequency.
_IN_TITLE = 1.0
_NAMED = 2.0
_NAMED_IN_LOWER_CASE = 0.7
_RANK_OFFSET = 60  # of reciprocal ranks, as in the paper
_KIND = {kinds.LEAD: 1.15, kinds.FACTS: 1.1, kinds.BODY: 1.0}
_K1, _B = 1.2, 0.6


@dataclass(frozen=True, slots=True)
class Hit(Passage):
    """A passage found: `score` has no unit, `title_match` says that the question names the article."""

    section: str = ""
    kind: str = kinds.BODY
    lang: str = ""
    score: float = 0.0
    title_match: bool = False
    article: int = 0
    passage: int = 0


@dataclass(frozen=True, slots=True)
class Named:
    """An article that a question names: `name` as it stands there (folded units), `weight` of that as evidence."""

    article: int
    title: str
    lang: str
    name: str
    kind: int
    capital: bool


class Index:
    """A search index, opened for reading; may be shared by threads.

    Raises `UserError` where `path` (the folder, or the file in it) is no index, damaged, or of another version.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        self.path = path / FILE if path.is_dir() else path
        if not self.path.is_file():
            raise UserError(f"{path} is no search index; make one with `wikigpt index CORPUS -o {path}`.")
        # Immutable: no lock files beside the index, and it can lie on a read-only disk.
        uri = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
        self._opened = self._on_disk()
        self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self._lock = threading.Lock()
        self._frequencies: dict[str, int] = {}
        try:
            self.meta: dict[str, Any] = dict(self._rows("SELECT key, value FROM meta"))
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{self.path} is damaged or no search index ({error}); make it again with `wikigpt index`."
            ) from None
        if self.meta.get("format") != FORMAT:
            raise UserError(
                f"{self.path} has the layout {self.meta.get('format')}, this version reads {FORMAT}; "
                "make it again with `wikigpt index`."
            )

        embeddings = self.meta.get("embeddings", "")
        if embeddings and not Path(embeddings).is_dir():
            raise UserError(
                f"{self.path} was made with the embedding model {embeddings}, which is gone; bring it back, or make "
                "the index without it: `wikigpt index --rebuild`."
            )

    def close(self) -> None:
        """Close the file; the index cannot be used any more."""
        self._database.close()

    def renewed(self) -> "Index":
        """Return the index that lies at this one's place now: itself, or the one that has replaced it.

        Where that one cannot be read (yet), it is this one, which goes on as it was.
        """
        if self._on_disk() in (None, self._opened):
            return self
        try:
            return Index(self.path)
        except UserError:
            return self

    def _on_disk(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def problems(self) -> list[str]:
        """Look through the whole file and return what is wrong with it; nothing, as a rule.

        It asks SQLite whether pages and tables are whole, counts what the index says that it holds, and looks some
        passages up by their words.
        """
        try:
            found = [text for (text,) in self._rows("PRAGMA integrity_check(20)") if text != "ok"]
            for table in ("articles", "passages", "names"):
                ((count,),) = self._rows(f"SELECT count(*) FROM {table}")
                if count != self.meta[table]:
                    found.append(f"{count:,} {table}, but {self.meta[table]:,} are announced")
            ((lost,),) = self._rows("SELECT count(*) FROM passages WHERE article NOT IN (SELECT article FROM articles)")
            if lost:
                found.append(f"{lost:,} passages belong to no article")
            step = max(1, self.meta["passages"] // _PROBES)
            probes = self._rows("SELECT passage, section, text FROM passages WHERE passage % ? = 0", (step,))
            if "embeddings" in self.meta:
                ((count,),) = self._rows("SELECT count(*) FROM vectors JOIN passages USING (passage)")
                if count != self.meta["passages"]:
                    found.append(f"{self.meta['passages'] - count:,} passages have no vector")
            lost = sum(not self._finds(passage, f"{section}\n{text}") for passage, section, text in probes)
            if lost:
                found.append(f"{lost:,} of {len(probes):,} passages cannot be found by their words")
        except sqlite3.DatabaseError as error:
            return [f"it cannot be read to the end ({error})"]
        return found

    def _finds(self, passage: int, text: str) -> bool:
        """Whether the word index leads from the rarest word of a passage to it."""
        terms = search_terms(text)
        if not terms:
            return True
        rarest = min(terms, key=self.frequency)
        sql = "SELECT 1 FROM words WHERE words MATCH ? AND rowid = ?"
        return bool(self._rows(sql, (_quoted(rarest), passage)))

    @cached_property
    def languages(self) -> frozenset[str]:
        """Language codes of the articles."""
        return frozenset(lang for (lang,) in self._rows("SELECT DISTINCT lang FROM articles"))

    def search(self, query: str, *, lang: str | None = None, k: int = 5) -> list[Hit]:
        """Return the `k` best passages for `query`, best first; only of articles in `lang` if that is given."""
        query = query[:MAX_QUESTION]
        named = {}
        for mention in reversed(self.named(query, lang=lang)):
            named[mention.article] = mention
        weights = self._rarest(search_terms(query))
        scores = self._word_scores(weights)
        found = heapq.nlargest(_LOOKED_AT, scores, key=lambda passage: (scores[passage], -passage))
        candidates = set(self._in_language(found, lang)[:_CANDIDATES])
        near = self._vectors.nearest(query, _LOOKED_AT) if self._vectors else []
        near = self._in_language(near, lang)[:_CANDIDATES]
        candidates.update(near)
        for article in named:
            candidates |= self._passages_of(article, scores)
        stems: dict[str, float] = {}
        for term, weight in weights.items():
            stems[stem(term)] = max(weight, stems.get(stem(term), 0.0))
        hits = [self._scored(row, stems, named) for row in self._fetch(candidates)]
        hits.sort(key=lambda hit: (-hit.score, hit.passage))
        hits = [hit for hit in hits if hit.score > 0 or hit.passage in near]
        return _joined(hits, near)[:k] if near else hits[:k]

    @cached_property
    def _vectors(self) -> "Vectors | None":
        if "embeddings" not in self.meta:
            return None
        from wikigpt.knowledge.dense import Embedder, Vectors

        embedder = Embedder(Path(self.meta["embeddings"]))
        if embedder.fingerprint != self.meta["embedder"]:
            raise UserError(
                f"{embedder.folder} is another model than {self.path} was made with; run `wikigpt index` again."
            )
        return Vectors(self._rows("SELECT passage, vector FROM vectors"), embedder)

    def entities(self, query: str, *, lang: str | None = None) -> list[str]:
        """Return the titles of the articles that `query` names, the surest first (longest names, then proper ones)."""
        return list(dict.fromkeys(mention.title for mention in self.named(query, lang=lang)))

    def named(self, query: str, *, lang: str | None = None) -> list[Named]:
        """Return what `entities` finds, with article numbers; a name inside of a longer one does not count.

        Every run of units of the question is looked up in the table of names, so the cost does not grow with the wiki.
        """
        query = query[:MAX_QUESTION]
        words = units(query)
        spans: dict[str, list[tuple[int, int]]] = {}
        singular: dict[str, list[tuple[int, int]]] = {}
        for start in range(len(words)):
            for end in range(start + 1, min(len(words), start + int(self.meta["longest_name"])) + 1):
                spans.setdefault(" ".join(words[start:end]), []).append((start, end))
                for last in singulars(words[end - 1]):
                    singular.setdefault(" ".join([*words[start : end - 1], last]), []).append((start, end))
        capitals = {fold(word) for word in re.findall(r"\b[^\W\d_a-z]\w*", query)}
        acronyms = {fold(word) for word in re.findall(r"\b[A-Z]{2,}\b", query)}
        found = self._mentions(spans, capitals, acronyms, lang)
        exact = {span for span, _ in found}
        found += [item for item in self._mentions(singular, capitals, acronyms, lang) if item[0] not in exact]
        # "the lion" means the lion, even if a constellation is called The Lion.
        kinds_of = {mention.name: mention.kind for _, mention in found}
        found = [
            item for item in found if kinds_of.get(item[1].name.removeprefix("the "), item[1].kind) >= item[1].kind
        ]
        alone = set(lone_characters(query))
        return _longest([item for item in found if not self._is_part_of_a_word(item, words, alone)])

    def _mentions(
        self, spans: dict[str, list[tuple[int, int]]], capitals: set[str], acronyms: set[str], lang: str | None
    ) -> list[tuple[tuple[int, int], Named]]:
        """Return the articles that the names `spans` mean, each with where the name stands."""
        found: list[tuple[tuple[int, int], Named]] = []
        for name, article, kind, title, article_lang in self._names(list(spans)):
            if lang not in (None, article_lang):
                continue
            if name not in acronyms and (kind == ACRONYM or _says_nothing(name, capitals)):
                continue
            # A script without capitals names things as they come.
            capital = any(word in capitals or not word.isascii() for word in name.split())
            found += [(span, Named(article, title, article_lang, name, kind, capital)) for span in spans[name]]
        return found

    def _is_part_of_a_word(self, item: tuple[tuple[int, int], Named], words: list[str], alone: set[str]) -> bool:
        """Whether a name of one character of unspaced script (铁, 家) rather belongs to a word around it (国家).

        It does not where it stands alone or owns something (铁的), or is rare, as hardly any but names are.
        """
        (_, end), mention = item
        if len(mention.name) > 1 or mention.name.isascii() or mention.name in alone:
            return False
        owns = words[end : end + 1] == ["的"]
        return not owns and self.frequency(mention.name) > _RARE * int(self.meta["passages"])

    def passages_of(self, article: int) -> list[Hit]:
        """Return all passages of an article, in order."""
        rows = self._fetch(self._passages_of(article, None))
        return sorted((self._scored(row, {}, {}) for row in rows), key=lambda hit: hit.passage)

    def names_of(self, article: int) -> list[str]:
        """Return the title and the aliases of an article."""
        for title, aliases in self._rows("SELECT title, aliases FROM articles WHERE article = ?", (article,)):
            return [title, *filter(None, aliases.split("\n"))]
        return []

    def title_words(self, beginning: str, *, whole: bool = False) -> list[str]:
        """Return the folded words of titles and aliases that begin so, or (`whole`) the one that is this."""
        end = beginning if whole else beginning + "\U0010ffff"
        return [
            word for (word,) in self._rows("SELECT word FROM spellings WHERE word BETWEEN ? AND ?", (beginning, end))
        ]

    def titles_like(self, run: str, k: int) -> list[str]:
        """Return titles and aliases of the `k` articles that share most pairs of characters with a run of Chinese."""
        shared: Counter[int] = Counter()
        for pair in pairs(fold(run))[:-1]:
            rows = self._rows("SELECT rowid FROM titles WHERE titles MATCH ? LIMIT ?", (_quoted(pair), _TITLE_ROWS))
            shared.update(article for (article,) in rows)
        return [name for article, _ in shared.most_common(k) for name in self.names_of(article)]

    def idf(self, term: str) -> float:
        """Return the inverse document frequency of a term, in passages (natural logarithm, above 0)."""
        total = int(self.meta["passages"])
        frequency = min(self.frequency(term), total)
        return math.log(1 + (total - frequency + 0.5) / (frequency + 0.5))

    def frequency(self, term: str) -> int:
        """Return in how many passages a word or a pair of unspaced script stands; counts no further than `_common`."""
        if term not in self._frequencies:
            if len(self._frequencies) > 100_000:
                self._frequencies.clear()
            sql = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
            try:
                ((count,),) = self._rows(sql, (_quoted(term), self._common))
            except sqlite3.OperationalError:  # letters that SQLite's older Unicode tables take for marks
                count = 0
            self._frequencies[term] = count
        return self._frequencies[term]

    @cached_property
    def _common(self) -> int:
        """From how many passages on a term is too common to search for."""
        return max(500, int(self.meta["passages"]) // 25)

    def _rarest(self, terms: Sequence[str]) -> dict[str, float]:
        """Return the inverse document frequencies of the rarest `terms`; common ones only if there are no others."""
        frequencies = {term: self.frequency(term) for term in terms}
        known = sorted((term for term in terms if frequencies[term]), key=frequencies.__getitem__)
        rare = [term for term in known if frequencies[term] < self._common] or known[:3]
        return {term: self.idf(term) for term in rare[:_TERMS]}

    def _word_scores(self, weights: dict[str, float]) -> dict[int, float]:
        """Return for each passage that holds one of the terms the sum of their weights; titles count as well."""
        scores: dict[int, float] = {}
        for term, weight in weights.items():
            for (passage,) in self._rows(
                "SELECT rowid FROM words WHERE words MATCH ? LIMIT ?", (_quoted(term), self._common)
            ):
                scores[passage] = scores.get(passage, 0.0) + weight
            for first, last in self._rows(
                "SELECT first_passage, last_passage FROM titles JOIN articles ON article = titles.rowid "
                "WHERE titles MATCH ? LIMIT ?",
                (_quoted(term), _TITLE_ROWS),
            ):
                for passage in range(first, min(last, first + _NAMED_PASSAGES) + 1):
                    scores[passage] = scores.get(passage, 0.0) + _IN_TITLE * weight
        return scores

    def _scored(self, row: tuple, weights: dict[str, float], named: dict[int, Named]) -> Hit:
        """Score one passage (a row of `_fetch`) with BM25, its title, and a bonus if its article is named."""
        passage, article, kind, section, text, id, revision, url, lang, title, aliases = row
        counts = term_counts(f"{section}\n{text}") if weights else Counter[str]()
        in_title = term_counts(f"{title}\n{aliases}") if weights else Counter[str]()
        length = 1 - _B + _B * len(text.encode()) / self._mean_length
        score = 0.0
        for term, weight in weights.items():
            count = counts[term]
            score += weight * count * (_K1 + 1) / (count + _K1 * length)
            score += weight * _IN_TITLE * (term in in_title)
        mention = named.get(article)
        if mention:
            bonus = _NAMED if mention.capital else _NAMED_IN_LOWER_CASE
            score += bonus * sum(
                self.idf(term) for term in search_terms(mention.name.replace(" ", "")) or [mention.name]
            )
        return Hit(
            title,
            text,
            url,
            revision,
            id,
            facts=kind == kinds.FACTS,
            section=section,
            kind=kind,
            lang=lang,
            score=score * _KIND[kind],
            title_match=mention is not None,
            article=article,
            passage=passage,
        )

    @cached_property
    def _mean_length(self) -> float:
        return int(self.meta["text_bytes"]) / max(1, int(self.meta["passages"]))

    def _passages_of(self, article: int, scores: dict[int, float] | None) -> set[int]:
        """Return the passages of an article; of a long one only those the words speak for, and its beginning."""
        for first, last in self._rows("SELECT first_passage, last_passage FROM articles WHERE article = ?", (article,)):
            every = range(first, last + 1)
            if scores is None or len(every) <= _NAMED_PASSAGES:
                return set(every)
            best = sorted(every, key=lambda passage: -scores.get(passage, 0.0))
            return set(every[:4]) | set(best[: _NAMED_PASSAGES - 4])
        return set()

    def _in_language(self, passages: list[int], lang: str | None) -> list[int]:
        if lang is None or self.languages == {lang}:
            return passages
        kept: list[int] = []
        for start in range(0, len(passages), 400):
            block = passages[start : start + 400]
            sql = (
                "SELECT passage FROM passages JOIN articles USING (article) "
                f"WHERE lang = ? AND passage IN ({','.join('?' * len(block))})"
            )
            right = {passage for (passage,) in self._rows(sql, (lang, *block))}
            kept += [passage for passage in block if passage in right]
            if len(kept) >= _CANDIDATES:
                break
        return kept

    def _fetch(self, passages: Iterable[int]) -> list[tuple]:
        wanted = sorted(passages)
        rows: list[tuple] = []
        for start in range(0, len(wanted), 400):
            block = wanted[start : start + 400]
            rows += self._rows(
                "SELECT passage, article, kind, section, text, id, revision, url, lang, title, aliases "
                f"FROM passages JOIN articles USING (article) WHERE passage IN ({','.join('?' * len(block))})",
                block,
            )
        return rows

    def _names(self, names: list[str]) -> list[tuple[str, int, int, str, str]]:
        rows: list[tuple] = []
        for start in range(0, len(names), 400):
            block = names[start : start + 400]
            rows += self._rows(
                "SELECT name, article, kind, title, lang FROM names JOIN articles USING (article) "
                f"WHERE name IN ({','.join('?' * len(block))})",
                block,
            )
        return rows

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple]:
        with self._lock:
            return self._database.execute(sql, values).fetchall()


def _joined(hits: list[Hit], near: list[int]) -> list[Hit]:
    """Order hits, best first by their words, by this order and that of the passages near in meaning together."""
    by_words = {hit.passage: rank for rank, hit in enumerate(hits) if hit.score > 0}
    by_meaning = {passage: rank for rank, passage in enumerate(near)}

    def weight(hit: Hit) -> float:
        ranks = (order.get(hit.passage) for order in (by_words, by_meaning))
        return sum(1 / (_RANK_OFFSET + 1 + rank) for rank in ranks if rank is not None)

    return sorted(hits, key=lambda hit: (-weight(hit), hit.passage))


def _quoted(term: str) -> str:
    """Write a term for FTS5; a lone character of an unspaced script stands for all pairs that begin with it."""
    prefix = "*" if len(term) == 1 and re.match(f"[{UNSPACED}]", term) else ""
    # SQLite's tokenizer cuts 3.14 in two; without positions in the index there are no phrases, so both must stand.
    return " AND ".join(f'"{part}"{prefix}' for part in term.split("."))


def _says_nothing(name: str, capitals: set[str]) -> bool:
    """Whether a name is made of question words alone, or is a lone letter or digit that nobody meant as a name."""
    words = name.split()
    if all(word in STOP_WORDS or word in _QUESTION_CHARACTERS for word in words):
        return True
    return len(name) == 1 and name.isascii() and not (name.isalpha() and name in capitals)


def _longest(found: list[tuple[tuple[int, int], Named]]) -> list[Named]:
    """Keep the longest names that do not overlap; of several articles with one name the surest kind."""
    found = sorted(found, key=lambda item: (-_weight(item[1].name), item[0], item[1].kind))
    taken: list[tuple[int, int]] = []
    kept: list[Named] = []
    for (start, end), mention in found:
        if any(start < b and a < end and (a, b) != (start, end) for a, b in taken):
            continue
        same = [other for other in kept if other.name == mention.name]
        if same and same[0].kind < mention.kind:
            continue
        taken.append((start, end))
        kept.append(mention)
    return sorted(kept, key=lambda mention: not mention.capital)


def _weight(name: str) -> int:
    """How long a name is: letters, where a Chinese character is worth two."""
    return sum(1 + (not char.isascii()) for char in name if char != " ")


_QUESTION_CHARACTERS = frozenset("什么怎样如何哪谁几多少请问的是在了吗呢")
