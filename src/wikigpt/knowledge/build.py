"""Writing the index: one SQLite file that holds the articles' passages, the names they go by, and a word index.

The word index is an FTS5 table without a copy of the text (`content=''`) and without positions (`detail=none`):
on 35 MB of Chinese it takes 0.6 of the text's size, where one with positions takes 2.0. What BM25 would need beyond
that is reckoned from the passages themselves for the few that are candidates (see `index.Index.search`).
"""

import hashlib
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Any

from wikigpt.artifacts import atomic_folder, check_output_folder, read_json, sha256_file, write_json
from wikigpt.corpus.document import Document
from wikigpt.errors import UserError
from wikigpt.knowledge.passages import cut
from wikigpt.knowledge.settings import KnowledgeSettings
from wikigpt.knowledge.text import name_key, segmented, units

FORMAT = 2
"""Number of the layout; an index of another one is refused."""

FILE, MANIFEST = "index.sqlite", "index.json"

# How sure a name is to mean the article; smaller is surer.
TITLE, REDIRECT, SHORTENED, OTHER_LANGUAGE, ACRONYM = range(5)

MAX_NAME_UNITS = 40

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value);
CREATE TABLE articles (
    article INTEGER PRIMARY KEY, id TEXT, revision TEXT, url TEXT, lang TEXT, title TEXT, aliases TEXT,
    first_passage INTEGER, last_passage INTEGER, digest INTEGER);
CREATE INDEX ids ON articles (lang, id);
CREATE TABLE passages (passage INTEGER PRIMARY KEY, article INTEGER, kind TEXT, section TEXT, text TEXT);
CREATE TABLE names (name TEXT, article INTEGER, kind INTEGER, PRIMARY KEY (name, article)) WITHOUT ROWID;
CREATE TABLE spellings (word TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(
    text, content='', detail=none, columnsize=0, tokenize='porter unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE titles USING fts5(
    text, content='', detail=none, columnsize=0, tokenize='porter unicode61 remove_diacritics 2');
"""
# One sort at the end instead of a merge after every megabyte: twice as fast, and the smallest index.
_BULK = [("hashsize", 1 << 26), ("automerge", 0)]
_USUAL = [("hashsize", 1 << 26), ("automerge", 4)]
_MUCH = 0.1  # part of the articles that, once exchanged, makes that sort worth its time again

_IN_BRACKETS = re.compile(r"\s*[(（][^()（）]*[)）]\s*$")

Progress = Callable[[int, int, str], None]


def build_index(
    corpus: Path,
    output: Path,
    *,
    settings: KnowledgeSettings | None = None,
    update: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Index the articles of the folder `corpus` into the folder `output`; return its manifest.

    If `output` is an index already (whole, of this layout and these settings) only articles that came, changed or went
    are worked on, unless `update` is False. `progress(done, total, message)` is called with the number of articles. The
    folder is replaced in one step, so whoever reads the old index goes on reading it. An embedding model that the index
    was made with stays in use. Raises `UserError` where the corpus holds no article, or `output` holds something else.
    """
    from wikigpt.corpus import corpus_manifest, read_corpus

    settings = settings or KnowledgeSettings()
    source = corpus_manifest(corpus)
    check_output_folder(output, MANIFEST)
    update = update and _can_be_updated(output, settings)
    if update and not settings.embeddings:
        settings = KnowledgeSettings.model_validate(read_json(output / MANIFEST)["settings"])
    vectors = _vectors(settings)
    with atomic_folder(output) as folder:
        if update:
            shutil.copyfile(output / FILE, folder / FILE)
        counts = index_documents(
            read_corpus(corpus),
            folder / FILE,
            settings=settings,
            update=update,
            progress=progress,
            total=source.get("documents", 0),
        )
        if not counts["articles"]:
            raise UserError(f"the corpus {corpus} holds no article, so there is nothing to index.")
        vectors(folder / FILE, progress)
        manifest = {
            "format": "wikigpt-knowledge",
            "version": FORMAT,
            **counts,
            "bytes": (folder / FILE).stat().st_size,
            "sha256": {FILE: sha256_file(folder / FILE)},
            "settings": settings.model_dump(),
            "licence": source.get("licence"),
        }
        write_json(folder / MANIFEST, manifest)
    return manifest


def _can_be_updated(folder: Path, settings: KnowledgeSettings) -> bool:
    """Whether the folder holds a whole index of this layout and these settings."""
    if not (folder / MANIFEST).is_file() or not (folder / FILE).is_file():
        return False
    try:
        manifest = read_json(folder / MANIFEST)
    except UserError:
        return False
    return (
        manifest.get("version") == FORMAT
        and {**manifest.get("settings", {}), "embeddings": settings.embeddings} == settings.model_dump()
        and manifest.get("sha256") == {FILE: sha256_file(folder / FILE)}
    )


def _vectors(settings: KnowledgeSettings) -> Callable[[Path, Progress | None], object]:
    """What gives an index the vectors of its passages, once it is clear that the model can be read."""
    if not settings.embeddings:
        return lambda file, progress: None
    from wikigpt.knowledge.dense import Embedder, add_vectors

    embedder = Embedder(Path(settings.embeddings).expanduser().resolve())
    return lambda file, progress: add_vectors(file, embedder, progress)


def index_documents(
    documents: Iterable[Document],
    path: Path,
    *,
    settings: KnowledgeSettings | None = None,
    update: bool = False,
    progress: Progress | None = None,
    total: int = 0,
) -> dict[str, Any]:
    """Make the SQLite file at `path` an index of `documents` (about `total`): anew, or by changing what is there.

    Returns the numbers of articles, passages and names, the bytes of text, the units of the longest name, and how many
    articles were added (new or changed) and removed (changed or gone).
    """
    settings = settings or KnowledgeSettings()
    if not update:
        path.unlink(missing_ok=True)
    database = sqlite3.connect(path)
    try:
        # The file is worthless until it is whole, so nothing is won by a journal.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        if not update:
            database.executescript(_SCHEMA)
        writer = _Writer(database, settings)
        for number, document in enumerate(documents, 1):
            writer.take(document)
            if progress and number % 100 == 0:
                progress(number, max(total, number), "articles")
        counts = writer.finish()
        database.commit()
    finally:
        database.close()
    if progress:
        progress(counts["articles"], counts["articles"], "articles")
    return counts


class _Writer:
    """Brings an index in line with a stream of articles: keeps the known, adds the others, drops those not met."""

    def __init__(self, database: sqlite3.Connection, settings: KnowledgeSettings) -> None:
        self._database, self._size = database, settings.passage_bytes
        self._counts = {"articles": 0, "passages": 0, "names": 0, "text_bytes": 0, "longest_name": 0}
        self._counts |= {key: value for key, value in database.execute("SELECT * FROM meta") if key in self._counts}
        ((last_article,),) = database.execute("SELECT coalesce(max(article), 0) FROM articles")
        ((last_passage,),) = database.execute("SELECT coalesce(max(passage), 0) FROM passages")
        self._article, self._passage = int(last_article), int(last_passage)
        self._met = bytearray(self._article + 1)  # of the articles that were there: which are still
        self._added = 0
        for table in ("words", "titles"):
            for option, value in _USUAL if self._article else _BULK:
                database.execute(f"INSERT INTO {table}({table}, rank) VALUES (?, ?)", (option, value))

    def take(self, document: Document) -> None:
        """Keep the article if it is there as it is, else add it."""
        digest = _digest(document)
        if len(self._met) > 1:
            known = self._database.execute(
                "SELECT article FROM articles WHERE lang = ? AND id = ? AND digest = ?",
                (document.lang, document.id, digest),
            )
            for (article,) in known.fetchall():
                if article < len(self._met) and not self._met[article]:
                    self._met[article] = 1
                    return
        self._add(document, digest)

    def finish(self) -> dict[str, int]:
        """Drop the articles that were not met, and write down what there is now."""
        gone = [article for article in range(1, len(self._met)) if not self._met[article]]
        removed = sum(self._drop(article) for article in gone)
        self._drop_names(gone)
        if self._added + removed > _MUCH * self._counts["articles"]:
            for table in ("words", "titles"):
                self._database.execute(f"INSERT INTO {table}({table}) VALUES ('optimize')")
        self._database.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)", [("format", FORMAT), *self._counts.items()]
        )
        return self._counts | {"added": self._added, "removed": removed}

    def _add(self, document: Document, digest: int) -> None:
        d, counts = document, self._counts
        self._article += 1
        first = self._passage + 1
        for piece in cut(document, self._size):
            self._passage += 1
            counts["passages"] += 1
            counts["text_bytes"] += len(piece.text.encode())
            self._database.execute(
                "INSERT INTO passages VALUES (?, ?, ?, ?, ?)",
                (self._passage, self._article, piece.kind, piece.section, piece.text),
            )
            self._database.execute(
                "INSERT INTO words(rowid, text) VALUES (?, ?)", (self._passage, _words(piece.section, piece.text))
            )
        aliases = "\n".join(d.aliases)
        self._database.execute(
            "INSERT INTO articles VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self._article, d.id, d.revision, d.url, d.lang, d.title, aliases, first, self._passage, digest),
        )
        self._database.execute(
            "INSERT INTO titles(rowid, text) VALUES (?, ?)", (self._article, _words(d.title, aliases))
        )
        for name, kind in _names(document).items():
            counts["names"] += 1
            counts["longest_name"] = max(counts["longest_name"], name.count(" ") + 1)
            self._database.execute("INSERT INTO names VALUES (?, ?, ?)", (name, self._article, kind))
        spelled = {word for name in (d.title, *d.aliases) for word in units(name) if word.isalpha() and len(word) > 1}
        self._database.executemany("INSERT OR IGNORE INTO spellings VALUES (?)", ((word,) for word in spelled))
        counts["articles"] += 1
        self._added += 1

    def _drop(self, article: int) -> int:
        """Remove an article and its passages; 0 where an earlier update had done so, else 1."""
        row = self._database.execute(
            "SELECT title, aliases, first_passage, last_passage FROM articles WHERE article = ?", (article,)
        ).fetchone()
        if row is None:
            return 0
        title, aliases, first, last = row
        passages = self._database.execute(
            "SELECT passage, section, text FROM passages WHERE passage BETWEEN ? AND ?", (first, last)
        ).fetchall()
        for passage, section, text in passages:
            # The word index has no copy of the text, so it must be told what to forget.
            self._database.execute(
                "INSERT INTO words(words, rowid, text) VALUES ('delete', ?, ?)", (passage, _words(section, text))
            )
            self._counts["text_bytes"] -= len(text.encode())
        self._database.execute(
            "INSERT INTO titles(titles, rowid, text) VALUES ('delete', ?, ?)", (article, _words(title, aliases))
        )
        self._database.execute("DELETE FROM passages WHERE passage BETWEEN ? AND ?", (first, last))
        self._database.execute("DELETE FROM articles WHERE article = ?", (article,))
        self._counts["passages"] -= len(passages)
        self._counts["articles"] -= 1
        return 1

    def _drop_names(self, articles: list[int]) -> None:
        """Remove the names of articles: one look through all names, which are in the order of the alphabet."""
        if not articles:
            return
        self._database.execute("CREATE TEMP TABLE gone (article INTEGER PRIMARY KEY)")
        self._database.executemany("INSERT INTO gone VALUES (?)", ((article,) for article in articles))
        dropped = self._database.execute("DELETE FROM names WHERE article IN (SELECT article FROM gone)").rowcount
        self._counts["names"] -= dropped
        self._database.execute("DROP TABLE gone")


def _words(heading: str, text: str) -> str:
    return segmented(f"{heading}\n{text}")


def _digest(document: Document) -> int:
    """64 bits that differ where anything of the article does."""
    data = repr(astuple(document)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), signed=True)


def _names(document: Document) -> dict[str, int]:
    """Return the keys of all names of an article, with how sure each is."""
    titles = [(document.title, TITLE), *((alias, REDIRECT) for alias in document.aliases)]
    others = [(title, OTHER_LANGUAGE) for _, title in document.langlinks]
    # "Mercury (planet)" is called Mercury.
    shortened = [(_IN_BRACKETS.sub("", title), max(kind, SHORTENED)) for title, kind in titles + others]
    names: dict[str, int] = {}
    for name, kind in [*titles, *shortened, *others]:
        key = name_key(name)
        if key and key.count(" ") < MAX_NAME_UNITS:
            # US, IT and PER mean something only where the question writes them in capitals too.
            kind = ACRONYM if kind == REDIRECT and len(key) <= 4 and name.isascii() and name.isupper() else kind
            names[key] = min(kind, names.get(key, kind))
    return names
