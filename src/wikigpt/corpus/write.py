"""The corpus folder: parquet parts and `corpus.json`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wikigpt.artifacts import read_json
from wikigpt.corpus.document import Document
from wikigpt.errors import UserError

MANIFEST = "corpus.json"
COLUMNS = ("id", "revision", "url", "title", "text", "lang", "categories", "facts", "aliases", "langlinks", "split")
PART_ROWS = 50_000
PART_BYTES = 64_000_000


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


def write_part(path: Path, documents: Sequence[Document]) -> None:
    """Write one part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for document in documents:
        for name in COLUMNS:
            columns[name].append(getattr(document, name))
    columns["facts"] = [[{"key": k, "value": v} for k, v in facts] for facts in columns["facts"]]
    columns["langlinks"] = [[{"lang": c, "title": t} for c, t in links] for links in columns["langlinks"]]
    table = pa.table(columns, schema=schema())
    pq.write_table(table, path, compression="zstd", row_group_size=5_000)


def read_part(path: Path, columns: Sequence[str] | None = None) -> Iterator[Document]:
    """The documents of one part; columns left out have their empty value."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = list(COLUMNS if columns is None else columns)
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000, columns=wanted):
                for row in batch.to_pylist():
                    yield Document(
                        id=row.get("id") or "",
                        revision=row.get("revision") or "",
                        url=row.get("url") or "",
                        title=row.get("title") or "",
                        text=row.get("text") or "",
                        lang=row.get("lang") or "",
                        categories=tuple(row.get("categories") or ()),
                        facts=tuple((f["key"], f["value"]) for f in row.get("facts") or ()),
                        aliases=tuple(row.get("aliases") or ()),
                        langlinks=tuple((link["lang"], link["title"]) for link in row.get("langlinks") or ()),
                        split=row.get("split") or "train",
                    )
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is damaged ({str(error).splitlines()[0]}); delete its folder and build the corpus again."
        ) from None


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
