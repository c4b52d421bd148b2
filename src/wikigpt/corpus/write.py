"""The corpus folder: parquet parts, encrypted if there is a key, and `corpus.json`."""

import io
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate, chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wikigpt.artifacts import read_json, sha256_file
from wikigpt.corpus.document import Document
from wikigpt.errors import UserError

if TYPE_CHECKING:
    from wikigpt.encryption import Key

MANIFEST = "corpus.json"
COLUMNS = ("id", "revision", "url", "title", "text", "lang", "categories", "facts", "aliases", "langlinks", "split")
DROPPED_COLUMNS = ("id", "url", "title", "lang", "reason", "text")
PART_ROWS = 50_000
PART_BYTES = 32_000_000  # of Arrow data, before compression
GROUP_ROWS = 2_000
_REPEATED = ["lang", "split", "reason"]
KEY_VARIABLE = "WIKIGPT_KEY"  # names the key file of encrypted corpora


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


def table(documents: Sequence[Document], texts: Sequence[bytes]) -> Any:
    """The documents as an Arrow table; `texts` are their texts as UTF-8."""
    import pyarrow as pa

    columns: dict[str, Any] = {
        name: [getattr(document, name) for document in documents] for name in COLUMNS if name != "text"
    }
    # From the bytes as they are: Arrow would encode each text anew and check it, in twice the time.
    offsets = pa.array(accumulate(map(len, texts), initial=0), pa.int32())
    columns["text"] = pa.StringArray.from_buffers(len(texts), offsets.buffers()[1], pa.py_buffer(b"".join(texts)))
    for name in ("facts", "langlinks"):
        columns[name] = _pairs(columns[name], schema().field(name).type)
    return pa.table(columns, schema=schema())


def _pairs(rows: Sequence[Sequence[tuple[str, str]]], kind: Any) -> Any:
    """Rows of pairs as an Arrow array of lists of structures, by columns: sooner than by dictionaries."""
    import pyarrow as pa

    offsets = pa.array(accumulate(map(len, rows), initial=0), pa.int32())
    flat = list(chain.from_iterable(rows))
    values = [pa.array([pair[side] for pair in flat], pa.string()) for side in (0, 1)]
    structures = pa.StructArray.from_arrays(values, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(offsets, structures, type=kind)


def table_of_dropped(rows: Sequence[tuple[str, ...]]) -> Any:
    """Rows in the order of `DROPPED_COLUMNS` as an Arrow table."""
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) or [()] * len(DROPPED_COLUMNS)
    arrays = [pa.array(column, pa.string()) for column in columns]
    return pa.table(arrays, names=list(DROPPED_COLUMNS))


def write_arrow(content: Any, path: Path, key: "Key | None" = None) -> None:
    """Write a table as an Arrow file, encrypted if there is a key; nothing is left of one that cannot be written."""
    import pyarrow as pa

    try:
        # Encryption needs all bytes at once; else none of them is copied on the way to the file.
        with io.BytesIO() if key else path.open("wb", buffering=0) as sink:
            with pa.ipc.new_file(sink, content.schema) as writer:
                writer.write_table(content)
            if key and isinstance(sink, io.BytesIO):
                path.write_bytes(key.encrypt(sink.getvalue()))
    except OSError as error:
        path.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # a full disk does not say for what
        raise


def read_arrow(path: Path, key: "Key | None" = None) -> Any:
    """The table in an Arrow file; of one that is not encrypted, what is not used is not read."""
    import pyarrow as pa

    with pa.BufferReader(key.decrypt(path.read_bytes(), path)) if key else pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


class Parts:
    """Writes tables in their order into parts `{name}-00000.parquet` of limited size.

    With `writers`, parts are written by so many threads while the next ones are put together.
    """

    def __init__(self, folder: Path, key: "Key | None", name: str = "part", *, writers: int = 0) -> None:
        self.folder, self.key, self.name, self.writers = folder, key, name, writers
        self.about: list[dict[str, Any]] = []  # what the manifest says of each part
        self._held: list[Any] = []
        self._rows = self._size = self._count = 0
        self._pool = ThreadPoolExecutor(writers) if writers else None
        self._writing: deque[Future[dict[str, Any]]] = deque()

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is written any more, also after a failure: who cleans up then shall not meet a late part."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def add(self, content: Any) -> None:
        """Append a table's rows."""
        while content.num_rows:
            some = content.slice(0, min(GROUP_ROWS, PART_ROWS - self._rows))
            self._held.append(some)
            self._rows += some.num_rows
            self._size += some.nbytes
            if self._rows >= PART_ROWS or self._size >= PART_BYTES:
                self._write()
            content = content.slice(some.num_rows)

    def close(self) -> None:
        """Finish the part that has been begun, and wait for those that are being written."""
        if self._held:
            self._write()
        self.about += [part.result() for part in self._writing]

    def _write(self) -> None:
        path = self.folder / f"{self.name}-{self._count:05d}{'.parquet.age' if self.key else '.parquet'}"
        tables, self._held = self._held, []
        self._rows, self._size, self._count = 0, 0, self._count + 1
        if self._pool is None:
            self.about.append(_write_part(path, tables, self.key))
            return
        self._writing.append(self._pool.submit(_write_part, path, tables, self.key))
        if len(self._writing) > self.writers:
            self.about.append(self._writing.popleft().result())


def _write_part(path: Path, tables: Sequence[Any], key: "Key | None") -> dict[str, Any]:
    """Write one part; return what the manifest says of it."""
    import pyarrow.parquet as pq

    path.parent.mkdir(exist_ok=True)
    open_part = io.BytesIO() if key else path.open("wb")
    with open_part as sink:
        # Only these repeat their values; to look for values that texts repeat takes a tenth of the time.
        with pq.ParquetWriter(sink, tables[0].schema, compression="zstd", use_dictionary=_REPEATED) as writer:
            for table in tables:  # each is a row group
                writer.write_table(table)
        if key and isinstance(sink, io.BytesIO):
            path.write_bytes(key.encrypt(sink.getvalue()))
    with path.open("rb") as written:  # now, while other threads have work, and not all parts at the end
        os.fsync(written.fileno())
    return {"file": path.name, "documents": sum(table.num_rows for table in tables), "sha256": sha256_file(path)}


def read_part(path: Path, columns: Sequence[str] | None = None, key: "Key | None" = None) -> Iterator[Document]:
    """The documents of one part; columns left out have their empty value."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = list(COLUMNS if columns is None else columns)
    source: Any = path
    if path.suffix == ".age":
        source = io.BytesIO((key or _key_from_environment(path)).decrypt(path.read_bytes()))
    try:
        with pq.ParquetFile(source) as file:
            for number in range(file.num_row_groups):
                yield from map(_document, file.read_row_group(number, columns=wanted).to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is damaged ({str(error).splitlines()[0]}); delete its folder and build the corpus again."
        ) from None


def _key_from_environment(path: Path) -> "Key":
    from wikigpt.encryption import load_key

    name = os.environ.get(KEY_VARIABLE)
    if not name:
        raise UserError(
            f"{path} is encrypted; set the environment variable {KEY_VARIABLE} to the path of its key file."
        )
    return load_key(Path(name))


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
    """The parts in order."""
    return sorted(Path(folder).glob("part-*.parquet*"))


def read_corpus(
    folder: Path | str, *, columns: Sequence[str] | None = None, key: "Key | None" = None
) -> Iterator[Document]:
    """Yield the documents of a corpus folder in their order, holding only some of them in memory.

    With `columns`, only these are read from the disk; the others have their empty value. An encrypted corpus
    is read with `key`, or with the key file that the environment variable WIKIGPT_KEY names.
    """
    folder = Path(folder)
    corpus_manifest(folder)
    unknown = set(columns or ()) - set(COLUMNS)
    if unknown:
        raise ValueError(f"no such column: {', '.join(sorted(unknown))}; there are {', '.join(COLUMNS)}")
    return (document for part in parts_of(folder) for document in read_part(part, columns, key))


def corpus_manifest(folder: Path | str) -> dict[str, Any]:
    """What `corpus.json` says: counts, drops by reason, settings, sources, licence."""
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"{folder} is not a corpus (it has no {MANIFEST}); make one with `wikigpt corpus DUMP -o {folder}`."
        )
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    return manifest
