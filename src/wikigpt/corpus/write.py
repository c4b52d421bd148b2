"""The corpus folder: parquet parts and `corpus.json`."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from wikigpt.artifacts import read_json
from wikigpt.corpus.document import Document
from wikigpt.errors import UserError

MANIFEST = "corpus.json"
COLUMNS = ("id", "revision", "url", "title", "text", "lang", "categories", "facts", "aliases", "langlinks", "split")
PART_ROWS = 50_000
PART_BYTES = 64_000_000  # of text, before compression
GROUP_ROWS = 2_000
GROUP_BYTES = 8_000_000


def schema() -> Any:
    """The parquet schema; the first columns are those of the wikimedia/wikipedia data set."""
    import pyarrow as pa

    string = pa.string()
    types = {
        "categories": pa.list_(string),
        "facts": pa.list_(pa.struct([("key", string), ("value", string)])),
        "aliases": pa.list_(string),
        "langlinks": pa.list_(pa.struct([("lang", string), ("title", string)])),
    }
    return pa.schema([(name, types.get(name, string)) for name in COLUMNS])


def table(documents: Sequence[Document]) -> Any:
    """The documents as an Arrow table."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [getattr(document, name) for document in documents] for name in COLUMNS}
    columns["facts"] = [[{"key": k, "value": v} for k, v in facts] for facts in columns["facts"]]
    columns["langlinks"] = [[{"lang": c, "title": t} for c, t in links] for links in columns["langlinks"]]
    return pa.table(columns, schema=schema())


def write_part(path: Path, groups: Iterable[Sequence[Document]]) -> None:
    """Write one part, each group of documents as a row group."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema(), compression="zstd") as writer:
        for group in groups:
            writer.write_table(table(group))


class Parts:
    """Writes documents in their order into parts of limited size, holding only a row group in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: list[int] = []  # documents in each part
        self._writer: Any = None
        self._size = 0
        self._group: list[Document] = []
        self._group_size = 0

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.parquet"

    def add(self, document: Document) -> None:
        """Append one document."""
        import pyarrow.parquet as pq

        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path(len(self.counts)), schema(), compression="zstd")
            self.counts.append(0)
            self._size = 0
        self._group.append(document)
        self._group_size += len(document.text.encode())
        self.counts[-1] += 1
        full = self.counts[-1] >= PART_ROWS or self._size + self._group_size >= PART_BYTES
        if full or len(self._group) >= GROUP_ROWS or self._group_size >= GROUP_BYTES:
            self._flush()
        if full:
            self.close()

    def _flush(self) -> None:
        if self._group:
            self._writer.write_table(table(self._group))
            self._size += self._group_size
            self._group, self._group_size = [], 0

    def close(self) -> None:
        """Finish the part that is being written."""
        if self._writer is not None:
            self._flush()
            self._writer.close()
            self._writer = None


def read_part(path: Path, columns: Sequence[str] | None = None) -> Iterator[Document]:
    """The documents of one part; columns left out have their empty value."""
    for group in read_groups(path, columns):
        yield from group


def read_groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[list[Document]]:
    """The same, a row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = list(COLUMNS if columns is None else columns)
    try:
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                yield [_document(row) for row in file.read_row_group(number, columns=wanted).to_pylist()]
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is damaged ({str(error).splitlines()[0]}); delete its folder and build the corpus again."
        ) from None


def _document(row: dict[str, Any]) -> Document:
    return Document(
        id=row.get("id") or "",
        revision=row.get("revision") or "",
        url=row.get("url") or "",
        title=row.get("title") or "",
        text=row.get("text") or "",
        lang=row.get("lang") or "",
        categories=tuple(row.get("categories") or ()),
        facts=tuple((fact["key"], fact["value"]) for fact in row.get("facts") or ()),
        aliases=tuple(row.get("aliases") or ()),
        langlinks=tuple((link["lang"], link["title"]) for link in row.get("langlinks") or ()),
        split=row.get("split") or "train",
    )


def parts_of(folder: Path) -> list[Path]:
    """The parquet parts in order."""
    return sorted(Path(folder).glob("part-*.parquet"))


def read_corpus(folder: Path | str, *, columns: Sequence[str] | None = None) -> Iterator[Document]:
    """Yield the documents of a corpus folder in their order, holding only some of them in memory.

    With `columns`, only these are read from the disk; the others have their empty value.
    """
    folder = Path(folder)
    corpus_manifest(folder)
    unknown = set(columns or ()) - set(COLUMNS)
    if unknown:
        raise ValueError(f"no such column: {', '.join(sorted(unknown))}; there are {', '.join(COLUMNS)}")
    return (document for part in parts_of(folder) for document in read_part(part, columns))


def corpus_manifest(folder: Path | str) -> dict[str, Any]:
    """What `corpus.json` says: counts, drops by reason, settings, sources, licence."""
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"{folder} is not a corpus (it has no {MANIFEST}); make one with `wikigpt corpus DUMP -o {folder}`."
        )
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    return manifest
