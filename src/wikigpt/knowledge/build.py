"""Writing the index: one SQLite file that holds the articles' passages, the names they go by, and a word index.

The word index is an FTS5 table without a copy of the text (`content=''`) and without positions (`detail=none`):
on 35 MB of Chinese it takes 0.6 of the text's size, where one with positions takes 2.0. What BM25 would need beyond
that is reckoned from the passages themselves for the few that are candidates (see `index.Index.search`).
"""

import re
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from wikigpt.artifacts import atomic_folder, check_output_folder, sha256_file, write_json
from wikigpt.corpus.document import Document
from wikigpt.errors import UserError
from wikigpt.knowledge.passages import cut
from wikigpt.knowledge.settings import KnowledgeSettings
from wikigpt.knowledge.text import name_key, segmented

FORMAT = 1
"""Number of the layout; an index of another one is refused."""

FILE, MANIFEST = "index.sqlite", "index.json"

# How sure a name is to mean the article; smaller is surer.
TITLE, REDIRECT, SHORTENED, OTHER_LANGUAGE, ACRONYM = range(5)

MAX_NAME_UNITS = 40

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value);
CREATE TABLE articles (
    article INTEGER PRIMARY KEY, id TEXT, revision TEXT, url TEXT, lang TEXT, title TEXT, aliases TEXT,
    first_passage INTEGER, last_passage INTEGER);
CREATE TABLE passages (passage INTEGER PRIMARY KEY, article INTEGER, kind TEXT, section TEXT, text TEXT);
CREATE TABLE names (name TEXT, article INTEGER, kind INTEGER, PRIMARY KEY (name, article)) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(
    text, content='', detail=none, columnsize=0, tokenize='porter unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE titles USING fts5(
    text, content='', detail=none, columnsize=0, tokenize='porter unicode61 remove_diacritics 2');
"""
# One sort at the end instead of a merge after every megabyte: twice as fast, and the smallest index.
_BULK = [("hashsize", 1 << 26), ("automerge", 0)]

_IN_BRACKETS = re.compile(r"\s*[(（][^()（）]*[)）]\s*$")

Progress = Callable[[int, int, str], None]


def build_index(
    corpus: Path, output: Path, *, settings: KnowledgeSettings | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Index the articles of the folder `corpus` into the folder `output`; return its manifest.

    `progress(done, total, message)` is called with the number of articles. The folder is replaced in one step, so
    whoever reads the old index goes on reading it. Raises `UserError` where the corpus holds no article, or `output`
    holds something else.
    """
    from wikigpt.corpus import corpus_manifest, read_corpus

    settings = settings or KnowledgeSettings()
    source = corpus_manifest(corpus)
    check_output_folder(output, MANIFEST)
    with atomic_folder(output) as folder:
        counts = index_documents(
            read_corpus(corpus),
            folder / FILE,
            settings=settings,
            progress=progress,
            total=source.get("documents", 0),
        )
        if not counts["articles"]:
            raise UserError(f"the corpus {corpus} holds no article, so there is nothing to index.")
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


def index_documents(
    documents: Iterable[Document],
    path: Path,
    *,
    settings: KnowledgeSettings | None = None,
    progress: Progress | None = None,
    total: int = 0,
) -> dict[str, Any]:
    """Write `documents` (about `total`) into a new SQLite file at `path`.

    Returns the numbers of articles, passages and names, the bytes of text, and the units of the longest name.
    """
    settings = settings or KnowledgeSettings()
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path)
    try:
        # The file is worthless until it is whole, so nothing is won by a journal.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(_SCHEMA)
        for table in ("words", "titles"):
            for option, value in _BULK:
                database.execute(f"INSERT INTO {table}({table}, rank) VALUES (?, ?)", (option, value))
        counts = {"articles": 0, "passages": 0, "names": 0, "text_bytes": 0, "longest_name": 0}
        for document in documents:
            _add(database, document, counts, settings.passage_bytes)
            if progress and counts["articles"] % 100 == 0:
                progress(counts["articles"], max(total, counts["articles"]), "articles")
        for table in ("words", "titles"):
            database.execute(f"INSERT INTO {table}({table}) VALUES ('optimize')")
        database.executemany("INSERT INTO meta VALUES (?, ?)", [("format", FORMAT), *counts.items()])
        database.commit()
    finally:
        database.close()
    if progress:
        progress(counts["articles"], counts["articles"], "articles")
    return counts


def _add(database: sqlite3.Connection, document: Document, counts: dict[str, int], size: int) -> None:
    """Store one article, and add what it brings to `counts`."""
    counts["articles"] += 1
    article, first = counts["articles"], counts["passages"] + 1
    for passage, piece in enumerate(cut(document, size), start=first):
        counts["passages"] = passage
        counts["text_bytes"] += len(piece.text.encode())
        database.execute(
            "INSERT INTO passages VALUES (?, ?, ?, ?, ?)",
            (passage, article, piece.kind, piece.section, piece.text),
        )
        database.execute(
            "INSERT INTO words(rowid, text) VALUES (?, ?)",
            (passage, segmented(f"{piece.section}\n{piece.text}")),
        )
    d = document
    database.execute(
        "INSERT INTO articles VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (article, d.id, d.revision, d.url, d.lang, d.title, "\n".join(d.aliases), first, counts["passages"]),
    )
    database.execute(
        "INSERT INTO titles(rowid, text) VALUES (?, ?)", (article, segmented("\n".join([d.title, *d.aliases])))
    )
    for name, kind in _names(document).items():
        counts["names"] += 1
        counts["longest_name"] = max(counts["longest_name"], name.count(" ") + 1)
        database.execute("INSERT INTO names VALUES (?, ?, ?)", (name, article, kind))


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
