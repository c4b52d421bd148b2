"""Inputs cut into shards: pieces of whole pages, each of which can be cleaned anywhere, in any order.

Where the cuts lie depends on the content alone, so that the result does not depend on who cleans what, and
a shard that was finished before an interruption is known by its checksum.
"""

import bz2
import io
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from wikigpt.corpus.dump import TOO_LARGE, Damage, Page, Site, check_end, read_pages, read_site
from wikigpt.corpus.languages import LANGUAGE_CODES
from wikigpt.corpus.rows import json_page, row_page
from wikigpt.corpus.source import BLOCK, BZ2_STREAM, Source
from wikigpt.errors import UserError

SHARD_BYTES = 8_000_000  # of content: about a third of a second's work
BZ2_SHARD_BYTES = 2_000_000  # wiki XML shrinks to about a quarter
MAX_PAGE_BYTES = 40_000_000  # of XML; of a longer page only the title is kept
MAX_HEAD = 16_000_000  # bytes before the first page
MAX_LINE = 200_000_000  # bytes of a line of JSON
PARQUET_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Shard:
    """Some consecutive pages of one source: their bytes, or where these lie, and what is needed to read them."""

    source: int  # number of the source
    site: Site
    kind: str  # "xml", "xml.bz2", "jsonl" or "rows" (an Arrow stream)
    data: bytes
    position: int = 0  # bytes of the source that were read when this was cut
    start: int = 0  # where in the source's content the data of XML begins, in bytes
    line: int = 1  # the same as a line number, of JSON lines only
    prefix: bytes = b""  # of the XML elements' names
    last: bool = False  # the source ends with it
    number: int = 0  # among the shards of all sources
    path: Path | None = None  # of a file that holds the data as they are, from byte `start` on
    size: int = 0  # of data that are left there: no other process needs to be sent them

    def with_data(self) -> "Shard":
        """The same with the data that lie in a file. Raises `Damage` if that has become shorter."""
        if self.path is None:
            return self
        with self.path.open("rb") as file:
            file.seek(self.start)
            data = file.read(self.size)
        if len(data) < self.size:
            raise Damage("the file has changed while it was read", source=self.source)
        return replace(self, data=data, path=None, size=0)


def read_shards(number: int, source: Source, lang: str | None) -> Iterator[Shard]:
    """Cut a source into shards. Raises `Damage` where it cannot be read on, after what could be."""
    if source.kind == "parquet":
        yield from _parquet_shards(number, source, lang)
    elif source.kind == "xml":
        yield from (_multistream_shards if source.multistream else _xml_shards)(number, source, lang)
    else:
        yield from (_text_shards if source.kind == "text" else _line_shards)(number, source, lang)


def pages_of(shard: Shard) -> Iterator[Page]:
    """The pages of a shard. Raises `Damage` where one cannot be read."""
    shard = shard.with_data()
    if shard.kind == "xml":
        yield from read_pages(shard.data, shard.site, shard.prefix)
    elif shard.kind == "xml.bz2":
        yield from _unpacked_pages(shard)
    elif shard.kind == "rows":
        import pyarrow as pa

        with pa.ipc.open_stream(shard.data) as rows:
            yield from (row_page(row) for batch in rows for row in batch.to_pylist())
    else:
        for number, line in enumerate(shard.data.split(b"\n"), 1):
            if line.strip():
                yield json_page(line, number, default_id=shard.line + number - 1)


# MediaWiki XML


def _xml_shards(number: int, source: Source, lang: str | None) -> Iterator[Shard]:
    blocks = source.blocks()
    head, rest, prefix = _split_head(blocks)
    site = _site(source, head, lang, whole=not rest)
    if not rest:
        return
    start = len(head)
    try:
        for piece in _cut_pages(blocks, rest, prefix, copied=not source.plain):
            shard = Shard(number, site, "xml", piece.data, source.bytes_read, start, prefix=prefix)
            yield shard if piece.data else replace(shard, path=source.path.absolute(), size=piece.size)
            start += piece.size
    except Damage as damage:
        raise Damage(damage.problem, damage.line, start=start) from None


def _split_head(blocks: Iterator[bytes]) -> tuple[bytes, bytes, bytes]:
    """What stands before the first page; what has been read behind it; the prefix of the elements' names."""
    buffer = bytearray()
    for block in blocks:
        buffer += block
        prefix = _prefix(buffer)
        start = buffer.find(b"<" + prefix + b"page>")
        if start >= 0:
            return bytes(buffer[:start]), bytes(buffer[start:]), prefix
        if len(buffer) > MAX_HEAD:
            raise Damage(f"the first {MAX_HEAD:,} bytes hold no page")
    return bytes(buffer), b"", b""


def _prefix(head: bytes | bytearray) -> bytes:
    match = re.search(rb"<([\w.-]{1,40}:)?mediawiki[\s>]", head[:BLOCK])
    return match.group(1) or b"" if match else b""


def _site(source: Source, head: bytes, lang: str | None, *, whole: bool = False) -> Site:
    try:
        site = read_site(head, lang, whole=whole)
    except UserError as error:
        raise UserError(f"{source.name}: {error}") from None
    site.lang = site.lang or lang_from_name(source.path)
    return site


@dataclass(slots=True)
class _Piece:
    data: bytes  # none if they need not be copied
    size: int  # bytes that it takes in the source


def _cut_pages(
    blocks: Iterator[bytes], start: bytes, prefix: bytes, *, last: bool = True, copied: bool = True
) -> Iterator[_Piece]:
    """Cut XML that begins with a page into pieces of whole pages; with `last`, the dump's end must follow them.

    Raises `Damage` if the blocks do, or if the end is missing; what was whole before has then been yielded.
    """
    opening, closing = b"<" + prefix + b"page>", b"</" + prefix + b"page>"
    buffer = bytearray(start)
    for state in _growing(buffer, blocks):
        while len(buffer) >= SHARD_BYTES or state != "more":
            # The last page that ends within the wanted size, or else the first one behind it.
            end = buffer.rfind(closing, 0, SHARD_BYTES)
            end = buffer.find(closing, SHARD_BYTES - len(closing)) if end < 0 else end
            if end < 0:
                break
            end += len(closing)
            yield _Piece(bytes(memoryview(buffer)[:end]) if copied else b"", end)
            del buffer[:end]
        if len(buffer) > MAX_PAGE_BYTES:
            text = buffer.find(b"<" + prefix + b"revision", buffer.find(opening))
            stub = bytes(buffer[: max(text, 0)]) + TOO_LARGE + closing
            skipped, rest = _skip_page(blocks, bytes(buffer[-len(closing) :]), closing)
            yield _Piece(stub, len(buffer) + skipped)
            buffer[:] = rest
    if last:
        check_end(bytes(buffer), prefix)
    elif buffer.strip():
        raise Damage("a page does not end within its bz2 stream")


def _growing(buffer: bytearray, blocks: Iterator[bytes]) -> Iterator[Literal["more", "end", "damage"]]:
    """Append block after block to `buffer`, and at last nothing; then raise the `Damage` that ended them, if any."""
    damage: Damage | None = None
    try:
        for block in blocks:
            buffer += block
            yield "more"
    except Damage as stop:
        damage = stop
    yield "damage" if damage else "end"
    if damage:
        raise damage


def _skip_page(blocks: Iterator[bytes], end: bytes, closing: bytes) -> tuple[int, bytes]:
    """Pass over the rest of a page, of which `end` was read; return its size, and what has been read behind it."""
    size = -len(end)
    for block in blocks:
        end += block
        found = end.find(closing)
        if found >= 0:
            found += len(closing)
            return size + found, end[found:]
        size += len(end) - len(closing)
        end = end[-len(closing) :]
    return size, b""


def line_before(path: Path, start: int) -> int:
    """How many line ends stand before byte `start` of a file's content."""
    lines = 0
    for block in Source(path).blocks():
        lines += block.count(b"\n", 0, start)
        start -= len(block)
        if start <= 0:
            break
    return lines


def _multistream_shards(number: int, source: Source, lang: str | None) -> Iterator[Shard]:
    """Shards of whole bz2 streams, still compressed: to decompress is the greater part of the reading."""
    streams = source.streams()
    head = bz2.decompress(next(streams))
    prefix = _prefix(head)
    site = _site(source, head, lang)
    held: list[bytes] = []
    size = 0
    for stream in streams:
        if size >= BZ2_SHARD_BYTES:
            yield Shard(number, site, "xml.bz2", b"".join(held), source.bytes_read, prefix=prefix)
            held, size = [], 0
        held.append(stream)
        size += len(stream)
    yield Shard(number, site, "xml.bz2", b"".join(held), source.bytes_read, prefix=prefix, last=True)


def _unpacked_pages(shard: Shard) -> Iterator[Page]:
    count = 0
    try:
        for piece in _cut_pages(_unpacked(shard.data), b"", shard.prefix, last=shard.last):
            for page in read_pages(piece.data, shard.site, shard.prefix):
                yield page
                count += 1
    except Damage as damage:
        raise Damage(damage.problem, None, count) from None


def _unpacked(data: bytes) -> Iterator[bytes]:
    """The content of bz2 streams. (`bz2.open` takes a stream that is damaged at its beginning for the end.)"""
    while data:
        unpacker = bz2.BZ2Decompressor()
        try:
            yield unpacker.decompress(data, BLOCK)
            while not unpacker.eof:
                if unpacker.needs_input:
                    raise Damage("the file is truncated: it ends too early")
                yield unpacker.decompress(b"", BLOCK)
        except OSError as error:
            raise Damage(f"the file is damaged ({error})") from None
        data = unpacker.unused_data


def single_pages(shard: Shard) -> Iterator[Shard]:
    """Each page of a shard as a shard of its own, also those that cannot be read (but of bz2 only what unpacks)."""
    shard = shard.with_data()
    if shard.kind == "jsonl":
        for number, row in enumerate(shard.data.split(b"\n"), shard.line):
            if row.strip():
                yield replace(shard, data=row, line=number)
    elif shard.kind == "rows":
        import pyarrow as pa

        table = pa.ipc.open_stream(shard.data).read_all()
        for number in range(table.num_rows):
            yield replace(shard, data=_stream_of(table.slice(number, 1)))
    else:
        closing = b"</" + shard.prefix + b"page>"
        for content in [shard.data] if shard.kind == "xml" else _salvaged_streams(shard.data):
            for page in content.split(closing)[:-1]:
                yield replace(shard, kind="xml", data=page + closing)


def halves(shard: Shard) -> tuple[Shard, Shard] | None:
    """A shard cut in two, or None if it holds only one page."""
    pages = list(single_pages(shard))
    if len(pages) < 2:
        return None
    middle = len(pages) // 2
    first, second = (_together(some) for some in (pages[:middle], pages[middle:]))
    return replace(first, last=False), second


def _together(pages: list[Shard]) -> Shard:
    """Shards of one page each as one shard."""
    if pages[0].kind == "rows":
        import pyarrow as pa

        data = _stream_of(pa.concat_tables([pa.ipc.open_stream(page.data).read_all() for page in pages]))
    else:
        data = (b"\n" if pages[0].kind == "jsonl" else b"").join(page.data for page in pages)
    return replace(pages[0], data=data)


def _salvaged_streams(data: bytes) -> Iterator[bytes]:
    """The content of each bz2 stream, as far as it can be unpacked."""
    borders = [match.start() for match in BZ2_STREAM.finditer(data)]
    for start, end in pairwise([*borders, len(data)]):
        blocks: list[bytes] = []
        with suppress(Damage):
            blocks.extend(_unpacked(data[start:end]))
        yield b"".join(blocks)


# What others extracted


def _line_shards(number: int, source: Source, lang: str | None) -> Iterator[Shard]:
    """Cut JSON lines at line ends."""
    site = Site(lang=lang or lang_from_name(source.path))
    buffer = bytearray()
    line = 1
    for state in _growing(buffer, source.blocks()):
        while len(buffer) >= SHARD_BYTES or (state != "more" and buffer):
            end = buffer.rfind(b"\n", 0, SHARD_BYTES) + 1 or buffer.find(b"\n", SHARD_BYTES - 1) + 1
            if not end and state == "end":
                end = len(buffer)  # the last line needs no line end
            if not end:
                break
            yield Shard(number, site, "jsonl", bytes(buffer[:end]), source.bytes_read, line=line)
            line += buffer.count(b"\n", 0, end)
            del buffer[:end]
        if len(buffer) > MAX_LINE:
            raise Damage(f"this line is longer than {MAX_LINE:,} bytes", line)


def _text_shards(number: int, source: Source, lang: str | None) -> Iterator[Shard]:
    """A text file is one article; its name is the title."""
    text = b"".join(source.blocks()).decode("utf-8", "replace")
    title = source.path.name.partition(".")[0].replace("_", " ")
    row = {"id": str(number + 1), "title": title, "text": text}
    site = Site(lang=lang or lang_from_name(source.path))
    data = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")
    yield Shard(number, site, "jsonl", data, source.bytes_read)


def _parquet_shards(number: int, source: Source, lang: str | None) -> Iterator[Shard]:
    """Rows of a parquet file as Arrow streams."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    site = Site(lang=lang or lang_from_name(source.path))
    try:
        file = pq.ParquetFile(source.path)
        missing = {"title", "text"} - set(file.schema_arrow.names)
        if missing:
            raise UserError(
                f"{source.path} has no column {' and no column '.join(sorted(missing))}; a parquet file needs title "
                "and text, as in the wikimedia/wikipedia data set."
            )
        wanted = [n for n in ("id", "title", "text", "url", "lang", "revision") if n in file.schema_arrow.names]
        rows = 0
        for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=wanted):
            table = pa.Table.from_batches([batch])
            if "id" not in wanted:
                table = table.append_column("id", pa.array(str(rows + i + 1) for i in range(batch.num_rows)))
            rows += batch.num_rows
            position = source.size * rows // max(1, file.metadata.num_rows)
            yield Shard(number, site, "rows", _stream_of(table), position)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{source.path} is damaged or no parquet file ({reason}); fetch the file again.") from None
    for _ in source.streams():  # for its checksum
        pass


def _stream_of(table: Any) -> bytes:
    import pyarrow as pa

    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


# Languages


def language_of(page: Page, site: Site, lang: str | None) -> str:
    """The language of a row: the one that was given, the row's own, its URL's, or what the file's name says."""
    label = (urlsplit(page.url).hostname or "").partition(".")[0]
    code = lang or page.lang or (label if label in LANGUAGE_CODES else "") or site.lang
    return "en" if code == "simple" else code


_LANG_IN_NAME = re.compile(r"(?:^|[^a-z])([a-z]{2,12}(?:_[a-z_]+)?)wiki(?:$|[^a-z])|^(?:\d{8}\.)?([a-z]{2,3})(?:$|\.)")


def lang_from_name(path: Path) -> str:
    """enwiki-latest.xml -> en, 20231101.zh/train.parquet -> zh; "und" (undetermined) if the names say nothing."""
    for name in (path.name, path.parent.name):
        match = _LANG_IN_NAME.search(name)
        code = (match.group(1) or match.group(2)).replace("_", "-") if match else ""
        if code in LANGUAGE_CODES:
            return "en" if code == "simple" else code
    return "und"
