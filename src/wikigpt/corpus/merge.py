"""Finished shards into the corpus folder: duplicates out, the names of redirects in, parts of limited size.

Nothing here grows with the dump but 9 bytes a document and the names of templates that are redirects: sketches and
titles lie on the disk.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wikigpt.corpus.cleaned import SAMPLES, merge_left_overs
from wikigpt.corpus.dedup import DUPLICATE, KEPT, NEAR_DUPLICATE, PERMUTATIONS, find_duplicates
from wikigpt.corpus.languages import capital
from wikigpt.corpus.work import Work
from wikigpt.corpus.write import Parts, table_of_dropped

if TYPE_CHECKING:
    from wikigpt.encryption import Key

_LENGTH_EDGES = [0, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000]
_HELPERS = ["page", "length", "checksum", "sketch"]
DISAMBIGUATION = 3  # a fate like those of `dedup`
_REASONS = {DUPLICATE: "duplicate", NEAR_DUPLICATE: "near_duplicate", DISAMBIGUATION: "disambiguation"}
_HOPS = 4  # redirects that are followed to an article


@dataclass(slots=True)
class Merged:
    """What the manifest and the report say of the whole."""

    documents: int = 0
    characters: int = 0
    seen: int = 0
    sections: int = 0
    redirects: int = 0
    aliases: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    privacy: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    lengths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_LENGTH_EDGES), np.int64))
    left_overs: dict[str, Any] = field(default_factory=dict)
    skipped: list[dict[str, str]] = field(default_factory=list)
    samples: list[dict[str, str]] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)

    def count(self, facts: dict[str, Any]) -> None:
        """Add up a shard's facts."""
        self.seen += facts["seen"]
        self.sections += facts["sections"]
        self.redirects += facts["drops"].get("redirect", 0)
        self.drops.update(facts["drops"])
        self.privacy.update(facts["privacy"])
        self.left_overs = merge_left_overs(self.left_overs, facts["left_overs"])
        self.skipped = (self.skipped + facts["skipped"])[:1_000]
        self.samples = sorted(self.samples + facts["samples"], key=lambda sample: sample["rank"])[:SAMPLES]

    def add(self, documents: Any) -> None:
        """Count documents that go into the corpus."""
        lengths = documents["length"].to_numpy()
        self.documents += documents.num_rows
        # (Arrow's own functions for this take 40 ms to load.)
        self.aliases += sum(int(np.ptp(some.offsets)) for some in documents["aliases"].chunks if len(some))
        self.characters += int(lengths.sum())
        self.lengths += np.histogram(lengths, [*_LENGTH_EDGES, np.inf])[0]
        self.languages.update(documents["lang"].to_pylist())
        self.splits.update(documents["split"].to_pylist())

    def histogram(self) -> dict[str, list[int]]:
        """How many documents have at least so many characters, and fewer than the next edge."""
        return {"edges": _LENGTH_EDGES, "counts": self.lengths.tolist()}


def merge(
    work: Work,
    shards: int,
    folder: Path,
    *,
    variant: str | None,
    near_duplicates: float | None,
    max_documents: int | None,
    keep_dropped: bool,
    key: "Key | None",
    writers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Merged:
    """Write the parts of the corpus made of the work folder's first `shards` shards.

    `writers` threads write parts while the next ones are merged; `progress` is called with the number of shards merged.
    """
    merged = Merged()
    fates = _fates(work, shards, near_duplicates)
    marks = _Marks()
    for number in range(shards):
        marks.add(work.facts(number))
    marks.ready()
    with _Names(work.folder, variant, in_memory=key is not None) as names:
        for number, fate in enumerate(fates):
            facts = work.facts(number)
            merged.count(facts)
            for entry in facts["possible"]:
                if marks.among(entry["lang"], entry["templates"]):
                    facts["redirects"] += [(entry["lang"], *lead) for lead in entry["leads"]]
                    if entry["document"] is not None:
                        fate[entry["document"]] = DISAMBIGUATION
            names.add(facts["redirects"], work.documents(number), fate == KEPT)
        names.ready()
        with Parts(folder, key, writers=writers) as parts, Parts(folder / "dropped", key, "dropped") as aside:
            for number, fate in enumerate(fates):
                documents = work.documents(number)
                keep = fate == KEPT
                if max_documents is not None:
                    beyond = keep & (np.cumsum(keep) > max_documents - merged.documents)
                    merged.drops["beyond_max_documents"] += int(beyond.sum())
                    keep &= ~beyond
                for code, reason in _REASONS.items():
                    merged.drops[reason] += int((fate == code).sum())
                if keep_dropped:
                    aside.add(work.dropped(number))
                    aside.add(_duplicates_aside(documents, fate))
                chosen = names.with_aliases(_rows(documents, keep))
                parts.add(chosen.drop_columns(_HELPERS))
                merged.add(chosen)
                if progress:
                    progress(number + 1)
            parts.close()
            aside.close()
    merged.parts = parts.about
    merged.drops = +merged.drops
    return merged


def _fates(work: Work, shards: int, threshold: float | None) -> list[NDArray[np.uint8]]:
    """For each shard, what becomes of its documents: `KEPT`, `DUPLICATE` or `NEAR_DUPLICATE`."""
    checksums: list[NDArray[np.uint64]] = []
    sketched: list[NDArray[np.bool_]] = []
    path = work.folder / "sketches"
    with path.open("wb") as file:
        for number in range(shards):
            documents = work.documents(number)
            checksums.append(documents["checksum"].to_numpy())
            rows = documents["sketch"].to_pylist()
            sketched.append(np.array([row is not None for row in rows], bool))
            if threshold is not None:
                empty = bytes(4 * PERMUTATIONS)
                file.write(b"".join(row or empty for row in rows))
    counts = [len(some) for some in checksums]
    total = sum(counts)
    if not total:
        return [np.zeros(0, np.uint8) for _ in counts]
    matrix = None
    if threshold is not None:
        matrix = np.memmap(path, np.uint32, "r", shape=(total, PERMUTATIONS))
    found = find_duplicates(np.concatenate(checksums), np.concatenate(sketched), matrix, threshold)
    del matrix
    path.unlink()
    return np.split(found, np.cumsum(counts)[:-1])


def _rows(documents: Any, keep: NDArray[np.bool_]) -> Any:
    """The documents to keep, as slices: `Table.filter` copies them, and loads Arrow's compute functions for 40 ms."""
    import pyarrow as pa

    edges = np.flatnonzero(np.diff(keep, prepend=False, append=False)).reshape(-1, 2)  # first, and first behind
    return pa.concat_tables([documents.slice(0, 0), *(documents.slice(a, b - a) for a, b in edges.tolist())])


def _duplicates_aside(documents: Any, fate: NDArray[np.uint8]) -> Any:
    """The duplicates among a shard's documents, as rows to be kept aside."""
    import pyarrow as pa

    rows = documents.filter(pa.array(fate != KEPT))
    reasons = pa.array([_REASONS[code] for code in fate[fate != KEPT].tolist()], pa.string())
    return pa.table({name: reasons if name == "reason" else rows[name] for name in table_of_dropped([]).schema.names})


class _Marks:
    """The templates that mark disambiguation pages, by language, gathered from the facts of shards."""

    def __init__(self) -> None:
        self._names: set[tuple[str, str]] = set()
        self._redirects: list[tuple[str, str, str]] = []

    def add(self, facts: dict[str, Any]) -> None:
        """Take in what a shard's template pages say."""
        self._names.update((lang, name) for lang, name in facts["marks"])
        self._redirects += [(lang, name, target) for lang, name, target in facts["template_redirects"]]

    def ready(self) -> None:
        """All shards have been added."""
        self._names |= {(lang, name) for lang, name, target in self._redirects if (lang, target) in self._names}
        self._redirects = []

    def among(self, lang: str, templates: Sequence[str]) -> bool:
        """Whether one of these templates is a mark."""
        return any((lang, name) in self._names for name in templates)


class _Names:
    """Which titles lead to which article, in a database on the disk: a large wiki has ten million redirects."""

    def __init__(self, folder: Path, variant: str | None, *, in_memory: bool) -> None:
        self.path = folder / "names.sqlite"
        self.path.unlink(missing_ok=True)
        self.database = sqlite3.connect(":memory:" if in_memory else self.path)
        self.database.executescript(
            """PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;
            CREATE TABLE redirects (lang, title, target); CREATE TABLE articles (lang, title);"""
        )
        self.variant = variant
        self.any = False

    def __enter__(self) -> "_Names":
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()
        self.path.unlink(missing_ok=True)

    def add(self, redirects: Sequence[Sequence[str]], documents: Any, keep: NDArray[np.bool_]) -> None:
        """Take in a shard's redirects (language, title, target) and the titles of its documents."""
        kept = _rows(documents.select(["lang", "page"]), keep)
        self.any = self.any or bool(redirects)
        self.database.executemany("INSERT INTO redirects VALUES (?, ?, ?)", redirects)
        rows = zip(kept["lang"].to_pylist(), map(capital, kept["page"].to_pylist()), strict=True)
        self.database.executemany("INSERT INTO articles VALUES (?, ?)", rows)

    def ready(self) -> None:
        """Everything has been added; the questions come."""
        self.database.executescript(
            "CREATE INDEX by_target ON redirects (lang, target); CREATE INDEX by_title ON articles (lang, title);"
        )

    def with_aliases(self, documents: Any) -> Any:
        """The documents with the titles of the redirects that lead to them."""
        import pyarrow as pa

        if not self.any:
            return documents
        columns = (documents[name].to_pylist() for name in ("lang", "page", "title", "aliases"))
        aliases = [list(self._names(*row)) for row in zip(*columns, strict=True)]
        index = documents.schema.get_field_index("aliases")
        return documents.set_column(index, "aliases", pa.array(aliases, pa.list_(pa.string())))

    @cached_property
    def _convert(self) -> Callable[[str], str] | None:
        """What turns titles into the script of the corpus, which only wikis in Chinese have need of."""
        from wikigpt.corpus.wikitext.variants import converter

        return converter(self.variant) if self.variant else None

    def _names(self, lang: str, page: str, title: str, own: Iterable[str]) -> Iterator[str]:
        """All names of an article but its title; Chinese ones come in the script of the corpus, too.

        Who looks for 法兰西 shall find what 法蘭西 leads to.
        """
        names = dict.fromkeys(own)
        convert = self._convert if lang == "zh" else None
        for name in self._leading_to(lang, capital(page)):
            if convert:
                names[convert(name)] = None
            names[name] = None
        return (name for name in names if name not in (title, page) or name in own)

    def _leading_to(self, lang: str, title: str) -> Iterator[str]:
        """Titles of redirects to an article, through chains of redirects that are no articles themselves."""
        rows = self.database.execute(
            f"""WITH RECURSIVE leading(title, hops, number) AS (
                SELECT title, 1, rowid FROM redirects WHERE lang = :lang AND target = :title
                UNION
                SELECT r.title, l.hops + 1, r.rowid FROM redirects r JOIN leading l
                ON r.lang = :lang AND r.target = l.title AND l.hops < {_HOPS}
                WHERE NOT EXISTS (SELECT 1 FROM articles a WHERE a.lang = :lang AND a.title = l.title)
            ) SELECT title FROM leading ORDER BY number""",
            {"lang": lang, "title": title},
        )
        return (name for (name,) in rows)
